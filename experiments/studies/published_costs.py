"""Published power, area and throughput against ours, with what closes each gap; and what differential mapping costs.

Run as ``python -m xbarsim.experiments.studies.published_costs``. Prints the table, fits the card islped2019 anew, and
writes ``published_costs.csv`` and ``published_costs.png`` into experiments/figures.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from xbarsim.cost import Hardware, LayerUse, compare_published, estimate, hardware_names
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.mapping import Differential, Mapping, TwoColumn
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "ANCHORS",
    "SAVINGS",
    "Row",
    "anchors",
    "differential",
    "fit",
    "layer_shapes",
    "picture",
    "savings",
    "totals",
]

ANCHORS = (
    ("resnet18", 5.83, 0.235, 3.359),
    ("resnet18", 15.14, 0.117, 1.622),
    ("resnet18", 52.07, 0.042, 0.585),
    ("resnet18", 59.84, 0.041, 0.556),
    ("vgg16", 20.16, 0.113, 1.611),
    ("vgg16", 44.67, 0.056, 0.824),
    ("vgg16", 50.02, 0.053, 0.754),
)
"""Network, compression, area (mm2) and power (W) of Table 2 of doi:10.1109/ASP-DAC47756.2020.9045658, 8-bit weights."""

SAVINGS = (
    ("resnet18", 20.88, 0.9746, 0.9695),
    ("vgg16", 29.81, 0.9828, 0.9838),
)
"""Network, compression, area and power saved by pruning and 5-bit weights against 9-bit unpruned ones: figure 8 of
doi:10.1109/ISLPED.2019.8824944."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published number beside ours.

    Attributes
    ----------
    source, name, quantity, unit
        What it is.
    published, ours
        In `unit`.
    note
        Where it is printed, and the assumption that closes a gap.
    """

    source: str
    name: str
    quantity: str
    unit: str
    published: float
    ours: float
    note: str

    @property
    def deviation(self) -> float:
        """The deviation, ours / published - 1."""
        return self.ours / self.published - 1


def totals() -> list[Row]:
    """Every total that the source of a hardware card prints."""
    return [
        Row(
            source=name,
            name=each.name,
            quantity=each.quantity,
            unit=each.unit,
            published=each.published,
            ours=each.computed,
            note=each.note,
        )
        for name in hardware_names()
        for each in compare_published(Hardware.load(name))
    ]


@cache
def layer_shapes(network: str) -> tuple[tuple[int, int], ...]:
    """Inputs and outputs of the weight matrix of each layer, convolutions as matrices."""
    from torch import nn

    from xbarsim.models import untrained_model

    model, _ = untrained_model(network)
    return tuple(
        (math.prod(layer.weight.shape[1:]), layer.weight.shape[0])
        for layer in model.modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
    )


def arrays(network: str, compression: float, mapping: Mapping) -> int:
    """Arrays of a network whose layers each keep 1 / sqrt(compression) of their inputs and of their outputs."""
    keep = 1 / math.sqrt(compression)
    return sum(
        math.ceil(max(1, math.ceil(inputs * keep)) / mapping.rows)
        * math.ceil(max(1, math.ceil(outputs * keep)) / mapping.outputs_per_tile)
        for inputs, outputs in layer_shapes(network)
    )


def _use(count: int, mapping: Mapping) -> LayerUse:
    return LayerUse(
        name="network",
        arrays=count,
        rows=mapping.rows,
        columns=mapping.columns,
        adc_bits=8,
        dac_bits=1,
        reads_per_vector=8,
        macs_per_vector=1,
        vectors_per_image=1,
    )


_ANCHOR_MAPPING = Mapping(rows=128, columns=128, weight_bits=9, cell_bits=4)  # 8-bit magnitudes and a sign


def fit() -> tuple[float, float, float, float]:
    """Power (W) and area (m2) of 128 x 128 cells with their peripherals that fit :data:`ANCHORS` best.

    Returns
    -------
    power, area
        Least squares of the relative deviations.
    power_left, area_left
        Largest relative deviation of each.
    """
    counts = np.array([arrays(network, compression, _ANCHOR_MAPPING) for network, compression, _, _ in ANCHORS])
    fitted, left = [], []
    for published in ([1.0 * each[3] for each in ANCHORS], [1e-6 * each[2] for each in ANCHORS]):
        ratio = counts / np.array(published)
        each = float(ratio.sum() / (ratio**2).sum())
        fitted.append(each)
        left.append(float(np.abs(each * ratio - 1).max()))
    return fitted[0], fitted[1], left[0], left[1]


def anchors() -> list[Row]:
    """Totals of pruned networks with the card islped2019, whose two numbers are fitted to them."""
    card = Hardware.load("islped2019")
    rows = []
    for network, compression, area, power in ANCHORS:
        report = estimate([_use(arrays(network, compression, _ANCHOR_MAPPING), _ANCHOR_MAPPING)], card)
        for quantity, unit, published, ours in (
            ("area", "mm2", area, 1e6 * report.area),
            ("power", "W", power, report.power),
        ):
            rows.append(
                Row(
                    source="ma2020",
                    name=f"{network} {compression:g}x",
                    quantity=quantity,
                    unit=unit,
                    published=published,
                    ours=ours,
                    note="Table 2; two numbers fitted to fourteen, filters and columns each pruned to 1 / sqrt(CR)",
                )
            )
    return rows


def savings() -> list[Row]:
    """Area and power left after pruning and going from 9-bit to 5-bit weights, times the compression.

    ``"whole crossbars"`` prunes to whole arrays, as the paper asks of itself: what is left is 1 / CR of half as many
    arrays. ``"rounded up"`` prunes every layer alike and fills arrays as far as they go.
    """
    card = Hardware.load("islped2019")
    rows = []
    wide, narrow = (Mapping(rows=128, columns=64, weight_bits=bits, cell_bits=4) for bits in (9, 5))
    for network, compression, area_saved, power_saved in SAVINGS:
        before = arrays(network, 1.0, wide)
        halved = arrays(network, 1.0, narrow)
        for kind, left in (
            ("whole crossbars", halved / compression),
            ("rounded up", float(arrays(network, compression, narrow))),
        ):
            # in thousandths of an array, since 1 / CR of the arrays is no whole number
            cost = [estimate([_use(count, wide)], card) for count in (1000 * before, round(1000 * left))]
            for quantity, saved in (("area", area_saved), ("power", power_saved)):
                rows.append(
                    Row(
                        source="yuan2019",
                        name=f"{network} {compression:g}x, 5 bits, {kind}",
                        quantity=f"{quantity} left x CR",
                        unit="1",
                        published=compression * (1 - saved),
                        ours=compression * getattr(cost[1], quantity) / getattr(cost[0], quantity),
                        note="figure 8. Half as many 4-bit cells a weight leave 0.5 / CR; what the paper has beyond or "
                        "below it comes from peripherals that it does not describe, and its power of ResNet-18 would "
                        "need a fixed part of 0.7 % of the unpruned network's",
                    )
                )
    return rows


def differential(
    pruned: Sequence[float] = (0.0, 0.8), devices: Sequence[str] = ("isaac2016", "wan2022", "zhu2023")
) -> list[dict[str, Any]]:
    """What parking zeros at high conductance costs: the digits network with both mappings, on ISAAC's hardware.

    Parameters
    ----------
    pruned
        Parts of each layer's weights, the smallest, that are set to zero; no accuracy is claimed for them.
    devices
        Device cards that state a read voltage.

    Returns
    -------
    rows
        Sparsity, device card, mapping, static power of the cells (W), their energy and all energy of an inference (J).
    """
    import torch

    from xbarsim.data import load_digits_split
    from xbarsim.design import Design, Periphery
    from xbarsim.devices import Cell
    from xbarsim.models import load_model
    from xbarsim.network import map_model

    rows = []
    calibration = load_digits_split().train_images[:256]
    for sparsity in pruned:
        model, _ = load_model("digits")
        with torch.no_grad():
            for layer in model.modules():
                if isinstance(layer, torch.nn.Conv2d | torch.nn.Linear) and sparsity:
                    size = layer.weight.abs()
                    layer.weight[size <= size.flatten().kthvalue(round(sparsity * size.numel())).values] = 0.0
        for device in devices:
            cell = Cell.load(device)
            bits = min(4, int(math.log2(cell.levels)))
            for encoding in (TwoColumn(), Differential()):
                design = Design(
                    cell=cell,
                    mapping=Mapping(encoding=encoding, weight_bits=9, cell_bits=bits, pack="none"),
                    periphery=Periphery(input_bits=8, dac_bits=1, adc_bits=8),
                )
                report = map_model(model, design, calibration=calibration).cost("isaac2016")
                work = report.workload()
                rows.append(
                    {
                        "sparsity": sparsity,
                        "device": cell.name,
                        "mapping": type(encoding).__name__,
                        "cells_power_W": math.fsum(each.power for each in report.components if each.name == "cells"),
                        "cells_energy_J": math.fsum(each.energy for each in work.components if each.name == "cells"),
                        "energy_J": work.energy,
                    }
                )
    return rows


def picture(rows: Sequence[Row]) -> Figure:
    """Relative deviation of each number, by source."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.2, 1.4 + 0.2 * len(rows)), layout="constrained", dpi=150)
    axes = figure.add_subplot()
    colours = {"power": "#D55E00", "area": "#0072B2"}
    sources = list(dict.fromkeys(row.source for row in rows))
    place, places, names = 0.0, [], []
    for source in sources:
        for row in (each for each in rows if each.source == source):
            kind = "power" if row.quantity.startswith("power") else "area" if row.quantity.startswith("area") else ""
            deviation = 100 * row.deviation
            axes.barh(place, deviation, height=0.75, color=colours.get(kind, "#009E73"))
            shown = f"{deviation:+.1f}" if abs(deviation) >= 0.05 else "0.0"
            axes.annotate(
                shown,
                (deviation, place),
                xytext=(3 if deviation >= 0 else -3, 0),
                textcoords="offset points",
                ha="left" if deviation >= 0 else "right",
                va="center",
                fontsize=7,
            )
            places.append(place)
            names.append(f"{source}: {row.name}, {row.quantity.replace('_', ' ')}")
            place += 1
        place += 0.7
    axes.set_yticks(places, names, fontsize=7)
    axes.set_ylim(place - 0.7, -0.8)
    axes.axvline(0, color="0.2", linewidth=0.8)
    low, high = axes.get_xlim()
    axes.set_xlim(low - 4, high + 4)
    axes.set_xlabel("ours / published - 1 (%)", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    for kind, colour in (*colours.items(), ("throughput, alone or per power or area", "#009E73")):
        axes.barh(0, 0, color=colour, label=kind)
    axes.legend(fontsize=8, frameon=False, loc="lower center", bbox_to_anchor=(0.3, 1.0), ncols=3, borderaxespad=0.1)
    return figure


def _save(rows: Sequence[Row], figure: Figure, output: Path) -> None:
    stream = io.StringIO(newline="")
    writer = csv.writer(stream, lineterminator="\n")
    writer.writerow(("source", "name", "quantity", "unit", "published", "ours", "deviation", "note"))
    for row in rows:
        numbers = (f"{row.published:.6g}", f"{row.ours:.6g}", f"{row.deviation:.6f}")
        writer.writerow((row.source, row.name, row.quantity, row.unit, *numbers, row.note))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "published_costs.csv", stream.getvalue().encode())
    save_figure(figure, output / "published_costs.png")


def main(output: Annotated[Path, typer.Option(help="Folder for table and picture.")] = FIGURES) -> None:
    """Print the table and write it and its picture."""
    rows = [*totals(), *anchors(), *savings()]
    typer.echo(
        format_table(
            ("source", "what", "quantity", "unit", "published", "ours", "deviation"),
            [
                (
                    row.source,
                    row.name,
                    row.quantity,
                    row.unit,
                    f"{row.published:.5g}",
                    f"{row.ours:.5g}",
                    f"{row.deviation:+.2%}",
                )
                for row in rows
            ],
            left=4,
        )
    )
    typer.echo("\nwhat closes the gaps of 1 % and more:")
    gaps: dict[str, list[str]] = {}
    for row in rows:
        if abs(row.deviation) >= 0.01:
            gaps.setdefault(f"{row.source}: {row.note}", []).append(f"{row.name}, {row.quantity}")
    for note, names in gaps.items():
        typer.echo(f"- {note} [{'; '.join(names)}]")
    power, area, power_left, area_left = fit()
    typer.echo(
        f"\nislped2019, fitted: {1e3 * power:.4g} mW and {1e12 * area:.4g} um2 for 128 x 128 cells with their "
        f"peripherals, within {power_left:.1%} and {area_left:.1%}"
    )
    typer.echo("\ndifferential mapping against two columns, digits network, ISAAC hardware:")
    encodings = differential()
    lines = []
    for two, other in zip(encodings[::2], encodings[1::2], strict=True):
        lines.append(
            (
                two["device"],
                f"{two['sparsity']:.0%}",
                *(f"{1e3 * each['cells_power_W']:.3g}" for each in (two, other)),
                f"{other['cells_power_W'] / two['cells_power_W']:.2f}",
                *(f"{1e9 * each['energy_J']:.4g}" for each in (two, other)),
                f"{other['energy_J'] / two['energy_J']:.2f}",
            )
        )
    header = ("device", "zeros", "cells, two (mW)", "differential", "ratio", "all, two (nJ)", "differential", "ratio")
    typer.echo(format_table(header, lines))
    _save(rows, picture(rows), output)
    typer.echo(f"\nwrote published_costs.csv and published_costs.png into {output}")


if __name__ == "__main__":
    typer.run(main)
