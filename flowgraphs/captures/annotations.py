"""Annotations: what the receiver found in a recording, frame by frame and message by message.

They gather in a journal, a file with one JSON object a line, in the order in which they become
known: a message is known at its end, long after its first sample. SigMF wants them in the order of
their first samples, and there may be more of them than memory holds: so 16 bytes of each are kept,
its first sample and its place in the journal.
"""

from __future__ import annotations

import json
import math
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import Any, BinaryIO

import numpy as np
import sigmf

from flowgraphs.captures.json_stream import LONGEST_VALUE
from flowgraphs.captures.metadata import NAMESPACE
from flowgraphs.captures.sample_type import CaptureError
from flowgraphs.frame_log import LoggedFrame
from flowgraphs.receive import Heard
from phy import MessageReceived
from phy.message import message_digest

KIND = f"{NAMESPACE}:kind"
FRAME, MESSAGE = "frame", "message"
Annotation = Mapping[str, Any]


def annotation_of(heard: Heard, generator: str) -> dict[str, Any]:
    """The annotation of a frame or message.

    Args:
        heard: the frame or message.
        generator: name of the program.
    """
    if isinstance(heard, MessageReceived):
        return _message(heard, generator)
    return _frame(heard, generator)


def _frame(frame: LoggedFrame, generator: str) -> dict[str, Any]:
    report = frame.report
    values = frame.to_json()
    start, end = report.sample_index, report.end_sample
    for name in ("sample_index", "end_sample"):  # SigMF has keys of its own for these
        del values[name]
    header = report.header
    if header is not None:
        values["mcs"] = header.mcs.name
    annotation = {
        sigmf.SAMPLE_START_KEY: start,
        sigmf.SAMPLE_COUNT_KEY: max(0, end - start),
        sigmf.LABEL_KEY: (
            "no header" if header is None else f"{header.mcs.name} #{header.message_id}"
        ),
        sigmf.GENERATOR_KEY: generator,
        KIND: FRAME,
    }
    if report.failure:
        annotation[sigmf.COMMENT_KEY] = report.failure
    return annotation | _own(values)


def _message(message: MessageReceived, generator: str) -> dict[str, Any]:
    values = asdict(message)
    for name in ("first_sample", "end_sample", "data", "missing_blocks"):
        del values[name]
    values["block_errors"] = message.block_errors
    values["exact"] = message.data is not None
    values["digest"] = None if message.data is None else message_digest(message.data).hex()
    return {
        sigmf.SAMPLE_START_KEY: message.first_sample,
        sigmf.SAMPLE_COUNT_KEY: message.end_sample - message.first_sample,
        sigmf.LABEL_KEY: f"message #{message.message_id}",
        sigmf.GENERATOR_KEY: generator,
        KIND: MESSAGE,
    } | _own(values)


def _own(values: Mapping[str, object]) -> dict[str, Any]:
    """Values under our namespace, without those that are not known."""
    return {
        f"{NAMESPACE}:{name}": value
        for name, value in values.items()
        if value is not None and not (isinstance(value, float) and not math.isfinite(value))
    }


def line_of(annotation: Annotation) -> bytes:
    """An annotation as a line of strict JSON, without its end."""
    return json.dumps(annotation, allow_nan=False, separators=(",", ":")).encode()


class Journal:
    """Annotations in a file, to be read in the order of their first samples."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin a journal, or take up one that was left.

        Args:
            file: readable and writable; of what is in it, lines that are no annotations are left
                out: a crash may leave such a one.
        """
        self._file = file
        self._starts, self._places = array("q"), array("q")
        self._end = 0
        file.seek(0)
        while line := file.readline(LONGEST_VALUE):
            try:
                annotation = json.loads(line)
                if KIND in annotation:
                    self._enter(annotation[sigmf.SAMPLE_START_KEY])
            except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
                pass
            self._end += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    def append(self, annotation: Annotation) -> None:
        """Write an annotation down; once this returns it outlives the process."""
        line = line_of(annotation) + b"\n"
        self._file.seek(self._end)
        self._file.write(line)
        self._file.flush()
        self._enter(annotation[sigmf.SAMPLE_START_KEY])
        self._end += len(line)

    def lines(self) -> Iterator[bytes]:
        """All annotations as JSON, by their first samples."""
        for index in np.argsort(np.array(self._starts, dtype=np.int64), kind="stable"):
            self._file.seek(self._places[index])
            yield self._file.readline(LONGEST_VALUE).rstrip(b"\n")

    def annotations(self) -> Iterator[Annotation]:
        """All annotations, by their first samples.

        Raises:
            CaptureError: the file has changed.
        """
        for line in self.lines():
            try:
                yield json.loads(line)
            except ValueError as error:
                raise CaptureError(f"the journal has changed: {error}") from error

    def _enter(self, start: int) -> None:
        self._starts.append(start)
        self._places.append(self._end)
