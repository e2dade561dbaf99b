r"""Sampling instants: clock offset and drift, and delay.

Output sample m is the input at the time :math:`t_m = (1 + a) m + b m^2 - d` in input samples, found
by band-limited interpolation (:mod:`phy.windowed_sinc`). The filter is a table of 256 phases, with
linear interpolation between them (a further error of :math:`(\omega/256)^2/8`, at most -98 dB).

The input is zero before its first and after its last sample, and the output ends with the input:
its samples are those with :math:`t_m < N`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import get_args

import numba
import numpy as np
import numpy.typing as npt

from phy.impairments.block import ComplexArray, SampleBlock, Side, require
from phy.random_process import Seed
from phy.windowed_sinc import HALF_LENGTH, TAPS, windowed_sinc

_PHASES = 256
# Row p interpolates at p / 256 past sample 15 of 32; the last row is there to interpolate towards.
_FILTERS = windowed_sinc(
    np.arange(1 - HALF_LENGTH, HALF_LENGTH + 1) - np.arange(_PHASES + 1)[:, None] / _PHASES
).astype(np.float32)

_LARGEST_OFFSET_PPM = 1000.0
_LARGEST_DRIFT_PPM_PER_S = 100.0


@dataclass(frozen=True)
class ClockOffset:
    r"""A sampling clock that runs fast or slow.

    With the relative error :math:`\epsilon` and its drift :math:`\epsilon'` per second, a fast
    converter at the transmitter shortens the waveform, :math:`t_m = m (1 + \epsilon) +
    \epsilon' m^2 / 2f_s`, and one at the receiver takes more samples of it,
    :math:`t_m = m / (1 + \epsilon) - \epsilon' m^2 / 2f_s`.

    Attributes:
        clock_offset_ppm: error of the clock's rate; positive is fast; at most 1000 either way.
        clock_drift_ppm_per_s: change of the error; at most 100 either way.
        side: whose clock it is, "transmit" or "receive".
    """

    clock_offset_ppm: float = 0.0
    clock_drift_ppm_per_s: float = 0.0
    side: Side = "receive"

    def __post_init__(self) -> None:
        require(
            abs(self.clock_offset_ppm) <= _LARGEST_OFFSET_PPM,
            f"a clock offset of {self.clock_offset_ppm} ppm is beyond {_LARGEST_OFFSET_PPM:g} ppm",
        )
        require(
            abs(self.clock_drift_ppm_per_s) <= _LARGEST_DRIFT_PPM_PER_S,
            f"a clock drift of {self.clock_drift_ppm_per_s} ppm/s is beyond "
            f"{_LARGEST_DRIFT_PPM_PER_S:g} ppm/s",
        )
        require(self.side in get_args(Side), f"the side is transmit or receive, not {self.side}")

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        offset = 1e-6 * self.clock_offset_ppm
        bend = 0.5e-6 * self.clock_drift_ppm_per_s / sample_rate_hz
        if self.side == "transmit":
            return Resampler(rate_error=offset, bend=bend)
        return Resampler(rate_error=-offset / (1 + offset), bend=-bend)


@dataclass(frozen=True)
class Delay:
    """Propagation delay.

    Attributes:
        delay_samples: delay, not negative and not necessarily whole.
    """

    delay_samples: float = 0.0

    def __post_init__(self) -> None:
        require(
            0 <= self.delay_samples < np.inf,
            f"a delay of {self.delay_samples} samples is not possible",
        )

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return Resampler(delay=self.delay_samples)


class Resampler(SampleBlock):
    """The input at the times t_m; see the module."""

    def __init__(self, rate_error: float = 0.0, bend: float = 0.0, delay: float = 0.0) -> None:
        """Start at m = 0.

        Arguments:
            rate_error: a.
            bend: b, per sample.
            delay: d in samples.
        """
        self._warp = (float(rate_error), float(bend), float(delay))
        self._next = 0  # m
        self._held = np.zeros(TAPS, dtype=np.complex64)
        self._held_from = -TAPS  # input index of the first sample held

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        held = np.concatenate([self._held, samples])
        output, needed = _interpolate(held, self._held_from, self._next, self._warp, _FILTERS)
        self._next += output.size
        done = max(needed - self._held_from, 0)
        self._held = held[done:]
        self._held_from += done
        return output

    def flush(self) -> ComplexArray:
        """See :meth:`phy.impairments.SampleBlock.flush`."""
        return self._transform(np.zeros(HALF_LENGTH, dtype=np.complex64))


# The terms are summed in any order; there are always 32, so it is the same for every chunking.
@numba.njit(cache=True, fastmath={"reassoc", "contract"})
def _between(
    i: npt.NDArray[np.float32],
    q: npt.NDArray[np.float32],
    place: int,
    filters: npt.NDArray[np.float32],
    phase: float,
) -> complex:  # pragma: no cover - compiled
    """The filter of a fractional phase over 32 samples from `place` on."""
    row = int(phase)
    weight = np.float32(phase - row)
    real = np.float32(0)
    imag = np.float32(0)
    for k in range(TAPS):
        c = filters[row, k] + weight * (filters[row + 1, k] - filters[row, k])
        real += c * i[place + k]
        imag += c * q[place + k]
    return complex(real, imag)


@numba.njit(cache=True)
def _interpolate(
    samples: ComplexArray,
    start: int,
    first: int,
    warp: tuple[float, float, float],
    filters: npt.NDArray[np.float32],
) -> tuple[ComplexArray, int]:  # pragma: no cover - compiled
    """Outputs m = first, first + 1, ... that the samples suffice for, and what the next needs.

    Arguments:
        samples: (n,) input from the absolute index `start` on.
        start: see samples.
        first: first m.
        warp: a, b and d.
        filters: (257, 32) the interpolation filters.

    Returns:
        The outputs, and the absolute index of the first sample that the next output needs.
    """
    a, b, d = warp
    last = start + samples.size - 1 - HALF_LENGTH  # latest whole part of t_m
    count = 0
    while True:
        m = first + count
        if m + np.floor(a * m + b * m * m - d) > last:
            break
        count += 1

    output = np.zeros(count, dtype=np.complex64)
    i = samples.real.copy()  # apart, so that both sums run over adjacent values
    q = samples.imag.copy()
    for n in range(count):
        m = first + n
        shift = a * m + b * m * m - d  # t_m - m: apart from m, whose digits it would lose
        whole = np.floor(shift)
        place = m + int(whole) - (HALF_LENGTH - 1) - start
        if place < 0:
            continue  # before the first sample
        output[n] = _between(i, q, place, filters, (shift - whole) * _PHASES)
    m = first + count
    return output, m + int(np.floor(a * m + b * m * m - d)) - (HALF_LENGTH - 1)
