"""Detection of the preamble: false alarms, misses, chunking, time and carrier of a burst."""

from importlib.metadata import version

import numpy as np
import pytest
from commpy.sequences import zcsequence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from phy.channel import awgn
from phy.detection import PreambleDetector, SampleBuffer, detection_threshold
from phy.preamble import chirp_pair, down_chirp, up_chirp
from phy.single_carrier import SingleCarrier
from phy.symbol_spaced import SymbolSpaced

CHIRPS = SymbolSpaced().chirps()
PREAMBLE = chirp_pair(139)


def scan(detector, samples, cuts=()):
    """Detections in a stream that is cut at the given places."""
    buffer, found = SampleBuffer(), []
    for part in np.split(samples.astype(np.complex64), cuts):
        buffer.append(part)
        found += detector.scan(buffer)
        buffer.discard(detector.needed)
    return found + detector.scan(buffer, final=True)


def test_chirps_are_zadoff_chu_sequences():
    """Those of scikit-commpy (TS 38.211, 5.2.2.1) from the middle; the frequency only rises."""
    assert version("scikit-commpy"), "PyPI's commpy is another project with the same import name"
    up = up_chirp(139)
    assert up == pytest.approx(np.roll(np.conj(zcsequence(1, 139)), 69), abs=1e-6)
    assert np.abs(np.fft.fft(up)) == pytest.approx(np.sqrt(139), rel=1e-5)
    step = np.angle(up[1:] * np.conj(up[:-1])) / (2 * np.pi)
    assert np.allclose(np.diff(step), 1 / 139, atol=1e-6)
    assert np.array_equal(down_chirp(139), np.conj(up))
    assert np.array_equal(chirp_pair(139), np.concatenate([up, np.conj(up)]))
    for length in (2, 138):
        with pytest.raises(ValueError, match="odd"):
            up_chirp(length)


def test_threshold_holds_the_false_alarm_probability():
    """P(sum of two unit exponentials > x) = (1 + x) exp(-x), times the places tried."""
    x = detection_threshold(1, 1e-3)
    assert (1 + x) * np.exp(-x) == pytest.approx(1e-3)
    assert x == pytest.approx(9.2334, abs=1e-3)
    assert detection_threshold(50, 0.05) == pytest.approx(x)
    with pytest.raises(ValueError, match="probability"):
        detection_threshold(1, 0.0)


def test_metric_of_noise_is_exponential_at_any_level():
    detector = PreambleDetector(CHIRPS)
    for es_n0_db in (-60, 0, 60):
        noise = awgn(es_n0_db, seed=es_n0_db + 100).process(np.zeros(4096 * 60)).samples
        up, down = np.stack([detector.metrics(part) for part in noise.reshape(60, -1)], axis=1)
        # Metrics of starts 139 apart are independent.
        both = (up + np.roll(down, 1, axis=0))[:, ::139]
        alarms = int(np.sum(both > detection_threshold(1, 1e-2)))
        # The metric's tail is lighter than the exponential's by up to a fifth there.
        assert binomtest(alarms, both.size, 0.009).pvalue > 1e-3


def test_no_detection_in_noise_constants_tones_and_silence():
    n = np.arange(200_000)
    noise = awgn(0, seed=3).process(np.zeros(n.size)).samples
    for stream in (
        noise,
        noise + 100,
        np.ones(n.size),
        np.exp(0.3j * n),
        np.zeros(n.size),
        (n % 5000 < 10) * 1e3 + 1e-3 * noise,
    ):
        assert scan(PreambleDetector(CHIRPS), stream) == []


def test_detection_probability_at_low_snr():
    count, spacing = 100, 3000
    stream = np.zeros(count * spacing, dtype=complex)
    starts = 1000 + spacing * np.arange(count)
    for start in starts:
        stream[start : start + 278] = PREAMBLE
    found = scan(PreambleDetector(CHIRPS), awgn(-7, seed=6).process(stream).samples)
    assert np.isin([detection.index for detection in found], starts).all()
    assert len(found) >= 98


@given(
    st.lists(st.integers(0, 40_000), max_size=12),
    st.lists(st.integers(0, 39_000), max_size=6),
    st.sampled_from([1e-20, 1.0, 1e12]),
)
@settings(max_examples=30, deadline=None)
def test_detections_do_not_depend_on_chunking_or_level(cuts, starts, level):
    stream = awgn(10, seed=7).process(np.zeros(40_000)).samples.astype(complex)
    for start in starts:
        part = stream[start : start + 278]
        part += PREAMBLE[: part.size]
    whole = scan(PreambleDetector(CHIRPS), stream * level)
    assert scan(PreambleDetector(CHIRPS), stream * level, sorted(cuts)) == whole
    reference = scan(PreambleDetector(CHIRPS), stream)
    assert [detection.index for detection in whole] == [d.index for d in reference]


def test_known_gains_make_independent_fading_detectable():
    rng = np.random.default_rng(9)
    gains = (rng.standard_normal(8192) + 1j * rng.standard_normal(8192)) / np.sqrt(2)
    samples, known = SampleBuffer(), SampleBuffer()
    sent = np.zeros(8192, dtype=complex)
    sent[5000:5278] = PREAMBLE
    samples.append((gains * sent + 0.1 * rng.standard_normal(8192)).astype(np.complex64))
    known.append(gains.astype(np.complex64))
    found = PreambleDetector(CHIRPS).scan(samples, known, final=True)
    assert [detection.index for detection in found] == [5000]


def test_sample_buffer():
    buffer = SampleBuffer()
    for start in range(0, 100_000, 1000):
        buffer.append(np.arange(start, start + 1000).astype(np.complex64))
        buffer.discard(start - 5000)
    assert (buffer.start, buffer.end) == (94_000, 100_000)
    assert np.array_equal(buffer.view(95_000, 95_003), [95_000, 95_001, 95_002])
    assert buffer._data.size < 40_000, "memory stays bounded"
    with pytest.raises(IndexError):
        buffer.view(93_999, 94_001)


@pytest.mark.parametrize("samples_per_symbol", [2, 3, 4])
@pytest.mark.parametrize("radians_per_sample", [-0.6, -0.05, 0.0, 0.3, 0.6])
def test_time_and_carrier_of_a_burst(samples_per_symbol, radians_per_sample):
    """At Es/N0 = 10 dB to a sample and to half a bin, whatever the carrier offset is."""
    reach = min(0.1, 0.5 - 0.625 / samples_per_symbol)
    waveform = SingleCarrier(samples_per_symbol, carrier_reach=reach)
    burst = waveform.pulse.shape(PREAMBLE)
    rng = np.random.default_rng(8)
    stream = np.zeros(6000, dtype=complex)
    stream[2000 : 2000 + burst.size] = burst
    carrier = radians_per_sample / (2 * np.pi)
    stream *= np.exp(2j * np.pi * carrier * np.arange(stream.size))
    noise = rng.standard_normal(2 * stream.size).view(complex)
    stream += noise * np.sqrt(samples_per_symbol * 0.1 / 2)
    (detection,) = scan(PreambleDetector(waveform.chirps()), stream)
    assert detection.start == pytest.approx(2000 + waveform.pulse.reach, abs=1)
    assert detection.index == round(detection.start)
    assert detection.carrier == pytest.approx(carrier, abs=0.5 / (139 * samples_per_symbol))
