"""Sequences that were cut, and galleries on faulty crossbars, in miniature."""

from __future__ import annotations

import csv
import sys
from typing import Any

import numpy as np
import pytest

from xbarsim.data import SequenceSet
from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.papers import tsdtw2017 as script
from xbarsim.sequences import Sequences
from xbarsim.testing import check_paper


def small(name: str = "", *, standardise: bool = True) -> SequenceSet:
    """Three speakers, each a curve of its own, told apart by its shape."""
    rng = np.random.default_rng(1)
    shapes = rng.normal(size=(3, 14, 4))

    def some(count: int) -> tuple[Sequences, Any]:
        labels = np.arange(count) % 3
        sequences = [shapes[label] + 0.3 * rng.normal(size=shapes[label].shape) for label in labels]
        return Sequences.of(sequences), labels

    (gallery, theirs), (probes, own) = some(6), some(12)
    return SequenceSet(gallery=gallery, gallery_labels=theirs, probes=probes, probe_labels=own, classes=("a", "b", "c"))


def test_it_keeps_the_promises_of_a_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "load_sequences", small)
    monkeypatch.setattr(script, "speaker_sets", lambda: {"the same words": small()})
    monkeypatch.setattr(script, "BITS", ((5, 8),))
    monkeypatch.setattr(script, "STUCK", (0.05, 0.2))
    monkeypatch.setattr(script, "SHARES", (0.0, 0.5))
    check_paper(sys.modules[script.__name__], dies=1, cuts=1)


def test_frames_are_cut_off_or_replaced_by_noise() -> None:
    data = small()
    rng = np.random.default_rng(2)
    cut = script.truncated(data.probes, 0.5, noise=False, rng=rng)
    assert (cut.lengths == 7).all()
    for whole, part in zip(data.probes, cut, strict=True):
        assert any(np.array_equal(part, whole[start : start + 7]) for start in range(8))
    noisy = script.truncated(data.probes, 0.5, noise=True, rng=rng)
    assert (noisy.lengths == data.probes.lengths).all()
    for whole, part in zip(data.probes, noisy, strict=True):
        assert (whole == part).all(axis=1).sum() == 7
    assert np.array_equal(script.truncated(data.probes, 0.0, noise=True, rng=rng).values, data.probes.values)


def test_a_shift_finds_what_was_cut() -> None:
    rows = script.truncation(small(), cuts=2, shares=(0.0, 0.5))
    rank1 = {(row["frames"], row["share"], row["rules"]): row["rank1"] for row in rows}
    assert len(rows) == 2 * 2 * 3
    assert rank1["cut", 0.0, "DTW"] == rank1["cut", 0.0, "TS-DTW"] == 100.0
    assert rank1["cut", 0.5, "TS-DTW"] >= rank1["cut", 0.5, "DTW"]
    assert all(row["low"] <= row["rank1"] <= row["high"] for row in rows)


def test_every_die_is_a_row_and_their_mean_has_an_interval() -> None:
    rows = script.stuck(small(), dies=2, rates=(0.02, 0.3))
    # both kinds of probes on two dies; three other ways on one each
    assert len(rows) == 2 * 3 * (2 * 2 + 3)
    rates, means, halves = script.over_dies(rows, norms="cells", cells="mostly stuck off", frames="whole", rules="DTW")
    assert rates == [0.02, 0.3]
    assert means[0] >= means[1]
    assert all(half >= 0 for half in halves)


def test_costs_say_what_a_match_takes() -> None:
    rows = script.costs(small())
    by = {(row["design"], row["rules"]): row for row in rows}
    assert by["5 and 8 bits", "TS-DTW"]["warping_J"] > by["5 and 8 bits", "DTW"]["warping_J"]
    assert by["4 and 4 bits", "DTW"]["conversions"] < by["5 and 8 bits", "DTW"]["conversions"]
    for row in rows:
        assert row["energy_J"] == pytest.approx(row["arrays_J"] + row["local_J"] + row["warping_J"])
    wide, narrow = by["4 and 4 bits, 9 frames", "DTW"], by["4 and 4 bits", "DTW"]
    assert wide["digital_J"] > narrow["digital_J"]


def test_figures_of_the_archive_are_those_that_ship() -> None:
    with (FIGURES / "tsdtw2017_archive.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert {row["set"]: float(row["published"]) for row in rows} == script.ARCHIVE
    assert all(round(float(row["ours"]), 2) == float(row["published"]) for row in rows)
