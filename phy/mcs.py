"""Modulation-and-coding schemes: which constellation with which code rate.

The index of a scheme is sent in the frame header (6 bits), so it never changes once given. The
table leaves gaps after each constellation for rates that come later.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from phy.modulation import MODULATIONS, Modulation

MCS_INDEX_BITS = 6


@dataclass(frozen=True)
class ModulationCodingScheme:
    """A named pair of constellation and code rate.

    Attributes:
        index: place in the table, as sent in the header.
        modulation: the constellation.
        code_rate: payload bits per coded bit.
    """

    index: int
    modulation: Modulation
    code_rate: Fraction

    @property
    def name(self) -> str:
        """For example "qpsk-1/2"."""
        return f"{self.modulation.name}-{self.code_rate}"

    @property
    def bits_per_symbol(self) -> int:
        """Qm, coded bits per symbol."""
        return self.modulation.bits_per_symbol

    @property
    def spectral_efficiency(self) -> float:
        """Payload bits per data symbol."""
        return float(self.code_rate * self.bits_per_symbol)


_RATES: dict[str, tuple[int, tuple[str, ...]]] = {
    # constellation: (first index, code rates)
    "bpsk": (0, ("1/3", "1/2", "2/3")),
    "qpsk": (8, ("1/3", "1/2", "2/3", "3/4", "5/6")),
    "16qam": (16, ("1/2", "2/3", "3/4", "5/6")),
    "64qam": (24, ("2/3", "3/4", "5/6", "9/10")),
    "256qam": (32, ("3/4", "5/6", "9/10")),
}

MCS_TABLE: dict[int, ModulationCodingScheme] = {
    first + offset: ModulationCodingScheme(first + offset, MODULATIONS[name], Fraction(rate))
    for name, (first, rates) in _RATES.items()
    for offset, rate in enumerate(rates)
}
"""All schemes by header index."""

_BY_NAME = {mcs.name: mcs for mcs in MCS_TABLE.values()}


def mcs_names() -> tuple[str, ...]:
    """The names of all schemes, from the most robust constellation to the densest."""
    return tuple(_BY_NAME)


def get_mcs(name: str) -> ModulationCodingScheme:
    """The scheme of a name such as "16qam-3/4".

    Raises:
        ValueError: no such scheme; the message lists the names.
    """
    try:
        return _BY_NAME[name.lower()]
    except KeyError:
        raise ValueError(f"unknown MCS {name!r}; choose one of {', '.join(_BY_NAME)}") from None
