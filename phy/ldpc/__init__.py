"""LDPC coding of single code blocks as in 5G NR (TS 38.212, clauses 5.3.2 and 5.4.2).

In the order of transmission: `base_graph` holds the code's structure, `encoder` computes parity,
`rate_matching` picks the bits that are sent, `decoder` recovers the information, by `min_sum` (in
8-bit fixed point: `gain` sets the scale, `saturating` has the arithmetic) or `sum_product` (exact,
for reference). `LdpcCode` puts them together for one pair of lengths; `normal_approximation` tells
what an ideal code of these lengths could do.

Examples:
    >>> import numpy as np
    >>> code = LdpcCode(k=100, n=200)
    >>> bits = np.random.default_rng(1).integers(0, 2, 100, dtype=np.uint8)
    >>> llr = 4.0 * (1 - 2.0 * code.encode(bits))
    >>> bool(np.array_equal(code.decode(llr).bits, bits))
    True
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phy.crc import as_bits
from phy.ldpc import decoder, encoder
from phy.ldpc.base_graph import (
    CORE_ROWS,
    LiftedGraph,
    lifted_graph,
    select_lifting_size,
)
from phy.ldpc.rate_matching import FILLER_LLR, CircularBuffer, deinterleave, interleave

__all__ = ["MAX_RATE", "LdpcCode", "LdpcResult", "select_base_graph"]

MAX_RATE = 0.95
"""Highest code rate that a receiver has to decode (TS 38.214, 5.1.3)."""

MIN_BLOCK_BITS = 12
"""Shortest block: it fills the six columns of the smallest lifting size."""


def select_base_graph(payload_bits: int, rate: float) -> int:
    """Base graph of a payload (TS 38.212, 6.2.2 and 7.2.2).

    Arguments:
        payload_bits: Payload size A in bits.
        rate: Code rate R.

    Returns:
        1 or 2.
    """
    short = payload_bits <= 292 or (payload_bits <= 3824 and rate <= 0.67)
    return 2 if short or rate <= 0.25 else 1


@dataclass(frozen=True)
class LdpcResult:
    """What the decoder makes of a batch of code words.

    Arguments:
        bits: Decided information bits, shape [..., k], uint8.
        parity_ok: True where all parity checks hold and no information bit is undecided, shape
            [...], bool. This is a strong sign of success, not a proof.
        iterations: Iterations used, shape [...], int32.
        llr: Posterior LLRs log p(0)/p(1) of the information bits, shape [..., k], float32.
    """

    bits: NDArray[np.uint8]
    parity_ok: NDArray[np.bool_]
    iterations: NDArray[np.int32]
    llr: NDArray[np.float32]


@dataclass(frozen=True)
class LdpcCode:
    """A 5G NR LDPC code with rate matching, for one code block without segmentation.

    Arguments:
        k: Information bits per block, K' in the standard: 12 to 8448 with base graph 1, 12 to
            3840 with base graph 2.
        n: Code bits sent per block, E in the standard: at least k / 0.95. More bits than the
            code has are sent by repetition.
        bits_per_symbol: Modulation order Q_m of the bit interleaver; n must be its multiple.
        base_graph: 1 or 2; by default the standard's choice for payload k and rate k / n.

    Raises:
        ValueError: If the lengths are outside these limits.
    """

    k: int
    n: int
    bits_per_symbol: int = 1
    base_graph: int | None = None
    _graph: LiftedGraph = field(init=False, repr=False, compare=False)
    _buffer: CircularBuffer = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.k < MIN_BLOCK_BITS:
            raise ValueError(f"k must be at least {MIN_BLOCK_BITS}, not {self.k}")
        if self.n * MAX_RATE < self.k:
            raise ValueError(f"n must be at least k / {MAX_RATE}, not {self.n} for k = {self.k}")
        if self.bits_per_symbol < 1 or self.n % self.bits_per_symbol:
            raise ValueError(
                f"n = {self.n} must be a multiple of bits_per_symbol = {self.bits_per_symbol} >= 1"
            )
        number = self.base_graph
        if number is None:
            number = select_base_graph(self.k, self.k / self.n)
        graph = lifted_graph(number, select_lifting_size(self.k, number))
        buffer = CircularBuffer(number, graph.lifting_size, self.k)
        for name, value in (("base_graph", number), ("_graph", graph), ("_buffer", buffer)):
            object.__setattr__(self, name, value)  # the way to set fields of a frozen dataclass

    @property
    def lifting_size(self) -> int:
        """Lifting size Z."""
        return self._graph.lifting_size

    @property
    def filler_bits(self) -> int:
        """Known zeros between the k information bits and the parity."""
        return self._graph.information_columns * self._graph.lifting_size - self.k

    @property
    def buffer_size(self) -> int:
        """Bits N of the circular buffer, of which a transmission reads n."""
        return self._buffer.size

    def encode(self, bits: ArrayLike, rv: int = 0) -> NDArray[np.uint8]:
        """Encodes blocks and matches them to the rate.

        Arguments:
            bits: Information bits, shape [..., k].
            rv: Redundancy version 0 to 3.

        Returns:
            Code bits, shape [..., n], uint8.

        Raises:
            ValueError: If the shape, a bit or `rv` is not as stated.
        """
        blocks = as_bits(bits)
        if blocks.ndim == 0 or blocks.shape[-1] != self.k:
            raise ValueError(f"bits must have shape [..., {self.k}], not {blocks.shape}")
        rows = blocks.reshape(int(np.prod(blocks.shape[:-1])), self.k)
        information = np.pad(rows, ((0, 0), (0, self.filler_bits)))
        words = encoder.encode(information, self._graph)
        selected = self._buffer.select(words, self.n, rv)
        sent = interleave(selected, self.bits_per_symbol)
        return sent.reshape(*blocks.shape[:-1], self.n)

    def decode(
        self,
        llr: ArrayLike,
        max_iterations: int = 25,
        rv: int = 0,
        threads: int = 1,
        algorithm: str = "min-sum",
        early_stop: bool = True,
    ) -> LdpcResult:
        """Decodes blocks.

        Arguments:
            llr: LLRs log p(0)/p(1) of the code bits, natural logarithm, shape [..., n]. Infinities
                and other large magnitudes are clipped to 10^6. Min-sum makes up for a scale that is
                wrong by a factor of up to 8; sum-product counts on it.
            max_iterations: Iterations after which a block is given up, at least 1.
            rv: Redundancy version 0 to 3 with which the blocks were encoded.
            threads: Threads among which the blocks are divided; does not change the result.
            algorithm: "min-sum", or "sum-product" for reference, about a hundred times slower.
            early_stop: Whether a block stops once all checks hold; else it goes through all
                iterations.

        Returns:
            Information bits and how decoding went.

        Raises:
            ValueError: If an LLR is NaN, or a shape, number or name is not as stated.
        """
        rows, batch = _rows(llr, self.n)
        graph = _graph_of_transmission(self._graph, self._buffer, self.n, rv)

        def undo_rate_matching(llr: NDArray[np.float32]) -> NDArray[np.float32]:
            selected = deinterleave(llr, self.bits_per_symbol)
            return self._buffer.combine(selected, graph.column_count, rv, FILLER_LLR)

        return self._decode(
            rows,
            batch,
            graph,
            undo_rate_matching,
            max_iterations,
            threads,
            algorithm,
            early_stop,
        )

    def soft_buffer(
        self, llr: ArrayLike, rv: int = 0, buffer: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Combines the LLRs of a transmission with those of earlier ones of the same blocks.

        Each code bit's LLRs are added: Chase combining where transmissions overlap, incremental
        redundancy where they do not.

        Arguments:
            llr: LLRs log p(0)/p(1) of the code bits, shape [..., n], 0 for what was not received.
                Large magnitudes are clipped to 10^6.
            rv: Redundancy version 0 to 3 of this transmission.
            buffer: What earlier calls gave, left as it is; None at the first transmission.

        Returns:
            LLRs in the order of the circular buffer, shape [..., buffer_size], float32.

        Raises:
            ValueError: If an LLR is NaN, or a shape or `rv` is not as stated.
        """
        rows, batch = _rows(llr, self.n)
        shape = (*batch, self.buffer_size)
        if buffer is None:
            buffer = np.zeros(shape, dtype=np.float32)
        elif buffer.shape != shape:
            raise ValueError(f"buffer must have shape {shape}, not {buffer.shape}")
        words = buffer.reshape(-1, self.buffer_size).copy()
        self._buffer.accumulate(words, deinterleave(rows, self.bits_per_symbol), rv)
        return words.reshape(shape)

    def decode_buffer(
        self,
        buffer: ArrayLike,
        max_iterations: int = 25,
        threads: int = 1,
        algorithm: str = "min-sum",
        early_stop: bool = True,
    ) -> LdpcResult:
        """Decodes blocks from combined LLRs.

        Arguments:
            buffer: LLRs of :meth:`soft_buffer`, shape [..., buffer_size].
            max_iterations: See :meth:`decode`, as for the arguments below.
            threads: Threads.
            algorithm: "min-sum" or "sum-product".
            early_stop: Whether a block stops once all checks hold.

        Returns:
            Information bits and how decoding went.

        Raises:
            ValueError: If an LLR is NaN, or a shape, number or name is not as stated.
        """
        rows, batch = _rows(buffer, self.buffer_size)

        columns = self._graph.column_count
        heard = (rows != 0).any(axis=0, keepdims=True).astype(np.float32)
        word = self._buffer.combine(heard, columns, 0, filler_llr=0)
        received = word.reshape(columns, self.lifting_size).any(axis=1)
        graph = _decoding_graph(self._graph, self._buffer, received.tobytes())
        # The buffer ends with the parity, of which the graph may not need the last columns.
        end = self.buffer_size - (columns - graph.column_count) * self.lifting_size

        def code_word_order(llr: NDArray[np.float32]) -> NDArray[np.float32]:
            return self._buffer.combine(llr[:, :end], graph.column_count, 0, FILLER_LLR)

        return self._decode(
            rows,
            batch,
            graph,
            code_word_order,
            max_iterations,
            threads,
            algorithm,
            early_stop,
        )

    def _decode(
        self,
        rows: NDArray[np.float32],
        batch: tuple[int, ...],
        graph: LiftedGraph,
        undo_rate_matching: Callable[[NDArray[np.float32]], NDArray[np.float32]],
        max_iterations: int,
        threads: int,
        algorithm: str,
        early_stop: bool,
    ) -> LdpcResult:
        """Decodes rows of LLRs on the part of the graph that they tell something of."""
        if max_iterations < 1 or threads < 1:
            raise ValueError("max_iterations and threads must be at least 1")
        if algorithm not in decoder.ALGORITHMS:
            names = ", ".join(decoder.ALGORITHMS)
            raise ValueError(f"algorithm must be one of {names}, not {algorithm!r}")
        posterior, parity_ok, iterations = decoder.decode(
            rows,
            undo_rate_matching,
            self.k,
            graph,
            max_iterations,
            threads,
            algorithm,
            early_stop,
        )
        information = posterior.reshape(*batch, self.k)
        return LdpcResult(
            (information < 0).view(np.uint8),
            parity_ok.reshape(batch),
            iterations.reshape(batch),
            information,
        )


def _rows(llr: ArrayLike, length: int) -> tuple[NDArray[np.float32], tuple[int, ...]]:
    """LLRs of shape [..., length] as checked and clipped rows, and the leading shape."""
    received = np.asarray(llr, dtype=np.float32)
    if received.ndim == 0 or received.shape[-1] != length:
        raise ValueError(f"llr must have shape [..., {length}], not {received.shape}")
    least, most = received.min(initial=0), received.max(initial=0)
    if np.isnan(least):
        raise ValueError("llr must not hold NaN")
    batch = received.shape[:-1]
    rows = received.reshape(int(np.prod(batch)), length)
    if least < -decoder.LLR_LIMIT or most > decoder.LLR_LIMIT:
        rows = np.clip(rows, -decoder.LLR_LIMIT, decoder.LLR_LIMIT)
    return rows, batch


@lru_cache(maxsize=256)
def _graph_of_transmission(
    graph: LiftedGraph, buffer: CircularBuffer, n: int, rv: int
) -> LiftedGraph:
    """The graph for decoding from a single transmission."""
    return _decoding_graph(graph, buffer, buffer.columns_sent(n, rv).tobytes())


@lru_cache(maxsize=256)
def _decoding_graph(graph: LiftedGraph, buffer: CircularBuffer, columns_sent: bytes) -> LiftedGraph:
    """The graph as the decoder goes through it, without what cannot contribute.

    That is rows whose parity is not sent, and columns of filler only. `columns_sent` says of which
    base columns something is sent, a bool each.
    """
    sent = np.frombuffer(columns_sent, dtype=np.bool_)
    rows = decoder.layer_order(graph)
    # Extension row r alone holds parity column information_columns + r.
    rows_used = (rows < CORE_ROWS) | sent[graph.information_columns + rows]
    columns = np.arange(graph.column_count)
    filler_only = (columns * graph.lifting_size >= buffer.block_bits) & (
        columns < graph.information_columns
    )
    return graph.restricted(rows[rows_used], ~filler_only)
