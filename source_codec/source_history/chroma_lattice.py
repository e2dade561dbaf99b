"""Half-resolution chroma: where its samples lie, and the values in between.

Along an axis of ``length`` pixels the samples lie at ``first, first + 2, first + 4, ...``: on the
pixels of even number (``first`` = 0), of odd number (1), or of odd number with one more before the
image (-1, as in crops). Pixels between samples take the rounded mean of the nearest two, or four,
samples; beyond the last sample its value is repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.compiled import signed

_FIRST_POSITIONS = (0, 1, -1)


@dataclass(frozen=True)
class Axis:
    """Samples along one axis.

    Attributes:
        first: position of the first sample, in pixels: -1, 0 or 1.
        beyond: whether there is a sample one pixel beyond the image.
    """

    first: int = 0
    beyond: bool = False

    def samples(self, length: int) -> int:
        """Number of samples for an axis of ``length`` pixels, at least one."""
        inside = (length - 1 - self.first) // 2 + 1
        last = self.first + 2 * (inside - 1)
        return max(inside + (self.beyond and last == length - 2), 1)

    def samples_inside(self, length: int) -> slice:
        """The samples that lie on pixels of the image."""
        skipped = int(self.first < 0)
        return slice(skipped, skipped + (length - self.first % 2 + 1) // 2)


@dataclass(frozen=True)
class Lattice:
    """Positions of the chroma samples of an image."""

    rows: Axis = Axis()
    columns: Axis = Axis()

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Shape of a chroma plane."""
        return self.rows.samples(height), self.columns.samples(width)

    def interpolate(self, plane: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
        """A chroma plane at the image's size, (height, width)."""
        enlarged: NDArray[np.uint8] = _interpolate(
            plane, height, width, self.rows.first, self.columns.first
        )
        return enlarged

    def code(self) -> int:
        """A number from 0 to 35."""
        rows, columns = (
            2 * _FIRST_POSITIONS.index(axis.first) + axis.beyond
            for axis in (self.rows, self.columns)
        )
        return 6 * rows + columns

    @classmethod
    def from_code(cls, code: int) -> Lattice:
        """The lattice of a number.

        Raises:
            CorruptStream: the number stands for none.
        """
        if code >= 36:
            raise CorruptStream("unknown lattice of chroma samples")
        axes = [Axis(_FIRST_POSITIONS[part // 2], bool(part % 2)) for part in divmod(code, 6)]
        return cls(*axes)


@numba.njit(cache=True)
def sample_pair(pixel: int, first: int, samples: int) -> tuple[int, int]:
    """The samples (numbers, perhaps equal) whose mean a pixel's value is."""
    offset = pixel - first
    before = offset >> 1
    after = before + (offset & 1)
    return min(max(before, 0), samples - 1), min(max(after, 0), samples - 1)


@numba.njit(cache=True)
def mean_of_four(plane: NDArray[np.uint8], top: int, bottom: int, left: int, right: int) -> int:
    """Rounded mean of four samples; of two or one where rows or columns coincide."""
    total = signed(plane[top, left]) + signed(plane[top, right])
    total += signed(plane[bottom, left]) + signed(plane[bottom, right])
    return (total + 2) >> 2


@numba.njit(cache=True)
def _interpolate(
    plane: NDArray[np.uint8], height: int, width: int, first_row: int, first_column: int
) -> NDArray[np.uint8]:
    enlarged = np.empty((height, width), dtype=np.uint8)
    for row in range(height):
        top, bottom = sample_pair(row, first_row, plane.shape[0])
        for column in range(width):
            left, right = sample_pair(column, first_column, plane.shape[1])
            enlarged[row, column] = mean_of_four(plane, top, bottom, left, right)
    return enlarged
