"""PNG files chunk by chunk: samples of any depth as they are, and what the file says besides.

The libraries that read PNG files give 8 bits where a file has 16, or colours where it has indices,
or alpha where it names a transparent colour. Here a file is taken apart; the library gets its
samples alone, without anything that would make it convert them.

Text, modification times, histograms and suggested palettes are not taken along, except for XMP.

Reference: "Portable Network Graphics (PNG) Specification (Third Edition)", W3C 2025.
"""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass

import imagecodecs
import numpy as np
from numpy.typing import NDArray

from source_codec.composition import Metadata, Palette, Samples
from source_codec.composition.parts import MAX_BLOB_BYTES

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB, _PALETTE, _GRAY_ALPHA, _RGBA = 0, 2, 3, 4, 6
_CHANNELS = {_GRAY: 1, _RGB: 3, _PALETTE: 1, _GRAY_ALPHA: 2, _RGBA: 4}
_DEPTHS = {_GRAY: (1, 2, 4, 8, 16), _PALETTE: (1, 2, 4, 8)}
_COLOUR_TYPES = {1: _GRAY, 2: _GRAY_ALPHA, 3: _RGB, 4: _RGBA}
_XMP = b"XML:com.adobe.xmp\0"
_BEFORE_PALETTE = {
    b"cICP": "code_points",
    b"gAMA": "gamma",
    b"cHRM": "chromaticities",
    b"sRGB": "intent",
    b"sBIT": "significant",
}
_AFTER_PALETTE = {b"bKGD": "background", b"pHYs": "density", b"eXIf": "exif", b"iTXt": "xmp"}
_COPIED = _BEFORE_PALETTE | _AFTER_PALETTE


class PngError(ValueError):
    """A PNG file is damaged, or not as the specification has it."""


@dataclass(frozen=True)
class Header:
    """The IHDR chunk, and the number of frames."""

    width: int
    height: int
    depth: int
    colour_type: int
    interlaced: int
    frames: int


@dataclass(frozen=True)
class PngFile:
    """A PNG file taken apart.

    Attributes:
        header: size and kind of samples.
        chunks: the first of each kind that is of use, by name.
        data: all image data, still compressed.
    """

    header: Header
    chunks: dict[bytes, bytes]
    data: bytes


def parse(content: bytes) -> PngFile:
    """Takes a PNG file apart.

    Raises:
        PngError: not a PNG file, or a damaged one; image data are not looked at.
    """
    if not content.startswith(SIGNATURE):
        raise PngError("no PNG signature")
    chunks: dict[bytes, bytes] = {}
    data: list[bytes] = []
    position = len(SIGNATURE)
    while True:
        length = int.from_bytes(content[position : position + 4], "big")
        end = position + 12 + length
        if end > len(content):
            raise PngError("the file is truncated")
        name, chunk = content[position + 4 : position + 8], content[position + 8 : end - 4]
        if zlib.crc32(name + chunk) != int.from_bytes(content[end - 4 : end], "big"):
            raise PngError(f"chunk {name.decode('latin-1')!r} is damaged")
        position = end
        if name == b"IEND":
            break
        if name == b"IDAT":
            data.append(chunk)
        elif name != b"iTXt" or chunk.startswith(_XMP):
            chunks.setdefault(name, chunk)
    return PngFile(_header(chunks), chunks, b"".join(data))


def _header(chunks: dict[bytes, bytes]) -> Header:
    if len(chunks.get(b"IHDR", b"")) != 13:
        raise PngError("no header")
    width, height, depth, colour_type, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[b"IHDR"])
    if depth not in _DEPTHS.get(colour_type, (8, 16)) or colour_type not in _CHANNELS:
        raise PngError(f"no samples of {depth} bits in colour type {colour_type}")
    frames = int.from_bytes(chunks.get(b"acTL", b"\0\0\0\1")[:4], "big")
    return Header(width, height, depth, colour_type, interlaced, frames)


def samples(file: PngFile) -> Samples:
    """The samples as they stand in the file.

    Returns:
        uint8 or uint16; (H, W) of gray values or indices, (H, W, 2), (H, W, 3) or (H, W, 4).

    Raises:
        PngError: damaged image data.
    """
    header = file.header
    colour_type = _GRAY if header.colour_type == _PALETTE else header.colour_type
    plain = _assembled(
        [
            (b"IHDR", file.chunks[b"IHDR"][:9] + bytes([colour_type, *file.chunks[b"IHDR"][10:]])),
            (b"IDAT", file.data),
        ]
    )
    try:
        image = np.asarray(imagecodecs.png_decode(plain))
    except Exception as error:
        raise PngError(f"damaged image data: {error}") from error
    if image.ndim == 3 and image.shape[2] == 1:
        image = image[..., 0]
    channels = _CHANNELS[colour_type]
    shape = (header.height, header.width) + (() if channels == 1 else (channels,))
    depth = max(8, header.depth)
    if image.shape != shape or image.dtype != np.dtype(f"uint{depth}"):
        raise PngError(f"{image.dtype} {image.shape} instead of the samples of the header")
    if header.depth < 8:  # brought to 8 bits by repetition
        image >>= 8 - header.depth
    return image


def palette(file: PngFile) -> Palette | None:
    """The palette of an image of indices; None for others, whose palettes are mere suggestions."""
    if file.header.colour_type != _PALETTE:
        return None
    colours = file.chunks.get(b"PLTE", b"")
    return Palette(colours, file.chunks.get(b"tRNS", b""), file.header.depth)


def metadata(file: PngFile) -> Metadata:
    """What the file says besides samples and palette.

    Raises:
        PngError: a damaged ICC profile, or one of more than 16 MiB.
    """
    values = {field: file.chunks[name] for name, field in _COPIED.items() if name in file.chunks}
    if b"iCCP" in file.chunks:
        values["icc_name"], values["icc"] = _profile(file.chunks[b"iCCP"])
    if file.header.colour_type in (_GRAY, _RGB) and b"tRNS" in file.chunks:
        values["colour_key"] = file.chunks[b"tRNS"]
    if file.header.colour_type == _GRAY and file.header.depth < 8:
        values["bits"] = bytes([file.header.depth])
    return Metadata(**values)


def _profile(chunk: bytes) -> tuple[bytes, bytes]:
    name, _, rest = chunk.partition(b"\0")
    inflate = zlib.decompressobj()
    try:
        profile = inflate.decompress(rest[1:], MAX_BLOB_BYTES + 1)
    except zlib.error as error:
        raise PngError(f"damaged ICC profile: {error}") from error
    if not inflate.eof or len(profile) > MAX_BLOB_BYTES:
        raise PngError("an ICC profile of the wrong length")
    return name, profile


def _assembled(chunks: list[tuple[bytes, bytes]]) -> bytes:
    file = bytearray(SIGNATURE)
    for name, chunk in [*chunks, (b"IEND", b"")]:
        file += struct.pack(">I", len(chunk)) + name + chunk
        file += struct.pack(">I", zlib.crc32(name + chunk))
    return bytes(file)


def _packed(image: NDArray[np.uint8], depth: int) -> bytes:
    """Compressed image data of samples of up to 8 bits, without prediction."""
    bits = np.unpackbits(image[..., None], axis=2)[..., 8 - depth :]
    rows = np.packbits(bits.reshape(len(image), -1), axis=1)
    return zlib.compress(np.pad(rows, ((0, 0), (1, 0))).tobytes(), 9)


def assemble(image: Samples, colours: Palette | None, fields: Metadata) -> bytes:
    """A PNG file of the given samples.

    Args:
        image: uint8 or uint16; (H, W) of gray values or indices, (H, W, 2), (H, W, 3) or
            (H, W, 4).
        colours: the palette, if the samples are indices.
        fields: what else to put into the file.
    """
    image = np.ascontiguousarray(image)
    depth, colour_type = (
        8 * image.dtype.itemsize,
        _COLOUR_TYPES[1 if image.ndim == 2 else image.shape[2]],
    )
    if colours is not None:
        depth, colour_type = colours.bits, _PALETTE
    elif fields.bits:
        depth = fields.bits[0]
    if depth < 8 or colours is not None:
        data = _packed(image.astype(np.uint8), depth)
    else:
        data = parse(bytes(imagecodecs.png_encode(image, level=6))).data
    height, width = image.shape[:2]
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, 0))]
    chunks += _present(fields, _BEFORE_PALETTE)
    if fields.icc:
        name = fields.icc_name or b"ICC Profile"
        chunks.append((b"iCCP", name + b"\0\0" + zlib.compress(fields.icc, 9)))
    if colours is not None:
        chunks.append((b"PLTE", colours.colours))
    transparency = colours.transparency if colours is not None else fields.colour_key
    if transparency:
        chunks.append((b"tRNS", transparency))
    return _assembled([*chunks, *_present(fields, _AFTER_PALETTE), (b"IDAT", data)])


def _present(fields: Metadata, names: dict[bytes, str]) -> list[tuple[bytes, bytes]]:
    values = fields.present()
    return [(name, values[field]) for name, field in names.items() if field in values]
