r"""The normal approximation: the best that a code of a given length could do.

On the binary-input AWGN channel, with the LLR L = 2 (1 + sigma z) / sigma^2 of a bit sent as +1,
z a standard normal variable, the information density of a channel use is i = 1 - log2(1 + e^-L).
Its mean is the capacity C, its variance the dispersion V, and the block error rate of the best code
with k information bits and n code bits is about

    epsilon = Q((n C - k + log2(n) / 2) / sqrt(n V)).

Reference: Y. Polyanskiy, H. V. Poor, S. Verdú, "Channel coding rate in the finite blocklength
regime", IEEE Trans. Inf. Theory 56(5), 2010, equation 223 (with the term log2(n) / 2).
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import norm

_QUADRATURE_POINTS = 200


def normal_approximation(k: int, n: int, eb_n0_db: ArrayLike) -> NDArray[np.float64]:
    """Block error rate of the best code, about.

    Arguments:
        k: Information bits per block.
        n: Code bits per block, each sent as +-1 (BPSK, or an axis of QPSK).
        eb_n0_db: Energy per information bit over noise density, dB, shape [...].

    Returns:
        Block error rate, shape [...], float64.
    """
    eb_n0 = 10 ** (np.asarray(eb_n0_db, dtype=np.float64) / 10)
    sigma = 1 / np.sqrt(2 * k / n * eb_n0)[..., np.newaxis]
    z, weights = np.polynomial.hermite_e.hermegauss(_QUADRATURE_POINTS)
    weights = weights / weights.sum()
    density = 1 - np.logaddexp(0, -2 * (1 + sigma * z) / sigma**2) / np.log(2)
    capacity = density @ weights
    dispersion = (density - capacity[..., np.newaxis]) ** 2 @ weights
    margin = n * capacity - k + np.log2(n) / 2
    return np.asarray(norm.sf(margin / np.sqrt(n * dispersion)))
