"""Sources: SUB, PULL and REQ sockets."""

from __future__ import annotations

import struct
import time
from collections import deque

import numpy as np
import zmq

from flowgraphs.stream import ComplexArray, SampleSource
from flowgraphs.zeromq.address import ZmqAddress
from flowgraphs.zeromq.connection import Connection
from flowgraphs.zeromq.payload import PayloadDecoder
from flowgraphs.zeromq.tags import StreamTag

_READ_SAMPLES = 2**16  # messages are joined until they have so many


class ZmqSource(SampleSource):
    """Takes what is pushed or published."""

    def __init__(self, address: ZmqAddress) -> None:
        """Open the socket.

        Raises:
            EndpointError: see :class:`flowgraphs.zeromq.connection.Connection`.
        """
        super().__init__("", address.timeout_s)
        kind = {"pull": zmq.PULL, "sub": zmq.SUB, "req": zmq.DEALER}[address.pattern]
        self._connection = Connection(address, kind, self.status)
        self.address = self._connection.uri
        self.backlog = address.hwm
        self._decoder = PayloadDecoder(address, self.status)
        if kind == zmq.SUB:
            self._connection.socket.subscribe(address.key)

    @property
    def tags(self) -> deque[StreamTag]:
        """The latest stream tags."""
        return self._decoder.tags

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        deadline = time.monotonic() + timeout_s
        parts: list[ComplexArray] = []
        count = vain = 0
        while count < _READ_SAMPLES and vain <= self.backlog and not self._decoder.ended:
            # Once there are samples, only those that are there already join them.
            wait_s = 0.0 if count else max(0.0, deadline - time.monotonic())
            frames = self._receive(wait_s)
            if frames is None:
                break
            samples = self._decoder.decode([frame.buffer for frame in frames])
            if samples.size:
                parts.append(samples)
                count += samples.size
            else:
                vain += wait_s == 0
        if not parts and self._decoder.ended:
            return None
        if len(parts) == 1:
            return parts[0]
        return np.concatenate(parts) if parts else np.empty(0, dtype=np.complex64)

    def _receive(self, wait_s: float) -> list[zmq.Frame] | None:
        """The frames of the next message, if one comes in time."""
        if any(self._connection.changes()):
            self._decoder.interrupt()
        if not self._connection.wait(zmq.POLLIN, wait_s):
            return None
        return self._connection.socket.recv_multipart(copy=False)

    def close(self) -> None:
        """Close the socket."""
        self._connection.close()


class RequestSource(ZmqSource):
    """Asks for samples, and takes the reply.

    The socket is a DEALER that speaks as REQ does. A REQ socket whose partner was restarted waits
    for a reply that nobody will send, and one that is allowed to ask again drops the reply to its
    first question; this one asks again when a connection was lost, and uses every reply.
    """

    def __init__(self, address: ZmqAddress) -> None:
        """Open the socket; see :class:`ZmqSource`."""
        super().__init__(address)
        self._request = struct.pack("<I", address.chunk)
        self._waiting = False

    def _receive(self, wait_s: float) -> list[zmq.Frame] | None:
        _, lost = self._connection.changes()
        if lost:
            self._decoder.interrupt()
            self._waiting = False
        if wait_s > 0 and not self._waiting:
            self._ask()
        if not self._connection.wait(zmq.POLLIN, wait_s):
            return None
        delimiter, *frames = self._connection.socket.recv_multipart(copy=False)
        self._waiting = False
        # Without a delimiter it is no reply; the decoder refuses a message without frames.
        return frames if len(delimiter) == 0 else []

    def _ask(self) -> None:
        try:
            self._connection.socket.send_multipart([b"", self._request], zmq.NOBLOCK)
        except zmq.Again:
            return  # bound, and nobody there
        self._waiting = True
        self.status.requests += 1
