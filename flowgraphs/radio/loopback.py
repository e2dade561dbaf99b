"""A radio in software: the digital twin of a profile, with an air of any kind.

In one program a :class:`LoopbackRadio` hears what it sends. By URI each of two programs opens one
end of the air, which is any sink or source::

    loopback:air=zmq+push://127.0.0.1:5555                                the transmitter's end
    loopback:channel=rayleigh,snr=20,air=zmq+pull://127.0.0.1:5555        the receiver's end

=================  ==================================================================
option             (separated by commas; ``air`` is the last one)
=================  ==================================================================
``channel``        one of :data:`flowgraphs.path.CHANNELS`, awgn unless given
``snr``            mean Es/N0 at the receiver, dB, at two samples a symbol; 30
``doppler``        maximum Doppler shift, Hz; 50
``delay_spread``   of tdl-a to tdl-e, s; 1e-7
``block_length``   symbols of equal gain in rayleigh-block; 1000
``seed``           fixes every random draw, the errors of both oscillators too; the same at
                   both ends; 1
``realtime``       0: as fast as it goes; 1: at the sample rate; 1
``faults``         see :mod:`flowgraphs.radio.faults`
``air``            a sink for the transmitter, a source for the receiver
=================  ==================================================================

The transmitter's end has the impairments of the profile's transmitter; the receiver's end has the
channel, the noise and the impairments of its receiver. Gains have no effect. Where nothing is on
the air, the receiver's stream stands still: it has neither noise nor time of its own.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from threading import Condition
from typing import Any

import numpy as np

from flowgraphs.emulate import EmulatorConfig
from flowgraphs.impairments import LinkPath
from flowgraphs.radio.faults import Fault, FaultyStream, parse_faults
from flowgraphs.radio.radio import (
    Radio,
    RadioLostError,
    RadioRequest,
    RadioSettings,
    within_limits,
)
from flowgraphs.stream import (
    ComplexArray,
    EndpointError,
    SampleSink,
    SampleSource,
    Stop,
    write_all,
)
from flowgraphs.supervision import Pacer
from hw_profiles.profile import load_profile
from phy.chain import Chain
from phy.random_process import child_seed

_NOTHING = np.empty(0, dtype=np.complex64)
_AIR_SAMPLES = 2**18  # on their way in one program
_PORTION = 2**14  # samples that a transmitter takes at a time


class Air(SampleSink):
    """A queue of samples between the two directions of a radio in one program."""

    def __init__(self, most: int = _AIR_SAMPLES) -> None:
        """An empty queue of at most so many samples."""
        super().__init__("air:")
        self._parts: deque[ComplexArray] = deque()
        self._size, self._most = 0, most
        self._ended = False
        self._changed = Condition()

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """See :meth:`flowgraphs.stream.SampleSink.write`."""
        with self._changed:
            self._changed.wait_for(lambda: self._size < self._most, timeout_s)
            part = samples[: self._most - self._size].copy()
            if part.size:
                self._parts.append(part)
                self._size += part.size
                self.status.samples += part.size
                self._changed.notify_all()
            return part.size

    def finish(self, stop: Stop) -> None:
        """See :meth:`flowgraphs.stream.SampleSink.finish`."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def close(self) -> None:
        """Nothing is held."""

    def source(self) -> SampleSource:
        """The other end."""
        return _AirSource(self)

    def take(self, timeout_s: float) -> ComplexArray | None:
        """The next samples, none in time, or None at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._size or self._ended, timeout_s)
            if self._parts:
                part = self._parts.popleft()
                self._size -= part.size
                self._changed.notify_all()
                return part
            return None if self._ended else _NOTHING


class _AirSource(SampleSource):
    """The receiving end of :class:`Air`."""

    def __init__(self, air: Air) -> None:
        super().__init__(air.address)
        self._air = air

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        return self._air.take(timeout_s)

    def close(self) -> None:
        """Nothing is held."""


@dataclass(frozen=True)
class LoopbackConfig:
    """Parameters of a radio in software.

    Attributes:
        profile: hardware profile, by name or file.
        path: channel, noise and seed; its profile, rate and frequency are those of the radio.
        realtime: at the sample rate, and not as fast as it goes.
        rx_faults, tx_faults: scripts.
    """

    profile: str = "simulated"
    path: EmulatorConfig = field(default_factory=lambda: EmulatorConfig(es_n0_db=30.0))
    realtime: bool = False
    rx_faults: tuple[Fault, ...] = ()
    tx_faults: tuple[Fault, ...] = ()

    def path_for(self, settings: RadioSettings) -> EmulatorConfig:
        """The path at the settings of a direction."""
        symbol_rate = settings.sample_rate_hz / self.path.phy_waveform.samples_per_symbol
        return replace(
            self.path,
            profile=self.profile,
            symbol_rate=symbol_rate,
            frequency_hz=settings.frequency_hz,
        )


class LoopbackRadio(Radio):
    """The radio."""

    def __init__(
        self,
        config: LoopbackConfig,
        air_out: SampleSink | None = None,
        air_in: SampleSource | None = None,
        address: str = "loopback:",
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        """A radio on an air, or on one of its own.

        Args:
            config: what it is like.
            air_out: where it sends to.
            air_in: where it receives from. If neither is given, it hears itself.
            address: for messages.
            clock: tells the time, s.
            sleep: waits, s.
        """
        super().__init__(address, load_profile(config.profile), clock, sleep)
        if air_out is None and air_in is None:
            air_out = air = Air()
            air_in = air.source()
        self._config = config
        self._air_out, self._air_in = air_out, air_in
        self._seed = np.random.SeedSequence(config.path.seed)
        self._faulty_rx = FaultyStream(config.rx_faults, self.rx_status)
        self._faulty_tx = FaultyStream(config.tx_faults, self.tx_status)
        self._settings: tuple[RadioSettings | None, RadioSettings | None] = None, None
        self._full_scale = np.float32(config.path.impairments.full_scale)
        self._path: LinkPath | None = None
        self._transmitter: Chain | None = None
        self._rx_pacer: Pacer | None = None
        self._tx_pacer: Pacer | None = None
        self._heard = _NOTHING  # received, before the faults
        self._sent = _NOTHING  # behind the transmitter, not yet on the air
        self._air_ended = False

    def _open(self) -> None:
        self._faulty_rx.reopen()
        self._faulty_tx.reopen()

    def _configure(self, rx: RadioSettings | None, tx: RadioSettings | None) -> None:
        if (rx, tx) == self._settings:
            return  # opened again: the channel goes on
        if (rx and self._air_in is None) or (tx and self._air_out is None):
            raise EndpointError(f"{self.address}: this end of the air is not open")
        radio_seed = child_seed(self._seed, 1)
        try:
            if rx is not None:
                path = self._config.path_for(rx)
                self._path = LinkPath(
                    Chain(()),
                    path.make_channel(child_seed(self._seed, 0)),
                    path.make_receiving_end(radio_seed),
                    path.impairments.level_db,
                    path.symbol_rate,
                )
            if tx is not None:
                self._transmitter = self._config.path_for(tx).make_transmitting_end(radio_seed)
        except ValueError as error:
            raise EndpointError(f"{self.address}: {error}") from error
        if self._config.realtime:
            self._rx_pacer = None if rx is None else self._pacer(rx)
            self._tx_pacer = None if tx is None else self._pacer(tx)
        self._settings = rx, tx

    def _pacer(self, settings: RadioSettings) -> Pacer:
        return Pacer(settings.sample_rate_hz, self._clock, self._sleep)

    def _read(self, timeout_s: float) -> ComplexArray | None:
        assert self._path is not None
        assert self._air_in is not None
        if self._faulty_rx.lost:
            raise RadioLostError("disconnected")
        clipped = self._path.clipped_samples
        if not self._heard.size and not self._air_ended:
            arriving = self._air_in.read(timeout_s)
            self._air_ended = arriving is None
            heard = self._path.flush() if arriving is None else self._path.carry(arriving)
            self._heard = heard / self._full_scale
        self.rx_status.clipped_samples += self._path.clipped_samples - clipped
        if self._air_ended and not self._heard.size:
            return None
        samples, taken = self._faulty_rx.process(self._heard)
        self._heard = self._heard[taken:]
        if self._rx_pacer is not None and taken:
            self._rx_pacer.pace(taken)
        if self._faulty_rx.lost and not samples.size:
            raise RadioLostError("disconnected")
        samples.flags.writeable = False
        return samples

    def _write(self, samples: ComplexArray, timeout_s: float) -> int:
        assert self._transmitter is not None
        if self._faulty_tx.lost:
            raise RadioLostError("disconnected")
        if not self._put_on_air(timeout_s):
            return 0
        portion = _PORTION if self._tx_pacer is None else self._tx_pacer.portion
        out, taken = self._faulty_tx.process(samples[:portion])
        clipped = self._transmitter.clipped_samples
        self._sent = self._transmitter.process(out * self._full_scale)
        self.tx_status.clipped_samples += self._transmitter.clipped_samples - clipped
        if self._tx_pacer is not None and taken:
            late = self._tx_pacer.late_s
            self._tx_pacer.pace(taken)
            self.tx_status.underflows += self._tx_pacer.late_s > late
        self._put_on_air(0.0)
        return taken

    def _put_on_air(self, timeout_s: float) -> bool:
        """Whether nothing is left that waits for the air."""
        assert self._air_out is not None
        if self._sent.size:
            self._sent = self._sent[self._air_out.write(self._sent, timeout_s) :]
        return not self._sent.size

    def finish(self, stop: Stop) -> None:
        """Sends what waits, and ends the air's stream."""
        if self._transmitter is None or self._air_out is None:
            return
        rest = np.concatenate([self._sent, self._transmitter.flush()])
        self._sent = _NOTHING
        write_all(self._air_out, rest, stop)
        self._air_out.finish(stop)

    def _close(self, lost: bool) -> None:
        for end in () if lost else (self._air_out, self._air_in):  # a lost device keeps its air
            if end is not None:
                end.close()


def loopback(
    uri: str,
    request: RadioRequest,
    open_sink: Callable[[str], SampleSink] | None,
    open_source: Callable[[str], SampleSource] | None,
) -> LoopbackRadio:
    """The radio of a URI.

    Args:
        uri: see the module.
        request: its profile.
        open_sink: opens the air of a transmitter.
        open_source: opens the air of a receiver; one of the two is None.

    Raises:
        EndpointError: a malformed URI, or an air that cannot be opened.
        LimitError: the profile does not allow the settings; nothing is opened.
    """
    options = uri.partition(":")[2]
    options, given, air = options.rpartition("air=") if "air=" in options else (options, "", "")
    if not given:
        raise EndpointError(f"{uri}: give loopback:air=SOURCE or SINK, behind other options")
    values: dict[str, Any] = {"seed": 1}
    for item in options.rstrip(",").split(",") if options else ():
        name, _, text = item.partition("=")
        if name not in _OPTIONS:
            raise EndpointError(f"{uri}: no option {name!r}; there are {', '.join(_OPTIONS)}, air")
        key, convert = _OPTIONS[name]
        try:
            values[key] = convert(text)
        except ValueError as error:
            raise EndpointError(f"{uri}: {name}={text}: {error}") from error
    within_limits(
        request.hardware,
        rx=request.settings if open_source else None,
        tx=request.settings if open_sink else None,
    )
    faults = values.pop("faults", "")
    realtime = values.pop("realtime", True)
    try:
        path = EmulatorConfig(**{"es_n0_db": 30.0, **values})
        config = LoopbackConfig(
            profile=request.profile,
            path=path,
            realtime=realtime,
            rx_faults=parse_faults(faults, "rx") if open_source else (),
            tx_faults=parse_faults(faults, "tx") if open_sink else (),
        )
        config.path_for(request.settings)
    except ValueError as error:
        raise EndpointError(f"{uri}: {error}") from error
    return LoopbackRadio(
        config,
        None if open_sink is None else open_sink(air),
        None if open_source is None else open_source(air),
        uri,
    )


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("must be 0 or 1")
    return text == "1"


_OPTIONS: dict[str, tuple[str, Callable[[str], object]]] = {
    # name in the URI: field, and how its text becomes a value
    "channel": ("channel", str),
    "snr": ("es_n0_db", float),
    "doppler": ("doppler_hz", float),
    "delay_spread": ("delay_spread_s", float),
    "block_length": ("block_length", int),
    "seed": ("seed", int),
    "realtime": ("realtime", _switch),
    "faults": ("faults", str),
}
