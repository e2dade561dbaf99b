"""Photo CD images: from the planes of the disc to pixels, and from pixels back to planes.

Where no channel is clipped, a pixel has one triple of codes and nothing needs deciding. Chroma
samples under clipped pixels are not seen, but what was interpolated from them is; the search in
:mod:`~source_codec.source_history.hidden_chroma` finds samples that agree with it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.chroma_lattice import Axis, Lattice, mean_of_four, sample_pair
from source_codec.source_history.colour_law import (
    Evidence,
    evidence_of,
    is_plausible,
    photo_ycc,
    smooth_luma,
    to_rgb,
)
from source_codec.source_history.hidden_chroma import Samples, find_hidden_samples
from source_codec.source_history.transform import Candidate, Image, Planes, Shapes, rgb_only

Plane = NDArray[np.uint8]

_LAW = photo_ycc()
_LATTICE_SHARE = 0.8
"""Share of the places between samples that the lattice must explain."""


@numba.njit(cache=True)
def _explained(
    chroma: Plane,
    certain: NDArray[np.bool_],
    first_row: int,
    first_column: int,
    rows: tuple[int, int, int],
    columns: tuple[int, int, int],
) -> tuple[int, int]:
    """Places between samples in a range of rows and columns, and how many have the mean value.

    Samples are the pixels at ``first_row + 2i, first_column + 2j``.
    """
    height, width = chroma.shape
    samples_high, samples_wide = (height - first_row + 1) // 2, (width - first_column + 1) // 2
    places, good = 0, 0
    for row in range(rows[0], rows[1], rows[2]):
        above, below = sample_pair(row, first_row, samples_high)
        top, bottom = first_row + 2 * above, first_row + 2 * below
        for column in range(columns[0], columns[1], columns[2]):
            before, after = sample_pair(column, first_column, samples_wide)
            left, right = first_column + 2 * before, first_column + 2 * after
            if row == top and column == left:
                continue
            if (
                certain[row, column]
                and certain[top, left]
                and certain[top, right]
                and certain[bottom, left]
                and certain[bottom, right]
            ):
                places += 1
                good += mean_of_four(chroma, top, bottom, left, right) == chroma[row, column]
    return places, good


def _edge_is_repeated(counts: tuple[int, int]) -> bool:
    places, good = counts
    return good >= _LATTICE_SHARE * places


def find_lattice(chroma: Plane, certain: NDArray[np.bool_]) -> Lattice | None:
    """The lattice that explains the chroma between its samples, if there is one."""
    height, width = chroma.shape
    if min(height, width) < 3:
        return None
    stride = max(1, min(height, width) // 128) | 1
    shares = {}
    for first_row in (0, 1):
        for first_column in (0, 1):
            places, good = _explained(
                chroma, certain, first_row, first_column, (1, height - 1, stride), (1, width - 1, 1)
            )
            shares[first_row, first_column] = good / max(places, 1)
    first_row, first_column = max(shares, key=lambda phase: shares[phase])
    if shares[first_row, first_column] < _LATTICE_SHARE:
        return None

    def rows_fit(row: int) -> bool:
        span = (row, row + 1, 1), (first_column, width, 2)
        return _edge_is_repeated(_explained(chroma, certain, first_row, first_column, *span))

    def columns_fit(column: int) -> bool:
        span = (first_row, height, 2), (column, column + 1, 1)
        return _edge_is_repeated(_explained(chroma, certain, first_row, first_column, *span))

    return Lattice(
        _axis(first_row, height, rows_fit(0), rows_fit(height - 1)),
        _axis(first_column, width, columns_fit(0), columns_fit(width - 1)),
    )


def _axis(first: int, length: int, begins_repeated: bool, ends_repeated: bool) -> Axis:
    """Adds samples outside the image where repeating the last one inside does not explain it."""
    ends_between = (length - 1 - first) % 2 == 1
    return Axis(
        first=-1 if first == 1 and not begins_repeated else first,
        beyond=ends_between and not ends_repeated,
    )


def _visible_samples(evidence: Evidence, lattice: Lattice) -> Samples:
    """The chroma planes, with values where a sample's own pixel is certain."""
    height, width = evidence.certain.shape
    shape = lattice.shape(height, width)
    rows, columns = lattice.rows, lattice.columns
    inside = rows.samples_inside(height), columns.samples_inside(width)
    pixels = slice(rows.first % 2, None, 2), slice(columns.first % 2, None, 2)
    c1, c2 = np.zeros((2, *shape), dtype=np.uint8)
    seen = np.zeros(shape, dtype=np.bool_)
    c1[inside], c2[inside], seen[inside] = (
        plane[pixels] for plane in (evidence.c1, evidence.c2, evidence.certain)
    )
    return Samples(c1, c2, seen, rows.first, columns.first)


@dataclass(frozen=True)
class PhotoCd:
    """Luma and half-resolution chroma codes, (H, W) and twice the lattice's shape, to RGB."""

    lattice: Lattice

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """Reads the lattice."""
        if not side:
            raise CorruptStream("no lattice of chroma samples")
        return cls(Lattice.from_code(side[0])), side[1:]

    def write(self) -> bytes:
        """One byte for the lattice."""
        return bytes([self.lattice.code()])

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """Luma of the image's size, then two chroma planes of the lattice's."""
        rgb_only(channels)
        chroma = self.lattice.shape(height, width)
        return (height, width), chroma, chroma

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """Interpolates chroma and converts to RGB."""
        c1, c2 = (self.lattice.interpolate(plane, height, width) for plane in planes[1:])
        image: Image = to_rgb(_LAW, planes[0], c1, c2)
        return image

    def describe(self) -> str:
        """Colour space and lattice."""
        phase = f"({self.lattice.rows.first}, {self.lattice.columns.first})"
        return f"PhotoCD YCC, chroma 2x2, lattice phase {phase}"


def recover_photo_cd(image: Image) -> list[Candidate]:
    """The planes of an image that looks like one from a Photo CD."""
    if image.ndim != 3 or not is_plausible(_LAW, image):
        return []
    evidence = evidence_of(_LAW, image)
    lattice = find_lattice(evidence.c1, evidence.certain)
    if lattice is None:
        return []
    height, width = image.shape[:2]
    samples = _visible_samples(evidence, lattice)
    find_hidden_samples(_LAW, evidence, samples)
    full = [lattice.interpolate(plane, height, width) for plane in (samples.c1, samples.c2)]
    luma = smooth_luma(_LAW, image, *full)
    return [Candidate(PhotoCd(lattice), (luma, samples.c1, samples.c2))]
