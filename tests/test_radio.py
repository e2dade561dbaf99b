"""``sscc tx``, ``rx`` and ``channel``, and the flows behind them: image in, exact image out."""

import inspect
import json
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flowgraphs.emulate import EmulatorConfig, emulate
from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.frame_log import FrameLog
from flowgraphs.impairments import LinkImpairments
from flowgraphs.path import CHANNELS
from flowgraphs.receive import ReceiveConfig, ReceiveReport, receive
from flowgraphs.stream import ComplexArray, SampleSink, SampleSource, samples_of
from flowgraphs.transmit import TransmitConfig, transmit
from phy import (
    BlockReceived,
    MessageReceived,
    Receiver,
    ReceiverConfig,
    Transmitter,
    TransmitterConfig,
)
from phy.single_carrier import SingleCarrier
from source_codec import Codec
from source_codec.picture import Picture
from sscc.cli import link, run
from sscc.images import write_png
from sscc.radio_cli import channel

Pixels = NDArray[np.uint8]


def never() -> bool:
    return False


class MemorySink(SampleSink):
    """Keeps what it takes; may have enough."""

    def __init__(self, most: int = 2**62) -> None:
        super().__init__("memory:", timeout_s=0.0)
        self.parts: list[ComplexArray] = []
        self.most = most

    @property
    def samples(self) -> ComplexArray:
        return np.concatenate(self.parts)

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        taken = min(samples.size, self.most)
        self.most -= taken
        self.status.samples += taken
        self.parts.append(samples[:taken].copy())
        return taken

    def close(self) -> None:
        pass


class MemorySource(SampleSource):
    """Gives samples in portions."""

    def __init__(self, samples: ComplexArray, portion: int = 30_000) -> None:
        super().__init__("memory:")
        self._portions = [samples[k : k + portion] for k in range(0, samples.size, portion)]

    def read(self, timeout_s: float) -> ComplexArray | None:
        return self._portions.pop(0) if self._portions else None

    def close(self) -> None:
        pass


@pytest.fixture(scope="module")
def images() -> list[Pixels]:
    rng = np.random.default_rng(3)
    ramp = np.add.outer(np.arange(12), np.arange(16))[..., None] * np.array([4, 6, 8])
    return [(ramp + rng.integers(0, 9, ramp.shape)).astype(np.uint8) for _ in range(3)]


@pytest.fixture(scope="module")
def streams(codec: Codec, images: list[Pixels]) -> list[bytes]:
    return codec.encode_many(images)


class Saved:
    """Takes the place of a folder."""

    def __init__(self) -> None:
        self.images: list[Pixels] = []

    def __call__(self, picture: Picture) -> str:
        self.images.append(picture.pixels)
        return f"{len(self.images) - 1}.png"

    def assert_equal(self, images: list[Pixels]) -> None:
        assert len(self.images) == len(images)
        for image, original in zip(self.images, images, strict=True):
            np.testing.assert_array_equal(image, original)


def test_images_through_the_flows(codec: Codec, streams: list[bytes], images: list[Pixels]) -> None:
    sink = MemorySink()
    config = TransmitConfig(mcs="qpsk-1/2", gap_s=0.003)
    sent = transmit(streams, sink, config, never)
    assert (sent.complete, sent.messages, sent.failure) == (True, 3, None)
    assert sent.samples == sink.samples.size
    assert not sink.samples[:6000].any()  # 3 ms at 2 Msample/s
    passed = MemorySink()
    faults = LinkImpairments(cfo_hz=2000, clock_ppm=10)
    block = EmulatorConfig("rayleigh", es_n0_db=20, seed=2, impairments=faults).block()
    report = emulate(MemorySource(sink.samples), passed, block, never)
    assert report.complete
    assert report.samples_in == sink.samples.size
    saved = Saved()
    received = receive(MemorySource(passed.samples), ReceiveConfig(), codec, saved, never)
    saved.assert_equal(images)
    assert received.exact
    assert [image.message_id for image in received.images] == [0, 1, 2]
    assert [image.name for image in received.images] == [f"{k}.png" for k in range(3)]
    frames = received.to_json()["frames"]
    assert isinstance(frames, list)
    assert len(frames) == sent.frames
    for frame in frames:
        assert frame["detected"]
        assert frame["header_ok"]
        assert frame["payload_ok"]
        assert frame["cfo_hz"] == pytest.approx(2000, abs=100)
        assert frame["failure"] is None


def test_the_count_ends_a_reception(
    codec: Codec, streams: list[bytes], images: list[Pixels]
) -> None:
    sink = MemorySink()
    transmit(streams, sink, TransmitConfig(repeat=2), never)
    saved = Saved()
    source = MemorySource(sink.samples, 5000)
    report = receive(source, ReceiveConfig(count=4), codec, saved, never)
    assert report.exact
    saved.assert_equal([*images, images[0]])
    assert source.read(0) is not None


def test_a_lost_image_is_reported(codec: Codec, streams: list[bytes], images: list[Pixels]) -> None:
    sink = MemorySink()
    transmit(streams, sink, TransmitConfig(), never)
    samples = sink.samples
    middle = samples.size // 2
    samples[middle - 4000 : middle + 4000] = 0  # the second image's only frame
    saved = Saved()
    report = receive(MemorySource(samples), ReceiveConfig(), codec, saved, never)
    saved.assert_equal([images[0], images[2]])
    assert not report.exact
    assert [(image.message_id, image.stage_failed) for image in report.images] == [
        (0, None),
        (1, "detection"),
        (2, None),
    ]


def test_a_message_that_ends_late_was_heard(codec: Codec) -> None:
    """The second one lacks a frame and waits for it, while the third one is received."""
    sink = MemorySink()
    config = TransmitConfig(mcs="qpsk-3/4", gap_s=0.003)
    transmit([bytes([k]) * 2000 for k in range(3)], sink, config, never)
    samples = sink.samples
    middle = samples.size // 2
    samples[middle - 1000 : middle + 4000] = 0  # the second frame of the second message
    report = receive(MemorySource(samples), ReceiveConfig(), codec, Saved(), never)
    assert [(image.message_id, image.stage_failed, image.blocks) for image in report.images] == [
        (0, "source", 1),  # whole, but no picture
        (2, "source", 1),
        (1, "detection", 1),
    ]


def test_messages_that_end_out_of_turn_are_not_lost(
    codec: Codec, streams: list[bytes], images: list[Pixels]
) -> None:
    """The second message lacks a frame, so that the receiver waits for more of it."""
    sink = MemorySink()
    sent = transmit(streams, sink, TransmitConfig(mcs="bpsk-1/5"), never)
    assert sent.frames == 6
    samples = sink.samples
    samples[75_100:78_000] = 0  # preamble and header of the first of its two frames
    saved = Saved()
    report = receive(MemorySource(samples), ReceiveConfig(), codec, saved, never)
    numbers = [image.message_id for image in report.images]
    assert sorted(numbers) == [0, 1, 2]  # that is in the order 0, 2, 1
    assert report.exact
    saved.assert_equal([images[number] for number in numbers])


def test_bits_that_the_codec_refuses_are_no_image(codec: Codec) -> None:
    sink = MemorySink()
    transmit([b"not a .ddm stream"], sink, TransmitConfig(), never)
    report = receive(MemorySource(sink.samples), ReceiveConfig(), codec, Saved(), never)
    assert [(image.name, image.stage_failed) for image in report.images] == [(None, "source")]
    assert not report.exact


def test_nothing_received_is_not_exact(codec: Codec) -> None:
    silence = np.zeros(10_000, np.complex64)
    report = receive(MemorySource(silence), ReceiveConfig(), codec, Saved(), never)
    assert not report.images
    assert not report.exact


def test_a_stop_ends_a_transmission_behind_a_frame(streams: list[bytes]) -> None:
    sink = MemorySink()
    stopped = False

    def observe(report: Any) -> None:
        nonlocal stopped
        stopped = report.frames == 2

    config = TransmitConfig(mcs="bpsk-1/5", repeat=0)
    report = transmit([b"x" * 4000], sink, config, lambda: stopped, observe)
    assert (report.frames, report.messages, report.complete) == (2, 0, False)
    receiver = Receiver(ReceiverConfig(waveform=SingleCarrier()))
    receiver.process(sink.samples)
    receiver.flush()
    assert receiver.statistics.frames_received == 2  # both whole
    assert transmit([b"x"], sink, config, lambda: True).complete is False


def test_a_sink_that_takes_no_more_is_reported(streams: list[bytes]) -> None:
    report = transmit(streams, MemorySink(9000), TransmitConfig(), never)
    assert report.samples == 9000
    assert not report.complete
    assert report.failure == "memory:: took no samples for 0 s"
    passing = emulate(
        MemorySource(np.zeros(20_000, np.complex64)),
        MemorySink(10),
        EmulatorConfig().block(),
        never,
    )
    assert (passing.samples_out, passing.complete) == (10, False)
    assert passing.failure is not None


def test_the_log_forgets_old_frames() -> None:
    transmitter = Transmitter(TransmitterConfig("bpsk-1/2", max_data_symbols=500))
    receiver, log = Receiver(), FrameLog(5)
    events = receiver.process(np.concatenate([*transmitter.send(bytes(300))]))
    events += receiver.flush()
    passed_on = [frame for event in events for frame in log.add(event)] + log.flush()
    frames = receiver.statistics.frames_received
    assert len(passed_on) == frames
    assert list(log.entries) == passed_on[-5:]
    assert log.omitted == frames - 5
    header = log.entries[-1].report.header
    assert header is not None
    assert header.frame_index == frames - 1
    assert all(entry.report.payload_ok for entry in log.entries)
    assert any(isinstance(event, BlockReceived | MessageReceived) for event in events)


@pytest.mark.parametrize("channel", CHANNELS)
def test_every_channel_has_its_noise_and_power(channel: str) -> None:
    config = EmulatorConfig(channel, es_n0_db=10, doppler_hz=20_000, block_length=50, seed=4)
    block = config.block()
    sent = np.exp(0.3j * np.arange(200_000)).astype(np.complex64)
    received = np.concatenate([block.process(sent), block.flush()])
    assert 0 <= received.size - sent.size < 10  # echoes of the last sample
    # Unit mean power of the signal, and N0 = 2 samples a symbol / 10. The fading's power over the
    # run has a standard deviation of at most 2 %.
    assert np.mean(np.abs(received) ** 2) == pytest.approx(1.2, abs=0.08)
    again = config.block()
    parts = [again.process(part) for part in np.array_split(sent, 7)] + [again.flush()]
    np.testing.assert_array_equal(np.concatenate(parts), received)


@pytest.mark.parametrize(
    "make",
    [
        lambda: EmulatorConfig("smoke"),
        lambda: EmulatorConfig(waveform="smoke"),
        lambda: EmulatorConfig(symbol_rate=0),
        lambda: EmulatorConfig(es_n0_db=float("nan")),
        lambda: EmulatorConfig(impairments=LinkImpairments(clock_ppm=1e6)),
        lambda: TransmitConfig(mcs="smoke"),
        lambda: TransmitConfig(waveform="smoke"),
        lambda: TransmitConfig(gap_s=-1),
        lambda: TransmitConfig(repeat=-1),
        lambda: TransmitConfig(symbol_rate=0),
        lambda: ReceiveConfig(waveform="smoke"),
        lambda: ReceiveConfig(symbol_rate=0),
    ],
)
def test_impossible_parameters_are_refused(make: Callable[[], object]) -> None:
    with pytest.raises(ValueError, match=r"smoke|must be|lasts|cannot|ppm"):
        make()


class Chain:
    """Transmitter and channel in threads, REQ/REP between all of them."""

    def __init__(self, messages: list[bytes], config: TransmitConfig) -> None:
        self.stop = threading.Event()
        self.sink = open_sink("zmq+rep://127.0.0.1:0?tags=1")
        self._middle = open_source(self.sink.address.replace("rep", "req") + "?tags=1")
        self.output = open_sink("zmq+rep://127.0.0.1:0?tags=1")
        block = EmulatorConfig("rayleigh", es_n0_db=15, seed=8).block()
        flows = (
            lambda: transmit(messages, self.sink, config, self.stop.is_set),
            lambda: emulate(self._middle, self.output, block, self.stop.is_set),
        )
        self._threads = [threading.Thread(target=flow) for flow in flows]
        for thread in self._threads:
            thread.start()

    def receive(self, config: ReceiveConfig, codec: Codec, saved: Saved) -> ReceiveReport:
        with open_source(self.output.address.replace("rep", "req") + "?tags=1") as source:
            source.timeout_s = 20
            return receive(source, config, codec, saved, never)

    def close(self) -> None:
        self.stop.set()
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()
        for end in (self.sink, self._middle, self.output):
            end.close()


@pytest.fixture
def chain(streams: list[bytes]) -> Iterator[Chain]:
    running = Chain(streams, TransmitConfig(mcs="qpsk-1/3"))
    yield running
    running.close()


def test_a_receiver_that_is_replaced_half_way(
    chain: Chain, codec: Codec, images: list[Pixels]
) -> None:
    """The new one misses at most the image on its way; all others are exact, over REQ/REP."""
    saved = Saved()
    first = chain.receive(ReceiveConfig(count=1), codec, saved)
    assert first.exact
    second = chain.receive(ReceiveConfig(), codec, saved)
    exact = [image for image in second.images if image.exact]
    assert [image.message_id for image in exact] in ([1, 2], [2])
    saved.assert_equal([images[0], *(images[image.message_id] for image in exact)])


def outcome(capsys: pytest.CaptureFixture[str], *arguments: object) -> tuple[int, Any, str]:
    """Exit status, JSON and stderr of a command."""
    status = run([*map(str, arguments), "--json"])
    captured = capsys.readouterr()
    return status, json.loads(captured.out) if captured.out else None, captured.err


def test_the_commands_over_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], images: list[Pixels], streams: list[bytes]
) -> None:
    write_png(tmp_path / "a.png", images[0])
    (tmp_path / "b.ddm").write_bytes(streams[1])
    sent, passed = f"file:{tmp_path}/sent.cf32", f"file:{tmp_path}/passed.cf32"
    status, report, err = outcome(
        capsys, "tx", tmp_path / "a.png", tmp_path / "b.ddm", "--to", sent, "--waveform", "ofdm"
    )
    assert status == 0
    assert err == f"sending to {sent}\n"
    assert (tmp_path / "sent.cf32").stat().st_size == 8 * report["samples"]
    assert report["frames"] == 2
    status, report, _ = outcome(
        capsys, "channel", "--from", sent, "--to", passed, "-c", "tdl-a", "-s", "20",
        "--waveform", "ofdm", "--realtime",
    )  # fmt: skip
    assert status == 0
    assert (
        report["samples_out"]
        >= report["samples_in"]
        == (tmp_path / "sent.cf32").stat().st_size // 8
    )
    (tmp_path / "image-00000.png").write_bytes(b"not to be overwritten")
    status, report, err = outcome(
        capsys, "rx", "--from", passed, "-o", tmp_path, "--waveform", "ofdm"
    )
    assert status == 0
    assert [(image["name"], image["exact"]) for image in report["images"]] == [
        ("image-00001.png", True),
        ("image-00002.png", True),
    ]
    assert [(f["detected"], f["header_ok"], f["payload_ok"]) for f in report["frames"]] == [
        (True, True, True)
    ] * 2
    assert "image-00002.png  exact  (message 1, qpsk-1/2" in err
    for index in (0, 1):
        received = np.array(Image.open(tmp_path / f"image-0000{index + 1}.png"))
        np.testing.assert_array_equal(received, images[index])
    assert (tmp_path / "image-00000.png").read_bytes() == b"not to be overwritten"


def test_the_channel_takes_all_that_the_link_does(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    of_link, of_channel = (
        set(inspect.signature(command).parameters) for command in (link, channel)
    )
    not_of_a_path = {"image", "mcs", "csi", "depth", "harq", "output", "model", "threads"}
    assert of_link - not_of_a_path - of_channel == {"channel", "symbol_rate"}  # by other names
    sent = np.array([0.5, 0.4, 1.4j, -9.0] * 500, np.complex64)
    sent.tofile(tmp_path / "sent")
    ends = ("channel", "--from", f"file:{tmp_path}/sent", "--to", f"file:{tmp_path}/got")
    status, report, _ = outcome(capsys, *ends, "--snr", "200", "--adc-bits", 3)
    assert (status, report["clipped_samples"]) == (0, 500)
    # Full scale is 15 dB over sqrt(1/2), 3.9764; 3 bits are steps of a quarter of it.
    received = np.fromfile(tmp_path / "got", np.complex64)
    assert received[:4] == pytest.approx([0.9941, 0, 0.9941j, -3.9764], abs=1e-4)
    np.ones(5000, np.complex64).tofile(tmp_path / "sent")
    status, _, _ = outcome(
        capsys, *ends, "--snr", "200", "--profile", "pluto", "--frequency", "1e9",
        "--phase-noise", "-120@1e4", "--level", "-10", "--iq-imbalance", "0.1,1", "--dc", "-50",
        "--carrier-drift", "10", "--agc", "100us,1ms", "--amplifier-backoff", "20",
        "--delay-spread", "50ns",
    )  # fmt: skip
    assert status == 0
    received = np.fromfile(tmp_path / "got", np.complex64)
    turn = np.angle((received[1001:4000] * np.conj(received[1000:3999])).sum())
    assert 100 < abs(turn) * 2e6 / (2 * np.pi) < 50e3  # two oscillators of 25 ppm at 1 GHz


def test_reports_for_people_and_exit_statuses(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], streams: list[bytes]
) -> None:
    (tmp_path / "a.ddm").write_bytes(streams[0])
    (tmp_path / "torn.cf32").write_bytes(bytes(80_001))
    assert run(["rx", "--from", f"file:{tmp_path}/torn.cf32", "-o", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert captured.out == "0 images  0 frames  10,000 samples\n"
    assert "1 bytes discarded" in captured.err
    command = ["tx", f"{tmp_path}/a.ddm", "--to", "zmq+push://127.0.0.1:0?linger=0"]
    assert run([*command, "--timeout", "0.05"]) == 1
    assert "took no samples for 0.05 s" in capsys.readouterr().err
    for arguments in (
        ["rx", "--from", "zmq+pull://127.0.0.1"],
        ["rx", "--from", "file:/does/not/exist"],
        ["rx", "--from", f"file:{tmp_path}/torn.cf32", "--waveform", "smoke"],
        ["tx", f"{tmp_path}/torn.cf32", "--to", f"file:{tmp_path}/x"],
        ["tx", f"{tmp_path}/a.ddm", "--to", "file:"],
        ["tx", f"{tmp_path}/a.ddm", "--to", "file:x", "--mcs", "smoke"],
        ["channel", "--from", "file:x", "--to", "file:y", "-c", "smoke"],
    ):
        assert run(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.splitlines()[-1].startswith("sscc: ")
        assert "Traceback" not in captured.err


@pytest.mark.parametrize("count", [1, 2], ids=["with-all", "half-way"])
def test_a_receiver_that_leaves_early(
    count: int,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    streams: list[bytes],
) -> None:
    """REQ/REP without tags: nobody asks for the silence that is left, and the transmitter says so.

    Frames that nobody asks for are another matter.
    """
    files = [tmp_path / f"{index}.ddm" for index in range(count)]
    for file, stream in zip(files, streams, strict=False):
        file.write_bytes(stream)

    def listen() -> None:
        demodulator = ReceiveConfig().make_receiver()
        with open_source(f"zmq+req://{tmp_path}/iq?timeout=30") as source:
            for samples in samples_of(source, never):
                events = demodulator.process(samples)
                if any(isinstance(event, MessageReceived) for event in events):
                    break

    receiver = threading.Thread(target=listen)
    receiver.start()
    status, report, err = outcome(
        capsys, "tx", *files, "--to", f"zmq+rep://{tmp_path}/iq", "--gap", 0.2, "--timeout", 2
    )
    receiver.join(30)
    assert not receiver.is_alive()
    assert report["messages"] == 1
    assert 0 < report["silence_left"] < 400_000
    assert "samples of silence were not taken, as all receivers had left" in err
    if count == 1:
        assert (status, report["complete"], report["failure"]) == (0, True, None)
    else:
        assert (status, report["complete"]) == (1, False)
        assert report["failure"].endswith("took no samples for 2 s")


def test_three_processes(tmp_path: Path, images: list[Pixels], streams: list[bytes]) -> None:
    """tx, channel and rx over Unix sockets, PUSH/PULL with tags, whose end mark ends all three."""
    for index, stream in enumerate(streams):
        (tmp_path / f"{index}.ddm").write_bytes(stream)

    def start(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "sscc", *map(str, arguments), "--json"]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    a, b = f"//{tmp_path}/a?tags=1", f"//{tmp_path}/b?tags=1"
    processes = [
        start("tx", *sorted(tmp_path.glob("*.ddm")), "--to", f"zmq+push:{a}"),
        start("channel", "--from", f"zmq+pull:{a}", "--to", f"zmq+push:{b}", "-c", "rayleigh"),
        start("rx", "--from", f"zmq+pull:{b}", "-o", tmp_path / "out"),
    ]
    results = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0], results
    sent, passed, received = (json.loads(out.splitlines()[-1]) for out, _ in results)
    assert sent["samples"] + 4096 == passed["samples_in"] == passed["samples_out"]
    assert received["receiver"]["samples"] == passed["samples_out"] + 4096
    assert [image["exact"] for image in received["images"]] == [True, True, True]
    for image, original in zip(received["images"], images, strict=True):
        pixels = np.array(Image.open(tmp_path / "out" / image["name"]))
        np.testing.assert_array_equal(pixels, original)
