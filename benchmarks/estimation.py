"""``sscc bench estimation``: what estimating the channel costs against knowing it.

QPSK 1/2, one transport block in four frames of the longest kind, 10 to 11 ms each at 1 Msymbol/s.
Three receivers get the same samples:

- *all known*: a genie (:mod:`benchmarks.genie`) that knows start, carrier and clock offset of every
  frame and the true response of the channel at any time;
- *response known*: the same genie, but it gets only those frames that the real receiver found and
  whose header it read;
- *estimated*: the real receiver, from detection to decoder.

For every draw of fading and noise the least Es/N0 at which the block arrives is bisected. Es/N0 at
a block error rate of 0.1 is the 90 % quantile over the draws. The loss by estimation is the mean of
the draws' differences between the last two, with its standard error: it holds the errors of fine
synchronization and of the channel estimate. The total loss, against all known, also holds what
frames cost that are lost as a whole, which happens where detection and header lie in a fade.

The shaped waveforms have a carrier offset of 0.3 rad per sample and a clock offset of 20 ppm.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks.bisection import least_es_n0_db
from benchmarks.csv_file import write_csv
from benchmarks.genie import FloatArray, TrueChannel, genie_of
from benchmarks.parallel import Tasks
from benchmarks.simulation import (
    SYMBOL_RATE_HZ,
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
)
from phy.impairments import AdditiveNoise, CarrierOffset, ClockOffset
from phy.random_process import child_seed
from phy.tapped_delay_line import FadingFilter, TappedDelayLine
from phy.waveform import ComplexArray
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

FRAMES = 4
TARGET = 0.1
STEP_DB = 0.125
_GUESS_DB = 5.0
_REACH_DB = 2.0  # first steps of the search for perfect knowledge
_CARRIER_RAD = 0.3
_CLOCK_PPM = 20.0
_SILENCE = 1500  # samples before and after what is sent


@dataclass(frozen=True)
class Case:
    """A channel.

    Attributes:
        name: of the channel.
        waveform: of :data:`flowgraphs.link.WAVEFORMS`.
        fading: the channel.
        block: every frame has a draw of the fading of its own; otherwise the fading goes on from
            frame to frame.
    """

    name: str
    waveform: str
    fading: TappedDelayLine
    block: bool = False


def cases() -> list[Case]:
    """All rows of the table; multipath for the waveforms with samples."""
    multipath = [
        TappedDelayLine(profile, spread, doppler)
        for profile, spread in (("TDL-A", 100e-9), ("TDL-C", 300e-9))
        for doppler in (50.0, 200.0)
    ]
    rows = []
    for name, waveform in WAVEFORMS.items():
        rows += [
            Case("flat, another gain in every frame", name, TappedDelayLine("flat"), True),
            Case("flat, 50 Hz", name, TappedDelayLine("flat", 0.0, 50.0)),
            Case("flat, 200 Hz", name, TappedDelayLine("flat", 0.0, 200.0)),
        ]
        if waveform.samples_per_symbol > 1:
            rows += [Case(_name(fading), name, fading) for fading in multipath]
    return rows


def _name(fading: TappedDelayLine) -> str:
    spread_ns = 1e9 * fading.delay_spread_s
    return f"{fading.profile} {spread_ns:.0f} ns, {fading.doppler_hz:.0f} Hz"


@dataclass(frozen=True)
class Loss:
    """A row of the table; Es/N0 are those at a block error rate of 0.1.

    Attributes:
        channel, waveform: as of :class:`Case`.
        draws: of fading and noise.
        known_es_n0_db: with all known, dB.
        response_known_es_n0_db: with the response known, dB.
        estimated_es_n0_db: of the real receiver, dB.
        loss_db: by estimation, mean over the draws, dB.
        loss_error_db: its standard error, dB.
        total_loss_db: against all known, mean over the draws, dB.
        total_loss_error_db: its standard error, dB.
    """

    channel: str
    waveform: str
    draws: int
    known_es_n0_db: float
    response_known_es_n0_db: float
    estimated_es_n0_db: float
    loss_db: float
    loss_error_db: float
    total_loss_db: float
    total_loss_error_db: float


@dataclass(frozen=True)
class _Capture:
    """Frames behind a channel that is fixed but for the level of the noise.

    Attributes:
        path: the radio path.
        signal: (n,) received samples without noise.
        noise: (n,) received noise of unit density, as it comes out of the receiver's front end.
        channel: the true one.
        starts: where the frames' first symbols were sent, by their numbers.
    """

    path: RadioPath
    signal: ComplexArray
    noise: ComplexArray
    channel: TrueChannel
    starts: dict[int, int]

    def samples(self, noise_density: float) -> ComplexArray:
        """What is received."""
        return self.signal + np.float32(noise_density**0.5) * self.noise


def _captures(case: Case, sent: Transmission, seed: np.random.SeedSequence) -> Iterator[_Capture]:
    """The bursts of a transmission, each over a draw of the channel of its own."""
    rate = sent.sample_rate_hz
    front_end = ReceiverImpairments()
    if sent.waveform.samples_per_symbol > 1:
        carrier = CarrierOffset(_CARRIER_RAD / (2 * np.pi) * rate)
        front_end = ReceiverImpairments(carrier=carrier, clock=ClockOffset(_CLOCK_PPM))
    path = RadioPath(propagation=Propagation(fading=case.fading), receiver=front_end)
    noisy = with_noise(path, AdditiveNoise(1.0))
    for number, burst in enumerate(sent.bursts):
        own = child_seed(seed, number)
        chain = path.block(rate, own)
        signal = passed(chain, burst.samples)
        noise = passed(noisy.block(rate, own), np.zeros_like(burst.samples))
        (fading,) = chain.stages(FadingFilter)
        clock = true_synchronization(path, 0, rate).clock
        yield _Capture(path, signal, noise, TrueChannel(fading, clock), burst.starts)


class FadedBlock:
    """A transport block over one draw of fading and noise, at any level of the noise."""

    def __init__(self, case: Case, seed: int, number: int) -> None:
        self._waveform = WAVEFORMS[case.waveform]
        message = np.random.default_rng([seed, number]).bytes(longest_message(FRAMES))
        self.sent = Transmission.of(
            self._waveform, message, _SILENCE, _SILENCE, FRAMES, apart=case.block
        )
        own = np.random.SeedSequence([seed, number])
        self.captures = list(_captures(case, self.sent, own))
        self._received: dict[float, tuple[bool, frozenset[int]]] = {}

    def _samples(self, capture: _Capture, es_n0_db: float) -> ComplexArray:
        noise = AdditiveNoise.from_es_n0(es_n0_db, self._waveform.samples_per_symbol)
        return capture.samples(noise.noise_density)

    def _receive(self, es_n0_db: float) -> tuple[bool, frozenset[int]]:
        """Whether the real receiver gets the block, and the numbers of the frames it got."""
        if es_n0_db not in self._received:
            config = ReceiverConfig(waveform=self._waveform, symbol_rate_hz=SYMBOL_RATE_HZ)
            receiver = Receiver(config)
            events = []
            for capture in self.captures:
                events += receiver.process(self._samples(capture, es_n0_db))
            events += receiver.flush()
            headers = [e.header for e in events if isinstance(e, FrameReport)]
            messages = [e.data for e in events if isinstance(e, MessageReceived)]
            found = frozenset(header.frame_index for header in headers if header is not None)
            self._received[es_n0_db] = self.sent.message in messages, found
        return self._received[es_n0_db]

    def _genie_decodes(self, es_n0_db: float, frames: Collection[int]) -> bool:
        """Whether the block comes back from some of its frames if all about them is known."""
        genie = genie_of(self._waveform)
        receptions = {}
        for capture in self.captures:
            samples = self._samples(capture, es_n0_db)
            for frame in capture.starts.keys() & frames:
                truth = true_synchronization(
                    capture.path, capture.starts[frame], self.sent.sample_rate_hz
                )
                header = self.sent.header(frame)
                receptions[frame] = genie.payload(samples, truth, header, capture.channel)
        return self.sent.decodes(receptions)

    def estimated(self, es_n0_db: float) -> bool:
        """Whether the block arrives at the real receiver."""
        return self._receive(es_n0_db)[0]

    def response_known(self, es_n0_db: float) -> bool:
        """The same with the true response."""
        return self._genie_decodes(es_n0_db, self._receive(es_n0_db)[1])

    def all_known(self, es_n0_db: float) -> bool:
        """The same with all frames found."""
        return self._genie_decodes(es_n0_db, range(FRAMES))


def least_of_draw(case: Case, seed: int, number: int) -> tuple[float, float, float]:
    """Least Es/N0 at which the block of one draw arrives.

    Args:
        case: the channel.
        seed: of all draws.
        number: of this one.

    Returns:
        With all known, with the response known, and estimated, dB.
    """
    draw = FadedBlock(case, seed, number)
    known = least_es_n0_db(draw.all_known, _GUESS_DB, _REACH_DB, STEP_DB)
    estimated = least_es_n0_db(
        draw.estimated, known if np.isfinite(known) else _GUESS_DB, STEP_DB, STEP_DB
    )
    guess = estimated if np.isfinite(estimated) else _GUESS_DB
    return known, least_es_n0_db(draw.response_known, guess, STEP_DB, STEP_DB), estimated


def measure(
    chosen: Sequence[Case], draws: int, seed: int, tasks: Tasks, progress: Progress
) -> list[Loss]:
    """All rows.

    Args:
        chosen: channels.
        draws: of fading and noise, at least 2.
        seed: of them.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    rows = []
    for index, case in enumerate(chosen):
        part = part_of(progress, index / len(chosen), 1 / len(chosen))
        least = np.array(tasks.map(partial(least_of_draw, case, seed), draws, part))
        rows.append(loss_of(case, least))
    return rows


def loss_of(case: Case, least: FloatArray) -> Loss:
    """A row from the (draws, 3) results of :func:`least_of_draw`."""
    known, response_known, estimated = np.quantile(least, 1 - TARGET, axis=0, method="inverted_cdf")
    total, loss = (least[:, 2] - least[:, other] for other in (0, 1))
    root = np.sqrt(len(least))
    return Loss(
        channel=case.name,
        waveform=case.waveform,
        draws=len(least),
        known_es_n0_db=float(known),
        response_known_es_n0_db=float(response_known),
        estimated_es_n0_db=float(estimated),
        loss_db=float(loss.mean()),
        loss_error_db=float(loss.std(ddof=1) / root),
        total_loss_db=float(total.mean()),
        total_loss_error_db=float(total.std(ddof=1) / root),
    )


HEADINGS = ("draws", "all known", "response known", "estimated", "loss by estimation", "total")


def _cells(row: Loss) -> list[str]:
    """Figures of a row, as under :data:`HEADINGS`."""
    levels = (row.known_es_n0_db, row.response_known_es_n0_db, row.estimated_es_n0_db)
    return [
        str(row.draws),
        *(f"{level:.1f} dB" for level in levels),
        f"{row.loss_db:.2f} +- {row.loss_error_db:.2f} dB",
        f"{row.total_loss_db:.2f} +- {row.total_loss_error_db:.2f} dB",
    ]


def table(rows: Sequence[Loss]) -> Table:
    """The losses for people."""
    from rich.table import Table

    grid = Table("channel", "waveform", title="Es/N0 at a block error rate of 0.1, QPSK 1/2")
    for heading in HEADINGS:
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(row.channel, row.waveform, *_cells(row))
    return grid


def write_results(rows: Sequence[Loss], folder: Path) -> None:
    """Writes estimation.csv and estimation.md, the table for the docs, into a folder."""
    write_csv(rows, folder / "estimation.csv")
    lines = [
        f"| channel | waveform | {' | '.join(HEADINGS)} |",
        "|---|---|---:|---:|---:|---:|---:|---:|",
    ]
    lines += [f"| {' | '.join([row.channel, row.waveform, *_cells(row)])} |" for row in rows]
    (folder / "estimation.md").write_text("\n".join(lines) + "\n")
