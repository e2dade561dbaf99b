"""Composed images: what is not 8-bit gray or RGB, as parts that are.

An image with alpha, with 16-bit samples, with a palette or with metadata is split into parts and
side information; parts may be composed in their turn, until every one is an 8-bit gray or RGB
image, which the codec's core takes. All functions are pure, and know nothing of the model.

Samples are uint8 or uint16, of shape (H, W), (H, W, 2) gray and alpha, (H, W, 3), or (H, W, 4)
RGBA. Transformations that need no more than the pixels are found by :func:`split`; palettes and
metadata are given by the caller, to :func:`split_palette` and :func:`wrap_metadata`.
"""

from __future__ import annotations

from typing import cast

import numpy as np
from numpy.typing import NDArray

from source_codec.composition import alpha, deep, metadata, palette
from source_codec.composition.metadata import Metadata
from source_codec.composition.metadata import misfit as metadata_misfit
from source_codec.composition.metadata import problem as metadata_problem
from source_codec.composition.metadata import unwrap as unwrap_metadata
from source_codec.composition.metadata import wrap as wrap_metadata
from source_codec.composition.palette import Palette, read_palette
from source_codec.composition.palette import problem as palette_problem
from source_codec.composition.palette import split as split_palette
from source_codec.composition.parts import Composed, Kind, Parts, PartShape, Samples
from source_codec.errors import CorruptStream

__all__ = [
    "Composed",
    "Kind",
    "Metadata",
    "Palette",
    "PartShape",
    "Parts",
    "Samples",
    "describe",
    "join",
    "metadata_misfit",
    "metadata_problem",
    "palette_problem",
    "part_shapes",
    "read_palette",
    "split",
    "split_palette",
    "unwrap_metadata",
    "wrap_metadata",
]


def split(image: Samples) -> Composed | None:
    """Splits an image off which there is something to split.

    Args:
        image: uint8 or uint16; (H, W), (H, W, 2), (H, W, 3) or (H, W, 4); no side is 0.

    Returns:
        The parts, or None for 8-bit gray and RGB, which the core codes as they are.

    Raises:
        ValueError: any other type or shape.
    """
    if image.dtype not in (np.uint8, np.uint16) or image.size == 0:
        raise ValueError(f"no image of 8 or 16 bits a sample: {image.dtype} {image.shape}")
    if image.ndim == 3 and image.shape[2] in (2, 4):
        return alpha.split(image)
    if image.ndim != 2 and (image.ndim != 3 or image.shape[2] != 3):
        raise ValueError(f"images must be (H, W) or (H, W, 2 to 4), not {image.shape}")
    if image.dtype == np.uint16:
        return deep.split(cast("NDArray[np.uint16]", image))
    return None


def part_shapes(
    kind: Kind, side: bytes, height: int, width: int, channels: int, depth: int
) -> tuple[PartShape, ...]:
    """What a decoder must expect as the parts of an image.

    Args:
        kind: as in :class:`Composed`.
        side: likewise.
        height, width: of the image.
        channels: of the image, 1 to 4.
        depth: bits per sample of the image, 8 or 16.

    Returns:
        The shape of each part; none is larger than the image.

    Raises:
        CorruptStream: malformed side information, or a composition that such an image cannot
            have.
    """
    if kind == Kind.ALPHA:
        return alpha.part_shapes(side, height, width, channels, depth)
    if kind == Kind.DEEP:
        return deep.part_shapes(side, height, width, channels, depth)
    if kind == Kind.PALETTE:
        return palette.part_shapes(side, height, width, channels, depth)
    if kind == Kind.METADATA:
        return metadata.part_shapes(side, height, width, channels, depth)
    raise CorruptStream(f"unknown kind of composition {int(kind)}")


def join(
    kind: Kind, parts: Parts, side: bytes, height: int, width: int, channels: int, depth: int
) -> Samples:
    """The image from its parts; the work is linear in the pixels, whatever the input.

    Args:
        kind: as in :class:`Composed`.
        parts: likewise, with the shapes that :func:`part_shapes` gives.
        side: likewise.
        height, width, channels, depth: of the image.

    Returns:
        uint8 or uint16; (height, width), or (height, width, channels) if there are several.

    Raises:
        CorruptStream: malformed side information, or parts that do not go with it.
    """
    expected = part_shapes(kind, side, height, width, channels, depth)
    if tuple(PartShape.of(part) for part in parts) != expected:
        raise CorruptStream("the parts are not those of the composition")
    if kind == Kind.ALPHA:
        return alpha.join(parts, side)
    if kind == Kind.DEEP:
        return deep.join(parts, side)
    if kind == Kind.PALETTE:
        return palette.join(parts, side)
    return metadata.join(parts, side)


def describe(kind: Kind, side: bytes) -> str:
    """One line for people, such as ``palette of 200 colours, numbered by brightness``.

    Raises:
        CorruptStream: malformed side information.
    """
    if kind == Kind.ALPHA:
        return alpha.describe(side)
    if kind == Kind.DEEP:
        return deep.describe(side)
    if kind == Kind.PALETTE:
        return palette.describe(side)
    if kind == Kind.METADATA:
        return metadata.describe(side)
    raise CorruptStream(f"unknown kind of composition {int(kind)}")
