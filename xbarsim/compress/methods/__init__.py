"""Pruning methods: one way to find the weights that stay a file, all of them callbacks of the trainer."""

from __future__ import annotations

from xbarsim.compress.methods.admm import Admm, AdmmCallback, Residual
from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.methods.grow_and_prune import GrowAndPrune, GrowAndPruneCallback, grow_and_prune_in_parallel
from xbarsim.compress.methods.learned_shapes import LearnedShapes
from xbarsim.compress.methods.magnitude import Magnitude
from xbarsim.compress.methods.random_masks import RandomMasks
from xbarsim.compress.methods.reweighted import Reweighted

__all__ = [
    "Admm",
    "AdmmCallback",
    "GrowAndPrune",
    "GrowAndPruneCallback",
    "LearnedShapes",
    "Magnitude",
    "Method",
    "MethodCallback",
    "RandomMasks",
    "Residual",
    "Reweighted",
    "grow_and_prune_in_parallel",
]
