"""A chip hierarchy as data: levels, components and converters, each value with its unit and source.

The words of the card are its source's own. ISAAC calls *tile* a group of IMAs with a buffer and a router;
elsewhere in this project a tile is one crossbar array. Here the published word is kept, and what a network
occupies is always called *arrays*.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from xbarsim.cost.adc import Adc, AdcCard
from xbarsim.cost.digital import DigitalCard, DigitalPrices
from xbarsim.cost.scaling import NODES, area_factor, energy_factor
from xbarsim.cost.units import (
    AREA,
    BIT_RATE,
    FREQUENCY,
    LENGTH,
    NUMBER,
    POWER,
    THROUGHPUT,
    TIME,
    Dimension,
    parse_unit,
)
from xbarsim.cost.use import LayerUse
from xbarsim.cost.values import (
    Amount,
    Reference,
    SourcedValue,
    check_dimension,
    check_sources,
    check_text,
)
from xbarsim.foundation.cards import ORIGINS, CardFolder, Origin
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import (
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)

__all__ = [
    "ACTIVITIES",
    "Component",
    "Hardware",
    "Level",
    "Published",
    "ReferenceArray",
    "hardware_names",
]

EFFICIENCY: Dimension = (("W", -1), ("op", 1), ("s", -1))
DENSITY: Dimension = (("m", -2), ("op", 1), ("s", -1))
PUBLISHED_DIMENSIONS: dict[str, Dimension] = {
    "power": POWER,
    "area": AREA,
    "peak_throughput": THROUGHPUT,
    "throughput_per_power": EFFICIENCY,
    "throughput_per_area": DENSITY,
}

Activity = Literal["always", "read", "conversion", "output", "input_bit", "buffer_bit", "network_bit"]
ACTIVITIES: dict[str, Dimension | None] = {
    "always": None,
    "read": None,
    "conversion": FREQUENCY,
    "output": FREQUENCY,
    "input_bit": BIT_RATE,
    "buffer_bit": BIT_RATE,
    "network_bit": BIT_RATE,
}
"""What keeps a component busy, and the dimension of the rate at which its printed power holds."""


@dataclass(frozen=True, kw_only=True)
class Component:
    """One line of a component table.

    Attributes
    ----------
    name
        What it is.
    role
        How its cost depends on the design: ``"plain"`` not at all; ``"adc"`` through the card's converter;
        ``"dac"`` grows with the DAC's bits; ``"cells"``: its power may be replaced by that of the programmed
        conductances; ``"idle_detector"``: what finds the reads that drive no word line, counted in the array level only
        for layers that skip them, and above it, where it is part of the hardware, always.
    per
        What has `count` of it: one ``"parent"`` (the level it is listed in), or, in the array level
        only, one ``"row"``, ``"column"`` or ``"cell"`` of an array, or one ``"index_bit"`` that packing has to
        store. Power and area then follow the size of the array, or what is stored.
    activity
        What an inference makes it do, see :mod:`xbarsim.cost.workload`. ``"always"``: its power is drawn all the
        time; ``"read"``: while its array is read; ``"conversion"``, ``"output"`` (an element of an output),
        ``"input_bit"`` (a bit at a driven word line), ``"buffer_bit"`` and ``"network_bit"`` (a bit moved): its
        energy is that number times power over `rate`. The default is ``"conversion"`` for an ADC, ``"read"`` for
        what there is for rows, columns and cells, and else ``"always"``.
    rate
        How many of these one of it does in a second when it draws the printed power.
    node
        Technology node of the printed values, where it is another than the card's: they are scaled, see
        :mod:`xbarsim.cost.scaling`.
    count
        How many each of those has.
    shared_by
        How many parents share that count.
    power, area
        As printed, for `covers` of it together; ``None`` for an ADC, whose values stand in ``Hardware.adc``.
    covers
        For how many of it together `power` and `area` are printed.
    origin, source, note
        As in :class:`SourcedValue`, for every value of the line.
    """

    name: str
    role: Literal["plain", "adc", "dac", "cells", "idle_detector"] = "plain"
    per: Literal["parent", "row", "column", "cell", "index_bit"] = "parent"
    count: int = 1
    shared_by: int = 1
    power: Amount | None = None
    area: Amount | None = None
    covers: int = 1
    activity: Activity | None = None
    rate: SourcedValue | None = None
    node: SourcedValue | None = None
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
        for name in ("count", "shared_by", "covers"):
            check_integer(name, getattr(self, name), at_least=1)
        check_choice("origin", self.origin, ORIGINS)
        check_text("source", self.source)
        for name, dimension, example in (("power", POWER, "mW"), ("area", AREA, "mm2")):
            amount = getattr(self, name)
            if (amount is None) != (self.role == "adc"):
                wanted = "left out of an ADC: it stands in Hardware.adc" if self.role == "adc" else "given"
                raise InputError(f"{self.name}: {name} must be {wanted}, got {amount!r}")
            if amount is not None:
                check_dimension(f"{self.name}: {name}", amount.unit, dimension, example)

        self._check_activity()
        if self.node is not None:
            check_dimension(f"{self.name}: node", self.node.unit, LENGTH, "nm")
            check_real(f"{self.name}: node", self.node.si, at_least=NODES[-1], at_most=NODES[0])
            if self.role == "adc":
                raise InputError(f"{self.name}: node must be left out of an ADC, got {self.node.value!r}")

    def _check_activity(self) -> None:
        if self.activity is not None:
            check_choice(f"{self.name}: activity", self.activity, ACTIVITIES)
        fixed = {"adc": "conversion", "dac": "read", "cells": "read"}.get(self.role)
        if fixed is not None and self.busy != fixed:
            raise InputError(
                f"{self.name}: activity must be {fixed!r} or left out for role {self.role!r}, got {self.busy!r}"
            )
        dimension = ACTIVITIES[self.busy]
        wanted = dimension is not None and self.role != "adc"
        if (self.rate is not None) != wanted:
            raise InputError(
                f"{self.name}: rate must be {'given' if wanted else 'left out'} with activity {self.busy!r}, "
                f"got {self.rate!r}"
            )
        if self.rate is not None and dimension is not None:
            check_dimension(f"{self.name}: rate", self.rate.unit, dimension, "Gbit/s" if "bit" in self.busy else "GS/s")
            check_real(f"{self.name}: rate", self.rate.value, above=0.0)

    @property
    def busy(self) -> Activity:
        """Its activity, with the default filled in."""
        if self.activity is not None:
            return self.activity
        if self.role == "adc":
            return "conversion"
        if self.role in ("dac", "cells") or self.per in ("row", "column", "cell"):
            return "read"
        return "always"


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
    children: SourcedValue | None = None
    components: tuple[Component, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
        check_instance("components", self.components, tuple)
        names = [component.name for component in self.components]
        if len(set(names)) < len(names):
            raise InputError(f"{self.name}: component names must differ, got {', '.join(map(repr, names))}")
        if self.children is not None:
            check_dimension(f"{self.name}: children", self.children.unit, NUMBER, "1")
            if self.children.value < 1 or not self.children.value.is_integer():
                raise InputError(f"{self.name}: children must be a whole number >= 1, got {self.children.value!r}")


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
        Reads of the array for one input vector, if all its rows are read together.
    macs_per_array
        Multiply-accumulates of one array for one input vector.
    rows_at_once
        Rows that can be read together; more take one read after the other. ``None`` for all.
    origin, source, note
        As in :class:`SourcedValue`.
    """

    rows: int
    columns: int
    adc_bits: int
    dac_bits: int
    reads_per_vector: int
    macs_per_array: int
    rows_at_once: int | None = None
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        for name in ("rows", "columns", "adc_bits", "dac_bits", "reads_per_vector", "macs_per_array"):
            check_integer(f"array.{name}", getattr(self, name), at_least=1)
        if self.rows_at_once is not None:
            check_integer("array.rows_at_once", self.rows_at_once, at_least=1)
        check_choice("origin", self.origin, ORIGINS)
        check_text("source", self.source)


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
    value: SourcedValue
    place: float

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
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
        Of the published design. Only components with a node of their own are scaled to it.
    read_time
        Published time to read one array; ours is :meth:`time_per_read`, and this one where there is no `adc`.
    array
        The array that the published totals are about.
    levels
        From one crossbar array up to the chip.
    counted_to
        The highest level that :func:`xbarsim.cost.estimate` counts unless told otherwise.
    adc
        The converter; ``None`` where the source does not give its cost separately.
    digital
        Energy of digital operations; ``None`` where the source has none. They are then counted and not priced.
    dac_growth
        Factor on a DAC's power and area for each bit after the first.
    stages_after_read
        Pipeline stages between the last read of a vector and its result in the next buffer, each as long as a read.
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
    technology_node: SourcedValue
    clock: SourcedValue
    read_time: SourcedValue
    counted_to: str
    array: ReferenceArray
    adc: Adc | None = None
    digital: DigitalPrices | None = None
    dac_growth: SourcedValue
    stages_after_read: SourcedValue
    levels: tuple[Level, ...]
    published: tuple[Published, ...] = ()
    references: tuple[Reference, ...]

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("name", self.name)
        for name, dimension, example in (
            ("technology_node", LENGTH, "nm"),
            ("clock", FREQUENCY, "GHz"),
            ("read_time", TIME, "ns"),
            ("dac_growth", NUMBER, "1"),
            ("stages_after_read", NUMBER, "1"),
        ):
            sourced = getattr(self, name)
            check_dimension(name, sourced.unit, dimension, example)
            if name != "stages_after_read":
                check_real(name, sourced.value, above=0.0)
        check_real("dac_growth", self.dac_growth.value, at_least=1.0)
        self._check_levels()
        check_sources([(row["name"], row["source"]) for row in self.values()], self.references)

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
                plain = component.role in ("plain", "idle_detector")
                if index > 0 and (component.per != "parent" or not plain):
                    raise InputError(
                        f"{level.name}: {component.name}: per must be 'parent', and role 'plain' or 'idle_detector' "
                        f"above the first level, got {component.per!r} and {component.role!r}"
                    )
                if index > 0 and component.busy == "read":
                    raise InputError(
                        f"{level.name}: {component.name}: activity must be another than 'read' above the first level, "
                        f"got 'read'"
                    )
        first = self.levels[0].components
        converters = [component for component in first if component.role == "adc"]
        expected = 0 if self.adc is None else 1
        if len(converters) != expected or any(component.per != "parent" for component in converters):
            raise InputError(
                f"{names[0]}: must have {('no', 'one')[expected]} component of role 'adc' with per 'parent' "
                f"{'with' if expected else 'without'} adc, "
                f"got {[(component.name, component.per) for component in converters]!r}"
            )
        cells = [component.name for component in first if component.role == "cells"]
        if len(cells) > 1:
            raise InputError(f"{names[0]}: must have at most one component of role 'cells', got {cells!r}")
        for level in self.levels:
            for component in level.components:
                if component.node is not None and not NODES[-1] <= self.technology_node.si <= NODES[0]:
                    raise InputError(
                        f"technology_node must be 7 to 130 nm to scale {component.name}, "
                        f"got {self.technology_node.value!r} {self.technology_node.unit}"
                    )

        if self.digital is not None and not NODES[-1] <= self.technology_node.si <= NODES[0]:
            raise InputError(
                f"technology_node must be 7 to 130 nm to scale digital operations, got {self.technology_node.value!r} "
                f"{self.technology_node.unit}"
            )

    @classmethod
    @entrance
    def load(cls, name_or_path: str | os.PathLike[str]) -> Hardware:
        """Read a card.

        Parameters
        ----------
        name_or_path
            A name from :func:`hardware_names`, which may be given without its year (``"isaac"``), or the path of a
            card, ending in ``.toml``.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, or has unknown keys or wrong types.
        """
        return CARDS.load(name_or_path)

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

    def cost_each(self, component: Component) -> tuple[float, float]:
        """Power (W) and area (m2) of one of a component, scaled from its own node if it names one; 0 for an ADC."""
        if component.power is None or component.area is None:
            return 0.0, 0.0
        power, area = component.power.si / component.covers, component.area.si / component.covers
        if component.node is not None:
            node, to = component.node.si, self.technology_node.si
            power, area = power * energy_factor(node, to), area * area_factor(node, to)
        return power, area

    @entrance
    def with_adc(self, adc: AdcCard | str) -> Hardware:
        """The same hardware with another converter at the same rate.

        Parameters
        ----------
        adc
            A card, or its name from :func:`xbarsim.cost.adc_names`, or a path ending in ``.toml``.

        Raises
        ------
        InputError
            If this card does not give the cost of its converter separately, or there is no such card.
        """
        if self.adc is None:
            raise InputError(f"adc must be a converter of the hardware to be replaced, got none in {self.name!r}")
        card = AdcCard.load(adc) if isinstance(adc, str) else adc
        check_instance("adc", card, AdcCard)
        return replace(
            self,
            name=f"{self.name} with {card.name}",
            adc=card.at(rate=self.adc.rate, nameplate_rate=self.adc.rate),
            references=self._references_with(card.references),
        )

    @entrance
    def with_digital(self, digital: DigitalCard | str) -> Hardware:
        """The same hardware with prices of digital operations, in the place of its own where it has some.

        Parameters
        ----------
        digital
            A card, or its name from :func:`xbarsim.cost.digital_names`, or a path ending in ``.toml``.

        Raises
        ------
        InputError
            If there is no such card, or the hardware's technology node is outside 7 to 130 nm.
        """
        card = DigitalCard.load(digital) if isinstance(digital, str) else digital
        check_instance("digital", card, DigitalCard)
        return replace(
            self,
            name=f"{self.name} with {card.name}",
            digital=card.digital,
            references=self._references_with(card.references),
        )

    def _references_with(self, others: tuple[Reference, ...]) -> tuple[Reference, ...]:
        known = {reference.key for reference in self.references}
        return self.references + tuple(each for each in others if each.key not in known)

    @property
    def detects_idle(self) -> bool:
        """Whether the card gives the cost of finding reads that drive no word line."""
        return any(component.role == "idle_detector" for level in self.levels for component in level.components)

    def reads_of_vector(self, use: LayerUse) -> int:
        """Reads of an array for one input vector of a layer: more than the layer's own if few rows are read at once."""
        rows, at_once = -(-use.rows // use.row_groups), self.array.rows_at_once
        return use.reads_per_vector * (1 if at_once is None else -(-rows // at_once))

    def time_per_read(self, columns: int) -> float:
        """Time to read one array, s: its columns pass through its ADCs one after the other.

        ``columns shared_by / (count rate)``, or the card's `read_time` where there is no `adc`.
        """
        columns = check_integer("columns", columns, at_least=1, at_most=2**53)
        if self.adc is None:
            return self.read_time.si
        converter = next(c for c in self.levels[0].components if c.role == "adc")
        return columns * converter.shared_by / (converter.count * self.adc.rate.si)

    def time_of_read(self, use: LayerUse) -> float:
        """Time to read one array of a layer, s: :meth:`time_per_read`, unless the design says what shares a converter.

        Then ``columns_per_adc / rate``: the converters work side by side, each takes its inputs one after the other.
        """
        if self.adc is None or use.in_turn is None:
            return self.time_per_read(use.columns)
        return use.in_turn / self.adc.rate.si

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

        for name in ("technology_node", "clock", "read_time", "dac_growth", "stages_after_read"):
            sourced = getattr(self, name)
            add(name, sourced.value, sourced.unit, sourced)
        for name in ("rows", "columns", "adc_bits", "dac_bits", "reads_per_vector", "macs_per_array"):
            add(f"array.{name}", getattr(self.array, name), "1", self.array)
        if self.array.rows_at_once is not None:
            add("array.rows_at_once", self.array.rows_at_once, "1", self.array)
        for part in (self.adc, self.digital):
            for name, value, sourced in () if part is None else part.sourced_values():
                add(name, value, sourced.unit, sourced)
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
                for name in ("rate", "node"):
                    sourced = getattr(component, name)
                    if sourced is not None:
                        add(f"{where} {name}", sourced.value, sourced.unit, sourced)
        for total in self.published:
            add(f"published {total.name} {total.quantity}", total.value.value, total.value.unit, total.value)
        return rows


#: The hardware cards that come with the project.
CARDS = CardFolder("hardware", Hardware, Path(__file__).parent / "cards", undated=True)


def hardware_names() -> list[str]:
    """The names of the hardware cards that come with the project, sorted."""
    return CARDS.names()
