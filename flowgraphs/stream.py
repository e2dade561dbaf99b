"""Where samples come from and where they go: one interface for files, ZeroMQ and radios.

A source gives samples as they arrive, a sink takes as many as it can; both return within the time
that they are given, so that a flow can stop at once when it is asked to. What is lost on the way is
counted in :class:`StreamStatus`.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Self

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from flowgraphs.supervision import Pacer

ComplexArray = npt.NDArray[np.complex64]
Stop = Callable[[], bool]
"""Asked between two short waits; true ends the flow."""

SAMPLE_BYTES = 8  # complex64
_WAIT_S = 0.1  # the longest wait in a source or a sink before a flow looks up


class EndpointError(Exception):
    """A source or sink cannot be opened, or took nothing for too long; the message says which."""


@dataclass
class StreamStatus:
    """Running totals of an end; nothing is lost without being counted as far as this end sees it.

    Attributes:
        samples: samples that went through.
        messages: messages they came or went in.
        malformed: messages refused, with all that was in them.
        last_error: why the last of them was.
        foreign: messages with another topic key.
        empty: messages without a sample, which mean nothing.
        requests: requests sent, or answered.
        carried: messages that ended inside a sample, whose end was taken from the next one.
        bytes_discarded: bytes of samples whose other part never came.
        gaps: jumps forward in the item numbers of the tag headers.
        samples_missing: samples between, lost before they arrived.
        restarts: jumps backward, where the sender began anew.
        samples_dropped: samples that a full sink dropped.
        samples_clipped: samples beyond the full scale of a recording, written as full scale.
        samples_unheard: samples published while nobody had subscribed.
        connections: peers that connected, the same ones again included; times a radio was opened.
        disconnections: of them gone.
        overflows: times a radio had to drop what it received, as nobody took it.
        underflows: times a radio had nothing to send.
        clipped_samples: samples that reached or exceeded full scale of a radio.
        stream_errors: failures that a radio reported; what they cost is not known.
    """

    samples: int = 0
    messages: int = 0
    malformed: int = 0
    last_error: str | None = None
    foreign: int = 0
    empty: int = 0
    requests: int = 0
    carried: int = 0
    bytes_discarded: int = 0
    gaps: int = 0
    samples_missing: int = 0
    restarts: int = 0
    samples_dropped: int = 0
    samples_clipped: int = 0
    samples_unheard: int = 0
    connections: int = 0
    disconnections: int = 0
    overflows: int = 0
    underflows: int = 0
    clipped_samples: int = 0
    stream_errors: int = 0

    @property
    def lossless(self) -> bool:
        """Nothing is known to be lost."""
        return not (
            self.malformed
            or self.bytes_discarded
            or self.samples_missing
            or self.samples_dropped
            or self.samples_unheard
            or self.overflows
            or self.underflows
            or self.stream_errors
        )


class Endpoint(ABC):
    """What sources and sinks have in common.

    Attributes:
        address: where it is, in the form of the URI that opens it; with the port that was found.
        timeout_s: silence after which a flow ends; None for never.
        status: running totals.
    """

    def __init__(self, address: str, timeout_s: float | None = None) -> None:
        self.address = address
        self.timeout_s = timeout_s
        self.status = StreamStatus()

    @abstractmethod
    def close(self) -> None:
        """Release what the endpoint holds; a sink first passes on what it has taken."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class SampleSource(Endpoint):
    """Gives a stream of samples."""

    backlog = 0
    """Messages that may have arrived without having been read, at most."""

    @abstractmethod
    def read(self, timeout_s: float) -> ComplexArray | None:
        """The next samples.

        Args:
            timeout_s: how long to wait for the first of them.

        Returns:
            (n,) complex64, read-only, n = 0 if none came in time; None at the end of the stream.
        """


class SampleSink(Endpoint):
    """Takes a stream of samples."""

    @abstractmethod
    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """Take samples from the front of an array.

        Args:
            samples: (n,) complex64, n > 0.
            timeout_s: how long to wait until some can be taken.

        Returns:
            The number taken; 0 if none could be in time.
        """

    @property
    def deserted(self) -> bool:
        """All who took samples have left, as far as this end hears of it."""
        return False

    def finish(self, stop: Stop) -> None:
        """Mark the end of the stream, where the format can."""
        del stop


def samples_of(source: SampleSource, stop: Stop) -> Iterator[ComplexArray]:
    """All samples of a source, as they come.

    Ends with the stream, after the source's timeout without a sample, or when `stop` says so; then
    what had already arrived is still given.
    """
    last = time.monotonic()
    while not stop():
        samples = source.read(_WAIT_S)
        if samples is None:
            return
        if samples.size:
            yield samples
            last = time.monotonic()  # what was done with the samples is no silence
        elif source.timeout_s is not None and time.monotonic() - last >= source.timeout_s:
            return
    for _ in range(source.backlog):
        samples = source.read(0)
        if samples is None or not samples.size:
            return
        yield samples


def write_all(
    sink: SampleSink, samples: ComplexArray, stop: Stop, pacer: Pacer | None = None
) -> int:
    """Pass samples on, waiting as long as it takes.

    Args:
        sink: takes them.
        samples: (n,) complex64.
        stop: asked between waits.
        pacer: holds them back to real time.

    Returns:
        The number that the sink took: all, unless `stop` said so.

    Raises:
        EndpointError: the sink took none for its timeout.
    """
    done, last = 0, time.monotonic()
    ready = 0 if pacer is not None else samples.size
    while done < samples.size and not stop():
        if pacer is not None and done == ready:
            ready = min(done + pacer.portion, samples.size)
            pacer.pace(ready - done)
            last = time.monotonic()  # the sink was not asked
        taken = sink.write(samples[done:ready], _WAIT_S)
        done += taken
        if taken:
            last = time.monotonic()
        elif sink.timeout_s is not None and time.monotonic() - last >= sink.timeout_s:
            raise EndpointError(f"{sink.address}: took no samples for {sink.timeout_s:g} s")
    return done
