"""The nodal solver against a sparse LU, exact fractions, ngspice, badcrossbar, closed forms and the laws of circuits.

Tolerances are of each sensed current or effective conductance on its own: relative, not of the largest.
"""

from __future__ import annotations

import importlib.util
import itertools
import math
import shutil
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numba
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.reference import badcrossbar_reference, ngspice_reference
from xbarsim.circuit import (
    ConvergenceError,
    CurrentLaw,
    FloatingNodeError,
    PolynomialLaw,
    SinhLaw,
    Wires,
    effective,
    effective_conductance,
    kernels,
    linearisation_error,
    reference_effective_conductance,
    solve,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError

Floats = npt.NDArray[np.float64]

TOPOLOGIES: list[dict[str, Any]] = [
    {"drive": drive, "sense": sense, "access": access, "unselected": unselected}
    for drive, sense, access, unselected in itertools.product(
        ("one", "both"), ("near", "far", "both"), ("1T1R", "0T1R"), ("grounded", "floating")
    )
]
LAWS: dict[str, CurrentLaw | None] = {
    "linear": None,
    "polynomial": PolynomialLaw(quadratic=(0.0, 0.3), cubic=(0.0, 0.8), maximum_voltage=1.0),
    "sinh": SinhLaw(voltage_scale=0.25),
}
RESISTIVE = Wires(word_line_resistance=1.0, bit_line_resistance=2.0, driver_resistance=30.0, sense_resistance=70.0)


def array(rng: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Cells over three decades, with stuck ones."""
    cells = 10.0 ** rng.uniform(-6, -3.5, size=shape)
    kind = rng.random(shape)
    cells[kind < 0.06] = 1e-7
    cells[kind < 0.03] = 3e-3
    return np.asarray(cells)


def lines(rng: np.random.Generator, count: int) -> npt.NDArray[np.bool_]:
    mask = np.asarray(rng.random(count) < 0.7)
    mask[rng.integers(count)] = True
    return mask


def farthest(result: Floats, expected: Floats) -> float:
    """The largest relative difference; zeros must be zeros."""
    np.testing.assert_array_equal(result == 0.0, expected == 0.0)
    wanted = expected != 0.0
    return float(np.abs(result[wanted] / expected[wanted] - 1.0).max(initial=0.0))


def ends(design: Wires) -> list[float]:
    """The resistances that are there."""
    return [value for name, value in vars(design).items() if name.endswith("_resistance") and value]


@st.composite
def wires(draw: st.DrawFn, /, **fixed: Any) -> Wires:
    resistance = st.sampled_from([0.0, 0.01, 1.0, 30.0]) | st.floats(1e-3, 1e3)
    values: dict[str, Any] = {
        "word_line_resistance": draw(resistance),
        "bit_line_resistance": draw(resistance),
        "driver_resistance": draw(resistance),
        "sense_resistance": draw(resistance),
        "access_resistance": 0.0,
        **draw(st.sampled_from(TOPOLOGIES)),
        **fixed,
    }
    if values["access"] == "1T1R":
        values["access_resistance"] = draw(resistance)
    return Wires(**values)


@st.composite
def arrays(draw: st.DrawFn) -> Floats:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return array(rng, (draw(st.integers(1, 12)), draw(st.integers(1, 12))))


many = settings(deadline=None, max_examples=100)

# ------------------------------------------------------------------------------- against the sparse reference


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: "-".join(t.values()))
def test_every_topology_and_zero_equals_the_sparse_reference_to_1e_9(topology: dict[str, Any]) -> None:
    rng = np.random.default_rng(TOPOLOGIES.index(topology))
    shapes = itertools.cycle([(7, 5), (1, 6), (16, 23), (6, 1), (2, 9), (31, 14)])
    for word, bit, driver, sense in itertools.product((0.0, 1.3), (0.0, 0.7), (0.0, 40.0), (0.0, 90.0)):
        access = float(rng.choice([0.0, 500.0])) if topology["access"] == "1T1R" else 0.0
        design = Wires(
            word_line_resistance=word,
            bit_line_resistance=bit,
            driver_resistance=driver,
            sense_resistance=sense,
            access_resistance=access,
            **topology,
        )
        cells = array(rng, next(shapes))
        rows, columns = lines(rng, cells.shape[0]), lines(rng, cells.shape[1])
        for selected in ({}, {"rows": rows, "columns": columns}):
            expected = reference_effective_conductance(cells, design, **selected)
            assert farthest(effective_conductance(cells, design, **selected), expected) <= 1e-9


@pytest.mark.parametrize("shape", [(64, 64), (100, 37), (33, 130)])
def test_large_arrays_equal_the_sparse_reference_to_1e_9(shape: tuple[int, int]) -> None:
    cells = array(np.random.default_rng(5), shape)
    for design in (RESISTIVE, replace(RESISTIVE, drive="both", sense="both"), replace(RESISTIVE, sense="near")):
        assert farthest(effective_conductance(cells, design), reference_effective_conductance(cells, design)) <= 1e-9


def fractions(cells: Floats, design: Wires) -> Floats:
    """Effective conductances in exact arithmetic: no zero resistance, driven left, sensed near."""
    height, width = cells.shape
    count = height * width
    between: dict[tuple[int, int], Fraction] = {}

    def connect(a: int, b: int, conductance: Fraction) -> None:
        for pair in ((a, b), (b, a)):
            between[pair] = between.get(pair, Fraction(0)) + conductance

    word, bit = Fraction(design.word_line_resistance), Fraction(design.bit_line_resistance)
    for i, j in np.ndindex(height, width):
        node = i * width + j
        connect(node, count + node, Fraction(float(cells[i, j])))
        if j + 1 < width:
            connect(node, node + 1, 1 / word)
        if j == 0:
            connect(node, 2 * count + i, 1 / (word + Fraction(design.driver_resistance)))
        if i + 1 < height:
            connect(count + node, count + node + width, 1 / bit)
        if i == 0:
            connect(count + node, 2 * count + height + j, 1 / (bit + Fraction(design.sense_resistance)))
    for node in range(2 * count):
        around = {b: g for (a, b), g in between.items() if a == node and b > node}
        total = sum(around.values(), Fraction(0))
        for a, b in itertools.combinations(around, 2):
            connect(a, b, around[a] * around[b] / total)
    return np.array(
        [[float(between[2 * count + i, 2 * count + height + j]) for j in range(width)] for i in range(height)]
    )


@pytest.mark.parametrize("resistance", [1e-12, 1e-6, 1.0, 1e6, 1e12])
def test_no_digits_are_lost_at_any_wire_resistance(resistance: float) -> None:
    """To 1e-13, over 24 decades: where the nodal matrix itself is too ill-conditioned to factorise."""
    cells = array(np.random.default_rng(8), (4, 5))
    cells[0, 0], cells[3, 4] = 1e-12, 1.0
    design = Wires(word_line_resistance=resistance, bit_line_resistance=resistance * 3, sense="near", implausible=True)
    assert farthest(effective_conductance(cells, design), fractions(cells, design)) <= 1e-13


# ------------------------------------------------------------------------------------- against other simulators


def by_xbarsim(case: dict[str, Any], stored: dict[str, Any]) -> Floats:
    cells = stored["levels"] * ngspice_reference.LEVEL
    design, law = Wires(**case["wires"]), LAWS[case["law"]]
    selected = {"rows": stored["rows"], "columns": stored["columns"]}
    if law is None:
        return np.asarray(stored["voltages"] @ effective_conductance(cells, design, **selected))
    return solve(cells, stored["voltages"], design, law=law, **selected).column_currents


@pytest.mark.parametrize("topology", TOPOLOGIES, ids=lambda t: "-".join(t.values()))
def test_stored_ngspice_currents_to_1e_6(topology: dict[str, Any]) -> None:
    """Linear, polynomial and sinh cells, some stuck; partly selected lines; small and 64 x 64; zero resistances."""
    prefix = "-".join(topology.values()) + "-"
    tested = 0
    with np.load(ngspice_reference.PATH) as data:
        for name, case in ngspice_reference.cases().items():
            if name.startswith(prefix):
                stored = {key: data[f"{name}/{key}"] for key in ("levels", "rows", "columns", "voltages", "currents")}
                assert farthest(by_xbarsim(case, stored), stored["currents"]) <= 1e-6, name
                tested += 1
    assert tested == 7


@pytest.mark.skipif(shutil.which("ngspice") is None, reason="ngspice is not on PATH")
def test_live_ngspice_currents_to_1e_6() -> None:
    cases = ngspice_reference.cases()
    for name in [name for name in cases if name.endswith(("small", "zero"))][::3]:
        case = cases[name]
        stored = ngspice_reference.draw(case["seed"] + 1000, case["shape"])
        expected = ngspice_reference.run(
            stored["levels"] * ngspice_reference.LEVEL,
            stored["voltages"],
            case["wires"],
            case["law"],
            stored["rows"],
            stored["columns"],
        )
        assert farthest(by_xbarsim(case, stored), expected) <= 1e-6, name


def test_stored_badcrossbar_currents_to_1e_9() -> None:
    with np.load(badcrossbar_reference.PATH) as data:
        for name, (_, word, bit, _) in badcrossbar_reference.CASES.items():
            cells = data[f"{name}/levels"] * badcrossbar_reference.LEVEL
            matrix = effective_conductance(cells, Wires(word_line_resistance=word, bit_line_resistance=bit))
            assert farthest(data[f"{name}/voltages"] @ matrix, data[f"{name}/currents"]) <= 1e-9, name


@pytest.mark.skipif(importlib.util.find_spec("badcrossbar") is None, reason="badcrossbar is not installed")
def test_live_badcrossbar_currents_to_1e_9() -> None:
    for name, (shape, word, bit, seed) in badcrossbar_reference.CASES.items():
        drawn = badcrossbar_reference.draw(shape, seed + 1000)
        cells = drawn["levels"] * badcrossbar_reference.LEVEL
        matrix = effective_conductance(cells, Wires(word_line_resistance=word, bit_line_resistance=bit))
        expected = badcrossbar_reference.run(cells, drawn["voltages"], word, bit)
        assert farthest(drawn["voltages"] @ matrix, expected) <= 1e-9, name


# ------------------------------------------------------------------------------------------------ closed forms


def test_without_resistance_the_cells_are_the_matrix_exactly() -> None:
    cells = array(np.random.default_rng(1), (9, 4))
    for topology in TOPOLOGIES:
        np.testing.assert_array_equal(effective_conductance(cells, Wires(**topology)), cells)


def test_one_cell_is_a_series_of_resistors() -> None:
    design = replace(RESISTIVE, access_resistance=500.0)
    expected = 1.0 / (1.0 + 30.0 + 1e4 + 500.0 + 2.0 + 70.0)
    assert effective_conductance([[1e-4]], design)[0, 0] == pytest.approx(expected, rel=1e-14)
    both = replace(design, drive="both", sense="both")
    halved = 1.0 / (31.0 / 2 + 1e4 + 500.0 + 72.0 / 2)
    assert effective_conductance([[1e-4]], both)[0, 0] == pytest.approx(halved, rel=1e-14)


def test_ideal_lines_divide_the_current_of_a_column() -> None:
    """An ideal bit line behind a sense resistance: ``g_i / (1 + R sum g)``."""
    cells = array(np.random.default_rng(2), (8, 3))
    result = effective_conductance(cells, Wires(sense_resistance=400.0))
    assert farthest(result, cells / (1.0 + 400.0 * cells.sum(axis=0))) <= 1e-14
    result = effective_conductance(cells, Wires(driver_resistance=400.0))
    assert farthest(result, cells / (1.0 + 400.0 * cells.sum(axis=1, keepdims=True))) <= 1e-14


@pytest.mark.parametrize("length", [1, 2, 7, 64])
def test_a_single_row_of_equal_cells_is_a_ladder(length: int) -> None:
    """Voltages along a uniform ladder are ``cosh((n - k + 1/2) a) / cosh((n + 1/2) a)``, ``2 cosh a = 2 + R g``."""
    resistance, conductance = 3.0, 1e-3
    step = math.acosh(1.0 + resistance * conductance / 2.0)
    at = np.arange(1, length + 1)
    expected = conductance * np.cosh((length - at + 0.5) * step) / math.cosh((length + 0.5) * step)
    row = np.full((1, length), conductance)
    result = effective_conductance(row, Wires(word_line_resistance=resistance))
    assert farthest(result[0], expected) <= 1e-12
    column = effective_conductance(row.T, Wires(bit_line_resistance=resistance, sense="near"))
    assert farthest(column[:, 0], expected) <= 1e-12


def test_two_by_two_sneak_path() -> None:
    """Row 1 and column 0 float: three cells in series, (0, 0), (1, 0) and (1, 1), by-pass cell (0, 1)."""
    cells = np.array([[1e-4, 2e-4], [3e-4, 5e-4]])
    design = Wires(access="0T1R", unselected="floating")
    only = np.array([True, False])
    result = effective_conductance(cells, design, rows=only, columns=~only)
    detour = 1.0 / (1.0 / 1e-4 + 1.0 / 3e-4 + 1.0 / 5e-4)
    assert farthest(result, np.array([[0.0, 2e-4 + detour], [0.0, 0.0]])) <= 1e-14
    grounded = effective_conductance(cells, replace(design, unselected="grounded"), rows=only, columns=~only)
    np.testing.assert_array_equal(grounded, [[0.0, 2e-4], [0.0, 0.0]])


def test_loss_of_a_128_array_is_a_third_not_a_thousandth() -> None:
    """1 ohm a segment and 1..100 uS cost about 35 % of the current, where a published formula says 0.044 %."""
    cells = np.random.default_rng(0).uniform(1e-6, 1e-4, size=(128, 128))
    result = effective_conductance(cells, Wires(word_line_resistance=1.0, bit_line_resistance=1.0))
    assert 0.34 < 1.0 - result.sum() / cells.sum() < 0.37


# ----------------------------------------------------------------------------------------- laws of all circuits


@many
@given(arrays(), wires())
def test_reciprocity(cells: Floats, design: Wires) -> None:
    """Drivers and sense circuits may change places: the array lying on its side has the transposed matrix."""
    if (design.drive, design.sense) not in {("one", "near"), ("both", "both")}:
        design = replace(design, drive="both", sense="both")
    turned = replace(
        design,
        word_line_resistance=design.bit_line_resistance,
        bit_line_resistance=design.word_line_resistance,
        driver_resistance=design.sense_resistance,
        sense_resistance=design.driver_resistance,
    )
    assert farthest(effective_conductance(cells.T, turned), effective_conductance(cells, design).T) <= 1e-11


@many
@given(arrays(), wires(), st.integers(0, 2**32 - 1))
def test_superposition_and_kirchhoff(cells: Floats, design: Wires, seed: int) -> None:
    """Currents add as inputs do and equal ``V @ G_eff``; no node gains or loses any."""
    rng = np.random.default_rng(seed)
    first, second = rng.normal(size=(2, cells.shape[0]))
    matrix = effective_conductance(cells, design)
    both = solve(cells, first - 3.0 * second, design)
    apart = [solve(cells, inputs, design).column_currents for inputs in (first, second)]
    scale = np.abs(first) @ matrix + 3.0 * np.abs(second) @ matrix
    np.testing.assert_array_less(np.abs(both.column_currents - (apart[0] - 3.0 * apart[1])), 1e-9 * scale)
    np.testing.assert_array_less(np.abs(both.column_currents - (first - 3.0 * second) @ matrix), 1e-9 * scale)
    # At a node, only what float64 leaves of the difference of two voltages is lost.
    stiffest = max([1.0 / r for r in ends(design)] + [cells.max()])
    assert both.residual <= 1e-13 * stiffest * cells.size * np.abs(first - 3.0 * second).max()


@many
@given(arrays(), wires(), st.integers(0, 2**32 - 1))
def test_passivity(cells: Floats, design: Wires, seed: int) -> None:
    """What is true of resistors, whatever the topology.

    An effective conductance is never negative; no driver delivers, and no sense circuit takes, more in total than
    its line's cells would without wires; no voltage leaves the range of the inputs and 0 V; the inputs' power is
    not negative.
    (One effective conductance may exceed its cell's: a sneak path adds to it.)
    """
    matrix = effective_conductance(cells, design)
    assert (matrix >= 0.0).all()
    slack = 1.0 + 1e-12
    assert (matrix.sum(axis=1) <= cells.sum(axis=1) * slack).all()
    assert (matrix.sum(axis=0) <= cells.sum(axis=0) * slack).all()
    inputs = np.asarray(np.random.default_rng(seed).normal(size=cells.shape[0]))
    state = solve(cells, inputs, design)
    low, high = min(inputs.min(), 0.0) - 1e-9, max(inputs.max(), 0.0) + 1e-9
    for voltages in (state.word_line_voltages, state.bit_line_voltages):
        assert (voltages >= low).all()
        assert (voltages <= high).all()
    assert inputs @ state.row_currents >= 0.0


@many
@given(arrays(), wires(), st.sampled_from(["word_line", "bit_line", "driver", "sense"]), st.floats(1.0, 100.0))
def test_more_resistance_never_raises_the_total_current(cells: Floats, design: Wires, which: str, more: float) -> None:
    """Rayleigh's law: all drivers at one voltage, all the current sensed."""
    name = f"{which}_resistance"
    worse = replace(design, **{name: getattr(design, name) + more})
    slack = 1.0 + 1e-12
    assert effective_conductance(cells, worse).sum() <= effective_conductance(cells, design).sum() * slack


# ------------------------------------------------------------------------------------------------------- tiles


def test_identical_tiles_are_solved_once(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    different = array(rng, (3, 10, 12))
    tiles = different[[0, 1, 0, 2, 1, 0]]
    calls = []
    original = kernels.dissect

    def counted(*arguments: Any) -> None:
        calls.append(1)
        original(*arguments)

    monkeypatch.setattr(effective, "dissect", counted)
    result = effective_conductance(tiles, RESISTIVE)
    assert len(calls) == 3
    for tile, expected in zip(result, tiles, strict=True):
        np.testing.assert_array_equal(tile, effective_conductance(expected, RESISTIVE))


def test_threads_and_repetition_change_no_bit() -> None:
    tiles = array(np.random.default_rng(4), (5, 70, 66))
    kept = tiles.copy()
    before = numba.get_num_threads()
    try:
        results = []
        for threads in (1, before, before):
            numba.set_num_threads(threads)
            results.append(effective_conductance(tiles, RESISTIVE))
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(results[0], results[1])
    np.testing.assert_array_equal(results[1], results[2])
    np.testing.assert_array_equal(tiles, kept)


def test_transistors_off_carry_nothing() -> None:
    cells = array(np.random.default_rng(6), (6, 4))
    rows = np.array([True, False, True, False, False, True])
    result = effective_conductance(cells, RESISTIVE, rows=rows)
    cut = np.where(rows[:, np.newaxis], cells, 0.0)
    np.testing.assert_array_equal(result, effective_conductance(cut, RESISTIVE))
    assert (result[rows] > effective_conductance(cells, RESISTIVE)[rows]).all()


# -------------------------------------------------------------------------------------------- non-linear cells


@pytest.mark.parametrize("name", ["polynomial", "sinh"])
def test_slopes_are_the_derivatives(name: str) -> None:
    law = LAWS[name]
    assert law is not None
    voltage = np.linspace(-1.41, 1.43, 57)  # beyond maximum_voltage: the tangent
    conductance = np.full(voltage.shape, 2e-4)
    _, slope = law.evaluate(conductance, voltage)
    step = 1e-6
    ahead, behind = (law.evaluate(conductance, voltage + s)[0] for s in (step, -step))
    np.testing.assert_allclose((ahead - behind) / (2 * step), slope, rtol=1e-7)


def test_one_cell_follows_its_law() -> None:
    """Through 1 kohm of wire: ``I = G v0 sinh((V - R I) / v0)`` holds for the answer."""
    law = SinhLaw(voltage_scale=0.2)
    state = solve([[5e-4]], [0.9], Wires(driver_resistance=1e3), law=law)
    current = state.column_currents[0]
    assert current == pytest.approx(5e-4 * 0.2 * math.sinh((0.9 - 1e3 * current) / 0.2), rel=1e-9)
    ideal = solve([[5e-4]], [0.3], Wires(), law=LAWS["polynomial"])
    assert ideal.column_currents[0] == pytest.approx(5e-4 * (0.3 + 0.3 * 0.09 + 0.8 * 0.027), rel=1e-14)


@settings(deadline=None, max_examples=40)
@given(arrays(), wires(), st.sampled_from(["polynomial", "sinh"]), st.integers(0, 2**32 - 1))
def test_non_linear_circuits_obey_kirchhoff(cells: Floats, design: Wires, name: str, seed: int) -> None:
    inputs = np.random.default_rng(seed).uniform(-0.4, 0.4, size=cells.shape[0])
    state = solve(cells, inputs, design, law=LAWS[name])
    largest = np.abs(state.cell_currents).max()
    stiffest = max([1.0 / r for r in ends(design)] + [0.0])
    assert state.residual <= 1e-10 * largest + 1e-14 * stiffest
    across = state.word_line_voltages - state.bit_line_voltages - state.cell_currents * design.access_resistance
    law = LAWS[name]
    assert law is not None
    np.testing.assert_allclose(law.evaluate(cells, across)[0], state.cell_currents, rtol=1e-9, atol=1e-12 * largest)


def test_a_straight_law_is_the_linear_circuit() -> None:
    cells, inputs = array(np.random.default_rng(7), (9, 8)), np.linspace(-0.4, 0.5, 9)
    law = PolynomialLaw(maximum_voltage=1.0)
    state = solve(cells, inputs, RESISTIVE, law=law)
    np.testing.assert_allclose(state.column_currents, inputs @ effective_conductance(cells, RESISTIVE), rtol=1e-9)
    report = linearisation_error(cells, inputs, RESISTIVE, law)
    assert np.abs(report.relative).max() <= 1e-9


def test_linearisation_error_is_reported() -> None:
    law = SinhLaw(voltage_scale=0.5)
    report = linearisation_error([[1e-4, 2e-4]], [0.5], Wires(), law)
    assert report.relative[1] == pytest.approx(1.0 / math.sinh(1.0) - 1.0, rel=1e-12)
    assert report.relative[0] == pytest.approx(report.relative[1] / 2.0, rel=1e-12)
    assert report.worst_column == 1
    assert "-14.908%" in str(report)
    assert "column 1" in str(report)


def test_strong_non_linearity_converges() -> None:
    """Cells of up to e^40 times their small-signal current, against stiff wires."""
    cells = array(np.random.default_rng(9), (8, 8))
    law = SinhLaw(voltage_scale=0.02)
    state = solve(cells, np.linspace(0.2, 0.9, 8), RESISTIVE, law=law, maximum_iterations=200)
    across = state.word_line_voltages - state.bit_line_voltages
    np.testing.assert_allclose(state.cell_currents, cells * 0.02 * np.sinh(across / 0.02), rtol=1e-6, atol=1e-12)
    assert state.residual <= 1e-9 * np.abs(state.cell_currents).max()


class Saturating(CurrentLaw):
    """``I = G v0 arctan(V / v0)``, on which full Newton steps run away."""

    maximum_voltage = math.inf
    scale = 0.05

    def evaluate(self, conductance: Floats, voltage: Floats) -> tuple[Floats, Floats]:
        ratio = voltage / self.scale
        return conductance * self.scale * np.arctan(ratio), conductance / (1.0 + ratio**2)

    def check(self, conductance: Floats) -> None:
        pass


def test_the_line_search_keeps_newton_from_running_away() -> None:
    """Two saturating cells pull one bit line apart: it goes where the stronger one carries the weaker one's current."""
    state = solve([[1e-4], [2e-4]], [1.0, -1.0], Wires(sense_resistance=1e12, implausible=True), law=Saturating())
    expected = -1.0 + 0.05 * math.tan(math.atan((1.0 - state.bit_line_voltages[0, 0]) / 0.05) / 2.0)
    assert state.bit_line_voltages[0, 0] == pytest.approx(expected, rel=1e-6)
    assert state.cell_currents.sum() == pytest.approx(0.0, abs=1e-11)
    quick = solve([[5e-4]], [0.5], Wires(driver_resistance=1e3), law=SinhLaw(voltage_scale=0.2))
    assert quick.iterations <= 6  # full steps near the answer: convergence is quadratic


def test_newton_that_does_not_converge_says_so_with_its_residual() -> None:
    cells = array(np.random.default_rng(9), (8, 8))
    with pytest.raises(ConvergenceError, match=r"did not converge: after 1 steps .* A") as caught:
        solve(cells, np.full(8, 0.8), RESISTIVE, law=SinhLaw(voltage_scale=0.05), maximum_iterations=1)
    assert caught.value.residual > 0.0
    assert caught.value.iterations == 1


def test_cells_outside_their_law_are_refused() -> None:
    law = replace(PolynomialLaw(cubic=(0.0, 1.0), maximum_voltage=0.3))
    with pytest.raises(InputError, match=r"<= 0\.3 V.*row 1, column 0"):
        solve([[1e-4], [1e-4]], [0.2, 0.4], Wires(), law=law)
    falling = PolynomialLaw(cubic=(0.0, -2.0), maximum_voltage=0.5)
    with pytest.raises(InputError, match="slope of the current must be >= 0"):
        solve([[1e-4]], [0.1], Wires(), law=falling)
    dipping = PolynomialLaw(quadratic=(0.0, -4.0), cubic=(0.0, 4.5), maximum_voltage=2.0)  # falls only in between
    with pytest.raises(InputError, match="slope of the current must be >= 0"):
        solve([[1e-4]], [0.1], Wires(), law=dipping)


# --------------------------------------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "name",
    ["word_line_resistance", "bit_line_resistance", "driver_resistance", "sense_resistance", "access_resistance"],
)
@pytest.mark.parametrize("value", [-1.0, math.nan, math.inf, 1e-20, "1"])
def test_bad_resistances_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=name):
        Wires(**{name: value})


def test_bad_choices_are_refused() -> None:
    for name in ("drive", "sense", "access", "unselected"):
        other: dict[str, Any] = {name: "other"}
        with pytest.raises(InputError, match=name):
            Wires(**other)
    with pytest.raises(InputError, match="access_resistance must be 0"):
        Wires(access="0T1R", access_resistance=1.0)


@pytest.mark.parametrize("value", [-1e-6, math.nan, math.inf])
def test_bad_conductances_are_refused(value: float) -> None:
    cells = np.full((2, 3), 1e-5)
    cells[1, 2] = value
    for call in (
        lambda: effective_conductance(cells, RESISTIVE),
        lambda: reference_effective_conductance(cells, RESISTIVE),
        lambda: solve(cells, [0.1, 0.2], RESISTIVE),
    ):
        with pytest.raises(InputError, match=r"conductance must be >= 0.*\(1, 2\)"):
            call()
    with pytest.raises(InputError, match="dimensional"):
        effective_conductance([1e-6], RESISTIVE)


def test_bad_lines_and_inputs_are_refused() -> None:
    cells = np.full((2, 3), 1e-5)
    for rows in ([True], [1, 0], [False, False]):
        with pytest.raises(InputError, match="rows must be a boolean array"):
            effective_conductance(cells, RESISTIVE, rows=rows)
    with pytest.raises(InputError, match="voltages must have shape"):
        solve(cells, [0.1], RESISTIVE)
    with pytest.raises(InputError, match="voltages must be finite"):
        solve(cells, [0.1, math.nan], RESISTIVE)
    with pytest.raises(InputError, match=r"0 V in rows not selected, got 0\.2 at index 1"):
        solve(cells, [0.1, 0.2], RESISTIVE, rows=[True, False])


@pytest.mark.parametrize("resistance", [0.0, 2.0])
def test_a_floating_node_is_named(resistance: float) -> None:
    cells = np.full((4, 5), 1e-5)
    cells[2] = 0.0
    design = Wires(
        word_line_resistance=resistance, bit_line_resistance=resistance, access="0T1R", unselected="floating"
    )
    rows = np.array([True, True, False, True])
    for call in (
        lambda: effective_conductance(cells, design, rows=rows),
        lambda: reference_effective_conductance(cells, design, rows=rows),
        lambda: solve(cells, np.zeros(4), design, rows=rows),
    ):
        with pytest.raises(FloatingNodeError, match="word line 2 is not connected"):
            call()
    columns = np.array([True, False, True, True, True])
    cells = np.full((4, 5), 1e-5)
    cells[:, 1] = 0.0
    with pytest.raises(FloatingNodeError, match="bit line 1 is not connected"):
        effective_conductance(cells, design, columns=columns)


@many
@given(wires())
def test_wires_survive_toml(design: Wires) -> None:
    assert tomlio.loads(Wires, tomlio.dumps(design)) == design


def test_laws_survive_toml() -> None:
    for law in (LAWS["polynomial"], LAWS["sinh"]):
        assert law is not None
        assert tomlio.loads(CurrentLaw, tomlio.dumps(law)) == law
