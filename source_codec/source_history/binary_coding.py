"""Adaptive binary arithmetic coding, for side information.

A range coder (Martin, 1979) with 32-bit intervals. The probability of a bit in its context is the
Krichevsky-Trofimov estimate (n + 1/2) / (N + 1) from the counts so far, so that all arithmetic is
on integers and comes out alike everywhere. Carries run back into the bytes already written.

The decoder reads zeros beyond the end, and the encoder leaves trailing zeros out: a sequence of
improbable length that holds no surprise takes no bytes at all.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream

_LOW, _RANGE, _POSITION, _OVERFLOW = range(4)
_TOP = 1 << 32
_RENORMALISE = 1 << 24
_MOST_COUNTS = 1 << 12
"""At this many a context's counts are halved, so that it follows changes."""
_MARGIN = 8
AHEAD = 4
"""Bytes that a decoder has read beyond those that the encoder has settled."""


class BitCoder(NamedTuple):
    """State of an encoder or a decoder.

    Attributes:
        registers: low end (encoder) or code (decoder), range, position, whether out of space.
        data: the bytes, written or to be read.
        counts: zeros and ones seen in each context, (contexts, 2).
    """

    registers: NDArray[np.int64]
    data: NDArray[np.uint8]
    counts: NDArray[np.int64]


def new_encoder(contexts: int, capacity: int) -> BitCoder:
    """An encoder of at most ``capacity`` bytes."""
    registers = np.array([0, _TOP - 1, 0, 0], dtype=np.int64)
    data = np.zeros(capacity + _MARGIN, dtype=np.uint8)
    return BitCoder(registers, data, np.zeros((contexts, 2), dtype=np.int64))


def new_decoder(contexts: int, data: bytes) -> BitCoder:
    """A decoder of what :func:`finished` returned."""
    code = int.from_bytes(data[:AHEAD].ljust(AHEAD, b"\0"), "big")
    registers = np.array([code, _TOP - 1, AHEAD, 0], dtype=np.int64)
    return BitCoder(
        registers, np.frombuffer(data, np.uint8).copy(), np.zeros((contexts, 2), dtype=np.int64)
    )


@numba.njit(cache=True)
def _split(coder: BitCoder, context: int) -> int:
    """The part of the range that stands for a zero."""
    zeros, ones = coder.counts[context, 0], coder.counts[context, 1]
    return coder.registers[_RANGE] // (2 * (zeros + ones) + 2) * (2 * zeros + 1)


@numba.njit(cache=True)
def _count(coder: BitCoder, context: int, bit: int) -> None:
    counts = coder.counts
    counts[context, bit] += 1
    if counts[context, 0] + counts[context, 1] >= _MOST_COUNTS:
        counts[context, 0] >>= 1
        counts[context, 1] >>= 1


@numba.njit(cache=True)
def encode_bit(coder: BitCoder, context: int, bit: int) -> None:
    """Appends a bit; does nothing more once the encoder is out of space."""
    if coder.registers[_OVERFLOW]:
        return
    encode_part(coder, _split(coder, context), bit)
    _count(coder, context, bit)


@numba.njit(cache=True)
def encode_part(coder: BitCoder, split: int, bit: int) -> None:
    """Appends a bit of known probability: ``split`` of the range stands for a zero."""
    registers, data = coder.registers, coder.data
    if registers[_OVERFLOW]:
        return
    if bit:
        registers[_LOW] += split
        registers[_RANGE] -= split
    else:
        registers[_RANGE] = split
    if registers[_LOW] >= _TOP:
        registers[_LOW] -= _TOP
        _carry(data, registers[_POSITION])
    while registers[_RANGE] < _RENORMALISE:
        if registers[_POSITION] >= len(data) - _MARGIN:
            registers[_OVERFLOW] = 1
            return
        data[registers[_POSITION]] = registers[_LOW] >> 24
        registers[_POSITION] += 1
        registers[_LOW] = (registers[_LOW] << 8) % _TOP
        registers[_RANGE] <<= 8


@numba.njit(cache=True)
def range_of(coder: BitCoder) -> int:
    """The range that :func:`encode_part` and :func:`decode_part` divide; at least 2^24."""
    return coder.registers[_RANGE]


@numba.njit(cache=True)
def _carry(data: NDArray[np.uint8], position: int) -> None:
    place = position - 1
    while data[place] == 255:
        data[place] = 0
        place -= 1
    data[place] += 1


def finished(coder: BitCoder) -> bytes | None:
    """The bytes of an encoder; None if they did not fit its capacity."""
    data = settled(coder)
    return None if data is None else data.rstrip(b"\0")


def _shortest(low: int, size: int) -> int:
    """The number in an interval that needs the fewest bytes; it may be 2^32."""
    for kept_bytes in range(5):
        unit = _TOP >> 8 * kept_bytes
        value = -(-low // unit) * unit
        if value < low + size:
            break
    return value


def settled(coder: BitCoder) -> bytes | None:
    """The same with the zeros at their end that the bits took.

    A decoder that has followed asks for at most :data:`AHEAD` bytes more.
    """
    if coder.registers[_OVERFLOW]:
        return None
    low, size, position = (int(coder.registers[i]) for i in (_LOW, _RANGE, _POSITION))
    value = _shortest(low, size)
    if value >= _TOP:
        value -= _TOP
        _carry(coder.data, position)
    return coder.data[:position].tobytes() + value.to_bytes(4, "big").rstrip(b"\0")


@numba.njit(cache=True)
def decode_bit(coder: BitCoder, context: int) -> int:
    """The next bit."""
    bit = decode_part(coder, _split(coder, context))
    _count(coder, context, bit)
    return bit


@numba.njit(cache=True)
def decode_part(coder: BitCoder, split: int) -> int:
    """The next bit, where ``split`` of the range stands for a zero."""
    registers, data = coder.registers, coder.data
    bit = 1 if registers[_LOW] >= split else 0
    if bit:
        registers[_LOW] -= split
        registers[_RANGE] -= split
    else:
        registers[_RANGE] = split
    while registers[_RANGE] < _RENORMALISE:
        position = registers[_POSITION]
        byte = data[position] if position < len(data) else np.uint8(0)
        registers[_LOW] = (registers[_LOW] << 8) + byte
        registers[_RANGE] <<= 8
        registers[_POSITION] += 1
    return bit


@numba.njit(cache=True)
def overrun(coder: BitCoder) -> bool:
    """Whether a decoder has read on after what :func:`settled` returned has ended."""
    return coder.registers[_POSITION] > len(coder.data) + AHEAD


def check_settled(coder: BitCoder) -> None:
    """Checks that a decoder has read what :func:`settled` returned, and no less.

    Raises:
        CorruptStream: there are more bytes than an encoder would have written, or fewer.
    """
    code, size, position = (int(coder.registers[i]) for i in (_LOW, _RANGE, _POSITION))
    tail = coder.data[max(position - AHEAD, 0) :].tobytes()
    value = int.from_bytes(tail[:AHEAD].ljust(AHEAD, b"\0"), "big")
    shortest = _shortest((value - code) % _TOP, size) % _TOP
    short = position - AHEAD > len(coder.data)
    if short or tail != shortest.to_bytes(AHEAD, "big").rstrip(b"\0"):
        raise CorruptStream("coded bits are longer or shorter than their content")


def check_finished(coder: BitCoder) -> None:
    """Checks that a decoder has read all of its bytes.

    Raises:
        CorruptStream: there are more bytes than an encoder would have written.
    """
    data = coder.data
    if len(data) > coder.registers[_POSITION] or (len(data) and data[-1] == 0):
        raise CorruptStream("side information is longer than its content")
