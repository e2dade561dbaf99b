"""Addresses of ZeroMQ ends.

``zmq+PATTERN://HOST:PORT?OPTION=VALUE&...`` is TCP, ``zmq+PATTERN:///PATH?...`` a Unix socket. Port
0, for an end that binds, is a free one. As in GNU Radio's blocks sinks bind and sources connect
unless the address says otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, urlsplit

from flowgraphs.stream import EndpointError

SCHEME = "zmq+"
SINK_PATTERNS = ("push", "pub", "rep")
SOURCE_PATTERNS = ("pull", "sub", "req")
_LARGEST_CHUNK = 2**20


@dataclass(frozen=True)
class ZmqAddress:
    """A parsed address.

    Attributes:
        pattern: one of :data:`SINK_PATTERNS` or :data:`SOURCE_PATTERNS`.
        endpoint: as ZeroMQ writes it, such as ``tcp://127.0.0.1:5555``.
        bind: this end waits for connections; otherwise it makes one.
        tags: payloads have a tag header (``pass_tags``).
        eos: with tags, the end of a stream is marked, and heeded.
        key: topic of publish/subscribe, in a frame of its own before the payload; empty for none.
        hwm: high-water mark, messages that may wait at this end.
        chunk: samples per message at most; for a source that requests, how many it asks for.
        drop: a publisher whose subscriber is slow drops samples, as GNU Radio's, and counts them;
            otherwise it waits.
        wait: a publisher waits for a first subscriber.
        timeout_s: silence after which the flow ends; None for never.
        linger_s: how long a closing sink tries to pass on what waits.
    """

    pattern: str
    endpoint: str
    bind: bool
    tags: bool = False
    eos: bool = True
    key: bytes = b""
    hwm: int = 64
    chunk: int = 8192
    drop: bool = False
    wait: bool = True
    timeout_s: float | None = None
    linger_s: float = 30.0

    @property
    def is_sink(self) -> bool:
        """Whether samples go out here."""
        return self.pattern in SINK_PATTERNS


def parse_address(uri: str) -> ZmqAddress:
    """The address that a URI describes.

    Raises:
        EndpointError: not such an address; the message says what is wrong.
    """
    try:
        parts = urlsplit(uri)
        port = parts.port
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise EndpointError(f"{uri}: {error}") from error
    pattern = parts.scheme.removeprefix(SCHEME)
    if pattern == parts.scheme or pattern not in SINK_PATTERNS + SOURCE_PATTERNS:
        known = ", ".join(SCHEME + name for name in SINK_PATTERNS + SOURCE_PATTERNS)
        raise EndpointError(f"{uri}: the scheme is none of {known}")
    if parts.hostname and port is not None and parts.path in ("", "/"):
        host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
        endpoint = f"tcp://{host}:{port}"
    elif not parts.netloc and parts.path not in ("", "/"):
        endpoint = f"ipc://{parts.path}"
    else:
        raise EndpointError(f"{uri}: give {SCHEME}{pattern}://HOST:PORT or :///PATH")
    options: dict[str, Any] = {"bind": pattern in SINK_PATTERNS}
    for name, text in query:
        if name not in _OPTIONS:
            raise EndpointError(f"{uri}: no option {name!r}; there are {', '.join(_OPTIONS)}")
        field, convert = _OPTIONS[name]
        try:
            options[field] = convert(text)
        except ValueError as error:
            raise EndpointError(f"{uri}: {name}={text}: {error}") from error
    address = ZmqAddress(pattern, endpoint, **options)
    if address.key and pattern not in ("pub", "sub"):
        raise EndpointError(f"{uri}: only pub and sub have a key")
    return address


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


def _count(largest: int) -> Callable[[str], int]:
    def convert(text: str) -> int:
        number = int(text)
        if not 1 <= number <= largest:
            raise ValueError(f"must be 1 to {largest}")
        return number

    return convert


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 <= number <= 1e6:
        raise ValueError("must be 0 to 1000000 seconds")
    return number


_OPTIONS: Mapping[str, tuple[str, Callable[[str], object]]] = {
    # name in the query: field, and how its text becomes a value
    "bind": ("bind", _switch),
    "tags": ("tags", _switch),
    "eos": ("eos", _switch),
    "key": ("key", str.encode),
    "hwm": ("hwm", _count(10**6)),
    "chunk": ("chunk", _count(_LARGEST_CHUNK)),
    "drop": ("drop", _switch),
    "wait": ("wait", _switch),
    "timeout": ("timeout_s", _seconds),
    "linger": ("linger_s", _seconds),
}
