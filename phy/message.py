"""Messages: cut into transport blocks and frames at the sender, put together at the receiver.

A message (the bytes of a ``.ddm`` file, say) and its 8-byte BLAKE2b digest are cut into transport
blocks of equal size. A block is encoded (:mod:`phy.transport_block`), interleaved over all its
bits, scrambled, and sent in several frames of equal length, so that it rides out fades that are
short beside the block. At the receiver a lost frame is an erasure, LLR 0: the code fills the
gap if enough of the others came through.

A message either comes back with a matching digest, or with the reason why not: the earliest stage
of :data:`FAILURE_STAGES` that lost something needed.

A message with acknowledgement (:mod:`phy.harq`) is sent in rounds. The soft bits of all
transmissions of a block are added up in the circular buffers of its code (hybrid ARQ with soft
combining), and behind every round the receiver says which blocks are missing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

import numpy as np
import numpy.typing as npt

from phy.crc import CRC24A
from phy.errors import HeaderError
from phy.estimation import ChannelEstimate
from phy.feedback import DIGEST_PREFIX_BYTES, Acknowledgement
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

    def header(
        self,
        message_id: int,
        block_index: int,
        frame_index: int,
        rv: int = 0,
        round_number: int = 0,
        last_block: bool = False,
    ) -> FrameHeader:
        """Header of one frame of the message; the arguments as of :class:`phy.frame.FrameHeader`.

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
            rv=rv,
            round=round_number,
            last_block=int(last_block),
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


def block_payload(message: bytes, layout: MessageLayout, block_index: int) -> BitArray:
    """Payload of a block of a message, (A,) uint8, its share of digest and filling included."""
    size = layout.block_bytes
    start, end = block_index * size, (block_index + 1) * size
    part = message[start:end]
    if end > len(message):
        digest = message_digest(message)
        part += digest[max(start - len(message), 0) : end - len(message)]
    return np.unpackbits(np.frombuffer(part.ljust(size, b"\0"), dtype=np.uint8))


def cut_message(message: bytes, layout: MessageLayout) -> Iterator[BitArray]:
    """Payloads of all blocks of a message; see :func:`block_payload`."""
    for block_index in range(layout.block_count):
        yield block_payload(message, layout, block_index)


class BlockCodec:
    """Channel code, interleaver and scrambler of a transport block in one."""

    def __init__(self, layout: MessageLayout) -> None:
        """Prepare for the blocks of a layout."""
        Qm = layout.mcs.bits_per_symbol
        self._shape = (layout.frame_count, layout.frame_bits)
        self._code = TransportBlockCode(layout.payload_bits, layout.coded_bits, Qm)
        self._interleaver = BlockInterleaver(layout.coded_bits, Qm)

    @staticmethod
    def _scrambling_seed(message_id: int, block_index: int, rv: int) -> int:
        # The fields are 2, 16 and 12 bits wide; the bit between keeps the register from being 0.
        return rv << 29 | 1 << 28 | message_id << 12 | block_index

    def encode(self, payload: BitArray, message_id: int, block_index: int, rv: int = 0) -> BitArray:
        """Payload bits (A,) to the coded bits of the block's frames (frame_count, frame_bits)."""
        sent = self._interleaver.interleave(self._code.encode(payload, rv))
        seed = self._scrambling_seed(message_id, block_index, rv)
        return scramble(sent, seed).reshape(self._shape)

    def decode(
        self, frames: dict[int, LlrArray], message_id: int, block_index: int, max_iterations: int
    ) -> TransportBlockResult:
        """Decode a block from the LLRs (frame_bits,) of the frames that were received."""
        return self._code.decode(
            self._coded_order(frames, message_id, block_index, 0), max_iterations
        )

    def combine(
        self,
        frames: dict[int, LlrArray],
        message_id: int,
        block_index: int,
        rv: int,
        buffer: LlrArray | None = None,
    ) -> LlrArray:
        """Add the LLRs (frame_bits,) of a transmission to those of earlier ones.

        Arguments:
            frames: of the transmission, those that were received.
            message_id: of the message.
            block_index: of the block.
            rv: redundancy version of the transmission.
            buffer: what earlier calls gave, left as it is; None at the first transmission.

        Returns:
            Sums of LLRs in the code's circular buffers, for :meth:`decode_combined`.
        """
        llr = self._coded_order(frames, message_id, block_index, rv)
        return self._code.soft_buffer(llr, rv, buffer)

    def decode_combined(self, buffer: LlrArray, max_iterations: int) -> TransportBlockResult:
        """Decode a block from what :meth:`combine` gave."""
        return self._code.decode_buffer(buffer, max_iterations)

    def _coded_order(
        self, frames: dict[int, LlrArray], message_id: int, block_index: int, rv: int
    ) -> LlrArray:
        """LLRs of the coded bits (G,), 0 in the frames that are not there."""
        received = np.zeros(self._shape, dtype=np.float32)
        for frame_index, llr in frames.items():
            received[frame_index] = llr
        seed = self._scrambling_seed(message_id, block_index, rv)
        return self._interleaver.deinterleave(descramble(received.reshape(-1), seed))


@lru_cache(maxsize=4)
def block_codec(layout: MessageLayout) -> BlockCodec:
    """The codec of a layout; the latest few are kept, since all blocks of a message share one."""
    return BlockCodec(layout)


@dataclass(frozen=True)
class BlockReceived:
    """A transport block was decoded, or tried in vain.

    With acknowledgement, a block that was tried in vain may come again.

    Attributes:
        message_id: the message it belongs to.
        block_index: its place in the message.
        block_count: blocks of the message.
        data: its bytes of the message (without digest and filling); None if decoding failed.
        transmissions: of the block, combined.
        frames_received: of its frames, in the latest transmission.
        frames_expected: frames per block.
        iterations: mean LDPC iterations per code block.
        stage_failed: None, or where it was lost, of :data:`FAILURE_STAGES`.
        frame_samples: absolute indices of the first samples of the frames received.
    """

    message_id: int
    block_index: int
    block_count: int
    data: bytes | None
    transmissions: int
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
        rounds: the latest round of which a frame was heard; 0 without acknowledgement.
        frames_received: frames whose soft bits were used.
        frames_expected: frames of the whole message, sent once.
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
    rounds: int
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


@dataclass(frozen=True)
class FeedbackDue:
    """A round of a message with acknowledgement is over: the sender is to hear what arrived.

    Attributes:
        acknowledgement: what to send.
        sample: absolute index of the end of the round, as far as the receiver can tell.
    """

    acknowledgement: Acknowledgement
    sample: int


MessageEvent = BlockReceived | MessageReceived | FeedbackDue

_MessageKey = tuple[int, MessageLayout]
_Action = Callable[[_MessageKey], list[MessageEvent]]
_Place = tuple[int, int, int]  # round, block, frame: ascending in the order of sending


@dataclass(frozen=True)
class _SoftBlock:
    """What the transmissions of an undecoded block have brought."""

    buffer: LlrArray
    transmissions: int
    received_bits: int


@dataclass
class _PartialMessage:
    """A message on its way in."""

    message_id: int
    layout: MessageLayout
    first_sample: int
    place: _Place  # of the latest frame
    end_sample: int = 0
    feedback_at: int | None = None  # absolute sample
    soft_bits: dict[int, dict[int, LlrArray]] = field(default_factory=dict)  # block, frame
    samples: dict[int, list[int]] = field(default_factory=dict)  # block: where its frames began
    rv: dict[int, int] = field(default_factory=dict)  # of the blocks in soft_bits
    combined: dict[int, _SoftBlock] = field(default_factory=dict)  # of undecoded blocks
    decoded: dict[int, bytes] = field(default_factory=dict)
    lost: dict[int, str] = field(default_factory=dict)  # block: stage
    iterations: list[float] = field(default_factory=list)
    frames: int = 0
    signal_power: float = 0.0
    noise_power: float = 0.0
    error_power: float = 0.0

    @property
    def round(self) -> int:
        return self.place[0]

    def is_closed(self, block_index: int) -> bool:
        return block_index in self.decoded or block_index in self.lost

    def is_decided(self) -> bool:
        decided = len(self.decoded) + (0 if self.round else len(self.lost))
        return decided == self.layout.block_count

    def is_begun_anew_by(self, header: FrameHeader) -> bool:
        if self.round and header.round:
            return _place_of(header) <= self.place
        if self.round or header.round:
            return True
        block = header.block_index
        return self.is_closed(block) or header.frame_index in self.soft_bits.get(block, {})

    def missing_blocks(self) -> tuple[int, ...]:
        return tuple(i for i in range(self.layout.block_count) if i not in self.decoded)


@dataclass
class _ConcludedMessage:
    """A message with acknowledgement, all blocks of which were decoded."""

    digest: bytes | None  # None if it does not match
    place: _Place
    end_sample: int
    feedback_at: int | None


def _place_of(header: FrameHeader) -> _Place:
    return header.round, header.block_index, header.frame_index


def _end_of_round(header: FrameHeader, span: tuple[int, int], blocks_behind: int) -> int:
    """Sample at which the round of a frame must be over, with a frame to spare if it is not yet."""
    frames = header.frame_count - 1 - header.frame_index
    if not header.last_block:
        frames += blocks_behind * header.frame_count
    return span[1] + (frames + 1 if frames else 0) * (span[1] - span[0])


class MessageAssembler:
    """Collects the soft bits of frames into blocks, and blocks into messages.

    Frames are expected in the order of sending, possibly with gaps. A block is decoded when all its
    frames are there, when a frame of a later block of its message arrives, or when its message
    ends. A message ends when all its blocks are decided, when it is sent anew (a frame arrives that
    it already has), after `timeout_samples` without a frame of it, or with the stream.

    In a message with acknowledgement a block is decided only when it is decoded: until then its
    soft bits stay, and those of later transmissions are added. Behind every round, as far as the
    headers tell, a :class:`FeedbackDue` says what is missing. Such a message is sent anew if its
    frames do not ascend in round, block and frame. The last ones that were complete are remembered
    for `timeout_samples`, so that the sender who lost the feedback gets it again, and no message
    is delivered twice.

    Memory is bounded: beyond `max_soft_bits` waiting LLRs the soft bits of the oldest block that
    waits for another transmission are dropped, or else the oldest waiting block is decoded with
    what it has; and beyond `max_messages` the oldest message is ended; all are counted.

    Attributes:
        evicted_blocks: blocks dropped or decided early for lack of room.
        evicted_messages: messages ended early for lack of room.
        repeated_frames: frames of blocks that were decoded before.
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
        self._open: dict[_MessageKey, _PartialMessage] = {}
        self._concluded: dict[_MessageKey, _ConcludedMessage] = {}
        self._soft_bits = 0
        self._header_failures = 0
        self.evicted_blocks = 0
        self.evicted_messages = 0
        self.repeated_frames = 0

    @property
    def waiting_soft_bits(self) -> int:
        """LLRs in memory."""
        return self._soft_bits

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
        key = (header.message_id, layout)
        events = self._begin_anew(key, header)
        concluded = self._concluded.get(key)
        if concluded is not None:
            self.repeated_frames += 1
            concluded.place, concluded.end_sample = _place_of(header), span[1]
            behind = layout.block_count - 1 - header.block_index
            concluded.feedback_at = _end_of_round(header, span, behind)
        else:
            events += self._take_in(key, header, llr, estimate, span)
        return events + (self._give_feedback(key, span[1]) if header.round else [])

    def _begin_anew(self, key: _MessageKey, header: FrameHeader) -> list[MessageEvent]:
        """Conclude what a frame shows to be over: its message, if sent anew, or a round."""
        events: list[MessageEvent] = []
        message = self._open.get(key)
        if message is not None:
            if message.is_begun_anew_by(header):
                events += self._end_message(key)
            elif header.round > message.round:
                events += self._decide_waiting(key)
        concluded = self._concluded.get(key)
        if concluded is not None and (
            concluded.digest is None or _place_of(header) <= concluded.place
        ):
            del self._concluded[key]
        return events

    def _take_in(
        self,
        key: _MessageKey,
        header: FrameHeader,
        llr: LlrArray,
        estimate: ChannelEstimate,
        span: tuple[int, int],
    ) -> list[MessageEvent]:
        """Add a frame to an open or new message."""
        events: list[MessageEvent] = []
        layout, block_index = key[1], header.block_index
        message = self._open.get(key)
        if message is None:
            while len(self._open) >= self._max_messages:
                self.evicted_messages += 1
                events += self._end_message(next(iter(self._open)))
            message = _PartialMessage(header.message_id, layout, span[0], _place_of(header))
            self._open[key] = message

        message.place, message.end_sample = _place_of(header), span[1]
        if message.rv.get(block_index, header.rv) != header.rv:
            events.append(self._decide_block(message, block_index))
        if header.round:
            behind = sum(index > block_index for index in message.missing_blocks())
            message.feedback_at = _end_of_round(header, span, behind)
        if block_index in message.decoded:
            self.repeated_frames += 1
        else:
            message.frames += 1
            message.signal_power += estimate.signal_power
            message.noise_power += estimate.noise_variance
            message.error_power += estimate.evm**2
            message.samples.setdefault(block_index, []).append(span[0])
            message.rv[block_index] = header.rv
            message.soft_bits.setdefault(block_index, {})[header.frame_index] = llr
            self._soft_bits += llr.size

        for earlier in sorted(index for index in message.soft_bits if index < block_index):
            events.append(self._decide_block(message, earlier))
        if len(message.soft_bits.get(block_index, ())) == layout.frame_count:
            events.append(self._decide_block(message, block_index))
        while self._soft_bits > self._max_soft_bits:
            self.evicted_blocks += 1
            events += self._make_room()
        if message.is_decided():
            events += self._end_message(key)
        return events

    def _make_room(self) -> list[MessageEvent]:
        """Drop the oldest block that waits for another transmission, or decide the oldest one."""
        for message in self._open.values():
            if message.combined:
                self._soft_bits -= message.combined.pop(min(message.combined)).buffer.size
                return []
        message = next(partial for partial in self._open.values() if partial.soft_bits)
        return [self._decide_block(message, min(message.soft_bits))]

    def expire(self, now: int) -> list[MessageEvent]:
        """Do what is due at absolute sample `now`, in the order in which it became due.

        Feedback of rounds that must be over, and the end of messages of which nothing was heard for
        long.
        """
        events: list[MessageEvent] = []
        while due := [deadline for deadline in self._deadlines() if deadline[0] <= now]:
            _, key, action = min(due, key=lambda deadline: deadline[0])
            events += action(key)
        return events

    def _deadlines(self) -> Iterator[tuple[int, _MessageKey, _Action]]:
        """Absolute sample, message, and what is to be done then."""
        for key, message in self._open.items():
            yield message.end_sample + self._timeout, key, self._end_message
        for key, concluded in self._concluded.items():
            yield concluded.end_sample + self._timeout, key, self._forget
        for key in (*self._open, *self._concluded):
            feedback_at = self._state(key).feedback_at
            if feedback_at is not None:
                yield feedback_at, key, self._give_feedback

    def flush(self) -> list[MessageEvent]:
        """Give the feedback that is due later, and end all messages: the stream is over."""
        events: list[MessageEvent] = []
        for key in (*self._open, *self._concluded):
            events += self._give_feedback(key)
        for key in list(self._open):
            events += self._end_message(key)
        return events

    def _give_feedback(self, key: _MessageKey, now: int | None = None) -> list[MessageEvent]:
        """Conclude a round and say what is missing, if that is due (by `now`, if given)."""
        at = self._state(key).feedback_at
        if at is None or (now is not None and at > now):
            return []
        events = self._decide_waiting(key)
        state = self._state(key)  # which may be another by now
        state.feedback_at = None
        message_id, layout = key
        prefix = b""
        if isinstance(state, _PartialMessage):
            missing = state.missing_blocks()
        elif state.digest is None:
            missing = tuple(range(layout.block_count))
        else:
            missing, prefix = (), state.digest[:DIGEST_PREFIX_BYTES]
        acknowledgement = Acknowledgement(
            message_id, layout.message_bytes, layout.block_count, state.place[0], missing, prefix
        )
        return [*events, FeedbackDue(acknowledgement, at)]

    def _state(self, key: _MessageKey) -> _PartialMessage | _ConcludedMessage:
        return self._open[key] if key in self._open else self._concluded[key]

    def _forget(self, key: _MessageKey) -> list[MessageEvent]:
        """Forget a complete message."""
        del self._concluded[key]
        return []

    def _decide_waiting(self, key: _MessageKey) -> list[MessageEvent]:
        """Decode all blocks of an open message that wait for frames, and end it if that is all."""
        message = self._open.get(key)
        if message is None:
            return []
        events: list[MessageEvent] = [
            self._decide_block(message, index) for index in sorted(message.soft_bits)
        ]
        return events + (self._end_message(key) if message.is_decided() else [])

    def _stage_of_missing_frames(self) -> str:
        return "header" if self._header_failures else "detection"

    def _decide_block(self, message: _PartialMessage, block_index: int) -> BlockReceived:
        layout, codec = message.layout, block_codec(message.layout)
        frames, rv = message.soft_bits.pop(block_index), message.rv.pop(block_index)
        received_bits = len(frames) * layout.frame_bits
        self._soft_bits -= received_bits
        place = (message.message_id, block_index)
        transmissions = 1
        if message.round:
            earlier = message.combined.pop(block_index, None)
            if earlier is not None:
                transmissions += earlier.transmissions
                received_bits += earlier.received_bits
                self._soft_bits -= earlier.buffer.size
            buffer = codec.combine(frames, *place, rv, None if earlier is None else earlier.buffer)
            result = codec.decode_combined(buffer, self._max_iterations)
            if not result.ok:
                message.combined[block_index] = _SoftBlock(buffer, transmissions, received_bits)
                self._soft_bits += buffer.size
        else:
            result = codec.decode(frames, *place, self._max_iterations)
        iterations = float(np.mean(result.iterations))
        message.iterations.append(iterations)
        data, stage = None, None
        if result.ok:
            payload = np.packbits(result.bits).tobytes()
            message.decoded[block_index] = payload
            message.lost.pop(block_index, None)
            data = payload[: max(layout.message_bytes - block_index * layout.block_bytes, 0)]
        else:
            # With fewer coded bits than payload bits no decoder could have succeeded.
            decodable = received_bits >= layout.payload_bits
            stage = "ldpc" if decodable else self._stage_of_missing_frames()
            message.lost[block_index] = stage
        # A transmission that comes on top makes use of the frames of those before.
        samples = tuple(message.samples[block_index])
        if result.ok or not message.round:
            del message.samples[block_index]
        return BlockReceived(
            message_id=message.message_id,
            block_index=block_index,
            block_count=layout.block_count,
            data=data,
            transmissions=transmissions,
            frames_received=len(frames),
            frames_expected=layout.frame_count,
            iterations=iterations,
            stage_failed=stage,
            frame_samples=samples,
        )

    def _end_message(self, key: tuple[int, MessageLayout]) -> list[MessageEvent]:
        message = self._open.pop(key)
        layout = message.layout
        events: list[MessageEvent] = [
            self._decide_block(message, index) for index in sorted(message.soft_bits)
        ]
        self._soft_bits -= sum(block.buffer.size for block in message.combined.values())
        missing = message.missing_blocks()
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
            if message.round:
                self._conclude(key, message, None if data is None else sent_digest)
        self._header_failures = 0
        events.append(
            MessageReceived(
                message_id=message.message_id,
                mcs=layout.mcs.name,
                message_bytes=layout.message_bytes,
                data=data,
                block_count=layout.block_count,
                missing_blocks=missing,
                rounds=message.round,
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

    def _conclude(self, key: _MessageKey, message: _PartialMessage, digest: bytes | None) -> None:
        """Remember a message with acknowledgement whose blocks are all decoded."""
        while len(self._concluded) >= self._max_messages:
            del self._concluded[next(iter(self._concluded))]
        self._concluded[key] = _ConcludedMessage(
            digest, message.place, message.end_sample, message.feedback_at
        )
