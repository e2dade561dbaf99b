"""Products of integer matrices: exact to the ends of their range, in the intended machine code."""

import platform
import re

import numpy as np
import pytest
from llvmlite.binding import get_host_cpu_features
from numba import njit
from numba.core.errors import TypingError
from numpy.typing import NDArray

from source_codec.integer_products import COLUMNS, multiply, packed

INT16 = np.iinfo(np.int16)


def product(x: NDArray[np.int16], matrix: NDArray[np.int16]) -> NDArray[np.int32]:
    """The kernel's product, for any shapes."""
    columns = packed(matrix)
    operand = np.zeros((len(x), 2 * columns.shape[1]), dtype=np.int16)
    operand[:, : x.shape[1]] = x
    out = np.full((len(x), 8 * columns.shape[0]), -1, dtype=np.int32)
    multiply(operand, columns, out)
    assert not out[:, matrix.shape[1] :].any()
    return out[:, : matrix.shape[1]]


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (3, 2, 16), (4, 7, 17), (5, 64, 15), (130, 672, 192), (384, 346, 64)],
)
def test_against_int64(shape: tuple[int, int, int]) -> None:
    rows, depth, outputs = shape
    rng = np.random.default_rng(shape)
    x = rng.integers(-255, 256, (rows, depth)).astype(np.int16)
    matrix = rng.integers(-(1 << 14), 1 << 14, (depth, outputs)).astype(np.int16)
    np.testing.assert_array_equal(product(x, matrix), x.astype(np.int64) @ matrix)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_up_to_the_ends_of_int32(sign: int) -> None:
    """Sums of products that all have one sign: 2 x 32767^2, and 65535 x 32767 in small ones."""
    x = np.full((6, 2), INT16.max, dtype=np.int16)
    matrix = np.full((2, 16), sign * INT16.max, dtype=np.int16)
    np.testing.assert_array_equal(product(x, matrix), sign * 2 * 32767**2)
    x, matrix = np.ones((6, 65534), np.int16), np.full((65534, 16), sign * 32767, np.int16)
    np.testing.assert_array_equal(product(x, matrix), sign * 65534 * 32767)


def test_least_operands() -> None:
    """-32768 times itself has no int16, and twice that no int32; once it is exact."""
    x = np.array([[INT16.min, 0, INT16.min, 1]], dtype=np.int16)
    matrix = np.array([[INT16.min], [INT16.min], [1], [INT16.min]], dtype=np.int16)
    np.testing.assert_array_equal(product(x, matrix), [[2**30 - 2 * 32768]])


def test_operands_within_larger_arrays() -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(-99, 99, (20, 30)).astype(np.int16)
    matrix = rng.integers(-99, 99, (30, 48)).astype(np.int16)
    expected = x[3:17, 4:24].astype(np.int64) @ matrix[4:24]
    out = np.full((20, 64), 7, dtype=np.int32)
    multiply(x[3:17, 4:24], packed(matrix)[:, 2:12], out[2:16, :32])
    np.testing.assert_array_equal(out[2:16, :32], expected[:, :32])
    out[2:16, :32] = 7
    assert (out == 7).all()


def test_what_does_not_fit_is_refused() -> None:
    """The kernel reads and writes memory by address: it must not start on wrong shapes."""
    x, columns = np.ones((8, 6), np.int16), packed(np.ones((6, 32), np.int16))
    out = np.empty((8, 32), np.int32)
    multiply(x, columns, out)
    for wrong in (
        (x[:, :4], columns, out),
        (x[:7], columns, out),
        (x[:, :0], columns[:, :0], out),
        (x, columns[:2], out),
        (x, columns, out[:, : COLUMNS + 8]),
        (np.ones((8, 12), np.int16)[:, ::2], columns, out),
        (x, columns, np.empty((8, 64), np.int32)[:, ::2]),
        (x, np.ones((4, 6, 8, 2), np.int16)[:, ::2], out),
    ):
        with pytest.raises(ValueError, match=r"fit|multiple|side by side"):
            multiply(*wrong)
    for wrong_types in (
        (x.astype(np.int8), columns, out),
        (x, columns.astype(np.int32), out),
        (x, columns, out.astype(np.int64)),
    ):
        with pytest.raises(TypingError):
            multiply(*wrong_types)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="names instructions of x86")
def test_machine_code_sums_pairs_of_products() -> None:
    """One instruction for two products each, and no product of 32 bits."""
    x, out = np.ones((8, 6), np.int16), np.empty((8, 16), np.int32)
    columns = packed(np.ones((6, 16), np.int16))
    fresh = njit(nogil=True)(multiply.py_func)
    fresh(x, columns, out)
    text = "\n".join(fresh.inspect_asm().values())
    vnni = [get_host_cpu_features().get(name) for name in ("avx512vnni", "avxvnni")]
    expected = r"\bv?pmaddwd|\bvpdpwssd" if any(vnni) else r"\bv?pmaddwd"
    assert len(re.findall(expected, text)) >= 10
    assert not re.search(r"\bv?pmulld", text)
