"""From a network to its place on crossbars, in five steps: lower, quantise, place, calibrate, assemble."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from xbarsim.cost import DigitalUse
from xbarsim.design import Design
from xbarsim.devices import warn_outside
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.extras import need_torch
from xbarsim.foundation.guide import see
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import Reading, map_matrix
from xbarsim.network.calibrate import calibrate
from xbarsim.network.files import choose_probe
from xbarsim.network.layers import QuantisedLayer
from xbarsim.network.lowered import Lowered
from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
from xbarsim.network.order import sample_orders
from xbarsim.network.quantise import quantise
from xbarsim.network.ranges import InputRange, RangeName, as_input_range, input_ranges
from xbarsim.network.rescale import Rescale, rescaled
from xbarsim.network.samples import Samples, per_sample

if TYPE_CHECKING:
    from torch import nn

__all__ = ["map_lowered", "map_model", "place"]


@entrance
def map_model(
    model: nn.Module,
    design: Design,
    *,
    calibration: Any,
    ranges: InputRange | RangeName = "max",
    rescale: Rescale | None = None,
) -> MappedNetwork:
    """Place a trained torch model on crossbars.

    The model runs as it is, and every product of inputs with trained weights is found as it runs: linear layers,
    convolutions and matrix products, in whatever module or function they stand and however their weights come about.
    They are quantised and mapped; everything else stays digital, in float32. Recurrent layers and attention are taken
    apart first, and batch norms that directly follow a layer are folded into it. The model is not changed, and runs in
    evaluation mode whatever its own is.

    Parameters
    ----------
    model
        Any torch model.
    design
        The accelerator.
    calibration
        Samples, as the model takes them: an array or tensor of shape ``(samples, ...)``, floating or of indices; a
        tuple of these for a model with several inputs, a dictionary for inputs by name; a data set or data loader,
        whose labels are left out. The activations of each layer set the range of its input codes, and the largest read
        of the first 64 samples that of calibrated converters.
    ranges
        How: ``"max"``, the largest magnitude; ``"percentile"``, that of 99.9 %; ``"mse"``, the least squared error of
        rounding and clipping; ``"moving average"`` of the largest of batches; or any
        :class:`xbarsim.network.InputRange`, such as ``Percentile(percent=99.99)``.
    rescale
        Divide input channels with outliers digitally and multiply their weights; ``None`` to leave them as they are.

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
        If nothing can be mapped; if weights or calibration samples are not finite; if the samples do not fit the model
        or hold one constant value.
    ImportError
        If torch is not installed.
    """
    need_torch("map_model")
    import torch

    from xbarsim.network.lowering.lower import lower

    check_instance("model", model, torch.nn.Module)
    check_instance("design", design, Design)
    samples = Samples.of(calibration, name="calibration")
    check_varied(samples)
    return map_lowered(lower(model, samples), design, samples, ranges=as_input_range(ranges), rescale=rescale)


def check_varied(samples: Samples) -> None:
    """Refuse calibration samples of one constant value."""
    first = samples.arrays[0]
    if all(float(array.min()) == float(array.max()) for array in samples.arrays):
        raise InputError(
            f"calibration must hold images with more than one value, got {len(samples)} constant "
            f"at {float(first.min())}"
        )


def map_lowered(
    lowered: Lowered,
    design: Design,
    samples: Samples,
    *,
    ranges: InputRange | None = None,
    rescale: Rescale | None = None,
) -> MappedNetwork:
    """Quantise, place and calibrate a network whose products are known.

    Parameters
    ----------
    lowered
        From :func:`xbarsim.network.lowering.lower` or an ONNX file.
    design
        The accelerator.
    samples
        Calibration samples.
    ranges
        How the range of a layer's inputs is chosen; ``None`` for the largest.
    rescale
        How channels with outliers are rescaled; ``None`` for not at all.

    Warns
    -----
    NotMappedWarning
        If something with weights stays digital; at the caller of the function that calls this one.

    Raises
    ------
    InputError
        As :func:`map_model`.
    """
    if design.faults is not None:
        outside = design.faults.outside(design.cell, design.mapping.cell_bits)
        warn_outside(outside, f"the design's {type(design.faults).__name__}")
    ranges = ranges or as_input_range("max")
    check_instance("rescale", rescale, (Rescale, type(None)))
    if rescale is not None:
        lowered = _rescaled(lowered, rescale, samples)
    seen = input_ranges(lowered.skeleton, lowered.products, samples, counts=ranges.needs_counts)
    unreached = {name: "not reached by the calibration samples" for name in lowered.products if name not in seen}
    silent = {
        name: "its inputs are all 0 on the calibration samples" for name, each in seen.items() if each.largest == 0
    }
    lowered = lowered.without(unreached | silent)
    seen = {name: each for name, each in seen.items() if name not in silent}
    if not seen:
        raise InputError("calibration must drive a layer that can be mapped, got inputs that are all 0 in every one")
    quantised = quantise(lowered.products, seen, ranges, design)
    readings = place(quantised, design)
    layers = calibrate(lowered.skeleton, quantised, readings, samples, design)
    missing = {name: "not reached in the quantised network" for name in quantised if name not in layers}
    lowered = lowered.without(missing)
    orders = sample_orders(lowered.skeleton, layers, samples) if design.cell.noisy else {}
    if lowered.not_mapped:
        names = ", ".join(f"{item.name} ({item.kind}: {item.reason})" for item in lowered.not_mapped)
        message = f"these modules hold weights and stay digital: {names}{see('layers')}"
        warnings.warn(message, NotMappedWarning, stacklevel=4)
    return MappedNetwork(
        design=design,
        lowered=lowered,
        layers=layers,
        image_shape=samples.shape,
        orders=orders,
        probe=choose_probe(lowered.skeleton, layers, samples),
    )


def _rescaled(lowered: Lowered, rescale: Rescale, samples: Samples) -> Lowered:
    """The products of plain layouts with their channels rescaled, what that takes digitally, and a note of it."""
    products = dict(lowered.products)
    work = list(lowered.digital_work)
    divided = 0
    for name, seen in input_ranges(lowered.skeleton, products, samples).items():
        product = products[name]
        free = product.given is None and product.input_scale is None  # integers that a file gives stay as they are
        if free and product.adapter.kind in ("linear", "conv1d", "conv2d") and seen.largest > 0:
            products[name] = rescaled(product, seen.channels, rescale)
            divided += len(seen.channels)
            work.append(DigitalUse(name=name, kind="rescaling", elementwise=per_sample(seen.inputs, len(samples))))
    note = (
        f"inputs of {divided} channels are divided digitally before they are driven, one multiplication an input; "
        "a norm before can take that into its gain"
    )
    return replace(lowered, products=products, notes=(*lowered.notes, note), digital_work=tuple(work))


def place(layers: Mapping[str, QuantisedLayer], design: Design) -> dict[str, Reading]:
    """Put the weights of every layer into cells.

    Parameters
    ----------
    layers
        By name.
    design
        Says how.

    Returns
    -------
    dict
        By name, the placed weights and how their columns are read.
    """
    return {name: design.reading(map_matrix(layer.codes, design.mapping)) for name, layer in layers.items()}
