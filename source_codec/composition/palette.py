"""Palette images: indices renumbered so that neighbouring pixels have near numbers.

The order of a palette says nothing about colours, so its indices look like noise to a coder of
images. They are renumbered in one of several orders, whichever promises the smallest image. Two
of the orders follow from the colours and cost nothing to send; a third comes from which indices
meet in the image (Pinho and Neves: "A note on Zeng's technique for color re-indexing of
palette-based images", IEEE Signal Processing Letters, 2004) and is sent as the number of a
permutation.

Side information:

- 1 byte: bits of an index in the file (logarithm, 2 bits), order (2 bits), how the colours are
  stored (2 bits);
- 1 byte: number of colours less one; 2 bytes: number of transparency entries;
- colours and transparencies: plane by plane, plain or as differences, and deflated if that is
  smaller, with the length as a varint;
- with :attr:`Order.MEETING` the permutation's number, as many bytes as the largest one takes.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from math import factorial

import numpy as np
from numpy.typing import NDArray

from source_codec.composition.cost import plane_bits, sampled
from source_codec.composition.parts import (
    Composed,
    Kind,
    Parts,
    PartShape,
    SideReader,
    compressed,
    decompressed,
)
from source_codec.errors import CorruptStream
from source_codec.varint import varint

Indices = NDArray[np.uint8]
Positions = NDArray[np.intp]
_DELTA, _DEFLATED = 1, 2


class Order(IntEnum):
    """Orders of the palette in which indices are numbered."""

    STORED = 0
    """As in the file."""
    LUMA = 1
    """By opacity, then by brightness."""
    CHAIN = 2
    """From the darkest colour on always the nearest one not yet taken."""
    MEETING = 3
    """Indices that are often neighbours in the image next to each other."""


@dataclass(frozen=True)
class Palette:
    """The colours of a palette image.

    Attributes:
        colours: red, green and blue of 1 to 256 entries (PLTE), in the file's order.
        transparency: opacities of the first entries (tRNS); may be empty.
        bits: of an index in the file: 1, 2, 4 or 8.
    """

    colours: bytes
    transparency: bytes = b""
    bits: int = 8

    @property
    def size(self) -> int:
        """Number of colours."""
        return len(self.colours) // 3


def problem(palette: Palette) -> str | None:
    """Why there can be no such palette, or None."""
    if len(palette.colours) % 3 or not 1 <= palette.size <= 256:
        return f"a palette of {len(palette.colours)} bytes"
    if len(palette.transparency) > palette.size:
        return "more opacities than colours"
    if palette.bits not in (1, 2, 4, 8) or palette.size > 1 << palette.bits:
        return f"{palette.size} colours with indices of {palette.bits} bits"
    return None


def _rgba(palette: Palette) -> NDArray[np.int64]:
    """(n, 4) red, green, blue and opacity."""
    rgba = np.full((palette.size, 4), 255, dtype=np.int64)
    rgba[:, :3] = np.frombuffer(palette.colours, np.uint8).reshape(-1, 3)
    rgba[: len(palette.transparency), 3] = np.frombuffer(palette.transparency, np.uint8)
    return rgba


def _by_luma(palette: Palette) -> Positions:
    rgba = _rgba(palette)
    luma = rgba[:, :3] @ np.array([299, 587, 114])
    return np.lexsort((luma, rgba[:, 3]))


def _chain(palette: Palette) -> Positions:
    rgba = _rgba(palette)
    chain = [int(_by_luma(palette)[0])]
    left = np.ones(palette.size, dtype=bool)
    left[chain[0]] = False
    for _ in range(palette.size - 1):
        difference = rgba - rgba[chain[-1]]
        distance = (difference * difference * np.array([2, 4, 1, 4])).sum(axis=1)
        distance[~left] = np.iinfo(np.int64).max
        chain.append(int(np.argmin(distance)))
        left[chain[-1]] = False
    return np.array(chain, dtype=np.intp)


def _by_meeting(indices: Indices, size: int) -> Positions:
    """Modified Zeng re-indexing: grows a row of indices at the end that the next one meets more."""
    meetings = np.zeros((256, 256), dtype=np.int64)
    for one, other in ((indices[1:], indices[:-1]), (indices[:, 1:], indices[:, :-1])):
        pairs = one.astype(np.int64) * 256 + other
        meetings += np.bincount(pairs.reshape(-1), minlength=1 << 16).reshape(256, 256)
    meetings = (meetings + meetings.T)[:size, :size].astype(np.float64)
    np.fill_diagonal(meetings, 0)
    first = int(np.argmax(meetings.sum(axis=1)))
    row, left = [first], np.ones(size, dtype=bool)
    left[first] = False
    for _ in range(size - 1):
        with_row = meetings[:, row].sum(axis=1)
        with_row[~left] = -1
        taken = int(np.argmax(with_row))
        weights = np.arange(len(row) - 1, -len(row), -2)  # which end it is pulled to
        if float(weights @ meetings[taken, row]) > 0:
            row.insert(0, taken)
        else:
            row.append(taken)
        left[taken] = False
    return np.array(row, dtype=np.intp)


def _permutation_bytes(size: int) -> int:
    return ((factorial(size) - 1).bit_length() + 7) // 8


def _number_of(order: Positions) -> bytes:
    """A permutation's number among all, in the factorial system."""
    left, number = list(range(len(order))), 0
    for entry in order.tolist():
        place = left.index(entry)
        number = number * len(left) + place
        del left[place]
    return number.to_bytes(_permutation_bytes(len(order)), "little")


def _permutation(number: bytes, size: int) -> Positions:
    value, places = int.from_bytes(number, "little"), []
    for base in range(1, size + 1):
        value, place = divmod(value, base)
        places.append(place)
    if value:
        raise CorruptStream("there is no such order of a palette")
    left = list(range(size))
    return np.array([left.pop(place) for place in reversed(places)], dtype=np.intp)


def _numbering(order: Positions) -> Indices:
    """Number of each of 256 indices; those beyond the palette keep theirs."""
    numbers = np.arange(256, dtype=np.uint8)
    numbers[order] = np.arange(len(order), dtype=np.uint8)
    return numbers


def _write_colours(palette: Palette) -> tuple[int, bytes]:
    """How the colours and transparencies are stored, and the bytes."""
    planes = np.frombuffer(palette.colours, np.uint8).reshape(-1, 3).T.reshape(-1)
    plain = np.concatenate([planes, np.frombuffer(palette.transparency, np.uint8)])
    delta = np.diff(plain, prepend=np.uint8(0))
    choices = [(0, plain.tobytes())]
    for flags, values in ((0, plain), (_DELTA, delta)):
        shorter = compressed(values.tobytes())
        if shorter is not None:
            choices.append((flags | _DEFLATED, varint(len(shorter)) + shorter))
    return min(choices, key=lambda choice: len(choice[1]))


def _read_colours(reader: SideReader, flags: int, size: int, opacities: int) -> tuple[bytes, bytes]:
    length = 3 * size + opacities
    if flags & _DEFLATED:
        data = decompressed(reader.take(reader.varint()), length)
    else:
        data = reader.take(length)
    if len(data) != length:
        raise CorruptStream("a palette of the wrong length")
    values = np.frombuffer(data, np.uint8)
    if flags & _DELTA:
        values = np.cumsum(values, dtype=np.uint8)
    colours = values[: 3 * size].reshape(3, size).T.tobytes()
    return colours, values[3 * size :].tobytes()


def split(indices: Indices, palette: Palette) -> Composed:
    """A palette image as renumbered indices.

    Args:
        indices: uint8 (H, W).
        palette: the colours; indices beyond it are allowed.

    Returns:
        One part, uint8 (H, W).

    Raises:
        ValueError: there can be no such palette, or the indices have more bits than it says.
    """
    reason = problem(palette)
    if reason is None and int(indices.max()) >> palette.bits:
        reason = f"indices of more than {palette.bits} bits"
    if reason is not None:
        raise ValueError(reason)
    orders = {
        Order.STORED: np.arange(palette.size),
        Order.LUMA: _by_luma(palette),
        Order.CHAIN: _chain(palette),
        Order.MEETING: _by_meeting(indices, palette.size),
    }
    sample = sampled(indices)
    scale = indices.size / sample.size

    def bits(order: Order) -> float:
        cost = scale * plane_bits(_numbering(orders[order])[sample].astype(np.int64))
        return cost + 8 * _permutation_bytes(palette.size) * (order == Order.MEETING)

    order = min(orders, key=bits)
    storage, colours = _write_colours(palette)
    code = palette.bits.bit_length() - 1 | order << 2 | storage << 4
    side = bytes([code, palette.size - 1]) + len(palette.transparency).to_bytes(2, "little")
    side += colours + (_number_of(orders[order]) if order == Order.MEETING else b"")
    return Composed(Kind.PALETTE, (_numbering(orders[order])[indices],), side)


def _read(side: bytes) -> tuple[Palette, Order, Positions]:
    reader = SideReader(side)
    code, size = reader.byte(), reader.byte() + 1
    opacities = int.from_bytes(reader.take(2), "little")
    if code >> 6 or opacities > size:
        raise CorruptStream("unknown kind of palette")
    palette = Palette(*_read_colours(reader, code >> 4, size, opacities), 1 << (code & 3))
    reason = problem(palette)
    if reason is not None:
        raise CorruptStream(f"{reason} in the side information")
    order = Order(code >> 2 & 3)
    if order == Order.MEETING:
        positions = _permutation(reader.take(_permutation_bytes(size)), size)
    elif order == Order.STORED:
        positions = np.arange(size)
    else:
        positions = _by_luma(palette) if order == Order.LUMA else _chain(palette)
    reader.check_end()
    return palette, order, positions


def read_palette(side: bytes) -> Palette:
    """The palette, as in the file.

    Raises:
        CorruptStream: malformed side information.
    """
    return _read(side)[0]


def part_shapes(
    side: bytes, height: int, width: int, channels: int, depth: int
) -> tuple[PartShape, ...]:
    """The renumbered indices.

    Raises:
        CorruptStream: malformed side information, or an image that is not 8-bit gray.
    """
    _read(side)
    if (channels, depth) != (1, 8):
        raise CorruptStream("a palette for an image that is not one of indices")
    return (PartShape(height, width, 1, 8),)


def join(parts: Parts, side: bytes) -> Indices:
    """The indices as in the file, uint8 (H, W).

    Raises:
        CorruptStream: malformed side information, or indices of more bits than it says.
    """
    palette, _, positions = _read(side)
    original = np.arange(256, dtype=np.uint8)
    original[: palette.size] = positions
    indices = original[parts[0]]
    if int(indices.max()) >> palette.bits:
        raise CorruptStream(f"indices of more than {palette.bits} bits")
    return indices


def describe(side: bytes) -> str:
    """Size and order of the palette."""
    palette, order, _ = _read(side)
    opacities = ", with opacities" if palette.transparency else ""
    names = ("as stored", "by brightness", "by nearness", "by neighbourhood")
    return f"palette of {palette.size} colours{opacities}, numbered {names[order]}"
