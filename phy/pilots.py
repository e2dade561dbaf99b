"""Pilot symbols: known QPSK symbols interspersed among the data.

A *section* of a frame (the header, the payload) carries n data symbols. After every
``spacing - 1`` of them comes one pilot, and one closes the section, so that interpolation never
has to reach beyond the last pilot. Sections follow each other without a gap.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from phy.modulation import MODULATIONS
from phy.scrambling import gold_sequence

IntArray = npt.NDArray[np.int64]

_PILOT_SEED = 0x5EED  # c_init of the Gold sequence of pilot values; any value serves


@dataclass(frozen=True)
class PilotPattern:
    """Where pilots lie in a section.

    Attributes:
        spacing: distance between pilots in symbols; one symbol in `spacing` is a pilot. A channel
            of Doppler f_D is sampled without aliasing for f_D < symbol_rate / (2 spacing).
    """

    spacing: int = 32

    def __post_init__(self) -> None:
        if self.spacing < 2:
            raise ValueError("the pilot spacing must be at least 2 symbols")

    def pilot_count(self, data_symbols: int) -> int:
        """Pilots in a section of `data_symbols` data symbols."""
        return -(-data_symbols // (self.spacing - 1))

    def section_length(self, data_symbols: int) -> int:
        """Symbols of a section, data and pilots."""
        return data_symbols + self.pilot_count(data_symbols)

    def data_positions(self, data_symbols: int) -> IntArray:
        """(n,) places of the data symbols within the section."""
        index = np.arange(data_symbols)
        return index + index // (self.spacing - 1)

    def pilot_positions(self, data_symbols: int) -> IntArray:
        """(pilot_count,) places of the pilots within the section."""
        regular = np.arange(1, self.pilot_count(data_symbols) + 1) * self.spacing - 1
        return np.minimum(regular, self.section_length(data_symbols) - 1)


@lru_cache(maxsize=256)
def pilot_symbols(count: int) -> npt.NDArray[np.complex64]:
    """The first `count` pilots of a frame: QPSK symbols of a Gold sequence.

    Returns:
        (count,) complex64 of unit modulus, read-only.
    """
    symbols = MODULATIONS["qpsk"].map(gold_sequence(_PILOT_SEED, 2 * count))
    symbols.setflags(write=False)
    return symbols
