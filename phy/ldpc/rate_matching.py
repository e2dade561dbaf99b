"""Rate matching of LDPC code words: bit selection and bit interleaving (TS 38.212, 5.4.2).

The code word without its first 2 Z bits and without filler bits forms a circular buffer. A
redundancy version rv picks where reading starts; E bits are then read, around the end of the
buffer as often as needed. Buffers limited to the receiver's memory (I_LBRM = 1) are not
supported: N_cb = N throughout.

The interleaver of 5.4.2.2 writes the E bits row by row into Q_m rows and reads them column by
column, so that each modulation symbol takes one bit from each row and the systematic bits, first
in the buffer, go to the symbol's more reliable bit positions.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phy.ldpc.base_graph import INFORMATION_COLUMNS, PUNCTURED_COLUMNS

FILLER_LLR = 1e30
"""LLR of filler bits, known zeros: so large that adding any message leaves it as it is."""

REDUNDANCY_VERSIONS = (0, 1, 2, 3)

_BUFFER_COLUMNS = {1: 66, 2: 50}

_START_COLUMNS = {1: (0, 17, 33, 56), 2: (0, 13, 25, 43)}
"""Where reading starts, k_0 / Z, by base graph and redundancy version (Table 5.4.2.1-2)."""


@dataclass(frozen=True)
class CircularBuffer:
    """The circular buffer of one code word.

    Arguments:
        base_graph: 1 or 2.
        lifting_size: Z.
        block_bits: Information bits K' of the block; the K - K' bits behind them are filler.
    """

    base_graph: int
    lifting_size: int
    block_bits: int

    @property
    def size(self) -> int:
        """Number of bits in the buffer, filler bits not counted."""
        return _BUFFER_COLUMNS[self.base_graph] * self.lifting_size - self._filler_bits

    @property
    def _filler_bits(self) -> int:
        return INFORMATION_COLUMNS[self.base_graph] * self.lifting_size - self.block_bits

    @property
    def _first_filler(self) -> int:
        """Place of the first filler bit, counted from the start of the buffer."""
        return self.block_bits - PUNCTURED_COLUMNS * self.lifting_size

    def start(self, rv: int) -> int:
        """Place in the buffer where a redundancy version starts: k_0 with fillers taken out.

        Raises:
            ValueError: If `rv` is not 0, 1, 2 or 3.
        """
        if rv not in REDUNDANCY_VERSIONS:
            raise ValueError(f"redundancy version must be 0, 1, 2 or 3, not {rv}")
        k_0 = _START_COLUMNS[self.base_graph][rv] * self.lifting_size
        fillers_before = np.clip(k_0 - self._first_filler, 0, self._filler_bits)
        return k_0 - int(fillers_before)

    def runs(self, length: int, rv: int) -> Iterator[tuple[slice, slice]]:
        """Contiguous stretches of bit selection, in the order they are sent.

        Arguments:
            length: Number E of bits read.
            rv: Redundancy version.

        Yields:
            Pairs (where in the E bits, where in the buffer).
        """
        sent, place = 0, self.start(rv)
        while sent < length:
            run = min(length - sent, self.size - place)
            yield slice(sent, sent + run), slice(place, place + run)
            sent, place = sent + run, 0

    def select(self, words: NDArray[np.uint8], length: int, rv: int) -> NDArray[np.uint8]:
        """Bit selection (5.4.2.1).

        Arguments:
            words: Complete code words, shape (words, Z columns), uint8.
            length: Number E of bits to read.
            rv: Redundancy version.

        Returns:
            Selected bits, shape (words, E), uint8.
        """
        punctured = PUNCTURED_COLUMNS * self.lifting_size
        information = words[:, punctured : self.block_bits]
        parity = words[:, INFORMATION_COLUMNS[self.base_graph] * self.lifting_size :]
        buffer = np.concatenate([information, parity], axis=1)
        return np.concatenate([buffer[:, place] for _, place in self.runs(length, rv)], axis=1)

    def combine(
        self, llr: NDArray[np.float32], columns: int, rv: int, filler_llr: float
    ) -> NDArray[np.float32]:
        """Undoes bit selection: puts LLRs back in code word order, adding those of repeated bits.

        Arguments:
            llr: LLRs log p(0)/p(1) of the selected bits, shape (words, E), float32.
            columns: Leading base columns of the code word to return.
            rv: Redundancy version.
            filler_llr: LLR of the filler bits.

        Returns:
            LLRs of the code word, 0 where nothing was received, shape (words, Z columns), float32.
        """
        words = np.zeros((llr.shape[0], columns * self.lifting_size), dtype=np.float32)
        parity = INFORMATION_COLUMNS[self.base_graph] * self.lifting_size
        words[:, self.block_bits : parity] = filler_llr
        # The buffer up to and from the filler bits, each a stretch of the code word.
        information = words[:, PUNCTURED_COLUMNS * self.lifting_size : self.block_bits]
        for sent, place in self.runs(llr.shape[1], rv):
            split = int(np.clip(self._first_filler, place.start, place.stop))
            before = split - place.start
            information[:, place.start : split] += llr[:, sent][:, :before]
            behind = slice(split - self._first_filler, place.stop - self._first_filler)
            if before < place.stop - place.start:
                words[:, parity:][:, behind] += llr[:, sent][:, before:]
        return words

    def accumulate(self, buffer: NDArray[np.float32], llr: NDArray[np.float32], rv: int) -> None:
        """Adds the LLRs of one transmission to those of the buffer (soft combining).

        Arguments:
            buffer: LLRs in the order of the circular buffer, shape (words, size), float32; changed
                in place.
            llr: LLRs of the selected bits, shape (words, E), float32.
            rv: Redundancy version of the transmission.
        """
        for sent, place in self.runs(llr.shape[1], rv):
            buffer[:, place] += llr[:, sent]

    def columns_sent(self, length: int, rv: int) -> NDArray[np.bool_]:
        """Base columns of which at least one bit is selected.

        Arguments:
            length: Number E of bits read.
            rv: Redundancy version.

        Returns:
            Shape (all base columns,), bool.
        """
        columns = PUNCTURED_COLUMNS + _BUFFER_COLUMNS[self.base_graph]
        word = self.combine(np.ones((1, length), np.float32), columns, rv, filler_llr=0)
        return np.any(word.reshape(columns, self.lifting_size) != 0, axis=1)


def interleave(bits: NDArray[np.uint8], bits_per_symbol: int) -> NDArray[np.uint8]:
    """Bit interleaving (5.4.2.2): f_{i + j Q_m} = e_{i E / Q_m + j}.

    Arguments:
        bits: Selected bits e, shape (words, E), E a multiple of Q_m.
        bits_per_symbol: Modulation order Q_m.

    Returns:
        Interleaved bits f, same shape.
    """
    words, length = bits.shape
    columns = bits.reshape(words, bits_per_symbol, length // bits_per_symbol)
    return columns.swapaxes(1, 2).reshape(bits.shape)


def deinterleave(llr: NDArray[np.float32], bits_per_symbol: int) -> NDArray[np.float32]:
    """Inverse of `interleave`, for LLRs of shape (words, E)."""
    words, length = llr.shape
    symbols = llr.reshape(words, length // bits_per_symbol, bits_per_symbol)
    return symbols.swapaxes(1, 2).reshape(llr.shape)
