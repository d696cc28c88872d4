"""Time-shift dynamic time warping (TS-DTW): sequences that were cut at different places."""

from __future__ import annotations

from dataclasses import dataclass

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import check_instance, check_integer
from xbarsim.sequences.warping import Warping

__all__ = ["TimeShift", "overlap"]


def overlap(shift: int, rows: int, columns: int) -> tuple[int, int, int]:
    """The part of two sequences that overlaps: its first frame in one and in the other, and its frames (0: none).

    With a shift of l, frame i of the one is over frame i - l of the other.

    Examples
    --------
    >>> overlap(2, 5, 9), overlap(-6, 5, 9), overlap(5, 5, 9)
    ((2, 0, 3), (0, 6, 3), (5, 0, 0))
    """
    first, other = max(0, shift), max(0, -shift)
    return first, other, max(0, min(rows - first, columns - other))


@dataclass(frozen=True, kw_only=True)
class TimeShift:
    """The least distance over shifts of one sequence along the other, each of the part that overlaps.

    For every shift l from -`most` to `most` frames, frame i of the probe is over frame i - l of the gallery's sequence;
    frames without a partner are left out, and d_l is the distance of the rest by dynamic time warping, per step. The
    distance is min_l d_l: where a sequence was cut, or begins with frames of something else, a shift leaves them out.

    Attributes
    ----------
    most
        Largest shift, frames.
    overlap
        Frames that must overlap, or all of the shorter sequence where that has fewer.
    warping
        How the parts are aligned. Parts of different lengths are compared, so distances are per step unless that is
        changed.

    Raises
    ------
    InputError
        If an attribute is out of its bound.

    Notes
    -----
    The multi-feature variant (MDTS-DTW) adds up the local distances of features before the warping: see `weights` of
    :func:`xbarsim.sequences.local_distances`. The limits of shift and overlap of the paper are not published.

    References
    ----------
    X. Ma et al., Person re-identification by unsupervised video matching, Pattern Recognition 65, 197 (2017),
    https://arxiv.org/abs/1611.08512.
    """

    most: int
    overlap: int
    warping: Warping = Warping(per_step=True)  # noqa: RUF009  a frozen value

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("most", self.most, at_least=0, at_most=2**20)
        check_integer("overlap", self.overlap, at_least=1)
        check_instance("warping", self.warping, Warping)

    @property
    def arguments(self) -> tuple[int, int, float, bool]:
        """As :attr:`Warping.arguments`."""
        return self.warping.arguments

    @property
    def shifts(self) -> tuple[int, int]:
        """Largest shift and least overlap, as kernels take them."""
        return self.most, min(self.overlap, 2**31)

    def parts(self, rows: int, columns: int) -> list[int]:
        """Frames of the overlapping part for each shift that is tried, of two sequences of so many frames."""
        least = min(self.overlap, rows, columns)
        lengths = [overlap(shift, rows, columns)[2] for shift in range(-self.most, self.most + 1)]
        return [length for length in lengths if length >= least]

    def cells(self, rows: int, columns: int) -> int:
        """Cells of all matrices that are worked out for two sequences of so many frames."""
        return sum(self.warping.cells(length, length) for length in self.parts(rows, columns))

    def operations(self, rows: int, columns: int) -> tuple[int, int]:
        """Additions and comparisons, as :meth:`Warping.operations`, over all shifts, and to find the least."""
        each = [self.warping.operations(length, length) for length in self.parts(rows, columns)]
        return sum(additions for additions, _ in each), sum(compared for _, compared in each) + len(each) - 1

    def state_accesses(self, rows: int, columns: int) -> int:
        """Reads and writes of what is kept from row to row, as :meth:`Warping.state_accesses`, over all shifts."""
        return sum(self.warping.state_accesses(length, length) for length in self.parts(rows, columns))
