"""Graphics: coded in raster order, chosen by size, refused if no encoder made the bytes."""

from math import log2

import numpy as np
import pytest
from conftest import Photo, drawing
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_corruption import assert_corrupt_or_exact, split, with_check

from source_codec import Codec, CorruptStream, read_header
from source_codec.composition import Palette
from source_codec.graphics import decode_graphics, encode_graphics, is_graphics
from source_codec.graphics.mixing import new_mixer
from source_codec.layout import GRAPHICS, PLAIN
from source_codec.picture import Picture
from source_codec.source_history import History

Pixels = NDArray[np.uint8]


def coded(image: Pixels) -> bytes:
    data = encode_graphics(image)
    assert data is not None
    return data


def decoded(data: bytes, like: Pixels) -> Pixels:
    return decode_graphics(data, *like.shape[:2], 1 if like.ndim == 2 else 3)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 24),
    st.integers(1, 24),
    st.sampled_from([1, 3]),
    st.lists(st.integers(0, 255), min_size=1, max_size=9),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
)
def test_any_pixels_come_back(
    height: int, width: int, channels: int, levels: list[int], smear: int, seed: int
) -> None:
    """Pixels of few levels, repeated along the rows and columns as far as ``smear`` says."""
    rng = np.random.default_rng(seed)
    image = np.array(levels, np.uint8)[rng.integers(0, len(levels), (height, width, channels))]
    for _ in range(smear):
        image = np.where(rng.random((height, width, 1)) < 0.5, np.roll(image, 1, 1), image)
        image = np.where(rng.random((height, width, 1)) < 0.5, np.roll(image, 1, 0), image)
    image = image[..., 0] if channels == 1 else image
    data = encode_graphics(image)
    if data is None:  # noise, which takes more bytes than it has values
        assert smear == 0
        assert len(levels) > 2
    else:
        np.testing.assert_array_equal(decoded(data, image), image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 40), (40, 1), (2, 3), (61, 83)])
def test_drawings_come_back(size: tuple[int, int], channels: int) -> None:
    image = drawing(*size, channels)
    np.testing.assert_array_equal(decoded(coded(image), image), image)


def test_photographs_come_back(photo: Photo) -> None:
    image = photo(40, 50)
    np.testing.assert_array_equal(decoded(coded(image), image), image)


def test_noise_is_given_up() -> None:
    """It would take more bytes than it has values."""
    noise = np.random.default_rng(1).integers(0, 256, (40, 40, 3)).astype(np.uint8)
    assert encode_graphics(noise) is None


def test_one_colour_takes_next_to_nothing() -> None:
    """16-bit probabilities let a certain pixel cost 2^-15 bits; until then it is learned."""
    assert len(coded(np.full((500, 400, 3), 77, np.uint8))) <= 24


def test_two_colours_of_random_pixels_take_a_bit_each() -> None:
    """What no context can know costs its entropy, and a few percent to find that out."""
    dark = np.random.default_rng(2).random((128, 128, 1)) < 0.25
    image = np.where(dark, np.uint8([10, 20, 200]), np.uint8([250, 240, 20])).astype(np.uint8)
    share = float(dark.mean())
    entropy = dark.size * -(share * log2(share) + (1 - share) * log2(1 - share))
    assert entropy < 8 * len(coded(image)) < 1.12 * entropy


def test_repeated_shapes_are_remembered() -> None:
    """Four rows of the same random shapes cost less than two and a half of new ones."""
    rng = np.random.default_rng(3)
    glyphs = np.kron(rng.random((10, 100, 1)) < 0.5, np.ones((1, 1, 3), bool))
    row = np.pad(np.where(glyphs, 0, 255).astype(np.uint8), ((3, 3), (3, 3), (0, 0)), "edge")
    assert len(coded(np.concatenate([row] * 4))) < 2.5 * len(coded(row))


def test_logistic_tables() -> None:
    """Against floating point: 16-bit probabilities of logits in 1/256, and back."""
    mixer = new_mixer(1, 1, 3)
    logits = np.arange(-3071, 3072) / 256
    exact = 65536 / (1 + np.exp(-logits))
    assert np.abs(mixer.probability_of - exact).max() < 1 + 1e-6
    assert mixer.probability_of.min() >= 1
    assert mixer.probability_of.max() == 65535
    middle = np.arange(1000, 64536)
    exact = 256 * np.log(middle / (65536 - middle))
    assert np.abs(mixer.logit_of[middle] - exact).max() <= 1.5
    assert (np.diff(mixer.logit_of) >= 0).all()
    assert np.abs(mixer.logit_of).max() == 3071


@pytest.mark.parametrize("seed", range(3))
def test_damaged_bytes(seed: int) -> None:
    """Another image or CorruptStream, whatever the bytes; never longer work than for the image."""
    image = drawing(30, 37, seed=seed)
    data = coded(image)
    rng = np.random.default_rng(seed)
    refused = 0
    for _ in range(60):
        damaged = bytearray(data)
        for _ in range(int(rng.integers(1, 4))):
            damaged[int(rng.integers(len(data)))] = int(rng.integers(256))
        cut = int(rng.integers(1, len(data) + 1)) if rng.integers(2) else len(data)
        try:
            result = decoded(bytes(damaged[:cut]), image)
        except CorruptStream:
            refused += 1
        else:
            assert result.shape == image.shape
    assert refused > 30


@pytest.mark.parametrize("data", [b"\xff" * 40, b"\0" * 4000, bytes(range(256)) * 8])
def test_invented_bytes(data: bytes) -> None:
    with pytest.raises(CorruptStream):
        decode_graphics(data, 64, 64, 3)


def test_longer_bytes_are_refused() -> None:
    image = drawing(33, 44)
    data = coded(image)
    for more in (b"\0", b"\1", b"\xff\xff", data):
        with pytest.raises(CorruptStream, match="longer"):
            decoded(data + more, image)


def test_shorter_bytes_are_another_image_at_best() -> None:
    image = drawing(33, 44)
    data = coded(image)
    for kept in range(len(data)):
        try:
            result = decoded(data[:kept], image)
        except CorruptStream:
            continue
        assert not np.array_equal(result, image)


def test_what_is_tried(photo: Photo) -> None:
    assert is_graphics(drawing(100, 120))
    assert is_graphics(drawing(100, 120, 1))
    assert is_graphics(np.zeros((2, 2), np.uint8))
    assert not is_graphics(photo(100, 120))
    assert not is_graphics(photo(100, 120, 1))
    assert not is_graphics(np.zeros((1, 100), np.uint8))
    noise = np.random.default_rng(4).integers(0, 256, (300, 200, 3)).astype(np.uint8)
    half = np.where(np.arange(300)[:, None, None] < 150, np.uint8(9), noise)
    assert not is_graphics(half)
    assert is_graphics(np.where(np.arange(300)[:, None, None] < 200, np.uint8(9), noise))


def assert_graphics(codec: Codec, image: Pixels, histories: bool = False) -> bytes:
    """The stream, in which at least one part is graphics; it has been decoded."""
    stream = codec.encode(image, histories=histories)
    np.testing.assert_array_equal(codec.decode(stream), image)
    header = read_header(stream)
    assert GRAPHICS in [leaf.kind for leaf in header.layout.leaves()]
    return stream


@pytest.mark.parametrize("channels", [1, 3])
def test_chosen_by_size(codec: Codec, photo: Photo, channels: int) -> None:
    stream = assert_graphics(codec, drawing(48, 50, channels))
    header = read_header(stream)
    assert header.layout.kind == GRAPHICS
    assert header.layout.describe_coding() == "copied or predicted in raster order"
    plain = read_header(codec.encode(photo(24, 20, channels)))
    assert plain.layout.kind == PLAIN
    assert plain.layout.describe_coding() == "masked diffusion"


def test_photograph_in_a_frame_is_decided_by_the_sizes(codec: Codec, photo: Photo) -> None:
    """Mostly equal pixels, but nearly all bits in the photograph: the model has fewer."""
    image = np.full((66, 66, 3), 255, np.uint8)
    image[10:50, 12:52] = photo(40, 40)
    assert is_graphics(image)
    stream = codec.encode(image, histories=False)
    drawn = len(coded(image))
    header = read_header(stream)
    assert (header.layout.kind == GRAPHICS) == (header.payload_lengths[0] == drawn)
    assert header.payload_lengths[0] <= drawn + 2
    np.testing.assert_array_equal(codec.decode(stream), image)


@pytest.mark.parametrize("factor", [2, 3])
@pytest.mark.parametrize("seed", [0, 1])
def test_an_enlarged_photograph_is_no_graphics(
    codec: Codec, photo: Photo, factor: int, seed: int
) -> None:
    """Most of its pixels are copies, but what it was enlarged from takes less."""
    small = photo(40, 36, 3, seed)
    image = small.repeat(factor, 0).repeat(factor, 1)
    assert is_graphics(image)
    stream = codec.encode(image)
    assert [node.kind for node in read_header(stream).layout.nodes()] == [History.ENLARGED]
    assert len(stream) < min(len(coded(image)), len(codec.encode(small)) + 20)


def test_parts_of_composed_images(codec: Codec) -> None:
    """Opacities, gray stored as RGB, and indices of a palette may be graphics too."""
    alpha = drawing(36, 40, 1, seed=1)
    assert_graphics(codec, np.dstack([drawing(36, 40), alpha]))
    gray = np.repeat(drawing(36, 40, 1)[..., None], 3, axis=2)
    stream = assert_graphics(codec, gray, histories=True)
    assert "gray stored as RGB" in read_header(stream).layout.describe_history()
    indices = (drawing(36, 40, 1, seed=2, blur=False) >> 4).astype(np.uint8)
    palette = Palette(np.random.default_rng(5).integers(0, 256, 48).astype(np.uint8).tobytes())
    stream = codec.encode(Picture(indices, palette))
    assert [leaf.kind for leaf in read_header(stream).layout.leaves()] == [GRAPHICS]
    picture = codec.decode_pictures([stream])[0]
    np.testing.assert_array_equal(picture.pixels, indices)
    assert picture.palette == palette


def test_streams_of_both_kinds_together(codec: Codec, photo: Photo) -> None:
    images = [photo(24, 24), drawing(24, 24), drawing(40, 40, 1)]
    reports: list[float] = []
    streams = codec.encode_many(images, histories=False, progress=reports.append)
    assert streams == [codec.encode(image, histories=False) for image in images]
    for image, result in zip(images, codec.decode_many(streams, reports.append), strict=True):
        np.testing.assert_array_equal(result, image)
    assert max(reports) == pytest.approx(1)


def test_progressive_in_one_step(codec: Codec) -> None:
    image = drawing(50, 60)
    steps = list(codec.decode_progressive(assert_graphics(codec, image)))
    assert len(steps) == 1
    np.testing.assert_array_equal(steps[0][0], image)
    assert steps[0][1].all()


def test_progressive_of_graphics_and_a_photograph(codec: Codec, photo: Photo) -> None:
    """The opacity comes first, then the colours step by step."""
    image = np.dstack([photo(30, 44), drawing(30, 44, 1)])
    *before, last = codec.decode_progressive(assert_graphics(codec, image))
    assert len(before) > 10
    for shown, known in before[1:]:
        np.testing.assert_array_equal(shown[known], image[known])
    np.testing.assert_array_equal(last[0], image)
    assert last[1].all()


def test_bits_of_the_step(codec: Codec) -> None:
    stream = assert_graphics(codec, drawing(50, 60))
    assert codec.step_bits(stream) == [8 * read_header(stream).payload_bytes]


def test_altered_payloads_with_a_repaired_check(codec: Codec) -> None:
    image = drawing(40, 40)
    front, hashed, payload = split(assert_graphics(codec, image))
    rng = np.random.default_rng(6)
    refused = 0
    for number in range(100):
        altered = bytearray(payload)
        altered[int(rng.integers(len(payload)))] ^= int(rng.integers(1, 256))
        data = with_check(front, hashed + bytes(altered), True)
        refused += assert_corrupt_or_exact(codec, data, [image], f"payload {number}")
    assert refused >= 98
