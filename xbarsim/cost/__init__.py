"""Power, area and peak throughput from the arrays that a network occupies, with every constant's source.

The components stand in cited cards (``cards/*.toml``). ISAAC calls *tile* a group of units with many crossbar
arrays; the rest of this project calls one array a tile. In a card the published word is kept; what a network
occupies is called *arrays* here.
"""

from __future__ import annotations

from xbarsim.cost.estimate import Comparison, LayerUse, compare_published, estimate
from xbarsim.cost.hardware import (
    AdcTable,
    Amount,
    Component,
    Hardware,
    Level,
    Published,
    Quantity,
    Reference,
    ReferenceArray,
    Series,
    hardware_names,
)
from xbarsim.cost.report import ComponentCost, CostReport, LayerCost
from xbarsim.cost.units import parse_unit

__all__ = [
    "AdcTable",
    "Amount",
    "Comparison",
    "Component",
    "ComponentCost",
    "CostReport",
    "Hardware",
    "LayerCost",
    "LayerUse",
    "Level",
    "Published",
    "Quantity",
    "Reference",
    "ReferenceArray",
    "Series",
    "compare_published",
    "estimate",
    "hardware_names",
    "parse_unit",
]
