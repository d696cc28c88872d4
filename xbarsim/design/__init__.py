"""What you would tape out, and how its arrays are driven and read."""

from __future__ import annotations

from xbarsim.design.converters import AdcErrors, ConverterErrors, DacErrors, successive_approximation
from xbarsim.design.design import Design, Periphery, Readout

__all__ = [
    "AdcErrors",
    "ConverterErrors",
    "DacErrors",
    "Design",
    "Periphery",
    "Readout",
    "successive_approximation",
]
