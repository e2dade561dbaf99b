r"""The analog front end and its converter: IQ imbalance, DC offset, gain, compression, bits.

**IQ imbalance.** Mixing with unequal branch gains :math:`g_I, g_Q` and carriers that are
:math:`90^\circ + \phi` apart adds the mirror image of the spectrum, :math:`y = \mu x + \nu x^*`:

.. math:: \nu = \tfrac12 (g_I e^{j\phi/2} - g_Q e^{-j\phi/2}), \qquad
    \mu_\mathrm{tx} = \mu_\mathrm{rx}^* = \tfrac12 (g_I e^{j\phi/2} + g_Q e^{-j\phi/2}),

and so, with :math:`g = g_I/g_Q`, the image rejection ratio

.. math:: \mathrm{IRR} = \frac{|\mu|^2}{|\nu|^2}
    = \frac{1 + 2g\cos\phi + g^2}{1 - 2g\cos\phi + g^2}.

The gains are scaled to :math:`g_I^2 + g_Q^2 = 2`, which leaves the power of a circular signal.

**Compression.** Rapp's amplifier has a small-signal gain of 1 and saturates at the amplitude
:math:`A`, which lies the input back-off above the root of the mean power:

.. math:: y = \frac{x}{\left(1 + (|x|/A)^{2p}\right)^{1/2p}}.

References:
    - M. Valkama, M. Renfors, V. Koivunen, "Advanced methods for I/Q imbalance compensation in
      communication receivers", IEEE Trans. Signal Processing 49(10), 2001.
    - C. Rapp, "Effects of HPA-nonlinearity on a 4-DPSK/OFDM-signal for a digital sound broadcasting
      system", 2nd European Conf. on Satellite Communications, 1991.
    - W. Kester, "MT-001: Taking the mystery out of the infamous formula SNR = 6.02N + 1.76dB",
      Analog Devices, 2009.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import get_args

import numba
import numpy as np

from phy.impairments.block import ComplexArray, SampleBlock, Side, amplitude, require
from phy.random_process import Seed


class _Memoryless(SampleBlock):
    """A function of each sample by itself."""

    def __init__(self, function: Callable[[ComplexArray], ComplexArray]) -> None:
        self._function = function

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return self._function(samples)


@dataclass(frozen=True)
class IqImbalance:
    """Unequal gains and a phase error of the I and Q branches of a mixer.

    Attributes:
        iq_gain_db: gain of I over that of Q, g.
        iq_phase_deg: deviation from quadrature, phi.
        side: "transmit" or "receive".
    """

    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    side: Side = "receive"

    def __post_init__(self) -> None:
        require(np.isfinite(self.iq_gain_db), f"iq_gain_db is {self.iq_gain_db}")
        require(np.isfinite(self.iq_phase_deg), f"iq_phase_deg is {self.iq_phase_deg}")
        require(self.side in get_args(Side), f"the side is transmit or receive, not {self.side}")

    @property
    def image_rejection_db(self) -> float:
        """Power of the signal over that of its mirror image, IRR; infinite without imbalance."""
        mu, nu = self._coefficients()
        return float("inf") if nu == 0 else float(20 * np.log10(abs(mu) / abs(nu)))

    def _coefficients(self) -> tuple[complex, complex]:
        """mu and nu."""
        g = amplitude(self.iq_gain_db)
        g_q = np.sqrt(2 / (1 + g**2))
        turn = np.exp(0.5j * np.deg2rad(self.iq_phase_deg))
        mu = (g * g_q * turn + g_q / turn) / 2
        nu = (g * g_q * turn - g_q / turn) / 2
        return complex(mu if self.side == "transmit" else mu.conjugate()), complex(nu)

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        mu, nu = self._coefficients()
        return _Memoryless(lambda x: mu * x + nu * x.conj())


@dataclass(frozen=True)
class DcOffset:
    """A constant added to the samples: leakage of the carrier, or an offset of the converter.

    Attributes:
        dc_dbc: its power relative to a signal of unit mean power; ``-inf`` for none.
        dc_phase_deg: its phase.
    """

    dc_dbc: float = -np.inf
    dc_phase_deg: float = 0.0

    def __post_init__(self) -> None:
        require(self.dc_dbc < np.inf, f"dc_dbc is {self.dc_dbc}")
        require(np.isfinite(self.dc_phase_deg), f"dc_phase_deg is {self.dc_phase_deg}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        offset = amplitude(self.dc_dbc) * complex(np.exp(1j * np.deg2rad(self.dc_phase_deg)))
        return _Memoryless(lambda x: x + offset)


@dataclass(frozen=True)
class Gain:
    """A fixed gain or loss.

    Attributes:
        gain_db: positive amplifies; ``-inf`` disconnects.
    """

    gain_db: float = 0.0

    def __post_init__(self) -> None:
        require(self.gain_db < np.inf, f"gain_db is {self.gain_db}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        factor = amplitude(self.gain_db)
        return _Memoryless(lambda x: factor * x)


@dataclass(frozen=True)
class PowerAmplifier:
    """A solid-state amplifier that compresses, by Rapp's model, without a phase shift.

    Attributes:
        input_backoff_db: saturation power over unit mean power.
        smoothness: p; 2 to 3 for solid-state amplifiers, large for a hard limiter.
    """

    input_backoff_db: float = 10.0
    smoothness: float = 2.0

    def __post_init__(self) -> None:
        require(abs(self.input_backoff_db) <= 100, f"input_backoff_db is {self.input_backoff_db}")
        require(0 < self.smoothness <= 100, f"smoothness is {self.smoothness}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        saturation_power = 10 ** (self.input_backoff_db / 10)
        return _Memoryless(lambda x: _compress(x, saturation_power, self.smoothness))


@numba.njit(cache=True)
def _compress(
    samples: ComplexArray, saturation_power: float, smoothness: float
) -> ComplexArray:  # pragma: no cover - compiled
    """Rapp's model; far above saturation the power of p would overflow, and the limit is A."""
    output = np.empty_like(samples)
    for n in range(samples.size):
        x = samples[n]
        drive = (float(x.real) ** 2 + float(x.imag) ** 2) / saturation_power
        if drive > 1:
            gain = (1 + drive**-smoothness) ** (-0.5 / smoothness) / np.sqrt(drive)
        else:
            gain = (1 + drive**smoothness) ** (-0.5 / smoothness)
        output[n] = complex(x.real * gain, x.imag * gain)
    return output


@dataclass(frozen=True)
class Adc:
    r"""A converter of I and Q each, from analog to digital or back.

    The codes are the integers :math:`-2^{b-1} \ldots 2^{b-1} - 1` of two's complement, a code c
    stands for :math:`c\Delta` with :math:`\Delta = A/2^{b-1}`, and what exceeds them is clipped. A
    sine of full scale has a signal-to-quantization-noise ratio of 6.02 b + 1.76 dB.

    Attributes:
        adc_bits: b, 1 to 24: a float32 holds no more.
        adc_full_scale: A, amplitude of I or Q at full scale. A signal of unit mean power has a mean
            power of 1/2 in each of them: the default of 4 leaves 15 dB above it.
    """

    adc_bits: int = 12
    adc_full_scale: float = 4.0

    def __post_init__(self) -> None:
        require(1 <= self.adc_bits <= 24, f"adc_bits is {self.adc_bits}, outside 1 to 24")
        require(0 < self.adc_full_scale < np.inf, f"adc_full_scale is {self.adc_full_scale}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return Converter(self)


class Converter(SampleBlock):
    """The stream object of :class:`Adc`."""

    def __init__(self, parameters: Adc) -> None:
        """Start with a count of zero."""
        self._codes = 2 ** (parameters.adc_bits - 1)
        self._step = np.float32(parameters.adc_full_scale / self._codes)
        self._clipped = 0

    @property
    def clipped_samples(self) -> int:
        """See :attr:`phy.impairments.SampleBlock.clipped_samples`."""
        return self._clipped

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        output, clipped = _quantize(samples, self._step, -self._codes, self._codes - 1)
        self._clipped += clipped
        return output


@numba.njit(cache=True)
def _quantize(
    samples: ComplexArray, step: np.float32, lowest: int, highest: int
) -> tuple[ComplexArray, int]:  # pragma: no cover - compiled
    """I and Q rounded to multiples of the step, and the number of samples that were clipped."""
    low, high = np.float32(lowest), np.float32(highest)
    output = np.empty_like(samples)
    clipped = 0
    for n in range(samples.size):
        real = np.rint(samples[n].real / step)
        imag = np.rint(samples[n].imag / step)
        if not (low <= real <= high and low <= imag <= high):
            clipped += 1
        output[n] = complex(min(max(real, low), high) * step, min(max(imag, low), high) * step)
    return output, clipped
