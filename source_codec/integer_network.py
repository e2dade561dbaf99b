"""Integer inference: the denoiser in exact arithmetic.

Weights are int8, inputs and activations uint8, accumulators int32; between layers there are only
additions, arithmetic shifts and clamps. The result is therefore the same on every machine, whatever
the thread count, batch size, instruction set or library version. That no accumulator passes 32
bits, and no partial sum of the products 16, is checked from the weights when a model is loaded. The
matrix products are those of :mod:`source_codec.integer_products`.

Activations after ReLU are 0 to 255 as they are. Inputs, and the residuals that the heads see, have
signs: they are stored plus 128, and the bias absorbs the difference. See
:mod:`source_codec.network_shape` for the grids.

Of a gray image only the first channel is coded, and the neck gives one head's part.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numba import njit
from numpy.typing import NDArray

from source_codec import layer_ends
from source_codec.errors import ModelError
from source_codec.integer_products import (
    BYTES_STEP,
    COLUMNS,
    grouped,
    packed,
    padded_to,
    product_kernel,
)
from source_codec.network_shape import (
    ACTIVATION_MAX,
    COLOUR_INPUTS,
    WEIGHT_GROUP_MAX,
    ZERO_POINT,
    head_outputs,
)
from source_codec.window import Window

_LARGEST_SUM = 1 << 30
_ROWS = 64
"""Pixels evaluated at once, so that inputs and activations stay in the cache."""


Tensors = tuple[NDArray[np.int8], NDArray[np.int32], NDArray[np.int32]]


@dataclass(frozen=True)
class IntegerLayer:
    """One linear layer in integers: ``(x @ weight.T + bias) >> shift``, rounded.

    Attributes:
        weight: int8 (out, in), within the bounds of :func:`fits_groups`.
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
        if not fits_groups(self.weight).all():
            raise ModelError("a partial sum of products could overflow 16 bits")
        if self.shift.min() < 0 or self.shift.max() > 24:
            raise ModelError("layer shift outside 0..24")
        if int(self._largest_products().max()) >= _LARGEST_SUM:
            raise ModelError("a sum of products could overflow its accumulator")
        if np.abs(self.bias.astype(np.int64)).max(initial=0) >= 1 << 28:
            raise ModelError("a bias could overflow its accumulator")

    def _largest_products(self) -> NDArray[np.int64]:
        sums: NDArray[np.int64] = np.abs(self.weight.astype(np.int64)).sum(axis=1)
        return sums * ACTIVATION_MAX

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
    def tensors(self) -> Tensors:
        """The layer as kernels take it: packed weights, :attr:`rounded_bias` and shifts.

        With further outputs, which are zero, up to whole tiles.
        """
        further = (0, -len(self.weight) % COLUMNS)
        bias, shift = (np.pad(array, further) for array in (self.rounded_bias, self.shift))
        return packed(self.weight.T, kind=np.int8), bias, shift

    def rows(self, span: slice) -> IntegerLayer:
        """The layer with some of its outputs only."""
        return IntegerLayer(self.weight[span], self.bias[span], self.shift[span])


def fits_groups(weight: NDArray[np.integer[Any]]) -> NDArray[np.bool_]:
    """Whether the partial sums of products with bytes stay within 16 bits: (out,), by output.

    Products with weights of one sign come to 255 * 128 < 2^15 in a group.
    """
    members = np.moveaxis(grouped(weight.astype(np.int32)), -1, 0)
    positive, negative = (
        sum(np.maximum(member, 0) for member in signed) for signed in (members, -members)
    )
    result: NDArray[np.bool_] = np.maximum(positive, negative).max(axis=-1) <= WEIGHT_GROUP_MAX
    return result


def absorbed_zero(weight: NDArray[np.int8]) -> NDArray[np.int32]:
    """What the bias of a layer lacks whose inputs are stored plus :data:`ZERO_POINT`."""
    return ZERO_POINT * weight.astype(np.int32).sum(axis=1, dtype=np.int32)


# In the kernels below all arithmetic is in 32 bits, so that it compiles to vector instructions.


@njit(cache=True, nogil=True)
def _depth(columns: NDArray[np.int8]) -> int:
    """Inputs of a layer, from its packed weights."""
    return columns.shape[1] * columns.shape[3]


_to_activation = product_kernel(layer_ends.activation)
_into_stream = product_kernel(layer_ends.into_stream)
_to_neck = product_kernel(layer_ends.neck)
_to_head = product_kernel(layer_ends.head)
_to_parameters = product_kernel(layer_ends.parameters)


@njit(cache=True, nogil=True)
def _trunk(
    inputs: NDArray[np.uint8],
    stem: Tensors,
    blocks: tuple[tuple[Tensors, Tensors], ...],
    neck: Tensors,
    out: NDArray[np.int16],
) -> None:
    """All layers up to the neck; ``out`` (N, whole tiles).

    Room for a layer's outputs is of whole tiles; the next one reads as many as it has inputs.
    """
    width, within = stem[1].shape[0], 0
    for inner, _ in blocks:
        within = max(within, inner[1].shape[0])
    stream = np.empty((_ROWS, width), dtype=np.int32)
    activation = np.empty((_ROWS, width), dtype=np.uint8)
    inside = np.empty((_ROWS, within), dtype=np.uint8)
    for first in range(0, inputs.shape[0], _ROWS):
        x = inputs[first : first + _ROWS]
        count = x.shape[0]
        sums, active = stream[:count], activation[:count]
        sums[:] = 0
        columns, bias, shift = stem
        _into_stream(x, columns, active, (bias, shift, sums))
        for inner, outer in blocks:
            columns, bias, shift = inner
            hidden = inside[:count, : bias.shape[0]]
            _to_activation(active[:, : _depth(columns)], columns, hidden, (bias, shift))
            columns, bias, shift = outer
            _into_stream(hidden[:, : _depth(columns)], columns, active, (bias, shift, sums))
        columns, bias, shift = neck
        rows = out[first : first + count]
        _to_neck(active[:, : _depth(columns)], columns, rows, (bias, shift))


@njit(cache=True, nogil=True)
def _head_parameters(hidden: NDArray[np.uint8], layer: Tensors, out: NDArray[np.int32]) -> None:
    """Mixture parameters from the hidden activations of a head; ``out`` (N, whole tiles)."""
    columns, bias, shift = layer
    _to_parameters(hidden, columns, out, (bias, shift))


@njit(cache=True, nogil=True)
def _colour_inputs(residual: NDArray[np.int32], out: NDArray[np.uint8]) -> None:
    """Coded channels' residuals (N, c) at four clipping ranges: (N, 4 c)."""
    for n in range(residual.shape[0]):
        for c in range(residual.shape[1]):
            for g in range(COLOUR_INPUTS):
                scaled = np.int32(residual[n, c] * np.int32(1 << g))
                clipped = min(max(scaled, np.int32(-127)), np.int32(127))
                out[n, c * COLOUR_INPUTS + g] = clipped + np.int32(ZERO_POINT)


@njit(cache=True, nogil=True)
def _head_activation(
    neck: NDArray[np.int16],
    start: int,
    residual: NDArray[np.int32],
    colour: Tensors,
    out: NDArray[np.uint8],
) -> None:
    """Hidden activations of a head: its part of the neck plus the coded channels' contribution.

    ``out`` is (N, whole tiles), and so is the part of the neck from column ``start`` on.
    """
    columns, bias, shift = colour
    coded = np.full((_ROWS, BYTES_STEP), ZERO_POINT, dtype=np.uint8)
    for first in range(0, out.shape[0], _ROWS):
        stop = min(first + _ROWS, out.shape[0])
        _colour_inputs(residual[first:stop], coded)
        part = neck[first:stop, start : start + out.shape[1]]
        _to_head(coded[: stop - first], columns, out[first:stop], (bias, shift, part))


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
        for first, second in self.blocks:
            expected += [(first, (len(first.weight), width)), (second, (width, len(first.weight)))]
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
                raise ModelError(f"layer has shape {layer.weight.shape}, not {shape}")
        widths = [width, head_width, *(len(first.weight) for first, _ in self.blocks)]
        if any(size % BYTES_STEP for size in widths):
            raise ModelError(f"a width is not a multiple of {BYTES_STEP}")
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
    def _gray_neck(self) -> IntegerLayer:
        return self.neck.rows(slice(self.head_width))

    @cached_property
    def _block_tensors(self) -> tuple[tuple[Tensors, Tensors], ...]:
        return tuple((first.tensors, second.tensors) for first, second in self.blocks)

    def trunk(self, inputs: NDArray[np.uint8], gray: bool = False) -> NDArray[np.int16]:
        """Network inputs -> pre-activations of the heads.

        Args:
            inputs: uint8 (N, window.inputs), as of :func:`features.extract`.
            gray: whether they are of gray images.

        Returns:
            int16 (N, 3 * head_width), of gray images (N, head_width), 8 fraction bits.
        """
        if inputs.dtype != np.uint8 or inputs.shape[1] != self.window.inputs:
            raise ValueError(f"inputs are {inputs.dtype}{inputs.shape}")
        neck = self._gray_neck if gray else self.neck
        across = padded_to(len(neck.weight), COLUMNS)
        heads = np.empty((len(inputs), across), dtype=np.int16)
        stem, blocks = self.stem.tensors, self._block_tensors
        _trunk(np.ascontiguousarray(inputs), stem, blocks, neck.tensors, heads)
        return np.ascontiguousarray(heads[:, : len(neck.weight)])

    def hidden(
        self, channel: int, neck: NDArray[np.int16], residual: NDArray[np.int32]
    ) -> NDArray[np.uint8]:
        """Hidden activations of one channel's head.

        Args:
            channel: 0 green, 1 red, 2 blue.
            neck: int16 (N, 3 * head_width) from :meth:`trunk`.
            residual: int32 (N, channel), true residuals of the coded channels, -127 to 127.

        Returns:
            uint8 (N, head_width).
        """
        width = self.head_width
        start, further = channel * width, -width % COLUMNS
        if further:
            neck, start = np.pad(neck[:, start : start + width], ((0, 0), (0, further))), 0
        hidden = np.empty((len(neck), width + further), dtype=np.uint8)
        colour = self.colour[max(channel - 1, 0)]  # takes zeros for green
        _head_activation(neck, start, residual, colour.tensors, hidden)
        return np.ascontiguousarray(hidden[:, :width])

    def head(
        self, channel: int, neck: NDArray[np.int16], residual: NDArray[np.int32]
    ) -> NDArray[np.int32]:
        """Mixture parameters of one channel, as integers (see ``logistic_mixture``).

        Args: as of :meth:`hidden`.

        Returns:
            int32 (N, whole tiles): 15 + channel parameters, then zeros.
        """
        hidden = self.hidden(channel, neck, residual)
        layer = self.heads[channel].tensors
        parameters = np.empty((len(neck), len(layer[1])), dtype=np.int32)
        _head_parameters(hidden, layer, parameters)
        return parameters
