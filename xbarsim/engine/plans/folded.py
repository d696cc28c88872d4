"""No converter: an effective matrix, and read noise by its exact distribution for each output."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout
from xbarsim.engine.plans.base import Plan
from xbarsim.engine.plans.whole import whole_layout

__all__ = ["FoldedPlan"]


class FoldedPlan(Plan):
    """No converter: an effective matrix, and read noise by its exact distribution for each output."""

    name: ClassVar[str] = "folded"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """A converter, or noise that outputs share."""
        if case.offsets:
            return "drivers or converters have offsets"
        if case.drive.values is not None:
            return "currents are not proportional to the codes that are driven"
        if case.converter.step is not None:
            return "every read passes a converter"
        if case.noisy and bool(case.reading.shared.any()):
            return "a tile's outputs share the noise of its reference column"
        return None

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """One product with the effective matrix."""
        return whole_layout(case)
