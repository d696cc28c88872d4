"""A newcomer's plan: one class in one file, offered to the choice of plans in front of the others."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from tests.strategies import TiledLayer
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import PLANS, Case, Layout, Plan, whole_layout
from xbarsim.mapping import Mapping, map_matrix
from xbarsim.testing import check_plan


class OneRowPlan(Plan):
    """One driven row at a time, whole levels, steps of one unit: a converter that holds M x plane code cannot err."""

    name: ClassVar[str] = "one-row"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """Anything but single rows of whole levels within a converter's codes."""
        if not case.whole or case.noisy or case.offsets:
            return "cells must be whole, reads without noise or offsets"
        if case.drive.active_rows != 1:
            return "more than one row is driven at a time"
        converter = case.converter
        if converter.step != 1.0 or not case.reading.paired:
            return "columns must be pairs, steps one unit"
        largest = np.abs(case.reading.differences(case.cells)).max(initial=0) * case.drive.max_plane
        return None if largest <= min(converter.high, -converter.low) else "a single cell leaves the converter's range"

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """One product with the effective matrix."""
        return whole_layout(case)


class EmptyPlan(Plan):
    """A matrix without weights."""

    name: ClassVar[str] = "empty"

    @classmethod
    def misfit(cls, case: Case) -> str | None:
        """A tile."""
        return f"there are {case.reading.matrix.tiles} tiles" if case.reading.matrix.tiles else None

    @classmethod
    def layout(cls, case: Case) -> Layout:
        """Nothing."""
        return whole_layout(case)


def test_it_keeps_the_promise_of_a_plan() -> None:
    check_plan(EmptyPlan)
    for plan in PLANS:
        check_plan(plan, examples=60)


def test_it_is_chosen_where_it_fits_and_named_where_it_does_not() -> None:
    mapping = Mapping(rows=16, columns=8, weight_bits=5, cell_bits=4)
    cell = Cell(g_min=1e-6, g_max=1.2e-5, levels=16)
    codes = np.random.default_rng(0).integers(-15, 16, (16, 3))
    for together, name in ((1, "one-row"), (4, "bitplane")):
        periphery = Periphery(active_rows=together, dac_bits=2, adc_bits=7, adc_range=63.0)
        layer = TiledLayer.of(
            map_matrix(codes, mapping), Design(cell=cell, mapping=mapping, periphery=periphery), signed=False, rows=16
        )
        cells = layer.mapped.levels.astype(np.float32)
        made = layer.plan(cells, plans=(OneRowPlan, *PLANS[1:]))
        assert made.name == name
        assert ("one-row: more than one row is driven" in made.reason) == (together > 1)
        inputs = np.random.default_rng(1).integers(0, 256, (5, 16))
        np.testing.assert_array_equal(made.multiply(inputs[None])[0], layer.product(inputs, cells))
