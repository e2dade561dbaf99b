"""A stand-in for SoapySDR's Python module, version 0.8, with a device that tests script.

Constants and signatures are those of the real module (a test compares them where it is installed).
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

CONSTANTS = {
    "SOAPY_SDR_TX": 0,
    "SOAPY_SDR_RX": 1,
    "SOAPY_SDR_END_BURST": 2,
    "SOAPY_SDR_HAS_TIME": 4,
    "SOAPY_SDR_TIMEOUT": -1,
    "SOAPY_SDR_STREAM_ERROR": -2,
    "SOAPY_SDR_CORRUPTION": -3,
    "SOAPY_SDR_OVERFLOW": -4,
    "SOAPY_SDR_NOT_SUPPORTED": -5,
    "SOAPY_SDR_TIME_ERROR": -6,
    "SOAPY_SDR_UNDERFLOW": -7,
    "SOAPY_SDR_CF32": "CF32",
    "SOAPY_SDR_CS16": "CS16",
    "SOAPY_SDR_CS8": "CS8",
    "SOAPY_SDR_CU8": "CU8",
}
NAMES = {
    -1: "TIMEOUT",
    -2: "STREAM_ERROR",
    -3: "CORRUPTION",
    -4: "OVERFLOW",
    -5: "NOT_SUPPORTED",
    -6: "TIME_ERROR",
    -7: "UNDERFLOW",
}


@dataclass
class StreamResult:
    """What calls on streams return."""

    ret: int
    flags: int = 0
    timeNs: int = 0  # noqa: N815 (the module's own name)


@dataclass
class Script:
    """What the next device does, and what was done to it.

    Attributes:
        reads: results of readStream in turn: counts or codes, or StreamResult, or an exception;
            then timeouts.
        native: I and Q that reads give, in turn.
        writes: results of writeStream in turn; then everything is taken.
        statuses: results of readStreamStatus in turn; then timeouts.
        formats: stream formats.
        channels: of either direction.
        rate_error: of what the device sets, relative.
        failures: exceptions that opening raises, in turn; None for none.
        calls: what was called, with its arguments.
        written: I and Q that were taken.
    """

    reads: deque[Any] = field(default_factory=deque)
    native: NDArray[Any] = field(default_factory=lambda: np.zeros(2, np.int16))
    writes: deque[Any] = field(default_factory=deque)
    statuses: deque[int] = field(default_factory=deque)
    formats: tuple[str, ...] = ("CS8", "CS16", "CF32")
    channels: int = 1
    rate_error: float = 0.0
    failures: deque[Exception | None] = field(default_factory=deque)
    gains: tuple[str, ...] = ("PGA",)
    mtu: int = 4096
    calls: list[tuple[Any, ...]] = field(default_factory=list)
    written: list[NDArray[Any]] = field(default_factory=list)

    def called(self, name: str) -> list[tuple[Any, ...]]:
        """Arguments of the calls of a name."""
        return [call[1:] for call in self.calls if call[0] == name]


def fake_module(script: Script) -> ModuleType:
    """The module, whose devices follow a script."""

    class Device:
        """A device."""

        def __init__(self, arguments: str) -> None:
            script.calls.append(("Device", arguments))
            failure = script.failures.popleft() if script.failures else None
            if failure is not None:
                raise failure
            self._rates: dict[int, float] = {}

        @staticmethod
        def enumerate() -> list[dict[str, str]]:
            return [{"driver": "fake", "serial": "1"}]

        def getNumChannels(self, direction: int) -> int:
            return script.channels

        def setSampleRate(self, direction: int, channel: int, rate: float) -> None:
            script.calls.append(("setSampleRate", direction, channel, rate))
            self._rates[direction] = rate * (1 + script.rate_error)

        def getSampleRate(self, direction: int, channel: int) -> float:
            return self._rates[direction]

        def listAntennas(self, direction: int, channel: int) -> tuple[str, ...]:
            return "A", "B"

        def setAntenna(self, direction: int, channel: int, name: str) -> None:
            script.calls.append(("setAntenna", direction, channel, name))

        def setFrequency(self, direction: int, channel: int, frequency: float) -> None:
            script.calls.append(("setFrequency", direction, channel, frequency))

        def setBandwidth(self, direction: int, channel: int, bw: float) -> None:
            script.calls.append(("setBandwidth", direction, channel, bw))

        def hasGainMode(self, direction: int, channel: int) -> bool:
            return True

        def setGainMode(self, direction: int, channel: int, automatic: bool) -> None:
            script.calls.append(("setGainMode", direction, channel, automatic))

        def listGains(self, direction: int, channel: int) -> tuple[str, ...]:
            return script.gains

        def setGain(self, *args: Any) -> None:
            script.calls.append(("setGain", *args))

        def getStreamFormats(self, direction: int, channel: int) -> tuple[str, ...]:
            return script.formats

        def setupStream(self, *args: Any) -> object:
            script.calls.append(("setupStream", *args))
            return args[0]

        def closeStream(self, stream: Any) -> None:
            script.calls.append(("closeStream", stream))

        def getStreamMTU(self, stream: Any) -> int:
            return script.mtu

        def activateStream(
            self, stream: Any, flags: int = 0, timeNs: int = 0, numElems: int = 0
        ) -> int:
            script.calls.append(("activateStream", stream))
            return 0

        def deactivateStream(self, stream: Any, flags: int = 0, timeNs: int = 0) -> int:
            script.calls.append(("deactivateStream", stream))
            return 0

        def readStream(
            self, stream: Any, buffs: Any, numElems: int, flags: int = 0, timeoutUs: int = 100000
        ) -> StreamResult:
            result = script.reads.popleft() if script.reads else -1
            if isinstance(result, Exception):
                raise result
            if isinstance(result, int):
                result = StreamResult(result)
            count = max(result.ret, 0)
            assert count <= numElems
            buffs[0][: 2 * count] = script.native[: 2 * count]
            script.native = script.native[2 * count :]
            return result

        def writeStream(
            self,
            stream: Any,
            buffs: Any,
            numElems: int,
            flags: int = 0,
            timeNs: int = 0,
            timeoutUs: int = 100000,
        ) -> StreamResult:
            result = script.writes.popleft() if script.writes else numElems
            if isinstance(result, Exception):
                raise result
            taken = min(max(result, 0), numElems)
            script.calls.append(("writeStream", numElems, flags))
            script.written.append(buffs[0][: 2 * taken].copy())
            return StreamResult(result if result < 0 else taken)

        def readStreamStatus(self, stream: Any, timeoutUs: int = 100000) -> StreamResult:
            return StreamResult(script.statuses.popleft() if script.statuses else -1)

    module = ModuleType("SoapySDR")
    for name, value in CONSTANTS.items():
        setattr(module, name, value)
    module.Device = Device  # type: ignore[attr-defined]
    module.errToStr = NAMES.__getitem__  # type: ignore[attr-defined]
    return module
