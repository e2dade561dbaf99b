r"""Receivers that are told what a receiver has to find out: the yardstick of the benchmarks.

**Perfect synchronization**: the frame's start, carrier and clock offset are known; gains and noise
are estimated from the pilots as always.

**Perfect channel knowledge**: the channel's response at each received symbol is known as well. Only
the noise variance is estimated, from the known symbols.

Each waveform has a :class:`Genie`; what it knows beside the waveform's parameters are a
:class:`phy.synchronization.Synchronization` and a :data:`Response`. The single carrier's takes the
response at the middle of the band, which on a flat channel is all of it. To measure the single
carrier over multipath, give :class:`SingleCarrierGenie` an equalizer made from the whole response,
and :func:`benchmarks.estimation.cases` the channels.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

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
from phy.waveform import ComplexArray, DemodulatorConfig, Reception, Waveform

FloatArray = npt.NDArray[np.float64]
Response = Callable[[FloatArray, FloatArray], ComplexArray]
"""A channel's true response: of (n,) instants in received samples and (F,) frequencies in cycles
per sample, (n, F) complex64."""


class Genie(Protocol):
    """Payloads of frames that need not be found."""

    @property
    def lead(self) -> int:
        """Samples from the start of a frame, as the modulator sends it, to its first symbol."""

    def payload(
        self,
        samples: ComplexArray,
        sync: Synchronization,
        header: FrameHeader,
        response: Response | None = None,
    ) -> Reception:
        """The payload's symbols and what is known of their way here.

        Args:
            samples: (n,) complex64 that hold the frame.
            sync: where its symbols truly lie in them.
            header: of the frame.
            response: of the channel at any instant of `samples`; None to estimate it.
        """


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


class SymbolSpacedGenie:
    """One sample per symbol."""

    lead = 0

    def __init__(self, waveform: SymbolSpaced) -> None:
        self._format = waveform.frame_format

    def payload(
        self,
        samples: ComplexArray,
        sync: Synchronization,
        header: FrameHeader,
        response: Response | None = None,
    ) -> Reception:
        """See :class:`Genie`."""
        instants = sync.instants(np.arange(self._format.frame_length(header.data_symbols)), 1)
        symbols = samples[np.round(instants).astype(np.int64)]
        return self.reception(symbols, instants, header, response)

    def reception(
        self,
        symbols: ComplexArray,
        instants: FloatArray,
        header: FrameHeader,
        response: Response | None,
    ) -> Reception:
        """The payload among all symbols of a frame, received at some instants."""
        geometry = self._format.geometry(header.data_symbols)
        known, wanted = geometry.payload_known, geometry.payload_data
        least_squares = symbols[known] * np.conj(payload_template(self._format, header))
        if response is None:
            dopplers = _demodulator_config().dopplers(self._format.pilot_spacing)
            estimator = section_estimator(self._format, header.data_symbols, dopplers)
            return Reception(symbols[wanted], estimator.wiener(least_squares))
        gain = response(instants, np.zeros(1))[:, 0]
        return Reception(symbols[wanted], known_channel(least_squares, gain[known], gain[wanted]))


class SingleCarrierGenie:
    """Root-raised-cosine pulses."""

    def __init__(self, waveform: SingleCarrier) -> None:
        self._format = waveform.frame_format
        self._pulse = waveform.pulse
        self._symbols = SymbolSpacedGenie(SymbolSpaced(waveform.frame_format))

    @property
    def lead(self) -> int:
        """See :class:`Genie`."""
        return self._pulse.reach

    def payload(
        self,
        samples: ComplexArray,
        sync: Synchronization,
        header: FrameHeader,
        response: Response | None = None,
    ) -> Reception:
        """See :class:`Genie`."""
        length = self._format.frame_length(header.data_symbols)
        base, relative, _ = _frame(samples, self._pulse, sync, length)
        places = np.arange(length)
        instants = sync.instants(places, self._pulse.samples_per_symbol)
        symbols = base.symbols(relative, places)
        return self._symbols.reception(symbols, instants, header, response)


class OfdmGenie:
    """CP-OFDM."""

    def __init__(self, waveform: Ofdm) -> None:
        self._waveform = waveform

    @property
    def lead(self) -> int:
        """See :class:`Genie`."""
        return self._waveform.pulse.reach

    def payload(
        self,
        samples: ComplexArray,
        sync: Synchronization,
        header: FrameHeader,
        response: Response | None = None,
    ) -> Reception:
        """See :class:`Genie`."""
        numerology = self._waveform.numerology
        sent = pilot_grid(numerology, numerology.frame_rows(header.data_symbols))
        sent[: numerology.header_end] = header_grid(numerology, header)
        length = self._waveform.rows_end(sent.shape[0])
        base, relative, first = _frame(samples, self._waveform.pulse, sync, length)
        row = np.arange(sent.shape[0]) * numerology.row_samples + numerology.cyclic_prefix
        useful = self._waveform.grid_start * numerology.samples_per_symbol + row
        instants = relative.start + (1 + sync.clock) * useful
        rows = demodulate(numerology, base.samples, instants)
        least_squares = rows * np.conj(sent)
        places = numerology.payload_places(header.data_symbols)
        if response is None:
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
            gains = response(middle, frequencies)
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


def _frame(
    samples: ComplexArray, pulse: Pulse, sync: Synchronization, symbols: int
) -> tuple[Baseband, Synchronization, int]:
    """The samples of a frame without carrier offset and, as in every receiver, without constant.

    Returns:
        The samples, turned back from the phase at the start of the whole capture on; where the
        symbols lie in them; the index of the first of them.
    """
    first = max(int(sync.start) - pulse.reach, 0)
    stop = int(sync.start + pulse.samples_per_symbol * (1 + sync.clock) * symbols) + pulse.reach
    part = samples[first:stop]
    part = part - np.complex64(part.mean(dtype=np.complex128))
    part *= np.complex64(np.exp(-2j * np.pi * sync.carrier * first))
    base = Baseband.of(part, sync.carrier, pulse)
    return base, replace(sync, start=sync.start - first), first
