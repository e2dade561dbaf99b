"""The estimation benchmark on few draws, against what the channel can carry."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
from scipy.optimize import brentq

from benchmarks import estimation as bench
from benchmarks.bisection import least_es_n0_db
from benchmarks.estimation import (
    FRAMES,
    Case,
    FadedBlock,
    Loss,
    cases,
    least_of_draw,
    loss_of,
    table,
)
from benchmarks.genie import genie_of
from benchmarks.simulation import true_synchronization
from flowgraphs.link import WAVEFORMS
from phy.link_adaptation import bit_information
from phy.modulation import MODULATIONS
from phy.tapped_delay_line import TappedDelayLine
from sscc.cli import run

FLAT = {case.waveform: case for case in cases() if case.block}
MULTIPATH = {case.waveform: case for case in cases() if case.name == "TDL-C 300 ns, 200 Hz"}
FAST = Case("", "single-carrier", TappedDelayLine("flat", 0.0, 200.0))


@pytest.mark.parametrize("case", [FLAT["symbols"], FAST, FLAT["ofdm"], *MULTIPATH.values()])
def test_what_the_genie_knows_is_true(case: Case) -> None:
    """What the known symbols differ from the true response by is the noise, 15 dB below."""
    block = FadedBlock(case, seed=1, number=0)
    density = 10**-1.5
    found = []
    for capture in block.captures:
        samples = capture.samples(WAVEFORMS[case.waveform].samples_per_symbol * density)
        for frame, start in capture.starts.items():
            sync = true_synchronization(capture.path, start, block.sent.sample_rate_hz)
            reception = genie_of(WAVEFORMS[case.waveform]).payload(
                samples, sync, block.sent.header(frame), capture.channel
            )
            found.append(reception.channel.noise_variance / density)
            assert not reception.channel.error_variance.any()
    assert len(found) == FRAMES
    # Over 1300 known symbols a frame: a standard deviation of 1.4 % over all.
    assert np.mean(found) == pytest.approx(1, abs=0.06)


@pytest.mark.parametrize("waveform", ["symbols", "ofdm"])
def test_the_block_arrives_where_the_channel_carries_it(
    waveform: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Mutual information over the frames' gains; this code needs 0.3 to 1.2 dB more (mcs table)."""
    monkeypatch.setattr(bench, "FRAMES", 2)
    case, seed, number = FLAT[waveform], 1, 1
    captures = FadedBlock(case, seed, number).captures
    gains = [
        abs(capture.channel.response(np.array([5000.0]), np.zeros(1))[0, 0]) for capture in captures
    ]
    gains_db = 20 * np.log10(gains)

    def surplus(es_n0_db: float) -> float:
        return float(bit_information(MODULATIONS["qpsk"], es_n0_db + gains_db).mean()) - 1

    limit = brentq(surplus, -10, 20)
    known, response_known, estimated = least_of_draw(case, seed, number)
    assert 0.3 < known - limit < 1.2
    assert known <= response_known + 0.125
    # A draw whose frames are all found: estimation costs some tenths at most.
    assert -0.25 <= estimated - response_known <= 0.5


def test_the_equalized_block_arrives_where_the_paths_carry_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Mutual information at the SINR of an MMSE equalizer, from the response over the band.

    J. G. Proakis, M. Salehi, "Digital Communications", 5th ed., eq. (9.4-22): the error's variance
    is the mean of N0 / (Q(f) + N0) over one period, with Q the folded energy of channel and pulse.
    """
    monkeypatch.setattr(bench, "FRAMES", 2)
    block = FadedBlock(MULTIPATH["single-carrier"], seed=1, number=1)
    (capture,) = block.captures
    # Data symbols follow 1104 symbols of preamble and header; a frame has 9561.
    places = 2 * np.arange(1104, 9561, 256.0)
    instants = np.concatenate([start + places for start in capture.starts.values()])
    energy = np.zeros((instants.size, 64))
    for period in (-1, 0, 1):
        frequency = np.arange(-32, 32) / 64 + period  # cycles per symbol of two samples
        rolled_off = np.clip((np.abs(frequency) - 0.375) / 0.25, 0, 1)  # roll-off 0.25
        raised_cosine = np.cos(np.pi / 2 * rolled_off) ** 2
        energy += np.abs(capture.channel.response(instants, frequency / 2)) ** 2 * raised_cosine

    def surplus(es_n0_db: float) -> float:
        n0 = 10 ** (-es_n0_db / 10)
        error = (n0 / (energy + n0)).mean(axis=1)
        sinr_db = 10 * np.log10(1 / error - 1)
        return float(bit_information(MODULATIONS["qpsk"], sinr_db).mean()) - 1

    limit = brentq(surplus, -10, 20)
    assert 0.3 < least_es_n0_db(block.all_known, limit, 1.0, 0.125) - limit < 1.2


def test_both_shaped_waveforms_meet_the_same_channels() -> None:
    names = {
        waveform: [case.name for case in cases() if case.waveform == waveform]
        for waveform in WAVEFORMS
    }
    assert names["single-carrier"] == names["ofdm"]
    assert names["ofdm"][:3] == names["symbols"]
    assert names["ofdm"][3:] == [
        "TDL-A 100 ns, 50 Hz",
        "TDL-A 100 ns, 200 Hz",
        "TDL-C 300 ns, 50 Hz",
        "TDL-C 300 ns, 200 Hz",
    ]


def test_loss_of_draws() -> None:
    known = np.arange(10.0)
    least = np.stack([known, known + 0.5, known + 0.5 + 0.25 * (np.arange(10) % 2)], axis=1)
    row = loss_of(FAST, least)
    levels = (row.known_es_n0_db, row.response_known_es_n0_db, row.estimated_es_n0_db)
    assert levels == (8.0, 8.5, 8.5)
    assert (row.loss_db, row.total_loss_db) == pytest.approx((0.125, 0.625))
    # Ten values of 0 and 0.25 alike: a deviation of 0.125 sqrt(10 / 9), by sqrt(10).
    assert row.loss_error_db == pytest.approx(0.125 / 3)
    assert row.total_loss_error_db == pytest.approx(0.125 / 3)


def test_the_command_writes_its_table(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "FRAMES", 1)
    arguments = ["--waveform", "symbols", "--channel", "another gain", "--draws", "2"]
    assert run(["bench", "estimation", *arguments, "--json", "-o", str(tmp_path)]) == 0
    (row,) = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert (row["channel"], row["waveform"], row["draws"]) == (FLAT["symbols"].name, "symbols", 2)
    with (tmp_path / "estimation.csv").open(newline="") as file:
        assert [line["waveform"] for line in csv.DictReader(file)] == ["symbols"]
    lines = (tmp_path / "estimation.md").read_text().splitlines()
    assert len(lines) == 3
    assert len({line.count("|") for line in lines}) == 1
    assert table([Loss(**row)]).row_count == 1


def test_an_unknown_channel_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "estimation", "--waveform", "symbols", "--channel", "TDL"]) == 2
    assert "another gain" in capsys.readouterr().err
