"""From a torch model to a mapped network, in five steps: lower, quantise, place, calibrate, assemble."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from torch import nn

from xbarsim.design import Design
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import Reading, map_matrix
from xbarsim.network.calibrate import calibrate
from xbarsim.network.images import as_images
from xbarsim.network.layers import QuantisedLayer
from xbarsim.network.lowering import Lowered, lower
from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
from xbarsim.network.placed import MappedLayer
from xbarsim.network.quantise import quantise
from xbarsim.network.skeleton import skeleton_of

__all__ = ["assemble", "map_model", "place"]


def map_model(model: nn.Module, design: Design, *, calibration: Any) -> MappedNetwork:
    """Place a trained network on crossbars.

    Batch norms that directly follow a layer are folded into it. ``Linear``, ``Conv1d`` and ``Conv2d`` layers, and those
    that :func:`xbarsim.network.lowering.register` names, are quantised and mapped; everything else stays digital, in
    float32. The model is not changed.

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
    lowered = lower(model, images)
    quantised = quantise(lowered, images, design)
    skeleton = skeleton_of(lowered.model, quantised)
    readings = place(quantised, design)
    layers = calibrate(skeleton, quantised, readings, images, design)
    return assemble(lowered, skeleton, layers, design, tuple(images.shape[1:]))


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


def assemble(
    lowered: Lowered, skeleton: nn.Module, layers: dict[str, MappedLayer], design: Design, image_shape: tuple[int, ...]
) -> MappedNetwork:
    """Put the parts of a mapped network together, and name what is not in it.

    Parameters
    ----------
    lowered
        What was read out of the model.
    skeleton
        The model, with placeholders for its layers.
    layers
        The layers, placed and calibrated.
    design, image_shape
        As in :class:`MappedNetwork`.

    Warns
    -----
    NotMappedWarning
        If modules with weights stay digital, naming them; at the caller of the function that calls this one.
    """
    not_mapped = (*lowered.not_mapped, *lowered.unused(layers))
    if not_mapped:
        names = ", ".join(f"{item.name} ({item.kind}: {item.reason})" for item in not_mapped)
        warnings.warn(f"these modules hold weights and stay digital: {names}", NotMappedWarning, stacklevel=3)
    return MappedNetwork(
        design=design,
        skeleton=skeleton,
        layers=layers,
        not_mapped=not_mapped,
        notes=lowered.notes,
        image_shape=image_shape,
    )
