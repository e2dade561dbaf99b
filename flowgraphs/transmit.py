"""Messages to a sink of samples, with silence between them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from flowgraphs.path import WAVEFORMS
from flowgraphs.stream import ComplexArray, EndpointError, SampleSink, Stop, write_all
from flowgraphs.supervision import GRACE_S, Grace, Pacer
from phy import Transmitter, TransmitterConfig

_LEAST_GAP = 4096  # samples; a synchronizer looks beyond a frame's end
_MESSAGE_IDS = 2**16


@dataclass(frozen=True)
class TransmitConfig:
    """Parameters of a transmission.

    Attributes:
        mcs: modulation-and-coding scheme.
        depth: frames that the interleaver spans.
        waveform: one of :data:`flowgraphs.link.WAVEFORMS`.
        symbol_rate: symbols a second; relates the gap to samples.
        gap_s: silence before, between and after messages, at least 4096 samples.
        repeat: times that all messages are sent; 0 for without end.
    """

    mcs: str = "qpsk-1/2"
    depth: int = 16
    waveform: str = "single-carrier"
    symbol_rate: float = 1e6
    gap_s: float = 0.01
    repeat: int = 1

    def __post_init__(self) -> None:
        if self.waveform not in WAVEFORMS:
            raise ValueError(f"unknown waveform {self.waveform!r}; one of {', '.join(WAVEFORMS)}")
        if not 0 < self.symbol_rate < np.inf:
            raise ValueError(f"the symbol rate must be positive, not {self.symbol_rate:g}")
        if not 0 <= self.gap_s <= 3600:
            raise ValueError(f"a gap lasts 0 to 3600 s, not {self.gap_s:g}")
        if self.repeat < 0:
            raise ValueError(f"messages cannot be sent {self.repeat} times")
        self.make_transmitter()

    def make_transmitter(self) -> Transmitter:
        """The transmitter."""
        waveform = WAVEFORMS[self.waveform]
        return Transmitter(TransmitterConfig(self.mcs, self.depth, waveform=waveform))

    @property
    def sample_rate(self) -> float:
        """Samples a second."""
        return self.symbol_rate * WAVEFORMS[self.waveform].samples_per_symbol

    @property
    def gap(self) -> int:
        """Samples of silence."""
        return max(_LEAST_GAP, round(self.gap_s * self.sample_rate))


@dataclass
class TransmitReport:
    """What was sent so far.

    Attributes:
        messages: messages sent whole.
        frames: frames that the sink took.
        samples: samples that the sink passed on, silence included.
        silence_left: samples of silence that nobody took, since all receivers had left.
        samples_late: samples for which there was no time, in real time.
        complete: everything was sent that should be.
        failure: why the sink took no more, or None.
    """

    messages: int = 0
    frames: int = 0
    samples: int = 0
    silence_left: int = 0
    samples_late: int = 0
    complete: bool = False
    failure: str | None = None


Observer = Callable[[TransmitReport], None]


def transmit(
    messages: Iterable[bytes],
    sink: SampleSink,
    config: TransmitConfig,
    stop: Stop,
    observe: Observer = lambda report: None,
    pacer: Pacer | None = None,
) -> TransmitReport:
    """Sends messages until all are sent as often as configured, or until `stop` says so.

    A stop takes effect behind the frame that is on its way, and the end of the stream is marked
    still, if the sink takes both within :data:`flowgraphs.supervision.GRACE_S`. When all receivers
    have left, frames wait for the next one; silence is left out after that time or the sink's
    timeout, and so is the mark.

    Args:
        messages: taken one by one, while the ones before are on their way.
        sink: where the samples go.
        config: how they are made.
        stop: asked between waits.
        observe: called after every frame.
        pacer: holds the samples back to real time.

    Raises:
        MessageLengthError: a message is too long for the scheme and depth.
    """
    report = TransmitReport()
    give_up = Grace(stop, GRACE_S)
    gone = Grace(lambda: sink.deserted, GRACE_S)
    transmitter = config.make_transmitter()
    silence = np.zeros(config.gap, dtype=np.complex64)

    def lost_interest() -> bool:
        return give_up() or gone()

    def pass_on(samples: ComplexArray, until: Stop) -> int:
        """Returns the number of samples that were not taken."""
        try:
            return samples.size - write_all(sink, samples, until, pacer)
        finally:
            report.samples = sink.status.samples
            report.samples_late = 0 if pacer is None else pacer.late_samples

    def pause() -> None:
        before = sink.status.samples
        try:
            pass_on(silence, lost_interest)
        except EndpointError:
            if not sink.deserted:
                raise
        if sink.deserted:
            report.silence_left += silence.size - (sink.status.samples - before)

    try:
        pause()
        number = -1
        for number, message in enumerate(_in_rounds(messages, config.repeat)):
            if stop():
                break
            sent = 0
            for frame in transmitter.send(message, number % _MESSAGE_IDS):
                if stop():
                    break
                pass_on(frame, give_up)
                report.frames += not give_up()
                observe(report)
            else:
                sent = 1
            if pass_on(transmitter.flush(), lost_interest) == 0 and not give_up():
                report.messages += sent
            pause()
        else:
            report.complete = report.messages == number + 1
        if not sink.deserted:
            sink.finish(lost_interest)
    except EndpointError as error:
        report.complete, report.failure = False, str(error)
    return report


def _in_rounds(messages: Iterable[bytes], rounds: int) -> Iterator[bytes]:
    """All messages, again and again; kept for that after the first round."""
    kept = []
    for message in messages:
        if rounds != 1:
            kept.append(message)
        yield message
    done = 1
    while kept and (done < rounds or rounds == 0):
        yield from kept
        done += 1
