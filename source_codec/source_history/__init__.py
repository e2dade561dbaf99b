"""Source histories: whole numbers from which an image's pixels follow exactly.

Many images were something else before they were RGB: a Photo CD's luma and half-resolution chroma,
gray, a picture of fewer values or fewer pixels. If those numbers can be recovered, they are coded
instead of the pixels, and the few pixels that do not follow from them as exceptions.
"""

from source_codec.source_history.cost import estimated_bits
from source_codec.source_history.recovery import (
    Recovered,
    describe,
    plane_shapes,
    recover,
    regenerate,
)
from source_codec.source_history.transform import History

__all__ = [
    "History",
    "Recovered",
    "describe",
    "estimated_bits",
    "plane_shapes",
    "recover",
    "regenerate",
]
