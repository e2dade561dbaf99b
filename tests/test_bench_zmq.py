"""The benchmark of ZeroMQ, on short streams; no test asserts a time."""

import json

import pytest

from benchmarks import receiver, zmq
from sscc.cli import run


def test_throughput_of_a_pattern(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(receiver, "MESSAGE_BYTES", 2000)
    monkeypatch.setattr(zmq, "SAMPLES", 200_000)
    monkeypatch.setattr(zmq, "ROUNDS", 1)
    monkeypatch.setattr(zmq, "PATTERNS", (("push", "pull"),))
    assert run(["bench", "zmq", "--tags", "yes", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [(row["name"], row["what"]) for row in rows] == [
        ("single-carrier", "receiver"),
        ("push to pull, tags", "samples"),
        ("push to pull, tags", "rx"),
    ]
    for row in rows:
        assert row["exact"]
        assert row["samples_per_s"] > 0
        own = row["cpu_ns_per_sample"] / rows[0]["cpu_ns_per_sample"]
        assert row["times_receiver"] == pytest.approx(own)
    assert zmq.table([zmq.Throughput(**row) for row in rows]).row_count == 2


def test_an_impossible_choice_of_tags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "zmq", "--tags", "smoke"]) == 2
    assert "yes, no or both" in capsys.readouterr().err
