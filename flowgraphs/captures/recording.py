"""Reads recordings: of SigMF, of this program or others, in archives, or raw.

Nothing is unpacked or held: samples are read where they lie, in portions.
"""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

from sigmf.keys import (
    SIGMF_ARCHIVE_EXT,
    SIGMF_COMPRESSED_EXTS,
    SIGMF_DATASET_EXT,
    SIGMF_METADATA_EXT,
)

from flowgraphs.captures.annotations import Annotation, Journal
from flowgraphs.captures.metadata import (
    Metadata,
    Segment,
    lost_between,
    read_annotations,
    read_metadata,
)
from flowgraphs.captures.paths import RecordingPaths
from flowgraphs.captures.sample_type import CaptureError
from flowgraphs.stream import ComplexArray, SampleSource

_HASHED_BYTES = 2**20  # at a time
_READ_SAMPLES = 2**16
_MOST_MEMBERS = 1000  # of an archive
_LARGEST_HEADER = 2**20  # of an archive's member


@dataclass(frozen=True)
class Place:
    """Where in a file something lies.

    Attributes:
        path: the file.
        start: its first byte there.
        size: its bytes.
    """

    path: Path
    start: int
    size: int

    def open(self) -> BinaryIO:
        """The file, at the first byte."""
        file = self.path.open("rb")
        file.seek(self.start)
        return file


class Stretch(NamedTuple):
    """Samples that lie side by side.

    Attributes:
        place: of the first byte in the data.
        size: bytes.
        missing: samples that were lost before them.
    """

    place: int
    size: int
    missing: int


@dataclass(frozen=True)
class Recording:
    """A recording on disk.

    Attributes:
        name: for messages.
        metadata: of it.
        data: where its data lie.
        meta: where its metadata lie; None of a raw file.
        journal: of a recording that was cut off, if there is one.
    """

    name: str
    metadata: Metadata
    data: Place
    meta: Place | None = None
    journal: Path | None = None

    @property
    def sample_bytes(self) -> int:
        """Bytes of a sample of all channels."""
        return self.metadata.sample_type.sample_bytes * self.metadata.channels

    @property
    def samples(self) -> int:
        """Samples of each channel."""
        return sum(stretch.size for stretch in self.stretches()) // self.sample_bytes

    def stretches(self) -> list[Stretch]:
        """Where the samples lie, without headers and trailer; one or more for each segment."""
        metadata = self.metadata
        end = self.data.size - metadata.trailing_bytes
        found = []
        place, start, missing = 0, metadata.offset, 0
        before: Segment | None = None
        for segment in metadata.segments:
            size = (segment.sample_start - start) * self.sample_bytes
            if size:
                found.append(Stretch(place, min(size, end - place), missing))
                missing = 0
            if before is not None:
                missing += max(0, lost_between(before, segment))
            place += size + segment.header_bytes
            start, before = segment.sample_start, segment
        found.append(Stretch(place, end - place, missing))
        return [stretch for stretch in found if stretch.size > 0]

    def digest(self, progress: Callable[[float], None] = lambda share: None) -> str:
        """SHA-512 of the data, in hexadecimal digits."""
        sha512 = hashlib.sha512()
        left = self.data.size
        with self.data.open() as file:
            while left and (part := file.read(min(left, _HASHED_BYTES))):
                sha512.update(part)
                left -= len(part)
                progress(1 - left / self.data.size)
        return sha512.hexdigest()

    def annotations(self) -> Iterator[Annotation]:
        """The annotations that this program made, by their first samples.

        Raises:
            CaptureError: they cannot be read.
        """
        if self.journal is not None:
            with self.journal.open("rb") as file:
                yield from Journal(file).annotations()
        elif self.meta is not None:
            with self.meta.open() as file:
                yield from read_annotations(_Part(file, self.meta))

    def remarks(self) -> list[str]:
        """What a reader should know of the recording that is unusual."""
        metadata, found = self.metadata, []
        if not metadata.complete:
            found.append("the recording was cut off, so there is no hash to check")
        elif self.meta is not None and metadata.sha512 is None:
            found.append("there is no hash to check")
        if metadata.sample_type.real:
            found.append("the samples are real; Q counts as 0")
        if metadata.samples_missing:
            count = len(metadata.segments) - 1
            found.append(
                f"{metadata.samples_missing:,} samples are missing at {count} places; what is "
                "there is joined"
            )
        if len({segment.frequency_hz for segment in metadata.segments}) > 1:
            found.append("the segments differ in frequency; they are joined all the same")
        if self.samples < metadata.segments[-1].sample_start - metadata.offset:
            found.append("the data end before the last segment")
        return found


def open_recording(path: Path) -> Recording:
    """A recording of SigMF: the name of its metadata, its data or both, or an archive.

    Raises:
        CaptureError: it cannot be understood.
        OSError: a file cannot be read.
    """
    try:
        if path.name.endswith(SIGMF_ARCHIVE_EXT):
            return _archived(path)
        if path.name.endswith(tuple(SIGMF_COMPRESSED_EXTS.values())):
            raise CaptureError("compressed archives are not read in place; unpack it first")
        paths = RecordingPaths.of(path)
        if not paths.meta.exists():
            raise CaptureError(f"there is no {paths.meta.name}; a raw file needs its type and rate")
        meta = _whole(paths.meta)
        with meta.open() as file:
            metadata = read_metadata(file)
        data = paths.data if metadata.dataset is None else path.with_name(metadata.dataset)
        if not data.is_file():
            raise CaptureError(f"there is no {data.name} beside the metadata")
        cut = not metadata.complete and paths.journal.is_file()
        return _checked(
            Recording(str(path), metadata, _whole(data), meta, paths.journal if cut else None)
        )
    except CaptureError as error:
        raise CaptureError(f"{path}: {error}") from error


def open_raw(path: Path, metadata: Metadata) -> Recording:
    """A file of samples and nothing else.

    Args:
        path: of the file.
        metadata: what is known of it.

    Raises:
        OSError: it cannot be read.
    """
    return Recording(str(path), metadata, _whole(path))


def _whole(path: Path) -> Place:
    return Place(path, 0, path.stat().st_size)


def _checked(recording: Recording) -> Recording:
    """A recording whose numbers fit its data."""
    metadata, size = recording.metadata, recording.data.size
    skipped = metadata.trailing_bytes + sum(part.header_bytes for part in metadata.segments)
    if skipped > size:
        raise CaptureError(f"the data have {size} bytes, of which {skipped} are to be skipped")
    if recording.sample_bytes > _LARGEST_HEADER:
        raise CaptureError(f"{metadata.channels} channels are too many")
    return recording


def _archived(path: Path) -> Recording:
    """A recording in an archive that is not compressed."""
    places: dict[str, Place] = {}
    try:
        with _Bounded(path) as bounded, tarfile.open(fileobj=bounded, mode="r:") as archive:
            for number, member in enumerate(archive):
                if number == _MOST_MEMBERS:
                    raise CaptureError(f"the archive has more than {_MOST_MEMBERS} members")
                if not member.isreg() or member.issparse():
                    continue
                suffix = Path(member.name).suffix
                if suffix in places:
                    raise CaptureError("the archive holds several recordings; unpack it first")
                if suffix in (SIGMF_METADATA_EXT, SIGMF_DATASET_EXT):
                    places[suffix] = Place(path, member.offset_data, member.size)
    except (tarfile.TarError, ValueError, OverflowError) as error:
        raise CaptureError(f"no archive: {error}") from error
    if len(places) < 2:
        raise CaptureError("the archive lacks metadata or data")
    meta, data = places[SIGMF_METADATA_EXT], places[SIGMF_DATASET_EXT]
    if max(part.start + part.size for part in (meta, data)) > path.stat().st_size:
        raise CaptureError("the archive is cut off")
    with meta.open() as file:
        metadata = read_metadata(_Part(file, meta))
    return _checked(Recording(str(path), metadata, data, meta))


class _Bounded(io.FileIO):
    """A file of which no more is read at once than headers have, and nothing behind its end."""

    def read(self, size: int | None = -1, /) -> bytes:
        if size is None or not 0 <= size <= _LARGEST_HEADER:
            raise CaptureError("the archive has an enormous header")
        return super().read(size)

    def seek(self, place: int, whence: int = os.SEEK_SET, /) -> int:
        if whence == os.SEEK_SET and place > os.fstat(self.fileno()).st_size:
            raise CaptureError("the archive is cut off")
        return super().seek(place, whence)


class _Part:
    """A file that ends where a part of it does."""

    def __init__(self, file: BinaryIO, place: Place) -> None:
        self._file, self._left = file, place.size

    def read(self, size: int, /) -> bytes:
        """At most `size` bytes."""
        data = self._file.read(min(size, self._left))
        self._left -= len(data)
        return data


class RecordingSource(SampleSource):
    """Gives the samples of a recording from its beginning to its end."""

    def __init__(self, recording: Recording, channel: int = 0) -> None:
        """Open the data.

        Args:
            recording: the recording.
            channel: which of its channels.

        Raises:
            CaptureError: there is no such channel.
            OSError: the data cannot be read.
        """
        super().__init__(f"sigmf:{recording.name}")
        channels = recording.metadata.channels
        if not 0 <= channel < channels:
            raise CaptureError(
                f"{recording.name}: there is no channel {channel}, the last is {channels - 1}"
            )
        self._recording, self._channel = recording, channel
        self._stretches = recording.stretches()
        self._file = recording.data.open()
        self._place, self._left = 0, 0
        self._read_bytes = max(1, _READ_SAMPLES // channels) * recording.sample_bytes

    @property
    def metadata(self) -> Metadata:
        """Of the recording."""
        return self._recording.metadata

    def read(self, timeout_s: float) -> ComplexArray | None:
        """See :meth:`flowgraphs.stream.SampleSource.read`."""
        del timeout_s
        size = self._recording.sample_bytes
        while self._left < size:
            self.status.bytes_discarded += self._left
            if not self._stretches:
                self._left = 0
                return None
            place, self._left, missing = self._stretches.pop(0)
            self._file.seek(self._recording.data.start + place)
            self.status.gaps += missing > 0
            self.status.samples_missing += missing
        data = self._file.read(min(self._read_bytes, self._left - self._left % size))
        if len(data) < size:  # the file has become shorter
            self._stretches.clear()
            self._left = 0
            self.status.bytes_discarded += len(data)
            return None
        data = data[: len(data) - len(data) % size]
        self._left -= len(data)
        metadata = self._recording.metadata
        samples = metadata.sample_type.decode(data, self._channel, metadata.channels)
        self.status.samples += samples.size
        return samples

    def close(self) -> None:
        """Close the file."""
        self._file.close()
