"""Peak power, area and throughput of the hardware that a network occupies.

The model
---------
Arrays fill the units of the next level one after the other over the whole network, layers sharing units; a unit that
holds one array has all its shared components, and places without an array cost nothing.

An array has the card's DACs for each row, sample and hold for each column, and ADCs shared by its columns, so it is
read in columns / ADC rate (ISAAC: 128 / 1.28 GS/s = 100 ns) whatever the ADC's resolution. Where a design says how many
columns (pairs, where these are subtracted before the converter) share a converter, an array has ``ceil(inputs /
columns_per_adc)`` of them instead, and is read in columns_per_adc / ADC rate. The power of an ADC is its energy per
conversion times its nameplate rate. That an array's power and area are proportional to its cells is assumed. Arrays of
all sizes take one place in the level above. What stays digital has neither area nor peak power here: it is counted.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Self

from xbarsim.cost.digital import DigitalUse, added, operations_of
from xbarsim.cost.hardware import Component, Hardware
from xbarsim.cost.use import LayerUse
from xbarsim.cost.views import count, frame
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError, check_choice, check_instance

__all__ = ["ComponentCost", "LayerCost", "Peak"]


@dataclass(frozen=True, kw_only=True)
class ComponentCost:
    """What all of one component cost.

    Attributes
    ----------
    level
        The level of the hierarchy that it is listed in.
    name
        The component's name in the card.
    count
        How many; a fraction where a shared one is charged by its share.
    power
        W.
    area
        m2.
    """

    level: str
    name: str
    count: float
    power: float
    area: float


def _summed(costs: Iterable[ComponentCost]) -> tuple[ComponentCost, ...]:
    """One cost a component, in order of first appearance; sums are exact, so no order changes them."""
    by_name: dict[tuple[str, str], list[ComponentCost]] = {}
    for cost in costs:
        by_name.setdefault((cost.level, cost.name), []).append(cost)
    return tuple(
        ComponentCost(
            level=level,
            name=name,
            count=math.fsum(cost.count for cost in same),
            power=math.fsum(cost.power for cost in same),
            area=math.fsum(cost.area for cost in same),
        )
        for (level, name), same in by_name.items()
    )


@dataclass(frozen=True, kw_only=True)
class LayerCost:
    """What one layer's arrays cost, without what is shared above them.

    Attributes
    ----------
    use
        What the layer uses.
    read_time
        Time of one array read, s.
    peak_throughput
        Operations per second, two a multiply-accumulate, with all its arrays read back to back.
    components
        The array level's components.
    """

    use: LayerUse
    read_time: float
    peak_throughput: float
    components: tuple[ComponentCost, ...]

    @property
    def power(self) -> float:
        """Power of the layer's arrays and their converters, W."""
        return math.fsum(cost.power for cost in self.components)

    @property
    def area(self) -> float:
        """Area of the layer's arrays and their converters, m2."""
        return math.fsum(cost.area for cost in self.components)


def _array_cost(component: Component, use: LayerUse, hardware: Hardware) -> ComponentCost:
    """Cost of one component of the array level over all arrays of a layer."""
    columns = use.columns + use.spare_columns
    each = {"parent": 1, "row": use.rows, "column": columns, "cell": use.rows * columns}
    active = {"parent": 1, "row": use.rows, "column": use.columns, "cell": use.rows * use.columns}
    number = component.count / component.shared_by
    if component.per == "index_bit":
        count = busy = number * use.index_bits * use.copies * use.redundancy
    else:
        count = number * use.occupied * each[component.per]
        busy = number * use.occupied * active[component.per]
    if component.role == "adc":
        assert hardware.adc is not None
        power_each, area_each = hardware.adc.power(use.adc_bits), hardware.adc.area_each(use.adc_bits)
        if use.converters is not None:  # the design's own number in the place of the card's
            count = busy = float(use.occupied * use.converters)
    else:
        power_each, area_each = hardware.cost_each(component)
    power, area = busy * power_each, count * area_each
    if component.role == "dac":
        growth = hardware.dac_growth.value ** (use.dac_bits - 1)
        power, area = power * growth, area * growth
    if component.role == "cells" and use.cells_power is not None:
        power = use.cells_power * use.copies * use.redundancy
    return ComponentCost(level=hardware.levels[0].name, name=component.name, count=count, power=power, area=area)


def _shared_cost(level: str, component: Component, units: int, sharing: str, hardware: Hardware) -> ComponentCost:
    """Cost of one component of a level above the arrays."""
    if sharing == "whole":
        count = float(component.count * -(-units // component.shared_by))
    else:
        count = component.count * units / component.shared_by
    power, area = hardware.cost_each(component)
    return ComponentCost(level=level, name=component.name, count=count, power=count * power, area=count * area)


def _converter_notes(occupied: Sequence[LayerUse], hardware: Hardware) -> list[str]:
    """What is to be known of converters: their resolution, and how many columns share one."""
    if not occupied:
        return []
    if hardware.adc is None:
        return [
            "this card does not give the cost of converters separately: ADC bits and columns_per_adc change nothing"
        ]
    remarks = [hardware.adc.note(bits) for bits in sorted({use.adc_bits for use in occupied})]
    notes = [note for note in dict.fromkeys(remarks) if note is not None]
    own = next(component for component in hardware.levels[0].components if component.role == "adc")
    card = f"{own.count} for {'an array' if own.shared_by == 1 else f'{own.shared_by} arrays'}"
    if any(use.columns_per_adc is None for use in occupied):
        notes.append(
            f"converters are shared as on the card, {card}, where columns_per_adc is None; if a design gives them "
            "errors, each column is then simulated with errors of its own"
        )
    for use in {(use.columns_per_adc, use.counted("converter_inputs")): use for use in occupied}.values():
        if use.converters is not None:
            notes.append(
                f"columns_per_adc is {use.columns_per_adc}: {use.converters:,} converters for the "
                f"{use.counted('converter_inputs')} converter inputs of an array, and not the card's {card}"
            )
    return notes


def _digital_notes(digital: Sequence[DigitalUse], hardware: Hardware) -> list[str]:
    """What of the digital operations is in which number."""
    notes = []
    counts = {name: each for name, each in operations_of(digital).items() if each}
    prices = hardware.digital
    without = [name for name in counts if prices is None or prices.energy(name, hardware.technology_node.si) is None]
    if without:
        notes.append(
            "not in any energy here, for this card has no price for them: digital "
            + ", ".join(f"{name.replace('_', '-')} ({count(counts[name])})" for name in without)
            + f"; Hardware.with_digital gives them one{see('cost')}"
        )
    if counts:
        notes.append("digital operations have no part in peak power, area and time")
    held = sum(use.parameters for use in digital)
    if held:
        notes.append(f"{held:,} parameters are held digitally: no card charges their memory")
    return notes


def _activity_notes(occupied: Sequence[LayerUse], hardware: Hardware) -> list[str]:
    """What is to be known of reads that are skipped."""
    skipping = [use for use in occupied if use.skip_idle]
    notes = []
    if skipping and not hardware.detects_idle:
        notes.append("this card does not give the cost of finding idle reads: skipping them costs nothing here")
    blind = [use.name for use in skipping if use.activity is None]
    if blind:
        notes.append(f"no inputs were looked at: no read of {', '.join(blind)} is known to be idle, none is skipped")
    if any(hardware.reads_of_vector(use) > use.reads_per_vector for use in skipping):
        notes.append(
            "the card reads fewer rows at once than the design: all reads of a group with a driven row are counted, "
            "which is an upper bound"
        )
    return notes


def _notes(
    uses: Sequence[LayerUse], digital: Sequence[DigitalUse], hardware: Hardware, units: dict[str, int], sharing: str
) -> tuple[str, ...]:
    array = hardware.array
    occupied = [use for use in uses if use.arrays]
    notes = [*_converter_notes(occupied, hardware), *_digital_notes(digital, hardware)]
    for use in occupied:
        if not isinstance(use.vectors_per_image, int):
            notes.append(
                f"{use.name} takes {count(use.vectors_per_image)} vectors an image in the mean: energies are means, "
                f"times are those of {use.whole_vectors:,}"
            )
    notes += _activity_notes(occupied, hardware)
    roles = {component.role for component in hardware.levels[0].components}
    if "cells" not in roles and any(use.cells_power is not None for use in occupied):
        notes.append("this card does not give the cost of cells separately: programmed conductances change nothing")
    for bits in sorted({use.dac_bits for use in occupied} - {1}) if "dac" in roles else ():
        factor = hardware.dac_growth.value ** (bits - 1)
        notes.append(
            f"DAC of {bits} bits: {factor:g} times the power and area of one bit ({hardware.dac_growth.source})"
        )
    if any(use.index_bits for use in occupied) and all(
        component.per != "index_bit" for component in hardware.levels[0].components
    ):
        notes.append("this card has no memory for the indices of packing: they are not counted")
    subtractions, sums = (sum(getattr(use, name) for use in occupied) for name in ("subtractions", "input_sums"))
    if subtractions or sums:
        notes.append(
            f"no card charges what is taken off outputs digitally: {subtractions:,} subtractions and {sums:,} sums of "
            "inputs at each read"
        )
    for rows, columns in sorted({(use.rows, use.columns) for use in occupied}):
        if (rows, columns) != (array.rows, array.columns):
            notes.append(
                f"arrays of {rows} x {columns} are not the card's {array.rows} x {array.columns}: drivers "
                "follow the rows, sample and hold and read time the columns, the cells' power and area their "
                "number (assumed); levels above hold as many arrays as before and do not change (assumed)"
            )
    names = list(units)
    if occupied and sharing == "whole":
        for level in hardware.levels[1 : len(units)]:
            for component in level.components:
                spare = -units[level.name] % component.shared_by
                if spare:
                    notes.append(
                        f"one {component.name} serves {component.shared_by} {level.name}s and is counted "
                        f"whole: room for {spare} more"
                    )
    for below, level in zip(hardware.levels[len(units) - 1 :], hardware.levels[len(units) :], strict=False):
        if occupied and below.name in names and level.children is not None:
            needed = -(-units[below.name] // int(level.children.value))
            what = ", ".join(component.name for component in level.components) or "nothing more"
            notes.append(f"the {level.name} level is not counted: {needed} {level.name}(s), with {what}")
    return tuple(notes)


@dataclass(frozen=True, kw_only=True)
class Peak:
    """Power, area and peak throughput of the occupied hardware, and what they are made of.

    Power is the peak: every occupied array read back to back and everything above it on, as component tables
    print it.

    Attributes
    ----------
    hardware
        The card all numbers come from.
    level
        The highest level that is counted.
    sharing
        ``"whole"`` or ``"amortised"``, see :func:`xbarsim.cost.estimate`.
    units
        Occupied units of each counted level, from arrays up.
    layers
        Cost of each layer's arrays.
    shared
        Cost of what stands above the arrays.
    digital
        What is computed outside the arrays.
    remarks
        Notes that whoever asked for the cost gave, besides those that follow from the numbers.
    notes
        What a reader should know: extrapolations, assumptions, what is left out; `remarks` first.
    """

    hardware: Hardware
    level: str
    sharing: Literal["whole", "amortised"]
    units: dict[str, int]
    layers: tuple[LayerCost, ...]
    shared: tuple[ComponentCost, ...]
    digital: tuple[DigitalUse, ...] = ()
    remarks: tuple[str, ...] = ()
    notes: tuple[str, ...]

    @classmethod
    def of(
        cls,
        uses: Sequence[LayerUse],
        hardware: Hardware,
        *,
        digital: Sequence[DigitalUse] = (),
        remarks: Sequence[str] = (),
        level: str | None = None,
        sharing: Literal["whole", "amortised"] = "whole",
    ) -> Self:
        """The peak of what layers use; arguments and errors of :func:`xbarsim.cost.estimate`."""
        check_instance("hardware", hardware, Hardware)
        check_instance("uses", uses, (list, tuple))
        for index, use in enumerate(uses):
            check_instance(f"uses[{index}]", use, LayerUse)
        for name, items, kind in (("digital", digital, DigitalUse), ("remarks", remarks, str)):
            check_instance(name, items, (list, tuple))
            for index, item in enumerate(items):
                check_instance(f"{name}[{index}]", item, kind)
        names = [use.name for use in uses]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise InputError(f"uses must have different names, got {', '.join(map(repr, twice))} more than once")
        check_choice("sharing", sharing, ("whole", "amortised"))
        level = hardware.counted_to if level is None else level
        top = hardware.level_index(level)

        layers = []
        for use in uses:
            read_time = hardware.time_of_read(use)
            vector_time = hardware.reads_of_vector(use) * read_time
            layers.append(
                LayerCost(
                    use=use,
                    read_time=read_time,
                    peak_throughput=2 * use.macs_per_vector * use.copies / vector_time if use.arrays else 0.0,
                    components=tuple(
                        _array_cost(c, use, hardware)
                        for c in hardware.levels[0].components
                        if c.role != "idle_detector" or use.skip_idle
                    ),
                )
            )

        units = {hardware.levels[0].name: sum(use.occupied for use in uses)}
        below = units[hardware.levels[0].name]
        shared = []
        for each in hardware.levels[1 : top + 1]:
            assert each.children is not None
            below = units[each.name] = -(-below // int(each.children.value))
            shared += [_shared_cost(each.name, component, below, sharing, hardware) for component in each.components]

        return cls(
            hardware=hardware,
            level=level,
            sharing=sharing,
            units=units,
            layers=tuple(layers),
            shared=tuple(shared),
            digital=tuple(digital),
            remarks=tuple(remarks),
            notes=(*remarks, *_notes(uses, digital, hardware, units, sharing)),
        )

    def with_uses(self, uses: Sequence[LayerUse]) -> Self:
        """The same hardware, counted the same way, with other uses of it."""
        return type(self).of(
            uses,
            self.hardware,
            level=self.level,
            sharing=self.sharing,
            digital=self.digital,
            remarks=self.remarks,
        )

    @property
    def digital_share(self) -> float:
        """The part of an image's multiply-accumulates that is computed digitally, 0 to 1; 0 where there are none."""
        digital = added(use.multiply_accumulates for use in self.digital)
        every = digital + added(layer.use.macs_per_image for layer in self.layers)
        return digital / every if every else 0.0

    def _every(self) -> list[ComponentCost]:
        return [cost for layer in self.layers for cost in layer.components] + list(self.shared)

    @property
    def power(self) -> float:
        """Peak power, W."""
        return math.fsum(cost.power for cost in self._every())

    @property
    def area(self) -> float:
        """Area, m2."""
        return math.fsum(cost.area for cost in self._every())

    @property
    def peak_throughput(self) -> float:
        """Operations per second, two a useful multiply-accumulate, all occupied arrays read back to back."""
        return math.fsum(layer.peak_throughput for layer in self.layers)

    @property
    def throughput_per_power(self) -> float:
        """Peak throughput over power, operations per second and watt; 0 where nothing is occupied."""
        return self.peak_throughput / self.power if self.power else 0.0

    @property
    def throughput_per_area(self) -> float:
        """Peak throughput over area, operations per second and m2; 0 where nothing is occupied."""
        return self.peak_throughput / self.area if self.area else 0.0

    @property
    def components(self) -> tuple[ComponentCost, ...]:
        """Cost of each component over all layers, from the arrays up."""
        return _summed(self._every())

    def tree(self) -> dict[str, Any]:
        """The cost as nested dictionaries with the keys name, count, power (W), area (m2) and children.

        The root's children are the levels; the array level's are the layers, whose children are their
        components; any other level's are its components. A node's power and area are the sum of its
        children's.
        """

        def leaf(cost: ComponentCost) -> dict[str, Any]:
            return {
                "name": cost.name,
                "count": cost.count,
                "power": cost.power,
                "area": cost.area,
                "children": [],
            }

        def node(name: str, count: float, children: list[dict[str, Any]]) -> dict[str, Any]:
            return {
                "name": name,
                "count": count,
                "power": math.fsum(child["power"] for child in children),
                "area": math.fsum(child["area"] for child in children),
                "children": children,
            }

        levels = []
        for index, (level, units) in enumerate(self.units.items()):
            if index == 0:
                children = [
                    node(layer.use.name, layer.use.occupied, [leaf(cost) for cost in layer.components])
                    for layer in self.layers
                ]
            else:
                children = [leaf(cost) for cost in self.shared if cost.level == level]
            levels.append(node(level, units, children))
        return node(self.hardware.name, 1, levels)

    @entrance
    def to_rows(self, by: Literal["part", "component", "layer"] = "part") -> list[dict[str, Any]]:
        """The cost as rows, ready for a data frame or a CSV file.

        Parameters
        ----------
        by
            ``"part"``: one row a component of a layer or of a shared level (then ``layer`` is empty);
            ``"component"``: one row a component; ``"layer"``: one row a layer (its arrays only) and one for
            all that is shared above them. Each of the three adds up to the totals.

        Returns
        -------
        rows
            With ``power_W`` and ``area_m2``; layers also with ``peak_throughput_op_s``.
        """
        check_choice("by", by, ("part", "component", "layer"))
        if by == "layer":
            rows = [
                {
                    "layer": layer.use.name,
                    "arrays": layer.use.occupied,
                    "power_W": layer.power,
                    "area_m2": layer.area,
                    "peak_throughput_op_s": layer.peak_throughput,
                }
                for layer in self.layers
            ]
            shared = {
                "layer": "(shared)",
                "arrays": 0,
                "power_W": math.fsum(cost.power for cost in self.shared),
                "area_m2": math.fsum(cost.area for cost in self.shared),
                "peak_throughput_op_s": 0.0,
            }
            return [*rows, shared]
        if by == "component":
            parts = [("", cost) for cost in self.components]
        else:
            parts = [(layer.use.name, cost) for layer in self.layers for cost in layer.components]
            parts += [("", cost) for cost in self.shared]
        return [
            ({"layer": layer} if by == "part" else {})
            | {
                "level": cost.level,
                "component": cost.name,
                "count": cost.count,
                "power_W": cost.power,
                "area_m2": cost.area,
            }
            for layer, cost in parts
        ]

    @entrance
    def to_frame(self, by: Literal["part", "component", "layer"] = "part") -> Any:
        """:meth:`to_rows` as a pandas data frame; `ImportError` where pandas is not installed."""
        return frame(self.to_rows(by))
