"""Pruning for fault tolerance: prune as far as faulty dies gain by it, the large layers further than the small.

After G. Yuan et al., Improving DNN Fault Tolerance using Weight Pruning and Differential Crossbar Mapping for
ReRAM-based Edge AI, ISQED 2021, doi:10.48550/arXiv.2106.09166, algorithm 1. There a network is the best if it is better
than the one before it; here if it is better than all before.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from xbarsim.compress.layers import find_layer
from xbarsim.design import Design
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_integer, check_real
from xbarsim.network import map_model
from xbarsim.network.evaluation import evaluate

__all__ = ["ProgressivePruning", "PruningStep", "faulty_accuracy", "prune_progressively"]


@dataclass(frozen=True, kw_only=True)
class PruningStep:
    """One attempt.

    Attributes
    ----------
    layers
        Layers that were pruned further.
    ratio
        Share of each one's weights that was taken away.
    accuracy
        Mean accuracy of faulty dies afterwards.
    kept
        Whether the loss stayed within the threshold, so that pruning goes on from here.
    best
        Whether it is the best network so far.
    """

    layers: tuple[str, ...]
    ratio: float
    accuracy: float
    kept: bool
    best: bool

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True, eq=False)
class ProgressivePruning:
    """What came of it.

    Attributes
    ----------
    model
        The best network.
    accuracy
        Mean accuracy of its faulty dies.
    before
        That of the network before.
    steps
        All attempts.
    """

    model: nn.Module
    accuracy: float
    before: float
    steps: tuple[PruningStep, ...]

    def __post_init__(self) -> None:
        check_fields(self)


@entrance
def faulty_accuracy(
    design: Design, images: object, labels: object, *, calibration: object, dies: int, seed: int = 0
) -> Callable[[nn.Module], float]:
    """A measure for :func:`prune_progressively`: mean accuracy over faulty dies of a design.

    Every network meets dies of the same seeds.

    Parameters
    ----------
    design
        With a fault model and a mapping.
    images, labels
        What to classify: of the validation set, not the test set, for the algorithm chooses by it.
    calibration
        Images that set the ranges of activations.
    dies
        How many.
    seed
        Of the first die; the others follow.

    Raises
    ------
    InputError
        If the design has no fault model, or a number is out of its bound.
    """
    check_integer("dies", dies, at_least=1)
    check_integer("seed", seed, at_least=0)
    if design.faults is None:
        raise InputError("design must have a fault model, got faults = None")

    def measure(model: nn.Module) -> float:
        network = map_model(model, design, calibration=calibration)
        accuracies = [
            evaluate(network.fabricate(seed + die), images, labels, progress=False).accuracy for die in range(dies)
        ]
        return math.fsum(accuracies) / dies

    return measure


@entrance
def prune_progressively(
    model: nn.Module,
    *,
    layers: Sequence[str],
    ratios: Sequence[float],
    prune: Callable[[nn.Module, tuple[str, ...], float], nn.Module],
    accuracy: Callable[[nn.Module], float],
    threshold: float,
    repeat: bool = True,
    report: Callable[[PruningStep], None] | None = None,
) -> ProgressivePruning:
    """Hierarchical progressive pruning.

    All layers are pruned with rising ratios as long as the mean accuracy of faulty dies falls by no more than the
    threshold. When it falls further, the attempt is dropped and the smallest layer is left out from there on. Pruned
    weights that sit in cells which cannot break them raise the accuracy, too much pruning lowers it: the best network
    met on the way is returned.

    Parameters
    ----------
    model
        A trained network; not changed.
    layers
        Names of the layers that may be pruned; ordered here by their number of weights.
    ratios
        Shares to take away, rising, in (0, 1).
    prune
        Takes a network, names and a ratio, and returns another, trained again, whose named layers have lost that share
        of all their weights; the masks of other layers stay.
    accuracy
        Mean accuracy of faulty dies, such as :func:`faulty_accuracy`.
    threshold
        Largest loss of accuracy in one step, as a fraction, 0 or more.
    repeat
        After a failure, try the same ratio again with fewer layers, as the text of the paper says; otherwise go on with
        the next ratio, as its listing says.
    report
        Called with each attempt.

    Raises
    ------
    InputError
        If `layers` is empty or names no layer, `ratios` do not rise within (0, 1), or `threshold` is negative.
    """
    sizes = {name: find_layer(model, name).weight.numel() for name in layers}
    if not layers:
        raise InputError("layers must name at least one layer, got none")
    shares = [check_real("ratios", ratio, above=0.0, below=1.0) for ratio in ratios]
    if not shares or any(second <= first for first, second in itertools.pairwise(shares)):
        raise InputError(f"ratios must be rising numbers in (0, 1), got {list(ratios)}")
    check_real("threshold", threshold, at_least=0.0)
    blocks = sorted(sizes, key=lambda name: sizes[name])

    before = accuracy(model)
    current, current_accuracy = model, before
    best, best_accuracy = model, before
    steps: list[PruningStep] = []
    position = 0
    while position < len(shares) and blocks:
        names, ratio = tuple(blocks), shares[position]
        candidate = prune(current, names, ratio)
        measured = accuracy(candidate)
        kept = current_accuracy - measured < threshold or measured >= current_accuracy
        better = kept and measured > best_accuracy
        step = PruningStep(layers=names, ratio=ratio, accuracy=measured, kept=kept, best=better)
        steps.append(step)
        if report is not None:
            report(step)
        if better:
            best, best_accuracy = candidate, measured
        if kept:
            current, current_accuracy = candidate, measured
            position += 1
        else:
            del blocks[0]
            position += not repeat
    return ProgressivePruning(model=best, accuracy=best_accuracy, before=before, steps=tuple(steps))
