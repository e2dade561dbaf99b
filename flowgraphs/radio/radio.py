"""A radio front end: one interface for every driver, behind the limits of a hardware profile.

Whatever is asked of a :class:`Radio` is checked against its profile first; what a driver implements
is only called with settings that passed. Samples have full scale where I or Q is 1.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from threading import RLock
from typing import final

import numpy as np

from flowgraphs.impairments import full_scale_amplitude
from flowgraphs.stream import (
    ComplexArray,
    EndpointError,
    SampleSink,
    SampleSource,
    Stop,
    StreamStatus,
)
from hw_profiles.limits import DirectionSettings, check_settings, in_hertz
from hw_profiles.profile import Direction, HardwareProfile, LimitError, load_profile

BACKOFF_DB = 15.0
"""Full scale of a transmitter over the root mean square of the signal, unless told otherwise."""
_RETRY_S = 1.0  # between two tries to open a radio that was lost
_BACKLOG = 16  # portions that may wait in a driver


class RadioLostError(EndpointError):
    """The device does not answer any more; it may come back."""


@dataclass(frozen=True)
class RadioSettings(DirectionSettings):
    """What one direction is asked for; gains of stages that are not named have their defaults.

    Attributes:
        channel: number of the channel, from 0.
        antenna: port, as the driver calls it; None leaves it to the driver.
    """

    channel: int = 0
    antenna: str | None = None


@dataclass(frozen=True)
class RadioRequest:
    """What a radio that a URI names is opened with.

    Attributes:
        profile: hardware profile, by name or file.
        settings: of the one direction that is used.
        backoff_db: of a transmitter, full scale over the root mean square of the signal.
    """

    profile: str
    settings: RadioSettings
    backoff_db: float = BACKOFF_DB

    @property
    def hardware(self) -> HardwareProfile:
        """The profile.

        Raises:
            ProfileError: there is none.
        """
        return load_profile(self.profile)

    def __str__(self) -> str:
        """One line for people."""
        settings = self.settings
        gains = [f"{name} {setting:g}" for name, setting in settings.gains.items()]
        return ", ".join(
            [
                f"{self.profile} at {in_hertz(settings.frequency_hz)}",
                f"{in_hertz(settings.sample_rate_hz)} of samples",
                *gains,
            ]
        )


class Radio(ABC):
    """A front end: open, configure, read and write, close.

    A radio that was lost is opened and configured again, and the stream goes on. The two directions
    may be used from two threads.

    Attributes:
        address: the URI that opens it.
        profile: what it can do.
        rx_status, tx_status: running totals of the directions.
    """

    def __init__(
        self,
        address: str,
        profile: HardwareProfile,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """Nothing is opened yet.

        Args:
            address: for messages.
            profile: whose limits apply.
            clock: tells the time, s.
            sleep: waits, s.
        """
        self.address = address
        self.profile = profile
        self.rx_status, self.tx_status = StreamStatus(), StreamStatus()
        self._clock, self._sleep = clock, sleep
        self._rx: RadioSettings | None = None
        self._tx: RadioSettings | None = None
        self._rx_lock, self._tx_lock = RLock(), RLock()
        self._opened = False
        self._retry_at = 0.0

    @final
    def open(self) -> None:
        """Open the device.

        Raises:
            EndpointError: it cannot be opened.
        """
        self._open()
        self._opened = True
        self._each_status("connections")

    @final
    def configure(self, rx: RadioSettings | None = None, tx: RadioSettings | None = None) -> None:
        """Set both directions; one that is None is off.

        Args:
            rx: of the receiver.
            tx: of the transmitter; its gains are all to be named.

        Raises:
            LimitError: the profile does not allow it; nothing has reached the device.
            EndpointError: the device refused.
        """
        rx, tx = within_limits(self.profile, rx, tx)
        with self._rx_lock, self._tx_lock:
            self._configure(rx, tx)
            self._rx, self._tx = rx, tx

    @final
    def read(self, timeout_s: float) -> ComplexArray | None:
        """The next samples; see :meth:`flowgraphs.stream.SampleSource.read`.

        Raises:
            LimitError: the receiver is not configured.
        """
        if self._rx is None:
            raise LimitError(f"{self.profile.name}: its receiver is not configured")
        if not self._ready(timeout_s):
            return np.empty(0, dtype=np.complex64)
        try:
            with self._rx_lock:
                samples = self._read(timeout_s)
        except RadioLostError as error:
            self._lose(error)
            return np.empty(0, dtype=np.complex64)
        if samples is not None:
            self.rx_status.samples += samples.size
        return samples

    @final
    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """Send samples; see :meth:`flowgraphs.stream.SampleSink.write`.

        Raises:
            LimitError: the transmitter is not configured.
        """
        if self._tx is None:
            raise LimitError(f"{self.profile.name}: its transmitter is not configured")
        if not self._ready(timeout_s):
            return 0
        try:
            with self._tx_lock:
                taken = self._write(samples, timeout_s)
        except RadioLostError as error:
            self._lose(error)
            return 0
        self.tx_status.samples += taken
        return taken

    def finish(self, stop: Stop) -> None:
        """The transmission ends here."""
        del stop

    @final
    def close(self) -> None:
        """Close the device, once everything is on the air; a second time without effect."""
        with self._rx_lock, self._tx_lock:
            if self._opened:
                self._opened = False
                self._close(lost=False)
            self._rx = self._tx = None

    @abstractmethod
    def _open(self) -> None:
        """Open the device; raises EndpointError."""

    @abstractmethod
    def _configure(self, rx: RadioSettings | None, tx: RadioSettings | None) -> None:
        """Set both directions, within the limits; raises EndpointError."""

    @abstractmethod
    def _read(self, timeout_s: float) -> ComplexArray | None:
        """:meth:`read` of a device that is open and configured; raises RadioLostError."""

    @abstractmethod
    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        """:meth:`write` of a device that is open and configured; raises RadioLostError."""

    @abstractmethod
    def _close(self, lost: bool) -> None:
        """Close the device, once everything is on the air unless it is lost; raises nothing."""

    def _ready(self, timeout_s: float) -> bool:
        """Whether the device is open; if it was lost, it is tried to open it once in a while."""
        if self._opened:
            return True
        wait_s = self._retry_at - self._clock()
        if wait_s > 0:
            self._sleep(min(wait_s, timeout_s))
            return False
        with self._rx_lock, self._tx_lock:
            if not self._opened:
                try:
                    self.open()
                    self._configure(self._rx, self._tx)
                except EndpointError as error:
                    self._note_loss(error)
        return self._opened

    def _lose(self, error: RadioLostError) -> None:
        """The device has gone: release it, and try to open it again."""
        with self._rx_lock, self._tx_lock:
            if self._opened:
                self._each_status("disconnections")
                self._each_status("stream_errors")
                self._note_loss(error)
                self._retry_at = self._clock()  # the first time at once

    def _note_loss(self, error: EndpointError) -> None:
        if self._opened:
            self._opened = False
            self._close(lost=True)
        self._retry_at = self._clock() + _RETRY_S
        for status in (self.rx_status, self.tx_status):
            status.last_error = str(error)

    def _each_status(self, counter: str) -> None:
        for status in (self.rx_status, self.tx_status):
            setattr(status, counter, getattr(status, counter) + 1)


def within_limits(
    profile: HardwareProfile, rx: RadioSettings | None, tx: RadioSettings | None
) -> tuple[RadioSettings | None, RadioSettings | None]:
    """Settings that a profile allows, a receiver's default gains among them.

    Raises:
        LimitError: it does not allow them, or a transmitter's gain is not named.
    """
    check_settings(profile, rx, tx)
    return (
        None if rx is None else _complete(profile, "rx", rx),
        None if tx is None else _complete(profile, "tx", tx),
    )


def _complete(profile: HardwareProfile, name: str, settings: RadioSettings) -> RadioSettings:
    direction: Direction | None = getattr(profile, name)
    assert direction is not None
    if not 0 <= settings.channel < direction.channels:
        raise LimitError(
            f"{profile.name}, {name}: there is no channel {settings.channel}; the last one is "
            f"{direction.channels - 1}"
        )
    if name == "rx":
        defaults = {s.name: s.default for s in direction.gain if s.default is not None}
        return replace(settings, gains=defaults | dict(settings.gains))
    missing = [stage.name for stage in direction.gain if stage.name not in settings.gains]
    if missing:
        raise LimitError(
            f"{profile.name}, tx: transmission needs an explicit gain; give {', '.join(missing)}"
        )
    return settings


class RadioSource(SampleSource):
    """What a radio receives."""

    backlog = _BACKLOG

    def __init__(self, radio: Radio) -> None:
        """Read from a radio that is open, and whose receiver is configured."""
        super().__init__(radio.address)
        self.status = radio.rx_status
        self._radio = radio

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        return self._radio.read(timeout_s)

    def close(self) -> None:
        """Close the radio."""
        self._radio.close()


class RadioSink(SampleSink):
    """What a radio transmits: a signal of unit mean power, brought below full scale."""

    def __init__(self, radio: Radio, backoff_db: float = BACKOFF_DB) -> None:
        """Write to a radio that is open, and whose transmitter is configured.

        Args:
            radio: the radio.
            backoff_db: full scale of I or Q over their root mean square.

        Raises:
            EndpointError: a level that is not 0 to 120 dB below full scale.
        """
        super().__init__(radio.address)
        if not 0 <= backoff_db <= 120:
            raise EndpointError(f"full scale lies 0 to 120 dB above a signal, not {backoff_db:g}")
        self.status = radio.tx_status
        self._radio = radio
        self._scale = np.float32(1 / full_scale_amplitude(backoff_db))

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """See :meth:`flowgraphs.stream.SampleSink.write`."""
        return self._radio.write(samples * self._scale, timeout_s)

    def finish(self, stop: Stop) -> None:
        """See :meth:`flowgraphs.stream.SampleSink.finish`."""
        self._radio.finish(stop)

    def close(self) -> None:
        """Close the radio, once everything is on the air."""
        self._radio.close()


def receiving(radio: Radio, request: RadioRequest) -> RadioSource:
    """Opens a radio as a source.

    Raises:
        LimitError: the profile does not allow the settings; nothing is opened.
        EndpointError: the device cannot be opened, or refused.
    """
    _start(radio, rx=request.settings)
    return RadioSource(radio)


def transmitting(radio: Radio, request: RadioRequest) -> RadioSink:
    """Opens a radio as a sink; see :func:`receiving`."""
    sink = RadioSink(radio, request.backoff_db)
    _start(radio, tx=request.settings)
    return sink


def _start(radio: Radio, rx: RadioSettings | None = None, tx: RadioSettings | None = None) -> None:
    within_limits(radio.profile, rx, tx)
    radio.open()
    try:
        radio.configure(rx, tx)
    except (EndpointError, LimitError):
        radio.close()
        raise
