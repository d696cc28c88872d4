"""Pruning methods: one way to find the weights that stay a file, all of them callbacks of the trainer."""

from __future__ import annotations

from xbarsim.compress.methods.admm import Admm, AdmmCallback, Residual
from xbarsim.compress.methods.base import Method, MethodCallback
from xbarsim.compress.methods.magnitude import Magnitude
from xbarsim.compress.methods.reweighted import Reweighted

__all__ = ["Admm", "AdmmCallback", "Magnitude", "Method", "MethodCallback", "Residual", "Reweighted"]
