"""What becomes of the sums of a layer's products, while they still lie in registers.

Each end takes the layer's biases (with half of what the shift drops) and shifts first, and writes
``(sum + bias) >> shift`` in the grid of the next layer's inputs. All arithmetic is in 32 bits, in
LLVM's operations on vectors. See :mod:`source_codec.network_shape` for the grids, and
:func:`source_codec.integer_products.product_kernel` for what calls these.
"""

from __future__ import annotations

from llvmlite import ir

from source_codec.integer_products import Operand
from source_codec.network_shape import (
    ACTIVATION_MAX,
    NECK_MAX,
    PARAMETER_MAX,
    STREAM_TO_ACTIVATION,
)
from source_codec.vectors import constant, larger, smaller


def _all_lanes(like: ir.Value, number: int) -> ir.Constant:
    return constant(like.type.element, [number] * like.type.count)


def _limited(builder: ir.IRBuilder, x: ir.Value, low: int, high: int) -> ir.Value:
    return smaller(builder, larger(builder, x, _all_lanes(x, low)), _all_lanes(x, high))


def _outputs(
    builder: ir.IRBuilder, totals: list[ir.Value], others: list[Operand]
) -> list[ir.Value]:
    """The layer's outputs of each row of the tile."""
    bias, shift = (operand.load(totals[0].type.count) for operand in others[:2])
    return [builder.ashr(builder.add(total, bias), shift) for total in totals]


def _write(
    builder: ir.IRBuilder, values: list[ir.Value], low: int, high: int, out: Operand
) -> None:
    """Writes rows of values, limited, in the type of the array, which may be narrower."""
    for row, value in enumerate(values):
        limited = _limited(builder, value, low, high)
        kind = ir.VectorType(ir.IntType(out.dtype.bitwidth), value.type.count)
        out.store(limited if kind == value.type else builder.trunc(limited, kind), row)


def _activate(builder: ir.IRBuilder, values: list[ir.Value], out: Operand) -> None:
    """From the grid of the residual stream through a ReLU."""
    half = _all_lanes(values[0], 1 << STREAM_TO_ACTIVATION >> 1)
    down = _all_lanes(values[0], STREAM_TO_ACTIVATION)
    rounded = [builder.ashr(builder.add(value, half), down) for value in values]
    _write(builder, rounded, 0, ACTIVATION_MAX, out)


def activation(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """Through a ReLU: uint8."""
    _write(builder, _outputs(builder, totals, others), 0, ACTIVATION_MAX, out)


def into_stream(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """Added to the residual stream, the third of the other arrays, int32; that through a ReLU."""
    stream, values = others[2], []
    for row, output in enumerate(_outputs(builder, totals, others)):
        values.append(builder.add(stream.load(output.type.count, row), output))
        stream.store(values[row], row)
    _activate(builder, values, out)


def neck(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """Confined to int16: half as much to carry to the heads."""
    _write(builder, _outputs(builder, totals, others), -NECK_MAX, NECK_MAX, out)


def parameters(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """As they are: int32."""
    for row, output in enumerate(_outputs(builder, totals, others)):
        out.store(output, row)


def adapted_parameters(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """Plus the third of the other arrays, int32, and confined to :data:`PARAMETER_MAX`: int32."""
    values = []
    for output in _outputs(builder, totals, others):
        values.append(builder.add(output, others[2].load(output.type.count)))
    _write(builder, values, -PARAMETER_MAX, PARAMETER_MAX, out)


def head(
    builder: ir.IRBuilder, totals: list[ir.Value], out: Operand, others: list[Operand]
) -> None:
    """Added to the head's part of the neck, the third of the other arrays, and through a ReLU."""
    values = []
    for row, output in enumerate(_outputs(builder, totals, others)):
        part = builder.sext(others[2].load(output.type.count, row), output.type)
        values.append(builder.add(part, output))
    _activate(builder, values, out)
