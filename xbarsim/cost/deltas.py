"""What a design choice costs: two reports side by side."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xbarsim.cost.report import CostReport
from xbarsim.cost.views import frame, number
from xbarsim.cost.workload import Replication
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import check_instance

__all__ = ["Change", "Deltas", "compare"]

_METRICS = (
    ("arrays", "", 1.0),
    ("ADC bits", "", 1.0),
    ("index storage", "bit", 1.0),
    ("area", "mm2", 1e-6),
    ("peak power", "mW", 1e-3),
    ("energy per inference", "uJ", 1e-6),
    ("latency", "us", 1e-6),
    ("rate", "images/s", 1.0),
    ("average power", "mW", 1e-3),
    ("per power", "Top/s/W", 1e12),
    ("per area", "Top/s/mm2", 1e18),
)


@dataclass(frozen=True, kw_only=True)
class Change:
    """One number of two reports.

    Attributes
    ----------
    name, unit
        What it is, and the unit it is printed in.
    before, after
        In SI units.
    scale
        What one of `unit` is in SI.
    """

    name: str
    unit: str
    before: float
    after: float
    scale: float = 1.0

    @property
    def difference(self) -> float:
        """Difference, after - before, in SI units."""
        return self.after - self.before

    @property
    def relative(self) -> float | None:
        """Relative difference, after / before - 1; ``None`` where before is 0."""
        return self.after / self.before - 1 if self.before else None


@dataclass(frozen=True)
class Deltas:
    """What changes from one report to another.

    Attributes
    ----------
    changes
        Totals of the peak and of the workload view.
    components
        Area of every component of either, and its energy for one inference.
    names
        What the two are called.
    """

    changes: tuple[Change, ...]
    components: tuple[Change, ...]
    names: tuple[str, str]

    def __getitem__(self, name: str) -> Change:
        return {change.name: change for change in (*self.changes, *self.components)}[name]

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a number, in SI units, totals first."""
        return [
            {
                "name": change.name,
                "unit": change.unit,
                "scale": change.scale,
                "before": change.before,
                "after": change.after,
                "difference": change.difference,
                "relative": change.relative,
            }
            for change in (*self.changes, *self.components)
        ]

    def to_frame(self) -> Any:
        """:meth:`to_rows` as a pandas data frame; `ImportError` where pandas is not installed."""
        return frame(self.to_rows())

    def __str__(self) -> str:
        def shown(value: float, change: Change) -> str:
            whole = change.unit in ("", "bit")
            return f"{value:,.0f}" if whole else number(value / change.scale)

        rows = [
            (
                f"{change.name}{f' ({change.unit})' if change.unit else ''}",
                shown(change.before, change),
                shown(change.after, change),
                f"{'-' if change.difference < 0 else '+'}{shown(abs(change.difference), change)}",
                "-" if change.relative is None else f"{change.relative:+.1%}",
            )
            for change in (*self.changes, *self.components)
            if change.before or change.after
        ]
        return format_table(("", *self.names, "difference", "relative"), rows)


@entrance
def compare(
    before: CostReport,
    after: CostReport,
    *,
    names: tuple[str, str] = ("before", "after"),
    replication: Replication | int = "none",
) -> Deltas:
    """What changes from one report to another: encoding, converter, slicing, spare columns, index storage, hardware.

    Parameters
    ----------
    before, after
        Two reports, of the same network on two designs, say.
    names
        What to call them.
    replication
        For both, see :meth:`xbarsim.cost.CostReport.workload`.
    """
    check_instance("before", before, CostReport)
    check_instance("after", after, CostReport)
    values, area, energy = [], [], []
    for report in (before, after):
        work = report.workload(replication=replication)
        uses = [layer.use for layer in work.layers]
        values.append(
            (
                sum(use.occupied for use in uses),
                max((use.adc_bits for use in uses if use.arrays), default=0),
                sum(use.index_bits * use.copies * use.redundancy for use in uses),
                work.peak.area,
                work.peak.power,
                work.energy,
                work.latency,
                work.images_per_second,
                work.average_power,
                work.throughput_per_power,
                work.throughput_per_area,
            )
        )
        area.append({cost.name: 0.0 for cost in work.peak.components})
        for cost in work.peak.components:
            area[-1][cost.name] += cost.area
        energy.append({cost.name: 0.0 for cost in work.components})
        for part in work.components:
            energy[-1][part.name] += part.energy
    changes = tuple(
        Change(name=name, unit=unit, scale=scale, before=float(values[0][place]), after=float(values[1][place]))
        for place, (name, unit, scale) in enumerate(_METRICS)
    )
    components = tuple(
        Change(name=f"{name}: {what}", unit=unit, scale=scale, before=one.get(name, 0.0), after=two.get(name, 0.0))
        for (one, two), what, unit, scale in ((area, "area", "mm2", 1e-6), (energy, "energy", "uJ", 1e-6))
        for name in dict.fromkeys([*one, *two])
    )
    return Deltas(changes, components, names)
