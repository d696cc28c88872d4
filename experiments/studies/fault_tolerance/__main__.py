"""Measures, tables and draws: ``python -m xbarsim.experiments.studies.fault_tolerance``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.fault_tolerance.measuring import (
    factors,
    images_of,
    reference,
    rows,
    tasks,
    tolerated,
    untrained,
)
from xbarsim.experiments.studies.fault_tolerance.pictures import (
    accuracy_table,
    factor_picture,
    factor_table,
    pareto,
    picture,
    tolerance_table,
)
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import write_atomically
from xbarsim.plot import save_figure
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.results import TaskResult
from xbarsim.sweep.store import Store
from xbarsim.sweep.task import Task

__all__ = ["main"]


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    part: Annotated[list[str] | None, typer.Option(help="Only this part; may be repeated.")] = None,
    dies: Annotated[int, typer.Option(help="Dies of each point with faults.", min=2)] = 50,
    images: Annotated[int, typer.Option(help="Test images.", min=1)] = 1000,
    store: Annotated[Path, typer.Option(help="Where dies are kept.")] = Path("fault_tolerance.sqlite"),
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if left out.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = FIGURES,
    measured: Annotated[bool, typer.Option("--measured", help="Measure nothing more: what the store holds.")] = False,
) -> None:
    """Measure which rate of stuck cells is survived, by what is known of the die."""
    table: list[dict[str, Any]] = []
    for name in network or ("resnet20",):
        held = _held(store) if measured else {}
        sound: dict[int, float] = {}  # by the number of images
        for chosen in part or ("table",):
            count = images_of(chosen, images)
            if count not in sound:
                (ideal,) = _results([reference(name, count)], 1, store, workers, held if measured else None)
                sound[count] = ideal.mean().estimate
                table += rows([ideal], sound[count])
            missing = untrained(chosen) if measured and name == "resnet20" else []
            if missing:
                typer.echo(f"{chosen}: arms of networks that are not trained are left out: {', '.join(missing)}\n")
            listed = tasks(name, chosen, images, without=missing)
            for some, most in (
                ([task for task in listed if not task.tags["rate"]], 1),
                ([task for task in listed if task.tags["rate"]], dies),
            ):
                table += rows(_results(some, most, store, workers, held if measured else None), sound[count])
    found = tolerated(table)
    typer.echo(accuracy_table(table) + "\n")
    typer.echo(tolerance_table(found) + "\n")
    effects = factors(found)
    if effects:
        typer.echo(factor_table(effects) + "\n")
    output.mkdir(parents=True, exist_ok=True)
    # the table, what it is better than, and every method stand in one file; another part alone in one of its own
    alone = [each for each in part or () if each not in ("table", "curves", "methods")]
    stem = f"fault_tolerance_{alone[0]}" if len(alone) == len(part or ()) == 1 else "fault_tolerance"
    write_atomically(output / f"{stem}.csv", csv_bytes(table))
    write_atomically(output / f"{stem}_rates.csv", csv_bytes(found))
    if any(each["part"] == "table" for each in table):
        save_figure(picture(table, found), output / "fault_tolerance.png")
    if any(each["part"] == "methods" for each in table):
        save_figure(pareto(table), output / "fault_tolerance_methods.png")
    if effects:
        shown = [{key: value for key, value in each.items() if key != "ratios"} for each in effects]
        write_atomically(output / f"{stem}_effects.csv", csv_bytes(shown))
        save_figure(factor_picture(found, effects), output / "fault_tolerance_factors.png")
    typer.echo(f"wrote {stem}.csv, {stem}_rates.csv and pictures into {output}")


def _held(store: Path) -> dict[str, TaskResult]:
    """What a store holds, by the ids of tasks."""
    with Store(store, read_only=True) as kept:
        return {result.id: result for result in kept.results().tasks}


def _results(
    listed: Sequence[Task], dies: int, store: Path, workers: int | None, held: dict[str, TaskResult] | None
) -> tuple[TaskResult, ...]:
    """Results of some tasks: measured, or those that are held already, with at least two dies where dies differ."""
    if held is not None:
        least = 1 if dies == 1 else 2
        # arms of two parts may be one task: its dies are held once, under the tags of either
        return tuple(
            replace(held[task.id], columns={**held[task.id].columns, **task.tags})
            for task in listed
            if task.id in held and len(held[task.id].dies) >= least
        )
    return collect(listed, stop=dies, store=store, workers=workers).tasks if listed else ()


if __name__ == "__main__":
    typer.run(main)
