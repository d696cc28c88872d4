"""Node voltages to twice the digits of float64, so that no wire is too good to be solved.

A word line of 1e-12 ohm behind a driver of 1 kohm has node voltages that agree in sixteen digits, and the current in
its segments is their difference: no float64 holds both. Three things make the answer exact nevertheless.

- Voltages are kept as unevaluated sums of two float64 (T. J. Dekker, Numerische Mathematik 18, 1971,
  doi:10.1007/BF01397083), and only differences of them are formed.
- The currents that the voltages leave over at each node are removed again and again by an ordinary factorisation
  (iterative refinement, J. H. Wilkinson, Rounding Errors in Algebraic Processes, 1963).
- Where conductances are so far apart that the factorisation itself would forget the small ones, the nodes joined by
  great ones move first as one, then within each such group against one node of it. Either problem is well
  conditioned, and the further apart the conductances are, the less the two have to do with each other.

What is left over bounds the error. A current fed into one node of a network of resistors between fixed voltages
divides on its way out and passes no branch with more than itself, so no current is wrong by more than the sum of what
is left over at all nodes; two states of cells whose current rises with the voltage differ as such a network does. What
is left over within a group, of which the group as a whole keeps nothing, flows through its great conductances alone: it
moves its nodes by that current over the least of them, and so a cell's current by the cell's slope times that voltage.
Where this is more than the current itself, the first bound is the better one.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import sparse
from scipy.sparse.csgraph import connected_components

from xbarsim.circuit.reference import factorise

__all__ = ["Branches", "Levels", "Voltages", "settle"]

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

_SPAN = 1e8  # conductances this far apart are factorised together
_GAP = 1e3  # groups are told apart by at least this ratio
_MOST_SWEEPS = 60


class Branches(NamedTuple):
    """What joins the nodes: ends (branches,) and conductances (branches,), S, above 0."""

    first: Integers
    second: Integers
    conductance: Floats


class Voltages(NamedTuple):
    """Of every node (nodes,), V: the sum of both, of which `high` is the nearest float64."""

    high: Floats
    low: Floats

    def across(self, first: Any, second: Any) -> Floats:
        """Voltages of some nodes against others, V, each with its leading digits right."""
        a, b = self.high[first], -self.high[second]
        total = a + b
        part = total - a
        return np.asarray(total + (((a - (total - part)) + (b - part)) + (self.low[first] - self.low[second])))

    def plus(self, step: Floats, low: Floats | float = 0.0) -> Voltages:
        """These voltages moved by `step` + `low`."""
        total = self.high + step
        part = total - self.high
        rest = ((self.high - (total - part)) + (step - part)) + (self.low + low)
        high = total + rest
        return Voltages(high, rest - (high - total))


def _thresholds(conductance: Floats) -> list[float]:
    """Where to part conductances whose span is too wide: in the widest gaps, highest first."""
    values = np.unique(conductance)
    waiting, found = [(0, values.size)] if values.size else [], []
    while waiting:
        first, stop = waiting.pop()
        if values[stop - 1] <= _SPAN * values[first]:
            continue
        ratios = values[first + 1 : stop] / values[first : stop - 1]
        widest = int(np.argmax(ratios))
        if ratios[widest] >= _GAP:
            cut = first + 1 + widest
            found.append(float(values[cut]))
            waiting += [(first, cut), (cut, stop)]
    return sorted(found, reverse=True)


class _Level(NamedTuple):
    """Groups of nodes that move as one, and the factorised conductances between those that are not held.

    `loose` are the groups without a fixed voltage; `within` is the least conductance that joins them to larger groups,
    infinite where there are none.
    """

    group: Integers
    crossing: npt.NDArray[np.bool_]
    loose: npt.NDArray[np.bool_]
    moving: Integers
    factors: Any
    within: float

    def left_over(self, branches: Branches, currents: Floats) -> Floats:
        """Net current leaving each group, (groups,), A, without that between its own nodes."""
        count, flowing = self.loose.size, currents[self.crossing]
        leaving = np.bincount(self.group[branches.first[self.crossing]], flowing, count)
        return np.asarray(leaving - np.bincount(self.group[branches.second[self.crossing]], flowing, count))


class Levels:
    """The factorisations of one network, from whole groups down to single nodes.

    Parameters
    ----------
    branches
        The network.
    free, nodes
        Number of nodes whose voltage is unknown, and of all; those with a fixed voltage come last.
    slopes
        Sum of the slopes of all cells' currents, S.
    """

    def __init__(self, branches: Branches, free: int, nodes: int, slopes: float) -> None:
        first, second, conductance = branches
        groups: list[Integers] = [np.arange(nodes)]
        thresholds = _thresholds(conductance)
        for threshold in thresholds:
            stiff = conductance >= threshold
            joined = sparse.coo_array(
                (np.ones(np.count_nonzero(stiff)), (first[stiff], second[stiff])), shape=(nodes, nodes)
            )
            groups.append(connected_components(joined, directed=False)[1].astype(np.int64))
        self.free, self.nodes, self.branches, self.slopes = free, nodes, branches, slopes
        self.coarsest = groups[-1]
        self.levels: list[_Level] = []
        for index in reversed(range(len(groups))):
            group = groups[index]
            count = int(group.max()) + 1
            held = np.zeros(count, np.bool_)
            held[group[free:]] = True
            loose = ~held
            if index + 1 < len(groups):
                # One member of each larger group without a fixed voltage is held: the group itself has moved before.
                larger = groups[index + 1]
                tied = np.zeros(int(larger.max()) + 1, np.bool_)
                tied[larger[free:]] = True
                one = np.unique(larger, return_index=True)[1]
                held[group[one[~tied]]] = True
            moving = np.flatnonzero(~held)
            a, b = group[first], group[second]
            crossing = a != b
            if not moving.size:
                continue
            off = sparse.coo_array((conductance[crossing], (a[crossing], b[crossing])), shape=(count, count))
            off = (off + off.T).tocsr()
            matrix = sparse.csr_array(sparse.diags_array(off.sum(axis=1)) - off)
            within = thresholds[index] if index < len(thresholds) else np.inf
            factors = factorise(matrix[moving][:, moving])
            self.levels.append(_Level(group, crossing, loose, moving, factors, within))

    def start(self, fixed: Floats) -> Voltages:
        """Zero, but for the fixed voltages (nodes,) and the nodes of their groups."""
        voltages = np.zeros(self.nodes)
        held = np.arange(self.free, self.nodes)
        of_group = np.full(int(self.coarsest.max()) + 1, -1)
        of_group[self.coarsest[held]] = held
        source = of_group[self.coarsest]
        voltages[source >= 0] = fixed[source[source >= 0]]
        voltages[held] = fixed[held]
        return Voltages(voltages, np.zeros(self.nodes))

    def currents(self, voltages: Voltages) -> Floats:
        """Through each branch, A."""
        return self.branches.conductance * voltages.across(self.branches.first, self.branches.second)

    def sweep(self, voltages: Voltages, base: Floats | float) -> Voltages:
        """Move each level's groups so that nothing is left over at them; `base` as in :func:`settle`."""
        for level in self.levels:
            leaving = level.left_over(self.branches, self.currents(voltages) + base)
            step = np.zeros(leaving.size)
            step[level.moving] = level.factors.solve(-leaving[level.moving])
            voltages = voltages.plus(step[level.group])
        return voltages

    def left_over(self, currents: Floats) -> list[Floats]:
        """By how much the currents of cells may be wrong, A, for what is left over at each group of each level."""
        wrong = []
        for level in self.levels:
            leaving = np.abs(level.left_over(self.branches, currents)[level.loose])
            if np.isfinite(level.within):  # within groups; else between them
                leaving = leaving * min(1.0, self.nodes * (self.slopes / level.within))
            wrong.append(leaving)
        return wrong


def settle(levels: Levels, voltages: Voltages, base: Floats | float = 0.0, *, reduction: float = 0.0) -> Voltages:
    """Solve a linear network: voltages at which the free nodes gain and lose nothing, as nearly as can be.

    Parameters
    ----------
    levels
        The network.
    voltages
        Where to start; those of fixed nodes stay.
    base
        Currents (branches,), A, that flow through the branches beside those of the voltages.
    reduction
        Stop once what is left over has fallen by this factor at every level.
    """

    def missing(at: Voltages) -> Floats:
        with np.errstate(invalid="ignore", over="ignore"):
            return np.array([wrong.sum() for wrong in levels.left_over(levels.currents(at) + base)])

    best, least = voltages, missing(voltages)
    enough = reduction * least
    lowest = least
    idle = 0
    for _ in range(_MOST_SWEEPS):
        if (least <= enough).all() or idle == 2:
            break
        with np.errstate(invalid="ignore", over="ignore"):
            voltages = levels.sweep(voltages, base)
        now = missing(voltages)
        if not np.isfinite(now).all():
            break
        idle = 0 if (now < 0.5 * lowest).any() else idle + 1
        lowest = np.minimum(lowest, now)
        if now.sum() < least.sum():
            best, least = voltages, now
    return best
