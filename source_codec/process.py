"""The denoising process of an image: its steps, and the pixels that each restores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from source_codec.experts import Kind
from source_codec.features import density_class
from source_codec.order import Order, is_small, is_wavefront, rank_map
from source_codec.schedule import Schedule, boundaries


@dataclass(frozen=True)
class Process:
    """The parameters of the denoising process that the stream header carries.

    Attributes:
        order: denoising order.
        schedule: mask schedule.
        steps: number of denoising steps T.
        adaptive: whether the model follows the image (see :mod:`source_codec.adaptation`); small
            images, which are too short to learn from, are coded without.

    A wavefront (small images in the order "auto") takes a step for each rank that has pixels,
    whatever the schedule and the number of steps.
    """

    order: Order = Order.AUTO
    schedule: Schedule = Schedule.COSINE
    steps: int = 32
    adaptive: bool = True

    def simplest(self, sizes: Sequence[tuple[int, int]]) -> Process:
        """The same process for images of these sizes, with defaults for what makes no difference.

        Args:
            sizes: height and width of each plain image that is coded by it.
        """
        if not sizes:
            return Process()
        process = self
        if all(is_wavefront(self.order, *size) for size in sizes):
            process = Process()
        if all(is_small(*size) for size in sizes):
            process = replace(process, adaptive=True)
        elif self.order is Order.HALTON and not any(is_small(*size) for size in sizes):
            process = replace(process, order=Order.AUTO)
        return process


@dataclass(frozen=True)
class Step:
    """One denoising step of one image size: which pixels, and how much was known before.

    Attributes:
        ys, xs: int32 (N,) pixels of the step, in raster order.
        density: density class before the step.
        kind: of the step.
    """

    ys: NDArray[np.int32]
    xs: NDArray[np.int32]
    density: int
    kind: Kind


@dataclass(frozen=True)
class Plan:
    """A process at one image size.

    Attributes:
        ranks: int32 (H, W), the rank of every pixel.
        cuts: step t restores the ranks from ``cuts[t]`` up to ``cuts[t + 1]``; the last is the
            number of ranks.
        kind: of the steps.
    """

    ranks: NDArray[np.int32]
    cuts: list[int]
    kind: Kind

    @classmethod
    def of(cls, process: Process, height: int, width: int) -> Plan:
        """The plan for an image of the given size.

        Raises:
            ValueError: the number of steps is out of range.
        """
        ranks, n_ranks = rank_map(process.order, height, width)
        cuts = boundaries(process.schedule, n_ranks, process.steps)
        if is_wavefront(process.order, height, width):
            cuts = list(range(n_ranks + 1))
        return cls(ranks, cuts, Kind.of(process.order, height, width))

    def density(self, step: int) -> int:
        """Density class before a step."""
        return density_class(self.cuts[step], self.cuts[-1])


def steps_of(process: Process, height: int, width: int) -> Iterator[Step]:
    """The denoising steps of an image of the given size; empty steps are left out."""
    plan = Plan.of(process, height, width)
    flat = plan.ranks.ravel()
    # Pixels sorted by rank; a stable sort keeps raster order inside a rank, and each step's
    # pixels are put back into raster order.
    narrow = flat.astype(np.uint16) if plan.cuts[-1] <= 1 << 16 else flat  # much faster to sort
    by_rank = np.argsort(narrow, kind="stable").astype(np.int32)
    starts = np.searchsorted(flat[by_rank], np.array(plan.cuts))
    for step in range(len(plan.cuts) - 1):
        pixels = np.sort(by_rank[starts[step] : starts[step + 1]])
        if len(pixels):
            yield Step(pixels // width, pixels % width, plan.density(step), plan.kind)
