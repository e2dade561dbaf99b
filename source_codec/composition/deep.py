"""Samples of 16 bits: an 8-bit image of the high bits, and the low bits as side information.

Samples become levels without gaps first (:mod:`source_codec.composition.sample_values`): 12-bit
data in 16-bit samples have 12 bits again, 8-bit data 8. Of the levels the highest eight bits are
the part, as much as an image of 8 bits can carry; how the others are coded is told in
:mod:`source_codec.composition.refinement`.

Side information: 1 byte, the number of low bits (4 bits) and a flag 16 for three equal channels;
the parameters of the levels; the low bits.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from source_codec.composition.parts import Composed, Kind, Parts, PartShape, SideReader
from source_codec.composition.refinement import decode_low_bits, encode_low_bits
from source_codec.composition.sample_values import Levels, find_levels, read_levels
from source_codec.errors import CorruptStream

_EQUAL_CHANNELS = 16


def split(image: NDArray[np.uint16]) -> Composed:
    """The high bits as an image of 8 bits.

    Args:
        image: uint16, (H, W) or (H, W, 3).

    Returns:
        One part, uint8, of the image's shape; (H, W) if its three channels are equal.
    """
    equal = image.ndim == 3 and bool((image == image[..., :1]).all())
    if equal:
        image = image[..., 0]
    levels = find_levels(image)
    low_bits = max(0, (len(levels.values) - 1).bit_length() - 8)
    numbers = levels.numbers()[image]
    side = bytes([low_bits | _EQUAL_CHANNELS * equal]) + levels.parameters
    if low_bits:
        planes = numbers[None] if image.ndim == 2 else np.moveaxis(numbers, 2, 0)
        side += encode_low_bits(np.ascontiguousarray(planes), low_bits)
    return Composed(Kind.DEEP, ((numbers >> low_bits).astype(np.uint8),), side)


def _read(side: bytes) -> tuple[SideReader, int, bool, Levels]:
    reader = SideReader(side)
    code = reader.byte()
    low_bits, equal = code & 15, bool(code & _EQUAL_CHANNELS)
    levels = read_levels(reader)
    if code >> 5 or low_bits != max(0, (len(levels.values) - 1).bit_length() - 8):
        raise CorruptStream("the number of low bits does not go with the sample values")
    return reader, low_bits, equal, levels


def part_shapes(
    side: bytes, height: int, width: int, channels: int, depth: int
) -> tuple[PartShape, ...]:
    """The high bits.

    Raises:
        CorruptStream: malformed side information, or an image that is not 16-bit gray or RGB.
    """
    equal = _read(side)[2]
    if depth != 16 or channels not in ((3,) if equal else (1, 3)):
        raise CorruptStream("deep samples in an image that has none")
    return (PartShape(height, width, 1 if equal else channels, 8),)


def join(parts: Parts, side: bytes) -> NDArray[np.uint16]:
    """The image, uint16 (H, W) or (H, W, 3), of a part of the right shape.

    Raises:
        CorruptStream: malformed side information, or levels that have no value.
    """
    reader, low_bits, equal, levels = _read(side)
    numbers = parts[0].astype(np.int32) << low_bits
    if low_bits:
        planes = numbers[None] if numbers.ndim == 2 else np.moveaxis(numbers, 2, 0)
        planes = np.ascontiguousarray(planes)
        decode_low_bits(reader, planes, low_bits)
        numbers = planes[0] if numbers.ndim == 2 else np.moveaxis(planes, 0, 2)
    reader.check_end()
    if int(numbers.max()) >= len(levels.values):
        raise CorruptStream("a level that has no value")
    image = np.ascontiguousarray(levels.values.astype(np.uint16)[numbers])
    return np.repeat(image[..., None], 3, axis=2) if equal else image


def describe(side: bytes) -> str:
    """Number of levels, and of low bits."""
    _, low_bits, equal, levels = _read(side)
    text = f"{len(levels.values)} sample values ({levels.text}), {low_bits} low bits apart"
    return text + (", gray stored as RGB" if equal else "")
