"""A range coder (Martin, 1979): symbols to 32-bit words and back, in integers.

The encoder narrows an interval of 64 bits: a symbol takes the part of it that its probability says.
Whenever the interval is narrower than 2^32, its leading word is settled, but for a carry that may
still come from below, and moves to the output. The decoder follows with the position of the coded
number inside the interval.

A symbol is given as an interval itself, its *first* unit and its *size*, of 2^24 units in all; so
neither side needs a table of all symbols.
"""

from __future__ import annotations

import numpy as np
from numba import njit
from numpy.typing import NDArray

PRECISION = 24
TOTAL = 1 << PRECISION
"""Units that the intervals of all symbols take together."""
_WORD = np.uint64(32)
_WORD_MASK = np.uint64((1 << 32) - 1)
_NARROW = np.uint64(1 << 32)
_WIDEST = (1 << 64) - 1
_SHIFT = np.uint64(PRECISION)


@njit(cache=True, nogil=True)
def _carry(words: NDArray[np.uint32], count: int) -> None:
    """Adds one to the number that the first ``count`` words are the digits of."""
    last = count - 1
    while words[last] == _WORD_MASK:
        words[last] = 0
        last -= 1
    words[last] += np.uint32(1)


@njit(cache=True, nogil=True)
def _encode(
    first: NDArray[np.int32],
    size: NDArray[np.int32],
    state: NDArray[np.uint64],
    words: NDArray[np.uint32],
    count: int,
) -> int:
    """Appends the words that symbols settle to the first ``count``; returns their new number."""
    low, width = state[0], state[1]
    for n in range(first.shape[0]):
        unit = width >> _SHIFT
        start = low + unit * np.uint64(first[n])
        width = unit * np.uint64(size[n])
        if start < low:
            _carry(words, count)
        low = start
        if width < _NARROW:
            words[count] = low >> _WORD
            count += 1
            low <<= _WORD
            width <<= _WORD
    state[0], state[1] = low, width
    return count


class RangeEncoder:
    """Symbols to words."""

    def __init__(self) -> None:
        self._state = np.array([0, _WIDEST], dtype=np.uint64)  # low end and width
        self._words = np.empty(256, dtype=np.uint32)
        self._count = 0

    def encode(self, first: NDArray[np.int32], size: NDArray[np.int32]) -> None:
        """Codes symbols: first units (N,) and sizes (N,), at least 1 each."""
        needed = self._count + len(first) + 1  # at most a word a symbol, and one to finish
        if needed > len(self._words):
            words = np.empty(2 * needed, dtype=np.uint32)
            words[: self._count] = self._words[: self._count]
            self._words = words
        self._count = _encode(first, size, self._state, self._words, self._count)

    @property
    def bits(self) -> int:
        """Bits that the symbols so far took, rounded down."""
        return 32 * self._count + 64 - int(self._state[1]).bit_length()

    def finished(self) -> NDArray[np.uint32]:
        """All words: the shortest number in the interval, to be followed by zeros."""
        low, width = (int(value) for value in self._state)
        words = self._words[: self._count + 1].copy()
        if width == _WIDEST:
            return words[:0]
        last = low + (1 << 32) - 1
        if last > _WIDEST:
            _carry(words, self._count)
        words[self._count] = (last >> 32) & int(_WORD_MASK)
        return words


# The kernel of a decoder keeps the state in variables: the position in the interval, the interval's
# width, and how many words were read.


@njit(cache=True, nogil=True, inline="always")
def narrowed(
    position: np.uint64,
    width: np.uint64,
    read: int,
    words: NDArray[np.uint32],
    first: int,
    size: int,
) -> tuple[np.uint64, np.uint64, int]:
    """The state after a symbol that is ``size`` units from unit ``first`` on."""
    unit = width >> _SHIFT
    position -= unit * np.uint64(first)
    width = unit * np.uint64(size)
    if width < _NARROW:
        position <<= _WORD
        width <<= _WORD
        if read < words.shape[0]:
            position |= np.uint64(words[read])
        read += 1
    return position, width, read


@njit(cache=True, nogil=True, inline="always")
def unit_at(position: np.uint64, width: np.uint64) -> int:
    """The unit that the coded number lies in; ``TOTAL`` or more if no encoder wrote it."""
    return np.int64(min(position // (width >> _SHIFT), np.uint64(TOTAL)))  # type: ignore[return-value]


class RangeDecoder:
    """Words to symbols.

    Attributes:
        words: uint32, all words; after the last one come zeros.
        state: uint64 (3,): position, width and number of words read, for the kernel that decodes.
    """

    def __init__(self, words: NDArray[np.uint32]) -> None:
        self.words = words
        start = [int(word) for word in words[:2]] + [0, 0]
        self.state = np.array([start[0] << 32 | start[1], _WIDEST, 2], dtype=np.uint64)

    @property
    def overrun(self) -> bool:
        """Whether more words were asked for than there are."""
        return int(self.state[2]) > len(self.words)

    @property
    def complete(self) -> bool:
        """Whether the words end as the encoder's do after the symbols decoded so far.

        Of the 64 bits held beyond the words that are settled, the encoder writes one word, that of
        the first multiple of 2^32 in the interval.
        """
        position, width, read = (int(value) for value in self.state)
        if width == _WIDEST:
            return len(self.words) == 0
        return read == len(self.words) + 1 and position < 1 << 32
