"""``sscc decode``: ``.ddm`` files to PNG files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import Any

from source_codec import Codec, CorruptStream, read_header
from source_codec.layout import picture_of
from source_codec.picture import Picture
from sscc.errors import InputError
from sscc.images import write_picture
from sscc.output import Progress, part_of

_BATCH_PIXELS = 1 << 22
"""Images are decoded together up to this many pixels, which bounds the memory of many files."""


@dataclass(frozen=True)
class DecodedFile:
    """What became of a ``.ddm`` file.

    Attributes:
        source: the file.
        name: the PNG file written, or None.
        seconds: time to decode; of files decoded together, the mean.
        error: why there is no image, or None.
    """

    source: str
    name: str | None
    seconds: float
    error: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The attributes by name; ``exact``: the pixels are proved by the hash in the file."""
        result = {
            "name": self.name,
            "source": self.source,
            "seconds": self.seconds,
            "exact": self.error is None,
        }
        return result | ({"error": self.error} if self.error else {})


def decode_files(
    paths: Sequence[Path], folder: Path, steps: Path | None, codec: Codec, progress: Progress
) -> list[DecodedFile]:
    """Decodes files into ``folder``; damaged ones are reported, and the others decoded still.

    Args:
        paths: the ``.ddm`` files.
        folder: for the images.
        steps: folder for an image per denoising step, or None.
        codec: the codec.
        progress: called with the fraction done.

    Returns:
        A report per file, in the order of ``paths``.

    Raises:
        InputError: two files would write the same image.
    """
    _refuse_clashes(paths)
    folder.mkdir(parents=True, exist_ok=True)
    reports: list[DecodedFile] = []
    for batch in _batches(paths):
        share = part_of(progress, len(reports) / len(paths), len(batch) / len(paths))
        if steps is not None:
            steps.mkdir(parents=True, exist_ok=True)
            reports += [_decode_in_steps(path, folder, steps, codec) for path in batch]
            share(1.0)
        else:
            reports += _decode_batch(batch, folder, codec, share)
    return reports


def _refuse_clashes(paths: Sequence[Path]) -> None:
    taken: dict[str, Path] = {}
    for path in paths:
        other = taken.setdefault(path.stem, path)
        if other is not path:
            raise InputError(
                f"{path} and {other} would both become {path.stem}.png; "
                "decode them into different folders"
            )


def _batches(paths: Sequence[Path]) -> Iterator[list[Path]]:
    """Runs of files of equal image size, of at most ``_BATCH_PIXELS`` together."""

    def size(path: Path) -> tuple[int, int]:
        try:
            header = read_header(path.read_bytes())
        except CorruptStream:
            return 0, 0  # decoding reports the reason
        return header.width, header.height

    for (width, height), run in groupby(paths, size):
        members = list(run)
        count = max(1, _BATCH_PIXELS // (width * height or _BATCH_PIXELS))
        for start in range(0, len(members), count):
            yield members[start : start + count]


def _decode_batch(
    paths: list[Path], folder: Path, codec: Codec, progress: Progress
) -> list[DecodedFile]:
    start = time.perf_counter()
    try:
        pictures = codec.decode_pictures([path.read_bytes() for path in paths], progress)
    except CorruptStream as error:
        if len(paths) == 1:
            return [_failure(paths[0], start, error)]
        # One of them is damaged in a way that only decoding shows: each for itself, then.
        return [
            report for path in paths for report in _decode_batch([path], folder, codec, progress)
        ]
    seconds = (time.perf_counter() - start) / len(paths)
    return [
        _success(path, folder, picture, seconds)
        for path, picture in zip(paths, pictures, strict=True)
    ]


def _decode_in_steps(path: Path, folder: Path, steps: Path, codec: Codec) -> DecodedFile:
    """Decodes one file, and writes what is known step by step as STEM-001.png and so on."""
    start = time.perf_counter()
    try:
        data = path.read_bytes()
        layout = read_header(data).layout
        for number, (image, _) in enumerate(codec.decode_progressive(data), 1):
            picture = picture_of(layout, image)
            write_picture(steps / f"{path.stem}-{number:03}.png", picture)
        return _success(path, folder, picture, time.perf_counter() - start)
    except CorruptStream as error:
        return _failure(path, start, error)


def _success(path: Path, folder: Path, picture: Picture, seconds: float) -> DecodedFile:
    name = f"{path.stem}.png"
    write_picture(folder / name, picture)
    return DecodedFile(str(path), name, seconds)


def _failure(path: Path, start: float, error: CorruptStream) -> DecodedFile:
    return DecodedFile(str(path), None, time.perf_counter() - start, str(error))
