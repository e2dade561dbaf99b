"""A range coder (Martin, 1979): symbols to 32-bit words and back, in integers.

The encoder narrows an interval of 64 bits: a symbol takes the part of it that its probability says.
Whenever the interval is narrower than 2^32, its leading word is settled, but for a carry that may
still come from below, and moves to the output. The decoder follows with the position of the coded
number inside the interval.

A symbol is given as an interval itself, its *first* unit and its *size*, of 2^24 units in all; so
neither side needs a table of all symbols.
"""

from __future__ import annotations

from collections.abc import Sequence

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


@njit(cache=True, nogil=True)
def _encode_runs(
    messages: NDArray[np.int32],
    starts: NDArray[np.int32],
    first: NDArray[np.int32],
    size: NDArray[np.int32],
    states: NDArray[np.uint64],
    words: NDArray[np.uint32],
    counts: NDArray[np.int64],
) -> None:
    for run in range(messages.shape[0]):
        m, rows = messages[run], slice(starts[run], starts[run + 1])
        counts[m] = _encode(first[rows], size[rows], states[m], words[m], counts[m])


class RangeEncoders:
    """Symbols to words, for several messages.

    Args:
        messages: their number M.
    """

    def __init__(self, messages: int) -> None:
        self._states = np.tile(np.array([0, _WIDEST], dtype=np.uint64), (messages, 1))
        self._words = np.empty((messages, 256), dtype=np.uint32)
        self._counts = np.zeros(messages, dtype=np.int64)

    def encode(
        self,
        messages: NDArray[np.int32],
        starts: NDArray[np.int32],
        first: NDArray[np.int32],
        size: NDArray[np.int32],
    ) -> None:
        """Codes symbols in U runs, each into one message.

        Args:
            messages: int32 (U,), the message of each run.
            starts: int32 (U + 1,): run u is symbols ``starts[u]`` up to ``starts[u + 1]``.
            first, size: int32 (N,), first units and sizes of the symbols; sizes at least 1.
        """
        # At most a word a symbol, and one to finish.
        added = np.zeros_like(self._counts)
        np.add.at(added, messages, np.diff(starts))
        needed = int((self._counts + added).max()) + 1
        if needed > self._words.shape[1]:
            words = np.empty((len(self._counts), 2 * needed), dtype=np.uint32)
            words[:, : self._words.shape[1]] = self._words
            self._words = words
        _encode_runs(messages, starts, first, size, self._states, self._words, self._counts)

    def bits(self, message: int) -> int:
        """Bits that the symbols of a message took so far, rounded down."""
        return 32 * int(self._counts[message]) + 64 - int(self._states[message, 1]).bit_length()

    def finished(self, message: int) -> bytes:
        """A message: its settled words, the highest byte first, and its :func:`_ending`."""
        low, width = (int(value) for value in self._states[message])
        count = int(self._counts[message])
        words = self._words[message, :count].copy()
        number, length = _ending(low, width)
        if number > _WIDEST:
            _carry(words, count)
        return words.astype(">u4").tobytes() + (number & _WIDEST).to_bytes(8, "big")[:length]


def _ending(low: int, width: int) -> tuple[int, int]:
    """The number in an interval of 64 bits that takes the fewest bytes, to be followed by zeros.

    Returns:
        The number, 2^64 if it is a carry to the settled words, and how many bytes it takes.
    """
    for length in range(8):
        unit = 1 << 64 - 8 * length
        number = -(-low // unit) * unit
        if number < low + width:
            return number, length
    return low, 8


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


def _window(message: bytes, first: int) -> int:
    """The 64 bits of a message from a byte on."""
    return int.from_bytes(message[first : first + 8].ljust(8, b"\0"), "big")


class RangeDecoders:
    """Words to symbols, for several messages.

    Args:
        messages: as the encoder finished them.

    Attributes:
        words: uint32, the words of all messages, one after the other; after the last of a message
            it goes on as if with zeros.
        bounds: int64 (M + 1,): message m is ``words[bounds[m]:bounds[m + 1]]``.
        states: uint64 (M, 3): position, width and number of words read, for the kernel that
            decodes.
    """

    def __init__(self, messages: Sequence[bytes]) -> None:
        padded = [message + bytes(-len(message) % 4) for message in messages]
        self.words = np.frombuffer(b"".join(padded), dtype=">u4").astype(np.uint32)
        self.bounds = np.cumsum([0, *(len(message) // 4 for message in padded)], dtype=np.int64)
        self._messages = messages
        starts = [(_window(message, 0), _WIDEST, 2) for message in messages]
        self.states = np.array(starts, dtype=np.uint64)

    @property
    def overrun(self) -> NDArray[np.bool_]:
        """Whether more words of each message were asked for than there are."""
        result: NDArray[np.bool_] = self.states[:, 2] > np.diff(self.bounds).astype(np.uint64)
        return result

    @property
    def complete(self) -> list[bool]:
        """Whether each message ends as the encoder ends it after the symbols decoded so far."""
        return [
            self._is_complete(message, *state)
            for message, state in zip(self._messages, self.states.tolist(), strict=True)
        ]

    @staticmethod
    def _is_complete(message: bytes, position: int, width: int, read: int) -> bool:
        settled = 4 * (read - 2)
        coded = _window(message, settled)
        number, length = _ending((coded - position) & _WIDEST, width)
        return coded == number & _WIDEST and len(message) == settled + length
