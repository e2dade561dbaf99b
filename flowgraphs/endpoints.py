"""Opens sources and sinks by their URI: the registry that new kinds of ends are entered in.

====================================  ==========================================================
``file:PATH``                         raw complex64, source and sink
``sigmf:PATH``                        recordings, source and sink, see
                                      :mod:`flowgraphs.captures.address`
``zmq+push://``, ``pub``, ``rep``     sinks in GNU Radio's wire format, see
                                      :mod:`flowgraphs.zeromq.address`
``zmq+pull://``, ``sub``, ``req``     sources, the same
``soapy:driver=NAME,...``             a radio, source and sink, see :mod:`flowgraphs.radio.soapy`
``loopback:...,air=SINK or SOURCE``   a radio in software, see :mod:`flowgraphs.radio.loopback`
====================================  ==========================================================

A radio needs to be told its profile, rate, frequency and gains beside its URI.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TypeVar

from flowgraphs.captures.address import open_sigmf_sink, open_sigmf_source
from flowgraphs.radio.loopback import loopback
from flowgraphs.radio.radio import Radio, RadioRequest, receiving, transmitting
from flowgraphs.radio.soapy import SoapyRadio
from flowgraphs.raw_file import FileSink, FileSource
from flowgraphs.stream import EndpointError, SampleSink, SampleSource
from flowgraphs.zeromq.address import parse_address
from flowgraphs.zeromq.sinks import PublishSink, PushSink, ReplySink
from flowgraphs.zeromq.sources import RequestSource, ZmqSource

_End = TypeVar("_End")
RadioMaker = Callable[[str, RadioRequest], Radio]


def _path(uri: str) -> Path:
    name = uri.partition(":")[2]
    if not name:
        raise EndpointError(f"{uri}: give file:PATH")
    return Path(name)


def _soapy(uri: str, request: RadioRequest) -> Radio:
    return SoapyRadio(uri, request.hardware)


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


RADIOS: Mapping[str, tuple[RadioMaker, RadioMaker]] = {
    "soapy": (_soapy, _soapy),
    "loopback": (
        lambda uri, request: loopback(uri, request, None, open_source),
        lambda uri, request: loopback(uri, request, open_sink, None),
    ),
}
"""Makers of radios that receive and of radios that transmit, by the scheme of their URI."""


def is_radio(uri: str) -> bool:
    """Whether a URI names a radio, which needs a request."""
    return uri.partition(":")[0] in RADIOS


def open_source(uri: str, request: RadioRequest | None = None) -> SampleSource:
    """The source that a URI names.

    Args:
        uri: its URI.
        request: what a radio is opened with.

    Raises:
        EndpointError: no such kind of source, a malformed URI, an address that cannot be used, or a
            radio without a request.
        LimitError: more than the radio's profile allows.
        OSError: a file that cannot be read.
    """
    if is_radio(uri):
        request = _required(uri, request)
        return receiving(RADIOS[uri.partition(":")[0]][0](uri, request), request)
    return _make(SOURCES, "source", uri)


def open_sink(uri: str, request: RadioRequest | None = None) -> SampleSink:
    """The sink that a URI names; see :func:`open_source`."""
    if is_radio(uri):
        request = _required(uri, request)
        return transmitting(RADIOS[uri.partition(":")[0]][1](uri, request), request)
    return _make(SINKS, "sink", uri)


def _required(uri: str, request: RadioRequest | None) -> RadioRequest:
    if request is None:
        raise EndpointError(f"{uri}: a radio needs a profile, a rate and a frequency")
    return request


def _make(makers: Mapping[str, Callable[[str], _End]], what: str, uri: str) -> _End:
    maker = makers.get(uri.partition(":")[0])
    if maker is None:
        known = ", ".join(f"{scheme}:" for scheme in [*makers, *RADIOS])
        raise EndpointError(f"{uri}: not a {what}; there are {known}")
    return maker(uri)
