"""How wire resistance and stuck-on cells together cost accuracy: ResNet-20 with the exact circuit of every tile.

``python -m xbarsim.experiments.studies.wire_resistance`` measures 1,000 CIFAR-10 images on arrays of 128 x 128 cells
with an 8-bit converter on every row tile, and writes a table and a picture into experiments/figures. What is measured
is kept in a store, so that a run that was cut short goes on where it stopped.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import xbarsim as xb
from xbarsim.circuit import Wires
from xbarsim.devices import Cell, StuckFaults
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.results import Results
from xbarsim.sweep.task import Task

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from xbarsim.network import Chip

__all__ = ["RATES", "RESISTANCES", "current_loss", "main", "picture", "tasks"]

RESISTANCES = (0.0, 0.5, 1.0, 2.0, 4.0, 8.0)
"""Of one segment of word and bit line, ohm."""

RATES = (0.0, 0.0005, 0.001, 0.002)
"""Probability that a cell is stuck on."""

# The column of the current lost, by which dies measured long ago are known too, and where its function stands now.
_LOSS = "xbarsim.experiments.wire_resistance:current_loss"
_MEASURE_LOSS = f"{_LOSS}=xbarsim.experiments.studies.wire_resistance:current_loss"
_COLOURS = ("#000000", "#0072B2", "#009E73", "#D55E00")
_MARKERS = ("o", "s", "^", "D")


def current_loss(chip: Chip) -> float:
    """Share of the current that wires cost, all rows of a tile driven with one voltage: the mean over all tiles."""
    lost = [loss.mean for layer in chip.layers.values() for loss in layer.current_losses()]
    return math.fsum(lost) / len(lost)


def tasks(images: int, resistances: Sequence[float] = RESISTANCES, rates: Sequence[float] = RATES) -> list[Task]:
    """One task for each resistance and rate; all meet the same dies."""
    made = []
    for rate in rates:
        for resistance in resistances:
            design = xb.Design(
                cell=Cell.load("wan2022").without_errors(),
                mapping=xb.Mapping(rows=128, columns=128, weight_bits=8, cell_bits=4),
                periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=8),
                faults=StuckFaults(on=rate, off=0.0),
                wires=Wires(word_line_resistance=resistance, bit_line_resistance=resistance),
            )
            made.append(
                Task(
                    network="resnet20",
                    design=design,
                    images=images,
                    metrics=(_MEASURE_LOSS,),
                    tags={"resistance": resistance, "stuck_on_rate": rate},
                )
            )
    return made


def picture(rows: Sequence[dict[str, Any]], images: int) -> Figure:
    """Accuracy against resistance, a curve for each rate, with 95 % intervals of the mean die; and the current lost."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9.6, 3.9), layout="constrained", dpi=150)
    left, right = figure.subplots(1, 2, width_ratios=(3, 2))
    for index, rate in enumerate(sorted({row["stuck_on_rate"] for row in rows})):
        points = sorted((row for row in rows if row["stuck_on_rate"] == rate), key=lambda row: float(row["resistance"]))
        resistance = [row["resistance"] for row in points]
        name = "no stuck cell" if rate == 0 else f"{100 * rate:.2g} % stuck on"
        style: dict[str, Any] = {"color": _COLOURS[index], "marker": _MARKERS[index], "markersize": 5, "label": name}
        left.fill_between(
            resistance,
            [100 * row["low"] for row in points],
            [100 * row["high"] for row in points],
            color=_COLOURS[index],
            alpha=0.18,
            linewidth=0,
        )
        left.plot(resistance, [100 * row["accuracy"] for row in points], **style)
        right.plot(resistance, [100 * row["current_loss"] for row in points], **style)
    left.axhline(10, color="0.5", linewidth=0.8, linestyle=":")
    left.annotate(
        "chance", (0.01, 10), xycoords=("axes fraction", "data"), textcoords="offset points", xytext=(0, 3), color="0.4"
    )
    left.set_ylabel(f"accuracy on {images} CIFAR-10 images (%)")
    left.set_ylim(0, 100)
    right.set_ylabel("current lost in the wires (%)")
    right.set_ylim(bottom=0)
    for axes in (left, right):
        axes.set_xlabel("resistance of a wire segment (ohm)")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
    right.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


def _rows(results: Results) -> list[dict[str, Any]]:
    rows = []
    for result in results.tasks:
        interval = result.mean()
        losses = [float(measured.metrics[_LOSS]) for measured in result.dies]
        rows.append(
            {
                **{name: result.columns[name] for name in result.tags},
                "dies": len(result.dies),
                "accuracy": interval.estimate,
                "low": interval.low if interval.low == interval.low else interval.estimate,
                "high": interval.high if interval.high == interval.high else interval.estimate,
                "current_loss": math.fsum(losses) / len(losses),
            }
        )
    return rows


def main(
    images: Annotated[int, typer.Option(help="Test images.", min=1)] = 1000,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 5,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("wire_resistance.sqlite"),
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = FIGURES,
) -> None:
    """Measure, print, and write wire_resistance.csv and wire_resistance.png."""
    every = tasks(images)
    whole = [task for task in every if task.tags["stuck_on_rate"] == 0]  # without faults all dies are alike
    rows = _rows(collect(whole, stop=1, store=store))
    rows += _rows(collect([task for task in every if task not in whole], stop=dies, store=store))
    typer.echo(
        format_table(
            ("ohm a segment", "stuck on", "dies", "accuracy (%)", "95 % interval", "current lost"),
            [
                (
                    f"{row['resistance']:g}",
                    f"{row['stuck_on_rate']:.2%}",
                    row["dies"],
                    f"{100 * row['accuracy']:.1f}",
                    "-" if row["dies"] == 1 else f"{100 * row['low']:.1f} to {100 * row['high']:.1f}",
                    f"{row['current_loss']:.2%}",
                )
                for row in rows
            ],
        )
    )
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "wire_resistance.csv", csv_bytes(rows))
    save_figure(picture(rows, images), output / "wire_resistance.png")
    typer.echo(f"wrote {output / 'wire_resistance.csv'} and {output / 'wire_resistance.png'}")


if __name__ == "__main__":
    typer.run(main)
