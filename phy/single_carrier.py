"""Single carrier: root-raised-cosine pulses, synchronized from preamble, header and pilots.

The receiver works frame by frame on the samples as they came: the detector gives time and carrier
offset roughly, the preamble gives them well enough for the header, and with the header decoded all
known symbols of the frame give carrier, clock and start once more. Only then are the symbols taken,
each at its own instant, so that there is no loop that could wander off, and nothing is carried over
from one frame to the next: a frame is received in the same way wherever it stands.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from phy.acquisition import FrameAcquisition, shaped_chirps
from phy.detection import Chirps, Detection
from phy.error_profile import find_burst
from phy.frame import FrameFormat, FrameHeader, build_frame, header_template, payload_template
from phy.pulse_shaping import Pulse, PulseShaper
from phy.section_estimation import section_estimator
from phy.synchronization import Baseband, Synchronization, refine, timing_correction
from phy.waveform import ComplexArray, DemodulatorConfig, Reception


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
        return self._section(
            Baseband.of(samples, sync.carrier, self._pulse),
            replace(sync, start=sync.start - first),
            None,
            geometry.header_known,
            header_template(self._format),
            geometry.header_data,
        )

    def payload(self, detection: Detection, header: FrameHeader) -> Reception:
        """The payload's symbols, synchronized by all that is known of the frame."""
        assert self._sync is not None
        index, coarse = self._sync
        assert index == detection.index
        geometry = self._format.geometry(header.data_symbols)
        samples, first = self._view(detection, geometry.length)
        known, symbols = geometry.payload_known, payload_template(self._format, header)
        base = Baseband.of(samples, coarse.carrier, self._pulse)
        sync = refine(base, known, symbols, replace(coarse, start=coarse.start - first))
        section = header.data_symbols, known, symbols, geometry.payload_data
        first_look = self._section(base, sync, *section)
        gain = first_look.channel.gain
        expected = gain * header.mcs.modulation.decide(first_look.symbols / gain)
        sync = timing_correction(base, sync, geometry.payload_data, expected)
        reception = self._section(base, sync, *section)
        errors = reception.channel.errors
        burst = None if errors is None else find_burst(known, errors, geometry.length)
        return replace(reception, burst=burst)

    def _section(
        self,
        base: Baseband,
        sync: Synchronization,
        data_symbols: int | None,
        known: npt.NDArray[np.int64],
        values: ComplexArray,
        wanted: npt.NDArray[np.int64],
    ) -> Reception:
        """Symbols and channel at the `wanted` places, from the `known` ones."""
        places = np.arange(int(max(known[-1], wanted[-1])) + 1)
        symbols = base.symbols(sync, places)
        least_squares = symbols[known] * np.conj(values)
        estimator = section_estimator(self._format, data_symbols, self._dopplers)
        estimate = estimator.linear if self._csi == "least_squares" else estimator.wiener
        return Reception(symbols[wanted], estimate(least_squares), sync.carrier, sync.clock)
