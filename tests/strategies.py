"""Hypothesis strategies that several test modules share. One section a room."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

from xbarsim.devices import Cell, FaultMap, Kind, Polynomial, ProgrammingError
from xbarsim.mapping import Balanced, Differential, Encoding, Mapping, Offset, TwoColumn

# ---------------------------------------------------------------------------------------------- mapping

#: Every encoding in every variant.
ALL_ENCODINGS: tuple[Encoding, ...] = (
    TwoColumn(),
    Differential(),
    Balanced(),
    Offset(reference="column"),
    Offset(reference="digital"),
)

#: For properties whose examples build small matrices: no deadline, since the machine may be busy.
relaxed = settings(deadline=None, max_examples=100)


def encodings() -> st.SearchStrategy[Encoding]:
    """Any encoding, in any variant."""
    return st.sampled_from(ALL_ENCODINGS)


@st.composite
def mappings(draw: st.DrawFn, /, encoding: Encoding | None = None, **fixed: Any) -> Mapping:
    """A mapping with small tiles, so that small matrices take many; `fixed` sets fields of `Mapping`."""
    encoding = draw(encodings()) if encoding is None else encoding
    weight_bits = fixed.get("weight_bits", draw(st.integers(2, 9) | st.just(16)))
    cell_bits = fixed.get("cell_bits", draw(st.integers(1, 8)))
    output = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    outputs, spare = draw(st.integers(1, 4)), draw(st.integers(0, output - 1))
    values = {
        "encoding": encoding,
        "rows": draw(st.integers(1, 5)),
        "columns": outputs * output + spare + encoding.has_reference,
        "weight_bits": weight_bits,
        "cell_bits": cell_bits,
        "weight_scale": draw(st.sampled_from(["tensor", "output"])),
        "pack": draw(st.sampled_from(["none", "matrix", "block"])),
    }
    return Mapping(**{**values, **fixed})


@st.composite
def code_matrices(draw: st.DrawFn, /, mapping: Mapping) -> npt.NDArray[np.int64]:
    """Weight codes for `mapping` on up to 4 x 4 tiles, with empty rows, outputs, blocks, or all empty."""
    inputs = draw(st.integers(1, 4 * mapping.rows))
    outputs = draw(st.integers(1, min(4 * mapping.outputs_per_tile, 12)))
    density = draw(st.sampled_from([1.0, 0.5, 0.1, 0.0]))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    largest = mapping.max_weight
    codes = rng.integers(-largest, largest, size=(inputs, outputs), endpoint=True)
    codes[rng.random(codes.shape) < draw(st.sampled_from([0.0, 0.2]))] = largest
    codes[rng.random(codes.shape) >= density] = 0
    codes[list(draw(st.sets(st.integers(0, inputs - 1), max_size=inputs)))] = 0
    codes[:, list(draw(st.sets(st.integers(0, outputs - 1), max_size=outputs)))] = 0
    if draw(st.booleans()):  # empty a block of one tile's size
        row, output = draw(st.integers(0, inputs - 1)), draw(st.integers(0, outputs - 1))
        codes[row : row + mapping.rows, output : output + mapping.outputs_per_tile] = 0
    return codes


@st.composite
def stuck_maps(draw: st.DrawFn, /, shape: tuple[int, int, int]) -> FaultMap:
    """A fault map with stuck-on and stuck-off cells at any rate, none and all included."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rate, on_share = draw(st.sampled_from([0.0, 0.05, 0.5, 1.0])), draw(st.sampled_from([0.0, 0.5, 1.0]))
    kinds = np.where(rng.random(shape) < on_share, 2, 1)
    kinds[rng.random(shape) >= rate] = 0
    return FaultMap.from_dense(kinds)


# ---------------------------------------------------------------------------------------------- devices


@st.composite
def cells(draw: st.DrawFn, *, programming_error: bool | None = None) -> Cell:
    """Any cell; with, without or (by default) perhaps with a programming error."""
    g_min = draw(st.floats(1e-9, 1e-4))
    g_max = g_min * draw(st.floats(1.01, 1e4))
    error = None
    if programming_error or (programming_error is None and draw(st.booleans())):
        share = st.floats(0.0, 0.1)
        bias = draw(st.none() | st.floats(-0.1, 0.1))
        error = ProgrammingError(
            spread=Polynomial(coefficients=(draw(share) * g_max, draw(share) * g_max), scale=g_max),
            bias=None
            if bias is None
            else Polynomial(coefficients=(bias * g_max,), scale=g_max, minimum=-math.inf),
            valid_from=g_min / 2,
            valid_to=g_max,
        )
    return Cell(
        name=draw(st.text(max_size=8)),
        g_min=g_min,
        g_max=g_max,
        levels=draw(st.integers(2, 300)),
        programming_error=error,
        read_voltage=draw(st.none() | st.floats(0.01, 1.0)),
    )


@st.composite
def fault_maps(
    draw: st.DrawFn,
    shape: tuple[int, int, int] | None = None,
    kinds: tuple[Kind, ...] = tuple(Kind),
) -> FaultMap:
    """Any fault map, of `shape` if one is given, with faults of `kinds`."""
    if shape is None:
        shape = (draw(st.integers(0, 3)), draw(st.integers(1, 6)), draw(st.integers(1, 6)))
    size = shape[0] * shape[1] * shape[2]
    faults = draw(
        st.dictionaries(
            st.integers(0, max(size - 1, 0)),
            st.tuples(st.sampled_from(kinds), st.floats(0.0, 1e-2)),
            max_size=min(size, 20),
        )
    )
    index = sorted(faults)
    return FaultMap(
        shape=shape,
        index=np.array(index, dtype=np.int64),
        kind=np.array([faults[i][0] for i in index], dtype=np.uint8),
        value=np.array([faults[i][1] if faults[i][0] == Kind.STUCK_AT else np.nan for i in index]),
        note=draw(st.text(max_size=20)),
    )
