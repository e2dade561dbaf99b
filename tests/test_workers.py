"""Worker threads: results in order, no more at work than asked for, bounded look-ahead."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from source_codec.workers import Workers


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_results_come_in_the_tasks_order(threads: int) -> None:
    """However long each takes."""
    seconds = np.random.default_rng(1).uniform(0, 0.004, 60)

    def work(task: int) -> int:
        time.sleep(seconds[task])
        return task * task

    assert list(Workers(threads).map(work, range(60))) == [task * task for task in range(60)]


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_as_many_threads_work_as_asked_for(threads: int) -> None:
    """The caller among them: each task waits, if only for a second, for the others to be there."""
    lock, at_work, most, seen = threading.Lock(), 0, 0, set()
    together = threading.Barrier(threads)

    def work(_: int) -> None:
        nonlocal at_work, most
        with lock:
            at_work += 1
            most = max(most, at_work)
            seen.add(threading.current_thread())
        together.wait(timeout=60)
        with lock:
            at_work -= 1

    for _ in Workers(threads).map(work, range(6 * threads)):
        pass
    assert most == threads == len(seen)
    assert threading.current_thread() in seen


def test_tasks_are_taken_few_at_a_time() -> None:
    taken = 0

    def tasks() -> Iterator[int]:
        nonlocal taken
        for task in range(100):
            taken += 1
            yield task

    for used, _ in enumerate(Workers(2).map(abs, tasks())):
        assert taken <= used + 4


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_a_failure_comes_in_its_place(threads: int) -> None:
    """After the results of the tasks before it."""
    results = Workers(threads).map(lambda task: 12 // (4 - task), range(9))
    assert [next(results) for _ in range(4)] == [3, 4, 6, 12]
    with pytest.raises(ZeroDivisionError):
        next(results)


def test_work_aside_is_done_in_turn() -> None:
    done: list[int] = []
    finished = threading.Event()
    workers = Workers(2)
    for number in range(50):
        workers.aside(done.append, number)
    workers.aside(finished.set)
    assert finished.wait(timeout=60)
    assert done == list(range(50))
