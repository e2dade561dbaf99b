"""Faults of a radio by script, for tests of what is behind it.

``KIND@SAMPLE`` or ``KIND@SAMPLE:VALUE``, several joined by ``+``; SAMPLE is the number of a sample
of the stream, from 0 on, those that are lost included.

==============  =======  ==================================================================
kind            end      what happens at the sample
==============  =======  ==================================================================
``overflow:N``  receive  N samples are lost, and the device tells so
``gap:N``       receive  N samples are lost, as only the times of the others show
``underflow:N`` send     N samples of silence are sent first, and the device tells so
``level:DB``    both     from there on the level is so much higher than at the beginning
``disconnect``  both     the device has gone, with N samples (``disconnect@SAMPLE:N``) that it had;
                         it can be opened again
==============  =======  ==================================================================

Examples:
    >>> from flowgraphs.radio.faults import parse_faults
    >>> parse_faults("overflow@40000:5000+level@90000:-20", "rx")
    (Fault(kind='overflow', sample=40000, value=5000.0), \
Fault(kind='level', sample=90000, value=-20.0))
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from flowgraphs.stream import ComplexArray, StreamStatus

KINDS = {
    "rx": ("overflow", "gap", "level", "disconnect"),
    "tx": ("underflow", "level", "disconnect"),
}
_LONGEST = 10**9  # samples


@dataclass(frozen=True)
class Fault:
    """A fault.

    Attributes:
        kind: one of :data:`KINDS`.
        sample: where it happens.
        value: samples, or dB.
    """

    kind: str
    sample: int
    value: float = 0.0

    def __post_init__(self) -> None:
        if self.sample < 0:
            raise ValueError(f"sample {self.sample} is before the first one")
        most = 200 if self.kind == "level" else _LONGEST
        least = -200 if self.kind == "level" else 0
        if not (math.isfinite(self.value) and least <= self.value <= most):
            raise ValueError(f"{self.kind} of {self.value:g} is not {least} to {most}")


def parse_faults(text: str, end: Literal["rx", "tx"]) -> tuple[Fault, ...]:
    """The faults of a script, in their order.

    Args:
        text: the script.
        end: receiver or transmitter.

    Raises:
        ValueError: not such a script.
    """
    faults = []
    for item in text.split("+") if text else ():
        kind, at, place = item.partition("@")
        if not at or kind not in KINDS[end]:
            raise ValueError(f"{item!r} is no KIND@SAMPLE:VALUE; kinds are {', '.join(KINDS[end])}")
        sample, _, value = place.partition(":")
        faults.append(Fault(kind, int(sample), float(value or 0)))
    return tuple(sorted(faults, key=lambda fault: fault.sample))


class FaultyStream:
    """Samples that pass through a script of faults.

    Attributes:
        lost: the device has gone; :meth:`reopen` brings it back.
    """

    def __init__(self, faults: tuple[Fault, ...], status: StreamStatus) -> None:
        """Start at the first sample.

        Args:
            faults: in the order of their samples.
            status: where it is counted what the device tells.
        """
        self._faults = list(faults)
        self._status = status
        self._at = 0
        self._skip = 0  # samples to lose
        self._gain = np.float32(1)
        self.lost = False

    def reopen(self) -> None:
        """The device is back."""
        self.lost = False

    def process(self, samples: ComplexArray) -> tuple[ComplexArray, int]:
        """Send samples through, up to the end or to the next disconnection.

        Args:
            samples: (n,) complex64.

        Returns:
            What comes out, and how many samples went in: fewer than n if the device is lost now.
        """
        parts = []
        done = 0
        while not self.lost:
            skipped = min(self._skip, samples.size - done)
            self._skip -= skipped
            self._at += skipped
            done += skipped
            due = self._faults[0].sample if self._faults and not self._skip else None
            end = samples.size if due is None else min(samples.size, done + max(due - self._at, 0))
            parts.append(self._gain * samples[done:end])
            self._at += end - done
            done = end
            if due is None or due > self._at:
                break
            parts += self._happen(self._faults.pop(0))
        out = np.concatenate(parts) if parts else np.empty(0, dtype=np.complex64)
        return out, done

    def _happen(self, fault: Fault) -> list[ComplexArray]:
        """A fault takes effect; returns what it puts into the stream."""
        count = int(fault.value)
        match fault.kind:
            case "level":
                self._gain = np.float32(10 ** (fault.value / 20))
            case "underflow":
                self._status.underflows += 1
                return [np.zeros(count, dtype=np.complex64)]
            case "disconnect":
                self._skip = count
                self.lost = True
            case _:
                self._skip = count
                self._status.overflows += fault.kind == "overflow"
                self._status.gaps += 1
                self._status.samples_missing += count
        return []
