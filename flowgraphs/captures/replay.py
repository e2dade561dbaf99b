"""Replays recordings through the receiver, and compares what it finds with what was found live.

The receiver's events do not depend on how the samples are cut into portions, and the live receiver
heard what is in the file: so frames, payloads and estimates must be the same to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import groupby
from tempfile import TemporaryFile
from typing import Any, BinaryIO, cast

import sigmf

from flowgraphs.captures.annotations import KIND, Annotation, Journal, annotation_of
from flowgraphs.captures.metadata import NAMESPACE, Metadata
from flowgraphs.captures.recording import Recording, RecordingSource
from flowgraphs.captures.sample_type import CaptureError
from flowgraphs.captures.writer import PROGRAM
from flowgraphs.link import WAVEFORMS
from flowgraphs.receive import Observer, ReceiveConfig, ReceiveReport, Save, receive
from flowgraphs.stream import Stop
from source_codec import Codec

DIFFERENCES_SHOWN = 20
_COMPARED = (sigmf.SAMPLE_START_KEY, sigmf.SAMPLE_COUNT_KEY)


@dataclass
class Verification:
    """A replay against the annotations of its recording.

    Attributes:
        annotations: frames and messages that were compared.
        differing: of them not the same.
        beyond: found in the replay of a recording that was cut off, before it noted them.
        differences: the first of them in words.
    """

    annotations: int = 0
    differing: int = 0
    beyond: int = 0
    differences: list[str] = field(default_factory=list)

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return not self.differing

    def differ(self, text: str) -> None:
        """Note a difference."""
        self.differing += 1
        if len(self.differences) < DIFFERENCES_SHOWN:
            self.differences.append(text)


def receive_config(
    metadata: Metadata, waveform: str | None, sample_rate: float | None
) -> ReceiveConfig:
    """The receiver for a recording.

    Args:
        metadata: of the recording.
        waveform: in place of the one that the metadata name, and single-carrier otherwise.
        sample_rate: in place of that of the metadata.

    Raises:
        CaptureError: no sample rate is known.
        ValueError: one that the receiver cannot use.
    """
    name = waveform or metadata.waveform or "single-carrier"
    if name not in WAVEFORMS:
        raise ValueError(f"unknown waveform {name!r}; one of {', '.join(WAVEFORMS)}")
    rate = sample_rate or metadata.sample_rate
    symbol_rate = None if sample_rate or waveform else metadata.symbol_rate
    if symbol_rate is None:
        if rate is None:
            raise CaptureError("the metadata do not tell the sample rate; give it")
        symbol_rate = rate / WAVEFORMS[name].samples_per_symbol
    return ReceiveConfig(name, symbol_rate, full_scale=metadata.sample_type.converter_full_scale)


def replay(
    recording: Recording,
    config: ReceiveConfig,
    codec: Codec,
    save: Save,
    stop: Stop,
    observe: Observer = lambda report, image: None,
    channel: int = 0,
    verify: bool = False,
) -> tuple[ReceiveReport, Verification | None]:
    """Receives what was recorded.

    Args:
        recording: the recording.
        config: of the receiver.
        codec: source codec.
        save: writes a picture; returns the file's name.
        stop: asked between portions.
        observe: called with the report after every portion of samples, and with every image.
        channel: which of the recording's channels.
        verify: compare with the annotations.

    Returns:
        The report, and, if asked for, what differs.

    Raises:
        CaptureError: there are no annotations of ours to compare with.
    """
    with RecordingSource(recording, channel) as source:
        if not verify:
            return receive(source, config, codec, save, stop, observe), None
        if recording.metadata.waveform is None:
            raise CaptureError(
                f"{recording.name}: no receiver annotated it, so there is nothing to verify"
            )
        with TemporaryFile() as file:
            journal = Journal(cast(BinaryIO, file))
            report = receive(
                source,
                config,
                codec,
                save,
                stop,
                observe,
                lambda heard: journal.append(annotation_of(heard, PROGRAM)),
            )
            return report, compare(recording, journal)


def compare(recording: Recording, replayed: Journal) -> Verification:
    """Compares the annotations of a recording with those of its replay, as both come.

    Raises:
        CaptureError: the recording's cannot be read.
    """
    result = Verification()
    live_side, replay_side = _by_start(recording.annotations()), _by_start(replayed.annotations())
    live, heard = next(live_side, None), next(replay_side, None)
    while live is not None or heard is not None:
        start = min(side[0] for side in (live, heard) if side is not None)
        before: Mapping[str, Annotation] = {}
        now: Mapping[str, Annotation] = {}
        if live is not None and live[0] == start:
            before, live = live[1], next(live_side, None)
        if heard is not None and heard[0] == start:
            now, heard = heard[1], next(replay_side, None)
        if not recording.metadata.complete:
            known = {kind: annotation for kind, annotation in now.items() if kind in before}
            result.beyond += len(now) - len(known)
            now = known
        _compare_at(start, before, now, result)
    return result


def _compare_at(
    start: int,
    before: Mapping[str, Annotation],
    now: Mapping[str, Annotation],
    result: Verification,
) -> None:
    """Compares the annotations that begin at a sample."""
    for kind in sorted(before.keys() | now.keys()):
        result.annotations += 1
        if kind not in now:
            result.differ(f"{kind} at sample {start}: only in the recording's annotations")
        elif kind not in before:
            result.differ(f"{kind} at sample {start}: only in the replay")
        else:
            live, replayed = _compared(before[kind]), _compared(now[kind])
            if live != replayed:
                names = sorted(
                    name
                    for name in live.keys() | replayed.keys()
                    if live.get(name) != replayed.get(name)
                )
                first = names[0]
                result.differ(
                    f"{kind} at sample {start}: {', '.join(names)}; "
                    f"{first} was {str(live.get(first))[:40]}, is {str(replayed.get(first))[:40]}"
                )


def _compared(annotation: Annotation) -> dict[str, Any]:
    return {
        name: value
        for name, value in annotation.items()
        if name in _COMPARED or name.startswith(f"{NAMESPACE}:")
    }


def _by_start(annotations: Iterator[Annotation]) -> Iterator[tuple[int, dict[str, Annotation]]]:
    """Annotations by the sample at which they begin, and there by kind."""
    for start, group in groupby(annotations, lambda annotation: annotation[sigmf.SAMPLE_START_KEY]):
        kinds: dict[str, Annotation] = {}
        for annotation in group:
            kind = str(annotation[KIND])[:20]
            kinds[f"second {kind}" if kind in kinds else kind] = annotation
        yield start, kinds
