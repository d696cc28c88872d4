"""Accuracy, power and area of neural networks on faulty resistive-memory crossbars.

A torch model (:func:`map_model`) or a network from an ONNX file (:func:`map_onnx`, without torch) is placed on
crossbars, dies are made of it (``network.fabricate(seed)``), and each die is run like the model it came from
(:func:`evaluate`) and costed (``chip.cost()``). Many dies of many designs are measured by :func:`collect`. See
ARCHITECTURE.md for the rooms.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach
from xbarsim.foundation.version import VERSION

if TYPE_CHECKING:
    from xbarsim.design import Design, Periphery
    from xbarsim.devices import Cell, StuckFaults
    from xbarsim.foundation.threads import set_threads
    from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
    from xbarsim.mapping import Balanced, Differential, Mapping, Offset, TwoColumn
    from xbarsim.models import load_model, load_test_set
    from xbarsim.network import Chip, MappedNetwork, map_model, map_onnx
    from xbarsim.network.crossbar import Crossbar
    from xbarsim.network.evaluation import Evaluation, evaluate
    from xbarsim.sweep import Task, collect

__version__ = VERSION

# Loaded on first use, so that `import xbarsim` costs neither torch nor matplotlib.
_HOMES = {
    "Balanced": "mapping",
    "Cell": "devices",
    "Chip": "network",
    "Crossbar": "network.crossbar",
    "Design": "design",
    "Differential": "mapping",
    "Evaluation": "network.evaluation",
    "FileFormatError": "foundation.validation",
    "FileWriteError": "foundation.validation",
    "InputError": "foundation.validation",
    "MappedNetwork": "network",
    "Mapping": "mapping",
    "Offset": "mapping",
    "Periphery": "design",
    "StuckFaults": "devices",
    "Task": "sweep",
    "TwoColumn": "mapping",
    "collect": "sweep",
    "evaluate": "network.evaluation",
    "load_model": "models",
    "load_test_set": "models",
    "map_model": "network",
    "map_onnx": "network",
    "set_threads": "foundation.threads",
}
_ROOMS = (
    "circuit",
    "compress",
    "cost",
    "data",
    "design",
    "devices",
    "engine",
    "experiments",
    "mapping",
    "mitigation",
    "models",
    "network",
    "plot",
    "sequences",
    "sweep",
    "testing",
)

__all__ = [
    "Balanced",
    "Cell",
    "Chip",
    "Crossbar",
    "Design",
    "Differential",
    "Evaluation",
    "FileFormatError",
    "FileWriteError",
    "InputError",
    "MappedNetwork",
    "Mapping",
    "Offset",
    "Periphery",
    "StuckFaults",
    "Task",
    "TwoColumn",
    "collect",
    "evaluate",
    "load_model",
    "load_test_set",
    "map_model",
    "map_onnx",
    "set_threads",
]


__getattr__, __dir__ = attach(__name__, _HOMES, _ROOMS)
