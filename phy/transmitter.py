"""The transmitter: a message in, frames of baseband symbols out."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from phy.frame import MAX_ROUNDS, ComplexArray
from phy.mcs import ModulationCodingScheme, get_mcs
from phy.message import MessageLayout, block_codec, block_payload, plan_message
from phy.symbol_spaced import SymbolSpaced
from phy.waveform import Waveform


@dataclass(frozen=True)
class TransmitterConfig:
    """Parameters of a transmitter.

    Attributes:
        mcs: name of the modulation-and-coding scheme; see :func:`phy.mcs.mcs_names`.
        depth: most frames per transport block, the depth of the interleaver.
        max_data_symbols: most data symbols per frame.
        waveform: how frames become samples; the receiver needs the same.
    """

    mcs: str = "qpsk-1/2"
    depth: int = 16
    max_data_symbols: int = 8192
    waveform: Waveform = field(default_factory=SymbolSpaced)


class Transmitter:
    """Turns messages into frames of samples."""

    def __init__(self, config: TransmitterConfig | None = None) -> None:
        """Make a transmitter.

        Arguments:
            config: parameters; the defaults of :class:`TransmitterConfig` if not given.

        Raises:
            ValueError: an unknown scheme, or a depth or frame length out of range.
        """
        self.config = config or TransmitterConfig()
        self.mcs: ModulationCodingScheme = get_mcs(self.config.mcs)
        self._modulator = self.config.waveform.modulator()
        self.layout(0)

    def layout(self, message_bytes: int) -> MessageLayout:
        """How a message of this length is cut into blocks and frames.

        Raises:
            MessageLengthError: the message is too long for the rate and depth.
        """
        config = self.config
        return plan_message(message_bytes, self.mcs, config.depth, config.max_data_symbols)

    def channel_uses(self, message_bytes: int) -> int:
        """Channel symbols for a message of this length, all overhead included."""
        layout = self.layout(message_bytes)
        frames = layout.block_count * layout.frame_count
        return frames * self.config.waveform.frame_symbols(layout.data_symbols)

    def send(self, message: bytes, message_id: int = 0) -> Iterator[ComplexArray]:
        """Frames of a message, back to back, in the order of sending.

        Arguments:
            message: up to 2**28 - 1 bytes, fewer at low rates.
            message_id: 0 ... 65535, returned by the receiver.

        Yields:
            The samples of one frame at a time, complex64 of unit mean power. Chunks may be joined
            or cut anywhere before they are sent. After the last frame :meth:`flush` gives what is
            still under way in the pulse-shaping filter.

        Raises:
            MessageLengthError: the message is too long for the rate and depth.
            ValueError: the identifier is out of range (both at once, not with the first frame).
        """
        layout = self.layout(len(message))
        return self._frames(
            message, message_id, layout, dict.fromkeys(range(layout.block_count), 0), 0
        )

    def send_round(
        self, message: bytes, message_id: int, round_number: int, rv: Mapping[int, int]
    ) -> Iterator[ComplexArray]:
        """Frames of some blocks of a message with acknowledgement (:mod:`phy.harq`).

        Arguments:
            message: as for :meth:`send`.
            message_id: 0 ... 65535.
            round_number: 1 in the first round of the message, then ascending, 15 at most.
            rv: redundancy version of each block to be sent, by its index; at least one.

        Yields:
            As :meth:`send`, in the order of the blocks' indices.

        Raises:
            MessageLengthError: the message is too long for the rate and depth.
            ValueError: the identifier, the round, a block or its version is out of range (both at
                once).
        """
        layout = self.layout(len(message))
        if not rv or not 1 <= round_number <= MAX_ROUNDS:
            raise ValueError(f"a round is numbered 1 ... {MAX_ROUNDS} and sends some blocks")
        if not all(0 <= block_index < layout.block_count for block_index in rv):
            raise ValueError(f"blocks are numbered 0 ... {layout.block_count - 1}")
        return self._frames(message, message_id, layout, dict(sorted(rv.items())), round_number)

    def _frames(
        self,
        message: bytes,
        message_id: int,
        layout: MessageLayout,
        rv: Mapping[int, int],
        round_number: int,
    ) -> Iterator[ComplexArray]:
        """Check the arguments now, and make the frames one by one."""
        for version in rv.values():
            layout.header(message_id, 0, 0, version, round_number)
        return self._made_frames(message, message_id, layout, rv, round_number)

    def _made_frames(
        self,
        message: bytes,
        message_id: int,
        layout: MessageLayout,
        rv: Mapping[int, int],
        round_number: int,
    ) -> Iterator[ComplexArray]:
        codec = block_codec(layout)
        last_block = max(rv) if round_number else None
        for block_index, version in rv.items():
            payload = block_payload(message, layout, block_index)
            frames = codec.encode(payload, message_id, block_index, version)
            for frame_index, bits in enumerate(frames):
                header = layout.header(
                    message_id,
                    block_index,
                    frame_index,
                    version,
                    round_number,
                    block_index == last_block,
                )
                yield self._modulator.frame(header, self.mcs.modulation.map(bits))

    def flush(self) -> ComplexArray:
        """The end of the last pulses of what was sent, to be called before a silence."""
        return self._modulator.flush()
