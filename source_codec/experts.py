"""Which network looks at a pixel: one expert per phase of the process, and two for small images.

While little of an image is known, a pixel is guessed from far and few neighbours; towards the end
it is interpolated between known ones on all sides. These are different problems, and a step belongs
to one phase as a whole, so each phase has weights of its own: more of them, at no more work per
pixel. Small images have further experts, larger, since there are few pixels to evaluate: one for
the wavefront, where the known pixels always are those above and to the left, and one for the other
orders.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from source_codec.order import Order, is_small, is_wavefront
from source_codec.window import BEHIND, N_DENSITIES, NEAR, WIDE, Window


class Kind(IntEnum):
    """Kinds of denoising steps: of large images, of small ones, and of small ones' wavefronts."""

    LARGE = 0
    SMALL = 1
    WAVEFRONT = 2

    @classmethod
    def of(cls, order: Order, height: int, width: int) -> Kind:
        """The kind of the steps of an image."""
        if is_wavefront(order, height, width):
            return cls.WAVEFRONT
        return cls.SMALL if is_small(height, width) else cls.LARGE


@dataclass(frozen=True)
class Phase:
    """The steps that an expert serves.

    Attributes:
        name: of the expert, in configurations and model files.
        kind: of its steps.
        window: what its network sees around a pixel.
        densities: density classes (:func:`source_codec.features.density_class`) of its steps.
    """

    name: str
    kind: Kind
    window: Window
    densities: range = range(N_DENSITIES)


PHASES = (
    Phase("sparse", Kind.LARGE, WIDE, range(0, 4)),
    Phase("half", Kind.LARGE, NEAR, range(4, 6)),
    Phase("dense", Kind.LARGE, NEAR, range(6, N_DENSITIES)),
    Phase("small", Kind.SMALL, WIDE),
    Phase("wavefront", Kind.WAVEFRONT, BEHIND),
)


def expert_of(density: int, kind: Kind) -> int:
    """Index into :data:`PHASES` of the expert for a step of this density class and kind."""
    for index, phase in enumerate(PHASES):
        if phase.kind == kind and density in phase.densities:
            return index
    raise ValueError(f"no density class {density}")
