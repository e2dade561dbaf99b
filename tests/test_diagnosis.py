"""Faults simulated one by one: the report names them with their figures, and nothing else."""

import numpy as np
import pytest

from phy.chain import Propagation, RadioPath, ReceiverImpairments
from phy.diagnosis import clipping_sdr_db, diagnose, findings, most_likely_cause, stream_cause
from phy.error_profile import CELLS, find_burst
from phy.frame_report import complete_reports
from phy.impairments import (
    Adc,
    AdditiveNoise,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    IqImbalance,
    NoiseInterferer,
    ToneInterferer,
)
from phy.llr_statistics import LlrStatistics
from phy.message import BlockReceived, MessageReceived
from phy.ofdm import Ofdm
from phy.receiver import FrameReport, Receiver, ReceiverConfig
from phy.sample_statistics import SampleStatistics
from phy.single_carrier import SingleCarrier
from phy.stream_report import StreamMeter
from phy.symbol_spaced import SymbolSpaced
from phy.tapped_delay_line import TappedDelayLine
from phy.transmitter import Transmitter, TransmitterConfig

SAMPLE_RATE = 2e6
WAVEFORMS = {"single-carrier": SingleCarrier(), "ofdm": Ofdm()}
both = pytest.mark.parametrize("name", WAVEFORMS)
MESSAGE = np.random.default_rng(110).bytes(900)
LEAD = 1000


def gaussian(count, seed):
    """White noise of unit power."""
    samples = np.random.default_rng(seed).standard_normal(2 * count).view(complex) / np.sqrt(2)
    return samples.astype(np.complex64)


def send(name, mcs, message=MESSAGE):
    """One frame with silence around it."""
    waveform = WAVEFORMS[name]
    transmitter = Transmitter(TransmitterConfig(mcs, 1, waveform=waveform))
    return np.pad(np.concatenate([*transmitter.send(message), transmitter.flush()]), (LEAD, 2500))


def through(samples, es_n0_db, *interferers, fading=None, seed=1, **receiver):
    path = RadioPath(
        propagation=Propagation(
            fading=fading, interferers=interferers, noise=AdditiveNoise.from_es_n0(es_n0_db, 2)
        ),
        receiver=ReceiverImpairments(**receiver),
    )
    block = path.block(SAMPLE_RATE, seed)
    return np.concatenate([block.process(samples), block.flush()])


def receive(name, samples, **config):
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORMS[name], **config))
    events = receiver.process(samples) + receiver.flush()
    return events, receiver


def diagnosed(name, samples, **config):
    """The faults seen in the first frame, in order; its cause; the report."""
    events, _ = receive(name, samples, **config)
    report = complete_reports(events)[0]
    return [f.fault for f in findings(report)], most_likely_cause(report), report


def inside(samples, share):
    """A place in the frame."""
    return LEAD + int(share * (samples.size - LEAD - 2500))


# Frames


@both
@pytest.mark.parametrize(
    ("mcs", "es_n0_db"), [("qpsk-1/2", 5), ("16qam-3/4", 25), ("64qam-2/3", 40)]
)
def test_clean_frames_show_no_fault(name, mcs, es_n0_db):
    """And so do those of an ordinary radio: offsets, DC at -20 dBc, a 12-bit converter."""
    sent = send(name, mcs)
    radio = {
        "carrier": CarrierOffset(-123e3),
        "clock": ClockOffset(60),
        "iq": IqImbalance(0.1, 1),
        "dc": DcOffset(-20),
        "adc": Adc(12, 4.0),
    }
    for impairments in ({}, radio):
        faults, cause, report = diagnosed(name, through(sent, es_n0_db, **impairments))
        assert (faults, cause) == ([], None)
        assert report.payload_ok
        assert 1 <= report.ldpc_iterations < 25
        assert report.overlaps is None
        assert report.burst is None
        assert report.samples.clipped == 0
        assert 0 < report.preamble_snr_db < es_n0_db + 2


@both
def test_noise(name):
    faults, cause, report = diagnosed(name, through(send(name, "qpsk-1/2"), -2))
    assert faults == ["noise"]
    assert cause == f"noise: SNR of {report.snr_db:.1f} dB where qpsk-1/2 needs 0.8 dB"
    assert report.snr_db == pytest.approx(-2, abs=0.7)
    assert report.payload_ok is False
    assert report.ldpc_iterations == 25
    assert report.llr.information < 0.45  # the code's rate is 0.5


@both
def test_clipping(name):
    """With full scale known and unknown; where it does not matter it is not the cause."""
    clipped = through(send(name, "64qam-5/6"), 30, adc=Adc(10, 0.8))
    share = np.mean((np.abs(clipped.real) >= 0.79) | (np.abs(clipped.imag) >= 0.79))
    for full_scale in (None, 0.8):
        faults, cause, report = diagnosed(name, clipped, full_scale=full_scale)
        assert faults[0] == "clipping"
        assert cause == f"clipping: {report.samples.clipped:.1%} of samples at full scale"
        assert report.samples.clipped == pytest.approx(share * clipped.size / 6000, rel=0.5)
    weak = through(send(name, "qpsk-1/2"), -2, adc=Adc(8, 2.5))
    faults, cause, _ = diagnosed(name, weak)
    assert faults == ["noise", "clipping"]
    assert cause.startswith("noise")


@both
def test_tone_on_the_channel(name):
    samples = through(send(name, "64qam-5/6"), 25, ToneInterferer(-3, 111e3))
    faults, cause, report = diagnosed(name, samples)
    assert faults[0] == "tone"
    assert "cycles per sample lies over the frame" in cause
    assert report.samples.tone == pytest.approx(111e3 / SAMPLE_RATE, abs=1e-3)
    assert report.samples.tone_dbc == pytest.approx(-3, abs=1)


@both
def test_image(name):
    """An image of -23 or -14 dB is taken out; one of -9 dB is not, and is the cause."""
    sent = send(name, "64qam-5/6")
    for imbalance in (IqImbalance(1, 5), IqImbalance(3, 15)):
        samples = through(sent, 35, iq=imbalance, carrier=CarrierOffset(30e3))
        faults, cause, report = diagnosed(name, samples)
        assert report.payload_ok
        assert (faults, cause) == ([], None)
        assert report.samples.image_db == pytest.approx(-imbalance.image_rejection_db, abs=2)
    imbalance = IqImbalance(5, 30)
    samples = through(sent, 35, iq=imbalance, carrier=CarrierOffset(30e3))
    faults, cause, report = diagnosed(name, samples)
    assert faults[0] == "image"
    assert cause.startswith("IQ imbalance: the mirror image lies at -")
    assert report.samples.image_db == pytest.approx(-imbalance.image_rejection_db, abs=1)


@both
@pytest.mark.parametrize("cfo_hz", [-300e3, 300e3])
def test_carrier_offset_beyond_the_search_range(name, cfo_hz):
    samples = through(send(name, "qpsk-1/2"), 15, carrier=CarrierOffset(cfo_hz))
    events, receiver = receive(name, samples)
    (report,) = complete_reports(events)
    assert (report.detected, report.stage_failed) == (False, "detection")
    assert report.cfo_hz == pytest.approx(cfo_hz, abs=6e3)
    assert "carrier offset beyond the search range: " + ("+" if cfo_hz > 0 else "-") in (
        most_likely_cause(report)
    )
    assert receiver.statistics.out_of_reach == 1
    assert receiver.statistics.frames_detected == 0


@both
def test_samples_lost_inside_of_a_frame(name):
    samples = through(send(name, "qpsk-1/2"), 15)
    place = inside(samples, 0.6)
    for spoiled in (
        np.delete(samples, slice(place, place + 25)),
        np.insert(samples, place, [0.1] * 25),
    ):
        faults, cause, report = diagnosed(name, spoiled)
        assert faults[0] == "lost_samples"
        assert "at an unchanged level: samples were lost or inserted" in cause
        assert report.burst.first / CELLS == pytest.approx(0.6, abs=0.08)
        assert report.burst.stop >= CELLS - 1


@both
def test_burst_of_interference(name):
    burst = NoiseInterferer(10, 0, 2.5e-3, 1e-3, bandwidth_hz=1e6)
    faults, cause, report = diagnosed(name, through(send(name, "16qam-5/6"), 22, burst))
    assert faults[0] == "burst"
    assert cause.startswith("interference from ")
    length = report.end_sample - report.sample_index
    assert report.burst.first / CELLS == pytest.approx((5000 - 1020) / length, abs=0.13)
    assert report.burst.stop / CELLS == pytest.approx((7000 - 1020) / length, abs=0.1)


@both
def test_interference_on_the_header(name):
    burst = NoiseInterferer(15, 0, 0.9e-3, 1.2e-3, bandwidth_hz=1e6)
    _, cause, report = diagnosed(name, through(send(name, "qpsk-1/2"), 20, burst))
    assert report.stage_failed == "header"
    assert cause.startswith("interference behind the preamble: the level rises by 1")


@both
def test_gap(name):
    samples = through(send(name, "qpsk-3/4"), 20)
    samples[inside(samples, 0.5) : inside(samples, 0.9)] = 0
    faults, cause, report = diagnosed(name, samples)
    assert faults[0] == "gap"
    assert report.samples.zeros == pytest.approx(0.4, abs=0.02)
    assert cause == f"gap: {report.samples.zeros:.0%} of the frame's samples are exactly zero"


def test_fading_inside_of_a_frame():
    """Deep in the fade QPSK 3/4 lacks a third of its bits, though the mean SNR is high."""
    waveform = SymbolSpaced()
    transmitter = Transmitter(TransmitterConfig("qpsk-3/4", 1))
    (frame,) = transmitter.send(MESSAGE)
    gain = np.where(np.arange(frame.size) > 3500, 0.1, 1.0)
    gain = np.convolve(np.pad(gain, 500, mode="edge"), np.hanning(1001) / 500, "valid")
    stream = np.pad(frame * gain, 500)
    stream = stream + gaussian(stream.size, 111) * np.sqrt(10**-1.0)
    receiver = Receiver(ReceiverConfig(waveform=waveform))
    (report,) = complete_reports(receiver.process(stream) + receiver.flush())
    assert findings(report)[0].fault == "fading"
    assert most_likely_cause(report).startswith("fading: ")
    payload = gain[1110:] ** 2
    faded = np.mean(payload < 0.1 * payload.mean())
    assert report.faded == pytest.approx(faded, abs=0.15)  # 10 dB below the noise


@both
def test_symbol_rate_that_differs(name):
    samples = send(name, "qpsk-1/2").astype(complex)
    places = np.arange(0, samples.size - 1, 1.01)
    stretched = np.interp(places, np.arange(samples.size), samples)
    _, cause, report = diagnosed(name, through(stretched, 15))
    assert report.stage_failed == "header"
    assert "no header fits it: a symbol rate that differs" in cause


def test_clock_offset_at_the_end_of_the_range():
    samples = through(send("single-carrier", "qpsk-1/2"), 15, clock=ClockOffset(800))
    faults, cause, _ = diagnosed("single-carrier", samples)
    assert {"clock", "lost_samples"} & set(faults)
    assert "clock offset at or beyond" in cause or "the symbol rate is off" in cause


@both
def test_cut(name):
    _, cause, report = diagnosed(name, through(send(name, "qpsk-1/2"), 15)[:6000])
    assert cause == "the capture ends inside of the frame"
    assert (report.header_ok, report.payload_ok) == (True, None)
    assert report.end_sample == 6000


@both
def test_overlap(name):
    samples = send(name, "16qam-3/4")
    other = send(name, "qpsk-1/2", MESSAGE[::-1])[LEAD:]
    stream = np.pad(samples, (0, other.size))
    stream[LEAD + 3000 : LEAD + 3000 + other.size] += other
    faults, cause, report = diagnosed(name, through(stream, 25))
    assert faults[0] == "overlap"
    assert cause == f"another frame lies over this one: that at sample {LEAD + 3020}"
    assert report.overlaps == LEAD + 3020


# Streams


@both
@pytest.mark.parametrize(
    ("samples", "cause"),
    [
        ([], "no samples came"),
        (np.zeros(20_000), "no preamble; all samples are zero"),
        (np.full(20_000, np.nan), "no preamble; 100% of the samples are no finite numbers"),
        (gaussian(20_000, 112) + 10, "no preamble; DC 2"),
        (
            gaussian(20_000, 113) + 10 * np.exp(2j * np.pi * 0.05 * np.arange(20_000)),
            "no preamble; a strong carrier at +0.0500 cycles per sample, ",
        ),
        (np.clip(gaussian(20_000, 114).real, -0.5, 0.5) + 0j, "no preamble; clipping: "),
        (gaussian(20_000, 115) * 10, "no preamble; noise or other signals at 20.0 dB"),
    ],
)
def test_streams_without_a_frame(name, samples, cause):
    events, receiver = receive(name, samples)
    (line,) = diagnose(events, receiver.stream_report)
    assert line.startswith(cause)


def test_preamble_just_below_the_threshold():
    samples = send("single-carrier", "qpsk-1/2")[: LEAD + 560]
    levels = [0.1 * 1.04**k for k in range(40)]
    noise = gaussian(samples.size, 116)
    misses = []
    for level in levels:
        _, receiver = receive("single-carrier", level * samples + noise)
        if receiver.statistics.frames_detected or receiver.statistics.false_alarms:
            break
        misses.append(receiver.stream_report)
    assert misses[-1].near_miss > 0.95
    assert "strongest trace of one reached" in stream_cause(misses[-1])
    assert misses[0].near_miss < 0.9


def test_stream_statistics_stay_bounded_and_do_not_depend_on_chunks():
    samples = gaussian(300_000, 117) * np.linspace(1, 3, 300_000, dtype=np.float32)
    whole, parts = StreamMeter(None), StreamMeter(None)
    whole.process(samples)
    for part in np.split(samples, [1, 1023, 1024, 5000, 65_536, 299_999]):
        parts.process(part)
    assert repr(whole.report(0.0)) == repr(parts.report(0.0))
    # The mean of 1 to 9 along the squares of the line.
    assert whole.report(0.0).samples.level_db == pytest.approx(10 * np.log10(13 / 3), abs=0.15)
    assert len(whole._blocks) < 64


def test_diagnosis_of_a_reception_counts_frames():
    good, bad = send("single-carrier", "qpsk-1/2"), send("single-carrier", "64qam-5/6")
    events, receiver = receive("single-carrier", through(np.concatenate([good, bad, bad]), 8))
    (line,) = diagnose(events, receiver.stream_report)
    assert line.startswith("2 frames lost (payload): noise: SNR of 8.")
    assert line.endswith(f"(at sample {good.size + LEAD + 20})")
    assert diagnose(*_received_alone(good)) == []


def _received_alone(samples):
    events, receiver = receive("single-carrier", through(samples, 8))
    return events, receiver.stream_report


# Measurements, against literal values


def test_report_as_json():
    events, _ = receive("ofdm", through(send("ofdm", "qpsk-1/2"), 10))
    values = complete_reports(events)[0].to_json()
    assert values["detected"] is values["header_ok"] is values["payload_ok"] is True
    assert values["header"]["data_symbols"] > 0
    assert values["clipped"] == 0
    assert values["snr_db"] == pytest.approx(10, abs=0.5)
    assert {"cfo_hz", "level_db", "dc_dbc", "llr_information", "ldpc_iterations"} <= set(values)
    assert all(v is None or isinstance(v, (bool, int, float, str, dict)) for v in values.values())


def test_reports_of_a_block_that_succeeds_at_the_second_attempt():
    report = FrameReport(100, 50.0, None, True, None, None, 1.0, 1.0, 1.0, None, end_sample=200)
    lost = BlockReceived(1, 0, 1, None, 1, 1, 1, 25.0, "ldpc", (100,))
    found = BlockReceived(1, 0, 1, b"x", 1, 2, 2, 3.0, None, (100, 300))
    for events in ([report, lost, found], [found, lost, report]):
        (completed,) = complete_reports(events)
        assert (completed.payload_ok, completed.ldpc_iterations) == (True, 3.0)
    assert complete_reports([report])[0].payload_ok is None


def test_levels_dc_and_image():
    n = np.arange(8192)
    line = np.exp(2j * np.pi * n / 8) * 0.5
    measured = SampleStatistics.of((line + 0.05).astype(np.complex64), full_scale=1.0)
    assert measured.level_db == pytest.approx(10 * np.log10(0.2525), abs=1e-3)
    assert measured.dc_dbc == pytest.approx(-20, abs=1e-3)
    mirrored = (line + 0.1 * np.conj(line)).astype(np.complex64)
    assert SampleStatistics.of(mirrored).image_db == pytest.approx(-20, abs=1e-3)
    assert measured.powers == pytest.approx(0.2525, abs=1e-4)


@pytest.mark.parametrize("bits", [4, 8, 12])
@pytest.mark.parametrize("scale", [0.5, 0.7])
def test_clipping_is_found_without_full_scale(bits, scale):
    """Gaussian noise behind converters: at 2 and 2.8 standard deviations they clip, at 7 not."""
    noise = gaussian(20_000, 118)
    adc = Adc(bits, 1.0).block(1.0)
    samples = adc.process(scale * noise)
    exact = adc.clipped_samples / samples.size
    found = SampleStatistics.of(samples).clipped
    if bits > 4:
        assert found == pytest.approx(exact, rel=0.15)
        assert SampleStatistics.of(samples, 1.0).clipped == pytest.approx(exact, rel=0.15)
    for quiet in (0.1, 0.15, 0.2):
        assert SampleStatistics.of(adc.process(quiet * noise)).clipped == 0


def test_unclipped_signals_have_no_rails():
    for seed in range(40):
        assert SampleStatistics.of(gaussian(5000, 200 + seed)).clipped == 0
    wave = gaussian(20_000, 119) + np.exp(0.3j * np.arange(20_000))
    assert SampleStatistics.of(wave.astype(np.complex64)).clipped == 0


def test_distortion_of_a_clipped_gaussian():
    """Against its definition by simulation, and the square wave at the end: 1 - 2 / pi."""
    rng = np.random.default_rng(120)
    x = rng.standard_normal((2, 1_000_000))
    for limit in (1.0, 1.5, 2.0):
        clipped = np.clip(x, -limit, limit)
        sdr = np.mean(x**2) / np.mean((x - clipped) ** 2)
        share = np.mean(np.any(np.abs(x) > limit, axis=0))
        assert clipping_sdr_db(share) == pytest.approx(10 * np.log10(sdr), abs=0.15)
    assert clipping_sdr_db(0.0) == np.inf


def test_llr_statistics():
    llr = np.array([0, 0, 2.0, -2.0, 40.0, -50.0, 1.0, -1.0], dtype=np.float32)
    measured = LlrStatistics.of(llr)
    assert measured.mean_magnitude == pytest.approx(12.0)
    assert (measured.erased, measured.saturated) == (0.25, 0.25)
    # 1 - h(1 / (1 + e^2)) = 0.4724, 1 - h(1 / (1 + e)) = 0.1598, each twice, and 1 twice.
    assert measured.information == pytest.approx((2 * 0.4724 + 2 * 0.1598 + 2) / 8, abs=2e-4)


def test_burst_is_found_where_it_is():
    rng = np.random.default_rng(121)
    places = np.sort(rng.choice(6400, 300, replace=False))
    errors = rng.exponential(0.1, 300)
    assert find_burst(places, errors, 6400) is None
    errors[(places >= 2000) & (places < 3200)] *= 8
    burst = find_burst(places, errors, 6400)
    assert (burst.first, burst.stop) == (10, 16)
    assert burst.noise_inside / burst.noise_outside == pytest.approx(8, rel=0.4)
    assert find_burst(places, np.zeros(300), 6400) is None


def test_clean_frames_have_no_burst():
    """1000 draws; by the bound, one of 10^7 would have one."""
    rng = np.random.default_rng(122)
    places = np.concatenate([np.arange(1100), np.arange(1131, 9000, 32)])
    for _ in range(1000):
        assert find_burst(places, rng.exponential(1.0, places.size), 9000) is None


def test_delay_spread_of_two_taps():
    """Two equal taps 8 samples apart spread by 4 samples, 2 us at 2 Msample/s."""
    sent = send("ofdm", "qpsk-1/2")
    received = sent + np.roll(sent, 8)
    events, _ = receive("ofdm", received + gaussian(sent.size, 123) * 0.05)
    (report,) = complete_reports(events)
    assert report.delay_spread_s == pytest.approx(2e-6, rel=0.1)
    events, _ = receive("ofdm", sent + gaussian(sent.size, 124) * 0.05)
    assert complete_reports(events)[0].delay_spread_s < 1e-7


@both
def test_received_messages_are_those_of_good_frames(name):
    flat = TappedDelayLine("flat", 0.0, 50.0)
    samples = through(send(name, "qpsk-1/2"), 18, fading=flat, seed=4)
    events, _ = receive(name, samples)
    assert [m.data for m in events if isinstance(m, MessageReceived)] == [MESSAGE]
    assert [report.payload_ok for report in complete_reports(events)] == [True]
