"""Backward calibration: the last layer of the network follows the image, without side information.

After each block both ends know the true values of what was just coded. The output layer of each
head is a linear map from hidden activations (and the nearest pixels) to mixture parameters; both
ends improve it by the same step of online natural gradient descent on the code length:

    W <- W - (A + d I)^-1 G / (V (n + n0))

with G the summed gradient of a block, A the second moments of the map's inputs (of every eighth
pixel), V those of the gradient by each output, n the pixels seen (old ones are slowly forgotten), d
a damping and n0 the weight of the trained W against what the image says. A block is coded with what
was learned up to the block before the last, so that two blocks can be worked on at the same time.

Exactness: whatever sums over pixels or inputs is an integer. The inputs are the network's own 8-bit
activations; weights and gradients are rounded to 15 bits, with a power of two for each output. What
is left is float32 and float64 arithmetic with +, -, x, / in a fixed order, rounded as IEEE 754
prescribes: the gradient of each pixel and the step. There is no library function (the exponential
is a polynomial) and none of the kernels is compiled with relaxed floating point.
"""

from __future__ import annotations

import math
import threading
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec import layer_ends
from source_codec.features import ONE
from source_codec.integer_network import IntegerLayer
from source_codec.integer_products import COLUMNS, VECTOR, multiply, padded_to, product_kernel
from source_codec.logistic_mixture import Mixture
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES, ZERO_POINT
from source_codec.vectors import SHORTS, first_pairs, last_pairs, load, store
from source_codec.window import LANES, Window

DELAY = 2
"""A block is coded with what was learned up to this many blocks before. Part of the format."""
PRIOR_PIXELS = 40000.0
DAMPING = 0.1
MEMORY = 0.99
"""What is kept of the statistics at each block."""
MOMENT_SHARE = 8
"""The inputs' second moments are those of one pixel of so many."""
FACTOR_BLOCKS = 4
"""The inputs' second moments change slowly: their matrix is factorised after each of a head's first
blocks, and then after one of this many."""
_CODE_BITS = 14  # magnitude of rounded weights and gradients
_MOST_SHIFT = 24
_LARGEST_WEIGHT = float(1 << 18)
_ROWS = 64  # pixels handled together, so that they stay in the cache
_EXACT_ROWS = 1 << 9  # sums over so many products of codes and inputs stay below 2^31
_INT32_MAX = np.int32((1 << 31) - 1)
_INFINITE = np.int32(0xFF << 23)  # the bits of an infinite float32


@njit(cache=True, nogil=True)
def _near_inputs(
    inputs: NDArray[np.uint8], nearest: NDArray[np.int64], out: NDArray[np.int16]
) -> None:
    zero = np.int16(ZERO_POINT)
    for n in range(inputs.shape[0]):
        row, to = inputs[n], out[n]
        if out.shape[1] == nearest.shape[0]:
            for p in range(nearest.shape[0]):
                to[p] = np.int16(row[LANES * nearest[p]]) - zero
        else:
            for p in range(nearest.shape[0]):
                first = LANES * nearest[p]
                to[3 * p] = np.int16(row[first]) - zero
                to[3 * p + 1] = np.int16(row[first + 1]) - zero
                to[3 * p + 2] = np.int16(row[first + 2]) - zero


def near_inputs(inputs: NDArray[np.uint8], window: Window, gray: bool) -> NDArray[np.int16]:
    """The twelve nearest pixels (N, 36) among the inputs (N, I) of :func:`features.extract`.

    Of gray images one number each (N, 12), of others all three channels.
    """
    near = np.empty((len(inputs), len(window.nearest) * (1 if gray else 3)), dtype=np.int16)
    _near_inputs(inputs, window.nearest, near)
    return near


@njit(cache=True, nogil=True)
def _pack_rows(rows: NDArray[np.int16], pairs: NDArray[np.int32], first: int) -> None:
    """Rows (n, w), n even, as :func:`integer_products.packed` gives them, from a pair of rows on.

    Two elements are one int32 here, as processors have them whose lower bytes come first (others
    fail the self-test): int32 (w / lanes, at least first + n / 2, lanes).
    """
    width = rows.shape[1]
    elements, to, stride = rows.reshape(-1), pairs.reshape(-1), VECTOR * pairs.shape[1]
    for pair in range(rows.shape[0] // 2):
        even, at = 2 * pair * width, VECTOR * (first + pair)
        for i in range(0, width, SHORTS):
            above, below = load(elements, even + i), load(elements, even + width + i)
            place = i // VECTOR * stride + i % VECTOR + at
            store(to, place, first_pairs(above, below))
            place = (i + 8) // VECTOR * stride + (i + 8) % VECTOR + at
            store(to, place, last_pairs(above, below))


_to_parameters = product_kernel(layer_ends.adapted_parameters)


@njit(cache=True, nogil=True)
def _apply(
    hidden: NDArray[np.uint8],
    near: NDArray[np.int16],
    codes: NDArray[np.int16],
    low_bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    high_bias: NDArray[np.int32],
    out: NDArray[np.int32],
    pairs: NDArray[np.int32],
    sample: NDArray[np.int16],
) -> None:
    """What a linear map gives (N, whole tiles), and its inputs; see :meth:`_Linear.parameters`.

    A few pixels at a time, whose inputs are put together in the cache.
    """
    count, nearest, width = hidden.shape[0], near.shape[1], 2 * codes.shape[1]
    rows = np.zeros((_ROWS, width), dtype=np.int16)
    rows[:, nearest] = ONE
    for start in range(0, count, _ROWS):
        stop = min(start + _ROWS, count)
        for n in range(start, stop):
            row = rows[n - start]
            for i in range(nearest):
                row[i] = near[n, i]
            activations = row[nearest + 1 :]
            for i in range(hidden.shape[1]):
                activations[i] = hidden[n, i]
        if (stop - start) % 2:
            rows[stop - start] = 0
        _to_parameters(rows[: stop - start], codes, out[start:stop], (low_bias, shift, high_bias))
        _pack_rows(rows[: (stop - start + 1) // 2 * 2], pairs, start // 2)
        for n in range(start, stop, MOMENT_SHARE):
            row, to = rows[n - start], sample[n // MOMENT_SHARE]
            for i in range(width):
                to[i] = row[i]


class MapInputs(NamedTuple):
    """A map's inputs for a block of N pixels.

    Attributes:
        packed: int16, inputs (N, d) padded with zeros to an even number of rows and whole tiles of
            columns, as :func:`integer_products.packed` gives them, and more rows of zeros.
        sample: int16 (n, w), those of every eighth pixel, w padded alike.
    """

    packed: NDArray[np.int16]
    sample: NDArray[np.int16]


@dataclass(frozen=True)
class _Linear:
    """A linear map in integers, from inputs in 1/32 to parameters.

    Inputs are the nearest pixels, a one and the hidden activations, 0 to 255.

    Attributes:
        codes: the weights (d, o) times ``2^shift``, as :func:`integer_products.packed` has them.
        low_bias: int32 (o, up to whole tiles), the bias and half a unit, as far as they are below
            one unit, times ``2^shift``.
        shift: int32 (o, up to whole tiles).
        high_bias: int32 (o, up to whole tiles), the rest of the bias, in units.
    """

    codes: NDArray[np.int16]
    low_bias: NDArray[np.int32]
    shift: NDArray[np.int32]
    high_bias: NDArray[np.int32]

    @classmethod
    def rounded(cls, weight: NDArray[np.float64], near: int) -> _Linear:
        """From weights (d, o); the row after those of the ``near`` pixels is the bias."""
        depth, outputs = weight.shape
        width, columns = padded_to(depth, COLUMNS), padded_to(outputs, COLUMNS)
        codes = np.zeros((columns // VECTOR, width // 2, VECTOR, 2), dtype=np.int16)
        low_bias, shift, high_bias = np.zeros((3, columns), dtype=np.int32)
        _round(weight, near, codes, low_bias, shift, high_bias)
        return cls(codes, low_bias, shift, high_bias)

    def parameters(
        self, hidden: NDArray[np.uint8], near: NDArray[np.int16]
    ) -> tuple[NDArray[np.int32], MapInputs]:
        """Parameters (N, whole tiles) for hidden activations and the nearest pixels, and the map's
        inputs."""
        count = len(hidden)
        out = np.empty((count, len(self.shift)), dtype=np.int32)
        vectors = 2 * self.codes.shape[1] // VECTOR
        # Two pairs more, for vectors a power of two apart would share few places in the cache.
        pairs = np.empty((vectors, (count + 1) // 2 + 2, VECTOR), dtype=np.int32)
        pairs[:, -2:] = 0
        width = vectors * VECTOR
        sample = np.empty((-(-count // MOMENT_SHARE), width), dtype=np.int16)
        _apply(
            hidden,
            near,
            self.codes,
            self.low_bias,
            self.shift,
            self.high_bias,
            out,
            pairs,
            sample,
        )
        return out, MapInputs(pairs.view(np.int16).reshape(*pairs.shape, 2), sample)


@njit(cache=True, nogil=True)
def _round(
    weight: NDArray[np.float64],
    near: int,
    codes: NDArray[np.int16],
    low_bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    high_bias: NDArray[np.int32],
) -> None:
    """The parts of a :class:`_Linear`, which are zeros before."""
    depth, outputs = weight.shape
    for o in range(outputs):
        peak = 0.0
        for i in range(depth):
            if i != near:
                peak = max(peak, abs(weight[i, o] / ONE))
        # Brings magnitudes up to the peak below 2^14.
        down = min(max(_CODE_BITS - math.frexp(peak)[1], 0), _MOST_SHIFT)
        power = math.ldexp(1.0, down)
        bias = np.int64(np.floor(weight[near, o] * power + 0.5)) + ((1 << down) >> 1)
        shift[o] = down
        low_bias[o] = bias & ((1 << down) - 1)
        high_bias[o] = bias >> down
        for i in range(depth):
            if i != near:
                code = np.int16(np.floor(weight[i, o] / ONE * power + 0.5))
                codes[o // VECTOR, i // 2, o % VECTOR, i % 2] = code


_LARGEST_Z = np.float32(43)
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.6931471805599453)
_ROOT_HALF = np.float32(0.7071067811865476)


@njit(cache=True, nogil=True, inline="always")
def _octaves(z: np.float32) -> np.float32:
    """-log2 of exp(-z) for z >= 0; beyond 43 as at 43."""
    return min(z, _LARGEST_Z) * _LOG2_E


@njit(cache=True, nogil=True, inline="always")
def _fraction_power(octaves: np.float32) -> np.float32:
    """2^-f for the fraction f of octaves, within 3e-7 of its value.

    A Taylor polynomial of half an octave to either side.
    """
    fraction = octaves - np.float32(np.int32(octaves))
    u = (fraction - np.float32(0.5)) * -_LN_2
    series = np.float32(1 / 720)
    series = series * u + np.float32(1 / 120)
    series = series * u + np.float32(1 / 24)
    series = series * u + np.float32(1 / 6)
    series = series * u + np.float32(1 / 2)
    series = series * u + np.float32(1)
    series = series * u + np.float32(1)
    return series * _ROOT_HALF


@njit(cache=True, nogil=True, inline="always")
def _whole_power(octaves: np.float32) -> np.int32:
    """2^-k for the whole octaves k, at most 62: the bits of a float32."""
    return np.int32(np.int32(127) - np.int32(octaves)) << np.int32(23)


_TILE = 256  # pixels handled together: their intermediate results stay in the cache


# Without checks for division by zero, which would rule out vector instructions.
@njit(cache=True, nogil=True, error_model="numpy")
def _gradient(
    m: Mixture,
    values: NDArray[np.int32],
    residual: NDArray[np.int32],
    exponent: NDArray[np.int32],
    sharpness: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Gradient (15 + c, N) of the code length in nats by the parameters' integers.

    Every loop runs along pixels, for vector instructions.
    """
    k = N_MIXTURES
    floor = np.float32(2.0**-FLOOR_BITS)
    rest = np.float32(1) - floor
    one, zero = np.float32(1), np.float32(0)
    mass = np.empty((k, _TILE), dtype=np.float32)
    total, shift, factor = np.empty((3, _TILE), dtype=np.float32)
    near_below, near_above, decay_below, decay_above = np.empty((4, _TILE), dtype=np.float32)
    bits_below, bits_above = np.empty((2, _TILE), dtype=np.int32)
    power_below, power_above = bits_below.view(np.float32), bits_above.view(np.float32)
    for first in range(0, values.shape[0], _TILE):
        rows = slice(first, min(first + _TILE, values.shape[0]))
        value, scale = values[rows], exponent[rows]
        count = value.shape[0]
        total[:] = zero
        for i in range(k):
            centre, inverse, weight = m.centre[i, rows], m.inverse_scale[i, rows], m.weight[i, rows]
            masses = mass[i]
            by_mean, by_scale = out[k + i, rows], out[2 * k + i, rows]
            for n in range(count):
                slope = np.float32(inverse[n]) * np.float32(2.0**-24)
                start = np.int32(
                    np.int32(np.int32(value[n] << np.int32(7)) - np.int32(64)) - centre[n]
                )
                z_below = np.float32(start) * slope
                z_above = np.float32(np.int32(start + np.int32(128))) * slope
                near_below[n], near_above[n] = z_below, z_above
                octaves_below, octaves_above = _octaves(abs(z_below)), _octaves(abs(z_above))
                decay_below[n] = _fraction_power(octaves_below)
                decay_above[n] = _fraction_power(octaves_above)
                bits_below[n] = _whole_power(octaves_below)
                bits_above[n] = _whole_power(octaves_above)
            for n in range(count):
                slope = np.float32(inverse[n]) * np.float32(2.0**-24)
                unit = np.float32(np.int32(np.int32(1) << scale[n]))
                z_below, z_above = near_below[n], near_above[n]
                tail_below = decay_below[n] * power_below[n]
                tail_above = decay_above[n] * power_above[n]
                # Tails of the logistic function on both sides of the value, from the nearer end:
                # the difference of two small numbers keeps its digits.
                flipped = z_below + z_above > zero
                inverse_below, inverse_above = one / (one + tail_below), one / (one + tail_above)
                density_below = tail_below * inverse_below * inverse_below
                density_above = tail_above * inverse_above * inverse_above
                below = inverse_below * (tail_below if (z_below > zero) == flipped else one)
                above = inverse_above * (tail_above if (z_above > zero) == flipped else one)
                lowest, highest = value[n] == 0, value[n] == 255
                below = (one if flipped else zero) if lowest else below
                density_below = zero if lowest else density_below
                above = (zero if flipped else one) if highest else above
                density_above = zero if highest else density_above
                masses[n] = below - above if flipped else above - below
                by_mean[n] = (density_below - density_above) * (slope * unit)
                by_scale[n] = (density_below * z_below - density_above * z_above) * (_LN_2 / 16)
                total[n] += np.float32(weight[n]) * np.float32(2.0**-15) * masses[n]
        for n in range(count):
            factor[n] = -rest / (rest * total[n] + floor * np.float32(1 / 256))
            shift[n] = zero
        for i in range(k):
            weight, masses = m.weight[i, rows], mass[i]
            by_logit, by_mean, by_scale = out[i, rows], out[k + i, rows], out[2 * k + i, rows]
            for n in range(count):
                share = factor[n] * (np.float32(weight[n]) * np.float32(2.0**-15))
                by_logit[n] = share * (masses[n] - total[n]) * sharpness
                by_mean[n] = share * by_mean[n]
                by_scale[n] = share * by_scale[n]
                shift[n] += by_mean[n]
        for c in range(residual.shape[1]):
            by_coefficient = out[3 * k + c, rows]
            for n in range(count):
                coded = np.float32(residual[first + n, c])
                by_coefficient[n] = shift[n] * coded * np.float32(1 / 16)


@njit(cache=True, nogil=True)
def _gradient_codes(gradient: NDArray[np.float32], power: float, codes: NDArray[np.int16]) -> int:
    """Gradients (N,) times a power of two, rounded, (n,), and the sum of their squares.

    Columns from N on are zeros.
    """
    factor, total = np.float32(power), np.int64(0)
    for n in range(gradient.shape[0]):
        code = np.int32(np.floor(gradient[n] * factor + np.float32(0.5)))
        codes[n] = code
        total += np.int64(code) * np.int64(code)
    codes[gradient.shape[0] :] = 0
    return total  # type: ignore[return-value]


@njit(cache=True, nogil=True)
def _sum_gradients(
    codes: NDArray[np.int16], columns: NDArray[np.int16], total: NDArray[np.int64]
) -> None:
    """Gradients by weights (o, w): sums over pixels of gradients (o, n) times packed inputs."""
    total[:] = 0
    sums = np.empty(total.shape, dtype=np.int32)
    for first in range(0, codes.shape[1], _EXACT_ROWS):
        stop = first + _EXACT_ROWS
        multiply(codes[:, first:stop], columns[:, first // 2 : stop // 2], sums)
        total += sums


@njit(cache=True, nogil=True)
def _factorise(matrix: NDArray[np.float64]) -> None:
    """``L D L^T`` of a symmetric positive definite matrix, in place: D on the diagonal, L below it
    and mirrored above it, so that both substitutions run along rows.

    Of the matrix only what is on and above the diagonal is read.
    """
    size = matrix.shape[0]
    for j in range(size):
        pivot = matrix[j]
        for i in range(j + 1, size):
            factor, row = pivot[i] / pivot[j], matrix[i]
            row[j] = factor
            for k in range(i, size):
                row[k] -= factor * pivot[k]
        for i in range(j + 1, size):
            pivot[i] = matrix[i, j]


@njit(cache=True, nogil=True)
def _solve(factors: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    """Solves ``matrix @ x = right`` for ``right`` (d, m), in place.

    ``factors`` are from :func:`_factorise`. The inner loops run along the m right sides.
    """
    size, sides = right.shape
    for j in range(size):
        factors_row, x = factors[j], right[j]
        for i in range(j + 1, size):
            factor, row = factors_row[i], right[i]
            for o in range(sides):
                row[o] -= x[o] * factor
    for j in range(size):
        for o in range(sides):
            right[j, o] /= factors[j, j]
    for j in range(size - 1, 0, -1):
        factors_row, x = factors[j], right[j]
        for i in range(j):
            factor, row = factors_row[i], right[i]
            for o in range(sides):
                row[o] -= x[o] * factor


@njit(cache=True, nogil=True)
def _add_moments(sample: NDArray[np.int16], kept: float, moments: NDArray[np.float64]) -> None:
    """Takes pixels' inputs into their second moments, of which some part is kept.

    ``moments = kept * moments + x.T @ x``, on and above the diagonal, in units of the map.

    Args:
        sample: (n, w) inputs of pixels in 1/32, some 2^15 pixels at most.
        kept: the part that is kept.
        moments: (d, d), d at most w.
    """
    count, width, depth = sample.shape[0], sample.shape[1], moments.shape[0]
    half = (count + 1) // 2
    rows = np.zeros((2 * half, width), dtype=np.int16)
    rows[:count] = sample
    pairs = np.empty((width // VECTOR, half, VECTOR), dtype=np.int32)
    _pack_rows(rows, pairs, 0)
    columns = pairs.view(np.int16).reshape((width // VECTOR, half, VECTOR, 2))
    lines = np.empty((width, half), dtype=np.int32)
    for i in range(width):
        for pair in range(half):
            lines[i, pair] = pairs[i // VECTOR, pair, i % VECTOR]
    transposed = lines.view(np.int16)
    sums = np.empty((COLUMNS, width), dtype=np.int32)
    for first in range(0, width, COLUMNS):
        these, others = transposed[first : first + COLUMNS], columns[first // VECTOR :]
        multiply(these, others, sums[:, : width - first])
        for i in range(first, min(first + COLUMNS, depth)):
            row, products = moments[i], sums[i - first]
            for j in range(i, depth):
                row[j] = kept * row[j] + products[j - first] * (1.0 / (ONE * ONE))


@njit(cache=True, nogil=True)
def _damped_factors(
    moments: NDArray[np.float64], pixels: float, factors: NDArray[np.float64]
) -> None:
    """Factors of the mean second moments of so many pixels, damped; see :func:`_factorise`."""
    depth = moments.shape[0]
    mean = 0.0
    for i in range(depth):
        for j in range(i, depth):
            factors[i, j] = moments[i, j] / pixels
        mean += factors[i, i]
    for i in range(depth):
        factors[i, i] += DAMPING * mean / depth
    _factorise(factors)


@njit(cache=True, nogil=True)
def _take_moments(
    sample: NDArray[np.int16],
    kept: float,
    pixels: float,
    moments: NDArray[np.float64],
    factors: NDArray[np.float64],
) -> None:
    """:func:`_add_moments` and :func:`_damped_factors`, of so many pixels then."""
    _add_moments(sample, kept, moments)
    _damped_factors(moments, pixels, factors)


@njit(cache=True, nogil=True)
def _descend(
    inputs: NDArray[np.int16],
    gradient: NDArray[np.float32],
    factors: NDArray[np.float64],
    squares: NDArray[np.float64],
    pixels: float,
    weight: NDArray[np.float64],
) -> bool:
    """One step of descent, in place; false if the gradient is not finite, and nothing changes.

    Args:
        inputs: packed inputs of a block.
        gradient: float32 (o, N).
        factors: of the damped second moments.
        squares: float64 (o,), decaying sum of the gradient's squares.
        pixels: float, and of how many pixels it is with those of the block.
        weight: float64 (d, o).
    """
    depth, outputs = weight.shape
    codes = np.empty((outputs, 2 * inputs.shape[1]), dtype=np.int16)
    exponent, unit = np.empty(outputs, dtype=np.int64), np.empty(outputs, dtype=np.float64)
    for o in range(outputs):
        # The bits of magnitudes are in their sequence, and those of infinity and NaN the highest.
        bits, highest = gradient[o].view(np.int32), np.int32(0)
        for n in range(bits.shape[0]):
            highest = max(highest, bits[n] & _INT32_MAX)
        if highest >= _INFINITE:
            return False
        # Brings the peak below 2^14: its exponent stands in the bits from 23 on.
        exponent[o] = min(_CODE_BITS + 126 - int(highest >> 23), 100)
    for o in range(outputs):
        total = _gradient_codes(gradient[o], math.ldexp(1.0, exponent[o]), codes[o])
        unit[o] = math.ldexp(1.0, -exponent[o])
        squares[o] = MEMORY * squares[o] + total * unit[o] * unit[o]
    sums = np.empty((outputs, inputs.shape[0] * inputs.shape[2]), dtype=np.int64)
    _sum_gradients(codes, inputs, sums)
    step = np.zeros((depth, (outputs + 3) // 4 * 4), dtype=np.float64)  # whole vectors
    for i in range(depth):
        for o in range(outputs):
            step[i, o] = sums[o, i] * (unit[o] / ONE)
    _solve(factors, step)
    finite = True
    for o in range(outputs):
        curvature = (squares[o] / pixels + 1e-12) * (pixels + PRIOR_PIXELS)
        for i in range(depth):
            step[i, o] = weight[i, o] - step[i, o] / curvature
            finite &= np.isfinite(step[i, o])
    if finite:
        for i in range(depth):
            for o in range(outputs):
                weight[i, o] = min(max(step[i, o], -_LARGEST_WEIGHT), _LARGEST_WEIGHT)
    return True


@dataclass
class _Head:
    """One head of one expert: its map, and what was learned about the map's surroundings.

    Inputs are the ``near`` pixels, a one and the hidden activations, d in all.

    Attributes:
        weight: float64 (d, o), for inputs in their own units.
        versions: the map by the number of the block after which it was learned.
        moments: float64 (d, d), sum over pixels, and of how many; on and above the diagonal.
        samples: int16 (n, w) each, inputs of the pixels since the last factorisation.
        factors: of the damped moments, from :func:`_factorise`.
        squares: float64 (o,), of the gradient, summed over pixels, and of how many.
        kept: what is kept of the moments at the next factorisation.
        blocks: how many blocks were learned from.
    """

    weight: NDArray[np.float64]
    near: int
    versions: list[tuple[int, _Linear]] = field(init=False)
    moments: NDArray[np.float64] = field(init=False)
    factors: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    samples: list[NDArray[np.int16]] = field(default_factory=list)
    moment_pixels: float = 0.0
    kept: float = 1.0
    pixels: float = 0.0
    blocks: int = 0

    def __post_init__(self) -> None:
        depth, outputs = self.weight.shape
        self.versions = [(-DELAY, _Linear.rounded(self.weight, self.near))]
        self.moments, self.factors = np.zeros((2, depth, depth))
        self.squares = np.zeros(outputs)

    @classmethod
    def trained(cls, layer: IntegerLayer, near: int) -> _Head:
        """The state before anything is learned: the model's own layer, nothing from the pixels."""
        scale = np.ldexp(1.0, -layer.shift)
        weight = layer.weight * scale[:, None] * ONE
        outputs = len(layer.weight)
        bias = (layer.bias * scale)[:, None]
        columns = np.concatenate([np.zeros((outputs, near)), bias, weight], axis=1)
        return cls(np.ascontiguousarray(columns.T), near)

    def map_for(self, block: int) -> _Linear:
        """The map as of ``DELAY`` blocks before the given one."""
        return next(m for number, m in reversed(self.versions) if number <= block - DELAY)

    def learn(self, block: int, inputs: MapInputs, gradient: NDArray[np.float32]) -> None:
        """One step of descent with a block's pixels; gradient (o, N)."""
        self.samples.append(inputs.sample)
        self.kept *= MEMORY
        if self.blocks < FACTOR_BLOCKS or self.blocks % FACTOR_BLOCKS == 0:
            self._factorise_moments()
        self.blocks += 1
        pixels = MEMORY * self.pixels + gradient.shape[1]
        # Whatever a hostile image does, weights stay numbers, and their sums far below overflow.
        if _descend(inputs.packed, gradient, self.factors, self.squares, pixels, self.weight):
            self.pixels = pixels
        self.versions = [*self.versions[-DELAY:], (block, _Linear.rounded(self.weight, self.near))]

    def _factorise_moments(self) -> None:
        """Takes the recent blocks' inputs into the second moments."""
        sample = np.concatenate(self.samples)
        self.moment_pixels = self.kept * self.moment_pixels + len(sample)
        _take_moments(sample, self.kept, self.moment_pixels, self.moments, self.factors)
        self.samples, self.kept = [], 1.0


@dataclass(frozen=True)
class Observation:
    """What one channel of a block teaches: a head, its map's inputs, the gradient (o, N)."""

    head: _Head
    inputs: MapInputs
    gradient: NDArray[np.float32]


class Adaptation:
    """The adapted output layers of one image; the same on both ends.

    Blocks are numbered from 0 in coding order. For each block and channel :meth:`parameters` is
    called, and :meth:`observe` once the values are known; then :meth:`learn` for the block. Blocks
    may be in flight on several threads, each started in its turn: :meth:`parameters` waits for the
    earlier blocks that they depend on.
    """

    def __init__(self) -> None:
        self._heads: dict[tuple[int, int], _Head] = {}
        self._learned = 0
        self._to_learn: dict[int, list[Observation]] = {}
        self._learning = False
        self._given_up = False
        self._turn = threading.Condition()

    def _wait(self, blocks: int) -> None:
        """Waits until the first ``blocks`` blocks have been learned from."""
        self._turn.wait_for(lambda: self._learned >= blocks or self._given_up)
        if self._given_up:
            raise RuntimeError("another block failed")

    def parameters(
        self,
        block: int,
        key: tuple[int, int],
        layer: IntegerLayer,
        hidden: NDArray[np.uint8],
        near: NDArray[np.int16],
    ) -> tuple[NDArray[np.int32], MapInputs]:
        """Mixture parameters of one channel of a block.

        Args:
            block: number of the block.
            key: expert and channel.
            layer: the head's output layer in the model.
            hidden: uint8 (N, head width), from ``IntegerNetwork.hidden``.
            near: int16 (N, 36), the inputs :func:`near_inputs`; (N, 12) of gray images.

        Returns:
            Parameters as of ``IntegerNetwork.head``, and the layer's inputs, for
            :meth:`observe`.
        """
        with self._turn:
            self._wait(block + 1 - DELAY)
            if key not in self._heads:
                self._heads[key] = _Head.trained(layer, near.shape[1])
            head = self._heads[key]
            linear = head.map_for(block)
        return linear.parameters(hidden, near)

    def observe(
        self,
        key: tuple[int, int],
        inputs: MapInputs,
        m: Mixture,
        values: NDArray[np.int32],
        residual: NDArray[np.int32],
        exponent: NDArray[np.int32],
        sharpness: int,
    ) -> Observation:
        """What the true values (N,) of a channel teach, given the mixture they were coded with.

        ``sharpness`` is the temperature's factor on the logits, in 1/64.
        """
        gradient = np.empty((3 * N_MIXTURES + residual.shape[1], len(values)), dtype=np.float32)
        factor = np.float32(sharpness / 4096)
        _gradient(m, values, residual, exponent, factor, gradient)
        return Observation(self._heads[key], inputs, gradient)

    def learn(self, block: int, observations: list[Observation]) -> None:
        """Learns from a block, after all blocks before it.

        Where one of those is still to come, the call that brings it learns from this one as well,
        and this one returns at once.
        """
        with self._turn:
            self._to_learn[block] = observations
            if self._learning:
                return
            self._learning = True
        while True:
            with self._turn:
                following = self._to_learn.pop(self._learned, None)
                if following is None:
                    self._learning = False
                    return
            for observation in following:
                observation.head.learn(self._learned, observation.inputs, observation.gradient)
            with self._turn:
                self._learned += 1
                self._turn.notify_all()

    def give_up(self) -> None:
        """Wakes all waiting calls with an error; to be called when a block fails."""
        with self._turn:
            self._given_up = True
            self._turn.notify_all()
