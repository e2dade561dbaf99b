"""Channel coding of a transport block as on the shared channels of 5G NR (TS 38.212, 6.2 and 7.2).

The payload gets a CRC, is cut into code blocks with CRCs of their own, each block is LDPC coded,
matched to the rate and bit-interleaved, and the blocks are put one behind the other (5.5). What
the standard does next, scrambling and modulation, is not part of this module.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import ArrayLike, NDArray

from phy.crc import CRC16, CRC24A, CrcPolynomial, crc_attach, crc_check
from phy.ldpc import MAX_RATE, LdpcCode, LdpcResult, select_base_graph
from phy.segmentation import Segmentation

_LONGEST_WITH_CRC16 = 3824


@dataclass(frozen=True)
class TransportBlockResult:
    """What the receiver makes of a transport block.

    Arguments:
        bits: Decoded payload, shape (A,), uint8; not to be used unless `ok`.
        ok: True only if every CRC holds and the decoder finished on every code block.
        code_block_ok: The same for each code block, shape (C,), bool; for a single block this is
            the transport block's CRC.
        iterations: LDPC iterations of each code block, shape (C,), int32.
    """

    bits: NDArray[np.uint8]
    ok: bool
    code_block_ok: NDArray[np.bool_]
    iterations: NDArray[np.int32]


@dataclass(frozen=True)
class TransportBlockCode:
    """Code for transport blocks of one payload size and one number of code bits.

    Arguments:
        payload_bits: Payload size A in bits, at least 1.
        coded_bits: Code bits G, a multiple of `bits_per_symbol`. Each code block, with its CRCs,
            must stay at or below rate 0.95.
        bits_per_symbol: Modulation order Q_m.
        rate: Code rate R by which the base graph is chosen (6.2.2), in (0, 1); by default
            `payload_bits / coded_bits`.

    Raises:
        ValueError: If a number is outside these limits.

    Examples:
        >>> code = TransportBlockCode(payload_bits=1000, coded_bits=2048, bits_per_symbol=4)
        >>> bits = np.random.default_rng(1).integers(0, 2, 1000, dtype=np.uint8)
        >>> result = code.decode(4.0 * (1 - 2.0 * code.encode(bits)))
        >>> result.ok, bool(np.array_equal(result.bits, bits))
        (True, True)
    """

    payload_bits: int
    coded_bits: int
    bits_per_symbol: int
    rate: float | None = None

    def __post_init__(self) -> None:
        if self.payload_bits < 1:
            raise ValueError(f"payload_bits must be at least 1, not {self.payload_bits}")
        if self.bits_per_symbol < 1 or self.coded_bits % self.bits_per_symbol:
            raise ValueError(
                f"coded_bits = {self.coded_bits} must be a multiple of"
                f" bits_per_symbol = {self.bits_per_symbol} >= 1"
            )
        if self.rate is not None and not 0 < self.rate < 1:
            raise ValueError(f"rate must be between 0 and 1, not {self.rate}")
        if self.coded_bits < 1 or min(self.block_lengths) * MAX_RATE < self.segmentation.block_bits:
            raise ValueError(
                f"{self.coded_bits} code bits are too few for {self.payload_bits} payload bits:"
                f" code blocks with their CRCs must stay at or below rate {MAX_RATE}"
            )

    @property
    def crc(self) -> CrcPolynomial:
        """The transport block's CRC: CRC-16 for payloads of up to 3824 bits, else CRC-24A."""
        return CRC16 if self.payload_bits <= _LONGEST_WITH_CRC16 else CRC24A

    @cached_property
    def segmentation(self) -> Segmentation:
        """Division into code blocks."""
        rate = self.payload_bits / self.coded_bits if self.rate is None else self.rate
        base_graph = select_base_graph(self.payload_bits, rate)
        return Segmentation(self.payload_bits + self.crc.degree, base_graph)

    @cached_property
    def block_lengths(self) -> tuple[int, ...]:
        """Code bits E_r of each code block (5.4.2.1): whole symbols, the longer blocks last."""
        symbols, blocks = self.coded_bits // self.bits_per_symbol, self.segmentation.block_count
        shorter = blocks - symbols % blocks
        return tuple(
            self.bits_per_symbol * (symbols // blocks + (r >= shorter)) for r in range(blocks)
        )

    def encode(self, bits: ArrayLike, rv: int = 0) -> NDArray[np.uint8]:
        """Encodes one transport block.

        Arguments:
            bits: Payload, shape (A,).
            rv: Redundancy version 0 to 3.

        Returns:
            Code bits, shape (G,), uint8.

        Raises:
            ValueError: If the shape, a bit or `rv` is not as stated.
        """
        payload = np.asarray(bits)
        if payload.shape != (self.payload_bits,):
            raise ValueError(f"bits must have shape ({self.payload_bits},), not {payload.shape}")
        blocks = self.segmentation.segment(crc_attach(payload, self.crc))
        return np.concatenate(
            [code.encode(blocks[rows], rv).reshape(-1) for code, rows, _ in self._equal_blocks]
        )

    def decode(
        self, llr: ArrayLike, max_iterations: int = 25, rv: int = 0, threads: int = 1
    ) -> TransportBlockResult:
        """Decodes one transport block.

        Arguments:
            llr: LLRs log p(0)/p(1) of the code bits, natural logarithm, shape (G,). Infinities
                and other large magnitudes are clipped to 10^6.
            max_iterations: LDPC iterations after which a code block is given up, at least 1.
            rv: Redundancy version 0 to 3 with which the block was encoded.
            threads: Threads among which the code blocks are divided; does not change the result.

        Returns:
            Payload, and whether it can be trusted.

        Raises:
            ValueError: If an LLR is NaN, or a shape or number is not as stated.
        """
        received = np.asarray(llr)
        if received.shape != (self.coded_bits,):
            raise ValueError(f"llr must have shape ({self.coded_bits},), not {received.shape}")
        return self._join(
            [
                code.decode(received[sent].reshape(-1, code.n), max_iterations, rv, threads)
                for code, _, sent in self._equal_blocks
            ]
        )

    @property
    def buffer_shape(self) -> tuple[int, int]:
        """Code blocks C, and bits of the circular buffer of each."""
        return self.segmentation.block_count, self._equal_blocks[0][0].buffer_size

    def soft_buffer(
        self, llr: ArrayLike, rv: int = 0, buffer: NDArray[np.float32] | None = None
    ) -> NDArray[np.float32]:
        """Combines the LLRs of a transmission with those of earlier ones of the same block.

        Arguments:
            llr: LLRs log p(0)/p(1) of the code bits, 0 for what was not received, shape (G,).
                Large magnitudes are clipped to 10^6.
            rv: Redundancy version 0 to 3 of this transmission.
            buffer: What earlier calls gave, left as it is; None at the first transmission.

        Returns:
            Sums of LLRs in the code blocks' circular buffers, shape `buffer_shape`, float32.

        Raises:
            ValueError: If an LLR is NaN, or a shape or `rv` is not as stated.
        """
        received = np.asarray(llr)
        if received.shape != (self.coded_bits,):
            raise ValueError(f"llr must have shape ({self.coded_bits},), not {received.shape}")
        if buffer is not None and buffer.shape != self.buffer_shape:
            raise ValueError(f"buffer must have shape {self.buffer_shape}, not {buffer.shape}")
        return np.concatenate(
            [
                code.soft_buffer(
                    received[sent].reshape(-1, code.n), rv, None if buffer is None else buffer[rows]
                )
                for code, rows, sent in self._equal_blocks
            ]
        )

    def decode_buffer(
        self, buffer: NDArray[np.float32], max_iterations: int = 25, threads: int = 1
    ) -> TransportBlockResult:
        """Decodes one transport block from the LLRs of all its transmissions.

        Arguments:
            buffer: What `soft_buffer` gave, shape `buffer_shape`.
            max_iterations: LDPC iterations after which a code block is given up, at least 1.
            threads: Threads among which the code blocks are divided; does not change the result.

        Returns:
            Payload, and whether it can be trusted.

        Raises:
            ValueError: If an LLR is NaN, or a shape or number is not as stated.
        """
        if buffer.shape != self.buffer_shape:
            raise ValueError(f"buffer must have shape {self.buffer_shape}, not {buffer.shape}")
        return self._join(
            [
                code.decode_buffer(buffer[rows], max_iterations, threads)
                for code, rows, _ in self._equal_blocks
            ]
        )

    def _join(self, results: list[LdpcResult]) -> TransportBlockResult:
        """Payload and checks of the decoded code blocks, given in their order."""
        blocks = np.concatenate([result.bits for result in results])
        finished = np.concatenate([result.parity_ok for result in results])
        transport_block, block_crc_ok = self.segmentation.join(blocks)
        transport_crc_ok = bool(crc_check(transport_block, self.crc))
        code_block_ok = finished & block_crc_ok
        if self.segmentation.block_count == 1:
            code_block_ok &= transport_crc_ok
        return TransportBlockResult(
            transport_block[: self.payload_bits],
            transport_crc_ok and bool(code_block_ok.all()),
            code_block_ok,
            np.concatenate([result.iterations for result in results]),
        )

    @cached_property
    def _equal_blocks(self) -> tuple[tuple[LdpcCode, slice, slice], ...]:
        """Code blocks of equal length E_r: their code, their rows, and where they are sent."""
        groups = []
        first, place = 0, 0
        for length in sorted(set(self.block_lengths)):
            count = self.block_lengths.count(length)
            code = LdpcCode(
                self.segmentation.block_bits,
                length,
                self.bits_per_symbol,
                self.segmentation.base_graph,
            )
            sent = slice(place, place + count * length)
            groups.append((code, slice(first, first + count), sent))
            first, place = first + count, place + count * length
        return tuple(groups)
