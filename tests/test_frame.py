"""Frame geometry, header, preamble and detection."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from phy.crc import CRC24C, crc_attach
from phy.errors import FrameError, HeaderError
from phy.frame import (
    HEADER_MODULATION,
    FrameFormat,
    FrameHeader,
    build_frame,
    decode_header,
    encode_header,
)

FORMAT = FrameFormat()
HEADER = FrameHeader(
    mcs_index=9,
    message_id=0xBEEF,
    message_bytes=50_000,
    block_index=3,
    block_count=5,
    frame_index=15,
    frame_count=16,
    data_symbols=8192,
)


def test_every_symbol_has_its_place():
    for data_symbols in (1, 31, 32, 8192):
        geometry = FORMAT.geometry(data_symbols)
        places = np.concatenate(
            [
                np.arange(FORMAT.preamble_length),
                geometry.header_data,
                geometry.header_pilots,
                geometry.payload_data,
                geometry.payload_pilots,
            ]
        )
        assert np.array_equal(np.sort(places), np.arange(geometry.length))


def test_frame_has_unit_energy_and_bounded_overhead():
    rng = np.random.default_rng(1)
    payload = HEADER_MODULATION.map(rng.integers(0, 2, 2 * 8192))
    frame = build_frame(FORMAT, HEADER, payload)
    assert np.abs(frame) == pytest.approx(1, abs=1e-5)
    assert 8192 / frame.size > 0.85
    with pytest.raises(ValueError, match="payload"):
        build_frame(FORMAT, HEADER, payload[:-1])


headers = st.builds(
    lambda mcs, ident, size, blocks, frames, data, place: FrameHeader(
        mcs, ident, size, place % blocks, blocks, place % frames, frames, data
    ),
    st.sampled_from([0, 9, 18, 34]),
    st.integers(0, 2**16 - 1),
    st.integers(0, 2**28 - 1),
    st.integers(1, 2**12),
    st.integers(1, 2**6),
    st.integers(1, 2**14),
    st.integers(0, 10**6),
)


@given(headers)
def test_header_bits_round_trip(header):
    assert FrameHeader.from_bits(header.to_bits()) == header
    assert header.fields()["message_id"] == header.message_id


def test_literal_header_bits():
    once = "0001 001001 1011111011101111 0000000000001100001101010000 000000000011 000000000100"
    once += " 001111 001111 01111111111111 "
    # Frames sent once are those of the first transmitters: eight zeros.
    assert "".join(map(str, HEADER.to_bits())) == (once + "00000000").replace(" ", "")
    again = replace(HEADER, rv=2, round=5, last_block=1)
    assert "".join(map(str, again.to_bits())) == (once + "10 0101 1 0").replace(" ", "")
    assert FrameHeader.from_bits(again.to_bits()) == again


@given(st.binary(min_size=14, max_size=14))
def test_any_bits_give_a_consistent_header_or_an_error(octets):
    bits = np.unpackbits(np.frombuffer(octets, dtype=np.uint8))
    try:
        header = FrameHeader.from_bits(bits)
    except HeaderError:
        return
    assert np.array_equal(header.to_bits(), bits)
    assert header.block_index < header.block_count
    assert header.frame_index < header.frame_count


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"reserved": 1},
        {"mcs_index": 63},
        {"block_index": 5},
        {"frame_index": 16},
        {"rv": 2},
        {"last_block": 1},
    ],
)
def test_contradictions_are_refused_in_spite_of_a_good_crc(change):
    bits = replace(HEADER, **change).to_bits()
    with pytest.raises(HeaderError):
        FrameHeader.from_bits(bits)
    assert issubclass(HeaderError, FrameError)
    assert crc_attach(bits, CRC24C).size == 136


def test_fields_out_of_range():
    for change in (
        {"message_id": 2**16},
        {"block_count": 0},
        {"data_symbols": 2**14 + 1},
        {"round": 16},
    ):
        with pytest.raises(ValueError, match="outside"):
            replace(HEADER, **change)


def test_header_decodes_below_the_most_robust_payload():
    """BPSK at rate 1/3 needs about -4.7 dB; the header holds at -6.5 dB."""
    rng = np.random.default_rng(4)
    sent = encode_header(HEADER)
    n0 = 10**0.65
    good = 0
    for _ in range(60):
        noise = rng.standard_normal(2 * sent.size).view(complex) * np.sqrt(n0 / 2)
        try:
            good += decode_header(HEADER_MODULATION.demap(sent + noise, n0)) == HEADER
        except HeaderError:
            continue
    assert good >= 57


def test_noise_is_not_a_header():
    rng = np.random.default_rng(5)
    for _ in range(20):
        with pytest.raises(HeaderError):
            decode_header((4 * rng.standard_normal(1600)).astype(np.float32))
    with pytest.raises(HeaderError):
        decode_header(np.zeros(1600, dtype=np.float32))


def test_frame_format_refuses_impossible_sequences():
    with pytest.raises(ValueError, match="odd"):
        FrameFormat(chirp_length=138)
    with pytest.raises(ValueError, match="spacing"):
        FrameFormat(pilot_spacing=1)
