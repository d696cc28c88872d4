"""How good the estimate of read noise through wires is: every column of a tile against the exact covariance.

``python -m xbarsim.experiments.studies.noise_through_wires`` takes tiles of 128 x 128 cells of two cards, wires of 1, 2
and 5 ohm a segment, and bits of which 10 %, 30 % or all are 1, and writes a table and a picture into
experiments/figures. With ``--network`` it prints how much the rows of ResNet-20 load the lines together, of 64 CIFAR-10
images.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import typer

from xbarsim.circuit import Wires, effective_conductance, effective_variance, reference_covariance, solve
from xbarsim.devices import Cell, NoiseVariance
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure

if TYPE_CHECKING:
    import torch
    from matplotlib.figure import Figure

__all__ = ["CARDS", "FILLINGS", "RESISTANCES", "fillings", "main", "measure", "picture", "tile", "wires_own_share"]

Floats = npt.NDArray[np.float64]

CARDS = ("agrawal2022", "falcone2025_coarse")
"""Cells of up to 14 uS without a floor, and of 9 to 88 uS."""

RESISTANCES = (1.0, 2.0, 5.0)
"""Of one segment of word and bit line, ohm."""

FILLINGS = (0.1, 0.3, 1.0)
"""Share of the rows that are driven."""

_POWERS = {"thermal": "constant", "shot": "linear", "conductance": "quadratic"}


def tile(card: str, size: int) -> Floats:
    """Cells of a tile, S: halves of normal weights, a quarter of full scale wide, at 16 levels."""
    rng = np.random.default_rng(1)
    weights = np.abs(rng.normal(0, 0.25, (size, size))).clip(0, 1) * (rng.random((size, size)) < 0.5)
    return Cell.load(card).conductance((15 * weights).round(), 4)


def wires_own_share(cells: Floats, wires: Wires) -> float:
    """Share of the thermal noise of a column that its wires make, were they as hot as its cells; the middle column's.

    By Nyquist all together make that of the conductance which the sense circuit sees. It is the current that it gives
    at 1 V: the array is turned, so that it stands for a driver.
    """
    column = cells.shape[1] // 2
    turned = Wires(
        word_line_resistance=wires.bit_line_resistance, bit_line_resistance=wires.word_line_resistance, sense="near"
    )
    volt = np.zeros(cells.shape[1])
    volt[column] = 1.0
    seen = float(solve(cells[::-1].T, volt, turned, tolerance=1e-5).row_currents[column])
    thermal = NoiseVariance.of(cells.shape, constant=cells)
    made = reference_covariance(cells, thermal, np.zeros(len(cells)), wires)[column, column]
    return 1.0 - float(made) / seen


def measure(card: str, resistance: float, filling: float, size: int = 128) -> list[dict[str, Any]]:
    """A row for each mechanism: deviations of all columns without wires and by the estimate, over exact ones."""
    cells, rng = tile(card, size), np.random.default_rng(2)
    wires = Wires(word_line_resistance=resistance, bit_line_resistance=resistance)
    effective, codes = effective_conductance(cells, wires), np.zeros(size)
    codes[rng.permutation(size)[: round(filling * size)]] = 1.0
    rows = []
    for mechanism, power in _POWERS.items():
        if mechanism == "thermal" and filling != FILLINGS[0]:
            continue  # the same for all inputs
        variance = NoiseVariance.of(cells.shape, **{power: cells**2 if power == "quadratic" else cells})
        covariance = reference_covariance(cells, variance, codes, wires)
        exact = np.sqrt(np.diag(covariance))
        without, estimate = (
            np.sqrt(each.constant.sum(axis=0) + codes @ each.linear + codes**2 @ each.quadratic) / exact - 1.0
            for each in (variance, effective_variance(cells, effective, variance, wires))
        )
        correlation = covariance / np.outer(exact, exact) - np.eye(size)
        rows.append(
            {
                "card": card,
                "ohm a segment": resistance,
                "rows driven": None if mechanism == "thermal" else filling,
                "mechanism": mechanism,
                "without wires": float(without.mean()),
                "estimate": float(estimate.mean()),
                "worst column": float(np.abs(estimate).max()),
                "neighbours": float(np.diag(correlation, 1).mean()),
                "worst pair": float(correlation.min()),
                "wires' own share": wires_own_share(cells, wires) if mechanism == "thermal" else None,
            }
        )
    return rows


def fillings(model: torch.nn.Module, images: torch.Tensor, bits: int) -> list[float]:
    """Squared mean over mean square of what the rows of a read are driven with, for each layer of a network.

    Of 8-bit codes of all positive and all negative inputs of its convolutions and linear layers, `bits` at a time; the
    mean over all reads, each weighted with its mean square, as noise of the conductance weighs it.
    """
    import torch
    from torch import nn

    found: list[float] = []

    def look(layer: nn.Module, inputs: tuple[torch.Tensor, ...]) -> None:
        vectors = inputs[0][:, :, None]
        if isinstance(layer, nn.Conv2d):
            assert not isinstance(layer.padding, str)
            window = {"padding": layer.padding, "stride": layer.stride, "dilation": layer.dilation}
            vectors = nn.functional.unfold(inputs[0], layer.kernel_size, **window)
        codes = (vectors / vectors.abs().max() * 255).round().to(torch.int32)
        squared, squares = 0.0, 0.0
        for part in (codes.clamp(min=0), (-codes).clamp(min=0)):
            for shift in range(0, 8, bits):
                plane = (part >> shift & (2**bits - 1)).double()
                squared += float((plane.mean(dim=1) ** 2).sum())
                squares += float((plane**2).mean(dim=1).sum())
        found.append(squared / squares)

    hooks = [m.register_forward_pre_hook(look) for m in model.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with torch.no_grad():
        model(images)
    for hook in hooks:
        hook.remove()
    return found


def _text(rows: Sequence[dict[str, Any]]) -> str:
    shares = ("without wires", "estimate", "worst column", "neighbours", "worst pair", "wires' own share")

    def text(row: dict[str, Any], name: str) -> str:
        value = row[name]
        if value is None:
            return "-"
        if name in shares:
            return f"{100 * value:+.2f} %"
        return f"{value:g}" if isinstance(value, float) else str(value)

    return format_table(tuple(rows[0]), [tuple(text(row, name) for name in row) for row in rows])


def picture(rows: Sequence[dict[str, Any]]) -> Figure:
    """What noise without wires, and the estimate, are too large by on the mean; a panel a card and mechanism."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11.0, 6.4), layout="constrained", dpi=150)
    panels = figure.subplots(len(CARDS), len(_POWERS), sharex=True, sharey=True)
    for line, card in zip(panels, CARDS, strict=True):
        for axes, mechanism in zip(line, _POWERS, strict=True):
            for colour, filling in enumerate((None,) if mechanism == "thermal" else FILLINGS):
                place = (card, mechanism, filling)
                mine = [row for row in rows if (row["card"], row["mechanism"], row["rows driven"]) == place]
                said = "any input" if filling is None else f"{filling:.0%} of the rows driven"
                for column, style in (("without wires", "o:"), ("estimate", "s-")):
                    axes.plot(
                        range(len(mine)), [100 * row[column] for row in mine], style,
                        color="0.3" if filling is None else f"C{colour}", markersize=4, linewidth=1.2,
                        label=f"{column}, {said}",
                    )  # fmt: skip
            axes.axhline(0.0, color="black", linewidth=0.8)
            axes.set_yscale("symlog", linthresh=1.0)
            axes.set_yticks([-1, 0, 1, 10, 100], ["-1", "0", "1", "10", "100"])
            axes.minorticks_off()
            axes.set_xticks(range(len(RESISTANCES)), [f"{each:g}" for each in RESISTANCES])
            axes.set_title(f"{card}, {mechanism} noise", fontsize=9)
            axes.grid(color="0.92", linewidth=0.8)
            axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[-1]:
        axes.set_xlabel("resistance of a segment (ohm)")
    for axes in panels[:, 0]:
        axes.set_ylabel("mean deviation of a column,\ntoo large by (%)")
    handles = [*panels[0][0].get_legend_handles_labels()[0], *panels[0][1].get_legend_handles_labels()[0]]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    return figure


def main(
    output: Annotated[Path, typer.Option(help="Folder of the table and the picture.")] = FIGURES,
    size: Annotated[int, typer.Option(help="Rows and columns of a tile.", min=4)] = 128,
    network: Annotated[bool, typer.Option(help="Look at the inputs of ResNet-20 instead.")] = False,
) -> None:
    """Measure, print, and write noise_through_wires.csv and noise_through_wires.png."""
    if network:
        import torch

        from xbarsim.models import load_model, load_test_set

        model, images = load_model("resnet20")[0], torch.from_numpy(load_test_set("resnet20", count=64)[0])
        for bits in (8, 1):
            found = fillings(model, images, bits)
            typer.echo(f"{bits} bits at a time: {np.mean(found):.2f}, layers from {min(found):.2f} to {max(found):.2f}")
        return
    rows = [
        row
        for card in CARDS
        for resistance in RESISTANCES
        for filling in FILLINGS
        for row in measure(card, resistance, filling, size)
    ]
    typer.echo(_text(rows))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "noise_through_wires.csv", csv_bytes(rows))
    save_figure(picture(rows), output / "noise_through_wires.png")
    typer.echo(f"wrote {output / 'noise_through_wires.csv'} and {output / 'noise_through_wires.png'}")


if __name__ == "__main__":
    typer.run(main)
