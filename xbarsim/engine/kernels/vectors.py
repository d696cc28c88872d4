"""Sixteen images side by side: how vector instructions are written down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir

__all__ = ["INT32", "INT64", "LANES", "data", "everywhere", "for_each_size"]

LANES = 16  # images side by side
INT32 = ir.IntType(32)
INT64 = ir.IntType(64)


def data(context: Any, builder: Any, array_type: Any, value: Any) -> Any:
    """Pointer to the first number of a contiguous array."""
    return context.make_array(array_type)(context, builder, value).data


def everywhere(builder: Any, value: Any, vector: Any) -> Any:
    """One number in every lane of a vector."""
    undefined = ir.Constant(vector, ir.Undefined)
    single = builder.insert_element(undefined, value, ir.Constant(INT32, 0))
    return builder.shuffle_vector(
        single, undefined, ir.Constant(ir.VectorType(INT32, vector.count), [0] * vector.count)
    )


def for_each_size(
    builder: Any,
    positions: Any,
    columns: Any,
    most: tuple[int, int],
    starts: Any,
    inputs: Any,
    emit: Callable[[list[Any], int], None],
) -> None:
    """Code of its own for each number of positions and columns, up to `most`, so that all sums stay in registers.

    ``emit(sources, columns)`` writes it; `sources` point to the inputs of each position, whose offsets from `inputs`
    stand at `starts`.
    """
    done = builder.append_basic_block("size.done")
    sizes = [(p, c) for p in range(1, most[0] + 1) for c in range(1, most[1] + 1)]
    blocks = [builder.append_basic_block(f"size.{p}.{c}") for p, c in sizes]
    chosen = builder.add(builder.mul(positions, ir.Constant(INT64, most[1] + 1)), columns)
    switch = builder.switch(chosen, blocks[0])
    for (p, c), block in zip(sizes, blocks, strict=True):
        switch.add_case(ir.Constant(INT64, p * (most[1] + 1) + c), block)
        builder.position_at_end(block)
        places = [builder.load(builder.gep(starts, [ir.Constant(INT64, number)])) for number in range(p)]
        emit([builder.gep(inputs, [place]) for place in places], c)
        builder.branch(done)
    builder.position_at_end(done)
