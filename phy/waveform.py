"""What a waveform is: the part of the chain between symbols and samples.

A waveform lays the header and the data symbols of a frame out in time and frequency together with
preamble and pilots (modulator), and gives them back with an estimate of what the channel did to
them (demodulator). All else, from the message to the symbols and from the demapper to the message,
is the same for every waveform:

- :class:`phy.symbol_spaced.SymbolSpaced`: one sample per symbol, ideal timing; for simulations of
  coding and fading, with channel gains known if wished.
- :class:`phy.single_carrier.SingleCarrier`: root-raised-cosine pulses, synchronized from the
  preamble, header and pilots, and equalized where there is multipath.
- :class:`phy.ofdm.Ofdm`: many carriers with a cyclic prefix, for channels with multipath.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

from phy.detection import Detection
from phy.error_profile import ErrorBurst
from phy.estimation import ChannelEstimate
from phy.frame import FrameHeader

ComplexArray = npt.NDArray[np.complex64]
ChannelKnowledge = Literal["wiener", "least_squares", "perfect"]

# Largest Doppler shift of the estimator, in cycles per pilot spacing. A line between nodes d
# symbols apart errs by (2 pi f_D d)^4 / 320 of the gain's power on average: -61 dB at 0.02, -57 dB
# at the 0.0256 of 800 Hz at 1 Msymbol/s, -37 dB at 0.08. The estimator grows with the number of
# cycles in a frame, so a low symbol rate would need gigabytes for shifts it cannot follow anyway.
_MAX_DOPPLER_PER_SPACING = 0.08


@dataclass(frozen=True)
class DemodulatorConfig:
    """What a demodulator has to know beside the waveform.

    Attributes:
        symbol_rate_hz: symbols per second; relates Doppler shifts to symbols.
        csi: channel knowledge; see :class:`phy.receiver.ReceiverConfig`.
        doppler_grid_hz: Doppler shifts among which the estimator chooses.
        false_alarm_probability: of the preamble detector, per sample of white noise.
    """

    symbol_rate_hz: float
    csi: ChannelKnowledge
    doppler_grid_hz: tuple[float, ...]
    false_alarm_probability: float

    def dopplers(self, pilot_spacing: int) -> tuple[float, ...]:
        """The grid in cycles per symbol, without the shifts too fast for the estimator.

        Raises:
            ValueError: a symbol rate that is not positive, or no shift slow enough.
        """
        rate = self.symbol_rate_hz
        if not 0 < rate < np.inf:
            raise ValueError(f"the symbol rate must be positive and finite, not {rate}")
        limit = _MAX_DOPPLER_PER_SPACING / pilot_spacing
        usable = tuple(d for d in (hertz / rate for hertz in self.doppler_grid_hz) if d <= limit)
        if not usable:
            raise ValueError(
                f"no Doppler shift of {self.doppler_grid_hz} Hz is at most {limit * rate:g} Hz, "
                f"what pilots can follow at {rate:g} symbols a second"
            )
        return usable


@dataclass(frozen=True)
class Reception:
    """Symbols of one section of a frame and what is known of their way here.

    Attributes:
        symbols: (n,) complex64 received data symbols.
        channel: estimate of the channel at these symbols.
        carrier: carrier offset in cycles per sample, None where none is measured.
        clock: relative clock offset, None where none is measured.
        delay_spread: root-mean-square delay spread in channel symbols, 0 where it is too small to
            show; None where none is measured.
        burst: stretch of the frame in which the known symbols fit worse than elsewhere.
        start: absolute instant of the frame's first symbol, in samples; None where it is not known
            from a whole frame.
    """

    symbols: ComplexArray
    channel: ChannelEstimate
    carrier: float | None = None
    clock: float | None = None
    delay_spread: float | None = None
    burst: ErrorBurst | None = None
    start: float | None = None


class Modulator(Protocol):
    """Frames to samples, as a stream."""

    def frame(self, header: FrameHeader, payload: ComplexArray) -> ComplexArray:
        """The samples of a frame whose data symbols are `payload`, (D,) of unit mean energy."""

    def flush(self) -> ComplexArray:
        """The samples still under way at the end of a transmission."""


class Demodulator(Protocol):
    """Samples to the symbols of frames.

    All places are absolute sample indices of the stream. Results do not depend on the chunks in
    which the samples arrive.
    """

    @property
    def end(self) -> int:
        """Samples that have arrived."""

    @property
    def held(self) -> int:
        """Samples in memory."""

    @property
    def decided(self) -> int:
        """Later detections have at least this index."""

    def append(self, samples: ComplexArray, gains: ComplexArray | None) -> None:
        """Takes in samples, and the channel's gains where they are known."""

    @property
    def near_miss(self) -> float:
        """How close to the detector's threshold the stream came without a detection, 0 to 1."""

    def samples(self, start: int, stop: int) -> ComplexArray:
        """Those of the samples from `start` to `stop` that are in memory; valid until `append`."""

    def scan(self, final: bool) -> list[Detection]:
        """New detections, in ascending order; `final`: nothing more will come."""

    def discard(self, before: int) -> None:
        """Forgets samples that neither frames from `before` on nor the detector needs."""

    def header_end(self, detection: Detection) -> int:
        """The sample up to which the header needs the stream."""

    def frame_end(self, detection: Detection, header: FrameHeader) -> int:
        """The same of a whole frame."""

    def header(self, detection: Detection) -> Reception | None:
        """The header's symbols; None if a closer look shows no preamble there."""

    def payload(self, detection: Detection, header: FrameHeader) -> Reception:
        """The payload's symbols, after :meth:`header` of the same detection."""


class Waveform(Protocol):
    """Parameters of a waveform, the same at both ends."""

    @property
    def samples_per_symbol(self) -> int:
        """Samples per channel symbol."""

    def frame_symbols(self, data_symbols: int) -> int:
        """Channel symbols of a frame with `data_symbols` data symbols, all overhead included."""

    def modulator(self) -> Modulator:
        """A modulator at the start of a stream."""

    def demodulator(self, config: DemodulatorConfig) -> Demodulator:
        """A demodulator at the start of a stream.

        Raises:
            ValueError: parameters that this waveform's receiver cannot work with.
        """
