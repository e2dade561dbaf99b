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
training and coding run this same kernel.
"""

from __future__ import annotations

import math
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
ONE = 32
"""The integer that stands for 1.0 on the network's inputs: known box, context flag set."""
FLAG = 127


def _place_weights() -> NDArray[np.int64]:
    """Weights of the base prediction: inverse cube of the distance, tiny for the coarse boxes."""
    weights = []
    for dy in range(-FINE_RADIUS, FINE_RADIUS + 1):
        for dx in range(-FINE_RADIUS, FINE_RADIUS + 1):
            if dy or dx:
                d2 = dy * dy + dx * dx
                weights.append(math.isqrt((1 << 40) // d2**3))
    for scale, radius, damping in zip(BOX_SCALES, BOX_RADII, (3, 6, 9), strict=True):
        for by in range(-radius, radius + 1):
            for bx in range(-radius, radius + 1):
                d2 = max(by * by + bx * bx, 1) * scale * scale
                weights.append(max(math.isqrt((1 << 40) // d2**3) >> damping, 1))
    return np.array(weights, dtype=np.int64)


_WEIGHTS = _place_weights()
# The mean of n pixels without a division: (16 * sum * RECIPROCAL[n] + 2^39) >> 40 is the mean in
# Q4, correctly rounded for every sum of up to 27 * 27 bytes.
_RECIPROCAL = np.array([0] + [-(-(1 << 40) // n) for n in range(1, 27 * 27 + 1)], dtype=np.int64)


@njit(cache=True, nogil=True)
def masked_integral(
    image: NDArray[np.uint8], known: NDArray[np.uint8], out: NDArray[np.int32]
) -> None:
    """Summed-area table of the known pixels and of their count.

    Args:
        image: uint8 ``(H, W, 3)``.
        known: uint8 ``(H, W)``, 1 where the pixel is known.
        out: int32 ``(H + 1, W + 1, 4)``, overwritten: three channel sums, modulo 2^32, and the
            count.
    """
    height, width = known.shape
    out[0] = 0
    for y in range(height):
        r0 = r1 = r2 = count = np.int32(0)
        out[y + 1, 0] = 0
        for x in range(width):
            if known[y, x]:
                r0 += image[y, x, 0]
                r1 += image[y, x, 1]
                r2 += image[y, x, 2]
                count += 1
            out[y + 1, x + 1, 0] = out[y, x + 1, 0] + r0
            out[y + 1, x + 1, 1] = out[y, x + 1, 1] + r1
            out[y + 1, x + 1, 2] = out[y, x + 1, 2] + r2
            out[y + 1, x + 1, 3] = out[y, x + 1, 3] + count


@njit(cache=True, nogil=True, inline="always")
def _gather_places(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    integral: NDArray[np.int32],
    y: int,
    x: int,
    means: NDArray[np.int32],
    present: NDArray[np.uint8],
) -> None:
    """Masked box means in Q4 and presence at all 163 places around ``(y, x)``."""
    height, width = known.shape
    place = 0
    for dy in range(-FINE_RADIUS, FINE_RADIUS + 1):
        yy = y + dy
        for dx in range(-FINE_RADIUS, FINE_RADIUS + 1):
            if dy == 0 and dx == 0:
                continue
            xx = x + dx
            inside = 0 <= yy < height and 0 <= xx < width and known[yy, xx] != 0
            present[place] = inside
            if inside:
                means[place, 0] = np.int32(image[yy, xx, 0]) << 4
                means[place, 1] = np.int32(image[yy, xx, 1]) << 4
                means[place, 2] = np.int32(image[yy, xx, 2]) << 4
            place += 1
    for k in range(3):
        scale, radius = BOX_SCALES[k], BOX_RADII[k]
        top = y - (scale - 1) // 2 - radius * scale
        left = x - (scale - 1) // 2 - radius * scale
        for by in range(2 * radius + 1):
            y0 = min(max(top + by * scale, 0), height)
            y1 = min(max(top + (by + 1) * scale, 0), height)
            for bx in range(2 * radius + 1):
                x0 = min(max(left + bx * scale, 0), width)
                x1 = min(max(left + (bx + 1) * scale, 0), width)
                count = (
                    integral[y1, x1, 3]
                    - integral[y0, x1, 3]
                    - integral[y1, x0, 3]
                    + integral[y0, x0, 3]
                )
                present[place] = count > 0
                if count > 0:
                    reciprocal = _RECIPROCAL[count]
                    for c in range(3):
                        # Modulo 2^32: on large images the table's own sums wrap, a box's do not.
                        total = (
                            np.int64(integral[y1, x1, c])
                            - integral[y0, x1, c]
                            - integral[y1, x0, c]
                            + integral[y0, x0, c]
                        ) & 0xFFFFFFFF
                        means[place, c] = (16 * total * reciprocal + (1 << 39)) >> 40
                place += 1


@njit(cache=True, nogil=True)
def extract(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    integral: NDArray[np.int32],
    ys: NDArray[np.int32],
    xs: NDArray[np.int32],
    density: int,
    small: bool,
    gray: bool,
    inputs: NDArray[np.int8],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
) -> None:
    """Network inputs, base prediction and exponent of N pixels.

    Args:
        image: uint8 ``(H, W, 3)`` in coding order of the channels (green, red, blue).
        known: uint8 ``(H, W)``.
        integral: from :func:`masked_integral`.
        ys, xs: int32 ``(N,)``, the pixels to be coded.
        density: density class of the step, from :func:`density_class`.
        small, gray: image-level flags.
        inputs: int8 ``(N, 672)``, overwritten. ``[4 p + c]`` is place p: three relative means and
            presence; then exponent class, density class, flags (one-hot).
        base: int32 ``(N, 3)``, overwritten: base prediction in Q4.
        exponent: int32 ``(N,)``, overwritten: 0 to 6; one input unit is ``2^exponent`` in Q4.
    """
    means = np.empty((N_PLACES, 3), dtype=np.int32)
    present = np.empty(N_PLACES, dtype=np.uint8)
    for n in range(ys.shape[0]):
        _gather_places(image, known, integral, ys[n], xs[n], means, present)

        weight_sum = np.int64(0)
        s0 = s1 = s2 = np.int64(0)
        for p in range(N_PLACES):
            if present[p]:
                w = _WEIGHTS[p]
                weight_sum += w
                s0 += w * means[p, 0]
                s1 += w * means[p, 1]
                s2 += w * means[p, 2]
        e = 5
        b0 = b1 = b2 = np.int32(128 << 4)
        if weight_sum > 0:
            half = weight_sum >> 1
            b0 = np.int32((s0 + half) // weight_sum)
            b1 = np.int32((s1 + half) // weight_sum)
            b2 = np.int32((s2 + half) // weight_sum)
            deviation = np.int64(0)
            for p in range(N_PLACES):
                if present[p]:
                    deviation += _WEIGHTS[p] * (
                        abs(means[p, 0] - b0) + abs(means[p, 1] - b1) + abs(means[p, 2] - b2)
                    )
            activity = deviation // (3 * weight_sum)
            e = 0
            # Octaves around the target: 24 * sqrt(2) is about 34.
            while e < N_EXPONENTS - 1 and activity > (np.int64(34) << e):
                e += 1
        base[n, 0], base[n, 1], base[n, 2] = b0, b1, b2
        exponent[n] = e

        rounding = (1 << e) >> 1
        for p in range(N_PLACES):
            if present[p]:
                inputs[n, 4 * p] = min(max((means[p, 0] - b0 + rounding) >> e, -127), 127)
                inputs[n, 4 * p + 1] = min(max((means[p, 1] - b1 + rounding) >> e, -127), 127)
                inputs[n, 4 * p + 2] = min(max((means[p, 2] - b2 + rounding) >> e, -127), 127)
                inputs[n, 4 * p + 3] = ONE
            else:
                inputs[n, 4 * p] = inputs[n, 4 * p + 1] = 0
                inputs[n, 4 * p + 2] = inputs[n, 4 * p + 3] = 0
        for i in range(4 * N_PLACES, N_INPUTS):
            inputs[n, i] = 0
        context = 4 * N_PLACES
        inputs[n, context + e] = FLAG
        inputs[n, context + N_EXPONENTS + density] = FLAG
        if small:
            inputs[n, context + N_EXPONENTS + N_DENSITIES] = FLAG
        if gray:
            inputs[n, context + N_EXPONENTS + N_DENSITIES + 1] = FLAG


class Features(NamedTuple):
    """What :func:`extract` gives of N pixels: see there."""

    inputs: NDArray[np.int8]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]


def features_at(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    ys: NDArray[np.intp],
    xs: NDArray[np.intp],
    density: int,
    gray: bool,
) -> Features:
    """Features of pixels of a single masked image; arguments as of :func:`extract`."""
    height, width = known.shape
    integral = np.empty((height + 1, width + 1, 4), dtype=np.int32)
    masked_integral(image, known, integral)
    n = len(ys)
    features = Features(
        np.empty((n, N_INPUTS), dtype=np.int8),
        np.empty((n, 3), dtype=np.int32),
        np.empty(n, dtype=np.int32),
    )
    small = height * width <= SMALL_PIXELS
    places = ys.astype(np.int32), xs.astype(np.int32)
    extract(image, known, integral, *places, density, small, gray, *features)
    return features


def density_class(known_ranks: int, n_ranks: int) -> int:
    """Class 0 to 7 of the fraction of known pixels before a step; finer where little is known.

    Class limits: 1/64, 1/16, 1/8, 1/4, 3/8, 1/2, 3/4 of the pixels known.
    """
    limits = (1, 4, 8, 16, 24, 32, 48)
    return sum(64 * known_ranks >= limit * n_ranks for limit in limits)


SMALL_PIXELS = 64 * 64
"""Images of at most this many pixels set the "small" flag."""
