"""Corrupted captures: only flagged frames or exact messages, and reception goes on behind them."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy.frame_report import complete_reports
from phy.message import BlockReceived, MessageReceived
from phy.ofdm import Ofdm
from phy.receiver import FrameReport, Receiver, ReceiverConfig
from phy.single_carrier import SingleCarrier
from phy.transmitter import Transmitter, TransmitterConfig

WAVEFORMS = [SingleCarrier(), Ofdm()]
NAMES = ["single-carrier", "ofdm"]
RNG = np.random.default_rng(90)
SENT = [RNG.bytes(130) for _ in range(4)]
LAST = RNG.bytes(130)
LAST_ID = 999
SHORT = {"max_data_symbols": 600, "depth": 2}


def send(waveform, message, message_id=0, **config):
    transmitter = Transmitter(TransmitterConfig(waveform=waveform, **config))
    return np.concatenate([*transmitter.send(message, message_id), transmitter.flush()])


def noise(count, seed, n0=0.02):
    """White noise of a power of n0 per sample."""
    return np.random.default_rng(seed).standard_normal(2 * count).view(complex) * np.sqrt(n0 / 2)


def receive(waveform, samples, chunks=(), **config):
    receiver = Receiver(ReceiverConfig(waveform=waveform, **config))
    parts = np.split(samples, sorted(min(cut, samples.size) for cut in chunks))
    return [
        event for part in parts for event in receiver.process(part)
    ] + receiver.flush(), receiver


def of_type(events, kind):
    return [event for event in events if isinstance(event, kind)]


def data(events):
    return [message.data for message in of_type(events, MessageReceived)]


def cut(x, at, size, value):
    return np.concatenate([x[:at], x[at + size :]])


def duplicate(x, at, size, value):
    return np.concatenate([x[: at + size], x[at:]])


def overlap(x, at, size, value):
    """Some of the capture once more over itself, at a level from -20 to 0 dB."""
    y = np.nan_to_num(x, posinf=0, neginf=0)
    y[at:] += y[: x.size - at].copy() * 10 ** (-(value % 21) / 20)
    return y


def burst(x, at, size, value):
    """Noise 20 dB above the signal."""
    y = x.copy()
    y[at : at + size] += noise(y[at : at + size].size, value, 100.0)
    return y


def tone(x, at, size, value):
    """A carrier 20 dB above the signal."""
    y = x.copy()
    y[at : at + size] += 10 * np.exp(0.01j * value * np.arange(y[at : at + size].size))
    return y


def flip(x, at, size, value):
    y = np.nan_to_num(x, posinf=0, neginf=0)
    y[at : at + size] *= -1
    return y


def level(x, at, size, value):
    y = np.nan_to_num(x, posinf=0, neginf=0)
    y[at:] *= 10 ** (value % 7 - 3)
    return y


def fill(x, at, size, value):
    """Zeros, not-a-numbers, infinities, or a square wave of full scale."""
    y = x.copy()
    count = y[at : at + size].size
    square = np.where(np.arange(count) // 37 % 2, 30, -30) * (1 + 1j)
    y[at : at + size] = (np.zeros(count), np.full(count, np.nan), np.full(count, np.inf), square)[
        value % 4
    ]
    return y


OPERATIONS = [cut, duplicate, overlap, burst, tone, flip, level, fill]
operations = st.lists(
    st.tuples(
        st.sampled_from(OPERATIONS),
        st.floats(0, 1),
        st.sampled_from([1, 2, 3, 25, 400, 3000]),
        st.integers(0, 100),
    ),
    min_size=1,
    max_size=4,
)


def capture(waveform):
    """Several messages back to back."""
    return np.concatenate([send(waveform, m, i, **SHORT) for i, m in enumerate(SENT)])


CAPTURES = [capture(waveform) for waveform in WAVEFORMS]


def check_totals(events, statistics, size):
    """Every frame, block and message that was counted was reported, and the other way round."""
    reports, blocks = of_type(events, FrameReport), of_type(events, BlockReceived)
    assert statistics.samples == size
    assert statistics.frames_detected == sum(report.detected for report in reports)
    assert statistics.out_of_reach == sum(not report.detected for report in reports)
    assert statistics.frames_detected == (
        statistics.frames_received + statistics.frames_cut + statistics.header_failures
    )
    assert statistics.frames_received == sum(report.payload_used for report in reports)
    assert statistics.blocks_decoded == sum(block.data is not None for block in blocks)
    assert statistics.blocks_failed == sum(block.data is None for block in blocks)
    found = data(events)
    assert statistics.messages_complete == sum(message is not None for message in found)
    assert statistics.messages_failed == sum(message is None for message in found)
    # Each used frame belongs to one block, and its report learns what became of it.
    used = [index for block in blocks for index in block.frame_samples]
    assert sorted(used) == [r.sample_index for r in reports if r.payload_used]
    for report in complete_reports(events):
        assert (report.failure is None) == report.payload_used
        assert (report.payload_ok is None) == (not report.payload_used)


@pytest.mark.parametrize("which", [0, 1], ids=NAMES)
@given(operations, st.lists(st.integers(0, 60_000), max_size=6))
@settings(max_examples=6, deadline=None)
def test_corrupted_captures(which, spoiled, chunks):
    waveform, samples = WAVEFORMS[which], CAPTURES[which]
    samples = samples + noise(samples.size, 91)
    for operation, place, size, value in spoiled:
        samples = operation(samples, int(place * samples.size), size, value)
    # The detector transforms 4096 samples at a time, and within such a block it sees 90 dB.
    silence = np.zeros(5000)
    last = np.concatenate([silence, send(waveform, LAST, LAST_ID, **SHORT), silence])
    stream = np.concatenate([samples, last + noise(last.size, 92)]).astype(np.complex64)
    events, receiver = receive(waveform, stream)
    for message in of_type(events, MessageReceived):
        expected = LAST if message.message_id == LAST_ID else SENT[message.message_id]
        assert message.data == expected or (message.data is None and message.stage_failed)
    assert LAST in data(events)
    check_totals(events, receiver.statistics, stream.size)
    again, _ = receive(waveform, stream, chunks)
    assert repr(again) == repr(events)


@pytest.mark.parametrize("waveform", WAVEFORMS, ids=NAMES)
@pytest.mark.parametrize("start", [1700, 4000])
@pytest.mark.parametrize(
    ("first", "second"), [(0.0, 0.0), (0.0, -10.0), (-10.0, 0.0)], ids=["equal", "weak", "strong"]
)
def test_overlapping_frames(waveform, start, first, second):
    """Both are reported; that of the higher level arrives, and so does the one behind them."""
    frames = [send(waveform, bytes([i]) * 300, i) for i in range(3)]
    length = frames[0].size
    stream = noise(5000 + start + 2 * length, 93)
    places = (1000, 1000 + start, 2000 + start + length)
    for frame, place, level_db in zip(frames, places, (first, second, 0.0), strict=True):
        stream[place : place + length] += 10 ** (level_db / 20) * frame
    events, receiver = receive(waveform, stream)
    arrived = {message.message_id for message in of_type(events, MessageReceived) if message.data}
    assert 2 in arrived
    assert (0 if first > second else 1) in arrived or first == second
    reports = complete_reports(events)
    assert [report.sample_index for report in reports] == [place + 20 for place in places]
    assert reports[0].overlaps == 1020 + start
    assert reports[1].overlaps == 1020
    assert reports[2].overlaps is None
    check_totals(events, receiver.statistics, stream.size)


@pytest.mark.parametrize("waveform", WAVEFORMS, ids=NAMES)
def test_a_header_without_its_frame_swallows_nothing(waveform):
    """A long frame ends behind its header; frames lie where its payload would have been."""
    long = send(waveform, bytes(1900), 5, mcs="qpsk-1/2")[:2800]
    frames = [send(waveform, bytes([i]) * 40, i) for i in range(3)]
    stream = np.concatenate([np.zeros(500), long, *frames, np.zeros(16_000)])
    events, receiver = receive(waveform, stream + noise(stream.size, 94))
    arrived = [message.message_id for message in of_type(events, MessageReceived) if message.data]
    assert arrived == [0, 1, 2]
    assert receiver.statistics.frames_overlapping == 3
    assert [message.data for message in of_type(events, MessageReceived)].count(None) == 1


@pytest.mark.parametrize("waveform", WAVEFORMS, ids=NAMES)
def test_interferers_between_frames(waveform):
    """A carrier, noise and a pulse train, each 20 dB above the frames, right up to the next one."""
    frames = [send(waveform, bytes([i]) * 60, i) for i in range(4)]
    n = np.arange(3000)
    between = (
        10 * np.exp(0.3j * n),
        noise(n.size, 95, 100.0),
        np.where(n % 50 == 0, 300, 0),
        np.zeros(n.size),
    )
    stream = np.concatenate([part for pair in zip(frames, between, strict=True) for part in pair])
    events, receiver = receive(waveform, stream + noise(stream.size, 96))
    assert data(events) == [bytes([i]) * 60 for i in range(4)]
    assert receiver.statistics.frames_detected == receiver.statistics.frames_received == 4


@pytest.mark.parametrize("waveform", WAVEFORMS, ids=NAMES)
def test_messages_interleaved_frame_by_frame(waveform):
    """Three senders take turns: every message comes back, whatever the chunks."""
    messages = [np.random.default_rng(97 + i).bytes(300) for i in range(3)]
    streams = []
    for ident, message in enumerate(messages):
        transmitter = Transmitter(
            TransmitterConfig(waveform=waveform, depth=4, **{"max_data_symbols": 700})
        )
        streams.append(
            [np.concatenate([frame, np.zeros(60)]) for frame in transmitter.send(message, ident)]
        )
    turns = [frame for turn in zip(*streams, strict=True) for frame in turn]
    stream = np.concatenate([*turns, np.zeros(1000)])
    stream = (stream + noise(stream.size, 98)).astype(np.complex64)
    events, receiver = receive(waveform, stream)
    assert {m.message_id: m.data for m in of_type(events, MessageReceived)} == dict(
        enumerate(messages)
    )
    check_totals(events, receiver.statistics, stream.size)
    again, _ = receive(waveform, stream, range(0, stream.size, 777))
    assert repr(again) == repr(events)


def test_memory_is_bounded_on_an_endless_stream():
    """2 10^6 samples of headers whose frames never come, of noise, and of frames of lost blocks."""
    waveform = WAVEFORMS[0]
    lone = [
        np.concatenate([send(waveform, bytes(3000), i, depth=16)[:6000], np.zeros(4000)])
        for i in range(10)
    ]
    part = np.concatenate(lone)
    part = (part + noise(part.size, 99)).astype(np.complex64)
    receiver = Receiver(
        ReceiverConfig(waveform=waveform, max_soft_bits=40_000, max_messages=4, max_iterations=1)
    )
    most = 0
    quiet = noise(900_000, 100).astype(np.complex64)
    for _ in range(2):
        for chunk in (part, quiet):
            receiver.process(chunk)
            most = max(most, receiver.samples_held)
    assert receiver.statistics.samples == 2_000_000
    assert receiver.statistics.frames_received == 20
    assert receiver.statistics.messages_failed >= 16
    # A frame of at most 8192 data symbols, the detector's window, and a slice of 2^16 samples.
    assert most < 2**16 + 2 * waveform.frame_symbols(8192) + 3 * 4096
