"""Time against work: exponents of known curves, and one real curve in miniature."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from xbarsim.experiments.benchmarks import scaling
from xbarsim.experiments.benchmarks.scaling import Point, exponent, main, picture
from xbarsim.foundation.validation import InputError


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_the_exponent_of_a_power_is_found_whatever_a_call_costs_before(power: float) -> None:
    work = [2**index for index in range(8)]
    assert exponent(work, [3e-3 * amount**power for amount in work]) == pytest.approx(power)
    with_start = [max(1e-3, 1e-4 * amount**power) for amount in work[:4]] + [
        1e-4 * amount**power for amount in work[4:]
    ]
    assert exponent(work, with_start) == pytest.approx(power)


def test_every_axis_has_a_panel_and_every_curve_its_exponent() -> None:
    points = [
        Point(curve=curve, axis=axis, work=work, seconds=1e-3 * work)
        for axis, curve in (("images", "a"), ("images", "b"), ("dies", "c"))
        for work in (1, 2, 4)
    ]
    figure = picture(points)
    assert [axes.get_xlabel() for axes in figure.axes] == ["images", "dies"]
    labels = [text.get_text() for axes in figure.axes for text in axes.get_legend().get_texts()]  # type: ignore[union-attr]
    assert labels == [f"{curve}: exponent 1.00" for curve in "abc"]


def test_arrays_are_counted_and_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_WIDTHS", (16, 32))
    main(names=["width"], runs=1, threads=1, output=tmp_path)
    rows = list(csv.DictReader((tmp_path / "scaling.csv").open(newline="")))
    assert [int(row["work"]) for row in rows] == [16, 16, 32, 32]
    assert all(float(row["seconds"]) > 0 for row in rows)
    assert (tmp_path / "scaling.png").stat().st_size > 10_000
    with pytest.raises(InputError, match="names must be one of"):
        main(names=["widht"], runs=1, threads=1, output=tmp_path)
