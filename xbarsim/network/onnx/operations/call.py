"""What an operation is given and what it gives: one node of a graph with the arrays of its inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError

__all__ = ["MOST_BYTES", "Array", "Call", "Node", "Operation", "Shape", "Work", "check_size"]

Array = npt.NDArray[Any]
Shape = tuple[int, ...]
Work = Literal["none", "elementwise", "nonlinear", "comparison", "reduction", "normalisation", "product"]

MOST_BYTES = 2**33  # of one value: beyond it a file asks for memory that no network of this simulator needs


@dataclass(frozen=True, kw_only=True, eq=False)
class Node:
    """One node of a graph.

    Attributes
    ----------
    name
        Its own, or that of its first output where it has none.
    op
        Its operation, as ONNX names it.
    inputs, outputs
        Names of values; an input that is left out is ``""``.
    attributes
        By name; numbers, texts, tuples of them, or arrays.
    opset
        Version of the operator set that the file is written in.
    """

    name: str
    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: dict[str, Any]
    opset: int

    def __str__(self) -> str:
        return f"node {self.name!r} ({self.op})"


@dataclass(frozen=True, kw_only=True, eq=False)
class Call:
    """A node with the arrays of its inputs.

    Attributes
    ----------
    node
        The node.
    inputs
        As many as the node has; ``None`` for one that is left out.
    double
        Whether floating numbers are float64 instead of float32.
    """

    node: Node
    inputs: tuple[Array | None, ...]
    double: bool = False

    def __getitem__(self, index: int) -> Array:
        array = self.optional(index)
        if array is None:
            raise InputError(f"{self.node} must have input {index}, got none")
        return array

    def optional(self, index: int) -> Array | None:
        """An input, or ``None`` if it is left out."""
        return self.inputs[index] if index < len(self.inputs) else None

    @property
    def opset(self) -> int:
        """Version of the operator set."""
        return self.node.opset

    def attribute(self, name: str, default: Any = None) -> Any:
        """An attribute, or what it is where the node does not give it."""
        return self.node.attributes.get(name, default)

    def integers(self, index: int) -> tuple[int, ...] | None:
        """An input that holds integers, such as axes or sizes, or ``None`` if it is left out."""
        array = self.optional(index)
        return None if array is None else tuple(int(value) for value in array.reshape(-1))

    def axes(self, index: int, since: int) -> tuple[int, ...] | None:
        """Axes, which are an attribute before version `since` of the operator set and input `index` from then on."""
        if self.opset >= since:
            return self.integers(index)
        axes = self.attribute("axes")
        return None if axes is None else tuple(axes)

    def floating(self, dtype: npt.DTypeLike) -> np.dtype[Any]:
        """The type that numbers of this type have in this run."""
        given = np.dtype(dtype)
        return np.dtype(np.float64) if self.double and given == np.float32 else given

    def refuse(self, wanted: str, value: Any) -> InputError:
        """The error for something of the node that is not supported."""
        return InputError(f"{self.node}: {wanted}, got {value!r}")


@dataclass(frozen=True)
class Operation:
    """How one operation is computed, and what it is counted as.

    Attributes
    ----------
    run
        From a call to the node's outputs: one array, or a tuple of them.
    work
        What it does: ``"none"`` moves data only; ``"elementwise"`` is an addition or multiplication for each output,
        ``"nonlinear"`` a function such as an exponential, ``"comparison"`` a maximum or choice; ``"reduction"`` takes
        an addition for each input, ``"normalisation"`` both passes over its input; ``"product"`` multiplies matrices.
    """

    run: Callable[[Call], Array | tuple[Array, ...]]
    work: Work = "none"


def check_size(node: Node, shape: Shape, itemsize: int = 8) -> None:
    """Refuse a value before it is allocated if it is absurdly large.

    Raises
    ------
    InputError
        If it takes more than 8 GiB, or a dimension is negative.
    """
    if any(size < 0 for size in shape):
        raise InputError(f"{node} must give a shape without negative numbers, got {shape}")
    count = 1
    for size in shape:
        count *= int(size)
    if count * itemsize > MOST_BYTES:
        raise InputError(f"{node} must give at most {MOST_BYTES} bytes, got shape {shape}")
