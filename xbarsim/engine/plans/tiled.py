"""A converter for each read, one plane: a product for each group of tiles, converted and added."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout
from xbarsim.engine.plans.base import Plan, planes_layout

__all__ = ["TiledPlan"]


class TiledPlan(Plan):
    """A converter for each read, one plane: a product for each group of tiles, converted and added."""

    name: ClassVar[str] = "tiled"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """More than one plane."""
        return None if case.drive.planes == 1 else f"inputs are {case.drive.planes} planes"

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """The plane as it is."""
        return planes_layout(case)
