"""``sscc bench ldpc``: throughput and block error rate of the LDPC decoder, beside Sionna's.

Both decoders get the same noisy words and run on one thread; Sionna's (belief propagation with a
flooding schedule, on the CPU, without early stop) takes part if it is installed. Throughput is
information bits by CPU time; what carries over to another machine is the ratio of two rows.
"""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure
from numpy.typing import NDArray

from benchmarks.csv_file import write_csv
from phy.ldpc import LdpcCode
from phy.ldpc.normal_approximation import normal_approximation
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

Bits = NDArray[np.uint8]
Llr = NDArray[np.float32]
Decoder = Callable[[Llr], Bits]

OURS = "ddm-sscc"
PEER = "sionna"
BOUND = "normal approximation"
MAX_ITERATIONS = 25
PEER_ITERATIONS = (20, 50)

THROUGHPUT_CODE = LdpcCode(k=8448, n=16896)
THROUGHPUT_ITERATIONS = 10
_EARLY_STOP_EB_N0_DB = 2.0

BLER_POINTS: dict[LdpcCode, tuple[float, ...]] = {
    LdpcCode(k=1024, n=2048, bits_per_symbol=2): (0.5, 0.75, 1.0, 1.25, 1.5),
    LdpcCode(k=4224, n=8448, bits_per_symbol=2): (0.6, 0.7, 0.8, 0.9, 1.0, 1.1, 1.2),
    LdpcCode(k=4224, n=6336, bits_per_symbol=2): (1.3, 1.45, 1.6, 1.75, 1.9),
    LdpcCode(k=8448, n=10138, bits_per_symbol=2): (2.4, 2.55, 2.7, 2.85, 3.0),
}
"""Codes, and Eb/N0 in dB at which their block error rate is measured."""

_WORDS_AT_ONCE = 50
_CONFIDENCE_Z = 1.96  # 95 %


def peer_available() -> bool:
    """Whether Sionna is installed."""
    return importlib.util.find_spec("sionna") is not None


def peer_decoder(code: LdpcCode, iterations: int) -> Decoder:
    """Sionna's decoder of the same code: exact check nodes, flooding, a fixed number of iterations.

    Sionna's LLRs are log p(1)/p(0), the reverse of ours.
    """
    import torch
    from sionna.phy.fec.ldpc import LDPC5GDecoder, LDPC5GEncoder

    torch.set_num_threads(1)
    encoder = LDPC5GEncoder(code.k, code.n, code.bits_per_symbol)
    decoder = LDPC5GDecoder(encoder, cn_update="boxplus", num_iter=iterations)

    def decode(llr: Llr) -> Bits:
        with torch.no_grad():
            return np.asarray(decoder(torch.from_numpy(-llr)).numpy(), dtype=np.uint8)

    return decode


def noisy_words(
    code: LdpcCode, words: int, eb_n0_db: float, rng: np.random.Generator
) -> tuple[Bits, Llr]:
    """Random words over QPSK and AWGN.

    Returns:
        Information bits, shape (words, k), and LLRs of the code bits, shape (words, n).
    """
    bits = rng.integers(0, 2, (words, code.k), dtype=np.uint8)
    variance = 1 / (2 * code.k / code.n * 10 ** (eb_n0_db / 10))  # on each axis, sent as +-1
    noise = rng.standard_normal((words, code.n), dtype=np.float32)
    received = 1 - 2 * code.encode(bits).astype(np.float32) + np.float32(variance**0.5) * noise
    return bits, received * np.float32(2 / variance)


# --- throughput -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Throughput:
    """A row of the throughput table.

    Attributes:
        name: decoder.
        k: information bits.
        n: code bits.
        iterations: iterations, the mean if the decoder stops early.
        early_stop: whether it does.
        eb_n0_db: at which Eb/N0, dB.
        info_mbit_s: information bits by CPU time on one thread, Mbit/s.
        times_peer: the same over Sionna's in this run; None without Sionna.
    """

    name: str
    k: int
    n: int
    iterations: float
    early_stop: bool
    eb_n0_db: float
    info_mbit_s: float
    times_peer: float | None


def measure_throughput(
    words: int, peer_words: int, seed: int, progress: Progress
) -> list[Throughput]:
    """Throughput of our decoders and of Sionna's.

    Args:
        words: words in each timed call of ours.
        peer_words: of Sionna's and of our sum-product reference.
        seed: of bits and noise.
        progress: called with the fraction done.
    """
    code, fixed = THROUGHPUT_CODE, THROUGHPUT_ITERATIONS
    _, llr = noisy_words(code, words, _EARLY_STOP_EB_N0_DB, np.random.default_rng(seed))
    few = llr[:peer_words]
    mean = float(code.decode(llr, MAX_ITERATIONS).iterations.mean())

    def ours(algorithm: str, iterations: int, stop: bool) -> Decoder:
        return lambda x: code.decode(x, iterations, algorithm=algorithm, early_stop=stop).bits

    contenders = [
        (f"{OURS} min-sum", fixed, False, llr, ours("min-sum", fixed, False)),
        (f"{OURS} min-sum", mean, True, llr, ours("min-sum", MAX_ITERATIONS, True)),
        (f"{OURS} sum-product", fixed, False, few, ours("sum-product", fixed, False)),
    ]
    if peer_available():
        contenders.append((f"{PEER} boxplus", fixed, False, few, peer_decoder(code, fixed)))
    calls = [partial(decode, received) for *_, received, decode in contenders]
    mbit_s = [
        len(received) * code.k / seconds / 1e6
        for (*_, received, _), seconds in zip(
            contenders, _cpu_seconds(calls, progress), strict=True
        )
    ]
    peer = mbit_s[-1] if peer_available() else None
    return [
        Throughput(
            name,
            code.k,
            code.n,
            iterations,
            stop,
            _EARLY_STOP_EB_N0_DB,
            speed,
            None if peer is None else speed / peer,
        )
        for (name, iterations, stop, *_), speed in zip(contenders, mbit_s, strict=True)
    ]


def _cpu_seconds(
    calls: Sequence[Callable[[], object]], progress: Progress, rounds: int = 5
) -> list[float]:
    """Least CPU time of each call in several rounds, after one in which kernels are compiled.

    Whatever else the machine does can only make a call slower, so that the least time says most
    of the program. All calls are made in each round: a quiet moment is there for all alike.
    """
    times: list[list[float]] = [[] for _ in calls]
    for done in range(rounds + 1):
        for call, own in zip(calls, times, strict=True):
            start = time.process_time()
            call()
            own.append(time.process_time() - start)
        progress((done + 1) / (rounds + 1))
    return [min(own[1:]) for own in times]


def throughput_table(rows: Sequence[Throughput]) -> Table:
    """The comparison for people."""
    from rich.table import Table

    code = rows[0]
    grid = Table("decoder", title=f"k = {code.k}, n = {code.n}, Eb/N0 = {code.eb_n0_db} dB")
    for heading in ("iterations", "info Mbit/s", f"x {PEER}"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(
            row.name,
            f"{row.iterations:.1f} (early stop)" if row.early_stop else f"{row.iterations:.0f}",
            f"{row.info_mbit_s:.3g}",
            "" if row.times_peer is None else f"{row.times_peer:.3g}",
        )
    return grid


# --- block error rate -------------------------------------------------------------------------


@dataclass(frozen=True)
class BlockErrorRate:
    """A row of the table of block error rates.

    Attributes:
        name: decoder, or the normal approximation (with no blocks).
        k: information bits.
        n: code bits.
        iterations: iterations at most; 0 for the normal approximation.
        eb_n0_db: Eb/N0, dB.
        blocks: blocks decoded.
        errors: of them wrong.
        bler: block error rate.
        low: lower end of its 95 % interval (Wilson).
        high: upper end.
    """

    name: str
    k: int
    n: int
    iterations: int
    eb_n0_db: float
    blocks: int
    errors: int
    bler: float
    low: float
    high: float


def wilson_interval(errors: int, blocks: int) -> tuple[float, float]:
    """95 % confidence interval of a proportion (E. B. Wilson, J. Am. Stat. Assoc. 22, 1927)."""
    z2 = _CONFIDENCE_Z**2
    centre = (errors + z2 / 2) / (blocks + z2)
    half = math.sqrt(z2 * (errors * (blocks - errors) / blocks + z2 / 4)) / (blocks + z2)
    return max(centre - half, 0.0), min(centre + half, 1.0)


def measure_bler(
    blocks: int,
    peer_blocks: int,
    seed: int,
    progress: Progress,
    points: dict[LdpcCode, tuple[float, ...]] = BLER_POINTS,
) -> list[BlockErrorRate]:
    """Block error rates on QPSK and AWGN; Sionna gets the first of our blocks.

    Args:
        blocks: blocks per code and Eb/N0.
        peer_blocks: of them for Sionna's decoders, 0 for none.
        seed: of bits and noise.
        progress: called with the fraction done.
        points: codes and their Eb/N0 in dB.
    """
    rows = []
    work = [(code, eb_n0_db) for code, values in points.items() for eb_n0_db in values]
    for index, (code, eb_n0_db) in enumerate(work):
        rows.append(_bound(code, eb_n0_db))
        rows += _measure_point(code, eb_n0_db, blocks, peer_blocks, (seed, index))
        progress((index + 1) / len(work))
    return rows


def _bound(code: LdpcCode, eb_n0_db: float) -> BlockErrorRate:
    bler = float(normal_approximation(code.k, code.n, eb_n0_db))
    return BlockErrorRate(BOUND, code.k, code.n, 0, eb_n0_db, 0, 0, bler, bler, bler)


def _measure_point(
    code: LdpcCode, eb_n0_db: float, blocks: int, peer_blocks: int, seed: tuple[int, int]
) -> Iterator[BlockErrorRate]:
    decoders: list[tuple[str, int, int, Decoder]] = [
        (OURS, MAX_ITERATIONS, blocks, lambda llr: code.decode(llr, MAX_ITERATIONS).bits)
    ]
    if peer_blocks and peer_available():
        decoders += [
            (PEER, i, min(peer_blocks, blocks), peer_decoder(code, i)) for i in PEER_ITERATIONS
        ]
    errors = [0] * len(decoders)
    rng = np.random.default_rng(seed)
    for first in range(0, blocks, _WORDS_AT_ONCE):
        bits, llr = noisy_words(code, min(_WORDS_AT_ONCE, blocks - first), eb_n0_db, rng)
        for index, (_, _, share, decode) in enumerate(decoders):
            count = min(len(bits), max(share - first, 0))
            if count:
                errors[index] += int((decode(llr[:count]) != bits[:count]).any(axis=1).sum())
    for (name, iterations, share, _), wrong in zip(decoders, errors, strict=True):
        low, high = wilson_interval(wrong, share)
        yield BlockErrorRate(
            name, code.k, code.n, iterations, eb_n0_db, share, wrong, wrong / share, low, high
        )


def bler_table(rows: Sequence[BlockErrorRate]) -> Table:
    """The rates for people."""
    from rich.table import Table

    grid = Table("decoder")
    for heading in ("Eb/N0 / dB", "errors", "BLER", "95 %"):
        grid.add_column(heading, justify="right")
    for (k, n), of_code in groupby(rows, key=lambda row: (row.k, row.n)):
        grid.add_section()
        grid.add_row(f"k = {k}, n = {n}")
        for row in of_code:
            measured = row.blocks > 0
            grid.add_row(
                _label(row),
                f"{row.eb_n0_db:.2f}",
                f"{row.errors} / {row.blocks}" if measured else "",
                f"{row.bler:.2g}",
                f"{row.low:.2g}-{row.high:.2g}" if measured else "",
            )
    return grid


def _label(row: BlockErrorRate) -> str:
    return f"{row.name}, {row.iterations} it." if row.iterations else row.name


def write_bler(rows: Sequence[BlockErrorRate], folder: Path) -> None:
    """Writes ldpc.csv and ldpc.png."""
    write_csv(rows, folder / "ldpc.csv")
    _plot(rows, folder / "ldpc.png")


def _plot(rows: Sequence[BlockErrorRate], path: Path) -> None:
    """A panel per code; where no block was wrong, an arrow down from the end of the interval."""
    codes = list(dict.fromkeys((row.k, row.n) for row in rows))
    figure = Figure(figsize=(9, 3.2 * -(-len(codes) // 2)), layout="constrained")
    panels = figure.subplots(-(-len(codes) // 2), 2, squeeze=False).ravel()
    for axes in panels[len(codes) :]:
        axes.remove()
    for axes, (k, n) in zip(panels, codes, strict=False):
        own = [row for row in rows if (row.k, row.n) == (k, n)]
        x = [row.eb_n0_db for row in own]
        reach = np.linspace(min(x) - 0.5, max(x), 100)
        axes.plot(reach, normal_approximation(k, n, reach), "k--", label=BOUND)
        measured = [row for row in own if row.blocks]
        for index, label in enumerate(dict.fromkeys(map(_label, measured))):
            curve = [row for row in measured if _label(row) == label]
            wrong = [row for row in curve if row.errors]
            axes.errorbar(
                [row.eb_n0_db for row in wrong],
                [row.bler for row in wrong],
                [[row.bler - row.low for row in wrong], [row.high - row.bler for row in wrong]],
                fmt="o-",
                color=f"C{index}",
                markersize=3,
                capsize=2,
                label=label,
            )
            for row in curve:
                if not row.errors:
                    axes.annotate(
                        "",
                        (row.eb_n0_db, row.high / 3),
                        (row.eb_n0_db, row.high),
                        arrowprops={"arrowstyle": "->", "color": f"C{index}"},
                    )
        axes.set(yscale="log", ylim=(1e-4, 1.2), title=f"k = {k}, n = {n}, rate {k / n:.2f}")
        axes.set(xlabel="Eb/N0 / dB", ylabel="block error rate")
        axes.grid(alpha=0.3)
    panels[0].legend(fontsize=8, loc="lower left")
    figure.savefig(path, dpi=120)
