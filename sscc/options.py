"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Model = Annotated[
    str, typer.Option("--model", "-m", metavar="NAME|FILE", help="Model: a name or a file.")
]
Threads = Annotated[
    int | None,
    typer.Option(
        "--threads", "-t", min=1, help="Threads; affects speed only.  [default: all cores]"
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one line of JSON instead of a report.")]
OutputFolder = Annotated[
    Path, typer.Option("--output", "-o", metavar="DIR", help="Folder for the results.")
]
NoHistory = Annotated[
    bool,
    typer.Option(
        "--no-history", help="Do not look for a source history (Photo CD, subsampled chroma, ...)."
    ),
]
InputFile = typer.Argument(exists=True, dir_okay=False, readable=True, show_default=False)
Seed = Annotated[int, typer.Option(min=0, help="Fixes every random draw.")]
