"""Impairments beside closed forms: sampled sinusoids, image rejection, quantization noise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from scipy.signal import welch

from phy.impairments import (
    Adc,
    AdditiveNoise,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    Delay,
    Gain,
    GainControl,
    Impairment,
    IqImbalance,
    NoiseInterferer,
    PhaseNoise,
    PowerAmplifier,
    SampleBlock,
    ToneInterferer,
    reference_oscillator,
)

RATE = 1e6

MASK = ((1e3, -80.0), (1e4, -90.0), (1e5, -120.0))

IMPAIRMENTS: dict[str, Impairment] = {
    "adc": Adc(adc_bits=5, adc_full_scale=1),
    "carrier": CarrierOffset(carrier_offset_hz=12_345, carrier_drift_hz_per_s=5e4),
    "clock fast": ClockOffset(clock_offset_ppm=900),
    "clock slow": ClockOffset(clock_offset_ppm=-900, clock_drift_ppm_per_s=100, side="transmit"),
    "dc": DcOffset(dc_dbc=-20, dc_phase_deg=30),
    "delay": Delay(delay_samples=70.3),
    "gain": Gain(gain_db=-7),
    "gain control": GainControl(attack_s=50e-6, decay_s=200e-6),
    "iq": IqImbalance(iq_gain_db=1, iq_phase_deg=5),
    "noise": AdditiveNoise(noise_density=0.1),
    "noise burst": NoiseInterferer(-3, 2e5, start_s=1e-3, duration_s=2e-3, bandwidth_hz=5e4),
    "phase noise": PhaseNoise(MASK),
    "power amplifier": PowerAmplifier(input_backoff_db=3),
    "tone": ToneInterferer(-10, 1e5, start_s=1e-3),
}


def sine(cycles_per_sample: float, times: NDArray) -> NDArray[np.complex128]:
    return np.exp(2j * np.pi * cycles_per_sample * np.asarray(times, dtype=np.float64))


def run(block: SampleBlock, samples: NDArray) -> NDArray[np.complex64]:
    return np.concatenate([block.process(samples), block.flush()])


def level_db(samples: NDArray) -> float:
    return float(10 * np.log10(np.mean(np.abs(samples) ** 2)))


@given(st.sampled_from(sorted(IMPAIRMENTS)), st.lists(st.integers(0, 3000), min_size=1, max_size=6))
@settings(max_examples=60, deadline=None)
def test_output_does_not_depend_on_chunking(name: str, sizes: list[int]) -> None:
    sent = 2 * sine(0.01, np.arange(sum(sizes)))
    whole = IMPAIRMENTS[name].block(RATE, seed=3)
    expected = run(whole, sent)
    block = IMPAIRMENTS[name].block(RATE, seed=3)
    parts = [block.process(part) for part in np.split(sent, np.cumsum(sizes)[:-1])]
    received = np.concatenate([*parts, block.flush()])
    assert received.dtype == np.complex64
    assert np.array_equal(received, expected)
    assert block.clipped_samples == whole.clipped_samples


def test_carrier_turns_with_offset_and_drift() -> None:
    block = CarrierOffset(96_000, carrier_drift_hz_per_s=-200, carrier_phase_deg=90).block(RATE)
    block.process(np.ones(3_000_000))
    t = (3_000_000 + np.arange(5000)) / RATE
    expected = 1j * np.exp(2j * np.pi * (96_000 * t - 100 * t**2))
    assert np.abs(block.process(np.ones(5000)) - expected).max() < 1e-6


@pytest.mark.parametrize("of_nyquist", [0.05, 0.4, 0.8])
@pytest.mark.parametrize("offset", [-1000.0, -3.0, 20.0])
def test_clocks_sample_a_sinusoid_where_they_should(of_nyquist: float, offset: float) -> None:
    sent = sine(of_nyquist / 2, np.arange(60_000))
    for side in ("transmit", "receive"):
        received = run(ClockOffset(offset, side=side).block(RATE), sent)
        step = 1 + 1e-6 * offset if side == "transmit" else 1 / (1 + 1e-6 * offset)
        assert received.size == np.ceil(60_000 / step)
        error = received - sine(of_nyquist / 2, step * np.arange(received.size))
        assert 20 * np.log10(np.abs(error[32:-32]).max()) < -80


def test_clock_drift_bends_the_time_axis() -> None:
    m = np.arange(200_000)
    rate = 1e4  # 20 s long, so that the drift is some samples
    for side, sign in (("transmit", 1), ("receive", -1)):
        received = run(ClockOffset(0, 50, side).block(rate), sine(0.3, m))
        assert received.size - 200_000 == pytest.approx(-sign * 25e-6 * 20**2 * rate, abs=2)
        n = np.arange(received.size)
        error = received - sine(0.3, n + sign * 25e-6 * (n / rate) ** 2 * rate)
        assert np.abs(error[32:-32]).max() < 1e-4


def test_two_opposite_clocks_cancel() -> None:
    rng = np.random.default_rng(1)
    spectrum = np.zeros(8192, dtype=complex)
    spectrum[:3000] = rng.standard_normal(3000) + 1j * rng.standard_normal(3000)
    sent = np.roll(np.fft.ifft(spectrum), 1000)
    middle = run(ClockOffset(40, side="transmit").block(RATE), sent)
    received = run(ClockOffset(40, side="receive").block(RATE), middle)
    error = (received[:8000] - sent[:8000])[64:-64]
    assert level_db(error) - level_db(sent) < -75


@pytest.mark.parametrize("delay", [0.0, 0.5, 3.0, 1000.25])
def test_delay(delay: float) -> None:
    sent = sine(0.35, np.arange(4000))
    received = run(Delay(delay).block(RATE), sent)
    assert received.size == np.ceil(4000 + delay)
    start = int(delay)
    assert not received[: max(start - 32, 0)].any()
    if delay == start:
        assert np.array_equal(received, np.append(np.zeros(start), sent).astype(np.complex64))
    else:
        expected = sine(0.35, np.arange(received.size) - delay)
        assert np.abs(received - expected)[start + 32 : -32].max() < 1e-4


def test_one_reference_is_behind_carrier_and_clock() -> None:
    """A tone at f of a transmitter with error e arrives at (fc + f)(1 + e) - fc."""
    carrier_hz, tone_hz, n = 1e8, 1e5, np.arange(100_000)
    for side, expected in (
        ("transmit", (carrier_hz + tone_hz) * (1 + 1e-5) - carrier_hz),
        ("receive", (carrier_hz + tone_hz) / (1 + 1e-5) - carrier_hz),
    ):
        carrier, clock = reference_oscillator(10, carrier_hz, side)
        stages = [clock, carrier] if side == "transmit" else [carrier, clock]
        samples = sine(tone_hz / RATE, n)
        for stage in stages:
            samples = run(stage.block(RATE), samples)
        turn = np.vdot(samples[100:50_100], samples[40_100:90_100])
        # 40 000 samples resolve 25 Hz without ambiguity.
        residual = np.angle(turn * np.exp(-2j * np.pi * expected * 0.04)) / (2 * np.pi * 0.04)
        assert abs(residual) < 0.02
    drifting, _ = reference_oscillator(0, 1e9, "receive", drift_ppm_per_s=0.1)
    assert drifting.carrier_drift_hz_per_s == pytest.approx(-100)


@pytest.mark.parametrize("side", ["transmit", "receive"])
def test_image_rejection(side: str) -> None:
    n = np.arange(10_000)
    for gain_db, phase_deg in ((1.0, 0.0), (0.0, 2.0), (-0.5, 3.0)):
        imbalance = IqImbalance(gain_db, phase_deg, side)
        y = imbalance.block(RATE).process(sine(0.1, n))
        signal, image = (abs(np.vdot(sine(f, n), y)) for f in (0.1, -0.1))
        g, phi = 10 ** (gain_db / 20), np.deg2rad(phase_deg)
        formula = (1 + 2 * g * np.cos(phi) + g**2) / (1 - 2 * g * np.cos(phi) + g**2)
        assert 20 * np.log10(signal / image) == pytest.approx(10 * np.log10(formula), abs=0.01)
        assert imbalance.image_rejection_db == pytest.approx(10 * np.log10(formula))
        assert level_db(y) == pytest.approx(0, abs=1e-3)
    # A gain of 1 dB alone: 20 log10((g + 1) / (g - 1)); 2 degrees alone: 20 log10(cot 1 degree).
    assert IqImbalance(1, 0).image_rejection_db == pytest.approx(24.81, abs=0.01)
    assert IqImbalance(0, 2).image_rejection_db == pytest.approx(35.16, abs=0.01)
    assert IqImbalance().image_rejection_db == np.inf


def test_imbalance_is_that_of_mixers() -> None:
    """Beside the mixer written out: branches of unequal gain, carriers not in quadrature."""
    x = np.random.default_rng(2).standard_normal((100, 2)) @ [1, 1j]
    g, phi = 10 ** (2 / 20), np.deg2rad(10)
    g_q = np.sqrt(2 / (1 + g**2))
    receive = (
        g * g_q * (x * np.exp(-1j * phi / 2)).real + 1j * g_q * (x * np.exp(1j * phi / 2)).imag
    )
    transmit = g * g_q * x.real * np.exp(1j * phi / 2) + 1j * g_q * x.imag * np.exp(-1j * phi / 2)
    for side, expected in (("transmit", transmit), ("receive", receive)):
        assert IqImbalance(2, 10, side).block(RATE).process(x) == pytest.approx(expected, abs=1e-5)


def test_dc_offset_and_gain() -> None:
    offset = DcOffset(dc_dbc=-20, dc_phase_deg=90).block(RATE).process(np.zeros(3))
    assert offset == pytest.approx(0.1j * np.ones(3))
    assert not DcOffset().block(RATE).process(np.zeros(3)).any()
    assert Gain(-20).block(RATE).process([1j])[0] == pytest.approx(0.1j)
    assert Gain(-np.inf).block(RATE).process([1j])[0] == 0


@pytest.mark.parametrize("bits", [8, 10, 12])
def test_quantization_noise_of_a_full_scale_sine(bits: int) -> None:
    sent = (1 - 2.0**-bits) * 2 * sine(np.sqrt(2) / 100, np.arange(200_000))
    block = Adc(bits, adc_full_scale=2).block(RATE)
    noise = block.process(sent) - sent
    sqnr_db = level_db(sent) - level_db(noise)
    assert sqnr_db == pytest.approx(6.02 * bits + 1.76, abs=0.25)


def test_converter_codes_and_clipping() -> None:
    block = Adc(adc_bits=3, adc_full_scale=4).block(RATE)
    y = block.process([0.4, -0.6j, 3.4, 3.6, -4.4 - 4.4j, -4.6j, 100 - 100j])
    assert y.tolist() == [0, -1j, 3, 3, -4 - 4j, -4j, 3 - 4j]
    assert block.clipped_samples == 3
    block.process([9, 0])
    assert block.clipped_samples == 4


def test_noise_density_and_symbol_energy() -> None:
    """A matched filter over the samples of a symbol sees the Es/N0 that was asked for."""
    count, samples_per_symbol, power = 50_000, 4, 0.25
    symbols = 1 - 2.0 * np.random.default_rng(1).integers(0, 2, count)
    sent = np.sqrt(power) * np.repeat(symbols, samples_per_symbol)
    noise = AdditiveNoise.from_es_n0(7, samples_per_symbol, power)
    received = noise.block(RATE, seed=2).process(sent).astype(np.complex128)
    assert np.mean(np.abs(received - sent) ** 2) == pytest.approx(noise.noise_density, rel=0.01)
    matched = received.reshape(count, samples_per_symbol).sum(axis=1) / 2 * symbols
    es, n0 = abs(matched.mean()) ** 2, matched.var()
    assert es == pytest.approx(1, rel=0.01)  # 4 samples of power 1/4
    # Four standard deviations of an exponential law's mean.
    assert es / n0 == pytest.approx(10**0.7, rel=4 / np.sqrt(count) + 0.01)
    assert AdditiveNoise.from_es_n0(np.inf, 2).noise_density == 0


def test_noise_follows_the_seed() -> None:
    first, again, other = (
        AdditiveNoise(1).block(RATE, seed).process(np.zeros(10)) for seed in (1, 1, 2)
    )
    assert np.array_equal(first, again)
    assert not np.any(first == other)


def phase_of(noise: PhaseNoise, count: int, rate: float = RATE) -> NDArray[np.float64]:
    carrier = noise.block(rate, seed=4).process(np.ones(count))
    assert np.abs(carrier) == pytest.approx(1, abs=1e-6)
    return np.unwrap(np.angle(carrier.astype(np.complex128)))


def test_phase_noise_has_the_density_of_its_mask() -> None:
    noise = PhaseNoise(MASK)
    frequency, one_sided = welch(phase_of(noise, 2**19), RATE, nperseg=2**14)
    ratio = one_sided / 2 / 10 ** (noise.density_dbc_hz(frequency) / 10)
    for low in np.geomspace(300, 3e5, 16):
        band = (frequency >= low) & (frequency < 1.4 * low)
        # Half-overlapping Hann windows: 60 independent segments, a value for every 1.5 frequencies.
        # One of 16 bands is beyond 4.5 standard deviations with a probability of 1e-4.
        deviation = 1 / np.sqrt(60 * band.sum() / 1.5)
        assert ratio[band].mean() == pytest.approx(1, abs=4.5 * deviation + 0.01)
    assert noise.density_dbc_hz([10, 1e3, 10**3.5, -1e4, 1e6]) == pytest.approx(
        [-80, -80, -85, -90, -120]
    )


def test_wiener_phase_noise_is_a_random_walk() -> None:
    """Increments of the variance 2 pi linewidth tau."""
    phase = phase_of(PhaseNoise.wiener(linewidth_hz=20, lowest_offset_hz=50), 2**19)
    for lag in (10, 50, 100):
        variance = np.var(phase[lag:] - phase[:-lag])
        assert variance == pytest.approx(2 * np.pi * 20 * lag / RATE, rel=0.06)


def test_leeson_phase_noise() -> None:
    """3 dB above the floor at the resonator's corner, slopes of 20 and then 30 dB a decade."""
    noise = PhaseNoise.leeson(-150, corner_hz=1e5, flicker_hz=10, lowest_offset_hz=0.01)
    levels = noise.density_dbc_hz([1e7, 1e5, 1e3, 10, 0.1, 0.01])
    assert levels == pytest.approx([-150, -147, -110, -67, -10, 20], abs=0.1)


@pytest.mark.parametrize(
    ("smoothness", "drive", "expected"),
    [
        # y / A = d / (1 + d^2p)^(1/2p) at the drive d = |x| / A.
        (2, 1.0, 0.840896),  # 2^(-1/4)
        (2, 2.0, 0.984958),  # 2 / 17^(1/4)
        (2, 0.5, 0.492479),  # 0.5 / 1.0625^(1/4)
        (3, 1.0, 0.890899),  # 2^(-1/6)
        (3, 1e-3, 1e-3),
        (50, 1e6, 1.0),
    ],
)
def test_compression_of_an_amplifier(smoothness: float, drive: float, expected: float) -> None:
    saturation = 10 ** (6 / 20)
    block = PowerAmplifier(input_backoff_db=6, smoothness=smoothness).block(RATE)
    phase = np.exp(0.7j)
    y = block.process([0, drive * saturation * phase])
    assert y[0] == 0
    assert y[1] / saturation == pytest.approx(expected * phase, rel=1e-5)


def test_gain_control_settles_with_its_time_constants() -> None:
    control = GainControl(target_level_db=-3, attack_s=200e-6, decay_s=1e-3, window_s=10e-6)
    block = control.block(RATE)
    for level_change_db, tau_s in ((20.0, 200e-6), (-14.0, 1e-3)):
        amplitude = 10 ** ((-3 + max(level_change_db, 6)) / 20)
        if level_change_db > 0:  # settle first
            block.process(10 ** (-3 / 20) * np.ones(20_000))
        received = block.process(amplitude * sine(0.1, np.arange(20_000)))
        t = np.arange(20_000) // 10 * 10 / RATE
        error_db = 20 * np.log10(np.abs(received)) + 3
        assert error_db == pytest.approx(level_change_db * np.exp(-t / tau_s), abs=0.01)


def test_gain_control_of_a_noise_like_signal_and_its_limits() -> None:
    rng = np.random.default_rng(1)
    sent = rng.standard_normal((200_000, 2)) @ [5, 5j]
    control = GainControl(-6, attack_s=1e-3, decay_s=1e-3, window_s=500e-6, gain_max_db=30)
    block = control.block(RATE)
    # Measured in dB, a window of 500 values falls short by 4.34 / 500 dB.
    assert level_db(block.process(sent)[20_000:]) == pytest.approx(-6, abs=0.1)
    block.process(np.zeros(100_000))
    assert abs(block.process([0.1])[0]) == pytest.approx(0.1 * 10**1.5, rel=1e-5)


def test_tone_interferer() -> None:
    tone = ToneInterferer(level_db=-20, frequency_hz=-1e5, start_s=1e-3, duration_s=2e-3)
    y = tone.block(RATE, seed=3).process(np.zeros(5000))
    assert not y[:1000].any()
    assert not y[3000:].any()
    assert np.abs(y[1000:3000]) == pytest.approx(0.1)
    assert abs(np.vdot(sine(-0.1, np.arange(2000)), y[1000:3000])) == pytest.approx(200, rel=1e-4)


@pytest.mark.parametrize("bandwidth_hz", [1e3, 1e5])
def test_noise_interferer(bandwidth_hz: float) -> None:
    burst = NoiseInterferer(level_db=10, frequency_hz=2e5, bandwidth_hz=bandwidth_hz)
    y = burst.block(RATE, seed=3).process(np.zeros(2**20)).astype(np.complex128)
    # The power of B T independent values.
    assert level_db(y) == pytest.approx(10, abs=4 * 4.34 / np.sqrt(1.05 * bandwidth_hz))
    frequency, density = welch(y, RATE, nperseg=2**16, return_onesided=False)
    distance = np.abs(frequency - 2e5) / bandwidth_hz
    inside, far = distance < 0.4, distance > 1.5
    assert 10 * np.log10(density[inside].mean()) == pytest.approx(
        10 - 10 * np.log10(bandwidth_hz), abs=0.6
    )
    assert density[far].max() < 1e-4 * density[inside].mean()


@pytest.mark.parametrize(
    ("kind", "parameters", "message"),
    [
        (Adc, {"adc_bits": 0}, "adc_bits"),
        (Adc, {"adc_full_scale": 0}, "adc_full_scale"),
        (AdditiveNoise, {"noise_density": -1}, "noise_density"),
        (CarrierOffset, {"carrier_offset_hz": np.inf}, "carrier_offset_hz"),
        (ClockOffset, {"clock_offset_ppm": np.nan}, "clock offset"),
        (ClockOffset, {"clock_drift_ppm_per_s": 1e3}, "clock drift"),
        (ClockOffset, {"side": "both"}, "side"),
        (DcOffset, {"dc_dbc": np.nan}, "dc_dbc"),
        (Delay, {"delay_samples": -0.1}, "delay"),
        (Gain, {"gain_db": np.inf}, "gain_db"),
        (GainControl, {"target_level_db": np.inf}, "target_level_db"),
        (GainControl, {"attack_s": 0}, "attack_s"),
        (GainControl, {"gain_min_db": 1}, "initial_gain_db"),
        (IqImbalance, {"iq_gain_db": np.nan}, "iq_gain_db"),
        (IqImbalance, {"side": "both"}, "side"),
        (NoiseInterferer, {"level_db": 0, "bandwidth_hz": 0}, "bandwidth_hz"),
        (PhaseNoise, {"mask": ()}, "no points"),
        (PhaseNoise, {"mask": ((10, -80), (10, -90))}, "ascend"),
        (PhaseNoise, {"mask": ((10, np.nan),)}, "finite"),
        (PowerAmplifier, {"input_backoff_db": np.nan}, "input_backoff_db"),
        (PowerAmplifier, {"smoothness": 0}, "smoothness"),
        (ToneInterferer, {"level_db": np.nan}, "level_db"),
        (ToneInterferer, {"level_db": 0, "frequency_hz": np.inf}, "frequency_hz"),
        (ToneInterferer, {"level_db": 0, "start_s": -1}, "start_s"),
        (ToneInterferer, {"level_db": 0, "duration_s": -1}, "duration_s"),
    ],
)
def test_impossible_parameters(kind: type, parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        kind(**parameters)


def test_parameters_that_do_not_fit_the_sample_rate() -> None:
    with pytest.raises(ValueError, match="too long a memory"):
        PhaseNoise(((0.1, -50.0),)).block(RATE)
    with pytest.raises(ValueError, match="beyond half the sample rate"):
        NoiseInterferer(0, frequency_hz=4.9e5).block(RATE)
    with pytest.raises(ValueError, match="too narrow"):
        NoiseInterferer(0, bandwidth_hz=1).block(RATE)
