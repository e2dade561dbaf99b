"""Iterative decoding of a batch of code words: algorithms, limits, threads.

A word is finished when its hard decisions fulfil all checks of the graph and each information bit
is decided, that is, has an LLR other than zero. Without the second condition, a word of which
nothing was received would count as the all-zero code word.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from numpy.typing import NDArray

from phy.ldpc import min_sum, sum_product
from phy.ldpc.base_graph import PUNCTURED_COLUMNS, LiftedGraph

ALGORITHMS = {"min-sum": min_sum.decode, "sum-product": sum_product.decode}
"""Decoders by name: corrected min-sum in 8-bit fixed point, and the exact rule in float64."""

LLR_LIMIT = 1e6
"""Channel LLRs are clipped to this magnitude, so that no sum of them overflows."""

_WORDS_AT_ONCE = 16  # so that what rate matching computes of them stays in the cache


def layer_order(graph: LiftedGraph) -> NDArray[np.intp]:
    """Order in which an iteration goes through the rows.

    Of the punctured columns nothing is known at first. A row with one of them tells something
    about it, a row with more nothing: rows with few punctured columns come first, and of these the
    ones with few entries, which tell most. Against the order of the standard this saves half an
    iteration of the 12.4 on average at 1 dB, and of the 6.0 at 2 dB (k = 4224, n = 8448).

    Arguments:
        graph: Complete lifted base graph.

    Returns:
        Row numbers, shape (rows,), int.
    """
    row_of_entry = np.repeat(np.arange(graph.row_count), np.diff(graph.row_start))
    punctured = np.bincount(
        row_of_entry[graph.columns < PUNCTURED_COLUMNS], minlength=graph.row_count
    )
    return np.lexsort((np.diff(graph.row_start), punctured))


def decode(
    received: NDArray[np.float32],
    undo_rate_matching: Callable[[NDArray[np.float32]], NDArray[np.float32]],
    information_bits: int,
    graph: LiftedGraph,
    max_iterations: int,
    threads: int,
    algorithm: str,
    early_stop: bool,
) -> tuple[NDArray[np.float32], NDArray[np.bool_], NDArray[np.int32]]:
    """Decodes a batch of code words.

    Arguments:
        received: LLRs log p(0)/p(1) of what was sent, finite, shape (words, n), float32.
        undo_rate_matching: Makes channel LLRs of it, `rate_matching.FILLER_LLR` for filler bits,
            shape (words, Z columns), float32.
        information_bits: Number k of leading bits that must be decided.
        graph: Rows and columns to use.
        max_iterations: Iterations after which a word is given up, at least 1.
        threads: Number of threads among which the words are divided; does not change the result.
        algorithm: One of `ALGORITHMS`.
        early_stop: Whether finished words stop, or all go through all iterations.

    Returns:
        Posterior LLRs of the information bits, shape (words, k), float32; whether each word was
        finished when it stopped, shape (words,), bool; and its iterations, shape (words,), int32.
    """
    words = received.shape[0]
    posterior = np.empty((words, information_bits), dtype=np.float32)
    parity_ok = np.zeros(words, dtype=np.bool_)
    iterations = np.zeros(words, dtype=np.int32)

    def decode_part(part: slice) -> None:
        ALGORITHMS[algorithm](
            undo_rate_matching(received[part]),
            posterior[part],
            parity_ok[part],
            iterations[part],
            graph,
            max_iterations,
            early_stop,
        )

    size = max(_WORDS_AT_ONCE, min_sum.words_together(graph.lifting_size))
    size = max(1, min(size, -(-words // threads)))
    parts = [slice(first, first + size) for first in range(0, words, size)]
    if min(threads, len(parts)) > 1:
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(decode_part, parts))
    else:
        for part in parts:
            decode_part(part)
    return posterior, parity_ok, iterations
