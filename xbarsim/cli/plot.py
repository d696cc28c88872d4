"""``xbarsim plot``: a picture of a store."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from xbarsim.cli.output import write_picture
from xbarsim.cli.stores import StoreFile, chosen_values, example, print_failed
from xbarsim.foundation.validation import InputError

__all__ = ["plot"]


def plot(
    store: StoreFile,
    output: Annotated[Path, typer.Argument(help="Picture to write: .png, .svg or .pdf.")],
    kind: Annotated[
        str, typer.Option(help="accuracy or yield against the fault rate; dies; layers; cost (power and area).")
    ] = "accuracy",
    group: Annotated[
        str | None, typer.Option(help="Column that names the curves (the last one that tells the tasks apart).")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE: only these dies; as often as you like.")
    ] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good, for yield.")] = None,
    baseline: Annotated[float | None, typer.Option(help="Accuracy without faults, for layers.")] = None,
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing, drawn as a line.")] = None,
    other_images: Annotated[
        bool, typer.Option("--other-images", help="Bands of the accuracy also cover what other test images would give.")
    ] = False,
) -> None:
    """Draw a picture of a store, and write its caption beside it."""
    from xbarsim.plot.page import ChoiceNeeded, draw
    from xbarsim.sweep.store import Store

    chosen = chosen_values(where)
    with Store(store, read_only=True) as kept:
        results = kept.results()
    if kind == "yield" and target is None:
        raise InputError("target must be given for a picture of the yield (--target 0.9, for example), got none")
    try:
        figure = draw(
            results,
            kind,  # type: ignore[arg-type]  # checked there
            group=group, where=chosen, target=target, baseline=baseline, chance=chance, other_images=other_images,
        )  # fmt: skip
    except ChoiceNeeded as error:
        raise example(error) from error
    write_picture(figure, output)
    print_failed(results)
