"""What reads see through wires and broken lines: against the circuit written down node by node, and closed forms."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from tests.strategies import ALL_ENCODINGS
from xbarsim.circuit import Wires, reference_effective_conductance
from xbarsim.design import Design, Drive, Periphery
from xbarsim.devices import GRID, BrokenLines, Cell
from xbarsim.die import current_losses, seen_cells
from xbarsim.engine import reference_multiply
from xbarsim.mapping import Differential, Encoding, MappedMatrix, Mapping, Offset, TwoColumn, map_matrix

Array = npt.NDArray[Any]

CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=16)
DELTA = 1.1e-5 / 15
OFFSET = 1.5 / 1.1  # g_min in level steps


def nodal_currents(conductance: Array, voltages: Array, wires: Wires, selected: Array) -> Array:
    """Sensed currents of one array, A: Kirchhoff's law at every node of every line, as one dense matrix.

    Word lines are driven at the left, bit lines sensed at the last row; all resistances of lines and ends above zero.
    """
    rows, columns = conductance.shape
    count = rows * columns
    word = np.arange(count).reshape(rows, columns)
    matrix, source = np.zeros((2 * count, 2 * count)), np.zeros(2 * count)

    def tie(a: int, b: int, g: float) -> None:
        matrix[a, a] += g
        matrix[b, b] += g
        matrix[a, b] -= g
        matrix[b, a] -= g

    for r, c in product(range(rows), range(columns)):
        cell = conductance[r, c]
        if wires.access == "1T1R":
            cell = cell / (1 + cell * wires.access_resistance) if selected[r] else 0.0
        tie(word[r, c], word[r, c] + count, cell)
        if c + 1 < columns:
            tie(word[r, c], word[r, c + 1], 1 / wires.word_line_resistance)
        if r + 1 < rows:
            tie(word[r, c] + count, word[r + 1, c] + count, 1 / wires.bit_line_resistance)
    into = 1 / (wires.word_line_resistance + wires.driver_resistance)
    out = 1 / (wires.bit_line_resistance + wires.sense_resistance)
    for r in range(rows):
        if selected[r] or wires.unselected == "grounded":
            matrix[word[r, 0], word[r, 0]] += into
            source[word[r, 0]] += into * voltages[r]
    for c in range(columns):
        matrix[word[-1, c] + count, word[-1, c] + count] += out
    return np.asarray(np.linalg.solve(matrix, source)[word[-1] + count] * out)


def layer(
    encoding: Encoding | None = None,
    *,
    shape: tuple[int, int] = (9, 5),
    rows: int = 6,
    columns: int = 11,
    signed: bool = False,
    wires: Wires | None = None,
    **periphery: Any,
) -> tuple[Design, MappedMatrix, Drive]:
    """A layer whose last tiles have rows and columns left over."""
    mapping = Mapping(
        encoding=encoding or TwoColumn(), rows=rows, columns=columns, weight_bits=5, cell_bits=4, pack="none"
    )
    design = Design(cell=CELL, mapping=mapping, periphery=Periphery(input_bits=4, **periphery), wires=wires)
    weights = np.random.default_rng(2).integers(-mapping.max_weight, mapping.max_weight, shape, endpoint=True)
    return design, map_matrix(weights, mapping), design.drive(signed=signed)


def held(mapped: MappedMatrix, seed: int = 4) -> Array:
    """Cells off their levels and stuck ones, in unused places too; level units on the grid."""
    rng = np.random.default_rng(seed)
    cells = mapped.levels + np.rint(rng.normal(0, 0.2, mapped.levels.shape) / GRID) * GRID
    cells[rng.random(cells.shape) < 0.1] = 15.0
    cells[rng.random(cells.shape) < 0.1] = 0.0
    return np.maximum(cells, -1.0).astype(np.float32)


SURROUNDINGS: dict[str, Wires] = {
    "1T1R": Wires(
        word_line_resistance=300.0,
        bit_line_resistance=500.0,
        driver_resistance=800.0,
        sense_resistance=400.0,
        access_resistance=2e4,
    ),
    "0T1R, grounded": Wires(
        word_line_resistance=400.0, bit_line_resistance=200.0, driver_resistance=900.0, access="0T1R"
    ),
    "0T1R, floating": Wires(
        word_line_resistance=400.0,
        bit_line_resistance=200.0,
        sense_resistance=50.0,
        access="0T1R",
        unselected="floating",
    ),
}


# --- rows that are driven together


def test_activations_are_neighbours_of_the_array_and_empty_ones_are_not_read() -> None:
    drive = Drive(signed=False, input_bits=1, dac_bits=1, active_rows=3)
    used = np.array([1, 1, 0, 0, 0, 0, 1, 0, 1, 1, 1], bool)
    found = [(number, rows.tolist()) for number, rows in drive.row_groups(used)]
    assert found == [(0, [0, 1]), (2, [6, 8]), (3, [9, 10])]
    for together in (None, 11, 12):
        (one,) = replace(drive, active_rows=together).row_groups(used)
        assert one[0] == 0
        np.testing.assert_array_equal(one[1], np.flatnonzero(used))
    assert drive.row_groups(np.zeros(5, bool)) == []
    assert drive.row_group_count(11) == 4
    assert replace(drive, active_rows=None).row_group_count(11) == 1


# --- no wires, or ideal ones


@pytest.mark.parametrize("active_rows", [None, 2])
@pytest.mark.parametrize("encoding", ALL_ENCODINGS, ids=repr)
def test_ideal_surroundings_show_the_cells_as_they_are(encoding: Encoding, active_rows: int | None) -> None:
    design, mapped, drive = layer(encoding, active_rows=active_rows)
    for cells in (mapped.levels.astype(np.float32), held(mapped)):
        np.testing.assert_array_equal(seen_cells(cells, mapped, design, drive), cells)
        unbroken = BrokenLines.none(*cells.shape)
        np.testing.assert_array_equal(seen_cells(cells, mapped, design, drive, unbroken), cells)
        for ideal in (Wires(), Wires(access="0T1R"), Wires(drive="both", sense="both")):
            seen = seen_cells(cells, mapped, design.replace(wires=ideal), drive, unbroken)
            driven = mapped.tile_rows >= 0
            np.testing.assert_array_equal(seen[driven], cells[driven])
            assert seen.dtype == np.float32


def test_a_layer_of_zeros_has_nothing_to_see() -> None:
    mapping = Mapping(rows=6, columns=8, weight_bits=5, cell_bits=4)
    mapped = map_matrix(np.zeros((5, 3), int), mapping)
    design = Design(cell=CELL, mapping=mapping, wires=SURROUNDINGS["1T1R"])
    drive = design.drive(signed=False)
    assert seen_cells(mapped.levels, mapped, design, drive).shape == (0, 6, 8)
    assert current_losses("none", mapped.levels, mapped, design, drive, None) == ()


# --- wires, against the circuit


@pytest.mark.parametrize("active_rows", [None, 2, 4])
@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_the_cells_that_are_seen_give_the_currents_of_the_circuit(kind: str, active_rows: int | None) -> None:
    """Any voltages on the rows of one activation; the others are not selected. To the rounding of the grid."""
    wires = SURROUNDINGS[kind]
    design, mapped, drive = layer(wires=wires, active_rows=active_rows)
    cells = held(mapped)
    seen = seen_cells(cells, mapped, design, drive).astype(np.float64)
    conductance = CELL.g_min + cells.astype(np.float64) * DELTA
    rng = np.random.default_rng(3)
    for tile in range(mapped.tiles):
        used = mapped.tile_rows[tile] >= 0
        together = active_rows or 6
        for first in range(0, 6, together):
            selected = used & (np.arange(6) >= first) & (np.arange(6) < first + together)
            if not selected.any():
                continue
            x = np.where(selected, rng.integers(0, 16, 6), 0).astype(float)
            currents = nodal_currents(conductance[tile], x, wires, selected)
            np.testing.assert_allclose(x @ (seen[tile] + OFFSET), currents / DELTA, atol=x.sum() * GRID, rtol=0)
    assert (seen[mapped.used] < cells[mapped.used]).mean() > 0.9  # and the wires do cost current


@pytest.mark.parametrize("subtraction", ["analog", "digital"])
@pytest.mark.parametrize("active_rows", [None, 4])
def test_whole_reads_are_those_of_the_circuit(active_rows: int | None, subtraction: str) -> None:
    """Inputs, planes, circuit, converter and shifts, each as the hardware does it, against the reference's matrix."""
    wires = SURROUNDINGS["1T1R"]
    ranges: dict[str, Any] = {"adc_bits": 7, "adc_range": 63.0 if subtraction == "analog" else 127.0 * 1.5}
    design, mapped, drive = layer(
        wires=wires, active_rows=active_rows, subtraction=subtraction, dac_bits=2, signed=True, **ranges
    )
    reading, converter = design.reading(mapped), design.converter(rows=6)
    assert converter.step is not None
    cells = held(mapped)
    seen = seen_cells(cells, mapped, design, drive)
    conductance = CELL.g_min + cells.astype(np.float64) * DELTA
    codes = np.random.default_rng(5).integers(-7, 8, (3, 9))
    expected, nearest = np.zeros((3, 5)), 1.0
    for v, (sign, plane), tile, first in product(
        range(3), product((1, -1), (0, 2)), range(mapped.tiles), range(0, 6, active_rows or 6)
    ):
        rows = mapped.tile_rows[tile]
        selected = (rows >= 0) & (np.arange(6) >= first) & (np.arange(6) < first + (active_rows or 6))
        if not selected.any():
            continue
        x = np.where(selected, np.maximum(sign * codes[v, rows], 0) >> plane & 3, 0).astype(float)
        currents = nodal_currents(conductance[tile], x, wires, selected) / DELTA
        known = np.floor(design.offset_levels * x.sum() / converter.step + 0.5)
        for slot, output in enumerate(mapped.tile_outputs[tile]):
            if output < 0:
                continue
            pair = currents[2 * slot : 2 * slot + 2]
            values = np.array([pair[0] - pair[1]]) if subtraction == "analog" else pair
            position = values / converter.step + 0.5
            nearest = min(nearest, float(np.abs(position - np.rint(position))[values != 0.0].min(initial=1.0)))
            code = np.clip(np.floor(position), converter.low, converter.high)
            total = code[0] if subtraction == "analog" else (code[0] - known) - (code[1] - known)
            expected[v, output] += sign * 2**plane * total * converter.step
    assert nearest > 1e-4  # far enough from a converter's edge for the rounding of the grid
    np.testing.assert_array_equal(reference_multiply(codes, reading, seen, drive, converter), expected)


def test_tiles_alike_and_unlike_are_each_solved_with_their_own_rows() -> None:
    """Packed tiles that hold different numbers of rows, against the sparse solver one by one."""
    mapping = Mapping(rows=6, columns=8, weight_bits=5, cell_bits=4, pack="block")
    weights = np.random.default_rng(1).integers(-15, 16, (17, 12))
    weights[:9, :4] = 0
    weights[12:, 4:8] = 0
    mapped = map_matrix(weights, mapping)
    assert len(set((mapped.tile_rows >= 0).sum(axis=1).tolist())) > 1
    for kind, active_rows in product(SURROUNDINGS, (None, 3)):
        wires = replace(SURROUNDINGS[kind], drive="both", sense="near")
        design = Design(cell=CELL, mapping=mapping, wires=wires, periphery=Periphery(active_rows=active_rows))
        drive = design.drive(signed=False)
        seen = seen_cells(mapped.levels, mapped, design, drive)
        for tile in range(mapped.tiles):
            for first in range(0, 6, active_rows or 6):
                inside = (np.arange(6) >= first) & (np.arange(6) < first + (active_rows or 6))
                selected = inside & (mapped.tile_rows[tile] >= 0)
                if selected.any():
                    conductance = CELL.g_min + mapped.levels[tile] * DELTA
                    expected = reference_effective_conductance(conductance, wires, rows=selected)
                    found = CELL.g_min + seen[tile].astype(np.float64) * DELTA
                    np.testing.assert_allclose(found[selected], expected[selected], rtol=0, atol=DELTA * GRID)


def test_unused_cells_load_the_lines() -> None:
    """Cells of columns that hold nothing draw current from the word lines all the same, and stuck ones most."""
    design, mapped, drive = layer(wires=Wires(word_line_resistance=400.0, driver_resistance=500.0))
    tile = mapped.tiles - 1
    empty = ~mapped.used[tile].any(axis=0)
    row = int(np.flatnonzero(mapped.used[tile].any(axis=1))[0])
    assert empty.any()
    assert not empty.all()
    cells = mapped.levels.astype(np.float32)
    seen = seen_cells(cells, mapped, design, drive)
    alone = Wires(word_line_resistance=400.0, driver_resistance=500.0)
    conductance = CELL.g_min + cells[tile].astype(np.float64) * DELTA
    without = reference_effective_conductance(
        np.where(empty, 0.0, conductance), alone, rows=mapped.tile_rows[tile] >= 0
    )
    used = mapped.used[tile]
    assert (CELL.g_min + seen[tile][used] * DELTA < without[used] - DELTA * GRID).all()
    cells[tile, row, np.flatnonzero(empty)[-1]] = 15.0
    loaded = seen_cells(cells, mapped, design, drive)
    assert (loaded[tile, row][~empty] < seen[tile, row][~empty]).all()
    others = np.arange(6) != row
    np.testing.assert_array_equal(loaded[tile][others], seen[tile][others])  # bit lines without resistance
    np.testing.assert_array_equal(loaded[:tile], seen[:tile])


@pytest.mark.parametrize("kind", ["1T1R", "0T1R, grounded"])
def test_a_stuck_on_cell_lowers_the_currents_of_its_lines(kind: str) -> None:
    design, mapped, drive = layer(wires=SURROUNDINGS[kind])
    cells = mapped.levels.astype(np.float32)
    row, column = (int(k) for k in np.argwhere((cells[0] == 0) & mapped.used[0])[3])
    stuck = cells.copy()
    stuck[0, row, column] = 15.0
    before, after = (seen_cells(held_cells, mapped, design, drive)[0] for held_cells in (cells, stuck))
    assert after[row, column] > before[row, column]
    beside = np.arange(11) != column
    above = (np.arange(6) != row) & (mapped.tile_rows[0] >= 0)
    assert (after[row, beside] < before[row, beside]).all()
    assert (after[above, column] < before[above, column]).all()


# --- losses, in closed form


def one_column(cells: list[float], wires: Wires | None, **fields: Any) -> tuple[Array, MappedMatrix, Design, Drive]:
    """A single column of one-slice weights with these cells."""
    mapping = Mapping(
        encoding=Offset(reference="digital"), rows=len(cells), columns=1, weight_bits=4, cell_bits=4, pack="none"
    )
    design = Design(cell=CELL, mapping=mapping, wires=wires, periphery=Periphery(input_bits=4, **fields))
    mapped = map_matrix(np.ones((len(cells), 1), int), mapping)
    drive = design.drive(signed=False)
    return np.array(cells, np.float32).reshape(1, -1, 1), mapped, design, drive


def test_losses_of_a_single_cell() -> None:
    """One cell in series with all there is: a share of R g / (1 + R g) is lost."""
    wires = Wires(
        word_line_resistance=100.0,
        bit_line_resistance=200.0,
        driver_resistance=300.0,
        sense_resistance=400.0,
        access_resistance=5000.0,
    )
    cells, mapped, design, drive = one_column([9.0], wires)
    (loss,) = current_losses("it", cells, mapped, design, drive, None)
    across = 6000.0 * (CELL.g_min + 9 * DELTA)
    assert (loss.layer, loss.tile) == ("it", 0)
    assert loss.mean == pytest.approx(across / (1 + across), rel=1e-9)
    assert loss.worst == loss.mean


def test_losses_of_a_single_column() -> None:
    """All rows at one voltage: their cells in parallel, in series with the sense circuit. One at a time loses less."""
    levels = [3.0, 15.0, 0.0, 8.0]
    g = CELL.g_min + np.array(levels) * DELTA
    cells, mapped, design, drive = one_column(levels, Wires(sense_resistance=3000.0))
    (loss,) = current_losses("it", cells, mapped, design, drive, None)
    assert loss.mean == pytest.approx(1 - 1 / (1 + 3000.0 * g.sum()), rel=1e-9)
    cells, mapped, design, drive = one_column(levels, Wires(sense_resistance=3000.0), active_rows=1)
    (loss,) = current_losses("it", cells, mapped, design, drive, None)
    assert loss.mean == pytest.approx(1 - (g / (1 + 3000.0 * g)).sum() / g.sum(), rel=1e-9)
    # two rows on a bit line with resistance: a ladder solved on paper
    r = 2000.0
    cells, mapped, design, drive = one_column([15.0, 6.0], Wires(bit_line_resistance=r))
    a, b = CELL.g_min + np.array([15.0, 6.0]) * DELTA
    top = a / (1 + r * a)  # the far cell and the segment below it
    (loss,) = current_losses("it", cells, mapped, design, drive, None)
    assert loss.mean == pytest.approx(1 - (top + b) / (1 + r * (top + b)) / (a + b), rel=1e-9)


def test_losses_of_a_single_row() -> None:
    """One driver with resistance: every column loses the same share; along the word line the last loses most."""
    wires = Wires(driver_resistance=2500.0)
    design, mapped, drive = layer(shape=(1, 3), rows=1, columns=7, wires=wires)
    cells = np.array([[[5.0, 0.0, 15.0, 2.0, 9.0, 1.0, 11.0]]], np.float32)  # the last column is not used
    g = CELL.g_min + cells[0, 0].astype(float) * DELTA
    (loss,) = current_losses("it", cells, mapped, design, drive, None)
    share = 1 - 1 / (1 + 2500.0 * g.sum())
    assert loss.mean == pytest.approx(share, rel=1e-9)
    assert loss.worst == pytest.approx(share, rel=1e-9)
    # two cells on a word line: the far one in series with one more segment
    r = 3000.0
    design, mapped, drive = layer(shape=(1, 1), rows=1, columns=2, wires=Wires(word_line_resistance=r))
    near, far = CELL.g_min + np.array([4.0, 13.0]) * DELTA
    beyond = far / (1 + r * far)
    first = 1 / (1 + r * (near + beyond))  # voltage at the near cell
    (loss,) = current_losses("it", np.array([[[4.0, 13.0]]], np.float32), mapped, design, drive, None)
    assert loss.worst == pytest.approx(1 - first / (1 + r * far), rel=1e-9)
    assert loss.mean == pytest.approx(1 - (near + beyond) * first / (near + far), rel=1e-9)


def test_losses_to_broken_lines() -> None:
    design, mapped, drive = layer(shape=(6, 5))
    cells = mapped.levels.astype(np.float32)
    lines = BrokenLines.none(*cells.shape)
    lines.open_bit_lines[0, 2] = True
    used = mapped.used[0]
    g = np.where(used, CELL.g_min + cells[0].astype(float) * DELTA, 0.0)
    (loss,) = current_losses("it", cells, mapped, design, drive, lines)
    assert loss.worst == 1.0
    assert loss.mean == pytest.approx(g[:, 2].sum() / g.sum(), rel=1e-9)
    lines = BrokenLines.none(*cells.shape)
    lines.open_word_lines[0, [1, 4]] = True
    (loss,) = current_losses("it", cells, mapped, design, drive, lines)
    assert loss.mean == pytest.approx(g[[1, 4]].sum() / g.sum(), rel=1e-9)
    column = g[[1, 4]].sum(axis=0)[g.sum(axis=0) > 0] / g.sum(axis=0)[g.sum(axis=0) > 0]
    assert loss.worst == pytest.approx(column.max(), rel=1e-9)
    design, mapped, drive = layer()  # with tiles of rows that hold nothing, and lose nothing
    unbroken = BrokenLines.none(*mapped.levels.shape)
    for loss in current_losses("it", mapped.levels, mapped, design, drive, unbroken):
        assert (loss.mean, loss.worst) == pytest.approx((0.0, 0.0), abs=1e-12)


# --- broken lines


@pytest.mark.parametrize("wires", [None, *SURROUNDINGS], ids=str)
def test_open_lines_carry_no_current(wires: str | None) -> None:
    design, mapped, drive = layer(Differential(), wires=None if wires is None else SURROUNDINGS[wires], active_rows=4)
    cells = held(mapped)
    lines = BrokenLines.none(*cells.shape)
    lines.open_word_lines[0, [0, 5]] = True
    lines.open_bit_lines[0, 3] = True
    whole, seen = (seen_cells(cells, mapped, design, drive, broken) for broken in (None, lines))
    driven = mapped.tile_rows[0] >= 0
    zero = np.float32(-design.offset_levels)
    assert (seen[0, [0, 5]] == zero).all()
    assert (seen[0, driven, 3] == zero).all()
    np.testing.assert_array_equal(seen[1:], whole[1:])
    kept = np.ix_([1, 2, 3, 4], [c for c in range(11) if c != 3])
    if wires is None:
        np.testing.assert_array_equal(seen[0][kept], whole[0][kept])
    elif wires == "1T1R":
        assert (seen[0][kept] >= whole[0][kept]).all()  # fewer cells on the lines of the rest
        assert (seen[0][kept] > whole[0][kept]).any()


@pytest.mark.parametrize("kind", SURROUNDINGS)
def test_open_lines_in_the_circuit(kind: str) -> None:
    """An open line leaves the circuit of the others: their currents are those of an array without its cells."""
    wires = SURROUNDINGS[kind]
    design, mapped, drive = layer(wires=wires, active_rows=3)
    cells = held(mapped)
    lines = BrokenLines.none(*cells.shape)
    lines.open_word_lines[0, [1, 4]] = True  # one in each activation
    lines.open_bit_lines[0, 2] = True
    seen = seen_cells(cells, mapped, design, drive, lines)
    conductance = CELL.g_min + cells[0].astype(np.float64) * DELTA
    conductance[[1, 4]] = 0.0
    conductance[:, 2] = 0.0
    for first in (0, 3):
        rows = np.arange(first, first + 3)
        selected = np.isin(np.arange(6), rows)
        tied = selected | np.isin(np.arange(6), [1, 4])  # without cells, so that only their potential is at stake
        x = np.where(selected, [1.0, 2.0, 3.0, 3.0, 2.0, 1.0], 0.0)
        currents = nodal_currents(conductance, x, wires, tied)
        np.testing.assert_allclose(x @ (seen[0] + OFFSET), currents / DELTA, atol=x.sum() * GRID, rtol=0)


def test_open_word_lines_float_without_harm() -> None:
    """No selector, unselected lines float, and an open one is tied to nothing at all: no reason to refuse the die."""
    wires = Wires(word_line_resistance=5.0, bit_line_resistance=3.0, access="0T1R", unselected="floating")
    design, mapped, drive = layer(wires=wires, active_rows=2)
    lines = BrokenLines.none(*mapped.levels.shape)
    lines.open_word_lines[0, 4] = True
    lines.open_word_lines[-1, 5] = True  # a row that holds nothing
    seen = seen_cells(mapped.levels, mapped, design, drive, lines)
    assert np.isfinite(seen).all()
    assert (seen[0, 4] == np.float32(-design.offset_levels)).all()


@pytest.mark.parametrize("wires", [None, Wires(word_line_resistance=300.0, bit_line_resistance=200.0)], ids=str)
def test_touching_bit_lines_share_what_reaches_their_ends(wires: Wires | None) -> None:
    design, mapped, drive = layer(wires=wires)
    cells = held(mapped)
    lines = BrokenLines.none(*cells.shape)
    lines.shorted_bit_lines[0, [1, 5, 6]] = True
    apart, shared = (seen_cells(cells, mapped, design, drive, broken) for broken in (None, lines))
    mean = apart.astype(np.float64)
    mean[0][:, [1, 2]] = mean[0][:, [1, 2]].mean(axis=1, keepdims=True)
    mean[0][:, [5, 6, 7]] = mean[0][:, [5, 6, 7]].mean(axis=1, keepdims=True)
    np.testing.assert_allclose(shared, mean, rtol=0, atol=GRID)
    alone = [c for c in range(11) if c not in (1, 2, 5, 6, 7)]
    np.testing.assert_array_equal(shared[..., alone], apart[..., alone])
    np.testing.assert_array_equal(shared[0, :, 5], shared[0, :, 7])


def test_an_open_line_that_touches_another_takes_half_of_its_current() -> None:
    """Cut off above the short: its sense circuit still holds the neighbour's end."""
    design, mapped, drive = layer()
    cells = mapped.levels.astype(np.float32)
    lines = BrokenLines.none(*cells.shape)
    lines.open_bit_lines[0, 4] = True
    lines.shorted_bit_lines[0, 4] = True
    seen = seen_cells(cells, mapped, design, drive, lines)
    expected = (cells[0, :, 5] + design.offset_levels) / 2 - design.offset_levels
    for column in (4, 5):
        np.testing.assert_allclose(seen[0, :, column], expected, rtol=0, atol=GRID)
