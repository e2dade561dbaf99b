"""What the two radios of a simulated link do to its samples, in the units of data sheets.

:class:`LinkImpairments` holds the numbers; its methods make the stages of :mod:`phy.chain` from
them. :class:`LinkPath` joins these with the channel.

**Levels.** The transmitter's waveform has unit mean power, and so has the received signal at
``level_db`` 0. Full scale of the receiver's converter does not move with the level: a weaker signal
uses fewer of its codes.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from phy.chain import Chain, ReceiverImpairments, TransmitterImpairments
from phy.channel import Channel, ChannelOutput
from phy.impairments import (
    Adc,
    CarrierOffset,
    ClockOffset,
    DcOffset,
    Gain,
    GainControl,
    IqImbalance,
    PhaseNoise,
    PowerAmplifier,
    SampleBlock,
)
from phy.tapped_delay_line import FadingFilter

_LOWEST_PHASE_NOISE = 1e-5  # of the sample rate: where the slope of a one-point mask begins
_GAIN_STEP = 256  # samples between two looks at a multipath channel's gain
_GAIN_FREQUENCIES = 32
_RMS = np.sqrt(0.5)  # of I or Q at unit mean power

_End = TypeVar("_End", TransmitterImpairments, ReceiverImpairments)


@dataclass(frozen=True)
class LinkImpairments:
    """Faults of the radios of a link; the defaults are those of ideal ones.

    Attributes:
        cfo_hz: carrier offset at the receiver.
        carrier_drift_hz_per_s: change of that offset.
        clock_ppm: offset of the receiver's sampling clock, parts per million.
        phase_noise: of the oscillators of both ends, pairs of an offset in Hz and the level there
            in dBc/Hz, by ascending offset. A single pair is a point of the slope of 20 dB per
            decade, where the phase takes a random walk (Leeson's model between its corners).
        iq_gain_db, iq_phase_deg: imbalance of the receiver's mixer.
        dc_dbc: DC offset of the receiver over the received signal; None for none.
        amplifier_backoff_db: saturation power of the transmitter's amplifier (Rapp, p = 2) over
            the mean power; None for a linear one.
        level_db: mean power of the received signal. The noise moves with it, Es/N0 remains.
        agc_s: time constants of attack and decay of the receiver's gain control; None for a fixed
            gain.
        adc_bits: resolution of the receiver's converter; None for no converter.
        clipping_db: full scale of I or Q over their root mean square at ``level_db`` 0.
    """

    cfo_hz: float = 0.0
    carrier_drift_hz_per_s: float = 0.0
    clock_ppm: float = 0.0
    phase_noise: tuple[tuple[float, float], ...] = ()
    iq_gain_db: float = 0.0
    iq_phase_deg: float = 0.0
    dc_dbc: float | None = None
    amplifier_backoff_db: float | None = None
    level_db: float = 0.0
    agc_s: tuple[float, float] | None = None
    adc_bits: int | None = None
    clipping_db: float = 15.0

    def __post_init__(self) -> None:
        if not abs(self.level_db) <= 120:
            raise ValueError(f"level_db must be -120 to 120 dB, not {self.level_db:g}")
        if not 0 <= self.clipping_db <= 120:
            raise ValueError(f"clipping_db must be 0 to 120 dB, not {self.clipping_db:g}")
        # Impossible parameters of the stages, whatever the sample rate is.
        self.transmitter(1e6)
        self.receiver(1e6)

    @property
    def full_scale(self) -> float:
        """Amplitude of I or Q that is full scale of the converters."""
        return full_scale_amplitude(self.clipping_db)

    def transmitter(self, sample_rate: float) -> TransmitterImpairments:
        """The stages of the transmitter.

        Raises:
            ValueError: impossible parameters.
        """
        backoff = self.amplifier_backoff_db
        return TransmitterImpairments(
            phase_noise=self._phase_noise(sample_rate),
            amplifier=None if backoff is None else PowerAmplifier(backoff),
        )

    def receiver(self, sample_rate: float) -> ReceiverImpairments:
        """The stages of the receiver.

        Raises:
            ValueError: impossible parameters.
        """
        turning = self.cfo_hz or self.carrier_drift_hz_per_s
        unbalanced = self.iq_gain_db or self.iq_phase_deg
        level_db = self.level_db if self.agc_s is None else 0.0  # at the converter
        return ReceiverImpairments(
            phase_noise=self._phase_noise(sample_rate),
            carrier=CarrierOffset(self.cfo_hz, self.carrier_drift_hz_per_s) if turning else None,
            clock=ClockOffset(self.clock_ppm) if self.clock_ppm else None,
            gain_control=(
                None
                if self.agc_s is None
                else GainControl(attack_s=self.agc_s[0], decay_s=self.agc_s[1])
            ),
            iq=IqImbalance(self.iq_gain_db, self.iq_phase_deg) if unbalanced else None,
            dc=None if self.dc_dbc is None else DcOffset(self.dc_dbc + level_db),
            adc=None if self.adc_bits is None else Adc(self.adc_bits, self.full_scale),
        )

    def _phase_noise(self, sample_rate: float) -> PhaseNoise | None:
        if len(self.phase_noise) != 1:
            return PhaseNoise(self.phase_noise) if self.phase_noise else None
        offset_hz, level_dbc_hz = self.phase_noise[0]
        if not (offset_hz > 0 and level_dbc_hz < 0):
            raise ValueError(f"phase noise of {level_dbc_hz:g} dBc/Hz at {offset_hz:g} Hz")
        linewidth_hz = 2 * np.pi * offset_hz**2 * 10 ** (level_dbc_hz / 10)
        return PhaseNoise.wiener(float(linewidth_hz), _LOWEST_PHASE_NOISE * sample_rate)


def full_scale_amplitude(clipping_db: float) -> float:
    """Amplitude of I or Q that lies so far above their root mean square at unit mean power."""
    return float(_RMS * 10 ** (clipping_db / 20))


def overlaid(device: _End, given: _End) -> _End:
    """A device's stages, and in their place those that were given."""
    stages = {field.name: getattr(given, field.name) for field in fields(given)}
    return replace(device, **{name: stage for name, stage in stages.items() if stage is not None})


class LinkPath:
    """From the transmitter's samples to the receiver's, as a stream."""

    def __init__(
        self,
        transmitter: Chain,
        channel: Channel | Chain,
        receiver: Chain,
        level_db: float,
        bandwidth_hz: float,
    ) -> None:
        """Join the parts in their initial state.

        Arguments:
            transmitter: stages of the transmitter.
            channel: fading and noise: flat, or multipath with a delay line.
            receiver: stages of the receiver.
            level_db: gain between channel and receiver.
            bandwidth_hz: of the signal, over which a multipath channel's gain is averaged.
        """
        self._transmitter, self._receiver = transmitter, receiver
        self._channel = channel
        self._level: SampleBlock = Gain(level_db).block(1.0)
        self._frequencies = np.linspace(-0.5, 0.5, _GAIN_FREQUENCIES) * bandwidth_hz
        self._sent = 0

    @property
    def clipped_samples(self) -> int:
        """Samples of which I or Q exceeded the range of a converter at either end."""
        return self._transmitter.clipped_samples + self._receiver.clipped_samples

    def process(self, samples: NDArray[np.complex64]) -> ChannelOutput:
        """Sends the next samples.

        Returns:
            What arrives, as many samples as are certain; and the channel's gain for every sample
            sent. The latter is exact for flat channels; for multipath it is the root mean square
            over the signal's band, looked at every 256 samples.
        """
        sent = self._transmitter.process(samples)
        if isinstance(self._channel, Channel):
            arriving, gains = self._channel.process(sent)
        else:
            arriving, gains = self._channel.process(sent), self._wideband_gains(sent.size)
        self._sent += sent.size
        return ChannelOutput(self._received(arriving), gains)

    def carry(self, samples: NDArray[np.complex64]) -> NDArray[np.complex64]:
        """Sends the next samples, as :meth:`process` does, and leaves the gains unknown."""
        sent = self._transmitter.process(samples)
        self._sent += sent.size
        if isinstance(self._channel, Channel):
            return self._received(self._channel.process(sent).samples)
        return self._received(self._channel.process(sent))

    def _received(self, arriving: NDArray[np.complex64]) -> NDArray[np.complex64]:
        return self._receiver.process(self._level.process(arriving))

    def flush(self) -> NDArray[np.complex64]:
        """Ends the stream: the samples that still waited for others."""
        rest = self.carry(self._transmitter.flush())
        if isinstance(self._channel, Chain):
            rest = np.concatenate([rest, self._received(self._channel.flush())])
        return np.concatenate([rest, self._receiver.flush()])

    def _wideband_gains(self, count: int) -> NDArray[np.complex64]:
        assert isinstance(self._channel, Chain)
        positions = np.arange(self._sent, self._sent + count, _GAIN_STEP)
        power = np.ones(positions.size)
        for fading in self._channel.stages(FadingFilter):
            response = fading.frequency_response(positions, self._frequencies)
            power = np.mean(np.abs(response) ** 2, axis=1)
        return np.repeat(np.sqrt(power).astype(np.complex64), _GAIN_STEP)[:count]
