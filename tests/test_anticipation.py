"""Frames whose beginning a fade has taken, anticipated from the frame before."""

import numpy as np
import pytest

from phy.anticipation import header_match, is_there, successor
from phy.frame import FrameHeader, header_word
from phy.message import MessageReceived
from phy.ofdm import Ofdm
from phy.receiver import FrameReport, Receiver, ReceiverConfig
from phy.single_carrier import SingleCarrier
from phy.symbol_spaced import SymbolSpaced
from phy.transmitter import Transmitter, TransmitterConfig

WAVEFORMS = {"symbols": SymbolSpaced(), "single-carrier": SingleCarrier(), "ofdm": Ofdm()}
every_waveform = pytest.mark.parametrize("name", WAVEFORMS)
RNG = np.random.default_rng(140)
MESSAGE = RNG.bytes(700)
DEPTH = 4
HEADER = FrameHeader(
    mcs_index=3,
    message_id=77,
    message_bytes=5000,
    block_index=0,
    block_count=2,
    frame_index=0,
    frame_count=3,
    data_symbols=600,
)


def frames(name, message=MESSAGE, message_id=0):
    """The samples of each of a message's four frames; the last with all that is under way."""
    waveform = WAVEFORMS[name]
    config = TransmitterConfig("qpsk-1/3", DEPTH, max_data_symbols=2200, waveform=waveform)
    transmitter = Transmitter(config)
    sent = list(transmitter.send(message, message_id))
    sent[-1] = np.concatenate([sent[-1], transmitter.flush()])
    return sent


N0 = 0.05  # per sample


def faded(frame, name, es_n0_db=-11.0):
    """A frame whose preamble and header section are too weak for detector and decoder."""
    waveform = WAVEFORMS[name]
    symbols = 1150 if name != "ofdm" else 278 + 16 + 10 * 136
    level = np.ones(frame.size, dtype=np.float32)
    M = waveform.samples_per_symbol
    level[: symbols * M] = np.sqrt(10 ** (es_n0_db / 10) * N0 / M)
    return frame * level


def receive(name, samples, chunk=1 << 16):
    rng = np.random.default_rng(141)
    silence = np.zeros(3000)
    stream = np.concatenate([silence, *samples, silence])
    noise = rng.standard_normal(2 * stream.size).view(complex) * np.sqrt(N0 / 2)
    receiver = Receiver(ReceiverConfig(waveform=WAVEFORMS[name]))
    stream = (stream + noise).astype(np.complex64)
    events = []
    for start in range(0, stream.size, chunk):
        events += receiver.process(stream[start : start + chunk])
    return events + receiver.flush(), receiver.statistics


def reports(events):
    return [event for event in events if isinstance(event, FrameReport)]


def data(events):
    return [event.data for event in events if isinstance(event, MessageReceived)]


def test_successors():
    """In the order of transmission: frames of a block, then the next block."""
    order = [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    header = HEADER
    for block, frame in order:
        assert header is not None
        assert (header.block_index, header.frame_index) == (block, frame)
        header = successor(header)
    assert header is None


def test_no_successor_behind_a_block_of_a_retransmission():
    """Only blocks that are missing are sent again: which one follows is not known."""
    again = FrameHeader(**{**HEADER.fields(), "round": 2, "rv": 3})
    assert successor(again).frame_index == 1
    assert successor(FrameHeader(**{**again.fields(), "frame_index": 2})) is None


def test_match_counts_standard_deviations():
    """Of 1600 equal LLRs: 40 if all agree, -40 if none does; of noise about standard normal."""
    signs = 1.0 - 2.0 * header_word(HEADER)
    assert header_match((3 * signs).astype(np.float32), HEADER)[0] == pytest.approx(40)
    assert header_match((-0.1 * signs).astype(np.float32), HEADER)[0] == pytest.approx(-40)
    rng = np.random.default_rng(142)
    chance = [
        header_match(rng.standard_normal(1600).astype(np.float32), HEADER)[0] for _ in range(400)
    ]
    # Standard errors 0.05 and 0.035: four of them.
    assert np.mean(chance) == pytest.approx(0, abs=0.2)
    assert np.std(chance) == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("es_n0_db", [-11.0, -8.0, 20.0])
def test_only_the_header_that_is_there_is_taken(es_n0_db):
    """Against each of 34 that differ in one field, all at the same SNR."""
    rng = np.random.default_rng(143)
    snr = 10 ** (es_n0_db / 10)

    def llr(header):
        """Of QPSK over AWGN: normal, with mean 2 Es/N0 and twice that as variance."""
        signs = 1.0 - 2.0 * header_word(header)
        noise = np.sqrt(4 * snr) * rng.standard_normal(signs.size)
        return (2 * snr * signs + noise).astype(np.float32)

    assert sum(is_there(llr(HEADER), HEADER) for _ in range(100)) >= 99
    variants = [
        {"frame_index": 1},
        {"block_index": 1},
        *({"message_id": 77 ^ (1 << bit)} for bit in range(16)),
        *({"message_bytes": 5000 ^ (1 << bit)} for bit in range(12)),
        {"round": 1},
        {"round": 1, "rv": 2},
    ]
    for changes in variants:
        other = FrameHeader(**{**HEADER.fields(), **changes})
        assert not any(is_there(llr(other), HEADER) for _ in range(20))


@every_waveform
def test_a_frame_without_beginning_is_used(name):
    """The block has no redundancy to spare: without the frame it would be lost."""
    sent = frames(name)
    assert len(sent) == DEPTH
    sent[2] = faded(sent[2], name)
    events, statistics = receive(name, sent)
    assert data(events) == [MESSAGE]
    assert statistics.headers_anticipated == 1
    assert statistics.header_failures == 0
    assert statistics.frames_received == statistics.frames_detected == DEPTH
    assert [report.header.frame_index for report in reports(events)] == [0, 1, 2, 3]
    assert [report.anticipated for report in reports(events)] == [False, False, True, False]
    assert reports(events)[2].to_json()["anticipated"] is True


@every_waveform
def test_frames_behind_one_that_is_not_there(name):
    """One frame is silence; the next, faded at its beginning, is still where it should be."""
    sent = frames(name)
    sent[1] = 0 * sent[1]
    sent[2] = faded(sent[2], name)
    events, _ = receive(name, sent)
    assert [report.header.frame_index for report in reports(events)] == [0, 2, 3]


@every_waveform
def test_nothing_is_seen_where_a_sender_stops(name):
    """A sender cut off behind its first frame, by noise, and by a frame of another message."""
    events, statistics = receive(name, frames(name)[:1])
    assert [report.header.frame_index for report in reports(events)] == [0]
    assert statistics.frames_detected == 1
    other = frames(name, RNG.bytes(700), message_id=5)
    other[0] = faded(other[0], name)
    events, statistics = receive(name, [frames(name)[0], *other])
    assert statistics.headers_anticipated == 0
    assert [report.header.message_id for report in reports(events) if report.header] == [0, 5, 5, 5]


@every_waveform
def test_chunks_make_no_difference(name):
    sent = frames(name)
    sent[1], sent[2] = faded(sent[1], name), 0 * sent[2]
    whole, _ = receive(name, sent)
    parts, _ = receive(name, sent, chunk=777)
    assert [repr(event) for event in whole] == [repr(event) for event in parts]
    assert sum(report.anticipated for report in reports(whole)) == 1
