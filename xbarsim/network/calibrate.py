"""What calibration images say: the range of every layer's inputs, and what its arrays are driven with and read."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.design import Design, Drive
from xbarsim.die.seen import seen_cells
from xbarsim.engine import largest_conversion
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Reading
from xbarsim.network.layers import DigitalLayer, QuantisedLayer
from xbarsim.network.placed import MappedLayer, fullest_tile
from xbarsim.network.skeleton import fill

__all__ = ["SAMPLED_IMAGES", "calibrate", "calibrate_layer", "input_ranges", "sample_vectors"]

_BATCH = 64  # calibration images run at a time; changes no result
SAMPLED_IMAGES = 64  # calibration images whose reads set converter ranges and the mean square of inputs
_SAMPLED_POSITIONS = 16  # positions of each of them, evenly spaced


def _run(model: nn.Module, images: Tensor) -> None:
    with torch.no_grad():
        for start in range(0, len(images), _BATCH):
            try:
                model(images[start : start + _BATCH])
            except InputError:
                raise
            except (RuntimeError, ValueError, IndexError) as error:
                reason = str(error).splitlines()[0]
                raise InputError(
                    f"calibration must fit the model, got images of shape {tuple(images.shape[1:])}: {reason}"
                ) from error


def input_ranges(model: nn.Module, names: Collection[str], images: Tensor) -> dict[str, tuple[float, float]]:
    """Lowest and highest input of each module that the images reach, in the order of their first use.

    Computed in float64 and rounded to float32, because torch promises no order of its sums: in float32 the last digits
    of a range, and so of every activation, would depend on threads and machine. A model that cannot run in float64
    runs in float32.

    Parameters
    ----------
    model
        In float32.
    names
        Of the modules to watch.
    images
        Calibration images, float32.

    Raises
    ------
    InputError
        If the images do not fit the model, or reach none of the modules.
    """
    try:
        ranges = _watch_ranges(copy.deepcopy(model).double(), names, images.double())
    except InputError:
        ranges = _watch_ranges(model, names, images)
    if not ranges:
        raise InputError("model must use a layer that can be mapped, got none reached by the calibration images")
    return ranges


def _watch_ranges(model: nn.Module, names: Collection[str], images: Tensor) -> dict[str, tuple[float, float]]:
    ranges: dict[str, tuple[float, float]] = {}

    def watch(name: str) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(module: nn.Module, arguments: tuple[Any, ...]) -> None:
            low, high = (float(value) for value in torch.aminmax(arguments[0].float()))
            before = ranges.get(name, (low, high))
            ranges[name] = (min(low, before[0]), max(high, before[1]))

        return hook

    handles = [model.get_submodule(name).register_forward_pre_hook(watch(name)) for name in names]
    try:
        _run(model, images)
    finally:
        for handle in handles:
            handle.remove()
    return ranges


def sample_vectors(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> tuple[npt.NDArray[np.int32], int]:
    """Evenly spaced input vectors of a batch, and how many vectors one map gives.

    Parameters
    ----------
    layer
        The layer.
    codes
        Its input codes, shape ``(maps, channels, height, width)``.

    Returns
    -------
    ndarray
        Shape ``(vectors, inputs)``.
    int
        Vectors of one map, sampled or not.
    """
    vectors = layer.unfold(codes)
    positions = vectors.shape[1]
    chosen = np.unique(np.linspace(0, positions - 1, min(positions, _SAMPLED_POSITIONS)).astype(np.int64))
    return vectors[:, chosen].reshape(-1, vectors.shape[2]), positions


def _sample_inputs(
    skeleton: nn.Module, layers: Mapping[str, QuantisedLayer], images: Tensor
) -> dict[str, tuple[npt.NDArray[np.int32], int]]:
    """Sampled input vectors of each layer of the digital network, and how many each image gives over all its uses."""
    samples: dict[str, tuple[npt.NDArray[np.int32], int]] = {}

    def record(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> None:
        vectors, positions = sample_vectors(layer, codes)
        if layer.name in samples:  # a layer used more than once
            earlier, before = samples[layer.name]
            vectors, positions = np.concatenate([earlier, vectors]), before + positions
        samples[layer.name] = vectors, positions

    _run(fill(skeleton, lambda name: DigitalLayer(layers[name], record)), images)
    return samples


def _mean_square_input(vectors: npt.NDArray[np.int32], drive: Drive) -> npt.NDArray[np.float64]:
    total = np.zeros(vectors.shape[1])
    for _, driven in drive.driven(vectors):
        for number in range(drive.planes):
            total += ((drive.plane(driven, number) / drive.max_plane) ** 2).mean(axis=0)
    return total / (drive.passes * drive.planes)


def _calibrated_range(reading: Reading, drive: Drive, vectors: npt.NDArray[np.int32], design: Design) -> float | None:
    """What converters that are calibrated have to span; ``None`` where none are."""
    if design.periphery.adc_range != "calibrated":
        return None
    nominal = None if design.wires is None else seen_cells(reading.matrix.levels, reading.matrix, design, drive)
    return largest_conversion(reading, drive, vectors, offset_levels=design.offset_levels, cells=nominal)


def calibrate(
    skeleton: nn.Module,
    layers: Mapping[str, QuantisedLayer],
    readings: Mapping[str, Reading],
    images: Tensor,
    design: Design,
) -> dict[str, MappedLayer]:
    """Set the converters of every placed layer, and measure what its arrays are driven with.

    Parameters
    ----------
    skeleton
        The model, with placeholders for its layers.
    layers, readings
        The quantised layers and where they were placed, by name.
    images
        Calibration images; the first 64 are used.
    design
        The accelerator.
    """
    samples = _sample_inputs(skeleton, layers, images[:SAMPLED_IMAGES])
    return {
        name: calibrate_layer(layer, readings[name], samples[name][0], design, vectors_per_image=samples[name][1])
        for name, layer in layers.items()
    }


def calibrate_layer(
    layer: QuantisedLayer,
    reading: Reading,
    vectors: npt.NDArray[np.int32],
    design: Design,
    *,
    vectors_per_image: int = 1,
) -> MappedLayer:
    """Set the converters of one placed layer, and measure what its arrays are driven with.

    Parameters
    ----------
    layer, reading
        The quantised layer and where it was placed.
    vectors
        Input codes, shape ``(vectors, inputs)``.
    design
        The accelerator.
    vectors_per_image
        Matrix-vector products for one image.
    """
    drive = design.drive(signed=layer.signed)
    return MappedLayer(
        layer=layer,
        reading=reading,
        drive=drive,
        converter=design.converter(
            rows=fullest_tile(reading.matrix), calibrated_range=_calibrated_range(reading, drive, vectors, design)
        ),
        mean_square_input=_mean_square_input(vectors, drive),
        vectors_per_image=vectors_per_image,
    )
