"""Synchronized reverse arithmetic coding of images with a masked-diffusion model.

Coding runs the reverse (denoising) process. At each step the order and the schedule name the pixels
to be restored; one evaluation of the model on the pixels known so far gives a probability table for
each; a range coder codes the true values of all of them; they become known. The decoder mirrors
this, so both ends always see the same context.

Images of one size are processed together: one evaluation serves the pixels of all of them, and each
image has its own range coder.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.adaptation import Adaptation, MapInputs, near_inputs
from source_codec.errors import CorruptStream
from source_codec.experts import Kind, expert_of
from source_codec.features import (
    Features,
    extract,
    integral_tables,
    masked_images,
    masked_integrals,
    reveal,
)
from source_codec.integer_network import IntegerNetwork
from source_codec.logistic_mixture import (
    Intervals,
    Mixture,
    decode_values,
    intervals,
    mixture,
)
from source_codec.model import Model
from source_codec.order import is_small
from source_codec.process import Process, Step, steps_of
from source_codec.range_coder import RangeDecoders, RangeEncoders
from source_codec.window import REACH
from source_codec.workers import Workers

CHUNK = 1 << 11
"""Pixels of one image coded from one evaluation at most; larger steps are coded chunk by chunk
(all from the same known pixels). Part of the stream format."""
_LEAST_PART = 64  # pixels; to share fewer between threads takes longer than to evaluate them
LEAST_BITS_PER_VALUE = 2.0**-12
"""Less than any value costs: the others share 255/256 of 2^-12 at least."""
_READ_AHEAD_BITS = 128  # more than the range decoder holds beyond what it has used


@dataclass(frozen=True)
class Block:
    """Pixels of a step that are evaluated together: runs of pixels of one image each.

    Attributes:
        images: int32 (U,), the image of each run.
        starts: int32 (U + 1,): run u is rows ``starts[u]`` up to ``starts[u + 1]``.
        ys, xs: int32 (N,), the pixels.
    """

    images: NDArray[np.int32]
    starts: NDArray[np.int32]
    ys: NDArray[np.int32]
    xs: NDArray[np.int32]

    @classmethod
    def of_images(
        cls, first: int, count: int, ys: NDArray[np.int32], xs: NDArray[np.int32]
    ) -> Block:
        """The same pixels of ``count`` images."""
        images = np.arange(first, first + count, dtype=np.int32)
        starts = np.arange(count + 1, dtype=np.int32) * np.int32(len(ys))
        return cls(images, starts, np.tile(ys, count), np.tile(xs, count))

    def parts(self, count: int) -> list[Block]:
        """A block of a single image in so many about equal parts, or itself."""
        if len(self.images) > 1 or len(self.ys) < count * _LEAST_PART:
            return [self]
        image = int(self.images[0])
        halves = zip(np.array_split(self.ys, count), np.array_split(self.xs, count), strict=True)
        return [Block.of_images(image, 1, ys, xs) for ys, xs in halves]

    @classmethod
    def joined(cls, parts: list[Block]) -> Block:
        """A block of a single image from its :meth:`parts`."""
        ys, xs = (np.concatenate([getattr(p, axis) for p in parts]) for axis in ("ys", "xs"))
        return cls.of_images(int(parts[0].images[0]), 1, ys, xs)

    def where(self, height: int, width: int) -> NDArray[np.intp]:
        """Indices (N,) of the pixels into a stack of images of this size, (B H W, 3)."""
        rows = self.ys.astype(np.intp) + height * np.repeat(self.images, np.diff(self.starts))
        return rows * width + self.xs


def blocks_of(step: Step, images: int) -> Iterator[Block]:
    """The pixels of a step in all images, in blocks of at most ``CHUNK`` pixels."""
    n = len(step.ys)
    together = CHUNK // n
    for first in range(0, images, max(together, 1)):
        if together:
            yield Block.of_images(first, min(together, images - first), step.ys, step.xs)
            continue
        for start in range(0, n, CHUNK):
            span = slice(start, start + CHUNK)
            yield Block.of_images(first, 1, step.ys[span], step.xs[span])


@dataclass(frozen=True)
class Evaluation:
    """The model's view of a block of N pixels, before any of them is known.

    Attributes:
        block: what the rows are.
        neck: int16 (N, 3 * head width), of gray images (N, head width), from
            ``IntegerNetwork.trunk``.
        near: int16 (N, 36), the nearest pixels among the network's inputs (12 of gray images), or
            none where the model does not adapt.
        base: int32 (3, N), base prediction in 1/16 gray level.
        exponent: int32 (N,).
    """

    block: Block
    neck: NDArray[np.int16]
    near: NDArray[np.int16]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]

    @classmethod
    def joined(cls, parts: list[Evaluation]) -> Evaluation:
        """The evaluation of a block from those of its parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            Block.joined([part.block for part in parts]),
            np.concatenate([part.neck for part in parts]),
            np.concatenate([part.near for part in parts]),
            np.concatenate([part.base for part in parts], axis=1),
            np.concatenate([part.exponent for part in parts]),
        )


@dataclass(frozen=True)
class Prediction:
    """Distributions of one channel of a block.

    Attributes:
        mixture: the distributions.
        coded: int32 (N, c), true residuals of the channels before it.
        temperature: calibration of the step, in 1/16 octave.
        inputs: of the output layer, if it is adapted.
    """

    mixture: Mixture
    coded: NDArray[np.int32]
    temperature: int
    inputs: MapInputs | None


class Context:
    """A batch of images of one size, as far as they are known, and the model.

    Attributes:
        adaptation: what is learned from the image, where the process is adaptive; then the batch is
            a single large image.
        blocks: number of blocks in the steps that are done.
        rows_shown: how many rows the network sees as they are after the present step.
    """

    def __init__(
        self, model: Model, images: NDArray[np.uint8], gray: bool, adaptive: bool = False
    ) -> None:
        self.model = model
        self.images = images
        self.channels = 1 if gray else 3
        count, height, width, _ = images.shape
        self.known = np.zeros((height, width), dtype=np.uint8)
        self.adaptation: Adaptation | None = None
        if adaptive and not is_small(height, width):
            if count != 1:
                raise ValueError("large images are coded one by one when the model adapts to them")
            self.adaptation = Adaptation()
        self.blocks = self.rows_shown = 0
        self._masked = masked_images(count, height, width)
        self._integrals = integral_tables(count, height, width)

    def network(self, step: Step) -> IntegerNetwork:
        """The expert that serves a step."""
        return self.model.expert(step.density, step.kind)

    def show(self, step: Step, rows: int) -> None:
        """Lets the network see the step's pixels in the uppermost rows of the images.

        The rows that it looks at from other pixels of the step must not be among them.
        """
        if rows > self.rows_shown:
            first, stop = np.searchsorted(step.ys, (self.rows_shown, rows))
            reveal(self._masked, self.images, step.ys[first:stop], step.xs[first:stop])
            masked_integrals(self._masked, self._integrals, self.rows_shown, rows)
            self.rows_shown = rows

    def evaluate(self, step: Step, block: Block) -> Evaluation:
        """Evaluates the model at the pixels of a block."""
        gray = self.channels == 1
        network = self.network(step)
        window = network.window
        features = Features.empty(window, len(block.ys))
        extract(
            window,
            self._masked,
            self._integrals,
            block.images,
            block.starts,
            block.ys,
            block.xs,
            step.density,
            step.kind is not Kind.LARGE,
            gray,
            features,
        )
        neck = network.trunk(features.inputs, gray)
        adapts = self.adaptation is not None
        none = np.empty((0, 0), dtype=np.int16)
        near = near_inputs(features.inputs, window, gray) if adapts else none
        base = np.ascontiguousarray(features.base.T)
        return Evaluation(block, neck, near, base, features.exponent)

    def predict(
        self,
        step: Step,
        number: int,
        evaluation: Evaluation,
        channel: int,
        residual: NDArray[np.int32],
    ) -> Prediction:
        """Distributions of one channel of a block, given the channels coded before it.

        Args:
            step: the step.
            number: of the block in the image.
            evaluation: of the block.
            channel: in coding order.
            residual: int32 (N, 2), true residuals of the channels before it.
        """
        network = self.network(step)
        coded = np.ascontiguousarray(residual[:, :channel])
        inputs = None
        if self.adaptation is None:
            parameters = network.head(channel, evaluation.neck, coded)
        else:
            hidden = network.hidden(channel, evaluation.neck, coded)
            parameters, inputs = self.adaptation.parameters(
                number,
                self._key(step, channel),
                network.heads[channel],
                hidden,
                evaluation.near,
            )
        temperature = int(self.model.temperature[step.kind, step.density, channel])
        base, exponent = evaluation.base[channel], evaluation.exponent
        m = mixture(parameters, base, exponent, coded, temperature, self.model.tables)
        return Prediction(m, coded, temperature, inputs)

    def _key(self, step: Step, channel: int) -> tuple[int, int]:
        return expert_of(step.density, step.kind), channel

    def learn(
        self,
        step: Step,
        number: int,
        evaluation: Evaluation,
        predictions: list[Prediction],
        values: list[NDArray[np.int32]],
    ) -> None:
        """Takes in the true values of all channels of a block, where the process is adaptive."""
        if self.adaptation is None:
            return
        try:
            observations = []
            for channel, (prediction, true) in enumerate(zip(predictions, values, strict=True)):
                assert prediction.inputs is not None
                observations.append(
                    self.adaptation.observe(
                        self._key(step, channel),
                        prediction.inputs,
                        prediction.mixture,
                        true,
                        prediction.coded,
                        evaluation.exponent,
                        self.model.tables.sharpness(prediction.temperature),
                    )
                )
            self.adaptation.learn(number, observations)
        except BaseException:
            self.adaptation.give_up()
            raise

    def end_step(self, step: Step) -> None:
        """Makes the step's pixels, which are in the images, known."""
        self.show(step, self.known.shape[0])
        self.known[step.ys, step.xs] = 1
        self.blocks += -(-len(step.ys) // CHUNK)
        self.rows_shown = 0


@dataclass
class _BegunStep:
    """A step some of whose blocks are being evaluated.

    Attributes:
        step: the step.
        parts: its blocks, each in the parts that one thread evaluates.
        restored: how many blocks are in the images.
    """

    step: Step
    parts: list[list[Block]]
    restored: int = 0


class Evaluations:
    """The model's view of the blocks of all steps, in coding order, evaluated some blocks ahead.

    Whoever iterates calls :meth:`restored` after each block.

    In a step all pixels of the steps before are known. Yet it begins before the last one ends where
    there is one image: blocks come from the top downwards, and the network looks at :data:`REACH`
    rows above and below a pixel.

    Args:
        context: the images; at its first step.
        steps: the steps.
        workers: threads.
    """

    def __init__(self, context: Context, steps: Iterable[Step], workers: Workers) -> None:
        self._context, self._steps, self._workers = context, steps, workers
        self._begun: deque[_BegunStep] = deque()

    def __iter__(self) -> Iterator[tuple[Step, int, Evaluation]]:
        """Step, number of the block in the image, and the block's evaluation."""
        work = self._workers.map(lambda task: self._context.evaluate(*task), self._tasks())
        for number, first in enumerate(work):
            begun = self._begun[0]
            further = len(begun.parts[begun.restored]) - 1
            evaluation = Evaluation.joined([first, *islice(work, further)])
            yield begun.step, number, evaluation

    def _tasks(self) -> Iterator[tuple[Step, Block] | None]:
        """What to evaluate next, or None where that depends on blocks that are not restored yet."""
        for step in self._steps:
            *blocks, last = blocks_of(step, len(self._context.images))
            # All threads share the last one, so that they end a step together.
            parts = [[block] for block in blocks] + [last.parts(self._workers.threads)]
            begun = _BegunStep(step, parts)
            self._begun.append(begun)
            for part in chain.from_iterable(parts):
                while not self._sees_all(begun, part):
                    yield None
                yield step, part

    def _sees_all(self, begun: _BegunStep, block: Block) -> bool:
        """Whether the network sees what is known in a step, all around a block."""
        if begun is self._begun[0]:
            return True
        is_next = begun is self._begun[1]
        return is_next and int(block.ys[-1]) + REACH < self._context.rows_shown

    def restored(self) -> bool:
        """Takes in the block given last, whose pixels are in the images by now.

        Returns:
            Whether its step is complete.
        """
        begun = self._begun[0]
        begun.restored += 1
        if begun.restored == len(begun.parts):
            self._context.end_step(begun.step)
            self._begun.popleft()
            return True
        if len(self._context.images) == 1:
            following = int(begun.parts[begun.restored][0].ys[0])
            self._context.show(begun.step, following - REACH - 1)
        return False


@njit(cache=True, nogil=True)
def _input_units(
    values: NDArray[np.int32],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    for n in range(values.shape[0]):
        half = np.int32(np.int32(1) << exponent[n]) >> np.int32(1)
        units = np.int32(np.int32(16 * values[n] - base[n]) + half) >> exponent[n]
        out[n] = min(max(np.int32(units), np.int32(-127)), np.int32(127))


def input_units(
    values: NDArray[np.int32], base: NDArray[np.int32], exponent: NDArray[np.int32]
) -> NDArray[np.int32]:
    """True minus base, in network input units, clipped to +-127."""
    units = np.empty(len(values), dtype=np.int32)
    _input_units(values, base, exponent, units)
    return units


@dataclass(frozen=True)
class _CodedBlock:
    """What the encoder needs of a block: its step, its rows, and the intervals of each channel."""

    step: Step
    block: Block
    channels: list[Intervals]


def _intervals_of_truth(
    context: Context, truth: NDArray[np.uint8], numbered: tuple[Step, int, Evaluation]
) -> _CodedBlock:
    """Intervals of the true values of all channels of a block."""
    step, number, evaluation = numbered
    pixels = truth.reshape(-1, 3)[evaluation.block.where(*truth.shape[1:3])]
    residual = np.empty((len(pixels), 2), dtype=np.int32)
    channels, predictions = [], []
    true = list(np.ascontiguousarray(pixels.T[: context.channels], dtype=np.int32))
    for channel, values in enumerate(true):
        prediction = context.predict(step, number, evaluation, channel, residual)
        predictions.append(prediction)
        channels.append(intervals(prediction.mixture, values))
        if channel < 2:
            base = evaluation.base[channel]
            residual[:, channel] = input_units(values, base, evaluation.exponent)
    context.learn(step, number, evaluation, predictions, true)
    return _CodedBlock(step, evaluation.block, channels)


def _evaluations_of_truth(
    context: Context, steps: Iterable[Step], workers: Workers
) -> Iterator[tuple[Step, int, Evaluation]]:
    """:class:`Evaluations` where the context's images are the truth.

    Blocks are restored as soon as they are evaluated, coded or not.
    """
    evaluations = Evaluations(context, steps, workers)
    for evaluated in evaluations:
        yield evaluated
        evaluations.restored()


def encode_steps(
    model: Model, images: NDArray[np.uint8], gray: bool, process: Process, workers: Workers
) -> Iterator[tuple[float, RangeEncoders]]:
    """Codes images of one size, step by step.

    Args:
        model: the model.
        images: uint8 (B, H, W, 3) in coding order of the channels (green, red, blue); for gray
            images the three channels are equal and only the first is coded.
        gray: whether the images are gray.
        process: parameters of the denoising process.
        workers: threads; their number does not change the result.

    Yields:
        After each step the fraction of the pixels coded so far, and the images' range coders.
    """
    count, height, width, _ = images.shape
    context = Context(model, images, gray, process.adaptive)
    coders = RangeEncoders(count)
    steps = list(steps_of(process, height, width))
    seen = _evaluations_of_truth(context, steps, workers)
    # Steps of a single block are not worth another thread.
    run = workers.map if count * height * width > CHUNK * len(steps) else map
    done = in_step = 0
    for coded in run(partial(_intervals_of_truth, context, images), seen):
        for first, size in coded.channels:
            coders.encode(coded.block.images, coded.block.starts, first, size)
        in_step += len(coded.block.ys)
        if in_step == count * len(coded.step.ys):
            done += len(coded.step.ys)
            in_step = 0
            yield done / (height * width), coders


def _decode_block(
    context: Context,
    coders: RangeDecoders,
    workers: Workers,
    step: Step,
    number: int,
    evaluation: Evaluation,
) -> None:
    """Reads the values of a block and puts them into the images."""
    block = evaluation.block
    residual = np.empty((len(block.ys), 2), dtype=np.int32)
    predictions, true = [], []
    for channel in range(context.channels):
        prediction = context.predict(step, number, evaluation, channel, residual)
        predictions.append(prediction)
        values = decode_values(prediction.mixture, coders, block.images, block.starts)
        true.append(values)
        if channel < 2:
            base = evaluation.base[channel]
            residual[:, channel] = input_units(values, base, evaluation.exponent)
    where = block.where(*context.known.shape)
    context.images.reshape(-1, 3)[where] = np.array(true).T  # gray: all three alike
    if context.adaptation is not None:
        workers.aside(context.learn, step, number, evaluation, predictions, true)


def decode_images(
    model: Model,
    payloads: list[bytes],
    height: int,
    width: int,
    gray: bool,
    process: Process,
    workers: Workers,
) -> Iterator[Context]:
    """Decodes images of one size, step by step.

    Yields:
        After each step the context: its images and known pixels. The same one each time; copy what
        is to be kept.

    Raises:
        CorruptStream: a payload is not what an encoder wrote.
    """
    coders = RangeDecoders(payloads)
    images = np.zeros((len(payloads), height, width, 3), dtype=np.uint8)
    context = Context(model, images, gray, process.adaptive)
    left = height * width
    evaluations = Evaluations(context, steps_of(process, height, width), workers)
    for step, number, evaluation in evaluations:
        _decode_block(context, coders, workers, step, number, evaluation)
        if not evaluations.restored():
            continue
        left -= len(step.ys)
        to_come = left * context.channels * LEAST_BITS_PER_VALUE
        if to_come > _READ_AHEAD_BITS and coders.overrun.any():
            raise CorruptStream("the payload ends before the image does")
        yield context
    if not all(coders.complete):
        raise CorruptStream("the payload is longer than the image, or ends early")
