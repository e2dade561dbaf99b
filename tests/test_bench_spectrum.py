"""The spectrum's figures, against those of the pulses and of Gaussian samples."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.spectrum import SHAPED, Spectrum, table
from sscc.cli import run


def test_figures_of_both_waveforms(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "spectrum", "--frames", "3", "--json", "-o", str(tmp_path)]) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["waveform"] for row in rows] == list(SHAPED)
    single, ofdm = rows
    # The raised cosine's tails from f on hold (u - 0.25 / pi sin(pi u / 0.25)) / 2 of the power,
    # u = 0.625 - f: 0.5 % at u = 0.0727.
    assert single["occupied_bandwidth_hz"] == pytest.approx(1.105e6, abs=6e3)
    # 128 of 129 carriers' distances of 7.8125 kHz hold 99 %, and side lobes a little more.
    assert ofdm["occupied_bandwidth_hz"] == pytest.approx(1.003e6, abs=8e3)
    # Side lobes of 272 samples on each carrier, over one carrier in 256 of the rate; and pulses
    # that are cut off at -50 dB.
    carriers = np.concatenate([np.arange(-64, 0), np.arange(1, 65)]) / 256
    lobes = 0.5 / (272 * np.sin(np.pi * (0.4 - carriers)) ** 2)
    expected_db = 10 * np.log10(lobes.sum() / 256)
    assert ofdm["side_density_db"] == pytest.approx(expected_db, abs=0.7)
    assert single["side_density_db"] < -48
    # Exponentially distributed power: ln 100 and ln 1000.
    assert ofdm["peak_1_percent_db"] == pytest.approx(6.63, abs=0.15)
    assert ofdm["peak_01_percent_db"] == pytest.approx(8.39, abs=0.4)
    assert single["peak_01_percent_db"] < 5
    with (tmp_path / "spectrum.csv").open(newline="") as file:
        assert [row["waveform"] for row in csv.DictReader(file)] == list(SHAPED)
    assert (tmp_path / "spectrum.png").stat().st_size > 1000
    assert table([Spectrum(**row) for row in rows]).row_count == 2


def test_symbols_have_no_spectrum(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "spectrum", "--waveform", "symbols"]) == 2
    assert "ofdm" in capsys.readouterr().err
