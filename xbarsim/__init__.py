"""Accuracy, power and area of neural networks on faulty resistive-memory crossbars.

A torch model is placed on crossbars (:func:`map_model`), dies are made of it (``network.fabricate(seed)``), and each
die is
run like the model it came from (:func:`evaluate`) and costed (``chip.cost()``). See ARCHITECTURE.md for the rooms.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from xbarsim.chip import Chip
    from xbarsim.design import Design, Periphery
    from xbarsim.evaluation import Evaluation, evaluate
    from xbarsim.mapping import Mapping
    from xbarsim.network import MappedNetwork, map_model
    from xbarsim.threads import set_threads
    from xbarsim.validation import FileFormatError, FileWriteError, InputError

__version__ = "0.1.0"

# Loaded on first use, so that `import xbarsim` costs neither torch nor matplotlib.
_HOMES = {
    "Chip": "chip",
    "Design": "design",
    "Evaluation": "evaluation",
    "FileFormatError": "validation",
    "FileWriteError": "validation",
    "InputError": "validation",
    "MappedNetwork": "network",
    "Mapping": "mapping",
    "Periphery": "design",
    "evaluate": "evaluation",
    "map_model": "network",
    "set_threads": "threads",
}
_ROOMS = ("circuit", "cost", "data", "devices", "engine", "experiments", "mapping", "models", "network", "plot")

__all__ = [
    "Chip",
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


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(importlib.import_module(f"xbarsim.{_HOMES[name]}"), name)
    if name in _ROOMS:
        return importlib.import_module(f"xbarsim.{name}")
    raise AttributeError(f"module 'xbarsim' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__, *_ROOMS])
