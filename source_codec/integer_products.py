"""Exact products of integer matrices, at the speed of the processor's vector instructions.

Operands are either int16 on both sides, or uint8 on the left and int8 on the right; sums are int32.
The kernel is a tile of a few rows times two vectors of columns of the product, whose sums stay in
registers while it runs along the depth. What a lane takes at once is a *piece* of 32 bits: two
int16 or four bytes of a row, and as many of a column.

- Words: a sum of two products of int16 is one instruction (``pmaddwd`` on x86; with VNNI
  ``vpdpwssd``, which takes the addition to the sums along), twice as fast as float32.
- Bytes: a sum of two products of bytes is one instruction too, but it gives 16 bits (``pmaddubsw``
  on x86). The sums of two pieces are added up in 16 bits, and widened together: half as fast again
  as words. Each sum in 16 bits is of the products of a *group* of four elements, which
  :func:`grouped` tells; whoever makes the operands sees to it that no such sum passes 16 bits, in
  whichever sequence it is added up.

Compilers do not find these forms in a loop of scalars, so that the tile is written in LLVM's
operations on vectors, which mean the same on every processor: where there is no such instruction,
LLVM makes it of others. Only the products of bytes are named by their instruction where there is
one, for LLVM does not find it. How many lanes a vector has is a matter of speed alone.

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
from numpy.typing import DTypeLike, NDArray

from source_codec.vectors import constant

NARROW, WIDE = 8, 16
"""Lanes of vectors of 256 and of 512 bits."""
VECTOR = WIDE if get_host_cpu_features().get("avx512bw") else NARROW
"""Columns of the product that lie in one vector, on this machine."""
COLUMNS = 2 * VECTOR
"""Columns of a tile, on this machine: operands are padded to a multiple of this many."""
_PIECE = 4  # bytes
_TURN = {np.dtype(np.int16): 1, np.dtype(np.int8): 2}
"""Pieces that a turn along the depth takes, by the right operand's type."""
BYTES_STEP = _PIECE * _TURN[np.dtype(np.int8)]
"""Products of bytes have a multiple of so many elements of depth."""

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_PAIRS_OF_BYTES = {
    NARROW: ("avx2", "llvm.x86.avx2.pmadd.ub.sw", "llvm.x86.avx2.pmadd.wd"),
    WIDE: ("avx512bw", "llvm.x86.avx512.pmaddubs.w.512", "llvm.x86.avx512.pmaddw.d.512"),
}
"""By lanes: a feature of processors, its sums of two products of bytes, and of int16."""

# Arguments of the functions below are values of vector types: lanes of 32 bits, 2 lanes of 16 bits,
# or 4 lanes of bytes.


def _vector(element: ir.Type, lanes: int) -> ir.VectorType:
    return ir.VectorType(element, lanes)


def _sums_of_two(builder: ir.IRBuilder, terms: ir.Value) -> ir.Value:
    """Sums of neighbours: half as many lanes."""
    undefined = ir.Constant(terms.type, ir.Undefined)
    first, second = (
        builder.shuffle_vector(
            terms, undefined, constant(_I32, list(range(start, terms.type.count, 2)))
        )
        for start in (0, 1)
    )
    return builder.add(first, second)


def _sums_of_words(
    builder: ir.IRBuilder, lanes: int, left: list[ir.Value], right: list[ir.Value]
) -> ir.Value:
    """Sums of two products in int32, from one piece on each side."""
    words, products = _vector(_I16, 2 * lanes), _vector(_I32, 2 * lanes)
    x, y = (builder.sext(builder.bitcast(pieces[0], words), products) for pieces in (left, right))
    return _sums_of_two(builder, builder.mul(x, y))


def _sums_of_bytes(
    builder: ir.IRBuilder, lanes: int, left: list[ir.Value], right: list[ir.Value]
) -> ir.Value:
    """Sums of eight products in int32, by way of sums of four in int16, from two pieces each."""
    octets, words = _vector(_I8, 4 * lanes), _vector(_I16, 4 * lanes)
    groups = None
    for pieces in zip(left, right, strict=True):
        x, y = (builder.bitcast(piece, octets) for piece in pieces)
        products = builder.mul(builder.zext(x, words), builder.sext(y, words))
        pairs = _sums_of_two(builder, products)
        groups = pairs if groups is None else builder.add(groups, pairs)
    return _sums_of_two(builder, builder.sext(groups, _vector(_I32, 2 * lanes)))


def _sums_of_bytes_named(
    builder: ir.IRBuilder, lanes: int, left: list[ir.Value], right: list[ir.Value]
) -> ir.Value:
    """The same by the processor's instructions; the saturation of the first never occurs."""
    octets, words = _vector(_I8, 4 * lanes), _vector(_I16, 2 * lanes)
    _, bytes_name, words_name = _PAIRS_OF_BYTES[lanes]
    of_bytes = builder.module.declare_intrinsic(
        bytes_name, (), ir.FunctionType(words, [octets, octets])
    )
    of_words = builder.module.declare_intrinsic(
        words_name, (), ir.FunctionType(_vector(_I32, lanes), [words, words])
    )
    groups = None
    for pieces in zip(left, right, strict=True):
        pairs = builder.call(of_bytes, [builder.bitcast(piece, octets) for piece in pieces])
        groups = pairs if groups is None else builder.add(groups, pairs)
    return builder.call(of_words, [groups, constant(_I16, [1] * (2 * lanes))])


class _Tile:
    """The code of one tile.

    Args:
        builder: where to write it.
        sums: writes the sums of products of some pieces.
        turn: how many pieces that are.
        left: address of its first row of the left operand, and the bytes from row to row.
        right: address of its first packed columns, and the bytes from one vector of columns to the
            next.
        depth: pieces.
        rows: of the tile.
        lanes: of a vector.

    Attributes:
        totals: the sums of each row, twice the lanes.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        sums: Callable[[ir.IRBuilder, int, list[ir.Value], list[ir.Value]], ir.Value],
        turn: int,
        left: tuple[ir.Value, ir.Value],
        right: tuple[ir.Value, ir.Value],
        depth: ir.Value,
        rows: int,
        lanes: int,
    ) -> None:
        self.builder = builder
        self.lanes = lanes
        self._sums_of_products, self._turn = sums, turn
        self._sums = _vector(_I32, lanes)
        self._rows = [self._at(*left, row) for row in range(rows)]
        self._columns = [self._at(*right, vector) for vector in range(2)]
        sides = self._run(depth, [(row, vector) for row in range(rows) for vector in range(2)])
        both = constant(_I32, list(range(2 * lanes)))
        self.totals = [
            builder.shuffle_vector(sides[row, 0], sides[row, 1], both) for row in range(rows)
        ]

    def _at(self, start: ir.Value, stride: ir.Value, index: int) -> ir.Value:
        return self.builder.gep(start, [self.builder.mul(stride, _I64(index))])

    def _run(
        self, depth: ir.Value, places: list[tuple[int, int]]
    ) -> dict[tuple[int, int], ir.Value]:
        """The loop along the depth, which leaves the sums of each place of the tile."""
        builder = self.builder
        before = builder.block
        loop, after = builder.append_basic_block("depth"), builder.append_basic_block("sums")
        builder.branch(loop)
        builder.position_at_end(loop)
        piece = builder.phi(_I64)
        sums = {place: builder.phi(self._sums) for place in places}
        pieces = [builder.add(piece, _I64(further)) for further in range(self._turn)]
        right = [[self._right(column, at) for at in pieces] for column in self._columns]
        longer = {}
        for row, start in enumerate(self._rows):
            left = [self._left(start, at) for at in pieces]
            for vector in range(len(self._columns)):
                added = self._sums_of_products(builder, self.lanes, left, right[vector])
                longer[row, vector] = builder.add(sums[row, vector], added)
        following = builder.add(piece, _I64(self._turn))
        piece.add_incoming(_I64(0), before)
        piece.add_incoming(following, loop)
        for place, total in sums.items():
            total.add_incoming(constant(_I32, [0] * self.lanes), before)
            total.add_incoming(longer[place], loop)
        builder.cbranch(builder.icmp_unsigned("<", following, depth), loop, after)
        builder.position_at_end(after)
        return longer

    def _left(self, row: ir.Value, piece: ir.Value) -> ir.Value:
        """A piece of a row, in all lanes."""
        builder = self.builder
        first = builder.gep(row, [builder.mul(piece, _I64(_PIECE))])
        loaded = builder.load(builder.bitcast(first, _I32.as_pointer()), align=1)
        undefined = ir.Constant(self._sums, ir.Undefined)
        lane = builder.insert_element(undefined, loaded, _I32(0))
        return builder.shuffle_vector(lane, undefined, constant(_I32, [0] * self.lanes))

    def _right(self, column: ir.Value, piece: ir.Value) -> ir.Value:
        """A piece of each column of a vector."""
        builder = self.builder
        first = builder.gep(column, [builder.mul(piece, _I64(_PIECE * self.lanes))])
        return builder.load(builder.bitcast(first, self._sums.as_pointer()), align=1)


class Operand:
    """An array among the arguments of a compiled tile, from the tile's first element on.

    Args:
        target, builder: of the compiler.
        kind: its type.
        value: its value.
        row, column: of the first element; of arrays of one dimension the column alone.
    """

    def __init__(
        self,
        target: Any,
        builder: ir.IRBuilder,
        kind: types.Array,
        value: ir.Value,
        row: ir.Value,
        column: ir.Value,
    ) -> None:
        self._builder = builder
        self.dtype = kind.dtype
        self.array = target.make_array(kind)(target, builder, value)
        self._stride = builder.extract_value(self.array.strides, 0)
        offset = builder.mul(column, _I64(kind.dtype.bitwidth // 8))
        if kind.ndim > 1:
            offset = builder.add(offset, builder.mul(row, self._stride))
        data = builder.bitcast(self.array.data, _I8.as_pointer())
        self.start = builder.gep(data, [offset]), self._stride

    def _address(self, row: int, kind: ir.Type) -> ir.Value:
        start = self._builder.gep(self.start[0], [self._builder.mul(self._stride, _I64(row))])
        return self._builder.bitcast(start, kind.as_pointer())

    def load(self, lanes: int, row: int = 0) -> ir.Value:
        """A vector of elements, of a row of the tile."""
        kind = _vector(ir.IntType(self.dtype.bitwidth), lanes)
        return self._builder.load(self._address(row, kind), align=self.dtype.bitwidth // 8)

    def store(self, vector: ir.Value, row: int) -> None:
        """Writes a vector to a row of the tile."""
        to = self._address(row, vector.type)
        self._builder.store(vector, to, align=self.dtype.bitwidth // 8)


End = Callable[[ir.IRBuilder, list[ir.Value], Operand, list[Operand]], None]
"""Writes what becomes of a tile: of the sums of its rows, in an array, with the help of others."""


def _sums_themselves(
    _builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, _others: list[Operand]
) -> None:
    for row, total in enumerate(totals):
        out.store(total, row)


def _tile(rows: int, lanes: int, end: End) -> Callable[..., Any]:
    """A compiled function that writes ``rows`` x ``2 lanes`` elements made of a product.

    Its arguments are those of :func:`multiply`, row and column of the tile's first element, and a
    tuple of the arrays that its end takes besides. It checks nothing.
    """

    def typed(
        _context: Any,
        left: types.Type,
        right: types.Type,
        out: types.Type,
        row: types.Type,
        column: types.Type,
        others: types.Type,
    ) -> Any:
        kinds = [getattr(array, "dtype", None) for array in (left, right)]
        of_words = kinds == [types.int16, types.int16]
        if not of_words and kinds != [types.uint8, types.int8]:
            return None
        if end is _sums_themselves and out.dtype != types.int32:
            return None

        def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
            row, column = values[3:5]
            zero = _I64(0)
            x = Operand(target, builder, signature.args[0], values[0], row, zero)
            vectors = builder.sdiv(column, _I64(lanes))
            columns = Operand(target, builder, signature.args[1], values[1], vectors, zero)
            to = Operand(target, builder, signature.args[2], values[2], row, column)
            besides = [
                Operand(target, builder, kind, builder.extract_value(values[5], i), row, column)
                for i, kind in enumerate(signature.args[5].types)
            ]
            if of_words:
                sums, turn = _sums_of_words, _TURN[np.dtype(np.int16)]
            else:
                # What the code is compiled for, which may be less than this processor has.
                features = target.codegen().magic_tuple()[2].split(",")
                named = f"+{_PAIRS_OF_BYTES[lanes][0]}" in features
                sums = _sums_of_bytes_named if named else _sums_of_bytes
                turn = _TURN[np.dtype(np.int8)]
            depth = builder.extract_value(columns.array.shape, 1)
            totals = _Tile(builder, sums, turn, x.start, columns.start, depth, rows, lanes).totals
            end(builder, totals, to, besides)
            return target.get_dummy_value()

        return types.void(left, right, out, row, column, others), generate

    typed.__name__ = f"tile_of_{rows}_rows_{lanes}_lanes_{end.__name__}"
    return intrinsic(typed)


_ROWS = 4  # of a tile: its sums fill half of the sixteen registers that most processors have


def product_kernel(end: End = _sums_themselves, lanes: int = VECTOR) -> Callable[..., None]:
    """A kernel that makes something of the product ``x @ matrix``. It checks nothing.

    Its arguments are those of :func:`multiply`, with ``out`` of any type, and a tuple of the arrays
    that its end takes besides.
    """
    rows_tile, row_tile = _tile(_ROWS, lanes, end), _tile(1, lanes, end)

    @njit(nogil=True)
    def product(
        x: NDArray[Any], columns: NDArray[Any], out: NDArray[Any], others: tuple[NDArray[Any], ...]
    ) -> None:
        whole = x.shape[0] // _ROWS * _ROWS
        for column in range(0, out.shape[1], 2 * lanes):
            for row in range(0, whole, _ROWS):
                rows_tile(x, columns, out, row, column, others)
            for row in range(whole, x.shape[0]):
                row_tile(x, columns, out, row, column, others)

    result: Callable[..., None] = product
    return result


_product = product_kernel()


@njit(cache=True, nogil=True)
def multiply(
    x: NDArray[np.int16] | NDArray[np.uint8],
    columns: NDArray[np.int16] | NDArray[np.int8],
    out: NDArray[np.int32],
) -> None:
    """``out = x @ matrix``, exactly where sums of magnitudes stay below 2^31.

    Of bytes, the sums of groups must also stay within int16: see :func:`grouped`.

    Args:
        x: int16 or uint8 (N, K), K a multiple of 2, of bytes of :data:`BYTES_STEP`; elements of a
            row side by side.
        columns: the matrix (K, M) from :func:`packed`, int16 or int8.
        out: int32 (N, M' <= M), M' a multiple of :data:`COLUMNS`, overwritten; elements of a row
            side by side.

    Raises:
        ValueError: shapes or strides that do not fit together.
    """
    pieces = columns.shape[1]
    if x.shape[1] * x.itemsize != _PIECE * pieces or pieces == 0 or x.shape[0] != out.shape[0]:
        raise ValueError("the operands' shapes do not fit together")
    if columns.itemsize == 1 and pieces % 2:
        raise ValueError("the depth of products of bytes is not a multiple of a turn's")
    if columns.shape[2] != VECTOR or columns.shape[3] * columns.itemsize != _PIECE:
        raise ValueError("the matrix is not packed")
    if out.shape[1] % COLUMNS or out.shape[1] > VECTOR * columns.shape[0]:
        raise ValueError("the product has too many columns, or not a multiple of a tile's")
    if x.strides[1] != x.itemsize or out.strides[1] != 4 or columns.strides[1] != _PIECE * VECTOR:
        raise ValueError("the elements of a row must lie side by side")
    _product(x, columns, out, ())


def padded_to(count: int, step: int) -> int:
    """The least multiple of ``step`` from ``count`` on."""
    return -(-count // step) * step


def packed(
    matrix: NDArray[np.integer[Any]], lanes: int = VECTOR, kind: DTypeLike = np.int16
) -> NDArray[Any]:
    """A matrix (K, M) as :func:`multiply` reads it, for as many more products as one likes.

    Args:
        matrix: integers that the type holds.
        lanes: of a vector, :data:`NARROW` or :data:`WIDE`.
        kind: int16 or int8.

    Returns:
        int16 (M' / lanes, K' / 2, lanes, 2) or int8 (M' / lanes, K' / 4, lanes, 4): a vector of
        columns, a piece of each, side by side. M' is the next multiple of twice the lanes, K' that
        of 2, of bytes of :data:`BYTES_STEP`; what is added are zeros.
    """
    kind = np.dtype(kind)
    piece = _PIECE // kind.itemsize
    depth, columns = matrix.shape
    whole = np.zeros((padded_to(depth, piece * _TURN[kind]), padded_to(columns, 2 * lanes)), kind)
    whole[:depth, :columns] = matrix
    parts = whole.reshape(-1, piece, whole.shape[1] // lanes, lanes)
    return np.ascontiguousarray(parts.transpose(2, 0, 3, 1))


def grouped(row: NDArray[Any]) -> NDArray[Any]:
    """Elements (..., K) along the depth of products of bytes, by groups: (..., K' / 4, 4).

    The products of a group are added up in int16. K' is the next multiple of :data:`BYTES_STEP`;
    what is added are zeros.
    """
    padding = [(0, 0)] * (row.ndim - 1) + [(0, -row.shape[-1] % BYTES_STEP)]
    turns = np.pad(row, padding).reshape(*row.shape[:-1], -1, 2, 2, 2)
    return np.swapaxes(turns, -3, -2).reshape(*row.shape[:-1], -1, 4)
