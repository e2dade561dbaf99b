"""Frame geometry, header, preamble and detection."""

from dataclasses import replace
from importlib.metadata import version

import numpy as np
import pytest
from commpy.sequences import zcsequence
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from phy.channel import awgn
from phy.crc import CRC24C, crc_attach
from phy.detection import PreambleDetector, SampleBuffer, detection_threshold
from phy.errors import FrameError, HeaderError
from phy.frame import (
    HEADER_MODULATION,
    FrameFormat,
    FrameHeader,
    build_frame,
    decode_header,
    encode_header,
)

FORMAT = FrameFormat()
HEADER = FrameHeader(
    mcs_index=9,
    message_id=0xBEEF,
    message_bytes=50_000,
    block_index=3,
    block_count=5,
    frame_index=15,
    frame_count=16,
    data_symbols=8192,
)


def scan(detector, samples, cuts=()):
    """Detections in a stream that is cut at the given places."""
    buffer, found = SampleBuffer(), []
    for part in np.split(samples.astype(np.complex64), cuts):
        buffer.append(part)
        found += detector.scan(buffer)
        buffer.discard(detector.needed)
    return found + detector.scan(buffer, final=True)


def test_preamble_is_zadoff_chu():
    """The constant-amplitude, zero-autocorrelation property; from scikit-commpy's generator."""
    assert version("scikit-commpy"), "PyPI's commpy is another project with the same import name"
    preamble = FORMAT.preamble
    assert np.abs(preamble) == pytest.approx(1)
    correlation = np.fft.ifft(np.abs(np.fft.fft(preamble.astype(complex))) ** 2)
    assert np.abs(correlation[1:]) == pytest.approx(0, abs=1e-3)
    n = np.arange(257)
    formula = np.exp(-1j * np.pi * 25 * n * (n + 1) / 257)  # TS 38.211, 5.2.2.1, q = u
    assert zcsequence(25, 257) == pytest.approx(formula)
    assert preamble == pytest.approx(formula, abs=1e-6)


def test_every_symbol_has_its_place():
    for data_symbols in (1, 31, 32, 8192):
        geometry = FORMAT.geometry(data_symbols)
        places = np.concatenate(
            [
                np.arange(FORMAT.preamble_length),
                geometry.header_data,
                geometry.header_pilots,
                geometry.payload_data,
                geometry.payload_pilots,
            ]
        )
        assert np.array_equal(np.sort(places), np.arange(geometry.length))


def test_frame_has_unit_energy_and_bounded_overhead():
    rng = np.random.default_rng(1)
    payload = HEADER_MODULATION.map(rng.integers(0, 2, 2 * 8192))
    frame = build_frame(FORMAT, HEADER, payload)
    assert np.abs(frame) == pytest.approx(1, abs=1e-5)
    assert 8192 / frame.size > 0.85
    with pytest.raises(ValueError, match="payload"):
        build_frame(FORMAT, HEADER, payload[:-1])


headers = st.builds(
    lambda mcs, ident, size, blocks, frames, data, place: FrameHeader(
        mcs, ident, size, place % blocks, blocks, place % frames, frames, data
    ),
    st.sampled_from([0, 9, 18, 34]),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**28 - 1),
    st.integers(1, 2**12),
    st.integers(1, 2**6),
    st.integers(1, 2**14),
    st.integers(0, 10**6),
)


@given(headers)
def test_header_bits_round_trip(header):
    assert FrameHeader.from_bits(header.to_bits()) == header
    assert header.fields()["message_id"] == header.message_id


@given(st.binary(min_size=14, max_size=14))
def test_any_bits_give_a_consistent_header_or_an_error(octets):
    bits = np.unpackbits(np.frombuffer(octets, dtype=np.uint8))
    try:
        header = FrameHeader.from_bits(bits)
    except HeaderError:
        return
    assert np.array_equal(header.to_bits(), bits)
    assert header.block_index < header.block_count
    assert header.frame_index < header.frame_count


@pytest.mark.parametrize(
    "change",
    [{"version": 2}, {"reserved": 1}, {"mcs_index": 63}, {"block_index": 5}, {"frame_index": 16}],
)
def test_contradictions_are_refused_in_spite_of_a_good_crc(change):
    bits = replace(HEADER, **change).to_bits()
    with pytest.raises(HeaderError):
        FrameHeader.from_bits(bits)
    assert issubclass(HeaderError, FrameError)
    assert crc_attach(bits, CRC24C).size == 136


def test_fields_out_of_range():
    for change in ({"message_id": 2**16}, {"block_count": 0}, {"data_symbols": 2**14 + 1}):
        with pytest.raises(ValueError, match="outside"):
            replace(HEADER, **change)


def test_header_decodes_below_the_most_robust_payload():
    """BPSK at rate 1/3 needs about -4.7 dB; the header holds at -6.5 dB."""
    rng = np.random.default_rng(4)
    sent = encode_header(HEADER)
    n0 = 10**0.65
    good = 0
    for _ in range(60):
        noise = rng.standard_normal(2 * sent.size).view(complex) * np.sqrt(n0 / 2)
        try:
            good += decode_header(HEADER_MODULATION.demap(sent + noise, n0)) == HEADER
        except HeaderError:
            continue
    assert good >= 57


def test_noise_is_not_a_header():
    rng = np.random.default_rng(5)
    for _ in range(20):
        with pytest.raises(HeaderError):
            decode_header((4 * rng.standard_normal(1600)).astype(np.float32))
    with pytest.raises(HeaderError):
        decode_header(np.zeros(1600, dtype=np.float32))


def test_frame_format_refuses_impossible_sequences():
    with pytest.raises(ValueError):  # noqa: PT011  (commpy's words)
        FrameFormat(preamble_length=258, preamble_root=2)
    with pytest.raises(ValueError, match="spacing"):
        FrameFormat(pilot_spacing=1)


def test_false_alarm_probability_of_the_metric():
    """At a threshold for 1e-3 the rate on noise is 1e-3, whatever the noise level."""
    assert detection_threshold(257, 1e-3) == pytest.approx(1 - 1e-3 ** (1 / 256))
    detector = PreambleDetector(FORMAT.preamble)
    for es_n0_db in (-60, 0, 60):
        noise = awgn(es_n0_db, seed=es_n0_db + 100).process(np.zeros(4096 * 60)).samples
        metric = np.stack([detector.metric(block) for block in noise.reshape(-1, 4096)])
        # Metrics of starts 257 apart are independent.
        independent = metric[:, ::257]
        alarms = int(np.sum(independent > detection_threshold(257, 1e-2)))
        assert binomtest(alarms, independent.size, 1e-2).pvalue > 1e-3


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
        assert scan(PreambleDetector(FORMAT.preamble), stream) == []


def test_detection_probability_at_low_snr():
    count, spacing = 100, 3000
    stream = np.zeros(count * spacing, dtype=complex)
    starts = 1000 + spacing * np.arange(count)
    for start in starts:
        stream[start : start + 257] = FORMAT.preamble
    found = scan(PreambleDetector(FORMAT.preamble), awgn(-7, seed=6).process(stream).samples)
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
        part = stream[start : start + 257]
        part += FORMAT.preamble[: part.size]
    whole = scan(PreambleDetector(FORMAT.preamble), stream * level)
    assert scan(PreambleDetector(FORMAT.preamble), stream * level, sorted(cuts)) == whole
    reference = scan(PreambleDetector(FORMAT.preamble), stream)
    assert [detection.index for detection in whole] == [d.index for d in reference]


def test_known_gains_make_independent_fading_detectable():
    rng = np.random.default_rng(9)
    gains = (rng.standard_normal(8192) + 1j * rng.standard_normal(8192)) / np.sqrt(2)
    samples, known = SampleBuffer(), SampleBuffer()
    sent = np.zeros(8192, dtype=complex)
    sent[5000:5257] = FORMAT.preamble
    samples.append((gains * sent + 0.1 * rng.standard_normal(8192)).astype(np.complex64))
    known.append(gains.astype(np.complex64))
    found = PreambleDetector(FORMAT.preamble).scan(samples, known, final=True)
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
