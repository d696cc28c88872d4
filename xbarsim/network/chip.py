"""One die of a network: a module that runs like the model it was made from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.circuit import CurrentLaw, Solution
from xbarsim.cost import CostReport, Hardware
from xbarsim.devices import FaultMap
from xbarsim.die import DieLayer, Silicon, TileView, check_age
from xbarsim.engine import reference_multiply
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.mitigation import Diagnosis, Mitigation, MitigationTable, TileMitigation, check_mitigations, mitigate
from xbarsim.network.images import as_images
from xbarsim.network.layers import CrossbarLayer, ImageCounter, ReferenceLayer
from xbarsim.network.placed import MappedLayer, PlacedNetwork, PlanTable
from xbarsim.network.report import ErrorReport, error_report
from xbarsim.network.skeleton import fill

__all__ = ["Chip", "fabricate_layer"]


def fabricate_layer(
    network: PlacedNetwork,
    name: str,
    *,
    seed: int,
    seconds: float = 0.0,
    faults: FaultMap | None = None,
    mitigations: Sequence[Mitigation] = (),
    diagnosis: Diagnosis | None = None,
) -> tuple[DieLayer, MitigationTable]:
    """One layer of one die: draw what is broken, let mitigations work on it, and say what is programmed.

    Parameters
    ----------
    network
        Gives the layer, its number and the accelerator.
    name
        Of the layer.
    seed
        Root of every random draw of the die.
    seconds
        Age of the die, s.
    faults
        A fault map, used instead of the design's fault model.
    mitigations, diagnosis
        What is done about its faults, and what is known of them.
    """
    mapped: MappedLayer = network.layers[name]
    design, index = network.design, list(network.layers).index(name)
    silicon = Silicon.draw(design, mapped.reading, mapped.converter, seed=seed, index=index, faults=faults)
    silicon, levels, done = mitigate(
        name,
        mapped.matrix,
        silicon,
        design,
        mitigations,
        diagnosis,
        seed=seed,
        index=index,
        input_power=mapped.mean_square_input,
        weight_scale=mapped.layer.weight_scale,
    )
    die_layer = DieLayer(
        name=name,
        reading=mapped.reading,
        drive=mapped.drive,
        converter=mapped.converter,
        design=design,
        silicon=silicon,
        seed=seed,
        index=index,
        seconds=seconds,
        levels=levels,
    )
    return die_layer, MitigationTable(done)


class Chip(nn.Module):
    """One die of a mapped network; run it like the model it was made from.

    Made by :meth:`xbarsim.network.MappedNetwork.fabricate`.

    Parameters
    ----------
    network
        The mapped network.
    seed
        Root of every random draw of this die.
    faults
        Fault maps by layer name, used instead of the design's fault model.
    mitigations
        What is done about its faults before it is programmed, in this order.
    diagnosis
        What is found out about its faults; needed by mitigations that need a map of them.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference engine bit for
        bit.
    seconds
        Age of the die, s; see :meth:`at`.

    Attributes
    ----------
    layers
        The die's layers by name.
    mitigations
        What mitigations did, tile by tile.
    """

    def __init__(
        self,
        network: PlacedNetwork,
        seed: int,
        *,
        faults: Mapping[str, FaultMap] | None = None,
        mitigations: Sequence[Mitigation] = (),
        diagnosis: Diagnosis | None = None,
        precision: Literal["single", "double"] = "single",
        seconds: float = 0.0,
    ) -> None:
        super().__init__()
        self.seed = check_integer("seed", seed, at_least=0)
        check_choice("precision", precision, ("single", "double"))
        self.precision: Literal["single", "double"] = precision
        self.seconds = check_age(network.design.cell, seconds)
        self._given: dict[str, Any] = {
            "network": network,
            "mitigations": check_mitigations(mitigations, diagnosis),
            "diagnosis": diagnosis,
            "faults": _check_faults(network, faults),
        }
        for method in self._given["mitigations"]:
            network = method.prepare(network)
        self.network = network
        self.layers: dict[str, DieLayer] = {}
        tables: list[TileMitigation] = []
        for name in network.layers:
            self.layers[name], table = fabricate_layer(
                network,
                name,
                seed=self.seed,
                seconds=self.seconds,
                faults=self._given["faults"].get(name),
                mitigations=self._given["mitigations"],
                diagnosis=diagnosis,
            )
            tables.extend(table.tiles)
        self.mitigations = MitigationTable(tuple(tables))
        self._counter = ImageCounter()
        self.model = fill(
            network.skeleton,
            lambda name: CrossbarLayer(network.layers[name].layer, self.layers[name].plan(precision), self._counter),
        )
        self.eval()

    @property
    def faults(self) -> dict[str, FaultMap]:
        """What is broken, by layer name."""
        return {name: layer.faults for name, layer in self.layers.items()}

    def at(self, seconds: float) -> Chip:
        """The same die at another age: its cells moved by their drift; those that are stuck stay so.

        Parameters
        ----------
        seconds
            Since the time after programming that the cell's programming error holds for
            (:attr:`xbarsim.devices.Drift.reference_time`), s; not since the age of this chip. 0 is the die as
            fabricated.

        Returns
        -------
        Chip
            A new chip; this one stays as it is. Ages of one die lie on one trajectory of every cell.

        Raises
        ------
        InputError
            If `seconds` is negative or longer than the drift was measured, or the cell's drift is not known.
        """
        return Chip(**self._given, seed=self.seed, precision=self.precision, seconds=seconds)

    def forward(self, images: Tensor, first_image: int = 0) -> Tensor:
        """Run a batch of images.

        Parameters
        ----------
        images
            As the model takes them, shape ``(images, ...)``.
        first_image
            Number of the first image in its data set. Read noise is drawn by image number, so that an answer does not
            depend on the batch an image came in.

        Raises
        ------
        InputError
            If the images have another shape than those of the calibration, or are not finite.
        """
        batch = as_images(images, shape=self.network.image_shape)
        self._counter.start(check_integer("first_image", first_image, at_least=0), len(batch))
        with torch.no_grad():
            result: Tensor = self.model(batch)
        return result

    def reference(self) -> nn.Module:
        """The same die, every layer computed by the reference engine, read by read: to check a few images with.

        Takes batches of images as the chip does and gives the same logits: bit for bit where all cells sit on whole
        levels, or the chip has double precision. Hundreds of times slower.

        Raises
        ------
        InputError
            If the cells have read noise, which is drawn anew at each read.
        """
        if self.network.design.cell.noisy:
            raise InputError("cell must have no read noise for the reference engine to repeat a read, got some")

        def layer(name: str) -> nn.Module:
            die_layer = self.layers[name]
            cells, errors = die_layer.seen()

            def product(codes: npt.NDArray[np.int32]) -> npt.NDArray[np.float64]:
                return reference_multiply(
                    codes, die_layer.reading, cells, die_layer.drive, die_layer.converter, errors=errors
                )

            return ReferenceLayer(self.network.layers[name].layer, product)

        return fill(self.network.skeleton, layer)

    def plan(self) -> PlanTable:
        """How each layer of this die is computed, and why."""
        plans = {module.layer.name: module.plan for module in self.model.modules() if isinstance(module, CrossbarLayer)}
        return PlanTable(tuple((name, plans[name].name, plans[name].reason) for name in self.layers))

    def cost(self, hardware: Hardware | str = "isaac2016") -> CostReport:
        """Power, area and peak throughput, with the static power of this die's own cells.

        Parameters
        ----------
        hardware
            A component card, or its name.
        """
        return self.network.cost_of({name: layer.cells() for name, layer in self.layers.items()}, hardware)

    def report(self, images: Any, *, batch_size: int = 64, clipping: float = 0.01) -> ErrorReport:
        """Compare every layer with the digital quantised network on some images.

        Parameters
        ----------
        images
            As for :meth:`forward`.
        batch_size
            Images run at a time.
        clipping
            Share of conversions that may be clipped without a warning.

        Warns
        -----
        ClippingWarning
            If the converters of some layers clip more, naming them.
        """
        batch = as_images(images, shape=self.network.image_shape)
        check_integer("batch_size", batch_size, at_least=1)
        check_real("clipping", clipping, at_least=0.0, at_most=1.0)
        return error_report(
            self.network.digital,
            self.model,
            self.layers,
            batch,
            run=lambda images, first_image: self(images, first_image=first_image),
            batch_size=batch_size,
            clipping=clipping,
        )

    def tile(self, layer: str, tile: int = 0) -> TileView:
        """One tile of one layer, for looking at; see also :func:`xbarsim.plot.tile`.

        Raises
        ------
        InputError
            If there is no such layer or tile.
        """
        return self._layer(layer).tile(tile)

    def solve(self, layer: str, tile: int = 0, *, voltages: Any = None, law: CurrentLaw | None = None) -> Solution:
        """Every node voltage and cell current of one tile; see also :func:`xbarsim.plot.circuit`.

        Parameters
        ----------
        layer, tile
            Which tile.
        voltages, law
            As :meth:`xbarsim.die.DieLayer.solve`.

        Returns
        -------
        Solution
            Of the die's own cells, all rows in use selected, open lines taken out, lines that touch left apart; ideal
            wires if the design has none.

        Raises
        ------
        InputError
            If there is no such layer or tile, or no voltage is given and the cell card has none.
        """
        return self._layer(layer).solve(tile, voltages=voltages, law=law)

    def _layer(self, name: str) -> DieLayer:
        if name not in self.layers:
            raise InputError(f"layer must be one of {', '.join(map(repr, self.layers))}, got {name!r}")
        return self.layers[name]


def _check_faults(network: PlacedNetwork, faults: Mapping[str, FaultMap] | None) -> dict[str, FaultMap]:
    """Fault maps by layer name, refused unless they fit the network."""
    check_instance("faults", faults, (Mapping, type(None)))
    given = dict(faults or {})
    for name, fault_map in given.items():
        if name not in network.layers:
            raise InputError(f"faults must name mapped layers ({', '.join(network.layers)}), got {name!r}")
        check_instance(f"faults[{name!r}]", fault_map, FaultMap)
        wanted = network.layers[name].matrix.levels.shape
        if fault_map.shape != wanted:
            raise InputError(f"faults[{name!r}] must have shape {wanted}, got {fault_map.shape}")
    return given
