"""Read noise is drawn by the sample and by the use of a layer on it, wherever an evaluation starts."""

from __future__ import annotations

import dataclasses

import numpy as np
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.devices import Cell, ThermalNoise
from xbarsim.mapping import Mapping

NOISY = Cell(g_min=1e-6, g_max=1e-4, levels=16, read_voltage=0.2, read_noise=ThermalNoise(bandwidth=1e9))
DESIGN = xb.Design(cell=NOISY, mapping=Mapping(rows=32, columns=32))
INPUTS = torch.randn(9, 8, generator=torch.Generator().manual_seed(0))


class Twice(nn.Module):
    """Uses one layer two times on the same samples."""

    def __init__(self) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.layer = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.layer(x), self.layer(x)], dim=1)


def chip() -> xb.Chip:
    return xb.map_model(Twice(), DESIGN, calibration=INPUTS).fabricate(seed=1)


def test_each_use_of_a_layer_draws_noise_of_its_own() -> None:
    """The weights, the inputs and the die are those of the first use: only the noise differs, everywhere."""
    first, second = chip()(INPUTS, first_image=0).numpy().reshape(9, 2, 5).transpose(1, 0, 2)
    quiet = xb.map_model(Twice(), DESIGN.replace(cell=dataclasses.replace(NOISY, read_noise=None)), calibration=INPUTS)
    without = quiet.fabricate(seed=1)(INPUTS).numpy().reshape(9, 2, 5).transpose(1, 0, 2)
    np.testing.assert_array_equal(without[0], without[1])
    assert (first != second).mean() > 0.99
    errors = [(each - without[0]).ravel() for each in (first, second)]
    # 45 pairs of independent draws: |r| beyond 0.58 once in 30,000
    assert abs(np.corrcoef(errors)[0, 1]) < 0.58


def test_an_evaluation_starts_at_the_sample_that_it_says() -> None:
    """By default at the first, whatever the die has read before; in batches as in one."""
    die, labels = chip(), torch.zeros(9, dtype=torch.long)
    seen: list[np.ndarray] = []

    def keep(logits: np.ndarray, truth: np.ndarray) -> float:
        seen.append(logits.copy())
        return 0.0

    for first in (0, 4, 1000):
        wanted = die(INPUTS, first_image=first).numpy()
        for batch in (1, 4, 9):
            xb.evaluate(die, INPUTS, labels, first_image=first, batch_size=batch, metric=keep, progress=False)
            np.testing.assert_array_equal(seen[-1], wanted)
    assert not np.array_equal(seen[0], seen[3])
    die(INPUTS)
    xb.evaluate(die, INPUTS, labels, metric=keep, progress=False)
    np.testing.assert_array_equal(seen[-1], seen[0])
