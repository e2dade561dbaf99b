"""Images and stacks of images as files.

Reading is strict: an image is taken only if its pixels come as they stand in the file. A conversion
that nobody asked for is a loss that nobody sees.

:func:`read_images` takes 8-bit gray and RGB, and refuses whatever would have to be converted
(palettes, alpha, 4 or 16 bits). :func:`read_picture` takes every kind of PNG file with its palette
and metadata, and of other formats what Pillow presents unchanged; :func:`write_picture` writes the
same kind of PNG file again.

Files may be damaged or hostile: sizes are checked before pixels are read, and whatever a reader
raises on such a file is an :class:`InputError` here.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError
from PIL.ImageFile import ImageFile as PictureFile

from source_codec.composition import (
    Metadata,
    Palette,
    Samples,
    metadata_misfit,
    metadata_problem,
    palette_problem,
)
from source_codec.container import MAX_SIDE
from source_codec.picture import Picture
from sscc import png
from sscc.errors import InputError

Pixels = NDArray[np.uint8]

STACK_SUFFIX = ".npy"
_SEVERAL_FRAMES = "holds several frames; extract one first"
_CONVERT = "convert it to 8-bit RGB or gray first"
_RAW_MODES = frozenset(
    {
        "L", "L;R",  # gray; R: the bits of a byte in reverse order
        "L;I", "L;IR",  # gray with 0 for white
        "RGB", "RGB;R", "RGB;L",  # L: line by line
        "BGR", "BGRX",  # X: a byte that means nothing
        "R", "G", "B",  # plane by plane
    }
)  # fmt: skip
"""Pillow's names of sample layouts that hold exactly the 8-bit values it presents."""

_RAW_MODES_OF = {
    "RGB": _RAW_MODES,
    "L": _RAW_MODES,
    "RGBA": frozenset({"RGBA", "BGRA", "RGBA;L"}),
    "LA": frozenset({"LA", "LA;L"}),
    "P": frozenset({"P", "P;1", "P;4", "gif"}),
    "I": frozenset({"I;16B"}),
    "I;16": frozenset({"I;16"}),
    "I;16B": frozenset({"I;16B"}),
}
"""Of each of Pillow's modes the sample layouts that hold exactly the values it presents."""
_METRES_PER_INCH = 0.0254

# Pillow logs what it dislikes in a file; without a handler of the program's that goes to stderr.
logging.getLogger("PIL").addHandler(logging.NullHandler())


@dataclass(frozen=True)
class ImageFile:
    """The images of one file.

    Attributes:
        path: where they came from.
        images: uint8 arrays (H, W, 3) or (H, W); exactly one unless ``is_stack``.
        is_stack: whether the file is a stack of N images.
    """

    path: Path
    images: list[Pixels]
    is_stack: bool = False

    @property
    def names(self) -> list[str]:
        """A name per image: the file's stem, with a running number for a stack."""
        stem = self.path.stem
        if not self.is_stack:
            return [stem]
        digits = max(4, len(str(len(self.images) - 1)))
        return [f"{stem}-{index:0{digits}}" for index in range(len(self.images))]


def read_images(path: Path) -> ImageFile:
    """Reads an image file, or a ``.npy`` stack of shape (N, H, W, 3) or (N, H, W).

    An array (H, W, 3) or (H, W) is one image.

    Raises:
        InputError: not an image, one that is not 8-bit gray or RGB, or one too large for the codec.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == STACK_SUFFIX:
        return _from_array(path)
    return ImageFile(path, [_from_picture(path)])


def read_pictures(path: Path) -> tuple[list[str], list[Picture]]:
    """The names and pictures of an image file of any kind, or of a stack.

    Raises:
        InputError: see :func:`read_picture` and :func:`read_images`.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == STACK_SUFFIX:
        stack = _from_array(path)
        return stack.names, [Picture(image) for image in stack.images]
    return [path.stem], [read_picture(path)]


def read_single_image(path: Path) -> Pixels:
    """Reads a file that must hold exactly one image; errors as :func:`read_images`."""
    file = read_images(path)
    if file.is_stack:
        raise InputError(f"{path}: holds {len(file.images)} images; give a single one")
    return file.images[0]


def write_png(path: Path, image: Samples) -> None:
    """Writes uint8 or uint16, (H, W), (H, W, 2), (H, W, 3) or (H, W, 4), as PNG."""
    write_picture(path, Picture(image))


def read_picture(path: Path) -> Picture:
    """Reads an image file with its palette and metadata, every sample as it stands in the file.

    PNG files are read whatever their samples are, and their metadata byte by byte. Of other
    formats ICC profile, Exif and resolution are taken as far as Pillow finds them.

    Raises:
        InputError: not an image, a damaged one, one too large for the codec, one of several
            frames, or one that would have to be converted.
        OSError: the file cannot be read.
    """
    with path.open("rb") as stream:
        is_png = stream.read(len(png.SIGNATURE)) == png.SIGNATURE
    return _picture_from_png(path) if is_png else _picture_by_pillow(path)


def write_picture(path: Path, picture: Picture) -> None:
    """Writes a PNG file that :func:`read_picture` reads as the same picture.

    Raises:
        ValueError: palette or metadata that no PNG file can have, or that the pixels cannot.
    """
    reason = _problem(picture)
    if reason is not None:
        raise ValueError(reason)
    pixels = picture.pixels
    path.write_bytes(png.assemble(pixels, picture.palette, picture.metadata))


def _problem(picture: Picture) -> str | None:
    """Why a picture cannot be one of a PNG file, or None."""
    pixels, palette, metadata = picture.pixels, picture.palette, picture.metadata
    channels, depth = 1 if pixels.ndim == 2 else pixels.shape[2], 8 * pixels.dtype.itemsize
    reason = metadata_problem(metadata) or metadata_misfit(metadata, channels, depth)
    if reason is not None:
        return reason
    bits = metadata.bits[0] if metadata.bits else depth
    if palette is not None:
        bits = palette.bits
        if (channels, depth) != (1, 8) or metadata.bits or metadata.colour_key:
            return "a palette for an image that is not one of indices"
        reason = palette_problem(palette)
    if reason is None and int(pixels.max()) >> bits:
        reason = f"samples of more than {bits} bits"
    return reason


def _picture_from_png(path: Path) -> Picture:
    try:
        file = png.parse(path.read_bytes())
        header = file.header
        if not _sides_allowed(header.height, header.width):
            raise InputError(f"{path}: {_wrong_sides(header.height, header.width)}")
        if header.frames > 1:
            raise InputError(f"{path}: {_SEVERAL_FRAMES}")
        palette, metadata = png.palette(file), png.metadata(file)
        picture = Picture(png.samples(file), palette, metadata)
    except png.PngError as error:
        raise InputError(f"{path}: damaged image file ({error})") from error
    reason = _problem(picture)
    if reason is not None:
        raise InputError(f"{path}: damaged image file ({reason})")
    return picture


def _picture_by_pillow(path: Path) -> Picture:
    with _opened(path) as picture:
        reason = _size_refused(picture)
        if reason is None:
            modes = _raw_modes(picture)
            if not modes or not set(modes) <= _RAW_MODES_OF.get(picture.mode, frozenset()):
                stored = f" stored as {', '.join(modes)}" if modes else ""
                reason = f"{picture.format} images of mode {picture.mode}{stored} are not supported"
                reason += f"; {_CONVERT}"
        if reason is None:
            pixels = np.array(picture)
            if picture.mode.startswith("I"):
                pixels = pixels.astype(np.uint16)
            result = Picture(pixels, _palette_by_pillow(picture), _metadata_by_pillow(picture))
            reason = _problem(result)
            if reason is None:
                return result
    raise InputError(f"{path}: {reason}")


def _palette_by_pillow(picture: Image.Image) -> Palette | None:
    colours = picture.getpalette("RGB") if picture.mode == "P" else None
    if colours is None:
        return None
    transparency = picture.info.get("transparency", b"")
    if isinstance(transparency, int):  # the one index that is transparent
        transparency = b"\xff" * transparency + b"\0"
    size = max(len(colours) // 3, len(transparency))
    return Palette(bytes(colours).ljust(3 * size, b"\0"), transparency)


def _metadata_by_pillow(picture: Image.Image) -> Metadata:
    info, density = picture.info, b""
    if info.get("dpi", (1, 1)) != (1, 1):  # which is what Pillow says of TIFF files without
        per_metre = [round(float(dots) / _METRES_PER_INCH) for dots in info["dpi"]]
        if all(0 < dots < 1 << 31 for dots in per_metre):
            density = b"".join(dots.to_bytes(4, "big") for dots in per_metre) + b"\1"
    exif = bytes(info.get("exif") or b"").removeprefix(b"Exif\0\0")
    metadata = Metadata(icc=bytes(info.get("icc_profile") or b""), exif=exif, density=density)
    return Metadata() if metadata_problem(metadata) else metadata


def _from_picture(path: Path) -> Pixels:
    with _opened(path) as picture:
        reason = _why_refused(picture)
        if reason is None:
            return np.array(picture)
    raise InputError(f"{path}: {reason}")


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """A picture to be read; whatever goes wrong with it is an :class:`InputError`."""
    with path.open("rb") as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(stream) as picture:
                yield picture
        except UnidentifiedImageError:
            raise InputError(f"{path}: not an image file that can be read") from None
        except Image.DecompressionBombError:
            raise InputError(f"{path}: image sides must be 1 to {MAX_SIDE} pixels") from None
        except Exception as error:  # on damaged files Pillow raises nearly anything
            raise InputError(f"{path}: damaged image file ({error})") from error


def _why_refused(picture: Image.Image) -> str | None:
    """The reason why the pixels cannot be taken as 8-bit gray or RGB, or None."""
    reason = _size_refused(picture)
    if reason is not None:
        return reason
    # Pillow presents 16-bit RGB and 4-bit gray as 8 bits: only the raw mode tells.
    raw_modes = _raw_modes(picture)
    if picture.mode.startswith(("I", "F")) or any(
        mode.endswith((";16B", ";16L", ";16N")) for mode in raw_modes
    ):
        return f"images of more than 8 bits a sample are not supported; {_CONVERT}"
    if picture.mode in ("P", "PA"):
        return f"palette images are not supported; {_CONVERT}"
    if picture.mode in ("RGBA", "LA", "RGBa", "La") or "transparency" in picture.info:
        return f"images with an alpha channel are not supported; {_CONVERT}"
    if picture.mode not in ("RGB", "L"):
        return f"images of mode {picture.mode} are not supported; {_CONVERT}"
    if not raw_modes:
        return f"{picture.format} files do not tell how their samples are stored; {_CONVERT}"
    for mode in raw_modes:
        if mode not in _RAW_MODES:
            return f"samples stored as {mode}, not as 8 bits each, are not supported; {_CONVERT}"
    return None


def _size_refused(picture: Image.Image) -> str | None:
    width, height = picture.size
    if not _sides_allowed(height, width):
        return _wrong_sides(height, width)
    return _SEVERAL_FRAMES if getattr(picture, "n_frames", 1) > 1 else None


def _raw_modes(picture: Image.Image) -> list[str]:
    """How the samples stand in the file, in Pillow's terms; empty if that is not known."""
    if picture.format in ("WEBP", "QOI"):  # 8 bits by definition
        return [picture.mode]
    # Of these Pillow brings any depth to 8 bits, and names no raw mode or the wrong one.
    if picture.format in ("AVIF", "JPEG2000") or not isinstance(picture, PictureFile):
        return []
    return [_raw_mode(tile.codec_name, tile.args) for tile in picture.tile]


def _raw_mode(codec_name: str, args: object) -> str:
    """Raw mode of a tile: the first argument of its decoder, or else the decoder's own name."""
    arguments = args if isinstance(args, tuple) else (args,)
    if not isinstance(arguments[0], str):
        return codec_name
    if codec_name in ("ppm", "ppm_plain") and arguments[1] != 255:
        return f"{arguments[0]} of 0 to {arguments[1]}"
    return arguments[0]


def _sides_allowed(height: int, width: int) -> bool:
    return 1 <= height <= MAX_SIDE and 1 <= width <= MAX_SIDE


def _wrong_sides(height: int, width: int) -> str:
    return f"image sides must be 1 to {MAX_SIDE} pixels, not {width}x{height}"


def _from_array(path: Path) -> ImageFile:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            array = np.lib.format.open_memmap(path, mode="r")
        except OSError:  # of the file itself, not of what it holds
            raise
        except Exception as error:  # on damaged headers Python's parser raises several kinds
            raise InputError(f"{path}: not a .npy array ({error})") from error
    if array.dtype != np.uint8:
        raise InputError(f"{path}: holds {array.dtype}; images must be 8-bit (uint8)")
    is_image = array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3)
    is_stack = not is_image and (array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3))
    if not (is_image or is_stack):
        raise InputError(
            f"{path}: shape {array.shape} is neither an image (H, W[, 3]) "
            "nor a stack (N, H, W[, 3])"
        )
    if is_stack and len(array) == 0:
        raise InputError(f"{path}: an empty stack")
    height, width = array.shape[is_stack : 2 + is_stack]
    if not _sides_allowed(height, width):
        raise InputError(f"{path}: {_wrong_sides(height, width)}")
    try:
        pixels = np.array(array)  # only now read from the file
    except MemoryError as error:
        raise InputError(f"{path}: {array.nbytes} bytes of pixels do not fit in memory") from error
    return ImageFile(path, list(pixels) if is_stack else [pixels], is_stack)
