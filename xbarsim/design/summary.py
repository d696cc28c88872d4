"""A design in a few lines: what decides its numbers, for people."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from xbarsim.circuit.cells import CurrentLaw
from xbarsim.circuit.wires import Wires
from xbarsim.design.periphery import Periphery
from xbarsim.devices import Cell, FaultModel, LineFaults, StuckFaults
from xbarsim.mapping import Mapping

__all__ = ["summary_rows"]


def summary_rows(
    cell: Cell,
    mapping: Mapping,
    periphery: Periphery,
    faults: FaultModel | None,
    wires: Wires | None,
    line_faults: LineFaults | None,
    current_law: CurrentLaw | None,
    subtraction: str,
) -> list[tuple[str, str]]:
    """What each part of a design says, one line each; parts as those of a :class:`xbarsim.design.Design`.

    Everything that changes a number is named, also where it is not there: no faults are said, not left out.
    """
    slices = mapping.encoding.slice_count(mapping.weight_bits, mapping.cell_bits)
    scale = "for the whole layer" if mapping.weight_scale == "tensor" else "for each output"
    cells = f"{_many(slices, 'slice')} of {mapping.cell_bits}-bit cells"
    weights = f"{mapping.weight_bits}-bit weights, scaled {scale}, in {cells}"
    most_bits = mapping.most_weight_bits
    if most_bits > mapping.weight_bits:
        most = mapping.encoding.slice_weights(mapping.weight_bits, mapping.cell_bits)[-1] * mapping.max_level
        weights += f" that hold {most_bits} bits as well"
        if most > mapping.max_weight:
            weights += f" (a stuck cell errs by up to {most / mapping.max_weight:.2g} x the largest weight)"
    if mapping.weight_clip is not None:
        weights += f", full scale at the quantile {mapping.weight_clip:g}"
    inputs = f"{periphery.input_bits}-bit inputs, {_many(periphery.dac_bits, 'bit')} at a time"
    inputs += ", negative ones in a second pass" if periphery.signed_inputs == "two_pass" else ", signed by an offset"
    if periphery.active_rows is not None:
        inputs += f", {_many(periphery.active_rows, 'row')} at a time"
    if periphery.skip_idle:
        inputs += ", reads of nothing skipped"
    rows = [
        ("cell", _cell(cell)),
        ("encoding", part_text(mapping.encoding)),
        ("arrays", f"{mapping.rows} x {mapping.columns}, packing {mapping.pack!r}"),
        ("weights", weights),
        ("inputs", inputs),
        ("converter", _converter(periphery, subtraction)),
        ("faults", _faults(faults)),
        ("wires", "ideal" if wires is None else part_text(wires)),
    ]
    if current_law is not None:
        rows.append(("currents of cells", part_text(current_law)))
    if periphery.drift_compensation is not None:
        rows.append(("drift", "compensated digitally, one factor for each layer"))
    if line_faults is not None:
        rows.append(("broken lines", part_text(line_faults)))
    for name, errors in (("converter errors", periphery.adc_errors), ("driver errors", periphery.dac_errors)):
        if errors is not None:
            rows.append((name, part_text(errors)))
    return rows


def part_text(part: Any) -> str:
    """A part and what is set of it: ``"Unary(...)"``, only fields that are not at their default."""
    name = type(part).__name__
    if not is_dataclass(part):
        return name
    said = [
        f"{field.name}={getattr(part, field.name)!r}"
        for field in fields(part)
        if field.init and field.repr and getattr(part, field.name) != field.default
    ]
    return f"{name}({', '.join(said)})" if said else name


def _many(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _cell(cell: Cell) -> str:
    parts = [
        f"{cell.name}: {1e6 * cell.g_min:.4g} to {1e6 * cell.g_max:.4g} uS, up to {_many(cell.levels, 'level')}",
        "programmed exactly" if cell.programming_error is None else "programming error",
        "no read noise" if cell.read_noise is None else "read noise",
    ]
    if cell.drift is not None:
        parts.append("drift")
    return ", ".join(parts)


def _converter(periphery: Periphery, subtraction: str) -> str:
    where = f"{subtraction} subtraction"
    if periphery.adc_range is None:
        return f"none: sums are read exactly, {where}"
    bits = "as many bits as needed" if periphery.adc_bits is None else _many(periphery.adc_bits, "bit")
    kind = periphery.adc_range if isinstance(periphery.adc_range, str) else f"{periphery.adc_range:g}"
    shared = "" if periphery.columns_per_adc is None else f", one for {_many(periphery.columns_per_adc, 'column')}"
    return f"{bits}, range {kind}, {where}{shared}"


def _faults(faults: FaultModel | None) -> str:
    if faults is None:
        return "none: no cell is stuck"
    rates = ", ".join(
        f"{100 * rate:.4g} % {kind.name.lower().replace('_', ' ')}" for kind, rate in faults.rates.items() if rate
    )
    name = "StuckFaults" if isinstance(faults, StuckFaults) else part_text(faults)
    return f"{name}: {rates or 'no cell is stuck'}"
