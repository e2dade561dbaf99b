"""How an image is made of parts that the model codes: a tree.

The model codes 8-bit gray and RGB images. Any other image, and any image whose pixels follow from
fewer numbers (:mod:`source_codec.source_history`), is *composed*: a kind, a few bytes of side
information, and parts, each of which is again plain or composed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history import (
    History,
    estimated_bits,
    plane_shapes,
    recover,
    regenerate,
)
from source_codec.source_history import (
    describe as describe_history,
)

Image = NDArray[np.uint8]
PLAIN = 0
_WORTHWHILE = 0.97
"""A history is used where its estimated size is below this share of the plain image's."""
_MAX_LEVELS = 4


class Shape(NamedTuple):
    """Size of an image or part: one channel (gray) or three."""

    height: int
    width: int
    channels: int

    @property
    def pixels(self) -> int:
        """Height times width."""
        return self.height * self.width

    @classmethod
    def of(cls, image: Image) -> Shape:
        """The shape of uint8 (H, W) or (H, W, 3)."""
        return cls(image.shape[0], image.shape[1], 1 if image.ndim == 2 else image.shape[2])


@dataclass(frozen=True)
class Layout:
    """A node of the tree: a plain image, or a composed one with its parts.

    Attributes:
        shape: of the image.
        kind: :data:`PLAIN`, or a :class:`source_codec.source_history.History`.
        side: side information of a composed image.
        parts: its parts.
    """

    shape: Shape
    kind: int = PLAIN
    side: bytes = b""
    parts: tuple[Layout, ...] = ()

    def leaves(self) -> list[Shape]:
        """Shapes of the plain images of the tree, in coding order."""
        if self.kind == PLAIN:
            return [self.shape]
        return [leaf for part in self.parts for leaf in part.leaves()]

    def describe(self) -> str:
        """One line for people."""
        if self.kind == PLAIN:
            return "none"
        return describe_history(History(self.kind), self.side)


def compose(image: Image, histories: bool) -> tuple[Layout, list[Image]]:
    """The layout in which an image is coded, and the plain images of its leaves.

    Args:
        image: uint8 (H, W) or (H, W, 3).
        histories: whether to look for a source history.
    """
    shape = Shape.of(image)
    if histories:
        candidates = recover(image)
        if candidates:
            best = candidates[0]
            cost = estimated_bits(best.planes) + 8 * len(best.side)
            # Equal channels are left out in any case: two thirds of the values need no coding.
            free = best.history == History.GRAY and not best.side
            if free or cost < _WORTHWHILE * estimated_bits((image,)):
                parts = tuple(Layout(Shape.of(plane)) for plane in best.planes)
                return Layout(shape, int(best.history), best.side, parts), list(best.planes)
    return Layout(shape), [image]


def join(layout: Layout, leaves: Iterator[Image]) -> Image:
    """The image from the plain images of its leaves, in coding order.

    Raises:
        CorruptStream: the side information does not go with the parts.
    """
    if layout.kind == PLAIN:
        return next(leaves)
    parts = tuple(join(part, leaves) for part in layout.parts)
    height, width, channels = layout.shape
    image = regenerate(History(layout.kind), parts, layout.side, height, width)
    if Shape.of(image) != layout.shape:
        raise CorruptStream(f"the parts make an image of {channels} channels less or more")
    return image


def part_shapes(kind: int, side: bytes, shape: Shape) -> tuple[Shape, ...]:
    """Shapes of the parts of a composed image, from its side information.

    Raises:
        CorruptStream: unknown kind, or malformed side information.
    """
    try:
        history = History(kind)
    except ValueError as error:
        raise CorruptStream(f"unknown composition {kind}") from error
    found = plane_shapes(history, side, *shape)
    return tuple(Shape(s[0], s[1], 3 if len(s) == 3 else 1) for s in found)


def check_level(level: int) -> None:
    """Refuses trees that are deeper than any encoder makes them.

    Raises:
        CorruptStream: the tree is too deep.
    """
    if level > _MAX_LEVELS:
        raise CorruptStream("the image is composed of too many levels")
