"""Conversions from luma and two chroma codes to RGB, in the fixed-point arithmetic of decoders.

All of them have one form. With codes ``y``, ``c1`` (towards blue) and ``c2`` (towards red), every
channel is ``(luma * y + term) >> 16``, clipped to 0 to 255, where the term of blue is linear in c1,
that of red linear in c2, and that of green a sum of one function of c1 and one of c2.

Values that come out of uint8 arrays are made int64 throughout: compiled code would otherwise
subtract them as unsigned numbers.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.compiled import signed

Plane = NDArray[np.uint8]
Mask = NDArray[np.bool_]

FRACTION_BITS = 16
_ONE = 1 << FRACTION_BITS
_HALF = _ONE // 2


class ColourLaw(NamedTuple):
    """A conversion to RGB; all numbers in units of 2^-16.

    Attributes:
        luma: factor of luma in all channels.
        blue, blue_at_zero: factor of c1 in the term of blue, and the term for code 0.
        red, red_at_zero: likewise for c2 and red.
        green_of_c1, green_of_c2: the two parts of the term of green, (256,) each.
        weights: of red, green and blue in luma.
        black: the weighted sum, on average, for luma 0 without chroma.
    """

    luma: int
    blue: int
    blue_at_zero: int
    red: int
    red_at_zero: int
    green_of_c1: NDArray[np.int64]
    green_of_c2: NDArray[np.int64]
    weights: tuple[int, int, int]
    black: int


def _fixed(value: float) -> int:
    return round(value * _ONE)


def photo_ycc() -> ColourLaw:
    """PhotoYCC, of the Kodak Photo CD.

    Kodak's published equations are ``R = L + C2``, ``G = L - 0.194 C1 - 0.509 C2``, ``B = L + C1``
    with ``L = 1.3584 Luma``, ``C1 = 2.2179 (Chroma1 - 156)``, ``C2 = 1.8215 (Chroma2 - 137)``
    (Kodak, "Fully Utilizing Photo CD Images", article 4). The rounding was found from images: the
    coefficients have 16 fractional bits, both chroma terms are cut to whole numbers where green
    uses them, and each channel is cut (towards minus infinity) at the end. With that, not one
    unclipped pixel of the images examined is off.
    """
    blue, red = _fixed(2.2179), _fixed(1.8215)
    c1, c2 = np.arange(256) - 156, np.arange(256) - 137
    return ColourLaw(
        luma=_fixed(1.3584),
        blue=blue,
        blue_at_zero=-156 * blue,
        red=red,
        red_at_zero=-137 * red,
        green_of_c1=-_fixed(0.194) * ((blue * c1) >> FRACTION_BITS),
        green_of_c2=-_fixed(0.509) * ((red * c2) >> FRACTION_BITS),
        weights=(_fixed(0.299), _fixed(0.587), _fixed(0.114)),
        black=-_fixed(0.29),  # what cutting takes away
    )


def ycbcr(red_weight: float, blue_weight: float, video_range: bool) -> ColourLaw:
    """YCbCr with given weights of red and blue in luma, rounded to nearest.

    With 0.299 and 0.114 at full range this is, digit by digit, the conversion of libjpeg and
    libjpeg-turbo (``jdcolor.c``), whose coefficients have five decimals.

    Args:
        red_weight, blue_weight: 0.299 and 0.114 in ITU-R BT.601, 0.2126 and 0.0722 in BT.709.
        video_range: whether luma is 16 to 235 and chroma 16 to 240, rather than 0 to 255.
    """
    luma, chroma, black = (255 / 219, 255 / 224, 16) if video_range else (1.0, 1.0, 0)
    green_weight = 1 - red_weight - blue_weight
    red_factor, blue_factor = 2 * (1 - red_weight), 2 * (1 - blue_weight)
    blue, red = _fixed(round(blue_factor, 5) * chroma), _fixed(round(red_factor, 5) * chroma)
    green_blue = _fixed(round(blue_weight * blue_factor / green_weight, 5) * chroma)
    green_red = _fixed(round(red_weight * red_factor / green_weight, 5) * chroma)
    codes = np.arange(256) - 128
    rest = _HALF - _fixed(luma) * black
    return ColourLaw(
        luma=_fixed(luma),
        blue=blue,
        blue_at_zero=-128 * blue + rest,
        red=red,
        red_at_zero=-128 * red + rest,
        green_of_c1=-green_blue * codes + rest,
        green_of_c2=-green_red * codes,
        weights=(_fixed(red_weight), _fixed(green_weight), _fixed(blue_weight)),
        black=-_fixed(luma) * black,
    )


@numba.njit(cache=True)
def _ceiling(amount: int, unit: int) -> int:
    return -(-amount // unit)


@numba.njit(cache=True)
def chroma_terms(law: ColourLaw, c1: int, c2: int) -> tuple[int, int, int]:
    """What chroma adds to red, green and blue."""
    green = law.green_of_c1[c1] + law.green_of_c2[c2]
    return law.red_at_zero + law.red * c2, green, law.blue_at_zero + law.blue * c1


@numba.njit(cache=True)
def luma_interval(
    law: ColourLaw, red: int, green: int, blue: int, c1: int, c2: int
) -> tuple[int, int]:
    """All luma codes (first, last) that give a pixel, for given chroma; first > last if none."""
    red_term, green_term, blue_term = chroma_terms(law, c1, c2)
    least, most = 0, 256 * law.luma - 1  # of luma times its factor
    if red > 0:
        least = max(least, red * _ONE - red_term)
    if red < 255:
        most = min(most, (red + 1) * _ONE - red_term - 1)
    if green > 0:
        least = max(least, green * _ONE - green_term)
    if green < 255:
        most = min(most, (green + 1) * _ONE - green_term - 1)
    if blue > 0:
        least = max(least, blue * _ONE - blue_term)
    if blue < 255:
        most = min(most, (blue + 1) * _ONE - blue_term - 1)
    if least > most:
        return 1, 0
    return _ceiling(least, law.luma), most // law.luma


@numba.njit(cache=True)
def brightness(law: ColourLaw, red: int, green: int, blue: int) -> int:
    """The luma code of a pixel, to within one."""
    weighted = law.weights[0] * red + law.weights[1] * green + law.weights[2] * blue
    return min(max((weighted - law.black + law.luma // 2) // law.luma, 0), 255)


@numba.njit(cache=True)
def codes_of(law: ColourLaw, red: int, green: int, blue: int) -> tuple[int, int, int]:
    """The one triple of codes (y, c1, c2) that gives an unclipped pixel.

    For a given luma at most one code of each chroma fits, since a step of chroma moves blue or red
    by more than one. Two lumas never fit: both chroma codes of the brighter would be lower, and
    green would differ.

    Returns:
        The triple, or (-1, -1, -1) if there is none or the pixel is clipped.
    """
    if min(red, green, blue) > 0 and max(red, green, blue) < 255:
        estimate = brightness(law, red, green, blue)
        for luma in range(max(estimate - 1, 0), min(estimate + 2, 256)):
            base = law.luma * luma
            c1 = _ceiling(blue * _ONE - base - law.blue_at_zero, law.blue)
            c2 = _ceiling(red * _ONE - base - law.red_at_zero, law.red)
            if min(c1, c2) >= 0 and max(c1, c2) <= 255:
                red_term, green_term, blue_term = chroma_terms(law, c1, c2)
                if (
                    (base + red_term) >> FRACTION_BITS == red
                    and (base + green_term) >> FRACTION_BITS == green
                    and (base + blue_term) >> FRACTION_BITS == blue
                ):
                    return luma, c1, c2
    return -1, -1, -1


@numba.njit(cache=True)
def pixel_at(image: Plane, row: int, column: int) -> tuple[int, int, int]:
    """Red, green and blue of a pixel."""
    return (
        signed(image[row, column, 0]),
        signed(image[row, column, 1]),
        signed(image[row, column, 2]),
    )


@numba.njit(cache=True)
def _exact_colours(
    law: ColourLaw, image: Plane, row_step: int, column_step: int
) -> tuple[int, int]:
    unclipped, exact = 0, 0
    for row in range(row_step // 2, image.shape[0], row_step):
        for column in range(column_step // 2, image.shape[1], column_step):
            red, green, blue = pixel_at(image, row, column)
            if min(red, green, blue) > 0 and max(red, green, blue) < 255:
                unclipped += 1
                exact += codes_of(law, red, green, blue)[0] >= 0
    return unclipped, exact


_PROBES = 64
"""Places along each axis at which the detector looks."""
_LEAST_PROBES = 24
_DETECTION_SHARE = 0.95
"""Share of the unclipped probes that must be exact; by chance one colour in 4 to 10 is."""


def is_plausible(law: ColourLaw, image: Plane) -> bool:
    """Whether the colours at a few thousand probes are ones that a law gives."""
    row_step, column_step = (max(1, side // _PROBES) for side in image.shape[:2])
    unclipped, exact = _exact_colours(law, image, row_step, column_step)
    return bool(unclipped >= _LEAST_PROBES and exact >= _DETECTION_SHARE * unclipped)


class Evidence(NamedTuple):
    """What an image tells of its chroma.

    Attributes:
        image: the pixels, (H, W, 3).
        c1, c2: chroma codes of every pixel, (H, W), valid where ``certain``.
        certain: which pixels have certain codes, (H, W): the unclipped ones.
    """

    image: Plane
    c1: Plane
    c2: Plane
    certain: Mask


@numba.njit(cache=True)
def evidence_of(law: ColourLaw, image: Plane) -> Evidence:
    """Chroma codes of all unclipped pixels."""
    height, width = image.shape[:2]
    c1 = np.full((height, width), 128, dtype=np.uint8)
    c2 = np.full((height, width), 128, dtype=np.uint8)
    certain = np.zeros((height, width), dtype=np.bool_)
    for row in range(height):
        for column in range(width):
            red, green, blue = pixel_at(image, row, column)
            luma, first, second = codes_of(law, red, green, blue)
            if luma >= 0:
                c1[row, column] = first
                c2[row, column] = second
                certain[row, column] = True
    return Evidence(image, c1, c2, certain)


@numba.njit(cache=True)
def smooth_luma(law: ColourLaw, image: Plane, c1: Plane, c2: Plane) -> Plane:
    """Luma that gives the pixels, for given chroma (H, W).

    Where several values do, the one nearest to the prediction of the median edge detector
    (Weinberger, Seroussi and Sapiro, 2000) is taken; where none does, the pixel's brightness, and
    an exception will correct it.
    """
    height, width = image.shape[:2]
    plane = np.empty((height, width), dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            red, green, blue = pixel_at(image, row, column)
            first, last = luma_interval(law, red, green, blue, c1[row, column], c2[row, column])
            if first > last:
                first = last = brightness(law, red, green, blue)
            if first < last:
                west = signed(plane[row, column - 1]) if column else first
                north = signed(plane[row - 1, column]) if row else west
                corner = signed(plane[row - 1, column - 1]) if row and column else west
                predicted = min(max(west + north - corner, min(west, north)), max(west, north))
                first = min(max(predicted, first), last)
            plane[row, column] = first
    return plane


@numba.njit(cache=True)
def to_rgb(law: ColourLaw, luma: Plane, c1: Plane, c2: Plane) -> Plane:
    """An image, (H, W, 3), from three planes of its size, (H, W)."""
    height, width = luma.shape
    image = np.empty((height, width, 3), dtype=np.uint8)
    for row in range(height):
        for column in range(width):
            base = law.luma * signed(luma[row, column])
            red, green, blue = chroma_terms(law, c1[row, column], c2[row, column])
            image[row, column, 0] = min(max((base + red) >> FRACTION_BITS, 0), 255)
            image[row, column, 1] = min(max((base + green) >> FRACTION_BITS, 0), 255)
            image[row, column, 2] = min(max((base + blue) >> FRACTION_BITS, 0), 255)
    return image
