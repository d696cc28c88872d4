"""Where accuracy is lost: each layer of a chip against the digital quantised network, and against floating point."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.die import DieLayer, TileLoss
from xbarsim.engine import clipped_share
from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.guide import see
from xbarsim.foundation.tables import format_table
from xbarsim.network.calibrate import sample_vectors
from xbarsim.network.layers import DigitalLayer, QuantisedLayer
from xbarsim.network.placed import PlacedNetwork
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Watch

__all__ = ["ClippingWarning", "ErrorReport", "LayerError", "clipped_inputs_message", "error_report", "vectors_report"]

_CLIPPING_VECTORS = 1024  # inputs of a layer that a report looks for clipping on


@dataclass(frozen=True, kw_only=True)
class LayerError:
    """How far one layer of a chip is from the digital quantised network.

    Attributes
    ----------
    layer
        Its name.
    own
        Root mean square error that the layer adds, given the chip's own inputs, over the root mean square of its
        digital output.
    total
        The same for everything up to and including this layer: the chip's output against the digital network's.
    clipped
        Share of conversions beyond the converters' codes, on inputs sampled from these samples; ``None`` without
        converters.
    current_loss
        Share of the layer's current that wires and broken lines cost, all rows driven with one voltage: the mean over
        its tiles. ``None`` where there are neither.
    clipped_inputs
        Share of the chip's inputs that lie beyond the range of the calibration.
    quantisation
        As `total`, of the digital network's output against that of the network in floating point: what quantisation and
        clipping cost before any die. ``None`` where it is not known.
    float_total
        As `total`, of the chip's output against that of the network in floating point.
    activity
        Share of the chip's inputs that are not 0, on the inputs that `clipped` is of; see
        :meth:`xbarsim.Chip.activity` for all of them.
    parts
        As `total`, for each named block of outputs, such as the gates of a recurrent layer.
    """

    layer: str
    own: float
    total: float
    clipped: float | None = None
    current_loss: float | None = None
    clipped_inputs: float | None = None
    quantisation: float | None = None
    float_total: float | None = None
    activity: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check_fields(self)


class ClippingWarning(UserWarning):
    """More than a stated share of what is converted or driven is clipped; the message says where."""


@dataclass(frozen=True)
class ErrorReport:
    """Where accuracy is lost: each layer of a chip against the digital quantised network.

    Attributes
    ----------
    layers
        In the order in which they run.
    images
        How many images were run.
    tiles
        Current that wires and broken lines cost, tile by tile; empty where there are neither.
    notes
        What a user should know of the die.
    """

    layers: tuple[LayerError, ...]
    images: int
    tiles: tuple[TileLoss, ...] = ()
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer."""
        return [asdict(error) for error in self.layers]

    def __str__(self) -> str:
        def share(value: float | None) -> str:
            return "-" if value is None else f"{value:.2%}"

        def error(value: float | None) -> str:
            return "-" if value is None else f"{value:.4f}"

        head: tuple[str, ...] = (
            "layer",
            "own error",
            "error so far",
            "quantisation",
            "against float",
            "reads clipped",
            "inputs clipped",
            "inputs not 0",
        )
        rows: list[tuple[str, ...]] = []
        for e in self.layers:
            errors = (error(e.own), error(e.total), error(e.quantisation), error(e.float_total))
            rows.append((e.layer or "(model)", *errors, share(e.clipped), share(e.clipped_inputs), share(e.activity)))
        if self.tiles:
            head = (*head, "current lost", "tile losing most", "loses")
            for index, e in enumerate(self.layers):
                here = [tile for tile in self.tiles if tile.layer == e.layer]
                worst = max(here, key=lambda tile: tile.mean, default=None)
                which = ("-", "-") if worst is None else (str(worst.tile), share(worst.mean))
                rows[index] += (share(e.current_loss), *which)
        notes = [
            f"(errors: root mean square; own and so far against the digital output, and relative to it; quantisation "
            f"and against float: of the digital network's and of the chip's output against that in floating point; "
            f"{self.images} images)"
        ]
        if self.tiles:
            notes.append("(current lost: to wires and broken lines, with one voltage on all rows of a tile)")
        for e in self.layers:
            if e.parts:
                notes.append(f"{e.layer}, error so far: " + ", ".join(f"{k} {v:.4f}" for k, v in e.parts.items()))
        return "\n".join([format_table(head, rows), *notes, *(f"note: {note}" for note in self.notes)])


@dataclass
class _Sums:
    """Squares summed over batches, and what is kept until the chip has run the batch that the others ran."""

    own: float = 0.0
    own_signal: float = 0.0
    total: float = 0.0
    signal: float = 0.0
    quantisation: float = 0.0
    against_float: float = 0.0
    float_signal: float = 0.0
    clipped: int = 0
    inputs_seen: int = 0
    floating: list[npt.NDArray[np.float64]] = field(default_factory=list)
    digital: list[npt.NDArray[np.float64]] = field(default_factory=list)
    inputs: list[npt.NDArray[np.int32]] = field(default_factory=list)
    parts: npt.NDArray[np.float64] | None = None

    def add_parts(self, names: tuple[str, ...], answer: Any, expected: Any) -> None:
        """Squares of errors and outputs of each block."""
        if not names:
            return
        blocks = [each.reshape(-1, len(names), each.shape[-1] // len(names)) for each in (answer - expected, expected)]
        squares = np.stack([(block**2).sum(axis=(0, 2)) for block in blocks])
        self.parts = squares if self.parts is None else self.parts + squares


def _run_all(
    network: PlacedNetwork,
    run: Callable[[Samples, int, Watch], Any],
    samples: Samples,
    batch_size: int,
) -> dict[str, _Sums]:
    """Run the network in floating point, quantised and on the chip, batch by batch, and compare layer by layer."""
    sums = {name: _Sums() for name in network.layers}
    alone = {name: DigitalLayer(mapped.layer) for name, mapped in network.layers.items()}

    def keep(which: str) -> Watch:
        def watch(name: str, inputs: Any, outputs: Any) -> None:
            if name in sums:
                getattr(sums[name], which).append(outputs.astype(np.float64))

        return watch

    def compare(name: str, inputs: Any, outputs: Any) -> None:
        if name not in sums:
            return
        entry, layer = sums[name], network.layers[name].layer
        answer, expected = outputs.astype(np.float64), entry.digital.pop(0)
        own = alone[name](inputs).astype(np.float64)
        _sample_inputs(entry, layer, inputs)
        entry.own += float(((answer - own) ** 2).sum())
        entry.own_signal += float((own**2).sum())
        entry.total += float(((answer - expected) ** 2).sum())
        entry.signal += float((expected**2).sum())
        entry.add_parts(layer.output_names, answer, expected)
        if entry.floating:
            floating = entry.floating.pop(0)
            entry.quantisation += float(((expected - floating) ** 2).sum())
            entry.against_float += float(((answer - floating) ** 2).sum())
            entry.float_signal += float((floating**2).sum())

    for start in range(0, len(samples), batch_size):
        part = samples.part(start, start + batch_size)
        network.floating.run(part, watch=keep("floating"))
        network.digital.run(part, watch=keep("digital"))
        run(part, start, compare)
    return sums


def _sample_inputs(entry: _Sums, layer: QuantisedLayer, inputs: Any) -> None:
    maps = layer.as_maps(inputs)
    entry.clipped += layer.count_clipped(maps)
    entry.inputs_seen += maps.size
    if sum(map(len, entry.inputs)) < _CLIPPING_VECTORS:
        entry.inputs.append(sample_vectors(layer, layer.quantise(maps))[0])


def _relative(error: float, signal: float) -> float:
    return float(np.sqrt(error / signal)) if signal > 0 else float(np.sqrt(error))


def error_report(
    network: PlacedNetwork,
    layers: Mapping[str, DieLayer],
    samples: Samples,
    *,
    run: Callable[[Samples, int, Watch], Any],
    batch_size: int,
    clipping: float,
) -> ErrorReport:
    """Compare every layer of a chip with the digital quantised network, and with floating point.

    Parameters
    ----------
    network
        What the chip is a die of.
    layers
        The die's layers by name.
    samples
        What to run.
    run
        Runs the chip on a batch, given the number of its first sample and what to tell of its layers.
    batch_size
        Samples run at a time.
    clipping
        Share of conversions, and of inputs, that may be clipped without a warning.

    Warns
    -----
    ClippingWarning
        If some layers clip more, naming them.
    """
    sums = _run_all(network, run, samples, batch_size)
    tiles = tuple(loss for layer in layers.values() for loss in _losses(layer))
    errors = [
        LayerError(
            layer=name,
            own=_relative(entry.own, entry.own_signal),
            total=_relative(entry.total, entry.signal),
            clipped=_clipped(layers[name], entry.inputs),
            current_loss=_mean_loss(name, tiles),
            clipped_inputs=entry.clipped / entry.inputs_seen if entry.inputs_seen else None,
            activity=_active(entry.inputs),
            quantisation=_relative(entry.quantisation, entry.float_signal),
            float_total=_relative(entry.against_float, entry.float_signal),
            parts=_parts(network.layers[name].layer.output_names, entry),
        )
        for name, entry in sums.items()
    ]
    _warn_of_clipping(errors, clipping)
    return ErrorReport(tuple(errors), len(samples), tiles)


def _parts(names: tuple[str, ...], entry: _Sums) -> dict[str, float]:
    if entry.parts is None:
        return {}
    errors, signals = entry.parts
    return {name: _relative(float(e), float(s)) for name, e, s in zip(names, errors, signals, strict=True)}


def vectors_report(
    layer: DieLayer,
    codes: npt.NDArray[np.int32],
    answers: npt.NDArray[np.float64],
    expected: npt.NDArray[np.float64],
    *,
    clipping: float,
) -> ErrorReport:
    """Compare one layer of a die with its quantised matrix.

    Parameters
    ----------
    layer
        The die's layer.
    codes
        Input codes, shape ``(vectors, inputs)``.
    answers, expected
        What the die and what the matrix makes of them, shape ``(vectors, outputs)``.
    clipping
        Share of conversions that may be clipped without a warning.

    Warns
    -----
    ClippingWarning
        If the converters clip more.
    """
    own = _relative(float(((answers - expected) ** 2).sum()), float((expected**2).sum()))
    tiles = _losses(layer)
    error = LayerError(
        layer=layer.name,
        own=own,
        total=own,
        clipped=_clipped(layer, [codes]),
        activity=_active([codes]),
        current_loss=_mean_loss(layer.name, tiles),
    )
    _warn_of_clipping([error], clipping)
    return ErrorReport((error,), len(codes), tiles)


def clipped_inputs_message(shares: Mapping[str, float], limit: float) -> str:
    """What to say of layers, by name, of whose inputs larger shares than a limit are clipped."""
    layers = ", ".join(f"{name or '(model)'} ({share:.1%})" for name, share in shares.items())
    return (
        f"more than {100 * limit:g}% of the inputs lie beyond the calibrated range and are clipped in layers {layers}; "
        f"calibrate with samples like those that are run{see('reports')}"
    )


def _losses(layer: DieLayer) -> tuple[TileLoss, ...]:
    lossy = layer.design.wires is not None or layer.design.line_faults is not None
    return layer.current_losses() if lossy else ()


def _mean_loss(name: str, tiles: tuple[TileLoss, ...]) -> float | None:
    here = [loss.mean for loss in tiles if loss.layer == name]
    return float(np.mean(here)) if here else None


def _clipped(layer: DieLayer, inputs: list[npt.NDArray[np.int32]]) -> float | None:
    if layer.converter.step is None or not inputs:
        return None
    vectors = np.concatenate(inputs)[:_CLIPPING_VECTORS]
    return clipped_share(layer.reading, layer.drive, layer.converter, vectors, layer.seen()[0])


def _active(inputs: list[npt.NDArray[np.int32]]) -> float | None:
    """Share of sampled codes that are not 0."""
    vectors = np.concatenate(inputs)[:_CLIPPING_VECTORS] if inputs else np.zeros((0, 1))
    return float(np.count_nonzero(vectors)) / vectors.size if vectors.size else None


def _warn_of_clipping(errors: list[LayerError], clipping: float) -> None:
    shares = {e.layer: e.clipped_inputs for e in errors if e.clipped_inputs is not None and e.clipped_inputs > clipping}
    if shares:
        warnings.warn(clipped_inputs_message(shares, clipping), ClippingWarning, stacklevel=5)
    over = [f"{e.layer} ({e.clipped:.1%})" for e in errors if e.clipped is not None and e.clipped > clipping]
    if over:
        warnings.warn(
            f"converters clip more than {clipping:.1%} of what they read in layers {', '.join(over)}{see('reports')}",
            ClippingWarning,
            stacklevel=5,
        )
