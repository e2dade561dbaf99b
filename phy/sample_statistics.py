r"""What the samples themselves tell: level, DC, IQ image, clipping, tones and gaps.

**Clipping without knowing full scale.** The density of a signal and its noise falls towards its
extremes. A converter (or a hard limiter) that clips piles all that lies beyond up on its last
value. So the largest value of I, within a thousandth, is compared with the next smaller one that
occurs, in an equally narrow bin: of n samples in both, a falling density puts at most half into the
outer one, so that the difference of the two counts over :math:`\sqrt n` is at most about standard
normal. Where it exceeds 4, the value is a rail. (The density of a lone tone does not fall, and
looks clipped.) The same goes for the smallest value, and for Q. It
does not matter how many bits a converter has; a waveform that has been filtered after it was
clipped no longer shows. With a known full scale, all samples within 1 % of it count: the largest
code of 8 bits lies 0.8 % below.

**IQ image.** Signals of a QAM that turn with a carrier offset are circular, :math:`E\{x^2\} = 0`.
Behind a mixer with :math:`y = \mu x + \nu x^*` it is
:math:`E\{y^2\} / E\{|y|^2\}` tells the image's amplitude (:mod:`phy.front_end_correction`).

**Tones.** A windowed periodogram averaged over blocks spread over the samples; a line is a bin
whose power is 9 dB above the mean of all others and of its neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.fft import fft

from phy.front_end_correction import image_amplitude

ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float64]

POWER_CELLS = 32
"""Equal parts of a stretch whose powers are measured one by one."""
_RAIL = 2.0**-10  # width of a level, relative to the largest amplitude
_AT_FULL_SCALE = 0.99
_SIGNIFICANT = 4.0  # standard deviations
_SHORTEST_GAP = 16  # samples; a weak signal behind a coarse converter has shorter runs of zeros
_FFT_SIZE = 256
_FFT_BLOCKS = 8
_WINDOW = np.hanning(_FFT_SIZE).astype(np.float32)
_TONE_RATIO = 8.0
_DC_BINS = 3  # around 0, which are left out: DC is measured by itself


@dataclass(frozen=True)
class SampleStatistics:
    """Statistics of a stretch of samples.

    Attributes:
        level_db: mean power in dB, relative to full scale if that is known and else to 1.
        dc_dbc: power of the mean relative to the rest, dB.
        image_db: power of the mirror image relative to the signal, dB; meaningless for a real
            signal, BPSK without carrier offset.
        clipped: share of samples of which I or Q is clipped.
        zeros: share of samples in runs of 16 and more that are exactly 0.
        tone: frequency of the strongest line in cycles per sample, or None.
        tone_dbc: its power relative to all the rest, dB, or None.
        powers: (32,) mean power of equal parts.
    """

    level_db: float
    dc_dbc: float
    image_db: float
    clipped: float
    zeros: float
    tone: float | None
    tone_dbc: float | None
    powers: FloatArray

    @classmethod
    def of(cls, samples: ComplexArray, full_scale: float | None = None) -> SampleStatistics:
        """Measure (n,) complex64 samples, n at least 1.

        Arguments:
            samples: finite.
            full_scale: amplitude of I or Q at which the converter clips, if it is known.
        """
        powers = np.zeros(POWER_CELLS)
        energy, mean, square, extremes, zeros = _moments(samples, powers, _SHORTEST_GAP)
        power = energy / samples.size
        dc = abs(mean) ** 2
        tone, tone_power = _tone(samples)
        return cls(
            level_db=decibels(power / (full_scale or 1.0) ** 2),
            dc_dbc=decibels(dc / max(power - dc, 1e-30)),
            image_db=decibels(
                abs(image_amplitude((square - mean**2) / max(power - dc, 1e-30))) ** 2
            ),
            clipped=_clipped(samples, extremes, full_scale),
            zeros=zeros / samples.size,
            tone=tone,
            tone_dbc=None if tone is None else decibels(tone_power / max(1 - tone_power, 1e-3)),
            powers=powers,
        )


def decibels(ratio: float) -> float:
    """10 log10, -300 for nothing at all."""
    return float(10 * np.log10(max(ratio, 1e-30)))


def _clipped(samples: ComplexArray, extremes: FloatArray, full_scale: float | None) -> float:
    """Share of clipped samples; `extremes` are the largest I, -I, Q, -Q."""
    if full_scale is not None:
        return _beyond(samples, np.full(4, _AT_FULL_SCALE * full_scale)) / samples.size
    width = _RAIL * float(extremes.max())
    if width == 0:
        return 0.0
    limit = np.full(4, np.inf)
    for k, outer in enumerate(_outer_counts(samples, extremes - width)):
        if outer <= _SIGNIFICANT**2:
            continue  # not even beside an empty level
        sign = -1.0 if k % 2 else 1.0
        inner = _next_level(samples, k > 1, sign, extremes[k] - width, width)
        if outer - inner > _SIGNIFICANT * np.sqrt(outer + inner):
            limit[k] = extremes[k] - width
    return _beyond(samples, limit) / samples.size if np.isfinite(limit).any() else 0.0


def _tone(samples: ComplexArray) -> tuple[float | None, float]:
    """Frequency and share of the power of the strongest line."""
    if samples.size < _FFT_SIZE:
        return None, 0.0
    blocks = np.empty((_FFT_BLOCKS, _FFT_SIZE), dtype=np.complex64)
    _windowed(samples, _WINDOW, blocks)
    frequency, share = _line(fft(blocks), _DC_BINS, _TONE_RATIO)
    return (frequency, share) if share > 0 else (None, 0.0)


@numba.njit(cache=True, nogil=True)
def _windowed(
    samples: ComplexArray, window: npt.NDArray[np.float32], blocks: ComplexArray
) -> None:  # pragma: no cover - compiled
    """Blocks spread over the samples, without their mean and with a window."""
    count, size = blocks.shape
    for b in range(count):
        first = b * (samples.size - size) // (count - 1)
        mean = np.complex64(0)
        for n in range(size):
            mean += samples[first + n]
        mean /= np.float32(size)
        for n in range(size):
            blocks[b, n] = (samples[first + n] - mean) * window[n]


@numba.njit(cache=True, nogil=True)
def _line(
    spectrum: ComplexArray, dc_bins: int, ratio: float
) -> tuple[float, float]:  # pragma: no cover - compiled
    """Frequency of the strongest line, and its share of the power: 0 if it does not stand out."""
    count, size = spectrum.shape
    density = np.zeros(size)
    for b in range(count):
        for k in range(size):
            density[k] += float(spectrum[b, k].real) ** 2 + float(spectrum[b, k].imag) ** 2
    total = density.sum()
    density[: dc_bins + 1] = 0
    density[size - dc_bins :] = 0
    peak = int(np.argmax(density))
    near = line = offset = 0.0
    for d in range(-10, 11):
        value = density[(peak + d) % size]
        if abs(d) <= 2:
            line += value
            offset += d * value
        elif abs(d) >= 4:
            near += value
    floor = max((density.sum() - line) / (size - 2 * dc_bins - 6), near / 14)
    if not density[peak] > ratio * floor:
        return 0.0, 0.0
    frequency = (peak + offset / line) / size
    return frequency - np.floor(frequency + 0.5), (line - 5 * floor) / total


@numba.njit(cache=True, nogil=True, fastmath={"reassoc", "nsz", "contract"})
def _moments(
    samples: ComplexArray, powers: FloatArray, shortest_gap: int
) -> tuple[float, complex, complex, FloatArray, int]:  # pragma: no cover - compiled
    """Energy, mean, mean square, largest I, -I, Q and -Q, samples in gaps; power of each cell."""
    parts = samples.view(np.float32)
    highest_i = lowest_i = parts[0]
    highest_q = lowest_q = parts[1]
    zeros = 0
    cells = powers.size
    sums = np.zeros(5)
    for cell in range(cells):
        # Sums of some hundred float32 at a time, which the compiler turns into vectors.
        real = imag = energy_i = energy_q = product = np.float32(0)
        empty = 0
        first, stop = cell * samples.size // cells, (cell + 1) * samples.size // cells
        for n in range(first, stop):
            i, q = parts[2 * n], parts[2 * n + 1]
            real += i
            imag += q
            energy_i += i * i
            energy_q += q * q
            product += i * q
            highest_i, lowest_i = max(highest_i, i), min(lowest_i, i)
            highest_q, lowest_q = max(highest_q, q), min(lowest_q, q)
            empty += (i == 0) & (q == 0)
        zeros += empty
        powers[cell] = (float(energy_i) + float(energy_q)) / max(stop - first, 1)
        sums[0] += real
        sums[1] += imag
        sums[2] += energy_i
        sums[3] += energy_q
        sums[4] += product
    if zeros:
        zeros = _in_runs(samples, shortest_gap)
    extremes = np.array([highest_i, -lowest_i, highest_q, -lowest_q], dtype=np.float64)
    return (
        sums[2] + sums[3],
        complex(sums[0], sums[1]) / samples.size,
        complex(sums[2] - sums[3], 2 * sums[4]) / samples.size,
        extremes,
        zeros,
    )


@numba.njit(cache=True, nogil=True)
def _in_runs(samples: ComplexArray, shortest: int) -> int:  # pragma: no cover - compiled
    """Samples that are zero, in runs of at least so many."""
    count = run = 0
    for n in range(samples.size):
        run = run + 1 if samples[n] == 0 else 0
        if run == shortest:
            count += run
        elif run > shortest:
            count += 1
    return count


@numba.njit(cache=True, nogil=True)
def _outer_counts(
    samples: ComplexArray, edge: FloatArray
) -> tuple[int, int, int, int]:  # pragma: no cover - compiled
    """Samples with I, -I, Q, -Q above their edges."""
    parts = samples.view(np.float32)
    i_edge, i_low = np.float32(edge[0]), np.float32(-edge[1])
    q_edge, q_low = np.float32(edge[2]), np.float32(-edge[3])
    a = b = c = d = np.int32(0)
    for n in range(samples.size):
        i, q = parts[2 * n], parts[2 * n + 1]
        a += np.int32(i > i_edge)
        b += np.int32(i < i_low)
        c += np.int32(q > q_edge)
        d += np.int32(q < q_low)
    return int(a), int(b), int(c), int(d)


@numba.njit(cache=True, nogil=True)
def _next_level(
    samples: ComplexArray, quadrature: bool, sign: float, edge: float, width: float
) -> int:  # pragma: no cover - compiled
    """Samples in the next level below an edge that is not empty, of I or Q of either sign."""
    second = -np.inf
    for n in range(samples.size):
        value = sign * (samples[n].imag if quadrature else samples[n].real)
        if second < value <= edge:
            second = value
    count = 0
    for n in range(samples.size):
        value = sign * (samples[n].imag if quadrature else samples[n].real)
        count += second - width < value <= second
    return count


@numba.njit(cache=True, nogil=True)
def _beyond(samples: ComplexArray, limit: FloatArray) -> int:  # pragma: no cover - compiled
    """Samples with I, -I, Q or -Q at or above its limit."""
    count = 0
    for n in range(samples.size):
        i, q = samples[n].real, samples[n].imag
        count += i >= limit[0] or -i >= limit[1] or q >= limit[2] or -q >= limit[3]
    return count
