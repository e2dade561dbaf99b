"""The log of a training run: ``log.csv``, a row every few seconds."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path

Row = dict[str, float]
"""Figures by column: ``step``, ``minutes``, ``bpsp`` (training loss), and bits per sub-pixel of
validation sources by name."""
FIGURES = ("step", "minutes", "bpsp")


def validation_figures(rows: Sequence[Row]) -> dict[str, list[tuple[float, float]]]:
    """The validation sources by name: minutes and bits per sub-pixel at each validation."""
    names = dict.fromkeys(name for row in rows for name in row if name not in FIGURES)
    return {name: [(r["minutes"], r[name]) for r in rows if name in r] for name in names}


def read_log(path: Path) -> list[Row]:
    """The rows of a log; blank cells are left out. No file is an empty log."""
    if not path.exists():
        return []
    with path.open(newline="") as file:
        return [
            {name: float(value) for name, value in row.items() if value}
            for row in csv.DictReader(file)
        ]


class TrainingLog:
    """The rows of a run, on file as soon as they are known.

    Args:
        path: the file; the rows of an earlier part of the run are kept.
        validation: names of the validation sources, columns of their own.
        step: the step that the run goes on from; rows after it, left by a part of the run that was
            interrupted after its last checkpoint, are dropped.
    """

    def __init__(self, path: Path, validation: Sequence[str], step: int) -> None:
        self._path = path
        earlier = [row for row in read_log(path) if row["step"] <= step]
        names = dict.fromkeys([*FIGURES, *validation, *(name for row in earlier for name in row)])
        self._columns = list(names)
        with path.open("w", newline="") as file:
            csv.writer(file).writerow(self._columns)
        for row in earlier:
            self.append(row)

    def append(self, row: Mapping[str, float]) -> None:
        """Writes a row; figures that it lacks stay blank."""
        with self._path.open("a", newline="") as file:
            csv.writer(file).writerow(
                int(row[name]) if name == "step" else f"{row[name]:.5g}" if name in row else ""
                for name in self._columns
            )
