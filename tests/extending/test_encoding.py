"""A newcomer's encoding: one class in one file, which every plan, the cost and the files take as they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pytest

import xbarsim as xb
from tests.strategies import TiledLayer
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError, check_integer
from xbarsim.mapping import Mapping, PairEncoding, map_matrix
from xbarsim.testing import check_encoding, check_mapping

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Parked(PairEncoding):
    """Pairs whose lower cell is parked at `level`, where that leaves room for the higher one."""

    name: ClassVar[str] = "Parked"

    level: int = 1

    def __post_init__(self) -> None:
        check_integer("level", self.level, at_least=0, at_most=255)

    def pair(self, slices: Integers, largest: int) -> tuple[Integers, Integers]:
        """The lower cell at `level`, or as high as the other one allows."""
        lower = np.minimum(self.level, largest - np.abs(slices))
        return lower + np.maximum(slices, 0), lower + np.maximum(-slices, 0)


@pytest.mark.parametrize("level", [0, 1, 200])
def test_it_keeps_the_promises_of_an_encoding(level: int) -> None:
    check_encoding(Parked(level=level))
    check_mapping(Mapping(encoding=Parked(level=level), rows=4, columns=8, weight_bits=5, cell_bits=2))


@pytest.mark.parametrize(
    ("periphery", "plan"),
    [
        (xb.Periphery(), "exact"),
        (xb.Periphery(adc_bits=4, adc_range=50.0, dac_bits=8), "tiled"),
        (xb.Periphery(adc_bits=4, adc_range=50.0), "bitplane"),
        (xb.Periphery(adc_bits=4, adc_range=50.0, subtraction="digital"), "bitplane"),
    ],
)
def test_every_plan_reads_it(periphery: xb.Periphery, plan: str) -> None:
    mapping = Mapping(encoding=Parked(level=1), rows=16, columns=16, weight_bits=5, cell_bits=2)
    design = xb.Design(cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16), mapping=mapping, periphery=periphery)
    rng = np.random.default_rng(3)
    layer = TiledLayer.of(map_matrix(rng.integers(-15, 16, (30, 5)), mapping), design, signed=False, rows=16)
    cells = layer.mapped.levels.astype(np.float32)
    codes = rng.integers(0, 256, (6, 30))
    made = layer.plan(cells)
    assert made.name == plan
    np.testing.assert_array_equal(made.multiply(codes[None])[0], layer.product(codes, cells))


def test_it_stands_in_files_and_is_refused_by_name() -> None:
    design = xb.Design(cell=Cell(g_min=1e-6, g_max=1e-5, levels=16), mapping=Mapping(encoding=Parked(level=3)))
    assert xb.Design.from_toml(design.to_toml()) == design
    with pytest.raises(InputError, match=r"^level must be an integer >= 0 and <= 255, got -1$"):
        Parked(level=-1)
