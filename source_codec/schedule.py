"""Mask schedules: how many pixels are known after each denoising step.

The schedule is *mask-ratio aware*: while most pixels are masked the context is poor, and a step
codes few of them; later steps code many. All arithmetic is on integers, because encoder and decoder
must place every step boundary alike, whatever their mathematics library rounds.
"""

from __future__ import annotations

from enum import StrEnum

MAX_STEPS = 255
_FRACTION_BITS = 64
# pi in fixed point: floor(pi * 2^64); the digits are those of any table of constants.
_PI = 57952155664616982739


class Schedule(StrEnum):
    """Names of the schedules, in the sequence of their codes in the stream header."""

    COSINE = "cosine"
    LINEAR = "linear"


def _cosine_fixed_point(angle: int) -> int:
    """cos(angle) for an angle in [0, pi/2], both with 64 fraction bits (Taylor series)."""
    square = (angle * angle) >> _FRACTION_BITS
    term = total = 1 << _FRACTION_BITS
    n = 0
    while term:
        n += 2
        term = ((term * square) >> _FRACTION_BITS) // (n * (n - 1))
        total += -term if n % 4 == 2 else term
    return max(total, 0)


def boundaries(schedule: Schedule, n_ranks: int, steps: int) -> list[int]:
    """Rank boundaries of the steps: step t codes the ranks in ``[b[t], b[t + 1])``.

    The cosine schedule leaves the fraction ``cos(pi t / 2 T)`` masked after t of T steps (the
    mask-scheduling function of MaskGIT, Chang et al. 2022, eq. for gamma, run in coding order).

    Args:
        schedule: cosine or linear.
        n_ranks: number of ranks of the order, at least 1.
        steps: number of steps T, 1 to 255. Steps that would be empty are left out, so that the
            result may hold fewer than T steps when there are few ranks.

    Returns:
        Strictly increasing integers from 0 to ``n_ranks``.

    Raises:
        ValueError: ``steps`` or ``n_ranks`` out of range.
    """
    if not 1 <= steps <= MAX_STEPS:
        raise ValueError(f"steps must be 1 to {MAX_STEPS}, not {steps}")
    if n_ranks < 1:
        raise ValueError(f"n_ranks must be positive, not {n_ranks}")
    half = 1 << (_FRACTION_BITS - 1)
    known = [0]
    for t in range(1, steps):
        if schedule is Schedule.COSINE:
            masked = _cosine_fixed_point(_PI * t // (2 * steps))
        else:
            masked = ((steps - t) << _FRACTION_BITS) // steps
        revealed = n_ranks - ((n_ranks * masked + half) >> _FRACTION_BITS)
        if known[-1] < revealed < n_ranks:
            known.append(revealed)
    known.append(n_ranks)
    return known
