"""PMTs and tag headers, against bytes of real GNU Radio (tests/gnuradio/make_vectors.py)."""

import json
import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgraphs.stream import StreamStatus
from flowgraphs.zeromq.address import ZmqAddress
from flowgraphs.zeromq.payload import PayloadDecoder
from flowgraphs.zeromq.pmt import (
    Dictionary,
    Limits,
    Pair,
    Vector,
    WireFormatError,
    parse,
    serialize,
)
from flowgraphs.zeromq.tags import StreamTag, TagHeader, read_header, write_header

VECTORS = json.loads((Path(__file__).parent / "gnuradio" / "vectors.json").read_text())
MUTATIONS = 10_000
"""Mutated inputs per fuzzing test."""

VALUES: dict[str, Any] = {
    "true": True,
    "false": False,
    "null": None,
    "eof": [None],
    "symbol": "rx_time",
    "symbol empty": "",
    "symbol utf-8": "é",
    "long 0": 0,
    "long 5": 5,
    "long -5": -5,
    "long 2147483647": 2**31 - 1,
    "long 2147483648": 2**31,
    "long -2147483648": -(2**31),
    "long -2147483649": -(2**31) - 1,
    "long 9223372036854775807": 2**63 - 1,
    "long -9223372036854775808": -(2**63),
    "uint64 0": np.uint64(0),
    "uint64 5": np.uint64(5),
    "uint64 18446744073709551615": np.uint64(2**64 - 1),
    "double": -1.5,
    "complex": 1.5 - 2j,
    "pair": Pair(1, 2),
    "pair of pairs": Pair(Pair(True, False), Pair(1, 2)),
    "list": [1, "b", None],
    "list of a list": [[1, 2]],
    "dictionary empty": None,
    "dictionary": Dictionary((("c", 2), ("b", 1), ("a", 0))),
    "dictionary replaced": Dictionary((("b", 9), ("c", 2), ("a", 0))),
    "dictionary deleted": Dictionary((("c", 2), ("a", 0))),
    "tuple empty": (),
    "tuple": (np.uint64(7), 0.25),
    "vector": Vector(("x", None)),
    "vector empty": Vector(()),
    "u8": np.array([0, 1, 255], np.uint8),
    "s8": np.array([-128, 0, 127], np.int8),
    "u16": np.array([0, 1, 65535], np.uint16),
    "s16": np.array([-32768, 0, 32767], np.int16),
    "u32": np.array([0, 1, 2**32 - 1], np.uint32),
    "s32": np.array([-(2**31), 0, 2**31 - 1], np.int32),
    "u64": np.array([0, 1, 2**64 - 1], np.uint64),
    "s64": np.array([-(2**63), 0, 2**63 - 1], np.int64),
    "f32": np.array([1.5, -2.5], np.float32),
    "f64": np.array([0.1, -2.5], np.float64),
    "c32": np.array([1.5 - 2j, 3j], np.complex64),
    "c64": np.array([0.1 - 2j, 3j], np.complex128),
    "pdu": Pair(Dictionary((("a", 0),)), np.array([1, 2, 3], np.uint8)),
}
VALUES |= {f"{name} empty": VALUES[name][:0] for name in VALUES if name[1:].isdigit()}


def same(a: Any, b: Any) -> bool:
    """Equal in value and in all types."""
    if type(a) is not type(b):
        return False
    match a:
        case np.ndarray():
            return bool(a.dtype == b.dtype and np.array_equal(a, b))
        case list() | tuple():
            return len(a) == len(b) and all(map(same, a, b))
        case Pair():
            return same(a.car, b.car) and same(a.cdr, b.cdr)
        case Vector():
            return same(a.items, b.items)
        case Dictionary():
            return same(a.entries, b.entries)
    return bool(a == b)


def test_the_vectors_are_all_known() -> None:
    assert VALUES.keys() == VECTORS["pmt"].keys()


@pytest.mark.parametrize("name", VALUES)
def test_gnu_radios_bytes(name: str) -> None:
    data = bytes.fromhex(VECTORS["pmt"][name])
    assert same(parse(data), VALUES[name])
    assert serialize(VALUES[name]) == data


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.text(max_size=8),
    st.integers(-(2**63), 2**63 - 1),
    st.integers(0, 2**64 - 1).map(np.uint64),
    st.floats(allow_nan=False),
    st.complex_numbers(allow_nan=False),
    st.binary(max_size=16).map(lambda data: np.frombuffer(data, np.uint8)),
    st.lists(st.floats(width=32, allow_nan=False), max_size=3).map(
        lambda values: np.array(values, np.complex64)
    ),
)
PMTS = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=3),
        st.lists(inner, max_size=3).map(tuple),
        st.lists(inner, max_size=3).map(lambda items: Vector(tuple(items))),
        st.tuples(inner, st.integers(-5, 5)).map(lambda pair: Pair(*pair)),
        st.lists(st.tuples(inner, inner), min_size=1, max_size=3).map(
            lambda entries: Dictionary(tuple(entries))
        ),
    ),
    max_leaves=12,
)


@settings(max_examples=60, deadline=None)
@given(PMTS)
def test_a_value_returns(value: Any) -> None:
    assert same(parse(serialize(value)), value)


def test_symbols_of_any_bytes_return() -> None:
    data = b"\x02\x00\x03\xff\x00\xfe"
    assert serialize(parse(data)) == data
    assert math.isnan(parse(serialize(math.nan)))  # type: ignore[arg-type]


def test_pairs_that_are_lists() -> None:
    assert parse(serialize(Pair(1, None))) == [1]
    assert parse(serialize(Pair(1, [2]))) == [1, 2]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "truncated"),
        (b"\x03\xff\xff\xff", "truncated"),
        (b"\x02\x00\x04abc", "truncated"),
        (b"\x07\x00", "truncated"),
        (b"\x00\x00", "left over"),
        (b"\x0e", "unknown PMT type"),
        (b"\x0a\x0c\x00\x00\x00\x00\x01\x00", "subtype"),
        (b"\x0a\x8a\x00\x00\x00\x00\x01\x00", "subtype"),
        (b"\x0a\x0b\xff\xff\xff\xff\x00", "truncated"),
        (b"\x08\xff\xff\xff\xff\x00", "more than can follow"),
        (b"\x0c\x00\x00\x00\x02\x00", "more than can follow"),
        (b"\x09\x00\x06", "not a pair"),
        (b"\x09\x07\x00\x00\x01", "end with null"),
        (b"\x0c\x00\x00\x00\x01" * 40 + b"\x00", "nested deeper"),
        (b"\x07" * 40 + b"\x00" * 41, "nested deeper"),
        (b"\x07\x00" * 40 + b"\x00", "end with null"),
    ],
)
def test_malformed_bytes_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireFormatError, match=reason):
        parse(data)


def test_the_limits_hold() -> None:
    assert parse(b"\x07\x00" * 1000 + b"\x06") == [True] * 1000  # long, but not deep
    with pytest.raises(WireFormatError, match="more than 100 values"):
        parse(b"\x07\x00" * 1000 + b"\x06", Limits(values=100))
    with pytest.raises(WireFormatError, match="too long"):
        parse(b"\x02\x00\x10" + bytes(16), Limits(size=16))


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**63, ValueError),
        ("x" * 65536, ValueError),
        ([[]] * 2 + [{}], TypeError),
        (np.zeros((2, 2)), TypeError),
        (np.zeros(2, np.float16), TypeError),
        (np.zeros(2**20, np.uint8), ValueError),
    ],
)
def test_values_without_bytes_are_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        serialize(value)


def test_a_list_that_contains_itself_is_refused() -> None:
    endless: list[Any] = []
    endless.append(endless)
    with pytest.raises(ValueError, match="nested deeper"):
        serialize(endless)


TAGGED = bytes.fromhex(VECTORS["tagged"])
TAGS = (
    StreamTag(0, "rx_freq", 2.4e9, "usrp"),
    StreamTag(2, "rx_time", (np.uint64(7), 0.25), False),
    StreamTag(3, "burst", True, False),
)
ITEMS = [1 + 2j, -1.5, 0.5j, -2 - 2j]


def test_gnu_radios_tagged_message() -> None:
    header, start = read_header(TAGGED)
    assert header == TagHeader(0, TAGS)
    assert np.frombuffer(TAGGED[start:], "<c8").tolist() == ITEMS
    assert write_header(0, TAGS) == TAGGED[:start]


def test_a_header_without_tags_has_19_bytes() -> None:
    data = write_header(0x0102030405060708)
    assert data.hex() == "f05f0108070605040302010000000000000000"
    assert read_header(data + b"items") == (TagHeader(0x0102030405060708), 19)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (TAGGED[:18], "too short"),
        (b"\xf1" + TAGGED[1:], "does not pass tags"),
        (TAGGED[:2] + b"\x02" + TAGGED[3:], "version 2"),
        (TAGGED[:11] + b"\xff" * 8, "more than can follow"),
        (TAGGED[:11] + b"\x04" + TAGGED[12:100], "truncated"),
        (TAGGED[:60], "truncated"),
    ],
)
def test_malformed_headers_are_refused(data: bytes, reason: str) -> None:
    with pytest.raises(WireFormatError, match=reason):
        read_header(data)


def test_headers_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="64 bits"):
        write_header(2**64)
    with pytest.raises(ValueError, match="64 bits"):
        write_header(0, [StreamTag(-1, "a", 1)])
    with pytest.raises(ValueError, match="more than"):
        write_header(0, [StreamTag(0, "a", 1)] * 5000)


def mutated(data: bytes, rng: np.random.Generator) -> bytes:
    """The data with some bytes changed, cut out, doubled or inserted."""
    result = bytearray(data)
    for _ in range(int(rng.integers(1, 5))):
        start = int(rng.integers(len(result) + 1))
        end = min(len(result), start + int(rng.integers(1, 9)))
        match rng.integers(4):
            case 0:
                result[start:end] = rng.bytes(end - start)
            case 1:
                del result[start:end]
            case 2:
                result[start:start] = result[start:end]
            case 3:
                result[start:start] = rng.choice(
                    [b"\xff" * 4, b"\x00" * 4, b"\x07", b"\x0c", b"\x0a"]
                )
    return bytes(result)


def test_mutated_pmts_parse_or_are_refused() -> None:
    rng = np.random.default_rng(5)
    blobs = [bytes.fromhex(text) for text in VECTORS["pmt"].values()]
    refused = 0
    for index in range(MUTATIONS):
        blob = mutated(blobs[index % len(blobs)], rng)
        try:
            value = parse(blob)
        except WireFormatError:
            refused += 1
        else:
            serialize(value)
    assert MUTATIONS // 4 < refused < MUTATIONS


def test_mutated_messages_give_samples_or_are_counted() -> None:
    rng = np.random.default_rng(6)
    address = ZmqAddress("pull", "tcp://127.0.0.1:1", False, tags=True, eos=False)
    status = StreamStatus()
    decoder = PayloadDecoder(address, status)
    samples = 0
    for _ in range(MUTATIONS):
        samples += decoder.decode([mutated(TAGGED, rng)]).size
    assert status.messages == MUTATIONS
    assert status.samples == samples > 0
    assert 0 < status.malformed < MUTATIONS
    assert decoder.decode([TAGGED]).tolist() == ITEMS  # and it goes on


def decoder_of(**options: Any) -> tuple[PayloadDecoder, StreamStatus]:
    status = StreamStatus()
    address = ZmqAddress("sub", "tcp://127.0.0.1:1", False, **options)
    return PayloadDecoder(address, status), status


@given(st.lists(st.integers(0, 40), max_size=8))
@settings(max_examples=40, deadline=None)
def test_samples_do_not_depend_on_where_messages_are_cut(cuts: list[int]) -> None:
    sent = np.arange(30, dtype=np.complex64) * (1 - 2j)
    data = sent.tobytes()
    edges = sorted({0, len(data), *(6 * cut for cut in cuts)})
    decoder, status = decoder_of()
    pieces = [data[a:b] for a, b in pairwise(edges)]
    received = np.concatenate([decoder.decode([piece]) for piece in pieces])
    assert received.tobytes() == data
    assert status.samples == 30
    assert status.bytes_discarded == 0
    assert status.carried == sum(edge % 8 != 0 for edge in edges)


def test_a_cut_sample_is_not_joined_with_another_senders() -> None:
    decoder, status = decoder_of()
    first = np.array([1, 2], np.complex64).tobytes()
    assert decoder.decode([first[:13]]).tolist() == [1]
    decoder.interrupt()
    assert decoder.decode([first]).tolist() == [1, 2]
    assert status.bytes_discarded == 5


def test_gaps_and_restarts_show_in_the_offsets() -> None:
    decoder, status = decoder_of(tags=True)
    items = np.arange(4, dtype=np.complex64).tobytes()
    for offset in (100, 104, 118, 0, 4):
        assert decoder.decode([write_header(offset) + items]).tolist() == [0, 1, 2, 3]
    assert (status.gaps, status.samples_missing, status.restarts) == (1, 10, 1)
    assert decoder.decode([write_header(8)]).size == 0
    assert (status.empty, status.malformed, decoder.ended) == (1, 0, False)


def test_keys_and_frames() -> None:
    decoder, status = decoder_of(key=b"iq")
    items = np.ones(2, np.complex64).tobytes()
    assert decoder.decode([b"iq", items]).size == 2
    assert decoder.decode([b"iq2", items]).size == 0
    assert (status.foreign, status.malformed) == (1, 0)
    assert decoder.decode([items]).size == 0
    assert decoder.decode([b"iq", items, b""]).size == 0
    assert (status.malformed, status.last_error) == (2, "a message of 3 frames where 2 is right")


def test_tags_that_were_not_expected_are_named() -> None:
    decoder, status = decoder_of()
    assert decoder.decode([TAGGED[:100]]).size == 0
    assert status.last_error is not None
    assert "tags=1" in status.last_error
