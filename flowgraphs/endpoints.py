"""Opens sources and sinks by their URI: the registry that new kinds of ends are entered in.

====================================  ==========================================================
``file:PATH``                         raw complex64, source and sink
``sigmf:PATH``                        recordings, source and sink, see
                                      :mod:`flowgraphs.captures.address`
``zmq+push://``, ``pub``, ``rep``     sinks in GNU Radio's wire format, see
                                      :mod:`flowgraphs.zeromq.address`
``zmq+pull://``, ``sub``, ``req``     sources, the same
====================================  ==========================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from flowgraphs.captures.address import open_sigmf_sink, open_sigmf_source
from flowgraphs.raw_file import FileSink, FileSource
from flowgraphs.stream import EndpointError, SampleSink, SampleSource
from flowgraphs.zeromq.address import parse_address
from flowgraphs.zeromq.sinks import PublishSink, PushSink, ReplySink
from flowgraphs.zeromq.sources import RequestSource, ZmqSource

_End = TypeVar("_End")


def _path(uri: str) -> Path:
    name = uri.partition(":")[2]
    if not name:
        raise EndpointError(f"{uri}: give file:PATH")
    return Path(name)


SOURCES: Mapping[str, Callable[[str], SampleSource]] = {
    "file": lambda uri: FileSource(_path(uri)),
    "sigmf": open_sigmf_source,
    "zmq+pull": lambda uri: ZmqSource(parse_address(uri)),
    "zmq+sub": lambda uri: ZmqSource(parse_address(uri)),
    "zmq+req": lambda uri: RequestSource(parse_address(uri)),
}
"""Makers of sources by the scheme of their URI."""

SINKS: Mapping[str, Callable[[str], SampleSink]] = {
    "file": lambda uri: FileSink(_path(uri)),
    "sigmf": open_sigmf_sink,
    "zmq+push": lambda uri: PushSink(parse_address(uri)),
    "zmq+pub": lambda uri: PublishSink(parse_address(uri)),
    "zmq+rep": lambda uri: ReplySink(parse_address(uri)),
}
"""Makers of sinks by the scheme of their URI."""


def open_source(uri: str) -> SampleSource:
    """The source that a URI names.

    Raises:
        EndpointError: no such kind of source, a malformed URI, or an address that cannot be used.
        OSError: a file that cannot be read.
    """
    return _make(SOURCES, "source", uri)


def open_sink(uri: str) -> SampleSink:
    """The sink that a URI names.

    Raises:
        EndpointError: no such kind of sink, a malformed URI, or an address that cannot be used.
        OSError: a file that cannot be written.
    """
    return _make(SINKS, "sink", uri)


def _make(makers: Mapping[str, Callable[[str], _End]], what: str, uri: str) -> _End:
    maker = makers.get(uri.partition(":")[0])
    if maker is None:
        raise EndpointError(f"{uri}: not a {what}; there are {', '.join(f'{k}:' for k in makers)}")
    return maker(uri)
