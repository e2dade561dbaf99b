"""The schedule's dynamic programming, against enumeration and against the codec's own streams."""

import json
from itertools import combinations, pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import Photo

from benchmarks import schedule
from benchmarks.schedule import GRID
from source_codec import Codec, Order, Process, Schedule, read_header
from source_codec.schedule import boundaries
from sscc.cli import run


def test_cheapest_path_of_a_literal_graph() -> None:
    inf = np.inf
    costs = np.array(
        [
            [inf, 1.0, 4.0, 9.0],
            [inf, inf, 1.5, 6.0],
            [inf, inf, inf, 2.0],
            [inf, inf, inf, inf],
        ]
    )
    assert schedule.cheapest_path(costs, 1) == [0, 3]
    assert schedule.cheapest_path(costs, 2) == [0, 2, 3]
    assert schedule.cheapest_path(costs, 3) == [0, 1, 2, 3]
    assert schedule.path_cost(costs, [0, 2, 3]) == 6.0


@pytest.mark.parametrize("edges", [1, 2, 4, 8])
def test_cheapest_path_is_that_of_enumeration(edges: int) -> None:
    rng = np.random.default_rng(edges)
    costs = np.where(np.triu(np.ones((9, 9)), 1) > 0, rng.random((9, 9)), np.inf)
    inner = combinations(range(1, 8), edges - 1)
    every = [sum(costs[a, b] for a, b in pairwise((0, *nodes, 8))) for nodes in inner]
    path = schedule.cheapest_path(costs, edges)
    assert len(path) == edges + 1
    assert schedule.path_cost(costs, path) == pytest.approx(min(every))


def test_the_grid_holds_the_cosine_schedules() -> None:
    assert (GRID[0], GRID[-1]) == (0, 864)
    for steps in schedule.STEPS:
        assert set(boundaries(Schedule.COSINE, 864, steps)) <= set(GRID)


def test_steps_are_sums_of_intervals() -> None:
    bits = np.zeros((len(GRID) - 1, len(GRID) - 1))
    bits[2] = np.arange(1, len(GRID))
    steps = schedule.step_bits(bits)
    assert (steps[2, 3], steps[2, 5]) == (3, 3 + 4 + 5)
    assert np.isinf(steps[2, :3]).all()
    longest = GRID[int(np.flatnonzero(np.isfinite(steps[2]))[-1])]
    assert GRID[2] + 200 < longest <= GRID[2] + schedule.LONGEST_STEP


def test_measured_bits_are_those_of_streams(codec: Codec, photo: Photo) -> None:
    """The cosine schedule's bits, added up from the measurement, are its stream's length."""
    for channels in (1, 3):
        image = photo(28, 30, channels)
        costs = schedule.step_bits(schedule.interval_bits(image, codec.model))
        cosine = [GRID.index(cut) for cut in boundaries(Schedule.COSINE, 864, 16)]
        stream = codec.encode(image, Process(Order.HALTON, steps=16), histories=False)
        payload = 8 * read_header(stream).payload_bytes
        assert schedule.path_cost(costs, cosine) == pytest.approx(payload, abs=64)


def test_command(photo: Photo, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.save(tmp_path / "images.npy", np.stack([photo(30, 30, seed=seed) for seed in range(3)]))
    arguments = ["bench", "schedule", str(tmp_path), "--images", "2", "--side", "20", "--json"]
    assert run(arguments) == 0
    rows = json.loads(capsys.readouterr().out.splitlines()[-1])["rows"]
    assert [row["steps"] for row in rows] == list(schedule.STEPS)
    for row in rows:
        change = 100 * (row["fitted_bpsp"] / row["cosine_bpsp"] - 1)
        assert row["change_percent"] == pytest.approx(change)
        assert len(row["fitted"]) == row["steps"] + 1
        assert set(row["fitted"]) <= set(GRID)
    assert run(["bench", "schedule", str(tmp_path), "--images", "1"]) == 2
