"""SigMF recordings: what is written, what can be read, and that a replay is the live reception."""

import copy
import hashlib
import io
import itertools
import json
import random
import resource
import shutil
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigmf
import sigmf.validate
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs.captures.address import native_format
from flowgraphs.captures.annotations import Journal
from flowgraphs.captures.capture import CaptureReport, capture
from flowgraphs.captures.json_stream import JsonError, members
from flowgraphs.captures.metadata import Metadata, Segment, read_annotations, read_metadata
from flowgraphs.captures.recording import RecordingSource, open_raw, open_recording
from flowgraphs.captures.replay import Verification, compare, receive_config, replay
from flowgraphs.captures.sample_type import CaptureError, SampleType
from flowgraphs.captures.writer import RecordingConfig, RecordingWriter
from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.receive import ReceiveConfig, ReceiveReport
from flowgraphs.stream import ComplexArray, EndpointError, SampleSource
from hw_profiles.profile import SampleFormat, load_profile
from hw_profiles.sample_format import NativeFormat
from phy import Transmitter, TransmitterConfig
from phy.single_carrier import SingleCarrier
from source_codec import Codec

MESSAGES = [b"first message", b"second"]
NOON = datetime(2026, 11, 25, 12, tzinfo=UTC)


def never() -> bool:
    return False


def noise(count: int, n0: float, seed: int) -> ComplexArray:
    """White noise of a power of n0 per sample."""
    parts = np.random.default_rng(seed).standard_normal(2 * count).astype(np.float32)
    return parts.view(np.complex64) * np.float32(np.sqrt(n0 / 2))


def transmission(messages: list[bytes], gap: int = 5000) -> ComplexArray:
    """Messages with silence around them; single carrier, QPSK at rate 1/2."""
    transmitter = Transmitter(TransmitterConfig("qpsk-1/2", waveform=SingleCarrier()))
    silence = np.zeros(gap, np.complex64)
    parts = [silence]
    for number, message in enumerate(messages):
        parts += [*transmitter.send(message, number), transmitter.flush(), silence]
    return np.concatenate(parts)


@pytest.fixture(scope="module")
def received() -> ComplexArray:
    """Two messages at 15 dB, with a carrier offset."""
    sent = transmission(MESSAGES)
    carrier = np.exp(2j * np.pi * 0.01 * np.arange(sent.size))
    return (sent * carrier + noise(sent.size, 2 / 10**1.5, 1)).astype(np.complex64)


class MemorySource(SampleSource):
    """Gives samples in portions, and may have lost some before a portion."""

    def __init__(self, samples: ComplexArray, cuts: list[int], lost: dict[int, int]) -> None:
        super().__init__("memory:")
        self._portions = np.split(samples, sorted(cuts))
        self._lost, self._number = lost, 0

    def read(self, timeout_s: float) -> ComplexArray | None:
        if not self._portions:
            return None
        self.status.samples_missing += self._lost.get(self._number, 0)
        self._number += 1
        portion = self._portions.pop(0)
        self.status.samples += portion.size
        return portion

    def close(self) -> None:
        pass


def record(
    name: Path,
    samples: ComplexArray,
    config: RecordingConfig | None = None,
    cuts: list[int] | None = None,
    lost: dict[int, int] | None = None,
    most: int | None = None,
) -> CaptureReport:
    """A recording with the single-carrier receiver beside, if the configuration has a waveform."""
    config = config or RecordingConfig(
        sample_rate=2e6, waveform="single-carrier", symbol_rate=1e6, frequency_hz=868e6
    )
    receiver = None
    if config.waveform is not None:
        scale = config.sample_type.converter_full_scale
        receiver = ReceiveConfig(config.waveform, 1e6, full_scale=scale)
    writer = RecordingWriter(name, config, lambda: NOON)
    source = MemorySource(samples, cuts or [], lost or {})
    return capture(source, writer, receiver, never, most)


@pytest.fixture(scope="module")
def live(received: ComplexArray, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A recording with annotations."""
    name = tmp_path_factory.mktemp("live") / "x"
    record(name, received)
    return name


def copied(live: Path, folder: Path) -> Path:
    for suffix in (".sigmf-data", ".sigmf-meta"):
        shutil.copy(live.with_name("x" + suffix), folder)
    return folder / "x"


def play(name: Path, codec: Codec, verify: bool = False) -> tuple[list[Any], Verification | None]:
    """Messages that a replay brings, as (number, complete), and what differs."""
    recording = open_recording(name)
    config = receive_config(recording.metadata, None, None)
    # The messages are no pictures, so the codec refuses what arrived whole.
    report, verification = replay(recording, config, codec, str, never, verify=verify)
    return arrived(report), verification


def arrived(report: ReceiveReport) -> list[tuple[int, bool]]:
    return [(image.message_id, image.stage_failed in (None, "source")) for image in report.images]


def samples_in(name: Path, channel: int = 0) -> ComplexArray:
    with RecordingSource(open_recording(name), channel) as source:
        return np.concatenate(list(portions(source)) or [np.empty(0, np.complex64)])


def portions(source: SampleSource) -> Iterator[ComplexArray]:
    while (samples := source.read(0)) is not None:
        yield samples


ALL = [(0, True), (1, True)]


# --- Types of samples ------------------------------------------------------------------------


SIZES = ("f32", "f64", "i32", "u32", "i16", "u16")
NUMBERS = [size + order for size in SIZES for order in ("_le", "_be")]


@pytest.mark.parametrize("number", [*NUMBERS, "i8", "u8"])
@pytest.mark.parametrize("kind", ["c", "r"])
def test_every_datatype_is_read_as_the_library_reads_it(
    kind: str, number: str, tmp_path: Path
) -> None:
    name = kind + number
    dtype = sigmf.sigmffile.dtype_info(name)["component_dtype"]
    codes = np.random.default_rng(5).integers(0, 256, 24 * dtype.itemsize, np.uint8)
    if dtype.kind == "f":
        codes = np.linspace(-2, 2, 24).astype(dtype).view(np.uint8)
    path = tmp_path / "x.sigmf-data"
    path.write_bytes(codes.tobytes())
    foreign = sigmf.SigMFFile(global_info={sigmf.DATATYPE_KEY: name}, data_file=path)
    foreign.add_capture(0)
    expected = foreign.read_samples()
    foreign.tofile(tmp_path / "x")
    other_zero = 0.6 / 128 if name == "cu8" else 0  # theirs is 128, ours 127.4
    np.testing.assert_allclose(
        np.real(samples_in(path)), np.real(expected) + other_zero, rtol=1e-6, atol=1e-7
    )
    np.testing.assert_allclose(
        np.imag(samples_in(path)),
        np.imag(expected) + other_zero * (kind == "c"),
        rtol=1e-6,
        atol=1e-7,
    )


def test_short_names_and_the_middle_of_cu8() -> None:
    assert SampleType.named("cs16") == SampleType.named("ci16_le")
    assert SampleType.named("cf32").name == "cf32_le"
    decoded = SampleType.named("cu8").decode(bytes([127, 0, 255, 128]))
    np.testing.assert_allclose(decoded, [(-0.4 - 127.4j) / 128, (127.6 + 0.6j) / 128], rtol=1e-6)
    pluto = SampleType.of(NativeFormat(SampleFormat.CS16, 2048), amplitude=3)
    np.testing.assert_array_equal(
        pluto.decode(np.array([1024, -2048], "<i2").tobytes()), [1.5 - 3j]
    )
    for wrong in ("cf16_le", "ci8_xe", "zi8", "cf32_le ", "c" * 1000, ""):
        with pytest.raises(CaptureError, match="unknown sample type"):
            SampleType.named(wrong)


def test_channels_take_turns(tmp_path: Path) -> None:
    codes = np.arange(24, dtype="<i2") * 1024
    (tmp_path / "x.sigmf-data").write_bytes(codes.tobytes() + b"\x01\x02\x03")
    meta = {
        "global": {
            "core:datatype": "ci16_le",
            "core:version": "1.0.0",
            "core:num_channels": 3,
        },
        "captures": [],
        "annotations": [],
    }
    (tmp_path / "x.sigmf-meta").write_text(json.dumps(meta))
    k = np.arange(4)
    np.testing.assert_array_equal(
        samples_in(tmp_path / "x", channel=1), (6 * k + 2 + 1j * (6 * k + 3)) / 32
    )
    with RecordingSource(open_recording(tmp_path / "x"), 2) as source:
        list(portions(source))
        assert source.status.bytes_discarded == 3
    with pytest.raises(CaptureError, match="no channel 3, the last is 2"):
        RecordingSource(open_recording(tmp_path / "x"), 3)


# --- Writing ---------------------------------------------------------------------------------


def test_what_is_in_a_recording(tmp_path: Path) -> None:
    config = RecordingConfig(
        native=NativeFormat(SampleFormat.CS8, 128),
        amplitude=2.0,
        sample_rate=1e6,
        frequency_hz=868e6,
        hardware="a radio",
        profile="hackrf-one",
        description="a test",
    )
    samples = np.array([0.5 - 1j, 2, -2j, 3j, np.nan], np.complex64)
    writer = RecordingWriter(tmp_path / "some" / "x.sigmf-meta", config, lambda: NOON)
    heard = writer.write(samples)
    np.testing.assert_array_equal(heard, [0.5 - 1j, 127 / 64, -2j, 127j / 64, 0])
    writer.close()
    data = (tmp_path / "some" / "x.sigmf-data").read_bytes()
    assert list(np.frombuffer(data, np.int8)) == [32, -64, 127, 0, 0, -128, 0, 127, 0, 0]
    meta = json.loads((tmp_path / "some" / "x.sigmf-meta").read_text())
    assert meta == {
        "global": {
            "core:version": "1.2.6",
            "core:datatype": "ci8",
            "core:sample_rate": 1e6,
            "core:hw": "a radio",
            "core:description": "a test",
            "core:recorder": "ddm-sscc 0.1.0",
            "core:num_channels": 1,
            "core:sha512": hashlib.sha512(data).hexdigest(),
            "core:extensions": [{"name": "sscc", "version": "1.0.0", "optional": True}],
            "sscc:zero": 0.0,
            "sscc:full_scale": 128.0,
            "sscc:amplitude": 2.0,
            "sscc:profile": "hackrf-one",
            "sscc:complete": True,
            "sscc:samples": 5,
            "sscc:clipped_samples": 3,
            "sscc:gaps": 0,
            "sscc:samples_missing": 0,
        },
        "captures": [
            {
                "core:sample_start": 0,
                "core:frequency": 868e6,
                "core:datetime": "2026-11-25T12:00:00.000000Z",
            }
        ],
        "annotations": [],
    }
    assert sorted(path.name for path in (tmp_path / "some").iterdir()) == [
        "x.sigmf-data",
        "x.sigmf-meta",
    ]
    with pytest.raises(CaptureError, match="exists; remove it"):
        RecordingWriter(tmp_path / "some" / "x", config)
    (tmp_path / "some" / "x.sigmf-meta").unlink()
    with pytest.raises(CaptureError, match="sigmf-data: exists"):
        RecordingWriter(tmp_path / "some" / "x", config)
    assert (tmp_path / "some" / "x.sigmf-data").read_bytes() == data


NATIVE = [("cu8", None), ("cs8", None), ("cf32", None), (None, "pluto")]  # the last is cs16


@pytest.mark.parametrize(("name", "profile"), NATIVE)
def test_every_native_type_decodes_and_its_replay_is_the_live_reception(
    name: str | None, profile: str | None, received: ComplexArray, tmp_path: Path, codec: Codec
) -> None:
    native = native_format(name, None if profile is None else load_profile(profile))
    config = RecordingConfig(native, 1.2, 2e6, waveform="single-carrier", symbol_rate=1e6)
    report = record(tmp_path / "x", received, config)
    assert report.reception is not None
    assert arrived(report.reception) == ALL
    assert report.annotations == 4
    assert (report.clipped_samples > 0) is (native.sample_format is not SampleFormat.CF32)
    size = (tmp_path / "x.sigmf-data").stat().st_size
    assert size == 2 * native.dtype.itemsize * received.size
    messages, verification = play(tmp_path / "x", codec, verify=True)
    assert messages == ALL
    assert verification == Verification(annotations=4)
    sigmf.validate.main((str(tmp_path / "x.sigmf-meta"),))  # exits if it is not valid
    foreign = sigmf.fromfile(tmp_path / "x.sigmf-data")  # checks the hash
    labels = [annotation["core:label"] for annotation in foreign.get_annotations()]
    assert labels.count("qpsk-1/2 #1") == 1
    assert labels.count("message #1") == 1


def test_a_frame_and_a_message_as_they_are_annotated(live: Path) -> None:
    annotations = json.loads(live.with_name("x.sigmf-meta").read_text())["annotations"]
    message, frame = annotations[2:4]
    assert (message["sscc:kind"], frame["sscc:kind"]) == ("message", "frame")
    assert frame["core:sample_start"] == message["core:sample_start"]
    # The second message begins behind two gaps and the first frame.
    second = 2 * 5000 + transmission(MESSAGES[:1], gap=0).size
    assert frame["core:sample_start"] == pytest.approx(second, abs=30)  # the pulse's head
    digest = hashlib.blake2b(b"second", digest_size=8).hexdigest()
    assert message["sscc:digest"] == frame["sscc:block_digest"] == digest
    assert frame["sscc:mcs"] == message["sscc:mcs"] == "qpsk-1/2"
    assert (frame["sscc:header"]["message_id"], message["sscc:message_id"]) == (1, 1)
    assert frame["sscc:cfo_hz"] == pytest.approx(20_000, abs=20)
    assert frame["sscc:snr_db"] == pytest.approx(15, abs=1)
    assert frame["sscc:detected"]
    assert frame["sscc:header_ok"]
    assert frame["sscc:payload_ok"]
    assert message["sscc:exact"]


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 40_000), max_size=12))
def test_portions_do_not_matter(
    received: ComplexArray, tmp_path_factory: pytest.TempPathFactory, cuts: list[int]
) -> None:
    folder = tmp_path_factory.mktemp("portions")
    config = RecordingConfig(NativeFormat(SampleFormat.CS16, 32768), 3.0)
    record(folder / "whole", received, config)
    record(folder / "parts", received, config, cuts)
    assert_same_files(folder / "whole", folder / "parts")


def test_portions_do_not_matter_to_the_annotations(
    live: Path, received: ComplexArray, tmp_path: Path
) -> None:
    record(tmp_path / "x", received, cuts=[*range(0, 20_000, 777), 20_001, 20_002])
    assert_same_files(live, tmp_path / "x")


def assert_same_files(one: Path, other: Path) -> None:
    for suffix in (".sigmf-data", ".sigmf-meta"):
        first, second = (name.with_name(name.name + suffix) for name in (one, other))
        assert first.read_bytes() == second.read_bytes()


def test_lost_samples_begin_a_segment(received: ComplexArray, tmp_path: Path) -> None:
    report = record(
        tmp_path / "x", received, RecordingConfig(), [1000, 5000], {0: 7, 2: 300}, most=9000
    )
    assert (report.samples, report.gaps, report.samples_missing) == (9000, 2, 307)
    metadata = open_recording(tmp_path / "x").metadata
    assert [(part.sample_start, part.global_index) for part in metadata.segments] == [
        (0, 7),
        (5000, 5307),
    ]
    assert metadata.samples_missing == 300  # those before the first one are not between
    assert "300 samples are missing at 1 places" in open_recording(tmp_path / "x").remarks()[0]
    with RecordingSource(open_recording(tmp_path / "x")) as source:
        first = source.read(0)
        assert first is not None
        assert (first.size, source.status.samples_missing) == (5000, 0)
        np.testing.assert_array_equal(first, received[:5000])
        list(portions(source))
        assert (source.status.gaps, source.status.samples_missing) == (1, 300)
    again = record_again(tmp_path)
    assert [(part.sample_start, part.global_index) for part in again.segments] == [
        (0, 0),
        (5000, 5300),
    ]


def record_again(folder: Path) -> Metadata:
    """A recording of the recording x."""
    writer = RecordingWriter(folder / "y", RecordingConfig())
    with RecordingSource(open_recording(folder / "x")) as source:
        capture(source, writer, None, never)
    return open_recording(folder / "y").metadata


class FullDisk(io.BytesIO):
    """Takes 1001 bytes."""

    def write(self, data: Any, /) -> int:
        left = 1001 - self.tell()
        if left <= 0:
            raise OSError(28, "No space left on device")
        return super().write(bytes(data)[:left])


def test_a_full_disk_ends_a_recording_that_is_complete(
    received: ComplexArray, tmp_path: Path
) -> None:
    writer = RecordingWriter(tmp_path / "x", RecordingConfig())
    writer._data = FullDisk()  # type: ignore[assignment]
    report = capture(MemorySource(received, [5000], {}), writer, None, never)
    assert report.samples == 125
    assert report.failure == f"{tmp_path}/x.sigmf-meta: No space left on device"
    (tmp_path / "x.sigmf-data").write_bytes(received.tobytes()[:1001])
    recording = open_recording(tmp_path / "x")
    assert recording.digest() == recording.metadata.sha512
    np.testing.assert_array_equal(samples_in(tmp_path / "x"), received[:125])


# --- Replaying -------------------------------------------------------------------------------


def test_every_change_of_an_annotation_is_found(live: Path, tmp_path: Path) -> None:
    recording = open_recording(copied(live, tmp_path))
    meta = json.loads((tmp_path / "x.sigmf-meta").read_text())
    noted = meta["annotations"]

    def compared(annotations: list[dict[str, Any]]) -> Verification:
        text = json.dumps(meta | {"annotations": annotations}, indent=3)
        (tmp_path / "x.sigmf-meta").write_text(text)
        with (tmp_path / "journal").open("w+b") as file:
            journal = Journal(file)
            for annotation in noted:
                journal.append(annotation)
            return compare(open_recording(tmp_path / "x"), journal)

    assert compared(noted) == Verification(annotations=4)
    others = [*noted[:3], {"core:sample_start": noted[3]["core:sample_start"]}, *noted[3:]]
    assert compared(others) == Verification(annotations=4)  # another program's do not matter
    start = noted[3]["core:sample_start"]
    for name, value, text in (
        ("sscc:snr_db", np.nextafter(noted[3]["sscc:snr_db"], 99), "was"),
        ("sscc:payload_ok", False, "was False, is True"),
        ("sscc:block_digest", "00" * 8, "was 0000000000000000"),
        ("core:sample_count", 1, "was 1"),
        ("sscc:more", 1, "was 1, is None"),
    ):  # fmt: skip
        result = compared([*noted[:3], noted[3] | {name: value}, *noted[4:]])
        assert (result.annotations, result.differing) == (4, 1)
        assert result.differences[0].startswith(f"frame at sample {start}: {name}; {name} {text}")
    assert compared([*noted[:3], *noted[4:]]).differences == [
        f"frame at sample {start}: only in the replay"
    ]
    assert compared([*noted[:4], noted[3], *noted[4:]]).differences == [
        f"second frame at sample {start}: only in the recording's annotations"
    ]
    late = noted[3] | {"core:sample_start": start + 1}
    assert compared([*noted[:3], late, *noted[4:]]).differing == 2
    assert compared([]).differing == 4
    assert not compared([]).same
    with pytest.raises(CaptureError, match="no first sample"):
        compared([noted[0] | {"core:sample_start": "0"}])
    assert recording.metadata.waveform == "single-carrier"


def test_a_recording_that_was_cut_off(received: ComplexArray, tmp_path: Path, codec: Codec) -> None:
    config = RecordingConfig(sample_rate=2e6, waveform="single-carrier", symbol_rate=1e6)
    writer = RecordingWriter(tmp_path / "x", config)
    half = received[: received.size // 2 + 4000]  # into the second frame

    class Killed(BaseException):
        pass

    class Source(MemorySource):
        def read(self, timeout_s: float) -> ComplexArray | None:
            samples = super().read(timeout_s)
            if samples is None:
                raise Killed
            return samples

    with pytest.raises(Killed):
        capture(Source(half, [9000], {}), writer, ReceiveConfig(), never)
    with (tmp_path / "x.sscc-journal").open("ab") as file:
        file.write(b'[]\n{"sscc:kind":"frame"}\n{"core:sample_st')  # what a crash may leave
    with (tmp_path / "x.sigmf-data").open("ab") as file:
        file.write(b"\0\0\0")
    sigmf.validate.main((str(tmp_path / "x.sigmf-meta"),))
    recording = open_recording(tmp_path / "x")
    assert recording.remarks() == ["the recording was cut off, so there is no hash to check"]
    messages, verification = play(tmp_path / "x", codec, verify=True)
    assert messages[0] == (0, True)
    assert verification is not None
    assert verification.same
    assert verification.annotations >= 1
    assert verification.beyond >= 1
    journal = (tmp_path / "x.sscc-journal").read_bytes()
    (tmp_path / "x.sscc-journal").write_bytes(journal.replace(b'"sscc:exact":true', b'"sscc:e":1'))
    verification = play(tmp_path / "x", codec, verify=True)[1]
    assert verification is not None
    assert not verification.same


def foreign_file(folder: Path, samples: ComplexArray, name: str) -> sigmf.SigMFFile:
    """A recording that the SigMF library makes, without any of our keys."""
    kind = np.dtype({"ci16_be": ">i2", "cu16_le": "<u2", "cf64_le": "<f8"}[name])
    values = samples.view(np.float32) / 4
    if kind.kind != "f":
        values = np.clip(np.rint(values * 32767), -32768, 32767) + 32768 * (kind.kind == "u")
    path = folder / "theirs.sigmf-data"
    path.write_bytes(values.astype(kind).tobytes())
    foreign = sigmf.SigMFFile(
        global_info={sigmf.DATATYPE_KEY: name, sigmf.SAMPLE_RATE_KEY: 2_000_000}, data_file=path
    )
    foreign.add_capture(0)
    foreign.add_annotation(100, 200, {sigmf.LABEL_KEY: "a bird"})
    return foreign


@pytest.mark.parametrize("name", ["ci16_be", "cu16_le", "cf64_le"])
def test_recordings_of_the_library_and_its_archives(
    name: str, received: ComplexArray, tmp_path: Path, codec: Codec
) -> None:
    foreign = foreign_file(tmp_path, received, name)
    foreign.tofile(tmp_path / "theirs")
    foreign.archive(str(tmp_path / "packed.sigmf"))
    archived = open_recording(tmp_path / "packed.sigmf")
    assert archived.metadata.sha512 == archived.digest()
    np.testing.assert_array_equal(
        samples_in(tmp_path / "packed.sigmf"), samples_in(tmp_path / "theirs")
    )
    if name == "ci16_be":
        assert play(tmp_path / "packed.sigmf", codec)[0] == ALL
        with pytest.raises(CaptureError, match="no receiver annotated it"):
            play(tmp_path / "theirs", codec, verify=True)
        foreign.archive(str(tmp_path / "small.sigmf.gz"))
        with pytest.raises(CaptureError, match="unpack it first"):
            open_recording(tmp_path / "small.sigmf.gz")
        torn = (tmp_path / "packed.sigmf").read_bytes()[:60_000]
        (tmp_path / "torn.sigmf").write_bytes(torn)
        with pytest.raises(CaptureError, match=r"cut off|no archive|lacks"):
            open_recording(tmp_path / "torn.sigmf")


def test_headers_trailers_and_several_segments(tmp_path: Path) -> None:
    """The example of SigMF's own specification, with a trailer and an offset."""
    samples = np.random.default_rng(8).integers(0, 256, (1000, 2), np.uint8)
    data = b"HEAD" + samples[:500].tobytes() + b"head" + samples[500:].tobytes() + b"TRAILER"
    (tmp_path / "x.dat").write_bytes(data)
    meta = {
        "global": {
            "core:datatype": "cu8",
            "core:version": "1.2.0",
            "core:dataset": "x.dat",
            "core:offset": 20,
            "core:trailing_bytes": 7,
        },
        "captures": [
            {"core:sample_start": 20, "core:header_bytes": 4},
            {"core:sample_start": 520, "core:header_bytes": 4, "core:global_index": 1520},
        ],
        "annotations": [],
    }
    (tmp_path / "x.sigmf-meta").write_text("\ufeff" + json.dumps(meta))  # some write a mark
    expected = SampleType.named("cu8").decode(samples.tobytes())
    np.testing.assert_array_equal(samples_in(tmp_path / "x"), expected)
    recording = open_recording(tmp_path / "x.sigmf-meta")
    assert recording.samples == 1000
    assert recording.metadata.segments == (Segment(20, 20, 4), Segment(520, 1520, 4))
    assert recording.metadata.samples_missing == 1000
    (tmp_path / "x.dat").write_bytes(data[:600])
    assert "the data end before the last segment" in open_recording(tmp_path / "x").remarks()
    (tmp_path / "x.dat").write_bytes(data[:14])
    with pytest.raises(CaptureError, match="of which 15 are to be skipped"):
        open_recording(tmp_path / "x")


def test_raw_files(received: ComplexArray, tmp_path: Path, codec: Codec) -> None:
    codes = np.rint(received.view(np.float32) * 40 + 127.4).clip(0, 255).astype(np.uint8)
    (tmp_path / "rtl.bin").write_bytes(codes.tobytes() + b"\x07")
    recording = open_raw(tmp_path / "rtl.bin", Metadata(SampleType.named("cu8"), 2e6))
    config = receive_config(recording.metadata, "single-carrier", None)
    report, _ = replay(recording, config, codec, str, never)
    assert arrived(report) == ALL
    assert report.statistics.samples == received.size
    with pytest.raises(CaptureError, match="do not tell the sample rate"):
        receive_config(Metadata(SampleType.named("cu8")), None, None)
    with pytest.raises(CaptureError, match="needs its type and rate"):
        open_recording(tmp_path / "rtl.bin")


# --- Sources and sinks -----------------------------------------------------------------------


def test_recordings_as_ends(received: ComplexArray, tmp_path: Path) -> None:
    uri = f"sigmf:{tmp_path}/x"
    with open_sink(f"{uri}?profile=rtl-sdr-v3&amplitude=4&rate=250e3&frequency=868e6") as sink:
        assert sink.write(received, 0) == received.size
        assert sink.status.samples_clipped == 0
    metadata = open_recording(tmp_path / "x").metadata
    assert (metadata.sample_type.name, metadata.sample_rate) == ("cu8", 250e3)
    assert metadata.segments[0].frequency_hz == 868e6
    with open_source(uri) as source:
        read = np.concatenate(list(portions(source)))
    # Half a code of cu8 is 4 / 256.
    assert np.abs((read - received).view(np.float32)).max() <= 4 / 256 + 1e-6
    data = bytearray((tmp_path / "x.sigmf-data").read_bytes())
    data[1234] ^= 1
    (tmp_path / "x.sigmf-data").write_bytes(data)
    with pytest.raises(EndpointError, match=r"do not have the hash .*check=0 reads them"):
        open_source(uri)
    open_source(f"{uri}?check=0").close()
    for wrong, message in (
        ("sigmf:", "give sigmf:PATH"),
        (f"{uri}?check=yes", "invalid literal"),
        (f"{uri}?smoke=1", "no option 'smoke'; there are check, channel"),
        (f"{uri}?check=0&channel=1", "no channel 1"),
        (f"{tmp_path}/y", "not a source"),
        (f"sigmf:{tmp_path}/y", r"there is no y\.sigmf-meta"),
    ):
        with pytest.raises(EndpointError, match=message):
            open_source(wrong)
    for wrong, message in (
        (uri, "exists"),
        (f"sigmf:{tmp_path}/z?type=cs17", "unknown type 'cs17'; one of cf32, cs16, cs8, cu8"),
        (f"sigmf:{tmp_path}/z?rate=-1", "the sample rate must be positive, not -1"),
        (f"sigmf:{tmp_path}/z?amplitude=nan", "the full scale must be positive"),
        (f"sigmf:{tmp_path}/z?frequency=1e15", "out of range"),
        (f"sigmf:{tmp_path}/z?profile=smoke", "unknown hardware profile"),
    ):
        with pytest.raises(EndpointError, match=message):
            open_sink(wrong)
    assert not (tmp_path / "z.sigmf-meta").exists()


# --- Bounds, and hostile files ---------------------------------------------------------------


class Dribble(io.BytesIO):
    """Gives a few bytes at a time."""

    def read(self, size: int | None = -1, /) -> bytes:
        return super().read(min(size or 0, 5))


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(-1e300, 1e300) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=6,
)  # fmt: skip


@settings(max_examples=25, deadline=None)
@given(st.dictionaries(st.text(), json_values, max_size=4), st.lists(json_values, max_size=5))
def test_json_in_portions_is_the_same(values: dict[str, Any], elements: list[Any]) -> None:
    values.pop("list", None)
    for indent in (None, 2):
        text = json.dumps(values | {"list": elements}, indent=indent, ensure_ascii=False)
        found = list(members(Dribble(text.encode("utf-8", "surrogatepass")), "list"))
        assert [pair for pair in found if pair[0] != "list"] == list(values.items())
        assert [value for name, value in found if name == "list"] == elements


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b"", "'{' is missing"),
        (b"[]", "'{' is missing"),
        (b'{"a":1', "',' is missing"),
        (b'{"a":1 "b":2}', "',' is missing"),
        (b'{"a":1}{', "something follows"),
        (b'{"a":1,"a":2}', "two members 'a'"),
        (b"{1:2}", "no name"),
        (b'{"list":{}}', r"'\[' is missing"),
        (b'{"list":[1 2]}', "',' is missing"),
        (b'{"list":[1,', "Expecting value"),
        (b'{"a":NaN}', "NaN is no number"),
        (b'{"a":"\xff"}', "not UTF-8"),
        (b'{"a":' + b"[" * 500_000, "recursion"),
        (b'{"a":' + b"9" * 10_000 + b"}", "digits"),
        (b'{"a":"' + b"x" * 3_000_000 + b'"}', "too long"),
    ],
)
def test_what_is_no_json(text: bytes, reason: str) -> None:
    with pytest.raises(JsonError, match=reason):
        list(members(io.BytesIO(text), "list"))


def test_annotations_take_little_memory(tmp_path: Path) -> None:
    """8,000 of them, 5 MB of JSON, written, put in order and read."""
    count, filling = 8_000, "x" * 600
    random_order = np.random.default_rng(1).permutation(count).tolist()
    writer = RecordingWriter(tmp_path / "x", RecordingConfig())
    tracemalloc.start()
    for start in random_order:
        writer.annotate({"core:sample_start": start, "sscc:kind": "frame", "sscc:f": filling})
    writer.close()
    recording = open_recording(tmp_path / "x")
    starts = [annotation["core:sample_start"] for annotation in recording.annotations()]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert starts == list(range(count))
    assert (tmp_path / "x.sigmf-meta").stat().st_size > 5e6
    assert peak < 1.5e6


def mutated(meta: dict[str, Any], rng: random.Random) -> bytes:
    """Metadata with a few mistakes, in their structure or in their bytes."""
    meta = json.loads(json.dumps(meta))
    values: list[Any] = [
        *(None, True, -1, 0, 1, 2**31, 2**63 - 1, 2**63, 10**40, -0.5, 1e-320, 1e308),
        *("", "..", "/etc/passwd", "a/b", "x" * 5000, "\0", "ci16_le", "rf64_be", "cu8", "0" * 128),
        *([], {}, [[]] * 50, {"core:sample_start": 0}),
    ]
    own = ("zero", "full_scale", "amplitude", "waveform", "symbol_rate", "complete", "kind")
    keys = [
        *sigmf.keys.VALID_GLOBAL_KEYS,
        *sigmf.keys.VALID_CAPTURE_KEYS,
        *(f"sscc:{name}" for name in own),
        *("smoke", "smoke:x"),
    ]
    for _ in range(rng.randint(1, 3)):
        objects: list[Any] = [meta, meta.get("global")]
        for section in ("captures", "annotations"):
            if isinstance(meta.get(section), list):
                objects += meta[section]
        target = rng.choice([item for item in objects if isinstance(item, dict)])
        match rng.randrange(4):
            case 0 if target:
                del target[rng.choice(list(target))]
            case 1 if target:
                target[rng.choice(list(target))] = copy.deepcopy(rng.choice(values))
            case 2:
                target[rng.choice(keys)] = copy.deepcopy(rng.choice(values))
            case 3 if isinstance(meta.get("captures"), list):
                new = rng.choice([{}, *values, meta["captures"][-1:]])
                meta["captures"].insert(0, copy.deepcopy(new))
    data = bytearray(json.dumps(meta).encode())
    for _ in range(rng.choice([0, 0, 1, 4])):
        place = rng.randrange(len(data))
        match rng.randrange(3):
            case 0:
                data[place] = rng.randrange(256)
            case 1:
                del data[place : place + rng.randint(1, 30)]
            case 2:
                more = rng.choice([b"[", b"{", b'"', b"\\", b"1e999", b"\xf0", b","])
                data[place:place] = more * rng.randint(1, 40)
        if not data:
            break
    return bytes(data)


def peak_memory() -> float:
    """Largest memory of this process so far, in bytes."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def test_a_thousand_mutated_metadata_files(tmp_path: Path) -> None:
    """Only errors of our own, and no more memory than the file's few kilobytes ask for."""
    writer = RecordingWriter(
        tmp_path / "x", RecordingConfig(sample_rate=2e6, frequency_hz=1e9), lambda: NOON
    )
    writer.write(noise(3000, 1, 2))
    writer.skip(100)
    writer.write(noise(1000, 1, 3))
    for start in (0, 50):
        writer.annotate({"core:sample_start": start, "sscc:kind": "frame", "sscc:snr_db": 1.5})
    writer.close()
    meta = json.loads((tmp_path / "x.sigmf-meta").read_text())
    rng = random.Random(17)
    refused: dict[str, int] = {}

    def read() -> None:
        recording = open_recording(tmp_path / "x")
        recording.remarks()
        receive_config(recording.metadata, None, None)
        with RecordingSource(recording) as source:
            total = sum(samples.size for samples in portions(source))
        assert total <= 8 * 4000
        for annotation in itertools.islice(recording.annotations(), 10):
            assert isinstance(annotation["core:sample_start"], int)

    read()  # and load whatever is loaded once
    before = peak_memory()
    for _ in range(1000):
        (tmp_path / "x.sigmf-meta").write_bytes(mutated(meta, rng))
        try:
            read()
        except CaptureError as error:
            reason = str(error).partition(": ")[2][:20]
            refused[reason] = refused.get(reason, 0) + 1
    assert peak_memory() - before < 32e6
    assert 500 < sum(refused.values()) < 1000
    assert len(refused) > 10  # many kinds of mistakes


def test_mutated_archives(tmp_path: Path) -> None:
    foreign_file(tmp_path, noise(500, 1, 1), "ci16_be").archive(str(tmp_path / "x.sigmf"))
    archive = (tmp_path / "x.sigmf").read_bytes()
    rng = random.Random(3)
    refused = 0
    for number in range(300):
        data = bytearray(archive)
        for _ in range(rng.randint(1, 6)):
            data[rng.randrange(4096)] = rng.randrange(256)
        (tmp_path / "x.sigmf").write_bytes(data[: None if number % 5 else rng.randrange(len(data))])
        try:
            with RecordingSource(open_recording(tmp_path / "x.sigmf")) as source:
                assert sum(samples.size for samples in portions(source)) <= 2 * len(data)
        except CaptureError:
            refused += 1
    assert 50 < refused < 300


@pytest.mark.parametrize(
    ("kind", "size", "reason"),
    [
        (tarfile.REGTYPE, 2**62, "cut off"),
        (tarfile.XHDTYPE, 2**40, "enormous header"),
        (tarfile.GNUTYPE_LONGNAME, 2**33, "enormous header"),
        (tarfile.DIRTYPE, 0, "lacks metadata or data"),
    ],
)
def test_archives_that_promise_too_much(
    kind: bytes, size: int, reason: str, tmp_path: Path
) -> None:
    member = tarfile.TarInfo("x.sigmf-data")
    member.type, member.size = kind, size
    (tmp_path / "x.sigmf").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(2048))
    with pytest.raises(CaptureError, match=reason):
        open_recording(tmp_path / "x.sigmf")


def test_metadata_beyond_the_bounds() -> None:
    head = {"core:datatype": "cf32_le", "core:version": "1.2.0"}

    def read(captures: Any = None, **more: Any) -> Metadata:
        meta = {"global": head | more, "captures": captures or [], "annotations": []}
        return read_metadata(io.BytesIO(json.dumps(meta).encode()))

    needed = {"name": "antenna", "version": "1", "optional": False}
    cases: list[tuple[Callable[[], object], str]] = [
        (lambda: read([{"core:sample_start": k} for k in range(4097)]), "more than 4096 capture"),
        (lambda: read([{"core:sample_start": 5}, {"core:sample_start": 4}]), "begins too early"),
        (lambda: read([{"core:sample_start": 5}], **{"core:offset": 6}), "begins too early"),
        (lambda: read(**{"core:dataset": "../secret"}), r"no plain file name|core:dataset"),
        (lambda: read(**{"core:dataset": ".."}), "no plain file name"),
        (lambda: read(**{"core:dataset": "x" * 256}), "no plain file name"),
        (lambda: read(**{"core:metadata_only": True}), "without data"),
        (lambda: read(**{"sscc:amplitude": 0}), "sscc:amplitude is '0'"),
        (lambda: read(**{"sscc:waveform": "smoke"}), "sscc:waveform is 'smoke'"),
        (lambda: read(**{"core:extensions": [needed]}), "needs the extension 'antenna'"),
        (lambda: read_metadata(io.BytesIO(b'{"global":{},"more":1}')), "there is a section 'more'"),
        (lambda: list(read_annotations(io.BytesIO(b'{"annotations":[1'))), "no SigMF metadata"),
    ]  # fmt: skip
    for make, message in cases:
        with pytest.raises(CaptureError, match=message):
            make()
