"""The two base graphs of 5G NR LDPC codes and their lifting (TS 38.212, clause 5.3.2).

A base graph is a small matrix whose entries are either empty or a cyclic shift. Lifting by Z
replaces each empty entry by the Z x Z zero matrix and each shift s by the identity rotated s
places to the right. Check t of a base row therefore meets bit (t + s) mod Z of the base column,
and all Z checks of a row can be worked on together as vectors of length Z that are read with a
rotation. The shifts live in `base_graph_1.csv` and `base_graph_2.csv`, which hold Tables 5.3.2-2
and 5.3.2-3: one line for each entry of the graph, one column for each set of lifting sizes.

Both graphs have the same shape of parity part. Of the first four rows (the core) the parity is
found by solving a small system; each further row (an extension) adds one parity bit that occurs
in that row alone, which is why a row whose parity bit is not sent can be left out.
"""

from dataclasses import dataclass
from functools import cache
from importlib.resources import files

import numpy as np
from numba import njit
from numpy.typing import NDArray

CORE_ROWS = 4

PUNCTURED_COLUMNS = 2
"""Leading information columns that are never sent (5.3.2: the code word starts at bit 2 Z)."""

LIFTING_SETS: tuple[tuple[int, ...], ...] = tuple(
    tuple(a << j for j in range(8) if a << j <= 384) for a in (2, 3, 5, 7, 9, 11, 13, 15)
)
"""Lifting sizes Z = a 2^j by set index (Table 5.3.2-1)."""

LIFTING_SIZES: tuple[int, ...] = tuple(sorted(z for sizes in LIFTING_SETS for z in sizes))

INFORMATION_COLUMNS = {1: 22, 2: 10}
"""Information columns of each base graph: a code word carries K = 22 Z or 10 Z bits."""

MAX_BLOCK_BITS = {1: 8448, 2: 3840}
"""Longest code block K_cb of each base graph (5.2.2)."""


@dataclass(frozen=True, eq=False)
class LiftedGraph:
    """Base graph rows with the shifts of one lifting size, stored row after row.

    Arguments:
        number: Base graph, 1 or 2.
        lifting_size: Z.
        row_start: Index of each row's first entry, shape (rows + 1,), int32; the entries of row
            r are `row_start[r]` to `row_start[r + 1] - 1`.
        columns: Base column of each entry, ascending in a row, shape (entries,), int32.
        shifts: Cyclic shift of each entry in [0, Z), shape (entries,), int32.
    """

    number: int
    lifting_size: int
    row_start: NDArray[np.int32]
    columns: NDArray[np.int32]
    shifts: NDArray[np.int32]

    @property
    def row_count(self) -> int:
        """Number of base rows."""
        return self.row_start.size - 1

    @property
    def column_count(self) -> int:
        """Number of base columns up to the last one in use."""
        return int(self.columns.max()) + 1

    @property
    def information_columns(self) -> int:
        """Number of base columns that carry information (and filler) bits."""
        return INFORMATION_COLUMNS[self.number]

    def restricted(self, rows: NDArray[np.intp], columns: NDArray[np.bool_]) -> "LiftedGraph":
        """Leaves out rows and columns, and puts the rows into another order.

        Arguments:
            rows: The rows that stay, in their new order, shape (rows that stay,), int.
            columns: Which columns stay, with their numbers, shape (column_count,), bool.
        """
        entries = [np.arange(self.row_start[row], self.row_start[row + 1]) for row in rows]
        stay = [of_row[columns[self.columns[of_row]]] for of_row in entries]
        kept = np.concatenate(stay)
        return LiftedGraph(
            self.number,
            self.lifting_size,
            np.cumsum([0, *map(len, stay)], dtype=np.int32),
            self.columns[kept],
            self.shifts[kept],
        )


def require_base_graph(number: int) -> None:
    """Raises ValueError unless the base graph is 1 or 2."""
    if number not in INFORMATION_COLUMNS:
        raise ValueError(f"base graph must be 1 or 2, not {number}")


@cache
def lifted_graph(number: int, lifting_size: int) -> LiftedGraph:
    """The complete base graph with the shifts V mod Z of one lifting size (5.3.2).

    Arguments:
        number: Base graph, 1 or 2.
        lifting_size: Z, one of `LIFTING_SIZES`.

    Raises:
        ValueError: If there is no such base graph or lifting size.
    """
    if lifting_size not in LIFTING_SIZES:
        raise ValueError(f"lifting size must be one of {LIFTING_SIZES}, not {lifting_size}")
    require_base_graph(number)
    set_index = next(i for i, sizes in enumerate(LIFTING_SETS) if lifting_size in sizes)
    table = _shift_table(number)
    rows, columns, shifts = table[:, 0], table[:, 1], table[:, 2 + set_index]
    row_start = np.searchsorted(rows, np.arange(rows[-1] + 2)).astype(np.int32)
    return LiftedGraph(number, lifting_size, row_start, columns.copy(), shifts % lifting_size)


def select_lifting_size(block_bits: int, number: int) -> int:
    """Smallest Z with K_b Z >= K' (5.2.2).

    Arguments:
        block_bits: Bits K' of the code block, its CRC included.
        number: Base graph, 1 or 2.

    Raises:
        ValueError: If there is no such base graph, or the block does not fit it.
    """
    require_base_graph(number)
    if not 1 <= block_bits <= MAX_BLOCK_BITS[number]:
        raise ValueError(
            f"base graph {number} takes blocks of 1 to {MAX_BLOCK_BITS[number]} bits,"
            f" not {block_bits}"
        )
    filled_columns = INFORMATION_COLUMNS[number]
    if number == 2:
        # Short blocks leave more columns to the filler bits, so that Z stays large. 5.2.2 looks
        # at the length before segmentation, which only differs where K_b is 10 either way.
        filled_columns = next(
            columns
            for columns, at_most in ((6, 192), (8, 560), (9, 640), (10, MAX_BLOCK_BITS[2]))
            if block_bits <= at_most
        )
    return next(z for z in LIFTING_SIZES if filled_columns * z >= block_bits)


@cache
def _shift_table(number: int) -> NDArray[np.int32]:
    """Table 5.3.2-2 or -3: rows of (base row, base column, shifts of sets 0 .. 7), int32."""
    with files(__package__).joinpath(f"base_graph_{number}.csv").open() as table:
        return np.loadtxt(table, delimiter=",", skiprows=1, dtype=np.int32)


@njit(nogil=True, cache=True)
def xor_rotated(target, source, shift):  # type: ignore[no-untyped-def]
    """Adds a rotated vector over GF(2): target[t] ^= source[(t + shift) mod Z].

    The rotation is two contiguous runs rather than an index computation for every element, so
    that the compiler can use vector instructions.

    Arguments:
        target: Bits, shape (Z,), uint8, changed in place.
        source: Bits, shape (Z,), uint8.
        shift: Rotation in [0, Z).
    """
    run = target.size - shift
    _xor(target[:run], source[shift:])
    _xor(target[run:], source[:shift])


@njit(nogil=True, cache=True)
def _xor(target, source):  # type: ignore[no-untyped-def]
    """Adds a vector over GF(2)."""
    for t in range(target.size):
        target[t] ^= source[t]
