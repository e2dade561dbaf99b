r"""``sscc bench harq``: throughput against SNR with retransmission.

A transport block is sent in rounds of 2048 symbols until it decodes, four times at most; feedback
is free and never wrong. Over AWGN, and over Rayleigh block fading, where every round has a gain of
its own, three receivers and senders get the same payloads, gains and noise:

- *incremental redundancy*: the redundancy versions 0, 2, 3, 1 (:mod:`phy.harq`), soft bits added;
- *Chase combining*: version 0 every time, soft bits added;
- *no combining*: version 0 every time, each round decoded alone.

The demapper knows gain and noise. With the payload's rate R in bits per channel use and :math:`P_m`
the share of blocks that have been decoded by round m, the throughput is what arrives by what is
sent,

.. math:: \eta = \frac{R\, P_4}{1 + (1 - P_1) + (1 - P_2) + (1 - P_3)},

by the renewal-reward theorem. It grows with each :math:`P_m`. **Intervals:** their ends take all
:math:`P_m` at the same end of Wilson's 95 % interval. Where the :math:`P_m` are estimated well, the
deviations of :math:`\eta` are sums of theirs with positive weights, and the standard deviation of a
sum is at most the sum of theirs: the interval holds 95 % or more. Unlike a bootstrap it does not
shrink to a point where all blocks take the same number of rounds.

**Limits.** The *capacity* of the constellation with bit-interleaved coding is that of
:func:`phy.link_adaptation.bit_information`, over fading its mean (ergodic capacity). The *limit* of
each kind of retransmission is the throughput of long ideal codes of the same rate R, which decode
in the first round m where

.. math:: \textstyle\sum_{i \le m} I(\gamma_i) \ge R, \qquad
    I\bigl(\sum_{i \le m} \gamma_i\bigr) \ge R, \qquad I(\gamma_m) \ge R,

so that what lies between capacity and limit is due to the fixed rate and the whole rounds, and what
lies between limit and throughput to the code.

**Whole receiver.** At a few Es/N0 over AWGN messages also pass the real link: single carrier,
synchronization, channel estimation, header, feedback over the air. What it needs is compared round
by round; preamble, header, pilots and feedback are not counted.

References:
    - G. Caire, D. Tuninetti, "The throughput of hybrid-ARQ protocols for the Gaussian collision
      channel", IEEE Trans. Inf. Theory 47(5), 2001 (throughput and limits).
    - D. Chase, "Code combining", IEEE Trans. Commun. 33(5), 1985.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

from benchmarks.csv_file import write_csv
from benchmarks.ldpc import wilson_interval
from benchmarks.mcs import transport_block_code
from benchmarks.parallel import Tasks
from flowgraphs.closed_loop import send_in_rounds
from flowgraphs.link import LinkConfig
from phy import Transmitter, TransmitterConfig
from phy.harq import FEEDBACK_MCS, HarqConfig, HarqSender, HarqState
from phy.link_adaptation import bit_information, snr_of_information
from phy.mcs import ModulationCodingScheme, get_mcs
from phy.message import DIGEST_BYTES
from phy.modulation import Modulation
from phy.transport_block import TransportBlockCode
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]
Information = Callable[[FloatArray], FloatArray]
"""Bits per symbol at an SNR (not in dB)."""

SYMBOLS = 2048
"""Of a round."""
ROUNDS = 4
"""At most: one for each redundancy version."""
AWGN, RAYLEIGH = "AWGN", "Rayleigh block fading"
_STEP_DB = {AWGN: 0.5, RAYLEIGH: 2.0}
_BELOW_DB = 2.0  # the SNR where four rounds carry the payload
_ABOVE_DB = {AWGN: 3.0, RAYLEIGH: 16.0}  # the SNR where one does
_DRAWS = 1 << 15  # of the fading, for the limits
_LOOP_SHARES = (0.5, 1.0)  # of a block that a round carries at the SNRs of the whole receiver
_LOOP_ABOVE_DB = 0.75  # what a code needs more
_LEAD = 500  # samples before a message
_TABLE_STEP_DB = 4.0  # of the table for the docs
_MARKS: dict[str, Any] = {"markersize": 3, "capsize": 2, "linewidth": 1}


@dataclass(frozen=True)
class Combining:
    """A kind of retransmission.

    Attributes:
        name: of it.
        rv_order: redundancy versions of the rounds.
        soft: the soft bits of all rounds are added.
        carried: information of the rounds so far, from their SNRs (n, rounds) and that of one SNR.
    """

    name: str
    rv_order: tuple[int, ...]
    soft: bool
    carried: Callable[[FloatArray, Information], FloatArray]


KINDS = (
    Combining(
        "incremental redundancy",
        HarqConfig().rv_order,
        True,
        lambda snr, information: np.cumsum(information(snr), axis=1),
    ),
    Combining(
        "Chase combining",
        (0,) * ROUNDS,
        True,
        lambda snr, information: information(np.cumsum(snr, axis=1)),
    ),
    Combining(
        "no combining",
        (0,) * ROUNDS,
        False,
        lambda snr, information: information(snr),
    ),
)
WHOLE = "whole receiver"
"""Incremental redundancy in the real link."""


@dataclass(frozen=True)
class Throughput:
    """A row of the table.

    Attributes:
        channel: AWGN or Rayleigh block fading.
        combining: name of a :class:`Combining`, or the whole receiver.
        mcs: modulation-and-coding scheme.
        es_n0_db: Es/N0, over fading its mean, dB.
        blocks: transport blocks sent.
        decoded_1, decoded_2, decoded_3, decoded_4: of them decoded by that round.
        mean_rounds: sent per block.
        throughput: information bits per channel use; at 1 Msymbol/s, Mbit/s.
        low: lower end of its 95 % interval, see the module.
        high: upper end.
        limit: throughput of long ideal codes.
        capacity: of the constellation, bits per channel use.
    """

    channel: str
    combining: str
    mcs: str
    es_n0_db: float
    blocks: int
    decoded_1: int
    decoded_2: int
    decoded_3: int
    decoded_4: int
    mean_rounds: float
    throughput: float
    low: float
    high: float
    limit: float
    capacity: float


# --- blocks -----------------------------------------------------------------------------------


def payload_rate(mcs: ModulationCodingScheme) -> float:
    """R, payload bits per symbol of one round."""
    return _code(mcs).payload_bits / SYMBOLS


@lru_cache
def _code(mcs: ModulationCodingScheme) -> TransportBlockCode:
    return transport_block_code(mcs, SYMBOLS)


def rounds_needed(
    mcs: ModulationCodingScheme, channel: str, es_n0_db: float, seed: int, number: int
) -> tuple[int, ...]:
    """Sends one transport block with all kinds of retransmission.

    Args:
        mcs: the scheme.
        channel: AWGN or Rayleigh block fading.
        es_n0_db: mean SNR, dB.
        seed: of all blocks.
        number: of this one; its payload, gains and noise are the same at every SNR.

    Returns:
        For each of :data:`KINDS` the round in which it was decoded, 0 if it never was.
    """
    code = _code(mcs)
    rng = np.random.default_rng([seed, number])
    bits = rng.integers(0, 2, code.payload_bits, dtype=np.uint8)
    gains = np.sqrt(rng.exponential(size=ROUNDS)) if channel == RAYLEIGH else np.ones(ROUNDS)
    variance = 10 ** (-es_n0_db / 10)
    shape = (ROUNDS, 2, SYMBOLS)
    noise = rng.standard_normal(shape, dtype=np.float32) * np.float32((variance / 2) ** 0.5)

    @cache
    def received(index: int, rv: int) -> npt.NDArray[np.float32]:
        sent = gains[index] * mcs.modulation.map(code.encode(bits, rv))
        return mcs.modulation.demap(
            sent + noise[index, 0] + 1j * noise[index, 1], variance, gains[index]
        )

    def decoded_in(kind: Combining) -> int:
        buffer = None
        for index, rv in enumerate(kind.rv_order):
            buffer = code.soft_buffer(received(index, rv), rv, buffer if kind.soft else None)
            result = code.decode_buffer(buffer)
            if result.ok and np.array_equal(result.bits, bits):
                return index + 1
        return 0

    return tuple(decoded_in(kind) for kind in KINDS)


def rounds_of_link(mcs: ModulationCodingScheme, es_n0_db: float, seed: int, number: int) -> int:
    """Sends one transport block over AWGN through the real link, with feedback over the air.

    Args:
        mcs: the scheme.
        es_n0_db: SNR in both directions, dB.
        seed: of all messages.
        number: of this one.

    Returns:
        Rounds until it was acknowledged, 0 if it never was.
    """
    link = LinkConfig(
        "awgn", es_n0_db, mcs=mcs.name, waveform="single-carrier", depth=1, harq=ROUNDS
    )
    channel, radio, return_channel, return_radio = np.random.SeedSequence([seed, number]).spawn(4)
    there = link.make_direction(channel, radio)
    back = link.make_direction(return_channel, return_radio)
    message = np.random.default_rng([seed, number]).bytes(
        _code(mcs).payload_bits // 8 - DIGEST_BYTES
    )
    waveform = link.phy_waveform
    transmitter = Transmitter(TransmitterConfig(mcs.name, 1, SYMBOLS, waveform))
    answering = Transmitter(TransmitterConfig(FEEDBACK_MCS, waveform=waveform))
    sender = HarqSender(transmitter, message, config=HarqConfig(ROUNDS))
    there.carry(np.zeros(_LEAD, dtype=np.complex64))
    send_in_rounds(sender, transmitter, answering, there, back, lambda: None)
    return sender.rounds if sender.state is HarqState.DELIVERED else 0


# --- throughput -------------------------------------------------------------------------------


def throughput_of(shares: Sequence[float], rate: float) -> float:
    """Bits per channel use from the shares of blocks decoded by each round."""
    return rate * shares[-1] / (1 + sum(1 - share for share in shares[:-1]))


def interval_of(counts: Sequence[int], blocks: int, rate: float) -> tuple[float, float]:
    """95 % interval of the throughput from the blocks decoded by each round, see the module."""
    ends = zip(*(wilson_interval(count, blocks) for count in counts), strict=True)
    low, high = (throughput_of(end, rate) for end in ends)
    return low, high


def decoded_by(rounds: IntArray) -> list[int]:
    """Of blocks that were decoded in some rounds (0: never), how many were by each round."""
    return [int(np.sum((rounds > 0) & (rounds <= number))) for number in range(1, ROUNDS + 1)]


def _gains(channel: str) -> FloatArray:
    """(n, ROUNDS) |h|^2 of many blocks, the same every time."""
    if channel == AWGN:
        return np.ones((1, ROUNDS))
    return np.random.default_rng(0).exponential(size=(_DRAWS, ROUNDS))


def limit(mcs: ModulationCodingScheme, kind: Combining, channel: str, es_n0_db: float) -> float:
    """Throughput of long ideal codes, bits per channel use."""
    rate = payload_rate(mcs)
    snr = 10 ** (es_n0_db / 10) * _gains(channel)
    enough = kind.carried(snr, partial(_information, mcs.modulation)) >= rate
    shares = np.logical_or.accumulate(enough, axis=1).mean(axis=0)
    return throughput_of([float(share) for share in shares], rate)


def capacity(modulation: Modulation, channel: str, es_n0_db: float) -> float:
    """Mutual information of the constellation's bits, over fading its mean, bits per channel use.

    Args:
        modulation: the constellation.
        channel: AWGN or Rayleigh block fading.
        es_n0_db: mean SNR, dB.
    """
    if channel == AWGN:
        return float(bit_information(modulation, es_n0_db))
    # The mean over quantiles of |h|^2 that are equally likely.
    share = (np.arange(_DRAWS) + 0.5) / _DRAWS
    return float(_information(modulation, -np.log(share) * 10 ** (es_n0_db / 10)).mean())


def _information(modulation: Modulation, snr: FloatArray) -> FloatArray:
    return bit_information(modulation, 10 * np.log10(np.maximum(snr, 1e-12)))


# --- all of it --------------------------------------------------------------------------------


def grid_db(mcs: ModulationCodingScheme, channel: str) -> list[float]:
    """SNRs from where four rounds hardly carry a block to where one nearly always does."""
    step = _STEP_DB[channel]
    lowest = snr_of_information(mcs.modulation, payload_rate(mcs) / ROUNDS) - _BELOW_DB
    first, last = np.floor(lowest / step), np.ceil((mcs.es_n0_db + _ABOVE_DB[channel]) / step)
    return [float(place * step) for place in np.arange(first, last + 1)]


def loop_grid_db(mcs: ModulationCodingScheme) -> list[float]:
    """Of the SNRs on AWGN those nearest to where codes get by with two rounds, and with one."""
    needed = [snr_of_information(mcs.modulation, x * payload_rate(mcs)) for x in _LOOP_SHARES]
    step = _STEP_DB[AWGN]
    return [float(step * np.round((db + _LOOP_ABOVE_DB) / step)) for db in needed]


def measure(
    mcs: ModulationCodingScheme,
    blocks: int,
    messages: int,
    seed: int,
    tasks: Tasks,
    progress: Progress,
) -> list[Throughput]:
    """All rows.

    Args:
        mcs: the scheme.
        blocks: transport blocks per channel and SNR.
        messages: for the whole receiver, per SNR; 0 leaves it out.
        seed: of payloads, gains and noise.
        tasks: where to do it.
        progress: called with the fraction done.
    """
    work = [(channel, db) for channel in (AWGN, RAYLEIGH) for db in grid_db(mcs, channel)]
    whole = loop_grid_db(mcs) if messages else []
    parts = len(work) + len(whole)
    rows = []
    for index, (channel, db) in enumerate(work):
        part = part_of(progress, index / parts, 1 / parts)
        needed = tasks.map(partial(rounds_needed, mcs, channel, db, seed), blocks, part)
        for kind, rounds in zip(KINDS, np.array(needed).T, strict=True):
            rows.append(_row(mcs, channel, kind, kind.name, db, rounds))
    for index, db in enumerate(whole, len(work)):
        part = part_of(progress, index / parts, 1 / parts)
        rounds = np.array(tasks.map(partial(rounds_of_link, mcs, db, seed), messages, part))
        rows.append(_row(mcs, AWGN, KINDS[0], WHOLE, db, rounds))
    return rows


def _row(
    mcs: ModulationCodingScheme,
    channel: str,
    kind: Combining,
    name: str,
    es_n0_db: float,
    rounds: IntArray,
) -> Throughput:
    counts, blocks, rate = decoded_by(rounds), len(rounds), payload_rate(mcs)
    low, high = interval_of(counts, blocks, rate)
    return Throughput(
        channel=channel,
        combining=name,
        mcs=mcs.name,
        es_n0_db=es_n0_db,
        blocks=blocks,
        decoded_1=counts[0],
        decoded_2=counts[1],
        decoded_3=counts[2],
        decoded_4=counts[3],
        mean_rounds=float(np.where(rounds > 0, rounds, ROUNDS).mean()),
        throughput=throughput_of([count / blocks for count in counts], rate),
        low=low,
        high=high,
        limit=limit(mcs, kind, channel, es_n0_db),
        capacity=capacity(mcs.modulation, channel, es_n0_db),
    )


def _by_point(rows: Sequence[Throughput], channel: str) -> list[dict[str, Throughput]]:
    """For each SNR of a channel its rows by their kinds."""
    own = sorted((row for row in rows if row.channel == channel), key=lambda row: row.es_n0_db)
    points = groupby(own, key=lambda row: row.es_n0_db)
    return [{row.combining: row for row in of_point} for _, of_point in points]


def _interval(row: Throughput) -> str:
    return f"{row.throughput:.2f} ({row.low:.2f}-{row.high:.2f})"


def table(rows: Sequence[Throughput]) -> Table:
    """The throughputs for people."""
    from rich.table import Table

    grid = Table(title=f"{rows[0].mcs}, bit per channel use (95 % interval)")
    grid.add_column("Es/N0", justify="right", no_wrap=True)
    for kind in KINDS:
        grid.add_column(kind.name, justify="right")
    grid.add_column("capacity", justify="right")
    for channel in (AWGN, RAYLEIGH):
        grid.add_section()
        grid.add_row("", channel)
        for own in _by_point(rows, channel):
            point = own[KINDS[0].name]
            figures = [_interval(own[kind.name]) for kind in KINDS]
            grid.add_row(f"{point.es_n0_db:g} dB", *figures, f"{point.capacity:.2f}")
    whole = [row for row in rows if row.combining == WHOLE]
    if whole:
        grid.add_section()
        grid.add_row("", f"{AWGN}, {WHOLE}")
        for row in whole:
            grid.add_row(f"{row.es_n0_db:g} dB", _interval(row), "", "", f"{row.capacity:.2f}")
    return grid


def write_results(rows: Sequence[Throughput], folder: Path) -> None:
    """Writes harq.csv, harq.png, and harq.md with the tables for the docs, into a folder."""
    write_csv(rows, folder / "harq.csv")
    kinds = " | ".join(kind.name for kind in KINDS)
    lines = [
        f"| channel | Es/N0 | {kinds} | limit of {KINDS[0].name} | capacity |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for channel in (AWGN, RAYLEIGH):
        for own in _by_point(rows, channel):
            point = own[KINDS[0].name]
            if point.es_n0_db % _TABLE_STEP_DB == 0:
                figures = [_interval(own[kind.name]) for kind in KINDS]
                figures += [f"{point.limit:.2f}", f"{point.capacity:.2f}"]
                lines.append(f"| {channel} | {point.es_n0_db:g} dB | {' | '.join(figures)} |")
    pairs = [own for own in _by_point(rows, AWGN) if WHOLE in own]
    if pairs:
        lines += [
            "",
            "| AWGN, Es/N0 | | number | decoded by round 1, 2, 3, 4 |",
            "|---:|---|---:|---|",
        ]
    for own in pairs:
        for name, row in (("blocks alone", own[KINDS[0].name]), (WHOLE, own[WHOLE])):
            lines.append(
                f"| {row.es_n0_db:g} dB | {name} | {row.blocks} | {', '.join(_shares(row))} |"
            )
    (folder / "harq.md").write_text("\n".join(lines) + "\n")
    _plot(rows, folder / "harq.png")


def _shares(row: Throughput) -> list[str]:
    counts = (row.decoded_1, row.decoded_2, row.decoded_3, row.decoded_4)
    return [f"{100 * count / row.blocks:.0f}%" for count in counts]


def _plot(rows: Sequence[Throughput], path: Path) -> None:
    """A panel per channel: throughputs, what ideal codes would reach, and the capacity."""
    channels = list(dict.fromkeys(row.channel for row in rows))
    figure = Figure(figsize=(5.5 * len(channels), 4.6), layout="constrained")
    panels = figure.subplots(1, len(channels), squeeze=False, sharey=True)[0]
    for axes, channel in zip(panels, channels, strict=True):
        own = [row for row in rows if row.channel == channel]
        scheme = get_mcs(own[0].mcs)
        # Over fading the limits have no steps, but take long to compute.
        count = 300 if channel == AWGN else 40
        reach = np.linspace(own[0].es_n0_db, max(row.es_n0_db for row in own), count)
        bound = [capacity(scheme.modulation, channel, db) for db in reach]
        axes.plot(reach, bound, "k--", label="capacity" if channel == AWGN else "ergodic capacity")
        for index, kind in enumerate(KINDS):
            ideal = [limit(scheme, kind, channel, db) for db in reach]
            axes.plot(reach, ideal, ":", color=f"C{index}", linewidth=1)
            curve = [row for row in own if row.combining == kind.name]
            axes.errorbar(*_points(curve), fmt="o-", color=f"C{index}", label=kind.name, **_MARKS)
        whole = [row for row in own if row.combining == WHOLE]
        if whole:
            axes.errorbar(*_points(whole), fmt="kD", label=WHOLE, **_MARKS)
        axes.plot([], [], ":", color="gray", linewidth=1, label="limits of long ideal codes")
        axes.set(title=f"{channel}, {scheme.name}", xlabel="Es/N0 / dB")
        axes.set_ylim(0, 1.02 * scheme.bits_per_symbol)
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8, loc="upper left")
    panels[0].set_ylabel("bit per channel use (Mbit/s at 1 Msymbol/s)")
    figure.savefig(path, dpi=120)


def _points(rows: Sequence[Throughput]) -> tuple[list[float], list[float], FloatArray]:
    """SNRs, throughputs and their errors, as a plot takes them."""
    y = [row.throughput for row in rows]
    errors = np.array([[row.throughput - row.low, row.high - row.throughput] for row in rows]).T
    return [row.es_n0_db for row in rows], y, errors
