"""A network of your own, in one file: registered beside its class, known by name wherever networks are."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import xbarsim as xb
from tests.cli.running import run
from xbarsim.devices import Cell
from xbarsim.models import ARCHITECTURES, Architecture, register_architecture, untrained_model
from xbarsim.testing import check_network


class TwoLayers(nn.Module):
    """Two linear layers for images of 8 x 8.

    Input float32 (images, 1, 8, 8); output (images, 10) logits.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(64, 24), nn.ReLU(), nn.Linear(24, 10))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        logits: torch.Tensor = self.layers(images)
        return logits


@pytest.fixture(autouse=True)
def registered(forgotten_networks: None) -> None:
    """In a module of your own this stands below the class."""
    register_architecture(
        Architecture(
            name="two-layers",
            description="two linear layers for 8 x 8 images",
            parameters=64 * 24 + 24 + 24 * 10 + 10,
            input_shape=(1, 8, 8),
            classes=10,
            source="the documentation of xbarsim",
            build=TwoLayers,
        )
    )


def test_the_network_has_a_cost_by_its_name() -> None:
    result = run("cost", "two-layers")
    assert result.exit_code == 0, result.output
    assert "layers.3" in result.output


def test_the_network_is_what_its_card_says() -> None:
    check_network("two-layers")
    network, card = untrained_model("two-layers")
    assert card is ARCHITECTURES["two-layers"]
    assert sum(parameter.numel() for parameter in network.parameters()) == card.parameters
    images = torch.zeros(2, *card.input_shape)
    assert network(images).shape == (2, card.classes)
    design = xb.Design(cell=Cell.load("milo2021"))
    assert xb.map_model(network, design, calibration=torch.rand(4, 1, 8, 8)).fabricate(seed=1)(images).shape == (2, 10)
