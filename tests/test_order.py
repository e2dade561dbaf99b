"""Denoising orders: permutations, and the sequences they are named after."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import qmc

from source_codec.order import (
    Order,
    bayer_tile,
    halton_tile,
    is_wavefront,
    radical_inverse,
    rank_map,
)

SIZES = [(1, 1), (1, 7), (9, 1), (32, 27), (33, 28), (31, 26), (64, 54), (70, 45), (40, 100)]


def restoring_sequence(order: Order, height: int, width: int) -> list[tuple[int, int]]:
    """Pixels in the sequence of their ranks, ties in raster order."""
    ranks, _ = rank_map(order, height, width)
    return sorted(np.ndindex(height, width), key=lambda pixel: int(ranks[pixel]))


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("size", SIZES)
def test_ranks_are_in_range_and_distinct_within_a_tile(order: Order, size: tuple[int, int]) -> None:
    ranks, n_ranks = rank_map(order, *size)
    assert ranks.shape == size
    assert ranks.dtype == np.int32
    assert ranks.min() >= 0
    assert ranks.max() < n_ranks
    if is_wavefront(order, *size):
        return  # a pixel of each of many rows has the same rank
    halton = (32, 27)
    tiles = {Order.HALTON: halton, Order.AUTO: halton, Order.CHECKERBOARD: (32, 32)}
    tile = tiles.get(order, size)
    for top in range(0, size[0], tile[0]):
        for left in range(0, size[1], tile[1]):
            part = ranks[top : top + tile[0], left : left + tile[1]]
            assert len(np.unique(part)) == part.size


@settings(max_examples=60, deadline=None)
@given(
    order=st.sampled_from(Order),
    height=st.integers(1, 90),
    width=st.integers(1, 90),
)
def test_every_pixel_is_restored_once(order: Order, height: int, width: int) -> None:
    """Cutting the ranks anywhere splits the pixels in two: all of them belong to one rank."""
    ranks, n_ranks = rank_map(order, height, width)
    counts = np.bincount(ranks.ravel(), minlength=n_ranks)
    assert counts.sum() == height * width
    assert len(counts) == n_ranks
    if order in (Order.RASTER, Order.RANDOM):
        assert (counts == 1).all()
    elif is_wavefront(order, height, width):
        assert counts.max() <= min(height, -(-width // 3))
    else:
        tile = (32, 32) if order is Order.CHECKERBOARD else (32, 27)
        copies = -(-height // tile[0]) * -(-width // tile[1])
        assert counts.max() <= copies
        whole = (height // tile[0]) * (width // tile[1])
        assert counts.min() >= whole


def test_ranks_of_a_large_image_repeat_the_tile() -> None:
    for order, rows, columns in ((Order.HALTON, 32, 27), (Order.CHECKERBOARD, 32, 32)):
        ranks, _ = rank_map(order, 75, 71)
        np.testing.assert_array_equal(ranks[rows:], ranks[:-rows])
        np.testing.assert_array_equal(ranks[:, columns:], ranks[:, :-columns])


def test_halton_tile_is_the_halton_sequence() -> None:
    """scipy's Halton points, scaled to the tile: point n falls into the cell of rank n."""
    points = qmc.Halton(d=2, scramble=False).random(32 * 27)
    rows = np.floor(points[:, 0] * 32 + 1e-9).astype(int)
    columns = np.floor(points[:, 1] * 27 + 1e-9).astype(int)
    np.testing.assert_array_equal(halton_tile()[rows, columns], np.arange(32 * 27))


def test_halton_starts_as_in_the_books() -> None:
    # Base 2: 0, 1/2, 1/4, 3/4, 1/8, ... of 32 rows; base 3: 0, 1/3, 2/3, 1/9, 4/9, ... of 27.
    expected = [(0, 0), (16, 9), (8, 18), (24, 3), (4, 12), (20, 21), (12, 6), (28, 15)]
    assert restoring_sequence(Order.HALTON, 32, 27)[:8] == expected


def test_radical_inverse_of_known_numbers() -> None:
    index = np.array([0, 1, 2, 3, 6, 11, 31, 32])
    assert radical_inverse(index, 2, 5).tolist() == [0, 16, 8, 24, 12, 26, 31, 0]
    index = np.array([1, 2, 3, 5, 9, 26, 27])
    assert radical_inverse(index, 3, 3).tolist() == [9, 18, 3, 21, 1, 26, 0]


def test_halton_prefixes_spread_evenly() -> None:
    """The first 72 of 864 points visit every 8x9 block of the tile equally often."""
    early = halton_tile() < 72
    counts = early.reshape(4, 8, 3, 9).sum(axis=(1, 3))
    assert (counts == 6).all()


def test_checkerboard_halves_one_colour_after_the_other() -> None:
    y, x = np.mgrid[0:32, 0:32]
    tile = bayer_tile()
    np.testing.assert_array_equal(tile < 512, (x + y) % 2 == 0)
    # The first quarter is every second pixel of every second row.
    np.testing.assert_array_equal(tile < 256, (x % 2 == 0) & (y % 2 == 0))


def test_checkerboard_is_bayers_matrix() -> None:
    """The ordered-dither matrix: M_2n = [[4M, 4M + 2], [4M + 3, 4M + 1]]."""
    matrix = np.zeros((1, 1), dtype=int)
    for _ in range(5):
        matrix = np.block([[4 * matrix, 4 * matrix + 2], [4 * matrix + 3, 4 * matrix + 1]])
    np.testing.assert_array_equal(bayer_tile(), matrix)


def test_wavefront_sees_all_above_and_to_the_left() -> None:
    """A pixel's rank is above those of all before it in its row, and of the row above up to two
    columns to its right."""
    ranks, n_ranks = rank_map(Order.AUTO, 4, 7)
    assert ranks.tolist() == [
        [0, 1, 2, 3, 4, 5, 6],
        [3, 4, 5, 6, 7, 8, 9],
        [6, 7, 8, 9, 10, 11, 12],
        [9, 10, 11, 12, 13, 14, 15],
    ]
    assert n_ranks == 16


def test_the_order_follows_the_size() -> None:
    for size in ((64, 65), (4097, 1), (100, 90), (1, 129), (1, 4096)):
        assert not is_wavefront(Order.AUTO, *size)
        np.testing.assert_array_equal(
            rank_map(Order.AUTO, *size)[0], rank_map(Order.HALTON, *size)[0]
        )
    for size in ((64, 64), (1, 128), (32, 32), (128, 32)):
        assert is_wavefront(Order.AUTO, *size)
        assert not is_wavefront(Order.HALTON, *size)


def test_raster_counts_row_by_row() -> None:
    ranks, n_ranks = rank_map(Order.RASTER, 2, 3)
    assert ranks.tolist() == [[0, 1, 2], [3, 4, 5]]
    assert n_ranks == 6


def test_random_order_sorts_pixels_by_splitmix64() -> None:
    """SplitMix64 in Python's unbounded integers, as in its authors' C code."""
    mask = (1 << 64) - 1

    def splitmix64(state: int) -> int:
        z = (state + 0x9E3779B97F4A7C15) & mask
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
        return z ^ (z >> 31)

    # The first output of the reference code for the seeds 0 and 1.
    assert splitmix64(0) == 0xE220A8397B1DCDAF
    assert splitmix64(1) == 0x910A2DEC89025CC1
    expected = sorted(range(35), key=splitmix64)
    sequence = restoring_sequence(Order.RANDOM, 5, 7)
    assert [7 * y + x for y, x in sequence] == expected


def test_random_order_looks_random() -> None:
    ranks, n_ranks = rank_map(Order.RANDOM, 64, 64)
    flat = ranks.ravel().astype(float)
    assert abs(np.corrcoef(flat[:-1], flat[1:])[0, 1]) < 0.05
    half = (ranks < n_ranks // 2).reshape(4, 16, 4, 16).mean(axis=(1, 3))
    assert half.min() > 0.3
    assert half.max() < 0.7
