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
        reach: int64 (3,), how far centres lie from the pixel at each scale; -1 where there are no
            boxes of it.
        weights: int32 (Q,), of the places in the base prediction, then zeros: there are 1 to 4
            places more that are always empty, for a multiple of four suits vectors.
    """

    fine: NDArray[np.int64]
    boxes: NDArray[np.int64]
    reach: NDArray[np.int64]
    weights: NDArray[np.int32]

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
        scaled = zip(BOX_SCALES, radii[1:], strict=True)
        reach = [scale * radius if radius >= 0 else -1 for scale, radius in scaled]
        return cls(
            np.array(fine, dtype=np.int64),
            np.array(boxes, dtype=np.int64),
            np.array(reach, dtype=np.int64),
            np.array(weights + [0] * padding, dtype=np.int32),
        )

    @property
    def places(self) -> int:
        """Their number P."""
        return len(self.fine) + len(self.boxes)

    @property
    def inputs(self) -> int:
        """Inputs of the network: four for each place, 17 of context; a multiple of eight."""
        return -(-(LANES * self.places + N_CONTEXT) // 8) * 8

    @property
    def gray_inputs(self) -> int:
        """Inputs that differ where the three channels are equal: see :meth:`gray_weights`."""
        return -(-(2 * len(self.weights) + N_CONTEXT) // 2) * 2

    def gray_weights(self, weight: NDArray[np.int8] | NDArray[np.int16]) -> NDArray[np.int16]:
        """Weights (out, inputs) as int16 (out, gray inputs), those of a gray image's inputs.

        These are the Q places' relative means, their presences, and the context.
        """
        places, padded = self.places, len(self.weights)
        by_place = weight[:, : LANES * places].reshape(-1, places, LANES).astype(np.int16)
        gray = np.zeros((len(weight), self.gray_inputs), dtype=np.int16)
        gray[:, :places] = by_place[..., :3].sum(axis=-1)
        gray[:, padded : padded + places] = by_place[..., 3]
        context = weight[:, LANES * places :][:, :N_CONTEXT]
        gray[:, 2 * padded : 2 * padded + N_CONTEXT] = context
        return gray

    @property
    def nearest(self) -> NDArray[np.intp]:
        """Indices of the places of the twelve nearest pixels, as far as the window has them."""
        result: NDArray[np.intp] = np.flatnonzero((self.fine**2).sum(axis=1) <= 4)
        return result


WIDE = Window.of((FINE_RADIUS, *BOX_RADII))
"""All places, for where little is known."""
NEAR = Window.of((3, 2, 1, -1))
"""Where much is known, what is farther away tells nothing more."""
BEHIND = Window.of((FINE_RADIUS, *BOX_RADII), WAVEFRONT_SLOPE)
"""The places that may be known in a wavefront."""
