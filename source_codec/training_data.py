"""Training examples: real images, masked exactly as coding masks them."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from source_codec import history
from source_codec.features import GREEN_FIRST, density_class, features_at
from source_codec.order import Order, rank_map
from source_codec.schedule import Schedule, boundaries

OPEN_EDGE = 1e6
"""Stands for an infinite bin edge, in input units; finite, so that gradients stay finite."""


@dataclass(frozen=True)
class Source:
    """A kind of training image.

    Attributes:
        folder: path below the data root; PNG files, or one ``.npy`` / ``.npz`` stack.
        weight: relative number of examples.
        transform: "native", "reduced" (antialiased bicubic by a random factor, ``factors``),
            "photo_ycc" or "ycbcr_420" (reduced, then with that source history).
        factors: range of the reduction factor.
        exclude: file names, or for a stack index ranges "a:b", left out of training.
    """

    folder: str
    weight: float
    transform: str = "native"
    factors: tuple[float, float] = (1.5, 4.0)
    exclude: tuple[str, ...] = ()


@dataclass
class Batch:
    """N masked pixels: network inputs and what the loss needs.

    Attributes:
        inputs: int8 (N, 672).
        residual: float32 (N, 3), true minus base in input units.
        edges: float32 (N, 3, 2), edges of the true value's bin in input units; at the ends of
            the range they lie at +-OPEN_EDGE.
        weight: float32 (N, 3), 1 where the channel is coded (gray images code one).
    """

    inputs: Tensor
    residual: Tensor
    edges: Tensor
    weight: Tensor

    def split(self, rows: int) -> Iterator[Batch]:
        """Consecutive parts of at most ``rows`` pixels."""
        for start in range(0, len(self.inputs), rows):
            span = slice(start, start + rows)
            yield Batch(self.inputs[span], self.residual[span], self.edges[span], self.weight[span])


@lru_cache
def load_images(folder: Path, exclude: tuple[str, ...]) -> list[NDArray[np.uint8]]:
    """All images of a folder, as green-red-blue arrays (H, W, 3); gray images are replicated."""
    stacks = sorted(folder.glob("images.np[yz]"))
    if stacks:
        loaded = np.load(stacks[0])
        stack = loaded if isinstance(loaded, np.ndarray) else loaded[loaded.files[0]]
        keep = np.ones(len(stack), dtype=bool)
        for span in exclude:
            start, stop = span.split(":")
            keep[int(start) : int(stop)] = False
        return list(np.ascontiguousarray(stack[keep][..., GREEN_FIRST]))
    paths = [p for p in sorted(folder.glob("*.png")) if p.name not in exclude]
    if not paths:
        raise FileNotFoundError(f"no images in {folder}")
    images = []
    for path in paths:
        with Image.open(path) as image:
            images.append(np.ascontiguousarray(np.asarray(image.convert("RGB"))[..., GREEN_FIRST]))
    return images


def _reduce(image: NDArray[np.uint8], factor: float) -> NDArray[np.uint8]:
    size = (max(32, round(image.shape[1] / factor)), max(32, round(image.shape[0] / factor)))
    return np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BICUBIC))


class ImageStream:
    """Endless random images of one source, at most ``crop`` pixels a side."""

    POOL = 160
    MARGIN = 64

    def __init__(self, root: Path, source: Source, crop: int, rng: np.random.Generator) -> None:
        self.source = source
        self._images = load_images(root / source.folder, source.exclude)
        self._crop = crop
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
        elif self.source.transform == "ycbcr_420":
            rgb = history.through_ycbcr_420(rgb)
        return np.ascontiguousarray(rgb[..., GREEN_FIRST])

    def draw(self) -> NDArray[np.uint8]:
        """A random crop, flipped and transposed at random."""
        if self.source.transform == "native":
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
        if flips & 1:
            image = image[::-1]
        if flips & 2:
            image = image[:, ::-1]
        if flips & 4:
            image = image.transpose(1, 0, 2)
        return np.ascontiguousarray(image)


@lru_cache
def _cosine_cuts(n_ranks: int, steps: int) -> list[int]:
    return boundaries(Schedule.COSINE, n_ranks, steps)


def masked_example(
    image: NDArray[np.uint8], steps: int, rng: np.random.Generator, limit: int, gray: bool
) -> Batch:
    """Up to ``limit`` pixels of one random denoising step of one image.

    The step is that of a random pixel (so steps weigh as they do in the code length) in three
    cases of four, else a uniformly random one, since early steps would hardly be seen otherwise.
    """
    if gray:
        image = np.ascontiguousarray(np.repeat(image[..., :1], 3, axis=-1))
    height, width = image.shape[:2]
    ranks, n_ranks = rank_map(Order.HALTON, height, width)
    cuts = _cosine_cuts(n_ranks, steps)
    if rng.random() < 0.75:
        step = int(np.searchsorted(cuts, rng.integers(n_ranks), side="right")) - 1
    else:
        step = int(rng.integers(len(cuts) - 1))
    known = (ranks < cuts[step]).astype(np.uint8)
    ys, xs = np.nonzero((ranks >= cuts[step]) & (ranks < cuts[step + 1]))
    if len(ys) > limit:
        chosen = rng.choice(len(ys), limit, replace=False)
        ys, xs = ys[chosen], xs[chosen]
    return examples_at(image, known, ys, xs, density_class(cuts[step], n_ranks), gray)


def examples_at(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    density: int,
    gray: bool,
) -> Batch:
    """Inputs and targets at given pixels of a masked image (green, red, blue)."""
    inputs, base, exponent = features_at(image, known, ys, xs, density, gray)
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
    return Batch(*(torch.from_numpy(a) for a in (inputs, residual, edges, weight)))


def concatenate(batches: list[Batch]) -> Batch:
    """One batch of several."""
    return Batch(
        torch.cat([b.inputs for b in batches]),
        torch.cat([b.residual for b in batches]),
        torch.cat([b.edges for b in batches]),
        torch.cat([b.weight for b in batches]),
    )


class BatchStream:
    """Endless training batches, made in a background thread."""

    PIXELS_PER_IMAGE = 512
    STEPS = (16, 24, 32, 48)
    GRAY_SHARE = 0.06

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
        threading.Thread(target=self._fill, daemon=True).start()

    def _make(self) -> Batch:
        examples: list[Batch] = []
        total = 0
        while total < self._batch:
            stream = self._streams[self._rng.choice(len(self._streams), p=self._shares)]
            wanted = min(self.PIXELS_PER_IMAGE, self._batch - total)
            while wanted > 0:
                steps = self.STEPS[self._rng.integers(len(self.STEPS))]
                gray = self._rng.random() < self.GRAY_SHARE
                example = masked_example(stream.draw(), steps, self._rng, wanted, gray)
                examples.append(example)
                wanted -= len(example.inputs)
                total += len(example.inputs)
        return concatenate(examples)

    def _fill(self) -> None:
        try:
            while True:
                self._queue.put(self._make())
        except BaseException as error:
            self._queue.put(error)

    def __iter__(self) -> Iterator[Batch]:
        while True:
            item = self._queue.get()
            if isinstance(item, BaseException):
                raise item
            yield item
