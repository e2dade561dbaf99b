"""Orderly stops and pacing, on clocks that the tests move."""

import os
import signal

import pytest

from flowgraphs.supervision import Grace, Pacer, stop_on_signals


def test_a_signal_stops_and_a_second_one_is_the_programs_own() -> None:
    before = signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)
    for number in (signal.SIGTERM, signal.SIGINT):
        with stop_on_signals() as stop:
            assert not stop()
            os.kill(os.getpid(), number)
            assert stop()
            assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before
        assert (signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)) == before


def test_grace_begins_with_the_stop() -> None:
    now, stopped = 100.0, False
    grace = Grace(lambda: stopped, 5, lambda: now)
    assert not grace()
    now, stopped = 200.0, True
    assert not grace()
    now = 204.9
    assert not grace()
    now = 205.0
    assert grace()
    stopped = False
    assert not grace()
    stopped = True
    assert not grace()
    now = 210.0
    assert grace()


def test_a_pacer_keeps_the_rate_and_does_not_catch_up_for_long() -> None:
    now, waits = 10.0, []

    def sleep(seconds: float) -> None:
        nonlocal now
        waits.append(seconds)
        now += seconds

    pacer = Pacer(1000, lambda: now, sleep)
    pacer.pace(500)
    now += 0.2
    pacer.pace(500)
    assert (*waits, now) == pytest.approx((0.5, 0.3, 11.0))
    now += 0.91  # less than a second behind: caught up at full speed
    for _ in range(3):
        pacer.pace(300)
    assert (len(waits), round(now, 6), pacer.late_s) == (2, 11.91, 0)
    now += 10
    pacer.pace(1000)
    assert (len(waits), round(pacer.late_s, 6)) == (2, 9.01)
    pacer.pace(1000)
    assert round(waits[2], 6) == 1
