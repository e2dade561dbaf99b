"""The ``.ddm`` container: literal bytes, round trips, and everything it refuses."""

import hashlib
import zlib

import numpy as np
import pytest
from conftest import Photo
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from source_codec import (
    Codec,
    CorruptStream,
    Order,
    Process,
    Schedule,
    UnsupportedStream,
    read_header,
)
from source_codec.composition import PartShape
from source_codec.container import pack as pack_layout
from source_codec.container import payloads_of, pixel_hash
from source_codec.layout import Layout
from source_codec.source_history import History

MODEL_ID = bytes.fromhex("a1b2c3d4e5f60718")


def pack(image: NDArray[np.uint8], payload: bytes, model_id: bytes, process: Process) -> bytes:
    """A plain image's stream."""
    return pack_layout(image, Layout(PartShape.of(image)), [payload], model_id, process)


def varint(value: int) -> bytes:
    """LEB128."""
    groups = []
    while True:
        groups.append(value & 127)
        value >>= 7
        if not value:
            return bytes([*(g | 128 for g in groups[:-1]), groups[-1]])


def stream(front: bytes, payload: bytes = b"12345678", check: int = 2, hashed: int = 2) -> bytes:
    """A stream with any header whatever, and a check that fits."""
    back = bytes(range(hashed)) + payload
    return front + zlib.crc32(front + back).to_bytes(4, "little")[:check] + back


def front(flags: int, *sizes: int, version: int = 4) -> bytes:
    """Magic to size."""
    head = b"\xddM" + bytes([version << 4 | flags]) + MODEL_ID[:2]
    return head + b"".join(varint(size) for size in sizes)


GRAY, SQUARE, PROCESS, COMPOSED = 1, 2, 4, 8


def test_literal_header_of_a_small_square_rgb_image() -> None:
    image = np.arange(32 * 32 * 3, dtype=np.uint32).reshape(32, 32, 3).astype(np.uint8)
    payload = bytes(range(200))
    data = pack(image, payload, MODEL_ID, Process())
    header = bytes.fromhex("dd4d 42 a1b2 20")
    hashed = hashlib.blake2b(b"(32, 32, 3)" + image.tobytes(), digest_size=8).digest()[:2]
    check = zlib.crc32(header + hashed + payload).to_bytes(4, "little")[:2]
    assert data == header + check + hashed + payload
    assert len(data) - len(payload) == 10


def test_literal_header_of_a_large_gray_image_with_another_process() -> None:
    image = np.zeros((300, 70), dtype=np.uint8)
    payload = b"word" * 3
    data = pack(image, payload, MODEL_ID, Process(Order.CHECKERBOARD, Schedule.LINEAR, 9))
    # Flags GRAY and PROCESS; width 70, height 300; checkerboard 3, linear 1, nine steps.
    header = bytes.fromhex("dd4d 45 a1b2 46 ac02 31 09")
    hashed = hashlib.blake2b(b"(300, 70)" + image.tobytes(), digest_size=8).digest()
    check = zlib.crc32(header + hashed + payload).to_bytes(4, "little")
    assert data == header + check + hashed + payload


@given(
    height=st.integers(1, 80),
    width=st.integers(1, 80),
    gray=st.booleans(),
    order=st.sampled_from(Order),
    schedule=st.sampled_from(Schedule),
    steps=st.integers(1, 255),
    payload=st.binary(min_size=8, max_size=300),
)
def test_round_trip(
    height: int,
    width: int,
    gray: bool,
    order: Order,
    schedule: Schedule,
    steps: int,
    payload: bytes,
) -> None:
    image = np.full((height, width) if gray else (height, width, 3), 7, dtype=np.uint8)
    process = Process(order, schedule, steps)
    data = pack(image, payload, MODEL_ID, process)
    header = read_header(data)
    assert (header.height, header.width) == (height, width)
    assert header.channels == (1 if gray else 3)
    assert header.process == process.simplest([(height, width)])
    assert header.model_id == MODEL_ID[:2]
    assert header.version == 4
    assert header.payload_bytes == len(payload)
    assert header.pixel_hash == pixel_hash(image)[: len(header.pixel_hash)]
    assert len(header.pixel_hash) == (2 if height * width <= 64 * 64 else 8)
    assert header.header_bytes == len(data) - len(payload)
    assert payloads_of(data, header) == [payload]


@pytest.mark.parametrize("size", [(1, 4096), (4096, 1), (4096, 4096), (127, 128)])
def test_largest_sizes_are_read(size: tuple[int, int]) -> None:
    image = np.zeros(size, dtype=np.uint8)
    header = read_header(pack(image, bytes(1000), MODEL_ID, Process()))
    assert (header.height, header.width) == size


def test_hash_depends_on_shape_and_pixels() -> None:
    image = np.arange(12, dtype=np.uint8)
    hashes = {pixel_hash(image.reshape(shape)) for shape in ((3, 4), (4, 3), (1, 4, 3), (12, 1))}
    assert len(hashes) == 4
    # Not on the layout in memory.
    square = np.arange(16, dtype=np.uint8).reshape(4, 4)
    assert pixel_hash(square.T) == pixel_hash(square.T.copy())
    assert pixel_hash(square.T) != pixel_hash(square)


@pytest.mark.parametrize("channels", [1, 3])
def test_every_truncation_is_refused(codec: Codec, channels: int) -> None:
    image = np.full((9, 5, 3)[: 3 if channels == 3 else 2], 90, dtype=np.uint8)
    data = codec.encode(image)
    for length in range(len(data)):
        with pytest.raises(CorruptStream):
            codec.decode(data[:length])
    with pytest.raises(CorruptStream):
        codec.decode(data + b"\0")


def test_every_damaged_byte_of_the_header_is_refused() -> None:
    data = pack(np.zeros((40, 41), dtype=np.uint8), b"12345678", MODEL_ID, Process(steps=5))
    size = read_header(data).header_bytes
    for position in range(size):
        for value in range(256):
            damaged = bytearray(data)
            damaged[position] = value
            if damaged != data:
                with pytest.raises(CorruptStream):
                    read_header(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [b"", b"\xdd", b"MM\x22", b"\x89PNG\r\n\x1a\n" + bytes(50), b"\xff" * 60, bytes(60)],
)
def test_foreign_data_is_refused(data: bytes) -> None:
    with pytest.raises(CorruptStream) as caught:
        read_header(data)
    assert not isinstance(caught.value, UnsupportedStream)


@pytest.mark.parametrize("version", [0, 2, 3, 6, 15])
def test_unknown_version(version: int) -> None:
    data = stream(front(SQUARE, 8, version=version))
    with pytest.raises(UnsupportedStream, match=f"version {version}"):
        read_header(data)


def test_unknown_model(codec: Codec) -> None:
    image = np.zeros((8, 8), dtype=np.uint8)
    (payload,) = payloads_of(codec.encode(image), read_header(codec.encode(image)))
    other = bytes(b ^ 255 for b in codec.model.model_id)
    data = pack(image, payload, other, Process())
    for decode in (codec.decode, lambda d: next(codec.decode_progressive(d)), codec.step_bits):
        with pytest.raises(UnsupportedStream, match=other[:2].hex()):
            decode(data)
    assert read_header(data).model_id == other[:2]


def test_the_plain_streams_of_these_tests_are_accepted() -> None:
    """The refusals below are for what they say, not for a mistake of this module."""
    assert read_header(stream(front(SQUARE, 8))).width == 8
    assert read_header(stream(front(GRAY, 8, 300))).height == 300
    assert read_header(stream(front(0, 300, 200), check=4, hashed=8)).width == 300
    process = read_header(stream(front(SQUARE | PROCESS, 8) + b"\x10\x07")).process
    assert process == Process(Order.RASTER, Schedule.COSINE, 7)


@pytest.mark.parametrize("size", [0, 4097, 1 << 20, (1 << 28) - 1])
@pytest.mark.parametrize("channels", [0, GRAY])
def test_sizes_out_of_range(size: int, channels: int) -> None:
    for flags, sizes in ((SQUARE, (size,)), (0, (size, 5)), (0, (5, size))):
        with pytest.raises(CorruptStream, match="outside"):
            read_header(stream(front(flags | channels, *sizes)))


@pytest.mark.parametrize("number", ["8800", "888000", "80808000", "8000"])
def test_varints_longer_than_needed(number: str) -> None:
    with pytest.raises(CorruptStream, match="shortest"):
        read_header(stream(front(SQUARE) + bytes.fromhex(number)))


def test_varints_longer_than_four_bytes() -> None:
    for number in ("8888888801", "ffffffffffffffffff7f"):
        with pytest.raises(CorruptStream, match="too long"):
            read_header(stream(front(SQUARE) + bytes.fromhex(number)))


def test_flags_that_contradict_the_size() -> None:
    with pytest.raises(CorruptStream, match="contradicts"):
        read_header(stream(front(0, 8, 8)))  # SQUARE missing


@pytest.mark.parametrize("codes", ["5005", "0205", "0a05", "f105", "0000", "4000"])
def test_unknown_process(codes: str) -> None:
    with pytest.raises(CorruptStream, match="order or schedule"):
        read_header(stream(front(SQUARE | PROCESS, 8) + bytes.fromhex(codes)))


def test_default_process_spelled_out() -> None:
    """Or what is the same: schedule and steps of a wavefront, adaptation to a small image."""
    for codes in ("4020", "4120", "4007", "4820", "0820"):
        with pytest.raises(CorruptStream, match="default"):
            read_header(stream(front(SQUARE | PROCESS, 8) + bytes.fromhex(codes)))
    for codes in ("0020", "4020"):
        with pytest.raises(CorruptStream, match="default"):
            read_header(
                stream(front(SQUARE | PROCESS, 80) + bytes.fromhex(codes), check=4, hashed=8)
            )


def test_payload_too_short_for_the_size() -> None:
    """The probability tables have a floor: a large image cannot take next to nothing."""
    data = stream(front(SQUARE, 4096), payload=bytes(1000), check=4, hashed=8)
    with pytest.raises(CorruptStream, match="too short"):
        read_header(data)


def test_bytes_more_or_less_are_noticed() -> None:
    """The last payload ends with the stream, whose check is over all of it."""
    data = stream(front(SQUARE, 8))
    for other in (data + b"1", data + b"\0", data[:-1]):
        with pytest.raises(CorruptStream, match="check"):
            read_header(other)


def test_a_payload_ends_as_the_range_coder_ends_it(codec: Codec, photo: Photo) -> None:
    """With a check that fits: no byte can be added or taken away."""
    image = photo(9, 8)
    data = codec.encode(image)
    payload = data[read_header(data).header_bytes :]
    for other in (payload + b"\0", payload + b"1", payload[:-1], payload + bytes(4), b"12345"):
        with pytest.raises(CorruptStream):
            codec.decode(pack(image, other, codec.model.model_id, Process()))


# Images composed of parts.


def composed(tree: bytes, lengths: tuple[int, ...]) -> bytes:
    """A composed 80x70 RGB image with this tree, and payloads of these lengths."""
    head = front(COMPOSED, 80, 70) + tree + b"".join(varint(length) for length in lengths[:-1])
    back = bytes(8) + bytes(sum(lengths))
    return head + zlib.crc32(head + back).to_bytes(4, "little") + back


def test_gray_stored_as_rgb_is_one_gray_part() -> None:
    """Kind 3 without side information, and a plain part: three bytes."""
    image = np.repeat(np.arange(70 * 80, dtype=np.uint32).astype(np.uint8), 3).reshape(70, 80, 3)
    part = Layout(PartShape(70, 80, 1, 8))
    layout = Layout(PartShape(70, 80, 3, 8), int(History.GRAY), b"", (part,))
    data = pack_layout(image, layout, [b"12345678"], MODEL_ID, Process())
    assert data[:11] == bytes.fromhex("dd4d 48 a1b2 50 46 03 03 00 00")
    header = read_header(data)
    assert header.layout == layout
    assert header.channels == 3
    assert payloads_of(data, header) == [b"12345678"]


def test_a_composed_stream_as_written_here_is_accepted() -> None:
    header = read_header(composed(b"\x03\x03\x00\x00", (40,)))
    assert [leaf.shape for leaf in header.layout.leaves()] == [PartShape(70, 80, 1, 8)]


@pytest.mark.parametrize(
    ("tree", "message"),
    [
        (b"\x00", "plain image composed"),
        (b"\x0f\x00\x00", "unknown composition 15"),
        (b"\xff\x00\x00", "unknown composition 255"),
        (b"\x03\xff\x7f", "truncated"),
        (b"\x03\x00" * 9, "history|planes|channels|levels"),
    ],
)
def test_hostile_trees_are_refused(tree: bytes, message: str) -> None:
    with pytest.raises(CorruptStream, match=message):
        read_header(composed(b"\x03" + tree, (40,)))


def test_histories_in_streams(codec: Codec) -> None:
    """Used where it pays, named, and turned off on demand; exact in any case."""
    rng = np.random.default_rng(1)
    smooth = np.cumsum(rng.integers(-3, 4, (70, 80)), axis=1) + 128
    gray = np.clip(smooth, 0, 255).astype(np.uint8)
    image = np.repeat(gray[..., None], 3, axis=2)
    with_history, without = codec.encode(image), codec.encode(image, histories=False)
    assert read_header(with_history).layout.kind == History.GRAY
    assert read_header(without).layout.kind == 0
    assert len(with_history) < len(without)
    for data in (with_history, without):
        np.testing.assert_array_equal(codec.decode(data), image)
    *_, (last, known) = codec.decode_progressive(with_history)
    np.testing.assert_array_equal(last, image)
    assert known.all()
