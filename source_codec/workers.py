"""Worker threads: blocks of pixels are evaluated in parallel, each block on one thread.

The kernels release the interpreter lock, so threads are enough.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sized
from concurrent.futures import Future, ThreadPoolExecutor
from typing import ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Task = TypeVar("Task")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class Workers:
    """A pool of threads that maps a function over tasks, results in order, few tasks ahead.

    Each thread has one task and finds another when it is done; results that lie about longer have
    left the cache by the time they are used.

    Args:
        threads: number of threads; ``None`` takes the cores available.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or available_cores()
        if self.threads < 1:
            raise ValueError(f"threads must be positive, not {threads}")
        self._pool, self._side = (ThreadPoolExecutor(n, "codec") for n in (self.threads, 1))

    def aside(
        self,
        function: Callable[Arguments, None],
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> None:
        """Starts work that goes on beside the caller, in the order of the calls.

        The function must make its failure known itself.
        """
        self._side.submit(function, *args, **kwargs)

    def map(self, function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        """Results of ``function`` on each task, in order; bounded memory however many tasks."""
        if isinstance(tasks, Sized) and len(tasks) == 1:  # nothing to share
            yield from map(function, tasks)
            return
        pending: deque[Future[Result]] = deque()
        for task in tasks:
            pending.append(self._pool.submit(function, task))
            if len(pending) > self.threads:  # one more than are at work
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
