"""One die of a network: it runs like the model it was made from."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from functools import reduce
from operator import add
from typing import Any, ClassVar, Literal, Self

from xbarsim.circuit import CurrentLaw, Solution
from xbarsim.cost import CostReport, DigitalUse, Hardware
from xbarsim.devices import FaultMap, StuckOutside
from xbarsim.die import DieLayer, TileView, check_age
from xbarsim.engine import Backend, CompiledBackend
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_integer, check_real
from xbarsim.mitigation import (
    Diagnosis,
    Mitigation,
    MitigationTable,
    TileMitigation,
    check_mitigations,
)
from xbarsim.network.activity import ActivityTable, count_activity
from xbarsim.network.fabrication import Fabricated, check_fault_maps, fabricate_layer
from xbarsim.network.files import (
    read_adjustments,
    read_die,
    read_given,
    read_network,
    reading,
    write_contents,
    write_die,
)
from xbarsim.network.layers import (
    MOST_SAMPLES,
    ClippedInputs,
    CrossbarLayer,
    QuantisedLayer,
    ReferenceLayer,
    SampleCounter,
    SampleOrder,
)
from xbarsim.network.moving import Movable
from xbarsim.network.overhead import digital_overhead, once_for_a_die, stored_bits
from xbarsim.network.placed import PlacedNetwork, PlanTable
from xbarsim.network.report import ClippingWarning, ErrorReport, clipped_inputs_message, error_report
from xbarsim.network.samples import Samples, joined
from xbarsim.network.shown import die_html
from xbarsim.network.skeleton import Network, Skeleton, Watch, check_fit
from xbarsim.network.tuning import adjusted, tune

__all__ = ["Chip"]


_FIRST_TUNING = 2**39  # number of the first image of a tuning, far from those of any data set
_CLIPPED = 0.01  # share of a layer's inputs that may be clipped without a warning


class Chip(Movable):
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
    images
        Samples without labels for mitigations that need some, not those that the die is judged by.
    precision
        ``"single"``, or ``"double"`` for sums of conductances off the levels that equal the reference engine bit for
        bit.
    seconds
        Age of the die, s; see :meth:`at`.
    fabricated
        Its arrays, where they are there already: of another age, or from a file. ``None`` to draw them.
    backend
        What computes it; ``None`` for the project's own kernels. See :meth:`to`.

    Attributes
    ----------
    layers
        The die's layers by name.
    running
        The same, ready to multiply.
    mitigations
        What mitigations did, tile by tile.
    adjustments
        What is made of the outputs of layers, by name.
    """

    network_type: ClassVar[Any] = None  # the class of a network that is loaded, set where it is defined

    @entrance
    def __init__(
        self,
        network: PlacedNetwork,
        seed: int,
        *,
        faults: Mapping[str, FaultMap] | None = None,
        mitigations: Sequence[Mitigation] = (),
        diagnosis: Diagnosis | None = None,
        images: Any = None,
        precision: Literal["single", "double"] = "single",
        seconds: float = 0.0,
        fabricated: Fabricated | None = None,
        backend: Backend | None = None,
    ) -> None:
        self.seed = check_integer("seed", seed, at_least=0)
        check_choice("precision", precision, ("single", "double"))
        self.precision: Literal["single", "double"] = precision
        self.seconds = check_age(network.design.cell, seconds)
        self.backend: Backend = CompiledBackend() if backend is None else backend
        self._given: dict[str, Any] = {
            "network": network,
            "mitigations": check_mitigations(mitigations, diagnosis),
            "diagnosis": diagnosis,
        }
        for method in self._given["mitigations"]:
            network = method.prepare(network)
        self.network = network
        self._given["faults"] = check_fault_maps(network.layers, faults)
        new = fabricated is None
        if fabricated is None:
            self._check_images(images)
            fabricated = self._fabricate()
        self.layers = {name: replace(layer, seconds=self.seconds) for name, layer in fabricated.layers.items()}
        self.mitigations = fabricated.mitigations
        self.adjustments = dict(fabricated.adjustments)
        self._counter = SampleCounter()
        self._next = 0
        self._warned: set[str] = set()
        orders: Mapping[str, SampleOrder] | None = getattr(network, "orders", {})
        # Read noise follows a sample: where a network mixes samples so that it cannot, they run one by one.
        self._alone = network.design.cell.noisy and orders is None
        self._orders = (orders or {}) if network.design.cell.noisy else {}
        self._skeleton, self.running = self._prepared()
        if new:
            self._tune(images)

    def _prepared(self) -> tuple[Skeleton, dict[str, Any]]:
        """What happens between the layers, and the layers, ready to multiply."""
        running = {}
        for name, layer in self.layers.items():
            running[name] = CrossbarLayer(
                self._layer_in_integers(name),
                layer.plan(self.precision, self.backend),
                self._counter,
                order=self._orders.get(name, "first"),
                die=layer if layer.completes else None,
            )
        return self.network.skeleton.own(), running

    def _layer_in_integers(self, name: str) -> QuantisedLayer:
        layer = self.network.layers[name].layer
        return adjusted(layer, self.adjustments[name]) if name in self.adjustments else layer

    def _fabricate(self) -> Fabricated:
        layers: dict[str, DieLayer] = {}
        tables: list[TileMitigation] = []
        for name in self.network.layers:
            layers[name], table = fabricate_layer(
                self.network,
                name,
                seed=self.seed,
                faults=self._given["faults"].get(name),
                mitigations=self._given["mitigations"],
                diagnosis=self._given["diagnosis"],
            )
            tables.extend(table.tiles)
        return Fabricated(layers, MitigationTable(tuple(tables)), {})

    def _check_images(self, images: Any) -> None:
        for method in self._given["mitigations"]:
            if method.needs == "images" and images is None:
                raise InputError(f"images must be given for {type(method).__name__}, which needs some, got None")
            if method.needs == "images" and not isinstance(self.backend, CompiledBackend):
                raise InputError(f"backend must be left out for {type(method).__name__}: use with_backend on the die")

    def _tune(self, images: Any) -> None:
        """Let mitigations that need images adjust the outputs of the layers."""
        methods = [method for method in self._given["mitigations"] if method.needs == "images"]
        if not methods:
            return
        samples = Samples.of(images)
        ideal = self.network.output_totals(samples)

        def run(layers: Mapping[str, Any], part: Samples) -> Any:
            self._counter.start(_FIRST_TUNING, len(part))
            return check_fit(lambda: self._skeleton.run(part, layers), part, name="images")

        self.adjustments = tune(methods, self.running, ideal, run, samples)
        for layer in self.running.values():
            layer.clipped = ClippedInputs(clipped=0, inputs=0)

    @property
    def faults(self) -> dict[str, FaultMap]:
        """What is broken, by layer name."""
        return {name: layer.faults for name, layer in self.layers.items()}

    @entrance
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
        # What is broken, what was programmed and how outputs are adjusted stay as they are.
        return self._again(seconds=seconds, backend=self.backend)

    def _again(self, *, seconds: float, backend: Backend) -> Self:
        """The same die at an age, computed by a backend."""
        made = Fabricated(self.layers, self.mitigations, self.adjustments)
        return type(self)(
            **self._given,
            seed=self.seed,
            precision=self.precision,
            seconds=seconds,
            fabricated=made,
            backend=backend,
        )

    @entrance
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the die and its network to a file, whole or not at all: safetensors, with all else as TOML in it.

        What is broken, how drivers and converters err, the levels that were programmed and what mitigations did are in
        it; what its cells hold is made again from the seed, and compared. So are the weights of the network's digital
        part; the code of a torch model is not.

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
        network = self._given["network"]
        if not isinstance(network, self.network_type):
            raise InputError(f"network must be a MappedNetwork to be saved, got {type(network).__name__}")
        die, arrays = write_die(
            self.layers,
            self._given["faults"],
            seed=self.seed,
            seconds=self.seconds,
            precision=self.precision,
            mitigations=self._given["mitigations"],
            diagnosis=self._given["diagnosis"],
            done=self.mitigations.tiles,
            adjustments=self.adjustments,
            next_sample=self._next,
            clipped=self.clipped_inputs,
        )
        record, of_network = network._written(die)
        write_contents(path, "chip", record, arrays | of_network)

    @classmethod
    @entrance
    def load(cls, path: str | os.PathLike[str], *, model: Any = None) -> Chip:
        """Read a die that was saved: it answers as that one did, bit for bit, and counts its samples on from there.

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
            If the file is cut short, changed, of another kind, or names an encoding, packing, fault model or mitigation
            that no imported module has; or if the cells do not hold what they held.
        InputError
            If `model` is needed and not given, or is not the network that was saved.
        """
        if cls.network_type is None:
            raise InputError("Chip must be imported from xbarsim or xbarsim.network to load one, got it from elsewhere")
        saved = read_network(path, "chip", model)
        die, network = saved.die, cls.network_type(**saved.parts)
        assert die is not None
        with reading(path, "chip"):
            prepared = network
            for method in check_mitigations(die.mitigations, die.diagnosis):
                prepared = method.prepare(prepared)
            faults = read_given(die, saved.contents, prepared.layers)
            adjustments = read_adjustments(die, saved.contents, prepared.layers)
            layers = read_die(die, saved.contents, prepared.layers, prepared.design)
            saved.contents.finish()
        chip: Chip = network.chip_type(
            network,
            die.seed,
            faults=faults,
            mitigations=die.mitigations,
            diagnosis=die.diagnosis,
            precision=die.precision,
            seconds=die.seconds,
            fabricated=Fabricated(layers, MitigationTable(die.done), adjustments),
        )
        chip._next = die.next_sample
        for layer in die.layers:
            chip.running[layer.name].clipped = ClippedInputs(clipped=layer.clipped, inputs=layer.inputs)
        return chip

    def __call__(self, *inputs: Any, first_image: int | None = None, **keywords: Any) -> Any:
        """Run a batch.

        Parameters
        ----------
        inputs, keywords
            As the model takes them, samples in the first dimension: arrays or tensors, floating or of indices.
        first_image
            Number of the first sample in its data set. Read noise is drawn by the number of a sample, so that an answer
            does not depend on the batch it came in. ``None`` to count on from the last call: then a second read of the
            same samples draws anew.

        Returns
        -------
        Any
            What the model gives.

        Warns
        -----
        ClippingWarning
            The first time that more than 1 % of the inputs of a layer lie beyond the range of the calibration.

        Raises
        ------
        InputError
            If the samples do not fit the model, or are not finite.
        """
        return self.run(Samples.call(inputs, keywords), first_image=first_image)

    def run(self, samples: Samples, *, first_image: int | None = None) -> Any:
        """Run a batch, as calling the chip; `first_image` as there."""
        first = self._next
        if first_image is not None:
            first = check_integer("first_image", first_image, at_least=0, at_most=MOST_SAMPLES)
        before = self.clipped_inputs
        result = self._run(samples, first)
        self._next = first + len(samples)
        self._warn_of_clipping(before)
        return result

    def _run(self, samples: Samples, first: int, watch: Watch | None = None) -> Any:
        def run(start: int, part: Samples) -> Any:
            self._counter.start(first + start, len(part))
            return check_fit(lambda: self._skeleton.run(part, self.running, watch=watch), samples, name="images")

        if self._alone and len(samples) > 1:
            return joined([run(index, samples.part(index, index + 1)) for index in range(len(samples))])
        return run(0, samples)

    @property
    def clipped_inputs(self) -> dict[str, ClippedInputs]:
        """Inputs of each layer so far, and how many of them lay beyond the range of the calibration."""
        return {name: layer.clipped for name, layer in self.running.items()}

    def _warn_of_clipping(self, before: Mapping[str, ClippedInputs]) -> None:
        shares = {}
        for name, now in self.clipped_inputs.items():
            new = ClippedInputs(clipped=now.clipped - before[name].clipped, inputs=now.inputs - before[name].inputs)
            if new.share > _CLIPPED and name not in self._warned:
                shares[name] = new.share
        if shares:
            self._warned |= set(shares)
            warnings.warn(clipped_inputs_message(shares, _CLIPPED), ClippingWarning, stacklevel=4)

    def eval(self) -> Chip:
        """Itself: a die has no other mode."""
        return self

    def train(self, mode: bool = True) -> Chip:
        """Itself: a die has no training mode, and cannot be changed."""
        return self

    def state_dict(self, *arguments: Any, **keywords: Any) -> dict[str, Any]:
        """Refused: parameters are not what makes a die.

        Raises
        ------
        InputError
            Always, naming what saves a die.
        """
        raise InputError("state_dict holds no die: its cells and faults would be lost; use chip.save and Chip.load")

    def load_state_dict(self, *arguments: Any, **keywords: Any) -> Any:
        """Refused, as :meth:`state_dict`."""
        self.state_dict()

    def reference(self) -> Network:
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
        layers = {name: ReferenceLayer.of(self.running[name].layer, layer) for name, layer in self.layers.items()}
        return Network(self.network.skeleton, layers)

    def _repr_html_(self) -> str:
        plans = {name: plan for name, plan, _ in self.plan().rows}
        title = f"Die of seed {self.seed}" + (f", {self.seconds:g} s old" if self.seconds else "")
        repaired = " and ".join(type(method).__name__ for method in self._given["mitigations"])
        notes = [f"design: {self.network.design.in_a_line}", *([f"repaired: {repaired}"] if repaired else [])]
        return die_html(self.faults, plans, title, notes)

    def plan(self) -> PlanTable:
        """How each layer of this die is computed, and why."""
        plans = {name: layer.plan for name, layer in self.running.items()}
        return PlanTable(tuple((name, plan.name, plan.reason) for name, plan in plans.items()), str(self.backend))

    @entrance
    def cost(
        self,
        hardware: Hardware | str = "isaac2016",
        *,
        read_voltage: float | None = None,
        activity: ActivityTable | None = None,
    ) -> CostReport:
        """Power, area and peak throughput, with the static power of this die's own cells.

        What mitigations add is in it: spare lines, copies, stored bits, digital operations. What is done once for a
        die, testing and rewriting its cells, is in no number; a remark says what it takes.

        Parameters
        ----------
        hardware
            A component card, or its name.
        read_voltage
            V, for a cell card that has none; ``None`` for the card's own.
        activity
            From :meth:`activity`; ``None`` for that of the calibration set. It decides what a design that skips idle
            reads saves; the power of cells is that of the inputs of the calibration either way.
        """
        cells = {name: layer.cells() for name, layer in self.layers.items()}
        return self.network.cost_of(
            cells,
            hardware,
            read_voltage=read_voltage,
            stored_bits=self.stored_bits(),
            digital=tuple(self.digital_overhead()),
            remarks=once_for_a_die(
                self.mitigations, self._given["mitigations"], self._given["diagnosis"], self.network.layers
            ),
            activity=activity,
        )

    @entrance
    def activity(self, images: Any, *, batch_size: int = 64) -> ActivityTable:
        """Run samples and count what their inputs drive and read in every layer of this die, exactly.

        Parameters
        ----------
        images
            Samples, as :func:`map_model` takes them; read noise is drawn as for sample 0 on.
        batch_size
            Samples run at a time; changes no number.

        Raises
        ------
        InputError
            If the samples do not fit the model.
        """
        samples = Samples.of(images)
        check_integer("batch_size", batch_size, at_least=1)
        return count_activity(self.network.layers, samples, run=self._run, batch_size=batch_size)

    def stored_bits(self) -> dict[str, int]:
        """What mitigations store for each layer: tables and switches of tiles, and a gain and an offset an output."""
        return stored_bits(self.mitigations, self.adjustments)

    def digital_overhead(self) -> Iterator[DigitalUse]:
        """What is added digitally, and what it takes to average copies, for one image."""
        return digital_overhead(self.layers, self.network.layers)

    @entrance
    def report(self, images: Any, *, batch_size: int = 64, clipping: float = 0.01) -> ErrorReport:
        """Compare every layer with the digital quantised network and with the network in floating point.

        Parameters
        ----------
        images
            Samples, as :func:`map_model` takes them; read noise is drawn as for sample 0 on.
        batch_size
            Samples run at a time.
        clipping
            Share of conversions, and of inputs, that may be clipped without a warning.

        Warns
        -----
        ClippingWarning
            If some layers clip more, naming them.
        """
        samples = Samples.of(images)
        check_integer("batch_size", batch_size, at_least=1)
        check_real("clipping", clipping, at_least=0.0, at_most=1.0)
        report = error_report(
            self.network,
            self.layers,
            samples,
            run=self._run,
            batch_size=batch_size,
            clipping=clipping,
        )
        outside = self.stuck_outside
        return replace(report, notes=(str(outside),)) if outside else report

    @property
    def stuck_outside(self) -> StuckOutside:
        """Cells stuck at conductances outside the range of the cell: false where there are none."""
        return reduce(add, (layer.stuck_outside for layer in self.layers.values()))

    @entrance
    def tile(self, layer: str, tile: int = 0) -> TileView:
        """One tile of one layer, for looking at; see also :func:`xbarsim.plot.tile`.

        Raises
        ------
        InputError
            If there is no such layer or tile.
        """
        return self._layer(layer).tile(tile)

    @entrance
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
