"""How JPEG decoders enlarge chroma planes, and the plane from which an enlarged one came.

libjpeg's "fancy" upsampling takes samples to lie between pixels: a pixel has 3/4 of the sample on
its side and 1/4 of the next, in each halved direction; sixteenths are rounded with a bias that
alternates between columns (``h2v1_fancy_upsample``, ``h2v2_fancy_upsample`` in ``jdsample.c``, and
``h1v2_fancy_upsample`` of libjpeg-turbo, which alternates between rows). Simple decoders repeat
samples. Both cases, and full resolution, are written as weights of two samples along each axis,
four in all in either direction.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.compiled import signed

Plane = NDArray[np.uint8]
Sums = NDArray[np.int32]
Mask = NDArray[np.bool_]

_SLACK = 15
"""Sums of weighted samples that are cut to the same value are this far apart at most."""
_FINE = 8
"""Parts of a code in which samples are first fitted."""
_FINE_PASSES = 5
_ROUNDS = 4
_PASSES = 4


class Resolution(IntEnum):
    """Samples along an axis."""

    FULL = 0
    """One for each pixel."""
    REPEATED = 1
    """One for two pixels, which both take its value."""
    CENTRED = 2
    """One for two pixels, which take weighted means."""


class AxisTables(NamedTuple):
    """Which samples a pixel takes along an axis, and which pixels take a sample.

    Attributes:
        near, far: numbers of each pixel's two samples, (length,).
        near_weight, far_weight: their weights in quarters.
        starts: the first of four pixels that may take a sample, perhaps outside, (samples,).
        weights: the sample's weight in each of them, 0 outside, (samples, 4).
    """

    near: NDArray[np.int64]
    far: NDArray[np.int64]
    near_weight: int
    far_weight: int
    starts: NDArray[np.int64]
    weights: NDArray[np.int64]


@dataclass(frozen=True)
class ChromaAxis:
    """Samples along one axis.

    Attributes:
        resolution: their kind.
        offset: 1 if the first sample's first pixel was cropped off, otherwise 0.
    """

    resolution: Resolution = Resolution.FULL
    offset: int = 0

    def samples(self, length: int) -> int:
        """Number of samples for ``length`` pixels."""
        if self.resolution == Resolution.FULL:
            return length
        return (length - 1 + self.offset) // 2 + 1

    def tables(self, length: int) -> AxisTables:
        """Samples and weights of each pixel."""
        pixels, samples = np.arange(length), self.samples(length)
        if self.resolution == Resolution.FULL:
            near, starts = pixels, pixels - 1
        else:
            near, starts = (pixels + self.offset) // 2, 2 * np.arange(samples) - self.offset - 1
        far, near_weight, far_weight = near, 4, 0
        if self.resolution == Resolution.CENTRED:
            side = np.where((pixels + self.offset) % 2, 1, -1)
            far, near_weight, far_weight = np.clip(near + side, 0, samples - 1), 3, 1
        weights = np.zeros((samples, 4), dtype=np.int64)
        np.add.at(weights, (near, pixels - starts[near]), near_weight)
        np.add.at(weights, (far, pixels - starts[far]), far_weight)
        return AxisTables(near, far, near_weight, far_weight, starts, weights)


AXES = (
    ChromaAxis(),
    ChromaAxis(Resolution.REPEATED, 0),
    ChromaAxis(Resolution.REPEATED, 1),
    ChromaAxis(Resolution.CENTRED, 0),
    ChromaAxis(Resolution.CENTRED, 1),
)

UPSAMPLINGS = len(AXES) ** 2


@dataclass(frozen=True)
class Upsampling:
    """How a chroma plane is enlarged to the image's size."""

    rows: ChromaAxis = AXES[0]
    columns: ChromaAxis = AXES[0]

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Shape of a chroma plane."""
        return self.rows.samples(height), self.columns.samples(width)

    def biases(self) -> NDArray[np.int64]:
        """What is added before sixteenths are cut off, by parity of row and column, (2, 2)."""
        rows = self.rows.resolution == Resolution.CENTRED
        columns = self.columns.resolution == Resolution.CENTRED
        if rows and columns:
            biases = np.array([[8, 7], [8, 7]])
        elif columns:
            biases = np.array([[4, 8], [4, 8]])
        elif rows:
            biases = np.array([[4, 4], [8, 8]])
        else:
            biases = np.array([[8, 8], [8, 8]])
        return np.roll(biases, (-self.rows.offset, -self.columns.offset), (0, 1))

    def describe(self) -> str:
        """Subsampling in the usual notation, kind of upsampling and phase."""
        halved = self.rows.resolution > 0, self.columns.resolution > 0
        ratio = {(0, 0): "4:4:4", (0, 1): "4:2:2", (1, 0): "4:4:0", (1, 1): "4:2:0"}[halved]
        if not any(halved):
            return ratio
        centred = Resolution.CENTRED in (self.rows.resolution, self.columns.resolution)
        kind = "centred" if centred else "repeated"
        return f"{ratio} {kind}, phase ({self.rows.offset}, {self.columns.offset})"

    def code(self) -> int:
        """A number below ``UPSAMPLINGS``."""
        return AXES.index(self.rows) * len(AXES) + AXES.index(self.columns)

    @classmethod
    def from_code(cls, code: int) -> Upsampling:
        """The upsampling of a number.

        Raises:
            CorruptStream: the number stands for none.
        """
        rows, columns = divmod(code, len(AXES))
        if rows >= len(AXES):
            raise CorruptStream("unknown chroma upsampling")
        return cls(AXES[rows], AXES[columns])

    def enlarge(self, plane: Plane, height: int, width: int) -> Plane:
        """A chroma plane at the image's size, uint8 (height, width)."""
        rows, columns = self.rows.tables(height), self.columns.tables(width)
        enlarged: Plane = _cut(weighted_sums(plane, rows, columns), self.biases())
        return enlarged


@numba.njit(cache=True)
def weighted_sums(plane: NDArray[np.integer[Any]], rows: AxisTables, columns: AxisTables) -> Sums:
    """Sixteen times the mean of samples at every pixel."""
    sums = np.empty((len(rows.near), len(columns.near)), dtype=np.int32)
    for row in range(sums.shape[0]):
        i, k = rows.near[row], rows.far[row]
        for column in range(sums.shape[1]):
            j, m = columns.near[column], columns.far[column]
            near = columns.near_weight * signed(plane[i, j]) + columns.far_weight * signed(
                plane[i, m]
            )
            far = columns.near_weight * signed(plane[k, j]) + columns.far_weight * signed(
                plane[k, m]
            )
            sums[row, column] = rows.near_weight * near + rows.far_weight * far
    return sums


@numba.njit(cache=True)
def _least_sums(plane: Plane, biases: NDArray[np.int64]) -> Sums:
    """The least sums that are cut to given values; fifteen more are."""
    sums = np.empty(plane.shape, dtype=np.int32)
    height, width = plane.shape
    for row in range(height):
        for column in range(width):
            sums[row, column] = 16 * signed(plane[row, column]) - biases[row % 2, column % 2]
    return sums


@numba.njit(cache=True)
def _cut(sums: Sums, biases: NDArray[np.int64]) -> Plane:
    plane = np.empty(sums.shape, dtype=np.uint8)
    height, width = sums.shape
    for row in range(height):
        for column in range(width):
            plane[row, column] = (sums[row, column] + biases[row % 2, column % 2]) >> 4
    return plane


@numba.njit(cache=True)
def _cell_means(
    chroma: Plane, certain: Mask, rows: AxisTables, columns: AxisTables, samples: Sums
) -> None:
    """A first value for each sample: the mean of its pixels, or the value before it."""
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            total, count = 0, 0
            for k in range(4):
                for m in range(4):
                    if rows.weights[i, k] >= 3 and columns.weights[j, m] >= 3:
                        row, column = rows.starts[i] + k, columns.starts[j] + m
                        if certain[row, column]:
                            total += signed(chroma[row, column])
                            count += 1
            if count:
                samples[i, j] = (2 * total + count) // (2 * count)
            elif j:
                samples[i, j] = samples[i, j - 1]
            elif i:
                samples[i, j] = samples[i - 1, j]


@numba.njit(cache=True)
def _pixels_of(axis: AxisTables, first: int, last: int) -> tuple[int, int]:
    """Pixels (from, to) that samples ``first`` to ``last`` along an axis take part in."""
    return max(axis.starts[first], 0), min(axis.starts[last] + 4, len(axis.near))


@numba.njit(cache=True)
def _add(
    samples: Sums, sums: Sums, rows: AxisTables, columns: AxisTables, i: int, j: int, step: int
) -> None:
    """Changes a sample, and the sums with it."""
    samples[i, j] += step
    for k in range(4):
        row_step = step * rows.weights[i, k]
        for m in range(4):
            change = row_step * columns.weights[j, m]
            if change:
                sums[rows.starts[i] + k, columns.starts[j] + m] += change


@numba.njit(cache=True)
def _wake(waiting: Mask, i: int, j: int) -> None:
    for a in range(max(i - 1, 0), min(i + 2, waiting.shape[0])):
        for b in range(max(j - 1, 0), min(j + 2, waiting.shape[1])):
            waiting[a, b] = True


@numba.njit(cache=True)
def _relax(
    aims: Sums, certain: Mask, rows: AxisTables, columns: AxisTables, samples: Sums, sums: Sums
) -> None:
    """One pass of Gauss-Seidel relaxation towards sums that are nearest to their aims."""
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            slope, curvature = 0, 1
            for k in range(4):
                row = rows.starts[i] + k
                for m in range(4):
                    weight = rows.weights[i, k] * columns.weights[j, m]
                    column = columns.starts[j] + m
                    if weight and certain[row, column]:
                        slope += weight * (aims[row, column] - sums[row, column])
                        curvature += weight * weight
            step = (2 * slope + curvature) // (2 * curvature)
            if step:
                _add(samples, sums, rows, columns, i, j, step)


@numba.njit(cache=True)
def _descend(
    least: Sums,
    certain: Mask,
    rows: AxisTables,
    columns: AxisTables,
    samples: Sums,
    sums: Sums,
    waiting: Mask,
) -> None:
    """One pass of coordinate descent on the squared distances of sums from where they fit.

    Samples that are not waiting, since nothing near them has changed, are passed over.
    """
    weights, distances = np.empty(16, dtype=np.int64), np.empty(16, dtype=np.int64)
    for i in range(samples.shape[0]):
        for j in range(samples.shape[1]):
            if not waiting[i, j]:
                continue
            waiting[i, j] = False
            count, slope, curvature = 0, 0, 0
            for k in range(4):
                row = rows.starts[i] + k
                for m in range(4):
                    weight = rows.weights[i, k] * columns.weights[j, m]
                    column = columns.starts[j] + m
                    if weight and certain[row, column]:
                        weights[count] = weight
                        distances[count] = sums[row, column] - least[row, column]
                        slope += weight * _outside(distances[count])
                        curvature += weight * weight
                        count += 1
            if slope == 0:
                continue
            best_step, best = 0, 1 << 60
            newton = -((2 * slope + curvature) // (2 * curvature))
            for step in (0, newton - 1, newton, newton + 1):
                if not 0 <= signed(samples[i, j]) + step <= 255:
                    continue
                cost = 0
                for k in range(count):
                    cost += _outside(distances[k] + weights[k] * step) ** 2
                if cost < best:
                    best, best_step = cost, step
            if best_step:
                _add(samples, sums, rows, columns, i, j, best_step)
                _wake(waiting, i, j)


@numba.njit(cache=True)
def _misfit(
    least: Sums,
    certain: Mask,
    sums: Sums,
    row_range: tuple[int, int],
    column_range: tuple[int, int],
) -> int:
    """Squared distances of the sums in a rectangle from where they fit."""
    total = 0
    for row in range(row_range[0], row_range[1]):
        for column in range(column_range[0], column_range[1]):
            if certain[row, column]:
                total += _outside(sums[row, column] - least[row, column]) ** 2
    return total


@numba.njit(cache=True)
def _change_pairs(
    least: Sums,
    certain: Mask,
    rows: AxisTables,
    columns: AxisTables,
    samples: Sums,
    sums: Sums,
    waiting: Mask,
    unsettled: Mask,
) -> int:
    """Changes pairs of neighbouring samples by one each where that fits better.

    Means hardly show a checkerboard, so that single changes do not get across it.

    Returns:
        Number of changes.
    """
    changes = 0
    high, wide = samples.shape
    for i in range(high):
        for j in range(wide):
            if not unsettled[i, j]:
                continue
            unsettled[i, j] = False
            own = _pixels_of(rows, i, i), _pixels_of(columns, j, j)
            if _misfit(least, certain, sums, own[0], own[1]) == 0:
                continue
            row_range = _pixels_of(rows, max(i - 1, 0), min(i + 1, high - 1))
            column_range = _pixels_of(columns, max(j - 1, 0), min(j + 1, wide - 1))
            best = _misfit(least, certain, sums, row_range, column_range)
            best_step, best_other, best_a, best_b = 0, 0, i, j
            for step in (-1, 1):
                if not 0 <= signed(samples[i, j]) + step <= 255:
                    continue
                _add(samples, sums, rows, columns, i, j, step)
                for a in range(max(i - 1, 0), min(i + 2, high)):
                    for b in range(max(j - 1, 0), min(j + 2, wide)):
                        for other in (-1, 1):
                            if (a == i and b == j) or not 0 <= signed(samples[a, b]) + other <= 255:
                                continue
                            _add(samples, sums, rows, columns, a, b, other)
                            cost = _misfit(least, certain, sums, row_range, column_range)
                            _add(samples, sums, rows, columns, a, b, -other)
                            if cost < best:
                                best, best_step, best_other = cost, step, other
                                best_a, best_b = a, b
                _add(samples, sums, rows, columns, i, j, -step)
            if best_step:
                _add(samples, sums, rows, columns, i, j, best_step)
                _add(samples, sums, rows, columns, best_a, best_b, best_other)
                _wake(waiting, i, j)
                _wake(waiting, best_a, best_b)
                _wake(unsettled, i, j)
                _wake(unsettled, best_a, best_b)
                changes += 1
    return changes


@numba.njit(cache=True)
def _outside(distance: int) -> int:
    """How far a distance from the least sum that fits lies outside those that fit too."""
    return min(distance, 0) + max(distance - _SLACK, 0)


def fitted_samples(
    chroma: Plane, certain: Mask, upsampling: Upsampling, rounds: int = _ROUNDS
) -> Plane:
    """The chroma plane that gives given values after upsampling, as nearly as can be found.

    Args:
        chroma: values at every pixel, (H, W).
        certain: where these are known.
        upsampling: how the plane was enlarged.
        rounds: of a search that could go on.
    """
    chroma, certain = np.ascontiguousarray(chroma), np.ascontiguousarray(certain)
    height, width = chroma.shape
    axes = upsampling.rows.tables(height), upsampling.columns.tables(width)
    samples = np.full(upsampling.shape(height, width), 128, dtype=np.int32)
    _cell_means(chroma, certain, *axes, samples)
    least = _least_sums(chroma, upsampling.biases())
    fine, aims = samples * _FINE, least * _FINE + _FINE * _SLACK // 2
    sums = weighted_sums(fine, *axes)
    for _ in range(_FINE_PASSES):
        _relax(aims, certain, *axes, fine, sums)
    samples = np.clip((fine + _FINE // 2) // _FINE, 0, 255)
    sums = weighted_sums(samples, *axes)
    waiting = np.ones(samples.shape, dtype=np.bool_)
    unsettled = waiting.copy()
    for _ in range(rounds):
        for _ in range(_PASSES):
            _descend(least, certain, *axes, samples, sums, waiting)
        if not _change_pairs(least, certain, *axes, samples, sums, waiting, unsettled):
            break
    return samples.astype(np.uint8)
