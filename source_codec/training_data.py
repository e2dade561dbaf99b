"""Training examples: real images, masked exactly as coding masks them."""

from __future__ import annotations

import queue
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from source_codec import history
from source_codec.errors import CodecError
from source_codec.experts import PHASES, Kind, expert_of
from source_codec.features import GREEN_FIRST, features_at, input_values
from source_codec.order import Order, is_small
from source_codec.process import Plan, Process

OPEN_EDGE = 1e6
"""Stands for an infinite bin edge, in input units; finite, so that gradients stay finite."""


TRANSFORMS = ("native", "reduced", "photo_ycc", "ycbcr_420", "photo_ycc_plane", "gray")
LEAST_SIDE = 8
"""Sides of native images, at least."""
LEAST_REDUCED = 32
"""Sides of reduced images, at least."""
IMAGE_BYTES = 4 << 30
"""Pixels held in memory of one folder; of a larger one a regular sample of the files is read."""


Item = TypeVar("Item")


class UnusableImages(CodecError):  # noqa: N818 (reads as what it says)
    """A folder that cannot be trained on; the message says why, and what to do."""


class Part(StrEnum):
    """Which images of a source: all, every tenth (held out), or the others (to train on)."""

    ALL = "all"
    TRAINING = "training"
    HELD_OUT = "held_out"


@dataclass(frozen=True)
class Source:
    """A kind of training image.

    Attributes:
        folder: path below the data root; PNG files, or one ``images.npy`` / ``images.npz`` stack
            of shape (N, H, W, 3).
        weight: relative number of examples.
        transform: "native", "reduced" (antialiased bicubic by a random factor, ``factors``),
            "photo_ycc" or "ycbcr_420" (reduced, then with that source history), "photo_ycc_plane"
            (reduced, then one of the planes of that history, as a gray image), "gray" (native, as
            gray images; of colour ones the green plane).
        factors: range of the reduction factor.
        exclude: file names, or for a stack index ranges "a:b", left out.
        crop: largest side of the crops, 0 for the configuration's.
        part: which of the images that ``exclude`` leaves.

    Raises:
        ValueError: a value out of its range.
    """

    folder: str
    weight: float = 1.0
    transform: str = "native"
    factors: tuple[float, float] = (1.5, 4.0)
    exclude: tuple[str, ...] = ()
    crop: int = 0
    part: str = Part.ALL

    def __post_init__(self) -> None:
        Part(self.part)
        if self.transform not in TRANSFORMS:
            raise ValueError(f"no transform {self.transform!r}: there are {', '.join(TRANSFORMS)}")
        if not self.weight > 0:
            raise ValueError(f"weight of {self.folder!r} must be above 0, not {self.weight}")
        if len(self.factors) != 2 or not 1 <= self.factors[0] <= self.factors[1]:
            raise ValueError(f"factors must be two, from 1 up, not {list(self.factors)}")

    @property
    def name(self) -> str:
        """Folder and transform, as in logs."""
        return f"{self.folder}:{self.transform}"

    @property
    def gray(self) -> bool:
        """Whether its images are coded as gray ones."""
        return self.transform in ("photo_ycc_plane", "gray")

    @property
    def least_side(self) -> int:
        """What both sides of its images must have, so that nothing is enlarged."""
        if self.transform in ("native", "gray"):
            return LEAST_SIDE
        return int(np.ceil(LEAST_REDUCED * self.factors[0]))


def source_names(sources: Sequence[Source]) -> list[str]:
    """A name for each source: :attr:`Source.name`, with a number from the second of a kind on."""
    names: list[str] = []
    for source in sources:
        before = sum(s.name == source.name for s in sources[: len(names)])
        names.append(f"{source.name}:{before + 1}" if before else source.name)
    return names


@dataclass
class Batch:
    """N masked pixels of one expert's steps: network inputs and what the loss needs.

    Attributes:
        expert: index of the expert in :data:`source_codec.experts.PHASES`.
        inputs: int8 (N, inputs of the expert).
        residual: float32 (N, 3), true minus base in input units.
        edges: float32 (N, 3, 2), edges of the true value's bin in input units; at the ends of
            the range they lie at +-OPEN_EDGE.
        weight: float32 (N, 3), 1 where the channel is coded (gray images code one).
    """

    expert: int
    inputs: Tensor
    residual: Tensor
    edges: Tensor
    weight: Tensor

    def split(self, rows: int) -> Iterator[Batch]:
        """Consecutive parts of at most ``rows`` pixels."""
        for start in range(0, len(self.inputs), rows):
            span = slice(start, start + rows)
            parts = (t[span] for t in (self.inputs, self.residual, self.edges, self.weight))
            yield Batch(self.expert, *parts)

    def to(self, device: torch.device) -> Batch:
        """The batch on a device."""
        parts = (self.inputs, self.residual, self.edges, self.weight)
        return Batch(self.expert, *(part.to(device, non_blocking=True) for part in parts))


def _part(items: Sequence[Item], part: str, folder: Path) -> Sequence[Item]:
    """The items of one part.

    Raises:
        UnusableImages: there are none, or a single one to be divided.
    """
    if not len(items):
        raise UnusableImages(
            f"no images in {folder}: training takes PNG files, or one stack images.npy"
        )
    if part == Part.ALL:
        return items
    if len(items) == 1:
        raise UnusableImages(
            f"{folder} has a single image: training and validation need one each; add images, or "
            "a [[validation]] section"
        )
    return items[::10] if part == Part.HELD_OUT else [x for i, x in enumerate(items) if i % 10]


def _png_images(
    folder: Path, exclude: tuple[str, ...], part: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and pixels, uint8 (H, W, 3), of a folder's PNG files."""
    paths = _part([p for p in sorted(folder.glob("*.png")) if p.name not in exclude], part, folder)
    size = 0
    for path in paths:
        with Image.open(path) as image:
            size += 3 * image.width * image.height
            if image.mode not in ("RGB", "L"):
                raise UnusableImages(
                    f"{path} is of mode {image.mode}: training takes 8-bit RGB and gray PNG files; "
                    "convert it, or list it under exclude"
                )
    for path in paths[:: -(-size // IMAGE_BYTES)]:
        with Image.open(path) as image:
            yield path.name, np.asarray(image.convert("RGB"))


def _stacked_images(
    path: Path, exclude: tuple[str, ...], part: str
) -> Iterator[tuple[str, NDArray[np.uint8]]]:
    """Names and pixels, uint8 (H, W, 3), of a stack."""
    loaded = np.load(path)
    stack = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
    if stack.dtype != np.uint8 or stack.ndim != 4 or stack.shape[-1] != 3:
        raise UnusableImages(
            f"{path} holds {stack.dtype} {stack.shape}: a stack must be uint8 (N, H, W, 3)"
        )
    keep = np.ones(len(stack), dtype=bool)
    for span in exclude:
        start, _, stop = span.partition(":")
        if not (start.isdecimal() and stop.isdecimal()):
            raise UnusableImages(f"{path}: exclude index ranges such as 0:100, not {span!r}")
        keep[int(start) : int(stop)] = False
    for index in _part(np.flatnonzero(keep).tolist(), part, path):
        yield f"{path.name}[{index}]", stack[index]


@lru_cache
def load_images(
    folder: Path, exclude: tuple[str, ...] = (), part: str = Part.ALL, least_side: int = LEAST_SIDE
) -> list[NDArray[np.uint8]]:
    """Images of a folder, as green-red-blue arrays (H, W, 3); gray images are replicated.

    Raises:
        UnusableImages: there are none, or some are too small or not 8-bit RGB or gray.
        OSError: a file cannot be read.
    """
    stacks = sorted(folder.glob("images.np[yz]"))
    read = (
        _stacked_images(stacks[0], exclude, part) if stacks else _png_images(folder, exclude, part)
    )
    images, small = [], []
    for name, image in read:
        images.append(np.ascontiguousarray(image[..., GREEN_FIRST]))
        if min(image.shape[:2]) < least_side:
            small.append(name)
    if small:
        raise UnusableImages(
            f"{folder}: {len(small)} of {len(images)} images are smaller than "
            f"{least_side}x{least_side} ({', '.join(small[:3])}{', ...' if small[3:] else ''}): "
            "list them under exclude, or choose another transform or smaller factors"
        )
    return images


def source_images(root: Path, source: Source) -> list[NDArray[np.uint8]]:
    """The images of a source, as :func:`load_images` gives them.

    Raises:
        UnusableImages: as there; or all are gray, where the source does not code gray images.
    """
    folder = root / source.folder
    images = load_images(folder, source.exclude, source.part, source.least_side)
    asked = not source.gray and source.part != Part.HELD_OUT
    if asked and all(bool((image == image[..., :1]).all()) for image in images):
        raise UnusableImages(
            f"{folder}: every image is gray; add colour images, or write "
            'transform = "gray" in its section'
        )
    return images


def _reduce(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    width, height = (
        max(LEAST_REDUCED, round(side / factor)) for side in (image.shape[1], image.shape[0])
    )
    return np.asarray(Image.fromarray(image).resize((width, height), Image.Resampling.BICUBIC))


class ImageStream:
    """Endless random images of one source, at most ``crop`` pixels a side."""

    POOL = 160
    MARGIN = 64

    def __init__(self, root: Path, source: Source, crop: int, rng: np.random.Generator) -> None:
        self.source = source
        self._images = source_images(root, source)
        self._crop = source.crop or crop
        self._rng = rng
        self._pool: list[NDArray[np.uint8]] = []

    def _random_crop(self, image: NDArray[np.uint8], side: int) -> NDArray[np.uint8]:
        height, width = image.shape[:2]
        y = int(self._rng.integers(max(height - side, 0) + 1))
        x = int(self._rng.integers(max(width - side, 0) + 1))
        return image[y : y + side, x : x + side]

    def _transformed(self) -> NDArray[np.uint8]:
        """A piece of a random image, somewhat larger than a crop, reduced and transformed."""
        image = self._images[self._rng.integers(len(self._images))]
        low, high = np.log(self.source.factors)
        factor = float(np.exp(self._rng.uniform(low, high)))
        image = self._random_crop(image, round((self._crop + self.MARGIN) * factor))
        if high > 0:
            image = _reduce(np.ascontiguousarray(image), factor)
        rgb = image[..., GREEN_FIRST]  # the permutation is its own inverse
        if self.source.transform == "photo_ycc":
            rgb = history.through_photo_ycc(rgb)
        elif self.source.transform == "photo_ycc_plane":
            plane = history.photo_ycc_planes(rgb)[self._rng.choice(3, p=(0.7, 0.15, 0.15))]
            rgb = np.repeat(plane[..., None], 3, axis=-1)
        elif self.source.transform == "ycbcr_420":
            rgb = history.through_ycbcr_420(rgb)
        return np.ascontiguousarray(rgb[..., GREEN_FIRST])

    def draw(self) -> NDArray[np.uint8]:
        """A random crop, flipped and transposed at random."""
        if self.source.transform in ("native", "gray"):
            image = self._images[self._rng.integers(len(self._images))]
        elif len(self._pool) < self.POOL:
            image = self._transformed()
            self._pool.append(image)
        else:
            # Transforming is slow: most draws are from a pool, which is renewed bit by bit.
            slot = int(self._rng.integers(self.POOL))
            if self._rng.random() < 1 / 24:
                self._pool[slot] = self._transformed()
            image = self._pool[slot]
        image = self._random_crop(image, self._crop)
        flips = self._rng.integers(8)
        if is_small(*image.shape[:2]):
            flips &= 2  # a whole small picture has a top and a bottom
        if flips & 1:
            image = image[::-1]
        if flips & 2:
            image = image[:, ::-1]
        if flips & 4:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image)


_plan = lru_cache(maxsize=64)(Plan.of)


def masked_example(
    image: NDArray[np.uint8],
    process: Process,
    rng: np.random.Generator,
    limit: int,
    gray: bool,
    explore: float = 0.0,
) -> Batch:
    """Up to ``limit`` pixels of one random denoising step of one image.

    Steps weigh as they do in the code length: where a step has more than ``limit`` pixels, the step
    is that of a random pixel; in small images, all of whose steps are used whole, it is a uniformly
    random one. A share ``explore`` of the steps of large images is uniformly random too, since the
    early ones would hardly be seen otherwise.
    """
    if gray:
        image = np.ascontiguousarray(np.repeat(image[..., :1], 3, axis=-1))
    plan = _plan(process, *image.shape[:2])
    ranks, cuts = plan.ranks, plan.cuts
    if plan.kind is Kind.LARGE and rng.random() >= explore:
        step = int(np.searchsorted(cuts, rng.integers(cuts[-1]), side="right")) - 1
    else:
        step = int(rng.integers(len(cuts) - 1))
    known = (ranks < cuts[step]).astype(np.uint8)
    ys, xs = np.nonzero((ranks >= cuts[step]) & (ranks < cuts[step + 1]))
    if len(ys) > limit:
        chosen = np.sort(rng.choice(len(ys), limit, replace=False))
        ys, xs = ys[chosen], xs[chosen]
    return examples_at(image, known, ys, xs, plan.density(step), plan.kind, gray)


def examples_at(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    density: int,
    kind: Kind,
    gray: bool,
) -> Batch:
    """Inputs and targets at given pixels of a masked image (green, red, blue)."""
    expert = expert_of(density, kind)
    window = PHASES[expert].window
    inputs, base, exponent = features_at(window, image, known, ys, xs, density, gray)
    true = image[ys, xs].astype(np.float32)
    unit = np.exp2(exponent.astype(np.float32))[:, None]
    residual = ((16 * true - base) / unit).astype(np.float32)
    half = 8 / unit
    edges = np.stack([residual - half, residual + half], axis=-1)
    edges[..., 0][true == 0] = -OPEN_EDGE
    edges[..., 1][true == 255] = OPEN_EDGE
    weight = np.ones((len(ys), 3), dtype=np.float32)
    if gray:
        weight[:, 1:] = 0
    numbers = input_values(inputs).astype(np.int8)
    return Batch(expert, *(torch.from_numpy(a) for a in (numbers, residual, edges, weight)))


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of several, of the same expert."""
    return Batch(
        batches[0].expert,
        torch.cat([b.inputs for b in batches]),
        torch.cat([b.residual for b in batches]),
        torch.cat([b.edges for b in batches]),
        torch.cat([b.weight for b in batches]),
    )


class BatchStream:
    """Endless training batches, each of one expert, made in a background thread.

    A batch has as many pixels as asked for, and less than ``PIXELS_PER_IMAGE`` more.
    """

    PIXELS_PER_IMAGE = 512
    STEPS = (32, 32, 32, 32, 16, 24, 48)
    """Numbers of steps that examples are drawn from; mostly the codec's own."""
    WAVEFRONT_SHARE = 0.92
    """Of the examples of small images, which are shorter than those in Halton order: three quarters
    of the pixels."""
    GRAY_SHARE = 0.05
    EXPLORE = 0.15
    SPARE = 8
    """Batches kept of each expert while one of another is waited for; older ones are forgotten."""

    def __init__(
        self, root: Path, sources: list[Source], batch: int, crop: int, rng: np.random.Generator
    ) -> None:
        self._streams = [
            ImageStream(root, s, crop, child)
            for s, child in zip(sources, rng.spawn(len(sources)), strict=True)
        ]
        weights = np.array([s.weight for s in sources])
        self._shares = weights / weights.sum()
        self._batch = batch
        self._rng = rng
        self._queue: queue.Queue[Batch | BaseException] = queue.Queue(maxsize=6)
        self._spare: list[deque[Batch]] = [deque(maxlen=self.SPARE) for _ in PHASES]
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._fill, daemon=True)
        self._thread.start()

    def _examples(self) -> Iterator[Batch]:
        """Masked pixels, about ``PIXELS_PER_IMAGE`` of a source at a time."""
        while True:
            stream = self._streams[self._rng.choice(len(self._streams), p=self._shares)]
            wanted = self.PIXELS_PER_IMAGE
            while wanted > 0:
                steps = self.STEPS[self._rng.integers(len(self.STEPS))]
                gray = stream.source.gray or self._rng.random() < self.GRAY_SHARE
                image = stream.draw()
                # A small image's step is taken whole: cutting the last would make long steps rarer.
                small = is_small(*image.shape[:2])
                limit = self.PIXELS_PER_IMAGE if small else wanted
                wavefront = small and self._rng.random() < self.WAVEFRONT_SHARE
                process = Process(Order.AUTO if wavefront else Order.HALTON, steps=steps)
                example = masked_example(image, process, self._rng, limit, gray, self.EXPLORE)
                yield example
                wanted -= len(example.inputs)

    def _fill(self) -> None:
        waiting: list[list[Batch]] = [[] for _ in PHASES]
        pixels = [0] * len(PHASES)
        try:
            for example in self._examples():
                expert = example.expert
                waiting[expert].append(example)
                pixels[expert] += len(example.inputs)
                if pixels[expert] >= self._batch:
                    self._put(concatenate(waiting[expert]))
                    waiting[expert], pixels[expert] = [], 0
                if self._closed.is_set():
                    return
        except BaseException as error:
            self._put(error)

    def _put(self, item: Batch | BaseException) -> None:
        while not self._closed.is_set():
            with suppress(queue.Full):
                self._queue.put(item, timeout=0.2)
                return

    def take(self, expert: int | None = None) -> Batch:
        """The next batch, or the next one of an expert.

        Raises:
            Exception: whatever went wrong in the background thread.
        """
        if expert is not None and self._spare[expert]:
            return self._spare[expert].popleft()
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            if expert is None or item.expert == expert:
                return item
            self._spare[item.expert].append(item)

    def close(self) -> None:
        """Ends the background thread, and waits for its end: it must not outlive the program."""
        self._closed.set()
        self._thread.join()
