"""Hypothesis strategies that several test modules share. One section a room."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from hypothesis import settings
from hypothesis import strategies as st

from xbarsim.circuit import Wires
from xbarsim.design import AdcErrors, Converter, DacErrors, Design, Drive, Periphery
from xbarsim.devices import Cell, FaultKind, FaultMap, LineFaults, Polynomial, ProgrammingError, ReadNoise, StuckFaults
from xbarsim.die import program
from xbarsim.engine import Noise, Plan, make_plan, reference_multiply
from xbarsim.mapping import (
    Balanced,
    Differential,
    DuplicatedDifferential,
    DuplicatedTop,
    Encoding,
    MappedMatrix,
    Mapping,
    Offset,
    Reading,
    TwoColumn,
    Unary,
    map_matrix,
)
from xbarsim.mapping.encodings.duplicated_top import DuplicatedPairs

# ---------------------------------------------------------------------------------------------- mapping

#: Every encoding in every variant.
ALL_ENCODINGS: tuple[Encoding, ...] = (
    TwoColumn(),
    Differential(),
    Balanced(),
    Offset(reference="column"),
    Offset(reference="digital"),
    Unary(),
    DuplicatedTop(),
    DuplicatedDifferential(),
)


def slice_weight(mapping: Mapping, number: int) -> float:
    """What slice `number` of a weight counts, by the definition of each encoding, not asking it."""
    if isinstance(mapping.encoding, Unary):
        cells = mapping.encoding.cells
        return float((cells * mapping.max_level + 1) ** (number // cells))
    if isinstance(mapping.encoding, DuplicatedPairs) and number >= mapping.slices - 2:
        return float(2 ** (mapping.cell_bits * (mapping.slices - 2))) / 2
    return float(2 ** (mapping.cell_bits * number))


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
    # Empty whole tiles first (before rows and outputs go, which shifts what packing puts on a tile).
    for row in range(0, inputs, mapping.rows):
        for output in range(0, outputs, mapping.outputs_per_tile):
            if draw(st.booleans()):
                codes[row : row + mapping.rows, output : output + mapping.outputs_per_tile] = 0
    if draw(st.booleans()):
        codes[list(draw(st.sets(st.integers(0, inputs - 1), max_size=inputs)))] = 0
        codes[:, list(draw(st.sets(st.integers(0, outputs - 1), max_size=outputs)))] = 0
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
            bias=None if bias is None else Polynomial(coefficients=(bias * g_max,), scale=g_max, minimum=-math.inf),
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
        implausible=g_max > 0.1 or draw(st.booleans()),
    )


@st.composite
def fault_maps(
    draw: st.DrawFn,
    shape: tuple[int, int, int] | None = None,
    kinds: tuple[FaultKind, ...] = tuple(FaultKind),
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
        value=np.array([faults[i][1] if faults[i][0] == FaultKind.STUCK_AT else np.nan for i in index]),
        note=draw(st.text(max_size=20)),
    )


# ----------------------------------------------------------------------------------------------- engine

#: A cell whose g_min is no whole number of level steps, so that its currents matter.
ENGINE_CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=256)


@dataclass(frozen=True, eq=False)
class TiledLayer:
    """A layer on its tiles, and how these are driven and read."""

    reading: Reading
    drive: Drive
    converter: Converter

    @classmethod
    def of(cls, mapped: MappedMatrix, design: Design, *, signed: bool, rows: int) -> TiledLayer:
        """A placed matrix, driven and read as a design says."""
        return TiledLayer(design.reading(mapped), design.drive(signed=signed), design.converter(rows=rows))

    @property
    def mapped(self) -> MappedMatrix:
        """The placed matrix."""
        return self.reading.matrix

    def plan(self, cells: npt.NDArray[Any], noise: Noise | None = None, **options: Any) -> Plan:
        """The cheapest plan for these cells."""
        return make_plan(self.reading, cells, self.drive, self.converter, noise, **options)

    def product(self, codes: npt.NDArray[Any], cells: npt.NDArray[Any], **options: Any) -> npt.NDArray[np.float64]:
        """What the reference engine makes of input codes (vectors, inputs)."""
        return reference_multiply(codes, self.reading, cells, self.drive, self.converter, **options)


@dataclass(frozen=True, eq=False, repr=False)
class EngineCase(TiledLayer):
    """One layer of one die with inputs: all that the engine is given."""

    design: Design
    cells: npt.NDArray[np.float32]
    codes: npt.NDArray[np.int32]  # (images, positions, inputs)

    @property
    def vectors(self) -> npt.NDArray[np.int32]:
        """Input codes, shape (vectors, inputs)."""
        return self.codes.reshape(-1, self.codes.shape[2])

    def __repr__(self) -> str:
        return (
            f"EngineCase({self.design.mapping}, {self.drive}, {self.converter}, {self.mapped.shape}, "
            f"{self.codes.shape}, whole={bool((self.cells == np.rint(self.cells)).all())})"
        )


_SIGNED_INPUTS: tuple[Literal["two_pass", "offset"], ...] = ("two_pass", "offset")

#: Converters by what they can do to a read: arguments of `Periphery`, given the bits.
CONVERTERS: tuple[str, ...] = ("none", "lossless", "full", "coarse", "clipping")


def _converter(draw: st.DrawFn, kind: str) -> dict[str, Any]:
    if kind == "none":
        return {}
    if kind == "lossless":
        return {"adc_range": "lossless"}
    bits = draw(st.integers(2, 9))
    if kind == "full":
        return {"adc_bits": bits, "adc_range": "full"}
    if kind == "coarse":  # steps above one unit: always lossy
        return {"adc_bits": bits, "adc_range": float(2**bits) * draw(st.floats(1.0625, 8.0))}
    return {"adc_bits": bits, "adc_range": draw(st.floats(0.5, 3.0))}


@st.composite
def engine_cases(
    draw: st.DrawFn,
    /,
    encoding: Encoding | None = None,
    converters: tuple[str, ...] = CONVERTERS,
    planes: str = "any",
    on_levels: bool | None = None,
    **fixed: Any,
) -> EngineCase:
    """A layer on a die.

    Parameters
    ----------
    draw
        Given by hypothesis.
    encoding
        The encoding, or any.
    converters
        Which of `CONVERTERS` to draw from.
    planes
        ``"one"``, ``"several"`` or ``"any"``.
    on_levels
        Whether all cells sit on levels (perhaps stuck ones), or off them; ``None`` for either.
    fixed
        Fields of `Mapping`.
    """
    encoding = draw(encodings()) if encoding is None else encoding
    weight_bits, cell_bits = draw(st.integers(2, 9)), draw(st.integers(1, 5))
    output = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    rows = draw(st.sampled_from([1, 2, 7, 63, 64, 65, 130]))
    values = {
        "encoding": encoding,
        "rows": rows,
        "columns": draw(st.integers(1, 6)) * output + draw(st.integers(0, output - 1)) + encoding.has_reference,
        "weight_bits": weight_bits,
        "cell_bits": cell_bits,
        "pack": draw(st.sampled_from(["none", "matrix", "block"])),
    }
    mapping = Mapping(**{**values, **fixed})
    signed, signed_inputs = draw(st.booleans()), draw(st.sampled_from(_SIGNED_INPUTS))
    input_bits = draw(st.integers(4, 9) if planes == "several" else st.integers(2, 9))
    dac_bits = {
        "one": st.just(input_bits),
        "several": st.integers(1, input_bits // 2),
        "any": st.integers(1, input_bits),
    }[planes]
    pairs = mapping.sides == 2
    together = draw(st.none() | st.sampled_from([1, 2, 3, 5]).map(lambda reads: -(-rows // reads)) | st.just(rows + 1))
    design = Design(
        cell=ENGINE_CELL,
        mapping=mapping,
        periphery=Periphery(
            active_rows=together,
            input_bits=input_bits,
            dac_bits=draw(dac_bits),
            subtraction=draw(st.sampled_from(["analog", "digital"])) if pairs else None,
            signed_inputs=signed_inputs,
            **_converter(draw, draw(st.sampled_from(converters))),
        ),
    )
    drive, converter = design.drive(signed=signed), design.converter(rows=rows)

    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    inputs = draw(st.integers(1, min(3 * rows, 150)))
    outputs = draw(st.integers(1, min(3 * mapping.outputs_per_tile, 12)))
    largest = mapping.max_weight
    codes = rng.integers(-largest, largest, size=(inputs, outputs), endpoint=True)
    codes[rng.random(codes.shape) < draw(st.sampled_from([0.0, 0.3, 0.9]))] = 0
    if draw(st.booleans()):  # pruned rows and outputs: packing leaves other rows to each group of tiles
        codes[rng.random(inputs) < 0.3] = 0
        codes[:, rng.random(outputs) < 0.2] = 0
        codes[: inputs // 2, : outputs // 2] = 0
    mapped = map_matrix(codes, mapping)

    cell = ENGINE_CELL
    if not (draw(st.booleans()) if on_levels is None else on_levels):
        error = ProgrammingError(spread=Polynomial(coefficients=(4e-7,), scale=1.0), valid_from=1e-7, valid_to=2e-5)
        cell = replace(ENGINE_CELL, programming_error=error)
    rate = draw(st.sampled_from([0.0, 0.02, 0.3]))
    faults = StuckFaults(on=rate, off=rate) if rate and mapped.tiles else None
    die = program(mapped.levels, cell, cell_bits, rng, faults=faults)
    images, positions = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    low, high = drive.min_input, drive.max_input
    given = rng.integers(low, high, size=(images, positions, inputs), endpoint=True).astype(np.int32)
    given[rng.random(given.shape) < draw(st.sampled_from([0.0, 0.6]))] = 0
    given[0, 0] = draw(st.sampled_from([low, high]))  # the extremes, at which converters saturate
    return EngineCase(design.reading(mapped), drive, converter, design, die, given)


@st.composite
def peripheries(draw: st.DrawFn, /, pairs: bool = True) -> Periphery:
    """Any periphery, bar a lossless converter of given bits; without analog subtraction unless `pairs`."""
    input_bits = draw(st.integers(1, 16))
    adc_bits = draw(st.none() | st.integers(1, 24))
    ranges: st.SearchStrategy[Any] = st.sampled_from([None, "lossless"])
    if adc_bits is not None:  # never "lossless": whether the bits are enough depends on the rest of the design
        names = [None, "calibrated", "full"]
        ranges = st.sampled_from(names) | st.floats(1e-3, 1e9)
    adc_range = draw(ranges)
    spreads, shares = st.floats(0.0, 2.0), st.floats(0.0, 1.0)
    adc_errors = st.builds(AdcErrors, offset=spreads, gain=spreads, capacitor_mismatch=spreads, dead=shares)
    dac_errors = st.builds(DacErrors, offset=spreads, gain=spreads, dead=shares)
    return Periphery(
        input_bits=input_bits,
        dac_bits=draw(st.integers(1, min(input_bits, 4))),
        adc_bits=adc_bits,
        adc_range=adc_range,
        active_rows=draw(st.none() | st.integers(1, 200)),
        columns_per_adc=draw(st.integers(1, 200)),
        adc_errors=None if adc_bits is None and adc_range is None else draw(st.none() | adc_errors),
        dac_errors=draw(st.none() | dac_errors),
        subtraction=draw(st.sampled_from([None, "digital", *(["analog"] if pairs else [])])),
        signed_inputs=draw(st.sampled_from(["two_pass", "offset"])),
    )


@st.composite
def wires(draw: st.DrawFn) -> Wires:
    """Any wires; ideal ones included."""
    ohms = st.just(0.0) | st.floats(1e-3, 1e4)
    kinds: tuple[Literal["1T1R", "0T1R"], ...] = ("1T1R", "0T1R")
    access = draw(st.sampled_from(kinds))
    return Wires(
        word_line_resistance=draw(ohms),
        bit_line_resistance=draw(ohms),
        driver_resistance=draw(ohms),
        sense_resistance=draw(ohms),
        drive=draw(st.sampled_from(["one", "both"])),
        sense=draw(st.sampled_from(["near", "far", "both"])),
        access=access,
        access_resistance=draw(ohms) if access == "1T1R" else 0.0,
        unselected=draw(st.sampled_from(["grounded", "floating"])),
    )


@st.composite
def designs(draw: st.DrawFn) -> Design:
    """Any design, every field drawn."""
    cell = draw(cells())
    if draw(st.booleans()):
        noise = ReadNoise(
            spread=Polynomial(coefficients=(draw(st.floats(0.0, 1e-7)),), scale=draw(st.floats(1e-9, 1.0))),
            valid_from=cell.g_min / 3,
            valid_to=cell.g_max * 3,
        )
        cell = Cell(
            name=cell.name,
            g_min=cell.g_min,
            g_max=cell.g_max,
            levels=cell.levels,
            programming_error=cell.programming_error,
            read_noise=noise,
            read_voltage=cell.read_voltage,
            source=draw(st.text(max_size=20)),
            implausible=cell.implausible,
        )
    most_bits = min(int(math.log2(cell.levels)), 8)
    mapping = draw(mappings(cell_bits=draw(st.integers(1, most_bits))))
    periphery = draw(peripheries(pairs=mapping.sides == 2))
    on = draw(st.floats(0.0, 1.0))
    faults = draw(
        st.none()
        | st.builds(
            StuckFaults,
            on=st.just(on),
            off=st.floats(0.0, 1.0).map(lambda share: share * (1.0 - on)),
            count=st.sampled_from(["independent", "exact"]),
        )
    )
    around = draw(st.none() | wires())
    shares = st.floats(0.0, 1.0)
    shorts = shares if around is None or around.sense_resistance == 0.0 else st.just(0.0)
    line_faults = st.builds(LineFaults, open_word_line=shares, open_bit_line=shares, shorted_bit_lines=shorts)
    return Design(
        cell=cell,
        mapping=mapping,
        periphery=periphery,
        faults=faults,
        wires=around,
        line_faults=draw(st.none() | line_faults),
    )
