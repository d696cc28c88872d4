"""Numbers with a unit and a source: what component cards are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from xbarsim.cost.units import Dimension, parse_unit
from xbarsim.foundation.cards import ORIGINS, Origin
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real

__all__ = [
    "Amount",
    "Reference",
    "Series",
    "SourcedValue",
    "check_dimension",
    "check_sources",
    "check_text",
]


def check_text(name: str, value: object) -> None:
    """Refuse anything but a text with a character in it."""
    check_instance(name, value, str)
    if not str(value).strip():
        raise InputError(f"{name} must be a non-empty text, got {value!r}")


def check_dimension(name: str, unit: str, dimension: Dimension, example: str) -> None:
    """Refuse a unit of another dimension."""
    if parse_unit(unit)[1] != dimension:
        raise InputError(f"{name}.unit must be a unit like {example!r}, got {unit!r}")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """A number with its unit, as printed in the source.

    Attributes
    ----------
    value
        The number, >= 0, in `unit`.
    unit
        See :func:`xbarsim.cost.units.parse_unit`.
    """

    value: float
    unit: str

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("value", self.value, at_least=0.0)
        parse_unit(self.unit)

    @property
    def si(self) -> float:
        """The value in SI units."""
        return self.value * parse_unit(self.unit)[0]


@dataclass(frozen=True, kw_only=True)
class SourcedValue:
    """A number with its unit and where it comes from.

    Attributes
    ----------
    value, unit
        As in :class:`Amount`.
    origin
        ``"measured"`` or ``"fitted"`` on silicon, ``"cited"`` (the source prints it, mostly out of a model of
        its own), ``"derived"`` from what the source prints, or ``"assumed"`` by us.
    source
        Key of a :class:`Reference` of the card.
    note
        Where in the source it stands and what was done to it.
    """

    value: float
    unit: str
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("value", self.value, at_least=0.0)
        parse_unit(self.unit)
        check_choice("origin", self.origin, ORIGINS)
        check_text("source", self.source)

    @property
    def si(self) -> float:
        """The value in SI units."""
        return self.value * parse_unit(self.unit)[0]


@dataclass(frozen=True, kw_only=True)
class Series:
    """Numbers of one unit and one source; attributes as :class:`SourcedValue`, with `values` for `value`."""

    values: tuple[float, ...]
    unit: str
    origin: Origin
    source: str
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_instance("values", self.values, tuple)
        for index, value in enumerate(self.values):
            check_real(f"values[{index}]", value, above=0.0)
        for index, (lower, upper) in enumerate(pairwise(self.values), 1):
            check_real(f"values[{index}]", upper, at_least=lower)
        parse_unit(self.unit)
        check_choice("origin", self.origin, ORIGINS)
        check_text("source", self.source)

    @property
    def si(self) -> tuple[float, ...]:
        """The values in SI units."""
        scale = parse_unit(self.unit)[0]
        return tuple(value * scale for value in self.values)


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A source.

    Attributes
    ----------
    key
        What the values of the card call it.
    citation
        Authors, title, venue, pages, as text.
    author, title, venue, year
        The same in parts, for BibTeX: authors joined by ``and``; ``None`` where unknown.
    doi
        Digital object identifier, or ``None`` where it has none.
    note
        Which version was used and how it was read.
    """

    key: str
    citation: str
    author: str | None = None
    title: str | None = None
    venue: str | None = None
    year: int | None = None
    doi: str | None = None
    note: str = ""

    def __post_init__(self) -> None:
        check_fields(self)
        check_text("key", self.key)
        check_text("citation", self.citation)
        for name in ("author", "title", "venue", "doi"):
            value = getattr(self, name)
            if value is not None:
                check_text(f"{self.key}: {name}", value)
        if self.year is not None:
            check_integer(f"{self.key}: year", self.year, at_least=1800, at_most=2200)

    def __str__(self) -> str:
        text = f"[{self.key}] {self.citation}"
        if self.doi is not None:
            text += f" doi:{self.doi}"
        return f"{text} ({self.note})" if self.note else text

    def bibtex(self) -> str:
        """The reference as a BibTeX entry."""
        fields: dict[str, Any] = {
            "author": self.author,
            "title": None if self.title is None else f"{{{self.title}}}",
            "howpublished": self.venue if self.title is not None else self.citation,
            "year": self.year,
            "doi": self.doi,
        }
        lines = [f"  {name} = {{{value}}}" for name, value in fields.items() if value is not None]
        return f"@misc{{{self.key},\n" + ",\n".join(lines) + "\n}"


def check_sources(values: Iterable[tuple[str, str]], references: Sequence[Reference]) -> None:
    """Refuse a card of which a value has a source that is not among its references.

    Parameters
    ----------
    values
        Name and source of each.
    references
        Those of the card.

    Raises
    ------
    InputError
        Naming the value, or keys of references that come twice.
    """
    keys = [reference.key for reference in references]
    if len(set(keys)) < len(keys):
        raise InputError(f"references must have different keys, got {', '.join(map(repr, keys))}")
    for name, source in values:
        check_choice(f"{name}: source", source, keys)
