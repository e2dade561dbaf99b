"""Root-raised-cosine pulses against their definition in the frequency domain."""

from itertools import pairwise

import numpy as np
import pytest
from commpy.filters import rrcosfilter
from hypothesis import given, settings
from hypothesis import strategies as st

from phy.pulse_shaping import SPAN, Pulse, PulseShaper, root_raised_cosine


@pytest.mark.parametrize("rolloff", [0.05, 0.25, 0.5, 1.0])
def test_pulse_is_the_transform_of_the_root_raised_cosine_spectrum(rolloff):
    """g(t) = integral of sqrt(H(f)) cos(2 pi f t) df, H the raised cosine (Proakis, 9.2-27)."""
    f = np.linspace(0, 0.5 * (1 + rolloff), 200_001)
    edge = np.clip((f - 0.5 * (1 - rolloff)) / rolloff, 0, 1)
    root = np.sqrt(0.5 * (1 + np.cos(np.pi * edge)))
    for t in (0.0, 0.1, 0.5, 1.0, 1 / (4 * rolloff), 2.75, 7.3):
        expected = 2 * np.trapezoid(root * np.cos(2 * np.pi * f * t), f)
        assert root_raised_cosine(t, rolloff) == pytest.approx(expected, abs=1e-6)


def test_pulse_is_that_of_commpy():
    _, taps = rrcosfilter(80, 0.25, 1.0, 4.0)
    assert root_raised_cosine((np.arange(80) - 40) / 4, 0.25) == pytest.approx(taps, abs=1e-9)


@pytest.mark.parametrize("samples_per_symbol", [2, 3, 4, 8])
def test_matched_filter_gives_the_symbols_back(samples_per_symbol):
    """No interference between symbols but from the truncation of the pulse: -45 dB."""
    pulse = Pulse(samples_per_symbol)
    rng = np.random.default_rng(1)
    symbols = np.exp(0.5j * np.pi * rng.integers(0, 4, 1000)).astype(np.complex64)
    samples = pulse.shape(symbols)
    assert samples.size == samples_per_symbol * 999 + 2 * SPAN * samples_per_symbol + 1
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(1, abs=0.05)
    instants = pulse.reach + samples_per_symbol * np.arange(1000.0)
    error = pulse.matched(samples, instants) - symbols
    assert 10 * np.log10(np.mean(np.abs(error) ** 2)) < -45


def test_matched_filter_at_any_instant():
    """A single pulse seen t symbols off its peak has the height of the raised cosine."""
    pulse = Pulse(2, 0.25)
    samples = pulse.shape(np.ones(1, dtype=np.complex64))
    t = np.linspace(-3, 3, 601)
    seen = pulse.matched(samples, pulse.reach + 2 * t)
    cosine = np.cos(np.pi * 0.25 * t) / (1 - (2 * 0.25 * t) ** 2 + 1e-12)
    assert seen.real == pytest.approx(np.sinc(t) * cosine, abs=0.006)
    assert np.abs(seen.imag).max() == 0
    # -pi^2/3 (1 + ...): the curvature of sinc times cosine, by differences of the closed form.
    step = 1e-3
    closed = np.sinc(step) * np.cos(np.pi * 0.25 * step) / (1 - (0.5 * step) ** 2)
    assert pulse.curvature == pytest.approx(2 * (closed - 1) / step**2, rel=2e-3)


@given(st.lists(st.integers(0, 300), max_size=8))
@settings(max_examples=20, deadline=None)
def test_shaping_does_not_depend_on_chunks(cuts):
    rng = np.random.default_rng(2)
    symbols = (rng.standard_normal(300) + 1j * rng.standard_normal(300)).astype(np.complex64)
    whole = Pulse().shape(symbols)
    shaper = PulseShaper(Pulse())
    edges = [0, *sorted(cuts), 300]
    parts = [shaper.process(symbols[a:b]) for a, b in pairwise(edges)]
    assert np.concatenate([*parts, shaper.flush()]) == pytest.approx(whole, abs=1e-5)


def test_bounds():
    with pytest.raises(ValueError, match="2 samples"):
        Pulse(1)
    with pytest.raises(ValueError, match="rolloff"):
        Pulse(2, 0.0)
