"""Images that use few of the values in their range.

A stretched histogram leaves gaps: of 256 values, say, only 200 occur. Numbering those that do
gives a plane with steps of one again. Which values occur is sent as a mask of 256 bits for each
channel, coded adaptively with the run so far and the previous channel's bit as context, so that
regular gaps and equal channels cost little.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.binary_coding import (
    BitCoder,
    check_finished,
    decode_bit,
    encode_bit,
    finished,
    new_decoder,
    new_encoder,
)
from source_codec.source_history.gray import coloured_share
from source_codec.source_history.transform import Candidate, Image, Planes, Shapes, rgb_only

_LONGEST_RUN = 15
_CONTEXTS = 3 * 2 * (_LONGEST_RUN + 1)
_MOST_USED = 7 / 8
"""Share of the values between dark and bright that may be in use."""
_LEAST_PIXELS_PER_VALUE = 16
"""In smaller images values are missing by chance."""
_AS_RGB, _THREE_MASKS = 1, 2

Mask = NDArray[np.bool_]


class _RunContexts:
    """Contexts of mask bits: the run that the bit continues or ends, the last channel's bit."""

    def __init__(self) -> None:
        self.before: list[int] = []

    def channel(self) -> _RunContexts:
        self.bits: list[int] = []
        self.run = 0
        return self

    def context(self) -> int:
        hint = self.before[len(self.bits)] if self.before else 2
        last = self.bits[-1] if self.bits else 0
        return (hint * 2 + last) * (_LONGEST_RUN + 1) + min(self.run, _LONGEST_RUN)

    def append(self, bit: int) -> None:
        self.run = self.run + 1 if self.bits and self.bits[-1] == bit else 1
        self.bits.append(bit)
        if len(self.bits) == 256:
            self.before = self.bits


def _encode_masks(masks: tuple[Mask, ...]) -> bytes:
    coder, contexts = new_encoder(_CONTEXTS, capacity=1024), _RunContexts()
    for mask in masks:
        contexts.channel()
        for bit in mask.tolist():
            encode_bit(coder, contexts.context(), int(bit))
            contexts.append(int(bit))
    encoded = finished(coder)
    assert encoded is not None  # 768 bits in few contexts always fit
    return encoded


def _decode_mask(coder: BitCoder, contexts: _RunContexts) -> Mask:
    contexts.channel()
    for _ in range(256):
        contexts.append(decode_bit(coder, contexts.context()))
    return np.array(contexts.bits, dtype=np.bool_)


@dataclass(frozen=True, eq=False)
class SparseValues:
    """Numbers of used values, instead of the values.

    Attributes:
        masks: which of 256 values occur; one mask, or one for each channel.
        as_rgb: whether the image is RGB with three equal channels, and the plane gray.
    """

    masks: tuple[Mask, ...]
    as_rgb: bool

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """Reads the masks, which end the side information."""
        if not side or side[0] > 2:
            raise CorruptStream("unknown kind of value mask")
        coder, contexts = new_decoder(_CONTEXTS, side[1:]), _RunContexts()
        count = 3 if side[0] == _THREE_MASKS else 1
        masks = tuple(_decode_mask(coder, contexts) for _ in range(count))
        check_finished(coder)
        if not all(mask.any() for mask in masks):
            raise CorruptStream("a channel without values")
        return cls(masks, side[0] == _AS_RGB), b""

    def write(self) -> bytes:
        """One byte for the kind, then the coded masks."""
        kind = _AS_RGB * self.as_rgb + _THREE_MASKS * (len(self.masks) == 3)
        return bytes([kind]) + _encode_masks(self.masks)

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """One plane of numbers, with as many channels as there are masks."""
        if self.as_rgb or len(self.masks) == 3:
            rgb_only(channels)
        elif channels != 1:
            raise CorruptStream("one value mask for an image of three channels")
        return ((height, width) if len(self.masks) == 1 else (height, width, 3),)

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """Puts values in place of their numbers."""
        numbers = planes[0].reshape(height, width, len(self.masks))
        values = np.empty_like(numbers)
        for channel, mask in enumerate(self.masks):
            used = np.flatnonzero(mask).astype(np.uint8)
            if int(numbers[..., channel].max()) >= len(used):
                raise CorruptStream("the number of a value that does not occur")
            values[..., channel] = used[numbers[..., channel]]
        if self.as_rgb:
            return np.repeat(values, 3, axis=2)
        return values.reshape(planes[0].shape)

    def describe(self) -> str:
        """How many values are used."""
        used = ", ".join(str(int(mask.sum())) for mask in self.masks)
        return f"{used} used values" + (", gray stored as RGB" if self.as_rgb else "")


def _has_gaps(histogram: NDArray[np.int64]) -> bool:
    """Whether values are missing between the percentiles 1 and 99; rare extremes leave gaps too."""
    cumulative = np.cumsum(histogram)
    first, last = np.searchsorted(cumulative, cumulative[-1] * np.array([0.01, 0.99]))
    span = histogram[first : last + 1]
    used = int(np.count_nonzero(span))
    return used <= _MOST_USED * len(span) and cumulative[-1] >= _LEAST_PIXELS_PER_VALUE * used


def recover_sparse(image: Image) -> list[Candidate]:
    """Numbers of the used values, if many values between the extremes are not used."""
    channels = image.reshape(image.shape[0], image.shape[1], -1)
    histograms = [
        np.bincount(channels[..., c].reshape(-1), minlength=256) for c in range(channels.shape[2])
    ]
    if not any(_has_gaps(histogram) for histogram in histograms):
        return []
    masks = tuple(histogram > 0 for histogram in histograms)
    as_rgb = image.ndim == 3 and coloured_share(image) == 0
    if as_rgb:
        masks, channels = masks[:1], channels[..., :1]
    numbers = np.empty_like(channels)
    for c, mask in enumerate(masks):
        number_of = (np.cumsum(mask) - 1).astype(np.uint8)
        numbers[..., c] = number_of[channels[..., c]]
    plane = numbers[..., 0] if len(masks) == 1 else numbers
    return [Candidate(SparseValues(masks, as_rgb), (np.ascontiguousarray(plane),))]
