"""What all source histories have in common."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol, Self

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream

Image = NDArray[np.uint8]
Planes = tuple[Image, ...]
Shapes = tuple[tuple[int, ...], ...]


class History(IntEnum):
    """How an image's pixels came about."""

    NONE = 0
    """Nothing known: the pixels are coded."""
    PHOTO_YCC = 1
    """A Photo CD image: PhotoYCC with half-resolution chroma, converted to RGB."""
    YCBCR = 2
    """YCbCr as JPEG decoders give it, perhaps with half-resolution chroma, converted to RGB."""
    GRAY = 3
    """Gray stored as RGB."""
    SPARSE = 4
    """Few used values, as after a stretch of the histogram."""
    ENLARGED = 5
    """An enlargement by whole factors that repeats pixels."""


class Transform(Protocol):
    """From planes to an image: one kind of history with its parameters."""

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """Parses parameters.

        Returns:
            The transform, and the bytes after its parameters.

        Raises:
            CorruptStream: there are no such parameters.
        """

    def write(self) -> bytes:
        """The parameters as bytes."""

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """Shapes of the planes for an image of a given size.

        Raises:
            CorruptStream: the parameters do not suit the image.
        """

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """The image, uint8 (height, width) or (height, width, 3), of planes of the right shapes.

        Raises:
            CorruptStream: the planes hold values that they cannot have.
        """

    def describe(self) -> str:
        """The history in a few words."""


@dataclass(frozen=True)
class Candidate:
    """A transform and planes with which it regenerates an image, at least nearly."""

    transform: Transform
    planes: Planes


def rgb_only(channels: int) -> None:
    """Refuses histories of colour images for gray ones."""
    if channels != 3:
        raise CorruptStream("this source history is one of colour images")


def read_varint(data: bytes, most: int) -> tuple[int, bytes]:
    """A whole number up to ``most``, and the bytes after it."""
    value = 0
    for index, byte in enumerate(data[:3]):
        value |= (byte & 0x7F) << 7 * index
        if byte < 0x80:
            if value > most or (byte == 0 and index):
                break
            return value, data[index + 1 :]
    raise CorruptStream("a number in the side information is missing, too large or too long")
