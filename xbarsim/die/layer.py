"""The arrays of one layer on one die: what is broken, what they hold, and what reads see of them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from xbarsim.circuit import CurrentLaw, Solution, Wires, solve
from xbarsim.design import Converter, ConverterErrors, Design, Drive
from xbarsim.devices import BrokenLines, Cell, FaultMap, StuckOutside
from xbarsim.die.compensation import drift_factor
from xbarsim.die.program import program
from xbarsim.die.seen import TileLoss, current_losses, fold_errors, seen_cells, seen_variance, through_wires
from xbarsim.die.silicon import Silicon
from xbarsim.die.streams import Purpose, generator, stream
from xbarsim.engine import Backend, Case, Noise, Plan, plan_case
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError, check_integer, check_real
from xbarsim.mapping import Arrangement, MappedMatrix, Reading

__all__ = ["DieLayer", "TileView", "WeightCorrection", "check_age"]


@dataclass(frozen=True, kw_only=True, eq=False)
class WeightCorrection:
    """What is added digitally to some weights of a layer.

    Attributes
    ----------
    inputs, outputs
        Which weights of the matrix, int32 of shape ``(weights,)``.
    values
        In units of the codes, shape ``(weights,)``.
    """

    inputs: npt.NDArray[np.int32]
    outputs: npt.NDArray[np.int32]
    values: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        check_fields(self)


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
    arrangement
        Where the tiles lie in the arrays, whose faults, lines, drivers and converters are those of `silicon`; ``None``
        where every line is in its own place. All else of a layer is in the order of its tiles.
    copies
        How often its matrix holds each weight: the outputs of the copies stand one behind the other.
    copy_weights
        What each copy counts in the layer's outputs, shape ``(copies, outputs)``; ``None`` if all count alike.
    correction
        What is added to weights of the matrix digitally, or ``None``.

    Raises
    ------
    InputError
        If the arrangement is of other tiles or arrays, or takes a pair of columns apart that is subtracted before the
        converter.
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
    arrangement: Arrangement | None = None
    copies: int = 1
    copy_weights: npt.NDArray[np.float64] | None = None
    correction: WeightCorrection | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_digital_part()
        if self.arrangement is None:
            return
        placed, tiles = self.arrangement, self.matrix.levels.shape
        if placed.tiles_shape != tiles or placed.shape != self.faults.shape:
            raise InputError(
                f"arrangement must be of tiles {tiles} in arrays {self.faults.shape}, got {placed.tiles_shape} in "
                f"{placed.shape}"
            )
        paired = self.reading.minus >= 0
        first, second = (placed.columns[:, side[paired]] for side in (self.reading.plus, self.reading.minus))
        if (first // 2 != second // 2).any():
            raise InputError("arrangement must keep pairs of columns that are subtracted together, got some apart")

    def _check_digital_part(self) -> None:
        inputs, held = self.matrix.shape
        check_integer("copies", self.copies, at_least=1)
        wanted = self.copies, held // self.copies
        if held % self.copies or (self.copy_weights is not None and self.copy_weights.shape != wanted):
            given = None if self.copy_weights is None else self.copy_weights.shape
            raise InputError(f"copy_weights must have shape {wanted} for {held} outputs, got {given}")
        if self.correction is not None:
            for name, places, size in (
                ("inputs", self.correction.inputs, inputs),
                ("outputs", self.correction.outputs, held),
            ):
                if len(places) and not 0 <= int(places.min()) <= int(places.max()) < size:
                    raise InputError(
                        f"correction.{name} must be in [0, {size - 1}], got {places.min()} to {places.max()}"
                    )

    @property
    def completes(self) -> bool:
        """Whether anything is done to the sums of its tiles digitally; else :meth:`complete` gives them back."""
        return self.copies > 1 or self.correction is not None or self.drift_factor != 1.0

    @cached_property
    def drift_factor(self) -> float:
        """What the sums of its tiles are multiplied by, so that an aged die gives what a new one does; 1 without.

        The two reads of all word lines that it takes are without noise and converters' steps: averaged, they would be.
        """
        if self.design.periphery.drift_compensation is None or self.seconds == 0.0:
            return 1.0
        new = replace(self, seconds=0.0)
        return drift_factor(new.seen()[0], self.seen()[0], self.matrix)

    @entrance
    def complete(
        self, products: npt.NDArray[np.float64], codes: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.float64]:
        """What becomes of the sums of its tiles: drift compensated, corrected, and copies averaged.

        Parameters
        ----------
        products
            In units of codes times codes, shape ``(vectors, outputs of all copies)``.
        codes
            The input codes that they come from, shape ``(vectors, inputs)``.

        Returns
        -------
        ndarray
            Shape ``(vectors, outputs)``.
        """
        if self.drift_factor != 1.0:
            products = products * self.drift_factor
        if self.correction is not None:
            products = products + codes @ self._lacking
        if self.copies == 1:
            return products
        each = products.reshape(len(products), self.copies, -1)
        if self.copy_weights is None:
            return np.asarray(each.sum(axis=1) / self.copies)  # of equal integers exactly one of them
        return np.asarray(np.einsum("vcj,cj->vj", each, self.copy_weights))

    @cached_property
    def _lacking(self) -> csr_array:
        assert self.correction is not None
        places = self.correction.inputs, self.correction.outputs
        return csr_array((self.correction.values, places), shape=self.matrix.shape)

    def _in_arrays(self, tiles: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return tiles if self.arrangement is None else self.arrangement.cells_of_arrays(tiles)

    def _in_tiles(self, arrays: npt.NDArray[Any]) -> npt.NDArray[Any]:
        return arrays if self.arrangement is None else self.arrangement.cells_of_tiles(arrays)

    @property
    def matrix(self) -> MappedMatrix:
        """The placed matrix."""
        return self.reading.matrix

    @property
    def faults(self) -> FaultMap:
        """Which cells of its arrays are stuck, and where."""
        return self.silicon.faults

    @property
    def tile_faults(self) -> FaultMap:
        """The same in the order of its tiles."""
        return self.faults if self.arrangement is None else self.arrangement.faults_of_tiles(self.faults)

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
        rng, bits = self._rng(Purpose.PROGRAMMING), self.design.mapping.cell_bits
        return self._in_tiles(program(self._in_arrays(self.targets), self.design.cell, bits, rng))

    def cells(self) -> npt.NDArray[np.float32]:
        """What the cells hold: programmed, drifted, then stuck; level units, shape ``(tiles, rows, columns)``."""
        return self._in_tiles(self.array_cells())

    def array_cells(self) -> npt.NDArray[np.float32]:
        """The same of all cells of its arrays, spare lines included; shape ``(arrays, word lines, bit lines)``."""
        return program(
            self._in_arrays(self.targets),
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
            From :meth:`array_cells`, to save making them again.

        Returns
        -------
        ndarray
            Level units, shape ``(tiles, rows, columns)``.
        ConverterErrors
            Offsets, and bits of wrong weight.
        """
        return self._folded(self.through_wires(cells))

    def _folded(self, through: npt.NDArray[np.float32]) -> tuple[npt.NDArray[np.float32], ConverterErrors]:
        return fold_errors(through, self.reading, self.design, self.drive, self.silicon, self.arrangement)

    @property
    def _surroundings(self) -> tuple[MappedMatrix, Design, Drive, BrokenLines | None, Arrangement | None]:
        """What lies around the cells of its arrays."""
        return self.matrix, self.design, self.drive, self.silicon.lines, self.arrangement

    @entrance
    def through_wires(self, cells: npt.NDArray[np.float32] | None = None) -> npt.NDArray[np.float32]:
        """What the cells count through wires and broken lines, before drivers and converters err.

        Parameters
        ----------
        cells
            From :meth:`array_cells`, to save making them again.

        Returns
        -------
        ndarray
            Level units, shape ``(tiles, rows, columns)``: the current of a column is the sum over its driven rows of
            voltage times the conductances that these stand for.
        """
        cells = self.array_cells() if cells is None else cells
        return self._in_tiles(seen_cells(cells, *self._surroundings))

    @entrance
    def noise(
        self,
        cells: npt.NDArray[np.float32] | None = None,
        errors: ConverterErrors | None = None,
        *,
        through: npt.NDArray[np.float64] | None = None,
    ) -> Noise | None:
        """Read noise of these cells as the converters see it, or ``None``.

        Cells on open lines add none; wires, and gains of drivers and converters, scale it. That lines which touch
        share it is left out.

        Parameters
        ----------
        cells
            From :meth:`array_cells`, to save making them again.
        errors
            From :meth:`seen`; ``None`` for ideal drivers and converters.
        through
            From :func:`xbarsim.die.through_wires`, to save solving the circuits again.
        """
        cell = self.design.cell
        if not cell.noisy:
            return None
        cells = self.array_cells() if cells is None else cells
        own = cell.read_variance(cells, self.design.mapping.cell_bits, self.drive.max_plane)
        variance = seen_variance(cells, own, *self._surroundings, through=through)
        by_power = {2: variance.quadratic, 1: variance.linear, 0: variance.constant}
        for power, term in by_power.items():
            scaled = self._in_tiles(term)
            if errors is not None and errors.driver_gain is not None:
                scaled = scaled * errors.driver_gain[:, :, np.newaxis] ** power
            if errors is not None and errors.converter_gain is not None:
                scaled = scaled * errors.converter_gain[:, np.newaxis, :] ** 2
            by_power[power] = scaled
        key = int(stream(self.seed, self.index, Purpose.READ_NOISE).generate_state(1, np.uint64)[0])
        return Noise(
            spread=np.sqrt(by_power[2]).astype(np.float32),
            key=key,
            linear=by_power[1] if by_power[1].any() else None,
            constant=by_power[0] if by_power[0].any() else None,
        )

    @entrance
    def case(self, precision: Literal["single", "double"] = "single") -> Case:
        """What plans look at to say how it can be computed; `precision` as :func:`xbarsim.engine.make_plan`."""
        cells = self.array_cells()
        through = through_wires(cells, *self._surroundings) if self.design.wires is not None else None
        seen, errors = self._folded(self._in_tiles(seen_cells(cells, *self._surroundings, through=through)))
        noise = self.noise(cells, errors, through=through)
        return Case.of(self.reading, seen, self.drive, self.converter, noise, errors, precision=precision)

    @entrance
    def plan(self, precision: Literal["single", "double"] = "single", backend: Backend | None = None) -> Plan:
        """The cheapest way to compute this layer on this die.

        Parameters
        ----------
        precision
            As :func:`xbarsim.engine.make_plan`.
        backend
            What computes it; by default the project's own kernels.
        """
        return plan_case(self.case(precision), backend)

    def current_losses(self) -> tuple[TileLoss, ...]:
        """How much current wires and broken lines cost each tile."""
        return current_losses(
            self.name,
            self.array_cells(),
            self.matrix,
            self.design,
            self.drive,
            self.silicon.lines,
            self.arrangement,
        )

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
            faults=self.tile_faults.tile(tile),
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
            Of the drivers of its array, shape ``(word lines,)``, V; ``None`` for the cell's read voltage on every row
            in use.
        law
            Current against voltage of cells of these conductances at small voltages; with it the answer says how good
            a straight line is, see :func:`xbarsim.circuit.linearisation_error`. ``None`` for the design's
            `current_law`, for which they are conductances at the read voltage; a straight line if it has none.

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
        check_integer("tile", tile, at_least=0, at_most=self.matrix.tiles - 1)
        cell, lines, placed = self.design.cell, self.silicon.lines, self.arrangement
        in_use = self.matrix.tile_rows[tile] >= 0
        array = tile if placed is None else int(placed.arrays[tile])
        selected = in_use
        if placed is not None:
            selected = np.zeros(self.faults.shape[1], bool)
            selected[placed.rows[tile, in_use]] = True
        if voltages is None:
            if cell.read_voltage is None:
                raise InputError(
                    f"voltages must be given for cell {cell.name!r}, which has no read voltage{see('devices')}"
                )
            voltages = np.where(selected, cell.read_voltage, 0.0)
        held = self.array_cells()[array : array + 1]
        conductance = cell.conductance(held, self.design.mapping.cell_bits).clip(0.0)
        if lines is not None:
            one = slice(array, array + 1)
            of_tile = BrokenLines(lines.open_word_lines[one], lines.open_bit_lines[one], lines.shorted_bit_lines[one])
            of_tile.open(conductance)
            selected = selected | lines.open_word_lines[array]  # without cells; must only not float
        if law is None and (own := self.design.current_law) is not None:
            assert cell.read_voltage is not None
            law = own
            conductance *= cell.read_voltage / own.relative(np.array([cell.read_voltage]))
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
        raise InputError(
            f"drift must be given for a cell at later times, got None for cell {cell.name!r}{see('devices')}"
        )
    return cell.drift.check_seconds(age)
