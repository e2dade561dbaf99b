"""The single-carrier waveform: messages over samples with unknown time, carrier and clock."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy.message import MessageReceived
from phy.pulse_shaping import SPAN, Pulse, root_raised_cosine
from phy.receiver import FrameReport, Receiver, ReceiverConfig
from phy.single_carrier import SingleCarrier
from phy.synchronization import Baseband, Synchronization, acquire, refine, timing_correction
from phy.transmitter import Transmitter, TransmitterConfig

WAVEFORM = SingleCarrier()
MESSAGE = np.random.default_rng(60).bytes(3000)


def send(message, message_id=0, **config):
    transmitter = Transmitter(TransmitterConfig(waveform=WAVEFORM, **config))
    return np.concatenate([*transmitter.send(message, message_id), transmitter.flush()])


def sampled(symbols, start, clock, length, samples_per_symbol=2, rolloff=0.25):
    """Samples of a pulse train by its definition, at any start (samples) and clock offset."""
    n = np.arange(length)
    time = (n - start) / (samples_per_symbol * (1 + clock))
    total = np.zeros(length, dtype=complex)
    for offset in range(-SPAN, SPAN + 1):
        k = np.round(time).astype(int) + offset
        inside = (k >= 0) & (k < symbols.size)
        total[inside] += symbols[k[inside]] * root_raised_cosine(time[inside] - k[inside], rolloff)
    return total


def noisy(samples, es_n0_db, seed, carrier=0.0, padding=2000):
    """Samples between silences, with carrier offset (cycles per sample) and noise."""
    stream = np.pad(samples, padding)
    stream = stream * np.exp(2j * np.pi * (carrier * np.arange(stream.size) + 0.1 * seed))
    noise = np.random.default_rng(seed).standard_normal(2 * stream.size).view(complex)
    return stream + noise * np.sqrt(10 ** (-es_n0_db / 10) * 2 / 2)


def receive(samples, **config):
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM, **config))
    return receiver.process(samples) + receiver.flush(), receiver.statistics


def messages(events):
    return [event for event in events if isinstance(event, MessageReceived)]


@pytest.mark.parametrize("radians_per_sample", [-0.6, -0.05, 0.0, 0.3, 0.6])
def test_message_arrives_at_any_carrier_offset(radians_per_sample):
    """QPSK 1/2 at Es/N0 = 2 dB, two 20 ppm oscillators at 2.4 GHz and 1 Msample/s."""
    carrier = radians_per_sample / (2 * np.pi)
    events, statistics = receive(noisy(send(MESSAGE, 5), 2.0, 3, carrier))
    (message,) = messages(events)
    assert message.data == MESSAGE
    assert statistics.frames_received == message.frames_received
    for report in events:
        if isinstance(report, FrameReport):
            # The symbol rate is 1 MHz, so there are 2 Msample/s.
            assert report.cfo_hz == pytest.approx(carrier * 2e6, abs=20)
            assert report.snr_db == pytest.approx(2.0, abs=0.6)


def test_frames_back_to_back_are_all_received():
    """64 frames in one stream without a gap."""
    message = np.random.default_rng(61).bytes(12_000)
    events, statistics = receive(
        noisy(send(message, mcs="qpsk-1/2", max_data_symbols=1600), 12.0, 4, 0.03)
    )
    assert statistics.frames_detected == statistics.frames_received >= 60
    assert statistics.header_failures == 0
    assert messages(events)[0].data == message


def test_dense_constellation():
    """256-QAM 3/4 at 26 dB: pulses, timing and carrier leave an error below -30 dB."""
    events, _ = receive(noisy(send(MESSAGE, mcs="256qam-3/4"), 26.0, 5, -0.07))
    assert messages(events)[0].data == MESSAGE


@given(st.lists(st.integers(0, 20_000), max_size=10))
@settings(max_examples=8, deadline=None)
def test_events_do_not_depend_on_chunks(cuts):
    stream = noisy(send(MESSAGE[:500]), 6.0, 6, 0.05)
    whole, _ = receive(stream)
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORM))
    parts = np.split(stream, sorted(min(cut, stream.size) for cut in cuts))
    events = [event for part in parts for event in receiver.process(part)] + receiver.flush()
    assert [repr(event) for event in events] == [repr(event) for event in whole]


def test_cut_frames_are_flagged():
    stream = noisy(send(MESSAGE), 20.0, 7)
    events, statistics = receive(stream[:6000])
    assert statistics.frames_cut == 1
    assert not messages(events) or messages(events)[0].data is None
    events, _ = receive(stream[4000:])  # the preamble of the first frame is missing
    assert all(message.data in (None, MESSAGE) for message in messages(events))


def test_noise_constants_and_tones_are_no_frames():
    n = np.arange(300_000)
    noise = np.random.default_rng(9).standard_normal(2 * n.size).view(complex)
    for stream in (noise, noise + 30, noise + 30 * np.exp(0.4j * n), np.ones(n.size)):
        events, statistics = receive(stream)
        assert events == []
        assert statistics.frames_detected == 0


@pytest.mark.parametrize("clock_ppm", [-80, -40, 0, 40, 80])
def test_synchronization_against_the_definition_of_the_signal(clock_ppm):
    """In the end: start to 0.02 symbols, clock to 2 ppm, carrier to 3e-7 cycles per sample."""
    rng = np.random.default_rng(100 + clock_ppm)
    symbols = np.exp(0.5j * np.pi * rng.integers(0, 4, 9000))
    preamble = WAVEFORM.frame_format.preamble
    symbols[: preamble.size] = preamble
    start, clock, carrier = 300.37, clock_ppm * 1e-6, 0.0837
    stream = sampled(symbols, start, clock, 18_800)
    stream *= np.exp(2j * np.pi * carrier * np.arange(stream.size))
    stream += rng.standard_normal(2 * stream.size).view(complex) * np.sqrt(10**-2.5)
    samples = stream.astype(np.complex64)

    pulse = Pulse()
    rough = Synchronization(start + 0.8, carrier + 4e-4)
    first = acquire(samples[:1000], pulse, preamble, rough)
    assert first.start == pytest.approx(start, abs=0.04)
    assert first.carrier == pytest.approx(carrier, abs=2e-5)
    assert first.metric > 200

    known = np.concatenate([np.arange(1100), np.arange(1131, 9000, 32)])
    base = Baseband.of(samples, first.carrier, pulse)
    second = refine(base, known, symbols[known].astype(np.complex64), first)
    assert second.clock == pytest.approx(clock, abs=25e-6)
    assert second.carrier == pytest.approx(carrier, abs=3e-7)

    seen = base.symbols(second, np.arange(9000))
    expected = symbols * np.exp(1j * np.angle(np.vdot(symbols, seen)))
    third = timing_correction(base, second, seen, expected.astype(np.complex64), 2 * 10**-2.5)
    assert third.start == pytest.approx(start, abs=0.04)
    assert third.clock == pytest.approx(clock, abs=2e-6)


def test_bounds():
    with pytest.raises(ValueError, match=r"0 to 0\.188"):
        SingleCarrier(carrier_reach=0.25)
    with pytest.raises(ValueError, match="symbol-spaced"):
        Receiver(ReceiverConfig(waveform=WAVEFORM, csi="perfect"))
