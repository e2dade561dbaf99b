"""The whole path: order of the stages, streaming, seeds, counts and the true channel."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from phy import (
    Chain,
    Propagation,
    RadioPath,
    ReceiverImpairments,
    TappedDelayLine,
    TransmitterImpairments,
)
from phy.impairments import (
    Adc,
    AdditiveNoise,
    DcOffset,
    Delay,
    Gain,
    GainControl,
    IqImbalance,
    NoiseInterferer,
    PhaseNoise,
    PowerAmplifier,
    ToneInterferer,
    reference_oscillator,
)
from phy.tapped_delay_line import FadingFilter

RATE = 4e6
MASK = PhaseNoise(((1e4, -90.0), (1e6, -120.0)))
TX_CARRIER, TX_CLOCK = reference_oscillator(20, 2.4e9, "transmit")
RX_CARRIER, RX_CLOCK = reference_oscillator(-15, 2.4e9, "receive", drift_ppm_per_s=0.1)
EVERYTHING = RadioPath(
    TransmitterImpairments(
        dac=Adc(12),
        clock=TX_CLOCK,
        iq=IqImbalance(0.5, 2, "transmit"),
        dc=DcOffset(-30),
        phase_noise=MASK,
        carrier=TX_CARRIER,
        amplifier=PowerAmplifier(8),
    ),
    Propagation(
        Gain(-20),
        Delay(33.3),
        TappedDelayLine("TDL-C", 300e-9, 200),
        (ToneInterferer(-50, 1e6), NoiseInterferer(-40, -1e6, 1e-4, 1e-3)),
        AdditiveNoise(1e-4),
    ),
    ReceiverImpairments(
        MASK,
        RX_CARRIER,
        RX_CLOCK,
        GainControl(),
        IqImbalance(0.3, 1),
        DcOffset(-30),
        Adc(10, adc_full_scale=1.5),
    ),
)


def sent(count: int) -> np.ndarray:
    return np.exp(2j * np.pi * np.cumsum(np.sin(np.arange(count) / 50)) / 20)


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=5))
@settings(max_examples=8, deadline=None)
def test_output_does_not_depend_on_chunking(sizes: list[int]) -> None:
    samples = sent(sum(sizes))
    whole = EVERYTHING.block(RATE, seed=2)
    expected = np.concatenate([whole.process(samples), whole.flush()])
    chain = EVERYTHING.block(RATE, seed=2)
    parts = [chain.process(part) for part in np.split(samples, np.cumsum(sizes)[:-1])]
    assert np.array_equal(np.concatenate([*parts, chain.flush()]), expected)
    assert chain.clipped_samples == whole.clipped_samples


def test_nothing_is_nothing() -> None:
    chain = RadioPath().block(RATE)
    samples = sent(100).astype(np.complex64)
    assert np.array_equal(chain.process(samples), samples)
    assert chain.flush().size == 0


def test_stages_come_in_the_physical_order() -> None:
    """Compression before the path loss, the loss before the noise, conversion at the end."""
    path = RadioPath(
        TransmitterImpairments(amplifier=PowerAmplifier(0, smoothness=50)),
        Propagation(gain=Gain(-20), noise=AdditiveNoise(1e-6)),
        ReceiverImpairments(dc=DcOffset(-20), adc=Adc(4, adc_full_scale=1)),
    )
    chain = path.block(RATE, seed=1)
    # 4 is limited to 1, becomes 0.1, gets an offset of 0.1, and is rounded to eighths.
    assert chain.process([4] * 10).tolist() == [0.25] * 10
    assert chain.clipped_samples == 0
    assert Chain([chain, path.block(RATE)]).process([2000j]).size == 1


def test_clipped_samples_are_counted_through_all_levels() -> None:
    path = RadioPath(receiver=ReceiverImpairments(adc=Adc(8, adc_full_scale=1)))
    chain = path.block(RATE)
    chain.process([2, 0.5, 3j])
    assert chain.clipped_samples == 2


def test_other_stages_change_no_draw() -> None:
    noise = AdditiveNoise(0.1)
    alone = RadioPath(propagation=Propagation(noise=noise)).block(RATE, seed=5)
    beside = RadioPath(
        TransmitterImpairments(phase_noise=MASK), Propagation(gain=Gain(0), noise=noise)
    ).block(RATE, seed=5)
    assert np.array_equal(alone.process(np.zeros(100)), beside.process(np.zeros(100)))
    other = RadioPath(propagation=Propagation(noise=noise)).block(RATE, seed=6)
    assert not np.any(alone.process(np.zeros(100)) == other.process(np.zeros(100)))


def test_phase_noises_of_the_two_ends_are_independent() -> None:
    ends = (
        RadioPath(transmitter=TransmitterImpairments(phase_noise=MASK)),
        RadioPath(receiver=ReceiverImpairments(phase_noise=MASK)),
    )
    first, second = (np.angle(end.block(RATE, 1).process(np.ones(10_000))) for end in ends)
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.2


def test_true_channel_is_at_hand() -> None:
    path = RadioPath(propagation=Propagation(fading=TappedDelayLine("TDL-B", 100e-9)))
    chain = path.block(RATE, seed=3)
    (fading,) = chain.stages(FadingFilter)
    tone = np.exp(2j * np.pi * 0.2 * np.arange(1000))
    response = fading.frequency_response([0], [0.2 * RATE])[0, 0]
    received = np.concatenate([chain.process(tone), chain.flush()])
    assert received[100:900] == pytest.approx(response * tone[100:900], abs=1e-4)


def test_stages_of_the_wrong_side_are_refused() -> None:
    with pytest.raises(ValueError, match="iq is that of the receive side"):
        TransmitterImpairments(iq=IqImbalance(1, 1))
    with pytest.raises(ValueError, match="clock is that of the transmit side"):
        ReceiverImpairments(clock=TX_CLOCK)
