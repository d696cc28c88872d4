"""Conformance tests for a mitigation of your own.

Examples
--------
>>> from xbarsim.mitigation import ClosestValue
>>> from xbarsim.testing.mitigation import check_mitigation
>>> check_mitigation(ClosestValue(), examples=3)
"""

from __future__ import annotations

import math
from typing import Any, get_args

import numpy as np

from xbarsim.devices import Cell, FaultKind, FaultMap, StuckFaults
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.mapping import ENCODINGS, Mapping, map_matrix
from xbarsim.mitigation import KnownTile, Mitigation, Needs, Overhead
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise

__all__ = ["check_mitigation"]

_CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=256)


@entrance
def check_mitigation(mitigation: Mitigation, *, examples: int = 100) -> None:
    """Check that a mitigation keeps the promises of :class:`xbarsim.mitigation.Mitigation`.

    It must be a frozen dataclass of plain values with an exact TOML round trip that states what it needs to know; for
    tiles of every encoding, with any faults, give levels of the cell, the same from the same generator, and leave alone
    unused cells and what it is given; change nothing, bit for bit, where nothing is broken; never make what it
    minimises larger; state its overhead, with the number of cells that it programmes to another level; and leave a
    fault map of the same shape, without new faults, in the layers that it protects.

    Parameters
    ----------
    mitigation
        The mitigation, with the parameters it shall be tested with.
    examples
        Tiles to try.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    check_instance("mitigation", mitigation, Mitigation)
    check_integer("examples", examples, at_least=1)
    st = load_hypothesis().strategies

    check_value(mitigation, Mitigation)
    needs = getattr(mitigation, "needs", None)
    promise(needs in get_args(Needs), f"needs must be one of {', '.join(get_args(Needs))}", f"it is {needs!r}")

    def tries(encoding: str, weight_bits: int, cell_bits: int, rate: float, analog: bool, seed: int) -> None:
        rng = np.random.default_rng(seed)
        tile, faults = _tile(encoding, weight_bits, cell_bits, rate, analog, mitigation, rng)
        _check_tile(mitigation, tile, broken=bool(len(faults)), seed=seed)
        left = call("surviving_faults", mitigation.surviving_faults, "layer", faults)
        promise(isinstance(left, FaultMap), "surviving_faults must give a FaultMap", f"it gave {type(left).__name__}")
        promise(
            left.shape == faults.shape, "surviving_faults must keep the shape", f"{faults.shape} became {left.shape}"
        )
        difference = faults.difference(left)
        promise(
            not difference.added.size and not difference.changed.size,
            "surviving_faults must break no other cell, and none in another way",
            f"{difference.added.size} cells are broken that were not, {difference.changed.size} otherwise",
        )

    for_all(
        tries,
        examples,
        encoding=st.sampled_from(sorted(ENCODINGS)),
        weight_bits=st.integers(2, 6),
        cell_bits=st.integers(1, 4),
        rate=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
        analog=st.booleans(),
        seed=st.integers(0, 2**32 - 1),
    )


def _tile(
    encoding: str,
    weight_bits: int,
    cell_bits: int,
    rate: float,
    analog: bool,
    mitigation: Mitigation,
    rng: np.random.Generator,
) -> tuple[KnownTile, FaultMap]:
    """A tile with unused rows and columns, and its faults."""
    kind = ENCODINGS[encoding]()
    wanted = kind.slice_count(weight_bits, cell_bits) * kind.sides
    mapping = Mapping(
        encoding=kind,
        rows=6,
        columns=3 * wanted + 1 + kind.has_reference,
        weight_bits=weight_bits,
        cell_bits=cell_bits,
        pack="none",
    )
    largest = mapping.max_weight
    matrix = map_matrix(rng.integers(-largest, largest, (5, 2), endpoint=True), mapping)
    model = StuckFaults(on=rate / 2, off=rate / 2)
    faults = model.sample(matrix.levels.shape, rng)
    if analog:  # stuck anywhere, also where no level is
        stuck = rng.uniform(0.0, 1.5 * _CELL.g_max, matrix.levels.shape)
        faults = FaultMap.from_dense(np.where(faults.dense() > 0, int(FaultKind.STUCK_AT), 0), stuck)
    tile = KnownTile.of(
        matrix,
        0,
        cell=_CELL,
        faults=faults if mitigation.needs == "map" else None,
        rates=model.rates if mitigation.needs in ("map", "rates") else None,
        input_power=rng.uniform(0.1, 1.0, 5),
        weight_scale=rng.uniform(0.5, 2.0, 2),
    )
    return tile, faults


def _check_tile(mitigation: Mitigation, tile: KnownTile, *, broken: bool, seed: int) -> None:
    mapping, before = tile.matrix.mapping, tile.levels.copy()

    def fitted() -> Any:
        return call("fit", mitigation.fit, tile, np.random.default_rng(seed))

    levels = fitted()
    promise(
        isinstance(levels, np.ndarray) and levels.dtype == np.uint8 and levels.shape == before.shape,
        "fit must give uint8 levels of the shape of the tile",
        f"it gave {getattr(levels, 'dtype', type(levels))} of shape {np.shape(levels)} for {before.shape}",
    )
    where = f"with {type(mapping.encoding).__name__}, {mapping.weight_bits} weight bits, {mapping.cell_bits} cell bits"
    promise(np.array_equal(tile.levels, before), "fit must leave the tile as it is", f"it changed its levels {where}")
    promise(
        int(levels.max()) <= mapping.max_level,
        "levels must be in the cell's range",
        f"{int(levels.max())} > {mapping.max_level} {where}",
    )
    again = fitted()
    promise(np.array_equal(levels, again), "the same generator must give the same levels", f"two calls differ {where}")
    unused = ~tile.matrix.used[0]
    promise(
        np.array_equal(levels[unused], before[unused]), "unused cells must be left alone", f"some are changed {where}"
    )
    if not broken:
        promise(
            np.array_equal(levels, before),
            "a tile without faults must stay as it is, bit for bit",
            f"{int((levels != before).sum())} cells are changed {where}",
        )
    errors = [call("error", mitigation.error, tile, each) for each in (before, levels)]
    promise(
        all(isinstance(error, float) and math.isfinite(error) for error in errors),
        "error must be a finite number",
        f"it is {errors} {where}",
    )
    promise(
        errors[1] <= errors[0] * (1 + 1e-12),
        "what the method minimises must never grow",
        f"{errors[0]} became {errors[1]} {where}",
    )
    overhead = call("overhead", mitigation.overhead, tile, levels)
    promise(isinstance(overhead, Overhead), "overhead must give an Overhead", f"it gave {type(overhead).__name__}")
    rewritten = int((levels != tile.matrix.levels[0]).sum())
    promise(
        overhead.reprogrammed_cells == rewritten,
        "the overhead must count the cells that are programmed to another level",
        f"{overhead.reprogrammed_cells} instead of {rewritten} {where}",
    )
