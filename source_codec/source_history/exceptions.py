"""Exceptions: the pixels that a history does not explain.

What a history regenerates may differ from the image in a few places, mostly where channels are
clipped. A mask says where, coded with the neighbouring mask bits and the number of clipped channels
as context; then come the differences of the channels, with adaptive Golomb codes.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

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
from source_codec.source_history.compiled import signed

Image = NDArray[np.uint8]

_MASK_CONTEXTS = 5 * 4
_CHANNEL_CONTEXTS = 2 + 1 + 8 + 8 * 8
"""Whether it differs (given an earlier channel that does), sign, exponent, bits by exponent."""
_CONTEXTS = _MASK_CONTEXTS + 3 * _CHANNEL_CONTEXTS


@numba.njit(cache=True)
def _mask_context(
    regenerated: Image,
    mask_above: NDArray[np.uint8],
    mask: NDArray[np.uint8],
    row: int,
    column: int,
) -> int:
    """Context from four neighbours; both mask rows have a margin of one on either side."""
    neighbours = mask_above[column] + mask_above[column + 1] + mask_above[column + 2] + mask[column]
    clipped = 0
    for channel in range(regenerated.shape[2]):
        value = regenerated[row, column, channel]
        clipped += value == 0 or value == 255
    return 4 * neighbours + clipped


@numba.njit(cache=True)
def _bit_length(value: int) -> int:
    length = 0
    while value >> length:
        length += 1
    return length


@numba.njit(cache=True)
def _encode_difference(coder: BitCoder, channel: int, differing: int, difference: int) -> None:
    base = _MASK_CONTEXTS + channel * _CHANNEL_CONTEXTS
    encode_bit(coder, base + min(differing, 1), int(difference != 0))
    if difference == 0:
        return
    encode_bit(coder, base + 2, int(difference < 0))
    magnitude = abs(difference)  # 1 to 128
    exponent = _bit_length(magnitude) - 1
    for place in range(7):
        encode_bit(coder, base + 3 + place, int(place < exponent))
        if place >= exponent:
            break
    for place in range(exponent - 1, -1, -1):
        encode_bit(coder, base + 11 + 8 * exponent + place, (magnitude >> place) & 1)


@numba.njit(cache=True)
def _decode_difference(coder: BitCoder, channel: int, differing: int) -> int:
    base = _MASK_CONTEXTS + channel * _CHANNEL_CONTEXTS
    if not decode_bit(coder, base + min(differing, 1)):
        return 0
    negative = decode_bit(coder, base + 2)
    exponent = 0
    while exponent < 7 and decode_bit(coder, base + 3 + exponent):
        exponent += 1
    magnitude = 1
    for place in range(exponent - 1, -1, -1):
        magnitude = 2 * magnitude + decode_bit(coder, base + 11 + 8 * exponent + place)
    return -magnitude if negative else magnitude


@numba.njit(cache=True)
def _encode(coder: BitCoder, image: Image, regenerated: Image) -> int:
    """Codes the exceptions, and counts them."""
    height, width, channels = image.shape
    masks = np.zeros((2, width + 2), dtype=np.uint8)
    exceptions = 0
    for row in range(height):
        above, mask = masks[row % 2], masks[1 - row % 2]
        mask[:] = 0
        for column in range(width):
            context = _mask_context(regenerated, above, mask, row, column)
            differs = False
            for channel in range(channels):
                differs |= image[row, column, channel] != regenerated[row, column, channel]
            encode_bit(coder, context, int(differs))
            if not differs:
                continue
            mask[column + 1] = 1
            exceptions += 1
            differing = 0
            for channel in range(channels):
                value = signed(image[row, column, channel])
                difference = value - signed(regenerated[row, column, channel])
                difference = (difference + 128) % 256 - 128
                _encode_difference(coder, channel, differing, difference)
                differing += difference != 0
    return exceptions


@numba.njit(cache=True)
def _decode(coder: BitCoder, regenerated: Image, image: Image, most: int) -> int:
    """Puts exceptions into an image; stops as soon as there are more than ``most``."""
    height, width, channels = regenerated.shape
    masks = np.zeros((2, width + 2), dtype=np.uint8)
    exceptions = 0
    for row in range(height):
        above, mask = masks[row % 2], masks[1 - row % 2]
        mask[:] = 0
        for column in range(width):
            context = _mask_context(regenerated, above, mask, row, column)
            if not decode_bit(coder, context):
                continue
            mask[column + 1] = 1
            exceptions += 1
            if exceptions > most:
                return exceptions
            differing = 0
            for channel in range(channels):
                difference = _decode_difference(coder, channel, differing)
                differing += difference != 0
                value = signed(regenerated[row, column, channel]) + difference
                image[row, column, channel] = value & 255
    return exceptions


def _with_channels(image: Image) -> Image:
    return image if image.ndim == 3 else image[..., None]


def encode_exceptions(image: Image, regenerated: Image) -> bytes | None:
    """What turns ``regenerated`` into ``image``: both (H, W) or (H, W, 3), uint8.

    Returns:
        No bytes at all if the two are the same; None if more than a bit a pixel were needed, or
        exceptions take less than a bit each: either way the history is none.
    """
    if np.array_equal(image, regenerated):
        return b""
    coder = new_encoder(_CONTEXTS, capacity=image.shape[0] * image.shape[1] // 8 + 64)
    exceptions = _encode(coder, _with_channels(image), _with_channels(regenerated))
    data = finished(coder)
    if data is None or exceptions > 8 * len(data):
        return None
    return data


def apply_exceptions(regenerated: Image, data: bytes) -> Image:
    """The image, from what the history gives and what :func:`encode_exceptions` returned.

    Raises:
        CorruptStream: there are more bytes than the exceptions take, or far more exceptions than
            the bytes could tell of, which bounds the work that hostile input makes.
    """
    if not data:
        return regenerated
    image = np.ascontiguousarray(regenerated).copy()
    coder = new_decoder(_CONTEXTS, data)
    most = 8 * len(data)
    if _decode(coder, _with_channels(regenerated), _with_channels(image), most) > most:
        raise CorruptStream("more exceptions than bits")
    check_finished(coder)
    return image
