"""Fixtures that several test modules share: the default codec, and synthetic photographs."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from source_codec import Codec

Photo = Callable[..., NDArray[np.uint8]]


def synthetic_photo(height: int, width: int, channels: int = 3, seed: int = 0) -> NDArray[np.uint8]:
    """An image with what photographs have: gradients, smooth texture, an edge, a little noise."""
    rng = np.random.default_rng([seed, height, width])
    y, x = np.mgrid[0:height, 0:width] / max(height, width)
    colour = rng.uniform(-60, 60, (3, channels))
    image = 128 + y[..., None] * colour[0] + x[..., None] * colour[1]
    texture = gaussian_filter(rng.normal(size=(height, width)), 2, mode="wrap")
    image += 60 * texture[..., None]
    image[y + 0.5 * x > 0.7] += colour[2]
    image += rng.normal(scale=2, size=image.shape)
    result = np.clip(np.rint(image), 0, 255).astype(np.uint8)
    return result[..., 0] if channels == 1 else result


def drawing(
    height: int, width: int, channels: int = 3, seed: int = 0, blur: bool = True
) -> NDArray[np.uint8]:
    """Rectangles and discs of a few colours; edges of three pixels' width mix them if ``blur``."""
    rng = np.random.default_rng([seed, height, width, channels])
    y, x = np.mgrid[0:height, 0:width]
    image = np.full((height, width, channels), 255.0)
    for _ in range(6):
        colour = rng.integers(0, 256, channels)
        top, left = rng.integers(0, height), rng.integers(0, width)
        if rng.integers(2):
            image[top : top + 1 + height // 3, left : left + 1 + width // 4] = colour
        else:
            image[(y - top) ** 2 + (x - left) ** 2 < (min(height, width) / 5) ** 2] = colour
    if blur:
        padded = np.pad(image, ((1, 1), (0, 0), (0, 0)), mode="edge")
        image = (padded[:-2] + 2 * padded[1:-1] + padded[2:]) / 4
    pixels = np.rint(image).astype(np.uint8)
    return pixels[..., 0] if channels == 1 else pixels


@pytest.fixture(scope="session", autouse=True)
def _one_torch_thread() -> None:
    """Test modules run side by side; torch's threads would only wait for each other's cores."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def photo() -> Photo:
    """``photo(height, width, channels=3, seed=0)``: a synthetic photograph; one channel is gray."""
    return synthetic_photo


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The default codec."""
    return Codec.load()


@pytest.fixture(autouse=True)
def _subnormal_numbers() -> None:
    """Training, in another test, lets the processor flush subnormal numbers to zero."""
    torch.set_flush_denormal(False)
