"""Training for crossbars: what a network is compressed to, how that is found, and the hardware in the training loop.

A :class:`Recipe` says what is wanted of which layer: targets (:mod:`xbarsim.compress.targets`, one structure a file)
and levels. A :class:`Method` (:mod:`xbarsim.compress.methods`, one a file) finds the weights that stay, as a callback
of the trainer (:mod:`xbarsim.training`); :func:`compress` prunes by it, and retrains what is left on the levels.
"""

from __future__ import annotations

from xbarsim.foundation.extras import need_torch

need_torch("xbarsim.compress")  # said before what follows loads it

from xbarsim.compress.compressing import Compressed, compress, prune, retrain
from xbarsim.compress.discrete import DiscreteStates, DiscreteTransitions
from xbarsim.compress.distillation import Distillation
from xbarsim.compress.disturbances import Disturbance, Injection, LostWeights, Rates
from xbarsim.compress.fine_tuning import FineTuned, fine_tune
from xbarsim.compress.hardening import FrozenStatistics, Hardening, clip_weights
from xbarsim.compress.layers import MappableLayer, gemm_view, mappable_layers
from xbarsim.compress.levels import Levels, nearest_codes, nearest_levels
from xbarsim.compress.methods import (
    Admm,
    AdmmCallback,
    GrowAndPrune,
    GrowAndPruneCallback,
    LearnedShapes,
    Magnitude,
    Method,
    MethodCallback,
    RandomMasks,
    Residual,
    Reweighted,
    grow_and_prune_in_parallel,
)
from xbarsim.compress.packed import PackedLayer, PackedNetwork, pack_network
from xbarsim.compress.prices import LayerPrice, weight_prices
from xbarsim.compress.progressive import ProgressivePruning, PruningStep, faulty_accuracy, prune_progressively
from xbarsim.compress.recipe import LayerRule, Recipe
from xbarsim.compress.remaining import Compression, LayerCompression, compression
from xbarsim.compress.targets import (
    SHAPES_3X3,
    BlockColumnRow,
    Columns,
    Filters,
    KernelShapes,
    RigidShapes,
    Target,
    Tiles,
    Unstructured,
    block_mask,
    column_mask,
    filter_mask,
    kept_count,
    kernel_shape_mask,
    tile_mask,
    unstructured_mask,
)
from xbarsim.compress.tickets import (
    Condition,
    TicketArms,
    Tickets,
    TicketVerdict,
    find_tickets,
    magnitude_masks,
    ticket,
)
from xbarsim.compress.writes import Writes

__all__ = [
    "SHAPES_3X3",
    "Admm",
    "AdmmCallback",
    "BlockColumnRow",
    "Columns",
    "Compressed",
    "Compression",
    "Condition",
    "DiscreteStates",
    "DiscreteTransitions",
    "Distillation",
    "Disturbance",
    "Filters",
    "FineTuned",
    "FrozenStatistics",
    "GrowAndPrune",
    "GrowAndPruneCallback",
    "Hardening",
    "Injection",
    "KernelShapes",
    "LayerCompression",
    "LayerPrice",
    "LayerRule",
    "LearnedShapes",
    "Levels",
    "LostWeights",
    "Magnitude",
    "MappableLayer",
    "Method",
    "MethodCallback",
    "PackedLayer",
    "PackedNetwork",
    "ProgressivePruning",
    "PruningStep",
    "RandomMasks",
    "Rates",
    "Recipe",
    "Residual",
    "Reweighted",
    "RigidShapes",
    "Target",
    "TicketArms",
    "TicketVerdict",
    "Tickets",
    "Tiles",
    "Unstructured",
    "Writes",
    "block_mask",
    "clip_weights",
    "column_mask",
    "compress",
    "compression",
    "faulty_accuracy",
    "filter_mask",
    "find_tickets",
    "fine_tune",
    "gemm_view",
    "grow_and_prune_in_parallel",
    "kept_count",
    "kernel_shape_mask",
    "magnitude_masks",
    "mappable_layers",
    "nearest_codes",
    "nearest_levels",
    "pack_network",
    "prune",
    "prune_progressively",
    "retrain",
    "ticket",
    "tile_mask",
    "unstructured_mask",
    "weight_prices",
]
