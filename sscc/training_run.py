"""A training run on the command line: progress, plot, interruption, and the model at the end."""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from source_codec.experts import PHASES
from source_codec.export import export_checkpoint
from source_codec.model import Model
from source_codec.ranks import Ranks
from source_codec.training import Snapshot, Trainer
from source_codec.training_config import TrainingConfig, load_config
from source_codec.training_log import read_log, validation_figures
from source_codec.training_plot import save_training_plot
from sscc.errors import InputError
from sscc.output import print_error, progress_bar


@dataclass(frozen=True)
class TrainingReport:
    """How a run ended.

    Attributes:
        finished: whether its minutes are used up; if not, there is no model yet.
        minutes: of training so far.
        steps: updates of each expert by name.
        validation: bits per sub-pixel of each validation source, at first and at last.
        path: the model's file.
        model: the calibrated model, if finished.
    """

    finished: bool
    minutes: float
    steps: Mapping[str, int]
    validation: Mapping[str, tuple[float, float]]
    path: Path
    model: Model | None

    def to_json(self) -> dict[str, Any]:
        """The report in JSON's types."""
        return {
            "finished": self.finished,
            "minutes": self.minutes,
            "steps": sum(self.steps.values()),
            "steps_by_expert": dict(self.steps),
            "validation_bpsp": {k: list(bpsp) for k, bpsp in self.validation.items()},
            "model": str(self.path) if self.model else None,
            "model_id": self.model.model_id.hex() if self.model else None,
        }

    def lines(self) -> list[str]:
        """The report for people."""
        lines = [
            f"{name}  {before:.3f} -> {after:.3f} bpsp"
            for name, (before, after) in self.validation.items()
        ]
        if self.model:
            steps = sum(self.steps.values())
            lines.append(f"{self.path}  model {self.model.model_id.hex()}  {steps} steps")
        return lines


def train_model(
    config: Path, folder: Path, output: Path | None, device: str
) -> TrainingReport | None:
    """Trains as a configuration file says, and exports; goes on from the folder's checkpoint.

    Args:
        config: TOML file.
        folder: of the run.
        output: model file; by default ``model.safetensors`` in the folder.
        device: "auto", "cpu" or "cuda".

    Returns:
        The report; None on all ranks but the first.

    Raises:
        InputError: the configuration or the device cannot be used.
        CodecError: the images or the weights to start from cannot be used.
    """
    ranks = Ranks.from_environment()
    try:
        settings = load_config(config)
        place = ranks.device(device)
    except ValueError as error:
        raise InputError(str(error)) from error
    torch.set_flush_denormal(True)  # vanishing gradients would take many times as long
    trainer = Trainer(settings, folder, ranks, place)
    with _stop_on_signals(trainer.stop, ranks), _display(trainer) as report:
        finished = trainer.run(report)
    ranks.close()
    return _finish(trainer, settings, finished, output) if ranks.first else None


def _finish(
    trainer: Trainer, settings: TrainingConfig, finished: bool, output: Path | None
) -> TrainingReport:
    """Exports if finished, and reports."""
    path = output or trainer.folder / "model.safetensors"
    figures = validation_figures(read_log(trainer.folder / "log.csv"))
    validation = {name: (points[0][1], points[-1][1]) for name, points in figures.items()}
    steps = {phase.name: n for phase, n in zip(PHASES, trainer.steps, strict=True)}
    model = None
    if finished:
        path.parent.mkdir(parents=True, exist_ok=True)
        with progress_bar("calibrating") as progress:
            model = export_checkpoint(trainer.checkpoint, settings, path, progress=progress)
        untrained = [name for name, count in steps.items() if not count]
        if untrained:
            state = "are those of the start" if settings.start_from else "are still random"
            print_error(f"no training images for {', '.join(untrained)}: these experts {state}")
    return TrainingReport(finished, trainer.seconds / 60, steps, validation, path, model)


@contextmanager
def _stop_on_signals(stop: Callable[[], None], ranks: Ranks) -> Iterator[None]:
    """Lets Ctrl-C and a terminate signal end the run in good order; a second one ends it at once.

    Several ranks get the signal from the terminal and again from ``torchrun``, which ends by force
    whatever takes too long; they do not count.
    """
    signals = (signal.SIGINT, signal.SIGTERM)
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}

    def handle(number: int, frame: FrameType | None) -> None:
        stop()
        if ranks.size == 1:
            for other, handler in before.items():
                signal.signal(other, handler)

    for number in signals:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(trainer: Trainer) -> Iterator[Callable[[Snapshot], None]]:
    """Progress on stderr: a live bar on a terminal, else a line at every validation; and the plot.

    Yields:
        The function to report to.
    """
    console = Console(stderr=True)
    live = console.is_terminal and trainer.ranks.first
    columns = (TextColumn("training"), BarColumn(bar_width=20), TextColumn("{task.description}"))
    begin = time.monotonic()
    first_step = sum(trainer.steps)
    shown: Mapping[str, float] = {}

    with Progress(*columns, console=console, transient=True, disable=not live) as progress:
        task = progress.add_task("starting", total=trainer.config.minutes)

        def report(snapshot: Snapshot) -> None:
            nonlocal shown
            pace = (snapshot.steps - first_step) / max(time.monotonic() - begin, 1e-3)
            line = _line(snapshot, trainer.minutes_left, pace)
            progress.update(task, completed=snapshot.minutes, description=line)
            if snapshot.validation is not shown:
                shown = snapshot.validation
                save_training_plot(
                    read_log(trainer.folder / "log.csv"), trainer.folder / "loss.png"
                )
                if not live:
                    print(line, file=sys.stderr, flush=True)

        yield report


def _line(snapshot: Snapshot, minutes_left: float, pace: float) -> str:
    """Time, pace and figures in one line."""
    parts = [f"{minutes_left:.1f} min left", f"{pace:.1f} steps/s"]
    if snapshot.loss is not None:
        parts.append(f"loss {snapshot.loss:.3f}")
    parts += [f"{name} {bpsp:.3f}" for name, bpsp in snapshot.validation.items()]
    return "  ".join(parts)
