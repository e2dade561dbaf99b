"""Messages: cut into transport blocks and frames at the sender, put together at the receiver.

A message (the bytes of a ``.ddm`` file, say) and its 8-byte BLAKE2b digest are cut into transport
blocks of equal size. A block is encoded (:mod:`phy.transport_block`), interleaved over all its
bits, scrambled, and sent in several frames of equal length, so that it rides out fades that are
short beside the block. At the receiver a lost frame is an erasure, LLR 0: the code fills the
gap if enough of the others came through.

A message either comes back with a matching digest, or with the reason why not: the earliest stage
of :data:`FAILURE_STAGES` that lost something needed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from phy.crc import CRC24A
from phy.errors import HeaderError
from phy.estimation import ChannelEstimate
from phy.frame import (
    MAX_BLOCKS,
    MAX_DATA_SYMBOLS,
    MAX_FRAMES_PER_BLOCK,
    MAX_MESSAGE_BYTES,
    BitArray,
    FrameHeader,
)
from phy.interleaver import BlockInterleaver
from phy.mcs import ModulationCodingScheme
from phy.scrambling import descramble, scramble
from phy.transport_block import TransportBlockCode, TransportBlockResult

DIGEST_BYTES = 8

FAILURE_STAGES = ("detection", "header", "ldpc", "digest")
"""Where a message can be lost, in the order of reception: frames not seen, frames seen but not
understood, transport blocks whose CRC fails, and a wrong digest of the whole."""

LlrArray = npt.NDArray[np.float32]


class MessageLengthError(ValueError):
    """A message that cannot be sent at the given rate and depth; another choice may carry it."""


def message_digest(message: bytes) -> bytes:
    """The 8 bytes that travel with a message and prove it exact."""
    return blake2b(message, digest_size=DIGEST_BYTES).digest()


@dataclass(frozen=True)
class MessageLayout:
    """How a message is cut. Made by :func:`plan_message` or read by :meth:`from_header`.

    Attributes:
        mcs: modulation-and-coding scheme of the payload.
        message_bytes: length of the message without its digest.
        block_count: transport blocks.
        frame_count: frames per transport block.
        data_symbols: D, data symbols per frame.
    """

    mcs: ModulationCodingScheme
    message_bytes: int
    block_count: int
    frame_count: int
    data_symbols: int

    @property
    def block_bytes(self) -> int:
        """Payload bytes per block: equal parts of message and digest, the last filled with 0."""
        return -(-(self.message_bytes + DIGEST_BYTES) // self.block_count)

    @property
    def payload_bits(self) -> int:
        """A, payload bits of a transport block."""
        return 8 * self.block_bytes

    @property
    def frame_bits(self) -> int:
        """Coded bits per frame."""
        return self.data_symbols * self.mcs.bits_per_symbol

    @property
    def coded_bits(self) -> int:
        """G, coded bits of a transport block."""
        return self.frame_count * self.frame_bits

    def header(self, message_id: int, block_index: int, frame_index: int) -> FrameHeader:
        """Header of one frame of the message.

        Raises:
            ValueError: an identifier or index outside its range.
        """
        return FrameHeader(
            mcs_index=self.mcs.index,
            message_id=message_id,
            message_bytes=self.message_bytes,
            block_index=block_index,
            block_count=self.block_count,
            frame_index=frame_index,
            frame_count=self.frame_count,
            data_symbols=self.data_symbols,
        )

    @classmethod
    def from_header(cls, header: FrameHeader) -> MessageLayout:
        """The layout that a received header describes.

        Raises:
            HeaderError: no sender cuts a message like this: blocks without a byte of their own, or
                a number of symbols that the code rate does not give.
        """
        layout = cls(
            header.mcs,
            header.message_bytes,
            header.block_count,
            header.frame_count,
            header.data_symbols,
        )
        total = layout.message_bytes + DIGEST_BYTES
        if (layout.block_count - 1) * layout.block_bytes >= total:
            raise HeaderError(f"{total} bytes do not fill {layout.block_count} blocks")
        expected = -(-_block_symbols(layout.block_bytes, layout.mcs) // layout.frame_count)
        if layout.data_symbols != expected:
            raise HeaderError(
                f"{layout.data_symbols} data symbols per frame where {expected} are needed"
            )
        return layout


def _block_symbols(block_bytes: int, mcs: ModulationCodingScheme) -> int:
    """Data symbols of a transport block at the nominal code rate, counting its CRC as payload."""
    return int(-(-(8 * block_bytes + CRC24A.degree) // (mcs.code_rate * mcs.bits_per_symbol)))


def plan_message(
    message_bytes: int,
    mcs: ModulationCodingScheme,
    depth: int = 16,
    max_data_symbols: int = 8192,
) -> MessageLayout:
    """Cut a message into as few blocks as `depth` frames allow, all of the same size.

    Arguments:
        message_bytes: length of the message.
        mcs: modulation-and-coding scheme.
        depth: most frames that a transport block may span: the interleaver's depth. 16 frames of
            8192 symbols last about 150 ms at 1 Msymbol/s, many coherence times at 50 Hz.
        max_data_symbols: most data symbols in a frame.

    Returns:
        The layout. A short message is a single, short frame.

    Raises:
        MessageLengthError: a message beyond what the header can describe at this rate and depth.
        ValueError: a negative length, or a depth or frame beyond what the header can describe.
    """
    if not 1 <= depth <= MAX_FRAMES_PER_BLOCK:
        raise ValueError(f"the depth must be 1 ... {MAX_FRAMES_PER_BLOCK} frames, not {depth}")
    if not 64 <= max_data_symbols <= MAX_DATA_SYMBOLS:
        raise ValueError(f"a frame has 64 ... {MAX_DATA_SYMBOLS} data symbols at most")
    if message_bytes < 0:
        raise ValueError(f"a message cannot have {message_bytes} bytes")
    if message_bytes > MAX_MESSAGE_BYTES:
        raise MessageLengthError(
            f"a message has at most {MAX_MESSAGE_BYTES} bytes, not {message_bytes}"
        )
    bits = int(depth * max_data_symbols * mcs.code_rate * mcs.bits_per_symbol) - CRC24A.degree
    if bits < 8:
        raise ValueError("the frames are too short for this code rate")
    total = message_bytes + DIGEST_BYTES
    block_count = -(-total // (bits // 8))
    if block_count > MAX_BLOCKS:
        raise MessageLengthError(
            f"{message_bytes} bytes need {block_count} blocks of {depth} frames at {mcs.name}; "
            f"at most {MAX_BLOCKS} can be numbered: choose a higher rate or a greater depth"
        )
    symbols = _block_symbols(-(-total // block_count), mcs)
    frame_count = -(-symbols // max_data_symbols)
    return MessageLayout(
        mcs, message_bytes, block_count, frame_count, data_symbols=-(-symbols // frame_count)
    )


def cut_message(message: bytes, layout: MessageLayout) -> Iterator[BitArray]:
    """Payloads of the blocks of a message, each (A,) uint8, digest and filling included."""
    data = message + message_digest(message)
    size = layout.block_bytes
    for index in range(layout.block_count):
        part = data[index * size : (index + 1) * size].ljust(size, b"\0")
        yield np.unpackbits(np.frombuffer(part, dtype=np.uint8))


class BlockCodec:
    """Channel code, interleaver and scrambler of a transport block in one."""

    def __init__(self, layout: MessageLayout) -> None:
        """Prepare for the blocks of a layout."""
        Qm = layout.mcs.bits_per_symbol
        self._shape = (layout.frame_count, layout.frame_bits)
        self._code = TransportBlockCode(layout.payload_bits, layout.coded_bits, Qm)
        self._interleaver = BlockInterleaver(layout.coded_bits, Qm)

    @staticmethod
    def _scrambling_seed(message_id: int, block_index: int) -> int:
        # The two fields are 16 and 12 bits wide; the bit above keeps the register from being 0.
        return 1 << 28 | message_id << 12 | block_index

    def encode(self, payload: BitArray, message_id: int, block_index: int) -> BitArray:
        """Payload bits (A,) to the coded bits of the block's frames (frame_count, frame_bits)."""
        sent = self._interleaver.interleave(self._code.encode(payload))
        return scramble(sent, self._scrambling_seed(message_id, block_index)).reshape(self._shape)

    def decode(
        self, frames: dict[int, LlrArray], message_id: int, block_index: int, max_iterations: int
    ) -> TransportBlockResult:
        """Decode a block from the LLRs (frame_bits,) of the frames that were received."""
        received = np.zeros(self._shape, dtype=np.float32)
        for frame_index, llr in frames.items():
            received[frame_index] = llr
        llr = descramble(received.reshape(-1), self._scrambling_seed(message_id, block_index))
        return self._code.decode(self._interleaver.deinterleave(llr), max_iterations)


@lru_cache(maxsize=4)
def block_codec(layout: MessageLayout) -> BlockCodec:
    """The codec of a layout; the latest few are kept, since all blocks of a message share one."""
    return BlockCodec(layout)


@dataclass(frozen=True)
class BlockReceived:
    """A transport block was decoded, or given up.

    Attributes:
        message_id: the message it belongs to.
        block_index: its place in the message.
        block_count: blocks of the message.
        data: its bytes of the message (without digest and filling); None if decoding failed.
        frames_received: of its frames.
        frames_expected: frames per block.
        iterations: mean LDPC iterations per code block.
        stage_failed: None, or where it was lost, of :data:`FAILURE_STAGES`.
        frame_samples: absolute indices of the first samples of the frames received.
    """

    message_id: int
    block_index: int
    block_count: int
    data: bytes | None
    frames_received: int
    frames_expected: int
    iterations: float
    stage_failed: str | None
    frame_samples: tuple[int, ...] = ()


@dataclass(frozen=True)
class MessageReceived:
    """The reception of a message has ended.

    Attributes:
        message_id: as the sender gave it.
        mcs: name of the modulation-and-coding scheme.
        message_bytes: its length, as its headers say.
        data: the message, exact by its digest; None if it is not complete.
        block_count: transport blocks of the message.
        missing_blocks: those that were not received or not decoded.
        frames_received: frames whose soft bits were used.
        frames_expected: frames of the whole message.
        iterations: mean LDPC iterations per code block, over the blocks that were tried.
        stage_failed: None, or the earliest stage of :data:`FAILURE_STAGES` that lost a block.
        snr_db: mean estimated signal power over mean noise variance, dB.
        evm_db: error vector magnitude of the known symbols, RMS over the frames, dB.
        first_sample: absolute index of the first received frame.
        end_sample: absolute index behind the last received frame.
    """

    message_id: int
    mcs: str
    message_bytes: int
    data: bytes | None
    block_count: int
    missing_blocks: tuple[int, ...]
    frames_received: int
    frames_expected: int
    iterations: float
    stage_failed: str | None
    snr_db: float
    evm_db: float
    first_sample: int
    end_sample: int

    @property
    def block_errors(self) -> int:
        """Number of missing blocks."""
        return len(self.missing_blocks)


MessageEvent = BlockReceived | MessageReceived


@dataclass
class _PartialMessage:
    """A message on its way in."""

    message_id: int
    layout: MessageLayout
    first_sample: int
    end_sample: int = 0
    soft_bits: dict[int, dict[int, LlrArray]] = field(default_factory=dict)  # block, frame
    samples: dict[int, list[int]] = field(default_factory=dict)  # block: where its frames began
    decoded: dict[int, bytes] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)  # block: stage
    iterations: list[float] = field(default_factory=list)
    frames: int = 0
    signal_power: float = 0.0
    noise_power: float = 0.0
    error_power: float = 0.0

    def is_closed(self, block_index: int) -> bool:
        return block_index in self.decoded or block_index in self.lost


class MessageAssembler:
    """Collects the soft bits of frames into blocks, and blocks into messages.

    Frames are expected in the order of sending, possibly with gaps. A block is decoded when all its
    frames are there, when a frame of a later block of its message arrives, or when its message
    ends. A message ends when all its blocks are decided, when it is sent anew (a frame arrives that
    it already has), after `timeout_samples` without a frame of it, or with the stream.

    Memory is bounded: beyond `max_soft_bits` waiting LLRs the oldest waiting block is decoded with
    what it has, and beyond `max_messages` the oldest message is ended; both are counted.

    Attributes:
        evicted_blocks: blocks decided early for lack of room.
        evicted_messages: messages ended early for lack of room.
    """

    def __init__(
        self,
        max_iterations: int = 25,
        timeout_samples: int = 2**20,
        max_soft_bits: int = 2**24,
        max_messages: int = 8,
    ) -> None:
        """Set the bounds.

        Arguments:
            max_iterations: LDPC iterations per code block.
            timeout_samples: silence after which a message is given up.
            max_soft_bits: LLRs (4 bytes each) that may wait at the same time.
            max_messages: messages that may be on their way at the same time.

        Raises:
            ValueError: a bound that is not positive.
        """
        if min(max_iterations, timeout_samples, max_soft_bits, max_messages) < 1:
            raise ValueError("iterations, timeout and memory bounds must be positive")
        self._max_iterations = max_iterations
        self._timeout = timeout_samples
        self._max_soft_bits = max_soft_bits
        self._max_messages = max_messages
        self._open: dict[tuple[int, MessageLayout], _PartialMessage] = {}
        self._soft_bits = 0
        self._header_failures = 0
        self.evicted_blocks = 0
        self.evicted_messages = 0

    def header_failed(self) -> None:
        """Note that a frame was detected whose header could not be read."""
        self._header_failures += 1

    def add_frame(
        self,
        header: FrameHeader,
        layout: MessageLayout,
        llr: LlrArray,
        estimate: ChannelEstimate,
        span: tuple[int, int],
    ) -> list[MessageEvent]:
        """Take in a received frame.

        Arguments:
            header: its header.
            layout: the header's layout.
            llr: (frame_bits,) float32.
            estimate: its channel estimate, for the statistics.
            span: absolute indices of its first sample and of the one behind its last.

        Returns:
            What was decided by it.
        """
        events: list[MessageEvent] = []
        key = (header.message_id, layout)
        message = self._open.get(key)
        if message is not None and (
            message.is_closed(header.block_index)
            or header.frame_index in message.soft_bits.get(header.block_index, {})
        ):
            events += self._end_message(key)
            message = None
        if message is None:
            while len(self._open) >= self._max_messages:
                self.evicted_messages += 1
                events += self._end_message(next(iter(self._open)))
            message = self._open[key] = _PartialMessage(header.message_id, layout, span[0])

        message.end_sample = span[1]
        message.frames += 1
        message.signal_power += estimate.signal_power
        message.noise_power += estimate.noise_variance
        message.error_power += estimate.evm**2
        block = message.soft_bits.setdefault(header.block_index, {})
        block[header.frame_index] = llr
        message.samples.setdefault(header.block_index, []).append(span[0])
        self._soft_bits += llr.size

        for earlier in sorted(index for index in message.soft_bits if index < header.block_index):
            events.append(self._decide_block(message, earlier))
        if len(block) == layout.frame_count:
            events.append(self._decide_block(message, header.block_index))
        while self._soft_bits > self._max_soft_bits:
            oldest = next(partial for partial in self._open.values() if partial.soft_bits)
            self.evicted_blocks += 1
            events.append(self._decide_block(oldest, min(oldest.soft_bits)))
        if len(message.decoded) + len(message.lost) == layout.block_count:
            events += self._end_message(key)
        return events

    def expire(self, now: int) -> list[MessageEvent]:
        """End the messages of which nothing was heard for long before absolute sample `now`."""
        late = [key for key, msg in self._open.items() if msg.end_sample + self._timeout <= now]
        late.sort(key=lambda key: self._open[key].end_sample)
        return [event for key in late for event in self._end_message(key)]

    def flush(self) -> list[MessageEvent]:
        """End all messages: the stream is over."""
        return [event for key in list(self._open) for event in self._end_message(key)]

    def _stage_of_missing_frames(self) -> str:
        return "header" if self._header_failures else "detection"

    def _decide_block(self, message: _PartialMessage, block_index: int) -> BlockReceived:
        layout = message.layout
        frames = message.soft_bits.pop(block_index)
        self._soft_bits -= len(frames) * layout.frame_bits
        result = block_codec(layout).decode(
            frames, message.message_id, block_index, self._max_iterations
        )
        iterations = float(np.mean(result.iterations))
        message.iterations.append(iterations)
        data, stage = None, None
        if result.ok:
            payload = np.packbits(result.bits).tobytes()
            message.decoded[block_index] = payload
            data = payload[: max(layout.message_bytes - block_index * layout.block_bytes, 0)]
        else:
            # With fewer coded bits than payload bits no decoder could have succeeded.
            decodable = len(frames) * layout.frame_bits >= layout.payload_bits
            stage = "ldpc" if decodable else self._stage_of_missing_frames()
            message.lost[block_index] = stage
        return BlockReceived(
            message_id=message.message_id,
            block_index=block_index,
            block_count=layout.block_count,
            data=data,
            frames_received=len(frames),
            frames_expected=layout.frame_count,
            iterations=iterations,
            stage_failed=stage,
            frame_samples=tuple(message.samples.pop(block_index)),
        )

    def _end_message(self, key: tuple[int, MessageLayout]) -> list[MessageEvent]:
        message = self._open.pop(key)
        layout = message.layout
        events: list[MessageEvent] = [
            self._decide_block(message, index) for index in sorted(message.soft_bits)
        ]
        missing = tuple(
            index for index in range(layout.block_count) if index not in message.decoded
        )
        data, stage = None, None
        if missing:
            stages = set(message.lost.values())
            if len(message.lost) < len(missing):  # blocks of which no frame came
                stages.add(self._stage_of_missing_frames())
            stage = min(stages, key=FAILURE_STAGES.index)
        else:
            joined = b"".join(message.decoded[index] for index in range(layout.block_count))
            data = joined[: layout.message_bytes]
            sent_digest = joined[layout.message_bytes : layout.message_bytes + DIGEST_BYTES]
            if message_digest(data) != sent_digest:
                data, stage = None, "digest"
        self._header_failures = 0
        events.append(
            MessageReceived(
                message_id=message.message_id,
                mcs=layout.mcs.name,
                message_bytes=layout.message_bytes,
                data=data,
                block_count=layout.block_count,
                missing_blocks=missing,
                frames_received=message.frames,
                frames_expected=layout.block_count * layout.frame_count,
                iterations=float(np.mean(message.iterations)),
                stage_failed=stage,
                snr_db=float(10 * np.log10(message.signal_power / message.noise_power)),
                evm_db=float(10 * np.log10(message.error_power / message.frames)),
                first_sample=message.first_sample,
                end_sample=message.end_sample,
            )
        )
        return events
