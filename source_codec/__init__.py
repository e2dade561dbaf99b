"""Lossless image coding with a masked-diffusion model, in integers from weights to bits.

Examples:
    >>> import numpy as np
    >>> from source_codec import Codec
    >>> codec = Codec.load()
    >>> stream = codec.encode(np.zeros((8, 8), dtype=np.uint8))
    >>> int(codec.decode(stream).sum())
    0
"""

from source_codec.codec import Codec
from source_codec.container import Header, read_header
from source_codec.errors import (
    CodecError,
    CorruptStream,
    ModelError,
    UnsupportedImage,
    UnsupportedStream,
)
from source_codec.order import Order
from source_codec.process import Process
from source_codec.schedule import Schedule

__all__ = [
    "Codec",
    "CodecError",
    "CorruptStream",
    "Header",
    "ModelError",
    "Order",
    "Process",
    "Schedule",
    "UnsupportedImage",
    "UnsupportedStream",
    "read_header",
]
