"""Writes recordings: samples in a front end's own type, and all that is known of them.

The data are hashed while they are written. Metadata lie beside them from the beginning, without
hash and annotations; the complete ones take their place when the recording is closed. So a program
that is killed leaves a recording that can be read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import sigmf

from flowgraphs.captures.annotations import Annotation, Journal, line_of
from flowgraphs.captures.metadata import (
    MOST_SEGMENTS,
    NAMESPACE,
    NAMESPACE_VERSION,
    check_schema,
)
from flowgraphs.captures.paths import RecordingPaths
from flowgraphs.captures.sample_type import CaptureError, SampleType
from flowgraphs.stream import ComplexArray, SampleSink
from hw_profiles.profile import SampleFormat
from hw_profiles.sample_format import NativeFormat

PROGRAM = f"ddm-sscc {version('ddm-sscc')}"
Clock = Callable[[], datetime]


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True)
class RecordingConfig:
    """How samples are written, and what is known of them.

    Attributes:
        native: their type in the file.
        amplitude: of I or Q that is full scale of that type.
        sample_rate: samples a second, if it is known.
        frequency_hz: centre frequency, if it is known.
        hardware: that records, in words.
        profile: name of its hardware profile.
        description: of the recording, in words.
        waveform: that a receiver listens to beside the recording; None if there is no receiver.
        symbol_rate: at which it does.
    """

    native: NativeFormat = field(default_factory=lambda: NativeFormat(SampleFormat.CF32, 1.0))
    amplitude: float = 1.0
    sample_rate: float | None = None
    frequency_hz: float | None = None
    hardware: str | None = None
    profile: str | None = None
    description: str | None = None
    waveform: str | None = None
    symbol_rate: float | None = None

    def __post_init__(self) -> None:
        for name, value in (
            ("full scale", self.amplitude),
            ("sample rate", self.sample_rate),
        ):
            if value is not None and not 1e-9 <= value <= 1e12:
                raise ValueError(f"the {name} must be positive, not {value:g}")
        if self.frequency_hz is not None and not abs(self.frequency_hz) <= 1e12:
            raise ValueError(f"a frequency of {self.frequency_hz:g} Hz is out of range")

    @property
    def sample_type(self) -> SampleType:
        """Type and scale of the samples in the file."""
        return SampleType.of(self.native, self.amplitude)


class RecordingWriter:
    """A recording under way.

    Attributes:
        paths: of its files.
        samples: written.
        clipped_samples: of them beyond full scale.
        gaps: places at which samples were lost before they came here, as :meth:`skip` was told.
        samples_missing: samples lost there.
        failure: why no more can be written, or None.
    """

    def __init__(self, name: Path, config: RecordingConfig, clock: Clock = _now) -> None:
        """Begin a recording.

        Args:
            name: path with or without the ending.
            config: of the samples.
            clock: tells the time of the first sample.

        Raises:
            CaptureError: there is a recording of this name.
            OSError: a file cannot be written.
        """
        self.paths = RecordingPaths.of(name)
        self.samples = self.clipped_samples = self.samples_missing = self.gaps = 0
        self.failure: OSError | None = None
        self._config, self._clock = config, clock
        self._type = config.sample_type
        self._segments: list[dict[str, Any]] = []
        self._hash = hashlib.sha512()
        name.parent.mkdir(parents=True, exist_ok=True)
        if self.paths.meta.exists():
            raise CaptureError(f"{self.paths.meta}: exists; remove it, or choose another name")
        try:
            self._data = self.paths.data.open("xb", buffering=0)
        except FileExistsError as error:
            raise CaptureError(
                f"{self.paths.data}: exists; remove it, or choose another name"
            ) from error
        self._journal_file = self.paths.journal.open("w+b")
        self._journal = Journal(self._journal_file)
        self._begin_segment(0)

    def write(self, samples: ComplexArray) -> ComplexArray:
        """Write samples.

        Returns:
            (n,) complex64, the samples as they are in the file: what a receiver is to hear whose
            work the recording is to reproduce. After a failure they are fewer.
        """
        if self.samples == 0 and samples.size:
            self._begin_segment(self.samples_missing)  # now, not when the file was opened
        scale = np.float32(self._config.amplitude)
        native, clipped = self._config.native.encode(samples if scale == 1 else samples / scale)
        data = native.tobytes()
        self.clipped_samples += clipped
        done = 0
        try:
            while done < len(data):
                done += self._data.write(memoryview(data)[done:])
        except OSError as error:
            self.failure = error
        data = data[:done]
        self._hash.update(data)
        heard = self._type.decode(data[: done - done % self._type.sample_bytes])
        self.samples += heard.size
        return heard

    def skip(self, count: int) -> None:
        """Note that samples are missing before the next ones."""
        self.samples_missing += count
        self.gaps += 1
        if len(self._segments) < MOST_SEGMENTS:
            self._begin_segment(self.samples + self.samples_missing)

    @property
    def annotations(self) -> int:
        """Annotations so far."""
        return len(self._journal)

    @property
    def sha512(self) -> str:
        """Of the data so far, in hexadecimal digits."""
        return self._hash.hexdigest()

    def annotate(self, annotation: Annotation) -> None:
        """Add an annotation."""
        self._journal.append(annotation)

    def close(self) -> None:
        """Complete the metadata.

        Raises:
            OSError: they cannot be written; the files stay as a crash would leave them.
        """
        if self._data.closed:
            return
        self._data.close()
        with self._journal_file:
            self._write_metadata(complete=True)
        self.paths.journal.unlink()

    def _begin_segment(self, global_index: int) -> None:
        segment: dict[str, Any] = {sigmf.SAMPLE_START_KEY: self.samples}
        if global_index != self.samples:
            segment[sigmf.GLOBAL_INDEX_KEY] = global_index
        if self._config.frequency_hz is not None:
            segment[sigmf.FREQUENCY_KEY] = self._config.frequency_hz
        segment[sigmf.DATETIME_KEY] = self._clock().strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        if self._segments and self._segments[-1][sigmf.SAMPLE_START_KEY] == self.samples:
            self._segments[-1] = segment
        else:
            self._segments.append(segment)
        if self.samples == 0:
            self._write_metadata(complete=False)

    def _write_metadata(self, complete: bool) -> None:
        """Put a new file in the place of the one that is there, if any."""
        values = self._global(complete)
        check_schema({"global": values, "captures": self._segments, "annotations": []})
        part = self.paths.meta.with_name(self.paths.meta.name + ".part")
        with part.open("wb") as file:
            file.write(b'{"global": ' + line_of(values))
            file.write(b',\n"captures": [\n' + b",\n".join(map(line_of, self._segments)))
            file.write(b'\n],\n"annotations": [')
            separator = b"\n"
            for line in self._journal.lines() if complete else ():
                file.write(separator + line)
                separator = b",\n"
            file.write(b"\n]}\n")
        os.replace(part, self.paths.meta)

    def _global(self, complete: bool) -> dict[str, Any]:
        config = self._config
        values = {
            sigmf.VERSION_KEY: sigmf.__specification__,
            sigmf.DATATYPE_KEY: self._type.name,
            sigmf.SAMPLE_RATE_KEY: config.sample_rate,
            sigmf.HW_KEY: config.hardware,
            sigmf.DESCRIPTION_KEY: config.description,
            sigmf.RECORDER_KEY: PROGRAM,
            sigmf.NUM_CHANNELS_KEY: 1,
            sigmf.SHA512_KEY: self.sha512 if complete else None,
            sigmf.EXTENSIONS_KEY: [
                {"name": NAMESPACE, "version": NAMESPACE_VERSION, "optional": True}
            ],
        }
        own = {
            "zero": self._type.zero,
            "full_scale": self._type.full_scale,
            "amplitude": self._type.amplitude,
            "profile": config.profile,
            "waveform": config.waveform,
            "symbol_rate": config.symbol_rate,
            "complete": complete,
        }
        if complete:
            own |= {
                "samples": self.samples,
                "clipped_samples": self.clipped_samples,
                "gaps": self.gaps,
                "samples_missing": self.samples_missing,
            }
        values |= {f"{NAMESPACE}:{name}": value for name, value in own.items()}
        return {name: value for name, value in values.items() if value is not None}


class RecordingSink(SampleSink):
    """A recording without annotations as a sink of samples."""

    def __init__(self, name: Path, config: RecordingConfig) -> None:
        """Begin a recording; see :class:`RecordingWriter`."""
        super().__init__(f"sigmf:{name}")
        self._writer = RecordingWriter(name, config)

    def write(self, samples: ComplexArray, timeout_s: float) -> int:
        """See :meth:`flowgraphs.stream.SampleSink.write`; a file takes all at once."""
        del timeout_s
        taken = self._writer.write(samples).size
        self.status.samples += taken
        self.status.samples_clipped = self._writer.clipped_samples
        if self._writer.failure is not None:
            raise CaptureError(f"{self.address}: {self._writer.failure.strerror}")
        return taken

    def close(self) -> None:
        """Complete the metadata, and close the files."""
        self._writer.close()
