"""Integer inference: exact, however the rows are batched."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from source_codec import Codec, ModelError, layer_ends
from source_codec.conversion import from_denoisers, to_denoisers, untrained
from source_codec.denoiser import Denoiser, DenoiserShape, quantise_weight
from source_codec.experts import PHASES, Kind, expert_of
from source_codec.integer_network import (
    IntegerLayer,
    IntegerNetwork,
    absorbed_zero,
    fits_groups,
    product_kernel,
)
from source_codec.integer_products import NARROW, packed
from source_codec.integer_products import WIDE as WIDE_VECTORS
from source_codec.model import Model
from source_codec.window import N_DENSITIES, WIDE

Integers = NDArray[np.int64]


def layer_in_int64(layer: IntegerLayer, x: Integers) -> Integers:
    """round(x W^T + b) / 2^shift, in plain numpy; bias zero points are in the bias already."""
    total = x @ layer.weight.astype(np.int64).T + layer.bias
    return np.floor_divide(total + (2 ** layer.shift.astype(np.int64)) // 2, 2**layer.shift)


def activations_in_int64(stream: Integers) -> Integers:
    """From 1/256 to 1/32, rounded, 0 to 255."""
    return np.clip(np.floor_divide(stream + 4, 8), 0, 255)


def trunk_in_int64(network: IntegerNetwork, inputs: NDArray[np.uint8]) -> Integers:
    stream = layer_in_int64(network.stem, inputs.astype(np.int64))
    for first, second in network.blocks:
        hidden = layer_in_int64(first, activations_in_int64(stream))
        stream = stream + layer_in_int64(second, np.clip(hidden, 0, 255))
    neck = layer_in_int64(network.neck, activations_in_int64(stream))
    return np.clip(neck, -32767, 32767)


def head_in_int64(
    network: IntegerNetwork, channel: int, neck: Integers, residual: Integers
) -> Integers:
    width = network.neck.weight.shape[0] // 3
    hidden = neck[:, channel * width : (channel + 1) * width].astype(np.int64)
    if channel:
        gains = np.array([1, 2, 4, 8])
        colour = np.clip(residual[:, :channel, None] * gains, -127, 127).reshape(len(neck), -1)
        hidden = hidden + layer_in_int64(network.colour[channel - 1], colour + 128)
    return layer_in_int64(network.heads[channel], activations_in_int64(hidden))


@pytest.fixture(scope="module")
def denoiser() -> Denoiser:
    """A small untrained network with biases, so that nothing is zero by accident."""
    torch.manual_seed(3)
    result = Denoiser(DenoiserShape(width=32, blocks=(24, 40), head_width=16), WIDE)
    with torch.no_grad():
        for layer in result.layers():
            if layer.bias is not None:
                layer.bias.add_(0.3 * torch.randn_like(layer.bias))
    result.refresh()
    return result


def untrained_model(first: Denoiser) -> Model:
    return from_denoisers([first, *experts([16] * 5)[1:]])


@pytest.fixture(scope="module", params=["sparse", "wavefront", "untrained"])
def network(request: pytest.FixtureRequest, codec: Codec, denoiser: Denoiser) -> IntegerNetwork:
    """Two of the default model's experts, and an untrained one."""
    if request.param == "untrained":
        return untrained_model(denoiser).experts[0]
    names = [phase.name for phase in PHASES]
    return codec.model.experts[names.index(request.param)]


@pytest.fixture(scope="module")
def inputs(network: IntegerNetwork) -> NDArray[np.uint8]:
    """Sparse and small, dense and random, and the largest possible rows; 300 in all."""
    rng = np.random.default_rng(8)
    width = network.window.inputs
    rows = rng.integers(-127, 128, (300, width))
    rows[:100] = np.clip(rng.normal(scale=20, size=(100, width)), -127, 127)
    rows[100:150][rng.random((50, width)) < 0.9] = 0
    rows[150] = 127
    rows[151] = -127
    rows[152] = 0
    return (rows + 128).astype(np.uint8)


@pytest.fixture(scope="module")
def residual() -> NDArray[np.int32]:
    rng = np.random.default_rng(9)
    return rng.integers(-127, 128, (300, 2)).astype(np.int32)


def test_network_equals_int64_arithmetic(
    network: IntegerNetwork, inputs: NDArray[np.uint8], residual: NDArray[np.int32]
) -> None:
    neck = network.trunk(inputs)
    assert neck.dtype == np.int16
    np.testing.assert_array_equal(neck, trunk_in_int64(network, inputs))
    for channel in range(3):
        coded = residual[:, :channel].copy()
        parameters = network.head(channel, neck, coded)
        outputs = 15 + channel
        expected = head_in_int64(network, channel, neck, coded)
        np.testing.assert_array_equal(parameters[:, :outputs], expected)
        assert not parameters[:, outputs:].any()


def test_rows_do_not_depend_on_their_batch(
    network: IntegerNetwork, inputs: NDArray[np.uint8], residual: NDArray[np.int32]
) -> None:
    together = network.trunk(inputs)
    heads = [network.head(c, together, residual[:, :c].copy()) for c in range(3)]
    for rows in (1, 7, 256, 257):
        chosen = slice(40, 40 + rows)
        neck = network.trunk(inputs[chosen].copy())
        np.testing.assert_array_equal(neck, together[chosen])
        for c in range(3):
            coded = residual[chosen, :c].copy()
            np.testing.assert_array_equal(network.head(c, neck, coded), heads[c][chosen])


def test_later_channels_do_not_influence_earlier_ones(
    network: IntegerNetwork, inputs: NDArray[np.uint8], residual: NDArray[np.int32]
) -> None:
    """A head reads the residuals of the channels before it, and each of them has an effect."""
    neck = network.trunk(inputs)
    blue = network.head(2, neck, residual)
    for c in range(2):
        changed = residual.copy()
        changed[:, c] = -changed[:, c]
        assert (network.head(2, neck, changed) != blue).any()


def layer(weight: NDArray[np.int8], bias: int = 0, shift: int = 4) -> IntegerLayer:
    out = len(weight)
    return IntegerLayer(
        weight, np.full(out, bias, dtype=np.int32), np.full(out, shift, dtype=np.int32)
    )


def test_accumulators_that_could_overflow_are_refused() -> None:
    """255 times the sum of a row's absolute weights must stay below 2^30."""
    weight = np.zeros((3, 131_592), dtype=np.int8)
    weight[1, :131_584] = 32
    weight[1, 131_584] = 64  # 4210752, times 255 is 2^30 - 64
    layer(weight)
    weight[1, 131_584] = -64
    layer(weight)
    weight[1, 131_585] = -1
    with pytest.raises(ModelError, match="overflow its accumulator"):
        layer(weight)


@pytest.mark.parametrize("lanes", [NARROW, WIDE_VECTORS])
def test_largest_accepted_layer_is_exact(lanes: int) -> None:
    """At the limits of both checks, on the operands that bring all sums to their extremes."""
    weight = np.zeros((8, 131_592), dtype=np.int8)
    weight[:, :131_584] = 32
    weight[:, 131_584] = 64
    weight[1::2] *= -1
    accepted = layer(weight)
    x = np.full((6, 131_592), 255, dtype=np.uint8)
    x[1::2] = 0
    x[2::4, ::3] = 254
    expected = x.astype(np.int64) @ weight.astype(np.int64).T
    assert np.abs(expected).max() == (1 << 30) - 64
    products = np.empty((6, 2 * lanes), np.int32)
    product_kernel(lanes=lanes)(x, packed(accepted.weight.T, lanes, np.int8), products, ())
    np.testing.assert_array_equal(products[:, :8], expected)


def test_partial_sums_that_could_overflow_are_refused() -> None:
    """Inputs 0, 1, 4 and 5 of every eight are added up in 16 bits, and 2, 3, 6 and 7."""
    weight = np.zeros((2, 16), dtype=np.int8)
    weight[1, [8, 9, 12, 13]] = 32, 33, 31, 32
    weight[1, [10, 11, 14, 15]] = -127, 127, -1, 1
    layer(weight)
    assert fits_groups(weight).all()
    for place, largest in ((8, 33), (13, 33), (11, -2), (14, -2), (15, 2)):
        changed = weight.copy()
        changed[1, place] = largest
        assert fits_groups(changed).tolist() == [True, False]
        with pytest.raises(ModelError, match="overflow 16 bits"):
            layer(changed)
    for place in (0, 2, 5, 7):
        weight[1, place] = 127
    assert fits_groups(weight).tolist() == [True, False]
    weight[1, 5] = weight[1, 7] = 1
    assert fits_groups(weight).all()


def test_malformed_layers_are_refused() -> None:
    weight = np.ones((2, 4), dtype=np.int8)
    good = layer(weight)
    with pytest.raises(ModelError, match="shift"):
        layer(weight, shift=25)
    with pytest.raises(ModelError, match="shift"):
        layer(weight, shift=-1)
    with pytest.raises(ModelError, match="bias"):
        layer(weight, bias=1 << 28)
    with pytest.raises(ModelError, match=r"int32\(2, 4\), not .*int8"):
        IntegerLayer(weight.astype(np.int32), good.bias, good.shift)
    with pytest.raises(ModelError, match="tensor"):
        IntegerLayer(weight, good.bias[:1], good.shift)


def test_layers_that_do_not_fit_together_are_refused(network: IntegerNetwork) -> None:
    with pytest.raises(ModelError, match="three heads"):
        replace(network, heads=network.heads[:2])
    with pytest.raises(ModelError, match="layer has shape"):
        replace(network, neck=layer(network.neck.weight[:, :-8].copy()))
    first, second = network.blocks[0]
    narrower = first.rows(slice(4)), replace(second, weight=second.weight[:, :4].copy())
    with pytest.raises(ModelError, match="multiple of 8"):
        replace(network, blocks=(narrower,))


@pytest.mark.parametrize("lanes", [NARROW, WIDE_VECTORS])
def test_ends_of_layers(lanes: int) -> None:
    """What becomes of a layer's sums, in both widths of vectors, against numpy."""
    rng = np.random.default_rng(15)
    across = 4 * lanes
    weight = rng.integers(-32, 33, (across, 24)).astype(np.int8)
    x = rng.integers(0, 256, (7, 24)).astype(np.uint8)
    bias = rng.integers(-90_000, 90_000, across).astype(np.int32)
    shift = rng.integers(0, 12, across).astype(np.int32)
    outputs = (x.astype(int) @ weight.T + bias) >> shift
    columns = packed(weight.T, lanes, np.int8)
    active = np.empty((7, across), np.uint8)
    product_kernel(layer_ends.activation, lanes)(x, columns, active, (bias, shift))
    np.testing.assert_array_equal(active, np.clip(outputs, 0, 255))
    neck = np.empty((7, across), np.int16)
    product_kernel(layer_ends.neck, lanes)(x, columns, neck, (bias, shift))
    np.testing.assert_array_equal(neck, np.clip(outputs, -32767, 32767))
    stream = rng.integers(-30_000, 30_000, (7, across)).astype(np.int32)
    after = stream.copy()
    product_kernel(layer_ends.into_stream, lanes)(x, columns, active, (bias, shift, after))
    np.testing.assert_array_equal(after, stream + outputs)
    np.testing.assert_array_equal(active, activations_in_int64(stream + outputs))
    part = rng.integers(-3000, 3000, (9, across + 5)).astype(np.int16)[1:8, 3 : across + 3]
    product_kernel(layer_ends.head, lanes)(x, columns, active, (bias, shift, part))
    np.testing.assert_array_equal(active, activations_in_int64(part + outputs))
    assert (active > 0).any()
    assert (active < 255).any()


def test_weights_are_rounded_to_8_bits() -> None:
    rng = np.random.default_rng(10)
    weight = torch.from_numpy(rng.normal(size=(20, 50)) * np.logspace(-3, 1, 20)[:, None])
    integers, exponent = quantise_weight(weight)
    assert torch.equal(integers, integers.round())
    assert fits_groups(integers.numpy().astype(int)).all()
    # A power of two per row, as large as the groups allow (at most 2^14).
    error = (integers * 2.0**-exponent - weight).abs()
    assert bool((error <= 0.5 * 2.0**-exponent + 1e-9).all())
    twice = 2 * integers.numpy().astype(int)
    too_large = ~fits_groups(twice) | (np.abs(twice).max(axis=1) > 127)
    assert (too_large | (exponent[:, 0] == 14).numpy()).all()
    again, same = quantise_weight(integers * 2.0**-exponent)
    assert torch.equal(again, integers)
    assert torch.equal(same, exponent)


@pytest.mark.parametrize(
    ("weights", "exponent", "integers"),
    [
        ([32.4, 32.4, 32.4, 32.4], 0, [32, 32, 32, 32]),
        ([32.4, 32.4, 32.4, 32.6], 0, [32, 32, 32, 32]),  # 129 when rounded; half of it, twice
        ([34.0, 34.0, 34.0, 34.0], -1, [17, 17, 17, 17]),
        ([-63.8, 63.8, 0.2, 0.0], 0, [-64, 64, 0, 0]),
        ([-63.6, 63.6, 0.2, 0.0], 1, [-127, 127, 0, 0]),
        ([128.0, 0.0, 0.0, 0.0], -1, [64, 0, 0, 0]),
        ([126.0, 1.0, 1.0, -9.0], 0, [126, 1, 1, -9]),
    ],
)
def test_the_scale_leaves_groups_in_their_bounds(
    weights: list[float], exponent: int, integers: list[int]
) -> None:
    row = torch.zeros(1, 8)
    row[0, [0, 1, 4, 5]] = torch.tensor(weights)
    rounded, scale = quantise_weight(row)
    assert (int(scale), rounded[0, [0, 1, 4, 5]].tolist()) == (exponent, integers)


def test_float_denoiser_computes_the_same(denoiser: Denoiser) -> None:
    """Training sees the network that will be used, up to rounding of sums to the stream's 1/256.

    Where that rounding tips an activation over to the next 1/32, an output moves by 1/32 times a
    weight; hence most outputs agree to half of their own grid step, and all to a few.
    """
    network = untrained_model(denoiser).experts[0]
    rng = np.random.default_rng(11)
    inputs = np.clip(rng.normal(scale=25, size=(400, 672)), -127, 127).round()
    residual = rng.integers(-127, 128, (400, 3))
    with torch.no_grad():
        outputs = denoiser(torch.from_numpy(inputs).float(), torch.from_numpy(residual).float())
    neck = network.trunk((inputs + 128).astype(np.uint8))
    for channel in range(3):
        coded = residual[:, :channel].astype(np.int32)
        integers = network.head(channel, neck, coded)[:, : 15 + channel]
        # 1/64 nat; 1/8 input unit, where the float network counts 32 units; 1/16 octave; 1/128.
        grid = [1 / 64] * 5 + [1 / (8 * 32)] * 5 + [1 / 16] * 5 + [1 / 128] * channel
        difference = outputs[channel].numpy() / np.array(grid) - integers
        assert np.quantile(np.abs(difference), 0.9) < 0.6
        assert np.abs(difference).max() < 4


def test_zero_moves_into_the_bias() -> None:
    rng = np.random.default_rng(13)
    weight = rng.integers(-127, 128, (5, 30)).astype(np.int8)
    x = rng.integers(-127, 128, (50, 30))
    stored = (x + 128) @ weight.T.astype(int) - absorbed_zero(weight)
    np.testing.assert_array_equal(stored, x @ weight.T.astype(int))


def test_gray_images_need_the_first_heads_part(
    network: IntegerNetwork, inputs: NDArray[np.uint8]
) -> None:
    part = network.trunk(inputs)[:, : network.head_width]
    np.testing.assert_array_equal(network.trunk(inputs, gray=True), part)


# Experts.


def test_every_step_has_one_expert() -> None:
    """Which it is follows from the image's class and the share of pixels known."""
    names = [
        [PHASES[expert_of(density, kind)].name for density in range(N_DENSITIES)] for kind in Kind
    ]
    assert names[0] == ["sparse"] * 4 + ["half"] * 2 + ["dense"] * 2
    assert names[1:] == [["small"] * 8, ["wavefront"] * 8]
    with pytest.raises(ValueError, match="density"):
        expert_of(N_DENSITIES, Kind.LARGE)


def experts(widths: list[int]) -> list[Denoiser]:
    torch.manual_seed(4)
    return untrained([DenoiserShape(width, (16,), 8) for width in widths])


def test_experts_of_several_sizes_survive_the_file(tmp_path: Path) -> None:
    """Each expert keeps its place, in the integers and in the floats made of them."""
    model = from_denoisers(experts([16, 24, 32, 40, 48]), "a note")
    model.save(tmp_path / "model.safetensors")
    loaded = Model.load(tmp_path / "model.safetensors")
    assert [len(e.stem.weight) for e in loaded.experts] == [16, 24, 32, 40, 48]
    assert loaded.expert(5, Kind.LARGE) is loaded.experts[1]
    assert loaded.expert(5, Kind.SMALL) is loaded.experts[3]
    assert loaded.expert(5, Kind.WAVEFRONT) is loaded.experts[4]
    assert loaded.model_id == model.model_id
    assert from_denoisers(to_denoisers(loaded)).model_id == model.model_id


def test_the_identity_depends_on_every_expert() -> None:
    denoisers = experts([16] * 5)
    ids = {from_denoisers(denoisers).model_id}
    for expert in range(5):
        with torch.no_grad():
            denoisers[expert].neck.bias[0] += 1
        ids.add(from_denoisers(denoisers).model_id)
    sparse, half, dense, *small = denoisers
    ids.add(from_denoisers([sparse, dense, half, *small]).model_id)  # they see the same places
    assert len(ids) == 7


def test_experts_see_what_their_steps_have() -> None:
    sparse, half, *others = experts([16] * 5)
    with pytest.raises(ModelError, match="sparse sees another window"):
        from_denoisers([half, sparse, *others])


def test_a_model_has_five_experts() -> None:
    with pytest.raises(ModelError, match="5 experts"):
        from_denoisers(experts([16] * 5)[:4])
