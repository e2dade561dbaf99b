"""Graphics: diagrams, logos, screenshots, with large areas of exactly equal pixels.

What the masked diffusion model is made for, texture and noise, they have not; what they have, equal
pixels and colours that come again, it does not know. They are coded in raster order instead, bit by
bit, by contexts that learn while they are coded. Integers only, like everything that decides a
probability.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from source_codec.graphics.raster import code_pixels, new_canvas, new_pixel_mixer
from source_codec.source_history.binary_coding import (
    check_settled,
    new_decoder,
    new_encoder,
    settled,
)

Image = NDArray[np.uint8]

_LEAST_EQUAL = 0.55
"""Share of pixels equal to the one before or above, below which an image is no graphics."""
_PROBED_ROWS = 64
_SPARE_BYTES = 64


def is_graphics(image: Image) -> bool:
    """Whether it is worth trying: most pixels are equal to the one on the left or the one above.

    Args:
        image: uint8 (H, W) or (H, W, 3). Of a large one 64 rows are looked at.
    """
    height, width = image.shape[:2]
    if height < 2 or width < 2:
        return False
    rows = np.arange(1, height, max(1, height // _PROBED_ROWS))
    values = image.reshape(height, width, -1)
    here, above = values[rows], values[rows - 1]
    repeats = (here[:, 1:] == here[:, :-1]).all(2) | (here[:, 1:] == above[:, 1:]).all(2)
    return float(repeats.mean()) >= _LEAST_EQUAL


def encode_graphics(image: Image) -> bytes | None:
    """Codes an image.

    Args:
        image: uint8 (H, W) or (H, W, 3).

    Returns:
        The bytes, or None if there would be clearly more of them than values.
    """
    height, width = image.shape[:2]
    planes = np.array(image.reshape(height, width, -1), order="C")  # one kernel for both ways
    coder = new_encoder(1, planes.size + _SPARE_BYTES)
    code_pixels(new_pixel_mixer(height, width), coder, False, new_canvas(height, width), planes)
    return settled(coder)


def decode_graphics(data: bytes, height: int, width: int, channels: int) -> Image:
    """The image that :func:`encode_graphics` coded.

    Args:
        data: its bytes.
        height, width, channels: of the image; one channel or three.

    Returns:
        uint8 (height, width) or (height, width, 3).

    Raises:
        CorruptStream: the bytes end early, or after the image.
    """
    planes = np.zeros((height, width, channels), dtype=np.uint8)
    coder = new_decoder(1, data)
    code_pixels(new_pixel_mixer(height, width), coder, True, new_canvas(height, width), planes)
    check_settled(coder)
    return planes[..., 0].copy() if channels == 1 else planes
