"""The feedback: what a receiver tells the sender of a message with acknowledgement.

An acknowledgement is a short message of its own, sent in the other direction. It says which
transport blocks are still missing, or that the whole message arrived::

    | kind 4 | message id 16 | message bytes 28 | blocks - 1 12 | round 4 | body | CRC-24C |

- kind 1, *missing*: the body is a bitmap with a 1 for every missing block, filled up to octets;
- kind 2, *complete*: the body is the first four octets of the message's digest, by which the sender
  knows that its own message is meant, and not an earlier one of the same number and length.

Numbers are sent with the most significant bit first. There is one encoding of every
acknowledgement: other filling, an empty bitmap, or another length are refused.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from phy.crc import CRC24C, crc_attach, crc_check
from phy.errors import FeedbackError
from phy.frame import MAX_BLOCKS, MAX_MESSAGE_BYTES, MAX_ROUNDS

DIGEST_PREFIX_BYTES = 4

_MISSING, _COMPLETE = 1, 2
_HEAD_BYTES = 8
_CRC_BYTES = CRC24C.degree // 8
MAX_FEEDBACK_BYTES = _HEAD_BYTES + MAX_BLOCKS // 8 + _CRC_BYTES
"""Length of the longest acknowledgement."""


@dataclass(frozen=True)
class Acknowledgement:
    """What a receiver has of a message.

    Attributes:
        message_id: 16-bit name of the message.
        message_bytes: its length.
        block_count: its transport blocks.
        round: the latest round of which a frame was heard, from 1.
        missing_blocks: indices of the blocks that are not decoded, ascending; none if the message
            is complete, its digest proved.
        digest_prefix: the first 4 bytes of that digest; empty if blocks are missing.

    Raises:
        ValueError: a number outside its range, or the last two contradict each other.
    """

    message_id: int
    message_bytes: int
    block_count: int
    round: int
    missing_blocks: tuple[int, ...]
    digest_prefix: bytes = b""

    def __post_init__(self) -> None:
        for name, least, most in (
            ("message_id", 0, 0xFFFF),
            ("message_bytes", 0, MAX_MESSAGE_BYTES),
            ("block_count", 1, MAX_BLOCKS),
            ("round", 1, MAX_ROUNDS),
        ):
            if not least <= getattr(self, name) <= most:
                raise ValueError(f"{name} must be {least} ... {most}, not {getattr(self, name)}")
        missing = self.missing_blocks
        in_range = all(0 <= index < self.block_count for index in missing)
        if list(missing) != sorted(set(missing)) or not in_range:
            raise ValueError(f"missing blocks must be ascending indices below {self.block_count}")
        if len(self.digest_prefix) != (0 if missing else DIGEST_PREFIX_BYTES):
            raise ValueError("a digest goes with a complete message, and only with it")

    @property
    def complete(self) -> bool:
        """Whether the whole message arrived."""
        return not self.missing_blocks

    def to_bytes(self) -> bytes:
        """The acknowledgement as it is sent; 12 bytes for up to 8 blocks."""
        number = _COMPLETE if self.complete else _MISSING
        for value, width in (
            (self.message_id, 16),
            (self.message_bytes, 28),
            (self.block_count - 1, 12),
            (self.round, 4),
        ):
            number = number << width | value
        body = self.digest_prefix
        if not self.complete:
            bitmap = np.zeros(self.block_count, dtype=np.uint8)
            bitmap[list(self.missing_blocks)] = 1
            body = np.packbits(bitmap).tobytes()
        octets = np.frombuffer(number.to_bytes(_HEAD_BYTES, "big") + body, dtype=np.uint8)
        return np.packbits(crc_attach(np.unpackbits(octets), CRC24C)).tobytes()

    @classmethod
    def from_bytes(cls, data: bytes) -> Acknowledgement:
        """Read an acknowledgement.

        Arguments:
            data: what was received; any bytes.

        Raises:
            FeedbackError: not an acknowledgement that :meth:`to_bytes` gives.
        """
        if not _HEAD_BYTES + _CRC_BYTES < len(data) <= MAX_FEEDBACK_BYTES:
            raise FeedbackError(f"an acknowledgement does not have {len(data)} bytes")
        if not crc_check(np.unpackbits(np.frombuffer(data, dtype=np.uint8)), CRC24C):
            raise FeedbackError("the acknowledgement's CRC fails")
        number = int.from_bytes(data[:_HEAD_BYTES], "big")
        values = []
        for width in (4, 12, 28, 16, 4):
            values.append(number & (1 << width) - 1)
            number >>= width
        sent_in, last_block, message_bytes, message_id, kind = values
        body = data[_HEAD_BYTES:-_CRC_BYTES]
        missing: tuple[int, ...] = ()
        if kind == _MISSING:
            if len(body) != -(-(last_block + 1) // 8):
                raise FeedbackError(f"{last_block + 1} blocks in a bitmap of {len(body)} bytes")
            bitmap = np.unpackbits(np.frombuffer(body, dtype=np.uint8))
            missing, body = tuple(np.flatnonzero(bitmap).tolist()), b""
            if not missing:
                raise FeedbackError("a bitmap without a missing block")
        elif kind != _COMPLETE:
            raise FeedbackError(f"unknown kind {kind} of acknowledgement")
        try:
            return cls(message_id, message_bytes, last_block + 1, sent_in, missing, body)
        except ValueError as error:
            raise FeedbackError(str(error)) from error
