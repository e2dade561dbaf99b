"""Tapped delay lines: tables beside Sionna's, filter beside its stated response, statistics."""

import json
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0
from scipy.stats import kstest

from phy.tapped_delay_line import PROFILES, FadingFilter, TappedDelayLine

TDL = sorted(set(PROFILES) - {"flat"})
RATE = 10e6


@pytest.mark.parametrize("name", TDL)
def test_tables_equal_sionna(name: str) -> None:
    spec = find_spec("sionna")  # only its data: importing it takes seconds
    assert spec is not None
    assert spec.submodule_search_locations
    folder = Path(spec.submodule_search_locations[0]) / "phy/channel/tr38901/models/v19_2"
    theirs = json.loads((folder / f"{name}.json").read_text())
    ours = PROFILES[name]
    assert list(ours.delays) == theirs["delays"]
    assert list(ours.powers_db) == theirs["powers"]
    assert ours.line_of_sight == bool(theirs["los"])


@pytest.mark.parametrize("name", TDL)
def test_delays_are_multiples_of_the_delay_spread(name: str) -> None:
    line = TappedDelayLine(name, delay_spread_s=300e-9)
    power, delay = line.powers, line.delays_s
    assert power.sum() == pytest.approx(1)
    spread = np.sqrt(power @ delay**2 - (power @ delay) ** 2)
    assert spread == pytest.approx(300e-9, rel=0.01)


@pytest.mark.parametrize("name", ["TDL-A", "TDL-C", "TDL-E"])
@pytest.mark.parametrize("doppler_hz", [0.0, 3000.0])
def test_filter_has_the_response_that_it_states(name: str, doppler_hz: float) -> None:
    block = TappedDelayLine(name, 300e-9, doppler_hz).block(RATE, seed=5)
    n = np.arange(6000)
    frequencies_hz = np.array([-4e6, 1e5, 3.1e6])  # up to 0.8 of the Nyquist frequency
    tones = np.exp(2j * np.pi * np.outer(n, frequencies_hz / RATE))
    received = np.concatenate([block.process(tones.sum(axis=1)), block.flush()])
    assert received.size == 6000 + np.ceil(block.parameters.delays_s.max() * RATE)
    response = block.frequency_response(n, frequencies_hz)
    error = (received[:6000] - np.sum(response * tones, axis=1))[300:-300]
    assert 20 * np.log10(np.abs(error).max()) < -75
    if doppler_hz:
        assert np.all(np.ptp(np.abs(response), axis=0) > 0.1)


def gains(name: str, doppler_hz: float, positions: list[int], seeds: int) -> np.ndarray:
    """(seeds, positions, taps) gains at 1 Msample/s."""
    line = TappedDelayLine(name, 100e-9, doppler_hz)
    return np.stack([FadingFilter(line, 1e6, seed).tap_gains(positions) for seed in range(seeds)])


def test_taps_are_rayleigh_independent_and_of_the_profiles_power() -> None:
    seeds = 600
    h = gains("TDL-B", 100, [12_345], seeds)[:, 0]
    powers = TappedDelayLine("TDL-B").powers
    # The mean of `seeds` exponential values deviates by 1/sqrt(seeds); 4.5 times that is reached by
    # one of 23 taps with a probability of 2e-4.
    assert np.mean(np.abs(h) ** 2, axis=0) == pytest.approx(powers, rel=4.5 / np.sqrt(seeds))
    normal = h / np.sqrt(powers)
    assert kstest(np.abs(normal.ravel()) ** 2, "expon").pvalue > 1e-3
    correlation = normal.T @ normal.conj() / seeds - np.eye(powers.size)
    off_diagonal = correlation[~np.eye(powers.size, dtype=bool)]
    # |correlation|^2 is exponential with mean 1/seeds; the largest of 253 pairs.
    assert np.abs(off_diagonal).max() ** 2 < np.log(253 / 1e-4) / seeds


def test_taps_have_the_doppler_spectrum() -> None:
    lags = [0, 300, 1000, 2400, 4100, 7777]  # microseconds, up to 1.6 periods
    h = gains("TDL-A", 200, lags, 150)
    h = h / np.sqrt(TappedDelayLine("TDL-A").powers)
    correlation = np.mean(h * h[:, :1].conj(), axis=(0, 2))
    # 150 x 23 independent products of unit variance: 4 / sqrt(3450) = 0.07.
    expected = j0(2 * np.pi * 200 * np.array(lags) * 1e-6)
    assert correlation.real == pytest.approx(expected, abs=0.07)
    assert correlation.imag == pytest.approx(0, abs=0.07)


@pytest.mark.parametrize(("name", "k_factor_db"), [("TDL-D", 13.3), ("TDL-E", 22.0)])
def test_line_of_sight(name: str, k_factor_db: float) -> None:
    """K factors and the Doppler shift of clause 7.7.2."""
    line = TappedDelayLine(name, doppler_hz=100)
    assert 10 * np.log10(line.powers[0] / line.powers[1]) == pytest.approx(k_factor_db)
    block = line.block(1e6, seed=3)
    los = block.tap_gains([0, 1000])[:, 0]
    assert np.abs(los) ** 2 == pytest.approx(line.powers[0], rel=1e-3)
    assert np.angle(los[1] / los[0]) == pytest.approx(2 * np.pi * 70 * 1e-3, abs=1e-3)


def test_mean_power_gain_is_one() -> None:
    rng = np.random.default_rng(1)
    sent = rng.standard_normal((4000, 2)) @ [1, 1j]
    sent = np.convolve(sent, np.sinc(np.arange(-20, 21) / 2) / np.sqrt(2))  # at half the rate
    line = TappedDelayLine("TDL-A", 1e-6)
    received = [line.block(RATE, seed).process(sent) for seed in range(100)]
    ratio = np.mean(np.abs(received) ** 2) / np.mean(np.abs(sent) ** 2)
    assert ratio == pytest.approx(1, abs=0.15)


@given(
    st.sampled_from(["flat", "TDL-B", "TDL-D"]),
    st.sampled_from([0.0, 50.0, 40_000.0]),
    st.lists(st.integers(0, 3000), min_size=1, max_size=6),
)
@settings(max_examples=20, deadline=None)
def test_output_does_not_depend_on_chunking(name: str, doppler_hz: float, sizes: list[int]) -> None:
    line = TappedDelayLine(name, 500e-9, doppler_hz)
    sent = np.exp(0.1j * np.arange(sum(sizes)))
    whole = line.block(RATE, seed=1)
    expected = np.concatenate([whole.process(sent), whole.flush()])
    block = line.block(RATE, seed=1)
    parts = [block.process(part) for part in np.split(sent, np.cumsum(sizes)[:-1])]
    assert np.array_equal(np.concatenate([*parts, block.flush()]), expected)


def test_long_chunks_and_seeds() -> None:
    line = TappedDelayLine("TDL-A", 100e-9, 1000)
    sent = np.ones(40_000)
    block = line.block(RATE, seed=1)
    parts = np.concatenate([block.process(sent[:13]), block.process(sent[13:])])
    assert np.array_equal(line.block(RATE, seed=1).process(sent), parts)
    assert not np.array_equal(line.block(RATE, seed=2).process(sent), parts)


def test_impossible_parameters() -> None:
    for parameters, message in (
        ({"profile": "TDL-F"}, "unknown profile"),
        ({"delay_spread_s": -1e-9}, "delay_spread_s"),
        ({"doppler_hz": np.nan}, "doppler_hz"),
    ):
        with pytest.raises(ValueError, match=message):
            TappedDelayLine(**parameters)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a tenth of the sample rate"):
        TappedDelayLine(doppler_hz=200).block(1000)
    with pytest.raises(ValueError, match="more than 2048"):
        TappedDelayLine(delay_spread_s=1).block(1e6)
