"""Dies on a device of torch's: one moved there, or many of one network together."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.devices import Cell, Polynomial, ReadNoise, StuckFaults
from xbarsim.engine import CompiledBackend, TorchBackend
from xbarsim.foundation.validation import InputError
from xbarsim.mitigation import AverageCopies, ClosestValue, Diagnosis, RecalibrateOutputs
from xbarsim.network import DieBatch, MappedNetwork
from xbarsim.network.samples import Samples

DEVICES = [
    "cpu",
    pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")),
]


class Small(nn.Module):
    """Convolutions of one, two and three dimensions and a transposed one, time in the middle, a residual sum."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(2, 4, 3, padding=1)
        self.second = nn.Conv2d(4, 4, 3, padding=1, groups=2)
        self.up = nn.ConvTranspose2d(4, 3, 2, stride=2)
        self.deep = nn.Conv3d(1, 2, 2)
        self.line = nn.Conv1d(2, 3, 3)
        self.last = nn.Linear(3, 5)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (images, 5) of maps (images, 2, 6, 6)."""
        y = torch.relu(self.first(x))
        y = torch.relu(self.second(y) + y) + torch.ones(6)  # made where the model runs
        y = self.up(y)[:, None]
        y = torch.relu(self.deep(y)).flatten(2).mean(2)
        y = self.line(y[:, :, None].repeat(1, 1, 4)).transpose(1, 2)
        logits: Tensor = self.last(y).mean(1)
        return logits


def images(count: int = 4) -> Tensor:
    return torch.rand(count, 2, 6, 6, generator=torch.Generator().manual_seed(1))


def mapped(**changes: Any) -> MappedNetwork:
    torch.manual_seed(1)
    cell = changes.pop("cell", Cell(g_min=1e-6, g_max=1e-4, levels=16))
    design = xb.Design(
        cell=cell,
        mapping=xb.Mapping(rows=16, columns=16, weight_bits=6, cell_bits=3),
        periphery=xb.Periphery(input_bits=6, dac_bits=changes.pop("dac_bits", 6), adc_bits=7),
        faults=StuckFaults(on=0.02, off=0.05),
    )
    return xb.map_model(changes.pop("model", Small()).eval(), design, calibration=images())


@pytest.fixture(scope="module")
def network() -> MappedNetwork:
    return mapped()


@pytest.mark.parametrize("device", DEVICES)
def test_a_die_on_a_device_gives_what_the_compiled_kernels_give(network: MappedNetwork, device: str) -> None:
    chip = network.fabricate(seed=3)
    moved = chip.with_backend(TorchBackend(device))
    inputs: dict[str, list[Any]] = {}

    def watch(name: str, given: Any, result: Any) -> None:
        there = moved.running[name](torch.from_numpy(np.ascontiguousarray(given, np.float32)).to(device))
        inputs.setdefault(name, []).append(np.array_equal(there.cpu().numpy(), result))

    xb.network.Network(network.skeleton, chip.running).run(Samples.of(images()), watch=watch)
    assert inputs == {name: [True] for name in network.layers}  # each layer, bit for bit, on the same inputs
    wanted, found = chip(images()), moved(images())
    assert found.device.type == device
    torch.testing.assert_close(found.cpu(), wanted, rtol=0.0, atol=1e-5 if device == "cpu" else 0.02)
    assert moved.clipped_inputs.keys() == chip.clipped_inputs.keys()
    assert moved.clipped_inputs["first"] == chip.clipped_inputs["first"]


@pytest.mark.parametrize("device", DEVICES)
def test_dies_together_are_the_dies_alone(network: MappedNetwork, device: str) -> None:
    backend = TorchBackend(device)
    together = DieBatch(network, [5, 6, 7], backend=backend)
    answers = together(images())
    assert answers.shape == (3, 4, 5)
    for seed, answer in zip((5, 6, 7), answers, strict=True):
        assert torch.equal(answer, network.fabricate(seed=seed).with_backend(backend)(images()))
    assert together.plan()["first"] == network.fabricate(seed=5).plan()["first"]
    alone = [network.fabricate(seed=seed) for seed in (5, 6, 7)]
    for chip in alone:
        chip(images())
    assert together.clipped_inputs["first"].inputs == sum(chip.clipped_inputs["first"].inputs for chip in alone)
    assert repr(together).startswith("<DieBatch of 3 dies, 6 layers, on ")
    assert len(together) == 3


def test_dies_together_are_repaired_as_alone(network: MappedNetwork) -> None:
    repair: dict[str, Any] = {"mitigations": (ClosestValue(),), "diagnosis": Diagnosis()}
    answers = DieBatch(network, [5, 6], **repair)(images())
    for seed, answer in zip((5, 6), answers, strict=True):
        assert torch.equal(answer, network.fabricate(seed, **repair).with_backend(TorchBackend())(images()))
    assert not torch.equal(answers, DieBatch(network, [5, 6])(images()))


def test_a_die_moves_there_and_back(network: MappedNetwork) -> None:
    chip = network.fabricate(seed=3)
    assert chip.to("cpu") is chip
    assert isinstance(chip.backend, CompiledBackend)
    moved = chip.with_backend(TorchBackend())
    assert moved.plan() == chip.plan()
    assert torch.equal(moved.to("cpu")(images()), chip(images()))
    with pytest.raises(InputError, match="device must be one that torch can compute in float64 on here"):
        chip.to("cuda:77")
    assert str(moved.report(images())).splitlines()[0] == str(chip.report(images())).splitlines()[0]


def test_what_no_device_computes_is_refused(network: MappedNetwork) -> None:
    law = ReadNoise(spread=Polynomial(coefficients=(0.0, 0.01), scale=1.0), valid_from=1e-7, valid_to=1e-3)
    noisy = Cell(g_min=1e-6, g_max=1e-4, levels=16, read_noise=law)
    with pytest.raises(InputError, match="layout must be without read noise for the backend 'torch'"):
        mapped(cell=noisy, model=nn.Sequential(nn.Flatten(), nn.Linear(72, 3))).fabricate(seed=1).with_backend(
            TorchBackend()
        )
    copied = network.fabricate(seed=1, mitigations=(AverageCopies(),))
    with pytest.raises(InputError, match=r"layer 'first' must be held once .* run the die by compiled kernels"):
        copied.with_backend(TorchBackend())
    with pytest.raises(InputError, match="mitigations must need no images for dies that are run together"):
        DieBatch(network, [1], mitigations=(RecalibrateOutputs(),))
    with pytest.raises(InputError, match="seeds must be at least one, got none"):
        DieBatch(network, [])
    moved = network.fabricate(seed=1).with_backend(TorchBackend())
    with pytest.raises(InputError, match="images must be finite"):
        moved(images() * torch.inf)


class Infinite(nn.Module):
    """Makes infinities between its layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(72, 3), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (images, 2)."""
        y = self.first(x.flatten(1))
        logits: Tensor = self.second(torch.where(x[:, 0, :1, 0] > 2.0, y / 0.0, y))
        return logits


def test_infinities_between_layers_are_told_and_the_next_run_is_whole() -> None:
    moved = mapped(model=Infinite()).fabricate(seed=1).with_backend(TorchBackend())
    with pytest.raises(InputError, match="inputs of layer 'second' must be finite, got NaN or infinity"):
        moved(images() + 3.0)
    assert torch.isfinite(moved(images())).all()


class TimeFirst(nn.Module):
    """Steps of time before samples."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Logits (images, 3)."""
        steps = x.reshape(len(x), 6, 12).transpose(0, 1).reshape(-1, 12)
        logits: Tensor = self.first(steps).reshape(6, len(x), 3).mean(0)
        return logits


def test_dies_that_cannot_be_told_apart_are_refused() -> None:
    with pytest.raises(InputError, match="network must keep its samples one after another in every layer"):
        DieBatch(mapped(model=TimeFirst()), [1, 2])
