"""The transmitter: a message in, frames of baseband symbols out."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from phy.frame import ComplexArray
from phy.mcs import ModulationCodingScheme, get_mcs
from phy.message import MessageLayout, block_codec, cut_message, plan_message
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
        layout.header(message_id, 0, 0)
        return self._frames(message, message_id, layout)

    def _frames(
        self, message: bytes, message_id: int, layout: MessageLayout
    ) -> Iterator[ComplexArray]:
        codec = block_codec(layout)
        for block_index, payload in enumerate(cut_message(message, layout)):
            for frame_index, bits in enumerate(codec.encode(payload, message_id, block_index)):
                header = layout.header(message_id, block_index, frame_index)
                symbols = self.mcs.modulation.map(bits)
                yield self._modulator.frame(header, symbols)

    def flush(self) -> ComplexArray:
        """The end of the last pulses of what was sent, to be called before a silence."""
        return self._modulator.flush()
