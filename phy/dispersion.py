r"""Multipath on a single carrier: whether there is any, and reception in spite of it.

**Test.** In a flat channel the residual :math:`e_k = y_k - g\, a_k` is white noise. Multipath
leaves intersymbol interference in it, which correlates with the symbols before and after. With the
gain g of short stretches, and the sum over l without 0,

.. math:: T = \sum_{l=-L}^{L} \frac{|\sum_k e_{k+l}\, a_k^*|^2}{\sigma_e^2 \sum_k |a_k|^2}

is the score statistic of the hypothesis "flat" against any response over 2L more symbols: in noise
half a chi-square variable with 4L degrees of freedom. Its excess over 2L, divided by the energy of
the symbols, estimates the interference in units of the noise without bias. Interference well below
the noise costs nothing worth the time of an equalizer.

**Reception.** Paths and symbols are found in turns (:mod:`phy.path_estimation`,
:mod:`phy.equalization`). The known symbols alone give a first estimate, which is good near the
preamble and poor far from it, and says so; symbols that it equalizes well then take part in the
next one, until the response hardly moves.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numba
import numpy as np
import numpy.typing as npt

from phy.equalization import BLOCK, GUARD, MmseEqualizer
from phy.estimation import ChannelEstimate, IntArray, error_vector_magnitude
from phy.modulation import Modulation
from phy.path_estimation import DELAYS, delay_spread, path_estimator
from phy.synchronization import Baseband, Synchronization
from phy.waveform import Reception

ComplexArray = npt.NDArray[np.complex64]

_LAGS = 12  # L
_STRETCH = 64  # symbols with the same gain
_SEGMENT = 1024  # symbols over which the response is taken as constant by the test
_LEAST_INTERFERENCE = 0.015  # over the noise; it shows less where decisions are wrong
_DEVIATIONS = 6  # standard deviations of T that chance is not to reach
_ROUNDS = 12
_LEAST_SINR = 1.0  # of symbols whose decisions tell of the channel
_SETTLED = 0.1  # of the noise


def is_dispersive(received: ComplexArray, symbols: ComplexArray) -> bool:
    """Whether multipath leaves intersymbol interference that is worth equalizing.

    Arguments:
        received: (n,) complex64 matched filter's output at the symbols' instants.
        symbols: (n,) complex64 the symbols sent, known or decided, or means of unsure ones.
    """
    excess, energy, segments = _excess(received, symbols)
    by_chance = _DEVIATIONS * np.sqrt(2 * _LAGS * segments)
    return bool(excess > max(_LEAST_INTERFERENCE * energy, by_chance))


@numba.njit(cache=True, nogil=True, fastmath=True)
def _excess(
    received: ComplexArray, symbols: ComplexArray
) -> tuple[float, float, int]:  # pragma: no cover - compiled
    """Sum over segments of T - 2L; energy of their symbols; how many segments."""
    count = received.size
    segments = max(count // _SEGMENT, 1)
    excess = total = 0.0
    padded = count + 2 * _LAGS
    error_real, error_imag = np.zeros(padded, np.float32), np.zeros(padded, np.float32)
    for start in range(0, count, _STRETCH):
        stop = min(start + _STRETCH, count)
        product, energy = 0j, 1e-30
        for k in range(start, stop):
            product += received[k] * np.conj(symbols[k])
            energy += abs(symbols[k]) ** 2
        gain = np.complex64(product / energy)
        for k in range(start, stop):
            error = received[k] - gain * symbols[k]
            error_real[_LAGS + k] = error.real
            error_imag[_LAGS + k] = error.imag
    sums_real, sums_imag = np.empty(2 * _LAGS + 1, np.float32), np.empty(2 * _LAGS + 1, np.float32)
    for segment in range(segments):
        start = segment * count // segments
        stop = (segment + 1) * count // segments
        sums_real[:] = 0
        sums_imag[:] = 0
        energy, noise = 1e-30, 1e-30
        for k in range(start, stop):
            a, b = symbols[k].real, symbols[k].imag
            energy += a * a + b * b
            noise += error_real[_LAGS + k] ** 2 + error_imag[_LAGS + k] ** 2
            real = error_real[k : k + 2 * _LAGS + 1]
            imag = error_imag[k : k + 2 * _LAGS + 1]
            for j in range(2 * _LAGS + 1):
                sums_real[j] += real[j] * a + imag[j] * b
                sums_imag[j] += imag[j] * a - real[j] * b
        sums_real[_LAGS] = 0
        sums_imag[_LAGS] = 0
        noise /= stop - start
        excess += float(np.sum(sums_real**2 + sums_imag**2)) / (noise * energy) - 2 * _LAGS
        total += energy
    return excess, total, segments


@dataclass(frozen=True)
class Section:
    """A part of a frame from its first symbol on, as far as it is known.

    Attributes:
        length: n, symbols.
        known: (k,) ascending places of the known symbols.
        values: (k,) complex64 known symbols, of unit modulus.
        wanted: (d,) ascending places of the data symbols.
        modulation: of the data symbols.
    """

    length: int
    known: IntArray
    values: ComplexArray
    wanted: IntArray
    modulation: Modulation

    def symbols(self, data: ComplexArray) -> ComplexArray:
        """(n,) all symbols, with some at the wanted places."""
        symbols = np.zeros(self.length, dtype=np.complex64)
        symbols[self.known] = self.values
        symbols[self.wanted] = data
        return symbols


def equalized(
    base: Baseband,
    sync: Synchronization,
    section: Section,
    noise_variance: float,
    dopplers: tuple[float, ...],
) -> Reception:
    """Reception of a section over multipath.

    Arguments:
        base: samples that hold the section.
        sync: of the frame.
        section: what is known of it.
        noise_variance: N0 at most, interference may be in it.
        dopplers: candidate values of f_D in cycles per symbol.

    Returns:
        Equalized symbols at the wanted places, scaled so that the estimate's gains are positive and
        that its effective noise counts what interference is left.
    """
    blocks = -(-section.length // BLOCK)
    rolloff = base.pulse.rolloff
    estimator = path_estimator(blocks, rolloff, dopplers)
    equalizer = MmseEqualizer(DELAYS, rolloff)
    received = half_symbols(base, sync, blocks)
    known_blocks = int(np.argmax(np.diff(section.known, append=-1) != 1) + 1) // BLOCK

    block = section.wanted // BLOCK
    paths = estimator.nothing(noise_variance)
    data = np.zeros(section.wanted.size, dtype=np.complex64)
    carrier = 0.0
    for number in range(_ROUNDS):
        symbols = np.pad(section.symbols(data), (0, BLOCK * blocks - section.length))
        if number == 0:  # all paths are in the residual: a start
            paths = estimator.refine(received, symbols, known_blocks, paths)
        before = paths
        paths = estimator.refine(received, symbols, known_blocks, paths)
        result = equalizer.equalize(received, paths.gains, paths.block_noise)
        found, gain = result.as_flat(paths.block_noise)
        data = section.modulation.expect(
            found[section.wanted], paths.block_noise[block], gain[block]
        )
        data[result.sinr[block] < _LEAST_SINR] = 0
        moved = estimator.energy(paths.gains - before.gains)
        if number > 0 and np.mean(moved) < _SETTLED * np.mean(paths.block_noise):
            break
        if number == 1:
            # The synchronization took the strongest line, at an edge of the Doppler spectrum: the
            # narrowest filter is that around the middle.
            carrier = estimator.middle(paths)
            time = np.arange(received.size) / 2 - GUARD
            received = received * np.exp(-2j * np.pi * carrier * time).astype(np.complex64)
            paths = estimator.turned(paths, -carrier)
    least_squares = found[section.known] * np.conj(section.values)
    channel = ChannelEstimate(
        gain=gain[block].astype(np.complex64),
        error_variance=paths.error_variance[block].astype(np.float32),
        noise_variance=paths.noise_variance,
        signal_power=float(np.mean(estimator.energy(paths.gains))),
        doppler=paths.doppler,
        evm=error_vector_magnitude(
            least_squares, gain[section.known // BLOCK].astype(np.complex128)
        ),
    )
    sync = replace(sync, carrier=sync.carrier + carrier / base.pulse.samples_per_symbol)
    spread = delay_spread(paths.gains, rolloff)
    return Reception(found[section.wanted], channel, sync.carrier, sync.clock, spread)


def half_symbols(base: Baseband, sync: Synchronization, blocks: int) -> ComplexArray:
    """The matched filter's output that :meth:`phy.equalization.MmseEqualizer.equalize` takes.

    Arguments:
        base: samples that hold the frame.
        sync: of the frame.
        blocks: of :data:`phy.equalization.BLOCK` symbols.

    Returns:
        (2 (BLOCK blocks + 2 GUARD),) complex64.
    """
    places = np.arange(-GUARD, BLOCK * blocks + GUARD)
    both = [base.symbols(sync, places, late) for late in (0.0, 0.5)]
    return np.stack(both, axis=-1).reshape(-1)
