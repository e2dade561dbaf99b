r"""Frame detection: normalized correlation with the preamble at a constant false-alarm rate.

With :math:`r_t` the last L received samples and p the preamble, the metric is

.. math:: \rho_t = \frac{|\sum_i r_{t+i}\, p_i^*|^2}{\sum_i |r_{t+i}|^2 \; \sum_i |p_i|^2}
    \in [0, 1],

which does not depend on the level of the signal. In white Gaussian noise of any variance
:math:`\rho` is the squared cosine between a random direction and a fixed one in L complex
dimensions, with :math:`P(\rho > \tau) = (1-\tau)^{L-1}`: the threshold
:math:`\tau = 1 - P_{FA}^{1/(L-1)}` gives the false-alarm probability :math:`P_{FA}` per sample.
A frame is announced where the metric exceeds the threshold and is the largest within one preamble
length on both sides.

Reference:
    L. L. Scharf, B. Friedlander, "Matched subspace detectors", IEEE Trans. Signal Process. 42(8),
    1994 (the constant-false-alarm-rate property and the beta distribution of the metric).
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.fft import fft, ifft

ComplexArray = npt.NDArray[np.complex64]

_FFT_SIZE = 4096
# Windows this far below the mean energy of their block hold only rounding errors of the transform.
_ENERGY_FLOOR = 1e-9


@dataclass(frozen=True)
class Detection:
    """A place where a frame seems to start.

    Attributes:
        index: absolute sample index of the preamble's first sample.
        metric: normalized correlation, 0 ... 1.
    """

    index: int
    metric: float


class SampleBuffer:
    """The recent part of an endless stream, addressed by absolute sample index."""

    def __init__(self) -> None:
        self._data = np.empty(2 * _FFT_SIZE, dtype=np.complex64)
        self._first = 0  # place of sample `start` in _data
        self.start = 0
        self.end = 0

    def append(self, samples: ComplexArray) -> None:
        """Add (n,) samples at the end."""
        kept = self.end - self.start
        if self._first + kept + samples.size > self._data.size:
            data = np.empty(max(self._data.size, 2 * (kept + samples.size)), dtype=np.complex64)
            data[:kept] = self._data[self._first : self._first + kept]
            self._data, self._first = data, 0
        place = self._first + kept
        self._data[place : place + samples.size] = samples
        self.end += samples.size

    def view(self, start: int, stop: int) -> ComplexArray:
        """Samples start ... stop - 1, all of which must still be held; valid until `append`."""
        if not self.start <= start <= stop <= self.end:
            raise IndexError(f"samples {start}:{stop} of a buffer of {self.start}:{self.end}")
        return self._data[self._first + start - self.start : self._first + stop - self.start]

    def discard(self, before: int) -> None:
        """Forget the samples with an index below `before`."""
        before = min(max(before, self.start), self.end)
        self._first += before - self.start
        self.start = before


def detection_threshold(preamble_length: int, false_alarm_probability: float) -> float:
    """Threshold on the metric for a false-alarm probability per noise sample.

    Raises:
        ValueError: a probability outside (0, 1).
    """
    if not 0 < false_alarm_probability < 1:
        raise ValueError("the false-alarm probability must lie between 0 and 1")
    return float(-np.expm1(np.log(false_alarm_probability) / (preamble_length - 1)))


@numba.njit(cache=True)
def _window_energy(
    samples: ComplexArray, length: int
) -> npt.NDArray[np.float64]:  # pragma: no cover - compiled
    """Energy of the `length` samples from each start."""
    energy = np.empty(samples.size - length + 1)
    total = 0.0
    for n in range(samples.size):
        total += float(samples[n].real) ** 2 + float(samples[n].imag) ** 2
        if n >= length:
            past = samples[n - length]
            total -= float(past.real) ** 2 + float(past.imag) ** 2
        if n >= length - 1:
            energy[n - length + 1] = total
    return energy


@numba.njit(cache=True)
def _normalize(
    correlation: ComplexArray,
    energy: npt.NDArray[np.float64],
    reference: npt.NDArray[np.float64],
) -> npt.NDArray[np.float32]:  # pragma: no cover - compiled
    """|correlation|^2 / (energy * reference), 0 where there is nothing but rounding errors."""
    floor = _ENERGY_FLOOR * energy.mean()
    metric = np.zeros(energy.size, dtype=np.float32)
    for n in range(energy.size):
        if energy[n] > floor and reference[n] > 0:
            power = float(correlation[n].real) ** 2 + float(correlation[n].imag) ** 2
            metric[n] = power / (energy[n] * reference[n])
    return metric


class PreambleDetector:
    """Finds preambles in a stream; the result does not depend on how the stream is cut."""

    def __init__(self, preamble: ComplexArray, false_alarm_probability: float = 1e-9) -> None:
        """Prepare to look for a preamble.

        Arguments:
            preamble: (L,) complex64 of unit modulus, L below 2048.
            false_alarm_probability: per sample of white noise.

        Raises:
            ValueError: a preamble that is too long, or a bad probability.
        """
        if not 2 <= preamble.size <= _FFT_SIZE // 2:
            raise ValueError(f"a preamble must have 2 ... {_FFT_SIZE // 2} symbols")
        self.threshold = detection_threshold(preamble.size, false_alarm_probability)
        self._length = preamble.size
        self._spectrum = np.conj(fft(preamble.astype(np.complex64), _FFT_SIZE))
        self._step = _FFT_SIZE - self._length + 1
        self._block = 0  # first sample of the next block to correlate
        self._decided = 0  # every earlier start is decided
        self._metrics = np.empty(0, dtype=np.float32)  # of the starts from _metrics_start on
        self._metrics_start = 0

    @property
    def decided(self) -> int:
        """Later detections have at least this sample index."""
        return self._decided

    @property
    def needed(self) -> int:
        """The first sample that later calls of :meth:`scan` still read."""
        return self._block

    def metric(self, samples: ComplexArray, gains: ComplexArray | None = None) -> npt.NDArray:
        """Normalized correlation of one block by FFT (overlap-save).

        Arguments:
            samples: (4096,) complex64.
            gains: channel gains if they are known: the preamble is then expected to have passed
                them, which makes it detectable on a channel that varies from symbol to symbol.

        Returns:
            (4096 - L + 1,) float32 metrics of all starts.
        """
        scale = float(np.max(np.abs(samples)))
        if scale < np.finfo(np.float32).tiny:
            return np.zeros(self._step, dtype=np.float32)
        received = samples * np.float32(1 / scale)
        if gains is None:
            reference = np.full(self._step, float(self._length))
            correlation = ifft(fft(received) * self._spectrum)
        else:
            reference = _window_energy(gains, self._length)
            correlation = ifft(fft(received * np.conj(gains)) * self._spectrum)
        return _normalize(correlation, _window_energy(received, self._length), reference)

    def scan(
        self, samples: SampleBuffer, gains: SampleBuffer | None = None, final: bool = False
    ) -> list[Detection]:
        """Look at what has arrived since the last call.

        Arguments:
            samples: the stream; samples from :attr:`needed` on must be held.
            gains: the stream of known channel gains, see :meth:`metric`.
            final: nothing more will come, so the last starts are decided as well.

        Returns:
            New detections in ascending order.
        """
        # Blocks lie at fixed places of the stream, so rounding is the same for any chunking.
        while self._block + _FFT_SIZE <= samples.end or (final and self._block < samples.end):
            block = self._padded_block(samples)
            metric = self.metric(block, None if gains is None else self._padded_block(gains))
            # A start too late for a whole preamble (only when final) is none.
            metric[max(samples.end - self._length + 1 - self._block, 0) :] = 0
            self._metrics = np.concatenate([self._metrics, metric])
            self._block += self._step
        end = self._metrics_start + self._metrics.size
        return self._decide(end if final else end - (self._length - 1))

    def _padded_block(self, stream: SampleBuffer) -> ComplexArray:
        """The next block, filled with zeros beyond the end of the stream."""
        block = stream.view(self._block, min(self._block + _FFT_SIZE, stream.end))
        return block if block.size == _FFT_SIZE else np.pad(block, (0, _FFT_SIZE - block.size))

    def _decide(self, stop: int) -> list[Detection]:
        """Local maxima above the threshold among the starts before `stop`."""
        if stop <= self._decided:
            return []
        reach = self._length - 1
        first = self._decided - self._metrics_start
        candidates = self._metrics[first : stop - self._metrics_start] > self.threshold
        found = []
        for place in first + np.flatnonzero(candidates):
            metric = self._metrics[place]
            if metric == self._metrics[max(place - reach, 0) : place + reach + 1].max():
                found.append(Detection(int(self._metrics_start + place), float(metric)))
        self._decided = stop
        # The window around the next start reaches back by as much.
        keep_from = max(stop - reach, self._metrics_start)
        self._metrics = self._metrics[keep_from - self._metrics_start :]
        self._metrics_start = keep_from
        return found
