"""A converter for each read, several planes of anything: a product for each plane and group of tiles."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout
from xbarsim.engine.plans.base import Plan, planes_layout

__all__ = ["BitplaneAnalogPlan"]


class BitplaneAnalogPlan(Plan):
    """A converter for each read, several planes of anything: a product for each plane and group; fits every case."""

    name: ClassVar[str] = "bitplane-analog"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """Nothing: this is the definition, read by read."""
        return None

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """Every plane on its own."""
        return planes_layout(case)
