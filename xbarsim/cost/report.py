"""What a network costs, as its user gets it: the peak and its sources to print, and from there the workload."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from xbarsim.cost.digital import OPERATIONS, DigitalUse, operations_of
from xbarsim.cost.hardware import Hardware
from xbarsim.cost.peak import Peak
from xbarsim.cost.use import LayerUse
from xbarsim.cost.values import Reference
from xbarsim.cost.views import count, html_tree, number, percent
from xbarsim.cost.workload import Replication, Workload, run_workload
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table

__all__ = ["CostReport", "Sources", "estimate"]

_MOST_DIGITAL = 8  # lines of the table of what stays digital: the largest, then the rest together

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
class CostReport(Peak):
    """The peak to print, with its sources and the way to the workload; attributes as :class:`xbarsim.cost.Peak`."""

    @entrance
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
            used.update(sourced.source for _, _, sourced in hardware.adc.sourced_values())
        if any(layer.use.dac_bits > 1 for layer in self.layers):
            used.add(hardware.dac_growth.source)
        if hardware.digital is not None and self.digital:
            used.update(sourced.source for _, _, sourced in hardware.digital.sourced_values())
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
            format_table(
                ("level", "component", "count", "power (mW)", "share", "area (mm2)", "share"),
                [
                    (
                        cost.level,
                        cost.name,
                        count(cost.count),
                        number(cost.power / _MILLIWATT),
                        percent(cost.power, power),
                        number(cost.area / _SQUARE_MILLIMETRE),
                        percent(cost.area, area),
                    )
                    for cost in self.components
                ],
                left=2,
            ),
            "",
            format_table(
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
                left=1,
            ),
            "",
            f"power            {number(power / _MILLIWATT)} mW",
            f"area             {number(area / _SQUARE_MILLIMETRE)} mm2",
            f"peak throughput  {number(self.peak_throughput / _GIGA)} Gop/s",
            f"per power        {number(self.throughput_per_power / _GIGA)} Gop/s/W",
            f"per area         {number(self.throughput_per_area * _SQUARE_MILLIMETRE / _GIGA)} Gop/s/mm2",
        ]
        if self.digital:
            lines += [
                "",
                f"digital for one image: {percent(self.digital_share, 1.0)} of all multiply-accumulates",
                "",
                _digital_table(self.digital),
            ]
        if self.notes:
            lines += ["", *(f"note: {note}" for note in self.notes)]
        return "\n".join(lines)


def _digital_table(digital: Sequence[DigitalUse]) -> str:
    """What is computed digitally: the largest contributors by name, the rest, and all of it."""
    largest = sorted(digital, key=lambda use: use.operations, reverse=True)
    shown, rest = largest[:_MOST_DIGITAL], largest[_MOST_DIGITAL:]
    groups: list[tuple[tuple[str, str], Sequence[DigitalUse]]] = [((use.name, use.kind), (use,)) for use in shown]
    if rest:
        groups.append(((f"({len(rest)} more)", ""), rest))
    groups.append((("(all)", ""), digital))
    return format_table(
        ("digital", "kind", "parameters", *(name.replace("_", "-") for name in OPERATIONS)),
        [
            (
                *names,
                f"{sum(use.parameters for use in uses):,}",
                *(count(each) for each in operations_of(uses).values()),
            )
            for names, uses in groups
        ],
        left=2,
    )


def estimate(
    uses: Sequence[LayerUse],
    hardware: Hardware,
    *,
    level: str | None = None,
    sharing: Literal["whole", "amortised"] = "whole",
    digital: Sequence[DigitalUse] = (),
    remarks: Sequence[str] = (),
) -> CostReport:
    """Cost of the hardware that a network occupies.

    See :mod:`xbarsim.cost.peak` for the model.

    Parameters
    ----------
    uses
        What each layer uses; names must differ.
    hardware
        The card.
    level
        The highest level to count; ``None`` for the card's `counted_to`.
    sharing
        What several units share (ISAAC's router, one for four tiles) is counted ``"whole"``: as many as there
        must be; or ``"amortised"``: each unit pays its share, as component tables print it.
    digital
        What is computed outside the arrays. It is counted; its energy is in the workload where the card has prices.
    remarks
        Notes to stand in the report besides its own.

    Returns
    -------
    report
        Peak power, area and throughput with their breakdown, in SI units.

    Raises
    ------
    InputError
        If a layer's name comes twice, there is no such level, or an argument is of the wrong kind.

    Examples
    --------
    >>> from xbarsim.cost import Hardware, LayerUse, estimate
    >>> use = LayerUse(name="fc", arrays=96, rows=128, columns=128, adc_bits=8, dac_bits=1,
    ...                reads_per_vector=16, macs_per_vector=96 * 2048, vectors_per_image=1)
    >>> report = estimate([use], Hardware.load("isaac2016"), sharing="amortised")
    >>> round(1e3 * report.power), round(1e6 * report.area, 3)
    (330, 0.372)
    """
    return CostReport.of(uses, hardware, level=level, sharing=sharing, digital=digital, remarks=remarks)
