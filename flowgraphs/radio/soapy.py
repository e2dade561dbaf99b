"""Radios that SoapySDR has a driver for: ``soapy:driver=NAME,...``.

What follows ``soapy:`` are SoapySDR's own device arguments. SoapySDR is optional. Its Python module
comes with the system (Debian: ``python3-soapysdr``) and not from PyPI, so that a virtual
environment does not see it. When a ``soapy:`` URI is opened, and then only, that module and its
extension are loaded from the system's folder, and nothing else from there.

Samples travel in the profile's type, with the profile's full scale: SoapySDR's Python interface
cannot ask a driver for its own (``getNativeStreamFormat`` has a reference argument that Python
cannot pass). If a driver does not offer that type, they travel as floats.

Traps of drivers that are taken care of here: a stream that starts when it is set up and overflows
or underflows while nothing is exchanged yet (it is activated by the first sample); automatic gain
that overrides a gain; a rate that was rounded; reads of no samples; a maximum message size of 0; a
device that stays silent for ever when it was unplugged; the last samples, which a transmitter keeps
until its buffer is full unless the burst is said to end.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from importlib import import_module
from importlib.machinery import PathFinder
from importlib.util import module_from_spec
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from flowgraphs.radio.radio import Radio, RadioLostError, RadioSettings
from flowgraphs.stream import ComplexArray, EndpointError, Stop, StreamStatus
from hw_profiles.profile import Direction, HardwareProfile, SampleFormat
from hw_profiles.sample_format import NativeFormat

SYSTEM_PACKAGES = Path("/usr/lib/python3/dist-packages")
"""Where Debian has the module."""
_WHOLE_GAIN = "overall"  # in profiles: the driver shares it out among its stages
_MOST_SAMPLES = 2**16  # exchanged at a time
_RATE_ERROR = 2e-5  # of what a driver sets and what it was asked for
_SILENCE_S = 5.0  # without a sample, after which a device counts as lost
_MOST_ERRORS = 16  # in a row, after which it does
_POLLS = 16  # of a transmitter's status at a time
_SHORT_S = 0.002  # a pause where a driver returns without samples and without having waited
_LONGEST_DRAIN_S = 5.0


def soapy_module() -> ModuleType:
    """SoapySDR's Python module.

    Raises:
        EndpointError: it is not installed; the message says what to install.
    """
    try:
        return import_module("SoapySDR")
    except ImportError:
        pass
    try:
        _load_from(SYSTEM_PACKAGES, "_SoapySDR")
        return _load_from(SYSTEM_PACKAGES, "SoapySDR")
    except ImportError as error:
        sys.modules.pop("_SoapySDR", None)
        raise EndpointError(
            f"soapy: SoapySDR is not there ({error}); on Debian: apt install python3-soapysdr, and "
            "the module of the device, such as soapysdr-module-hackrf"
        ) from error


def _load_from(folder: Path, name: str) -> ModuleType:
    """Imports one module from a folder without making the folder's others visible."""
    spec = PathFinder.find_spec(name, [str(folder)])
    if spec is None or spec.loader is None:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        raise ImportError(f"no {name} for Python {version} in {folder}")
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[name]
        raise
    return module


class SoapyRadio(Radio):
    """A device of SoapySDR."""

    def __init__(
        self,
        uri: str,
        profile: HardwareProfile,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Load SoapySDR; see :class:`flowgraphs.radio.radio.Radio`.

        Args:
            uri: ``soapy:`` and the device's arguments.
            profile: what it can do.
            clock: tells the time, s.
            sleep: waits, s.

        Raises:
            EndpointError: SoapySDR is not installed, or there are no arguments.
        """
        super().__init__(uri, profile, clock, sleep)
        self._arguments = uri.partition(":")[2]
        if "=" not in self._arguments:
            raise EndpointError(f"{uri}: give soapy:driver=NAME, and what else tells the device")
        self._soapy = soapy_module()
        self._device: Any = None
        self._receiver: _Stream | None = None
        self._transmitter: _Stream | None = None

    def _open(self) -> None:
        try:
            self._device = self._soapy.Device(self._arguments)
        except Exception as error:  # SoapySDR passes on whatever a driver throws
            raise EndpointError(f"{self.address}: {error}{self._those_found()}") from error

    def _those_found(self) -> str:
        try:
            found = [dict(device) for device in self._soapy.Device.enumerate()]
        except Exception:
            return ""
        devices = "; ".join(",".join(f"{k}={v}" for k, v in device.items()) for device in found)
        return f" (devices: {devices or 'none'})"

    def _configure(self, rx: RadioSettings | None, tx: RadioSettings | None) -> None:
        self._close_streams()
        try:
            if rx is not None:
                assert self.profile.rx is not None
                direction = self._soapy.SOAPY_SDR_RX
                self._set(direction, "receive", rx)
                self._receiver = self._stream(direction, rx, self.profile.rx, self.rx_status)
            if tx is not None:
                assert self.profile.tx is not None
                direction = self._soapy.SOAPY_SDR_TX
                self._set(direction, "transmit", tx)
                self._transmitter = self._stream(direction, tx, self.profile.tx, self.tx_status)
        except EndpointError:
            raise
        except Exception as error:  # as in _open
            raise EndpointError(f"{self.address}: {error}") from error

    def _set(self, direction: int, name: str, settings: RadioSettings) -> None:
        """Rate, antenna, frequency, bandwidth and gains of a direction."""
        device, channel = self._device, settings.channel
        if device.getNumChannels(direction) <= channel:
            raise EndpointError(
                f"{self.address}: the device has {device.getNumChannels(direction)} {name} channels"
            )
        device.setSampleRate(direction, channel, settings.sample_rate_hz)
        rate = device.getSampleRate(direction, channel)
        if not abs(rate - settings.sample_rate_hz) <= _RATE_ERROR * settings.sample_rate_hz:
            raise EndpointError(
                f"{self.address}: the device runs at {rate:.9g} samples a second, not at "
                f"{settings.sample_rate_hz:.9g}"
            )
        if settings.antenna is not None:
            antennas = list(device.listAntennas(direction, channel))
            if settings.antenna not in antennas:
                raise EndpointError(
                    f"{self.address}: no antenna {settings.antenna!r}; there are "
                    f"{', '.join(antennas) or 'none'}"
                )
            device.setAntenna(direction, channel, settings.antenna)
        device.setFrequency(direction, channel, settings.frequency_hz)
        if settings.bandwidth_hz is not None:
            device.setBandwidth(direction, channel, settings.bandwidth_hz)
        if settings.gains and device.hasGainMode(direction, channel):
            device.setGainMode(direction, channel, False)
        stages = list(device.listGains(direction, channel))
        for stage, setting in settings.gains.items():
            if stage == _WHOLE_GAIN:
                device.setGain(direction, channel, float(setting))
            elif stage in stages:
                device.setGain(direction, channel, stage, float(setting))
            else:
                raise EndpointError(
                    f"{self.address}: the driver has no gain {stage!r}, as the profile "
                    f"{self.profile.name} says; it has {', '.join(stages) or 'none'}"
                )

    def _stream(
        self, direction: int, settings: RadioSettings, limits: Direction, status: StreamStatus
    ) -> _Stream:
        native = NativeFormat.of(limits)
        offered = list(self._device.getStreamFormats(direction, settings.channel))
        if native.sample_format.upper() not in offered:
            native = NativeFormat(SampleFormat.CF32, 1.0)
        return _Stream(self._soapy, self._device, direction, settings, native, status)

    def _read(self, timeout_s: float) -> ComplexArray | None:
        assert self._receiver is not None
        try:
            return self._receiver.read(timeout_s, self._clock, self._sleep)
        except RadioLostError:
            raise
        except Exception as error:  # as in _open
            raise RadioLostError(f"{self.address}: {error}") from error

    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        assert self._transmitter is not None
        try:
            return self._transmitter.write(samples, timeout_s, self._clock, self._sleep)
        except RadioLostError:
            raise
        except Exception as error:  # as in _open
            raise RadioLostError(f"{self.address}: {error}") from error

    def finish(self, stop: Stop) -> None:
        """Ends the burst with a sample of silence, so that the driver sends what it has."""
        if self._transmitter is not None and self._opened:
            try:
                self._transmitter.end_burst()
            except Exception as error:  # as in _open
                self.tx_status.stream_errors += 1
                self.tx_status.last_error = str(error)

    def _close_streams(self) -> None:
        for stream in (self._receiver, self._transmitter):
            if stream is not None:
                stream.close()
        self._receiver = self._transmitter = None

    def _close(self, lost: bool) -> None:
        if self._transmitter is not None and not lost:
            wait_s = self._transmitter.on_air_until - self._clock()
            if wait_s > 0:
                self._sleep(min(wait_s, _LONGEST_DRAIN_S))
        self._close_streams()
        self._device = None  # the last reference: the driver lets go of the device


class _Stream:
    """One direction of a device, once it is configured.

    Attributes:
        on_air_until: when what was written will have been sent at the latest, if it starts at once.
    """

    def __init__(
        self,
        soapy: ModuleType,
        device: Any,
        direction: int,
        settings: RadioSettings,
        native: NativeFormat,
        status: StreamStatus,
    ) -> None:
        """Set the stream up; it begins with the first sample.

        Raises:
            EndpointError: the driver gives none.
        """
        self._soapy, self._device = soapy, device
        self._rate = settings.sample_rate_hz
        self._native, self._status = native, status
        name = native.sample_format.upper()
        self._stream = device.setupStream(direction, name, [settings.channel])
        if self._stream is None:
            raise EndpointError(f"the driver sets no stream of {name} up")
        self._most = min(device.getStreamMTU(self._stream) or _MOST_SAMPLES, _MOST_SAMPLES)
        self._buffer = np.zeros(2 * self._most, dtype=native.dtype)
        self._active = False
        self._errors = 0  # in a row
        self._silent_since: float | None = None  # first call without samples, if the last was one
        self._next_ns: int | None = None  # time of the next sample, where the driver tells times
        self._polls_status = True
        self.on_air_until = 0.0

    def read(
        self, timeout_s: float, clock: Callable[[], float], sleep: Callable[[float], None]
    ) -> ComplexArray:
        """(n,) complex64, n = 0 if none came in time."""
        self._activate()
        deadline = clock() + timeout_s
        while True:
            wait_s = max(0.0, deadline - clock())
            result = self._device.readStream(
                self._stream, [self._buffer], self._most, timeoutUs=round(1e6 * wait_s)
            )
            if result.ret > 0:
                self._exchanged()
                self._note_time(result)
                return self._received(result.ret)
            if result.ret == self._soapy.SOAPY_SDR_OVERFLOW:
                self._status.overflows += 1
            else:
                self._note_failure(result.ret, clock)
            if clock() >= deadline:
                return np.empty(0, dtype=np.complex64)
            if result.ret == 0:
                sleep(_SHORT_S)

    def write(
        self,
        samples: ComplexArray,
        timeout_s: float,
        clock: Callable[[], float],
        sleep: Callable[[float], None],
    ) -> int:
        """The number taken."""
        self._activate()
        done, deadline = 0, clock() + timeout_s
        while done < samples.size:
            part = samples[done : done + self._most]
            data, clipped = self._native.encode(part)
            # Once something was taken, what cannot be taken at once has time.
            wait_s = 0.0 if done else max(0.0, deadline - clock())
            result = self._device.writeStream(
                self._stream, [data], part.size, timeoutUs=round(1e6 * wait_s)
            )
            self._poll_status()
            if result.ret > 0:
                self._exchanged()
                self.on_air_until = max(self.on_air_until, clock()) + result.ret / self._rate
                if clipped and result.ret < part.size:
                    clipped = self._native.encode(part[: result.ret]).clipped_samples
                self._status.clipped_samples += clipped
                done += result.ret
                continue
            if result.ret == self._soapy.SOAPY_SDR_UNDERFLOW:
                self._status.underflows += 1
            else:
                self._note_failure(result.ret, clock)
            if done or clock() >= deadline:
                break
            if result.ret == 0:
                sleep(_SHORT_S)
        return done

    def end_burst(self) -> None:
        """A last sample, of silence, that ends the burst."""
        if self._active:
            silence = self._native.encode(np.zeros(1)).data
            flags = self._soapy.SOAPY_SDR_END_BURST
            self._device.writeStream(self._stream, [silence], 1, flags)

    def close(self) -> None:
        """Stop and release the stream of a device that may be lost."""
        try:
            if self._active:
                self._device.deactivateStream(self._stream)
            self._device.closeStream(self._stream)
        except Exception as error:  # SoapySDR passes on whatever a driver throws
            self._status.last_error = str(error)
        self._active = False

    def _activate(self) -> None:
        if not self._active:
            code = self._device.activateStream(self._stream)
            if code:
                raise RadioLostError(f"the stream does not start: {self._soapy.errToStr(code)}")
            self._active = True

    def _exchanged(self) -> None:
        self._status.messages += 1
        self._errors = 0
        self._silent_since = None

    def _received(self, count: int) -> ComplexArray:
        data = self._buffer[: 2 * count]
        lowest, highest = self._native.codes
        if self._native.sample_format is SampleFormat.CF32:
            lowest, highest = -self._native.full_scale, self._native.full_scale
        at_the_end = (data <= lowest) | (data >= highest)
        self._status.clipped_samples += int(at_the_end.reshape(-1, 2).any(axis=1).sum())
        samples = self._native.decode(data)
        samples.flags.writeable = False
        return samples

    def _note_time(self, result: Any) -> None:
        """Looks for samples missing between two reads, where the driver tells their times."""
        if not result.flags & self._soapy.SOAPY_SDR_HAS_TIME:
            self._next_ns = None
            return
        if self._next_ns is not None:
            missing = round((result.timeNs - self._next_ns) * 1e-9 * self._rate)
            if missing > 0:
                self._status.gaps += 1
                self._status.samples_missing += missing
            elif missing < 0:
                self._status.restarts += 1
        self._next_ns = result.timeNs + round(1e9 * result.ret / self._rate)

    def _note_failure(self, code: int, clock: Callable[[], float]) -> None:
        """A call without samples: silence for too long, or too many errors, and the device is lost.

        Raises:
            RadioLostError: it is.
        """
        if code in (0, self._soapy.SOAPY_SDR_TIMEOUT):
            if self._silent_since is None:
                self._silent_since = clock()
            elif clock() - self._silent_since >= _SILENCE_S:
                raise RadioLostError(f"no samples for {_SILENCE_S:g} s")
            return
        self._status.stream_errors += 1
        self._status.last_error = self._soapy.errToStr(code)
        self._errors += 1
        if self._errors >= _MOST_ERRORS or code == self._soapy.SOAPY_SDR_NOT_SUPPORTED:
            raise RadioLostError(f"the stream fails: {self._soapy.errToStr(code)}")

    def _poll_status(self) -> None:
        """Underflows, which drivers report beside the stream."""
        for _ in range(_POLLS if self._polls_status else 0):
            code = self._device.readStreamStatus(self._stream, timeoutUs=0).ret
            if code == self._soapy.SOAPY_SDR_UNDERFLOW:
                self._status.underflows += 1
            elif code == self._soapy.SOAPY_SDR_NOT_SUPPORTED:
                self._polls_status = False
                return
            elif code in (0, self._soapy.SOAPY_SDR_TIMEOUT):
                return
            else:
                self._status.stream_errors += 1
                self._status.last_error = self._soapy.errToStr(code)
