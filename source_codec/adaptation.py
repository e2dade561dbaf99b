"""Backward calibration: the last layer of the network follows the image, without side information.

After each block both ends know the true values of what was just coded. The output layer of each
head is a linear map from hidden activations (and the nearest pixels) to mixture parameters; both
ends improve it by the same step of online natural gradient descent on the code length:

    W <- W - (A + d I)^-1 G / (V (n + n0))

with G the summed gradient of a block, A the second moments of the map's inputs, V those of the
gradient by each output, n the pixels seen (old ones are slowly forgotten), d a damping and n0 the
weight of the trained W against what the image says. A block is coded with what was learned up to
the block before the last, so that two blocks can be worked on at the same time.

Exactness: all of this is float32 and float64 arithmetic with +, -, x, / in a fixed order, rounded
as IEEE 754 prescribes; there is no library function (the exponential is a polynomial) and no sum
whose order is left to a compiler (none of the kernels is compiled with relaxed floating point). The
parameters leave this module as integers.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec.features import FINE_RADIUS, LANES
from source_codec.integer_network import ZERO_POINT, IntegerLayer
from source_codec.logistic_mixture import Mixture
from source_codec.network_shape import FLOOR_BITS, N_MIXTURES

DELAY = 2
"""A block is coded with what was learned up to this many blocks before. Part of the format."""
PRIOR_PIXELS = 40000.0
DAMPING = 0.1
MEMORY = 0.99
"""What is kept of the statistics at each block."""
MOMENT_SHARE = 1 << 14
"""Share, in 2^-16, of the pixels that enter the inputs' second moments."""
_GOLDEN = 40503  # 2^16 times the golden ratio's fraction: multiples of it are spread evenly
_LARGEST_WEIGHT = float(1 << 20)
_LIMIT = np.float32(1 << 20)  # parameters are confined to what the integer network can give


def _near_places() -> NDArray[np.intp]:
    """Indices, among the network's inputs, of the twelve nearest pixels' channels."""
    places = [
        (dy, dx)
        for dy in range(-FINE_RADIUS, FINE_RADIUS + 1)
        for dx in range(-FINE_RADIUS, FINE_RADIUS + 1)
        if dy or dx
    ]
    near = [p for p, (dy, dx) in enumerate(places) if dy * dy + dx * dx <= 4]
    return np.array([LANES * p + c for p in near for c in range(3)], dtype=np.intp)


NEAR = _near_places()


@njit(cache=True, nogil=True)
def _layer_inputs(
    hidden: NDArray[np.int8], near: NDArray[np.int8], out: NDArray[np.float32]
) -> None:
    """The linear map's inputs (N, d): hidden activations, a one, the nearest pixels."""
    width = hidden.shape[1]
    unit = np.float32(1 / 32)
    for n in range(out.shape[0]):
        for i in range(width):
            out[n, i] = np.float32(np.int32(hidden[n, i]) + np.int32(ZERO_POINT)) * unit
        out[n, width] = np.float32(1)
        for i in range(near.shape[1]):
            out[n, width + 1 + i] = np.float32(near[n, i]) * unit


@njit(cache=True, nogil=True)
def _linear(
    inputs: NDArray[np.float32], weight: NDArray[np.float32], out: NDArray[np.int32]
) -> None:
    """Parameters (N, o), rounded, from inputs (N, d) and weights (d, o).

    For a few rows at a time the sums run along the rows, which suits vector instructions.
    """
    count, depth = inputs.shape
    tile = 64
    column = np.zeros(tile, dtype=np.float32)
    sums = np.empty((weight.shape[1], tile), dtype=np.float32)
    for start in range(0, count, tile):
        rows = min(tile, count - start)
        sums[:] = np.float32(0.5)
        for i in range(depth):
            for n in range(rows):
                column[n] = inputs[start + n, i]
            for o in range(weight.shape[1]):
                w, total = weight[i, o], sums[o]
                for n in range(tile):
                    total[n] += column[n] * w
        for n in range(rows):
            for o in range(weight.shape[1]):
                bounded = min(max(np.floor(sums[o, n]), -_LIMIT), _LIMIT)
                out[start + n, o] = np.int32(bounded)


_POWERS = np.ldexp(np.float32(1), -np.arange(64)).astype(np.float32)
_LOG2_E = np.float32(1.4426950408889634)
_LN_2 = np.float32(0.6931471805599453)
_ROOT_HALF = np.float32(0.7071067811865476)


@njit(cache=True, nogil=True, inline="always")
def _decay(z: np.float32) -> np.float32:
    """exp(-z) for z >= 0, within 3e-7 of its value; beyond 43 as at 43.

    2^-k times a Taylor polynomial of half an octave to either side.
    """
    octaves = min(z, np.float32(43)) * _LOG2_E
    whole = np.int32(octaves)
    u = (octaves - np.float32(whole) - np.float32(0.5)) * -_LN_2
    series = np.float32(1 / 720)
    for coefficient in (1 / 120, 1 / 24, 1 / 6, 1 / 2, 1.0, 1.0):
        series = series * u + np.float32(coefficient)
    return series * _ROOT_HALF * _POWERS[whole]


@njit(cache=True, nogil=True)
def _gradient(
    m: Mixture,
    values: NDArray[np.int32],
    residual: NDArray[np.int32],
    exponent: NDArray[np.int32],
    sharpness: np.float32,
    out: NDArray[np.float32],
) -> None:
    """Gradient (N, 15 + c) of the code length in nats by the parameters' integers."""
    k = N_MIXTURES
    channels = residual.shape[1]
    floor = np.float32(2.0**-FLOOR_BITS)
    rest = np.float32(1) - floor
    one, zero = np.float32(1), np.float32(0)
    mass = np.empty(k, dtype=np.float32)
    by_mean = np.empty(k, dtype=np.float32)
    by_scale = np.empty(k, dtype=np.float32)
    for n in range(values.shape[0]):
        lower_edge = np.int32((values[n] << 7) - 64)
        unit = np.float32(1 << exponent[n])
        total = zero
        for i in range(k):
            slope = np.float32(m.inverse_scale[i, n]) * np.float32(2.0**-24)
            start = lower_edge - m.centre[i, n]
            z_below = np.float32(start) * slope
            z_above = np.float32(start + 128) * slope
            # Tails of the logistic function on both sides of the value, taken from the nearer end:
            # the difference of two small numbers keeps its digits.
            flipped = z_below + z_above > 0
            decay_below, decay_above = _decay(abs(z_below)), _decay(abs(z_above))
            inverse_below, inverse_above = one / (one + decay_below), one / (one + decay_above)
            density_below = decay_below * inverse_below * inverse_below
            density_above = decay_above * inverse_above * inverse_above
            below = inverse_below * (decay_below if (z_below > 0) == flipped else one)
            above = inverse_above * (decay_above if (z_above > 0) == flipped else one)
            if values[n] == 0:
                below, density_below, z_below = one if flipped else zero, zero, zero
            if values[n] == 255:
                above, density_above, z_above = zero if flipped else one, zero, zero
            mass[i] = below - above if flipped else above - below
            by_mean[i] = (density_below - density_above) * (slope * unit)
            by_scale[i] = (density_below * z_below - density_above * z_above) * (_LN_2 / 16)
            total += np.float32(m.weight[i, n]) * np.float32(2.0**-15) * mass[i]
        factor = -rest / (rest * total + floor * np.float32(1 / 256))
        shift = zero
        for i in range(k):
            share = factor * (np.float32(m.weight[i, n]) * np.float32(2.0**-15))
            out[n, i] = share * (mass[i] - total) * sharpness
            out[n, k + i] = share * by_mean[i]
            out[n, 2 * k + i] = share * by_scale[i]
            shift += share * by_mean[i]
        for c in range(channels):
            out[n, 3 * k + c] = shift * np.float32(residual[n, c]) * np.float32(1 / 16)


@njit(cache=True, nogil=True)
def _accumulate(
    inputs: NDArray[np.float32],
    gradient: NDArray[np.float32],
    by_weight: NDArray[np.float32],
    squares: NDArray[np.float32],
    moments: NDArray[np.float32],
) -> int:
    """Sums over a block: gradient (o, d), its squares (o,), products of inputs (d, d)."""
    by_weight[:] = np.float32(0)
    squares[:] = np.float32(0)
    moments[:] = np.float32(0)
    counted = 0
    for n in range(inputs.shape[0]):
        x = inputs[n]
        for o in range(gradient.shape[1]):
            g, row = gradient[n, o], by_weight[o]
            squares[o] += g * g
            for i in range(x.shape[0]):
                row[i] += g * x[i]
        # Not every fourth pixel: the order repeats itself along a row, and so would the choice.
        if (n * _GOLDEN) & 0xFFFF < MOMENT_SHARE:
            counted += 1
            for j in range(x.shape[0]):
                v, row = x[j], moments[j]
                for i in range(j + 1):
                    row[i] += v * x[i]
    for j in range(moments.shape[0]):
        for i in range(j):
            moments[i, j] = moments[j, i]
    return counted


@njit(cache=True, nogil=True)
def _solve(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> None:
    """Solves ``matrix @ X = right`` in place, for a symmetric positive definite matrix.

    Gaussian elimination without pivoting; every inner loop runs along a row.
    """
    size, width = right.shape
    for j in range(size):
        pivot = matrix[j]
        for i in range(j + 1, size):
            factor = matrix[i, j] / pivot[j]
            row, target = matrix[i], right[i]
            for k in range(j + 1, size):
                row[k] -= factor * pivot[k]
            for k in range(width):
                target[k] -= factor * right[j, k]
    for j in range(size - 1, -1, -1):
        for k in range(width):
            right[j, k] /= matrix[j, j]
        for i in range(j):
            factor, target = matrix[i, j], right[i]
            for k in range(width):
                target[k] -= factor * right[j, k]


@dataclass
class _Head:
    """One head of one expert: weights (d, o) and what was learned about their surroundings."""

    weight: NDArray[np.float32]
    moments: NDArray[np.float64] = field(init=False)
    squares: NDArray[np.float64] = field(init=False)
    pixels: float = 0.0
    moment_pixels: float = 0.0
    versions: list[tuple[int, NDArray[np.float32]]] = field(init=False)

    def __post_init__(self) -> None:
        depth, outputs = self.weight.shape
        self.versions = [(-DELAY, self.weight)]
        self.moments = np.zeros((depth, depth))
        self.squares = np.zeros(outputs)

    @classmethod
    def trained(cls, layer: IntegerLayer, extra: int) -> _Head:
        """The state before anything is learned: the model's own layer, nothing from the pixels."""
        scale = np.ldexp(1.0, -layer.shift)
        weight = layer.weight * scale[:, None] * 32
        bias = layer.bias - ZERO_POINT * layer.weight.astype(np.int64).sum(axis=1)
        columns = [weight, (bias * scale)[:, None], np.zeros((len(bias), extra))]
        return cls(np.ascontiguousarray(np.concatenate(columns, axis=1).T, dtype=np.float32))

    def weights_for(self, block: int) -> NDArray[np.float32]:
        """The weights as of ``DELAY`` blocks before the given one."""
        return next(w for number, w in reversed(self.versions) if number <= block - DELAY)

    def learn(self, block: int, inputs: NDArray[np.float32], gradient: NDArray[np.float32]) -> None:
        """One step of descent with a block's pixels."""
        depth, outputs = self.weight.shape
        by_weight = np.empty((outputs, depth), dtype=np.float32)
        squares = np.empty(outputs, dtype=np.float32)
        moments = np.empty((depth, depth), dtype=np.float32)
        counted = _accumulate(inputs, gradient, by_weight, squares, moments)
        self.moments = MEMORY * self.moments + moments
        self.squares = MEMORY * self.squares + squares
        self.pixels = MEMORY * self.pixels + len(inputs)
        self.moment_pixels = MEMORY * self.moment_pixels + counted
        matrix = self.moments / self.moment_pixels
        diagonal = np.arange(depth)
        mean = 0.0
        for value in matrix[diagonal, diagonal]:  # in this order
            mean += float(value)
        matrix[diagonal, diagonal] += DAMPING * mean / depth
        step = np.ascontiguousarray(by_weight.T, dtype=np.float64)
        _solve(matrix, step)
        curvature = (self.squares / self.pixels + 1e-12) * (self.pixels + PRIOR_PIXELS)
        moved = self.weight - step / curvature
        # Whatever a hostile image does, weights stay numbers, and their sums far below overflow.
        if np.isfinite(moved).all():
            self.weight = np.clip(moved, -_LARGEST_WEIGHT, _LARGEST_WEIGHT).astype(np.float32)
        self.versions = [*self.versions[-DELAY:], (block, self.weight)]


@dataclass(frozen=True)
class Observation:
    """What one channel of a block teaches: a head, its inputs (N, d), the gradient (N, o)."""

    head: _Head
    inputs: NDArray[np.float32]
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
        hidden: NDArray[np.int8],
        near: NDArray[np.int8],
    ) -> tuple[NDArray[np.int32], NDArray[np.float32]]:
        """Mixture parameters of one channel of a block.

        Args:
            block: number of the block.
            key: expert and channel.
            layer: the head's output layer in the model.
            hidden: int8 (N, head width), from ``IntegerNetwork.hidden``.
            near: int8 (N, 36), the inputs :data:`NEAR`.

        Returns:
            int32 (N, 15 + c), as of ``IntegerNetwork.head``, and float32 (N, d), the layer's
            inputs, for :meth:`observe`.
        """
        with self._turn:
            self._wait(block + 1 - DELAY)
            if key not in self._heads:
                self._heads[key] = _Head.trained(layer, near.shape[1])
            weight = self._heads[key].weights_for(block)
        inputs = np.empty((len(hidden), len(weight)), dtype=np.float32)
        _layer_inputs(hidden, near, inputs)
        parameters = np.empty((len(hidden), weight.shape[1]), dtype=np.int32)
        _linear(inputs, weight, parameters)
        return parameters, inputs

    def observe(
        self,
        key: tuple[int, int],
        inputs: NDArray[np.float32],
        m: Mixture,
        values: NDArray[np.int32],
        residual: NDArray[np.int32],
        exponent: NDArray[np.int32],
        sharpness: int,
    ) -> Observation:
        """What the true values (N,) of a channel teach, given the mixture they were coded with.

        ``sharpness`` is the temperature's factor on the logits, in 1/64.
        """
        gradient = np.empty((len(values), 3 * N_MIXTURES + residual.shape[1]), dtype=np.float32)
        factor = np.float32(sharpness / 4096)
        _gradient(m, values, residual, exponent, factor, gradient)
        return Observation(self._heads[key], inputs, gradient)

    def learn(self, block: int, observations: list[Observation]) -> None:
        """Learns from a block, after all blocks before it."""
        with self._turn:
            self._wait(block)
        for observation in observations:
            observation.head.learn(block, observation.inputs, observation.gradient)
        with self._turn:
            self._learned += 1
            self._turn.notify_all()

    def give_up(self) -> None:
        """Wakes all waiting calls with an error; to be called when a block fails."""
        with self._turn:
            self._given_up = True
            self._turn.notify_all()
