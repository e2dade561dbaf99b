"""Carrier and clock from all symbols, against the Cramer-Rao bound."""

import numpy as np
import pytest

from phy.modulation import MODULATIONS
from phy.phase_scoring import phase_drift

QPSK = MODULATIONS["qpsk"]


def received(rng, rows, columns, n0, by_row, by_both, frequencies):
    symbols = QPSK.map(rng.integers(0, 2, 2 * rows * columns)).reshape(rows, columns)
    time = np.arange(rows)[:, None]
    noise = rng.standard_normal((rows, 2 * columns)).view(complex) * np.sqrt(n0 / 2)
    turned = symbols * np.exp(1j * (0.1 + time * (by_row + by_both * frequencies)))
    return symbols, (turned * np.exp(-0.1j) + noise).astype(np.complex64)


def test_known_symbols_reach_the_bound():
    """On one carrier: variance of the slope 6 N0 / T^3 (Rife and Boorstyn), for a small slope."""
    rng = np.random.default_rng(160)
    errors = []
    for _ in range(200):
        symbols, y = received(rng, 400, 1, 0.5, 4e-4, 0.0, np.zeros(1))
        errors.append(phase_drift(y, symbols.astype(np.complex64), 0.5)[0] - 4e-4)
    bound = np.sqrt(6 * 0.5 / 400**3)
    assert np.mean(errors) == pytest.approx(0, abs=0.15 * 4e-4)
    assert np.std(errors) == pytest.approx(bound, rel=0.2)


@pytest.mark.parametrize("n0", [0.1, 0.8])
def test_means_of_unknown_symbols_are_enough(n0):
    """Carrier and clock together; an eighth of the symbols known, all others by their means."""
    rng = np.random.default_rng(161)
    frequencies = np.concatenate([np.arange(-32.0, 0), np.arange(1.0, 33)])
    truth = np.array([3e-4, -1e-5]) * np.sqrt(n0 / 0.1)
    found, pilots_alone = [], []
    for _ in range(40):
        symbols, y = received(rng, 120, 64, n0, *truth, frequencies)
        means = QPSK.expect(y.reshape(-1), n0).reshape(y.shape)
        means[:, ::8] = symbols[:, ::8]
        found.append(phase_drift(y, means, n0, frequencies))
        only = np.zeros_like(means)
        only[:, ::8] = symbols[:, ::8]
        pilots_alone.append(phase_drift(y, only, n0, frequencies))
    spread, before = np.std(found, axis=0), np.std(pilots_alone, axis=0)
    assert (spread < before).all()
    assert (np.abs(np.mean(found, axis=0) - truth) < 0.25 * np.abs(truth)).all()
