"""Exact integer probabilities from mixtures of logistics.

The network gives, for each sub-pixel, K logits, means and log-scales as integers. This module turns
them into intervals for the range coder without any floating-point function: the logistic function,
the exponentials and the inverse scales are integer tables that belong to the model file.

A value 0 to 255 owns the units from ``start(value)`` up to ``start(value + 1)`` of the 2^24 units
that the range coder divides. The starts follow the cumulative distribution, plus the same small
share for every value, so that none is impossible. They are computed where they are needed only: the
encoder takes two of them a value, the decoder looks for the value from the mean on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.errors import CorruptStream, ModelError
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES
from source_codec.range_coder import PRECISION, TOTAL, RangeDecoders, narrowed, unit_at

VALUES = 256
_SHARE = TOTAL // VALUES >> FLOOR_BITS
"""Units that each value has at least: a uniform distribution is mixed in with a weight of 2^-12."""

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
_HALF_LEVEL = 1 << (_LEVEL_BITS - 1)
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
# From the cumulative distribution to units; rounded up, so that all of it gives all of them.
_FACTOR = (((TOTAL - VALUES * _SHARE) << _FACTOR_BITS) + _CDF_ONE - 1) // _CDF_ONE
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

    @cached_property
    def farthest(self) -> NDArray[np.int32]:
        """For each scale, the distance beyond which the logistic function is taken as constant."""
        reach = (_Z_LIMIT << _INVERSE_SHIFT) // self.inverse_scale.astype(np.int64) + 1
        return reach.astype(np.int32)

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


_TILE = 256  # rows handled together: their intermediate results stay in the cache


# Without checks for division by zero, which would rule out vector instructions.
@njit(cache=True, nogil=True, error_model="numpy")
def _mixture_of_tile(
    parameters: NDArray[np.int32],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    residual: NDArray[np.int32],
    temperature: int,
    gain: int,
    exponential: NDArray[np.int32],
    inverse_table: NDArray[np.int32],
    farthest_table: NDArray[np.int32],
    out: NDArray[np.int32],
    rows: slice,
) -> None:
    k = N_MIXTURES
    count = parameters.shape[0]
    outputs = 3 * k + residual.shape[1]
    columns = np.empty((outputs, count), dtype=np.int32)
    for n in range(count):
        for o in range(outputs):
            columns[o, n] = parameters[n, o]
    peak, best = columns[0].copy(), np.zeros(count, dtype=np.int32)
    for i in range(1, k):
        logit = columns[i]
        for n in range(count):
            best[n] = np.int32(i) if logit[n] > peak[n] else best[n]
            peak[n] = max(peak[n], logit[n])
    place, total = np.empty(count, dtype=np.uint32), np.zeros(count, dtype=np.int32)
    for i in range(k):
        logit, row = columns[i], out[0, i, rows]
        for n in range(count):
            # Beyond 2^12 the exponential's table ends at any temperature.
            below = min(np.int32(peak[n] - logit[n]), np.int32(1 << 12))
            place[n] = min(np.int32(below * np.int32(gain)) >> np.int32(LOGIT_BITS), np.int32(1023))
        for n in range(count):
            row[n] = exponential[place[n]]
        for n in range(count):
            total[n] += row[n]
    rest = np.full(count, 1 << _WEIGHT_BITS, dtype=np.int32)
    for i in range(k):
        row = out[0, i, rows]
        for n in range(count):
            # Floors of quotients of integers below 2^31: exact in float64.
            row[n] = np.int32(np.float64(row[n] << _WEIGHT_BITS) / np.float64(total[n]))
            rest[n] -= row[n]
    for i in range(k):
        row = out[0, i, rows]
        for n in range(count):
            row[n] += rest[n] if best[n] == i else np.int32(0)
    shift = np.full(count, _HALF_MEAN_UNIT, dtype=np.int64)
    for c in range(residual.shape[1]):
        for n in range(count):
            shift[n] += np.int64(columns[3 * k + c, n]) * residual[n, c]
    limit = np.int64(1 << 15)
    for i in range(k):
        means, row = columns[k + i], out[1, i, rows]
        for n in range(count):
            mean = means[n] + (shift[n] >> (COEFFICIENT_BITS - MEAN_BITS))
            mean = min(max(mean, -limit), limit)
            row[n] = (base[n] << (_LEVEL_BITS - 4)) + (np.int32(mean) << exponent[n])
    for i in range(k):
        scales, row, far = columns[2 * k + i], out[2, i, rows], out[3, i, rows]
        for n in range(count):
            octave = np.int32(scales[n] + np.int32(temperature))
            octave += np.int32(SCALE_STEPS) * (exponent[n] + np.int32(_OCTAVE_OFFSET - MIN_OCTAVE))
            place[n] = min(max(octave, np.int32(0)), np.int32(_SCALE_ENTRIES - 1))
        for n in range(count):
            row[n] = inverse_table[place[n]]
            far[n] = farthest_table[place[n]]


@njit(cache=True, nogil=True)
def _mixture(
    parameters: NDArray[np.int32],
    base: NDArray[np.int32],
    exponent: NDArray[np.int32],
    residual: NDArray[np.int32],
    temperature: int,
    gain: int,
    exponential: NDArray[np.int32],
    inverse_table: NDArray[np.int32],
    farthest_table: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    """:func:`mixture`, into the first four arrays of a :class:`Mixture`, as int32 (4, K, N).

    A tile of rows at a time. Vector instructions run along the rows; table look-ups are loops of
    their own.
    """
    for start in range(0, parameters.shape[0], _TILE):
        rows = slice(start, min(start + _TILE, parameters.shape[0]))
        _mixture_of_tile(
            parameters[rows],
            base[rows],
            exponent[rows],
            residual[rows],
            temperature,
            gain,
            exponential,
            inverse_table,
            farthest_table,
            out,
            rows,
        )


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
        parameters: int32 (N, 15 + c or more) from ``IntegerNetwork.head``.
        base: int32 (N,) base prediction of this channel in 1/16 gray level.
        exponent: int32 (N,), 0 to 6.
        residual: int32 (N, c) true residuals of the channels already coded.
        temperature: calibration, in 1/16 octave, -16 to 16; positive widens.
        tables: the model's tables.
    """
    parts = np.empty((4, N_MIXTURES, len(parameters)), dtype=np.int32)
    _mixture(
        parameters,
        base,
        exponent,
        residual,
        temperature,
        tables.sharpness(temperature),
        tables.exponential,
        tables.inverse_scale,
        tables.farthest,
        parts,
    )
    weight, centre, inverse_scale, farthest = parts
    return Mixture(weight, centre, inverse_scale, farthest, tables.logistic)


@njit(cache=True, nogil=True)
def _starts(m: Mixture, first: int, values: NDArray[np.int32], out: NDArray[np.int32]) -> None:
    """First units of values (N,), 0 to 256, under the distributions from row ``first`` on.

    N is at most :data:`_TILE`. All arithmetic on the distributions is in 32 bits and runs along the
    rows, which compiles to vector instructions; looking up the table is a loop of its own, since it
    does not.
    """
    count = values.shape[0]
    cdf, fraction = np.zeros(count, dtype=np.int32), np.empty(count, dtype=np.int32)
    place, entry = np.empty(count, dtype=np.uint32), np.empty(count, dtype=np.int32)
    limit = np.int32(_Z_LIMIT)
    for i in range(N_MIXTURES):
        rows = slice(first, first + count)
        centre, inverse, farthest = m.centre[i, rows], m.inverse_scale[i, rows], m.farthest[i, rows]
        weight = m.weight[i, rows]
        for n in range(count):
            edge = np.int32(np.int32(values[n] << np.int32(_LEVEL_BITS)) - np.int32(_HALF_LEVEL))
            distance = np.int32(edge - centre[n])
            distance = min(max(distance, np.int32(-farthest[n])), farthest[n])
            z = np.int32(np.int32(distance * inverse[n]) >> np.int32(_INVERSE_SHIFT))
            z = np.int32(min(max(z, np.int32(-limit)), limit) + limit)
            place[n] = np.uint32(z >> np.int32(_Z_STEP_BITS))
            fraction[n] = z & np.int32((1 << _Z_STEP_BITS) - 1)
        for n in range(count):
            entry[n] = m.logistic[place[n]]
        for n in range(count):
            slope = np.int32(entry[n] >> np.int32(_SLOPE_SHIFT))
            rise = np.int32(np.int32(slope * fraction[n]) >> np.int32(_Z_STEP_BITS))
            value = np.int32(np.int32(entry[n] & np.int32(_LOGISTIC_ONE)) + rise)
            cdf[n] = np.int32(cdf[n] + np.int32(weight[n] * value))
    for n in range(count):
        below = np.int64(cdf[n])
        if values[n] <= 0:
            below = np.int64(0)
        if values[n] >= VALUES:
            below = np.int64(_CDF_ONE)
        out[n] = (below * _FACTOR >> _FACTOR_BITS) + values[n] * _SHARE


@njit(cache=True, nogil=True)
def _intervals(
    m: Mixture, values: NDArray[np.int32], first: NDArray[np.int32], size: NDArray[np.int32]
) -> None:
    for start in range(0, values.shape[0], _TILE):
        rows = slice(start, min(start + _TILE, values.shape[0]))
        _starts(m, start, values[rows], first[rows])
        _starts(m, start, values[rows] + np.int32(1), size[rows])
        for n in range(rows.start, rows.stop):
            size[n] -= first[n]


class Intervals(NamedTuple):
    """What N values own of the range coder's 2^24 units.

    Attributes:
        first: int32 (N,), the first unit.
        size: int32 (N,), how many.
    """

    first: NDArray[np.int32]
    size: NDArray[np.int32]


def intervals(m: Mixture, values: NDArray[np.int32]) -> Intervals:
    """The intervals of values (N,) under distributions (N,)."""
    result = Intervals(np.empty_like(values), np.empty_like(values))
    _intervals(m, values, *result)
    return result


@njit(cache=True, nogil=True, inline="always")
def _start(m: Mixture, n: int, value: int) -> int:
    """:func:`_starts` of one value, 1 to 255."""
    edge = (value << _LEVEL_BITS) - _HALF_LEVEL
    cdf = np.int64(0)
    for i in range(N_MIXTURES):
        farthest = np.int64(m.farthest[i, n])
        distance = min(max(edge - m.centre[i, n], -farthest), farthest)
        z = (distance * m.inverse_scale[i, n]) >> _INVERSE_SHIFT
        z = min(max(z, -_Z_LIMIT), _Z_LIMIT) + _Z_LIMIT
        entry = np.int64(m.logistic[np.uint64(z >> _Z_STEP_BITS)])
        rise = ((entry >> _SLOPE_SHIFT) * (z & ((1 << _Z_STEP_BITS) - 1))) >> _Z_STEP_BITS
        cdf += m.weight[i, n] * ((entry & _LOGISTIC_ONE) + rise)
    return (cdf * _FACTOR >> _FACTOR_BITS) + value * _SHARE  # type: ignore[return-value]


_SHARES = (np.arange(256) + 0.5) / 256
_QUANTILES = np.log(_SHARES / (1 - _SHARES)).astype(np.float32)
"""The logistic distribution's quantiles, in its scale."""
_QUANTILE_SHIFT = PRECISION - 8
_DECODED_TOGETHER = 128  # rows; their distributions stay in the nearest cache


@njit(cache=True, nogil=True)
def _take_rows(m: Mixture, first: int, count: int, rows: Mixture) -> None:
    """Copies distributions from a row on. In the whole mixture, what belongs to one row often lies
    a power of two apart, where it finds few places in the cache."""
    for i in range(N_MIXTURES):
        for taken, whole in (
            (rows.weight[i], m.weight[i]),
            (rows.centre[i], m.centre[i]),
            (rows.inverse_scale[i], m.inverse_scale[i]),
            (rows.farthest[i], m.farthest[i]),
        ):
            part = whole[first : first + count]
            for n in range(count):
                taken[n] = part[n]


# Without checks for division by zero, which would rule out vector instructions.
@njit(cache=True, nogil=True, error_model="numpy")
def _means_and_scales(m: Mixture, means: NDArray[np.float32], scales: NDArray[np.float32]) -> None:
    """Means of the first rows' mixtures and of their components' scales, in gray levels, about."""
    means[:] = np.float32(0)
    scales[:] = np.float32(0)
    for i in range(N_MIXTURES):
        weight, centre, inverse = m.weight[i], m.centre[i], m.inverse_scale[i]
        for n in range(means.shape[0]):
            share = np.float32(weight[n]) * np.float32(2.0**-_WEIGHT_BITS)
            means[n] += share * np.float32(centre[n]) * np.float32(2.0**-_LEVEL_BITS)
            scales[n] += share * np.float32(2.0**17) / np.float32(inverse[n])


@njit(cache=True, nogil=True)
def _decode(
    m: Mixture,
    state: NDArray[np.uint64],
    words: NDArray[np.uint32],
    first_row: int,
    values: NDArray[np.int32],
) -> bool:
    """Decodes values; false if the words are not an encoder's."""
    position, width, read = state[0], state[1], np.int64(state[2])
    means, scales = np.empty((2, _DECODED_TOGETHER), dtype=np.float32)
    parts = np.empty((4, N_MIXTURES, _DECODED_TOGETHER), dtype=np.int32)
    rows = Mixture(parts[0], parts[1], parts[2], parts[3], m.logistic)
    for start in range(0, values.shape[0], _DECODED_TOGETHER):
        count = min(values.shape[0] - start, _DECODED_TOGETHER)
        _take_rows(m, first_row + start, count, rows)
        _means_and_scales(rows, means[:count], scales[:count])
        for n in range(count):
            unit = unit_at(position, width)
            if unit >= TOTAL:
                return False
            # The value lies in [low, high). From where a single logistic of that mean and scale
            # would have it, in steps that double, and where the other end is nearer, halving.
            guess = means[n] + scales[n] * _QUANTILES[unit >> _QUANTILE_SHIFT]
            probe = int(min(max(guess + np.float32(0.5), np.float32(1)), np.float32(255)))
            low, high, first, end, step = 0, VALUES, np.int64(0), np.int64(TOTAL), 1
            while high - low > 1:
                below = _start(rows, n, probe)
                if below <= unit:
                    low, first = probe, below
                    probe = min(low + step, (low + high) >> 1)
                else:
                    high, end = probe, below
                    probe = max(high - step, (low + high) >> 1)
                step *= 2
            values[start + n] = low
            position, width, read = narrowed(position, width, read, words, first, end - first)
    state[0], state[1], state[2] = position, width, np.uint64(read)
    return True


@njit(cache=True, nogil=True)
def _decode_runs(
    m: Mixture,
    states: NDArray[np.uint64],
    words: NDArray[np.uint32],
    bounds: NDArray[np.int64],
    messages: NDArray[np.int32],
    starts: NDArray[np.int32],
    values: NDArray[np.int32],
) -> bool:
    for run in range(messages.shape[0]):
        message, first = messages[run], starts[run]
        own = words[bounds[message] : bounds[message + 1]]
        if not _decode(m, states[message], own, first, values[first : starts[run + 1]]):
            return False
    return True


def decode_values(
    m: Mixture,
    decoders: RangeDecoders,
    messages: NDArray[np.int32],
    starts: NDArray[np.int32],
) -> NDArray[np.int32]:
    """Reads N values under distributions (N,), in U runs, each out of one message.

    Args:
        m: the distributions.
        decoders: of the messages.
        messages: int32 (U,), the message of each run.
        starts: int32 (U + 1,): run u is rows ``starts[u]`` up to ``starts[u + 1]``.

    Returns:
        int32 (N,).

    Raises:
        CorruptStream: no encoder wrote the decoders' words.
    """
    values = np.empty(m.weight.shape[1], dtype=np.int32)
    states, words, bounds = decoders.states, decoders.words, decoders.bounds
    if not _decode_runs(m, states, words, bounds, messages, starts, values):
        raise CorruptStream("the payload is not a valid range-coder stream")
    return values


def code_length(m: Mixture, values: NDArray[np.int32]) -> float:
    """Bits that the range coder takes for values (N,) under distributions (N,)."""
    sizes = intervals(m, values).size
    return float(PRECISION * len(values) - np.log2(sizes.astype(np.float64)).sum())
