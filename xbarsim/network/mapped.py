"""A network on crossbars, as a user has it: dies are made of it."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.devices import FaultMap, FaultModel
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table
from xbarsim.mitigation import Diagnosis, Mitigation
from xbarsim.network.chip import Chip
from xbarsim.network.files import DieRecord, NetworkRecord, read_network, write_contents, write_network
from xbarsim.network.layers import SampleOrder
from xbarsim.network.lowered import Lowered, NotMapped
from xbarsim.network.placed import MappedLayer, PlacedNetwork
from xbarsim.network.samples import Samples
from xbarsim.network.shown import LAYER_HEADER, layer_rows, network_html

__all__ = ["MappedNetwork", "NotMappedWarning"]


class NotMappedWarning(UserWarning):
    """Some modules with weights are not on crossbars; the message names them."""


class MappedNetwork(PlacedNetwork):
    """A network placed on crossbars: the plan of every die that will be made of it.

    Made by :func:`map_model`.

    Attributes
    ----------
    design
        What it was mapped for.
    layers
        The mapped layers by name, in the order in which they run.
    digital
        The quantised network computed digitally, exactly: what an ideal chip gives bit for bit.
    image_shape
        Shape of one sample's first input in the calibration.
    orders
        How samples stand in the activations of each layer, where read noise has to know; ``None`` where a batch must
        be run sample by sample.
    probe
        Calibration samples that reach every layer: what a saved network is known by.
    """

    @entrance
    def __init__(
        self,
        *,
        design: Design,
        lowered: Lowered,
        layers: dict[str, MappedLayer],
        image_shape: tuple[int, ...],
        orders: Mapping[str, SampleOrder] | None,
        probe: Samples,
    ) -> None:
        super().__init__(design=design, skeleton=lowered.skeleton, layers=layers, image_shape=image_shape)
        self.lowered = lowered
        self.digital_work = lowered.digital_work
        self.orders = orders
        self.probe = probe

    @property
    def chip_type(self) -> type[Chip]:
        """The class of its dies: torch modules, if it came from torch."""
        if not self.skeleton.gives_tensors:
            return Chip
        from xbarsim.network.lowering.chip import TorchChip

        return TorchChip

    @property
    def not_mapped(self) -> tuple[NotMapped, ...]:
        """What holds weights and stays digital, with the reason."""
        return self.lowered.not_mapped

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know about the mapping."""
        return self.lowered.notes

    @entrance
    def with_faults(self, faults: FaultModel | None) -> MappedNetwork:
        """The same network, mapped the same way, for dies that break in another way; costs nothing.

        Parameters
        ----------
        faults
            Instead of ``design.faults``.
        """
        other = copy.copy(self)
        other.design = self.design.replace(faults=faults)
        return other

    @entrance
    def fabricate(
        self,
        seed: int,
        *,
        faults: Mapping[str, FaultMap] | None = None,
        mitigations: Sequence[Mitigation] = (),
        diagnosis: Diagnosis | None = None,
        images: Any = None,
        precision: Literal["single", "double"] = "single",
    ) -> Chip:
        """Make one die.

        Parameters
        ----------
        seed
            Root of every random draw of this die; the same seed gives the same die.
        faults
            Fault maps by layer name, used instead of the design's fault model for these layers.
        mitigations
            What is done about its faults before it is programmed, one after another; see :mod:`xbarsim.mitigation`.
        diagnosis
            What a test finds out about its faults; needed by mitigations that need a map of them.
        images
            Samples without labels for mitigations that need some, not those that the die is judged by; training images
            will do.
        precision
            Of sums of conductances off the levels: ``"single"``, fast, or ``"double"``, equal to the reference engine
            bit for bit. Whole levels are exact either way.

        Raises
        ------
        InputError
            If the seed is negative, a name is no mapped layer, a map has another shape than the layer's arrays, or a
            mitigation does not fit the network or needs a diagnosis or images and there are none.
        """
        return self.chip_type(
            self,
            seed,
            faults=faults,
            mitigations=mitigations,
            diagnosis=diagnosis,
            images=images,
            precision=precision,
        )

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the network to a file, whole or not at all: safetensors, with the design and all else as TOML in it.

        Layers, design, and the numbers of the digital part are in it; the code of a torch model is not.

        Parameters
        ----------
        path
            The file; one that is there is replaced.

        Raises
        ------
        InputError
            If something of it cannot be put in a file, naming it.
        FileWriteError
            If the file cannot be written.
        """
        write_contents(path, "mapped network", *self._written())

    def _written(self, die: DieRecord | None = None) -> tuple[NetworkRecord, dict[str, npt.NDArray[Any]]]:
        return write_network(
            design=self.design,
            lowered=self.lowered,
            layers=self.layers,
            image_shape=self.image_shape,
            orders=self.orders,
            probe=self.probe,
            die=die,
        )

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str], *, model: Any = None) -> MappedNetwork:
        """Read a network that was saved.

        Parameters
        ----------
        path
            The file.
        model
            For a network from torch, a module of the same architecture, which a file cannot hold. It is copied, and the
            copy gets the weights of the file, so that its own do not matter. ``None`` for a network from an ONNX file,
            which is whole in its file.

        Raises
        ------
        FileFormatError
            If the file is cut short, changed, of another kind, or names an encoding, packing or fault model that no
            imported module has.
        InputError
            If `model` is needed and not given, or is not the network that was saved: its products are compared with the
            layers, and its answer to the probe with that of the saved network.
        """
        return cls(**read_network(path, "mapped network", model).parts)

    def __str__(self) -> str:
        return "\n".join([format_table(LAYER_HEADER, layer_rows(self.layers), left=2), *self._remarks()])

    def _remarks(self) -> list[str]:
        """What stays digital, and what a user should know."""
        digital = [
            f"stays digital: {item.name} ({item.kind}, {item.parameters} weights): {item.reason}"
            for item in self.not_mapped
        ]
        return [*digital, *(f"note: {note}" for note in self.notes)]

    def _repr_html_(self) -> str:
        return network_html(self.layers, self.tiles, self.design.in_a_line, self._remarks())


Chip.network_type = MappedNetwork  # of what a chip is that is loaded: a chip stands below the network it is made of
