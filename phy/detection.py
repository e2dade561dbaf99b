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

_LONGEST_CHIRP = 2048  # samples
_LEAST_FFT = 1024
# Blocks transformed together: as many as a single-precision transform has lanes, at half the cost
# of one by one. Always so many, since rounding depends on it.
_BLOCKS = 4
# Windows this far below the mean energy of their block hold only rounding errors of the transform.
_ENERGY_FLOOR = 1e-9
_TINY = np.finfo(np.float32).tiny
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
        anticipated: not found, but where a frame should be (:mod:`phy.anticipation`).
        clock: relative clock offset, where it is anticipated.
    """

    index: int
    metric: float
    start: float
    carrier: float
    beyond: float | None = None
    clarity: float = 1.0
    similarity: float = 0.0
    anticipated: bool = False
    clock: float = 0.0


class SampleBuffer:
    """The recent part of an endless stream, addressed by absolute sample index."""

    def __init__(self) -> None:
        self._data = np.empty(2**13, dtype=np.complex64)
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


@numba.njit(cache=True, nogil=True, fastmath=True)
def _cut(
    parts: npt.NDArray[np.float32], step: int, blocks: npt.NDArray[np.float32]
) -> None:  # pragma: no cover - compiled
    """Overlapping blocks of a stream, each scaled to a largest part of 1, zeros behind its end.

    Arguments:
        parts: (2 n,) real and imaginary parts of the samples.
        step: samples from one block to the next.
        blocks: (blocks, 2 F) overwritten.
    """
    for row in range(blocks.shape[0]):
        block = blocks[row]
        first = min(2 * step * row, parts.size)
        there = parts[first : min(first + block.size, parts.size)]
        peak = np.float32(0)
        for n in range(there.size):
            peak = max(peak, abs(there[n]))
        scale = np.float32(1) / peak if peak >= _TINY else np.float32(0)
        for n in range(there.size):
            block[n] = scale * there[n]
        block[there.size :] = 0


@numba.njit(cache=True, nogil=True)
def _window_energy(
    samples: ComplexArray, length: int, energy: npt.NDArray[np.float64]
) -> None:  # pragma: no cover - compiled
    """Energy of the `length` samples from each start."""
    total = 0.0
    for n in range(length):
        total += float(samples[n].real) ** 2 + float(samples[n].imag) ** 2
    for n in range(energy.size):
        energy[n] = total
        if n + length < samples.size:
            past, new = samples[n], samples[n + length]
            lost = float(past.real) ** 2 + float(past.imag) ** 2
            total += float(new.real) ** 2 + float(new.imag) ** 2 - lost


@numba.njit(cache=True, nogil=True)
def _normalize(
    blocks: ComplexArray,
    gains: ComplexArray,
    chirp_energy: float,
    length: int,
    correlation: ComplexArray,
    metrics: npt.NDArray[np.float32],
) -> None:  # pragma: no cover - compiled
    """N |correlation|^2 / (energy * reference), 0 where there is nothing but rounding errors.

    Arguments:
        blocks: (blocks, F) complex64.
        gains: (blocks, F) complex64, or (0, 0) if they are not known.
        chirp_energy: the reference without gains.
        length: N.
        correlation: (2, blocks, F) complex64.
        metrics: (2, blocks, F - N + 1), overwritten.
    """
    starts = metrics.shape[2]
    energy = np.empty(starts)
    reference = np.full(starts, chirp_energy)
    inverse = np.empty(starts, np.float32)
    for row in range(blocks.shape[0]):
        _window_energy(blocks[row], length, energy)
        if gains.size:
            _window_energy(gains[row], length, reference)
        floor = _ENERGY_FLOOR * energy.mean()
        for n in range(starts):
            good = energy[n] > floor and reference[n] > 0
            inverse[n] = length / (energy[n] * reference[n]) if good else 0.0
        for chirp in range(2):
            source, target = correlation[chirp, row], metrics[chirp, row]
            for n in range(starts):
                power = source[n].real * source[n].real + source[n].imag * source[n].imag
                target[n] = power * inverse[n]


@numba.njit(cache=True, nogil=True)
def _partner(down: MetricArray, place: int, reach: int) -> int:  # pragma: no cover - compiled
    """Place of the largest metric at most `reach` from a place; -1 if that is outside."""
    first, stop = max(place - reach, 0), min(place + reach + 1, down.size)
    best = first
    for u in range(first, stop):
        if down[u] > down[best]:
            best = u
    return best if first < stop else -1


@numba.njit(cache=True, nogil=True)
def _joint(
    up: MetricArray, down: MetricArray, separation: int, reach: int, least: float
) -> MetricArray:  # pragma: no cover - compiled
    """J of every start; 0 where the up-chirp alone is too weak."""
    joint = np.zeros(up.size, np.float32)
    for t in range(up.size):
        if up[t] > least:
            partner = _partner(down, t + separation, reach)
            if partner >= 0:
                joint[t] = up[t] + down[partner]
    return joint


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
        if not 2 <= self._length <= _LONGEST_CHIRP:
            raise ValueError(f"a chirp must have 2 ... {_LONGEST_CHIRP} samples")
        self._chirps = chirps
        self._partner_reach = 2 * chirps.shift
        self.threshold = detection_threshold(2 * self._partner_reach + 1, false_alarm_probability)
        self._energy = float(np.sum(np.abs(chirps.up) ** 2))
        # Longer blocks overlap by a smaller part, but their transforms take longer and fill caches.
        self.fft_size = max(_LEAST_FFT, 1 << int(np.ceil(np.log2(6 * self._length))))
        self._spectra = np.conj(fft(np.stack([chirps.up, chirps.down])[:, None], self.fft_size))
        self._step = self.fft_size - self._length + 1
        self._span = self.fft_size + (_BLOCKS - 1) * self._step  # samples in the blocks together
        # A start is decided once the starts a preamble later, and their down-chirps, are known.
        self._rivals = 2 * chirps.separation
        self._partners = chirps.separation + self._partner_reach + 1
        self._block = 0  # first sample of the next blocks to correlate
        self._decided = 0  # every earlier start is decided
        self._first = 0  # the start that the metrics begin with
        self._metrics = np.empty((2, 0), dtype=np.float32)  # of the up- and of the down-chirp
        self.near_miss = 0.0
        """Largest J so far that stayed below the threshold."""

    @property
    def decided(self) -> int:
        """Later detections have at least this sample index, less what a chirp's shift may be."""
        return max(self._decided - self._chirps.shift - 1, 0)

    @property
    def needed(self) -> int:
        """The first sample that later calls of :meth:`scan` still read."""
        return self._block

    def metrics(self, samples: ComplexArray, gains: ComplexArray | None = None) -> MetricArray:
        """Metrics of both chirps in a stretch of samples, by FFT (overlap-save).

        Arguments:
            samples: (n,) complex64, as many as four overlapping blocks of :attr:`fft_size` take;
                zeros are added to fewer.
            gains: (n,) channel gains if they are known: the preamble is then expected to have
                passed them, which makes it detectable on a channel that varies from symbol to
                symbol.

        Returns:
            (2, starts) float32 metrics of the starts in these blocks, of the up- and of the
            down-chirp.
        """
        blocks = self._blocks(samples)
        known = np.empty((0, 0), dtype=np.complex64) if gains is None else self._blocks(gains)
        spectrum = fft(blocks if gains is None else blocks * np.conj(known))
        correlation = ifft(spectrum * self._spectra, overwrite_x=True)
        metrics = np.empty((2, _BLOCKS, self._step), dtype=np.float32)
        _normalize(blocks, known, self._energy, self._length, correlation, metrics)
        return metrics.reshape(2, -1)

    def _blocks(self, samples: ComplexArray) -> ComplexArray:
        blocks = np.empty((_BLOCKS, self.fft_size), dtype=np.complex64)
        _cut(samples.view(np.float32), self._step, blocks.view(np.float32))
        return blocks

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
        parts = [self._metrics]
        while self._block + self._span <= samples.end or (final and self._block < samples.end):
            stop = min(self._block + self._span, samples.end)
            known = None if gains is None else gains.view(self._block, stop)
            metrics = self.metrics(samples.view(self._block, stop), known)
            # A start too late for a whole chirp (only when final) is none.
            metrics[:, max(samples.end - self._length + 1 - self._block, 0) :] = 0
            parts.append(metrics)
            self._block += _BLOCKS * self._step
        if len(parts) > 1:
            self._metrics = np.concatenate(parts, axis=1)
        end = self._first + self._metrics.shape[1]
        return self._decide(end if final else end - self._partners - self._rivals)

    def _decide(self, stop: int) -> list[Detection]:
        """Local maxima of J above the threshold among the starts before `stop`."""
        if stop <= self._decided:
            return []
        joint = _joint(
            *self._metrics,
            self._chirps.separation,
            self._partner_reach,
            _LEAST_SHARE * self.threshold,
        )
        first = self._decided - self._first
        metrics = joint[first : stop - self._first]
        candidates = metrics > self.threshold
        self.near_miss = max(self.near_miss, float(metrics.max(where=~candidates, initial=0)))
        found = []
        for place in first + np.flatnonzero(candidates):
            rivals = joint[max(place - self._rivals, 0) : place + self._rivals + 1]
            if joint[place] == rivals.max():
                found.append(self._detection(int(place), float(joint[place])))
        self._decided = stop
        # The window around the next start reaches back by as much.
        keep = max(stop - self._rivals - self._first, 0)
        self._metrics = self._metrics[:, keep:].copy()
        self._first += keep
        return found

    def _detection(self, place: int, metric: float) -> Detection:
        """Time and carrier offset from the places of both peaks."""
        chirps = self._chirps
        up, down = self._metrics
        partner = _partner(down, place + chirps.separation, self._partner_reach)
        # Whole samples and what is between them are kept apart: rounding must not depend on where
        # in the stream the metrics begin.
        d1 = d2 = 0.0
        if chirps.reach:
            d1, d2 = _peak(up, place), _peak(down, partner)
        whole = place + partner - chirps.separation
        start = self._first + chirps.lead + whole // 2 + (whole % 2 + d1 + d2) / 2
        # nu L symbols are (t2 - t1 - L M) / 2 samples; L = separation / M.
        apart = partner - place - chirps.separation
        carrier = (apart + (d2 - d1)) / (2 * chirps.separation)
        return Detection(
            round(start),
            metric,
            start,
            carrier / chirps.samples_per_symbol,
            self._beyond(place, partner) if chirps.reach else None,
            metric / self.threshold,
            metric / (2 * self._length),
        )

    def _beyond(self, up_place: int, down_place: int) -> float | None:
        """Carrier offset out of reach, where one explains a chirp without a partner."""
        separation = self._chirps.separation
        ups, downs = self._metrics
        # All of it has been computed before a start is decided, unless the stream ends here.
        first = max(up_place - 3 * separation // 2, 0)
        up = first + int(np.argmax(ups[first : up_place + 3 * separation // 2 + 1]))
        first = max(up - separation, 0)
        around = downs[first : up_place + 3 * separation + 1]
        if not around.size:
            return None
        down = first + int(np.argmax(around))
        apart = down - up - separation
        here = min(ups[up_place], downs[down_place])
        there = min(ups[up], downs[down])
        if abs(apart) <= self._partner_reach or there < max(2 * here, self.threshold / 2):
            return None
        return apart / (2 * separation) / self._chirps.samples_per_symbol
