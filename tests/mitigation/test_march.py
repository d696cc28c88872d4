"""March tests: what they believe equals a cell by cell account, and their rates closed forms."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import integrate, stats

from tests.strategies import fault_maps
from xbarsim.devices import (
    Cell,
    FaultKind,
    FaultMap,
    ListedConductances,
    Polynomial,
    ProgrammingError,
    ReadNoise,
    StuckFaults,
)
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError
from xbarsim.mitigation import (
    MNSIM_OPERATIONS,
    PUMA_OPERATIONS,
    ArrayOperations,
    ArrayTest,
    CountedTest,
    MarchTest,
    array_test,
    array_test_names,
)

CELL = Cell(g_min=10e-6, g_max=40e-6, levels=16)


def march(name: str) -> MarchTest:
    test = array_test(name)
    assert isinstance(test, MarchTest)
    return test


def constant(spread: float) -> Polynomial:
    return Polynomial(coefficients=(spread,), scale=1.0)


def close(share: float, expected: float, count: int) -> bool:
    """Within 5 standard deviations of a share of `count`."""
    return bool(abs(share - expected) <= 5 * np.sqrt(expected * (1 - expected) / count) + 1e-12)


# --- tests as data


@pytest.mark.parametrize("name", array_test_names())
def test_every_test_that_comes_with_the_project_survives_its_file_and_is_cited(name: str) -> None:
    test = array_test(name)
    assert test.name == name
    assert "verified" in test.source or "not read" in test.source
    assert tomlio.loads(ArrayTest, tomlio.dumps(test)) == test  # type: ignore[type-abstract]
    if isinstance(test, MarchTest):
        assert MarchTest.parse(str(test), name=test.name, source=test.source) == test


def test_the_operations_of_each_test_are_counted() -> None:
    counts = {name: array_test(name).counts() for name in array_test_names()}
    assert counts == {
        "mats+": (3, 2, 0),
        "march_y": (3, 5, 0),
        "march_c-": (5, 5, 0),
        "enhanced_march": (8, 7, 0),
        "march_rc": (4, 6, 2),
    }


@pytest.mark.parametrize(
    ("notation", "message"),
    [
        ("", "notation must be elements such as"),
        ("up(r0,w1", "notation must be elements such as"),
        ("left(w0)", "order must be one of 'up', 'down', 'any', got 'left'"),
        ("up(w2)", r"operations\[0\] must be one of 'w0', 'w1', 'r0', 'r1', got 'w2'"),
        ("up()", r"operations\[0\] must be one of"),
        ("up(r0)", "elements must expect what was written last, got r0 where it is nothing"),
        ("up(w0); down(r1)", "elements must expect what was written last, got r1 where it is 0"),
    ],
)
def test_what_is_no_march_test_is_refused(notation: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        MarchTest.parse(notation)


def test_a_name_that_is_none_and_numbers_out_of_bounds_are_refused() -> None:
    with pytest.raises(InputError, match=r"name must be one of .*'march_rc'.*got 'march'"):
        array_test("march")
    with pytest.raises(InputError, match="writes must be an integer >= 0"):
        CountedTest(name="a", writes=-1, reads=0)
    with pytest.raises(InputError, match="write_time must be"):
        ArrayOperations(name="a", write_time=-1.0, read_time=0.0)
    with pytest.raises(InputError, match="cells_per_read must be"):
        ArrayOperations(name="a", write_time=1.0, read_time=0.0, cells_per_read=0)
    faults = FaultMap.empty((1, 2, 2))
    with pytest.raises(InputError, match=r"tolerance must be .*> 0\.0"):
        march("mats+").find(faults, CELL, tolerance=0.0, rng=np.random.default_rng(0))
    with pytest.raises(InputError, match="read_sigma must be"):
        march("mats+").find(faults, CELL, tolerance=1e-6, read_sigma=-1.0, rng=np.random.default_rng(0))


# --- what is found


def by_hand(test: MarchTest, faults: FaultMap, tolerance: float) -> list[tuple[int, int, float]]:
    """The same, cell after cell, for a cell without errors."""
    stuck: dict[int, float] = {}
    for index, kind, value in zip(faults.index.tolist(), faults.kind.tolist(), faults.value.tolist(), strict=True):
        stuck[index] = {1: CELL.g_min, 2: CELL.g_max, 3: value}[kind]
    target = {"0": CELL.g_min, "1": CELL.g_max}
    found = []
    for cell in range(faults.cells):
        held = 0.0
        failed: set[str] = set()
        for element in test.elements:
            for what, state in element.operations:
                if what == "w":
                    held = stuck.get(cell, target[state])
                elif abs(held - target[state]) > tolerance:
                    failed.add(state)
        if failed == {"0"} or (failed == {"0", "1"} and abs(held - CELL.g_max) <= tolerance):
            found.append((cell, 2, 0.0))
        elif failed == {"1"} or (failed == {"0", "1"} and abs(held - CELL.g_min) <= tolerance):
            found.append((cell, 1, 0.0))
        elif failed:
            found.append((cell, 3, held))
    return found


@settings(deadline=None)
@given(
    faults=fault_maps(),
    tolerance=st.sampled_from([1e-9, 1e-6, 15e-6, 50e-6]),
    name=st.sampled_from(["mats+", "march_y", "march_c-"]),
)
def test_a_test_without_noise_finds_what_an_account_cell_by_cell_does(
    faults: FaultMap, tolerance: float, name: str
) -> None:
    found = march(name).find(faults, CELL, tolerance=tolerance, rng=np.random.default_rng(0))
    expected = by_hand(march(name), faults, tolerance)
    assert found.shape == faults.shape
    assert list(zip(found.index.tolist(), found.kind.tolist(), strict=True)) == [entry[:2] for entry in expected]
    np.testing.assert_allclose(np.nan_to_num(found.value), [entry[2] for entry in expected], rtol=1e-12)


def test_a_cell_without_errors_is_diagnosed_exactly() -> None:
    faults = StuckFaults(on=0.1, off=0.2).sample((3, 30, 40), np.random.default_rng(1))
    assert march("march_c-").find(faults, CELL, tolerance=1e-6, rng=np.random.default_rng(2)) == faults
    diagnosis = march("march_c-").diagnosis(CELL, tolerance=1e-6, cells=1000)
    assert set(diagnosis.found_shares.values()) == {1.0}
    assert (diagnosis.false_alarm, diagnosis.confusion) == (0.0, 0.0)
    blind = march("march_c-").diagnosis(CELL, tolerance=31e-6, cells=1000)
    assert set(blind.found_shares.values()) == {0.0}


@pytest.mark.parametrize("name", ["mats+", "march_y", "march_c-"])
def test_the_rates_of_a_noisy_test_are_those_of_closed_forms(name: str) -> None:
    """A sound cell errs anew at each write, a read each time; a stuck one only at the reads of the other state."""
    tolerance, write, read = 3e-6, 0.8e-6, 0.6e-6
    cell = Cell(
        g_min=10e-6,
        g_max=40e-6,
        levels=16,
        programming_error=ProgrammingError(spread=constant(write), valid_from=1e-6, valid_to=1e-4),
    )
    count = 1 << 17
    test = march(name)
    diagnosis = test.diagnosis(
        cell, tolerance=tolerance, read_sigma=read, values=ListedConductances(values=(12.5e-6,)), cells=count, seed=3
    )

    def passes(miss: float, reads: int) -> float:
        inside = stats.norm.cdf((tolerance - miss) / read) - stats.norm.cdf((-tolerance - miss) / read)
        return float(inside**reads)

    reads_after_writes: list[int] = []
    for element in test.elements:
        for operation in element.operations:
            if operation[0] == "w":
                reads_after_writes.append(0)
            else:
                reads_after_writes[-1] += 1
    sound = 1.0
    for reads in reads_after_writes:
        sound *= integrate.quad(
            lambda miss, reads=reads: passes(miss, reads) * stats.norm.pdf(miss, scale=write), -8 * write, 8 * write
        )[0]
    assert close(diagnosis.false_alarm, 1 - sound, count)
    assert 0.001 < diagnosis.false_alarm < 0.1
    if name == "mats+":  # both states are read equally often
        assert close(diagnosis.alarms_on, 0.5, int(diagnosis.false_alarm * count))
    # Stuck 2.5 uS above g_min: the reads that expect high conductance all fail. Where there are none, some others do.
    assert diagnosis.found_shares[FaultKind.STUCK_AT] == 1.0
    near = MarchTest.parse("any(w0); up(r0); any(r0)").diagnosis(
        cell, tolerance=tolerance, read_sigma=read, values=ListedConductances(values=(12.5e-6,)), cells=count, seed=4
    )
    assert close(near.found_shares[FaultKind.STUCK_AT], 1 - passes(2.5e-6, 2), count)
    assert close(near.found_shares[FaultKind.STUCK_OFF], 1 - passes(0.0, 2), count)
    assert near.found_shares[FaultKind.STUCK_ON] == 1.0


def test_read_noise_of_the_cell_and_of_the_circuit_add_up() -> None:
    noisy = Cell(
        g_min=10e-6,
        g_max=40e-6,
        levels=16,
        read_voltage=0.2,
        read_noise=ReadNoise(spread=constant(0.6e-6), valid_from=1e-6, valid_to=1e-4),
    )
    test = MarchTest.parse("any(w1,r1)")
    diagnosis = test.diagnosis(noisy, tolerance=2e-6, read_sigma=0.8e-6, cells=1 << 16)
    assert close(diagnosis.false_alarm, 2 * float(stats.norm.sf(2.0)), 1 << 16)
    assert diagnosis.alarms_on == 0.0  # only reads of high conductance: believed to be too low


def test_the_conductance_of_a_stuck_cell_is_the_mean_of_its_reads() -> None:
    diagnosis = march("march_c-").diagnosis(
        CELL, tolerance=1e-6, read_sigma=0.3e-6, values=ListedConductances(values=(25e-6,)), cells=1 << 16
    )
    assert diagnosis.found_shares[FaultKind.STUCK_AT] == 1.0
    assert diagnosis.value_sigma == pytest.approx(0.3e-6 / np.sqrt(5), rel=0.02)


def test_noise_as_large_as_the_range_makes_a_test_miss_and_confuse() -> None:
    test, quiet, loud = march("mats+"), 1e-6, 30e-6
    calm = test.diagnosis(CELL, tolerance=14e-6, read_sigma=quiet, cells=1 << 14)
    wild = test.diagnosis(CELL, tolerance=14e-6, read_sigma=loud, cells=1 << 14)
    assert calm.confusion == 0.0
    assert set(list(calm.found_shares.values())[:2]) == {1.0}
    assert 0.05 < wild.confusion < 0.5
    # MATS+ reads each state once: a cell stuck on passes the read of low conductance with p, of high with q.
    inside = [
        float(stats.norm.cdf((14e-6 - miss) / loud) - stats.norm.cdf((-14e-6 - miss) / loud)) for miss in (30e-6, 0.0)
    ]
    assert close(wild.found_shares[FaultKind.STUCK_ON], 1 - inside[0] * inside[1], 1 << 14)


def test_a_tolerance_of_neurram_and_its_share_of_missed_cells() -> None:
    """1 uS of 40 uS, missed by 0.77 %: one write and read of a normal error that misses as often says the same."""
    missed = 0.0077
    sigma = 1e-6 / float(stats.norm.isf(missed / 2))
    cell = Cell(
        g_min=5e-6,
        g_max=40e-6,
        levels=16,
        programming_error=ProgrammingError(spread=constant(sigma), valid_from=1e-6, valid_to=1e-4),
    )
    diagnosis = MarchTest.parse("any(w1,r1)").diagnosis(cell, tolerance=1e-6, cells=1 << 18)
    assert close(diagnosis.false_alarm, missed, 1 << 18)


# --- what it takes


def test_march_rc_on_an_array_of_puma_takes_105_us_and_123_nj() -> None:
    test, cells = array_test("march_rc"), 128 * 128
    time, energy = test.time(PUMA_OPERATIONS, cells), test.energy(PUMA_OPERATIONS, cells)
    assert time == pytest.approx(4 * 10.97e-6 + 6 * 10.25e-6, rel=1e-3)
    assert energy == pytest.approx(4 * 21.1e-9 + 6 * 6.5e-9, rel=2e-3)
    assert time == pytest.approx(105.4e-6, rel=1e-3)
    assert energy == pytest.approx(123.5e-9, rel=1e-3)


@given(
    cells=st.integers(1, 10**6),
    write=st.floats(0, 1e-3),
    read=st.floats(0, 1e-3),
    wide=st.integers(1, 1000),
    name=st.sampled_from(array_test_names()),
)
def test_time_and_energy_are_those_of_the_operations(
    cells: int, write: float, read: float, wide: int, name: str
) -> None:
    operations = ArrayOperations(
        name="a",
        write_time=write,
        read_time=read,
        write_energy=2 * write,
        read_energy=3 * read,
        cells_per_write=wide,
        cells_per_read=2 * wide,
    )
    test = array_test(name)
    writes, reads, extra = test.counts()
    time = (writes * cells + extra) / wide * write + reads * cells / (2 * wide) * read
    energy = (writes * cells + extra) / wide * 2 * write + reads * cells / (2 * wide) * 3 * read
    assert test.time(operations, cells) == pytest.approx(time)
    assert test.energy(operations, cells) == pytest.approx(energy)


def test_a_diagnosis_carries_time_and_energy_and_says_where_they_are_unknown() -> None:
    test = march("march_c-")
    puma: Any = test.diagnosis(CELL, tolerance=1e-6, cells=10, operations=PUMA_OPERATIONS)
    assert puma.time(128 * 128) == pytest.approx(5 * 10.96875e-6 + 5 * 10.25e-6)
    assert puma.energy(128 * 128) == pytest.approx(5 * 21.125e-9 + 5 * 6.5e-9)
    mnsim = test.diagnosis(CELL, tolerance=1e-6, cells=10, operations=MNSIM_OPERATIONS)
    assert mnsim.time(256) == pytest.approx(5 * 13.16e-9)
    assert mnsim.energy(256) is None
    assert test.diagnosis(CELL, tolerance=1e-6, cells=10).time(256) is None
    assert tomlio.loads(type(puma), tomlio.dumps(puma)) == puma
