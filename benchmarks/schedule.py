"""``sscc bench schedule``: what the best mask schedule would gain over the cosine.

Every pixel of a step is coded from what was known when the step began. How many bits the ranks from
m to n take when the ranks below k are known is measured for all k <= m < n of a grid of possible
boundaries, on the same pixels for every k. The best schedule of T steps is the cheapest path of T
edges through that grid, which dynamic programming finds.

Schedules are found on one half of the images and judged on the other, and the other way round: on
the images that it was fitted to, the best of all schedules looks better than it is. Adaptation to
the image is left out of the measurement.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from source_codec.codec import coding_planes
from source_codec.experts import Kind
from source_codec.features import density_class
from source_codec.logistic_mixture import Mixture, code_length
from source_codec.model import Model
from source_codec.order import TILE_HEIGHT, TILE_WIDTH, Order, rank_map
from source_codec.process import Step
from source_codec.reverse_coding import CHUNK, Context, blocks_of, input_units
from source_codec.schedule import Schedule, boundaries
from source_codec.workers import Workers
from sscc.errors import InputError
from sscc.images import Pixels
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

STEPS = (12, 16, 24, 32, 48)
N_RANKS = TILE_HEIGHT * TILE_WIDTH
GRID = sorted(
    {
        *boundaries(Schedule.COSINE, N_RANKS, 96),  # a multiple of all STEPS: it holds their cuts
        *range(16),
        *range(16, 64, 4),
        *range(64, N_RANKS, 12),
    }
)
"""Possible boundaries of the fitted schedule."""
LONGEST_STEP = 224
"""Ranks of a step at most; longer ones would never pay with these numbers of steps."""


def bits_by_interval(
    context: Context, truth: NDArray[np.uint8], step: Step, interval: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Bits of a step's pixels, by interval of the grid.

    Args:
        context: what is known.
        truth: uint8 (H, W, 3), the image in coding order of the channels.
        step: N pixels.
        interval: intp (N,), the interval that each pixel's rank is in.

    Returns:
        float64 (G - 1,).
    """
    total = np.zeros(len(GRID) - 1)
    intervals = np.split(interval, range(CHUNK, len(interval), CHUNK))
    for number, (block, own) in enumerate(zip(blocks_of(step, 1), intervals, strict=True)):
        evaluation = context.evaluate(step, block)
        pixels = truth[block.ys, block.xs]
        members = [(i, np.flatnonzero(own == i)) for i in np.unique(own)]
        residual = np.empty((len(pixels), 2), dtype=np.int32)
        for channel in range(context.channels):
            values = pixels[:, channel].astype(np.int32)
            prediction = context.predict(step, number, evaluation, channel, residual)
            *columns, logistic = prediction.mixture
            for i, rows in members:
                part = Mixture._make([*(np.take(a, rows, axis=1) for a in columns), logistic])
                total[i] += code_length(part, values[rows])
            if channel < 2:
                base = evaluation.base[channel]
                residual[:, channel] = input_units(values, base, evaluation.exponent)
    return total


def interval_bits(image: Pixels, model: Model) -> NDArray[np.float64]:
    """Bits of every interval of ranks from every boundary on.

    Args:
        image: RGB or gray.
        model: that codes it.

    Returns:
        float64 (G - 1, G - 1): ``[k, m]`` is what the ranks from ``GRID[m]`` to ``GRID[m + 1]``
        take when those below ``GRID[k]`` are known; 0 where that is not measured.
    """
    truth = coding_planes(image)
    ranks, _ = rank_map(Order.HALTON, *truth.shape[:2])
    context = Context(model, np.zeros_like(truth)[None], gray=image.ndim == 2)
    bits = np.zeros((len(GRID) - 1, len(GRID) - 1))
    kind = Kind.of(Order.HALTON, *ranks.shape)

    def pixels_between(first: int, stop: int) -> Step:
        ys, xs = (axis.astype(np.int32) for axis in np.nonzero((ranks >= first) & (ranks < stop)))
        return Step(ys, xs, density_class(first, N_RANKS), kind)

    for k, (known, following) in enumerate(pairwise(GRID)):
        step = pixels_between(known, known + LONGEST_STEP)
        interval = np.searchsorted(GRID, ranks[step.ys, step.xs], side="right") - 1
        bits[k] = bits_by_interval(context, truth, step, interval)
        shown = pixels_between(known, following)
        context.images[0, shown.ys, shown.xs] = truth[shown.ys, shown.xs]
        context.end_step(shown)
    return bits


def step_bits(bits: NDArray[np.float64]) -> NDArray[np.float64]:
    """Bits of a step from ``GRID[k]`` to ``GRID[m]``: (G, G), infinite where there is none.

    Args:
        bits: from :func:`interval_bits`.
    """
    sums = np.full((len(GRID), len(GRID)), np.inf)
    for k, known in enumerate(GRID[:-1]):
        last = int(np.searchsorted(GRID, known + LONGEST_STEP, side="right"))
        sums[k, k + 1 : last] = bits[k, k : last - 1].cumsum()
    return sums


def cheapest_path(costs: NDArray[np.float64], edges: int) -> list[int]:
    """The nodes of the cheapest path of so many edges from the first node to the last.

    Args:
        costs: float64 (G, G), of the edge from a node to another.
        edges: number of edges.
    """
    least = costs[0]
    origins = []
    for _ in range(edges - 1):
        totals = least[:, None] + costs
        origins.append(totals.argmin(axis=0))
        least = totals.min(axis=0)
    path = [len(costs) - 1]
    for origin in reversed(origins):
        path.append(int(origin[path[-1]]))
    return [0, *path[::-1]]


def path_cost(costs: NDArray[np.float64], path: Sequence[int]) -> float:
    """Sum over a path's edges."""
    return float(costs[path[:-1], path[1:]].sum())


@dataclass(frozen=True)
class Row:
    """Both schedules at one number of steps.

    Attributes:
        steps: their number.
        cosine_bpsp: bits per sub-pixel with the cosine schedule.
        fitted_bpsp: the same with the schedule that fits the other half of the images best.
        change_percent: of the bits, from the first to the second.
        fitted: boundaries of the schedule that fits all images best.
    """

    steps: int
    cosine_bpsp: float
    fitted_bpsp: float
    change_percent: float
    fitted: list[int]


def measure(
    images: Sequence[Pixels], model: Model, threads: int | None, progress: Progress
) -> list[Row]:
    """Fits and judges schedules.

    Args:
        images: at least two.
        model: that codes them.
        threads: for evaluation; None takes all cores.
        progress: called with the fraction done.

    Raises:
        InputError: a single image.
    """
    if len(images) < 2:
        raise InputError("schedules are fitted to one half of the images: give at least two")
    halves = [np.zeros((len(GRID) - 1, len(GRID) - 1)) for _ in range(2)]
    workers = Workers(threads)
    for done, bits in enumerate(workers.map(partial(interval_bits, model=model), images)):
        halves[done % 2] += bits
        progress((done + 1) / len(images))
    costs = [step_bits(half) for half in halves]
    sub_pixels = sum(image.size for image in images)
    rows = []
    for steps in STEPS:
        cosine = [GRID.index(cut) for cut in boundaries(Schedule.COSINE, N_RANKS, steps)]
        before = sum(path_cost(half, cosine) for half in costs) / sub_pixels
        crossed = zip(costs, reversed(costs), strict=True)
        after = sum(path_cost(own, cheapest_path(other, steps)) for own, other in crossed)
        after /= sub_pixels
        fitted = [GRID[node] for node in cheapest_path(costs[0] + costs[1], steps)]
        rows.append(Row(steps, before, after, 100 * (after / before - 1), fitted))
    return rows


def table(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    from rich.table import Table

    grid = Table()
    for heading in ("steps", "cosine bpsp", "fitted bpsp", "bits"):
        grid.add_column(heading, justify="right")
    grid.add_column("boundaries fitted to all images")
    for row in rows:
        grid.add_row(
            str(row.steps),
            f"{row.cosine_bpsp:.4f}",
            f"{row.fitted_bpsp:.4f}",
            f"{row.change_percent:+.2f} %",
            " ".join(map(str, row.fitted)),
        )
    return grid
