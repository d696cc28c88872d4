"""Networks with block-column-row pruning that compute without their zeros, against the same networks dense in torch.

Published, on a phone's processor against mobile frameworks: up to 14.08 times (W. Niu et al., GRIM, 2021,
doi:10.48550/arXiv.2108.11033).
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import torch
from torch import nn

from xbarsim.compress import BlockColumnRow, Hardening, LayerRule, Recipe, mappable_layers, pack_network

__all__ = ["Case", "RecurrentNet", "VGG16Net", "block_pruned", "float_cases"]

_CLOSE = 1e-4  # of the largest result: sums run in another order


class Case(NamedTuple):
    """What is timed: a pruned network without its zeros, and the dense one; with what was checked."""

    name: str
    ours: Callable[[], Any]
    dense: Callable[[], Any]
    check: str


class VGG16Net(nn.Sequential):
    """VGG-16 for 32 x 32 images, 14.7 M weights in its convolutions; untrained, for timing only."""

    def __init__(self) -> None:
        layers: list[nn.Module] = []
        channels = 3
        for width in (64, 64, 0, 128, 128, 0, 256, 256, 256, 0, 512, 512, 512, 0, 512, 512, 512, 0):
            if width == 0:
                layers.append(nn.MaxPool2d(2))
                continue
            layers += [nn.Conv2d(channels, width, 3, padding=1), nn.ReLU()]
            channels = width
        super().__init__(*layers, nn.Flatten(), nn.Linear(512, 10))
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]


class RecurrentNet(nn.Module):
    """Two recurrent layers of 1,024 units and a linear one, the size of speech recognisers; untrained, for timing only.

    Parameters
    ----------
    hidden
        Units of a layer.
    """

    def __init__(self, hidden: int = 1024) -> None:
        super().__init__()
        self.recurrent = nn.GRU(hidden // 4, hidden, num_layers=2, batch_first=True)
        self.classifier = nn.Linear(hidden, 48)

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        """Results (sequences, steps, 48) of frames (sequences, steps, features)."""
        results: torch.Tensor = self.classifier(self.recurrent(frames)[0])
        return results


def block_pruned(model: nn.Module, rate: int, *, filters: int, layers: tuple[str, ...]) -> nn.Module:
    """A copy of which each block of so many filters keeps 1 / `rate` of the columns, those of the largest norm."""
    pruned = copy.deepcopy(model)
    target = BlockColumnRow(block_filters=filters, block_columns=2**20, keep_columns=1 / rate)
    Hardening.hold(pruned, Recipe(rules=(LayerRule(layers=layers, targets=(target,)),)).masks(pruned))
    return pruned


def float_cases(
    networks: dict[str, tuple[Callable[[], tuple[nn.Module, torch.Tensor]], int, int | None]], rates: tuple[int, ...]
) -> Iterator[Case]:
    """Networks at these rates; all layers are pruned but the first one of convolutions, and the last.

    Parameters
    ----------
    networks
        By name, what makes a network and its inputs, the filters of its blocks, and how many images of the batch go
        through it at once (``None`` for all; the dense network always gets all).
    rates
        Weights over those that stay, of the pruned layers.

    Raises
    ------
    AssertionError
        If a network without its zeros gives other results than the same network with them.
    """
    for name, (make, filters, at_once) in networks.items():
        model, inputs = make()
        matrices = mappable_layers(model)
        first = 1 if isinstance(next(iter(matrices.values())).module, nn.Conv2d) else 0
        for rate in rates:
            pruned = block_pruned(model, rate, filters=filters, layers=tuple(matrices)[first:-1])
            packed = pack_network(pruned, samples=inputs[:4], images_at_once=at_once)
            with torch.no_grad():
                wanted = pruned(inputs)
            worst = float((packed(inputs) - wanted).abs().max() / wanted.abs().max())
            if not worst < _CLOSE:
                raise AssertionError(
                    f"{name} at {rate} x without its zeros differs by {worst:.1e} of the largest result"
                )
            computed, weights = (sum(getattr(row, kind) for row in packed.layers) for kind in ("computed", "weights"))

            def dense() -> Any:
                with torch.no_grad():
                    return model(inputs)  # noqa: B023  called before the next one is made

            yield Case(
                name=f"{name}-bcr-{rate}x",
                ours=lambda: packed(inputs),  # noqa: B023
                dense=dense,
                check=f"within {worst:.1e} of the pruned torch network's largest result; computes {computed:,} of "
                f"{weights:,} weights",
            )
