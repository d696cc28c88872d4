"""The experiment on wire resistance: what it asks for, and its picture."""

from __future__ import annotations

import numpy as np
import pytest

from xbarsim.experiments.studies.wire_resistance import RATES, RESISTANCES, picture, tasks


def test_all_points_meet_the_same_dies_with_other_wires_and_rates() -> None:
    made = tasks(1000)
    points = {(task.tags["stuck_on_rate"], task.tags["resistance"]) for task in made}
    assert points == {(rate, resistance) for rate in RATES for resistance in RESISTANCES}
    assert len({task.seed for task in made}) == 1
    for task in made:
        wires, faults = task.design.wires, task.design.faults
        assert wires is not None
        assert faults is not None
        assert wires.word_line_resistance == wires.bit_line_resistance == task.tags["resistance"]
        assert faults.total == task.tags["stuck_on_rate"]
        assert task.design.periphery.adc_bits == 8
        assert task.images == 1000


@pytest.mark.data
def test_dies_measured_before_the_study_moved_are_still_its_own() -> None:
    """The id of the first task, by which stores know its dies; and the name that its metric had."""
    first = tasks(1000)[0]
    assert first.id == "9e3b8c2b7fe220694cdb97a441e7d1e9fa585188ce68044c13575af3099fb9f3"
    assert '"metrics":["xbarsim.experiments.wire_resistance:current_loss"]' in first.description


def test_the_picture_shows_every_point_with_its_interval() -> None:
    rows = [
        {
            "resistance": resistance,
            "stuck_on_rate": rate,
            "accuracy": 0.9 - 0.1 * resistance - 100 * rate,
            "low": 0.8 - 0.1 * resistance - 100 * rate,
            "high": 0.95 - 0.1 * resistance - 100 * rate,
            "current_loss": 0.05 * resistance,
        }
        for rate in (0.0, 0.001)
        for resistance in (2.0, 0.0, 1.0)
    ]
    left, right = picture(rows, 100).axes
    curves = [line for line in left.get_lines() if np.size(line.get_xdata()) == 3]
    assert [np.asarray(line.get_xdata()).tolist() for line in curves] == [[0.0, 1.0, 2.0]] * 2
    assert np.asarray(curves[1].get_ydata()).round(6).tolist() == [80.0, 70.0, 60.0]
    assert len(left.collections) == 2
    assert left.get_xlabel() == right.get_xlabel() == "resistance of a wire segment (ohm)"
    assert "100 CIFAR-10 images" in left.get_ylabel()
