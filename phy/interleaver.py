r"""Interleaver over all bits of a transport block, which spans many frames.

A fade lasts for many symbols, and without retransmission a code word that lies inside it would be
lost. The interleaver therefore spreads every code word evenly over all frames of its block.

The permutation is a coprime stride: coded bit i is sent at position :math:`s\,i \bmod G`, where
s is close to :math:`G/\varphi` (the golden ratio) and coprime to G. By the three-distance theorem
(V. T. Sos, 1958) any run of consecutive coded bits, and so every code block, then covers the whole
block almost uniformly, and no two near bits of a code block are sent near each other.

s is also congruent to 1 modulo Qm. So a bit keeps its place within a QAM label, and the order that
TS 38.212, 5.4.2.2 gives it (systematic bits on the most reliable places) is preserved.
"""

from __future__ import annotations

from math import gcd

import numpy as np
import numpy.typing as npt

_GOLDEN_RATIO = (1 + 5**0.5) / 2


def interleaver_stride(size: int, bits_per_symbol: int) -> int:
    """The stride s: congruent to 1 modulo Qm, coprime to `size`, and nearest to size / 1.618.

    Arguments:
        size: G, the number of coded bits of the block; a multiple of `bits_per_symbol`.
        bits_per_symbol: Qm.

    Returns:
        s, with 1 <= s < max(size, 2).

    Raises:
        ValueError: `size` is not a positive multiple of `bits_per_symbol`.
    """
    if size < 1 or size % bits_per_symbol:
        raise ValueError(f"{size} bits are not a positive multiple of {bits_per_symbol}")
    centre = round((size / _GOLDEN_RATIO - 1) / bits_per_symbol)
    # s = 1 (no interleaving) always qualifies, so the search ends at the latest there.
    for distance in range(centre + 1):
        for step in (centre + distance, centre - distance):
            stride = 1 + step * bits_per_symbol
            if stride < size and gcd(stride, size) == 1:
                return stride
    return 1


class BlockInterleaver:
    """Permutes the coded bits of one transport block.

    Attributes:
        size: G, bits in the block.
        stride: s.
    """

    def __init__(self, size: int, bits_per_symbol: int) -> None:
        """Prepare the permutation; arguments as for :func:`interleaver_stride`."""
        self.size = size
        self.stride = interleaver_stride(size, bits_per_symbol)
        self._position = np.arange(size, dtype=np.int64) * self.stride % size

    def interleave(self, coded: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Coded bits (G,) to sent bits (G,)."""
        sent = np.empty_like(coded)
        sent[self._position] = coded
        return sent

    def deinterleave(self, received: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        """Received LLRs (G,) back to the order of the code."""
        return received[self._position]
