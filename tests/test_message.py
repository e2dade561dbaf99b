"""Cutting of messages, block codec, and the assembly of what arrives."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy.errors import HeaderError
from phy.estimation import known_channel
from phy.mcs import MCS_TABLE, get_mcs, mcs_names
from phy.message import (
    BlockReceived,
    MessageAssembler,
    MessageLayout,
    MessageReceived,
    block_codec,
    cut_message,
    message_digest,
    plan_message,
)

ONES = np.ones(4, dtype=np.complex64)
ESTIMATE = known_channel(np.array([1.1, 0.9, 1.1, 0.9], dtype=np.complex64), ONES, ONES)
LAYOUT = plan_message(1000, get_mcs("qpsk-1/2"), depth=4, max_data_symbols=512)
MESSAGE = np.random.default_rng(0).bytes(1000)


def soft_frames(message, layout, message_id=0):
    """(header, LLRs) of every frame of a message, noise-free."""
    for block_index, payload in enumerate(cut_message(message, layout)):
        coded = block_codec(layout).encode(payload, message_id, block_index)
        for frame_index, bits in enumerate(coded):
            header = layout.header(message_id, block_index, frame_index)
            yield header, (8 - 16.0 * bits).astype(np.float32)


def feed(assembler, frames, start=0):
    """Hand frames over, 1000 samples each; returns all events."""
    events = []
    for place, (header, llr) in enumerate(frames):
        layout = MessageLayout.from_header(header)
        first = start + 1000 * place
        events += assembler.add_frame(header, layout, llr, ESTIMATE, (first, first + 1000))
    return events


def messages(events):
    return [event for event in events if isinstance(event, MessageReceived)]


@given(
    st.integers(0, 300_000),
    st.sampled_from(mcs_names()),
    st.integers(1, 64),
    st.integers(64, 16384),
)
@settings(max_examples=200, deadline=None)
def test_plan_is_balanced_and_understood_by_the_receiver(size, name, depth, max_data_symbols):
    mcs = get_mcs(name)
    try:
        layout = plan_message(size, mcs, depth, max_data_symbols)
    except ValueError:
        shortest_block = mcs.code_rate * mcs.bits_per_symbol * depth * max_data_symbols < 24 + 8
        most = 4096 * (float(mcs.spectral_efficiency) * depth * max_data_symbols - 24) / 8
        assert shortest_block or size + 8 > most - 4096
        return
    assert layout.frame_count <= depth
    assert layout.data_symbols <= max_data_symbols
    total = size + 8
    assert layout.block_bytes * layout.block_count - total < layout.block_count, "no runt"
    assert layout.payload_bits + 24 <= mcs.code_rate * layout.coded_bits
    # At most a symbol per frame more than the code rate asks for.
    spare = layout.coded_bits - (layout.payload_bits + 24) / mcs.code_rate
    assert spare <= (layout.frame_count + 1) * mcs.bits_per_symbol
    last = layout.header(65535, layout.block_count - 1, layout.frame_count - 1)
    assert MessageLayout.from_header(last) == layout


def test_default_block_spans_many_coherence_times():
    layout = plan_message(200_000, get_mcs("qpsk-1/2"))
    assert layout.frame_count == 16
    assert layout.frame_count * layout.data_symbols > 120_000  # 120 ms at 1 Msymbol/s
    short = plan_message(20, get_mcs("qpsk-1/2"))
    assert (short.block_count, short.frame_count) == (1, 1)
    assert short.data_symbols < 300


@pytest.mark.parametrize(
    "arguments",
    [
        {"depth": 0},
        {"depth": 65},
        {"max_data_symbols": 20_000},
        {"message_bytes": 2**28},
        {"message_bytes": -1},
        {"message_bytes": 2**27},
    ],
)
def test_plan_refuses_what_the_header_cannot_say(arguments):
    with pytest.raises(ValueError, match=r"depth|symbols|bytes"):
        plan_message(**{"message_bytes": 10, "mcs": get_mcs("qpsk-1/2")} | arguments)


@given(
    st.sampled_from(sorted(MCS_TABLE)),
    st.integers(0, 2**28 - 1),
    st.integers(1, 4096),
    st.integers(1, 64),
    st.integers(1, 2**14),
)
def test_hostile_layouts_are_refused_or_bounded(index, size, blocks, frames, data_symbols):
    header = LAYOUT.header(0, 0, 0)
    fields = header.fields() | {
        "mcs_index": index,
        "message_bytes": size,
        "block_count": blocks,
        "frame_count": frames,
        "data_symbols": data_symbols,
    }
    try:
        layout = MessageLayout.from_header(type(header)(**fields))
    except HeaderError:
        return
    assert layout.coded_bits <= 64 * 2**14 * 8
    assert layout.payload_bits < layout.coded_bits


@pytest.mark.parametrize("name", mcs_names())
def test_every_small_block_has_a_code(name):
    """Whatever a header may ask for, the coder can do: no error but a header's."""
    for size in range(60):
        layout = plan_message(size, get_mcs(name), depth=4, max_data_symbols=64)
        block_codec(layout)


@pytest.mark.parametrize("name", ["bpsk-1/3", "16qam-3/4", "256qam-5/6"])
def test_block_codec_round_trip(name):
    layout = plan_message(3000, get_mcs(name), depth=4, max_data_symbols=2000)
    payload = next(cut_message(np.random.default_rng(2).bytes(3000), layout))
    frames = block_codec(layout).encode(payload, 7, 0)
    assert frames.shape == (layout.frame_count, layout.frame_bits)
    soft = {index: (8 - 16.0 * bits).astype(np.float32) for index, bits in enumerate(frames)}
    result = block_codec(layout).decode(soft, 7, 0, 20)
    assert result.ok
    assert np.array_equal(result.bits, payload)
    assert not block_codec(layout).decode(soft, 8, 0, 20).ok, "another message's scrambling"


@given(st.binary(max_size=2000))
@settings(max_examples=20, deadline=None)
def test_messages_come_back(message):
    layout = plan_message(len(message), get_mcs("qpsk-2/3"), depth=3, max_data_symbols=512)
    events = feed(MessageAssembler(), soft_frames(message, layout, 5))
    (received,) = messages(events)
    assert (received.data, received.message_id, received.stage_failed) == (message, 5, None)
    assert received.frames_received == received.frames_expected
    assert b"".join(e.data for e in events if isinstance(e, BlockReceived)) == message


def test_statistics():
    (received,) = messages(feed(MessageAssembler(), soft_frames(MESSAGE, LAYOUT), start=500))
    assert received.snr_db == pytest.approx(20, abs=0.01)
    assert received.evm_db == pytest.approx(-20, abs=0.01)
    assert (received.first_sample, received.block_errors) == (500, 0)
    assert received.end_sample == 500 + 1000 * received.frames_expected
    assert received.iterations >= 1


def test_lost_frames_are_erasures():
    """A quarter of each block is lost; rate 1/2 fills the gap."""
    layout = plan_message(3000, get_mcs("qpsk-1/2"), depth=8, max_data_symbols=512)
    message = np.random.default_rng(3).bytes(3000)
    frames = [(h, llr) for h, llr in soft_frames(message, layout) if h.frame_index % 4]
    events = feed(assembler := MessageAssembler(), frames)
    (received,) = messages(events + assembler.flush())
    assert received.data == message
    assert received.frames_received < received.frames_expected


@pytest.mark.parametrize("headers_failed", [False, True])
def test_too_many_lost_frames(headers_failed):
    layout = plan_message(3000, get_mcs("qpsk-1/2"), depth=4, max_data_symbols=512)
    frames = [
        (h, llr)
        for h, llr in soft_frames(np.random.default_rng(4).bytes(3000), layout)
        if h.block_index != 1 or h.frame_index == 2
    ]
    assembler = MessageAssembler()
    if headers_failed:
        assembler.header_failed()
    (received,) = messages(feed(assembler, frames) + assembler.flush())
    assert received.data is None
    assert received.missing_blocks == (1,)
    assert received.stage_failed == ("header" if headers_failed else "detection")


def test_wrong_soft_bits_fail_in_the_code():
    rng = np.random.default_rng(5)
    frames = [
        (h, rng.standard_normal(llr.size).astype(np.float32))
        for h, llr in soft_frames(MESSAGE, LAYOUT)
    ]
    (received,) = messages(feed(MessageAssembler(), frames))
    assert (received.data, received.stage_failed) == (None, "ldpc")
    assert received.block_errors == received.block_count


def test_a_wrong_digest_is_never_delivered():
    """Two messages under one name, the first block of one and the rest of the other."""
    layout = plan_message(1000, get_mcs("qpsk-1/2"), depth=1, max_data_symbols=2048)
    assert layout.block_count > 1
    first = list(soft_frames(MESSAGE, layout))
    second = list(soft_frames(bytes(1000), layout))
    (received,) = messages(feed(MessageAssembler(), first[:1] + second[1:]))
    assert (received.data, received.stage_failed) == (None, "digest")
    assert received.missing_blocks == ()


def test_a_message_sent_twice_is_received_twice():
    frames = list(soft_frames(MESSAGE, LAYOUT))
    received = messages(feed(MessageAssembler(), frames + frames))
    assert [message.data for message in received] == [MESSAGE, MESSAGE]


def test_a_message_sent_anew_ends_the_incomplete_one():
    frames = list(soft_frames(MESSAGE, LAYOUT))
    received = messages(feed(MessageAssembler(), frames[:-3] + frames))
    assert [message.data for message in received] == [None, MESSAGE]


def test_interleaved_messages():
    other = MESSAGE[::-1]
    pairs = zip(soft_frames(MESSAGE, LAYOUT, 1), soft_frames(other, LAYOUT, 2), strict=True)
    received = messages(feed(MessageAssembler(), [frame for pair in pairs for frame in pair]))
    assert [(m.message_id, m.data) for m in received] == [(1, MESSAGE), (2, other)]


def test_silence_ends_a_message():
    assembler = MessageAssembler(timeout_samples=10_000)
    frames = list(soft_frames(MESSAGE, LAYOUT))[:-3]
    assert messages(feed(assembler, frames)) == []
    end = 1000 * len(frames)
    assert assembler.expire(end + 9_999) == []
    (received,) = messages(assembler.expire(end + 10_000))
    assert received.data is None
    assert assembler.flush() == []


def test_memory_is_bounded_and_evictions_are_counted():
    assembler = MessageAssembler(max_soft_bits=3 * LAYOUT.frame_bits, max_messages=5)
    events = []
    for ident in range(20):
        events += feed(assembler, list(soft_frames(MESSAGE, LAYOUT, ident))[:1])
    assert assembler.evicted_blocks > 0
    assert assembler.evicted_messages == 15
    ended = messages(events + assembler.flush())
    assert [message.message_id for message in ended] == list(range(20))
    assert all(message.data is None for message in ended)


def test_digest_and_bounds():
    assert len(message_digest(b"")) == 8
    assert message_digest(b"a") != message_digest(b"b")
    with pytest.raises(ValueError, match="positive"):
        MessageAssembler(max_messages=0)
