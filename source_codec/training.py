"""Training of the denoiser: resumable, on the clock, on one process or several.

The learning rate follows the wall-clock time spent, so that a run takes the minutes it was given on
any machine; a checkpoint holds everything needed to go on after an interruption.

A step updates one expert, that of rank 0's next batch, so that experts are updated as often as
their pixels are met. The other ranks take their next batch of the same expert. Gradients of the
summed code length are added up over the ranks and divided by all their coded sub-pixels: a step of
N processes is a step of one process on the N batches together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from torch import Tensor

from source_codec.conversion import to_denoisers, untrained
from source_codec.denoiser import Denoiser, DenoiserShape
from source_codec.errors import ModelError
from source_codec.experts import PHASES
from source_codec.mixture_loss import code_length_bits
from source_codec.model import Model
from source_codec.muon import Muon
from source_codec.process import Process
from source_codec.ranks import Ranks
from source_codec.training_config import TrainingConfig
from source_codec.training_data import (
    Batch,
    BatchStream,
    ImageStream,
    concatenate,
    masked_example,
    source_names,
)
from source_codec.training_log import TrainingLog

VALIDATION_PIXELS = 1 << 15


@lru_cache
def product_type(device: str) -> torch.dtype:
    """The faster of bfloat16 and float32 for the matrix products of training, by a short trial.

    Both carry inputs and rounded weights exactly. Processors without instructions for bfloat16
    emulate it, and take several times as long as for float32.

    Args:
        device: its type, "cpu" or "cuda".
    """
    if device != "cpu":
        return torch.bfloat16
    seconds = {}
    for kind in (torch.bfloat16, torch.float32):
        left, right = torch.ones(1024, 512, dtype=kind), torch.ones(512, 256, dtype=kind)
        trials = []
        for _ in range(5):  # the first one prepares kernels, others may be interrupted
            start = time.perf_counter()
            left @ right
            trials.append(time.perf_counter() - start)
        seconds[kind] = min(trials)
    return min(seconds, key=lambda kind: seconds[kind])


def batch_bits(model: Denoiser, batch: Batch) -> tuple[Tensor, Tensor]:
    """Bits of every coded sub-pixel: ``(bits (N, 3), weight (N, 3))``."""
    inputs = batch.inputs.to(product_type(batch.inputs.device.type))
    outputs = model(inputs, batch.residual)
    bits = torch.stack(
        [code_length_bits(outputs[c], batch.residual, batch.edges[:, c]) for c in range(3)], dim=1
    )
    return bits, batch.weight


def _validation_batches(config: TrainingConfig) -> dict[str, list[Batch]]:
    """A fixed sample of masked pixels of every validation source, by expert."""
    result = {}
    names = source_names(config.validation)
    for name, source in zip(names, config.validation, strict=True):
        rng = np.random.default_rng(20_000)
        stream = ImageStream(config.data_root, source, 512, rng)
        examples: dict[int, list[Batch]] = {}
        pixels = 0
        while pixels < VALIDATION_PIXELS:
            example = masked_example(stream.draw(), Process(), rng, 512, source.gray)
            examples.setdefault(example.expert, []).append(example)
            pixels += len(example.inputs)
        result[name] = [concatenate(parts) for parts in examples.values()]
    return result


@torch.no_grad()
def validation_bpsp(models: Sequence[Denoiser], batches: Sequence[Batch]) -> float:
    """Mean bits per sub-pixel of a sample: an estimate of the code length."""
    total = coded = 0.0
    for batch in batches:
        model = models[batch.expert]
        model.refresh()
        bits, weight = batch_bits(model, batch.to(model.stem.weight.device))
        total += float((bits * weight).sum())
        coded += float(weight.sum())
    return total / coded


def _learning_rate(progress: float) -> float:
    """Warm-up over 2 % of the run, constant until 40 %, then down to zero as a half cosine."""
    if progress < 0.02:
        return max(progress / 0.02, 0.02)
    if progress < 0.4:
        return 1.0
    return 0.5 + 0.5 * float(np.cos(np.pi * min((progress - 0.4) / 0.6, 1.0)))


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state in a checkpoint, on the CPU.

    Raises:
        ModelError: not a checkpoint.
    """
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
        shapes = [DenoiserShape(**shape) for shape in state["shapes"]]
    except (OSError, EOFError, RuntimeError, KeyError, TypeError, UnpicklingError) as error:
        raise ModelError(f"{path} is not a checkpoint: {error}") from error
    if len(shapes) != len(PHASES):
        raise ModelError(f"{path} has {len(shapes)} experts, not {len(PHASES)}")
    return state | {"shapes": shapes}


@dataclass(frozen=True)
class Start:
    """What a run begins with.

    Attributes:
        shapes: of the experts.
        weights: of the experts, or None: random ones.
        state: of the checkpoint that the run goes on from, if any.
    """

    shapes: list[DenoiserShape]
    weights: list[dict[str, Tensor]] | None = None
    state: dict[str, Any] | None = None

    @classmethod
    def of(cls, config: TrainingConfig, checkpoint: Path) -> Start:
        """Where a run of this configuration begins.

        Raises:
            ModelError: no such model or checkpoint, or one of other sizes.
        """
        if checkpoint.exists():
            state = read_checkpoint(checkpoint)
            start, source = cls(state["shapes"], state=state), str(checkpoint)
        elif not config.start_from:
            defaults = DenoiserShape()
            return cls([expert.shape(defaults) for expert in config.experts])
        else:
            start, source = cls._from(config.start_from), config.start_from
        for phase, expert, shape in zip(PHASES, config.experts, start.shapes, strict=True):
            wanted = expert.shape(shape)
            if wanted != shape:
                raise ModelError(
                    f"expert {phase.name} of {source} has {_sizes(shape)}, the configuration says "
                    f"{_sizes(wanted)}: leave the sizes out, or start another run from the seed"
                )
        return start

    @classmethod
    def _from(cls, source: str) -> Start:
        """The weights of another run's checkpoint, or of a model."""
        if Path(source).suffix == ".pt":
            state = read_checkpoint(Path(source))
            return cls(state["shapes"], state["averages"])
        denoisers = to_denoisers(Model.load(source))
        return cls([d.shape for d in denoisers], [d.state_dict() for d in denoisers])


def _sizes(shape: DenoiserShape) -> str:
    return f"width {shape.width}, blocks {list(shape.blocks)}, head_width {shape.head_width}"


def _optimisers(model: Denoiser, device: torch.device) -> list[torch.optim.Optimizer]:
    """Muon for the hidden matrices, AdamW for all else; each step sets their rates."""
    matrices = [
        layer.weight
        for layer in (
            model.stem,
            *(part for block in model.blocks for part in (block.first, block.second)),
            model.neck,
        )
    ]
    taken = {id(m) for m in matrices}
    others = [p for p in model.parameters() if id(p) not in taken]
    return [
        Muon(matrices, product_type(device.type)),
        torch.optim.AdamW(others, weight_decay=0.0),
    ]


@dataclass
class Snapshot:
    """Where a run stands.

    Attributes:
        steps: updates so far, of all experts.
        minutes: counted so far.
        loss: mean bits per sub-pixel of the latest steps, up to ten seconds of them; None at first.
        validation: newest bits per sub-pixel of each validation source.
    """

    steps: int
    minutes: float
    loss: float | None = None
    validation: Mapping[str, float] = field(default_factory=dict)


class Trainer:
    """A training run with its state in one folder (``checkpoint.pt``, ``log.csv``).

    Args:
        config: what to do.
        folder: of the run; if it holds a checkpoint, the run goes on from there.
        ranks: the processes that train together; all of them make a trainer, rank 0 writes.
        device: to train on.

    Raises:
        ModelError: the weights to start from, or the checkpoint, cannot be used.
    """

    EMA_DECAY = 0.998
    ROWS = 2048
    """Pixels per forward and backward pass on the CPU: the activations should stay in cache."""
    LONGEST_STEP = 5.0
    """Seconds counted for a step at most, so that a suspended run loses none of its minutes."""
    LOG_EVERY = 10.0
    """Seconds between rows of the log."""

    def __init__(
        self,
        config: TrainingConfig,
        folder: Path,
        ranks: Ranks | None = None,
        device: torch.device | None = None,
    ) -> None:
        self.config = config
        self.folder = folder
        self.ranks = ranks or Ranks()
        self.device = device or torch.device("cpu")
        self._stopping = False
        start = self.ranks.share(Start.of(config, self.checkpoint) if self.ranks.first else None)
        torch.manual_seed(config.seed)
        self.shapes = start.shapes
        self.models, self.averages = (
            [denoiser.to(self.device) for denoiser in untrained(start.shapes)] for _ in range(2)
        )
        self.optimisers = [_optimisers(model, self.device) for model in self.models]
        self.steps = [0] * len(self.models)
        self.seconds = 0.0
        if start.state is not None:
            self._load(start.state)
            return
        if start.weights is not None:
            for model, weights in zip(self.models, start.weights, strict=True):
                model.load_state_dict(weights)
        for model, average in zip(self.models, self.averages, strict=True):
            average.load_state_dict(model.state_dict())
        self._copy_first()

    @property
    def checkpoint(self) -> Path:
        """Path of the resumable state."""
        return self.folder / "checkpoint.pt"

    @property
    def minutes_left(self) -> float:
        """Minutes that the run has still to go."""
        return max(self.config.minutes - self.seconds / 60, 0.0)

    def stop(self) -> None:
        """Asks a run in progress to save its state and to end after the current step."""
        self._stopping = True

    def _load(self, state: dict[str, Any]) -> None:
        for i in range(len(self.models)):
            self.models[i].load_state_dict(state["models"][i])
            self.averages[i].load_state_dict(state["averages"][i])
            for optimiser, saved in zip(self.optimisers[i], state["optimisers"][i], strict=True):
                optimiser.load_state_dict(saved)
        self.steps, self.seconds = state["steps"], state["seconds"]

    def save(self) -> None:
        """Writes the checkpoint; an interruption leaves the previous one whole."""
        self.folder.mkdir(parents=True, exist_ok=True)
        temporary = self.checkpoint.with_suffix(".tmp")
        torch.save(
            {
                "models": [model.state_dict() for model in self.models],
                "averages": [average.state_dict() for average in self.averages],
                "optimisers": [[o.state_dict() for o in pair] for pair in self.optimisers],
                "steps": self.steps,
                "seconds": self.seconds,
                "shapes": [asdict(shape) for shape in self.shapes],
            },
            temporary,
        )
        temporary.replace(self.checkpoint)

    def update(self, batch: Batch, rate: float) -> float:
        """One step of the expert of ``batch``; all ranks call it, with batches of one expert.

        Args:
            batch: masked pixels.
            rate: learning rates, relative to the peak ones.

        Returns:
            Mean bits per coded sub-pixel over all ranks' batches, before the update.
        """
        batch = batch.to(self.device)
        model, average = self.models[batch.expert], self.averages[batch.expert]
        optimisers = self.optimisers[batch.expert]
        for optimiser, peak in zip(optimisers, self.config.rates(batch.expert), strict=True):
            for group in optimiser.param_groups:
                group["lr"] = rate * peak
        model.refresh()
        total = batch.weight.sum()
        self.ranks.sum_in_place([total])
        loss = torch.zeros((), device=self.device)
        rows = self.ROWS if self.device.type == "cpu" else len(batch.inputs)
        for part in batch.split(rows):
            bits, weight = batch_bits(model, part)
            part_loss = (bits * weight).sum() / total
            part_loss.backward()
            loss += part_loss.detach()
        model.pass_gradient()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        self.ranks.sum_in_place([loss, *gradients])
        torch.nn.utils.clip_grad_norm_(model.parameters(), 5.0)
        for optimiser in optimisers:
            optimiser.step()
            optimiser.zero_grad(set_to_none=True)
        self.steps[batch.expert] += 1
        step = self.steps[batch.expert]
        decay = min(self.EMA_DECAY, step / (10 + step))
        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(model.parameters()), 1 - decay)
        return float(loss)

    def run(
        self,
        report: Callable[[Snapshot], None] | None = None,
        validate_every: float | None = None,
    ) -> bool:
        """Trains until the configured minutes are used up, or :meth:`stop` is called.

        Args:
            report: called on rank 0 after every step and every row of the log.
            validate_every: seconds between validations and checkpoints; by default a twentieth of
                the run, but from 20 seconds to 3 minutes.

        Returns:
            Whether the minutes are used up.

        Raises:
            UnusableImages: images are missing or cannot be trained on.
        """
        config, total = self.config, self.config.minutes * 60
        if not self.minutes_left:
            return True
        every = validate_every or min(max(total / 20, 20.0), 180.0)
        rng = np.random.default_rng([config.seed, sum(self.steps), self.ranks.rank])
        sources = list(config.sources)
        stream = BatchStream(config.data_root, sources, config.batch, config.crop, rng)
        try:
            record = _Record(self, report) if self.ranks.first else None
            next_row, next_validation = self.seconds + self.LOG_EVERY, self.seconds + every
            last = time.monotonic()
            while self.minutes_left and not self.ranks.any(self._stopping):
                loss = self.update(self._next(stream), _learning_rate(self.seconds / total))
                now = time.monotonic()
                self.seconds += min(now - last, self.LONGEST_STEP)
                self.seconds, last = self.ranks.number(self.seconds), now
                if record:
                    record.step(loss)
                if not self.minutes_left:
                    break
                if self.seconds >= next_validation:
                    next_validation, next_row = self.seconds + every, self.seconds + self.LOG_EVERY
                    # Processors of several kinds may round differently.
                    self._copy_first()
                    if record:
                        record.row(validate=True)
                        self.save()
                elif self.seconds >= next_row:
                    next_row = self.seconds + self.LOG_EVERY
                    if record:
                        record.row()
            if record:
                record.row(validate=not self.minutes_left)
                self.save()
        finally:
            stream.close()
        return not self.minutes_left

    def _next(self, stream: BatchStream) -> Batch:
        """This rank's next batch of the expert whose turn it is."""
        batch = stream.take() if self.ranks.first else None
        expert = int(self.ranks.number(batch.expert if batch else 0))
        return batch or stream.take(expert)

    def _copy_first(self) -> None:
        """Gives all ranks the weights of rank 0."""
        with torch.no_grad():
            for network in (*self.models, *self.averages):
                self.ranks.copy_first(list(network.parameters()))


class _Record:
    """What rank 0 tells of a run: log, validation and reports."""

    def __init__(self, trainer: Trainer, report: Callable[[Snapshot], None] | None) -> None:
        self._trainer = trainer
        self._report = report
        self._validation = _validation_batches(trainer.config)
        trainer.folder.mkdir(parents=True, exist_ok=True)
        steps = sum(trainer.steps)
        self._log = TrainingLog(trainer.folder / "log.csv", list(self._validation), steps)
        self._snapshot = Snapshot(steps, trainer.seconds / 60)
        self._losses: list[float] = []
        if not steps:
            self.row(validate=True)

    def step(self, loss: float) -> None:
        """Takes note of an update."""
        snapshot = self._snapshot
        snapshot.steps, snapshot.minutes = sum(self._trainer.steps), self._trainer.seconds / 60
        self._losses.append(loss)
        snapshot.loss = float(np.mean(self._losses))
        if self._report:
            self._report(snapshot)

    def row(self, validate: bool = False) -> None:
        """Writes a row of the log, with figures of the validation sources if asked."""
        snapshot = self._snapshot
        row = {"step": float(snapshot.steps), "minutes": snapshot.minutes}
        if self._losses:
            row["bpsp"] = float(np.mean(self._losses))
        self._losses.clear()
        if validate:
            snapshot.validation = {
                name: validation_bpsp(self._trainer.averages, batches)
                for name, batches in self._validation.items()
            }
            row |= snapshot.validation
        self._log.append(row)
        if self._report:
            self._report(snapshot)
