"""Measures, tables and draws: ``python -m xbarsim.experiments.studies.pruning``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import torch
import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.pruning.arms import (
    NETWORKS,
    STORED,
    load_study,
    load_training_set,
    stored_file,
    train_arm,
    train_dense,
)
from xbarsim.experiments.studies.pruning.measuring import chosen_arms, measure, tolerated_rates, without_faults
from xbarsim.experiments.studies.pruning.pictures import (
    accuracy_picture,
    accuracy_table,
    equal_accuracy_picture,
    equal_accuracy_table,
)
from xbarsim.foundation.tables import csv_bytes
from xbarsim.foundation.validation import InputError, check_choice, write_atomically
from xbarsim.plot import save_figure

__all__ = ["main"]


def main(
    network: Annotated[list[str] | None, typer.Option(help="Only this network; may be repeated.")] = None,
    arm: Annotated[
        list[str] | None,
        typer.Option(help="Only this arm and the dense one; may be repeated. Left out: all of equal epochs."),
    ] = None,
    errors: Annotated[
        float, typer.Option(help="Times the dense network's errors that kinds may have where they are compared.", min=1)
    ] = 1.4,
    images: Annotated[int | None, typer.Option(help="Test images, from the first; all if left out.")] = None,
    dies: Annotated[int, typer.Option(help="Faulty dies of each rate; 0 for none.", min=0)] = 10,
    faulty_images: Annotated[int, typer.Option(help="Test images of a faulty die.", min=1)] = 1000,
    store: Annotated[Path | None, typer.Option(help="Where faulty dies are kept.")] = None,
    workers: Annotated[int | None, typer.Option(help="Processes; one a core if left out.")] = None,
    train_in: Annotated[
        Path | None, typer.Option("--train", help="Train in this folder, from nothing or on, and measure that.")
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for tables and pictures.")] = FIGURES,
) -> None:
    """Compare ways to prune by what they free on a chip and which stuck cells they bear."""
    folder = train_in or STORED
    rows = []
    sets = {}
    for name in network or NETWORKS:
        study = load_study(check_choice("network", name, NETWORKS))
        sets[name] = study.data_set
        names = [each.name for each in (study.compared() if arm is None else study.arms)]
        if train_in is not None:
            torch.set_num_threads(1)  # sums in one order
            data = load_training_set(study.data_set)
            train_dense(study, train_in, data=data, progress=True)
            for each in names:
                if arm is None or each in arm:
                    train_arm(study, study.arm(each), train_in, data=data, progress=True)
        there = [each for each in names if stored_file(name, each, folder).exists()]
        missing = [each for each in names if each not in there and (arm is None or each in arm)]
        if missing:
            typer.echo(f"{name}: not stored: {', '.join(missing)}; --train FOLDER makes them", err=True)
        if not stored_file(name, None, folder).exists():
            continue
        for one in (None, *(each for each in there if arm is None or each in arm)):
            rows.append(measure(study, one, images=images, folder=folder))
            typer.echo(f"{name} {one or 'dense'}: {rows[-1]['accuracy']:.2f} %", err=True)
    if not rows:
        raise InputError(f"network must be one with stored weights, got {network or list(NETWORKS)}")
    typer.echo(accuracy_table(rows) + "\n")
    chosen = chosen_arms(rows, errors=errors)
    if dies:
        chosen = [
            tolerated_rates(
                row, sets[row["network"]], dies=dies, images=faulty_images, store=store, folder=folder, workers=workers
            )
            for row in chosen
        ]
    else:
        chosen = [without_faults(row) for row in chosen]
    typer.echo(equal_accuracy_table(chosen, errors))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / "pruning.csv", csv_bytes(rows))
    write_atomically(output / "pruning_equal_accuracy.csv", csv_bytes(chosen))
    save_figure(accuracy_picture(rows), output / "pruning.png")
    save_figure(equal_accuracy_picture(chosen, errors), output / "pruning_equal_accuracy.png")
    typer.echo(f"wrote pruning.csv, pruning_equal_accuracy.csv and pictures into {output}")


if __name__ == "__main__":
    typer.run(main)
