"""Transmitter, channel and receiver together."""

import doctest

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import phy
from phy.channel import awgn, rayleigh_iid, rayleigh_jakes
from phy.mcs import get_mcs, mcs_names
from phy.message import BlockReceived, MessageLengthError, MessageReceived
from phy.modulation import MODULATIONS
from phy.receiver import FrameReport, Receiver, ReceiverConfig, failed_stage
from phy.transmitter import Transmitter, TransmitterConfig
from phy.waveform import DemodulatorConfig

MESSAGE = np.random.default_rng(50).bytes(50_000)


def send(message, message_id=0, **config):
    return np.concatenate(list(Transmitter(TransmitterConfig(**config)).send(message, message_id)))


def receive(samples, gains=None, **config):
    receiver = Receiver(ReceiverConfig(**config))
    return receiver.process(samples, gains) + receiver.flush(), receiver.statistics


def of_type(events, kind):
    return [event for event in events if isinstance(event, kind)]


@pytest.fixture(scope="module")
def long_transmission():
    return send(MESSAGE, 7)


@pytest.mark.parametrize("seed", range(1, 6))
def test_message_crosses_rayleigh_fading_exactly(long_transmission, seed):
    """50 kB, Jakes 50 Hz, 15 dB, QPSK 1/2: every frame of it estimated from pilots."""
    out = rayleigh_jakes(15, 50, seed=seed).process(long_transmission)
    events, statistics = receive(out.samples)
    (message,) = of_type(events, MessageReceived)
    assert message.data == MESSAGE
    assert message.message_id == 7
    assert message.block_errors == 0
    true_snr_db = 15 + 10 * np.log10(np.mean(np.abs(out.gains) ** 2))
    assert message.snr_db == pytest.approx(true_snr_db, abs=1)
    assert statistics.frames_received == message.frames_received
    assert failed_stage(events) is None


@pytest.mark.parametrize("seed", range(1, 4))
def test_hopeless_channel_names_the_stage_and_gives_no_data(long_transmission, seed):
    events, statistics = receive(rayleigh_jakes(-5, 50, seed=seed).process(long_transmission)[0])
    assert failed_stage(events) in ("detection", "header", "ldpc")
    assert all(message.data is None for message in of_type(events, MessageReceived))
    assert all(block.data is None for block in of_type(events, BlockReceived))
    assert statistics.messages_complete == 0
    for report in of_type(events, FrameReport):
        assert (report.failure is None) == report.header_ok == report.payload_used


def test_each_failed_stage_is_reported(long_transmission):
    assert failed_stage(receive(awgn(0).process(np.zeros(50_000)).samples)[0]) == "detection"
    headerless = long_transmission.copy()
    headerless[278:] = 0  # one lone preamble
    assert failed_stage(receive(awgn(10).process(headerless[:30_000]).samples)[0]) == "header"
    # Frames are found and understood at -5 dB without fading, but QPSK 1/2 needs +0.5 dB.
    assert failed_stage(receive(awgn(-5).process(long_transmission).samples)[0]) == "ldpc"


@pytest.mark.parametrize("name", mcs_names())
def test_every_scheme_on_awgn(name):
    """Near its limit: 3 dB above what Gaussian signalling at the same rate needs at least."""
    message = MESSAGE[:3000]
    needed_db = 10 * np.log10(2 ** get_mcs(name).spectral_efficiency - 1)
    margin_db = {"bpsk": 5.0, "256qam": 4.5}.get(name.split("-")[0], 4.0)
    samples = awgn(needed_db + margin_db, seed=3).process(send(message, mcs=name)).samples
    events, _ = receive(samples)
    assert of_type(events, MessageReceived)[0].data == message


def test_independent_fading_with_perfect_knowledge():
    message = MESSAGE[:4000]
    out = rayleigh_iid(8, seed=2).process(send(message))
    events, _ = receive(out.samples, out.gains, csi="perfect")
    assert of_type(events, MessageReceived)[0].data == message
    report = of_type(events, FrameReport)[0]
    assert report.noise_variance == pytest.approx(10**-0.8, rel=0.1)
    assert report.doppler_hz is None
    with pytest.raises(ValueError, match="gain"):
        Receiver(ReceiverConfig(csi="perfect")).process(out.samples)


@pytest.mark.parametrize("csi", ["wiener", "least_squares"])
def test_named_estimators(csi):
    message = MESSAGE[:4000]
    events, _ = receive(rayleigh_jakes(18, 50, seed=1).process(send(message)).samples, csi=csi)
    assert of_type(events, MessageReceived)[0].data == message
    assert (of_type(events, FrameReport)[0].doppler_hz is None) == (csi == "least_squares")


def test_messages_in_sequence_with_garbage_around():
    rng = np.random.default_rng(8)
    short = {"depth": 4, "max_data_symbols": 1024}
    sent = [rng.bytes(size) for size in (0, 1, 700, 2500)]
    parts = [np.zeros(3000)]
    for ident, (message, mcs) in enumerate(
        zip(sent, ("bpsk-1/3", "qpsk-1/2", "16qam-3/4", "64qam-5/6"), strict=True)
    ):
        parts.append(send(message, ident, mcs=mcs, **short))
        if ident != 1:  # the third message follows the second without a gap
            parts.append(MODULATIONS["qpsk"].map(rng.integers(0, 2, 2 * 5000)))
            parts.append(0.1 * rng.standard_normal(777))
    stream = awgn(25, seed=9).process(np.concatenate(parts)).samples * np.float32(1e-3)
    events, statistics = receive(stream)
    received = of_type(events, MessageReceived)
    assert [(m.message_id, m.data) for m in received] == list(enumerate(sent))
    assert statistics.header_failures == 0


def test_frames_back_to_back_are_all_received():
    message = MESSAGE[:12_000]
    samples = send(message, depth=1, max_data_symbols=512)
    events, statistics = receive(awgn(15, seed=1).process(samples).samples)
    assert statistics.frames_received == statistics.frames_detected > 150
    assert of_type(events, MessageReceived)[0].data == message


def test_a_lost_stretch_costs_only_its_frames(long_transmission):
    damaged = long_transmission.copy()
    damaged[30_000:52_000] = 0  # two or three of the thirteen frames of a block
    events, _ = receive(awgn(12, seed=4).process(damaged).samples)
    (message,) = of_type(events, MessageReceived)
    assert message.data == MESSAGE
    assert message.frames_received < message.frames_expected


def test_cut_by_start_and_end_of_the_stream():
    sent = send(MESSAGE[:900], depth=2, max_data_symbols=4096)  # two frames
    samples = awgn(15, seed=5).process(sent).samples
    frame = samples.size // 2
    events, statistics = receive(samples[100:])
    assert statistics.frames_received == 1
    assert failed_stage(events) in ("detection", "header", "ldpc")
    events, statistics = receive(samples[:-100])
    assert (statistics.frames_received, statistics.frames_cut) == (1, 1)
    assert of_type(events, FrameReport)[-1].failure == "cut by the end of the stream"
    events, statistics = receive(samples[: frame + 500])
    assert statistics.header_failures == 1
    assert np.isnan(of_type(events, FrameReport)[-1].snr_db)


def noisy_stream():
    rng = np.random.default_rng(11)
    parts = [np.zeros(500)]
    for ident, size in enumerate((60, 300, 10)):
        parts += [send(rng.bytes(size), ident, depth=3, max_data_symbols=400), np.zeros(ident * 70)]
    spoiled = np.concatenate(parts)
    spoiled[2500:2900] = 0  # inside a header
    cut = np.concatenate([spoiled, spoiled[:2000]])
    return rayleigh_jakes(6, 200, seed=12).process(cut).samples


NOISY = noisy_stream()
WHOLE = [repr(event) for event in receive(NOISY, timeout_samples=3000)[0]]


@given(st.lists(st.integers(0, NOISY.size), max_size=10))
@settings(max_examples=25, deadline=None)
def test_events_do_not_depend_on_chunking(cuts):
    receiver = Receiver(ReceiverConfig(timeout_samples=3000))
    events = [e for part in np.split(NOISY, sorted(cuts)) for e in receiver.process(part)]
    assert [repr(event) for event in events + receiver.flush()] == WHOLE


@pytest.mark.parametrize("chunk", [37, 1000, 4096])
def test_events_do_not_depend_on_chunk_size(chunk):
    receiver = Receiver(ReceiverConfig(timeout_samples=3000))
    parts = np.split(NOISY, range(chunk, NOISY.size, chunk))
    events = [e for part in parts for e in receiver.process(part)]
    assert [repr(event) for event in events + receiver.flush()] == WHOLE
    assert len(WHOLE) > 8


def test_silence_reports_an_incomplete_message_on_an_endless_stream():
    samples = send(MESSAGE[:2000], depth=2, max_data_symbols=4096)
    receiver = Receiver(ReceiverConfig(timeout_samples=20_000))
    noise = awgn(15, seed=6)
    receiver.process(noise.process(samples[: samples.size // 2]).samples)
    events = receiver.process(noise.process(np.zeros(40_000)).samples)
    (message,) = of_type(events, MessageReceived)
    assert (message.data, message.stage_failed) == (None, "detection")
    assert receiver.samples_held < 10_000, "the buffer stays small"


def test_hostile_samples_are_survived():
    samples = awgn(15, seed=7).process(send(b"robust" * 20)).samples
    bad = np.array([np.nan, np.inf, 1j * np.nan, 1e30, -1e20, 1e14] * 700, dtype=np.complex64)
    receiver = Receiver()
    events = receiver.process(bad) + receiver.process(samples) + receiver.process(bad)
    events += receiver.process(1e-25 * samples) + receiver.process(1e14 * samples)
    events += receiver.process(np.full(9000, 1e-42)) + receiver.flush()
    assert receiver.statistics.invalid_samples == 2 * 5 * 700
    assert any(m.data == b"robust" * 20 for m in of_type(events, MessageReceived))


def test_receiver_starts_anew_after_flush():
    samples = awgn(15, seed=8).process(send(b"again")).samples
    receiver = Receiver()
    first = receiver.process(samples) + receiver.flush()
    second = receiver.process(samples) + receiver.flush()
    assert [repr(event) for event in first] == [repr(event) for event in second]
    assert receiver.statistics.messages_complete == 2


def test_example_of_the_package():
    assert doctest.testmod(phy).failed == 0


def test_transmitter_bounds():
    transmitter = Transmitter(TransmitterConfig(mcs="qpsk-1/2"))
    assert transmitter.channel_uses(50_000) == sum(f.size for f in transmitter.send(MESSAGE))
    with pytest.raises(ValueError, match="message_id"):
        transmitter.send(b"", 2**16)
    with pytest.raises(ValueError, match="MCS"):
        Transmitter(TransmitterConfig(mcs="qam"))
    with pytest.raises(ValueError, match="depth"):
        Transmitter(TransmitterConfig(depth=100))
    with pytest.raises(MessageLengthError, match="choose a higher rate or a greater depth"):
        Transmitter(TransmitterConfig(mcs="bpsk-1/3", depth=1)).send(bytes(2**21))
    with pytest.raises(MessageLengthError, match="at most 268435455 bytes"):
        transmitter.layout(2**28)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"csi": "psychic"}, "csi must be one of wiener, least_squares, perfect, not 'psychic'"),
        ({"demapper": "hard"}, "demapper must be one of exact, maxlog, not 'hard'"),
        ({"symbol_rate_hz": 0.0}, "symbol rate must be positive"),
        ({"symbol_rate_hz": np.nan}, "symbol rate must be positive"),
        ({"doppler_grid_hz": ()}, "no Doppler shift"),
        ({"doppler_grid_hz": (3000, 5000)}, "at most 2500 Hz"),
        ({"doppler_grid_hz": (-1, 5)}, "Doppler"),
    ],
)
def test_receiver_bounds(bad, reason):
    with pytest.raises(ValueError, match=reason):
        Receiver(ReceiverConfig(**bad))


@pytest.mark.parametrize(
    ("symbol_rate", "usable"),
    [
        (1e6, (0, 1e-5, 2.5e-5, 5e-5, 1e-4, 2e-4, 4e-4, 8e-4)),
        (1e5, (0, 1e-4, 2.5e-4, 5e-4, 1e-3, 2e-3)),
        (100, (0,)),
        (1, (0,)),
    ],
)
def test_doppler_shifts_too_fast_for_the_pilots_are_left_out(symbol_rate, usable):
    """At 0.0025 cycles per symbol with a pilot every 32; memory would grow without bound."""
    grid = (0, 10, 25, 50, 100, 200, 400, 800)
    assert DemodulatorConfig(symbol_rate, "wiener", grid, 1e-9).dopplers(32) == pytest.approx(
        usable
    )
    receiver = Receiver(ReceiverConfig(symbol_rate_hz=symbol_rate))
    message = MESSAGE[:300]
    events = receiver.process(awgn(12, seed=1).process(send(message)).samples) + receiver.flush()
    assert of_type(events, MessageReceived)[0].data == message
