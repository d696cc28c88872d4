"""What a compressed network should look like, whatever the method: structures, shares and levels, layer by layer."""

from __future__ import annotations

import fnmatch
import os
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import KINDS, gemm_view, mappable_layers
from xbarsim.compress.levels import Levels
from xbarsim.compress.targets.base import Law, Target
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance

__all__ = ["LayerRule", "Recipe", "layer_mask"]


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """What becomes of some layers. Without targets and levels they are left as they are.

    Parameters
    ----------
    layers
        Names of the layers, or patterns of them as the shell has them (``*``, ``?``, ``[...]``). Recurrent modules have
        several matrices, each with a name of its own: ``"recurrent.weight_hh_l0"`` (:func:`mappable_layers`).
    targets
        Structures to prune, in this order: each acts on what the ones before it left. Shares always refer to the whole
        matrix, so that ``Filters(keep=0.5)`` and then ``Columns(keep=0.5)`` leave a quarter of the weights: half of all
        columns, chosen by what they hold in the filters that stay. Each is the nearest of its structure; together they
        need not be.
    levels
        Levels of the weights that stay; ``None`` for any value.

    Raises
    ------
    InputError
        If a value is of the wrong type, or there are no layers.
    """

    layers: tuple[str, ...]
    targets: tuple[Target, ...] = ()
    levels: Levels | None = None

    def __post_init__(self) -> None:
        for name, kind in (("layers", str), ("targets", Target)):
            value = getattr(self, name)
            check_instance(name, value, tuple)
            for number, item in enumerate(value):
                check_instance(f"{name}[{number}]", item, kind)
        if not self.layers:
            raise InputError("layers must name at least one layer, got ()")
        check_instance("levels", self.levels, (Levels, type(None)))

    @entrance
    def mask(
        self, matrix: Tensor, *, among: Tensor | None = None, progress: float = 1.0, law: Law = "geometric"
    ) -> Tensor:
        """Which weights of a matrix stay.

        Parameters
        ----------
        matrix
            Weights, (filters, positions).
        among
            Which weights may stay, bool of the same shape; ``None`` for all.
        progress, law
            Part of the way to the targets, from 0 to 1, and how it is gone; see :meth:`Target.part_way`.

        Returns
        -------
        torch.Tensor
            Bool of the same shape.

        Raises
        ------
        InputError
            If the matrix is not finite, or `progress` is out of bounds.
        """
        mask = among
        for target in self.targets:
            mask = target.part_way(progress, law=law).mask(matrix, among=mask)
        return torch.ones_like(matrix, dtype=torch.bool) if mask is None else mask


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What a network should look like after compression; ``Recipe.load(path)`` reads it from TOML.

    Parameters
    ----------
    rules
        What becomes of which layers. The first rule that names a layer counts.

    Raises
    ------
    InputError
        If there is no rule.

    Examples
    --------
    >>> from torch import nn
    >>> from xbarsim.compress import Columns, Filters, LayerRule, Levels, Recipe
    >>> model = nn.Sequential(nn.Conv2d(1, 20, 5), nn.Conv2d(20, 50, 5), nn.Flatten(), nn.Linear(800, 10))
    >>> recipe = Recipe(
    ...     rules=(
    ...         LayerRule(layers=("1",), targets=(Filters(keep=0.5), Columns(keep=0.2)), levels=Levels(bits=5)),
    ...         LayerRule(layers=("*",), levels=Levels(bits=8)),
    ...     )
    ... )
    >>> {name: int(mask.sum()) for name, mask in recipe.masks(model).items()}  # 25 of 50 filters, 100 of 500 columns
    {'1': 2500}
    """

    rules: tuple[LayerRule, ...]

    def __post_init__(self) -> None:
        check_instance("rules", self.rules, tuple)
        for number, rule in enumerate(self.rules):
            check_instance(f"rules[{number}]", rule, LayerRule)
        if not self.rules:
            raise InputError("rules must hold at least one rule, got ()")

    @classmethod
    @entrance
    def from_toml(cls, text: str) -> Self:
        """Read a recipe from TOML text.

        Raises
        ------
        FileFormatError
            If the text is not TOML, or has unknown keys or wrong types.
        InputError
            If a value is out of its bound.
        """
        return tomlio.loads(cls, text)

    def to_toml(self) -> str:
        """The recipe as TOML text, which :meth:`from_toml` reads back exactly."""
        return tomlio.dumps(self)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe from a TOML file; errors as :meth:`from_toml`."""
        return tomlio.load(cls, path)

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as a TOML file, whole or not at all.

        Raises
        ------
        FileWriteError
            If the file cannot be written.
        """
        tomlio.save(self, path)

    @entrance
    def layers(self, model: nn.Module) -> dict[str, LayerRule]:
        """Which rule counts for which layer.

        Parameters
        ----------
        model
            The network; the layers of :func:`mappable_layers` can be named.

        Returns
        -------
        dict
            Rules by layer name, in the order of the model, without layers that no rule names.

        Raises
        ------
        InputError
            If a pattern names no layer, a rule only layers that rules before it take, or two layers share one weight.
        """
        names = list(mappable_layers(model))
        chosen: dict[str, LayerRule] = {}
        used = set()
        for name in names:
            for number, rule in enumerate(self.rules):
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in rule.layers):
                    chosen[name] = rule
                    used.add(number)
                    break
        for number, rule in enumerate(self.rules):
            for position, pattern in enumerate(rule.layers):
                if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                    raise InputError(
                        f"rules[{number}].layers[{position}] must match a {KINDS} of "
                        f"{type(model).__name__} ({', '.join(names) or 'it has none'}), got {pattern!r}"
                    )
            if number not in used:
                raise InputError(
                    f"rules[{number}].layers must match a layer that no rule before it takes, got {rule.layers!r}"
                )
        return chosen

    @entrance
    def masks(self, model: nn.Module) -> dict[str, Tensor]:
        """Which weights of a network stay if it is pruned as it is, at once.

        Returns
        -------
        dict
            By layer name, for every layer with a target: bool of the weight's shape.

        Raises
        ------
        InputError
            As :meth:`layers`, or if a weight is not finite.
        """
        layers = mappable_layers(model)
        return {
            name: layer_mask(name, rule, gemm_view(weight)).reshape(weight.shape)
            for name, rule in self.layers(model).items()
            if rule.targets
            for weight in [layers[name].free.detach()]
        }


def layer_mask(
    name: str,
    rule: LayerRule,
    matrix: Tensor,
    *,
    among: Tensor | None = None,
    progress: float = 1.0,
    law: Law = "geometric",
) -> Tensor:
    """As :meth:`LayerRule.mask`, with errors that name the layer."""
    try:
        return rule.mask(matrix, among=among, progress=progress, law=law)
    except InputError as error:
        raise InputError(f"layer {name!r}: {error}") from error
