"""What a network costs on a hardware: totals that can be taken apart."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xbarsim.cost.hardware import Hardware, Quantity
from xbarsim.validation import check_choice

if TYPE_CHECKING:
    from xbarsim.cost.estimate import LayerUse

__all__ = ["ComponentCost", "CostReport", "LayerCost"]

_MILLIWATT, _SQUARE_MILLIMETRE, _GIGA = 1e-3, 1e-6, 1e9


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
    found: dict[tuple[str, str], list[ComponentCost]] = {}
    for cost in costs:
        found.setdefault((cost.level, cost.name), []).append(cost)
    return tuple(
        ComponentCost(
            level=level,
            name=name,
            count=math.fsum(cost.count for cost in same),
            power=math.fsum(cost.power for cost in same),
            area=math.fsum(cost.area for cost in same),
        )
        for (level, name), same in found.items()
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


@dataclass(frozen=True, kw_only=True)
class CostReport:
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
    notes
        What a reader should know: extrapolations, assumptions, what is left out.
    """

    hardware: Hardware
    level: str
    sharing: Literal["whole", "amortised"]
    units: dict[str, int]
    layers: tuple[LayerCost, ...]
    shared: tuple[ComponentCost, ...]
    notes: tuple[str, ...]

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
                    node(layer.use.name, layer.use.arrays, [leaf(cost) for cost in layer.components])
                    for layer in self.layers
                ]
            else:
                children = [leaf(cost) for cost in self.shared if cost.level == level]
            levels.append(node(level, units, children))
        return node(self.hardware.name, 1, levels)

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
                    "arrays": layer.use.arrays,
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

    def sources(self) -> tuple[str, ...]:
        """The references behind the numbers of this report, as text, in the card's order."""
        hardware = self.hardware
        used: set[str] = {hardware.adc.energy.source, hardware.adc.area.source}
        quantities: list[Quantity] = [hardware.adc.rate, hardware.adc.nameplate_rate]
        if any(layer.use.dac_bits > 1 for layer in self.layers):
            quantities.append(hardware.dac_growth)
        for level in hardware.levels[: len(self.units)]:
            used.update(component.source for component in level.components)
            if level.children is not None:
                quantities.append(level.children)
        used.update(quantity.source for quantity in quantities)
        return tuple(str(reference) for reference in hardware.references if reference.key in used)

    def __str__(self) -> str:
        power, area = self.power, self.area
        occupied = ", ".join(f"{units:,} {name}{'' if units == 1 else 's'}" for name, units in self.units.items())
        lines = [
            f"Cost on {self.hardware.name}, counted up to the {self.level}: {occupied}",
            "",
            *_table(
                ("level", "component", "count", "power (mW)", "share", "area (mm2)", "share"),
                [
                    (
                        cost.level,
                        cost.name,
                        f"{cost.count:,.0f}" if cost.count.is_integer() else f"{cost.count:,.2f}",
                        _number(cost.power / _MILLIWATT),
                        _percent(cost.power, power),
                        _number(cost.area / _SQUARE_MILLIMETRE),
                        _percent(cost.area, area),
                    )
                    for cost in self.components
                ],
                words=2,
            ),
            "",
            *_table(
                ("layer", "arrays", "size", "ADC bits", "power (mW)", "area (mm2)", "peak (Gop/s)"),
                [
                    (
                        layer.use.name,
                        f"{layer.use.arrays:,}",
                        f"{layer.use.rows} x {layer.use.columns}",
                        str(layer.use.adc_bits),
                        _number(layer.power / _MILLIWATT),
                        _number(layer.area / _SQUARE_MILLIMETRE),
                        _number(layer.peak_throughput / _GIGA),
                    )
                    for layer in self.layers
                ],
                words=1,
            ),
            "",
            f"power            {_number(power / _MILLIWATT)} mW",
            f"area             {_number(area / _SQUARE_MILLIMETRE)} mm2",
            f"peak throughput  {_number(self.peak_throughput / _GIGA)} Gop/s",
            f"per power        {_number(self.throughput_per_power / _GIGA)} Gop/s/W",
            f"per area         {_number(self.throughput_per_area * _SQUARE_MILLIMETRE / _GIGA)} Gop/s/mm2",
        ]
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)


def _number(value: float) -> str:
    """Four significant digits, without an exponent where that can be read."""
    if value == 0:
        return "0"
    digits = 3 - math.floor(math.log10(abs(value)))
    return f"{value:,.{max(digits, 0)}f}" if digits < 9 else f"{value:.3e}"


def _percent(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "-"


def _table(header: Sequence[str], rows: Sequence[Sequence[str]], *, words: int) -> list[str]:
    """Lines of a table: the first `words` columns to the left, numbers to the right."""
    widths = [max(len(row[column]) for row in (header, *rows)) for column in range(len(header))]
    lines = []
    for row in (header, ["-" * width for width in widths], *rows):
        cells = (
            text.ljust(width) if column < words else text.rjust(width)
            for column, (text, width) in enumerate(zip(row, widths, strict=True))
        )
        lines.append("  ".join(cells).rstrip())
    return lines
