"""A network from an ONNX file between its products, and the way from the file to what is mapped."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from xbarsim.cost import DigitalUse
from xbarsim.design import Design
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance
from xbarsim.network.lowered import Lowered, NotMapped, Product
from xbarsim.network.mapped import MappedNetwork
from xbarsim.network.onnx.constants import fold_constants
from xbarsim.network.onnx.counting import count, of_shapes
from xbarsim.network.onnx.graph import Graph, Input, read_graph
from xbarsim.network.onnx.interpreter import Interpreter, Observe
from xbarsim.network.onnx.operations.call import Array, Call
from xbarsim.network.onnx.patterns import PRODUCT_OPS, fold_patterns
from xbarsim.network.onnx.products import products_of
from xbarsim.network.onnx.recurrent import RECURRENT
from xbarsim.network.onnx.stored import graph_arrays, graph_of_arrays
from xbarsim.network.pipeline import check_varied, map_lowered
from xbarsim.network.ranges import InputRange, RangeName, as_input_range
from xbarsim.network.rescale import Rescale
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch, check_fit

__all__ = ["GraphSkeleton", "lower_file", "map_onnx", "restore_onnx"]

_COUNTED = 64  # samples that digital operations are counted on, as many as the calibration runs at a time


def map_onnx(
    path: str | os.PathLike[str],
    design: Design,
    *,
    calibration: Any,
    ranges: InputRange | RangeName = "max",
    rescale: Rescale | None = None,
) -> MappedNetwork:
    """Place a trained network from an ONNX file on crossbars; needs no torch.

    Convolutions, products with constant matrices and recurrent layers are quantised and mapped; batch norms and
    multiplications and additions of constants that directly follow one are folded into it. Everything else stays
    digital, in float32. Weights that the file gives as 8-bit integers keep its codes and scales, and so do inputs where
    the design's `input_bits` hold their codes.

    Parameters
    ----------
    path
        Of the file: operators of version 11 to 23, in float32. Weights outside it must lie in its folder.
    design
        The accelerator.
    calibration
        Samples, as the network takes them, in the first dimension of each input: an array, a tuple of arrays for
        several inputs, or a dictionary of them by the names of the file; see :func:`xbarsim.map_model`.
    ranges
        How the range of a layer's inputs is chosen, as there; a scale that the file gives comes first.
    rescale
        How input channels with outliers are rescaled, as there; not where the file gives integers.

    Returns
    -------
    MappedNetwork
        As :func:`xbarsim.map_model` gives it. Layers have the names of the file's nodes; those of recurrent nodes end
        in ``.ih`` (products of the inputs) and ``.hh`` (of the hidden state).

    Warns
    -----
    NotMappedWarning
        If nodes with weights stay digital, naming them.

    Raises
    ------
    InputError
        If the file is damaged, uses what is not supported (the message lists what is), or holds nothing that can be
        mapped; if weights are not finite, or have integer codes beyond the design's `weight_bits`; or if the samples do
        not fit.
    ImportError
        If the package onnx is not installed.
    """
    check_instance("design", design, Design)
    samples = Samples.of(calibration, name="calibration")
    check_varied(samples)
    lowered = lower_file(path, design, samples)
    return map_lowered(lowered, design, samples, ranges=as_input_range(ranges), rescale=rescale)


def lower_file(path: str | os.PathLike[str], design: Design, samples: Samples) -> Lowered:
    """Read a file and find its products.

    Parameters
    ----------
    path
        Of the file.
    design
        Gives the bits of input codes.
    samples
        A few of them tell whether a batch size that the file fixes matters.

    Raises
    ------
    InputError
        As :func:`map_onnx`.
    """
    graph = fold_patterns(fold_constants(read_graph(path)))
    interpreter = Interpreter(graph)
    products, notes = products_of(interpreter, design.periphery.input_bits)
    if not products:
        raise InputError(
            "path must name a network that multiplies its inputs with trained weights (Conv, Gemm, MatMul, LSTM, "
            "GRU, RNN), got one without such a node"
        )
    skeleton = GraphSkeleton(interpreter)
    skeleton.inputs(samples)
    skeleton, note = _with_batch(skeleton, samples)
    not_mapped = tuple(_not_mapped(graph))
    return Lowered(
        skeleton=skeleton,
        products=products,
        not_mapped=not_mapped,
        notes=(*graph.notes, *notes, *note),
        digital_work=_digital_work(skeleton, samples, {item.name: item.parameters for item in not_mapped}),
    )


def restore_onnx(stored: Mapping[str, Array], design: Design) -> tuple[GraphSkeleton, dict[str, Product]]:
    """The skeleton of a network that was saved, and its products as :func:`lower_file` found them.

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


def _digital_work(skeleton: GraphSkeleton, samples: Samples, held: Mapping[str, int]) -> tuple[DigitalUse, ...]:
    """What the nodes compute digitally for one sample, counted while a few samples run."""
    few = samples.part(0, max(_COUNTED, skeleton.batch or 1))
    counts: dict[str, Counter[str]] = {}
    kinds: dict[str, str] = {}

    shapes = of_shapes(skeleton.interpreter.graph)

    def observe(call: Call, outputs: tuple[Array, ...]) -> None:
        if call.node.name in shapes:
            return
        counts.setdefault(call.node.name, Counter()).update(count(call, outputs))
        kinds[call.node.name] = call.node.op

    check_fit(lambda: skeleton.run(few, observe=observe), samples, name="calibration")
    each = {
        name: {key: total / len(few) if total % len(few) else total // len(few) for key, total in found.items()}
        for name, found in counts.items()
    }
    return tuple(
        DigitalUse(name=name, kind=kinds[name], parameters=held.get(name, 0), **found)
        for name, found in each.items()
        if any(found.values()) or name in held
    )


def _not_mapped(graph: Graph) -> list[NotMapped]:
    """Digital nodes with weights: constants that are more than a number, other than masks."""
    items, counted = [], set()
    for node in graph.nodes:
        if node.op in PRODUCT_OPS or node.op in ("QuantizeLinear", "DequantizeLinear"):
            continue
        # weights and biases of recurrent nodes are mapped, peepholes and first states are not
        names = node.inputs[4:] if node.op in RECURRENT else node.inputs
        held = {
            name: graph.constants[name].size
            for name in names
            if name in graph.constants
            and name not in counted
            and graph.constants[name].dtype.kind == "f"
            and graph.constants[name].size > 1
            and np.isfinite(graph.constants[name]).all()
        }
        counted |= set(held)
        if held:
            items.append(
                NotMapped(name=node.name, kind=node.op, parameters=sum(held.values()), reason=_reason(node.op))
            )
    return items


def _reason(op: str) -> str:
    if op == "Gather":
        return "a look-up in a table"
    if "Normalization" in op:
        return "not directly behind a layer it could be folded into"
    if op in ("MatMul", "Gemm", "Einsum"):
        return "no product of vectors with one matrix"
    return "no product with a matrix"


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


def _with_batch(skeleton: GraphSkeleton, samples: Samples) -> tuple[GraphSkeleton, tuple[str, ...]]:
    """The skeleton for a file that fixes its batch size: sample by sample, unless that size turns out not to matter."""
    sizes = {value.shape[0] for value in skeleton.interpreter.graph.inputs if value.shape}
    fixed = {size for size in sizes if size is not None}
    if not fixed:
        return skeleton, ()
    if len(fixed) > 1:
        raise InputError(f"inputs must have samples in their first dimension, got a file that fixes it to {fixed}")
    size = fixed.pop()
    bound = GraphSkeleton(skeleton.interpreter, batch=size)
    if _free(skeleton, bound, samples, size):
        return skeleton, (f"the file fixes the batch size to {size}; others give the same",)
    if size != 1:
        raise InputError(
            f"path must name a network for any number of samples or for one, got one whose batch size is fixed to "
            f"{size}; export it with a batch dimension that is not fixed"
        )
    return bound, ("the file fixes the batch size to 1: samples run one by one",)


def _free(skeleton: GraphSkeleton, bound: GraphSkeleton, samples: Samples, size: int) -> bool:
    """Whether a graph gives the same for other batch sizes than the one it was exported for."""
    few = (
        samples.take(np.arange(max(size, 3)) % len(samples))
        if size == 1
        else samples.take(np.arange(size) % len(samples))
    )
    try:
        expected = bound.run(few)
        if size == 1:
            found = skeleton.run(few)
        else:
            parts = [skeleton.run(few.part(index, index + 1)) for index in range(size)]
            found = (
                np.concatenate(parts)
                if isinstance(expected, np.ndarray)
                else tuple(map(np.concatenate, zip(*parts, strict=True)))
            )
    except (InputError, ValueError):
        return False
    pairs = [(expected, found)] if isinstance(expected, np.ndarray) else list(zip(expected, found, strict=True))
    return all(
        one.shape == other.shape
        and np.allclose(one, other, rtol=1e-4, atol=1e-4 * max(float(np.abs(one).max()), 1e-30))
        for one, other in pairs
    )
