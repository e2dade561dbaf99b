"""What the commands print: results on stdout, progress and errors on stderr."""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

Progress = Callable[[float], None]
_LOG_S = 10.0  # between two lines of a log that is no terminal


@contextmanager
def progress_bar(description: str) -> Iterator[Progress]:
    """A bar on stderr, if that is a terminal, for the time of the block.

    It tells when the block waits for kernels to be compiled, as it does in a command's first use.

    Yields:
        A function to call with the fraction done, 0 to 1.
    """
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
    from rich.progress import TimeRemainingColumn as Remaining

    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TaskProgressColumn(), Remaining())
    with Progress(
        *columns, console=console, transient=True, disable=not console.is_terminal
    ) as bar:
        task = bar.add_task(description, total=1.0)

        def describe(text: str) -> None:
            bar.update(task, description=text, refresh=True)

        shown = console.is_terminal
        with _told_of_compilation(describe, description) if shown else nullcontext():
            yield lambda fraction: bar.update(task, completed=fraction)


def _told_of_compilation(
    describe: Callable[[str], None], description: str
) -> AbstractContextManager[Any]:
    """Describes what is going on while numba compiles, and by ``description`` afterwards."""
    from numba.core.event import Event, Listener, install_listener

    class Notice(Listener):
        def on_start(self, event: Event) -> None:
            describe("compiling, for the first use only")

        def on_end(self, event: Event) -> None:
            describe(description)

    context: AbstractContextManager[Any] = install_listener("numba:compile", Notice())
    return context


def part_of(progress: Progress, start: float, share: float) -> Progress:
    """The progress of a part of the work, which begins at ``start`` and makes up ``share``."""
    return lambda fraction: progress(start + share * fraction)


def print_json(result: Mapping[str, Any]) -> None:
    """Prints one line of strict JSON; what JSON cannot say (infinity, not a number) is null."""
    print(json.dumps(_strict(result), allow_nan=False), flush=True)


def _strict(value: Any) -> Any:
    """``value`` in JSON's own types; numpy's scalars and arrays become Python's."""
    if isinstance(value, Mapping):
        return {str(key): _strict(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_strict(item) for item in value]
    if hasattr(value, "tolist"):
        return _strict(value.tolist())
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value


def print_error(message: str) -> None:
    """Prints a message as one line on stderr."""
    print("sscc:", " ".join(message.split()), file=sys.stderr, flush=True)


@contextmanager
def live_line() -> Iterator[Callable[[str, bool], None]]:
    """A line on stderr that follows a running command.

    Yields:
        A function to call with a text, and whether it is an event that stays. What does not stay is
        shown if stderr is a terminal, and else once in a while.
    """
    from rich.console import Console

    console = Console(stderr=True, highlight=False, markup=False)
    last = time.monotonic()

    def log(text: str, stays: bool) -> None:
        nonlocal last
        if stays or time.monotonic() - last >= _LOG_S:
            print(text, file=sys.stderr, flush=True)
            last = time.monotonic()

    if not console.is_terminal:
        yield log
        return
    with console.status("") as status:
        yield lambda text, stays: console.print(text) if stays else status.update(text)
