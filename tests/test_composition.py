"""Composed images: every kind there and back, literal values, and hostile side information."""

import numpy as np
import pytest

from source_codec.composition import (
    Composed,
    Kind,
    Metadata,
    Palette,
    PartShape,
    Samples,
    describe,
    join,
    part_shapes,
    read_palette,
    split,
    split_palette,
    unwrap_metadata,
    wrap_metadata,
)
from source_codec.composition.palette import Order, _number_of, _permutation
from source_codec.errors import CorruptStream

RAMP = np.arange(48, dtype=np.uint8).reshape(6, 8)
RGB = np.stack([RAMP, RAMP + 50, RAMP + 100], axis=-1)


def medical(height: int = 40, width: int = 56, seed: int = 0) -> np.ndarray:
    """A smooth picture of 12 bits with noise."""
    y, x = np.mgrid[0:height, 0:width]
    smooth = 1500 + 900 * np.sin(x / 9) * np.cos(y / 7)
    noise = np.random.default_rng(seed).normal(0, 12, (height, width))
    return (smooth + noise).round().astype(np.uint16)


def restored(composed: Composed, image: Samples) -> Samples:
    """Back from the parts, whose shapes must be those that the side information announces."""
    shape = PartShape.of(image)
    size = (shape.height, shape.width, shape.channels, shape.depth)
    shapes = part_shapes(composed.kind, composed.side, *size)
    assert shapes == tuple(PartShape.of(part) for part in composed.parts)
    assert all(part.flags.c_contiguous for part in composed.parts)
    return join(composed.kind, composed.parts, composed.side, *size)


def assert_exact(composed: Composed | None, image: Samples) -> Composed:
    assert composed is not None
    back = restored(composed, image)
    assert back.dtype == image.dtype
    assert np.array_equal(back, image)
    return composed


def test_kinds_have_lasting_numbers() -> None:
    assert [(kind.name, int(kind)) for kind in Kind] == [
        ("ALPHA", 16),
        ("DEEP", 17),
        ("PALETTE", 18),
        ("METADATA", 19),
    ]


def test_the_core_takes_gray_and_rgb_as_they_are() -> None:
    assert split(RAMP) is None
    assert split(RGB) is None


@pytest.mark.parametrize(
    "image",
    [RAMP.astype(np.int16), RAMP[0], RAMP[:0], RGB[..., :1], np.dstack([RGB, RGB])],
)
def test_what_is_no_image_is_refused(image: np.ndarray) -> None:
    with pytest.raises(ValueError, match=r"image"):
        split(image)


def test_alpha_is_a_part_of_its_own() -> None:
    image = np.dstack([RGB, 255 - RAMP])
    composed = assert_exact(split(image), image)
    assert composed.side == b""
    assert np.array_equal(composed.parts[0], RGB)
    assert np.array_equal(composed.parts[1], 255 - RAMP)
    assert describe(composed.kind, composed.side) == "colour and alpha"


@pytest.mark.parametrize(("value", "side"), [(255, b"\xff"), (0, b"\0")])
def test_constant_alpha_is_one_byte(value: int, side: bytes) -> None:
    image = np.dstack([RAMP, np.full_like(RAMP, value)])
    composed = assert_exact(split(image), image)
    assert composed.side == side
    assert len(composed.parts) == 1
    assert describe(composed.kind, side) == f"colour of constant opacity {value}"


def test_deep_alpha() -> None:
    deep = np.dstack([RGB, RAMP]).astype(np.uint16) * 1000
    composed = assert_exact(split(deep), deep)
    assert [part.dtype for part in composed.parts] == [np.uint16, np.uint16]
    deep[..., 3] = 65535
    assert assert_exact(split(deep), deep).side == b"\xff\xff"


def test_alpha_joins_literal_parts() -> None:
    gray, opacity = np.array([[1, 2]], np.uint8), np.array([[3, 4]], np.uint8)
    assert join(Kind.ALPHA, (gray, opacity), b"", 1, 2, 2, 8).tolist() == [[[1, 3], [2, 4]]]
    assert join(Kind.ALPHA, (gray,), b"\x07", 1, 2, 2, 8).tolist() == [[[1, 7], [2, 7]]]


@pytest.mark.parametrize(
    ("image", "words", "part"),
    [
        (RAMP.astype(np.uint16) * 257, "stretched from 8 bits", RAMP),
        (RAMP.astype(np.uint16) << 6, "shifted by 6, from 0", RAMP),
        ((RAMP.astype(np.uint16) + 3) << 4, "shifted by 4, from 48", RAMP),
        (np.full((6, 8), 1234, np.uint16), "1 sample values", np.zeros((6, 8))),
    ],
)
def test_fewer_bits_than_16_are_found(image: np.ndarray, words: str, part: np.ndarray) -> None:
    composed = assert_exact(split(image), image)
    assert words in describe(composed.kind, composed.side)
    assert np.array_equal(composed.parts[0], part)
    assert len(composed.side) <= 5


@pytest.mark.parametrize("rule", ["repeated", "rounded", "truncated", "shifted"])
def test_12_bits_stretched_to_16_cost_what_12_bits_do(rule: str) -> None:
    image = medical()
    wide = image.astype(np.int64)
    stretched = {
        "repeated": wide << 4 | wide >> 8,
        "rounded": (wide * 65535 + 2047) // 4095,
        "truncated": wide * 65535 // 4095,
        "shifted": wide << 4,
    }[rule].astype(np.uint16)
    plain = assert_exact(split(image), image)
    composed = assert_exact(split(stretched), stretched)
    assert np.array_equal(plain.parts[0], composed.parts[0])
    assert abs(len(plain.side) - len(composed.side)) <= 2


def test_values_through_a_curve_are_listed() -> None:
    rng = np.random.default_rng(1)
    curve = np.round(65535 * (np.arange(256) / 255) ** 2.2).astype(np.uint16)
    numbers = rng.integers(0, 256, (64, 64))
    composed = assert_exact(split(curve[numbers]), curve[numbers])
    used = np.unique(curve)
    assert f"{len(used)} listed" in describe(composed.kind, composed.side)
    assert np.array_equal(used[composed.parts[0]], curve[numbers])


def test_low_bits_of_smooth_pictures_cost_less_than_they_are() -> None:
    y, x = np.mgrid[0:64, 0:64]
    image = (200 * x + 90 * y + 1000).astype(np.uint16)
    composed = assert_exact(split(image), image)
    assert composed.parts[0].dtype == np.uint8
    assert 8 * len(composed.side) < 0.8 * image.size * 7


def test_noise_costs_no_more_than_it_is() -> None:
    image = np.random.default_rng(2).integers(0, 65536, (48, 48), dtype=np.uint16)
    composed = assert_exact(split(image), image)
    assert len(composed.side) <= image.size + 32


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (9, 1), (2, 3), (33, 65)])
@pytest.mark.parametrize("channels", [1, 3])
def test_deep_images_of_any_size(size: tuple[int, int], channels: int) -> None:
    rng = np.random.default_rng(sum(size))
    image = rng.integers(0, 65536, (*size, channels)).astype(np.uint16)
    image = image[..., 0] if channels == 1 else image
    assert_exact(split(image), image)


def test_deep_colour_with_structure_shared_by_channels() -> None:
    gray = medical(64, 64)
    noise = np.random.default_rng(3).integers(0, 3, (64, 64, 3))
    image = (gray[..., None] + noise).astype(np.uint16)
    separate = sum(len(split(image[..., c].copy()).side) for c in range(3))  # type: ignore[union-attr]
    assert len(assert_exact(split(image), image).side) < 0.85 * separate


def test_deep_gray_stored_as_rgb_is_one_plane() -> None:
    image = np.repeat(medical()[..., None], 3, axis=2)
    composed = assert_exact(split(image), image)
    assert composed.parts[0].shape == image.shape[:2]
    assert describe(composed.kind, composed.side).endswith("gray stored as RGB")


def palette_image(size: int, seed: int = 0) -> tuple[np.ndarray, Palette]:
    """A gradient through a palette in random order."""
    rng = np.random.default_rng(seed)
    order = rng.permutation(size)
    shades = np.linspace(0, 255, size).astype(np.uint8)
    colours = np.stack([shades, shades, 255 - shades // 2], axis=1)
    stored = np.empty_like(colours)
    stored[order] = colours
    y, x = np.mgrid[0:40, 0:60]
    wave = (0.5 + 0.5 * np.sin(x / 17 + y / 23)) * (size - 1)
    return order[wave.round().astype(int)].astype(np.uint8), Palette(stored.tobytes())


def test_palette_in_disorder_becomes_a_smooth_image() -> None:
    indices, palette = palette_image(256)
    composed = assert_exact(split_palette(indices, palette), indices)
    part = composed.parts[0].astype(int)
    assert abs(np.diff(part, axis=1)).max() <= 24
    assert abs(np.diff(indices.astype(int), axis=1)).max() > 200
    assert read_palette(composed.side) == palette
    assert describe(composed.kind, composed.side).startswith("palette of 256 colours, numbered by")


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("opacities", [0, 1, 2])
def test_palettes_come_back_as_they_were(bits: int, opacities: int) -> None:
    rng = np.random.default_rng(bits)
    size = 1 << bits
    palette = Palette(
        rng.integers(0, 256, 3 * size, dtype=np.uint8).tobytes(),
        rng.integers(0, 256, opacities * size // 2, dtype=np.uint8).tobytes(),
        bits,
    )
    indices = rng.integers(0, size, (9, 7), dtype=np.uint8)
    composed = assert_exact(split_palette(indices, palette), indices)
    assert read_palette(composed.side) == palette
    assert len(composed.side) <= 3 * size + len(palette.transparency) + 4


def test_indices_beyond_the_palette_are_kept() -> None:
    palette = Palette(bytes([9, 9, 9, 200, 200, 200, 100, 100, 100]))
    indices = np.array([[0, 1, 2, 3, 255]], np.uint8)
    assert_exact(split_palette(indices, palette), indices)


def test_palette_side_information_is_as_documented() -> None:
    palette = Palette(b"\x01\x02\x03\xf0\xf1\xf2", bits=1)
    composed = split_palette(np.array([[0, 1]], np.uint8), palette)
    assert composed.side == b"\x00\x01\x00\x00\x01\xf0\x02\xf1\x03\xf2"
    by_luma = b"\x04\x01\x00\x00\xf0\x01\xf1\x02\xf2\x03"  # the second colour is the darker one
    indices = join(Kind.PALETTE, (np.array([[0, 1, 1]], np.uint8),), by_luma, 1, 3, 1, 8)
    assert indices.tolist() == [[1, 0, 0]]


def test_permutations_have_numbers() -> None:
    assert _number_of(np.arange(256)) == bytes(211)
    assert _number_of(np.array([2, 1, 0])) == b"\x05"
    order = np.random.default_rng(4).permutation(256)
    assert np.array_equal(_permutation(_number_of(order), 256), order)
    with pytest.raises(CorruptStream):
        _permutation(b"\x06", 3)
    assert [order.value for order in Order] == [0, 1, 2, 3]


@pytest.mark.parametrize(
    "palette",
    [Palette(b""), Palette(b"ab"), Palette(bytes(9), bits=1), Palette(bytes(3), bytes(2))],
)
def test_impossible_palettes_are_refused(palette: Palette) -> None:
    with pytest.raises(ValueError, match=r"palette|colours"):
        split_palette(RAMP % 2, palette)


METADATA = Metadata(
    colour_key=b"\0\1\0\2\0\3",
    icc=b"profile " * 100,
    icc_name=b"a profile",
    exif=b"MM\0*\0\0\0\x08\0\0",
    density=b"\0\0\x0b\x13\0\0\x0b\x13\1",
    gamma=b"\0\0\xb1\x8f",
    intent=b"\0",
    chromaticities=bytes(range(32)),
    code_points=b"\1\x0d\0\1",
    significant=b"\5\6\5",
    background=b"\0\1\0\2\0\3",
    xmp=b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
)


def test_metadata_come_back() -> None:
    composed = wrap_metadata(RGB, METADATA)
    assert composed is not None
    assert assert_exact(composed, RGB).parts[0] is RGB
    assert unwrap_metadata(composed.side) == METADATA
    assert len(composed.side) < 220
    assert "icc 800 bytes, icc_name 9 bytes" in describe(composed.kind, composed.side)
    assert METADATA.dpi == pytest.approx((72.009, 72.009))


def test_no_metadata_no_composition() -> None:
    assert wrap_metadata(RGB, Metadata()) is None
    assert Metadata().dpi is None


def test_metadata_side_information_is_as_documented() -> None:
    composed = wrap_metadata(RAMP % 2, Metadata(bits=b"\1", gamma=b"\0\0\xb1\x8f"))
    assert composed is not None
    assert composed.side == b"\0\2\1" + b"\6\x08\0\0\xb1\x8f"


@pytest.mark.parametrize(
    "metadata",
    [
        Metadata(gamma=b"123"),
        Metadata(bits=b"\3"),
        Metadata(icc=bytes((1 << 24) + 1)),
        Metadata(icc_name=b"of nothing"),
        Metadata(colour_key=b"\0\0"),
        Metadata(bits=b"\1"),
    ],
)
def test_impossible_metadata_are_refused(metadata: Metadata) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrap_metadata(RGB, metadata)


def test_metadata_do_not_explode() -> None:
    zeros = wrap_metadata(RGB, Metadata(icc=bytes(1 << 24)))
    assert zeros is not None
    assert len(zeros.side) < 20_000
    assert len(unwrap_metadata(zeros.side).icc) == 1 << 24
    with pytest.raises(CorruptStream):  # a byte more in the next field
        unwrap_metadata(zeros.side + b"\4\2x")


def composed_examples() -> list[tuple[Composed, Samples]]:
    rng = np.random.default_rng(5)
    curve = np.sort(rng.choice(65536, 200, replace=False)).astype(np.uint16)
    alpha = np.dstack([RGB, RAMP])
    deep = [
        medical(24, 20),
        np.stack([medical(16, 16, seed) * 9 for seed in range(3)], axis=2),
        curve[rng.integers(0, 200, (40, 40))],
    ]
    indices, palette = palette_image(60)
    mixed = rng.integers(0, 60, (60, 60), dtype=np.uint8)
    examples = [(split(image), image) for image in (alpha, *deep)]
    examples += [
        (split(np.dstack([RAMP, RAMP * 0 + 9])), np.dstack([RAMP, RAMP * 0 + 9])),
        (split_palette(indices, palette), indices),
        (split_palette(mixed, Palette(palette.colours, bytes(range(30)), 8)), mixed),
        (wrap_metadata(RGB, METADATA), RGB),
    ]
    return [(composed, image) for composed, image in examples if composed is not None]


@pytest.mark.parametrize("number", range(8))
def test_hostile_side_information(number: int) -> None:
    """Bytes changed, inserted, lost: an error in words, or an image of the right shape."""
    composed, image = composed_examples()[number]
    shape = PartShape.of(image)
    size = (shape.height, shape.width, shape.channels, shape.depth)
    rng = np.random.default_rng(number)
    refused = 0
    for _ in range(500):
        side = bytearray(composed.side)
        place = int(rng.integers(0, min(len(side), 40) + 1))
        match int(rng.integers(0, 4)):
            case 0:
                side[place : place + 1] = rng.bytes(1)
            case 1:
                side[place:place] = rng.bytes(int(rng.integers(1, 4)))
            case 2:
                del side[place:]
            case _ if side:
                side[int(rng.integers(0, len(side)))] ^= 1 << int(rng.integers(0, 8))
        kind = composed.kind if rng.random() < 0.9 else Kind(int(rng.integers(16, 20)))
        try:
            shapes = part_shapes(kind, bytes(side), *size)
            parts = tuple(
                rng.integers(0, 1 << s.depth, (s.height, s.width, s.channels))
                .astype(f"uint{s.depth}")
                .reshape((s.height, s.width) if s.channels == 1 else (s.height, s.width, -1))
                for s in shapes
            )
            parts = composed.parts if shapes == _shapes(composed) else parts
            back = join(kind, parts, bytes(side), *size)
            assert describe(kind, bytes(side))
        except CorruptStream as error:
            refused += len(str(error)) > 0
            continue
        assert back.shape == image.shape
        assert back.dtype == image.dtype
    assert refused > 50


def _shapes(composed: Composed) -> tuple[PartShape, ...]:
    return tuple(PartShape.of(part) for part in composed.parts)


@pytest.mark.parametrize("number", range(8))
def test_compositions_that_an_image_cannot_have(number: int) -> None:
    composed, image = composed_examples()[number]
    shape = PartShape.of(image)
    with pytest.raises(CorruptStream):
        part_shapes(composed.kind, composed.side, 6, 8, 5 - shape.channels, 24 - shape.depth)
    with pytest.raises(CorruptStream):
        join(composed.kind, (), composed.side, 6, 8, shape.channels, shape.depth)
    wrong = tuple(part[:1] for part in composed.parts)
    size = (shape.height, shape.width, shape.channels, shape.depth)
    with pytest.raises(CorruptStream):
        join(composed.kind, wrong, composed.side, *size)


def test_unknown_kind() -> None:
    with pytest.raises(CorruptStream, match="unknown kind"):
        part_shapes(3, b"", 1, 1, 1, 8)  # type: ignore[arg-type]
    with pytest.raises(CorruptStream, match="unknown kind"):
        describe(3, b"")  # type: ignore[arg-type]
