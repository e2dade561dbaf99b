r"""Carrier and timing of one frame, from its known symbols.

The instants of the symbols and the rotation of the carrier are straight lines,

.. math:: \tau_k = \tau_0 + M(1 + \epsilon) k, \qquad
    y_k = e^{-j 2\pi \nu \tau_k}\; (r * g)(\tau_k),

with the start :math:`\tau_0`, the clock offset :math:`\epsilon`, and the carrier offset
:math:`\nu` in cycles per sample. Each is chosen to maximise the energy that the known symbols
collect. Over a short stretch, where the channel is constant, that is the maximum-likelihood
criterion :math:`|\sum_k y_k x_k^*|^2`; over a frame the channel may fade, so the sums are taken
over segments and their energies are added.

1. :func:`acquire`: from the detector's guess, with the preamble: time and carrier together.
2. :func:`refine`: with all known symbols once the header is decoded: carrier first (the maximum of
   a periodogram), then clock offset and start (the summit of a paraboloid through the energies).
3. :func:`timing_correction`: with decided data symbols too. Between unknown neighbours a lone pilot
   sees their pulses' slopes as noise, at any SNR; when nearly all symbols are known these cancel.

Carrier and clock are not taken to come from one oscillator: radios with separate ones exist, and
both are measured well enough without.

Reference:
    U. Mengali, A. N. D'Andrea, "Synchronization Techniques for Digital Receivers", 1997: 3.2
    (data-aided frequency estimation), 7.4 (data-aided timing).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt
from scipy.fft import fft, next_fast_len

from phy.pulse_shaping import Pulse, matched

ComplexArray = npt.NDArray[np.complex64]
IntArray = npt.NDArray[np.int64]

_SEGMENT = 256  # symbols over which the channel is taken as constant while the clock is measured
_COARSE_OFFSETS = np.linspace(-0.75, 0.75, 7)  # symbols around the detector's guess
_FINE_OFFSETS = np.linspace(-0.1, 0.1, 3)
LARGEST_CLOCK_OFFSET = 100e-6
"""Largest clock offset that is looked for, relative: two oscillators of 50 ppm."""
_CLOCK_GRID = np.linspace(-LARGEST_CLOCK_OFFSET, LARGEST_CLOCK_OFFSET, 13)
_CELL = 64  # symbols joined for the fine measurement of the carrier
_SLOPE_STEP = 0.05  # symbols to either side, where slopes are measured
# Start (in symbols) and clock are then moved to the summit of a paraboloid.
_START_STEP, _CLOCK_STEP = 0.04, 6e-6
_NEWTON_STEPS = 2
_SURROUNDINGS = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
_PARABOLOID = np.linalg.pinv(
    np.array([[1, i, j, i * i, i * j, j * j] for i, j in _SURROUNDINGS], dtype=np.float64)
)


@dataclass(frozen=True)
class Synchronization:
    """Where the symbols of a frame lie.

    Attributes:
        start: instant of the first symbol, in samples of the buffer it was measured in.
        carrier: carrier offset in cycles per sample.
        clock: clock offset, relative: symbols are M (1 + clock) samples apart.
        metric: energy that the known symbols collected coherently, relative to all energy at their
            instants, times their number: about 1 for noise.
    """

    start: float
    carrier: float
    clock: float = 0.0
    metric: float = 0.0

    def instants(self, places: IntArray, samples_per_symbol: int) -> npt.NDArray[np.float64]:
        """Instants of the symbols at some places of the frame, in samples."""
        spacing = samples_per_symbol * (1 + self.clock)
        return self.start + spacing * places.astype(np.float64)


@dataclass(frozen=True)
class Baseband:
    """Samples turned back by a carrier offset, and the pulse that is in them.

    Attributes:
        samples: (n,) complex64, derotated.
        carrier: by how much, cycles per sample; the phase is that of the first sample.
        pulse: the transmitter's.
    """

    samples: ComplexArray
    carrier: float
    pulse: Pulse

    @classmethod
    def of(cls, samples: ComplexArray, carrier: float, pulse: Pulse) -> Baseband:
        """Derotates (n,) samples by a carrier offset."""
        turned = np.empty(samples.size, dtype=np.complex64)
        _derotate(samples, carrier, turned)
        return cls(turned, carrier, pulse)

    def symbols(self, sync: Synchronization, places: IntArray, late: float = 0.0) -> ComplexArray:
        """The matched filter's output at some places of a frame.

        A carrier that differs a little from the one taken out (by much less than a cycle per pulse)
        is taken out of the symbols.

        Arguments:
            sync: of the frame, relative to the first sample.
            places: (k,) indices of symbols, ascending.
            late: symbols by which to look too late.

        Returns:
            (k,) complex64.
        """
        M = self.pulse.samples_per_symbol
        instants = sync.instants(places, M)
        found = self.pulse.matched(self.samples, instants + M * late)
        if sync.carrier != self.carrier:
            left = sync.carrier - self.carrier
            _turn(found, places, left * sync.start, left * M * (1 + sync.clock))
        return found


@numba.njit(cache=True, nogil=True)
def _derotate(samples: ComplexArray, carrier: float, out: ComplexArray) -> None:  # pragma: no cover
    """``out[n] = samples[n] exp(-2 pi j carrier n)``, by a phasor that is renewed now and then."""
    step = np.exp(-2j * np.pi * carrier)
    for first in range(0, samples.size, 64):
        phasor = np.exp(-2j * np.pi * ((carrier * first) % 1.0))
        for n in range(first, min(first + 64, samples.size)):
            out[n] = samples[n] * np.complex64(phasor)
            phasor *= step


@numba.njit(cache=True, nogil=True)
def _turn(
    symbols: ComplexArray, places: IntArray, start: float, step: float
) -> None:  # pragma: no cover - compiled
    """``symbols[k] *= exp(-2 pi j (start + step places[k]))``; by a phasor where places follow."""
    phasor = rotation = np.exp(-2j * np.pi * step)
    for k in range(symbols.size):
        if k % 64 == 0 or places[k] != places[k - 1] + 1:
            phasor = np.exp(-2j * np.pi * ((start + step * places[k]) % 1.0))
        else:
            phasor *= rotation
        symbols[k] *= np.complex64(phasor)


def vertex(values: npt.NDArray[np.float64], best: int) -> float:
    """Offset, in steps of the grid, of the maximum of a parabola around entry `best`."""
    if not 0 < best < values.size - 1:
        return 0.0
    before, at, after = values[best - 1 : best + 2]
    curvature = before - 2 * at + after
    return float(np.clip(0.5 * (before - after) / curvature, -1, 1)) if curvature < 0 else 0.0


def spectral_peak(z: ComplexArray, reach: float) -> tuple[float, float]:
    """The strongest line of one or several series.

    Arguments:
        z: (..., n) complex; the periodograms of all series are added.
        reach: largest frequency to be found, in cycles per entry.

    Returns:
        Frequency in cycles per entry, and height.
    """
    size = next_fast_len(4 * z.shape[-1])
    power = np.sum(np.abs(fft(z, size)).reshape(-1, size) ** 2, axis=0)
    bins = min(int(np.ceil(reach * size)), size // 2 - 1)
    around = np.concatenate([power[-bins:], power[: bins + 1]]).astype(np.float64)
    best = int(np.argmax(around))
    return (best - bins + vertex(around, best)) / size, float(around[best])


def acquire(
    samples: ComplexArray, pulse: Pulse, preamble: ComplexArray, guess: Synchronization
) -> Synchronization:
    """Time and carrier offset from the preamble.

    Arguments:
        samples: (n,) complex64 around the preamble.
        pulse: the transmitter's.
        preamble: (k,) complex64 known symbols of unit modulus.
        guess: start to within a symbol, carrier to within a few parts of 1 / (k M).

    Returns:
        The same, to a few hundredths of a symbol and of 1 / (k M) at moderate SNR.
    """
    M = pulse.samples_per_symbol
    places = np.arange(preamble.size)
    sync = guess
    for offsets in (_COARSE_OFFSETS, _FINE_OFFSETS):
        base = Baseband.of(samples, sync.carrier, pulse)
        heights, lines, energies = np.empty((3, offsets.size))
        for i, offset in enumerate(offsets):
            y = base.symbols(sync, places, float(offset))
            lines[i], heights[i] = spectral_peak(y * np.conj(preamble), 4 / preamble.size)
            energies[i] = np.vdot(y, y).real
        best = int(np.argmax(heights))
        step = float(offsets[1] - offsets[0])
        offset = float(offsets[best]) + step * vertex(heights, best)
        sync = Synchronization(
            start=sync.start + M * offset,
            carrier=sync.carrier + float(lines[best]) / M,
            metric=float(heights[best] / max(energies[best], 1e-30)),
        )
    return sync


def refine(
    base: Baseband, known: IntArray, symbols: ComplexArray, sync: Synchronization
) -> Synchronization:
    """Carrier, clock and start from all known symbols of a frame.

    Arguments:
        base: samples that hold the frame, derotated by about its carrier offset.
        known: (k,) ascending places of known symbols.
        symbols: (k,) their values, of unit modulus.
        sync: what :func:`acquire` found.

    Returns:
        The refined values.
    """
    pulse, M = base.pulse, base.pulse.samples_per_symbol
    sync = replace(sync, carrier=sync.carrier + _line(base, known, symbols, sync) / M)
    turn = 2j * np.pi * (sync.carrier - base.carrier) * M
    turned = (symbols * np.exp(turn * known)).astype(np.complex64)
    segment = known // _SEGMENT
    starts = np.flatnonzero(np.diff(segment, prepend=-1, append=segment[-1] + 1))

    def energy(start: float, clock: float, first: int = 0) -> float:
        instants = Synchronization(start, 0.0, clock).instants(known, M)
        return float(
            _segment_energy(base.samples, instants, pulse.table, M, turned, starts[first:])
        )

    # In the header the clock's offset hardly shows: the grid is searched in the rest of the frame.
    rest = min(int(np.searchsorted(known[starts[:-1]], _SEGMENT * 4)), starts.size - 2)
    energies = np.array([energy(sync.start, clock, rest) for clock in _CLOCK_GRID])
    best = int(np.argmax(energies))
    step = float(_CLOCK_GRID[1] - _CLOCK_GRID[0])
    clock = float(_CLOCK_GRID[best]) + step * vertex(energies, best)
    start = sync.start
    for _ in range(_NEWTON_STEPS):
        energies = np.array(
            [energy(start + M * _START_STEP * i, clock + _CLOCK_STEP * j) for i, j in _SURROUNDINGS]
        )
        by_start, by_clock = _summit(energies)
        start += M * _START_STEP * by_start
        clock += _CLOCK_STEP * by_clock
    sync = replace(sync, start=start, clock=clock)
    return replace(sync, carrier=sync.carrier + _line(base, known, symbols, sync) / M)


def _summit(energies: npt.NDArray[np.float64]) -> tuple[float, float]:
    """Maximum of the paraboloid through the energies on :data:`_SURROUNDINGS`, at most 2 away."""
    _, i, j, ii, ij, jj = _PARABOLOID @ energies
    determinant = 4 * ii * jj - ij * ij
    if ii >= 0 or determinant <= 0:
        return 0.0, 0.0  # no maximum near
    u, v = (ij * j - 2 * jj * i) / determinant, (ij * i - 2 * ii * j) / determinant
    return float(np.clip(u, -2, 2)), float(np.clip(v, -2, 2))


@numba.njit(cache=True, nogil=True, fastmath=True)
def _segment_energy(
    samples: ComplexArray,
    instants: npt.NDArray[np.float64],
    table: npt.NDArray[np.float32],
    spacing: int,
    symbols: ComplexArray,
    starts: IntArray,
) -> float:  # pragma: no cover - compiled
    """Sum over segments of |sum of matched-filtered y x*|^2 / length."""
    origin = starts[0]
    y = np.empty(starts[-1] - origin, np.complex64)
    matched(samples, instants[origin : starts[-1]], table, spacing, y)
    total = 0.0
    for s in range(starts.size - 1):
        collected = np.complex64(0)
        for k in range(starts[s], starts[s + 1]):
            collected += y[k - origin] * np.conj(symbols[k])
        power = float(collected.real) ** 2 + float(collected.imag) ** 2
        total += power / (starts[s + 1] - starts[s])
    return total


def timing_correction(
    base: Baseband, sync: Synchronization, places: IntArray, expected: ComplexArray
) -> Synchronization:
    r"""Start and clock from decided symbols: one Gauss-Newton step of the least-squares fit.

    The matched filter's output at :math:`\tau_k + \delta_k` is, to first order in the error,
    :math:`s_k (1 + \delta_k^2 h''(0) / 2)` with the Nyquist pulse h and the expected value
    :math:`s_k`, so that the slope of :math:`\mathrm{Re}\{s_k^* y\}` there is
    :math:`|s_k|^2 h''(0)\, \delta_k`; the error is fitted as a line over the frame.

    Arguments:
        base: samples that hold the frame, derotated by about its carrier offset.
        sync: of the frame, as it is.
        places: (k,) ascending indices of symbols.
        expected: (k,) complex64, channel gain times decided symbol.

    Returns:
        The corrected values.
    """
    M = base.pulse.samples_per_symbol
    after = base.symbols(sync, places, _SLOPE_STEP)
    before = base.symbols(sync, places, -_SLOPE_STEP)
    slope = np.real((after - before) * np.conj(expected)).astype(np.float64) / (2 * _SLOPE_STEP)
    # White noise passes the matched filter, so every symbol counts by its energy.
    curvature = base.pulse.curvature * np.abs(expected).astype(np.float64) ** 2
    k = places.astype(np.float64)
    matrix = np.array(
        [[curvature.sum(), curvature @ k], [curvature @ k, curvature @ (k * k)]], dtype=np.float64
    )
    late, slow = np.linalg.solve(matrix, np.array([slope.sum(), slope @ k]))
    return replace(sync, start=sync.start - M * float(late), clock=sync.clock - float(slow))


def _line(base: Baseband, known: IntArray, symbols: ComplexArray, sync: Synchronization) -> float:
    """Residual carrier in cycles per symbol: the strongest line among the known symbols."""
    z = base.symbols(sync, known) * np.conj(symbols)
    # The densely known beginning gives the neighbourhood, the whole frame the fine value.
    dense = int(np.argmax(np.diff(known, append=known[-1] + 2) > 1)) + 1
    coarse, _ = spectral_peak(z[:dense], 0.02)
    z *= np.exp(-2j * np.pi * coarse * known).astype(np.complex64)
    # What is left turns by a small part of a cycle in a few pilots, which may be joined.
    cells = known // _CELL
    spread = np.zeros(int(cells[-1]) + 1, dtype=np.complex64)
    np.add.at(spread, cells, z)
    fine, _ = spectral_peak(spread, _CELL / max(dense, _CELL))
    return coarse + fine / _CELL
