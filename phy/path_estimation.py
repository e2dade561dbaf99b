r"""Channel estimation in delay and time for the single carrier, from known and decided symbols.

The channel is a set of paths on a grid of delays :math:`\tau_d`, half a symbol apart, whose gains
fade with a Jakes spectrum. The matched filter's output :math:`\tau_d` behind a known symbol,
:math:`y(k + \tau_d)\, a_k^*`, is on average the response there,
:math:`h(\tau_d) = \sum_{d'} x(\tau_d - \tau_{d'})\, c_{d'}` or :math:`h = R c`, with noise of
covariance :math:`N_0 R` and with the other symbols' interference. The latter is taken out as far as
it is known: with the estimate :math:`\hat h` so far and the residual
:math:`e = y - \sum_k \hat h(\cdot - k)\, a_k`,

.. math:: z_k(\tau_d) = \hat h(\tau_d) + e(k + \tau_d)\, a_k^* .

**Decided symbols.** Of a data symbol its mean :math:`\bar a_k` given the equalizer's output is
known, :math:`E|\bar a_k|^2 = r_k` near 1 where the decision is sure. The fixed point of

.. math:: z(\tau_d) = \hat h(\tau_d) + \frac{\sum_k e(k + \tau_d)\, \bar a_k^* - (1 - r_k)\,
    \hat h(\tau_d)}{\sum_k r_k}

is that of the expectation-maximization algorithm, a maximum of the likelihood: the second term
makes up for the noise that is in the decision. Sums are over a block of symbols, and z has the
noise variance :math:`N_0` over the block's weight :math:`W = \sum_k r_k`, less where unsure symbols
leave interference.

**Wiener filter.** With the power delay profile p the covariance of c is its diagonal matrix. In the
eigenvectors of R, scaled so that the noise is white, and then in the eigenvectors of the covariance
of h so scaled, the channel is a number of independent modes of powers :math:`\kappa_m`; over time
each is smoothed in a basis of the Jakes spectrum as in :mod:`phy.estimation`. This is the exact
LMMSE solution for blocks of any weights. The Doppler shift is chosen by likelihood; p is what the
blocks show of it on average above the noise.

**Noise.** The LMMSE residual over known symbols has the energy :math:`N_0 (n - \mathrm{tr} H)`,
with the smoother's matrix H, whose diagonal is the error variance times the weight over
:math:`N_0`.

References:
    - G. K. Kaleh, R. Vallet, "Joint parameter estimation and symbol detection for linear or
      nonlinear unknown channels", IEEE Trans. Commun. 42(7), 1994 (expectation-maximization).
    - P. Hoeher, S. Kaiser, P. Robertson, "Two-dimensional pilot-symbol-aided channel estimation by
      Wiener filtering", ICASSP 1997 (separable filters).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numba
import numpy as np
import numpy.typing as npt

from phy.equalization import BLOCK, GUARD, raised_cosine, raised_cosine_spectrum
from phy.estimation import RANK_TOLERANCE, FloatArray, jakes_basis

ComplexArray = npt.NDArray[np.complex64]

EARLIEST, LATEST = -8, 12
"""Delays that are looked for, in symbols from the synchronized instant."""
DELAYS = np.arange(2 * EARLIEST, 2 * LATEST + 1) / 2
"""(D,) the grid of delays, in symbols."""
_TAIL = 4  # symbols by which the response is followed beyond the delays
_STEP = 8  # symbols over which the response is taken as constant in the residual
_LEAST_EIGENVALUE = 1e-3  # of R: directions in which the pulse has next to no energy
_PROFILE_BLOCKS = 16  # averaged coherently for the power delay profile
_LEAST_POWER = 0.1  # of a delay, over the noise of its measurement
_AROUND = 32  # symbols on either side of a block that show the interference in it
_LEAST_CERTAIN = 0.5  # share of a block's symbols
_FREQUENCIES = 64  # at which the delay spread is measured
_ROUNDING = 1e-9  # of the power received: below it, a residual is rounding errors
_TINY = float(np.finfo(np.float32).tiny)


@dataclass(frozen=True)
class Paths:
    """An estimate of the paths' gains, in the middle of each block.

    Attributes:
        gains: (blocks, D) complex128 on :data:`DELAYS`.
        error_variance: (blocks,) expected error of the response, as energy: the noise that it
            makes of symbols of unit energy.
        noise_variance: N0.
        doppler: f_D of the filter, cycles per symbol; None before there is any.
    """

    gains: npt.NDArray[np.complex128]
    error_variance: FloatArray
    noise_variance: float
    doppler: float | None

    @property
    def block_noise(self) -> FloatArray:
        """(blocks,) noise and estimation error."""
        return self.noise_variance + self.error_variance


class PathEstimator:
    """Estimation for frames of one length; holds nothing between calls."""

    def __init__(self, blocks: int, rolloff: float, dopplers: tuple[float, ...]) -> None:
        """Prepare for frames of a length.

        Arguments:
            blocks: of :data:`phy.equalization.BLOCK` symbols each.
            rolloff: of the pulse.
            dopplers: candidate values of f_D in cycles per symbol.
        """
        self._dopplers = tuple(sorted(dopplers))
        self._correlation = raised_cosine(DELAYS[:, None] - DELAYS, rolloff)
        value, vector = np.linalg.eigh(self._correlation)
        used = value > _LEAST_EIGENVALUE * value[-1]
        self._scale, self._vectors = np.sqrt(value[used]), vector[:, used]
        self._whiten = self._vectors / self._scale  # (D, modes): h to coordinates in white noise
        lags = np.arange(2 * (EARLIEST - _TAIL), 2 * (LATEST + _TAIL) + 1) / 2
        self._first_lag = int(2 * lags[0])
        self._to_response = raised_cosine(DELAYS[:, None] - lags, rolloff).astype(np.float32)

        self._middles = BLOCK * np.arange(blocks) + (BLOCK - 1) / 2
        self._bases = []  # (blocks, rank), each column's norm being its amplitude
        for doppler in self._dopplers:
            U, S, _ = np.linalg.svd(jakes_basis(self._middles, doppler), full_matrices=False)
            rank = int(np.sum(RANK_TOLERANCE * blocks < S**2))
            self._bases.append(U[:, :rank] * S[:rank])

    def nothing(self, noise_variance: float) -> Paths:
        """What is known of the paths before anything is received."""
        blocks = self._middles.size
        gains = np.zeros((blocks, DELAYS.size), dtype=np.complex128)
        return Paths(gains, np.zeros(blocks), noise_variance, None)

    def energy(self, gains: npt.NDArray[np.complexfloating]) -> FloatArray:
        """(blocks,) energy of the responses of (blocks, D) gains."""
        energy: FloatArray = np.sum((gains.conj() * (gains @ self._correlation)).real, axis=1)
        return energy

    def middle(self, paths: Paths) -> float:
        """The mean frequency of the paths' fading, cycles per symbol."""
        gains = paths.gains
        product = np.vdot(gains[:-1] @ self._correlation, gains[1:])
        return float(np.angle(product)) / (2 * np.pi * BLOCK)

    def turned(self, paths: Paths, frequency: float) -> Paths:
        """The paths in a signal turned by a frequency, cycles per symbol."""
        phase = 2j * np.pi * frequency * self._middles
        return replace(paths, gains=paths.gains * np.exp(phase)[:, None])

    def refine(
        self,
        received: ComplexArray,
        symbols: ComplexArray,
        known_blocks: int,
        paths: Paths,
    ) -> Paths:
        """A better estimate from an estimate and from symbols, decided with it or known.

        Arguments:
            received: matched filter's output; see :meth:`phy.equalization.MmseEqualizer.equalize`.
            symbols: (BLOCK blocks,) complex64 means of the symbols, 0 behind the last one.
            known_blocks: so many blocks at the beginning are known in full.
            paths: the estimate so far.
        """
        response = paths.gains @ self._correlation
        residual = self._residual(received, symbols, paths.gains)
        by_block = symbols.reshape(-1, BLOCK)
        sent = np.count_nonzero(by_block, axis=1)
        certain = np.sum(np.abs(by_block) ** 2, axis=1, dtype=np.float64)
        step = _correlated(residual, symbols, DELAYS.size, 2 * (GUARD + EARLIEST))
        step -= response * np.maximum(sent - certain, 0)[:, None]
        # A long step from unsure symbols would multiply what their means err by.
        seen = response + step / np.maximum(np.maximum(certain, _LEAST_CERTAIN * sent), 1)[:, None]
        # Unsure symbols, and wrong ones, interfere with all others.
        interference = _block_energy(residual)
        weight = certain * paths.noise_variance / np.maximum(interference, paths.noise_variance)
        smooth = self._smooth(seen, weight, paths.noise_variance, paths.doppler)

        # The residual with the new estimate gives the noise, where all symbols are known.
        known = slice(2 * GUARD, 2 * (GUARD + BLOCK * known_blocks))
        residual = self._residual(received, symbols, smooth.gains)[known]
        size = BLOCK * known_blocks
        trace = float(weight[:known_blocks] @ smooth.error_variance[:known_blocks])
        freedom = max(size - trace / paths.noise_variance, 0.1 * size)
        floor = _ROUNDING * float(np.vdot(received, received).real) / received.size + _TINY
        noise = float(np.vdot(residual, residual).real) / 2 / freedom
        return replace(smooth, noise_variance=max(noise, floor))

    def _residual(
        self, received: ComplexArray, symbols: ComplexArray, gains: npt.NDArray[np.complex128]
    ) -> ComplexArray:
        """The matched filter's output without what is known of the symbols."""
        taps = gains.astype(np.complex64) @ self._to_response
        out = received.copy()
        _subtract(out, symbols, taps, 2 * GUARD + self._first_lag)
        return out

    def _smooth(
        self,
        seen: npt.NDArray[np.complexfloating],
        weight: FloatArray,
        noise_variance: float,
        doppler: float | None = None,
    ) -> Paths:
        """Wiener filter over delay and time; see the module.

        Arguments:
            seen: (blocks, D) z.
            weight: (blocks,) W.
            noise_variance: N0.
            doppler: only this candidate and its neighbours are tried; None: all.
        """
        profile = self._profile(seen, weight, noise_variance)
        shaped = self._scale[:, None] * self._vectors.T * np.sqrt(profile)  # (modes, D)
        power, rotation = np.linalg.eigh(shaped @ shaped.T)
        used = power > 1e-9 * power[-1]
        power, rotation = power[used], rotation[:, used]
        modes = seen @ (self._whiten @ rotation)

        best = -np.inf
        middle = 0 if doppler is None else self._dopplers.index(doppler)
        tried = slice(None) if doppler is None else slice(max(middle - 1, 0), middle + 2)
        for candidate, basis in zip(self._dopplers[tried], self._bases[tried], strict=True):
            square, directions = np.linalg.eigh(basis.T @ (weight[:, None] * basis))
            square = np.maximum(square, 0)
            at_blocks = basis @ directions
            # Each is CN(0, kappa S^4 + N0 S^2).
            projected = at_blocks.T @ (weight[:, None] * modes)
            energy = projected.real**2 + projected.imag**2
            denominator = np.multiply.outer(square, power) + noise_variance
            boost = np.multiply.outer(square, power) / noise_variance
            likelihood = float(
                np.sum(energy * power / denominator / noise_variance - np.log1p(boost))
            )
            if likelihood > best:
                best = likelihood
                coordinates = projected * power / denominator
                smooth = at_blocks @ coordinates
                variance = at_blocks**2 @ (noise_variance * power / denominator)
                chosen = candidate
        # E{c | modes}: what the profile makes of a response.
        to_paths = (profile[:, None] * (self._vectors * self._scale)) @ rotation / power
        error = np.sum(variance, axis=1)
        return Paths(smooth @ to_paths.T, error, noise_variance, chosen)

    def _profile(
        self, seen: npt.NDArray[np.complexfloating], weight: FloatArray, noise_variance: float
    ) -> FloatArray:
        """(D,) power delay profile: what the response has on average above the noise."""
        starts = np.arange(0, weight.size, _PROFILE_BLOCKS)
        total = np.add.reduceat(weight, starts)
        summed = np.add.reduceat(weight[:, None] * seen, starts, axis=0)
        heard = total > 0
        power = np.sum(np.abs(summed[heard]) ** 2 / total[heard, None], axis=0) / total.sum()
        noise = noise_variance * np.count_nonzero(heard) / total.sum()
        # On a grid of half symbols a response's energy is seen twice.
        return np.maximum(power - noise, _LEAST_POWER * noise) / 2


def _block_energy(samples: ComplexArray) -> FloatArray:
    """(blocks,) mean energy of the samples around each block."""
    blocks = np.lib.stride_tricks.sliding_window_view(
        samples.real**2 + samples.imag**2, 2 * (BLOCK + 2 * _AROUND)
    )
    start = 2 * (GUARD - _AROUND)
    return np.mean(
        blocks[start : samples.size - 2 * (BLOCK + GUARD + _AROUND) + 1 : 2 * BLOCK],
        axis=1,
        dtype=np.float64,
    )


@numba.njit(cache=True, nogil=True, fastmath=True)
def _subtract(
    samples: ComplexArray, symbols: ComplexArray, taps: ComplexArray, first: int
) -> None:  # pragma: no cover - compiled
    """Take symbols out of what the matched filter gave, in place.

    Arguments:
        samples: (n,) complex64 at every half symbol.
        symbols: (BLOCK blocks,) complex64.
        taps: (blocks, L) complex64 responses in the middle of each block, linear in between.
        first: place of the first symbol's first tap in the samples.
    """
    blocks, length = taps.shape
    real = samples.real.copy()
    imag = samples.imag.copy()
    tap_real = np.empty(length, np.float32)
    tap_imag = np.empty(length, np.float32)
    for start in range(0, symbols.size, _STEP):
        place = (start + 0.5 * (_STEP - 1) - 0.5 * (BLOCK - 1)) / BLOCK
        left = min(max(int(np.floor(place)), 0), max(blocks - 2, 0))
        right = min(left + 1, blocks - 1)
        share = np.float32(min(max(place - left, 0.0), 1.0))
        for d in range(length):
            tap = taps[left, d] + share * (taps[right, d] - taps[left, d])
            tap_real[d] = tap.real
            tap_imag[d] = tap.imag
        for k in range(start, min(start + _STEP, symbols.size)):
            a, b = symbols[k].real, symbols[k].imag
            if a == 0 and b == 0:
                continue
            origin = first + 2 * k
            re = real[origin : origin + length]
            im = imag[origin : origin + length]
            for d in range(length):
                re[d] -= a * tap_real[d] - b * tap_imag[d]
                im[d] -= a * tap_imag[d] + b * tap_real[d]
    for n in range(samples.size):
        samples[n] = complex(real[n], imag[n])


@numba.njit(cache=True, nogil=True, fastmath=True)
def _correlated(
    samples: ComplexArray, symbols: ComplexArray, count: int, first: int
) -> npt.NDArray[np.complex128]:  # pragma: no cover - compiled
    """Sums over blocks of samples behind each symbol, times the conjugate symbol.

    Arguments:
        samples: (n,) complex64 at every half symbol.
        symbols: (BLOCK blocks,) complex64.
        count: D, delays, half a symbol apart.
        first: place of the first symbol's first delay in the samples.

    Returns:
        (blocks, D) complex128.
    """
    sums = np.empty((symbols.size // BLOCK, count), np.complex128)
    real = samples.real.copy()
    imag = samples.imag.copy()
    sum_real = np.empty(count, np.float32)
    sum_imag = np.empty(count, np.float32)
    for block in range(sums.shape[0]):
        sum_real[:] = 0
        sum_imag[:] = 0
        for k in range(BLOCK * block, BLOCK * (block + 1)):
            a, b = symbols[k].real, symbols[k].imag
            origin = first + 2 * k
            re = real[origin : origin + count]
            im = imag[origin : origin + count]
            for d in range(count):
                sum_real[d] += re[d] * a + im[d] * b
                sum_imag[d] += im[d] * a - re[d] * b
        for d in range(count):
            sums[block, d] = complex(sum_real[d], sum_imag[d])
    return sums


def delay_spread(gains: npt.NDArray[np.complexfloating], rolloff: float) -> float:
    r"""Root-mean-square delay spread over the band, averaged over time.

    By Parseval's theorem :math:`\int |C'(f)|^2 df / 4\pi^2` is the second moment of the delays, and
    :math:`-\mathrm{Im} \int C' C^* df / 2\pi` the first, each times the energy. Over the band only,
    a path between two delays of the grid has no spread of its own.

    Arguments:
        gains: (n, D) complex, of the paths on :data:`DELAYS`.
        rolloff: of the pulse.

    Returns:
        In symbols.
    """
    frequency = np.linspace(-0.5, 0.5, _FREQUENCIES)
    weight = raised_cosine_spectrum(frequency, rolloff)
    turn = np.exp(-2j * np.pi * np.outer(DELAYS, frequency))
    response, slope = gains @ turn, (gains * DELAYS) @ turn  # the slope over -2 pi j
    power = np.sum(np.abs(response) ** 2 @ weight)
    first = np.sum((slope * response.conj()).real @ weight) / power
    second = np.sum(np.abs(slope) ** 2 @ weight) / power
    return float(np.sqrt(max(second - first**2, 0)))


@lru_cache(maxsize=16)
def path_estimator(blocks: int, rolloff: float, dopplers: tuple[float, ...]) -> PathEstimator:
    """The estimator for frames of a length, made once; see :class:`PathEstimator`."""
    return PathEstimator(blocks, rolloff, dopplers)
