"""One die: what is broken in it, what its cells hold, and what reads see of them."""

from __future__ import annotations

from xbarsim.die.layer import DieLayer, TileView, WeightCorrection, check_age
from xbarsim.die.program import program
from xbarsim.die.seen import TileLoss, current_losses, fold_errors, seen_cells, seen_variance, through_wires
from xbarsim.die.silicon import Converters, Drivers, Silicon
from xbarsim.die.streams import Purpose, generator, stream

__all__ = [
    "Converters",
    "DieLayer",
    "Drivers",
    "Purpose",
    "Silicon",
    "TileLoss",
    "TileView",
    "WeightCorrection",
    "check_age",
    "current_losses",
    "fold_errors",
    "generator",
    "program",
    "seen_cells",
    "seen_variance",
    "stream",
    "through_wires",
]
