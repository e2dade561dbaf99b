r"""Gray-mapped BPSK, QPSK, 16-, 64- and 256-QAM, and their soft demappers.

The mappings are those of 3GPP TS 38.211, 5.1.2 to 5.1.6, scaled to unit average energy. QPSK and
the QAMs are *separable*: the even bits of a label choose the in-phase amplitude and the odd bits
the quadrature amplitude, both from the same Gray-labelled PAM alphabet. The demapper works
on :math:`\sqrt{M}` amplitudes per dimension and never on the M points of the constellation.

The channel model of the demappers is :math:`y = h x + n` with :math:`n \sim CN(0, \sigma^2)`, where
gain h and noise variance :math:`\sigma^2` may differ from symbol to symbol. LLRs are
:math:`\log p(b=0 \mid y) / p(b=1 \mid y)`: positive means 0.

References:
    - 3GPP TS 38.211, 5.1 "Modulation mapper".
    - G. Caire, G. Taricco, E. Biglieri, "Bit-interleaved coded modulation", IEEE Trans. Inf. Theory
      44(3), 1998 (the exact and the max-log bit metrics).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Literal

import numba
import numpy as np
import numpy.typing as npt

DemapMethod = Literal["exact", "maxlog"]


def pam_amplitudes(bits_per_dimension: int) -> npt.NDArray[np.float64]:
    """Gray-labelled PAM alphabet of TS 38.211, before scaling.

    The amplitude of label :math:`b_0 b_1 \\ldots b_{m-1}` is
    :math:`(1-2b_0)[2^{m-1} - (1-2b_1)[2^{m-2} - \\ldots (1-2b_{m-1})]]`.

    Arguments:
        bits_per_dimension: m, the number of bits that select the amplitude.

    Returns:
        (2**m,) odd integers as floats, indexed by the label with its first bit most significant.
    """
    labels = np.arange(2**bits_per_dimension)
    amplitude = np.zeros(labels.size)
    for level in range(bits_per_dimension):
        sign = 1 - 2 * ((labels >> level) & 1)
        amplitude = sign * (2**level - amplitude)
    return amplitude


@dataclass(frozen=True)
class Modulation:
    """A constellation of TS 38.211, 5.1, with unit average energy.

    Attributes:
        name: "bpsk", "qpsk", "16qam", "64qam" or "256qam".
        bits_per_symbol: Qm, the number of bits a symbol carries.
        points: (2**Qm,) complex128, indexed by the label with its first bit most significant.
    """

    name: str
    bits_per_symbol: int
    points: npt.NDArray[np.complex128] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        Qm = self.bits_per_symbol
        labels = np.arange(2**Qm)
        if Qm == 1:
            points = (1 + 1j) * (1 - 2 * labels) / np.sqrt(2)
        else:
            bits = (labels[:, None] >> np.arange(Qm - 1, -1, -1)) & 1
            weights = 1 << np.arange(Qm // 2 - 1, -1, -1)
            amplitudes = self.amplitudes
            points = amplitudes[bits[:, 0::2] @ weights] + 1j * amplitudes[bits[:, 1::2] @ weights]
        points.setflags(write=False)
        object.__setattr__(self, "points", points)

    @property
    def amplitudes(self) -> npt.NDArray[np.float64]:
        """(2**(Qm/2),) scaled amplitudes of one dimension, indexed by label (not for BPSK)."""
        # Mean energy of a square QAM with odd-integer coordinates: 2 (M - 1) / 3.
        return pam_amplitudes(self.bits_per_symbol // 2) / np.sqrt(
            2 * (2**self.bits_per_symbol - 1) / 3
        )

    def map(self, bits: npt.ArrayLike) -> npt.NDArray[np.complex64]:
        """Map bits to symbols.

        Arguments:
            bits: [..., n * Qm] zeros and ones.

        Returns:
            [..., n] complex64 symbols of unit average energy.

        Raises:
            ValueError: the last dimension is not a multiple of Qm.
        """
        bits = np.asarray(bits, dtype=np.uint8)
        Qm = self.bits_per_symbol
        if bits.shape[-1] % Qm:
            raise ValueError(f"{bits.shape[-1]} bits are not a multiple of {Qm} ({self.name})")
        groups = bits.reshape(*bits.shape[:-1], -1, Qm)
        labels = np.zeros(groups.shape[:-1], dtype=np.uint8)
        for position in range(Qm):
            labels = (labels << 1) | groups[..., position]
        return self.points.astype(np.complex64)[labels]

    def demap(
        self,
        symbols: npt.ArrayLike,
        noise_variance: npt.ArrayLike,
        gain: npt.ArrayLike = 1.0,
        method: DemapMethod = "exact",
    ) -> npt.NDArray[np.float32]:
        """Log-likelihood ratios of the bits of received symbols.

        Arguments:
            symbols: [..., n] complex received symbols y = h x + n.
            noise_variance: E|n|^2, broadcast to the shape of `symbols`; infinite where a symbol
                tells nothing (its LLRs are 0).
            gain: complex channel gain h, broadcast to the shape of `symbols`.
            method: "exact" sums over all points (log-sum-exp); "maxlog" keeps the nearest point of
                each hypothesis. The two are the same for BPSK and QPSK.

        Returns:
            [..., n * Qm] float32, log p(bit = 0) / p(bit = 1).

        Raises:
            ValueError: unknown method, or a noise variance that is not positive.
        """
        if method not in ("exact", "maxlog"):
            raise ValueError(f"unknown demapping method {method!r}: use 'exact' or 'maxlog'")
        received = np.asarray(symbols, dtype=np.complex64)
        variance = np.asarray(noise_variance, dtype=np.float32)
        if not np.all(variance > 0):
            raise ValueError("the noise variance must be positive")
        h = np.asarray(gain, dtype=np.complex64)
        if self.bits_per_symbol == 1:
            distance = (np.conj(h * self.points[0].astype(np.complex64)) * received).real
            return np.float32(4) * distance / variance
        llr = _demap_pam(
            received.reshape(-1),
            np.broadcast_to(h, received.shape).reshape(-1),
            np.broadcast_to(variance, received.shape).reshape(-1),
            self.amplitudes.astype(np.float32),
            self.bits_per_symbol // 2,
            method == "exact",
        )
        return llr.reshape(*received.shape[:-1], -1)

    def expect(
        self,
        symbols: npt.NDArray[np.complexfloating],
        noise_variance: npt.ArrayLike,
        gain: npt.ArrayLike = 1.0,
    ) -> npt.NDArray[np.complex64]:
        """Means of the symbols sent, given those received; all points equally likely before.

        Arguments:
            symbols: (n,) complex received symbols y = h x + n.
            noise_variance: E|n|^2, broadcast to the shape of `symbols`.
            gain: complex channel gain h, broadcast likewise.

        Returns:
            (n,) complex64.
        """
        h = np.broadcast_to(np.asarray(gain, dtype=np.complex64), symbols.shape)
        variance = np.broadcast_to(np.asarray(noise_variance, dtype=np.float32), symbols.shape)
        if self.bits_per_symbol == 1:
            diagonal = self.points[0].astype(np.complex64)
            real = np.tanh(2 * (np.conj(h * diagonal) * symbols).real / variance)
            return (diagonal * real).astype(np.complex64)
        received = np.asarray(symbols, dtype=np.complex64)
        if self.bits_per_symbol == 2:
            amplitude = np.float32(np.abs(self.amplitudes[0]))
            matched = (2 * amplitude * np.conj(h) * received / variance).astype(np.complex64)
            return amplitude * np.tanh(matched.view(np.float32)).view(np.complex64)
        return _expect_pam(received, h, variance, self.amplitudes.astype(np.float32))


MODULATIONS: Mapping[str, Modulation] = MappingProxyType(
    {
        name: Modulation(name, Qm)
        for name, Qm in {"bpsk": 1, "qpsk": 2, "16qam": 4, "64qam": 6, "256qam": 8}.items()
    }
)
"""The constellations by name."""


@numba.njit(cache=True, nogil=True)
def _demap_pam(
    received: npt.NDArray[np.complex64],
    gain: npt.NDArray[np.complex64],
    variance: npt.NDArray[np.float32],
    amplitudes: npt.NDArray[np.float32],
    m: int,
    exact: bool,
) -> npt.NDArray[np.float32]:  # pragma: no cover - compiled
    """LLRs (n * 2m,) of both dimensions of square QAM.

    With u = Re(conj(h) y) / sigma^2 and g = |h|^2 / sigma^2 the log-likelihood of amplitude a is
    -(|y|^2 / sigma^2 - 2 a u + a^2 g); the first term is common to all a and drops out. There is no
    division by h, which may be zero in a fade.
    """
    levels = amplitudes.size
    llr = np.empty(received.size * 2 * m, dtype=np.float32)
    if m == 1:  # the difference of the two metrics, 4 a u
        for n in range(received.size):
            matched = np.conj(gain[n]) * received[n] * (np.float32(4) * amplitudes[0] / variance[n])
            llr[2 * n] = matched.real
            llr[2 * n + 1] = matched.imag
        return llr
    metric = np.empty(levels, dtype=np.float32)
    likelihood = np.empty(levels, dtype=np.float32)
    for n in range(received.size):
        h = gain[n]
        matched = np.conj(h) * received[n] / variance[n]
        snr = (h.real * h.real + h.imag * h.imag) / variance[n]
        for dimension in range(2):
            u = matched.real if dimension == 0 else matched.imag
            best = np.float32(-np.inf)
            for k in range(levels):
                a = amplitudes[k]
                metric[k] = a * (np.float32(2) * u - a * snr)
                best = max(best, metric[k])
            if exact and m > 1:
                for k in range(levels):
                    likelihood[k] = np.exp(metric[k] - best)
            for bit in range(m):
                mask = 1 << (m - 1 - bit)
                best0 = np.float32(-np.inf)
                best1 = np.float32(-np.inf)
                sum0 = np.float32(0)
                sum1 = np.float32(0)
                for k in range(levels):
                    if k & mask:
                        best1 = max(best1, metric[k])
                        sum1 += likelihood[k]
                    else:
                        best0 = max(best0, metric[k])
                        sum0 += likelihood[k]
                value = best0 - best1
                if exact and m > 1:
                    if sum0 > 1e-30 and sum1 > 1e-30:
                        value = np.log(sum0 / sum1)
                    else:  # one sum has underflowed: scale each by its own largest term
                        sum0 = np.float32(0)
                        sum1 = np.float32(0)
                        for k in range(levels):
                            if k & mask:
                                sum1 += np.exp(metric[k] - best1)
                            else:
                                sum0 += np.exp(metric[k] - best0)
                        value += np.log(sum0 / sum1)
                llr[(n * m + bit) * 2 + dimension] = value
    return llr


@numba.njit(cache=True, nogil=True)
def _expect_pam(
    received: npt.NDArray[np.complex64],
    gain: npt.NDArray[np.complex64],
    variance: npt.NDArray[np.float32],
    amplitudes: npt.NDArray[np.float32],
) -> npt.NDArray[np.complex64]:  # pragma: no cover - compiled
    """Means of square QAM, one dimension at a time; metrics as in :func:`_demap_pam`."""
    mean = np.empty(received.size, dtype=np.complex64)
    part = np.empty(2, dtype=np.float32)
    for n in range(received.size):
        h = gain[n]
        matched = np.conj(h) * received[n] / variance[n]
        snr = (h.real * h.real + h.imag * h.imag) / variance[n]
        for dimension in range(2):
            u = matched.real if dimension == 0 else matched.imag
            best = np.float32(-np.inf)
            for a in amplitudes:
                best = max(best, a * (np.float32(2) * u - a * snr))
            total = weighted = np.float32(0)
            for a in amplitudes:
                likelihood = np.exp(a * (np.float32(2) * u - a * snr) - best)
                total += likelihood
                weighted += a * likelihood
            part[dimension] = weighted / total
        mean[n] = complex(part[0], part[1])
    return mean
