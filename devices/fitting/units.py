"""Units in headers of tables: ``conductance (uS)``, ``R / kOhm``, ``g_S``, ``t [ms]``, ``1e3 s``.

Prefixes and symbols are read by their case, for ``s`` is a second and ``S`` a siemens, ``m`` a thousandth and ``M`` a
million.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

__all__ = ["Dimension", "Unit", "example", "parse_unit", "split_header"]

Dimension = Literal["conductance", "resistance", "current", "voltage", "time"]

_SYMBOLS: dict[str, Dimension] = {
    "S": "conductance",
    "siemens": "conductance",
    "Siemens": "conductance",
    "ohm": "resistance",
    "Ohm": "resistance",
    "OHM": "resistance",
    "ohms": "resistance",
    "Ohms": "resistance",
    "\N{GREEK CAPITAL LETTER OMEGA}": "resistance",
    "\N{OHM SIGN}": "resistance",
    "A": "current",
    "V": "voltage",
    "s": "time",
    "sec": "time",
    "seconds": "time",
}
_PREFIXES = {
    "": 1.0,
    "f": 1e-15,
    "p": 1e-12,
    "n": 1e-9,
    "u": 1e-6,
    "\N{MICRO SIGN}": 1e-6,
    "\N{GREEK SMALL LETTER MU}": 1e-6,
    "m": 1e-3,
    "k": 1e3,
    "K": 1e3,
    "M": 1e6,
    "G": 1e9,
    "T": 1e12,
}
_WHOLE = {"min": 60.0, "h": 3600.0, "hours": 3600.0, "d": 86400.0, "days": 86400.0}  # s


@dataclass(frozen=True)
class Unit:
    """A unit that a table states.

    Attributes
    ----------
    text
        As it stands there.
    dimension
        What it is a unit of.
    factor
        How many SI units it is.
    """

    text: str
    dimension: Dimension
    factor: float


def parse_unit(text: str) -> Unit | None:
    """The unit that `text` is, or ``None``."""
    text = text.strip()
    if text in _WHOLE:
        return Unit(text, "time", _WHOLE[text])
    for symbol, dimension in _SYMBOLS.items():
        prefix = text.removesuffix(symbol)
        if len(prefix) < len(text) and prefix in _PREFIXES:
            return Unit(text, dimension, _PREFIXES[prefix])
    return None


def example(dimension: Dimension) -> str:
    """A unit of a dimension, for messages."""
    return {"conductance": "uS", "resistance": "kOhm", "current": "nA", "voltage": "V", "time": "s"}[dimension]


def split_header(header: str) -> tuple[str, str | None, bool]:
    """The name in a header, the text of its unit or ``None``, and whether that text can be nothing else.

    What stands in brackets is a unit, or should be one; a last word, or what stands behind a stroke, is one only if it
    is known, and the caller decides whether a column of that name has one.
    """
    text = header.strip()
    bracket = re.fullmatch(r"(.*?)[\s_]*[(\[{<]\s*([^()\[\]{}<>]*?)\s*[)\]}>]", text)
    if bracket:
        return bracket[1].strip(), bracket[2], True
    loose = re.fullmatch(r"(.+?)(?:\s*/\s*|\s+in\s+|[\s_,-]+)([^\s_,/-]+)", text)
    if loose and parse_unit(loose[2]) is not None:
        return loose[1].strip(), loose[2], False
    return text, None, False
