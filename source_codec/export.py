"""From a training checkpoint to a model file: rounding, calibration, self-test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from source_codec.calibration import fit_temperatures
from source_codec.conversion import from_denoisers, untrained
from source_codec.experts import PHASES, Kind
from source_codec.model import Model
from source_codec.order import is_small
from source_codec.training import read_checkpoint
from source_codec.training_config import TrainingConfig
from source_codec.training_data import ImageStream
from source_codec.window import N_DENSITIES

CROP = 256
LARGE_IMAGES = 5
SMALL_IMAGES = 60
"""Pieces of 256x256 pixels, or small images, taken from each validation source."""


def calibration_images(config: TrainingConfig) -> list[NDArray[np.uint8]]:
    """A fixed choice of held-out colour images: pieces of the validation sources.

    Gray sources are left out: calibration codes three channels.
    """
    images = []
    for source in config.validation:
        if not source.gray:
            stream = ImageStream(config.data_root, source, CROP, np.random.default_rng(30_000))
            first = stream.draw()
            count = SMALL_IMAGES if is_small(*first.shape[:2]) else LARGE_IMAGES
            images += [first, *(stream.draw() for _ in range(count - 1))]
    return images


def _calibrated(
    model: Model,
    trained: Sequence[bool],
    images: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    progress: Callable[[float], None] | None,
) -> Model:
    """The model with new temperatures for its trained experts, as far as there are images."""
    refit = np.zeros((len(Kind), N_DENSITIES, 1), dtype=bool)
    chosen: list[NDArray[np.uint8]] = []
    for small in (False, True):
        own = [image for image in images if is_small(*image.shape[:2]) == small]
        phases = [
            phase
            for phase, is_trained in zip(PHASES, trained, strict=True)
            if is_trained and (phase.kind is not Kind.LARGE) == small
        ]
        if own and phases:
            chosen += own
            for phase in phases:
                refit[phase.kind, phase.densities] = True
    if not chosen:
        return model
    fitted = fit_temperatures(model, chosen, rng, progress=progress)
    return replace(model, temperature=np.where(refit, fitted.temperature, model.temperature))


def export_checkpoint(
    checkpoint: Path,
    config: TrainingConfig,
    output: Path,
    notes: str = "",
    progress: Callable[[float], None] | None = None,
) -> Model:
    """Writes the model file of a checkpoint.

    Experts that were not trained come out as those that the run started from, with the
    temperatures that these had, if it started from a model.

    Args:
        checkpoint: ``checkpoint.pt`` of a :class:`source_codec.training.Trainer`.
        config: the run's configuration; its validation sources serve for calibration.
        output: model file to write.
        notes: free text that goes into the file.
        progress: called with the fraction of the calibration done.

    Returns:
        The calibrated model, as read back from the file.

    Raises:
        ModelError: not a checkpoint, or weights that the integer format does not hold.
    """
    state = read_checkpoint(checkpoint)
    denoisers = untrained(state["shapes"])
    for denoiser, average in zip(denoisers, state["averages"], strict=True):
        denoiser.load_state_dict(average)
    model = from_denoisers(denoisers, notes)
    if config.start_from and Path(config.start_from).suffix != ".pt":
        model = replace(model, temperature=Model.load(config.start_from).temperature)
    trained = [steps > 0 for steps in state["steps"]]
    rng = np.random.default_rng(config.seed)
    _calibrated(model, trained, calibration_images(config), rng, progress).save(output)
    return Model.load(output)
