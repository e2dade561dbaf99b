"""From a training checkpoint to a model file: rounding, calibration, self-test."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from source_codec.calibration import fit_temperatures
from source_codec.denoiser import Denoiser, DenoiserShape
from source_codec.features import SMALL_PIXELS
from source_codec.model import Model, from_denoiser
from source_codec.training import TrainingConfig
from source_codec.training_data import ImageStream
from source_codec.workers import Workers

CROP = 256
LARGE_IMAGES = 5
SMALL_IMAGES = 60
"""Pieces of 256x256 pixels, or small images, taken from each validation source."""


def calibration_images(config: TrainingConfig) -> list[NDArray[np.uint8]]:
    """A fixed choice of held-out images: pieces of the validation sources."""
    images = []
    for source in config.validation:
        stream = ImageStream(config.data_root, source, CROP, np.random.default_rng(30_000))
        first = stream.draw()
        count = SMALL_IMAGES if first.shape[0] * first.shape[1] <= SMALL_PIXELS else LARGE_IMAGES
        images += [first, *(stream.draw() for _ in range(count - 1))]
    return images


def export_checkpoint(
    checkpoint: Path,
    config: TrainingConfig,
    output: Path,
    notes: str = "",
    progress: Callable[[float], None] | None = None,
) -> Model:
    """Writes the model file of a checkpoint.

    Args:
        checkpoint: ``checkpoint.pt`` of a :class:`source_codec.training.Trainer`.
        config: the run's configuration; its validation sources serve for calibration.
        output: model file to write.
        notes: free text that goes into the file.
        progress: called with the fraction of the calibration done.

    Returns:
        The calibrated model, as read back from the file.
    """
    state = torch.load(checkpoint, weights_only=True)
    denoiser = Denoiser(DenoiserShape(**state["shape"]))
    denoiser.load_state_dict(state["average"])
    model = from_denoiser(denoiser, notes)
    rng = np.random.default_rng(config.seed)
    # On a worker's thread, as when coding: torch's own threads only get in the way of small blocks.
    images = calibration_images(config)
    calibrated = Workers(1).alone(fit_temperatures, model, images, rng, progress=progress)
    calibrated.save(output)
    return Model.load(output)
