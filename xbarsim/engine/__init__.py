"""The analog matrix-vector product: its definition, and fast kernels that are equal to it."""

from __future__ import annotations

from xbarsim.engine.plans import Noise, Plan, choose_plan, make_plan
from xbarsim.engine.reference import multiply as reference_multiply

__all__ = ["Noise", "Plan", "choose_plan", "make_plan", "reference_multiply"]
