"""From torch modules to products with trained weights: found as the model runs; what is none is named."""

from __future__ import annotations

from xbarsim.network.lowering.base import Lowering
from xbarsim.network.lowering.batch_norm import fold_batch_norm
from xbarsim.network.lowering.blocked_tensor import BlockedTensor, unblocked
from xbarsim.network.lowering.lower import lower
from xbarsim.network.lowering.products import Call, ProductFunction, bind
from xbarsim.network.lowering.registry import Registration, handled_types, lowering_of, register
from xbarsim.network.lowering.skeleton import TorchSkeleton

__all__ = [
    "BlockedTensor",
    "Call",
    "Lowering",
    "ProductFunction",
    "Registration",
    "TorchSkeleton",
    "bind",
    "fold_batch_norm",
    "handled_types",
    "lower",
    "lowering_of",
    "register",
    "unblocked",
]
