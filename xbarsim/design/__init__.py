"""What you would tape out; and, of each of its layers, how inputs are applied and how sums are read."""

from __future__ import annotations

from xbarsim.design.converter import AdcErrors, Converter, ConverterErrors, successive_approximation
from xbarsim.design.design import Design, DesignCard, DesignValue, design_card, design_names
from xbarsim.design.drive import DacErrors, Drive
from xbarsim.design.periphery import Periphery

__all__ = [
    "AdcErrors",
    "Converter",
    "ConverterErrors",
    "DacErrors",
    "Design",
    "DesignCard",
    "DesignValue",
    "Drive",
    "Periphery",
    "design_card",
    "design_names",
    "successive_approximation",
]
