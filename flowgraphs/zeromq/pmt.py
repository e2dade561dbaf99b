"""Polymorphic types, the values in GNU Radio's stream tags and messages, as bytes.

A value is a type byte and its content, numbers in network byte order. Here are the types and what
they are in Python:

====  ===============  =====================================================================
byte  PMT              Python
====  ===============  =====================================================================
00    true             ``True``
01    false            ``False``
02    symbol           ``str``; u16 length, then bytes; what is not UTF-8 as surrogates
03    int32            ``int`` from -2**31 to 2**31 - 1
04    double           ``float``
05    complex          ``complex``; two doubles
06    null             ``None``; also the empty list and the empty dictionary
07    pair             ``list`` if the chain of pairs ends with null, else :class:`Pair`
08    vector           :class:`Vector`; u32 count, then values
09    dictionary       :class:`Dictionary`; a pair (entry), then the rest of the dictionary
0a    uniform vector   1-D array; subtype, u32 count, u8 padding length, padding, elements
0b    uint64           ``numpy.uint64``
0c    tuple            ``tuple``; u32 count, then values
0d    int64            ``int`` beyond 32 bits
====  ===============  =====================================================================

The format was measured with GNU Radio 3.10.5's ``pmt.serialize_str``. Parsing is strict (GNU Radio
reads beyond the end of a truncated number) and bounded in size, depth and number of values.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from enum import IntEnum
from typing import TypeAlias

import numpy as np
import numpy.typing as npt


class WireFormatError(Exception):
    """Bytes from the other end that are not what they should be."""


@dataclass(frozen=True)
class Pair:
    """A pair whose chain does not end with null, such as a PDU ``(metadata . vector)``.

    ``Pair(a, None)`` is the list ``[a]`` and ``Pair(a, [b])`` is ``[a, b]``: both are sent as such,
    and come back as lists.

    Attributes:
        car: first element.
        cdr: second element.
    """

    car: Pmt
    cdr: Pmt


@dataclass(frozen=True)
class Vector:
    """A vector of any values.

    Attributes:
        items: its elements.
    """

    items: tuple[Pmt, ...]


@dataclass(frozen=True)
class Dictionary:
    """A dictionary with at least one entry; without any it is ``None``.

    Attributes:
        entries: keys and values in the order of the bytes; GNU Radio puts the newest first, and
            finds the first of equal keys.
    """

    entries: tuple[tuple[Pmt, Pmt], ...]

    def __post_init__(self) -> None:
        if not self.entries:
            raise ValueError("the empty dictionary is None")


Pmt: TypeAlias = (
    "bool | str | int | np.uint64 | float | complex | list[Pmt] | tuple[Pmt, ...] | Pair | Vector"
    " | Dictionary | npt.NDArray[np.generic] | None"
)


class _Kind(IntEnum):
    """The type bytes."""

    TRUE = 0x00
    FALSE = 0x01
    SYMBOL = 0x02
    INT32 = 0x03
    DOUBLE = 0x04
    COMPLEX = 0x05
    NULL = 0x06
    PAIR = 0x07
    VECTOR = 0x08
    DICTIONARY = 0x09
    UNIFORM_VECTOR = 0x0A
    UINT64 = 0x0B
    TUPLE = 0x0C
    INT64 = 0x0D


_ELEMENTS = tuple(
    np.dtype(f">{code}")
    for code in ("u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8", "c8", "c16")
)
"""Element types of uniform vectors, by subtype."""
_SUBTYPES = {dtype.newbyteorder("="): subtype for subtype, dtype in enumerate(_ELEMENTS)}
_LONGEST_SYMBOL = 2**16 - 1


@dataclass(frozen=True)
class Limits:
    """What a parser accepts at most.

    Attributes:
        size: bytes.
        depth: of values inside values; a chain of pairs counts as one level.
        values: in all, elements of uniform vectors apart.
    """

    size: int = 2**20
    depth: int = 32
    values: int = 2**16


DEFAULT_LIMITS = Limits()


def parse(data: bytes, limits: Limits = DEFAULT_LIMITS) -> Pmt:
    """The value that `data` holds, all of it.

    Raises:
        WireFormatError: malformed, truncated, something left over, or beyond the limits.
    """
    value, end = parse_next(data, 0, limits)
    if end != len(data):
        raise WireFormatError(f"{len(data) - end} bytes are left over behind a PMT")
    return value


def parse_next(
    data: bytes | memoryview, start: int, limits: Limits = DEFAULT_LIMITS
) -> tuple[Pmt, int]:
    """The value that begins at `start`, and where it ends.

    Raises:
        WireFormatError: malformed, truncated, or beyond the limits.
    """
    reader = _Reader(memoryview(data)[: start + limits.size], start, limits)
    return reader.value(0), reader.position


class _Reader:
    """A place in the bytes, and what is still allowed."""

    def __init__(self, data: memoryview, start: int, limits: Limits) -> None:
        self._data = data
        self.position = start
        self._limits = limits
        self._values_left = limits.values

    def _take(self, size: int) -> memoryview:
        end = self.position + size
        if end > len(self._data):
            raise WireFormatError("a PMT is truncated or too long")
        taken = self._data[self.position : end]
        self.position = end
        return taken

    def _number(self, code: str) -> int | float:
        number: int | float = struct.unpack(code, self._take(struct.calcsize(code)))[0]
        return number

    def _count(self) -> int:
        """Number of values that follow; each takes a byte at least."""
        count = int(self._number(">I"))
        if count > min(len(self._data) - self.position, self._values_left):
            raise WireFormatError(f"a PMT claims {count} elements, more than can follow")
        return count

    def value(self, depth: int) -> Pmt:
        kind = self._kind(depth)
        inside = depth + 1
        match kind:
            case _Kind.TRUE:
                return True
            case _Kind.FALSE:
                return False
            case _Kind.SYMBOL:
                length = int(self._number(">H"))
                return bytes(self._take(length)).decode("utf-8", "surrogateescape")
            case _Kind.INT32:
                return self._number(">i")
            case _Kind.DOUBLE:
                return self._number(">d")
            case _Kind.COMPLEX:
                return complex(self._number(">d"), self._number(">d"))
            case _Kind.NULL:
                return None
            case _Kind.PAIR:
                return self._pairs(depth)
            case _Kind.VECTOR:
                return Vector(tuple(self.value(inside) for _ in range(self._count())))
            case _Kind.DICTIONARY:
                return self._dictionary(depth)
            case _Kind.UNIFORM_VECTOR:
                return self._uniform_vector()
            case _Kind.UINT64:
                return np.uint64(self._number(">Q"))
            case _Kind.TUPLE:
                return tuple(self.value(inside) for _ in range(self._count()))
            case _Kind.INT64:
                return self._number(">q")
        raise WireFormatError(f"unknown PMT type {kind:#04x}")

    def _kind(self, depth: int) -> int:
        if depth > self._limits.depth:
            raise WireFormatError(f"a PMT is nested deeper than {self._limits.depth} levels")
        self._values_left -= 1
        if self._values_left < 0:
            raise WireFormatError(f"a PMT has more than {self._limits.values} values")
        return self._take(1)[0]

    def _peek(self) -> int | None:
        return self._data[self.position] if self.position < len(self._data) else None

    def _pairs(self, depth: int) -> Pmt:
        """A chain of pairs, without recursion: a list is as long as it likes."""
        items = [self.value(depth + 1)]
        while self._peek() == _Kind.PAIR:
            self._kind(depth)
            items.append(self.value(depth + 1))
        tail = self.value(depth + 1)
        if tail is None:
            return items
        if depth + len(items) > self._limits.depth:
            raise WireFormatError("a long chain of pairs does not end with null")
        for item in reversed(items):
            tail = Pair(item, tail)
        return tail

    def _dictionary(self, depth: int) -> Pmt:
        entries = [self._entry(depth + 1)]
        while self._peek() == _Kind.DICTIONARY:
            self._kind(depth)
            entries.append(self._entry(depth + 1))
        if self._kind(depth) != _Kind.NULL:
            raise WireFormatError("a dictionary does not end with null")
        return Dictionary(tuple(entries))

    def _entry(self, depth: int) -> tuple[Pmt, Pmt]:
        if self._kind(depth) != _Kind.PAIR:
            raise WireFormatError("an entry of a dictionary is not a pair")
        return self.value(depth + 1), self.value(depth + 1)

    def _uniform_vector(self) -> npt.NDArray[np.generic]:
        subtype, count = int(self._number(">B")), int(self._number(">I"))
        if subtype >= len(_ELEMENTS):
            raise WireFormatError(f"unknown subtype {subtype:#04x} of a uniform vector")
        dtype = _ELEMENTS[subtype]
        self._take(int(self._number(">B")))  # padding, of any content
        elements = np.frombuffer(self._take(count * dtype.itemsize), dtype)
        native = elements.astype(dtype.newbyteorder("="))
        native.flags.writeable = False
        return native


def serialize(value: Pmt, limits: Limits = DEFAULT_LIMITS) -> bytes:
    """The bytes of a value, as GNU Radio writes them.

    Raises:
        ValueError: beyond the limits, or a number or symbol too large for its type.
        TypeError: not a type of the table.
    """
    output = bytearray()
    _write(value, output, 0, limits)
    if len(output) > limits.size:
        raise ValueError(f"a PMT of {len(output)} bytes is too long")
    return bytes(output)


def _write(value: Pmt, output: bytearray, depth: int, limits: Limits) -> None:
    if depth > limits.depth:
        raise ValueError(f"a PMT is nested deeper than {limits.depth} levels")
    match value:
        case None:
            output.append(_Kind.NULL)
        case bool():
            output.append(_Kind.TRUE if value else _Kind.FALSE)
        case str():
            symbol = value.encode("utf-8", "surrogateescape")
            if len(symbol) > _LONGEST_SYMBOL:
                raise ValueError(f"a symbol of {len(symbol)} bytes is too long")
            output += struct.pack(">BH", _Kind.SYMBOL, len(symbol)) + symbol
        case _ if isinstance(value, np.uint64):
            output += struct.pack(">BQ", _Kind.UINT64, int(value))
        case int():
            output += _integer(value)
        case float():
            output += struct.pack(">Bd", _Kind.DOUBLE, value)
        case complex():
            output += struct.pack(">Bdd", _Kind.COMPLEX, value.real, value.imag)
        case list():
            for item in value:
                output.append(_Kind.PAIR)
                _write(item, output, depth + 1, limits)
            output.append(_Kind.NULL)
        case Pair():
            while isinstance(value, Pair):
                output.append(_Kind.PAIR)
                _write(value.car, output, depth + 1, limits)
                value = value.cdr
            _write(value, output, depth + 1, limits)
        case Dictionary():
            for key, content in value.entries:
                output += bytes((_Kind.DICTIONARY, _Kind.PAIR))
                _write(key, output, depth + 2, limits)
                _write(content, output, depth + 2, limits)
            output.append(_Kind.NULL)
        case tuple():
            output += struct.pack(">BI", _Kind.TUPLE, len(value))
            for item in value:
                _write(item, output, depth + 1, limits)
        case Vector():
            output += struct.pack(">BI", _Kind.VECTOR, len(value.items))
            for item in value.items:
                _write(item, output, depth + 1, limits)
        case np.ndarray():
            output += _uniform_vector(value)
        case _:
            raise TypeError(f"no PMT for {type(value).__name__}")


def _integer(value: int) -> bytes:
    if -(2**31) <= value < 2**31:
        return struct.pack(">Bi", _Kind.INT32, value)
    if -(2**63) <= value < 2**63:
        return struct.pack(">Bq", _Kind.INT64, value)
    raise ValueError(f"{value} does not fit into 64 bits; numpy.uint64 is a type of its own")


def _uniform_vector(array: npt.NDArray[np.generic]) -> bytes:
    subtype = _SUBTYPES.get(array.dtype.newbyteorder("="))
    if subtype is None or array.ndim != 1:
        raise TypeError(f"no uniform vector for {array.ndim}-D {array.dtype}")
    # GNU Radio writes one byte of padding whatever the elements are.
    header = struct.pack(">BBIBB", _Kind.UNIFORM_VECTOR, subtype, array.size, 1, 0)
    return header + array.astype(_ELEMENTS[subtype]).tobytes()
