"""Damaged and hostile streams: ``CorruptStream`` or the exact image, in bounded work and memory."""

import resource
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from conftest import Photo, drawing
from numpy.typing import NDArray

from source_codec import Codec, CorruptStream, Order, Process, Schedule, history, read_header
from source_codec.composition import Kind as Composition
from source_codec.container import DEFAULT_PROCESS, VERSION
from source_codec.layout import GRAPHICS
from source_codec.source_history import History

BYTES = 1 << 30
CHECK = {True: 2, False: 4}
"""Length of the check by whether the image has at most 64x64 pixels."""


def peak_memory() -> int:
    """The largest amount of memory this process has had so far."""
    return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def assert_corrupt_or_exact(
    codec: Codec, data: bytes, exact: list[NDArray[np.uint8]], label: str
) -> bool:
    """Decodes; whether the stream was refused."""
    memory = peak_memory()
    try:
        image = codec.decode(data)
    except CorruptStream:
        refused = True
    else:
        refused = False
        assert any(np.array_equal(image, right) for right in exact), label
    assert peak_memory() - memory < BYTES, label
    return refused


def mutated(data: bytes, other: bytes, rng: np.random.Generator) -> bytes:
    """The stream with one random kind of damage."""
    position = int(rng.integers(len(data)))
    length = int(rng.integers(1, 20))
    match rng.integers(8):
        case 0:  # one bit
            result = bytearray(data)
            result[position] ^= 1 << int(rng.integers(8))
            return bytes(result)
        case 1:  # several bits
            result = bytearray(data)
            for _ in range(length):
                result[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
            return bytes(result)
        case 2:  # truncated
            return data[:position]
        case 3:  # the beginning of one stream and the end of another
            return data[:position] + other[int(rng.integers(len(other))) :]
        case 4:  # the same, in place
            return data[:position] + other[position:]
        case 5:  # bytes inserted
            return data[:position] + rng.bytes(length) + data[position:]
        case 6:  # bytes deleted
            return data[:position] + data[position + length :]
        case _:  # a bit of the header
            result = bytearray(data)
            result[int(rng.integers(12))] ^= 1 << int(rng.integers(8))
            return bytes(result)


@dataclass(frozen=True)
class Kind:
    """Streams to damage: those of two images that are alike.

    Attributes:
        name: of the kind.
        images: from the synthetic photographs to the two images.
        process: how they are coded.
        mutations: how many.
        parts: what the streams must consist of, besides plain images: kinds of layout.
    """

    name: str
    images: Callable[[Photo], list[NDArray[Any]]]
    process: Process = DEFAULT_PROCESS
    mutations: int = 150
    parts: tuple[int, ...] = ()

    def streams(self, codec: Codec, images: list[NDArray[np.uint8]]) -> list[bytes]:
        """The streams, which can be decoded as long as they are not damaged."""
        streams = codec.encode_many(images, self.process)
        for image, stream in zip(images, streams, strict=True):
            layout = read_header(stream).layout
            composed = [node.kind for node in layout.nodes()]
            drawn = [leaf.kind for leaf in layout.leaves() if leaf.kind == GRAPHICS]
            assert (*composed, *drawn) == self.parts
            np.testing.assert_array_equal(codec.decode(stream), image)
        return streams


def photos(height: int, width: int, channels: int = 3) -> Callable[[Photo], list[NDArray[Any]]]:
    return lambda photo: [photo(height, width, channels, seed) for seed in (0, 1)]


def each(make: Callable[[Photo, int], NDArray[Any]]) -> Callable[[Photo], list[NDArray[Any]]]:
    """Two images, of seeds 0 and 1."""
    return lambda photo: [make(photo, seed) for seed in (0, 1)]


def gray_in_colour(photo: Photo, seed: int) -> NDArray[np.uint8]:
    return np.repeat(photo(24, 26, 1, seed)[..., None], 3, axis=2)


def with_alpha(photo: Photo, seed: int) -> NDArray[np.uint8]:
    return np.dstack([photo(24, 26, 3, seed), drawing(24, 26, 1, seed)])


def deep(photo: Photo, seed: int) -> NDArray[np.uint16]:
    image = photo(24, 26, 1, seed).astype(np.uint16)
    return 16 * image + np.random.default_rng(seed).integers(0, 16, image.shape).astype(np.uint16)


KINDS = [
    Kind("small", photos(24, 24), mutations=500),
    Kind("gray", photos(20, 31, 1), mutations=300),
    Kind("one-pixel", photos(1, 1), mutations=200),
    Kind("adaptive", photos(66, 64), mutations=400),
    Kind(
        "other-process",
        photos(23, 24),
        Process(Order.CHECKERBOARD, Schedule.LINEAR, 5, adaptive=False),
    ),
    Kind("graphics", lambda _: [drawing(48, 50, 3, 0), drawing(48, 50, 3, 1)], parts=(GRAPHICS,)),
    Kind(
        "photo-cd",
        each(lambda photo, seed: history.through_photo_ycc(photo(80, 90, 3, seed))),
        parts=(History.PHOTO_YCC,),
    ),
    Kind(
        "ycbcr",
        each(lambda photo, seed: history.through_ycbcr_420(photo(130, 120, 3, seed))),
        parts=(History.YCBCR, GRAPHICS, GRAPHICS),
    ),
    Kind("gray-in-colour", each(gray_in_colour), parts=(History.GRAY,)),
    Kind(
        "few-values",
        each(lambda photo, seed: photo(40, 40, 3, seed) // 9 * 9),
        parts=(History.SPARSE,),
    ),
    Kind(
        "enlarged",
        each(lambda photo, seed: photo(40, 40, 3, seed).repeat(4, 0).repeat(4, 1)),
        parts=(History.ENLARGED,),
    ),
    Kind("alpha", each(with_alpha), parts=(Composition.ALPHA, GRAPHICS)),
    Kind("deep", each(deep), parts=(Composition.DEEP,)),
]


def test_number_of_mutations() -> None:
    """Of each history besides."""
    assert {part for kind in KINDS for part in kind.parts} >= set(History) - {History.NONE}
    assert sum(kind.mutations for kind in KINDS) >= 2000


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_random_damage(codec: Codec, photo: Photo, kind: Kind) -> None:
    images = kind.images(photo)
    data, other = kind.streams(codec, images)
    rng = np.random.default_rng(7)
    refused = 0
    for number in range(kind.mutations):
        damaged = mutated(data, other, rng)
        refused += assert_corrupt_or_exact(codec, damaged, images, f"mutation {number}")
    # The others took nothing away, or exchanged equal bytes.
    assert refused >= 0.9 * kind.mutations


def with_check(front: bytes, back: bytes, small: bool) -> bytes:
    """A stream whose check fits its bytes, as a hostile sender would make it."""
    check = zlib.crc32(front + back).to_bytes(4, "little")
    return front + check[: CHECK[small]] + back


def varint(value: int) -> bytes:
    return bytes([value]) if value < 128 else bytes([value & 127 | 128]) + varint(value >> 7)


def split(data: bytes) -> tuple[bytes, bytes, bytes]:
    """Everything before the check, the pixel hash, and the payload."""
    header = read_header(data)
    end = header.header_bytes - len(header.pixel_hash)
    check = CHECK[header.width * header.height <= 64 * 64]
    return data[: end - check], header.pixel_hash, data[header.header_bytes :]


@pytest.mark.parametrize(("size", "count"), [((24, 24), 40), ((66, 64), 10)])
def test_altered_payloads_with_a_repaired_check(
    codec: Codec, photo: Photo, size: tuple[int, int], count: int
) -> None:
    """Only the range coder and the pixels' hash are left to see it."""
    image = photo(*size)
    front, hashed, payload = split(codec.encode(image))
    small = size == (24, 24)
    whole = with_check(front, hashed + payload, small)
    assert whole == codec.encode(image)
    assert np.array_equal(codec.decode(whole), image)
    rng = np.random.default_rng(8)
    refused = 0
    for number in range(count):
        altered = bytearray(payload)
        for _ in range(int(rng.integers(1, 4))):
            altered[int(rng.integers(len(payload)))] ^= int(rng.integers(1, 256))
        data = with_check(front, hashed + bytes(altered), small)
        assert read_header(data).width == size[1]
        refused += assert_corrupt_or_exact(codec, data, [image], f"payload {number}")
    # What is left are bits beyond those that the range coder needs to tell the last symbol.
    assert refused >= count - 2


@pytest.mark.parametrize("filling", [b"\0", b"\xff", b"\xff\xff\xff\x7f", b"\x80\0\0\0", None])
@pytest.mark.parametrize("words", [0, 1, 2, 3, 100, 5000])
def test_invented_payloads(codec: Codec, photo: Photo, filling: bytes | None, words: int) -> None:
    """Payloads that are too short, much too long, constant or random, with a check that fits."""
    image = photo(24, 24)
    front, hashed, _ = split(codec.encode(image))
    filling = filling or np.random.default_rng(9).bytes(4 * max(words, 1))
    invented = (filling * 4 * max(words, 1))[: 4 * words]
    data = with_check(front, hashed + invented, True)
    assert read_header(data).payload_lengths == (4 * words,)
    assert assert_corrupt_or_exact(codec, data, [], f"{filling[:4]!r} x {words}")


def test_words_after_the_payload(codec: Codec, photo: Photo) -> None:
    """A stream cannot carry anything beside its image."""
    image = photo(24, 24)
    front, hashed, payload = split(codec.encode(image))
    longer = payload + b"smuggled"
    with pytest.raises(CorruptStream, match="longer"):
        codec.decode(with_check(front, hashed + longer, True))


@pytest.mark.parametrize("filling", [b"\0", b"\xff", None])
def test_large_size_with_a_short_payload(codec: Codec, photo: Photo, filling: bytes | None) -> None:
    """Given up soon after the payload has run out, not after a million pixels."""
    front, _, _ = split(codec.encode(photo(24, 24)))
    payload = 64 * filling if filling else np.random.default_rng(10).bytes(64)
    head = front[:2] + bytes([VERSION << 4 | 3]) + front[3:5] + varint(1024)
    data = with_check(head, bytes(8) + payload, False)
    assert read_header(data).height == 1024
    decoded: list[float] = []
    with pytest.raises(CorruptStream):
        codec.decode_many([data], decoded.append)
    assert max(decoded, default=0.0) < 0.05, "share of the image decoded before it was refused"


@pytest.mark.parametrize(
    ("width", "height"),
    [(24, 23), (23, 24), (25, 24), (12, 48), (48, 12), (1, 576), (1, 1), (64, 64), (100, 120)],
)
@pytest.mark.parametrize("gray", [False, True])
def test_other_sizes_with_a_repaired_check(
    codec: Codec, photo: Photo, width: int, height: int, gray: bool
) -> None:
    """A payload under a header that declares another size or other channels."""
    image = photo(24, 24)
    front, hashed, payload = split(codec.encode(image))
    small = width * height <= 64 * 64
    flags = gray | 2 * (width == height)
    head = front[:2] + bytes([VERSION << 4 | flags]) + front[3:5] + varint(width)
    head += b"" if width == height else varint(height)
    hashed = hashed if small else hashed * 4
    data = with_check(head, hashed + payload, small)
    header = read_header(data)
    assert (header.width, header.height) == (width, height)
    assert assert_corrupt_or_exact(codec, data, [], f"{width}x{height}")


@pytest.mark.parametrize("gray", [False, True])
def test_huge_size_with_a_repaired_check(codec: Codec, photo: Photo, gray: bool) -> None:
    """Refused at once: the payload cannot hold that many pixels."""
    front, hashed, payload = split(codec.encode(photo(12, 12)))
    head = front[:2] + bytes([VERSION << 4 | 2 | gray]) + front[3:5]
    head += varint(4096)
    data = with_check(head, 4 * hashed + payload, False)
    decoded: list[float] = []
    with pytest.raises(CorruptStream, match="too short"):
        codec.decode_many([data], decoded.append)
    assert not decoded


def test_other_orders_with_a_repaired_check(codec: Codec, photo: Photo) -> None:
    """Pixels restored in another sequence than they were coded in."""
    front, hashed, payload = split(codec.encode(photo(24, 24)))
    for codes in (b"\x10\x20", b"\x21\x05", b"\x30\xff", b"\x00\x01", b"\x00\x1f"):
        data = with_check(
            front[:2] + bytes([front[2] | 4]) + front[3:] + codes, hashed + payload, True
        )
        assert read_header(data).width == 24
        assert assert_corrupt_or_exact(codec, data, [], codes.hex())


def test_a_different_hash_with_a_repaired_check(codec: Codec, photo: Photo) -> None:
    front, hashed, payload = split(codec.encode(photo(24, 24)))
    data = with_check(front, bytes([hashed[0] ^ 1]) + hashed[1:] + payload, True)
    with pytest.raises(CorruptStream, match="hash"):
        codec.decode(data)
    with pytest.raises(CorruptStream, match="hash"):
        list(codec.decode_progressive(data))
