"""Fault models made of others or of a measurement."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from scipy import stats

from xbarsim.data import data_file
from xbarsim.devices import (
    CombinedFaults,
    FaultKind,
    FaultMap,
    FaultModel,
    GradientFaults,
    ListedConductances,
    LogNormalConductances,
    MeasuredFaults,
    RadialFaults,
    StuckAtFaults,
    StuckFaults,
    StuckLineFaults,
    UniformConductances,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError

FALSE_ALARM = 1e-6  # of each statistical test, over the choice of its seed

EVEN = StuckFaults(on=0.1, off=0.2)


# ------------------------------------------------------------------------------------------- stuck at


@pytest.mark.parametrize(
    ("law", "distribution"),
    [
        (UniformConductances(low=1e-6, high=3e-6), stats.uniform(1e-6, 2e-6)),
        (LogNormalConductances(median=2e-6, sigma=0.7), stats.lognorm(0.7, scale=2e-6)),
    ],
)
def test_conductances_follow_their_law(law: Any, distribution: Any) -> None:
    conductances = law.draw(20_000, np.random.default_rng(1))
    assert stats.kstest(conductances, distribution.cdf).pvalue > FALSE_ALARM


def test_listed_conductances_are_drawn_as_often() -> None:
    conductances = ListedConductances(values=(1e-6, 2e-6, 5e-6)).draw(9000, np.random.default_rng(2))
    values, counts = np.unique(conductances, return_counts=True)
    assert values.tolist() == [1e-6, 2e-6, 5e-6]
    assert stats.chisquare(counts).pvalue > FALSE_ALARM
    assert ListedConductances(values=(3e-6,)).draw(4, np.random.default_rng(0)).tolist() == [3e-6] * 4


def test_cells_stay_where_they_are_and_get_a_value() -> None:
    model = StuckAtFaults(where=EVEN, on_conductances=ListedConductances(values=(4e-6,)))
    plain = EVEN.sample((3, 20, 20), np.random.default_rng(7))
    faults = model.sample((3, 20, 20), np.random.default_rng(7))
    np.testing.assert_array_equal(faults.index, plain.index)
    was_on = plain.kind == FaultKind.STUCK_ON
    assert (faults.kind[was_on] == FaultKind.STUCK_AT).all()
    assert (faults.value[was_on] == 4e-6).all()
    np.testing.assert_array_equal(faults.kind[~was_on], plain.kind[~was_on])
    assert model.rates == {FaultKind.STUCK_OFF: 0.2, FaultKind.STUCK_ON: 0.0, FaultKind.STUCK_AT: 0.1}
    assert model.total == EVEN.total
    assert model.with_total(0.03).where == EVEN.with_total(0.03)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ListedConductances(values=()), "values must be at least one conductance, got ()"),
        (lambda: ListedConductances(values=(1.0, -1.0)), "values[1] must be a finite number >= 0.0, got -1.0"),
        (lambda: UniformConductances(low=2.0, high=1.0), "high must be a finite number >= 2.0, got 1.0"),
        (lambda: LogNormalConductances(median=0.0, sigma=1.0), "median must be a finite number > 0.0, got 0.0"),
        (lambda: LogNormalConductances(median=1.0, sigma=9.0), "sigma must be a finite number >= 0.0 and <= 5.0"),
        (lambda: StuckAtFaults(where=EVEN), "on_conductances or off_conductances must be given, got None for both"),
        (lambda: CombinedFaults(models=()), "models must be at least one fault model, got ()"),
        (lambda: CombinedFaults(models=(EVEN, 3)), "models[1] must be of type FaultModel, got 3"),  # type: ignore[arg-type]
    ],
)
def test_bad_parameters_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        make()


# ------------------------------------------------------------------------------------------- combined


def test_the_first_model_wins() -> None:
    every_off = StuckFaults(on=0.0, off=1.0)
    both = CombinedFaults(models=(EVEN, every_off))
    alone = EVEN.sample((2, 30, 30), np.random.default_rng(3))
    faults = both.sample((2, 30, 30), np.random.default_rng(3))
    assert faults.rate == 1.0
    np.testing.assert_array_equal(faults.kind[alone.index], alone.kind)
    assert (np.delete(faults.kind, alone.index) == FaultKind.STUCK_OFF).all()
    assert both.rates == pytest.approx(
        {FaultKind.STUCK_OFF: 0.2 + 0.7, FaultKind.STUCK_ON: 0.1, FaultKind.STUCK_AT: 0.0}
    )


def test_rates_of_a_combination_are_what_is_found() -> None:
    model = CombinedFaults(
        models=(
            GradientFaults(on=0.0, off=0.2, contrast=1.0),
            StuckFaults(on=0.3, off=0.0),
            StuckFaults(on=0.0, off=0.1),
        )
    )
    assert model.total == pytest.approx(1 - 0.8 * 0.7 * 0.9)
    assert model.rates[FaultKind.STUCK_ON] == pytest.approx(0.8 * 0.3)
    faults = model.sample((20, 100, 100), np.random.default_rng(12))
    for kind in (FaultKind.STUCK_ON, FaultKind.STUCK_OFF):
        # Independent cells of unequal rates vary less than a binomial number: conservative.
        p_value = stats.binomtest(faults.counts[kind], faults.cells, model.rates[kind]).pvalue
        assert p_value > FALSE_ALARM / 2


@pytest.mark.parametrize("rate", [0.0, 1e-4, 0.05, 0.9, 1.0])
def test_another_total_of_a_combination(rate: float) -> None:
    model = CombinedFaults(models=(EVEN, StuckLineFaults(on=0.01, off=0.0), StuckFaults(on=0.0, off=0.0)))
    changed = model.with_total(rate)
    assert changed.total == pytest.approx(rate, rel=1e-12)
    assert changed.models[2] == model.models[2]


def test_a_combination_without_a_ratio() -> None:
    nothing = CombinedFaults(models=(StuckFaults(on=0.0, off=0.0),))
    assert nothing.with_total(0.0) == nothing
    with pytest.raises(InputError, match=r"rate must be 0 where no model breaks any cell .*got 0.1"):
        nothing.with_total(0.1)
    with pytest.raises(InputError, match=r"rate must be 1 where a model breaks every cell .*got 0.1"):
        CombinedFaults(models=(StuckFaults(on=1.0, off=0.0),)).with_total(0.1)


def test_two_uneven_models_are_refused() -> None:
    with pytest.raises(InputError, match=r"at most 1 whose rate differs .*, got GradientFaults and RadialFaults"):
        CombinedFaults(
            models=(GradientFaults(on=0.1, off=0.0, contrast=0.5), RadialFaults(on=0.1, off=0.0, contrast=0.5))
        )
    CombinedFaults(models=(GradientFaults(on=0.1, off=0.0, contrast=0.5), RadialFaults(on=0.1, off=0.0, contrast=0.0)))


# ------------------------------------------------------------------------------------------- measured


@pytest.fixture
def measured(tmp_path: Path) -> MeasuredFaults:
    kinds = np.zeros((2, 6, 9), np.uint8)
    kinds[0, 1, 1:5] = FaultKind.STUCK_ON
    kinds[0, 4, 8] = FaultKind.STUCK_OFF
    kinds[1, 2:5, 3] = FaultKind.STUCK_AT
    path = tmp_path / "chip.npz"
    FaultMap.from_dense(kinds, np.full(kinds.shape, 2e-6), note="chip").save(path)
    return MeasuredFaults(path=str(path))


def test_windows_are_cut_from_the_map(measured: MeasuredFaults) -> None:
    dense = measured.source.dense()
    faults = measured.sample((200, 6, 9), np.random.default_rng(4))
    for tile in faults.dense():
        shifts = [np.roll(source, (r, c), (0, 1)) for source in dense for r in range(6) for c in range(9)]
        assert any(np.array_equal(tile, shift) for shift in shifts)
    assert (faults.value[faults.kind == FaultKind.STUCK_AT] == 2e-6).all()
    assert measured.rates == pytest.approx(
        {FaultKind.STUCK_ON: 4 / 108, FaultKind.STUCK_OFF: 1 / 108, FaultKind.STUCK_AT: 3 / 108}
    )


@pytest.mark.parametrize("shape", [(500, 3, 4), (60, 14, 20), (300, 6, 9)])
@pytest.mark.parametrize("keep", [1.0, 0.4])
def test_windows_of_any_size_have_the_rate_of_the_map(
    measured: MeasuredFaults, shape: tuple[int, int, int], keep: float
) -> None:
    model = measured.with_total(keep * measured.total)
    assert model.keep == pytest.approx(keep)
    rng = np.random.default_rng(5)
    shares = np.array([model.sample((1, *shape[1:]), rng).rate for _ in range(4 * shape[0])])
    margin = stats.norm.isf(FALSE_ALARM / 12) * shares.std(ddof=1) / math.sqrt(shares.size)
    assert abs(shares.mean() - 8 / 108 * keep) <= margin + 1e-12


def test_a_map_keeps_its_identity(measured: MeasuredFaults) -> None:
    text = tomlio.dumps(measured)
    assert tomlio.loads(FaultModel, text) == measured  # type: ignore[type-abstract]
    other = FaultMap.from_dense(np.ones((1, 2, 2), np.uint8))
    other.save(measured.path)
    with pytest.raises(InputError, match=r"content must be the hash of the map in .*, got"):
        tomlio.loads(FaultModel, text)  # type: ignore[type-abstract]


def test_bad_measured_maps_are_refused(measured: MeasuredFaults, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"rate must be .*<= 0.074.*, got 0.5"):
        measured.with_total(0.5)
    with pytest.raises(FileFormatError, match="cannot read a fault map"):
        MeasuredFaults(path=str(tmp_path / "nothing.npz"))
    with pytest.raises(InputError, match=r"keep must be .*<= 1.0, got 1.5"):
        MeasuredFaults(path=measured.path, keep=1.5)
    FaultMap.empty((0, 3, 3)).save(tmp_path / "empty.npz")
    with pytest.raises(InputError, match="path must name a map with at least 1 tile"):
        MeasuredFaults(path=str(tmp_path / "empty.npz"))


@pytest.mark.data
def test_dead_cells_of_a_chip() -> None:
    model = MeasuredFaults(path=str(data_file("rram", "nirram_C13_deadcells.csv")), layout="addresses")
    assert len(model.source) == 778
    assert model.total == pytest.approx(778 / 65536)
    faults = model.sample((64, 128, 128), np.random.default_rng(6))
    assert faults.counts[FaultKind.STUCK_AT] == len(faults)
    assert 0.008 < faults.rate < 0.016
    assert set(faults.value) <= set(model.source.value)


@pytest.mark.data
def test_chip_with_many_unformed_cells() -> None:
    with np.load(data_file("rram", "nirram_chip_resistance_maps.npz")) as archive:
        names = [name for name in archive.files if "CHIP_7" in name.upper() and "form" in name.lower()]
        assert names, archive.files
        resistance = np.asarray(archive[names[0]], dtype=np.float64).reshape(256, 256)
    faults = FaultMap.from_resistance(resistance, high=100e3, stuck="ends")
    assert faults.off_rate == pytest.approx(0.248, abs=0.001)  # as the notes on the data say
    assert faults.on_rate == 0
    assert faults.morans_i() > 0.05  # they come together
