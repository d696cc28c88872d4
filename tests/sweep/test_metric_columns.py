"""Metrics with a column of their own: their function may move, their tasks stay what they are."""

from __future__ import annotations

import pytest

from tests.sweep.subjects import task
from xbarsim.foundation.validation import InputError
from xbarsim.sweep.collecting import collect

BROKEN = "tests.sweep.subjects:broken_cells"


def test_the_column_and_not_the_place_is_part_of_the_id() -> None:
    assert task(metrics=(f"{BROKEN}={BROKEN}",)).id == task(metrics=(BROKEN,)).id
    assert task(metrics=("broken=" + BROKEN,)).id != task(metrics=(BROKEN,)).id
    assert task(metrics=("power_W=area_m2",)).id == task(metrics=("power_W",)).id


def test_values_stand_under_the_column() -> None:
    asked = task(metrics=("broken=" + BROKEN, BROKEN))
    row = collect([asked], stop=1, workers=1, progress=False).rows()[0]
    assert row["broken"] == row[BROKEN] == row["stuck_on"] + row["stuck_off"]


@pytest.mark.parametrize(
    ("metrics", "message"),
    [
        (("accuracy=" + BROKEN,), "metrics must not be called like a column of results, got 'accuracy="),
        (("x=power_W", "x=area_m2"), "metrics must have columns of their own, got x=area_m2, x=power_W"),
        (("x=nonsense",), "metrics must be one of 'power_W', 'area_m2', got 'nonsense'"),
    ],
)
def test_columns_are_not_shared(metrics: tuple[str, ...], message: str) -> None:
    with pytest.raises(InputError, match=message):
        task(metrics=metrics)
    with pytest.raises(InputError, match="tags must not be called like a column of results, got 'x'"):
        task(metrics=("x=power_W",), tags={"x": 1})
