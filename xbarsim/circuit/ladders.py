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

from xbarsim.foundation.compiling import kernel

__all__ = ["stand", "weigh"]


@kernel()
def _ladder(cells: Any, segments: Any, terminal: Any, out: Any) -> None:
    """What is known of each node of one line without its own cell.

    `cells` (nodes,); `segments` (nodes + 1,), or (0,) for a line without resistance, which is joined to its terminals
    by `terminal`, S, inf if there is nothing between; `out` (4, nodes) is written: the resistance seen at the node,
    ohm; the share of a current that reaches the terminals; and the voltages of the node before and behind, per volt.
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


@kernel()
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


@kernel()
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


@kernel()
def _all_but_one(segments: Any, terminals: Any) -> Any:
    """All lines of one direction but one side by side: their segments and what joins them to their terminals."""
    lines = segments.shape[0]
    share = (lines - 1) / lines
    return segments.sum(axis=0) * share, (terminals.sum() * share if lines > 1 else 0.0)


@kernel()
def _entering(seen: Any, cells: Any, lines: Any, segments: Any, terminal: Any, result: Any) -> None:
    """Currents that enter lines at each cell, per volt at the terminals of the line across that the cell leads to.

    What leaves the lines at their own terminals is known: `seen`. The rest of what enters a line leaves it through its
    other cells, and lifts all other lines across, which gives some of it back to every line: these are taken together
    as one line.

    `seen` (nodes, columns), S, the effective conductances; `cells` (nodes, columns), of the lines; `lines` (nodes, 4,
    columns) their ladders; `segments` and `terminal` of all other lines across, as of :func:`_ladder`; `result` (nodes,
    columns), below zero where it is not known.
    """
    nodes, columns = cells.shape
    back = np.zeros(nodes)  # what a volt on all lines across gives to the terminals of each line
    for i in range(nodes):
        for j in range(columns):
            if cells[i, j] > 0.0:
                back[i] += cells[i, j] * lines[i, 1, j] / (1.0 + cells[i, j] * lines[i, 0, j])
    lift, ground = np.zeros(nodes), np.empty(nodes)
    for j in range(columns):
        total, source = terminal, 0.0
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
            step = segments[i]
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
                step = segments[i + 1]
                total = ground[i] + step
                voltage = (lift[i] + step * voltage) / total if total > 0.0 else 0.0
                lift[i] = voltage
        for i in range(nodes):
            share = lines[i, 1, j]
            here = seen[i, j] - lift[i] * back[i]
            # Of a cell that conducts next to nothing the rest is no more than the error of this estimate.
            result[i, j] = here / share if share > 0.0 and here > 0.5 * seen[i, j] else -1.0


@kernel()
def _reached(cells: Any, entering: Any, on_word: Any, on_bit: Any, driven: Any, transfer: Any, own: Any) -> None:
    """Voltages across each cell (rows, columns): `transfer` with a volt at its own sense circuit, `own` at its driver.

    `entering` (2, ...) the currents that enter the word lines and the bit lines then, where they are known, both (rows,
    columns), the second turned; else the two ladders that meet at the cell answer, each as if it were alone.
    """
    rows, columns = cells.shape
    into_word, into_bit = entering
    for i in range(rows):
        for j in range(columns):
            g, word, bit = cells[i, j], into_word[i, j], into_bit[j, i]
            loss = g * (on_word[i, 0, j] + on_bit[j, 0, i]) if g > 0.0 else 0.0
            transfer[i, j] = min(word / g, 1.0) if g > 0.0 and word > 0.0 else on_bit[j, 1, i] / (1.0 + loss)
            own[i, j] = min(bit / g, 1.0) if g > 0.0 and bit > 0.0 else on_word[i, 1, j] / (1.0 + loss)
            if not driven[i]:
                own[i, j] = 0.0


@kernel()
def _standing(
    cells: Any, effective: Any, driven: Any, own: Any, on_word: Any, on_bit: Any, filling: Any, powers: Any
) -> None:
    """What stands across each cell, rows driven together: `powers` (3, rows, columns), the factors of its noise.

    Those of the zeroth, first and second power of the code. The bit line of a cell is lifted by all rows that are
    driven; their currents together are known, and set the scale.
    """
    rows, columns = cells.shape
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
                found += cells[i, j] * (own[i, j] - lifted[i])
            elif cells[i, j] > 0.0:  # a line that is tied takes current from a bit line that is lifted
                loss = cells[i, j] * (on_word[i, 0, j] + ladder[0, i])
                lifted[i] *= on_word[i, 1, j] / (1.0 + loss)
                spread[i] *= (on_word[i, 1, j] / (1.0 + loss)) ** 2
                found -= cells[i, j] * lifted[i]
        scale = wanted / found if wanted > 0.0 and found > 0.0 else 1.0
        for i in range(rows):
            powers[0, i, j] = 1.0
            if driven[i]:
                alone = own[i, j]
                together = max(alone - lifted[i], 0.0) * scale
                powers[1, i, j] = max(alone + (1.0 - 2.0 * filling) * (alone - together), 0.0)
                powers[2, i, j] = (1.0 - filling) * (alone**2 + spread[i]) + filling * together**2
            else:
                powers[1, i, j] = lifted[i]
                powers[2, i, j] = (1.0 - filling) * spread[i] + filling * lifted[i] ** 2


@kernel()
def _look(
    cells: Any, effective: Any, driven: Any, word: Any, word_end: Any, bit: Any, bit_end: Any, filling: Any
) -> Any:
    """The ladders of all word lines, what :func:`_reached` says of every cell, and what :func:`_standing` says.

    Arguments as of :func:`weigh`.
    """
    rows, columns = cells.shape
    on_bit, on_word = np.empty((columns, 4, rows)), np.empty((rows, 4, columns))
    turned, turned_effective = cells.T.copy(), effective.T.copy()
    for j in range(columns):
        _ladder(turned[j], bit[j], bit_end[j], on_bit[j])
    for i in range(rows):
        _ladder(cells[i], word[i], word_end[i], on_word[i])
    into_word, into_bit = np.empty((rows, columns)), np.empty((columns, rows))
    bits, bits_end = _all_but_one(bit, bit_end)
    words, words_end = _all_but_one(word, word_end)
    _entering(effective, cells, on_word, bits, bits_end, into_word)
    _entering(turned_effective, turned, on_bit, words, words_end, into_bit)
    transfer, own, powers = np.empty((rows, columns)), np.empty((rows, columns)), np.empty((3, rows, columns))
    _reached(cells, (into_word, into_bit), on_word, on_bit, driven, transfer, own)
    _standing(cells, effective, driven, own, on_word, on_bit, filling, powers)
    return on_word, transfer, own, powers


@kernel()
def stand(
    cells: Any, effective: Any, driven: Any, word: Any, word_end: Any, bit: Any, bit_end: Any, result: Any
) -> None:
    """Voltages across an array's cells per volt of their drivers.

    Arguments as of :func:`weigh`; `result` (2, rows, columns) is written: the voltage with the other drivers at 0 V,
    and by how much they lower it together; 1 and 0 in rows that are not driven.
    """
    rows, columns = cells.shape
    _, _, own, powers = _look(cells, effective, driven, word, word_end, bit, bit_end, 0.0)
    for i in range(rows):
        for j in range(columns):
            result[0, i, j], result[1, i, j] = 1.0, 0.0
            if driven[i]:  # without filling the first power is what stands alone, and this difference once more
                result[0, i, j], result[1, i, j] = own[i, j], powers[1, i, j] - own[i, j]


@kernel()
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
    on_word, transfer, _, powers = _look(cells, effective, driven, word, word_end, bit, bit_end, filling)
    count, undriven = driven.sum(), np.zeros((3, columns))
    here, met = np.empty(columns), np.empty(columns)
    for power in range(3):
        for i in range(rows):
            for j in range(columns):
                here[j] = terms[power, i, j] * powers[power, i, j]
            _gather(here, on_word[i], met)  # of the noise of cells beside it in its row
            for j in range(columns):
                lift = cells[i, j] * transfer[i, j]
                lift = lift * on_word[i, 0, j] if lift > 0.0 else 0.0
                value = transfer[i, j] ** 2 * here[j] + lift**2 * met[j]
                terms[power, i, j] = value if driven[i] else 0.0
                if not driven[i]:
                    undriven[power, j] += value
        for i in range(rows):
            for j in range(columns):
                if driven[i]:
                    terms[power, i, j] += undriven[power, j] / count
