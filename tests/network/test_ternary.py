"""Ternary networks on crossbars: two one-bit cells a weight, signed codes of two bits, and what repair does there."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import xbarsim as xb
from xbarsim.compress import DiscreteStates
from xbarsim.devices import Cell, FaultKind, FaultMap
from xbarsim.mapping import Differential, Mapping, TwoColumn
from xbarsim.mitigation import ClosestValue, Diagnosis, FlipSigns
from xbarsim.models import DiscreteActivation
from xbarsim.network import NotMappedWarning

CELL = Cell(g_min=1e-6, g_max=1e-4, levels=16)


def ternary(seed: int = 0) -> nn.Sequential:
    """A convolution whose batch norm cannot be folded, one whose can, and a linear layer; all with weights -1, 0, 1."""
    generator = torch.Generator().manual_seed(seed)
    made = nn.Sequential(
        nn.Conv2d(1, 6, 3, bias=False), nn.MaxPool2d(2), nn.BatchNorm2d(6), DiscreteActivation(),
        nn.Conv2d(6, 8, 2, bias=False), nn.BatchNorm2d(8), DiscreteActivation(), nn.Flatten(),
        nn.Linear(32, 5, bias=False), nn.BatchNorm1d(5),
    )  # fmt: skip
    with torch.no_grad():
        for module in made:
            if isinstance(module, nn.Conv2d | nn.Linear):
                free = torch.randn(module.weight.shape, generator=generator)
                module.weight.copy_(DiscreteStates().spread(free))
            elif isinstance(module, nn.BatchNorm2d | nn.BatchNorm1d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.copy_(torch.randn(module.num_features, generator=generator))
                module.running_var.copy_(2 + 3 * torch.rand(module.num_features, generator=generator))
                module.weight.copy_(torch.randn(module.num_features, generator=generator))  # some are negative
                module.bias.copy_(0.3 * torch.randn(module.num_features, generator=generator))
    return made.eval()


def images(count: int = 20) -> np.ndarray:
    return np.random.default_rng(4).random((count, 1, 8, 8), dtype=np.float32)


def design(input_bits: int = 2, **changes: Any) -> xb.Design:
    mapping = {"encoding": TwoColumn(), "rows": 32, "columns": 16, "weight_bits": 2, "cell_bits": 1}
    periphery = {"input_bits": input_bits, **changes.pop("periphery", {})}
    return xb.Design(
        cell=CELL, mapping=Mapping(**{**mapping, **changes.pop("mapping", {})}), periphery=xb.Periphery(**periphery),
        **changes,
    )  # fmt: skip


def mapped(model: nn.Module, chosen: xb.Design, calibration: np.ndarray | None = None) -> xb.MappedNetwork:
    with pytest.warns(NotMappedWarning, match=r": 2 \(BatchNorm2d: not directly behind a layer"):  # and no other
        return xb.map_model(model, chosen, calibration=images() if calibration is None else calibration)


@pytest.mark.parametrize(
    "chosen",
    [
        design(),
        design(8),
        design(mapping={"weight_scale": "tensor"}),
        design(mapping={"encoding": Differential()}),
        design(periphery={"adc_range": "lossless"}),
        design(periphery={"dac_bits": 2, "subtraction": "digital", "adc_range": "lossless"}),
        design(periphery={"signed_inputs": "offset"}),
    ],
)
def test_an_ideal_chip_is_the_integer_network_bit_for_bit(chosen: xb.Design) -> None:
    network = mapped(ternary(), chosen)
    assert len(network.layers) == 3
    chip = network.fabricate(seed=1)
    batch = torch.from_numpy(images())
    with torch.no_grad():
        read = chip(batch)
        assert torch.equal(read, network.digital(batch))
        assert torch.equal(read, chip.reference()(batch))
    assert read.std() > 0


def test_ternary_weights_and_activations_are_their_own_codes() -> None:
    """Weights also behind a batch norm that is folded in, with the sign of its factor."""
    made = ternary()
    network = mapped(made, design())
    for name, layer in network.layers.items():
        module = made.get_submodule(name)
        assert isinstance(module.weight, torch.Tensor)
        wanted = module.weight.detach().flatten(1).numpy().T
        if name != "0":  # the others have their batch norms folded in
            norm = made.get_submodule(str(int(name) + 1))
            assert isinstance(norm.weight, torch.Tensor)
            wanted = wanted * np.sign(norm.weight.detach().numpy())
        np.testing.assert_array_equal(layer.layer.codes, wanted)
        assert layer.reading.matrix.mapping.slices == 1
        if name != "0":  # whose input is an image
            assert layer.layer.signed
            assert layer.layer.input_scale == 1.0
            assert layer.drive.passes == 2
            assert layer.drive.planes == 1
    first = network.layers["0"].layer.weight_scale
    assert set(first.tolist()) == {1.0}


@pytest.mark.parametrize("input_bits", [2, 3, 8])
def test_what_is_not_exact_is_the_image_alone(input_bits: int) -> None:
    """Images that stand on their codes already give the logits of the float network, whatever the width."""
    made = ternary()
    levels = 2**input_bits - 1
    exact = np.rint(images() * levels).astype(np.float32) / np.float32(levels)
    exact[0, 0, 0, 0] = 1.0
    network = mapped(made, design(input_bits), exact)
    with torch.no_grad():
        read, wanted = network.fabricate(seed=0)(torch.from_numpy(exact)), made(torch.from_numpy(exact))
    torch.testing.assert_close(read, wanted, rtol=1e-4, atol=1e-4)


# -------------------------------------------------------------------------------------------- repair


def pair(weight: int, plus: float, minus: float) -> tuple[int, int]:
    """Levels of a healthy or stuck pair (NaN: healthy) that come nearest to a weight, the smallest sum of them."""
    choices = [
        (a, b)
        for a, b in itertools.product((0, 1), repeat=2)
        if (np.isnan(plus) or a == plus) and (np.isnan(minus) or b == minus)
    ]
    return min(choices, key=lambda levels: (abs(levels[0] - levels[1] - weight), sum(levels)))


def test_closest_value_is_zero_repair_on_pairs_of_one_bit_cells() -> None:
    """Every weight with every state of its two cells, against the best of all; a stuck-on zero becomes (1, 1)."""
    states = (np.nan, 0.0, 1.0)
    cases = [(w, p, m) for w in (-1, 0, 1) for p in states for m in states]
    weights = np.array([[float(w)] for w, _, _ in cases])
    stuck = np.array([[p, m] for _, p, m in cases], np.float32)
    kinds = np.where(np.isnan(stuck), 0, np.where(stuck == 1, FaultKind.STUCK_ON, FaultKind.STUCK_OFF))
    crossbar = xb.Crossbar(
        weights, design(mapping={"rows": len(cases), "columns": 2, "pack": "none"}), seed=0,
        faults=FaultMap.from_dense(kinds[np.newaxis]), mitigations=(ClosestValue(),), diagnosis=Diagnosis(),
    )  # fmt: skip
    read = np.asarray(np.eye(len(cases)) @ crossbar)[:, 0]
    for (weight, plus, minus), value in zip(cases, read, strict=True):
        a, b = pair(weight, plus, minus)
        assert value == pytest.approx(a - b), (weight, plus, minus)
        if weight == 0 and 1.0 in (plus, minus) and 0.0 not in (plus, minus):
            assert (a, b) == (1, 1)


@pytest.mark.parametrize("flip", [False, True])
def test_no_zero_is_lost_to_cells_that_are_stuck_on(flip: bool) -> None:
    """One cell of every zero stuck on: with the other one switched on too, the die is the ideal one, bit for bit."""
    network = mapped(ternary(), design())
    rng = np.random.default_rng(1)
    faults = {}
    for name, layer in network.layers.items():
        matrix = layer.reading.matrix
        levels = matrix.levels.reshape(*matrix.levels.shape[:2], -1, 2)
        kinds = np.zeros(levels.shape, np.uint8)
        zeros = (levels == 0).all(axis=-1)
        kinds[zeros, rng.integers(0, 2, zeros.sum())] = FaultKind.STUCK_ON
        faults[name] = FaultMap.from_dense(kinds.reshape(matrix.levels.shape))
    batch = torch.from_numpy(images())
    methods = (FlipSigns(),) if flip else (ClosestValue(),)
    with torch.no_grad():
        ideal = network.digital(batch)
        assert not torch.equal(network.fabricate(seed=0, faults=faults)(batch), ideal)
        repaired = network.fabricate(seed=0, faults=faults, mitigations=methods, diagnosis=Diagnosis())
        assert torch.equal(repaired(batch), ideal)
