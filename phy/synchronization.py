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
3. :func:`timing_correction`: with the data symbols too, by their means. Between unknown neighbours
   a lone pilot sees their pulses' slopes as noise, at any SNR; when nearly all symbols are known
   these cancel. The carrier is corrected alike (:mod:`phy.phase_scoring`).

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
_RUN = 64  # samples or symbols turned, or added up, together
_CELL = 64  # symbols joined for the fine measurement of the carrier
_SLOPE_STEP = 0.05  # symbols to either side, where slopes are measured
_TINY = 1e-30
_LEAST_SHARE = 0.2  # of the information, below which a frame is not to be received anyway
# Start (in symbols) and clock are then moved to the summit of a paraboloid.
_START_STEP, _CLOCK_STEP = 0.04, 6e-6
_NEWTON_STEPS = 2
_SURROUNDINGS = np.array([(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)], dtype=np.float64)
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
def _phasors(step: float, count: int) -> ComplexArray:  # pragma: no cover - compiled
    """``exp(-2 pi j step k)`` for the k below `count`."""
    out = np.empty(count, np.complex64)
    for k in range(count):
        out[k] = np.exp(-2j * np.pi * ((step * k) % 1.0))
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def _derotate(samples: ComplexArray, carrier: float, out: ComplexArray) -> None:  # pragma: no cover
    """``out[n] = samples[n] exp(-2 pi j carrier n)``, by phasors for a run, times its first one."""
    phasors = _phasors(carrier, _RUN)
    for first in range(0, samples.size, _RUN):
        turn = np.complex64(np.exp(-2j * np.pi * ((carrier * first) % 1.0)))
        run = min(_RUN, samples.size - first)
        source, target = samples[first : first + run], out[first : first + run]
        for n in range(run):
            target[n] = source[n] * (turn * phasors[n])


@numba.njit(cache=True, nogil=True, fastmath=True)
def _turn(
    symbols: ComplexArray, places: IntArray, start: float, step: float
) -> None:  # pragma: no cover - compiled
    """``symbols[k] *= exp(-2 pi j (start + step places[k]))``; in runs where places follow."""
    phasors = _phasors(step, _RUN)
    first = 0
    while first < symbols.size:
        turn = np.complex64(np.exp(-2j * np.pi * ((start + step * places[first]) % 1.0)))
        stop = min(first + _RUN, symbols.size)
        last = first + 1
        while last < stop and places[last] == places[last - 1] + 1:
            last += 1
        for k in range(last - first):
            symbols[first + k] *= turn * phasors[k]
        first = last


@numba.njit(cache=True, nogil=True)
def vertex(values: npt.NDArray[np.float64], best: int) -> float:  # pragma: no cover - compiled
    """Offset, in steps of the grid, of the maximum of a parabola around entry `best`."""
    if not 0 < best < values.size - 1:
        return 0.0
    before, at, after = values[best - 1], values[best], values[best + 1]
    curvature = before - 2 * at + after
    return min(max(0.5 * (before - after) / curvature, -1.0), 1.0) if curvature < 0 else 0.0


def spectral_peak(z: ComplexArray, reach: float) -> tuple[float, float]:
    """The strongest line of one or several series.

    Arguments:
        z: (..., n) complex; the periodograms of all series are added.
        reach: largest frequency to be found, in cycles per entry.

    Returns:
        Frequency in cycles per entry, and height.
    """
    power, size = _periodograms(z.reshape(-1, z.shape[-1]), reach)
    return _summit_of_line(power.sum(axis=0), size)


def _periodograms(z: ComplexArray, reach: float) -> tuple[npt.NDArray[np.float64], int]:
    """(series, 2 bins + 1) periodograms of (series, n) around 0, and bins in a cycle per entry."""
    size = next_fast_len(4 * z.shape[1])
    bins = min(int(np.ceil(reach * size)), size // 2 - 1)
    spectrum = fft(z, size)
    around = np.concatenate([spectrum[:, -bins:], spectrum[:, : bins + 1]], axis=1)
    return (around.real**2 + around.imag**2).astype(np.float64), size


def _summit_of_line(power: npt.NDArray[np.float64], size: int) -> tuple[float, float]:
    """Frequency in cycles per entry, and height, of the highest line of a periodogram."""
    best = int(np.argmax(power))
    return (best - power.size // 2 + vertex(power, best)) / size, float(power[best])


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
        y = np.stack([base.symbols(sync, places, float(offset)) for offset in offsets])
        power, size = _periodograms(y * np.conj(preamble), 4 / preamble.size)
        heights = power.max(axis=1)
        best = int(np.argmax(heights))
        line, height = _summit_of_line(power[best], size)
        energy = float(np.vdot(y[best], y[best]).real)
        step = float(offsets[1] - offsets[0])
        offset = float(offsets[best]) + step * vertex(heights, best)
        sync = Synchronization(
            start=sync.start + M * offset,
            carrier=sync.carrier + line / M,
            metric=height / max(energy, 1e-30),
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
    turned = symbols.astype(np.complex64)
    _turn(turned, known, 0.0, -(sync.carrier - base.carrier) * M)
    segments = np.append(_cell_starts(known, _SEGMENT), known.size)

    def energies(
        starts: npt.NDArray[np.float64], clocks: npt.NDArray[np.float64], first: int = 0
    ) -> npt.NDArray[np.float64]:
        return _segment_energies(
            base.samples, starts, M * (1 + clocks), pulse.table, M, known, turned, segments[first:]
        )

    # In the header the clock's offset hardly shows: the grid is searched in the rest of the frame.
    rest = min(int(np.searchsorted(known[segments[:-1]], _SEGMENT * 4)), segments.size - 2)
    by_clock = energies(np.full(_CLOCK_GRID.size, sync.start), _CLOCK_GRID, rest)
    best = int(np.argmax(by_clock))
    step = float(_CLOCK_GRID[1] - _CLOCK_GRID[0])
    clock = float(_CLOCK_GRID[best]) + step * vertex(by_clock, best)
    start = sync.start
    for _ in range(_NEWTON_STEPS):
        starts = start + M * _START_STEP * _SURROUNDINGS[:, 0]
        later, slower = _summit(energies(starts, clock + _CLOCK_STEP * _SURROUNDINGS[:, 1]))
        start += M * _START_STEP * later
        clock += _CLOCK_STEP * slower
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
def _segment_energies(
    samples: ComplexArray,
    starts: npt.NDArray[np.float64],
    spacings: npt.NDArray[np.float64],
    table: npt.NDArray[np.float32],
    nominal_spacing: int,
    known: IntArray,
    symbols: ComplexArray,
    segments: IntArray,
) -> npt.NDArray[np.float64]:  # pragma: no cover - compiled
    """Sums over segments of |sum of matched-filtered y x*|^2 / length.

    Arguments:
        samples: (n,) complex64.
        starts, spacings: (candidates,) instant of the first symbol, and samples between two.
        table: of the pulse.
        nominal_spacing: M.
        known, symbols: (k,) places and values of the known symbols.
        segments: entries of `known` where the segments begin, and the one behind the last.

    Returns:
        (candidates,) float64.
    """
    first, stop = segments[0], segments[-1]
    instants = np.empty(stop - first, np.float64)
    y = np.empty(stop - first, np.complex64)
    energies = np.zeros(starts.size)
    for candidate in range(starts.size):
        for k in range(first, stop):
            instants[k - first] = starts[candidate] + spacings[candidate] * known[k]
        matched(samples, instants, table, nominal_spacing, y)
        for s in range(segments.size - 1):
            collected = np.complex64(0)
            for k in range(segments[s], segments[s + 1]):
                collected += y[k - first] * np.conj(symbols[k])
            power = float(collected.real) ** 2 + float(collected.imag) ** 2
            energies[candidate] += power / (segments[s + 1] - segments[s])
    return energies


def timing_correction(
    base: Baseband,
    sync: Synchronization,
    received: ComplexArray,
    expected: ComplexArray,
    noise_variance: float,
) -> Synchronization:
    r"""Start and clock from all symbols: one step of scoring.

    The derivative of the log-likelihood by the instant of symbol k is
    :math:`(2 / N)\, \mathrm{Re}\{s_k^*\, y'(\tau_k)\}`, with the posterior mean of what was
    received, :math:`s_k`. If the symbols were known, its information would be
    :math:`(2 / N) |s_k|^2 |h''(0)|` with the Nyquist pulse h. The means follow an error of timing,
    though, and hide a part of it; how much is seen in the variance of the derivative, which falls
    short of the information by the same share. It is taken over runs of symbols, between which the
    slopes of neighbours, which cancel in the sum, hardly count. The noise N of a run is taken from
    how it compares with the median run, so that a burst of interference has little say. The error
    is fitted as a line over the frame.

    Arguments:
        base: samples that hold the frame, derotated by about its carrier offset.
        sync: of the frame, as it is.
        received: (k,) complex64, all symbols of the frame as it is.
        expected: (k,) complex64, channel gain times symbol, or times its mean given what was
            received; 0 where nothing is known.
        noise_variance: N of the median run.

    Returns:
        The corrected values.
    """
    M, curvature = base.pulse.samples_per_symbol, base.pulse.curvature
    places = np.arange(expected.size)
    after = base.symbols(sync, places, _SLOPE_STEP)
    before = base.symbols(sync, places, -_SLOPE_STEP)
    rises, weights, errors = _run_sums(after, before, received, expected)
    deviations = errors / np.bincount(places // _RUN) + _TINY
    least = 1e-12 * float(weights.mean()) / _RUN + _TINY
    noise = np.maximum(noise_variance * deviations / np.median(deviations), least)
    slopes = rises / (2 * _SLOPE_STEP * noise)
    weights *= curvature / noise
    middles = np.arange(slopes.size) * _RUN + 0.5 * (_RUN - 1)
    basis = np.stack([np.ones(slopes.size), middles])
    share = -2 * float(np.sum(slopes**2)) / min(float(weights.sum()), -_TINY)
    matrix = (basis * (min(max(share, _LEAST_SHARE), 1.0) * weights)) @ basis.T
    late, slow = np.linalg.lstsq(matrix, basis @ slopes)[0]
    return replace(sync, start=sync.start - M * float(late), clock=sync.clock - float(slow))


@numba.njit(cache=True, nogil=True)
def _run_sums(
    after: ComplexArray, before: ComplexArray, received: ComplexArray, expected: ComplexArray
) -> tuple[
    npt.NDArray[np.float64], npt.NDArray[np.float64], npt.NDArray[np.float64]
]:  # pragma: no cover - compiled
    """Sums of Re((after - before) s*), of |s|^2 and of |y - s|^2 over runs of symbols."""
    runs = (expected.size + _RUN - 1) // _RUN
    slopes, weights, errors = np.zeros(runs), np.zeros(runs), np.zeros(runs)
    for k in range(expected.size):
        s, rise, error = expected[k], after[k] - before[k], received[k] - expected[k]
        slopes[k // _RUN] += float(rise.real * s.real + rise.imag * s.imag)
        weights[k // _RUN] += float(s.real * s.real + s.imag * s.imag)
        errors[k // _RUN] += float(error.real * error.real + error.imag * error.imag)
    return slopes, weights, errors


def _line(base: Baseband, known: IntArray, symbols: ComplexArray, sync: Synchronization) -> float:
    """Residual carrier in cycles per symbol: the strongest line among the known symbols."""
    z = base.symbols(sync, known) * np.conj(symbols)
    # The densely known beginning gives the neighbourhood, the whole frame the fine value.
    gaps = known[1:] - known[:-1] > 1
    dense = int(np.argmax(gaps)) + 1 if gaps.any() else known.size
    coarse, _ = spectral_peak(z[:dense], 0.02)
    _turn(z, known, 0.0, coarse)
    # What is left turns by a small part of a cycle in a few pilots, which may be joined.
    starts = _cell_starts(known, _CELL)
    cells = known[starts] // _CELL
    spread = np.zeros(int(cells[-1]) + 1, dtype=np.complex64)
    spread[cells] = np.add.reduceat(z, starts)
    fine, _ = spectral_peak(spread, _CELL / max(dense, _CELL))
    return coarse + fine / _CELL


def _cell_starts(places: IntArray, length: int) -> IntArray:
    """Entries of ascending places at which another cell of some length begins."""
    cell = places // length
    return np.flatnonzero(np.concatenate([[True], cell[1:] != cell[:-1]]))
