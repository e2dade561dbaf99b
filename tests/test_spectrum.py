"""Spectrum, occupied bandwidth and peaks, against closed forms and for both waveforms."""

import numpy as np
import pytest

from phy.frame import FrameHeader
from phy.modulation import MODULATIONS
from phy.ofdm import Ofdm
from phy.single_carrier import SingleCarrier
from phy.spectrum import occupied_bandwidth, peak_to_average_ccdf, power_spectral_density

RATE = 2e6


def signal(waveform, data_symbols=16_384):
    """One frame of QPSK."""
    rng = np.random.default_rng(1)
    payload = MODULATIONS["qpsk"].map(rng.integers(0, 2, 2 * data_symbols))
    header = FrameHeader(0, 0, 1, 0, 1, 0, 1, data_symbols)
    return waveform.modulator().frame(header, payload)


def test_tone_and_white_noise():
    n = np.arange(2**16)
    tone = 2 * np.exp(2j * np.pi * 0.125 * n)
    frequency, density = power_spectral_density(tone, RATE)
    assert frequency[np.argmax(density)] == 0.125 * RATE
    spacing = frequency[1] - frequency[0]
    assert density.sum() * spacing == pytest.approx(4, rel=1e-3)
    assert occupied_bandwidth(frequency, density) < 4 * spacing

    noise = np.random.default_rng(2).standard_normal(2 * n.size).view(complex)
    frequency, density = power_spectral_density(noise, RATE)
    # 127 half-overlapping segments: a standard deviation of some 9 % at each frequency.
    assert density == pytest.approx(2 / RATE, rel=0.5)
    assert density.mean() * RATE == pytest.approx(2, rel=0.02)
    assert occupied_bandwidth(frequency, density) == pytest.approx(0.99 * RATE, rel=0.005)


@pytest.mark.parametrize(
    ("waveform", "bandwidth"),
    [
        # 99 % of a root-raised-cosine spectrum's power: within about 1 + rolloff / 2 of 1 MHz.
        (SingleCarrier(), 1.07e6),
        # 129 carriers of 7.8 kHz, and a little for their side lobes.
        (Ofdm(), 1.02e6),
    ],
)
def test_occupied_bandwidth_of_the_waveforms(waveform, bandwidth):
    samples = signal(waveform)
    frequency, density = power_spectral_density(samples, RATE)
    assert occupied_bandwidth(frequency, density) == pytest.approx(bandwidth, rel=0.03)
    assert density.sum() * (frequency[1] - frequency[0]) == pytest.approx(1, rel=0.03)


def test_peaks():
    ratios = np.array([-3.0, 0.0, 3.0, 6.0, 8.0])
    assert peak_to_average_ccdf(np.ones(100), ratios).tolist() == [1, 0, 0, 0, 0]
    gaussian = np.exp(-(10 ** (ratios / 10)))
    ofdm = peak_to_average_ccdf(signal(Ofdm()), ratios)
    # 38,000 samples, some 19,000 of them independent, and a preamble of constant modulus.
    assert ofdm == pytest.approx(gaussian, rel=0.2, abs=0.003)
    single = peak_to_average_ccdf(signal(SingleCarrier()), ratios)
    assert single[-2] < 0.05 * ofdm[-2]


def test_bad_arguments():
    with pytest.raises(ValueError, match="segment"):
        power_spectral_density(np.ones(100), RATE)
    with pytest.raises(ValueError, match="share"):
        occupied_bandwidth(np.arange(4.0), np.ones(4), 1.0)
