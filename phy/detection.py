r"""Frame detection: normalized correlation with both chirps at a constant false-alarm rate.

With r the N received samples from a place on and s the sampled chirp, the metric

.. math:: \rho = N \frac{|\sum_n r_n s_n^*|^2}{\sum_n |r_n|^2 \; \sum_n |s_n|^2}

does not depend on the level of the signal. In white Gaussian noise of any variance
:math:`\rho / N` is the squared cosine between a random direction and a fixed one in N complex
dimensions, so that :math:`P(\rho > x) = (1 - x/N)^{N-1} \le e^{-x(1 - 1/N)}`: nearly an
exponential distribution of mean 1.

A frame is announced where the sum J of the up-chirp's metric at :math:`t_1` and of the largest
metric of the down-chirp among the W places where carrier offsets within reach would put it exceeds
a threshold, and is the largest such sum within one preamble on both sides. The sum of two
exponentials exceeds x with probability :math:`(1 + x)\, e^{-x}`, so the threshold is the x for
which :math:`W (1 + x) e^{-x}` is the wanted false-alarm probability per sample (a union bound).

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
from scipy.optimize import brentq

ComplexArray = npt.NDArray[np.complex64]
MetricArray = npt.NDArray[np.float32]

_FFT_SIZE = 4096
# Windows this far below the mean energy of their block hold only rounding errors of the transform.
_ENERGY_FLOOR = 1e-9
# Up-chirps whose own metric is below this share of the threshold are not looked at further.
_LEAST_SHARE = 0.2


@dataclass(frozen=True)
class Detection:
    """A place where a frame seems to start.

    Attributes:
        index: absolute sample index nearest to the preamble's first symbol.
        metric: J, the sum of both chirps' metrics.
        start: absolute place of the preamble's first symbol, in samples, to about half a sample.
        carrier: carrier offset in cycles per sample, to about 1 / (L M).
        beyond: the offset, if the down-chirp lies where only an offset out of reach would put it;
            `index`, `start` and `carrier` are then those of the best place within reach.
        clarity: metric over the detector's threshold, 1 and more.
        similarity: share of the preamble in the samples' energy, 0 to 1.
    """

    index: int
    metric: float
    start: float
    carrier: float
    beyond: float | None = None
    clarity: float = 1.0
    similarity: float = 0.0


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

    def clipped_view(self, start: int, stop: int) -> ComplexArray:
        """Those of the samples start ... stop - 1 that are held; valid until `append`."""
        first = min(max(start, self.start), self.end)
        return self.view(first, min(max(stop, first), self.end))

    def discard(self, before: int) -> None:
        """Forget the samples with an index below `before`."""
        before = min(max(before, self.start), self.end)
        self._first += before - self.start
        self.start = before


def detection_threshold(places: int, false_alarm_probability: float) -> float:
    """Threshold on J for a false-alarm probability per noise sample.

    Arguments:
        places: W, places of the down-chirp that are tried with each place of the up-chirp.
        false_alarm_probability: per sample.

    Raises:
        ValueError: a probability outside (0, 1).
    """
    if not 0 < false_alarm_probability < 1:
        raise ValueError("the false-alarm probability must lie between 0 and 1")
    target = np.log(false_alarm_probability / places)
    return float(brentq(lambda x: np.log1p(x) - x - target, 0, 1e4))


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


@numba.njit(cache=True)
def _joint(
    up: MetricArray,
    down: MetricArray,
    separation: int,
    reach: int,
    least: float,
    joint: MetricArray,
    partner: npt.NDArray[np.int64],
) -> None:  # pragma: no cover - compiled
    """J of every start, and where its down-chirp lies; 0 where the up-chirp alone is too weak."""
    for t in range(joint.size):
        joint[t] = 0
        partner[t] = t + separation
        if up[t] > least:
            first = max(t + separation - reach, 0)
            stop = min(t + separation + reach + 1, down.size)
            best = first
            for u in range(first, stop):
                if down[u] > down[best]:
                    best = u
            if first < stop:
                joint[t] = up[t] + down[best]
                partner[t] = best


def _peak(metric: MetricArray, place: int) -> float:
    """Offset of a maximum between samples: the vertex of a parabola through three of them."""
    if not 0 < place < metric.size - 1:
        return 0.0
    before, at, after = (float(np.sqrt(metric[place + d])) for d in (-1, 0, 1))
    curvature = before - 2 * at + after
    return 0.5 * (before - after) / curvature if curvature < 0 else 0.0


@dataclass(frozen=True)
class Chirps:
    """What the detector looks for.

    Attributes:
        up, down: (N,) complex64, both chirps as sampled.
        separation: samples from the one to the other, L M.
        lead: samples from the start of the template to the first symbol.
        samples_per_symbol: M.
        reach: largest carrier offset to be found, in cycles per sample.
    """

    up: ComplexArray
    down: ComplexArray
    separation: int
    lead: int = 0
    samples_per_symbol: int = 1
    reach: float = 0.0

    @property
    def shift(self) -> int:
        """Samples by which the largest carrier offset moves a chirp: nu L symbols."""
        return int(np.ceil(self.reach * self.samples_per_symbol * self.separation))


class PreambleDetector:
    """Finds preambles in a stream; the result does not depend on how the stream is cut."""

    def __init__(self, chirps: Chirps, false_alarm_probability: float = 1e-9) -> None:
        """Prepare to look for a preamble.

        Arguments:
            chirps: the preamble as sampled, at most 2048 samples a chirp.
            false_alarm_probability: per sample of white noise.

        Raises:
            ValueError: a preamble that is too long, or a bad probability.
        """
        self._length = chirps.up.size
        if not 2 <= self._length <= _FFT_SIZE // 2:
            raise ValueError(f"a chirp must have 2 ... {_FFT_SIZE // 2} samples")
        self._chirps = chirps
        self._partner_reach = 2 * chirps.shift
        self.threshold = detection_threshold(2 * self._partner_reach + 1, false_alarm_probability)
        self._energy = float(np.sum(np.abs(chirps.up) ** 2))
        self._spectra = [np.conj(fft(chirp, _FFT_SIZE)) for chirp in (chirps.up, chirps.down)]
        self._step = _FFT_SIZE - self._length + 1
        # A start is decided once the starts a preamble later, and their down-chirps, are known.
        self._rivals = 2 * chirps.separation
        self._partners = chirps.separation + self._partner_reach + 1
        self._block = 0  # first sample of the next block to correlate
        self._decided = 0  # every earlier start is decided
        self._first = 0  # the start that the metrics begin with
        self.near_miss = 0.0
        """Largest J so far that stayed below the threshold."""
        self._up = np.empty(0, dtype=np.float32)
        self._down = np.empty(0, dtype=np.float32)

    @property
    def decided(self) -> int:
        """Later detections have at least this sample index, less what a chirp's shift may be."""
        return max(self._decided - self._chirps.shift - 1, 0)

    @property
    def needed(self) -> int:
        """The first sample that later calls of :meth:`scan` still read."""
        return self._block

    def metrics(
        self, samples: ComplexArray, gains: ComplexArray | None = None
    ) -> tuple[MetricArray, MetricArray]:
        """Metrics of both chirps in one block, by FFT (overlap-save).

        Arguments:
            samples: (4096,) complex64.
            gains: channel gains if they are known: the preamble is then expected to have passed
                them, which makes it detectable on a channel that varies from symbol to symbol.

        Returns:
            (4096 - N + 1,) float32 metrics of all starts, of the up- and of the down-chirp.
        """
        scale = float(np.max(np.abs(samples)))
        if scale < np.finfo(np.float32).tiny:
            return np.zeros(self._step, np.float32), np.zeros(self._step, np.float32)
        received = samples * np.float32(1 / scale)
        energy = _window_energy(received, self._length)
        if gains is None:
            reference = np.full(self._step, self._energy)
        else:
            reference = _window_energy(gains, self._length)
            received = received * np.conj(gains)
        spectrum = fft(received)
        up, down = (
            np.float32(self._length) * _normalize(ifft(spectrum * chirp), energy, reference)
            for chirp in self._spectra
        )
        return up, down

    def scan(
        self, samples: SampleBuffer, gains: SampleBuffer | None = None, final: bool = False
    ) -> list[Detection]:
        """Look at what has arrived since the last call.

        Arguments:
            samples: the stream; samples from :attr:`needed` on must be held.
            gains: the stream of known channel gains, see :meth:`metrics`.
            final: nothing more will come, so the last starts are decided as well.

        Returns:
            New detections in ascending order.
        """
        # Blocks lie at fixed places of the stream, so rounding is the same for any chunking.
        while self._block + _FFT_SIZE <= samples.end or (final and self._block < samples.end):
            block = self._padded_block(samples)
            metrics = self.metrics(block, None if gains is None else self._padded_block(gains))
            for metric in metrics:
                # A start too late for a whole chirp (only when final) is none.
                metric[max(samples.end - self._length + 1 - self._block, 0) :] = 0
            self._up = np.concatenate([self._up, metrics[0]])
            self._down = np.concatenate([self._down, metrics[1]])
            self._block += self._step
        end = self._first + self._up.size
        return self._decide(end if final else end - self._partners - self._rivals)

    def _padded_block(self, stream: SampleBuffer) -> ComplexArray:
        """The next block, filled with zeros beyond the end of the stream."""
        block = stream.view(self._block, min(self._block + _FFT_SIZE, stream.end))
        return block if block.size == _FFT_SIZE else np.pad(block, (0, _FFT_SIZE - block.size))

    def _decide(self, stop: int) -> list[Detection]:
        """Local maxima of J above the threshold among the starts before `stop`."""
        if stop <= self._decided:
            return []
        joint = np.empty(self._up.size, dtype=np.float32)
        partner = np.empty(self._up.size, dtype=np.int64)
        _joint(
            self._up,
            self._down,
            self._chirps.separation,
            self._partner_reach,
            _LEAST_SHARE * self.threshold,
            joint,
            partner,
        )
        first = self._decided - self._first
        metrics = joint[first : stop - self._first]
        candidates = metrics > self.threshold
        self.near_miss = max(self.near_miss, float(metrics.max(where=~candidates, initial=0)))
        found = []
        for place in first + np.flatnonzero(candidates):
            rivals = joint[max(place - self._rivals, 0) : place + self._rivals + 1]
            if joint[place] == rivals.max():
                found.append(self._detection(int(place), int(partner[place]), float(joint[place])))
        self._decided = stop
        # The window around the next start reaches back by as much.
        keep = max(stop - self._rivals - self._first, 0)
        self._up, self._down = self._up[keep:].copy(), self._down[keep:].copy()
        self._first += keep
        return found

    def _detection(self, up_place: int, down_place: int, metric: float) -> Detection:
        """Time and carrier offset from the places of both peaks."""
        chirps = self._chirps
        # Whole samples and what is between them are kept apart: rounding must not depend on where
        # in the stream the metrics begin.
        d1 = d2 = 0.0
        if chirps.reach:
            d1, d2 = _peak(self._up, up_place), _peak(self._down, down_place)
        whole = up_place + down_place - chirps.separation
        start = self._first + chirps.lead + whole // 2 + (whole % 2 + d1 + d2) / 2
        # nu L symbols are (t2 - t1 - L M) / 2 samples; L = separation / M.
        apart = down_place - up_place - chirps.separation
        carrier = (apart + (d2 - d1)) / (2 * chirps.separation)
        return Detection(
            round(start),
            metric,
            start,
            carrier / chirps.samples_per_symbol,
            self._beyond(up_place, down_place) if chirps.reach else None,
            metric / self.threshold,
            metric / (2 * self._length),
        )

    def _beyond(self, up_place: int, down_place: int) -> float | None:
        """Carrier offset out of reach, where one explains a chirp without a partner."""
        separation = self._chirps.separation
        # All of it has been computed before a start is decided, unless the stream ends here.
        first = max(up_place - 3 * separation // 2, 0)
        up = first + int(np.argmax(self._up[first : up_place + 3 * separation // 2 + 1]))
        first = max(up - separation, 0)
        around = self._down[first : up_place + 3 * separation + 1]
        if not around.size:
            return None
        down = first + int(np.argmax(around))
        apart = down - up - separation
        here = min(self._up[up_place], self._down[down_place])
        there = min(self._up[up], self._down[down])
        if abs(apart) <= self._partner_reach or there < max(2 * here, self.threshold / 2):
            return None
        return apart / (2 * separation) / self._chirps.samples_per_symbol
