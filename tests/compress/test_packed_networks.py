"""Block-column-row pruned networks on crossbars: packing changes no bit, frees arrays, and its indices are counted."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.compress import BlockColumnRow, Hardening, LayerRule, Recipe, compression
from xbarsim.devices import Cell
from xbarsim.mapping import PACKINGS
from xbarsim.network.storage import csr_bits


class Recurrent(nn.Module):
    def __init__(self, kind: type[nn.GRU | nn.LSTM]) -> None:
        super().__init__()
        self.recurrent = kind(12, 16, batch_first=True)

    def forward(self, frames: Tensor) -> Tensor:
        outputs: Tensor = self.recurrent(frames)[0]
        return outputs


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "convolution": (lambda: nn.Sequential(nn.Conv2d(4, 12, 3, padding=1), nn.ReLU()), (4, 6, 6)),
    "linear": (lambda: nn.Sequential(nn.Linear(30, 20), nn.ReLU()), (30,)),
    "gru": (lambda: Recurrent(nn.GRU), (5, 12)),
    "lstm": (lambda: Recurrent(nn.LSTM), (5, 12)),
}


def pruned(name: str, keep_filters: float, keep_columns: float) -> tuple[nn.Module, Recipe, dict[str, Tensor], Tensor]:
    make, shape = NETWORKS[name]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(5)
        model, inputs = make().eval(), torch.rand(3, *shape)
    target = BlockColumnRow(block_filters=4, block_columns=8, keep_filters=keep_filters, keep_columns=keep_columns)
    recipe = Recipe(rules=(LayerRule(layers=("*",), targets=(target,)),))
    masks = recipe.masks(model)
    Hardening.hold(model, masks)
    return model, recipe, masks, inputs


@pytest.mark.parametrize("keep", [(0.25, 1.0), (1.0, 0.25), (0.5, 0.5)])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_packed_network_is_the_unpacked_one_bit_for_bit(name: str, keep: tuple[float, float]) -> None:
    """Cells on their levels, read without loss: also a recurrent layer, step after step."""
    model, _, _, inputs = pruned(name, *keep)
    cell = Cell(name="linear", g_min=1e-6, g_max=1e-4, levels=16)
    outputs, arrays = {}, {}
    for pack in PACKINGS:
        mapping = xb.Mapping(rows=8, columns=16, weight_bits=5, cell_bits=2, pack=pack)
        network = xb.map_model(model, xb.Design(cell=cell, mapping=mapping), calibration=inputs)
        chip = network.fabricate(seed=1)
        with torch.no_grad():
            outputs[pack], arrays[pack] = chip(inputs), network.tiles
        for layer, mapped in network.layers.items():  # nothing of it is computed otherwise
            assert np.array_equal(mapped.matrix.codes(), mapped.layer.codes), layer
    assert outputs["none"].abs().max() > 0
    for pack, result in outputs.items():
        assert torch.equal(result, outputs["none"]), pack
    assert arrays["joined"] <= arrays["block"] <= arrays["matrix"] <= arrays["none"]
    if keep != (0.5, 0.5):
        assert arrays["joined"] <= 0.5 * arrays["none"]


def test_indices_are_counted_beside_those_of_a_compressed_sparse_row() -> None:
    model, recipe, masks, inputs = pruned("gru", 0.5, 0.5)
    cell = Cell(name="linear", g_min=1e-6, g_max=1e-4, levels=16)
    mapping = xb.Mapping(rows=8, columns=16, weight_bits=5, cell_bits=2, pack="joined")
    network = xb.map_model(model, xb.Design(cell=cell, mapping=mapping), calibration=inputs)
    table = network.storage()
    counted = {row.name: row for row in compression(model, masks, recipe).layers}
    for layer, weight in (("recurrent.l0.ih", "recurrent.weight_ih_l0"), ("recurrent.l0.hh", "recurrent.weight_hh_l0")):
        found, mask = table[layer], masks[weight]
        assert found.weights == mask.numel()
        assert found.kept == int(np.count_nonzero(network.layers[layer].layer.codes)) <= int(mask.sum())
        assert found.csr_bits == csr_bits(mask.shape[0], mask.shape[1], found.kept)
        assert counted[weight].csr_bits == csr_bits(mask.shape[0], mask.shape[1], int(mask.sum()))
        assert found.index_bits == next(w.use.index_bits for w in network.cost().layers if w.use.name == layer)
        assert found.bits_a_weight == found.index_bits / found.kept
        assert found.arrays == network.layers[layer].matrix.tiles
    assert table.total.arrays == network.tiles
    assert table.total.index_bits == sum(each.index_bits for each in table.layers)
    assert "recurrent.l0.hh" in str(table)
    assert "CSR, a weight" in str(table)
    plain = xb.map_model(
        model, xb.Design(cell=cell, mapping=xb.Mapping(rows=8, columns=16, weight_bits=5, cell_bits=2, pack="none")),
        calibration=inputs,
    )  # fmt: skip
    assert plain.storage().total.index_bits == 0
    assert plain.storage().total.bits_a_weight == 0
