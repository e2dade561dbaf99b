"""Temperature calibration: how much to widen or sharpen the predicted distributions.

A network's distributions tend to be a little too sure or too unsure, differently at each mask
ratio. One temperature per kind of step, mask ratio and channel scales them; it is the one that
codes held-out images in the fewest bits, found by trying all on the integer tables themselves.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from source_codec.experts import Kind
from source_codec.logistic_mixture import code_length, mixture
from source_codec.model import Model
from source_codec.order import Order, is_small
from source_codec.process import Process, steps_of
from source_codec.reverse_coding import Context, blocks_of, input_units
from source_codec.window import N_DENSITIES

CANDIDATES = range(-8, 13)
"""Temperatures tried, in 1/16 octave."""


def fit_temperatures(
    model: Model,
    images: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    share: float = 0.2,
    progress: Callable[[float], None] | None = None,
) -> Model:
    """The model with temperatures fitted to images that it was not trained on.

    Args:
        model: the exported model.
        images: uint8 (H, W, 3) in coding order of the channels (green, red, blue).
        rng: chooses the blocks of pixels looked at.
        share: share of the blocks looked at; an image's first block of a step always is.
        progress: called with the fraction done.
    """
    bits = np.zeros((len(Kind), N_DENSITIES, 3, len(CANDIDATES)))
    runs = [
        (image, Process(order))
        for image in images
        for order in ((Order.AUTO, Order.HALTON) if is_small(*image.shape[:2]) else (Order.AUTO,))
    ]
    for done, (image, process) in enumerate(runs):
        context = Context(model, np.zeros_like(image)[None], gray=False)
        for step in steps_of(process, *image.shape[:2]):
            network = context.network(step)
            for number, block in enumerate(blocks_of(step, 1)):
                if number and rng.random() > share:
                    continue
                evaluation = context.evaluate(step, block)
                pixels = image[block.ys, block.xs].astype(np.int32)
                residual = np.empty((len(pixels), 2), dtype=np.int32)
                for channel in range(3):
                    values = np.ascontiguousarray(pixels[:, channel])
                    coded = np.ascontiguousarray(residual[:, :channel])
                    base, exponent = evaluation.base[channel], evaluation.exponent
                    parameters = network.head(channel, evaluation.neck, coded)
                    cell = bits[step.kind, step.density, channel]
                    for i, temperature in enumerate(CANDIDATES):
                        m = mixture(parameters, base, exponent, coded, temperature, model.tables)
                        cell[i] += code_length(m, values)
                    if channel < 2:
                        residual[:, channel] = input_units(values, base, exponent)
            context.images[0, step.ys, step.xs] = image[step.ys, step.xs]
            context.end_step(step)
        if progress:
            progress((done + 1) / len(runs))
    # Cells that no image reached keep the temperature that they had.
    best = np.array(CANDIDATES)[bits.argmin(axis=-1)]
    best = np.where(bits.sum(axis=-1) == 0, model.temperature, best)
    return replace(model, temperature=best.astype(np.int8))
