"""What the model expects at the pixels that are not known yet: previews while an image is decoded.

A preview shows, at each unknown pixel, the mean of the distribution that the model would code it
with if the next step coded all unknown pixels: green first, then red given that green came out as
expected, then blue. Nothing of this enters a stream, so that it may be computed in floating point;
and nothing of it changes what the decoder does: the context is only read.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from source_codec.logistic_mixture import Mixture
from source_codec.process import Step
from source_codec.reverse_coding import Block, Context, blocks_of, input_units
from source_codec.workers import Workers

_LEVEL = 2.0**-7
_WEIGHT = 2.0**-15
_LARGEST = 255.0


def mixture_mean(m: Mixture) -> NDArray[np.float64]:
    """Means (N,) of mixtures of logistics whose values are clipped to 0..255.

    A clipped logistic has the mean ``s (softplus(c / s) - softplus((c - 255) / s))``: the integral
    of its survival function from 0 to 255.

    Args:
        m: mixtures of N sub-pixels.
    """
    centre = m.centre * _LEVEL
    scale = 2.0**17 / m.inverse_scale
    lower, upper = centre / scale, (centre - _LARGEST) / scale
    means = scale * (np.logaddexp(0, lower) - np.logaddexp(0, upper))
    result: NDArray[np.float64] = (m.weight * _WEIGHT * means).sum(axis=0)
    return result


def _block_expectation(
    context: Context, step: Step, block: Block
) -> tuple[Block, NDArray[np.uint8]]:
    """Expected pixels (N, 3) of a block, in coding order of the channels."""
    evaluation = context.evaluate(step, block)
    n = len(evaluation.exponent)
    pixels = np.empty((n, 3), dtype=np.uint8)
    residual = np.empty((n, 2), dtype=np.int32)
    for channel in range(context.channels):
        # Numbered as the next block, and so with the weights that the next block is coded with.
        prediction = context.predict(step, context.blocks, evaluation, channel, residual)
        values = np.clip(np.rint(mixture_mean(prediction.mixture)), 0, _LARGEST).astype(np.int32)
        pixels[:, channel] = values
        if channel < 2:
            base = evaluation.base[channel]
            residual[:, channel] = input_units(values, base, evaluation.exponent)
    if context.channels == 1:
        pixels[:, 1:] = pixels[:, :1]
    return block, pixels


def expected_images(context: Context, following: Step, workers: Workers) -> NDArray[np.uint8]:
    """The images of a context, with the model's expectation at the pixels not known yet.

    One evaluation of the model at all unknown pixels. To be called between two steps of the
    decoder, after ``Context.end_step``.

    Args:
        context: after at least one step, or none: then the model guesses from nothing.
        following: the next step; its network looks at all unknown pixels.
        workers: threads.

    Returns:
        uint8 (B, H, W, 3) in coding order of the channels: a copy; known pixels as they are.
    """
    images = context.images.copy()
    ys, xs = (axis.astype(np.int32) for axis in np.nonzero(context.known == 0))
    if not len(ys):
        return images
    step = replace(following, ys=ys, xs=xs)
    work = workers.map(
        partial(_block_expectation, context, step), blocks_of(step, len(context.images))
    )
    for block, pixels in work:
        images.reshape(-1, 3)[block.where(*context.known.shape)] = pixels
    return images
