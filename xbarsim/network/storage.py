"""What packing must remember: bits of indices beside those of a compressed sparse row, layer by layer."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.html import html_table
from xbarsim.foundation.tables import format_table
from xbarsim.network.use import index_bits

__all__ = ["LayerStorage", "StorageTable", "csr_bits", "storage_of"]

_HEADER = ("layer", "weights", "not 0", "arrays", "cells used", "index bits", "a weight", "CSR, a weight")


def csr_bits(rows: int, columns: int, kept: int) -> int:
    """Bits of the indices of a compressed sparse row: the column of each weight, and where each row begins and ends.

    Parameters
    ----------
    rows, columns
        Of the matrix.
    kept
        Weights that are stored.
    """
    return kept * max(columns - 1, 0).bit_length() + (rows + 1) * kept.bit_length()


@dataclass(frozen=True, kw_only=True)
class LayerStorage:
    """What a layer's weights take, and what says where they belong.

    Attributes
    ----------
    layer
        Its name.
    weights, kept
        How many it has, and how many of their codes are not 0.
    arrays
        Crossbar arrays that it takes.
    cells_used
        Share of their cells that belong to a weight.
    index_bits
        Bits that say which rows and outputs its arrays hold, as costs have it; 0 where all are in their place.
    csr_bits
        Bits of indices if the weights that are not 0 were stored as a compressed sparse row, outputs being rows.
    """

    layer: str
    weights: int
    kept: int
    arrays: int
    cells_used: float
    index_bits: int
    csr_bits: int

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def bits_a_weight(self) -> float:
        """`index_bits` over the weights that are not 0; 0 where there is none."""
        return self.index_bits / self.kept if self.kept else 0.0

    @property
    def csr_bits_a_weight(self) -> float:
        """`csr_bits` over the weights that are not 0; 0 where there is none."""
        return self.csr_bits / self.kept if self.kept else 0.0


@dataclass(frozen=True, kw_only=True)
class StorageTable:
    """What a network's weights take, and what says where they belong; ``print`` it for a table.

    Attributes
    ----------
    layers
        Layer by layer.
    """

    layers: tuple[LayerStorage, ...]

    def __post_init__(self) -> None:
        check_fields(self)

    def __getitem__(self, layer: str) -> LayerStorage:
        return {each.layer: each for each in self.layers}[layer]

    @property
    def total(self) -> LayerStorage:
        """Of all layers; the share of cells is the mean over arrays."""
        arrays = sum(each.arrays for each in self.layers)
        used = math.fsum(each.cells_used * each.arrays for each in self.layers)
        whole = {
            name: sum(getattr(each, name) for each in self.layers)
            for name in ("weights", "kept", "index_bits", "csr_bits")
        }
        return LayerStorage(layer="all", arrays=arrays, cells_used=used / arrays if arrays else 0.0, **whole)

    def _rows(self) -> list[tuple[object, ...]]:
        return [
            (
                each.layer,
                f"{each.weights:,}",
                f"{each.kept:,}",
                f"{each.arrays:,}",
                f"{each.cells_used:.1%}",
                f"{each.index_bits:,}",
                f"{each.bits_a_weight:.2f}",
                f"{each.csr_bits_a_weight:.2f}",
            )
            for each in (*self.layers, self.total)
        ]

    def __str__(self) -> str:
        return format_table(_HEADER, self._rows())

    def _repr_html_(self) -> str:
        return html_table("Storage", _HEADER, self._rows())


def storage_of(layers: Mapping[str, Any]) -> StorageTable:
    """What the weights of mapped layers take, by name; they are :class:`xbarsim.network.MappedLayer`."""
    found = []
    for name, mapped in layers.items():
        codes = mapped.layer.codes
        kept = int(np.count_nonzero(codes))
        found.append(
            LayerStorage(
                layer=name or "(model)",
                weights=codes.size // mapped.layer.groups,
                kept=kept,
                arrays=mapped.matrix.tiles,
                cells_used=mapped.matrix.utilisation,
                index_bits=index_bits(mapped.matrix),
                csr_bits=csr_bits(codes.shape[1], codes.shape[0], kept),
            )
        )
    return StorageTable(layers=tuple(found))
