"""LSTM, GRU and RNN nodes: products of the inputs and of the hidden state, and digital gates between them.

Gates stand in torch's order (LSTM: input, forget, cell, output; GRU: reset, update, new); a file's weights are put into
it once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from xbarsim.foundation.validation import InputError
from xbarsim.network.onnx.operations.call import Array, Call, Node

__all__ = ["RECURRENT", "Direction", "Recurrent"]

# Where torch's gates stand among those of a file: i o f c, z r h.
_ORDER = {"LSTM": (0, 2, 3, 1), "GRU": (1, 0, 2), "RNN": (0,)}
RECURRENT = tuple(_ORDER)
_ACTIVATIONS = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
_DIRECTIONS = {"forward": ("",), "reverse": ("",), "bidirectional": ("", "_reverse")}

Product = Callable[[Array], Array]


@dataclass(frozen=True, kw_only=True, eq=False)
class Direction:
    """One direction of a recurrent layer.

    Attributes
    ----------
    matrices
        By the name of each product, weights ``(inputs, outputs)`` and bias ``(outputs,)``, in the order of their use.
    backwards
        Whether it begins with the last step.
    peepholes
        Weights from the cell to the gates of an LSTM, input, output and forget, or ``None``.
    """

    matrices: dict[str, tuple[Array, Array]]
    backwards: bool
    peepholes: Array | None


@dataclass(frozen=True, kw_only=True, eq=False)
class Recurrent:
    """A recurrent node.

    Attributes
    ----------
    node
        The node.
    hidden
        Numbers of its state.
    directions
        One or two.
    """

    node: Node
    hidden: int
    directions: tuple[Direction, ...]

    @classmethod
    def of(cls, node: Node, constants: dict[str, Array]) -> Recurrent:
        """The layer that a node and its constants describe.

        Raises
        ------
        InputError
            If it has attributes that are not supported, or weights whose shapes do not fit.
        """
        _check(node)
        names = (*node.inputs, *("",) * 8)
        w, r = constants[names[1]], constants[names[2]]
        order, count = _ORDER[node.op], len(_ORDER[node.op])
        hidden = int(node.attributes.get("hidden_size") or r.shape[-1])
        suffixes = _DIRECTIONS[node.attributes.get("direction", "forward")]
        size = count * hidden
        b = constants[names[3]] if names[3] else np.zeros((len(suffixes), 2 * size), w.dtype)
        wanted = (len(suffixes), size)
        if w.shape[:2] != wanted or r.shape != (*wanted, hidden) or b.shape != (wanted[0], 2 * size) or w.ndim != 3:
            raise InputError(
                f"{node} must have weights for {len(suffixes)} directions and {size} gates, "
                f"got shapes {w.shape}, {r.shape}, {b.shape}"
            )
        peepholes = None
        if node.op == "LSTM" and names[7]:
            if names[7] not in constants:
                raise InputError(f"{node} must have peepholes that depend on no input, got {names[7]!r}")
            peepholes = constants[names[7]]

        def gates(block: Array) -> Array:
            return np.concatenate([block[hidden * gate : hidden * (gate + 1)] for gate in order])

        directions = []
        for index, suffix in enumerate(suffixes):
            ih = gates(w[index]).T, gates(b[index, :size])
            hh = gates(r[index]).T, gates(b[index, size:])
            matrices = {f"{node.name}.ih{suffix}": ih}
            if node.op == "GRU" and not node.attributes.get("linear_before_reset", 0):
                matrices[f"{node.name}.hh{suffix}"] = hh[0][:, : 2 * hidden], hh[1][: 2 * hidden]
                matrices[f"{node.name}.hn{suffix}"] = hh[0][:, 2 * hidden :], hh[1][2 * hidden :]
            else:
                matrices[f"{node.name}.hh{suffix}"] = hh
            directions.append(
                Direction(
                    matrices=matrices,
                    backwards=bool(suffix) or node.attributes.get("direction") == "reverse",
                    peepholes=None if peepholes is None else peepholes[index],
                )
            )
        return cls(node=node, hidden=hidden, directions=tuple(directions))

    def run(self, call: Call, product: Callable[[str, Array], Array]) -> tuple[Array, ...]:
        """The outputs of the node.

        Parameters
        ----------
        call
            Gives inputs, lengths and first states.
        product
            From the name of a product and activations, samples first, to its results.
        """
        samples_first = bool(self.node.attributes.get("layout", 0))
        x = call[0] if samples_first else np.swapaxes(call[0], 0, 1)  # (samples, steps, inputs)
        lengths = call.optional(4)
        lengths = np.full(len(x), x.shape[1]) if lengths is None else lengths.astype(np.int64)
        if lengths.shape != (len(x),) or (len(x) and not 0 <= int(lengths.min()) <= int(lengths.max()) <= x.shape[1]):
            raise InputError(f"{self.node} must have one length of at most {x.shape[1]} for each sample, got {lengths}")
        first_h, first_c = (self._first(call.optional(index), x, samples_first) for index in (5, 6))
        found = [
            self._run_direction(direction, x, lengths, first_h[index], first_c[index], product)
            for index, direction in enumerate(self.directions)
        ]
        every, last_h, last_c = (np.stack(parts) for parts in zip(*found, strict=True))
        # (directions, samples, steps, hidden) and (directions, samples, hidden)
        if samples_first:
            return every.transpose(1, 2, 0, 3), last_h.swapaxes(0, 1), last_c.swapaxes(0, 1)
        return every.transpose(2, 0, 1, 3), last_h, last_c

    def _first(self, given: Array | None, x: Array, samples_first: bool) -> Array:
        shape = len(self.directions), len(x), self.hidden
        if given is None:
            return np.zeros(shape, x.dtype)
        state = np.swapaxes(given, 0, 1) if samples_first else given
        if state.shape != shape:
            raise InputError(f"{self.node} must have first states of shape {shape}, got {state.shape}")
        return state

    def _run_direction(
        self,
        direction: Direction,
        x: Array,
        lengths: Array,
        h: Array,
        c: Array,
        product: Callable[[str, Array], Array],
    ) -> tuple[Array, Array, Array]:
        names = iter(direction.matrices)
        given = product(next(names), np.ascontiguousarray(x))  # (samples, steps, gates)
        products: list[Product] = [lambda state, name=name: product(name, state) for name in names]  # type: ignore[misc]
        step = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}[self.node.op]
        relu = "Relu" in self.node.attributes.get("activations", ())
        every = np.zeros((*x.shape[:2], self.hidden), x.dtype)
        for rows, places, running in _steps(lengths, x.shape[1], direction.backwards):
            new_h, new_c = step(given[rows, places], h, c, products, direction.peepholes, relu)
            whole = bool(running.all())
            h = new_h if whole else np.where(running[:, None], new_h, h)
            c = new_c if whole else np.where(running[:, None], new_c, c)
            every[rows[running], places[running]] = h[running]
        return every, h, c


def _check(node: Node) -> None:
    given, op = node.attributes, node.op
    direction = given.get("direction", "forward")
    if direction not in _DIRECTIONS:
        raise InputError(f"{node} must have a direction of forward, reverse or bidirectional, got {direction!r}")
    for name in ("clip", "input_forget"):
        if given.get(name):
            raise InputError(f"{node} must have no {name}, got {given[name]}")
    activations = tuple(given.get("activations", _ACTIVATIONS[op] * len(_DIRECTIONS[direction])))
    allowed = [_ACTIVATIONS[op] * len(_DIRECTIONS[direction])]
    if op == "RNN":
        allowed.append(("Relu",) * len(_DIRECTIONS[direction]))
    if activations not in allowed:
        raise InputError(f"{node} must have the activations {' or '.join(map(str, allowed))}, got {activations}")


def _steps(lengths: Array, steps: int, backwards: bool) -> Iterator[tuple[Array, Array, Array]]:
    """For each step, samples, the place of each in its sequence, and which of them are not at their end yet."""
    rows = np.arange(len(lengths))
    for step in range(steps):
        running = step < lengths
        places = np.where(running, lengths - 1 - step, 0) if backwards else np.full(len(lengths), step)
        yield rows, places, running


def _lstm(
    given: Array, h: Array, c: Array, products: list[Product], peepholes: Array | None, relu: bool
) -> tuple[Array, Array]:
    i, f, g, o = np.split(given + products[0](h), 4, axis=1)
    if peepholes is not None:
        to_i, to_o, to_f = np.split(peepholes, 3)
        i, f = i + to_i * c, f + to_f * c
    c = expit(f) * c + expit(i) * np.tanh(g)
    if peepholes is not None:
        o = o + to_o * c
    return expit(o) * np.tanh(c), c


def _gru(
    given: Array, h: Array, c: Array, products: list[Product], peepholes: Array | None, relu: bool
) -> tuple[Array, Array]:
    x_r, x_z, x_n = np.split(given, 3, axis=1)
    if len(products) == 1:
        h_r, h_z, h_n = np.split(products[0](h), 3, axis=1)
        r, z = expit(x_r + h_r), expit(x_z + h_z)
        n = np.tanh(x_n + r * h_n)
    else:  # the reset gate stands before the product
        h_r, h_z = np.split(products[0](h), 2, axis=1)
        r, z = expit(x_r + h_r), expit(x_z + h_z)
        n = np.tanh(x_n + products[1](r * h))
    return (h - n) * z + n, c


def _rnn(
    given: Array, h: Array, c: Array, products: list[Product], peepholes: Array | None, relu: bool
) -> tuple[Array, Array]:
    total = given + products[0](h)
    return (np.maximum(total, 0) if relu else np.tanh(total)), c
