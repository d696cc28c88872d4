"""Where accuracy is lost: each layer of a chip against the digital quantised network."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.die import DieLayer, TileLoss
from xbarsim.engine import clipped_share
from xbarsim.foundation.tables import format_table
from xbarsim.network.calibrate import sample_vectors
from xbarsim.network.layers import CrossbarLayer, DigitalLayer

__all__ = ["ClippingWarning", "ErrorReport", "LayerError", "error_report", "vectors_report"]

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
        Share of conversions beyond the converters' codes, on inputs sampled from these images; ``None`` without
        converters.
    current_loss
        Share of the layer's current that wires and broken lines cost, all rows driven with one voltage: the mean over
        its tiles. ``None`` where there are neither.
    """

    layer: str
    own: float
    total: float
    clipped: float | None = None
    current_loss: float | None = None


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
    """

    layers: tuple[LayerError, ...]
    images: int
    tiles: tuple[TileLoss, ...] = ()

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary a layer."""
        return [asdict(error) for error in self.layers]

    def __str__(self) -> str:
        def share(value: float | None) -> str:
            return "-" if value is None else f"{value:.2%}"

        head: tuple[str, ...] = ("layer", "own error", "error so far", "reads clipped")
        rows: list[tuple[str, ...]] = [
            (e.layer, f"{e.own:.4f}", f"{e.total:.4f}", share(e.clipped)) for e in self.layers
        ]
        note = f"(errors: root mean square, relative to the digital output; {self.images} images)"
        if not self.tiles:
            return f"{format_table(head, rows)}\n{note}"
        head = (*head, "current lost", "tile losing most", "loses")
        for index, error in enumerate(self.layers):
            here = [tile for tile in self.tiles if tile.layer == error.layer]
            worst = max(here, key=lambda tile: tile.mean, default=None)
            which = ("-", "-") if worst is None else (str(worst.tile), share(worst.mean))
            rows[index] += (share(error.current_loss), *which)
        lost = "(current lost: to wires and broken lines, with one voltage on all rows of a tile)"
        return f"{format_table(head, rows)}\n{note}\n{lost}"


@dataclass
class _Sums:
    """Squares summed over batches, and what is kept until the chip has run the batch that the digital network ran."""

    own: float = 0.0
    own_signal: float = 0.0
    total: float = 0.0
    signal: float = 0.0
    digital: list[npt.NDArray[np.float64]] = field(default_factory=list)
    inputs: list[npt.NDArray[np.int32]] = field(default_factory=list)


def _run_both(
    digital: nn.Module,
    crossbars: nn.Module,
    run: Callable[[Tensor, int], Any],
    names: list[str],
    images: Tensor,
    batch_size: int,
) -> dict[str, _Sums]:
    sums = {name: _Sums() for name in names}
    digital_layers = {m.layer.name: m for m in digital.modules() if isinstance(m, DigitalLayer)}

    def keep(module: Any, arguments: Any, output: Tensor) -> None:
        sums[module.layer.name].digital.append(output.numpy().astype(np.float64))

    def compare(module: Any, arguments: Any, output: Tensor) -> None:
        entry = sums[module.layer.name]
        chip_output, expected = output.numpy().astype(np.float64), entry.digital.pop(0)
        alone = digital_layers[module.layer.name].forward(arguments[0]).numpy().astype(np.float64)
        if sum(map(len, entry.inputs)) < _CLIPPING_VECTORS:
            layer = module.layer
            entry.inputs.append(sample_vectors(layer, layer.quantise(layer.as_maps(arguments[0])))[0])
        entry.own += float(((chip_output - alone) ** 2).sum())
        entry.own_signal += float((alone**2).sum())
        entry.total += float(((chip_output - expected) ** 2).sum())
        entry.signal += float((expected**2).sum())

    handles = [m.register_forward_hook(keep) for m in digital_layers.values()]
    handles += [m.register_forward_hook(compare) for m in crossbars.modules() if isinstance(m, CrossbarLayer)]
    try:
        with torch.no_grad():
            for start in range(0, len(images), batch_size):
                digital(images[start : start + batch_size])
                run(images[start : start + batch_size], start)
    finally:
        for handle in handles:
            handle.remove()
    return sums


def _relative(error: float, signal: float) -> float:
    return float(np.sqrt(error / signal)) if signal > 0 else float(np.sqrt(error))


def error_report(
    digital: nn.Module,
    crossbars: nn.Module,
    layers: Mapping[str, DieLayer],
    images: Tensor,
    *,
    run: Callable[[Tensor, int], Any],
    batch_size: int,
    clipping: float,
) -> ErrorReport:
    """Compare every layer of a chip with the digital quantised network.

    Parameters
    ----------
    digital
        The digital network.
    crossbars
        The same network with the chip's layers.
    layers
        The die's layers by name.
    images
        What to run.
    run
        Runs the chip on a batch, given the number of its first image.
    batch_size
        Images run at a time.
    clipping
        Share of conversions that may be clipped without a warning.

    Warns
    -----
    ClippingWarning
        If the converters of some layers clip more, naming them.
    """
    sums = _run_both(digital, crossbars, run, list(layers), images, batch_size)
    tiles = tuple(loss for layer in layers.values() for loss in _losses(layer))
    errors = [
        LayerError(
            layer=name,
            own=_relative(entry.own, entry.own_signal),
            total=_relative(entry.total, entry.signal),
            clipped=_clipped(layers[name], entry.inputs),
            current_loss=_mean_loss(name, tiles),
        )
        for name, entry in sums.items()
    ]
    _warn_of_clipping(errors, clipping)
    return ErrorReport(tuple(errors), len(images), tiles)


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
        current_loss=_mean_loss(layer.name, tiles),
    )
    _warn_of_clipping([error], clipping)
    return ErrorReport((error,), len(codes), tiles)


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


def _warn_of_clipping(errors: list[LayerError], clipping: float) -> None:
    over = [f"{e.layer} ({e.clipped:.1%})" for e in errors if e.clipped is not None and e.clipped > clipping]
    if over:
        warnings.warn(
            f"converters clip more than {clipping:.1%} of what they read in layers {', '.join(over)}",
            ClippingWarning,
            stacklevel=4,
        )
