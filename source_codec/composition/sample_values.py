"""Which of 65536 values the samples of a 16-bit image can have.

Scanners and cameras deliver 10 to 14 bits; programs shift or stretch them to 16, or send 8 bits
through a curve. Samples become levels without gaps:

- :attr:`Mapping.LINEAR`: value = (level + offset) << shift;
- :attr:`Mapping.STRETCHED`: numbers of fewer bits brought to 16 by one of the usual rules;
- :attr:`Mapping.LISTED`: the used values are listed, by their differences.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from source_codec.composition.parts import SideReader, compressed, decompressed
from source_codec.errors import CorruptStream
from source_codec.varint import varint

Values = NDArray[np.int64]
_NEIGHBOURS = 8
_LEAST_RETURN = 2.0
"""A list of values must promise to save so many times its own length."""


class Mapping(IntEnum):
    """How levels become values."""

    LINEAR = 0
    STRETCHED = 1
    LISTED = 2


class Rule(IntEnum):
    """How numbers of few bits are stretched to 16."""

    REPEATED = 0
    """The bits are repeated."""
    ROUNDED = 1
    """Multiplied by 65535 / (2^bits - 1), and rounded to the nearest."""
    TRUNCATED = 2
    """Likewise, rounded down."""


@dataclass(frozen=True, eq=False)
class Levels:
    """The values of all levels.

    Attributes:
        values: ascending, 1 to 65536 of them, each 0 to 65535.
        parameters: what :func:`read_levels` makes them from.
        text: in words.
    """

    values: Values
    parameters: bytes
    text: str

    def numbers(self) -> NDArray[np.int32]:
        """Level of each of 65536 values; arbitrary for values that no level has."""
        return np.searchsorted(self.values, np.arange(1 << 16)).astype(np.int32)


def _linear(shift: int, offset: int, count: int) -> Levels:
    parameters = bytes([shift << 2 | Mapping.LINEAR]) + varint(offset) + varint(count)
    text = f"shifted by {shift}, from {offset << shift}" if shift or offset else "as they are"
    return Levels((np.arange(count) + offset) << shift, parameters, text)


def _stretched_values(bits: int, rule: Rule) -> Values:
    numbers = np.arange(1 << bits)
    if rule == Rule.REPEATED:
        repeated = np.zeros_like(numbers)
        for shift in range(16 - bits, -bits, -bits):
            repeated |= numbers << shift if shift >= 0 else numbers >> -shift
        return repeated
    most = (1 << bits) - 1
    return (numbers * 65535 + (most // 2) * (rule == Rule.ROUNDED)) // most


def _stretched(bits: int, rule: Rule, offset: int, count: int) -> Levels:
    parameters = bytes([rule << 6 | bits << 2 | Mapping.STRETCHED]) + varint(offset) + varint(count)
    values = _stretched_values(bits, rule)[offset : offset + count]
    return Levels(values, parameters, f"stretched from {bits} bits")


def _listed(values: Values) -> Levels:
    gaps = np.diff(values, prepend=-1) - 1
    planes = gaps.astype("<u2").tobytes()
    data = planes[::2] + planes[1::2]
    shorter = compressed(data)
    stored = data if shorter is None else shorter
    front = bytes([(shorter is not None) << 2 | Mapping.LISTED]) + varint(len(values))
    return Levels(values, front + varint(len(stored)) + stored, f"{len(values)} listed")


def read_levels(reader: SideReader) -> Levels:
    """Reads parameters.

    Raises:
        CorruptStream: malformed ones, or levels beyond 16 bits.
    """
    code = reader.byte()
    if code & 3 == Mapping.LISTED:
        count, stored = reader.varint(), reader.take(reader.varint())
        data = decompressed(stored, 1 << 17) if code >> 2 == 1 else stored
        if code >> 3 or not 1 <= count <= 1 << 16 or len(data) != 2 * count:
            raise CorruptStream("a malformed list of sample values")
        planes = np.frombuffer(data, np.uint8).reshape(2, count).astype(np.int64)
        levels = _listed_from(planes[0] + 256 * planes[1])
    else:
        offset, count = reader.varint(), reader.varint()
        if code & 3 == Mapping.LINEAR and code >> 2 < 16:
            shift = code >> 2
            if not (count >= 1 and (offset + count - 1) << shift <= 65535):
                raise CorruptStream("sample values beyond 16 bits")
            levels = _linear(shift, offset, count)
        elif code & 3 == Mapping.STRETCHED and code >> 6 < len(Rule) and code >> 2 & 15:
            bits = code >> 2 & 15
            if not (count >= 1 and offset + count <= 1 << bits):
                raise CorruptStream(f"sample values beyond {bits} bits")
            levels = _stretched(bits, Rule(code >> 6), offset, count)
        else:
            raise CorruptStream("unknown kind of sample values")
    return levels


def _listed_from(gaps: Values) -> Levels:
    values = np.cumsum(gaps + 1) - 1
    if values[-1] > 65535:
        raise CorruptStream("sample values beyond 16 bits")
    return Levels(values, b"", f"{len(values)} listed")


def _narrowest(used: Values) -> Levels:
    """Of the mappings that need no list, the one with the fewest levels."""
    shift = 15
    while shift and (used & ((1 << shift) - 1)).any():
        shift -= 1
    offset = int(used[0]) >> shift
    best = _linear(shift, offset, (int(used[-1]) >> shift) - offset + 1)
    for bits in range(1, 16):
        for rule in Rule:
            values = _stretched_values(bits, rule)
            places = np.searchsorted(values, used).clip(max=len(values) - 1)
            if not np.array_equal(values[places], used):
                continue
            count = int(places[-1] - places[0]) + 1
            if count < len(best.values):
                best = _stretched(bits, rule, int(places[0]), count)
    return best


def find_levels(image: NDArray[np.uint16]) -> Levels:
    """Levels that promise the smallest image."""
    histogram = np.bincount(image.reshape(-1), minlength=1 << 16)
    used = np.flatnonzero(histogram)
    narrowest = _narrowest(used)
    # How far apart used values are, in levels, says how many bits a list would save.
    levels = np.searchsorted(narrowest.values, used)
    last = len(used) - 1
    after = np.minimum(np.arange(len(used)) + _NEIGHBOURS, last)
    before = np.maximum(np.arange(len(used)) - _NEIGHBOURS, 0)
    apart = (levels[after] - levels[before]) / np.maximum(after - before, 1)
    saved = float((histogram[used] * np.log2(np.maximum(apart, 1))).sum())
    listed = _listed(used)
    return listed if saved > _LEAST_RETURN * 8 * len(listed.parameters) else narrowest
