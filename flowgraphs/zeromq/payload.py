"""Messages to samples and back: topic key, tag header, and samples that a message cuts in two."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from flowgraphs.stream import SAMPLE_BYTES, ComplexArray, StreamStatus
from flowgraphs.zeromq.address import ZmqAddress
from flowgraphs.zeromq.pmt import Pmt, WireFormatError
from flowgraphs.zeromq.tags import StreamTag, has_header, read_header, write_header

END_OF_STREAM = "end_of_stream"
"""Key of our tag on the first of the zeros behind a stream; the value is true. GNU Radio's format
knows no end."""
_ITEM = np.dtype("<c8")
_TAGS_KEPT = 1024
_NOTHING = np.empty(0, dtype=_ITEM)
_NOTHING.flags.writeable = False


class PayloadDecoder:
    """Takes the messages of a stream apart; those that are malformed are counted and left out.

    Attributes:
        ended: the end of the stream was marked.
        tags: the latest tags.
    """

    def __init__(self, address: ZmqAddress, status: StreamStatus) -> None:
        """Start at the beginning of a stream.

        Args:
            address: says whether there are keys and tags, and what they are.
            status: where everything is counted.
        """
        self._address = address
        self._status = status
        self._carry = b""  # the first bytes of a sample
        self._next_offset: int | None = None
        self.ended = False
        self.tags: deque[StreamTag] = deque(maxlen=_TAGS_KEPT)

    def decode(self, frames: Sequence[bytes | memoryview]) -> ComplexArray:
        """The samples of a message, (n,) complex64, read-only; none if it is malformed."""
        self._status.messages += 1
        try:
            payload = self._payload(frames)
            if payload is None:
                self._status.foreign += 1
                return _NOTHING
            if self._address.tags:
                return self._tagged(payload)
            if not self._status.samples and has_header(payload) and len(payload) % SAMPLE_BYTES:
                raise WireFormatError("the payload has a tag header: set tags=1")
            return self._samples(payload)
        except WireFormatError as error:
            self._status.malformed += 1
            self._status.last_error = str(error)
            self.interrupt()
            return _NOTHING

    def interrupt(self) -> None:
        """Another sender may follow: what is left of a sample has no other part."""
        self._status.bytes_discarded += len(self._carry)
        self._carry = b""

    def _payload(self, frames: Sequence[bytes | memoryview]) -> memoryview | None:
        """The payload; None if its key is another one."""
        expected = 2 if self._address.key else 1
        if len(frames) != expected:
            raise WireFormatError(f"a message of {len(frames)} frames where {expected} is right")
        if self._address.key and bytes(frames[0]) != self._address.key:
            return None  # subscriptions match by prefix
        return memoryview(frames[-1])

    def _tagged(self, payload: memoryview) -> ComplexArray:
        header, start = read_header(payload)
        if self._next_offset is not None and header.offset != self._next_offset:
            self.interrupt()
            missing = header.offset - self._next_offset
            if missing > 0:
                self._status.gaps += 1
                self._status.samples_missing += missing
            else:
                self._status.restarts += 1
        samples = self._samples(payload[start:])
        self._next_offset = header.offset + samples.size
        self.tags.extend(header.tags)
        if self._address.eos:
            self.ended = any(
                isinstance(tag.key, str) and tag.key == END_OF_STREAM and tag.value is True
                for tag in header.tags
            )
        return samples

    def _samples(self, payload: memoryview) -> ComplexArray:
        if not len(payload):
            self._status.empty += 1
            return _NOTHING
        data: bytes | memoryview = self._carry + payload if self._carry else payload
        whole = len(data) - len(data) % SAMPLE_BYTES
        self._carry = bytes(data[whole:])
        self._status.carried += bool(self._carry)
        samples = np.require(np.frombuffer(data[:whole], dtype=_ITEM), requirements="A")
        samples.flags.writeable = False
        self._status.samples += samples.size
        return samples


class PayloadEncoder:
    """Makes the messages of a stream."""

    def __init__(self, address: ZmqAddress) -> None:
        """Start at the beginning of a stream.

        Args:
            address: says whether there are keys and tags, and what they are.
        """
        self._address = address
        self._offset = 0
        self._pending: list[tuple[Pmt, Pmt, Pmt]] = []

    def tag(self, key: Pmt, value: Pmt, source: Pmt = False) -> None:
        """Put a tag on the next sample, if the address has tags."""
        if self._address.tags:
            self._pending.append((key, value, source))

    @property
    def pending(self) -> bool:
        """There are tags for a sample that is still to come."""
        return bool(self._pending)

    def frames(self, samples: ComplexArray) -> list[bytes]:
        """The frames of a message with these samples; :meth:`sent` tells that it went out."""
        payload = samples.astype(_ITEM, copy=False).tobytes()
        if self._address.tags:
            tags = [StreamTag(self._offset, *parts) for parts in self._pending if samples.size]
            payload = write_header(self._offset, tags) + payload
        return [self._address.key, payload] if self._address.key else [payload]

    def sent(self, count: int) -> None:
        """Go on behind the `count` samples of a message that was sent or dropped."""
        if count:
            self._offset += count
            self._pending.clear()
