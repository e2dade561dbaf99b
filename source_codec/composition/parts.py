"""What all kinds of composition have in common."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream

Samples = NDArray[np.uint8 | np.uint16]
Parts = tuple[Samples, ...]

MAX_BLOB_BYTES = 1 << 24
"""Side information is never decompressed beyond this."""


class Kind(IntEnum):
    """How an image is composed of its parts; the numbers below 16 belong to source histories."""

    ALPHA = 16
    """Colour, and a plane of opacities unless they are all the same."""
    DEEP = 17
    """Samples of 16 bits: high and low bits as images of 8 bits, and noise bits as they are."""
    PALETTE = 18
    """Indices into a palette, renumbered so that similar colours have near numbers."""
    METADATA = 19
    """An image and what its file says besides the pixels."""


@dataclass(frozen=True, eq=False)
class Composed:
    """An image as parts.

    Attributes:
        kind: what the parts are.
        parts: arrays (h, w), (h, w, 2), (h, w, 3) or (h, w, 4), uint8 or uint16; those that
            are not 8-bit gray or RGB can be split in their turn.
        side: side information.
    """

    kind: Kind
    parts: Parts
    side: bytes


@dataclass(frozen=True)
class PartShape:
    """What a decoder must expect of a part: size in pixels, 1 to 4 channels, 8 or 16 bits."""

    height: int
    width: int
    channels: int
    depth: int

    @classmethod
    def of(cls, part: Samples) -> PartShape:
        """The shape of an array."""
        channels = 1 if part.ndim == 2 else part.shape[2]
        return cls(part.shape[0], part.shape[1], channels, 8 * part.dtype.itemsize)


class SideReader:
    """Reads side information in sequence; running out of bytes is corruption."""

    def __init__(self, side: bytes) -> None:
        self.side = side
        self.position = 0

    def take(self, count: int) -> bytes:
        """The next ``count`` bytes."""
        if count > len(self.side) - self.position:
            raise CorruptStream("the side information is truncated")
        self.position += count
        return self.side[self.position - count : self.position]

    def byte(self) -> int:
        """The next byte."""
        return self.take(1)[0]

    def varint(self) -> int:
        """A whole number in LEB128, below 2 ** 28."""
        value = 0
        for shift in range(0, 28, 7):
            byte = self.byte()
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value
        raise CorruptStream("a number in the side information is too long")

    def rest(self) -> bytes:
        """All bytes not yet read."""
        return self.take(len(self.side) - self.position)

    @property
    def at_end(self) -> bool:
        """Whether all bytes have been read."""
        return self.position == len(self.side)

    def check_end(self) -> None:
        """Raises CorruptStream if there are bytes left."""
        if not self.at_end:
            raise CorruptStream("bytes after the end of the side information")


def compressed(data: bytes) -> bytes | None:
    """Raw deflate of ``data``, or None where that is not smaller."""
    deflate = zlib.compressobj(9, wbits=-15)
    shorter = deflate.compress(data) + deflate.flush()
    return shorter if len(shorter) < len(data) else None


def decompressed(data: bytes, most: int) -> bytes:
    """The inverse of :func:`compressed`.

    Raises:
        CorruptStream: not deflated data, incomplete, with more bytes behind it, or of more than
            ``most`` bytes; no more than those are ever held.
    """
    inflate = zlib.decompressobj(wbits=-15)
    try:
        result = inflate.decompress(data, most + 1)
    except zlib.error as error:
        raise CorruptStream("damaged data in the side information") from error
    if not inflate.eof or inflate.unused_data or len(result) > most:
        raise CorruptStream("data of the wrong length in the side information")
    return result
