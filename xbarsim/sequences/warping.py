"""Dynamic time warping: the cheapest alignment of two sequences that run at different speeds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import (
    InputError,
    as_array,
    check_array,
    check_choice,
    check_integer,
    check_memory,
    check_real,
)
from xbarsim.sequences.kernels import SYMMETRIC1, SYMMETRIC2, SYMMETRIC_P1, accumulate, band, squared_distances
from xbarsim.sequences.ragged import check_magnitude

__all__ = ["Alignment", "Warping", "check_frames", "check_weights", "dtw", "local_distances", "warp"]

_STEPS = {"symmetric1": SYMMETRIC1, "symmetric2": SYMMETRIC2, "symmetricP1": SYMMETRIC_P1}

#: Additions and comparisons for one cell of the matrix: the least of three sums. Doubling is a shift.
_ADDITIONS = {"symmetric1": 1, "symmetric2": 2, "symmetricP1": 4}
_COMPARISONS = 2
#: Reads and writes of what is kept from row to row, for one cell; of neighbours in a row only one is read anew.
_ACCESSES = {"symmetric1": 2, "symmetric2": 2, "symmetricP1": 5}
_LARGEST_DISTANCE, _LARGEST_WEIGHT = 1e290, 1e50  # sums stay finite

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Warping:
    """The rules of an alignment.

    With d(i, j) the local distance of frame i of one sequence and frame j of the other, and D(i, j) the least cost of
    an alignment of the frames up to these, `steps` says which alignments there are:

    - ``"symmetric1"``: D(i, j) = d(i, j) + min(D(i-1, j-1), D(i-1, j), D(i, j-1)), from D(0, 0) = d(0, 0);
    - ``"symmetric2"``: D(i, j) = min(D(i-1, j-1) + 2 d(i, j), D(i-1, j) + d(i, j), D(i, j-1) + d(i, j));
    - ``"symmetricP1"``: slopes from 1/2 to 2, D(i, j) = min(D(i-1, j-1) + 2 d(i, j), D(i-1, j-2) + 2 d(i, j-1) + d(i,
      j), D(i-2, j-1) + 2 d(i-1, j) + d(i, j)).

    The last two begin with D(0, 0) = 2 d(0, 0), so that the weights of an alignment of n and m frames add up to n + m.

    Attributes
    ----------
    steps
        As above. The names are those of Giorgino (2009).
    radius
        Window of Sakoe and Chiba: an alignment stays within so many frames of the two diagonals that begin at the first
        and end at the last frames (they are one where lengths are equal). ``None`` for no window.
    slope
        Window of Itakura: an alignment stays in the parallelogram between lines of this slope, and of its inverse,
        through both ends, on axes scaled to the lengths; 1 or more. ``None`` for none.
    per_step
        Whether a distance is divided by how long its alignment is: by its number of cells (the shortest of equally
        cheap alignments) for ``"symmetric1"``, by n + m for the others.

    Raises
    ------
    InputError
        If an attribute is out of its bound.

    References
    ----------
    H. Sakoe and S. Chiba, Dynamic programming algorithm optimization for spoken word recognition, IEEE Trans.
    Acoustics, Speech, and Signal Processing 26, 43 (1978), https://doi.org/10.1109/TASSP.1978.1163055, table I; F.
    Itakura, Minimum prediction residual principle applied to speech recognition, ibid. 23, 67 (1975),
    https://doi.org/10.1109/TASSP.1975.1162641; T. Giorgino, Computing and visualizing dynamic time warping alignments
    in R, J. Statistical Software 31(7) (2009), https://doi.org/10.18637/jss.v031.i07.
    """

    steps: Literal["symmetric1", "symmetric2", "symmetricP1"] = "symmetric1"
    radius: int | None = None
    slope: float | None = None
    per_step: bool = False

    def __post_init__(self) -> None:
        check_fields(self)
        check_choice("steps", self.steps, _STEPS)
        if self.radius is not None:
            check_integer("radius", self.radius, at_least=0, at_most=2**31)
        if self.slope is not None:
            object.__setattr__(self, "slope", check_real("slope", self.slope, at_least=1.0))

    @property
    def arguments(self) -> tuple[int, int, float, bool]:
        """Steps, radius, slope and whether per step, as kernels take them."""
        radius = -1 if self.radius is None else self.radius
        return _STEPS[self.steps], radius, 0.0 if self.slope is None else self.slope, self.per_step

    @property
    def shifts(self) -> tuple[int, int]:
        """Largest shift and least overlap, as kernels take them: none."""
        return -1, 1

    def cells(self, rows: int, columns: int) -> int:
        """Cells of the matrix that are worked out for two sequences of so many frames: those in the window."""
        if self.radius is None and self.slope is None:
            return rows * columns
        _, radius, slope, _ = self.arguments
        inside = (band(row, rows, columns, radius, slope) for row in range(rows))
        return sum(max(0, last - first) for first, last in inside)

    def operations(self, rows: int, columns: int) -> tuple[int, int]:
        """Additions and comparisons that warping two sequences of so many frames takes, by the recurrences above.

        A distance per step takes one addition more a cell where cells are counted, and a division, which is counted as
        an addition.
        """
        cells = self.cells(rows, columns)
        counted = int(self.per_step and self.steps == "symmetric1")
        return cells * (_ADDITIONS[self.steps] + counted) + int(self.per_step), cells * _COMPARISONS

    def state_accesses(self, rows: int, columns: int) -> int:
        """Reads and writes of what is kept from row to row when two sequences of so many frames are warped.

        A cell reads the cost above it and writes its own; where cells of alignments are counted, it does the same with
        their number. ``"symmetricP1"`` needs the costs of two rows and the local distances of one: a cost is written
        once and read twice, a distance written and read once.
        """
        counted = int(self.per_step and self.steps == "symmetric1")
        return self.cells(rows, columns) * (_ACCESSES[self.steps] + 2 * counted)


class Alignment(NamedTuple):
    """The cheapest alignment of two sequences.

    Attributes
    ----------
    distance
        Its cost, as the rules say; infinite where they allow none.
    path
        Its cells from the first frames to the last: int64 (cells, 2), the frame of one and of the other sequence. For
        ``"symmetricP1"`` with the cells in between. Without cells where there is no alignment.
    """

    distance: float
    path: npt.NDArray[np.int64]


@entrance
def warp(distances: npt.ArrayLike, rules: Warping = Warping()) -> Alignment:
    """Align two sequences by the distances of all their frames.

    Of equally cheap alignments the shortest is taken, and of these one that goes along the diagonal at its end.

    Parameters
    ----------
    distances
        Of frame i of one and frame j of the other sequence, shape (frames, frames). They may be negative, as those that
        a crossbar's errors leave.
    rules
        Of the alignment.

    Raises
    ------
    InputError
        If `distances` is no matrix of finite numbers.

    Examples
    --------
    >>> found = warp([[0.0, 4.0, 1.0], [4.0, 0.0, 9.0]])
    >>> found.distance, found.path.tolist()
    (9.0, [[0, 0], [1, 1], [1, 2]])
    """
    local = _matrix("distances", distances, _LARGEST_DISTANCE)
    check_memory("distances", f"shape {local.shape}", 16 * local.size)
    steps, radius, slope, per_step = rules.arguments
    costs, lengths = accumulate(local, steps, radius, slope)
    distance = float(costs[-1, -1])
    if not np.isfinite(distance):
        return Alignment(distance, np.zeros((0, 2), np.int64))
    if per_step:
        distance /= int(lengths[-1, -1]) if steps == SYMMETRIC1 else sum(local.shape)
    windows = [band(row, len(local), local.shape[1], radius, slope) for row in range(len(local))]
    i, j = local.shape[0] - 1, local.shape[1] - 1
    path = [(i, j)]
    while (i, j) != (0, 0):
        for way in _WAYS[steps]:
            cells = [(i - down, j - right) for down, right in way]
            if any(min(cell) < 0 or not windows[cell[0]][0] <= cell[1] < windows[cell[0]][1] for cell in cells):
                continue
            back = cells[-1]
            if (costs[i, j], lengths[i, j]) == (_arrive(costs, local, (i, j), cells, steps), lengths[back] + len(way)):
                path += cells
                i, j = back
                break
        else:
            raise AssertionError("a cell that was reached has no way back")
    return Alignment(distance, np.array(path[::-1], np.int64))


# The cells that a step goes back over, nearest first.
_WAYS = {
    SYMMETRIC1: (((1, 1),), ((1, 0),), ((0, 1),)),
    SYMMETRIC2: (((1, 1),), ((1, 0),), ((0, 1),)),
    SYMMETRIC_P1: (((1, 1),), ((0, 1), (1, 2)), ((1, 0), (2, 1))),
}


def _arrive(
    costs: FloatArray, local: FloatArray, cell: tuple[int, int], cells: list[tuple[int, int]], steps: int
) -> Any:
    """The cost of a cell behind a step over others, added up in the order of the kernel."""
    if len(cells) == 2:
        return costs[cells[1]] + 2.0 * local[cells[0]] + local[cell]
    diagonal = cells[0] == (cell[0] - 1, cell[1] - 1)
    return costs[cells[0]] + (2.0 * local[cell] if diagonal and steps != SYMMETRIC1 else local[cell])


@entrance
def local_distances(
    one: npt.ArrayLike, other: npt.ArrayLike, *, weights: npt.ArrayLike | None = None
) -> npt.NDArray[np.float64]:
    """Squared Euclidean distances of all frames of two sequences.

    Parameters
    ----------
    one, other
        Frames as rows, (frames, channels), or (frames,) with one channel.
    weights
        Of each channel, (channels,), >= 0, or ``None`` for 1: what is added up is weight times squared difference.
        Several features of a frame stand side by side as channels; their local distances so are added before the
        warping, each with its weight (MDTS-DTW).

    Returns
    -------
    numpy.ndarray
        float64 (frames of one, frames of other).

    Raises
    ------
    InputError
        If they have other shapes, are not finite, or a weight is negative.
    """
    left, right = check_frames("one", one), check_frames("other", other)
    if left.shape[1] != right.shape[1]:
        raise InputError(f"other must have {left.shape[1]} channels, as one has, got {right.shape[1]}")
    if weights is not None:
        scale = np.sqrt(check_weights(weights, left.shape[1]))
        left, right = left * scale, right * scale
    check_memory("one", f"{len(left)} x {len(right)} frames", 8 * len(left) * len(right))
    local = np.empty((len(left), len(right)))
    squared_distances(left, np.ascontiguousarray(right.T), 0, local)
    return local


@entrance
def dtw(
    one: npt.ArrayLike,
    other: npt.ArrayLike,
    rules: Warping = Warping(),
    *,
    weights: npt.ArrayLike | None = None,
) -> float:
    """The distance of two sequences by dynamic time warping.

    Parameters
    ----------
    one, other, weights
        As :func:`local_distances`.
    rules
        Of the alignment.

    Returns
    -------
    float
        The sum of squared distances along the alignment, without the square root that some packages take of it.
        Infinite where the rules allow no alignment.

    Examples
    --------
    >>> dtw([0.0, 1.0, 1.0, 2.0], [0.0, 1.0, 2.0, 2.0]), dtw([0.0, 1.0], [0.0, 3.0])
    (0.0, 4.0)
    """
    return warp(local_distances(one, other, weights=weights), rules).distance


def check_frames(name: str, value: Any) -> FloatArray:
    """A sequence as float64 (frames, channels)."""
    array = as_array(name, value)
    return _matrix(name, array[:, np.newaxis] if array.ndim == 1 else array)


def _matrix(name: str, value: Any, largest: float | None = None) -> FloatArray:
    array = as_array(name, value)
    kind = "integer" if array.dtype.kind in "iu" else "floating"
    checked = check_array(name, array, dimensions=2, kind=kind)
    check_magnitude(name, checked, largest)
    return np.ascontiguousarray(checked, dtype=np.float64)


def check_weights(weights: Any, channels: int) -> FloatArray:
    """Weights of channels as float64 (channels,), not negative."""
    array = as_array("weights", weights)
    kind = "integer" if array.dtype.kind in "iu" else "floating"
    checked = check_array("weights", array, dimensions=1, kind=kind).astype(np.float64)
    if len(checked) != channels or checked.min() < 0:
        raise InputError(f"weights must be >= 0, one for each of {channels} channels, got {checked.tolist()}")
    check_magnitude("weights", checked, _LARGEST_WEIGHT)
    return checked
