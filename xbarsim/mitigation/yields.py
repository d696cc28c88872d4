"""How many spare lines an array needs: the chance that enough of its lines are good."""

from __future__ import annotations

import numpy as np

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real

__all__ = ["spare_line_yield", "spare_lines_needed"]

_MOST_LINES = 2**20


@entrance
def spare_line_yield(lines: int, spares: int, *, rate: float, correlation: float = 0.0) -> float:
    """The chance that an array of `lines` + `spares` lines has `lines` good ones, exactly.

    The number of bad lines is beta-binomial: an array has a rate of its own, as arrays that
    :class:`~xbarsim.devices.StuckLineFaults` draws; where arrays are alike it is binomial.

    Parameters
    ----------
    lines
        How many are needed, 1 or more.
    spares
        How many there are beside these, 0 or more.
    rate
        Probability that a line is bad, over all arrays.
    correlation
        Correlation of two lines of an array, 0 (arrays are alike) to 1 (an array is all good or all bad):
        1 / (1 + concentration) of the beta distribution of rates.

    Raises
    ------
    InputError
        If a number is out of these bounds, or there are more than 1,048,576 lines.

    Examples
    --------
    Word lines of the NeuRRAM chip, a tenth of which is left out on average (preset ``wan2022_lines``): with as many
    spares as are bad on average two arrays of five fail, and it takes far more spares to lose no more than one in a
    hundred than it would take if arrays were alike.

    >>> round(spare_line_yield(230, 26, rate=0.1004, correlation=0.04094), 3)
    0.592
    >>> spare_lines_needed(256, rate=0.1004, correlation=0.04094, target=0.99)
    105
    >>> spare_lines_needed(256, rate=0.1004, target=0.99)
    43
    """
    check_integer("lines", lines, at_least=1, at_most=_MOST_LINES)
    check_integer("spares", spares, at_least=0, at_most=_MOST_LINES - lines)
    rate = check_real("rate", rate, at_least=0.0, at_most=1.0)
    correlation = check_real("correlation", correlation, at_least=0.0, at_most=1.0)
    if rate in (0.0, 1.0) or correlation == 1:
        return 1.0 - rate
    # The law as the ratio of one number's probability to that of the number before. In the correlation r instead of
    # the parameters p (1 - r) / r and (1 - p) (1 - r) / r it holds for r = 0 too, and no large numbers cancel.
    bad, good, total = rate * (1 - correlation), (1 - rate) * (1 - correlation), lines + spares
    drawn = np.arange(total) * correlation
    none = np.log(np.divide(drawn + good, drawn + bad + good)).sum()
    k = np.arange(spares, dtype=np.float64)
    ratio = (total - k) * (k * correlation + bad) / ((k + 1) * ((total - k - 1) * correlation + good))
    logarithms = none + np.concatenate([[0.0], np.cumsum(np.log(ratio))])
    return min(1.0, float(np.exp(logarithms).sum()))


@entrance
def spare_lines_needed(lines: int, *, rate: float, correlation: float = 0.0, target: float, at_most: int = 4096) -> int:
    """The fewest spares with which an array has `lines` good lines with a chance of `target` or more.

    Parameters
    ----------
    lines, rate, correlation
        As for :func:`spare_line_yield`.
    target
        The chance, 0 to 1.
    at_most
        The most spares that are tried.

    Raises
    ------
    InputError
        If a number is out of bounds, or `at_most` spares do not reach the target.
    """
    target = check_real("target", target, at_least=0.0, at_most=1.0)
    check_integer("at_most", at_most, at_least=0, at_most=2**16)

    def reached(spares: int) -> float:
        return spare_line_yield(lines, spares, rate=rate, correlation=correlation)

    if reached(at_most) < target:
        raise InputError(
            f"target must be <= {reached(at_most):.6g}, which {at_most} spares beside {lines} lines reach, "
            f"got {target!r}"
        )
    low, high = 0, at_most  # more spares never do worse: halve the range
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if reached(middle) >= target else (middle + 1, high)
    return low
