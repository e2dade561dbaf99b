"""``sscc bench mcs``: the SNR that each modulation-and-coding scheme needs.

Transport blocks of one frame (8192 symbols) over AWGN, with the receiver's demapper and decoder.
The SNR where one block in ten is lost lies between two points of a 0.1 dB grid, found by bisection
and interpolated in the logarithm of the error rate.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from phy.crc import CRC24A
from phy.link_adaptation import bit_information
from phy.mcs import ModulationCodingScheme
from phy.transport_block import TransportBlockCode
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

SYMBOLS = 8192
TARGET = 0.1
_GRID_DB = 0.1
_SPAN_DB = 6.4  # above the capacity of the constellation, at most


@dataclass(frozen=True)
class Requirement:
    """A row of the table.

    Attributes:
        name: of the scheme.
        bits_per_symbol: payload bits per symbol.
        limit_es_n0_db: where the constellation's mutual information is that much, dB.
        es_n0_db: where a transport block in ten is lost, dB.
        gap_db: the difference.
        blocks: transport blocks per SNR.
    """

    name: str
    bits_per_symbol: float
    limit_es_n0_db: float
    es_n0_db: float
    gap_db: float
    blocks: int


def transport_block_code(mcs: ModulationCodingScheme, symbols: int) -> TransportBlockCode:
    """The code of a transport block of so many symbols."""
    coded = symbols * mcs.bits_per_symbol
    return TransportBlockCode(
        int(coded * mcs.code_rate) - CRC24A.degree, coded, mcs.bits_per_symbol
    )


def block_error_rate(
    mcs: ModulationCodingScheme, es_n0_db: float, blocks: int, seed: int, symbols: int = SYMBOLS
) -> float:
    """Share of transport blocks of so many symbols that are lost on AWGN."""
    code = transport_block_code(mcs, symbols)
    variance = 10 ** (-es_n0_db / 10)
    lost = 0
    for number in range(blocks):
        rng = np.random.default_rng([seed, mcs.index, number])
        bits = rng.integers(0, 2, code.payload_bits, dtype=np.uint8)
        noise = rng.standard_normal((2, symbols), dtype=np.float32) * np.float32(
            (variance / 2) ** 0.5
        )
        received = mcs.modulation.map(code.encode(bits)) + noise[0] + 1j * noise[1]
        lost += not code.decode(mcs.modulation.demap(received, variance)).ok
    return lost / blocks


def limit_db(mcs: ModulationCodingScheme) -> float:
    """SNR at which the constellation's bits carry the scheme's payload."""
    grid = np.arange(-25.0, 40.0, 0.01)
    return float(np.interp(mcs.spectral_efficiency, bit_information(mcs.modulation, grid), grid))


def required_es_n0_db(mcs: ModulationCodingScheme, blocks: int, seed: int) -> float:
    """SNR at which one transport block in ten is lost."""
    limit = limit_db(mcs)
    low, high = 0, int(_SPAN_DB / _GRID_DB)  # loses nearly all, nearly none
    rates = {low: 1.0, high: 0.0}
    while high - low > 1:
        middle = (low + high) // 2
        rates[middle] = block_error_rate(mcs, limit + _GRID_DB * middle, blocks, seed)
        if rates[middle] > TARGET:
            low = middle
        else:
            high = middle
    above, below = (np.log(max(rates[i], 0.5 / blocks)) for i in (low, high))
    share = (above - np.log(TARGET)) / (above - below)
    return float(limit + _GRID_DB * (low + share))


def measure(
    schemes: Sequence[ModulationCodingScheme], blocks: int, seed: int, progress: Progress
) -> list[Requirement]:
    """The requirements of some schemes, from the slowest to the fastest.

    Args:
        schemes: which.
        blocks: transport blocks per SNR.
        seed: of bits and noise.
        progress: called with the fraction done.
    """
    rows = []
    for index, mcs in enumerate(sorted(schemes, key=lambda mcs: mcs.spectral_efficiency)):
        limit, needed = limit_db(mcs), required_es_n0_db(mcs, blocks, seed)
        rows.append(
            Requirement(mcs.name, mcs.spectral_efficiency, limit, needed, needed - limit, blocks)
        )
        progress((index + 1) / len(schemes))
    return rows


def table(rows: Sequence[Requirement]) -> Table:
    """The requirements for people."""
    from rich.table import Table

    grid = Table("scheme")
    for heading in ("bit/symbol", "limit dB", "Es/N0 dB", "gap dB"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(
            row.name,
            f"{row.bits_per_symbol:.2f}",
            f"{row.limit_es_n0_db:.2f}",
            f"{row.es_n0_db:.2f}",
            f"{row.gap_db:.2f}",
        )
    return grid
