"""A newcomer's measure: one class in one file, which a sweep takes beside the accuracy."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pytest

import xbarsim as xb
from tests.sweep.subjects import DESIGN, NAME
from xbarsim.foundation.validation import check_real
from xbarsim.sweep import Accuracy, Measure
from xbarsim.testing import check_measure


@dataclass(frozen=True, kw_only=True)
class Confidence(Measure):
    """How sure the die is: the share of images whose largest logit leads the next by more than `margin`."""

    margin: float = 0.5

    def __post_init__(self) -> None:
        object.__setattr__(self, "margin", check_real("margin", self.margin, at_least=0.0))

    @property
    def columns(self) -> Mapping[str, type]:
        """One share."""
        return {"confident": float}

    def run(self, chip: xb.Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]) -> Mapping[str, float]:
        """Classify all images, and look how close the decisions were."""
        import torch

        best = chip(torch.from_numpy(images), first_image=0).topk(2, dim=1).values
        return {"confident": float((best[:, 0] - best[:, 1] > self.margin).double().mean())}


def test_it_keeps_the_promises_of_a_measure() -> None:
    check_measure(Confidence(margin=0.1))


def test_a_sweep_measures_it_beside_the_accuracy() -> None:
    task = xb.Task(network=NAME, design=DESIGN, measures=(Accuracy(), Confidence()), calibration=20)
    rows = xb.collect([task], stop=2, workers=1, progress=False).rows()
    assert [0.0 <= row["confident"] <= 1.0 for row in rows] == [True, True]
    assert all(row["accuracy"] is not None for row in rows)


def test_a_measure_that_breaks_its_promises_is_named() -> None:
    @dataclass(frozen=True, kw_only=True)
    class Counted(Confidence):
        def run(
            self, chip: xb.Chip, images: npt.NDArray[np.float32], labels: npt.NDArray[np.int64]
        ) -> Mapping[str, float]:
            seen.append(chip)
            return {"confident": float(len(seen))}

    seen: list[xb.Chip] = []
    with pytest.raises(AssertionError, match="one answer however often"):
        check_measure(Counted())
