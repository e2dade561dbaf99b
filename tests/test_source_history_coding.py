"""The entropy coder of side information, and exceptions."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from source_codec.errors import CorruptStream
from source_codec.source_history.binary_coding import (
    check_finished,
    decode_bit,
    encode_bit,
    finished,
    new_decoder,
    new_encoder,
)
from source_codec.source_history.exceptions import apply_exceptions, encode_exceptions

Image = NDArray[np.uint8]


def encoded(bits: list[int], contexts: list[int], capacity: int = 10_000) -> bytes | None:
    coder = new_encoder(4, capacity)
    for bit, context in zip(bits, contexts, strict=True):
        encode_bit(coder, context, bit)
    return finished(coder)


@pytest.mark.parametrize("seed", range(20))
def test_bits_come_back(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(0, 3000))
    contexts = generator.integers(0, 4, count)
    shares = generator.choice([0.001, 0.02, 0.5, 0.999], 4)
    bits = (generator.random(count) < shares[contexts]).astype(int)
    data = encoded(bits.tolist(), contexts.tolist())
    assert data is not None
    coder = new_decoder(4, data)
    assert [decode_bit(coder, context) for context in contexts.tolist()] == bits.tolist()
    check_finished(coder)
    probability = np.clip(shares[contexts], 1e-9, 1)
    ideal = -np.log2(np.where(bits == 1, probability, 1 - probability)).sum()
    assert 8 * len(data) < ideal + 60


@pytest.mark.parametrize(
    ("bits", "data"),
    [  # worked out by hand: half of the range for each first bit, then a quarter
        ([], b""),
        ([0] * 1000, b""),
        ([1], b"\x80"),
        ([1, 0], b"\x80"),
        ([0, 1], b"\x60"),
    ],
)
def test_short_sequences(bits: list[int], data: bytes) -> None:
    assert encoded(bits, [0] * len(bits)) == data


def test_out_of_space() -> None:
    bits = np.random.default_rng(0).integers(0, 2, 1000).tolist()
    assert encoded(bits, [0] * 1000, capacity=100) is None
    assert encoded(bits, [0] * 1000, capacity=140) is not None


@pytest.mark.parametrize("data", [b"\x80\0", b"\x80" + b"\1" * 9])
def test_superfluous_bytes(data: bytes) -> None:
    coder = new_decoder(1, data)
    decode_bit(coder, 0)
    with pytest.raises(CorruptStream):
        check_finished(coder)


def pair(shape: tuple[int, ...], share: float, seed: int) -> tuple[Image, Image]:
    generator = np.random.default_rng(seed)
    image = generator.integers(0, 256, shape, dtype=np.uint8)
    other = image.copy()
    changed = generator.random(shape[:2]) < share
    other[changed] = generator.integers(0, 256, other[changed].shape)
    return image, other


@pytest.mark.parametrize("shape", [(40, 50, 3), (40, 50), (1, 1, 3), (1, 7), (9, 1, 3)])
@pytest.mark.parametrize("share", [0.0, 0.002, 0.02])
def test_exceptions_restore_the_image(shape: tuple[int, ...], share: float) -> None:
    image, other = pair(shape, share, seed=1)
    data = encode_exceptions(image, other)
    assert data is not None
    assert (data == b"") == np.array_equal(image, other)
    np.testing.assert_array_equal(apply_exceptions(other, data), image)


def test_one_exception_takes_few_bytes() -> None:
    image, _ = pair((64, 64, 3), 0, seed=2)
    other = image.copy()
    other[30, 40, 1] ^= 3
    data = encode_exceptions(image, other)
    assert data is not None
    assert len(data) <= 5


def test_too_many_exceptions_are_refused() -> None:
    image, other = pair((40, 50, 3), 1, seed=3)
    assert encode_exceptions(image, other) is None


def test_more_exceptions_than_bits() -> None:
    image, _ = pair((64, 64, 3), 0, seed=4)
    with pytest.raises(CorruptStream):
        apply_exceptions(image, b"\xff\xff\xff\xff")
