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
    from xbarsim.mitigation import Diagnosis, Mitigation
    from xbarsim.network import Chip

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
    mitigate: Annotated[
        list[str] | None,
        typer.Option(
            help="What is done about faults, in this order: a name of 'xbarsim info mitigations', module:Class, or a "
            "TOML file with [[mitigations]] and [diagnosis] as in a sweep; as often as you like."
        ),
    ] = None,
    coverage: Annotated[
        float | None, typer.Option(help="Share of the faults that a test of the die finds, 0 to 1.")
    ] = None,
    false_alarm: Annotated[
        float | None, typer.Option(help="Share of the sound cells that it takes for stuck ones, 0 to 1 (0).")
    ] = None,
) -> None:
    """Map a network by a design, make dies of it, and report accuracy, errors by layer, and cost.

    With --mitigate, also what was done about the faults of each die, and what it costs.
    """
    check_integer("dies", dies, at_least=1)
    check_integer("seed", seed, at_least=0)
    from xbarsim.cli.mitigations import repair
    from xbarsim.design import Design

    mitigations, diagnosis = repair(mitigate or (), coverage, false_alarm)

    chosen = first_design() if design is None else Design.load(design)
    from xbarsim.models import MODELS, check_trained

    check_trained(network, called="network")
    if images is not None:
        check_integer("images", images, at_least=1, at_most=MODELS[network].test_images)
    _evaluate(network, chosen, dies, seed, images, mitigations, diagnosis)


def _evaluate(
    name: str,
    design: Design,
    dies: int,
    seed: int,
    images: int | None,
    mitigations: tuple[Mitigation, ...],
    diagnosis: Diagnosis | None,
) -> None:
    from xbarsim.foundation.intervals import student_half_width
    from xbarsim.models import load_model, load_test_set
    from xbarsim.network import map_model
    from xbarsim.network.evaluation import evaluate as measure

    model, _ = load_model(name)
    pictures, labels = load_test_set(name, count=images)
    calibration = calibration_images(name)
    network = map_model(model, design, calibration=calibration)
    typer.echo(f"{network}\n\n{network.plan()}\n")
    typer.echo(f"digital, quantised: {measure(network.digital, pictures, labels)}")
    accuracies: list[float] = []
    chip = None
    for die_seed in np.random.SeedSequence(seed).generate_state(dies, np.uint32):
        chip = network.fabricate(int(die_seed), mitigations=mitigations, diagnosis=diagnosis, images=calibration)
        result = measure(chip, pictures, labels)
        accuracies.append(result.accuracy)
        typer.echo(f"die {die_seed}: {result}")
        if mitigations:
            typer.echo(f"{chip.mitigations}\n{_total(chip)}\n")
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


def _total(chip: Chip) -> str:
    """What repair of a die comes to, in one line."""
    worst = max(chip.mitigations.noise_to_signal().items(), key=lambda item: item[1], default=None)
    operations = sum(use.operations for use in chip.digital_overhead())
    parts = [
        f"{chip.mitigations.overhead.reprogrammed_cells:,} cells rewritten",
        f"{sum(chip.stored_bits().values()):,} bits stored",
        f"{operations:,.0f} digital operations an image",
    ]
    if worst is not None:
        parts.append(f"noise to signal of the worst layer, {worst[0]}: {worst[1]:.4f}")
    return f"in all: {'; '.join(parts)}"
