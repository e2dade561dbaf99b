"""The frame: preamble, strongly coded header, payload with pilots.

::

    | preamble | header section              | payload section                    |
    | 2 chirps | 800 QPSK symbols + pilots   | D data symbols + pilots            |

- The **preamble** is an up-chirp and a down-chirp (:mod:`phy.preamble`), which give time and
  carrier offset.
- The **header** says all that is needed to use the payload. Its 112 bits and a CRC-24C are coded
  with the LDPC base graph 2 at rate 0.085 and sent as QPSK: 0.17 bit per symbol, which decodes
  some 2.5 dB below BPSK at rate 1/3, the most robust payload.
- The **payload** is D symbols of one transport block; see :mod:`phy.message`.

All symbols have unit mean energy.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache, lru_cache

import numpy as np
import numpy.typing as npt

from phy.crc import CRC24C, crc_attach, crc_check
from phy.errors import HeaderError
from phy.ldpc import LdpcCode
from phy.mcs import MCS_INDEX_BITS, MCS_TABLE, ModulationCodingScheme
from phy.modulation import MODULATIONS
from phy.pilots import IntArray, PilotPattern, pilot_symbols
from phy.preamble import chirp_pair, up_chirp
from phy.scrambling import descramble, scramble

ComplexArray = npt.NDArray[np.complex64]
BitArray = npt.NDArray[np.uint8]

HEADER_VERSION = 1
HEADER_CODED_BITS = 1600
HEADER_MODULATION = MODULATIONS["qpsk"]
HEADER_SYMBOLS = HEADER_CODED_BITS // HEADER_MODULATION.bits_per_symbol

_HEADER_SEED = 0x4EAD  # c_init of the header's scrambling
_HEADER_ITERATIONS = 40

# Fields in the order of transmission, each with its width and what is subtracted before sending.
_FIELDS: dict[str, tuple[int, int]] = {
    "version": (4, 0),
    "mcs_index": (MCS_INDEX_BITS, 0),
    "message_id": (16, 0),
    "message_bytes": (28, 0),
    "block_index": (12, 0),
    "block_count": (12, 1),
    "frame_index": (6, 0),
    "frame_count": (6, 1),
    "data_symbols": (14, 1),
    "rv": (2, 0),
    "round": (4, 0),
    "last_block": (1, 0),
    "reserved": (1, 0),
}
_HEADER_BITS = sum(width for width, _ in _FIELDS.values())

MAX_MESSAGE_BYTES = 2 ** _FIELDS["message_bytes"][0] - 1
MAX_BLOCKS = 2 ** _FIELDS["block_count"][0]
MAX_FRAMES_PER_BLOCK = 2 ** _FIELDS["frame_count"][0]
MAX_ROUNDS = 2 ** _FIELDS["round"][0] - 1
MAX_DATA_SYMBOLS = 2 ** _FIELDS["data_symbols"][0]


@dataclass(frozen=True)
class FrameHeader:
    """What a frame says about itself.

    Attributes:
        mcs_index: modulation-and-coding scheme, a key of :data:`phy.mcs.MCS_TABLE`.
        message_id: 16-bit name of the message (image) that the frame belongs to.
        message_bytes: length of the message, without its digest.
        block_index: transport block within the message.
        block_count: transport blocks of the message.
        frame_index: frame within the transport block.
        frame_count: frames per transport block.
        data_symbols: D, data symbols of this frame (the same in all frames of a message).
        rv: redundancy version of the transport block, see :mod:`phy.ldpc.rate_matching`.
        round: 1, 2, ... number the transmissions of a message with acknowledgement, see
            :mod:`phy.harq`; 0: it is sent once, and not acknowledged.
        last_block: 1 in the frames of a round's last transport block: feedback is due behind it.
        version: of the frame format.
        reserved: zero.
    """

    mcs_index: int
    message_id: int
    message_bytes: int
    block_index: int
    block_count: int
    frame_index: int
    frame_count: int
    data_symbols: int
    rv: int = 0
    round: int = 0
    last_block: int = 0
    version: int = HEADER_VERSION
    reserved: int = 0

    def __post_init__(self) -> None:
        for name, (width, offset) in _FIELDS.items():
            value = getattr(self, name)
            if not offset <= value < 2**width + offset:
                raise ValueError(
                    f"header field {name} = {value} is outside {offset} ... {2**width + offset - 1}"
                )

    @property
    def mcs(self) -> ModulationCodingScheme:
        """The scheme that `mcs_index` names."""
        return MCS_TABLE[self.mcs_index]

    def to_bits(self) -> BitArray:
        """(112,) uint8, fields in order, most significant bit first."""
        number = 0
        for name, (width, offset) in _FIELDS.items():
            number = number << width | (getattr(self, name) - offset)
        octets = np.frombuffer(number.to_bytes(_HEADER_BITS // 8, "big"), dtype=np.uint8)
        return np.unpackbits(octets)

    @classmethod
    def from_bits(cls, bits: BitArray) -> FrameHeader:
        """Read a header, and refuse one that no transmitter of this version sends.

        Arguments:
            bits: (112,) uint8.

        Raises:
            HeaderError: another version, an unknown MCS, an index beyond its count, fields of
                retransmission without it, or the reserved bit in use.
        """
        number = int.from_bytes(np.packbits(bits).tobytes(), "big")
        values = {}
        for name, (width, offset) in reversed(_FIELDS.items()):
            values[name] = (number & (2**width - 1)) + offset
            number >>= width
        if values["version"] != HEADER_VERSION or values["reserved"]:
            raise HeaderError(f"unknown frame version {values['version']}, or reserved bits set")
        if not values["round"] and (values["rv"] or values["last_block"]):
            raise HeaderError("redundancy version or end of a round in a frame sent only once")
        if values["mcs_index"] not in MCS_TABLE:
            raise HeaderError(f"unknown MCS index {values['mcs_index']}")
        for item in ("block", "frame"):
            if values[f"{item}_index"] >= values[f"{item}_count"]:
                raise HeaderError(
                    f"{item} {values[f'{item}_index']} of a count of {values[f'{item}_count']}"
                )
        return cls(**values)

    def fields(self) -> dict[str, int]:
        """The fields by name, for reports."""
        return asdict(self)


@cache
def _header_code() -> LdpcCode:
    return LdpcCode(
        _HEADER_BITS + CRC24C.degree,
        HEADER_CODED_BITS,
        bits_per_symbol=HEADER_MODULATION.bits_per_symbol,
        base_graph=2,
    )


def header_word(header: FrameHeader) -> BitArray:
    """Header to its (1600,) uint8 coded and scrambled bits."""
    coded = _header_code().encode(crc_attach(header.to_bits(), CRC24C))
    return scramble(coded, _HEADER_SEED)


def encode_header(header: FrameHeader) -> ComplexArray:
    """Header to its (800,) complex64 QPSK symbols."""
    return HEADER_MODULATION.map(header_word(header))


def decode_header(llr: npt.NDArray[np.float32]) -> FrameHeader:
    """Header from the soft values of its symbols.

    Arguments:
        llr: (1600,) float32, log p(0) / p(1).

    Raises:
        HeaderError: the CRC fails, or the fields contradict each other.
    """
    result = _header_code().decode(descramble(llr, _HEADER_SEED), _HEADER_ITERATIONS)
    if not (result.parity_ok and crc_check(result.bits, CRC24C)):
        raise HeaderError("the header's CRC fails")
    return FrameHeader.from_bits(result.bits[:_HEADER_BITS])


@dataclass(frozen=True)
class FrameFormat:
    """What transmitter and receiver must agree on before the first frame.

    Attributes:
        chirp_length: symbols of each of the preamble's two chirps, odd.
        pilot_spacing: distance between pilots in symbols.

    Raises:
        ValueError: no chirp of this length, or a spacing below 2.
    """

    chirp_length: int = 139
    pilot_spacing: int = 32

    def __post_init__(self) -> None:
        up_chirp(self.chirp_length)
        PilotPattern(self.pilot_spacing)

    @property
    def preamble_length(self) -> int:
        """Symbols of the preamble."""
        return 2 * self.chirp_length

    @property
    def preamble(self) -> ComplexArray:
        """(preamble_length,) complex64 of unit modulus."""
        return chirp_pair(self.chirp_length)

    @property
    def header_end(self) -> int:
        """Symbols of preamble and header section: where the payload section starts."""
        pattern = PilotPattern(self.pilot_spacing)
        return self.preamble_length + pattern.section_length(HEADER_SYMBOLS)

    def frame_length(self, data_symbols: int) -> int:
        """Symbols of a whole frame with `data_symbols` data symbols."""
        return self.header_end + PilotPattern(self.pilot_spacing).section_length(data_symbols)

    def geometry(self, data_symbols: int) -> FrameGeometry:
        """Where everything lies in a frame with `data_symbols` data symbols."""
        return _geometry(self, data_symbols)


@dataclass(frozen=True)
class FrameGeometry:
    """Places of the symbols of one frame, counted from the start of the preamble.

    Attributes:
        length: symbols in the frame.
        header_data: (800,) places of the header's coded symbols.
        header_pilots: places of the pilots in the header section.
        payload_data: (D,) places of the payload's data symbols.
        payload_pilots: places of the pilots in the payload section.
        pilots: symbols on `header_pilots`, then on `payload_pilots`.
        header_known: places known before the header is decoded: preamble and header pilots.
        payload_known: places known after it: all before the payload, and the payload's pilots.
    """

    length: int
    header_data: IntArray
    header_pilots: IntArray
    payload_data: IntArray
    payload_pilots: IntArray
    pilots: ComplexArray
    header_known: IntArray
    payload_known: IntArray


@lru_cache(maxsize=32)
def _geometry(frame_format: FrameFormat, data_symbols: int) -> FrameGeometry:
    pattern = PilotPattern(frame_format.pilot_spacing)
    start, end = frame_format.preamble_length, frame_format.header_end
    header_pilots = start + pattern.pilot_positions(HEADER_SYMBOLS)
    payload_pilots = end + pattern.pilot_positions(data_symbols)
    return FrameGeometry(
        length=frame_format.frame_length(data_symbols),
        header_data=start + pattern.data_positions(HEADER_SYMBOLS),
        header_pilots=header_pilots,
        payload_data=end + pattern.data_positions(data_symbols),
        payload_pilots=payload_pilots,
        pilots=pilot_symbols(header_pilots.size + payload_pilots.size),
        header_known=np.concatenate([np.arange(start), header_pilots]),
        payload_known=np.concatenate([np.arange(end), payload_pilots]),
    )


def header_template(frame_format: FrameFormat) -> ComplexArray:
    """The symbols on `header_known`: preamble and the header section's pilots."""
    geometry = frame_format.geometry(1)
    pilots = geometry.pilots[: geometry.header_pilots.size]
    return np.concatenate([frame_format.preamble, pilots])


def payload_template(frame_format: FrameFormat, header: FrameHeader) -> ComplexArray:
    """The symbols on `payload_known`: all of preamble and header section, and the pilots."""
    geometry = frame_format.geometry(header.data_symbols)
    nothing = np.zeros(header.data_symbols, dtype=np.complex64)
    return build_frame(frame_format, header, nothing)[geometry.payload_known]


def build_frame(
    frame_format: FrameFormat, header: FrameHeader, payload: ComplexArray
) -> ComplexArray:
    """Assemble the symbols of a frame.

    Arguments:
        frame_format: the geometry.
        header: its `data_symbols` is the length of `payload`.
        payload: (D,) complex64 data symbols of unit mean energy.

    Returns:
        (frame_length,) complex64.

    Raises:
        ValueError: the payload's length contradicts the header.
    """
    if payload.shape != (header.data_symbols,):
        raise ValueError(f"a payload of {payload.shape}, the header says {header.data_symbols}")
    geometry = frame_format.geometry(header.data_symbols)
    frame = np.empty(geometry.length, dtype=np.complex64)
    frame[: frame_format.preamble_length] = frame_format.preamble
    frame[geometry.header_data] = encode_header(header)
    frame[geometry.payload_data] = payload
    frame[np.concatenate([geometry.header_pilots, geometry.payload_pilots])] = geometry.pilots
    return frame
