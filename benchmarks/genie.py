r"""Receivers that are told what a receiver has to find out: the yardstick of the benchmarks.

**Perfect synchronization**: the frame's start, carrier and clock offset are known; gains and noise
are estimated from the pilots as always.

**Perfect channel knowledge**: the gains and delays of the channel's paths are known as well, at any
instant. Only the noise variance is estimated, from the known symbols.

Each waveform has a :class:`Genie`; what it knows beside the waveform's parameters are a
:class:`phy.synchronization.Synchronization` and a :class:`TrueChannel`. One sample per symbol sees
the response at the middle of the band, which on a flat channel is all of it; the single carrier
gets the receiver's own equalizer (:mod:`phy.equalization`), set to the true paths.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from phy.dispersion import half_symbols
from phy.equalization import BLOCK, GUARD, MmseEqualizer, raised_cosine
from phy.estimation import known_channel
from phy.frame import FrameHeader, payload_template
from phy.ofdm import Ofdm
from phy.ofdm_estimation import grid_estimator
from phy.ofdm_grid import demodulate, header_grid, pilot_grid
from phy.pulse_shaping import Pulse
from phy.receiver import ReceiverConfig
from phy.section_estimation import section_estimator
from phy.single_carrier import SingleCarrier
from phy.symbol_spaced import SymbolSpaced
from phy.synchronization import Baseband, Synchronization
from phy.tapped_delay_line import FadingFilter
from phy.waveform import ComplexArray, DemodulatorConfig, Reception, Waveform

FloatArray = npt.NDArray[np.float64]

_REACH = 20  # symbols by which a response is followed to either side


@dataclass(frozen=True)
class TrueChannel:
    """Fading as it truly is, seen by a receiver whose clock runs at a rate of its own.

    Attributes:
        fading: through which the samples went.
        clock: offset of the receiver's clock, relative; its samples are the instants below.
    """

    fading: FadingFilter
    clock: float = 0.0

    @property
    def delays(self) -> FloatArray:
        """(K,) delays of the paths, in samples."""
        return self.fading.parameters.delays_s * self.fading.sample_rate_hz

    def gains(self, instants: FloatArray) -> ComplexArray:
        """(n,) instants to (n, K) complex64 gains of the paths."""
        return self.fading.tap_gains(self._positions(instants))

    def response(self, instants: FloatArray, frequencies: FloatArray) -> ComplexArray:
        """(n,) instants and (F,) frequencies in cycles per sample to (n, F) complex64."""
        frequencies_hz = frequencies * self.fading.sample_rate_hz
        return self.fading.frequency_response(self._positions(instants), frequencies_hz)

    def _positions(self, instants: FloatArray) -> npt.NDArray[np.int64]:
        return np.round(instants / (1 + self.clock)).astype(np.int64)


@dataclass(frozen=True)
class _Frame:
    """What a genie is given; see :meth:`Genie.payload`."""

    samples: ComplexArray
    sync: Synchronization
    header: FrameHeader
    channel: TrueChannel | None

    def baseband(self, pulse: Pulse, symbols: int) -> tuple[Baseband, Synchronization, int]:
        """The samples of the frame without carrier offset and, as in every receiver, constant.

        Returns:
            The samples, turned back from the phase at the start of the whole capture on; where the
            symbols lie in them; the index of the first of them.
        """
        sync = self.sync
        first = max(int(sync.start) - pulse.reach, 0)
        stop = int(sync.start + pulse.samples_per_symbol * (1 + sync.clock) * symbols) + pulse.reach
        part = self.samples[first:stop]
        part = part - np.complex64(part.mean(dtype=np.complex128))
        part *= np.complex64(np.exp(-2j * np.pi * sync.carrier * first))
        base = Baseband.of(part, sync.carrier, pulse)
        return base, replace(sync, start=sync.start - first), first


class Genie(ABC):
    """Payloads of frames that need not be found.

    Attributes:
        lead: samples from the start of a frame, as the modulator sends it, to its first symbol.
    """

    lead: int

    def payload(
        self,
        samples: ComplexArray,
        sync: Synchronization,
        header: FrameHeader,
        channel: TrueChannel | None = None,
    ) -> Reception:
        """The payload's symbols and what is known of their way here.

        Args:
            samples: (n,) complex64 that hold the frame.
            sync: where its symbols truly lie in them.
            header: of the frame.
            channel: between them and what was sent; None to estimate it.
        """
        return self._receive(_Frame(samples, sync, header, channel))

    @abstractmethod
    def _receive(self, frame: _Frame) -> Reception:
        """See :meth:`payload`."""


def genie_of(waveform: Waveform) -> Genie:
    """The genie of a waveform.

    Raises:
        TypeError: a waveform that has none.
    """
    if isinstance(waveform, SymbolSpaced):
        return SymbolSpacedGenie(waveform)
    if isinstance(waveform, SingleCarrier):
        return SingleCarrierGenie(waveform)
    if isinstance(waveform, Ofdm):
        return OfdmGenie(waveform)
    raise TypeError(f"no genie receives {type(waveform).__name__}")


class SymbolSpacedGenie(Genie):
    """One sample per symbol."""

    def __init__(self, waveform: SymbolSpaced) -> None:
        self.lead = 0
        self._format = waveform.frame_format

    def _receive(self, frame: _Frame) -> Reception:
        header = frame.header
        places = np.arange(self._format.frame_length(header.data_symbols))
        instants = frame.sync.instants(places, 1)
        symbols = frame.samples[np.round(instants).astype(np.int64)]
        if frame.channel is None:
            return self.estimated(symbols, header)
        geometry = self._format.geometry(header.data_symbols)
        known, wanted = geometry.payload_known, geometry.payload_data
        least_squares = symbols[known] * np.conj(payload_template(self._format, header))
        gain = frame.channel.response(instants, np.zeros(1))[:, 0]
        return Reception(symbols[wanted], known_channel(least_squares, gain[known], gain[wanted]))

    def estimated(self, symbols: ComplexArray, header: FrameHeader) -> Reception:
        """The payload among all symbols of a frame, its gains from the pilots."""
        geometry = self._format.geometry(header.data_symbols)
        template = payload_template(self._format, header)
        least_squares = symbols[geometry.payload_known] * np.conj(template)
        dopplers = _demodulator_config().dopplers(self._format.pilot_spacing)
        estimator = section_estimator(self._format, header.data_symbols, dopplers)
        return Reception(symbols[geometry.payload_data], estimator.wiener(least_squares))


class SingleCarrierGenie(Genie):
    """Root-raised-cosine pulses."""

    def __init__(self, waveform: SingleCarrier) -> None:
        self.lead = waveform.pulse.reach
        self._format = waveform.frame_format
        self._pulse = waveform.pulse
        self._symbols = SymbolSpacedGenie(SymbolSpaced(waveform.frame_format))

    def _receive(self, frame: _Frame) -> Reception:
        length = self._format.frame_length(frame.header.data_symbols)
        if frame.channel is not None:
            return self._equalized(frame, frame.channel, length)
        base, relative, _ = frame.baseband(self._pulse, length)
        return self._symbols.estimated(base.symbols(relative, np.arange(length)), frame.header)

    def _equalized(self, frame: _Frame, channel: TrueChannel, length: int) -> Reception:
        """Behind the equalizer that the true paths give, as a flat channel of the same quality."""
        M, rolloff = self._pulse.samples_per_symbol, self._pulse.rolloff
        delays = channel.delays / M
        late = int(np.ceil(delays.max()))
        base, relative, _ = frame.baseband(self._pulse, length + late)
        blocks = -(-length // BLOCK)
        gains = channel.gains(frame.sync.instants(BLOCK * np.arange(blocks) + BLOCK // 2, M))
        received = half_symbols(base, relative, blocks)

        geometry = self._format.geometry(frame.header.data_symbols)
        known, wanted = geometry.payload_known, geometry.payload_data
        template = payload_template(self._format, frame.header)
        start = self._format.header_end  # all known up to there
        lags = np.arange(-_REACH, _REACH + late + 1)
        response = gains @ raised_cosine(lags - delays[:, None], rolloff)
        noise_variance = _residual(
            received[2 * GUARD :: 2][:start], template[:start], lags, response
        )
        equalizer = MmseEqualizer(delays, rolloff)
        result = equalizer.equalize(received, gains, noise_variance)
        symbols, block_gain = result.as_flat(noise_variance)
        gain = np.repeat(block_gain, BLOCK).astype(np.complex64)
        least_squares = symbols[known] * np.conj(template)
        return Reception(symbols[wanted], known_channel(least_squares, gain[known], gain[wanted]))


def _residual(
    received: ComplexArray, sent: ComplexArray, lags: npt.NDArray[np.int64], response: ComplexArray
) -> float:
    """Mean energy of what symbols behind a known response leave, with known symbols all around.

    Args:
        received: (n,) complex64 matched filter's output at the symbols' instants.
        sent: (n,) complex64 the symbols.
        lags: (L,) ascending from a negative one, one symbol apart.
        response: (blocks, L) complex, in the middle of each block of :data:`BLOCK` symbols.
    """
    around = np.lib.stride_tricks.sliding_window_view(sent, lags.size)[:, ::-1]
    places = np.arange(lags[-1], sent.size + lags[0])
    expected = np.einsum("nl,nl->n", around, response[places // BLOCK])
    return float(np.mean(np.abs(received[places] - expected) ** 2))


class OfdmGenie(Genie):
    """CP-OFDM."""

    def __init__(self, waveform: Ofdm) -> None:
        self.lead = waveform.pulse.reach
        self._waveform = waveform

    def _receive(self, frame: _Frame) -> Reception:
        header = frame.header
        numerology = self._waveform.numerology
        sent = pilot_grid(numerology, numerology.frame_rows(header.data_symbols))
        sent[: numerology.header_end] = header_grid(numerology, header)
        length = self._waveform.rows_end(sent.shape[0])
        base, relative, first = frame.baseband(self._waveform.pulse, length)
        row = np.arange(sent.shape[0]) * numerology.row_samples + numerology.cyclic_prefix
        useful = self._waveform.grid_start * numerology.samples_per_symbol + row
        instants = relative.start + (1 + relative.clock) * useful
        rows = demodulate(numerology, base.samples, instants)
        least_squares = rows * np.conj(sent)
        places = numerology.payload_places(header.data_symbols)
        if frame.channel is None:
            row_symbols = numerology.row_symbols
            dopplers = _demodulator_config().dopplers(row_symbols)
            estimator = grid_estimator(
                numerology,
                sent.shape[0],
                numerology.header_end,
                tuple(row_symbols * doppler for doppler in dopplers),
            )
            channel = estimator.wiener(least_squares, places)
        else:
            middle = first + (instants + numerology.fft_size // 2).astype(np.float64)
            frequencies = numerology.carriers.astype(np.float64) / numerology.fft_size
            gains = frame.channel.response(middle, frequencies)
            known = np.zeros(sent.shape, dtype=bool)
            known[: numerology.header_end] = True
            known[:, numerology.comb] = True
            channel = known_channel(least_squares[known], gains[known], gains.reshape(-1)[places])
        return Reception(rows.reshape(-1)[places], channel)


def _demodulator_config() -> DemodulatorConfig:
    """What a receiver with the default parameters tells its demodulator."""
    config = ReceiverConfig()
    return DemodulatorConfig(
        config.symbol_rate_hz, config.csi, config.doppler_grid_hz, config.false_alarm_probability
    )
