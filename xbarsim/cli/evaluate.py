"""``xbarsim evaluate``: a network on dies of a design."""

from __future__ import annotations

import statistics
import time
import warnings
from typing import TYPE_CHECKING, Annotated

import numpy as np
import typer

from xbarsim.cli.choices import (
    DataSet,
    DesignFile,
    EncodingName,
    FaultsName,
    NetworkName,
    Parts,
    Rate,
    chosen_design,
    chosen_subject,
)
from xbarsim.cli.notes import quantised_anew
from xbarsim.foundation.validation import check_integer

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.mitigation import Diagnosis, Mitigation
    from xbarsim.network import Chip, MappedNetwork
    from xbarsim.sweep import Subject

__all__ = ["evaluate"]

_REPORTED = 100  # images of the report of errors by layer
_WARM = 16  # images that are run before any is timed, so that compiled code is loaded


def evaluate(
    network: NetworkName,
    design: DesignFile = None,
    encoding: EncodingName = None,
    faults: FaultsName = None,
    rate: Rate = None,
    dies: Annotated[int, typer.Option(help="Dies to make.")] = 5,
    seed: Annotated[int, typer.Option(help="Root of the dies' seeds.")] = 1,
    images: Annotated[int | None, typer.Option(help="Test images, from the first (all).")] = None,
    data_set: DataSet = None,
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
    parts: Parts = None,
) -> None:
    """Map a network by a design, make dies of it, and report accuracy, errors by layer, and cost.

    No cell is stuck unless the design or --faults says so; the design stands above every number. With --mitigate, also
    what was done about the faults of each die, and what it costs.
    """
    check_integer("dies", dies, at_least=1)
    check_integer("seed", seed, at_least=0)
    if images is not None:
        check_integer("images", images, at_least=1)
    from xbarsim.cli.mitigations import repair

    chosen = chosen_design(design, parts=parts or (), encoding=encoding, faults=faults, rate=rate)
    mitigations, diagnosis = repair(mitigate or (), coverage, false_alarm)
    subject = chosen_subject(network, data_set, images)
    _evaluate(network, subject, chosen, dies, seed, mitigations, diagnosis)


def _evaluate(
    name: str,
    subject: Subject,
    design: Design,
    dies: int,
    seed: int,
    mitigations: tuple[Mitigation, ...],
    diagnosis: Diagnosis | None,
) -> None:
    from xbarsim.foundation.intervals import student_half_width
    from xbarsim.network.evaluation import evaluate as measure

    pictures, labels, calibration = subject.images, subject.labels, subject.calibration
    typer.echo(
        f"{subject.name} on {len(pictures):,} test images of {subject.data_set}, calibrated with "
        f"{len(calibration):,} training images\n\n{design}\n"
    )
    for note in quantised_anew(name, design):
        typer.echo(f"note: {note}\n")
    if mitigations and design.faults is None and design.line_faults is None:
        typer.echo("note: nothing is broken on these dies, so there is nothing to repair (--faults NAME --rate 0.01)\n")
    start = time.perf_counter()
    network = subject.map(design)
    mapped = time.perf_counter() - start
    typer.echo(f"{network}\n\n{network.plan()}\n")
    typer.echo(f"floating point: {measure(network.floating, pictures, labels)}")
    typer.echo(f"digital, quantised: {measure(network.digital, pictures, labels)}")
    accuracies: list[float] = []
    chip = None
    typer.echo(f"mapped in {mapped:.1f} s; kernels ready in {_ready(network, subject):.1f} s, in no time below")
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
            f" (95 % interval {max(0.0, mean - half):.2%} to {min(1.0, mean + half):.2%}, Student's t over {dies} dies "
            f"on the same {len(pictures):,} images)"
        )
    assert chip is not None
    typer.echo(f"{text}\n{_broken(chip, design)}\n\nthe last die against the quantised digital network:")
    typer.echo(f"{chip.report(pictures[:_REPORTED])}\n\n{chip.cost()}")


def _ready(network: MappedNetwork, subject: Subject) -> float:
    """Run a die of no other use, so that compiled code is loaded; returns the seconds that takes."""
    from xbarsim.network.samples import Samples

    start = time.perf_counter()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the dies that count say it
        network.fabricate(0).run(Samples.of(subject.images[:_WARM]), first_image=0)
    return time.perf_counter() - start


def _broken(chip: Chip, design: Design) -> str:
    """What is broken on the dies, in one line: the number above it says nothing of that."""
    if design.faults is None and design.line_faults is None:
        return "no cell is stuck on these dies: --faults NAME --rate 0.01 breaks some ('xbarsim info faults' has names)"
    cells = sum(faults.cells for faults in chip.faults.values())
    stuck = sum(sum(faults.counts.values()) for faults in chip.faults.values())
    return f"{stuck:,} of {cells:,} cells of the last die are stuck ({stuck / cells:.3%})"


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
