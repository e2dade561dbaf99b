"""The path between two radios: all impairments in their physical order.

The order is that of the fields of the dataclasses here. Stages that are None are left out::

    RadioPath = TransmitterImpairments   wire, dac, clock, iq, dc, phase noise, carrier, amplifier
             -> Propagation              gain, delay, fading, interferers, noise
             -> ReceiverImpairments      phase noise, carrier, clock, gain control, iq, dc, adc,
                                         wire

Every stage draws from a seed of its own, named after it: to add or to remove a stage changes
nothing in the others.

Examples:
    >>> import numpy as np
    >>> from phy.chain import RadioPath, ReceiverImpairments, TransmitterImpairments
    >>> from phy.impairments import Adc, reference_oscillator
    >>> carrier, clock = reference_oscillator(error_ppm=10, carrier_hz=2.4e9, side="transmit")
    >>> path = RadioPath(
    ...     transmitter=TransmitterImpairments(clock=clock, carrier=carrier),
    ...     receiver=ReceiverImpairments(adc=Adc(adc_bits=12)),
    ... )
    >>> chain = path.block(sample_rate_hz=1e6, seed=1)
    >>> received = np.concatenate([chain.process(np.ones(1000)), chain.flush()])
    >>> received.size, chain.clipped_samples
    (1000, 0)
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from typing import TypeVar
from zlib import crc32

import numpy as np

from phy.impairments import (
    Adc,
    AdditiveNoise,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    Delay,
    Gain,
    GainControl,
    Impairment,
    IqImbalance,
    NoiseInterferer,
    PhaseNoise,
    PowerAmplifier,
    SampleBlock,
    Side,
    ToneInterferer,
)
from phy.impairments.block import ComplexArray, require
from phy.random_process import Seed, child_seed
from phy.tapped_delay_line import TappedDelayLine

_Stage = TypeVar("_Stage", bound=SampleBlock)


class Chain(SampleBlock):
    """Stages one behind the other, as one stream object."""

    def __init__(self, stages: Iterable[SampleBlock]) -> None:
        """Join stages in their initial state, the first one at the input."""
        self._stages = tuple(stages)

    def stages(self, kind: type[_Stage]) -> Iterator[_Stage]:
        """All stages of a type, those of chains in the chain too.

        A :class:`phy.tapped_delay_line.FadingFilter` so found tells the true channel.
        """
        for stage in self._stages:
            if isinstance(stage, kind):
                yield stage
            if isinstance(stage, Chain):
                yield from stage.stages(kind)

    @property
    def clipped_samples(self) -> int:
        """See :attr:`phy.impairments.SampleBlock.clipped_samples`; the sum over all stages."""
        return sum(stage.clipped_samples for stage in self._stages)

    def flush(self) -> ComplexArray:
        """See :meth:`phy.impairments.SampleBlock.flush`."""
        rest = np.empty(0, dtype=np.complex64)
        for stage in self._stages:
            rest = np.concatenate([stage.process(rest), stage.flush()])
        return rest

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        for stage in self._stages:
            samples = stage.process(samples)
        return samples


@dataclass(frozen=True)
class _InOrder:
    """Impairments in the order of the fields: None, one of them, or several in a tuple."""

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> Chain:
        """The chain in its initial state; see :class:`phy.impairments.Impairment`."""
        return Chain(self._blocks(sample_rate_hz, seed))

    def _blocks(self, sample_rate_hz: float, seed: Seed) -> Iterator[SampleBlock]:
        for stage in fields(self):
            value: Impairment | tuple[Impairment, ...] | None = getattr(self, stage.name)
            own_seed = child_seed(seed, crc32(stage.name.encode()))
            if isinstance(value, tuple):
                for key, impairment in enumerate(value):
                    yield impairment.block(sample_rate_hz, child_seed(own_seed, key))
            elif value is not None:
                yield value.block(sample_rate_hz, own_seed)

    def _require_side(self, side: Side) -> None:
        for stage in fields(self):
            given = getattr(getattr(self, stage.name), "side", side)
            require(
                given == side, f"{stage.name} is that of the {given} side, not of the {side} side"
            )


@dataclass(frozen=True)
class TransmitterImpairments(_InOrder):
    """What a transmitter does to its samples.

    Attributes:
        wire: the format in which the samples come from the host.
        dac: resolution of the digital-to-analog converter.
        clock: of the digital-to-analog converter.
        iq: of the mixer.
        dc: leakage of the carrier through the mixer.
        phase_noise: of the carrier.
        carrier: its offset.
        amplifier: compression.
    """

    wire: Impairment | None = None
    dac: Adc | None = None
    clock: ClockOffset | None = None
    iq: IqImbalance | None = None
    dc: DcOffset | None = None
    phase_noise: PhaseNoise | None = None
    carrier: CarrierOffset | None = None
    amplifier: PowerAmplifier | None = None

    def __post_init__(self) -> None:
        self._require_side("transmit")


@dataclass(frozen=True)
class Propagation(_InOrder):
    """What happens between the antennas, and the noise of the receiver's input.

    Attributes:
        gain: path loss.
        delay: propagation delay.
        fading: multipath.
        interferers: other signals.
        noise: thermal noise.
    """

    gain: Gain | None = None
    delay: Delay | None = None
    fading: TappedDelayLine | None = None
    interferers: tuple[ToneInterferer | NoiseInterferer, ...] = ()
    noise: AdditiveNoise | None = None


@dataclass(frozen=True)
class ReceiverImpairments(_InOrder):
    """What a receiver does before its first digital sample.

    Attributes:
        phase_noise: of the carrier.
        carrier: its offset, with the sign of the rotation: negative for a fast oscillator.
        clock: of the analog-to-digital converter.
        gain_control: automatic gain control.
        iq: of the mixer.
        dc: of the mixer and the converter.
        adc: the converter.
        wire: the format in which the samples go to the host.
    """

    phase_noise: PhaseNoise | None = None
    carrier: CarrierOffset | None = None
    clock: ClockOffset | None = None
    gain_control: GainControl | None = None
    iq: IqImbalance | None = None
    dc: DcOffset | None = None
    adc: Adc | None = None
    wire: Impairment | None = None

    def __post_init__(self) -> None:
        self._require_side("receive")


@dataclass(frozen=True)
class RadioPath(_InOrder):
    """From the samples of a transmitter to those of a receiver.

    Attributes:
        transmitter: the transmitter's analog side.
        propagation: between the antennas.
        receiver: the receiver's analog side.
    """

    transmitter: TransmitterImpairments = field(default_factory=TransmitterImpairments)
    propagation: Propagation = field(default_factory=Propagation)
    receiver: ReceiverImpairments = field(default_factory=ReceiverImpairments)
