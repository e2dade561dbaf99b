r"""Which scheme a channel carries: mutual-information effective SNR mapping.

A code block sees symbols of many gains. What it can carry follows, to a good approximation, from
the mean mutual information of its bits over these gains: it decodes where that mean exceeds what
the same scheme needs on AWGN. The bits of a Gray-mapped constellation carry

.. math:: I(\gamma) = Q_m + \sum_k \mathrm{E}\, \log_2
    \frac{\sum_{x \in X_k^{b}} p(y \mid x)}{\sum_{x \in X} p(y \mid x)}

bits a symbol (bit-interleaved coded modulation), an expectation over noise, here by Gauss-Hermite
quadrature, and over the bits, here exact. The constellations are separable, so that one dimension
is enough.

References:
    - G. Caire, G. Taricco, E. Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory
      44(3), 1998, eq. (15).
    - K. Brueninghaus et al., "Link performance models for system level simulations of broadband
      radio access systems", IEEE PIMRC 2005 (the mapping).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from phy.mcs import MCS_TABLE, ModulationCodingScheme
from phy.modulation import Modulation, pam_amplitudes

_GRID_DB = np.arange(-30.0, 45.01, 0.25)
_NODES = 32


def bit_information(modulation: Modulation, es_n0_db: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """Mutual information of the bits of a constellation on AWGN.

    Arguments:
        modulation: the constellation.
        es_n0_db: SNR in dB, any shape; outside of -30 ... 45 dB the value at the end.

    Returns:
        Bits per symbol, of the same shape, within 0.001.
    """
    return np.interp(np.asarray(es_n0_db, dtype=np.float64), _GRID_DB, _table(modulation))


def snr_of_information(modulation: Modulation, information: float) -> float:
    """The inverse of :func:`bit_information`, in dB, -30 to 45."""
    return float(np.interp(information, _table(modulation), _GRID_DB))


@lru_cache
def _table(modulation: Modulation) -> npt.NDArray[np.float64]:
    """:func:`bit_information` on the grid."""
    Qm = modulation.bits_per_symbol
    bits, dimensions = (1, 1) if Qm == 1 else (Qm // 2, 2)
    points = pam_amplitudes(bits)
    points *= np.sqrt(1 / dimensions / np.mean(points**2))
    nodes, weights = np.polynomial.hermite.hermgauss(_NODES)
    weights = weights / weights.sum()
    information = np.empty(_GRID_DB.size)
    labels = np.arange(points.size)
    for i, snr_db in enumerate(_GRID_DB):
        variance = 10 ** (-snr_db / 10) / 2  # of the noise in one dimension
        y = points[:, None] + np.sqrt(2 * variance) * nodes
        exponent = -((y[..., None] - points) ** 2) / (2 * variance)
        likelihood = np.exp(exponent - exponent.max(axis=-1, keepdims=True))
        total = np.log2(likelihood.sum(axis=-1))
        information[i] = bits
        for k in range(bits):
            same = ((labels[:, None] ^ labels) >> k) & 1 == 0  # sent point, candidate
            agreeing = np.log2((likelihood * same[:, None, :]).sum(axis=-1))
            information[i] += ((agreeing - total) @ weights).mean()
    return dimensions * information


def outage(mcs: ModulationCodingScheme, gains: npt.NDArray[np.float64], es_n0_db: float) -> float:
    """Share of transport blocks that a scheme is expected to lose.

    Arguments:
        mcs: the scheme.
        gains: (blocks, n) |h|^2 of the symbols of some blocks, or of a sample of them.
        es_n0_db: mean SNR, dB.
    """
    needed = bit_information(mcs.modulation, mcs.es_n0_db)
    snr_db = es_n0_db + 10 * np.log10(np.maximum(gains, 1e-12))
    return float(np.mean(bit_information(mcs.modulation, snr_db).mean(axis=1) < needed))


def fastest_mcs(
    gains: Callable[[ModulationCodingScheme], npt.NDArray[np.float64]],
    es_n0_db: float,
    most_outage: float = 0.01,
) -> ModulationCodingScheme:
    """The scheme of the highest spectral efficiency that loses few enough blocks.

    Arguments:
        gains: gives (blocks, n) |h|^2 of the symbols of some blocks, or of a sample of them, at a
            scheme: a slow one needs longer blocks, which see more of a changing channel.
        es_n0_db: mean SNR, dB, less what synchronization and estimation cost.
        most_outage: share of blocks that may be lost.

    Returns:
        The scheme; if none is robust enough, the most robust one.
    """
    by_speed = sorted(MCS_TABLE.values(), key=lambda mcs: (-mcs.spectral_efficiency, mcs.es_n0_db))
    for mcs in by_speed:
        if outage(mcs, gains(mcs), es_n0_db) <= most_outage:
            return mcs
    return min(by_speed, key=lambda mcs: mcs.es_n0_db)
