"""The range coder: against intervals in unbounded integers, and against another implementation."""

import constriction
import numpy as np
import pytest
from numpy.typing import NDArray

from source_codec.range_coder import TOTAL, RangeDecoders, RangeEncoders, narrowed, unit_at

Symbols = tuple[NDArray[np.int32], NDArray[np.int32]]


def random_intervals(rng: np.random.Generator, n: int) -> Symbols:
    """Sizes from one unit to nearly all of them, anywhere."""
    size = np.floor(2.0 ** rng.uniform(0, 24, n)).astype(np.int64)
    size[rng.random(n) < 0.2] = TOTAL - 1
    first = np.floor(rng.random(n) * (TOTAL - size + 1)).astype(np.int64)
    return first.astype(np.int32), size.astype(np.int32)


class Encoder:
    """The second of two messages, of which the first gets other symbols in between."""

    def __init__(self) -> None:
        self.encoders = RangeEncoders(2)
        self._rng = np.random.default_rng(99)

    def encode(self, first: NDArray[np.int32], size: NDArray[np.int32]) -> None:
        other = random_intervals(self._rng, 5)
        starts = np.array([0, 5, 5 + len(first)], dtype=np.int32)
        symbols = [np.concatenate(both) for both in zip(other, (first, size), strict=True)]
        self.encoders.encode(np.arange(2, dtype=np.int32), starts, *symbols)

    @property
    def bits(self) -> int:
        return self.encoders.bits(1)

    def finished(self) -> bytes:
        return self.encoders.finished(1)


def decode(message: bytes, first: NDArray[np.int32], size: NDArray[np.int32]) -> bool:
    """Whether each unit that the decoder finds lies in the interval that was coded."""
    decoders = RangeDecoders([b"another", message])
    words = decoders.words[decoders.bounds[1] :]
    position, width, read = decoders.states[1, 0], decoders.states[1, 1], int(decoders.states[1, 2])
    for one, length in zip(first.tolist(), size.tolist(), strict=True):
        if not one <= unit_at(position, width) < one + length:
            return False
        position, width, read = narrowed(position, width, read, words, one, length)
        position, width = np.uint64(position), np.uint64(width)
    decoders.states[1] = position, width, read
    return decoders.complete[1]


def exact_interval(first: NDArray[np.int32], size: NDArray[np.int32]) -> tuple[int, int, int]:
    """A range coder in unbounded integers: state of 64 bits, words of 32 bits.

    Returns:
        ``(low, width, words)``: any number in [low, low + width) over 2^(64 + 32 words) identifies
        the symbols.
    """
    low, width, words = 0, (1 << 64) - 1, 0
    for one, length in zip(first.tolist(), size.tolist(), strict=True):
        unit = width >> 24
        low += unit * one
        width = unit * length
        while width < 1 << 32:
            low, width, words = low << 32, width << 32, words + 1
    return low, width, words


@pytest.mark.parametrize("count", [1, 2, 3, 10, 3000])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_words_are_a_number_in_the_interval(seed: int, count: int) -> None:
    symbols = random_intervals(np.random.default_rng(seed), count)
    encoder = Encoder()
    for part in np.array_split(np.arange(count), 3):  # in several calls
        encoder.encode(symbols[0][part], symbols[1][part])
    found = encoder.finished()
    low, width, words = exact_interval(*symbols)
    bits = 32 * words + 64
    number = int.from_bytes(found, "big") << bits - 8 * len(found)
    assert low <= number < low + width
    if len(found) > 4 * words:  # one byte less would not do
        unit = 1 << bits - 8 * (len(found) - 1)
        assert -(-low // unit) * unit >= low + width
    assert decode(found, *symbols)
    ideal = (24 - np.log2(symbols[1])).sum()
    assert ideal - 1 <= encoder.bits <= ideal + 1 + 0.001 * count


def test_carries_run_through_many_words() -> None:
    """A number just below a word's end, for long, then above it."""
    first = np.full(300, TOTAL - 1, dtype=np.int32)
    size = np.ones(300, dtype=np.int32)
    for tail in (0, TOTAL - 1):
        first[-1] = tail
        encoder = Encoder()
        encoder.encode(first, size)
        assert decode(encoder.finished(), first, size)


def test_same_words_as_constriction() -> None:
    """An independent implementation, with probabilities that it takes exactly.

    Its model adds one to each of 16 whole numbers that sum to 2^24 - 16. It ends otherwise: the
    last two words are not compared.
    """
    rng = np.random.default_rng(5)
    shares = rng.dirichlet(np.full(16, 0.1), 5000)
    entries = np.floor(shares * (TOTAL - 16)).astype(np.int64)
    entries[:, 3] += TOTAL - 16 - entries.sum(axis=1)
    symbols = np.where(rng.random(5000) < 0.9, entries.argmax(axis=1), rng.integers(16, size=5000))
    reference = constriction.stream.queue.RangeEncoder()
    model = constriction.stream.model.Categorical(perfect=False)
    reference.encode(symbols.astype(np.int32), model, entries.astype(np.float32))
    starts = np.cumsum(entries + 1, axis=1) - (entries + 1)
    rows = np.arange(5000)
    encoder = Encoder()
    encoder.encode(
        starts[rows, symbols].astype(np.int32), (entries[rows, symbols] + 1).astype(np.int32)
    )
    expected = reference.get_compressed()
    settled = expected[:-2].astype(">u4").tobytes()
    assert encoder.finished().startswith(settled)
    assert len(encoder.finished()) - len(settled) <= 8


def test_several_runs_of_a_message_in_one_call() -> None:
    """More words than there is room for at first, for the first of two messages."""
    size = np.ones(600, dtype=np.int32)
    first = np.arange(600, dtype=np.int32)
    starts = np.array([0, 250, 500, 600], dtype=np.int32)
    encoders, alone = RangeEncoders(2), RangeEncoders(2)
    encoders.encode(np.array([0, 0, 1], dtype=np.int32), starts, first, size)
    for message, part in ((0, slice(0, 500)), (1, slice(500, 600))):
        whole = np.array([0, part.stop - part.start], dtype=np.int32)
        alone.encode(np.array([message], dtype=np.int32), whole, first[part], size[part])
    assert [encoders.finished(m) for m in range(2)] == [alone.finished(m) for m in range(2)]


def test_nothing_coded() -> None:
    assert RangeEncoders(1).finished(0) == b""
    assert RangeDecoders([b""]).complete == [True]


def test_words_that_no_encoder_wrote() -> None:
    """The last few numbers of 64 bits belong to no symbol."""
    decoders = RangeDecoders([b"\xff" * 8])
    assert unit_at(decoders.states[0, 0], decoders.states[0, 1]) == TOTAL


def test_bytes_left_over_are_noticed() -> None:
    symbols = random_intervals(np.random.default_rng(6), 50)
    encoder = Encoder()
    encoder.encode(*symbols)
    message = encoder.finished()
    assert decode(message, *symbols)
    for left_over in (b"\0", b"\1", b"\xff\xff\xff\xff", bytes(8)):
        assert not decode(message + left_over, *symbols)
    assert not decode(message[:-1], *symbols)
