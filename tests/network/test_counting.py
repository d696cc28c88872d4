"""What stays digital is counted: by hand for a block of a vision transformer, an LSTM cell and a small CNN."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from tests.network.test_cases import DESIGN, indices, noise, seeded
from xbarsim import map_model
from xbarsim.cost import OPERATIONS, DigitalUse
from xbarsim.network.lowering.counting import count_operations

pytestmark = pytest.mark.usefixtures("one_thread")

N, E, H = 5, 8, 2  # tokens, width, heads


class Block(nn.Module):
    """One of a vision transformer, as it is written by hand."""

    def __init__(self) -> None:
        super().__init__()
        self.norm, self.qkv, self.out = nn.LayerNorm(E), nn.Linear(E, 3 * E), nn.Linear(E, E)
        self.position = nn.Parameter(noise(N, E))

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.position
        q, k, v = self.qkv(self.norm(x)).reshape(len(x), N, 3, H, E // H).permute(2, 0, 3, 1, 4)
        scores = (q @ k.transpose(-1, -2) * (E // H) ** -0.5).softmax(-1)
        result: Tensor = x + self.out((scores @ v).transpose(1, 2).reshape(len(x), N, E))
        return result


class Lstm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.ih, self.hh = nn.Linear(3, 4 * E), nn.Linear(E, 4 * E, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        h = c = x.new_zeros(len(x), E)
        for step in x.unbind(1):
            i, f, g, o = (self.ih(step) + self.hh(h)).chunk(4, -1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
        return h


def cnn() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1),
        nn.ReLU(),
        nn.BatchNorm2d(4),
        nn.MaxPool2d(2),
        nn.AvgPool2d(2),
        nn.Flatten(),
        nn.Linear(16, 3),
        nn.Softmax(1),
    )


def work_of(model: nn.Module, inputs: Tensor) -> dict[tuple[str, str], DigitalUse]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        network = map_model(model.eval(), DESIGN, calibration=inputs)
    assert not any("not counted" in note for note in network.notes)
    report = network.cost()
    assert sum(use.operations for use in report.digital) == sum(use.operations for use in network.digital_work)
    return {(use.name, use.kind): use for use in network.digital_work}


def counts(use: DigitalUse) -> dict[str, float]:
    return {name: getattr(use, name) for name in OPERATIONS if getattr(use, name)}


@pytest.mark.parametrize("samples", [3, 70])
def test_a_block_of_a_vision_transformer(samples: int) -> None:
    work = work_of(seeded(Block), noise(samples, N, E))
    assert {key: counts(use) for key, use in work.items()} == {
        ("(model)", "add"): {"elementwise": 2 * N * E},
        ("norm", "LayerNorm"): {"elementwise": 7 * N * E, "nonlinear": N},
        ("(model)", "matmul"): {"multiply_accumulates": 2 * N * N * E},
        ("(model)", "mul"): {"elementwise": H * N * N},
        ("(model)", "softmax"): {"nonlinear": H * N * N, "elementwise": 2 * H * N * N},
    }
    assert work["norm", "LayerNorm"].parameters == 2 * E
    assert sum(use.parameters for use in work.values()) == 2 * E + N * E


def test_an_lstm_written_by_hand() -> None:
    steps = 6
    work = work_of(seeded(Lstm), noise(8, steps, 3))
    total = {name: sum(getattr(use, name) for use in work.values()) for name in OPERATIONS}
    assert total == {
        "multiply_accumulates": 0,
        "elementwise": steps * (4 * E + 4 * E),
        "nonlinear": steps * 5 * E,
        "comparisons": 0,
        "lookups": 0,
        "state_accesses": 0,  # nothing says which of its values are kept: see tests/network/test_states.py
    }


def test_a_network_with_pooling_and_a_norm() -> None:
    work = work_of(seeded(cnn), noise(6, 1, 8, 8))
    assert {key: counts(use) for key, use in work.items()} == {
        ("1", "ReLU"): {"comparisons": 4 * 64},
        ("2", "BatchNorm2d"): {"elementwise": 2 * 4 * 64},
        ("3", "MaxPool2d"): {"comparisons": 4 * 16 * 3},
        ("4", "AvgPool2d"): {"elementwise": 4 * 4 * 4},
        ("7", "Softmax"): {"nonlinear": 3, "elementwise": 6},
    }


class Last(TorchFunctionMode):
    """Counts every call."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: dict[str, Any] = {}

    def __torch_function__(self, function: Any, types: Any, arguments: Any = (), keywords: Any = None) -> Any:
        result = function(*arguments, **(keywords or {}))
        counted = count_operations(function, arguments, keywords or {}, result)
        self.counts = {key: value for key, value in counted.items() if value} if counted is not None else {"?": 1}
        return result


X, W = noise(6, 4), noise(4, 3)
QKV = noise(2, 3, 5, 4)
CALLS: dict[str, tuple[Callable[[], Any], dict[str, int]]] = {
    "matmul": (lambda: X @ W, {"multiply_accumulates": 72}),
    "linear": (lambda: F.linear(X, W.T, W[0]), {"multiply_accumulates": 72, "elementwise": 18}),
    "bmm": (lambda: torch.bmm(X[None], W[None]), {"multiply_accumulates": 72}),
    "baddbmm": (lambda: torch.baddbmm(W[0], X[None], W[None]), {"multiply_accumulates": 72, "elementwise": 18}),
    "addbmm": (
        lambda: torch.addbmm(W[0], X[None].expand(2, 6, 4), W[None].expand(2, 4, 3)),
        {"multiply_accumulates": 144, "elementwise": 18},
    ),
    "einsum": (lambda: torch.einsum("...ij,...jk->...ik", QKV, QKV.mT), {"multiply_accumulates": 6 * 5 * 4 * 5}),
    "tensordot": (lambda: torch.tensordot(X, W, 1), {"multiply_accumulates": 72}),
    "bilinear": (lambda: F.bilinear(X, X, noise(2, 4, 4)), {"multiply_accumulates": 6 * 2 * (4 * 4 + 4)}),
    "attention": (
        lambda: F.scaled_dot_product_attention(QKV, QKV, QKV),
        {"multiply_accumulates": 6 * 25 * 8, "nonlinear": 6 * 25, "elementwise": 6 * 25 * 3},
    ),
    "conv2d": (
        lambda: F.conv2d(noise(2, 4, 6, 6), noise(6, 2, 3, 3), groups=2),
        {"multiply_accumulates": 2 * 6 * 16 * 18},
    ),
    "conv_transpose2d": (
        lambda: F.conv_transpose2d(noise(2, 4, 6, 6), noise(4, 3, 2, 2), stride=2),
        {"multiply_accumulates": 2 * 4 * 36 * 12},
    ),
    "group_norm": (
        lambda: F.group_norm(noise(2, 4, 6), 2, torch.ones(4), torch.ones(4)),
        {"elementwise": 7 * 48, "nonlinear": 4},
    ),
    "relu6": (lambda: F.relu6(X), {"comparisons": 48}),
    "gelu": (lambda: F.gelu(X), {"nonlinear": 24}),
    "clamp": (lambda: X.clamp(0, 1), {"comparisons": 48}),
    "mean": (lambda: X.mean(1), {"elementwise": 24}),
    "amax": (lambda: X.amax(1), {"comparisons": 18}),
    "square": (lambda: X**2, {"elementwise": 24}),
    "cube": (lambda: X**3, {"nonlinear": 24}),
    "max pool": (lambda: F.max_pool2d(noise(1, 2, 6, 6), 3), {"comparisons": 2 * 4 * 8}),
    "average": (lambda: F.adaptive_avg_pool2d(noise(1, 2, 6, 6), 1), {"elementwise": 72}),
    "embedding": (lambda: F.embedding(indices(6), noise(7, 4)), {"lookups": 24}),
    "moving": (lambda: X.reshape(3, 8), {}),
    "unknown": (lambda: torch.fft.rfft(X), {"?": 1}),
}


@pytest.mark.parametrize("name", CALLS)
def test_a_call(name: str) -> None:
    call, expected = CALLS[name]
    with Last() as last:
        call()
        assert last.counts == expected
