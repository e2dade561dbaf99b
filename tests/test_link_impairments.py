"""The path of a simulated link: levels, faults in data-sheet units, multipath."""

import numpy as np
import pytest

from flowgraphs.adaptation import power_gains
from flowgraphs.impairments import LinkImpairments, overlaid
from flowgraphs.link import LinkConfig
from phy.chain import ReceiverImpairments
from phy.impairments import Adc, CarrierOffset, DcOffset

SEEDS = np.random.SeedSequence(1), np.random.SeedSequence(2)


def path_of(channel: str = "awgn", es_n0_db: float = 200.0, **faults: object):
    config = LinkConfig(
        channel=channel,
        es_n0_db=es_n0_db,
        waveform="ofdm",
        delay_spread_s=300e-9,
        doppler_hz=100.0,
        impairments=LinkImpairments(**faults),
    )
    return config.make_path(*SEEDS)


def test_ideal_radios_change_nothing() -> None:
    sent = np.exp(2j * np.pi * np.arange(500) / 20).astype(np.complex64)
    received, gains = path_of().process(sent)
    assert received == pytest.approx(sent, abs=1e-8)  # noise 200 dB below
    assert gains == pytest.approx(np.ones(500), abs=0)


def test_the_level_moves_signal_and_noise_alike() -> None:
    sent = np.ones(20_000, dtype=np.complex64)
    loud = path_of(es_n0_db=3.0).process(sent).samples
    quiet = path_of(es_n0_db=3.0, level_db=-20.0).process(sent).samples
    assert quiet == pytest.approx(0.1 * loud, abs=1e-6)
    # Two samples to a symbol: noise of the symbol's energy over 3 dB in each of them, N0 = 1.
    assert np.var(loud) == pytest.approx(1.0, rel=0.05)


def test_full_scale_does_not_move_with_the_level() -> None:
    """A root mean square of 0.7071 per branch, 15 dB above it 3.976; 3 bits, so steps of 0.994."""
    faults = LinkImpairments(adc_bits=3)
    assert faults.full_scale == pytest.approx(3.9764, abs=1e-4)
    sent = np.array([0.5, 0.4, 1.4j, -9.0], dtype=np.complex64)
    path = path_of(adc_bits=3)
    assert path.process(sent).samples == pytest.approx([0.9941, 0, 0.9941j, -3.9764], abs=1e-4)
    assert path.clipped_samples == 1
    assert not path_of(adc_bits=3, level_db=-10.0).process(sent[:3]).samples.any()


def test_dc_is_relative_to_the_received_signal() -> None:
    silence = np.zeros(4, dtype=np.complex64)
    assert path_of(dc_dbc=-20.0, level_db=-20.0).process(silence).samples == pytest.approx(
        np.full(4, 0.01), abs=1e-6
    )


def test_one_point_of_phase_noise_is_a_slope() -> None:
    mask = LinkImpairments(phase_noise=((1e4, -90.0),)).receiver(2e6).phase_noise
    assert mask is not None
    offsets = [1e3, 1e4, 1e5]
    assert mask.density_dbc_hz(offsets) == pytest.approx([-70, -90, -110], abs=0.01)
    points = ((1e3, -80.0), (1e6, -130.0))
    mask = LinkImpairments(phase_noise=points).transmitter(2e6).phase_noise
    assert mask is not None
    assert mask.mask == points


def test_what_is_given_replaces_the_devices_stage() -> None:
    device = ReceiverImpairments(carrier=CarrierOffset(5.0), adc=Adc(12))
    given = LinkImpairments(adc_bits=8, dc_dbc=-30.0).receiver(1e6)
    both = overlaid(device, given)
    assert both.carrier == CarrierOffset(5.0)
    assert both.dc == DcOffset(-30.0)
    assert both.adc is not None
    assert both.adc.adc_bits == 8


@pytest.mark.parametrize("channel", ["tdl-a", "tdl-d"])
def test_multipath_has_the_reported_gain(channel: str) -> None:
    """White noise in the signal's band, over short stretches: its power follows the gain."""
    rng = np.random.default_rng(3)
    spectrum = rng.standard_normal(1 << 16) + 1j * rng.standard_normal(1 << 16)
    spectrum[1 << 14 : 3 << 14] = 0  # beyond half the symbol rate, a quarter of the sample rate
    sent = np.fft.ifft(spectrum).astype(np.complex64)
    sent /= np.sqrt(np.mean(np.abs(sent) ** 2))
    path = path_of(channel)
    received, gains = path.process(sent)
    assert gains.size == sent.size
    rest = path.flush()
    received = np.concatenate([received, rest])
    assert received.size > sent.size
    power = np.abs(received[: 1 << 16].reshape(16, -1)) ** 2 / (
        np.abs(sent.reshape(16, -1)) ** 2
    ).mean(axis=1, keepdims=True)
    expected = np.abs(gains.reshape(16, -1)) ** 2
    ratio_db = 10 * np.log10(power.mean(axis=1) / expected.mean(axis=1))
    assert np.abs(ratio_db).max() < 0.6
    assert np.ptp(10 * np.log10(expected.mean(axis=1))) > 1.0, "it fades"


def test_multipath_statistics_for_the_choice_of_a_scheme() -> None:
    config = LinkConfig(channel="tdl-b", waveform="ofdm", delay_spread_s=300e-9)
    gains = power_gains(config, 100_000)
    assert gains.shape == (300, 160)
    assert gains.mean() == pytest.approx(1.0, abs=0.05)
    # Within a block the gains differ, as frequency and time do, but less than between blocks.
    assert 0.2 < gains.var(axis=1).mean() < gains.var()
