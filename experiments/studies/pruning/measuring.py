"""What every stored network needs on a chip, and which share of stuck cells it bears."""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import Executor
from functools import cache
from pathlib import Path
from typing import Any

import torch
import typer

import xbarsim as xb
from xbarsim.compress import compression, mappable_layers
from xbarsim.data import spoken_digit_features
from xbarsim.devices import POLARITIES, Cell, fault_preset
from xbarsim.experiments.papers.gxnor2018 import full_scale_ratio
from xbarsim.experiments.studies.pruning.arms import BITS, STORED, Study, load_stored, stored_file
from xbarsim.foundation.intervals import share_interval
from xbarsim.models import DATA_SETS, load_images, read_card
from xbarsim.sweep.collecting import collect
from xbarsim.sweep.critical import crossing
from xbarsim.sweep.measures import Accuracy
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Task

__all__ = ["RATES", "chosen_arms", "design", "load_network", "measure", "tolerated_rates"]

RATES = (0.00002, 0.00005, 0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01)
"""Shares of the cells that are stuck, mostly on; an arm ends at the first that loses more than :data:`ENOUGH`."""

ENOUGH = 3.0
"""Points of accuracy."""

_CALIBRATION = 256
_CARD = "isaac2016"
_PRESETS = {words: preset for preset, words in POLARITIES.items()}


def design(rate: float = 0.0, *, pack: str = "matrix") -> xb.Design:
    """The accelerator: 128 x 128 cells of 16 levels, two columns of 8 bits, inputs bit by bit, 8-bit converters.

    Parameters
    ----------
    rate
        Share of stuck cells, mostly on.
    pack
        How matrices that are pruned are cut into tiles.
    """
    return xb.Design(
        cell=Cell.load("wan2022").without_errors(),
        mapping=xb.Mapping(rows=128, columns=128, weight_bits=BITS, cell_bits=4, pack=pack),
        periphery=xb.Periphery(input_bits=8, dac_bits=1, adc_bits=8, adc_range="calibrated"),
        faults=fault_preset(_PRESETS["mostly stuck on"]).faults.with_total(rate) if rate else None,
    )


@cache
def load_network(network: str, arm: str | None, data_set: str, images: int | None, folder: Path = STORED) -> Subject:
    """A stored network with its test images, from the first; ``None`` for the dense one, or for all images."""
    model, _ = load_stored(network, arm, folder)
    if data_set == "fsdd":
        samples, labels, _ = spoken_digit_features("test")
        samples, labels = samples[:images], labels[:images]
        calibration = spoken_digit_features("train")[0][:_CALIBRATION]
    else:
        samples, labels = load_images(data_set, "test", count=images)
        calibration = load_images(data_set, "train", count=_CALIBRATION)[0]
    return Subject(
        name=f"{network}-{arm or 'dense'}",
        data_set=DATA_SETS.get(data_set, "FSDD spoken digits"),
        model=model,
        images=samples,
        labels=labels,
        calibration=calibration,
    )


def measure(study: Study, arm: str | None, *, images: int | None = None, folder: Path = STORED) -> dict[str, Any]:
    """One row of the table: accuracy, what is left, what it needs; without faults.

    Parameters
    ----------
    study
        The network.
    arm
        Name of the arm; ``None`` for the dense network.
    images
        Test images; ``None`` for all.
    folder
        Where the networks are.
    """
    subject = load_network(study.network, arm, study.data_set, images, folder)
    model, card = subject.model, read_card(stored_file(study.network, arm, folder))
    network = xb.map_model(model, design(), calibration=subject.calibration)
    chip = network.fabricate(seed=0)
    alone = xb.evaluate(model, subject.images, subject.labels, progress=False).accuracy
    mapped = xb.evaluate(chip, subject.images, subject.labels, progress=False).accuracy
    interval = share_interval(round(mapped * len(subject.labels)), len(subject.labels))
    layers = mappable_layers(model)
    masks = {} if arm is None else {name: layer.weight.detach() != 0 for name, layer in layers.items()}
    left = compression(model, masks, None if arm is None else study.arm(arm).recipe)
    kept = sum(layer.kept for layer in left.layers if layer.index_bits is not None)
    joined = xb.map_model(model, design(pack="joined"), calibration=subject.calibration)
    cost = network.cost(_CARD)
    work = cost.workload()
    return {
        "network": study.network,
        "arm": arm or "dense",
        "family": "dense" if arm is None else study.arm(arm).family,
        "epochs": int(str(card["epochs"])),
        "validation": round(100 * float(str(card["validation_accuracy"])), 3),
        "float": round(100 * alone, 3),
        "accuracy": round(100 * mapped, 3),
        "low": round(100 * interval.low, 3),
        "high": round(100 * interval.high, 3),
        "images": len(subject.labels),
        "weights": sum(int(torch.count_nonzero(layer.weight)) for layer in layers.values()),
        "fewer": round(left.overall_ratio, 3),
        "arrays": network.tiles,
        "arrays_joined": joined.tiles,
        "area_mm2": round(1e6 * cost.area, 4),
        "energy_uJ": round(1e6 * work.energy, 4),
        "latency_us": round(1e6 * work.latency, 3),
        "index_bits": round(sum(layer.index_bits or 0 for layer in left.layers) / kept, 4) if kept else 0.0,
        "csr_bits": round(sum(layer.csr_bits or 0 for layer in left.layers if layer.index_bits is not None) / kept, 3)
        if kept
        else 0.0,
        "kappa": round(full_scale_ratio(network), 2),
    }


def chosen_arms(rows: Sequence[dict[str, Any]], *, errors: float = 1.4) -> list[dict[str, Any]]:
    """Of every network and family, the arm with the fewest weights and hardly more errors on the images held back.

    Parameters
    ----------
    rows
        Of :func:`measure`.
    errors
        At most so many times those of the dense network.
    """
    chosen = []
    for network in dict.fromkeys(row["network"] for row in rows):
        mine = [row for row in rows if row["network"] == network]
        (dense,) = [row for row in mine if row["arm"] == "dense"]
        mistakes = errors * (100.0 - dense["validation"])
        for family in dict.fromkeys(row["family"] for row in mine):
            near = [row for row in mine if row["family"] == family and 100.0 - row["validation"] <= mistakes]
            if near:
                chosen.append(min(near, key=lambda row: row["weights"]))
    return chosen


def tolerated_rates(
    row: dict[str, Any],
    data_set: str,
    *,
    dies: int,
    images: int,
    store: Path | None,
    folder: Path = STORED,
    rates: Sequence[float] = RATES,
    executor: Executor | None = None,
    workers: int | None = None,
) -> dict[str, Any]:
    """Add the share of stuck cells at which a network has lost one point, with the interval over dies.

    Parameters
    ----------
    row
        Of :func:`measure`.
    data_set
        What it is tested with.
    dies, images
        Of every rate.
    store
        Where dies are kept; ``None`` for nowhere.
    folder
        Where the networks are.
    rates
        Ascending.
    executor, workers
        Where dies are measured, as in :func:`xbarsim.sweep.collecting.collect`.
    """
    arm = None if row["arm"] == "dense" else row["arm"]
    subject = load_network(row["network"], arm, data_set, images, folder)
    curve: list[tuple[float, float, float, float]] = []
    for rate in (0.0, *rates):
        task = Task(
            network=subject,
            design=design(rate),
            calibration=min(_CALIBRATION, len(subject.calibration)),
            measures=(Accuracy(),),
            seed=1,
            tags={"arm": row["arm"], "rate": rate},
        )
        (result,) = collect(
            [task], stop=dies if rate else 1, store=store, executor=executor, workers=workers, progress=False
        ).tasks
        interval = result.mean()
        low, high = (interval.low, interval.high) if interval.has_ends else (interval.estimate, interval.estimate)
        curve.append((rate, low, interval.estimate, high))
        if interval.estimate < curve[0][2] - ENOUGH / 100:
            break
    sound = curve[0][2]
    found = [crossing([each[0] for each in curve], [each[i] for each in curve], sound - 0.01) for i in (1, 2, 3)]
    typer.echo(f"{row['network']} {row['arm']}: {found[1]:.3g}", err=True)
    highest = curve[-1][0]
    names = ("rate_low", "rate", "rate_high")
    return row | {
        **{name: "" if math.isinf(value) else round(value, 6) for name, value in zip(names, found, strict=True)},
        "highest_rate": highest,
        "dies": dies,
    }


def without_faults(row: dict[str, Any]) -> dict[str, Any]:
    """The row with empty columns for what was not measured."""
    return row | dict.fromkeys(("rate_low", "rate", "rate_high", "highest_rate", "dies"), "")
