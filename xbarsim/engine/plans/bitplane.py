"""Whole levels, a converter for each read, several planes: bits by table look-up, or by AND and popcount."""

from __future__ import annotations

from typing import ClassVar

from xbarsim.engine.case import Case
from xbarsim.engine.layout import Layout
from xbarsim.engine.plans.base import Plan, planes_layout

__all__ = ["BitplanePlan"]


class BitplanePlan(Plan):
    """Whole levels, a converter for each read: bit planes by table look-up, or by AND and popcount on packed words.

    Four rows of a column have 16 partial sums; a byte shuffle looks up one of them for 32 or 64 images at once. Where
    its bounds are not met (wide cells, g_min currents of columns that are read singly, a processor without AVX2) bits
    are counted instead.
    """

    name: ClassVar[str] = "bitplane"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """Anything that is no bit: offsets, noise, conductances between or beyond the levels; or a single plane."""
        if case.offsets:
            return "drivers or converters have offsets"
        if case.drive.values is not None:
            return "currents are not proportional to the codes that are driven"
        if case.noisy:
            return "reads are noisy"
        if not case.whole:
            return "conductances are not whole"
        if case.converter.step is None:
            return "there is no converter"
        if case.drive.planes == 1:
            return "inputs are one plane"
        if not case.within_levels:
            return "a cell is stuck beyond the levels"
        return None

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """Planes of bits."""
        return planes_layout(case, bits=True)
