"""A newcomer's mitigation: one file. Random levels are tried for the weights that are wrong; what helps is kept."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from xbarsim.devices import Cell, StuckFaults
from xbarsim.foundation.validation import check_integer
from xbarsim.mapping import Differential, Mapping, map_matrix
from xbarsim.mitigation import ClosestValue, KnownLayer, KnownTile, Mitigation, Needs, TileFit
from xbarsim.testing.mitigation import check_mitigation


@dataclass(frozen=True, kw_only=True)
class RandomSearch(Mitigation):
    """Try random levels in the cells of each wrong weight, and keep those that bring it nearer to its target."""

    needs: ClassVar[Needs] = "map"

    tries: int = 20

    def __post_init__(self) -> None:
        check_integer("tries", self.tries, at_least=1)

    def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
        levels, wrong = tile.levels.copy(), np.abs(tile.deviation(tile.fit))
        places = np.argwhere(wrong > 0).tolist()
        for _ in range(self.tries):
            tried = levels.copy()
            for row, output in places:
                cells = tried[row, tile.columns_of(output)]
                cells[:] = rng.integers(0, tile.mapping.max_level, len(cells), endpoint=True)
            deviation = np.abs(tile.deviation(tile.fit.with_levels(tried)))
            for row, output in places:
                if deviation[row, output] < wrong[row, output]:
                    wrong[row, output] = deviation[row, output]
                    levels[row, tile.columns_of(output)] = tried[row, tile.columns_of(output)]
        return tile.fit.with_levels(levels)


def test_it_keeps_its_promises() -> None:
    check_mitigation(RandomSearch(tries=5))


def test_it_helps_and_an_exact_method_helps_more() -> None:
    rng = np.random.default_rng(0)
    codes = rng.normal(0, 20, (64, 16)).round().clip(-127, 127).astype(int)
    matrix = map_matrix(codes, Mapping(encoding=Differential(), rows=64, columns=64))
    cell = Cell(g_min=1e-6, g_max=1.6e-5, levels=16)
    faults = StuckFaults(on=0.0, off=0.05).sample(matrix.levels.shape, rng)
    tile = KnownLayer.of(matrix, cell=cell, faults=faults).tile(0)
    nothing, searched, exact = (
        tile.error(fit) for fit in (tile.fit, RandomSearch().fit(tile, rng), ClosestValue().fit(tile, rng))
    )
    assert exact < searched < 0.5 * nothing


def test_a_method_that_breaks_its_promises_is_named() -> None:
    class Careless(RandomSearch):
        def fit(self, tile: KnownTile, rng: np.random.Generator) -> TileFit:
            return tile.fit.with_levels(np.zeros_like(tile.levels))

    with pytest.raises(AssertionError, match=r"must stay as it is, bit for bit|must never grow"):
        check_mitigation(Careless())
