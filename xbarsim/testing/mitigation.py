"""Conformance tests for a mitigation of your own.

Examples
--------
>>> from xbarsim.mitigation import ClosestValue
>>> from xbarsim.testing.mitigation import check_mitigation
>>> check_mitigation(ClosestValue(), examples=3)
"""

from __future__ import annotations

from typing import Any, get_args

import numpy as np

from xbarsim.devices import Cell, FaultKind, FaultMap, StuckFaults
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.mapping import ENCODINGS, Mapping, map_matrix
from xbarsim.mitigation import KnownLayer, KnownTile, Mitigation, Needs, Overhead, TileFit
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise

__all__ = ["check_mitigation"]

_CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=256)
_MOST_SLICES = 6


@entrance
def check_mitigation(mitigation: Mitigation, *, examples: int = 100) -> None:
    """Check that a mitigation keeps the promises of :class:`xbarsim.mitigation.Mitigation`.

    It must be a frozen dataclass of plain values with an exact TOML round trip that states what it needs to know; for
    tiles of every encoding, with any faults and with spare lines, give levels of the cell and lines of the array, the
    same from the same generator, and leave alone unused cells and what it is given; change nothing, bit for bit, where
    nothing is broken; never make the error of the outputs larger, by what it knows; state its overhead, with the number
    of cells that it programmes to another level; and leave a fault map of the same shape, without new faults, in the
    layers that it protects.

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
        if ENCODINGS[encoding]().slice_count(weight_bits, cell_bits) > _MOST_SLICES:
            return  # methods may refuse to try all orders of so many
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
    arrays = (matrix.tiles, mapping.rows + 2, mapping.columns + wanted + 1)  # with spare lines
    faults = model.sample(arrays, rng)
    if analog:  # stuck anywhere, also where no level is
        stuck = rng.uniform(0.0, 1.5 * _CELL.g_max, arrays)
        faults = FaultMap.from_dense(np.where(faults.dense() > 0, int(FaultKind.STUCK_AT), 0), stuck)
    layer = KnownLayer.of(
        matrix,
        cell=_CELL,
        faults=faults if mitigation.needs == "map" else None,
        rates=model.rates if mitigation.needs in ("map", "rates") else None,
        input_power=rng.uniform(0.1, 1.0, 5),
        weight_scale=rng.uniform(0.5, 2.0, 2),
        spare_rows=2,
        spare_columns=wanted + 1,
    )
    return layer.tile(0), faults


def _check_tile(mitigation: Mitigation, tile: KnownTile, *, broken: bool, seed: int) -> None:
    mapping, before = tile.mapping, tile.fit
    kept = before.levels.copy()

    def fitted() -> Any:
        return call("fit", mitigation.fit, tile, np.random.default_rng(seed))

    fit = fitted()
    where = f"with {type(mapping.encoding).__name__}, {mapping.weight_bits} weight bits, {mapping.cell_bits} cell bits"
    promise(isinstance(fit, TileFit), "fit must give a TileFit", f"it gave {type(fit).__name__}")
    levels = fit.levels
    promise(
        levels.dtype == np.uint8 and levels.shape == kept.shape,
        "fit must give uint8 levels of the shape of the tile",
        f"it gave {levels.dtype} of shape {np.shape(levels)} for {kept.shape}",
    )
    promise(np.array_equal(tile.levels, kept), "fit must leave the tile as it is", f"it changed its levels {where}")
    promise(
        int(levels.max()) <= mapping.max_level,
        "levels must be in the cell's range",
        f"{int(levels.max())} > {mapping.max_level} {where}",
    )
    _check_lines(tile, fit, where)
    promise(_alike(fit, fitted()), "the same generator must give the same fit", f"two calls differ {where}")
    unused = ~tile.used
    promise(
        np.array_equal(levels[unused], kept[unused]), "unused cells must be left alone", f"some are changed {where}"
    )
    if not broken:
        promise(_alike(fit, before), "a tile without faults must stay as it is, bit for bit", f"it does not {where}")
    errors = [tile.error(each) for each in (before, fit)]
    promise(
        errors[1] <= errors[0] * (1 + 1e-12),
        "the error of the outputs, by what is known, must never grow",
        f"{errors[0]} became {errors[1]} {where}",
    )
    overhead = call("overhead", mitigation.overhead, tile, fit)
    promise(isinstance(overhead, Overhead), "overhead must give an Overhead", f"it gave {type(overhead).__name__}")
    rewritten = int((levels != kept).sum())
    promise(
        overhead.reprogrammed_cells == rewritten,
        "the overhead must count the cells that are programmed to another level",
        f"{overhead.reprogrammed_cells} instead of {rewritten} {where}",
    )


def _check_lines(tile: KnownTile, fit: TileFit, where: str) -> None:
    """Every row and column lies on a line of its own, and pairs stay pairs."""
    _, rows, columns = _arrays(tile)
    for name, lines, size in (("rows", fit.rows, rows), ("columns", fit.columns, columns)):
        promise(
            len(np.unique(lines)) == len(lines) and (len(lines) == 0 or 0 <= lines.min() <= lines.max() < size),
            f"{name} must each lie on one line of the array",
            f"{lines.tolist()} of {size} {where}",
        )
    if tile.mapping.sides == 2:
        pairs = fit.columns[: len(fit.columns) // 2 * 2].reshape(-1, 2) // 2
        promise(
            bool((pairs[:, 0] == pairs[:, 1]).all()), "the columns of a pair must stay a pair", f"{fit.columns} {where}"
        )


def _arrays(tile: KnownTile) -> tuple[int, int, int]:
    stuck = tile.layer.stuck_at
    if stuck is not None:
        arrays, rows, columns = stuck.shape
        return arrays, rows, columns
    rows, columns = tile.levels.shape
    return tile.layer.matrix.tiles, rows, columns


def _alike(fit: TileFit, other: TileFit) -> bool:
    """Whether two fits decide the same."""
    corrections = [
        () if each.correction is None else (each.correction.rows, each.correction.outputs, each.correction.values)
        for each in (fit, other)
    ]
    return (
        fit.array == other.array
        and all(np.array_equal(getattr(fit, name), getattr(other, name)) for name in ("levels", "rows", "columns"))
        and len(corrections[0]) == len(corrections[1])
        and all(np.array_equal(one, two) for one, two in zip(*corrections, strict=True))
    )
