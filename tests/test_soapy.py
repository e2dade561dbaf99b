"""Radios by SoapySDR, on a device that the tests script; and the real module, where it is."""

import inspect
import os
import sys
from collections import deque
from pathlib import Path
from types import ModuleType

import fake_soapy
import numpy as np
import pytest
from fake_soapy import Script, StreamResult

from flowgraphs.endpoints import open_sink, open_source
from flowgraphs.radio import soapy
from flowgraphs.radio.radio import RadioRequest, RadioSettings, RadioSink, RadioSource
from flowgraphs.radio.soapy import SoapyRadio, soapy_module
from flowgraphs.stream import EndpointError
from hw_profiles import LimitError, load_profile
from sscc.cli import run

RX, TX = 1, 0
TIMEOUT, ERROR, OVERFLOW, NOT_SUPPORTED, UNDERFLOW = -1, -2, -4, -5, -7
PLUTO = RadioSettings(2e6, 868e6, gains={"PGA": 20.0})


class Clock:
    """A clock that only sleeping moves, and every look a little."""

    def __init__(self) -> None:
        self.now = 100.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        self.now += 1e-3
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch) -> Script:
    script = Script()
    monkeypatch.setitem(sys.modules, "SoapySDR", fake_soapy.fake_module(script))
    return script


def receiver(clock: Clock, settings: RadioSettings = PLUTO, profile: str = "pluto") -> RadioSource:
    radio = SoapyRadio("soapy:driver=fake", load_profile(profile), clock, clock.sleep)
    radio.open()
    radio.configure(rx=settings)
    return RadioSource(radio)


def transmitter(clock: Clock) -> RadioSink:
    radio = SoapyRadio("soapy:driver=fake", load_profile("pluto"), clock, clock.sleep)
    radio.open()
    radio.configure(tx=PLUTO)
    return RadioSink(radio, backoff_db=0.0)


def test_settings_reach_the_device_in_order(script: Script) -> None:
    script.gains = ("LNA", "AMP", "VGA")
    settings = RadioSettings(2e6, 868e6, 1.75e6, {"VGA": 20.0}, antenna="B")
    with open_source("soapy:driver=fake,serial=1", RadioRequest("hackrf-one", settings)):
        pass
    assert script.calls == [
        ("Device", "driver=fake,serial=1"),
        ("setSampleRate", RX, 0, 2e6),
        ("setAntenna", RX, 0, "B"),
        ("setFrequency", RX, 0, 868e6),
        ("setBandwidth", RX, 0, 1.75e6),
        ("setGainMode", RX, 0, False),
        ("setGain", RX, 0, "AMP", 0.0),  # the profile's defaults, and what was given
        ("setGain", RX, 0, "LNA", 16.0),
        ("setGain", RX, 0, "VGA", 20.0),
        ("setupStream", RX, "CS8", [0]),
        ("closeStream", RX),
    ]


def test_a_gain_over_all_stages(script: Script) -> None:
    settings = RadioSettings(2e6, 868e6, gains={"overall": 30.0})
    with open_source("soapy:driver=fake", RadioRequest("bladerf-2-micro", settings)):
        assert script.called("setGain") == [(RX, 0, 30.0)]


def test_native_samples_have_the_profiles_full_scale(script: Script) -> None:
    script.native = np.array([1024, -512, 2047, 0, 5, -2048], np.int16)
    script.reads = deque([2, 1])
    with receiver(Clock()) as source:
        assert script.called("activateStream") == []  # not before the first read
        first, second = source.read(0.1), source.read(0.1)
        assert first is not None
        assert second is not None
        assert first.tolist() == [0.5 - 0.25j, np.float32(2047 / 2048)]
        assert second.tolist() == [np.float32(5 / 2048) - 1j]
        assert (source.status.samples, source.status.clipped_samples) == (3, 2)
    assert [call[0] for call in script.calls[-3:]] == [
        "activateStream",
        "deactivateStream",
        "closeStream",
    ]


def test_floats_where_the_driver_has_not_the_profiles_type(script: Script) -> None:
    """RTL-SDR's native cu8 is none of its driver's formats."""
    script.native = np.array([0.5, -0.25, 1.0, 0.0], np.float32)
    script.reads = deque([2])
    settings = RadioSettings(2.4e6, 434e6)
    with receiver(Clock(), settings, "rtl-sdr-v4") as source:
        samples = source.read(0.1)
        assert samples is not None
        assert samples.tolist() == [0.5 - 0.25j, 1.0]
        assert source.status.clipped_samples == 1
    assert script.called("setupStream") == [(RX, "CF32", [0])]


def test_timeouts_overflows_and_errors_are_counted(script: Script) -> None:
    script.native = np.ones(4, np.int16)
    script.reads = deque([TIMEOUT, OVERFLOW, ERROR, 0, 2])
    with receiver(Clock()) as source:
        empty = source.read(0.0)
        assert empty is not None
        assert empty.size == 0
        samples = source.read(0.1)  # goes on behind what is no end
        assert samples is not None
        assert samples.size == 2
        status = source.status
        assert (status.overflows, status.stream_errors, status.disconnections) == (1, 1, 0)
        assert status.last_error == "STREAM_ERROR"
        assert not status.lossless


def test_gaps_are_found_by_the_times_of_the_driver(script: Script) -> None:
    """500 ns a sample: 10 samples take 5 us; 20 us later 30 samples are missing."""
    script.native = np.zeros(2 * 41, np.int16)
    times = [(10, 1_000_000), (10, 1_005_000), (10, 1_025_000), (10, 1_029_700), (1, 0)]
    script.reads = deque(StreamResult(count, 4, time) for count, time in times)
    with receiver(Clock()) as source:
        for expected in ((0, 0, 0), (0, 0, 0), (1, 30, 0), (1, 30, 1), (1, 30, 2)):
            source.read(0.1)
            status = source.status
            assert (status.gaps, status.samples_missing, status.restarts) == expected
        script.reads.append(StreamResult(1))  # without a time
        script.native = np.zeros(2, np.int16)
        source.read(0.1)
        assert source.status.samples == 42


@pytest.mark.parametrize("end", [NOT_SUPPORTED, RuntimeError("usb transfer failed")])
def test_a_lost_device_is_opened_again(script: Script, end: object) -> None:
    script.native = np.ones(6, np.int16)
    script.reads = deque([2, end, 1])
    clock = Clock()
    with receiver(clock) as source:
        script.failures = deque([RuntimeError("not found"), None])
        sizes = []
        for _ in range(4):
            samples = source.read(0.25)
            assert samples is not None
            sizes.append(samples.size)
        assert sizes == [2, 0, 0, 0]  # lost; not there yet; waiting for the next try
        assert source.status.last_error is not None
        assert "not found" in source.status.last_error
        while not (samples := source.read(0.25)).size:  # type: ignore[union-attr]
            pass
        status = source.status
        assert (status.connections, status.disconnections, status.stream_errors) == (
            (2, 1, 1) if isinstance(end, Exception) else (2, 1, 2)
        )
        assert len(script.called("setFrequency")) == 2  # configured again
        assert 0.9 < sum(clock.slept) < 1.1


def test_silence_and_errors_without_end_are_a_loss(script: Script) -> None:
    clock = Clock()
    with receiver(clock) as source:
        source.read(0.0)
        clock.now += 4.9
        source.read(0.0)
        assert source.status.disconnections == 0
        clock.now += 0.2
        source.read(0.0)
        assert source.status.disconnections == 1
        script.reads = deque([ERROR] * 16)
        source.read(1.0)
        assert source.status.disconnections == 2


def test_short_writes_and_the_transmitters_own_full_scale(script: Script) -> None:
    """Unit mean power at 0 dB: I and Q of 0.7071 are full scale, code 32768, so 1 is beyond it."""
    script.writes = deque([3, TIMEOUT, 0])
    samples = np.array([0.25, -0.5j, 1.0, 0.7, 0.125], np.complex64)
    with transmitter(Clock()) as sink:
        assert sink.write(samples, 0.1) == 3
        assert sink.write(samples[3:], 0.0) == 0
        assert sink.write(samples[3:], 0.1) == 2
        assert (sink.status.samples, sink.status.clipped_samples) == (5, 1)
    codes = np.concatenate(script.written)
    assert codes.dtype == np.int16
    assert codes.tolist() == [11585, 0, 0, -23170, 32767, 0, 32439, 0, 5793, 0]


def test_underflows_and_the_end_of_a_burst(script: Script) -> None:
    script.statuses = deque([UNDERFLOW, UNDERFLOW, TIMEOUT, -6, NOT_SUPPORTED, UNDERFLOW])
    clock = Clock()
    with transmitter(clock) as sink:
        for _ in range(3):
            sink.write(np.zeros(1000, np.complex64), 0.1)
        # A time error, and then the driver says that it has no statuses: it is not asked again.
        assert (sink.status.underflows, sink.status.stream_errors) == (2, 1)
        sink.finish(lambda: False)
        sink.write(np.zeros(2_000_000, np.complex64), 0.1)
    assert ("writeStream", 1, 2) in script.calls  # END_BURST
    assert 0.5 < sum(clock.slept) <= 1.0  # until the second's worth of samples is on the air


def test_no_message_size_means_no_limit(script: Script) -> None:
    script.mtu = 0
    with transmitter(Clock()) as sink:
        assert sink.write(np.zeros(70_000, np.complex64), 0.1) == 70_000
    assert script.called("writeStream") == [(65536, 0), (4464, 0)]


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        ({"channels": 0}, PLUTO, "the device has 0 receive channels"),
        ({"rate_error": 1e-3}, PLUTO, "the device runs at 2002000 samples a second, not at 2000"),
        ({"gains": ("IF",)}, PLUTO, "no gain 'PGA', as the profile pluto says; it has IF"),
        ({}, RadioSettings(2e6, 868e6, antenna="C"), "no antenna 'C'; there are A, B"),
        ({"failures": deque([RuntimeError("busy")])}, PLUTO, "busy .devices: driver=fake,serial=1"),
    ],
)
def test_what_the_device_refuses(
    script: Script, change: dict[str, object], settings: RadioSettings, message: str
) -> None:
    for name, value in change.items():
        setattr(script, name, value)
    with pytest.raises(EndpointError, match=message):
        open_source("soapy:driver=fake", RadioRequest("pluto", settings))


def test_limits_come_before_the_device(script: Script) -> None:
    for uri, request in (
        ("soapy:driver=fake", RadioRequest("pluto", RadioSettings(2e6, 5.8e9))),
        ("soapy:driver=fake", RadioRequest("pluto", RadioSettings(2e6, 868e6))),  # no gain
        ("soapy:driver=fake", RadioRequest("rtl-sdr-v4", RadioSettings(2.4e6, 434e6))),
    ):
        with pytest.raises(LimitError):
            open_sink(uri, request)
    with pytest.raises(EndpointError, match="driver=NAME"):
        open_sink("soapy:", RadioRequest("pluto", PLUTO))
    with pytest.raises(EndpointError, match="needs a profile"):
        open_sink("soapy:driver=fake")
    assert script.calls == []


def test_what_the_commands_ask_for(
    script: Script, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "x.ddm").write_bytes(b"")
    send = ["tx", f"{tmp_path}/x.ddm", "--to", "soapy:driver=fake"]
    hackrf = ["--profile", "hackrf-one", "--frequency", "434e6"]
    pluto = ["--profile", "pluto"]
    for arguments, message in (
        (send, "needs --profile"),
        ([*send, *pluto, "--gain", "1"], "needs --frequency"),
        ([*send, *pluto, "--frequency", "868e6"], "needs --gain, for PGA"),
        ([*send, *pluto, "--waveform", "symbols"], "symbols is not for radios"),
        ([*send, *hackrf, "--gain", "10"], "AMP, VGA: give NAME=SETTING for each"),
        ([*send, *hackrf, "--gain", "VGA=10"], "explicit gain; give AMP"),
        ([*send, *hackrf, "--gain", "AMP=0,VGA=50"], "VGA cannot be 50 dB"),
        ([*send, *hackrf, "--gain", "AMP=0,AMP=0"], "twice"),
        ([*send, "-p", "rtl-sdr-v4", "--frequency", "434e6", "--gain", "1"], "it has no tx"),
        ([*send[:3], "file:x", "--frequency", "434e6"], "need --profile"),
        ([*send[:3], "file:x", *pluto, "--frequency", "5.8e9"], "the nearest is 3.8 GHz"),
    ):
        assert run(arguments) == 2
        assert message in " ".join(capsys.readouterr().err.split())
    assert script.calls == []


def test_a_missing_module_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setitem(sys.modules, "SoapySDR", None)
    monkeypatch.setattr(soapy, "SYSTEM_PACKAGES", tmp_path)
    with pytest.raises(EndpointError, match="apt install python3-soapysdr"):
        soapy_module()


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delitem(sys.modules, "SoapySDR", raising=False)
    try:
        return soapy_module()
    except EndpointError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


def test_the_stand_in_is_like_the_real_module(real: ModuleType) -> None:
    for name, value in fake_soapy.CONSTANTS.items():
        assert getattr(real, name) == value
    for code, text in fake_soapy.NAMES.items():
        assert real.errToStr(code) == text
    fake = fake_soapy.fake_module(Script()).Device  # type: ignore[attr-defined]
    for name, method in vars(fake).items():
        if name.startswith("_") or name == "enumerate":
            continue
        theirs = list(inspect.signature(getattr(real.Device, name)).parameters)
        # Overloaded methods take whatever comes.
        assert theirs in (["self", "args"], list(inspect.signature(method).parameters)), name


def test_the_null_device_of_the_real_module(real: ModuleType) -> None:
    with pytest.raises(EndpointError, match="null: the device has 0 receive channels"):
        open_source("soapy:driver=null", RadioRequest("pluto", PLUTO))
    with pytest.raises(EndpointError, match="no match"):
        open_sink("soapy:driver=nosuch", RadioRequest("pluto", PLUTO))
