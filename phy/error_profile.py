r"""Where in a frame the known symbols do not fit: bursts of interference, lost samples, gaps.

The squared errors :math:`|y x^* - \hat h|^2` of the known symbols are exponentially distributed
about the noise variance, wherever they lie in the frame. A stretch in which they have another mean
is found by its generalized likelihood ratio: with N errors of mean a in all, n of mean b inside and
N - n of mean c outside of the stretch,

.. math:: \Lambda = N \ln a - n \ln b - (N - n) \ln c,

where :math:`2\Lambda` is about chi-square distributed with one degree of freedom if there is none.
The largest :math:`\Lambda` over all stretches of 32nds of the frame counts if it exceeds 20: by
the union bound over 528 stretches, one clean frame in ten million.

Reference:
    M. Basseville, I. V. Nikiforov, "Detection of Abrupt Changes", 1993, 2.4.3 (GLR).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

CELLS = 32
"""Parts of a frame that are told apart."""
_SIGNIFICANT = 20.0


@dataclass(frozen=True)
class ErrorBurst:
    """A stretch of a frame with larger errors than the rest.

    Attributes:
        first: cell in which it begins.
        stop: cell behind its end, at most :data:`CELLS`.
        noise_inside: mean squared error in it.
        noise_outside: mean squared error in the rest of the frame.
    """

    first: int
    stop: int
    noise_inside: float
    noise_outside: float

    @property
    def share(self) -> float:
        """Of the frame."""
        return (self.stop - self.first) / CELLS


def find_burst(
    places: npt.NDArray[np.integer], errors: npt.NDArray[np.floating], length: int
) -> ErrorBurst | None:
    """The most significant stretch of larger errors, if there is any.

    Arguments:
        places: (k,) of the known symbols in the frame.
        errors: (k,) squared errors there.
        length: of the frame, in the unit of the places.
    """
    count, energy = np.zeros(CELLS + 1), np.zeros(CELLS + 1)
    first, stop, inside, outside, ratio = _most_significant(places, errors, length, count, energy)
    return ErrorBurst(first, stop, inside, outside) if ratio > _SIGNIFICANT else None


@numba.njit(cache=True, nogil=True)
def _most_significant(
    places: npt.NDArray[np.integer],
    errors: npt.NDArray[np.floating],
    length: int,
    count: npt.NDArray[np.float64],
    energy: npt.NDArray[np.float64],
) -> tuple[int, int, float, float, float]:  # pragma: no cover - compiled
    """The stretch of the largest ratio: first cell, stop, both means, and the ratio."""
    cells = count.size - 1
    for k in range(places.size):
        cell = places[k] * cells // length
        count[cell + 1] += 1
        energy[cell + 1] += errors[k]
    for cell in range(cells):
        count[cell + 1] += count[cell]
        energy[cell + 1] += energy[cell]
    N, E = count[cells], energy[cells]
    best = (0, cells, 0.0, 0.0, 0.0)
    if E <= 0:
        return best
    for first in range(cells):
        for stop in range(first + 1, cells + 1):
            n = count[stop] - count[first]
            if n == 0 or n == N:
                continue
            inside = (energy[stop] - energy[first]) / n
            outside = max(E - n * inside, 1e-6 * E) / (N - n)
            if inside > outside:
                ratio = N * np.log(E / N) - n * np.log(inside) - (N - n) * np.log(outside)
                if ratio > best[4]:
                    best = (first, stop, inside, outside, ratio)
    return best
