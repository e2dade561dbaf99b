"""Backward calibration: starts from the model, learns by the true gradient, waits its turn."""

import threading

import numpy as np
import pytest
from conftest import Photo
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import logistic

from source_codec import Codec
from source_codec.adaptation import (
    DELAY,
    Adaptation,
    Observation,
    _add_moments,
    _factorise,
    _Linear,
    _solve,
    _sum_gradients,
)
from source_codec.integer_products import COLUMNS, packed
from source_codec.logistic_mixture import MixtureTables, mixture
from source_codec.process import Process

TABLES = MixtureTables.compute()
KEY = (2, 1)


def hidden_and_near(
    rng: np.random.Generator, n: int
) -> tuple[NDArray[np.uint8], NDArray[np.int16]]:
    hidden = np.maximum(rng.integers(-172, 255, (n, 64)), 0).astype(np.uint8)
    return hidden, rng.integers(-127, 128, (n, 36)).astype(np.int16)


def test_the_first_blocks_are_the_models_own(codec: Codec) -> None:
    """To the integer: the untouched layer equals the integer network's."""
    network = codec.model.experts[2]
    rng = np.random.default_rng(1)
    neck = rng.integers(-3000, 3000, (700, 3 * network.head_width)).astype(np.int16)
    residual = rng.integers(-127, 128, (700, 2)).astype(np.int32)
    _, near = hidden_and_near(rng, 700)
    adaptation = Adaptation()
    for channel in range(3):
        coded = np.ascontiguousarray(residual[:, :channel])
        hidden = network.hidden(channel, neck, coded)
        layer = network.heads[channel]
        got, inputs = adaptation.parameters(0, (2, channel), layer, hidden, near)
        np.testing.assert_array_equal(got, network.head(channel, neck, coded))
        # 36 near pixels, a one, 64 activations.
        one = np.full((700, 1), 32, dtype=np.int16)
        expected = np.concatenate([near, one, hidden.astype(np.int16)], axis=1)
        whole = packed(expected)
        np.testing.assert_array_equal(inputs.packed[:, : whole.shape[1]], whole)
        assert not inputs.packed[:, whole.shape[1] :].any()
        np.testing.assert_array_equal(inputs.sample[:, :101], expected[::8])
        assert not inputs.sample[:, 101:].any()


def bits_of(
    parameters: NDArray[np.float64],
    base: float,
    unit: float,
    residual: NDArray[np.float64],
    value: int,
) -> float:
    """Code length in nats of a value, in float64, from the documented units."""
    weight = softmax(parameters[:5] / 64)
    centre = base / 16 + (parameters[5:10] / 8 + parameters[15:] / 128 @ residual) * unit
    scale = 8 * unit * 2.0 ** (parameters[10:15] / 16)
    upper = logistic.cdf((value + 0.5 - centre) / scale) if value < 255 else 1.0
    lower = logistic.cdf((value - 0.5 - centre) / scale) if value > 0 else 0.0
    mass = float(weight @ (upper - lower))
    return -float(np.log((1 - 2.0**-12) * mass + 2.0**-12 / 256))


@pytest.mark.parametrize("value", [0, 3, 100, 131, 200, 255])
def test_gradient_is_that_of_the_code_length(codec: Codec, value: int) -> None:
    """Central differences of the code length in float64."""
    rng = np.random.default_rng(value)
    parameters = np.concatenate(
        [
            rng.integers(-80, 80, 5),
            rng.integers(-200, 200, 5),
            rng.integers(-10, 20, 5),
            rng.integers(-60, 60, 1),
        ]
    ).astype(np.int32)[None]
    base, exponent = np.array([16 * 120], dtype=np.int32), np.array([4], dtype=np.int32)
    residual = np.array([[-7]], dtype=np.int32)
    values = np.array([value], dtype=np.int32)
    m = mixture(parameters, base, exponent, residual, 0, TABLES)
    adaptation = Adaptation()
    hidden, near = hidden_and_near(rng, 1)
    _, inputs = adaptation.parameters(0, KEY, codec.model.experts[2].heads[1], hidden, near)
    got = adaptation.observe(KEY, inputs, m, values, residual, exponent, TABLES.sharpness(0))
    expected = []
    for i in range(16):
        lengths = []
        for step in (-0.5, 0.5):
            moved = parameters[0].astype(np.float64)
            moved[i] += step
            lengths.append(bits_of(moved, 16 * 120.0, 1.0, residual[0].astype(float), value))
        expected.append(lengths[1] - lengths[0])
    np.testing.assert_allclose(got.gradient[:, 0], expected, rtol=0.02, atol=2e-4)


def test_solver_against_lapack() -> None:
    rng = np.random.default_rng(3)
    factor = rng.normal(size=(40, 40))
    matrix, right = factor @ factor.T + np.eye(40), rng.normal(size=(7, 40))
    expected = np.linalg.solve(matrix, right.T)
    _factorise(matrix)
    right = np.ascontiguousarray(right.T)
    _solve(matrix, right)
    np.testing.assert_allclose(right, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("rows", [2, 64, 70, 512, 514, 2048])
def test_sums_over_pixels_are_exact(rows: int) -> None:
    """With all operands at the ends of their range, and up to as many rows as a block has."""
    rng = np.random.default_rng(rows)
    inputs = rng.choice(np.array([-127, 255], dtype=np.int16), (rows, 64))
    codes = rng.choice(np.array([-(1 << 14), 1 << 14], dtype=np.int16), (17, rows))
    inputs[:, 5], codes[3] = 255, 1 << 14
    sums = np.empty((17, 64), dtype=np.int64)
    _sum_gradients(codes, packed(inputs), sums)
    np.testing.assert_array_equal(sums, codes.astype(np.int64) @ inputs)


@pytest.mark.parametrize("rows", [1, 2, 255, 1024])
def test_second_moments_are_exact(rows: int) -> None:
    """Up to as many pixels as are sampled between two factorisations; half is kept."""
    rng = np.random.default_rng(rows)
    inputs = rng.choice(np.array([-127, 255], dtype=np.int16), (rows, 3 * COLUMNS))
    inputs[:, 5] = 255
    depth = 2 * COLUMNS + 5
    moments = np.full((depth, depth), 1000.0)
    _add_moments(inputs, 0.5, moments)
    exact = (inputs.T.astype(np.int64) @ inputs)[:depth, :depth] / 32**2
    np.testing.assert_array_equal(np.triu(moments), np.triu(500 + exact))


@pytest.mark.parametrize("size", [1e-9, 0.01, 1.0, 1e5])
def test_rounded_weights_are_close(size: float) -> None:
    """Parameters of the integer map, against the same map in float64: inputs are in 1/32."""
    rng = np.random.default_rng(10)
    near, hidden = 12, 64
    weight = rng.normal(size=(near + 1 + hidden, 16)) * size
    activations = rng.integers(0, 256, (30, hidden)).astype(np.uint8)
    nearest = rng.integers(-127, 128, (30, near)).astype(np.int16)
    one = np.full((30, 1), 32)
    inputs = np.concatenate([nearest, one, activations], axis=1)
    expected = np.clip(inputs / 32 @ weight, -(1 << 20), 1 << 20)
    got, _ = _Linear.rounded(weight, near).parameters(activations, nearest)
    np.testing.assert_allclose(got[:, :16], expected, rtol=0, atol=0.51 + 0.03 * size)


def test_a_step_is_natural_gradient_descent(codec: Codec) -> None:
    """The first block's, in float64, from the documented formula."""
    rng = np.random.default_rng(11)
    hidden, near = hidden_and_near(rng, 900)
    adaptation = Adaptation()
    layer = codec.model.experts[2].heads[1]
    inputs = adaptation.parameters(0, KEY, layer, hidden, near)[1]
    head = adaptation._heads[KEY]
    before = head.weight.copy()
    gradient = (rng.normal(size=(16, 900)) * 2.0 ** rng.integers(-12, 3, (16, 1))).astype(
        np.float32
    )
    adaptation.learn(0, [Observation(head, inputs, gradient)])
    one = np.ones((900, 1))
    x = np.concatenate([near / 32, one, hidden.astype(float) / 32], axis=1)
    sample = x[::8]
    moments = sample.T @ sample / len(sample)
    damped = moments + 0.1 * np.trace(moments) / len(moments) * np.eye(len(moments))
    curvature = (gradient.astype(float) ** 2).mean(axis=1) * (900 + 40000)
    step = np.linalg.solve(damped, x.T @ gradient.T.astype(float)) / curvature
    np.testing.assert_allclose(head.weight, before - step, atol=2e-3 * np.abs(step).max())


def observation(adaptation: Adaptation, rng: np.random.Generator, block: int) -> Observation:
    hidden, near = hidden_and_near(rng, 200)
    layer_inputs = adaptation.parameters(block, KEY, LAYERS[0], hidden, near)[1]
    gradient = (3 + rng.normal(size=(16, 200))).astype(np.float32)
    return Observation(adaptation._heads[KEY], layer_inputs, gradient)


LAYERS = []


@pytest.fixture(autouse=True)
def _layer(codec: Codec) -> None:
    LAYERS[:] = [codec.model.experts[2].heads[1]]


def test_a_block_sees_what_was_learned_up_to_two_blocks_before() -> None:
    """Whether or not the block between has been learned from already."""
    rng = np.random.default_rng(4)
    hidden, near = hidden_and_near(rng, 2000)  # a block moves few of the rounded parameters
    adaptation = Adaptation()

    def seen(block: int) -> NDArray[np.int32]:
        return adaptation.parameters(block, KEY, LAYERS[0], hidden, near)[0]

    untouched = seen(0)
    for block in range(4):
        adaptation.learn(block, [observation(adaptation, rng, block)])
        before = seen(block + 1)
        after = seen(block + 2)
        if block == 0:
            np.testing.assert_array_equal(before, untouched)
        assert (after != before).any()
        previous = after if block == 0 else previous  # noqa: F821
        if block:
            np.testing.assert_array_equal(before, previous)
        previous = after
    assert DELAY == 2


def test_blocks_wait_for_their_turn() -> None:
    rng = np.random.default_rng(5)
    adaptation = Adaptation()
    first = observation(adaptation, rng, 0)
    second = observation(adaptation, rng, 1)
    hidden, near = hidden_and_near(rng, 5)
    waited: list[str] = []

    def third() -> None:
        adaptation.parameters(2, KEY, LAYERS[0], hidden, near)
        waited.append("block 2")

    thread = threading.Thread(target=third)
    thread.start()
    thread.join(0.2)
    assert not waited
    adaptation.learn(0, [first])
    thread.join(10)
    assert waited == ["block 2"]
    adaptation.learn(1, [second])


def test_blocks_are_learned_from_in_their_sequence() -> None:
    """A block that comes before its turn is kept until then."""
    weights = []
    for sequence in ((0, 1, 2), (2, 1, 0), (1, 0, 2)):
        rng = np.random.default_rng(9)
        adaptation = Adaptation()
        blocks = [observation(adaptation, rng, 0) for _ in range(3)]
        for block in sequence:
            adaptation.learn(block, [blocks[block]])
        weights.append(adaptation._heads[KEY].weight)
        assert adaptation._learned == 3
    np.testing.assert_array_equal(weights[1], weights[0])
    np.testing.assert_array_equal(weights[2], weights[0])


def test_a_failed_block_does_not_leave_others_waiting() -> None:
    rng = np.random.default_rng(6)
    adaptation = Adaptation()
    hidden, near = hidden_and_near(rng, 5)
    failures: list[BaseException] = []

    def waiting() -> None:
        try:
            adaptation.parameters(9, KEY, LAYERS[0], hidden, near)
        except RuntimeError as error:
            failures.append(error)

    thread = threading.Thread(target=waiting)
    thread.start()
    adaptation.give_up()
    thread.join(10)
    assert len(failures) == 1


def test_adaptation_shortens_the_code_and_comes_back(codec: Codec, photo: Photo) -> None:
    """A picture with structure that no model knows: stripes of period five, slightly noisy."""
    rng = np.random.default_rng(7)
    x = np.arange(300)
    stripes = 60 * ((x[None, :] + 2 * x[:200, None]) % 5) + rng.integers(-3, 4, (200, 300))
    image = np.clip(stripes[..., None] + np.array([0, 8, 4]), 0, 255).astype(np.uint8)
    fixed = codec.encode(image, Process(adaptive=False))
    adapted = codec.encode(image)
    assert len(adapted) < 0.97 * len(fixed)
    np.testing.assert_array_equal(codec.decode(adapted), image)
    np.testing.assert_array_equal(codec.decode(fixed), image)


def test_weights_stay_finite() -> None:
    """Gradients beyond any that an image gives: the weights are kept, or bounded."""
    rng = np.random.default_rng(8)
    adaptation = Adaptation()
    hidden, near = hidden_and_near(rng, 100)
    for block, size in enumerate((1e30, np.inf, np.nan, 3e38, 1e-30)):
        inputs = adaptation.parameters(block, KEY, LAYERS[0], hidden, near)[1]
        gradient = np.full((16, 100), size, dtype=np.float32)
        adaptation.learn(block, [Observation(adaptation._heads[KEY], inputs, gradient)])
        assert np.isfinite(adaptation._heads[KEY].weight).all()
        assert np.abs(adaptation._heads[KEY].weight).max() <= 1 << 20
