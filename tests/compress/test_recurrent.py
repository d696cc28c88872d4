"""Recurrent layers in recipes: weights by name, masks and levels that the fused kernels compute with, resuming."""

from __future__ import annotations

import copy
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim.compress import (
    Admm,
    BlockColumnRow,
    Columns,
    GrowAndPrune,
    Hardening,
    KernelShapes,
    LayerRule,
    LearnedShapes,
    Levels,
    LostWeights,
    Magnitude,
    Method,
    Rates,
    Recipe,
    Reweighted,
    Unstructured,
    compress,
    compression,
    gemm_view,
    grow_and_prune_in_parallel,
    magnitude_masks,
    mappable_layers,
    nearest_levels,
    prune,
    retrain,
)
from xbarsim.foundation.validation import InputError
from xbarsim.models import SpokenDigitsNet
from xbarsim.training import Callback, Training, TrainingSet, train

RECIPE = Recipe(
    rules=(
        LayerRule(
            layers=("recurrent.weight_hh_l0",),
            targets=(BlockColumnRow(block_filters=6, block_columns=4, keep_filters=0.5, keep_columns=0.5),),
            levels=Levels(bits=4),
        ),
        LayerRule(layers=("recurrent.weight_ih*",), targets=(Columns(keep=0.6),), levels=Levels(bits=5)),
    )
)
MATRICES = ("recurrent.weight_ih_l0", "recurrent.weight_hh_l0")
TRAINING = Training(epochs=2, batch=20, optimiser="adam", learning_rate=0.02, device="cpu")


Kind = type[nn.GRU | nn.LSTM | nn.RNN]


class Words(nn.Module):
    """A recurrent layer of 8 units over the rows of an image, and one linear layer."""

    def __init__(self, kind: Kind, seed: int = 3) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.recurrent = kind(5, 8, batch_first=True)
            self.classifier = nn.Linear(8, 4)

    def forward(self, images: Tensor) -> Tensor:
        outputs, _ = self.recurrent(images.squeeze(1))
        logits: Tensor = self.classifier(outputs.mean(dim=1))
        return logits


def data() -> TrainingSet:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 100)
    pixels = rng.integers(0, 120, (100, 1, 6, 5)) + 100 * (np.arange(5) % 4 == labels[:, None]).reshape(100, 1, 1, 5)
    return TrainingSet.split(
        "bands", pixels.astype(np.uint8), labels, validation=20, mean=(0.3,), standard_deviation=(0.2,)
    )


def weight(model: nn.Module, name: str) -> Tensor:
    return mappable_layers(model)[name].weight.detach()


def same(one: nn.Module, other: nn.Module) -> bool:
    first, second = one.state_dict(), other.state_dict()
    return first.keys() == second.keys() and all(torch.equal(first[name], second[name]) for name in first)


class Stopped(Exception):
    pass


class Stop(Callback):
    """Ends a training before an epoch, or never."""

    def __init__(self, at: int | None = None) -> None:
        self._at = at

    def begin_epoch(self, epoch: int) -> None:
        if epoch == self._at:
            raise Stopped


def test_every_matrix_of_a_recurrent_module_has_a_name() -> None:
    model = nn.ModuleDict(
        {
            "a": nn.LSTM(3, 4, num_layers=2, bidirectional=True, proj_size=2),
            "b": nn.GRUCell(3, 4),
            "c": nn.RNN(3, 4, bias=False),
            "d": nn.Linear(4, 2),
        }
    )
    layers = mappable_layers(model)
    directions = [
        f"a.weight_{kind}_l{n}{side}" for n in (0, 1) for side in ("", "_reverse") for kind in ("ih", "hh", "hr")
    ]
    assert list(layers) == [*directions, "b.weight_ih", "b.weight_hh", "c.weight_ih_l0", "c.weight_hh_l0", "d"]
    state = model.state_dict()
    for name, layer in layers.items():
        assert layer.key == (name if name in state else f"{name}.weight")
        assert layer.weight.data_ptr() == layer.free.data_ptr() == state[layer.key].data_ptr()
    numbers = [layer.number for layer in layers.values()]
    assert len(set(numbers)) == len(numbers)
    assert layers["d"].number == [name for name, _ in model.named_modules()].index("d")
    assert list(mappable_layers(nn.GRU(2, 3))) == ["weight_ih_l0", "weight_hh_l0"]


def test_shared_recurrent_weights_are_refused() -> None:
    model = nn.ModuleList([nn.GRUCell(3, 3), nn.Linear(3, 9)])
    model[1].weight = model[0].weight_hh
    with pytest.raises(InputError, match=r"layers '0.weight_hh' and '1' of model must not share one weight"):
        mappable_layers(model)


def test_a_name_that_no_weight_has_is_refused_with_those_there_are() -> None:
    recipe = Recipe(rules=(LayerRule(layers=("recurrent",)),))
    with pytest.raises(
        InputError, match=r"GRU of Words \(recurrent.weight_ih_l0, recurrent.weight_hh_l0, classifier\)"
    ):
        recipe.layers(Words(nn.GRU))


@pytest.mark.parametrize("kind", [nn.GRU, nn.LSTM, nn.RNN])
def test_pruned_and_levelled_weights_are_those_that_the_module_computes_with(
    kind: Kind,
) -> None:
    model = Words(kind)
    masks = RECIPE.masks(model)
    levels = {name: rule.levels for name, rule in RECIPE.layers(model).items() if rule.levels is not None}
    plain = copy.deepcopy(model)
    with torch.no_grad():
        for name, mask in masks.items():
            hard = torch.where(mask, weight(model, name), 0.0)
            mappable_layers(plain)[name].free.copy_(nearest_levels(hard, levels[name].bits, mask=mask))
    hardening = Hardening(masks=masks, levels=levels)
    hardening.start(model, 1)
    images = torch.rand(7, 1, 6, 5, generator=torch.Generator().manual_seed(1))
    expected = plain(images)
    assert torch.equal(model(images), expected)
    assert not torch.equal(Words(kind)(images), expected)
    # every weight that stays is moved by a gradient, and no other
    model(images).square().sum().backward()
    for name, mask in masks.items():
        gradient = mappable_layers(model)[name].free.grad
        assert gradient is not None
        assert torch.equal(gradient != 0, mask), name
    with torch.no_grad():  # what is computed with follows the free weight
        mappable_layers(model)[MATRICES[0]].free.mul_(2)
    assert not torch.equal(model(images), expected)
    hardening.bake()
    assert type(model.recurrent) is kind
    assert model.state_dict().keys() == plain.state_dict().keys()


METHODS: list[Method] = [
    Magnitude(steps=2, law="cubic"),
    Admm(rho=0.01),
    Reweighted(every=1),
    GrowAndPrune(parts=2, rounds=1, every=1, partition="tiles", tile_filters=6, tile_columns=4),
    LearnedShapes(learn=1),
]


@pytest.mark.parametrize("method", METHODS, ids=lambda method: type(method).__name__)
def test_every_method_prunes_them_and_goes_on_with_the_same_bits(method: Method, tmp_path: Path) -> None:
    recipe = RECIPE
    if isinstance(method, LearnedShapes):
        target = KernelShapes(kernel=1, group_filters=8, group_channels=1, keep=0.5)
        recipe = Recipe(rules=(LayerRule(layers=("recurrent.*",), targets=(target,)),))
    model = Words(nn.GRU)
    whole = prune(model, recipe, data(), TRAINING, method=method, progress=False)
    assert same(model, Words(nn.GRU))
    assert set(whole.masks) == set(MATRICES)
    assert same(prune(model, recipe, data(), TRAINING, method=method, progress=False).model, whole.model)
    for name, mask in whole.masks.items():
        (target_,) = recipe.layers(model)[name].targets
        assert torch.equal(target_.mask(mask.float()), mask), name
        assert not weight(whole.model, name)[~mask].any()
        assert weight(whole.model, name)[mask].any()
    path, callback = tmp_path / "run.safetensors", method.callback(recipe)
    with pytest.raises(Stopped):
        train(copy.deepcopy(model), data(), TRAINING, callbacks=(callback, Stop(1)), checkpoint=path, progress=False)
    resumed, other = copy.deepcopy(model), method.callback(recipe)
    train(resumed, data(), TRAINING, callbacks=(other, Stop()), checkpoint=path, progress=False)
    for name, mask in other.masks().items():
        assert torch.equal(mask, whole.masks[name])
        assert torch.equal(torch.where(mask, weight(resumed, name), 0.0), weight(whole.model, name))


def test_a_spoken_digits_network_is_compressed_and_counted(tmp_path: Path) -> None:
    """What is left stands on its levels, errors of cells reach recurrent weights too, and a cut run ends the same."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = nn.Sequential(nn.Flatten(1, 2), SpokenDigitsNet("gru"))
    rng = np.random.default_rng(4)
    frames = rng.integers(0, 256, (30, 1, 8, 24), dtype=np.uint8)
    words = TrainingSet.split(
        "words", frames, rng.integers(0, 10, 30), validation=5, mean=(0.5,), standard_deviation=(0.3,)
    )
    target = BlockColumnRow(block_filters=16, block_columns=8, keep_filters=0.5, keep_columns=0.25)
    recipe = Recipe(rules=(LayerRule(layers=("1.recurrent.*",), targets=(target,), levels=Levels(bits=5)),))
    training = Training(epochs=2, batch=10, learning_rate=0.02, device="cpu")
    errors = LostWeights(rates=Rates(largest=0.2), noise=0.1, seed=5)
    done = compress(
        network, recipe, words, pruning=training, retraining=training, injection=errors, folder=tmp_path, progress=False
    )  # fmt: skip
    without = compress(network, recipe, words, pruning=training, retraining=training, progress=False)
    name = "1.recurrent.weight_hh_l0"
    assert not torch.equal(weight(done.model, name), weight(without.model, name))
    for layer, mask in done.masks.items():
        left = weight(done.model, layer)
        assert not left[~mask].any()
        assert torch.equal(nearest_levels(left, 5, mask=mask), left)
    table = {row.name: row for row in compression(network, done.masks, recipe).layers}
    assert list(table) == ["1.recurrent.weight_ih_l0", name, "1.classifier"]
    assert (table[name].weights, table[name].kept, table[name].bits) == (192 * 64, 192 * 64 // 8, 5)
    assert table[name].index_bits == 192 * 8 + 12 * 64  # filters of each block, columns of each
    (tmp_path / "retraining.safetensors").unlink()
    again = retrain(
        prune(network, recipe, words, training, method=Magnitude(), progress=False).model, words, training,
        masks=done.masks, recipe=recipe, injection=errors, progress=False,
    )  # fmt: skip
    assert same(again.model, done.model)


def test_parts_that_grow_in_parallel_come_together_in_recurrent_weights() -> None:
    recipe = Recipe(rules=(LayerRule(layers=("recurrent.*", "classifier"), targets=(Unstructured(keep=0.3),)),))
    method = GrowAndPrune(parts=2, rounds=1)
    model, masks = grow_and_prune_in_parallel(
        Words(nn.LSTM), recipe, data(), Training(epochs=1, batch=20, device="cpu"), method=method, progress=False
    )
    assert set(masks) == {*MATRICES, "classifier"}
    for name, mask in masks.items():
        assert torch.equal(weight(model, name) != 0, mask), name
    images = torch.rand(3, 1, 6, 5)
    assert torch.isfinite(model(images)).all()


def test_tickets_count_recurrent_weights() -> None:
    model = Words(nn.GRU)
    masks = magnitude_masks(model, 0.1)
    everything = torch.cat([weight(model, name).abs().flatten() for name in masks])
    kept = torch.cat([gemm_view(mask).flatten() for mask in masks.values()])
    assert set(masks) == {*MATRICES, "classifier"}
    assert int(kept.sum()) == round(0.1 * len(kept))
    assert everything[kept].min() >= everything[~kept].max()
