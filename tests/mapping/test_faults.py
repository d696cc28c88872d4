"""Fault maps on a mapped matrix: what they touch, and the duality of two encodings."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import code_matrices, mappings, relaxed, slice_weight, stuck_maps
from xbarsim.devices import Cell, FaultMap, StuckFaults
from xbarsim.mapping import Differential, MappedMatrix, Mapping, TwoColumn, map_matrix

CELL = Cell(g_min=1e-6, g_max=100e-6, levels=256)

Array = npt.NDArray[Any]


def with_faults(mapped: MappedMatrix, faults: FaultMap) -> Array:
    """The levels of the mapped cells once the faults are in."""
    return faults.apply(mapped.levels.astype(np.float64), faults.stuck_levels(CELL, mapped.mapping.cell_bits))


def exchange_sides(faults: FaultMap, mapping: Mapping) -> FaultMap:
    """The map with the two cells of every pair exchanged; columns beyond the last pair stay."""
    paired = mapping.outputs_per_tile * mapping.slices * 2
    columns = np.arange(mapping.columns)
    columns[:paired] ^= 1
    return FaultMap.from_dense(faults.dense()[:, :, columns])


@relaxed
@given(data=st.data(), mapping=mappings())
def test_zero_rates_change_nothing(data: st.DataObject, mapping: Mapping) -> None:
    codes = data.draw(code_matrices(mapping))
    mapped = map_matrix(codes, mapping)
    for count in ("independent", "exact"):
        model = StuckFaults(on=0.0, off=0.0, count=count)
        faults = model.sample(mapped.levels.shape, np.random.default_rng(7))
        np.testing.assert_array_equal(mapped.decode(with_faults(mapped, faults)), codes)


@relaxed
@given(data=st.data(), mapping=mappings())
def test_a_fault_map_touches_exactly_its_cells(data: st.DataObject, mapping: Mapping) -> None:
    codes = data.draw(code_matrices(mapping))
    mapped = map_matrix(codes, mapping)
    faults = data.draw(stuck_maps(mapped.levels.shape))
    expected = codes.astype(np.float64)
    for place, kind in zip(np.transpose(np.unravel_index(faults.index, faults.shape)), faults.kind, strict=True):
        tile, row, column = (int(part) for part in place)
        cell = mapped.weight_at(tile, row, column)
        if cell is None:
            continue  # a fault in an unused cell changes nothing
        stuck = mapping.max_level if kind == 2 else 0
        change = (stuck - int(mapped.levels[tile, row, column])) * slice_weight(mapping, cell.slice)
        if cell.is_reference:
            outputs = mapped.tile_outputs[tile]
            expected[cell.row, outputs[outputs >= 0]] -= change
        else:
            expected[cell.row, cell.output] += -change if cell.side else change
    faulty = with_faults(mapped, faults)
    np.testing.assert_array_equal(mapped.decode(faulty), expected)
    np.testing.assert_array_equal(mapped.codes(), codes)  # the mapping itself is not touched


@relaxed
@given(data=st.data(), mapping=mappings(encoding=Differential()))
def test_differential_under_a_map_is_two_column_under_its_complement(data: st.DataObject, mapping: Mapping) -> None:
    """Exactly: Differential under f reads what TwoColumn does under f with kinds and sides exchanged."""
    codes = data.draw(code_matrices(mapping))
    differential = map_matrix(codes, mapping)
    two_column = map_matrix(codes, replace(mapping, encoding=TwoColumn()))
    faults = data.draw(stuck_maps(differential.levels.shape))
    dual = exchange_sides(faults.complement(), mapping)
    np.testing.assert_array_equal(
        differential.decode(with_faults(differential, faults)),
        two_column.decode(with_faults(two_column, dual)),
    )
    assert (dual.on_rate, dual.off_rate) == (faults.off_rate, faults.on_rate)


def test_the_duality_in_rates() -> None:
    """Differential under rates (off, on) and TwoColumn under (on, off): one map each way, from one die."""
    rng = np.random.default_rng(3)
    mapping = Mapping(encoding=Differential())
    codes = rng.integers(-127, 128, size=(200, 50)) * (rng.random((200, 50)) < 0.4)
    differential = map_matrix(codes, mapping)
    two_column = map_matrix(codes, replace(mapping, encoding=TwoColumn()))
    faults = StuckFaults(on=0.08, off=0.02).sample(differential.levels.shape, rng)
    assert faults.on_rate > faults.off_rate > 0
    dual = exchange_sides(faults.complement(), mapping)
    errors = differential.decode(with_faults(differential, faults)) - codes
    np.testing.assert_array_equal(two_column.decode(with_faults(two_column, dual)) - codes, errors)
    assert (errors != 0).any()
    unmirrored = two_column.decode(with_faults(two_column, faults)) - codes
    assert np.square(unmirrored).mean() > 2 * np.square(errors).mean()  # stuck-on cells are Differential's gain


def test_which_fault_each_encoding_forgives() -> None:
    """The table of the definitions: zero weights, with one whole tile stuck one way."""
    codes = np.zeros((2, 2), dtype=int)
    for encoding, kind in ((TwoColumn(), 1), (Differential(), 2)):
        mapped = map_matrix(codes, Mapping(encoding=encoding, rows=2, columns=8, pack="none"))
        for stuck in (1, 2):
            kinds = np.zeros(mapped.levels.shape, dtype=np.uint8)
            kinds[:, :, ::2] = stuck  # one side of each pair
            weights = mapped.decode(with_faults(mapped, FaultMap.from_dense(kinds)))
            assert (weights == 0).all() == (stuck == kind)
