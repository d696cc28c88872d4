"""What a network costs on a hardware: totals that can be taken apart."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from xbarsim.cost.hardware import Hardware
from xbarsim.cost.quantities import Reference
from xbarsim.cost.views import frame, html_tree, number, percent, table
from xbarsim.cost.workload import Replication, Workload, run_workload
from xbarsim.foundation.validation import check_choice

if TYPE_CHECKING:
    from xbarsim.cost.estimate import LayerUse

__all__ = ["ComponentCost", "CostReport", "LayerCost", "Sources"]

_MILLIWATT, _SQUARE_MILLIMETRE, _GIGA = 1e-3, 1e-6, 1e9


class Sources(tuple[str, ...]):
    """References as text, one an entry; printed with their BibTeX entries behind them.

    Attributes
    ----------
    references
        The references themselves.
    """

    references: tuple[Reference, ...]

    @classmethod
    def of(cls, references: Iterable[Reference]) -> Sources:
        """The text of some references."""
        kept = tuple(references)
        made = cls(str(reference) for reference in kept)
        made.references = kept
        return made

    def bibtex(self) -> str:
        """All references as BibTeX entries."""
        return "\n\n".join(reference.bibtex() for reference in self.references)

    def __str__(self) -> str:
        return "\n".join(self) + "\n\n" + self.bibtex()


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
                    node(layer.use.name, layer.use.occupied, [leaf(cost) for cost in layer.components])
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

    def to_frame(self, by: Literal["part", "component", "layer"] = "part") -> Any:
        """:meth:`to_rows` as a pandas data frame; `ImportError` where pandas is not installed."""
        return frame(self.to_rows(by))

    def workload(self, *, replication: Replication | int = "none", pipelined: bool = True) -> Workload:
        """What one inference costs on this hardware: energy, latency, rate, average power, utilisation.

        Parameters
        ----------
        replication
            ``"none"``: one copy of each layer; ``"chip"``: copies that fill as many whole chips as one copy of the
            network needs; or the number of arrays to fill. Copies go where they make the slowest layer fastest.
        pipelined
            Whether layers work on successive images at once.

        Returns
        -------
        Workload
            See :mod:`xbarsim.cost.workload` for the model.

        Raises
        ------
        InputError
            If there are fewer arrays than the network needs.
        """
        return run_workload(self, replication=replication, pipelined=pipelined)

    def sources(self) -> Sources:
        """The references behind the numbers of this report, in the card's order; ``print`` adds their BibTeX."""
        hardware = self.hardware
        used: set[str] = {hardware.stages_after_read.source, hardware.read_time.source}
        if hardware.adc is not None:
            used.update(sourced.source for _, _, sourced in hardware.adc.quantities())
        if any(layer.use.dac_bits > 1 for layer in self.layers):
            used.add(hardware.dac_growth.source)
        for level in hardware.levels[: len(self.units)]:
            if level.children is not None:
                used.add(level.children.source)
            for component in level.components:
                used.add(component.source)
                used.update(each.source for each in (component.rate, component.node) if each is not None)
        return Sources.of(reference for reference in hardware.references if reference.key in used)

    def _repr_html_(self) -> str:
        return html_tree(
            self.tree(),
            {"power": ("power (mW)", _MILLIWATT), "area": ("area (mm2)", _SQUARE_MILLIMETRE)},
        )

    def __str__(self) -> str:
        power, area = self.power, self.area
        occupied = ", ".join(f"{units:,} {name}{'' if units == 1 else 's'}" for name, units in self.units.items())
        lines = [
            f"Cost on {self.hardware.name}, counted up to the {self.level}: {occupied}",
            "",
            *table(
                ("level", "component", "count", "power (mW)", "share", "area (mm2)", "share"),
                [
                    (
                        cost.level,
                        cost.name,
                        f"{cost.count:,.0f}" if cost.count.is_integer() else f"{cost.count:,.2f}",
                        number(cost.power / _MILLIWATT),
                        percent(cost.power, power),
                        number(cost.area / _SQUARE_MILLIMETRE),
                        percent(cost.area, area),
                    )
                    for cost in self.components
                ],
                words=2,
            ),
            "",
            *table(
                ("layer", "arrays", "size", "ADC bits", "power (mW)", "area (mm2)", "peak (Gop/s)"),
                [
                    (
                        layer.use.name,
                        f"{layer.use.occupied:,}",
                        f"{layer.use.rows} x {layer.use.columns}",
                        str(layer.use.adc_bits),
                        number(layer.power / _MILLIWATT),
                        number(layer.area / _SQUARE_MILLIMETRE),
                        number(layer.peak_throughput / _GIGA),
                    )
                    for layer in self.layers
                ],
                words=1,
            ),
            "",
            f"power            {number(power / _MILLIWATT)} mW",
            f"area             {number(area / _SQUARE_MILLIMETRE)} mm2",
            f"peak throughput  {number(self.peak_throughput / _GIGA)} Gop/s",
            f"per power        {number(self.throughput_per_power / _GIGA)} Gop/s/W",
            f"per area         {number(self.throughput_per_area * _SQUARE_MILLIMETRE / _GIGA)} Gop/s/mm2",
        ]
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)
