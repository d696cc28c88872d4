"""How good networks are at cells whose current is no straight line, behind wires: columns against the circuit.

``python -m xbarsim.experiments.studies.current_laws`` takes tiles of 128 x 128 cells of two cards whose current is a
hyperbolic sine of the voltage, drives 30 % of the rows with codes of 1 and of 4 bits, and compares two estimates of the
column currents with the circuit solved for that law (:func:`xbarsim.circuit.solve`): straight lines, and what networks
compute, the current of each code through :func:`xbarsim.circuit.working_conductance`. It writes a table and a picture
into experiments/figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from xbarsim.circuit import SinhLaw, Wires, effective_conductance, solve, working_conductance
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.noise_through_wires import CARDS, tile
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["BITS", "CURVATURES", "RESISTANCES", "main", "measure", "picture"]

RESISTANCES = (0.0, 1.0, 2.0, 5.0)
"""Of one segment of word and bit line, ohm."""

CURVATURES = (0.5, 1.0, 2.0)
"""Read voltage over the scale of the law: the current is 4 %, 18 % and 81 % above the tangent at 0 V there."""

BITS = (1, 4)
"""Of a code that drives a row."""

_VOLTAGE = 0.2
_DRIVEN = 0.3  # share of the rows that are driven at all


def measure(card: str, resistance: float, curvature: float, bits: int, size: int = 128) -> dict[str, Any]:
    """Errors of the column currents of a tile, over its largest one: root of the mean square, and worst column.

    Parameters
    ----------
    card, size
        Cells of the tile, as :func:`xbarsim.experiments.studies.noise_through_wires.tile`, and its rows and columns.
    resistance
        Of a segment, ohm.
    curvature
        Read voltage over the scale of the law.
    bits
        Of the code of a row.
    """
    cells, rng = tile(card, size), np.random.default_rng(3)
    law = SinhLaw(voltage_scale=_VOLTAGE / curvature)
    design = Design(
        cell=replace(Cell.load(card).without_errors(), read_voltage=_VOLTAGE, read_noise=None, drift=None),
        periphery=Periphery(input_bits=bits, dac_bits=bits),
        current_law=law,
    )
    drive = design.drive(signed=False)
    codes = rng.integers(1, drive.max_plane, size, endpoint=True) * (rng.random(size) < _DRIVEN)
    wires = Wires(word_line_resistance=resistance, bit_line_resistance=resistance)
    small = cells * _VOLTAGE / law.relative(np.array([_VOLTAGE]))  # conductances of the law, at small voltages
    exact = solve(small, _VOLTAGE * codes / drive.max_plane, wires, law=law).column_currents
    effective = effective_conductance(cells, wires) * _VOLTAGE / drive.max_plane
    row: dict[str, Any] = {"card": card, "ohm a segment": resistance, "curvature": curvature, "bits": bits}
    working = working_conductance(
        cells, effective_conductance(cells, wires), law, _VOLTAGE, wires, codes=drive.max_plane
    )
    better = effective_conductance(working, wires) * _VOLTAGE / drive.max_plane
    for name, driven, seen in (("straight lines", codes, effective), ("networks", drive.carried(codes), better)):
        error = (driven @ seen - exact) / np.abs(exact).max()
        row[f"{name}, rms"] = float(np.sqrt((error**2).mean()))
        row[f"{name}, worst"] = float(np.abs(error).max())
    return row


def _text(rows: Sequence[dict[str, Any]]) -> str:
    return format_table(
        tuple(rows[0]),
        [
            tuple(f"{100 * value:.3g} %" if "," in name else str(value) for name, value in row.items())
            for row in rows
        ],
        left=1,
    )  # fmt: skip


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """Errors against the resistance of a segment, a panel for each width of the codes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 4.2), layout="constrained", dpi=150)
    panels = figure.subplots(1, len(BITS), sharey=True)
    colours = dict(zip(CURVATURES, ("C0", "C1", "C3"), strict=True))
    for axes, bits in zip(panels, BITS, strict=True):
        for card, mark in zip(CARDS, "os", strict=True):
            for curvature in CURVATURES:
                part = [r for r in rows if (r["card"], r["curvature"], r["bits"]) == (card, curvature, bits)]
                for name, line in (("networks", "-"), ("straight lines", ":")):
                    axes.plot(
                        range(len(part)),
                        [max(100 * r[f"{name}, rms"], 1e-4) for r in part],
                        linestyle=line, marker=mark, markersize=5, color=colours[curvature],
                    )  # fmt: skip
        axes.set_yscale("log")
        axes.set_xticks(range(len(RESISTANCES)), [f"{each:g}" for each in RESISTANCES])
        axes.set_xlabel("resistance of a segment (ohm)")
        axes.set_title(f"codes of {bits} bit{'s' if bits > 1 else ''}", fontsize=10)
        axes.grid(color="0.92", linewidth=0.8)
        axes.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("error of column currents, rms\n(% of the largest; 0.0001 and less at the bottom)")
    for curvature, colour in colours.items():
        panels[-1].plot([], [], color=colour, label=f"read voltage {curvature:g} x the law's scale")
    for card, mark in zip(CARDS, "os", strict=True):
        panels[-1].plot([], [], color="0.4", linestyle="none", marker=mark, label=card)
    for name, line in (("as networks compute it", "-"), ("straight lines", ":")):
        panels[-1].plot([], [], color="0.4", linestyle=line, label=name)
    figure.legend(*panels[-1].get_legend_handles_labels(), loc="outside right center", frameon=False, fontsize=8)
    return figure


def main(
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = FIGURES,
    size: Annotated[int, typer.Option(help="Rows and columns of a tile.", min=4)] = 128,
) -> None:
    """Measure, print, and write current_laws.csv and current_laws.png."""
    rows = [
        measure(card, resistance, curvature, bits, size)
        for card in CARDS
        for bits in BITS
        for curvature in CURVATURES
        for resistance in RESISTANCES
    ]
    typer.echo(_text(rows))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "current_laws.csv", csv_bytes(rows))
    save_figure(picture(rows), output / "current_laws.png")
    typer.echo(f"wrote {output / 'current_laws.csv'} and {output / 'current_laws.png'}")


if __name__ == "__main__":
    typer.run(main)
