"""Plans: what has to be computed for one layer of one die, and the cheapest exact way to do it.

Everything that is linear and frozen once a die is made folds into matrices; what is left decides the plan. The first of
this ordered list that fits is taken, and the others' answers say why they were not:

=================  ==============================================================  =====================================
plan               when                                                            work
=================  ==============================================================  =====================================
exact              whole levels, no converter error possible on this die           one exact product
folded             no converter                                                    one product (and one for read noise)
bitplane           a converter for each read, whole levels, several planes         look-up, or AND + popcount, on bits
tiled              a converter for each read, one plane                            one product for each group of tiles
bitplane-analog    a converter for each read, anything else                        one product for each plane and group
=================  ==============================================================  =====================================

Every sum runs in a fixed order (see :mod:`xbarsim.engine.kernels`), so no result depends on threads or on batch size.
Whole levels are summed exactly: float32 where all sums stay below 2^24, else float64. Conductances off the levels are
summed in float32 by default, which can move a value by some 1e-6 of its range and so, rarely, a code by one step; with
``precision="double"`` they are summed in float64, which is exact on their grid of 2^-16 level steps and equal to the
reference bit for bit.

What another machine gives. On one machine every plan gives the same bits each time. Across processors, and versions of
numba and OpenBLAS, the same bits are promised wherever sums are of whole numbers and there is no read noise: by
exact and bitplane always, by folded and tiled on whole levels, by every plan with ``precision="double"``. Such sums are
exact in any order, and each converter code is one comparison of them. Elsewhere, off the levels in single precision and
for all read noise (whose normal deviates come from logarithms and roots), a product may differ by 1e-6 of the largest
of its layer; behind a converter a code may round the other way, which at most one in a thousand does.
``tests/engine/test_across_machines.py`` compares what this processor gives with code compiled for the least that numba
knows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy.typing as npt

from xbarsim.design import Converter, ConverterErrors, Drive
from xbarsim.engine.backends import Backend
from xbarsim.engine.case import Case
from xbarsim.engine.noise import Noise
from xbarsim.engine.plans.base import Plan
from xbarsim.engine.plans.bitplane import BitplanePlan
from xbarsim.engine.plans.bitplane_analog import BitplaneAnalogPlan
from xbarsim.engine.plans.exact import ExactPlan
from xbarsim.engine.plans.folded import FoldedPlan
from xbarsim.engine.plans.tiled import TiledPlan
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Reading

__all__ = ["PLANS", "Plan", "choose_plan", "common_fit", "first_fit", "make_plan", "plan_case"]

#: The plans, cheapest first; the last one fits every case.
PLANS: tuple[type[Plan], ...] = (ExactPlan, FoldedPlan, BitplanePlan, TiledPlan, BitplaneAnalogPlan)


def first_fit(case: Case, plans: tuple[type[Plan], ...] = PLANS) -> tuple[type[Plan], str]:
    """The first plan that fits a case, and why: what the case is like, and what the plans before have against it."""
    return common_fit([case], plans)


@entrance
def common_fit(cases: Sequence[Case], plans: tuple[type[Plan], ...] = PLANS) -> tuple[type[Plan], str]:
    """The first plan that fits all cases of a layer on some dies, and why; as :func:`first_fit` for one.

    Raises
    ------
    InputError
        If there is no case, or none of the plans fits.
    """
    if not cases:
        raise InputError("cases must be at least one, got none")
    against: list[str] = []
    for plan in plans:
        misfits = [(case, misfit) for case in cases if (misfit := plan.misfit(case)) is not None]
        if not misfits:
            reason = cases[0].describe()
            return plan, f"{reason} (not {'; not '.join(against)})" if against else reason
        against.append(f"{plan.name}: {misfits[0][1]}")
    raise InputError(f"plans must be some of which one fits, got {'; '.join(against) or 'none'}")


@entrance
def choose_plan(
    reading: Reading,
    cells: npt.NDArray[Any],
    drive: Drive,
    converter: Converter,
    *,
    whole: bool,
    noisy: bool,
    offsets: bool = False,
) -> tuple[type[Plan], str]:
    """The cheapest exact plan for a layer, and why: what it is like, and what the cheaper plans have against it.

    Parameters
    ----------
    reading
        The placed matrix, and what its columns count.
    cells
        What its cells hold, in level units, shape ``(tiles, rows, columns)``; read only where `whole`.
    drive, converter
        How the tiles are driven and read.
    whole
        Whether all cells sit on whole levels.
    noisy
        Whether reads are noisy.
    offsets
        Whether drivers have offsets, or converters offsets or bits of wrong weight.
    """
    case = Case(
        reading=reading,
        drive=drive,
        converter=converter,
        cells=cells,
        whole=whole,
        noisy=noisy,
        offsets=offsets,
    )
    return first_fit(case)


@entrance
def make_plan(
    reading: Reading,
    cells: npt.NDArray[Any],
    drive: Drive,
    converter: Converter,
    noise: Noise | None = None,
    errors: ConverterErrors | None = None,
    *,
    precision: Literal["single", "double"] = "single",
    plans: tuple[type[Plan], ...] = PLANS,
    backend: Backend | None = None,
) -> Plan:
    """Choose the cheapest exact way to compute a layer of a die, and prepare it.

    Parameters
    ----------
    reading
        The placed matrix, and what its columns count.
    cells
        What reads see of the die's cells, in level units, shape ``(tiles, rows, columns)``.
    drive, converter
        How the tiles are driven and read.
    noise
        Read noise, or ``None``.
    errors
        Offsets and bit weights of drivers and converters, or ``None``.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference bit for bit.
    plans
        Plans to choose from, in order.
    backend
        What computes the plan; by default the project's own kernels.
    """
    case = Case.of(reading, cells, drive, converter, noise, errors, precision=precision)
    return plan_case(case, backend, plans)


@entrance
def plan_case(case: Case, backend: Backend | None = None, plans: tuple[type[Plan], ...] = PLANS) -> Plan:
    """As :func:`make_plan`, for a case that is made already."""
    plan, reason = first_fit(case, plans)
    return plan(case, reason, backend)
