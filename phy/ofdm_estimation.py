r"""Channel estimation on the OFDM grid: Wiener interpolation, separable in frequency and time.

Known values :math:`X_{tk}` of unit modulus give the least-squares estimates
:math:`Z_{tk} = Y_{tk} X_{tk}^* = H_{tk} + N_{tk}` of the response at row t and carrier k.

**The model.** The response is a Gaussian process whose autocorrelation is a product,

.. math:: E\{H_{tk} H_{t'k'}^*\} = P\; J_0(2\pi f_D (t - t'))\; \mathrm{sinc}(2 w (k - k') / N),

the second factor being that of scatterers spread uniformly over delays within :math:`\pm w` samples
of the synchronized instant. Doppler shift and delay half-width are *assumed* to be among given
ones, and the pair is chosen for each frame by its likelihood. Real profiles are not uniform; what
the estimate loses by that is measured, not claimed away (docs/physical-layer.md).

**The lattice.** Rows with comb pilots are observed at the P carriers of the comb. Rows known on
all U carriers are first reduced to the comb, by a least-squares fit of the few functions that
represent all delays within the cyclic prefix. Their noise there is nearly white and n times weaker
(the comb lies in the middle of equal cells, so by the midpoint rule it has nearly the Gram matrix
of all carriers): they count as n rows. On the lattice, rows times comb, the covariance of
:math:`\sqrt{n_t} Z` is the Kronecker product of one matrix of times and one of frequencies. With
their decompositions (:class:`phy.estimation.Decomposition`: U, S, B) the Wiener estimate is a
product in frequency and then in time,

.. math:: \hat H = B_t \left( W \circ \frac{1}{S_t S_f^T} \circ
    U_t^T \sqrt{n} Z\, U_f \right) B_f^T,
    \qquad W_{ij} = \frac{S_{ti}^2 S_{fj}^2}{S_{ti}^2 S_{fj}^2 + N_0/P},

and its error variance :math:`P\,(1 - B_t^2\, W\, (B_f^2)^T)`: the exact LMMSE solution, for the
price of two one-dimensional filters.

The noise variance is what lies outside of the spaces of the largest delay and Doppler shift, per
degree of freedom. It contains all that acts as noise, the carriers' mutual interference too.

References:
    - P. Hoeher, S. Kaiser, P. Robertson, "Two-dimensional pilot-symbol-aided channel estimation by
      Wiener filtering", ICASSP 1997 (separable filters).
    - O. Edfors, M. Sandell, J.-J. van de Beek, S. K. Wilson, P. O. Börjesson, "OFDM channel
      estimation by singular value decomposition", IEEE Trans. Commun. 46(7), 1998.
"""

from __future__ import annotations

from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from phy.estimation import (
    RANK_TOLERANCE,
    ChannelEstimate,
    Decomposition,
    FloatArray,
    IntArray,
    error_vector_magnitude,
    jakes_basis,
    squared_errors,
)
from phy.ofdm_grid import Numerology

ComplexArray = npt.NDArray[np.complex64]
SingleArray = npt.NDArray[np.float32]

_DELAY_TOLERANCE = 1e-4  # share of a carrier's power that the reduction to the comb may leave out
_DELAY_GRID = (1 / 16, 1 / 4, 1 / 2, 1.0)
"""Half-widths of the delays among which the estimator chooses, over half the cyclic prefix."""


def delay_basis(carriers: npt.ArrayLike, half_width: float) -> FloatArray:
    r"""Functions whose Gram matrix is the autocorrelation of uniformly spread delays.

    The integral of :math:`\cos(2\pi \Delta k\, \tau)` over the delays is taken by Gauss-Legendre
    quadrature, with as many nodes as make it exact to rounding.

    Arguments:
        carriers: (n,) frequencies k.
        half_width: w over the FFT size, in cycles per carrier.

    Returns:
        (n, 2Q) float64 matrix F with :math:`F F^T = \mathrm{sinc}(2 w (k_i - k_j))`.
    """
    k = np.asarray(carriers, dtype=np.float64)
    argument = 2 * np.pi * half_width * float(np.ptp(k))
    nodes, weights = np.polynomial.legendre.leggauss(int(np.ceil(argument / 2)) + 10)
    phase = np.pi * half_width * np.outer(k, nodes + 1)  # delays from 0 to w
    return np.concatenate([np.cos(phase), np.sin(phase)], axis=1) * np.sqrt(np.tile(weights, 2) / 2)


class GridModel(NamedTuple):
    """A Doppler shift's model of the response, with all delay widths.

    Attributes:
        in_time: (T, r) float32 directions in time, weighted by the square roots of n_t.
        time_singular: (r,) S in time.
        in_frequency: (P, q) float32 directions in frequency, those of all widths side by side.
        frequency_singular: (q,) S in frequency.
        bounds: (widths + 1,) where the widths begin among the q.
    """

    in_time: SingleArray
    time_singular: FloatArray
    in_frequency: SingleArray
    frequency_singular: FloatArray
    bounds: IntArray


class GridEstimator:
    """Estimation for one shape of grid; precomputes all that does not depend on data.

    Holds no state between frames: its methods are pure functions of their arguments.
    """

    def __init__(
        self, numerology: Numerology, rows: int, full_rows: int, dopplers: tuple[float, ...]
    ) -> None:
        """Prepare for grids of a given shape.

        Arguments:
            numerology: sizes.
            rows: T, rows of the grid.
            full_rows: of them the first so many are known on all carriers.
            dopplers: candidate values of f_D in cycles per row; the largest is also the bandwidth
                outside of which all is taken for noise.

        Raises:
            ValueError: no candidate, a negative one, or too few known values to see noise.
        """
        if not dopplers or min(dopplers) < 0:
            raise ValueError("candidate Doppler shifts must be given, and not be negative")
        self.dopplers = tuple(sorted(dopplers))
        """Candidate values of f_D, ascending."""
        self._full_rows = full_rows
        self._comb = numerology.comb
        carriers = numerology.carriers
        P, U = self._comb.size, carriers.size
        reach = numerology.cyclic_prefix / 2 / numerology.fft_size
        basis = [delay_basis(carriers, reach * width) for width in _DELAY_GRID]
        # (U, r) orthonormal: the space of all delays within the prefix, on all carriers.
        self._delays = Decomposition.of(basis[-1], basis[-1], _DELAY_TOLERANCE * U).directions
        weight = np.ones(rows)
        weight[:full_rows] = P / np.sum(self._delays[self._comb] ** 2)
        self.row_weight = weight
        """(T,) n_t, comb rows that a row counts for."""

        self._in_frequency = [Decomposition.of(b[self._comb], b, RANK_TOLERANCE * P) for b in basis]
        times = np.arange(rows)
        basis = [jakes_basis(times, doppler) for doppler in self.dopplers]
        self._in_time = [
            Decomposition.of(np.sqrt(weight)[:, None] * b, b, RANK_TOLERANCE * weight.sum())
            for b in basis
        ]
        self.models = [self._model(time) for time in self._in_time]
        """Of each Doppler shift, with all delay widths."""
        # A line between neighbours of the comb for each carrier, held beyond the last ones.
        self._lines = np.stack([np.interp(carriers, carriers[self._comb], e) for e in np.eye(P)], 1)
        lattice_noise = rows * P - (
            self._in_time[-1].singular.size * self._in_frequency[-1].singular.size
        )
        self._noise_dimensions = lattice_noise + full_rows * (U - self._delays.shape[1])
        if self._noise_dimensions < 1:
            raise ValueError("too few known values to tell noise from fading")

    def _model(self, time: Decomposition) -> GridModel:
        weighted = np.sqrt(self.row_weight)[:, None] * time.directions
        return GridModel(
            weighted.astype(np.float32),
            time.singular,
            np.concatenate([m.directions for m in self._in_frequency], 1).astype(np.float32),
            np.concatenate([m.singular for m in self._in_frequency]),
            np.cumsum([0] + [m.singular.size for m in self._in_frequency]),
        )

    def lattice(self, least_squares: ComplexArray) -> npt.NDArray[np.complex128]:
        """Estimates on the lattice.

        Arguments:
            least_squares: (T, U) complex Z, anything where the value sent is unknown.

        Returns:
            (T, P) complex128, each row of the noise variance N0 / n_t.
        """
        full = least_squares[: self._full_rows].astype(np.complex128) @ self._delays
        reduced = full @ self._delays[self._comb].T
        return np.concatenate([reduced, least_squares[self._full_rows :, self._comb]])

    def levels(
        self, least_squares: ComplexArray, lattice: npt.NDArray[np.complex128]
    ) -> tuple[float, float]:
        """Noise variance N0 and signal power P.

        Arguments:
            least_squares: (T, U) complex Z.
            lattice: of the same.
        """
        full = least_squares[: self._full_rows].astype(np.complex128)
        comb = lattice[self._full_rows :]
        outside = _energy(full) - _energy(full @ self._delays)
        energy = _energy(full) + _energy(comb)
        # By the largest Doppler shift and delay.
        weighted = np.sqrt(self.row_weight)[:, None] * lattice
        reachable = self._in_time[-1].directions.T @ weighted @ self._in_frequency[-1].directions
        outside += _energy(weighted) - _energy(reachable)
        known = full.size + comb.size
        tiny = 1e-12 * energy / known + float(np.finfo(np.float32).tiny)
        noise_variance = max(outside / self._noise_dimensions, tiny)
        return noise_variance, max(energy / known - noise_variance, 1e-3 * noise_variance)

    def wiener(self, least_squares: ComplexArray, wanted: IntArray) -> ChannelEstimate:
        """LMMSE estimate, its Doppler shift and delay width chosen by likelihood.

        Arguments:
            least_squares: (T, U) complex Z, anything where the value sent is unknown.
            wanted: (n,) places in the flattened grid.

        Returns:
            The estimate at the wanted places, its Doppler shift in cycles per row.
        """
        lattice = self.lattice(least_squares)
        noise_variance, power = self.levels(least_squares, lattice)
        unit_power = (lattice / np.sqrt(power)).astype(np.complex64)
        untuned = np.zeros((1, self._comb.size))
        likelihood = np.stack(
            [
                log_likelihoods(unit_power, untuned, power / noise_variance, *m)[0]
                for m in self.models
            ]
        )
        by_time, by_frequency = np.unravel_index(np.argmax(likelihood), likelihood.shape)
        time, frequency = self._in_time[by_time], self._in_frequency[by_frequency]
        weighted = np.sqrt(self.row_weight)[:, None] * lattice
        coordinates = time.directions.T @ weighted @ frequency.directions
        singular = np.outer(time.singular, frequency.singular)
        denominator = singular**2 + noise_variance / power
        smoothed = coordinates * (singular / denominator)
        gain = (time.at_wanted @ smoothed @ frequency.at_wanted.T).astype(np.complex64)
        explained = time.power_at_wanted @ (singular**2 / denominator) @ frequency.power_at_wanted.T
        error = (power * np.maximum(1 - explained, 0)).astype(np.float32)
        return ChannelEstimate(
            gain=gain.reshape(-1)[wanted],
            error_variance=error.reshape(-1)[wanted],
            noise_variance=noise_variance,
            signal_power=power,
            doppler=self.dopplers[by_time],
            evm=error_vector_magnitude(lattice, gain[:, self._comb]),
            errors=self._lattice_errors(lattice, gain[:, self._comb]),
        )

    def linear(self, least_squares: ComplexArray, wanted: IntArray) -> ChannelEstimate:
        """Lines between the comb's carriers, row by row: knows nothing of delays and fading.

        Its error variance counts the noise of the pilots, not the bending of the response between
        them.

        Arguments:
            least_squares: (T, U) complex Z, anything where the value sent is unknown.
            wanted: (n,) places in the flattened grid.
        """
        lattice = self.lattice(least_squares)
        noise_variance, power = self.levels(least_squares, lattice)
        gain = (lattice @ self._lines.T).astype(np.complex64)
        averaging = np.outer(1 / self.row_weight, np.sum(self._lines**2, axis=1))
        return ChannelEstimate(
            gain=gain.reshape(-1)[wanted],
            error_variance=(noise_variance * averaging).astype(np.float32).reshape(-1)[wanted],
            noise_variance=noise_variance,
            signal_power=power,
            doppler=None,
            # A line through the pilots leaves no error at them to measure.
            evm=float(np.sqrt(noise_variance / power)),
        )

    def _lattice_errors(
        self, lattice: npt.NDArray[np.complex128], gain: ComplexArray
    ) -> FloatArray:
        """(T P,) squared errors of the lattice, each of mean N0."""
        errors = squared_errors(lattice, gain) * self.row_weight[:, None]
        return errors.reshape(-1)


def delay_spread(
    numerology: Numerology, places: IntArray, gain: npt.NDArray[np.complexfloating]
) -> float:
    r"""Root-mean-square delay spread that a response shows.

    The mean delay turns the response by the same angle from each carrier to the next; what it
    changes beyond that is :math:`2\pi \sigma / N` times its own size, root mean square.

    Arguments:
        numerology: sizes.
        places: (n,) ascending places in the flattened grid.
        gain: (n,) response there.

    Returns:
        In samples.
    """
    row, carrier = np.divmod(places, numerology.used_carriers)
    frequency = numerology.carriers[carrier]
    adjacent = np.flatnonzero((np.diff(row) == 0) & (np.diff(frequency) == 1))
    before, after = gain[adjacent].astype(np.complex128), gain[adjacent + 1].astype(np.complex128)
    product = np.vdot(before, after)
    change = after - before * (product / max(abs(product), np.finfo(np.float64).tiny))
    energy = max(float(np.mean(np.abs(before) ** 2)), np.finfo(np.float64).tiny)
    radians = np.sqrt(float(np.mean(np.abs(change) ** 2)) / energy)
    return float(numerology.fft_size * radians / (2 * np.pi))


def _energy(values: npt.NDArray[np.complexfloating]) -> float:
    return float(np.vdot(values, values).real)


@lru_cache(maxsize=32)
def grid_estimator(
    numerology: Numerology, rows: int, full_rows: int, dopplers: tuple[float, ...]
) -> GridEstimator:
    """The estimator of a shape of grid, made once; see :class:`GridEstimator`."""
    return GridEstimator(numerology, rows, full_rows, dopplers)


@numba.njit(cache=True, nogil=True, fastmath=True)
def log_likelihoods(
    lattice: ComplexArray,
    turns: FloatArray,
    snr: float,
    in_time: SingleArray,
    time_singular: FloatArray,
    in_frequency: SingleArray,
    frequency_singular: FloatArray,
    bounds: IntArray,
) -> FloatArray:  # pragma: no cover - compiled
    """Log-likelihoods of a model, up to a common term, after each of some turns is taken out.

    All inner loops are over contiguous arrays in which the candidates come last.

    Arguments:
        lattice: (T, P) complex64 estimates on the lattice over the square root of the power P.
        turns: (n, P) cycles by which each carrier turns from row to row.
        snr: P / N0.
        in_time, time_singular, in_frequency, frequency_singular, bounds: see :class:`GridModel`.

    Returns:
        (n, delay widths) float64.
    """
    n, P = turns.shape
    T, r = in_time.shape
    block = 2 * n  # real and imaginary parts of the candidates
    real = np.ones(P * n)
    imag = np.zeros(P * n)
    step_real = np.empty(P * n)
    step_imag = np.empty(P * n)
    for p in range(P):
        for c in range(n):
            step_real[p * n + c] = np.cos(2 * np.pi * turns[c, p])
            step_imag[p * n + c] = -np.sin(2 * np.pi * turns[c, p])
    tuned = np.empty(P * block, np.float32)
    by_row = np.zeros((r, P * block), np.float32)
    for t in range(T):
        for p in range(P):
            value = lattice[t, p]
            there = tuned[p * block : p * block + n]
            across = tuned[p * block + n : (p + 1) * block]
            for c in range(n):
                a, b = np.float32(real[p * n + c]), np.float32(imag[p * n + c])
                there[c] = value.real * a - value.imag * b
                across[c] = value.real * b + value.imag * a
        for x in range(P * n):
            a, b = real[x], imag[x]
            real[x] = a * step_real[x] - b * step_imag[x]
            imag[x] = a * step_imag[x] + b * step_real[x]
        for i in range(r):
            weight = in_time[t, i]
            target = by_row[i]
            for x in range(P * block):
                target[x] += weight * tuned[x]

    by_carrier = np.empty((P, r * block), np.float32)
    for i in range(r):
        for p in range(P):
            by_carrier[p, i * block : (i + 1) * block] = by_row[i, p * block : (p + 1) * block]
    coordinates = np.empty(r * block, np.float32)
    gained = np.empty(n, np.float32)
    result = np.zeros((n, bounds.size - 1))
    for width in range(bounds.size - 1):
        for j in range(bounds[width], bounds[width + 1]):
            coordinates[:] = 0
            for p in range(P):
                weight = in_frequency[p, j]
                source = by_carrier[p]
                for x in range(r * block):
                    coordinates[x] += weight * source[x]
            gained[:] = 0
            penalty, product = 0.0, 1.0
            for i in range(r):
                # A coordinate is CN(0, P S^2 + N0).
                boost = snr * (time_singular[i] * frequency_singular[j]) ** 2
                product *= 1 + boost
                if product > 1e100:
                    penalty, product = penalty + np.log(product), 1.0
                weight = np.float32(snr * boost / (1 + boost))
                there = coordinates[i * block : i * block + n]
                across = coordinates[i * block + n : (i + 1) * block]
                for c in range(n):
                    gained[c] += weight * (there[c] * there[c] + across[c] * across[c])
            penalty += np.log(product)
            for c in range(n):
                result[c, width] += gained[c] - penalty
    return result
