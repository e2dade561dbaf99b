"""The ``.ddm`` container.

Layout, all numbers little-endian; the header is as short as the image allows, since a 32x32 image
has only about a kilobyte of payload:

=====================  =====================================================================
2 bytes                magic ``DD 4D``
1 byte                 format version (high four bits), flags (low four bits)
2 bytes                first bytes of the model id
varint                 width
varint                 height; left out when flag SQUARE is set
1 byte, 1 byte         order (high four bits), 8 unless the model adapts, schedule; steps; only
                       when flag PROCESS is set, which is where it makes a difference
layout                 only when flag COMPOSED is set: a byte (channels, plus 8 if of 16 bits),
                       then the tree of :mod:`source_codec.layout`, each node a byte (its kind; 0:
                       plain; 32: graphics), and if composed a varint (length of the side
                       information), the side information, and the nodes of its parts
varint, ...            payload length in bytes, for each plain part but the last
2 or 4 bytes           check of all bytes before and after this field (CRC-32, truncated)
2 or 8 bytes           BLAKE2b hash of the pixels, truncated
payloads               bytes of a range coder; of graphics those of a binary one
=====================  =====================================================================

Flags: GRAY 1, SQUARE 2, PROCESS 4, COMPOSED 8. The format version is 4. Images of at most 64x64
pixels take the short check and hash (32 bits together); larger ones 96 bits. Varints are LEB128, at
most four bytes. Every field has one valid encoding only, so that a stream cannot be altered without
a trace.

The check rejects damage before any decoding; the hash proves the decoded pixels.
"""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from source_codec.composition import PartShape, Samples
from source_codec.errors import CorruptStream, UnsupportedStream
from source_codec.layout import GRAPHICS, PLAIN, Layout, check_level, check_plain, part_shapes
from source_codec.order import Order, is_small
from source_codec.process import Process
from source_codec.reverse_coding import LEAST_BITS_PER_VALUE
from source_codec.schedule import MAX_STEPS, Schedule
from source_codec.varint import varint

MAGIC = b"\xddM"
VERSION = 4
MAX_SIDE = 4096
MODEL_ID_BYTES = 2
DEFAULT_PROCESS = Process()
_GRAY, _SQUARE, _PROCESS, _COMPOSED = 1, 2, 4, 8
_DEEP = 8
_FIXED = 8  # in the byte of order and schedule: the model does not adapt
_ORDERS = list(Order)
_SCHEDULES = list(Schedule)


@dataclass(frozen=True)
class Header:
    """What a ``.ddm`` stream says of itself.

    Attributes:
        version: format version.
        width, height: image size in pixels, 1 to 4096.
        channels: 1 (gray), 2 (gray, alpha), 3 (RGB) or 4 (RGBA).
        depth: bits per sample, 8 or 16.
        process: parameters of the denoising process.
        model_id: first bytes of the model's identity.
        layout: how the image is made of parts; plain, as a rule.
        payload_lengths: length of the payload of each plain part.
        pixel_hash: truncated hash of the pixels.
        header_bytes: length of everything before the payload.
    """

    version: int
    width: int
    height: int
    channels: int
    depth: int
    process: Process
    model_id: bytes
    layout: Layout
    payload_lengths: tuple[int, ...]
    pixel_hash: bytes
    header_bytes: int

    @property
    def payload_bytes(self) -> int:
        """Length of all payloads."""
        return sum(self.payload_lengths)


def pixel_hash(image: Samples) -> bytes:
    """Hash of an image's shape and pixels (little-endian), 8 bytes."""
    digest = hashlib.blake2b(repr(image.shape).encode(), digest_size=8)
    stored = image.astype("<u2") if image.dtype == np.uint16 else image
    digest.update(np.ascontiguousarray(stored).tobytes())
    return digest.digest()


class _Reader:
    """Reads fields in sequence; running out of bytes is corruption."""

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.position = 0

    def take(self, count: int) -> bytes:
        if self.position + count > len(self.data):
            raise CorruptStream("the stream is truncated within its header")
        self.position += count
        return self.data[self.position - count : self.position]

    def varint(self) -> int:
        value = 0
        for shift in range(0, 28, 7):
            byte = self.take(1)[0]
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                if byte == 0 and shift:
                    raise CorruptStream("a number in the header is not in its shortest form")
                return value
        raise CorruptStream("a number in the header is too long")


def _field_bytes(small: bool) -> tuple[int, int]:
    """Lengths of the check and of the pixel hash."""
    return (2, 2) if small else (4, 8)


def _layout_bytes(layout: Layout) -> bytes:
    if layout.is_leaf:
        return bytes([layout.kind])
    front = bytes([layout.kind]) + varint(len(layout.side)) + layout.side
    return front + b"".join(_layout_bytes(part) for part in layout.parts)


def _read_layout(reader: _Reader, shape: PartShape, level: int = 0) -> Layout:
    check_level(level)
    kind = reader.take(1)[0]
    if kind in (PLAIN, GRAPHICS):
        check_plain(shape)
        return Layout(shape, kind)
    side = reader.take(reader.varint())
    parts = tuple(_read_layout(reader, part, level + 1) for part in part_shapes(kind, side, shape))
    return Layout(shape, kind, side, parts)


def _diffused_sizes(layout: Layout) -> list[tuple[int, int]]:
    """Height and width of the parts that the denoising process codes."""
    return [(leaf.shape.height, leaf.shape.width) for leaf in layout.leaves() if leaf.kind == PLAIN]


def pack(
    image: Samples,
    layout: Layout,
    payloads: Sequence[bytes],
    model_id: bytes,
    process: Process,
) -> bytes:
    """Puts the payloads of an image into the container.

    Args:
        image: the pixels.
        layout: how it is made of parts.
        payloads: the bytes of each plain part.
        model_id: identity of the model.
        process: parameters of the denoising process.
    """
    height, width, channels = layout.shape.height, layout.shape.width, layout.shape.channels
    composed = layout.kind != PLAIN
    process = process.simplest(_diffused_sizes(layout))
    flags = _GRAY * (channels == 1) | _SQUARE * (height == width)
    flags |= _PROCESS * (process != DEFAULT_PROCESS) | _COMPOSED * composed
    front = MAGIC + bytes([VERSION << 4 | flags]) + model_id[:MODEL_ID_BYTES] + varint(width)
    if height != width:
        front += varint(height)
    if process != DEFAULT_PROCESS:
        codes = _ORDERS.index(process.order) << 4 | _SCHEDULES.index(process.schedule)
        codes |= 0 if process.adaptive else _FIXED
        front += bytes([codes, process.steps])
    if composed:
        front += bytes([channels | _DEEP * (layout.shape.depth == 16)]) + _layout_bytes(layout)
    front += b"".join(varint(len(payload)) for payload in payloads[:-1])
    check_bytes, hash_bytes = _field_bytes(is_small(height, width))
    back = pixel_hash(image)[:hash_bytes] + b"".join(payloads)
    check = zlib.crc32(front + back).to_bytes(4, "little")[:check_bytes]
    return front + check + back


def read_header(data: bytes) -> Header:
    """Parses and checks a stream's header, and checks the whole stream for damage.

    Raises:
        CorruptStream: not a ``.ddm`` stream, or a damaged one.
        UnsupportedStream: of another format version.
    """
    reader = _Reader(data)
    if reader.take(2) != MAGIC:
        raise CorruptStream("not a .ddm stream")
    version_flags = reader.take(1)[0]
    version, flags = version_flags >> 4, version_flags & 15
    if version != VERSION:
        raise UnsupportedStream(f"format version {version}, this decoder reads {VERSION}")
    model_id = reader.take(MODEL_ID_BYTES)
    width = reader.varint()
    height = width if flags & _SQUARE else reader.varint()
    if not (1 <= width <= MAX_SIDE and 1 <= height <= MAX_SIDE):
        raise CorruptStream(f"image size {width}x{height} is outside 1x1 to {MAX_SIDE}x{MAX_SIDE}")
    if (height == width) != bool(flags & _SQUARE):
        raise CorruptStream("the header contradicts itself")
    process = DEFAULT_PROCESS
    if flags & _PROCESS:
        codes, steps = reader.take(2)
        order, schedule = codes >> 4, codes & 7
        if order >= len(_ORDERS) or schedule >= len(_SCHEDULES) or not 1 <= steps <= MAX_STEPS:
            raise CorruptStream("unknown order or schedule")
        process = Process(_ORDERS[order], _SCHEDULES[schedule], steps, not codes & _FIXED)
    channels, depth = 1 if flags & _GRAY else 3, 8
    layout = Layout(PartShape(height, width, channels, depth))
    if flags & _COMPOSED:
        code = reader.take(1)[0]
        channels, depth = code & ~_DEEP, 16 if code & _DEEP else 8
        if not 1 <= channels <= 4 or (channels == 1) != bool(flags & _GRAY):
            raise CorruptStream("the header contradicts itself")
        layout = _read_layout(reader, PartShape(height, width, channels, depth))
        if layout.kind == PLAIN:
            raise CorruptStream("the header calls a plain image composed")
    if bool(flags & _PROCESS) != (process != DEFAULT_PROCESS) or process != process.simplest(
        _diffused_sizes(layout)
    ):
        raise CorruptStream("the header spells out what is the default process")
    leaves = layout.leaves()
    lengths = [reader.varint() for _ in leaves[1:]]
    front = data[: reader.position]
    check_bytes, hash_bytes = _field_bytes(is_small(height, width))
    check = reader.take(check_bytes)
    back = data[reader.position :]
    stored_hash = reader.take(hash_bytes)
    lengths.append(len(data) - reader.position - sum(lengths))
    if lengths[-1] < 0:
        raise CorruptStream("the stream is truncated: the header says that there is more")
    if zlib.crc32(front + back).to_bytes(4, "little")[:check_bytes] != check:
        raise CorruptStream("the stream is damaged: its check does not match")
    for leaf, length in zip(leaves, lengths, strict=True):
        values = leaf.shape.height * leaf.shape.width * leaf.shape.channels
        if leaf.kind == PLAIN and 8 * length < int(values * LEAST_BITS_PER_VALUE) - 64:
            raise CorruptStream("the payload is too short for the image size")
    return Header(
        version,
        width,
        height,
        channels,
        depth,
        process,
        model_id,
        layout,
        tuple(lengths),
        stored_hash,
        reader.position,
    )


def payloads_of(data: bytes, header: Header) -> list[bytes]:
    """The payloads of a stream whose header has been read, one for each plain part."""
    stops = np.cumsum((header.header_bytes, *header.payload_lengths)).tolist()
    return [data[start:stop] for start, stop in pairwise(stops)]
