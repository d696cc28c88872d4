"""From measured conductances to a cell: the reader of tables, the fits, and the card."""

from __future__ import annotations

from xbarsim.devices.fitting.cell_fit import CellFit, Finding, fit_cell
from xbarsim.devices.fitting.estimates import DriftEstimate, ErrorEstimate
from xbarsim.devices.fitting.laws import Law
from xbarsim.devices.fitting.quantiles import QuantileEstimate
from xbarsim.devices.fitting.readings import Readings

__all__ = ["CellFit", "DriftEstimate", "ErrorEstimate", "Finding", "Law", "QuantileEstimate", "Readings", "fit_cell"]
