"""``sscc bench channels``: frames sent and received over named channels.

Every frame is a message of its own, sent alone into a stretch of noise, and passes draws of its own
of all that is random: delay, carrier and clock offset, phases, fading. A frame counts as received
if its message came back exactly; what was lost is counted by the stage that lost it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from flowgraphs.link import WAVEFORMS
from phy import (
    FrameReport,
    MessageReceived,
    Propagation,
    RadioPath,
    Receiver,
    ReceiverConfig,
    ReceiverImpairments,
    Transmitter,
    TransmitterConfig,
    TransmitterImpairments,
)
from phy.impairments import (
    Adc,
    AdditiveNoise,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    Delay,
    Gain,
    IqImbalance,
    PhaseNoise,
    PowerAmplifier,
)
from phy.tapped_delay_line import TappedDelayLine
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

MCS = "qpsk-1/2"
MESSAGE_BYTES = 900  # nearly the longest frame
SYMBOL_RATE_HZ = 1e6
CARRIER_REACH_RAD = 0.6
CLOCK_REACH_PPM = 40.0
_LEAD = (300, 1300)  # samples of noise before a frame
_TAIL = 1500  # and after it
_PHASE_NOISE = PhaseNoise.leeson(-120.0, corner_hz=3e3, flicker_hz=100.0, lowest_offset_hz=10.0)

Draw = Callable[[np.random.Generator, float], RadioPath]
"""A radio path without noise: of its random draws and the sample rate."""


@dataclass(frozen=True)
class Case:
    """A named channel.

    Attributes:
        name: of the channel.
        waveform: of :data:`flowgraphs.link.WAVEFORMS`.
        es_n0_db: mean SNR at which it is measured, dB.
        draw: the path of a frame.
    """

    name: str
    waveform: str
    es_n0_db: float
    draw: Draw


def _ideal(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath()


def _offsets(rng: np.random.Generator, rate: float) -> RadioPath:
    carrier = rng.uniform(-CARRIER_REACH_RAD, CARRIER_REACH_RAD) / (2 * np.pi) * rate
    clock = rng.uniform(-CLOCK_REACH_PPM, CLOCK_REACH_PPM)
    return RadioPath(
        propagation=Propagation(delay=Delay(rng.uniform(0, 1))),
        receiver=ReceiverImpairments(carrier=CarrierOffset(carrier), clock=ClockOffset(clock)),
    )


def _cheap_radio(rng: np.random.Generator, rate: float) -> RadioPath:
    """Offsets, 30 dB of level range, DC at -20 dBc, IQ imbalance of 1 dB and 5 degrees, 8 bits."""
    gain_db = rng.uniform(-27, 3)
    offsets = _offsets(rng, rate)
    assert offsets.propagation.delay is not None
    return RadioPath(
        propagation=Propagation(gain=Gain(gain_db), delay=offsets.propagation.delay),
        receiver=ReceiverImpairments(
            carrier=offsets.receiver.carrier,
            clock=offsets.receiver.clock,
            iq=IqImbalance(1.0, 5.0),
            dc=DcOffset(gain_db - 20, rng.uniform(0, 360)),
            adc=Adc(8),
        ),
    )


def _oscillator(rng: np.random.Generator, rate: float) -> RadioPath:
    """Phase noise, and an amplifier 6 dB below its saturation."""
    return RadioPath(
        transmitter=TransmitterImpairments(phase_noise=_PHASE_NOISE, amplifier=PowerAmplifier(6.0)),
        receiver=ReceiverImpairments(phase_noise=_PHASE_NOISE),
    )


def _fading(profile: str, delay_spread_s: float, doppler_hz: float) -> Draw:
    def draw(rng: np.random.Generator, rate: float) -> RadioPath:
        offsets = _offsets(rng, rate)
        fading = TappedDelayLine(profile, delay_spread_s, doppler_hz)
        return RadioPath(
            propagation=Propagation(delay=offsets.propagation.delay, fading=fading),
            receiver=offsets.receiver,
        )

    return draw


def cases() -> list[Case]:
    """All rows of the table."""
    rows = []
    for waveform, awgn_db in (("single-carrier", 2.0), ("ofdm", 3.0)):
        rows += [
            Case("AWGN", waveform, awgn_db, _ideal),
            Case("carrier +-0.6 rad, clock +-40 ppm, delay", waveform, awgn_db + 0.2, _offsets),
            Case("cheap radio", waveform, awgn_db + 0.5, _cheap_radio),
            Case("phase noise, amplifier", waveform, awgn_db + 0.5, _oscillator),
            Case("flat Rayleigh, 50 Hz", waveform, 25.0, _fading("flat", 0.0, 50.0)),
            Case("flat Rayleigh, 200 Hz", waveform, 25.0, _fading("flat", 0.0, 200.0)),
        ]
    for profile, spread in (("TDL-A", 100e-9), ("TDL-C", 300e-9)):
        name = f"{profile}, {1e9 * spread:.0f} ns, 50 Hz"
        rows.append(Case(name, "single-carrier", 20.0, _fading(profile, spread, 50.0)))
    for doppler in (50.0, 200.0):
        for profile, spread in (("TDL-A", 100e-9), ("TDL-B", 100e-9), ("TDL-C", 300e-9)):
            name = f"{profile}, {1e9 * spread:.0f} ns, {doppler:.0f} Hz"
            rows.append(Case(name, "ofdm", 20.0, _fading(profile, spread, doppler)))
    return rows


@dataclass(frozen=True)
class Outcome:
    """A row of the table.

    Attributes:
        channel, waveform, es_n0_db: as of :class:`Case`.
        mcs: modulation-and-coding scheme.
        sent: frames sent.
        received: of them exact.
        undetected: of them never seen.
        header_lost: seen, but with an unreadable header.
        payload_lost: with a header, but not exact.
        false_alarms: frames seen where none were, beyond those sent.
    """

    channel: str
    waveform: str
    es_n0_db: float
    mcs: str
    sent: int
    received: int
    undetected: int
    header_lost: int
    payload_lost: int
    false_alarms: int


def measure_case(case: Case, frames: int, seed: int) -> Outcome:
    """Sends frames over a channel; the same seed gives the same frames and channels."""
    waveform = WAVEFORMS[case.waveform]
    rate = SYMBOL_RATE_HZ * waveform.samples_per_symbol
    transmitter = Transmitter(TransmitterConfig(MCS, depth=1, waveform=waveform))
    noise = AdditiveNoise.from_es_n0(case.es_n0_db, waveform.samples_per_symbol)
    received = undetected = header_lost = false_alarms = 0
    for number in range(frames):
        rng = np.random.default_rng([seed, number])
        message = rng.bytes(MESSAGE_BYTES)
        lead, tail = np.zeros(rng.integers(*_LEAD)), np.zeros(_TAIL)
        sent = np.concatenate([lead, *transmitter.send(message), transmitter.flush(), tail])
        path = case.draw(rng, rate)
        gain = path.propagation.gain
        scale = 1.0 if gain is None else 10 ** (gain.gain_db / 10)
        path = _with_noise(path, AdditiveNoise(scale * noise.noise_density))
        chain = path.block(rate, seed=int(rng.integers(1 << 31)))
        receiver = Receiver(ReceiverConfig(waveform=waveform, symbol_rate_hz=SYMBOL_RATE_HZ))
        events = receiver.process(np.concatenate([chain.process(sent), chain.flush()]))
        events += receiver.flush()
        reports = [event for event in events if isinstance(event, FrameReport)]
        exact = any(isinstance(e, MessageReceived) and e.data == message for e in events)
        received += exact
        undetected += not reports
        header_lost += bool(reports) and not any(report.header_ok for report in reports)
        false_alarms += max(len(reports) - 1, 0)
    lost = frames - received - undetected - header_lost
    return Outcome(
        case.name,
        case.waveform,
        case.es_n0_db,
        MCS,
        frames,
        received,
        undetected,
        header_lost,
        lost,
        false_alarms,
    )


def _with_noise(path: RadioPath, noise: AdditiveNoise) -> RadioPath:
    way = path.propagation
    noisy = Propagation(way.gain, way.delay, way.fading, way.interferers, noise)
    return RadioPath(path.transmitter, noisy, path.receiver)


def measure(chosen: Sequence[Case], frames: int, seed: int, progress: Progress) -> list[Outcome]:
    """All rows.

    Args:
        chosen: channels.
        frames: sent over each.
        seed: of messages and channels.
        progress: called with the fraction done.
    """
    rows = []
    for index, case in enumerate(chosen):
        rows.append(measure_case(case, frames, seed))
        progress((index + 1) / len(chosen))
    return rows


def table(rows: Sequence[Outcome]) -> Table:
    """The outcomes for people."""
    from rich.table import Table

    grid = Table("channel", "waveform")
    for heading in ("Es/N0", "sent", "received", "not seen", "header", "payload", "false"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(
            row.channel,
            row.waveform,
            f"{row.es_n0_db:g} dB",
            *(str(n) for n in (row.sent, row.received, row.undetected)),
            *(str(n) for n in (row.header_lost, row.payload_lost, row.false_alarms)),
        )
    return grid


def write_results(rows: Sequence[Outcome], folder: Path) -> None:
    """Writes channels.csv and channels.md, the table for the docs, into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "channels.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Outcome)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    lines = ["| channel | waveform | Es/N0 | frames sent | received |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {row.channel} | {row.waveform} | {row.es_n0_db:g} dB | {row.sent} | {row.received} |"
        for row in rows
    ]
    (folder / "channels.md").write_text("\n".join(lines) + "\n")
