"""A die of a torch model, as a torch module."""

from __future__ import annotations

from typing import Any

from torch import nn

from xbarsim.die import DieLayer
from xbarsim.engine import TorchBackend, TorchProgram
from xbarsim.foundation.validation import InputError
from xbarsim.network.chip import Chip
from xbarsim.network.lowering.skeleton import TorchSkeleton
from xbarsim.network.lowering.tensor_layers import TensorLayer
from xbarsim.network.skeleton import Skeleton

__all__ = ["TorchChip", "check_plain"]


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

    def _prepared(self) -> tuple[Skeleton, dict[str, Any]]:
        """On a device of torch's the network runs there as a whole."""
        if not isinstance(self.backend, TorchBackend) or not isinstance(self.network.skeleton, TorchSkeleton):
            return super()._prepared()
        running = {}
        for name, layer in self.layers.items():
            check_plain(layer)
            plan = layer.plan(self.precision, self.backend)
            assert isinstance(plan.program, TorchProgram)
            running[name] = TensorLayer(self._layer_in_integers(name), plan.program, plan)
        return self.network.skeleton.on(self.backend.device), running


def check_plain(layer: DieLayer) -> None:
    """Refuse what becomes of the sums of tiles digitally: only compiled kernels are followed by it."""
    if layer.completes:
        raise InputError(
            f"layer {layer.name!r} must be held once and have no digitally corrected weights on a device of torch's, "
            "got copies or corrections: run the die by compiled kernels, chip.to('cpu')"
        )
