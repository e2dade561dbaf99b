"""CP-OFDM: many narrow carriers behind a cyclic prefix, for channels with multipath.

Frames begin with the same two chirps as those of the single carrier, found and synchronized in the
same way (:mod:`phy.acquisition`). Header and payload follow as rows of a grid
(:mod:`phy.ofdm_grid`). Windows are placed in the middle of the cyclic prefix, so that timing errors
and echoes of up to half of it in either direction do no harm. With the header decoded, training,
header and comb pilots give what is left of carrier and clock offset (:mod:`phy.ofdm_tracking`), the
rows are taken once more, and the same pilots give the channel (:mod:`phy.ofdm_estimation`).

Equalization is one complex number per carrier and belongs to the demapper: from y = h x + n, with
the estimation error's variance as part of that of n, it computes what a one-tap MMSE equalizer
followed by a demapper aware of its bias and noise would.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from phy.acquisition import FrameAcquisition
from phy.detection import Detection
from phy.error_profile import find_burst
from phy.estimation import ChannelEstimate
from phy.frame import FrameHeader
from phy.modulation import Modulation
from phy.ofdm_estimation import GridEstimator, delay_spread, grid_estimator
from phy.ofdm_grid import (
    Numerology,
    demodulate,
    frame_grid,
    header_grid,
    modulate,
    pilot_grid,
)
from phy.ofdm_tracking import residual_offsets
from phy.phase_scoring import phase_drift, turned_back
from phy.pilots import IntArray
from phy.preamble import chirp_pair, up_chirp
from phy.pulse_shaping import SPAN, Pulse
from phy.synchronization import Baseband, Synchronization
from phy.waveform import ComplexArray, DemodulatorConfig, Reception


@dataclass(frozen=True)
class Ofdm:
    """OFDM with a cyclic prefix.

    Attributes:
        numerology: sizes of the grid.
        chirp_length: symbols of each of the preamble's two chirps, odd.
        rolloff: excess bandwidth of the preamble's pulses, 0.05 to 1.
        carrier_reach: largest carrier offset to be found, in cycles per sample.

    Raises:
        ValueError: a parameter out of range; the preamble's band, shifted by the largest carrier
            offset, must fit into the sample rate.
    """

    numerology: Numerology = field(default_factory=Numerology)
    chirp_length: int = 139
    rolloff: float = 0.25
    carrier_reach: float = 0.1

    def __post_init__(self) -> None:
        up_chirp(self.chirp_length)
        self.pulse.require_reach(self.carrier_reach)

    @property
    def pulse(self) -> Pulse:
        """Of the preamble's symbols."""
        return Pulse(self.samples_per_symbol, self.rolloff)

    @property
    def samples_per_symbol(self) -> int:
        """Samples per channel symbol: FFT size over used carriers."""
        return self.numerology.samples_per_symbol

    @property
    def grid_start(self) -> int:
        """Channel symbols from the preamble's first one to the first row: its pulses have ended."""
        return 2 * self.chirp_length + SPAN

    def frame_symbols(self, data_symbols: int) -> int:
        """Channel symbols that a frame lasts: preamble, prefixes, pilots and padding included."""
        return SPAN + self.rows_end(self.numerology.frame_rows(data_symbols))

    def rows_end(self, rows: int) -> int:
        """Channel symbols from the preamble's first one to the end of the first `rows` rows."""
        return self.grid_start + rows * self.numerology.row_symbols

    def modulator(self) -> OfdmModulator:
        """The sending end."""
        return OfdmModulator(self)

    def demodulator(self, config: DemodulatorConfig) -> OfdmDemodulator:
        """The receiving end.

        Raises:
            ValueError: perfect channel knowledge, which no synchronization could use.
        """
        return OfdmDemodulator(self, config)


class OfdmModulator:
    """Frames to samples."""

    def __init__(self, waveform: Ofdm) -> None:
        self._numerology = waveform.numerology
        burst = waveform.pulse.shape(chirp_pair(waveform.chirp_length))
        whole = (waveform.grid_start + SPAN) * waveform.samples_per_symbol
        self._preamble = np.pad(burst, (0, whole - burst.size))

    def frame(self, header: FrameHeader, payload: ComplexArray) -> ComplexArray:
        """The samples of a frame, complete in themselves."""
        grid = frame_grid(self._numerology, header, payload)
        return np.concatenate([self._preamble, modulate(self._numerology, grid)])

    def flush(self) -> ComplexArray:
        """Nothing is ever under way."""
        return np.empty(0, dtype=np.complex64)


class OfdmDemodulator(FrameAcquisition):
    """Finds, synchronizes and demodulates the frames of a stream of samples."""

    def __init__(self, waveform: Ofdm, config: DemodulatorConfig) -> None:
        if config.csi == "perfect":
            raise ValueError(
                "csi 'perfect' needs the symbol-spaced waveform: OFDM is synchronized from its "
                "pilots"
            )
        super().__init__(
            waveform.chirp_length,
            waveform.pulse,
            waveform.carrier_reach,
            config.false_alarm_probability,
        )
        self._waveform = waveform
        self._numerology = waveform.numerology
        self._csi = config.csi
        row = self._numerology.row_symbols
        # Shifts above 0.08 cycles per row are left out: their inter-carrier interference alone,
        # (pi f_D N)^2 / 6 of the signal's power, is above -20 dB.
        self._dopplers = tuple(row * doppler for doppler in config.dopplers(row))
        self._sync: tuple[int, Synchronization] | None = None  # of the detection with this index
        self._estimator(self._numerology.header_end, self._numerology.training_symbols)

    def header_end(self, detection: Detection) -> int:
        """Where the header section's last row ends."""
        return detection.index + self._span(self._waveform.rows_end(self._numerology.header_end))

    def frame_end(self, detection: Detection, header: FrameHeader) -> int:
        """Where the frame's last row ends."""
        rows = self._numerology.frame_rows(header.data_symbols)
        return detection.index + self._span(self._waveform.rows_end(rows))

    def header(self, detection: Detection) -> Reception | None:
        """The header's values, synchronized by the preamble and its section's pilots."""
        sync = self._acquire(detection)
        if sync is None:
            return None
        sent = pilot_grid(self._numerology, self._numerology.header_end)
        rows = self._rows(detection, sync, sent.shape[0])
        estimator = self._estimator(sent.shape[0], self._numerology.training_symbols)
        least_squares = rows * np.conj(sent)
        lattice = estimator.lattice(least_squares)
        levels = estimator.levels(least_squares, lattice)
        carrier, _ = residual_offsets(
            self._numerology, estimator, lattice, levels, largest_clock=0.0
        )
        sync = replace(sync, carrier=sync.carrier + carrier / self._numerology.row_samples)
        self._sync = detection.index, sync
        rows = self._rows(detection, sync, sent.shape[0])
        return self._reception(estimator, rows, sent, self._numerology.header_places(), sync)

    def payload(self, detection: Detection, header: FrameHeader) -> Reception:
        """The payload's values, synchronized by all that is known of the frame."""
        assert self._sync is not None
        index, sync = self._sync
        assert index == detection.index
        numerology = self._numerology
        sent = pilot_grid(numerology, numerology.frame_rows(header.data_symbols))
        sent[: numerology.header_end] = header_grid(numerology, header)
        estimator = self._estimator(sent.shape[0], numerology.header_end)

        rows = self._rows(detection, sync, sent.shape[0], circular=True)
        least_squares = rows * np.conj(sent)
        lattice = estimator.lattice(least_squares)
        levels = estimator.levels(least_squares, lattice)
        carrier, clock = residual_offsets(numerology, estimator, lattice, levels)
        sync = replace(sync, carrier=sync.carrier + carrier / numerology.row_samples, clock=clock)
        rows = self._rows(detection, sync, sent.shape[0], circular=True)
        places = numerology.payload_places(header.data_symbols)
        if self._csi == "wiener":
            modulation = header.mcs.modulation
            rows, sync = self._corrected(estimator, rows, sent, places, modulation, sync)
        reception = self._reception(estimator, rows, sent, places, sync)
        return replace(reception, start=sync.start)

    def _corrected(
        self,
        estimator: GridEstimator,
        rows: ComplexArray,
        sent: ComplexArray,
        places: IntArray,
        modulation: Modulation,
        sync: Synchronization,
    ) -> tuple[ComplexArray, Synchronization]:
        """Carrier and clock once more, with the data symbols too; rows turned accordingly."""
        numerology = self._numerology
        channel = estimator.wiener(rows * np.conj(sent), np.arange(sent.size))
        gain, variance = channel.gain, channel.effective_noise_variance
        expected = gain * sent.reshape(-1)
        expected[places] = gain[places] * modulation.expect(
            rows.reshape(-1)[places], variance[places], gain[places]
        )
        carriers = numerology.carriers.astype(np.float64)
        by_row, by_row_and_carrier = phase_drift(
            rows, expected.reshape(rows.shape), channel.noise_variance, carriers
        )
        cycles = numerology.row_samples * 2 * np.pi
        sync = replace(
            sync,
            carrier=sync.carrier + by_row / cycles,
            clock=sync.clock - by_row_and_carrier * numerology.fft_size / cycles,
        )
        return turned_back(rows, by_row, by_row_and_carrier, carriers), sync

    def _estimator(self, rows: int, full_rows: int) -> GridEstimator:
        return grid_estimator(self._numerology, rows, full_rows, self._dopplers)

    def _rows(
        self, detection: Detection, sync: Synchronization, rows: int, circular: bool = False
    ) -> ComplexArray:
        """(rows, U) the first rows of a frame."""
        samples, first = self._view(detection, self._waveform.rows_end(rows), circular)
        base = Baseband.of(samples, sync.carrier, self._pulse)
        row = np.arange(rows) * self._numerology.row_samples + self._numerology.cyclic_prefix
        offsets = self._waveform.grid_start * self._waveform.samples_per_symbol + row
        instants = sync.start - first + (1 + sync.clock) * offsets
        return demodulate(self._numerology, base.samples, instants)

    def _reception(
        self,
        estimator: GridEstimator,
        rows: ComplexArray,
        sent: ComplexArray,
        places: IntArray,
        sync: Synchronization,
    ) -> Reception:
        """Values and channel at some places of the grid."""
        estimate = estimator.linear if self._csi == "least_squares" else estimator.wiener
        channel: ChannelEstimate = estimate(rows * np.conj(sent), places)
        spread = None
        if channel.doppler is not None:
            channel = replace(channel, doppler=channel.doppler / self._numerology.row_symbols)
            spread = delay_spread(self._numerology, places, channel.gain)
            spread /= self._waveform.samples_per_symbol
        burst = None
        if channel.errors is not None:
            row = np.repeat(np.arange(len(rows)), channel.errors.size // len(rows))
            burst = find_burst(row, channel.errors, len(rows))
        return Reception(rows.reshape(-1)[places], channel, sync.carrier, sync.clock, spread, burst)
