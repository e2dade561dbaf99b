r"""Channels at one sample per symbol: additive noise and flat Rayleigh fading.

Every channel here computes :math:`y_t = h_t x_t + n_t` with :math:`E|h_t|^2 = 1` and
:math:`n_t \sim CN(0, N_0)`.

**SNR.** ``es_n0_db`` is the mean received symbol energy over the noise density,
:math:`E|h|^2 E_s / N_0` with :math:`E_s = 1`: the transmitter sends unit-energy symbols throughout
(preamble, header, pilots and data), so :math:`N_0 = 10^{-\mathrm{es\_n0\_db}/10}`.

**Streams.** A channel is a stream object: :meth:`Channel.process` takes the next samples, in chunks
of any size. Noise and fading belong to the absolute sample position, because both are drawn in
blocks of fixed length whatever the chunks are; the output does not depend on the chunking.

**Randomness.** All draws come from one seed, split with ``numpy.random.SeedSequence`` into
independent streams for fading and noise. So the same seed at another SNR gives the same fading.

References:
    - R. H. Clarke, "A statistical theory of mobile-radio reception", Bell Syst. Tech. J. 47, 1968;
      W. C. Jakes, "Microwave Mobile Communications", 1974 (the autocorrelation J0).
    - Y. R. Zheng, C. Xiao, "Simulation models with correct statistical properties for Rayleigh
      fading channels", IEEE Trans. Commun. 51(6), 2003 (randomized sums of sinusoids).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt

from phy.random_process import BLOCK, BlockQueue, Seed, child_seed, complex_gaussian

ComplexArray = npt.NDArray[np.complex64]


class ChannelOutput(NamedTuple):
    """What left the channel, and the gains that only a simulation knows.

    Attributes:
        samples: (n,) complex64, y.
        gains: (n,) complex64, h.
    """

    samples: ComplexArray
    gains: ComplexArray


def unit_gain() -> Iterator[ComplexArray]:
    """No fading: h = 1. Yields blocks of gains, endlessly."""
    while True:
        yield np.ones(BLOCK, dtype=np.complex64)


def block_fading(block_length: int, rng: np.random.Generator) -> Iterator[ComplexArray]:
    """Rayleigh gain that is constant over a block and independent from block to block.

    Arguments:
        block_length: samples per fading block; 1 gives independent fading of every symbol.
        rng: source of the gains.

    Returns:
        Pieces of complex64 gains, at most 4096 samples each, endlessly.

    Raises:
        ValueError: `block_length` is not positive.
    """
    if block_length < 1:
        raise ValueError("the fading block must have at least one sample")
    return _block_gains(block_length, rng)


def _block_gains(block_length: int, rng: np.random.Generator) -> Iterator[ComplexArray]:
    """Gains of short blocks several at a time, of a long block piece by piece."""
    blocks = max(1, BLOCK // block_length)
    while True:
        gains = complex_gaussian(rng, blocks).astype(np.complex64)
        for start in range(0, block_length, BLOCK):
            yield np.repeat(gains, min(block_length - start, BLOCK))


def jakes_fading(
    doppler_hz: float,
    symbol_rate_hz: float,
    rng: np.random.Generator,
    sinusoids: int = 128,
) -> Iterator[ComplexArray]:
    r"""Rayleigh gain with the U-shaped Jakes spectrum.

    A sum of M plane waves from evenly spaced angles with random phases and one random rotation,

    .. math:: h(t) = \frac{1}{\sqrt M} \sum_{m=0}^{M-1}
        e^{j(2\pi f_D t \cos\theta_m + \varphi_m)}, \qquad \theta_m = (2\pi m + \Theta)/M.

    Over the ensemble its autocorrelation is exactly :math:`J_0(2\pi f_D \tau)`, and the gain is
    complex Gaussian but for an excess kurtosis of -1/M. Each realization has unit mean power over
    time, and its own autocorrelation already equals J0 for lags below about M / (2 pi f_D).

    Arguments:
        doppler_hz: maximum Doppler shift f_D.
        symbol_rate_hz: samples per second.
        rng: source of the phases and of the rotation.
        sinusoids: M.

    Returns:
        Blocks of complex64 gains, endlessly.

    Raises:
        ValueError: a symbol rate that is not positive, a negative Doppler shift, or one above a
            tenth of the symbol rate.
    """
    if not symbol_rate_hz > 0:
        raise ValueError(f"the symbol rate must be positive, not {symbol_rate_hz} Hz")
    if not 0 <= doppler_hz <= symbol_rate_hz / 10:
        raise ValueError(
            f"a Doppler shift of {doppler_hz} Hz is outside 0 ... {symbol_rate_hz / 10} Hz, "
            "a tenth of the symbol rate"
        )
    return PlaneWaves.jakes(doppler_hz / symbol_rate_hz, rng, sinusoids).blocks()


@dataclass(frozen=True)
class PlaneWaves:
    r"""A sum of waves, :math:`h(t) = M^{-1/2} \sum_m e^{j(\omega_m t + \varphi_m)}`.

    Attributes:
        radians_per_sample: (M,) float64 Doppler shifts of the waves.
        phases: (M,) float64 phases at time 0.
    """

    radians_per_sample: npt.NDArray[np.float64]
    phases: npt.NDArray[np.float64]

    @classmethod
    def jakes(cls, doppler: float, rng: np.random.Generator, sinusoids: int = 128) -> PlaneWaves:
        """Draw the waves of :func:`jakes_fading`.

        Arguments:
            doppler: maximum Doppler shift in cycles per sample.
            rng: source of the phases and of the rotation.
            sinusoids: M.
        """
        angles = (2 * np.pi * np.arange(sinusoids) + rng.uniform(0, 2 * np.pi)) / sinusoids
        return cls(2 * np.pi * doppler * np.cos(angles), rng.uniform(0, 2 * np.pi, sinusoids))

    def at(self, times: npt.ArrayLike) -> npt.NDArray[np.complex128]:
        """(n,) times in samples to (n,) gains."""
        t = np.asarray(times, dtype=np.float64)
        waves = np.exp(1j * (np.outer(t, self.radians_per_sample) + self.phases))
        return waves.sum(axis=1) / np.sqrt(self.phases.size)

    def blocks(self) -> Iterator[ComplexArray]:
        """Blocks of 4096 complex64 gains from time 0 on, endlessly."""
        # exp(j step (coarse + fine)) = exp(j step coarse) exp(j step fine), so a block needs only
        # two small tables of exponentials, and all phases are exact at the start of each block.
        step = self.radians_per_sample
        fine = np.exp(1j * np.outer(step, np.arange(256))).astype(np.complex64)
        start = 0
        while True:
            places = np.arange(start, start + BLOCK, 256)
            coarse = np.exp(1j * (np.outer(places, step) + self.phases)) / np.sqrt(step.size)
            yield _sum_of_waves(coarse.astype(np.complex64), fine)
            start += BLOCK


@numba.njit(cache=True)
def _sum_of_waves(coarse: ComplexArray, fine: ComplexArray) -> ComplexArray:  # pragma: no cover
    """Sum over m of coarse[c, m] fine[m, f], flattened.

    A matrix product; but as a plain loop it does not depend on a BLAS library and its threads.
    """
    result = np.zeros((coarse.shape[0], fine.shape[1]), dtype=np.complex64)
    for c in range(coarse.shape[0]):
        for m in range(coarse.shape[1]):
            wave = coarse[c, m]
            for f in range(fine.shape[1]):
                result[c, f] += wave * fine[m, f]
    return result.reshape(-1)


class Channel:
    """Fading followed by white Gaussian noise, as a stream object.

    Made by :func:`awgn`, :func:`rayleigh_block`, :func:`rayleigh_jakes` or :func:`rayleigh_iid`.
    """

    def __init__(
        self, gains: Iterator[ComplexArray], es_n0_db: float, rng: np.random.Generator
    ) -> None:
        """Join a gain process and a noise source.

        Arguments:
            gains: blocks of channel gains h, E|h|^2 = 1.
            es_n0_db: see the module's definition; ``inf`` for no noise.
            rng: source of the noise.
        """
        self.es_n0_db = float(es_n0_db)
        self._gains = BlockQueue(gains)
        self._noise = BlockQueue(self._noise_blocks(np.sqrt(self.noise_variance), rng))

    @property
    def noise_variance(self) -> float:
        """N0, the variance of the complex noise."""
        return float(10 ** (-self.es_n0_db / 10))

    @staticmethod
    def _noise_blocks(scale: float, rng: np.random.Generator) -> Iterator[ComplexArray]:
        while True:
            yield (scale * complex_gaussian(rng, BLOCK)).astype(np.complex64)

    def process(self, samples: npt.ArrayLike) -> ChannelOutput:
        """Send the next samples through the channel.

        Arguments:
            samples: (n,) complex, any n.

        Returns:
            The received samples and the gains they met, each (n,) complex64.
        """
        sent = np.asarray(samples, dtype=np.complex64).reshape(-1)
        gains = self._gains.take(sent.size)
        return ChannelOutput(gains * sent + self._noise.take(sent.size), gains)


def _generators(seed: Seed) -> tuple[np.random.Generator, np.random.Generator]:
    """Independent generators for fading and noise."""
    fading, noise = (np.random.default_rng(child_seed(seed, key)) for key in range(2))
    return fading, noise


def awgn(es_n0_db: float, seed: Seed = 0) -> Channel:
    """Additive white Gaussian noise only.

    Arguments:
        es_n0_db: Es/N0, dB.
        seed: fixes every random draw.
    """
    _, noise = _generators(seed)
    return Channel(unit_gain(), es_n0_db, noise)


def rayleigh_block(es_n0_db: float, block_length: int, seed: Seed = 0) -> Channel:
    """Rayleigh block fading; see :func:`block_fading`.

    Arguments:
        es_n0_db: mean Es/N0, dB.
        block_length: samples with the same gain.
        seed: fixes every random draw.
    """
    fading, noise = _generators(seed)
    return Channel(block_fading(block_length, fading), es_n0_db, noise)


def rayleigh_iid(es_n0_db: float, seed: Seed = 0) -> Channel:
    """Rayleigh fading independent from symbol to symbol (the ideally interleaved textbook case).

    No pilot can track this channel: receive with perfect channel knowledge.

    Arguments:
        es_n0_db: mean Es/N0, dB.
        seed: fixes every random draw.
    """
    return rayleigh_block(es_n0_db, 1, seed)


def rayleigh_jakes(
    es_n0_db: float, doppler_hz: float, symbol_rate_hz: float = 1e6, seed: Seed = 0
) -> Channel:
    """Time-selective Rayleigh fading; see :func:`jakes_fading`.

    Arguments:
        es_n0_db: mean Es/N0, dB.
        doppler_hz: maximum Doppler shift, Hz.
        symbol_rate_hz: symbols (here samples) per second.
        seed: fixes every random draw.
    """
    fading, noise = _generators(seed)
    return Channel(jakes_fading(doppler_hz, symbol_rate_hz, fading), es_n0_db, noise)
