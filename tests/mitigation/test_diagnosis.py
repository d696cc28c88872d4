"""What a test believes of a die: exact at its ends, nested in its rates, right in its counts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.strategies import fault_maps
from xbarsim.devices import FaultKind, FaultMap, StuckFaults
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.mitigation import Diagnosis, Granularity, KindCoverage

SHARE = st.floats(0.0, 1.0)
GRANULARITIES: tuple[Granularity, ...] = ("cell", "word_line", "bit_line", "tile")


@st.composite
def diagnoses(draw: st.DrawFn) -> Diagnosis:
    kinds = st.builds(KindCoverage, stuck_off=SHARE, stuck_on=SHARE, stuck_at=SHARE)
    cost = st.none() | st.floats(0.0, 1e-3)
    return Diagnosis(
        coverage=draw(SHARE | kinds),
        false_alarm=draw(SHARE),
        alarms_on=draw(SHARE),
        confusion=draw(SHARE),
        granularity=draw(st.sampled_from(GRANULARITIES)),
        value_sigma=draw(st.floats(0.0, 1e-5)),
        time_per_cell=draw(cost),
        energy_per_cell=draw(cost),
    )


def believed(diagnosis: Diagnosis, faults: FaultMap, seed: int = 0) -> FaultMap:
    return diagnosis.known(faults, np.random.default_rng(seed))


def entries(faults: FaultMap) -> set[tuple[int, int, str]]:
    return set(zip(faults.index.tolist(), faults.kind.tolist(), map(repr, faults.value.tolist()), strict=True))


@given(diagnosis=diagnoses())
def test_a_diagnosis_survives_its_file(diagnosis: Diagnosis) -> None:
    assert tomlio.loads(Diagnosis, tomlio.dumps(diagnosis)) == diagnosis


def test_the_file_of_a_die_of_before_still_says_the_same() -> None:
    assert tomlio.loads(Diagnosis, "coverage = 0.8") == Diagnosis(coverage=0.8)
    with pytest.raises(FileFormatError, match="no key 'speed'"):
        tomlio.loads(Diagnosis, "speed = 1")


@given(faults=fault_maps(), coverage=SHARE, seed=st.integers(0, 100))
def test_a_test_that_only_misses_draws_one_number_a_fault_and_no_more(
    faults: FaultMap, coverage: float, seed: int
) -> None:
    """Dies that were saved know what they knew: by hand, and the generator stands where it stood."""
    rng, own = np.random.default_rng(seed), np.random.default_rng(seed)
    known = Diagnosis(coverage=coverage).known(faults, rng)
    hit = own.random(len(faults)) < coverage
    assert entries(known) == {entry for entry in entries(faults) if hit[faults.index.tolist().index(entry[0])]}
    assert known.note == faults.note
    assert rng.bit_generator.state == own.bit_generator.state


@given(faults=fault_maps(), diagnosis=diagnoses(), seed=st.integers(0, 100))
def test_without_errors_the_map_is_exact_and_a_blind_test_finds_nothing(
    faults: FaultMap, diagnosis: Diagnosis, seed: int
) -> None:
    exact = replace(diagnosis, coverage=1.0, false_alarm=0.0, confusion=0.0, value_sigma=0.0, granularity="cell")
    assert believed(exact, faults, seed) == faults
    assert len(believed(replace(diagnosis, coverage=0.0, false_alarm=0.0), faults, seed)) == 0
    everything = believed(replace(diagnosis, coverage=1.0, false_alarm=1.0), faults, seed)
    assert len(everything) == faults.cells
    assert believed(diagnosis, faults, seed) == believed(diagnosis, faults, seed)


@given(faults=fault_maps(), diagnosis=diagnoses(), rates=st.tuples(SHARE, SHARE, SHARE, SHARE), seed=st.integers(0, 9))
def test_more_coverage_and_more_false_alarms_only_add(
    faults: FaultMap, diagnosis: Diagnosis, rates: tuple[float, float, float, float], seed: int
) -> None:
    """What the worse test believes, place, kind and conductance, the other believes too."""
    (low, high), (few, many) = sorted(rates[:2]), sorted(rates[2:])
    less = believed(replace(diagnosis, coverage=low, false_alarm=few), faults, seed)
    more = believed(replace(diagnosis, coverage=high, false_alarm=many), faults, seed)
    assert entries(less) <= entries(more)


@given(faults=fault_maps(), diagnosis=diagnoses(), seed=st.integers(0, 100))
def test_a_coarse_test_knows_the_counts_of_each_line_or_tile(faults: FaultMap, diagnosis: Diagnosis, seed: int) -> None:
    fine = believed(replace(diagnosis, granularity="cell"), faults, seed).dense()
    summed: dict[Granularity, tuple[int, ...]] = {"word_line": (2,), "bit_line": (1,), "tile": (1, 2)}
    for granularity, axes in summed.items():
        coarse = believed(replace(diagnosis, granularity=granularity), faults, seed).dense()
        for kind in FaultKind:
            np.testing.assert_array_equal((coarse == kind).sum(axis=axes), (fine == kind).sum(axis=axes))


def test_a_coarse_test_guesses_all_places_of_a_line_alike() -> None:
    """One fault a tile of 4 x 5 cells, 20,000 tiles: chi-squared of where it is believed to be, 99.9 % quantiles."""
    kinds = np.zeros((20_000, 4, 5), np.uint8)
    kinds[:, 1, 3] = FaultKind.STUCK_ON
    faults = FaultMap.from_dense(kinds)
    limits: dict[Granularity, tuple[int, float]] = {
        "word_line": (5, 18.47),
        "bit_line": (4, 16.27),
        "tile": (20, 43.82),
    }
    for granularity, (places, limit) in limits.items():
        counts = (believed(Diagnosis(granularity=granularity), faults, 7).dense() > 0).sum(axis=0)
        expected = 20_000 / places
        seen = {"word_line": counts[1], "bit_line": counts[:, 3]}.get(granularity, counts.reshape(-1))
        assert seen.sum() == 20_000
        assert seen.size == places
        assert ((seen - expected) ** 2 / expected).sum() < limit


def test_each_error_has_the_rate_that_is_stated() -> None:
    """A million cells, one in three each off, on and healthy, 1,000 stuck at a value: 5 standard deviations."""
    kinds = np.random.default_rng(0).integers(0, 3, (4, 500, 500))
    kinds[0, 0] = FaultKind.STUCK_AT
    kinds[0, 1] = FaultKind.STUCK_AT
    values = np.full(kinds.shape, 2e-5)
    faults = FaultMap.from_dense(kinds, values)
    test = Diagnosis(
        coverage=KindCoverage(stuck_off=0.7, stuck_on=0.9, stuck_at=0.5),
        false_alarm=0.02,
        alarms_on=0.8,
        confusion=0.1,
        value_sigma=1e-6,
    )
    known = believed(test, faults, 3)
    dense = known.dense()

    def close(count: int, of: int, share: float) -> bool:
        return bool(abs(count - of * share) < 5 * np.sqrt(of * share * (1 - share)))

    off, on, at, healthy = ((kinds == kind) for kind in (1, 2, 3, 0))
    assert close((dense[off] > 0).sum(), off.sum(), 0.7)
    assert close((dense[on] > 0).sum(), on.sum(), 0.9)
    assert close((dense[at] > 0).sum(), at.sum(), 0.5)
    assert close((dense[off] == 2).sum(), (dense[off] > 0).sum(), 0.1)
    assert close((dense[on] == 1).sum(), (dense[on] > 0).sum(), 0.1)
    assert set(dense[at].tolist()) == {0, 3}
    assert close((dense[healthy] > 0).sum(), healthy.sum(), 0.02)
    assert close((dense[healthy] == 2).sum(), (dense[healthy] > 0).sum(), 0.8)
    errors = known.value[known.kind == 3] - 2e-5
    assert abs(errors.mean()) < 5e-6 / np.sqrt(errors.size)
    assert errors.std() == pytest.approx(1e-6, rel=5 / np.sqrt(2 * errors.size))


def test_a_conductance_is_never_believed_to_be_negative() -> None:
    faults = FaultMap.from_dense(np.full((1, 20, 20), 3), np.full((1, 20, 20), 1e-7))
    values = believed(Diagnosis(value_sigma=1e-5), faults).value
    assert values.min() == 0.0
    assert values.max() > 1e-6


def test_time_and_energy_of_a_test_are_those_of_its_cells_or_unknown() -> None:
    test = Diagnosis(time_per_cell=2e-9, energy_per_cell=3e-12)
    assert (test.time(1000), test.energy(1000)) == pytest.approx((2e-6, 3e-9))
    assert (Diagnosis().time(1000), Diagnosis().energy(1000)) == (None, None)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"coverage": 1.1}, r"coverage must be a finite number >= 0.0 and <= 1.0, got 1.1"),
        ({"coverage": "all"}, "coverage must be a finite number"),
        ({"false_alarm": -0.1}, "false_alarm must be .*, got -0.1"),
        ({"alarms_on": 2.0}, "alarms_on must be .*, got 2.0"),
        ({"confusion": float("nan")}, "confusion must be .*, got nan"),
        ({"granularity": "line"}, "granularity must be one of 'cell', 'word_line', 'bit_line', 'tile', got 'line'"),
        ({"value_sigma": -1e-6}, "value_sigma must be .*, got -1e-06"),
        ({"time_per_cell": -1.0}, "time_per_cell must be .*, got -1.0"),
        ({"energy_per_cell": float("inf")}, "energy_per_cell must be .*, got inf"),
    ],
)
def test_what_is_out_of_bounds_is_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Diagnosis(**wrong)
    with pytest.raises(InputError, match="stuck_on must be"):
        KindCoverage(stuck_on=1.5)
    with pytest.raises(InputError, match="rng must be"):
        Diagnosis().known(StuckFaults(on=0.1, off=0.1).sample((1, 4, 4), np.random.default_rng(0)), 3)  # type: ignore[arg-type]
