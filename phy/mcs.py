"""Modulation-and-coding schemes: which constellation with which code rate.

The index of a scheme is sent in the frame header (6 bits), so it never changes once given. The
table leaves gaps after each constellation for rates that come later.

Each scheme's SNR is measured (``sscc bench mcs``): a transport block of one frame, 8192 symbols, on
AWGN with the receiver's own decoder. :mod:`phy.link_adaptation` chooses by it.
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
        es_n0_db: SNR on AWGN at which one transport block of a frame in ten is lost, dB.
    """

    index: int
    modulation: Modulation
    code_rate: Fraction
    es_n0_db: float

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


_RATES: dict[str, tuple[int, dict[str, float]]] = {
    # constellation: (first index, code rates with their Es/N0 in dB)
    "bpsk": (0, {"1/3": -4.5, "1/2": -2.2, "2/3": -0.1, "1/5": -7.0}),
    "qpsk": (8, {"1/3": -1.6, "1/2": 0.8, "2/3": 3.0, "3/4": 4.0, "5/6": 5.1}),
    "16qam": (16, {"1/2": 6.2, "2/3": 8.7, "3/4": 10.0, "5/6": 11.4}),
    "64qam": (24, {"2/3": 13.6, "3/4": 15.2, "5/6": 16.9, "9/10": 18.6}),
    "256qam": (32, {"3/4": 20.2, "5/6": 22.3, "9/10": 24.2, "23/25": 24.8}),
}

MCS_TABLE: dict[int, ModulationCodingScheme] = {
    first + offset: ModulationCodingScheme(
        first + offset, MODULATIONS[name], Fraction(rate), es_n0_db
    )
    for name, (first, rates) in _RATES.items()
    for offset, (rate, es_n0_db) in enumerate(rates.items())
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
