r"""Root-raised-cosine pulses: from symbols to samples, and back at any instant.

The transmitter sends :math:`s(t) = \sum_k a_k\, g(t - k)` (time in symbols) with the
root-raised-cosine pulse

.. math:: g(t) = \frac{\sin(\pi t (1-\beta)) + 4\beta t \cos(\pi t (1+\beta))}
    {\pi t\,(1 - (4\beta t)^2)}

of unit energy, whose autocorrelation is a Nyquist pulse. The receiver's matched filter is the same
pulse, evaluated not on a fixed grid but at the very instants where symbols are expected,

.. math:: y_k = \frac1M \sum_n r_n\, g(n/M - \tau_k),

so that fractional delay and clock offset cost no further filter. g is tabulated finely and
truncated to :data:`SPAN` symbols on either side.

Reference:
    J. G. Proakis, M. Salehi, "Digital Communications", 5th ed., 9.2-3.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numba
import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex64]

SPAN = 10
"""Symbols by which a pulse reaches to either side; beyond, its energy is below -50 dB. Even."""
_RUN = 64  # symbols filtered together
_SHORT = 8  # runs that are filtered one by one
_FINENESS = 512  # entries of the table per symbol: nearest entry, -55 dB of timing noise


def root_raised_cosine(t: npt.ArrayLike, rolloff: float) -> npt.NDArray[np.float64]:
    """The pulse g(t) of unit energy.

    Arguments:
        t: times in symbols, any shape.
        rolloff: excess bandwidth beta, 0 < beta <= 1.
    """
    time = np.asarray(t, dtype=np.float64)
    beta = rolloff
    # Both removable singularities are filled with their limits.
    at_zero = np.isclose(time, 0, atol=1e-9)
    at_pole = np.isclose(np.abs(4 * beta * time), 1, atol=1e-9)
    safe = np.where(at_zero | at_pole, 0.1234567, time)
    pulse = (
        np.sin(np.pi * safe * (1 - beta)) + 4 * beta * safe * np.cos(np.pi * safe * (1 + beta))
    ) / (np.pi * safe * (1 - (4 * beta * safe) ** 2))
    angle = np.pi / (4 * beta)
    pole = beta / np.sqrt(2) * ((1 + 2 / np.pi) * np.sin(angle) + (1 - 2 / np.pi) * np.cos(angle))
    return np.where(at_zero, 1 - beta + 4 * beta / np.pi, np.where(at_pole, pole, pulse))


@dataclass(frozen=True)
class Pulse:
    """A root-raised-cosine pulse on a grid of samples.

    Attributes:
        samples_per_symbol: M, at least 2.
        rolloff: excess bandwidth beta, 0.05 to 1.

    Raises:
        ValueError: a parameter out of range.
    """

    samples_per_symbol: int = 2
    rolloff: float = 0.25

    def __post_init__(self) -> None:
        if self.samples_per_symbol < 2:
            raise ValueError("a shaped pulse needs at least 2 samples per symbol")
        if not 0.05 <= self.rolloff <= 1:
            raise ValueError(f"the rolloff must be 0.05 to 1, not {self.rolloff}")

    @property
    def carrier_room(self) -> float:
        """Cycles per sample by which a carrier offset may move the band inside the sample rate."""
        return 0.5 - (1 + self.rolloff) / (2 * self.samples_per_symbol)

    def require_reach(self, carrier_reach: float) -> None:
        """Refuse carrier offsets that move the pulse's band out of the sample rate.

        Arguments:
            carrier_reach: largest offset in cycles per sample.

        Raises:
            ValueError: too large, or negative.
        """
        if not 0 <= carrier_reach <= self.carrier_room:
            raise ValueError(
                f"carrier offsets must be 0 to {self.carrier_room:.3f} cycles per sample, what the "
                f"band leaves at {self.samples_per_symbol} samples per symbol, not {carrier_reach}"
            )

    @property
    def reach(self) -> int:
        """Samples by which a pulse reaches to either side."""
        return SPAN * self.samples_per_symbol

    @cached_property
    def taps(self) -> npt.NDArray[np.float32]:
        """(2 reach + 1,) the sampled pulse, its peak in the middle."""
        return root_raised_cosine(
            np.arange(-self.reach, self.reach + 1) / self.samples_per_symbol, self.rolloff
        ).astype(np.float32)

    @cached_property
    def table(self) -> npt.NDArray[np.float32]:
        """(phases, 2 reach) the pulse at fractional offsets, divided by M.

        Row p, entry j is g at sample ``j - reach + 1 - p / phases``.
        """
        phases = _FINENESS // self.samples_per_symbol
        offset = np.arange(1 - self.reach, self.reach + 1) - np.arange(phases)[:, None] / phases
        pulse = root_raised_cosine(offset / self.samples_per_symbol, self.rolloff)
        return (pulse / self.samples_per_symbol).astype(np.float32)

    @cached_property
    def curvature(self) -> float:
        """Second derivative of the raised cosine h = g * g at its peak, per symbol squared."""
        step = 0.01
        offsets = np.arange(-SPAN, SPAN, step)
        h = [
            np.sum(
                root_raised_cosine(offsets, self.rolloff)
                * root_raised_cosine(offsets + shift, self.rolloff)
            )
            * step
            for shift in (-step, 0.0, step)
        ]
        return float((h[0] - 2 * h[1] + h[2]) / step**2)

    def shape(self, symbols: ComplexArray) -> ComplexArray:
        """A burst of samples: symbol k has its peak at sample ``reach + M k``.

        Arguments:
            symbols: (n,) complex64 of unit mean energy.

        Returns:
            (M (n - 1) + 2 reach + 1,) complex64; an energy of about M per symbol, so that samples
            have unit mean power in a long burst.
        """
        spread = np.zeros(self.samples_per_symbol * (symbols.size - 1) + 1, dtype=np.complex64)
        spread[:: self.samples_per_symbol] = symbols
        return _convolve(spread, self.taps)

    def matched(self, samples: ComplexArray, instants: npt.NDArray[np.float64]) -> ComplexArray:
        """The matched filter's output at given instants.

        Arguments:
            samples: (n,) complex64.
            instants: (k,) places in samples from the first, fractional; what lies outside of the
                samples counts as zero.

        Returns:
            (k,) complex64: a symbol a received without noise gives a.
        """
        out = np.empty(instants.size, dtype=np.complex64)
        matched(samples, instants, self.table, self.samples_per_symbol, out)
        return out


class PulseShaper:
    """Shapes an endless stream of symbols; the output does not depend on the chunks."""

    def __init__(self, pulse: Pulse) -> None:
        self.pulse = pulse
        self._tail = np.zeros(0, dtype=np.complex64)

    def process(self, symbols: ComplexArray) -> ComplexArray:
        """The next (n,) symbols -> M n samples, ``pulse.reach`` samples late."""
        if not symbols.size:
            return np.empty(0, dtype=np.complex64)
        burst = self.pulse.shape(symbols)
        burst[: self._tail.size] += self._tail
        done = self.pulse.samples_per_symbol * symbols.size
        self._tail = burst[done:].copy()
        return burst[:done]

    def flush(self) -> ComplexArray:
        """What is left of the last pulses; the stream starts anew."""
        tail, self._tail = self._tail, np.zeros(0, dtype=np.complex64)
        return tail


@numba.njit(cache=True, nogil=True)
def _convolve(x: ComplexArray, taps: npt.NDArray[np.float32]) -> ComplexArray:  # pragma: no cover
    """Full convolution, skipping the zeros between symbols."""
    out = np.zeros(x.size + taps.size - 1, dtype=np.complex64)
    for n in range(x.size):
        value = x[n]
        if value != 0:
            target = out[n : n + taps.size]
            for j in range(taps.size):
                target[j] += value * taps[j]
    return out


@numba.njit(cache=True, nogil=True, fastmath=True)
def matched(
    samples: ComplexArray,
    instants: npt.NDArray[np.float64],
    table: npt.NDArray[np.float32],
    spacing: int,
    out: ComplexArray,
) -> None:  # pragma: no cover - compiled
    """The kernel of :meth:`Pulse.matched`, to be called from other kernels.

    Symbols that follow each other need the same row of the table until the clocks have drifted
    apart by one of its steps. Such a run is filtered at once: tap by tap, each over all symbols.

    Arguments:
        samples: (n,) complex64.
        instants: (k,) in samples.
        table: of the pulse.
        spacing: samples from one symbol to the next in a run.
        out: (k,) complex64, overwritten.
    """
    phases, width = table.shape
    reach = width // 2
    columns = width // spacing  # taps of a residue, 2 SPAN
    # The run's samples, one row a residue; real and imaginary parts side by side need no telling
    # apart, since the weights are real.
    parts = np.empty((spacing, 2 * (_RUN + columns)), np.float32)
    sums = np.empty(2 * _RUN, np.float32)
    k = 0
    while k < instants.size:
        step = _nearest_step(instants[k], phases)
        run, longest = 1, min(_RUN, instants.size - k)
        while run < longest:
            if _nearest_step(instants[k + run], phases) != step + run * spacing * phases:
                break
            run += 1
        place, phase = divmod(step, phases)
        weights = table[phase]
        first = place - reach + 1
        if run < _SHORT or first < 0 or first + spacing * (run - 1) + width > samples.size:
            for i in range(run):
                out[k + i] = _dot(samples, first + i * spacing, weights)
        else:
            sums[: 2 * run] = 0
            for residue in range(spacing):
                row = parts[residue]
                for column in range(run + columns - 1):
                    value = samples[first + residue + spacing * column]
                    row[2 * column] = value.real
                    row[2 * column + 1] = value.imag
                for column in range(0, columns, 4):  # four taps at once spare loads and stores
                    tap = residue + spacing * column
                    a, b = weights[tap], weights[tap + spacing]
                    c, d = weights[tap + 2 * spacing], weights[tap + 3 * spacing]
                    x = row[2 * column :]
                    for i in range(2 * run):
                        sums[i] += a * x[i] + b * x[i + 2] + c * x[i + 4] + d * x[i + 6]
            for i in range(run):
                out[k + i] = complex(sums[2 * i], sums[2 * i + 1])
        k += run


@numba.njit(cache=True, nogil=True, inline="always")
def _nearest_step(instant: float, phases: int) -> int:  # pragma: no cover - compiled
    """An instant in steps of the table, from sample 0 on."""
    return int(np.floor(instant * phases + 0.5))


@numba.njit(cache=True, nogil=True, fastmath=True)
def _dot(
    samples: ComplexArray, first: int, weights: npt.NDArray[np.float32]
) -> np.complex64:  # pragma: no cover - compiled
    """Weighted sum of the samples from `first` on; those outside count as zero."""
    real = imag = np.float32(0)
    for j in range(max(0, -first), min(weights.size, samples.size - first)):
        value = samples[first + j]
        real += value.real * weights[j]
        imag += value.imag * weights[j]
    return np.complex64(complex(real, imag))
