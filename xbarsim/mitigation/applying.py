"""Mitigations at work on one layer of a die, and the table of what they did."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, get_args

import numpy as np

from xbarsim.design import Design
from xbarsim.die import Purpose, Silicon, WeightCorrection, generator
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import Arrangement, MappedMatrix
from xbarsim.mitigation.base import Mitigation, Needs, Overhead
from xbarsim.mitigation.diagnosis import Diagnosis
from xbarsim.mitigation.known import FloatArray, KnownLayer, LevelArray, stuck_levels

__all__ = ["MitigatedLayer", "MitigationTable", "TileMitigation", "check_mitigations", "mitigate"]


@dataclass(frozen=True, kw_only=True)
class TileMitigation:
    """What one method did to one tile.

    Attributes
    ----------
    layer, tile
        Which tile; of copies, the first.
    method, needs
        Name of the method, and what it had to know.
    before, after
        Power of the error of the tile's outputs that its stuck cells cause, before and after: by the faults that are
        there, not only by those that were known. In units of `signal`.
    signal
        Power of the tile's outputs.
    overhead
        What it costs.
    """

    layer: str
    tile: int
    method: str
    needs: str
    before: float
    after: float
    signal: float
    overhead: Overhead

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True)
class MitigationTable:
    """What mitigations did on a die, method by method and tile by tile.

    Attributes
    ----------
    tiles
        In the order of the layers, then of the methods.
    """

    tiles: tuple[TileMitigation, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def overhead(self) -> Overhead:
        """All that the methods cost."""
        return sum((tile.overhead for tile in self.tiles), Overhead())

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary for each method and tile."""
        return [{**asdict(tile), **asdict(tile.overhead), "overhead": None} for tile in self.tiles]

    def noise_to_signal(self) -> dict[str, float]:
        """What stuck cells still add to the outputs of each layer, as power over that of the outputs."""
        last: dict[tuple[str, int], TileMitigation] = {(tile.layer, tile.tile): tile for tile in self.tiles}
        sums: dict[str, list[float]] = {}
        for (layer, _), tile in last.items():
            entry = sums.setdefault(layer, [0.0, 0.0])
            entry[0] += tile.after
            entry[1] += tile.signal
        return {layer: error / signal if signal else 0.0 for layer, (error, signal) in sums.items()}

    def __str__(self) -> str:
        if not self.tiles:
            return "no mitigation"

        def relative(error: float, signal: float) -> str:
            return f"{error / signal if signal else error:.5f}"

        groups: dict[tuple[str, str, str], list[TileMitigation]] = {}
        for tile in self.tiles:
            groups.setdefault((tile.layer, tile.method, tile.needs), []).append(tile)
        rows = []
        for (layer, method, needs), tiles in groups.items():
            signal = sum(tile.signal for tile in tiles)
            overhead = sum((tile.overhead for tile in tiles), Overhead())
            rows.append(
                (
                    layer,
                    method,
                    needs,
                    len(tiles),
                    relative(sum(tile.before for tile in tiles), signal),
                    relative(sum(tile.after for tile in tiles), signal),
                    overhead.reprogrammed_cells,
                    overhead.configuration_bits,
                    f"{overhead.digital_operations_per_vector:g}",
                )
            )
        head = (
            *("layer", "method", "needs", "tiles", "NSR before", "NSR after"),
            *("cells rewritten", "bits stored", "operations added"),
        )
        note = "(NSR: what stuck cells add to the outputs over the outputs themselves, both as power)"
        return f"{format_table(head, rows, left=3)}\n{note}"


@dataclass(frozen=True, kw_only=True, eq=False)
class MitigatedLayer:
    """One layer of a die after mitigations worked on it.

    Attributes
    ----------
    silicon
        What is broken in the layer as the methods want it built.
    levels
        The levels to programme, in the order of the tiles, uint8 of shape ``(tiles, rows, columns)``; ``None`` for
        those of the matrix.
    arrangement
        Where the tiles lie in the arrays; ``None`` where every line is in its own place.
    correction
        What is added digitally, or ``None``.
    copy_weights
        What each copy counts in each output, shape ``(copies, outputs of a copy)``; ``None`` where all count alike.
    done
        What was done.
    """

    silicon: Silicon
    levels: LevelArray | None = None
    arrangement: Arrangement | None = None
    correction: WeightCorrection | None = None
    copy_weights: FloatArray | None = None
    done: tuple[TileMitigation, ...] = ()

    def __post_init__(self) -> None:
        check_fields(self)


@entrance
def check_mitigations(mitigations: Sequence[Mitigation], diagnosis: Diagnosis | None) -> tuple[Mitigation, ...]:
    """The methods as a tuple.

    Raises
    ------
    InputError
        If they are not a sequence of mitigations, one does not say what it needs or would undo what stands before it,
        or one needs a map and there is no diagnosis that gives one.
    """
    check_instance("mitigations", mitigations, (tuple, list))
    for number, method in enumerate(mitigations):
        check_instance(f"mitigations[{number}]", method, Mitigation)
        if getattr(method, "needs", None) not in get_args(Needs):
            needs = ", ".join(get_args(Needs))
            raise InputError(
                f"mitigations[{number}] must say what it needs ({needs}), {type(method).__name__} does not"
            )
        if method.needs == "map" and diagnosis is None:
            raise InputError(
                f"diagnosis must be given for {type(method).__name__}, which needs a map of the faults, got None"
            )
    staged = [(method.stage, method) for method in mitigations if method.stage is not None]
    for (first, before), (second, after) in itertools.pairwise(staged):
        if first > second:
            raise InputError(
                f"mitigations must stand in the order of their stages, got {type(after).__name__} after "
                f"{type(before).__name__}, which it would undo"
            )
    check_instance("diagnosis", diagnosis, (Diagnosis, type(None)))
    return tuple(mitigations)


@entrance
def mitigate(
    layer: str,
    matrix: MappedMatrix,
    silicon: Silicon,
    design: Design,
    mitigations: Sequence[Mitigation],
    diagnosis: Diagnosis | None,
    *,
    seed: int,
    index: int,
    input_power: FloatArray | None = None,
    weight_scale: FloatArray | None = None,
    copies: int = 1,
) -> MitigatedLayer:
    """Let mitigations work on one layer of a die, one after another, before it is programmed.

    Parameters
    ----------
    layer, index
        Name and number of the layer.
    matrix
        Its weights in cells.
    silicon
        What is broken in its arrays, spare lines included.
    design
        The accelerator.
    mitigations
        The methods, in their order.
    diagnosis
        What is found out about the faults; ``None`` for nothing.
    seed
        Root seed of the die.
    input_power
        Mean square of each input, shape ``(inputs,)``; ``None`` where it is not known.
    weight_scale
        Weight of one code, shape ``(outputs,)``.
    copies
        How often the matrix holds each weight.
    """
    for method in mitigations:
        silicon = replace(silicon, faults=method.surviving_faults(layer, silicon.faults))
    shape = silicon.faults.shape
    spare_rows, spare_columns = shape[1] - matrix.mapping.rows, shape[2] - matrix.mapping.columns
    if not mitigations:
        return MitigatedLayer(silicon=silicon)
    broken = silicon.broken_cells
    known = None
    if diagnosis is not None and any(method.needs == "map" for method in mitigations):
        found = diagnosis.known(broken, generator(seed, index, Purpose.DIAGNOSIS))
        known = stuck_levels(found, design.cell, design.mapping.cell_bits)
    rates = None if design.faults is None else design.faults.rates
    truth = KnownLayer.of(
        matrix,
        cell=design.cell,
        name=layer,
        faults=broken,
        input_power=input_power,
        weight_scale=weight_scale,
        copies=copies,
        spare_rows=spare_rows,
        spare_columns=spare_columns,
    )
    start = truth.fits
    signals, before = truth.signals(), truth.errors()
    rows = []
    for number, method in enumerate(mitigations):
        told = replace(
            truth,
            stuck_at=known if method.needs == "map" else None,
            rates=rates if method.needs in ("map", "rates") else None,
        )
        tiles = matrix.tiles
        generators = _Generators(seed, index, number, tiles)
        truth = truth.with_fits(method.fit_layer(told, generators))
        weights = method.copy_weights(told.with_fits(truth.fits))
        if weights is not None:
            truth = replace(truth, copy_weights=weights)
        after = before if truth.fits == told.fits and weights is None else truth.errors()
        costs = [method.overhead(told.tile(tile), fit) for tile, fit in enumerate(truth.fits)]
        alone = tiles // copies
        for tile in range(alone):
            rows.append(
                TileMitigation(
                    layer=layer,
                    tile=tile,
                    method=type(method).__name__,
                    needs=method.needs,
                    before=float(before[tile]),
                    after=float(after[tile]),
                    signal=float(signals[tile]),
                    overhead=sum((costs[tile + copy * alone] for copy in range(copies)), Overhead()),
                )
            )
        before = after
    elsewhere = any(_elsewhere(fit, old) for fit, old in zip(truth.fits, start, strict=True))
    return MitigatedLayer(
        silicon=silicon,
        levels=truth.levels,
        arrangement=truth.arrangement(shape) if elsewhere or spare_rows or spare_columns else None,
        correction=_correction(truth),
        copy_weights=truth.copy_weights,
        done=tuple(rows),
    )


class _Generators(Sequence[np.random.Generator]):
    """A generator for each tile, made when it is asked for: most methods ask for none."""

    def __init__(self, seed: int, index: int, number: int, tiles: int) -> None:
        self._key, self._tiles = (seed, index, number), tiles

    def __len__(self) -> int:
        return self._tiles

    def __getitem__(self, tile: Any) -> Any:
        if not 0 <= tile < self._tiles:
            raise IndexError(tile)
        seed, index, number = self._key
        return generator(seed, index, Purpose.MITIGATION, number, tile)


def _elsewhere(fit: Any, old: Any) -> bool:
    return (
        fit.array != old.array or not np.array_equal(fit.rows, old.rows) or not np.array_equal(fit.columns, old.columns)
    )


def _correction(layer: KnownLayer) -> WeightCorrection | None:
    """Corrections of all tiles, by the weights of the matrix."""
    inputs, outputs, values = [], [], []
    for tile, fit in enumerate(layer.fits):
        if fit.correction is not None:
            inputs.append(layer.matrix.tile_rows[tile][fit.correction.rows])
            outputs.append(layer.matrix.tile_outputs[tile][fit.correction.outputs])
            values.append(fit.correction.values)
    if not values:
        return None
    return WeightCorrection(
        inputs=np.concatenate(inputs), outputs=np.concatenate(outputs), values=np.concatenate(values)
    )
