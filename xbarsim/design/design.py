"""What you would tape out: the cell, how weights are placed in it, how it is read, and how it breaks.

Every class here is frozen, keyword-only and validated when it is built; a combination that cannot be
simulated is refused here and not ignored later. ``Design.from_toml(design.to_toml()) == design`` holds exactly.
"""

from __future__ import annotations

import math
import os
import re
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np

from xbarsim.circuit.cells import CurrentLaw
from xbarsim.circuit.wires import Wires
from xbarsim.design.converter import Converter
from xbarsim.design.drive import Drive
from xbarsim.design.periphery import Periphery
from xbarsim.design.summary import summary_rows
from xbarsim.devices import GRID, Cell, FaultModel, LineFaults, WriteVerify
from xbarsim.foundation import tomlio
from xbarsim.foundation.cards import CardFolder, Origin
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.html import html_table
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance, check_path
from xbarsim.mapping import MappedMatrix, Mapping, Reading

__all__ = ["Design", "DesignCard", "DesignValue", "design_card", "design_names"]

_NAME = re.compile(r"[A-Za-z0-9_-]+")  # of a card; a path has a dot or a separator


@dataclass(frozen=True, kw_only=True)
class Design:
    """A crossbar accelerator as you would tape it out.

    Parameters
    ----------
    cell
        The memory cell; a card by :meth:`xbarsim.devices.Cell.load`, or your own.
    mapping
        How weights become cells.
    periphery
        How the arrays are driven and read.
    faults
        How cells break, or ``None``.
    wires
        Resistance of lines, drivers, sense circuits and access transistors, or ``None`` for ideal ones.
    line_faults
        How lines break, or ``None``.
    current_law
        How the current through a cell rises with its voltage, where that is no straight line: a law that is
        proportional to the conductance, such as :class:`xbarsim.circuit.SinhLaw`. Cells are programmed by what they
        carry at the read voltage, so that their conductance is current over voltage there; codes of several bits drive
        them with lower voltages too, at which they carry less than their share; with bits alone nothing changes.
        Behind wires, which take some of the voltage, cells count as the straight lines of
        :func:`xbarsim.circuit.working_conductance`, an estimate. ``None``: straight lines.

    Raises
    ------
    InputError
        If `mapping` wants more levels than `cell` holds, if a lossless converter does not fit in
        `periphery.adc_bits`, if analog subtraction is asked of an encoding without pairs, if bit lines can be
        shorted in front of sense circuits with resistance, if drift is to be compensated of a cell that has none, or
        of an encoding without pairs, or if there is a `current_law` that is not proportional to the conductance, that
        the cell's read voltage (which it must have) is beyond, or beside drivers with offsets or gains.

    Examples
    --------
    >>> import xbarsim as xb
    >>> design = xb.Design(cell=xb.devices.Cell.load("islped2019"))
    >>> xb.Design.from_toml(design.to_toml()) == design
    True
    """

    cell: Cell
    mapping: Mapping = Mapping()  # noqa: RUF009  a frozen value
    periphery: Periphery = Periphery()  # noqa: RUF009  a frozen value
    faults: FaultModel | None = None
    wires: Wires | None = None
    line_faults: LineFaults | None = None
    current_law: CurrentLaw | None = None

    def __post_init__(self) -> None:
        check_instance("cell", self.cell, Cell)
        check_instance("mapping", self.mapping, Mapping)
        check_instance("periphery", self.periphery, Periphery)
        if self.faults is not None:
            check_instance("faults", self.faults, FaultModel)
        check_instance("wires", self.wires, (Wires, type(None)))
        check_instance("line_faults", self.line_faults, (LineFaults, type(None)))
        if (
            self.line_faults is not None
            and self.line_faults.shorted_bit_lines > 0
            and self.wires is not None
            and self.wires.sense_resistance > 0
        ):
            raise InputError(
                "sense_resistance must be 0 ohm where bit lines can be shorted (they share their current equally only "
                f"at one voltage), got {self.wires.sense_resistance!r}"
            )
        wanted = 2**self.mapping.cell_bits
        if wanted > self.cell.levels:
            raise InputError(
                f"cell_bits must be at most {int(math.log2(self.cell.levels))} for cell {self.cell.name!r} with "
                f"{self.cell.levels} levels, got {self.mapping.cell_bits} ({wanted} levels)"
            )
        if self.periphery.subtraction == "analog" and self.mapping.sides == 1:
            raise InputError(
                "subtraction must be 'digital' for an encoding without column pairs, got 'analog' with "
                f"{type(self.mapping.encoding).__name__}"
            )
        if self.periphery.adc_range == "lossless":
            self.converter(rows=self.mapping.rows)  # refuses too few bits
        self._check_idle_reads()
        self._check_drift_compensation()
        self._check_current_law()

    def _check_drift_compensation(self) -> None:
        """One factor undoes a drift only where all that is summed drifts."""
        asked = self.periphery.drift_compensation
        if asked is None:
            return
        if self.cell.drift is None:
            raise InputError(
                f"drift_compensation must be None for cell {self.cell.name!r}, whose drift is not known, got {asked!r}"
            )
        if self.mapping.sides == 1:
            raise InputError(
                "drift_compensation must be None for an encoding without column pairs, of whose sums a constant is "
                f"taken off that does not drift, got {asked!r} with {type(self.mapping.encoding).__name__}"
            )

    def _check_current_law(self) -> None:
        """One number a plane code stands for all cells, whatever they hold."""
        law, cell = self.current_law, self.cell
        check_instance("current_law", law, (CurrentLaw, type(None)))
        if law is None:
            return
        if not law.proportional:
            raise InputError(f"current_law must be proportional to the conductance of a cell, got {law!r}")
        if cell.read_voltage is None:
            raise InputError(f"current_law must be None for cell {cell.name!r}, which has no read voltage, got {law!r}")
        if cell.read_voltage > law.maximum_voltage:
            raise InputError(
                f"current_law must hold up to the read voltage of {cell.read_voltage:g} V, got one up to "
                f"{law.maximum_voltage:g} V"
            )
        law.check(np.array([cell.g_min, cell.g_max]))
        errors = self.periphery.dac_errors
        if errors is not None and (errors.offset or errors.gain):
            raise InputError(
                "dac_errors must have no offset and no gain where current_law is given (what a wrong voltage adds then "
                f"depends on the code), got {errors!r}"
            )

    def _check_idle_reads(self) -> None:
        """Only a read that gives nothing may be left out."""
        cell, bits = self.cell, self.mapping.cell_bits
        if self.periphery.skip_idle and cell.noisy:
            levels = np.arange(2**bits, dtype=np.float64)
            if cell.read_variance(levels, bits, 2**self.periphery.dac_bits - 1).constant.any():
                raise InputError(
                    f"skip_idle must be False for cell {cell.name!r}, whose read noise is there without a voltage (a "
                    "read of nothing then gives noise), got True"
                )

    @property
    def subtraction(self) -> Literal["analog", "digital"]:
        """Where pairs are subtracted, with the default filled in."""
        if self.periphery.subtraction is not None:
            return self.periphery.subtraction
        return "analog" if self.mapping.sides == 2 else "digital"

    @property
    def ideal_circuit(self) -> bool:
        """Whether a read sees just what the cells hold: no wires, sound lines, no gains of drivers and converters."""
        return (
            self.wires is None
            and self.line_faults is None
            and self.periphery.dac_errors is None
            and self.periphery.adc_errors is None
        )

    @property
    def offset_levels(self) -> float:
        """g_min in level steps, on the grid of conductances."""
        return round(self.cell.offset_levels(self.mapping.cell_bits) / GRID) * GRID

    @entrance
    def largest_sum(self, rows: int) -> float:
        """Largest column value that `rows` driven cells can give to the converter, in level steps times plane code."""
        maximum = float(self.mapping.max_level)
        if self.subtraction == "digital":
            maximum += self.offset_levels
        if self.periphery.active_rows is not None:
            rows = min(rows, self.periphery.active_rows)
        return float(maximum * rows * (2**self.periphery.dac_bits - 1))

    @entrance
    def drive(self, *, signed: bool) -> Drive:
        """How the inputs of one layer are applied.

        Parameters
        ----------
        signed
            Whether the layer's inputs can be negative.
        """
        periphery = self.periphery
        return Drive(
            signed=signed,
            input_bits=periphery.input_bits,
            dac_bits=periphery.dac_bits,
            signed_inputs=periphery.signed_inputs,
            active_rows=periphery.active_rows,
            values=self._carried(),
        )

    def _carried(self) -> tuple[float, ...] | None:
        """What cells carry for each plane code, on the grid of conductances; ``None`` where it is the code."""
        law, largest = self.current_law, 2**self.periphery.dac_bits - 1
        if law is None or largest == 1:
            return None
        assert self.cell.read_voltage is not None
        current = law.relative(self.cell.read_voltage * np.arange(largest + 1) / largest)
        values = np.rint(largest * current / current[-1] / GRID) * GRID
        return None if np.array_equal(values, np.arange(largest + 1)) else tuple(values.tolist())

    @entrance
    def converter(self, *, rows: int, calibrated_range: float | None = None) -> Converter:
        """How the sums of one layer are read.

        Parameters
        ----------
        rows
            Word lines driven in its fullest tile.
        calibrated_range
            Largest column value on the calibration set, in level steps times plane code; needed when
            ``periphery.adc_range`` is ``"calibrated"``.

        Raises
        ------
        InputError
            If a calibrated converter is given no range, or a lossless one needs more bits than it has.
        """
        periphery = self.periphery
        if periphery.adc_range is None:
            return Converter(offset_levels=self.offset_levels)
        two_sided = self.subtraction == "analog"
        if isinstance(periphery.adc_range, float):
            span = periphery.adc_range
        elif periphery.adc_range == "calibrated":
            if calibrated_range is None:
                raise InputError("calibrated_range must be a number when adc_range is 'calibrated', got None")
            span = calibrated_range
        else:
            span = self.largest_sum(rows)
        if periphery.adc_range == "lossless":
            step, high = 1.0, math.ceil(span)
            needed = math.ceil(math.log2(high + 1)) + (1 if two_sided else 0)
            if periphery.adc_bits is not None and periphery.adc_bits < needed:
                raise InputError(
                    f"adc_bits must be at least {needed} for a lossless read of {rows} rows, got "
                    f"{periphery.adc_bits}; use adc_range='calibrated' or 'full' for fewer"
                )
            low = -high if two_sided else 0
        else:
            assert periphery.adc_bits is not None
            codes = 2**periphery.adc_bits
            low, high = (-(codes // 2), codes // 2 - 1) if two_sided else (0, codes - 1)
            step = max(1.0, span / max(high, 1))
        return Converter(step=step, low=low, high=high, offset_levels=self.offset_levels)

    @entrance
    def reading(self, matrix: MappedMatrix) -> Reading:
        """How the columns of a placed matrix are read."""
        return Reading.of(matrix, self.subtraction)

    @entrance
    def replace(self, **changes: Any) -> Design:
        """A copy with some parts exchanged, validated anew."""
        return replace(self, **changes)

    def _summary(self) -> list[tuple[str, str]]:
        return summary_rows(
            self.cell,
            self.mapping,
            self.periphery,
            self.faults,
            self.wires,
            self.line_faults,
            self.current_law,
            self.subtraction,
        )

    @property
    def in_a_line(self) -> str:
        """What was chosen, in one line: cell, encoding, arrays and what is broken."""
        said = dict(self._summary())
        cell = said["cell"].partition(":")[0]
        return f"{said['encoding']} of {cell} cells in arrays of {said['arrays']}; faults: {said['faults']}"

    def __str__(self) -> str:
        return format_table(("design", ""), self._summary(), left=2)

    def _repr_html_(self) -> str:
        return html_table("Design", (), self._summary(), left=2)

    def to_toml(self) -> str:
        """TOML text of the design, every number exact."""
        return tomlio.dumps(self)

    @classmethod
    @entrance
    def from_toml(cls, text: str) -> Design:
        """Read a design from TOML text; the cell may be given by the name of its card.

        Raises
        ------
        FileFormatError
            For text that is not TOML, an unknown or missing key, or a wrong type.
        InputError
            For a value out of bounds.
        """
        return tomlio.loads(cls, text)

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this design as a TOML file, whole or not at all."""
        tomlio.save(self, path)

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> Design:
        """Read a design that comes with the project, or one from a TOML file.

        Parameters
        ----------
        name_or_path
            A name from :func:`design_names`, or the path of a file: whatever has a dot or a separator.

        Raises
        ------
        InputError
            If no design has that name, naming the close ones, or a value of the file is out of bounds.
        FileFormatError
            As :meth:`from_toml`.
        """
        if _NAME.fullmatch(os.fspath(check_path("design", name_or_path))):
            return design_card(name_or_path).design
        return tomlio.load(cls, name_or_path)


@dataclass(frozen=True, kw_only=True)
class DesignValue:
    """Where some values of a design are from.

    Attributes
    ----------
    parameters
        Which: ``"mapping.rows"``, ``"cell"``.
    origin
        As in :class:`xbarsim.devices.CardValue`.
    note
        Where in the source they stand, or why they were assumed.
    """

    parameters: tuple[str, ...]
    origin: Origin
    note: str

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class DesignCard:
    """A published accelerator as a design, with the origin of every value and what it cannot say.

    Attributes
    ----------
    name
        AuthorYear or SystemYear in lower case; its file is ``<name>.toml``.
    description
        In one line.
    source, doi
        Citation, and its digital object identifier.
    design
        The design.
    hardware
        Name of the component card to cost it on, or ``None`` where there is none.
    write
        How its cells are written and verified, or ``None`` where the source does not say.
    values
        Where its values are from: all that are not at their defaults, and the sizes and bits of arrays in any case.
    limits
        What of the source is not in the design, a sentence each.

    Raises
    ------
    InputError
        If a value has no origin, or a parameter is named that a design does not have.
    """

    name: str
    description: str
    source: str
    doi: str | None = None
    design: Design
    hardware: str | None = None
    write: WriteVerify | None = None
    values: tuple[DesignValue, ...]
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        named = [parameter for value in self.values for parameter in value.parameters]
        for parameter in named:
            self.value_of(parameter)
        missing = [parameter for parameter in self._stated() if parameter not in named]
        if missing:
            raise InputError(f"values must say where {', '.join(missing)} of design {self.name!r} are from")

    def value_of(self, parameter: str) -> Any:
        """The value of a parameter, ``"mapping.rows"``."""
        value: Any = self.design
        for part in parameter.split("."):
            if part not in {field.name for field in fields(value)}:
                raise InputError(f"values must name parameters of a design, got {parameter!r}")
            value = getattr(value, part)
        return value

    def _stated(self) -> list[str]:
        """The parameters that must have an origin."""
        design = self.design
        stated = [
            "cell",
            *(name for name in ("faults", "wires", "line_faults", "current_law") if getattr(design, name) is not None),
        ]
        for name, part in (("mapping", design.mapping), ("periphery", design.periphery)):
            usual = type(part)()
            stated += [
                f"{name}.{field.name}"
                for field in fields(part)
                if f"{name}.{field.name}" in _ALWAYS or getattr(part, field.name) != getattr(usual, field.name)
            ]
        return stated


_ALWAYS = (
    *(f"mapping.{name}" for name in ("encoding", "rows", "columns", "weight_bits", "cell_bits")),
    *(f"periphery.{name}" for name in ("input_bits", "dac_bits")),
)

DESIGNS = CardFolder("design", DesignCard, Path(__file__).parent / "cards")
"""The designs that come with the project."""


@entrance
def design_names() -> list[str]:
    """The names of the designs that come with the project, sorted."""
    return DESIGNS.names()


@entrance
def design_card(name_or_path: str | os.PathLike[str]) -> DesignCard:
    """Read the card of a design: with sources, what its cells are written with, and what it cannot say.

    Parameters
    ----------
    name_or_path
        A name from :func:`design_names`, or the path of a card, ending in ``.toml``.

    Raises
    ------
    InputError
        If no card has that name, a value is out of bounds, or one has no origin.
    FileFormatError
        If the card cannot be read, is not TOML, or has unknown keys or wrong types.
    """
    return DESIGNS.load(name_or_path)
