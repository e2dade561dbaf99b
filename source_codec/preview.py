"""Previews of images of which some pixels are not known yet."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def fill_unknown(image: NDArray[np.uint8], known: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Estimates unknown pixels by masked means over growing neighbourhoods (pull-push).

    The image is averaged to half size over its known pixels until every pixel of the small image
    is known; then unknown pixels take the value below them on the way back up.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        known: bool (H, W); at least one pixel must be known.

    Returns:
        The image with unknown pixels filled; known ones unchanged.

    Raises:
        ValueError: no pixel is known.
    """
    if not known.any():
        raise ValueError("no pixel is known")
    values = image.astype(np.float64).reshape(*known.shape, -1)
    filled = _pull_push(values * known[..., None], known.astype(np.float64))
    rounded = np.clip(np.rint(filled), 0, 255).astype(np.uint8).reshape(image.shape)
    result: NDArray[np.uint8] = np.where(
        known if image.ndim == 2 else known[..., None], image, rounded
    )
    return result


def _pull_push(total: NDArray[np.float64], weight: NDArray[np.float64]) -> NDArray[np.float64]:
    """Means where the weight is positive, filled from a half-size version elsewhere."""
    mean = total / np.maximum(weight, 1e-12)[..., None]
    if weight.all():
        return mean
    height, width = weight.shape
    pad = ((0, height % 2), (0, width % 2))

    def half(a: NDArray[np.float64]) -> NDArray[np.float64]:
        padded = np.pad(a, pad + ((0, 0),) * (a.ndim - 2))
        blocks = padded.reshape(padded.shape[0] // 2, 2, padded.shape[1] // 2, 2, *a.shape[2:])
        summed: NDArray[np.float64] = blocks.sum(axis=(1, 3))
        return summed

    coarse = _pull_push(half(total), half(weight))
    doubled = coarse.repeat(2, axis=0).repeat(2, axis=1)[:height, :width]
    result: NDArray[np.float64] = np.where(weight[..., None] > 0, mean, doubled)
    return result
