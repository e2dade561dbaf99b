"""Stream tags in front of samples: what GNU Radio's ZeroMQ blocks send with ``pass_tags``.

A payload begins with 19 bytes, little-endian: magic 0x5FF0 (u16), version 1 (u8), the absolute
index of the first item (u64) and the number of tags (u64). Every tag is the absolute index of its
item (u64, little-endian) and three PMTs: key, value and source. Then come the items.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from flowgraphs.zeromq.pmt import Limits, Pmt, WireFormatError, parse_next, serialize

MAGIC, VERSION = 0x5FF0, 1
_HEADER = struct.Struct("<HBQQ")
_OFFSET = struct.Struct("<Q")
_MAX_OFFSET = 2**64
_MAX_TAGS = 4096
_LIMITS = Limits(size=2**16, values=2**12)  # of each PMT
_MIN_TAG_BYTES = _OFFSET.size + 3


@dataclass(frozen=True)
class StreamTag:
    """A note on an item of a stream.

    Attributes:
        offset: absolute index of the item.
        key: a symbol, as a rule.
        value: any PMT.
        source: name of the block that set it; GNU Radio's default is false.
    """

    offset: int
    key: Pmt
    value: Pmt
    source: Pmt = False


@dataclass(frozen=True)
class TagHeader:
    """The head of a payload.

    Attributes:
        offset: absolute index of the payload's first item.
        tags: tags on the items.
    """

    offset: int
    tags: tuple[StreamTag, ...] = ()


def has_header(payload: bytes | memoryview) -> bool:
    """Whether the payload begins like one with a header."""
    return bytes(payload[:3]) == struct.pack("<HB", MAGIC, VERSION)


def write_header(offset: int, tags: Sequence[StreamTag] = ()) -> bytes:
    """The bytes in front of the items.

    Raises:
        ValueError: an index outside 64 bits, or too many tags.
    """
    if len(tags) > _MAX_TAGS:
        raise ValueError(f"{len(tags)} tags are more than {_MAX_TAGS}")
    for place in (offset, *(tag.offset for tag in tags)):
        if not 0 <= place < _MAX_OFFSET:
            raise ValueError(f"the item index {place} does not fit into 64 bits")
    parts = [_HEADER.pack(MAGIC, VERSION, offset, len(tags))]
    for tag in tags:
        parts.append(_OFFSET.pack(tag.offset))
        parts += [serialize(value) for value in (tag.key, tag.value, tag.source)]
    return b"".join(parts)


def read_header(payload: bytes | memoryview) -> tuple[TagHeader, int]:
    """The header, and where the items begin.

    Args:
        payload: a frame.

    Raises:
        WireFormatError: no header (the sender does not pass tags), another version, or tags that
            are malformed, truncated or too many.
    """
    if len(payload) < _HEADER.size:
        raise WireFormatError(f"{len(payload)} bytes are too short for a tag header")
    magic, version, offset, count = _HEADER.unpack_from(payload)
    if magic != MAGIC:
        raise WireFormatError("no tag header: the sender does not pass tags")
    if version != VERSION:
        raise WireFormatError(f"tag header of version {version} where {VERSION} is known")
    if count > min(_MAX_TAGS, (len(payload) - _HEADER.size) // _MIN_TAG_BYTES):
        raise WireFormatError(f"a header claims {count} tags, more than can follow")
    position, tags = _HEADER.size, []
    for _ in range(count):
        if len(payload) - position < _MIN_TAG_BYTES:
            raise WireFormatError("a tag is truncated")
        (place,) = _OFFSET.unpack_from(payload, position)
        position += _OFFSET.size
        key, position = parse_next(payload, position, _LIMITS)
        value, position = parse_next(payload, position, _LIMITS)
        source, position = parse_next(payload, position, _LIMITS)
        tags.append(StreamTag(place, key, value, source))
    return TagHeader(offset, tuple(tags)), position
