"""How to add a pruning target: one file like this one. No other file knows of it."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xbarsim.compress import LayerRule, Magnitude, Recipe, Target, compress, kept_count
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.testing import check_target
from xbarsim.training import Training, TrainingSet


@dataclass(frozen=True, kw_only=True)
class ThinColumns(Target):
    """The same share of the cells of every crossbar column: fewer are summed, and a converter needs fewer bits.

    Parameters
    ----------
    rows
        Rows of a crossbar, >= 1: so many successive positions of a filter share a column. The last may be fewer.
    keep
        Share of the weights of a column that stays.
    """

    rows: int
    keep: float

    def __post_init__(self) -> None:
        super().__post_init__()
        check_integer("rows", self.rows, at_least=1)

    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The largest weights of each column."""
        if not torch.isfinite(matrix).all() or (among is not None and among.shape != matrix.shape):
            raise InputError("matrix must be finite, and among of its shape, got something else")
        sizes = matrix.detach().abs() if among is None else torch.where(among, matrix.detach().abs(), -1.0)
        kept = torch.zeros_like(matrix, dtype=torch.bool)
        for start in range(0, matrix.shape[1], self.rows):
            column = sizes[:, start : start + self.rows]
            order = column.sort(dim=1, descending=True, stable=True).indices
            chosen = order[:, : kept_count(self.keep, column.shape[1])]
            kept[:, start : start + self.rows].scatter_(1, chosen, True)
        return kept if among is None else kept & among

    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """That share of each column of each filter."""
        starts = range(0, shape[1], self.rows)
        count = shape[0] * sum(kept_count(self.keep, min(self.rows, shape[1] - start)) for start in starts)
        return count, count

    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Magnitudes: weights stay or go one by one."""
        return (matrix.abs(),)


TARGET = ThinColumns(rows=4, keep=0.5)


def test_it_conforms() -> None:
    check_target(TARGET)
    check_target(ThinColumns(rows=5, keep=0.01))


def test_a_recipe_in_toml_may_hold_it() -> None:
    text = '[[rules]]\nlayers = ["*"]\n[[rules.targets]]\ntype = "ThinColumns"\nrows = 4\nkeep = 0.5\n'
    assert Recipe.from_toml(text) == Recipe(rules=(LayerRule(layers=("*",), targets=(TARGET,)),))


def test_a_network_is_pruned_by_it() -> None:
    """Two of every four inputs of each output stay."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (40, 1, 3, 4), generator=generator, dtype=torch.uint8)
    labels = torch.arange(40) % 2
    data = TrainingSet.split(
        "noise", images.numpy(), labels.numpy(), validation=8, mean=(0.5,), standard_deviation=(0.3,)
    )
    recipe = Recipe(rules=(LayerRule(layers=("1",), targets=(TARGET,)),))
    quick = Training(epochs=2, batch=8, learning_rate=0.05, device="cpu")
    small = compress(
        nn.Sequential(nn.Flatten(), nn.Linear(12, 2)), recipe, data, pruning=quick, retraining=quick,
        method=Magnitude(steps=2),
    )  # fmt: skip
    weight = small.model.get_submodule("1").weight
    assert isinstance(weight, Tensor)
    assert ((weight.detach().reshape(2, 3, 4) != 0).sum(dim=2) == 2).all()
