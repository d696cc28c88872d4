"""The converter's formula, written down once and inlined wherever a sum is converted."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils
from numba.extending import intrinsic

from xbarsim.engine.kernels.compiling import kernel

__all__ = ["approximate", "code", "emit_code"]


def emit_code(builder: Any, value: Any, inverse_step: Any, low: Any, high: Any) -> Any:
    """Write ``clip(floor(value * inverse_step + 1/2), low, high)``: nearest step, halves up.

    All of one type: float32 or float64, or vectors of these. Product and sum are rounded one after the other, as NumPy
    does it in the reference engine.
    """
    kind = value.type
    number = kind.element if isinstance(kind, ir.VectorType) else kind
    name = "f32" if isinstance(number, ir.FloatType) else "f64"
    half: Any = 0.5
    if isinstance(kind, ir.VectorType):
        name, half = f"v{kind.count}{name}", [0.5] * kind.count
    floor = cgutils.get_or_insert_function(builder.module, ir.FunctionType(kind, [kind]), f"llvm.floor.{name}")
    value = builder.fadd(builder.fmul(value, inverse_step), ir.Constant(kind, half))
    value = builder.call(floor, [value])
    for bound, beyond in ((low, "<"), (high, ">")):
        value = builder.select(builder.fcmp_ordered(beyond, value, bound), bound, value)
    return value


@intrinsic
def code(typing_context: Any, value: Any, inverse_step: Any, low: Any, high: Any) -> Any:
    """The code of one sum; all arguments float32 or all float64."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return emit_code(builder, *arguments)

    return value(value, value, value, value), generate


@kernel()
def approximate(
    positions: Any, bits: Any, first: int, each: int, low: float, high: float, levels: Any, codes: Any
) -> None:
    """Codes of successive-approximation converters: bit by bit, highest first, kept if the input is not below it.

    `positions` (n,), the sums in codes, half a step added; the bits of converter i weigh ``bits[first + i * each]``
    codes, lowest first; `codes` (n,) is filled, `levels` (n,) is scratch. As
    :func:`xbarsim.design.successive_approximation`, and then clipped.
    """
    for i in range(positions.shape[0]):
        levels[i] = low
        codes[i] = low
    for bit in range(bits.shape[1] - 1, -1, -1):
        counts = 2.0**bit
        for i in range(positions.shape[0]):
            raised = levels[i] + bits[first + i * each, bit]
            kept = positions[i] >= raised
            levels[i] = raised if kept else levels[i]
            codes[i] += counts if kept else 0.0
    for i in range(positions.shape[0]):
        codes[i] = min(max(codes[i], low), high)
