"""Recordings as sources and sinks: ``sigmf:PATH?OPTION=VALUE&...``.

========  ==================  ==================================================================
source    ``check``           1, the default: the hash must be right; 0: it does not matter
          ``channel``         number of the channel, from 0
sink      ``type``            cf32, the default, cs16, cs8 or cu8
          ``profile``         hardware profile, whose type and full scale are taken
          ``amplitude``       of I or Q that is full scale, 1 unless given
          ``rate``            samples a second
          ``frequency``       centre frequency, Hz
========  ==================  ==================================================================
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

from flowgraphs.captures.recording import RecordingSource, open_recording
from flowgraphs.captures.sample_type import CaptureError
from flowgraphs.captures.writer import RecordingConfig, RecordingSink
from hw_profiles.profile import HardwareProfile, ProfileError, SampleFormat, load_profile
from hw_profiles.sample_format import NativeFormat

_SOURCE_OPTIONS: Mapping[str, Callable[[str], Any]] = {"check": int, "channel": int}
_SINK_OPTIONS: Mapping[str, Callable[[str], Any]] = {
    "type": str,
    "profile": str,
    "amplitude": float,
    "rate": float,
    "frequency": float,
}


def open_sigmf_source(uri: str) -> RecordingSource:
    """The recording that a URI names.

    Raises:
        CaptureError: a malformed URI, or a recording that cannot be read, or whose hash is wrong.
        OSError: a file cannot be read.
    """
    path, options = _parse(uri, _SOURCE_OPTIONS)
    recording = open_recording(path)
    expected = recording.metadata.sha512
    if options.get("check", 1) and expected is not None and recording.digest() != expected:
        raise CaptureError(
            f"{path}: the data do not have the hash that the metadata say; ?check=0 reads them"
        )
    return RecordingSource(recording, options.get("channel", 0))


def open_sigmf_sink(uri: str) -> RecordingSink:
    """A recording that is made under the name in a URI.

    Raises:
        CaptureError: a malformed URI, or a recording of this name that is there.
        OSError: a file cannot be written.
    """
    path, options = _parse(uri, _SINK_OPTIONS)
    try:
        profile = load_profile(options["profile"]) if "profile" in options else None
        config = RecordingConfig(
            native=native_format(options.get("type"), profile),
            amplitude=options.get("amplitude", 1.0),
            sample_rate=options.get("rate"),
            frequency_hz=options.get("frequency"),
            profile=None if profile is None else profile.name,
        )
    except (ValueError, ProfileError) as error:
        raise CaptureError(f"{uri}: {error}") from error
    return RecordingSink(path, config)


def native_format(name: str | None, profile: HardwareProfile | None) -> NativeFormat:
    """The type in which samples are written.

    Args:
        name: of the type; None for that of the profile's receiver, or cf32.
        profile: of the front end, if there is one.

    Raises:
        ValueError: no such type, or a front end that does not receive.
    """
    if profile is not None and profile.rx is None:
        raise ValueError(f"{profile.name} does not receive")
    receiver = None if profile is None else profile.rx
    if receiver is not None and name in (None, receiver.sample_format):
        return NativeFormat.of(receiver)
    try:
        sample_format = SampleFormat(name or "cf32")
    except ValueError as error:
        raise ValueError(f"unknown type {name!r}; one of {', '.join(SampleFormat)}") from error
    largest = {SampleFormat.CF32: 1.0, SampleFormat.CS16: 32768.0}
    return NativeFormat(sample_format, largest.get(sample_format, 128.0))


def _parse(uri: str, known: Mapping[str, Callable[[str], Any]]) -> tuple[Path, dict[str, Any]]:
    """Path and options of a URI."""
    name, _, query = uri.partition(":")[2].partition("?")
    if not name:
        raise CaptureError(f"{uri}: give sigmf:PATH")
    options = {}
    try:
        for key, text in parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query)):
            if key not in known:
                raise CaptureError(f"{uri}: no option {key!r}; there are {', '.join(known)}")
            options[key] = known[key](text)
    except ValueError as error:
        raise CaptureError(f"{uri}: {error}") from error
    return Path(name), options
