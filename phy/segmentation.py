"""Code block segmentation (TS 38.212, clause 5.2.2).

A transport block with its CRC that is longer than the base graph's longest code block K_cb is cut
into C blocks of equal length, each with a CRC-24B of its own. A block is then filled up with
filler bits to the K = 22 Z or 10 Z bits of the lifted base graph; they are known zeros, which the
LDPC code adds and removes itself, so that the blocks here hold none.

Transport block sizes of the standard always divide into C equal parts. To serve any size, up to
C - 1 zeros are put behind the transport block here; the last block's CRC covers them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from phy.crc import CRC24B, crc_attach, crc_check
from phy.ldpc.base_graph import (
    INFORMATION_COLUMNS,
    MAX_BLOCK_BITS,
    require_base_graph,
    select_lifting_size,
)


@dataclass(frozen=True)
class Segmentation:
    """How a transport block divides into code blocks.

    Arguments:
        transport_bits: Bits B of the transport block, its CRC included, at least 1.
        base_graph: LDPC base graph, 1 or 2.

    Raises:
        ValueError: If `transport_bits` is less than 1 or there is no such base graph.
    """

    transport_bits: int
    base_graph: int

    def __post_init__(self) -> None:
        if self.transport_bits < 1:
            raise ValueError(f"transport_bits must be at least 1, not {self.transport_bits}")
        require_base_graph(self.base_graph)

    @property
    def block_count(self) -> int:
        """Number C of code blocks."""
        longest = MAX_BLOCK_BITS[self.base_graph]
        if self.transport_bits <= longest:
            return 1
        return -(-self.transport_bits // (longest - CRC24B.degree))

    @property
    def crc_bits(self) -> int:
        """Length L of each code block's CRC: 24, or 0 if there is one block only."""
        return CRC24B.degree if self.block_count > 1 else 0

    @property
    def block_bits(self) -> int:
        """Length K' of each code block, its CRC included."""
        return -(-self.transport_bits // self.block_count) + self.crc_bits

    @property
    def padding_bits(self) -> int:
        """Zeros behind the transport block that make the code blocks equally long."""
        return self.block_count * (self.block_bits - self.crc_bits) - self.transport_bits

    @property
    def lifting_size(self) -> int:
        """Lifting size Z of the blocks."""
        return select_lifting_size(self.block_bits, self.base_graph)

    @property
    def filler_bits(self) -> int:
        """Filler bits K - K' that the LDPC code adds to each block."""
        return INFORMATION_COLUMNS[self.base_graph] * self.lifting_size - self.block_bits

    def segment(self, bits: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Cuts a transport block into code blocks.

        Arguments:
            bits: Transport block with its CRC, shape (B,), uint8.

        Returns:
            Code blocks with their CRCs, shape (C, K'), uint8.

        Raises:
            ValueError: If the shape is not (B,) or a bit is not 0 or 1.
        """
        if bits.shape != (self.transport_bits,):
            raise ValueError(f"bits must have shape ({self.transport_bits},), not {bits.shape}")
        blocks = np.pad(bits, (0, self.padding_bits)).reshape(self.block_count, -1)
        return crc_attach(blocks, CRC24B) if self.crc_bits else blocks

    def join(self, blocks: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
        """Puts code blocks together again.

        Arguments:
            blocks: Code blocks with their CRCs, shape (C, K'), uint8.

        Returns:
            The transport block, shape (B,), uint8; and for each block whether its CRC holds,
            shape (C,), bool: always true for a single block, which has no CRC of its own.

        Raises:
            ValueError: If the shape is not (C, K') or a bit is not 0 or 1.
        """
        if blocks.shape != (self.block_count, self.block_bits):
            raise ValueError(
                f"blocks must have shape {(self.block_count, self.block_bits)}, not {blocks.shape}"
            )
        bits = blocks[:, : self.block_bits - self.crc_bits].reshape(-1)[: self.transport_bits]
        if not self.crc_bits:
            return bits, np.ones(1, dtype=np.bool_)
        return bits, crc_check(blocks, CRC24B)
