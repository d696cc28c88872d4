"""What calibration samples say of the arrays of every layer: what they are driven with, and what is read."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial

import numpy as np
import numpy.typing as npt

from xbarsim.design import Design, Drive
from xbarsim.die.seen import seen_cells
from xbarsim.engine import largest_conversion
from xbarsim.mapping import Reading
from xbarsim.network.activity import ActivityCounts
from xbarsim.network.layers import DigitalLayer, QuantisedLayer
from xbarsim.network.placed import MappedLayer, fullest_tile, layer_drive
from xbarsim.network.samples import Samples, per_sample
from xbarsim.network.skeleton import Skeleton, check_fit

__all__ = ["SAMPLED_IMAGES", "calibrate", "calibrate_layer", "sample_vectors"]

_BATCH = 64  # calibration samples run at a time; changes no result
SAMPLED_IMAGES = 64  # calibration samples whose reads set converter ranges and the mean square of inputs
_SAMPLED_POSITIONS = 16  # positions of each of them, evenly spaced


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
    skeleton: Skeleton, layers: Mapping[str, QuantisedLayer], samples: Samples
) -> tuple[dict[str, npt.NDArray[np.int32]], dict[str, float]]:
    """Sampled input vectors of each layer of the digital network, and how many a sample gives over all its uses.

    The vectors of a sample are counted from the call: all vectors of the layer over the samples of the network.
    """
    inputs: dict[str, list[npt.NDArray[np.int32]]] = {}
    counts: dict[str, int] = {}

    def record(layer: QuantisedLayer, codes: npt.NDArray[np.int32]) -> None:
        vectors, positions = sample_vectors(layer, codes)
        inputs.setdefault(layer.name, []).append(vectors)
        counts[layer.name] = counts.get(layer.name, 0) + positions * len(codes)

    running = {name: DigitalLayer(layer, record) for name, layer in layers.items()}
    done = 0
    while done < len(samples) and (done < SAMPLED_IMAGES or len(inputs) < len(layers)):
        part = samples.part(done, done + _BATCH)
        check_fit(partial(skeleton.run, part, running), samples, name="calibration")
        done += len(part)
    each = {name: per_sample(count, done) for name, count in counts.items()}
    return {name: np.concatenate(kept) for name, kept in inputs.items()}, each


def _mean_square_input(vectors: npt.NDArray[np.int32], drive: Drive) -> npt.NDArray[np.float64]:
    total = np.zeros(vectors.shape[1])
    for _, driven in drive.driven(vectors):
        for number in range(drive.planes):
            plane = drive.plane(driven, number)
            voltage, current = plane / drive.max_plane, drive.carried(plane) / drive.max_plane
            total += (voltage * current).mean(axis=0)
    return total / (drive.passes * drive.planes)


def _calibrated_range(reading: Reading, drive: Drive, vectors: npt.NDArray[np.int32], design: Design) -> float | None:
    """What converters that are calibrated have to span; ``None`` where none are."""
    if design.periphery.adc_range != "calibrated":
        return None
    nominal = None if design.wires is None else seen_cells(reading.matrix.levels, reading.matrix, design, drive)
    return largest_conversion(reading, drive, vectors, offset_levels=design.offset_levels, cells=nominal)


def calibrate(
    skeleton: Skeleton,
    layers: Mapping[str, QuantisedLayer],
    readings: Mapping[str, Reading],
    samples: Samples,
    design: Design,
) -> dict[str, MappedLayer]:
    """Set the converters of every placed layer, and measure what its arrays are driven with.

    Parameters
    ----------
    skeleton
        The network.
    layers, readings
        The quantised layers and where they were placed, by name.
    samples
        Calibration samples; the first 64 are used, and more where these do not reach every layer.
    design
        The accelerator.
    """
    vectors, each = _sample_inputs(skeleton, layers, samples)
    return {
        name: calibrate_layer(layer, readings[name], vectors[name], design, vectors_per_image=each[name])
        for name, layer in layers.items()
        if name in vectors
    }


def calibrate_layer(
    layer: QuantisedLayer,
    reading: Reading,
    vectors: npt.NDArray[np.int32],
    design: Design,
    *,
    vectors_per_image: float = 1,
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
        Matrix-vector products for one sample.
    """
    drive = layer_drive(design, signed=layer.signed, input_bits=layer.input_bits)
    counts = ActivityCounts(reading, drive)
    counts.add(vectors)
    return MappedLayer(
        layer=layer,
        reading=reading,
        drive=drive,
        converter=design.converter(
            rows=fullest_tile(reading.matrix), calibrated_range=_calibrated_range(reading, drive, vectors, design)
        ),
        mean_square_input=_mean_square_input(vectors, drive),
        vectors_per_image=vectors_per_image,
        activity=counts.shares(),
    )
