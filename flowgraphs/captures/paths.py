"""Names of the files of a recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from sigmf.keys import SIGMF_DATASET_EXT, SIGMF_METADATA_EXT

from flowgraphs.captures.sample_type import CaptureError

_JOURNAL = ".sscc-journal"


@dataclass(frozen=True)
class RecordingPaths:
    """Files of a recording.

    Attributes:
        meta: the metadata.
        data: the samples.
        journal: annotations of a recording that is under way, or was cut off.
    """

    meta: Path
    data: Path
    journal: Path

    @classmethod
    def of(cls, name: Path) -> RecordingPaths:
        """Those of a recording by its name, with or without the ending of one of its files.

        Raises:
            CaptureError: no name.
        """
        if name.name in ("", ".."):
            raise CaptureError(f"{name}: is a folder, not the name of a recording")
        ours = (SIGMF_METADATA_EXT, SIGMF_DATASET_EXT)
        stem = name.name.removesuffix(name.suffix) if name.suffix in ours else name.name
        meta, data, journal = (
            name.with_name(stem + suffix)
            for suffix in (SIGMF_METADATA_EXT, SIGMF_DATASET_EXT, _JOURNAL)
        )
        return cls(meta, data, journal)
