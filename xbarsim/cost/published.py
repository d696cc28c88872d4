"""Totals that a card's source prints, beside what the card's components add up to."""

from __future__ import annotations

from dataclasses import dataclass

from xbarsim.cost.hardware import Hardware
from xbarsim.cost.report import CostReport, estimate
from xbarsim.cost.units import parse_unit
from xbarsim.cost.use import LayerUse
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer

__all__ = ["Comparison", "compare_published", "totals"]

_MOST_UNITS = 10**12  # beyond it counts are no exact floats any more


@entrance
def totals(hardware: Hardware, level: str, units: int = 1) -> CostReport:
    """Cost of `units` full ones of `level`, used as published.

    The same code as for a network: :func:`xbarsim.cost.estimate` with every array of them occupied, and
    with the share of what several parents share, as component tables print it.

    Parameters
    ----------
    hardware
        The card.
    level
        One of its levels.
    units
        How many of it.

    Raises
    ------
    InputError
        If there is no such level, or `units` is negative or beyond 10^12.
    """
    check_instance("hardware", hardware, Hardware)
    units = check_integer("units", units, at_least=0, at_most=_MOST_UNITS)
    array = hardware.array
    arrays = units * hardware.arrays_per(level)
    use = LayerUse(
        name=f"{units} x {level}",
        arrays=arrays,
        rows=array.rows,
        columns=array.columns,
        adc_bits=array.adc_bits,
        dac_bits=array.dac_bits,
        reads_per_vector=array.reads_per_vector,
        macs_per_vector=arrays * array.macs_per_array,
        vectors_per_image=1,
    )
    return estimate([use], hardware, level=level, sharing="amortised")


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """A printed total beside ours.

    Attributes
    ----------
    name, quantity, unit
        What is compared.
    published, computed
        The two values, in `unit`.
    deviation
        computed / published - 1.
    within_rounding
        Whether ours is within half of the last printed digit.
    note
        Where it is printed, and what explains a difference.
    """

    name: str
    quantity: str
    unit: str
    published: float
    computed: float
    deviation: float
    within_rounding: bool
    note: str

    def __str__(self) -> str:
        return (
            f"{self.name}, {self.quantity}: published {self.published:g} {self.unit}, "
            f"computed {self.computed:.6g} ({self.deviation:+.2%}, "
            f"{'within' if self.within_rounding else 'beyond'} its rounding)"
        )


@entrance
def compare_published(hardware: Hardware) -> tuple[Comparison, ...]:
    """Compare every total that the card's source prints with what the card's components add up to.

    Parameters
    ----------
    hardware
        The card.

    Returns
    -------
    comparisons
        One for each of ``hardware.published``, in the same order.
    """
    check_instance("hardware", hardware, Hardware)
    comparisons = []
    for total in hardware.published:
        report = totals(hardware, total.level, total.units)
        computed = float(getattr(report, total.quantity)) / parse_unit(total.value.unit)[0]
        published = total.value.value
        comparisons.append(
            Comparison(
                name=total.name,
                quantity=total.quantity,
                unit=total.value.unit,
                published=published,
                computed=computed,
                deviation=computed / published - 1,
                within_rounding=abs(computed - published) <= total.place / 2 * (1 + 1e-9),
                note=total.value.note,
            )
        )
    return tuple(comparisons)
