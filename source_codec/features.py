"""What the denoiser sees of a masked image, in integers.

Around each pixel that a step codes lie square windows of *masked box means*: up to 9x9 boxes of one
pixel, 7x7 of 3x3 pixels, 5x5 of 9x9, 3x3 of 27x27. A box contributes the mean of its known pixels
in each channel and whether it holds any known pixel. Fine boxes give the texture, coarse boxes the
surroundings while most of the image is still masked. How far each network sees is its
:mod:`~source_codec.window`.

The means are written relative to a *base prediction* (an inverse-distance mean of the known
pixels), and scaled by a power of two, the *exponent*, that follows the local activity, so that
eight bits serve smooth sky and coarse gravel alike. Base and exponent also anchor the predicted
distribution, which the network gives relative to them.

Units: "Q4" is 1/16 of a gray level. Everything is integer arithmetic, exact on any machine;
training and coding run this same kernel. (Where it divides in floats, :mod:`source_codec.vectors`
says why the rounded quotient is exact.)
"""

from __future__ import annotations

import threading
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.network_shape import ZERO_POINT
from source_codec.order import is_small
from source_codec.vectors import (
    SHORTS,
    add,
    as_bytes,
    common_mean,
    lane,
    load,
    load_halves,
    load_place,
    magnitude,
    means,
    no_sums,
    shift_right,
    store,
    subtract,
    times,
    total,
    weighted_sums,
    where_known,
)
from source_codec.window import (
    BOX_SCALES,
    FINE_RADIUS,
    LANES,
    N_DENSITIES,
    N_EXPONENTS,
    REACH,
    Window,
)

GREEN_FIRST = [1, 0, 2]
"""Coding order of the channels of an RGB image: green, red, blue. It is its own inverse."""
ONE = 32
"""The integer that stands for 1.0 on the network's inputs: known box, context flag set."""
FLAG = 127
MARGIN = FINE_RADIUS
"""Unknown pixels around a masked image, so that the finest window needs no bounds checks."""
_TILE = 16  # pixels gathered together: what was just written is slow to read
_TOGETHER = SHORTS // LANES  # places in a vector
_CACHE_LINE = 64  # bytes
_CONTEXT_ROOM = 32  # bytes for the inputs after those of the places
_TARGET = 34
"""Largest mean deviation in Q4 of exponent 0. Octaves are around the target 24, which times sqrt(2)
is about 34."""
_BASE_OF_NOTHING, _EXPONENT_OF_NOTHING = 128 << 4, 5
_LARGE_FACTOR = 4
_ROUNDING = (
    np.array([3 * [(1 << e) >> 1] + [ONE << e] for e in range(N_EXPONENTS)], dtype=np.int16)
    .repeat(_TOGETHER, axis=0)
    .reshape(-1)
)
"""By exponent, for a vector of places, what is added to a value's distance from the middle before
the shift: half a unit; a known place's presence, which is the middle, becomes :data:`ONE`."""


class Features(NamedTuple):
    """Network inputs, base prediction and exponent of N pixels.

    Attributes:
        inputs: uint8 ``(N, window.inputs)``, each input plus :data:`ZERO_POINT`. ``[4 p + c]`` is
            place p: three relative means and presence; then exponent class, density class, flags
            (one-hot).
        base: int32 ``(N, 3)``: base prediction in Q4.
        exponent: int32 ``(N,)``, 0 to 6; one input unit is ``2^exponent`` in Q4.
    """

    inputs: NDArray[np.uint8]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]

    @classmethod
    def empty(cls, window: Window, count: int) -> Features:
        """Room for those of so many pixels."""
        return cls(
            np.empty((count, window.inputs), dtype=np.uint8),
            np.empty((count, 3), dtype=np.int32),
            np.empty(count, dtype=np.int32),
        )


class _Scratch(NamedTuple):
    """One thread's room for a window's places, and what of the window does not change.

    Attributes:
        places: int16 (16 L,), L lanes of each pixel of a tile; from lane 4 Q on they mean nothing.
        factors, weights: int16 (4 Q,), whose products are the window's weights: one factor for each
            lane, and weights as :func:`vectors.weighted_sums` takes them.
        moves: int64 (F, 2), room for :func:`_moves`.
        corners: int64 (an even number, 3), for :func:`_corners`; of boxes that are not there zeros.
    """

    places: NDArray[np.int16]
    factors: NDArray[np.int16]
    weights: NDArray[np.int16]
    moves: NDArray[np.int64]
    corners: NDArray[np.int64]


def input_values(inputs: NDArray[np.uint8]) -> NDArray[np.int16]:
    """Network inputs as the numbers that they stand for, -127 to 127."""
    return inputs.astype(np.int16) - np.int16(ZERO_POINT)


def masked_images(count: int, height: int, width: int) -> NDArray[np.int16]:
    """Wholly masked images: int16 ``(B, H + 8, W + 8, 4)``, zeros.

    A known pixel holds its channels in Q4 plus one, and a one for its presence; unknown pixels and
    the margin hold zeros.
    """
    return np.zeros((count, height + 2 * MARGIN, width + 2 * MARGIN, LANES), dtype=np.int16)


@njit(cache=True, nogil=True)
def reveal(
    masked: NDArray[np.int16],
    images: NDArray[np.uint8],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
) -> None:
    """Makes pixels of all ``images`` (B, H, W, 3) known in the masked ones."""
    for b in range(images.shape[0]):
        for n in range(ys.shape[0]):
            y, x = ys[n] + MARGIN, xs[n] + MARGIN
            for c in range(3):
                masked[b, y, x, c] = (np.int16(images[b, ys[n], xs[n], c]) << 4) + 1
            masked[b, y, x, 3] = 1


def integral_tables(count: int, height: int, width: int) -> NDArray[np.int32]:
    """Summed-area tables of wholly masked images: int32 ``(B, H + 1, W + 81, 4)``, zeros.

    Beyond the left and right edge the sums go on unchanged, far enough for every box.
    """
    return np.zeros((count, height + 1, width + 1 + 2 * REACH, LANES), dtype=np.int32)


@njit(cache=True, nogil=True)
def masked_integrals(
    masked: NDArray[np.int16], out: NDArray[np.int32], first: int, stop: int
) -> None:
    """Rows of the summed-area tables of masked images, when all rows above are there.

    Args:
        masked: int16 ``(B, H + 8, W + 8, 4)``, from :func:`masked_images`.
        out: from :func:`integral_tables`, overwritten; the sums are modulo 2^32.
        first, stop: which rows of the images.
    """
    width = masked.shape[2] - 2 * MARGIN
    for b in range(masked.shape[0]):
        for y in range(first, stop):
            above, here = out[b, y].reshape(-1), out[b, y + 1].reshape(-1)
            pixels = masked[b, y + MARGIN].reshape(-1)
            here[: LANES * (REACH + 1)] = 0
            of_row = load_place(here, 0)
            for x in range(width):
                of_row = add(of_row, load_place(pixels, LANES * (x + MARGIN)))
                to = LANES * (x + REACH + 1)
                store(here, to, add(load_place(above, to), of_row))
            out[b, y + 1, width + REACH + 1 :] = out[b, y + 1, width + REACH]


@njit(cache=True, nogil=True)
def _moves(fine: NDArray[np.int64], stride: int, moves: NDArray[np.int64]) -> int:
    """How single pixels come to their places: by four that lie side by side.

    Where there are fewer side by side, others come along, but what belongs into their places is
    moved later.

    Args:
        fine: of the window.
        stride: pixels from row to row of a masked image.
        moves: overwritten: which four, counted in lanes from the pixel's place if there were no
            margin, and from which lane on they go.

    Returns:
        How many moves there are.
    """
    count = first = 0
    while first < fine.shape[0]:
        stop = first + 1
        while stop < fine.shape[0] and fine[stop, 1] == fine[stop - 1, 1] + 1:
            stop += 1
        for place in range(first, stop, _TOGETHER):
            start = max(min(place, stop - _TOGETHER), first)
            pixel = (fine[start, 0] + MARGIN) * stride + fine[start, 1] + MARGIN
            moves[count, 0], moves[count, 1] = LANES * pixel, LANES * start
            count += 1
        first = stop
    return count


@njit(cache=True, nogil=True)
def _corners(
    boxes: NDArray[np.int64], y: int, height: int, stride: int, corners: NDArray[np.int64]
) -> None:
    """Where the boxes around a pixel in column 0 begin and end in a summed-area table.

    Args:
        boxes: of the window.
        y: row of the pixel.
        height: of the image.
        stride: columns of the table.
        corners: overwritten for each box: the upper and the lower left corner, and how
            much farther those on the right lie, counted in lanes.
    """
    for box in range(boxes.shape[0]):
        scale = BOX_SCALES[boxes[box, 0]]
        half = (scale - 1) // 2
        first = y + boxes[box, 1] - half
        left = boxes[box, 2] - half + REACH
        corners[box, 0] = LANES * (min(max(first, 0), height) * stride + left)
        corners[box, 1] = LANES * (min(max(first + scale, 0), height) * stride + left)
        corners[box, 2] = LANES * scale


@njit(cache=True, nogil=True)
def _gather(
    pixels: NDArray[np.int16],
    stride: int,
    moves: NDArray[np.int64],
    table: NDArray[np.int32],
    corners: NDArray[np.int64],
    y: int,
    xs: NDArray[np.int32],
    boxes_at: int,
    places: NDArray[np.int16],
    at: int,
    line: int,
) -> None:
    """The places of pixels of one row.

    Args:
        pixels, table: of the masked image and its summed-area table.
        stride: pixels from row to row of the masked image.
        moves, corners: from :func:`_moves` and :func:`_corners`.
        y, xs: the pixels.
        boxes_at: lane of the first box.
        places: overwritten from ``at`` on, ``line`` lanes for each pixel.
    """
    for move in range(moves.shape[0]):
        start, to = moves[move, 0] + LANES * stride * y, at + moves[move, 1]
        for n in range(xs.shape[0]):
            store(places, to + n * line, load(pixels, start + LANES * xs[n]))
    for box in range(0, corners.shape[0], 2):
        a0, b0, w0 = corners[box, 0], corners[box, 1], corners[box, 2]
        a1, b1, w1 = corners[box + 1, 0], corners[box + 1, 1], corners[box + 1, 2]
        c0, c1, d0, d1 = a0 + w0, a1 + w1, b0 + w0, b1 + w1
        to = at + boxes_at + LANES * box
        for n in range(xs.shape[0]):
            x = LANES * np.int64(xs[n])
            # Modulo 2^32: on large images the table's own sums wrap, a box's do not.
            upper = subtract(load_halves(table, c0 + x, c1 + x), load_halves(table, a0 + x, a1 + x))
            lower = subtract(load_halves(table, d0 + x, d1 + x), load_halves(table, b0 + x, b1 + x))
            store(places, to + n * line, means(subtract(lower, upper)))


@njit(cache=True, nogil=True)
def _normalise(
    places: NDArray[np.int16],
    line: int,
    factors: NDArray[np.int16],
    weights: NDArray[np.int16],
    all_weights: int,
    out: NDArray[np.uint8],
    first: int,
    width: int,
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """From the places of pixels to network inputs, base and exponent.

    Places hold at most 4081, so that times a factor they fit 16 bits, and weighted sums 32.

    Args:
        places: ``line`` lanes for each pixel.
        factors, weights: of the window, which add up to ``all_weights``.
        out: overwritten from ``first`` on, ``width`` bytes for each pixel; only the places' inputs
            are written.
        base, exponent: of these pixels, overwritten.
    """
    size = weights.shape[0]
    for n in range(base.shape[0]):
        at, to = n * line, first + n * width
        sums = no_sums()
        for i in range(0, size, SHORTS):
            weighted = times(load(places, at + i), load(factors, i))
            sums = add(sums, weighted_sums(weighted, load(weights, i)))
        known_weights = np.int64(lane(sums, 3)) + np.int64(lane(sums, 7))
        middle = common_mean(sums)

        sums = no_sums()
        for i in range(0, size, SHORTS):
            deviation = magnitude(subtract(load(places, at + i), middle))
            weighted = times(deviation, load(factors, i))
            sums = add(sums, weighted_sums(weighted, load(weights, i)))
        # Unknown places, which hold zeros, are as far from the middle as that is from zero.
        from_zero = np.int64(0)
        for c in range(LANES):
            from_zero += np.int64(lane(middle, c))
        deviations = total(sums) - (all_weights - known_weights) * from_zero

        e = 0
        for k in range(N_EXPONENTS - 1):
            # The mean deviation, rounded down, is above that of exponent k.
            if deviations >= ((_TARGET << k) + 1) * 3 * known_weights:
                e += 1
        if known_weights == 0:
            e = _EXPONENT_OF_NOTHING
        exponent[n] = e
        for c in range(3):
            base[n, c] = lane(middle, c) - 1 if known_weights != 0 else _BASE_OF_NOTHING

        offset = subtract(load(_ROUNDING, SHORTS * e), middle)
        for i in range(0, size, SHORTS):
            place = load(places, at + i)
            units = as_bytes(where_known(shift_right(add(place, offset), e), place))
            store(out, to + i, units)


@njit(cache=True, nogil=True)
def _add_context(
    context: NDArray[np.uint8],
    exponent: NDArray[np.int32],
    out: NDArray[np.uint8],
    first: int,
    width: int,
    length: int,
) -> None:
    """The last ``length`` inputs of pixels, 16 to 32: see :func:`_context`."""
    for n in range(exponent.shape[0]):
        row, stop = _CONTEXT_ROOM * exponent[n], first + (n + 1) * width
        store(out, stop - length, load(context, row))
        store(out, stop - SHORTS, load(context, row + length - SHORTS))


@njit(cache=True, nogil=True)
def _extract(
    window: Window,
    masked: NDArray[np.int16],
    integrals: NDArray[np.int32],
    images: NDArray[np.int32],
    starts: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    context: NDArray[np.uint8],
    out: Features,
    scratch: _Scratch,
) -> None:
    """:func:`extract`, a tile of pixels at a time."""
    fine, boxes, window_weights, _ = window
    inputs, base, exponent = out
    places, factors, weights, moves, corners = scratch
    stride, height = masked.shape[2], integrals.shape[1] - 1
    line, boxes_at = places.shape[0] // _TILE, LANES * fine.shape[0]
    moves = moves[: _moves(fine, stride, moves)]
    all_weights = window_weights.sum()
    flat, width = inputs.reshape(-1), inputs.shape[1]
    length = width - LANES * (fine.shape[0] + boxes.shape[0])
    for run in range(images.shape[0]):
        pixels, table = masked[images[run]].reshape(-1), integrals[images[run]].reshape(-1)
        row = -1
        for first in range(starts[run], starts[run + 1], _TILE):
            stop = min(first + _TILE, starts[run + 1])
            n = first
            while n < stop:
                if ys[n] != row:
                    row = ys[n]
                    _corners(boxes, row, height, integrals.shape[2], corners)
                same = n + 1
                while same < stop and ys[same] == row:
                    same += 1
                around, to = xs[n:same], line * (n - first)
                _gather(
                    pixels, stride, moves, table, corners, row, around, boxes_at, places, to, line
                )
                n = same
            at, tile = width * first, slice(first, stop)
            _normalise(
                places,
                line,
                factors,
                weights,
                all_weights,
                flat,
                at,
                width,
                base[tile],
                exponent[tile],
            )
            _add_context(context, exponent[tile], flat, at, width, length)


def _aligned(values: NDArray[np.int16]) -> NDArray[np.int16]:
    """A copy from the start of a cache line on, which vectors then do not straddle."""
    room = np.empty(values.nbytes + _CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    aligned = room[start : start + values.nbytes].view(np.int16)
    aligned[:] = values
    return aligned


def _scratch_of(window: Window) -> _Scratch:
    padded, slots = len(window.weights), len(window.weights) - len(window.fine)
    # Only the weights of the nearest pixels do not fit 16 bits.
    factors = np.where(window.weights < 1 << 15, 1, _LARGE_FACTOR).astype(np.int16)
    by_twos = (window.weights // factors).astype(np.int16).reshape(-1, 1, 2)
    return _Scratch(
        places=_aligned(np.zeros(_TILE * LANES * (padded + _TOGETHER), dtype=np.int16)),
        factors=_aligned(np.repeat(factors, LANES)),
        weights=_aligned(np.repeat(by_twos, LANES, axis=1).reshape(-1)),
        moves=np.empty((len(window.fine), 2), dtype=np.int64),
        corners=np.zeros((slots + slots % 2, 3), dtype=np.int64),
    )


_held = threading.local()


def _scratch_for(window: Window) -> _Scratch:
    """This thread's, for one window of each size."""
    by_size: dict[int, tuple[Window, _Scratch]] = _held.__dict__.setdefault("by_size", {})
    size = len(window.weights)
    held = by_size.get(size)
    if held is None or held[0] is not window:
        held = by_size[size] = window, _scratch_of(window)
    return held[1]


@lru_cache
def _context(density: int, small: bool, gray: bool) -> NDArray[np.uint8]:
    """The inputs after those of the places, by exponent: uint8 ``(7 * 32,)``."""
    context = np.full((N_EXPONENTS, _CONTEXT_ROOM), ZERO_POINT, dtype=np.uint8)
    np.fill_diagonal(context, ZERO_POINT + FLAG)
    context[:, N_EXPONENTS + density] += FLAG
    context[:, N_EXPONENTS + N_DENSITIES] += FLAG * small
    context[:, N_EXPONENTS + N_DENSITIES + 1] += FLAG * gray
    return context.reshape(-1)


def extract(
    window: Window,
    masked: NDArray[np.int16],
    integrals: NDArray[np.int32],
    images: NDArray[np.int32],
    starts: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    out: Features,
) -> None:
    """Looks at N pixels.

    Args:
        window: what the network sees.
        masked: int16 ``(B, H + 8, W + 8, 4)``, from :func:`masked_images`, in coding order of the
            channels (green, red, blue).
        integrals: from :func:`masked_integrals`.
        images: int32 ``(U,)``, the images that the pixels are of, in U runs.
        starts: int32 ``(U + 1,)``: run u is rows ``starts[u]`` up to ``starts[u + 1]``.
        ys, xs: int32 ``(N,)``, the pixels to be coded; fastest in raster order.
        density: density class of the step, from :func:`density_class`.
        small, gray: image-level flags.
        out: overwritten.
    """
    context, scratch = _context(density, small, gray), _scratch_for(window)
    _extract(window, masked, integrals, images, starts, ys, xs, context, out, scratch)


def features_at(
    window: Window,
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    density: int,
    gray: bool,
) -> Features:
    """Features of pixels of a single masked image; arguments as of :func:`extract`."""
    height, width = known.shape
    masked, integrals = masked_images(1, height, width), integral_tables(1, height, width)
    seen_ys, seen_xs = (axis.astype(np.int32) for axis in np.nonzero(known))
    reveal(masked, image[None], seen_ys, seen_xs)
    masked_integrals(masked, integrals, 0, height)
    images, starts = np.zeros(1, dtype=np.int32), np.array([0, len(ys)], dtype=np.int32)
    features = Features.empty(window, len(ys))
    small = is_small(height, width)
    rows, columns = ys.astype(np.int32), xs.astype(np.int32)
    pixels = images, starts, rows, columns
    extract(window, masked, integrals, *pixels, density, small, gray, features)
    return features


def density_class(known_ranks: int, n_ranks: int) -> int:
    """Class 0 to 7 of the fraction of known pixels before a step; finer where little is known.

    Class limits: 1/64, 1/16, 1/8, 1/4, 3/8, 1/2, 3/4 of the pixels known.
    """
    limits = (1, 4, 8, 16, 24, 32, 48)
    return sum(64 * known_ranks >= limit * n_ranks for limit in limits)
