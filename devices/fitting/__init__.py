"""From measured conductances to a cell: the reader of tables, the fits, and the card."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.devices.fitting.cell_fit import CellFit, Finding, fit_cell
    from xbarsim.devices.fitting.estimates import DriftEstimate, ErrorEstimate
    from xbarsim.devices.fitting.laws import Law
    from xbarsim.devices.fitting.noise_parts import NoiseParts, NoiseSeries
    from xbarsim.devices.fitting.quantiles import QuantileEstimate
    from xbarsim.devices.fitting.readings import Readings

# Loaded on first use: simulations fit nothing.
_HOMES = {
    "CellFit": "cell_fit",
    "DriftEstimate": "estimates",
    "ErrorEstimate": "estimates",
    "Finding": "cell_fit",
    "Law": "laws",
    "NoiseParts": "noise_parts",
    "NoiseSeries": "noise_parts",
    "QuantileEstimate": "quantiles",
    "Readings": "readings",
    "fit_cell": "cell_fit",
}

__all__ = [
    "CellFit",
    "DriftEstimate",
    "ErrorEstimate",
    "Finding",
    "Law",
    "NoiseParts",
    "NoiseSeries",
    "QuantileEstimate",
    "Readings",
    "fit_cell",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
