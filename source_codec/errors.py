"""Errors of the source codec."""


class CodecError(Exception):
    """Base of everything the source codec raises on purpose."""


class CorruptStream(CodecError):  # noqa: N818 (the public name)
    """The bytes are not an undamaged ``.ddm`` stream: foreign, truncated, altered or hostile."""


class UnsupportedStream(CorruptStream):
    """A ``.ddm`` stream of a format version or model that this installation does not have."""


class UnsupportedImage(CodecError):  # noqa: N818
    """An image that the codec does not take: wrong type, bit depth, channels or size."""


class ModelError(CodecError):
    """A model file is damaged, inconsistent, or computes wrong results on this machine."""
