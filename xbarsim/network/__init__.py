"""Networks on crossbars: lowered, quantised, placed, calibrated; and the dies that are made of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.network.activity import ActivityTable
    from xbarsim.network.chip import Chip
    from xbarsim.network.crossbar import Crossbar
    from xbarsim.network.evaluation import Evaluation, evaluate
    from xbarsim.network.layers import ClippedInputs, CrossbarLayer, DigitalLayer, LayerAdapter, QuantisedLayer
    from xbarsim.network.lowered import Lowered, NotMapped, Product
    from xbarsim.network.lowering import Call, Lowering, ProductFunction, register
    from xbarsim.network.lowering.die_batch import DieBatch
    from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
    from xbarsim.network.onnx.lower import map_onnx
    from xbarsim.network.pipeline import map_model
    from xbarsim.network.placed import MappedLayer, PlacedNetwork, PlanTable
    from xbarsim.network.ranges import InputRange, LargestInput, LeastSquaredError, MovingAverage, Percentile
    from xbarsim.network.report import ClippingWarning, ErrorReport, LayerError
    from xbarsim.network.rescale import Rescale
    from xbarsim.network.skeleton import Network, Skeleton
    from xbarsim.network.states import keep_state
    from xbarsim.network.storage import LayerStorage, StorageTable
    from xbarsim.network.support import LayerSupport, layer_page, layer_support

# Loaded on first use, so that a network from an ONNX file, or a matrix, needs no torch.
_HOMES = {
    "ActivityTable": "activity",
    "Call": "lowering",
    "Chip": "mapped",  # with the networks that a chip is loaded with
    "ClippedInputs": "layers",
    "ClippingWarning": "report",
    "Crossbar": "crossbar",
    "CrossbarLayer": "layers",
    "DieBatch": "lowering.die_batch",
    "DigitalLayer": "layers",
    "ErrorReport": "report",
    "Evaluation": "evaluation",
    "InputRange": "ranges",
    "LargestInput": "ranges",
    "LayerAdapter": "layers",
    "LayerError": "report",
    "LayerStorage": "storage",
    "LayerSupport": "support",
    "LeastSquaredError": "ranges",
    "Lowered": "lowered",
    "Lowering": "lowering",
    "MappedLayer": "placed",
    "MappedNetwork": "mapped",
    "MovingAverage": "ranges",
    "Network": "skeleton",
    "NotMapped": "lowered",
    "NotMappedWarning": "mapped",
    "Percentile": "ranges",
    "PlacedNetwork": "placed",
    "PlanTable": "placed",
    "Product": "lowered",
    "ProductFunction": "lowering",
    "QuantisedLayer": "layers",
    "Rescale": "rescale",
    "Skeleton": "skeleton",
    "StorageTable": "storage",
    "evaluate": "evaluation",
    "keep_state": "states",
    "layer_page": "support",
    "layer_support": "support",
    "map_model": "pipeline",
    "map_onnx": "onnx.lower",
    "register": "lowering",
}

__all__ = [
    "ActivityTable",
    "Call",
    "Chip",
    "ClippedInputs",
    "ClippingWarning",
    "Crossbar",
    "CrossbarLayer",
    "DieBatch",
    "DigitalLayer",
    "ErrorReport",
    "Evaluation",
    "InputRange",
    "LargestInput",
    "LayerAdapter",
    "LayerError",
    "LayerStorage",
    "LayerSupport",
    "LeastSquaredError",
    "Lowered",
    "Lowering",
    "MappedLayer",
    "MappedNetwork",
    "MovingAverage",
    "Network",
    "NotMapped",
    "NotMappedWarning",
    "Percentile",
    "PlacedNetwork",
    "PlanTable",
    "Product",
    "ProductFunction",
    "QuantisedLayer",
    "Rescale",
    "Skeleton",
    "StorageTable",
    "evaluate",
    "keep_state",
    "layer_page",
    "layer_support",
    "map_model",
    "map_onnx",
    "register",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
