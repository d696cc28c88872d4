"""Power, area and peak throughput from the arrays that a network occupies, with every constant's source.

The components stand in cited cards (``cards/*.toml``). ISAAC calls *tile* a group of units with many crossbar
arrays; the rest of this project calls one array a tile. In a card the published word is kept; what a network
occupies is called *arrays* here.
"""

from __future__ import annotations

from xbarsim.cost.adc import Adc, AdcCard, AdcRegression, AdcTable, adc_names
from xbarsim.cost.deltas import Change, Deltas, compare
from xbarsim.cost.estimate import Comparison, LayerUse, compare_published, estimate
from xbarsim.cost.hardware import (
    Component,
    Hardware,
    Level,
    Published,
    ReferenceArray,
    hardware_names,
)
from xbarsim.cost.mapped import index_bits, layer_use
from xbarsim.cost.quantities import Amount, Quantity, Reference, Series
from xbarsim.cost.report import ComponentCost, CostReport, LayerCost, Sources
from xbarsim.cost.units import parse_unit
from xbarsim.cost.workload import Actions, ComponentEnergy, LayerWork, Workload, replicate

__all__ = [
    "Actions",
    "Adc",
    "AdcCard",
    "AdcRegression",
    "AdcTable",
    "Amount",
    "Change",
    "Comparison",
    "Component",
    "ComponentCost",
    "ComponentEnergy",
    "CostReport",
    "Deltas",
    "Hardware",
    "LayerCost",
    "LayerUse",
    "LayerWork",
    "Level",
    "Published",
    "Quantity",
    "Reference",
    "ReferenceArray",
    "Series",
    "Sources",
    "Workload",
    "adc_names",
    "compare",
    "compare_published",
    "estimate",
    "hardware_names",
    "index_bits",
    "layer_use",
    "parse_unit",
    "replicate",
]
