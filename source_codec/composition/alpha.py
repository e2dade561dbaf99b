"""Images with an alpha channel: colour and opacity are coded apart.

The pixels' colours are kept where nothing of them shows, as every other pixel's. One opacity for
all pixels, which programs add to images that never were transparent, is a byte or two of side
information:

- nothing: the opacities are the second part;
- 1 byte, or 2 (little-endian) if samples have 16 bits: the opacity of all pixels.
"""

from __future__ import annotations

import numpy as np

from source_codec.composition.parts import Composed, Kind, Parts, PartShape, Samples
from source_codec.errors import CorruptStream


def split(image: Samples) -> Composed:
    """Colour and opacity.

    Args:
        image: uint8 or uint16, (H, W, 2) gray and alpha or (H, W, 4) RGBA.

    Returns:
        One part (H, W) or (H, W, 3) if the opacity is constant, and otherwise a second, (H, W).
    """
    alpha = np.ascontiguousarray(image[..., -1])
    colour = image[..., 0] if image.shape[2] == 2 else image[..., :3]
    colour = np.ascontiguousarray(colour)
    if (alpha == alpha[0, 0]).all():
        side = int(alpha[0, 0]).to_bytes(alpha.dtype.itemsize, "little")
        return Composed(Kind.ALPHA, (colour,), side)
    return Composed(Kind.ALPHA, (colour, alpha), b"")


def part_shapes(
    side: bytes, height: int, width: int, channels: int, depth: int
) -> tuple[PartShape, ...]:
    """Shapes of the parts.

    Raises:
        CorruptStream: an image without alpha, or side information of the wrong length.
    """
    if channels not in (2, 4):
        raise CorruptStream(f"an alpha channel in an image of {channels} channels")
    colour = PartShape(height, width, channels - 1, depth)
    if not side:
        return colour, PartShape(height, width, 1, depth)
    if len(side) != depth // 8:
        raise CorruptStream("an opacity of the wrong length")
    return (colour,)


def join(parts: Parts, side: bytes) -> Samples:
    """The image, (H, W, 2) or (H, W, 4), of parts of the right shapes."""
    colour = parts[0]
    alpha = np.full(colour.shape[:2], int.from_bytes(side, "little")) if side else parts[1]
    return np.dstack([colour, alpha.astype(colour.dtype)])


def describe(side: bytes) -> str:
    """Whether the opacity varies."""
    if not side:
        return "colour and alpha"
    return f"colour of constant opacity {int.from_bytes(side, 'little')}"
