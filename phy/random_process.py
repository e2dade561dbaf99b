"""Random processes as streams: drawn in blocks of fixed length, taken in any portions.

What a channel draws belongs to the absolute sample position, so that its output does not depend on
how the samples are cut into chunks: a process yields blocks whose length is its own choice, and
:class:`BlockQueue` hands out as many values as a chunk needs.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, TypeVar

import numpy as np
import numpy.typing as npt

Seed = int | np.random.SeedSequence

BLOCK = 4096  # values drawn at a time, where nothing else decides

_Scalar = TypeVar("_Scalar", bound=np.generic)


def child_seed(seed: Seed, key: int) -> np.random.SeedSequence:
    """One of the independent seeds that follow from a seed.

    Children are named by key and not spawned: spawning would change a caller's sequence.

    Arguments:
        seed: the parent.
        key: the child's name, not negative.
    """
    root = seed if isinstance(seed, np.random.SeedSequence) else np.random.SeedSequence(seed)
    return np.random.SeedSequence(root.entropy, spawn_key=(*root.spawn_key, key))


def complex_gaussian(rng: np.random.Generator, count: int) -> npt.NDArray[np.complex128]:
    """(count,) circular Gaussian values of unit variance."""
    return rng.standard_normal(2 * count).view(np.complex128) * np.sqrt(0.5)


class BlockQueue(Generic[_Scalar]):
    """Takes any number of items from an endless iterator of blocks, along their first axis."""

    def __init__(self, blocks: Iterator[npt.NDArray[_Scalar]]) -> None:
        self._blocks = blocks
        self._rest: npt.NDArray[_Scalar] | None = None

    def take(self, count: int) -> npt.NDArray[_Scalar]:
        """The next `count` items."""
        parts = [next(self._blocks) if self._rest is None else self._rest]
        available = len(parts[0])
        while available < count:
            parts.append(next(self._blocks))
            available += len(parts[-1])
        joined = np.concatenate(parts) if len(parts) > 1 else parts[0]
        self._rest = joined[count:]
        return joined[:count]


def shaped_gaussian(
    density: npt.NDArray[np.float64], rng: np.random.Generator
) -> Iterator[npt.NDArray[np.complex128]]:
    """A stationary circular Gaussian process of a given power spectral density.

    Independent blocks of N values are drawn in the frequency domain and joined with overlapping
    sine windows, whose squares add up to 1. The spectrum is that of the density smoothed by the
    window's, about 2 of its N frequencies wide, with side lobes that fall by 40 dB a decade.

    Arguments:
        density: (N,) at the frequencies of ``numpy.fft.fftfreq``, in power per cycle per sample:
            the mean is the variance of a value. N is even.
        rng: source of the values.

    Returns:
        Blocks of N/2 complex128 values, endlessly.
    """
    length = density.size
    window = np.sin(np.pi * (np.arange(length) + 0.5) / length)
    shape = np.sqrt(density * length)

    def draw() -> npt.NDArray[np.complex128]:
        return window * np.fft.ifft(shape * complex_gaussian(rng, length))

    last = draw()
    while True:
        block = draw()
        yield last[length // 2 :] + block[: length // 2]
        last = block
