"""Networks from ONNX files on crossbars: the products of a file found, and what is left of it counted."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np

from xbarsim.cost import DigitalUse
from xbarsim.design import Design
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.network.lowered import Lowered, NotMapped
from xbarsim.network.mapped import MappedNetwork
from xbarsim.network.onnx.constants import fold_constants
from xbarsim.network.onnx.counting import count, of_shapes
from xbarsim.network.onnx.graph import Graph, read_graph
from xbarsim.network.onnx.interpreter import Interpreter
from xbarsim.network.onnx.operations.call import Array, Call
from xbarsim.network.onnx.patterns import PRODUCT_OPS, fold_patterns
from xbarsim.network.onnx.products import products_of
from xbarsim.network.onnx.recurrent import RECURRENT
from xbarsim.network.onnx.skeleton import GraphSkeleton
from xbarsim.network.pipeline import check_varied, map_lowered
from xbarsim.network.ranges import InputRange, RangeName, as_input_range
from xbarsim.network.rescale import Rescale
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import check_fit

__all__ = ["lower_file", "map_onnx"]

_COUNTED = 64  # samples that digital operations are counted on, as many as the calibration runs at a time


@entrance
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


@entrance
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
