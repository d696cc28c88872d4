"""Sanity checks for lottery tickets, in miniature: every arm, its weights, the verdicts and the picture."""

from __future__ import annotations

import itertools
import math
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch

from xbarsim.experiments.papers import lottery2021 as script
from xbarsim.experiments.papers.lottery2021 import ARMS, NETWORKS, measure, picture, small_widths, verdicts
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
