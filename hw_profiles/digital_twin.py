"""A front end's digital twin: the impairments of :mod:`phy` that its profile implies.

What the profile does not say is left out, so that a twin is never worse than what is known of its
device. It simulates

- the reference oscillators of both ends, each wrong by an amount drawn evenly from the tolerance:
  carrier and sampling clock alike;
- converters and wire formats with their bits and full scale; converters are taken to run at the
  sample rate, without the bits that decimation gains;
- DC offset, IQ imbalance and phase noise, where the profile has a table of faults.

A front end that only receives hears an ideal transmitter, and one that only transmits has an ideal
listener.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from hw_profiles.profile import Direction, Faults, HardwareProfile, SampleFormat
from hw_profiles.sample_format import NativeFormat
from phy.chain import ReceiverImpairments, TransmitterImpairments
from phy.impairments import (
    Adc,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    IqImbalance,
    PhaseNoise,
    SampleBlock,
    Side,
    reference_oscillator,
)
from phy.impairments.block import ComplexArray
from phy.random_process import Seed


@dataclass(frozen=True)
class WireFormat:
    """The way to the host or from it, as an impairment: native samples and back.

    Attributes:
        native: type and full scale on the wire.
        amplitude: of I or Q that is full scale.
    """

    native: NativeFormat
    amplitude: float

    def block(self, sample_rate_hz: float, seed: Seed = 0) -> SampleBlock:
        """See :class:`phy.impairments.Impairment`."""
        return _Wire(self)


class _Wire(SampleBlock):
    """The stream object of :class:`WireFormat`."""

    def __init__(self, parameters: WireFormat) -> None:
        self._native = parameters.native
        self._amplitude = np.float32(parameters.amplitude)
        self._clipped = 0

    @property
    def clipped_samples(self) -> int:
        """See :attr:`phy.impairments.SampleBlock.clipped_samples`."""
        return self._clipped

    def _transform(self, samples: ComplexArray) -> ComplexArray:
        data, clipped = self._native.encode(samples / self._amplitude)
        self._clipped += clipped
        return self._native.decode(data) * self._amplitude


@dataclass(frozen=True)
class DigitalTwin:
    """Impairments of a link between two front ends of the same kind.

    Attributes:
        transmitter: of the sending one.
        receiver: of the receiving one.
    """

    transmitter: TransmitterImpairments
    receiver: ReceiverImpairments


def digital_twin(
    profile: HardwareProfile, carrier_hz: float, amplitude: float, seed: Seed
) -> DigitalTwin:
    """The twin of a front end.

    Arguments:
        profile: of both ends.
        carrier_hz: carrier frequency, to which an oscillator's error is relative.
        amplitude: of I or Q that is full scale of the converters.
        seed: fixes the errors of the oscillators.
    """
    tolerance_ppm = profile.clock.tolerance_ppm or 0.0
    rng = np.random.default_rng(seed)
    sending_ppm, receiving_ppm = rng.uniform(-tolerance_ppm, tolerance_ppm, 2)
    transmitter, receiver = TransmitterImpairments(), ReceiverImpairments()
    if profile.tx is not None:
        faults = profile.tx.faults or Faults()
        carrier, clock = _oscillator(sending_ppm, carrier_hz, "transmit")
        transmitter = TransmitterImpairments(
            wire=_wire(profile.tx, amplitude),
            dac=_converter(profile.tx, amplitude),
            clock=clock,
            iq=_imbalance(faults, "transmit"),
            dc=_offset(faults),
            phase_noise=_phase_noise(faults),
            carrier=carrier,
        )
    if profile.rx is not None:
        faults = profile.rx.faults or Faults()
        carrier, clock = _oscillator(receiving_ppm, carrier_hz, "receive")
        receiver = ReceiverImpairments(
            phase_noise=_phase_noise(faults),
            carrier=carrier,
            clock=clock,
            iq=_imbalance(faults, "receive"),
            dc=_offset(faults),
            adc=_converter(profile.rx, amplitude),
            wire=_wire(profile.rx, amplitude),
        )
    return DigitalTwin(transmitter, receiver)


def _oscillator(
    error_ppm: float, carrier_hz: float, side: Side
) -> tuple[CarrierOffset | None, ClockOffset | None]:
    if not error_ppm:
        return None, None
    return reference_oscillator(float(error_ppm), carrier_hz, side)


def _wire(direction: Direction, amplitude: float) -> WireFormat | None:
    if direction.sample_format is SampleFormat.CF32:
        return None
    return WireFormat(NativeFormat.of(direction), amplitude)


def _converter(direction: Direction, amplitude: float) -> Adc | None:
    """None where its codes are those of the wire, or of a float32."""
    bits = direction.bits
    if bits is None or bits >= SampleFormat.CF32.bits or direction.full_scale == 2 ** (bits - 1):
        return None
    return Adc(bits, amplitude)


def _imbalance(faults: Faults, side: Side) -> IqImbalance | None:
    if not (faults.iq_gain_db or faults.iq_phase_deg):
        return None
    return IqImbalance(faults.iq_gain_db, faults.iq_phase_deg, side)


def _offset(faults: Faults) -> DcOffset | None:
    return None if faults.dc_dbc is None else DcOffset(faults.dc_dbc)


def _phase_noise(faults: Faults) -> PhaseNoise | None:
    points = tuple((point.offset_hz, point.level_dbc_hz) for point in faults.phase_noise)
    return PhaseNoise(points) if points else None
