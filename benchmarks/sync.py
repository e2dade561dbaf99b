"""``sscc bench sync``: frames lost by synchronization, frames back to back, and false alarms.

**Losses.** Single frames of the longest kind (QPSK 1/2, 8192 data symbols), at the Es/N0 where one
payload in a hundred is lost with *perfect synchronization*: the demodulator is told the frame's
true start, carrier and clock offset, and estimates gain and noise from the pilots as always
(:mod:`benchmarks.genie`). That Es/N0 is measured first: for as many frames the least one at which
the payload decodes, of which it is the 99 % quantile. Then each condition alone, and all together.
The same frames are also received with perfect synchronization, which tells what a condition costs
any receiver (an image in the band, quantization noise) from what it costs by synchronization.

**Back to back.** One stream of frames without a gap, at high SNR and with carrier, clock and delay
offset: all must come back.

**False alarms.** Noise without frames; what the preamble detector announces is counted. All
waveforms that are synchronized have the same preamble and detector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.bisection import least_es_n0_db
from benchmarks.channels import (
    CARRIER_REACH_RAD,
    CLOCK_REACH_PPM,
    Case,
    Outcome,
    any_carrier,
    any_clock,
    any_dc,
    any_delay,
    any_level,
    cheap_radio,
    fate,
    ideal,
    offsets,
    send,
    totals,
    unbalanced,
)
from benchmarks.csv_file import write_csv
from benchmarks.genie import genie_of
from benchmarks.ldpc import wilson_interval
from benchmarks.parallel import Tasks
from benchmarks.simulation import (
    MCS,
    SYMBOL_RATE_HZ,
    Draw,
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
    Transmitter,
    TransmitterConfig,
)
from phy.impairments import Adc, AdditiveNoise, DcOffset, ToneInterferer
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

SYNCHRONIZED = ("single-carrier", "ofdm")
"""Waveforms that the receiver synchronizes, of :data:`flowgraphs.link.WAVEFORMS`."""
TARGET = 0.01
BACK_TO_BACK = "back to back"
BACK_TO_BACK_ES_N0_DB = 10.0
_GUESS_DB = 1.0
_STEP_DB = 0.02
_NOISE_RUN = 1 << 21  # samples of noise in a task
_INTERFERENCE_DB = 20.0  # above the noise
_SILENCE = 2048  # samples before and after the frames back to back
_MESSAGE_IDS = 1 << 16


def _carrier(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(receiver=ReceiverImpairments(carrier=any_carrier(rng, rate)))


def _clock(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(receiver=ReceiverImpairments(clock=any_clock(rng)))


def _delay(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(propagation=Propagation(delay=any_delay(rng)))


def _level(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(propagation=Propagation(gain=any_level(rng)))


def _dc(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(receiver=ReceiverImpairments(dc=any_dc(rng)))


def _iq(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(receiver=ReceiverImpairments(iq=unbalanced()))


def _adc(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath(receiver=ReceiverImpairments(adc=Adc(8)))


CONDITIONS: dict[str, Draw] = {
    "none": ideal,
    f"carrier +-{CARRIER_REACH_RAD:g} rad/sample": _carrier,
    f"clock +-{CLOCK_REACH_PPM:g} ppm": _clock,
    "fractional delay": _delay,
    "30 dB of level range": _level,
    "DC at -20 dBc": _dc,
    "IQ imbalance 1 dB, 5 degrees": _iq,
    "8-bit ADC": _adc,
    "all together": cheap_radio,
}
"""What the frames pass, by name."""


@dataclass(frozen=True)
class Loss(Outcome):
    """A row of the table of losses: an :class:`Outcome` of a condition, and rates.

    Attributes:
        loss: share of the frames that were lost.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
        perfect_lost: of the same frames, lost with perfect synchronization; None if not tried.
        perfect_loss: share; None likewise.
        perfect_low: lower end of its 95 % interval.
        perfect_high: upper end.
    """

    loss: float
    low: float
    high: float
    perfect_lost: int | None = None
    perfect_loss: float | None = None
    perfect_low: float | None = None
    perfect_high: float | None = None

    @classmethod
    def of(cls, outcome: Outcome, perfect_lost: int | None = None) -> Loss:
        """Rates of an outcome."""
        sent, lost = outcome.sent, outcome.sent - outcome.received
        row = cls(**asdict(outcome), loss=lost / sent, **_interval("", lost, sent))
        if perfect_lost is None:
            return row
        return replace(
            row,
            perfect_lost=perfect_lost,
            perfect_loss=perfect_lost / sent,
            **_interval("perfect_", perfect_lost, sent),
        )


def _interval(prefix: str, lost: int, sent: int) -> dict[str, Any]:
    low, high = wilson_interval(lost, sent)
    return {f"{prefix}low": low, f"{prefix}high": high}


# --- losses -----------------------------------------------------------------------------------


def operating_point_db(
    waveform: str, frames: int, seed: int, tasks: Tasks, progress: Progress
) -> float:
    """The Es/N0 at which one payload in a hundred is lost with perfect synchronization, dB.

    Args:
        waveform: of :data:`SYNCHRONIZED`.
        frames: on which it is measured, the same that :func:`measure_losses` sends.
        seed: of messages and noise.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    least = tasks.map(partial(_least_es_n0_db, waveform, seed), frames, progress)
    return float(np.quantile(least, 1 - TARGET, method="inverted_cdf"))


def _least_es_n0_db(waveform: str, seed: int, number: int) -> float:
    """Least Es/N0 at which the payload of a frame over AWGN decodes."""
    silent = Case("", waveform, np.inf, ideal)
    sent, path, signal = send(silent, seed, number)
    # The same noise as at any other Es/N0, but for its level.
    noise = send(replace(silent, es_n0_db=0.0), seed, number)[2] - signal
    truth = true_synchronization(path, sent.bursts[0].starts[0], sent.sample_rate_hz)
    genie = genie_of(sent.waveform)

    def arrives(es_n0_db: float) -> bool:
        samples = signal + np.float32(10 ** (-es_n0_db / 20)) * noise
        return sent.decodes({0: genie.payload(samples, truth, sent.header(0))})

    return least_es_n0_db(arrives, _GUESS_DB, 4 * _STEP_DB, _STEP_DB)


def measure_losses(
    waveform: str,
    frames: int,
    seed: int,
    tasks: Tasks,
    progress: Progress,
    conditions: Sequence[str] = tuple(CONDITIONS),
) -> list[Loss]:
    """Frames lost under each condition, at the operating point of :func:`operating_point_db`.

    Args:
        waveform: of :data:`SYNCHRONIZED`.
        frames: per condition.
        seed: of messages, conditions and noise.
        tasks: where to do it.
        progress: called with the fraction done.
        conditions: names in :data:`CONDITIONS`.
    """
    share = 1 / (len(conditions) + 1)
    es_n0_db = operating_point_db(waveform, frames, seed, tasks, part_of(progress, 0, share))
    rows = []
    for index, name in enumerate(conditions, start=1):
        case = Case(name, waveform, es_n0_db, CONDITIONS[name])
        part = part_of(progress, index * share, share)
        fates = tasks.map(partial(fate, case, seed, True), frames, part)
        outcome = Outcome(name, waveform, es_n0_db, MCS, **totals(fates))
        rows.append(Loss.of(outcome, sum(not one.perfect for one in fates)))
    return rows


# --- back to back -----------------------------------------------------------------------------


def measure_back_to_back(waveform: str, frames: int, seed: int, progress: Progress) -> Loss:
    """Frames without a gap between them, each a message of its own, in one stream.

    Args:
        waveform: of :data:`SYNCHRONIZED`.
        frames: how many.
        seed: of messages, offsets and noise.
        progress: called with the fraction done.
    """
    form = WAVEFORMS[waveform]
    rng = np.random.default_rng(seed)
    rate = SYMBOL_RATE_HZ * form.samples_per_symbol
    noise = AdditiveNoise.from_es_n0(BACK_TO_BACK_ES_N0_DB, form.samples_per_symbol)
    chain = with_noise(offsets(rng, rate), noise).block(rate, seed)
    transmitter = Transmitter(TransmitterConfig(MCS, depth=1, waveform=form))
    receiver = Receiver(ReceiverConfig(waveform=form, symbol_rate_hz=SYMBOL_RATE_HZ))
    silence = np.zeros(_SILENCE, dtype=np.complex64)
    events = receiver.process(chain.process(silence))
    sent: dict[int, bytes] = {}
    exact = headers = seen = 0
    for number in range(frames + 1):
        if number < frames:
            identifier = number % _MESSAGE_IDS
            sent[identifier] = rng.bytes(longest_message(frames=1))
            (samples,) = transmitter.send(sent[identifier], identifier)
            events = receiver.process(chain.process(samples))
        else:
            end = passed(chain, np.concatenate([transmitter.flush(), silence]))
            events = receiver.process(end) + receiver.flush()
        for event in events:
            if isinstance(event, FrameReport):
                seen += 1
                headers += event.header_ok
            elif isinstance(event, MessageReceived) and event.data is not None:
                exact += event.data == sent.pop(event.message_id, None)
        progress((number + 1) / (frames + 1))
    outcome = Outcome(
        channel=BACK_TO_BACK,
        waveform=waveform,
        es_n0_db=BACK_TO_BACK_ES_N0_DB,
        mcs=MCS,
        sent=frames,
        received=exact,
        undetected=max(frames - seen, 0),
        header_lost=seen - headers,
        payload_lost=headers - exact,
        false_alarms=max(seen - frames, 0),
    )
    return Loss.of(outcome)


# --- false alarms -----------------------------------------------------------------------------


@dataclass(frozen=True)
class FalseAlarms:
    """A row of the table of false alarms.

    Attributes:
        interference: what was there beside the noise.
        samples: samples of noise.
        detections: preambles announced in them.
        expected: false-alarm probability of the detector's design, times the samples: an upper
            bound of the mean.
    """

    interference: str
    samples: int
    detections: int
    expected: float


def _noise_alone(rng: np.random.Generator, rate: float) -> RadioPath:
    return RadioPath()


def _noise_and_dc(rng: np.random.Generator, rate: float) -> RadioPath:
    dc = DcOffset(_INTERFERENCE_DB, rng.uniform(0, 360))
    return RadioPath(receiver=ReceiverImpairments(dc=dc))


def _noise_and_tone(rng: np.random.Generator, rate: float) -> RadioPath:
    tone = ToneInterferer(_INTERFERENCE_DB, rng.uniform(-0.5, 0.5) * SYMBOL_RATE_HZ)
    return RadioPath(propagation=Propagation(interferers=(tone,)))


INTERFERENCE: dict[str, Draw] = {
    "none": _noise_alone,
    f"DC, {_INTERFERENCE_DB:g} dB above the noise": _noise_and_dc,
    f"tone in the band, {_INTERFERENCE_DB:g} dB above": _noise_and_tone,
}
"""What there is beside the noise, by name; a tone has another frequency every 2 million samples."""


def _detections(name: str, samples: int, seed: int, number: int) -> int:
    """Preambles that the receiver sees in a run of noise."""
    waveform = WAVEFORMS[SYNCHRONIZED[0]]
    rng = np.random.default_rng([seed, number])
    rate = SYMBOL_RATE_HZ * waveform.samples_per_symbol
    path = with_noise(INTERFERENCE[name](rng, rate), AdditiveNoise(1.0))
    chain = path.block(rate, int(rng.integers(1 << 31)))
    receiver = Receiver(ReceiverConfig(waveform=waveform))
    count = min(_NOISE_RUN, samples - number * _NOISE_RUN)
    receiver.process(passed(chain, np.zeros(count, dtype=np.complex64)))
    receiver.flush()
    return receiver.statistics.false_alarms + receiver.statistics.frames_detected


def measure_false_alarms(
    samples: int, seed: int, tasks: Tasks, progress: Progress
) -> list[FalseAlarms]:
    """Detections in noise.

    Args:
        samples: of noise, for each interference.
        seed: of noise and tones.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    expected = samples * ReceiverConfig().false_alarm_probability
    rows = []
    for index, name in enumerate(INTERFERENCE):
        part = part_of(progress, index / len(INTERFERENCE), 1 / len(INTERFERENCE))
        runs = -(-samples // _NOISE_RUN)
        found = tasks.map(partial(_detections, name, samples, seed), runs, part)
        rows.append(FalseAlarms(name, samples, sum(found), expected))
    return rows


# --- all of it --------------------------------------------------------------------------------


def measure(
    waveforms: Sequence[str],
    frames: int,
    noise_samples: int,
    seed: int,
    tasks: Tasks,
    progress: Progress,
) -> tuple[list[Loss], list[FalseAlarms]]:
    """All rows.

    Args:
        waveforms: of :data:`SYNCHRONIZED`.
        frames: per condition, and back to back.
        noise_samples: for each interference; 0 leaves the false alarms out.
        seed: of every random draw.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    each = 0.9 / len(waveforms) if noise_samples else 1 / len(waveforms)
    rows = []
    for index, waveform in enumerate(waveforms):
        start = index * each
        losses = part_of(progress, start, 0.9 * each)
        rows += measure_losses(waveform, frames, seed, tasks, losses)
        stream = part_of(progress, start + 0.9 * each, 0.1 * each)
        rows.append(measure_back_to_back(waveform, frames, seed, stream))
    if not noise_samples:
        return rows, []
    return rows, measure_false_alarms(noise_samples, seed, tasks, part_of(progress, 0.9, 0.1))


def loss_table(rows: Sequence[Loss]) -> Table:
    """The losses for people."""
    from rich.table import Table

    grid = Table("condition", "waveform")
    for heading in ("Es/N0", "frames", "lost", "95 %", "seen, header, payload", "perfect", "95 %"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(
            row.channel,
            row.waveform,
            f"{row.es_n0_db:.2f} dB",
            *_cells(row),
        )
    return grid


def _cells(row: Loss) -> list[str]:
    """Counts and rates of a row, from the number of frames on."""
    perfect = ["", ""]
    if row.perfect_loss is not None:
        perfect = [
            f"{row.perfect_loss:.1%}",
            f"{row.perfect_low:.1%} to {row.perfect_high:.1%}",
        ]
    return [
        str(row.sent),
        f"{row.loss:.1%}",
        f"{row.low:.1%} to {row.high:.1%}",
        f"{row.undetected}, {row.header_lost}, {row.payload_lost}",
        *perfect,
    ]


def false_alarm_table(rows: Sequence[FalseAlarms]) -> Table:
    """The false alarms for people."""
    from rich.table import Table

    grid = Table("beside the noise")
    for heading in ("samples", "detections", "expected at most"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(
            row.interference, f"{row.samples:,}", str(row.detections), f"{row.expected:.2g}"
        )
    return grid


def write_results(losses: Sequence[Loss], alarms: Sequence[FalseAlarms], folder: Path) -> None:
    """Writes sync.csv, false_alarms.csv and sync.md, the tables for the docs, into a folder."""
    write_csv(losses, folder / "sync.csv")
    lines = [
        "| condition | waveform | Es/N0 | frames | lost | 95 % | not seen, header, payload "
        "| lost, perfect synchronization | 95 % |",
        "|---|---|---:|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [
        f"| {' | '.join([row.channel, row.waveform, f'{row.es_n0_db:.2f} dB', *_cells(row)])} |"
        for row in losses
    ]
    if alarms:
        write_csv(alarms, folder / "false_alarms.csv")
        lines += [
            "",
            "| beside the noise | samples | detections | expected at most |",
            "|---|---:|---:|---:|",
        ]
        lines += [
            f"| {row.interference} | {row.samples:,} | {row.detections} | {row.expected:.2g} |"
            for row in alarms
        ]
    (folder / "sync.md").write_text("\n".join(lines) + "\n")
