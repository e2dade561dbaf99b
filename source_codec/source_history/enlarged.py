"""Enlargements by whole factors that repeat pixels.

Rows then change only at places that a factor apart, and so do columns; an image that was cropped
afterwards may begin within a repetition.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.transform import (
    Candidate,
    Image,
    Planes,
    Shapes,
    read_varint,
)
from source_codec.varint import varint

_MOST = 1 << 20


@dataclass(frozen=True)
class Repetition:
    """Repetition along one axis.

    Attributes:
        factor: how often each sample is repeated.
        skipped: how many of the first sample's repetitions lie before the image.
    """

    factor: int = 1
    skipped: int = 0

    def samples(self, length: int) -> int:
        """Number of samples under ``length`` pixels."""
        return (length + self.skipped - 1) // self.factor + 1

    def sample_of_pixel(self, length: int) -> NDArray[np.int64]:
        """The number of each pixel's sample, (length,)."""
        return (np.arange(length) + self.skipped) // self.factor

    def first_pixels(self, length: int) -> NDArray[np.int64]:
        """The first pixel of each sample, (samples,)."""
        return np.maximum(np.arange(self.samples(length)) * self.factor - self.skipped, 0)


@dataclass(frozen=True)
class Enlarged:
    """Repetition of rows and columns."""

    rows: Repetition
    columns: Repetition

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """Reads factors and phases."""
        axes = []
        for _ in range(2):
            factor, side = read_varint(side, _MOST)
            skipped, side = read_varint(side, _MOST)
            if skipped >= max(factor, 1) or factor == 0:
                raise CorruptStream("an enlargement by nothing, or one that begins elsewhere")
            axes.append(Repetition(factor, skipped))
        return cls(*axes), side

    def write(self) -> bytes:
        """Factor and phase of the rows, then of the columns."""
        numbers = self.rows.factor, self.rows.skipped, self.columns.factor, self.columns.skipped
        return b"".join(varint(number) for number in numbers)

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """One plane, smaller by the factors."""
        size = self.rows.samples(height), self.columns.samples(width)
        return (size if channels == 1 else (*size, channels),)

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """Repeats rows and columns."""
        rows, columns = self.rows.sample_of_pixel(height), self.columns.sample_of_pixel(width)
        return planes[0][rows][:, columns]

    def describe(self) -> str:
        """Factors and phase."""
        phase = f"({self.rows.skipped}, {self.columns.skipped})"
        return f"enlarged {self.columns.factor}x{self.rows.factor} by repetition, phase {phase}"


@numba.njit(cache=True)
def _changing_rows(image: Image) -> NDArray[np.bool_]:
    """Rows of (H, W, C) that differ from the one before."""
    changed = np.zeros(image.shape[0], dtype=np.bool_)
    for row in range(1, image.shape[0]):
        for column in range(image.shape[1]):
            for channel in range(image.shape[2]):
                if image[row, column, channel] != image[row - 1, column, channel]:
                    changed[row] = True
                    break
            if changed[row]:
                break
    return changed


@numba.njit(cache=True)
def _changing_columns(image: Image) -> NDArray[np.bool_]:
    """Columns of (H, W, C) that differ from the one before."""
    changed = np.zeros(image.shape[1], dtype=np.bool_)
    unchanged = image.shape[1] - 1
    for row in range(image.shape[0]):
        for column in range(1, image.shape[1]):
            if changed[column]:
                continue
            for channel in range(image.shape[2]):
                if image[row, column, channel] != image[row, column - 1, channel]:
                    changed[column] = True
                    unchanged -= 1
                    break
        if unchanged == 0:
            break
    return changed


def _repetition(changed: NDArray[np.bool_]) -> Repetition:
    """The largest factor that the places of change allow."""
    places = np.flatnonzero(changed)
    if len(places) == 0:
        return Repetition(len(changed), 0)
    if len(places) == 1:
        factor = int(max(places[0], len(changed) - places[0]))
    else:
        factor = math.gcd(*np.diff(places).tolist())
    return Repetition(factor, int(-places[0] % factor))


def recover_enlarged(image: Image) -> list[Candidate]:
    """The image before its enlargement, if its rows or columns repeat."""
    with_channels = image if image.ndim == 3 else image[..., None]
    rows = _repetition(_changing_rows(with_channels))
    columns = _repetition(_changing_columns(with_channels))
    if rows.factor == 1 and columns.factor == 1:
        return []
    height, width = image.shape[:2]
    plane = image[rows.first_pixels(height)][:, columns.first_pixels(width)]
    return [Candidate(Enlarged(rows, columns), (np.ascontiguousarray(plane),))]
