"""``sscc bench zmq``: samples a second through ZeroMQ, and what it adds to the receiver.

Another process sends, this one receives, over a Unix socket. *Through ZeroMQ*: samples are taken
and thrown away. *Whole rx*: the flow behind ``sscc rx`` receives a message of random bytes, which
arrives whole and is then refused by the codec, so that no image is decoded. The yardstick is the
receiver alone, :mod:`benchmarks.receiver`, on the same samples in the same run.

Samples a second count from the first arrival to the last, and depend on what else the machine does;
*times the receiver* compares the CPU time of this process, per sample, with the receiver's.
"""

from __future__ import annotations

import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from benchmarks import receiver as alone
from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.link import SOURCE_STAGE
from flowgraphs.path import WAVEFORMS
from flowgraphs.receive import ReceiveConfig, receive
from flowgraphs.stream import ComplexArray, SampleSource, write_all
from source_codec import Codec
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

PATTERNS = (("push", "pull"), ("pub", "sub"), ("rep", "req"))
WAVEFORM = "single-carrier"
SAMPLES = 1 << 22
ROUNDS = 3
_SILENT_S = 30.0  # a sender that is not heard for so long has failed


@dataclass(frozen=True)
class Throughput:
    """A row of the table.

    Attributes:
        name: patterns of both ends, with tags or not; or that of the receiver alone.
        what: "samples", "rx" or "receiver".
        samples: received in each round.
        exact: all of them arrived, or the message did.
        samples_per_s: in the fastest round, by the clock on the wall.
        cpu_ns_per_sample: CPU time of the receiving process, in the best round.
        times_receiver: that over the receiver's alone.
    """

    name: str
    what: str
    samples: int
    exact: bool
    samples_per_s: float
    cpu_ns_per_sample: float
    times_receiver: float


@dataclass(frozen=True)
class _Run:
    """A round.

    Attributes:
        exact: see :class:`Throughput`.
        samples: that the times are of.
        wall_s, cpu_s: times.
    """

    exact: bool
    samples: int
    wall_s: float
    cpu_s: float


def measure(tags: Sequence[bool], seed: int, progress: Progress) -> list[Throughput]:
    """All patterns, without and with the receiver behind them.

    Args:
        tags: whether messages have tag headers; several for rows of each.
        seed: of message and noise.
        progress: called with the fraction done.
    """
    waveform = WAVEFORMS[WAVEFORM]
    message, samples = alone.transmission(waveform, seed)
    codec = Codec.load()
    noise = np.resize(samples, SAMPLES)
    yardstick = partial(_receiver_alone, message, samples)
    yardstick()  # all kernels are compiled
    options = [(out, into, tag) for tag in tags for out, into in PATTERNS]
    runs: dict[tuple[str, str], Callable[[], _Run]] = {(WAVEFORM, "receiver"): yardstick}
    for out, into, tag in options:
        name = f"{out} to {into}{', tags' if tag else ''}"
        runs[name, "samples"] = partial(_samples_through, out, into, tag, noise)
        runs[name, "rx"] = partial(_whole_rx, out, into, tag, message, samples, codec)
    rounds: dict[tuple[str, str], list[_Run]] = {key: [] for key in runs}
    for index in range(ROUNDS):  # side by side: what else the machine does is in all of them
        for place, (key, run) in enumerate(runs.items()):
            rounds[key].append(run())
            progress((index + (place + 1) / len(runs)) / ROUNDS)
    least = {key: min(run.cpu_s / run.samples for run in own) for key, own in rounds.items()}
    receiver_s = least[WAVEFORM, "receiver"]
    return [
        Throughput(
            name,
            what,
            own[0].samples,
            all(run.exact for run in own),
            max(run.samples / run.wall_s for run in own),
            1e9 * least[name, what],
            least[name, what] / receiver_s,
        )
        for (name, what), own in rounds.items()
    ]


def _receiver_alone(message: bytes, samples: ComplexArray) -> _Run:
    wall_s, cpu_s = time.perf_counter(), time.process_time()
    received = alone.receive(WAVEFORMS[WAVEFORM], samples)
    wall_s, cpu_s = time.perf_counter() - wall_s, time.process_time() - cpu_s
    return _Run(received == [message], samples.size, wall_s, cpu_s)


def _samples_through(out: str, into: str, tags: bool, samples: ComplexArray) -> _Run:
    with _sender(out, into, tags, samples) as source:
        count = 0
        while count < samples.size and (part := source.read(_SILENT_S)) is not None and part.size:
            count += part.size
        wall_s, cpu_s = source.elapsed()
        counted = max(count - source.first, 1)
        return _Run(count == samples.size, counted, wall_s, cpu_s)


def _whole_rx(
    out: str, into: str, tags: bool, message: bytes, samples: ComplexArray, codec: Codec
) -> _Run:
    with _sender(out, into, tags, samples) as source:
        ended = lambda: source.status.samples >= samples.size  # noqa: E731
        report = receive(source, ReceiveConfig(WAVEFORM), codec, lambda picture: "", ended)
        wall_s, cpu_s = source.elapsed()
        (image,) = report.images or (None,)
        arrived = image is not None and (image.stage_failed, image.bytes) == (
            SOURCE_STAGE,  # the digest was right, and the codec refused the random bytes
            len(message),
        )
        return _Run(arrived, samples.size, wall_s, cpu_s)


class _Timed(SampleSource):
    """A source that knows when its first samples came.

    Attributes:
        first: how many there were.
    """

    def __init__(self, source: SampleSource) -> None:
        super().__init__(source.address, _SILENT_S)
        self._source = source
        self.status = source.status
        self._started: tuple[float, float] | None = None
        self.first = 0

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        samples = self._source.read(timeout_s)
        if samples is not None and samples.size and self._started is None:
            self._started = time.perf_counter(), time.process_time()
            self.first = samples.size
        return samples

    def elapsed(self) -> tuple[float, float]:
        """Seconds since then, by the clock and of CPU time; those of a moment if nothing came."""
        wall_s, cpu_s = self._started or (time.perf_counter(), time.process_time())
        return max(time.perf_counter() - wall_s, 1e-9), time.process_time() - cpu_s

    def close(self) -> None:
        """Close the source."""
        self._source.close()


@contextmanager
def _sender(out: str, into: str, tags: bool, samples: ComplexArray) -> Iterator[_Timed]:
    """A process that sends samples once, and the source that they come from."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"//{Path(folder) / 'samples'}?tags={int(tags)}"
        context = multiprocessing.get_context("spawn")
        process = context.Process(target=_send, args=(f"zmq+{out}:{place}", samples))
        process.start()
        try:
            with _Timed(open_source(f"zmq+{into}:{place}")) as source:
                yield source
        finally:
            process.terminate()  # all has arrived
            process.join()


def _send(uri: str, samples: ComplexArray) -> None:
    """What the other process does."""
    with open_sink(uri) as sink:
        write_all(sink, samples, lambda: False)
        time.sleep(_SILENT_S)  # the receiver ends this process when it has everything


def table(rows: Sequence[Throughput]) -> Table:
    """The figures for people."""
    from rich.table import Table

    grid = Table(title="Msample/s, and CPU time over that of the receiver alone")
    for heading in ("from ZeroMQ", "samples alone", "CPU", "whole rx", "CPU", "exact"):
        grid.add_column(heading, justify="left" if heading == "from ZeroMQ" else "right")
    cells = {(row.name, row.what): row for row in rows}
    for name in dict.fromkeys(row.name for row in rows):
        own = [cells.get((name, what)) for what in ("samples", "rx")]
        own = [None, cells[name, "receiver"]] if (name, "receiver") in cells else own
        figures = [
            text
            for row in own
            for text in (
                ("", "")
                if row is None
                else (f"{row.samples_per_s / 1e6:.1f}", f"{row.times_receiver:.3f}")
            )
        ]
        exact = all(row.exact for row in own if row is not None)
        label = f"none: {name}" if (name, "receiver") in cells else name
        grid.add_row(label, *figures, "yes" if exact else "NO")
    return grid
