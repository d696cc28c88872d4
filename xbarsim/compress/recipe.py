"""What a compressed network should look like, whatever the method: structures, shares and levels, layer by layer."""

from __future__ import annotations

import fnmatch
import math
import os
from abc import ABCMeta, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Literal, Self

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.compress import projections
from xbarsim.foundation import tomlio
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = [
    "BlockColumnRow",
    "Columns",
    "Compression",
    "Filters",
    "LayerCompression",
    "LayerRule",
    "Levels",
    "Recipe",
    "Target",
    "Tiles",
    "Unstructured",
    "compression",
    "gemm_view",
]


def gemm_view(weight: Tensor) -> Tensor:
    """The weight of a layer, or its mask, as a matrix (filters, positions); a view where torch can make one.

    A row is a filter, that is a column of the crossbar; a column is one position across all filters, a row of the
    crossbar.

    Raises
    ------
    InputError
        If the weight has fewer than two dimensions.
    """
    if weight.ndim < 2:
        raise InputError(f"weight must have at least 2 dimensions, got shape {tuple(weight.shape)}")
    return weight.flatten(1)


# ---------------------------------------------------------------------------------------------- targets


class Target(metaclass=ABCMeta):
    """A structure of weights, and the share of it that stays. Subclasses are frozen dataclasses.

    Each field whose name begins with ``keep`` is a share in (0, 1]: exactly that share stays, rounded to whole groups
    (halves up), at least one (:func:`xbarsim.compress.kept_count`).
    """

    def __post_init__(self) -> None:
        for name, value in self._fields():
            if name.startswith("keep"):
                object.__setattr__(self, name, check_real(name, value, above=0.0, at_most=1.0))

    def _fields(self) -> list[tuple[str, Any]]:
        return [(field.name, getattr(self, field.name)) for field in fields(self)]  # type: ignore[arg-type]

    @abstractmethod
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """Which weights stay.

        Parameters
        ----------
        matrix
            Weights, (filters, positions).
        among
            Which weights may stay, bool of the same shape; ``None`` for all. Shares refer to the whole matrix all the
            same.

        Returns
        -------
        torch.Tensor
            Bool of the same shape.
        """

    @abstractmethod
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the groups that stay or go together, with gradients; one tensor for each kind of group."""

    def part_way(self, progress: float) -> Self:
        """The target on the way: each share k is k**progress, from all weights at 0 to the target itself at 1."""
        check_real("progress", progress, at_least=0.0, at_most=1.0)
        changes = {name: value**progress for name, value in self._fields() if name.startswith("keep")}
        return replace(self, **changes)  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class Unstructured(Target):
    """Single weights, wherever they are.

    Parameters
    ----------
    keep
        Share of the weights that stays.
    """

    keep: float

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The largest weights: :func:`~xbarsim.compress.projections.unstructured_mask`."""
        return projections.unstructured_mask(matrix, self.keep, among=among)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Magnitudes."""
        return (matrix.abs(),)


@dataclass(frozen=True, kw_only=True)
class Filters(Target):
    """Whole filters: rows of the matrix, columns of the crossbar.

    Parameters
    ----------
    keep
        Share of the filters that stays.
    """

    keep: float

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The filters of the largest norm: :func:`~xbarsim.compress.projections.filter_mask`."""
        return projections.filter_mask(matrix, self.keep, among=among)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the filters."""
        return (torch.linalg.vector_norm(matrix, dim=1),)


@dataclass(frozen=True, kw_only=True)
class Columns(Target):
    """Whole columns of the matrix: positions across all filters, rows of the crossbar.

    Parameters
    ----------
    keep
        Share of the columns that stays.
    """

    keep: float

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The columns of the largest norm: :func:`~xbarsim.compress.projections.column_mask`."""
        return projections.column_mask(matrix, self.keep, among=among)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the columns."""
        return (torch.linalg.vector_norm(matrix, dim=0),)


@dataclass(frozen=True, kw_only=True)
class BlockColumnRow(Target):
    """Filters and columns within blocks; each block chooses its own.

    Parameters
    ----------
    block_filters, block_columns
        Filters and columns of a block. Blocks at the edges are smaller.
    keep_filters, keep_columns
        Shares of a block's filters and of its columns that stay; the product of both of its weights does.
    """

    block_filters: int
    block_columns: int
    keep_filters: float = 1.0
    keep_columns: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("block_filters", self.block_filters, at_least=1)
        check_integer("block_columns", self.block_columns, at_least=1)

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The weights where they cross: :func:`~xbarsim.compress.projections.block_mask`."""
        return projections.block_mask(matrix, **dict(self._fields()), among=among)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the filters within each block, and of the columns within each, of those that lose any."""
        _, rows, columns = projections.block_norms(matrix, filters=self.block_filters, columns=self.block_columns)
        return (*((rows,) if self.keep_filters < 1 else ()), *((columns,) if self.keep_columns < 1 else ()))


@dataclass(frozen=True, kw_only=True)
class Tiles(Target):
    """Whole tiles.

    Parameters
    ----------
    tile_filters, tile_columns
        Filters and columns of a tile. A crossbar holds ``Mapping.outputs_per_tile`` filters and ``Mapping.rows``
        columns.
    keep
        Share of the tiles that stays; one at an edge counts as one although it holds fewer weights.
    """

    tile_filters: int
    tile_columns: int
    keep: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("tile_filters", self.tile_filters, at_least=1)
        check_integer("tile_columns", self.tile_columns, at_least=1)

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The tiles of the largest norm: :func:`~xbarsim.compress.projections.tile_mask`."""
        return projections.tile_mask(matrix, **dict(self._fields()), among=among)

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the tiles."""
        return (projections.block_norms(matrix, filters=self.tile_filters, columns=self.tile_columns)[0],)


@dataclass(frozen=True, kw_only=True)
class Levels:
    """The levels that the weights of a layer stand on.

    Parameters
    ----------
    bits
        Bits of a code, sign included, 2 to 16: the levels are scale x code, codes from -Q to Q = 2**(bits - 1) - 1.
    zero
        Whether a weight that is not pruned may be zero.
    per
        One scale for the ``"tensor"`` or one for each ``"output"``. Only those of outputs are still levels after a
        batch norm is folded into the layer.

    Raises
    ------
    InputError
        If a value is out of its bound.
    """

    bits: int
    zero: bool = True
    per: Literal["tensor", "output"] = "output"

    def __post_init__(self) -> None:
        check_integer("bits", self.bits, at_least=2, at_most=16)
        check_instance("zero", self.zero, bool)
        check_choice("per", self.per, ("tensor", "output"))

    def project(self, matrix: Tensor, mask: Tensor | None = None) -> Tensor:
        """The nearest levels: :func:`~xbarsim.compress.projections.nearest_levels`.

        Parameters
        ----------
        matrix
            Weights, (filters, positions).
        mask
            Which of them are not pruned; ``None`` for all.
        """
        return projections.nearest_levels(matrix, self.bits, zero=self.zero, per=self.per, mask=mask)


# ----------------------------------------------------------------------------------------------- recipe


@dataclass(frozen=True, kw_only=True)
class LayerRule:
    """What becomes of some layers. Without targets and levels they are left as they are.

    Parameters
    ----------
    layers
        Names of the layers, or patterns of them as the shell has them (``*``, ``?``, ``[...]``).
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

    def mask(self, matrix: Tensor, *, among: Tensor | None = None, progress: float = 1.0) -> Tensor:
        """Which weights of a matrix stay.

        Parameters
        ----------
        matrix
            Weights, (filters, positions).
        among
            Which weights may stay, bool of the same shape; ``None`` for all.
        progress
            Part of the way to the targets, from 0 to 1; see :meth:`Target.part_way`.

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
            mask = target.part_way(progress).mask(matrix, among=mask)
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
    def load(cls, path: str | os.PathLike[str]) -> Self:
        """Read a recipe from a TOML file; errors as :meth:`from_toml`."""
        return tomlio.load(cls, path)

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the recipe as a TOML file, whole or not at all.

        Raises
        ------
        FileWriteError
            If the file cannot be written.
        """
        tomlio.save(self, path)

    def layers(self, model: nn.Module) -> dict[str, LayerRule]:
        """Which rule counts for which layer.

        Parameters
        ----------
        model
            The network; its ``Linear``, ``Conv1d`` and ``Conv2d`` layers can be named.

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
        found: dict[str, LayerRule] = {}
        used = set()
        for name in names:
            for number, rule in enumerate(self.rules):
                if any(fnmatch.fnmatchcase(name, pattern) for pattern in rule.layers):
                    found[name] = rule
                    used.add(number)
                    break
        for number, rule in enumerate(self.rules):
            for position, pattern in enumerate(rule.layers):
                if not any(fnmatch.fnmatchcase(name, pattern) for name in names):
                    raise InputError(
                        f"rules[{number}].layers[{position}] must match a Linear, Conv1d or Conv2d layer of "
                        f"{type(model).__name__} ({', '.join(names) or 'it has none'}), got {pattern!r}"
                    )
            if number not in used:
                raise InputError(
                    f"rules[{number}].layers must match a layer that no rule before it takes, got {rule.layers!r}"
                )
        return found

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
        modules = mappable_layers(model)
        return {
            name: layer_mask(name, rule, gemm_view(weight)).reshape(weight.shape)
            for name, rule in self.layers(model).items()
            if rule.targets
            for weight in [free_weight(modules[name]).detach()]
        }


def layer_mask(
    name: str, rule: LayerRule, matrix: Tensor, *, among: Tensor | None = None, progress: float = 1.0
) -> Tensor:
    """As :meth:`LayerRule.mask`, with errors that name the layer."""
    try:
        return rule.mask(matrix, among=among, progress=progress)
    except InputError as error:
        raise InputError(f"layer {name!r}: {error}") from error


def mappable_layers(model: nn.Module) -> dict[str, nn.Linear | nn.Conv1d | nn.Conv2d]:
    """Layers with a matrix of weights, by name, in the order of the model.

    Raises
    ------
    InputError
        If two of them share one weight: it would stand in two places of the hardware with two fates.
    """
    check_instance("model", model, nn.Module)
    layers = {
        name: module for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d)
    }
    owners: dict[int, str] = {}
    for name, module in layers.items():
        other = owners.setdefault(id(free_weight(module)), name)
        if other != name:
            raise InputError(f"layers {other!r} and {name!r} of model must not share one weight")
    return layers


def free_weight(layer: nn.Module) -> nn.Parameter:
    """The weight that an optimiser moves, also where the layer computes with one that is made of it."""
    if parametrize.is_parametrized(layer, "weight"):
        original = layer.get_submodule("parametrizations.weight").original
    else:
        original = layer.weight
    assert isinstance(original, nn.Parameter)
    return original


# ----------------------------------------------------------------------------------------------- report


@dataclass(frozen=True, kw_only=True)
class LayerCompression:
    """What is left of a layer.

    Attributes
    ----------
    name
        The layer.
    pruned
        Whether it has a mask.
    weights, kept
        How many weights it has, and how many stay.
    filters, filters_kept
        How many filters (columns of the crossbar) it has, and how many still have a weight.
    columns, columns_kept
        The same of columns (rows of the crossbar).
    bits
        Bits of a weight, sign included; ``None`` where it stands on no levels.
    """

    name: str
    pruned: bool
    weights: int
    kept: int
    filters: int
    filters_kept: int
    columns: int
    columns_kept: int
    bits: int | None


@dataclass(frozen=True, kw_only=True)
class Compression:
    """What is left of a network's ``Linear``, ``Conv1d`` and ``Conv2d`` layers; ``print`` it for a table.

    Biases and batch norms count nowhere.

    Attributes
    ----------
    layers
        Every such layer, pruned or not.
    """

    layers: tuple[LayerCompression, ...]

    @property
    def ratio(self) -> float:
        """Weights over those that stay, of the pruned layers alone; 1 where none is pruned."""
        return self._ratio([layer for layer in self.layers if layer.pruned])

    @property
    def overall_ratio(self) -> float:
        """Weights over those that stay, of all layers."""
        return self._ratio(list(self.layers))

    @staticmethod
    def _ratio(layers: list[LayerCompression]) -> float:
        weights, kept = sum(layer.weights for layer in layers), sum(layer.kept for layer in layers)
        return 1.0 if not weights else weights / kept if kept else math.inf

    def __str__(self) -> str:
        rows = [
            (
                layer.name,
                layer.weights,
                layer.kept,
                f"{100 * layer.kept / layer.weights:.2f}",
                f"{layer.filters_kept} / {layer.filters}",
                f"{layer.columns_kept} / {layer.columns}",
                "-" if layer.bits is None else layer.bits,
            )
            for layer in self.layers
        ]
        text = format_table(("layer", "weights", "kept", "kept %", "filters", "columns", "bits"), rows)
        return f"{text}\npruned layers {self.ratio:.2f}x, all layers {self.overall_ratio:.2f}x"


def compression(model: nn.Module, masks: Mapping[str, Tensor], recipe: Recipe | None = None) -> Compression:
    """Count what masks leave of a network.

    Parameters
    ----------
    model
        The network; only the shapes of its weights matter.
    masks
        Which weights stay, by layer name: bool, of the weight's shape. Layers without a mask keep all of theirs.
    recipe
        Says which layers stand on which levels; ``None`` for none.

    Raises
    ------
    InputError
        If a mask is of no layer or does not fit it, or the recipe does not suit the model.
    """
    modules = mappable_layers(model)
    rules = {} if recipe is None else recipe.layers(model)
    for name, mask in masks.items():
        if name not in modules:
            raise InputError(f"masks must be of the layers {', '.join(modules)}, got {name!r}")
        shape = modules[name].weight.shape
        check_instance(f"masks[{name!r}]", mask, Tensor)
        if mask.dtype != torch.bool or mask.shape != shape:
            raise InputError(
                f"masks[{name!r}] must be of type torch.bool and shape {tuple(shape)}, "
                f"got {mask.dtype} and {tuple(mask.shape)}"
            )
    found = []
    for name, module in modules.items():
        mask = gemm_view(masks[name] if name in masks else torch.ones_like(module.weight, dtype=torch.bool))
        levels = rules[name].levels if name in rules else None
        found.append(
            LayerCompression(
                name=name,
                pruned=name in masks,
                weights=mask.numel(),
                kept=int(mask.sum()),
                filters=mask.shape[0],
                filters_kept=int(mask.any(dim=1).sum()),
                columns=mask.shape[1],
                columns_kept=int(mask.any(dim=0).sum()),
                bits=None if levels is None else levels.bits,
            )
        )
    return Compression(layers=tuple(found))
