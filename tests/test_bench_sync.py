"""The synchronization benchmark on few frames, and the genie that it is measured by."""

import csv
import json
import math
from functools import partial
from pathlib import Path

import numpy as np
import pytest

from benchmarks import sync as bench
from benchmarks.bisection import least_es_n0_db
from benchmarks.channels import Outcome
from benchmarks.genie import genie_of
from benchmarks.parallel import Tasks
from benchmarks.simulation import true_synchronization
from benchmarks.sync import CONDITIONS, INTERFERENCE, SYNCHRONIZED, Loss
from flowgraphs.link import WAVEFORMS
from phy import Propagation, RadioPath, ReceiverConfig, ReceiverImpairments, TransmitterImpairments
from phy.impairments import CarrierOffset, ClockOffset, Delay
from phy.ofdm import Ofdm
from phy.single_carrier import SingleCarrier
from sscc.cli import run


def quiet(_: float) -> None:
    """No progress bar."""


def test_true_synchronization() -> None:
    """A converter 50 ppm fast takes 1,000,050 samples where 1,000,000 were sent."""
    path = RadioPath(
        propagation=Propagation(delay=Delay(0.5)),
        receiver=ReceiverImpairments(carrier=CarrierOffset(2e5), clock=ClockOffset(50.0)),
    )
    found = true_synchronization(path, 999_999, sample_rate_hz=2e6)
    assert found.start == pytest.approx(1_000_049.499975, abs=1e-6)
    assert found.carrier == pytest.approx(0.1 / 1.00005, rel=1e-12)
    assert found.clock == pytest.approx(5e-5)
    sender = RadioPath(transmitter=TransmitterImpairments(carrier=CarrierOffset(1.0)))
    with pytest.raises(ValueError, match="receiver's side"):
        true_synchronization(sender, 0, 2e6)
    with pytest.raises(TypeError, match="genie"):
        genie_of(object())  # type: ignore[arg-type]


@pytest.mark.parametrize("guess", [-3.0, 2.3, 9.0])
def test_bisection(guess: float) -> None:
    tried: list[float] = []

    def arrives(es_n0_db: float) -> bool:
        tried.append(es_n0_db)
        return es_n0_db >= 2.3

    assert least_es_n0_db(arrives, guess, 0.5, 0.125) == 2.375
    assert len(tried) == len(set(tried)) <= 14
    assert least_es_n0_db(lambda _: False, guess, 1, 0.5) == math.inf
    assert least_es_n0_db(lambda _: True, guess, 1, 0.5) == -80


def test_results_do_not_depend_on_processes() -> None:
    fractions: list[float] = []
    with Tasks(2) as tasks:
        assert tasks.map(partial(pow, 3), 20, fractions.append) == [3**n for n in range(20)]
    assert fractions == pytest.approx([(n + 1) / 20 for n in range(20)])
    assert Tasks().map(partial(pow, 3), 20, quiet) == [3**n for n in range(20)]


@pytest.mark.parametrize("waveform", SYNCHRONIZED)
def test_losses(waveform: str) -> None:
    """QPSK 1/2 over 8192 symbols needs some 0.8 dB (`sscc bench mcs`)."""
    rows = bench.measure_losses(waveform, 6, 1, Tasks(), quiet, ["none", "all together"])
    assert [row.channel for row in rows] == ["none", "all together"]
    for row in rows:
        assert 0.6 < row.es_n0_db < 1.1
        assert row.es_n0_db == rows[0].es_n0_db
        assert row.received + row.undetected + row.header_lost + row.payload_lost == row.sent == 6
        assert row.received >= 3
        assert row.loss == pytest.approx(1 - row.received / 6)
    # The operating point is the largest that any of these frames needed.
    assert rows[0].perfect_lost == 0


def test_intervals() -> None:
    """R. G. Newcombe, Stat. Med. 17, 1998, table I (method 3): 15/148 and 81/263."""
    outcome = Outcome("", "ofdm", 1.0, "qpsk-1/2", 148, 133, 5, 5, 5, 0)
    row = Loss.of(outcome, perfect_lost=0)
    assert (row.loss, row.low, row.high) == pytest.approx((15 / 148, 0.0624, 0.1605), abs=1e-4)
    assert (row.perfect_lost, row.perfect_loss, row.perfect_low) == (0, 0.0, 0.0)
    alone = Loss.of(Outcome("", "ofdm", 1.0, "qpsk-1/2", 263, 182, 81, 0, 0, 0))
    assert (alone.low, alone.high) == pytest.approx((0.2553, 0.3662), abs=1e-4)
    assert alone.perfect_lost is alone.perfect_loss is None


@pytest.mark.parametrize("waveform", SYNCHRONIZED)
def test_frames_back_to_back(waveform: str, monkeypatch: pytest.MonkeyPatch) -> None:
    row = bench.measure_back_to_back(waveform, 5, 1, quiet)
    assert (row.sent, row.received, row.false_alarms) == (5, 5, 0)
    monkeypatch.setattr(bench, "BACK_TO_BACK_ES_N0_DB", -30.0)
    row = bench.measure_back_to_back(waveform, 2, 1, quiet)
    assert (row.sent, row.received, row.undetected, row.loss) == (2, 0, 2, 1.0)


def test_false_alarms(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = bench.measure_false_alarms(100_000, 1, Tasks(), quiet)
    assert [row.interference for row in rows] == list(INTERFERENCE)
    assert all(row.detections == 0 for row in rows)
    assert all(row.expected == pytest.approx(1e-4) for row in rows)
    # They are counted if there are any: 1e-3 per sample is an upper bound of their rate.
    config = partial(ReceiverConfig, false_alarm_probability=1e-3)
    monkeypatch.setattr(bench, "ReceiverConfig", config)
    often = bench.measure_false_alarms(100_000, 1, Tasks(), quiet)[0]
    assert often.expected == pytest.approx(100)
    assert 5 < often.detections <= 100


def test_the_preamble_is_that_of_all_synchronized_waveforms() -> None:
    ofdm, single = Ofdm(), SingleCarrier()
    assert [WAVEFORMS[name] for name in SYNCHRONIZED] == [single, ofdm]
    assert ofdm.pulse == single.pulse
    assert ofdm.chirp_length == single.frame_format.chirp_length
    assert ofdm.carrier_reach == single.carrier_reach


def test_the_command_writes_its_tables(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["--waveform", "single-carrier", "--frames", "1", "--noise-samples", "5000"]
    assert run(["bench", "sync", *arguments, "--json", "-o", str(tmp_path)]) == 0
    result = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [row["channel"] for row in result["rows"]] == [*CONDITIONS, "back to back"]
    assert [row["samples"] for row in result["false_alarms"]] == [5000] * 3
    with (tmp_path / "sync.csv").open(newline="") as file:
        assert [row["channel"] for row in csv.DictReader(file)] == [*CONDITIONS, "back to back"]
    with (tmp_path / "false_alarms.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 3
    lines = (tmp_path / "sync.md").read_text().splitlines()
    assert len(lines) == 2 + 10 + 1 + 2 + 3
    assert len({line.count("|") for line in lines[:12]}) == 1
    losses = [Loss(**row) for row in result["rows"]]
    assert bench.loss_table(losses).row_count == 10
    alarms = [bench.FalseAlarms(**row) for row in result["false_alarms"]]
    assert bench.false_alarm_table(alarms).row_count == 3


@pytest.mark.parametrize("command", ["sync", "estimation", "spectrum", "channels"])
def test_help_shows_an_example(command: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", command, "--help"]) == 0
    assert f"sscc bench {command} " in capsys.readouterr().out.split("Example:")[1]


def test_a_waveform_that_is_not_synchronized_is_refused(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run(["bench", "sync", "--waveform", "symbols"]) == 2
    assert "single-carrier" in capsys.readouterr().err


def test_a_level_is_no_condition_for_the_noise() -> None:
    """The gain applies to signal and noise alike: Es/N0 stays."""
    rng = np.random.default_rng(1)
    gains = [CONDITIONS["30 dB of level range"](rng, 2e6).propagation.gain for _ in range(400)]
    levels = [gain.gain_db for gain in gains if gain is not None]
    assert max(levels) - min(levels) == pytest.approx(30, abs=0.5)
