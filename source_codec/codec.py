"""The lossless image codec: images to ``.ddm`` streams and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from source_codec import container
from source_codec.container import DEFAULT_PROCESS, MAX_SIDE, Header
from source_codec.errors import CorruptStream, UnsupportedImage, UnsupportedStream
from source_codec.features import GREEN_FIRST
from source_codec.model import Model
from source_codec.preview import fill_unknown
from source_codec.reverse_coding import (
    Process,
    RangeEncoder,
    decode_images,
    encode_steps,
    finished_payload,
)
from source_codec.workers import Workers

Image = NDArray[np.uint8]
Progress = Callable[[float], None]
_BATCH_PIXELS = 1 << 20
"""Images of one size are coded together up to this many pixels."""


def check_image(image: Image) -> None:
    """Refuses what the codec does not take.

    Raises:
        UnsupportedImage: anything but uint8 (H, W, 3) or (H, W) with sides of 1 to 4096.
    """
    if not isinstance(image, np.ndarray) or image.dtype != np.uint8:
        kind = getattr(image, "dtype", type(image).__name__)
        raise UnsupportedImage(f"images must be 8-bit (uint8), not {kind}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] != 3):
        raise UnsupportedImage(f"images must be (H, W) or (H, W, 3), not {image.shape}")
    if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
        raise UnsupportedImage(
            f"image sides must be 1 to {MAX_SIDE} pixels, not {image.shape[1]}x{image.shape[0]}"
        )


def _coding_planes(image: Image) -> Image:
    """(H, W, 3) in coding order: green, red, blue; gray replicated."""
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., GREEN_FIRST])


def _from_planes(planes: Image, channels: int) -> Image:
    if channels == 1:
        return planes[..., 0].copy()
    return np.ascontiguousarray(planes[..., GREEN_FIRST])


@dataclass(frozen=True)
class _Group:
    """Streams or images that are coded as one batch, with their places in the caller's list."""

    indices: list[int]
    pixels: int


def _groups(keys: Sequence[tuple[int, int, int, Process]]) -> Iterator[_Group]:
    """Batches of equal keys (height, width, channels, process)."""
    by_key: dict[tuple[int, int, int, Process], list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_key[key].append(index)
    for (height, width, *_), indices in by_key.items():
        per_batch = max(1, _BATCH_PIXELS // (height * width))
        for start in range(0, len(indices), per_batch):
            members = indices[start : start + per_batch]
            yield _Group(members, height * width * len(members))


class _Share:
    """Turns the progress of one batch into that of the whole call."""

    def __init__(self, progress: Progress | None, total: int) -> None:
        self.progress = progress
        self.total = total
        self.before = 0

    def of(self, pixels: int) -> Progress | None:
        if self.progress is None:
            return None
        report, before = self.progress, self.before
        self.before += pixels
        return lambda fraction: report((before + fraction * pixels) / self.total)


class Codec:
    """Lossless image codec with a masked-diffusion model.

    Examples:
        >>> codec = Codec.load()
        >>> image = np.arange(40 * 30 * 3, dtype=np.uint32).reshape(40, 30, 3).astype(np.uint8)
        >>> bool(np.array_equal(codec.decode(codec.encode(image)), image))
        True
    """

    def __init__(self, model: Model, threads: int | None = None) -> None:
        self.model = model
        self._workers = Workers(threads)

    @classmethod
    def load(cls, model: str | Path = "default", threads: int | None = None) -> Codec:
        """Loads a model by name or path; ``threads`` (default: all cores) is for speed only.

        Raises:
            ModelError: no such model, a damaged one, or its self-test fails on this machine.
        """
        return cls(Model.load(model), threads)

    def encode(self, image: Image, process: Process = DEFAULT_PROCESS) -> bytes:
        """One image, uint8 (H, W, 3) or (H, W), to a ``.ddm`` stream.

        Raises:
            UnsupportedImage: see :func:`check_image`.
        """
        return self.encode_many([image], process)[0]

    def encode_many(
        self,
        images: Sequence[Image],
        process: Process = DEFAULT_PROCESS,
        progress: Progress | None = None,
    ) -> list[bytes]:
        """Several images; those of equal size are evaluated together, each has its own stream.

        The streams are those that :meth:`encode` gives.
        """
        for image in images:
            check_image(image)
        share = _Share(progress, sum(i.shape[0] * i.shape[1] for i in images))
        streams = [b""] * len(images)
        keys = [(i.shape[0], i.shape[1], 1 if i.ndim == 2 else 3, process) for i in images]
        for group in _groups(keys):
            planes = np.stack([_coding_planes(images[i]) for i in group.indices])
            gray = images[group.indices[0]].ndim == 2
            report = share.of(group.pixels)
            coders: list[RangeEncoder] = []
            steps = encode_steps(self.model, planes, gray, process, self._workers)
            for fraction, coders in steps:  # noqa: B007 (the last coders are used)
                if report:
                    report(fraction)
            for index, coder in zip(group.indices, coders, strict=True):
                streams[index] = container.pack(
                    images[index], finished_payload(coder), self.model.model_id, process
                )
        return streams

    def decode(self, data: bytes) -> Image:
        """The image of a ``.ddm`` stream, proved by the hash in the stream.

        Raises:
            CorruptStream: foreign, damaged or hostile input.
            UnsupportedStream: made with another model or format version.
        """
        return self.decode_many([data])[0]

    def decode_many(
        self, streams: Sequence[bytes], progress: Progress | None = None
    ) -> list[Image]:
        """Several streams; those of equal image size are evaluated together."""
        headers = [self._header(data) for data in streams]
        share = _Share(progress, sum(h.width * h.height for h in headers))
        images: list[Image] = [np.empty(0, dtype=np.uint8)] * len(streams)
        keys = [(h.height, h.width, h.channels, h.process) for h in headers]
        for group in _groups(keys):
            members = [(headers[i], streams[i]) for i in group.indices]
            report = share.of(group.pixels)
            restored = np.empty((0, 0, 0, 3), dtype=np.uint8)
            for restored, known in self._steps(members):  # noqa: B007 (the last ones are used)
                if report:
                    report(float(known.mean()))
            for index, (header, _), one in zip(group.indices, members, restored, strict=True):
                images[index] = self._proved(_from_planes(one, header.channels), header)
        return images

    def decode_progressive(self, data: bytes) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
        """Decodes step by step.

        Yields:
            After each denoising step ``(image, known_mask)``: the known pixels are final, the
            others hold the mean of their nearest known neighbours as a preview. The last image is
            complete and proved by the hash; until then nothing is proved.

        Raises:
            CorruptStream: as :meth:`decode`; at the latest after the last step.
        """
        header = self._header(data)
        for planes, known in self._steps([(header, data)]):
            mask = known.astype(bool)
            image = _from_planes(planes[0], header.channels)
            if mask.all():
                self._proved(image, header)
            else:
                image = fill_unknown(image, mask)
            yield image, mask

    def step_bits(self, data: bytes) -> list[int]:
        """Bits that each denoising step of a stream took (decodes and encodes it again)."""
        process = container.read_header(data).process
        image = self.decode(data)
        planes = _coding_planes(image)[None]
        steps = encode_steps(self.model, planes, image.ndim == 2, process, self._workers)
        totals = [coders[0].num_bits() for _, coders in steps]
        return [int(bits) for bits in np.diff([0, *totals])]

    def _header(self, data: bytes) -> Header:
        header = container.read_header(data)
        expected = self.model.model_id[: container.MODEL_ID_BYTES]
        if header.model_id != expected:
            raise UnsupportedStream(
                f"made with model {header.model_id.hex()}, this decoder has {expected.hex()}"
            )
        return header

    def _steps(
        self, members: list[tuple[Header, bytes]]
    ) -> Iterator[tuple[Image, NDArray[np.uint8]]]:
        header = members[0][0]
        return decode_images(
            self.model,
            [container.payload_of(data, h) for h, data in members],
            header.height,
            header.width,
            header.channels == 1,
            header.process,
            self._workers,
        )

    @staticmethod
    def _proved(image: Image, header: Header) -> Image:
        if container.pixel_hash(image)[: len(header.pixel_hash)] != header.pixel_hash:
            raise CorruptStream("the decoded pixels do not match the hash in the stream")
        return image
