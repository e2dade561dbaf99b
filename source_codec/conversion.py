"""Between trained networks and integer ones: export to a model, and back to train on from it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from numpy.typing import NDArray

from source_codec.denoiser import Denoiser, QuantLinear, quantise_weight
from source_codec.errors import ModelError
from source_codec.experts import PHASES, Kind
from source_codec.integer_network import (
    IntegerLayer,
    IntegerNetwork,
    absorbed_zero,
)
from source_codec.logistic_mixture import (
    COEFFICIENT_BITS,
    LOGIT_BITS,
    MEAN_BITS,
    SCALE_STEPS,
    MixtureTables,
)
from source_codec.model import Model
from source_codec.network_shape import (
    ACTIVATION_BITS,
    INPUT_BITS,
    N_MIXTURES,
    STREAM_BITS,
    DenoiserShape,
)
from source_codec.window import N_DENSITIES


def _integer_layer(
    layer: QuantLinear, input_bits: int, output_bits: int | NDArray[np.int64], zero_point: bool
) -> IntegerLayer:
    """Converts a trained layer; ``output_bits`` are the fraction bits of each output."""
    with torch.no_grad():
        integers, exponent = quantise_weight(layer.weight)
    weight = integers.numpy().astype(np.int8)
    accumulator_bits = exponent.numpy().astype(np.int64)[:, 0] + input_bits
    shift = accumulator_bits - output_bits
    if shift.min() < 0:
        raise ModelError("a weight is too large for the integer format")
    bias = np.zeros(len(weight))
    if layer.bias is not None:
        bias = layer.bias.detach().double().numpy() * 2.0**accumulator_bits
    integer_bias = np.rint(bias).astype(np.int32)
    if zero_point:
        integer_bias -= absorbed_zero(weight)
    return IntegerLayer(weight, integer_bias, shift.astype(np.int32))


def _grids(denoiser: Denoiser) -> Iterator[tuple[QuantLinear, int, int | NDArray[np.int64], bool]]:
    """The layers with the fraction bits of inputs and outputs, and whether inputs are shifted.

    In the sequence of :meth:`IntegerNetwork.layers`.
    """
    yield denoiser.stem, INPUT_BITS, STREAM_BITS, True
    for block in denoiser.blocks:
        yield block.first, ACTIVATION_BITS, ACTIVATION_BITS, False
        yield block.second, ACTIVATION_BITS, STREAM_BITS, False
    yield denoiser.neck, ACTIVATION_BITS, STREAM_BITS, False
    for layer in denoiser.colour:
        yield layer, INPUT_BITS, STREAM_BITS, True
    for channel, head in enumerate(denoiser.heads):
        # The float network gives means in 32 input units (5 bits), scales in octaves.
        bits = [LOGIT_BITS] * N_MIXTURES + [MEAN_BITS + 5] * N_MIXTURES
        bits += [SCALE_STEPS.bit_length() - 1] * N_MIXTURES + [COEFFICIENT_BITS] * channel
        yield head, ACTIVATION_BITS, np.array(bits, dtype=np.int64), False


def _integer_network(denoiser: Denoiser) -> IntegerNetwork:
    stem, *rest = (_integer_layer(*grid) for grid in _grids(denoiser))
    in_blocks = rest[: 2 * len(denoiser.blocks)]
    neck, *last = rest[len(in_blocks) :]
    return IntegerNetwork(
        window=denoiser.window,
        stem=stem,
        blocks=tuple(zip(in_blocks[::2], in_blocks[1::2], strict=True)),
        neck=neck,
        colour=tuple(last[:2]),
        heads=tuple(last[2:]),
    )


def untrained(shapes: Sequence[DenoiserShape]) -> list[Denoiser]:
    """Experts of given sizes, in the order of :data:`source_codec.experts.PHASES`."""
    return [Denoiser(shape, phase.window) for shape, phase in zip(shapes, PHASES, strict=True)]


def from_denoisers(denoisers: Sequence[Denoiser], notes: str = "") -> Model:
    """Exports trained experts to integers, with temperature zero (uncalibrated)."""
    temperature = np.zeros((len(Kind), N_DENSITIES, 3), dtype=np.int8)
    experts = tuple(_integer_network(denoiser) for denoiser in denoisers)
    return Model(experts, MixtureTables.compute(), temperature, notes)


def to_denoisers(model: Model) -> list[Denoiser]:
    """The float experts of a model, to train on from; exporting them again gives its integers."""
    return [_float_network(network) for network in model.experts]


def _float_network(network: IntegerNetwork) -> Denoiser:
    shape = DenoiserShape(
        width=len(network.stem.weight),
        blocks=tuple(len(first.weight) for first, _ in network.blocks),
        head_width=network.head_width,
    )
    denoiser = Denoiser(shape, network.window)
    with torch.no_grad():
        for (layer, input_bits, output_bits, shifted), integers in zip(
            _grids(denoiser), network.layers(), strict=True
        ):
            accumulator_bits = integers.shift + output_bits
            scale = 2.0 ** (input_bits - accumulator_bits)
            layer.weight.copy_(torch.from_numpy(integers.weight * scale[:, None]))
            if layer.bias is not None:
                bias = integers.bias.astype(np.int64)
                if shifted:
                    bias += absorbed_zero(integers.weight)
                layer.bias.copy_(torch.from_numpy(bias * 2.0**-accumulator_bits))
    denoiser.refresh()
    return denoiser
