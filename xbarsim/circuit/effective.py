"""The effective conductance of arrays: the whole linear circuit folded into one matrix, fast."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
import numpy.typing as npt
import scipy.linalg.cython_blas  # noqa: F401  the BLAS of compiled loops: loaded here, so that it can be limited
from threadpoolctl import ThreadpoolController

from xbarsim.circuit.kernels import bundle, dissect
from xbarsim.circuit.network import FloatingNodeError, build_network
from xbarsim.circuit.regions import ABSENT, TERMINAL
from xbarsim.circuit.wires import Wires, check_conductance, check_lines
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance

__all__ = ["Lines", "active_branches", "each_tile", "effective_conductance"]

Floats = npt.NDArray[np.float64]


class Lines(NamedTuple):
    """The lines of an array and their ends, as the kernels want them.

    Attributes
    ----------
    word, bit
        Conductances of the segments, S, (rows, columns + 1) and (columns, rows + 1), the ends included; (rows, 0) and
        (columns, 0) for lines without resistance.
    drivers, senses
        From a line without resistance to its terminals, S, (rows,) and (columns,); inf if there is nothing between.
    ends
        Whether the left, right, top and bottom ends lead to a terminal.
    """

    word: Floats
    bit: Floats
    drivers: Floats
    senses: Floats
    ends: tuple[bool, bool, bool, bool]

    @classmethod
    def of(cls, wires: Wires, driven: npt.NDArray[np.bool_], sensed: npt.NDArray[np.bool_]) -> Lines:
        """Of an array with these lines selected."""
        height, width = len(driven), len(sensed)
        floats = wires.unselected == "floating"
        # 1 where a line is connected to its terminals. A 1T1R word line is, for its transistors are off anyhow.
        word_ties = np.where(driven | (not floats or wires.access == "1T1R"), 1.0, 0.0)
        bit_ties = np.where(sensed | (not floats), 1.0, 0.0)
        left, right = 1.0, 1.0 if wires.drive == "both" else 0.0
        top, bottom = (1.0 if wires.sense in ends else 0.0 for ends in (("near", "both"), ("far", "both")))
        word_wire, bit_wire = wires.word_line_resistance, wires.bit_line_resistance
        driver, sense = wires.driver_resistance, wires.sense_resistance
        word, bit = np.zeros((height, 0)), np.zeros((width, 0))
        if word_wire > 0.0:
            word = _segments(width, height, word_wire, driver, left * word_ties, right * word_ties)
        if bit_wire > 0.0:
            bit = _segments(height, width, bit_wire, sense, top * bit_ties, bottom * bit_ties)
        return cls(
            word=word,
            bit=bit,
            # both ends in parallel, 0 * inf meant as 0
            drivers=np.where(word_ties > 0.0, (left + right) * _inverse(driver), 0.0),
            senses=np.where(bit_ties > 0.0, (top + bottom) * _inverse(sense), 0.0),
            ends=(left > 0.0, right > 0.0, top > 0.0, bottom > 0.0),
        )


def active_branches(cells: Floats, wires: Wires, driven: npt.NDArray[np.bool_]) -> Floats:
    """Cells (tiles, rows, columns) in series with their transistors, S; a new array."""
    branches = cells / (1.0 + cells * wires.access_resistance) if wires.access_resistance > 0.0 else cells.copy()
    if wires.access == "1T1R":
        branches[:, ~driven] = 0.0
    return branches


def each_tile(one: Callable[[int], None], tiles: int) -> None:
    """Call `one`, which lets go of the interpreter's lock, with the number of every tile, in parallel."""
    workers = min(numba.get_num_threads(), tiles)
    if workers <= 1:
        for tile in range(tiles):
            one(tile)
    else:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(one, range(tiles)))


@functools.cache
def _libraries() -> ThreadpoolController:
    return ThreadpoolController()


def _distinct(tiles: Floats) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """The first tile of each content, and for each tile the position of its content among these."""
    seen: dict[bytes, int] = {}
    first: list[int] = []
    which = np.empty(tiles.shape[0], dtype=np.int64)
    for index, tile in enumerate(tiles):
        key = hashlib.blake2b(tile.data, digest_size=32).digest()
        if key not in seen:
            seen[key] = len(first)
            first.append(index)
        which[index] = seen[key]
    return np.array(first, dtype=np.int64), which


def _inverse(resistance: float) -> float:
    return 1.0 / resistance if resistance > 0.0 else np.inf


def _segments(length: int, lines: int, wire: float, end: float, first: Floats, last: Floats) -> Floats:
    """Conductances along lines, (lines, length + 1), S; `first` and `last` are 1 where an end is connected."""
    segments = np.full((lines, length + 1), 1.0 / wire)
    segments[:, 0] = first / (wire + end)
    segments[:, -1] = last / (wire + end)
    return segments


@entrance
def effective_conductance(
    conductance: npt.ArrayLike,
    wires: Wires,
    *,
    rows: npt.ArrayLike | None = None,
    columns: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Fold cells, wires, drivers, sense circuits and access transistors into one matrix.

    The network is linear, so with input voltages ``V`` (V) the sensed currents (A) are exactly ``V @ G_eff``,
    for any number of inputs. Each entry is computed without a subtraction and is accurate to about 1e-12
    relative whatever the resistances are.

    Parameters
    ----------
    conductance
        Of the cells, S, shape (rows, columns) or (tiles, rows, columns); finite and >= 0. Tiles are solved in
        parallel, identical ones once; the result does not depend on the number of threads.
    wires
        The surroundings of the cells, the same for all tiles.
    rows, columns
        Masks of the selected lines, boolean (rows,) and (columns,); ``None`` selects all. Rows of the result
        that are not selected are zero (no input there), and so are columns that are not (no sensed current).

    Returns
    -------
    ndarray
        Effective conductances, S, float64, shape of `conductance`.

    Raises
    ------
    InputError
        For a negative, NaN or infinite conductance or a wrong mask.
    FloatingNodeError
        If a node is connected to no driver and no sense circuit, naming it.
    """
    check_instance("wires", wires, Wires)
    given = check_conductance("conductance", conductance, (2, 3))
    tiles = given.reshape((-1, *given.shape[-2:]))
    height, width = tiles.shape[1:]
    driven, sensed = check_lines("rows", rows, height), check_lines("columns", columns, width)
    first, which = _distinct(tiles)
    cells = active_branches(tiles[first], wires, driven)
    result = np.zeros_like(cells)
    floating = np.zeros((cells.shape[0], 1), dtype=np.int64)
    lines = Lines.of(wires, driven, sensed)
    if wires.word_line_resistance == 0.0:
        bits = np.ascontiguousarray(lines.bit.T)

        def one(tile: int) -> None:
            bundle(cells[tile], lines.drivers, bits, lines.senses, result[tile], floating[tile])

    elif wires.bit_line_resistance == 0.0:
        turned = np.ascontiguousarray(lines.word.T)

        def one(tile: int) -> None:
            # Reciprocity: drivers and sense circuits change places.
            answer = np.zeros((width, height))
            bundle(np.ascontiguousarray(cells[tile].T), lines.senses, turned, lines.drivers, answer, floating[tile])
            result[tile] = answer.T

    else:
        ends = np.array([TERMINAL if end else ABSENT for end in lines.ends], dtype=np.int64)
        bits = np.ascontiguousarray(lines.bit.T)

        def one(tile: int) -> None:
            dissect(cells[tile], lines.word, bits, ends, result[tile], floating[tile])

    with _libraries().limit(limits=1, user_api="blas"):
        each_tile(one, len(cells))
    if floating.any():
        tile = int(np.argmax(floating[:, 0] > 0))
        network = build_network((height, width), wires, driven, sensed)
        network.check_connected(cells[tile])
        raise FloatingNodeError("a node of the circuit floats")  # pragma: no cover  the line above names it
    result[:, ~driven] = 0.0
    result[:, :, ~sensed] = 0.0
    return result[which].reshape(given.shape)
