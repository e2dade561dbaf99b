"""Records a source of samples, with a receiver beside it that annotates what it finds.

The receiver hears the samples as they are in the file, rounded and clipped where the file's type
does that: so a replay of the file is the same reception, bit for bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from flowgraphs.captures.annotations import annotation_of
from flowgraphs.captures.writer import PROGRAM, RecordingWriter
from flowgraphs.receive import ReceiveConfig, ReceivedImage, ReceiveReport, receive
from flowgraphs.stream import ComplexArray, SampleSource, Stop, samples_of


class RecordedSource(SampleSource):
    """Gives the samples of a source, once they are recorded."""

    def __init__(
        self, source: SampleSource, writer: RecordingWriter, most: int | None = None
    ) -> None:
        """Join a source and a recording.

        Args:
            source: where samples come from.
            writer: the recording.
            most: samples after which to end; None for no such end.
        """
        super().__init__(source.address, source.timeout_s)
        self.status = source.status
        self._source, self._writer = source, writer
        self._left = most
        self._missing = 0

    @property
    def backlog(self) -> int:  # type: ignore[override]
        """See :attr:`flowgraphs.stream.SampleSource.backlog`."""
        return self._source.backlog

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`; ends where no more can be written."""
        if self._writer.failure is not None or self._left == 0:
            return None
        samples = self._source.read(timeout_s)
        if samples is None or not samples.size:
            return samples
        missing = self.status.samples_missing - self._missing
        if missing > 0:
            self._missing += missing
            self._writer.skip(missing)
        if self._left is not None:
            samples = samples[: self._left]
            self._left -= samples.size
        return self._writer.write(samples)

    def close(self) -> None:
        """Close the source."""
        self._source.close()


@dataclass
class CaptureReport:
    """What was recorded so far.

    Attributes:
        samples: samples written.
        clipped_samples: of them beyond full scale of the file's type.
        gaps: places at which samples were lost before they came here.
        samples_missing: samples lost there.
        annotations: frames and messages noted.
        reception: what the receiver heard; None if there is none.
        failure: why the recording ended early, or None.
    """

    samples: int = 0
    clipped_samples: int = 0
    gaps: int = 0
    samples_missing: int = 0
    annotations: int = 0
    reception: ReceiveReport | None = None
    failure: str | None = None


Observer = Callable[[CaptureReport, ReceivedImage | None], None]


def capture(
    source: SampleSource,
    writer: RecordingWriter,
    config: ReceiveConfig | None,
    stop: Stop,
    most: int | None = None,
    observe: Observer = lambda report, image: None,
) -> CaptureReport:
    """Records until the source ends, there is enough, or `stop` says so; completes the metadata.

    Args:
        source: where samples come from.
        writer: the recording.
        config: of the receiver beside; None for none.
        stop: asked between waits.
        most: samples after which to end; None for no such end.
        observe: called with the report after every portion of samples, and with every message.
    """
    report = CaptureReport()
    recorded = RecordedSource(source, writer, most)

    def look(reception: ReceiveReport | None, image: ReceivedImage | None) -> None:
        report.samples, report.clipped_samples = writer.samples, writer.clipped_samples
        report.gaps, report.samples_missing = writer.gaps, writer.samples_missing
        report.annotations, report.reception = writer.annotations, reception
        observe(report, image)

    try:
        if config is None:
            for _ in samples_of(recorded, stop):
                look(None, None)
        else:
            reception = receive(
                recorded,
                config,
                None,
                lambda _: "",  # without a codec there are no pictures
                stop,
                look,
                lambda heard: writer.annotate(annotation_of(heard, PROGRAM)),
            )
            look(reception, None)
        writer.close()
    except OSError as error:  # of the journal or the metadata
        writer.failure = error
    if writer.failure is not None:
        report.failure = f"{writer.paths.meta}: {writer.failure.strerror}"
    return report
