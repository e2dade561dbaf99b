"""The flowgraphs of ``flowgraphs/gnuradio``, compiled by ``grcc`` and run by real GNU Radio.

GNU Radio lives in the system's Python; the programs are processes of their own. Unix sockets and
ports that the system chose: two runs side by side do not meet.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.link import SOURCE_STAGE
from flowgraphs.receive import ReceiveConfig, ReceiveReport, receive
from flowgraphs.stream import SampleSource, samples_of
from flowgraphs.transmit import TransmitConfig, TransmitReport, transmit
from source_codec import Codec
from source_codec.picture import Picture
from sscc.images import write_png

FOLDER = Path(__file__).parents[1] / "flowgraphs" / "gnuradio"
PYTHON = "/usr/bin/python3"
PARTNERS = {"push": "pull", "pub": "sub", "rep": "req"}
LOOPBACKS = {"push": "loopback_push_pull", "pub": "loopback_pub_sub", "rep": "loopback_req_rep"}
PROGRAMS = {
    *(name + tags for name in LOOPBACKS.values() for tags in ("", "_tags")),
    "record_sigmf", "replay_sigmf",
    "soapy_receive", "soapy_transmit", "uhd_receive", "uhd_transmit",
}  # fmt: skip

Start = Callable[..., "subprocess.Popen[str]"]


def never() -> bool:
    return False


def environment(home: Path) -> dict[str, str]:
    """Nothing of this project's environment, and no user's settings."""
    return {"PATH": "/usr/bin:/bin", "HOME": str(home)}


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the compiled flowgraphs."""
    if shutil.which("grcc", path="/usr/bin:/bin") is None:
        reason = (
            "GNU Radio is missing (Debian: apt-get install --no-install-recommends gnuradio); "
            "its flowgraphs were not tried"
        )
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    folder = tmp_path_factory.mktemp("gnuradio")
    result = subprocess.run(
        ["grcc", "-o", str(folder), *map(str, sorted(FOLDER.glob("*.grc")))],
        env=environment(folder),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    assert "Traceback" not in result.stderr
    return folder


@pytest.fixture
def start(programs: Path) -> Iterator[Start]:
    """``start(name, option=value, ...)`` runs a program; all are ended with the test."""
    running: list[subprocess.Popen[str]] = []

    def run(name: str, **options: object) -> subprocess.Popen[str]:
        command = [PYTHON, f"{programs}/{name}.py"]
        for key, value in options.items():
            command += [f"--{key.replace('_', '-')}={value}"]
        process = subprocess.Popen(
            command,
            env=environment(programs),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        running.append(process)
        return process

    yield run
    for process in running:
        process.kill()
        process.communicate(timeout=30)


def stopped(process: subprocess.Popen[str]) -> str:
    """Asks a program to end; what it printed."""
    process.terminate()
    output, _ = process.communicate(timeout=30)
    assert process.returncode == 0, output
    assert "error" not in output.lower(), output
    return output


def socket_of(address: str) -> str:
    """The address in ZeroMQ's words."""
    place = address.partition(":")[2]
    return f"ipc:{place}" if place.startswith("///") else f"tcp:{place}"


def await_connection(source: SampleSource) -> None:
    """A publisher's first samples are for those who are there."""
    deadline = time.monotonic() + 60
    while not source.status.connections and time.monotonic() < deadline:
        samples = source.read(0.1)
        assert samples is not None
        assert not samples.size
    assert source.status.connections == 1


@pytest.fixture(scope="module")
def image() -> NDArray[np.uint8]:
    rng = np.random.default_rng(5)
    ramp = np.add.outer(np.arange(32), np.arange(32))[..., None] * np.array([1, 3, 2])
    return (ramp + rng.integers(0, 4, ramp.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def stream(codec: Codec, image: NDArray[np.uint8]) -> bytes:
    return codec.encode(image, histories=False)


class Transmission:
    """A transmitter in a thread."""

    def __init__(self, stream: bytes, address: str, config: TransmitConfig | None = None) -> None:
        self.sink = open_sink(address)
        self._stop = threading.Event()
        self._work = [stream], self.sink, config or TransmitConfig(), self._stop.is_set
        self.report: TransmitReport | None = None
        self._thread = threading.Thread(target=self._run)

    def start(self) -> None:
        self._thread.start()

    def _run(self) -> None:
        self.report = transmit(*self._work)

    def join(self) -> TransmitReport:
        self._thread.join(60)
        assert self.report is not None
        return self.report

    def __enter__(self) -> Transmission:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join(60)
        self.sink.close()


class Saved:
    """Takes the place of a folder."""

    def __init__(self) -> None:
        self.images: list[NDArray[np.uint8] | NDArray[np.uint16]] = []

    def __call__(self, picture: Picture) -> str:
        self.images.append(picture.pixels)
        return "saved"


def test_every_flowgraph_compiles(programs: Path) -> None:
    assert {path.stem for path in programs.glob("*.py")} == PROGRAMS
    assert {path.stem for path in FOLDER.glob("*.grc")} == PROGRAMS


def test_the_loopbacks_differ_in_their_ends_alone() -> None:
    """GNU Radio's blocks take no parameter for tags; hence six files, of which one is drawn."""
    graphs = []
    for sink, name in LOOPBACKS.items():
        for tags in ("", "_tags"):
            text = (FOLDER / f"{name}{tags}.grc").read_text()
            assert text.count("    pass_tags: 'True'\n") == (2 if tags else 0)
            # GNU Radio's publisher drops what a slow subscriber cannot take, if it is not told to
            # wait.
            assert text.count("    drop_on_hwm: 'False'\n") == (1 if sink == "pub" else 0)
            assert f"    id: {name}{tags}\n" in text
            for block in (f"zeromq_{sink}_sink", f"zeromq_{PARTNERS[sink]}_source"):
                assert text.count(f"  id: {block}\n") == 1
                text = text.replace(block, "end")
            graphs.append(
                re.sub("    (id: loopback|title|description|pass_tags|drop_on_hwm).*\n", "", text)
            )
    assert all(graph == graphs[0] for graph in graphs)


@pytest.mark.parametrize("tags", [False, True], ids=["raw", "tags"])
@pytest.mark.parametrize("pattern", PARTNERS)
def test_an_image_through_the_channel_model(
    pattern: str,
    tags: bool,
    tmp_path: Path,
    start: Start,
    codec: Codec,
    image: NDArray[np.uint8],
    stream: bytes,
) -> None:
    """Noise, two echoes, carrier and clock offset; with tags the end mark ends the reception."""
    options = "?tags=1" if tags else ""
    out = f"//{tmp_path}/out"
    with (
        Transmission(stream, f"zmq+{pattern}://127.0.0.1:0{options}") as transmission,
        open_source(f"zmq+{PARTNERS[pattern]}:{out}{options}") as source,
    ):
        program = start(
            LOOPBACKS[pattern] + "_tags" * tags,
            source=socket_of(transmission.sink.address),
            sink=f"ipc:{out}",
            snr=15,
            cfo=3000,
            clock_offset=10,
            taps="1,0.2j,-0.1",
        )
        await_connection(source)
        transmission.start()
        saved = Saved()
        count = None if tags else 1
        source.timeout_s = 60
        report = receive(source, ReceiveConfig(count=count), codec, saved, never)
        sent = transmission.join()
        source.close()
        output = stopped(program)
    assert [kept.tolist() for kept in saved.images] == [image.tolist()], output
    assert report.exact
    assert (sent.complete, sent.messages, sent.silence_left) == (True, 1, 0)
    assert source.status.lossless
    assert transmission.sink.status.lossless
    # Neither a flat nor a quiet channel: the noise and the offset are those that were asked for.
    assert report.images[0].snr_db == pytest.approx(15, abs=1)
    assert report.log.entries[0].report.cfo_hz == pytest.approx(3000, abs=60)
    assert report.log.entries[0].report.clock_ppm == pytest.approx(10, abs=3)
    if tags:
        assert source.read(0) is None
        # The channel holds samples back, but not the mark nor what was sent before it.
        assert source.status.samples >= sent.samples


def test_gnu_radio_is_restarted_while_both_ends_go_on(
    tmp_path: Path, start: Start, codec: Codec
) -> None:
    """Over REQ/REP nothing is lost but what GNU Radio held: five buffers of 8192 samples."""
    message = bytes(range(256)) * 4  # not an image: what arrives whole fails in the codec, quickly

    def arrived(report: ReceiveReport) -> list[int]:
        return [end.message_id for end in report.images if end.stage_failed == SOURCE_STAGE]

    into, out = f"//{tmp_path}/in", f"//{tmp_path}/out"
    ends = {"source": f"ipc:{into}", "sink": f"ipc:{out}", "snr": 20}
    with (
        Transmission(message, f"zmq+rep:{into}?tags=1", TransmitConfig(repeat=8)) as transmission,
        open_source(f"zmq+req:{out}?tags=1") as source,
    ):
        transmission.start()
        source.timeout_s = 60
        first = start("loopback_req_rep_tags", **ends)
        before = receive(source, ReceiveConfig(count=2), codec, Saved(), never)
        first.kill()
        first.wait(30)
        second = start("loopback_req_rep_tags", **ends)
        after = receive(source, ReceiveConfig(), codec, Saved(), never)
        assert transmission.join().complete
        assert (source.status.restarts, source.status.connections) == (1, 2)
        source.close()
        stopped(second)
    assert arrived(before) == [0, 1]
    next_one = arrived(after)[0]
    assert 2 <= next_one <= 5  # a message has more than 28,000 samples
    assert arrived(after) == list(range(next_one, 8))


def sscc(*arguments: object) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "sscc", *map(str, arguments), "--json"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_commands_with_gnu_radio_between_them(
    tmp_path: Path, start: Start, image: NDArray[np.uint8]
) -> None:
    """Whoever starts first: PUSH/PULL, the receiver and GNU Radio before the transmitter."""
    write_png(tmp_path / "image.png", image)
    into, out = f"//{tmp_path}/in", f"//{tmp_path}/out"
    processes = [
        sscc("rx", "--from", f"zmq+pull:{out}?tags=1", "-o", tmp_path, "--timeout", 100),
        sscc("tx", tmp_path / "image.png", "--to", f"zmq+push:{into}?tags=1", "--timeout", 100),
    ]
    try:
        program = start("loopback_push_pull_tags", source=f"ipc:{into}", sink=f"ipc:{out}", snr=12)
        results = [process.communicate(timeout=120) for process in processes]
    finally:
        for process in processes:
            process.kill()
    stopped(program)
    assert [process.returncode for process in processes] == [0, 0], results
    received = json.loads(results[0][0].splitlines()[-1])
    assert [item["exact"] for item in received["images"]] == [True]
    pixels = np.array(Image.open(tmp_path / received["images"][0]["name"]))
    np.testing.assert_array_equal(pixels, image)


def test_a_recording_and_its_replay(
    tmp_path: Path, start: Start, codec: Codec, image: NDArray[np.uint8], stream: bytes
) -> None:
    """Record over PUSH/PULL, replay over REQ/REP: every sample comes back."""
    into, out = f"//{tmp_path}/in", f"//{tmp_path}/out"
    recording = tmp_path / "recording"
    with Transmission(stream, f"zmq+push:{into}") as transmission:
        recorder = start(
            "record_sigmf", source=f"ipc:{into}", recording=recording, hardware="simulated"
        )
        transmission.start()
        sent = transmission.join()
        assert sent.complete
        data = recording.with_suffix(".sigmf-data")
        deadline = time.monotonic() + 30
        while recorder.poll() is None and time.monotonic() < deadline:
            if data.exists() and data.stat().st_size >= 8 * (sent.samples - 4096):
                break
            time.sleep(0.1)
    stopped(recorder)
    metadata = json.loads(recording.with_suffix(".sigmf-meta").read_text())
    assert metadata == {
        "global": {
            "core:datatype": "cf32_le",
            "core:sample_rate": 2e6,
            "core:version": "1.0.0",
            "core:hw": "simulated",
            "core:description": "recorded from ZeroMQ by GNU Radio",
        },
        "captures": [{"core:sample_start": 0}],
        "annotations": [],
    }
    samples = np.fromfile(data, np.complex64)
    saved = Saved()
    with open_source(f"zmq+req:{out}") as source:
        source.timeout_s = 60
        player = start("replay_sigmf", recording=recording, sink=f"ipc:{out}")
        played = []
        for part in samples_of(source, lambda: sum(map(len, played)) >= samples.size):
            played.append(part)
        output, _ = player.communicate(timeout=30)
    assert player.returncode == 0, output
    np.testing.assert_array_equal(np.concatenate(played), samples)
    (tmp_path / "played.cf32").write_bytes(samples.tobytes())
    with open_source(f"file:{tmp_path}/played.cf32") as source:
        report = receive(source, ReceiveConfig(), codec, saved, never)
    assert report.exact
    np.testing.assert_array_equal(saved.images, [image])
    metadata["global"]["core:datatype"] = "ci16_le"
    recording.with_suffix(".sigmf-meta").write_text(json.dumps(metadata))
    refused, _ = start("replay_sigmf", recording=recording, sink=f"ipc:{out}").communicate(
        timeout=30
    )
    assert "the samples are ci16_le, and not cf32_le" in refused


@pytest.mark.parametrize("program", ["uhd_transmit", "soapy_transmit"])
@pytest.mark.parametrize("options", [{"gain": 10}, {"frequency": "2.4e9"}])
def test_transmitters_need_a_frequency_and_a_gain(
    program: str, options: dict[str, object], start: Start
) -> None:
    process = start(program, **options)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 1
    assert output.splitlines()[-1].startswith(
        "a transmitter needs --frequency (Hz) and --gain (dB)"
    )
