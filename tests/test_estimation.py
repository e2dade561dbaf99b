"""Channel and noise estimates against theory, and what they tell about themselves."""

import numpy as np
import pytest
from scipy.special import j0

from phy.channel import rayleigh_block, rayleigh_jakes
from phy.estimation import ChannelEstimator, jakes_basis, known_channel
from phy.frame import FrameFormat
from phy.pilots import PilotPattern, pilot_symbols

FORMAT = FrameFormat()
GEOMETRY = FORMAT.geometry(8192)
KNOWN = GEOMETRY.payload_known
GRID = tuple(hz * 1e-6 for hz in (0, 10, 25, 50, 100, 200, 400, 800))
ESTIMATOR = ChannelEstimator(KNOWN, GEOMETRY.payload_data, GRID)


def estimates(doppler_hz, es_n0_db, frames, estimator=ESTIMATOR):
    """Estimates over frames with independent fading, each with its error |h - gain|^2."""
    for seed in range(frames):
        channel = rayleigh_jakes(es_n0_db, doppler_hz, seed=seed)
        received = channel.process(np.ones(GEOMETRY.length))
        estimate = estimator.wiener(received.samples[KNOWN])
        true_gain = received.gains[GEOMETRY.payload_data]
        yield estimate, float(np.mean(np.abs(true_gain - estimate.gain) ** 2))


@pytest.mark.parametrize("doppler", [0, 1e-5, 2e-4, 8e-4, 5e-3])
def test_basis_gives_jakes_autocorrelation(doppler):
    times = np.concatenate([np.arange(0, 9000, 61), [9500.25]])
    basis = jakes_basis(times, doppler)
    expected = j0(2 * np.pi * doppler * (times[:, None] - times))
    assert basis @ basis.T == pytest.approx(expected, abs=1e-12)


def test_equals_textbook_wiener_filter():
    """Against the LMMSE equations solved directly, at one Doppler, over all known symbols."""
    doppler, places = 2e-4, np.concatenate([np.arange(40), np.arange(71, 2000, 32)])
    wanted = np.setdiff1d(np.arange(1990), places)
    channel = rayleigh_jakes(10, 200, seed=4)
    z = channel.process(np.ones(2000)).samples[places]
    estimate = ChannelEstimator(places, wanted, (doppler,), node_spacing=4).wiener(z)

    def correlation(a, b):
        return estimate.signal_power * j0(2 * np.pi * doppler * (a[:, None] - b))

    covariance = correlation(places, places) + estimate.noise_variance * np.eye(places.size)
    weights = np.linalg.solve(covariance, correlation(places, wanted)).T
    error = estimate.signal_power - np.sum(weights * correlation(wanted, places), axis=1)
    assert estimate.gain == pytest.approx(weights @ z, abs=2e-3)
    assert estimate.error_variance == pytest.approx(error, rel=0.02)


@pytest.mark.parametrize("doppler_hz", [0, 50, 200])
@pytest.mark.parametrize("es_n0_db", [-5, 10, 30])
def test_noise_variance_is_unbiased(doppler_hz, es_n0_db):
    n0 = 10 ** (-es_n0_db / 10)
    found = [e.noise_variance / n0 for e, _ in estimates(doppler_hz, es_n0_db, 14)]
    # Some 1300 known symbols give a standard deviation of 2.8 %; at 200 Hz and 30 dB the gain's
    # own change within a group of pilots adds 1.5 %.
    assert np.mean(found) == pytest.approx(1, abs=0.025)
    assert np.std(found) < 0.04


@pytest.mark.parametrize(("doppler_hz", "tolerance_db"), [(0, 3), (50, 2.5), (200, 1)])
def test_error_is_what_the_estimator_says(doppler_hz, tolerance_db):
    # The claim takes the chosen Doppler for right; at low SNR a wrong choice adds to the error.
    for es_n0_db in (0, 15):
        pairs = list(estimates(doppler_hz, es_n0_db, 20))
        claimed = np.mean([estimate.error_variance.mean() for estimate, _ in pairs])
        actual = np.mean([error for _, error in pairs])
        assert 10 * np.log10(actual / claimed) == pytest.approx(0, abs=tolerance_db)
        # A payload at QPSK rate 1/2 then loses 10 log10(1 + error / N0) dB at most.
        assert actual * 10 ** (es_n0_db / 10) < 0.03


def test_linear_interpolation_of_least_squares_estimates():
    received = rayleigh_jakes(15, 50, seed=3).process(np.ones(GEOMETRY.length))
    estimate = ESTIMATOR.linear(received.samples[KNOWN])
    error = np.abs(estimate.gain - received.gains[GEOMETRY.payload_data]) ** 2
    assert error.mean() == pytest.approx(estimate.error_variance.mean(), rel=0.2)
    # Between two single pilots the noise averages to between 1/2 and 1 of N0: 2/3 on the whole.
    assert error.mean() == pytest.approx(2 / 3 * 10**-1.5, rel=0.2)
    wiener = ESTIMATOR.wiener(received.samples[KNOWN])
    assert wiener.error_variance.mean() < 0.1 * estimate.error_variance.mean()


def test_doppler_is_found():
    for doppler_hz in (50, 200):
        chosen = [e.doppler * 1e6 for e, _ in estimates(doppler_hz, 15, 11)]
        assert np.median(chosen) == pytest.approx(doppler_hz)


def test_single_doppler_is_a_design_parameter():
    estimator = ChannelEstimator(KNOWN, GEOMETRY.payload_data, (2e-4,))
    pairs = list(estimates(50, 15, 10, estimator))
    assert all(estimate.doppler == 2e-4 for estimate, _ in pairs)
    assert np.mean([error for _, error in pairs]) < 0.03 * 10**-1.5


def test_snr_and_evm():
    for es_n0_db in (0, 10, 25):
        channel = rayleigh_block(es_n0_db, 20_000, seed=8)
        received = channel.process(np.ones(GEOMETRY.length))
        estimate = ESTIMATOR.wiener(received.samples[KNOWN])
        true_snr_db = es_n0_db + 20 * np.log10(abs(received.gains[0]))
        assert estimate.snr_db == pytest.approx(true_snr_db, abs=0.5)
        assert 20 * np.log10(estimate.evm) == pytest.approx(-true_snr_db, abs=0.5)


def test_effective_noise_counts_the_estimation_error():
    estimate, _ = next(estimates(200, 0, 1))
    total = estimate.effective_noise_variance
    assert total == pytest.approx(estimate.noise_variance + estimate.error_variance)
    assert np.all(estimate.error_variance > 0)


def test_perfect_knowledge():
    received = rayleigh_block(10, 1, seed=1).process(np.ones(5000))
    known, wanted = received.gains[:3000], received.gains[3000:]
    estimate = known_channel(received.samples[:3000], known, wanted)
    assert estimate.noise_variance == pytest.approx(0.1, rel=0.08)
    assert not estimate.error_variance.any()
    assert estimate.doppler is None
    assert np.array_equal(estimate.gain, wanted)


def test_silence_and_bad_arguments():
    estimate = ESTIMATOR.wiener(np.zeros(KNOWN.size))
    assert np.all(np.isfinite(estimate.gain))
    assert np.all(estimate.effective_noise_variance > 0)
    for grid in ((), (-1e-4,)):
        with pytest.raises(ValueError, match="Doppler"):
            ChannelEstimator(KNOWN, GEOMETRY.payload_data, grid)
    with pytest.raises(ValueError, match="too few"):
        ChannelEstimator([0, 5000], [10], (1e-3,))


def test_pilot_pattern():
    pattern = PilotPattern(4)
    assert pattern.pilot_positions(7).tolist() == [3, 7, 9]
    assert pattern.data_positions(7).tolist() == [0, 1, 2, 4, 5, 6, 8]
    for count in (1, 2, 3, 30, 31, 32, 1000):
        pattern = PilotPattern(32)
        places = np.concatenate([pattern.data_positions(count), pattern.pilot_positions(count)])
        assert np.array_equal(np.sort(places), np.arange(pattern.section_length(count)))
        assert pattern.pilot_positions(count)[-1] == pattern.section_length(count) - 1
    with pytest.raises(ValueError, match="spacing"):
        PilotPattern(1)
    pilots = pilot_symbols(4000)
    assert np.abs(pilots) == pytest.approx(1)
    assert abs(pilots.mean()) < 0.05
