"""What an image file says besides its pixels: colour profile, Exif, resolution and the like.

The values are those of PNG chunks ("Portable Network Graphics (PNG) Specification (Third
Edition)", W3C 2025, section 11.3), carried byte by byte and not interpreted.

The side information is a sequence of fields: the field's number, the length in bytes of what
follows doubled (plus one if that is deflated) as a varint, and the bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

from source_codec.composition.parts import (
    MAX_BLOB_BYTES,
    Composed,
    Kind,
    Parts,
    PartShape,
    Samples,
    SideReader,
    compressed,
    decompressed,
)
from source_codec.errors import CorruptStream
from source_codec.varint import varint

_LENGTHS = {
    "bits": 1,
    "density": 9,
    "gamma": 4,
    "intent": 1,
    "chromaticities": 32,
    "code_points": 4,
}
"""Fields whose length is fixed."""


@dataclass(frozen=True)
class Metadata:
    """Fields of a file; an empty one is absent.

    Attributes:
        bits: bits of a sample of the file if fewer than the pixels' type has: one byte, 1, 2 or 4.
        colour_key: the transparent colour of an image without alpha channel (tRNS): 2 or 6 bytes.
        icc: ICC profile, as it is before compression.
        icc_name: the profile's name (iCCP), Latin-1.
        exif: the Exif block (eXIf), from its byte order mark on.
        density: pixels per unit along x and y, and the unit (pHYs): 9 bytes.
        gamma: gamma of the encoding, times 100000 (gAMA): 4 bytes.
        intent: rendering intent of sRGB images (sRGB): 1 byte.
        chromaticities: white point and primaries (cHRM): 32 bytes.
        code_points: coding-independent code points (cICP): 4 bytes.
        significant: significant bits of each channel (sBIT): 1 to 4 bytes.
        background: background colour (bKGD): 1 to 6 bytes.
        xmp: an XMP packet as the data of its iTXt chunk.
    """

    bits: bytes = b""
    colour_key: bytes = b""
    icc: bytes = b""
    icc_name: bytes = b""
    exif: bytes = b""
    density: bytes = b""
    gamma: bytes = b""
    intent: bytes = b""
    chromaticities: bytes = b""
    code_points: bytes = b""
    significant: bytes = b""
    background: bytes = b""
    xmp: bytes = b""

    @property
    def dpi(self) -> tuple[float, float] | None:
        """Dots per inch along x and y, if the file gives a resolution in metres."""
        if not self.density or self.density[8] != 1:
            return None
        x, y = (int.from_bytes(self.density[i : i + 4], "big") for i in (0, 4))
        return x * 0.0254, y * 0.0254

    def present(self) -> dict[str, bytes]:
        """The fields that are not empty, by name."""
        values = ((field.name, getattr(self, field.name)) for field in fields(self))
        return {name: value for name, value in values if value}


_NAMES = [field.name for field in fields(Metadata)]


def problem(metadata: Metadata) -> str | None:
    """Why metadata cannot be of a PNG file, or None."""
    present = metadata.present()
    for name, value in present.items():
        if len(value) != _LENGTHS.get(name, len(value)):
            return f"{name} of {len(value)} bytes"
    if metadata.bits and metadata.bits[0] not in (1, 2, 4):
        return f"samples of {metadata.bits[0]} bits"
    if len(metadata.colour_key) not in (0, 2, 6):
        return f"a transparent colour of {len(metadata.colour_key)} bytes"
    if metadata.icc_name and not metadata.icc:
        return "the name of a profile that is missing"
    if len(metadata.icc_name) > 79 or 0 in metadata.icc_name:
        return "a profile's name that is no such name"
    if len(metadata.significant) > 4 or len(metadata.background) > 6:
        return "significant bits or a background of too many channels"
    if sum(map(len, present.values())) > MAX_BLOB_BYTES:
        return f"metadata of more than {MAX_BLOB_BYTES} bytes"
    return None


def misfit(metadata: Metadata, channels: int, depth: int) -> str | None:
    """Why metadata cannot be those of such an image, or None.

    Args:
        metadata: without a :func:`problem`.
        channels: 1 to 4.
        depth: bits per sample of the array that holds the image, 8 or 16.
    """
    if metadata.bits and (channels, depth) != (1, 8):
        return "few bits a sample in an image that is not 8-bit gray"
    if metadata.colour_key and len(metadata.colour_key) != 2 * channels:
        return "a transparent colour of the wrong number of channels"
    return None


def wrap(image: Samples, metadata: Metadata) -> Composed | None:
    """An image with its metadata; None if there are none.

    Args:
        image: any image, or the indices of a palette image; the single part.
        metadata: of its file.

    Raises:
        ValueError: fields of lengths that they cannot have, or of more than 16 MiB together, or
            such that the image cannot have.
    """
    shape = PartShape.of(image)
    reason = problem(metadata) or misfit(metadata, shape.channels, shape.depth)
    if reason is not None:
        raise ValueError(reason)
    side = b""
    for name, value in metadata.present().items():
        shorter = compressed(value) if len(value) > 16 else None
        stored = value if shorter is None else shorter
        side += bytes([_NAMES.index(name)])
        side += varint(2 * len(stored) + (shorter is not None)) + stored
    return Composed(Kind.METADATA, (image,), side) if side else None


def unwrap(side: bytes) -> Metadata:
    """The metadata.

    Raises:
        CorruptStream: malformed side information, or more than 16 MiB of it.
    """
    reader, values = SideReader(side), dict[str, bytes]()
    left, last = MAX_BLOB_BYTES, -1
    while not reader.at_end:
        number = reader.byte()
        if not last < number < len(_NAMES):
            raise CorruptStream("unknown metadata, or not in order")
        length, deflated = divmod(reader.varint(), 2)
        stored = reader.take(length)
        value = decompressed(stored, left) if deflated else stored
        left, last = left - len(value), number
        if not value or left < 0:
            raise CorruptStream("an empty field of metadata, or too long a one")
        values[_NAMES[number]] = value
    metadata = Metadata(**values)
    reason = problem(metadata) if values else "no metadata"
    if reason is not None:
        raise CorruptStream(f"{reason} in the side information")
    return metadata


def part_shapes(
    side: bytes, height: int, width: int, channels: int, depth: int
) -> tuple[PartShape, ...]:
    """The image itself.

    Raises:
        CorruptStream: malformed side information, or metadata that such an image cannot have.
    """
    reason = misfit(unwrap(side), channels, depth)
    if reason is not None:
        raise CorruptStream(reason)
    return (PartShape(height, width, channels, depth),)


def join(parts: Parts, side: bytes) -> Samples:
    """The image itself.

    Raises:
        CorruptStream: samples of more bits than the metadata say.
    """
    bits = unwrap(side).bits
    if bits and int(parts[0].max()) >> bits[0]:
        raise CorruptStream(f"samples of more than {bits[0]} bits")
    return parts[0]


def describe(side: bytes) -> str:
    """Names and lengths of the fields."""
    present = unwrap(side).present()
    return "metadata: " + ", ".join(f"{name} {len(value)} bytes" for name, value in present.items())
