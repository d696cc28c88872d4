"""Pictures: results of sweeps, fault maps, tiles of a die, errors of its layers, repair, circuits, costs, fitted cells.

matplotlib is loaded when a picture is drawn. Every function takes the axes to draw on (``None`` for a new figure of its
own, outside of pyplot) and returns them; ``axes.figure.savefig("picture.png")`` saves the picture. No global setting is
changed.
"""

from __future__ import annotations

from xbarsim.plot.circuits import circuit
from xbarsim.plot.costs import cost_breakdown, cost_layers, pareto, pareto_front
from xbarsim.plot.devices import cell_card, cell_fit
from xbarsim.plot.errors import layer_errors
from xbarsim.plot.explorer import tile_explorer
from xbarsim.plot.files import caption, save_figure
from xbarsim.plot.mitigations import mitigation, noise_to_signal
from xbarsim.plot.search import search
from xbarsim.plot.sweeps import accuracy, die_violins, layer_sensitivity, yield_curve
from xbarsim.plot.tiles import fault_map, tile, tile_occupancy

__all__ = [
    "accuracy",
    "caption",
    "cell_card",
    "cell_fit",
    "circuit",
    "cost_breakdown",
    "cost_layers",
    "die_violins",
    "fault_map",
    "layer_errors",
    "layer_sensitivity",
    "mitigation",
    "noise_to_signal",
    "pareto",
    "pareto_front",
    "save_figure",
    "search",
    "tile",
    "tile_explorer",
    "tile_occupancy",
    "yield_curve",
]
