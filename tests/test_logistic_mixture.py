"""Integer probabilities, against logistic mixtures in float64, and as the coder uses them."""

import itertools
from dataclasses import dataclass

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import logistic

from source_codec import ModelError
from source_codec.logistic_mixture import (
    Mixture,
    MixtureTables,
    code_length,
    decode_values,
    intervals,
    mixture,
)
from source_codec.range_coder import RangeDecoders, RangeEncoders

Floats = NDArray[np.float64]
TABLES = MixtureTables.compute()
FLOOR = 2.0**-12
"""Weight of the uniform distribution that is mixed in."""


@dataclass(frozen=True)
class Case:
    """Network outputs of N sub-pixels and what they are relative to."""

    parameters: NDArray[np.int32]
    base: NDArray[np.int32]
    exponent: NDArray[np.int32]
    residual: NDArray[np.int32]
    temperature: int

    def mixture(self) -> Mixture:
        return mixture(
            self.parameters, self.base, self.exponent, self.residual, self.temperature, TABLES
        )

    def probabilities(self) -> Floats:
        """P(value), shape (N, 256): the same mixture with transcendental functions, in float64.

        Units as documented: logits 1/64 nat, means 1/8 input unit, scales 1/16 octave of 8 input
        units, coefficients 1/128, temperature 1/16 octave, base 1/16 gray level; an input unit is
        2^exponent / 16 gray levels; scales are limited to 2^-6 to 2^8 gray levels. What the coded
        channels add to a mean is a whole number of 1/8 input units, too (rounded to nearest).
        """
        p = self.parameters.astype(np.float64)
        sharpness = 2.0 ** (-self.temperature / 16)
        weight = softmax(p[:, :5] / 64 * sharpness, axis=1)
        unit = 2.0 ** self.exponent[:, None] / 16
        shift = (p[:, 15:] / 128 * self.residual).sum(axis=1, keepdims=True)
        shift = np.floor(shift * 8 + 0.5) / 8
        centre = self.base[:, None] / 16 + (p[:, 5:10] / 8 + shift) * unit
        scale = 8 * unit * 2.0 ** ((p[:, 10:15] + self.temperature) / 16)
        scale = np.clip(scale, 2.0**-6, 2.0**8)
        edges = np.concatenate([[-np.inf], np.arange(1, 256) - 0.5, [np.inf]])
        z = (edges[None, :, None] - centre[:, None]) / scale[:, None]
        return np.diff((weight[:, None] * logistic.cdf(z)).sum(axis=-1), axis=1)


def random_case(seed: int, n: int = 300, channel: int = 2, temperature: int = 0) -> Case:
    rng = np.random.default_rng(seed)
    parameters = np.concatenate(
        [
            rng.normal(scale=100, size=(n, 5)),
            rng.normal(scale=300, size=(n, 5)),
            rng.normal(scale=30, size=(n, 5)),
            rng.normal(scale=60, size=(n, channel)),
        ],
        axis=1,
    )
    return Case(
        np.rint(parameters).astype(np.int32),
        rng.integers(0, 255 * 16 + 1, n).astype(np.int32),
        rng.integers(0, 7, n).astype(np.int32),
        rng.integers(-127, 128, (n, channel)).astype(np.int32),
        temperature,
    )


def extreme_cases() -> list[Case]:
    """Every combination of extreme logits, means, scales, bases and exponents."""
    rows, bases, exponents = [], [], []
    for logit in (-(1 << 20), 0, 1 << 20):
        for mean in (-(1 << 24), -5000, 0, 5000, 1 << 24):
            for scale in (-(1 << 20), -500, 0, 500, 1 << 20):
                for base in (0, 255 * 16):
                    for exponent in (0, 6):
                        rows.append([logit, 0, 0, 0, 5] + [mean] * 5 + [scale] * 5 + [2000, -2000])
                        bases.append(base)
                        exponents.append(exponent)
    parameters = np.array(rows, dtype=np.int32)
    n = len(parameters)
    residual = np.tile(np.array([127, -127], dtype=np.int32), (n, 1))
    base, exponent = np.array(bases, dtype=np.int32), np.array(exponents, dtype=np.int32)
    return [Case(parameters, base, exponent, residual, t) for t in (-16, 0, 16)]


def all_sizes(m: Mixture) -> Floats:
    """Units of every value of every row: (N, 256)."""
    n = m.weight.shape[1]
    found = [intervals(m, np.full(n, value, dtype=np.int32)) for value in range(256)]
    assert (found[0].first == 0).all()
    for one, following in itertools.pairwise(found):
        np.testing.assert_array_equal(one.first + one.size, following.first)
    return np.stack([one.size for one in found], axis=1).astype(np.float64)


CASES = [
    *(random_case(seed, temperature=t) for seed, t in enumerate((-16, -3, 0, 5, 16))),
    random_case(5, channel=0),
    random_case(6, channel=1),
    *extreme_cases(),
]


@pytest.mark.parametrize("case", CASES)
def test_all_units_are_taken(case: Case) -> None:
    """2^24 in all; each value has at least its share of the floor: 16."""
    sizes = all_sizes(case.mixture())
    assert (sizes.sum(axis=1) == 1 << 24).all()
    assert sizes.min() >= 16


@pytest.mark.parametrize("case", CASES)
def test_mixture_is_well_formed(case: Case) -> None:
    m = case.mixture()
    assert (m.weight.sum(axis=0) == 1 << 15).all()
    assert m.weight.min() >= 0


@pytest.mark.parametrize("case", CASES[:7])
def test_probabilities_are_those_of_a_mixture_of_logistics(case: Case) -> None:
    error = np.abs(
        all_sizes(case.mixture()) / 2**24 - ((1 - FLOOR) * case.probabilities() + FLOOR / 256)
    )
    # Weights are rounded to 2^-15, and logits times the temperature's factor to 1/64 nat; where
    # that factor is 1 or 2 there is nothing to round.
    assert error.max() < (2e-4 if case.temperature in (-16, 0) else 4e-3)


def test_a_single_logistic() -> None:
    """Equal components centred on 100 with a scale of 4 gray levels: P(100) = tanh(1/16)."""
    # exponent 3: an input unit is half a gray level, 8 of them are 4 levels.
    zeros = np.zeros((1, 15), dtype=np.int32)
    coded = np.zeros((1, 0), dtype=np.int32)
    base, exponent = np.array([1600], dtype=np.int32), np.array([3], dtype=np.int32)
    m = mixture(zeros, base, exponent, coded, 0, TABLES)
    # sigma(a) - sigma(-a) = tanh(a / 2) with a = 0.5 / 4.
    bits = code_length(m, np.array([100], dtype=np.int32))
    assert bits == pytest.approx(-np.log2(np.tanh(1 / 16)), abs=1e-3)


def test_temperature_widens() -> None:
    """16 steps double the scale: as log-scales 16 higher would (equal logits)."""
    case = random_case(7)
    case.parameters[:, :5] = 0
    wider = Case(case.parameters.copy(), case.base, case.exponent, case.residual, 0)
    wider.parameters[:, 10:15] += 16
    hot = Case(case.parameters, case.base, case.exponent, case.residual, 16)
    np.testing.assert_array_equal(all_sizes(hot.mixture()), all_sizes(wider.mixture()))


@pytest.mark.parametrize("case", CASES)
def test_code_length_is_that_of_the_units(case: Case) -> None:
    """-log2 of the product of the values' shares of 2^24."""
    m = case.mixture()
    sizes = all_sizes(m)
    rng = np.random.default_rng(20)
    rows = np.arange(len(sizes))
    for values in (rng.integers(0, 256, len(sizes)), np.zeros_like(rows), rows * 0 + 255):
        expected = -np.log2(sizes[rows, values] / 2**24)
        got = code_length(m, values.astype(np.int32))
        assert got == pytest.approx(expected.sum(), rel=1e-12)


@pytest.mark.parametrize("case", CASES)
def test_decoded_values_are_the_encoded_ones(case: Case) -> None:
    """Likely and unlikely ones, in runs of two messages."""
    m = case.mixture()
    rng = np.random.default_rng(24)
    n = m.weight.shape[1]
    likely = (m.centre[0] >> 7).clip(0, 255)
    values = np.where(rng.random(n) < 0.7, likely, rng.integers(0, 256, n)).astype(np.int32)
    values[:2] = 0, 255
    messages, starts = np.array([1, 0, 1], np.int32), np.array([0, 7, n // 2, n], np.int32)
    encoders = RangeEncoders(2)
    encoders.encode(messages, starts, *intervals(m, values))
    decoders = RangeDecoders([encoders.finished(message) for message in range(2)])
    decoded = decode_values(m, decoders, messages, starts)
    np.testing.assert_array_equal(decoded, values)
    assert decoders.complete == [True, True]


def test_no_value_costs_more_than_the_floor_allows() -> None:
    """Each value has at least 2^-20: 20 bits at most."""
    for case in extreme_cases():
        m = case.mixture()
        for value in (0, 1, 128, 254, 255):
            values = np.full(1, value, dtype=np.int32)
            for n in range(0, m.weight.shape[1], 17):
                parts = (m.weight, m.centre, m.inverse_scale, m.farthest)
                one = Mixture(*(part[:, n : n + 1].copy() for part in parts), m.logistic)
                assert code_length(one, values) <= 20.0


def test_tabulated_functions() -> None:
    """The tables are the functions that their documentation names."""
    z = -12 + np.arange(1537) / 64
    values, slopes = TABLES.logistic & 0xFFFF, TABLES.logistic >> 16
    assert np.abs(values - 65535 * logistic.cdf(z)).max() <= 0.5
    np.testing.assert_array_equal(slopes[:-1], np.diff(values))
    i = np.arange(1024)
    assert np.abs(TABLES.exponential / 2**15 - np.exp(-i / 64)).max() <= 2.0**-16
    scales = 2.0 ** (-6 + np.arange(225) / 16)
    np.testing.assert_allclose(TABLES.inverse_scale * scales, 2**17, atol=0.5 * scales.max())
    np.testing.assert_allclose(TABLES.temperature, 64 * 2.0 ** (-np.arange(-16, 17) / 16), atol=0.5)


def test_damaged_tables_are_refused() -> None:
    fields = ("logistic", "exponential", "inverse_scale", "temperature")
    good = {name: getattr(TABLES, name) for name in fields}
    for name in fields:
        with pytest.raises(ModelError, match="size"):
            MixtureTables(**(good | {name: good[name][:-1]}))
        with pytest.raises(ModelError, match="type"):
            MixtureTables(**(good | {name: good[name].astype(np.int64)}))
        with pytest.raises(ModelError, match="range"):
            MixtureTables(**(good | {name: -good[name] - 1}))
    with pytest.raises(ModelError, match="monotone"):
        MixtureTables(**(good | {"logistic": good["logistic"][::-1].copy()}))
    with pytest.raises(ModelError, match="one"):
        MixtureTables(**(good | {"exponential": good["exponential"] - (good["exponential"] > 0)}))
