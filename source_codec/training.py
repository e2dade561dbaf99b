"""Training of the denoiser: resumable, on the clock, with a log.

The learning rate follows the wall-clock time spent, so that a run takes the minutes it was given on
any machine; a checkpoint holds everything needed to go on after an interruption.
"""

from __future__ import annotations

import csv
import time
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from source_codec.denoiser import Denoiser, DenoiserShape, mixture_bits
from source_codec.errors import ModelError
from source_codec.model import Model, to_denoiser
from source_codec.training_data import (
    Batch,
    BatchStream,
    ImageStream,
    Source,
    concatenate,
    masked_example,
)


@dataclass(frozen=True)
class TrainingConfig:
    """A training run, as read from TOML.

    Attributes:
        data_root: folder that the sources' paths start from.
        sources: what to train on.
        validation: what to measure on while training (never the measuring sets).
        shape: size of the network.
        minutes: wall-clock length of the run.
        batch: masked pixels a step.
        crop: largest side of the image crops.
        learning_rate: peak rate of the hidden matrices' optimiser (Muon).
        learning_rate_scalars: peak rate of Adam, for heads, colour inputs and biases.
        seed: of data and initial weights.
        start_from: where the weights come from at first, if not from the seed: the name or path of
            a model, or a checkpoint (``.pt``) of another run.
    """

    data_root: Path
    sources: tuple[Source, ...]
    validation: tuple[Source, ...]
    shape: DenoiserShape = field(default_factory=DenoiserShape)
    minutes: float = 90.0
    batch: int = 8192
    crop: int = 224
    learning_rate: float = 0.01
    learning_rate_scalars: float = 0.002
    seed: int = 1
    start_from: str = ""


def _source(entry: dict[str, Any]) -> Source:
    arguments: dict[str, Any] = {
        k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()
    }
    return Source(**arguments)


def load_config(path: Path) -> TrainingConfig:
    """Reads a training configuration; relative paths start from the file's folder.

    Raises:
        ValueError: an unknown key or a missing section.
    """
    try:
        with path.open("rb") as file:
            table = tomllib.load(file)
        sources = tuple(_source(entry) for entry in table.pop("source"))
        validation = tuple(_source(entry) for entry in table.pop("validation"))
        shape = DenoiserShape(**table.pop("shape", {}))
        root = (path.parent / table.pop("data_root")).resolve()
        if Path(table.get("start_from", "")).suffix:
            table["start_from"] = str((path.parent / table["start_from"]).resolve())
        return TrainingConfig(
            data_root=root, sources=sources, validation=validation, shape=shape, **table
        )
    except (KeyError, TypeError, tomllib.TOMLDecodeError) as error:
        raise ValueError(f"{path}: {error}") from error


def batch_bits(model: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """Bits of every coded sub-pixel: ``(bits (N, 3), weight (N, 3))``."""
    outputs = model(batch.inputs.bfloat16(), batch.residual)
    bits = torch.stack(
        [mixture_bits(outputs[c], batch.residual, batch.edges[:, c]) for c in range(3)], dim=1
    )
    return bits, batch.weight


def _validation_batches(config: TrainingConfig) -> dict[str, Batch]:
    """A fixed sample of masked pixels of every validation source."""
    result = {}
    for source in config.validation:
        rng = np.random.default_rng(20_000)
        stream = ImageStream(config.data_root, source, 512, rng)
        examples = []
        for _ in range(64):
            examples.append(masked_example(stream.draw(), 32, rng, 512, gray=False))
        name = f"{source.folder}:{source.transform}"
        result[name] = concatenate(examples)
    return result


@torch.no_grad()
def validation_bpsp(model: Denoiser, batch: Batch) -> float:
    """Mean bits per sub-pixel over a batch, steps weighted as sampled."""
    model.refresh()
    bits, weight = batch_bits(model, batch)
    return float((bits * weight).sum() / weight.sum())


def _learning_rate(progress: float) -> float:
    """Warm-up over 2 % of the run, constant until 40 %, then down to zero as a half cosine."""
    if progress < 0.02:
        return max(progress / 0.02, 0.02)
    if progress < 0.4:
        return 1.0
    return 0.5 + 0.5 * float(np.cos(np.pi * min((progress - 0.4) / 0.6, 1.0)))


def _weights(config: TrainingConfig) -> dict[str, Tensor]:
    """The weights that a configuration starts from.

    Raises:
        ModelError: no such model or checkpoint, or one of another shape.
    """
    if Path(config.start_from).suffix == ".pt":
        try:
            state = torch.load(config.start_from, weights_only=True)
            shape, weights = DenoiserShape(**state["shape"]), state["average"]
        except (OSError, RuntimeError, KeyError, UnpicklingError) as error:
            raise ModelError(f"{config.start_from} is not a checkpoint: {error}") from error
    else:
        denoiser = to_denoiser(Model.load(config.start_from))
        shape, weights = denoiser.shape, denoiser.state_dict()
    if shape != config.shape:
        raise ModelError(f"{config.start_from} has {shape}, the configuration {config.shape}")
    return weights


class Trainer:
    """A training run with its state in one folder (``checkpoint.pt``, ``log.csv``)."""

    EMA_DECAY = 0.998
    ROWS = 2048
    """Pixels per forward and backward pass: few enough for the activations to stay in cache."""

    def __init__(self, config: TrainingConfig, folder: Path) -> None:
        self.config = config
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        torch.manual_seed(config.seed)
        self.model = Denoiser(config.shape)
        self.average = Denoiser(config.shape)
        matrices = [
            layer.weight
            for layer in (
                self.model.stem,
                *(part for block in self.model.blocks for part in (block.first, block.second)),
                self.model.neck,
            )
        ]
        taken = {id(m) for m in matrices}
        others = [p for p in self.model.parameters() if id(p) not in taken]
        self.optimisers: list[torch.optim.Optimizer] = [
            torch.optim.Muon(matrices, lr=config.learning_rate, weight_decay=0.01),
            torch.optim.AdamW(others, lr=config.learning_rate_scalars, weight_decay=0.0),
        ]
        self.step = 0
        self.seconds = 0.0
        if self.checkpoint.exists():
            self._load(torch.load(self.checkpoint, weights_only=True))
        elif config.start_from:
            weights = _weights(config)
            self.model.load_state_dict(weights)
            self.average.load_state_dict(weights)

    @property
    def checkpoint(self) -> Path:
        """Path of the resumable state."""
        return self.folder / "checkpoint.pt"

    def _load(self, state: dict[str, Any]) -> None:
        self.model.load_state_dict(state["model"])
        self.average.load_state_dict(state["average"])
        for optimiser, saved in zip(self.optimisers, state["optimisers"], strict=True):
            optimiser.load_state_dict(saved)
        self.step, self.seconds = state["step"], state["seconds"]

    def save(self) -> None:
        """Writes the checkpoint; an interruption leaves the previous one whole."""
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "model": self.model.state_dict(),
                "average": self.average.state_dict(),
                "optimisers": [o.state_dict() for o in self.optimisers],
                "step": self.step,
                "seconds": self.seconds,
                "shape": asdict(self.config.shape),
            },
            temporary,
        )
        temporary.replace(self.checkpoint)

    def _update(self, batch: Batch, rate: float) -> float:
        for optimiser, peak in zip(
            self.optimisers,
            (self.config.learning_rate, self.config.learning_rate_scalars),
            strict=True,
        ):
            for group in optimiser.param_groups:
                group["lr"] = rate * peak
        self.model.refresh()
        total = batch.weight.sum()
        loss = 0.0
        for part in batch.split(self.ROWS):
            bits, weight = batch_bits(self.model, part)
            part_loss = (bits * weight).sum() / total
            part_loss.backward()
            loss += float(part_loss.detach())
        self.model.pass_gradient()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 5.0)
        for optimiser in self.optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        decay = min(self.EMA_DECAY, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            torch._foreach_lerp_(
                list(self.average.parameters()), list(self.model.parameters()), 1 - decay
            )
        return loss

    def run(
        self, report: Callable[[dict[str, float]], None], validate_every: float = 180.0
    ) -> None:
        """Trains until the configured minutes are used up.

        Args:
            report: called with the newest log row about every ten seconds; rows with validation
                figures carry a key per validation set.
            validate_every: seconds between validations and checkpoints.
        """
        config = self.config
        total = config.minutes * 60
        if self.seconds >= total:
            return
        rng = np.random.default_rng([config.seed, self.step])
        batches: Iterable[Batch] = BatchStream(
            config.data_root, list(config.sources), config.batch, config.crop, rng
        )
        validation = _validation_batches(config)
        losses: list[float] = []
        last = time.monotonic()
        next_report, next_validation = 10.0, validate_every
        started_at = self.seconds
        for batch in batches:
            losses.append(self._update(batch, _learning_rate(self.seconds / total)))
            self.step += 1
            now = time.monotonic()
            self.seconds += now - last
            last = now
            done = self.seconds >= total
            elapsed = self.seconds - started_at
            if elapsed >= next_report or done:
                next_report += 10.0
                row = {
                    "step": float(self.step),
                    "minutes": self.seconds / 60,
                    "bpsp": float(np.mean(losses)),
                }
                losses.clear()
                if elapsed >= next_validation or done:
                    next_validation += validate_every
                    for name, sample in validation.items():
                        row[name] = validation_bpsp(self.average, sample)
                    self._log(row)
                    self.save()
                report(row)
            if done:
                return

    def _log(self, row: dict[str, float]) -> None:
        path = self.folder / "log.csv"
        fresh = not path.exists()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(row.keys())
            writer.writerow(
                f"{value:.5g}" if k != "step" else int(value) for k, value in row.items()
            )
