"""``sscc bench channels``: frames sent and received over named channels.

Every frame is a message of its own, sent alone into a stretch of noise, and passes draws of its own
of all that is random: delay, carrier and clock offset, phases, fading. A frame counts as received
if its message came back exactly; what was lost is counted by the stage that lost it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.csv_file import write_csv
from benchmarks.genie import genie_of
from benchmarks.parallel import Tasks
from benchmarks.simulation import (
    MCS,
    SYMBOL_RATE_HZ,
    Draw,
    Transmission,
    longest_message,
    passed,
    true_synchronization,
    with_noise,
)
from flowgraphs.link import WAVEFORMS
from phy import (
    FrameReport,
    MessageReceived,
    Propagation,
    RadioPath,
    Receiver,
    ReceiverConfig,
    ReceiverImpairments,
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
from phy.waveform import ComplexArray
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

CARRIER_REACH_RAD = 0.6
CLOCK_REACH_PPM = 40.0
LOWEST_LEVEL_DB, HIGHEST_LEVEL_DB = -24.0, 6.0
_LEAD = (300, 1300)  # samples of noise before a frame
_TAIL = 1500  # and after it
_PHASE_NOISE = PhaseNoise.leeson(-120.0, corner_hz=3e3, flicker_hz=100.0, lowest_offset_hz=10.0)


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


def ideal(rng: np.random.Generator, rate: float) -> RadioPath:
    """Nothing but noise."""
    return RadioPath()


def any_carrier(rng: np.random.Generator, rate: float) -> CarrierOffset:
    """Offsets of two oscillators of 20 ppm at 2.4 GHz and 1 Msample/s: up to +-0.6 rad/sample."""
    return CarrierOffset(rng.uniform(-CARRIER_REACH_RAD, CARRIER_REACH_RAD) / (2 * np.pi) * rate)


def any_clock(rng: np.random.Generator) -> ClockOffset:
    """Offsets of up to +-40 ppm."""
    return ClockOffset(rng.uniform(-CLOCK_REACH_PPM, CLOCK_REACH_PPM))


def any_delay(rng: np.random.Generator) -> Delay:
    """A part of a sample."""
    return Delay(rng.uniform(0, 1))


def any_level(rng: np.random.Generator) -> Gain:
    """30 dB of level range."""
    return Gain(rng.uniform(LOWEST_LEVEL_DB, HIGHEST_LEVEL_DB))


def any_dc(rng: np.random.Generator, gain: Gain | None = None) -> DcOffset:
    """20 dB below the signal."""
    return DcOffset((0.0 if gain is None else gain.gain_db) - 20, rng.uniform(0, 360))


def unbalanced() -> IqImbalance:
    """1 dB and 5 degrees."""
    return IqImbalance(1.0, 5.0)


def offsets(rng: np.random.Generator, rate: float) -> RadioPath:
    """Carrier, clock and delay together."""
    return RadioPath(
        propagation=Propagation(delay=any_delay(rng)),
        receiver=ReceiverImpairments(carrier=any_carrier(rng, rate), clock=any_clock(rng)),
    )


def cheap_radio(rng: np.random.Generator, rate: float) -> RadioPath:
    """Offsets, 30 dB of level range, DC at -20 dBc, IQ imbalance of 1 dB and 5 degrees, 8 bits."""
    gain = any_level(rng)
    path = offsets(rng, rate)
    return RadioPath(
        propagation=Propagation(gain=gain, delay=path.propagation.delay),
        receiver=ReceiverImpairments(
            carrier=path.receiver.carrier,
            clock=path.receiver.clock,
            iq=unbalanced(),
            dc=any_dc(rng, gain),
            adc=Adc(8),
        ),
    )


def _oscillator(rng: np.random.Generator, rate: float) -> RadioPath:
    """Phase noise, and an amplifier 6 dB below its saturation."""
    return RadioPath(
        transmitter=TransmitterImpairments(phase_noise=_PHASE_NOISE, amplifier=PowerAmplifier(6.0)),
        receiver=ReceiverImpairments(phase_noise=_PHASE_NOISE),
    )


def _fading(fading: TappedDelayLine, rng: np.random.Generator, rate: float) -> RadioPath:
    path = offsets(rng, rate)
    return RadioPath(
        propagation=Propagation(delay=path.propagation.delay, fading=fading),
        receiver=path.receiver,
    )


def _faded(profile: str, delay_spread_s: float, doppler_hz: float) -> Draw:
    return partial(_fading, TappedDelayLine(profile, delay_spread_s, doppler_hz))


def cases() -> list[Case]:
    """All rows of the table."""
    rows = []
    for waveform, awgn_db in (("single-carrier", 2.0), ("ofdm", 3.0)):
        rows += [
            Case("AWGN", waveform, awgn_db, ideal),
            Case("carrier +-0.6 rad, clock +-40 ppm, delay", waveform, awgn_db + 0.2, offsets),
            Case("cheap radio", waveform, awgn_db + 0.5, cheap_radio),
            Case("phase noise, amplifier", waveform, awgn_db + 0.5, _oscillator),
            Case("flat Rayleigh, 50 Hz", waveform, 25.0, _faded("flat", 0.0, 50.0)),
            Case("flat Rayleigh, 200 Hz", waveform, 25.0, _faded("flat", 0.0, 200.0)),
        ]
    for profile, spread in (("TDL-A", 100e-9), ("TDL-C", 300e-9)):
        name = f"{profile}, {1e9 * spread:.0f} ns, 50 Hz"
        rows.append(Case(name, "single-carrier", 20.0, _faded(profile, spread, 50.0)))
    for doppler in (50.0, 200.0):
        for profile, spread in (("TDL-A", 100e-9), ("TDL-B", 100e-9), ("TDL-C", 300e-9)):
            name = f"{profile}, {1e9 * spread:.0f} ns, {doppler:.0f} Hz"
            rows.append(Case(name, "ofdm", 20.0, _faded(profile, spread, doppler)))
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


@dataclass(frozen=True)
class Fate:
    """What became of one frame.

    Attributes:
        lost_in: the stage that lost it, of :data:`STAGES`; None if it came back exactly.
        false_alarms: frames seen beside it.
        perfect: whether its payload decodes where synchronization is perfect; None if not tried.
    """

    lost_in: str | None
    false_alarms: int
    perfect: bool | None = None


STAGES = ("detection", "header", "payload")


def send(case: Case, seed: int, number: int) -> tuple[Transmission, RadioPath, ComplexArray]:
    """One frame of a case.

    Args:
        case: the channel.
        seed: of all frames.
        number: of this one; every frame has draws of its own.

    Returns:
        What was sent, the path with its noise, and (n,) complex64 received samples.
    """
    waveform = WAVEFORMS[case.waveform]
    rng = np.random.default_rng([seed, number])
    message = rng.bytes(longest_message(frames=1))
    sent = Transmission.of(waveform, message, lead=int(rng.integers(*_LEAD)), tail=_TAIL)
    path = case.draw(rng, sent.sample_rate_hz)
    gain = path.propagation.gain
    level = 1.0 if gain is None else 10 ** (gain.gain_db / 10)
    noise = AdditiveNoise.from_es_n0(case.es_n0_db, waveform.samples_per_symbol, level)
    path = with_noise(path, noise)
    chain = path.block(sent.sample_rate_hz, seed=int(rng.integers(1 << 31)))
    return sent, path, passed(chain, sent.bursts[0].samples)


def fate(case: Case, seed: int, perfect: bool, number: int) -> Fate:
    """Sends a frame and receives it.

    Args:
        case: the channel.
        seed: of all frames.
        perfect: try perfect synchronization as well.
        number: of this frame.
    """
    sent, path, samples = send(case, seed, number)
    receiver = Receiver(ReceiverConfig(waveform=sent.waveform, symbol_rate_hz=SYMBOL_RATE_HZ))
    events = receiver.process(samples) + receiver.flush()
    reports = [event for event in events if isinstance(event, FrameReport)]
    lost_in: str | None = "payload"
    if any(isinstance(e, MessageReceived) and e.data == sent.message for e in events):
        lost_in = None
    elif not reports:
        lost_in = "detection"
    elif not any(report.header_ok for report in reports):
        lost_in = "header"
    false_alarms = max(len(reports) - 1, 0)
    if not perfect:
        return Fate(lost_in, false_alarms)
    truth = true_synchronization(path, sent.bursts[0].starts[0], sent.sample_rate_hz)
    reception = genie_of(sent.waveform).payload(samples, truth, sent.header(0))
    return Fate(lost_in, false_alarms, sent.decodes({0: reception}))


def totals(fates: Sequence[Fate]) -> dict[str, int]:
    """The counts of an :class:`Outcome`."""
    lost = Counter(fate.lost_in for fate in fates)
    return {
        "sent": len(fates),
        "received": lost[None],
        "undetected": lost["detection"],
        "header_lost": lost["header"],
        "payload_lost": lost["payload"],
        "false_alarms": sum(fate.false_alarms for fate in fates),
    }


def measure(
    chosen: Sequence[Case], frames: int, seed: int, tasks: Tasks, progress: Progress
) -> list[Outcome]:
    """All rows; the same seed gives the same frames and channels.

    Args:
        chosen: channels.
        frames: sent over each.
        seed: of messages and channels.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    rows = []
    for index, case in enumerate(chosen):
        share = part_of(progress, index / len(chosen), 1 / len(chosen))
        fates = tasks.map(partial(fate, case, seed, False), frames, share)
        rows.append(Outcome(case.name, case.waveform, case.es_n0_db, MCS, **totals(fates)))
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
    write_csv(rows, folder / "channels.csv")
    lines = ["| channel | waveform | Es/N0 | frames sent | received |", "|---|---|---:|---:|---:|"]
    lines += [
        f"| {row.channel} | {row.waveform} | {row.es_n0_db:g} dB | {row.sent} | {row.received} |"
        for row in rows
    ]
    (folder / "channels.md").write_text("\n".join(lines) + "\n")
