"""Probabilities of bits by logistic mixing of adaptive contexts, in integers.

After M. Mahoney: "Adaptive weighing of context models for lossless data compression", Florida
Institute of Technology, Technical Report CS-2005-16, 2005. Every context of a bit has a slot, with
an adaptive probability and the numbers of zeros and ones that were seen of late; a second table
learns how often such a pair of numbers is followed by a one. The logits of all these probabilities
are weighed by two sets of weights, which follow the bits by gradient descent on the code length,
and the two results are averaged.

Probabilities have 16 bits, logits 8 fractional bits. All arithmetic is on integers of 64 bits, and
encoder and decoder go through the same :func:`code_bit`.
"""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.source_history.binary_coding import (
    BitCoder,
    decode_part,
    encode_part,
    range_of,
)

Integers = NDArray[np.int64]

NODES = 8
"""Slots that one context has side by side; one cache line."""
_PROBABILITY_BITS = 16
_ONE = 1 << _PROBABILITY_BITS
_LARGEST_LOGIT = 3071
"""Odds of 162,000 to 1, which is more than 16 bits can tell from certainty."""
_MOST_SEEN = 15
_KEPT = 2
"""Of the zeros seen a one forgets half of those beyond so many; and the other way round."""
_WEIGHT_BITS = 16
_RATE, _RATE_SHIFT = 14, 20
_SLOT_USES, _HISTORY_USES = 250, 1000
"""A probability becomes an average over about so many bits."""

# A slot, from the low bits on: uses (10 bits), zeros and ones seen (4 bits each), a check that
# tells contexts apart which fall on the same slot (16 bits), the probability of a one (22 bits).
_USES = (1 << 10) - 1
_ZEROS, _ONES, _CHECK, _LEVEL = 10, 14, 18, 34
_CHECK_MASK = (1 << 16) - 1
_LEVEL_BITS = 22
_NEW_SLOT = 1 << (_LEVEL + _LEVEL_BITS - 1)
_TO_PROBABILITY = _LEVEL_BITS - _PROBABILITY_BITS


class Mixer(NamedTuple):
    """State of the model of bits.

    Attributes:
        slots: 2^k slots for each context, (contexts, 2^k).
        histories: probability of a one by context, and zeros and ones seen (22 bits, above 10 of
            uses), (contexts, 256).
        weights: of the two inputs of each context, (2, sets, 2 contexts).
        inputs: logits for the bit that is being coded, (2 contexts,).
        lines: first of the slots side by side that are in use, (contexts,).
        checks: their checks, (contexts,).
        probability_of: of a one, by logit + 3071.
        logit_of: by probability.
        reciprocals: 2^16 / (n + 3/2).
    """

    slots: Integers
    histories: Integers
    weights: Integers
    inputs: Integers
    lines: Integers
    checks: Integers
    probability_of: Integers
    logit_of: Integers
    reciprocals: Integers


@cache
def _tables() -> tuple[Integers, Integers, Integers]:
    """The logistic function, its inverse and reciprocals, by integer arithmetic of 96 bits."""
    unit = 1 << 96
    base, term = unit, unit  # exp(1/256) by its series
    for n in range(1, 20):
        term //= 256 * n
        base += term
    powers = [unit]
    for _ in range(_LARGEST_LOGIT):
        powers.append(powers[-1] * base >> 96)
    upper = [min(_ONE * power // (power + unit), _ONE - 1) for power in powers]
    lower = [_ONE - probability for probability in upper[:0:-1]]
    probability_of = np.array(lower + upper, dtype=np.int64)
    place = np.searchsorted(probability_of, np.arange(_ONE))
    logit_of = np.minimum(place, 2 * _LARGEST_LOGIT).astype(np.int64) - _LARGEST_LOGIT
    reciprocals = 2 * _ONE // (2 * np.arange(_USES + 1, dtype=np.int64) + 3)
    return probability_of, logit_of, reciprocals


def new_mixer(contexts: int, sets: int, slot_bits: int) -> Mixer:
    """A model that has seen nothing.

    Args:
        contexts: the most contexts that a bit has.
        sets: number of sets of weights of each of the two kinds.
        slot_bits: logarithm of the number of slots for each context, at least 3.
    """
    probability_of, logit_of, reciprocals = _tables()
    ones, zeros = np.divmod(np.arange(1 << 8, dtype=np.int64), _MOST_SEEN + 1)
    start = ((2 * ones + 1) << _LEVEL_BITS) // (2 * (zeros + ones) + 2)
    return Mixer(
        slots=np.full((contexts, 1 << slot_bits), _NEW_SLOT, dtype=np.int64),
        histories=np.tile(start << 10, (contexts, 1)),
        weights=np.full((2, sets, 2 * contexts), 3 * _ONE // (4 * contexts), dtype=np.int64),
        inputs=np.zeros(2 * contexts, dtype=np.int64),
        lines=np.zeros(contexts, dtype=np.int64),
        checks=np.zeros(contexts, dtype=np.int64),
        probability_of=probability_of,
        logit_of=logit_of,
        reciprocals=reciprocals,
    )


@numba.njit(cache=True)
def hashed(one: int, other: int) -> int:
    """Spreads two numbers over 64 bits; a number as it is made a part of another hash."""
    value = (np.uint64(one) + np.uint64(0x9E3779B97F4A7C15)) * np.uint64(0xBF58476D1CE4E5B9)
    value ^= value >> np.uint64(29)
    value = (value + np.uint64(other)) * np.uint64(0x94D049BB133111EB)
    return np.int64(value ^ (value >> np.uint64(32)))  # type: ignore[return-value]


@numba.njit(cache=True)
def turn_to(mixer: Mixer, contexts: Integers, count: int, group: int) -> None:
    """Finds the slots of the next bits.

    Args:
        mixer: the model.
        contexts: hashes of what the bits depend on.
        count: how many of them there are.
        group: which bits these are, up to 8 of them.
    """
    most = np.uint64(mixer.slots.shape[1] - NODES)
    for i in range(count):
        key = np.uint64(hashed(contexts[i], group))
        mixer.lines[i] = np.int64(key & most)
        mixer.checks[i] = np.int64(key >> np.uint64(48))


@numba.njit(cache=True)
def _look(mixer: Mixer, count: int, node: int) -> None:
    """Logits that the contexts have for a bit; 0 where one is new."""
    for i in range(count):
        place = mixer.lines[i] + node
        slot = mixer.slots[i, place]
        if slot >> _CHECK & _CHECK_MASK != mixer.checks[i]:
            slot = _NEW_SLOT | mixer.checks[i] << _CHECK
            mixer.slots[i, place] = slot
        seen = slot >> _ZEROS & 0xFF
        mixer.inputs[2 * i] = 0
        mixer.inputs[2 * i + 1] = 0
        if seen:
            level = mixer.histories[i, seen] >> 10
            mixer.inputs[2 * i] = mixer.logit_of[slot >> (_LEVEL + _TO_PROBABILITY)]
            mixer.inputs[2 * i + 1] = mixer.logit_of[level >> _TO_PROBABILITY]


@numba.njit(cache=True)
def _weighed(mixer: Mixer, count: int, kind: int, row: int) -> int:
    """The logit that one set of weights makes of the inputs."""
    total = 0
    for i in range(2 * count):
        total += mixer.weights[kind, row, i] * mixer.inputs[i]
    return min(max(total >> _WEIGHT_BITS, -_LARGEST_LOGIT), _LARGEST_LOGIT)


@numba.njit(cache=True)
def _adjust(mixer: Mixer, count: int, kind: int, row: int, error: int) -> None:
    """Moves one set of weights along the inputs, by how far its probability was off."""
    for i in range(2 * count):
        change = mixer.inputs[i] * error * _RATE
        mixer.weights[kind, row, i] += (change + (1 << (_RATE_SHIFT - 1))) >> _RATE_SHIFT


@numba.njit(cache=True)
def _forgotten(seen: int) -> int:
    return (seen + _KEPT) >> 1 if seen > _KEPT else seen


@numba.njit(cache=True)
def _count(mixer: Mixer, count: int, node: int, bit: int) -> None:
    """Lets slots and histories follow a bit."""
    target = ((1 << _LEVEL_BITS) - 1) * bit
    for i in range(count):
        place = mixer.lines[i] + node
        slot = mixer.slots[i, place]
        zeros, ones = slot >> _ZEROS & _MOST_SEEN, slot >> _ONES & _MOST_SEEN
        if zeros + ones:
            seen = slot >> _ZEROS & 0xFF
            uses, level = mixer.histories[i, seen] & _USES, mixer.histories[i, seen] >> 10
            level += (target - level) * mixer.reciprocals[uses] >> 16
            mixer.histories[i, seen] = level << 10 | min(uses + 1, _HISTORY_USES)
        if bit:
            zeros, ones = _forgotten(zeros), min(ones + 1, _MOST_SEEN)
        else:
            zeros, ones = min(zeros + 1, _MOST_SEEN), _forgotten(ones)
        uses, level = slot & _USES, slot >> _LEVEL
        level += (target - level) * mixer.reciprocals[uses] >> 16
        counts = ones << _ONES | zeros << _ZEROS | min(uses + 1, _SLOT_USES)
        mixer.slots[i, place] = level << _LEVEL | mixer.checks[i] << _CHECK | counts


@numba.njit(cache=True)
def code_bit(
    mixer: Mixer,
    coder: BitCoder,
    decoding: bool,
    count: int,
    node: int,
    rows: tuple[int, int],
    bit: int,
) -> int:
    """Codes a bit, or decodes one.

    Args:
        mixer: the model, turned to the bit's contexts.
        coder: an encoder or a decoder.
        decoding: which of them.
        count: number of contexts.
        node: number of the bit within its group, 0 to 7.
        rows: the two sets of weights.
        bit: to be encoded; without effect when decoding.

    Returns:
        The bit.
    """
    _look(mixer, count, node)
    one, other = _weighed(mixer, count, 0, rows[0]), _weighed(mixer, count, 1, rows[1])
    probability = mixer.probability_of[((one + other) >> 1) + _LARGEST_LOGIT]
    part = (range_of(coder) >> _PROBABILITY_BITS) * (_ONE - probability)
    if decoding:
        bit = decode_part(coder, part)
    else:
        encode_part(coder, part, bit)
    target = bit << _PROBABILITY_BITS
    _adjust(mixer, count, 0, rows[0], target - mixer.probability_of[one + _LARGEST_LOGIT])
    _adjust(mixer, count, 1, rows[1], target - mixer.probability_of[other + _LARGEST_LOGIT])
    _count(mixer, count, node, bit)
    return bit
