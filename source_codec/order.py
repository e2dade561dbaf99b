"""Denoising orders: which pixels are restored first.

An order is a *rank map*: an integer for every pixel; lower ranks are coded earlier, and pixels of
equal rank are coded together. The schedule (see :mod:`source_codec.schedule`) cuts the ranks into
steps.

Large images are coded in Halton order: each step covers the image evenly, and the picture sharpens
as a whole. In a small image there are too few pixels to learn much from before the last steps.
There a *wavefront* serves better: a slanted line that runs over the image from the top left, every
pixel of which sees all that is above and to its left: raster order, but one pixel of each of many
rows at a time.

Every order here depends on the image size alone, so that encoder and decoder build the same
map from the header, in integers only.
"""

from __future__ import annotations

from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

TILE_HEIGHT = 32
"""Rows of the periodic Halton tile: 2^5, so that base 2 visits every row residue exactly once."""
TILE_WIDTH = 27
"""Columns of the periodic Halton tile: 3^3, the same for base 3."""
BAYER_SIDE = 32
"""Side of the tile of the recursive checkerboard; a power of two."""
WAVEFRONT_SLOPE = 3
"""Columns that each row of the wavefront lags behind the row above."""
WAVEFRONT_SIDE = 128
"""Longest side of an image that is coded along a wavefront: steps grow with the sides."""
SMALL_PIXELS = 64 * 64
"""Images of at most this many pixels are small."""


class Order(StrEnum):
    """Names of the denoising orders, in the sequence of their codes in the stream header.

    ``AUTO`` is the wavefront for small images of no long side, and Halton order for others.
    """

    HALTON = "halton"
    RASTER = "raster"
    RANDOM = "random"
    CHECKERBOARD = "checkerboard"
    AUTO = "auto"


def radical_inverse(index: NDArray[np.int64], base: int, digits: int) -> NDArray[np.int64]:
    """Van der Corput's radical inverse as an integer: the ``digits`` base-b digits, reversed.

    Args:
        index: non-negative integers, any shape.
        base: the number base b.
        digits: how many digits to reverse; higher digits of ``index`` are ignored.

    Returns:
        Integers in ``[0, base**digits)``, the shape of ``index``.
    """
    remaining = index.copy()
    reversed_digits = np.zeros_like(index)
    for _ in range(digits):
        reversed_digits = reversed_digits * base + remaining % base
        remaining //= base
    return reversed_digits


def halton_tile() -> NDArray[np.int32]:
    """Ranks of one Halton tile, shape ``(32, 27)``, a permutation of 0..863.

    Point n of the two-dimensional Halton sequence (bases 2 and 3) falls into row
    ``radical_inverse_2(n mod 32)`` and column ``radical_inverse_3(n mod 27)``. Since 32 and 27 are
    coprime, the first 864 points visit every cell exactly once (Chinese remainder theorem).
    """
    n = np.arange(TILE_HEIGHT * TILE_WIDTH, dtype=np.int64)
    tile = np.empty((TILE_HEIGHT, TILE_WIDTH), dtype=np.int32)
    tile[radical_inverse(n, 2, 5), radical_inverse(n, 3, 3)] = n
    return tile


def bayer_tile() -> NDArray[np.int32]:
    """Ranks of a recursive checkerboard, shape ``(32, 32)``, a permutation of 0..1023.

    Bayer's ordered-dither matrix: the bits of ``x ^ y`` and ``y`` interleaved, in reversed order.
    The first half of the ranks is one colour of a checkerboard, and so on recursively.
    """
    y, x = np.mgrid[0:BAYER_SIDE, 0:BAYER_SIDE].astype(np.int32)
    tile = np.zeros((BAYER_SIDE, BAYER_SIDE), dtype=np.int32)
    for bit in range(BAYER_SIDE.bit_length() - 1):
        pair = ((((x ^ y) >> bit) & 1) << 1) | ((y >> bit) & 1)
        tile = (tile << 2) | pair
    return tile


def _splitmix64(index: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """The output function of SplitMix64 (Steele, Lea and Flood, 2014): a fixed integer hash."""
    z = index + np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


def is_small(height: int, width: int) -> bool:
    """Whether an image of this size is coded by the networks for small images."""
    return height * width <= SMALL_PIXELS


def is_wavefront(order: Order, height: int, width: int) -> bool:
    """Whether an image of this size is coded along a wavefront, where ranks are steps."""
    small = is_small(height, width) and max(height, width) <= WAVEFRONT_SIDE
    return order is Order.AUTO and small


def rank_map(order: Order, height: int, width: int) -> tuple[NDArray[np.int32], int]:
    """The rank of every pixel under ``order``.

    Args:
        order: the denoising order.
        height, width: image size in pixels, each at least 1.

    Returns:
        ``(ranks, n_ranks)``: int32 ranks of shape ``(height, width)``, all in ``[0, n_ranks)``.
        Periodic orders (Halton, checkerboard) repeat their tile; raster and random rank every
        pixel of the image separately.
    """
    if is_wavefront(order, height, width):
        y, x = np.mgrid[0:height, 0:width].astype(np.int32)
        return x + WAVEFRONT_SLOPE * y, width + WAVEFRONT_SLOPE * (height - 1)
    if order in (Order.AUTO, Order.HALTON, Order.CHECKERBOARD):
        tile = bayer_tile() if order is Order.CHECKERBOARD else halton_tile()
        rows = np.arange(height) % tile.shape[0]
        columns = np.arange(width) % tile.shape[1]
        return tile[np.ix_(rows, columns)], tile.size
    pixels = height * width
    if order is Order.RASTER:
        return np.arange(pixels, dtype=np.int32).reshape(height, width), pixels
    keys = _splitmix64(np.arange(pixels, dtype=np.uint64))
    ranks = np.empty(pixels, dtype=np.int32)
    ranks[np.argsort(keys, kind="stable")] = np.arange(pixels, dtype=np.int32)
    return ranks.reshape(height, width), pixels
