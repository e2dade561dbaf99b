"""``sscc bench spectrum``: power spectral density, occupied bandwidth and peaks of the waveforms.

Frames of random bytes back to back, in the longest frames, as the transmitter sends them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from scipy.signal import resample_poly

from benchmarks.csv_file import write_csv
from benchmarks.simulation import MCS, SYMBOL_RATE_HZ, longest_message
from flowgraphs.link import WAVEFORMS
from phy import Transmitter, TransmitterConfig
from phy.spectrum import occupied_bandwidth, peak_to_average_ccdf, power_spectral_density
from phy.waveform import ComplexArray, Waveform
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

FloatArray = npt.NDArray[np.float64]

SHAPED = ("single-carrier", "ofdm")
"""Waveforms with more than one sample a symbol, of :data:`flowgraphs.link.WAVEFORMS`."""
SIDE_HZ = 0.8e6
"""Where the density beside the band is read, half a bandwidth from a neighbour's centre."""
_SIDE_WIDTH_HZ = 40e3  # over which it is averaged
_BAND_HZ = 0.3e6  # either way, the flat part that it is related to
_OVERSAMPLING = 4  # of the samples, to see the peaks between them
_RATIOS_DB = np.arange(0.0, 12.01, 0.1)


@dataclass(frozen=True)
class Spectrum:
    """A row of the table.

    Attributes:
        waveform: its name.
        frames: that were sent.
        occupied_bandwidth_hz: width of the band with 99 % of the power, Hz.
        side_density_db: density at +-0.8 MHz over that in the flat part of the band, dB.
        peak_1_percent_db: power over its mean that 1 % of the time exceeds, dB.
        peak_01_percent_db: the same for 0.1 %, dB.
    """

    waveform: str
    frames: int
    occupied_bandwidth_hz: float
    side_density_db: float
    peak_1_percent_db: float
    peak_01_percent_db: float


@dataclass(frozen=True)
class Curves:
    """What the figure shows of a waveform.

    Attributes:
        waveform: its name.
        frequency_hz: (f,) ascending.
        density_db: (f,) over the flat part of the band, dB.
        ratio_db: (r,) power over its mean, dB.
        ccdf: (r,) share of the time in which that is exceeded.
    """

    waveform: str
    frequency_hz: FloatArray
    density_db: FloatArray
    ratio_db: FloatArray
    ccdf: FloatArray


def transmission(waveform: Waveform, frames: int, seed: int) -> ComplexArray:
    """The samples of some frames of random bytes."""
    rng = np.random.default_rng(seed)
    transmitter = Transmitter(TransmitterConfig(MCS, depth=1, waveform=waveform))
    message = longest_message(frames=1)
    parts = [part for _ in range(frames) for part in transmitter.send(rng.bytes(message))]
    return np.concatenate([*parts, transmitter.flush()])


def measure_one(name: str, frames: int, seed: int) -> tuple[Spectrum, Curves]:
    """Figures and curves of a waveform.

    Args:
        name: of :data:`SHAPED`.
        frames: to be sent.
        seed: of their bytes.
    """
    waveform = WAVEFORMS[name]
    samples = transmission(waveform, frames, seed)
    rate = SYMBOL_RATE_HZ * waveform.samples_per_symbol
    frequency, density = power_spectral_density(samples, rate)
    distance = np.abs(frequency)
    flat = density[distance <= _BAND_HZ].mean()
    side = density[np.abs(distance - SIDE_HZ) <= _SIDE_WIDTH_HZ / 2].mean()
    power = np.abs(resample_poly(samples, _OVERSAMPLING, 1)) ** 2
    peaks = 10 * np.log10(np.quantile(power, [0.99, 0.999]) / power.mean())
    row = Spectrum(
        name,
        frames,
        occupied_bandwidth(frequency, density),
        float(10 * np.log10(side / flat)),
        float(peaks[0]),
        float(peaks[1]),
    )
    ccdf = peak_to_average_ccdf(np.sqrt(power), _RATIOS_DB)
    return row, Curves(name, frequency, 10 * np.log10(density / flat), _RATIOS_DB, ccdf)


def measure(
    waveforms: Sequence[str], frames: int, seed: int, progress: Progress
) -> tuple[list[Spectrum], list[Curves]]:
    """All waveforms.

    Args:
        waveforms: of :data:`SHAPED`.
        frames: of each.
        seed: of their bytes.
        progress: called with the fraction done.
    """
    rows, curves = [], []
    for index, name in enumerate(waveforms):
        row, curve = measure_one(name, frames, seed)
        rows.append(row)
        curves.append(curve)
        progress((index + 1) / len(waveforms))
    return rows, curves


def _cells(row: Spectrum) -> list[str]:
    return [
        row.waveform,
        f"{row.occupied_bandwidth_hz / 1e6:.3f} MHz",
        f"{row.side_density_db:.0f} dB",
        f"{row.peak_1_percent_db:.1f} dB",
        f"{row.peak_01_percent_db:.1f} dB",
    ]


def table(rows: Sequence[Spectrum]) -> Table:
    """The figures for people."""
    from rich.table import Table

    grid = Table("waveform", title="1 Msymbol/s")
    side = f"density at +-{SIDE_HZ / 1e6:g} MHz"
    for heading in ("99 % of the power in", side, "power over mean, 1 %", "0.1 %"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(*_cells(row))
    return grid


def write_results(rows: Sequence[Spectrum], curves: Sequence[Curves], folder: Path) -> None:
    """Writes spectrum.csv and spectrum.png into a folder."""
    write_csv(rows, folder / "spectrum.csv")
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for curve in curves:
        left.plot(curve.frequency_hz / 1e6, curve.density_db, label=curve.waveform, linewidth=1)
        seen = curve.ccdf > 0
        right.plot(curve.ratio_db[seen], curve.ccdf[seen], label=curve.waveform)
    # Of many independent carriers: exponentially distributed power.
    right.plot(_RATIOS_DB, np.exp(-(10 ** (_RATIOS_DB / 10))), "k--", label="Gaussian", linewidth=1)
    left.set(xlabel="frequency / MHz", ylabel="density / dB", ylim=(-70, 5))
    left.set_xticks(np.arange(-1.0, 1.01, 0.5))
    right.set(xlabel="power over its mean / dB", ylabel="share of the time", yscale="log")
    right.set(ylim=(1e-5, 1.2), xlim=(0, 12))
    for axes in (left, right):
        axes.grid(alpha=0.3)
        axes.legend(fontsize=8)
    figure.savefig(folder / "spectrum.png", dpi=120)
