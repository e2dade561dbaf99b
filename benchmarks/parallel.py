"""Independent tasks, numbered from 0, in this process or in several."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from types import TracebackType
from typing import TypeVar

from sscc.output import Progress

_Result = TypeVar("_Result")
_LARGEST_CHUNK = 16


class Tasks:
    """Runs a function of a number for many numbers; results do not depend on the processes.

    A context manager: the processes, which take seconds to start, live as long as it does.
    """

    def __init__(self, workers: int = 1) -> None:
        """Prepare.

        Args:
            workers: processes; with 1 the work is done in this one.
        """
        self._workers = workers
        self._pool: ProcessPoolExecutor | None = None

    def __enter__(self) -> Tasks:
        # Started anew, not forked: a fork would copy the locks of threads that it does not have.
        if self._workers > 1:
            self._pool = ProcessPoolExecutor(self._workers, get_context("spawn"))
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def map(
        self, function: Callable[[int], _Result], count: int, progress: Progress
    ) -> list[_Result]:
        """``function(0)`` to ``function(count - 1)``.

        Args:
            function: one that can be pickled if there are several processes.
            count: how many.
            progress: called with the fraction done.
        """
        results: Iterator[_Result] = map(function, range(count))
        if self._pool is not None:
            chunk = max(1, min(_LARGEST_CHUNK, count // (4 * self._workers)))
            results = self._pool.map(function, range(count), chunksize=chunk)
        done = []
        for result in results:
            done.append(result)
            progress(len(done) / count)
        return done
