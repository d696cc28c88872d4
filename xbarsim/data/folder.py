"""Where the data folder is."""

from __future__ import annotations

import os
from pathlib import Path

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_path

__all__ = ["data_file", "data_folder"]

_VARIABLE = "XBARSIM_DATA"
_PACKAGE = Path(__file__).resolve().parents[1]


@entrance
def data_folder() -> Path:
    """The folder that holds the data sets, measured chips and networks trained by others.

    The environment variable ``XBARSIM_DATA`` names it. Without one it is ``shared/data`` in the checkout that xbarsim
    is imported from, or in the folder that holds the checkout. No other place is looked at: neither the working folder
    nor the folders above, whose ``shared/data`` may be anybody's; an installed xbarsim has none until it is named.

    Raises
    ------
    FileNotFoundError
        Naming every place looked at.
    """
    named = os.environ.get(_VARIABLE)
    if named:
        folder = Path(named)
        if folder.is_dir():
            return folder
        raise FileNotFoundError(f"{_VARIABLE} must name the data folder, but {named!r} is not a folder")
    checkout = _PACKAGE.parent
    if not (checkout / "pyproject.toml").is_file():
        raise FileNotFoundError(f"no data folder: set {_VARIABLE} to it (xbarsim does not run from a checkout)")
    places = [folder / "shared" / "data" for folder in (checkout, checkout.parent)]
    for place in places:
        if place.is_dir():
            return place
    raise FileNotFoundError(f"no data folder: set {_VARIABLE} to it, or put it at {' or '.join(map(str, places))}")


@entrance
def data_file(*parts: str) -> Path:
    """The path of a file in the data folder, such as ``data_file("rram", "relax_techB.npz")``.

    Raises
    ------
    FileNotFoundError
        If there is no data folder, or it has no such file.
    """
    for part in parts:
        check_path("parts", part)
    path = data_folder().joinpath(*parts)
    if not path.is_file():
        raise FileNotFoundError(f"the data folder has no file {'/'.join(parts)}: looked for {path}")
    return path
