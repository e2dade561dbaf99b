"""Exact integer probability tables from mixtures of logistics.

The network gives, for each sub-pixel, K logits, means and log-scales as integers. This module turns
them into tables for the range coder without any floating-point function: the logistic function,
the exponentials and the inverse scales are integer tables that belong to the model file.

A value 0 to 255 is coded in two halves, its high four bits and then its low four bits, so that a
sub-pixel costs 32 table entries and not 256. Each table holds 16 integers that sum exactly to
``TABLE_TOTAL``, carried in float32; constriction's fast categorical model adds one to each and
divides by 2^24, so the coder's probabilities are these integers exactly.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.denoiser import FLOOR_BITS, N_MIXTURES
from source_codec.errors import ModelError

HALF_VALUES = 16
"""Entries of a table: a half of a value is four bits."""
TABLE_TOTAL = (1 << 24) - HALF_VALUES
_FLOOR = 1 << (24 - FLOOR_BITS)

LOGIT_BITS = 6
"""Logits in 1/64 nat."""
MEAN_BITS = 3
"""Means in 1/8 input unit."""
SCALE_STEPS = 16
"""Log-scales in 1/16 octave."""
COEFFICIENT_BITS = 7
"""Colour coefficients in 1/128."""
_HALF_MEAN_UNIT = 1 << (COEFFICIENT_BITS - MEAN_BITS - 1)

_LEVEL_BITS = 7  # centres and edges in 1/128 gray level
_Z_BITS = 12  # argument of the logistic function in 1/4096
_Z_STEP_BITS = 5  # the table has every 32nd argument, the rest is interpolated
_Z_LIMIT = 16 << _Z_BITS
_LOGISTIC_BITS = 24
_WEIGHT_BITS = 15
_CDF_BITS = 32
MIN_OCTAVE = -6
MAX_OCTAVE = 8
_INVERSE_BITS = 16
_SCALE_ENTRIES = (MAX_OCTAVE - MIN_OCTAVE) * SCALE_STEPS + 1
# A log-scale of 0 means 8 input units; an input unit is 2^exponent / 16 gray levels.
_OCTAVE_OFFSET = -1
MAX_TEMPERATURE = 16


@dataclass(frozen=True)
class MixtureTables:
    """The transcendental functions, tabulated; part of the model and of its identity.

    Attributes:
        logistic: int32 (4098,), 2^24 / (1 + exp(-z)) for z = -16 to 16 in steps of 1/128 (and one
            entry more, for interpolation).
        exponential: int32 (1024,), 2^15 exp(-i / 64).
        inverse_scale: int32 (225,), 2^21 / scale in gray levels, from 2^-6 to 2^8.
        temperature: int32 (33,), 64 * 2^(-i / 16) for i = -16 to 16, scales the logits.
    """

    logistic: NDArray[np.int32]
    exponential: NDArray[np.int32]
    inverse_scale: NDArray[np.int32]
    temperature: NDArray[np.int32]

    def __post_init__(self) -> None:
        sizes = (
            (self.logistic, (2 * _Z_LIMIT >> _Z_STEP_BITS) + 2, 1 << _LOGISTIC_BITS),
            (self.exponential, 1024, 1 << _WEIGHT_BITS),
            (self.inverse_scale, _SCALE_ENTRIES, 1 << 27),
            (self.temperature, 2 * MAX_TEMPERATURE + 1, 128),
        )
        for table, size, peak in sizes:
            if table.dtype != np.int32 or table.shape != (size,):
                raise ModelError("mixture table of wrong type or size")
            if table.min() < 0 or table.max() > peak:
                raise ModelError("mixture table entry out of range")
        if np.any(np.diff(self.logistic) < 0):
            raise ModelError("logistic table is not monotone")
        if self.exponential[0] != 1 << _WEIGHT_BITS:
            raise ModelError("exponential table does not start at one")

    @classmethod
    def compute(cls) -> MixtureTables:
        """Tables as exported into a model file; a decoder reads them from the file."""
        z = np.arange((2 * _Z_LIMIT >> _Z_STEP_BITS) + 2) / 128.0 - 16.0
        octaves = MIN_OCTAVE + np.arange(_SCALE_ENTRIES) / SCALE_STEPS
        steps = np.arange(-MAX_TEMPERATURE, MAX_TEMPERATURE + 1) / SCALE_STEPS
        return cls(
            logistic=np.rint((1 << _LOGISTIC_BITS) / (1 + np.exp(-z))).astype(np.int32),
            exponential=np.rint((1 << _WEIGHT_BITS) * np.exp(-np.arange(1024) / 64)).astype(
                np.int32
            ),
            inverse_scale=np.rint(2.0 ** (_INVERSE_BITS + 5 - octaves)).astype(np.int32),
            temperature=np.rint(64 * 2.0**-steps).astype(np.int32),
        )


class Mixture(NamedTuple):
    """Mixtures of logistics of N sub-pixels, in integers.

    Attributes:
        weight: int32 (N, K), sums to 2^15 in every row.
        centre: int32 (N, K), in 1/128 gray level.
        inverse_scale: int32 (N, K), 2^21 / scale in gray levels.
        logistic: the logistic table.
    """

    weight: NDArray[np.int32]
    centre: NDArray[np.int32]
    inverse_scale: NDArray[np.int32]
    logistic: NDArray[np.int32]


@njit(cache=True, nogil=True)
def _mixture(
    parameters: NDArray[np.int32],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    residual: NDArray[np.int32],
    temperature: int,
    temperature_table: NDArray[np.int32],
    exponential: NDArray[np.int32],
    inverse_table: NDArray[np.int32],
    weight: NDArray[np.int32],
    centre: NDArray[np.int32],
    inverse: NDArray[np.int32],
) -> None:
    k = N_MIXTURES
    gain = np.int64(temperature_table[temperature + MAX_TEMPERATURE])
    for n in range(parameters.shape[0]):
        shift = np.int64(0)
        for c in range(residual.shape[1]):
            shift += np.int64(parameters[n, 3 * k + c]) * residual[n, c]
        shift = (shift + _HALF_MEAN_UNIT) >> (COEFFICIENT_BITS - MEAN_BITS)
        peak = np.int64(-(1 << 40))
        best = 0
        for i in range(k):
            logit = np.int64(parameters[n, i])
            if logit > peak:
                peak, best = logit, i
        total = np.int64(0)
        for i in range(k):
            below = ((peak - parameters[n, i]) * gain) >> LOGIT_BITS
            weight[n, i] = exponential[min(below, 1023)]
            total += weight[n, i]
        rest = np.int64(1 << _WEIGHT_BITS)
        for i in range(k):
            share = (np.int64(weight[n, i]) << _WEIGHT_BITS) // total
            weight[n, i] = share
            rest -= share
        weight[n, best] += rest
        e = np.int64(exponent[n])
        for i in range(k):
            mean = min(max(parameters[n, k + i] + shift, np.int64(-(1 << 15))), np.int64(1 << 15))
            centre[n, i] = (np.int64(base[n]) << (_LEVEL_BITS - 4)) + (mean << e)
            octave = np.int64(parameters[n, 2 * k + i]) + temperature
            octave += SCALE_STEPS * (e + _OCTAVE_OFFSET - MIN_OCTAVE)
            octave = min(max(octave, np.int64(0)), np.int64(_SCALE_ENTRIES - 1))
            inverse[n, i] = inverse_table[octave]


def mixture(
    parameters: NDArray[np.int32],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    residual: NDArray[np.int32],
    temperature: int,
    tables: MixtureTables,
) -> Mixture:
    """Mixtures from the network's integer outputs.

    Args:
        parameters: int32 (N, 15 + c) from ``IntegerNetwork.head``.
        base: int32 (N,) base prediction of this channel in 1/16 gray level.
        exponent: int32 (N,), 0 to 6.
        residual: int32 (N, c) true residuals of the channels already coded.
        temperature: calibration, in 1/16 octave, -16 to 16; positive widens.
        tables: the model's tables.
    """
    weight, centre, inverse_scale = np.empty((3, len(parameters), N_MIXTURES), dtype=np.int32)
    _mixture(
        parameters,
        base,
        exponent,
        residual,
        temperature,
        tables.temperature,
        tables.exponential,
        tables.inverse_scale,
        weight,
        centre,
        inverse_scale,
    )
    return Mixture(weight, centre, inverse_scale, tables.logistic)


@njit(cache=True, nogil=True, inline="always")
def _cdf(m: Mixture, n: int, value: int) -> np.int64:
    """Probability, in 2^-32, of all values below ``value`` (1 to 255) under the n-th mixture."""
    edge = (value << _LEVEL_BITS) - (1 << (_LEVEL_BITS - 1))
    total = np.int64(0)
    for i in range(N_MIXTURES):
        z = (np.int64(edge - m.centre[n, i]) * m.inverse_scale[n, i]) >> _INVERSE_BITS
        z = min(max(z, -_Z_LIMIT), _Z_LIMIT - 1) + _Z_LIMIT
        cell = z >> _Z_STEP_BITS
        fraction = z & ((1 << _Z_STEP_BITS) - 1)
        low = np.int64(m.logistic[cell])
        slope = m.logistic[cell + 1] - low
        total += m.weight[n, i] * (low + ((slope * fraction) >> _Z_STEP_BITS))
    return total >> (_LOGISTIC_BITS + _WEIGHT_BITS - _CDF_BITS)


@njit(cache=True, nogil=True, inline="always")
def _high_upto(m: Mixture, n: int, h: int) -> np.int64:
    """Sum of the first h entries of the table of high halves."""
    if h == 0:
        return np.int64(0)
    if h == HALF_VALUES:
        return np.int64(TABLE_TOTAL)
    cdf = _cdf(m, n, HALF_VALUES * h)
    return ((cdf * (TABLE_TOTAL - _FLOOR)) >> _CDF_BITS) + h * (_FLOOR // HALF_VALUES)


@njit(cache=True, nogil=True, inline="always")
def _span(m: Mixture, n: int, high: int) -> tuple[np.int64, np.int64]:
    """Probability of all values below those with this high half, and of these values."""
    first = HALF_VALUES * high
    start = _cdf(m, n, first) if first else np.int64(0)
    end = np.int64(1) << _CDF_BITS
    if first + HALF_VALUES < 256:
        end = _cdf(m, n, first + HALF_VALUES)
    return start, end - start


@njit(cache=True, nogil=True, inline="always")
def _low_upto(m: Mixture, n: int, high: int, start: np.int64, span: np.int64, h: int) -> np.int64:
    """Sum of the first h entries of the table of low halves, given the high half."""
    if h == 0:
        return np.int64(0)
    if h == HALF_VALUES:
        return np.int64(TABLE_TOTAL)
    if span > 0:
        share = _cdf(m, n, HALF_VALUES * high + h) - start
        upto = (share * (TABLE_TOTAL - _FLOOR)) // span
    else:
        upto = (np.int64(h) * (TABLE_TOTAL - _FLOOR)) >> 4
    return upto + h * (_FLOOR // HALF_VALUES)


@njit(cache=True, nogil=True)
def _high_tables(m: Mixture, out: NDArray[np.float32]) -> None:
    for n in range(out.shape[0]):
        below = np.int64(0)
        for h in range(HALF_VALUES):
            upto = _high_upto(m, n, h + 1)
            out[n, h] = upto - below
            below = upto


@njit(cache=True, nogil=True)
def _low_tables(m: Mixture, high: NDArray[np.int32], out: NDArray[np.float32]) -> None:
    for n in range(out.shape[0]):
        start, span = _span(m, n, high[n])
        below = np.int64(0)
        for h in range(HALF_VALUES):
            upto = _low_upto(m, n, high[n], start, span, h + 1)
            out[n, h] = upto - below
            below = upto


@njit(cache=True, nogil=True)
def _entries(m: Mixture, values: NDArray[np.int32], out: NDArray[np.int64]) -> None:
    for n in range(out.shape[0]):
        high, low = values[n] // HALF_VALUES, values[n] % HALF_VALUES
        out[n, 0] = _high_upto(m, n, high + 1) - _high_upto(m, n, high)
        start, span = _span(m, n, high)
        out[n, 1] = _low_upto(m, n, high, start, span, low + 1)
        out[n, 1] -= _low_upto(m, n, high, start, span, low)


def high_tables(m: Mixture) -> NDArray[np.float32]:
    """Tables of the high four bits: float32 (N, 16), integers that sum to ``TABLE_TOTAL``."""
    out = np.empty((m.weight.shape[0], HALF_VALUES), dtype=np.float32)
    _high_tables(m, out)
    return out


def low_tables(m: Mixture, high: NDArray[np.int32]) -> NDArray[np.float32]:
    """Tables of the low four bits given the high ones (N,): as :func:`high_tables`."""
    out = np.empty((m.weight.shape[0], HALF_VALUES), dtype=np.float32)
    _low_tables(m, high, out)
    return out


def code_length(m: Mixture, values: NDArray[np.int32]) -> float:
    """Bits that the range coder takes for values (N,) under distributions (N,)."""
    entries = np.empty((len(values), 2), dtype=np.int64)
    _entries(m, values, entries)
    return float(24 * entries.size - np.log2(entries + 1.0).sum())
