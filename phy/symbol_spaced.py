"""The simplest waveform: one sample per symbol, on time and on frequency.

For simulations of coding, framing and flat fading, where pulses and synchronization only cost time.
The true channel gains may be passed along with the samples (perfect channel knowledge).
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt

from phy.detection import Chirps, Detection, PreambleDetector, SampleBuffer
from phy.error_profile import find_burst
from phy.estimation import ChannelEstimate, known_channel
from phy.frame import FrameFormat, FrameHeader, build_frame, header_template, payload_template
from phy.preamble import down_chirp, up_chirp
from phy.section_estimation import section_estimator
from phy.waveform import ComplexArray, DemodulatorConfig, Reception


@dataclass(frozen=True)
class SymbolSpaced:
    """One sample per symbol.

    Attributes:
        frame_format: preamble and pilots.
    """

    frame_format: FrameFormat = field(default_factory=FrameFormat)

    @property
    def samples_per_symbol(self) -> int:
        """One."""
        return 1

    def frame_symbols(self, data_symbols: int) -> int:
        """Channel symbols of a frame."""
        return self.frame_format.frame_length(data_symbols)

    def modulator(self) -> SymbolSpacedModulator:
        """Frames are sent as they are."""
        return SymbolSpacedModulator(self.frame_format)

    def demodulator(self, config: DemodulatorConfig) -> SymbolSpacedDemodulator:
        """The receiving end."""
        return SymbolSpacedDemodulator(self, config)

    def chirps(self) -> Chirps:
        """The preamble as the detector sees it."""
        length = self.frame_format.chirp_length
        return Chirps(up_chirp(length), down_chirp(length), length)


class SymbolSpacedModulator:
    """A frame's symbols are its samples."""

    def __init__(self, frame_format: FrameFormat) -> None:
        self._format = frame_format

    def frame(self, header: FrameHeader, payload: ComplexArray) -> ComplexArray:
        """The symbols of a frame."""
        return build_frame(self._format, header, payload)

    def flush(self) -> ComplexArray:
        """Nothing is ever under way."""
        return np.empty(0, dtype=np.complex64)


class SymbolSpacedDemodulator:
    """Picks the symbols of detected frames out of the stream."""

    def __init__(self, waveform: SymbolSpaced, config: DemodulatorConfig) -> None:
        self._format = waveform.frame_format
        self._csi = config.csi
        self._dopplers = config.dopplers(self._format.pilot_spacing)
        self._samples = SampleBuffer()
        self._gains = SampleBuffer() if config.csi == "perfect" else None
        self._detector = PreambleDetector(waveform.chirps(), config.false_alarm_probability)
        section_estimator(self._format, None, self._dopplers)

    @property
    def end(self) -> int:
        """Samples that have arrived."""
        return self._samples.end

    @property
    def held(self) -> int:
        """Samples in memory."""
        return self._samples.end - self._samples.start

    @property
    def decided(self) -> int:
        """Later detections have at least this index."""
        return self._detector.decided

    def append(self, samples: ComplexArray, gains: ComplexArray | None) -> None:
        """Takes in samples, and gains if they are known."""
        self._samples.append(samples)
        if self._gains is not None and gains is not None:
            self._gains.append(gains)

    @property
    def near_miss(self) -> float:
        """How close to the detector's threshold the stream came without a detection, 0 to 1."""
        return self._detector.near_miss / self._detector.threshold

    def samples(self, start: int, stop: int) -> ComplexArray:
        """Those of the samples from `start` to `stop` that are in memory."""
        return self._samples.clipped_view(start, stop)

    def scan(self, final: bool) -> list[Detection]:
        """New detections."""
        return self._detector.scan(self._samples, self._gains, final)

    def discard(self, before: int) -> None:
        """Forgets samples."""
        for buffer in (self._samples, self._gains):
            if buffer is not None:
                buffer.discard(min(before, self._detector.needed))

    def header_end(self, detection: Detection) -> int:
        """End of the header section."""
        return detection.index + self._format.header_end

    def frame_end(self, detection: Detection, header: FrameHeader) -> int:
        """End of the frame."""
        return detection.index + self._format.frame_length(header.data_symbols)

    def header(self, detection: Detection) -> Reception:
        """The header's symbols."""
        geometry = self._format.geometry(1)
        symbols = header_template(self._format)
        return self._section(
            detection.index, None, geometry.header_known, symbols, geometry.header_data
        )

    def payload(self, detection: Detection, header: FrameHeader) -> Reception:
        """The payload's symbols."""
        geometry = self._format.geometry(header.data_symbols)
        symbols = payload_template(self._format, header)
        reception = self._section(
            detection.index,
            header.data_symbols,
            geometry.payload_known,
            symbols,
            geometry.payload_data,
        )
        return replace(reception, start=float(detection.index))

    def _section(
        self,
        start: int,
        data_symbols: int | None,
        known: npt.NDArray[np.int64],
        symbols: ComplexArray,
        wanted: npt.NDArray[np.int64],
    ) -> Reception:
        """Symbols and channel at the `wanted` places of the frame at `start`."""
        stop = start + int(max(known[-1], wanted[-1])) + 1
        section = self._samples.view(start, stop)
        least_squares = section[known] * np.conj(symbols)
        if self._gains is not None:
            gains = self._gains.view(start, stop)
            channel = known_channel(least_squares, gains[known], gains[wanted])
        else:
            channel = self._estimate(least_squares, data_symbols)
        burst = None
        if data_symbols is not None and channel.errors is not None:
            burst = find_burst(known, channel.errors, stop - start)
        return Reception(section[wanted], channel, burst=burst)

    def _estimate(self, least_squares: ComplexArray, data_symbols: int | None) -> ChannelEstimate:
        estimator = section_estimator(self._format, data_symbols, self._dopplers)
        if self._csi == "least_squares":
            return estimator.linear(least_squares)
        return estimator.wiener(least_squares)
