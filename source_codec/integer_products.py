"""Exact products of integer matrices, at the speed of the processor's vector instructions.

Operands are int16, sums int32. The kernel is a tile of a few rows times two vectors of columns of
the product, whose sums stay in registers while it runs along the depth, two places at a time: a sum
of two products of int16 is one instruction (``pmaddwd`` on x86; with VNNI ``vpdpwssd``, which takes
the addition to the sums along), twice as fast as float32. Compilers do not find that form in a loop
of scalars, so that the tile is written in LLVM's operations on vectors, which mean the same on
every processor: where there is no such instruction, LLVM makes it of others. How many lanes a
vector has is a matter of speed alone.

Reference: LLVM Language Reference Manual, "Vector Operations"
(https://llvm.org/docs/LangRef.html).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from llvmlite.binding import get_host_cpu_features
from numba import njit, types
from numba.extending import intrinsic
from numpy.typing import NDArray

NARROW, WIDE = 8, 16
"""Lanes of vectors of 256 and of 512 bits."""
VECTOR = WIDE if get_host_cpu_features().get("avx512bw") else NARROW
"""Columns of the product that lie in one vector, on this machine."""
COLUMNS = 2 * VECTOR
"""Columns of a tile, on this machine: operands are padded to a multiple of this many."""
_ROWS = 4  # of a tile: its sums fill half of the sixteen registers that most processors have

_I16, _I32, _I64 = ir.IntType(16), ir.IntType(32), ir.IntType(64)


def _vector(numbers: list[int]) -> ir.Constant:
    return ir.Constant(ir.VectorType(_I32, len(numbers)), numbers)


class _Tile:
    """The code of one tile.

    Args:
        builder: where to write it.
        left: address of its first row of the left operand, and the elements from row to row.
        right: address of its first packed columns, and the elements from one vector of columns to
            the next.
        out: address of its first element of the product, and the elements from row to row.
        pairs: half the depth.
        rows: of the tile.
        lanes: of a vector.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        left: tuple[ir.Value, ir.Value],
        right: tuple[ir.Value, ir.Value],
        out: tuple[ir.Value, ir.Value],
        pairs: ir.Value,
        rows: int,
        lanes: int,
    ) -> None:
        self.builder = builder
        self.lanes = lanes
        self._pairs = ir.VectorType(_I16, 2 * lanes)
        self._products = ir.VectorType(_I32, 2 * lanes)
        self._sums = ir.VectorType(_I32, lanes)
        self._rows = [self._at(*left, row) for row in range(rows)]
        self._columns = [self._at(*right, vector) for vector in range(2)]
        sums = self._run(pairs, [(row, vector) for row in range(rows) for vector in range(2)])
        for (row, vector), total in sums.items():
            first = builder.gep(self._at(*out, row), [_I64(vector * lanes)])
            builder.store(total, builder.bitcast(first, self._sums.as_pointer()), align=4)

    def _at(self, start: ir.Value, stride: ir.Value, index: int) -> ir.Value:
        return self.builder.gep(start, [self.builder.mul(stride, _I64(index))])

    def _run(
        self, pairs: ir.Value, places: list[tuple[int, int]]
    ) -> dict[tuple[int, int], ir.Value]:
        """The loop along the depth, which leaves the sums of each place of the tile."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        pair = builder.phi(_I64)
        sums = {place: builder.phi(self._sums) for place in places}
        right = [self._right(vector, pair) for vector in range(len(self._columns))]
        left = [self._left(row, pair) for row in range(len(self._rows))]
        longer = {
            (row, vector): builder.add(total, self._sums_of_pairs(left[row], right[vector]))
            for (row, vector), total in sums.items()
        }
        following = builder.add(pair, _I64(1))
        pair.add_incoming(_I64(0), before)
        pair.add_incoming(following, loop)
        for place, total in sums.items():
            total.add_incoming(_vector([0] * self.lanes), before)
            total.add_incoming(longer[place], loop)
        builder.cbranch(builder.icmp_unsigned("<", following, pairs), loop, after)
        builder.position_at_end(after)
        return longer

    def _left(self, row: int, pair: ir.Value) -> ir.Value:
        """Two elements of a row, in all lanes."""
        builder = self.builder
        first = builder.gep(self._rows[row], [builder.shl(pair, _I64(1))])
        both = builder.load(builder.bitcast(first, _I32.as_pointer()), align=2)
        undefined = ir.Constant(self._sums, ir.Undefined)
        lane = builder.insert_element(undefined, both, _I32(0))
        lanes = builder.shuffle_vector(lane, undefined, _vector([0] * self.lanes))
        return builder.sext(builder.bitcast(lanes, self._pairs), self._products)

    def _right(self, vector: int, pair: ir.Value) -> ir.Value:
        """Two elements of each column of a vector."""
        builder = self.builder
        first = builder.gep(self._columns[vector], [builder.mul(pair, _I64(2 * self.lanes))])
        elements = builder.load(builder.bitcast(first, self._pairs.as_pointer()), align=2)
        return builder.sext(elements, self._products)

    def _sums_of_pairs(self, left: ir.Value, right: ir.Value) -> ir.Value:
        builder = self.builder
        products = builder.mul(left, right)
        undefined = ir.Constant(self._products, ir.Undefined)
        even, odd = (list(range(first, 2 * self.lanes, 2)) for first in (0, 1))
        return builder.add(
            builder.shuffle_vector(products, undefined, _vector(even)),
            builder.shuffle_vector(products, undefined, _vector(odd)),
        )


def _tile(rows: int, lanes: int) -> Callable[..., Any]:
    """A compiled function that writes ``rows`` x ``2 lanes`` elements of a product.

    Its arguments are those of :func:`multiply`, and row and column of the tile's first element.
    """

    def typed(
        _context: Any,
        left: types.Type,
        right: types.Type,
        out: types.Type,
        row: types.Type,
        column: types.Type,
    ) -> Any:
        kinds = [getattr(array, "dtype", None) for array in (left, right, out)]
        if kinds != [types.int16, types.int16, types.int32]:
            return None

        def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            x, columns, product = (
                target.make_array(kind)(target, builder, value)
                for kind, value in zip(signature.args[:3], values[:3], strict=True)
            )
            row, column = values[3:]

            def elements(array: Any, axis: int, size: int) -> ir.Value:
                stride = builder.extract_value(array.strides, axis)
                return builder.sdiv(stride, _I64(size), flags=["exact"])

            left_stride, out_stride = elements(x, 0, 2), elements(product, 0, 4)
            right_stride = elements(columns, 0, 2)
            block = builder.sdiv(column, _I64(lanes))
            _Tile(
                builder,
                (builder.gep(x.data, [builder.mul(row, left_stride)]), left_stride),
                (builder.gep(columns.data, [builder.mul(block, right_stride)]), right_stride),
                (
                    builder.gep(product.data, [builder.add(builder.mul(row, out_stride), column)]),
                    out_stride,
                ),
                builder.extract_value(columns.shape, 1),
                rows,
                lanes,
            )
            return target.get_dummy_value()

        return types.void(left, right, out, row, column), generate

    typed.__name__ = f"tile_of_{rows}_rows_{lanes}_lanes"
    return intrinsic(typed)


_narrow_rows, _narrow_row = _tile(_ROWS, NARROW), _tile(1, NARROW)
_wide_rows, _wide_row = _tile(_ROWS, WIDE), _tile(1, WIDE)


@njit(cache=True, nogil=True)
def multiply(x: NDArray[np.int16], columns: NDArray[np.int16], out: NDArray[np.int32]) -> None:
    """``out = x @ matrix``, exactly where sums of magnitudes stay below 2^31.

    Args:
        x: int16 (N, K), K even; elements of a row side by side.
        columns: int16 (M / lanes, K / 2, lanes, 2), the matrix (K, M) from :func:`packed`.
        out: int32 (N, M' <= M), M' a multiple of twice the lanes, overwritten; elements of a row
            side by side.

    Raises:
        ValueError: shapes or strides that do not fit together.
    """
    pairs, lanes = columns.shape[1], columns.shape[2]
    if x.shape[1] != 2 * pairs or pairs == 0 or x.shape[0] != out.shape[0]:
        raise ValueError("the operands' shapes do not fit together")
    if lanes not in (NARROW, WIDE) or columns.shape[3] != 2:
        raise ValueError("the matrix is not packed")
    if out.shape[1] % (2 * lanes) or out.shape[1] > lanes * columns.shape[0]:
        raise ValueError("the product has too many columns, or not a multiple of a tile's")
    if x.strides[1] != 2 or out.strides[1] != 4 or columns.strides[1] != 4 * lanes:
        raise ValueError("the elements of a row must lie side by side")
    whole = x.shape[0] // _ROWS * _ROWS
    for column in range(0, out.shape[1], 2 * lanes):
        if lanes == NARROW:
            for row in range(0, whole, _ROWS):
                _narrow_rows(x, columns, out, row, column)
            for row in range(whole, x.shape[0]):
                _narrow_row(x, columns, out, row, column)
        else:
            for row in range(0, whole, _ROWS):
                _wide_rows(x, columns, out, row, column)
            for row in range(whole, x.shape[0]):
                _wide_row(x, columns, out, row, column)


def padded_to(count: int, step: int) -> int:
    """The least multiple of ``step`` from ``count`` on."""
    return -(-count // step) * step


def packed(matrix: NDArray[np.integer[Any]], lanes: int = VECTOR) -> NDArray[np.int16]:
    """A matrix (K, M) as :func:`multiply` reads it, for as many more products as one likes.

    Args:
        matrix: integers that int16 holds.
        lanes: of a vector, :data:`NARROW` or :data:`WIDE`.

    Returns:
        int16 (M' / lanes, K' / 2, lanes, 2): a vector of columns, two rows of them, side by side.
        M' is the next multiple of twice the lanes, K' the next even number; what is added are
        zeros.
    """
    depth, columns = matrix.shape
    whole = np.zeros((padded_to(depth, 2), padded_to(columns, 2 * lanes)), dtype=np.int16)
    whole[:depth, :columns] = matrix
    parts = whole.reshape(-1, 2, whole.shape[1] // lanes, lanes)
    return np.ascontiguousarray(parts.transpose(2, 0, 3, 1))
