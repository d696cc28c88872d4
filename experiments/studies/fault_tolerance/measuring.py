"""The tasks of the study, and the rows that come of them."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import xbarsim as xb
from xbarsim.compress import mappable_layers
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.experiments.studies.fault_tolerance.arms import MOST_IMAGES, MOSTLY_ON, TRAINED, Arm, arms, design
from xbarsim.foundation.intervals import FewDiesWarning, mean_interval
from xbarsim.foundation.validation import InputError, check_choice
from xbarsim.mapping import TwoColumn
from xbarsim.mitigation import ProtectLayers
from xbarsim.models import DATA_SETS, MODELS, load_images, load_model, load_zoo_file
from xbarsim.sweep.critical import crossing
from xbarsim.sweep.measures import Accuracy, Cost, MitigationOverhead
from xbarsim.sweep.results import TaskResult
from xbarsim.sweep.subject import Subject
from xbarsim.sweep.task import Tag, Task

__all__ = [
    "factors",
    "images_of",
    "load_network",
    "read_table",
    "reference",
    "row",
    "rows",
    "tasks",
    "tolerated",
    "untrained",
]

_CALIBRATION = 500  # training images: they set ranges, and are those that outputs are recalibrated by
_NETWORKS = {  # what it is called in the zoo, its images, and its weights that were trained with faults
    "resnet20": ("resnet20", "cifar10", "resnet20_raw_mixed"),
    "convnet": ("convnet-unpruned-9bit", "cifar10", "convnet_raw_averaged"),
    "lenet5": ("lenet5-unpruned-9bit", "mnist", "lenet5_raw"),
}
_MEASURED = (
    *("worst_noise_to_signal", "stored_bits", "rewritten_cells", "added_operations"),
    *("energy_J", "area_m2"),
)


@cache
def load_network(network: str, weights: str, images: int) -> Subject:
    """A network with its images.

    Parameters
    ----------
    network
        ``"resnet20"``, ``"convnet"`` or ``"lenet5"``.
    weights
        ``"as trained"``, the name of another network of the zoo, or of a file of experiments/weights/fault_tolerant.
    images
        Test images, from the first.
    """
    name, data_set, _ = _NETWORKS[check_choice("network", network, _NETWORKS)]
    path = _file(weights)
    if weights == "as trained":
        model = load_model(name)[0]
    else:
        if weights not in MODELS and not path.exists():
            raise InputError(
                f"weights must be there, got {weights!r}: train them with python -m "
                f"xbarsim.experiments.fits.train_fault_tolerant {weights}"
            )
        model = load_zoo_file(path)[0] if path.exists() else load_model(weights)[0]
    pixels, labels = load_images(data_set, "test", count=images)
    calibration = load_images(data_set, "train", count=_CALIBRATION)[0]
    return Subject(
        name=network, data_set=DATA_SETS[data_set], model=model, images=pixels, labels=labels, calibration=calibration
    )


def untrained(network: str, part: str) -> list[str]:
    """Weights that arms of a part want of a network, and that are not there yet."""
    wanted = {_weights(network, arm) for arm in arms(part, network)} - {"as trained", *MODELS}
    return sorted(each for each in wanted if each.startswith(network) and not _file(each).exists())


def _weights(network: str, arm: Arm) -> str:
    return _NETWORKS[network][2] if arm.weights == TRAINED else arm.weights


def _file(weights: str) -> Path:
    return WEIGHTS / "fault_tolerant" / f"{weights}.safetensors"


def tasks(
    network: str, part: str, images: int, *, seed: int = 1, without: Sequence[str] = (), only: Sequence[str] = ()
) -> list[Task]:
    """Everything to measure of one part; other networks leave out the arms of weights that only ResNet-20 has.

    Parameters
    ----------
    network
        As :func:`load_network`.
    part
        One of :data:`PARTS`.
    images
        Test images; fewer in parts of :data:`MOST_IMAGES`.
    seed
        Root of the dies' seeds: all arms meet dies of the same seeds.
    without
        Weights whose arms are left out.
    only
        Texts of which a name of an arm must have one, if there are any.
    """
    made = []
    images = images_of(part, images)
    for arm in arms(part, network):
        weights = _weights(network, arm)
        if only and not any(words in arm.name for words in only):
            continue
        if weights in without or (network != "resnet20" and weights.startswith("resnet20")):
            continue
        subject = load_network(network, weights, images)
        for rate in arm.rates:
            methods = arm.mitigations
            if arm.inner and rate:
                first, *_, last = mappable_layers(subject.model)
                methods = (ProtectLayers(layers=(first, last)), *methods)
            tags: dict[str, Tag] = {
                "part": part,
                "arm": arm.name,
                "known": arm.known,
                "polarity": arm.polarity,
                "weights": weights,
                "rate": rate,
            }
            made.append(
                Task(
                    network=subject,
                    design=design(arm, rate),
                    calibration=_CALIBRATION,
                    mitigations=methods,
                    diagnosis=arm.diagnosis,
                    measures=(Accuracy(), MitigationOverhead(), *((Cost(),) if arm.cost else ())),
                    seed=seed,
                    tags=tags,
                )
            )
    return made


def images_of(part: str, images: int) -> int:
    """Test images of a part, where so many are asked for."""
    return min(images, MOST_IMAGES.get(part, images))


def reference(network: str, images: int) -> Task:
    """The network as it was trained, quantised, without faults or converters: what points lost are counted from."""
    arm = Arm(name="two columns", known="nothing", rates=(0.0,), encoding=TwoColumn())
    return Task(
        network=load_network(network, "as trained", images),
        design=design(arm, 0.0).replace(periphery=xb.Periphery(input_bits=8)),
        calibration=_CALIBRATION,
        measures=(Accuracy(), MitigationOverhead(), Cost()),
        tags={"part": "reference", "arm": arm.name, "known": "nothing", "polarity": MOSTLY_ON, "weights": "as trained",
              "rate": 0.0},
    )  # fmt: skip


def row(result: TaskResult, sound: float) -> dict[str, Any]:
    """What is tabled of one task.

    Parameters
    ----------
    result
        Its dies.
    sound
        Accuracy of the reference, 0 to 1.
    """
    interval = result.mean()
    worst = min(result.accuracies)
    columns = result.columns
    measured = {
        name: math.fsum(float(die.metrics[name]) for die in result.dies) / len(result.dies)
        for name in (
            "worst_noise_to_signal",
            "stored_bits",
            "rewritten_cells",
            "added_operations",
            "energy_J",
            "area_m2",
        )
        if name in result.dies[0].metrics
    }
    alone = len(result.dies) < 2 or math.isnan(interval.low)
    return {
        "network": columns["network"],
        "part": columns["part"],
        "arm": columns["arm"],
        "known": columns["known"],
        "weights": columns["weights"],
        "encoding": columns["encoding"],
        "cell_bits": columns["cell_bits"],
        "polarity": columns["polarity"],
        "rate": columns["rate"],
        "dies": len(result.dies),
        "images": result.dies[0].images,
        "accuracy": round(100 * interval.estimate, 4),
        "low": round(100 * (interval.estimate if alone else interval.low), 4),
        "high": round(100 * (interval.estimate if alone else interval.high), 4),
        "worst_die": round(100 * worst, 4),
        "lost": round(100 * (sound - interval.estimate), 4),
        **{name: float(f"{value:.6g}") for name, value in measured.items()},
    }


def rows(results: Sequence[TaskResult], sound: float) -> list[dict[str, Any]]:
    """What is tabled of all tasks, as :func:`row`."""
    return [row(result, sound) for result in results]


_WORDS = ("network", "part", "arm", "known", "weights", "encoding", "polarity")
_COUNTS = ("cell_bits", "dies", "images")


def read_table(path: Path) -> list[dict[str, Any]]:
    """The rows of a table that was written."""
    with path.open(newline="") as file:
        return [
            {
                name: text if name in _WORDS else int(text) if name in _COUNTS else float(text)
                for name, text in each.items()
                if text  # a column that this arm has not
            }
            for each in csv.DictReader(file)
        ]


def tolerated(table: Sequence[dict[str, Any]], loss: float = 1.0) -> list[dict[str, Any]]:
    """The rate at which each arm has lost so many points, with its interval.

    It is between two of the rates that were measured, three or more with that of no faults; or infinite, for more than
    the highest of them.

    Parameters
    ----------
    table
        From :func:`rows`.
    loss
        In points.
    """
    grouped: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for each in table:
        # the curves are those of the table, gone on with
        part = "table" if each["part"] == "curves" else each["part"]
        grouped.setdefault((each["network"], part, each["arm"], each["polarity"]), []).append(each)
    found = []
    for (network, part, arm, polarity), points in grouped.items():
        curve = sorted(points, key=lambda each: float(each["rate"]))
        target = curve[0]["accuracy"] + curve[0]["lost"] - loss
        if len({each["rate"] for each in curve}) < len(curve):
            raise InputError(f"table must have a rate of an arm once, got {arm!r} with one twice")
        rates = [each["rate"] for each in curve]
        low, rate, high = (
            crossing(rates, [each[name] for each in curve], target) for name in ("low", "accuracy", "high")
        )
        if len(curve) < 2 or (len(curve) < 3 and not math.isinf(low)):
            continue  # from no faults to the only rate with them there is nothing to read a rate off
        found.append(
            {"network": network, "part": part, "arm": arm, "polarity": polarity, "known": curve[0]["known"],
             "loss": loss, "rate": rate, "low": low, "high": high, "lowest": rates[0], "highest": rates[-1]}
        )  # fmt: skip
    return found


def factors(found: Sequence[dict[str, Any]], part: str = "factors") -> list[dict[str, Any]]:
    """What each factor of a factorial design does to the tolerated rate, all others being equal.

    Parameters
    ----------
    found
        From :func:`tolerated`.
    part
        The part whose arms have `settings`.

    Returns
    -------
    list of dict
        For each factor and each of its levels but the first: the geometric mean of the ratios of tolerated rates,
        level over first level, one for each combination of the other factors in which both rates were measured
        (``ratio``), its 95 % interval over these combinations (``low``, ``high``; Student's t of the logarithms), the
        ratios themselves, and how many combinations there are of which a rate was beyond what was measured
        (``beyond``), which are left out.
    """
    settings = {arm.name: dict(arm.settings) for arm in arms(part)}
    rates = {
        # where the lowest rate has lost more already, the tolerated one is below, and not known
        tuple(settings[each["arm"]].items()): math.inf if each["rate"] <= each["lowest"] else float(each["rate"])
        for each in found
        if each["part"] == part and each["arm"] in settings
    }
    levels: dict[str, list[str]] = {}
    for each in settings.values():
        for factor, level in each.items():
            if level not in levels.setdefault(factor, []):
                levels[factor].append(level)
    table = []
    for factor, (first, *others) in levels.items():
        for level in others:
            pairs = [
                (rate, rates[base])
                for key, rate in rates.items()
                if dict(key)[factor] == level and (base := tuple((dict(key) | {factor: first}).items())) in rates
            ]
            ratios = [rate / base for rate, base in pairs if math.isfinite(rate) and math.isfinite(base)]
            if len(ratios) < 2:
                continue
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", FewDiesWarning)  # combinations are no dies
                mean = mean_interval([math.log(ratio) for ratio in ratios])
            table.append({
                "factor": factor, "level": level, "against": first, "ratio": math.exp(mean.estimate),
                "low": math.exp(mean.low), "high": math.exp(mean.high), "ratios": tuple(sorted(ratios)),
                "beyond": len(pairs) - len(ratios),
            })  # fmt: skip
    return table
