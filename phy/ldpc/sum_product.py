"""Row-layered sum-product decoding in float64: the exact rule, as a reference for `min_sum`.

The schedule is that of `phy.ldpc.min_sum`. A check node combines LLRs by

    a [+] b = 2 artanh(tanh(a / 2) tanh(b / 2))
            = sign(a) sign(b) (min(|a|, |b|) - ln(1 + e^-||a| - |b||) + ln(1 + e^-(|a| + |b|))),

once from the first entry to the last and once back; the answer to an entry is what comes from both
sides. The second form keeps its precision for large LLRs.

References: F. Kschischang, B. Frey, H.-A. Loeliger, "Factor graphs and the sum-product algorithm",
IEEE Trans. Inf. Theory 47(2), 2001; J. Chen, A. Dholakia, E. Eleftheriou, M. Fossorier, X.-Y. Hu,
"Reduced-complexity decoding of LDPC codes", IEEE Trans. Commun. 53(8), 2005.
"""

import math

import numpy as np
from numba import njit
from numpy.typing import NDArray

from phy.ldpc.base_graph import LiftedGraph, xor_rotated


def decode(
    channel: NDArray[np.float32],
    posterior: NDArray[np.float32],
    parity_ok: NDArray[np.bool_],
    iterations: NDArray[np.int32],
    graph: LiftedGraph,
    max_iterations: int,
    early_stop: bool,
) -> None:
    """Decodes words; arguments as `phy.ldpc.min_sum.decode`."""
    _decode_words(
        channel,
        posterior,
        parity_ok,
        iterations,
        graph.row_start,
        graph.columns,
        graph.shifts,
        graph.lifting_size,
        max_iterations,
        early_stop,
    )


@njit(nogil=True, cache=True)
def _decode_words(  # type: ignore[no-untyped-def]
    channel,
    posterior,
    parity_ok,
    iterations,
    row_start,
    columns,
    shifts,
    lifting_size,
    max_iterations,
    early_stop,
):
    """Decodes words one after another."""
    messages = np.empty((columns.size, lifting_size), dtype=np.float64)
    llr = np.empty(channel.shape[1], dtype=np.float64)
    hard = np.empty(channel.shape[1], dtype=np.uint8)
    syndrome = np.empty(lifting_size, dtype=np.uint8)
    information = posterior.shape[1]

    for word in range(channel.shape[0]):
        llr[:] = channel[word]
        messages[:] = 0
        for iteration in range(1, max_iterations + 1):
            for row in range(row_start.size - 1):
                begin, end = row_start[row], row_start[row + 1]
                _update_row(llr, messages[begin:end], columns[begin:end], shifts[begin:end])
            iterations[word] = iteration
            hard[:] = llr < 0
            parity_ok[word] = np.all(llr[:information] != 0) and _checks_hold(
                hard, syndrome, row_start, columns, shifts
            )
            if early_stop and parity_ok[word]:
                break
        posterior[word] = llr[:information]


@njit(nogil=True, cache=True)
def _update_row(llr, messages, columns, shifts):  # type: ignore[no-untyped-def]
    """One base row: new messages, and posteriors that include them."""
    degree, lifting_size = messages.shape
    extrinsic = np.empty(degree)
    before = np.empty(degree + 1)  # [+] of the entries before this one
    for check in range(lifting_size):
        before[0] = np.inf  # the neutral element
        for entry in range(degree):
            bit = columns[entry] * lifting_size + (check + shifts[entry]) % lifting_size
            extrinsic[entry] = llr[bit] - messages[entry, check]
            before[entry + 1] = box_plus(before[entry], extrinsic[entry])
        behind = np.inf
        for entry in range(degree - 1, -1, -1):
            bit = columns[entry] * lifting_size + (check + shifts[entry]) % lifting_size
            messages[entry, check] = box_plus(before[entry], behind)
            llr[bit] = extrinsic[entry] + messages[entry, check]
            behind = box_plus(behind, extrinsic[entry])


@njit(nogil=True, cache=True)
def box_plus(a, b):  # type: ignore[no-untyped-def]
    """LLR of the sum of two bits over GF(2) from theirs; at most one may be infinite."""
    low, high = min(abs(a), abs(b)), max(abs(a), abs(b))
    size = low
    if high < math.inf:
        size += math.log1p(math.exp(-(high + low))) - math.log1p(math.exp(-(high - low)))
    return size if (a < 0) == (b < 0) else -size


@njit(nogil=True, cache=True)
def _checks_hold(hard, syndrome, row_start, columns, shifts):  # type: ignore[no-untyped-def]
    """True if the hard decisions fulfil every check; stops at the first row that fails."""
    vectors = hard.reshape(-1, syndrome.size)
    for row in range(row_start.size - 1):
        syndrome[:] = 0
        for entry in range(row_start[row], row_start[row + 1]):
            xor_rotated(syndrome, vectors[columns[entry]], shifts[entry])
        if syndrome.any():
            return False
    return True
