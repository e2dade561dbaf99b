r"""Oscillators: carrier frequency offset and drift.

The complex baseband signal turns with the difference of the carrier frequencies,

.. math:: y_n = x_n \exp\left(j\varphi + j2\pi (f t + \tfrac12 f' t^2)\right), \qquad t = n/f_s.

A radio derives its carrier and its sampling clock from one reference, so both are wrong by the same
number of parts per million: :func:`reference_oscillator`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np

from phy.impairments.block import ComplexArray, SampleBlock, Side, require
from phy.impairments.clock import ClockOffset
from phy.random_process import BLOCK, BlockQueue, Seed

_RESTART = 256  # samples between exact phases


@dataclass(frozen=True)
class CarrierOffset:
    """A rotation of the complex baseband signal.

    Attributes:
        carrier_offset_hz: f at time 0; the received signal lies this much too high.
        carrier_drift_hz_per_s: f', change of the offset.
        carrier_phase_deg: phase at time 0.
    """

    carrier_offset_hz: float = 0.0
    carrier_drift_hz_per_s: float = 0.0
    carrier_phase_deg: float = 0.0

    def __post_init__(self) -> None:
        for name in ("carrier_offset_hz", "carrier_drift_hz_per_s", "carrier_phase_deg"):
            value = getattr(self, name)
            require(np.isfinite(value), f"{name} must be finite, not {value}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return Modulator(self._carrier(sample_rate_hz))

    def _carrier(self, sample_rate_hz: float) -> Iterator[ComplexArray]:
        start = 0
        cycles = (
            self.carrier_phase_deg / 360,
            self.carrier_offset_hz / sample_rate_hz,
            0.5 * self.carrier_drift_hz_per_s / sample_rate_hz**2,
        )
        while True:
            yield _rotation(start, BLOCK, cycles)
            start += BLOCK


class Modulator(SampleBlock):
    """Multiplies the samples by a process of its own: a carrier, or phase noise."""

    def __init__(self, factors: Iterator[ComplexArray]) -> None:
        """Start at the first factor.

        Arguments:
            factors: blocks of complex64, endlessly.
        """
        self._factors = BlockQueue(factors)

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        return samples * self._factors.take(samples.size)


@numba.njit(cache=True)
def _turned(cycles: float) -> complex:  # pragma: no cover - compiled
    """exp(j 2 pi cycles)."""
    angle = 2 * np.pi * (cycles - np.floor(cycles))
    return complex(np.cos(angle), np.sin(angle))


@numba.njit(cache=True)
def _rotation(
    start: int, count: int, cycles: tuple[float, float, float]
) -> ComplexArray:  # pragma: no cover - compiled
    """exp(j 2 pi (c0 + c1 n + c2 n^2)) for n = start ... start + count - 1."""
    output = np.empty(count, dtype=np.complex64)
    c0, c1, c2 = cycles
    bend = _turned(2 * c2)
    for begin in range(0, count, _RESTART):
        # Within a short stretch two rotations, one of the phasor and one of its step, are faster
        # than sines and lose no digit that complex64 could hold.
        n = float(start + begin)
        phasor = _turned(c0 + c1 * n + c2 * n * n)
        step = _turned(c1 + c2 * (2 * n + 1))
        for k in range(begin, min(begin + _RESTART, count)):
            output[k] = phasor
            phasor *= step
            step *= bend
    return output


def reference_oscillator(
    error_ppm: float, carrier_hz: float, side: Side, drift_ppm_per_s: float = 0.0
) -> tuple[CarrierOffset, ClockOffset]:
    """Carrier and clock offset of a radio whose reference is wrong.

    A fast reference shifts the signal up at the transmitter, and down at the receiver, which mixes
    with too high a frequency. Both offsets in parts per million are the same at any sample rate.

    Arguments:
        error_ppm: error of the reference; positive is fast.
        carrier_hz: nominal carrier frequency.
        side: "transmit" or "receive".
        drift_ppm_per_s: change of the error.
    """
    sign = 1e-6 * carrier_hz * (1 if side == "transmit" else -1)
    return (
        CarrierOffset(
            carrier_offset_hz=sign * error_ppm, carrier_drift_hz_per_s=sign * drift_ppm_per_s
        ),
        ClockOffset(clock_offset_ppm=error_ppm, clock_drift_ppm_per_s=drift_ppm_per_s, side=side),
    )
