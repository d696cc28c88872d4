"""What you would tape out: the cell, how weights are placed in it, how it is read, and how it breaks.

Every class here is frozen, keyword-only and validated when it is built; a combination that cannot be
simulated is refused here and not ignored later. ``Design.from_toml(design.to_toml()) == design`` holds exactly.
"""

from __future__ import annotations

import math
import os
from dataclasses import dataclass, replace
from typing import Any, Literal

from xbarsim.circuit.wires import Wires
from xbarsim.design.converters import AdcErrors, DacErrors
from xbarsim.devices import GRID, Cell, FaultModel, LineFaults
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.mapping import Mapping

__all__ = ["Design", "Periphery", "Readout"]


@dataclass(frozen=True, kw_only=True)
class Periphery:
    """Converters around each array, and how signs are handled.

    Parameters
    ----------
    input_bits
        Bits of an input code, 1 to 16. Signed inputs use one of them for the sign.
    dac_bits
        Bits of the code applied to a word line at a time, 1 to `input_bits`; an input takes
        ``ceil(input_bits / dac_bits)`` reads, its *planes*.
    adc_bits
        Bits of the converter at each column, 1 to 24. ``None`` with no `adc_range` means an ideal read-out
        that does not quantise; ``None`` with ``"lossless"`` means as many bits as that takes.
    adc_range
        What the converter's codes span, in level steps times plane code (a fully-on cell at the highest level M
        driven by code x contributes M x): ``"calibrated"`` (the largest sum seen on the calibration set, one range
        per layer; the default when `adc_bits` is given), ``"full"`` (the largest sum the tiles could give),
        ``"lossless"`` (the same, in unit steps, refused if `adc_bits` are too few), or a number.
        Steps are never finer than one unit: sums of whole levels need no finer ones.
    subtraction
        Where the two columns of a pair are subtracted: ``"analog"`` (before a signed converter; the default for
        pairs) or ``"digital"`` (after two unsigned conversions; the only choice for single-column encodings).
    signed_inputs
        How inputs that can be negative are applied: ``"two_pass"`` (positive then negative magnitudes) or
        ``"offset"`` (2^(input_bits-1) is added and its known product taken off digitally).
    active_rows
        Word lines driven at a time, or ``None`` for all of an array. Rows 0 to n - 1 are one read, rows n to 2 n - 1
        the next, each with its own conversion; the codes are added. The other rows are not selected.
    columns_per_adc
        Neighbouring columns (pairs, where these are subtracted before the converter) that one converter serves in turn.
        They share its errors.
    adc_errors, dac_errors
        How converters and drivers differ from ideal ones, or ``None``.

    Raises
    ------
    InputError
        For a value out of bounds, a contradiction between `adc_bits` and `adc_range`, or errors of converters where
        there are none.
    """

    input_bits: int = 8
    dac_bits: int = 1
    adc_bits: int | None = None
    adc_range: Literal["calibrated", "full", "lossless"] | float | None = None
    subtraction: Literal["analog", "digital"] | None = None
    signed_inputs: Literal["two_pass", "offset"] = "two_pass"
    active_rows: int | None = None
    columns_per_adc: int = 1
    adc_errors: AdcErrors | None = None
    dac_errors: DacErrors | None = None

    def __post_init__(self) -> None:
        check_integer("input_bits", self.input_bits, at_least=1, at_most=16)
        check_integer("dac_bits", self.dac_bits, at_least=1, at_most=self.input_bits)
        if self.adc_bits is not None:
            check_integer("adc_bits", self.adc_bits, at_least=1, at_most=24)
            if self.adc_range is None:
                object.__setattr__(self, "adc_range", "calibrated")
        if isinstance(self.adc_range, str):
            check_choice("adc_range", self.adc_range, ("calibrated", "full", "lossless"))
        elif self.adc_range is not None:
            object.__setattr__(self, "adc_range", check_real("adc_range", self.adc_range, above=0.0))
        if self.adc_bits is None and self.adc_range not in (None, "lossless"):
            raise InputError(f"adc_bits must be given when adc_range is {self.adc_range!r}, got None")
        if self.subtraction is not None:
            check_choice("subtraction", self.subtraction, ("analog", "digital"))
        check_choice("signed_inputs", self.signed_inputs, ("two_pass", "offset"))
        if self.active_rows is not None:
            check_integer("active_rows", self.active_rows, at_least=1)
        check_integer("columns_per_adc", self.columns_per_adc, at_least=1)
        check_instance("adc_errors", self.adc_errors, (AdcErrors, type(None)))
        check_instance("dac_errors", self.dac_errors, (DacErrors, type(None)))
        if self.adc_errors is not None and self.adc_range is None:
            raise InputError(
                f"adc_errors must be None for an ideal read-out (no adc_bits and no adc_range), got {self.adc_errors!r}"
            )

    @property
    def erring(self) -> bool:
        """Whether drivers have offsets, or converters offsets or bits of wrong weight: what no conductance holds."""
        adc, dac = self.adc_errors, self.dac_errors
        return (dac is not None and dac.offset > 0) or (
            adc is not None and (adc.offset > 0 or adc.capacitor_mismatch > 0)
        )


@dataclass(frozen=True, kw_only=True)
class Readout:
    """How the tiles of one layer are read, every choice made: what the engine is given.

    Parameters
    ----------
    signed
        Whether input codes may be negative: in [-(2^(b-1) - 1), 2^(b-1) - 1] with b = `input_bits`, else in [0, 2^b -
        1].
    input_bits, dac_bits, signed_inputs
        As in :class:`Periphery`.
    subtraction
        ``"analog"`` or ``"digital"``.
    offset_levels
        g_min in level steps: what every cell adds to its column per unit of plane code; unitless, a multiple of
        2^-16 so that column sums stay exact.
    step
        Converter step in level steps times plane code; ``None`` for an ideal read-out without a converter.
    low, high
        Lowest and highest converter code.
    active_rows
        Word lines of a tile that are driven at a time, or ``None`` for all.
    """

    signed: bool
    input_bits: int
    dac_bits: int
    signed_inputs: Literal["two_pass", "offset"] = "two_pass"
    subtraction: Literal["analog", "digital"] = "analog"
    offset_levels: float = 0.0
    step: float | None = None
    low: int = 0
    high: int = 0
    active_rows: int | None = None

    @property
    def max_input(self) -> int:
        """Largest input code."""
        return int(2 ** (self.input_bits - 1) - 1) if self.signed else int(2**self.input_bits - 1)

    @property
    def max_plane(self) -> int:
        """Largest plane code, 2^dac_bits - 1."""
        return int(2**self.dac_bits - 1)

    @property
    def planes(self) -> int:
        """Reads per pass: the planes that one input code is cut into."""
        bits = self.input_bits - (1 if self.signed and self.signed_inputs == "two_pass" else 0)
        return max(1, math.ceil(bits / self.dac_bits))

    @property
    def passes(self) -> int:
        """How often the planes are applied: 2 for signed inputs in two passes, else 1."""
        return 2 if self.signed and self.signed_inputs == "two_pass" else 1

    def activations(self, rows: int) -> int:
        """How many reads an array of that many word lines takes for one plane."""
        return 1 if self.active_rows is None else max(1, math.ceil(rows / self.active_rows))

    @property
    def converter_bits(self) -> int | None:
        """Bits of a converter with these codes; ``None`` without a converter."""
        return None if self.step is None else math.ceil(math.log2(self.high - self.low + 1))


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

    Raises
    ------
    InputError
        If `mapping` wants more levels than `cell` holds, if a lossless converter does not fit in
        `periphery.adc_bits`, if analog subtraction is asked of an encoding without pairs, or if bit lines can be
        shorted in front of sense circuits with resistance.

    Examples
    --------
    >>> import xbarsim as xb
    >>> design = xb.Design(cell=xb.devices.Cell.load("islped2019"))
    >>> xb.Design.from_toml(design.to_toml()) == design
    True
    """

    cell: Cell
    mapping: Mapping = Mapping()  # noqa: RUF009  a frozen value
    periphery: Periphery = Periphery()
    faults: FaultModel | None = None
    wires: Wires | None = None
    line_faults: LineFaults | None = None

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
            self.readout(signed=False, rows=self.mapping.rows, calibrated_range=None)  # refuses too few bits

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

    def largest_sum(self, rows: int) -> float:
        """Largest column value that `rows` driven cells can give to the converter, in level steps times plane code."""
        maximum = float(self.mapping.max_level)
        if self.subtraction == "digital":
            maximum += self.offset_levels
        if self.periphery.active_rows is not None:
            rows = min(rows, self.periphery.active_rows)
        return float(maximum * rows * (2**self.periphery.dac_bits - 1))

    def readout(self, *, signed: bool, rows: int, calibrated_range: float | None) -> Readout:
        """Settle every choice of how one layer is read.

        Parameters
        ----------
        signed
            Whether the layer's inputs can be negative.
        rows
            Word lines driven in its fullest tile.
        calibrated_range
            Largest column value on the calibration set, in level steps times plane code; needed when
            ``periphery.adc_range`` is ``"calibrated"``.
        """
        periphery = self.periphery
        step: float | None = None
        low = high = 0
        if periphery.adc_range is not None:
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
        return Readout(
            signed=signed,
            input_bits=periphery.input_bits,
            dac_bits=periphery.dac_bits,
            signed_inputs=periphery.signed_inputs,
            subtraction=self.subtraction,
            offset_levels=self.offset_levels,
            step=step,
            low=low,
            high=high,
            active_rows=periphery.active_rows,
        )

    def replace(self, **changes: Any) -> Design:
        """A copy with some parts exchanged, validated anew."""
        return replace(self, **changes)

    def to_toml(self) -> str:
        """TOML text of the design, every number exact."""
        return tomlio.dumps(self)

    @classmethod
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

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write this design as a TOML file, whole or not at all."""
        tomlio.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Design:
        """Read a design from a TOML file; errors as :meth:`from_toml`."""
        return tomlio.load(cls, path)
