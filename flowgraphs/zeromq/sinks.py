"""Sinks: PUSH, PUB and REP sockets."""

from __future__ import annotations

import struct
import time
from abc import abstractmethod

import numpy as np
import zmq

from flowgraphs.stream import ComplexArray, SampleSink, Stop, write_all
from flowgraphs.zeromq.address import ZmqAddress
from flowgraphs.zeromq.connection import Connection
from flowgraphs.zeromq.payload import END_OF_STREAM, PayloadEncoder
from flowgraphs.zeromq.pmt import Pmt, WireFormatError

_RETRY_S = 0.002  # between two tries to publish to a slow subscriber
_MOST_FRAMES = 16  # of a request: routing identity, envelope and question
_LARGEST_REPLY = 2**20  # samples
_END_SAMPLES = 4096  # zeros from the end mark on
_END_WAIT_S = 1.0  # for a request for more of them: those who heed the mark ask no more


class ZmqSink(SampleSink):
    """What the three patterns share."""

    def __init__(self, address: ZmqAddress) -> None:
        """Open the socket.

        Raises:
            EndpointError: see :class:`flowgraphs.zeromq.connection.Connection`.
        """
        super().__init__("", address.timeout_s)
        kind = {"push": zmq.PUSH, "pub": zmq.XPUB, "rep": zmq.ROUTER}[address.pattern]
        self._options = address
        self._connection = Connection(address, kind, self.status)
        self._socket = self._connection.socket
        self.address = self._connection.uri
        self._encoder = PayloadEncoder(address)

    def tag(self, key: Pmt, value: Pmt, source: Pmt = False) -> None:
        """Put a stream tag on the next sample; without effect if the address has no tags."""
        self._encoder.tag(key, value, source)

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """See :meth:`flowgraphs.stream.SampleSink.write`."""
        self._connection.changes()
        return self._write(samples, timeout_s)

    @abstractmethod
    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        """:meth:`write` of the pattern."""

    def _send(self, samples: ComplexArray, envelope: tuple[bytes, ...] = ()) -> bool:
        """Whether a message could be handed to the socket without waiting."""
        try:
            frames = self._encoder.frames(samples)
            self._socket.send_multipart([*envelope, *frames], zmq.NOBLOCK)
        except zmq.Again:
            return False
        self._passed(samples.size)
        return True

    def _passed(self, count: int) -> None:
        self._encoder.sent(count)
        self.status.messages += 1
        self.status.samples += count

    @property
    def deserted(self) -> bool:
        """See :attr:`flowgraphs.stream.SampleSink.deserted`."""
        self._connection.changes()
        return 0 < self.status.connections <= self.status.disconnections

    def finish(self, stop: Stop) -> None:
        """Mark the end of the stream, if the address has tags and does not say ``eos=0``.

        The mark is on the first of some zeros: filters and resamplers of other programs hold their
        latest samples back until more come, and a mark on the last sample would stay inside.
        """
        if not (self._options.tags and self._options.eos):
            return
        self.tag(END_OF_STREAM, True)
        end = np.zeros(min(_END_SAMPLES, self._options.chunk), dtype=np.complex64)
        done = write_all(self, end, lambda: stop() or not self._encoder.pending)
        while 0 < done < end.size and (taken := self.write(end[done:], _END_WAIT_S)):
            done += taken

    def close(self) -> None:
        """Close the socket, after what is on its way or the linger time."""
        self._connection.close()


class PushSink(ZmqSink):
    """PUSH: waits while the queue is full, so nothing is lost as long as the other end lives."""

    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        done = 0
        if self._connection.wait(zmq.POLLOUT, timeout_s):
            while done < samples.size:
                part = samples[done : done + self._options.chunk]
                if not self._send(part):
                    break
                done += part.size
        return done


class PublishSink(ZmqSink):
    """PUB: to all that have subscribed.

    A PUB socket drops in silence what a slow subscriber cannot take, and what is sent while nobody
    has subscribed. This one is an XPUB socket, the same to subscribers, that hears of
    subscriptions, and that says when a queue is full.
    """

    def __init__(self, address: ZmqAddress) -> None:
        """Open the socket; see :class:`ZmqSink`."""
        super().__init__(address)
        self._socket.setsockopt(zmq.XPUB_VERBOSER, 1)
        self._socket.setsockopt(zmq.XPUB_NODROP, 1)
        self._subscriptions = 0

    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        deadline = time.monotonic() + timeout_s
        self._hear()
        if not self._subscriptions and self._options.wait:
            self._connection.wait(zmq.POLLIN, timeout_s)
            self._hear()
            if not self._subscriptions:
                return 0
        done = 0
        while done < samples.size:
            self._hear()  # what is sent once the last subscriber has left is lost
            if not self._subscriptions and self._options.wait:
                break
            part = samples[done : done + self._options.chunk]
            if self._send(part):
                self.status.samples_unheard += 0 if self._subscriptions else part.size
            elif self._options.drop:
                self._encoder.sent(part.size)
                self.status.samples_dropped += part.size
            elif done or time.monotonic() >= deadline:
                break
            else:
                self._connection.wait(zmq.POLLIN, _RETRY_S)  # a subscriber may leave
                continue
            done += part.size
        return done

    def _hear(self) -> None:
        """Count the subscriptions that match our key."""
        while self._connection.wait(zmq.POLLIN, 0):
            frames = self._socket.recv_multipart()
            notice = frames[0]
            if len(frames) == 1 and notice[:1] in (b"\0", b"\1"):
                if self._options.key.startswith(notice[1:]):
                    self._subscriptions += 1 if notice[0] else -1
            else:
                self.status.malformed += 1
                self.status.last_error = "a subscriber sent something else than a subscription"


class ReplySink(ZmqSink):
    """REP: every request is answered with samples, the request is the clock.

    Requests are GNU Radio's u32 item count, and of 0 to 3 bytes srsRAN's and others': as many
    samples as there are. The socket is a ROUTER: it says when the one who asked has gone, and the
    samples go to the next.
    """

    def __init__(self, address: ZmqAddress) -> None:
        """Open the socket; see :class:`ZmqSink`."""
        super().__init__(address)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._request: tuple[tuple[bytes, ...], int] | None = None  # envelope, samples at most

    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        done = 0
        while done < samples.size:
            # The first request may take its time; further ones are answered if they are there.
            if self._request is None and not self._hear(0.0 if done else timeout_s):
                break
            assert self._request is not None
            envelope, count = self._request
            part = samples[done : done + count]
            try:
                if not self._send(part, envelope):
                    break
            except zmq.ZMQError as error:
                if error.errno != zmq.EHOSTUNREACH:
                    raise
            else:
                self.status.requests += 1
                self.status.empty += not part.size
                done += part.size
            self._request = None
        return done

    def _hear(self, wait_s: float) -> bool:
        """Take in the next request, if one comes in time."""
        if not self._connection.wait(zmq.POLLIN, wait_s):
            return False
        try:
            self._request = _parse_request(self._socket.recv_multipart(), self._options.chunk)
        except WireFormatError as error:
            self.status.malformed += 1
            self.status.last_error = str(error)
        return self._request is not None


def _parse_request(frames: list[bytes], chunk: int) -> tuple[tuple[bytes, ...], int]:
    """The envelope to put in front of the reply, and how many samples are asked for.

    Args:
        frames: routing identity, envelope with an empty frame at its end, question.
        chunk: samples for those who do not say how many.

    Raises:
        WireFormatError: not a request.
    """
    if len(frames) > _MOST_FRAMES or b"" not in frames[1:-1]:
        raise WireFormatError("a request without an envelope")
    end = frames.index(b"", 1) + 1
    if len(frames) != end + 1:
        raise WireFormatError(f"a request of {len(frames) - end} frames")
    question = frames[end]
    if len(question) > 4:
        raise WireFormatError(f"a request of {len(question)} bytes where 4 are the most")
    if len(question) < 4:
        return tuple(frames[:end]), chunk
    return tuple(frames[:end]), min(struct.unpack("<I", question)[0], _LARGEST_REPLY)
