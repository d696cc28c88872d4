"""Whole levels and no possible converter error: an integer product."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout
from xbarsim.engine.plans.base import Plan
from xbarsim.engine.plans.whole import whole_layout

__all__ = ["ExactPlan"]


class ExactPlan(Plan):
    """Whole levels and no possible converter error: an integer product."""

    name: ClassVar[str] = "exact"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """Anything that takes a sum off the whole numbers, or a converter that could lose some of it."""
        converter = case.converter
        if case.offsets:
            return "drivers or converters have offsets"
        if case.drive.values is not None:
            return "currents are not proportional to the codes that are driven"
        if case.noisy:
            return "reads are noisy"
        if not case.whole:
            return "conductances are not whole"
        if converter.step is None:
            return None
        if converter.step != 1.0:
            return f"converter steps of {converter.step:.4g} units round sums"
        bound = converter.high if converter.low == 0 else min(converter.high, -converter.low)
        if case.largest_read > bound:
            return f"a read of {case.largest_read:.6g} would leave the converter's {bound} codes"
        return None

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """One product with the effective matrix."""
        return whole_layout(case)
