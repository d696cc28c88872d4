"""`solve` against nodal equations in 60-digit decimals, over all decades of resistance; and that it never guesses."""

from __future__ import annotations

import decimal
from dataclasses import replace
from decimal import Decimal
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.circuit.test_circuit import RESISTIVE, TOPOLOGIES, array
from xbarsim.circuit import (
    ConvergenceError,
    PolynomialLaw,
    SinhLaw,
    Wires,
    effective_conductance,
    refinement,
    solution,
    solve,
)

Floats = npt.NDArray[np.float64]
Masks = npt.NDArray[np.bool_]

CUBIC = PolynomialLaw(cubic=(0.0, 0.8), maximum_voltage=10.0)  # I = G (V + 0.8 V^3)
ISSUE = (np.array([[1e-4, 2e-5], [5e-5, 1e-4]]), np.array([0.2, 0.1]))


def by_decimals(cells: Floats, inputs: Floats, design: Wires, rows: Masks, columns: Masks, *, cubic: bool) -> Floats:
    """Cell currents (rows, columns), A, by Gaussian elimination of the nodal matrix and Newton's method."""
    height, width = cells.shape
    word = {(i, j): ("w", i, j) for i in range(height) for j in range(width)}
    bit = {(i, j): ("b", i, j) for i in range(height) for j in range(width)}
    inner = {at: ("x", *at) for at in word}
    floating = design.unselected == "floating"
    links: list[tuple[Any, Any, Decimal]] = []
    segment, other = Decimal(design.word_line_resistance), Decimal(design.bit_line_resistance)
    driver, sense = Decimal(design.driver_resistance), Decimal(design.sense_resistance)
    for i in range(height):
        links += [(word[i, j], word[i, j + 1], segment) for j in range(width - 1)]
        if not floating or rows[i] or design.access == "1T1R":
            links.append((("d", i), word[i, 0], segment + driver))
            if design.drive == "both":
                links.append((("d", i), word[i, width - 1], segment + driver))
    for j in range(width):
        links += [(bit[i, j], bit[i + 1, j], other) for i in range(height - 1)]
        for end, names in ((0, ("near", "both")), (height - 1, ("far", "both"))):
            if design.sense in names and (not floating or columns[j]):
                links.append((("s", j), bit[end, j], other + sense))
    links += [(inner[at], bit[at], Decimal(design.access_resistance)) for at in word]
    one = {node: node for link in links for node in link[:2]}

    def find(node: Any) -> Any:
        while one.setdefault(node, node) != node:
            node = one[node]
        return node

    for a, b, resistance in links:
        if resistance == 0:
            x, y = find(a), find(b)
            if x != y:
                one[x if x[0] not in "ds" else y] = y if x[0] not in "ds" else x  # a terminal stays
    known = {find(("d", i)): Decimal(float(inputs[i])) for i in range(height)}
    known |= {find(("s", j)): Decimal(0) for j in range(width)}
    conducting = {
        at: Decimal(float(cells[at])) for at in word if cells[at] > 0 and (design.access == "0T1R" or rows[at[0]])
    }
    free = sorted({find(node) for node in [*word.values(), *bit.values(), *inner.values()]} - set(known))
    number = {node: k for k, node in enumerate(free)}
    voltages = {**dict.fromkeys(free, Decimal(0)), **known}

    third = Decimal(CUBIC.cubic[1])

    def current(g: Decimal, v: Decimal) -> tuple[Decimal, Decimal]:
        return (g * (v + third * v**3), g * (1 + 3 * third * v * v)) if cubic else (g * v, g)

    for _ in range(40 if cubic else 1):
        matrix = [[Decimal(0)] * len(free) for _ in free]
        right = [Decimal(0)] * len(free)
        parts = [(a, b, 1 / r, None) for a, b, r in links if r > 0]
        parts += [(word[at], inner[at], g, at) for at, g in conducting.items()]  # type: ignore[misc]
        for a, b, g, at in parts:
            x, y = find(a), find(b)
            v = voltages[x] - voltages[y]
            flowing, slope = (g * v, g) if at is None else current(g, v)
            for here, there, sign in ((x, y, Decimal(1)), (y, x, Decimal(-1))):
                if here in number:
                    right[number[here]] -= sign * flowing
                    matrix[number[here]][number[here]] += slope
                    if there in number:
                        matrix[number[here]][number[there]] -= slope
        for k in range(len(free)):
            for row in range(k + 1, len(free)):
                factor = matrix[row][k] / matrix[k][k]
                if factor:
                    for c in range(k, len(free)):
                        matrix[row][c] -= factor * matrix[k][c]
                    right[row] -= factor * right[k]
        steps = [Decimal(0)] * len(free)
        for k in reversed(range(len(free))):
            rest = sum((matrix[k][c] * steps[c] for c in range(k + 1, len(free))), Decimal(0))
            steps[k] = (right[k] - rest) / matrix[k][k]
        for node, k in number.items():
            voltages[node] += steps[k]
        if max(map(abs, steps), default=Decimal(0)) < Decimal("1e-50"):
            break
    result = np.zeros(cells.shape)
    for at, g in conducting.items():
        result[at] = float(current(g, voltages[find(word[at])] - voltages[find(inner[at])])[0])
    return result


def compare(cells: Floats, inputs: Floats, design: Wires, rows: Masks, columns: Masks, *, cubic: bool) -> None:
    """To 1e-12 of the largest cell current, and of what flows in a column; or to the tolerance that can be reached.

    What is left over at a node next to a branch of great conductance is itself known to its rounding alone.
    """
    law = CUBIC if cubic else None
    for tolerance in (1e-13, 1e-12, 1e-11, 1e-10):
        try:
            state = solve(cells, inputs, design, law=law, rows=rows, columns=columns, tolerance=tolerance)
            break
        except ConvergenceError:
            if tolerance == 1e-10:
                raise
    with decimal.localcontext() as context:
        context.prec = 60
        exact = by_decimals(cells, inputs, design, rows, columns, cubic=cubic)
    largest = np.abs(exact).max()
    missing = np.abs(state.cell_currents - exact)
    assert missing.max() <= max(1e-12, tolerance) * largest
    assert missing.max() <= state.error_bound + 1e-14 * largest
    sums = np.where(columns, exact.sum(axis=0), 0.0)
    within = max(1e-12, tolerance) * np.abs(exact).sum(axis=0) + 1e-14 * largest
    assert (np.abs(state.column_currents - sums) <= within).all()


@st.composite
def circuits(draw: st.DrawFn) -> dict[str, Any]:
    """Up to 3 x 3 cells over 8 decades; every resistance zero or anywhere between 1e-18 and 1e6 ohm."""
    resistance = st.just(0.0) | st.floats(-18.0, 6.0).map(lambda power: max(1e-18, 10.0**power))
    design = Wires(
        implausible=True,
        word_line_resistance=draw(resistance),
        bit_line_resistance=draw(resistance),
        driver_resistance=draw(resistance),
        sense_resistance=draw(resistance),
        **draw(st.sampled_from(TOPOLOGIES)),
    )
    if design.access == "1T1R":
        design = replace(design, access_resistance=draw(resistance))
    height, width = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows, columns = rng.random(height) < 0.7, rng.random(width) < 0.7
    rows[rng.integers(height)] = columns[rng.integers(width)] = True
    inputs = np.where(rows, rng.uniform(-0.5, 0.5, height), 0.0)
    cells = np.asarray(10.0 ** rng.uniform(-9, -1, (height, width)))
    return {"cells": cells, "inputs": inputs, "design": design, "rows": rows, "columns": columns}


@settings(deadline=None, max_examples=120)
@given(circuits(), st.booleans())
def test_currents_equal_60_digits_at_all_decades_of_resistance(circuit: dict[str, Any], cubic: bool) -> None:
    compare(**circuit, cubic=cubic)


@pytest.mark.parametrize("resistance", [0.0, *(10.0**power for power in range(-18, 7, 2))])
@pytest.mark.parametrize("driver", [0.0, 1e-9, 1e3, 1e6])
@pytest.mark.parametrize("drive", ["one", "both"])
def test_a_fine_wire_behind_any_driver(resistance: float, driver: float, drive: Any) -> None:
    cells, inputs = ISSUE
    design = Wires(
        word_line_resistance=resistance,
        bit_line_resistance=1.0,
        driver_resistance=driver,
        drive=drive,
        sense="near",
        implausible=True,
    )
    both = np.ones(2, np.bool_)
    for cubic in (False, True):
        compare(cells, inputs, design, both, both, cubic=cubic)
    currents = solve(cells, inputs, design).column_currents
    np.testing.assert_allclose(currents, inputs @ effective_conductance(cells, design), rtol=1e-12)


def test_a_word_line_of_a_picoohm_behind_a_kilohm() -> None:
    """By 60 digits: a solution by node voltages in float64 gave 2.1923e-05 and 1.1087e-05 A."""
    cells, inputs = ISSUE
    design = Wires(word_line_resistance=1e-12, bit_line_resistance=1.0, driver_resistance=1e3)
    state = solve(cells, inputs, design)
    np.testing.assert_allclose(state.column_currents, [2.22003410e-05, 1.22658178e-05], rtol=3e-9)
    assert state.error_bound <= 1e-14 * state.column_currents.max()


@pytest.mark.parametrize("resistance", [1e-18, 1e-15, 1e-12, 1e-9, 1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_large_arrays_at_all_decades_equal_the_elimination(resistance: float) -> None:
    """48 x 40 cells, where sums over long lines would show lost digits: to 1e-11 of each column."""
    rng = np.random.default_rng(11)
    cells, inputs = array(rng, (48, 40)), rng.uniform(0.0, 0.5, 48)
    for driver, drive, bit in ((0.0, "both", 1e-12), (1e3, "one", 1.0), (1e3, "both", resistance), (1.0, "one", 0.0)):
        design = Wires(
            word_line_resistance=resistance,
            bit_line_resistance=bit,
            driver_resistance=driver,
            drive=drive,  # type: ignore[arg-type]
            implausible=True,
        )
        state = solve(cells, inputs, design)
        np.testing.assert_allclose(state.column_currents, inputs @ effective_conductance(cells, design), rtol=1e-11)


def test_nothing_flows_without_cells_or_inputs() -> None:
    state = solve(np.zeros((2, 3)), [0.1, 0.2], Wires())
    np.testing.assert_array_equal(state.column_currents, 0.0)
    assert (state.residual, state.error_bound) == (0.0, 0.0)
    np.testing.assert_array_equal(solve(np.full((2, 3), 1e-4), [0.0, 0.0], RESISTIVE).column_currents, 0.0)


class Wrong(refinement.Levels):
    """Steps that take one node away."""

    def sweep(self, voltages: refinement.Voltages, base: Any) -> refinement.Voltages:
        moved = super().sweep(voltages, base)
        moved.high[0] += 1.0
        return moved


def test_a_residual_beyond_its_bound_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """For straight and for other cells: whatever goes wrong inside, no number comes out."""
    cells = array(np.random.default_rng(12), (6, 5))
    monkeypatch.setattr(solution, "Levels", Wrong)
    for law in (None, CUBIC):
        with pytest.raises(ConvergenceError, match=r"miss zero by .* A, allowed .* A") as caught:
            solve(cells, np.full(6, 0.2), RESISTIVE, law=law)
        assert caught.value.residual > 1e-10 * 0.2 * cells.max()


def test_the_residual_is_within_the_tolerance_that_was_asked_for() -> None:
    cells, inputs = array(np.random.default_rng(13), (8, 8)), np.linspace(0.1, 0.4, 8)
    for law in (None, CUBIC):
        for tolerance in (1e-6, 1e-10, 1e-13):
            state = solve(cells, inputs, RESISTIVE, law=law, tolerance=tolerance)
            assert state.residual <= tolerance * np.abs(state.cell_currents).max()
            assert state.residual <= state.error_bound <= 2 * 64 * state.residual + 1e-18
    with pytest.raises(ConvergenceError):
        solve(cells, inputs, RESISTIVE, tolerance=1e-25)


@pytest.mark.parametrize("law", [None, SinhLaw(voltage_scale=0.2)], ids=["straight", "sinh"])
@pytest.mark.parametrize("driven", [1, 24])
def test_cells_that_hardly_conduct_beside_others_do_not_hide_the_answer(driven: int, law: SinhLaw | None) -> None:
    """Of 1.4 pS and up to 13 uS: what is left over at a node is bounded by itself, not by a billion times as much."""
    rng = np.random.default_rng(1)
    cells = np.where(rng.random((24, 24)) < 0.5, 1.4e-12, rng.uniform(1e-6, 1.3e-5, (24, 24)))
    wires = Wires(word_line_resistance=1.0, bit_line_resistance=1.0)
    voltages = np.where(np.arange(24) < driven, 0.2, 0.0)
    solved = solve(cells, voltages, wires, law=law)
    if law is None:
        expected = voltages @ effective_conductance(cells, wires)
        np.testing.assert_allclose(solved.column_currents, expected, rtol=1e-9)
        return
    assert solved.iterations >= 1
    ideal = np.where(voltages > 0, law.relative(voltages), 0.0) @ cells
    carrying = ideal > 1e-8
    lost = 1.0 - solved.column_currents[carrying] / ideal[carrying]
    assert (lost > 0).all()
    assert (lost < 0.01).all()
