"""Layers that do not break."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_choice, check_instance
from xbarsim.mitigation.base import Mitigation, Needs, PlacedT

__all__ = ["ProtectLayers"]


@dataclass(frozen=True, kw_only=True)
class ProtectLayers(Mitigation):
    """Cells of some layers never break, as if they were built with redundancy enough; the others break as ever.

    With `rest`, all layers but the named are protected: the loss that is left is what the named ones cost, which is how
    the sensitivity of a layer is measured. What the redundancy would cost is not counted.

    Attributes
    ----------
    layers
        Names of layers, as in ``network.layers``.
    rest
        Protect all others instead.
    """

    needs: ClassVar[Needs] = "nothing"
    stage: ClassVar[int | None] = None

    layers: tuple[str, ...]
    rest: bool = False

    def __post_init__(self) -> None:
        check_instance("layers", self.layers, tuple)
        for index, name in enumerate(self.layers):
            check_instance(f"layers[{index}]", name, str)
        check_instance("rest", self.rest, bool)

    @entrance
    def prepare(self, network: PlacedT) -> PlacedT:
        """The network as it is.

        Raises
        ------
        InputError
            If a name is no mapped layer.
        """
        for name in self.layers:
            check_choice("layers", name, network.layers)
        return network

    @entrance
    def surviving_faults(self, layer: str, faults: FaultMap) -> FaultMap:
        """None in a protected layer."""
        return FaultMap.empty(faults.shape) if (layer in self.layers) != self.rest else faults
