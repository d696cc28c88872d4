"""A network in cells, before any die is made of it: its layers, where they are placed, and how they are read."""

from __future__ import annotations

import copy
import textwrap
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from xbarsim.cost import Activity, CostReport, DigitalUse, Hardware, estimate
from xbarsim.design import Converter, Design, Drive
from xbarsim.devices import check_voltage
from xbarsim.engine import CompiledBackend, choose_plan
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.guide import see
from xbarsim.foundation.html import html_table
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer
from xbarsim.mapping import MappedMatrix, Reading
from xbarsim.network.activity import ActivityTable
from xbarsim.network.layers import DigitalLayer, QuantisedLayer
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Network, Skeleton
from xbarsim.network.storage import StorageTable, storage_of
from xbarsim.network.tuning import Observed, Totals
from xbarsim.network.use import layer_use

__all__ = ["MappedLayer", "PlacedNetwork", "PlanTable", "fullest_tile", "layer_drive"]

_FACTOR_BITS = 16  # of a factor against drift, and of the sum that it is found by
_REASON_WIDTH = 80  # characters in a line of a reason, so that a table of plans fits a wide terminal


def fullest_tile(matrix: MappedMatrix) -> int:
    """Word lines in use in the tile that has most; at least 1."""
    return int((matrix.tile_rows >= 0).sum(axis=1).max(initial=1))


def layer_drive(design: Design, *, signed: bool, input_bits: int) -> Drive:
    """How the inputs of a layer are applied that take so many bits, which may be fewer than the design drives.

    A word line that gets fewer bits than its converter has is driven with the highest voltage for the highest code.
    """
    drive = design.drive(signed=signed)
    return replace(drive, input_bits=input_bits, dac_bits=min(drive.dac_bits, input_bits))


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedLayer:
    """One layer of a network, the tiles that hold it, and how they are driven and read.

    Parameters
    ----------
    layer
        The quantised layer.
    reading
        Its weights in cells, and what each of their columns counts.
    drive
        How its inputs are applied.
    converter
        How the sums of its columns become codes.
    mean_square_input
        Mean square of the word-line voltage over the read voltage, for each input, on the calibration set (over
        positions, passes and planes), shape ``(inputs,)``; unitless.
    vectors_per_image
        Matrix-vector products for one sample: all vectors of the layer in a call over the samples of that call.
    activity
        How much of it the calibration set drives and reads; ``None`` where that is not known.
    spare_rows, spare_columns
        Lines that every array has beside those of the mapping.
    copies
        How often its weights are held: the outputs of the copies stand one behind the other in the matrix.
    """

    layer: QuantisedLayer
    reading: Reading
    drive: Drive
    converter: Converter
    mean_square_input: npt.NDArray[np.float64]
    vectors_per_image: float
    activity: Activity | None = None
    spare_rows: int = 0
    spare_columns: int = 0
    copies: int = 1

    def __post_init__(self) -> None:
        check_fields(self)
        for name, least in (("spare_rows", 0), ("spare_columns", 0), ("copies", 1)):
            check_integer(name, getattr(self, name), at_least=least)

    @property
    def arrays_shape(self) -> tuple[int, int, int]:
        """Arrays, word lines and bit lines that it takes, spare ones included."""
        tiles, rows, columns = self.matrix.levels.shape
        return tiles, rows + self.spare_rows, columns + self.spare_columns

    @property
    def matrix(self) -> MappedMatrix:
        """Its weights in cells."""
        return self.reading.matrix

    @property
    def reads_per_plane(self) -> int:
        """Reads of its fullest tile for one plane: more than one where only some rows are driven at a time."""
        return self.drive.row_group_count(fullest_tile(self.matrix))

    @entrance
    def cells_power(
        self, cells: npt.NDArray[Any], design: Design, *, read_voltage: float | None = None
    ) -> float | None:
        """Mean static power of the cells while all tiles of the layer are read, in W.

        The sum of V^2 G over the driven rows of used columns, with the voltages of the calibration set; columns at
        virtual ground. Where only some rows are driven at a time, the mean over these reads.

        Parameters
        ----------
        cells
            What the cells hold, in level units, shape ``(tiles, rows, columns)``.
        design
            Gives the cell; ``None`` is returned if its read voltage is not known.
        read_voltage
            Instead of that of the cell, V.
        """
        if cells.shape != self.matrix.levels.shape:
            raise InputError(f"cells must have shape {self.matrix.levels.shape}, got {cells.shape}")
        voltage = design.cell.read_voltage
        if read_voltage is not None:
            voltage = check_voltage("read_voltage", read_voltage, implausible=design.cell.implausible)
        if voltage is None:
            return None
        matrix, bits = self.matrix, design.mapping.cell_bits
        columns = np.asarray(matrix.used.any(axis=1))  # (tiles, columns)
        conductance = design.cell.conductance(cells, bits)
        total = np.where(columns[:, np.newaxis, :], conductance, 0.0).sum(axis=2)  # (tiles, rows)
        mean_square = np.where(matrix.tile_rows >= 0, self.mean_square_input[matrix.tile_rows], 0.0)
        return float((mean_square * total).sum()) * voltage**2 / self.reads_per_plane


@dataclass(frozen=True)
class PlanTable:
    """How each layer is computed, and why.

    Attributes
    ----------
    rows
        Layer, plan and reason.
    computed_by
        What computes them, in words: the backend, and the processor's vector instructions or the device. Tables are
        equal that differ in nothing else.
    """

    rows: tuple[tuple[str, str, str], ...]
    computed_by: str = field(default="", compare=False)

    def __post_init__(self) -> None:
        check_fields(self)

    def __getitem__(self, layer: str) -> str:
        return {name: plan for name, plan, _ in self.rows}[layer]

    def __str__(self) -> str:
        lines = []
        for name, plan, reason in self.rows:
            first, *rest = textwrap.wrap(reason, _REASON_WIDTH) or [""]
            lines += [(name, plan, first), *(("", "", line) for line in rest)]
        table = format_table(("layer", "plan", "because"), lines, left=3)
        return f"{table}\nby {self.computed_by}" if self.computed_by else table

    def _repr_html_(self) -> str:
        title = f"Plans, by {self.computed_by}" if self.computed_by else "Plans"
        return html_table(title, ("layer", "plan", "because"), self.rows, left=3)


NetworkT = TypeVar("NetworkT", bound="PlacedNetwork")


class PlacedNetwork:
    """What every die of a network has in common.

    Parameters
    ----------
    design
        The accelerator it was placed for.
    skeleton
        What the network does between its layers.
    layers
        The layers by name, in the order in which they run.
    image_shape
        Shape of one sample's first input.

    Attributes
    ----------
    floating
        The network in floating point, as it was given.
    digital
        The quantised network computed digitally, exactly: what an ideal chip gives bit for bit.
    digital_work
        What it computes outside crossbars, for the cost.
    """

    digital_work: tuple[DigitalUse, ...] = ()

    @entrance
    def __init__(
        self,
        *,
        design: Design,
        skeleton: Skeleton,
        layers: dict[str, MappedLayer],
        image_shape: tuple[int, ...],
    ) -> None:
        self.design = design
        self.skeleton = skeleton
        self.layers = layers
        self.image_shape = image_shape
        self._statistics: dict[str, dict[str, Totals]] = {}  # by the samples that were run
        self.floating = Network(skeleton)
        self.digital = Network(skeleton, {name: DigitalLayer(mapped.layer) for name, mapped in layers.items()})

    def _with_layers(self: NetworkT, layers: dict[str, MappedLayer]) -> NetworkT:
        other = copy.copy(self)
        other.layers = layers
        return other

    @entrance
    def with_spare_lines(self: NetworkT, *, rows: int = 0, columns: int = 0) -> NetworkT:
        """The same network on arrays with more lines than the mapping uses; costs nothing.

        Parameters
        ----------
        rows, columns
            Word and bit lines of every array, beside those that it has.
        """
        check_integer("rows", rows, at_least=0)
        check_integer("columns", columns, at_least=0)
        return self._with_layers(
            {
                name: replace(mapped, spare_rows=mapped.spare_rows + rows, spare_columns=mapped.spare_columns + columns)
                for name, mapped in self.layers.items()
            }
        )

    @entrance
    def with_copies(self: NetworkT, copies: int, names: Sequence[str] | None = None) -> NetworkT:
        """The same network with weights held several times on arrays of their own, and the results averaged.

        Parameters
        ----------
        copies
            How often.
        names
            Of the layers; ``None`` for all.

        Raises
        ------
        InputError
            If there is no such layer, or one is held several times already.
        """
        check_integer("copies", copies, at_least=1)
        layers = dict(self.layers)
        for name in layers if names is None else names:
            mapped = layers[check_choice("names", name, layers)]
            if mapped.copies > 1:
                raise InputError(f"copies must be asked for once, got {copies} for {name!r}, which has {mapped.copies}")
            matrix = mapped.matrix
            outputs = matrix.shape[1]
            places = np.tile(matrix.tile_outputs, (copies, 1))
            first = np.repeat(np.arange(copies) * outputs, matrix.tiles)[:, np.newaxis]  # of the outputs of a copy
            repeated = MappedMatrix(
                mapping=matrix.mapping,
                shape=(matrix.shape[0], outputs * copies),
                tile_rows=np.tile(matrix.tile_rows, (copies, 1)),
                tile_outputs=np.where(places >= 0, places + first, -1).astype(np.int32),
                levels=np.tile(matrix.levels, (copies, 1, 1)),
            )
            layers[name] = replace(mapped, reading=self.design.reading(repeated), copies=copies)
        return self._with_layers(layers)

    def output_totals(self, samples: Samples) -> dict[str, Totals]:
        """What the outputs of each layer are on an ideal die, in the order in which layers are used; computed once.

        Parameters
        ----------
        samples
            To run, all at once.
        """
        key = samples.digest
        if key not in self._statistics:
            totals: dict[str, Totals] = {}

            def record(name: str) -> Callable[[Any], Any]:
                def seen(results: Any) -> Any:
                    totals.setdefault(name, Totals()).add(results)
                    return results

                return seen

            layers = {name: Observed(DigitalLayer(each.layer), record(name)) for name, each in self.layers.items()}
            self.skeleton.run(samples, layers)
            self._statistics.clear()  # one set of images is in use at a time
            self._statistics[key] = totals
        return self._statistics[key]

    @property
    def tiles(self) -> int:
        """Crossbar arrays that the network takes."""
        return sum(mapped.matrix.tiles for mapped in self.layers.values())

    def storage(self) -> StorageTable:
        """What its weights take: arrays, cells in use, and bits of indices beside those of a compressed sparse row."""
        return storage_of(self.layers)

    def plan(self) -> PlanTable:
        """How each layer of a die without faults will be computed, and why.

        A die's own table is :meth:`xbarsim.Chip.plan`: a fault can cost a layer its proof that no converter clips or
        rounds.
        """
        cell = self.design.cell
        rows = []
        for name, mapped in self.layers.items():
            plan, reason = choose_plan(
                mapped.reading,
                mapped.matrix.levels,
                mapped.drive,
                mapped.converter,
                whole=cell.exact and self.design.ideal_circuit,
                noisy=cell.noisy,
                offsets=self.design.periphery.has_offsets,
            )
            rows.append((name, plan.name, reason))
        return PlanTable(tuple(rows), str(CompiledBackend()))

    @entrance
    def cost(
        self, hardware: Hardware | str = "isaac2016", *, data: bool = True, read_voltage: float | None = None
    ) -> CostReport:
        """Power, area and peak throughput of the arrays that the network takes, cells at their targets.

        What an inference costs is :meth:`xbarsim.cost.CostReport.workload` of it.

        Parameters
        ----------
        hardware
            A component card, or its name.
        data
            Whether the cells draw the power of these weights and calibration inputs; else that of the card, as is right
            for a network that is not trained.
        read_voltage
            Read voltage of the cells, V, in the place of that of their card. Where neither is given, the cells draw the
            nominal power of the component card, in which weights, encoding and faults do not show; a note says so.

        Raises
        ------
        InputError
            If there is no such card, the voltage is out of bounds, or it is given without `data`.
        """
        cells = {name: mapped.matrix.levels for name, mapped in self.layers.items()}
        return self.cost_of(cells if data else None, hardware, read_voltage=read_voltage)

    def cost_of(
        self,
        cells: Mapping[str, npt.NDArray[Any]] | None,
        hardware: Hardware | str,
        *,
        read_voltage: float | None = None,
        stored_bits: Mapping[str, int] | None = None,
        digital: tuple[DigitalUse, ...] = (),
        remarks: Sequence[str] = (),
        activity: ActivityTable | None = None,
    ) -> CostReport:
        """As :meth:`cost`, with what the cells of each layer really hold, in level units, or ``None`` (no `data`).

        Parameters
        ----------
        cells, hardware, read_voltage
            As there.
        stored_bits
            What each layer stores beside its indices.
        digital
            What is computed digitally beside the network's own.
        remarks
            What a reader must know beside.
        activity
            Of the inputs of a run, in the place of that of the calibration set.

        Raises
        ------
        InputError
            As there; or if `activity` is not of these layers.
        """
        check_instance("activity", activity, (ActivityTable, type(None)))
        if activity is not None and set(activity.layers) != set(self.layers):
            raise InputError(
                f"activity must be of the layers {', '.join(map(repr, self.layers))}, got one of "
                f"{', '.join(map(repr, activity.layers))}"
            )
        if read_voltage is not None:
            if cells is None:
                raise InputError(f"read_voltage must be None where data is False, got {read_voltage!r}")
            read_voltage = check_voltage("read_voltage", read_voltage, implausible=self.design.cell.implausible)
        card = Hardware.load(hardware) if isinstance(hardware, str) else hardware
        uses = [
            layer_use(
                name,
                mapped.reading,
                mapped.drive,
                mapped.converter,
                self.design,
                macs_per_vector=mapped.layer.codes.size // mapped.layer.groups,
                vectors_per_image=mapped.vectors_per_image,
                cells_power=(
                    None if cells is None else mapped.cells_power(cells[name], self.design, read_voltage=read_voltage)
                ),
                spare_rows=mapped.spare_rows,
                spare_columns=mapped.spare_columns,
                stored_bits=(stored_bits or {}).get(name, 0) + _compensation_bits(self.design),
                activity=mapped.activity if activity is None else activity[name],
            )
            for name, mapped in self.layers.items()
        ]
        of_power = _power_remarks(self.design, data=cells is not None, read_voltage=read_voltage)
        work = (*self.digital_work, *_compensation_work(self.design, self.layers), *digital)
        now_and_then = _compensation_remarks(self.design, self.layers)
        return estimate(uses, card, digital=work, remarks=[*of_power, *now_and_then, *remarks])


def _compensation_bits(design: Design) -> int:
    """What drift compensation stores for each layer: the sum of the first read, and the factor."""
    return 0 if design.periphery.drift_compensation is None else 2 * _FACTOR_BITS


def _compensation_work(design: Design, layers: Mapping[str, MappedLayer]) -> Iterator[DigitalUse]:
    """The multiplications of drift compensation for one image: one for each output of each layer."""
    if design.periphery.drift_compensation is None:
        return
    for name, layer in layers.items():
        outputs = layer.matrix.shape[1] // layer.copies
        yield DigitalUse(name=name, kind="drift compensation", elementwise=outputs * layer.vectors_per_image)


def _compensation_remarks(design: Design, layers: Mapping[str, MappedLayer]) -> list[str]:
    """What drift compensation takes now and then, and so is in no number of a cost."""
    if design.periphery.drift_compensation is None:
        return []
    arrays = sum(layer.arrays_shape[0] for layer in layers.values())
    return [
        f"each time that drift is compensated, in no number here: one read of each of the {arrays:,} arrays with all "
        "word lines driven, its codes added by magnitude; that read is taken to be exact"
    ]


def _power_remarks(design: Design, *, data: bool, read_voltage: float | None) -> list[str]:
    """What is to be known of the power of the cells in a cost."""
    cell = design.cell
    if not data:
        return ["the cells draw the nominal power of the component card, whatever they hold"]
    if read_voltage is None and cell.read_voltage is None:
        return [
            f"cell {cell.name!r} has no read voltage: the cells draw the nominal power of the component card, in which "
            f"weights, encoding and faults do not show; give cost(read_voltage=...){see('cost')}"
        ]
    remarks = []
    if read_voltage is not None:
        own = "has none of its own" if cell.read_voltage is None else f"has {cell.read_voltage:g} V"
        remarks.append(f"the cells are read at {read_voltage:g} V as asked; cell {cell.name!r} {own}")
    if design.wires is not None:
        remarks.append("the power of the cells is that without wire resistance: with it, an array draws less")
    if design.line_faults is not None:
        remarks.append("the power of the cells is that of sound lines: open and shorted ones do not show in it")
    return remarks
