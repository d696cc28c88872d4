"""Mitigations at work on one layer of a die, and the table of what they did."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.design import Design
from xbarsim.die import Purpose, Silicon, generator
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import MappedMatrix
from xbarsim.mitigation.base import FloatArray, KnownTile, LevelArray, Mitigation, Overhead
from xbarsim.mitigation.diagnosis import Diagnosis

__all__ = ["MitigationTable", "TileMitigation", "check_mitigations", "mitigate"]


@dataclass(frozen=True, kw_only=True)
class TileMitigation:
    """What one method did to one tile.

    Attributes
    ----------
    layer, tile
        Which tile.
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

    def to_rows(self) -> list[dict[str, Any]]:
        """One dictionary for each method and tile."""
        return [{**asdict(tile), **asdict(tile.overhead), "overhead": None} for tile in self.tiles]

    def __str__(self) -> str:
        if not self.tiles:
            return "no mitigation"

        def relative(error: float, signal: float) -> str:
            return f"{np.sqrt(error / signal) if signal else np.sqrt(error):.4f}"

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
                    f"{overhead.reads_per_vector:g}",
                    f"{overhead.digital_operations_per_vector:g}",
                )
            )
        head = (
            *("layer", "method", "needs", "tiles", "error before", "error after"),
            *("cells rewritten", "bits stored", "reads added", "operations added"),
        )
        note = "(errors: what stuck cells add to the outputs, root mean square, relative to the outputs)"
        return f"{format_table(head, rows, left=3)}\n{note}"


@entrance
def check_mitigations(mitigations: Sequence[Mitigation], diagnosis: Diagnosis | None) -> tuple[Mitigation, ...]:
    """The methods as a tuple.

    Raises
    ------
    InputError
        If they are not a sequence of mitigations, or one needs a map and there is no diagnosis that gives one.
    """
    check_instance("mitigations", mitigations, (tuple, list))
    for number, method in enumerate(mitigations):
        check_instance(f"mitigations[{number}]", method, Mitigation)
        if method.needs == "map" and diagnosis is None:
            raise InputError(
                f"diagnosis must be given for {type(method).__name__}, which needs a map of the faults, got None"
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
) -> tuple[Silicon, LevelArray | None, tuple[TileMitigation, ...]]:
    """Let mitigations work on one layer of a die, one after another, before it is programmed.

    Parameters
    ----------
    layer, index
        Name and number of the layer.
    matrix
        Its weights in cells.
    silicon
        What is broken.
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

    Returns
    -------
    Silicon
        What is broken in the layer as the methods want it built.
    ndarray or None
        The levels to programme, uint8 of shape ``(tiles, rows, columns)``; ``None`` for those of the matrix.
    tuple of TileMitigation
        What was done.
    """
    if not mitigations:
        return silicon, None, ()
    for method in mitigations:
        silicon = replace(silicon, faults=method.surviving_faults(layer, silicon.faults))
    known = None
    if diagnosis is not None:
        known = diagnosis.known(silicon.faults, generator(seed, index, Purpose.DIAGNOSIS))
    rates = None if design.faults is None else design.faults.rates
    levels: npt.NDArray[np.uint8] = matrix.levels.copy()
    rows = []
    for number, method in enumerate(mitigations):
        for tile in range(matrix.tiles):
            told = {
                "faults": known if method.needs == "map" else None,
                "rates": rates if method.needs in ("map", "rates") else None,
            }
            known_tile, true_tile = (
                KnownTile.of(
                    matrix,
                    tile,
                    cell=design.cell,
                    levels=levels[tile].copy(),
                    input_power=input_power,
                    weight_scale=weight_scale,
                    **facts,
                )
                for facts in (told, {"faults": silicon.faults})
            )
            fitted = method.fit(known_tile, generator(seed, index, Purpose.MITIGATION, number, tile))
            rows.append(
                TileMitigation(
                    layer=layer,
                    tile=tile,
                    method=type(method).__name__,
                    needs=method.needs,
                    before=true_tile.error(levels[tile]),
                    after=true_tile.error(fitted),
                    signal=true_tile.signal,
                    overhead=method.overhead(known_tile, fitted),
                )
            )
            levels[tile] = fitted
    return silicon, levels, tuple(rows)
