"""Saturating arithmetic on 8-bit integers, for kernels compiled by numba.

A processor adds, subtracts and compares 32 or 64 bytes in one instruction, but Python's operators
widen their operands before the compiler sees them. Each function here is one LLVM operation on
bytes, which a loop over contiguous arrays turns into one vector instruction. Values of int8 are
LLRs; values of uint8 are magnitudes, among them 128, the magnitude of -128.

Reference: LLVM Language Reference Manual, "Saturation Arithmetic Intrinsics", "llvm.abs.*" and
"llvm.umin.*" (https://llvm.org/docs/LangRef.html).
"""

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba import types
from numba.extending import intrinsic

_BYTE = ir.IntType(8)


def _operation(name: str, operand: types.Integer) -> Callable[..., Any]:
    """A compiled function (operand, operand) -> operand that is one LLVM intrinsic."""

    def typed(_context: Any, first: types.Type, second: types.Type) -> Any:
        if (first, second) != (operand, operand):
            return None

        def generate(_target: Any, builder: ir.IRBuilder, _signature: Any, values: Any) -> Any:
            signature = ir.FunctionType(_BYTE, [_BYTE, _BYTE])
            function = builder.module.declare_intrinsic(name, [_BYTE], signature)
            return builder.call(function, values)

        return operand(operand, operand), generate

    typed.__name__ = name
    return intrinsic(typed)


add = _operation("llvm.sadd.sat", types.int8)
"""a + b, clipped to [-128, 127]; int8."""

subtract = _operation("llvm.ssub.sat", types.int8)
"""a - b, clipped to [-128, 127]; int8."""

reduce = _operation("llvm.usub.sat", types.uint8)
"""max(a - b, 0); uint8."""

lesser = _operation("llvm.umin", types.uint8)
"""min(a, b); uint8."""

greater = _operation("llvm.umax", types.uint8)
"""max(a, b); uint8."""


@intrinsic
def magnitude(_context, value):  # type: ignore[no-untyped-def]
    """|a| of an int8 as uint8, 128 for -128."""
    if value != types.int8:
        return None

    def generate(_target, builder, _signature, values):  # type: ignore[no-untyped-def]
        signature = ir.FunctionType(_BYTE, [_BYTE, ir.IntType(1)])
        function = builder.module.declare_intrinsic("llvm.abs", [_BYTE], signature)
        return builder.call(function, [values[0], ir.Constant(ir.IntType(1), 0)])

    return types.uint8(types.int8), generate
