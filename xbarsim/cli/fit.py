"""``xbarsim fit``: a device card out of measured conductances."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from xbarsim.cli.output import print_table
from xbarsim.foundation.validation import InputError

__all__ = ["fit"]


def fit(
    data: Annotated[
        Path,
        typer.Argument(
            help="Table of conductances, resistances or currents with units in its headers: a reading a row "
            "(conductance (uS), target (uS) or level, time (s), device, cycle), or a column a level, target, device, "
            "cycle or time."
        ),
    ],
    output: Annotated[
        Path | None, typer.Option(help="Device card to write, ending in .toml; without it, the findings are shown.")
    ] = None,
    picture: Annotated[Path | None, typer.Option(help="Picture of the fit to write: .png, .svg or .pdf.")] = None,
    source: Annotated[
        str | None, typer.Option(help="Citation of the measurements, for the card (the file, and that none was given).")
    ] = None,
    doi: Annotated[str | None, typer.Option(help="Its digital object identifier.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the cell (that of the file).")] = None,
    levels: Annotated[int | None, typer.Option(help="The most levels the cell can hold (those in the data).")] = None,
    unit: Annotated[
        str | None, typer.Option(help="Unit of readings and targets whose header has none, such as uS or kOhm.")
    ] = None,
    read_voltage: Annotated[float | None, typer.Option(help="Read voltage of currents, V.")] = None,
    reference_time: Annotated[
        float | None,
        typer.Option(help="Time after programming that the programming error holds at, s (the first that all have)."),
    ] = None,
    drift: Annotated[
        str,
        typer.Option(help="walk: random walk in log time; quantiles: the measured errors themselves, for many cells."),
    ] = "walk",
    noise: Annotated[
        str,
        typer.Option(help="whole: the spread of repeated reads; parts: white, 1/f and telegraph noise by spectra."),
    ] = "whole",
    clock: Annotated[
        bool, typer.Option("--clock", help="Times are those of a clock: count from the first read after programming.")
    ] = False,
    decimal: Annotated[str | None, typer.Option(help="Decimal sign, . or , (found out).")] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(help="HEADER=MEANING, such as 'Ist=conductance (uS)'; as often as you like."),
    ] = None,
) -> None:
    """Fit a cell to measurements: range, levels, programming error, read noise, drift; write its device card.

    The table says what was found, how good it is, what was left out, and what had to be assumed.
    """
    from xbarsim.devices import fit_cell

    meanings = {}
    for text in rename or ():
        header, sign, meaning = text.rpartition("=")
        if not (header and sign and meaning):
            raise InputError(f"rename must be HEADER=MEANING, got {text!r}")
        meanings[header] = meaning
    if output is not None and output.suffix != ".toml":
        raise InputError(f"output must end in '.toml', as a card does, got {str(output)!r}")
    found = fit_cell(
        data, name=name, levels=levels, reference_time=reference_time, unit=unit, read_voltage=read_voltage,
        drift_law=drift,  # type: ignore[arg-type]  # checked there
        noise_law=noise,  # type: ignore[arg-type]  # checked there
        time_from="first read" if clock else "programming",
        decimal=decimal,  # type: ignore[arg-type]  # checked there
        rename=meanings or None,
    )  # fmt: skip
    rows = [(line.quantity, line.value, line.unit, line.origin, line.basis) for line in found.findings]
    if output is not None and source is None:
        rows.append(("source", "none", "", "absent", "the card names the file, and that no publication was stated"))
    print_table(Console(), f"{found.cell.name}: a cell fitted to {found.readings.source}",
                ("quantity", "value", "unit", "origin", "rests on"), rows)  # fmt: skip
    if output is not None:
        found.save(output, source=source, doi=doi)
        typer.echo(f"wrote {output}")
    if picture is not None:
        from xbarsim.plot import cell_fit, save_figure

        save_figure(cell_fit(found)[0].figure, picture)
        typer.echo(f"wrote {picture}")
