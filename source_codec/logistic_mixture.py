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

from source_codec.errors import ModelError
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES

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
_Z_BITS = 16  # argument of the logistic function in 2^-16
_Z_STEP_BITS = 10  # the table has a step of 1/64, between its entries values are interpolated
_Z_LIMIT = 12 << _Z_BITS
_Z_ENTRIES = (2 * _Z_LIMIT >> _Z_STEP_BITS) + 1
_SLOPE_SHIFT = 16
_LOGISTIC_ONE = (1 << 16) - 1
_WEIGHT_BITS = 15
_CDF_ONE = _LOGISTIC_ONE << _WEIGHT_BITS
MIN_OCTAVE = -6
MAX_OCTAVE = 8
_INVERSE_SHIFT = 8
_FACTOR_BITS = 32
_SCALE_ENTRIES = (MAX_OCTAVE - MIN_OCTAVE) * SCALE_STEPS + 1
# A log-scale of 0 means 8 input units; an input unit is 2^exponent / 16 gray levels.
_OCTAVE_OFFSET = -1
MAX_TEMPERATURE = 16


@dataclass(frozen=True)
class MixtureTables:
    """The transcendental functions, tabulated; part of the model and of its identity.

    Attributes:
        logistic: int32 (1537,), (2^16 - 1) / (1 + exp(-z)) for z = -12 to 12 in steps of 1/64, in
            the low 16 bits, and the difference to the next entry in the high ones.
        exponential: int32 (1024,), 2^15 exp(-i / 64).
        inverse_scale: int32 (225,), 2^17 / scale in gray levels, from 2^-6 to 2^8.
        temperature: int32 (33,), 64 * 2^(-i / 16) for i = -16 to 16, scales the logits.
    """

    logistic: NDArray[np.int32]
    exponential: NDArray[np.int32]
    inverse_scale: NDArray[np.int32]
    temperature: NDArray[np.int32]

    def __post_init__(self) -> None:
        sizes = (
            (self.logistic, _Z_ENTRIES, (1 << 31) - 1),
            (self.exponential, 1024, 1 << _WEIGHT_BITS),
            (self.inverse_scale, _SCALE_ENTRIES, 1 << 23),
            (self.temperature, 2 * MAX_TEMPERATURE + 1, 128),
        )
        for table, size, peak in sizes:
            if table.dtype != np.int32 or table.shape != (size,):
                raise ModelError("mixture table of wrong type or size")
            if table.min() < 0 or table.max() > peak:
                raise ModelError("mixture table entry out of range")
        values, slopes = self.logistic & _LOGISTIC_ONE, self.logistic >> _SLOPE_SHIFT
        if np.any(np.diff(values) != slopes[:-1]) or slopes[-1] or slopes.max() > 1 << 11:
            raise ModelError("logistic table is not monotone")
        if self.inverse_scale.min() < 1:
            raise ModelError("a scale is infinite")
        if self.exponential[0] != 1 << _WEIGHT_BITS:
            raise ModelError("exponential table does not start at one")

    def sharpness(self, temperature: int) -> int:
        """Factor on the logits at a temperature, in 1/64."""
        return int(self.temperature[temperature + MAX_TEMPERATURE])

    @classmethod
    def compute(cls) -> MixtureTables:
        """Tables as exported into a model file; a decoder reads them from the file."""
        z = np.arange(_Z_ENTRIES) / 64.0 - 12.0
        values = np.rint(_LOGISTIC_ONE / (1 + np.exp(-z))).astype(np.int32)
        octaves = MIN_OCTAVE + np.arange(_SCALE_ENTRIES) / SCALE_STEPS
        steps = np.arange(-MAX_TEMPERATURE, MAX_TEMPERATURE + 1) / SCALE_STEPS
        return cls(
            logistic=values | np.diff(values, append=values[-1]) << _SLOPE_SHIFT,
            exponential=np.rint((1 << _WEIGHT_BITS) * np.exp(-np.arange(1024) / 64)).astype(
                np.int32
            ),
            inverse_scale=np.rint(2.0 ** (17 - octaves)).astype(np.int32),
            temperature=np.rint(64 * 2.0**-steps).astype(np.int32),
        )


class Mixture(NamedTuple):
    """Mixtures of logistics of N sub-pixels, in integers.

    Attributes:
        weight: int32 (K, N), sums to 2^15 in every column.
        centre: int32 (K, N), in 1/128 gray level.
        inverse_scale: int32 (K, N), 2^17 / scale in gray levels.
        farthest: int32 (K, N), distance from the centre, in 1/128 gray level, beyond which the
            logistic function is taken as constant.
        logistic: the logistic table.
    """

    weight: NDArray[np.int32]
    centre: NDArray[np.int32]
    inverse_scale: NDArray[np.int32]
    farthest: NDArray[np.int32]
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
    farthest: NDArray[np.int32],
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
            weight[i, n] = exponential[min(below, 1023)]
            total += weight[i, n]
        rest = np.int64(1 << _WEIGHT_BITS)
        for i in range(k):
            share = (np.int64(weight[i, n]) << _WEIGHT_BITS) // total
            weight[i, n] = share
            rest -= share
        weight[best, n] += rest
        e = np.int64(exponent[n])
        for i in range(k):
            mean = min(max(parameters[n, k + i] + shift, np.int64(-(1 << 15))), np.int64(1 << 15))
            centre[i, n] = (np.int64(base[n]) << (_LEVEL_BITS - 4)) + (mean << e)
            octave = np.int64(parameters[n, 2 * k + i]) + temperature
            octave += SCALE_STEPS * (e + _OCTAVE_OFFSET - MIN_OCTAVE)
            octave = min(max(octave, np.int64(0)), np.int64(_SCALE_ENTRIES - 1))
            inverse[i, n] = inverse_table[octave]
            farthest[i, n] = (_Z_LIMIT << _INVERSE_SHIFT) // inverse_table[octave] + 1


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
    weight, centre, inverse_scale, farthest = np.empty(
        (4, N_MIXTURES, len(parameters)), dtype=np.int32
    )
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
        farthest,
    )
    return Mixture(weight, centre, inverse_scale, farthest, tables.logistic)


@njit(cache=True, nogil=True)
def _cumulate(
    m: Mixture,
    rows: slice,
    edges: NDArray[np.int32],
    place: NDArray[np.int32],
    cdf: NDArray[np.int32],
) -> None:
    """Adds to ``cdf`` the probability of all values below an edge, for some rows of a mixture.

    In units of 1 / :data:`_CDF_ONE`. All arithmetic is in 32 bits and runs along the rows, which
    compiles to vector instructions; looking up the table is a loop of its own, since it does not.

    Args:
        m: the mixture.
        rows: its rows.
        edges: int32, in 1/128 gray level, one per row.
        place, cdf: int32, one per row: scratch, and the result.
    """
    limit = np.int32(_Z_LIMIT)
    for i in range(N_MIXTURES):
        centre, inverse, farthest = m.centre[i, rows], m.inverse_scale[i, rows], m.farthest[i, rows]
        weight = m.weight[i, rows]
        fraction = np.empty_like(place)
        for n in range(edges.shape[0]):
            distance = np.int32(edges[n] - centre[n])
            distance = min(max(distance, np.int32(-farthest[n])), farthest[n])
            z = np.int32(np.int32(distance * inverse[n]) >> np.int32(_INVERSE_SHIFT))
            z = np.int32(min(max(z, np.int32(-limit)), limit) + limit)
            place[n] = z >> np.int32(_Z_STEP_BITS)
            fraction[n] = z & np.int32((1 << _Z_STEP_BITS) - 1)
        for n in range(edges.shape[0]):
            place[n] = m.logistic[np.uint32(place[n])]
        for n in range(edges.shape[0]):
            slope = np.int32(place[n] >> np.int32(_SLOPE_SHIFT))
            rise = np.int32(np.int32(slope * fraction[n]) >> np.int32(_Z_STEP_BITS))
            value = np.int32(np.int32(place[n] & np.int32(_LOGISTIC_ONE)) + rise)
            cdf[n] = np.int32(cdf[n] + np.int32(weight[n] * value))


@njit(cache=True, nogil=True)
def _fill_tables(cdfs: NDArray[np.int32], tables: NDArray[np.float32]) -> None:
    """Entries in proportion to the steps of the cdfs (17, N), each at least the floor."""
    for n in range(tables.shape[0]):
        first = np.int64(cdfs[0, n])
        span = cdfs[HALF_VALUES, n] - first
        below = np.int64(0)
        if span > 0:
            # One division for all entries; what is left to its rounding goes to the last one.
            factor = (np.int64(TABLE_TOTAL - _FLOOR) << _FACTOR_BITS) // span
            for h in range(HALF_VALUES - 1):
                upto = ((cdfs[h + 1, n] - first) * factor) >> _FACTOR_BITS
                tables[n, h] = upto - below + _FLOOR // HALF_VALUES
                below = upto
        else:
            for h in range(HALF_VALUES - 1):
                upto = (np.int64(h + 1) * (TABLE_TOTAL - _FLOOR)) // HALF_VALUES
                tables[n, h] = upto - below + _FLOOR // HALF_VALUES
                below = upto
        tables[n, HALF_VALUES - 1] = TABLE_TOTAL - _FLOOR - below + _FLOOR // HALF_VALUES


_TILE = 256  # rows handled together: their intermediate results stay in the cache


@njit(cache=True, nogil=True)
def _high_tables(m: Mixture, cdfs: NDArray[np.int32], tables: NDArray[np.float32]) -> None:
    for start in range(0, tables.shape[0], _TILE):
        rows = slice(start, min(start + _TILE, tables.shape[0]))
        count = rows.stop - rows.start
        edges, place = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int32)
        cdfs[0, rows] = 0
        cdfs[HALF_VALUES, rows] = _CDF_ONE
        for h in range(1, HALF_VALUES):
            edges[:] = ((HALF_VALUES * h) << _LEVEL_BITS) - (1 << (_LEVEL_BITS - 1))
            cdfs[h, rows] = 0
            _cumulate(m, rows, edges, place, cdfs[h, rows])
        _fill_tables(cdfs[:, rows], tables[rows])


@njit(cache=True, nogil=True)
def _low_tables(
    m: Mixture,
    high_cdfs: NDArray[np.int32],
    high: NDArray[np.int32],
    tables: NDArray[np.float32],
) -> None:
    for start in range(0, tables.shape[0], _TILE):
        rows = slice(start, min(start + _TILE, tables.shape[0]))
        count = rows.stop - rows.start
        edges, place = np.empty(count, dtype=np.int32), np.empty(count, dtype=np.int32)
        cdfs = np.zeros((HALF_VALUES + 1, count), dtype=np.int32)
        for n in range(count):
            cdfs[0, n] = high_cdfs[high[start + n], start + n]
            cdfs[HALF_VALUES, n] = high_cdfs[high[start + n] + 1, start + n]
            edges[n] = ((HALF_VALUES * high[start + n]) << _LEVEL_BITS) - (1 << (_LEVEL_BITS - 1))
        for h in range(1, HALF_VALUES):
            for n in range(count):
                edges[n] += np.int32(1 << _LEVEL_BITS)
            _cumulate(m, rows, edges, place, cdfs[h])
        _fill_tables(cdfs, tables[rows])


class HighTables(NamedTuple):
    """Tables of the high four bits of N sub-pixels.

    Attributes:
        tables: float32 (N, 16), integers that sum to ``TABLE_TOTAL``.
        cdfs: int32 (17, N), the probabilities that they were made from.
    """

    tables: NDArray[np.float32]
    cdfs: NDArray[np.int32]


def high_tables(m: Mixture) -> HighTables:
    """Tables of the high four bits."""
    n = m.weight.shape[1]
    result = HighTables(
        np.empty((n, HALF_VALUES), dtype=np.float32),
        np.empty((HALF_VALUES + 1, n), dtype=np.int32),
    )
    _high_tables(m, result.cdfs, result.tables)
    return result


def low_tables(
    m: Mixture, high_cdfs: NDArray[np.int32], high: NDArray[np.int32]
) -> NDArray[np.float32]:
    """Tables of the low four bits given the high ones (N,): as :class:`HighTables`."""
    out = np.empty((m.weight.shape[1], HALF_VALUES), dtype=np.float32)
    _low_tables(m, high_cdfs, high, out)
    return out


def code_length(m: Mixture, values: NDArray[np.int32]) -> float:
    """Bits that the range coder takes for values (N,) under distributions (N,)."""
    rows = np.arange(len(values))
    high, low = values // HALF_VALUES, values % HALF_VALUES
    tables, cdfs = high_tables(m)
    entries = np.stack([tables[rows, high], low_tables(m, cdfs, high)[rows, low]])
    return float(24 * entries.size - np.log2(entries.astype(np.float64) + 1.0).sum())
