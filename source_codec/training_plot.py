"""The course of a training run as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure

from source_codec.training_log import Row, validation_figures


def save_training_plot(rows: Sequence[Row], path: Path) -> None:
    """Writes a PNG: training loss, and bits per sub-pixel of every validation source, over time.

    Args:
        rows: of :func:`source_codec.training_log.read_log`.
        path: file to write.
    """
    figure = Figure(figsize=(8, 4.5), layout="constrained")
    axes = figure.subplots()
    for name, points in validation_figures(rows).items():
        axes.plot(*zip(*points, strict=True), marker=".", label=f"{name} {points[-1][1]:.3f}")
    losses = [(row["minutes"], row["bpsp"]) for row in rows if "bpsp" in row]
    if losses:
        axes.plot(*zip(*losses, strict=True), color="0.7", lw=0.8, zorder=0, label="training loss")
    axes.set_xlabel("minutes of training")
    axes.set_ylabel("bits per sub-pixel")
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=110)
