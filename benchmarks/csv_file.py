"""Results as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any


def write_csv(rows: Sequence[Any], path: Path) -> None:
    """Writes the rows of a result into a file, whose folder is made if need be.

    Args:
        rows: all of one dataclass, at least one; its fields become the columns.
        path: of the file.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in fields(rows[0])])
        writer.writeheader()
        writer.writerows(asdict(row) for row in rows)
