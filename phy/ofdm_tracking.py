r"""Residual carrier and clock offset of an OFDM frame, from its pilots.

After the preamble's synchronization a small carrier offset :math:`\nu` (cycles per sample) and a
clock offset :math:`\epsilon` are left. Over the :math:`N + C` samples from one row to the next they
turn the carriers' responses by

.. math:: 2\pi (N + C) \left( \nu - \frac{k \epsilon}{N} \right),

all alike, and in proportion to the carrier's frequency k: a slope of the phase over the carriers
that grows from row to row. Carrier, clock and Doppler shift are chosen together so that the channel
estimator's model explains the pilots best (:func:`phy.ofdm_estimation.log_likelihoods`):
for each Doppler shift, from the strongest line in the pilots' sequences on, by coordinate ascent on
ever finer grids. Given the Doppler shift the likelihood is a smooth hill, as narrow as the channel
is coherent; over all shifts at once it would have ridges.

The carrier so found is the middle of the Doppler spectrum, not its strongest line, which in the
Jakes spectrum lies at the edge. In fast fading with multipath, where delays seem to drift by
themselves, the clock is found less well; the error left then is part of the fading that the
estimator follows anyway.

Reference:
    M. Speth, S. Fechtel, G. Fock, H. Meyr, "Optimum receiver design for OFDM-based broadband
    transmission, part II", IEEE Trans. Commun. 49(4), 2001 (the phases above).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

from phy.estimation import FloatArray, IntArray
from phy.ofdm_estimation import GridEstimator, SingleArray, log_likelihoods
from phy.ofdm_grid import Numerology
from phy.synchronization import LARGEST_CLOCK_OFFSET, spectral_peak, vertex

ComplexArray = npt.NDArray[np.complex128]

LARGEST_RESIDUAL_CARRIER = 0.1
"""Cycles per row: five times the preamble's error at Es/N0 = -5 dB, or a Doppler shift."""
_CLOCK_STEPS = 6  # on either side of the first grid
# Every further grid is this much finer, and reaches so many steps to either side: overlap lets one
# coordinate follow the other.
_GRIDS, _FINER, _COUNT = 3, 3, 6


def residual_offsets(
    numerology: Numerology,
    estimator: GridEstimator,
    lattice: ComplexArray,
    levels: tuple[float, float],
    largest_clock: float = LARGEST_CLOCK_OFFSET,
) -> tuple[float, float]:
    """Carrier and clock offset that are left in the rows of a frame.

    Arguments:
        numerology: sizes.
        estimator: for the grid's shape.
        lattice: (T, P) pilots; see :meth:`phy.ofdm_estimation.GridEstimator.lattice`.
        levels: noise variance and signal power; see the estimator.
        largest_clock: clock offsets that are looked for, relative; 0 for none, as in a few rows.

    Returns:
        Carrier in cycles per row; clock, relative, positive if rows come ever later.
    """
    rows = lattice.shape[0]
    # Cycles per row at a clock offset of 1.
    drift = numerology.row_samples * numerology.carriers[numerology.comb] / numerology.fft_size
    unit_power = (lattice / np.sqrt(levels[1])).astype(np.complex64)
    # The clock, which moves the outer carriers' lines by less than their width, hardly matters.
    series = (estimator.row_weight[:, None] * unit_power).T.astype(np.complex64)
    line = spectral_peak(series, LARGEST_RESIDUAL_CARRIER)[0]
    resolution = 1 / rows
    step = np.array([resolution / 3, largest_clock / _CLOCK_STEPS])

    best, carrier, clock = -np.inf, 0.0, 0.0
    for doppler, model in zip(estimator.dopplers, estimator.models, strict=True):
        # The line may be any of the Doppler spectrum's.
        reach = np.array([doppler + resolution, largest_clock])
        place = np.array([line, 0.0])
        height = _ascent(unit_power, drift, place, reach, step, levels[1] / levels[0], *model)
        if height > best:
            best, (carrier, clock) = height, place
    return float(carrier), float(np.clip(clock, -largest_clock, largest_clock))


@numba.njit(cache=True, nogil=True)
def _ascent(
    lattice: ComplexArray,
    drift: FloatArray,
    place: FloatArray,
    reach: FloatArray,
    step: FloatArray,
    snr: float,
    in_time: SingleArray,
    time_singular: FloatArray,
    in_frequency: SingleArray,
    frequency_singular: FloatArray,
    bounds: IntArray,
) -> float:  # pragma: no cover - compiled
    """Maximum of the likelihood over carrier and clock, one at a time, the clock first.

    Arguments:
        lattice: (T, P) complex64 pilots over the square root of their power.
        drift: (P,) cycles per row by which a clock offset of 1 turns the carriers back.
        place: (2,) carrier and clock offset where to start; changed.
        reach: (2,) how far the first grids go to either side; 0 for a coordinate that stays.
        step: (2,) of the first grids.
        snr: power over noise variance.
        in_time, time_singular, in_frequency, frequency_singular, bounds: of the model; see
            :class:`phy.ofdm_estimation.GridModel`.

    Returns:
        The likelihood there.
    """
    height = -np.inf
    for finer in range(_GRIDS):
        for axis in (1, 0):
            if reach[axis] == 0:
                continue
            spacing = step[axis] / _FINER**finer
            count = _COUNT if finer else int(np.ceil(reach[axis] / step[axis]))
            turns = np.empty((2 * count + 1, drift.size))
            for c in range(2 * count + 1):
                off = spacing * (c - count)
                carrier = place[0] + (off if axis == 0 else 0.0)
                clock = place[1] + (off if axis == 1 else 0.0)
                turns[c] = carrier - clock * drift
            values = log_likelihoods(
                lattice,
                turns,
                snr,
                in_time,
                time_singular,
                in_frequency,
                frequency_singular,
                bounds,
            )
            heights = np.empty(2 * count + 1)
            for c in range(2 * count + 1):
                heights[c] = values[c].max()
            best = int(np.argmax(heights))
            height = heights[best]
            place[axis] += spacing * (best - count + vertex(heights, best))
    return height
