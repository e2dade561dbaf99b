"""Uncoded bit error rates by simulation against the closed forms.

Every point uses a fixed seed. A simulated rate passes inside the 99 % confidence interval of its
closed form; on fading the errors of one symbol share a gain, so the interval is taken from the
per-symbol error counts and not from independent bits.
"""

import numpy as np
import pytest
from scipy.special import erfc
from scipy.stats import norm

from phy.modulation import MODULATIONS
from phy.theory import ber_awgn, ber_rayleigh

POINTS = [
    (name, channel, es_n0_db)
    for channel, snrs in {
        "awgn": {
            "bpsk": (0, 3, 6),
            "qpsk": (0, 4, 8),
            "16qam": (4, 9, 14),
            "64qam": (8, 14, 20),
            "256qam": (12, 19, 25),
        },
        "rayleigh": dict.fromkeys(MODULATIONS, (0, 10, 20)),
    }.items()
    for name, values in snrs.items()
    for es_n0_db in values
]


@pytest.mark.parametrize(("name", "channel", "es_n0_db"), POINTS)
def test_simulated_ber(name, channel, es_n0_db):
    modulation = MODULATIONS[name]
    count = 200_000
    rng = np.random.default_rng([es_n0_db, modulation.bits_per_symbol, channel == "awgn"])
    bits = rng.integers(0, 2, count * modulation.bits_per_symbol, dtype=np.uint8)
    noise_variance = 10 ** (-es_n0_db / 10)

    def complex_gaussian():
        return (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)

    gain = complex_gaussian() if channel == "rayleigh" else np.ones(count)
    received = gain * modulation.map(bits) + np.sqrt(noise_variance) * complex_gaussian()
    llr = modulation.demap(received, noise_variance, gain, "maxlog")
    per_symbol = ((llr < 0) != bits).reshape(count, -1).mean(axis=1)
    expected = (ber_awgn if channel == "awgn" else ber_rayleigh)(name, es_n0_db)
    interval = norm.ppf(0.995) * per_symbol.std() / np.sqrt(count)
    assert per_symbol.mean() == pytest.approx(expected, abs=interval)


@pytest.mark.parametrize("name", ["qpsk", "16qam", "64qam", "256qam"])
def test_closed_form_equals_enumeration(name):
    """Add up the Gaussian probabilities of all (sent, decided) amplitude pairs of the labelling."""
    modulation = MODULATIONS[name]
    amplitudes = modulation.amplitudes
    order = np.argsort(amplitudes)
    edges = np.concatenate(
        [[-np.inf], (amplitudes[order][1:] + amplitudes[order][:-1]) / 2, [np.inf]]
    )
    m = modulation.bits_per_symbol // 2
    for es_n0_db in (0.0, 10.0, 20.0):
        sigma = np.sqrt(10 ** (-es_n0_db / 10) / 2)
        ber = 0.0
        for sent in range(2**m):
            inside = np.diff(0.5 * erfc((amplitudes[sent] - edges) / sigma / np.sqrt(2)))
            ber += np.sum(inside * np.bitwise_count(order ^ sent)) / m / 2**m
        assert ber_awgn(name, es_n0_db) == pytest.approx(ber, rel=1e-9)


def test_rayleigh_is_the_average_of_awgn():
    gamma = -np.log((np.arange(200_000) + 0.5) / 200_000)  # quantiles of the exponential law
    for name in MODULATIONS:
        average = ber_awgn(name, 15 + 10 * np.log10(gamma)).mean()
        assert ber_rayleigh(name, 15) == pytest.approx(average, rel=1e-3)


def test_unknown_modulation():
    with pytest.raises(ValueError, match="qpsk"):
        ber_awgn("8psk", 3)
