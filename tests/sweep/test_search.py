"""A search: proposals that depend on the seed alone, fronts checked by hand, what goes on after an interruption."""

from __future__ import annotations

import csv
import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.sweep.subjects import DESIGN, task
from xbarsim import InputError
from xbarsim.foundation.intervals import Interval
from xbarsim.foundation.validation import FileFormatError
from xbarsim.plot import search as draw
from xbarsim.sweep import (
    Accuracy,
    Cost,
    Dies,
    InProcess,
    Interrupted,
    LayerErrors,
    Limit,
    Range,
    Search,
    SearchResult,
    Store,
    Sweep,
    Task,
    TaskResult,
    Trial,
)

EXAMPLE = Path(__file__).parents[2] / "experiments" / "sweeps" / "digits_search.toml"
SPACE: dict[str, Any] = {"rows": (16, 32, 64), "columns": (16, 32, 64), "bits": Range(low=2, high=12)}


def make_task(values: Mapping[str, Any]) -> Task:
    mapping = dataclasses.replace(DESIGN.mapping, rows=values["rows"], columns=values["columns"])
    periphery = dataclasses.replace(DESIGN.periphery, adc_range="calibrated", adc_bits=values["bits"])
    return task(design=DESIGN.replace(mapping=mapping, periphery=periphery), measures=(Accuracy(), Cost()))


def search(**changes: Any) -> Search:
    asked: dict[str, Any] = {
        "make_task": make_task, "space": SPACE, "stop": Dies(count=1), "maximise": ("accuracy",),
        "minimise": ("area_m2",), "trials": 12, "batch": 3,
    }  # fmt: skip
    return Search(**{**asked, **changes})


def run(asked: Search, **options: Any) -> SearchResult:
    return asked.run(executor=InProcess(), progress=False, **options)


def answers(found: SearchResult) -> list[Any]:
    return [
        (dict(trial.values), {name: mean.estimate for name, mean in trial.objectives.items()}) for trial in found.trials
    ]


def test_what_is_proposed_depends_on_the_seed_alone_and_goes_on_where_it_was(tmp_path: Path) -> None:
    whole = run(search())
    assert len(whole.trials) == 12
    assert len({tuple(trial.values.items()) for trial in whole.trials}) == 12  # none twice
    assert answers(run(search(seed=2))) != answers(whole)

    class Enough(Exception):
        pass

    def end_at_eight(trial: Trial) -> None:
        if trial.number == 8:
            raise Enough

    path = tmp_path / "search.sqlite"
    with pytest.raises(Enough):
        run(search(), store=path, report=end_at_eight)
    with Store(path) as kept:
        before = kept.count()
        assert 0 < before < 12
        again = run(search(), store=kept)
        assert kept.count() == 12
    assert answers(again) == answers(whole)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Designs whose figures are a formula of what was chosen, so that many can be tried."""

    def formula(self: Search, batch: list[dict[str, Any]], first: int, options: Any) -> list[Trial]:
        trials = []
        for number, values in enumerate(batch, start=first):
            rows, columns = values["rows"], values["columns"]
            means = {
                "accuracy": 1 - ((rows - 40) / 100) ** 2 - ((columns - 20) / 100) ** 2, "area_m2": float(rows * columns)
            }  # fmt: skip
            within = all(limit.excess(means[name]) <= 0 for name, limit in self.limits.items())
            some = TaskResult(columns={"task": str(values)}, tags=(), stop=Dies(count=1), collected=())
            objectives = {name: exactly(value) for name, value in means.items()}
            trials.append(Trial(number=number, values=values, result=some, objectives=objectives, within=within))
        return trials

    monkeypatch.setattr(Search, "_measure", formula)
    monkeypatch.setattr(Search, "_check_first", lambda self: None)


def exactly(value: float) -> Interval:
    return Interval(estimate=value, low=value, high=value, confidence=0.95, method="t", count=1)


WIDE = {"rows": Range(low=1, high=100), "columns": Range(low=1.0, high=100.0)}


@pytest.mark.usefixtures("at_once")
def test_proposals_learn() -> None:
    best = {"tpe": [], "random": []}  # type: dict[str, list[float]]
    for sampler, found in best.items():
        for seed in range(5):
            front = run(search(space=WIDE, minimise=(), trials=40, sampler=sampler, seed=seed)).front
            found.append(front[0].objectives["accuracy"].estimate)
    assert np.mean(best["tpe"]) > np.mean(best["random"])
    assert min(best["tpe"]) > 0.99


@pytest.mark.usefixtures("at_once")
def test_a_limit_keeps_designs_off_the_front_and_proposals_away() -> None:
    limits = {"area_m2": Limit(at_most=300.0)}
    free, limited = (run(search(space=WIDE, minimise=(), trials=60, limits=some)) for some in ({}, limits))
    assert all(trial.within for trial in free.trials)
    assert {trial.within for trial in limited.trials} == {True, False}
    assert all(trial.objectives["area_m2"].estimate <= 300 for trial in limited.front)
    assert free.front[0].objectives["area_m2"].estimate > 300
    small = [sum(trial.objectives["area_m2"].estimate <= 300 for trial in found.trials) for found in (free, limited)]
    assert small[1] > 2 * small[0]


def test_a_small_space_is_tried_whole_in_order() -> None:
    found = run(search(space={"rows": (16, 32), "columns": (16,), "bits": Range(low=7, high=8)}, trials=4))
    assert [tuple(trial.values.values()) for trial in found.trials] == [
        (16, 16, 7),
        (16, 16, 8),
        (32, 16, 7),
        (32, 16, 8),
    ]


def test_what_makes_no_design_is_told_and_is_not_on_the_front() -> None:
    def refuse(values: Mapping[str, Any]) -> Task:
        if values["rows"] == 64:
            raise InputError("rows must be at most 32, got 64")
        return make_task(values)

    found = run(search(make_task=refuse, trials=12))
    refused = [trial for trial in found.trials if trial.result is None]
    assert refused
    assert all(trial.values["rows"] == 64 and trial.reason == "rows must be at most 32, got 64" for trial in refused)
    assert not {trial.number for trial in found.front} & {trial.number for trial in refused}
    assert f"{len(refused)} could not be measured" in str(found)


@given(
    values=st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.booleans()), min_size=1, max_size=12),
    maximise=st.booleans(),
)
@settings(max_examples=60, deadline=None)
def test_the_front_is_what_no_other_beats(values: list[tuple[int, int, bool]], maximise: bool) -> None:
    some = TaskResult(columns={"task": "0"}, tags=(), stop=Dies(count=1), collected=())
    trials = tuple(
        Trial(number=index, values={}, result=some, objectives={"a": exactly(a), "b": exactly(b)}, within=within)
        for index, (a, b, within) in enumerate(values)
    )
    found = SearchResult(trials=trials, directions={"a": "maximise" if maximise else "minimise", "b": "minimise"})
    sign = -1 if maximise else 1

    def beats(one: tuple[int, int, bool], other: tuple[int, int, bool]) -> bool:
        first, second = (sign * one[0], one[1]), (sign * other[0], other[1])
        return one[2] and first != second and all(x <= y for x, y in zip(first, second, strict=True))

    expected = {i for i, each in enumerate(values) if each[2] and not any(beats(rival, each) for rival in values)}
    assert {trial.number for trial in found.front} == expected


def test_rows_are_written_and_the_picture_says_what_it_shows(tmp_path: Path) -> None:
    found = run(search(trials=10, minimise=("area_m2", "energy_J"), limits={"accuracy": Limit(at_least=0.2)}))
    found.to_csv(tmp_path / "designs.csv")
    rows = list(csv.DictReader((tmp_path / "designs.csv").open(newline="")))
    assert [int(row["trial"]) for row in rows] == list(range(10))
    assert [row["on_front"] == "True" for row in rows] == [trial in found.front for trial in found.trials]
    assert float(rows[3]["area_m2"]) == found.trials[3].objectives["area_m2"].estimate
    axes = draw(found, x="area_m2")
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("area (mm²)", "accuracy (%)")
    (rings,) = (each for each in axes.collections if each.get_label() == "no design beats it")
    expected = [[trial.objectives[name].estimate for name in ("area_m2", "accuracy")] for trial in found.front]
    np.testing.assert_allclose(np.asarray(rings.get_offsets()), np.array(expected) * [1e6, 100])
    assert "designs are on the front" in found._repr_html_()


FILE = """
network = "tests.sweep.subjects:tiny"
calibration = 20
rates = [0.02]

[search]
maximise = ["accuracy"]
minimise = ["power_W"]
trials = 6

[limits]
power_W = { at_most = 10.0 }

[stop]
type = "Dies"
count = 1

[design]
cell = { g_min = 1e-6, g_max = 1e-5, levels = 16 }
faults = { type = "StuckFaults", on = 0.05, off = 0.05 }

[fields]
design.mapping.rows = [16, 32]
design.mapping.encoding = [{ type = "TwoColumn" }, { type = "Differential" }]
design.periphery.adc_bits = { from = 6, to = 8 }

[vary.width.few]
design.mapping.columns = 16

[vary.width.many]
design.mapping.columns = 64
"""


def test_a_file_says_fields_values_and_limits() -> None:
    asked = Search.loads(FILE)
    assert asked.size == 2 * 2 * 3 * 2
    found = run(asked)
    for trial in found.trials:
        assert trial.task is not None
        design = trial.task.design
        assert design.mapping.rows == trial.values["design.mapping.rows"]
        assert type(design.mapping.encoding).__name__ == trial.labels["design.mapping.encoding"]
        assert design.mapping.columns == {"few": 16, "many": 64}[trial.values["width"]]
        assert design.periphery.adc_bits == trial.values["design.periphery.adc_bits"]
        assert design.faults is not None
        assert sum(design.faults.rates.values()) == pytest.approx(0.02)
        assert set(trial.objectives) == {"accuracy", "power_W"}


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('maximise = ["accuracy"]', 'maximise = ["acuracy"]', "did you mean 'accuracy'"),
        ("[search]", "[sarch]", "search is missing"),
        ("trials = 6", "trials = 0", "trials must be an integer >= 1"),
        ("trials = 6", "tirals = 6", "did you mean 'trials'"),
        ("rates = [0.02]", "rates = [0.02, 0.04]", "one rate in a search, got 2"),
        ("{ from = 6, to = 8 }", "{ from = 8, to = 6 }", "fields.design.periphery.adc_bits"),
        ("{ from = 6, to = 8 }", "7", "must be an array of values"),
        ("[16, 32]", "[]", "at least one value"),
        ("[16, 32]", "[16, 16]", "different values"),
        ("at_most = 10.0", "most = 10.0", "most"),
        ("design.mapping.rows", "design.mapping.rowz", "rowz"),
        ("[stop]", "[stopp]", "stop is missing"),
        ("calibration = 20", "calibration = 20\nsead = 5", "a search has no key 'sead'"),
    ],
)
def test_a_file_that_asks_for_something_else_is_refused(old: str, new: str, words: str) -> None:
    assert old in FILE
    with pytest.raises((InputError, FileFormatError), match=words.replace("[", r"\[").replace("(", r"\(")):
        Search.loads(FILE.replace(old, new, 1))


def test_a_space_of_which_the_first_values_make_no_design_is_searched_and_one_of_none_is_refused() -> None:
    space = {"rows": (0, 16), "columns": (16, 32), "bits": Range(low=2, high=80)}  # the first 79 have no rows
    found = run(search(space=space, trials=10, stop=Dies(count=1)))
    assert any(trial.result is None and "rows" in trial.reason for trial in found.trials)
    assert found.front
    with pytest.raises(InputError, match="rows"):
        run(search(space={"rows": (0,), "columns": (16, 32), "bits": (8,)}, trials=2))
    with pytest.raises(InputError, match="did you mean 'area_m2'"):
        run(search(minimise=("area_m",)))


@pytest.mark.parametrize("name", ["inference_seconds", "correct", "images", "worst_layer"])
def test_only_numbers_that_are_answers_can_be_objectives(name: str) -> None:
    """Times differ from run to run, counts are in the accuracy, names of layers have no order."""
    made = lambda values: dataclasses.replace(make_task(values), measures=(Accuracy(), Cost(), LayerErrors()))  # noqa: E731
    with pytest.raises(InputError, match="a column of maximise, minimise or limits must be one of"):
        run(search(make_task=made, minimise=(name,)))


def test_whole_numbers_of_numpy_are_whole() -> None:
    assert Range(low=np.int64(2), high=np.int64(5)).whole  # type: ignore[arg-type]
    assert not Range(low=2, high=5.0).whole


def test_a_search_is_no_sweep_and_says_so() -> None:
    with pytest.raises(FileFormatError, match="this is a search, for 'xbarsim search'"):
        Sweep.loads(FILE)
    example = Search.load(EXAMPLE)
    assert example.size > example.trials
    assert set(example.space) > {"design.mapping.rows", "repair", "mapping"}


def test_an_interruption_is_handed_on_and_nothing_is_lost(tmp_path: Path) -> None:
    class Stops(InProcess):
        left = 5

        def submit(self, *arguments: Any, **keywords: Any) -> Any:
            Stops.left -= 1
            if Stops.left < 0:
                raise KeyboardInterrupt
            return super().submit(*arguments, **keywords)

    path = tmp_path / "search.sqlite"
    with pytest.raises(Interrupted):
        search().run(executor=Stops(), progress=False, store=path)
    with Store(path, read_only=True) as kept:
        assert 0 < kept.count() < 12
