"""The low bits of deep samples, given the high ones.

What an 8-bit image leaves of 10 to 16 bits is mostly noise, which a coder of images spends more
bits on than it has; but not all of it is. The low bits are coded plane by plane, the highest
first, each bit with an adaptive probability. Its context is where the samples around, as far as
they are known, put this one in the interval that its higher bits leave: eight neighbours, half of
them already refined by the bit in question. Across edges the pair of neighbours counts more that
differs less. In colour images the deviation of green from its own neighbours may be a part of the
context of red and blue, or their differences from green take the place of them. Planes
that turn out to be noise are stored as they are.

All arithmetic is on integers.
"""

from __future__ import annotations

from enum import IntEnum

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.composition.parts import SideReader
from source_codec.errors import CorruptStream
from source_codec.source_history.binary_coding import (
    BitCoder,
    check_finished,
    decode_bit,
    encode_bit,
    finished,
    new_decoder,
    new_encoder,
)
from source_codec.varint import varint

Levels = NDArray[np.int32]
Counts = NDArray[np.int64]

_OFFSETS = np.array([2, 5, 9, 14, 19, 26, 34, 43, 54, 67], dtype=np.int64)
_ACTIVITIES = np.array([9, 24, 48, 86, 145, 240, 390], dtype=np.int64)
"""Limits of the classes of context, in 1/16 of half an interval."""
_CONTEXTS = 21 * 8 * 7
_LEAST_SAVING = 0.002
"""Bits per sample that a plane's coding must promise to save."""
_SAMPLE_ROWS, _SAMPLE_COLUMNS = 256, 512


class Mode(IntEnum):
    """How a plane of bits is coded."""

    STORED = 0
    """One bit a bit."""
    SPATIAL = 1
    """Given the neighbours."""
    WITH_GREEN = 2
    """Given the neighbours, and how green deviates from its own."""
    FROM_GREEN = 3
    """Given green, and how the neighbours differ from theirs."""


_WITH_GREEN, _FROM_GREEN = int(Mode.WITH_GREEN), int(Mode.FROM_GREEN)


def _modes(channels: int, channel: int) -> list[Mode]:
    """How planes of a channel may be coded."""
    return list(Mode) if channels == 3 and channel != 1 else [Mode.STORED, Mode.SPATIAL]


def _channel_order(channels: int) -> tuple[int, ...]:
    return (0,) if channels == 1 else (1, 0, 2)


@numba.njit(cache=True)
def _neighbour(plane: Levels, green: Levels, share: int, row: int, column: int) -> int:
    """Twice what is known of a sample, less green if ``share`` is 1."""
    # int64 before the arithmetic: compiled code would wrap around in int32.
    own = 2 * np.int64(plane[row, column])
    return own - share * 2 * np.int64(green[row, column])  # type: ignore[return-value]


@numba.njit(cache=True)
def _expected(
    plane: Levels, green: Levels, share: int, row: int, column: int, above: int, below: int
) -> tuple[int, int]:
    """What the neighbours make of a sample, doubled, and how much they differ.

    ``above`` and ``below`` are the doubled distances from what is known of a level to the middle
    of its interval, for neighbours before and after this one in raster order.
    """
    height, width = plane.shape
    up, down = max(row - 1, 0), min(row + 1, height - 1)
    left, right = max(column - 1, 0), min(column + 1, width - 1)
    first = below if row == 0 else above
    north = _neighbour(plane, green, share, up, column) + first
    north_west = _neighbour(plane, green, share, up, left) + first
    north_east = _neighbour(plane, green, share, up, right) + first
    west = _neighbour(plane, green, share, row, left) + (below if column == 0 else above)
    east = _neighbour(plane, green, share, row, right) + below
    south = _neighbour(plane, green, share, down, column) + below
    south_west = _neighbour(plane, green, share, down, left) + below
    south_east = _neighbour(plane, green, share, down, right) + below
    along = abs(west - east) + (abs(north_west - north_east) + abs(south_west - south_east)) // 2
    across = abs(north - south) + (abs(north_west - south_west) + abs(north_east - south_east)) // 2
    activity = min(along, across)
    along += 2 * below + 2
    across += 2 * below + 2
    expected = ((west + east) * across + (north + south) * along) // (2 * (along + across))
    return expected, activity


@numba.njit(cache=True)
def _context(known: Levels, channel: int, row: int, column: int, bit: int, mode: int) -> int:
    """Context of a bit of a sample; samples before it in raster order are known beyond it."""
    half = np.int64(1) << bit
    plane, green = known[channel], known[1 if len(known) > 1 else 0]
    share = 1 if mode == _FROM_GREEN else 0
    expected, activity = _expected(plane, green, share, row, column, half - 1, 2 * half - 1)
    expected += share * 2 * np.int64(green[row, column])
    offset = (expected - 2 * np.int64(plane[row, column]) - 2 * half + 1) * 8 // half
    size = np.searchsorted(_OFFSETS, abs(offset), "right")
    place = 10 + size if offset > 0 else 10 - size
    kind = np.searchsorted(_ACTIVITIES, activity * 8 // half, "right")
    deviation = np.int64(3)
    if mode == _WITH_GREEN:
        usual, _ = _expected(green, green, 0, row, column, half - 1, half - 1)
        own = 2 * np.int64(green[row, column]) + half - 1
        deviation += min(max((own - usual + half) // (2 * half), -3), 3)
    return (place * 8 + kind) * 7 + deviation


@numba.njit(cache=True)
def _count_plane(
    known: Levels, levels: Levels, channel: int, bit: int, mode: int, counts: Counts
) -> None:
    """Counts the bits of a plane by context, and leaves ``known`` as it was."""
    _, height, width = known.shape
    for row in range(height):
        for column in range(width):
            context = _context(known, channel, row, column, bit, mode)
            value = levels[channel, row, column] >> bit & 1
            counts[context, value] += 1
            known[channel, row, column] |= value << bit
    for row in range(height):
        for column in range(width):
            known[channel, row, column] &= ~(1 << bit)


@numba.njit(cache=True)
def _encode_plane(
    coder: BitCoder, known: Levels, levels: Levels, channel: int, bit: int, mode: int
) -> None:
    _, height, width = known.shape
    for row in range(height):
        for column in range(width):
            context = _context(known, channel, row, column, bit, mode)
            value = levels[channel, row, column] >> bit & 1
            encode_bit(coder, context, value)
            known[channel, row, column] |= value << bit


@numba.njit(cache=True)
def _decode_plane(coder: BitCoder, known: Levels, channel: int, bit: int, mode: int) -> None:
    _, height, width = known.shape
    for row in range(height):
        for column in range(width):
            context = _context(known, channel, row, column, bit, mode)
            known[channel, row, column] |= decode_bit(coder, context) << bit


def _coded_bits(counts: Counts) -> float:
    """Bits that adaptive coding of counted bits takes."""
    zeros, ones = (counts[counts.sum(axis=1) > 0, value].astype(np.float64) for value in (0, 1))
    total = zeros + ones
    bits = -zeros * np.log2(np.maximum(zeros, 1) / total) - ones * np.log2(
        np.maximum(ones, 1) / total
    )
    return float((bits + 0.5 * np.log2(total + 1)).sum())


def _chosen_mode(known: Levels, levels: Levels, channel: int, bit: int) -> Mode:
    """The mode that codes the middle of the image with the fewest bits."""
    _, height, width = levels.shape
    top, left = max(0, (height - _SAMPLE_ROWS) // 2), max(0, (width - _SAMPLE_COLUMNS) // 2)
    window = (
        slice(None),
        slice(top, top + _SAMPLE_ROWS),
        slice(left, left + _SAMPLE_COLUMNS),
    )
    part, known_part = levels[window], known[window].copy()
    bits = {Mode.STORED: part[0].size * (1 - _LEAST_SAVING)}
    for mode in _modes(len(levels), channel)[1:]:
        counts = np.zeros((_CONTEXTS, 2), dtype=np.int64)
        _count_plane(known_part, part, channel, bit, int(mode), counts)
        bits[mode] = _coded_bits(counts)
    return min(bits, key=lambda mode: bits[mode])


def encode_low_bits(levels: Levels, low_bits: int) -> bytes:
    """Codes the low bits of levels whose higher bits are known.

    Args:
        levels: int32 (C, H, W), C 1 or 3.
        low_bits: how many, at least 1.

    Returns:
        For each plane of bits and channel the mode (1 byte); for each coded plane the length
        (varint) and the bytes, for each stored one the bits.
    """
    known = levels >> low_bits << low_bits
    result = b""
    for bit in range(low_bits - 1, -1, -1):
        for channel in _channel_order(len(levels)):
            mode = _chosen_mode(known, levels, channel, bit)
            result += bytes([mode])
            if mode == Mode.STORED:
                plane = (levels[channel] >> bit & 1).astype(np.uint8)
                result += np.packbits(plane).tobytes()
                known[channel] |= levels[channel] & 1 << bit
                continue
            coder = new_encoder(_CONTEXTS, levels[channel].size // 4 + 4096)
            _encode_plane(coder, known, levels, channel, bit, int(mode))
            coded = finished(coder)
            assert coded is not None  # adaptive coding never doubles the bits
            result += varint(len(coded)) + coded
    return result


def decode_low_bits(reader: SideReader, known: Levels, low_bits: int) -> None:
    """Fills in the low bits that :func:`encode_low_bits` coded.

    Args:
        reader: at their beginning.
        known: int32 (C, H, W), C 1 or 3, with the low bits zero; changed in place.
        low_bits: how many.

    Raises:
        CorruptStream: malformed data.
    """
    for bit in range(low_bits - 1, -1, -1):
        for channel in _channel_order(len(known)):
            mode = reader.byte()
            size = known[channel].size
            if mode == Mode.STORED:
                packed = np.frombuffer(reader.take((size + 7) // 8), np.uint8)
                plane = np.unpackbits(packed)[:size].reshape(known[channel].shape)
                known[channel] |= plane.astype(np.int32) << bit
                continue
            if mode not in _modes(len(known), channel):
                raise CorruptStream("unknown coding of a plane of bits")
            coder = new_decoder(_CONTEXTS, reader.take(reader.varint()))
            _decode_plane(coder, known, channel, bit, int(mode))
            check_finished(coder)
