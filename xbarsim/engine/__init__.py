"""The analog matrix-vector product: its definition, and fast kernels that are equal to it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.engine.backends import Backend, CompiledBackend, PlainProgram, Program
from xbarsim.engine.case import Case
from xbarsim.engine.inputs import clipping_bounds, count_clipped, quantise_codes, unfold
from xbarsim.engine.layout import Columns, Layout
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.noise import Noise
from xbarsim.engine.plans import PLANS, Plan, choose_plan, common_fit, make_plan, plan_case
from xbarsim.engine.plans.base import input_offset, planes_layout
from xbarsim.engine.plans.whole import whole_layout
from xbarsim.engine.reads import clipped_share, largest_conversion, largest_read
from xbarsim.engine.reference import multiply as reference_multiply
from xbarsim.engine.window import Scaling, Window
from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.engine.backends.steps import plain_products
    from xbarsim.engine.backends.tensors import TorchBackend, TorchProgram

__all__ = [
    "PLANS",
    "Backend",
    "BlockedMaps",
    "Case",
    "Columns",
    "CompiledBackend",
    "Layout",
    "Noise",
    "PlainProgram",
    "Plan",
    "Program",
    "Scaling",
    "TorchBackend",
    "TorchProgram",
    "Window",
    "choose_plan",
    "clipped_share",
    "clipping_bounds",
    "common_fit",
    "count_clipped",
    "input_offset",
    "largest_conversion",
    "largest_read",
    "make_plan",
    "plain_products",
    "plan_case",
    "planes_layout",
    "quantise_codes",
    "reference_multiply",
    "unfold",
    "whole_layout",
]

# Loaded on first use: only they need torch.
__getattr__, _names = attach(
    __name__,
    {
        "TorchBackend": "backends.tensors",
        "TorchProgram": "backends.tensors",
        "plain_products": "backends.steps",
    },
)
