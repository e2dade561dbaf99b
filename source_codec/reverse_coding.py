"""Synchronized reverse arithmetic coding of images with a masked-diffusion model.

Coding runs the reverse (denoising) process. At each step the order and the schedule name the pixels
to be restored; one evaluation of the model on the pixels known so far gives a probability table for
each; a range coder codes the true values of all of them; they become known. The decoder mirrors
this, so both ends always see the same context.

Images of one size are processed together: one evaluation serves the pixels of all of them, and each
image has its own range coder.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from itertools import chain, islice, pairwise

import numpy as np
from numpy.typing import NDArray

from source_codec.adaptation import NEAR, NEAR_GRAY, Adaptation
from source_codec.errors import CorruptStream
from source_codec.experts import expert_of
from source_codec.features import (
    GRAY_INPUTS,
    N_INPUTS,
    SMALL_PIXELS,
    density_class,
    extract,
    integral_table,
    masked_image,
    masked_integral,
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
from source_codec.order import Order, rank_map
from source_codec.range_coder import RangeDecoder, RangeEncoder
from source_codec.schedule import Schedule, boundaries
from source_codec.workers import Workers

CHUNK = 1 << 11
"""Pixels of one image coded from one evaluation at most; larger steps are coded chunk by chunk
(all from the same known pixels). Part of the stream format."""
LEAST_BITS_PER_VALUE = 2.0**-12
"""Less than any value costs: the others share 255/256 of 2^-12 at least."""
_READ_AHEAD_BITS = 128  # more than the range decoder holds beyond what it has used


@dataclass(frozen=True)
class Process:
    """The parameters of the denoising process that the stream header carries.

    Attributes:
        order: denoising order.
        schedule: mask schedule.
        steps: number of denoising steps T.
        adaptive: whether the model follows the image (see :mod:`source_codec.adaptation`); small
            images, which are too short to learn from, are coded without.
    """

    order: Order = Order.HALTON
    schedule: Schedule = Schedule.COSINE
    steps: int = 32
    adaptive: bool = True


@dataclass(frozen=True)
class Step:
    """One denoising step of one image size: which pixels, and how much was known before.

    Attributes:
        ys, xs: int32 (N,) pixels of the step, in raster order.
        density: density class before the step.
    """

    ys: NDArray[np.int32]
    xs: NDArray[np.int32]
    density: int


def steps_of(process: Process, height: int, width: int) -> Iterator[Step]:
    """The denoising steps of an image of the given size; empty steps are left out."""
    ranks, n_ranks = rank_map(process.order, height, width)
    cuts = boundaries(process.schedule, n_ranks, process.steps)
    flat = ranks.ravel()
    # Pixels sorted by rank; a stable sort keeps raster order inside a rank, and each step's
    # pixels are put back into raster order.
    by_rank = np.argsort(flat, kind="stable").astype(np.int32)
    starts = np.searchsorted(flat[by_rank], np.array(cuts))
    for step in range(len(cuts) - 1):
        pixels = np.sort(by_rank[starts[step] : starts[step + 1]])
        if len(pixels):
            yield Step(pixels // width, pixels % width, density_class(cuts[step], n_ranks))


@dataclass(frozen=True)
class Unit:
    """A chunk of one image's step, and where its rows lie in the block."""

    image: int
    span: slice
    rows: slice


def blocks_of(step: Step, images: int) -> Iterator[list[Unit]]:
    """Packs the chunks of a step in all images into blocks of at most ``CHUNK`` pixels."""
    block: list[Unit] = []
    filled = 0
    for image in range(images):
        for start in range(0, len(step.ys), CHUNK):
            span = slice(start, min(start + CHUNK, len(step.ys)))
            size = span.stop - span.start
            if filled + size > CHUNK:
                yield block
                block, filled = [], 0
            block.append(Unit(image, span, slice(filled, filled + size)))
            filled += size
    yield block


@dataclass(frozen=True)
class Evaluation:
    """The model's view of a block of N pixels, before any of them is known.

    Attributes:
        units: what the rows are.
        neck: int32 (N, 3 * head width), of gray images (N, head width), from
            ``IntegerNetwork.trunk``.
        near: int16 (N, 36), the nearest pixels among the network's inputs (12 of gray images).
        base: int32 (3, N), base prediction in 1/16 gray level.
        exponent: int32 (N,).
    """

    units: list[Unit]
    neck: NDArray[np.int32]
    near: NDArray[np.int16]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]

    @classmethod
    def joined(cls, units: list[Unit], parts: list[Evaluation]) -> Evaluation:
        """The evaluation of a block from those of its parts."""
        if len(parts) == 1:
            return parts[0]
        return cls(
            units,
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
        inputs: int16 (n, w), padded inputs of the adapted output layer, if it is.
    """

    mixture: Mixture
    coded: NDArray[np.int32]
    temperature: int
    inputs: NDArray[np.int16] | None


class Context:
    """A batch of images of one size, as far as they are known, and the model.

    Attributes:
        adaptation: what is learned from the image, where the process is adaptive; then the batch is
            a single large image.
        blocks: number of blocks in the steps that are done.
    """

    def __init__(
        self, model: Model, images: NDArray[np.uint8], gray: bool, adaptive: bool = False
    ) -> None:
        self.model = model
        self.images = images
        self.channels = 1 if gray else 3
        count, height, width, _ = images.shape
        self.small = height * width <= SMALL_PIXELS
        self.known = np.zeros((height, width), dtype=np.uint8)
        self.adaptation: Adaptation | None = None
        if adaptive and not self.small:
            if count != 1:
                raise ValueError("large images are coded one by one when the model adapts to them")
            self.adaptation = Adaptation()
        self.blocks = 0
        self._near = NEAR_GRAY if gray else NEAR
        self._masked = [masked_image(height, width) for _ in range(count)]
        self._integrals = [integral_table(height, width) for _ in range(count)]

    def network(self, step: Step) -> IntegerNetwork:
        """The expert that serves a step."""
        return self.model.expert(step.density, self.small)

    def begin_step(self) -> None:
        """Takes the pixels restored so far into the context."""
        for masked, integral in zip(self._masked, self._integrals, strict=True):
            masked_integral(masked, integral)

    def evaluate(self, step: Step, units: list[Unit]) -> Evaluation:
        """Evaluates the model at the pixels of a block."""
        n = units[-1].rows.stop
        gray = self.channels == 1
        inputs = np.empty((n, GRAY_INPUTS if gray else N_INPUTS), dtype=np.int16)
        base = np.empty((n, 3), dtype=np.int32)
        exponent = np.empty(n, dtype=np.int32)
        for unit in units:
            extract(
                self._masked[unit.image],
                self._integrals[unit.image],
                step.ys[unit.span],
                step.xs[unit.span],
                step.density,
                self.small,
                gray,
                inputs[unit.rows],
                base[unit.rows],
                exponent[unit.rows],
            )
        neck = self.network(step).trunk(inputs, gray)
        near = inputs[:, self._near]
        return Evaluation(units, neck, near, np.ascontiguousarray(base.T), exponent)

    def predict(
        self,
        step: Step,
        block: int,
        evaluation: Evaluation,
        channel: int,
        residual: NDArray[np.int32],
    ) -> Prediction:
        """Distributions of one channel of a block, given the channels coded before it.

        Args:
            step: the step.
            block: number of the block in the image.
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
                block,
                self._key(step, channel),
                network.heads[channel],
                hidden,
                evaluation.near,
            )
        temperature = int(self.model.temperature[int(self.small), step.density, channel])
        base, exponent = evaluation.base[channel], evaluation.exponent
        m = mixture(parameters, base, exponent, coded, temperature, self.model.tables)
        return Prediction(m, coded, temperature, inputs)

    def _key(self, step: Step, channel: int) -> tuple[int, int]:
        return expert_of(step.density, self.small), channel

    def learn(
        self,
        step: Step,
        block: int,
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
            self.adaptation.learn(block, observations)
        except BaseException:
            self.adaptation.give_up()
            raise

    def end_step(self, step: Step) -> None:
        """Marks the step's pixels as known."""
        self.blocks += -(-len(step.ys) // CHUNK)
        self.known[step.ys, step.xs] = 1
        if self.channels == 1:
            gray = self.images[:, step.ys, step.xs, 0]
            self.images[:, step.ys, step.xs, 1] = gray
            self.images[:, step.ys, step.xs, 2] = gray
        for masked, image in zip(self._masked, self.images, strict=True):
            reveal(masked, image, step.ys, step.xs)


def _pieces(units: list[Unit], parts: int) -> list[list[Unit]]:
    """A block of a single image's pixels in about equal parts; other blocks as they are."""
    (unit, *others) = units
    size = unit.rows.stop - unit.rows.start
    if others or size < parts:
        return [units]
    cuts = [unit.span.start + size * part // parts for part in range(parts + 1)]
    spans = [slice(start, stop) for start, stop in pairwise(cuts)]
    return [[Unit(unit.image, span, slice(0, span.stop - span.start))] for span in spans]


def evaluations(
    context: Context, step: Step, images: int, workers: Workers
) -> Iterator[tuple[int, Evaluation]]:
    """The model's view of each block of a step, with the block's number in the image.

    The last block is shared by all threads, so that they end a step together.
    """
    blocks = list(blocks_of(step, images))
    pieces = [[units] for units in blocks[:-1]] + [_pieces(blocks[-1], workers.threads)]
    work = workers.map(partial(context.evaluate, step), chain.from_iterable(pieces))
    for number, (units, parts) in enumerate(zip(blocks, pieces, strict=True), context.blocks):
        yield number, Evaluation.joined(units, list(islice(work, len(parts))))


def input_units(
    values: NDArray[np.int32], base: NDArray[np.int32], exponent: NDArray[np.int32]
) -> NDArray[np.int32]:
    """True minus base, in network input units, clipped to +-127."""
    clipped: NDArray[np.int32] = np.clip(
        (16 * values - base + ((1 << exponent) >> 1)) >> exponent, -127, 127
    )
    return clipped


@dataclass(frozen=True)
class _CodedBlock:
    """Everything the encoder needs of a block: its rows, and the intervals of each channel."""

    units: list[Unit]
    channels: list[Intervals]


def _intervals_of_truth(
    context: Context, truth: NDArray[np.uint8], step: Step, numbered: tuple[int, Evaluation]
) -> _CodedBlock:
    """Intervals of the true values of all channels of a block."""
    block, evaluation = numbered
    units = evaluation.units
    n = len(evaluation.exponent)
    pixels = np.empty((n, 3), dtype=np.int32)
    for unit in units:
        pixels[unit.rows] = truth[unit.image, step.ys[unit.span], step.xs[unit.span]]
    residual = np.empty((n, 2), dtype=np.int32)
    channels, predictions = [], []
    true = [np.ascontiguousarray(pixels[:, channel]) for channel in range(context.channels)]
    for channel, values in enumerate(true):
        prediction = context.predict(step, block, evaluation, channel, residual)
        predictions.append(prediction)
        channels.append(intervals(prediction.mixture, values))
        if channel < 2:
            base = evaluation.base[channel]
            residual[:, channel] = input_units(values, base, evaluation.exponent)
    context.learn(step, block, evaluation, predictions, true)
    return _CodedBlock(units, channels)


def encode_steps(
    model: Model, images: NDArray[np.uint8], gray: bool, process: Process, workers: Workers
) -> Iterator[tuple[float, list[RangeEncoder]]]:
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
    context = Context(model, np.zeros_like(images), gray, process.adaptive)
    coders = [RangeEncoder() for _ in images]
    done = 0
    for step in steps_of(process, *images.shape[1:3]):
        context.begin_step()
        work = workers.map(
            partial(_intervals_of_truth, context, images, step),
            evaluations(context, step, len(images), workers),
        )
        for block in work:
            for unit in block.units:
                for first, size in block.channels:
                    coders[unit.image].encode(first[unit.rows], size[unit.rows])
        context.images[:, step.ys, step.xs] = images[:, step.ys, step.xs]
        context.end_step(step)
        done += len(step.ys)
        yield done / context.known.size, coders


def finished_payload(coder: RangeEncoder) -> bytes:
    """The bytes of a finished range coder."""
    return coder.finished().astype("<u4").tobytes()


def _decode_block(
    context: Context,
    coders: list[RangeDecoder],
    workers: Workers,
    step: Step,
    block: int,
    evaluation: Evaluation,
) -> None:
    """Reads the values of a block and puts them into the images."""
    n = len(evaluation.exponent)
    residual = np.empty((n, 2), dtype=np.int32)
    pixels = np.empty((n, 3), dtype=np.uint8)
    predictions, true = [], []
    for channel in range(context.channels):
        prediction = context.predict(step, block, evaluation, channel, residual)
        predictions.append(prediction)
        values = np.empty(n, dtype=np.int32)
        for unit in evaluation.units:
            decode_values(prediction.mixture, coders[unit.image], unit.rows, values)
        pixels[:, channel] = values
        true.append(values)
        if channel < 2:
            base = evaluation.base[channel]
            residual[:, channel] = input_units(values, base, evaluation.exponent)
    for unit in evaluation.units:
        ys, xs = step.ys[unit.span], step.xs[unit.span]
        image = context.images[unit.image]
        image[ys, xs, : context.channels] = pixels[unit.rows, : context.channels]
    if context.adaptation is not None:
        workers.aside(context.learn, step, block, evaluation, predictions, true)


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
    coders = []
    for payload in payloads:
        if len(payload) % 4:
            raise CorruptStream("the payload does not consist of whole words")
        coders.append(RangeDecoder(np.frombuffer(payload, dtype="<u4").astype(np.uint32)))
    images = np.zeros((len(payloads), height, width, 3), dtype=np.uint8)
    context = Context(model, images, gray, process.adaptive)
    left = height * width
    for step in steps_of(process, height, width):
        context.begin_step()
        for block, evaluation in evaluations(context, step, len(images), workers):
            workers.alone(_decode_block, context, coders, workers, step, block, evaluation)
        context.end_step(step)
        left -= len(step.ys)
        if left * context.channels * LEAST_BITS_PER_VALUE > _READ_AHEAD_BITS and any(
            coder.overrun for coder in coders
        ):
            raise CorruptStream("the payload ends before the image does")
        yield context
    if not all(coder.complete for coder in coders):
        raise CorruptStream("the payload is longer than the image, or ends early")
