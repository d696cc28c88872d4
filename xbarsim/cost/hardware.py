"""A chip hierarchy as data: levels, components and converters, each value with its unit and source.

The words of the card are its source's own. ISAAC calls *tile* a group of IMAs with a buffer and a router;
elsewhere in this project a tile is one crossbar array. Here the published word is kept, and what a network
occupies is always called *arrays*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from xbarsim import tomlio
from xbarsim.cost.units import (
    AREA,
    ENERGY,
    FREQUENCY,
    LENGTH,
    NUMBER,
    POWER,
    THROUGHPUT,
    Dimension,
    parse_unit,
)
from xbarsim.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)

if TYPE_CHECKING:
    from xbarsim.cost.report import CostReport

__all__ = [
    "AdcTable",
    "Amount",
    "Component",
    "Hardware",
    "Level",
    "Origin",
    "Published",
    "Quantity",
    "Reference",
    "ReferenceArray",
    "Series",
    "hardware_names",
]

FOLDER = Path(__file__).parent / "cards"

Origin = Literal["measured", "fitted", "cited", "derived", "assumed"]
MOST_ADC_BITS = 32
"""More than any converter has: beyond it an extrapolated cost says nothing."""

ORIGINS = ("measured", "fitted", "cited", "derived", "assumed")

EFFICIENCY: Dimension = (("W", -1), ("op", 1), ("s", -1))
DENSITY: Dimension = (("m", -2), ("op", 1), ("s", -1))
PUBLISHED_DIMENSIONS: dict[str, Dimension] = {
    "power": POWER,
    "area": AREA,
    "peak_throughput": THROUGHPUT,
    "throughput_per_power": EFFICIENCY,
    "throughput_per_area": DENSITY,
}


def _check_text(name: str, value: object) -> None:
    check_instance(name, value, str)
    if not str(value).strip():
        raise InputError(f"{name} must be a non-empty text, got {value!r}")


def _check_dimension(name: str, unit: str, dimension: Dimension, example: str) -> None:
    if parse_unit(unit)[1] != dimension:
        raise InputError(f"{name}.unit must be a unit like {example!r}, got {unit!r}")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A number with its unit, as printed in the source.

    Attributes
    ----------
    value
        The number, >= 0, in `unit`.
    unit
        See :func:`xbarsim.cost.units.parse_unit`.
    """

    value: float
    unit: str

    def __post_init__(self) -> None:
        check_real("value", self.value, at_least=0.0)
        parse_unit(self.unit)

    @property
    def si(self) -> float:
        """The value in SI units."""
        return self.value * parse_unit(self.unit)[0]


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A number with its unit and where it comes from.

    Attributes
    ----------
    value, unit
        As in :class:`Amount`.
    origin
        ``"measured"`` or ``"fitted"`` on silicon, ``"cited"`` (the source prints it, mostly out of a model of
        its own), ``"derived"`` from what the source prints, or ``"assumed"`` by us.
    source
        Key of a :class:`Reference` of the card.
    note
        Where in the source it stands and what was done to it.
    """

    value: float
    unit: str
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_real("value", self.value, at_least=0.0)
        parse_unit(self.unit)
        check_choice("origin", self.origin, ORIGINS)
        _check_text("source", self.source)

    @property
    def si(self) -> float:
        """The value in SI units."""
        return self.value * parse_unit(self.unit)[0]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Numbers of one unit and one source; attributes as :class:`Quantity`, with `values` for `value`."""

    values: tuple[float, ...]
    unit: str
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_instance("values", self.values, tuple)
        for index, value in enumerate(self.values):
            check_real(f"values[{index}]", value, above=0.0)
        for index, (lower, upper) in enumerate(pairwise(self.values), 1):
            check_real(f"values[{index}]", upper, at_least=lower)
        parse_unit(self.unit)
        check_choice("origin", self.origin, ORIGINS)
        _check_text("source", self.source)

    @property
    def si(self) -> tuple[float, ...]:
        """The values in SI units."""
        scale = parse_unit(self.unit)[0]
        return tuple(value * scale for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A source.

    Attributes
    ----------
    key
        What the values of the card call it.
    citation
        Authors, title, venue, year.
    doi
        Digital object identifier, or ``None`` where it has none.
    note
        Which version was used and how it was read.
    """

    key: str
    citation: str
    doi: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        _check_text("key", self.key)
        _check_text("citation", self.citation)

    def __str__(self) -> str:
        text = f"[{self.key}] {self.citation}"
        if self.doi is not None:
            text += f" doi:{self.doi}"
        return f"{text} ({self.note})" if self.note else text


@dataclass(frozen=True, kw_only=True)
class Component:
    """One line of a component table.

    Attributes
    ----------
    name
        What it is.
    role
        How its cost depends on the design: ``"plain"`` not at all; ``"adc"`` through the card's ADC table;
        ``"dac"`` grows with the DAC's bits; ``"cells"``: its power may be replaced by that of the programmed
        conductances.
    per
        What there are `count` of it for: one ``"parent"`` (the level it is listed in), or, in the array level
        only, one ``"row"``, ``"column"`` or ``"cell"`` of an array. Power and area then follow the size of
        the array.
    count
        How many for each of those.
    shared_by
        How many parents share that count.
    power, area
        As printed, for `covers` of it together; ``None`` for an ADC, whose values stand in the ADC table.
    covers
        For how many of it together `power` and `area` are printed.
    origin, source, note
        As in :class:`Quantity`, for every value of the line.
    """

    name: str
    role: Literal["plain", "adc", "dac", "cells"] = "plain"
    per: Literal["parent", "row", "column", "cell"] = "parent"
    count: int = 1
    shared_by: int = 1
    power: Amount | None = None
    area: Amount | None = None
    covers: int = 1
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        check_choice("role", self.role, ("plain", "adc", "dac", "cells"))
        check_choice("per", self.per, ("parent", "row", "column", "cell"))
        for name in ("count", "shared_by", "covers"):
            check_integer(name, getattr(self, name), at_least=1)
        check_choice("origin", self.origin, ORIGINS)
        _check_text("source", self.source)
        for name, dimension, example in (("power", POWER, "mW"), ("area", AREA, "mm2")):
            amount = getattr(self, name)
            if (amount is None) != (self.role == "adc"):
                wanted = "left out of an ADC: it stands in the ADC table" if self.role == "adc" else "given"
                raise InputError(f"{self.name}: {name} must be {wanted}, got {amount!r}")
            if amount is not None:
                check_instance(name, amount, Amount)
                _check_dimension(f"{self.name}: {name}", amount.unit, dimension, example)

    @property
    def power_each(self) -> float:
        """Power of one of it, W."""
        return 0.0 if self.power is None else self.power.si / self.covers

    @property
    def area_each(self) -> float:
        """Area of one of it, m2."""
        return 0.0 if self.area is None else self.area.si / self.covers


@dataclass(frozen=True, kw_only=True)
class Level:
    """One level of the hierarchy.

    Attributes
    ----------
    name
        The source's own word.
    children
        How many of the level below it holds; ``None`` for the first level, one crossbar array.
    components
        What each of this level has besides its children.
    """

    name: str
    children: Quantity | None = None
    components: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        check_instance("components", self.components, tuple)
        names = [component.name for component in self.components]
        if len(set(names)) < len(names):
            raise InputError(f"{self.name}: component names must differ, got {', '.join(map(repr, names))}")
        if self.children is not None:
            _check_dimension(f"{self.name}: children", self.children.unit, NUMBER, "1")
            if self.children.value < 1 or not self.children.value.is_integer():
                raise InputError(f"{self.name}: children must be a whole number >= 1, got {self.children.value!r}")


@dataclass(frozen=True, kw_only=True)
class AdcTable:
    """An analog-to-digital converter at several resolutions.

    Attributes
    ----------
    bits
        The resolutions, one after the other, at least three.
    energy
        Energy per conversion at each, not falling.
    area
        Area at each, not falling.
    rate
        Conversions per second that its place asks for; it sets the time to read an array.
    nameplate_rate
        Conversions per second at which `energy` makes the published power; power is charged at this rate.

    Notes
    -----
    Outside the table: towards more bits, the two parts of a successive-approximation converter go on, one
    growing by the same amount and one (the capacitive DAC) doubling with every bit, both taken from the last
    three entries; towards fewer, the ratio of the first two entries goes on.
    """

    bits: tuple[int, ...]
    energy: Series
    area: Series
    rate: Quantity
    nameplate_rate: Quantity

    def __post_init__(self) -> None:
        check_instance("adc.bits", self.bits, tuple)
        for index, bits in enumerate(self.bits):
            check_integer(f"adc.bits[{index}]", bits, at_least=1)
        if len(self.bits) < 3 or any(upper - lower != 1 for lower, upper in pairwise(self.bits)):
            raise InputError(
                f"adc.bits must be at least three resolutions, each one bit above the last, got {self.bits!r}"
            )
        for name, series in (("energy", self.energy), ("area", self.area)):
            if len(series.values) != len(self.bits):
                raise InputError(
                    f"adc.{name}.values must be as many as adc.bits ({len(self.bits)}), got {len(series.values)}"
                )
        _check_dimension("adc.energy", self.energy.unit, ENERGY, "pJ")
        _check_dimension("adc.area", self.area.unit, AREA, "um2")
        for name, rate in (("rate", self.rate), ("nameplate_rate", self.nameplate_rate)):
            _check_dimension(f"adc.{name}", rate.unit, FREQUENCY, "GS/s")
            check_real(f"adc.{name}", rate.value, above=0.0)

    def _at(self, bits: int, values: tuple[float, ...]) -> float:
        bits = check_integer("adc_bits", bits, at_least=1, at_most=MOST_ADC_BITS)
        first, last = self.bits[0], self.bits[-1]
        if bits < first:
            return float(values[0] * (values[0] / values[1]) ** (first - bits))
        if bits <= last:
            return values[bits - first]
        step = values[-1] - values[-2]
        doubling = max(step - (values[-2] - values[-3]), 0.0)  # what the last step grew by
        beyond = bits - last
        # steps: step + 2 d, step + 2 d + 4 d, ... = step + (2**(k+1) - 2) d
        return values[-1] + beyond * (step - 2 * doubling) + (2.0 ** (beyond + 2) - 4.0) * doubling

    def energy_per_conversion(self, bits: int) -> float:
        """Energy per conversion at a resolution of `bits`, J."""
        return self._at(bits, self.energy.si)

    def power(self, bits: int) -> float:
        """Power of one converter at a resolution of `bits`, converting all the time, W."""
        return self.energy_per_conversion(bits) * self.nameplate_rate.si

    def area_each(self, bits: int) -> float:
        """Area of one converter at a resolution of `bits`, m2."""
        return self._at(bits, self.area.si)


@dataclass(frozen=True, kw_only=True)
class ReferenceArray:
    """The array and the use of it that the published totals are about.

    Attributes
    ----------
    rows, columns
        Cells of the array.
    adc_bits, dac_bits
        Resolution of its converters.
    reads_per_vector
        Reads of the array for one input vector.
    macs_per_array
        Multiply-accumulates of one array for one input vector.
    origin, source, note
        As in :class:`Quantity`.
    """

    rows: int
    columns: int
    adc_bits: int
    dac_bits: int
    reads_per_vector: int
    macs_per_array: int
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        for name in ("rows", "columns", "adc_bits", "dac_bits", "reads_per_vector", "macs_per_array"):
            check_integer(f"array.{name}", getattr(self, name), at_least=1)
        check_choice("origin", self.origin, ORIGINS)
        _check_text("source", self.source)


@dataclass(frozen=True, kw_only=True)
class Published:
    """A total that the source prints, to compare ours with.

    Attributes
    ----------
    name
        What it is the total of.
    level, units
        It holds for `units` full ones of this level, with all levels up to it counted.
    quantity
        ``"power"``, ``"area"``, ``"peak_throughput"``, ``"throughput_per_power"`` or
        ``"throughput_per_area"``.
    value
        As printed.
    place
        The value of its last printed digit, in the same unit: it is known to half of that.
    """

    name: str
    level: str
    units: int = 1
    quantity: Literal["power", "area", "peak_throughput", "throughput_per_power", "throughput_per_area"]
    value: Quantity
    place: float

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        check_integer("units", self.units, at_least=1)
        check_choice("quantity", self.quantity, PUBLISHED_DIMENSIONS)
        check_real("place", self.place, above=0.0)
        dimension = PUBLISHED_DIMENSIONS[self.quantity]
        if parse_unit(self.value.unit)[1] != dimension:
            raise InputError(f"{self.name}: value.unit must be a unit of {self.quantity}, got {self.value.unit!r}")
        check_real(f"{self.name}: value", self.value.value, above=0.0)


@dataclass(frozen=True, kw_only=True)
class Hardware:
    """A chip hierarchy with the cost of its components.

    Attributes
    ----------
    name
        The card's name.
    description
        One line.
    technology_node, clock
        Of the published design; nothing is scaled by them yet.
    read_time
        Published time to read one array; ours is :meth:`time_per_read`.
    array
        The array that the published totals are about.
    levels
        From one crossbar array up to the chip.
    counted_to
        The highest level that :func:`xbarsim.cost.estimate` counts unless told otherwise.
    adc
        Converter table.
    dac_growth
        Factor on a DAC's power and area for each bit after the first.
    published
        Totals that the source prints.
    references
        Sources of all values.

    Notes
    -----
    ISAAC's *tile* is a group of IMAs; the rest of this project calls a crossbar array a tile. See the module.
    """

    name: str
    description: str
    technology_node: Quantity
    clock: Quantity
    read_time: Quantity
    counted_to: str
    array: ReferenceArray
    adc: AdcTable
    dac_growth: Quantity
    levels: tuple[Level, ...]
    published: tuple[Published, ...] = ()
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        _check_text("name", self.name)
        for name, dimension, example in (
            ("technology_node", LENGTH, "nm"),
            ("clock", FREQUENCY, "GHz"),
            ("read_time", (("s", 1),), "ns"),
            ("dac_growth", NUMBER, "1"),
        ):
            quantity = getattr(self, name)
            check_instance(name, quantity, Quantity)
            _check_dimension(name, quantity.unit, dimension, example)
            check_real(name, quantity.value, above=0.0)
        check_real("dac_growth", self.dac_growth.value, at_least=1.0)
        self._check_levels()
        self._check_sources()

    def _check_levels(self) -> None:
        check_instance("levels", self.levels, tuple)
        names = [level.name for level in self.levels]
        if not names or len(set(names)) < len(names):
            raise InputError(f"levels must be one or more with different names, got {names!r}")
        check_choice("counted_to", self.counted_to, names)
        for total in self.published:
            check_choice(f"{total.name}: level", total.level, names)
        for index, level in enumerate(self.levels):
            if (level.children is None) != (index == 0):
                wanted = "left out of the first level" if index == 0 else "given"
                raise InputError(f"{level.name}: children must be {wanted}, got {level.children!r}")
            for component in level.components:
                if index > 0 and (component.per != "parent" or component.role != "plain"):
                    raise InputError(
                        f"{level.name}: {component.name}: per and role must be 'parent' and 'plain' above "
                        f"the first level, got {component.per!r} and {component.role!r}"
                    )
        first = self.levels[0].components
        converters = [component for component in first if component.role == "adc"]
        if len(converters) != 1 or converters[0].per != "parent":
            raise InputError(
                f"{names[0]}: must have one component of role 'adc' with per 'parent', "
                f"got {[(component.name, component.per) for component in converters]!r}"
            )
        if sum(component.role == "cells" for component in first) != 1:
            raise InputError(
                f"{names[0]}: must have one component of role 'cells', "
                f"got {[component.name for component in first if component.role == 'cells']!r}"
            )

    def _check_sources(self) -> None:
        keys = [reference.key for reference in self.references]
        if len(set(keys)) < len(keys):
            raise InputError(f"references must have different keys, got {', '.join(map(repr, keys))}")
        for row in self.values():
            check_choice(f"{row['name']}: source", row["source"], keys)

    @classmethod
    def load(cls, name_or_path: str | os.PathLike[str]) -> Hardware:
        """Read a card.

        Parameters
        ----------
        name_or_path
            A name from :func:`hardware_names`, or the path of a card, ending in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        check_instance("hardware", name_or_path, (str, os.PathLike))
        name = os.fspath(name_or_path)
        if name.endswith(".toml"):
            return tomlio.load(cls, name)
        if name not in hardware_names():
            raise InputError(
                f"hardware must be one of {', '.join(map(repr, hardware_names()))}, "
                f"or a path ending in '.toml', got {name!r}"
            )
        found = tomlio.load(cls, FOLDER / f"{name}.toml")
        if found.name != name:
            raise FileFormatError(f"name must be {name!r}, as the file is called, got {found.name!r}")
        return found

    def level_index(self, level: str) -> int:
        """Place of a level, 0 for the array; `InputError` if there is none of that name."""
        names = [each.name for each in self.levels]
        return names.index(check_choice("level", level, names))

    def arrays_per(self, level: str) -> int:
        """Crossbar arrays in one full unit of `level`."""
        arrays = 1
        for each in self.levels[1 : self.level_index(level) + 1]:
            assert each.children is not None
            arrays *= int(each.children.value)
        return arrays

    def time_per_read(self, columns: int) -> float:
        """Time to read one array, s: its columns pass through its ADC one after the other."""
        columns = check_integer("columns", columns, at_least=1)
        converter = next(c for c in self.levels[0].components if c.role == "adc")
        return columns * converter.shared_by / (converter.count * self.adc.rate.si)

    def totals(self, level: str, units: int = 1) -> CostReport:
        """Cost of `units` full ones of `level`, used as published.

        The same code as for a network: :func:`xbarsim.cost.estimate` with every array of them occupied, and
        with the share of what several parents share, as component tables print it.
        """
        from xbarsim.cost.estimate import LayerUse, estimate

        units = check_integer("units", units, at_least=0)
        arrays = units * self.arrays_per(level)
        use = LayerUse(
            name=f"{units} x {level}",
            arrays=arrays,
            rows=self.array.rows,
            columns=self.array.columns,
            adc_bits=self.array.adc_bits,
            dac_bits=self.array.dac_bits,
            reads_per_vector=self.array.reads_per_vector,
            macs_per_vector=arrays * self.array.macs_per_array,
            vectors_per_image=1,
        )
        return estimate([use], self, level=level, sharing="amortised")

    def values(self) -> list[dict[str, Any]]:
        """Every value of the card: rows with name, value, unit, origin, source and note."""
        rows: list[dict[str, Any]] = []

        def add(name: str, value: Any, unit: str, sourced: Any) -> None:
            rows.append(
                {
                    "name": name,
                    "value": value,
                    "unit": unit,
                    "origin": sourced.origin,
                    "source": sourced.source,
                    "note": sourced.note,
                }
            )

        for name in ("technology_node", "clock", "read_time", "dac_growth"):
            quantity = getattr(self, name)
            add(name, quantity.value, quantity.unit, quantity)
        for name in ("rows", "columns", "adc_bits", "dac_bits", "reads_per_vector", "macs_per_array"):
            add(f"array.{name}", getattr(self.array, name), "1", self.array)
        for name in ("rate", "nameplate_rate"):
            quantity = getattr(self.adc, name)
            add(f"adc.{name}", quantity.value, quantity.unit, quantity)
        for name, series in (("energy", self.adc.energy), ("area", self.adc.area)):
            for bits, value in zip(self.adc.bits, series.values, strict=True):
                add(f"adc.{name} at {bits} bits", value, series.unit, series)
        for level in self.levels:
            if level.children is not None:
                add(f"{level.name}.children", level.children.value, level.children.unit, level.children)
            for component in level.components:
                where = f"{level.name}.{component.name}"
                add(f"{where} count per {component.per}", component.count, "1", component)
                if component.shared_by > 1:
                    add(f"{where} shared by", component.shared_by, "1", component)
                for name in ("power", "area"):
                    amount = getattr(component, name)
                    if amount is not None:
                        add(f"{where} {name} of {component.covers}", amount.value, amount.unit, component)
        for total in self.published:
            add(f"published {total.name} {total.quantity}", total.value.value, total.value.unit, total.value)
        return rows


def hardware_names() -> list[str]:
    """The names of the hardware cards that come with the project, sorted."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))
