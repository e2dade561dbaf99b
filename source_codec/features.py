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
training and coding run this same kernel. (The float32 quotients of :func:`_box_means` and
:func:`_boxes_around` are integers divided and rounded in a way that is shown to be exact in the
former.)
"""

from __future__ import annotations

import threading
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.order import is_small
from source_codec.window import (
    BOX_RADII,
    BOX_SCALES,
    FINE_RADIUS,
    LANES,
    N_DENSITIES,
    N_EXPONENTS,
    Window,
)

GREEN_FIRST = [1, 0, 2]
"""Coding order of the channels of an RGB image: green, red, blue. It is its own inverse."""
ONE = 32
"""The integer that stands for 1.0 on the network's inputs: known box, context flag set."""
FLAG = 127
MARGIN = FINE_RADIUS
"""Unknown pixels around a masked image, so that the finest window needs no bounds checks."""
_BAND = 64  # rows of box means held at once
_REACH = max(scale * radius for scale, radius in zip(BOX_SCALES, BOX_RADII, strict=True))
_OVERHANG = _REACH + (max(BOX_SCALES) - 1) // 2
_TILE = 16  # pixels gathered together: what was just written is slow to read
_BOX_COST = 2  # boxes of a whole band computed in the time of a single one


class Features(NamedTuple):
    """Network inputs, base prediction and exponent of N pixels.

    Attributes:
        inputs: int16 ``(N, window.inputs)``. ``[4 p + c]`` is place p: three relative means and
            presence; then exponent class, density class, flags (one-hot). Or
            ``(N, window.gray_inputs)`` of gray images, as :meth:`Window.gray_weights` says.
        base: int32 ``(N, 3)``: base prediction in Q4.
        exponent: int32 ``(N,)``, 0 to 6; one input unit is ``2^exponent`` in Q4.
    """

    inputs: NDArray[np.int16]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]

    @classmethod
    def empty(cls, window: Window, count: int, narrow: bool) -> Features:
        """Room for those of so many pixels; ``narrow``: as of gray images."""
        return cls(
            np.empty((count, window.gray_inputs if narrow else window.inputs), dtype=np.int16),
            np.empty((count, 3), dtype=np.int32),
            np.empty(count, dtype=np.int32),
        )


class _Scratch(NamedTuple):
    """Room for intermediate results of :func:`extract`: one thread's, used again and again.

    Attributes:
        places: int64 (16, Q), of each pixel of a tile, the four lanes together; the last place
            is always empty.
        planes, offsets, known: of :func:`_normalise`.
        at: int64 (Q,), where each place lies from that of a pixel.
        sums, counts: of :func:`_box_means`.
        means: int16 (3, rows, columns, 4), box means of a band, by scale.
        means64: the same memory, the four lanes together.
    """

    places: NDArray[np.int64]
    planes: NDArray[np.int32]
    offsets: NDArray[np.int64]
    known: NDArray[np.int64]
    at: NDArray[np.int64]
    sums: NDArray[np.int32]
    counts: NDArray[np.int32]
    means: NDArray[np.int16]
    means64: NDArray[np.int64]


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
    """Room for the summed-area tables of images: int32 ``(B, H + 1, W + 81, 4)``.

    Beyond the left and right edge the sums go on unchanged, far enough for every box.
    """
    return np.empty((count, height + 1, width + 1 + 2 * _OVERHANG, LANES), dtype=np.int32)


@njit(cache=True, nogil=True)
def masked_integrals(masked: NDArray[np.int16], out: NDArray[np.int32]) -> None:
    """Summed-area tables of masked images.

    Args:
        masked: int16 ``(B, H + 8, W + 8, 4)``, from :func:`masked_images`.
        out: from :func:`integral_tables`, overwritten; the sums are modulo 2^32.
    """
    height, width = masked.shape[1] - 2 * MARGIN, masked.shape[2] - 2 * MARGIN
    out[:, 0] = 0
    for b in range(masked.shape[0]):
        for y in range(height):
            s0 = s1 = s2 = s3 = np.int32(0)
            above, here, pixels = out[b, y], out[b, y + 1], masked[b, y + MARGIN]
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
        integral: from :func:`masked_integrals`, of one image.
        scale: side of the boxes.
        reach: how far left and right of the image box centres go.
        first, rows: the rows of box centres; they may lie outside the image.
        sums, counts: scratch, int32 (at least W + 2 reach, 4).
        out: int16 (at least rows, W + 2 reach, 4), overwritten, as :func:`masked_images`.
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


@njit(cache=True, nogil=True, error_model="numpy")
def _boxes_around(
    integral: NDArray[np.int32],
    y: int,
    x: int,
    boxes: NDArray[np.int64],
    lanes: NDArray[np.int16],
) -> None:
    """The boxes around a single pixel, as :func:`_box_means` gives them of whole rows.

    Args:
        integral: from :func:`masked_integrals`, of one image.
        y, x: the pixel.
        boxes: of the window.
        lanes: int16 (4 * boxes,), overwritten.
    """
    height = integral.shape[0] - 1
    for box in range(boxes.shape[0]):
        scale = BOX_SCALES[boxes[box, 0]]
        half = (scale - 1) // 2
        first = y + boxes[box, 1] - half
        upper = integral[min(max(first, 0), height)]
        lower = integral[min(max(first + scale, 0), height)]
        left = x + boxes[box, 2] - half + _OVERHANG
        right = left + scale
        count = lower[right, 3] - upper[right, 3] - lower[left, 3] + upper[left, 3]
        divisor = np.float32(max(np.int32(count), np.int32(1)))
        for c in range(LANES):
            total = lower[right, c] - upper[right, c] - lower[left, c] + upper[left, c]
            mean = np.float32(np.int32(total)) / divisor + np.float32(0.5)
            lanes[LANES * box + c] = np.int16(mean)


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
    weights: NDArray[np.int32],
    planes: NDArray[np.int32],
    offsets: NDArray[np.int64],
    known: NDArray[np.int64],
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """From the places (n, Q) of pixels to network inputs, base and exponent.

    Plain loops over contiguous memory, in 32 bits where there is arithmetic: they compile to vector
    instructions. What moves or compares whole places runs over int64.

    Args:
        places: of each pixel, the four lanes together.
        weights: of the window.
        planes, offsets, known: scratch, (4, Q), (Q + 1,) and (Q,).
        inputs, base, exponent: as of :func:`extract`; only the places' inputs are written.
    """
    count = weights.shape[0]
    v0, v1, v2, present = planes[0], planes[1], planes[2], planes[3]
    offset_lanes, known_lanes = offsets.view(np.int16), known.view(np.int16)
    last = offset_lanes[LANES * count :]
    for n in range(places.shape[0]):
        place, out = places[n], inputs[n]
        for p in range(count):
            # Lane c is in bits 16 c and up (processors of the other byte order fail the self-test).
            v0[p] = place[p] << 48 >> 48
            v1[p] = place[p] << 32 >> 48
            v2[p] = place[p] << 16 >> 48
            present[p] = place[p] >> 48
        s0 = s1 = s2 = s3 = np.int32(0)
        for p in range(count):
            w = weights[p]
            s0 = np.int32(s0 + np.int32(w * v0[p]))
            s1 = np.int32(s1 + np.int32(w * v1[p]))
            s2 = np.int32(s2 + np.int32(w * v2[p]))
            s3 = np.int32(s3 + np.int32(w * present[p]))
        weight_sum = np.int64(s3)
        if weight_sum == 0:
            base[n] = 128 << 4
            exponent[n] = 5
            out[: LANES * count] = 0
            continue
        half = weight_sum >> 1
        b0 = np.int32((s0 + half) // weight_sum)
        b1 = np.int32((s1 + half) // weight_sum)
        b2 = np.int32((s2 + half) // weight_sum)
        base[n, 0], base[n, 1], base[n, 2] = b0 - 1, b1 - 1, b2 - 1

        d0 = d1 = d2 = np.int32(0)
        for p in range(count):
            w = np.int32(weights[p] * present[p])
            d0 = np.int32(d0 + np.int32(w * abs(np.int32(v0[p] - b0))))
            d1 = np.int32(d1 + np.int32(w * abs(np.int32(v1[p] - b1))))
            d2 = np.int32(d2 + np.int32(w * abs(np.int32(v2[p] - b2))))
        activity = (np.int64(d0) + np.int64(d1) + np.int64(d2)) // (3 * weight_sum)
        e = _exponent(activity)
        exponent[n] = e

        rounding = (1 << e) >> 1
        last[0], last[1], last[2] = rounding - b0, rounding - b1, rounding - b2
        last[3] = (ONE << e) - 1  # from the one of a known place to ONE
        offset = offsets[count]
        for p in range(count):
            offsets[p] = offset
        for p in range(count):
            known[p] = np.int64(-1) if place[p] != 0 else np.int64(0)
        lanes = place.view(np.int16)
        shift, limit = np.int32(e), np.int32(127)
        for i in range(LANES * count):
            units = np.int32(np.int32(lanes[i]) + np.int32(offset_lanes[i])) >> shift
            out[i] = min(max(np.int32(units), -limit), limit) & np.int32(known_lanes[i])


@njit(cache=True, nogil=True)
def _normalise_gray(
    places: NDArray[np.int64],
    weights: NDArray[np.int32],
    planes: NDArray[np.int32],
    inputs: NDArray[np.int16],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """:func:`_normalise` where the channels are equal: see :meth:`Window.gray_weights`."""
    count = weights.shape[0]
    value, present = planes[0], planes[1]
    for n in range(places.shape[0]):
        place, out = places[n], inputs[n]
        for p in range(count):
            value[p] = place[p] << 48 >> 48
            present[p] = place[p] >> 48
        total = total_weight = np.int32(0)
        for p in range(count):
            w = weights[p]
            total = np.int32(total + np.int32(w * value[p]))
            total_weight = np.int32(total_weight + np.int32(w * present[p]))
        weight_sum = np.int64(total_weight)
        if weight_sum == 0:
            base[n] = 128 << 4
            exponent[n] = 5
            out[: 2 * count] = 0
            continue
        mean = np.int32((total + (weight_sum >> 1)) // weight_sum)
        base[n] = mean - 1
        deviation = np.int32(0)
        for p in range(count):
            w = np.int32(weights[p] * present[p])
            deviation = np.int32(deviation + np.int32(w * abs(np.int32(value[p] - mean))))
        e = _exponent(np.int64(deviation) // weight_sum)
        exponent[n] = e
        offset, shift = np.int32(((1 << e) >> 1) - mean), np.int32(e)
        limit = np.int32(127)
        for p in range(count):
            units = np.int32(value[p] + offset) >> shift
            out[p] = min(max(np.int32(units), -limit), limit) * present[p]
        for p in range(count):
            out[count + p] = np.int32(ONE) * present[p]


@njit(cache=True, nogil=True)
def _extract_run(
    window: Window,
    masked: NDArray[np.int64],
    integral: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    out: Features,
    scratch: _Scratch,
) -> None:
    """:func:`extract` of one image, a band of rows at a time; a place's lanes move as one int64."""
    fine, boxes, reach, weights = window
    inputs, base, exponent = out
    places, planes, offsets, known, at, sums, counts, means, means64 = scratch
    lanes = places.view(np.int16)
    n_fine, n_places = fine.shape[0], fine.shape[0] + boxes.shape[0]
    narrow = inputs.shape[1] < LANES * n_places
    context = 2 * weights.shape[0] if narrow else LANES * n_places
    columns, stride = masked.shape[1] - 2 * MARGIN, masked.shape[1]
    pixels_flat, means_flat = masked.reshape(-1), means64.reshape(-1)
    plane, line = means64.shape[1] * means64.shape[2], means64.shape[2]
    for p in range(n_fine):
        at[p] = (fine[p, 0] + MARGIN) * stride + fine[p, 1] + MARGIN
    for p in range(n_fine, n_places):
        k = boxes[p - n_fine, 0]
        dy, dx = boxes[p - n_fine, 1], boxes[p - n_fine, 2]
        at[p] = k * plane + (dy + reach[k]) * line + dx + reach[k]
    done = 0
    while done < ys.shape[0]:
        top = ys[done]
        stop = done
        bottom = top
        while stop < ys.shape[0] and top <= ys[stop] < top + _BAND:
            bottom = max(bottom, ys[stop])
            stop += 1
        rows = bottom - top + 1
        in_band = 0
        for k in range(3):
            if reach[k] >= 0:
                in_band += (rows + 2 * reach[k]) * (columns + 2 * reach[k])
        few = _BOX_COST * boxes.shape[0] * (stop - done) < in_band
        if not few:
            for k in range(3):
                if reach[k] >= 0:
                    first, count = top - reach[k], rows + 2 * reach[k]
                    scale = BOX_SCALES[k]
                    _box_means(integral, scale, reach[k], first, count, sums, counts, means[k])
        for first in range(done, stop, _TILE):
            end = min(first + _TILE, stop)
            for n in range(first, end):
                place = places[n - first]
                start = ys[n] * stride + xs[n]
                for p in range(n_fine):
                    place[p] = pixels_flat[start + at[p]]
                if few:
                    around = lanes[n - first, LANES * n_fine : LANES * n_places]
                    _boxes_around(integral, ys[n], xs[n], boxes, around)
                else:
                    start = (ys[n] - top) * line + xs[n]
                    for p in range(n_fine, n_places):
                        place[p] = means_flat[start + at[p]]
            pixels = slice(first, end)
            gathered, seen = places[: end - first], inputs[pixels]
            e = exponent[pixels]
            if narrow:
                _normalise_gray(gathered, weights, planes, seen, base[pixels], e)
            else:
                _normalise(gathered, weights, planes, offsets, known, seen, base[pixels], e)
            for n in range(first, end):
                inputs[n, context:] = 0
                inputs[n, context + exponent[n]] = FLAG
                inputs[n, context + N_EXPONENTS + density] = FLAG
                if small:
                    inputs[n, context + N_EXPONENTS + N_DENSITIES] = FLAG
                if gray:
                    inputs[n, context + N_EXPONENTS + N_DENSITIES + 1] = FLAG
        done = stop


@njit(cache=True, nogil=True)
def _extract(
    window: Window,
    masked: NDArray[np.int64],
    integrals: NDArray[np.int32],
    images: NDArray[np.int32],
    starts: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    out: Features,
    scratch: _Scratch,
) -> None:
    for run in range(images.shape[0]):
        rows, b = slice(starts[run], starts[run + 1]), images[run]
        _extract_run(
            window,
            masked[b],
            integrals[b],
            ys[rows],
            xs[rows],
            density,
            small,
            gray,
            Features(out.inputs[rows], out.base[rows], out.exponent[rows]),
            scratch,
        )


_held = threading.local()


def _scratch_for(window: Window, height: int, columns: int) -> _Scratch:
    """This thread's intermediate results, for images of so many rows, and columns of the tables."""
    padded, rows = len(window.weights), min(_BAND, height) + 2 * _REACH
    by_size: dict[int, _Scratch] = _held.__dict__.setdefault("by_size", {})
    held = by_size.get(padded)
    if held is None or held.means.shape[1] < rows or held.means.shape[2] != columns:
        means = np.empty((3, rows, columns, LANES), dtype=np.int16)
        held = by_size[padded] = _Scratch(
            places=np.zeros((_TILE, padded), dtype=np.int64),
            planes=np.empty((LANES, padded), dtype=np.int32),
            offsets=np.empty(padded + 1, dtype=np.int64),
            known=np.empty(padded, dtype=np.int64),
            at=np.empty(padded, dtype=np.int64),
            sums=np.empty((columns, LANES), dtype=np.int32),
            counts=np.empty((columns, LANES), dtype=np.int32),
            means=means,
            means64=means.view(np.int64)[..., 0],
        )
    return held


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
        out: overwritten; narrow for gray images only.
    """
    _extract(
        window,
        masked.view(np.int64)[..., 0],
        integrals,
        images,
        starts,
        ys,
        xs,
        density,
        small,
        gray,
        out,
        _scratch_for(window, integrals.shape[1] - 1, integrals.shape[2]),
    )


def features_at(
    window: Window,
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
    masked, integrals = masked_images(1, height, width), integral_tables(1, height, width)
    seen_ys, seen_xs = (axis.astype(np.int32) for axis in np.nonzero(known))
    reveal(masked, image[None], seen_ys, seen_xs)
    masked_integrals(masked, integrals)
    images, starts = np.zeros(1, dtype=np.int32), np.array([0, len(ys)], dtype=np.int32)
    features = Features.empty(window, len(ys), narrow)
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
