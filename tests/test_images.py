"""Image files as hostile or merely unsuitable input: an error in words, and nothing else."""

import logging
import struct
import warnings
from pathlib import Path
from zlib import compress, crc32

import imagecodecs
import numpy as np
import pytest
from PIL import Image

from source_codec.composition import Metadata, Palette
from sscc.errors import InputError
from sscc.images import Picture, read_images, read_picture, write_picture, write_png

GRAY = np.arange(48, dtype=np.uint8).reshape(6, 8)
RGB = np.stack([GRAY, GRAY + 50, GRAY + 100], axis=-1)


def refusal(path: Path) -> str:
    """The reason why a file is refused, which must come without any warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(InputError) as caught:
            read_images(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    return message


def npy(header: str, data: bytes = b"") -> bytes:
    """A .npy file, version 1.0, with any header."""
    text = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


def npy_of_shape(shape: str, data: bytes = b"") -> bytes:
    return npy(f"{{'descr': '|u1', 'fortran_order': False, 'shape': {shape}, }}", data)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "not a .npy array"),
        (b"PK\x03\x04 no archive", "not a .npy array"),
        (npy_of_shape("(8, 8)", b"too short"), "not a .npy array"),
        (npy_of_shape("(100000000000, 8, 8, 3)"), "not a .npy array"),
        (npy_of_shape("(4294967296, 4294967296)"), "not a .npy array"),
        (npy_of_shape("(99999999999999999999, 8)"), "not a .npy array"),
        (npy_of_shape("(-8, -8)", bytes(64)), "not a .npy array"),
        (npy("{'descr': '''"), "not a .npy array"),
        (npy("(" * 9000), "not a .npy array"),
        (npy(r"{'descr': '\d'}"), "not a .npy array"),
        (npy_of_shape("(1000000000000, 0, 0)"), "1 to 4096 pixels, not 0x0"),
        (npy_of_shape("(2, 5000, 1)", bytes(10_000)), "1 to 4096 pixels, not 1x5000"),
        (npy_of_shape("()", b"x"), "shape ()"),
    ],
)
def test_refused_array_files(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "array.npy"
    path.write_bytes(content)
    assert reason in refusal(path)


def test_archive_of_arrays_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "array.npy"
    with path.open("wb") as stream:
        np.savez(stream, GRAY)
    assert "not a .npy array" in refusal(path)


def test_arrays_are_read_into_memory(tmp_path: Path) -> None:
    for name, array in (("one", RGB), ("stack", np.stack([GRAY, GRAY + 1]))):
        path = tmp_path / f"{name}.npy"
        np.save(path, array)
        file = read_images(path)
        assert file.is_stack == (name == "stack")
        assert np.array_equal(np.squeeze(file.images), array)
        assert all(type(image.base) in (np.ndarray, type(None)) for image in file.images)


def test_missing_array_is_an_error_of_the_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        read_images(tmp_path / "missing.npy")


def png_of(*chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG file of the given chunks and an end."""
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))
        for kind, data in (*chunks, (b"IEND", b""))
    )


def gray_png(image: np.ndarray, bits: int) -> bytes:
    """A gray PNG of 1, 2 or 4 bits a sample."""
    height, width = image.shape
    planes = np.unpackbits(image[..., None], axis=2)[..., -bits:].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return png_of((b"IHDR", header), (b"IDAT", compress(rows)))


@pytest.mark.parametrize(
    ("bits", "reason"),
    [(1, "mode 1 are not"), (2, "stored as L;2, not as 8 bits"), (4, "stored as L;4, not as 8")],
)
def test_png_of_few_bits_is_refused(tmp_path: Path, bits: int, reason: str) -> None:
    path = tmp_path / "gray.png"
    path.write_bytes(gray_png(GRAY % 2**bits, bits))
    assert reason in refusal(path)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"P5 2 2 15\n" + bytes(4), "stored as L of 0 to 15, not as 8 bits"),
        (b"P2 2 2 7\n1 2 3 4\n", "stored as L of 0 to 7, not as 8 bits"),
        (b"P6 1 1 65535\n" + bytes(6), "stored as RGB of 0 to 65535, not as 8 bits"),
        (imagecodecs.jpeg2k_encode(RGB), "do not tell how their samples are stored"),
    ],
)
def test_samples_that_would_be_converted_are_refused(
    tmp_path: Path, content: bytes, reason: str
) -> None:
    path = tmp_path / "picture"
    path.write_bytes(content)
    assert reason in refusal(path)


@pytest.mark.parametrize("kind", ["png", "tif", "bmp", "ppm", "webp", "tga", "pcx", "sgi"])
def test_pictures_of_8_bits_are_taken_as_they_are(tmp_path: Path, kind: str) -> None:
    options = {"lossless": True} if kind == "webp" else {}
    for image in (RGB,) if kind == "webp" else (RGB, GRAY):
        path = tmp_path / f"picture.{kind}"
        Image.fromarray(image).save(path, **options)
        assert np.array_equal(read_images(path).images[0], image)


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_is_taken(tmp_path: Path, compression: str) -> None:
    path = tmp_path / "picture.tif"
    Image.fromarray(RGB).save(path, compression=compression)
    assert np.array_equal(read_images(path).images[0], RGB)


@pytest.mark.parametrize("side", [5000, 50_000])
def test_large_pictures_are_refused_before_they_are_decoded(tmp_path: Path, side: int) -> None:
    path = tmp_path / "large.pgm"
    path.write_bytes(b"P5 %d %d 255\n" % (side, side))  # without any pixels
    assert "sides must be 1 to 4096 pixels" in refusal(path)


def test_damaged_tiff_is_refused_whatever_the_damage(tmp_path: Path) -> None:
    """One byte changed at a time; Pillow raises OSError, SyntaxError, TypeError, ValueError."""
    path = tmp_path / "picture.tif"
    Image.fromarray(GRAY).save(path)
    content = path.read_bytes()
    causes = set()
    for place in range(len(content)):
        path.write_bytes(content[:place] + b"\xff" + content[place + 1 :])
        try:
            read_images(path)
        except InputError as error:
            causes.add(type(error.__cause__))
    assert {OSError, TypeError} <= causes


def test_pillow_does_not_log_to_stderr() -> None:
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("PIL").handlers)


DEEP = np.array([[[0, 1, 256], [65535, 4660, 257]]], dtype=np.uint16)
FIELDS = Metadata(
    icc=b"a colour profile",
    icc_name=b"its name",
    exif=b"MM\0*\0\0\0\x08\0\0",
    density=b"\0\0\x0b\x13\0\0\x0b\x13\1",
    gamma=b"\0\0\xb1\x8f",
    intent=b"\0",
    chromaticities=bytes(range(32)),
    xmp=b"XML:com.adobe.xmp\0\0\0\0\0<x/>",
)


def header_of(path: Path) -> tuple[int, ...]:
    """Width, height, bits per sample and colour type of a PNG file."""
    return struct.unpack(">IIBB", path.read_bytes()[16:26])


@pytest.mark.parametrize(
    ("picture", "bits", "colour_type"),
    [
        (Picture(GRAY), 8, 0),
        (Picture(RGB), 8, 2),
        (Picture(np.dstack([GRAY, GRAY + 1])), 8, 4),
        (Picture(np.dstack([RGB, GRAY])), 8, 6),
        (Picture(DEEP[..., 0]), 16, 0),
        (Picture(DEEP), 16, 2),
        (Picture(DEEP[..., :2]), 16, 4),
        (Picture(np.dstack([DEEP, DEEP[..., 1]])), 16, 6),
        (Picture(GRAY % 2, metadata=Metadata(bits=b"\1")), 1, 0),
        (Picture(GRAY % 4, metadata=Metadata(bits=b"\2")), 2, 0),
        (Picture(GRAY % 16, metadata=Metadata(bits=b"\4")), 4, 0),
        (Picture(GRAY % 2, Palette(b"abcxyz", b"\7", 1)), 1, 3),
        (Picture(GRAY % 3, Palette(b"abcdefxyz", b"", 2)), 2, 3),
        (Picture(GRAY % 9, Palette(bytes(range(27)), bytes(9), 4)), 4, 3),
        (Picture(GRAY, Palette(bytes(range(150)), b"\0\1", 8), FIELDS), 8, 3),
        (Picture(RGB, metadata=FIELDS), 8, 2),
        (Picture(RGB, metadata=Metadata(colour_key=b"\0\1\0\2\0\3")), 8, 2),
        (Picture(DEEP[..., 0], metadata=Metadata(colour_key=b"\1\0")), 16, 0),
    ],
)
def test_pictures_come_back_as_they_were(
    tmp_path: Path, picture: Picture, bits: int, colour_type: int
) -> None:
    path = tmp_path / "picture.png"
    write_picture(path, picture)
    height, width = picture.pixels.shape[:2]
    assert header_of(path) == (width, height, bits, colour_type)
    back = read_picture(path)
    assert back.pixels.dtype == picture.pixels.dtype
    assert np.array_equal(back.pixels, picture.pixels)
    assert (back.palette, back.metadata) == (picture.palette, picture.metadata)


def test_pillow_sees_what_was_written(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    colours = bytes(range(12))
    write_picture(path, Picture(GRAY % 4, Palette(colours, b"\0\x80", 2), FIELDS))
    with Image.open(path) as image:
        assert (image.mode, image.size) == ("P", (8, 6))
        assert np.array_equal(np.array(image), GRAY % 4)
        assert bytes(image.getpalette("RGB")) == colours
        assert image.info["transparency"] == b"\0\x80"
        assert image.info["icc_profile"] == FIELDS.icc
        assert image.info["exif"].removeprefix(b"Exif\0\0") == FIELDS.exif
        assert image.info["dpi"] == pytest.approx((72.009, 72.009))
        assert image.info["gamma"] == pytest.approx(0.45455)
    for array in (GRAY, RGB, np.dstack([RGB, GRAY]), DEEP[..., 0]):
        write_png(path, array)
        with Image.open(path) as image:
            assert np.array_equal(np.array(image), array)
    write_picture(path, Picture(GRAY % 2, metadata=Metadata(bits=b"\1")))
    with Image.open(path) as image:
        assert image.mode == "1"
        assert np.array_equal(np.array(image), GRAY % 2 == 1)


def test_deep_colours_are_read_literally(tmp_path: Path) -> None:
    path = tmp_path / "deep.png"
    row = bytes.fromhex("00 0000 0001 0100 ffff 1234 0101")
    path.write_bytes(
        png_of((b"IHDR", struct.pack(">IIBBBBB", 2, 1, 16, 2, 0, 0, 0)), (b"IDAT", compress(row)))
    )
    pixels = read_picture(path).pixels
    assert pixels.dtype == np.uint16
    assert pixels.tolist() == [[[0, 1, 256], [65535, 4660, 257]]]


def test_transparent_colour_stays_one(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    Image.fromarray(RGB).save(path, transparency=(1, 51, 101))
    picture = read_picture(path)
    assert np.array_equal(picture.pixels, RGB)
    assert picture.metadata == Metadata(colour_key=b"\0\1\0\x33\0\x65")


def interlaced_png(image: np.ndarray) -> bytes:
    """A gray or palette image of 8 bits in seven passes (Adam7)."""
    passes = [(0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4)]
    passes += [(2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1)]
    rows = b""
    for top, left, down, right in passes:
        part = image[top::down, left::right]
        rows += b"".join(b"\0" + row.tobytes() for row in part) if part.size else b""
    height, width = image.shape
    header = struct.pack(">IIBBBBB", width, height, 8, 3, 0, 0, 1)
    return png_of((b"IHDR", header), (b"PLTE", bytes(150)), (b"IDAT", compress(rows)))


def test_interlaced_png(tmp_path: Path) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(interlaced_png(GRAY))
    picture = read_picture(path)
    assert np.array_equal(picture.pixels, GRAY)
    assert picture.palette == Palette(bytes(150))


@pytest.mark.parametrize("kind", ["tif", "tga", "webp"])
def test_alpha_of_other_formats(tmp_path: Path, kind: str) -> None:
    path, image = tmp_path / f"picture.{kind}", np.dstack([RGB, GRAY])
    options = {"lossless": True, "exact": True} if kind == "webp" else {}
    Image.fromarray(image).save(path, **options)
    assert np.array_equal(read_picture(path).pixels, image)


@pytest.mark.parametrize("kind", ["tif", "pgm"])
def test_deep_gray_of_other_formats(tmp_path: Path, kind: str) -> None:
    path, image = tmp_path / f"picture.{kind}", GRAY.astype(np.uint16) * 1000
    Image.fromarray(image).save(path)
    picture = read_picture(path)
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, image)


@pytest.mark.parametrize("kind", ["gif", "bmp"])
def test_palettes_of_other_formats(tmp_path: Path, kind: str) -> None:
    path = tmp_path / f"picture.{kind}"
    image = Image.fromarray(GRAY % 8, mode="P")
    image.putpalette(bytes(range(24)))
    image.save(path)
    picture = read_picture(path)
    assert picture.palette is not None
    assert picture.palette.colours[:24] == bytes(range(24))
    assert np.array_equal(picture.pixels, GRAY % 8)


def test_profile_and_resolution_of_other_formats(tmp_path: Path) -> None:
    path = tmp_path / "picture.tif"
    Image.fromarray(RGB).save(path, icc_profile=b"profile", dpi=(300, 300))
    metadata = read_picture(path).metadata
    assert metadata.icc == b"profile"
    assert metadata.dpi == pytest.approx((300, 300), rel=1e-4)


SIZE = struct.pack(">IIBBBBB", 8, 6, 8, 0, 0, 0, 0)
ROWS = compress(b"".join(b"\0" + row.tobytes() for row in GRAY))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"no picture", "not an image file"),
        (png_of((b"IHDR", SIZE), (b"IDAT", ROWS))[:-20], "damaged image file (the file is trunc"),
        (png_of((b"IDAT", ROWS)), "no header"),
        (png_of((b"IHDR", SIZE), (b"IDAT", ROWS[:9])), "damaged image data"),
        (png_of((b"IHDR", SIZE)), "damaged image data"),
        (png_of((b"IHDR", SIZE[:8] + b"\3" + SIZE[9:])), "no samples of 3 bits"),
        (png_of((b"IHDR", SIZE[:9] + b"\5" + SIZE[10:])), "in colour type 5"),
        (png_of((b"IHDR", b"\0\0\x20\0" + SIZE[4:])), "1 to 4096 pixels, not 8192x6"),
        (png_of((b"IHDR", b"\0\0\0\0" + SIZE[4:])), "1 to 4096 pixels, not 0x6"),
        (png_of((b"IHDR", SIZE), (b"acTL", b"\0\0\0\2\0\0\0\0")), "several frames"),
        (png_of((b"IHDR", SIZE), (b"gAMA", b"1"), (b"IDAT", ROWS)), "gamma of 1 bytes"),
        (png_of((b"IHDR", SIZE), (b"iCCP", b"x\0\0junk")), "damaged ICC profile"),
        (png_of((b"IHDR", SIZE), (b"iCCP", b"x\0\0" + compress(bytes(1 << 25)))), "wrong length"),
        (png_of((b"IHDR", SIZE), (b"tRNS", b"123"), (b"IDAT", ROWS)), "a transparent colour of"),
        (png_of((b"IHDR", SIZE[:9] + b"\3" + SIZE[10:]), (b"IDAT", ROWS)), "palette of 0 bytes"),
    ],
)
def test_refused_pictures(tmp_path: Path, content: bytes, reason: str) -> None:
    path = tmp_path / "picture.png"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        read_picture(path)
    assert reason in str(caught.value)
    assert str(caught.value).startswith(f"{path}: ")


def test_damaged_png_is_refused_or_read(tmp_path: Path) -> None:
    """Bytes changed with the checks put right; nothing but an InputError may come of it."""
    path = tmp_path / "picture.png"
    write_picture(path, Picture(GRAY % 4, Palette(bytes(12), b"\0", 2), FIELDS))
    content, rng = path.read_bytes(), np.random.default_rng(0)
    refused = 0
    for _ in range(500):
        damaged = bytearray(content)
        damaged[int(rng.integers(0, len(content)))] = int(rng.integers(0, 256))
        position = 8
        while position + 12 <= len(damaged):
            end = position + 8 + int.from_bytes(damaged[position : position + 4], "big")
            damaged[end : end + 4] = crc32(damaged[position + 4 : end]).to_bytes(4, "big")
            position = end + 4
        path.write_bytes(damaged)
        try:
            read_picture(path)
        except InputError:
            refused += 1
    assert 50 < refused < 500


@pytest.mark.parametrize(
    "picture",
    [
        Picture(GRAY, Palette(bytes(6), bits=1)),
        Picture(RGB, Palette(bytes(6))),
        Picture(GRAY, metadata=Metadata(bits=b"\2")),
        Picture(GRAY, metadata=Metadata(colour_key=bytes(6))),
        Picture(GRAY, Palette(bytes(150)), Metadata(colour_key=bytes(2))),
    ],
)
def test_impossible_pictures_are_not_written(tmp_path: Path, picture: Picture) -> None:
    with pytest.raises(ValueError, match=r"palette|colour|bits"):
        write_picture(tmp_path / "picture.png", picture)
    assert not list(tmp_path.iterdir())
