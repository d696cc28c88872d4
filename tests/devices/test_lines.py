"""Lines that break: what an open line and touching ones do to conductances, and how often lines break."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from tests.strategies import relaxed
from xbarsim.devices import BrokenLines, LineFaults
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError


@st.composite
def broken_lines(draw: st.DrawFn) -> tuple[BrokenLines, np.ndarray]:
    """Any broken lines, and conductances of the arrays they are in."""
    tiles, rows, columns = draw(st.integers(0, 3)), draw(st.integers(1, 4)), draw(st.integers(1, 7))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rate = draw(st.sampled_from([0.0, 0.3, 0.7, 1.0]))
    lines = BrokenLines(
        rng.random((tiles, rows)) < rate,
        rng.random((tiles, columns)) < rate,
        rng.random((tiles, columns - 1)) < rate,
    )
    return lines, rng.uniform(1e-6, 1e-4, (tiles, rows, columns))


# --- opens


@relaxed
@given(case=broken_lines())
def test_cells_of_open_lines_are_taken_out_and_no_others(case: tuple[BrokenLines, np.ndarray]) -> None:
    lines, conductance = case
    opened = conductance.copy()
    lines.open(opened)
    for (tile, row, column), value in np.ndenumerate(conductance):
        cut = lines.open_word_lines[tile, row] or lines.open_bit_lines[tile, column]
        assert opened[tile, row, column] == (0.0 if cut else value)


# --- shorts


@pytest.mark.parametrize(
    ("touching", "expected"),
    [
        ([0, 0, 0, 0], [1.0, 5.0, 3.0, 10.0, 6.0]),
        ([1, 0, 0, 0], [3.0, 3.0, 3.0, 10.0, 6.0]),  # (1 + 5) / 2
        ([0, 1, 1, 0], [1.0, 6.0, 6.0, 6.0, 6.0]),  # (5 + 3 + 10) / 3
        ([1, 0, 1, 0], [3.0, 3.0, 6.5, 6.5, 6.0]),  # two runs of two
        ([1, 1, 1, 1], [5.0] * 5),
    ],
)
def test_touching_lines_divide_their_current_equally(touching: list[int], expected: list[float]) -> None:
    lines = BrokenLines.none(2, 2, 5)
    lines.shorted_bit_lines[1] = touching
    currents = np.array([[[1.0, 5.0, 3.0, 10.0, 6.0], [2.0, 10.0, 6.0, 20.0, 12.0]]] * 2)
    before = currents.copy()
    lines.share(currents)
    np.testing.assert_array_equal(currents[0], before[0])
    np.testing.assert_array_equal(currents[1], [expected, [2 * value for value in expected]])


@relaxed
@given(case=broken_lines())
def test_runs_of_touching_lines_keep_their_sum_and_share_it(case: tuple[BrokenLines, np.ndarray]) -> None:
    lines, conductance = case
    shared = conductance.copy()
    lines.share(shared)
    for tile, touches in enumerate(lines.shorted_bit_lines):
        run: list[list[int]] = [[0]]  # walked from left to right
        for column, touching in enumerate(touches, start=1):
            if touching:
                run[-1].append(column)
            else:
                run.append([column])
        for members in run:
            for row in range(conductance.shape[1]):
                mean = math.fsum(conductance[tile, row, members]) / len(members)
                np.testing.assert_allclose(shared[tile, row, members], mean, rtol=1e-15 if len(members) == 1 else 1e-12)


def test_nothing_broken_changes_nothing() -> None:
    conductance = np.random.default_rng(0).uniform(0.0, 1.0, (2, 3, 4))
    lines, after = BrokenLines.none(2, 3, 4), conductance.copy()
    lines.open(after)
    lines.share(after)
    np.testing.assert_array_equal(after, conductance)
    assert BrokenLines.none(2, 3, 1).shorted_bit_lines.shape == (2, 0)


# --- how lines break

ALARM = 1e-6  # two-sided false-alarm rate of each binomial test below; the seed is fixed, so they pass for ever


def within_binomial(count: int, trials: int, rate: float) -> bool:
    """Whether a count is inside the exact bounds of a binomial law."""
    low, high = stats.binom.ppf([ALARM / 2, 1 - ALARM / 2], trials, rate)
    return bool(low <= count <= high)


def test_lines_break_at_their_rates() -> None:
    faults = LineFaults(open_word_line=0.02, open_bit_line=0.3, shorted_bit_lines=0.07)
    lines = faults.sample((200, 64, 33), np.random.default_rng(5))
    masks = (lines.open_word_lines, lines.open_bit_lines, lines.shorted_bit_lines)
    assert [mask.shape for mask in masks] == [(200, 64), (200, 33), (200, 32)]
    for mask, rate in zip(masks, (0.02, 0.3, 0.07), strict=True):
        assert mask.dtype == np.bool_
        assert within_binomial(int(mask.sum()), mask.size, rate)
        # neighbours break on their own: as often together as chance has it (pairs that do not overlap)
        together = mask[:, 0:-1:2] & mask[:, 1::2][:, : mask[:, 0:-1:2].shape[1]]
        assert within_binomial(int(together.sum()), together.size, rate**2)


def test_the_same_source_breaks_the_same_lines_and_one_rate_does_not_move_another() -> None:
    first, second = (
        LineFaults(open_word_line=0.3, open_bit_line=0.3, shorted_bit_lines=shorts).sample(
            (4, 8, 9), np.random.default_rng(1)
        )
        for shorts in (0.3, 0.0)
    )
    again = LineFaults(open_word_line=0.3, open_bit_line=0.3, shorted_bit_lines=0.3).sample(
        (4, 8, 9), np.random.default_rng(1)
    )
    other = LineFaults(open_word_line=0.3, open_bit_line=0.3, shorted_bit_lines=0.3).sample(
        (4, 8, 9), np.random.default_rng(2)
    )
    for name in ("open_word_lines", "open_bit_lines", "shorted_bit_lines"):
        np.testing.assert_array_equal(getattr(first, name), getattr(again, name))
        assert (getattr(first, name) != getattr(other, name)).any()
    np.testing.assert_array_equal(first.open_word_lines, second.open_word_lines)
    np.testing.assert_array_equal(first.open_bit_lines, second.open_bit_lines)
    assert first.shorted_bit_lines.any()
    assert not second.shorted_bit_lines.any()


def test_never_and_always() -> None:
    always = LineFaults(open_word_line=1, open_bit_line=1, shorted_bit_lines=1)
    lines = always.sample((2, 3, 4), np.random.default_rng(0))
    assert lines.open_word_lines.all()
    assert lines.open_bit_lines.all()
    assert lines.shorted_bit_lines.all()
    never = LineFaults().sample((2, 3, 4), np.random.default_rng(0))
    for mask in (never.open_word_lines, never.open_bit_lines, never.shorted_bit_lines):
        assert not mask.any()
    assert always.sample((0, 3, 1), np.random.default_rng(0)).shorted_bit_lines.shape == (0, 0)
    assert all(isinstance(getattr(always, name), float) for name in ("open_word_line", "shorted_bit_lines"))


# --- bad input, and TOML


@pytest.mark.parametrize("name", ["open_word_line", "open_bit_line", "shorted_bit_lines"])
@pytest.mark.parametrize("value", [-0.1, 1.5, math.nan, math.inf, "0.1", True])
def test_rates_that_are_refused(name: str, value: Any) -> None:
    with pytest.raises(InputError, match=rf"{name} must be a finite number >= 0\.0 and <= 1\.0, got {value!r}"):
        LineFaults(**{name: value})


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 3), r"shape must be \(tiles, rows, columns\), got \(2, 3\)"),
        ((2, -1, 3), r"shape\[1\] must be an integer >= 0, got -1"),
        ((2, 3, 1.5), r"shape\[2\] must be an integer >= 0, got 1.5"),
    ],
)
def test_shapes_that_are_refused(shape: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        LineFaults().sample(shape, np.random.default_rng(0))


def test_a_seed_is_no_source_of_draws() -> None:
    with pytest.raises(InputError, match="rng must be of type Generator, got 7"):
        LineFaults().sample((1, 2, 3), 7)  # type: ignore[arg-type]


def test_toml() -> None:
    faults = LineFaults(open_word_line=0.1, open_bit_line=1e-5, shorted_bit_lines=1 / 3)
    assert tomlio.loads(LineFaults, tomlio.dumps(faults)) == faults
    with pytest.raises(FileFormatError, match="has no key 'open_line'"):
        tomlio.loads(LineFaults, "open_line = 0.1")
    with pytest.raises(InputError, match=r"open_bit_line must be .* got 2.0"):
        tomlio.loads(LineFaults, "open_bit_line = 2.0")
