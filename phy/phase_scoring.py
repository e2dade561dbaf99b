r"""What is left of carrier and clock offset, from all symbols of a frame, data included.

Pilots are few behind the header; the data symbols are many, but known only by their probabilities.
By Fisher's identity the derivative of the log-likelihood by the phase of symbol k needs no more
than its posterior mean :math:`\bar x_k` (the symbol itself at a pilot),

.. math:: u_k = \frac{2}{N_0}\, \mathrm{Im}\{ (h_k \bar x_k)^* y_k \},

and the mean of :math:`u_k^2` is its information: at 1 dB a QPSK symbol tells a seventh of what a
pilot does. With the phase written as a combination of some functions, :math:`b_k^T \theta`, one
step of scoring is

.. math:: \theta = \Bigl( \sum_k u_k^2\, b_k b_k^T \Bigr)^{-1} \sum_k u_k b_k .

Reference:
    S. M. Kay, "Fundamentals of Statistical Signal Processing: Estimation Theory", 7.7 (scoring).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float64]


def phase_drift(
    received: ComplexArray,
    expected: ComplexArray,
    noise_variance: float,
    frequencies: npt.ArrayLike = (0.0,),
) -> tuple[float, float]:
    """By how much the phase still grows: from row to row, and so by carrier.

    A phase and, with several carriers, a delay that stay the same are fitted beside them. Drifts of
    more than some standard deviations of the estimate are underestimated, as they enlarge its
    information.

    Arguments:
        received: (T, F) complex64, rows in time and columns in frequency; (T, 1) on one carrier.
        expected: (T, F) complex64, channel gain times symbol, or times its mean given what was
            received; 0 where nothing is known.
        noise_variance: N0.
        frequencies: (F,) of the carriers, in any unit.

    Returns:
        Radians per row, and radians per row and unit of frequency (0 on one carrier).
    """
    k = np.asarray(frequencies, dtype=np.float64)
    terms = 2 if k.size == 1 else 4
    score, information = _sums(received, expected, k, terms)
    scale = 2 / noise_variance
    # Without any noise there may be no score at all, and then nothing to correct.
    step = np.linalg.lstsq(scale * information, score)[0]
    return float(step[1]), float(step[3]) if terms == 4 else 0.0


@numba.njit(cache=True, nogil=True)
def turned_back(
    received: ComplexArray, by_row: float, by_row_and_frequency: float, frequencies: FloatArray
) -> ComplexArray:  # pragma: no cover - compiled
    """What was received without a drift, see :func:`phase_drift`."""
    out = np.empty_like(received)
    for t in range(received.shape[0]):
        for f in range(received.shape[1]):
            angle = np.float32(-t * (by_row + by_row_and_frequency * frequencies[f]))
            out[t, f] = received[t, f] * np.complex64(complex(np.cos(angle), np.sin(angle)))
    return out


@numba.njit(cache=True, nogil=True)
def _sums(
    received: ComplexArray, expected: ComplexArray, frequencies: FloatArray, terms: int
) -> tuple[FloatArray, FloatArray]:  # pragma: no cover - compiled
    """Sums of v b and v^2 b b^T over all symbols, v = Im{expected* received}, b = 1, t, k, t k."""
    score = np.zeros(terms)
    information = np.zeros((terms, terms))
    T, F = received.shape
    for t in range(T):
        # Over the columns of a row b changes with the frequency only.
        first, second = np.zeros(2), np.zeros(3)
        for f in range(F):
            e, y, k = expected[t, f], received[t, f], frequencies[f]
            v = np.float64(e.real * y.imag - e.imag * y.real)
            first[0] += v
            first[1] += v * k
            second[0] += v * v
            second[1] += v * v * k
            second[2] += v * v * k * k
        time = t - 0.5 * (T - 1)
        for i in range(terms):
            score[i] += first[i // 2] * time ** (i % 2)
            for j in range(terms):
                information[i, j] += second[i // 2 + j // 2] * time ** (i % 2 + j % 2)
    return score, information
