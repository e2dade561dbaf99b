"""The lossless image codec: images to ``.ddm`` streams and back."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from source_codec import container
from source_codec.composition import PartShape, Samples
from source_codec.container import DEFAULT_PROCESS, MAX_SIDE, Header
from source_codec.errors import CorruptStream, UnsupportedImage, UnsupportedStream
from source_codec.expectation import expected_images
from source_codec.experts import Kind
from source_codec.features import GREEN_FIRST
from source_codec.graphics import decode_graphics
from source_codec.layout import GRAPHICS, PLAIN, Layout, Leaf, compose, join, picture_of
from source_codec.model import Model
from source_codec.order import is_small
from source_codec.picture import Picture
from source_codec.process import Process, steps_of
from source_codec.range_coder import RangeEncoders
from source_codec.reverse_coding import (
    Context,
    decode_images,
    encode_steps,
)
from source_codec.workers import Workers

Image = NDArray[np.uint8]
Progress = Callable[[float], None]
_BATCH_PIXELS = 1 << 20
"""Images of one size are coded together up to this many pixels."""
_PREVIEWS = 32
"""Previews of a wavefront, at most."""
_GRAPHICS_FRONT = 2
"""Bytes more in the header where the whole image is graphics."""


def check_image(image: Samples) -> None:
    """Refuses what the codec does not take.

    Raises:
        UnsupportedImage: anything but uint8 or uint16, (H, W) or (H, W, 2 to 4), with sides of 1
            to 4096.
    """
    if not isinstance(image, np.ndarray) or image.dtype not in (np.uint8, np.uint16):
        kind = getattr(image, "dtype", type(image).__name__)
        raise UnsupportedImage(f"images must be of 8 or 16 bits (uint8, uint16), not {kind}")
    if image.ndim not in (2, 3) or (image.ndim == 3 and image.shape[2] not in (2, 3, 4)):
        raise UnsupportedImage(f"images must be (H, W) or (H, W, 2 to 4), not {image.shape}")
    if not all(1 <= side <= MAX_SIDE for side in image.shape[:2]):
        raise UnsupportedImage(
            f"image sides must be 1 to {MAX_SIDE} pixels, not {image.shape[1]}x{image.shape[0]}"
        )


def coding_planes(image: Image) -> Image:
    """(H, W, 3) in coding order: green, red, blue; gray replicated."""
    if image.ndim == 2:
        return np.repeat(image[..., None], 3, axis=2)
    return np.ascontiguousarray(image[..., GREEN_FIRST])


def _array_shape(shape: PartShape) -> tuple[int, ...]:
    size = shape.height, shape.width
    return size if shape.channels == 1 else (*size, shape.channels)


def _pixels(shape: PartShape) -> int:
    return shape.height * shape.width


def _from_planes(planes: Image, channels: int) -> Image:
    if channels == 1:
        return planes[..., 0].copy()
    return np.ascontiguousarray(planes[..., GREEN_FIRST])


@dataclass(frozen=True)
class _Group:
    """Plain images that are coded as one batch: their places in the list of all of them."""

    indices: list[int]
    shape: PartShape
    process: Process

    @property
    def pixels(self) -> int:
        return _pixels(self.shape) * len(self.indices)


def _groups(keys: Sequence[tuple[PartShape, Process]]) -> Iterator[_Group]:
    """Batches of equal shape and process."""
    by_key: dict[tuple[PartShape, Process], list[int]] = defaultdict(list)
    for index, key in enumerate(keys):
        by_key[key].append(index)
    for (shape, process), indices in by_key.items():
        # Large images come one by one: the model adapts to each.
        small = is_small(shape.height, shape.width)
        per_batch = max(1, _BATCH_PIXELS // _pixels(shape)) if small else 1
        for start in range(0, len(indices), per_batch):
            yield _Group(indices[start : start + per_batch], shape, process)


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


def _shorter(leaf: Leaf, diffused: bytes) -> tuple[int, bytes]:
    """The coding of a plain image that takes fewer bytes, and those."""
    if leaf.drawn is not None and len(leaf.drawn) + _GRAPHICS_FRONT < len(diffused):
        return GRAPHICS, leaf.drawn
    return PLAIN, diffused


def _decoded_graphics(payload: bytes, shape: PartShape) -> Image:
    return decode_graphics(payload, shape.height, shape.width, shape.channels)


class Codec:
    """Lossless image codec with a masked-diffusion model.

    Args:
        model: the model.
        threads: number of threads, by default one for each core; for speed only.

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
        """Loads a model by name or path; the number of threads is for speed only.

        Raises:
            ModelError: no such model, a damaged one, or its self-test fails on this machine.
        """
        return cls(Model.load(model), threads)

    def encode(
        self,
        image: Samples | Picture,
        process: Process = DEFAULT_PROCESS,
        histories: bool = True,
    ) -> bytes:
        """One image to a ``.ddm`` stream.

        Args:
            image: uint8 or uint16, (H, W), (H, W, 2) gray and alpha, (H, W, 3) or (H, W, 4) RGBA;
                or a picture, which has a palette or metadata besides.
            process: parameters of the denoising process.
            histories: whether to look for a source history (:mod:`source_codec.source_history`).

        Raises:
            UnsupportedImage: see :func:`check_image`.
        """
        return self.encode_many([image], process, histories)[0]

    def encode_many(
        self,
        images: Sequence[Samples | Picture],
        process: Process = DEFAULT_PROCESS,
        histories: bool = True,
        progress: Progress | None = None,
    ) -> list[bytes]:
        """Several images; small ones of equal size are evaluated together.

        The streams are those that :meth:`encode` gives.
        """
        pictures = [image if isinstance(image, Picture) else Picture(image) for image in images]
        for picture in pictures:
            check_image(picture.pixels)
        layouts: list[Layout] = []
        plain: list[Leaf] = []
        for picture in pictures:
            try:
                layout, leaves = compose(picture, histories)
            except ValueError as error:
                raise UnsupportedImage(str(error)) from error
            layouts.append(layout)
            plain += leaves
        diffused = self._encode_plain([leaf.image for leaf in plain], process, progress)
        shortest = list(map(_shorter, plain, diffused))
        kinds, payloads = (kind for kind, _ in shortest), (payload for _, payload in shortest)
        streams = []
        for picture, composed in zip(pictures, layouts, strict=True):
            layout = composed.with_leaves(kinds)
            own = [next(payloads) for _ in layout.leaves()]
            model_id = self.model.model_id
            streams.append(container.pack(picture.pixels, layout, own, model_id, process))
        return streams

    def _encode_plain(
        self, images: Sequence[Image], process: Process, progress: Progress | None
    ) -> list[bytes]:
        """Payloads of plain images."""
        pixels = sum(image.shape[0] * image.shape[1] for image in images)
        share = _Share(progress, pixels)
        payloads = [b""] * len(images)
        for group in _groups([(PartShape.of(image), process) for image in images]):
            planes = np.stack([coding_planes(images[i]) for i in group.indices])
            report = share.of(group.pixels)
            coders = RangeEncoders(0)
            gray = group.shape.channels == 1
            steps = encode_steps(self.model, planes, gray, process, self._workers)
            for fraction, coders in steps:  # noqa: B007 (the last coders are used)
                if report:
                    report(fraction)
            for number, index in enumerate(group.indices):
                payloads[index] = coders.finished(number)
        return payloads

    def decode(self, data: bytes) -> Samples:
        """The pixels of a ``.ddm`` stream, proved by the hash in the stream.

        Raises:
            CorruptStream: foreign, damaged or hostile input.
            UnsupportedStream: made with another model or format version.
        """
        return self.decode_many([data])[0]

    def decode_many(
        self, streams: Sequence[bytes], progress: Progress | None = None
    ) -> list[Samples]:
        """Several streams; small images of equal size are evaluated together."""
        return [picture.pixels for picture in self.decode_pictures(streams, progress)]

    def decode_pictures(
        self, streams: Sequence[bytes], progress: Progress | None = None
    ) -> list[Picture]:
        """The same with palettes and metadata."""
        headers = [self._header(data) for data in streams]
        leaves = iter(self._decode_plain(headers, streams, progress))
        return [
            picture_of(header.layout, self._proved(join(header.layout, leaves), header))
            for header in headers
        ]

    def _decode_plain(
        self,
        headers: Sequence[Header],
        streams: Sequence[bytes],
        progress: Progress | None = None,
    ) -> list[Image]:
        """The plain images that the streams' images are composed of."""
        payloads, leaves, processes = [], [], []
        for header, data in zip(headers, streams, strict=True):
            payloads += container.payloads_of(data, header)
            leaves += header.layout.leaves()
            processes += [header.process] * len(header.layout.leaves())
        diffused = [i for i, leaf in enumerate(leaves) if leaf.kind == PLAIN]
        share = _Share(progress, sum(_pixels(leaf.shape) for leaf in leaves))
        plain: list[Image] = [np.empty(0, dtype=np.uint8)] * len(payloads)
        for index, leaf in enumerate(leaves):
            if leaf.kind == GRAPHICS:
                report = share.of(_pixels(leaf.shape))
                plain[index] = _decoded_graphics(payloads[index], leaf.shape)
                if report:
                    report(1.0)
        for group in _groups([(leaves[i].shape, processes[i]) for i in diffused]):
            report = share.of(group.pixels)
            places = [diffused[i] for i in group.indices]
            members = [payloads[i] for i in places]
            for context in self._steps(members, group):  # an image has at least one step
                if report:
                    report(float(context.known.mean()))
            for index, planes in zip(places, context.images, strict=True):
                plain[index] = _from_planes(planes, group.shape.channels)
        return plain

    def decode_progressive(self, data: bytes) -> Iterator[tuple[Samples, NDArray[np.bool_]]]:
        """Decodes step by step.

        Yields:
            After each denoising step ``(image, known_mask)``, or after each 32nd part of the pixels
            where the steps are many (along the wavefront of a small image): the known pixels are
            final, the others hold what the model expects there, as a preview, which takes an
            evaluation of the model at all of them. A part that is graphics comes in one step. The
            last image is complete and proved by the hash; until then nothing is proved.

        Raises:
            CorruptStream: as :meth:`decode`; at the latest after the last step.
        """
        header = self._header(data)
        payloads = container.payloads_of(data, header)
        # Of a composed image the first part (the luma, say) comes last, over the others.
        layouts = header.layout.leaves()
        leaves = [np.zeros(_array_shape(leaf.shape), dtype=np.uint8) for leaf in layouts]
        for index in reversed(range(len(layouts))):
            steps = self._part_steps(payloads[index], layouts[index], header.process)
            for part, part_known in steps:
                leaves[index] = part
                image = join(header.layout, iter(leaves))
                if index or part_known.shape != image.shape[:2]:
                    mask = np.full(image.shape[:2], part_known.all() and index == 0)
                else:
                    mask = part_known
                if mask.all():
                    self._proved(image, header)
                yield image, mask

    def _part_steps(
        self, payload: bytes, leaf: Layout, process: Process
    ) -> Iterator[tuple[Image, NDArray[np.bool_]]]:
        """A plain image after each step, with what the model expects where nothing is known."""
        shape = leaf.shape
        if leaf.kind == GRAPHICS:
            yield _decoded_graphics(payload, shape), np.ones((shape.height, shape.width), bool)
            return
        group = _Group([0], shape, process)
        plan = list(steps_of(process, shape.height, shape.width))
        shown = 0
        for context, following in zip_longest(self._steps([payload], group), plan[1:]):
            planes = context.images
            if following is not None:
                part = int(context.known.sum()) * _PREVIEWS // context.known.size
                if following.kind is Kind.WAVEFRONT and part == shown:
                    continue
                shown = part
                planes = expected_images(context, following, self._workers)
            yield _from_planes(planes[0], shape.channels), context.known.astype(bool)

    def step_bits(self, data: bytes) -> list[int]:
        """Bits that each denoising step took, part by part (decodes and encodes it again).

        Graphics are one step.
        """
        header = self._header(data)
        bits: list[int] = []
        parts = self._decode_plain([header], [data])
        layouts, lengths = header.layout.leaves(), header.payload_lengths
        for part, leaf, length in zip(parts, layouts, lengths, strict=True):
            if leaf.kind == GRAPHICS:
                bits.append(8 * length)
                continue
            planes = coding_planes(part)[None]
            steps = encode_steps(self.model, planes, part.ndim == 2, header.process, self._workers)
            totals = [coders.bits(0) for _, coders in steps]
            bits += [int(count) for count in np.diff([0, *totals])]
        return bits

    def _header(self, data: bytes) -> Header:
        header = container.read_header(data)
        expected = self.model.model_id[: container.MODEL_ID_BYTES]
        if header.model_id != expected:
            raise UnsupportedStream(
                f"made with model {header.model_id.hex()}, this decoder has {expected.hex()}"
            )
        return header

    def _steps(self, payloads: list[bytes], group: _Group) -> Iterator[Context]:
        shape = group.shape
        return decode_images(
            self.model,
            payloads,
            shape.height,
            shape.width,
            shape.channels == 1,
            group.process,
            self._workers,
        )

    @staticmethod
    def _proved(image: Samples, header: Header) -> Samples:
        if container.pixel_hash(image)[: len(header.pixel_hash)] != header.pixel_hash:
            raise CorruptStream("the decoded pixels do not match the hash in the stream")
        return image
