"""Previews by the model's expectation: right means, known pixels kept, the decoder undisturbed."""

from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from conftest import Photo
from matplotlib.cbook import get_sample_data
from numpy.typing import NDArray
from PIL import Image

from source_codec import Codec, Process
from source_codec.expectation import expected_images, mixture_mean
from source_codec.experts import Kind
from source_codec.features import GREEN_FIRST
from source_codec.logistic_mixture import MixtureTables, intervals, mixture
from source_codec.preview import fill_unknown
from source_codec.process import Step, steps_of
from source_codec.reverse_coding import Context, blocks_of, input_units
from source_codec.workers import Workers

WORKERS = Workers(1)


@pytest.fixture(scope="module")
def portrait() -> NDArray[np.uint8]:
    """A part of a photograph, uint8 (1, 96, 120, 3), in coding order of the channels."""
    with Image.open(get_sample_data("grace_hopper.jpg", asfileobj=False)) as picture:
        pixels = np.asarray(picture)[60:156, 200:320]
    return np.ascontiguousarray(pixels[None, ..., GREEN_FIRST])


def psnr(image: NDArray[np.uint8], truth: NDArray[np.uint8]) -> float:
    return float(10 * np.log10(255**2 / np.mean((image.astype(float) - truth) ** 2)))


def contexts(
    codec: Codec, truth: NDArray[np.uint8], adaptive: bool, gray: bool = False
) -> Iterator[tuple[Context, Step, Step]]:
    """The decoder's context after each step but the last, the step, and the next one."""
    context = Context(codec.model, np.zeros_like(truth), gray, adaptive)
    steps = list(steps_of(Process(steps=12), *truth.shape[1:3]))
    for step, following in pairwise(steps):
        if adaptive:
            learn(context, truth, step)
        context.images[:, step.ys, step.xs] = truth[:, step.ys, step.xs]
        context.end_step(step)
        yield context, step, following


def learn(context: Context, truth: NDArray[np.uint8], step: Step) -> list[NDArray[np.int32]]:
    """Goes through a step as the coder does; the centres of all mixtures it codes with."""
    centres = []
    for number, block in enumerate(blocks_of(step, 1), start=context.blocks):
        evaluation = context.evaluate(step, block)
        pixels = truth.reshape(-1, 3)[block.where(*truth.shape[1:3])].astype(np.int32)
        residual = np.empty((len(pixels), 2), dtype=np.int32)
        predictions = []
        for channel in range(3):
            prediction = context.predict(step, number, evaluation, channel, residual)
            predictions.append(prediction)
            centres.append(prediction.mixture.centre.copy())
            if channel < 2:
                base = evaluation.base[channel]
                residual[:, channel] = input_units(pixels[:, channel], base, evaluation.exponent)
        values = [np.ascontiguousarray(pixels[:, channel]) for channel in range(3)]
        context.learn(step, number, evaluation, predictions, values)
    return centres


@pytest.mark.parametrize("base", [-300, 40, 2000, 4080, 4700])
@pytest.mark.parametrize("exponent", [0, 3, 6])
def test_mean_is_that_of_the_coded_distribution(base: int, exponent: int) -> None:
    """The sum of all values times their probabilities, edges of the range included."""
    rng = np.random.default_rng([base + 1000, exponent])
    count = 20
    parameters = np.concatenate(
        [rng.integers(-80, 80, (count, 5)), rng.integers(-40, 40, (count, 10))], axis=1
    ).astype(np.int32)
    column = np.full(count, base, dtype=np.int32), np.full(count, exponent, dtype=np.int32)
    nothing = np.empty((count, 0), dtype=np.int32)
    m = mixture(parameters, *column, nothing, 0, MixtureTables.compute())
    expected = np.zeros(count)
    for value in range(256):
        size = intervals(m, np.full(count, value, dtype=np.int32)).size
        expected += size / 2.0**24 * value
    # Intervals are rounded, and give a share of 2^-12 to the mean of all values.
    np.testing.assert_allclose(mixture_mean(m), expected, atol=0.2)


@pytest.mark.parametrize("gray", [False, True])
def test_known_pixels_stay(codec: Codec, photo: Photo, gray: bool) -> None:
    truth = photo(40, 51)[None]
    if gray:
        truth[..., 1:] = truth[..., :1]
    for context, _, following in contexts(codec, truth, adaptive=False, gray=gray):
        before = context.images.copy()
        shown = expected_images(context, following, WORKERS)
        known = context.known == 1
        np.testing.assert_array_equal(shown[:, known], truth[:, known])
        np.testing.assert_array_equal(context.images, before)
        if gray:
            np.testing.assert_array_equal(shown[..., 1], shown[..., 0])
            np.testing.assert_array_equal(shown[..., 2], shown[..., 0])


def test_better_with_every_few_steps_and_than_means(
    codec: Codec, portrait: NDArray[np.uint8]
) -> None:
    """From the first step to the last but one: at least 1 dB better than means of known pixels."""
    shown, filled = [], []
    for context, _, following in contexts(codec, portrait, adaptive=False):
        shown.append(psnr(expected_images(context, following, WORKERS), portrait))
        filled.append(psnr(fill_unknown(context.images[0], context.known == 1), portrait[0]))
    assert (np.array(shown) > np.array(filled) + 1.0).all(), (shown, filled)
    assert (np.diff(shown[::2]) > 0).all(), shown


def test_all_known(codec: Codec, portrait: NDArray[np.uint8]) -> None:
    context = Context(codec.model, portrait.copy(), gray=False)
    context.known[:] = 1
    *_, last = steps_of(Process(), *portrait.shape[1:3])
    np.testing.assert_array_equal(expected_images(context, last, WORKERS), portrait)


def test_what_a_wavefront_expects(codec: Codec, portrait: NDArray[np.uint8]) -> None:
    """Better than the mean of what is known, even for the half that lies ahead."""
    truth = np.ascontiguousarray(portrait[:, 20:52, 40:80])
    ahead = (c for c in contexts(codec, truth, adaptive=False) if c[0].known.mean() > 0.5)
    context, _, following = next(ahead)
    assert following.kind is Kind.WAVEFRONT
    unknown = context.known == 0
    shown = expected_images(context, following, WORKERS)
    mean = np.broadcast_to(truth[:, ~unknown].mean(axis=1), shown[:, unknown].shape)
    assert psnr(shown[:, unknown], truth[:, unknown]) > psnr(mean, truth[:, unknown]) + 3


def test_several_images_and_threads(codec: Codec, photo: Photo) -> None:
    """Images of a batch do not mix, and threads do not matter."""
    truth = np.stack([photo(40, 60, seed=seed) for seed in range(3)])
    alone = [contexts(codec, one[None], adaptive=False) for one in truth]
    threads = Workers(2)
    for (context, _, following), *single in zip(
        contexts(codec, truth, adaptive=False), *alone, strict=True
    ):
        together = expected_images(context, following, threads)
        for image, (one, _, _) in zip(together, single, strict=True):
            np.testing.assert_array_equal(expected_images(one, following, WORKERS)[0], image)


def test_the_decoder_is_undisturbed(codec: Codec, portrait: NDArray[np.uint8]) -> None:
    """What is coded after a preview is coded as without it, learned weights included."""

    def centres(looks: bool) -> list[NDArray[np.int32]]:
        context = Context(codec.model, np.zeros_like(portrait), gray=False, adaptive=True)
        result = []
        for step in steps_of(Process(steps=6), *portrait.shape[1:3]):
            result += learn(context, portrait, step)
            context.images[:, step.ys, step.xs] = portrait[:, step.ys, step.xs]
            context.end_step(step)
            if looks:
                for density in (0, 5, 7):  # of each expert
                    expected_images(context, replace(step, density=density), WORKERS)
        return result

    plain, watched = centres(False), centres(True)
    assert len(plain) == len(watched) > 18
    for one, other in zip(plain, watched, strict=True):
        np.testing.assert_array_equal(one, other)


def test_what_was_learned_shows(codec: Codec) -> None:
    """On stripes of a period that no model knows, the adapted layer expects better."""
    rng = np.random.default_rng(7)
    x = np.arange(220)
    stripes = 60 * ((x[None, :] + 2 * x[:180, None]) % 5) + rng.integers(-3, 4, (180, 220))
    truth = np.clip(stripes[..., None] + np.array([0, 8, 4]), 0, 255).astype(np.uint8)[None]
    scores = []
    for adaptive in (False, True):
        *_, (context, _, following) = contexts(codec, truth, adaptive)
        unknown = context.known == 0
        shown = expected_images(context, following, WORKERS)
        scores.append(psnr(shown[:, unknown], truth[:, unknown]))
    assert scores[1] > scores[0] + 0.5, scores
