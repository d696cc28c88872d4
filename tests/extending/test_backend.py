"""A newcomer's backend: torch computes the plans of the project, on any device that torch knows."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.strategies import TiledLayer
from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.engine import Layout, Scaling, Window, quantise_codes, unfold
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Mapping, map_matrix
from xbarsim.testing import check_backend


class TorchProgram:
    """A layout as one matrix product for each plane and group, in float64."""

    kernel: ClassVar[str] = "torch"

    def __init__(self, layout: Layout, device: str) -> None:
        self.layout = layout
        self.device = device
        self.values = [self.tensor(group.values) for group in layout.columns]

    def tensor(self, array: npt.NDArray[Any]) -> torch.Tensor:
        """A copy on the device."""
        return torch.tensor(np.asarray(array, dtype=np.float64), device=self.device)

    def run(
        self,
        maps: npt.NDArray[np.float32],
        window: Window,
        scaling: Scaling,
        result: npt.NDArray[Any],
        first_image: int,
    ) -> bool:
        """Unfold, multiply plane by plane, convert, add, scale."""
        codes, finite = quantise_codes(maps, scaling.inverse_scale, scaling.low, scaling.high)
        vectors = unfold(codes, window)
        product = self.multiply(vectors.reshape(-1, vectors.shape[2])).cpu().numpy()
        scaled = (product * scaling.scale + scaling.bias).reshape(len(maps), -1, self.layout.outputs)
        result[:] = scaled.transpose(0, 2, 1)
        return finite

    def multiply(self, vectors: npt.NDArray[np.int32]) -> torch.Tensor:
        """Products (vectors, outputs) of input codes (vectors, inputs)."""
        layout, drive = self.layout, self.layout.drive
        whole = layout.kind == "whole"
        added = torch.zeros((len(vectors), layout.outputs), dtype=torch.float64, device=self.device)
        taken = torch.zeros_like(added)
        for sign, driven in [(1, vectors)] if whole else drive.driven(vectors):
            for plane in range(1 if whole else drive.planes):
                counts = sign * 2.0 ** (plane * drive.dac_bits)
                for group, values in zip(layout.columns, self.values, strict=True):
                    given = group.inputs(driven)
                    x = self.tensor(given if whole else drive.carried(drive.plane(given, plane)))
                    read = self.convert(x @ values, x.sum(dim=1, keepdim=True)) * self.tensor(counts * group.counts)
                    own = torch.from_numpy(np.flatnonzero(group.outputs >= 0)).to(self.device)
                    added.index_add_(1, torch.from_numpy(group.outputs).to(self.device)[own], read[:, own])
                    for column in np.flatnonzero(group.outputs < 0):
                        added[:, group.held[int(group.tiles[column])]] += read[:, column : column + 1]
                    if layout.shift:
                        taken[:, group.served] += counts * layout.shift * x.sum(dim=1, keepdim=True)
        unit = 1.0 if whole else layout.converter.unit
        return unit * added - taken + (0.0 if layout.constant is None else self.tensor(layout.constant))

    def convert(self, sums: torch.Tensor, inputs: torch.Tensor) -> torch.Tensor:
        """The converter of every column."""
        converter = self.layout.converter
        if self.layout.kind == "whole" or converter.step is None:
            return sums
        baseline = converter.offset_levels * inputs * self.layout.single
        inverse = 1.0 / converter.step
        codes = torch.floor((sums + baseline) * inverse + 0.5).clamp(converter.low, converter.high)
        return codes - torch.floor(baseline * inverse + 0.5)


class TorchBackend:
    """Programs for torch."""

    name: ClassVar[str] = "torch"

    def __init__(self, device: str = "cpu") -> None:
        self.device = device

    def prepare(self, layout: Layout) -> TorchProgram:
        """A program, or a refusal."""
        if layout.noise is not None or layout.offsets is not None or layout.bits is not None:
            raise InputError("layout must be without noise and errors of converters for torch, got some")
        return TorchProgram(layout, self.device)


@pytest.mark.parametrize(
    "device",
    ["cpu", pytest.param("cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA"))],
)
def test_it_keeps_the_promise_of_a_backend(device: str) -> None:
    check_backend(TorchBackend(device))


def test_a_plan_says_what_runs_it() -> None:
    mapping = Mapping(rows=8, columns=8, weight_bits=4, cell_bits=4)
    design = Design(cell=Cell(g_min=1e-6, g_max=1e-5, levels=16), mapping=mapping, periphery=Periphery())
    layer = TiledLayer.of(map_matrix(np.eye(8, 3, dtype=int), mapping), design, signed=False, rows=8)
    assert layer.plan(layer.mapped.levels, backend=TorchBackend()).kernel == "torch"
