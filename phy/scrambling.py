"""Scrambling with the length-31 Gold sequence of 3GPP TS 38.211, 5.2.1.

Scrambling makes the transmitted bits look random whatever the payload is, so that every point of
the constellation is used and no payload can imitate the preamble for long.
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

_ADVANCE = 1600  # N_C of TS 38.211, 5.2.1
# Steps taken at once: a divisor of N_C, and at most 28, for the taps reach 3 beyond the oldest bit.
_STRIDE = 25


@numba.njit(cache=True, nogil=True)
def _gold(c_init: int, length: int) -> npt.NDArray[np.uint8]:  # pragma: no cover - compiled
    """Two 31-stage shift registers held in integers, bit i holding x(n + i)."""
    x1 = np.uint64(1)
    x2 = np.uint64(c_init)
    bits = np.empty(length, dtype=np.uint8)
    fresh = np.uint64(2**_STRIDE - 1)
    for n in range(-_ADVANCE, length, _STRIDE):
        if n >= 0:
            word = x1 ^ x2
            for i in range(min(_STRIDE, length - n)):
                bits[n + i] = (word >> np.uint64(i)) & np.uint64(1)
        # x1(n+31) = x1(n+3) + x1(n);  x2(n+31) = x2(n+3) + x2(n+2) + x2(n+1) + x2(n)
        new1 = ((x1 >> np.uint64(3)) ^ x1) & fresh
        new2 = ((x2 >> np.uint64(3)) ^ (x2 >> np.uint64(2)) ^ (x2 >> np.uint64(1)) ^ x2) & fresh
        x1 = (x1 >> np.uint64(_STRIDE)) | (new1 << np.uint64(31 - _STRIDE))
        x2 = (x2 >> np.uint64(_STRIDE)) | (new2 << np.uint64(31 - _STRIDE))
    return bits


def gold_sequence(c_init: int, length: int) -> npt.NDArray[np.uint8]:
    """Pseudo-random sequence c(n) of TS 38.211, 5.2.1.

    Arguments:
        c_init: initial value of the second register, 0 <= c_init < 2**31.
        length: number of bits.

    Returns:
        (length,) uint8 zeros and ones.

    Raises:
        ValueError: `c_init` does not fit in 31 bits, or `length` is negative.
    """
    if not 0 <= c_init < 2**31:
        raise ValueError(f"c_init must be in 0 ... 2**31 - 1, not {c_init}")
    if length < 0:
        raise ValueError("the length must not be negative")
    return _gold(c_init, length)


def scramble(bits: npt.NDArray[np.uint8], c_init: int) -> npt.NDArray[np.uint8]:
    """Add the Gold sequence to bits (TS 38.211, 6.3.1.1); its own inverse.

    Arguments:
        bits: (n,) uint8.
        c_init: see :func:`gold_sequence`.

    Returns:
        (n,) uint8.
    """
    return bits ^ gold_sequence(c_init, bits.size)


def descramble(llr: npt.NDArray[np.float32], c_init: int) -> npt.NDArray[np.float32]:
    """Undo :func:`scramble` on soft values: the LLR changes sign where the sequence is 1.

    Arguments:
        llr: (n,) float32, log p(0) / p(1) of the scrambled bits.
        c_init: see :func:`gold_sequence`.

    Returns:
        (n,) float32, the LLRs of the bits before scrambling.
    """
    return np.where(gold_sequence(c_init, llr.size), -llr, llr)
