"""How time grows with the work: images, width, arrays, dies and workers, with fitted exponents.

``python -m xbarsim.experiments.benchmarks.scaling [--output FOLDER] [--threads 1]`` writes scaling.csv and scaling.png.

Each curve is the median of a few runs, in turns with its float32 torch baseline where it has one. The exponent is the
slope of a straight line through the logarithms, by least squares, of the upper half of the points: below, what is done
once for a call decides.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.experiments.benchmarks.speed import machine, medians, one_pulse_on_levels
from xbarsim.experiments.folders import FIGURES
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.threads import set_threads
from xbarsim.foundation.validation import check_choice, write_atomically
from xbarsim.models import load_model, load_test_set
from xbarsim.plot import save_figure
from xbarsim.sweep import LocalProcesses, Task, collect

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["CURVES", "Point", "exponent", "main", "picture"]

_IMAGES = (8, 16, 32, 64, 128, 256)
_WIDTHS = (64, 128, 256, 512, 1024, 2048)
_ARRAYS = (16, 32, 64, 128, 256, 512)
_DIES = (2, 4, 8, 16, 32, 64)


@dataclass(frozen=True, kw_only=True)
class Point:
    """One measurement.

    Attributes
    ----------
    curve
        What was measured.
    axis
        What the work is counted in.
    work
        How much of it.
    seconds
        Median.
    """

    curve: str
    axis: str
    work: int
    seconds: float


def _images(runs: int) -> Iterator[Point]:
    """ResNet-20 on ever more images."""
    model, _ = load_model("resnet20")
    pictures, _ = load_test_set("resnet20", count=max(_IMAGES))
    images = torch.from_numpy(pictures)
    chip = xb.map_model(model, one_pulse_on_levels(), calibration=images[:64]).fabricate(seed=1)
    for count in _IMAGES:
        few = images[:count]
        with torch.no_grad():
            ours, baseline = medians([partial(chip, few), partial(model, few)], runs=runs)
        yield Point(curve="ResNet-20, one die", axis="images", work=count, seconds=ours)
        yield Point(curve="ResNet-20, float32 torch", axis="images", work=count, seconds=baseline)


def _widths(runs: int) -> Iterator[Point]:
    """A linear layer of ever more inputs and as many outputs, 256 vectors: work grows with the square."""
    generator = torch.Generator().manual_seed(1)
    for width in _WIDTHS:
        layer = nn.Linear(width, width)
        vectors = torch.rand((256, width), generator=generator)
        with torch.no_grad():
            layer.weight.copy_(torch.randn((width, width), generator=generator))
        chip = xb.map_model(layer, one_pulse_on_levels(), calibration=vectors[:32]).fabricate(seed=1)
        with torch.no_grad():
            ours, baseline = medians([partial(chip, vectors), partial(layer, vectors)], runs=runs)
        yield Point(curve="linear layer, one die", axis="inputs and outputs", work=width, seconds=ours)
        yield Point(curve="linear layer, float32 torch", axis="inputs and outputs", work=width, seconds=baseline)


def _arrays(runs: int) -> Iterator[Point]:
    """The same 1024 x 1024 weights on ever smaller arrays, 256 vectors: more row tiles, more conversions."""
    generator = torch.Generator().manual_seed(1)
    layer = nn.Linear(1024, 1024)
    vectors = torch.rand((256, 1024), generator=generator)
    for size in reversed(_ARRAYS):
        design = one_pulse_on_levels()
        design = design.replace(mapping=replace(design.mapping, rows=size, columns=size))
        network = xb.map_model(layer, design, calibration=vectors[:32])
        chip = network.fabricate(seed=1)
        run, made = medians([partial(chip, vectors), partial(network.fabricate, seed=1)], runs=runs)
        yield Point(curve="1024 x 1024 weights, inference", axis="arrays", work=network.tiles, seconds=run)
        yield Point(curve="1024 x 1024 weights, making a die", axis="arrays", work=network.tiles, seconds=made)


def _dies(runs: int) -> Iterator[Point]:
    """A sweep of ever more dies of the digits network with one worker and with two, begun before and ready."""
    task = Task(network="digits", design=one_pulse_on_levels(), images=300)
    for workers in (1, 2):
        with contextlib.closing(LocalProcesses(workers)) as executor:
            collect([task], stop=2 * workers, executor=executor, progress=False)  # networks mapped, kernels compiled
            for dies in _DIES:
                (seconds,) = medians(
                    [partial(collect, [task], stop=dies, executor=executor, progress=False)], runs=max(1, runs // 3)
                )
                name = f"sweep of the digits network, {workers} worker{'s' if workers > 1 else ''}"
                yield Point(curve=name, axis="dies", work=dies, seconds=seconds)


CURVES: dict[str, Callable[[int], Iterator[Point]]] = {
    "images": _images, "width": _widths, "arrays": _arrays, "dies": _dies
}  # fmt: skip
"""What can be measured, by name."""


def exponent(work: list[int], seconds: list[float]) -> float:
    """The slope of the logarithms, by least squares, over the upper half of the points (two at least).

    Examples
    --------
    >>> round(exponent([1, 2, 4, 8], [9.0, 9.0, 16.0, 64.0]), 6)
    2.0
    """
    first = min(len(work) // 2, len(work) - 2)
    x, y = (np.log(np.array(values[first:], dtype=np.float64)) for values in (work, seconds))
    return float(np.polyfit(x, y, 1)[0])


def _grouped(points: list[Point]) -> dict[str, dict[str, list[Point]]]:
    grouped: dict[str, dict[str, list[Point]]] = {}
    for point in points:
        grouped.setdefault(point.axis, {}).setdefault(point.curve, []).append(point)
    return grouped


def _exponent(points: list[Point]) -> float:
    return exponent([point.work for point in points], [point.seconds for point in points])


def picture(points: list[Point]) -> Figure:
    """One panel for each axis, both axes logarithmic, exponents in the legends."""
    from matplotlib.figure import Figure

    grouped = _grouped(points)
    rows = math.ceil(len(grouped) / 2)
    figure = Figure(figsize=(10.5, 3.9 * rows), layout="constrained", dpi=150)
    panels = np.atleast_1d(figure.subplots(rows, 2, squeeze=False)).ravel()
    for panel, (axis, curves) in zip(panels, grouped.items(), strict=False):
        for index, (name, measured) in enumerate(curves.items()):
            work, seconds = [point.work for point in measured], [1e3 * point.seconds for point in measured]
            colour = ("#0072B2", "#D55E00", "#009E73")[index]
            panel.plot(
                work, seconds, marker="os^"[index], color=colour, linestyle=("-", "--", ":")[index],
                label=f"{name}: exponent {_exponent(measured):.2f}",
            )  # fmt: skip
        panel.set_xscale("log", base=2)
        panel.set_yscale("log")
        panel.set_xticks(work, [str(value) for value in work])
        panel.set_xlabel(axis)
        panel.set_ylabel("time (ms)")
        panel.grid(color="0.9", linewidth=0.8)
        panel.spines[["top", "right"]].set_visible(False)
        panel.legend(fontsize=8, frameon=False)
    for panel in panels[len(grouped) :]:
        panel.remove()
    return figure


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Curves; all by default.")] = None,
    runs: Annotated[int, typer.Option(help="Runs of each point.", min=1)] = 7,
    threads: Annotated[int, typer.Option(help="Threads of one process.", min=1)] = 1,
    output: Annotated[Path, typer.Option(help="Folder for the table and the picture.")] = FIGURES,
) -> None:
    """Time the simulator on ever more work."""
    points: list[Point] = []
    set_threads(threads)
    for name in names or CURVES:
        points += CURVES[check_choice("names", name, CURVES)](runs)
    rows = [
        {"axis": point.axis, "curve": point.curve, "work": point.work, "seconds": float(f"{point.seconds:.4g}")}
        for point in points
    ]
    typer.echo(format_table(("axis", "curve", "work", "seconds"), [tuple(row.values()) for row in rows], left=2))
    for axis, curves in _grouped(points).items():
        for curve, measured in curves.items():
            typer.echo(f"{axis}: {curve}: time grows with work to the power {_exponent(measured):.2f}")
    typer.echo(f"{threads} thread{'s' if threads > 1 else ''}; {machine()}")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "scaling.csv", csv_bytes(rows))
    save_figure(picture(points), output / "scaling.png")


if __name__ == "__main__":
    typer.run(main)
