"""Running for hours: an orderly stop on signals, and pacing in real time."""

from __future__ import annotations

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_LONGEST_CATCH_UP_S = 1.0
_PORTION_S = 0.05
GRACE_S = 5.0
"""Time for what is under way when a flow is asked to stop."""


@contextmanager
def stop_on_signals() -> Iterator[Callable[[], bool]]:
    """Lets Ctrl-C and a terminate signal end a flow in good order; a second one ends it at once.

    Yields:
        A function that is true once a signal came.
    """
    stopped = False
    before = {number: signal.getsignal(number) for number in _SIGNALS}

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def handle(number: int, frame: FrameType | None) -> None:
        nonlocal stopped
        stopped = True
        restore()

    for number in _SIGNALS:
        signal.signal(number, handle)
    try:
        yield lambda: stopped
    finally:
        restore()


class Grace:
    """Becomes true some time after a stop was asked for: what is under way may still come through.

    Asked like the stop itself, and often enough to notice when that became true. A stop that is
    called off in time begins anew.
    """

    def __init__(
        self,
        stop: Callable[[], bool],
        seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Follow a stop.

        Args:
            stop: the stop.
            seconds: how much later.
            clock: tells the time, s.
        """
        self._stop, self._seconds, self._clock = stop, seconds, clock
        self._since: float | None = None

    def __call__(self) -> bool:
        """Whether the time is over."""
        if not self._stop():
            self._since = None
        elif self._since is None:
            self._since = self._clock()
        return self._since is not None and self._clock() - self._since >= self._seconds


class Pacer:
    """Holds a flow back to its sample rate, by a monotonic clock.

    Attributes:
        portion: samples to pace at a time, 50 ms, so that a flow can look up in between.
        late_s: time by which the flow fell behind beyond what it may catch up.
    """

    def __init__(
        self,
        sample_rate: float,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Begin with the first samples.

        Args:
            sample_rate: samples a second.
            clock: tells the time, s.
            sleep: waits, s.
        """
        self._rate = sample_rate
        self._clock, self._sleep = clock, sleep
        self._due: float | None = None
        self.portion = max(1, round(_PORTION_S * sample_rate))
        self.late_s = 0.0

    @property
    def late_samples(self) -> int:
        """Samples for which there was no time; those of :attr:`late_s`."""
        return round(self.late_s * self._rate)

    def pace(self, count: int) -> None:
        """Wait until the next `count` samples have taken their time."""
        now = self._clock()
        due = (now if self._due is None else self._due) + count / self._rate
        if due < now - _LONGEST_CATCH_UP_S:
            self.late_s += now - due
            due = now
        self._due = due
        if due > now:
            self._sleep(due - now)
