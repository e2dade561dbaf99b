"""A ZeroMQ socket with all its limits set, and a watch over who is connected to it."""

from __future__ import annotations

import zmq
from zmq.utils.monitor import parse_monitor_message

from flowgraphs.stream import EndpointError, StreamStatus
from flowgraphs.zeromq.address import SCHEME, ZmqAddress

_RECONNECT_MS, _LONGEST_RECONNECT_MS = 50, 1000
_LARGEST_PAYLOAD = 2**24  # bytes of a frame that a source takes; a larger one ends its connection
_LARGEST_REQUEST = 2**10  # the same of requests and subscriptions at a sink
_HANDSHAKEN = zmq.EVENT_HANDSHAKE_SUCCEEDED
_LOST = zmq.EVENT_DISCONNECTED


class Connection:
    """A socket, bound or connected as its address says; lost connections are made again.

    Attributes:
        socket: the socket.
        uri: its address, with the port that was found.
    """

    def __init__(self, address: ZmqAddress, kind: int, status: StreamStatus) -> None:
        """Open the socket.

        Args:
            address: where and how.
            kind: ZeroMQ's socket type.
            status: where connections are counted.

        Raises:
            EndpointError: the address cannot be bound or does not exist.
        """
        self._status = status
        self._linger_ms = round(1000 * address.linger_s) if address.is_sink else 0
        # A context of its own: ending it waits until what was sent is on its way.
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self.socket = self._context.socket(kind)
        self.socket.linger = self._linger_ms
        self.socket.sndhwm = self.socket.rcvhwm = address.hwm
        self.socket.setsockopt(zmq.RECONNECT_IVL, _RECONNECT_MS)
        self.socket.setsockopt(zmq.RECONNECT_IVL_MAX, _LONGEST_RECONNECT_MS)
        self.socket.setsockopt(zmq.IPV6, int("[" in address.endpoint))
        self.socket.setsockopt(
            zmq.MAXMSGSIZE, _LARGEST_REQUEST if address.is_sink else _LARGEST_PAYLOAD
        )
        self._monitor = self.socket.get_monitor_socket(_HANDSHAKEN | _LOST)
        try:
            if address.bind:
                self.socket.bind(address.endpoint)
            else:
                self.socket.connect(address.endpoint)
        except zmq.ZMQError as error:
            self._linger_ms = 0
            self.close()
            raise EndpointError(f"{address.endpoint}: {error.strerror}") from error
        endpoint = self.socket.getsockopt_string(zmq.LAST_ENDPOINT)
        self.uri = f"{SCHEME}{address.pattern}:{endpoint.partition(':')[2]}"

    def wait(self, events: int, timeout_s: float) -> bool:
        """Whether the socket is ready for ``zmq.POLLIN`` or ``POLLOUT``, after a wait at most."""
        return bool(self.socket.poll(round(1000 * timeout_s), events))

    def changes(self) -> tuple[int, int]:
        """Connections made and lost since the last call."""
        made = lost = 0
        while self._monitor.poll(0):
            event = parse_monitor_message(self._monitor.recv_multipart())["event"]
            made += event == _HANDSHAKEN
            lost += event == _LOST
        self._status.connections += made
        self._status.disconnections += lost
        return made, lost

    def close(self) -> None:
        """Close the socket; a sink's waits for what is on its way, at most for its linger time."""
        if self.socket.closed:
            return
        self.socket.disable_monitor()
        self._monitor.close(linger=0)
        self.socket.close(linger=self._linger_ms)
        self._context.term()
