"""Units of the component cards, read into SI."""

from __future__ import annotations

import re

from xbarsim.foundation.validation import InputError, shown

__all__ = [
    "AREA",
    "BIT_RATE",
    "ENERGY",
    "FREQUENCY",
    "LENGTH",
    "NUMBER",
    "POWER",
    "THROUGHPUT",
    "TIME",
    "Dimension",
    "parse_unit",
]

Dimension = tuple[tuple[str, int], ...]
"""Powers of W, m, s, op (one operation) and bit, sorted by base, those with power zero left out."""

NUMBER: Dimension = ()
POWER: Dimension = (("W", 1),)
AREA: Dimension = (("m", 2),)
LENGTH: Dimension = (("m", 1),)
ENERGY: Dimension = (("W", 1), ("s", 1))
FREQUENCY: Dimension = (("s", -1),)
THROUGHPUT: Dimension = (("op", 1), ("s", -1))
TIME: Dimension = (("s", 1),)
BIT_RATE: Dimension = (("bit", 1), ("s", -1))

_PREFIXES = {"": 0, "f": -15, "p": -12, "n": -9, "u": -6, "m": -3, "k": 3, "M": 6, "G": 9, "T": 12}
_SYMBOLS: dict[str, dict[str, int]] = {
    "W": {"W": 1},
    "J": {"W": 1, "s": 1},
    "Hz": {"s": -1},
    "m": {"m": 1},
    "s": {"s": 1},
    "op": {"op": 1},
    "bit": {"bit": 1},
    "S": {},  # one sample of a converter, not a siemens: cards hold no conductances
}
_FACTOR = re.compile(r"([fpnumkMGT]?)(W|J|Hz|m|s|op|bit|S)([2-9]?)")


def parse_unit(unit: str) -> tuple[float, Dimension]:
    """Read a unit.

    Parameters
    ----------
    unit
        ``"1"``, or a symbol (W, J, Hz, m, s, op, bit, or S for a sample) with an SI prefix in front and a power
        behind, and others to divide by: ``"mW"``, ``"mm2"``, ``"GS/s"``, ``"Gop/s/mm2"``. The prefix is
        raised with its symbol: 1 mm2 is 1e-6 m2. Micro is written u.

    Returns
    -------
    scale
        What one of this unit is in SI.
    dimension
        Its powers of the bases W, m, s, op and bit.

    Raises
    ------
    InputError
        If the unit is not of that form.
    """
    text = unit if isinstance(unit, str) else ""
    if text == "1":
        return 1.0, NUMBER
    exponent, bases = 0, dict.fromkeys(("W", "bit", "m", "op", "s"), 0)
    for position, part in enumerate(text.split("/")):
        match = _FACTOR.fullmatch(part)
        if match is None:
            raise InputError(
                f"unit must be '1' or SI symbols out of {', '.join(_SYMBOLS)} with a prefix and a power, "
                f"as in 'mm2' or 'GS/s', got {shown(unit)}"
            )
        prefix, symbol, power = match.groups()
        sign = (1 if position == 0 else -1) * int(power or 1)
        exponent += sign * _PREFIXES[prefix]
        for base, order in _SYMBOLS[symbol].items():
            bases[base] += sign * order
    return float(f"1e{exponent}"), tuple((base, order) for base, order in sorted(bases.items()) if order)
