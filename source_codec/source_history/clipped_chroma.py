"""Chroma samples under clipped pixels, where chroma was enlarged by weighted means.

A clipped pixel does not tell its chroma, but it allows only some pairs of codes. Samples near such
pixels are changed, one pair at a time, wherever more pixels then come out right, or as many with
smoother planes.
"""

from __future__ import annotations

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.chroma_upsampling import (
    AxisTables,
    Mask,
    Plane,
    Sums,
    Upsampling,
    weighted_sums,
)
from source_codec.source_history.colour_law import (
    ColourLaw,
    Evidence,
    luma_interval,
    pixel_at,
)
from source_codec.source_history.compiled import signed
from source_codec.source_history.hidden_chroma import roughness

_PASSES = 4
_REACH = 4
"""Codes up and down that are tried."""
_DISAGREEMENT = 32
"""What one pixel off is worth, in codes of roughness."""


@numba.njit(cache=True)
def _disagreements(
    law: ColourLaw,
    evidence: Evidence,
    rows: AxisTables,
    columns: AxisTables,
    biases: NDArray[np.int64],
    sums: tuple[Sums, Sums],
    sample: tuple[int, int],
    steps: tuple[int, int],
    most: int,
) -> int:
    """Pixels of a sample that come out wrong if its codes change; counted up to ``most``."""
    count = 0
    i, j = sample
    for k in range(4):
        row = rows.starts[i] + k
        for m in range(4):
            weight = rows.weights[i, k] * columns.weights[j, m]
            if weight == 0:
                continue
            column = columns.starts[j] + m
            bias = biases[row % 2, column % 2]
            cb = (sums[0][row, column] + weight * steps[0] + bias) >> 4
            cr = (sums[1][row, column] + weight * steps[1] + bias) >> 4
            if evidence.certain[row, column]:
                count += evidence.c1[row, column] != cb or evidence.c2[row, column] != cr
            else:
                red, green, blue = pixel_at(evidence.image, row, column)
                first, last = luma_interval(law, red, green, blue, cb, cr)
                count += first > last
            if count >= most:
                return count
    return count


@numba.njit(cache=True)
def _near_clipped(certain: Mask, rows: AxisTables, columns: AxisTables) -> Mask:
    """Samples that take part in uncertain pixels."""
    near = np.zeros((len(rows.starts), len(columns.starts)), dtype=np.bool_)
    for row in range(certain.shape[0]):
        for column in range(certain.shape[1]):
            if not certain[row, column]:
                for i in (rows.near[row], rows.far[row]):
                    for j in (columns.near[column], columns.far[column]):
                        near[i, j] = True
    return near


@numba.njit(cache=True)
def _settle(
    law: ColourLaw,
    evidence: Evidence,
    rows: AxisTables,
    columns: AxisTables,
    biases: NDArray[np.int64],
    cb: Plane,
    cr: Plane,
    sums: tuple[Sums, Sums],
) -> None:
    """Coordinate descent on disagreements and roughness over samples near clipped pixels."""
    waiting = _near_clipped(evidence.certain, rows, columns)
    for _ in range(_PASSES):
        for i in range(cb.shape[0]):
            for j in range(cb.shape[1]):
                if not waiting[i, j]:
                    continue
                waiting[i, j] = False
                before = signed(cb[i, j]), signed(cr[i, j])
                wrong = _disagreements(
                    law, evidence, rows, columns, biases, sums, (i, j), (0, 0), 1 << 10
                )
                best = _DISAGREEMENT * wrong + roughness(cb, i, j) + roughness(cr, i, j)
                best_steps = 0, 0
                reach = _REACH if wrong else 1
                for step1 in range(max(-reach, -before[0]), min(reach, 255 - before[0]) + 1):
                    cb[i, j] = before[0] + step1
                    rough = roughness(cb, i, j)
                    for step2 in range(max(-reach, -before[1]), min(reach, 255 - before[1]) + 1):
                        cr[i, j] = before[1] + step2
                        cost = rough + roughness(cr, i, j)
                        if cost >= best:
                            continue
                        most = (best - cost + _DISAGREEMENT - 1) // _DISAGREEMENT
                        cost += _DISAGREEMENT * _disagreements(
                            law, evidence, rows, columns, biases, sums, (i, j), (step1, step2), most
                        )
                        if cost < best:
                            best, best_steps = cost, (step1, step2)
                cb[i, j] = before[0] + best_steps[0]
                cr[i, j] = before[1] + best_steps[1]
                if best_steps[0] == 0 and best_steps[1] == 0:
                    continue
                for k in range(4):
                    for m in range(4):
                        weight = rows.weights[i, k] * columns.weights[j, m]
                        if weight:
                            row, column = rows.starts[i] + k, columns.starts[j] + m
                            sums[0][row, column] += weight * best_steps[0]
                            sums[1][row, column] += weight * best_steps[1]
                for a in range(max(i - 1, 0), min(i + 2, cb.shape[0])):
                    for b in range(max(j - 1, 0), min(j + 2, cb.shape[1])):
                        waiting[a, b] = True


def settle_clipped(
    law: ColourLaw, evidence: Evidence, upsampling: Upsampling, cb: Plane, cr: Plane
) -> None:
    """Improves chroma planes near clipped pixels, in place.

    Args:
        law: the conversion to RGB.
        evidence: what the image tells of its chroma.
        upsampling: how the planes are enlarged.
        cb, cr: the planes.
    """
    height, width = evidence.certain.shape
    axes = upsampling.rows.tables(height), upsampling.columns.tables(width)
    sums = weighted_sums(cb, *axes), weighted_sums(cr, *axes)
    _settle(law, evidence, *axes, upsampling.biases(), cb, cr, sums)
