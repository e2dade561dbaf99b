"""Pixels of graphics in raster order: copied from around, or coded channel by channel.

A pixel is compared with its neighbours and with the colours that came last in the same
surroundings, one after the other, until one is equal. If none is, its channels follow, green
first: the first one by its difference from the median edge detector's prediction, the others by
that from the straight line between two neighbouring colours, on which antialiasing puts what it
mixes. A difference is coded as a number of bits.

Every bit is coded by :mod:`source_codec.graphics.mixing`. Where all pixels around are equal, as
they are in most places of most graphics, a bit with few contexts suffices.
"""

from __future__ import annotations

from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray

from source_codec.graphics.mixing import Integers, Mixer, code_bit, hashed, new_mixer, turn_to
from source_codec.source_history.binary_coding import BitCoder, overrun
from source_codec.source_history.compiled import signed

_FLAT_CONTEXTS, _COPY_CONTEXTS, _VALUE_CONTEXTS = 3, 8, 10
_LEFT, _RIGHT, _ABOVE = 3, 3, 2
"""Margins of the canvas."""
_MEMORIES, _MEMORY_BITS = 4, 16
_CANDIDATES = 4 + _MEMORIES
_FEWEST_SLOT_BITS, _MOST_SLOT_BITS = 10, 21
_FAR = 8
"""A pixel to the left that a flat place is compared with."""
_LONGEST_RUN = 15

# How a pixel was coded, as a context of the next ones.
_WEST, _NORTH, _CORNER, _REMEMBERED, _CODED = range(5)

# Groups of bits that share their contexts; those of a number's lower bits come after these.
_FLAT_GROUP, _COPY_GROUP, _NUMBER_GROUP, _LONG_NUMBER_GROUP, _DIGITS_GROUP = 0, 1, 2, 3, 8

# Sets of weights: of the first kind by which bit it is, of the second by what is around.
_FLAT_ROW = _CANDIDATES
_NUMBER_ROW, _ROWS_OF_NUMBER = 16, 32
_SIZE_ROW, _DIGIT_ROW = 2, 12
_EQUALITIES = 1 << 7
_ACTIVITIES = 9
_FLAT_PLACE = _EQUALITIES * _CANDIDATES
_NUMBER_PLACE = _FLAT_PLACE + 1
_SETS = _NUMBER_PLACE + 3 * _ACTIVITIES


class Canvas(NamedTuple):
    """What has been coded so far.

    Attributes:
        colours: of the pixels, 8 bits a channel, with margins, (H + 2, W + 6).
        actions: how the pixels were coded, likewise.
        memories: colours that came last by hash of their surroundings, -1: none,
            (memories, 2^16).
        candidates: colours that a pixel may copy, (candidates,).
        contexts: hashes of what a bit depends on, (contexts,).
    """

    colours: NDArray[np.int32]
    actions: NDArray[np.uint8]
    memories: NDArray[np.int32]
    candidates: Integers
    contexts: Integers


class _Around(NamedTuple):
    """Colours around a pixel: north, west and so on, the letters repeated for distance."""

    w: int
    n: int
    nw: int
    ne: int
    ww: int
    nn: int
    www: int
    nww: int
    nnw: int
    nne: int
    nee: int
    nnee: int


def new_canvas(height: int, width: int) -> Canvas:
    """A canvas without pixels."""
    size = height + _ABOVE, width + _LEFT + _RIGHT
    return Canvas(
        np.zeros(size, dtype=np.int32),
        np.zeros(size, dtype=np.uint8),
        np.full((_MEMORIES, 1 << _MEMORY_BITS), -1, dtype=np.int32),
        np.zeros(_CANDIDATES, dtype=np.int64),
        np.zeros(_VALUE_CONTEXTS, dtype=np.int64),
    )


def new_pixel_mixer(height: int, width: int) -> Mixer:
    """The model of the bits of an image, with about four slots for each pixel and context."""
    slot_bits = (height * width).bit_length() + 1
    slot_bits = min(max(slot_bits, _FEWEST_SLOT_BITS), _MOST_SLOT_BITS)
    return new_mixer(_VALUE_CONTEXTS, _SETS, slot_bits)


@numba.njit(cache=True)
def _around(colours: NDArray[np.int32], y: int, x: int) -> _Around:
    return _Around(
        signed(colours[y, x - 1]),
        signed(colours[y - 1, x]),
        signed(colours[y - 1, x - 1]),
        signed(colours[y - 1, x + 1]),
        signed(colours[y, x - 2]),
        signed(colours[y - 2, x]),
        signed(colours[y, x - 3]),
        signed(colours[y - 1, x - 2]),
        signed(colours[y - 2, x - 1]),
        signed(colours[y - 2, x + 1]),
        signed(colours[y - 1, x + 2]),
        signed(colours[y - 2, x + 2]),
    )


@numba.njit(cache=True)
def _is_flat(at: _Around) -> bool:
    w = at.w
    near = (w == at.n) & (w == at.nw) & (w == at.ne) & (w == at.ww) & (w == at.nn)
    far = (w == at.www) & (w == at.nww) & (w == at.nnw) & (w == at.nne)
    return near & far & (w == at.nee) & (w == at.nnee)


@numba.njit(cache=True)
def _size_class(value: int) -> int:
    """0 to 8 by magnitude: 0, 1, 2, up to 4, 8, 16, 32, 64, and above."""
    size = abs(value)
    if size <= 2:
        return size
    kind = 3
    while kind < _ACTIVITIES - 1 and size > 1 << (kind - 1):
        kind += 1
    return kind


@numba.njit(cache=True)
def _signed_class(value: int) -> int:
    return _size_class(value) if value >= 0 else -_size_class(value)


@numba.njit(cache=True)
def _part(colour: int, channel: int) -> int:
    return colour >> 8 * channel & 255


@numba.njit(cache=True)
def _equalities(at: _Around) -> int:
    """Which of the nearest pixels are equal."""
    near = (at.w == at.n) | (at.w == at.nw) << 1 | (at.n == at.nw) << 2 | (at.n == at.ne) << 3
    return near | (at.w == at.ne) << 4 | (at.w == at.ww) << 5 | (at.n == at.nn) << 6


@numba.njit(cache=True)
def _wider_equalities(at: _Around, remembered: int) -> int:
    """Which of the others are, and whether the colour last seen here is one of them."""
    east = (at.ne == at.nee) | (at.ne == at.nne) << 1 | (at.nn == at.nne) << 2
    east |= (at.nee == at.nnee) << 3 | (at.w == at.nee) << 4
    west = (at.nw == at.nww) | (at.nw == at.nnw) << 1 | (at.nn == at.nnw) << 2
    west |= (at.ww == at.www) << 3 | (at.ww == at.nww) << 4
    return east << 7 | west << 12 | (remembered == at.w) << 17 | (remembered == at.n) << 18


@numba.njit(cache=True)
def _earlier_actions(actions: NDArray[np.uint8], y: int, x: int) -> int:
    west, north = signed(actions[y, x - 1]), signed(actions[y - 1, x])
    east, corner = signed(actions[y - 1, x + 1]), signed(actions[y - 1, x - 1])
    return west * 512 + north * 64 + east * 8 + corner


@numba.njit(cache=True)
def _code_number(
    mixer: Mixer,
    coder: BitCoder,
    decoding: bool,
    contexts: Integers,
    row: int,
    place: int,
    limits: tuple[int, int],
    value: int,
) -> int:
    """A whole number between limits around 0: whether it is 0, its sign, its size less one.

    The size comes as Elias's gamma code has it: the number of digits, then the digits.
    """
    low, high = limits
    count = _VALUE_CONTEXTS
    turn_to(mixer, contexts, count, _NUMBER_GROUP)
    if not code_bit(mixer, coder, decoding, count, 0, (row, place), 1 if value else 0):
        return 0
    negative = 0 if low == 0 else 1
    if low < 0 < high:
        sign = 1 if value < 0 else 0
        negative = code_bit(mixer, coder, decoding, count, 1, (row + 1, place), sign)
    most = (-low if negative else high) - 1
    size = abs(value) - 1
    digits = 0
    while (2 << digits) - 1 <= most:
        more = 1 if size >= (2 << digits) - 1 else 0
        if digits == 3:
            turn_to(mixer, contexts, count, _LONG_NUMBER_GROUP + negative)
        node = 2 + 3 * negative + digits if digits < 3 else digits - 3
        rows = row + _SIZE_ROW + digits, place
        if not code_bit(mixer, coder, decoding, count, node, rows, more):
            break
        digits += 1
    number, node = 1, 1
    for left in range(digits - 1, -1, -1):
        if (digits - 1 - left) % 3 == 0:
            group = _DIGITS_GROUP + (digits << 8 | number) * 2 + negative
            turn_to(mixer, contexts, count, group)
            node = 1
        rows = row + _DIGIT_ROW + min(digits - left, 3) * 4 + min(digits, 4) - 1, place
        digit = code_bit(mixer, coder, decoding, count, node, rows, (size + 1) >> left & 1)
        number, node = number * 2 + digit, node * 2 + digit
    return -number if negative else number


@numba.njit(cache=True)
def _on_line(at: _Around, channel: int, known: int, value: int) -> int:
    """A channel on the line from the neighbour that has least of a known channel to that with most.

    Args:
        at: the neighbours.
        channel: wanted.
        known: the known channel.
        value: what the pixel has of it.
    """
    least = most = at.w
    for colour in (at.n, at.nw, at.ne):
        if _part(colour, known) < _part(least, known):
            least = colour
        if _part(colour, known) > _part(most, known):
            most = colour
    start, span = _part(least, known), _part(most, known) - _part(least, known)
    first, last = _part(least, channel), _part(most, channel)
    if span == 0:
        return first
    line = first + (2 * (last - first) * (value - start) + span) // (2 * span)
    return min(max(line, 0), 255)


@numba.njit(cache=True)
def _code_colour(
    mixer: Mixer,
    coder: BitCoder,
    decoding: bool,
    contexts: Integers,
    at: _Around,
    channels: int,
    actions: int,
    colour: int,
) -> int:
    """A colour that no candidate had, channel by channel."""
    known, error, earlier_error, last = 0, 0, 0, 1
    for step in range(channels):
        channel = 0 if channels == 1 else (1, 0, 2)[step]
        w, n, nw, ne = (
            _part(at.w, channel),
            _part(at.n, channel),
            _part(at.nw, channel),
            _part(at.ne, channel),
        )
        median = min(max(w + n - nw, min(w, n)), max(w, n))
        if step:
            guess = _on_line(at, channel, last, _part(known, last))
            other = min(max(median + error, 0), 255)
        else:
            guess, other = median, (w + ne) >> 1
        activity = _size_class(abs(w - nw) + abs(n - nw) + abs(ne - n))
        slopes = (_size_class(w - nw) * 9 + _size_class(n - nw)) * 9 + _size_class(ne - n)
        errors = _signed_class(error) * 32 + _signed_class(earlier_error)
        bends = _signed_class(ne - n) * 32 + _signed_class(w - _part(at.ww, channel))
        bends = bends * 32 + _signed_class(n - _part(at.nn, channel))
        apart = other - guess
        contexts[0] = slopes
        contexts[1] = w << 16 | n << 8 | guess
        contexts[2] = errors * 16 + activity
        contexts[3] = hashed(guess, known)
        contexts[4] = hashed(hashed(at.w, at.n), known)
        contexts[5] = ((w - nw) * 512 + n - nw) * 512 + apart
        contexts[6] = actions
        contexts[7] = apart * 16 + activity
        contexts[8] = guess << 8 | other
        contexts[9] = bends
        for i in range(_VALUE_CONTEXTS):
            contexts[i] = hashed(contexts[i], step)
        row, place = _NUMBER_ROW + _ROWS_OF_NUMBER * step, _NUMBER_PLACE + _ACTIVITIES * step
        limits = -guess, 255 - guess
        difference = _part(colour, channel) - guess
        difference = _code_number(
            mixer, coder, decoding, contexts, row, place + activity, limits, difference
        )
        value = guess + difference & 255  # a hostile stream may go beyond the limits
        known |= value << 8 * channel
        earlier_error, error, last = error, value - median, channel
    return known


@numba.njit(cache=True)
def code_pixels(
    mixer: Mixer, coder: BitCoder, decoding: bool, canvas: Canvas, image: NDArray[np.uint8]
) -> None:
    """Codes an image, or decodes one in place.

    Args:
        mixer: the model, new.
        coder: an encoder or a decoder; a decoder that has :func:`overrun` ends the work.
        decoding: which of them.
        canvas: a new one of the image's size.
        image: uint8 (H, W, C), C 1 or 3.
    """
    height, width, channels = image.shape
    colours, contexts, candidates = canvas.colours, canvas.contexts, canvas.candidates
    memories, slots = canvas.memories, np.zeros(_MEMORIES, dtype=np.int64)
    shown = 1 if channels == 3 else 0  # the channel whose slopes count
    for row in range(height):
        y = row + _ABOVE
        colours[y, :_LEFT] = colours[y - 1, _LEFT]
        run = 0
        for column in range(width):
            x = column + _LEFT
            at = _around(colours, y, x)
            colour = 0
            if not decoding:
                for channel in range(channels):
                    colour |= signed(image[row, column, channel]) << 8 * channel
            pair = hashed(at.w, at.n)
            near = hashed(pair, hashed(at.nw, at.ne))
            wide = hashed(hashed(near, at.ww), at.nn)
            action = _CODED
            flat = _is_flat(at)
            if flat:
                contexts[0] = at.w
                contexts[1] = min(run, 2 * _LONGEST_RUN + 1)
                beyond = hashed(signed(colours[y - 1, x + 3]), signed(colours[y, max(x - _FAR, 0)]))
                contexts[2] = hashed(beyond, at.w)
                turn_to(mixer, contexts, _FLAT_CONTEXTS, _FLAT_GROUP)
                rows = _FLAT_ROW, _FLAT_PLACE
                differs = 1 if colour != at.w else 0
                if not code_bit(mixer, coder, decoding, _FLAT_CONTEXTS, 0, rows, differs):
                    colour, action = at.w, _WEST
            slots[0] = wide & ((1 << _MEMORY_BITS) - 1)
            if action == _CODED:
                slots[1] = near & ((1 << _MEMORY_BITS) - 1)
                slots[2] = pair & ((1 << _MEMORY_BITS) - 1)
                slots[3] = hashed(at.w, 1) & ((1 << _MEMORY_BITS) - 1)
                candidates[0], candidates[1] = at.w, at.n
                candidates[2], candidates[3] = at.nw, at.ne
                for i in range(_MEMORIES):
                    candidates[4 + i] = memories[i, slots[i]]
                equalities = _equalities(at)
                wider = hashed(hashed(wide, hashed(at.www, at.nww)), hashed(at.nnw, at.nne))
                slopes = _size_class(_part(at.w, shown) - _part(at.n, shown))
                slopes = slopes * 9 + _size_class(_part(at.ne, shown) - _part(at.n, shown))
                slopes = slopes * 9 + _size_class(_part(at.nw, shown) - _part(at.n, shown))
                slopes = slopes * 9 + _size_class(_part(at.ww, shown) - _part(at.w, shown))
                actions = _earlier_actions(canvas.actions, y, x)
                contexts[0] = equalities
                contexts[1] = equalities | _wider_equalities(at, candidates[4])
                contexts[2] = near
                contexts[3] = wide
                contexts[4] = pair
                contexts[5] = slopes
                contexts[6] = actions * 16 + min(run, _LONGEST_RUN)
                contexts[7] = hashed(wider, at.nee)
                turn_to(mixer, contexts, _COPY_CONTEXTS, _COPY_GROUP)
                for i in range(_CANDIDATES):
                    candidate = candidates[i]
                    tried = candidate < 0 or (flat and candidate == at.w)
                    for j in range(i):
                        tried |= candidates[j] == candidate
                    if tried:
                        continue
                    rows = i, equalities * _CANDIDATES + i
                    differs = 1 if colour != candidate else 0
                    if not code_bit(mixer, coder, decoding, _COPY_CONTEXTS, i, rows, differs):
                        colour = candidate
                        action = (_WEST, _NORTH, _CORNER, _CORNER)[i] if i < 4 else _REMEMBERED
                        break
                if action == _CODED:
                    colour = _code_colour(
                        mixer, coder, decoding, contexts, at, channels, actions, colour
                    )
                for i in range(1, _MEMORIES):
                    memories[i, slots[i]] = colour
            memories[0, slots[0]] = colour
            colours[y, x] = colour
            canvas.actions[y, x] = action
            run = run + 1 if action == _WEST else 0
            if decoding:
                for channel in range(channels):
                    image[row, column, channel] = _part(colour, channel)
        colours[y, width + _LEFT :] = colours[y, width + _LEFT - 1]
        if decoding and overrun(coder):
            return
