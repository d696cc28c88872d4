"""Runs a graph whose patterns are folded: digital operations in NumPy, products by whoever is given."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.constants import apply
from xbarsim.network.onnx.floats import Geometry, float_product
from xbarsim.network.onnx.graph import Graph
from xbarsim.network.onnx.operations.call import Array, Call, Node
from xbarsim.network.onnx.patterns import PRODUCT_OPS
from xbarsim.network.onnx.recurrent import RECURRENT, Recurrent

__all__ = ["Interpreter"]

Multiply = Callable[[str, Array], Array]
Observe = Callable[[Call, tuple[Array, ...]], None]


class Interpreter:
    """A graph ready to run.

    Parameters
    ----------
    graph
        From :func:`xbarsim.network.onnx.patterns.fold_patterns`.

    Attributes
    ----------
    product_of
        The name of the product that each product node uses; nodes that share weights, bias and geometry share it.
    recurrent
        The recurrent layers by the name of their node.
    matrices
        Weights and biases of their products by name.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.product_of: dict[str, str] = {}
        self.recurrent: dict[str, Recurrent] = {}
        known: dict[str, str] = {}
        for node in graph.nodes:
            if node.op in PRODUCT_OPS:
                geometry = "" if node.op == "Linear" else repr(Geometry.of(node, graph.constants[node.inputs[1]]))
                self.product_of[node.name] = known.setdefault(repr((node.inputs[1:], geometry)), node.name)
            elif node.op in RECURRENT:
                self.recurrent[node.name] = Recurrent.of(node, graph.constants)
        self.matrices = {
            name: matrix
            for layer in self.recurrent.values()
            for direction in layer.directions
            for name, matrix in direction.matrices.items()
        }
        self._nodes = {node.name: node for node in graph.nodes}
        self._freed = _last_uses(graph)

    def product_names(self) -> Iterator[tuple[str, Node]]:
        """Names of all products in the order of the graph, with a node that uses each."""
        for node in self.graph.nodes:
            if self.product_of.get(node.name) == node.name:
                yield node.name, node
            elif node.name in self.recurrent:
                for direction in self.recurrent[node.name].directions:
                    for name in direction.matrices:
                        yield name, node

    def run(
        self,
        inputs: Mapping[str, Array],
        multiply: Multiply | None = None,
        *,
        double: bool = False,
        observe: Observe | None = None,
    ) -> tuple[Array, ...]:
        """The outputs of the graph.

        Parameters
        ----------
        inputs
            By name.
        multiply
            From the name of a product and its activations to its results; ``None`` for floating point.
        double
            Whether floating numbers are float64.
        observe
            Told of every digital operation and its outputs.

        Raises
        ------
        InputError
            If a node's inputs do not fit it.
        """
        values = {name: _floating(array, double) for name, array in inputs.items()}

        def value(name: str) -> Array | None:
            if not name:
                return None
            if name in values:
                return values[name]
            return _floating(self.graph.constants[name], double)

        for node, freed in zip(self.graph.nodes, self._freed, strict=True):
            if node.op in PRODUCT_OPS:
                x = value(node.inputs[0])
                assert x is not None
                name = self.product_of[node.name]
                results: Sequence[Array] = (
                    self.float_result(name, x) if multiply is None else multiply(name, np.ascontiguousarray(x)),
                )
            else:
                call = Call(node=node, inputs=tuple(value(name) for name in node.inputs), double=double)
                if node.op in RECURRENT:
                    results = self.recurrent[node.name].run(call, multiply or self.float_result)
                else:
                    results = apply(call)
                if observe is not None:
                    observe(call, tuple(results))
            values.update({name: array for name, array in zip(node.outputs, results, strict=False) if name})
            for name in freed:
                values.pop(name, None)
        found = []
        for name in self.graph.outputs:
            array = value(name)
            assert array is not None
            found.append(array)
        return tuple(found)

    def float_result(self, name: str, x: Array) -> Array:
        """What a product gives in floating point, in the type of its activations."""
        if name in self.matrices:
            weights, bias = self.matrices[name]
            return np.asarray(x @ weights.astype(x.dtype) + bias.astype(x.dtype))
        node = self._nodes[name]
        weights = self.graph.constants[node.inputs[1]].astype(x.dtype)
        shift = self.graph.constants[node.inputs[2]].astype(x.dtype) if node.inputs[2] else None
        try:
            return float_product(node, x, weights, shift)
        except InputError:
            raise
        except ValueError as error:
            raise InputError(f"{node} must have inputs that fit it, got shape {x.shape}: {error}") from error


def _floating(array: Array, double: bool) -> Array:
    if not double or array.dtype != np.float32:
        return array
    if array.ndim == 0:  # a number that was written in decimal: 0.1, and not 0.10000000149
        return np.asarray(float(str(array[()])))
    return array.astype(np.float64)


def _last_uses(graph: Graph) -> list[list[str]]:
    """For each node, the values that nothing needs after it."""
    needed = set(graph.outputs)
    freed: list[list[str]] = []
    for node in reversed(graph.nodes):
        names = {name for name in (*node.inputs, *node.outputs) if name and name not in needed}
        freed.append(sorted(names))
        needed |= names
    return freed[::-1]
