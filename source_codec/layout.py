"""How an image is made of parts that the model codes: a tree.

The model codes 8-bit gray and RGB images. Any other image (:mod:`source_codec.composition`), and
any image whose pixels follow from fewer numbers (:mod:`source_codec.source_history`), is
*composed*: a kind, a few bytes of side information, and parts, each of which is again plain or
composed. Plain parts that are graphics may be coded without the model
(:mod:`source_codec.graphics`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from source_codec import composition, source_history
from source_codec.composition import Composed, Kind, PartShape, Samples
from source_codec.errors import CorruptStream
from source_codec.graphics import encode_graphics, is_graphics
from source_codec.picture import Picture
from source_codec.source_history import History, Recovered

Image = NDArray[np.uint8]
PLAIN = 0
GRAPHICS = 32
_WORTHWHILE = 0.97
"""A history is used where its estimated size is below this share of the plain image's."""
_DIFFUSED_SHARE = {1: 0.88, 3: 0.82}
"""What the model takes of a photograph's estimated size, by channels: medians of reduced and other
photographs. Sizes of graphics, which are known, are compared with it."""
_MAX_LEVELS = 5


@dataclass(frozen=True)
class Leaf:
    """A plain image.

    Attributes:
        image: uint8, (H, W) or (H, W, 3).
        drawn: its bytes as graphics, if it may be some.
    """

    image: Image
    drawn: bytes | None = None


@dataclass(frozen=True)
class Layout:
    """A node of the tree: a plain image, or a composed one with its parts.

    Attributes:
        shape: of the image.
        kind: :data:`PLAIN`, :data:`GRAPHICS` (plain, but not coded with the model), a
            :class:`source_codec.source_history.History` (below 16), or a
            :class:`source_codec.composition.Kind`.
        side: side information of a composed image.
        parts: its parts.
    """

    shape: PartShape
    kind: int = PLAIN
    side: bytes = b""
    parts: tuple[Layout, ...] = ()

    @property
    def is_leaf(self) -> bool:
        """Whether the image is coded itself, not its parts."""
        return self.kind in (PLAIN, GRAPHICS)

    def leaves(self) -> list[Layout]:
        """The plain images of the tree, in coding order."""
        if self.is_leaf:
            return [self]
        return [leaf for part in self.parts for leaf in part.leaves()]

    def with_leaves(self, kinds: Iterator[int]) -> Layout:
        """The same tree with other kinds of plain images."""
        if self.is_leaf:
            return replace(self, kind=next(kinds))
        return replace(self, parts=tuple(part.with_leaves(kinds) for part in self.parts))

    def nodes(self) -> Iterator[Layout]:
        """The composed images of the tree, from the whole to the parts."""
        if not self.is_leaf:
            yield self
            for part in self.parts:
                yield from part.nodes()

    def describe_history(self) -> str:
        """The source histories used, for people."""
        found = [
            source_history.describe(History(node.kind), node.side)
            for node in self.nodes()
            if node.kind < Kind.ALPHA
        ]
        return "; ".join(found) or "none"

    def describe_composition(self) -> str:
        """What the image has besides 8-bit gray or RGB, for people."""
        found = [
            composition.describe(Kind(node.kind), node.side)
            for node in self.nodes()
            if node.kind >= Kind.ALPHA
        ]
        return "; ".join(found) or "plain"

    def describe_coding(self) -> str:
        """How the plain images are coded, for people."""
        modes = [
            "copied or predicted in raster order" if leaf.kind == GRAPHICS else "masked diffusion"
            for leaf in self.leaves()
        ]
        return "; ".join(modes)


def compose(picture: Picture, histories: bool) -> tuple[Layout, list[Leaf]]:
    """The layout in which a picture is coded, and the plain images of its leaves.

    Args:
        picture: any picture.
        histories: whether to look for source histories of its 8-bit parts.

    Raises:
        ValueError: the palette or the metadata do not go with the pixels.
    """
    pixels, inner = picture.pixels, picture.palette
    wrapped = composition.wrap_metadata(pixels, picture.metadata)
    if wrapped is not None:
        layout, leaves = compose(Picture(pixels, inner), histories)
        return Layout(PartShape.of(pixels), Kind.METADATA, wrapped.side, (layout,)), leaves
    if inner is not None:
        return _of_parts(pixels, composition.split_palette(cast(Image, pixels), inner), False)
    split = composition.split(pixels)
    if split is not None:
        return _of_parts(pixels, split, histories)
    return _plain(cast(Image, pixels), histories)


def _of_parts(image: Samples, composed: Composed, histories: bool) -> tuple[Layout, list[Leaf]]:
    parts = [compose(Picture(part), histories) for part in composed.parts]
    layout = Layout(
        PartShape.of(image), composed.kind, composed.side, tuple(part for part, _ in parts)
    )
    return layout, [leaf for _, leaves in parts for leaf in leaves]


def _leaf(image: Image) -> Leaf:
    return Leaf(image, encode_graphics(image) if is_graphics(image) else None)


def _plain(image: Image, histories: bool) -> tuple[Layout, list[Leaf]]:
    """An 8-bit gray or RGB image: as it is, or what it was made from."""
    whole = _leaf(image)
    candidates = source_history.recover(image) if histories else []
    if candidates:
        best = candidates[0]
        leaves = [_leaf(plane) for plane in best.planes]
        if _pays(best, leaves, whole):
            parts = tuple(Layout(PartShape.of(plane)) for plane in best.planes)
            return Layout(PartShape.of(image), int(best.history), best.side, parts), leaves
    return Layout(PartShape.of(image)), [whole]


def _pays(found: Recovered, leaves: list[Leaf], whole: Leaf) -> bool:
    """Whether the planes of a history promise to be smaller than the image."""
    # Equal channels are left out in any case: two thirds of the values need no coding.
    if found.history == History.GRAY and not found.side:
        return True
    bits = 8 * len(found.side) + sum(_promised_bits(leaf) for leaf in leaves)
    return bits < _WORTHWHILE * _promised_bits(whole)


def _promised_bits(leaf: Leaf) -> float:
    """Size of a plain image: of graphics the real one, of others an estimate."""
    if leaf.drawn is not None:
        return 8.0 * len(leaf.drawn)
    channels = 1 if leaf.image.ndim == 2 else 3
    return _DIFFUSED_SHARE[channels] * source_history.estimated_bits((leaf.image,))


def join(layout: Layout, leaves: Iterator[Image]) -> Samples:
    """The pixels from the plain images of the leaves, in coding order.

    Raises:
        CorruptStream: the side information does not go with the parts.
    """
    if layout.is_leaf:
        return next(leaves)
    parts = tuple(join(part, leaves) for part in layout.parts)
    height, width, channels, depth = _sizes(layout.shape)
    image: Samples
    if layout.kind >= Kind.ALPHA:
        kind = Kind(layout.kind)
        image = composition.join(kind, parts, layout.side, height, width, channels, depth)
    else:
        planes = cast(tuple[Image, ...], parts)
        history = History(layout.kind)
        image = source_history.regenerate(history, planes, layout.side, height, width)
    if PartShape.of(image) != layout.shape:
        raise CorruptStream("the parts make an image of another shape")
    return image


def picture_of(layout: Layout, pixels: Samples) -> Picture:
    """The decoded pixels with the palette and metadata of their layout.

    Raises:
        CorruptStream: malformed side information.
    """
    metadata, palette = composition.Metadata(), None
    for node in layout.nodes():
        if node.kind == Kind.METADATA:
            metadata = composition.unwrap_metadata(node.side)
        elif node.kind == Kind.PALETTE:
            palette = composition.read_palette(node.side)
    return Picture(pixels, palette, metadata)


def part_shapes(kind: int, side: bytes, shape: PartShape) -> tuple[PartShape, ...]:
    """Shapes of the parts of a composed image, from its side information.

    Raises:
        CorruptStream: unknown kind, or malformed side information.
    """
    height, width, channels, depth = _sizes(shape)
    try:
        if kind >= Kind.ALPHA:
            return composition.part_shapes(Kind(kind), side, height, width, channels, depth)
        history = History(kind)
    except ValueError as error:
        raise CorruptStream(f"unknown composition {kind}") from error
    if depth != 8:
        raise CorruptStream("a source history of an image of 16 bits")
    found = source_history.plane_shapes(history, side, height, width, channels)
    return tuple(PartShape(s[0], s[1], 3 if len(s) == 3 else 1, 8) for s in found)


def check_plain(shape: PartShape) -> None:
    """Refuses a plain part that cannot be coded.

    Raises:
        CorruptStream: neither gray nor RGB, or not of 8 bits.
    """
    if shape.channels not in (1, 3) or shape.depth != 8:
        raise CorruptStream("a plain part is neither gray nor RGB of 8 bits")


def check_level(level: int) -> None:
    """Refuses trees that are deeper than any encoder makes them.

    Raises:
        CorruptStream: the tree is too deep.
    """
    if level > _MAX_LEVELS:
        raise CorruptStream("the image is composed of too many levels")


def _sizes(shape: PartShape) -> tuple[int, int, int, int]:
    return shape.height, shape.width, shape.channels, shape.depth
