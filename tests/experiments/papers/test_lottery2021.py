"""Sanity checks for lottery tickets, in miniature: every arm, its weights, the verdicts and the picture."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

import xbarsim as xb
from xbarsim.experiments.papers import lottery2021 as script
from xbarsim.experiments.papers.lottery2021 import (
    ARMS,
    NETWORKS,
    fault_masks,
    measure,
    picture,
    small_widths,
    verdicts,
)
from xbarsim.testing import check_paper


def test_it_keeps_the_promises_of_a_paper() -> None:
    threads = torch.get_num_threads()
    try:
        check_paper(sys.modules[script.__name__], network="mlp", rates=[0.1], seeds=1, rounds=[1, 2], epochs=1, dies=1)
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    mlp = NETWORKS["mlp"]
    quick = replace(mlp, training=replace(mlp.training, epochs=3))
    return measure(quick, rates=(0.1,), seeds=(1, 2), rounds=(2, 5), dies=1)


def test_every_arm_is_measured_at_every_rate_and_seed(rows: list[dict[str, Any]]) -> None:
    assert {row["arm"] for row in rows} == set(ARMS)
    assert len(rows) == 2 * (1 + 2 * (len(ARMS) - 1))
    assert sorted({row["sparsity"] for row in rows}) == pytest.approx([0.0, 1 - 0.8**2, 1 - 0.8**5], abs=1e-3)
    dense = [row for row in rows if row["arm"] == "dense"]
    assert all(row["accuracy"] > 0.8 for row in dense)
    mean = {name: math.fsum(row[name] for row in rows) / len(rows) for name in ("accuracy", "faulty")}
    assert mean["faulty"] < mean["accuracy"]


def test_a_verdict_for_each_way_and_sparsity_and_a_picture(rows: list[dict[str, Any]]) -> None:
    judged = verdicts(rows)
    assert len(judged) == 2 * 2 * 2
    assert {row["ticket"] for row in judged} <= {"jackpot", "secondary", "none"}
    assert all(row["condition 1"] == ("yes" if row["sparsity"] > 0.6 else "no") for row in judged)
    few = verdicts(rows, enough_epochs=False)
    assert {(row["condition 1"], row["ticket"]) for row in few} == {("no", "none")}
    figure = picture(rows)
    assert [axes.get_title() for axes in figure.axes] == ["no cell stuck", "1% of the cells stuck"]


def test_a_small_network_has_as_many_weights() -> None:
    widths = (784, 300, 100, 10)
    for weights in (5000, 20_000, 200_000):
        found = small_widths(widths, weights)
        count = sum(a * b for a, b in itertools.pairwise(found))
        assert abs(count - weights) < 0.1 * weights + 800
        assert found[0] == 784
        assert found[-1] == 10


def test_a_die_leaves_those_weights_whole_that_have_no_stuck_cell() -> None:
    network = NETWORKS["mlp"]
    model, data = network.build(1), network.data()
    images = data.normalise(data.validation_images)[:50]
    masks = fault_masks(model, images, 0.3, seed=4)
    kept = sum(int(mask.sum()) for mask in masks.values()) / sum(mask.numel() for mask in masks.values())
    assert kept == pytest.approx(0.3, abs=0.03)
    mapped = xb.map_model(model, script._design(1.0 - 0.3**0.25), calibration=images)
    layer = mapped.fabricate(seed=4).layers["3"]
    stuck = set(layer.tile_faults.index.tolist())
    for row, output in [(0, 0), (5, 7), (47, 31), (20, 3)]:
        cells = layer.matrix.cells_of(row, output)
        places = np.ravel_multi_index((cells.tile, cells.row, cells.column), layer.matrix.levels.shape)
        assert bool(masks["3"][output, row]) == stuck.isdisjoint(places.ravel().tolist())
    assert not torch.equal(masks["1"], fault_masks(model, images, 0.3, seed=5)["1"])
