"""The component cards that come with the project: a new one is a TOML file in ``cards/`` and touches nothing else."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Protocol, TypeVar

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance

__all__ = ["ADC_ENDING", "HARDWARE_ENDING", "card_names", "load_card"]

FOLDER = Path(__file__).parent / "cards"
HARDWARE_ENDING = ".toml"
ADC_ENDING = ".adc.toml"


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Card = TypeVar("_Card", bound=_Named)


def card_names(ending: str) -> list[str]:
    """The names of the cards whose files have that ending, sorted. No name has a dot in it."""
    names = (path.name.removesuffix(ending) for path in FOLDER.glob(f"*{ending}"))
    return sorted(name for name in names if "." not in name)


def load_card(kind: type[_Card], what: str, name_or_path: str | os.PathLike[str], ending: str) -> _Card:
    """Read a card.

    Parameters
    ----------
    kind
        The class of the card.
    what
        What messages call it.
    name_or_path
        A name from :func:`card_names`, which may be given without its year, or a path ending in ``.toml``.
    ending
        How the files of such cards end.

    Raises
    ------
    InputError
        If no card has that name, or a value in it is out of bounds.
    FileFormatError
        If the card cannot be read, is not TOML, has unknown keys or wrong types, or another name than its file.
    """
    check_instance(what, name_or_path, (str, os.PathLike))
    name = os.fspath(name_or_path)
    if name.endswith(".toml"):
        return tomlio.load(kind, name)
    known = card_names(ending)
    dated = [each for each in known if re.fullmatch(re.escape(name) + r"\d{4}", each)]
    name = dated[0] if len(dated) == 1 else name
    if name not in known:
        raise InputError(
            f"{what} must be one of {', '.join(map(repr, known))}, or a path ending in '.toml', got {name!r}"
        )
    card = tomlio.load(kind, FOLDER / f"{name}{ending}")
    if card.name != name:
        raise FileFormatError(f"name must be {name!r}, as the file is called, got {card.name!r}")
    return card
