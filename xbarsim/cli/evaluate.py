"""``xbarsim evaluate``: a network on dies of a design."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from xbarsim.cli.defaults import calibration_images, first_design
from xbarsim.foundation.validation import check_integer

if TYPE_CHECKING:
    from xbarsim.design import Design

__all__ = ["evaluate"]


def evaluate(
    network: Annotated[str, typer.Argument(help="digits, resnet20 or another of 'xbarsim info networks'.")],
    design: Annotated[
        Path | None,
        typer.Option(help="Design as a TOML file, see Design.save (milo2021 cells, Differential, 8-bit ADC)."),
    ] = None,
    dies: Annotated[int, typer.Option(help="Dies to make.")] = 5,
    seed: Annotated[int, typer.Option(help="Root of the dies' seeds.")] = 1,
    images: Annotated[int | None, typer.Option(help="Test images, from the first (all).")] = None,
) -> None:
    """Map a network by a design, make dies of it, and report accuracy, errors by layer, and cost."""
    check_integer("dies", dies, at_least=1)
    check_integer("seed", seed, at_least=0)
    from xbarsim.design import Design

    chosen = first_design() if design is None else Design.load(design)
    from xbarsim.models import MODELS, check_trained

    check_trained(network, called="network")
    if images is not None:
        check_integer("images", images, at_least=1, at_most=MODELS[network].test_images)
    _evaluate(network, chosen, dies, seed, images)


def _evaluate(name: str, design: Design, dies: int, seed: int, images: int | None) -> None:
    from xbarsim.foundation.intervals import student_half_width
    from xbarsim.models import load_model, load_test_set
    from xbarsim.network import map_model
    from xbarsim.network.evaluation import evaluate as measure

    model, _ = load_model(name)
    pictures, labels = load_test_set(name, count=images)
    network = map_model(model, design, calibration=calibration_images(name))
    typer.echo(f"{network}\n\n{network.plan()}\n")
    typer.echo(f"digital, quantised: {measure(network.digital, pictures, labels)}")
    accuracies: list[float] = []
    chip = None
    for die_seed in np.random.SeedSequence(seed).generate_state(dies, np.uint32):
        chip = network.fabricate(int(die_seed))
        result = measure(chip, pictures, labels)
        accuracies.append(result.accuracy)
        typer.echo(f"die {die_seed}: {result}")
    mean = statistics.fmean(accuracies)
    text = f"mean accuracy {mean:.2%}"
    if dies > 1:
        half = student_half_width(statistics.stdev(accuracies), dies, 0.95)
        text += (
            f" (95 % interval {max(0.0, mean - half):.2%} to {min(1.0, mean + half):.2%}, Student's t over {dies} dies)"
        )
    assert chip is not None
    typer.echo(f"{text}\n\nthe last die against the quantised digital network:")
    typer.echo(f"{chip.report(pictures[:100])}\n\n{chip.cost()}")
