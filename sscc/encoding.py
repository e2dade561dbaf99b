"""``sscc encode``: image files to ``.ddm`` files."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from source_codec import Codec, Process, UnsupportedImage
from sscc.errors import InputError
from sscc.images import read_pictures
from sscc.output import Progress, part_of

SUFFIX = ".ddm"


@dataclass(frozen=True)
class EncodedFile:
    """A ``.ddm`` file that was written.

    Attributes:
        name: its name.
        source: the image file it was made from.
        bytes: its length.
        sub_pixels: width x height x channels.
        seconds: time to encode; of a stack, the mean.
    """

    name: str
    source: str
    bytes: int
    sub_pixels: int
    seconds: float

    @property
    def bpsp(self) -> float:
        """Bits per sub-pixel."""
        return 8 * self.bytes / self.sub_pixels

    def to_json(self) -> dict[str, Any]:
        """The attributes by name."""
        return asdict(self) | {"bpsp": self.bpsp}


def mean_bpsp(files: Sequence[EncodedFile]) -> float:
    """Bits per sub-pixel of all files together."""
    return 8 * sum(f.bytes for f in files) / sum(f.sub_pixels for f in files)


def encode_files(
    paths: Sequence[Path],
    folder: Path,
    codec: Codec,
    process: Process,
    histories: bool,
    progress: Progress,
) -> list[EncodedFile]:
    """Encodes image files and stacks into ``folder``; with or without source histories.

    Raises:
        InputError: a file that holds no image the codec takes, or two of the same name.
    """
    folder.mkdir(parents=True, exist_ok=True)
    written: dict[str, EncodedFile] = {}
    for index, path in enumerate(paths):
        stems, pictures = read_pictures(path)
        names = [stem + SUFFIX for stem in stems]
        clash = written.keys() & names
        if clash:
            name = clash.pop()
            raise InputError(
                f"{path}: {name} was already made from {written[name].source}; "
                "encode them into different folders"
            )
        start = time.perf_counter()
        try:
            share = part_of(progress, index / len(paths), 1 / len(paths))
            streams = codec.encode_many(pictures, process, histories, share)
        except UnsupportedImage as error:
            raise InputError(f"{path}: {error}") from error
        seconds = (time.perf_counter() - start) / len(streams)
        for name, picture, stream in zip(names, pictures, streams, strict=True):
            (folder / name).write_bytes(stream)
            size = picture.pixels.size
            written[name] = EncodedFile(name, str(path), len(stream), size, seconds)
    return list(written.values())
