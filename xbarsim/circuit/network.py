"""The circuit of one array as a list of resistors and cells between named nodes.

Nodes joined by a resistance of zero, or of one that may be neglected, become one, so that an ideal wire, driver or
sense circuit is exact and nothing is divided by zero. The sparse reference and the non-linear solver are written on
this list.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from xbarsim.circuit.wires import Wires
from xbarsim.foundation.validation import InputError

__all__ = ["FloatingNodeError", "Network", "build_network"]


class FloatingNodeError(InputError):
    """A node is connected to no driver and no sense circuit, so that its voltage is undetermined."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Network:
    """Resistors and cells between merged nodes; the nodes with a fixed voltage come last.

    Attributes
    ----------
    word, bit, inner
        Node of each cell's word-line end, bit-line end, and between cell and access transistor (the bit-line node if
        the transistor has no resistance), (rows, columns).
    drivers, senses
        Node of each terminal, (rows,) and (columns,); -1 where the line floats.
    first, second, resistor
        Ends of each resistor, (resistors,), and its conductance, S. Cells are not among them.
    free, nodes
        Number of nodes whose voltage is unknown, and of all.
    """

    word: npt.NDArray[np.int64]
    bit: npt.NDArray[np.int64]
    inner: npt.NDArray[np.int64]
    drivers: npt.NDArray[np.int64]
    senses: npt.NDArray[np.int64]
    first: npt.NDArray[np.int64]
    second: npt.NDArray[np.int64]
    resistor: npt.NDArray[np.float64]
    free: int
    nodes: int

    def laplacian(self, cells: npt.NDArray[np.float64] | None = None) -> sparse.csr_array:
        """The nodal matrix (nodes, nodes), S: currents leaving each node = matrix @ voltages.

        Parameters
        ----------
        cells
            Conductance of each cell (rows, columns), S; ``None`` leaves the cells out.
        """
        first, second, values = self.first, self.second, self.resistor
        if cells is not None:
            first = np.concatenate([first, self.word.ravel()])
            second = np.concatenate([second, self.inner.ravel()])
            values = np.concatenate([values, cells.ravel()])
        off = sparse.coo_array((values, (first, second)), shape=(self.nodes, self.nodes))
        off = (off + off.T).tocsr()
        return sparse.csr_array(sparse.diags_array(off.sum(axis=1)) - off)

    def check_connected(self, cells: npt.NDArray[np.float64]) -> None:
        """Refuse a circuit with a node that no fixed voltage reaches.

        Raises
        ------
        FloatingNodeError
            Naming the first such node.
        """
        graph = self.laplacian(cells)
        graph.eliminate_zeros()
        _, part = connected_components(graph, directed=False)
        reached = np.isin(part, part[self.free :])
        for line, where in (("word", self.word), ("bit", self.bit)):
            lost = ~reached[where]
            if lost.any():
                row, column = (int(k) for k in np.argwhere(lost)[0])
                index = row if line == "word" else column
                raise FloatingNodeError(
                    f"every node must be connected to a driver or a sense circuit, but the {line}-line node at "
                    f"row {row}, column {column} floats: {line} line {index} is not connected and no conducting "
                    f"cell ties it down "
                    f"({int(np.count_nonzero(~reached))} nodes float)"
                )


def build_network(
    shape: tuple[int, int],
    wires: Wires,
    rows: npt.NDArray[np.bool_],
    columns: npt.NDArray[np.bool_],
    *,
    negligible: float = 0.0,
) -> Network:
    """The circuit of an array of `shape` (rows, columns) with the given lines selected.

    Resistances up to `negligible` (ohm) are taken for zero.
    """
    height, width = shape
    count = height * width
    word = np.arange(count).reshape(shape)
    bit = word + count
    inner = bit + count
    drivers = 3 * count + np.arange(height)
    senses = 3 * count + height + np.arange(width)
    total = 3 * count + height + width
    floating = wires.unselected == "floating"
    # A word line of a 1T1R array is tied to its driver even if unselected: its transistors are off anyhow.
    driven = np.ones(height, np.bool_) if wires.access == "1T1R" or not floating else rows
    sensed = columns if floating else np.ones(width, np.bool_)
    driver = wires.driver_resistance + wires.word_line_resistance
    sense = wires.sense_resistance + wires.bit_line_resistance
    parts = [
        (word[:, :-1], word[:, 1:], wires.word_line_resistance),
        (bit[:-1], bit[1:], wires.bit_line_resistance),
        (inner, bit, wires.access_resistance),
        (drivers[driven], word[driven, 0], driver),
    ]
    if wires.drive == "both":
        parts.append((drivers[driven], word[driven, -1], driver))
    if wires.sense in ("near", "both"):
        parts.append((senses[sensed], bit[0, sensed], sense))
    if wires.sense in ("far", "both"):
        parts.append((senses[sensed], bit[-1, sensed], sense))
    first = np.concatenate([np.ravel(a) for a, _, _ in parts])
    second = np.concatenate([np.ravel(b) for _, b, _ in parts])
    resistance = np.concatenate([np.full(np.size(a), r) for a, _, r in parts])

    ideal = resistance <= negligible
    joined = sparse.coo_array((np.ones(np.count_nonzero(ideal)), (first[ideal], second[ideal])), shape=(total, total))
    groups, group = connected_components(joined, directed=False)
    terminals = np.concatenate([drivers[driven], senses[sensed]])
    loose = np.concatenate([drivers[~driven], senses[~sensed]])
    fixed, unused = group[terminals], group[loose]
    rank = np.zeros(groups, np.int64)
    rank[fixed] = 1
    rank[unused] = 2  # a terminal of a floating line belongs to nothing
    number = np.empty(groups, np.int64)
    number[np.argsort(rank, kind="stable")] = np.arange(groups)
    number = number[group]
    return Network(
        word=number[word],
        bit=number[bit],
        inner=number[inner],
        drivers=np.where(driven, number[drivers], -1),
        senses=np.where(sensed, number[senses], -1),
        first=number[first[~ideal]],
        second=number[second[~ideal]],
        resistor=1.0 / resistance[~ideal],
        free=int(np.count_nonzero(rank == 0)),
        nodes=int(np.count_nonzero(rank < 2)),
    )
