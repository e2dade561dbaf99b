"""Source histories that photographs commonly have, as forward models for training material.

Many photographs were once stored with half-resolution chroma. Passing clean pictures through the
same steps gives the denoiser examples of the result.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.chroma_lattice import Lattice
from source_codec.source_history.colour_law import photo_ycc, to_rgb


def _double(plane: NDArray[np.int32], size: int, axis: int) -> NDArray[np.int32]:
    """Doubles an axis: even places are samples, odd ones (a + b + 1) >> 1 of their neighbours."""
    following = np.concatenate(
        [np.take(plane, range(1, plane.shape[axis]), axis), np.take(plane, [-1], axis)], axis
    )
    between = (plane + following + 1) >> 1
    doubled = np.stack([plane, between], axis=axis + 1)
    shape = list(plane.shape)
    shape[axis] *= 2
    return np.take(doubled.reshape(shape), range(size), axis)


def _halved(plane: NDArray[np.float64]) -> NDArray[np.int32]:
    """Rounded means of 2x2 blocks."""
    height, width = plane.shape
    padded = np.pad(plane, ((0, height % 2), (0, width % 2)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2).mean(axis=(1, 3))
    return np.rint(blocks).astype(np.int32)


def _half_resolution(plane: NDArray[np.float64]) -> NDArray[np.int32]:
    """Rounded means of 2x2 blocks, upsampled again by two in both directions."""
    height, width = plane.shape
    return _double(_double(_halved(plane), height, 0), width, 1)


def photo_ycc_planes(rgb: NDArray[np.uint8]) -> tuple[NDArray[np.uint8], ...]:
    """The planes that Photo CD stores: luma, and two of half resolution around 156 and 137.

    The scale factors 1.3584, 2.2179 and 1.8215 are Kodak's for PhotoYCC to RGB.
    """
    r, g, b = (rgb[..., c].astype(np.float64) for c in range(3))
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    c1, c2 = _halved((b - luma) / 2.2179) + 156, _halved((r - luma) / 1.8215) + 137
    planes = np.rint(luma / 1.3584).astype(np.int32), c1, c2
    return tuple(np.clip(plane, 0, 255).astype(np.uint8) for plane in planes)


def through_photo_ycc(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image as Photo CD would return it: YCC codes, half-resolution chroma, RGB again."""
    y, c1, c2 = photo_ycc_planes(rgb)
    full = (Lattice().interpolate(plane, *y.shape) for plane in (c1, c2))
    image: NDArray[np.uint8] = to_rgb(photo_ycc(), y, *full)
    return image


def through_ycbcr_420(rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """An image through full-range BT.601 YCbCr with 4:2:0 chroma, as in JPEG without its DCT."""
    r, g, b = (rgb[..., c].astype(np.float64) for c in range(3))
    luma = 0.299 * r + 0.587 * g + 0.114 * b
    y = np.rint(luma)
    cb = _half_resolution((b - luma) / 1.772)
    cr = _half_resolution((r - luma) / 1.402)
    planes = (y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb)
    return np.clip(np.rint(np.stack(planes, axis=-1)), 0, 255).astype(np.uint8)
