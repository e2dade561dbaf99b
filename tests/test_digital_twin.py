"""Digital twins: what follows from a profile, and frames through each of them."""

import numpy as np
import pytest

from flowgraphs.impairments import LinkImpairments
from flowgraphs.link import LinkConfig
from hw_profiles import load_profile, profile_names
from hw_profiles.digital_twin import WireFormat, digital_twin
from phy import FrameReport, MessageReceived, Receiver, ReceiverConfig, Transmitter
from phy.impairments import Adc, DcOffset, IqImbalance
from phy.transmitter import TransmitterConfig

MESSAGE = np.random.default_rng(5).bytes(600)


def twin_of(name: str, carrier_hz: float = 1e9, seed: int = 1):
    return digital_twin(load_profile(name), carrier_hz, 4.0, seed)


def test_the_simulated_front_end_is_ideal() -> None:
    twin = twin_of("simulated")
    assert all(stage is None for stage in vars(twin.transmitter).values())
    assert all(stage is None for stage in vars(twin.receiver).values())


def test_oscillators_are_within_the_tolerance_and_consistent() -> None:
    """25 ppm at 1 GHz are 25 kHz; carrier and clock of an end have the same relative error."""
    sending, receiving = [], []
    for seed in range(100):
        twin = twin_of("pluto", seed=seed)
        assert twin.transmitter.clock is not None
        assert twin.transmitter.carrier is not None
        assert twin.receiver.clock is not None
        assert twin.receiver.carrier is not None
        sending.append(twin.transmitter.clock.clock_offset_ppm)
        receiving.append(twin.receiver.clock.clock_offset_ppm)
        assert twin.transmitter.carrier.carrier_offset_hz == pytest.approx(1e3 * sending[-1])
        assert twin.receiver.carrier.carrier_offset_hz == pytest.approx(-1e3 * receiving[-1])
    for errors in (sending, receiving):
        assert 22 < np.max(np.abs(errors)) <= 25
        assert abs(np.mean(errors)) < 7.2  # five standard errors of the mean
    assert abs(np.corrcoef(sending, receiving)[0, 1]) < 0.4
    assert twin_of("pluto", seed=3) == twin_of("pluto", seed=3)


def test_converters_and_wires() -> None:
    pluto, usrp, rtl = twin_of("pluto"), twin_of("usrp-x310"), twin_of("rtl-sdr-v3")
    assert isinstance(pluto.receiver.wire, WireFormat)
    assert (pluto.receiver.adc, pluto.transmitter.dac) == (None, Adc(12, 4.0))
    assert (usrp.receiver.adc, usrp.transmitter.dac) == (Adc(14, 4.0), Adc(16, 4.0))
    # 12 bits over +-4 are steps of 1/512.
    (sample,) = pluto.receiver.wire.block(1e6).process([0.3 - 0.7j]).tolist()
    assert sample == pytest.approx((154 - 358j) / 512, abs=1e-6)
    assert rtl.receiver.adc is None, "its codes are those on the wire"
    assert all(stage is None for stage in vars(rtl.transmitter).values()), "an ideal transmitter"
    chain = rtl.receiver.block(2e6)
    # The carrier offset turns 5; |I| or |Q| is above full scale, 4, over 8 arccos(0.8) of 2 pi.
    chain.process(np.full(10_000, 5.0))
    assert chain.clipped_samples == pytest.approx(8193, abs=60)
    # Silence is code 127 of an offset of 127.4.
    assert rtl.receiver.wire is not None
    assert rtl.receiver.wire.block(1e6).process([0]).tolist() == pytest.approx(
        [-0.0125 - 0.0125j], abs=1e-6
    )


def test_assumed_faults() -> None:
    hackrf = twin_of("hackrf-one")
    assert hackrf.receiver.dc == DcOffset(-25.0)
    assert hackrf.receiver.iq == IqImbalance(0.5, 2.0, "receive")
    assert hackrf.transmitter.iq == IqImbalance(0.5, 2.0, "transmit")
    assert load_profile("hackrf-one").sources["rx.faults"].startswith("assumption")
    assert twin_of("bladerf-2-micro").receiver.dc is None


def test_options_replace_the_twins_stages() -> None:
    config = LinkConfig(
        waveform="single-carrier",
        profile="pluto",
        channel="awgn",
        es_n0_db=200,
        impairments=LinkImpairments(adc_bits=3, clipping_db=6.0),
    )
    path = config.make_path(np.random.SeedSequence(1), np.random.SeedSequence(2))
    received = path.process(np.ones(3000, dtype=np.complex64)).samples
    levels = np.unique(np.round(received.view(np.float32), 4))
    # 6 dB over 0.7071 are 1.411; of its eight steps of 0.353 at most seven appear here.
    assert 3 < levels.size <= 7
    assert np.diff(levels).min() == pytest.approx(0.3527, abs=0.002)


def sensible_rate(name: str) -> float:
    return load_profile(name).sample_rate.nearest(2e6)


@pytest.mark.parametrize("name", [name for name in profile_names() if name != "simulated"])
def test_frames_arrive_through_every_twin(name: str) -> None:
    """At 12 dB, with the errors of the worst of a few radios."""
    rate = sensible_rate(name)
    config = LinkConfig(
        waveform="single-carrier",
        profile=name,
        channel="awgn",
        es_n0_db=12.0,
        symbol_rate=rate / 2,
        seed=4,
    )
    transmitter = Transmitter(TransmitterConfig("qpsk-1/2", 1, waveform=config.phy_waveform))
    path = config.make_path(np.random.SeedSequence(1), np.random.SeedSequence(2))
    receiver = Receiver(ReceiverConfig(waveform=config.phy_waveform, symbol_rate_hz=rate / 2))
    silence = np.zeros(2000, dtype=np.complex64)
    sent = np.concatenate([silence, *transmitter.send(MESSAGE), transmitter.flush(), silence])
    events = receiver.process(np.concatenate([path.process(sent).samples, path.flush()]))
    events += receiver.flush()
    (message,) = (event for event in events if isinstance(event, MessageReceived))
    assert message.data == MESSAGE
    (report,) = (event for event in events if isinstance(event, FrameReport))
    assert report.cfo_hz is not None
    tolerance_ppm = load_profile(name).clock.tolerance_ppm or 0.0
    assert abs(report.cfo_hz) <= 2e-6 * tolerance_ppm * config.carrier_hz + 50
    assert report.snr_db > 10.5
    assert path.clipped_samples < 10
