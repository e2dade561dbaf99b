"""Integer probability tables, against logistic mixtures in float64, and as the coder uses them."""

from dataclasses import dataclass

import constriction
import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.special import softmax
from scipy.stats import logistic

from source_codec import ModelError
from source_codec.logistic_mixture import (
    TABLE_TOTAL,
    Mixture,
    MixtureTables,
    code_length,
    high_tables,
    low_tables,
    mixture,
)

Floats = NDArray[np.float64]
TABLES = MixtureTables.compute()
FLOOR = 2.0**-12
"""Weight of the uniform distribution that is mixed into each table."""


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


def all_tables(m: Mixture) -> tuple[Floats, Floats]:
    """Every table of every row: (N, 16) and (N, 16, 16), the latter by the high half."""
    n = m.weight.shape[1]
    high, cdfs = high_tables(m)
    low = [low_tables(m, cdfs, np.full(n, h, dtype=np.int32)) for h in range(16)]
    assert high.dtype == np.float32
    return high.astype(np.float64), np.stack(low, axis=1).astype(np.float64)


CASES = [
    *(random_case(seed, temperature=t) for seed, t in enumerate((-16, -3, 0, 5, 16))),
    random_case(5, channel=0),
    random_case(6, channel=1),
    *extreme_cases(),
]


@pytest.mark.parametrize("case", CASES)
def test_tables_sum_exactly(case: Case) -> None:
    """2^24 - 16 in all; an entry is a whole number, at least its share of the floor: 256."""
    for table in all_tables(case.mixture()):
        assert (table == np.rint(table)).all()
        assert (table.sum(axis=-1) == (1 << 24) - 16).all()
        assert table.min() >= 256


def test_total_leaves_room_for_the_coders_ones() -> None:
    assert TABLE_TOTAL + 16 == 1 << 24


@pytest.mark.parametrize("case", CASES)
def test_mixture_is_well_formed(case: Case) -> None:
    m = case.mixture()
    assert (m.weight.sum(axis=0) == 1 << 15).all()
    assert m.weight.min() >= 0


def worst_error(case: Case) -> tuple[float, float]:
    """Largest difference of a table entry from float64: of high and of low halves."""
    exact = case.probabilities().reshape(-1, 16, 16)
    high, low = all_tables(case.mixture())
    exact_high = exact.sum(axis=2)
    exact_low = exact / np.maximum(exact_high, 1e-300)[..., None]
    high_error = np.abs(high / 2**24 - ((1 - FLOOR) * exact_high + FLOOR / 16))
    low_error = np.abs(low / 2**24 - ((1 - FLOOR) * exact_low + FLOOR / 16))
    # Where a high half is next to impossible its low halves matter next to nothing.
    return high_error.max(), (low_error * exact_high[..., None]).max()


@pytest.mark.parametrize("case", CASES[:7])
def test_tables_are_those_of_a_mixture_of_logistics(case: Case) -> None:
    # Weights are rounded to 2^-15, and logits times the temperature's factor to 1/64 nat; where
    # that factor is 1 or 2 there is nothing to round.
    limit = 2e-4 if case.temperature in (-16, 0) else 4e-3
    assert max(worst_error(case)) < limit


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
    for a, b in zip(all_tables(hot.mixture()), all_tables(wider.mixture()), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("case", CASES)
def test_code_length_is_that_of_the_tables(case: Case) -> None:
    """-log2 of the product of (entry + 1) / 2^24 over both halves, value by value."""
    m = case.mixture()
    high, low = all_tables(m)
    rng = np.random.default_rng(20)
    rows = np.arange(len(high))
    for values in (rng.integers(0, 256, len(high)), np.zeros_like(rows), rows * 0 + 255):
        expected = -np.log2((high[rows, values // 16] + 1) / 2**24)
        expected -= np.log2((low[rows, values // 16, values % 16] + 1) / 2**24)
        got = code_length(m, values.astype(np.int32))
        assert got == pytest.approx(expected.sum(), rel=1e-12)


def test_no_value_costs_more_than_the_floor_allows() -> None:
    """Two tables of which each has at least 2^-16: 32 bits at most."""
    for case in extreme_cases():
        m = case.mixture()
        for value in (0, 1, 128, 254, 255):
            values = np.full(1, value, dtype=np.int32)
            for n in range(0, m.weight.shape[1], 17):
                parts = (m.weight, m.centre, m.inverse_scale, m.farthest)
                one = Mixture(*(part[:, n : n + 1].copy() for part in parts), m.logistic)
                assert code_length(one, values) <= 32.0


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


# How constriction's range coder uses the tables.

CATEGORICAL = constriction.stream.model.Categorical(perfect=False)


def random_tables(seed: int, n: int) -> NDArray[np.float32]:
    """Tables of 16 whole numbers with the right total, from flat to nearly certain."""
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(16, 0.1), n)
    entries = np.floor(shares * (TABLE_TOTAL - 16 * 256)).astype(np.int64) + 256
    entries[np.arange(n), rng.integers(16, size=n)] += TABLE_TOTAL - entries.sum(axis=1)
    return entries.astype(np.float32)


def exact_interval(symbols: NDArray[np.int32], tables: NDArray[np.float32]) -> tuple[int, int, int]:
    """A range coder in unbounded integers, with probabilities (entry + 1) / 2^24 exactly.

    State of 64 bits, words of 32 bits (Martin 1979; constriction's defaults).

    Returns:
        ``(low, size, words)``: any number in [low, low + size) over 2^(64 + 32 words) identifies
        the symbols.
    """
    low, size, words = 0, (1 << 64) - 1, 0
    for symbol, table in zip(symbols, tables, strict=True):
        entries = [int(entry) + 1 for entry in table]
        assert sum(entries) == 1 << 24
        unit = size >> 24
        low += unit * sum(entries[:symbol])
        size = unit * entries[symbol]
        while size < 1 << 32:
            low, size, words = low << 32, size << 32, words + 1
    return low, size, words


def test_range_coder_uses_the_integers_exactly() -> None:
    """An error of one in any probability would move the interval and be seen in the words."""
    rng = np.random.default_rng(21)
    tables = random_tables(22, 2000)
    symbols = rng.integers(0, 16, 2000).astype(np.int32)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols, CATEGORICAL, tables)
    compressed = encoder.get_compressed()
    low, size, words = exact_interval(symbols, tables)
    number = 0
    for word in compressed:
        number = number << 32 | int(word)
    number <<= 32 * (words + 2 - len(compressed))
    assert low <= number < low + size
    # The check is sharp: one more in one entry (and one less in another) is another interval.
    tables[5, 0] += 1
    tables[5, 15] -= 1
    symbols_low, symbols_size, _ = exact_interval(symbols, tables)
    assert not symbols_low <= number < symbols_low + symbols_size


def test_range_coder_takes_the_ideal_length() -> None:
    tables = random_tables(23, 20_000)
    rng = np.random.default_rng(24)
    probabilities = (tables.astype(np.float64) + 1) / 2**24
    uniform = rng.random(len(tables))[:, None]
    symbols = (np.cumsum(probabilities, axis=1) < uniform).sum(axis=1).astype(np.int32)
    encoder = constriction.stream.queue.RangeEncoder()
    encoder.encode(symbols, CATEGORICAL, tables)
    ideal = -np.log2(probabilities[np.arange(len(symbols)), symbols]).sum()
    assert ideal <= encoder.num_bits() + 1
    assert encoder.num_bits() <= ideal + 64 + 0.001 * len(symbols)
    decoder = constriction.stream.queue.RangeDecoder(encoder.get_compressed())
    np.testing.assert_array_equal(decoder.decode(CATEGORICAL, tables), symbols)
    assert decoder.maybe_exhausted()
