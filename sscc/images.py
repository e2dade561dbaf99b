"""Images and stacks of images as files.

Reading is strict: an image is taken only if its pixels are 8-bit gray or RGB as they stand in the
file. Whatever would have to be converted (palettes, alpha, 16 bits) is refused, because a
conversion that nobody asked for is a loss that nobody sees.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, UnidentifiedImageError

from sscc.errors import InputError

Pixels = NDArray[np.uint8]

STACK_SUFFIX = ".npy"
_CONVERT = "convert it to 8-bit RGB or gray first"


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
        InputError: not an image, or one that is not 8-bit gray or RGB.
        OSError: the file cannot be read.
    """
    if path.suffix.lower() == STACK_SUFFIX:
        return _from_array(path)
    return ImageFile(path, [_from_picture(path)])


def read_single_image(path: Path) -> Pixels:
    """Reads a file that must hold exactly one image; errors as :func:`read_images`."""
    file = read_images(path)
    if file.is_stack:
        raise InputError(f"{path}: holds {len(file.images)} images; give a single one")
    return file.images[0]


def write_png(path: Path, image: Pixels) -> None:
    """Writes uint8 (H, W, 3) or (H, W) as PNG."""
    Image.fromarray(image).save(path, format="PNG")


def _from_picture(path: Path) -> Pixels:
    with path.open("rb") as stream:
        try:
            with Image.open(stream) as picture:
                reason = _why_refused(picture)
                if reason:
                    raise InputError(f"{path}: {reason}")
                return np.array(picture)
        except UnidentifiedImageError:
            raise InputError(f"{path}: not an image file that can be read") from None
        # Pillow reports a damaged file as any of these, depending on the format.
        except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
            raise InputError(f"{path}: damaged image file ({error})") from error


def _why_refused(picture: Image.Image) -> str | None:
    """The reason why the pixels cannot be taken as they are, or None."""
    if getattr(picture, "n_frames", 1) > 1:
        return "holds several frames; extract one first"
    # Pillow presents 16-bit RGB as mode RGB and drops the low bytes: only the raw mode tells.
    raw_modes = [str(tile[3]) for tile in getattr(picture, "tile", [])]
    if picture.mode.startswith(("I", "F")) or any(";16" in mode for mode in raw_modes):
        return f"images of more than 8 bits a sample are not supported; {_CONVERT}"
    if picture.mode in ("P", "PA"):
        return f"palette images are not supported; {_CONVERT}"
    if picture.mode in ("RGBA", "LA", "RGBa", "La") or "transparency" in picture.info:
        return f"images with an alpha channel are not supported; {_CONVERT}"
    if picture.mode not in ("RGB", "L"):
        return f"images of mode {picture.mode} are not supported; {_CONVERT}"
    return None


def _from_array(path: Path) -> ImageFile:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        raise InputError(f"{path}: not a .npy array ({error})") from error
    if array.dtype != np.uint8:
        raise InputError(f"{path}: holds {array.dtype}; images must be 8-bit (uint8)")
    if array.ndim == 2 or (array.ndim == 3 and array.shape[2] == 3):
        return ImageFile(path, [array])
    if array.ndim == 3 or (array.ndim == 4 and array.shape[3] == 3):
        if len(array) == 0:
            raise InputError(f"{path}: an empty stack")
        return ImageFile(path, list(array), is_stack=True)
    raise InputError(
        f"{path}: shape {array.shape} is neither an image (H, W[, 3]) nor a stack (N, H, W[, 3])"
    )
