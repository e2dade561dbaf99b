r"""What a receiver's front end adds to a frame, taken out of its samples: DC and the mirror image.

**DC** of mixer and converter is the samples' mean. It would pass the matched filter, and the
carrier offset may put it onto any carrier of OFDM.

**The mirror image** of unequal I and Q paths, :math:`x = \mu z + \nu z^*`, shows in the mean of the
squares. What is sent is circular, :math:`E\{z^2\} = 0`, so that

.. math:: c = \frac{E\{x^2\}}{E\{|x|^2\}} = \frac{2 \mu \nu}{|\mu|^2 + |\nu|^2}, \qquad
    q = \frac{\nu}{\mu^*} = \frac{c}{1 + \sqrt{1 - |c|^2}},

and :math:`x - q x^*` is free of it. By chance c reaches :math:`2 / \sqrt{n}` over n samples of a
signal that fills half of the band. Smaller values than some of these are left alone, and so are
images too strong to come from a front end: there something else is not circular.

Reference:
    M. Valkama, M. Renfors, V. Koivunen, "Advanced methods for I/Q imbalance compensation in
    communication receivers", IEEE Trans. Signal Process. 49(10), 2001 (circularity).
"""

from __future__ import annotations

import numba
import numpy as np
import numpy.typing as npt

ComplexArray = npt.NDArray[np.complex64]

_DEVIATIONS = 4.0  # of c, below which it is taken for chance: e^-16 that it is
LARGEST_IMAGE = 0.25
"""Amplitude of an image that is still taken out, -12 dB: 3 dB and 20 degrees."""


def corrected(samples: ComplexArray, circular: bool) -> ComplexArray:
    """Samples without DC and, where what was sent is circular, without the mirror image.

    Arguments:
        samples: (n,) complex64 of one frame.
        circular: whether squares of the signal vanish on average, as those of QAM and OFDM do.
    """
    mean, squares, power = _moments(samples)
    image = 0j
    if circular and power > 0:
        c = squares / power
        q = image_amplitude(c)
        if abs(c) > _DEVIATIONS * 2 / np.sqrt(samples.size) and abs(q) <= LARGEST_IMAGE:
            image = q
    return _without(samples, np.complex64(mean), np.complex64(image))


def image_amplitude(circularity: complex) -> complex:
    """q of c: amplitude of the mirror image, relative to the signal's."""
    return circularity / (1 + np.sqrt(max(1 - abs(circularity) ** 2, 0.0)))


@numba.njit(cache=True, nogil=True, fastmath=True)
def _moments(samples: ComplexArray) -> tuple[complex, complex, float]:  # pragma: no cover
    """Mean of x, and of x^2 and |x|^2 about it."""
    real = imag = across = 0.0
    first = second = 0.0
    for n in range(samples.size):
        a, b = float(samples[n].real), float(samples[n].imag)
        real += a
        imag += b
        first += a * a
        second += b * b
        across += a * b
    count = max(samples.size, 1)
    mean = complex(real / count, imag / count)
    first = first / count - mean.real**2
    second = second / count - mean.imag**2
    across = across / count - mean.real * mean.imag
    return mean, complex(first - second, 2 * across), first + second


@numba.njit(cache=True, nogil=True, fastmath=True)
def _without(
    samples: ComplexArray, mean: np.complex64, image: np.complex64
) -> ComplexArray:  # pragma: no cover - compiled
    out = np.empty_like(samples)
    for n in range(samples.size):
        x = samples[n] - mean
        out[n] = x - image * np.conj(x)
    return out
