"""Rows, columns, slices and tiles that take other lines: searches against brute force, dies against permuted arrays."""

from __future__ import annotations

import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import xbarsim as xb
from tests.strategies import encodings
from xbarsim.circuit import Wires
from xbarsim.design import AdcErrors, DacErrors
from xbarsim.devices import Cell, FaultKind, FaultMap, LineFaults, StuckFaults
from xbarsim.engine import reference_multiply
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Mapping, Offset, TwoColumn, map_matrix
from xbarsim.mitigation import (
    AssignArrays,
    ClosestValue,
    Diagnosis,
    FlipSigns,
    KnownLayer,
    KnownTile,
    OrderSlices,
    PermuteColumns,
    PermuteRows,
)
from xbarsim.mitigation import closest_cells as cells_module
from xbarsim.mitigation.line_costs import column_costs, column_groups, row_costs

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = Cell(g_min=1e-6, g_max=1.6e-5, levels=256, read_voltage=0.2)
RNG = np.random.default_rng


@st.composite
def tiles(draw: st.DrawFn, *, spare: int = 2, analog: bool = True) -> KnownTile:
    """A small tile with unused rows and outputs, on an array with spare lines, some cells stuck off the levels."""
    encoding = draw(encodings())
    cell_bits, weight_bits = draw(st.sampled_from([(1, 3), (2, 4), (3, 4), (2, 5)]))
    cells = encoding.slice_count(weight_bits, cell_bits) * encoding.sides
    mapping = Mapping(
        encoding=encoding,
        rows=5,
        columns=3 * cells + encoding.has_reference,
        weight_bits=weight_bits,
        cell_bits=cell_bits,
        pack="none",
    )
    rng = RNG(draw(st.integers(0, 2**32 - 1)))
    largest = mapping.max_weight
    matrix = map_matrix(rng.integers(-largest, largest, (4, 2), endpoint=True), mapping)
    arrays = (1, 5 + spare, mapping.columns + cells + 1)
    kinds = np.where(rng.random(arrays) < 0.25, rng.integers(1, 4 if analog else 3, arrays), 0)
    layer = KnownLayer.of(
        matrix,
        cell=CELL,
        faults=FaultMap.from_dense(kinds, rng.uniform(0.0, 1.5 * CELL.g_max, arrays)),
        input_power=rng.uniform(0.1, 1.0, 4),
        weight_scale=rng.uniform(0.5, 2.0, 2),
        spare_rows=spare,
        spare_columns=cells + 1,
    )
    return layer.tile(0)


def moved(tile: KnownTile, rows: list[int]) -> float:
    """Error of the tile with its used rows on these lines, every weight brought as close as its cells there can."""
    lines = np.full(len(tile.fit.rows), -1, np.int32)
    used = np.flatnonzero(tile.used_rows)
    lines[used] = rows
    free = [line for line in range(len(tile.array_stuck_at)) if line not in rows]  # type: ignore[arg-type]
    lines[lines < 0] = free[: len(lines) - len(used)]
    there = replace(tile, fit=replace(tile.fit, rows=lines))
    return there.error(ClosestValue().fit(there, RNG(0)))


@settings(deadline=None, max_examples=40)
@given(tile=tiles())
def test_the_cost_of_a_line_is_the_error_of_the_row_there(tile: KnownTile) -> None:
    costs = row_costs(tile)
    rows = np.flatnonzero(tile.used_rows)
    for start in range(costs.shape[0]):
        lines = [(start + step) % costs.shape[0] for step in range(len(rows))]
        expected = costs[lines, np.arange(len(rows))].sum()
        np.testing.assert_allclose(moved(tile, lines), expected, rtol=1e-5, atol=1e-9)


@settings(deadline=None, max_examples=15)
@given(tile=tiles(spare=1))
def test_the_exact_order_is_the_best_of_all_orders_and_the_others_no_better(tile: KnownTile) -> None:
    """Also: greedy and in order never lose against leaving the rows where they are."""
    lines = range(len(tile.array_stuck_at))  # type: ignore[arg-type]
    count = int(tile.used_rows.sum())
    best = min(moved(tile, list(order)) for order in itertools.permutations(lines, count))
    sorted_best = min(moved(tile, list(order)) for order in itertools.combinations(lines, count))
    exact, greedy, ordered = (
        tile.error(PermuteRows(search=search).fit(tile, RNG(0))) for search in ("exact", "greedy", "in order")
    )
    stay = tile.error(ClosestValue().fit(tile, RNG(0)))
    tolerance = 1e-5 * stay + 1e-9
    assert abs(exact - best) <= tolerance
    assert abs(ordered - sorted_best) <= tolerance
    assert exact <= greedy + tolerance
    assert exact <= ordered + tolerance
    assert greedy <= stay + tolerance
    assert ordered <= stay + tolerance


@settings(deadline=None, max_examples=20)
@given(tile=tiles())
def test_columns_take_the_best_groups(tile: KnownTile) -> None:
    costs = column_costs(tile)
    groups = column_groups(tile)
    outputs = np.flatnonzero(tile.used_outputs)
    cells = groups.shape[1]

    def error(order: tuple[int, ...]) -> float:
        columns = tile.fit.columns.copy()
        left = [group for group in range(len(groups)) if group not in order]
        places = np.array([*order, *left][: tile.mapping.outputs_per_tile])
        columns[: places.size * cells] = groups[places].reshape(-1)
        there = replace(tile, fit=replace(tile.fit, columns=columns))
        return there.error(ClosestValue().fit(there, RNG(0)))

    every = {order: error(order) for order in itertools.permutations(range(len(groups)), len(outputs))}
    for order, expected in every.items():
        np.testing.assert_allclose(costs[list(order), np.arange(len(outputs))].sum(), expected, rtol=1e-5, atol=1e-9)
    found = tile.error(PermuteColumns().fit(tile, RNG(0)))
    np.testing.assert_allclose(found, min(every.values()), rtol=1e-5, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(tile=tiles())
def test_more_spare_lines_are_never_worse(tile: KnownTile) -> None:
    array = tile.layer.stuck_at
    assert array is not None
    errors = []
    for spare in (0, 1, 2):
        fewer = replace(tile.layer, stuck_at=array[:, : tile.mapping.rows + spare])
        some = fewer.tile(0)
        errors.append(some.error(PermuteRows().fit(some, RNG(0))))
    assert errors[0] * (1 + 1e-6) + 1e-9 >= errors[1]
    assert errors[1] * (1 + 1e-6) + 1e-9 >= errors[2]


@settings(deadline=None, max_examples=30)
@given(tile=tiles())
def test_signs_and_slices_are_the_best_of_their_orders(tile: KnownTile) -> None:
    """Every choice for every output, tried one by one."""
    mapping = tile.mapping
    slices, sides = mapping.slices, mapping.sides
    flips = list(itertools.product((0, 1), repeat=slices)) if sides == 2 else []
    orders = {
        "output": [tuple(2 * s + (side ^ flip) for s in range(slices) for side in (0, 1)) for flip in (0, 1)],
        "slice": [tuple(2 * s + (side ^ flip[s]) for s in range(slices) for side in (0, 1)) for flip in flips],
        "order": [
            tuple(sides * s + side for s in order for side in range(sides))
            for order in itertools.permutations(range(slices))
        ],
    }
    methods: dict[str, Any] = {"output": FlipSigns(), "slice": FlipSigns(each="slice"), "order": OrderSlices()}
    for name, method in methods.items():
        if sides != 2 and name != "order":
            assert method.fit(tile, RNG(0)).columns.tolist() == tile.fit.columns.tolist()
            continue
        best = np.full(2, np.inf)
        for order in orders[name]:
            columns = tile.fit.columns.copy()
            for output in range(2):
                own = tile.columns_of(output)
                columns[own] = columns[own][list(order)]
            there = replace(tile, fit=replace(tile.fit, columns=columns))
            deviation = there.deviation(ClosestValue().fit(there, RNG(0)))
            best = np.minimum(best, (tile.importance * deviation**2).sum(axis=0)[:2])
        found = tile.error(method.fit(tile, RNG(0)))
        np.testing.assert_allclose(found, best.sum(), rtol=1e-5, atol=1e-9)


def test_flips_are_refused_where_there_are_no_pairs() -> None:
    design = xb.Design(
        cell=CELL, mapping=Mapping(encoding=Offset(), rows=8, columns=9), faults=StuckFaults(on=0.1, off=0)
    )
    with pytest.raises(InputError, match="FlipSigns exchanges the columns of pairs, got Offset"):
        xb.Crossbar(np.ones((8, 2)), design, seed=1, mitigations=(FlipSigns(),), diagnosis=Diagnosis())


def test_tiles_take_arrays_by_faults_or_by_all_trials() -> None:
    rng = RNG(5)
    mapping = Mapping(encoding=Differential(), rows=4, columns=8, weight_bits=4, cell_bits=3, pack="none")
    matrix = map_matrix(rng.integers(-7, 7, (12, 4), endpoint=True), mapping)
    kinds = np.zeros(matrix.levels.shape, int)
    for array in range(len(kinds)):  # arrays that differ
        kinds[array] = np.where(rng.random((4, 8)) < 0.6 * array / len(kinds), rng.integers(1, 3, (4, 8)), 0)
    layer = KnownLayer.of(matrix, cell=CELL, faults=FaultMap.from_dense(kinds))
    generators = [RNG(0)] * matrix.tiles
    errors = {
        search: layer.with_fits(AssignArrays(search=search).fit_layer(layer, generators)).errors().sum()
        for search in ("count", "exact")
    }
    stay = layer.with_fits(ClosestValue().fit_layer(layer, generators)).errors().sum()
    assert errors["exact"] <= errors["count"] <= stay
    assert errors["exact"] < 0.9 * stay

    def lost(order: tuple[int, ...]) -> float:
        fits = tuple(replace(fit, array=array) for fit, array in zip(layer.fits, order, strict=True))
        there = layer.with_fits(fits)
        return float(there.with_fits(ClosestValue().fit_layer(there, generators)).errors().sum())

    best = min(lost(order) for order in itertools.permutations(range(matrix.tiles)))
    np.testing.assert_allclose(errors["exact"], best, rtol=1e-6)


def test_all_tiles_at_once_are_what_they_are_one_by_one() -> None:
    rng = RNG(7)
    mapping = Mapping(encoding=Differential(), rows=8, columns=16, weight_bits=6, cell_bits=3, pack="none")
    matrix = map_matrix(rng.integers(-31, 31, (20, 9), endpoint=True), mapping)
    faults = StuckFaults(on=0.1, off=0.05).sample(matrix.levels.shape, rng)
    layer = KnownLayer.of(matrix, cell=CELL, faults=faults)
    generators = [RNG(0)] * matrix.tiles
    for method in (ClosestValue(), PermuteRows(), PermuteColumns(), FlipSigns(), OrderSlices()):
        together = method.fit_layer(layer, generators)
        for tile, fit in enumerate(together):
            alone = method.fit(layer.tile(tile), RNG(0))
            for part in ("levels", "rows", "columns"):
                np.testing.assert_array_equal(getattr(fit, part), getattr(alone, part))
        errors = layer.with_fits(together).errors()
        np.testing.assert_allclose(errors, [layer.tile(t).error(fit) for t, fit in enumerate(together)])


# --- on dies


def broken(**changes: Any) -> xb.Design:
    mapping = Mapping(encoding=Differential(), rows=16, columns=24, cell_bits=4, weight_bits=8)
    return xb.Design(cell=CELL, mapping=mapping, faults=StuckFaults(on=0.08, off=0.04)).replace(**changes)


WEIGHTS = RNG(3).normal(size=(30, 9))
VECTORS = RNG(4).integers(-127, 127, (20, 30), endpoint=True)


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"wires": Wires(word_line_resistance=2.0, bit_line_resistance=1.0)},
        {"line_faults": LineFaults(open_word_line=0.05, open_bit_line=0.05)},
        {"periphery": xb.Periphery(active_rows=6)},
        {
            "periphery": xb.Periphery(
                adc_bits=6,
                adc_range="full",
                dac_bits=8,
                adc_errors=AdcErrors(gain=0.05, offset=0.5),
                dac_errors=DacErrors(gain=0.05),
            )
        },
    ],
    ids=["ideal", "wires", "lines", "groups", "converters"],
)
@pytest.mark.parametrize("encoding", [Differential(), TwoColumn()], ids=repr)
def test_a_die_with_moved_lines_is_the_arrays_permuted(changes: dict[str, Any], encoding: Any) -> None:
    """Every cell stands in the arrays where the arrangement says, and the die answers as these arrays are read.

    The arrays are read here one by one, by the definition: rows are driven, columns read, in the order of the arrays.
    """
    design = broken(**changes)
    design = design.replace(mapping=replace(design.mapping, encoding=encoding))
    methods = (PermuteRows(spare=3), PermuteColumns(spare=5), FlipSigns(), OrderSlices(), AssignArrays())
    die = xb.Crossbar(WEIGHTS, design, seed=2, mitigations=methods, diagnosis=Diagnosis(), precision="double")
    layer = die.layer
    placed = layer.arrangement
    assert placed is not None
    assert placed.shape == (layer.matrix.tiles, 19, 29)
    arrays = layer.array_cells()
    stuck = layer.faults.dense()
    levels = np.zeros(placed.shape, np.uint8)
    for tile in range(layer.matrix.tiles):
        levels[placed.arrays[tile]][np.ix_(placed.rows[tile], placed.columns[tile])] = layer.targets[tile]
    np.testing.assert_array_equal(arrays[stuck == 0], levels[stuck == 0])
    assert set(np.unique(arrays[stuck > 0])) <= {0.0, 15.0}
    for tile in range(layer.matrix.tiles):
        lines = np.ix_(placed.rows[tile], placed.columns[tile])
        np.testing.assert_array_equal(layer.cells()[tile], arrays[placed.arrays[tile]][lines])
        np.testing.assert_array_equal(layer.tile_faults.dense()[tile], stuck[placed.arrays[tile]][lines])
    cells, errors = layer.seen()
    expected = reference_multiply(
        VECTORS.astype(np.int32), layer.reading, cells, layer.drive, layer.converter, errors=errors
    )
    answer = die.multiply(VECTORS) / die._mapped.layer.weight_scale
    np.testing.assert_allclose(answer, expected, rtol=1e-12, atol=1e-9)
    if not changes:  # by hand: each bit line's sum over the word lines, in the order of the arrays
        held = layer.matrix.decode(layer.cells())
        np.testing.assert_allclose(answer, VECTORS @ held, rtol=1e-12)
        total = np.zeros((len(VECTORS), 9))
        for tile, array in enumerate(placed.arrays.tolist()):
            inputs = np.zeros((len(VECTORS), placed.shape[1]))
            used = layer.matrix.tile_rows[tile] >= 0
            inputs[:, placed.rows[tile, used]] = VECTORS[:, layer.matrix.tile_rows[tile, used]]
            sums = inputs @ arrays[array].astype(float)
            for place, output in enumerate(layer.matrix.tile_outputs[tile]):
                if output >= 0:
                    columns = placed.columns[tile, 4 * place : 4 * place + 4]
                    low_plus, low_minus, high_plus, high_minus = (sums[:, line] for line in columns)
                    total[:, output] += low_plus - low_minus + 16 * (high_plus - high_minus)
        np.testing.assert_allclose(answer, total, rtol=1e-12)


def test_patterns_that_never_come_twice_are_forgotten_and_threads_do_not_meet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells stuck anywhere: the memory of patterns stays bounded, and no answer depends on what came before."""
    monkeypatch.setattr(cells_module, "_MOST_PATTERNS", 50)
    rng = RNG(8)
    mapping = Mapping(encoding=Differential(), rows=16, columns=24, weight_bits=8, cell_bits=4, pack="none")
    matrix = map_matrix(rng.integers(-127, 127, (16, 6), endpoint=True), mapping)
    tiles_ = []
    for _ in range(6):
        kinds = np.where(rng.random(matrix.levels.shape) < 0.3, int(FaultKind.STUCK_AT), 0)
        values = rng.uniform(0, CELL.g_max, matrix.levels.shape)
        tiles_.append(KnownLayer.of(matrix, cell=CELL, faults=FaultMap.from_dense(kinds, values)).tile(0))
    method = PermuteRows()
    table = cells_module.closest_cells(mapping)
    one_by_one = []
    for tile in tiles_:
        one_by_one.append(method.fit(tile, RNG(0)))
        assert len(table._patterns) < 50 + 16 * 6 * 2
    monkeypatch.setattr(cells_module, "_MOST_PATTERNS", 10**6)
    with ThreadPoolExecutor(3) as pool:
        together = list(pool.map(lambda tile: method.fit(tile, RNG(0)), tiles_))
    for one, other in zip(one_by_one, together, strict=True):
        np.testing.assert_array_equal(one.levels, other.levels)
        np.testing.assert_array_equal(one.rows, other.rows)


def test_what_a_moved_die_sees_is_what_the_circuit_of_its_arrays_gives() -> None:
    """Wires see the arrays as they are built: current of each column, solved node by node, rows driven one by one."""
    design = broken(wires=Wires(word_line_resistance=3.0, bit_line_resistance=2.0))
    die = xb.Crossbar(WEIGHTS, design, seed=2, mitigations=(PermuteRows(spare=2),), diagnosis=Diagnosis())
    layer, placed = die.layer, die.layer.arrangement
    assert placed is not None
    seen, _ = layer.seen()
    conductance = CELL.conductance(seen, design.mapping.cell_bits)
    tile = 1
    row = 4
    voltages = np.zeros(placed.shape[1])
    voltages[placed.rows[tile, row]] = 1.0
    currents = layer.solve(tile, voltages=voltages).column_currents
    np.testing.assert_allclose(conductance[tile, row], currents[placed.columns[tile]], rtol=1e-4)


def test_pairs_that_are_taken_apart_are_refused() -> None:
    die = xb.Crossbar(WEIGHTS, broken(), seed=2, mitigations=(PermuteRows(),), diagnosis=Diagnosis())
    placed = die.layer.arrangement
    assert placed is not None
    columns = placed.columns.copy()
    columns[:, [0, 3]] = columns[:, [3, 0]]
    with pytest.raises(InputError, match="arrangement must keep pairs of columns"):
        replace(die.layer, arrangement=replace(placed, columns=columns))
    with pytest.raises(InputError, match="arrangement must be of tiles"):
        replace(die.layer, arrangement=xb.mapping.Arrangement.identity((1, 16, 24)))


def test_open_lines_are_known_and_left_out() -> None:
    """A row whose word line is cut carries nothing: with a spare line it lies elsewhere, and nothing is lost."""
    design = broken(faults=None, line_faults=LineFaults(open_word_line=0.1))
    plain, left_out = (
        xb.Crossbar(WEIGHTS, design, seed=4, mitigations=methods, diagnosis=Diagnosis())
        for methods in ((), (PermuteRows(spare=8),))
    )
    exact = plain.digital(VECTORS)
    assert np.abs(plain.multiply(VECTORS) - exact).max() > 1.0
    np.testing.assert_allclose(left_out.multiply(VECTORS), exact, rtol=1e-6, atol=1e-6)


def test_a_false_alarm_costs_nothing_where_the_rest_can_make_up_for_it() -> None:
    """Cells believed to be stuck are written to where they are believed to be: what was repaired so is right."""
    mapping = Mapping(encoding=TwoColumn(), rows=2, columns=4, weight_bits=4, cell_bits=3)
    matrix = map_matrix(np.array([[5], [-3]]), mapping)
    believed = FaultMap.from_dense(np.array([[[0, FaultKind.STUCK_ON, 0, 0], [0, 0, 0, 0]]]))
    tile = KnownLayer.of(matrix, cell=CELL, faults=believed).tile(0)
    fit = ClosestValue().fit(tile, RNG(0))
    truth = KnownLayer.of(matrix, cell=CELL).tile(0)  # nothing is broken
    np.testing.assert_array_equal(truth.deviation(fit), tile.deviation(fit))
