"""Networks that ran on the NeuRRAM chip, rebuilt from the weights that its authors publish; read in place."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from xbarsim.data import data_file
from xbarsim.foundation.archives import read_npz
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import FileFormatError, check_choice

__all__ = ["NEURRAM_NETWORKS", "NeuRRAMMnistNet", "NeuRRAMResNet20", "load_neurram_network"]

NEURRAM_NETWORKS = {
    "resnet20_0.00": "resnet20_act3b_trainnoise0.00.npz",
    "resnet20_0.05": "resnet20_act3b_trainnoise0.05.npz",
    "resnet20_0.10": "resnet20_act3b_trainnoise0.10.npz",
    "resnet20_0.15": "resnet20_act3b_trainnoise0.15.npz",
    "resnet20_fine_tuned": "resnet20_act3b_finetuned_simulation.npz",
    "mnist_0.15": "mnist_cnn7_act3b_trainnoise0.15.npz",
}
"""What :func:`load_neurram_network` reads: the name, with the weight noise of the training, and the file."""

_STEPS = 7  # of an activation: 3 bits
_WIDTHS = (16, 32, 64)


class _Steps(nn.Module):
    """Clip to [0, limit] and round to so many steps, halves up."""

    limit: torch.Tensor

    def __init__(self, steps: int, limit: float = 1.0) -> None:
        super().__init__()
        self.steps = steps
        self.register_buffer("limit", torch.tensor(limit))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The nearest steps, of the shape of `x`."""
        return torch.floor(x.clamp(min=0).minimum(self.limit) / self.limit * self.steps + 0.5) / self.steps * self.limit


def _same(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Zeros around maps of even size, so that a 3 x 3 kernel gives 1 / stride as many positions, as TensorFlow does."""
    return F.pad(x, (0, 1, 0, 1) if stride == 2 else (1, 1, 1, 1))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int, *, last: bool) -> None:
        super().__init__()
        self.stride = stride
        self.conv1, self.bn1, self.act1 = nn.Conv2d(inputs, outputs, 3, stride), _norm(outputs), _Steps(_STEPS)
        self.conv2, self.bn2 = nn.Conv2d(outputs, outputs, 3), _norm(outputs)
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride) if stride == 2 else None
        self.act2: nn.Module = nn.ReLU() if last else _Steps(_STEPS)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Maps of the same size, or of half of it."""
        y = self.act1(self.bn1(self.conv1(_same(x, self.stride))))
        y = self.bn2(self.conv2(_same(y, 1)))
        result: torch.Tensor = self.act2(y + (x if self.shortcut is None else self.shortcut(x)))
        return result


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class NeuRRAMResNet20(nn.Module):
    """ResNet-20 for CIFAR-10 with 3-bit activations, images in 15 steps, and 1 x 1 convolutions as shortcuts.

    Input float32 (images, 3, 32, 32) in [0, 1]; output (images, 10) logits. 273,066 parameters.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = _Steps(15, 0.95)
        self.stem, self.stem_bn, self.stem_act = nn.Conv2d(3, _WIDTHS[0], 3), _norm(_WIDTHS[0]), _Steps(_STEPS)
        self.stages = nn.ModuleList()
        inputs = _WIDTHS[0]
        for stage, width in enumerate(_WIDTHS):
            blocks = []
            for block in range(3):
                stride = 2 if stage and not block else 1
                blocks.append(_Block(inputs, width, stride, last=stage == block == 2))
                inputs = width
            self.stages.append(nn.Sequential(*blocks))
        self.head_act = _Steps(_STEPS)
        self.dense = nn.Linear(_WIDTHS[-1], 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.stem_act(self.stem_bn(self.stem(_same(self.image(images), 1))))
        for stage in self.stages:
            x = stage(x)
        logits: torch.Tensor = self.dense(self.head_act(x.mean(dim=(2, 3))))
        return logits


class NeuRRAMMnistNet(nn.Module):
    """Six 3 x 3 convolutions and a linear layer for MNIST, images and activations of 3 bits.

    Input float32 (images, 1, 28, 28) in [0, 1]; output (images, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.image = _Steps(_STEPS)
        widths = (1, 8, 8, 16, 16, 32, 32)
        self.convs = nn.ModuleList(nn.Conv2d(widths[i], widths[i + 1], 3, padding=1) for i in range(6))
        self.acts = nn.ModuleList(_Steps(_STEPS) for _ in range(6))
        self.dense = nn.Linear(512, 10)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits."""
        x = self.image(images)
        for index, (conv, act) in enumerate(zip(self.convs, self.acts, strict=True)):
            x = act(conv(x))
            if index % 2:
                x = F.max_pool2d(x, 2, ceil_mode=True)
        logits: torch.Tensor = self.dense(x.permute(0, 2, 3, 1).flatten(1))  # channels last, as it was trained
        return logits


def _resnet_names() -> dict[str, str]:
    """Name of each tensor of the network, and the array of the file that it is."""
    names = {"stem": "stem.conv", "stem_bn": "stem.bn", "stem_act": "stem.act", "head_act": "head.act"}
    names["dense"] = "head.dense"
    for stage in range(3):
        for block in range(3):
            for part in ("conv1", "bn1", "act1", "conv2", "bn2", "act2", "shortcut"):
                names[f"stages.{stage}.{block}.{part}"] = f"stage{stage}.block{block}.{part}"
    return names


def _mnist_names() -> dict[str, str]:
    names = {"dense": "dense"}
    for index in range(6):
        names |= {f"convs.{index}": f"conv{index}", f"acts.{index}": f"act{index}"}
    return names


def _array(arrays: Mapping[str, Any], module: str, tensor: str, wanted: torch.Tensor) -> torch.Tensor:
    kinds = {"weight": "kernel", "limit": "relux", "running_mean": "moving_mean", "running_var": "moving_variance"}
    norms = {"weight": "gamma", "bias": "beta"} if module.rpartition(".")[2] in ("bn", "bn1", "bn2") else {}
    name = f"{module}.{norms.get(tensor) or kinds.get(tensor, tensor)}"
    shape = getattr(arrays.get(name), "shape", None)
    if shape != tuple(wanted.shape):
        raise FileFormatError(f"{name} must have shape {tuple(wanted.shape)}, got {shape}")
    return torch.from_numpy(np.asarray(arrays[name], np.float32, order="C"))


@entrance
def load_neurram_network(name: str) -> nn.Module:
    """A network of the NeuRRAM chip with its weights, ready to evaluate; mapped, its layers take 3 and 4 bits.

    Parameters
    ----------
    name
        One of :data:`NEURRAM_NETWORKS`. ``"resnet20_0.05"`` was trained with Gaussian noise on its weights of 5 % of
        the largest weight of the layer; ``"resnet20_fine_tuned"`` is what its authors' layer-by-layer tuning made of
        one of them, in simulation.

    Raises
    ------
    FileNotFoundError
        If there is no data folder, or it lacks the file: the weights are not ours to ship.
    FileFormatError
        If the file does not hold the network.
    InputError
        If there is no such network.

    References
    ----------
    .. [1] W. Wan et al., A compute-in-memory chip based on resistive random-access memory, Nature 608, 504-512 (2022),
       doi:10.1038/s41586-022-04992-8. Weights: github.com/weierwan/Neurram_48core, commit 2ed5f8d8.
    """
    path = data_file("neurram", NEURRAM_NETWORKS[check_choice("name", name, NEURRAM_NETWORKS)])
    arrays = read_npz(path, "network weights")
    with torch.device("meta"):  # no random initial weights: the caller's random state stays as it is
        network: nn.Module = NeuRRAMResNet20() if name.startswith("resnet20") else NeuRRAMMnistNet()
    names = _resnet_names() if name.startswith("resnet20") else _mnist_names()
    state = {}
    for key, wanted in network.state_dict().items():
        module, _, tensor = key.rpartition(".")
        if tensor == "num_batches_tracked":
            state[key] = torch.tensor(0)
        elif module == "image":
            state[key] = torch.tensor(0.95 if name.startswith("resnet20") else 1.0)
        else:
            state[key] = _array(arrays, names[module], tensor, wanted)
    network.load_state_dict(state, assign=True)
    _tell_bits(network)
    return network.eval()


def _tell_bits(network: nn.Module) -> None:
    """Say of each layer what tells its inputs apart, so that a chip drives no more: 4 bits for images of 15 steps."""
    for name, layer in network.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            first = name == "stem"
            layer.input_bits = 4 if first else 3  # type: ignore[assignment]
