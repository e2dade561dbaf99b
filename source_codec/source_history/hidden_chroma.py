"""Chroma samples that lie under clipped pixels of a Photo CD image.

A hidden sample shows in the pixels around it: each unclipped one gives the rounded mean of up to
four samples exactly, and each clipped one allows only some pairs of codes. So samples are first
confined to intervals, then filled in from the edge inwards, near to their neighbours' mean, then
changed one pair at a time wherever that makes more pixels agree, or as many with a smoother plane.
Every pass is over the hidden samples only, and there is a fixed number of passes.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.chroma_lattice import mean_of_four, sample_pair
from source_codec.source_history.colour_law import ColourLaw, Evidence, luma_interval, pixel_at
from source_codec.source_history.compiled import signed

Plane = NDArray[np.uint8]
Mask = NDArray[np.bool_]
Places = NDArray[np.int64]

_CONFINING_PASSES = 4
_FILL_REACH = 24
"""How far, in codes of both planes together, a first value may lie from its neighbours' mean."""
_FILL_DISAGREEMENT = 16
"""What one pixel off is worth, in codes of that distance."""
_SEARCH_PASSES = 8
_SEARCH_REACH = 5
"""Codes up and down that the search tries."""
_SEARCH_DISAGREEMENT = 64
"""What one pixel off is worth, in codes of roughness."""


class Samples(NamedTuple):
    """Two chroma planes on a lattice.

    Attributes:
        c1, c2: the codes.
        filled: which of them have a value.
        first_row, first_column: position of the first sample, in pixels.
    """

    c1: Plane
    c2: Plane
    filled: Mask
    first_row: int
    first_column: int


class Bounds(NamedTuple):
    """Least and largest code of each sample of a plane."""

    low: Plane
    high: Plane


@numba.njit(cache=True)
def _touches(mask: Mask, i: int, j: int) -> bool:
    """Whether one of the eight neighbours is set."""
    for a in range(max(i - 1, 0), min(i + 2, mask.shape[0])):
        for b in range(max(j - 1, 0), min(j + 2, mask.shape[1])):
            if mask[a, b] and (a != i or b != j):
                return True
    return False


@numba.njit(cache=True)
def _list(places: Places, count: int, listed: Mask, i: int, j: int) -> int:
    """Appends a sample unless it is listed; returns the new length."""
    if listed[i, j]:
        return count
    listed[i, j] = True
    places[count, 0] = i
    places[count, 1] = j
    return count + 1


@numba.njit(cache=True)
def _list_hidden(seen: Mask, listed: Mask, places: Places) -> None:
    high, wide = seen.shape
    count, done = 0, 0
    for anywhere in (False, True):  # the second round only if nothing is seen
        for i in range(high):
            for j in range(wide):
                if anywhere or _touches(seen, i, j):
                    count = _list(places, count, listed, i, j)
        while done < count:
            i, j = places[done, 0], places[done, 1]
            done += 1
            for a in range(max(i - 1, 0), min(i + 2, high)):
                for b in range(max(j - 1, 0), min(j + 2, wide)):
                    count = _list(places, count, listed, a, b)


def _hidden_places(seen: Mask) -> Places:
    """Hidden samples, (count, 2), from those next to seen ones inwards (breadth first)."""
    places = np.empty((np.count_nonzero(~seen), 2), dtype=np.int64)
    _list_hidden(seen, seen.copy(), places)
    return places


@numba.njit(cache=True)
def _footprint(position: int, length: int) -> tuple[int, int]:
    """Pixels (from, to) along an axis that a sample takes part in."""
    return max(position - 1, 0), min(position + 2, length)


@numba.njit(cache=True)
def _confine(
    chroma: Plane, certain: Mask, bounds: Bounds, places: Places, first_row: int, first_column: int
) -> None:
    """Narrows the intervals of hidden samples by the means seen around them.

    A mean m of four samples tells that their sum is 4m - 2 to 4m + 1. An empty interval, which a
    damaged pixel may cause, stays as it was.
    """
    height, width = chroma.shape
    low, high = bounds
    for turn in range(_CONFINING_PASSES):
        for number in range(len(places)):
            i, j = places[number if turn % 2 == 0 else len(places) - 1 - number]
            least, most = signed(low[i, j]), signed(high[i, j])
            row_range = _footprint(first_row + 2 * i, height)
            column_range = _footprint(first_column + 2 * j, width)
            for row in range(row_range[0], row_range[1]):
                top, bottom = sample_pair(row, first_row, low.shape[0])
                for column in range(column_range[0], column_range[1]):
                    if not certain[row, column]:
                        continue
                    left, right = sample_pair(column, first_column, low.shape[1])
                    times, others_least, others_most = 0, 0, 0
                    for a in (top, bottom):
                        for b in (left, right):
                            if a == i and b == j:
                                times += 1
                            else:
                                others_least += signed(low[a, b])
                                others_most += signed(high[a, b])
                    if times:
                        total = 4 * signed(chroma[row, column])
                        least = max(least, -((others_most - total + 2) // times))
                        most = min(most, (total + 1 - others_least) // times)
            if least <= most:
                low[i, j] = max(least, 0)
                high[i, j] = min(most, 255)


@numba.njit(cache=True)
def _mean_of_filled(plane: Plane, filled: Mask, bounds: Bounds, i: int, j: int) -> int:
    """Rounded mean of the neighbours that have a value, brought within a sample's bounds."""
    total, count = 0, 0
    for a in range(max(i - 1, 0), min(i + 2, plane.shape[0])):
        for b in range(max(j - 1, 0), min(j + 2, plane.shape[1])):
            if filled[a, b]:
                total += signed(plane[a, b])
                count += 1
    mean = (2 * total + count) // (2 * count) if count else 144
    return min(max(mean, signed(bounds.low[i, j])), signed(bounds.high[i, j]))


@numba.njit(cache=True)
def _disagreements(law: ColourLaw, image: Plane, samples: Samples, i: int, j: int) -> int:
    """Pixels that a sample takes part in, with all their samples filled, that no luma gives."""
    high, wide = samples.c1.shape
    filled = samples.filled
    row_range = _footprint(samples.first_row + 2 * i, image.shape[0])
    column_range = _footprint(samples.first_column + 2 * j, image.shape[1])
    count = 0
    for row in range(row_range[0], row_range[1]):
        top, bottom = sample_pair(row, samples.first_row, high)
        for column in range(column_range[0], column_range[1]):
            left, right = sample_pair(column, samples.first_column, wide)
            if (
                filled[top, left]
                and filled[top, right]
                and filled[bottom, left]
                and filled[bottom, right]
            ):
                c1 = mean_of_four(samples.c1, top, bottom, left, right)
                c2 = mean_of_four(samples.c2, top, bottom, left, right)
                red, green, blue = pixel_at(image, row, column)
                first, last = luma_interval(law, red, green, blue, c1, c2)
                count += first > last
    return count


@numba.njit(cache=True)
def _fill(
    law: ColourLaw, image: Plane, samples: Samples, bounds1: Bounds, bounds2: Bounds, places: Places
) -> None:
    """Gives hidden samples codes near to their neighbours' mean that allow the pixels so far."""
    height, width = image.shape[:2]
    for i, j in places:
        mean1 = _mean_of_filled(samples.c1, samples.filled, bounds1, i, j)
        mean2 = _mean_of_filled(samples.c2, samples.filled, bounds2, i, j)
        best1, best2 = mean1, mean2
        samples.filled[i, j] = True
        row, column = samples.first_row + 2 * i, samples.first_column + 2 * j
        inside = 0 <= row < height and 0 <= column < width
        red, green, blue = pixel_at(image, row, column) if inside else (0, 0, 0)
        least = 1 << 16
        for distance in range(_FILL_REACH + 1):
            if distance >= least:
                break
            for value1 in range(mean1 - distance, mean1 + distance + 1):
                if not bounds1.low[i, j] <= value1 <= bounds1.high[i, j]:
                    continue
                rest = distance - abs(value1 - mean1)
                for value2 in range(mean2 - rest, mean2 + rest + 1, max(2 * rest, 1)):
                    if not bounds2.low[i, j] <= value2 <= bounds2.high[i, j]:
                        continue
                    if inside:  # the sample's own pixel first: it rules most pairs out
                        first, last = luma_interval(law, red, green, blue, value1, value2)
                        if first > last:
                            continue
                    samples.c1[i, j] = value1
                    samples.c2[i, j] = value2
                    wrong = _disagreements(law, image, samples, i, j)
                    if distance + _FILL_DISAGREEMENT * wrong < least:
                        least = distance + _FILL_DISAGREEMENT * wrong
                        best1, best2 = value1, value2
        samples.c1[i, j] = best1
        samples.c2[i, j] = best2


@numba.njit(cache=True)
def roughness(plane: Plane, i: int, j: int) -> int:
    """Sum of a sample's distances from its four neighbours."""
    value = signed(plane[i, j])
    total = 0
    for a, b in ((i - 1, j), (i + 1, j), (i, j - 1), (i, j + 1)):
        if 0 <= a < plane.shape[0] and 0 <= b < plane.shape[1]:
            total += abs(value - signed(plane[a, b]))
    return total


@numba.njit(cache=True)
def _search(law: ColourLaw, image: Plane, samples: Samples, places: Places, waiting: Mask) -> None:
    """Coordinate descent on disagreements and roughness over the hidden samples."""
    c1, c2 = samples.c1, samples.c2
    for turn in range(_SEARCH_PASSES):
        for number in range(len(places)):
            i, j = places[number if turn % 2 == 0 else len(places) - 1 - number]
            if not waiting[i, j]:
                continue
            waiting[i, j] = False
            before1, before2 = signed(c1[i, j]), signed(c2[i, j])
            wrong = _disagreements(law, image, samples, i, j)
            best = _SEARCH_DISAGREEMENT * wrong + roughness(c1, i, j) + roughness(c2, i, j)
            best1, best2 = before1, before2
            reach = _SEARCH_REACH if wrong else 1
            for value1 in range(max(before1 - reach, 0), min(before1 + reach, 255) + 1):
                c1[i, j] = value1
                rough = roughness(c1, i, j)
                for value2 in range(max(before2 - reach, 0), min(before2 + reach, 255) + 1):
                    c2[i, j] = value2
                    cost = rough + roughness(c2, i, j)
                    if cost >= best:
                        continue
                    cost += _SEARCH_DISAGREEMENT * _disagreements(law, image, samples, i, j)
                    if cost < best:
                        best, best1, best2 = cost, value1, value2
            c1[i, j] = best1
            c2[i, j] = best2
            if best1 != before1 or best2 != before2:
                waiting[max(i - 1, 0) : i + 2, max(j - 1, 0) : j + 2] = True


def find_hidden_samples(law: ColourLaw, evidence: Evidence, samples: Samples) -> None:
    """Fills in the chroma samples that have no value yet, in place.

    Args:
        law: the conversion to RGB.
        evidence: what the image tells of its chroma.
        samples: the chroma planes; the samples with a value are taken to be right.
    """
    seen = samples.filled.copy()
    places = _hidden_places(seen)
    firsts = samples.first_row, samples.first_column
    bounds = []
    for plane, chroma in ((samples.c1, evidence.c1), (samples.c2, evidence.c2)):
        low = np.where(seen, plane, np.uint8(0))
        bounds.append(Bounds(low, np.where(seen, plane, np.uint8(255))))
        _confine(chroma, evidence.certain, bounds[-1], places, *firsts)
    _fill(law, evidence.image, samples, *bounds, places)
    _search(law, evidence.image, samples, places, ~seen)
