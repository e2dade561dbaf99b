"""A quick estimate, in numpy alone, of what a lossless coder needs for planes of up to 16 bits.

Residuals of the median edge detector are sorted by the activity around them; each class counts
with its empirical entropy and what it takes to learn that. It serves to compare ways to represent
an image, not to predict any coder's figures.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from source_codec.composition.parts import Samples

_SAMPLE_ROWS = 256
_SAMPLE_COLUMNS = 512


def sampled(image: Samples) -> Samples:
    """The middle of a large image, at most 256 rows of 512 pixels."""
    top = max(0, (image.shape[0] - _SAMPLE_ROWS) // 2)
    left = max(0, (image.shape[1] - _SAMPLE_COLUMNS) // 2)
    return image[top : top + _SAMPLE_ROWS, left : left + _SAMPLE_COLUMNS]


def _entropy(values: NDArray[np.int64]) -> float:
    """Bits of whole numbers: their empirical entropy, and half a logarithm for each kind."""
    if values.size == 0:
        return 0.0
    counts = np.unique(values, return_counts=True)[1]
    bits = -(counts * np.log2(counts / values.size)).sum()
    return float(bits + 0.5 * len(counts) * np.log2(values.size + 1))


def plane_bits(plane: NDArray[np.int64]) -> float:
    """Estimated bits of a plane (H, W) of whole numbers."""
    padded = np.pad(plane, ((1, 0), (1, 1)), mode="edge")
    north, west, corner = padded[:-1, 1:-1], padded[1:, :-2], padded[:-1, :-2]
    east = padded[:-1, 2:]
    low, high = np.minimum(north, west), np.maximum(north, west)
    residual = plane - np.clip(north + west - corner, low, high)
    activity = abs(west - corner) + abs(north - corner) + abs(east - north)
    classes = np.ceil(np.log2(activity + 1)).astype(np.int64)
    return sum(_entropy(residual[classes == kind]) for kind in np.unique(classes))


def image_bits(image: Samples) -> float:
    """Estimated bits of an image (H, W) or (H, W, 3); of RGB, red and blue less green."""
    wide = image.astype(np.int64)
    if wide.ndim == 2:
        return plane_bits(wide)
    green = wide[..., 1]
    return plane_bits(green) + sum(plane_bits(wide[..., c] - green) for c in (0, 2))
