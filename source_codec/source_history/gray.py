"""Gray images stored as RGB."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from source_codec.source_history.transform import Candidate, Image, Planes, Shapes, rgb_only

_PROBES = 64
_MOST_COLOURED = 1 / 64
"""Share of pixels that may have colour and become exceptions."""


@dataclass(frozen=True)
class GrayAsRgb:
    """Three equal channels from one plane."""

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """There are no parameters."""
        return cls(), side

    def write(self) -> bytes:
        """No bytes."""
        return b""

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """One gray plane of the image's size."""
        rgb_only(channels)
        return ((height, width),)

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """The plane in all three channels."""
        return np.repeat(planes[0][..., None], 3, axis=2)

    def describe(self) -> str:
        """Its name."""
        return "gray stored as RGB"


def coloured_share(image: Image) -> float:
    """Share of the pixels, (h, w, 3), whose channels differ."""
    return float((image != image[..., 1:2]).any(axis=2).mean())


def is_gray(image: Image) -> bool:
    """Whether the channels of an image, (h, w, 3), are the same nearly everywhere."""
    row_step, column_step = (max(1, side // _PROBES) for side in image.shape[:2])
    probes = image[::row_step, ::column_step]  # first: they suffice for most images
    return all(coloured_share(part) <= _MOST_COLOURED for part in (probes, image))


def recover_gray(image: Image) -> list[Candidate]:
    """The green channel, if the image is gray."""
    if image.ndim != 3 or not is_gray(image):
        return []
    return [Candidate(GrayAsRgb(), (np.ascontiguousarray(image[..., 1]),))]
