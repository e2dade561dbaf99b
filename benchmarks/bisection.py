"""The least SNR at which something arrives, draw by draw.

With noise and fading fixed and only their level changed, a block arrives from some Es/N0 on. The
share of draws that need more than a given Es/N0 is the error rate there; so an error rate's Es/N0
is a quantile, and two receivers that are given the same draws can be compared one by one.
"""

from __future__ import annotations

import math
from collections.abc import Callable

_LARGEST_DB = 80.0  # either way


def least_es_n0_db(
    arrives: Callable[[float], bool], guess_db: float, reach_db: float, step_db: float
) -> float:
    """Bisects the Es/N0 from which on something arrives.

    Args:
        arrives: whether it does at an Es/N0 in dB; taken to be false below a limit, true above.
        guess_db: where to begin.
        reach_db: first distance at which the other side of the limit is looked for, then doubled.
        step_db: of the grid on which the limit is given.

    Returns:
        The least multiple of the step at which it arrives, dB; infinite if it does not at 80 dB.
    """
    places: dict[int, bool] = {}

    def at(place: int) -> bool:
        if place not in places:
            places[place] = arrives(place * step_db)
        return places[place]

    low = high = round(guess_db / step_db)
    reach = max(round(reach_db / step_db), 1)
    largest = round(_LARGEST_DB / step_db)
    while not at(high):
        if high == largest:
            return math.inf
        low, high, reach = high, min(high + reach, largest), 2 * reach
    while low == high or at(low):
        if low == -largest:
            return low * step_db
        high, low, reach = low, max(low - reach, -largest), 2 * reach
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if at(middle) else (middle, high)
    return high * step_db
