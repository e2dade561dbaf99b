r"""What the soft bits of a frame promise.

True LLRs carry, over any symmetric channel, the information

.. math:: I = \frac1n \sum_i 1 - h\left(\frac{1}{1 + e^{|L_i|}}\right)

about the bits sent, per coded bit, h being the binary entropy function. A code of a rate above I
cannot decode; ours needs some hundredths more than its rate. Frames whose promise was good and
whose block failed all the same had errors that the noise estimate did not see.

Reference: T. Richardson, R. Urbanke, "Modern Coding Theory", 4.1.3 and 4.1.4.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

SATURATION = 31.75
"""Largest |LLR| of the decoder's 8 bits in steps of a quarter."""
_SAMPLES = 1024  # soft bits whose information is taken: a standard deviation of about 0.01


@dataclass(frozen=True)
class LlrStatistics:
    """Statistics of the LLRs of one frame.

    Attributes:
        mean_magnitude: mean of |L|.
        information: bits per coded bit that they promise, 0 to 1.
        erased: share that is exactly 0.
        saturated: share of a magnitude above :data:`SATURATION`.
    """

    mean_magnitude: float
    information: float
    erased: float
    saturated: float

    @classmethod
    def of(cls, llr: npt.NDArray[np.float32]) -> LlrStatistics:
        """Measure (n,) LLRs, n at least 1."""
        return cls(*_measure(llr, SATURATION, max(1, llr.size // _SAMPLES)))


@numba.njit(cache=True, nogil=True)
def _measure(
    llr: npt.NDArray[np.float32], saturation: float, stride: int
) -> tuple[float, float, float, float]:  # pragma: no cover - compiled
    total = 0.0
    erased = saturated = 0
    for n in range(llr.size):
        magnitude = abs(llr[n])
        total += magnitude
        erased += magnitude == 0
        saturated += magnitude > saturation
    information = 0.0
    looked_at = 0
    for n in range(0, llr.size, stride):
        x = min(float(abs(llr[n])), 500.0)
        decay = np.exp(-x)
        information += 1 - (np.log1p(decay) + x * decay / (1 + decay)) / np.log(2.0)
        looked_at += 1
    return total / llr.size, information / looked_at, erased / llr.size, saturated / llr.size
