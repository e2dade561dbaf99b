r"""What a transmitter's samples look like to an analyser: spectrum, bandwidth, peaks.

- :func:`power_spectral_density`: Welch's method, averaged periodograms of windowed segments;
- :func:`occupied_bandwidth`: the band that leaves half of the rest of the power, 0.5 %, beyond
  either edge;
- :func:`peak_to_average_ccdf`: how often the power of a sample exceeds its mean. For many
  independent carriers the samples are nearly Gaussian, their power is exponential, and the
  probability is :math:`e^{-\gamma}` at the ratio :math:`\gamma`.

References:
    - P. D. Welch, "The use of fast Fourier transform for the estimation of power spectra", IEEE
      Trans. Audio Electroacoust. 15(2), 1967.
    - ITU-R SM.328-11, 2006, 1.4 (occupied bandwidth with 0.5 % beyond either limit).
    - R. van Nee, R. Prasad, "OFDM for Wireless Multimedia Communications", 2000, 6.1.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.fft import fftshift
from scipy.signal import welch

FloatArray = npt.NDArray[np.float64]


def power_spectral_density(
    samples: npt.ArrayLike, sample_rate_hz: float, segment: int = 1024
) -> tuple[FloatArray, FloatArray]:
    """Two-sided density of complex samples, by Welch's method with half-overlapping Hann windows.

    Arguments:
        samples: (n,) complex, at least one segment.
        sample_rate_hz: samples per second.
        segment: samples per segment, the number of frequencies.

    Returns:
        (segment,) frequencies in Hz, ascending, and (segment,) power per hertz. Its integral is the
        mean power.

    Raises:
        ValueError: fewer samples than a segment.
    """
    signal = np.asarray(samples)
    if signal.size < segment:
        raise ValueError(f"{signal.size} samples are less than one segment of {segment}")
    frequency, density = welch(
        signal, sample_rate_hz, nperseg=segment, return_onesided=False, detrend=False
    )
    return fftshift(frequency), fftshift(density)


def occupied_bandwidth(frequency_hz: FloatArray, density: FloatArray, share: float = 0.99) -> float:
    """Width of the band that holds a share of the power, with equal rests on both sides.

    Arguments:
        frequency_hz: (n,) evenly spaced, ascending.
        density: (n,) power per hertz.
        share: of the power within.

    Returns:
        Hz, to a small part of the spacing: within a cell the power counts as evenly spread.

    Raises:
        ValueError: a share outside (0, 1).
    """
    if not 0 < share < 1:
        raise ValueError(f"the share of the power must lie between 0 and 1, not {share}")
    spacing = frequency_hz[1] - frequency_hz[0]
    edges = np.append(frequency_hz, frequency_hz[-1] + spacing) - spacing / 2
    below = np.concatenate([[0.0], np.cumsum(density)])
    rest = (1 - share) / 2 * below[-1]
    low, high = np.interp([rest, below[-1] - rest], below, edges)
    return float(high - low)


def peak_to_average_ccdf(samples: npt.ArrayLike, ratio_db: npt.ArrayLike) -> FloatArray:
    """Share of samples whose power exceeds the mean power by more than a ratio.

    Arguments:
        samples: (n,) complex. At 2 samples per symbol or more they nearly show the peaks of the
            continuous signal.
        ratio_db: (r,) ratios, dB.

    Returns:
        (r,) float64.
    """
    power = np.sort(np.abs(np.asarray(samples, dtype=np.complex128)) ** 2)
    limits = power.mean() * 10 ** (np.asarray(ratio_db, dtype=np.float64) / 10)
    return 1 - np.searchsorted(power, limits, side="right") / power.size
