"""One die: target levels, programmed conductances, faulty conductances, never mixed; and what it computes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.cost import CostReport, Hardware
from xbarsim.design import Design
from xbarsim.devices import FaultMap
from xbarsim.engine.plans import Noise, Plan, make_plan
from xbarsim.network.layers import CrossbarLayer, DigitalLayer, ImageCounter
from xbarsim.network.model import MappedLayer, MappedNetwork, PlanTable, as_images, fill_slots
from xbarsim.tables import format_table
from xbarsim.validation import InputError, check_choice, check_instance, check_integer

__all__ = ["Chip", "DieLayer", "ErrorReport", "LayerError", "TileView"]

# What a layer's random streams are for; part of each stream's key, so that adding one changes no other.
_PROGRAMMING, _FAULTS, _READ_NOISE = 0, 1, 2

Array = npt.NDArray[Any]


@dataclass(frozen=True, kw_only=True, eq=False)
class TileView:
    """One tile of one die, for looking at.

    Attributes
    ----------
    target, programmed, faulty
        Level units, shape ``(rows, columns)``.
    faults
        What is broken in it.
    used
        Which cells hold something, shape ``(rows, columns)``.
    """

    target: Array
    programmed: Array
    faulty: Array
    faults: FaultMap
    used: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class DieLayer:
    """The tiles of one layer on one die.

    Only the faults and the plan are kept; the cells are made again from the seed when they are asked for.

    Attributes
    ----------
    mapped
        The layer and where it was placed.
    design
        The accelerator.
    faults
        What is broken.
    seed
        Root seed of the die.
    index
        Number of the layer in its network.
    """

    mapped: MappedLayer
    design: Design
    faults: FaultMap
    seed: int
    index: int

    def programmed(self) -> npt.NDArray[np.float32]:
        """What programming left in the cells, before faults: level units, shape ``(tiles, rows, columns)``."""
        rng = np.random.default_rng(_stream(self.seed, self.index, _PROGRAMMING))
        return self.design.cell.program(self.mapped.matrix.levels, self.design.mapping.cell_bits, rng)

    def cells(self) -> npt.NDArray[np.float32]:
        """What the cells hold: programmed, then stuck; level units, shape ``(tiles, rows, columns)``."""
        cells = self.programmed()
        stuck = self.faults.stuck_levels(self.design.cell, self.design.mapping.cell_bits)
        cells.reshape(-1)[self.faults.index] = stuck
        return cells

    def noise(self, cells: npt.NDArray[np.float32]) -> Noise | None:
        """Read noise of these cells, or ``None``."""
        law, bits = self.design.cell.read_noise, self.design.mapping.cell_bits
        if law is None:
            return None
        conductance = np.clip(self.design.cell.conductance(cells, bits), law.valid_from, law.valid_to)
        spread = law.spread(conductance) / self.design.cell.level_step(bits)
        key = int(_stream(self.seed, self.index, _READ_NOISE).generate_state(1, np.uint64)[0])
        return Noise(spread=spread.astype(np.float32), key=key)

    def plan(self, precision: Literal["single", "double"] = "single") -> Plan:
        """The cheapest way to compute this layer on this die; `precision` as :func:`xbarsim.engine.make_plan`."""
        cells = self.cells()
        return make_plan(self.mapped.matrix, cells, self.mapped.readout, self.noise(cells), precision=precision)

    def tile(self, tile: int) -> TileView:
        """One of its tiles.

        Raises
        ------
        InputError
            If there is no such tile.
        """
        check_integer("tile", tile, at_least=0, at_most=self.mapped.matrix.tiles - 1)
        return TileView(
            target=self.mapped.matrix.levels[tile],
            programmed=self.programmed()[tile],
            faulty=self.cells()[tile],
            faults=self.faults.tile(tile),
            used=self.mapped.matrix.used[tile],
        )


def _stream(seed: int, layer: int, purpose: int) -> np.random.SeedSequence:
    return np.random.SeedSequence(seed, spawn_key=(layer, purpose))


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """How far one layer of a chip is from the digital quantised network.

    Attributes
    ----------
    layer
        Its name.
    own
        Root mean square error that the layer adds, given the chip's own inputs, over the root mean square of its
        digital output.
    total
        The same for everything up to and including this layer: the chip's output against the digital network's.
    """

    layer: str
    own: float
    total: float


@dataclass(frozen=True)
class ErrorReport:
    """Where accuracy is lost: each layer of a chip against the digital quantised network.

    Attributes
    ----------
    layers
        In the order in which they run.
    images
        How many images were run.
    """

    layers: tuple[LayerError, ...]
    images: int

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer."""
        return [{"layer": e.layer, "own": e.own, "total": e.total} for e in self.layers]

    def __str__(self) -> str:
        rows = [(e.layer, f"{e.own:.4f}", f"{e.total:.4f}") for e in self.layers]
        head = ("layer", "own error", "error so far")
        return format_table(head, rows) + f"\n(root mean square, relative to the digital output; {self.images} images)"


@dataclass
class _Sums:
    own: float = 0.0
    own_signal: float = 0.0
    total: float = 0.0
    signal: float = 0.0
    digital: list[Array] = field(default_factory=list)


class Chip(nn.Module):
    """One die of a mapped network; run it like the model it was made from.

    Made by :meth:`xbarsim.network.MappedNetwork.fabricate`.

    Parameters
    ----------
    network
        The mapped network.
    seed
        Root of every random draw of this die.
    faults
        Fault maps by layer name, used instead of the design's fault model.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference engine bit for
        bit.

    Attributes
    ----------
    layers
        The die's layers by name.
    """

    def __init__(
        self,
        network: MappedNetwork,
        seed: int,
        *,
        faults: Mapping[str, FaultMap] | None = None,
        precision: Literal["single", "double"] = "single",
    ) -> None:
        super().__init__()
        self.network = network
        self.seed = check_integer("seed", seed, at_least=0)
        check_choice("precision", precision, ("single", "double"))
        check_instance("faults", faults, (Mapping, type(None)))
        given = dict(faults or {})
        for name, fault_map in given.items():
            if name not in network.layers:
                raise InputError(f"faults must name mapped layers ({', '.join(network.layers)}), got {name!r}")
            check_instance(f"faults[{name!r}]", fault_map, FaultMap)
            if fault_map.shape != network.layers[name].matrix.levels.shape:
                raise InputError(
                    f"faults[{name!r}] must have shape {network.layers[name].matrix.levels.shape}, "
                    f"got {fault_map.shape}"
                )
        model = network.design.faults
        self.layers: dict[str, DieLayer] = {}
        for index, (name, mapped) in enumerate(network.layers.items()):
            if name in given:
                broken = given[name]
            elif model is None:
                broken = FaultMap.empty(mapped.matrix.levels.shape)
            else:
                rng = np.random.default_rng(_stream(self.seed, index, _FAULTS))
                broken = model.sample(mapped.matrix.levels.shape, rng)
            self.layers[name] = DieLayer(
                mapped=mapped, design=network.design, faults=broken, seed=self.seed, index=index
            )
        self._counter = ImageCounter()
        self.model = fill_slots(
            network.skeleton,
            lambda name: CrossbarLayer(network.layers[name].layer, self.layers[name].plan(precision), self._counter),
        )
        self.eval()

    @property
    def faults(self) -> dict[str, FaultMap]:
        """What is broken, by layer name."""
        return {name: layer.faults for name, layer in self.layers.items()}

    def forward(self, images: Tensor, first_image: int = 0) -> Tensor:
        """Run a batch of images.

        Parameters
        ----------
        images
            As the model takes them, shape ``(images, ...)``.
        first_image
            Number of the first image in its data set. Read noise is drawn by image number, so that an answer does not
            depend on the batch an image came in.

        Raises
        ------
        InputError
            If the images have another shape than those of the calibration, or are not finite.
        """
        batch = as_images(images, shape=self.network.image_shape)
        self._counter.start(check_integer("first_image", first_image, at_least=0), len(batch))
        with torch.no_grad():
            result: Tensor = self.model(batch)
        return result

    def plan(self) -> PlanTable:
        """How each layer of this die is computed, and why."""
        crossbars: dict[str, Plan] = {
            module.layer.name: module.plan for module in self.model.modules() if isinstance(module, CrossbarLayer)
        }
        plans: list[tuple[str, Plan]] = [(name, crossbars[name]) for name in self.layers]
        return PlanTable(tuple((name, plan.name, plan.reason) for name, plan in plans))

    def cost(self, hardware: Hardware | str = "isaac2016") -> CostReport:
        """Power, area and peak throughput, with the static power of this die's own cells.

        Parameters
        ----------
        hardware
            A component card, or its name.
        """
        return self.network.cost_of({name: layer.cells() for name, layer in self.layers.items()}, hardware)

    def report(self, images: Any, *, batch_size: int = 64) -> ErrorReport:
        """Compare every layer with the digital quantised network on some images.

        Parameters
        ----------
        images
            As for :meth:`forward`.
        batch_size
            Images run at a time.
        """
        batch = as_images(images, shape=self.network.image_shape)
        check_integer("batch_size", batch_size, at_least=1)
        sums = {name: _Sums() for name in self.layers}

        def keep(module: Any, arguments: Any, output: Tensor) -> None:
            sums[module.layer.name].digital.append(output.numpy().astype(np.float64))

        digital_layers = {m.layer.name: m for m in self.network.digital.modules() if isinstance(m, DigitalLayer)}

        def compare(module: Any, arguments: Any, output: Tensor) -> None:
            entry = sums[module.layer.name]
            chip_output, expected = output.numpy().astype(np.float64), entry.digital.pop(0)
            alone = digital_layers[module.layer.name].forward(arguments[0]).numpy().astype(np.float64)
            entry.own += float(((chip_output - alone) ** 2).sum())
            entry.own_signal += float((alone**2).sum())
            entry.total += float(((chip_output - expected) ** 2).sum())
            entry.signal += float((expected**2).sum())

        handles = [m.register_forward_hook(keep) for m in digital_layers.values()]
        handles += [m.register_forward_hook(compare) for m in self.model.modules() if isinstance(m, CrossbarLayer)]
        try:
            with torch.no_grad():
                for start in range(0, len(batch), batch_size):
                    self.network.digital(batch[start : start + batch_size])
                    self(batch[start : start + batch_size], first_image=start)
        finally:
            for handle in handles:
                handle.remove()

        def relative(error: float, signal: float) -> float:
            return float(np.sqrt(error / signal)) if signal > 0 else float(np.sqrt(error))

        return ErrorReport(
            tuple(
                LayerError(
                    layer=name,
                    own=relative(entry.own, entry.own_signal),
                    total=relative(entry.total, entry.signal),
                )
                for name, entry in sums.items()
            ),
            len(batch),
        )

    def tile(self, layer: str, tile: int = 0) -> TileView:
        """One tile of one layer, for looking at; see also :func:`xbarsim.plot.tile`.

        Raises
        ------
        InputError
            If there is no such layer or tile.
        """
        if layer not in self.layers:
            raise InputError(f"layer must be one of {', '.join(map(repr, self.layers))}, got {layer!r}")
        return self.layers[layer].tile(tile)
