"""Power, area and peak throughput from the arrays that a network occupies, with every constant's source.

The components stand in cited cards (``cards/*.toml``). ISAAC calls *tile* a group of units with many crossbar
arrays; the rest of this project calls one array a tile. In a card the published word is kept; what a network
occupies is called *arrays* here.
"""

from __future__ import annotations

from xbarsim.cost.activity import Activity
from xbarsim.cost.adc import Adc, AdcCard, AdcRegression, AdcTable, adc_names
from xbarsim.cost.deltas import Change, Deltas, compare
from xbarsim.cost.digital import OPERATIONS, DigitalCard, DigitalPrices, DigitalUse, digital_names
from xbarsim.cost.hardware import (
    Component,
    Hardware,
    Level,
    Published,
    ReferenceArray,
    hardware_names,
)
from xbarsim.cost.peak import ComponentCost, LayerCost, Peak
from xbarsim.cost.published import Comparison, compare_published, totals
from xbarsim.cost.replication import replicate
from xbarsim.cost.report import CostReport, Sources, estimate
from xbarsim.cost.units import parse_unit
from xbarsim.cost.use import LayerUse
from xbarsim.cost.values import Amount, Reference, Series, SourcedValue
from xbarsim.cost.workload import Actions, ComponentEnergy, LayerWork, Replication, Workload, run_workload

__all__ = [
    "OPERATIONS",
    "Actions",
    "Activity",
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
    "DigitalCard",
    "DigitalPrices",
    "DigitalUse",
    "Hardware",
    "LayerCost",
    "LayerUse",
    "LayerWork",
    "Level",
    "Peak",
    "Published",
    "Reference",
    "ReferenceArray",
    "Replication",
    "Series",
    "SourcedValue",
    "Sources",
    "Workload",
    "adc_names",
    "compare",
    "compare_published",
    "digital_names",
    "estimate",
    "hardware_names",
    "parse_unit",
    "replicate",
    "run_workload",
    "totals",
]
