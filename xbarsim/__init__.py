"""Accuracy, power and area of neural networks on faulty resistive-memory crossbars.

A torch model is placed on crossbars (:func:`map_model`), dies are made of it (``network.fabricate(seed)``), and each
die is
run like the model it came from (:func:`evaluate`) and costed (``chip.cost()``). See ARCHITECTURE.md for the rooms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.design import Design, Periphery
    from xbarsim.foundation.threads import set_threads
    from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
    from xbarsim.mapping import Mapping
    from xbarsim.network import MappedNetwork, map_model
    from xbarsim.network.chip import Chip
    from xbarsim.network.crossbar import Crossbar
    from xbarsim.network.evaluation import Evaluation, evaluate

__version__ = "0.1.0"

# Loaded on first use, so that `import xbarsim` costs neither torch nor matplotlib.
_HOMES = {
    "Chip": "network.chip",
    "Crossbar": "network.crossbar",
    "Design": "design",
    "Evaluation": "network.evaluation",
    "FileFormatError": "foundation.validation",
    "FileWriteError": "foundation.validation",
    "InputError": "foundation.validation",
    "MappedNetwork": "network",
    "Mapping": "mapping",
    "Periphery": "design",
    "evaluate": "network.evaluation",
    "map_model": "network",
    "set_threads": "foundation.threads",
}
_ROOMS = (
    "circuit",
    "cost",
    "data",
    "devices",
    "engine",
    "experiments",
    "mapping",
    "mitigation",
    "models",
    "network",
    "plot",
    "sweep",
)

__all__ = [
    "Chip",
    "Crossbar",
    "Design",
    "Evaluation",
    "FileFormatError",
    "FileWriteError",
    "InputError",
    "MappedNetwork",
    "Mapping",
    "Periphery",
    "evaluate",
    "map_model",
    "set_threads",
]


__getattr__, __dir__ = attach(__name__, _HOMES, _ROOMS)
