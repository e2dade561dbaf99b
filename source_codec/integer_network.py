"""Integer inference: the denoiser in exact arithmetic.

Weights are int8, activations 8 bits, accumulators int32; between layers there are only additions,
arithmetic shifts and clamps. The result is therefore the same on every machine, whatever the
thread count, batch size, instruction set or library version, provided that the matrix products are
exact. They are computed in one of two ways:

``float32``
    by numpy: integers carried in float32. Every partial sum is an integer below 2^24, which is
    checked from the weights when the model is loaded, so that no order of summation ever rounds.
``int8``
    by torch (:mod:`source_codec.int8_products`), several times as fast on processors made for it,
    but torch takes longer to load than a small image to code. On other processors some kernels
    saturate 16-bit intermediates, so that this way is taken only after it passed tests on this
    machine (``Model.in_int8``).

Activations after ReLU, 0 to 255, are stored as int8 after subtracting 128; the bias absorbs the
difference. See :mod:`source_codec.network_shape` for the grids.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from source_codec.errors import ModelError
from source_codec.features import N_INPUTS
from source_codec.network_shape import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    COLOUR_INPUTS,
    head_outputs,
)

STREAM_BITS = 8
"""Fraction bits of the residual stream and of the heads' pre-activations."""
ZERO_POINT = 128
FLOAT32_EXACT = 1 << 24
_STREAM_TO_ACTIVATION = STREAM_BITS - ACTIVATION_BITS
ROWS = 512
"""Pixels evaluated at once, so that their activations stay in the cache."""


@dataclass(frozen=True)
class IntegerLayer:
    """One linear layer in integers: ``(x @ weight.T + bias) >> shift``, rounded.

    Attributes:
        weight: int8 (out, in).
        bias: int32 (out,), in accumulator units.
        shift: int32 (out,), 0 to 24, the power of two from accumulator to output units.
    """

    weight: NDArray[np.int8]
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]

    def __post_init__(self) -> None:
        out, inputs = self.weight.shape
        for array, dtype, shape in (
            (self.weight, np.int8, (out, inputs)),
            (self.bias, np.int32, (out,)),
            (self.shift, np.int32, (out,)),
        ):
            if array.dtype != dtype or array.shape != shape:
                raise ModelError(f"layer tensor is {array.dtype}{array.shape}, not {dtype}{shape}")
        if self.shift.min() < 0 or self.shift.max() > 24:
            raise ModelError("layer shift outside 0..24")
        if int(self._largest_products().max()) >= FLOAT32_EXACT:
            raise ModelError("an accumulator could pass 2^24: float32 products would not be exact")
        if np.abs(self.bias.astype(np.int64)).max(initial=0) >= 1 << 28:
            raise ModelError("a bias could overflow its accumulator")

    def _largest_products(self) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = np.abs(self.weight.astype(np.int64)).sum(axis=1) * ZERO_POINT
        return sums

    @property
    def largest_output(self) -> int:
        """A bound on the magnitude of the layer's outputs, before any clamping."""
        accumulators = self._largest_products() + np.abs(self.bias.astype(np.int64))
        return int((accumulators >> self.shift).max()) + 1

    @cached_property
    def rounded_bias(self) -> NDArray[np.int32]:
        """Bias plus half of what the shift drops: ``(x @ weight.T + rounded_bias) >> shift``."""
        return (self.bias + ((1 << self.shift.astype(np.int64)) >> 1)).astype(np.int32)

    @cached_property
    def _transposed(self) -> NDArray[np.int8]:
        return np.ascontiguousarray(self.weight.T)

    @cached_property
    def _transposed_float(self) -> NDArray[np.float32]:
        return np.ascontiguousarray(self.weight.T, dtype=np.float32)

    def products(self, x: NDArray[np.int8], backend: str) -> NDArray[np.int32]:
        """``x @ weight.T`` for int8 ``x`` (N, in), N at most :data:`ROWS`: int32 (N, outputs).

        The result lies in a buffer of this thread, which the next call may overwrite.
        """
        rows, outputs = len(x), len(self.weight)
        products: NDArray[np.int32] = _scratch.get("products", rows, outputs, np.int32)
        if backend == "int8":
            from source_codec import int8_products  # loads torch, which takes its time

            int8_products.multiply(x, self._transposed, products)
        else:
            inputs = _scratch.get("inputs as float", rows, x.shape[1], np.float32)
            sums = _scratch.get("products as float", rows, outputs, np.float32)
            inputs[:] = x
            np.matmul(inputs, self._transposed_float, out=sums)
            np.copyto(products, sums, casting="unsafe")
        return products


def absorb_zero_point(layer_bias: NDArray[np.int32], weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """Bias of a layer whose inputs are stored minus :data:`ZERO_POINT`."""
    return (layer_bias + ZERO_POINT * weight.astype(np.int32).sum(axis=1)).astype(np.int32)


# In the kernels below all arithmetic is in 32 bits, so that it compiles to vector instructions.


@njit(cache=True, nogil=True)
def _scaled(
    products: NDArray[np.int32],
    bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    out: NDArray[np.int32],
) -> None:
    """A layer's outputs from its products and rounded bias."""
    for n in range(out.shape[0]):
        for o in range(out.shape[1]):
            out[n, o] = np.int32(products[n, o] + bias[o]) >> shift[o]


@njit(cache=True, nogil=True)
def _to_activation(
    products: NDArray[np.int32],
    bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    out: NDArray[np.int8],
) -> None:
    """The same through a ReLU."""
    low, high, zero = np.int32(0), np.int32(ACTIVATION_MAX), np.int32(ZERO_POINT)
    for n in range(out.shape[0]):
        for o in range(out.shape[1]):
            value = np.int32(np.int32(products[n, o] + bias[o]) >> shift[o])
            out[n, o] = min(max(value, low), high) - zero


@njit(cache=True, nogil=True)
def _into_stream(
    products: NDArray[np.int32],
    bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    stream: NDArray[np.int32],
    out: NDArray[np.int8],
) -> None:
    """Adds a layer's outputs to the residual stream, and puts that through a ReLU."""
    low, high, zero = np.int32(0), np.int32(ACTIVATION_MAX), np.int32(ZERO_POINT)
    down = np.int32(_STREAM_TO_ACTIVATION)
    half = np.int32((1 << _STREAM_TO_ACTIVATION) >> 1)
    for n in range(out.shape[0]):
        for o in range(out.shape[1]):
            value = np.int32(np.int32(products[n, o] + bias[o]) >> shift[o])
            value = np.int32(stream[n, o] + value)
            stream[n, o] = value
            out[n, o] = min(max(np.int32(np.int32(value + half) >> down), low), high) - zero


class _Scratch(threading.local):
    """Buffers of one thread, kept from call to call: fresh memory costs more than the work."""

    def __init__(self) -> None:
        self._buffers: dict[tuple[str, int], NDArray[Any]] = {}

    def get(self, name: str, rows: int, columns: int, dtype: DTypeLike) -> NDArray[Any]:
        """A buffer (rows, columns), at most :data:`ROWS` rows; the same for the same name."""
        key = name, columns
        if key not in self._buffers:
            self._buffers[key] = np.zeros((ROWS, columns), dtype=dtype)
        return self._buffers[key][:rows]


_scratch = _Scratch()


@njit(cache=True, nogil=True)
def _head_activation(
    neck: NDArray[np.int32],
    first: int,
    residual: NDArray[np.int32],
    weight: NDArray[np.int32],
    shift: NDArray[np.int32],
    out: NDArray[np.int8],
) -> None:
    """Hidden activations of a head: neck slice plus the coded channels' contribution.

    ``weight`` is int32 (inputs, out): the inner loops run along the outputs.
    """
    half = np.int32((1 << _STREAM_TO_ACTIVATION) >> 1)
    low, high = np.int32(0), np.int32(ACTIVATION_MAX)
    channels = residual.shape[1]
    width = out.shape[1]
    total = np.empty(width, dtype=np.int32)
    for n in range(neck.shape[0]):
        total[:] = 0
        for c in range(channels):
            for g in range(COLOUR_INPUTS):
                scaled = np.int32(min(max(residual[n, c] * (1 << g), -127), 127))
                row = weight[c * COLOUR_INPUTS + g]
                for o in range(width):
                    total[o] = np.int32(total[o] + np.int32(row[o] * scaled))
        for o in range(width):
            rounding = np.int32(np.int32(np.int32(1) << shift[o]) >> np.int32(1))
            value = np.int32(neck[n, first + o] + (np.int32(total[o] + rounding) >> shift[o]))
            value = np.int32(np.int32(value + half) >> np.int32(_STREAM_TO_ACTIVATION))
            out[n, o] = min(max(value, low), high) - np.int32(ZERO_POINT)


@dataclass(frozen=True)
class IntegerNetwork:
    """The exported denoiser.

    Attributes:
        stem: inputs -> residual stream.
        blocks: pairs of layers of the residual blocks.
        neck: residual stream -> pre-activations of the three heads.
        colour: per channel, the layer on the coded channels' residuals (no inputs for green).
        heads: per channel, hidden activations -> mixture parameters.
        backend: how products are computed, ``float32`` or ``int8``; no effect on the result.
    """

    stem: IntegerLayer
    blocks: tuple[tuple[IntegerLayer, IntegerLayer], ...]
    neck: IntegerLayer
    colour: tuple[IntegerLayer, ...]
    heads: tuple[IntegerLayer, ...]
    backend: str = "float32"

    def __post_init__(self) -> None:
        width = self.stem.weight.shape[0]
        expected = [(self.stem, (width, N_INPUTS))]
        expected += [(layer, (width, width)) for block in self.blocks for layer in block]
        head_width = self.neck.weight.shape[0] // 3
        expected.append((self.neck, (3 * head_width, width)))
        expected += [
            (layer, (head_width, COLOUR_INPUTS * (c + 1))) for c, layer in enumerate(self.colour)
        ]
        expected += [(layer, (head_outputs(c), head_width)) for c, layer in enumerate(self.heads)]
        if len(self.colour) != 2 or len(self.heads) != 3:
            raise ModelError("a model has three heads, two of them with colour inputs")
        for layer, shape in expected:
            if layer.weight.shape != shape:
                raise ModelError(f"layer is {layer.weight.shape}, not {shape}")
        stream = self.stem.largest_output + sum(s.largest_output for _, s in self.blocks)
        hidden = self.neck.largest_output + max(c.largest_output for c in self.colour)
        if max(stream, hidden) >= 1 << 30:
            raise ModelError("the residual stream could overflow its 32 bits")

    def layers(self) -> list[IntegerLayer]:
        """All layers, from the inputs on."""
        in_blocks = [layer for block in self.blocks for layer in block]
        return [self.stem, *in_blocks, self.neck, *self.colour, *self.heads]

    @property
    def head_width(self) -> int:
        """Hidden width of each head."""
        return int(self.neck.weight.shape[0]) // 3

    def trunk(self, inputs: NDArray[np.int8]) -> NDArray[np.int32]:
        """Network inputs -> pre-activations of the heads.

        Args:
            inputs: int8 (N, 672).

        Returns:
            int32 (N, 3 * head_width), 8 fraction bits.
        """
        heads = np.empty((len(inputs), self.neck.weight.shape[0]), dtype=np.int32)
        for start in range(0, len(inputs), ROWS):
            self._trunk_block(inputs[start : start + ROWS], heads[start : start + ROWS])
        return heads

    def _trunk_block(self, inputs: NDArray[np.int8], heads: NDArray[np.int32]) -> None:
        count = len(inputs)
        width = self.stem.weight.shape[0]
        activation = _scratch.get("activation", count, width, np.int8)
        stream = _scratch.get("stream", count, width, np.int32)
        stream[:] = 0
        products = self.stem.products(inputs, self.backend)
        _into_stream(products, self.stem.rounded_bias, self.stem.shift, stream, activation)
        for first, second in self.blocks:
            hidden = first.products(activation, self.backend)
            _to_activation(hidden, first.rounded_bias, first.shift, activation)
            added = second.products(activation, self.backend)
            _into_stream(added, second.rounded_bias, second.shift, stream, activation)
        neck = self.neck.products(activation, self.backend)
        _scaled(neck, self.neck.rounded_bias, self.neck.shift, heads)

    def hidden(
        self, channel: int, neck: NDArray[np.int32], residual: NDArray[np.int32]
    ) -> NDArray[np.int8]:
        """Hidden activations of one channel's head.

        Args:
            channel: 0 green, 1 red, 2 blue.
            neck: int32 (N, 3 * head_width) from :meth:`trunk`.
            residual: int32 (N, channel), true residuals of the coded channels, -127 to 127.

        Returns:
            int8 (N, head_width), minus :data:`ZERO_POINT`.
        """
        hidden = np.empty((neck.shape[0], self.head_width), dtype=np.int8)
        colour = self.colour[max(channel - 1, 0)]
        weight = np.ascontiguousarray(colour.weight.T, dtype=np.int32)
        _head_activation(neck, channel * self.head_width, residual, weight, colour.shift, hidden)
        return hidden

    def head(
        self, channel: int, neck: NDArray[np.int32], residual: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Mixture parameters of one channel, as integers (see ``logistic_mixture``).

        Args: as of :meth:`hidden`.

        Returns:
            int32 (N, 15 + channel).
        """
        hidden = self.hidden(channel, neck, residual)
        layer = self.heads[channel]
        outputs = layer.weight.shape[0]
        parameters = np.empty((len(neck), outputs), dtype=np.int32)
        for start in range(0, len(neck), ROWS):
            found = layer.products(hidden[start : start + ROWS], self.backend)
            _scaled(found, layer.rounded_bias, layer.shift, parameters[start : start + ROWS])
        return parameters
