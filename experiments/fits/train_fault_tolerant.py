"""Train networks further with the faults of the hardware, and write weights that bear dies nobody has tested.

``python -m xbarsim.experiments.fits.train_fault_tolerant NAME ...`` repeats what was done, on one thread. Every network
starts from trained weights and goes on, most of them with other faults at every step. Variants:

``raw``
    stuck cells of the differential mapping, as a die has them that nothing is done about: most of them stuck on;
``lost``
    a share of the weights at 0, as on a die whose healthy cells were programmed anew around its stuck ones;
``placebo``
    nothing injected, all else alike: what the epochs alone are worth;
``retrained``
    as ``placebo``, and the full scale of an output is not clipped, as it is in the three others;
``pruned_30`` (``60``, ``80``)
    as ``retrained``, but so many per cent of each layer's weights, the smallest, are 0 from the first step on.

Settings were chosen by images held back from this training, which the given weights of ResNet-20 have seen in theirs.
The test set is looked at once, at the end, with the weights as they are written.

Weights have 9 bits: two 4-bit slices of a pair hold a sign and 8 bits. With 8 bits the upper slice would use half of
its levels and a stuck cell still err by all of them, twice the full scale, in the same number of cells.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import typer
from torch import nn

import xbarsim as xb
from xbarsim.compress import (
    Distillation,
    Disturbance,
    FrozenStatistics,
    Hardening,
    Injection,
    LostWeights,
    Rates,
    gemm_view,
    mappable_layers,
)
from xbarsim.devices import Cell, fault_preset
from xbarsim.experiments.fits.train_networks import accuracy, round_weights
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.foundation.validation import check_choice
from xbarsim.mapping import Differential, Mapping
from xbarsim.models import load_images, load_model, load_zoo_file, save_coded
from xbarsim.training import Callback, Training, TrainingSet, train

__all__ = ["FITS", "Fit", "design", "faulty_accuracy", "main"]

_BITS = 9
_RATES = (0.0, 0.007, 0.02)  # at which the finished network is judged
_DIES, _IMAGES = 4, 1000  # that judge it; without faults all test images do
_SEED = 2026  # of these dies; those of the training have others
_FOLDER = WEIGHTS / "fault_tolerant"


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How one network is trained.

    Attributes
    ----------
    network
        What the card calls its architecture.
    data_set
        Test images, and what the card calls it.
    data
        What it is trained on, with images held back.
    start
        Name of the weights that it goes on from: of the zoo, or of another fit, written before.
    disturbance
        What the weights meet, of the number of steps in all; ``None`` for nothing.
    training
        Settings; ``None`` for none.
    average
        Names of other weights, and their shares: it goes on from the mean of them and of `start`, which has the rest
        (M. Wortsman et al., Robust fine-tuning of zero-shot models, CVPR 2022, doi:10.48550/arXiv.2109.01903).
    pruned
        Share of each layer's weights, the smallest, that are 0 from the first step on.
    clip
        Share of an output's weights that set its full scale.
    teacher
        Name of a network of the zoo whose answers it follows as well; ``None`` for the labels alone.
    """

    network: str
    data_set: str
    data: Callable[[], TrainingSet]
    start: str
    disturbance: Callable[[int], Disturbance] | None
    training: Training | None
    average: tuple[tuple[str, float], ...] = ()
    pruned: float = 0.0
    clip: float = 0.99
    teacher: str | None = None


def design() -> xb.Design:
    """The differential mapping of 9-bit weights in 4-bit cells, most faults stuck on (5.2 to 1)."""
    return xb.Design(
        cell=Cell.load("islped2019").without_errors(),
        mapping=Mapping(encoding=Differential(), weight_bits=_BITS, cell_bits=4),
        faults=fault_preset("chen2015_sa0_hrs").faults,
    )


def _raw(largest: float) -> Callable[[int], Disturbance]:
    """Stuck cells, rising to their highest rate over the first third of the steps."""
    return lambda steps: Injection(design=design(), rates=Rates(law="ramp", largest=largest, ramp_steps=steps // 3))


def _lost(largest: float) -> Callable[[int], Disturbance]:
    return lambda steps: LostWeights(rates=Rates(law="ramp", largest=largest, ramp_steps=steps // 3))


def _variants(
    network: str, data_set: str, start: str, training: Training, *, raw: float, lost: float = 0.1
) -> dict[str, Fit]:
    disturbances = {"raw": _raw(raw), "lost": _lost(lost), "placebo": None}
    return {
        f"{network}_{variant}": Fit(
            network=network,
            data_set=data_set,
            data=lambda: TrainingSet.load(data_set),
            start=start,
            disturbance=disturbance,
            training=training,
        )
        for variant, disturbance in disturbances.items()
    }


_RESNET20 = Training(epochs=3, learning_rate=0.01, augmentation="crop-flip", channels_last=True, device="cpu", seed=11)

FITS: dict[str, Fit] = {
    **_variants("resnet20", "cifar10", "resnet20", _RESNET20, raw=0.02),
    **_variants("convnet", "cifar10", "convnet-unpruned-9bit", _RESNET20, raw=0.03),
    **_variants("lenet5", "mnist", "lenet5-unpruned-9bit", replace(_RESNET20, augmentation="affine"), raw=0.05),
}
FITS["resnet20_retrained"] = replace(FITS["resnet20_placebo"], clip=1.0, training=replace(_RESNET20, epochs=1))
FITS |= {
    f"resnet20_pruned_{100 * share:.0f}": replace(FITS["resnet20_retrained"], pruned=share) for share in (0.3, 0.6, 0.8)
}
FITS["resnet20_raw_averaged"] = replace(
    FITS["resnet20_raw"], start="resnet20_raw", training=None, disturbance=None, average=(("resnet20", 0.5),)
)
FITS["convnet_raw_averaged"] = replace(
    FITS["convnet_raw"],
    start="convnet_raw",
    training=None,
    disturbance=None,
    average=(("convnet-unpruned-9bit", 0.5),),
)
FITS["resnet20_raw_distilled"] = replace(
    FITS["resnet20_raw"],
    start="resnet20_raw_averaged",
    teacher="resnet20",
    training=replace(_RESNET20, learning_rate=0.003, seed=21),
)
FITS["resnet20_raw_mixed"] = replace(
    FITS["resnet20_raw"],
    training=None,
    disturbance=None,
    start="resnet20_raw",
    average=(("resnet20_raw_distilled", 0.375), ("resnet20", 0.25)),
)
"""By the name of the file that the weights are written to."""


def faulty_accuracy(model: nn.Module, images: torch.Tensor, labels: torch.Tensor, rate: float) -> list[float]:
    """Share of the images classified correctly by each of a few dies: converters and wires ideal, float activations.

    Parameters
    ----------
    model
        In evaluation mode; not changed.
    images, labels
        As the network takes them.
    rate
        Share of stuck cells, in the ratio of :func:`design`.
    """
    layers = mappable_layers(model)
    free = {name: layer.weight.detach().clone() for name, layer in layers.items()}
    found = []
    for die in range(_DIES if rate else 1):
        injection = Injection(design=design(), rates=Rates(largest=rate), seed=_SEED + die)
        with torch.no_grad():
            for index, (name, layer) in enumerate(layers.items()):
                layer.weight.copy_(injection.read_back(free[name], layer=name, index=index, step=0))
        found.append(accuracy(model, images.numpy(), labels.numpy()))
    with torch.no_grad():
        for name, layer in layers.items():
            layer.weight.copy_(free[name])
    return found


def _kappa(model: nn.Module) -> float:
    """Mean over the layers of s^2 / E w^2, the full scale of an output squared over its mean square weight.

    The energy of what stuck cells do, over that of the weights, grows with it.
    """
    ratios = []
    for layer in mappable_layers(model).values():
        matrix = gemm_view(layer.weight.detach())
        ratios.append(float((matrix.abs().amax(dim=1) ** 2 / matrix.square().mean(dim=1)).mean()))
    return sum(ratios) / len(ratios)


def _largest(weight: torch.Tensor, share: float) -> torch.Tensor:
    """Which weights stay, where this share of them does: the largest."""
    sizes = weight.detach().abs().flatten()
    mask = torch.zeros(sizes.numel(), dtype=torch.bool)
    mask[sizes.argsort(descending=True, stable=True)[: round(share * sizes.numel())]] = True
    return mask.view(weight.shape)


def _train(name: str, network: nn.Module, fit: Fit, checkpoints: Path) -> str:
    """Train a network in place, if it is to be trained, and leave its weights clipped; what was injected."""
    data = fit.data()
    injection: Disturbance | None = None
    others: list[Callback] = [FrozenStatistics()]
    if fit.training is not None and fit.disturbance is not None:
        injection = fit.disturbance(fit.training.epochs * (len(data.labels) // fit.training.batch))
    if fit.teacher is not None:
        others.append(Distillation(load_model(fit.teacher)[0]))
    layers = mappable_layers(network)
    masks = {name: _largest(layer.weight, 1 - fit.pruned) for name, layer in layers.items()} if fit.pruned else {}
    hardening = Hardening(masks=masks, injection=injection, layers=tuple(layers), clip=fit.clip)
    if fit.training is None:
        hardening.start(network, 0)
    else:
        checkpoints.mkdir(parents=True, exist_ok=True)
        checkpoint = checkpoints / f"{name}.safetensors"
        train(network, data, fit.training, callbacks=(hardening, *others), checkpoint=checkpoint, progress=True)
    hardening.bake()
    return "nothing" if injection is None else injection.text()


def _load(name: str, output: Path) -> nn.Module:
    """Weights of another fit, or of the zoo."""
    return load_zoo_file(output / f"{name}.safetensors")[0] if name in FITS else load_model(name)[0]


def _average(network: nn.Module, others: list[tuple[nn.Module, float]]) -> None:
    """Give a network the mean of its parameters and statistics and those of others, of which the shares are given."""
    states = [(other.state_dict(), share) for other, share in others]
    own = 1.0 - sum(share for _, share in states)
    with torch.no_grad():
        for name, tensor in network.state_dict().items():
            if tensor.is_floating_point():
                tensor.mul_(own)
                for state, share in states:
                    tensor.add_(state[name], alpha=share)


def _fit(name: str, fit: Fit, checkpoints: Path, output: Path) -> None:
    network = _load(fit.start, output)
    _average(network, [(_load(other, output), share) for other, share in fit.average])
    injected = _train(name, network, fit, checkpoints)
    network.eval()
    round_weights(network, _BITS)
    path = output / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    epochs = "no training" if fit.training is None else f"{fit.training.epochs} epochs, seed {fit.training.seed}"
    about: dict[str, object] = {
        "network": fit.network,
        "data_set": fit.data_set,
        "licence": "Apache-2.0",
        "trained_by": "python -m xbarsim.experiments.fits.train_fault_tolerant",
        "training": f"{epochs}, from {fit.start}",
        "averaged_with": ", ".join(f"{other} ({share:g})" for other, share in fit.average) or None,
        "injected": injected,
        "bits": _BITS,
        "clip": fit.clip,
        "pruned": fit.pruned or None,
        "teacher": fit.teacher,
        "full_scale_squared_over_mean_square": round(_kappa(network), 2),
    }
    save_coded(path, network, bits=_BITS, about=about)
    again = load_zoo_file(path)[0]  # what is measured is what a reader of the file will have
    data = fit.data()
    validation = data.normalise(data.validation_images[:_IMAGES]), data.validation_labels[:_IMAGES]
    images, labels = (torch.from_numpy(array) for array in load_images(fit.data_set, "test"))
    for what, (inputs, wanted) in {"validation": validation, "test": (images, labels)}.items():
        for rate in _RATES:
            count = len(wanted) if rate == 0 else min(_IMAGES, len(wanted))
            found = faulty_accuracy(again, inputs[:count], wanted[:count], rate)
            about[f"{what}_accuracy_{rate}"] = round(sum(found) / len(found), 4)
            dies = ", ".join(f"{one:.2%}" for one in found)
            typer.echo(f"{name}: {what} accuracy at {rate:.2%} stuck cells, {count} images: {dies}")
    about |= {"accuracy_float32": about["test_accuracy_0.0"], "test_images": len(labels)}
    about |= {"dies_of_an_accuracy": _DIES, "images_of_a_die": _IMAGES}
    save_coded(path, again, bits=_BITS, about=about)
    typer.echo(f"{name}: {path.stat().st_size / 1e3:.0f} kB in {path}")


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Networks; all by default.")] = None,
    checkpoints: Annotated[Path, typer.Option(help="Folder of the checkpoints.")] = Path("checkpoints"),
    output: Annotated[Path, typer.Option(help="Folder of the weights.")] = _FOLDER,
) -> None:
    """Train, print the accuracies, and write the weights."""
    torch.set_num_threads(1)  # sums in one order
    for name in names or FITS:
        _fit(name, FITS[check_choice("names", name, FITS)], checkpoints, output)


if __name__ == "__main__":
    typer.run(main)
