"""From a torch model to a mapped network: fold, calibrate, quantise, place."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.cost import CostReport, Hardware, estimate
from xbarsim.design import Design, Readout
from xbarsim.devices import FaultMap, FaultModel
from xbarsim.die.seen import seen_cells
from xbarsim.engine.plans import choose_plan, largest_conversion
from xbarsim.engine.reference import input_passes
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import MappedMatrix, map_matrix, quantise
from xbarsim.network.fold import fold_batch_norm
from xbarsim.network.layers import DigitalLayer, QuantisedLayer, describe
from xbarsim.network.use import layer_use

if TYPE_CHECKING:
    from xbarsim.network.chip import Chip

__all__ = [
    "MappedLayer",
    "MappedNetwork",
    "NotMapped",
    "NotMappedWarning",
    "PlanTable",
    "as_images",
    "fill_slots",
    "map_model",
    "sample_vectors",
]

_BATCH = 64  # calibration images run at a time; changes no result
_SAMPLED_IMAGES = 64  # calibration images whose reads set converter ranges and drive statistics
_SAMPLED_POSITIONS = 16  # positions of each of them, evenly spaced

# Modules whose weights are used by fused functions and never through the layers inside them.
_OPAQUE = (nn.MultiheadAttention, nn.RNNBase, nn.RNNCellBase)


@dataclass(frozen=True, kw_only=True, eq=False)
class MappedLayer:
    """One layer of a network and the tiles that hold it.

    Parameters
    ----------
    layer
        The quantised layer.
    matrix
        Its weights in cells.
    readout
        How its tiles are read.
    drive
        Mean square of the word-line voltage over the read voltage, for each input, on the calibration set (over
        positions, passes and planes), shape ``(inputs,)``; unitless.
    vectors_per_image
        Matrix-vector products for one image.
    """

    layer: QuantisedLayer
    matrix: MappedMatrix
    readout: Readout
    drive: npt.NDArray[np.float64]
    vectors_per_image: int

    @property
    def activations(self) -> int:
        """Reads of its fullest tile for one plane: more than one where only some rows are driven at a time."""
        return self.readout.activations(int((self.matrix.tile_rows >= 0).sum(axis=1).max(initial=1)))

    def cells_power(self, cells: npt.NDArray[Any], design: Design) -> float | None:
        """Mean static power of the cells while all tiles of the layer are read, in W.

        The sum of V^2 G over the driven rows of used columns, with the calibration set's drive; columns at virtual
        ground. Where only some rows are driven at a time, the mean over these reads.

        Parameters
        ----------
        cells
            What the cells hold, in level units, shape ``(tiles, rows, columns)``.
        design
            Gives the cell; ``None`` is returned if its read voltage is not known.
        """
        if design.cell.read_voltage is None:
            return None
        matrix, bits = self.matrix, design.mapping.cell_bits
        columns = np.asarray(matrix.used.any(axis=1))  # (tiles, columns)
        total = np.where(columns[:, np.newaxis, :], design.cell.conductance(cells, bits), 0.0).sum(
            axis=2
        )  # (tiles, rows)
        drive = np.where(matrix.tile_rows >= 0, self.drive[matrix.tile_rows], 0.0)
        return float((drive * total).sum()) * design.cell.read_voltage**2 / self.activations


@dataclass(frozen=True, kw_only=True)
class NotMapped:
    """A module with weights that stays digital."""

    name: str
    kind: str
    parameters: int
    reason: str


class NotMappedWarning(UserWarning):
    """Some modules with weights are not on crossbars; the message names them."""


@dataclass(frozen=True)
class PlanTable:
    """How each layer is computed, and why.

    Attributes
    ----------
    rows
        Layer, plan and reason.
    """

    rows: tuple[tuple[str, str, str], ...]

    def __getitem__(self, layer: str) -> str:
        return {name: plan for name, plan, _ in self.rows}[layer]

    def __str__(self) -> str:
        return format_table(("layer", "plan", "because"), self.rows, left=3)


class Slot(nn.Module):
    """Where a mapped layer stands in a model's skeleton; never run."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self.name = name


def fill_slots(skeleton: nn.Module, make: Callable[[str], nn.Module]) -> nn.Module:
    """A copy of a skeleton with a module in each slot; slots of one name share it."""
    if isinstance(skeleton, Slot):
        return make(skeleton.name)
    model = copy.deepcopy(skeleton)
    made: dict[str, nn.Module] = {}
    for name, module in list(model.named_modules(remove_duplicate=False)):
        if isinstance(module, Slot):
            if module.name not in made:
                made[module.name] = make(module.name)
            parent, _, child = name.rpartition(".")
            setattr(model.get_submodule(parent), child, made[module.name])
    return model.eval()


def as_images(images: Any, *, name: str = "images", shape: tuple[int, ...] | None = None) -> Tensor:
    """Images as a float32 tensor, images first.

    Parameters
    ----------
    images
        Array or tensor of floating numbers.
    name
        For messages.
    shape
        Shape that one image must have, or ``None`` for any.

    Raises
    ------
    InputError
        If they are empty, not floating, not finite, or of another shape.
    """
    tensor: Any = images.detach().cpu() if isinstance(images, Tensor) else np.asarray(images)
    if tensor.ndim < 2 or 0 in tensor.shape:
        raise InputError(f"{name} must be a non-empty batch, images first, got shape {tuple(tensor.shape)}")
    floating = tensor.is_floating_point() if isinstance(tensor, Tensor) else tensor.dtype.kind == "f"
    if not floating:
        raise InputError(f"{name} must be floating numbers, scaled as the model was trained, got {tensor.dtype}")
    if shape is not None and tuple(tensor.shape[1:]) != tuple(shape):
        raise InputError(
            f"{name} must have shape (any number, {', '.join(map(str, shape))}), got {tuple(tensor.shape)}"
        )
    if not isinstance(tensor, Tensor):
        with np.errstate(over="ignore"):
            tensor = torch.from_numpy(np.array(tensor, dtype=np.float32, order="C"))
    tensor = tensor.to(torch.float32)
    if not bool(torch.isfinite(tensor).all()):
        raise InputError(f"{name} must be finite, got NaN or infinity")
    result: Tensor = tensor
    return result


class MappedNetwork:
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
    not_mapped
        Modules with weights that stay digital, with the reason.
    notes
        What a user should know about the mapping.
    image_shape
        Shape of one image.
    """

    def __init__(
        self,
        *,
        design: Design,
        skeleton: nn.Module,
        layers: dict[str, MappedLayer],
        not_mapped: tuple[NotMapped, ...],
        notes: tuple[str, ...],
        image_shape: tuple[int, ...],
    ) -> None:
        self.design = design
        self.skeleton = skeleton
        self.layers = layers
        self.not_mapped = not_mapped
        self.notes = notes
        self.image_shape = image_shape
        self.digital = fill_slots(skeleton, lambda name: DigitalLayer(layers[name].layer))

    @property
    def tiles(self) -> int:
        """Crossbar arrays that the network takes."""
        return sum(mapped.matrix.tiles for mapped in self.layers.values())

    def plan(self) -> PlanTable:
        """How each layer of a die without faults will be computed, and why.

        A die's own table is :meth:`xbarsim.Chip.plan`: a fault can cost a layer its proof that no converter errs.
        """
        cell = self.design.cell
        rows = []
        for name, mapped in self.layers.items():
            kind, reason = choose_plan(
                mapped.matrix,
                mapped.matrix.levels,
                mapped.readout,
                whole=cell.exact and self.design.ideal_circuit,
                noisy=cell.noisy,
                erring=self.design.periphery.erring,
            )
            rows.append((name, kind.plan_name(mapped.readout), reason))
        return PlanTable(tuple(rows))

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

    def fabricate(
        self,
        seed: int,
        *,
        faults: Mapping[str, FaultMap] | None = None,
        precision: Literal["single", "double"] = "single",
    ) -> Chip:
        """Make one die.

        Parameters
        ----------
        seed
            Root of every random draw of this die; the same seed gives the same die.
        faults
            Fault maps by layer name, used instead of the design's fault model for these layers.
        precision
            Of sums of conductances off the levels: ``"single"``, fast, or ``"double"``, equal to the reference engine
            bit for
            bit. Whole levels are exact either way.

        Raises
        ------
        InputError
            If the seed is negative, a name is no mapped layer, or a map has another shape than the layer's tiles.
        """
        from xbarsim.network.chip import Chip

        return Chip(self, seed, faults=faults, precision=precision)

    def cost(self, hardware: Hardware | str = "isaac2016", *, data: bool = True) -> CostReport:
        """Power, area and peak throughput of the arrays that the network takes, cells at their targets.

        What an inference costs is :meth:`xbarsim.cost.CostReport.workload` of it.

        Parameters
        ----------
        hardware
            A component card, or its name.
        data
            Whether the cells draw the power of these weights and calibration inputs; else that of the card, as is right
            for a network that is not trained.
        """
        cells = {name: mapped.matrix.levels for name, mapped in self.layers.items()}
        return self.cost_of(cells if data else None, hardware)

    def cost_of(self, cells: Mapping[str, npt.NDArray[Any]] | None, hardware: Hardware | str) -> CostReport:
        """As :meth:`cost`, with what the cells of each layer really hold, in level units, or ``None`` (no `data`)."""
        card = Hardware.load(hardware) if isinstance(hardware, str) else hardware
        uses = [
            layer_use(
                name,
                mapped.matrix,
                mapped.readout,
                self.design,
                macs_per_vector=mapped.layer.codes.size // mapped.layer.groups,
                vectors_per_image=mapped.vectors_per_image,
                cells_power=None if cells is None else mapped.cells_power(cells[name], self.design),
            )
            for name, mapped in self.layers.items()
        ]
        return estimate(uses, card)

    def __str__(self) -> str:
        rows = []
        for name, mapped in self.layers.items():
            layer, matrix = mapped.layer, mapped.matrix
            rows.append(
                (
                    name,
                    layer.kind,
                    f"{matrix.shape[0]} x {matrix.shape[1]}",
                    matrix.tiles,
                    f"{matrix.utilisation:.1%}",
                    f"{'signed' if layer.signed else 'unsigned'} {layer.input_bits}",
                    mapped.readout.converter_bits or "ideal",
                )
            )
        text = format_table(
            ("layer", "kind", "inputs x outputs", "tiles", "cells used", "input bits", "ADC bits"),
            rows,
            left=2,
        )
        for item in self.not_mapped:
            text += f"\nstays digital: {item.name} ({item.kind}, {item.parameters} weights): {item.reason}"
        for note in self.notes:
            text += f"\nnote: {note}"
        return text


def _find_layers(model: nn.Module) -> tuple[dict[str, nn.Module], list[NotMapped]]:
    """Layers that can be mapped, by name, and modules with weights that cannot."""
    layers: dict[str, nn.Module] = {}
    left: list[NotMapped] = []
    seen: set[int] = set()

    def count(module: nn.Module, recurse: bool) -> int:
        return sum(parameter.numel() for parameter in module.parameters(recurse=recurse))

    def visit(name: str, module: nn.Module) -> None:
        if id(module) in seen:
            return
        seen.add(id(module))
        kind = type(module).__name__
        if isinstance(module, _OPAQUE):
            left.append(
                NotMapped(name=name, kind=kind, parameters=count(module, True), reason="no mapping for this layer")
            )
            return
        if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
            layers[name] = module
            return
        if own := count(module, False):
            norm = "Norm" in kind
            reason = "not directly behind a layer it could be folded into" if norm else "no mapping for this layer"
            left.append(NotMapped(name=name or "(model)", kind=kind, parameters=own, reason=reason))
        for child_name, child in module.named_children():
            visit(f"{name}.{child_name}" if name else child_name, child)

    visit("", model)
    return layers, left


def _run(model: nn.Module, images: Tensor, what: str) -> None:
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            try:
                model(images[start : start + _BATCH])
            except InputError:
                raise
            except (RuntimeError, ValueError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"{what} must fit the model, got images of shape {tuple(images.shape[1:])}: {reason}"
                ) from error


def _input_ranges(model: nn.Module, layers: dict[str, nn.Module], images: Tensor) -> dict[str, tuple[float, float]]:
    """Lowest and highest input of each layer that the images reach, in the order of their first use.

    Computed in float64 and rounded to float32, because torch promises no order of its sums: in float32 the last digits
    of a range, and so of every activation, would depend on threads and machine. A model that cannot run in float64
    runs in float32.
    """
    try:
        double = copy.deepcopy(model).double()
        return _watch_ranges(double, {name: double.get_submodule(name) for name in layers}, images.double())
    except InputError:
        return _watch_ranges(model, layers, images)


def _watch_ranges(model: nn.Module, layers: dict[str, nn.Module], images: Tensor) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            low, high = (float(value) for value in torch.aminmax(arguments[0].float()))
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))

        return hook

    handles = [layer.register_forward_pre_hook(watch(name)) for name, layer in layers.items()]
    try:
        _run(model, images, "calibration")
    finally:
        for handle in handles:
            handle.remove()
    return ranges


def _quantise_layer(name: str, module: Any, low: float, high: float, design: Design) -> QuantisedLayer:
    signed = low < 0
    bits = design.periphery.input_bits
    if signed and bits < 2:
        raise InputError(f"input_bits must be >= 2 for layer {name!r}, whose inputs are signed, got {bits}")
    largest = max(abs(low), abs(high))
    if largest == 0.0:
        raise InputError(f"calibration must drive layer {name!r}, got inputs that are all 0")
    geometry = describe(name, module)
    try:
        weights = quantise(geometry.pop("matrix"), bits=design.mapping.weight_bits, per=design.mapping.weight_scale)
    except InputError as error:
        raise InputError(f"layer {name!r}: {error}") from error
    return QuantisedLayer(
        name=name,
        codes=weights.codes,
        weight_scale=weights.scale,
        input_scale=largest / (2 ** (bits - 1) - 1 if signed else 2**bits - 1),
        input_bits=bits,
        signed=signed,
        **geometry,
    )


def sample_vectors(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], int]:
    """Evenly spaced input vectors of a batch, shape (vectors, inputs), and how many there are for one image."""
    vectors = layer.unfold(codes)
    positions = vectors.shape[1]
    chosen = np.unique(np.linspace(0, positions - 1, min(positions, _SAMPLED_POSITIONS)).astype(np.int64))
    return vectors[:, chosen].reshape(-1, vectors.shape[2]), positions


def _mean_drive(vectors: npt.NDArray[np.int32], readout: Readout) -> npt.NDArray[np.float64]:
    total = np.zeros(vectors.shape[1])
    for _, driven in input_passes(vectors, readout):
        for plane in range(readout.planes):
            x = (driven >> (plane * readout.dac_bits)) & readout.max_plane
            total += ((x / readout.max_plane) ** 2).mean(axis=0)
    return total / (readout.passes * readout.planes)


def map_model(model: nn.Module, design: Design, *, calibration: Any) -> MappedNetwork:
    """Place a trained network on crossbars.

    Batch norms that directly follow a layer are folded into it. ``Linear``, ``Conv1d`` and ``Conv2d`` layers are
    quantised and mapped; everything else stays digital, in float32. The model is not changed.

    Parameters
    ----------
    model
        Any torch model that maps a batch of images to logits.
    design
        The accelerator.
    calibration
        Images, as the model takes them, shape ``(images, ...)``. The largest activation of each layer sets the range of
        its input codes, and the largest read of the first 64 images that of calibrated converters.

    Returns
    -------
    MappedNetwork

    Warns
    -----
    NotMappedWarning
        If modules with weights stay digital, naming them.

    Raises
    ------
    InputError
        If nothing can be mapped; if weights or calibration images are not finite; if the images do not fit the model,
        hold one constant value, or leave a layer's input at zero.
    """
    check_instance("model", model, nn.Module)
    check_instance("design", design, Design)
    images = as_images(calibration, name="calibration")
    if float(images.min()) == float(images.max()):
        raise InputError(
            f"calibration must hold images with more than one value, got {len(images)} constant "
            f"at {float(images.min())}"
        )
    folded, folded_names, fold_note = fold_batch_norm(model, images[:_BATCH])
    for module in folded.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            module.activation_relu_or_gelu = 0  # no fused path: it reads weights and passes the layers by
    candidates, left = _find_layers(folded)
    if not candidates:
        raise InputError(
            f"model must have a Linear, Conv1d or Conv2d layer to map, got {type(model).__name__} without one"
        )
    ranges = _input_ranges(folded, candidates, images)
    for name in candidates.keys() - ranges.keys():
        size = sum(parameter.numel() for parameter in candidates[name].parameters())
        left.append(
            NotMapped(
                name=name,
                kind=type(candidates[name]).__name__,
                parameters=size,
                reason="not used by the model's forward pass",
            )
        )
    if not ranges:
        raise InputError("model must use a layer that can be mapped, got none reached by the calibration images")
    quantised = {name: _quantise_layer(name, candidates[name], *ranges[name], design) for name in ranges}

    skeleton: nn.Module = copy.deepcopy(folded)
    by_identity = {id(candidates[name]): name for name in ranges}
    for name, module in list(folded.named_modules(remove_duplicate=False)):
        if id(module) in by_identity:
            slot = Slot(by_identity[id(module)])
            if not name:
                skeleton = slot
                break
            parent, _, child = name.rpartition(".")
            setattr(skeleton.get_submodule(parent), child, slot)

    sampled: dict[str, tuple[npt.NDArray[np.int32], int]] = {}

    def record(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> None:
        vectors, positions = sample_vectors(layer, codes)
        if layer.name in sampled:  # a layer used more than once
            earlier, before = sampled[layer.name]
            vectors, positions = np.concatenate([earlier, vectors]), before + positions
        sampled[layer.name] = vectors, positions

    _run(
        fill_slots(skeleton, lambda name: DigitalLayer(quantised[name], record)),
        images[: min(_SAMPLED_IMAGES, _BATCH)],
        "calibration",
    )

    layers: dict[str, MappedLayer] = {}
    for name, layer in quantised.items():
        matrix = map_matrix(layer.codes, design.mapping)
        vectors, positions = sampled[name]
        rows = int((matrix.tile_rows >= 0).sum(axis=1).max(initial=0))
        calibrated_range = None
        if design.periphery.adc_range == "calibrated":
            draft = design.readout(signed=layer.signed, rows=rows, calibrated_range=1.0)
            nominal = None if design.wires is None else seen_cells(matrix.levels, matrix, design, draft)
            calibrated_range = largest_conversion(matrix, draft, vectors, nominal)
        readout = design.readout(signed=layer.signed, rows=max(rows, 1), calibrated_range=calibrated_range)
        layers[name] = MappedLayer(
            layer=layer,
            matrix=matrix,
            readout=readout,
            drive=_mean_drive(vectors, readout),
            vectors_per_image=positions,
        )

    notes = []
    if folded_names:
        notes.append(f"{len(folded_names)} batch norms folded into the layers before them")
    if fold_note:
        notes.append(fold_note)
    if left:
        names = ", ".join(f"{item.name} ({item.kind}: {item.reason})" for item in left)
        warnings.warn(f"these modules hold weights and stay digital: {names}", NotMappedWarning, stacklevel=2)
    return MappedNetwork(
        design=design,
        skeleton=skeleton,
        layers=layers,
        not_mapped=tuple(left),
        notes=tuple(notes),
        image_shape=tuple(images.shape[1:]),
    )
