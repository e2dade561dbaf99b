"""Previews: unknown pixels are filled from the known ones around them."""

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray

from source_codec.order import Order, rank_map
from source_codec.preview import fill_unknown


def mask(shape: tuple[int, int], *pixels: tuple[int, int]) -> NDArray[np.bool_]:
    known = np.zeros(shape, dtype=bool)
    for pixel in pixels:
        known[pixel] = True
    return known


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("share", [0.01, 0.4, 1.0])
def test_known_pixels_stay(photo: Photo, channels: int, share: float) -> None:
    image = photo(27, 40, channels)
    known = np.random.default_rng(1).random((27, 40)) < share
    known[3, 5] = True
    before = image.copy()
    filled = fill_unknown(image, known)
    assert filled.dtype == np.uint8
    assert filled.shape == image.shape
    np.testing.assert_array_equal(filled[known], image[known])
    np.testing.assert_array_equal(image, before)


def test_unknown_pixels_do_not_matter() -> None:
    rng = np.random.default_rng(2)
    image = rng.integers(0, 256, (13, 21, 3), dtype=np.uint8)
    known = rng.random((13, 21)) < 0.2
    other = np.where(known[..., None], image, 255 - image)
    np.testing.assert_array_equal(fill_unknown(image, known), fill_unknown(other, known))


@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (6, 1), (5, 5), (16, 16), (17, 33)])
def test_one_known_pixel_fills_everything(shape: tuple[int, int]) -> None:
    image = np.zeros((*shape, 3), dtype=np.uint8)
    corner = (shape[0] - 1, shape[1] - 1)
    image[corner] = (10, 200, 255)
    filled = fill_unknown(image, mask(shape, corner))
    assert (filled == (10, 200, 255)).all()


def test_means_of_two_by_two_blocks() -> None:
    """Two known pixels of a block give the others their mean; its neighbour keeps its own."""
    image = np.array([[10, 0, 90, 0], [0, 21, 0, 0]], dtype=np.uint8)
    known = mask((2, 4), (0, 0), (1, 1), (0, 2))
    # (10 + 21) / 2 = 15.5, rounded to even.
    expected = [[10, 16, 90, 90], [16, 21, 90, 90]]
    assert fill_unknown(image, known).tolist() == expected


def test_means_of_larger_blocks_are_of_known_pixels() -> None:
    """An unknown block takes the mean of all known pixels in the block of twice the size."""
    image = np.zeros((4, 4), dtype=np.uint8)
    image[0, 0], image[0, 1], image[0, 2] = 100, 40, 10
    known = mask((4, 4), (0, 0), (0, 1), (0, 2))
    filled = fill_unknown(image, known)
    assert filled[1].tolist() == [70, 70, 10, 10]
    assert (filled[2:] == 50).all()


def test_values_stay_within_those_known(photo: Photo) -> None:
    image = photo(40, 40)
    known = np.random.default_rng(3).random((40, 40)) < 0.1
    filled = fill_unknown(image, known)
    assert (filled.max(axis=(0, 1)) <= image[known].max(axis=0)).all()
    assert (filled.min(axis=(0, 1)) >= image[known].min(axis=0)).all()


def test_more_known_pixels_show_more(photo: Photo) -> None:
    image = photo(54, 54)
    ranks, n_ranks = rank_map(Order.HALTON, 54, 54)
    errors = []
    for share in (0.02, 0.1, 0.5, 1.0):
        filled = fill_unknown(image, ranks < share * n_ranks)
        errors.append(np.abs(filled.astype(int) - image).mean())
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] == 0


def test_nothing_known() -> None:
    with pytest.raises(ValueError, match="no pixel"):
        fill_unknown(np.zeros((4, 4), dtype=np.uint8), np.zeros((4, 4), dtype=bool))
