"""What a sweep does about the faults of a die: nothing, or layers that never break."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from dataclasses import dataclass
from typing import TYPE_CHECKING

from xbarsim.devices import FaultMap
from xbarsim.foundation.validation import check_choice, check_instance

if TYPE_CHECKING:
    from xbarsim.network import MappedNetwork
    from xbarsim.network.chip import Chip

__all__ = ["Mitigation", "ProtectLayers"]


class Mitigation(metaclass=ABCMeta):
    """What is done about a die's faults; subclasses are frozen dataclasses of plain values.

    Its name and its fields are part of the task's identity.
    """

    @abstractmethod
    def fabricate(self, network: MappedNetwork, seed: int) -> Chip:
        """Make one die.

        Parameters
        ----------
        network
            The mapped network, whose design holds the fault model.
        seed
            The die's seed, for :meth:`xbarsim.network.MappedNetwork.fabricate`.
        """


@dataclass(frozen=True, kw_only=True)
class ProtectLayers(Mitigation):
    """Cells of some layers never break, as if they were built with enough redundancy; the others break as ever.

    With `rest`, all layers but the named are protected: the loss that is left is what the named ones cost, which is how
    the sensitivity of a layer is measured.

    Attributes
    ----------
    layers
        Names of layers, as in ``network.layers``.
    rest
        Protect all others instead.
    """

    layers: tuple[str, ...]
    rest: bool = False

    def __post_init__(self) -> None:
        check_instance("layers", self.layers, tuple)
        for index, name in enumerate(self.layers):
            check_instance(f"layers[{index}]", name, str)
        check_instance("rest", self.rest, bool)

    def fabricate(self, network: MappedNetwork, seed: int) -> Chip:
        """Make one die whose protected layers have no faults.

        Raises
        ------
        InputError
            If a name is no mapped layer.
        """
        for name in self.layers:
            check_choice("layers", name, network.layers)
        whole = [name for name in network.layers if (name in self.layers) != self.rest]
        return network.fabricate(
            seed, faults={name: FaultMap.empty(network.layers[name].matrix.levels.shape) for name in whole}
        )
