"""Windows: which places around a pixel a network sees, and in which sequence it takes them.

A place is a single pixel or a box of 3x3, 9x9 or 27x27 pixels (see :mod:`source_codec.features`).
"""

from __future__ import annotations

import math
from itertools import product
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from source_codec.order import WAVEFRONT_SLOPE

FINE_RADIUS = 4
"""Radius of the window of single pixels: 9x9."""
BOX_SCALES = (3, 9, 27)
BOX_RADII = (3, 2, 1)
"""Radii, in boxes, of the largest windows at the three coarse scales: 7x7, 5x5, 3x3."""
REACH = max(
    FINE_RADIUS,
    *(scale * r + scale // 2 for scale, r in zip(BOX_SCALES, BOX_RADII, strict=True)),
)
"""Rows above and below a pixel, and columns beside it, that windows look at."""

N_EXPONENTS = 7
N_DENSITIES = 8
N_FLAGS = 2
N_CONTEXT = N_EXPONENTS + N_DENSITIES + N_FLAGS
LANES = 4
"""Numbers held per pixel or box: three channels and presence."""


def _weight(dy: int, dx: int, level: int) -> int:
    """Weight of a place in the base prediction: inverse cube of the distance, tiny for boxes.

    All weights together are less than 2^31 / 4081, so that a weighted sum of Q4 values fits 32
    bits.
    """
    least = BOX_SCALES[level - 1] if level else 1
    d2 = max(dy * dy + dx * dx, least * least)
    return max(math.isqrt((1 << 32) // d2**3) >> 3 * level, 1)


class Window(NamedTuple):
    """The P places around a pixel that a network sees: single pixels, then boxes.

    Attributes:
        fine: int64 (F, 2), row and column of single pixels, relative to the pixel.
        boxes: int64 (P - F, 3): index into :data:`BOX_SCALES`, row and column of the centre.
        weights: int32 (Q,), of the places in the base prediction, then zeros: there are 1 to 4
            places more that are always empty, for a multiple of four suits vectors.
        nearest: int64 (12,), the places of the nearest pixels, fewer where the window lacks some.
    """

    fine: NDArray[np.int64]
    boxes: NDArray[np.int64]
    weights: NDArray[np.int32]
    nearest: NDArray[np.int64]

    @classmethod
    def of(cls, radii: tuple[int, int, int, int], slope: int | None = None) -> Window:
        """Squares of places.

        Args:
            radii: of the windows of single pixels and of boxes at each scale, in boxes; -1: none.
            slope: leaves out places that hold no pixel behind a wavefront of this slope.
        """
        fine, boxes, weights = [], [], []
        for level, (scale, radius) in enumerate(zip((1, *BOX_SCALES), radii, strict=True)):
            half = (scale - 1) // 2
            steps = range(-radius * scale, radius * scale + 1, scale) if radius >= 0 else ()
            for dy, dx in product(steps, steps):
                seen = slope is None or dx - half + slope * (dy - half) < 0
                if not seen or (level == 0 and dy == dx == 0):
                    continue
                weights.append(_weight(dy, dx, level))
                if level:
                    boxes.append((level - 1, dy, dx))
                else:
                    fine.append((dy, dx))
        padding = 4 - len(weights) % 4
        pixels = np.array(fine, dtype=np.int64)
        return cls(
            pixels,
            np.array(boxes, dtype=np.int64),
            np.array(weights + [0] * padding, dtype=np.int32),
            np.flatnonzero((pixels**2).sum(axis=1) <= 4).astype(np.int64),
        )

    @property
    def places(self) -> int:
        """Their number P."""
        return len(self.fine) + len(self.boxes)

    @property
    def inputs(self) -> int:
        """Inputs of the network: four for each place, 17 of context; a multiple of eight."""
        return -(-(LANES * self.places + N_CONTEXT) // 8) * 8


WIDE = Window.of((FINE_RADIUS, *BOX_RADII))
"""All places, for where little is known."""
NEAR = Window.of((3, 2, 1, -1))
"""Where much is known, what is farther away tells nothing more."""
BEHIND = Window.of((FINE_RADIUS, *BOX_RADII), WAVEFRONT_SLOPE)
"""The places that may be known in a wavefront."""
