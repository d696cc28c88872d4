"""What a mapping promises, with the placement that follows it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from xbarsim.design import Converter, Drive
from xbarsim.engine import reference_multiply
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.mapping import MappedMatrix, Mapping, Reading, map_matrix
from xbarsim.testing.promises import call, check_value, for_all, load_hypothesis, promise

__all__ = ["check_mapping"]


@entrance
def check_mapping(
    mapping: Mapping,
    *,
    place: Callable[[npt.NDArray[np.int64], Mapping], MappedMatrix] = map_matrix,
    examples: int = 25,
) -> None:
    """Check that a mapping puts every weight where it can be read, and nowhere else.

    For matrices with and without empty rows, outputs and blocks: every weight that is not 0 has its cells, and those
    are its own; the target levels stand for the weights; a cell that changes alters the weight it belongs to alone
    (a reference cell, the weights of its row); unused cells hold level 0 and alter nothing; and ideal reads of the
    tiles, by the engine's definition, give the product with the matrix.

    Parameters
    ----------
    mapping
        The mapping, also one with an encoding of your own.
    place
        What places integer weights, shape (inputs, outputs), by a mapping: :func:`xbarsim.mapping.map_matrix` or your
        own.
    examples
        Matrices to try, of up to about 3 x 3 tiles.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    ImportError
        If hypothesis is not installed.
    """
    check_instance("mapping", mapping, Mapping)
    check_integer("examples", examples, at_least=1)
    st = load_hypothesis().strategies

    check_value(mapping, Mapping)
    largest = mapping.max_weight

    def placed(inputs: int, outputs: int, empty: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        codes = rng.integers(-largest, largest, (inputs, outputs), endpoint=True)
        codes[rng.random(codes.shape) < empty] = 0
        codes[rng.random(inputs) < empty / 2] = 0
        codes[:, rng.random(outputs) < empty / 2] = 0
        if empty:
            codes[: inputs // 2, : outputs // 2] = 0
        mapped = call("placing a matrix", place, codes, mapping)
        promise(isinstance(mapped, MappedMatrix), "placing must give a MappedMatrix", f"{type(mapped).__name__}")
        _check_placement(mapped, codes, rng)

    for_all(
        placed,
        examples,
        inputs=st.integers(1, 3 * mapping.rows),
        outputs=st.integers(1, min(3 * mapping.outputs_per_tile, 60)),
        empty=st.sampled_from([0.0, 0.3, 0.9, 1.0]),
        seed=st.integers(0, 2**32 - 1),
    )


def _check_placement(mapped: MappedMatrix, codes: npt.NDArray[np.int64], rng: np.random.Generator) -> None:

    mapping = mapped.mapping
    levels = mapped.levels
    promise(mapped.shape == codes.shape, "the placed matrix must have the shape of the weights", mapped.shape)
    back = call("reading the target levels", mapped.codes)
    wrong = np.argwhere(back != codes)
    promise(
        wrong.size == 0,
        "the target levels must stand for the weights",
        "" if wrong.size == 0 else f"weight {codes[tuple(wrong[0])]} at {tuple(wrong[0].tolist())} became "
        f"{back[tuple(wrong[0])]}",
    )  # fmt: skip
    unused = levels[~mapped.used]
    promise(not unused.any(), "unused cells must hold level 0", f"one holds {unused.max() if unused.size else 0}")
    promise(
        int(mapped.used.sum()) == mapped.cells_used, "cells_used must be the number of used cells", mapped.cells_used
    )

    wanted = mapping.slices * mapping.sides
    for row, output in rng.integers(0, codes.shape, (20, 2)).tolist():
        cells = mapped.cells_of(row, output)
        promise(
            len(cells) == wanted or (len(cells) == 0 and codes[row, output] == 0),
            "a weight must have slices x sides cells, or none if it is 0",
            f"weight {codes[row, output]} at {(row, output)} has {len(cells)}",
        )
        for tile, line, column in zip(cells.tile.tolist(), cells.row.tolist(), cells.column.tolist(), strict=True):
            held = mapped.weight_at(tile, line, column)
            promise(
                held is not None and (held.row, held.output) == (row, output),
                "a weight's cells must belong to it",
                f"cell {(tile, line, column)} of the weight at {(row, output)} belongs to {held}",
            )

    if mapped.tiles:
        for tile, line, column in rng.integers(0, levels.shape, (20, 3)).tolist():
            changed = levels.astype(np.int64)
            changed[tile, line, column] = mapping.max_level - changed[tile, line, column] + mapping.max_level + 1
            touched = np.argwhere(mapped.decode(changed) != codes).tolist()
            held = mapped.weight_at(tile, line, column)
            if held is None:
                allowed: set[int] = set()
                alone = not touched
            elif held.is_reference:
                allowed = {held.row}
                alone = {row for row, _ in touched} <= allowed
            else:
                alone = touched == [[held.row, held.output]]
            promise(
                alone,
                "a cell must alter the weight it belongs to, and no other",
                f"cell {(tile, line, column)}, which belongs to {held}, alters {touched[:5]}",
            )

    reading = Reading.of(mapped, "analog" if mapping.sides == 2 else "digital")
    drive = Drive(signed=False, input_bits=4, dac_bits=4)
    inputs = rng.integers(0, drive.max_input, (2, codes.shape[0]), endpoint=True)
    product = call("reading the tiles", reference_multiply, inputs, reading, levels, drive, Converter())
    promise(
        np.array_equal(product, inputs @ codes),
        "ideal reads of the tiles must give the product with the matrix",
        f"they are off by up to {np.abs(product - inputs @ codes).max()}",
    )
