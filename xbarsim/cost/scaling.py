"""Power and area of CMOS logic carried from one technology node to another.

Only a component whose card names a node of its own is scaled; nothing else is.

References
----------
A. Stillmaker, B. Baas, Scaling equations for the accurate prediction of CMOS device performance from 180 nm to
7 nm, Integration 58, 2017, pp. 74-81, https://doi.org/10.1016/j.vlsi.2017.02.002. The factors are those that
the Accelergy project's hwcomponents (scaling/techscaling.py) reads from it.
"""

from __future__ import annotations

from itertools import pairwise

from xbarsim.foundation.validation import check_real

__all__ = ["NODES", "area_factor", "energy_factor"]

NODES = (130e-9, 90e-9, 65e-9, 45e-9, 32e-9, 20e-9, 16e-9, 14e-9, 10e-9, 7e-9)
"""Technology nodes of the tables, m, falling."""

# Row: from this node; column: to that node. As printed, so the two directions agree only to their two digits.
_AREA = (
    (1, 0.44, 0.23, 0.16, 0.072, 0.033, 0.03, 0.027, 0.016, 0.0092),
    (2.3, 1, 0.53, 0.35, 0.16, 0.075, 0.067, 0.061, 0.036, 0.021),
    (4.3, 1.9, 1, 0.66, 0.31, 0.14, 0.13, 0.12, 0.068, 0.039),
    (6.4, 2.8, 1.5, 1, 0.46, 0.21, 0.19, 0.17, 0.1, 0.059),
    (14, 6.1, 3.3, 2.2, 1, 0.46, 0.41, 0.38, 0.22, 0.13),
    (30, 13, 7.1, 4.7, 2.2, 1, 0.89, 0.82, 0.48, 0.28),
    (34, 15, 7.9, 5.3, 2.4, 1.1, 1, 0.91, 0.54, 0.31),
    (37, 16, 8.7, 5.8, 2.7, 1.2, 1.1, 1, 0.59, 0.34),
    (63, 28, 15, 9.8, 4.5, 2.1, 1.9, 1.7, 1, 0.58),
    (110, 48, 25, 17, 7.8, 3.6, 3.2, 2.9, 1.7, 1),
)
# Energy of a transition is proportional to a V^2 + b V + c.
_ENERGY = (
    (7.171, -6.709, 2.904),
    (4.762, -4.781, 2.092),
    (3.755, -4.398, 1.975),
    (1.103, -0.362, 0.2767),
    (0.9559, -0.7823, 0.471),
    (0.373, -0.1582, 0.04104),
    (0.2958, -0.1241, 0.03024),
    (0.2363, -0.09675, 0.02239),
    (0.2068, -0.09311, 0.02375),
    (0.1776, -0.09097, 0.02447),
)


def _between(node: float) -> tuple[int, int, float]:
    """The two nodes of the tables around `node`, and how far it is from the first towards the second."""
    check_real("node", node, at_least=NODES[-1], at_most=NODES[0])
    for index, (larger, smaller) in enumerate(pairwise(NODES)):
        if node >= smaller:
            return index, index + 1, (larger - node) / (larger - smaller)
    return len(NODES) - 1, len(NODES) - 1, 0.0


def area_factor(from_node: float, to_node: float) -> float:
    """Area at `to_node` over area at `from_node`.

    Parameters
    ----------
    from_node, to_node
        Technology nodes, m, 7 to 130 nm; linear between those of the table.

    Examples
    --------
    >>> area_factor(65e-9, 45e-9)
    0.66
    """
    if from_node == to_node:
        return 1.0
    i, i2, s = _between(from_node)
    j, j2, t = _between(to_node)
    return float(
        (_AREA[i][j] * (1 - t) + _AREA[i][j2] * t) * (1 - s) + (_AREA[i2][j] * (1 - t) + _AREA[i2][j2] * t) * s
    )


def energy_factor(from_node: float, to_node: float, supply: float = 1.0) -> float:
    """Energy of a transition, and power at one clock, at `to_node` over that at `from_node`.

    Parameters
    ----------
    from_node, to_node
        Technology nodes, m, 7 to 130 nm; linear between those of the table.
    supply
        Supply voltage of both, V.

    Examples
    --------
    >>> round(energy_factor(65e-9, 45e-9), 4)
    0.764
    """
    check_real("supply", supply, at_least=0.3, at_most=1.8)

    def energy(node: float) -> float:
        i, j, t = _between(node)
        at = [a * supply**2 + b * supply + c for a, b, c in (_ENERGY[i], _ENERGY[j])]
        return at[0] * (1 - t) + at[1] * t

    return energy(to_node) / energy(from_node)
