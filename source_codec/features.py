"""What the denoiser sees of a masked image, in integers.

Around each pixel that a step codes lie four square windows of *masked box means*: 9x9 boxes of one
pixel, 7x7 of 3x3 pixels, 5x5 of 9x9, 3x3 of 27x27. A box contributes the mean of its known pixels
in each channel and whether it holds any known pixel. Fine boxes give the texture, coarse boxes the
surroundings while most of the image is still masked.

The means are written relative to a *base prediction* (an inverse-distance mean of the known
pixels), and scaled by a power of two, the *exponent*, that follows the local activity, so that
eight bits serve smooth sky and coarse gravel alike. Base and exponent also anchor the predicted
distribution, which the network gives relative to them.

Units: "Q4" is 1/16 of a gray level. Everything is integer arithmetic, exact on any machine;
training and coding run this same kernel. (The float32 quotients of :func:`_box_means` are integers
divided and rounded in a way that is shown there to be exact.)
"""

from __future__ import annotations

import math
import threading
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

GREEN_FIRST = [1, 0, 2]
"""Coding order of the channels of an RGB image: green, red, blue. It is its own inverse."""
FINE_RADIUS = 4
"""Radius of the window of single pixels: 9x9."""
BOX_SCALES = (3, 9, 27)
BOX_RADII = (3, 2, 1)
"""Radii, in boxes, of the windows at the three coarse scales: 7x7, 5x5, 3x3."""

N_FINE = (2 * FINE_RADIUS + 1) ** 2 - 1
N_BOXES = sum((2 * r + 1) ** 2 for r in BOX_RADII)
N_PLACES = N_FINE + N_BOXES
N_EXPONENTS = 7
N_DENSITIES = 8
N_FLAGS = 2
N_CONTEXT = N_EXPONENTS + N_DENSITIES + N_FLAGS
N_INPUTS = 672
"""Inputs of the network: 4 x 163 places, 17 context inputs, 3 unused ones (a multiple of 32)."""
GRAY_INPUTS = 346
"""Inputs that differ where the three channels are equal: see :func:`gray_weights`."""
ONE = 32
"""The integer that stands for 1.0 on the network's inputs: known box, context flag set."""
FLAG = 127


LANES = 4
"""Numbers held per pixel or box: three channels and presence."""
MARGIN = FINE_RADIUS
"""Unknown pixels around a masked image, so that the finest window needs no bounds checks."""
_BAND = 64  # rows of box means held at once
_REACH = max(scale * radius for scale, radius in zip(BOX_SCALES, BOX_RADII, strict=True))
_OVERHANG = _REACH + (max(BOX_SCALES) - 1) // 2
_PLACES = N_PLACES + 1  # one place is always empty: a multiple of four suits vectors
_TILE = 16  # pixels gathered together: what was just written is slow to read


def gray_weights(weight: NDArray[np.int8] | NDArray[np.int16]) -> NDArray[np.int16]:
    """Weights (out, 672) of the network's inputs, as int16 (out, 346) of a gray image's inputs.

    These are the 163 places' relative means and a zero, their presences and a zero, the context,
    and a zero.
    """
    by_place = weight[:, : LANES * N_PLACES].reshape(-1, N_PLACES, LANES).astype(np.int16)
    gray = np.zeros((len(weight), GRAY_INPUTS), dtype=np.int16)
    gray[:, :N_PLACES] = by_place[..., :3].sum(axis=-1)
    gray[:, _PLACES : _PLACES + N_PLACES] = by_place[..., 3]
    context = weight[:, LANES * N_PLACES :][:, :N_CONTEXT]
    gray[:, 2 * _PLACES : 2 * _PLACES + N_CONTEXT] = context
    return gray


def _place_weights() -> NDArray[np.int32]:
    """Weights of the base prediction: inverse cube of the distance, tiny for the coarse boxes.

    They sum to less than 2^31 / 4081, so that a weighted sum of Q4 values fits 32 bits.
    """
    weights = []
    for dy in range(-FINE_RADIUS, FINE_RADIUS + 1):
        for dx in range(-FINE_RADIUS, FINE_RADIUS + 1):
            if dy or dx:
                d2 = dy * dy + dx * dx
                weights.append(math.isqrt((1 << 32) // d2**3))
    for scale, radius, damping in zip(BOX_SCALES, BOX_RADII, (3, 6, 9), strict=True):
        for by in range(-radius, radius + 1):
            for bx in range(-radius, radius + 1):
                d2 = max(by * by + bx * bx, 1) * scale * scale
                weights.append(max(math.isqrt((1 << 32) // d2**3) >> damping, 1))
    return np.array([*weights, 0], dtype=np.int32)


_WEIGHTS = _place_weights()


def masked_image(height: int, width: int) -> NDArray[np.int16]:
    """A wholly masked image: int16 ``(H + 8, W + 8, 4)``, zeros.

    A known pixel holds its channels in Q4 plus one, and a one for its presence; unknown pixels and
    the margin hold zeros.
    """
    return np.zeros((height + 2 * MARGIN, width + 2 * MARGIN, LANES), dtype=np.int16)


@njit(cache=True, nogil=True)
def reveal(
    masked: NDArray[np.int16],
    image: NDArray[np.uint8],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
) -> None:
    """Makes pixels of ``image`` (H, W, 3) known in a masked image."""
    for n in range(ys.shape[0]):
        y, x = ys[n] + MARGIN, xs[n] + MARGIN
        for c in range(3):
            masked[y, x, c] = (np.int16(image[ys[n], xs[n], c]) << 4) + 1
        masked[y, x, 3] = 1


def integral_table(height: int, width: int) -> NDArray[np.int32]:
    """Room for the summed-area table of an image: int32 ``(H + 1, W + 81, 4)``.

    Beyond the left and right edge the sums go on unchanged, far enough for every box.
    """
    return np.empty((height + 1, width + 1 + 2 * _OVERHANG, LANES), dtype=np.int32)


@njit(cache=True, nogil=True)
def masked_integral(masked: NDArray[np.int16], out: NDArray[np.int32]) -> None:
    """Summed-area table of a masked image.

    Args:
        masked: int16 ``(H + 8, W + 8, 4)``, from :func:`masked_image`.
        out: from :func:`integral_table`, overwritten; the sums are modulo 2^32.
    """
    height, width = masked.shape[0] - 2 * MARGIN, masked.shape[1] - 2 * MARGIN
    out[0] = 0
    for y in range(height):
        s0 = s1 = s2 = s3 = np.int32(0)
        above, here, pixels = out[y], out[y + 1], masked[y + MARGIN]
        here[: _OVERHANG + 1] = 0
        for x in range(width):
            s0 += pixels[x + MARGIN, 0]
            s1 += pixels[x + MARGIN, 1]
            s2 += pixels[x + MARGIN, 2]
            s3 += pixels[x + MARGIN, 3]
            to = x + _OVERHANG + 1
            here[to, 0] = above[to, 0] + s0
            here[to, 1] = above[to, 1] + s1
            here[to, 2] = above[to, 2] + s2
            here[to, 3] = above[to, 3] + s3
        here[width + _OVERHANG + 1 :] = here[width + _OVERHANG]


# Without checks for division by zero, which would rule out vector instructions.
@njit(cache=True, nogil=True, error_model="numpy")
def _box_means(
    integral: NDArray[np.int32],
    scale: int,
    reach: int,
    first: int,
    rows: int,
    sums: NDArray[np.int32],
    counts: NDArray[np.int32],
    out: NDArray[np.int16],
) -> None:
    """Masked means of the boxes around all pixels of some rows.

    Args:
        integral: from :func:`masked_integral`.
        scale: side of the boxes.
        reach: how far left and right of the image box centres go.
        first, rows: the rows of box centres; they may lie outside the image.
        sums, counts: scratch, int32 (at least W + 2 reach, 4).
        out: int16 (at least rows, W + 2 reach, 4), overwritten, as :func:`masked_image`.
    """
    height, width = integral.shape[0] - 1, integral.shape[1] - 1 - 2 * _OVERHANG
    columns = width + 2 * reach
    half = (scale - 1) // 2
    left = _OVERHANG - reach - half
    flat = sums[:columns].reshape(-1)
    divisors = counts[:columns].reshape(-1)
    one = np.int32(1)
    for row in range(rows):
        y0 = min(max(first + row - half, 0), height)
        y1 = min(max(first + row - half + scale, 0), height)
        upper_left = integral[y0, left : left + columns].reshape(-1)
        upper_right = integral[y0, left + scale : left + scale + columns].reshape(-1)
        lower_left = integral[y1, left : left + columns].reshape(-1)
        lower_right = integral[y1, left + scale : left + scale + columns].reshape(-1)
        for i in range(LANES * columns):
            # Modulo 2^32: on large images the table's own sums wrap, a box's do not.
            flat[i] = lower_right[i] - upper_right[i] - lower_left[i] + upper_left[i]
        for x in range(columns):
            count = max(sums[x, 3], one)
            for c in range(LANES):
                counts[x, c] = count
        # Boxes without known pixels give zeros, others a one as their presence. The rounding is
        # exact: a quotient of integers below 2^24 is never so close to a tie that its own rounding
        # to 24 bits could reach it.
        means = out[row].reshape(-1)
        for i in range(LANES * columns):
            means[i] = np.int16(np.float32(flat[i]) / np.float32(divisors[i]) + np.float32(0.5))


@njit(cache=True, nogil=True, inline="always")
def _exponent(activity: int) -> int:
    """The exponent for a mean deviation in Q4: octaves around the target 24, which times sqrt(2)
    is about 34."""
    e = 0
    while e < N_EXPONENTS - 1 and activity > (np.int64(34) << e):
        e += 1
    return e


@njit(cache=True, nogil=True)
def _normalise(
    places: NDArray[np.int64],
    planes: NDArray[np.int32],
    offsets: NDArray[np.int64],
    known: NDArray[np.int64],
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """From the places (n, 164) of pixels to network inputs, base and exponent.

    Plain loops over contiguous memory, in 32 bits where there is arithmetic: they compile to vector
    instructions. What moves or compares whole places runs over int64.

    Args:
        places: of each pixel, the four lanes together.
        planes, offsets, known: scratch, (4, 164), (165,) and (164,).
        inputs, base, exponent: as of :func:`extract`; only the places' inputs are written.
    """
    v0, v1, v2, present = planes[0], planes[1], planes[2], planes[3]
    offset_lanes, known_lanes = offsets.view(np.int16), known.view(np.int16)
    last = offset_lanes[LANES * _PLACES :]
    for n in range(places.shape[0]):
        place, out = places[n], inputs[n]
        for p in range(_PLACES):
            # Lane c is in bits 16 c and up (processors of the other byte order fail the self-test).
            v0[p] = place[p] << 48 >> 48
            v1[p] = place[p] << 32 >> 48
            v2[p] = place[p] << 16 >> 48
            present[p] = place[p] >> 48
        s0 = s1 = s2 = s3 = np.int32(0)
        for p in range(_PLACES):
            w = _WEIGHTS[p]
            s0 = np.int32(s0 + np.int32(w * v0[p]))
            s1 = np.int32(s1 + np.int32(w * v1[p]))
            s2 = np.int32(s2 + np.int32(w * v2[p]))
            s3 = np.int32(s3 + np.int32(w * present[p]))
        weight_sum = np.int64(s3)
        if weight_sum == 0:
            base[n] = 128 << 4
            exponent[n] = 5
            out[: LANES * _PLACES] = 0
            continue
        half = weight_sum >> 1
        b0 = np.int32((s0 + half) // weight_sum)
        b1 = np.int32((s1 + half) // weight_sum)
        b2 = np.int32((s2 + half) // weight_sum)
        base[n, 0], base[n, 1], base[n, 2] = b0 - 1, b1 - 1, b2 - 1

        d0 = d1 = d2 = np.int32(0)
        for p in range(_PLACES):
            w = np.int32(_WEIGHTS[p] * present[p])
            d0 = np.int32(d0 + np.int32(w * abs(np.int32(v0[p] - b0))))
            d1 = np.int32(d1 + np.int32(w * abs(np.int32(v1[p] - b1))))
            d2 = np.int32(d2 + np.int32(w * abs(np.int32(v2[p] - b2))))
        activity = (np.int64(d0) + np.int64(d1) + np.int64(d2)) // (3 * weight_sum)
        e = _exponent(activity)
        exponent[n] = e

        rounding = (1 << e) >> 1
        last[0], last[1], last[2] = rounding - b0, rounding - b1, rounding - b2
        last[3] = (ONE << e) - 1  # from the one of a known place to ONE
        offset = offsets[_PLACES]
        for p in range(_PLACES):
            offsets[p] = offset
        for p in range(_PLACES):
            known[p] = np.int64(-1) if place[p] != 0 else np.int64(0)
        lanes = place.view(np.int16)
        shift, limit = np.int32(e), np.int32(127)
        for i in range(LANES * _PLACES):
            units = np.int32(np.int32(lanes[i]) + np.int32(offset_lanes[i])) >> shift
            out[i] = min(max(np.int32(units), -limit), limit) & np.int32(known_lanes[i])


@njit(cache=True, nogil=True)
def _normalise_gray(
    places: NDArray[np.int64],
    planes: NDArray[np.int32],
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """:func:`_normalise` where the channels are equal, to the inputs of :func:`gray_weights`."""
    value, present = planes[0], planes[1]
    for n in range(places.shape[0]):
        place, out = places[n], inputs[n]
        for p in range(_PLACES):
            value[p] = place[p] << 48 >> 48
            present[p] = place[p] >> 48
        total = weights = np.int32(0)
        for p in range(_PLACES):
            w = _WEIGHTS[p]
            total = np.int32(total + np.int32(w * value[p]))
            weights = np.int32(weights + np.int32(w * present[p]))
        weight_sum = np.int64(weights)
        if weight_sum == 0:
            base[n] = 128 << 4
            exponent[n] = 5
            out[: 2 * _PLACES] = 0
            continue
        mean = np.int32((total + (weight_sum >> 1)) // weight_sum)
        base[n] = mean - 1
        deviation = np.int32(0)
        for p in range(_PLACES):
            w = np.int32(_WEIGHTS[p] * present[p])
            deviation = np.int32(deviation + np.int32(w * abs(np.int32(value[p] - mean))))
        e = _exponent(np.int64(deviation) // weight_sum)
        exponent[n] = e
        offset, shift = np.int32(((1 << e) >> 1) - mean), np.int32(e)
        limit = np.int32(127)
        for p in range(_PLACES):
            units = np.int32(value[p] + offset) >> shift
            out[p] = min(max(np.int32(units), -limit), limit) * present[p]
        for p in range(_PLACES):
            out[_PLACES + p] = np.int32(ONE) * present[p]


@njit(cache=True, nogil=True)
def _extract(
    masked: NDArray[np.int64],
    integral: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    sums: NDArray[np.int32],
    counts: NDArray[np.int32],
    means: NDArray[np.int16],
    means64: NDArray[np.int64],
) -> None:
    """:func:`extract`, a band of rows at a time; the four lanes of a place move as one int64."""
    places = np.zeros((_TILE, _PLACES), dtype=np.int64)
    planes = np.empty((LANES, _PLACES), dtype=np.int32)
    offsets, known = np.empty(_PLACES + 1, dtype=np.int64), np.empty(_PLACES, dtype=np.int64)
    narrow = inputs.shape[1] == GRAY_INPUTS
    context = 2 * _PLACES if narrow else LANES * N_PLACES
    done = 0
    while done < ys.shape[0]:
        top = ys[done]
        stop = done
        bottom = top
        while stop < ys.shape[0] and top <= ys[stop] < top + _BAND:
            bottom = max(bottom, ys[stop])
            stop += 1
        rows = bottom - top + 1
        for k in range(3):
            reach = BOX_SCALES[k] * BOX_RADII[k]
            first, count = top - reach, rows + 2 * reach
            _box_means(integral, BOX_SCALES[k], reach, first, count, sums, counts, means[k])
        for first in range(done, stop, _TILE):
            end = min(first + _TILE, stop)
            for n in range(first, end):
                y, x, window = ys[n], xs[n], places[n - first]
                place = 0
                for dy in range(2 * FINE_RADIUS + 1):
                    row = masked[y + dy]
                    for dx in range(2 * FINE_RADIUS + 1):
                        if dy != FINE_RADIUS or dx != FINE_RADIUS:
                            window[place] = row[x + dx]
                            place += 1
                for k in range(3):
                    scale = BOX_SCALES[k]
                    for by in range(2 * BOX_RADII[k] + 1):
                        row = means64[k, y - top + by * scale]
                        for bx in range(2 * BOX_RADII[k] + 1):
                            window[place] = row[x + bx * scale]
                            place += 1
            pixels = slice(first, end)
            gathered, out = places[: end - first], inputs[pixels]
            if narrow:
                _normalise_gray(gathered, planes, out, base[pixels], exponent[pixels])
            else:
                _normalise(gathered, planes, offsets, known, out, base[pixels], exponent[pixels])
            for n in range(first, end):
                inputs[n, context:] = 0
                inputs[n, context + exponent[n]] = FLAG
                inputs[n, context + N_EXPONENTS + density] = FLAG
                if small:
                    inputs[n, context + N_EXPONENTS + N_DENSITIES] = FLAG
                if gray:
                    inputs[n, context + N_EXPONENTS + N_DENSITIES + 1] = FLAG
        done = stop


_scratch = threading.local()


def extract(
    masked: NDArray[np.int16],
    integral: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """Network inputs, base prediction and exponent of N pixels.

    Args:
        masked: int16 ``(H + 8, W + 8, 4)``, from :func:`masked_image`, in coding order of the
            channels (green, red, blue).
        integral: from :func:`masked_integral`.
        ys, xs: int32 ``(N,)``, the pixels to be coded; fastest in raster order.
        density: density class of the step, from :func:`density_class`.
        small, gray: image-level flags.
        inputs: int16 ``(N, 672)``, overwritten. ``[4 p + c]`` is place p: three relative means and
            presence; then exponent class, density class, flags (one-hot). Or ``(N, 346)`` of a gray
            image, as :func:`gray_weights` says.
        base: int32 ``(N, 3)``, overwritten: base prediction in Q4.
        exponent: int32 ``(N,)``, overwritten: 0 to 6; one input unit is ``2^exponent`` in Q4.
    """
    columns = integral.shape[1]
    rows = min(_BAND, integral.shape[0] - 1) + 2 * _REACH
    means = getattr(_scratch, "means", None)
    if means is None or means.shape[1] < rows or means.shape[2] != columns:
        means = _scratch.means = np.empty((3, rows, columns, LANES), dtype=np.int16)
    _extract(
        masked.view(np.int64)[..., 0],
        integral,
        ys,
        xs,
        density,
        small,
        gray,
        inputs,
        base,
        exponent,
        np.empty((columns, LANES), dtype=np.int32),
        np.empty((columns, LANES), dtype=np.int32),
        means,
        means.view(np.int64)[..., 0],
    )


class Features(NamedTuple):
    """What :func:`extract` gives of N pixels: see there."""

    inputs: NDArray[np.int16]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]


def features_at(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    density: int,
    gray: bool,
    narrow: bool = False,
) -> Features:
    """Features of pixels of a single masked image; arguments as of :func:`extract`.

    ``narrow`` asks for a gray image's inputs without their repetitions.
    """
    height, width = known.shape
    masked = masked_image(height, width)
    seen_ys, seen_xs = (axis.astype(np.int32) for axis in np.nonzero(known))
    reveal(masked, image, seen_ys, seen_xs)
    integral = integral_table(height, width)
    masked_integral(masked, integral)
    n = len(ys)
    features = Features(
        np.empty((n, GRAY_INPUTS if narrow else N_INPUTS), dtype=np.int16),
        np.empty((n, 3), dtype=np.int32),
        np.empty(n, dtype=np.int32),
    )
    small = height * width <= SMALL_PIXELS
    rows, columns = ys.astype(np.int32), xs.astype(np.int32)
    inputs, base, exponent = features
    extract(masked, integral, rows, columns, density, small, gray, inputs, base, exponent)
    return features


def density_class(known_ranks: int, n_ranks: int) -> int:
    """Class 0 to 7 of the fraction of known pixels before a step; finer where little is known.

    Class limits: 1/64, 1/16, 1/8, 1/4, 3/8, 1/2, 3/4 of the pixels known.
    """
    limits = (1, 4, 8, 16, 24, 32, 48)
    return sum(64 * known_ranks >= limit * n_ranks for limit in limits)


SMALL_PIXELS = 64 * 64
"""Images of at most this many pixels set the "small" flag."""
