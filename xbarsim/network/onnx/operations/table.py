"""All operations that are computed here, by name."""

from __future__ import annotations

from xbarsim.network.onnx.operations.call import Operation
from xbarsim.network.onnx.operations.elementwise import ELEMENTWISE
from xbarsim.network.onnx.operations.normalisation import NORMALISATION
from xbarsim.network.onnx.operations.products import PRODUCTS
from xbarsim.network.onnx.operations.quantisation import QUANTISATION
from xbarsim.network.onnx.operations.reductions import REDUCTIONS
from xbarsim.network.onnx.operations.shapes import SHAPES
from xbarsim.network.onnx.operations.windows import same_padding

__all__ = ["ALL_OPERATIONS", "OPERATIONS"]

OPERATIONS: dict[str, Operation] = dict(
    sorted({**ELEMENTWISE, **NORMALISATION, **PRODUCTS, **QUANTISATION, **REDUCTIONS, **SHAPES}.items())
)

# With those that no file holds, which stand in the place of others.
ALL_OPERATIONS = {**OPERATIONS, "SamePadding": Operation(same_padding)}
