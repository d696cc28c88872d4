"""Measures, tables and draws: ``python -m xbarsim.experiments.studies.fault_tolerance``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.fault_tolerance.arms import arms
from xbarsim.experiments.studies.fault_tolerance.measuring import (
    factors,
    images_of,
    read_table,
    reference,
    rows,
    tasks,
    tolerated,
    untrained,
)
from xbarsim.experiments.studies.fault_tolerance.pictures import accuracy_table, draw, factor_table, tolerance_table
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError, write_atomically
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
    arm: Annotated[list[str] | None, typer.Option(help="Only arms with this in their name; may be repeated.")] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Rows of other arms stay in the tables of the folder.")] = False,
) -> None:
    """Measure which rate of stuck cells is survived, by what is known of the die."""
    for words in arm or ():
        if not any(words in each.name for chosen in part or ["table"] for each in arms(chosen)):
            raise InputError(f"arm must stand in the name of an arm of {', '.join(part or ['table'])}, got {words!r}")
    held = _held(store) if measured else None
    output.mkdir(parents=True, exist_ok=True)
    for name in network or ("resnet20",):
        stem = "fault_tolerance" if name == "resnet20" else f"fault_tolerance_{name}"
        chosen = part or ["table"]
        # the table and what it is better than stand in one file; every other part in one of its own
        together = [each for each in chosen if each in ("table", "curves")]
        files = {stem: together} if together else {}
        files |= {f"{stem}_{each}": [each] for each in chosen if each not in together}
        for file, parts in files.items():
            table = _measure(name, parts, dies, images, store, workers, held, arm)
            _write(output / file, _kept(output / f"{file}.csv", table, parts) if keep else table)


def _measure(
    network: str,
    parts: Sequence[str],
    dies: int,
    images: int,
    store: Path,
    workers: int | None,
    held: dict[str, TaskResult] | None,
    only: Sequence[str] | None,
) -> list[dict[str, Any]]:
    """The rows of some parts, and that of the network without faults."""
    table: list[dict[str, Any]] = []
    for part in parts:
        count = images_of(part, images)
        (ideal,) = _results([reference(network, count)], 1, store, workers, held)
        sound = ideal.mean().estimate
        if not table:
            table += rows([ideal], sound)
        missing = untrained(network, part) if held is not None else []
        if missing:
            typer.echo(f"{part}: arms of networks that are not trained are left out: {', '.join(missing)}\n")
        listed = tasks(network, part, images, without=missing, only=only or ())
        for some, most in (
            ([task for task in listed if not task.tags["rate"]], 1),
            ([task for task in listed if task.tags["rate"]], dies),
        ):
            table += rows(_results(some, most, store, workers, held), sound)
    return table


def _kept(path: Path, table: list[dict[str, Any]], parts: Sequence[str]) -> list[dict[str, Any]]:
    """A table, and before it what the file has of arms that are not in it, in the order of the parts.

    Raises
    ------
    InputError
        If the file has an arm that there is no more, or was measured with another number of images.
    """
    measured = {(each["part"], each["arm"]) for each in table}
    older = [each for each in read_table(path) if (each["part"], each["arm"]) not in measured] if path.exists() else []
    order = [("reference", "two columns"), *((part, each.name) for part in parts for each in arms(part))]
    for each in older:
        if (each["part"], each["arm"]) not in order:
            raise InputError(f"keep must find arms of {', '.join(parts)} in {path.name}, got {each['arm']!r}")
        count, wanted = each["images"], table[0]["images"]
        if count != wanted:
            raise InputError(f"keep must find rows of {wanted} images in {path.name}, got {count}: {each['arm']!r}")
    return sorted([*older, *table], key=lambda each: (each["rate"] > 0, order.index((each["part"], each["arm"]))))


def _write(place: Path, table: list[dict[str, Any]]) -> None:
    """Print and write the tables of some parts that stand in one file, and its picture."""
    found = tolerated(table)
    typer.echo(accuracy_table(table) + "\n")
    written = [f"{place.name}.csv"]
    write_atomically(place.with_name(written[0]), csv_bytes(table))
    if found:
        typer.echo(tolerance_table(found) + "\n")
        written.append(f"{place.name}_rates.csv")
        write_atomically(place.with_name(written[-1]), csv_bytes(found))
    effects = factors(found)
    if effects:
        typer.echo(factor_table(effects) + "\n")
        written.append(f"{place.name}_effects.csv")
        shown = [{key: value for key, value in each.items() if key != "ratios"} for each in effects]
        write_atomically(place.with_name(written[-1]), csv_bytes(shown))
    figure = draw(table, found, effects)
    if figure is not None:
        written.append(f"{place.name}.png")
        save_figure(figure, place.with_name(written[-1]))
    typer.echo(f"wrote {', '.join(written)} into {place.parent}")


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
