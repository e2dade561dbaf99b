r"""Residual carrier and clock offset of an OFDM frame, from its pilots.

After the preamble's synchronization a small carrier offset :math:`\nu` (cycles per sample) and a
clock offset :math:`\epsilon` are left. Over the :math:`N + C` samples from one row to the next they
turn the carriers' responses by

.. math:: 2\pi (N + C) \left( \nu - \frac{k \epsilon}{N} \right),

all alike, and in proportion to the carrier's frequency k: a slope of the phase over the carriers
that grows from row to row. Carrier, clock and Doppler shift are chosen together so that the channel
estimator's model explains the pilots best (:meth:`phy.ofdm_estimation.GridEstimator.likelihoods`):
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

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from phy.estimation import FloatArray
from phy.ofdm_estimation import GridEstimator
from phy.ofdm_grid import Numerology
from phy.synchronization import LARGEST_CLOCK_OFFSET, spectral_peak, vertex

ComplexArray = npt.NDArray[np.complex128]

LARGEST_RESIDUAL_CARRIER = 0.1
"""Cycles per row: five times the preamble's error at Es/N0 = -5 dB, or a Doppler shift."""
_CLOCK_STEPS = 6  # on either side of the first grid
# Every further grid is this much finer, and reaches so many steps to either side: overlap lets one
# coordinate follow the other.
_GRIDS, _FINER, _COUNT = 5, 3, 6


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
    row = np.arange(lattice.shape[0])
    frequency = numerology.carriers[numerology.comb] / numerology.fft_size
    drift = numerology.row_samples * np.outer(row, frequency)  # cycles at a clock offset of 1
    lattice = lattice.astype(np.complex64)
    # The clock, which moves the outer carriers' lines by less than their width, hardly matters.
    series = (estimator.row_weight[:, None] * lattice).T.astype(np.complex64)
    line = spectral_peak(series, LARGEST_RESIDUAL_CARRIER)[0]
    resolution = 1 / row.size

    candidates = []
    for index, doppler in enumerate(estimator.dopplers):

        def likelihood(carriers: FloatArray, clocks: FloatArray, index: int = index) -> FloatArray:
            tuned = lattice * _turn(-np.multiply.outer(carriers, row))[..., None]
            tuned = tuned * _turn(np.multiply.outer(clocks, drift))
            return estimator.likelihoods(tuned, *levels, index).max(axis=-1)

        # The line may be any of the Doppler spectrum's.
        reach = np.array([doppler + resolution, largest_clock])
        step = np.array([resolution / 3, largest_clock / _CLOCK_STEPS])
        candidates.append(_ascent(likelihood, np.array([line, 0.0]), reach, step))
    _, (carrier, clock) = max(candidates, key=lambda found: found[0])
    return float(carrier), float(np.clip(clock, -largest_clock, largest_clock))


def _turn(cycles: FloatArray) -> npt.NDArray[np.complex64]:
    """exp(j 2 pi cycles), in single precision but for the whole cycles."""
    angle = (2 * np.pi * (cycles - np.round(cycles))).astype(np.float32)
    return np.cos(angle) + np.complex64(1j) * np.sin(angle)


def _ascent(
    function: Callable[..., FloatArray],
    place: FloatArray,
    reach: FloatArray,
    step: FloatArray,
) -> tuple[float, FloatArray]:
    """Maximum of a smooth function, one coordinate at a time, the last one first.

    Arguments:
        function: of d coordinates, (n,) of one and (1,) of each of the others, to (n,) values.
        place: (d,) where to start; changed.
        reach: (d,) how far the first grids go to either side; 0 for a coordinate that stays.
        step: (d,) of the first grids.

    Returns:
        The value and the place.
    """
    height = -np.inf
    for finer in range(_GRIDS):
        for axis in np.flatnonzero(reach)[::-1]:
            spacing = step[axis] / _FINER**finer
            count = _COUNT if finer else int(np.ceil(reach[axis] / step[axis]))
            grid = place[axis] + spacing * np.arange(-count, count + 1)
            values = function(*(grid if i == axis else place[i : i + 1] for i in range(place.size)))
            best = int(np.argmax(values))
            height = float(values[best])
            place[axis] = grid[best] + spacing * vertex(values, best)
    return height, place
