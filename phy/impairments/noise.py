r"""White Gaussian noise, given by its density.

A complex sample of noise has the variance :math:`N_0` in the units of the samples: the density is
per hertz of a band as wide as the sample rate, so :math:`N_0 f_s` is its power in that band, and
the variance does not change with the rate as long as the density is counted per sample.

**Es/N0.** The energy of a symbol is the sum of :math:`|y|^2` over it: with S samples per symbol
(for OFDM: those of the useful part over its used subcarriers) and the mean power P,

.. math:: E_s = S P, \qquad N_0 = \frac{S P}{E_s/N_0},

and the signal-to-noise ratio in the whole sampled band, :math:`P/N_0`, is lower than Es/N0 by
:math:`10 \log_{10} S` dB. At one sample per symbol this is the definition of :mod:`phy.channel`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from phy.impairments.block import ComplexArray, SampleBlock, require
from phy.random_process import BLOCK, BlockQueue, Seed, complex_gaussian


@dataclass(frozen=True)
class AdditiveNoise:
    """Thermal noise.

    Attributes:
        noise_density: N0, the variance of a complex sample.
    """

    noise_density: float = 0.0

    def __post_init__(self) -> None:
        require(0 <= self.noise_density < np.inf, f"noise_density is {self.noise_density}")

    @classmethod
    def from_es_n0(
        cls, es_n0_db: float, samples_per_symbol: float, mean_power: float = 1.0
    ) -> AdditiveNoise:
        """The density for an Es/N0; see the module.

        Arguments:
            es_n0_db: symbol energy over noise density, dB; ``inf`` for no noise.
            samples_per_symbol: S.
            mean_power: P, mean of |y|^2 while the signal is there.
        """
        require(samples_per_symbol > 0, f"samples_per_symbol is {samples_per_symbol}")
        require(mean_power > 0, f"mean_power is {mean_power}")
        return cls(samples_per_symbol * mean_power * float(10 ** (-es_n0_db / 10)))

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return Adder(self._noise(np.random.default_rng(seed)))

    def _noise(self, rng: np.random.Generator) -> Iterator[ComplexArray]:
        scale = np.sqrt(self.noise_density)
        while True:
            yield (scale * complex_gaussian(rng, BLOCK)).astype(np.complex64)


class Adder(SampleBlock):
    """Adds a process of its own to the samples: noise, or an interferer."""

    def __init__(self, terms: Iterator[ComplexArray]) -> None:
        """Start at the first term.

        Arguments:
            terms: blocks of complex64, endlessly.
        """
        self._terms = BlockQueue(terms)

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return samples + self._terms.take(samples.size)
