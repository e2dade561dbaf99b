"""Rounds, feedback and soft combining of messages, whatever gets lost on the way."""

from collections.abc import Iterator, Mapping

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy.channel import awgn
from phy.estimation import known_channel
from phy.feedback import Acknowledgement
from phy.frame import FrameHeader
from phy.harq import FEEDBACK_MCS, HarqConfig, HarqSender, HarqState
from phy.mcs import get_mcs
from phy.message import (
    BlockReceived,
    FeedbackDue,
    MessageAssembler,
    MessageLayout,
    MessageReceived,
    block_codec,
    block_payload,
    message_digest,
    plan_message,
)
from phy.receiver import Receiver, ReceiverConfig
from phy.transmitter import Transmitter, TransmitterConfig

ONES = np.ones(4, dtype=np.complex64)
ESTIMATE = known_channel(np.array([1.1, 0.9, 1.1, 0.9], dtype=np.complex64), ONES, ONES)
MESSAGE = np.random.default_rng(0).bytes(300)
LAYOUT = plan_message(300, get_mcs("qpsk-3/4"), depth=2, max_data_symbols=256)
BLOCKS, FRAMES = LAYOUT.block_count, LAYOUT.frame_count
FRAME = 1000  # samples
GOOD_DB, HALF_DB = 12.0, 2.5  # QPSK 3/4 needs 4.0 dB; two transmissions of it, 3/8, far less

Frame = tuple[FrameHeader, np.ndarray]


def round_frames(
    message: bytes,
    number: int,
    rv: Mapping[int, int],
    message_id: int = 0,
    es_n0_db: float = GOOD_DB,
    seed: int = 1,
) -> Iterator[Frame]:
    """Headers and LLRs of the frames of a round, over QPSK and AWGN."""
    rng = np.random.default_rng([seed, number])
    variance = 10 ** (-es_n0_db / 10)
    for block, version in rv.items():
        payload = block_payload(message, LAYOUT, block)
        for index, bits in enumerate(
            block_codec(LAYOUT).encode(payload, message_id, block, version)
        ):
            received = 1 - 2.0 * bits + variance**0.5 * rng.standard_normal(bits.size)
            llr = (2 / variance * received).astype(np.float32)
            yield LAYOUT.header(message_id, block, index, version, number, block == max(rv)), llr


class Frames:
    """Stands for a transmitter whose frames are headers and LLRs instead of samples."""

    config = TransmitterConfig()

    def __init__(self, es_n0_db: float, seed: int) -> None:
        self._channel = {"es_n0_db": es_n0_db, "seed": seed}

    def layout(self, message_bytes: int) -> MessageLayout:
        assert message_bytes == LAYOUT.message_bytes
        return LAYOUT

    def send_round(
        self, message: bytes, message_id: int, number: int, rv: Mapping[int, int]
    ) -> Iterator[Frame]:
        return round_frames(message, number, rv, message_id, **self._channel)


def feed(assembler, frames, start=0):
    """Hands over frames, 1000 samples each; frames that are None are lost."""
    events = []
    for place, frame in enumerate(frames):
        if frame is not None:
            header, llr = frame
            first = start + FRAME * place
            layout = MessageLayout.from_header(header)
            events += assembler.add_frame(header, layout, llr, ESTIMATE, (first, first + FRAME))
    return events


def of_type(events, kind):
    return [event for event in events if isinstance(event, kind)]


def all_blocks(rv=0):
    return dict.fromkeys(range(BLOCKS), rv)


def exchange(sender, assembler, lost_frames, lost_feedback):
    """Runs rounds to their end; the iterators say what is lost."""
    events, now = [], 0
    while sender.state is HarqState.READY:
        for header, llr in sender.next_round(now):
            if not next(lost_frames, False):
                span = (now, now + FRAME)
                layout = MessageLayout.from_header(header)
                events += assembler.add_frame(header, layout, llr, ESTIMATE, span)
            now += FRAME
        answered = 0
        while sender.state is HarqState.WAITING:
            now += FRAME
            events += assembler.expire(now)
            due = of_type(events, FeedbackDue)
            for feedback in due[answered:]:
                if not next(lost_feedback, False):
                    sender.feedback(feedback.acknowledgement.to_bytes())
            answered = len(due)
            sender.expire(now)
    return events


# --- whatever is lost -------------------------------------------------------------------------


@given(
    st.lists(st.booleans(), max_size=40),
    st.lists(st.booleans(), max_size=6),
    st.sampled_from([GOOD_DB, HALF_DB, -6.0]),
    st.integers(1, 6),
    st.integers(0, 2**16),
)
@settings(max_examples=40, deadline=None)
def test_the_message_is_exact_or_flagged_and_delivered_once(
    lost_frames, lost_feedback, es_n0_db, max_rounds, seed
):
    sender = HarqSender(Frames(es_n0_db, seed), MESSAGE, 7, HarqConfig(max_rounds))
    assembler = MessageAssembler()
    events = exchange(sender, assembler, iter(lost_frames), iter(lost_feedback))
    events += assembler.flush()
    messages = of_type(events, MessageReceived)
    delivered = [message.data for message in messages if message.data is not None]
    assert delivered in ([], [MESSAGE])
    assert sender.rounds <= max_rounds
    assert sender.state in (HarqState.DELIVERED, HarqState.GIVEN_UP)
    if sender.state is HarqState.DELIVERED:
        assert delivered
    elif not delivered:
        assert sender.rounds == max_rounds
        assert all(message.stage_failed and message.missing_blocks for message in messages)
    decoded = [e.block_index for e in of_type(events, BlockReceived) if e.data is not None]
    assert len(decoded) == len(set(decoded))
    assert assembler.waiting_soft_bits == 0
    assert assembler.evicted_blocks == assembler.evicted_messages == 0


def test_nothing_lost_takes_one_round():
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE)
    events = exchange(sender, MessageAssembler(), iter(()), iter(()))
    assert (sender.state, sender.rounds, sender.missing_blocks) == (HarqState.DELIVERED, 1, ())
    assert (sender.blocks_retransmitted, sender.unanswered_rounds) == (0, 0)
    (feedback,) = of_type(events, FeedbackDue)
    assert feedback.sample == BLOCKS * FRAMES * FRAME
    assert feedback.acknowledgement.digest_prefix == message_digest(MESSAGE)[:4]


def test_blocks_too_noisy_for_one_transmission_arrive_with_two():
    """At 2.5 dB rate 3/4 fails; with new redundancy it has become rate 3/8 in the second round."""
    sender = HarqSender(Frames(HALF_DB, 3), MESSAGE)
    events = exchange(sender, MessageAssembler(), iter(()), iter(()))
    assert (sender.state, sender.rounds) == (HarqState.DELIVERED, 2)
    assert sender.blocks_retransmitted >= BLOCKS - 1
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.rounds) == (MESSAGE, 2)
    second = [e for e in of_type(events, BlockReceived) if e.transmissions == 2]
    assert len(second) == sender.blocks_retransmitted
    assert all(block.data is not None for block in second)


def test_only_missing_blocks_are_sent_again():
    """A frame of each of blocks 1 and 3 is lost: rate 3/4 cannot do without a half."""
    lost = [place in (FRAMES, 3 * FRAMES) for place in range(FRAMES * BLOCKS)]
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE)
    events = exchange(sender, MessageAssembler(), iter(lost), iter(()))
    first, second = of_type(events, FeedbackDue)
    assert first.acknowledgement.missing_blocks == (1, 3)
    assert second.acknowledgement.complete
    assert (sender.rounds, sender.blocks_retransmitted) == (2, 2)
    assert sender.channel_uses == FRAMES * (
        BLOCKS + 2
    ) * TransmitterConfig().waveform.frame_symbols(LAYOUT.data_symbols)


def test_after_lost_feedback_one_block_asks_again():
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE)
    assembler = MessageAssembler()
    events = exchange(sender, assembler, iter(()), iter((True,)))
    assert (sender.state, sender.rounds) == (HarqState.DELIVERED, 2)
    assert (sender.unanswered_rounds, sender.blocks_retransmitted) == (1, 1)
    assert len(of_type(events, MessageReceived)) == 1
    assert assembler.repeated_frames == FRAMES


# --- the receiving end ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("lost_from", "due"),
    [
        # Frames lost at the end; heard up to then; the rest and a frame to spare.
        (2 * BLOCKS - 1, 2 * BLOCKS * FRAME + FRAME),
        (2 * BLOCKS - 3, 2 * BLOCKS * FRAME + FRAME),
        (1, 2 * BLOCKS * FRAME + FRAME),
    ],
)
def test_feedback_is_due_behind_a_round_whose_end_is_lost(lost_from, due):
    assembler = MessageAssembler()
    frames = list(round_frames(MESSAGE, 1, all_blocks()))
    events = feed(assembler, frames[:lost_from])
    assert of_type(events, FeedbackDue) == []
    assert of_type(assembler.expire(due - 1), FeedbackDue) == []
    (feedback,) = of_type(assembler.expire(due), FeedbackDue)
    assert feedback.sample == due
    missing = feedback.acknowledgement.missing_blocks
    assert missing == tuple(range(lost_from // FRAMES, BLOCKS))
    assert assembler.expire(due + 10_000) == []


def test_a_complete_message_answers_its_repetition_and_is_not_delivered_again():
    assembler = MessageAssembler()
    events = feed(assembler, round_frames(MESSAGE, 1, all_blocks()))
    for number in (2, 3):
        events += feed(assembler, round_frames(MESSAGE, number, all_blocks(2)), 100_000 * number)
    assert len(of_type(events, MessageReceived)) == 1
    answers = [e.acknowledgement for e in of_type(events, FeedbackDue)]
    assert [(a.round, a.complete) for a in answers] == [(1, True), (2, True), (3, True)]
    assert assembler.repeated_frames == 2 * FRAMES * BLOCKS
    # It is forgotten after a long silence; what comes then is a message of its own.
    assert assembler.expire(10**7) == []
    events = feed(assembler, round_frames(MESSAGE, 4, {1: 0}), 10**7)
    (feedback,) = of_type(events, FeedbackDue)
    assert feedback.acknowledgement.missing_blocks == (0, *range(2, BLOCKS))


def test_a_message_of_which_the_first_round_is_lost():
    assembler = MessageAssembler()
    events = feed(assembler, round_frames(MESSAGE, 2, {0: 0}))
    events += feed(assembler, round_frames(MESSAGE, 3, dict.fromkeys(range(1, BLOCKS), 0)), 50_000)
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.rounds) == (MESSAGE, 3)


def test_a_message_sent_anew_under_the_same_number():
    other = MESSAGE[::-1]
    assembler = MessageAssembler()
    events = feed(assembler, round_frames(MESSAGE, 1, all_blocks()))
    events += feed(assembler, round_frames(other, 1, all_blocks()), 50_000)
    assert [m.data for m in of_type(events, MessageReceived)] == [MESSAGE, other]
    # Of an incomplete one nothing is mixed into the next.
    events = feed(assembler, list(round_frames(MESSAGE, 1, all_blocks()))[:3], 100_000)
    events += feed(assembler, round_frames(other, 1, all_blocks()), 150_000)
    assert [m.data for m in of_type(events, MessageReceived)] == [None, other]
    once = round_frames(MESSAGE, 1, all_blocks(), message_id=2)
    events = feed(assembler, list(once)[:1], 200_000)
    sent_once = Transmitter(TransmitterConfig("qpsk-3/4", 2, 256)).layout(300)
    assert sent_once == LAYOUT
    header = LAYOUT.header(2, 0, 1)
    events += feed(assembler, [(header, np.ones(LAYOUT.frame_bits, np.float32))], 250_000)
    assert [m.rounds for m in of_type(events, MessageReceived)] == [1]


def test_feedback_to_an_earlier_message_of_the_same_number_is_not_taken():
    """The receiver missed the first round of a new message and takes it for the old one."""
    assembler = MessageAssembler()
    feed(assembler, round_frames(MESSAGE, 1, all_blocks()))
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE[::-1])
    events = exchange(sender, assembler, iter([True] * (FRAMES * BLOCKS)), iter(()))
    assert sender.foreign_feedback > 0
    assert sender.state is HarqState.GIVEN_UP
    assert of_type(events, MessageReceived) == []


def test_a_wrong_digest_is_flagged_and_everything_asked_for_again():
    """A block of another message with the right CRC; the next rounds bring the true one."""
    assembler = MessageAssembler()
    good, bad = (list(round_frames(m, 1, all_blocks())) for m in (MESSAGE, MESSAGE[::-1]))
    events = feed(assembler, bad[:FRAMES] + good[FRAMES:])
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.stage_failed) == (None, "digest")
    (feedback,) = of_type(events, FeedbackDue)
    assert feedback.acknowledgement.missing_blocks == tuple(range(BLOCKS))
    events = feed(assembler, round_frames(MESSAGE, 2, all_blocks(2)), 50_000)
    events += feed(assembler, round_frames(MESSAGE, 3, all_blocks(3)), 100_000)
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.rounds) == (MESSAGE, 3)


def test_transmissions_of_different_redundancy_in_one_round_are_kept_apart():
    assembler = MessageAssembler()
    first = list(round_frames(MESSAGE, 1, {0: 0}))[:1]
    second = list(round_frames(MESSAGE, 1, {0: 2}))[1:]
    events = feed(assembler, first + second) + assembler.flush()
    assert [e.transmissions for e in of_type(events, BlockReceived)] == [1, 2]


def test_memory_is_bounded_and_evictions_are_counted():
    """Noise only: every block of every message would wait for another transmission."""
    most = 20_000
    assembler = MessageAssembler(max_soft_bits=most, max_messages=4)
    events, largest = [], 0
    for number in range(12):
        frames = round_frames(MESSAGE, 1, all_blocks(), number, es_n0_db=-20)
        for frame in frames:
            events += feed(assembler, [frame], 1000 * number)
            largest = max(largest, assembler.waiting_soft_bits)
    assert most / 2 < largest <= most
    assert assembler.evicted_blocks > 0
    assert assembler.evicted_messages == 8
    events += assembler.flush()
    assert assembler.waiting_soft_bits == 0
    assert [m.message_id for m in of_type(events, MessageReceived)] == list(range(12))
    assert all(m.stage_failed == "ldpc" for m in of_type(events, MessageReceived))
    # Many complete messages: only the last ones are remembered.
    events = [
        event
        for number in range(8)
        for event in feed(assembler, round_frames(MESSAGE, 1, all_blocks(), number))
    ]
    assert len(of_type(events, MessageReceived)) == 8
    answers = of_type(feed(assembler, round_frames(MESSAGE, 2, {0: 0}, 7)), FeedbackDue)
    assert answers[0].acknowledgement.complete
    answers = of_type(feed(assembler, round_frames(MESSAGE, 2, {0: 0}, 0)), FeedbackDue)
    assert not answers[0].acknowledgement.complete


# --- the sending end --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("order", "expected"), [((0, 2, 3, 1), [0, 2, 3, 1, 0]), ((0,), [0, 0, 0, 0, 0])]
)
def test_the_order_of_redundancy_versions_is_sent(order, expected):
    """Every block goes through 0, 2, 3, 1, and 0 again; with Chase combining through 0 only."""
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE, 0, HarqConfig(5, order))
    sent = []
    while sender.state is HarqState.READY:
        headers = [header for header, _ in sender.next_round(0)]
        sent.append(headers[0].rv)
        assert {header.round for header in headers} == {sender.rounds}
        assert {header.rv for header in headers} == {sent[-1]}
        assert [h.last_block for h in headers] == [0] * FRAMES * (BLOCKS - 1) + [1] * FRAMES
        missing = tuple(range(BLOCKS))
        sender.feedback(Acknowledgement(0, 300, BLOCKS, sender.rounds, missing).to_bytes())
    assert sent == expected
    assert (sender.state, sender.blocks_retransmitted) == (HarqState.GIVEN_UP, 4 * BLOCKS)


def test_the_version_stays_while_there_is_no_answer():
    """Version 2 alone would not decode, and the receiver may have heard nothing."""
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE)
    sent = []
    for number in range(1, 4):
        headers = [header for header, _ in sender.next_round(0)]
        sent.append(sorted({(header.block_index, header.rv) for header in headers}))
        if number == 2:
            sender.feedback(Acknowledgement(0, 300, BLOCKS, 2, (0, 3)).to_bytes())
        else:
            sender.expire(10**9)
    # Block 0 was in the round that was answered, block 3 only in the one that was not.
    assert sent == [[(block, 0) for block in range(BLOCKS)], [(0, 0)], [(0, 2), (3, 0)]]


def test_feedback_that_is_not_for_this_message_is_counted():
    sender = HarqSender(Frames(GOOD_DB, 1), MESSAGE, 5)
    list(sender.next_round(0))
    good = {"message_id": 5, "message_bytes": 300, "block_count": BLOCKS, "round": 1}
    for change in (
        {"message_id": 6},
        {"message_bytes": 301},
        {"block_count": BLOCKS + 1},
        {"round": 2},
        {"missing_blocks": (), "digest_prefix": b"none"},
    ):
        sender.feedback(Acknowledgement(**({"missing_blocks": (1,)} | good | change)).to_bytes())
    sender.feedback(b"anything")
    assert (sender.foreign_feedback, sender.state) == (6, HarqState.WAITING)
    sender.feedback(Acknowledgement(**good, missing_blocks=(1,)).to_bytes())
    assert (sender.state, sender.missing_blocks) == (HarqState.READY, (1,))
    list(sender.next_round(0))
    # Late feedback to the round before does not end the new one.
    sender.feedback(Acknowledgement(**good, missing_blocks=(1, 2)).to_bytes())
    assert sender.state is HarqState.WAITING
    with pytest.raises(ValueError, match="no round can be sent: waiting"):
        sender.next_round(0)
    prefix = message_digest(MESSAGE)[:4]
    sender.feedback(Acknowledgement(**good, missing_blocks=(), digest_prefix=prefix).to_bytes())
    assert sender.state is HarqState.DELIVERED


def test_deadlines_count_from_the_end_of_a_round():
    transmitter = Transmitter(TransmitterConfig("qpsk-3/4", 2, 256))
    sender = HarqSender(transmitter, MESSAGE, 0, HarqConfig(2, timeout_samples=500))
    samples = sum(frame.size for frame in sender.next_round(1_000_000))
    assert samples == sender.channel_uses == transmitter.channel_uses(300)
    sender.expire(1_000_499 + samples)
    assert sender.state is HarqState.WAITING
    sender.expire(1_000_500 + samples)
    assert sender.state is HarqState.READY


@pytest.mark.parametrize(
    "bad",
    [{"max_rounds": 0}, {"max_rounds": 16}, {"rv_order": ()}, {"rv_order": (0, 4)},
     {"timeout_samples": 0}],
)  # fmt: skip
def test_bounds_of_the_sender(bad):
    with pytest.raises(ValueError, match=r"max_rounds|redundancy versions|timeout_samples"):
        HarqConfig(**bad)
    with pytest.raises(ValueError, match="message_id"):
        HarqSender(Transmitter(), MESSAGE, 2**16)


@pytest.mark.parametrize(
    ("number", "rv", "reason"),
    [(0, {0: 0}, "numbered 1"), (16, {0: 0}, "numbered 1"), (1, {}, "some blocks"),
     (1, {99: 0}, "blocks are numbered"), (1, {0: 4}, "rv = 4")],
)  # fmt: skip
def test_bounds_of_a_round(number, rv, reason):
    with pytest.raises(ValueError, match=reason):
        Transmitter().send_round(MESSAGE, 0, number, rv)


# --- with samples -----------------------------------------------------------------------------


def two_rounds():
    """A round at 1 dB, in which QPSK 3/4 is lost, and a second one; feedback as it comes."""
    transmitter = Transmitter(TransmitterConfig("qpsk-3/4", 2, 256))
    parts = [np.zeros(700), *transmitter.send_round(MESSAGE, 9, 1, all_blocks())]
    parts += [np.zeros(3000), *transmitter.send_round(MESSAGE, 9, 2, all_blocks(2)), np.zeros(900)]
    return awgn(1.0, seed=3).process(np.concatenate(parts)).samples


ROUNDS = two_rounds()


def receive(parts):
    receiver = Receiver(ReceiverConfig(timeout_samples=9000))
    return [event for part in parts for event in receiver.process(part)] + receiver.flush()


def test_two_noisy_rounds_make_a_message():
    events = receive([ROUNDS])
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.message_id, message.rounds) == (MESSAGE, 9, 2)
    first, second = (event.acknowledgement for event in of_type(events, FeedbackDue))
    assert first.missing_blocks == tuple(range(BLOCKS))
    assert second.complete
    assert {e.transmissions for e in of_type(events, BlockReceived) if e.data} == {2}


@given(st.lists(st.integers(0, ROUNDS.size), max_size=8))
@settings(max_examples=5, deadline=None)
def test_rounds_do_not_depend_on_chunking(cuts):
    whole = [repr(event) for event in receive([ROUNDS])]
    assert [repr(event) for event in receive(np.split(ROUNDS, sorted(cuts)))] == whole


def test_feedback_crosses_the_air_where_data_does_not():
    """At -5 dB, 1.5 dB above the header's limit."""
    data = Acknowledgement(1, 300, BLOCKS, 1, (2,)).to_bytes()
    answering = Transmitter(TransmitterConfig(FEEDBACK_MCS))
    sent = np.concatenate([*answering.send(data, 1), np.zeros(500)])
    assert sent.size < 3000
    heard = of_type(receive([awgn(-5.0, seed=1).process(sent).samples]), MessageReceived)
    assert [message.data for message in heard] == [data]
