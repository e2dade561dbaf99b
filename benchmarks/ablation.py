"""``sscc bench ablation``: what each choice of the codec is worth, in bits per sub-pixel.

Every row changes one thing against the default and codes the same crops with the same model. The
model was trained with the default order and calibrated with the default schedule; a model trained
for a row's setting could do better than the row says.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from matplotlib.figure import Figure

from benchmarks.codec import find_images
from source_codec import Codec, Order, Process, Schedule
from source_codec.container import DEFAULT_PROCESS
from source_codec.model import Model
from sscc.images import Pixels
from sscc.output import Progress

if TYPE_CHECKING:
    from rich.table import Table

DEFAULT = "default"
STEPS = (8, 12, 24, 32, 48, 96)
Encoder = Callable[[Codec, Pixels], bytes]


def _same(model: Model) -> Model:
    return model


def _without_temperature(model: Model) -> Model:
    return replace(model, temperature=np.zeros_like(model.temperature))


@dataclass(frozen=True)
class Variant:
    """A row of the table.

    Attributes:
        group: what is changed.
        setting: to what.
        process: of the coding.
        histories: whether the encoder looks for source histories.
        model: from the default model to the row's.
        encode: codes an image; None takes ``Codec.encode`` with the process and histories.
    """

    group: str
    setting: str
    process: Process = DEFAULT_PROCESS
    histories: bool = True
    model: Callable[[Model], Model] = _same
    encode: Encoder | None = None

    def coded(self, codec: Codec, image: Pixels) -> bytes:
        """The stream of an image."""
        if self.encode is not None:
            return self.encode(codec, image)
        return codec.encode(image, self.process, self.histories)


def variants() -> list[Variant]:
    """All rows, the default first; but for the order, which follows the size, none repeats it."""
    default = DEFAULT_PROCESS
    rows = [Variant(DEFAULT, "all as they are")]
    rows += [Variant("order", o.value, Process(order=o)) for o in Order if o != default.order]
    rows += [
        Variant("schedule", s.value, Process(schedule=s)) for s in Schedule if s != default.schedule
    ]
    rows += [Variant("steps", str(n), Process(steps=n)) for n in STEPS if n != default.steps]
    rows.append(Variant("adaptation", "off", Process(adaptive=False)))
    rows.append(Variant("temperature", "off", model=_without_temperature))
    rows.append(Variant("history", "off", histories=False))
    return rows


@dataclass(frozen=True)
class Row:
    """A variant's figures over all crops.

    Attributes:
        group, setting: as of :class:`Variant`.
        bpsp: bits of all streams per sub-pixel.
        change_percent: of the bits, against the default.
        images: number of crops.
    """

    group: str
    setting: str
    bpsp: float
    change_percent: float
    images: int


def centre_crop(image: Pixels, side: int) -> Pixels:
    """The middle of an image, at most ``side`` pixels wide and high."""
    top, left = (max(0, length - side) // 2 for length in image.shape[:2])
    return np.ascontiguousarray(image[top : top + side, left : left + side])


def crops_of(path: Path, count: int, side: int) -> list[Pixels]:
    """Centre crops of ``count`` images of a folder, spread evenly over its files and stacks."""
    files, _ = find_images(path)
    images = [image for file in files for image in file.images]
    chosen = np.unique(np.linspace(0, len(images) - 1, min(count, len(images))).astype(int))
    return [centre_crop(images[index], side) for index in chosen]


def measure(
    crops: Sequence[Pixels],
    model: Model,
    rows: Sequence[Variant],
    threads: int | None,
    progress: Progress,
) -> list[Row]:
    """Codes all crops in all variants.

    Args:
        crops: images.
        model: the default one.
        rows: the variants; the first is what the others are compared to.
        threads: for coding; None takes all cores.
        progress: called with the fraction done.
    """
    sub_pixels = sum(crop.size for crop in crops)
    result: list[Row] = []
    for index, variant in enumerate(rows):
        codec = Codec(variant.model(model), threads)
        total = 0
        for done, crop in enumerate(crops):
            total += 8 * len(variant.coded(codec, crop))
            progress((index + (done + 1) / len(crops)) / len(rows))
        bpsp = total / sub_pixels
        change = 100 * (bpsp / result[0].bpsp - 1) if result else 0.0
        result.append(Row(variant.group, variant.setting, bpsp, change, len(crops)))
    return result


def table(rows: Sequence[Row]) -> Table:
    """The rows for people."""
    from rich.table import Table

    grid = Table("changed", "to")
    for heading in ("bpsp", "bits"):
        grid.add_column(heading, justify="right")
    for row in rows:
        grid.add_row(row.group, row.setting, f"{row.bpsp:.4f}", _change(row))
    return grid


def _change(row: Row) -> str:
    return "" if row.group == DEFAULT else f"{row.change_percent:+.2f} %"


def markdown(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table."""
    lines = ["| changed | to | bpsp | bits |", "|---|---|---:|---:|"]
    lines += [f"| {r.group} | {r.setting} | {r.bpsp:.4f} | {_change(r)} |" for r in rows]
    return "\n".join(lines) + "\n"


def write_results(rows: Sequence[Row], folder: Path) -> None:
    """Writes ablation.csv, ablation.md and ablation.png into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "ablation.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(Row)])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
    (folder / "ablation.md").write_text(markdown(rows))
    _write_plot(rows, folder / "ablation.png")


def _write_plot(rows: Sequence[Row], path: Path) -> None:
    """A bar per row: change of the bits against the default."""
    shown = [row for row in rows if row.group != DEFAULT][::-1]
    figure = Figure(figsize=(7, 1.2 + 0.3 * len(shown)), layout="constrained")
    axes = figure.subplots()
    groups = list(dict.fromkeys(row.group for row in rows))
    changes = [row.change_percent for row in shown]
    colours = [f"C{groups.index(row.group)}" for row in shown]
    bars = axes.barh([f"{row.group}: {row.setting}" for row in shown], changes, color=colours)
    axes.bar_label(bars, [_change(row) for row in shown], padding=3, fontsize=8)
    axes.axvline(0, color="black", linewidth=0.8)
    axes.margins(x=0.18)
    default = next(row for row in rows if row.group == DEFAULT)
    axes.set_xlabel(f"change of the bits / %  (default: {default.bpsp:.3f} bpsp)")
    figure.savefig(path, dpi=120)
