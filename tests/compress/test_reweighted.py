"""What groups count in the reweighted penalty: each alike, each weight alike, or by the price of what they free."""

from __future__ import annotations

import copy
import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.compress import (
    BlockColumnRow,
    Columns,
    Filters,
    KernelShapes,
    LayerPrice,
    LayerRule,
    Method,
    Recipe,
    Reweighted,
    Target,
    Tiles,
    Unstructured,
    weight_prices,
)
from xbarsim.devices import Cell
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import InputError
from xbarsim.models import SpokenDigitsNet
from xbarsim.testing import check_method

PRICES = (
    LayerPrice(layer="0", cells=1.0, drivers=2.0, converters=5.0),
    LayerPrice(layer="2", cells=0.5, drivers=4.0, converters=0.25),
)


def network(seed: int = 1) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(12, 7), nn.ReLU(), nn.Linear(7, 3))


def weight_of(model: nn.Sequential, number: int) -> Tensor:
    weight = model[number].weight
    assert isinstance(weight, Tensor)
    return weight


def penalty_of(method: Reweighted, recipe: Recipe, model: nn.Sequential) -> tuple[float, dict[str, Tensor]]:
    """The penalty right after a refresh, and its gradients."""
    callback = method.callback(recipe)
    callback.start(model, 2)
    callback.begin_epoch(0)
    penalty = callback.penalty()
    assert penalty is not None
    gradients = torch.autograd.grad(penalty, [weight_of(model, 0), weight_of(model, 2)], allow_unused=True)
    return float(penalty.detach()), {name: item for name, item in zip("02", gradients, strict=True) if item is not None}


def groups(target: Target, matrix: Tensor) -> list[tuple[Tensor, float]]:
    """Groups of a layer and the price of one of their weights, in units of cells, drivers and converters."""
    blocks = [matrix[top : top + 4, left : left + 5] for top in (0, 4) for left in (0, 5, 10)]
    if isinstance(target, BlockColumnRow):
        rows, columns = [(row, 0) for block in blocks for row in block], [(c, 1) for block in blocks for c in block.T]
        return [*rows, *columns]
    if isinstance(target, Columns):
        return [(column, 1) for column in matrix.T]
    if isinstance(target, Filters):
        return [(row, 0) for row in matrix]
    if isinstance(target, Tiles):
        return [(block, 2) for block in blocks if block.numel()]
    return [(weight.reshape(1), 3) for weight in matrix.flatten()]


@pytest.mark.parametrize("form", ["norm", "squared"])
@pytest.mark.parametrize("per", ["weight", None])
@pytest.mark.parametrize("priced", [False, True])
@pytest.mark.parametrize(
    "target",
    [
        Unstructured(keep=0.5),
        Filters(keep=0.5),
        Columns(keep=0.5),
        Tiles(tile_filters=4, tile_columns=5, keep=0.5),
        BlockColumnRow(block_filters=4, block_columns=5, keep_filters=0.5, keep_columns=0.5),
    ],
    ids=lambda target: type(target).__name__,
)
def test_the_penalty_by_hand(target: Target, priced: bool, per: Any, form: Any) -> None:
    model = network()
    recipe = Recipe(rules=(LayerRule(layers=("0",), targets=(target,)),))
    method = Reweighted(strength=0.3, epsilon=0.2, form=form, per=per, prices=PRICES if priced else None)
    free = weight_of(model, 0).detach().double().requires_grad_()
    of_kind = (1 + 5.0, 1 + 2.0, 1 + 2.0 + 5.0, 1.0)  # cells with converters, with drivers, with both, alone
    found = [(group, of_kind[int(kind)]) for group, kind in groups(target, free)]
    counts = [group.numel() if per == "weight" else 1 for group, _ in found]
    if priced:
        costs = [group.numel() * price for group, price in found]
        counts = [cost * sum(counts) / sum(costs) for cost in costs]  # type: ignore[misc]
    wanted = torch.zeros((), dtype=torch.float64)
    for (group, _), count in zip(found, counts, strict=True):
        size = group.norm() / (math.sqrt(group.numel()) if per == "weight" else 1)
        size = size**2 if form == "squared" else size
        wanted = wanted + 0.3 * count * size / (size.detach() + 0.2)
    (expected,) = torch.autograd.grad(wanted, free)
    penalty, gradients = penalty_of(method, recipe, model)
    assert penalty == pytest.approx(float(wanted.detach()), rel=1e-5)
    torch.testing.assert_close(gradients["0"].double(), expected, rtol=1e-4, atol=1e-6)


def test_per_weight_groups_of_any_size_are_drawn_alike() -> None:
    """Weights of one magnitude in columns of 7, in columns of 3, and alone: only per weight the pull is one."""
    model = network()
    with torch.no_grad():
        for number in (0, 2):
            weight_of(model, number).fill_(0.5)
    pulls = {}
    for per in ("weight", None):
        for target in (Columns(keep=0.5), Unstructured(keep=0.5)):
            recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(target,)),))
            _, gradients = penalty_of(Reweighted(epsilon=1e-6, per=per), recipe, model)
            pulls[per, type(target).__name__] = [float(gradients[name][0, 0]) for name in "02"]
    pull = pulls["weight", "Unstructured"][0]
    assert pulls["weight", "Columns"] == pytest.approx([pull, pull], rel=1e-4)
    assert pulls["weight", "Unstructured"] == pytest.approx([pull, pull], rel=1e-4)
    assert pulls[None, "Columns"] == pytest.approx([pull / 7, pull / 3], rel=1e-4)


def test_what_structures_free() -> None:
    blocks = {"block_filters": 4, "block_columns": 4}
    cells, drivers, converters = {"cells"}, {"cells", "drivers"}, {"cells", "converters"}
    for target, wanted in [
        (Unstructured(keep=0.5), [cells]),
        (Filters(keep=0.5), [converters]),
        (Columns(keep=0.5), [drivers]),
        (Tiles(tile_filters=2, tile_columns=2, keep=0.5), [drivers | converters]),
        (KernelShapes(kernel=3, group_filters=2, group_channels=1, keep=0.5), [drivers]),
        (BlockColumnRow(**blocks, keep_filters=0.5), [converters]),
        (BlockColumnRow(**blocks, keep_columns=0.5), [drivers]),
        (BlockColumnRow(**blocks, keep_filters=0.5, keep_columns=0.5), [converters, drivers]),
    ]:
        kinds = range(len(target.norms(torch.ones(6, 6))))
        assert [set(target.frees(kind)) for kind in kinds] == wanted, target


def test_prices_are_the_energy_of_the_unpruned_network() -> None:
    """Times the weights they are the energies of the report, layer by layer; recurrent layers have torch's names."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = SpokenDigitsNet("gru").eval()
        frames = torch.rand(4, 5, 24)
    mapping = xb.Mapping(rows=64, columns=64, cell_bits=4)
    design = xb.Design(cell=Cell(name="linear", g_min=1e-6, g_max=1e-4, levels=16), mapping=mapping)
    report = xb.map_model(model, design, calibration=frames).cost(read_voltage=0.2)
    prices = weight_prices(report, model)
    names = ["recurrent.weight_ih_l0", "recurrent.weight_hh_l0", "classifier"]
    assert [price.layer for price in prices] == names
    weights = [192 * 24, 192 * 64, 640]
    for price, count, work in zip(prices, weights, report.workload().layers, strict=True):
        energy = {(cost.level, cost.name): cost.energy for cost in work.components}
        array = {name: value for (level, name), value in energy.items() if level == report.hardware.levels[0].name}
        adc, dac, cells = (sum(v for k, v in array.items() if part in k.lower()) for part in ("adc", "dac", "cells"))
        held = sum(value for name, value in array.items() if "hold" in name.lower())
        assert count * price.cells == pytest.approx(cells)
        assert count * price.drivers == pytest.approx(dac)
        assert count * price.converters == pytest.approx(adc + held)
        assert min(price.cells, price.drivers, price.converters) > 0
    with pytest.raises(InputError, match=r"report must be of layers of model \(0, 2\), got none of them"):
        weight_prices(report, network())


def test_it_conforms_and_stands_in_toml() -> None:
    prices = tuple(LayerPrice(layer=name, cells=1.0, drivers=2.0, converters=3.0) for name in "035")
    method = Reweighted(strength=0.001, every=2, per="weight", prices=prices)
    check_method(method, epochs=3)
    assert tomlio.loads(Method, tomlio.dumps(method)) == method  # type: ignore[type-abstract]
    assert "per" not in tomlio.dumps(Reweighted())  # what checkpoints of before have written


def found(recipe: Recipe, model: nn.Sequential, keep: float) -> dict[str, Tensor]:
    callback = Reweighted(keep=keep).callback(recipe)
    callback.start(model, 1)
    return callback.masks()


def test_shares_are_found_by_one_threshold_for_all_layers() -> None:
    """Of single weights it is magnitude pruning of the whole network; of groups, by hand."""
    model = network()
    with torch.no_grad():  # layers of one scale
        for number in (0, 2):
            weight_of(model, number).div_(weight_of(model, number).square().mean().sqrt())
    for keep in (0.3, 0.55, 0.8):
        masks = found(Recipe(rules=(LayerRule(layers=("*",), targets=(Unstructured(keep=0.5),)),)), model, keep)
        everything = torch.cat([weight_of(model, number).abs().flatten() for number in (0, 2)])
        kept = torch.cat([masks[name].flatten() for name in "02"])
        assert int(kept.sum()) == math.floor(keep * len(kept))
        assert everything[kept].min() > everything[~kept].max()
    masks = found(Recipe(rules=(LayerRule(layers=("*",), targets=(Columns(keep=0.5),)),)), model, 0.4)
    weights = {name: weight_of(model, int(name)).detach() for name in "02"}
    columns = [(float(c.square().mean()), len(c), name) for name, weight in weights.items() for c in weight.T]
    columns.sort(reverse=True)
    left, wanted = 0.4 * (84 + 21), {"0": 0, "2": 0}
    for _, size, name in columns:
        if left < size:
            break
        wanted[name], left = wanted[name] + 1, left - size
    assert wanted["0"] / 12 != wanted["2"] / 7
    for name, count in wanted.items():
        assert int(masks[name].any(dim=0).sum()) == count
        assert int(masks[name].sum()) == count * len(masks[name])


def test_a_layer_that_shrinks_keeps_one_group_and_one_of_another_scale_keeps_its_share() -> None:
    model = network()
    target = BlockColumnRow(block_filters=4, block_columns=6, keep_filters=0.5, keep_columns=0.5)
    recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(target,)),))
    before = found(recipe, model, 0.5)
    callback = Reweighted(keep=0.5).callback(recipe)
    callback.start(model, 1)
    callback.begin_epoch(0)
    with torch.no_grad():
        weight_of(model, 2).mul_(1e-3)
    masks = callback.masks()
    scaled = found(recipe, model, 0.5)
    assert all(torch.equal(mask, scaled[name]) for name, mask in before.items())
    assert int(masks["2"].sum()) == 2  # one filter and one column of the block, and of that at the edge
    assert 0.4 * 105 < sum(int(mask.sum()) for mask in masks.values()) <= 0.5 * 105


def test_what_is_dear_keeps_less() -> None:
    """Two layers that do the same work, one at ten times the price: trained by the penalty, the dear one keeps less."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(nn.Linear(12, 12), nn.ReLU(), nn.Linear(12, 12))
        images = torch.randn(64, 12)
    with torch.no_grad():
        weight_of(model, 2).copy_(weight_of(model, 0))
    recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(Columns(keep=0.5),)),))
    kept = {}
    for dear in ("0", "2"):
        prices = tuple(
            LayerPrice(layer=name, cells=10.0 if name == dear else 1.0, drivers=0.0, converters=0.0) for name in "02"
        )
        method = Reweighted(strength=0.002, epsilon=1e-2, every=1, per="weight", prices=prices, keep=0.5)
        callback = method.callback(recipe)
        trained = copy.deepcopy(model)
        callback.start(trained, 30)
        optimiser = torch.optim.SGD(trained.parameters(), lr=0.02)
        for epoch in range(30):
            callback.begin_epoch(epoch)
            for _ in range(4):
                optimiser.zero_grad()
                penalty = callback.penalty()
                assert penalty is not None
                (trained(images).square().mean() * 0.01 + penalty).backward()
                optimiser.step()
        kept[dear] = {name: int(mask.sum()) for name, mask in callback.masks().items()}
    assert kept["0"]["0"] < kept["0"]["2"]
    assert kept["2"]["2"] < kept["2"]["0"]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Reweighted(per="group"), "per must be one of 'weight', got 'group'"),  # type: ignore[arg-type]
        (lambda: Reweighted(prices=(PRICES[0], PRICES[0])), "prices must be of each layer once, got '0' 2 times"),
        (lambda: Reweighted(prices=[PRICES[0]]), "prices must be"),  # type: ignore[arg-type]
        (lambda: LayerPrice(layer="0", cells=-1.0, drivers=0.0, converters=0.0), "cells must be .* >= 0.0, got -1.0"),
        (lambda: PRICES[0].of(("wires",)), r"resources\[0\] must be one of .*'converters', got 'wires'"),  # type: ignore[arg-type]
    ],
)
def test_bad_settings_are_refused(make: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        make()


def test_prices_that_do_not_suit_the_layers_are_refused() -> None:
    recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(Columns(keep=0.5),)),))
    with pytest.raises(InputError, match="prices must be of every pruned layer, got none of '2'"):
        Reweighted(prices=PRICES[:1]).callback(recipe).start(network(), 1)
    whole = Recipe(rules=(LayerRule(layers=("*",), targets=(Columns(keep=1.0),)),))
    with pytest.raises(InputError, match="targets of layer '0' must have one share below 1 for each kind"):
        found(whole, network(), 0.5)
    nothing = tuple(LayerPrice(layer=name, cells=0.0, drivers=0.0, converters=1.0) for name in "02")
    with pytest.raises(InputError, match="prices must be above 0 for some of what the targets free"):
        Reweighted(prices=nothing).callback(recipe).start(network(), 1)
