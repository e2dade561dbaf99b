"""Finding the frames of a stream of samples, and a first synchronization of each.

All waveforms whose preamble is a pair of pulse-shaped chirps begin alike: the detector
(:mod:`phy.detection`) gives time and carrier offset roughly, and then
:func:`phy.synchronization.acquire` gives them well enough for the header. What follows the preamble
is each waveform's own.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from phy.detection import Chirps, Detection, PreambleDetector, SampleBuffer, detection_threshold
from phy.front_end_correction import corrected
from phy.preamble import chirp_pair, down_chirp, up_chirp
from phy.pulse_shaping import Pulse
from phy.synchronization import LARGEST_CLOCK_OFFSET, Synchronization, acquire
from phy.waveform import ComplexArray

CLEAR = 1.25
"""Metric over the detector's threshold that noise hardly ever reaches, and a payload seldom."""
_CLEAR_METRIC = 21.0  # of a closer look at such a detection, e^-21 per trial in noise
_GUARD = 2  # symbols around a frame, for what the detector may err in time


def shaped_chirps(chirp_length: int, pulse: Pulse, carrier_reach: float) -> Chirps:
    """The preamble as the detector sees it.

    Arguments:
        chirp_length: symbols of each chirp.
        pulse: of the symbols.
        carrier_reach: largest carrier offset to be found, in cycles per sample.
    """
    return Chirps(
        up=pulse.shape(up_chirp(chirp_length)),
        down=pulse.shape(down_chirp(chirp_length)),
        separation=chirp_length * pulse.samples_per_symbol,
        lead=pulse.reach,
        samples_per_symbol=pulse.samples_per_symbol,
        reach=carrier_reach,
    )


class FrameAcquisition:
    """The part of a demodulator that holds the samples and finds the frames in them.

    Implements all of :class:`phy.waveform.Demodulator` but what comes behind the preamble. Lengths
    are in channel symbols from the preamble's first one.
    """

    def __init__(
        self, chirp_length: int, pulse: Pulse, carrier_reach: float, false_alarm_probability: float
    ) -> None:
        """Start at the beginning of a stream.

        Arguments:
            chirp_length: symbols of each chirp.
            pulse: of the preamble.
            carrier_reach: largest carrier offset to be found, in cycles per sample.
            false_alarm_probability: of the detector, per sample of white noise.
        """
        self._pulse = pulse
        self._preamble = chirp_pair(chirp_length)
        self._samples = SampleBuffer()
        self._detector = PreambleDetector(
            shaped_chirps(chirp_length, pulse, carrier_reach), false_alarm_probability
        )
        # The preamble's symbols after the matched filter are as many dimensions of white noise;
        # time and carrier have been chosen among some hundred values.
        self._least_metric = detection_threshold(100, false_alarm_probability)

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
        """Takes in samples; gains are of no use here."""
        self._samples.append(samples)

    @property
    def near_miss(self) -> float:
        """How close to the detector's threshold the stream came without a detection, 0 to 1."""
        return self._detector.near_miss / self._detector.threshold

    def samples(self, start: int, stop: int) -> ComplexArray:
        """Those of the samples from `start` to `stop` that are in memory."""
        return self._samples.clipped_view(start, stop)

    def scan(self, final: bool) -> list[Detection]:
        """New detections."""
        return self._detector.scan(self._samples, None, final)

    def discard(self, before: int) -> None:
        """Forgets samples, but for the first pulses' rise."""
        self._samples.discard(min(before - self._margin, self._detector.needed))

    @property
    def _margin(self) -> int:
        """Samples that are looked at before and after a frame's symbols."""
        return self._pulse.reach + _GUARD * self._pulse.samples_per_symbol

    def _span(self, symbols: int) -> int:
        """Samples from a frame's first symbol to the end of its pulses, on the slowest clock."""
        spacing = self._pulse.samples_per_symbol * (1 + LARGEST_CLOCK_OFFSET)
        return int(np.ceil(symbols * spacing)) + self._margin

    def _view(
        self, detection: Detection, symbols: int, circular: bool = False
    ) -> tuple[ComplexArray, int]:
        """The samples of the first symbols of a frame, and where they begin.

        What the front end added is taken out of them (:mod:`phy.front_end_correction`): DC, and, of
        a circular signal, the mirror image.
        """
        first = max(detection.index - self._margin, self._samples.start)
        samples = self.samples(first, detection.index + self._span(symbols))
        return corrected(samples, circular), first

    def _acquire(self, detection: Detection) -> Synchronization | None:
        """Time (absolute) and carrier from the preamble; None if there is none after all.

        Where a frame is anticipated they are known better than a preamble in a fade could tell.
        """
        if detection.anticipated:
            return Synchronization(detection.start, detection.carrier, detection.clock)
        samples, first = self._view(detection, self._preamble.size)
        guess = Synchronization(detection.start - first, detection.carrier)
        sync = acquire(samples, self._pulse, self._preamble, guess)
        if sync.metric < (_CLEAR_METRIC if detection.clarity > CLEAR else self._least_metric):
            return None
        return replace(sync, start=sync.start + first)
