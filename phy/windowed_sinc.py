r"""Band-limited interpolation with a Kaiser-windowed sinc.

The value of a sampled signal between its samples,

.. math:: x(i + f) \approx \sum_{k=-15}^{16} x_{i+k}\, s(k - f), \qquad
    s(u) = \mathrm{sinc}(u)\, \frac{I_0(\beta\sqrt{1-(u/16)^2})}{I_0(\beta)}.

With :math:`\beta = 9.5` the error of a sine is below -85 dB up to 0.8 of the Nyquist frequency and
-40 dB at 0.85, and large beyond 0.9: a pulse-shaped signal at two samples per symbol, or an OFDM
signal with its guard bands, lies well inside. At f = 0 the sample comes back exactly.

References:
    - J. F. Kaiser, "Nonrecursive digital filter design using the I0-sinh window function", IEEE
      ISCAS 1974.
    - T. I. Laakso et al., "Splitting the unit delay", IEEE Signal Processing Magazine 13(1), 1996.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

HALF_LENGTH = 16  # taps on either side
TAPS = 2 * HALF_LENGTH
_BETA = 9.5


def windowed_sinc(u: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The interpolation kernel s at distances u in samples, any shape."""
    distance = np.asarray(u, dtype=np.float64)
    inside = np.sqrt(np.maximum(1 - (distance / HALF_LENGTH) ** 2, 0))
    window = np.where(np.abs(distance) < HALF_LENGTH, np.i0(_BETA * inside) / np.i0(_BETA), 0)
    at_sample = distance == np.rint(distance)  # where rounding would leave a trace of the others
    return np.where(at_sample, distance == 0, np.sinc(distance) * window)
