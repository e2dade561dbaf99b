"""Finding source histories, and going back from planes to pixels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.cost import estimated_bits
from source_codec.source_history.enlarged import Enlarged, recover_enlarged
from source_codec.source_history.exceptions import (
    apply_exceptions,
    encode_exceptions,
)
from source_codec.source_history.gray import GrayAsRgb, recover_gray
from source_codec.source_history.photo_cd import PhotoCd, recover_photo_cd
from source_codec.source_history.sparse import SparseValues, recover_sparse
from source_codec.source_history.transform import (
    Candidate,
    History,
    Image,
    Planes,
    Transform,
)
from source_codec.source_history.ycbcr import YCbCr, recover_ycbcr

_TRANSFORMS: dict[History, type[Transform]] = {
    History.PHOTO_YCC: PhotoCd,
    History.YCBCR: YCbCr,
    History.GRAY: GrayAsRgb,
    History.SPARSE: SparseValues,
    History.ENLARGED: Enlarged,
}
_SEARCHES: dict[History, Callable[[Image], list[Candidate]]] = {
    History.PHOTO_YCC: recover_photo_cd,
    History.YCBCR: recover_ycbcr,
    History.GRAY: recover_gray,
    History.SPARSE: recover_sparse,
    History.ENLARGED: recover_enlarged,
}


@dataclass(frozen=True)
class Recovered:
    """Planes from which an image follows exactly.

    Attributes:
        history: how the pixels came about.
        planes: uint8, each (h, w) or (h, w, 3), to be coded as images are.
        side: parameters and exceptions, entropy coded.
    """

    history: History
    planes: tuple[NDArray[np.uint8], ...]
    side: bytes


def recover(image: NDArray[np.uint8]) -> list[Recovered]:
    """Histories with which an image can be regenerated exactly.

    Every candidate has been regenerated and compared with the image. Whether one is smaller than
    the image itself is for the caller to judge: see :func:`estimated_bits`.

    Args:
        image: uint8, (H, W, 3) or (H, W).

    Returns:
        Candidates, the one with the smallest estimate first; none for most photographs.
    """
    image = np.ascontiguousarray(image)
    height, width = image.shape[:2]
    found = []
    for history, search in _SEARCHES.items():
        for candidate in search(image):
            regenerated = candidate.transform.to_image(candidate.planes, height, width)
            exceptions = encode_exceptions(image, regenerated)
            if exceptions is None:
                continue
            side = candidate.transform.write() + exceptions
            recovered = Recovered(history, candidate.planes, side)
            if np.array_equal(regenerate(history, candidate.planes, side, height, width), image):
                found.append(recovered)
    if len(found) > 1:
        found.sort(key=lambda one: estimated_bits(one.planes) + 8 * len(one.side))
    return found


def _read(history: History, side: bytes) -> tuple[Transform, bytes]:
    """A transform with its parameters, and the coded exceptions."""
    if history not in _TRANSFORMS:
        raise CorruptStream(f"source history {int(history)} has no planes")
    return _TRANSFORMS[history].read(side)


def plane_shapes(
    history: History, side: bytes, height: int, width: int, channels: int
) -> tuple[tuple[int, ...], ...]:
    """Shapes of the planes that a decoder must expect.

    Args:
        history: as in :class:`Recovered`.
        side: likewise.
        height, width, channels: of the image; one channel or three.

    Returns:
        For each plane (h, w) or (h, w, 3); no plane is larger than the image by more than a
        sample along each axis.

    Raises:
        CorruptStream: malformed side information, or a history that such an image cannot have.
    """
    transform, _ = _read(history, side)
    return transform.plane_shapes(height, width, channels)


def regenerate(
    history: History, planes: Planes, side: bytes, height: int, width: int
) -> NDArray[np.uint8]:
    """The image from its planes; the work is linear in the pixels, whatever the input.

    Args:
        history: as in :class:`Recovered`.
        planes: likewise, with the shapes that :func:`plane_shapes` gives.
        side: likewise.
        height, width: of the image.

    Returns:
        uint8, (height, width, 3) or (height, width).

    Raises:
        CorruptStream: malformed side information, or planes that do not go with it.
    """
    transform, exceptions = _read(history, side)
    if not _suit(transform, planes, height, width):
        raise CorruptStream("the planes are not those of the source history")
    contiguous = tuple(np.ascontiguousarray(plane) for plane in planes)
    return apply_exceptions(transform.to_image(contiguous, height, width), exceptions)


def _suit(transform: Transform, planes: Planes, height: int, width: int) -> bool:
    shapes = tuple(plane.shape for plane in planes)
    for channels in (1, 3):
        try:
            if transform.plane_shapes(height, width, channels) == shapes:
                return True
        except CorruptStream:
            continue
    return False


def describe(history: History, side: bytes) -> str:
    """One line for people, such as ``PhotoCD YCC, chroma 2x2, lattice phase (0, 1)``.

    Raises:
        CorruptStream: malformed side information.
    """
    if history == History.NONE:
        return "none known"
    transform, exceptions = _read(history, side)
    bytes_spent = f", {len(exceptions)} bytes of exceptions" if exceptions else ""
    return transform.describe() + bytes_spent
