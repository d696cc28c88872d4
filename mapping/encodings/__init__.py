"""How a signed weight becomes the levels of a few cells: one file an encoding."""

from __future__ import annotations

from xbarsim.mapping.encodings.balanced import Balanced
from xbarsim.mapping.encodings.base import Encoding, PairEncoding
from xbarsim.mapping.encodings.differential import Differential
from xbarsim.mapping.encodings.duplicated_differential import DuplicatedDifferential
from xbarsim.mapping.encodings.duplicated_top import DuplicatedTop
from xbarsim.mapping.encodings.offset import Offset
from xbarsim.mapping.encodings.two_column import TwoColumn
from xbarsim.mapping.encodings.unary import Unary

__all__ = [
    "ENCODINGS",
    "Balanced",
    "Differential",
    "DuplicatedDifferential",
    "DuplicatedTop",
    "Encoding",
    "Offset",
    "PairEncoding",
    "TwoColumn",
    "Unary",
]

#: The encodings that come with the project, by name.
ENCODINGS: dict[str, type[Encoding]] = {
    kind.name: kind
    for kind in (TwoColumn, Differential, Balanced, Offset, Unary, DuplicatedTop, DuplicatedDifferential)
}
