"""Integer inference: the denoiser in exact arithmetic.

Weights are int8, activations 8 bits, accumulators int32; between layers there are only additions,
arithmetic shifts and clamps. The result is therefore the same on every machine, whatever the
thread count, batch size, instruction set or library version. That no accumulator passes 32 bits is
checked from the weights when a model is loaded. The matrix products are those of
:mod:`source_codec.integer_products`.

Activations after ReLU, 0 to 255, are stored after subtracting 128; the bias absorbs the
difference. See :mod:`source_codec.network_shape` for the grids.

The three channels of a gray image are equal, and only the first is coded: there the stem takes the
value of a place once, times the sum of its three weights, and the neck gives one head's part.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import DTypeLike, NDArray

from source_codec.errors import ModelError
from source_codec.integer_products import COLUMNS, multiply, packed, padded_to
from source_codec.network_shape import (
    ACTIVATION_BITS,
    ACTIVATION_MAX,
    COLOUR_INPUTS,
    head_outputs,
)
from source_codec.window import Window

STREAM_BITS = 8
"""Fraction bits of the residual stream and of the heads' pre-activations."""
ZERO_POINT = 128
_LARGEST_SUM = 1 << 30
_STREAM_TO_ACTIVATION = STREAM_BITS - ACTIVATION_BITS
ROWS = 192
"""Pixels evaluated at once, so that inputs and activations stay in the cache."""
_HEAD_ROWS = 64


Weights = NDArray[np.int8] | NDArray[np.int16]


@dataclass(frozen=True)
class IntegerLayer:
    """One linear layer in integers: ``(x @ weight.T + bias) >> shift``, rounded.

    Attributes:
        weight: int8 (out, in); int16 where weights of equal inputs were added up.
        bias: int32 (out,), in accumulator units.
        shift: int32 (out,), 0 to 24, the power of two from accumulator to output units.
    """

    weight: Weights
    bias: NDArray[np.int32]
    shift: NDArray[np.int32]

    def __post_init__(self) -> None:
        out, inputs = self.weight.shape
        for array, dtype, shape in (
            (self.weight, self.weight.dtype, (out, inputs)),
            (self.bias, np.int32, (out,)),
            (self.shift, np.int32, (out,)),
        ):
            if array.dtype != dtype or array.shape != shape:
                raise ModelError(f"layer tensor is {array.dtype}{array.shape}, not {dtype}{shape}")
        if self.weight.dtype not in (np.int8, np.int16) or inputs % 2:
            raise ModelError(f"layer weights are {self.weight.dtype}, of {inputs} inputs")
        if self.shift.min() < 0 or self.shift.max() > 24:
            raise ModelError("layer shift outside 0..24")
        if int(self._largest_products().max()) >= _LARGEST_SUM:
            raise ModelError("a sum of products could overflow its accumulator")
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
    def columns(self) -> NDArray[np.int16]:
        """The weights as the products read them."""
        return packed(self.weight.T)

    def products(self, x: NDArray[np.int16]) -> NDArray[np.int32]:
        """``x @ weight.T`` for int16 ``x`` (N, in), N at most :data:`ROWS`.

        The result, int32 (N, out) and further columns, lies in a buffer of this thread, which the
        next call may overwrite.
        """
        columns = padded_to(len(self.weight), COLUMNS)
        products: NDArray[np.int32] = _scratch.get("products", len(x), columns, np.int32)
        multiply(x, self.columns, products)
        return products

    def rows(self, span: slice) -> IntegerLayer:
        """The layer with some of its outputs only."""
        return IntegerLayer(self.weight[span], self.bias[span], self.shift[span])


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
    out: NDArray[np.int16],
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
    out: NDArray[np.int16],
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
def _colour_inputs(residual: NDArray[np.int32], out: NDArray[np.int16]) -> None:
    """Coded channels' residuals (N, c) at four clipping ranges: (N, 4 c)."""
    for n in range(residual.shape[0]):
        for c in range(residual.shape[1]):
            for g in range(COLOUR_INPUTS):
                scaled = np.int32(residual[n, c] * np.int32(1 << g))
                out[n, c * COLOUR_INPUTS + g] = min(max(scaled, np.int32(-127)), np.int32(127))


@njit(cache=True, nogil=True)
def _head_activation(
    neck: NDArray[np.int32],
    first: int,
    residual: NDArray[np.int32],
    columns: NDArray[np.int16],
    bias: NDArray[np.int32],
    shift: NDArray[np.int32],
    out: NDArray[np.int16],
) -> None:
    """Hidden activations of a head: its part of the neck plus the coded channels' contribution."""
    half = np.int32((1 << _STREAM_TO_ACTIVATION) >> 1)
    low, high, zero = np.int32(0), np.int32(ACTIVATION_MAX), np.int32(ZERO_POINT)
    coded = np.zeros((_HEAD_ROWS, 2 * columns.shape[1]), dtype=np.int16)
    products = np.empty((_HEAD_ROWS, columns.shape[0] * columns.shape[2]), dtype=np.int32)
    for start in range(0, out.shape[0], _HEAD_ROWS):
        count = min(_HEAD_ROWS, out.shape[0] - start)
        _colour_inputs(residual[start : start + count], coded)
        multiply(coded[:count], columns, products[:count])
        for n in range(count):
            part = neck[start + n, first : first + out.shape[1]]
            totals, to = products[n], out[start + n]
            for o in range(out.shape[1]):
                value = np.int32(part[o] + (np.int32(totals[o] + bias[o]) >> shift[o]))
                value = np.int32(np.int32(value + half) >> np.int32(_STREAM_TO_ACTIVATION))
                to[o] = min(max(value, low), high) - zero


@dataclass(frozen=True)
class IntegerNetwork:
    """The exported denoiser.

    Attributes:
        window: what it sees.
        stem: inputs -> residual stream.
        blocks: pairs of layers of the residual blocks.
        neck: residual stream -> pre-activations of the three heads.
        colour: per channel, the layer on the coded channels' residuals (no inputs for green).
        heads: per channel, hidden activations -> mixture parameters.
    """

    window: Window
    stem: IntegerLayer
    blocks: tuple[tuple[IntegerLayer, IntegerLayer], ...]
    neck: IntegerLayer
    colour: tuple[IntegerLayer, ...]
    heads: tuple[IntegerLayer, ...]

    def __post_init__(self) -> None:
        width = self.stem.weight.shape[0]
        expected = [(self.stem, (width, self.window.inputs))]
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
            if layer.weight.dtype != np.int8 or layer.weight.shape != shape:
                given = f"{layer.weight.dtype}{layer.weight.shape}"
                raise ModelError(f"layer is {given}, not int8{shape}")
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

    @cached_property
    def _gray_ends(self) -> tuple[IntegerLayer, IntegerLayer]:
        """Stem and neck for gray images."""
        stem = replace(self.stem, weight=self.window.gray_weights(self.stem.weight))
        return stem, self.neck.rows(slice(self.head_width))

    def trunk(self, inputs: NDArray[np.int16], gray: bool = False) -> NDArray[np.int32]:
        """Network inputs -> pre-activations of the heads.

        Args:
            inputs: int16 (N, window.inputs), or of gray images (N, window.gray_inputs), as
                :func:`features.extract` says.
            gray: whether they are of gray images.

        Returns:
            int32 (N, 3 * head_width), of gray images (N, head_width), 8 fraction bits.
        """
        stem, neck = self._gray_ends if gray else (self.stem, self.neck)
        heads = np.empty((len(inputs), len(neck.weight)), dtype=np.int32)
        for start in range(0, len(inputs), ROWS):
            block = slice(start, start + ROWS)
            self._trunk_block(stem, neck, inputs[block], heads[block])
        return heads

    def _trunk_block(
        self,
        stem: IntegerLayer,
        neck: IntegerLayer,
        inputs: NDArray[np.int16],
        heads: NDArray[np.int32],
    ) -> None:
        count, width = len(inputs), len(stem.weight)
        activation = _scratch.get("activation", count, width, np.int16)
        stream = _scratch.get("stream", count, width, np.int32)
        stream[:] = 0
        _into_stream(stem.products(inputs), stem.rounded_bias, stem.shift, stream, activation)
        for first, second in self.blocks:
            hidden = first.products(activation)
            _to_activation(hidden, first.rounded_bias, first.shift, activation)
            added = second.products(activation)
            _into_stream(added, second.rounded_bias, second.shift, stream, activation)
        _scaled(neck.products(activation), neck.rounded_bias, neck.shift, heads)

    def hidden(
        self, channel: int, neck: NDArray[np.int32], residual: NDArray[np.int32]
    ) -> NDArray[np.int16]:
        """Hidden activations of one channel's head.

        Args:
            channel: 0 green, 1 red, 2 blue.
            neck: int32 (N, 3 * head_width) from :meth:`trunk`.
            residual: int32 (N, channel), true residuals of the coded channels, -127 to 127.

        Returns:
            int16 (N, head_width), minus :data:`ZERO_POINT`.
        """
        hidden = np.empty((len(neck), self.head_width), dtype=np.int16)
        colour = self.colour[max(channel - 1, 0)]  # takes zeros for green
        first = channel * self.head_width
        columns, bias, shift = colour.columns, colour.rounded_bias, colour.shift
        _head_activation(neck, first, residual, columns, bias, shift, hidden)
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
            found = layer.products(hidden[start : start + ROWS])
            _scaled(found, layer.rounded_bias, layer.shift, parameters[start : start + ROWS])
        return parameters
