r"""Closed-form uncoded bit error rates, as the yardstick of mapper, demapper and channels.

For a Gray-labelled square M-QAM (two independent :math:`\sqrt{M}`-PAMs) the bit error rate is a
short sum of Gaussian tails (Cho and Yoon, 2002, equations 14 and 16), for AWGN

.. math:: P_k = \frac{1}{\sqrt M} \sum_{i=0}^{(1-2^{-k})\sqrt M - 1} w_{k,i}\,
    \mathrm{erfc}\left((2i+1) \sqrt{\tfrac{3\gamma}{2(M-1)}}\right), \qquad
    w_{k,i} = (-1)^{\lfloor i 2^{k-1}/\sqrt M \rfloor}
    \left(2^{k-1} - \left\lfloor \tfrac{i 2^{k-1}}{\sqrt M} + \tfrac12 \right\rfloor\right)

with :math:`\gamma = E_s/N_0`, averaged over the bits :math:`k = 1 \ldots \log_2 \sqrt M`. On flat
Rayleigh fading with perfect channel knowledge :math:`\gamma` is exponentially distributed, and each
:math:`\mathrm{erfc}(a\sqrt\gamma)` becomes its mean
:math:`1 - \sqrt{a^2\bar\gamma/(1+a^2\bar\gamma)}`.

References:
    - K. Cho, D. Yoon, "On the general BER expression of one- and two-dimensional amplitude
      modulations", IEEE Trans. Commun. 50(7), 2002.
    - J. G. Proakis, M. Salehi, "Digital Communications", 5th ed., 13.3 (the Rayleigh mean).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.special import erfc

from phy.modulation import MODULATIONS

FloatArray = npt.NDArray[np.float64]


def ber_awgn(modulation: str, es_n0_db: npt.ArrayLike) -> FloatArray:
    """Bit error rate on AWGN.

    Arguments:
        modulation: name of a constellation of :data:`phy.modulation.MODULATIONS`.
        es_n0_db: [...] symbol energy over noise density, dB.

    Returns:
        [...] float64.

    Raises:
        ValueError: unknown constellation.
    """
    snr = 10 ** (np.asarray(es_n0_db, dtype=np.float64) / 10)
    return _bit_error_rate(modulation, lambda a: erfc(a * np.sqrt(snr)))


def ber_rayleigh(modulation: str, es_n0_db: npt.ArrayLike) -> FloatArray:
    """Bit error rate on flat Rayleigh fading, E|h|^2 = 1, h known to the receiver.

    Arguments:
        modulation: name of a constellation of :data:`phy.modulation.MODULATIONS`.
        es_n0_db: [...] mean symbol energy over noise density, dB.

    Returns:
        [...] float64.

    Raises:
        ValueError: unknown constellation.
    """
    snr = 10 ** (np.asarray(es_n0_db, dtype=np.float64) / 10)
    return _bit_error_rate(modulation, lambda a: 1 - np.sqrt(a**2 * snr / (1 + a**2 * snr)))


def _bit_error_rate(modulation: str, tail: Callable[[float], FloatArray]) -> FloatArray:
    """Sum the Cho-Yoon terms; tail(a) is the mean of erfc(a sqrt(gamma)) over the fading."""
    if modulation not in MODULATIONS:
        raise ValueError(f"unknown modulation {modulation!r}; one of {', '.join(MODULATIONS)}")
    Qm = MODULATIONS[modulation].bits_per_symbol
    if Qm == 1:
        return 0.5 * tail(1.0)
    M, levels = 2**Qm, 2 ** (Qm // 2)
    total = tail(1.0) * 0.0
    for k in range(1, Qm // 2 + 1):
        for i in range(levels - levels // 2**k):
            half = i * 2 ** (k - 1) / levels
            weight = (-1) ** int(half) * (2 ** (k - 1) - int(half + 0.5))
            total = total + weight * tail((2 * i + 1) * np.sqrt(1.5 / (M - 1)))
    return total / levels / (Qm // 2)
