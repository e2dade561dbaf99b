"""Vectors of integers in compiled kernels.

Where a compiler does not find the vector instructions that a loop of scalars could become, a kernel
says what it wants with the functions of this module, on vectors of 256 bits: sixteen int16 or eight
int32. They are made of LLVM's operations on vectors, which mean the same on every processor: where
there is no such instruction, LLVM makes it of others.

Many of these vectors hold places with four lanes each, as :mod:`source_codec.features` has them:
three channels, then presence.

Reference: LLVM Language Reference Manual, "Vector Operations"
(https://llvm.org/docs/LangRef.html).
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic, models, register_model

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_PLACES = ir.VectorType(_I64, 4)  # the lanes of a place together


class _Vector(types.Type):
    """The type of a vector in a kernel."""

    def __init__(self, element: ir.IntType, lanes: int) -> None:
        super().__init__(name=f"vector({lanes} x {element})")
        self.code = ir.VectorType(element, lanes)


@register_model(_Vector)
class _VectorModel(models.PrimitiveModel):
    """A vector is itself what its variables hold."""

    def __init__(self, manager: Any, vector: _Vector) -> None:
        super().__init__(manager, vector, vector.code)


_BYTES, _SHORTS, _INTS = _Vector(_I8, 16), _Vector(_I16, 16), _Vector(_I32, 8)
_FOUR_INTS = _Vector(_I32, 4)
_FOUR_SHORTS_TWICE = _Vector(_I16, 8)
_KINDS = {types.uint8: _BYTES, types.int16: _SHORTS, types.int32: _INTS}
SHORTS = 16
"""Lanes of a vector of int16."""


def _function(build: Callable[..., ir.Value], result: _Vector | None = None) -> Callable[..., Any]:
    """A function of one vector, or of a vector and another value.

    Args:
        build: writes its code.
        result: the type of its result; that of the first vector if it isn't given.
    """

    def signature(*arguments: Any) -> Any:
        def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
            return build(builder, *values)

        return (result or arguments[0])(*arguments), generate

    def unary(_context: Any, x: Any) -> Any:
        return signature(x)

    def binary(_context: Any, x: Any, y: Any) -> Any:
        return signature(x, y)

    return intrinsic(unary if len(inspect.signature(build).parameters) == 2 else binary)


def _pointer(
    target: Any, builder: ir.IRBuilder, array: tuple[Any, Any], index: ir.Value, kind: ir.Type
) -> ir.Value:
    """Where a vector lies in a contiguous array, given by its type and its value."""
    data = target.make_array(array[0])(target, builder, array[1]).data
    return builder.bitcast(builder.gep(data, [index]), kind.as_pointer())


def _bytes_of_element(kind: ir.VectorType) -> int:
    return int(kind.element.width) // 8


@intrinsic
def load(_context: Any, array: Any, index: Any) -> Any:
    """A vector of the elements of a contiguous array (n,) from an index on.

    Sixteen of uint8 or int16, eight of int32.
    """
    vector = _KINDS[array.dtype]

    def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        given = signature.args[0], values[0]
        pointer = _pointer(target, builder, given, values[1], vector.code)
        return builder.load(pointer, align=_bytes_of_element(vector.code))

    return vector(array, types.intp), generate


@intrinsic
def load_place(_context: Any, array: Any, index: Any) -> Any:
    """Four elements of a contiguous array int16 or int32 (n,), as int32."""

    def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        bits = signature.args[0].dtype.bitwidth
        kind, given = ir.VectorType(ir.IntType(bits), 4), (signature.args[0], values[0])
        pointer = _pointer(target, builder, given, values[1], kind)
        place = builder.load(pointer, align=bits // 8)
        return place if bits == 32 else builder.sext(place, _FOUR_INTS.code)

    return _FOUR_INTS(array, types.intp), generate


@intrinsic
def load_halves(_context: Any, array: Any, low: Any, high: Any) -> Any:
    """Four elements of a contiguous array int32 (n,) from one index on, four from another."""

    def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        given, half = (signature.args[0], values[0]), ir.VectorType(_I32, 4)
        pointers = [_pointer(target, builder, given, index, half) for index in values[1:]]
        first, second = (builder.load(pointer, align=4) for pointer in pointers)
        return builder.shuffle_vector(first, second, constant(_I32, list(range(8))))

    return _INTS(array, types.intp, types.intp), generate


@intrinsic
def store(_context: Any, array: Any, index: Any, vector: Any) -> Any:
    """Writes a vector to the elements of a contiguous array (n,) from an index on."""

    def generate(target: Any, builder: ir.IRBuilder, signature: Any, values: Any) -> Any:
        kind = signature.args[2].code
        pointer = _pointer(target, builder, (signature.args[0], values[0]), values[1], kind)
        builder.store(values[2], pointer, align=_bytes_of_element(kind))
        return target.get_dummy_value()

    return types.void(array, types.intp, vector), generate


@intrinsic
def no_sums(_context: Any) -> Any:
    """Eight zeros, int32."""
    return _INTS(), lambda *_: constant(_I32, [0] * 8)


@intrinsic
def lane(_context: Any, x: Any, index: Any) -> Any:
    """One lane of a vector of int16 or int32."""
    number = types.Integer.from_bitwidth(x.code.element.width, signed=True)

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        return builder.extract_element(*values)

    return number(x, types.int32), generate


@intrinsic
def total(_context: Any, x: Any) -> Any:
    """The sum of eight int32, as int64."""

    def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
        sums = builder.sext(values[0], ir.VectorType(_I64, 8))
        while sums.type.count > 2:
            sums = builder.add(*_halves(builder, sums))
        return builder.add(*(builder.extract_element(sums, _I32(lane)) for lane in range(2)))

    return types.int64(x), generate


# What writes code, here and where tiles of products are written.


def constant(element: ir.Type, numbers: list[int] | list[float]) -> ir.Constant:
    """A vector of numbers."""
    return ir.Constant(ir.VectorType(element, len(numbers)), numbers)


def _shuffled(builder: ir.IRBuilder, x: ir.Value, lanes: list[int]) -> ir.Value:
    """Some lanes of a vector, in some order."""
    return builder.shuffle_vector(x, ir.Constant(x.type, ir.Undefined), constant(_I32, lanes))


def _halves(builder: ir.IRBuilder, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    half = x.type.count // 2
    low, high = (list(range(first, first + half)) for first in (0, half))
    return _shuffled(builder, x, low), _shuffled(builder, x, high)


def larger(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The larger of two integers, by lane."""
    return builder.select(builder.icmp_signed(">", x, y), x, y)


def smaller(builder: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The smaller of two integers, by lane."""
    return builder.select(builder.icmp_signed("<", x, y), x, y)


def _magnitude(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    return larger(builder, x, builder.neg(x))


def _shift_right(builder: ir.IRBuilder, x: ir.Value, by: ir.Value) -> ir.Value:
    # In 0 to 15, as LLVM must see to keep to 16 bits.
    count = builder.and_(builder.trunc(by, _I16), _I16(15))
    first = builder.insert_element(ir.Constant(x.type, ir.Undefined), count, _I32(0))
    return builder.ashr(x, _shuffled(builder, first, [0] * x.type.count))


def _where_known(builder: ir.IRBuilder, x: ir.Value, places: ir.Value) -> ir.Value:
    together = builder.bitcast(places, _PLACES)
    known = builder.icmp_signed("!=", together, constant(_I64, [0] * 4))
    return builder.and_(x, builder.bitcast(builder.sext(known, _PLACES), x.type))


def _weighted_sums(builder: ir.IRBuilder, x: ir.Value, weights: ir.Value) -> ir.Value:
    # The sum of two neighbouring products is a single instruction on many processors.
    by_lane = [8 * half + lane + 4 * p for half in range(2) for lane in range(4) for p in range(2)]
    wide = ir.VectorType(_I32, SHORTS)
    pairs = builder.sext(_shuffled(builder, x, by_lane), wide)
    products = builder.mul(pairs, builder.sext(weights, wide))
    even, odd = (list(range(first, SHORTS, 2)) for first in (0, 1))
    return builder.add(_shuffled(builder, products, even), _shuffled(builder, products, odd))


def _pairs(builder: ir.IRBuilder, x: ir.Value, y: ir.Value, half: int) -> ir.Value:
    low, high = (builder.zext(_halves(builder, of)[half], _INTS.code) for of in (x, y))
    return builder.or_(low, builder.shl(high, constant(_I32, [16] * 8)))


def _rounded(builder: ir.IRBuilder, sums: ir.Value, number: ir.Type) -> ir.Value:
    """Each four lanes, not negative, divided by the last of them, or by one where that is zero."""
    count = sums.type.count
    counts = _shuffled(builder, sums, [lane // 4 * 4 + 3 for lane in range(count)])
    counts = larger(builder, counts, constant(_I32, [1] * count))
    kind = ir.VectorType(number, count)
    quotients = builder.fdiv(builder.sitofp(sums, kind), builder.sitofp(counts, kind))
    halves_up = builder.fadd(quotients, constant(number, [0.5] * count))
    whole = builder.fptosi(halves_up, sums.type)
    return builder.trunc(whole, ir.VectorType(_I16, count))


def _means(builder: ir.IRBuilder, sums: ir.Value) -> ir.Value:
    return _rounded(builder, sums, ir.FloatType())


def _common_mean(builder: ir.IRBuilder, sums: ir.Value) -> ir.Value:
    four = builder.add(*_halves(builder, sums))
    return _shuffled(builder, _rounded(builder, four, ir.DoubleType()), [0, 1, 2, 3] * 4)


def _as_bytes(builder: ir.IRBuilder, x: ir.Value) -> ir.Value:
    low, high = (constant(_I16, [limit] * SHORTS) for limit in (-128, 127))
    limited = smaller(builder, larger(builder, x, low), high)
    small = builder.trunc(limited, _BYTES.code)
    small = larger(builder, small, constant(_I8, [-127] * SHORTS))
    return builder.add(small, constant(_I8, [-128] * SHORTS))


add = _function(lambda builder, x, y: builder.add(x, y))
"""Sums, modulo a power of two."""
subtract = _function(lambda builder, x, y: builder.sub(x, y))
"""Differences, modulo a power of two."""
times = _function(lambda builder, x, y: builder.mul(x, y))
"""Products, modulo a power of two."""
magnitude = _function(_magnitude)
"""Magnitudes of the lanes."""
shift_right = _function(_shift_right)
"""``x >> by``, rounded down; int16 by 0 to 15."""
where_known = _function(_where_known)
"""``x``, zeros where all four lanes of a place are zero: ``(x, places)``, of int16."""
weighted_sums = _function(_weighted_sums, _INTS)
"""Sums over two places each, by lane: ``(places, weights)``, int16 to int32.

Lanes 2 i and 2 i + 1 of the weights are those of two successive places.
"""
first_pairs = _function(partial(_pairs, half=0), _INTS)
"""Those of the first eight lanes with those of another vector, ``(x, y)``, int16: x is the lower
half of each int32."""
last_pairs = _function(partial(_pairs, half=1), _INTS)
"""The same of the last eight lanes."""
means = _function(_means, _FOUR_SHORTS_TWICE)
"""Sums and count of two boxes, int32, to means and presence, int16; halves are rounded up.

The rounding is exact: a quotient of integers below 2^24 is never so close to a tie that its own
rounding to float32 could reach it.
"""
common_mean = _function(_common_mean, _SHORTS)
"""Weighted means of all places, four times over, from :func:`weighted_sums`: int32 to int16.

Halves are rounded up, exactly: sums below 2^31 are far from what float64 holds. The fourth is the
one of presence; all are zero where nothing is known.
"""
as_bytes = _function(_as_bytes, _BYTES)
"""Sixteen int16, clipped to +-127, plus 128: uint8."""
