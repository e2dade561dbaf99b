"""The receiver: a stream of baseband samples in, frame reports and messages out.

Every frame passes the same stages: detection of the preamble, channel estimation and decoding of
the header, channel estimation of the whole frame (now with the header as pilots), demapping, and
hand-over of the soft bits to :class:`phy.message.MessageAssembler`, which decodes blocks and joins
messages. Each stage is a function of the samples at fixed absolute places, so the events do not
depend on how the stream is cut into chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import get_args

import numpy as np
import numpy.typing as npt

from phy.detection import Detection
from phy.errors import HeaderError
from phy.frame import HEADER_MODULATION, FrameHeader, decode_header
from phy.message import (
    BlockReceived,
    MessageAssembler,
    MessageEvent,
    MessageLayout,
    MessageReceived,
)
from phy.modulation import DemapMethod
from phy.symbol_spaced import SymbolSpaced
from phy.waveform import ChannelKnowledge, ComplexArray, DemodulatorConfig, Reception, Waveform

_SLICE = 2**16  # samples taken in at a time, which bounds the buffers for chunks of any size
_LARGEST = 1e15  # amplitude whose powers are still far from the ends of float32
_CUT = "cut by the end of the stream"


@dataclass(frozen=True)
class ReceiverConfig:
    """Parameters of a receiver.

    Attributes:
        waveform: as at the transmitter.
        symbol_rate_hz: symbols per second; relates Doppler shifts to symbols.
        csi: channel knowledge: "wiener" or "least_squares" (with linear interpolation) estimates
            from known symbols; "perfect": the true gains are passed to :meth:`Receiver.process`.
            The noise variance is estimated in all cases.
        doppler_grid_hz: Doppler shifts among which the estimator chooses by likelihood, frame by
            frame. A single value makes it a design parameter. The default covers a channel that is
            constant over a frame up to 800 Hz. Shifts above 0.08 cycles per pilot spacing (2.5 kHz
            at 1 Msymbol/s and a pilot every 32 symbols) are left out: there the estimate, computed
            once per pilot spacing and linear in between, errs by more than -37 dB.
        demapper: "exact" or "maxlog".
        max_iterations: LDPC iterations per code block.
        false_alarm_probability: of the preamble detector, per sample of white noise.
        timeout_samples: silence after which an incomplete message is given up.
        max_soft_bits: LLRs that may wait for the rest of their block.
        max_messages: messages that may be on their way at the same time.
    """

    waveform: Waveform = field(default_factory=SymbolSpaced)
    symbol_rate_hz: float = 1e6
    csi: ChannelKnowledge = "wiener"
    doppler_grid_hz: tuple[float, ...] = (0, 10, 25, 50, 100, 200, 400, 800)
    demapper: DemapMethod = "exact"
    max_iterations: int = 25
    false_alarm_probability: float = 1e-9
    timeout_samples: int = 2**20
    max_soft_bits: int = 2**24
    max_messages: int = 8


@dataclass(frozen=True)
class FrameReport:
    """What became of one detected frame.

    Attributes:
        sample_index: absolute index of the preamble's first sample.
        detection_metric: J of :mod:`phy.detection`, both chirps' normalized correlation.
        header: the decoded header, or None.
        payload_used: the payload's soft bits went to their block.
        stage_failed: None, or "header".
        failure: the reason in words, or None.
        snr_db: estimated Es/N0 over the frame (over preamble and header if the header failed), dB.
        evm_db: error vector magnitude of the known symbols after equalization, dB.
        noise_variance: estimate of N0.
        doppler_hz: the Doppler shift chosen for interpolation; None without a Wiener filter.
        cfo_hz: carrier offset; None where the waveform knows none.
        clock_ppm: offset of the sender's symbol clock, positive where it is slow; None likewise.
    """

    sample_index: int
    detection_metric: float
    header: FrameHeader | None
    payload_used: bool
    stage_failed: str | None
    failure: str | None
    snr_db: float
    evm_db: float
    noise_variance: float
    doppler_hz: float | None
    cfo_hz: float | None = None
    clock_ppm: float | None = None

    @property
    def header_ok(self) -> bool:
        """The header's CRC and its fields are right."""
        return self.header is not None


@dataclass
class ReceiverStatistics:
    """Running totals since the receiver was made; nothing is dropped without being counted.

    Attributes:
        samples: samples taken in.
        invalid_samples: of them NaN, infinite or above 1e15, replaced by 0.
        false_alarms: detections in which a closer look found no preamble.
        frames_detected: preambles found outside of received frames.
        header_failures: of them without a readable header.
        frames_cut: with a good header, but cut by the end of the stream.
        frames_received: with a good header, and complete.
        frames_repeated: of them of transport blocks decoded before.
        blocks_decoded: transport blocks with a correct CRC.
        blocks_failed: tries at transport blocks in vain.
        blocks_evicted: blocks dropped or decided early for lack of room.
        messages_complete: delivered with a correct digest.
        messages_failed: ended without.
        messages_evicted: messages ended early for lack of room.
    """

    samples: int = 0
    invalid_samples: int = 0
    false_alarms: int = 0
    frames_detected: int = 0
    header_failures: int = 0
    frames_cut: int = 0
    frames_received: int = 0
    frames_repeated: int = 0
    blocks_decoded: int = 0
    blocks_failed: int = 0
    blocks_evicted: int = 0
    messages_complete: int = 0
    messages_failed: int = 0
    messages_evicted: int = 0


Event = FrameReport | MessageEvent


def failed_stage(events: Iterable[Event]) -> str | None:
    """Why a transmission brought no message: for a link that expects one.

    Arguments:
        events: all events of the reception.

    Returns:
        None if some message arrived complete; else the failed stage of the first message; else
        "header" if frames were seen but none could be read; else "detection".
    """
    reports = list(events)
    messages = [event for event in reports if isinstance(event, MessageReceived)]
    if any(message.data is not None for message in messages):
        return None
    if messages:
        return messages[0].stage_failed
    return "header" if any(isinstance(event, FrameReport) for event in reports) else "detection"


class Receiver:
    """Finds, decodes and joins frames in a stream of samples."""

    def __init__(self, config: ReceiverConfig | None = None) -> None:
        """Make a receiver at the start of a stream.

        Arguments:
            config: parameters; the defaults of :class:`ReceiverConfig` if not given.

        Raises:
            ValueError: a parameter out of range, or no Doppler shift that the estimator can follow
                at this symbol rate.
        """
        self.config = config or ReceiverConfig()
        for name, value, known in (
            ("csi", self.config.csi, get_args(ChannelKnowledge)),
            ("demapper", self.config.demapper, get_args(DemapMethod)),
        ):
            if value not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, not {value!r}")
        self.statistics = ReceiverStatistics()
        self._start_stream()

    def _start_stream(self) -> None:
        config = self.config
        self._demodulator = config.waveform.demodulator(
            DemodulatorConfig(
                config.symbol_rate_hz,
                config.csi,
                config.doppler_grid_hz,
                config.false_alarm_probability,
            )
        )
        self._assembler = MessageAssembler(
            config.max_iterations,
            config.timeout_samples,
            config.max_soft_bits,
            config.max_messages,
        )
        self._detections: deque[Detection] = deque()
        self._header: FrameHeader | None = None  # of the first detection, once decoded
        self._frame_end = 0  # detections before it lie inside a received frame

    @property
    def samples_held(self) -> int:
        """Samples in memory: those of frames not yet complete, and of the detector's window."""
        return self._demodulator.held

    def process(self, samples: npt.ArrayLike, gains: npt.ArrayLike | None = None) -> list[Event]:
        """Take in the next samples.

        Arguments:
            samples: (n,) complex, any n. NaN, infinities and amplitudes above 1e15 count as 0.
            gains: (n,) complex channel gains; needed with ``csi="perfect"``, and else ignored.

        Returns:
            What was found, in the order of the stream.

        Raises:
            ValueError: perfect channel knowledge without as many gains as samples.
        """
        received = np.array(samples, dtype=np.complex64).reshape(-1)
        bad = ~(np.abs(received) < _LARGEST)  # true for NaN as well
        if bad.any():
            self.statistics.invalid_samples += int(bad.sum())
            received[bad] = 0
        self.statistics.samples += received.size
        known: ComplexArray | None = None
        if self.config.csi == "perfect":
            known = np.asarray([] if gains is None else gains, dtype=np.complex64).reshape(-1)
            if known.size != received.size:
                raise ValueError("csi='perfect' needs the channel gain of every sample")
        events: list[Event] = []
        for start in range(0, received.size, _SLICE):
            part = slice(start, start + _SLICE)
            self._demodulator.append(received[part], None if known is None else known[part])
            events += self._advance(final=False)
        return events

    def flush(self) -> list[Event]:
        """End the stream: decide what is still open, and start anew at sample index 0.

        Returns:
            The last events of the stream.
        """
        events = self._advance(final=True)
        events += self._count(self._assembler.flush())
        self._start_stream()
        return events

    def _advance(self, final: bool) -> list[Event]:
        """Handle all detections for which enough samples are there."""
        self._detections.extend(self._demodulator.scan(final))
        events: list[Event] = []
        while self._detections:
            detection = self._detections[0]
            if detection.index >= self._frame_end:
                events += self._count(self._assembler.expire(detection.index))
                frame_events = self._receive_frame(detection, final)
                if frame_events is None:
                    break  # more samples are needed
                events += frame_events
            self._detections.popleft()
        # Nothing before this sample is open any more, so silence up to here is real.
        now = self._detections[0].index if self._detections else self._demodulator.decided
        events += self._count(self._assembler.expire(now))
        self._demodulator.discard(now)
        return events

    def _receive_frame(self, detection: Detection, final: bool) -> list[Event] | None:
        """All stages of one frame; None if it is not yet there completely."""
        front = self._demodulator
        if self._header is None:
            if front.end < front.header_end(detection):
                return [self._header_failure(detection, _CUT, None)] if final else None
            reception = front.header(detection)
            if reception is None:
                self.statistics.false_alarms += 1
                return []
            try:
                header = self._decode_header(reception)
                MessageLayout.from_header(header)
            except HeaderError as error:
                return [self._header_failure(detection, str(error), reception)]
            self._header = header

        header = self._header
        end = front.frame_end(detection, header)
        if front.end < end and not final:
            return None
        self._header = None
        self.statistics.frames_detected += 1
        if front.end < end:
            self.statistics.frames_cut += 1
            return [self._report(detection, header, False, _CUT, front.header(detection))]

        layout = MessageLayout.from_header(header)
        reception = front.payload(detection, header)
        llr = layout.mcs.modulation.demap(
            reception.symbols,
            reception.channel.effective_noise_variance,
            reception.channel.gain,
            self.config.demapper,
        )
        # The next frame may begin where this one's symbols end; the detector errs by a symbol.
        waveform = self.config.waveform
        symbols = waveform.frame_symbols(header.data_symbols) - 2
        self._frame_end = detection.index + waveform.samples_per_symbol * symbols
        self.statistics.frames_received += 1
        span = (detection.index, end)
        decided = self._assembler.add_frame(header, layout, llr, reception.channel, span)
        return [self._report(detection, header, True, None, reception), *self._count(decided)]

    @staticmethod
    def _decode_header(reception: Reception) -> FrameHeader:
        return decode_header(
            HEADER_MODULATION.demap(
                reception.symbols,
                reception.channel.effective_noise_variance,
                reception.channel.gain,
            )
        )

    def _header_failure(
        self, detection: Detection, reason: str, reception: Reception | None
    ) -> FrameReport:
        self.statistics.frames_detected += 1
        self.statistics.header_failures += 1
        self._assembler.header_failed()
        return self._report(detection, None, False, reason, reception)

    def _report(
        self,
        detection: Detection,
        header: FrameHeader | None,
        payload_used: bool,
        failure: str | None,
        reception: Reception | None,
    ) -> FrameReport:
        channel = None if reception is None else reception.channel
        doppler = None if channel is None else channel.doppler
        sample_rate = self.config.symbol_rate_hz * self.config.waveform.samples_per_symbol
        carrier = None if reception is None else reception.carrier
        clock = None if reception is None else reception.clock
        return FrameReport(
            sample_index=detection.index,
            detection_metric=detection.metric,
            header=header,
            payload_used=payload_used,
            stage_failed="header" if header is None else None,
            failure=failure,
            snr_db=np.nan if channel is None else channel.snr_db,
            evm_db=np.nan if channel is None else float(20 * np.log10(channel.evm)),
            noise_variance=np.nan if channel is None else channel.noise_variance,
            doppler_hz=None if doppler is None else doppler * self.config.symbol_rate_hz,
            cfo_hz=None if carrier is None else carrier * sample_rate,
            clock_ppm=None if clock is None else 1e6 * clock,
        )

    def _count(self, decided: list[MessageEvent]) -> list[Event]:
        """Book what the assembler decided, and pass it on."""
        totals = self.statistics
        for event in decided:
            if isinstance(event, BlockReceived):
                totals.blocks_decoded += event.data is not None
                totals.blocks_failed += event.data is None
            elif isinstance(event, MessageReceived):
                totals.messages_complete += event.data is not None
                totals.messages_failed += event.data is None
        totals.frames_repeated += self._assembler.repeated_frames
        self._assembler.repeated_frames = 0
        totals.blocks_evicted += self._assembler.evicted_blocks
        totals.messages_evicted += self._assembler.evicted_messages
        self._assembler.evicted_blocks = self._assembler.evicted_messages = 0
        return list(decided)
