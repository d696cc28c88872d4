"""Compiled estimate of what wires make of the noise of every cell, line by line.

A line is a ladder: its segments in a row, and at each node a cell that leads to a line across. With the lines across
taken for held, everything about a ladder is known in closed form. Two numbers of it are wanted at each node, the
node's own cell left out: the resistance that a current sees which enters there, and the share of it that reaches the
line's terminals. What the lines across do is in the effective conductances, which are exact: they set the scale.

Conventions as in :mod:`xbarsim.circuit.kernels`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["weigh"]


@njit(cache=True, nogil=True)
def _ladder(cells: Any, segments: Any, terminal: Any, out: Any) -> None:
    """One line; `out` (4, nodes) becomes, for each node without its cell, the resistance seen there, ohm; the share of
    a current that reaches the terminals; and the voltages of the node before and behind, per volt.

    `cells` (nodes,); `segments` (nodes + 1,), or (0,) for a line without resistance, which is joined to its terminals
    by `terminal`, S, inf if there is nothing between.
    """
    nodes = cells.shape[0]
    resistance, share, before, behind = out[0], out[1], out[2], out[3]
    if segments.shape[0] == 0:
        total = 0.0
        for k in range(nodes):
            total += cells[k]
        for k in range(nodes):
            before[k] = behind[k] = 1.0
            if terminal == np.inf:
                resistance[k], share[k] = 0.0, 1.0
                continue
            left = terminal + max(total - cells[k], 0.0)
            resistance[k] = 1.0 / left if left > 0.0 else np.inf
            share[k] = terminal / left if left > 0.0 else 0.0
        return
    # Conductance into each side, and of that what leads to the terminal there.
    side, reaching = segments[0], segments[0]
    for k in range(nodes):
        if k > 0:
            beyond = side + cells[k - 1]
            series = segments[k] + beyond
            ratio = segments[k] / series if series > 0.0 else 0.0
            before[k] = ratio
            side, reaching = ratio * beyond, ratio * reaching
        resistance[k], share[k] = side, reaching
    before[0] = 0.0
    side, reaching = segments[nodes], segments[nodes]
    for k in range(nodes - 1, -1, -1):
        if k < nodes - 1:
            beyond = side + cells[k + 1]
            series = segments[k + 1] + beyond
            ratio = segments[k + 1] / series if series > 0.0 else 0.0
            behind[k] = ratio
            side, reaching = ratio * beyond, ratio * reaching
        total = resistance[k] + side
        resistance[k] = 1.0 / total if total > 0.0 else np.inf
        share[k] = (share[k] + reaching) / total if total > 0.0 else 0.0
    behind[nodes - 1] = 0.0


@njit(cache=True, nogil=True)
def _spread(sources: Any, ladder: Any, power: Any, result: Any) -> None:
    """Sum over all other nodes of a line: ``result[i] = sum_k sources[k] * (voltage at i per volt at k)**power``."""
    nodes = sources.shape[0]
    carried = 0.0
    result[0] = 0.0
    for k in range(1, nodes):
        carried = (carried + sources[k - 1]) * ladder[3, k - 1] ** power
        result[k] = carried
    carried = 0.0
    for k in range(nodes - 2, -1, -1):
        carried = (carried + sources[k + 1]) * ladder[2, k + 1] ** power
        result[k] += carried


@njit(cache=True, nogil=True)
def _gather(values: Any, ladder: Any, result: Any) -> None:
    """What a volt at each node meets elsewhere: ``result[k] = sum_i values[i] * (voltage at i per volt at k)**2``."""
    nodes = values.shape[0]
    carried = 0.0
    result[0] = 0.0
    for k in range(1, nodes):
        carried = ladder[2, k] ** 2 * (carried + values[k - 1])
        result[k] = carried
    carried = 0.0
    for k in range(nodes - 2, -1, -1):
        carried = ladder[3, k] ** 2 * (carried + values[k + 1])
        result[k] += carried


@njit(cache=True, nogil=True)
def _entering(seen: Any, cells: Any, lines: Any, segments: Any, terminal: Any, result: Any) -> None:
    """Currents that enter the lines at each cell of one line across, per volt at that line's terminals.

    What leaves the lines at their terminals is known: `seen`. The rest of what enters a line leaves it through its other
    cells, and lifts all other lines across, which gives some of it back to every line: these are taken together as one
    line.

    `seen` (nodes,), S, the effective conductances; `cells` (nodes, columns), of the lines; `lines` (nodes, 4, columns)
    their ladders; `segments` and `terminal` of the lines across, as of :func:`_ladder`; `result` (nodes, columns), below zero where it is not known.
    """
    nodes, columns = cells.shape
    back = np.zeros(nodes)  # what a volt on all lines across gives to the terminals of each line
    for i in range(nodes):
        for j in range(columns):
            if cells[i, j] > 0.0:
                back[i] += cells[i, j] * lines[i, 1, j] / (1.0 + cells[i, j] * lines[i, 0, j])
    others = columns - 1
    lift, ground = np.zeros(nodes), np.empty(nodes)
    for j in range(columns):
        total, source = (others * terminal if others > 0 else 0.0), 0.0
        for i in range(nodes):
            share = lines[i, 1, j]
            shunt, given = back[i], 0.0
            if share > 0.0 and seen[i, j] > 0.0:
                shunt, given = back[i] / share, seen[i, j] * (1.0 - share) / share
            if segments.shape[0] == 0:
                total += shunt
                source += given
                continue
            # The nodes before are one conductance to ground and one current into it, and pass on a share of both.
            step = others * segments[i]
            if i == 0:
                shunt += step
            elif step > 0.0:
                passed = step / (step + ground[i - 1])
                shunt += passed * ground[i - 1]
                given += passed * lift[i - 1]
            ground[i], lift[i] = shunt, given
        if segments.shape[0] == 0:
            lift[:] = source / total if total > 0.0 else 0.0
        else:
            voltage = 0.0
            for i in range(nodes - 1, -1, -1):
                step = others * segments[i + 1]
                total = ground[i] + step
                voltage = (lift[i] + step * voltage) / total if total > 0.0 else 0.0
                lift[i] = voltage
        for i in range(nodes):
            share = lines[i, 1, j]
            here = seen[i, j] - lift[i] * back[i]
            # Of a cell that conducts next to nothing the rest is no more than the error of this estimate.
            result[i, j] = here / share if share > 0.0 and here > 0.5 * seen[i, j] else -1.0


@njit(cache=True, nogil=True)
def weigh(
    cells: Any, effective: Any, driven: Any, word: Any, word_end: Any, bit: Any, bit_end: Any, filling: Any, terms: Any
) -> None:
    """Variances of an array's cells as its converters see them, each term in place.

    `cells` and `effective` (rows, columns), S; `driven` (rows,); `word` (rows, columns + 1) and `bit` (columns, rows +
    1), or (rows, 0) and (columns, 0) for lines without resistance, which `word_end` (rows,) and `bit_end` (columns,)
    join to their terminals; `filling` the square of the mean input over the mean square; `terms` (3, rows, columns) the
    factors of 1, x and x squared, which become those of the driven rows.
    """
    rows, columns = cells.shape
    on_bit, on_word = np.empty((columns, 4, rows)), np.empty((rows, 4, columns))
    for j in range(columns):
        _ladder(cells[:, j].copy(), bit[j], bit_end[j], on_bit[j])
    for i in range(rows):
        _ladder(cells[i], word[i], word_end[i], on_word[i])
    own, transfer = np.empty((rows, columns)), np.empty((rows, columns))  # voltages of a cell, per volt
    _entering(effective, cells, on_word, bit[0], bit_end[0], transfer)
    turned = np.empty((columns, rows))
    _entering(effective.T.copy(), cells.T.copy(), on_bit, word[0], word_end[0], turned)
    for i in range(rows):
        for j in range(columns):
            g, across, back = cells[i, j], transfer[i, j], turned[j, i]
            loss = g * (on_word[i, 0, j] + on_bit[j, 0, i]) if g > 0.0 else 0.0
            transfer[i, j] = min(across / g, 1.0) if g > 0.0 and across > 0.0 else on_bit[j, 1, i] / (1.0 + loss)
            own[i, j] = min(back / g, 1.0) if g > 0.0 and back > 0.0 else on_word[i, 1, j] / (1.0 + loss)
            if not driven[i]:
                own[i, j] = 0.0
    linear, quadratic = np.empty((rows, columns)), np.empty((rows, columns))
    injected, lifted, spread = np.empty(rows), np.empty(rows), np.empty(rows)
    for j in range(columns):
        ladder = on_bit[j]
        for i in range(rows):
            resistance = ladder[0, i] if cells[i, j] > 0.0 else 0.0
            injected[i] = cells[i, j] * own[i, j] * resistance
        _spread(injected, ladder, 1, lifted)
        _spread(injected**2, ladder, 2, spread)
        wanted, found = 0.0, 0.0
        for i in range(rows):
            if driven[i]:
                wanted += effective[i, j]
            found += cells[i, j] * max(own[i, j] - lifted[i], 0.0)
        scale = wanted / found if found > 0.0 else 1.0
        for i in range(rows):
            if driven[i]:
                alone = own[i, j]
                together = max(alone - lifted[i], 0.0) * scale
                quadratic[i, j] = (1.0 - filling) * (alone**2 + spread[i]) + filling * together**2
                linear[i, j] = max(alone + (1.0 - 2.0 * filling) * (alone - together), 0.0)
            else:  # only the bit line is lifted, and the current goes into the word line as far as that is tied
                loss = cells[i, j] * (on_word[i, 0, j] + ladder[0, i]) if cells[i, j] > 0.0 else 0.0
                tied = on_word[i, 1, j] / (1.0 + loss)
                quadratic[i, j] = ((1.0 - filling) * spread[i] + filling * lifted[i] ** 2) * tied**2
                linear[i, j] = lifted[i] * tied
    undriven = np.zeros((3, columns))
    here, met = np.empty(columns), np.empty(columns)
    count = 0
    for i in range(rows):
        count += 1 if driven[i] else 0
        for power in range(3):
            for j in range(columns):
                factor = 1.0 if power == 0 else (linear[i, j] if power == 1 else quadratic[i, j])
                here[j] = terms[power, i, j] * factor
            _gather(here, on_word[i], met)
            for j in range(columns):
                lift = cells[i, j] * transfer[i, j]
                lift = lift * on_word[i, 0, j] if lift > 0.0 else 0.0
                value = transfer[i, j] ** 2 * here[j] + lift**2 * met[j]
                if driven[i]:
                    terms[power, i, j] = value
                else:
                    terms[power, i, j] = 0.0
                    undriven[power, j] += value
    for power in range(3):
        for i in range(rows):
            if driven[i]:
                for j in range(columns):
                    terms[power, i, j] += undriven[power, j] / count
