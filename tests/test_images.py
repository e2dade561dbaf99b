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

from sscc.errors import InputError
from sscc.images import read_images

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


def gray_png(image: np.ndarray, bits: int) -> bytes:
    """A gray PNG of 1, 2 or 4 bits a sample."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc32(kind + data))

    height, width = image.shape
    planes = np.unpackbits(image[..., None], axis=2)[..., -bits:].reshape(height, -1)
    rows = b"".join(b"\0" + np.packbits(row).tobytes() for row in planes)
    header = struct.pack(">IIBBBBB", width, height, bits, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        chunk(*part) for part in ((b"IHDR", header), (b"IDAT", compress(rows)), (b"IEND", b""))
    )


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
