"""Moments, distribution, autocorrelation and streaming of the channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0
from scipy.stats import kstest

from phy.channel import (
    awgn,
    block_fading,
    jakes_fading,
    rayleigh_block,
    rayleigh_iid,
    rayleigh_jakes,
)

CHANNELS = {
    "awgn": lambda snr, seed: awgn(snr, seed),
    "block": lambda snr, seed: rayleigh_block(snr, 700, seed),
    "iid": lambda snr, seed: rayleigh_iid(snr, seed),
    "jakes": lambda snr, seed: rayleigh_jakes(snr, 200, seed=seed),
}


def test_awgn_moments():
    n = 200_000
    noise = awgn(7, seed=1).process(np.zeros(n)).samples
    n0 = 10**-0.7
    assert abs(noise.mean()) < 4 * np.sqrt(n0 / n)
    assert np.mean(np.abs(noise) ** 2) == pytest.approx(n0, rel=4 / np.sqrt(n))
    assert abs(np.mean(noise**2)) < 4 * n0 * np.sqrt(2 / n), "circular"
    assert abs(np.mean(noise[1:] * noise[:-1].conj())) < 4 * n0 / np.sqrt(n), "white"


@pytest.mark.parametrize("name", ["block", "iid"])
def test_independent_fading_is_rayleigh(name):
    n = 700 * 2000 if name == "block" else 20_000
    gains = CHANNELS[name](10, 3).process(np.ones(n)).gains[:: 700 if name == "block" else 1]
    power = np.abs(gains) ** 2
    assert power.mean() == pytest.approx(1, abs=4 / np.sqrt(power.size))
    assert kstest(power, "expon").pvalue > 1e-3
    assert kstest(np.angle(gains), "uniform", (-np.pi, 2 * np.pi)).pvalue > 1e-3


def test_block_fading_is_constant_within_a_block():
    gains = rayleigh_block(10, 700, seed=2).process(np.ones(7000)).gains.reshape(10, 700)
    assert np.all(gains == gains[:, :1])
    assert np.unique(gains).size == 10


def test_jakes_ensemble_is_rayleigh_with_j0_autocorrelation():
    doppler, rate = 50.0, 10_000.0
    gains = np.stack(
        [next(jakes_fading(doppler, rate, np.random.default_rng(seed))) for seed in range(600)]
    )
    power = np.abs(gains) ** 2
    assert power.mean() == pytest.approx(1, abs=0.02)
    # An exponential law has E|h|^4 = 2 and E|h|^6 = 6.
    assert np.mean(power**2) == pytest.approx(2, rel=0.05)
    assert np.mean(power**3) == pytest.approx(6, rel=0.1)
    for instant in (0, 4095):
        assert kstest(power[:, instant], "expon").pvalue > 1e-3
    lags = np.array([1, 20, 77, 200, 500, 900])  # up to 4.5 Doppler periods
    correlation = [np.mean(gains[:, lag:] * gains[:, : 4096 - lag].conj()) for lag in lags]
    assert np.real(correlation) == pytest.approx(j0(2 * np.pi * doppler * lags / rate), abs=0.05)
    assert np.imag(correlation) == pytest.approx(0, abs=0.05)


def test_one_jakes_realization_has_unit_power_over_time():
    gains = rayleigh_jakes(10, 50, 1000, seed=4).process(np.ones(200_000)).gains
    assert np.mean(np.abs(gains) ** 2) == pytest.approx(1, abs=0.05)


@given(
    st.sampled_from(sorted(CHANNELS)),
    st.lists(st.integers(0, 5000), min_size=1, max_size=8),
)
@settings(max_examples=40, deadline=None)
def test_output_does_not_depend_on_chunking(name, sizes):
    total = sum(sizes)
    sent = np.exp(1j * np.arange(total))
    whole = CHANNELS[name](5, 9).process(sent)
    channel = CHANNELS[name](5, 9)
    parts = [channel.process(part) for part in np.split(sent, np.cumsum(sizes)[:-1])]
    assert np.array_equal(whole.samples, np.concatenate([part.samples for part in parts]))
    assert np.array_equal(whole.gains, np.concatenate([part.gains for part in parts]))


def test_seed_fixes_fading_whatever_the_snr():
    low, high = (rayleigh_jakes(snr, 50, seed=6).process(np.ones(5000)) for snr in (0, 30))
    assert np.array_equal(low.gains, high.gains)
    assert not np.array_equal(low.samples, high.samples)
    other = rayleigh_jakes(0, 50, seed=7).process(np.ones(5000))
    assert not np.array_equal(low.gains, other.gains)


def test_no_noise_and_bad_arguments():
    out = awgn(np.inf).process(np.ones(3))
    assert np.array_equal(out.samples, np.ones(3))
    for doppler in (-1, 200_000, np.nan):
        with pytest.raises(ValueError, match="Doppler"):
            rayleigh_jakes(10, doppler)
    with pytest.raises(ValueError, match="symbol rate"):
        rayleigh_jakes(10, 0, symbol_rate_hz=0)
    with pytest.raises(ValueError, match="block"):
        rayleigh_block(10, 0)


def test_long_blocks_come_in_pieces():
    """One gain for ever needs no more memory than one for a moment."""
    pieces = block_fading(10**30, np.random.default_rng(1))
    first, second = next(pieces), next(pieces)
    assert first.size == second.size == 4096
    assert np.all(np.concatenate([first, second]) == first[0])
    gains = rayleigh_block(10, 10_000, seed=2).process(np.ones(30_000)).gains.reshape(3, 10_000)
    assert np.all(gains == gains[:, :1])
    assert np.unique(gains).size == 3
