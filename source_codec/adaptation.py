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

import threading
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.features import ONE
from source_codec.integer_network import ZERO_POINT, IntegerLayer
from source_codec.integer_products import COLUMNS, VECTOR, multiply, packed, padded_to
from source_codec.logistic_mixture import Mixture
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES
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
_LIMIT = 1 << 20  # parameters are confined to what the integer network can give
_ROWS = 64  # pixels handled together, so that they stay in the cache
_EXACT_ROWS = 1 << 9  # sums over so many products of codes and inputs stay below 2^31


def near_inputs(window: Window, gray: bool) -> NDArray[np.intp]:
    """Indices of the twelve nearest pixels among the inputs that :func:`features.extract` gives.

    Of gray images one each, of others all three channels.
    """
    nearest = window.nearest
    return nearest if gray else (LANES * nearest[:, None] + np.arange(3)).ravel()


@njit(cache=True, nogil=True)
def _layer_inputs(
    hidden: NDArray[np.int16], near: NDArray[np.int16], inputs: NDArray[np.int16]
) -> None:
    """The linear map's inputs (n, w), in 1/32: the nearest pixels, a one, hidden activations.

    Padded with zeros to an even number of rows and whole tiles of columns. The activations stay as
    stored, 128 less than they are: see :func:`_restored`.
    """
    first = near.shape[1] + 1
    depth = first + hidden.shape[1]
    for n in range(hidden.shape[0]):
        to = inputs[n]
        for i in range(near.shape[1]):
            to[i] = near[n, i]
        to[first - 1] = ONE
        for i in range(hidden.shape[1]):
            to[first + i] = hidden[n, i]
        to[depth:] = 0
    inputs[hidden.shape[0] :] = 0


def _restored(sums: NDArray[np.int64], near: int, hidden: int) -> None:
    """From sums over inputs as stored (d, m) to sums over inputs as they are, in place.

    An activation is 128 more than stored, which is four times the one.
    """
    sums[near + 1 : near + 1 + hidden] += ZERO_POINT // ONE * sums[near]


def _power_for(peak: NDArray[np.float64]) -> NDArray[np.int32]:
    """Exponents of the powers of two that bring magnitudes up to the peaks below 2^14."""
    _, exponent = np.frexp(peak)
    return np.minimum(_CODE_BITS - exponent, 100).astype(np.int32)


@dataclass(frozen=True)
class _Linear:
    """A linear map in integers, from inputs as stored to parameters.

    Attributes:
        codes: the weights (d, o) times ``2^shift``, as :func:`integer_products.packed` has them.
        bias: int64 (o,), times ``2^shift``, with what the stored activations lack and half a unit.
        shift: int64 (o,).
    """

    codes: NDArray[np.int16]
    bias: NDArray[np.int64]
    shift: NDArray[np.int64]

    @classmethod
    def rounded(cls, weight: NDArray[np.float64], near: int, hidden: int) -> _Linear:
        """From weights (d, o); the row after those of the ``near`` pixels is the bias."""
        scaled = weight / ONE
        scaled[near] = 0
        peak = np.abs(scaled).max(axis=0)
        shift = np.clip(_power_for(peak), 0, _MOST_SHIFT).astype(np.int64)
        power = np.ldexp(1.0, shift)
        codes = np.floor(scaled * power + 0.5).astype(np.int32)
        lacking = ZERO_POINT * codes[near + 1 : near + 1 + hidden].astype(np.int64).sum(axis=0)
        bias = np.floor(weight[near] * power + 0.5).astype(np.int64)
        bias += lacking + ((1 << shift) >> 1)
        return cls(packed(codes), bias, shift)

    def parameters(self, inputs: NDArray[np.int16], count: int) -> NDArray[np.int32]:
        """Parameters (N, o) of the first N rows of inputs."""
        out = np.empty((count, len(self.bias)), dtype=np.int32)
        _parameters(inputs, self.codes, self.bias, self.shift, out)
        return out


@njit(cache=True, nogil=True)
def _parameters(
    inputs: NDArray[np.int16],
    codes: NDArray[np.int16],
    bias: NDArray[np.int64],
    shift: NDArray[np.int64],
    out: NDArray[np.int32],
) -> None:
    """What a linear map gives (N, o) for the first N rows of inputs."""
    limit = np.int64(_LIMIT)
    products = np.empty((_ROWS, codes.shape[0] * codes.shape[2]), dtype=np.int32)
    for start in range(0, out.shape[0], _ROWS):
        count = min(_ROWS, out.shape[0] - start)
        multiply(inputs[start : start + count], codes, products[:count])
        for n in range(count):
            to = out[start + n]
            for o in range(out.shape[1]):
                to[o] = min(max((products[n, o] + bias[o]) >> shift[o], -limit), limit)


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
def _gradient_codes(
    gradient: NDArray[np.float32],
    power: NDArray[np.float32],
    codes: NDArray[np.int16],
    squares: NDArray[np.int64],
) -> None:
    """Gradients (o, N) times powers of two, rounded, (o, n), and sums of their squares (o,).

    Columns from N on are zeros.
    """
    outputs, count = gradient.shape
    for o in range(outputs):
        row, line = gradient[o], codes[o]
        total = np.int64(0)
        for n in range(count):
            code = np.int32(np.floor(row[n] * power[o] + np.float32(0.5)))
            line[n] = code
            total += np.int64(code) * np.int64(code)
        squares[o] = total
    codes[:, count:] = 0


@njit(cache=True, nogil=True)
def _pack_inputs(inputs: NDArray[np.int16], columns: NDArray[np.int16]) -> None:
    """Inputs (n, w) as :func:`integer_products.packed` gives them."""
    lanes = columns.shape[2]
    for start in range(0, inputs.shape[0], _ROWS):
        rows = inputs[start : start + _ROWS]
        for pair in range(rows.shape[0] // 2):
            for vector in range(columns.shape[0]):
                to = columns[vector, start // 2 + pair]
                for lane in range(lanes):
                    to[lane, 0] = rows[2 * pair, lanes * vector + lane]
                    to[lane, 1] = rows[2 * pair + 1, lanes * vector + lane]


def _packed_inputs(inputs: NDArray[np.int16]) -> NDArray[np.int16]:
    """:func:`_pack_inputs` into an array of its own."""
    rows, width = inputs.shape
    columns = np.empty((width // VECTOR, rows // 2, VECTOR, 2), dtype=np.int16)
    _pack_inputs(inputs, columns)
    return columns


@njit(cache=True, nogil=True)
def _add_moments(
    inputs: NDArray[np.int16], columns: NDArray[np.int16], total: NDArray[np.int64]
) -> None:
    """Adds the sums over pixels of all products of two inputs: ``total += inputs.T @ inputs``.

    Args:
        inputs: (n, w), n even.
        columns: the same, packed.
        total: (w, w).
    """
    width, lanes = inputs.shape[1], columns.shape[2]
    lines = np.empty((width, inputs.shape[0]), dtype=np.int16)
    for n in range(inputs.shape[0]):
        for column in range(width):
            lines[column, n] = inputs[n, column]
    tile = 2 * lanes
    sums = np.empty((tile, width), dtype=np.int32)
    for first in range(0, width, tile):
        stop = first + tile
        multiply(lines[first:stop], columns[: stop // lanes], sums[:, :stop])
        for i in range(tile):
            for j in range(first + i):
                total[first + i, j] += sums[i, j]
                total[j, first + i] += sums[i, j]
            total[first + i, first + i] += sums[i, first + i]


@njit(cache=True, nogil=True)
def _sum_gradients(
    codes: NDArray[np.int16], columns: NDArray[np.int16], total: NDArray[np.int64]
) -> None:
    """Gradients by weights (o, w): sums over pixels of gradients (o, n) times inputs."""
    total[:] = 0
    sums = np.empty(total.shape, dtype=np.int32)
    for first in range(0, codes.shape[1], _EXACT_ROWS):
        stop = first + _EXACT_ROWS
        multiply(codes[:, first:stop], columns[:, first // 2 : stop // 2], sums)
        total += sums


@njit(cache=True, nogil=True)
def _factorise(matrix: NDArray[np.float64]) -> None:
    """``L D L^T`` of a symmetric positive definite matrix, in place: D on the diagonal, L below it
    and mirrored above it, so that both substitutions run along rows."""
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
    """Solves ``matrix @ x = row`` for each row of ``right`` (m, d), in place.

    ``factors`` are from :func:`_factorise`.
    """
    size = factors.shape[0]
    for o in range(right.shape[0]):
        x = right[o]
        for j in range(size):
            factor, row = x[j], factors[j]
            for i in range(j + 1, size):
                x[i] -= factor * row[i]
        for j in range(size):
            x[j] /= factors[j, j]
        for j in range(size - 1, 0, -1):
            factor, row = x[j], factors[j]
            for i in range(j):
                x[i] -= factor * row[i]


@dataclass
class _Head:
    """One head of one expert: its map, and what was learned about the map's surroundings.

    Inputs are the ``near`` pixels, a one and the ``hidden`` activations, d in all.

    Attributes:
        weight: float64 (d, o), for inputs in their own units.
        versions: the map by the number of the block after which it was learned.
        moments: float64 (d, d), sum over pixels, and of how many.
        recent: int64 (w, w), the same since the last factorisation, of inputs as stored.
        factors: of the damped moments, from :func:`_factorise`.
        squares: float64 (o,), of the gradient, summed over pixels, and of how many.
        kept: what is kept of the moments at the next factorisation.
        blocks: how many blocks were learned from.
    """

    weight: NDArray[np.float64]
    near: int
    versions: list[tuple[int, _Linear]] = field(init=False)
    moments: NDArray[np.float64] = field(init=False)
    recent: NDArray[np.int64] = field(init=False)
    factors: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    moment_pixels: float = 0.0
    recent_pixels: int = 0
    kept: float = 1.0
    pixels: float = 0.0
    blocks: int = 0

    def __post_init__(self) -> None:
        depth, outputs = self.weight.shape
        width = padded_to(depth, COLUMNS)
        self.versions = [(-DELAY, self._rounded())]
        self.moments = np.zeros((depth, depth))
        self.recent = np.zeros((width, width), dtype=np.int64)
        self.squares = np.zeros(outputs)

    @classmethod
    def trained(cls, layer: IntegerLayer, near: int) -> _Head:
        """The state before anything is learned: the model's own layer, nothing from the pixels."""
        scale = np.ldexp(1.0, -layer.shift)
        weight = layer.weight * scale[:, None] * ONE
        bias = layer.bias - ZERO_POINT * layer.weight.astype(np.int64).sum(axis=1)
        columns = [np.zeros((len(bias), near)), (bias * scale)[:, None], weight]
        return cls(np.ascontiguousarray(np.concatenate(columns, axis=1).T), near)

    @property
    def hidden(self) -> int:
        return len(self.weight) - 1 - self.near

    def _rounded(self) -> _Linear:
        depth, outputs = self.weight.shape
        padding = np.zeros((padded_to(depth, COLUMNS) - depth, outputs))
        return _Linear.rounded(np.concatenate([self.weight, padding]), self.near, self.hidden)

    def map_for(self, block: int) -> _Linear:
        """The map as of ``DELAY`` blocks before the given one."""
        return next(m for number, m in reversed(self.versions) if number <= block - DELAY)

    def learn(self, block: int, inputs: NDArray[np.int16], gradient: NDArray[np.float32]) -> None:
        """One step of descent with a block's pixels: padded inputs (n, w), gradient (o, N)."""
        depth, outputs = self.weight.shape
        rows, width = inputs.shape
        count = gradient.shape[1]
        self._sample_moments(inputs[:count:MOMENT_SHARE])
        self.kept *= MEMORY
        if self.blocks < FACTOR_BLOCKS or self.blocks % FACTOR_BLOCKS == 0:
            self._factorise_moments()
        self.blocks += 1
        peak = np.abs(gradient).max(axis=1)
        # Whatever a hostile image does, weights stay numbers, and their sums far below overflow.
        if np.isfinite(peak).all():
            exponent = _power_for(peak)
            codes = np.empty((outputs, rows), dtype=np.int16)
            squares = np.empty(outputs, dtype=np.int64)
            _gradient_codes(gradient, np.ldexp(np.float32(1), exponent), codes, squares)
            sums = np.empty((outputs, width), dtype=np.int64)
            _sum_gradients(codes, _packed_inputs(inputs), sums)
            by_weight = np.ascontiguousarray(sums.T)
            _restored(by_weight, self.near, self.hidden)
            power = np.ldexp(1.0, -exponent)
            self.squares = MEMORY * self.squares + squares * power * power
            self.pixels = MEMORY * self.pixels + count
            step = np.ascontiguousarray((by_weight[:depth] * (power / ONE)).T)
            _solve(self.factors, step)
            curvature = (self.squares / self.pixels + 1e-12) * (self.pixels + PRIOR_PIXELS)
            moved = self.weight - step.T / curvature
            if np.isfinite(moved).all():
                self.weight = np.clip(moved, -_LARGEST_WEIGHT, _LARGEST_WEIGHT)
        self.versions = [*self.versions[-DELAY:], (block, self._rounded())]

    def _sample_moments(self, sample: NDArray[np.int16]) -> None:
        """Takes note of the second moments of some pixels' inputs (n, w)."""
        count, width = sample.shape
        rows = np.zeros((padded_to(count, 2), width), dtype=np.int16)
        rows[:count] = sample
        _add_moments(rows, _packed_inputs(rows), self.recent)
        self.recent_pixels += count

    def _factorise_moments(self) -> None:
        """Takes the recent blocks' inputs into the second moments."""
        depth = len(self.weight)
        _restored(self.recent, self.near, self.hidden)
        _restored(self.recent.T, self.near, self.hidden)
        recent = self.recent[:depth, :depth] * (1.0 / ONE**2)
        self.moments = self.kept * self.moments + recent
        self.moment_pixels = self.kept * self.moment_pixels + self.recent_pixels
        self.recent[:] = 0
        self.recent_pixels, self.kept = 0, 1.0
        self.factors = self.moments / self.moment_pixels
        diagonal = np.arange(depth)
        mean = 0.0
        for value in self.factors[diagonal, diagonal]:  # in this order
            mean += float(value)
        self.factors[diagonal, diagonal] += DAMPING * mean / depth
        _factorise(self.factors)


@dataclass(frozen=True)
class Observation:
    """What one channel of a block teaches: a head, its inputs (n, w), the gradient (o, N)."""

    head: _Head
    inputs: NDArray[np.int16]
    gradient: NDArray[np.float32]


class Adaptation:
    """The adapted output layers of one image; the same on both ends.

    Blocks are numbered from 0 in coding order. For each block and channel :meth:`parameters` is
    called, and :meth:`observe` once the values are known; then :meth:`learn` for the block. Blocks
    may be in flight on several threads, each started in its turn: a call waits for the earlier
    blocks that it depends on.

    """

    def __init__(self) -> None:
        self._heads: dict[tuple[int, int], _Head] = {}
        self._learned = 0
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
        hidden: NDArray[np.int16],
        near: NDArray[np.int16],
    ) -> tuple[NDArray[np.int32], NDArray[np.int16]]:
        """Mixture parameters of one channel of a block.

        Args:
            block: number of the block.
            key: expert and channel.
            layer: the head's output layer in the model.
            hidden: int16 (N, head width), from ``IntegerNetwork.hidden``.
            near: int16 (N, 36), the inputs :func:`near_inputs`; (N, 12) of gray images.

        Returns:
            int32 (N, 15 + c), as of ``IntegerNetwork.head``, and int16 (n, w), the layer's padded
            inputs, for :meth:`observe`.
        """
        with self._turn:
            self._wait(block + 1 - DELAY)
            if key not in self._heads:
                self._heads[key] = _Head.trained(layer, near.shape[1])
            head = self._heads[key]
            linear = head.map_for(block)
        count, depth = len(hidden), near.shape[1] + 1 + hidden.shape[1]
        inputs = np.empty((padded_to(count, 2), padded_to(depth, COLUMNS)), dtype=np.int16)
        _layer_inputs(hidden, near, inputs)
        return linear.parameters(inputs, count), inputs

    def observe(
        self,
        key: tuple[int, int],
        inputs: NDArray[np.int16],
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
        """Learns from a block, after all blocks before it."""
        with self._turn:
            self._wait(block)
        for observation in observations:
            head, inputs, gradient = observation.head, observation.inputs, observation.gradient
            head.learn(block, inputs, gradient)
        with self._turn:
            self._learned += 1
            self._turn.notify_all()

    def give_up(self) -> None:
        """Wakes all waiting calls with an error; to be called when a block fails."""
        with self._turn:
            self._given_up = True
            self._turn.notify_all()
