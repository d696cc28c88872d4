"""``xbarsim merge``: stores brought together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.foundation.validation import FileFormatError

__all__ = ["merge"]


def merge(
    target: Annotated[
        Path, typer.Argument(help="Store that takes over what the others hold; made where it does not exist.")
    ],
    sources: Annotated[list[Path], typer.Argument(help="Stores, such as those of the parts of a job array.")],
) -> None:
    """Bring stores together: the union of their dies, none twice."""
    from xbarsim.sweep.store import Store

    for source in sources:
        if not source.is_file():
            raise FileFormatError(f"cannot read store {source}: there is no such file")
    existed = target.exists()
    try:
        with Store(target) as kept:
            new = kept.merge(sources)
            typer.echo(f"{kept.count()} dies in {target}, {new} of them new")
    except BaseException:
        if not existed:
            target.unlink(missing_ok=True)
        raise
