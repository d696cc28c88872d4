"""The tiles of one die as a page to look around in: a single file that loads nothing.

The page holds the arrays themselves, in base64, and a script that draws what is chosen: by pointer or by keyboard, with
every cell said in words besides. A policy in the page allows its own script and nothing else.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_path, write_atomically
from xbarsim.foundation.version import VERSION
from xbarsim.plot.files import figure_bytes, take_literally
from xbarsim.plot.style import COLOURS, SHADES, STUCK
from xbarsim.plot.template import template
from xbarsim.plot.tiles import tile as draw_tile

if TYPE_CHECKING:
    from xbarsim.design import Design
    from xbarsim.die import DieLayer
    from xbarsim.network import Chip, Crossbar

__all__ = ["MOST_BYTES", "Tiles", "die_of", "tile_explorer", "tiles_of"]

MOST_BYTES = 2_000_000
"""The most bytes that the tiles of a die add to a page, if nothing else is said."""

_PICTURE_DPI = 72


@dataclass(frozen=True, kw_only=True)
class Tiles:
    """What a page needs to show the tiles of a die.

    Attributes
    ----------
    heading, notes
        What die it is, and what is shown of it.
    data
        The arrays, as JSON that is safe in an element of a page.
    picture, caption
        One tile as PNG in base64, for a browser without scripts.
    policy
        What the page may load and run: its own script.
    """

    heading: str
    notes: tuple[str, ...]
    data: str
    picture: str
    caption: str
    policy: str

    @property
    def script(self) -> str:
        """What draws the data."""
        return _script()


def _script() -> str:
    return (Path(__file__).parent / "templates" / "explorer.js").read_text("utf-8")


def _text(array: npt.NDArray[Any], kind: str) -> str:
    """An array in base64, of a type that is little end first."""
    return base64.b64encode(np.ascontiguousarray(array, dtype=kind).tobytes()).decode("ascii")


def _packed(levels: npt.NDArray[np.uint8], bits: int) -> str:
    """Levels, several of them a byte, the first in its lowest bits."""
    each = 8 // bits
    flat = np.zeros(-(-levels.size // each) * each, np.uint8)
    flat[: levels.size] = levels.ravel()
    parts = flat.reshape(-1, each) << (bits * np.arange(each, dtype=np.uint8))
    return _text(np.bitwise_or.reduce(parts.astype(np.uint8), axis=1), "u1")


def _bits(top: int) -> int:
    """Bits of a level in the page: a power of two."""
    return next(bits for bits in (1, 2, 4, 8) if top < 2**bits)


class _Layer:
    """The arrays of one layer of a die, made once, and each of its tiles as it stands in the page."""

    def __init__(self, layer: DieLayer) -> None:
        self.layer = layer
        design = layer.design
        self.bits = design.mapping.cell_bits
        self.cell = design.cell
        arrays = layer.array_cells()
        self.held = arrays if layer.arrangement is None else layer.arrangement.cells_of_tiles(arrays)
        self.through = layer.through_wires(arrays)
        self.read, errors = layer.seen(arrays)
        self.wired = not np.array_equal(self.through, self.held)
        self.errs = not np.array_equal(self.read, self.through)
        self.beyond_folding = errors.offset is not None or errors.weights is not None
        self.faults = layer.tile_faults
        size = self.held.shape[1] * self.held.shape[2]
        self.stuck = np.bincount(self.faults.index // size, minlength=layer.matrix.tiles)

    def order(self) -> list[int]:
        """Tiles, those with the most stuck cells first."""
        return [int(tile) for tile in np.argsort(-self.stuck, kind="stable")]

    def rounding(self, tile: int) -> float:
        """The step of the levels that a tile is given with, 0 where they are exact."""
        return self._step(tile) if self._dense(tile) else 0.0

    def _dense(self, tile: int) -> bool:
        off = np.count_nonzero(self.held[tile] != self.layer.targets[tile])
        return bool(8 * off > 2 * self.held[tile].size)

    def _step(self, tile: int) -> float:
        """A power of two, so that whole levels stay whole."""
        return float(2.0 ** np.ceil(np.log2(max(float(np.ptp(self.held[tile])), 1e-9) / 65534)))

    def written(self, tile: int) -> dict[str, Any]:
        """One tile as it stands in the page."""
        layer, target, held = self.layer, self.layer.targets[tile], self.held[tile]
        faults, matrix = self.faults.tile(tile), self.layer.matrix
        in_use = matrix.tile_rows[tile] >= 0
        found: dict[str, Any] = {
            "tile": tile,
            "count": len(faults.index),
            "target": _packed(target, _bits(self.cell.maximum_level(self.bits))),
            "stuck": _text(faults.index, "<u4"),
            "kinds": _text(faults.kind, "u1"),
            "inputs": _text(matrix.tile_rows[tile], "<i4"),
            "outputs": _text(matrix.tile_outputs[tile], "<i4"),
            "lines": self._lines(tile),
        }
        if self._dense(tile):
            step = self._step(tile)
            low = float(np.floor(held.min() / step) * step)
            found |= {"held": _text(np.rint((held - low) / step), "<u2"), "low": low, "step": step}
        else:
            off = np.flatnonzero(held != target)
            found |= {"at": _text(off, "<u4"), "values": _text(held.ravel()[off], "<f4")}
        if self.wired:
            conductance = self.cell.conductance(self.through[tile, in_use], self.bits).sum(axis=0)
            found["conductance"] = _text(1e6 * conductance, "<f4")
        if self.wired or self.errs:
            found["read"] = _text(self.read[tile, in_use].astype(np.float64).sum(axis=0), "<f4")
        if layer.arrangement is not None:
            placed = layer.arrangement
            found["place"] = {
                "array": int(placed.arrays[tile]),
                "rows": _text(placed.rows[tile], "<i4"),
                "columns": _text(placed.columns[tile], "<i4"),
            }
        return found

    def _lines(self, tile: int) -> dict[str, list[int]]:
        """Open lines of a tile, and columns whose bit lines touch the next one's, as they lie in its array."""
        broken, placed = self.layer.silicon.lines, self.layer.arrangement
        if broken is None:
            return {"rows": [], "columns": [], "touching": []}
        rows, columns = broken.open_word_lines, broken.open_bit_lines
        touching = np.zeros_like(columns)  # a column of which the neighbour in the array is touched
        touching[:, :-1] |= broken.shorted_bit_lines
        touching[:, 1:] |= broken.shorted_bit_lines
        if placed is not None:
            rows, columns = placed.rows_of_tiles(rows), placed.columns_of_tiles(columns)
            touching = placed.columns_of_tiles(touching)
        return {
            name: [int(line) for line in np.flatnonzero(lines[tile])]
            for name, lines in (("rows", rows), ("columns", columns), ("touching", touching))
        }

    def head(self, name: str) -> dict[str, Any]:
        """What all its tiles share."""
        mapping = self.layer.design.mapping
        return {
            "name": name,
            "tiles": self.layer.matrix.tiles,
            "rows": mapping.rows,
            "columns": mapping.columns,
            "sides": mapping.sides,
            "cells": mapping.sides * mapping.slices,
            "reference": mapping.has_reference,
            "top": self.cell.maximum_level(self.bits),
            "bits": _bits(self.cell.maximum_level(self.bits)),
            "least": 1e6 * self.cell.g_min,
            "step": 1e6 * self.cell.level_step(self.bits),
        }


def _json(part: Any) -> str:
    """JSON in ASCII that an element of a page can hold: no name can end the element."""
    return json.dumps(part, separators=(",", ":")).replace("<", "\\u003c")


def _fitting(layers: Mapping[str, _Layer], most: int) -> tuple[dict[str, list[dict[str, Any]]], int]:
    """Tiles of each layer in turn, those with the most stuck cells first, as many as fit; and the bytes of one."""
    waiting: dict[str, Iterator[int]] = {name: iter(layer.order()) for name, layer in layers.items()}
    chosen: dict[str, list[dict[str, Any]]] = {name: [] for name in layers}
    used, least = 0, 0
    while waiting:
        for name in list(waiting):
            tile = next(waiting[name], None)
            if tile is None:
                del waiting[name]
                continue
            written = layers[name].written(tile)
            size = len(_json(written)) + 1  # and a comma
            least = min(least, size) if least else size
            if used + size > most:
                del waiting[name]
                continue
            chosen[name].append(written)
            used += size
    for tiles in chosen.values():
        tiles.sort(key=lambda written: int(written["tile"]))
    return chosen, least


def tiles_of(
    layers: Mapping[str, DieLayer], design: Design, *, heading: str, notes: tuple[str, ...], most_bytes: int
) -> Tiles:
    """What a page shows of the tiles of a die.

    Parameters
    ----------
    layers
        Of the die, by name.
    design
        The accelerator.
    heading, notes
        What die it is.
    most_bytes
        The most that data and picture may add to the page.

    Raises
    ------
    InputError
        If that is too little for any tile, or the die has none.
    """
    made = {name: _Layer(layer) for name, layer in layers.items()}
    total = sum(layer.layer.matrix.tiles for layer in made.values())
    if total == 0:
        raise InputError("die must have a tile to be looked at, got none: its weights are zeros, which take no cells")
    cell = design.cell
    data: dict[str, Any] = {
        "kinds": {
            int(kind): {"name": name, "shape": marker, "colour": colour}
            for kind, (colour, marker, name) in STUCK.items()
        },
        "shades": SHADES,
        "below": COLOURS[0],
        "above": COLOURS[1],
        "voltage": cell.read_voltage,
        "layers": [{**layer.head(name), "shown": []} for name, layer in made.items()],
    }
    first_name = next(name for name, layer in made.items() if layer.layer.matrix.tiles)
    first = made[first_name].order()[0]
    picture = _picture(layers[first_name], first)
    head = len(_json(data)) + len(picture)
    chosen, least = _fitting(made, most_bytes - head)
    shown = sum(map(len, chosen.values()))
    if not shown:
        raise InputError(f"most_bytes must be >= {head + least} for one tile of this die, got {most_bytes}")
    for layer in data["layers"]:
        layer["shown"] = chosen[layer["name"]]
    remarks = [*notes, *_remarks(made, chosen, design)]
    if shown < total:
        remarks.append(
            f"{shown} of {total} tiles are here, of each layer those with the most stuck cells, so that they add at "
            f"most {most_bytes:,} bytes to the page: shares of stuck cells in these are no shares of the die."
        )
    digest = base64.b64encode(hashlib.sha256(_script().encode("utf-8")).digest()).decode("ascii")
    return Tiles(
        heading=heading,
        notes=tuple(remarks),
        data=_json(data),
        picture=picture,
        caption=f"Tile {first} of {first_name}, the one with the most stuck cells of its layer.",
        policy=f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'",
    )


def _remarks(layers: Mapping[str, _Layer], chosen: Mapping[str, list[dict[str, Any]]], design: Design) -> Iterator[str]:
    """How what is shown was come by."""
    steps = [layers[name].rounding(written["tile"]) for name, tiles in chosen.items() for written in tiles]
    yield "Rows, columns and tiles count from 0. " + (
        f"Levels held are given to within {0.5 * max(steps):.2g} levels."
        if max(steps)
        else "Levels held are given as they are."
    )
    group = design.periphery.active_rows
    driven = "all rows in use at once" if group is None else f"{group} rows at a time, one group after another"
    volts = design.cell.read_voltage
    sums = f"Sums and currents of columns are those of {driven}" + (
        ", each row at the largest input." if volts is None else f", each row at {volts:g} V."
    )
    if volts is None:
        sums += " The cell has no read voltage: conductances are given, no currents."
    yield sums
    wired, errs, beyond = (
        any(getattr(layer, name) for layer in layers.values()) for name in ("wired", "errs", "beyond_folding")
    )
    if wired:
        yield "Currents, and what reads see, are those through wires and broken lines."
    if errs:
        yield "What reads see has the gains of drivers and converters in it, those of dead ones too."
    if beyond:
        yield "Offsets of drivers and converters, and the weights of converters' bits, are in no sum here."
    if not (wired or errs or beyond):
        yield "Reads see what the cells hold: no wires, broken lines, drivers or converters err."
    if design.cell.noisy:
        yield "Read noise, which is drawn anew at every read, is in no number here."


def _picture(layer: DieLayer, tile: int) -> str:
    figure = draw_tile(layer.tile(tile))[0].figure
    figure.set_dpi(_PICTURE_DPI)
    take_literally(figure)
    return base64.b64encode(figure_bytes(figure, "png")).decode("ascii")


def die_of(die: Chip | Crossbar) -> tuple[Mapping[str, DieLayer], Design, tuple[str, ...]]:
    """Layers and design of a chip or a matrix, and what die it is."""
    from xbarsim.network import Chip

    layers = dict(die.layers) if isinstance(die, Chip) else {"matrix": die.layer}
    design = die.network.design if isinstance(die, Chip) else die.design
    first = next(iter(layers.values()))
    age = f", {first.seconds:g} s old" if first.seconds else ""
    repaired = " and ".join(dict.fromkeys(tile.method for tile in die.mitigations.tiles))
    about = f"Die of seed {die.seed}{age}{f', repaired by {repaired}' if repaired else ''}."
    return layers, design, (about, f"Design: {design.in_a_line}.")


@entrance
def tile_explorer(
    die: Chip | Crossbar, path: str | os.PathLike[str], *, title: str = "Tiles of a die", most_bytes: int = MOST_BYTES
) -> None:
    """Write a page to look around in the tiles of a die: levels, conductances, stuck cells, sums and currents.

    The page is one file and loads nothing. A tile of a layer is chosen, and cells in it with the pointer or with arrow
    keys; each is also said in words, for screen readers, and rows, columns and stuck cells are there as tables. Where
    scripts are off, it shows one tile as a picture.

    Parameters
    ----------
    die
        A chip, or the crossbar of a matrix.
    path
        The page, written whole or not at all.
    title
        Its heading.
    most_bytes
        The most that tiles may add to the page. Of a larger die, tiles with the most stuck cells of each layer are
        shown, and the page says so.

    Raises
    ------
    InputError
        If the die has no tile, or `most_bytes` is too little for one.
    FileWriteError
        If the page cannot be written.
    """
    from xbarsim.network import Chip, Crossbar

    check_instance("die", die, (Chip, Crossbar))
    check_path("path", path)
    check_integer("most_bytes", most_bytes, at_least=1)
    layers, design, notes = die_of(die)
    tiles = tiles_of(layers, design, heading="Tiles", notes=notes, most_bytes=most_bytes)
    page = template("tiles.html").render(title=title, version=VERSION, tiles=tiles)
    write_atomically(path, page.encode("utf-8", "xmlcharrefreplace"))
