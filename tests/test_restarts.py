"""Programs that are killed and started again while images pass: what arrives is exact, what was
lost is reported by the receiver, and signals end everything in good order.

Transmitter, channel (Rayleigh fading at 10 dB) and receiver are processes. The transmitter sends
in real time, so that little is on its way when one of the others is killed.
"""

import json
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import Photo
from PIL import Image

from source_codec import Codec

PATIENCE_S = 120
IMAGES = 6
RATES = ("--symbol-rate", "1e5")


class Program:
    """``sscc`` as a process, whose lines on stderr can be waited for."""

    def __init__(self, *arguments: object) -> None:
        command = [sys.executable, "-m", "sscc", *map(str, arguments), "--json"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        self.lines: list[str] = []
        self._heard = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stderr is not None
        for line in self._process.stderr:
            with self._heard:
                self.lines.append(line)
                self._heard.notify_all()

    def wait_until(self, condition: Callable[[], bool]) -> None:
        with self._heard:
            assert self._heard.wait_for(condition, PATIENCE_S), self.lines

    def images(self) -> dict[int, str]:
        """Files by message number, of the images that were reported so far."""
        found = (re.match(r"(\S+\.png)  exact  \(message (\d+)", line) for line in self.lines)
        return {int(match[2]): match[1] for match in found if match}

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()

    def signal(self, number: signal.Signals) -> None:
        self._process.send_signal(number)

    def end(self) -> tuple[int, dict[str, Any]]:
        """Exit status and report."""
        assert self._process.stdout is not None
        try:
            self._process.wait(PATIENCE_S)
        finally:
            self.kill()
        self._reader.join()
        return self._process.returncode, json.loads(self._process.stdout.read().splitlines()[-1])


@pytest.fixture
def start() -> Iterator[Callable[..., Program]]:
    started: list[Program] = []

    def make(*arguments: object) -> Program:
        started.append(Program(*arguments))
        return started[-1]

    yield make
    for program in started:
        program.kill()


@pytest.mark.parametrize(("out", "into"), [("push", "pull"), ("rep", "req")])
def test_receiver_and_channel_are_killed_and_started_again(
    out: str, into: str, tmp_path: Path, start: Callable[..., Program], codec: Codec, photo: Photo
) -> None:
    originals = [photo(16, 16, seed=k) for k in range(IMAGES)]
    for k, stream in enumerate(codec.encode_many(originals)):
        (tmp_path / f"{k}.ddm").write_bytes(stream)
    a, b = (f"//{tmp_path}/{name}?tags=1&hwm=2&chunk=2048" for name in "ab")
    folders = [tmp_path / "first", tmp_path / "second"]

    def channel() -> Program:
        return start(
            "channel", "--from", f"zmq+{into}:{a}", "--to", f"zmq+{out}:{b}",
            "-c", "rayleigh", "--doppler", 5, "-s", 10, "--sample-rate", 2e5,
        )  # fmt: skip

    def receiver(folder: Path) -> Program:
        return start("rx", "--from", f"zmq+{into}:{b}", "-o", folder, *RATES)

    tx = start(
        "tx", *sorted(tmp_path.glob("*.ddm")), "--to", f"zmq+{out}:{a}", *RATES,
        "--mcs", "qpsk-1/3", "--gap", 0.3, "--repeat", 0, "--realtime",
    )  # fmt: skip
    emulator, rx = channel(), receiver(folders[0])
    rx.wait_until(lambda: len(rx.images()) >= 3)
    rx.kill()
    before = rx.images()
    rx = receiver(folders[1])
    rx.wait_until(lambda: len(rx.images()) >= 2)
    emulator.kill()
    last_before = max(rx.images())
    emulator = channel()
    rx.wait_until(lambda: len([n for n in rx.images() if n > last_before + 2]) >= 2)
    if out == "push":
        rx.signal(signal.SIGTERM)
        status, report = rx.end()
        assert report["interrupted"]
    tx.signal(signal.SIGINT)
    sent_status, sent = tx.end()
    assert (sent_status, sent["failure"], sent["interrupted"]) == (0, None, True)
    assert sent["sink"]["disconnections"] == 1  # the transmitter knows that a channel went
    if out == "push":
        emulator.signal(signal.SIGTERM)
        passed_status, _ = emulator.end()
        assert passed_status in (0, 1)  # 1 if it still held samples that nobody took
    else:
        # The transmitter marked the end of its stream, which ends the others.
        passed_status, passed = emulator.end()
        assert (passed_status, passed["complete"]) == (0, True)
        status, report = rx.end()
        assert not report["interrupted"]

    numbers = sorted(image["message_id"] for image in report["images"])
    exact = {image["message_id"]: image["name"] for image in report["images"] if image["exact"]}
    # The new receiver names every message from the first of which it heard, lost ones too; those
    # between are what was on its way to the first receiver when that was killed.
    assert numbers == list(range(numbers[0], numbers[-1] + 1))
    assert 0 <= numbers[0] - max(before) <= 4
    assert status == (0 if len(exact) == len(numbers) else 1)
    # What the killed channel held, at most.
    assert len(numbers) - len(exact) <= 4
    assert report["source"]["restarts"] == report["source"]["disconnections"] == 1
    for folder, names in zip(folders, (before, exact), strict=True):
        for number, name in names.items():
            np.testing.assert_array_equal(
                np.array(Image.open(folder / name)), originals[number % IMAGES]
            )
