"""The log of received frames: reports that are passed on once their payload's fate is known.

A frame is reported when it has been demodulated, and its transport block is decided later.
:func:`phy.frame_report.complete_reports` joins both; here it is applied to a stream without end, so
that what is held is bounded. What comes out depends on the events alone, not on how the samples
were cut into chunks.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from phy import BlockReceived, Event, FrameReport, MessageReceived, complete_reports
from phy.frame import FrameHeader
from phy.message import FeedbackDue, message_digest

FRAMES_LOGGED = 10_000
"""Frames kept in the log, the latest ones: a receiver runs for hours."""
_MOST_WAITING = 4096  # frames whose payload is not decided


@dataclass(frozen=True)
class LoggedFrame:
    """A frame, and what became of it.

    Attributes:
        report: completed.
        block_digest: 8 bytes of BLAKE2b over its transport block's share of the message; None if
            that was not decoded.
    """

    report: FrameReport
    block_digest: bytes | None

    def to_json(self) -> dict[str, object]:
        """All figures by name."""
        digest = None if self.block_digest is None else self.block_digest.hex()
        return self.report.to_json() | {"block_digest": digest}


class FrameLog:
    """Completes the reports of a reception, and keeps the latest.

    A frame waits for its block, and in any case for the frame behind it, which may overlap it. In a
    message with acknowledgement a block that was tried in vain may come again, so its frames wait
    for the end of the message.

    Attributes:
        entries: the log.
        omitted: earlier frames that it has no more.
    """

    def __init__(self, length: int = FRAMES_LOGGED) -> None:
        """Keep so many frames."""
        self.entries: deque[LoggedFrame] = deque(maxlen=length)
        self.omitted = 0
        self._frames: list[FrameReport] = []
        self._blocks: list[BlockReceived] = []
        self._undecided: dict[int, FrameHeader] = {}  # by sample index
        self._furthest: FrameReport | None = None  # of the frames before, the one that ends last

    def add(self, event: Event) -> list[LoggedFrame]:
        """Take in an event of the receiver.

        Returns:
            The frames that are complete with it, in the order of the stream.
        """
        match event:
            case FrameReport():
                self._frames.append(event)
                if event.payload_used and event.header is not None:
                    self._undecided[event.sample_index] = event.header
            case BlockReceived():
                self._blocks.append(event)
                for index in event.frame_samples:
                    header = self._undecided.get(index)
                    if header is not None and (event.data is not None or not header.round):
                        del self._undecided[index]
            case MessageReceived():
                self._decide(event.message_id, event.end_sample)
            case FeedbackDue() if not event.acknowledgement.missing_blocks:
                self._decide(event.acknowledgement.message_id, event.sample)
        return self._pass_on(len(self._frames) - 1)

    def flush(self) -> list[LoggedFrame]:
        """The frames that still wait: the stream is over."""
        self._undecided.clear()
        return self._pass_on(len(self._frames))

    def _decide(self, message_id: int, end: int) -> None:
        """The frames of a message have no more to wait for, up to its end."""
        self._undecided = {
            index: header
            for index, header in self._undecided.items()
            if header.message_id != message_id or index >= end
        }

    def _pass_on(self, most: int) -> list[LoggedFrame]:
        """Pass on frames from the front until one is undecided, `most` at most."""
        count = 0
        while count < most and (
            self._frames[count].sample_index not in self._undecided
            or len(self._frames) - count > _MOST_WAITING
        ):
            count += 1
        if count <= 0:
            return []
        before = [] if self._furthest is None else [self._furthest]
        reports = complete_reports([*before, *self._frames, *self._blocks])[len(before) :][:count]
        digests = {
            index: message_digest(block.data)
            for block in self._blocks
            if block.data is not None
            for index in block.frame_samples
        }
        for report in reports:
            self._undecided.pop(report.sample_index, None)
            if report.detected and (
                self._furthest is None or report.end_sample > self._furthest.end_sample
            ):
                self._furthest = report
        del self._frames[:count]
        waiting = {frame.sample_index for frame in self._frames}
        self._blocks = [b for b in self._blocks if not waiting.isdisjoint(b.frame_samples)]
        complete = [LoggedFrame(report, digests.get(report.sample_index)) for report in reports]
        self.omitted += max(0, len(self.entries) + count - (self.entries.maxlen or 0))
        self.entries.extend(complete)
        return complete
