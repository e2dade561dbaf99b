"""The LDPC benchmark, on few words; no test asserts a time."""

import csv
import json
from pathlib import Path

import pytest

from benchmarks import ldpc as bench
from benchmarks.ldpc import BOUND, OURS, PEER, measure_bler, wilson_interval
from phy.ldpc import LdpcCode
from sscc.cli import run

CODE = LdpcCode(k=500, n=1000, bits_per_symbol=2)


def test_throughput_beside_sionna(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "ldpc", "--words", "2", "--peer-words", "1", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["name"].split()[0] for row in rows] == [OURS, OURS, OURS, PEER]
    for row in rows:
        assert (row["k"], row["n"]) == (8448, 16_896)
        assert row["info_mbit_s"] > 0
        assert row["early_stop"] or row["iterations"] == 10
        assert row["times_peer"] == pytest.approx(row["info_mbit_s"] / rows[-1]["info_mbit_s"])
    assert bench.throughput_table([bench.Throughput(**row) for row in rows]).row_count == 4


def test_throughput_without_sionna(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench, "peer_available", lambda: False)
    rows = bench.measure_throughput(2, 1, 1, lambda _: None)
    assert [row.name.split()[0] for row in rows] == [OURS] * 3
    assert {row.times_peer for row in rows} == {None}
    assert bench.throughput_table(rows).row_count == 3


def test_block_error_rates_with_their_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "PEER_ITERATIONS", (5,))
    rows = measure_bler(60, 10, 1, lambda _: None, {CODE: (-1.0, 4.0)})
    assert [row.name for row in rows] == [BOUND, OURS, PEER] * 2
    hopeless, easy = rows[1], rows[4]
    assert (hopeless.blocks, hopeless.errors, hopeless.bler) == (60, 60, 1.0)
    assert (easy.blocks, easy.errors, easy.low) == (60, 0, 0.0)
    assert rows[2].blocks == 10
    assert rows[0].bler > 0.9 > 1e-6 > rows[3].bler
    bench.write_bler(rows, tmp_path / "out")
    with (tmp_path / "out" / "ldpc.csv").open(newline="") as file:
        assert [row["name"] for row in csv.DictReader(file)] == [row.name for row in rows]
    assert (tmp_path / "out" / "ldpc.png").stat().st_size > 1000
    assert bench.bler_table(rows).row_count == 7  # with one that names the code


def test_the_same_seed_gives_the_same_errors() -> None:
    first, second = (measure_bler(40, 0, 3, lambda _: None, {CODE: (1.0,)}) for _ in range(2))
    assert first == second
    assert [row.name for row in first] == [BOUND, OURS]


def test_wilson_interval() -> None:
    # R. G. Newcombe, Stat. Med. 17, 1998, table I (method 3): 81/263, 15/148 and 0/20.
    for errors, blocks, low, high in (
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
    ):
        assert wilson_interval(errors, blocks) == pytest.approx((low, high), abs=1e-4)
