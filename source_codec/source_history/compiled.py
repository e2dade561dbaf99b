"""What compiled code needs to know of numbers."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True)
def signed(value: np.uint8) -> int:
    """A number out of a uint8 array as one that may be subtracted from another.

    In compiled code even ``int`` leaves it unsigned, and differences below zero wrap around.
    """
    return np.int64(value)  # type: ignore[return-value]
