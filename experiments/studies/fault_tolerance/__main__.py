"""Measures, tables and draws: ``python -m xbarsim.experiments.studies.fault_tolerance``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.fault_tolerance.measuring import reference, rows, tasks, tolerated
from xbarsim.experiments.studies.fault_tolerance.pictures import accuracy_table, pareto, picture, tolerance_table
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect

__all__ = ["main"]


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 50,
    images: Annotated[int, typer.Option(help="Test images.", min=1)] = 1000,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("fault_tolerance.sqlite"),
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if left out.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = FIGURES,
) -> None:
    """Measure which rate of stuck cells is survived, by what is known of the die."""
    table: list[dict[str, Any]] = []
    for name in network or ("resnet20",):
        (ideal,) = collect([reference(name, images)], stop=1, store=store, workers=workers).tasks
        sound = ideal.mean().estimate
        table += rows([ideal], sound)
        for chosen in part or ("table",):
            listed = tasks(name, chosen, images)
            for some, count in (
                ([task for task in listed if not task.tags["rate"]], 1),
                ([task for task in listed if task.tags["rate"]], dies),
            ):
                if some:
                    table += rows(collect(some, stop=count, store=store, workers=workers).tasks, sound)
    found = tolerated(table)
    typer.echo(accuracy_table(table) + "\n")
    typer.echo(tolerance_table(found) + "\n")
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "fault_tolerance.csv", csv_bytes(table))
    write_atomically(output / "fault_tolerance_rates.csv", csv_bytes(found))
    if any(each["part"] == "table" for each in table):
        save_figure(picture(table, found), output / "fault_tolerance.png")
    if any(each["part"] == "methods" for each in table):
        save_figure(pareto(table), output / "fault_tolerance_methods.png")
    typer.echo(f"wrote fault_tolerance.csv, fault_tolerance_rates.csv and pictures into {output}")


if __name__ == "__main__":
    typer.run(main)
