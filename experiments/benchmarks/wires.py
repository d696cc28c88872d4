"""What resistive lines cost: dies of whole networks, and arrays against other solvers of the circuit."""

from __future__ import annotations

import importlib.util
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import nn

import xbarsim as xb
from xbarsim.circuit import Wires, effective_conductance, reference_effective_conductance, solve
from xbarsim.die import seen_cells

__all__ = ["Case", "arrays", "making_dies", "running_dies"]

_SEGMENT = 1.0  # ohm
_WIRES = Wires(word_line_resistance=_SEGMENT, bit_line_resistance=_SEGMENT)
_LIMITS = {128: "; ours must take no more than 15 ms, aim 8 ms", 256: "; ours must take no more than 80 ms, aim 40 ms"}


@dataclass(frozen=True, kw_only=True)
class Case:
    """Two ways to one result, to be timed, and what was checked before.

    Attributes
    ----------
    name
        What is timed.
    ours, baseline
        The two ways.
    check
        What was checked, and the result.
    against
        What the baseline is.
    runs
        How often each should run.
    must, aim
        Ratios to reach, or ``None``.
    """

    name: str
    ours: Callable[[], Any]
    baseline: Callable[[], Any]
    check: str
    against: str = "ideal wires"
    runs: int = 3
    must: float | None = None
    aim: float | None = None


def _dies(model: nn.Module, images: torch.Tensor, design: xb.Design) -> tuple[xb.MappedNetwork, xb.MappedNetwork, str]:
    """A network mapped with wires and without, after a look at one array of one die of each."""
    ideal = xb.map_model(model, design, calibration=images[:64])
    wired = xb.map_model(model, design.replace(wires=_WIRES), calibration=images[:64])
    name = list(ideal.layers)[1]
    layer = wired.layers[name]
    bits = design.mapping.cell_bits
    held = wired.fabricate(seed=1).layers[name].cells()
    seen = seen_cells(held, layer.matrix, wired.design, layer.drive)[0].astype(np.float64)
    used = layer.matrix.tile_rows[0] >= 0  # only these word lines are selected
    cells = design.cell.conductance(held[0].astype(np.float64), bits)
    expected = design.cell.level_units(reference_effective_conductance(cells, _WIRES, rows=used), bits)
    worst = float(np.abs(seen - expected)[used].max() / np.abs(expected).max())
    if not worst < 1e-5:
        raise AssertionError(f"layer {name!r}: what reads see of an array is {worst:.1e} away from the whole circuit")
    return wired, ideal, f"{ideal.tiles} arrays; one of them within {worst:.0e} of the largest by a sparse LU"


def running_dies(model: nn.Module, images: torch.Tensor, design: xb.Design) -> Case:
    """One die made and all images run, wires on against wires off."""
    wired, ideal, check = _dies(model, images, design)

    def run(network: xb.MappedNetwork) -> Callable[[], Any]:
        return lambda: network.fabricate(seed=1)(images)

    return Case(
        name="resnet20-wires", ours=run(wired), baseline=run(ideal), must=3.0, aim=1.5,
        check=f"{check}; {len(images)} images",
    )  # fmt: skip


def making_dies(model: nn.Module, images: torch.Tensor, design: xb.Design) -> Case:
    """One die made, wires on against wires off."""
    wired, ideal, check = _dies(model, images, design)
    return Case(
        name="fabricate-vgg16-wires", ours=lambda: wired.fabricate(seed=1), baseline=lambda: ideal.fabricate(seed=1),
        check=f"{check}; must 20 s, aim 5 s", runs=1,
    )  # fmt: skip


def arrays() -> Iterator[Case]:
    """The effective matrix of an array and its product with the inputs, against solvers of the whole circuit."""
    rng = np.random.default_rng(1)
    for size in (64, 128, 256):
        runs = 5 if size < 256 else 1  # others take half a minute for the largest
        cells = rng.integers(1, 101, (size, size)) * 1e-6
        cells[rng.random(cells.shape) < 0.01] = 100e-6
        for inputs in (1, 1024):
            voltages = rng.uniform(0.0, 0.2, (inputs, size))

            def ours(cells: Any = cells, voltages: Any = voltages) -> Any:
                return voltages @ effective_conductance(cells, _WIRES)

            solvers = {"sparse LU": _sparse_solver(cells, voltages)}
            if importlib.util.find_spec("badcrossbar") is not None:
                solvers["badcrossbar"] = _badcrossbar(cells, voltages)
            for against, solver in solvers.items():
                expected = solver()
                worst = float((np.abs(ours() - expected) / np.abs(expected)).max())
                if worst > 1e-9:
                    raise AssertionError(f"column currents differ from {against} by {worst:.1e}")
                yield Case(
                    name=f"irdrop {size} x {size}, {inputs} inputs",
                    ours=ours,
                    baseline=solver,
                    check=f"column currents within {worst:.1e} of {against}" + _LIMITS.get(size, ""),
                    against=against,
                    runs=runs,
                    must=0.01 if (against, size, inputs) == ("badcrossbar", 64, 1024) else None,
                )


def _sparse_solver(cells: Any, voltages: Any) -> Callable[[], Any]:
    """One input by a sparse LU; many by that of one volt on each row in turn, for the circuit is linear."""
    if len(voltages) > 1:
        return lambda: voltages @ reference_effective_conductance(cells, _WIRES)
    return lambda: solve(cells, voltages[0], _WIRES).column_currents[np.newaxis]


def _badcrossbar(cells: Any, voltages: Any) -> Callable[[], Any]:
    import badcrossbar  # type: ignore[import-not-found, import-untyped, unused-ignore]

    logging.getLogger("badcrossbar").setLevel(logging.ERROR)

    def solved() -> Any:
        solution = badcrossbar.compute(voltages.T, 1.0 / cells, r_i=_SEGMENT, node_voltages=False, all_currents=False)
        return np.asarray(solution.currents.output).reshape(len(voltages), -1)

    return solved
