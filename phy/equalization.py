r"""Equalization of a single carrier: the fractionally spaced MMSE equalizer, block by block.

Over paths of gains :math:`c_d` and delays :math:`\tau_d` (in symbols) the matched filter's output
is

.. math:: y(t) = \sum_k a_k \sum_d c_d\, x(t - k - \tau_d) + n(t)

with the raised cosine x of spectrum :math:`X(f)`, and noise of density :math:`N_0 X(f)`. Taken
twice a symbol it holds all that the samples tell of the symbols: a spectrum
:math:`Y(f) = C(f) X(f) A(f) + N(f)` of width :math:`1 + \beta`, in which the symbols' periodic
spectrum A occurs more than once near the edges. The copies are weighted like the antennas of a
diversity receiver and added, and what is left is a one-tap MMSE equalizer per frequency:

.. math:: \hat A(f) = \frac{\sum_i C^*(f+i)\, Y(f+i)}{Q(f) + N_0}, \qquad
    Q(f) = \sum_i |C(f+i)|^2 X(f+i).

With :math:`\mu`, the mean of :math:`Q / (Q + N_0)` over one period, a symbol comes out as
:math:`\hat a_k = \mu a_k + e_k`, where noise and remaining intersymbol interference e have the
variance :math:`\mu (1 - \mu)`: a signal-to-interference-and-noise ratio of
:math:`\mu / (1 - \mu)`. To a demapper this is a flat channel. Errors in the paths' gains act on
unknown symbols, which makes them noise: their variance is added to :math:`N_0`.

The channel changes from one block of :data:`BLOCK` symbols to the next. Each block is transformed
with :data:`GUARD` more symbols on both sides, over which the equalizer's response dies down
(overlap-save).

References:
    - J. G. Proakis, M. Salehi, "Digital Communications", 5th ed., 9.4-2 (MMSE) and 9.4-4
      (fractionally spaced equalizers).
    - D. Falconer, S. L. Ariyavisitakul, A. Benyamin-Seeyar, B. Eidson, "Frequency domain
      equalization for single-carrier broadband wireless systems", IEEE Commun. Mag. 40(4), 2002.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.fft import fft, fftfreq, ifft

ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float64]

BLOCK = 32
"""Symbols that are equalized alike."""
GUARD = 48
"""Symbols on either side of a block that are transformed with it."""
_SIZE = BLOCK + 2 * GUARD


def raised_cosine(t: npt.ArrayLike, rolloff: float) -> FloatArray:
    """The Nyquist pulse x(t), the autocorrelation of the root-raised cosine.

    Arguments:
        t: times in symbols, any shape.
        rolloff: excess bandwidth beta, 0 < beta <= 1.
    """
    time = np.asarray(t, dtype=np.float64)
    at_pole = np.isclose(np.abs(2 * rolloff * time), 1, atol=1e-9)
    denominator = np.where(at_pole, 1, 1 - (2 * rolloff * time) ** 2)
    # cos(pi u / 2) / (1 - u^2) goes to pi / 4 for u to 1.
    window = np.where(at_pole, np.pi / 4, np.cos(np.pi * rolloff * time) / denominator)
    return np.sinc(time) * window


def raised_cosine_spectrum(frequency: npt.ArrayLike, rolloff: float) -> FloatArray:
    """The spectrum X(f) of :func:`raised_cosine`.

    Arguments:
        frequency: in cycles per symbol, any shape.
        rolloff: excess bandwidth beta, 0 < beta <= 1.
    """
    beyond = np.abs(np.asarray(frequency, dtype=np.float64)) - (1 - rolloff) / 2
    return np.cos(np.pi / 2 * np.clip(beyond / rolloff, 0, 1)) ** 2


@dataclass(frozen=True)
class Equalized:
    """Symbols behind the equalizer, one row a block.

    Attributes:
        symbols: (blocks, BLOCK) complex64, mu times the symbol sent, noise and interference.
        bias: (blocks,) mu.
    """

    symbols: ComplexArray
    bias: FloatArray

    @property
    def sinr(self) -> FloatArray:
        """(blocks,) signal over interference and noise, :math:`\\mu / (1 - \\mu)`."""
        return self.bias / np.maximum(1 - self.bias, np.finfo(np.float32).tiny)

    def as_flat(self, noise_variance: npt.ArrayLike) -> tuple[ComplexArray, FloatArray]:
        """The symbols as a flat channel of the same quality brings them.

        Arguments:
            noise_variance: of that channel, a number or (blocks,).

        Returns:
            (BLOCK blocks,) complex64 symbols, and (blocks,) that channel's gains.
        """
        gain: FloatArray = np.sqrt(np.asarray(noise_variance, np.float64) * self.sinr)
        scale = (gain / self.bias)[:, None].astype(np.float32)
        return (self.symbols * scale).reshape(-1), gain


class MmseEqualizer:
    """Equalizer for paths of given delays; holds nothing between calls."""

    def __init__(self, delays: npt.ArrayLike, rolloff: float) -> None:
        """Prepare the transforms.

        Arguments:
            delays: (D,) of the paths, in symbols.
            rolloff: of the pulse.
        """
        frequency = fftfreq(2 * _SIZE, 0.5)  # cycles per symbol
        turns = np.outer(np.asarray(delays, dtype=np.float64), frequency)
        self._to_frequency = np.exp(-2j * np.pi * turns).astype(np.complex64)
        self._spectrum = raised_cosine_spectrum(frequency, rolloff).astype(np.float32)

    def equalize(
        self,
        received: ComplexArray,
        gains: npt.NDArray[np.complexfloating],
        noise_variance: npt.ArrayLike,
    ) -> Equalized:
        """Symbols of a frame.

        Arguments:
            received: (2 (BLOCK blocks + 2 GUARD),) complex64, the matched filter's output at every
                half symbol from GUARD symbols before the first block on.
            gains: (blocks, D) complex, of the paths in the middle of each block.
            noise_variance: N0, with the variance of the channel's estimation error; a number or
                (blocks,).

        Returns:
            The equalized symbols.
        """
        blocks = np.lib.stride_tricks.sliding_window_view(received, 2 * _SIZE)[:: 2 * BLOCK]
        # Half: the sum over half symbols is twice the integral of the Fourier transform.
        spectrum = fft(blocks, axis=-1) * np.float32(0.5)
        response = gains.astype(np.complex64) @ self._to_frequency
        combined = _fold(np.conj(response) * spectrum)
        energy = _fold((response.real**2 + response.imag**2) * self._spectrum)
        noise = np.broadcast_to(np.asarray(noise_variance, np.float32), blocks.shape[:1])
        denominator = energy + noise[:, None]
        symbols = ifft(combined / denominator, axis=-1)[:, GUARD : GUARD + BLOCK]
        bias: FloatArray = (energy / denominator).mean(axis=-1, dtype=np.float64)
        bias = np.maximum(bias, np.finfo(np.float32).tiny)  # no channel, no symbol
        return Equalized(np.ascontiguousarray(symbols, dtype=np.complex64), bias)


def _fold(spectra: npt.NDArray) -> npt.NDArray:
    """Sum of what lies a period, one cycle per symbol, apart: (..., 2n) to (..., n)."""
    half = spectra.shape[-1] // 2
    folded: npt.NDArray = spectra[..., :half] + spectra[..., half:]
    return folded
