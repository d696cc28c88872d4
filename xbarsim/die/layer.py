"""The arrays of one layer on one die: what is broken, what they hold, and what reads see of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.circuit import CurrentLaw, Solution, Wires, solve
from xbarsim.design import Converter, ConverterErrors, Design, Drive
from xbarsim.devices import BrokenLines, Cell, FaultMap, StuckOutside
from xbarsim.die.program import program
from xbarsim.die.seen import TileLoss, current_losses, fold_errors, seen_cells
from xbarsim.die.silicon import Silicon
from xbarsim.die.streams import Purpose, generator, stream
from xbarsim.engine import Noise, Plan, make_plan
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real
from xbarsim.mapping import MappedMatrix, Reading

__all__ = ["DieLayer", "TileView", "check_age"]


@dataclass(frozen=True, kw_only=True, eq=False)
class TileView:
    """One tile of one die, for looking at.

    Attributes
    ----------
    target, programmed, faulty
        Level units, shape ``(rows, columns)``: the levels that were programmed, what programming left in the cells, and
        what they hold now.
    faults
        What is broken in it.
    used
        Which cells hold something, shape ``(rows, columns)``.
    """

    target: npt.NDArray[Any]
    programmed: npt.NDArray[Any]
    faulty: npt.NDArray[Any]
    faults: FaultMap
    used: npt.NDArray[np.bool_]

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class DieLayer:
    """The tiles of one layer on one die.

    Only what is broken is kept; the cells are made again from the seed when they are asked for.

    Attributes
    ----------
    name
        Of the layer.
    reading
        The placed matrix and how its columns are read.
    drive, converter
        How inputs are applied, and how sums are read.
    design
        The accelerator.
    silicon
        What is broken, and how the periphery errs.
    seed
        Root seed of the die.
    index
        Number of the layer in its network.
    seconds
        Age of the die, s: how long its cells have drifted.
    levels
        The levels that are programmed, uint8 of shape ``(tiles, rows, columns)``: those of the matrix, or what a
        mitigation made of them. ``None`` for those of the matrix.
    """

    name: str
    reading: Reading
    drive: Drive
    converter: Converter
    design: Design
    silicon: Silicon
    seed: int
    index: int = 0
    seconds: float = 0.0
    levels: npt.NDArray[np.uint8] | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def matrix(self) -> MappedMatrix:
        """The placed matrix."""
        return self.reading.matrix

    @property
    def faults(self) -> FaultMap:
        """Which cells are stuck, and where."""
        return self.silicon.faults

    @property
    def stuck_outside(self) -> StuckOutside:
        """How many cells are stuck outside the range of the design's cell; those of layers add."""
        return self.faults.outside(self.design.cell, self.design.mapping.cell_bits)

    @property
    def targets(self) -> npt.NDArray[np.uint8]:
        """The levels that are programmed, shape ``(tiles, rows, columns)``."""
        return self.matrix.levels if self.levels is None else self.levels

    def _rng(self, purpose: Purpose) -> np.random.Generator:
        return generator(self.seed, self.index, purpose)

    def programmed(self) -> npt.NDArray[np.float32]:
        """What programming left in the cells, before faults: level units, shape ``(tiles, rows, columns)``."""
        rng = self._rng(Purpose.PROGRAMMING)
        return program(self.targets, self.design.cell, self.design.mapping.cell_bits, rng)

    def cells(self) -> npt.NDArray[np.float32]:
        """What the cells hold: programmed, drifted, then stuck; level units, shape ``(tiles, rows, columns)``."""
        return program(
            self.targets,
            self.design.cell,
            self.design.mapping.cell_bits,
            self._rng(Purpose.PROGRAMMING),
            faults=self.faults,
            seconds=self.seconds,
            drift=self._rng(Purpose.DRIFT),
            states=self._rng(Purpose.STATES),
        )

    @entrance
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
        cells = self.cells() if cells is None else cells
        through = seen_cells(cells, self.matrix, self.design, self.drive, self.silicon.lines)
        return fold_errors(through, self.reading, self.design, self.drive, self.silicon)

    @entrance
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
        cell = self.design.cell
        if not cell.noisy:
            return None
        variance = cell.read_variance(cells, self.design.mapping.cell_bits, self.drive.max_plane)
        by_power = {2: variance.quadratic, 1: variance.linear, 0: variance.constant}
        for power, term in by_power.items():
            scaled = np.array(term, dtype=np.float64)
            if self.silicon.lines is not None:
                self.silicon.lines.open(scaled)
            if errors is not None and errors.driver_gain is not None:
                scaled *= errors.driver_gain[:, :, np.newaxis] ** power
            if errors is not None and errors.converter_gain is not None:
                scaled *= errors.converter_gain[:, np.newaxis, :] ** 2
            by_power[power] = scaled
        key = int(stream(self.seed, self.index, Purpose.READ_NOISE).generate_state(1, np.uint64)[0])
        return Noise(
            spread=np.sqrt(by_power[2]).astype(np.float32),
            key=key,
            linear=by_power[1] if by_power[1].any() else None,
            constant=by_power[0] if by_power[0].any() else None,
        )

    @entrance
    def plan(self, precision: Literal["single", "double"] = "single") -> Plan:
        """The cheapest way to compute this layer on this die; `precision` as :func:`xbarsim.engine.make_plan`."""
        cells = self.cells()
        seen, errors = self.seen(cells)
        noise = self.noise(cells, errors)
        return make_plan(self.reading, seen, self.drive, self.converter, noise, errors, precision=precision)

    def current_losses(self) -> tuple[TileLoss, ...]:
        """How much current wires and broken lines cost each tile."""
        return current_losses(self.name, self.cells(), self.matrix, self.design, self.drive, self.silicon.lines)

    @entrance
    def tile(self, tile: int) -> TileView:
        """One of its tiles.

        Raises
        ------
        InputError
            If there is no such tile.
        """
        check_integer("tile", tile, at_least=0, at_most=self.matrix.tiles - 1)
        return TileView(
            target=self.targets[tile],
            programmed=self.programmed()[tile],
            faulty=self.cells()[tile],
            faults=self.faults.tile(tile),
            used=self.matrix.used[tile],
        )

    @entrance
    def solve(self, tile: int, *, voltages: Any = None, law: CurrentLaw | None = None) -> Solution:
        """Every node voltage and cell current of one tile.

        Parameters
        ----------
        tile
            Which.
        voltages
            Of the drivers, shape ``(rows,)``, V; ``None`` for the cell's read voltage on every row in use.
        law
            Current against voltage of the cells; ``None`` for a straight line, as the layer is run. With a law the
            answer says how good that is; see :func:`xbarsim.circuit.linearisation_error`.

        Returns
        -------
        Solution
            Of the die's own cells, all rows in use selected, open lines taken out, lines that touch left apart; ideal
            wires if the design has none.

        Raises
        ------
        InputError
            If there is no such tile, or no voltage is given and the cell card has none.
        """
        view, cell, lines = self.tile(tile), self.design.cell, self.silicon.lines
        selected = self.matrix.tile_rows[tile] >= 0
        if voltages is None:
            if cell.read_voltage is None:
                raise InputError(f"voltages must be given for cell {cell.name!r}, which has no read voltage")
            voltages = np.where(selected, cell.read_voltage, 0.0)
        conductance = cell.conductance(view.faulty, self.design.mapping.cell_bits)[np.newaxis].clip(0.0)
        if lines is not None:
            one = slice(tile, tile + 1)
            of_tile = BrokenLines(lines.open_word_lines[one], lines.open_bit_lines[one], lines.shorted_bit_lines[one])
            of_tile.open(conductance)
            selected = selected | lines.open_word_lines[tile]  # without cells; must only not float
        return solve(conductance[0], voltages, self.design.wires or Wires(), law=law, rows=selected)


@entrance
def check_age(cell: Cell, seconds: float) -> float:
    """Return `seconds` if the cell's drift holds for that long; 0 needs no drift.

    Raises
    ------
    InputError
        If `seconds` is negative or longer than the drift was measured, or the cell's drift is not known.
    """
    age = check_real("seconds", seconds, at_least=0.0)
    if age == 0.0:
        return age
    if cell.drift is None:
        raise InputError(f"drift must be given for a cell at later times, got None for cell {cell.name!r}")
    return cell.drift.check_seconds(age)
