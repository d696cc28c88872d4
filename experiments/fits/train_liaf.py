"""Train the networks of neurons with time, and those that they are compared with, for the LIAF paper.

``python -m xbarsim.experiments.fits.train_liaf FOLDER [NAME ...]`` trains on one thread; what is written already is
left as it is, and a training that was stopped goes on from its checkpoint. Settings were chosen on a part of the
training data that was held back; a network keeps the weights of its last epoch, one of stories those of the epoch that
is best on the last 1,000 of the 10,000 questions to train on.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from torch import Tensor, nn

from xbarsim.data import event_frames, folds, load_babi, load_nmnist, spoken_digit_features
from xbarsim.experiments.fits.train_networks import Frames, Tokens, round_weights
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.foundation.validation import check_choice
from xbarsim.models import EventNet, SequenceNet, StoryNet, load_coded, save_coded
from xbarsim.network.lowering.recurrent import LowerGRU, LowerLSTM
from xbarsim.training import Callback, Training, TrainingSet, train

__all__ = [
    "ARMS",
    "BABI",
    "BITS",
    "FOLDER",
    "Arm",
    "Gated",
    "Stories",
    "judges",
    "load_run",
    "main",
    "parts_of",
    "train_run",
]

BITS = 9
"""Of the weights: two 4-bit cells a sign, and the sign."""

FOLDER = WEIGHTS / "liaf2021"
"""Of the networks that are stored."""

_FOLDS = 5
_SEEDS = 3  # of the networks of spoken digits and of stories
_HELD_BACK = 1000  # questions by which an epoch is chosen
_POOL = 2  # pixels of the camera in one of a frame


def _in_bins(images: Tensor, bins: int) -> Tensor:
    """Images with two channels a bin as frames (samples, bins, 2, size, size)."""
    return images.reshape(len(images), bins, 2, *images.shape[2:])


class _Bins(nn.Module):
    """A network of frames (samples, bins, 2, size, size) as one of images with two channels a bin."""

    def __init__(self, network: nn.Module, bins: int) -> None:
        super().__init__()
        self.network, self.bins = network, bins

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.network(_in_bins(images, self.bins))
        return logits


class Gated(nn.Module):
    """One layer of GRU or LSTM units, the mean of its outputs over time or the last one, and a linear layer.

    Input (samples, time, inputs), output (samples, classes) logits.

    Parameters
    ----------
    kind
        ``"gru"`` or ``"lstm"``.
    units
        Of the layer.
    inputs, classes
        Features of a step, outputs.
    bias
        Whether the layer has biases: without them its state stays 0 until there is an input.
    last
        Whether the linear layer sees the last output only.
    """

    def __init__(
        self, kind: str, units: int, *, inputs: int = 24, classes: int = 10, bias: bool = True, last: bool = False
    ) -> None:
        super().__init__()
        layer = nn.GRU if kind == "gru" else nn.LSTM
        self.recurrent: nn.Module = layer(inputs, units, bias=bias, batch_first=True)
        self.classifier = nn.Linear(units, classes)
        self.last = last

    def forward(self, frames: Tensor) -> Tensor:
        """Logits of frames."""
        outputs, _ = self.recurrent(frames)
        logits: Tensor = self.classifier(outputs[:, -1] if self.last else outputs.mean(dim=1))
        return logits


def _taken_apart(network: nn.Module) -> nn.Module:
    """A network whose gated layer is one of linear products, which a file of codes can hold; changed in place."""
    for gated in [module for module in network.modules() if isinstance(module, Gated)]:
        lowering = LowerGRU() if isinstance(gated.recurrent, nn.GRU) else LowerLSTM()
        gated.recurrent = lowering.lower(gated.recurrent.eval())
    return network


def _convolutions() -> nn.Module:
    """The network of events without time: rectifiers in the place of neurons."""
    layers: list[nn.Module] = []
    for before, after in ((2, 16), (16, 32)):
        layers += [
            nn.Conv2d(before, after, 3, padding=1, bias=False),
            nn.BatchNorm2d(after),
            nn.ReLU(),
            nn.MaxPool2d(2),
        ]
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(512, 10))


class _Clip(Callback):
    """Gradients whose norm over all weights is above 1 are scaled to 1.

    Over many steps a recurrent layer's gradients explode now and then (R. Pascanu et al., ICML 2013, arXiv:1211.5063).
    """

    def start(self, model: nn.Module, epochs: int) -> None:
        """Remember the weights."""
        self._weights = list(model.parameters())

    def before_step(self) -> None:
        """Scale the gradients."""
        nn.utils.clip_grad_norm_(self._weights, 1.0)


@dataclass(frozen=True, kw_only=True)
class Stories:
    """Questions of one task of bAbI, whose stories are read sentence by sentence.

    Attributes
    ----------
    task
        Its number.
    vocabulary, answers
        Words there are, the padding included, and answers.
    words
        Of the longest sentence.
    """

    task: int
    vocabulary: int
    answers: int
    words: int

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"bAbI task {self.task}"


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One kind of network.

    Attributes
    ----------
    title
        What tables call it.
    build
        Makes it, with weights from torch's generator.
    bins
        Bins of a recording of events; 0 for others.
    training
        Settings.
    stories
        Questions of bAbI; ``None`` for others.
    """

    title: str
    build: Callable[[], nn.Module]
    bins: int
    training: Training
    stories: Stories | None = None

    @property
    def data(self) -> str:
        """What tables call the data."""
        return self.stories.title if self.stories else "N-MNIST" if self.bins else "FSDD"

    @property
    def runs(self) -> int:
        """Networks that are trained."""
        return _FOLDS if self.bins else _SEEDS


_EVENTS = Training(
    epochs=16, batch=20, optimiser="adamw", learning_rate=5e-3, weight_decay=0.02, warm_up=1.0, augmentation="shift",
    device="cpu",
)  # fmt: skip
_SPEECH = Training(
    epochs=20, batch=50, optimiser="adamw", learning_rate=5e-3, weight_decay=0.01, warm_up=1.0, augmentation="shift",
    device="cpu",
)  # fmt: skip
_STORIES = Training(epochs=30, batch=100, optimiser="adamw", weight_decay=0.1, warm_up=1.0, select="best", device="cpu")
_WIDTH = 50  # of the embedding of a word
_UNITS = {"rlif": 105, "rliaf": 105, "gru": 53, "lstm": 44}
_RATES = {"rlif": 1e-2, "rliaf": 1e-2, "gru": 2e-2, "lstm": 2e-2}
_NEURONS: dict[str, dict[str, Any]] = {
    "rlif": {"fire": "lif", "leak": 0.6, "width": 1.0},
    "rliaf": {"fire": "relu", "threshold_related": True, "leak": 0.8},
}
"""What was best on held-back questions of tasks 1, 9 and 12, as were the learning rates."""

BABI = {
    "babi1": Stories(task=1, vocabulary=22, words=7, answers=6),
    "babi6": Stories(task=6, vocabulary=36, words=7, answers=2),
    "babi9": Stories(task=9, vocabulary=25, words=8, answers=2),
    "babi12": Stories(task=12, vocabulary=23, words=9, answers=6),
    "babi15": Stories(task=15, vocabulary=20, words=6, answers=4),
}
"""By what the names of arms end in."""


def _story_net(kind: str, stories: Stories) -> StoryNet:
    """Embeddings, one recurrent layer, and a linear layer on its last output.

    Nothing but the linear layer has a bias: empty sentences before a story leave every kind of layer at rest, and the
    embeddings of words can hold one.
    """
    shape: dict[str, Any] = {
        "inputs": _WIDTH, "units": _UNITS[kind], "classes": stories.answers, "bias": False, "last": True
    }  # fmt: skip
    reader = SequenceNet(**_NEURONS[kind], **shape) if kind in _NEURONS else Gated(kind, **shape)
    return StoryNet(reader, vocabulary=stories.vocabulary, words=stories.words, width=_WIDTH)


def _story_arm(kind: str, title: str, stories: Stories) -> Arm:
    training = replace(_STORIES, learning_rate=_RATES[kind])
    return Arm(title=title, build=partial(_story_net, kind, stories), bins=0, training=training, stories=stories)


ARMS: dict[str, Arm] = {
    "lif": Arm(title="LIF", build=partial(EventNet, "lif", size=17), bins=10, training=_EVENTS),
    "liaf": Arm(title="LIAF", build=partial(EventNet, "relu1", size=17), bins=10, training=_EVENTS),
    "liaf3": Arm(title="LIAF, 3 bins", build=partial(EventNet, "relu1", size=17), bins=3, training=_EVENTS),
    "cnn": Arm(title="CNN, sum of bins", build=_convolutions, bins=1, training=_EVENTS),
    "rlif": Arm(
        title="RLIF",
        build=partial(SequenceNet, "lif", inputs=24, units=117, norm=True, leak=0.8),
        bins=0,
        training=_SPEECH,
    ),
    "rliaf": Arm(
        title="RLIAF",
        build=partial(SequenceNet, "relu1", inputs=24, units=117, norm=True, leak=0.8),
        bins=0,
        training=_SPEECH,
    ),
    "gru": Arm(title="GRU", build=partial(Gated, "gru", 64), bins=0, training=_SPEECH),
    "lstm": Arm(title="LSTM", build=partial(Gated, "lstm", 54), bins=0, training=_SPEECH),
}
"""By the name of the files; the first four are those of events, the last ones those of stories."""

ARMS |= {
    f"{kind}-{ending}": _story_arm(kind, ARMS[kind].title, stories)
    for ending, stories in BABI.items()
    for kind in _UNITS
}


@cache
def _events(bins: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Frames (recordings, 2 x bins, 17, 17) on the scale 0 to 255, and labels: events or none; for one bin, counts."""
    recordings = load_nmnist()
    frames = event_frames(recordings, bins=bins, seconds=0.3 / bins, pool=_POOL)
    counts = np.minimum(frames.counts * 8, 255).astype(np.uint8)  # 255 are about 32 events
    levels = 255 * frames.binary if bins > 1 else counts
    return levels.reshape(len(levels), -1, *levels.shape[-2:]), recordings.labels


@cache
def _words(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Words (recordings, 1, 32, 24) on 256 levels, each frame the mean of two, and labels."""
    features, labels, _ = spoken_digit_features(split)
    frames = features.reshape(len(features), -1, 2, features.shape[2]).mean(axis=2)
    return np.rint(frames * 255).astype(np.uint8)[:, None], labels


@cache
def _questions(stories: Stories, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Numbers of words (questions, 1, sentences, words), and labels."""
    found = load_babi(split, task=stories.task)
    return found.sentences(stories.words).astype(np.uint8)[:, None], found.labels


def parts_of(arm: Arm, run: int) -> tuple[tuple[Any, Any], tuple[Any, Any]]:
    """Levels and labels to train a run of an arm on, and those that judge it."""
    if arm.stories:
        return _questions(arm.stories, "train"), _questions(arm.stories, "test")
    if not arm.bins:
        return _words("train"), _words("test")
    levels, labels = _events(arm.bins)
    judged = folds(labels, _FOLDS, seed=0)[run]
    others = np.setdiff1d(np.arange(len(labels)), judged)
    return (levels[others], labels[others]), (levels[judged], labels[judged])


def _wrapped(network: nn.Module, arm: Arm) -> nn.Module:
    """A network as the trainer takes it: from levels scaled to 0 to 1 to logits."""
    if not arm.bins:
        return (Tokens if arm.stories else Frames)(network)
    return _Bins(network, arm.bins) if arm.bins > 1 else network


def train_run(name: str, run: int, folder: Path) -> Path:
    """Train one network, and write it; one that is written already is left as it is.

    Parameters
    ----------
    name, run
        Which: a name in `ARMS`, and a number from 0.
    folder
        For the network, and for checkpoints, in ``checkpoints``.
    """
    arm = ARMS[name]
    path = folder / f"{name}-{run}.safetensors"
    if path.exists():
        return path
    (levels, labels), _ = parts_of(arm, run)
    shown = len(labels) - (_HELD_BACK if arm.stories else 0)
    channels = levels.shape[1]
    data = TrainingSet(
        name=name, images=torch.from_numpy(levels[:shown]), labels=torch.from_numpy(labels[:shown]),
        validation_images=torch.from_numpy(levels[shown:]), validation_labels=torch.from_numpy(labels[shown:]),
        mean=(0.0,) * channels, standard_deviation=(1.0,) * channels,
    )  # fmt: skip
    training = replace(arm.training, seed=run)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(run)
        network = arm.build()
    (folder / "checkpoints").mkdir(parents=True, exist_ok=True)
    history = train(
        _wrapped(network, arm), data, training, callbacks=[_Clip()] if arm.stories else [],
        checkpoint=folder / "checkpoints" / path.name,
    )  # fmt: skip
    round_weights(_taken_apart(network), BITS)
    about = {
        "network": name,
        "trained_by": "python -m xbarsim.experiments.papers.liaf2021 --train",
        "training": f"seed {run}, {shown} samples, epoch {history.selected + 1} of {training.epochs}",
        "training_accuracy": history.training_accuracy[history.selected],
        "licence": "Apache-2.0",
    }
    if arm.stories:
        about["held_back_accuracy"] = history.validation_accuracy[history.selected]
    save_coded(path, network, bits=BITS, about=about)
    return path


def load_run(name: str, run: int, folder: Path = FOLDER) -> nn.Module:
    """A trained network, ready to evaluate."""
    with torch.random.fork_rng(devices=[]):
        network = _taken_apart(ARMS[name].build())
    load_coded(folder / f"{name}-{run}.safetensors", network)
    return network


def judges(arm: Arm, run: int) -> tuple[Tensor, npt.NDArray[np.int64]]:
    """Samples that judge a run, as its network takes them, and labels."""
    return as_inputs(arm, *parts_of(arm, run)[1])


def as_inputs(arm: Arm, levels: npt.NDArray[np.uint8], labels: Any) -> tuple[Tensor, Any]:
    """Levels on the scale 0 to 255, or numbers of words, as the networks of an arm take them; labels as they are."""
    images = torch.from_numpy(levels).float()
    if arm.stories:  # numbers of words are no levels
        return images.squeeze((1, 2)), labels
    images = images.div(255)
    if arm.bins > 1:
        images = _in_bins(images, arm.bins)
    return images if arm.bins else images.squeeze(1), labels


def main(
    folder: Annotated[Path, typer.Argument(help="Where networks and checkpoints are kept.")],
    names: Annotated[list[str] | None, typer.Argument(help="Kinds of network; all by default.")] = None,
) -> None:
    """Train what is not trained yet."""
    torch.set_num_threads(1)  # sums in one order
    for name in names or ARMS:
        for run in range(ARMS[check_choice("names", name, ARMS)].runs):
            typer.echo(f"{train_run(name, run, folder)}")


if __name__ == "__main__":
    typer.run(main)
