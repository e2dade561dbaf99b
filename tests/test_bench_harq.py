"""The retransmission benchmark on few blocks, against mutual information and one-shot rates."""

import csv
import json
from math import exp, log2, sqrt
from pathlib import Path

import numpy as np
import pytest
from scipy.integrate import quad

from benchmarks import harq as bench
from benchmarks.harq import (
    AWGN,
    KINDS,
    RAYLEIGH,
    ROUNDS,
    SYMBOLS,
    WHOLE,
    Throughput,
    capacity,
    decoded_by,
    interval_of,
    limit,
    payload_rate,
    rounds_needed,
    rounds_of_link,
    table,
    throughput_of,
)
from benchmarks.mcs import block_error_rate
from phy.link_adaptation import bit_information, snr_of_information
from phy.mcs import get_mcs
from phy.modulation import MODULATIONS
from sscc.cli import run

QAM, QPSK = get_mcs("16qam-3/4"), get_mcs("qpsk-5/6")
REDUNDANCY, CHASE, ALONE = range(3)  # in KINDS


def needed(mcs_name: str, channel: str, es_n0_db: float, blocks: int, seed: int) -> np.ndarray:
    """(kinds, blocks) rounds."""
    mcs = get_mcs(mcs_name)
    rounds = [rounds_needed(mcs, channel, es_n0_db, seed, number) for number in range(blocks)]
    return np.array(rounds).T


# What retransmission is to do


def test_new_redundancy_arrives_where_the_information_adds_up_to_the_rate() -> None:
    """At 5 dB two rounds of 16-QAM 3/4 carry 3.86 bits, and one at twice the energy 2.68."""
    rate = payload_rate(QAM)
    assert rate == pytest.approx(2.99, abs=0.01)
    once, energy_twice = bit_information(QAM.modulation, [5.0, 8.01])
    assert 2 * once > 1.2 * rate > rate > 1.1 * energy_twice
    rounds = needed(QAM.name, AWGN, 5.0, 8, seed=1)
    assert (rounds[REDUNDANCY] == 2).all()
    assert (rounds[CHASE] > 2).all()
    assert (rounds[ALONE] == 0).all()


def test_nothing_arrives_below_the_sum_of_the_information() -> None:
    assert 2 * bit_information(QAM.modulation, 2.9) < 0.98 * payload_rate(QAM)
    rounds = needed(QAM.name, AWGN, 2.9, 8, seed=1)
    assert (rounds[REDUNDANCY] != 1).all()
    assert (rounds[REDUNDANCY] != 2).all()


def test_chase_combining_of_two_rounds_is_one_round_of_twice_the_energy() -> None:
    """QPSK, whose LLRs add up exactly: as many blocks are lost at 2 dB as once at 5.01 dB.

    99.7 % of such differences are within three standard deviations, 0.27; two tenths of a decibel
    change the rate by 0.4.
    """
    blocks = 60
    twice = decoded_by(needed(QPSK.name, AWGN, 2.0, blocks, seed=2)[CHASE])[1] / blocks
    once = decoded_by(needed(QPSK.name, AWGN, 2.0 + 10 * np.log10(2), blocks, seed=3)[CHASE])[0]
    once /= blocks
    assert 0.1 < once < 0.9
    assert abs(twice - once) < 3 * sqrt((once * (1 - once) + twice * (1 - twice)) / blocks)


def test_first_rounds_are_lost_as_single_transmissions() -> None:
    """Against the loop of ``sscc bench mcs`` with other noise, within three deviations (99.7 %)."""
    blocks = 60
    rounds = needed(QAM.name, AWGN, 9.9, blocks, seed=4)
    assert (rounds == 1)[REDUNDANCY].tolist() == (rounds == 1)[ALONE].tolist()
    lost = float(np.mean(rounds[ALONE] != 1))
    once = block_error_rate(QAM, 9.9, blocks, seed=5, symbols=SYMBOLS)
    assert 0.1 < once < 0.9
    assert abs(lost - once) < 3 * sqrt((once * (1 - once) + lost * (1 - lost)) / blocks)


def test_first_rounds_over_fading_are_lost_in_outage() -> None:
    """A share of 1 - exp(-g / G) of the gains lies below the g = 10 dB that the scheme needs."""
    blocks = 60
    rounds = needed(QAM.name, RAYLEIGH, 12.0, blocks, seed=6)
    arrive = exp(-(10**1.0) / 10**1.2)
    deviation = sqrt(arrive * (1 - arrive) / blocks)
    assert np.mean(rounds[ALONE] == 1) == pytest.approx(arrive, abs=3 * deviation)  # 99.7 %
    # The same gains for all: nothing that decodes alone fails when combined.
    late = np.where(rounds == 0, ROUNDS + 1, rounds)
    assert (late[CHASE] <= late[ALONE]).all()


def test_the_whole_receiver_needs_the_rounds_of_its_blocks() -> None:
    assert rounds_of_link(QAM, 14.0, 1, 0) == 1
    assert rounds_of_link(QAM, 5.0, 1, 0) == 2
    assert rounds_of_link(QAM, -15.0, 1, 0) == 0


# Throughput, interval, limits


def test_throughput_of_independent_rounds_is_the_rate_times_their_success() -> None:
    decoded = [0.3, 0.51, 0.657, 0.7599]  # 1 - 0.7^m
    assert throughput_of(decoded, 2.0) == pytest.approx(0.6)
    assert throughput_of([0.0, 1.0, 1.0, 1.0], 3.0) == 1.5
    assert throughput_of([0.0] * 4, 3.0) == 0.0
    assert decoded_by(np.array([1, 0, 2, 4, 2, 1])) == [2, 4, 4, 5]


def test_interval() -> None:
    # Wilson's interval of 0 of 200 is 0 to z^2 / (200 + z^2) = 0.018846.
    low, high = interval_of([0, 200, 200, 200], 200, 3.0)
    assert low == pytest.approx(3 * 0.981154 / (2 + 2 * 0.018846), abs=1e-4)
    assert high == pytest.approx(3 / (1 + 0.981154), abs=1e-4)


def test_the_interval_holds_the_throughput() -> None:
    """In 95 % of experiments or more; 400 of them have a standard deviation of 1.1 %."""
    shares = np.array([0.05, 0.4, 0.3, 0.2, 0.05])  # never, in round 1, 2, 3, 4
    true = throughput_of([float(share) for share in np.cumsum(shares[1:])], 2.0)
    held = 0
    for seed in range(400):
        rounds = np.random.default_rng(seed).choice(5, 100, p=shares)
        low, high = interval_of(decoded_by(rounds), 100, 2.0)
        held += low <= true <= high
    assert held >= 0.92 * 400


def test_ergodic_capacity_of_qpsk() -> None:
    """Each dimension's LLRs are Gaussian, of mean 2 g and variance 4 g (g the SNR)."""

    def information(g: float) -> float:
        def integrand(t: float) -> float:
            return exp(-t * t / 2) * log2(1 + exp(-2 * g - 2 * sqrt(g) * t)) / sqrt(2 * np.pi)

        return 2 - 2 * quad(integrand, -8, 8)[0]

    mean = quad(lambda g: exp(-g / 2) / 2 * information(g), 0, 60, limit=200)[0]
    assert capacity(MODULATIONS["qpsk"], RAYLEIGH, 10 * np.log10(2)) == pytest.approx(
        mean, abs=0.003
    )
    assert capacity(MODULATIONS["qpsk"], AWGN, 0.0) == pytest.approx(information(1.0), abs=0.003)


def test_limits_of_ideal_codes() -> None:
    rate = payload_rate(QAM)
    # At 5 dB: 1.93 bits a round; 2.68 with twice the energy, 3.11 with three times.
    found = [limit(QAM, kind, AWGN, 5.0) for kind in KINDS]
    assert found == pytest.approx([rate / 2, rate / 3, 0])
    assert [limit(QAM, kind, AWGN, 13.0) for kind in KINDS] == pytest.approx([rate] * 3)
    least = 10 ** (snr_of_information(QAM.modulation, rate) / 10)
    outage_free = exp(-least / 10**1.2)
    assert limit(QAM, KINDS[ALONE], RAYLEIGH, 12.0) == pytest.approx(rate * outage_free, rel=0.02)


# The command


def test_the_command_writes_its_table_and_picture(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "_STEP_DB", {AWGN: 8.0, RAYLEIGH: 16.0})
    monkeypatch.setattr(bench, "_DRAWS", 2048)
    arguments = ["bench", "harq", "--blocks", "2", "--messages", "1", "--json"]
    assert run([*arguments, "-o", str(tmp_path)]) == 0
    rows = [
        Throughput(**row) for row in json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    ]
    names = [kind.name for kind in KINDS]
    points = [(AWGN, -8.0), (AWGN, 0.0), (AWGN, 8.0), (AWGN, 16.0)]
    points += [(RAYLEIGH, -16.0), (RAYLEIGH, 0.0), (RAYLEIGH, 16.0), (RAYLEIGH, 32.0)]
    assert [(row.channel, row.es_n0_db, row.combining) for row in rows] == [
        (*point, name) for point in points for name in names
    ] + [(AWGN, 0.0, WHOLE), (AWGN, 8.0, WHOLE)]
    assert {row.blocks for row in rows[:-2]} == {2}
    lowest, highest = rows[0], rows[9]
    assert (lowest.decoded_4, lowest.mean_rounds, lowest.throughput) == (0, 4.0, 0.0)
    assert (highest.decoded_1, highest.mean_rounds) == (2, 1.0)
    assert highest.throughput == highest.high == highest.limit == payload_rate(QAM)
    for row in rows:
        assert row.low <= row.throughput <= row.high
        assert row.limit < row.capacity
    with (tmp_path / "harq.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert [float(line["throughput"]) for line in written] == [row.throughput for row in rows]
    assert (tmp_path / "harq.png").stat().st_size > 1000
    first, second = (tmp_path / "harq.md").read_text().strip().split("\n\n")
    for part, lines in ((first, 2 + len(points)), (second, 2 + 4)):
        assert len(part.splitlines()) == lines
        assert len({line.count("|") for line in part.splitlines()}) == 1
    assert table(rows).row_count == 3 + len(points) + 2


def test_an_unknown_scheme_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["bench", "harq", "--mcs", "qpsk-7/8"]) == 2
    assert "qpsk-5/6" in capsys.readouterr().err
