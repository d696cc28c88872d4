"""Fault models: the realised rate is the requested one."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from xbarsim.devices import FaultKind, FaultModel, StuckFaults
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

# Every statistical test below has a fixed seed, and would raise a false alarm for this share of seeds.
FALSE_ALARM = 1e-6

rates = st.floats(0.0, 1.0)
models = st.builds(
    lambda total, share, count: StuckFaults(on=total * share, off=total - total * share, count=count),
    rates,
    rates,
    st.sampled_from(["independent", "exact"]),
)
shapes = st.tuples(st.integers(0, 3), st.integers(1, 12), st.integers(1, 12))


@pytest.mark.parametrize("count", ["independent", "exact"])
@pytest.mark.parametrize(
    ("on", "off", "shape"),
    [
        (0.0175, 0.0904, (3, 500, 800)),  # the last block is not full
        (0.0904, 0.0175, (10, 128, 128)),
        (0.3, 0.6, (1, 400, 400)),
        (1e-5, 2e-5, (2, 1000, 1000)),
    ],
)
def test_realised_rates_are_the_requested_ones(on: float, off: float, shape: tuple[int, int, int], count: Any) -> None:
    faults = StuckFaults(on=on, off=off, count=count).sample(shape, np.random.default_rng(11))
    for kind, rate in ((FaultKind.STUCK_ON, on), (FaultKind.STUCK_OFF, off)):
        # Exact; for "exact" counts, whose number varies less, it is conservative.
        p_value = stats.binomtest(faults.counts[kind], faults.cells, rate).pvalue
        assert p_value > FALSE_ALARM / 16
    assert stats.binomtest(len(faults), faults.cells, on + off).pvalue > FALSE_ALARM / 16
    assert faults.on_rate + faults.off_rate == pytest.approx(faults.rate)


def test_the_number_of_independent_faults_is_binomial() -> None:
    rng = np.random.default_rng(5)
    model = StuckFaults(on=0.1, off=0.2)
    numbers = np.array([len(model.sample((1, 4, 5), rng)) for _ in range(4000)])
    seen = np.bincount(numbers, minlength=21)
    expected = stats.binom.pmf(np.arange(21), 20, 0.3) * numbers.size
    pool = expected > 5
    seen_pooled = [*seen[pool], seen[~pool].sum()]
    expected_pooled = [*expected[pool], expected[~pool].sum()]
    assert stats.chisquare(seen_pooled, expected_pooled).pvalue > FALSE_ALARM


@pytest.mark.parametrize("count", ["independent", "exact"])
def test_every_cell_breaks_as_often(count: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from xbarsim.devices.faults import base

    monkeypatch.setattr(base, "_BLOCK", 7)  # many blocks, the last one not full
    rng = np.random.default_rng(6)
    model = StuckFaults(on=0.12, off=0.08, count=count)
    repeats = 3000
    on, off = np.zeros(30), np.zeros(30)
    for _ in range(repeats):
        kinds = model.sample((2, 3, 5), rng).dense().reshape(-1)
        on += kinds == FaultKind.STUCK_ON
        off += kinds == FaultKind.STUCK_OFF
    for seen, rate in ((on, model.on), (off, model.off)):
        worst = min(stats.binomtest(int(number), repeats, rate).pvalue for number in seen)
        assert worst > FALSE_ALARM / 60


@given(models, shapes, st.integers(0, 2**32))
def test_faults_are_distinct_sorted_and_of_two_kinds(
    model: StuckFaults, shape: tuple[int, int, int], seed: int
) -> None:
    faults = model.sample(shape, np.random.default_rng(seed))
    assert faults.shape == shape
    assert np.all(np.diff(faults.index) > 0)
    assert faults.counts[FaultKind.STUCK_AT] == 0
    dense = faults.dense()
    # No cell is both: every fault is in one of two disjoint sets.
    assert np.count_nonzero(dense == FaultKind.STUCK_ON) + np.count_nonzero(dense == FaultKind.STUCK_OFF) == len(faults)
    if model.on == 0:
        assert faults.counts[FaultKind.STUCK_ON] == 0
    if model.off == 0:
        assert faults.counts[FaultKind.STUCK_OFF] == 0
    assert faults == model.sample(shape, np.random.default_rng(seed))


@given(models, shapes, st.integers(0, 2**32))
def test_exact_counts_are_the_expected_ones_rounded_up_or_down(
    model: StuckFaults, shape: tuple[int, int, int], seed: int
) -> None:
    exact = StuckFaults(on=model.on, off=model.off, count="exact")
    faults = exact.sample(shape, np.random.default_rng(seed))
    wanted = faults.cells * exact.total
    assert math.floor(wanted) <= len(faults) <= min(math.floor(wanted) + 1, faults.cells)
    for kind, rate in ((FaultKind.STUCK_ON, exact.on), (FaultKind.STUCK_OFF, exact.off)):
        assert abs(faults.counts[kind] - faults.cells * rate) < 1 + 1e-9


def test_exact_counts_are_unbiased_in_small_arrays() -> None:
    # 0.45 faults an array: truncation would never make one, rounding to nearest neither.
    rng = np.random.default_rng(8)
    model = StuckFaults(on=0.02, off=0.03, count="exact")
    repeats = 6_000
    maps = [model.sample((1, 3, 3), rng) for _ in range(repeats)]
    for kind, mean in ((FaultKind.STUCK_ON, 9 * 0.02), (FaultKind.STUCK_OFF, 9 * 0.03)):
        total = sum(faults.counts[kind] for faults in maps)  # each array has 0 or 1
        assert stats.binomtest(total, repeats, mean).pvalue > FALSE_ALARM / 2


@pytest.mark.parametrize("count", ["independent", "exact"])
def test_certain_faults(count: Any) -> None:
    shape = (1, 30, 40)
    every = StuckFaults(on=0.25, off=0.75, count=count).sample(shape, np.random.default_rng(0))
    assert len(every) == 1200
    assert StuckFaults(on=1.0, off=0.0, count=count).sample(shape, np.random.default_rng(0)).on_rate == 1.0
    rng = np.random.default_rng(0)
    before = rng.bit_generator.state
    assert len(StuckFaults(on=0.0, off=0.0, count=count).sample(shape, rng)) == 0
    assert rng.bit_generator.state == before


@given(models.filter(lambda model: model.total > 0), rates)
def test_another_total_keeps_the_ratio(model: StuckFaults, rate: float) -> None:
    other = model.with_total(rate)
    assert other.total == pytest.approx(rate, rel=1e-12, abs=1e-300)
    assert other.on * model.off == pytest.approx(other.off * model.on, rel=1e-6, abs=1e-15)
    assert other.count == model.count


def test_a_total_of_nothing_has_no_ratio() -> None:
    nothing = StuckFaults(on=0.0, off=0.0)
    assert nothing.with_total(0.0) == nothing
    with pytest.raises(InputError, match=r"rate must be 0 .*got 0.1"):
        nothing.with_total(0.1)
    with pytest.raises(InputError, match=r"rate must be .*<= 1.0, got 1.5"):
        StuckFaults(on=0.1, off=0.1).with_total(1.5)


@given(models)
def test_a_model_survives_toml(model: StuckFaults) -> None:
    text = tomlio.dumps(model)
    assert tomlio.loads(StuckFaults, text) == model
    assert tomlio.loads(FaultModel, text) == model  # type: ignore[type-abstract]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"on": -0.1, "off": 0.0}, r"on must be .*>= 0.0 and <= 1.0, got -0.1"),
        ({"on": 0.0, "off": 1.1}, r"off must be .*>= 0.0 and <= 1.0, got 1.1"),
        ({"on": math.nan, "off": 0.0}, r"on must be .*got nan"),
        ({"on": True, "off": 0.0}, r"on must be .*got True"),
        ({"on": 0.6, "off": 0.5}, r"on \+ off must be <= 1, got 0.6 \+ 0.5 = 1.1"),
        ({"on": 0.1, "off": 0.1, "count": "poisson"}, r"count must be one of 'independent', 'exact', got"),
    ],
)
def test_bad_rates_are_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        StuckFaults(**arguments)


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((1, 0, 4), r"shape\[1\] \(rows\) must be .*>= 1, got 0"),
        ((1, 4, 0), r"shape\[2\] \(columns\) must be .*>= 1, got 0"),
        ((4, 4), r"shape must be \(tiles, rows, columns\), got \(4, 4\)"),
        ((-1, 4, 4), r"shape\[0\] \(tiles\) must be .*>= 0, got -1"),
        ((1, 2.5, 4), r"shape\[1\] \(rows\) must be an integer"),
    ],
)
def test_a_bad_shape_is_refused(shape: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        StuckFaults(on=0.1, off=0.1).sample(shape, np.random.default_rng(0))


def test_a_seed_is_no_generator() -> None:
    with pytest.raises(InputError, match="rng must be of type Generator"):
        StuckFaults(on=0.1, off=0.1).sample((1, 2, 2), 7)  # type: ignore[arg-type]


def test_an_exact_count_of_too_many_cells_is_refused() -> None:
    with pytest.raises(InputError, match="number of cells must be an integer <= 999999999"):
        StuckFaults(on=1e-9, off=0.0, count="exact").sample((1000, 1000, 1000), np.random.default_rng(0))


def test_unknown_keys_are_refused() -> None:
    with pytest.raises(FileFormatError, match="no key 'rate'"):
        tomlio.loads(StuckFaults, "on = 0.1\noff = 0.1\nrate = 0.2")
    with pytest.raises(FileFormatError, match="on must be float, got '1 %'"):
        tomlio.loads(StuckFaults, "on = '1 %'\noff = 0.1")
