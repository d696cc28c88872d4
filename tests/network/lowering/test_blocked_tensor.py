"""Activations in blocks of 16 images: a model gives the same bits whatever it does with them."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import xbarsim as xb
from xbarsim.engine import BlockedMaps
from xbarsim.network.lowering import watching
from xbarsim.network.lowering.blocked_tensor import BlockedTensor, unblocked

DESIGN = xb.Design(
    cell=xb.Cell(g_min=1e-6, g_max=1e-4, levels=128),
    mapping=xb.Mapping(rows=64, columns=64, weight_bits=8, cell_bits=7),
    periphery=xb.Periphery(input_bits=8, dac_bits=8, adc_bits=8),
    faults=xb.devices.StuckFaults(on=0.01, off=0.01),
)
IMAGES = torch.rand(20, 3, 12, 12, generator=torch.Generator().manual_seed(1))


class Residual(nn.Module):
    """Most of what networks of images do between their convolutions, and some of what they should not."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.first, self.second = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)
        self.third, self.last = nn.Conv2d(16, 6, 3), nn.Linear(6, 5)
        self.seen: list[Tensor] = []

    def forward(self, images: Tensor) -> Any:
        x = functional.relu(self.first(images))
        before = x
        y = self.second(x)
        y += before  # in place, while nobody looks
        y.relu_()
        z = functional.max_pool2d(y, 2)
        view = before[:, :4]  # before is a plain tensor from here on
        view.mul_(0.5)
        z = torch.cat([z, before[:, :, ::2, ::2]], dim=1)
        w = self.third(z)
        self.seen.append(w)
        pooled = torch.relu(w).mean(dim=(2, 3))
        return {"classes": self.last(pooled), "maps": (w, y), "shape": tuple(y.shape), "before": before}


def _answers(model: nn.Module, *, blocked: bool, monkeypatch: pytest.MonkeyPatch) -> tuple[Any, Any]:
    with monkeypatch.context() as patch:
        if not blocked:
            patch.setattr(watching, "LEAST_IMAGES", 2**40)
        chip = xb.map_model(model, DESIGN, calibration=IMAGES).fabricate(seed=3)
        return chip(IMAGES), chip.clipped_inputs


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[BlockedTensor]:
    """Every tensor in blocks that comes about."""
    found: list[BlockedTensor] = []
    before = BlockedTensor.__init__

    def remember(self: BlockedTensor, maps: BlockedMaps) -> None:
        found.append(self)
        before(self, maps)

    monkeypatch.setattr(BlockedTensor, "__init__", remember)
    return found


def _same(left: Any, right: Any) -> None:
    assert type(left) is type(right)
    if isinstance(left, dict):
        for key in left:
            _same(left[key], right[key])
    elif isinstance(left, tuple | list):
        for one, other in zip(left, right, strict=True):
            _same(one, other)
    elif isinstance(left, Tensor):
        assert type(left) is Tensor
        assert torch.equal(left, right)
    else:
        assert left == right


def test_a_model_may_do_anything_with_them(made: list[BlockedTensor], monkeypatch: pytest.MonkeyPatch) -> None:
    found = _answers(Residual().eval(), blocked=True, monkeypatch=monkeypatch)
    assert len(made) == 7  # three convolutions, a pool, a view, two of relu; the others change one or take one apart
    assert sum(each.maps is None for each in made) == 6
    _same(found, _answers(Residual().eval(), blocked=False, monkeypatch=monkeypatch))


def test_networks_without_anything_else_are_never_taken_apart(
    made: list[BlockedTensor], monkeypatch: pytest.MonkeyPatch
) -> None:
    class Plain(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(2)
            self.body = nn.Sequential(
                nn.Conv2d(3, 8, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(8, 8, 3, padding=1), nn.ReLU(),
                nn.MaxPool2d(2), nn.Conv2d(8, 10, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
            )  # fmt: skip

        def forward(self, x: Tensor) -> Any:
            return self.body(x)

    found = _answers(Plain().eval(), blocked=True, monkeypatch=monkeypatch)
    assert sum(each.maps is None for each in made) == 1
    _same(found, _answers(Plain().eval(), blocked=False, monkeypatch=monkeypatch))


def test_outside_of_a_run_they_are_tensors_like_others() -> None:
    maps = np.random.default_rng(1).normal(size=(9, 3, 4, 5)).astype(np.float32)

    def fresh() -> BlockedTensor:
        return BlockedTensor(BlockedMaps.of(maps))

    tensor: Any = fresh()
    assert tensor.shape == maps.shape
    assert (tensor.ndim, len(tensor), tensor.dtype, tensor.numel()) == (4, 9, torch.float32, maps.size)
    assert tensor.maps is not None  # all that was asked is not what its numbers are
    np.testing.assert_array_equal(tensor.numpy(), maps)
    assert tensor.maps is None
    assert type(copy.deepcopy(fresh())) is Tensor
    assert torch.equal(fresh() * 2 - 1, torch.from_numpy(maps) * 2 - 1)
    assert torch.equal(torch.add(fresh(), fresh(), alpha=3), torch.from_numpy(maps) * 4)
    total: Any = sum([fresh(), fresh()])
    assert torch.equal(total, torch.from_numpy(maps + maps))
    both = fresh() + torch.from_numpy(maps)
    assert isinstance(both, BlockedTensor)
    assert torch.equal(unblocked([both])[0], torch.from_numpy(maps + maps))
    assert torch.equal(fresh() + torch.ones(5), torch.from_numpy(maps) + 1)
    target = torch.zeros(maps.shape)
    target += fresh()
    np.testing.assert_array_equal(target, maps)
    for options in ({"ceil_mode": True}, {"padding": 1}, {"dilation": 2}, {"stride": 3}):
        wanted = functional.max_pool2d(torch.from_numpy(maps), 2, **options)
        assert torch.equal(unblocked(functional.max_pool2d(fresh(), 2, **options)), wanted)
    with pytest.raises(RuntimeError, match="size"):
        functional.max_pool2d(fresh(), 9)
    assert "tensor(" in repr(fresh())


def test_views_and_what_they_are_views_of_change_together() -> None:
    maps = np.random.default_rng(2).normal(size=(9, 4, 6, 5)).astype(np.float32)

    def sequence(x: Any, change: Any, *, early: bool) -> list[Tensor]:
        part = x[:, 1:, ::2]
        inner, other = part[:, :2, :, -3:], x[:, :, :, 1:2]
        if early:  # takes all of them apart
            assert torch.equal(inner, x[:, 1:3, ::2, -3:])
        change(x, part)
        x += 1.0
        inner.mul_(2)
        other[:, 0] = 7.0
        return [x, part, inner, other, part + part, functional.pad(x, (1, 0, 2, 1))]

    changes: list[Any] = [
        lambda x, part: functional.relu_(part),
        lambda x, part: functional.relu_(x),
        lambda x, part: part.add_(torch.ones(part.shape)),
        lambda x, part: x.add_(torch.ones(x.shape)),
    ]
    for early in (False, True):
        for change in changes:
            found = sequence(BlockedTensor(BlockedMaps.of(maps)), change, early=early)
            wanted = sequence(torch.from_numpy(maps.copy()), change, early=early)
            for each, other in zip(found, wanted, strict=True):
                assert torch.equal(unblocked(each), other)


def test_parts_and_frames_stay_in_blocks_where_they_can() -> None:
    maps = np.random.default_rng(3).normal(size=(9, 4, 6, 5)).astype(np.float32)
    plain = torch.from_numpy(maps)

    def fresh() -> Any:
        return BlockedTensor(BlockedMaps.of(maps))

    everything = slice(None)
    for index in ((everything, everything, slice(None, None, 2)), (everything, slice(1, -1), slice(-2, None))):
        part = fresh()[index]
        assert isinstance(part, BlockedTensor)
        assert part.shape == plain[index].shape
        assert torch.equal(unblocked(part), plain[index])
    others: Any = 0, (0, everything), slice(2, 5), (everything, None), (everything, slice(9, None)), ..., plain > 0
    for other in others:
        assert torch.equal(unblocked(fresh()[other]), plain[other])
    for pad, options in (
        ((1, 2), {}),
        ([0, 1, 1, 0, 2, 3], {"value": 0.0}),
        ((1, 1), {"value": 3.0}),
        ((1, 1, 1, 1), {"mode": "reflect"}),
        ((-1, 1), {}),
        ((0, 0, 0, 0, 0, 0, 1, 0), {}),
    ):
        assert torch.equal(unblocked(functional.pad(fresh(), pad, **options)), functional.pad(plain, pad, **options))
    assert isinstance(functional.pad(fresh(), (1, 2)), BlockedTensor)


def test_a_call_of_a_few_images_gives_what_many_give() -> None:
    chip = xb.map_model(Residual().eval(), DESIGN, calibration=IMAGES).fabricate(seed=3)
    many = chip(IMAGES)["classes"]
    for count in (1, 7, 8, 16, 17):
        assert torch.equal(chip(IMAGES[:count])["classes"], many[:count])


def test_what_is_not_finite_is_refused() -> None:
    class Overflow(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3)

        def forward(self, x: Tensor) -> Any:
            y = self.first(x)
            return self.second(y + torch.where(x.amax() > 2, torch.nan, 0.0).expand(y.shape))

    model = Overflow().eval()
    chip = xb.map_model(model, DESIGN, calibration=IMAGES).fabricate(seed=3)
    with pytest.raises(xb.InputError, match="inputs of layer 'second' must be finite"):
        chip(torch.full((20, 3, 12, 12), 3.0))
    with pytest.raises(xb.InputError, match="inputs of layer 'first' must be a batch with"):
        chip(torch.rand(20, 2, 12, 12))
    with pytest.raises(xb.InputError, match="inputs of layer 'second' must be at least as large as its kernel"):
        chip(torch.rand(20, 3, 3, 3))
