"""Mask schedules, against the formula in floating point."""

import math
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from source_codec.schedule import MAX_STEPS, Schedule, boundaries

ranks = st.integers(1, 1 << 24)
steps = st.integers(1, MAX_STEPS)


@given(schedule=st.sampled_from(Schedule), n_ranks=ranks, steps=steps)
def test_steps_cover_the_ranks_once(schedule: Schedule, n_ranks: int, steps: int) -> None:
    cuts = boundaries(schedule, n_ranks, steps)
    assert cuts[0] == 0
    assert cuts[-1] == n_ranks
    assert all(a < b for a, b in pairwise(cuts))
    assert len(cuts) - 1 <= steps


@given(n_ranks=ranks, steps=steps)
def test_cosine_is_maskgits_formula(n_ranks: int, steps: int) -> None:
    """gamma(t/T) = cos(pi t / 2T) is masked after t steps; each cut is that, rounded."""
    exact = [n_ranks * (1 - math.cos(math.pi * t / (2 * steps))) for t in range(steps + 1)]
    cuts = boundaries(Schedule.COSINE, n_ranks, steps)
    for cut in cuts:
        assert min(abs(cut - value) for value in exact) <= 0.5 + 1e-6
    for value in exact:
        assert min(abs(cut - value) for cut in cuts) <= 0.5 + 1e-6


@given(n_ranks=ranks, steps=steps)
def test_linear_divides_evenly(n_ranks: int, steps: int) -> None:
    cuts = boundaries(Schedule.LINEAR, n_ranks, steps)
    exact = [n_ranks * t / steps for t in range(steps + 1)]
    for cut in cuts:
        assert min(abs(cut - value) for value in exact) <= 0.5 + 1e-6
    if n_ranks >= steps:
        assert len(cuts) == steps + 1


def test_literal_boundaries() -> None:
    # 864 (1 - cos(pi t / 16)): 16.60, 65.77, 145.60, 253.06, 383.99, 533.36, 695.44
    expected = [0, 17, 66, 146, 253, 384, 533, 695, 864]
    assert boundaries(Schedule.COSINE, 864, 8) == expected
    assert boundaries(Schedule.LINEAR, 100, 4) == [0, 25, 50, 75, 100]
    assert boundaries(Schedule.COSINE, 864, 1) == [0, 864]
    assert boundaries(Schedule.LINEAR, 1, 255) == [0, 1]


def test_cosine_reveals_little_first_and_much_last() -> None:
    sizes = [b - a for a, b in pairwise(boundaries(Schedule.COSINE, 864, 32))]
    assert len(sizes) == 32
    assert sizes[0] == 1
    assert all(b >= a - 1 for a, b in pairwise(sizes))
    assert sizes[-1] > 40


@pytest.mark.parametrize("steps", [-1, 0, 256])
def test_number_of_steps_out_of_range(steps: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        boundaries(Schedule.COSINE, 10, steps)


@pytest.mark.parametrize("n_ranks", [-5, 0])
def test_number_of_ranks_out_of_range(n_ranks: int) -> None:
    with pytest.raises(ValueError, match="n_ranks"):
        boundaries(Schedule.LINEAR, n_ranks, 4)
