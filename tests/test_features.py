"""The denoiser's inputs, against their definition written out in numpy and Python's numbers."""

import math
from fractions import Fraction

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray

from source_codec.features import (
    Features,
    density_class,
    extract,
    input_values,
    integral_tables,
    masked_images,
    masked_integrals,
    reveal,
)
from source_codec.window import BEHIND, NEAR, WIDE, Window

SIDES = (1, 3, 9, 27)
RADII = {"wide": (4, 3, 2, 1), "near": (3, 2, 1, -1), "behind": (4, 3, 2, 1)}
"""How many boxes of each side in each direction, -1 for none: the documented windows."""
WINDOWS = {"wide": WIDE, "near": NEAR, "behind": BEHIND}


def features(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    pixels: list[tuple[int, int]],
    density: int = 0,
    small: bool = False,
    gray: bool = False,
    window: Window = WIDE,
) -> Features:
    """The code under test, with its outputs filled with rubbish beforehand."""
    ys, xs = np.array(pixels, dtype=np.int32).reshape(-1, 2).T.copy()
    masked, integrals = masked_images(1, *known.shape), integral_tables(1, *known.shape)
    seen = np.nonzero(known)
    reveal(masked, image[None], seen[0].astype(np.int32), seen[1].astype(np.int32))
    integrals[:, 1:] = -12345
    masked_integrals(masked, integrals, 0, masked.shape[1] - 8)
    result = Features(
        np.full((len(ys), window.inputs), 99, dtype=np.uint8),
        np.full((len(ys), 3), 77, dtype=np.int32),
        np.full(len(ys), 55, dtype=np.int32),
    )
    images, starts = np.zeros(1, dtype=np.int32), np.array([0, len(ys)], dtype=np.int32)
    pixels = images, starts, ys, xs
    extract(window, masked, integrals, *pixels, density, small, gray, result)
    return result


def windows(
    name: str, image: NDArray[np.uint8], known: NDArray[np.uint8], y: int, x: int
) -> list[tuple[int, list[int] | None]]:
    """All boxes around a pixel: weight, and the Q4 means of the known pixels, if any.

    "Behind" leaves out boxes without a pixel that a wavefront reaches first.

    The weight is 2^16 / distance^3, rounded down, of the boxes' centres; a coarse box counts as one
    box side away at least, and 2^3, 2^6 or 2^9 times less.
    """
    height, width = known.shape
    places: list[tuple[int, list[int] | None]] = []
    for level, (side, radius) in enumerate(zip(SIDES, RADII[name], strict=True)):
        for by in range(-radius, radius + 1):
            for bx in range(-radius, radius + 1):
                if side == 1 and by == bx == 0:
                    continue
                first = side * by - side // 2, side * bx - side // 2
                if name == "behind" and 3 * first[0] + first[1] >= 0:
                    continue
                distance = side * max(math.sqrt(by * by + bx * bx), 1)
                weight = math.floor(2**16 / distance**3 + 1e-9)
                if level:
                    weight = max(weight // 8**level, 1)
                inside = [
                    image[yy, xx].astype(int)
                    for yy in range(y + side * by - side // 2, y + side * by + side // 2 + 1)
                    for xx in range(x + side * bx - side // 2, x + side * bx + side // 2 + 1)
                    if 0 <= yy < height and 0 <= xx < width and known[yy, xx]
                ]
                means = None
                if inside:
                    totals = np.sum(inside, axis=0)
                    # Rounded to the nearest 1/16, halves up.
                    means = [
                        math.floor(Fraction(16 * int(total), len(inside)) + Fraction(1, 2))
                        for total in totals
                    ]
                places.append((weight, means))
    return places


def reference(
    name: str, image: NDArray[np.uint8], known: NDArray[np.uint8], y: int, x: int
) -> Features:
    """Inputs (of the places), base and exponent as documented, with exact fractions."""
    places = windows(name, image, known, y, x)
    seen = [(weight, means) for weight, means in places if means is not None]
    if seen:
        total = sum(weight for weight, _ in seen)
        base = [
            math.floor(Fraction(sum(w * m[c] for w, m in seen), total) + Fraction(1, 2))
            for c in range(3)
        ]
        deviation = sum(w * abs(m[c] - base[c]) for w, m in seen for c in range(3))
        activity = deviation // (3 * total)
        # The smallest exponent that brings the activity to 34 input units or below, at most 6.
        exponent = next((e for e in range(6) if activity <= 34 * 2**e), 6)
    else:
        base, exponent = [128 * 16] * 3, 5
    inputs = []
    for _, means in places:
        if means is None:
            inputs += [0, 0, 0, 0]
        else:
            for c in range(3):
                units = math.floor(Fraction(means[c] - base[c], 2**exponent) + Fraction(1, 2))
                inputs.append(min(max(units, -127), 127))
            inputs.append(32)
    return Features(
        (np.array(inputs) + 128).astype(np.uint8),
        np.array(base, dtype=np.int32),
        np.array(exponent, dtype=np.int32),
    )


def assert_equals_reference(
    image: NDArray[np.uint8],
    known: NDArray[np.uint8],
    pixels: list[tuple[int, int]],
    name: str = "wide",
) -> None:
    window = WINDOWS[name]
    result = features(image, known, pixels, window=window)
    for n, (y, x) in enumerate(pixels):
        expected = reference(name, image, known, y, x)
        np.testing.assert_array_equal(result.inputs[n, : 4 * window.places], expected.inputs)
        np.testing.assert_array_equal(result.base[n], expected.base)
        assert result.exponent[n] == expected.exponent


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("share", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("size", [(1, 1), (1, 11), (13, 8), (35, 50)])
def test_noise_equals_the_definition(window: str, share: float, size: tuple[int, int]) -> None:
    rng = np.random.default_rng([round(100 * share), *size])
    image = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
    known = (rng.random(size) < share).astype(np.uint8)
    corners = [(0, 0), (0, size[1] - 1), (size[0] - 1, 0), (size[0] - 1, size[1] - 1)]
    inside = [(int(rng.integers(size[0])), int(rng.integers(size[1]))) for _ in range(4)]
    assert_equals_reference(image, known, corners + inside, window)


@pytest.mark.parametrize("contrast", [0.02, 0.1, 0.5, 1.0])
def test_exponent_follows_contrast(photo: Photo, contrast: float) -> None:
    image = photo(40, 40)
    image = np.rint(128 + contrast * (image.astype(float) - 128)).astype(np.uint8)
    rng = np.random.default_rng(3)
    known = (rng.random((40, 40)) < 0.25).astype(np.uint8)
    assert_equals_reference(image, known, [(0, 0), (20, 20), (39, 5), (7, 33)])


def test_all_exponents_occur() -> None:
    """From flat to black and white: the exponents 0 to 6 are all in use."""
    rng = np.random.default_rng(4)
    noise = rng.choice([-1.0, 1.0], (24, 24, 3))
    known = np.ones((24, 24), dtype=np.uint8)
    seen = set()
    for amplitude in (0, 3, 6, 12, 24, 48, 96, 127):
        image = np.rint(128 + amplitude * noise).clip(0, 255).astype(np.uint8)
        assert_equals_reference(image, known, [(12, 12)])
        seen |= set(features(image, known, [(12, 12)]).exponent.tolist())
    assert {0, 1, 2, 3, 4, 5} <= seen


def test_inputs_are_clipped() -> None:
    """One white pixel far away in a black surrounding lies beyond +127 units of a fine exponent."""
    image = np.zeros((31, 31, 3), dtype=np.uint8)
    image[11, 11] = 255
    known = np.ones((31, 31), dtype=np.uint8)
    result = features(image, known, [(15, 15)])
    assert result.inputs[0, :652].max() == 128 + 127
    assert_equals_reference(image, known, [(15, 15), (0, 0)])
    assert_equals_reference(255 - image, known, [(15, 15)])


def test_nothing_known() -> None:
    image = np.full((5, 6, 3), 200, dtype=np.uint8)
    result = features(image, np.zeros((5, 6), dtype=np.uint8), [(2, 3), (0, 0)])
    assert (result.inputs[:, : 4 * 163] == 128).all()
    assert (result.base == 128 * 16).all()
    assert (result.exponent == 5).all()


def test_everything_known_and_constant() -> None:
    image = np.full((60, 60, 3), (7, 130, 255), dtype=np.uint8)
    result = features(image, np.ones((60, 60), dtype=np.uint8), [(30, 30), (0, 59)])
    assert result.base.tolist() == [[7 * 16, 130 * 16, 255 * 16]] * 2
    assert result.exponent.tolist() == [0, 0]
    places = input_values(result.inputs)[:, : 4 * 163].reshape(2, 163, 4)
    assert not places[..., :3].any()
    assert (places[0, :, 3] == 32).all()
    assert places[1, :, 3].sum() < 163 * 32


def test_context_inputs_are_one_hot(photo: Photo) -> None:
    image = photo(12, 12)
    known = np.ones((12, 12), dtype=np.uint8)
    for density in range(8):
        for small in (False, True):
            for gray in (False, True):
                result = features(image, known, [(5, 5)], density, small, gray)
                context = result.inputs[0, 4 * 163 :]
                expected = np.full(20, 128)
                expected[int(result.exponent[0])] = 255
                expected[7 + density] = 255
                expected[15] = 255 if small else 128
                expected[16] = 255 if gray else 128
                np.testing.assert_array_equal(context, expected)


@pytest.mark.parametrize("share", [0.0, 0.05, 0.5, 0.95])
def test_unknown_pixels_do_not_matter(share: float) -> None:
    """Whatever stands in the places that are not known yet, the features are the same."""
    rng = np.random.default_rng(5)
    known = (rng.random((37, 41)) < share).astype(np.uint8)
    truth = rng.integers(0, 256, (37, 41, 3), dtype=np.uint8)
    pixels = [(int(y), int(x)) for y, x in zip(*np.nonzero(known == 0), strict=True)]
    expected = features(truth, known, pixels)
    for filling in (0, 255, rng.integers(0, 256, truth.shape, dtype=np.uint8)):
        other = np.where(known[..., None] == 1, truth, filling).astype(np.uint8)
        for got, wanted in zip(features(other, known, pixels), expected, strict=True):
            np.testing.assert_array_equal(got, wanted)


def test_integral_sums_known_pixels() -> None:
    rng = np.random.default_rng(6)
    image = rng.integers(0, 256, (9, 14, 3), dtype=np.uint8)
    known = rng.integers(0, 2, (9, 14)).astype(np.uint8)
    masked, integrals = masked_images(2, 9, 14), integral_tables(2, 9, 14)
    ys, xs = np.nonzero(known)
    images = np.stack([255 - image, image])
    reveal(masked, images, ys.astype(np.int32), xs.astype(np.int32))
    integrals[:, 1:] = -1
    masked_integrals(masked, integrals, 0, masked.shape[1] - 8)
    integral = integrals[1]
    overhang = (integral.shape[1] - 15) // 2
    for y in range(10):
        for x in range(-overhang, 15 + overhang):
            part = (16 * image[:y].astype(int) + 1) * known[:y, :, None]
            part = part[:, : max(x, 0)]
            assert integral[y, x + overhang, :3].tolist() == part.sum(axis=(0, 1)).tolist()
            assert integral[y, x + overhang, 3] == known[:y, : max(x, 0)].sum()


def test_sizes_of_the_windows() -> None:
    """Places and inputs."""
    sizes = {n: (w.places, w.inputs) for n, w in WINDOWS.items()}
    assert sizes == {"wide": (163, 672), "near": (82, 352), "behind": (88, 376)}


@pytest.mark.parametrize("window", WINDOWS)
def test_pixels_are_looked_at_one_by_one(photo: Photo, window: str) -> None:
    """The same for pixels that stand alone and for those that others go before in a tile."""
    image = photo(60, 90)
    known = (np.random.default_rng(8).random((60, 90)) < 0.3).astype(np.uint8)
    pixels = [(int(y), int(x)) for y, x in np.ndindex(known.shape)]
    together = features(image, known, pixels, window=WINDOWS[window])
    for first in range(0, len(pixels), 97):
        alone = features(image, known, pixels[first : first + 1], window=WINDOWS[window])
        for got, wanted in zip(alone, together, strict=True):
            np.testing.assert_array_equal(got[0], wanted[first])


def test_integrals_by_parts() -> None:
    """Rows continue from those above, and others are left as they are."""
    rng = np.random.default_rng(7)
    images = rng.integers(0, 256, (2, 20, 11, 3), dtype=np.uint8)
    ys, xs = (axis.astype(np.int32) for axis in np.nonzero(rng.integers(0, 2, (20, 11))))
    masked, whole = masked_images(2, 20, 11), integral_tables(2, 20, 11)
    reveal(masked, images, ys, xs)
    masked_integrals(masked, whole, 0, 20)
    parts = integral_tables(2, 20, 11)
    for first, stop in ((0, 3), (3, 3), (3, 14)):
        masked_integrals(masked, parts, first, stop)
    np.testing.assert_array_equal(parts[:, :15], whole[:, :15])
    assert not parts[:, 15:].any()


def test_runs_of_several_images(photo: Photo) -> None:
    """Each run's features are those of its image alone."""
    rng = np.random.default_rng(9)
    stack = np.stack([photo(20, 30, 3, seed) for seed in range(3)])
    ys, xs = (axis.astype(np.int32) for axis in np.nonzero(rng.random((20, 30)) < 0.4))
    masked, integrals = masked_images(3, 20, 30), integral_tables(3, 20, 30)
    reveal(masked, stack, ys, xs)
    masked_integrals(masked, integrals, 0, masked.shape[1] - 8)
    rows, columns = (rng.integers(0, side, 50).astype(np.int32) for side in (20, 30))
    images, starts = np.array([2, 0, 2], np.int32), np.array([0, 11, 30, 50], np.int32)
    result = Features.empty(WIDE, 50)
    pixels = images, starts, rows, columns
    extract(WIDE, masked, integrals, *pixels, 3, True, False, result)
    known = np.zeros((20, 30), dtype=np.uint8)
    known[ys, xs] = 1
    for image, first, stop in zip(images, starts[:-1], starts[1:], strict=True):
        places = list(zip(rows[first:stop].tolist(), columns[first:stop].tolist(), strict=True))
        alone = features(stack[image], known, places, density=3, small=True)
        for got, wanted in zip(result, alone, strict=True):
            np.testing.assert_array_equal(got[first:stop], wanted)


def test_density_classes() -> None:
    limits = [1 / 64, 1 / 16, 1 / 8, 1 / 4, 3 / 8, 1 / 2, 3 / 4]
    for known in range(865):
        assert density_class(known, 864) == sum(known / 864 >= limit for limit in limits)
