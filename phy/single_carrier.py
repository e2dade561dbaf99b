"""Single carrier: root-raised-cosine pulses, synchronized from preamble, header and pilots.

The receiver works frame by frame on the samples as they came: the detector gives time and carrier
offset roughly, the preamble gives them well enough for the header, and with the header decoded all
known symbols of the frame give carrier, clock and start once more. Only then are the symbols taken,
each at its own instant, so that there is no loop that could wander off, and nothing is carried over
from one frame to the next: a frame is received in the same way wherever it stands.

Where the symbols so taken show multipath, header and payload are equalized (:mod:`phy.dispersion`).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from phy.acquisition import FrameAcquisition, shaped_chirps
from phy.detection import Chirps, Detection
from phy.dispersion import Section, equalized, is_dispersive
from phy.error_profile import find_burst
from phy.estimation import ChannelEstimate
from phy.frame import (
    HEADER_MODULATION,
    FrameFormat,
    FrameHeader,
    build_frame,
    header_template,
    payload_template,
)
from phy.modulation import Modulation
from phy.phase_scoring import phase_drift
from phy.pulse_shaping import Pulse, PulseShaper
from phy.section_estimation import section_estimator
from phy.synchronization import (
    Baseband,
    Synchronization,
    refine,
    timing_correction,
)
from phy.waveform import ComplexArray, DemodulatorConfig, Reception

_HEADER_SNR_DB = 3.0  # above it, interference counted as noise, the header needs no equalizer


@dataclass(frozen=True)
class SingleCarrier:
    """Root-raised-cosine pulses on one carrier.

    Attributes:
        samples_per_symbol: M, at least 2.
        rolloff: excess bandwidth, 0.05 to 1.
        carrier_reach: largest carrier offset to be found, in cycles per sample; 0.1 is 0.63 rad per
            sample, two oscillators of 20 ppm at 2.4 GHz and 1 Msample/s.
        frame_format: preamble and pilots.

    Raises:
        ValueError: a parameter out of range; the signal's band, shifted by the largest carrier
            offset, must fit into the sample rate.
    """

    samples_per_symbol: int = 2
    rolloff: float = 0.25
    carrier_reach: float = 0.1
    frame_format: FrameFormat = field(default_factory=FrameFormat)

    def __post_init__(self) -> None:
        self.pulse.require_reach(self.carrier_reach)

    @property
    def pulse(self) -> Pulse:
        """The transmit pulse, which is the receive filter too."""
        return Pulse(self.samples_per_symbol, self.rolloff)

    def frame_symbols(self, data_symbols: int) -> int:
        """Channel symbols of a frame."""
        return self.frame_format.frame_length(data_symbols)

    def modulator(self) -> SingleCarrierModulator:
        """The sending end."""
        return SingleCarrierModulator(self)

    def demodulator(self, config: DemodulatorConfig) -> SingleCarrierDemodulator:
        """The receiving end.

        Raises:
            ValueError: perfect channel knowledge, which no synchronization could use.
        """
        return SingleCarrierDemodulator(self, config)

    def chirps(self) -> Chirps:
        """The preamble as the detector sees it."""
        return shaped_chirps(self.frame_format.chirp_length, self.pulse, self.carrier_reach)


class SingleCarrierModulator:
    """Frames to samples; frames sent one after the other overlap by their pulses' tails only."""

    def __init__(self, waveform: SingleCarrier) -> None:
        self._format = waveform.frame_format
        self._shaper = PulseShaper(waveform.pulse)

    def frame(self, header: FrameHeader, payload: ComplexArray) -> ComplexArray:
        """The next M samples per symbol of the stream."""
        return self._shaper.process(build_frame(self._format, header, payload))

    def flush(self) -> ComplexArray:
        """The tails of the last pulses."""
        return self._shaper.flush()


class SingleCarrierDemodulator(FrameAcquisition):
    """Finds, synchronizes and matched-filters the frames of a stream of samples."""

    def __init__(self, waveform: SingleCarrier, config: DemodulatorConfig) -> None:
        if config.csi == "perfect":
            raise ValueError(
                "csi 'perfect' needs the symbol-spaced waveform: the single carrier is "
                "synchronized from its pilots"
            )
        self._format = waveform.frame_format
        super().__init__(
            self._format.chirp_length,
            waveform.pulse,
            waveform.carrier_reach,
            config.false_alarm_probability,
        )
        self._csi = config.csi
        self._dopplers = config.dopplers(self._format.pilot_spacing)
        self._sync: tuple[int, Synchronization] | None = None  # of the detection with this index
        section_estimator(self._format, None, self._dopplers)

    def header_end(self, detection: Detection) -> int:
        """Where the header section's last pulse ends."""
        return detection.index + self._span(self._format.header_end)

    def frame_end(self, detection: Detection, header: FrameHeader) -> int:
        """Where the frame's last pulse ends."""
        return detection.index + self._span(self._format.frame_length(header.data_symbols))

    def header(self, detection: Detection) -> Reception | None:
        """The header's symbols, synchronized by the preamble."""
        sync = self._acquire(detection)
        if sync is None:
            return None
        self._sync = detection.index, sync
        samples, first = self._view(detection, self._format.header_end)
        geometry = self._format.geometry(1)
        section = Section(
            self._format.header_end,
            geometry.header_known,
            header_template(self._format),
            geometry.header_data,
            HEADER_MODULATION,
        )
        base = Baseband.of(samples, sync.carrier, self._pulse)
        sync = replace(sync, start=sync.start - first)
        symbols = base.symbols(sync, np.arange(section.length))
        flat = self._flat(symbols, section, None, sync)
        # Its low rate lets the header through much interference.
        if flat.channel.snr_db > _HEADER_SNR_DB:
            return flat
        means = _means(flat, HEADER_MODULATION)
        return self._over_multipath(base, symbols, section, means, flat, sync)

    def payload(self, detection: Detection, header: FrameHeader) -> Reception:
        """The payload's symbols, synchronized by all that is known of the frame."""
        assert self._sync is not None
        index, coarse = self._sync
        assert index == detection.index
        geometry = self._format.geometry(header.data_symbols)
        circular = header.mcs.bits_per_symbol > 1
        samples, first = self._view(detection, geometry.length, circular)
        known, symbols = geometry.payload_known, payload_template(self._format, header)
        base = Baseband.of(samples, coarse.carrier, self._pulse)
        sync = refine(base, known, symbols, replace(coarse, start=coarse.start - first))
        section = Section(
            geometry.length, known, symbols, geometry.payload_data, header.mcs.modulation
        )
        places = np.arange(section.length)
        received = base.symbols(sync, places)
        first_look = self._flat(received, section, header.data_symbols, sync)
        means = _means(first_look, section.modulation)
        sync = self._corrected(base, sync, received, section, first_look.channel, means)
        received = base.symbols(sync, places)
        flat = self._flat(received, section, header.data_symbols, sync)
        errors = flat.channel.errors
        burst = None if errors is None else find_burst(known, errors, geometry.length)
        reception = self._over_multipath(base, received, section, means, flat, sync)
        return replace(reception, burst=burst, start=first + sync.start)

    def _corrected(
        self,
        base: Baseband,
        sync: Synchronization,
        received: ComplexArray,
        section: Section,
        channel: ChannelEstimate,
        means: ComplexArray,
    ) -> Synchronization:
        """Carrier, clock and start once more, with the data symbols too."""
        expected = np.zeros_like(received)
        expected[section.wanted] = channel.gain * means
        if channel.gain_at_known is not None:
            expected[section.known] = channel.gain_at_known * section.values
        drift, _ = phase_drift(received[:, None], expected[:, None], channel.noise_variance)
        sync = timing_correction(base, sync, received, expected, channel.typical_noise_variance)
        spacing = self._pulse.samples_per_symbol * (1 + sync.clock)
        return replace(sync, carrier=sync.carrier + drift / (2 * np.pi * spacing))

    def _flat(
        self,
        received: ComplexArray,
        section: Section,
        data_symbols: int | None,
        sync: Synchronization,
    ) -> Reception:
        """Symbols and channel at the wanted places, from the known ones."""
        least_squares = received[section.known] * np.conj(section.values)
        estimator = section_estimator(self._format, data_symbols, self._dopplers)
        estimate = estimator.linear if self._csi == "least_squares" else estimator.wiener
        channel = estimate(least_squares)
        return Reception(received[section.wanted], channel, sync.carrier, sync.clock)

    def _over_multipath(
        self,
        base: Baseband,
        received: ComplexArray,
        section: Section,
        data: ComplexArray,
        flat: Reception,
        sync: Synchronization,
    ) -> Reception:
        """The reception as in a flat channel, or an equalized one where the data show multipath."""
        if self._csi != "wiener":  # the baseline is not to know of multipath
            return flat
        if not is_dispersive(received, section.symbols(data)):
            return replace(flat, delay_spread=0.0)
        return equalized(base, sync, section, flat.channel.noise_variance, self._dopplers)


def _means(reception: Reception, modulation: Modulation) -> ComplexArray:
    """Means of the symbols sent, given those received."""
    channel = reception.channel
    return modulation.expect(reception.symbols, channel.effective_noise_variance, channel.gain)
