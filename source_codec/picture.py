"""An image with what its file says besides the pixels."""

from __future__ import annotations

from dataclasses import dataclass, field

from source_codec.composition.metadata import Metadata
from source_codec.composition.palette import Palette
from source_codec.composition.parts import Samples


@dataclass(frozen=True, eq=False)
class Picture:
    """An image with what its file says besides the pixels.

    Attributes:
        pixels: uint8 or uint16; (H, W), (H, W, 2) gray and alpha, (H, W, 3), or (H, W, 4) RGBA.
            Gray values of 1, 2 or 4 bits are 0 to 1, 3 or 15, and ``metadata.bits`` says so.
        palette: if the pixels are indices into it, uint8 (H, W).
        metadata: colour profile, Exif, resolution and the like. A colour of an image without
            alpha channel that is to be transparent stands here, and the pixels are unchanged.
    """

    pixels: Samples
    palette: Palette | None = None
    metadata: Metadata = field(default_factory=Metadata)
