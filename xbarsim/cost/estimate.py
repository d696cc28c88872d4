"""From the arrays that a network occupies to power, area and peak throughput."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from xbarsim.cost.adc import MOST_ADC_BITS
from xbarsim.cost.hardware import Component, Hardware
from xbarsim.cost.report import ComponentCost, CostReport, LayerCost
from xbarsim.cost.units import parse_unit
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = ["Comparison", "LayerUse", "compare_published", "estimate"]


@dataclass(frozen=True, kw_only=True)
class LayerUse:
    """What one layer of a network uses.

    Attributes
    ----------
    name
        The layer's name.
    arrays
        Crossbar arrays that one copy of it occupies.
    rows, columns
        Cells of one array.
    adc_bits, dac_bits
        Resolution of the converters.
    reads_per_vector
        Reads of each array for one input vector: input planes times passes, times `activations`.
    macs_per_vector
        Useful multiply-accumulates for one input vector, over all its arrays.
    vectors_per_image
        Input vectors for one image.
    cells_power
        Mean static power (V^2 G) of the cells of all arrays of one copy together while they are read, W; ``None``
        for the card's published array power.
    driven_rows, used_columns, cells_used
        Rows, columns and cells in use over all arrays of one copy; ``None`` for all.
    conversions
        Values that the converters of one copy take at each read: the used columns, or half of them where pairs are
        subtracted before the converter; ``None`` for the used columns.
    inputs, outputs
        Elements of the input and of the output vector; ``None`` for one array's rows and columns.
    input_bits
        Bits in which an element of either is kept and moved.
    activations
        Groups of rows that the design drives one after the other, each in a read of its own.
    index_bits
        Bits of storage that packing needs to know which rows and outputs one copy holds.
    copies
        Copies of the layer that share its vectors (weight replication).
    redundancy
        Arrays that do the work of one, all read each time.
    spare_columns
        Columns of each array beyond `columns` that stand in for broken ones: they cost area, and power only in the
        place of another.
    """

    name: str
    arrays: int
    rows: int
    columns: int
    adc_bits: int
    dac_bits: int
    reads_per_vector: int
    macs_per_vector: int
    vectors_per_image: int
    cells_power: float | None = None
    driven_rows: int | None = None
    used_columns: int | None = None
    cells_used: int | None = None
    conversions: int | None = None
    inputs: int | None = None
    outputs: int | None = None
    input_bits: int = 8
    activations: int = 1
    index_bits: int = 0
    copies: int = 1
    redundancy: int = 1
    spare_columns: int = 0

    def __post_init__(self) -> None:
        check_instance("name", self.name, str)
        if not self.name.strip():
            raise InputError(f"name must be a non-empty text, got {self.name!r}")
        for field, at_least, at_most in (
            ("arrays", 0, None),
            ("rows", 1, None),
            ("columns", 1, None),
            ("adc_bits", 1, MOST_ADC_BITS),
            ("dac_bits", 1, 16),
            ("reads_per_vector", 1, None),
            ("macs_per_vector", 0, None),
            ("vectors_per_image", 0, None),
            ("input_bits", 1, 64),
            ("activations", 1, None),
            ("index_bits", 0, None),
            ("copies", 1, None),
            ("redundancy", 1, None),
            ("spare_columns", 0, None),
        ):
            value = getattr(self, field)
            number = check_integer(f"{self.name}: {field}", value, at_least=at_least, at_most=at_most)
            object.__setattr__(self, field, number)
        most = {
            "driven_rows": self.arrays * self.rows,
            "used_columns": self.arrays * self.columns,
            "cells_used": self.arrays * self.rows * self.columns,
            "conversions": self.arrays * self.columns if self.used_columns is None else self.used_columns,
        }
        for field, bound in most.items():
            if getattr(self, field) is not None:
                check_integer(f"{self.name}: {field}", getattr(self, field), at_least=0, at_most=bound)
        for field in ("inputs", "outputs"):
            if getattr(self, field) is not None:
                check_integer(f"{self.name}: {field}", getattr(self, field), at_least=1)
        if self.reads_per_vector % self.activations:
            raise InputError(
                f"{self.name}: activations must divide reads_per_vector ({self.reads_per_vector}), "
                f"got {self.activations}"
            )
        if self.cells_power is not None:
            power = check_real(f"{self.name}: cells_power", self.cells_power, at_least=0.0)
            if self.arrays == 0 and power > 0:
                raise InputError(f"{self.name}: cells_power must be 0 or None where arrays is 0, got {power!r}")
            object.__setattr__(self, "cells_power", power)

    @property
    def occupied(self) -> int:
        """Arrays of all copies, redundant ones included."""
        return self.arrays * self.copies * self.redundancy

    def counted(self, field: str) -> int:
        """`driven_rows`, `used_columns`, `cells_used`, `conversions`, `inputs` or `outputs`, defaults filled in."""
        value = getattr(self, field)
        if value is not None:
            return int(value)
        if field == "conversions":
            return self.counted("used_columns")
        defaults = {
            "driven_rows": self.arrays * self.rows,
            "used_columns": self.arrays * self.columns,
            "cells_used": self.arrays * self.rows * self.columns,
            "inputs": self.rows,
            "outputs": self.columns,
        }
        return defaults[field]


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


def _notes(uses: Sequence[LayerUse], hardware: Hardware, units: dict[str, int], sharing: str) -> tuple[str, ...]:
    notes = []
    array = hardware.array
    occupied = [use for use in uses if use.arrays]
    if hardware.adc is not None:
        found = [hardware.adc.note(bits) for bits in sorted({use.adc_bits for use in occupied})]
        notes += [note for note in dict.fromkeys(found) if note is not None]
    elif occupied:
        notes.append("the converters' cost is not told apart in this card: ADC bits change nothing")
    roles = {component.role for component in hardware.levels[0].components}
    if "cells" not in roles and any(use.cells_power is not None for use in occupied):
        notes.append("the cells' cost is not told apart in this card: programmed conductances change nothing")
    for bits in sorted({use.dac_bits for use in occupied} - {1}) if "dac" in roles else ():
        factor = hardware.dac_growth.value ** (bits - 1)
        notes.append(
            f"DAC of {bits} bits: {factor:g} times the power and area of one bit ({hardware.dac_growth.source})"
        )
    if any(use.index_bits for use in occupied) and all(
        component.per != "index_bit" for component in hardware.levels[0].components
    ):
        notes.append("this card has no memory for the indices of packing: they are not counted")
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


def estimate(
    uses: Sequence[LayerUse],
    hardware: Hardware,
    *,
    level: str | None = None,
    sharing: Literal["whole", "amortised"] = "whole",
) -> CostReport:
    """Cost of the hardware that a network occupies.

    Arrays fill the units of the next level one after the other over the whole network, layers sharing units;
    a unit that holds one array has all its shared components, and places without an array cost nothing.

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

    Returns
    -------
    report
        Peak power, area and throughput with their breakdown, in SI units.

    Raises
    ------
    InputError
        If a layer's name comes twice, there is no such level, or an argument is of the wrong kind.

    Notes
    -----
    An array has the card's DACs for each row, sample and hold for each column, and ADCs shared by its
    columns, so it is read in columns / ADC rate (ISAAC: 128 / 1.28 GS/s = 100 ns) whatever the ADC's
    resolution. The power of an ADC is its energy per conversion times its nameplate rate. That an array's
    power and area are proportional to its cells is assumed. Arrays of all sizes take one place in the level
    above.

    Examples
    --------
    >>> from xbarsim.cost import Hardware, LayerUse, estimate
    >>> use = LayerUse(name="fc", arrays=96, rows=128, columns=128, adc_bits=8, dac_bits=1,
    ...                reads_per_vector=16, macs_per_vector=96 * 2048, vectors_per_image=1)
    >>> report = estimate([use], Hardware.load("isaac2016"), sharing="amortised")
    >>> round(1e3 * report.power), round(1e6 * report.area, 3)
    (330, 0.372)
    """
    check_instance("hardware", hardware, Hardware)
    check_instance("uses", uses, (list, tuple))
    for index, use in enumerate(uses):
        check_instance(f"uses[{index}]", use, LayerUse)
    names = [use.name for use in uses]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise InputError(f"uses must have different names, got {', '.join(map(repr, twice))} more than once")
    check_choice("sharing", sharing, ("whole", "amortised"))
    level = hardware.counted_to if level is None else level
    top = hardware.level_index(level)

    layers = []
    for use in uses:
        read_time = hardware.time_per_read(use.columns)
        vector_time = hardware.reads_of_vector(use) * read_time
        layers.append(
            LayerCost(
                use=use,
                read_time=read_time,
                peak_throughput=2 * use.macs_per_vector * use.copies / vector_time if use.arrays else 0.0,
                components=tuple(_array_cost(c, use, hardware) for c in hardware.levels[0].components),
            )
        )

    units = {hardware.levels[0].name: sum(use.occupied for use in uses)}
    below = units[hardware.levels[0].name]
    shared = []
    for each in hardware.levels[1 : top + 1]:
        assert each.children is not None
        below = units[each.name] = -(-below // int(each.children.value))
        shared += [_shared_cost(each.name, component, below, sharing, hardware) for component in each.components]

    return CostReport(
        hardware=hardware,
        level=level,
        sharing=sharing,
        units=units,
        layers=tuple(layers),
        shared=tuple(shared),
        notes=_notes(uses, hardware, units, sharing),
    )


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
        report = hardware.totals(total.level, total.units)
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
