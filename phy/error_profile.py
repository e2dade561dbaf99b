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

import numpy as np
import numpy.typing as npt

CELLS = 32
"""Parts of a frame that are told apart."""
_SIGNIFICANT = 20.0
_FIRST, _STOP = np.array(
    [(first, stop) for first in range(CELLS) for stop in range(first + 1, CELLS + 1)]
).T


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
    cell = places * CELLS // length
    count = np.cumsum(np.append(0, np.bincount(cell, minlength=CELLS))).astype(np.float64)
    energy = np.cumsum(np.append(0.0, np.bincount(cell, errors, minlength=CELLS)))
    if not energy[-1] > 0:
        return None
    n, e = count[_STOP] - count[_FIRST], energy[_STOP] - energy[_FIRST]
    N, E = count[-1], energy[-1]
    inside = e / np.maximum(n, 1)
    outside = np.maximum(E - e, 1e-6 * E) / np.maximum(N - n, 1)
    louder = (n > 0) & (n < N) & (inside > outside)
    inside = np.maximum(inside, 1e-6 * E / N)
    ratio = N * np.log(E / N) - n * np.log(inside) - (N - n) * np.log(outside)
    ratio = np.where(louder, ratio, 0.0)
    best = int(np.argmax(ratio))
    if ratio[best] <= _SIGNIFICANT:
        return None
    return ErrorBurst(
        int(_FIRST[best]), int(_STOP[best]), float(inside[best]), float(outside[best])
    )
