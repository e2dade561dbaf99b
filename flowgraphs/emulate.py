"""A channel between a source and a sink: what :mod:`phy` simulates, on samples that pass by."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from flowgraphs.link import WAVEFORMS
from flowgraphs.stream import (
    ComplexArray,
    EndpointError,
    SampleSink,
    SampleSource,
    Stop,
    samples_of,
    write_all,
)
from flowgraphs.supervision import GRACE_S, Grace, Pacer
from phy import (
    Chain,
    Channel,
    Propagation,
    RadioPath,
    ReceiverImpairments,
    TappedDelayLine,
    rayleigh_block,
)
from phy.impairments import AdditiveNoise, CarrierOffset, ClockOffset, SampleBlock
from phy.random_process import child_seed

CHANNELS = ("awgn", "rayleigh", "rayleigh-block", "tdl-a", "tdl-b", "tdl-c", "tdl-d", "tdl-e")
"""Channels by name; fading independent from symbol to symbol needs a receiver that knows it."""


@dataclass(frozen=True)
class EmulatorConfig:
    """Parameters of an emulated channel.

    Attributes:
        channel: one of :data:`CHANNELS`.
        es_n0_db: mean Es/N0 at the receiver, dB, for a signal of unit mean power; ``inf`` for no
            noise.
        seed: seed of every random draw.
        sample_rate: samples a second.
        waveform: one of :data:`flowgraphs.link.WAVEFORMS`, of which only the samples per symbol
            matter here: a symbol's energy is spread over them.
        doppler_hz: maximum Doppler shift of "rayleigh" and the tapped delay lines.
        delay_spread_s: of the tapped delay lines.
        block_length: symbols of equal gain in "rayleigh-block".
        cfo_hz: carrier offset at the receiver.
        clock_ppm: offset of the receiver's sampling clock.
    """

    channel: str = "awgn"
    es_n0_db: float = 15.0
    seed: int = 1
    sample_rate: float = 2e6
    waveform: str = "single-carrier"
    doppler_hz: float = 50.0
    delay_spread_s: float = 100e-9
    block_length: int = 1000
    cfo_hz: float = 0.0
    clock_ppm: float = 0.0

    def __post_init__(self) -> None:
        if self.channel not in CHANNELS:
            raise ValueError(f"unknown channel {self.channel!r}; one of {', '.join(CHANNELS)}")
        if self.waveform not in WAVEFORMS:
            raise ValueError(f"unknown waveform {self.waveform!r}; one of {', '.join(WAVEFORMS)}")
        if not 0 < self.sample_rate < np.inf:
            raise ValueError(f"the sample rate must be positive, not {self.sample_rate:g}")
        self.block()

    @property
    def path(self) -> RadioPath:
        """Fading but that of "rayleigh-block", noise, and the receiver's oscillator."""
        fading = None
        if self.channel == "rayleigh" or self.channel.startswith("tdl"):
            profile = "flat" if self.channel == "rayleigh" else self.channel.upper()
            spread = 0.0 if profile == "flat" else self.delay_spread_s
            fading = TappedDelayLine(
                profile=profile, delay_spread_s=spread, doppler_hz=self.doppler_hz
            )
        noise = AdditiveNoise.from_es_n0(self.es_n0_db, WAVEFORMS[self.waveform].samples_per_symbol)
        return RadioPath(
            propagation=Propagation(fading=fading, noise=noise),
            receiver=ReceiverImpairments(
                carrier=CarrierOffset(self.cfo_hz) if self.cfo_hz else None,
                clock=ClockOffset(self.clock_ppm) if self.clock_ppm else None,
            ),
        )

    def block(self) -> SampleBlock:
        """The channel as a stream object in its initial state."""
        path = self.path.block(self.sample_rate, self.seed)
        if self.channel != "rayleigh-block":
            return path
        length = self.block_length * WAVEFORMS[self.waveform].samples_per_symbol
        return Chain([_Fading(rayleigh_block(np.inf, length, child_seed(self.seed, 0))), path])


class _Fading(SampleBlock):
    """A flat channel as a stage of a chain."""

    def __init__(self, channel: Channel) -> None:
        self._channel = channel

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return self._channel.process(samples).samples


@dataclass
class EmulatorReport:
    """What passed so far.

    Attributes:
        samples_in: samples that came.
        samples_out: samples that the sink passed on.
        late_s: seconds by which real time was missed.
        complete: all that came went out.
        failure: why the sink took no more, or None.
    """

    samples_in: int = 0
    samples_out: int = 0
    late_s: float = 0.0
    complete: bool = True
    failure: str | None = None


Observer = Callable[[EmulatorReport], None]


def emulate(
    source: SampleSource,
    sink: SampleSink,
    block: SampleBlock,
    stop: Stop,
    pacer: Pacer | None = None,
    observe: Observer = lambda report: None,
) -> EmulatorReport:
    """Passes samples through a channel until the source ends or `stop` says so.

    After a stop what had arrived is passed on still, if the sink takes it within
    :data:`flowgraphs.supervision.GRACE_S`.

    Args:
        source: where samples come from.
        sink: where they go.
        block: the channel, or any other stage or chain of stages.
        stop: asked between waits.
        pacer: holds the flow back to real time.
        observe: called after every portion.
    """
    report = EmulatorReport()
    give_up = Grace(stop, GRACE_S)

    def pass_on(samples: ComplexArray) -> None:
        if pacer is not None and samples.size and not stop():
            pacer.pace(samples.size)
            report.late_s = pacer.late_s
        try:
            report.complete &= write_all(sink, samples, give_up) == samples.size
        finally:
            report.samples_out = sink.status.samples

    try:
        for samples in samples_of(source, stop):
            report.samples_in += samples.size
            pass_on(block.process(samples))
            observe(report)
        pass_on(block.flush())
        sink.finish(give_up)
    except EndpointError as error:
        report.complete, report.failure = False, str(error)
    return report
