"""Decoded JPEG images and video frames: their luma and chroma planes before conversion to RGB.

The search is for the decoder's integers, not for the file's coefficients: it undoes colour
conversion and chroma upsampling, and needs to know nothing of quantisation.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.chroma_upsampling import (
    AXES,
    UPSAMPLINGS,
    Upsampling,
    fitted_samples,
)
from source_codec.source_history.clipped_chroma import settle_clipped
from source_codec.source_history.colour_law import (
    ColourLaw,
    evidence_of,
    is_plausible,
    smooth_luma,
    to_rgb,
    ycbcr,
)
from source_codec.source_history.gray import is_gray
from source_codec.source_history.transform import Candidate, Image, Planes, Shapes, rgb_only

Plane = NDArray[np.uint8]
Mask = NDArray[np.bool_]

_LAWS = (
    ("BT.601 full range, as JPEG", ycbcr(0.299, 0.114, video_range=False)),
    ("BT.709 full range", ycbcr(0.2126, 0.0722, video_range=False)),
    ("BT.601 video range", ycbcr(0.299, 0.114, video_range=True)),
    ("BT.709 video range", ycbcr(0.2126, 0.0722, video_range=True)),
)
_TRIAL_SIDE = 96
_TRIAL_SHARE = 0.88
"""Share of a trial area that an upsampling must explain; wrong ones leave a quarter or so."""


def _trial_area(cb: Plane, cr: Plane) -> tuple[slice, slice]:
    """The area, of a few on a grid, with the most varied chroma."""
    height, width = cb.shape
    areas = [
        (slice(top, top + _TRIAL_SIDE), slice(left, left + _TRIAL_SIDE))
        for top in np.linspace(0, max(height - _TRIAL_SIDE, 0), 4).astype(int) // 2 * 2
        for left in np.linspace(0, max(width - _TRIAL_SIDE, 0), 4).astype(int) // 2 * 2
    ]
    return max(areas, key=lambda area: float(np.var(cb[area]) + np.var(cr[area])))


def find_upsampling(cb: Plane, cr: Plane, certain: Mask) -> Upsampling:
    """The upsampling from the fewest samples that explains an area of both planes.

    All are tried with a rough fit, and the best of each number of halved axes with a good one.
    """
    area = _trial_area(cb, cr)
    known = certain[area]
    if not known.any():
        return Upsampling()

    def share(upsampling: Upsampling, rounds: int) -> float:
        shares = []
        for plane in (cb[area], cr[area]):
            samples = fitted_samples(plane, known, upsampling, rounds)
            explained = upsampling.enlarge(samples, *plane.shape) == plane
            shares.append(float(explained[known].mean()))
        return min(shares)

    both = [Upsampling(rows, columns) for rows in AXES[1:] for columns in AXES[1:]]
    one = [Upsampling(columns=axis) for axis in AXES[1:]] + [Upsampling(axis) for axis in AXES[1:]]
    for trials in (both, one):
        best = max(trials, key=lambda trial: share(trial, 0))
        if share(best, 4) >= _TRIAL_SHARE:
            return best
    return Upsampling()


@dataclass(frozen=True)
class YCbCr:
    """Luma and chroma planes, the latter perhaps of half resolution, to RGB.

    Attributes:
        law: number of the conversion to RGB.
        upsampling: how chroma planes are enlarged first.
    """

    law: int
    upsampling: Upsampling

    @classmethod
    def read(cls, side: bytes) -> tuple[Self, bytes]:
        """Reads the conversion and the upsampling."""
        if not side or side[0] >= len(_LAWS) * UPSAMPLINGS:
            raise CorruptStream("unknown kind of YCbCr")
        law, upsampling = divmod(side[0], UPSAMPLINGS)
        return cls(law, Upsampling.from_code(upsampling)), side[1:]

    def write(self) -> bytes:
        """One byte for both."""
        return bytes([self.law * UPSAMPLINGS + self.upsampling.code()])

    def plane_shapes(self, height: int, width: int, channels: int) -> Shapes:
        """Luma of the image's size, then two chroma planes."""
        rgb_only(channels)
        chroma = self.upsampling.shape(height, width)
        return (height, width), chroma, chroma

    def to_image(self, planes: Planes, height: int, width: int) -> Image:
        """Enlarges chroma and converts to RGB."""
        cb, cr = (self.upsampling.enlarge(plane, height, width) for plane in planes[1:])
        image: Image = to_rgb(_LAWS[self.law][1], planes[0], cb, cr)
        return image

    def describe(self) -> str:
        """Conversion and upsampling."""
        return f"YCbCr, {_LAWS[self.law][0]}, {self.upsampling.describe()}"


def recover_ycbcr(image: Image) -> list[Candidate]:
    """The planes of an image that looks like a decoded JPEG file or a frame of video."""
    if image.ndim != 3 or min(image.shape[:2]) < 4 or is_gray(image):
        return []
    for number, (_, law) in enumerate(_LAWS):
        if is_plausible(law, image):
            return [_recover(number, law, image)]
    return []


def _recover(number: int, law: ColourLaw, image: Image) -> Candidate:
    evidence = evidence_of(law, image)
    upsampling = find_upsampling(evidence.c1, evidence.c2, evidence.certain)
    cb = fitted_samples(evidence.c1, evidence.certain, upsampling)
    cr = fitted_samples(evidence.c2, evidence.certain, upsampling)
    settle_clipped(law, evidence, upsampling, cb, cr)
    full = [upsampling.enlarge(plane, *image.shape[:2]) for plane in (cb, cr)]
    luma = smooth_luma(law, image, *full)
    return Candidate(YCbCr(number, upsampling), (luma, cb, cr))
