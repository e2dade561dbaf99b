"""Products of integer matrices: exact to the ends of their range, in the intended machine code."""

import platform
import re

import numpy as np
import pytest
from llvmlite import binding, ir
from llvmlite.binding import get_host_cpu_features
from numba.core.errors import TypingError
from numpy.typing import NDArray

from source_codec.integer_products import (
    NARROW,
    VECTOR,
    WIDE,
    _sums_of_bytes_named,
    _Tile,
    grouped,
    multiply,
    packed,
    product_kernel,
)

INT16 = np.iinfo(np.int16)
KERNELS = {lanes: product_kernel(lanes=lanes) for lanes in (NARROW, WIDE)}


@pytest.fixture(params=[NARROW, WIDE])
def lanes(request: pytest.FixtureRequest) -> int:
    """Of vectors: both widths compute the same, on any machine."""
    return int(request.param)


def product(
    x: NDArray[np.int16] | NDArray[np.uint8],
    matrix: NDArray[np.int16] | NDArray[np.int8],
    lanes: int,
) -> NDArray[np.int32]:
    """The kernel's product, for any shapes and both widths of vectors."""
    columns = packed(matrix, lanes, matrix.dtype)
    operand = np.zeros((len(x), columns.shape[1] * columns.shape[3]), dtype=x.dtype)
    operand[:, : x.shape[1]] = x
    out = np.full((len(x), lanes * columns.shape[0]), -1, dtype=np.int32)
    KERNELS[lanes](operand, columns, out, ())
    assert not out[:, matrix.shape[1] :].any()
    return out[:, : matrix.shape[1]]


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (3, 2, 16), (4, 7, 17), (5, 64, 15), (130, 672, 192), (384, 346, 64)],
)
def test_against_int64(shape: tuple[int, int, int], lanes: int) -> None:
    rows, depth, outputs = shape
    rng = np.random.default_rng(shape)
    x = rng.integers(-255, 256, (rows, depth)).astype(np.int16)
    matrix = rng.integers(-(1 << 14), 1 << 14, (depth, outputs)).astype(np.int16)
    np.testing.assert_array_equal(product(x, matrix, lanes), x.astype(np.int64) @ matrix)


@pytest.mark.parametrize(
    "shape",
    [(1, 1, 1), (3, 2, 16), (4, 7, 17), (5, 64, 15), (130, 672, 192), (384, 352, 64)],
)
def test_bytes_against_int64(shape: tuple[int, int, int], lanes: int) -> None:
    rows, depth, outputs = shape
    rng = np.random.default_rng(shape)
    x = rng.integers(0, 256, (rows, depth), np.uint8)
    matrix = rng.integers(-32, 33, (depth, outputs), np.int8)
    np.testing.assert_array_equal(product(x, matrix, lanes), x.astype(np.int64) @ matrix)


def test_groups_of_bytes(lanes: int) -> None:
    """In turns of eight along the depth, the first two of each four and the last two."""
    depth = np.arange(24).reshape(1, 1, 24)[..., :19]
    assert grouped(depth)[0, 0].tolist() == [
        [0, 1, 4, 5],
        [2, 3, 6, 7],
        [8, 9, 12, 13],
        [10, 11, 14, 15],
        [16, 17, 0, 0],
        [18, 0, 0, 0],
    ]
    # Sums of a group come to the ends of int16, those of different groups to any sum.
    x = np.full((6, 16), 255, np.uint8)
    x[1::2] = 128
    matrix = np.zeros((16, 5), np.int8)
    groups = [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]
    for column, signs in enumerate([[1, 1, 1, 1], [-1, -1, -1, -1], [1, -1, -1, 1]]):
        for group, sign in zip(groups, signs, strict=True):
            matrix[group, column] = np.array([32, 31, 33, 32]) * sign
    matrix[[0, 5, 9, 15], 3] = 127, -127, 127, -128
    matrix[[0, 1, 4, 5], 4] = 127, 1, -127, -1
    np.testing.assert_array_equal(product(x, matrix, lanes), x.astype(int) @ matrix)


@pytest.mark.parametrize("sign", [1, -1])
def test_sums_up_to_the_ends_of_int32(sign: int, lanes: int) -> None:
    """Sums of products that all have one sign: 2 x 32767^2, and 65535 x 32767 in small ones."""
    x = np.full((6, 2), INT16.max, dtype=np.int16)
    matrix = np.full((2, 16), sign * INT16.max, dtype=np.int16)
    np.testing.assert_array_equal(product(x, matrix, lanes), sign * 2 * 32767**2)
    x, matrix = np.ones((6, 65534), np.int16), np.full((65534, 16), sign * 32767, np.int16)
    np.testing.assert_array_equal(product(x, matrix, lanes), sign * 65534 * 32767)


def test_least_operands(lanes: int) -> None:
    """-32768 times itself has no int16, and twice that no int32; once it is exact."""
    x = np.array([[INT16.min, 0, INT16.min, 1]], dtype=np.int16)
    matrix = np.array([[INT16.min], [INT16.min], [1], [INT16.min]], dtype=np.int16)
    np.testing.assert_array_equal(product(x, matrix, lanes), [[2**30 - 2 * 32768]])


def test_operands_within_larger_arrays(lanes: int) -> None:
    rng = np.random.default_rng(4)
    x = rng.integers(-99, 99, (20, 30)).astype(np.int16)
    matrix = rng.integers(-99, 99, (30, 48)).astype(np.int16)
    expected = x[3:17, 4:24].astype(np.int64) @ matrix[4:24]
    out = np.full((20, 64), 7, dtype=np.int32)
    KERNELS[lanes](x[3:17, 4:24], packed(matrix, lanes)[:, 2:12], out[2:16, :32], ())
    np.testing.assert_array_equal(out[2:16, :32], expected[:, :32])
    out[2:16, :32] = 7
    assert (out == 7).all()


def test_what_does_not_fit_is_refused() -> None:
    """The kernel reads and writes memory by address: it must not start on wrong shapes."""
    x, columns = np.ones((8, 6), np.int16), packed(np.ones((6, 32), np.int16))
    vectors, other = 32 // VECTOR, NARROW if VECTOR == WIDE else WIDE
    out = np.empty((8, 32), np.int32)
    multiply(x, columns, out)
    for wrong in (
        (x[:, :4], columns, out),
        (x[:7], columns, out),
        (x[:, :0], columns[:, :0], out),
        (x, columns[: vectors // 2], out),
        (x, columns, out[:, :24]),
        (x, packed(np.ones((6, 32), np.int16), other), out),
        (x, np.ones((4, 3, 4, 2), np.int16), out),
        (x, np.ones((vectors, 3, VECTOR, 1), np.int16), out),
        (np.ones((8, 12), np.int16)[:, ::2], columns, out),
        (x, columns, np.empty((8, 64), np.int32)[:, ::2]),
        (x, np.ones((vectors, 6, VECTOR, 2), np.int16)[:, ::2], out),
    ):
        with pytest.raises(ValueError, match=r"fit|multiple|packed|side by side"):
            multiply(*wrong)
    octets, byte_columns = np.ones((8, 8), np.uint8), packed(np.ones((8, 32)), kind=np.int8)
    multiply(octets, byte_columns, out)
    for wrong in (
        (octets[:, :6], byte_columns, out),
        (octets[:, :4], byte_columns[:, :1], out),
        (octets, np.ones((vectors, 2, VECTOR, 2), np.int8), out),
        (np.ones((8, 16), np.uint8)[:, ::2], byte_columns, out),
    ):
        with pytest.raises(ValueError, match=r"fit|multiple|packed|side by side"):
            multiply(*wrong)
    for wrong_types in (
        (x, byte_columns, out),
        (octets.view(np.int8), byte_columns, out),
        (octets, byte_columns.view(np.uint8), out),
        (x.astype(np.int8), columns, out),
        (x, columns.astype(np.int32), out),
        (x, columns, out.astype(np.int64)),
    ):
        with pytest.raises(TypingError):
            multiply(*wrong_types)


def machine_code(lanes: int, processor: str, of_bytes: bool = False) -> str:
    """The kernel as compiled for a processor by name, this one or another."""
    fresh = product_kernel(lanes=lanes)
    left, right = (np.uint8, np.int8) if of_bytes else (np.int16, np.int16)
    out = np.empty((8, 2 * lanes), np.int32)
    fresh(np.ones((8, 8), left), packed(np.ones((8, 2 * lanes)), lanes, right), out, ())
    compiled = fresh.inspect_llvm()  # type: ignore[attr-defined]
    module = binding.parse_assembly("\n".join(compiled.values()))
    target = binding.Target.from_triple("x86_64-unknown-linux-gnu")
    return str(target.create_target_machine(cpu=processor, opt=3).emit_assembly(module))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiled for x86 only")
@pytest.mark.parametrize(
    ("processor", "lanes", "expected"),
    [
        ("x86-64", NARROW, r"pmaddwd\s.*%xmm"),
        ("znver3", NARROW, r"vpmaddwd\s.*%ymm"),
        ("alderlake", NARROW, r"vpdpwssd\s.*%ymm"),
        ("skylake-avx512", WIDE, r"vpmaddwd\s.*%zmm"),
        ("sapphirerapids", WIDE, r"vpdpwssd\s.*%zmm"),
        ("znver4", WIDE, r"vpdpwssd\s.*%zmm"),
    ],
)
def test_machine_code_sums_pairs_of_products(processor: str, lanes: int, expected: str) -> None:
    """One instruction for two products each, as wide as the processor's vectors, and no product of
    32 bits."""
    text = machine_code(lanes, processor)
    assert len(re.findall(expected, text)) >= 10
    assert "pmulld" not in text


def tile_code(lanes: int, processor: str) -> str:
    """A tile of products of bytes by the instructions that are named, for a processor by name."""
    module, octets = ir.Module(), ir.IntType(8).as_pointer()
    kinds = [octets, ir.IntType(64), octets, ir.IntType(64), ir.IntType(64), octets]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), kinds), "tile")
    builder = ir.IRBuilder(function.append_basic_block())
    left, left_stride, right, right_stride, depth, out = function.args
    sides = (left, left_stride), (right, right_stride)
    totals = _Tile(builder, _sums_of_bytes_named, 2, *sides, depth, 4, lanes).totals
    for row, total in enumerate(totals):
        place = builder.bitcast(out, total.type.as_pointer())
        builder.store(total, builder.gep(place, [ir.Constant(ir.IntType(64), row)]))
    builder.ret_void()
    parsed = binding.parse_assembly(str(module))
    parsed.verify()
    target = binding.Target.from_triple("x86_64-unknown-linux-gnu")
    return str(target.create_target_machine(cpu=processor, opt=3).emit_assembly(parsed))


@pytest.mark.skipif(platform.machine() != "x86_64", reason="compiled for x86 only")
@pytest.mark.parametrize(
    ("processor", "lanes", "register"),
    [("znver3", NARROW, "ymm"), ("skylake-avx512", WIDE, "zmm"), ("znver4", WIDE, "zmm")],
)
def test_machine_code_sums_pairs_of_products_of_bytes(
    processor: str, lanes: int, register: str
) -> None:
    """For two products one instruction, and one more to widen the sums of four (with VNNI it adds
    them to the total, too)."""
    text = tile_code(lanes, processor)
    assert len(re.findall(rf"vpmaddubsw\s.*%{register}", text)) == 16
    assert len(re.findall(rf"(vpmaddwd|vpdpwssd)\s.*%{register}", text)) == 8


@pytest.mark.skipif(not get_host_cpu_features().get("avx2"), reason="this processor has no AVX2")
def test_products_of_bytes_use_the_instruction_where_there_is_one() -> None:
    text = machine_code(NARROW, "znver3", of_bytes=True)
    assert len(re.findall(r"vpmaddubsw\s.*%ymm", text)) >= 20
