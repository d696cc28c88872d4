"""Grow and prune: the schedule by hand, what is dense when, replicas brought together, and a run that was cut short."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim.compress import (
    Columns,
    GrowAndPrune,
    GrowAndPruneCallback,
    LayerRule,
    Magnitude,
    Method,
    RandomMasks,
    Recipe,
    Tiles,
    Unstructured,
    Writes,
    gemm_view,
    grow_and_prune_in_parallel,
    kept_count,
    prune,
    retrain,
)
from xbarsim.devices import WearOutFaults
from xbarsim.foundation.validation import InputError
from xbarsim.testing import check_method
from xbarsim.training import Callback, Training, TrainingSet, train

KEEP = 0.2
RECIPE = Recipe(rules=(LayerRule(layers=("1", "3", "5", "7"), targets=(Unstructured(keep=KEEP),)),))


def data(images: int = 400) -> TrainingSet:
    """Stripes in noise, of four kinds: learnt in a few epochs."""
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, images)
    stripes = 60 * (np.arange(20) % 4 == labels[:, None]).reshape(images, 1, 4, 5)
    pixels = np.clip(rng.integers(0, 190, (images, 1, 4, 5)) + stripes, 0, 255)
    return TrainingSet.split(
        "stripes", pixels.astype(np.uint8), labels, validation=images // 5, mean=(0.4,), standard_deviation=(0.25,)
    )


def network(seed: int = 3) -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return nn.Sequential(
            nn.Flatten(),
            *(nn.Linear(20, 24), nn.ReLU()),
            *(nn.Linear(24, 20), nn.ReLU()),
            *(nn.Linear(20, 24), nn.ReLU()),
            nn.Linear(24, 24),
            nn.ReLU(),
            nn.Linear(24, 4),
        )


class Watching(Callback):
    """Keeps the masks of every epoch."""

    def __init__(self, method: GrowAndPruneCallback) -> None:
        self.method, self.masks = method, list[dict[str, Tensor]]()
        self.came_back = list[float]()

    def begin_epoch(self, epoch: int) -> None:
        if self.masks:
            for layer, before in self.masks[-1].items():
                new = self.method.held_masks()[layer] & ~before
                self.came_back += self.method.matrix(layer)[new].abs().tolist()
        self.masks.append({layer: mask.clone() for layer, mask in self.method.held_masks().items()})


def watched(method: GrowAndPrune, epochs: int, recipe: Recipe = RECIPE) -> Watching:
    callback = method.callback(recipe)
    assert isinstance(callback, GrowAndPruneCallback)
    watching = Watching(callback)
    train(
        network(), data(60), Training(epochs=epochs, batch=20, learning_rate=0.05, device="cpu"),
        callbacks=(callback, watching), progress=False,
    )  # fmt: skip
    return watching


def test_one_layer_after_the_other_is_dense_and_all_others_have_their_share() -> None:
    watching = watched(GrowAndPrune(parts=4, rounds=2, every=2), epochs=18)
    layers = list(watching.masks[0])
    for epoch, masks in enumerate(watching.masks):
        dense = None if epoch >= 16 else layers[epoch // 2 % 4]
        for layer, mask in masks.items():
            wanted = mask.numel() if layer == dense else kept_count(KEEP, mask.numel())
            assert int(mask.sum()) == wanted, (epoch, layer)
    assert all(torch.equal(watching.masks[2 * n][k], watching.masks[2 * n + 1][k]) for n in range(8) for k in layers)
    assert watching.came_back
    assert not any(watching.came_back)  # what comes back starts at 0
    assert not torch.equal(watching.masks[17]["3"], watching.masks[3]["3"])  # growing finds other weights


def test_cells_are_written_twice_a_round_at_most() -> None:
    method = GrowAndPrune(parts=4, rounds=3, every=1).callback(RECIPE)
    assert isinstance(method, GrowAndPruneCallback)
    train(network(), data(60), Training(epochs=12, batch=20, device="cpu"), callbacks=(method,), progress=False)
    changes = method.changes()
    assert changes.keys() == {"1", "3", "5", "7"}
    for layer, count in changes.items():
        assert int(count.max()) <= 6, layer
        # a weight that is away at the beginning and at the end went as often as it came
        first = random_first(layer)
        last = method.held_masks()[layer]
        assert torch.equal(count % 2, (first ^ last).int()), layer
        assert int(count.sum()) > 3 * 2 * 0.5 * (1 - KEEP) * count.numel()


def test_steps_are_counted_and_reported_also_of_a_run_that_was_cut_short(tmp_path: Path) -> None:
    """A weight takes part in the steps of those epochs in which its mask holds it."""
    method = GrowAndPrune(parts=4, rounds=1, every=1)
    training = Training(epochs=5, batch=20, device="cpu")  # 2 steps an epoch
    found = prune(network(), RECIPE, data(60), training, method=method, progress=False)
    writes = found.report
    assert isinstance(writes, Writes)
    assert writes.of_all == 5 * 2
    callback = method.callback(RECIPE)
    watching = Watching(callback)  # type: ignore[arg-type]
    train(network(), data(60), training, callbacks=(callback, watching), progress=False)
    for layer, steps in writes.steps.items():
        taken = torch.stack([masks[layer] for masks in watching.masks]).sum(dim=0, dtype=torch.int32)
        assert torch.equal(steps, 2 * taken), layer
        expected = sum((one[layer] ^ two[layer]).int() for one, two in itertools.pairwise(watching.masks))
        drawn = random_first(layer)
        assert torch.equal(writes.changes[layer], expected + (drawn ^ watching.masks[0][layer]).int()), layer
        counts = writes.counts()[layer]
        assert torch.equal(counts, (writes.changes[layer] + steps).long())
        assert torch.equal(writes.counts(in_place=False)[layer], writes.changes[layer].long())
    path = tmp_path / "run.safetensors"
    cut = method.callback(RECIPE)
    assert isinstance(cut, GrowAndPruneCallback)
    with pytest.raises(Stopped):
        train(network(), data(60), training, callbacks=(cut, Stop(3)), checkpoint=path, progress=False)
    train(network(), data(60), training, callbacks=(cut, Stop()), checkpoint=path, progress=False)
    again = cut.report()
    assert again.of_all == writes.of_all
    assert all(torch.equal(again.steps[layer], writes.steps[layer]) for layer in writes.steps)
    assert "10 steps in all" in str(again)


class Stopped(Exception):
    pass


class Stop(Callback):
    """Ends a training before an epoch, or never."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at

    def begin_epoch(self, epoch: int) -> None:
        if epoch == self._at:
            raise Stopped


def test_what_cells_endure() -> None:
    counts = {"a": torch.tensor([[0, 10], [5, 20]], dtype=torch.int32)}
    writes = Writes(changes={"a": torch.full((2, 2), 2, dtype=torch.int32)}, steps=counts, of_all=20)
    cells = WearOutFaults(writes=0.0, endurance=12.0, weibull_shape=2.0, on_share=0.5)
    by_hand = [1 - math.exp(-(((2 + steps) / 12) ** 2)) for steps in (0, 10, 5, 20)]
    assert writes.worn_out(cells) == pytest.approx(sum(by_hand) / 4)
    seldom = replace(cells, writes=2.0).total
    assert writes.worn_out(cells, in_place=False) == pytest.approx(seldom)
    with pytest.raises(InputError, match="steps must be of the layers and shapes of changes"):
        Writes(changes=counts, steps={"b": counts["a"]}, of_all=1)
    with pytest.raises(InputError, match=r"changes\['a'\] must be whole numbers >= 0"):
        Writes(changes={"a": -counts["a"]}, steps=counts, of_all=1)


def test_each_replica_is_a_chip_that_is_programmed_anew_every_round() -> None:
    found = list[tuple[Writes, ...]]()
    method = GrowAndPrune(parts=2, rounds=3)
    recipe = Recipe(rules=(LayerRule(layers=("1", "3"), targets=(Unstructured(keep=KEEP),)),))
    training = Training(epochs=1, batch=20, device="cpu")  # 2 steps
    _, masks = grow_and_prune_in_parallel(
        network(), recipe, data(60), training, method=method, report=found.append, progress=False
    )
    (chips,) = found
    assert len(chips) == 2
    for part, writes in enumerate(chips):
        dense, sparse = ("1", "3") if part == 0 else ("3", "1")
        assert writes.of_all == 3 * 2
        assert (writes.changes[dense] == 4).all()  # three rounds, and what was brought together in the end
        assert (writes.steps[dense] == 6).all()
        assert int(writes.steps[sparse].sum()) == 6 * kept_count(KEEP, masks[sparse].numel())
        assert (writes.changes[sparse][masks[sparse]] >= 1).all()
        assert int(writes.changes[sparse].max()) <= 4


def random_first(layer: str) -> Tensor:
    watching = watched(GrowAndPrune(parts=4, rounds=1, every=1, start="random"), epochs=4)
    masks = watching.masks
    # each layer is dense in one turn; before its own, its mask is the one that was drawn
    turn = list(masks[0]).index(layer)
    callback = RandomMasks().callback(RECIPE)
    train(network(), data(60), Training(epochs=1, batch=20, device="cpu"), callbacks=(callback,), progress=False)
    drawn = callback.held_masks()[layer]
    if turn:
        assert torch.equal(masks[0][layer], drawn)
    return drawn


def test_of_tiles_every_fourth_is_dense() -> None:
    recipe = Recipe(rules=(LayerRule(layers=("1", "3"), targets=(Unstructured(keep=0.1),)),))
    method = GrowAndPrune(parts=4, partition="tiles", tile_filters=5, tile_columns=8, rounds=1, every=1)
    watching = watched(method, epochs=5, recipe=recipe)
    for turn in range(4):
        first = 0
        for layer, mask in watching.masks[turn].items():
            number = first
            filters, columns = mask.shape
            for column in range(0, columns, 8):
                for row in range(0, filters, 5):
                    tile = mask[row : row + 5, column : column + 8]
                    assert bool(tile.all()) == (number % 4 == turn), (turn, layer, number)
                    number += 1
            first = number
    assert all(int(mask.sum()) == kept_count(0.1, mask.numel()) for mask in watching.masks[4].values())


def test_whole_tiles_may_be_pruned_and_grown() -> None:
    recipe = Recipe(rules=(LayerRule(layers=("3",), targets=(Tiles(tile_filters=5, tile_columns=8, keep=0.25),)),))
    method = GrowAndPrune(parts=3, partition="tiles", tile_filters=5, tile_columns=8, rounds=2, every=1)
    for masks in watched(method, epochs=7, recipe=recipe).masks:
        for row in range(0, 20, 5):
            for column in range(0, 24, 8):
                tile = masks["3"][row : row + 5, column : column + 8]
                assert tile.all() or not tile.any()


def test_the_order_of_turns() -> None:
    cyclic, random = GrowAndPrune(parts=4, rounds=3), GrowAndPrune(parts=4, rounds=3, order="random", seed=1)
    assert [cyclic.grown(turn) for turn in range(12)] == [0, 1, 2, 3] * 3
    drawn = [random.grown(turn) for turn in range(400)]
    assert all(sorted(drawn[start : start + 4]) == [0, 1, 2, 3] for start in range(0, 400, 4))
    assert len({tuple(drawn[start : start + 4]) for start in range(0, 400, 4)}) == 24
    assert [random.grown(turn) for turn in range(12)] == drawn[:12]
    assert cyclic.turns == 12
    assert GrowAndPrune(parts=2, rounds=2, every=3).milestones == (3.0, 6.0, 9.0, 12.0)


@pytest.mark.parametrize("start", ["random", "largest"])
def test_it_keeps_the_promises_of_a_method(start: Any) -> None:
    check_method(GrowAndPrune(parts=2, rounds=2, every=1, start=start), epochs=5)
    structured = Recipe(rules=(LayerRule(layers=("0", "3", "5"), targets=(Columns(keep=0.5), Unstructured(keep=0.3))),))
    tiles = GrowAndPrune(parts=2, rounds=1, every=2, partition="tiles", tile_filters=3, tile_columns=4, order="random")
    check_method(tiles, recipe=structured, epochs=4)


def test_random_masks_and_gradual_pruning_keep_the_promises_of_a_method() -> None:
    check_method(RandomMasks(seed=3))
    check_method(Magnitude(steps=3, law="cubic"))


def test_gradual_pruning_goes_its_cubic_way() -> None:
    seen: list[int] = []

    class Count(Callback):
        def after_step(self) -> None:
            seen.append(int(callback.held_masks()["1"].sum()))

    recipe = Recipe(rules=(LayerRule(layers=("1",), targets=(Unstructured(keep=0.1),)),))
    callback = Magnitude(steps=4, law="cubic").callback(recipe)
    training = Training(epochs=8, batch=300, learning_rate=0.01, device="cpu")
    train(network(), data(), training, callbacks=(callback, Count()), progress=False)
    shares = [1 - 0.9 * (1 - (1 - step / 4) ** 3) for step in (1, 2, 3, 4)]
    assert seen == [kept_count(share, 480) for share in shares for _ in range(2)]


def accuracy(model: nn.Module) -> float:
    held = data(1000)
    with torch.no_grad():
        found = model(held.normalise(held.validation_images)).argmax(dim=1)
    return float((found == held.validation_labels).float().mean())


def test_a_sparse_network_that_grows_learns_what_one_with_drawn_masks_cannot() -> None:
    """3 % of the weights, without a dense training before."""
    recipe = Recipe(rules=(LayerRule(layers=("1", "3"), targets=(Unstructured(keep=0.03),)),))
    method = GrowAndPrune(parts=4, partition="tiles", tile_filters=10, tile_columns=10, rounds=2, every=2)
    training = Training(
        epochs=20, batch=25, learning_rate=0.05, milestones=method.milestones, device="cpu", weight_decay=0.0
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(3)
        model = nn.Sequential(
            *(nn.Flatten(), nn.Linear(20, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU()), nn.Linear(40, 4)
        )
    ways: tuple[Method, ...] = (method, RandomMasks())
    grown, drawn = (
        accuracy(prune(model, recipe, data(1000), training, method=way, progress=False).model) for way in ways
    )
    assert grown > 0.75
    assert grown > drawn + 0.15


def test_replicas_are_brought_together_part_by_part(tmp_path: Path) -> None:
    method = GrowAndPrune(parts=2, rounds=2)
    recipe = Recipe(rules=(LayerRule(layers=("1", "3"), targets=(Unstructured(keep=0.2),)),))
    training = Training(epochs=1, batch=20, learning_rate=0.05, device="cpu")
    before = network()
    original = {name: tensor.clone() for name, tensor in before.state_dict().items()}
    one, masks = grow_and_prune_in_parallel(
        before, recipe, data(60), training, method=method, folder=tmp_path, progress=False
    )
    again, same = grow_and_prune_in_parallel(
        network(), recipe, data(60), training, method=method, folder=tmp_path, progress=False
    )
    assert all(torch.equal(tensor, original[name]) for name, tensor in before.state_dict().items())
    for name, tensor in one.state_dict().items():
        assert torch.equal(tensor, again.state_dict()[name])
    for layer, mask in masks.items():
        assert torch.equal(mask, same[layer])
        assert int(mask.sum()) == kept_count(0.2, mask.numel())
        assert not one.get_submodule(layer).weight[~mask].any()  # type: ignore[index]
    trained = retrain(one, data(60), training, masks=masks, progress=False)
    assert not gemm_view(trained.model.get_submodule("1").weight)[~masks["1"]].any()  # type: ignore[arg-type]


def test_what_belongs_to_no_part_is_the_mean_of_the_replicas() -> None:
    from xbarsim.compress.methods.grow_and_prune import _bring_together

    current, replicas = network(0), [network(seed) for seed in (1, 2)]
    parts = {"1.weight": torch.zeros(24, 20, dtype=torch.int64), "3.weight": torch.arange(24).expand(20, 24) % 2}
    _bring_together(current, replicas, parts)
    now, first, second = (model.state_dict() for model in (current, *replicas))
    assert torch.equal(now["1.weight"], first["1.weight"])
    assert torch.equal(now["3.weight"][:, ::2], first["3.weight"][:, ::2])
    assert torch.equal(now["3.weight"][:, 1::2], second["3.weight"][:, 1::2])
    for name in ("1.bias", "5.weight", "9.bias"):
        torch.testing.assert_close(now[name], (first[name] + second[name]) / 2)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="parts must be an integer >= 2, got 1"):
        GrowAndPrune(parts=1)
    training = Training(epochs=3, batch=20, device="cpu")
    alone = Recipe(rules=(LayerRule(layers=("1",), targets=(Unstructured(keep=0.5),)),))
    with pytest.raises(InputError, match="epochs must be at least 4 for 1 rounds of 4 turns of 1 epochs, got 3"):
        prune(network(), RECIPE, data(60), training, method=GrowAndPrune(rounds=1, every=1), progress=False)
    with pytest.raises(InputError, match="parts must be few enough for layers"):
        prune(network(), alone, data(60), training, method=GrowAndPrune(parts=2, rounds=1, every=1), progress=False)
