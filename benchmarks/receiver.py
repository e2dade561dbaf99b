"""``sscc bench receiver``: samples a second through the whole receiver, and where the time goes.

Frames of random bytes, back to back, over white noise; the same samples as fast as they go, in
chunks as a radio gives them. What counts is the CPU time of all threads, which is the time on one
core. A plain FFT of the same samples, in blocks of 4096, is the yardstick that carries over to
other machines: a receiver that takes ten times as long as an FFT is a fast one anywhere.
"""

from __future__ import annotations

import cProfile
import pstats
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from flowgraphs.link import WAVEFORMS
from phy import (
    MessageReceived,
    Receiver,
    ReceiverConfig,
    Transmitter,
    TransmitterConfig,
    awgn,
)
from phy.waveform import Waveform
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

Samples = NDArray[np.complex64]

MCS = "qpsk-1/2"
ES_N0_DB = 6.0
MESSAGE_BYTES = 100_000
CHUNK = 1 << 16
ROUNDS = 3
_FFT = 4096
_LEAD_OUT = 4096  # samples after the last frame, which a synchronizer looks into
_WAVEFORM = "waveform"  # stands for the module of the waveform at hand

STAGES: dict[str, tuple[tuple[str, str], ...]] = {
    # stage: functions (module, name) whose time, with all that they call, is the stage's
    "detection": ((_WAVEFORM, "scan"), ("acquisition", "scan")),
    "header: channel": ((_WAVEFORM, "header"),),
    "header: decoding": (("frame", "decode_header"),),
    "payload: channel": ((_WAVEFORM, "payload"),),
    "demapping": (("modulation", "demap"),),
    "decoding": (("message", "add_frame"), ("message", "flush")),
}


@dataclass(frozen=True)
class Speed:
    """A row of the table.

    Attributes:
        name: of the waveform.
        waveform: the same, with its samples a symbol.
        mcs: modulation-and-coding scheme.
        samples: samples in each run.
        exact: the message came back.
        samples_per_s: samples by CPU time.
        symbols_per_s: symbols by CPU time.
        times_fft: CPU time over that of FFTs of the same samples, in this run.
        stages: share of each stage in the time; what is left is "other".
    """

    name: str
    waveform: str
    mcs: str
    samples: int
    exact: bool
    samples_per_s: float
    symbols_per_s: float
    times_fft: float
    stages: dict[str, float]


def transmission(waveform: Waveform, seed: int) -> tuple[bytes, Samples]:
    """A message of random bytes, and its samples with noise."""
    rng = np.random.default_rng(seed)
    message = rng.bytes(MESSAGE_BYTES)
    transmitter = Transmitter(TransmitterConfig(mcs=MCS, waveform=waveform))
    silence = np.zeros(_LEAD_OUT, dtype=np.complex64)
    sent = np.concatenate([*transmitter.send(message), transmitter.flush(), silence])
    # A symbol's energy is spread over its samples; the noise has N0 in each of them.
    spread = 10 * np.log10(waveform.samples_per_symbol)
    return message, awgn(ES_N0_DB - spread, seed=seed).process(sent).samples


def receive(waveform: Waveform, samples: Samples) -> list[bytes | None]:
    """The messages in the samples, with a receiver of its own."""
    receiver = Receiver(ReceiverConfig(waveform=waveform))
    events = []
    for start in range(0, samples.size, CHUNK):
        events += receiver.process(samples[start : start + CHUNK])
    events += receiver.flush()
    return [event.data for event in events if isinstance(event, MessageReceived)]


def measure(names: Sequence[str], seed: int, progress: Progress) -> list[Speed]:
    """Speeds of the receivers of some waveforms.

    Args:
        names: of :data:`flowgraphs.link.WAVEFORMS`.
        seed: of message and noise.
        progress: called with the fraction done.
    """
    rows = []
    for index, name in enumerate(names):
        waveform = WAVEFORMS[name]
        message, samples = transmission(waveform, seed)
        exact = receive(waveform, samples) == [message]  # and all kernels are compiled
        progress((index + 0.4) / len(names))
        seconds, yardstick = _least_cpu_seconds(
            lambda: receive(waveform, samples),  # noqa: B023 (called at once)
            lambda: np.fft.fft(samples[: samples.size // _FFT * _FFT].reshape(-1, _FFT)),  # noqa: B023
        )
        module = type(waveform).__module__.rpartition(".")[2]
        stages = _shares(lambda: receive(waveform, samples), module)  # noqa: B023
        progress((index + 1) / len(names))
        rows.append(
            Speed(
                name,
                f"{name}, {waveform.samples_per_symbol} a symbol",
                MCS,
                samples.size,
                exact,
                samples.size / seconds,
                samples.size / waveform.samples_per_symbol / seconds,
                seconds / yardstick,
                stages,
            )
        )
    return rows


def _least_cpu_seconds(*calls: Callable[[], object]) -> list[float]:
    """Least CPU time of each call in some rounds: what else the machine does only adds to it."""
    times: list[list[float]] = [[] for _ in calls]
    for _ in range(ROUNDS):
        for call, own in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            own.append(time.process_time() - start)
    return [min(own) for own in times]


def _shares(call: Callable[[], object], waveform: str) -> dict[str, float]:
    """Shares of the stages in the time of a call; the profiler slows all of them a little."""
    stages = {
        stage: {(waveform if module == _WAVEFORM else module, name) for module, name in functions}
        for stage, functions in STAGES.items()
    }
    profile = cProfile.Profile(time.process_time)
    profile.runcall(call)
    table = pstats.Stats(profile).stats  # type: ignore[attr-defined]
    total = sum(own for _, _, own, _, _ in table.values())
    shares = {
        stage: sum(
            cumulative
            for (path, _, name), (_, _, _, cumulative, _) in table.items()
            if (PurePath(path).stem, name) in functions
        )
        / total
        for stage, functions in stages.items()
    }
    return shares | {"other": max(1 - sum(shares.values()), 0.0)}


def table(rows: Sequence[Speed]) -> Table:
    """The figures for people."""
    from rich.table import Table

    grid = Table("receiver", title=f"{MCS}, Es/N0 = {ES_N0_DB:g} dB, one core")
    for row in rows:
        grid.add_column(row.name, justify="right")
    grid.add_row("Msample/s", *(f"{row.samples_per_s / 1e6:.2f}" for row in rows))
    grid.add_row("Msymbol/s", *(f"{row.symbols_per_s / 1e6:.2f}" for row in rows))
    grid.add_row("times an FFT of 4096", *(f"{row.times_fft:.0f}" for row in rows))
    grid.add_row("message exact", *("yes" if row.exact else "NO" for row in rows))
    grid.add_section()
    for stage in rows[0].stages:
        grid.add_row(stage, *(f"{row.stages[stage]:.0%}" for row in rows))
    return grid
