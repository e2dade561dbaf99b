"""Orderly stops and pacing, on clocks that the tests move."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from flowgraphs.raw_file import FileSink
from flowgraphs.stream import write_all
from flowgraphs.supervision import Grace, Pacer, stop_on_signals
from flowgraphs.transmit import TransmitConfig, TransmitReport, transmit


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


class Time:
    """A clock that waiting moves."""

    def __init__(self) -> None:
        self.now, self.waits = 0.0, 0

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        self.waits += 1


def test_samples_pass_in_portions_of_real_time(tmp_path: Path) -> None:
    time = Time()
    with FileSink(tmp_path / "x") as sink:
        pacer = Pacer(1000, time, time.sleep)
        assert write_all(sink, np.zeros(1020, np.complex64), lambda: False, pacer) == 1020
        assert (time.waits, time.now) == (21, pytest.approx(1.02))  # 50 ms at a time
        # A stop is heeded between two portions.
        stop = lambda: time.now > 1.5  # noqa: E731
        assert write_all(sink, np.zeros(5000, np.complex64), stop, pacer) == 500
        assert sink.status.samples == 1520


def test_a_transmission_in_real_time_counts_what_is_late(tmp_path: Path) -> None:
    time = Time()
    config = TransmitConfig(symbol_rate=1e4, gap_s=0.5)  # 20,000 samples a second

    def observe(report: TransmitReport) -> None:
        if report.frames == 1:
            time.now += 11.0  # something else took that long

    with FileSink(tmp_path / "x") as sink:
        pacer = Pacer(config.sample_rate, time, time.sleep)
        report = transmit([b"one", b"two"], sink, config, lambda: False, observe, pacer)
    assert report.complete
    # The samples after the wait begin 11 s late, and a portion of 50 ms is behind them.
    assert report.samples_late == pytest.approx(20_000 * 11.0, abs=1001)
    assert time.now == pytest.approx(report.samples / 20_000 + 11.0, abs=0.051)
