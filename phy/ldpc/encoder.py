"""Systematic LDPC encoding on the base graph (TS 38.212, clause 5.3.2).

With x_r the sum of row r over its information columns (all rotations applied), the core rows of
both graphs read, for parity vectors p_0 .. p_3 and rotations a and b,

    graph 1: x_0 + P^a p_0 + p_1 = 0        graph 2: x_0 + P^a p_0 + p_1 = 0
             x_1 + P^b p_0 + p_1 + p_2 = 0           x_1 + p_1 + p_2 = 0
             x_2 + p_2 + p_3 = 0                     x_2 + P^b p_0 + p_2 + p_3 = 0
             x_3 + P^a p_0 + p_3 = 0                 x_3 + P^a p_0 + p_3 = 0

Adding the four rows leaves P^b p_0 = x_0 + x_1 + x_2 + x_3. With p_0 known, every other row (but
row 3, which is then fulfilled) has one unknown, its last column, and that column is not rotated:
the unknown is the sum of the row's other entries. This holds for the extension rows as well.
"""

import numpy as np
from numba import njit
from numpy.typing import NDArray

from phy.ldpc.base_graph import CORE_ROWS, LiftedGraph, xor_rotated


def encode(information: NDArray[np.uint8], graph: LiftedGraph) -> NDArray[np.uint8]:
    """Code words of the lifted graph, before puncturing and rate matching.

    Arguments:
        information: Information bits with filler bits as zeros, shape (words, K), uint8, where K
            is Z times the graph's information columns.
        graph: Complete lifted base graph.

    Returns:
        Code words with the parity behind the information, shape (words, Z column_count), uint8.
    """
    words = np.zeros(
        (information.shape[0], graph.lifting_size * graph.column_count), dtype=np.uint8
    )
    words[:, : information.shape[1]] = information
    first_parity = graph.columns[: graph.row_start[CORE_ROWS]] == graph.information_columns
    # p_0 occurs with shifts a, b, a: their exclusive or is the b that is left in the sum.
    core_shift = np.bitwise_xor.reduce(graph.shifts[: graph.row_start[CORE_ROWS]][first_parity])
    _append_parity(
        words,
        graph.row_start,
        graph.columns,
        graph.shifts,
        graph.lifting_size,
        graph.information_columns,
        int(core_shift),
    )
    return words


@njit(nogil=True, cache=True)
def _append_parity(  # type: ignore[no-untyped-def]
    words, row_start, columns, shifts, lifting_size, information_columns, core_shift
):
    """Fills in the parity columns of each row of `words`, (words, Z columns), uint8."""
    accumulator = np.empty(lifting_size, dtype=np.uint8)
    for word in range(words.shape[0]):
        vectors = words[word].reshape(-1, lifting_size)

        accumulator[:] = 0
        for entry in range(row_start[CORE_ROWS]):
            if columns[entry] < information_columns:
                xor_rotated(accumulator, vectors[columns[entry]], shifts[entry])
        # (P^b p)[t] = p[t + b], so p_0 is the sum rotated the other way.
        first_parity = vectors[information_columns]
        xor_rotated(first_parity, accumulator, (lifting_size - core_shift) % lifting_size)

        for row in range(row_start.size - 1):
            if row == CORE_ROWS - 1:
                continue
            last = row_start[row + 1] - 1
            for entry in range(row_start[row], last):
                xor_rotated(vectors[columns[last]], vectors[columns[entry]], shifts[entry])
