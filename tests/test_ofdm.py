"""CP-OFDM: the grid, the channel estimate, tracking, and messages over impaired channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0
from scipy.stats import binom

from phy.chain import Propagation, RadioPath, ReceiverImpairments, TransmitterImpairments
from phy.estimation import jakes_basis
from phy.frame import FrameHeader
from phy.impairments import AdditiveNoise, CarrierOffset, ClockOffset, DcOffset, Delay
from phy.message import MessageReceived
from phy.modulation import MODULATIONS
from phy.ofdm import Ofdm
from phy.ofdm_estimation import GridEstimator, delay_basis, delay_spread
from phy.ofdm_grid import Numerology, demodulate, frame_grid, modulate, pilot_grid
from phy.ofdm_tracking import residual_offsets
from phy.receiver import FrameReport, Receiver, ReceiverConfig
from phy.tapped_delay_line import TappedDelayLine
from phy.theory import ber_awgn
from phy.transmitter import Transmitter, TransmitterConfig

WAVEFORM = Ofdm()
SIZES = WAVEFORM.numerology
MESSAGE = np.random.default_rng(60).bytes(3000)
SAMPLE_RATE = 2e6


def values(rng, *shape):
    """Random QPSK."""
    return MODULATIONS["qpsk"].map(rng.integers(0, 2, (*shape[:-1], 2 * shape[-1])))


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def useful_starts(rows, sizes=SIZES):
    return np.arange(rows) * sizes.row_samples + float(sizes.cyclic_prefix)


def send(message, **config):
    transmitter = Transmitter(TransmitterConfig(waveform=WAVEFORM, **config))
    frames = np.concatenate([*transmitter.send(message, 5), transmitter.flush()])
    return np.pad(frames, 3000)


def through(samples, seed, es_n0_db, cfo=0.0, clock_ppm=0.0, delay=0.0, dc_dbc=None, fading=None):
    """Samples through a radio path; cfo in radians per sample."""
    path = RadioPath(
        TransmitterImpairments(carrier=CarrierOffset(cfo * SAMPLE_RATE / (2 * np.pi))),
        Propagation(delay=Delay(delay), fading=fading, noise=AdditiveNoise.from_es_n0(es_n0_db, 2)),
        ReceiverImpairments(
            clock=ClockOffset(clock_ppm), dc=None if dc_dbc is None else DcOffset(dc_dbc)
        ),
    )
    block = path.block(SAMPLE_RATE, seed)
    return np.concatenate([block.process(samples), block.flush()])


def receive(samples, **config):
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM, **config))
    return receiver.process(samples) + receiver.flush(), receiver.statistics


def messages(events):
    return [event for event in events if isinstance(event, MessageReceived)]


def reports(events):
    return [event for event in events if isinstance(event, FrameReport)]


# The grid


def test_samples_are_the_definition_of_ofdm():
    grid = values(np.random.default_rng(1), 3, SIZES.used_carriers)
    n = np.arange(-SIZES.cyclic_prefix, SIZES.fft_size)
    waves = np.exp(2j * np.pi * np.outer(SIZES.carriers, n) / SIZES.fft_size)
    expected = grid @ waves / np.sqrt(SIZES.used_carriers)
    samples = modulate(SIZES, grid)
    assert samples.reshape(3, -1) == pytest.approx(expected, abs=1e-5)
    assert np.mean(np.abs(samples) ** 2) == pytest.approx(1, abs=0.1)
    spectrum = np.fft.fft(samples.reshape(3, -1)[:, SIZES.cyclic_prefix :])
    assert np.abs(spectrum[:, 0]).max() < 1e-4 * np.abs(spectrum).max()


def test_samples_are_those_of_sionna():
    torch = pytest.importorskip("torch")
    ofdm = pytest.importorskip("sionna.phy.ofdm")
    grid = values(np.random.default_rng(2), 4, SIZES.used_carriers)
    shifted = np.zeros((4, SIZES.fft_size), dtype=np.complex64)
    shifted[:, SIZES.carriers + SIZES.fft_size // 2] = grid
    reference = ofdm.OFDMModulator(SIZES.cyclic_prefix)(torch.from_numpy(shifted)).numpy()
    # Sionna's transform is unitary; ours has unit mean power with the used carriers alone.
    expected = reference * np.sqrt(SIZES.fft_size / SIZES.used_carriers)
    assert modulate(SIZES, grid) == pytest.approx(expected.reshape(-1), abs=1e-5)


@pytest.mark.parametrize("delays", [(0, 8), (-8, 0, 8), (-3, 1, 2, 5)])
def test_static_multipath_within_the_prefix_multiplies_every_carrier(delays):
    rng = np.random.default_rng(3)
    grid = values(rng, 5, SIZES.used_carriers)
    samples = modulate(SIZES, grid)
    taps = gaussian(rng, len(delays))
    received = sum(tap * np.roll(samples, delay) for tap, delay in zip(taps, delays, strict=True))
    found = demodulate(SIZES, received.astype(np.complex64), useful_starts(5))
    turns = np.exp(-2j * np.pi * np.outer(SIZES.carriers, delays) / SIZES.fft_size)
    assert found[1:-1] == pytest.approx(((turns @ taps) * grid)[1:-1], abs=1e-4)


def test_echo_beyond_the_prefix_interferes():
    grid = values(np.random.default_rng(4), 5, SIZES.used_carriers)
    received = np.roll(modulate(SIZES, grid), SIZES.cyclic_prefix)
    found = demodulate(SIZES, received, useful_starts(5))
    turn = np.exp(-2j * np.pi * SIZES.carriers * SIZES.cyclic_prefix / SIZES.fft_size)
    assert np.abs(found - turn * grid).max() > 0.1


@pytest.mark.parametrize("early", [-7.5, -0.3, 0.0, 2.75, 8.0])
def test_timing_errors_within_the_prefix_are_phase_slopes(early):
    grid = values(np.random.default_rng(5), 3, SIZES.used_carriers)
    found = demodulate(SIZES, modulate(SIZES, grid), useful_starts(3) - early)
    turn = np.exp(-2j * np.pi * SIZES.carriers * early / SIZES.fft_size)
    assert found[1:-1] == pytest.approx((turn * grid)[1:-1], abs=1e-4)


@pytest.mark.parametrize(("modulation", "es_n0_db"), [("qpsk", 6.0), ("16qam", 12.0)])
def test_bit_errors_over_awgn_against_the_closed_form(modulation, es_n0_db):
    """Within the binomial distribution's central 99.9 %."""
    constellation = MODULATIONS[modulation]
    rng = np.random.default_rng(6)
    rows = 600
    bits = rng.integers(0, 2, (rows, SIZES.used_carriers * constellation.bits_per_symbol))
    samples = modulate(SIZES, constellation.map(bits))
    n0 = 10 ** (-es_n0_db / 10) * SIZES.samples_per_symbol  # per sample, at unit mean power
    noisy = samples + np.sqrt(n0) * gaussian(rng, samples.size)
    found = demodulate(SIZES, noisy.astype(np.complex64), useful_starts(rows))
    errors = int(np.sum((constellation.demap(found, 1.0, method="maxlog") < 0) != bits))
    low, high = binom.interval(0.999, bits.size, ber_awgn(modulation, es_n0_db))
    assert low <= errors <= high


def test_padding_is_counted():
    assert SIZES.row_data == 120
    for data_symbols in (1, 120, 121, 8192):
        rows = SIZES.rows(data_symbols)
        assert rows * SIZES.row_data == data_symbols + SIZES.padding(data_symbols)
        assert 0 <= SIZES.padding(data_symbols) < SIZES.row_data
        header = FrameHeader(0, 0, 1, 0, 1, 0, 1, data_symbols)
        payload = values(np.random.default_rng(7), data_symbols)
        samples = WAVEFORM.modulator().frame(header, payload)
        assert samples.size == 2 * WAVEFORM.frame_symbols(data_symbols)
        grid = frame_grid(SIZES, header, payload)
        places = SIZES.payload_places(data_symbols)
        assert np.array_equal(grid.reshape(-1)[places], payload)
        pilots = np.delete(grid.reshape(-1), np.concatenate([SIZES.header_places(), places]))
        filled = pilot_grid(SIZES, grid.shape[0]).reshape(-1)
        filled = np.delete(filled, np.concatenate([SIZES.header_places(), places]))
        assert np.array_equal(pilots, filled)


def test_bounds():
    for wrong, reason in (
        ({"fft_size": 100}, "no half or smaller"),
        ({"used_carriers": 256}, "no half or smaller"),
        ({"pilot_spacing": 15}, "even"),
        ({"used_carriers": 16}, "twice the pilot spacing"),
        ({"cyclic_prefix": 32}, "cannot see delays"),
        ({"cyclic_prefix": 15}, "whole number"),
        ({"training_symbols": 3}, "training"),
    ):
        with pytest.raises(ValueError, match=reason):
            Numerology(**wrong)
    with pytest.raises(ValueError, match=r"0 to 0\.188"):
        Ofdm(carrier_reach=0.25)
    with pytest.raises(ValueError, match="symbol-spaced"):
        Receiver(ReceiverConfig(waveform=WAVEFORM, csi="perfect"))
    with pytest.raises(ValueError, match="Doppler"):
        GridEstimator(SIZES, 10, 2, ())
    with pytest.raises(ValueError, match="too few"):
        GridEstimator(SIZES, 3, 0, (0.5,))


# The channel estimate


@pytest.mark.parametrize("half_width", [0.0, 0.5, 4.0, 8.0])
def test_delay_basis_gives_the_autocorrelation_of_uniform_delays(half_width):
    basis = delay_basis(SIZES.carriers, half_width / 256)
    between = SIZES.carriers[:, None] - SIZES.carriers
    assert basis @ basis.T == pytest.approx(np.sinc(2 * half_width * between / 256), abs=1e-12)


def responses(rng, rows, doppler, half_width, count):
    """(count, rows, U) draws of the model: Jakes spectrum, delays spread uniformly."""
    time = jakes_basis(np.arange(rows), doppler)
    frequency = delay_basis(SIZES.carriers, half_width / SIZES.fft_size)
    return time @ gaussian(rng, count, time.shape[1], frequency.shape[1]) @ frequency.T


def test_equals_textbook_wiener_filter():
    """Comb rows only: against the LMMSE equations solved directly over all pilots."""
    rng = np.random.default_rng(8)
    rows, doppler, half_width = 12, 0.03, 4.0
    estimator = GridEstimator(SIZES, rows, 0, (doppler,))
    noisy = responses(rng, rows, doppler, half_width, 1)[0]
    noisy = noisy + np.sqrt(0.05) * gaussian(rng, *noisy.shape)
    wanted = np.arange(rows * SIZES.used_carriers)
    estimate = estimator.wiener(noisy.astype(np.complex64), wanted)

    t, k = np.divmod(wanted, SIZES.used_carriers)
    known = np.flatnonzero(np.isin(k, SIZES.comb))

    def covariance(width):
        times = j0(2 * np.pi * doppler * (t[:, None] - t[known]))
        between = SIZES.carriers[k][:, None] - SIZES.carriers[k[known]]
        return estimate.signal_power * times * np.sinc(2 * width * between / SIZES.fft_size)

    # The estimator may find another width likelier; one of its grid must be the textbook's filter.
    distances = []
    for width in (0.5, 2, 4, 8):
        across = covariance(width)
        noise = estimate.noise_variance * np.eye(known.size)
        weights = np.linalg.solve(across[known] + noise, across.conj().T).conj().T
        error = estimate.signal_power - np.sum(weights * across, axis=1)
        gain = weights @ noisy.reshape(-1)[known]
        distances.append(np.abs(estimate.gain - gain).max())
        if distances[-1] < 1e-3:
            assert estimate.error_variance == pytest.approx(error, abs=1e-4)
    assert min(distances) < 1e-3


@pytest.mark.parametrize(
    ("doppler", "half_width"), [(0.0, 0.5), (0.007, 2.0), (0.03, 4.0), (0.03, 8.0)]
)
@pytest.mark.parametrize("es_n0_db", [0, 15])
def test_error_is_the_theoretical_one(doppler, half_width, es_n0_db):
    """Mean squared error over 40 frames of the model, against what the estimator says."""
    rng = np.random.default_rng(9)
    rows, n0 = SIZES.frame_rows(3000), 10 ** (-es_n0_db / 10)
    places = SIZES.payload_places(3000)
    estimator = GridEstimator(SIZES, rows, SIZES.header_end, (0.0, 0.007, 0.03))
    actual, claimed, noise = [], [], []
    for response in responses(rng, rows, doppler, half_width, 40):
        seen = (response + np.sqrt(n0) * gaussian(rng, *response.shape)).astype(np.complex64)
        estimate = estimator.wiener(seen, places)
        actual.append(np.mean(np.abs(estimate.gain - response.reshape(-1)[places]) ** 2))
        claimed.append(np.mean(estimate.error_variance))
        noise.append(estimate.noise_variance / n0)
    # 3.3 standard errors (99.9 %); and 15 %, since the claim takes the chosen model for right, and
    # power and noise for known.
    excess = np.array(actual) - claimed
    tolerance = 3.3 * np.std(excess) / np.sqrt(excess.size) + 0.15 * np.mean(claimed)
    assert abs(np.mean(excess)) < tolerance < np.mean(claimed)
    # Some 700 dimensions a frame: a standard deviation of 0.6 % over all.
    assert np.mean(noise) == pytest.approx(1, abs=0.03)


def test_linear_interpolation_is_the_baseline():
    rng = np.random.default_rng(10)
    rows = SIZES.frame_rows(3000)
    places = SIZES.payload_places(3000)
    estimator = GridEstimator(SIZES, rows, SIZES.header_end, (0.0, 0.03))
    response = responses(rng, rows, 0.007, 0.5, 1)[0]
    seen = (response + np.sqrt(0.03) * gaussian(rng, *response.shape)).astype(np.complex64)
    estimate = estimator.linear(seen, places)
    error = np.mean(np.abs(estimate.gain - response.reshape(-1)[places]) ** 2)
    assert error == pytest.approx(np.mean(estimate.error_variance), rel=0.3)
    wiener = estimator.wiener(seen, places)
    assert np.mean(wiener.error_variance) < 0.2 * np.mean(estimate.error_variance)


def test_delay_spread():
    """Powers 0.8 and 0.2 at delays five samples apart: 5 sqrt(0.8 * 0.2) = 2 samples."""
    rows, places = SIZES.frame_rows(3000), SIZES.payload_places(3000)
    turn = np.exp(2j * np.pi * np.arange(rows) / rows)[:, None]
    first, second = (np.exp(-2j * np.pi * SIZES.carriers * d / SIZES.fft_size) for d in (1.5, 6.5))
    response = np.sqrt(0.8) * first + np.sqrt(0.2) * turn * second
    spread = delay_spread(SIZES, places, response.reshape(-1)[places].astype(np.complex64))
    assert spread == pytest.approx(2.0, rel=0.02)
    assert delay_spread(SIZES, places, np.zeros(places.size)) == 0


def test_silence():
    estimator = GridEstimator(SIZES, 12, 2, (0.0, 0.01))
    nothing = np.zeros((12, SIZES.used_carriers), dtype=np.complex64)
    for estimate in (estimator.wiener, estimator.linear):
        found = estimate(nothing, np.arange(50))
        assert np.all(np.isfinite(found.gain))
        assert np.all(found.effective_noise_variance > 0)


@pytest.mark.parametrize("clock_ppm", [-90, -40, 0, 40, 90])
def test_residual_offsets(clock_ppm):
    """Carrier to 3e-4 cycles per row, clock to 4 ppm, at 20 dB over a constant channel."""
    rng = np.random.default_rng(11)
    rows, carrier = SIZES.frame_rows(8192), 0.013
    estimator = GridEstimator(SIZES, rows, SIZES.header_end, (0.0, 0.007, 0.03))
    turns = carrier * np.arange(rows)[:, None] - clock_ppm * 1e-6 * np.outer(
        np.arange(rows) * SIZES.row_samples / SIZES.fft_size, SIZES.carriers
    )
    seen = np.exp(2j * np.pi * turns) * responses(rng, rows, 0.0, 2.0, 1)[0]
    seen = (seen + np.sqrt(0.01) * gaussian(rng, *seen.shape)).astype(np.complex64)
    lattice = estimator.lattice(seen)
    levels = estimator.levels(seen, lattice)
    found_carrier, clock = residual_offsets(SIZES, estimator, lattice, levels)
    assert found_carrier == pytest.approx(carrier, abs=3e-4)
    assert clock == pytest.approx(clock_ppm * 1e-6, abs=4e-6)


# Messages


@pytest.mark.parametrize(
    ("cfo", "clock_ppm"), [(-0.6, 40), (-0.05, -40), (0.0, 0), (0.3, 40), (0.6, -40)]
)
def test_message_arrives_at_any_carrier_offset(cfo, clock_ppm):
    """QPSK 1/2 at Es/N0 = 3 dB, with a constant offset and at any delay."""
    samples = through(send(MESSAGE), 3, 3.0, cfo, clock_ppm, delay=5 + cfo)
    events, statistics = receive(samples)
    (message,) = messages(events)
    assert message.data == MESSAGE
    assert statistics.frames_received == statistics.frames_detected == message.frames_received
    for report in reports(events):
        carrier_hz = cfo * SAMPLE_RATE / (2 * np.pi)
        assert report.cfo_hz == pytest.approx(carrier_hz / (1 + clock_ppm * 1e-6), abs=20)
        assert report.snr_db == pytest.approx(3.0, abs=0.6)


def test_dense_constellation():
    """256-QAM 3/4 at 26 dB: timing, carrier and clock leave an error below -30 dB."""
    samples = through(send(MESSAGE, mcs="256qam-3/4"), 4, 26.0, -0.4, 40, delay=0.37)
    events, _ = receive(samples)
    assert messages(events)[0].data == MESSAGE


def test_clock_is_measured():
    """40 ppm, with frames of full length at 10 dB."""
    message = np.random.default_rng(12).bytes(7000)
    events, _ = receive(through(send(message, depth=4), 5, 10.0, 0.1, 40))
    assert messages(events)[0].data == message
    for report in reports(events)[:-1]:
        assert report.clock_ppm == pytest.approx(40, abs=6)


@pytest.mark.parametrize("dc_dbc", [None, -20])
@pytest.mark.parametrize("doppler_hz", [50, 200])
@pytest.mark.parametrize(
    ("profile", "delay_spread_s"), [("flat", 0.0), ("TDL-A", 100e-9), ("TDL-C", 300e-9)]
)
def test_fading_channels(profile, delay_spread_s, doppler_hz, dc_dbc):
    """QPSK 1/2 over 16 frames at a mean Es/N0 of 18 dB, all impairments together."""
    fading = TappedDelayLine(profile, delay_spread_s, doppler_hz)
    samples = through(send(MESSAGE), 6, 18.0, 0.55, -40, 2.6, dc_dbc, fading)
    events, _ = receive(samples)
    assert messages(events)[0].data == MESSAGE


def test_frames_back_to_back_are_all_received():
    message = np.random.default_rng(61).bytes(12_000)
    samples = through(send(message, max_data_symbols=1600), 7, 12.0, 0.2)
    events, statistics = receive(samples)
    assert statistics.frames_detected == statistics.frames_received >= 60
    assert statistics.header_failures == statistics.false_alarms == 0
    assert messages(events)[0].data == message


@given(st.lists(st.integers(0, 30_000), max_size=10))
@settings(max_examples=8, deadline=None)
def test_events_do_not_depend_on_chunks(cuts):
    fading = TappedDelayLine("TDL-A", 100e-9, 50)
    stream = through(send(MESSAGE[:500]), 8, 15.0, 0.3, 20, fading=fading)
    whole, _ = receive(stream)
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM))
    parts = np.split(stream, sorted(min(cut, stream.size) for cut in cuts))
    events = [event for part in parts for event in receiver.process(part)] + receiver.flush()
    assert [repr(event) for event in events] == [repr(event) for event in whole]


def test_memory_is_bounded():
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM))
    stream = through(send(MESSAGE, depth=2), 9, 12.0)
    longest = 0
    for part in np.array_split(np.tile(stream, 4), 300):
        receiver.process(part)
        longest = max(longest, receiver.samples_held)
    # The detector's blocks, and one frame of at most 8192 data symbols.
    assert longest < 3 * 4096 + 2 * WAVEFORM.frame_symbols(8192)


def test_cut_frames_are_flagged():
    stream = through(send(MESSAGE), 10, 20.0)
    events, statistics = receive(stream[:8000])
    assert statistics.frames_cut == 1
    assert not messages(events) or messages(events)[0].data is None
    events, _ = receive(stream[3300:])  # the preamble of the first frame is missing
    assert all(message.data in (None, MESSAGE) for message in messages(events))


def test_noise_constants_and_tones_are_no_frames():
    n = np.arange(100_000)
    noise = gaussian(np.random.default_rng(14), n.size)
    for stream in (noise, noise + 30, noise + 30 * np.exp(0.4j * n), np.ones(n.size)):
        events, statistics = receive(stream)
        assert events == []
        assert statistics.frames_detected == 0


def test_least_squares_is_a_choice():
    events, _ = receive(through(send(MESSAGE), 11, 12.0, 0.2), csi="least_squares")
    assert messages(events)[0].data == MESSAGE
    assert all(report.doppler_hz is None for report in reports(events))


def test_another_numerology():
    """64 carriers' FFT, one training symbol, at four samples a symbol."""
    waveform = Ofdm(Numerology(64, 16, 16, 4, training_symbols=1))
    transmitter = Transmitter(TransmitterConfig(waveform=waveform))
    sent = np.pad(np.concatenate([*transmitter.send(MESSAGE[:800])]), 2000)
    noise = np.sqrt(4 * 10**-0.8) * gaussian(np.random.default_rng(13), sent.size)
    receiver = Receiver(ReceiverConfig(waveform=waveform))
    events = receiver.process(sent + noise) + receiver.flush()
    assert messages(events)[0].data == MESSAGE[:800]
