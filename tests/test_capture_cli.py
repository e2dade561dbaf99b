"""``sscc capture`` and ``sscc replay``, in this process and, with signals, in others."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sigmf
from numpy.typing import NDArray
from PIL import Image

from source_codec import Codec
from sscc.cli import run
from sscc.images import write_png

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def picture() -> Pixels:
    rng = np.random.default_rng(3)
    ramp = np.add.outer(np.arange(12), np.arange(16))[..., None] * np.array([4, 6, 8])
    return (ramp + rng.integers(0, 9, ramp.shape)).astype(np.uint8)


@pytest.fixture(scope="module")
def air(picture: Pixels, codec: Codec, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture sent twice at 15 dB, in a raw file."""
    folder = tmp_path_factory.mktemp("air")
    write_png(folder / "a.png", picture)
    sent = f"sigmf:{folder}/sent?rate=2e6"
    assert run(["tx", f"{folder}/a.png", "--to", sent, "--repeat", "2"]) == 0
    command = ["channel", "--from", sent.partition("?")[0], "--to", f"file:{folder}/air.cf32"]
    assert run([*command, "--snr", "15", "--cfo", "3000"]) == 0
    return folder / "air.cf32"


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Any:
    """Runs a command with --json; gives exit status, JSON and stderr."""

    def call(*arguments: object) -> tuple[int, Any, str]:
        capsys.readouterr()
        status = run([*map(str, arguments), "--json"])
        captured = capsys.readouterr()
        return status, json.loads(captured.out) if captured.out else None, captured.err

    return call


def test_a_capture_and_its_replays(
    air: Path, picture: Pixels, tmp_path: Path, command: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    status, report, err = command(
        "capture", "--from", f"file:{air}", "-o", tmp_path / "x", "--profile", "rtl-sdr-v3",
        "--frequency", "868e6", "--amplitude", 4, "--description", "two pictures",
    )  # fmt: skip
    assert status == 0
    assert "message 1 whole  (qpsk-1/2, " in err
    samples = air.stat().st_size // 8
    recording = report["recording"]
    assert (recording["samples"], recording["annotations"]) == (samples, 4)
    assert (recording["type"], recording["clipped_samples"]) == ("cu8", 0)
    assert [image["exact"] for image in report["images"]] == [True, True]
    assert [frame["payload_ok"] for frame in report["frames"]] == [True, True]
    foreign = sigmf.fromfile(tmp_path / "x")
    assert foreign.sha512 == recording["sha512"]
    assert (foreign.sample_rate, foreign.hw) == (
        2e6,
        "RTL-SDR Blog V3 (RTL2832U, R820T2); direct sampling below 24 MHz",
    )

    status, report, err = command("replay", tmp_path / "x", "--verify", "-o", tmp_path)
    assert status == 0, err
    assert report["hash"] == "right"
    assert report["verify"] == {
        "annotations": 4, "differing": 0, "beyond": 0, "differences": [],
    }  # fmt: skip
    assert [image["exact"] for image in report["images"]] == [True, True]
    for image in report["images"]:
        np.testing.assert_array_equal(np.array(Image.open(tmp_path / image["name"])), picture)
    assert report["frames"][0]["detected"]
    assert report["frames"][0]["cfo_hz"] == pytest.approx(3000, abs=30)

    data = bytearray((tmp_path / "x.sigmf-data").read_bytes())
    data[50_000] ^= 0x01  # inside of the first frame
    (tmp_path / "x.sigmf-data").write_bytes(data)
    before = len(list(tmp_path.iterdir()))
    status, report, err = command("replay", tmp_path / "x", "-o", tmp_path)
    assert (status, report) == (1, {"images": [], "frames": [], "hash": "wrong"})
    assert "do not have the hash that the metadata say (--force replays them all the same)" in err
    assert len(list(tmp_path.iterdir())) == before
    assert run(["rx", "--from", f"sigmf:{tmp_path}/x", "-o", str(tmp_path)]) == 2
    capsys.readouterr()
    assert run(["replay", f"{tmp_path}/x", "--force", "--verify", "-o", str(tmp_path)]) == 1
    captured = capsys.readouterr()
    assert "do not have the hash that the metadata say; replayed all the same" in captured.err
    assert "image-00002.png  exact" in captured.out
    assert "DIFFERS: frame at sample" in captured.out
    assert "4 annotations compared: 2 differ" in captured.out


def test_samples_only(air: Path, tmp_path: Path, command: Any) -> None:
    status, report, err = command(
        "capture", "--from", f"file:{air}", "-o", tmp_path / "x", "--record-only",
        "--duration", 0.001, "--type", "cs8", "--amplitude", 0.1, "--rate", 250e3,
    )  # fmt: skip
    assert status == 0
    assert report["recording"]["samples"] == 250
    assert "250 samples clipped at an amplitude of 0.1: choose a greater" in err
    assert report["recording"]["clipped_samples"] > 50
    status, report, err = command("replay", tmp_path / "x", "-o", tmp_path, "--verify")
    assert (status, report) == (2, None)
    assert err.splitlines()[-1].endswith("no receiver annotated it, so there is nothing to verify")


def test_what_cannot_be_done(air: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    capture = ["capture", "--from", f"file:{air}", "-o", f"{tmp_path}/x"]
    (tmp_path / "no.sigmf-meta").write_text('{"global": 1')
    (tmp_path / "z.sigmf-meta").write_text("{}")
    for arguments, reason in (
        ([*capture, "--type", "cs17"], "unknown type 'cs17'"),
        ([*capture, "--profile", "smoke"], "unknown hardware profile"),
        ([*capture, "--profile", "rtl-sdr-v3", "--rate", "20e6"], "the nearest is 2.4 MHz"),
        ([*capture, "--profile", "rtl-sdr-v3", "--frequency", "5e9"], "the nearest is 1.764 GHz"),
        ([*capture, "--amplitude", "0"], "full scale must be positive"),
        ([*capture, "--rate", "-1"], "must be positive"),
        ([*capture, "--waveform", "smoke"], "unknown waveform"),
        (["capture", "--from", f"file:{air}", "-o", "."], "is a folder"),
        (["replay", ".."], "is a folder"),
        (["capture", "--from", f"file:{air}", "-o", f"{tmp_path}/z"], "exists; remove it"),
        (["replay", f"{tmp_path}/x"], "needs its type and rate"),
        (["replay", f"{tmp_path}/no"], "no SigMF metadata"),
        (["replay", str(air), "--type", "cf32"], "do not tell the sample rate"),
        (["replay", str(air), "--type", "smoke", "--rate", "1"], "unknown sample type"),
        (["replay", str(air), "--type", "cf32", "--rate", "2e6", "--channel", "1"], "no channel 1"),
    ):
        assert run(arguments) == 2
        captured = capsys.readouterr()
        assert captured.out == ""
        assert reason in captured.err.splitlines()[-1]
        assert not (tmp_path / "x.sigmf-meta").exists()


def test_signals(air: Path, tmp_path: Path, command: Any) -> None:
    """Interrupted, a capture is complete; killed, what it had written can be replayed."""

    def start(name: str) -> tuple[subprocess.Popen[str], int]:
        os.mkfifo(tmp_path / f"{name}.fifo")
        fifo, output = f"file:{tmp_path}/{name}.fifo", f"{tmp_path}/{name}"
        process = subprocess.Popen(
            [sys.executable, "-m", "sscc", "capture", "--from", fifo, "-o", output, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        return process, os.open(tmp_path / f"{name}.fifo", os.O_WRONLY)

    running = {name: start(name) for name in ("stopped", "killed")}
    for name, (process, pipe) in running.items():
        with open(pipe, "wb", buffering=0, closefd=False) as file:
            file.write(air.read_bytes())
        assert process.stderr is not None
        while "message 1 whole" not in process.stderr.readline():
            assert process.poll() is None
        process.send_signal(signal.SIGTERM if name == "stopped" else signal.SIGKILL)
    results = {name: process.communicate(timeout=60) for name, (process, _) in running.items()}
    for _, pipe in running.values():
        os.close(pipe)

    report = json.loads(results["stopped"][0])
    assert (running["stopped"][0].returncode, report["interrupted"]) == (0, True)
    written = (tmp_path / "stopped.sigmf-data").stat().st_size
    assert report["recording"]["samples"] == written // 8 <= air.stat().st_size // 8
    assert not (tmp_path / "stopped.sscc-journal").exists()
    stopped = sigmf.fromfile(tmp_path / "stopped")
    assert stopped.sha512 == report["recording"]["sha512"]
    assert len(stopped.get_annotations()) == 4
    assert running["killed"][0].returncode == -signal.SIGKILL
    status, report, err = command("replay", tmp_path / "killed", "--verify", "-o", tmp_path)
    assert (status, report["hash"]) == (0, "absent")
    assert "the recording was cut off" in err
    assert [image["exact"] for image in report["images"]] == [True, True]
    # The last frame waited for what might overlap it.
    assert (report["verify"]["annotations"], report["verify"]["beyond"]) == (3, 1)


def test_a_radio_is_recorded_within_its_limits(air: Path, tmp_path: Path, command: Any) -> None:
    """A Pluto's twin hears the file; its rate, frequency and name are in the metadata."""
    radio = ("capture", "--from", f"loopback:realtime=0,snr=inf,air=file:{air}")
    pluto = ("-p", "pluto", "--rate", 2e6, "--gain", "10")
    status, _, err = command(
        *radio, *pluto, "-o", tmp_path / "pluto", "--frequency", 2.4e9, "--amplitude", 4
    )
    assert status == 0, err
    meta = json.loads((tmp_path / "pluto.sigmf-meta").read_text())
    assert meta["global"]["core:sample_rate"] == 2e6
    assert meta["global"]["core:datatype"] == "ci16_le"
    assert meta["captures"][0]["core:frequency"] == 2.4e9
    assert sum("sscc:header" in one or "sscc:snr" in str(one) for one in meta["annotations"]) >= 2
    status, _, err = command(*radio, *pluto, "-o", tmp_path / "far", "--frequency", 70e9)
    assert status == 2
    assert "70" in err
    assert not (tmp_path / "far.sigmf-meta").exists()
