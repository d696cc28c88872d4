"""Train the networks of the study of networks, and write their weights.

``python -m xbarsim.experiments.fits.train_networks NAME ...`` repeats what was done, on one thread. A few epochs each:
the study asks what mapping costs, not how good a network can get. The epoch that remains is chosen by images held back
from the training set; the test set is looked at once, at the end, with the weights as they are written: on 8 bits.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import nn

from xbarsim.data import load_babi, load_cifar10, spoken_digit_features
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.foundation.validation import check_choice
from xbarsim.mapping import quantise
from xbarsim.models import (
    STORY_WEIGHTS,
    RecurrentCell,
    SpokenDigitsNet,
    StoryTransformer,
    load_coded,
    load_images,
    save_coded,
    spoken_digits_weights,
)
from xbarsim.models.torchvision import (
    efficientnet_b0,
    mobilenet_v2,
    resnet18,
    shufflenet_v2_x1_0,
    vision_transformer,
)
from xbarsim.models.weights import read_safetensors
from xbarsim.training import Training, TrainingSet, train
from xbarsim.training.checkpoints import under

__all__ = [
    "FITS",
    "Fit",
    "Frames",
    "Tokens",
    "accuracy",
    "clear_unseen_taps",
    "main",
    "round_weights",
    "spoken_digits_data",
]

_BITS = 8
_BATCH = 250  # images at a time when measuring
_VALIDATION = 1000
_CIFAR10_IMAGES = 10_000


@dataclass(frozen=True, kw_only=True)
class Fit:
    """How one network is trained.

    Attributes
    ----------
    build
        Makes the network, with weights from torch's generator.
    data
        What it is trained on, with images held back.
    test
        Inputs as the network takes them and labels, looked at once.
    training
        Settings.
    title
        What the card calls the data set.
    folder
        Where its weights are kept.
    wrap
        The network as the trainer takes it: from the training set's images to logits.
    """

    build: Callable[[], nn.Module]
    data: Callable[[], TrainingSet]
    test: Callable[[], tuple[npt.NDArray[Any], npt.NDArray[np.int64]]]
    training: Training
    title: str
    folder: Path = WEIGHTS
    wrap: Callable[[nn.Module], nn.Module] = lambda network: network


def _cifar10_data() -> TrainingSet:
    """The first images of the training set: more of them would make better networks and take longer."""
    images, labels = load_cifar10("train", count=_CIFAR10_IMAGES + _VALIDATION)
    return TrainingSet.split(
        "cifar10",
        images,
        labels,
        validation=_VALIDATION,
        mean=(0.485, 0.456, 0.406),
        standard_deviation=(0.229, 0.224, 0.225),
    )


def _cifar10(build: Callable[[int], nn.Module], epochs: int, *, channels_last: bool = True) -> Fit:
    return Fit(
        build=lambda: build(10),
        data=_cifar10_data,
        test=lambda: load_images("cifar10", "test"),
        training=Training(
            epochs=epochs,
            batch=32,
            optimiser="adamw",
            learning_rate=1.5e-3,
            weight_decay=0.02,
            warm_up=0.15,
            channels_last=channels_last,
            device="cpu",
            select="best",
        ),
        title="CIFAR-10",
    )


class Frames(nn.Module):
    """A network of frames, (words, time, bands), as one of images with one channel."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images (words, 1, time, bands)."""
        logits: torch.Tensor = self.network(images.squeeze(1))
        return logits


class Tokens(nn.Module):
    """A network of numbers of words, (questions, length) or (questions, sentences, words), as one of images.

    They have one channel, and numbers without sentences one row.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits of images (questions, 1, sentences, words) on the scale 0 to 1, 255 levels."""
        logits: torch.Tensor = self.network((images * 255).round().long().squeeze((1, 2)))
        return logits


def spoken_digits_data() -> TrainingSet:
    """Features on 256 levels, a step of 0.24 dB."""
    features, labels, _ = spoken_digit_features("train")
    levels = np.rint(features * 255).astype(np.uint8)[:, None]
    return TrainingSet.split("spoken digits", levels, labels, validation=300, mean=(0.0,), standard_deviation=(1.0,))


def _stories_data() -> TrainingSet:
    stories = load_babi("train")
    tokens = stories.tokens.astype(np.uint8)[:, None, None]
    return TrainingSet.split(
        "bAbI task 1", tokens, stories.labels, validation=1000, mean=(0.0,), standard_deviation=(1.0,)
    )


def _stories_test() -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    stories = load_babi("test")
    return stories.tokens, stories.labels


def _spoken_digits(cell: RecurrentCell) -> Fit:
    return Fit(
        build=lambda: SpokenDigitsNet(cell),
        data=spoken_digits_data,
        test=lambda: spoken_digit_features("test")[:2],
        training=Training(
            epochs=40,
            batch=50,
            optimiser="adamw",
            learning_rate=1.5e-3,
            weight_decay=0.01,
            warm_up=1.0,
            augmentation="shift",
            device="cpu",
            select="best",
        ),
        title="FSDD spoken digits",
        folder=spoken_digits_weights(cell).parent,
        wrap=Frames,
    )


FITS: dict[str, Fit] = {
    "spoken_digits_lstm": _spoken_digits("lstm"),
    "spoken_digits_gru": _spoken_digits("gru"),
    "story_transformer": Fit(
        build=StoryTransformer,
        data=_stories_data,
        test=_stories_test,
        training=Training(
            epochs=16,
            batch=32,
            optimiser="adamw",
            learning_rate=1e-3,
            weight_decay=0.01,
            warm_up=1.0,
            device="cpu",
            select="best",
        ),
        title="bAbI task 1",
        folder=STORY_WEIGHTS.parent,
        wrap=Tokens,
    ),
    "shufflenet_v2_x1_0": _cifar10(shufflenet_v2_x1_0, 1, channels_last=False),
    "mobilenet_v2": _cifar10(mobilenet_v2, 1),
    "resnet18": _cifar10(resnet18, 1),
    "efficientnet_b0": _cifar10(efficientnet_b0, 1),
    "vision_transformer": _cifar10(vision_transformer, 1, channels_last=False),
}
"""By the name of the file that the weights are written to."""


def clear_unseen_taps(network: nn.Module, inputs: torch.Tensor) -> int:
    """Set weights of convolutions that meet nothing but padding at this size of image to zero; how many there were.

    A 3 x 3 kernel on one pixel sees that pixel and eight zeros: its outer weights never take part, were never
    trained, and would only fill the file. The network's answers stay as they are.

    Parameters
    ----------
    network
        Changed in place.
    inputs
        As the network takes them.
    """
    seen: dict[nn.Conv2d, torch.Tensor] = {}

    def note(module: nn.Module, arguments: tuple[torch.Tensor, ...], output: torch.Tensor) -> None:
        assert isinstance(module, nn.Conv2d)
        ones = torch.ones(1, 1, *arguments[0].shape[2:])
        padding, dilation = module.padding, module.dilation
        assert not isinstance(padding, str)
        columns = nn.functional.unfold(ones, module.kernel_size, dilation, padding, module.stride)
        taps = (columns[0] > 0).any(dim=1).reshape(module.kernel_size)
        seen[module] = taps | seen.get(module, torch.zeros_like(taps))

    hooks = [module.register_forward_hook(note) for module in network.modules() if isinstance(module, nn.Conv2d)]
    with torch.inference_mode():
        network.eval()(inputs)
    for hook in hooks:
        hook.remove()
    cleared = 0
    with torch.no_grad():
        for module, taps in seen.items():
            cleared += int((~taps).sum()) * module.weight[:, :, 0, 0].numel()
            module.weight.mul_(taps)
    return cleared


def round_weights(network: nn.Module, bits: int = _BITS) -> None:
    """Put the weights of linear and convolution layers on levels of so many bits, one scale an output, in place."""
    with torch.no_grad():
        for module in network.modules():
            if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
                weight = module.weight
                rounded = quantise(weight.flatten(1).numpy().T, bits=bits, per="output").dequantise().T
                weight.copy_(torch.from_numpy(rounded.astype(np.float32)).reshape(weight.shape))


def accuracy(network: nn.Module, inputs: npt.NDArray[Any], labels: npt.NDArray[np.int64]) -> float:
    """Share of the inputs that the network puts in the right class."""
    right = 0
    with torch.inference_mode():
        for start in range(0, len(labels), _BATCH):
            chosen = network(torch.from_numpy(inputs[start : start + _BATCH])).argmax(dim=1).numpy()
            right += int((chosen == labels[start : start + _BATCH]).sum())
    return right / len(labels)


def _so_far(model: nn.Module, checkpoint: Path) -> tuple[int, int, float]:
    """Give a model the best weights of a training that was stopped; that epoch, how many were run, its accuracy."""
    tensors = read_safetensors(checkpoint)
    model.load_state_dict(under("best/", tensors))
    rows, selected = tensors["history"], int(tensors["selected"])
    return selected + 1, len(rows), float(rows[selected, 3])


def _fit(name: str, fit: Fit, checkpoints: Path, output: Path | None, early: bool) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(fit.training.seed)
        network = fit.build()
    checkpoints.mkdir(parents=True, exist_ok=True)
    data, checkpoint = fit.data(), checkpoints / f"{name}.safetensors"
    if early:
        best, run, validated = _so_far(fit.wrap(network), checkpoint)
    else:
        history = train(fit.wrap(network), data, fit.training, checkpoint=checkpoint, progress=True)
        best, run = history.selected + 1, len(history.loss)
        validated = history.validation_accuracy[history.selected]
    typer.echo(f"{name}: epoch {best} of the {run} run, validation accuracy {validated:.2%}")
    inputs, labels = fit.test()
    cleared = clear_unseen_taps(network, torch.from_numpy(inputs[:1]))
    round_weights(network)
    path = (fit.folder if output is None else output) / f"{name}.safetensors"
    path.parent.mkdir(parents=True, exist_ok=True)
    about: dict[str, object] = {
        "network": name,
        "data_set": fit.title,
        "licence": "Apache-2.0",
        "trained_by": "python -m xbarsim.experiments.fits.train_networks",
        "training": f"seed {fit.training.seed}, {len(data.labels)} samples, epoch {best} of {fit.training.epochs}",
        "epochs_run": run,
        "bits": _BITS,
        "validation_accuracy": validated,
        "test_samples": len(labels),
        "weights_that_meet_padding_only": cleared,
    }
    save_coded(path, network, bits=_BITS, about=about)
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        again = fit.build()
    load_coded(path, again)  # what is measured is what a reader of the file will have
    about["accuracy_float32"] = measured = accuracy(again, inputs, labels)
    save_coded(path, network, bits=_BITS, about=about)
    typer.echo(f"{name}: test accuracy {measured:.4f} on {len(labels)}; {path.stat().st_size / 1e6:.2f} MB in {path}")


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Networks; all by default.")] = None,
    checkpoints: Annotated[Path, typer.Option(help="Folder of the checkpoints.")] = Path("checkpoints"),
    output: Annotated[Path | None, typer.Option(help="Folder of the weights, instead of each one's own.")] = None,
    early: Annotated[bool, typer.Option(help="Train no further: write the best epoch of the checkpoints.")] = False,
) -> None:
    """Train, print the accuracies, and write the weights."""
    torch.set_num_threads(1)  # sums in one order
    for name in names or FITS:
        _fit(name, FITS[check_choice("names", name, FITS)], checkpoints, output, early)


if __name__ == "__main__":
    typer.run(main)
