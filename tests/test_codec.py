"""The codec: every image comes back exactly, and what it does not take is refused."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from conftest import Photo, drawing
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray

from source_codec import (
    Codec,
    CorruptStream,
    ModelError,
    Order,
    Process,
    Schedule,
    UnsupportedImage,
    read_header,
)
from source_codec.layout import PLAIN

Image = NDArray[np.uint8]


def assert_exact(decoded: Image, image: Image) -> None:
    assert decoded.dtype == np.uint8
    assert decoded.shape == image.shape
    np.testing.assert_array_equal(decoded, image)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (7, 1), (33, 17), (64, 64), (65, 64)])
def test_sizes(codec: Codec, photo: Photo, size: tuple[int, int], channels: int) -> None:
    image = photo(*size, channels)
    assert_exact(codec.decode(codec.encode(image)), image)


@pytest.mark.parametrize("shape", [(24, 31), (24, 31, 3)])
@pytest.mark.parametrize("kind", ["black", "white", "mid", "noise", "black and white", "stripes"])
def test_unusual_images(codec: Codec, shape: tuple[int, ...], kind: str) -> None:
    rng = np.random.default_rng(1)
    image = {
        "black": np.zeros(shape),
        "white": np.full(shape, 255),
        "mid": np.full(shape, 127),
        "noise": rng.integers(0, 256, shape),
        "black and white": rng.choice([0, 255], shape),
        "stripes": 255 * (np.indices(shape)[1] % 2),
    }[kind].astype(np.uint8)
    assert_exact(codec.decode(codec.encode(image)), image)


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 40),
    width=st.integers(1, 40),
    gray=st.booleans(),
    levels=st.integers(1, 256),
    order=st.sampled_from(Order),
    schedule=st.sampled_from(Schedule),
    steps=st.integers(1, 40),
    seed=st.integers(0, 1000),
)
def test_round_trip(
    codec: Codec,
    height: int,
    width: int,
    gray: bool,
    levels: int,
    order: Order,
    schedule: Schedule,
    steps: int,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    shape = (height, width) if gray else (height, width, 3)
    image = rng.integers(0, levels, shape).astype(np.uint8)
    process = Process(order, schedule, steps)
    data = codec.encode(image, process)
    diffused = any(leaf.kind == PLAIN for leaf in read_header(data).layout.leaves())  # or drawn
    assert read_header(data).process == process.simplest([(height, width)] if diffused else [])
    assert_exact(codec.decode(data), image)


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("schedule", Schedule)
@pytest.mark.parametrize("steps", [1, 5, 40])
def test_processes(
    codec: Codec, photo: Photo, order: Order, schedule: Schedule, steps: int
) -> None:
    image = photo(21, 30)
    assert_exact(codec.decode(codec.encode(image, Process(order, schedule, steps))), image)


def test_most_steps(codec: Codec, photo: Photo) -> None:
    image = photo(16, 17)
    process = Process(Order.RANDOM, Schedule.LINEAR, 255)
    assert_exact(codec.decode(codec.encode(image, process)), image)


@pytest.mark.parametrize("steps", [0, 256])
def test_steps_out_of_range(codec: Codec, photo: Photo, steps: int) -> None:
    with pytest.raises(ValueError, match="steps"):
        codec.encode(photo(8, 8), Process(steps=steps))


def test_steps_larger_than_a_block(codec: Codec, photo: Photo) -> None:
    """A step of more than 2048 pixels is coded in several chunks."""
    for size in ((60, 80), (64, 64)):
        images = [photo(*size, seed=seed) for seed in range(2)]
        process = Process(Order.HALTON, steps=1)
        streams = codec.encode_many(images, process)
        assert streams == [codec.encode(image, process) for image in images]
        for decoded, image in zip(codec.decode_many(streams), images, strict=True):
            assert_exact(decoded, image)


def test_views_are_encoded_as_their_copies(codec: Codec, photo: Photo) -> None:
    image = photo(20, 26)
    for view in (image[::-1], image[:, ::2], image.transpose(1, 0, 2), image[..., ::-1]):
        assert codec.encode(view) == codec.encode(view.copy())
    assert codec.encode(image[..., 1]) == codec.encode(image[..., 1].copy())
    for read_only in (image, drawing(30, 40)):
        read_only.flags.writeable = False
        assert_exact(codec.decode(codec.encode(read_only)), read_only)


def test_encoding_leaves_the_image_alone(codec: Codec, photo: Photo) -> None:
    image = photo(20, 26)
    before = image.copy()
    codec.encode(image)
    np.testing.assert_array_equal(image, before)


@pytest.mark.parametrize("size", [(1, 4096), (4096, 1), (2048, 2), (128, 32), (32, 128), (2, 128)])
def test_thin_images(codec: Codec, photo: Photo, size: tuple[int, int]) -> None:
    """Along a wavefront, whose steps grow with the sides, up to 128 pixels a side only."""
    image = photo(*size)
    data = codec.encode(image, histories=False)
    assert_exact(codec.decode(data), image)
    steps = len(codec.step_bits(data))
    assert steps <= 32 if max(size) > 128 else steps >= size[0]


def test_a_process_that_makes_no_difference_is_not_spelled_out(codec: Codec, photo: Photo) -> None:
    """Schedule and steps of a wavefront, adaptation to a small image, Halton for a large one."""
    small, large = photo(20, 22), photo(70, 66)
    for image, process in (
        (small, Process(Order.AUTO, Schedule.LINEAR, 9, adaptive=False)),
        (large, Process(Order.HALTON)),
    ):
        assert codec.encode(image, process) == codec.encode(image)
    halton = codec.encode(small, Process(Order.HALTON))
    assert codec.encode(small, Process(Order.HALTON, adaptive=False)) == halton
    assert codec.encode(small) != halton
    assert codec.encode(large, Process(adaptive=False)) != codec.encode(large)


def test_a_batch_gives_the_streams_of_single_images(codec: Codec, photo: Photo) -> None:
    images = [photo(32, 32, 3, seed) for seed in range(5)]
    images += [photo(32, 32, 1), photo(32, 20, 3), photo(32, 32, 3, 9), photo(32, 20, 3, 1)]
    streams = codec.encode_many(images)
    assert streams == [codec.encode(image) for image in images]
    for decoded, image in zip(codec.decode_many(streams), images, strict=True):
        assert_exact(decoded, image)


def test_a_batch_may_mix_processes(codec: Codec, photo: Photo) -> None:
    image = photo(16, 16)
    streams = [codec.encode(image, Process(steps=steps)) for steps in (3, 32, 3)]
    for decoded in codec.decode_many(streams):
        assert_exact(decoded, image)


def test_empty_batches(codec: Codec) -> None:
    assert codec.encode_many([]) == []
    assert codec.decode_many([]) == []


def test_one_damaged_stream_of_a_batch_is_reported(codec: Codec, photo: Photo) -> None:
    streams = codec.encode_many([photo(16, 16, 3, seed) for seed in range(3)])
    streams[1] = streams[1][:-4]
    with pytest.raises(CorruptStream):
        codec.decode_many(streams)


def test_progress_is_reported(codec: Codec, photo: Photo) -> None:
    images = [photo(16, 16), photo(9, 30)]
    for call in (codec.encode_many, codec.decode_many):
        seen: list[float] = []
        images = call(images, progress=seen.append)
        assert seen == sorted(seen)
        assert seen[0] > 0
        assert seen[-1] == pytest.approx(1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("process", "count"),
    [
        (Process(Order.HALTON), 32),
        (Process(Order.CHECKERBOARD, Schedule.LINEAR, 6), 6),
        (Process(), 32),  # 146 steps of a wavefront
    ],
)
def test_progressive_decoding(
    codec: Codec, photo: Photo, channels: int, process: Process, count: int
) -> None:
    image = photo(40, 29, channels)
    frames = list(codec.decode_progressive(codec.encode(image, process)))
    assert len(frames) == count
    before = np.zeros((40, 29), dtype=bool)
    for shown, known in frames:
        assert shown.dtype == np.uint8
        assert shown.shape == image.shape
        assert known.dtype == np.bool_
        assert known.shape == (40, 29)
        assert (known | before).sum() == known.sum() > before.sum()
        np.testing.assert_array_equal(shown[known], image[known])
        before = known
    assert before.all()
    assert_exact(frames[-1][0], image)
    # The previews get closer to the image.
    errors = [np.abs(shown.astype(int) - image).mean() for shown, _ in frames]
    assert errors[len(errors) // 2] < errors[0]


def test_progressive_decoding_of_a_damaged_stream(codec: Codec, photo: Photo) -> None:
    data = bytearray(codec.encode(photo(20, 20)))
    data[-5] ^= 1
    with pytest.raises(CorruptStream):
        list(codec.decode_progressive(bytes(data)))


@pytest.mark.parametrize(("order", "steps"), [(Order.HALTON, 32), (Order.AUTO, 30 + 3 * 29)])
def test_bits_of_each_step(codec: Codec, photo: Photo, order: Order, steps: int) -> None:
    data = codec.encode(photo(30, 30), Process(order))
    bits = codec.step_bits(data)
    assert len(bits) == steps
    assert min(bits) >= 0
    payload = 8 * read_header(data).payload_bytes
    assert payload - 64 <= sum(bits) <= payload + 64


@pytest.mark.parametrize("mode", ["RGB", "L"])
def test_a_photograph_is_compressed(codec: Codec, mode: str) -> None:
    """The photograph that matplotlib brings along, reduced: shorter than PNG."""
    path = get_sample_data("grace_hopper.jpg", asfileobj=False)
    photograph = PIL.Image.open(path).reduce(5).convert(mode)
    png = io.BytesIO()
    photograph.save(png, "PNG", optimize=True)
    image = np.asarray(photograph)
    data = codec.encode(image)
    assert len(data) < 0.95 * len(png.getvalue())
    assert_exact(codec.decode(data), image)


def test_extremes_of_compression(codec: Codec) -> None:
    """Noise is not blown up by much, and a flat image takes next to nothing."""
    noise = np.random.default_rng(2).integers(0, 256, (64, 64)).astype(np.uint8)
    assert 8 * len(codec.encode(noise)) / noise.size < 10
    flat = np.full((64, 64, 3), 99, dtype=np.uint8)
    assert 8 * len(codec.encode(flat)) / flat.size < 0.5


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((8, 8), dtype=np.int16),
        np.zeros((8, 8, 3), dtype=np.float32),
        np.zeros((8, 8), dtype=np.int8),
        np.zeros((8, 8), dtype=bool),
        np.zeros((8, 8, 5), dtype=np.uint8),
        np.zeros((8, 8, 1), dtype=np.uint8),
        np.zeros(8, dtype=np.uint8),
        np.zeros((2, 8, 8, 3), dtype=np.uint8),
        np.zeros((0, 8), dtype=np.uint8),
        np.zeros((8, 0, 3), dtype=np.uint8),
        np.zeros((4097, 1), dtype=np.uint8),
        np.zeros((1, 4097, 3), dtype=np.uint8),
        [[1, 2], [3, 4]],
    ],
    ids=lambda image: f"{getattr(image, 'dtype', 'list')}{getattr(image, 'shape', '')}",
)
def test_refused_images(codec: Codec, image: Image) -> None:
    with pytest.raises(UnsupportedImage, match=r"images? (must|sides)"):
        codec.encode(image)


def test_longest_sides(codec: Codec) -> None:
    for shape in ((4096, 1), (1, 4096, 3)):
        image = np.arange(np.prod(shape)).reshape(shape).astype(np.uint8)
        assert_exact(codec.decode(codec.encode(image)), image)


def test_model_files_round_trip(codec: Codec, photo: Photo, tmp_path: Path) -> None:
    path = tmp_path / "copy.safetensors"
    codec.model.save(path)
    copy = Codec.load(path)
    assert copy.model.model_id == codec.model.model_id
    image = photo(16, 16)
    assert copy.encode(image) == codec.encode(image)


def test_unusable_model_files(codec: Codec, tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no model"):
        Codec.load("no-such-model")
    path = tmp_path / "model.safetensors"
    path.write_bytes(b"not safetensors")
    with pytest.raises(ModelError, match="not a model"):
        Codec.load(path)


def test_a_changed_weight_fails_the_self_test(codec: Codec, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    codec.model.save(path)
    data = bytearray(path.read_bytes())
    # The file begins with the length of its header; the tensors' bytes follow.
    start = 8 + int.from_bytes(data[:8], "little")
    rng = np.random.default_rng(3)
    for position in rng.integers(start, len(data), 3):
        damaged = bytearray(data)
        damaged[position] ^= 0x55
        path.write_bytes(damaged)
        try:
            model_id = Codec.load(path).model.model_id
        except ModelError:
            continue
        # Not part of the network (a table): then at least it is another model.
        assert model_id != codec.model.model_id


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("shape", [(9, 70), (9, 70, 2), (9, 70, 3), (70, 9, 4)])
def test_alpha_and_sixteen_bits(
    codec: Codec, shape: tuple[int, ...], dtype: type[np.unsignedinteger[Any]]
) -> None:
    rng = np.random.default_rng(len(shape))
    image = rng.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)
    stream = codec.encode(image)
    decoded = codec.decode(stream)
    assert decoded.dtype == dtype
    np.testing.assert_array_equal(decoded, image)
    header = read_header(stream)
    assert (header.channels, header.depth) == (image[0, 0].size, 8 * image.itemsize)
