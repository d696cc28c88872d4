"""Cards: cited TOML files, one a source, looked up by name in a folder or by path.

A new card is one TOML file. What stands in it is a dataclass of the room whose card it is.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar

from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, check_path
from xbarsim.foundation.words import one_of

__all__ = ["ORIGINS", "CardFolder", "Origin", "cite"]

Origin = Literal["measured", "fitted", "cited", "derived", "assumed"]
"""Where a value of a card comes from."""

ORIGINS: tuple[Origin, ...] = ("measured", "fitted", "cited", "derived", "assumed")
"""``"measured"`` or ``"fitted"`` on silicon, ``"cited"`` (the source states it as a parameter, or prints it out of a
model of its own), ``"derived"`` from what the source prints, or ``"assumed"`` by us."""

C = TypeVar("C")


def cite(source: str, doi: str | None) -> str:
    """A citation, with its digital object identifier where the text does not hold it yet."""
    return source if doi is None or doi in source else f"{source} doi:{doi}"


@dataclass(frozen=True)
class CardFolder(Generic[C]):
    """The cards of one kind that come with the project.

    Attributes
    ----------
    parameter
        What messages call the parameter that names a card.
    kind
        The dataclass that a card describes; its ``name`` is that of the file.
    folder
        Where the files are.
    ending
        Of the files, beyond the name; begins with a dot and ends in ``.toml``. Cards of several kinds can stand in one
        folder: a name holds no dot, so that ``milo2021.toml`` and ``liu2017.faults.toml`` are told apart.
    undated
        Whether the year at the end of a name may be left out where that leaves one card.
    """

    parameter: str
    kind: type[C]
    folder: Path
    ending: str = ".toml"
    undated: bool = False

    def names(self) -> list[str]:
        """The names of the cards, sorted."""
        names = (path.name.removesuffix(self.ending) for path in self.folder.glob("*" + self.ending))
        return sorted(name for name in names if "." not in name)

    def path(self, name_or_path: str | os.PathLike[str]) -> Path:
        """The file of a card.

        Parameters
        ----------
        name_or_path
            A name, or a path that ends in ``.toml``; whether there is such a file is not looked at.

        Raises
        ------
        InputError
            If no card has that name; the message lists those there are, and the one that was likely meant.
        """
        name = os.fspath(check_path(self.parameter, name_or_path))
        if name.endswith(".toml"):
            return Path(name)
        names = self.names()
        if self.undated:
            dated = [known for known in names if re.fullmatch(re.escape(name) + r"\d{4}", known)]
            name = dated[0] if len(dated) == 1 else name
        if name not in names:
            fitting = one_of(name, names, other="or a path ending in '.toml'")
            raise InputError(f"{self.parameter} must be {fitting}")
        return self.folder / (name + self.ending)

    def load(self, name_or_path: str | os.PathLike[str]) -> C:
        """Read a card; `name_or_path` as for :meth:`path`.

        Raises
        ------
        InputError
            If no card has that name, or a value in it is out of bounds.
        FileFormatError
            If the card cannot be read, is not TOML, has unknown keys or wrong types, or is one of the folder that calls
            itself other than its file.
        """
        path = self.path(name_or_path)
        card: Any = tomlio.load(self.kind, path)
        name = path.name.removesuffix(self.ending)
        if path.parent == self.folder and card.name != name:
            raise FileFormatError(f"name must be {name!r}, as the file is called, got {card.name!r}")
        loaded: C = card
        return loaded
