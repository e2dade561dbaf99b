"""``sscc bench codec``: our codec beside others on the same images, in one run and in memory.

Size is counted in bits per sub-pixel (bpsp): all bits of all files over all width x height x
channels. Times are medians per image. A stack of N images is one call for our codec, so its time
per image is the N-th part; the others code each image as a file of its own. Every image is decoded
and compared.
"""

from __future__ import annotations

import csv
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import imagecodecs
import numpy as np

from source_codec import Codec
from source_codec.composition import Samples
from source_codec.workers import available_cores
from sscc.errors import InputError
from sscc.images import STACK_SUFFIX, ImageFile, Pixels, read_images
from sscc.output import Progress, part_of

if TYPE_CHECKING:
    from rich.table import Table

OURS = "ddm"
_SUFFIXES = (".png", ".tif", ".tiff", STACK_SUFFIX)


@dataclass(frozen=True)
class Baseline:
    """Another lossless codec, at one setting.

    Attributes:
        setting: how it is run, for people.
        encode: image and number of threads to bytes.
        decode: bytes to the image.
    """

    setting: str
    encode: Callable[[Pixels, int], bytes]
    decode: Callable[[bytes], Pixels]


def _encode_png(image: Pixels, threads: int) -> bytes:
    return bytes(imagecodecs.png_encode(image, level=9))


def _encode_webp(image: Pixels, threads: int) -> bytes:
    # WebP has no gray images; a gray one is stored as RGB, and decoded as such.
    rgb = np.repeat(image[..., None], 3, axis=2) if image.ndim == 2 else image
    return bytes(imagecodecs.webp_encode(rgb, lossless=True, method=6, numthreads=threads))


def _jpeg_xl_encoder(effort: int) -> Callable[[Pixels, int], bytes]:
    def encode(image: Pixels, threads: int) -> bytes:
        data = imagecodecs.jpegxl_encode(
            image, effort=effort, lossless=True, usecontainer=False, numthreads=threads
        )
        return bytes(data)

    return encode


BASELINES = {
    "png": Baseline("PNG, libpng, zlib level 9", _encode_png, imagecodecs.png_decode),
    "webp": Baseline("WebP lossless, method 6", _encode_webp, imagecodecs.webp_decode),
    "jxl": Baseline("JPEG XL lossless, effort 9", _jpeg_xl_encoder(9), imagecodecs.jpegxl_decode),
    "jxl7": Baseline("JPEG XL lossless, effort 7", _jpeg_xl_encoder(7), imagecodecs.jpegxl_decode),
}


def select_baselines(names: str) -> list[str]:
    """The baselines of a comma-separated list; an empty list is allowed.

    Raises:
        InputError: an unknown name.
    """
    chosen = [name.strip() for name in names.split(",") if name.strip()]
    for name in chosen:
        if name not in BASELINES:
            raise InputError(f"unknown codec {name!r}; choose of {', '.join(BASELINES)}")
    return list(dict.fromkeys(chosen))


@dataclass(frozen=True)
class Row:
    """One image through one codec.

    Attributes:
        codec: name of the codec.
        image: name of the image.
        sub_pixels: width x height x channels.
        bytes: length of the coded image.
        bpsp: bits per sub-pixel.
        encode_s, decode_s: seconds.
        exact: whether every pixel came back.
    """

    codec: str
    image: str
    sub_pixels: int
    bytes: int
    bpsp: float
    encode_s: float
    decode_s: float
    exact: bool


def find_images(path: Path) -> tuple[list[ImageFile], list[str]]:
    """Reads all PNG, TIFF and ``.npy`` files of a folder, or one file.

    Returns:
        The images, and for each ``.npy`` file without images (labels, say) why it was skipped.

    Raises:
        InputError: a picture that the codec does not take, or no images at all.
    """
    if path.is_file():
        return [read_images(path)], []
    files, skipped = [], []
    for member in sorted(path.iterdir()):
        if member.suffix.lower() not in _SUFFIXES:
            continue
        try:
            files.append(read_images(member))
        except InputError as error:
            if member.suffix.lower() != STACK_SUFFIX:
                raise
            skipped.append(str(error))
    if not files:
        raise InputError(f"{path}: no images; expected files {', '.join(_SUFFIXES)}")
    return files, skipped


def measure(
    path: Path,
    codec: Codec,
    histories: bool,
    baselines: Sequence[str],
    threads: int | None,
    progress: Progress,
) -> tuple[list[Row], list[str]]:
    """Runs all codecs on all images of ``path``.

    Args:
        path: a folder or a file.
        codec: ours.
        histories: whether ours looks for source histories.
        baselines: names of :data:`BASELINES`.
        threads: for those baselines that use threads; None takes all cores.
        progress: called with the fraction done.

    Returns:
        A row per image and codec, and the files that were skipped.

    Raises:
        InputError: see :func:`find_images`.
    """
    files, skipped = find_images(path)
    # Kernels are compiled or loaded on first use, which is no part of coding an image.
    codec.decode(codec.encode(np.ascontiguousarray(files[0].images[0][:128, :128])))
    rows: list[Row] = []
    runs = len(files) * (1 + len(baselines))
    for index, file in enumerate(files):
        done = index * (1 + len(baselines))
        rows += _run_ours(file, codec, histories, part_of(progress, done / runs, 1 / runs))
        for number, name in enumerate(baselines, 1):
            share = part_of(progress, (done + number) / runs, 1 / runs)
            rows += _run_baseline(file, name, threads or available_cores(), share)
    return rows, skipped


def _run_ours(file: ImageFile, codec: Codec, histories: bool, progress: Progress) -> list[Row]:
    start = time.perf_counter()
    streams = codec.encode_many(
        file.images, histories=histories, progress=part_of(progress, 0.0, 0.5)
    )
    middle = time.perf_counter()
    decoded = codec.decode_many(streams, progress=part_of(progress, 0.5, 0.5))
    end = time.perf_counter()
    count = len(streams)
    return [
        _row(OURS, name, image, stream, back, (middle - start) / count, (end - middle) / count)
        for name, image, stream, back in zip(file.names, file.images, streams, decoded, strict=True)
    ]


def _run_baseline(file: ImageFile, codec: str, threads: int, progress: Progress) -> list[Row]:
    baseline = BASELINES[codec]
    rows = []
    for name, image in zip(file.names, file.images, strict=True):
        contiguous = np.ascontiguousarray(image)
        start = time.perf_counter()
        stream = baseline.encode(contiguous, threads)
        middle = time.perf_counter()
        decoded = baseline.decode(stream)
        end = time.perf_counter()
        if image.ndim == 2 and decoded.ndim == 3:
            # Gray stored as RGB is exact if all three channels are.
            decoded = decoded[..., 0] if (decoded == image[..., None]).all() else decoded
        rows.append(_row(codec, name, image, stream, decoded, middle - start, end - middle))
        progress(len(rows) / len(file.images))
    return rows


def _row(
    codec: str,
    name: str,
    image: Pixels,
    stream: bytes,
    decoded: Samples,
    encode_s: float,
    decode_s: float,
) -> Row:
    exact = bool(np.array_equal(image, decoded))
    bpsp = 8 * len(stream) / image.size
    return Row(codec, name, image.size, len(stream), bpsp, encode_s, decode_s, exact)


def compare(rows: Sequence[Row]) -> dict[str, dict[str, Any]]:
    """Figures per codec: bpsp, median encode_s and decode_s, exact, and the number of images."""
    summaries = {}
    for codec in dict.fromkeys(row.codec for row in rows):
        own = [row for row in rows if row.codec == codec]
        summaries[codec] = {
            "bpsp": 8 * sum(row.bytes for row in own) / sum(row.sub_pixels for row in own),
            "encode_s": statistics.median(row.encode_s for row in own),
            "decode_s": statistics.median(row.decode_s for row in own),
            "exact": all(row.exact for row in own),
            "images": len(own),
        }
    return summaries


def table(summaries: dict[str, dict[str, Any]]) -> Table:
    """The comparison for people, smallest files first."""
    from rich.table import Table

    grid = Table("codec", "setting")
    for heading in ("bpsp", "encode s", "decode s", "images", "exact"):
        grid.add_column(heading, justify="right")
    for name, figures in sorted(summaries.items(), key=lambda item: item[1]["bpsp"]):
        setting = BASELINES[name].setting if name in BASELINES else "masked diffusion"
        grid.add_row(
            name,
            setting,
            f"{figures['bpsp']:.4f}",
            f"{figures['encode_s']:.4f}",
            f"{figures['decode_s']:.4f}",
            str(figures["images"]),
            "yes" if figures["exact"] else "NO",
        )
    return grid


def write_csv(rows: Sequence[Row], path: Path) -> None:
    """Writes a line per image and codec."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(field.name for field in fields(Row))
        writer.writerows(astuple(row) for row in rows)
