"""Source histories: what half-resolution chroma does to an image, and what it leaves alone."""

from collections.abc import Callable

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray

from source_codec.history import photo_ycc_planes, through_photo_ycc, through_ycbcr_420

Transform = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
TRANSFORMS = [through_photo_ycc, through_ycbcr_420]


@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("size", [(1, 1), (1, 8), (7, 1), (13, 22), (32, 32)])
def test_shape_and_type(transform: Transform, photo: Photo, size: tuple[int, int]) -> None:
    image = photo(*size)
    before = image.copy()
    result = transform(image)
    assert result.shape == image.shape
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(image, before)


def test_ycbcr_leaves_gray_alone() -> None:
    gray = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    np.testing.assert_array_equal(through_ycbcr_420(gray), gray)


def test_photo_ycc_leaves_gray_gray_with_fewer_levels() -> None:
    """Luma codes are 1.3584 levels apart: gray stays gray, with 255 / 1.3584 + 1 levels."""
    gray = np.repeat(np.arange(256, dtype=np.uint8).reshape(16, 16, 1), 3, axis=2)
    result = through_photo_ycc(gray)
    np.testing.assert_array_equal(result[..., 0], result[..., 1])
    np.testing.assert_array_equal(result[..., 0], result[..., 2])
    assert np.abs(result.astype(int) - gray).max() <= 1
    assert len(np.unique(result)) == round(255 / 1.3584) + 1


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_flat_colours_are_kept_nearly(transform: Transform) -> None:
    for colour in ((200, 30, 90), (0, 255, 0), (12, 100, 255), (128, 128, 127)):
        image = np.full((6, 6, 3), colour, dtype=np.uint8)
        result = transform(image).astype(int)
        assert np.abs(result - image).max() <= 3
        assert (result == result[0, 0]).all()


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_luma_keeps_detail_and_chroma_loses_it(transform: Transform) -> None:
    """Black and white stripes of one pixel survive; red and green ones of equal luma mix."""
    stripes = np.zeros((8, 16, 3), dtype=np.uint8)
    stripes[:, ::2] = 255
    assert np.abs(transform(stripes).astype(int) - stripes).max() <= 1
    coloured = np.zeros((8, 16, 3), dtype=np.uint8)
    coloured[:, ::2] = (196, 0, 60)  # luma 0.299 * 196 + 0.114 * 60 = 65.4
    coloured[:, 1::2] = (0, 100, 60)  # luma 0.587 * 100 + 0.114 * 60 = 65.5
    result = transform(coloured).astype(int)
    inner = result[2:-2, 2:-2]
    assert np.ptp(inner, axis=(0, 1)).max() <= 3
    # Red is the luma plus the mean of 196 - 65.4 and 0 - 65.5.
    assert np.abs(inner[..., 0] - 98).max() <= 3


def test_ycbcr_keeps_luma(photo: Photo) -> None:
    """What rounding and the halved chroma change, luma hardly shows."""
    image = photo(64, 64)
    image = image // 2 + 64  # away from the ends of the range, where colours are cut off
    weights = np.array([0.299, 0.587, 0.114])
    change = through_ycbcr_420(image) @ weights - image @ weights
    assert np.abs(change).max() <= 1.01
    assert (through_ycbcr_420(image) != image).mean() > 0.2


def test_bilinear_doubling_of_chroma() -> None:
    """Chroma samples of 2x2 blocks stand at even places; odd places take rounded means."""
    image = np.zeros((1, 8, 3), dtype=np.uint8)
    # Blue only: luma 0.114 b, Cb = (b - luma) / 1.772 = b / 2.
    image[0, :, 2] = [40, 40, 80, 80, 200, 200, 0, 0]
    result = through_ycbcr_420(image)[0].astype(int)
    luma = np.rint(0.114 * image[0, :, 2].astype(float))
    cb = np.array([20, 30, 40, 70, 100, 50, 0, 0])
    np.testing.assert_array_equal(result[:, 2], np.clip(np.rint(luma + 1.772 * cb), 0, 255))


@pytest.mark.parametrize("size", [(1, 1), (6, 9), (31, 32)])
def test_photo_ycc_planes_have_half_resolution_chroma(photo: Photo, size: tuple[int, int]) -> None:
    luma, *chroma = photo_ycc_planes(photo(*size))
    assert luma.shape == size
    assert luma.dtype == np.uint8
    for plane in chroma:
        assert plane.shape == ((size[0] + 1) // 2, (size[1] + 1) // 2)
        assert plane.dtype == np.uint8


def test_photo_ycc_planes_of_flat_colours() -> None:
    """Luma in steps of 1.3584; chroma in steps of 2.2179 (blue, about 156) and 1.8215 (137)."""
    gray, red = (np.full((4, 4, 3), colour, np.uint8) for colour in ((100,) * 3, (200, 0, 0)))
    assert [int(plane[0, 0]) for plane in photo_ycc_planes(gray)] == [74, 156, 137]
    # Luma of the red is 59.8: codes 44, 156 - 59.8 / 2.2179, 137 + 140.2 / 1.8215.
    assert [int(plane[0, 0]) for plane in photo_ycc_planes(red)] == [44, 129, 214]


def test_photo_ycc_planes_are_those_of_the_image_that_returns() -> None:
    """Where chroma is flat, the planes give the image that PhotoCD would return."""
    image = np.full((8, 8, 3), (150, 90, 60), dtype=np.uint8)
    luma, first, second = (p.astype(float) for p in photo_ycc_planes(image))
    red = np.floor(1.3584 * luma + 1.8215 * (second[0, 0] - 137))
    blue = np.floor(1.3584 * luma + 2.2179 * (first[0, 0] - 156))
    returned = through_photo_ycc(image)
    np.testing.assert_array_equal(returned[..., 0], red)
    np.testing.assert_array_equal(returned[..., 2], blue)
