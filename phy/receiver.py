"""The receiver: a stream of baseband samples in, frame reports and messages out.

Every frame passes the same stages: detection of the preamble (or, where a fade has taken it, a look
at the place where the frame should be, :mod:`phy.anticipation`), channel estimation and decoding of
the header, channel estimation of the whole frame (now with the header as pilots), demapping, and
hand-over of the soft bits to :class:`phy.message.MessageAssembler`, which decodes blocks and joins
messages. Each stage is a function of the samples at fixed absolute places, so the events do not
depend on how the stream is cut into chunks.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import numpy.typing as npt

from phy.acquisition import CLEAR
from phy.anticipation import Anticipation, is_there
from phy.detection import Detection
from phy.errors import HeaderError
from phy.frame import HEADER_MODULATION, FrameHeader, decode_header
from phy.frame_report import CUT, OUT_OF_REACH, FrameReport, gain_fading
from phy.llr_statistics import LlrStatistics
from phy.message import (
    BlockReceived,
    MessageAssembler,
    MessageEvent,
    MessageLayout,
    MessageReceived,
)
from phy.modulation import DemapMethod
from phy.sample_statistics import SampleStatistics
from phy.stream_report import StreamMeter, StreamReport
from phy.symbol_spaced import SymbolSpaced
from phy.waveform import ChannelKnowledge, ComplexArray, DemodulatorConfig, Reception, Waveform

_SLICE = 2**16  # samples taken in at a time, which bounds the buffers for chunks of any size
_LARGEST = 1e15  # amplitude whose powers are still far from the ends of float32


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
        full_scale: amplitude of I or Q at which the converter clips; with it levels are reported
            relative to it and clipping is counted exactly.
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
    full_scale: float | None = None


@dataclass
class ReceiverStatistics:
    """Running totals since the receiver was made; nothing is dropped without being counted.

    Attributes:
        samples: samples taken in.
        invalid_samples: of them NaN, infinite or above 1e15, replaced by 0.
        false_alarms: detections outside of frames in which a closer look found no preamble.
        out_of_reach: preambles whose carrier offset is beyond the search range.
        frames_detected: preambles found, and frames found without.
        frames_overlapping: of them those that begin inside of an earlier frame.
        headers_anticipated: of them with an unreadable header that was known beforehand.
        header_failures: of them without a readable header, which was not known either.
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
    out_of_reach: int = 0
    frames_detected: int = 0
    frames_overlapping: int = 0
    headers_anticipated: int = 0
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
    seen = any(isinstance(event, FrameReport) and event.detected for event in reports)
    return "header" if seen else "detection"


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
        self._ended: tuple[StreamMeter, float] | None = None  # with the detector's near miss
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
        self._anticipation: Anticipation | None = None
        self._frame_end = 0  # the end of the earlier frames that reach furthest
        self._meter = StreamMeter(config.full_scale)

    @property
    def samples_held(self) -> int:
        """Samples in memory: those of frames not yet complete, and of the detector's window."""
        return self._demodulator.held

    @property
    def stream_report(self) -> StreamReport:
        """The samples so far, or, after :meth:`flush`, those of the stream that has ended."""
        if self._ended is not None and self._demodulator.end == 0:
            meter, near_miss = self._ended
            return meter.report(near_miss)
        return self._meter.report(self._demodulator.near_miss)

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
            self._meter.invalid += int(bad.sum())
        self.statistics.samples += received.size
        known: ComplexArray | None = None
        if self.config.csi == "perfect":
            known = np.asarray([] if gains is None else gains, dtype=np.complex64).reshape(-1)
            if known.size != received.size:
                raise ValueError("csi='perfect' needs the channel gain of every sample")
        events: list[Event] = []
        for start in range(0, received.size, _SLICE):
            part = slice(start, start + _SLICE)
            self._meter.process(received[part])
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
        self._ended = self._meter, self._demodulator.near_miss
        self._start_stream()
        return events

    def _advance(self, final: bool) -> list[Event]:
        """Handle all detections for which enough samples are there."""
        self._detections.extend(self._demodulator.scan(final))
        events: list[Event] = []
        while (detection := self._next(final)) is not None:
            chance = detection.clarity < CLEAR and not detection.anticipated
            if chance and detection.index < self._frame_end:
                self._detections.popleft()
                continue
            events += self._count(self._assembler.expire(detection.index))
            frame_events = self._receive_frame(detection, final)
            if frame_events is None:
                break  # more samples are needed
            events += frame_events
            self._detections.popleft()
        # Nothing before this sample is open any more, so silence up to here is real.
        now = self._detections[0].index if self._detections else self._demodulator.decided
        if self._anticipation is not None:
            now = min(now, self._anticipation.detection.index)
        events += self._count(self._assembler.expire(now))
        self._demodulator.discard(now)
        return events

    def _next(self, final: bool) -> Detection | None:
        """The next place to look at: a detection, or a frame that should have been detected."""
        expected = self._anticipation
        if expected is not None:
            known = self._detections[0].index if self._detections else self._demodulator.decided
            passed = known > expected.detection.index + expected.reach
            if passed or (final and not self._detections):
                self._detections.appendleft(expected.detection)
        return self._detections[0] if self._detections else None

    def _receive_frame(self, detection: Detection, final: bool) -> list[Event] | None:
        """All stages of one frame; None if it is not yet there completely.

        A clear detection inside of an earlier frame is looked at like any other: that frame may
        have been cut off, or lie below a stronger one, and what its header says of its length
        cannot be relied on. Of the others many are chance: a payload fills the preamble's band, so
        that its metric is above that of noise.
        """
        front = self._demodulator
        if self._header is None:
            if front.end < front.header_end(detection):
                if not final:
                    return None
                self._anticipation = None
                return [] if detection.anticipated else [self._header_failure(detection, CUT, None)]
            found = self._find_header(detection)
            if isinstance(found, list):
                return found
            self._detections[0], self._header = detection, header = found
        header = self._header
        end = front.frame_end(detection, header)
        if front.end < end and not final:
            return None
        self._header = None
        self._count_frame(detection)
        waveform = self.config.waveform
        # The next frame may begin where this one's symbols end; the detector errs by a symbol.
        symbols = waveform.frame_symbols(header.data_symbols) - 2
        last = detection.index + waveform.samples_per_symbol * symbols
        self._frame_end = max(self._frame_end, last)
        if front.end < end:
            self._anticipation = None
            self.statistics.frames_cut += 1
            report = self._report(detection, min(last, front.end), front.header(detection), CUT)
            return [replace(report, header=header, stage_failed=None)]

        layout = MessageLayout.from_header(header)
        reception = front.payload(detection, header)
        llr = layout.mcs.modulation.demap(
            reception.symbols,
            reception.channel.effective_noise_variance,
            reception.channel.gain,
            self.config.demapper,
        )
        self.statistics.frames_received += 1
        self._anticipation = Anticipation.behind(header, reception, waveform)
        span = (detection.index, end)
        decided = self._assembler.add_frame(header, layout, llr, reception.channel, span)
        faded, effective_snr_db = gain_fading(
            layout.mcs.modulation, reception.channel.gain, reception.channel.noise_variance
        )
        report = replace(
            self._report(detection, last, reception, None),
            header=header,
            payload_used=True,
            stage_failed=None,
            faded=faded,
            effective_snr_db=effective_snr_db,
            llr=LlrStatistics.of(llr),
        )
        return [report, *self._count(decided)]

    def _find_header(self, detection: Detection) -> tuple[Detection, FrameHeader] | list[Event]:
        """The header, and where its frame is; what to report if there is none."""
        expected = self._anticipation
        reception, reason = None, ""
        if not detection.anticipated:
            reception = self._demodulator.header(detection)
            if reception is not None:
                try:
                    header = decode_header(self._header_llr(reception))
                    MessageLayout.from_header(header)
                    return detection, header
                except HeaderError as error:
                    reason = str(error)
        if expected is not None and expected.is_near(detection):
            self._anticipation = expected.missed(self.config.waveform)
            again = self._demodulator.header(expected.detection)
            if again is not None and is_there(self._header_llr(again), expected.header):
                self.statistics.headers_anticipated += 1
                return expected.detection, expected.header
        if detection.anticipated:
            return []
        if reception is None or detection.beyond is not None:
            return self._no_preamble(detection)
        return [self._header_failure(detection, reason, reception)]

    @staticmethod
    def _header_llr(reception: Reception) -> npt.NDArray[np.float32]:
        return HEADER_MODULATION.demap(
            reception.symbols,
            reception.channel.effective_noise_variance,
            reception.channel.gain,
        )

    def _no_preamble(self, detection: Detection) -> list[Event]:
        """A closer look found nothing within reach."""
        if detection.beyond is None:
            # Inside of a frame it is one of its payload's chances.
            self.statistics.false_alarms += detection.index >= self._frame_end
            return []
        self.statistics.out_of_reach += 1
        report = self._report(detection, detection.index, None, OUT_OF_REACH)
        carrier = detection.beyond * self._sample_rate
        return [replace(report, stage_failed="detection", cfo_hz=carrier)]

    def _header_failure(
        self, detection: Detection, reason: str, reception: Reception | None
    ) -> FrameReport:
        self._count_frame(detection)
        self.statistics.header_failures += 1
        self._assembler.header_failed()
        end = self._demodulator.header_end(detection)
        return self._report(detection, end, reception, reason)

    def _count_frame(self, detection: Detection) -> None:
        self.statistics.frames_detected += 1
        self.statistics.frames_overlapping += detection.index < self._frame_end

    @property
    def _sample_rate(self) -> float:
        return self.config.symbol_rate_hz * self.config.waveform.samples_per_symbol

    def _report(
        self, detection: Detection, end: int, reception: Reception | None, failure: str | None
    ) -> FrameReport:
        """What is known of any detected frame; its header is still to be filled in."""
        front, config = self._demodulator, self.config
        samples = front.samples(detection.index, max(end, front.header_end(detection)))
        common = FrameReport(
            sample_index=detection.index,
            end_sample=end,
            detection_metric=detection.metric,
            header=None,
            payload_used=False,
            stage_failed="header",
            failure=failure,
            snr_db=np.nan,
            evm_db=np.nan,
            noise_variance=np.nan,
            doppler_hz=None,
            preamble_snr_db=None
            if detection.anticipated
            else _snr_db(detection.similarity, config.waveform.samples_per_symbol),
            anticipated=detection.anticipated,
            samples=SampleStatistics.of(samples, config.full_scale) if samples.size else None,
        )
        if reception is None:
            return common
        channel, spread = reception.channel, reception.delay_spread
        return replace(
            common,
            snr_db=channel.snr_db,
            evm_db=float(20 * np.log10(channel.evm)),
            noise_variance=channel.noise_variance,
            doppler_hz=_times(channel.doppler, config.symbol_rate_hz),
            cfo_hz=_times(reception.carrier, self._sample_rate),
            clock_ppm=_times(reception.clock, 1e6),
            delay_spread_s=_times(spread, 1 / config.symbol_rate_hz),
            burst=reception.burst,
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


def _snr_db(similarity: float, samples_per_symbol: int) -> float:
    """Es/N0 from the share of the signal in the energy of samples with white noise."""
    ratio = similarity / max(1 - similarity, 1e-6)
    return float(10 * np.log10(max(samples_per_symbol * ratio, 1e-30)))


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor
