"""ADMM: draw the weights to a pruned and to a quantised copy of themselves until they agree."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.recipe import Recipe, layer_mask
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice, check_integer, check_real

__all__ = ["Admm", "AdmmCallback", "Residual"]


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

    def __post_init__(self) -> None:
        check_fields(self)


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

    @entrance
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
        self._levelled = {name: rule.levels for name, rule in self.rules.items() if rule.levels is not None}
        turns = self.method.constraints == "in turn" and bool(self.pruned_layers()) and bool(self._levelled)
        self._turn = math.ceil(epochs / 2) if turns else None
        shortest = epochs // 2 if turns else epochs
        if shortest < self.method.every:
            raise InputError(
                f"every of Admm must be an integer <= {shortest} (epochs{' of the second half' if turns else ''}), "
                f"got {self.method.every}"
            )
        self.memory = {
            "updates": torch.zeros((), dtype=torch.int64),
            "residuals": torch.zeros(0, 4, dtype=torch.float64),
        }

    @property
    def rho(self) -> float:
        """The weight of the penalties now."""
        return self._rho(int(self.memory["updates"]))

    def _rho(self, updates: int) -> float:
        most = math.inf if self.method.rho_max is None else self.method.rho_max
        try:
            return min(self.method.rho * self.method.growth**updates, most)
        except OverflowError:
            return most

    @property
    def residuals(self) -> tuple[Residual, ...]:
        """How far the weights were from the constraints, update by update: what to plot for convergence."""
        names = list(self.rules)
        return tuple(
            Residual(epoch=int(epoch), layer=names[int(layer)], constraint=_CONSTRAINTS[int(kind)], value=value)
            for epoch, layer, kind, value in self.memory["residuals"].tolist()
        )

    def report(self) -> object:
        """The residuals."""
        return self.residuals

    def _active(self) -> list[tuple[str, Literal["targets", "levels"]]]:
        """Constraints at work, by layer; the targets of a layer stand before its levels."""
        active: list[tuple[str, Literal["targets", "levels"]]] = []
        first = self._turn is None or not self.held_masks()
        for name, rule in self.rules.items():
            if rule.targets and first:
                active.append((name, "targets"))
            if rule.levels is not None and (self._turn is None or not first):
                active.append((name, "levels"))
        return active

    def _project(self, name: str, constraint: Literal["targets", "levels"], matrix: Tensor) -> Tensor:
        rule = self.rules[name]
        if constraint == "targets":
            kept = self.memory[f"kept/{name}"] = layer_mask(name, rule, matrix)
            return torch.where(kept, matrix, 0.0)
        assert rule.levels is not None
        mask = self.memory.get(f"mask/{name}", self.memory.get(f"kept/{name}"))
        try:
            return rule.levels.project(matrix, mask)
        except InputError as error:
            raise InputError(f"layer {name!r}: {error}") from error

    def _begin(self) -> None:
        """Copies that meet the constraints as they come into force; nothing is gathered yet."""
        self._anchors = []
        self.memory["updates"] = torch.zeros((), dtype=torch.int64)
        for name, constraint in self._active():
            matrix = self.matrix(name)
            self.memory[f"{constraint}.copy/{name}"] = self._project(name, constraint, matrix)
            self.memory[f"{constraint}.dual/{name}"] = torch.zeros_like(matrix)

    def begin_epoch(self, epoch: int) -> None:
        """Begin with a constraint where its time has come."""
        if epoch == 0:
            self._begin()
        elif epoch == self._turn:
            masks = {name: layer_mask(name, rule, self.matrix(name)) for name, rule in self.pruned_layers().items()}
            self.memory = {"residuals": self.memory["residuals"]}
            for name, mask in masks.items():
                self.set_mask(name, mask)
            self._begin()

    def penalty(self) -> Tensor | None:
        """The penalties of all layers, float32."""
        if not self._anchors:
            for name, kind in self._active():
                weight = self.weight(name)
                anchor = self.memory[f"{kind}.copy/{name}"] - self.memory[f"{kind}.dual/{name}"]
                self._anchors.append((weight, anchor.reshape(weight.shape)))
        terms = [(weight - anchor).square().sum() for weight, anchor in self._anchors]
        return self.rho / 2 * torch.stack(terms).sum()

    def end_epoch(self, epoch: int) -> None:
        """Update the copies and the duals where it is time."""
        begun = self._turn if self._turn is not None and epoch >= self._turn else 0
        if (epoch - begun + 1) % self.method.every:
            return
        updates = int(self.memory["updates"])
        shrink = self._rho(updates) / self._rho(updates + 1)
        rows = []
        for name, constraint in self._active():
            matrix, dual = self.matrix(name), self.memory[f"{constraint}.dual/{name}"]
            copy = self._project(name, constraint, matrix + dual)
            self.memory[f"{constraint}.copy/{name}"] = copy
            left = matrix - copy
            self.memory[f"{constraint}.dual/{name}"] = (dual + left) * shrink
            distance, norm = (float(torch.linalg.vector_norm(item, dtype=torch.float64)) for item in (left, matrix))
            share = distance / norm if norm else math.inf if distance else 0.0
            rows.append([epoch, list(self.rules).index(name), _CONSTRAINTS.index(constraint), share])
        self.memory["residuals"] = torch.cat([self.memory["residuals"], torch.tensor(rows, dtype=torch.float64)])
        self.memory["updates"] = torch.tensor(updates + 1)
        self._anchors = []

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what it remembered; errors as in the base class."""
        super().load_state(state)
        self._anchors = []
