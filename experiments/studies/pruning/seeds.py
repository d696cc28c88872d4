"""What chance does: the same arms from several seeds, each against the dense networks of its seed.

``python -m xbarsim.experiments.studies.pruning.seeds FOLDER --network gru --arm unstructured-admm-10x`` trains in the
folder, or goes on, and writes pruning_seeds_gru.csv, accuracies on the chip, pruning_seeds_gru_lost.csv, what arms lose
on the mean, and a picture. Everything else is as in :mod:`xbarsim.experiments.studies.pruning`, whose networks are
those of the recipes' own seeds.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any

import torch
import typer

from xbarsim.experiments.folders import FIGURES
from xbarsim.experiments.studies.pruning.arms import (
    Arm,
    Study,
    load_study,
    load_training_set,
    train_arm,
    train_dense,
)
from xbarsim.experiments.studies.pruning.measuring import load_network, measure
from xbarsim.experiments.studies.pruning.pictures import seeds_picture
from xbarsim.foundation.intervals import FewDiesWarning, mean_interval
from xbarsim.foundation.tables import csv_bytes, format_table
from xbarsim.foundation.validation import check_integer, write_atomically
from xbarsim.plot import save_figure
from xbarsim.training import Training, TrainingSet

__all__ = ["compared_arms", "losses", "main", "of_seed", "train_seeds"]

_APART = 1000  # so far are seeds of one training from those of the next


def of_seed(study: Study, number: int) -> Study:
    """The study with other seeds of every training; 0 for those of the recipe.

    Raises
    ------
    InputError
        For a negative number.
    """
    number = check_integer("number", number, at_least=0)

    def moved(training: Training) -> Training:
        return replace(training, seed=training.seed + _APART * number)

    def moved_arm(arm: Arm) -> Arm:
        method: Any = arm.method
        if hasattr(method, "seed"):
            method = replace(method, seed=method.seed + _APART * number)
        pruning = None if arm.pruning is None else moved(arm.pruning)
        retraining = None if arm.retraining is None else moved(arm.retraining)
        return replace(arm, method=method, pruning=pruning, retraining=retraining)

    return replace(
        study,
        dense=moved(study.dense),
        pruning=moved(study.pruning),
        retraining=moved(study.retraining),
        quantising=moved(study.quantising),
        arms=tuple(moved_arm(arm) for arm in study.arms),
    )


def train_seeds(
    study: Study,
    arms: Sequence[str],
    folder: Path,
    *,
    seeds: int,
    images: int | None = None,
    data: TrainingSet | None = None,
    progress: bool | None = None,
) -> list[dict[str, Any]]:
    """Train the dense network and some arms from several seeds, or go on, and measure all.

    Parameters
    ----------
    study
        Of one network.
    arms
        Names.
    folder
        Where networks and checkpoints are kept, a folder for each seed.
    seeds
        How many, >= 2; the first is that of the recipe.
    images
        Test images, from the first; ``None`` for all.
    data
        What to train on; ``None`` for the data set of the study.
    progress
        Show progress.

    Returns
    -------
    list of dict
        Rows of :func:`xbarsim.experiments.studies.pruning.measuring.measure`, with the number of the seed.
    """
    seeds = check_integer("seeds", seeds, at_least=2)
    data = load_training_set(study.data_set) if data is None else data
    rows = []
    for number in range(seeds):
        own, place = of_seed(study, number), folder / f"seed{number}"
        train_dense(own, place, data=data, progress=progress)
        for name in arms:
            train_arm(own, own.arm(name), place, data=data, progress=progress)
        for each in (None, *arms):
            rows.append({"seed": number, **measure(own, each, images=images, folder=place)})
            load_network.cache_clear()  # it holds the images
    return rows


def losses(rows: Sequence[dict[str, Any]], against: Sequence[tuple[str, str]] | None = None) -> list[dict[str, Any]]:
    """Points that arms lose on the mean against others of the same seed, with 95 % intervals.

    Parameters
    ----------
    rows
        Of :func:`train_seeds`.
    against
        Pairs of an arm and the one that it is compared with; ``None`` for each with the dense network.

    Returns
    -------
    list of dict
        One for each pair: on test images, and on those held back (which chose the epochs).
    """
    by_arm: dict[str, dict[int, dict[str, Any]]] = {}
    for row in rows:
        by_arm.setdefault(row["arm"], {})[row["seed"]] = row
    found = []
    for arm, other in [(arm, "dense") for arm in by_arm if arm != "dense"] if against is None else against:
        mine, theirs = by_arm[arm], by_arm[other]
        network = next(iter(mine.values()))["network"]
        row = {"network": network, "arm": arm, "against": other, "seeds": len(mine)}
        for column in ("accuracy", "validation"):
            with warnings.catch_warnings():  # that these are few, the table says
                warnings.simplefilter("ignore", FewDiesWarning)
                lost = mean_interval([theirs[seed][column] - each[column] for seed, each in mine.items()])
            row |= {
                column: round(sum(each[column] for each in mine.values()) / len(mine), 3),
                f"{column} against": round(sum(theirs[seed][column] for seed in mine) / len(mine), 3),
                f"{column} lost": round(lost.estimate, 3),
                f"{column} lost, low": round(lost.low, 3),
                f"{column} lost, high": round(lost.high, 3),
            }
        found.append(row)
    return found


def compared_arms(study: Study, names: Sequence[str]) -> list[tuple[str, str]]:
    """Arms and what each is compared with: the dense network, and dense ones that it begins with or is as long as.

    Parameters
    ----------
    study
        Of one network.
    names
        Of the arms.
    """
    arms = [study.arm(name) for name in names]
    pairs = [(name, "dense") for name in names]
    for arm in arms:
        for other in arms:
            alike = arm.start == other.name or study.epochs(arm) == study.epochs(other)
            if other is not arm and not other.prunes and alike:
                pairs.append((arm.name, other.name))
    return pairs


def main(
    folder: Annotated[Path, typer.Argument(help="Where networks and checkpoints are kept.")],
    network: Annotated[str, typer.Option(help="Which network.")] = "gru",
    arm: Annotated[list[str] | None, typer.Option(help="Which arm; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(help="Trainings of each.", min=2)] = 5,
    output: Annotated[Path, typer.Option(help="Folder for tables and the picture.")] = FIGURES,
) -> None:
    """Train arms from several seeds, print what they lose, and write a table."""
    torch.set_num_threads(1)  # sums in one order
    study = load_study(network)
    names = [study.arm(name).name for name in arm or [each.name for each in study.arms]]
    rows = train_seeds(study, names, folder, seeds=seeds, progress=True)
    lost = losses(rows, compared_arms(study, names))
    typer.echo(format_table(tuple(lost[0]), [tuple(row.values()) for row in lost], left=2))
    output.mkdir(parents=True, exist_ok=True)
    write_atomically(output / f"pruning_seeds_{network}.csv", csv_bytes(rows))
    write_atomically(output / f"pruning_seeds_{network}_lost.csv", csv_bytes(lost))
    save_figure(seeds_picture(rows), output / f"pruning_seeds_{network}.png")
    typer.echo(f"wrote pruning_seeds_{network}.csv, pruning_seeds_{network}_lost.csv and a picture into {output}")


if __name__ == "__main__":
    typer.run(main)
