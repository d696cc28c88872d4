"""Small networks of all kinds, exported to ONNX files by both of torch's exporters."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from tests.network.onnx.writing import Array


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.short = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.body(x) + self.short(x))
        return self.last(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def mobile() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 12, 1),
        nn.SiLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(12 * 9, 4),
        nn.Softmax(-1),
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "lstm":
            self.layers: nn.Module = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        else:
            self.layers = nn.GRU(5, 7, bidirectional=True, batch_first=True)
        self.last = nn.Linear(7 if kind == "lstm" else 14, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x)[0][:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # layers begin as copies of one
            nn.init.normal_(parameter, std=0.3)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(x).mean(1))  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))
        self.norm = nn.LayerNorm(12)
        self.last = nn.Linear(12, outputs)

    def forward(self, x: Tensor) -> Tensor:
        parts = (layer(x).unflatten(-1, (2, 6)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return self.last(self.norm(x + mixed)[:, 0])  # type: ignore[no-any-return]


class Vision(nn.Module):
    """Everything that convolutional networks are written with, in one: exporters differ in pooling and flattening."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 6, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(6), nn.ReLU6())
        self.each = nn.Sequential(nn.Conv2d(6, 6, 3, groups=6, padding=1), nn.BatchNorm2d(6), nn.ReLU())
        self.body, self.short = nn.Conv2d(6, 8, 3, padding=1), nn.Conv2d(6, 8, 1, bias=False)
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.flat, self.mean = nn.Linear(8 * 9, 5), nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.each(self.first(x))
        x = self.pool(torch.relu(self.body(x) + self.short(x)))
        one = self.flat(torch.flatten(x, 1))
        other = self.mean(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))
        # behind the last product: functions that libraries round in their own ways
        return torch.softmax(nn.functional.silu(nn.functional.hardswish(one)) + other, -1)


class Sequence(nn.Module):
    """Attention, an encoder, and recurrent layers of both kinds, in one."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = Attention(outputs=12)
        self.encoder = nn.TransformerEncoderLayer(12, 2, 16, batch_first=True, activation="gelu")
        self.forwards = nn.LSTM(12, 6, batch_first=True)
        self.both = nn.GRU(12, 5, bidirectional=True, batch_first=True)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.encoder(x + self.attention(x)[:, None])
        return self.last(torch.cat([self.forwards(x)[0][:, -1], self.both(x)[0][:, -1]], -1))  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 9, 9)),
    "mobile": (mobile, (3, 11, 11)),
    "vgg": (vgg, (3, 8, 8)),
    "lstm": (lambda: Recurrent("lstm"), (6, 5)),
    "gru": (lambda: Recurrent("gru"), (6, 5)),
    "encoder": (Encoder, (5, 16)),
    "attention": (Attention, (5, 12)),
    "vision": (Vision, (3, 11, 11)),
    "sequence": (Sequence, (3, 12)),  # few steps: the newer exporter follows a recurrent layer step by step
}
# torch's newer exporter takes seconds a model: the two that hold what the others do are enough to see its patterns.
FILES = [*((name, "legacy") for name in NETWORKS), ("vision", "dynamo"), ("sequence", "dynamo")]


class Exported:
    """A network with samples and its files."""

    def __init__(self, name: str, folder: Path) -> None:
        make, shape = NETWORKS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.model = make().eval()
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                    nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            self.samples = torch.randn(8, *shape)
        self.folder, self.name = folder, name

    def path(self, exporter: str, batch: int | None = None) -> Path:
        path = self.folder / f"{self.name}-{exporter}-{batch}.onnx"
        if path.exists():
            return path
        example = self.samples[: batch or 4]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                free: Any = None if batch else ({0: torch.export.Dim("samples")},)
                torch.onnx.export(self.model, (example,), path, dynamo=True, dynamic_shapes=free, verbose=False)
            else:
                axes: Any = None if batch else {"x": {0: "samples"}}
                torch.onnx.export(self.model, (example,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
        return path

    @property
    def array(self) -> Array:
        return self.samples.numpy()
