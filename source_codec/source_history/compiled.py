"""What compiled code needs to know of numbers."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def signed(value: np.uint8 | np.int32) -> int:
    """A number out of an array of few bits as one that may be subtracted, shifted and multiplied.

    In compiled code even ``int`` leaves it as it is, and what does not fit wraps around.
    """
    return np.int64(value)  # type: ignore[return-value]
