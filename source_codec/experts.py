"""Which network looks at a pixel: one expert per phase of the process, and one for small images.

While little of an image is known, a pixel is guessed from far and few neighbours; towards the end
it is interpolated between known ones on all sides. These are different problems, and a step belongs
to one phase as a whole, so each phase has weights of its own: more of them, at no more work per
pixel. Small images have a further expert, larger, since there are few pixels to evaluate.
"""

from __future__ import annotations

from dataclasses import dataclass

from source_codec.features import N_DENSITIES


@dataclass(frozen=True)
class Phase:
    """The steps that an expert serves.

    Attributes:
        name: of the expert, in configurations and model files.
        small: whether it serves small images, else all others.
        densities: density classes (:func:`source_codec.features.density_class`) of its steps.
    """

    name: str
    small: bool
    densities: range


PHASES = (
    Phase("sparse", False, range(0, 4)),
    Phase("half", False, range(4, 6)),
    Phase("dense", False, range(6, N_DENSITIES)),
    Phase("small", True, range(N_DENSITIES)),
)


def expert_of(density: int, small: bool) -> int:
    """Index into :data:`PHASES` of the expert for a step of this density class."""
    for index, phase in enumerate(PHASES):
        if phase.small == small and density in phase.densities:
            return index
    raise ValueError(f"no density class {density}")
