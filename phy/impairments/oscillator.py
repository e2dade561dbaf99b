r"""Oscillators: carrier frequency offset and drift, phase noise.

The complex baseband signal turns with the difference of the carrier frequencies,

.. math:: y_n = x_n \exp\left(j\varphi + j2\pi (f t + \tfrac12 f' t^2)\right), \qquad t = n/f_s.

A radio derives its carrier and its sampling clock from one reference, so both are wrong by the same
number of parts per million: :func:`reference_oscillator`.

**Phase noise** is given as data sheets do, by the single-sideband density L(f) in dBc/Hz at offsets
from the carrier. It is half the one-sided density of the phase, so the phase
:math:`\varphi` is a real Gaussian process of the two-sided density L(|f|), and the samples are
multiplied by :math:`e^{j\varphi}`. Between the points of the mask the density is a straight line in
decibels over the logarithm of the frequency; it is flat below the first and above the last.

References:
    - IEEE Std 1139-2008, "Definitions of physical quantities for fundamental frequency and time
      metrology": L(f).
    - D. B. Leeson, "A simple model of feedback oscillator noise spectrum", Proc. IEEE 54(2), 1966.
    - A. Demir, A. Mehrotra, J. Roychowdhury, "Phase noise in oscillators", IEEE Trans. Circuits and
      Systems I 47(5), 2000: the phase of a free-running oscillator as a Wiener process.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt

from phy.impairments.block import ComplexArray, SampleBlock, Side, require
from phy.impairments.clock import ClockOffset
from phy.random_process import BLOCK, BlockQueue, Seed, shaped_gaussian

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
        return Modulator(self.carrier(sample_rate_hz))

    def carrier(self, sample_rate_hz: float) -> Iterator[ComplexArray]:
        """The rotation itself: blocks of complex64 of unit modulus, endlessly."""
        start = 0
        cycles = (
            self.carrier_phase_deg / 360,
            self.carrier_offset_hz / sample_rate_hz,
            0.5 * self.carrier_drift_hz_per_s / sample_rate_hz**2,
        )
        while True:
            yield _rotation(start, BLOCK, cycles)
            start += BLOCK


@dataclass(frozen=True)
class PhaseNoise:
    """Phase noise by its spectral mask.

    Attributes:
        mask: pairs of an offset in Hz and the density L there in dBc/Hz, by ascending offset.
    """

    mask: tuple[tuple[float, float], ...]

    def __post_init__(self) -> None:
        offsets = [offset for offset, _ in self.mask]
        require(len(offsets) > 0, "the phase noise mask has no points")
        require(
            offsets[0] > 0 and offsets == sorted(set(offsets)) and offsets[-1] < np.inf,
            "the offsets of a phase noise mask must be positive and ascend",
        )
        require(
            all(np.isfinite(density) for _, density in self.mask),
            "a phase noise density is not finite",
        )

    @classmethod
    def wiener(cls, linewidth_hz: float, lowest_offset_hz: float) -> PhaseNoise:
        r"""A free-running oscillator: the phase takes a random walk.

        Its increments have the variance :math:`2\pi\Delta\nu\tau` and L(f) is
        :math:`\Delta\nu / (2\pi f^2)`, here down to a lowest offset, so the walk stays bounded.

        Arguments:
            linewidth_hz: width of the spectral line at half its power, positive.
            lowest_offset_hz: where the slope begins; increments over less than about a tenth of
                its period are those of the Wiener process.
        """
        ends = lowest_offset_hz, 1e6 * lowest_offset_hz
        density = (10 * np.log10(linewidth_hz / (2 * np.pi * f**2)) for f in ends)
        return cls(tuple(zip(ends, map(float, density), strict=True)))

    @classmethod
    def leeson(
        cls,
        floor_dbc_hz: float,
        corner_hz: float,
        flicker_hz: float,
        lowest_offset_hz: float,
    ) -> PhaseNoise:
        r"""Leeson's oscillator, :math:`L(f) = L_0 (1 + f_c^2/f^2)(1 + f_k/f)`.

        Arguments:
            floor_dbc_hz: L0, the density far from the carrier.
            corner_hz: f_c, half the bandwidth of the resonator, f_0 / 2Q.
            flicker_hz: f_k, below which the slope is 30 dB a decade.
            lowest_offset_hz: where the slope begins.
        """
        highest = max(1e3 * lowest_offset_hz, 100 * corner_hz, 100 * flicker_hz)
        offsets = np.geomspace(lowest_offset_hz, highest, 200)
        gain = (1 + (corner_hz / offsets) ** 2) * (1 + flicker_hz / offsets)
        density = floor_dbc_hz + 10 * np.log10(gain)
        return cls(tuple(zip(offsets.tolist(), density.tolist(), strict=True)))

    def density_dbc_hz(self, offset_hz: npt.ArrayLike) -> npt.NDArray[np.float64]:
        """L at offsets in Hz, any shape, of either sign."""
        offsets, density = np.array(self.mask).T
        nearest = np.maximum(np.abs(np.asarray(offset_hz, dtype=np.float64)), offsets[0])
        return np.interp(np.log(nearest), np.log(offsets), density)

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`.

        Raises:
            ValueError: the first offset is less than a millionth of the sample rate.
        """
        lowest = self.mask[0][0]
        require(
            lowest >= 1e-6 * sample_rate_hz,
            f"a mask from {lowest:g} Hz on needs too long a memory at {sample_rate_hz:g} samples a "
            "second; begin it at a millionth of the sample rate or above",
        )
        return Modulator(self._factors(sample_rate_hz, np.random.default_rng(seed)))

    def _factors(self, sample_rate_hz: float, rng: np.random.Generator) -> Iterator[ComplexArray]:
        # Four frequencies below the first offset; the spectral lines are two wide.
        length = max(BLOCK, 2 ** int(np.ceil(np.log2(4 * sample_rate_hz / self.mask[0][0]))))
        frequency = np.fft.fftfreq(length, 1 / sample_rate_hz)
        density = sample_rate_hz * 10 ** (self.density_dbc_hz(frequency) / 10)
        for process in shaped_gaussian(density, rng):
            # The real part of a circular process has half its power.
            yield np.exp(1j * np.sqrt(2) * process.real).astype(np.complex64)


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
