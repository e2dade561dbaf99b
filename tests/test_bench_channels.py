"""The table of named channels, on few frames."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks.channels import Case, Outcome, cases, measure, table
from benchmarks.parallel import Tasks
from sscc.cli import run

CASES = {f"{case.waveform}: {case.name}": case for case in cases()}
assert len(CASES) == len(cases())


def measured(case: Case, frames: int, seed: int) -> Outcome:
    (outcome,) = measure([case], frames, seed, Tasks(), lambda _: None)
    return outcome


@pytest.mark.parametrize("name", CASES)
def test_frames_arrive_over_every_channel(name: str) -> None:
    """All but one at most; of hundreds, 99 % or more arrive (docs/physical-layer.md)."""
    # Phase noise down to 10 Hz is slow to draw.
    frames = 4 if "phase noise" in name else 8
    outcome = measured(CASES[name], frames, seed=2)
    assert outcome.received >= frames - 1
    assert outcome.false_alarms == 0
    lost = outcome.undetected + outcome.header_lost + outcome.payload_lost
    assert outcome.received + lost == outcome.sent == frames


def test_losses_are_counted_by_stage() -> None:
    """Far below the noise nothing is seen; at -1 dB headers are read, but QPSK 1/2 needs 0.8 dB."""
    awgn = CASES["single-carrier: AWGN"]
    silent = measured(Case("silence", awgn.waveform, -30.0, awgn.draw), 3, 1)
    assert (silent.undetected, silent.received) == (3, 0)
    noisy = measured(Case("noise", awgn.waveform, -1.0, awgn.draw), 3, 1)
    assert (noisy.payload_lost, noisy.received) == (3, 0)


def test_the_command_writes_its_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "channels", "--channel", "tdl-c", "--frames", "1", "--json"]
    assert run([*arguments, "-o", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["channel"], row["waveform"]) for row in rows] == [
        ("TDL-C, 300 ns, 50 Hz", "single-carrier"),
        ("TDL-C, 300 ns, 50 Hz", "ofdm"),
        ("TDL-C, 300 ns, 200 Hz", "ofdm"),
    ]
    with (tmp_path / "channels.csv").open(newline="") as file:
        assert [row["channel"] for row in csv.DictReader(file)] == [row["channel"] for row in rows]
    assert len((tmp_path / "channels.md").read_text().splitlines()) == 5
    outcomes = [measured(case, 1, 1) for case in cases() if "TDL-C" in case.name]
    assert table(outcomes).row_count == 3


def test_an_unknown_channel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "channels", "--channel", "ether"]) == 2
    assert "TDL-A" in capsys.readouterr().err
