"""The study of ternary weights on faulty cells, in miniature, and the first-order account that it is compared with."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from xbarsim.compress import DiscreteStates
from xbarsim.data import load_digits_split
from xbarsim.experiments.studies import ternary_tolerance as study
from xbarsim.experiments.studies.ternary_tolerance import FORMS, REPAIRS, measure, noise_to_signal, picture, table
from xbarsim.mapping import map_matrix
from xbarsim.sweep.subject import Subject


@pytest.mark.parametrize("form", FORMS)
def test_the_first_order_is_the_sum_over_single_stuck_cells(form: study.Form) -> None:
    """Each cell of each weight stuck by itself, read back by the encoding."""
    mapping = replace(form.mapping, pack="none")
    rng = np.random.default_rng(2)
    codes = rng.integers(-mapping.max_weight, mapping.max_weight + 1, (6, 2))
    codes[0] = mapping.max_weight
    levels = map_matrix(codes, mapping).levels[0, :6, : 2 * mapping.slices * 2].astype(float)
    by_weight = levels.reshape(6, 2, mapping.slices, 2)
    stuck_on, stuck_off = 0.3, 0.1
    total = 0.0
    for row, output, number, side in itertools.product(range(6), range(2), range(mapping.slices), range(2)):
        for level, share in ((mapping.max_level, stuck_on), (0, stuck_off)):
            broken = by_weight[row, output].copy()
            broken[number, side] = level
            read = mapping.encoding.decode(broken, mapping.weight_bits, mapping.cell_bits)
            total += share * (float(read) - codes[row, output]) ** 2
    assert noise_to_signal(codes, mapping, stuck_on, stuck_off) == pytest.approx(total / (codes**2).sum())


def test_with_one_cell_a_side_it_is_what_theory_says_and_kappa_is_one_over_density() -> None:
    codes = np.array([1, 1, -1, 0, 0, 0, 0, -1])
    share = 0.5
    ternary = noise_to_signal(codes, FORMS[0].mapping, 0.02, 0.01)
    assert ternary == pytest.approx((0.02 * (1 + (1 - share)) + 0.01 * share) / share)
    wide = np.rint(127 * np.random.default_rng(1).uniform(-1, 1, 500)).astype(int)
    w = wide / 127
    expected = (0.02 * (1 + np.mean((1 - np.abs(w)) ** 2)) + 0.01 * np.mean(w**2)) / np.mean(w**2)
    assert noise_to_signal(wide, FORMS[-1].mapping, 0.02, 0.01) == pytest.approx(expected)


def subject(weights: str, images: int, folder: Path) -> Subject:
    """Digits told by the mean image of each class: ternary where the other one is not."""
    split = load_digits_split()
    means = np.stack([split.train_images[split.train_labels == label].mean(axis=0).ravel() for label in range(10)])
    free = torch.from_numpy(means - means.mean(axis=0)).float()
    linear = nn.Linear(64, 10, bias=False)
    with torch.no_grad():
        linear.weight.copy_(DiscreteStates().spread(free) if weights == "mnist-transitions" else free)
    return Subject(
        name=weights, data_set="digits", model=nn.Sequential(nn.Flatten(), linear).eval(),
        images=split.test_images[:images], labels=split.test_labels[:images], calibration=split.train_images[:50],
    )  # fmt: skip


def test_points_and_tolerated_rates_are_measured_and_kept(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(study, "load_network", subject)
    monkeypatch.setattr(study, "REPAIRS", dict(itertools.islice(REPAIRS.items(), 2)))
    forms = (FORMS[0], FORMS[-1])
    options: dict[str, Any] = {"rates": (0.02, 0.1, 0.3), "dies": 2, "images": 200, "store": tmp_path / "dies.sqlite"}
    points, tolerances = measure(forms, **options)
    again, same = measure(forms, **options)
    assert (again, same) == (points, tolerances)
    arms = {(each["part"], each["arm"], each["polarity"]) for each in points}
    assert len(arms) == 2 * 2 * 2
    for each in points:
        assert each["dies"] == (2 if each["rate"] else 1)
        assert each["rate"] or each["lost"] == 0
    for arm in arms:  # none goes on beyond what is enough
        curve = [each["lost"] for each in points if (each["part"], each["arm"], each["polarity"]) == arm]
        assert all(value <= study.ENOUGH for value in curve[:-1])
    lost = {(each["part"], each["arm"], each["polarity"], each["rate"]): each["lost"] for each in points}
    one = FORMS[-1].name
    assert lost[one, "closest value", "mostly stuck on", 0.02] < lost[one, "nothing", "mostly stuck on", 0.02]
    for each in tolerances:
        if each["form"] == one and each["repair"] == "nothing":
            assert each["predicted_times"] == 1.0
            assert each["times"] in ("", "1.00")
        if each["form"] == FORMS[0].name and each["repair"] == "nothing":
            assert each["predicted_times"] > 1.0
    assert all(each["form"] in table(tolerances) for each in tolerances)
    figure = picture(points)
    assert len(figure.axes) == 2 * 2
    assert math.isclose(figure.axes[0].get_ylim()[0], 8)
