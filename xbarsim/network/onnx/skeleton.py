"""A network from an ONNX file between its products."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.graph import Input
from xbarsim.network.onnx.interpreter import Interpreter, Observe
from xbarsim.network.onnx.operations.call import Array
from xbarsim.network.onnx.stored import graph_arrays
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["GraphSkeleton"]


class GraphSkeleton(Skeleton):
    """A graph that runs, with its products computed by whoever is given.

    Parameters
    ----------
    interpreter
        The graph.
    double
        Whether floating numbers are float64.
    batch
        How many samples are run at a time, where the file fixes that.
    """

    def __init__(self, interpreter: Interpreter, *, double: bool = False, batch: int | None = None) -> None:
        self.interpreter = interpreter
        self.batch = batch
        self._double = double

    def run(
        self,
        samples: Samples,
        layers: Mapping[str, Layer] | None = None,
        *,
        watch: Watch | None = None,
        observe: Observe | None = None,
    ) -> Any:
        """Run the graph, as :meth:`Skeleton.run`.

        Parameters
        ----------
        samples, layers, watch
            As there.
        observe
            Told of every digital operation and its outputs.

        Returns
        -------
        ndarray or tuple
            The output, or several if the graph has several.
        """
        inputs = self.inputs(samples)

        def multiply(name: str, x: Array) -> Array:
            layer = None if layers is None else layers.get(name)
            if layer is None:
                result = self.interpreter.float_result(name, x)
            else:
                result = layer(np.asarray(x, dtype=np.float32)).astype(x.dtype, copy=False)
            if watch is not None:
                watch(name, x, result)
            return result

        size = self.batch or len(samples)
        if len(samples) % size:
            raise InputError(
                f"images must be a multiple of {size} samples, the batch size that the ONNX file fixes, "
                f"got {len(samples)}; export it with a batch dimension that is not fixed"
            )
        parts = [
            self.interpreter.run(
                {name: array[start : start + size] for name, array in inputs.items()},
                multiply,
                double=self._double,
                observe=observe,
            )
            for start in range(0, len(samples), size)
        ]
        results = parts[0] if len(parts) == 1 else tuple(map(np.concatenate, zip(*parts, strict=True)))
        return results[0] if len(results) == 1 else results

    def doubled(self) -> GraphSkeleton:
        """The graph in float64, as :meth:`Skeleton.doubled`."""
        return GraphSkeleton(self.interpreter, double=True, batch=self.batch)

    def stored(self) -> tuple[str, dict[str, Array]]:
        """The folded graph, as :meth:`Skeleton.stored`."""
        return "onnx", graph_arrays(self.interpreter.graph, self.batch)

    def inputs(self, samples: Samples) -> dict[str, Array]:
        """The inputs of the graph by name, in the types that the file declares.

        Raises
        ------
        InputError
            If they are other inputs, or of another type or shape.
        """
        declared = self.interpreter.graph.inputs
        by_position = dict(zip((value.name for value in declared), samples.arguments, strict=False))
        given = by_position | dict(samples.keywords)
        names = [value.name for value in declared]
        if set(given) != set(names) or len(samples.arguments) + len(samples.keywords) != len(names):
            got = [*map(str, range(len(samples.arguments))), *samples.keywords]
            raise InputError(f"images must be the inputs {', '.join(names)}, got {', '.join(got)}")
        return {value.name: _checked(value, given[value.name]) for value in declared}


def _checked(value: Input, array: Array) -> Array:
    """An input in the type and shape that the file declares; its first dimension is free."""
    if (array.dtype.kind == "f") != (value.dtype.kind == "f"):
        raise InputError(f"input {value.name!r} must be {value.dtype}, got {array.dtype}")
    if value.shape is not None:
        fits = len(value.shape) == array.ndim and all(
            wanted is None or wanted == size for wanted, size in zip(value.shape[1:], array.shape[1:], strict=True)
        )
        if not fits:
            wanted = ", ".join("any" if size is None else str(size) for size in value.shape[1:])
            raise InputError(f"input {value.name!r} must have shape (samples, {wanted}), got {array.shape}")
    if value.dtype.kind in "iu":
        bounds = np.iinfo(value.dtype)
        if int(array.min()) < bounds.min or int(array.max()) > bounds.max:
            raise InputError(f"input {value.name!r} must fit {value.dtype}, got {array.min()} to {array.max()}")
    if value.dtype == np.float64:
        raise InputError(f"input {value.name!r} must be float32, got a file in float64")
    return array.astype(value.dtype, copy=False)
