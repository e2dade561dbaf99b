"""Multipath on the single carrier: equalizer, estimate, and messages that arrive."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import j0

from phy.chain import Propagation, RadioPath, ReceiverImpairments
from phy.detection import Detection
from phy.dispersion import half_symbols as half_symbols_of_frame
from phy.dispersion import is_dispersive
from phy.equalization import (
    BLOCK,
    GUARD,
    MmseEqualizer,
    raised_cosine,
    raised_cosine_spectrum,
)
from phy.frame import FrameHeader
from phy.impairments import AdditiveNoise, CarrierOffset, ClockOffset, Delay
from phy.message import MessageReceived
from phy.path_estimation import DELAYS, PathEstimator, delay_spread
from phy.pulse_shaping import Pulse, root_raised_cosine
from phy.receiver import Receiver, ReceiverConfig
from phy.single_carrier import SingleCarrier
from phy.synchronization import Baseband, Synchronization
from phy.tapped_delay_line import FadingFilter, TappedDelayLine
from phy.transmitter import Transmitter, TransmitterConfig
from phy.waveform import DemodulatorConfig

WAVEFORM = SingleCarrier()
ROLLOFF = WAVEFORM.rolloff
DOPPLERS = (0.0, 5e-5, 2e-4)


def gaussian(rng, *shape):
    return (rng.standard_normal(shape) + 1j * rng.standard_normal(shape)) / np.sqrt(2)


def qpsk(rng, count):
    return np.exp(0.25j * np.pi * (2 * rng.integers(0, 4, count) + 1)).astype(np.complex64)


def pulses(count, length, start, delay):
    """(length, count) the pulse of each symbol at each sample, by its definition."""
    n = np.arange(length)[:, None]
    return root_raised_cosine((n - start) / 2 - np.arange(count) - delay, ROLLOFF)


def half_symbols(samples, start, blocks):
    """The matched filter's output that the equalizer takes."""
    places = np.arange(-2 * GUARD, 2 * (BLOCK * blocks + GUARD)) / 2
    return Pulse().matched(samples.astype(np.complex64), start + 2 * places)


# The pulse


def test_raised_cosine_is_the_autocorrelation_of_the_pulse():
    step = 0.02
    grid = np.arange(-60, 60, step)
    for t in (0.0, 0.5, 1.0, 1.3, 2.0, 4.0):
        product = root_raised_cosine(grid, ROLLOFF) * root_raised_cosine(grid + t, ROLLOFF)
        assert raised_cosine(t, ROLLOFF) == pytest.approx(product.sum() * step, abs=1e-4)


def test_spectrum_of_the_raised_cosine():
    step = 0.05
    t = np.arange(-200, 200, step)
    for frequency in (0.0, 0.3, 0.4, 0.5, 0.55, 0.7):
        transform = np.sum(raised_cosine(t, 0.25) * np.cos(2 * np.pi * frequency * t)) * step
        assert raised_cosine_spectrum(frequency, 0.25) == pytest.approx(transform, abs=1e-4)


# The equalizer


def test_equals_the_mmse_solution_in_matrices():
    """Against E{a r*} E{r r*}^-1 r on the samples themselves, without any matched filter."""
    rng = np.random.default_rng(1)
    delays, gains, n0 = np.array([-0.3, 0.4, 2.15]), np.array([0.5, 0.9j, -0.6 + 0.2j]), 0.05
    count, start = 3 * BLOCK, 60.0
    length = int(2 * count + 2 * start)
    H = sum(g * pulses(count, length, start, d) for g, d in zip(gains, delays, strict=True))
    symbols = qpsk(rng, count)
    samples = H @ symbols + np.sqrt(2 * n0) * gaussian(rng, length)
    weights = H.conj().T @ np.linalg.inv(H @ H.conj().T + 2 * n0 * np.eye(length))
    expected, bias = weights @ samples, np.diag(weights @ H).real

    equalizer = MmseEqualizer(delays, ROLLOFF)
    found = equalizer.equalize(half_symbols(samples, start, 3), np.tile(gains, (3, 1)), n0)
    inner = slice(25, -25)  # the matrices know that there are no symbols outside
    assert found.symbols.reshape(-1)[inner] == pytest.approx(expected[inner], abs=0.02)
    assert found.bias[1] == pytest.approx(bias[inner].mean(), abs=0.002)
    assert found.sinr[1] == pytest.approx(bias[48] / (1 - bias[48]), rel=0.02)


@pytest.mark.parametrize(("second", "n0"), [(0.0, 0.1), (0.5, 0.1), (0.9, 0.1), (0.9, 0.01)])
def test_two_rays_a_symbol_apart(second, n0):
    r"""The minimum error is :math:`\int N_0 / (|1 + \rho e^{-j 2 \pi f}|^2 + N_0) df`, closed."""
    error = n0 / np.sqrt((1 + second**2 + n0) ** 2 - 4 * second**2)
    rng = np.random.default_rng(2)
    blocks, start = 60, 150.0
    symbols = qpsk(rng, BLOCK * blocks)
    sent = Pulse().shape(symbols)
    samples = np.pad(sent, 130) + second * np.pad(sent, (132, 128))
    samples = samples + np.sqrt(2 * n0) * gaussian(rng, samples.size)
    equalizer = MmseEqualizer([0.0, 1.0], ROLLOFF)
    received = half_symbols(samples, start, blocks)
    found = equalizer.equalize(received, np.tile([1, second], (blocks, 1)), n0)
    assert 1 - found.bias == pytest.approx(np.full(blocks, error), rel=1e-3)
    seen = np.mean(np.abs(found.symbols[1:-1] - symbols.reshape(-1, BLOCK)[1:-1]) ** 2)
    # 1856 errors, some of them correlated: four standard deviations.
    assert seen == pytest.approx(error, rel=0.15)
    mean = np.mean(found.symbols[1:-1] * symbols.reshape(-1, BLOCK)[1:-1].conj())
    assert mean.real == pytest.approx(1 - error, abs=0.03)


# The estimate


def transmission(rng, blocks, n0, gains, doppler_phase=0.0):
    """Known symbols over paths on DELAYS whose gains turn by a phase per symbol."""
    count, start = BLOCK * blocks, 130.0
    symbols = qpsk(rng, count)
    samples = np.zeros(2 * count + 2 * int(start), dtype=complex)
    turned = symbols * np.exp(1j * doppler_phase * np.arange(count))
    for place in np.flatnonzero(gains):
        shift = round(2 * DELAYS[place])
        burst = gains[place] * Pulse().shape(turned.astype(np.complex64))
        first = int(start) - Pulse().reach + shift
        samples[first : first + burst.size] += burst
    samples += np.sqrt(2 * n0) * gaussian(rng, samples.size)
    return symbols, half_symbols(samples, start, blocks)


def test_paths_and_what_they_say_of_their_error():
    """A channel that stands still and is known all over, as the preamble and the header are."""
    blocks, n0 = 34, 0.2
    estimator = PathEstimator(blocks, ROLLOFF, (0.0,))
    correlation = raised_cosine(DELAYS[:, None] - DELAYS, ROLLOFF)
    actual, claimed, noise = [], [], []
    for seed in range(16):
        rng = np.random.default_rng([3, seed])
        gains = np.zeros(DELAYS.size, dtype=complex)
        gains[[15, 16, 18, 22, 27]] = gaussian(rng, 5) * np.sqrt([0.3, 0.3, 0.2, 0.1, 0.1])
        symbols, received = transmission(rng, blocks, n0, gains)
        paths = estimator.nothing(1.0)
        for _ in range(3):
            paths = estimator.refine(received, symbols, blocks, paths)
        wrong = paths.gains[5] - gains
        actual.append((wrong.conj() @ correlation @ wrong).real)
        claimed.append(paths.error_variance[5])
        noise.append(paths.noise_variance)
    # Least squares in all the response's 26 dimensions would err by this; the profile tells that
    # most of them are empty. Five paths at known delays would err by a fifth of it.
    least_squares = 26 * n0 / (BLOCK * blocks)
    assert np.mean(actual) < 0.75 * least_squares
    assert np.mean(actual) == pytest.approx(np.mean(claimed), rel=0.35)
    # 1088 known symbols seen twice a symbol: 2.7 % each, 0.7 % over all.
    assert np.mean(noise) == pytest.approx(n0, rel=0.03)


def test_equals_the_wiener_filter_in_matrices():
    """Against the covariances of all blocks and delays written out, with blocks of any weight."""
    rng = np.random.default_rng(4)
    blocks, doppler, n0 = 6, 1e-3, 0.3
    estimator = PathEstimator(blocks, ROLLOFF, (doppler,))
    R = raised_cosine(DELAYS[:, None] - DELAYS, ROLLOFF)
    weight = rng.uniform(0.5, BLOCK, blocks)
    value, vector = np.linalg.eigh(R)
    root = vector * np.sqrt(np.maximum(value, 0))
    shape = np.zeros(DELAYS.size)
    shape[14:22] = 0.25
    seen = gaussian(rng, DELAYS.size) * np.sqrt(shape) @ R
    seen = seen + np.sqrt(n0 / weight)[:, None] * (gaussian(rng, blocks, DELAYS.size) @ root.T)
    paths = estimator._smooth(seen, weight, n0)

    times = BLOCK * np.arange(blocks)
    in_time = j0(2 * np.pi * doppler * (times[:, None] - times))
    of_response = np.kron(in_time, R * estimator._profile(seen, weight, n0) @ R)
    of_noise = np.kron(np.diag(n0 / weight), R)
    # R is nearly singular: what it lets through at all is compared.
    inverse = np.linalg.pinv(of_response + of_noise, rcond=1e-6, hermitian=True)
    expected = (of_response @ inverse @ seen.reshape(-1)).reshape(blocks, -1)
    assert paths.gains @ R == pytest.approx(expected, abs=0.01)


def test_carrier_in_the_middle_and_doppler():
    rng = np.random.default_rng(5)
    gains = np.zeros(DELAYS.size, dtype=complex)
    gains[[16, 20]] = 0.8, 0.6
    symbols, received = transmission(rng, 100, 0.05, gains, 2 * np.pi * 8e-5)
    estimator = PathEstimator(100, ROLLOFF, DOPPLERS)
    paths = estimator.nothing(0.1)
    for _ in range(3):
        paths = estimator.refine(received, symbols, 34, paths)
    assert estimator.middle(paths) == pytest.approx(8e-5, abs=3e-6)
    still = estimator.turned(paths, -estimator.middle(paths)).gains
    assert np.std(still[10:90, 16]) < 0.05


def test_delay_spread():
    gains = np.zeros((1, DELAYS.size), dtype=complex)
    gains[0, 16] = 1.3j
    assert delay_spread(gains, ROLLOFF) == pytest.approx(0, abs=1e-6)
    # Powers 0.8 and 0.2, four symbols apart: 4 sqrt(0.8 * 0.2) = 1.6.
    gains[0, [16, 24]] = np.sqrt(0.8), 1j * np.sqrt(0.2)
    assert delay_spread(gains, ROLLOFF) == pytest.approx(1.6, rel=0.03)


def test_multipath_is_told_from_noise():
    """In 12 flat transmissions at each SNR none is taken for dispersive; weak echoes are seen."""
    rng = np.random.default_rng(6)
    for es_n0_db in (-3, 5, 20):
        noise = np.sqrt(10 ** (-es_n0_db / 10))
        for _ in range(12):
            symbols = qpsk(rng, 3000)
            gain = np.exp(2j * np.pi * 2e-4 * np.arange(3000) + 1j)  # 200 Hz at 1 Msymbol/s
            received = (gain * symbols + noise * gaussian(rng, 3000)).astype(np.complex64)
            assert not is_dispersive(received, symbols)
            # An echo of a tenth of the noise's power.
            received[3:] += np.complex64(np.sqrt(0.1) * noise) * symbols[:-3]
            assert is_dispersive(received, symbols)


# Messages

MESSAGE = np.random.default_rng(62).bytes(3000)


def through(samples, seed, es_n0_db, fading, cfo=0.4, clock_ppm=20.0):
    """Samples over multipath, with delay, carrier (rad per sample) and clock offset."""
    path = RadioPath(
        propagation=Propagation(
            delay=Delay(0.37), fading=fading, noise=AdditiveNoise.from_es_n0(es_n0_db, 2)
        ),
        receiver=ReceiverImpairments(
            carrier=CarrierOffset(cfo * 2e6 / (2 * np.pi)), clock=ClockOffset(clock_ppm)
        ),
    )
    chain = path.block(2e6, seed)
    return np.concatenate([chain.process(np.pad(samples, 2000)), chain.flush()]), chain


def send(message, **config):
    transmitter = Transmitter(TransmitterConfig(waveform=WAVEFORM, **config))
    return np.concatenate([*transmitter.send(message), transmitter.flush()])


def receive(samples, **config):
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM, **config))
    return receiver.process(samples) + receiver.flush()


def arrived(events):
    return [event.data for event in events if isinstance(event, MessageReceived)]


@pytest.mark.parametrize(
    ("profile", "delay_spread_s", "doppler_hz"),
    [("TDL-A", 100e-9, 200), ("TDL-C", 300e-9, 50), ("TDL-C", 300e-9, 200), ("TDL-C", 1e-6, 50)],
)
def test_messages_over_multipath(profile, delay_spread_s, doppler_hz):
    """QPSK 1/2 over 4 frames at a mean Es/N0 of 15 dB."""
    fading = TappedDelayLine(profile, delay_spread_s, doppler_hz)
    samples, _ = through(send(MESSAGE, depth=4), 3, 15.0, fading)
    assert arrived(receive(samples)) == [MESSAGE]


def test_dense_constellation_needs_the_equalizer():
    """64-QAM 2/3 at 25 dB over TDL-C of 300 ns, which leaves a flat receiver below 10 dB."""
    fading = TappedDelayLine("TDL-C", 300e-9, 20)
    samples, _ = through(send(MESSAGE, mcs="64qam-2/3", depth=2), 4, 25.0, fading)
    assert arrived(receive(samples)) == [MESSAGE]
    assert arrived(receive(samples, csi="least_squares")) == [None]


def test_soft_bits_mean_what_they_say():
    """No more wrong bits than the LLRs claim, and not many fewer; the mutual information too.

    The delay spread is that of the channel drawn.
    """
    header = FrameHeader(3, 1, 100, 0, 1, 0, 1, 4000)
    modulation = header.mcs.modulation
    config = DemodulatorConfig(1e6, "wiener", (0, 10, 25, 50, 100, 200, 400, 800), 1e-9)
    wrong, expected, told, claimed, bits_sent = 0, 0.0, 0.0, 0.0, 0
    spreads, found = [], []
    for seed in range(5):
        rng = np.random.default_rng([7, seed])
        bits = rng.integers(0, 2, 4000 * modulation.bits_per_symbol).astype(np.uint8)
        modulator = WAVEFORM.modulator()
        burst = np.concatenate([modulator.frame(header, modulation.map(bits)), modulator.flush()])
        fading = TappedDelayLine("TDL-C", 1e-6, 50)
        samples, chain = through(burst, 20 + seed, 6.0, fading, cfo=0.0, clock_ppm=0.0)
        demodulator = WAVEFORM.demodulator(config)
        demodulator.append(samples.astype(np.complex64), None)
        start = 2000 + WAVEFORM.pulse.reach
        detection = Detection(start, 100.0, float(start), 0.0)
        assert demodulator.header(detection) is not None
        reception = demodulator.payload(detection, header)
        (filter_,) = chain.stages(FadingFilter)
        hertz = np.linspace(-0.45e6, 0.45e6, 901)
        response = filter_.frequency_response(np.arange(start, start + 10_000, 500), hertz)
        slope = np.gradient(response, hertz * 1e-6, axis=1) / (-2j * np.pi)
        mean = np.vdot(response, slope).real / np.vdot(response, response).real
        spreads.append(np.linalg.norm(slope - mean * response) / np.linalg.norm(response))
        found.append(reception.delay_spread)
        channel = reception.channel
        llr = modulation.demap(reception.symbols, channel.effective_noise_variance, channel.gain)
        llr = llr.astype(float)
        p = 1 / (1 + np.exp(np.abs(llr)))
        wrong += np.sum((llr < 0) != bits)
        expected += p.sum()
        told += np.sum(1 - np.logaddexp(0, -llr * (1 - 2.0 * bits)) / np.log(2))
        claimed += np.sum(1 + p * np.log2(np.maximum(p, 1e-300)) + (1 - p) * np.log2(1 - p))
        bits_sent += bits.size
    assert 0.02 < wrong / bits_sent < 0.25
    assert 0.75 * expected < wrong < 1.08 * expected
    assert told / bits_sent == pytest.approx(claimed / bits_sent, abs=0.03)
    # At 6 dB the Wiener filter leaves the weakest echoes out.
    assert found == pytest.approx(spreads, rel=0.3)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("scale", [1e-12, 1.0, 1e12])
def test_no_noise_at_any_level(scale):
    """Over multipath without noise, half of a frame replaced by silence in a second one."""
    sent = send(MESSAGE[:500], depth=1)
    echo = 0.8j * np.pad(sent, (2003, 1997))
    stream = scale * (np.pad(sent, 2000) + echo)
    assert arrived(receive(stream)) == [MESSAGE[:500]]
    stream[7000:9000] = 0
    assert arrived(receive(stream)) in ([None], [MESSAGE[:500]])


@given(st.lists(st.integers(0, 30_000), max_size=10))
@settings(max_examples=3, deadline=None)
def test_events_do_not_depend_on_chunks(cuts):
    fading = TappedDelayLine("TDL-C", 1e-6, 50)
    stream, _ = through(send(MESSAGE[:500], depth=1), 8, 15.0, fading)
    whole = receive(stream)
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM))
    parts = np.split(stream, sorted(min(cut, stream.size) for cut in cuts))
    events = [event for part in parts for event in receiver.process(part)] + receiver.flush()
    assert [repr(event) for event in events] == [repr(event) for event in whole]


def test_half_symbols_of_a_frame():
    """What the demodulator feeds the equalizer is the matched filter's output, also off carrier."""
    rng = np.random.default_rng(9)
    symbols = qpsk(rng, 2 * BLOCK)
    samples = np.pad(Pulse().shape(symbols), 100)
    base = Baseband(samples, 0.0, Pulse())
    found = half_symbols_of_frame(base, Synchronization(100.0 + Pulse().reach, 0.0), 2)
    assert found.size == 2 * (2 * BLOCK + 2 * GUARD)
    assert found[2 * GUARD :: 2][: symbols.size] == pytest.approx(symbols, abs=0.02)
