"""What a method may do beyond penalties: its own update rule, growing weights back, masks that are trained.

Each by a small working method, which the conformance check resumes bit for bit.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from xbarsim.compress import Columns, LayerRule, Method, MethodCallback, Recipe, Unstructured, kept_count, prune
from xbarsim.foundation.validation import InputError
from xbarsim.testing import check_method
from xbarsim.training import Callback, ParameterGroup, Proposal, Training, TrainingSet, train

RECIPE = Recipe(rules=(LayerRule(layers=("1",), targets=(Unstructured(keep=0.25),)),))
TRAINING = Training(epochs=3, batch=10, learning_rate=0.05, device="cpu", seed=2)


def data() -> TrainingSet:
    rng = np.random.default_rng(1)
    labels = rng.integers(0, 4, 50)
    pixels = rng.integers(0, 120, (50, 1, 4, 5)) + 100 * (np.arange(20) % 4 == labels[:, None]).reshape(50, 1, 4, 5)
    return TrainingSet.split(
        "stripes", pixels.astype(np.uint8), labels, validation=10, mean=(0.3,), standard_deviation=(0.2,)
    )


def network() -> nn.Sequential:
    with torch.random.fork_rng(devices=[]):
        model = nn.Sequential(nn.Flatten(), nn.Linear(20, 8), nn.ReLU(), nn.Linear(8, 4))
        generator = torch.Generator().manual_seed(3)
        for parameter in model.parameters():
            nn.init.uniform_(parameter, -0.3, 0.3, generator=generator)
    return model


def weight_of(model: nn.Module, name: str = "1") -> Tensor:
    weight = model.get_submodule(name).weight
    assert isinstance(weight, Tensor)
    return weight.detach()


# --- an update rule of its own


@dataclass(frozen=True, kw_only=True)
class SignSteps(Method):
    """Weights on a grid that move by one step of it or not at all: against the gradient, by chance."""

    grid: float = 0.125

    def callback(self, recipe: Recipe) -> MethodCallback:
        return SignStepsCallback(self, recipe)


class SignStepsCallback(MethodCallback):
    method: SignSteps

    def start(self, model: nn.Module, epochs: int) -> None:
        super().start(model, epochs)
        with torch.no_grad():
            for name in self.pruned_layers():
                self.weight(name).copy_((self.weight(name) / self.method.grid).round() * self.method.grid)

    def begin_epoch(self, epoch: int) -> None:
        if epoch == 0:
            for name, rule in self.pruned_layers().items():
                self.set_mask(name, rule.mask(self.matrix(name)))

    def groups(self) -> Sequence[ParameterGroup]:
        return (ParameterGroup(parameters=tuple(map(self.weight, self.pruned_layers())), update=self.update),)

    def update(self, proposal: Proposal) -> Tensor:
        chance = (proposal.step.abs() / self.method.grid).clamp(max=1.0)
        moves = torch.rand(chance.shape, generator=proposal.generator) < chance
        return proposal.weight + self.method.grid * torch.where(moves, proposal.step.sign(), 0.0)


def test_weights_that_move_by_a_rule_stay_on_its_grid() -> None:
    model = network()
    before = weight_of(model).clone()
    pruned = prune(model, RECIPE, data(), TRAINING, method=SignSteps(), progress=False)
    weight = weight_of(pruned.model)
    assert torch.equal(weight, (weight / 0.125).round() * 0.125)
    assert (weight != before)[pruned.masks["1"]].any()
    assert not torch.equal(weight_of(pruned.model, "3") / 0.125, (weight_of(pruned.model, "3") / 0.125).round())


def test_a_method_with_its_own_rule_goes_on_bit_for_bit_although_it_draws() -> None:
    check_method(SignSteps(), epochs=4)


class Seen(Callback):
    """Moves the first layer as told, and keeps what it was offered."""

    def __init__(self, rate_factor: float = 1.0) -> None:
        self.factor, self.proposals = rate_factor, list[Proposal]()

    def start(self, model: nn.Module, epochs: int) -> None:
        self.layer = model.get_submodule("1")

    def groups(self) -> Sequence[ParameterGroup]:
        weight = self.layer.weight
        assert isinstance(weight, nn.Parameter)
        return (ParameterGroup(parameters=(weight,), rate_factor=self.factor, update=self.update),)

    def update(self, proposal: Proposal) -> Tensor:
        self.proposals.append(Proposal(*(item.clone() if isinstance(item, Tensor) else item for item in proposal)))  # type: ignore[arg-type]
        return proposal.weight + proposal.step


@pytest.mark.parametrize("optimiser", ["sgd", "adam", "adamw"])
def test_a_rule_that_takes_the_proposed_step_trains_as_the_optimiser_does(optimiser: Any) -> None:
    """Without weight decay, which no proposed step holds."""
    made: dict[str, Any] = {"epochs": 3, "batch": 10, "learning_rate": 0.01, "device": "cpu", "optimiser": optimiser}
    plain, ruled, seen = network(), network(), Seen()
    train(plain, data(), Training(weight_decay=0.0, **made))
    train(ruled, data(), Training(weight_decay=0.0, **made), callbacks=[seen])
    torch.testing.assert_close(weight_of(ruled), weight_of(plain), rtol=1e-5, atol=1e-6)
    assert len(seen.proposals) == 3 * 4
    first = seen.proposals[0]
    assert first.rate == Training(**made).rate(0.5 / 4)
    assert torch.equal(first.weight, weight_of(network()))
    if optimiser == "sgd":  # Nesterov's first step, exact to the last bit of the step although the weight is larger
        torch.testing.assert_close(first.step, -first.rate * 1.9 * first.gradient, rtol=1e-6, atol=0)


def test_rates_of_a_group_are_multiplied() -> None:
    one, other = Seen(), Seen(rate_factor=0.5)
    for seen in (one, other):
        train(network(), data(), TRAINING, callbacks=[seen])
    assert other.proposals[0].rate == one.proposals[0].rate / 2
    torch.testing.assert_close(other.proposals[0].step, one.proposals[0].step / 2)


def test_groups_are_checked() -> None:
    class Wrong(Callback):
        def __init__(self, *groups: ParameterGroup) -> None:
            self._groups = groups

        def groups(self) -> Sequence[ParameterGroup]:
            return self._groups

    model = network()
    weight = model.get_submodule("1").weight
    assert isinstance(weight, nn.Parameter)
    stray = nn.Parameter(torch.zeros(3))
    with pytest.raises(InputError, match=r"groups must hold trainable parameters .* got one of shape \(3,\)"):
        train(model, data(), TRAINING, callbacks=[Wrong(ParameterGroup(parameters=(stray,)))])
    with pytest.raises(InputError, match=r"groups must hold .* each in one group, got '1\.weight' twice"):
        train(model, data(), TRAINING, callbacks=[Wrong(*[ParameterGroup(parameters=(weight,))] * 2)])
    for changes in ({"rate_factor": 0.0}, {"weight_decay": -1.0}):
        with pytest.raises(InputError, match=f"{next(iter(changes))} must be a finite number"):
            ParameterGroup(parameters=(weight,), **changes)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"weight_decay must be None or 0 with an update rule, got 0\.1"):
        ParameterGroup(parameters=(weight,), weight_decay=0.1, update=lambda proposal: proposal.weight)


# --- pruning and growing


@dataclass(frozen=True, kw_only=True)
class Cyclic(Method):
    """One column of partitions after the other is dense, the rest pruned to the target; every `every` steps."""

    parts: int = 4
    every: int = 2
    start: float = 0.0

    def callback(self, recipe: Recipe) -> MethodCallback:
        return CyclicCallback(self, recipe)


class CyclicCallback(MethodCallback):
    method: Cyclic

    def begin_step(self, step: int) -> None:
        if step % self.method.every == 0:
            self._turn(step // self.method.every)

    def _turn(self, turn: int) -> None:
        for layer, rule in self.pruned_layers().items():
            matrix = self.matrix(layer)
            before = self.held_masks().get(layer)
            grown = (torch.arange(matrix.shape[1]) % self.method.parts == turn % self.method.parts).expand(matrix.shape)
            self.set_mask(layer, rule.mask(matrix, among=before) | grown, start=self.method.start)

    def finish(self) -> None:
        for layer, rule in self.pruned_layers().items():
            self.set_mask(layer, rule.mask(self.matrix(layer), among=self.held_masks()[layer]))
        super().finish()


class Counting(Callback):
    """Counts what is left after each step, and looks at what has just come back."""

    def __init__(self, method: MethodCallback) -> None:
        self.method = method
        self.kept: list[int] = []
        self.came_back: list[Tensor] = []
        self.before = torch.ones(8, 20, dtype=torch.bool)

    def before_step(self) -> None:
        now = self.method.held_masks()["1"]
        self.came_back.append(self.method.matrix("1")[now & ~self.before].clone())
        self.before = now

    def after_step(self) -> None:
        mask = self.method.held_masks()["1"]
        assert not self.method.matrix("1")[~mask].any()
        self.kept.append(int(mask.sum()))


def test_pruning_and_growing_keeps_the_exact_number_of_weights_at_every_step() -> None:
    method = Cyclic(start=0.01).callback(RECIPE)
    counting = Counting(method)
    train(network(), data(), TRAINING, callbacks=[method, counting])
    assert len(counting.kept) == 12
    target, part = kept_count(0.25, 160), 160 // 4
    # the target's 40 and a dense part of 40, less what both hold; turns of two steps
    assert all(part <= kept <= target + part for kept in counting.kept)
    assert counting.kept[::2] == counting.kept[1::2]
    assert len(set(counting.kept)) > 1
    assert sum(len(values) for values in counting.came_back[::2]) > 50
    assert not any(len(values) for values in counting.came_back[1::2])  # in the middle of a turn
    assert all((values == 0.01).all() for values in counting.came_back)  # they start as stated
    assert int(method.masks()["1"].sum()) == target


def test_a_method_that_grows_goes_on_bit_for_bit() -> None:
    check_method(Cyclic(every=2), epochs=4)  # three steps an epoch: turns go across epochs


@pytest.mark.parametrize("optimiser", ["sgd", "adam"])
def test_the_optimiser_forgets_what_begins_anew(optimiser: Any) -> None:
    """A weight that was away for an epoch moves as if it had never been there; the ones beside it keep their pace."""

    class Away(Callback):
        """Takes two weights away before epoch 1 and lets them begin anew; `renew` says which of them anew."""

        def __init__(self, renew: bool) -> None:
            self.renew, self.steps = renew, list[Tensor]()
            self.due = False

        def start(self, model: nn.Module, epochs: int) -> None:
            weight = model.get_submodule("1").weight
            assert isinstance(weight, nn.Parameter)
            self.weight = weight

        def begin_epoch(self, epoch: int) -> None:
            self.due = epoch == 1

        def before_step(self) -> None:
            assert self.weight.grad is not None
            self.weight.grad.fill_(1.0 if not self.steps else 0.0)
            self.last = self.weight.detach().clone()

        def renewed(self) -> Sequence[tuple[nn.Parameter, Tensor]]:
            if not (self.due and self.renew):
                return ()
            self.due = False
            mask = torch.zeros_like(self.weight, dtype=torch.bool)
            mask[0, :2] = True
            return ((self.weight, mask),)

        def after_step(self) -> None:
            self.steps.append(self.weight.detach() - self.last)

    made: dict[str, Any] = {"epochs": 2, "batch": 10, "weight_decay": 0.0, "schedule": "constant"}
    training = Training(optimiser=optimiser, learning_rate=0.01, device="cpu", **made)
    anew, on = Away(True), Away(False)
    for callback in (anew, on):
        train(network(), data(), training, callbacks=[callback])
    before, after = anew.steps[3], anew.steps[4]
    assert (before[0] != 0).all()  # one gradient long ago still moves everything
    assert not after[0, :2].any()
    assert torch.equal(after[0, 2:], on.steps[4][0, 2:])
    assert (on.steps[4] != 0).all()


def test_masks_move_both_ways_and_start_from_a_matrix() -> None:
    model = network()
    callback = Cyclic().callback(RECIPE)
    callback.start(model, 1)
    first = torch.arange(160).reshape(8, 20) % 2 == 0
    original = callback.matrix("1").clone()
    callback.set_mask("1", first)
    assert torch.equal(callback.matrix("1"), torch.where(first, original, 0.0))
    callback.set_mask("1", ~first, start=2 * original)
    assert torch.equal(callback.matrix("1"), torch.where(first, 0.0, 2 * original))
    ((parameter, changed),) = callback.renewed()
    assert parameter is model.get_submodule("1").weight
    assert changed.all()  # every weight went or came
    assert not callback.renewed()
    callback.set_mask("1", ~first)
    ((_, changed),) = callback.renewed()
    assert not changed.any()


# --- masks that are trained


class Gate(nn.Module):
    """A weight times 1 where its column's score is above 0; the gradient passes to the score as if by a product."""

    def __init__(self, positions: int) -> None:
        super().__init__()
        self.score = nn.Parameter(torch.linspace(0.5, 1.5, positions))

    def forward(self, weight: Tensor) -> Tensor:
        matrix = weight.flatten(1)
        hard = (self.score > 0).to(weight.dtype)
        return (matrix * (hard + self.score - self.score.detach())).reshape(weight.shape)


@dataclass(frozen=True, kw_only=True)
class TrainedColumns(Method):
    """Scores of columns, trained with the weights; the largest scores of the target's share stay at the end."""

    pull: float = 0.05

    def callback(self, recipe: Recipe) -> MethodCallback:
        return TrainedColumnsCallback(self, recipe)


class TrainedColumnsCallback(MethodCallback):
    method: TrainedColumns

    def start(self, model: nn.Module, epochs: int) -> None:
        super().start(model, epochs)
        self.gates = {}
        for layer in self.pruned_layers():
            self.gates[layer] = Gate(self.matrix(layer).shape[1])
            self.attach(layer, self.gates[layer])

    def groups(self) -> Sequence[ParameterGroup]:
        scores = tuple(gate.score for gate in self.gates.values())
        return (ParameterGroup(parameters=scores, rate_factor=10.0, weight_decay=0.0),)

    def penalty(self) -> Tensor:
        return self.method.pull * torch.stack([gate.score.sum() for gate in self.gates.values()]).sum()

    def finish(self) -> None:
        for layer, rule in self.pruned_layers().items():
            scores = self.gates[layer].score.detach()
            ranked = (scores - scores.min() + 1.0).expand(self.matrix(layer).shape)
            self.set_mask(layer, rule.mask(ranked.contiguous()))
        super().finish()


COLUMNS = Recipe(rules=(LayerRule(layers=("1",), targets=(Columns(keep=0.25),)),))


def test_trained_masks_end_as_fixed_ones() -> None:
    model, gates = network(), TrainedColumns().callback(COLUMNS)
    scores: list[Tensor] = []

    class Look(Callback):
        def after_step(self) -> None:
            assert isinstance(gates, TrainedColumnsCallback)
            scores.append(gates.gates["1"].score.detach().clone())

    train(model, data(), TRAINING, callbacks=[gates, Look()])
    assert not torch.equal(scores[0], scores[-1])  # they were trained
    mask = gates.masks()["1"]
    assert int(mask.any(dim=0).sum()) == 5
    assert mask.any(dim=0).nonzero().flatten().tolist() == sorted(scores[-1].topk(5).indices.tolist())
    assert isinstance(model.get_submodule("1").weight, nn.Parameter)
    assert torch.equal(weight_of(model) != 0, mask & (scores[-1] > 0))
    assert sorted(model.state_dict()) == ["1.bias", "1.weight", "3.bias", "3.weight"]
    untouched = copy.deepcopy(model)
    images = data().normalise(data().validation_images)
    assert torch.equal(untouched(images), model(images))


def test_a_method_with_trained_masks_goes_on_bit_for_bit() -> None:
    check_method(
        TrainedColumns(), epochs=4, recipe=Recipe(rules=(LayerRule(layers=("3",), targets=(Columns(keep=0.25),)),))
    )


def test_the_best_epoch_has_its_own_trained_mask(tmp_path: Any) -> None:
    """Scores are part of the model: the weights that remain come with the scores of their epoch."""
    training = Training(epochs=6, batch=10, learning_rate=0.8, device="cpu", seed=1, select="best")
    seen: list[Tensor] = []
    gates = TrainedColumns(pull=0.5).callback(COLUMNS)

    class Look(Callback):
        def end_epoch(self, epoch: int) -> None:
            assert isinstance(gates, TrainedColumnsCallback)
            seen.append(gates.gates["1"].score.detach().clone())

    history = train(network(), data(), training, callbacks=[gates, Look()], checkpoint=tmp_path / "a.safetensors")
    assert history.selected < 5  # else the seed shows nothing
    chosen, last = (sorted(scores.topk(5).indices.tolist()) for scores in (seen[history.selected], seen[-1]))
    assert gates.masks()["1"].any(dim=0).nonzero().flatten().tolist() == chosen
    assert chosen != last
