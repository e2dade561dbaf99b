"""What the metadata of a recording say, checked: by SigMF's own schema, and for sense.

The metadata may come from anywhere: whatever is in them ends in a :class:`Metadata` or in a
:class:`CaptureError`, in bounded time and memory. Annotations are not looked at here.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import sigmf
from jsonschema import Draft202012Validator
from jsonschema.exceptions import best_match
from sigmf.schema import get_schema

from flowgraphs.captures.json_stream import JsonError, Readable, members
from flowgraphs.captures.sample_type import CaptureError, SampleType
from flowgraphs.link import WAVEFORMS

NAMESPACE = "sscc"
NAMESPACE_VERSION = "1.0.0"
MOST_SEGMENTS = 4096
"""Capture segments of a recording."""
_LONGEST_NAME = 255  # bytes of a file's name
_SECTIONS = ("global", "captures")
_ANNOTATIONS = "annotations"


@dataclass(frozen=True)
class Segment:
    """A stretch of samples without interruption.

    Attributes:
        sample_start: its first sample in the recording.
        global_index: the index of that sample where it was made; more than follows from the segment
            before if samples were lost between.
        header_bytes: bytes in the file before it that are no samples.
        frequency_hz: centre frequency, if it is known.
        datetime: UTC of its first sample in ISO 8601, if it is known.
    """

    sample_start: int
    global_index: int
    header_bytes: int = 0
    frequency_hz: float | None = None
    datetime: str | None = None


@dataclass(frozen=True)
class Metadata:
    """The metadata of a recording.

    Attributes:
        sample_type: of the samples.
        sample_rate: samples a second, if it is known.
        sha512: of the data, in hexadecimal digits, if it is known.
        channels: that take turns in the data.
        offset: the number of the first sample; those of segments and annotations count from there.
        trailing_bytes: at the end of the data that are no samples.
        dataset: name of the file with the data, if it is not called like the metadata.
        segments: in the order of the samples; at least one.
        hardware: that recorded it, in words.
        waveform: that the receiver beside the recording listened to, if there was one.
        symbol_rate: at which it did.
        complete: false in a recording of ours that was cut off.
    """

    sample_type: SampleType
    sample_rate: float | None = None
    sha512: str | None = None
    channels: int = 1
    offset: int = 0
    trailing_bytes: int = 0
    dataset: str | None = None
    segments: tuple[Segment, ...] = (Segment(0, 0),)
    hardware: str | None = None
    waveform: str | None = None
    symbol_rate: float | None = None
    complete: bool = True

    @property
    def samples_missing(self) -> int:
        """Samples lost between the segments."""
        pairs = zip(self.segments, self.segments[1:], strict=False)
        return sum(max(0, lost_between(before, after)) for before, after in pairs)


def lost_between(before: Segment, after: Segment) -> int:
    """Samples lost between two neighbouring segments; negative where the count began anew."""
    return (after.global_index - before.global_index) - (after.sample_start - before.sample_start)


def read_metadata(file: Readable) -> Metadata:
    """The metadata in a file, which is read in portions, and no further than to its annotations.

    Raises:
        CaptureError: not SigMF metadata, metadata that contradict themselves, or what this program
            does not understand.
    """
    sections: dict[str, Any] = {}
    try:
        for name, value in members(file, _ANNOTATIONS):
            if name == _ANNOTATIONS:
                if len(sections) == len(_SECTIONS):
                    break
            elif name in _SECTIONS:
                sections[name] = value
            else:
                raise CaptureError(f"no SigMF metadata: there is a section {name[:40]!r}")
    except JsonError as error:
        raise CaptureError(f"no SigMF metadata: {error}") from error
    sections = {"captures": [], _ANNOTATIONS: []} | sections
    if isinstance(sections["captures"], list) and len(sections["captures"]) > MOST_SEGMENTS:
        raise CaptureError(f"more than {MOST_SEGMENTS} capture segments")
    check_schema(sections)
    return _checked(sections["global"], sections["captures"])


def check_schema(metadata: Mapping[str, Any]) -> None:
    """Checks metadata against the schema of the SigMF project.

    Raises:
        CaptureError: names the place and the mistake.
    """
    try:
        error = best_match(_schema().iter_errors(metadata))
    except RecursionError as deep:
        raise CaptureError("no SigMF metadata: nested too deeply") from deep
    if error is not None:
        place = ".".join(str(part) for part in error.absolute_path) or "the object"
        raise CaptureError(f"no SigMF metadata: {place}: {error.message[:200]}")


@cache
def _schema() -> Draft202012Validator:
    return Draft202012Validator(get_schema())


def read_annotations(file: Readable) -> Iterator[Mapping[str, Any]]:
    """The annotations of our own in a file's metadata, one by one.

    Raises:
        CaptureError: not JSON, or an annotation without its first sample.
    """
    try:
        for name, value in members(file, _ANNOTATIONS):
            if name != _ANNOTATIONS or not isinstance(value, dict):
                continue
            if f"{NAMESPACE}:kind" in value:
                if type(value.get(sigmf.SAMPLE_START_KEY)) is not int:
                    raise CaptureError("an annotation has no first sample")
                yield value
    except JsonError as error:
        raise CaptureError(f"no SigMF metadata: {error}") from error


def _checked(values: Mapping[str, Any], captures: list[Mapping[str, Any]]) -> Metadata:
    """Metadata that fit the schema, as far as they make sense."""
    for extension in values.get(sigmf.EXTENSIONS_KEY, ()):
        if not extension["optional"] and extension["name"].split(".")[0] != NAMESPACE:
            raise CaptureError(f"needs the extension {extension['name'][:40]!r}, which is unknown")
    if values.get(sigmf.METADATA_ONLY_KEY) and sigmf.DATASET_KEY not in values:
        raise CaptureError("the metadata come without data (core:metadata_only)")
    dataset = values.get(sigmf.DATASET_KEY)
    if dataset is not None and (
        dataset in (".", "..")
        or set(dataset) & set('/\\:*?"<>|\0')
        or len(dataset.encode(errors="surrogatepass")) > _LONGEST_NAME
    ):
        raise CaptureError(f"core:dataset {dataset[:40]!r} is no plain file name")
    offset = values.get(sigmf.OFFSET_KEY, 0)
    own = _own_values(values)
    plain = SampleType.named(values[sigmf.DATATYPE_KEY])
    return Metadata(
        sample_type=replace(
            plain,
            zero=own.get("zero", plain.zero),
            full_scale=own.get("full_scale", plain.full_scale),
            amplitude=own.get("amplitude", plain.amplitude),
        ),
        sample_rate=values.get(sigmf.SAMPLE_RATE_KEY),
        sha512=values.get(sigmf.SHA512_KEY, "").lower() or None,
        channels=values.get(sigmf.NUM_CHANNELS_KEY, 1),
        offset=offset,
        trailing_bytes=values.get(sigmf.TRAILING_BYTES_KEY, 0),
        dataset=dataset,
        segments=_segments(captures, offset),
        hardware=values.get(sigmf.HW_KEY),
        waveform=own.get("waveform"),
        symbol_rate=own.get("symbol_rate"),
        complete=own.get("complete", True),
    )


def _own_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """The keys of our namespace, without it; those that mean something here are checked."""
    prefix = f"{NAMESPACE}:"
    own = {key.removeprefix(prefix): values[key] for key in values if key.startswith(prefix)}
    for name, value in own.items():
        match name:
            case "zero" | "full_scale" | "amplitude" | "symbol_rate":
                number = isinstance(value, int | float) and not isinstance(value, bool)
                least = 0.0 if name == "zero" else 1e-9
                right = number and least <= abs(value) <= 1e12 and value >= 0
            case "waveform":
                right = isinstance(value, str) and value in WAVEFORMS
            case "complete":
                right = isinstance(value, bool)
            case _:
                right = True
        if not right:
            raise CaptureError(f"{prefix}{name} is {str(value)[:40]!r}")
    return own


def _segments(captures: list[Mapping[str, Any]], offset: int) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    for capture in captures:
        start = capture[sigmf.SAMPLE_START_KEY]
        if start < (segments[-1].sample_start if segments else offset):
            raise CaptureError(f"a capture segment at sample {start} begins too early")
        segments.append(
            Segment(
                sample_start=start,
                global_index=capture.get(sigmf.GLOBAL_INDEX_KEY, start),
                header_bytes=capture.get(sigmf.HEADER_BYTES_KEY, 0),
                frequency_hz=capture.get(sigmf.FREQUENCY_KEY),
                datetime=capture.get(sigmf.DATETIME_KEY),
            )
        )
    return tuple(segments) or (Segment(offset, offset),)
