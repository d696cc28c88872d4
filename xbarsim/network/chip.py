"""One die: target levels, programmed conductances, faulty conductances, never mixed; and what it computes."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.circuit import CurrentLaw, Solution, Wires, solve
from xbarsim.cost import CostReport, Hardware
from xbarsim.design import ConverterErrors, Design
from xbarsim.devices import BrokenLines, Cell, FaultMap
from xbarsim.die.seen import TileLoss, draw_errors, losses, seen_cells
from xbarsim.engine.plans import Noise, Plan, clipped_share, make_plan
from xbarsim.engine.reference import multiply as reference_multiply
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.network.layers import CrossbarLayer, DigitalLayer, ImageCounter, ReferenceLayer
from xbarsim.network.model import MappedLayer, MappedNetwork, PlanTable, as_images, fill_slots, sample_vectors

__all__ = ["Chip", "ClippingWarning", "DieLayer", "ErrorReport", "LayerError", "TileView"]

# What a layer's random streams are for; part of each stream's key, so that adding one changes no other.
_PROGRAMMING, _FAULTS, _READ_NOISE, _LINES, _DRIVERS, _CONVERTERS = 0, 1, 2, 3, 4, 5
_DRIFT, _STATES = 16, 17  # trajectories in time; telegraph states that a die keeps

_CLIPPING_VECTORS = 1024  # inputs of a layer that a report looks for clipping on

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
    seconds
        Age of the die, s: how long its cells have drifted.
    """

    mapped: MappedLayer
    design: Design
    faults: FaultMap
    seed: int
    index: int
    seconds: float = 0.0

    def programmed(self) -> npt.NDArray[np.float32]:
        """What programming left in the cells, before faults: level units, shape ``(tiles, rows, columns)``."""
        rng = np.random.default_rng(_stream(self.seed, self.index, _PROGRAMMING))
        return self.design.cell.program(self.mapped.matrix.levels, self.design.mapping.cell_bits, rng)

    def cells(self) -> npt.NDArray[np.float32]:
        """What the cells hold: programmed, drifted, then stuck; level units, shape ``(tiles, rows, columns)``."""
        cell, bits, cells = self.design.cell, self.design.mapping.cell_bits, self.programmed()
        if self.seconds:
            cells = cell.relax(cells, self.mapped.matrix.levels, bits, self.seconds, self._rng(_DRIFT))
        if cell.read_noise is not None and cell.read_noise.per_die:
            cells = cell.settle(cells, bits, self._rng(_STATES))
        stuck = self.faults.stuck_levels(self.design.cell, self.design.mapping.cell_bits)
        cells.reshape(-1)[self.faults.index] = stuck
        return cells

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng(_stream(self.seed, self.index, purpose))

    def noise(self, cells: npt.NDArray[np.float32], errors: ConverterErrors | None = None) -> Noise | None:
        """Read noise of these cells, or ``None``.

        Cells on open lines add none; gains of drivers and converters scale it. What wires take of it, and that lines
        which touch share it, is left out.

        Parameters
        ----------
        cells
            From :meth:`cells`.
        errors
            From :meth:`seen`; ``None`` for ideal drivers and converters.
        """
        if not self.design.cell.noisy:
            return None
        variance = self.design.cell.read_variance(cells, self.design.mapping.cell_bits, self.mapped.readout.max_plane)
        by_power = {2: variance.quadratic, 1: variance.linear, 0: variance.constant}
        lines = self.lines()
        for power, term in by_power.items():
            scaled = np.array(term, dtype=np.float64)
            if lines is not None:
                lines.open(scaled)
            if errors is not None and errors.driver_gain is not None:
                scaled *= errors.driver_gain[:, :, np.newaxis] ** power
            if errors is not None and errors.converter_gain is not None:
                scaled *= errors.converter_gain[:, np.newaxis, :] ** 2
            by_power[power] = scaled
        key = int(_stream(self.seed, self.index, _READ_NOISE).generate_state(1, np.uint64)[0])
        return Noise(
            spread=np.sqrt(by_power[2]).astype(np.float32),
            key=key,
            linear=by_power[1] if by_power[1].any() else None,
            constant=by_power[0] if by_power[0].any() else None,
        )

    def lines(self) -> BrokenLines | None:
        """Which lines are broken, or ``None`` if the design's lines do not break."""
        if self.design.line_faults is None:
            return None
        return self.design.line_faults.sample(self.mapped.matrix.levels.shape, self._rng(_LINES))

    def seen(self, cells: npt.NDArray[np.float32] | None = None) -> tuple[npt.NDArray[np.float32], ConverterErrors]:
        """What reads see of the cells, wires, lines, drivers and converters folded in; and what cannot be folded.

        Parameters
        ----------
        cells
            From :meth:`cells`, to save making them again.

        Returns
        -------
        ndarray
            Level units, shape ``(tiles, rows, columns)``.
        ConverterErrors
            Offsets, and bits of wrong weight.
        """
        matrix, readout = self.mapped.matrix, self.mapped.readout
        cells = self.cells() if cells is None else cells
        through = seen_cells(cells, matrix, self.design, readout, self.lines())
        return draw_errors(through, matrix, self.design, readout, self._rng(_DRIVERS), self._rng(_CONVERTERS))

    def plan(self, precision: Literal["single", "double"] = "single") -> Plan:
        """The cheapest way to compute this layer on this die; `precision` as :func:`xbarsim.engine.make_plan`."""
        cells = self.cells()
        seen, errors = self.seen(cells)
        noise = self.noise(cells, errors)
        return make_plan(self.mapped.matrix, seen, self.mapped.readout, noise, errors, precision=precision)

    def losses(self) -> tuple[TileLoss, ...]:
        """How much current wires and broken lines cost each tile."""
        mapped = self.mapped
        return losses(mapped.layer.name, self.cells(), mapped.matrix, self.design, mapped.readout, self.lines())

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


def _check_age(cell: Cell, seconds: float) -> float:
    """Return `seconds` if the cell's drift holds for that long; 0 needs no drift."""
    age = check_real("seconds", seconds, at_least=0.0)
    if age == 0.0:
        return age
    if cell.drift is None:
        raise InputError(f"drift must be given for a cell at later times, got None for cell {cell.name!r}")
    return cell.drift.check_seconds(age)


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
    clipped
        Share of conversions beyond the converters' codes, on inputs sampled from these images; ``None`` without
        converters.
    current_loss
        Share of the layer's current that wires and broken lines cost, all rows driven with one voltage: the mean over
        its tiles. ``None`` where there are neither.
    """

    layer: str
    own: float
    total: float
    clipped: float | None = None
    current_loss: float | None = None


class ClippingWarning(UserWarning):
    """Converters clip more than a stated share of what they read; the message names the layers."""


@dataclass(frozen=True)
class ErrorReport:
    """Where accuracy is lost: each layer of a chip against the digital quantised network.

    Attributes
    ----------
    layers
        In the order in which they run.
    images
        How many images were run.
    tiles
        Current that wires and broken lines cost, tile by tile; empty where there are neither.
    """

    layers: tuple[LayerError, ...]
    images: int
    tiles: tuple[TileLoss, ...] = ()

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer."""
        return [asdict(error) for error in self.layers]

    def __str__(self) -> str:
        def share(value: float | None) -> str:
            return "-" if value is None else f"{value:.2%}"

        head: tuple[str, ...] = ("layer", "own error", "error so far", "reads clipped")
        rows: list[tuple[str, ...]] = [
            (e.layer, f"{e.own:.4f}", f"{e.total:.4f}", share(e.clipped)) for e in self.layers
        ]
        note = f"(errors: root mean square, relative to the digital output; {self.images} images)"
        if not self.tiles:
            return f"{format_table(head, rows)}\n{note}"
        head = (*head, "current lost", "tile losing most", "loses")
        for index, error in enumerate(self.layers):
            here = [tile for tile in self.tiles if tile.layer == error.layer]
            worst = max(here, key=lambda tile: tile.mean, default=None)
            which = ("-", "-") if worst is None else (str(worst.tile), share(worst.mean))
            rows[index] += (share(error.current_loss), *which)
        lost = "(current lost: to wires and broken lines, with one voltage on all rows of a tile)"
        return f"{format_table(head, rows)}\n{note}\n{lost}"


@dataclass
class _Sums:
    own: float = 0.0
    own_signal: float = 0.0
    total: float = 0.0
    signal: float = 0.0
    digital: list[Array] = field(default_factory=list)
    inputs: list[Array] = field(default_factory=list)


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
    seconds
        Age of the die, s; see :meth:`at`.

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
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.seed = check_integer("seed", seed, at_least=0)
        check_choice("precision", precision, ("single", "double"))
        self.precision: Literal["single", "double"] = precision
        self.seconds = _check_age(network.design.cell, seconds)
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
                mapped=mapped, design=network.design, faults=broken, seed=self.seed, index=index, seconds=self.seconds
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

    def at(self, seconds: float) -> Chip:
        """The same die at another age: its cells moved by their drift; those that are stuck stay so.

        Parameters
        ----------
        seconds
            Since the time after programming that the cell's programming error holds for
            (:attr:`xbarsim.devices.Drift.reference_time`), s; not since the age of this chip. 0 is the die as
            fabricated.

        Returns
        -------
        Chip
            A new chip; this one stays as it is. Ages of one die lie on one trajectory of every cell.

        Raises
        ------
        InputError
            If `seconds` is negative or longer than the drift was measured, or the cell's drift is not known.
        """
        return Chip(self.network, self.seed, faults=self.faults, precision=self.precision, seconds=seconds)

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

    def reference(self) -> nn.Module:
        """The same die, every layer computed by the reference engine, read by read: to check a few images with.

        Takes batches of images as the chip does and gives the same logits: bit for bit where all cells sit on whole
        levels, or the chip has double precision. Hundreds of times slower.

        Raises
        ------
        InputError
            If the cells have read noise, which is drawn anew at each read.
        """
        if self.network.design.cell.noisy:
            raise InputError("cell must have no read noise for the reference engine to repeat a read, got some")

        def layer(name: str) -> nn.Module:
            die, mapped = self.layers[name], self.network.layers[name]
            cells, errors = die.seen()

            def product(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
                return reference_multiply(codes, mapped.matrix, cells, mapped.readout, errors=errors)

            return ReferenceLayer(mapped.layer, product)

        return fill_slots(self.network.skeleton, layer)

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

    def report(self, images: Any, *, batch_size: int = 64, clipping: float = 0.01) -> ErrorReport:
        """Compare every layer with the digital quantised network on some images.

        Parameters
        ----------
        images
            As for :meth:`forward`.
        batch_size
            Images run at a time.
        clipping
            Share of conversions that may be clipped without a warning.

        Warns
        -----
        ClippingWarning
            If the converters of some layers clip more, naming them.
        """
        batch = as_images(images, shape=self.network.image_shape)
        check_integer("batch_size", batch_size, at_least=1)
        check_real("clipping", clipping, at_least=0.0, at_most=1.0)
        sums = {name: _Sums() for name in self.layers}

        def keep(module: Any, arguments: Any, output: Tensor) -> None:
            sums[module.layer.name].digital.append(output.numpy().astype(np.float64))

        digital_layers = {m.layer.name: m for m in self.network.digital.modules() if isinstance(m, DigitalLayer)}

        def compare(module: Any, arguments: Any, output: Tensor) -> None:
            entry = sums[module.layer.name]
            chip_output, expected = output.numpy().astype(np.float64), entry.digital.pop(0)
            alone = digital_layers[module.layer.name].forward(arguments[0]).numpy().astype(np.float64)
            if sum(map(len, entry.inputs)) < _CLIPPING_VECTORS:
                layer = module.layer
                entry.inputs.append(sample_vectors(layer, layer.quantise(layer.as_maps(arguments[0])))[0])
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

        design = self.network.design
        lossy = design.wires is not None or design.line_faults is not None
        tiles = tuple(loss for layer in self.layers.values() for loss in layer.losses()) if lossy else ()
        found = []
        for name, entry in sums.items():
            here, mapped = [loss.mean for loss in tiles if loss.layer == name], self.network.layers[name]
            clipped = None
            if mapped.readout.step is not None and entry.inputs:
                inputs = np.concatenate(entry.inputs)[:_CLIPPING_VECTORS]
                clipped = clipped_share(mapped.matrix, mapped.readout, inputs, self.layers[name].seen()[0])
            found.append(
                LayerError(
                    layer=name,
                    own=relative(entry.own, entry.own_signal),
                    total=relative(entry.total, entry.signal),
                    clipped=clipped,
                    current_loss=float(np.mean(here)) if here else None,
                )
            )
        over = [f"{e.layer} ({e.clipped:.1%})" for e in found if e.clipped is not None and e.clipped > clipping]
        if over:
            warnings.warn(
                f"converters clip more than {clipping:.1%} of what they read in layers {', '.join(over)}",
                ClippingWarning,
                stacklevel=2,
            )
        return ErrorReport(tuple(found), len(batch), tiles)

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

    def solve(self, layer: str, tile: int = 0, *, voltages: Any = None, law: CurrentLaw | None = None) -> Solution:
        """Every node voltage and cell current of one tile; see also :func:`xbarsim.plot.circuit`.

        Parameters
        ----------
        layer, tile
            Which tile.
        voltages
            Of the drivers, shape ``(rows,)``, V; ``None`` for the cell's read voltage on every row in use.
        law
            Current against voltage of the cells; ``None`` for a straight line, as the network is run. With a law the
            answer says how good that is; see :func:`xbarsim.circuit.linearisation_error`.

        Returns
        -------
        Solution
            Of the die's own cells, all rows in use selected, open lines taken out, lines that touch left apart; ideal
            wires if the design has none.

        Raises
        ------
        InputError
            If there is no such layer or tile, or no voltage is given and the cell card has none.
        """
        view = self.tile(layer, tile)
        design, mapped = self.network.design, self.network.layers[layer].matrix
        used = mapped.tile_rows[tile] >= 0
        if voltages is None:
            if design.cell.read_voltage is None:
                raise InputError(f"voltages must be given for cell {design.cell.name!r}, which has no read voltage")
            voltages = np.where(used, design.cell.read_voltage, 0.0)
        lines = self.layers[layer].lines()
        cells = design.cell.conductance(view.faulty, design.mapping.cell_bits)[np.newaxis].clip(0.0)
        selected = used
        if lines is not None:
            one = slice(tile, tile + 1)
            BrokenLines(lines.open_word_lines[one], lines.open_bit_lines[one], lines.shorted_bit_lines[one]).open(cells)
            selected = used | lines.open_word_lines[tile]  # without cells; must only not float
        return solve(cells[0], voltages, design.wires or Wires(), law=law, rows=selected)
