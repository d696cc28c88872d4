"""A network from an ONNX file with what was saved of it."""

from __future__ import annotations

from collections.abc import Mapping

from xbarsim.design import Design
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.network.lowered import Product
from xbarsim.network.onnx.interpreter import Interpreter
from xbarsim.network.onnx.operations.call import Array
from xbarsim.network.onnx.products import products_of
from xbarsim.network.onnx.skeleton import GraphSkeleton
from xbarsim.network.onnx.stored import graph_of_arrays

__all__ = ["restore_onnx"]


def restore_onnx(stored: Mapping[str, Array], design: Design) -> tuple[GraphSkeleton, dict[str, Product]]:
    """The skeleton of a network that was saved, and its products as :func:`xbarsim.network.onnx.lower_file` found them.

    Parameters
    ----------
    stored
        From :meth:`GraphSkeleton.stored`.
    design
        Gives the bits of input codes.

    Raises
    ------
    FileFormatError, InputError
        If the graph is not whole, or holds nodes that are not known or contradict themselves.
    """
    graph, batch = graph_of_arrays(stored)
    try:
        interpreter = Interpreter(graph)
        products, _ = products_of(interpreter, design.periphery.input_bits)
    except (ValueError, IndexError, TypeError, KeyError, AttributeError, ArithmeticError) as error:
        if isinstance(error, InputError):
            raise
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise FileFormatError(f"its graph must have nodes that fit their constants, got {reason}") from error
    return GraphSkeleton(interpreter, batch=batch), products
