"""Mapper and demappers: against the formulas, brute force, and two outside implementations."""

import numpy as np
import pytest
from commpy.modulation import QAMModem

from phy.mcs import MCS_TABLE, get_mcs, mcs_names
from phy.modulation import MODULATIONS


def random_link(name, count=400, seed=1):
    """Bits, received symbols, gains and noise variances of a fading link."""
    rng = np.random.default_rng(seed)
    modulation = MODULATIONS[name]
    bits = rng.integers(0, 2, count * modulation.bits_per_symbol, dtype=np.uint8)
    gain = (rng.standard_normal(count) + 1j * rng.standard_normal(count)) / np.sqrt(2)
    variance = 10 ** rng.uniform(-3, 0.5, count)
    noise = rng.standard_normal(count) + 1j * rng.standard_normal(count)
    received = gain * modulation.map(bits) + np.sqrt(variance / 2) * noise
    return modulation, bits, received, gain, variance


def brute_force_llr(modulation, received, gain, variance, method):
    """Sum (or maximize) over all points of the constellation, in float64."""
    Qm = modulation.bits_per_symbol
    metric = -(np.abs(received[:, None] - gain[:, None] * modulation.points) ** 2)
    metric /= variance[:, None]
    llr = np.empty((received.size, Qm))
    for bit in range(Qm):
        ones = (np.arange(2**Qm) >> (Qm - 1 - bit)) & 1 == 1
        reduce = np.max if method == "maxlog" else lambda x, axis: np.logaddexp.reduce(x, axis=axis)
        llr[:, bit] = reduce(metric[:, ~ones], axis=1) - reduce(metric[:, ones], axis=1)
    return llr.reshape(-1)


@pytest.mark.parametrize("name", MODULATIONS)
def test_unit_energy_and_gray(name):
    modulation = MODULATIONS[name]
    points = modulation.points
    assert np.mean(np.abs(points) ** 2) == pytest.approx(1)
    assert np.unique(points.round(9)).size == 2**modulation.bits_per_symbol
    distance = np.abs(points[:, None] - points)
    nearest = np.isclose(distance, np.min(distance[distance > 1e-9]))
    labels = np.arange(points.size)
    flips = np.bitwise_count(labels[:, None] ^ labels)
    assert np.all(flips[nearest] == 1), "nearest neighbours differ in one bit"


def test_written_out_points():
    """TS 38.211, 5.1.2, 5.1.3, 5.1.4 and 5.1.5, worked by hand."""
    assert MODULATIONS["bpsk"].map([0, 1]) == pytest.approx(
        np.array([1 + 1j, -1 - 1j]) / np.sqrt(2)
    )
    assert MODULATIONS["qpsk"].map([0, 1, 1, 0]) == pytest.approx(
        np.array([1 - 1j, -1 + 1j]) / np.sqrt(2)
    )
    assert MODULATIONS["16qam"].map([1, 0, 1, 1]) == pytest.approx(
        np.array([(-3 + 3j) / np.sqrt(10)])
    )
    assert MODULATIONS["64qam"].map([0, 1, 1, 0, 0, 1]) == pytest.approx(
        np.array([(5 - 1j) / np.sqrt(42)])
    )
    assert MODULATIONS["256qam"].map([0] * 8) == pytest.approx(np.array([(5 + 5j) / np.sqrt(170)]))


@pytest.mark.parametrize("method", ["exact", "maxlog"])
@pytest.mark.parametrize("name", MODULATIONS)
def test_demapper_equals_brute_force(name, method):
    modulation, _, received, gain, variance = random_link(name)
    llr = modulation.demap(received, variance, gain, method)
    expected = brute_force_llr(modulation, received, gain, variance, method)
    assert llr.dtype == np.float32
    assert llr == pytest.approx(expected, rel=1e-4, abs=2e-2)


@pytest.mark.parametrize("name", MODULATIONS)
def test_sign_of_llr_recovers_bits_and_batches(name):
    modulation, bits, _, _, _ = random_link(name)
    symbols = modulation.map(bits.reshape(4, -1))
    llr = modulation.demap(symbols, 1e-3)
    assert llr.shape == (4, bits.size // 4)
    assert np.array_equal((llr < 0).reshape(-1), bits)


def test_no_information_gives_zero():
    modulation = MODULATIONS["16qam"]
    assert not modulation.demap(np.ones(3), np.inf).any()
    assert not modulation.demap(np.ones(3), 1.0, gain=0.0).any()


def test_llrs_are_calibrated():
    """Of the bits with exact LLR near L, a share 1 / (1 + exp(L)) is 1."""
    modulation, bits, received, gain, variance = random_link("64qam", 60_000, seed=5)
    llr = modulation.demap(received, variance, gain)
    for low, high in [(-3, -2), (-1, 0), (0, 1), (1, 2), (2, 3)]:
        chosen = (llr > low) & (llr < high)
        expected = np.mean(1 / (1 + np.exp(llr[chosen])))
        sigma = np.sqrt(expected * (1 - expected) / chosen.sum())
        assert bits[chosen].mean() == pytest.approx(expected, abs=4 * sigma)


@pytest.mark.parametrize("name", ["qpsk", "16qam", "64qam", "256qam"])
def test_against_sionna(name):
    torch = pytest.importorskip("torch")
    mapping = pytest.importorskip("sionna.phy.mapping")
    modulation, bits, received, _, variance = random_link(name)
    Qm = modulation.bits_per_symbol
    mapped = mapping.Mapper("qam", Qm)(torch.tensor(bits, dtype=torch.float32)[None])
    assert modulation.map(bits) == pytest.approx(mapped.numpy()[0], abs=1e-6)
    demapper = mapping.Demapper("app", "qam", Qm)
    # Sionna's LLR is log p(1)/p(0): the opposite sign.
    llr = -demapper(
        torch.tensor(received.astype(np.complex64))[None],
        torch.tensor(variance.astype(np.float32))[None],
    ).numpy()
    assert modulation.demap(received, variance) == pytest.approx(llr[0], rel=1e-3, abs=5e-3)


@pytest.mark.parametrize("name", ["qpsk", "16qam", "64qam"])
def test_same_alphabet_as_commpy(name):
    modulation = MODULATIONS[name]
    modem = QAMModem(2**modulation.bits_per_symbol)
    theirs = np.sort_complex((modem.constellation / np.sqrt(modem.Es)).round(9))
    assert np.sort_complex(modulation.points.round(9)) == pytest.approx(theirs)


def test_refuses_bad_arguments():
    modulation = MODULATIONS["16qam"]
    with pytest.raises(ValueError, match="multiple of 4"):
        modulation.map([0, 1, 1])
    with pytest.raises(ValueError, match="positive"):
        modulation.demap(np.ones(2), 0.0)
    with pytest.raises(ValueError, match="method"):
        modulation.demap(np.ones(2), 1.0, method="zf")


def test_mcs_table():
    assert get_mcs("qpsk-1/2").spectral_efficiency == 1
    assert get_mcs("256QAM-5/6").bits_per_symbol == 8
    assert {"bpsk-1/3", "qpsk-1/2", "16qam-3/4", "64qam-5/6", "256qam-5/6"} <= set(mcs_names())
    assert all(mcs.index == index < 64 for index, mcs in MCS_TABLE.items())
    with pytest.raises(ValueError, match="qpsk-1/2"):
        get_mcs("qpsk-7/8")


@pytest.mark.parametrize("name", MODULATIONS)
def test_expected_symbol_is_the_posterior_mean(name):
    """Against the sum over all points, weighted by their likelihoods."""
    modulation = MODULATIONS[name]
    rng = np.random.default_rng(40)
    gain = rng.standard_normal(200) + 1j * rng.standard_normal(200)
    received = rng.standard_normal(200) + 1j * rng.standard_normal(200)
    variance = rng.uniform(0.05, 2, 200)
    distance = np.abs(received[:, None] - gain[:, None] * modulation.points) ** 2
    likelihood = np.exp(-(distance - distance.min(axis=1, keepdims=True)) / variance[:, None])
    expected = likelihood @ modulation.points / likelihood.sum(axis=1)
    found = modulation.expect(received, variance, gain)
    assert found.dtype == np.complex64
    assert found == pytest.approx(expected, abs=1e-4)
