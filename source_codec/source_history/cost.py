"""A quick estimate of what planes cost a lossless coder.

Residuals of the median edge detector (Weinberger, Seroussi and Sapiro: "The LOCO-I lossless image
compression algorithm", 2000), red and blue less green, are sorted by the activity around them; in
each class they are taken to be Laplacian, of the class's mean magnitude.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.compiled import signed

Counts = NDArray[np.int64]

_CLASSES = 12


@numba.njit(cache=True)
def _residual_statistics(plane: NDArray[np.int16]) -> tuple[Counts, Counts]:
    """Number of residuals in each class of activity, and the sum of their magnitudes."""
    counts = np.zeros(_CLASSES, dtype=np.int64)
    sums = np.zeros(_CLASSES, dtype=np.int64)
    height, width = plane.shape
    for row in range(height):
        for column in range(width):
            if row == 0 and column == 0:
                continue  # nothing to predict from, and of no weight
            north = signed(plane[row - 1, column]) if row else 0
            west = signed(plane[row, column - 1]) if column else north
            if row == 0:
                north = west
            corner = signed(plane[row - 1, column - 1]) if row and column else north
            east = signed(plane[row - 1, column + 1]) if row and column + 1 < width else north
            predicted = min(max(west + north - corner, min(west, north)), max(west, north))
            activity = abs(west - corner) + abs(north - corner) + abs(east - north)
            kind = 0
            while activity >> kind and kind < _CLASSES - 1:
                kind += 1
            counts[kind] += 1
            sums[kind] += abs(signed(plane[row, column]) - predicted)
    return counts, sums


def _laplacian_bits(count: int, total: int) -> float:
    """Bits of ``count`` whole numbers with magnitudes that add up to ``total``."""
    if count == 0:
        return 0.0
    mean = (total + 0.5) / (count + 0.5)
    ratio = (np.sqrt(1 + mean * mean) - 1) / mean  # of neighbouring probabilities
    at_zero = (1 - ratio) / (1 + ratio)
    model_bits = 0.5 * np.log2(count + 1)
    return float(-count * np.log2(at_zero) - total * np.log2(ratio) + model_bits)


def _decorrelated(plane: NDArray[np.int16]) -> tuple[NDArray[np.int16], ...]:
    """Green, and red and blue less green; a gray plane as it is."""
    if plane.ndim == 2:
        return (plane,)
    red, green, blue = (plane[..., channel] for channel in range(3))
    return green, red - green, blue - green


def estimated_bits(planes: Sequence[NDArray[np.uint8]]) -> float:
    """About how many bits a lossless coder needs for some planes, each (h, w) or (h, w, 3).

    It serves to compare ways to represent an image, not to predict any coder's figures.
    """
    bits = 0.0
    for plane in planes:
        for decorrelated in _decorrelated(plane.astype(np.int16)):
            counts, sums = _residual_statistics(decorrelated)
            bits += sum(_laplacian_bits(int(n), int(s)) for n, s in zip(counts, sums, strict=True))
    return bits
