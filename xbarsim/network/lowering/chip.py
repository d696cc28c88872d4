"""A die of a torch model, as a torch module."""

from __future__ import annotations

from typing import Any

from torch import nn

from xbarsim.network.chip import Chip

__all__ = ["TorchChip"]


class TorchChip(Chip, nn.Module):  # type: ignore[misc]  # a die answers to a module's methods in its own way
    """One die of a torch model: a module without parameters, for use inside other modules.

    Parameters
    ----------
    arguments, keywords
        As :class:`xbarsim.network.Chip`.
    """

    def __init__(self, *arguments: Any, **keywords: Any) -> None:
        nn.Module.__init__(self)
        self.training = False
        Chip.__init__(self, *arguments, **keywords)

    def forward(self, *inputs: Any, **keywords: Any) -> Any:
        """Run a batch, as calling the chip."""
        return Chip.__call__(self, *inputs, **keywords)
