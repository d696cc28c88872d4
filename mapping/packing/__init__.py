"""What pruning saves: which rows and outputs share a tile. One file a packing."""

from __future__ import annotations

from xbarsim.mapping.packing.base import PACKINGS, Packing, packing

# isort: split  (in the order in which messages name them: what saves more comes later)
from xbarsim.mapping.packing.none import NoPacking

# isort: split
from xbarsim.mapping.packing.matrix import MatrixPacking

# isort: split
from xbarsim.mapping.packing.block import BlockPacking

# isort: split
from xbarsim.mapping.packing.joined import JoinedPacking

__all__ = ["PACKINGS", "BlockPacking", "JoinedPacking", "MatrixPacking", "NoPacking", "Packing", "packing"]
