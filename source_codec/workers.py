"""Worker threads: blocks of pixels are evaluated in parallel, each block on one thread.

The kernels release the interpreter lock, so threads are enough.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Generic, ParamSpec, TypeVar

Arguments = ParamSpec("Arguments")
Task = TypeVar("Task")
Result = TypeVar("Result")


def available_cores() -> int:
    """Cores that this process may run on."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


class _Job(Generic[Result]):
    """A call to be made by the thread that comes first."""

    def __init__(self, call: Callable[[], Result]) -> None:
        self._call = call
        self._future: Future[Result] | None = None

    def offer(self, pool: ThreadPoolExecutor) -> None:
        """Lets a thread of the pool make the call, when it finds the time."""
        if self._future is None:
            self._future = pool.submit(self._call)

    @property
    def done(self) -> bool:
        """Whether there is a result."""
        return self._future is not None and self._future.done()

    def take(self) -> bool:
        """Makes the call here, if no thread has begun it; else false."""
        if self._future is not None and not self._future.cancel():
            return False
        self._future = Future()
        try:
            self._future.set_result(self._call())
        except Exception as error:
            self._future.set_exception(error)
        return True

    def result(self) -> Result:
        """What the call returned, when it has; or raises what it raised."""
        assert self._future is not None
        return self._future.result()


class Workers:
    """Threads that map a function over tasks, results in order, few tasks ahead.

    The caller is one of them: where the next result is not there yet, it does a task that no other
    thread has begun. What it does with the results comes first, therefore, and no more threads are
    at work than asked for.

    Args:
        threads: number of threads; ``None`` takes the cores available.
    """

    def __init__(self, threads: int | None = None) -> None:
        self.threads = threads or available_cores()
        if self.threads < 1:
            raise ValueError(f"threads must be positive, not {threads}")
        self._pool = ThreadPoolExecutor(max(self.threads - 1, 1), "codec")
        self._side = ThreadPoolExecutor(1, "codec")

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

    def map(
        self, function: Callable[[Task], Result], tasks: Iterable[Task | None]
    ) -> Iterator[Result]:
        """Results of ``function`` on each task, in order; bounded memory however many tasks.

        None among the tasks says that the next one is not there before more results are taken.
        """
        pending: deque[_Job[Result]] = deque()
        for task in tasks:
            if task is not None:
                pending.append(_Job(partial(function, task)))
                self._offer(pending)
            # Each thread has a task and finds another, even while the caller is at one. No more:
            # results that lie about for long have left the cache by the time they are used.
            if task is None or len(pending) >= 2 * self.threads:
                yield self._first(pending)
        while pending:
            yield self._first(pending)

    def _offer(self, pending: deque[_Job[Result]]) -> None:
        """Offers tasks to the pool; a single one is not worth another thread."""
        if len(pending) > 1 and self.threads > 1:
            for job in pending:
                job.offer(self._pool)

    @staticmethod
    def _first(pending: deque[_Job[Result]]) -> Result:
        """The first result."""
        while not pending[0].done and any(job.take() for job in pending):
            pass
        return pending.popleft().result()
