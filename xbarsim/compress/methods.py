"""Ways to find the weights that a network can do without, while it is trained: magnitude, ADMM, reweighted penalties.

Each method makes a callback for :func:`xbarsim.compress.train` out of a recipe; after the training, its ``masks()`` are
what the retraining holds.
"""

from __future__ import annotations

import math
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xbarsim.compress.recipe import LayerRule, Recipe, free_weight, gemm_view, layer_mask
from xbarsim.compress.training import Callback
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import (
    FileFormatError,
    InputError,
    check_choice,
    check_instance,
    check_integer,
    check_real,
)

__all__ = ["Admm", "AdmmCallback", "Magnitude", "Method", "MethodCallback", "Residual", "Reweighted"]


class Method(metaclass=ABCMeta):
    """A way to find the weights that stay. Subclasses are frozen dataclasses of its settings."""

    @abstractmethod
    def callback(self, recipe: Recipe) -> MethodCallback:
        """What takes part in one training.

        Parameters
        ----------
        recipe
            What the network should look like.

        Raises
        ------
        InputError
            If the recipe has nothing that this method could do.
        """


class MethodCallback(Callback, metaclass=ABCMeta):
    """A method at work in one training.

    All that it must remember is in ``_memory``: tensors by name, which go into checkpoints as they are.
    """

    def __init__(self, method: Method, recipe: Recipe, *, levels: bool = False) -> None:
        check_instance("recipe", recipe, Recipe)
        if not any(rule.targets or (levels and rule.levels is not None) for rule in recipe.rules):
            raise InputError(f"recipe must have a rule with targets{' or levels' if levels else ''}, got {recipe!r}")
        self.method = method
        self.recipe = recipe
        self._weights: dict[str, nn.Parameter] | None = None
        self._rules: dict[str, LayerRule] = {}
        self._memory: dict[str, Tensor] = {}

    def settings(self) -> str:
        """Method and recipe as TOML."""
        return f"{type(self.method).__name__}\n{tomlio.dumps(self.method)}\n{self.recipe.to_toml()}"

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers.

        Raises
        ------
        InputError
            If the recipe does not suit the model.
        """
        self._rules = self.recipe.layers(model)
        self._weights = {name: free_weight(model.get_submodule(name)) for name in self._rules}
        self._memory = {}

    def _matrix(self, layer: str) -> Tensor:
        """The weight of a layer as it is now, without gradients: to read only, for it may be a copy."""
        if self._weights is None:
            raise RuntimeError("the training has not begun: no model is known")
        return gemm_view(self._weights[layer].detach())

    def _pruned(self) -> dict[str, LayerRule]:
        return {name: rule for name, rule in self._rules.items() if rule.targets}

    def _hold(self, layers: Mapping[str, Tensor]) -> None:
        """Put the weights outside of these masks, (filters, positions), to zero."""
        assert self._weights is not None
        for name, mask in layers.items():
            weight = self._weights[name].detach()
            weight.masked_fill_(~mask.reshape(weight.shape), 0.0)

    def _shape(self, layer: str, mask: Tensor) -> Tensor:
        assert self._weights is not None
        return mask.reshape(self._weights[layer].shape).clone()

    def masks(self) -> dict[str, Tensor]:
        """Which weights stay, chosen by what they are now.

        Returns
        -------
        dict
            By layer name, for every layer with a target: bool of the weight's shape.

        Raises
        ------
        InputError
            If a weight is not finite.
        RuntimeError
            Before the training has started.
        """
        if self._weights is None:
            raise RuntimeError("the training has not begun: no model is known")
        return {
            name: self._shape(name, layer_mask(name, rule, self._matrix(name))) for name, rule in self._pruned().items()
        }

    def state(self) -> dict[str, Tensor]:
        """What it remembers."""
        return dict(self._memory)  # a tensor in there is replaced, never changed

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what it remembered.

        Raises
        ------
        FileFormatError
            If a tensor does not fit a layer.
        """
        if self._weights is None:
            raise RuntimeError("the training has not begun: no model is known")
        memory = {}
        for key, tensor in state.items():
            what, _, layer = key.partition("/")
            device = torch.device("cpu")
            if layer:
                if layer not in self._weights:
                    raise FileFormatError(f"the state of {type(self.method).__name__} is of another model: {key!r}")
                weight = self._matrix(layer)
                device = weight.device
                if tensor.shape != (wanted := self._remembered(what, layer)):
                    raise FileFormatError(f"{key!r} must have shape {tuple(wanted)}, got {tuple(tensor.shape)}")
            memory[key] = tensor.detach().to(device, copy=True)
        self._memory = memory

    def _remembered(self, what: str, layer: str) -> torch.Size:
        """The shape of what is remembered of a layer."""
        return self._matrix(layer).shape


# -------------------------------------------------------------------------------------------- magnitude


@dataclass(frozen=True, kw_only=True)
class Magnitude(Method):
    """Keep the largest: at once, or little by little with training in between.

    After S. Han, J. Pool, J. Tran, W. Dally, Learning both Weights and Connections for Efficient Neural Networks, 2015,
    doi:10.48550/arXiv.1506.02626.

    Parameters
    ----------
    steps
        How often the network is pruned: before the epochs 0, n / steps, 2 n / steps, ... of n (rounded down). After
        step s each share k of the targets is k**(s / steps), so that every step leaves the same share of what the one
        before it left; what is pruned stays so. With 1 the network is pruned at once, and the training recovers.

    Raises
    ------
    InputError
        If `steps` is below 1.
    """

    steps: int = 1

    def __post_init__(self) -> None:
        check_integer("steps", self.steps, at_least=1)

    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune by magnitude, as `recipe` says; its levels play no part."""
        return _MagnitudeCallback(self, recipe)


class _MagnitudeCallback(MethodCallback):
    method: Magnitude

    def start(self, model: nn.Module, epochs: int) -> None:
        if 0 < epochs < self.method.steps:
            raise InputError(f"steps of Magnitude must be an integer <= {epochs} (epochs), got {self.method.steps}")
        super().start(model, epochs)
        self._epochs = epochs

    def begin_epoch(self, epoch: int) -> None:
        steps = self.method.steps
        due = [step for step in range(1, steps + 1) if (step - 1) * self._epochs // steps == epoch]
        for step in due:
            for name, rule in self._pruned().items():
                matrix = self._matrix(name)
                before = self._memory.get(f"mask/{name}")
                self._memory[f"mask/{name}"] = layer_mask(name, rule, matrix, among=before, progress=step / steps)
        self.after_step()

    def after_step(self) -> None:
        self._hold(self._masks())

    def _masks(self) -> dict[str, Tensor]:
        return {name: self._memory[f"mask/{name}"] for name in self._pruned() if f"mask/{name}" in self._memory}

    def masks(self) -> dict[str, Tensor]:
        found = self._masks()
        if not found:  # nothing was trained
            return super().masks()
        return {name: self._shape(name, mask) for name, mask in found.items()}


# ------------------------------------------------------------------------------------------------- ADMM


@dataclass(frozen=True, kw_only=True)
class Residual:
    """How far the weights of a layer are from a constraint, at one update of ADMM.

    Attributes
    ----------
    epoch
        The epoch that had just ended, counted from 0.
    layer
        Name of the layer.
    constraint
        ``"targets"`` (pruning) or ``"levels"``.
    value
        ||W - Z|| / ||W|| in the Frobenius norm, Z being the nearest matrix to W + U that meets the constraint.
    """

    epoch: int
    layer: str
    constraint: Literal["targets", "levels"]
    value: float


@dataclass(frozen=True, kw_only=True)
class Admm(Method):
    """Draw the weights to a pruned and to a quantised copy of themselves until they agree.

    With the targets P and the levels Q of a layer, training minimises the loss plus

        rho / 2 ||W - Z + U||^2 + rho / 2 ||W - Y + V||^2,

    and after every few epochs Z becomes the nearest matrix to W + U in P, Y the nearest to W + V in Q, and the duals
    gather what is left: U += W - Z, V += W - Y. At the end W is projected onto P. (G. Yuan et al., ISLPED 2019,
    doi:10.1109/ISLPED.2019.8824944; there Y and Z have changed places. The method: S. Boyd, N. Parikh, E. Chu,
    B. Peleato, J. Eckstein, 2011, doi:10.1561/2200000016.) The paper gives neither rho nor epochs; the defaults here
    were chosen.

    Parameters
    ----------
    rho
        Weight of the penalties, > 0.
    growth
        Factor of rho after each update, >= 1; the duals, scaled by rho, are divided by it. The problem is not convex:
        with a rho that does not grow, weights and copies may never come together. See the residuals.
    rho_max
        Where rho stops growing, >= `rho`; ``None`` for never.
    every
        Epochs between updates.
    constraints
        ``"together"``: both from the beginning. The levels are those of the weights that Z keeps; the others are drawn
        to zero twice. ``"in turn"``: pruning in the first half of the epochs (rounded up), then the weights are pruned
        for good and the rest is drawn to the levels, with rho from its beginning. Where the recipe has only targets or
        only levels, both are the same.

    Raises
    ------
    InputError
        If a value is out of its bound.
    """

    rho: float = 1e-3
    growth: float = 1.0
    rho_max: float | None = None
    every: int = 1
    constraints: Literal["together", "in turn"] = "together"

    def __post_init__(self) -> None:
        object.__setattr__(self, "rho", check_real("rho", self.rho, above=0.0))
        object.__setattr__(self, "growth", check_real("growth", self.growth, at_least=1.0))
        if self.rho_max is not None:
            object.__setattr__(self, "rho_max", check_real("rho_max", self.rho_max, at_least=self.rho))
        check_integer("every", self.every, at_least=1)
        check_choice("constraints", self.constraints, ("together", "in turn"))

    def callback(self, recipe: Recipe) -> AdmmCallback:
        """Prune, quantise or both, as `recipe` says."""
        return AdmmCallback(self, recipe)


_CONSTRAINTS: tuple[Literal["targets", "levels"], ...] = ("targets", "levels")


class AdmmCallback(MethodCallback):
    """ADMM at work in one training."""

    method: Admm

    def __init__(self, method: Admm, recipe: Recipe) -> None:
        super().__init__(method, recipe, levels=True)
        self._anchors: list[tuple[nn.Parameter, Tensor]] = []  # weights, and what they are drawn to

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers, and when the levels begin.

        Raises
        ------
        InputError
            If the recipe does not suit the model, or there are too few epochs for one update of each constraint.
        """
        super().start(model, epochs)
        self._levelled = {name: rule.levels for name, rule in self._rules.items() if rule.levels is not None}
        turns = self.method.constraints == "in turn" and bool(self._pruned()) and bool(self._levelled)
        self._turn = math.ceil(epochs / 2) if turns else None
        shortest = epochs // 2 if turns else epochs
        if shortest < self.method.every:
            raise InputError(
                f"every of Admm must be an integer <= {shortest} (epochs{' of the second half' if turns else ''}), "
                f"got {self.method.every}"
            )
        self._memory = {
            "updates": torch.zeros((), dtype=torch.int64),
            "residuals": torch.zeros(0, 4, dtype=torch.float64),
        }

    @property
    def rho(self) -> float:
        """The weight of the penalties now."""
        return self._rho(int(self._memory["updates"]))

    def _rho(self, updates: int) -> float:
        most = math.inf if self.method.rho_max is None else self.method.rho_max
        try:
            return min(self.method.rho * self.method.growth**updates, most)
        except OverflowError:
            return most

    @property
    def residuals(self) -> tuple[Residual, ...]:
        """How far the weights were from the constraints, update by update: what to plot for convergence."""
        names = list(self._rules)
        return tuple(
            Residual(epoch=int(epoch), layer=names[int(layer)], constraint=_CONSTRAINTS[int(kind)], value=value)
            for epoch, layer, kind, value in self._memory["residuals"].tolist()
        )

    def _fixed(self) -> dict[str, Tensor]:
        """Masks held for good."""
        return {name: self._memory[f"mask/{name}"] for name in self._pruned() if f"mask/{name}" in self._memory}

    def _active(self) -> list[tuple[str, Literal["targets", "levels"]]]:
        """Constraints at work, by layer; the targets of a layer stand before its levels."""
        found: list[tuple[str, Literal["targets", "levels"]]] = []
        first = self._turn is None or not self._fixed()
        for name, rule in self._rules.items():
            if rule.targets and first:
                found.append((name, "targets"))
            if rule.levels is not None and (self._turn is None or not first):
                found.append((name, "levels"))
        return found

    def _project(self, name: str, constraint: Literal["targets", "levels"], matrix: Tensor) -> Tensor:
        rule = self._rules[name]
        if constraint == "targets":
            kept = self._memory[f"kept/{name}"] = layer_mask(name, rule, matrix)
            return torch.where(kept, matrix, 0.0)
        assert rule.levels is not None
        mask = self._memory.get(f"mask/{name}", self._memory.get(f"kept/{name}"))
        try:
            return rule.levels.project(matrix, mask)
        except InputError as error:
            raise InputError(f"layer {name!r}: {error}") from error

    def _begin(self) -> None:
        """Copies that meet the constraints as they come into force; nothing is gathered yet."""
        self._anchors = []
        self._memory["updates"] = torch.zeros((), dtype=torch.int64)
        for name, constraint in self._active():
            matrix = self._matrix(name)
            self._memory[f"{constraint}.copy/{name}"] = self._project(name, constraint, matrix)
            self._memory[f"{constraint}.dual/{name}"] = torch.zeros_like(matrix)

    def begin_epoch(self, epoch: int) -> None:
        """Begin with a constraint where its time has come."""
        if epoch == 0:
            self._begin()
        elif epoch == self._turn:
            masks = {name: layer_mask(name, rule, self._matrix(name)) for name, rule in self._pruned().items()}
            self._memory = {
                "residuals": self._memory["residuals"],
                **{f"mask/{name}": mask for name, mask in masks.items()},
            }
            self._hold(masks)
            self._begin()

    def penalty(self) -> Tensor | None:
        """The penalties of all layers, float32."""
        assert self._weights is not None
        if not self._anchors:
            for name, kind in self._active():
                anchor = self._memory[f"{kind}.copy/{name}"] - self._memory[f"{kind}.dual/{name}"]
                self._anchors.append((self._weights[name], anchor.reshape(self._weights[name].shape)))
        terms = [(weight - anchor).square().sum() for weight, anchor in self._anchors]
        return self.rho / 2 * torch.stack(terms).sum()

    def after_step(self) -> None:
        """Hold what is pruned for good."""
        self._hold(self._fixed())

    def end_epoch(self, epoch: int) -> None:
        """Update the copies and the duals where it is time."""
        begun = self._turn if self._turn is not None and epoch >= self._turn else 0
        if (epoch - begun + 1) % self.method.every:
            return
        updates = int(self._memory["updates"])
        shrink = self._rho(updates) / self._rho(updates + 1)
        rows = []
        for name, constraint in self._active():
            matrix, dual = self._matrix(name), self._memory[f"{constraint}.dual/{name}"]
            copy = self._project(name, constraint, matrix + dual)
            self._memory[f"{constraint}.copy/{name}"] = copy
            left = matrix - copy
            self._memory[f"{constraint}.dual/{name}"] = (dual + left) * shrink
            distance, norm = (float(torch.linalg.vector_norm(item, dtype=torch.float64)) for item in (left, matrix))
            share = distance / norm if norm else math.inf if distance else 0.0
            rows.append([epoch, list(self._rules).index(name), _CONSTRAINTS.index(constraint), share])
        self._memory["residuals"] = torch.cat([self._memory["residuals"], torch.tensor(rows, dtype=torch.float64)])
        self._memory["updates"] = torch.tensor(updates + 1)
        self._anchors = []

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what it remembered; errors as in the base class."""
        super().load_state(state)
        self._anchors = []

    def masks(self) -> dict[str, Tensor]:
        """The masks held for good, or else the nearest to the weights as they are now; see the base class."""
        fixed = self._fixed()
        return {name: self._shape(name, mask) for name, mask in fixed.items()} if fixed else super().masks()


# ------------------------------------------------------------------------------------------- reweighted


@dataclass(frozen=True, kw_only=True)
class Reweighted(Method):
    """A penalty on the groups of weights, the heavier the smaller the group is.

    Training minimises the loss plus strength x the sum of a_g ||W_g|| over the groups g of every target (columns,
    filters, single weights, ...), where a_g = 1 / (||W_g|| + epsilon) with the weights of the last refresh; small
    groups shrink further, large ones are let off. At the end the targets' shares stay. (T. Zhang et al., 2020,
    doi:10.48550/arXiv.2004.05531; the principle: E. Candès, M. Wakin, S. Boyd, 2008, doi:10.1007/s00041-008-9045-x.)

    Parameters
    ----------
    strength
        Weight of the penalty, > 0. It is at most `strength` times the number of groups right after a refresh.
    epsilon
        Keeps the weights of vanishing groups finite, > 0; in units of a norm, or of its square.
    every
        Epochs between refreshes; the first is at the beginning.
    form
        ``"norm"``, or ``"squared"``: a_g ||W_g||^2 with a_g = 1 / (||W_g||^2 + epsilon).

    Raises
    ------
    InputError
        If a value is out of its bound.
    """

    strength: float = 1e-4
    epsilon: float = 1e-3
    every: int = 10
    form: Literal["norm", "squared"] = "norm"

    def __post_init__(self) -> None:
        object.__setattr__(self, "strength", check_real("strength", self.strength, above=0.0))
        object.__setattr__(self, "epsilon", check_real("epsilon", self.epsilon, above=0.0))
        check_integer("every", self.every, at_least=1)
        check_choice("form", self.form, ("norm", "squared"))

    def callback(self, recipe: Recipe) -> MethodCallback:
        """Prune as `recipe` says; its levels play no part."""
        return _ReweightedCallback(self, recipe)


class _ReweightedCallback(MethodCallback):
    method: Reweighted

    def _sizes(self, layer: str, matrix: Tensor) -> dict[str, Tensor]:
        """Norms of all groups of a layer, or their squares, by the name they are remembered under."""
        return {
            f"factor {number}.{kind}/{layer}": norms.square() if self.method.form == "squared" else norms
            for number, target in enumerate(self._rules[layer].targets)
            for kind, norms in enumerate(target.norms(matrix))
        }

    def _remembered(self, what: str, layer: str) -> torch.Size:
        sizes = self._sizes(layer, self._matrix(layer))
        if f"{what}/{layer}" not in sizes:
            raise FileFormatError(f"the state of Reweighted is of another recipe: {f'{what}/{layer}'!r}")
        return sizes[f"{what}/{layer}"].shape

    def begin_epoch(self, epoch: int) -> None:
        if epoch % self.method.every:
            return
        for layer in self._pruned():
            for key, sizes in self._sizes(layer, self._matrix(layer)).items():
                self._memory[key] = 1.0 / (sizes + self.method.epsilon)

    def penalty(self) -> Tensor | None:
        assert self._weights is not None
        terms = [
            (self._memory[key] * sizes).sum()
            for layer in self._pruned()
            for key, sizes in self._sizes(layer, gemm_view(self._weights[layer])).items()
        ]
        return self.method.strength * torch.stack(terms).sum() if terms else None
