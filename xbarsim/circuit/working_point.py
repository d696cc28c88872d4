"""Cells that are not straight lines, as the straight lines that serve a whole network best behind wires."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.circuit.cells import CurrentLaw
from xbarsim.circuit.effective import Lines, active_branches, each_tile
from xbarsim.circuit.ladders import stand
from xbarsim.circuit.wires import Wires, check_effective, check_lines
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real

__all__ = ["working_conductance"]

Floats = npt.NDArray[np.float64]


def _strengths(law: CurrentLaw, voltage: float, codes: int, filling: float) -> tuple[float, float, float]:
    """By how much more steeply the current falls with the voltage than a straight line.

    At the read voltage; of the codes that drive a row, weighted by what they carry; and of all rows, also those of code
    0. A share of the rows is driven, with all codes alike, such that the squared mean code is `filling` times its mean
    square.
    """
    volts = voltage * np.arange(codes + 1) / codes
    current, slope = law.evaluate(np.ones(codes + 1), volts)
    carried, steeper = current / current[-1], slope * voltage / current[-1] - 1.0
    driven = min(1.0, filling * (2 * codes + 1) / (1.5 * (codes + 1)))
    own = float((carried * steeper).sum() / carried.sum())
    every = driven * float(steeper[1:].mean()) + (1.0 - driven) * float(steeper[0])
    return float(steeper[-1]), own, every


@entrance
def working_conductance(
    conductance: npt.ArrayLike,
    effective: npt.ArrayLike,
    law: CurrentLaw,
    voltage: float,
    wires: Wires,
    *,
    codes: int = 1,
    rows: npt.ArrayLike | None = None,
    filling: float = 0.3,
) -> Floats:
    """Conductances of straight lines that stand for cells with a law, where wires take some of their voltage.

    A cell that gets less voltage by a share d carries less by (1 + k) d, k being by how much more steeply its current
    falls there than a straight line. What the word line takes is taken from driven cells, whose k is positive if the
    law bends upwards. What lifts a bit line is taken from all of its cells, also those in rows of code 0, which give
    less of it back than a straight line: the mean over them counts, which is small for many inputs. The conductances
    here are those for which :func:`effective_conductance` is right to first order in what the wires take, of the mean
    over inputs.

    Parameters
    ----------
    conductance
        Of the cells, current over voltage at the read voltage, S, (rows, columns) or (tiles, rows, columns).
    effective
        Their :func:`effective_conductance` with the same wires and rows.
    law
        Proportional to the conductance.
    voltage
        The read voltage, V, of the largest code.
    wires
        The surroundings of the cells.
    codes
        The largest code that drives a row, up to 65535; 1 for bits.
    rows
        Mask of the selected rows.
    filling
        As of :func:`effective_variance`: the squared mean of the rows' codes over their mean square, 0 to 1.

    Returns
    -------
    ndarray
        S, shape of `conductance`; rows that are not selected are left as they are.

    Raises
    ------
    InputError
        For input out of bounds, or a law that is not proportional to the conductance.

    Notes
    -----
    An estimate, in time proportional to the number of cells, by :mod:`xbarsim.circuit.ladders`; how good networks are
    with it, ``python -m xbarsim.experiments.studies.current_laws`` says. Without resistances nothing changes.
    """
    check_instance("law", law, CurrentLaw)
    check_instance("wires", wires, Wires)
    if not law.proportional:
        raise InputError(f"law must be proportional to the conductance of a cell, got {law!r}")
    voltage = check_real("voltage", voltage, above=0.0)
    codes = check_integer("codes", codes, at_least=1, at_most=2**16 - 1)
    filling = check_real("filling", filling, at_least=0.0, at_most=1.0)
    given, through = check_effective(conductance, effective)
    height, width = given.shape[-2:]
    driven, sensed = check_lines("rows", rows, height), np.ones(width, np.bool_)
    tiles, seen = given.reshape(-1, height, width), through.reshape(-1, height, width)
    branches = active_branches(tiles, wires, driven)
    lines = Lines.of(wires, driven, sensed)
    standing = np.empty((len(tiles), 2, height, width))

    def one(tile: int) -> None:
        stand(branches[tile], seen[tile], driven, lines.word, lines.drivers, lines.bit, lines.senses, standing[tile])

    each_tile(one, len(tiles))
    standing /= 1.0 + tiles[:, np.newaxis] * wires.access_resistance  # the transistor's share
    standing[:, :, ~driven] = [[[1.0]], [[0.0]]]
    at_point, own, every = _strengths(law, voltage, codes, filling)
    share = np.maximum(standing[:, 0], np.finfo(np.float32).tiny)
    alone = law.relative(voltage * share) / share / law.relative(np.array([voltage]))
    if codes > 1:  # weaker than at the read voltage, as the law bends; to first order if it bends more elsewhere
        alone = alone ** (own / at_point) if abs(own) < abs(at_point) else np.maximum(1.0 - own * (1.0 - share), 0.0)
    lifted = np.maximum(1.0 - every * standing[:, 1], 0.0)
    return np.asarray((tiles * alone * lifted).reshape(given.shape))
