"""How many calibration samples say what the converters of an array must reach: the first 64, all of them."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.devices import Cell
from xbarsim.mapping import Mapping
from xbarsim.sweep import Task

DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1e-4, levels=16),
    mapping=Mapping(rows=32, columns=32),
    periphery=xb.Periphery(adc_bits=4, adc_range="calibrated"),
)
WEIGHTS = np.abs(np.random.default_rng(0).normal(size=(12, 4))).astype(np.float32)


def samples(place: int) -> npt.NDArray[np.float32]:
    """130 samples of which one, at this place, drives every row: the sums of the others are about half as large."""
    values = np.zeros((130, 12), np.float32)
    values[np.arange(130), np.arange(130) % 12] = 1.0  # ranges of inputs are the same wherever the large one stands
    values[:, :4] = 1.0
    values[place] = 1.0
    return values


def step(place: int, *, matrix: bool) -> float:
    """Step of the converters that calibration finds."""
    if matrix:
        return xb.Crossbar(WEIGHTS, DESIGN, seed=1, calibration=samples(place))._mapped.converter.unit
    layer = nn.Linear(12, 4, bias=False)
    with torch.no_grad():
        layer.weight.copy_(torch.from_numpy(WEIGHTS.T))
    network = xb.map_model(nn.Sequential(layer), DESIGN, calibration=torch.from_numpy(samples(place)))
    return network.layers["0"].converter.unit


@pytest.mark.parametrize("matrix", [False, True])
def test_converters_reach_what_the_first_64_calibration_samples_read(matrix: bool) -> None:
    early, ninth, last, beyond = (step(place, matrix=matrix) for place in (0, 8, 63, 64))
    assert early == ninth == last
    assert beyond == pytest.approx(last / 2, rel=0.1)


def test_a_task_calibrates_with_the_first_128_training_samples() -> None:
    task, more = Task(network="digits", design=DESIGN, images=2), Task(network="digits", design=DESIGN, calibration=200)
    assert task.calibration == 128
    assert len(task.subject.calibration) == 128
    np.testing.assert_array_equal(task.subject.calibration, more.subject.calibration[:128])
