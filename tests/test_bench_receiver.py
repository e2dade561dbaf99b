"""The receiver's benchmark, on short messages; no test asserts a time."""

import json

import pytest

from benchmarks import receiver as bench
from flowgraphs.link import WAVEFORMS
from sscc.cli import run


def test_speeds_of_all_waveforms(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(bench, "MESSAGE_BYTES", 2000)
    monkeypatch.setattr(bench, "ROUNDS", 1)
    assert run(["bench", "receiver", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["name"] for row in rows] == list(WAVEFORMS)
    for row in rows:
        assert row["exact"]
        assert row["samples_per_s"] > 0
        spread = WAVEFORMS[row["name"]].samples_per_symbol
        assert row["symbols_per_s"] == pytest.approx(row["samples_per_s"] / spread)
        assert sum(row["stages"].values()) == pytest.approx(1, abs=0.02)
        # Every stage is found by the names of its functions.
        assert all(share > 0 for share in row["stages"].values())
    assert bench.table([bench.Speed(**row) for row in rows]).row_count == 4 + len(bench.STAGES) + 1


def test_an_unknown_waveform_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "receiver", "--waveform", "smoke"]) == 2
    assert "single-carrier" in capsys.readouterr().err
