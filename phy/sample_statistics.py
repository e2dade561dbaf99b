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
:math:`E\{y^2\} / E\{|y|^2\} \approx 2 \nu / \mu^*`, the image's amplitude twice.

**Tones.** A windowed periodogram averaged over blocks spread over the samples; a line is a bin
whose power is 9 dB above the median of all others and of its neighbourhood.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np
import numpy.typing as npt
from scipy.fft import fft

ComplexArray = npt.NDArray[np.complex64]
FloatArray = npt.NDArray[np.float64]

POWER_CELLS = 32
"""Equal parts of a stretch whose powers are measured one by one."""
_RAIL = 2.0**-10  # width of a level, relative to the largest amplitude
_AT_FULL_SCALE = 0.99
_SIGNIFICANT = 4.0  # standard deviations
_LONGEST_ZERO_RUN = 16  # samples; a weak signal behind a coarse converter has shorter ones
_FFT_SIZE = 256
_FFT_BLOCKS = 16
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
        mean, square, extremes, zeros = _moments(samples, powers, _LONGEST_ZERO_RUN)
        power = float(powers.sum()) / samples.size
        powers /= np.diff(np.arange(POWER_CELLS + 1) * samples.size // POWER_CELLS).clip(1)
        dc = abs(mean) ** 2
        tone, tone_power = _tone(samples)
        return cls(
            level_db=decibels(power / (full_scale or 1.0) ** 2),
            dc_dbc=decibels(dc / max(power - dc, 1e-30)),
            image_db=decibels((abs(square - mean**2) / max(2 * (power - dc), 1e-30)) ** 2),
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
    outer, inner = _outermost_levels(samples, extremes, width)
    rail = outer - inner > _SIGNIFICANT * np.sqrt(outer + inner)
    if not rail.any():
        return 0.0
    return _beyond(samples, np.where(rail, extremes - width, np.inf)) / samples.size


def _tone(samples: ComplexArray) -> tuple[float | None, float]:
    """Frequency and share of the power of the strongest line."""
    if samples.size < _FFT_SIZE:
        return None, 0.0
    first = np.linspace(0, samples.size - _FFT_SIZE, _FFT_BLOCKS).astype(np.int64)
    blocks = samples[first[:, None] + np.arange(_FFT_SIZE)]
    spectrum = fft((blocks - blocks.mean()) * _WINDOW)
    density: FloatArray = (spectrum.real**2 + spectrum.imag**2).sum(axis=0, dtype=np.float64)
    total = float(density.sum())
    density[np.arange(-_DC_BINS, _DC_BINS + 1)] = 0
    peak = int(np.argmax(density))
    around = density[(peak + np.r_[-10:-3, 4:11]) % _FFT_SIZE]
    floor = max(float(np.median(density)), float(np.median(around)))
    if not density[peak] > _TONE_RATIO * floor:
        return None, 0.0
    line = density[(peak + np.arange(-2, 3)) % _FFT_SIZE]
    bins = np.arange(-2, 3)
    frequency = (peak + float(line @ bins) / float(line.sum())) / _FFT_SIZE
    return (frequency + 0.5) % 1 - 0.5, float(line.sum() - 5 * floor) / total


@numba.njit(cache=True, nogil=True)
def _moments(
    samples: ComplexArray, powers: FloatArray, longest_run: int
) -> tuple[complex, complex, FloatArray, int]:  # pragma: no cover - compiled
    """Mean, mean square, largest I, -I, Q and -Q, samples in runs of zeros; energy of each cell."""
    real = imag = energy = square_real = square_imag = 0.0
    highest_i = lowest_i = samples[0].real
    highest_q = lowest_q = samples[0].imag
    zeros = run = 0
    cells = powers.size
    for cell in range(cells):
        energy = 0.0
        for n in range(cell * samples.size // cells, (cell + 1) * samples.size // cells):
            i, q = samples[n].real, samples[n].imag
            real += i
            imag += q
            energy += float(i) * i + float(q) * q
            square_real += float(i) * i - float(q) * q
            square_imag += 2 * float(i) * q
            highest_i, lowest_i = max(highest_i, i), min(lowest_i, i)
            highest_q, lowest_q = max(highest_q, q), min(lowest_q, q)
            if i == 0 and q == 0:
                run += 1
                if run == longest_run:
                    zeros += run
                elif run > longest_run:
                    zeros += 1
            else:
                run = 0
        powers[cell] = energy
    extremes = np.array([highest_i, -lowest_i, highest_q, -lowest_q], dtype=np.float64)
    return (
        complex(real, imag) / samples.size,
        complex(square_real, square_imag) / samples.size,
        extremes,
        zeros,
    )


@numba.njit(cache=True, nogil=True)
def _outermost_levels(
    samples: ComplexArray, extremes: FloatArray, width: float
) -> tuple[FloatArray, FloatArray]:  # pragma: no cover - compiled
    """Samples in the outermost level of I, -I, Q, -Q, and in the next one that is not empty."""
    outer, inner = np.zeros(4), np.zeros(4)
    edge = extremes - width
    second = np.full(4, -np.inf)
    value = np.empty(4)
    for n in range(samples.size):
        value[0], value[2] = samples[n].real, samples[n].imag
        value[1], value[3] = -value[0], -value[2]
        for k in range(4):
            if value[k] > edge[k]:
                outer[k] += 1
            elif value[k] > second[k]:
                second[k] = value[k]
    for n in range(samples.size):
        value[0], value[2] = samples[n].real, samples[n].imag
        value[1], value[3] = -value[0], -value[2]
        for k in range(4):
            if second[k] - width < value[k] <= second[k]:
                inner[k] += 1
    return outer, inner


@numba.njit(cache=True, nogil=True)
def _beyond(samples: ComplexArray, limit: FloatArray) -> int:  # pragma: no cover - compiled
    """Samples with I, -I, Q or -Q at or above its limit."""
    count = 0
    for n in range(samples.size):
        i, q = samples[n].real, samples[n].imag
        count += i >= limit[0] or -i >= limit[1] or q >= limit[2] or -q >= limit[3]
    return count
