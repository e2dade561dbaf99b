"""Link adaptation: mutual information against simulation, and the choice of a scheme."""

import numpy as np
import pytest

from benchmarks.mcs import block_error_rate
from flowgraphs.adaptation import probed_noise, scheme_of
from flowgraphs.link import WAVEFORMS, LinkConfig
from phy.link_adaptation import bit_information, fastest_mcs, outage
from phy.mcs import MCS_TABLE, get_mcs
from phy.modulation import MODULATIONS

SLOWEST, FASTEST = "bpsk-1/5", "256qam-23/25"


@pytest.mark.parametrize("name", MODULATIONS)
@pytest.mark.parametrize("es_n0_db", [-5.0, 4.0, 14.0])
def test_information_is_that_of_the_demapper(name: str, es_n0_db: float) -> None:
    """Mean of log2(1 + exp(-L)) over the LLRs L of the sent bits; five standard errors."""
    modulation = MODULATIONS[name]
    Qm, n = modulation.bits_per_symbol, 40_000
    rng = np.random.default_rng(3)
    bits = rng.integers(0, 2, n * Qm, dtype=np.uint8)
    variance = 10 ** (-es_n0_db / 10)
    noise = np.sqrt(variance / 2) * (rng.standard_normal(n) + 1j * rng.standard_normal(n))
    llr = modulation.demap(modulation.map(bits) + noise, variance).astype(np.float64)
    lost = np.logaddexp2(0, -llr * (1 - 2.0 * bits) / np.log(2)).reshape(n, Qm).sum(axis=1)
    error = 5 * lost.std() / np.sqrt(n) + 0.001
    assert bit_information(modulation, es_n0_db) == pytest.approx(Qm - lost.mean(), abs=error)


def test_information_at_the_ends() -> None:
    """BPSK at 0 dB: 0.7215 bits (variance 1/2 in the dimension that it uses)."""
    for modulation in MODULATIONS.values():
        found = bit_information(modulation, [-60.0, 60.0])
        np.testing.assert_allclose(found, [0, modulation.bits_per_symbol], atol=0.005)
    assert bit_information(MODULATIONS["bpsk"], 0.0) == pytest.approx(0.7215, abs=0.0005)
    qpsk, bpsk = (
        bit_information(MODULATIONS[name], snr) for name, snr in (("qpsk", 3.0103), ("bpsk", 0.0))
    )
    assert qpsk == pytest.approx(2 * bpsk, abs=0.001)


@pytest.mark.parametrize("name", [SLOWEST, "qpsk-1/2", "16qam-3/4", FASTEST])
def test_the_tables_requirements_are_where_one_block_in_ten_is_lost(name: str) -> None:
    """0.3 dB below it is many more, 0.3 dB above it hardly any."""
    mcs = get_mcs(name)
    assert block_error_rate(mcs, mcs.es_n0_db - 0.3, 20, seed=5) > 0.3
    assert block_error_rate(mcs, mcs.es_n0_db + 0.3, 20, seed=5) < 0.1


def test_requirements_grow_with_the_payload() -> None:
    """Within a constellation; and none is below the capacity of the Gaussian channel."""
    for mcs in MCS_TABLE.values():
        for other in MCS_TABLE.values():
            if mcs.modulation == other.modulation and mcs.code_rate < other.code_rate:
                assert mcs.es_n0_db < other.es_n0_db
        assert mcs.es_n0_db > 10 * np.log10(2**mcs.spectral_efficiency - 1)


def test_outage_counts_blocks_that_carry_too_little() -> None:
    mcs = get_mcs("qpsk-1/2")
    gains = np.array([[1.0, 1.0], [0.5, 0.5], [2.0, 0.0], [1.0, 1.2]])
    # Just enough for a gain of one; half of it is too little, and so are two and none.
    assert outage(mcs, gains, mcs.es_n0_db + 0.01) == 0.5
    assert outage(mcs, gains, mcs.es_n0_db + 3.1) == 0.25  # the third carries half at most
    assert outage(mcs, gains, mcs.es_n0_db - 20) == 1


def test_the_fastest_scheme_is_chosen() -> None:
    def flat(_: object) -> np.ndarray:
        return np.ones((1, 1))

    assert fastest_mcs(flat, 50).name == FASTEST
    assert fastest_mcs(flat, -50).name == SLOWEST
    for mcs in MCS_TABLE.values():
        chosen = fastest_mcs(flat, mcs.es_n0_db + 1e-6)
        assert chosen.spectral_efficiency >= mcs.spectral_efficiency
        assert chosen.es_n0_db <= mcs.es_n0_db + 1e-6


def test_auto_leaves_more_where_the_channel_fades() -> None:
    """The slower the fading, the fewer independent gains a block sees."""
    speeds = [
        scheme_of(LinkConfig(mcs="auto", es_n0_db=15, **channel), 100_000).spectral_efficiency
        for channel in (
            {"channel": "awgn"},
            {"channel": "rayleigh", "doppler_hz": 400.0},
            {"channel": "rayleigh", "doppler_hz": 20.0},
            {"channel": "rayleigh", "doppler_hz": 0.5},
        )
    ]
    assert speeds == sorted(speeds, reverse=True)
    assert len(set(speeds)) == 4
    assert scheme_of(LinkConfig(mcs="16qam-1/2"), 10).name == "16qam-1/2"


def test_auto_counts_what_estimation_costs() -> None:
    """Gains that jump within a frame: the receiver's estimates smear them out."""
    jumps = {"channel": "rayleigh-block", "es_n0_db": 20.0}
    estimated = probed_noise(LinkConfig(csi="pilots", **jumps))
    known = probed_noise(LinkConfig(csi="perfect", **jumps))
    assert known == pytest.approx(0.01, rel=0.15)
    assert estimated is not None
    assert estimated > 3 * known
    assert probed_noise(LinkConfig(channel="awgn", es_n0_db=-30.0)) is None
    assert scheme_of(LinkConfig(mcs="auto", channel="awgn", es_n0_db=-30.0), 99).name == SLOWEST


@pytest.mark.parametrize("waveform", WAVEFORMS)
def test_the_probe_measures_the_noise(waveform: str) -> None:
    config = LinkConfig(channel="awgn", es_n0_db=9.0, waveform=waveform)
    assert probed_noise(config) == pytest.approx(10**-0.9, rel=0.1)
