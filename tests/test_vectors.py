"""Operations on vectors in compiled kernels, against Python's numbers."""

import math
from fractions import Fraction

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.vectors import (
    add,
    as_bytes,
    common_mean,
    lane,
    load,
    load_halves,
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

Shorts = NDArray[np.int16]
Ints = NDArray[np.int32]
Bytes = NDArray[np.uint8]

RNG = np.random.default_rng(11)
ANY = RNG.integers(-(1 << 15), 1 << 15, (2, 100, 16)).astype(np.int16)


@njit
def arithmetic(x: Shorts, y: Shorts, by: int, out: Shorts) -> None:
    a, b = load(x, 0), load(y, 0)
    store(out, 0, add(a, b))
    store(out, 16, subtract(a, b))
    store(out, 32, times(a, b))
    store(out, 48, magnitude(a))
    store(out, 64, shift_right(a, by))
    store(out, 80, where_known(a, b))


def test_arithmetic_wraps() -> None:
    out = np.empty(96, dtype=np.int16)
    for n, (x, y) in enumerate(zip(*ANY, strict=True)):
        y = np.where(np.repeat(RNG.random(4) < 0.5, 4), y, 0).astype(np.int16)
        y[:4] = [0, 0, 0, 1]
        arithmetic(x, y, n % 16, out)
        known = np.repeat(y.reshape(4, 4).any(axis=1), 4)
        wide, other = x.astype(int), y.astype(int)
        expected = [wide + other, wide - other, wide * other, abs(wide), wide >> n % 16]
        expected.append(np.where(known, wide, 0))
        np.testing.assert_array_equal(out, np.concatenate(expected).astype(np.int16))


@njit
def sums(x: Shorts, weights: Shorts, out: Ints) -> int:
    found = add(no_sums(), weighted_sums(load(x, 0), load(weights, 0)))
    store(out, 0, found)
    out[8] = lane(found, 5)
    return total(found)


def test_weighted_sums_are_of_two_places_each() -> None:
    out = np.empty(9, dtype=np.int32)
    for x in ANY[0]:
        weights = RNG.integers(0, 1 << 15, 4)
        by_twos = np.repeat(weights.reshape(2, 1, 2), 4, axis=1).reshape(-1).astype(np.int16)
        whole = sums(x, by_twos, out)
        products = weights[:, None] * x.reshape(4, 4).astype(int)
        expected = np.concatenate([products[:2].sum(axis=0), products[2:].sum(axis=0)])
        np.testing.assert_array_equal(out[:8], expected)
        assert out[8] == expected[5]
        assert whole == expected.sum()


@njit
def rounded_means(sums: Ints, low: int, high: int, out: Shorts) -> None:
    store(out, 0, means(load_halves(sums, low, high)))


def test_means_of_boxes_round_halves_up() -> None:
    """Of up to 729 values in 1 to 4081; ties and their neighbours included."""
    out = np.empty(8, dtype=np.int16)
    for _ in range(300):
        counts = RNG.integers(1, 730, 2)
        whole = RNG.integers(1, 4081, (2, 3))
        boxes = np.zeros((3, 4), dtype=np.int32)  # the one between isn't read
        boxes[::2, :3] = whole * counts[:, None] + counts[:, None] // 2 + RNG.integers(-1, 2, 3)
        boxes[::2, 3] = counts
        rounded_means(boxes.reshape(-1), 0, 8, out)
        for (*values, count), got in zip(boxes[::2].tolist(), out.reshape(2, 4), strict=True):
            expected = [math.floor(Fraction(value, count) + Fraction(1, 2)) for value in values]
            assert got.tolist() == [*expected, 1]
    rounded_means(np.zeros(12, dtype=np.int32), 0, 8, out)
    assert not out.any()


@njit
def middle(sums: Ints, out: Shorts) -> None:
    store(out, 0, common_mean(load(sums, 0)))


def test_common_mean_rounds_halves_up() -> None:
    out = np.empty(16, dtype=np.int16)
    for _ in range(300):
        weight = int(RNG.integers(2, 526_000))
        wanted = RNG.integers(1, 4080, 3) * weight + weight // 2 + RNG.integers(-1, 2, 3)
        first = np.append(wanted // 3, weight // 2)
        parts = np.concatenate([first, np.append(wanted, weight) - first]).astype(np.int32)
        middle(parts, out)
        expected = [math.floor(Fraction(int(s), weight) + Fraction(1, 2)) for s in wanted]
        assert out.tolist() == 4 * [*expected, 1]
    middle(np.zeros(8, dtype=np.int32), out)
    assert not out.any()


@njit
def to_bytes(x: Shorts, out: Bytes) -> None:
    store(out, 0, as_bytes(load(x, 0)))


def test_bytes_are_clipped() -> None:
    out = np.empty(16, dtype=np.uint8)
    near = RNG.integers(-140, 140, (50, 16)).astype(np.int16)
    for x in (*ANY[0], *near):
        to_bytes(x, out)
        np.testing.assert_array_equal(out, np.clip(x, -127, 127) + 128)
