"""Who it is: ranks of identities by their nearest sequence, and the curve of cumulative matches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.intervals import Interval, share_interval
from xbarsim.foundation.validation import InputError, as_array, check_array, check_integer

__all__ = ["RankCurve", "rank_curve"]


@dataclass(frozen=True, kw_only=True, eq=False)
class RankCurve:
    """At which rank the right identity stands, for each probe.

    Attributes
    ----------
    ranks
        From 1: one more than there are identities that are nearer. int64 (probes,).
    identities
        How many distinct ones the gallery holds.

    Raises
    ------
    InputError
        If a rank is not from 1 to `identities`.
    """

    ranks: npt.NDArray[np.int64]
    identities: int

    def __post_init__(self) -> None:
        check_fields(self)
        check_integer("identities", self.identities, at_least=1)
        ranks = check_array("ranks", self.ranks, dimensions=1, kind="integer").astype(np.int64)
        if ranks.min() < 1 or ranks.max() > self.identities:
            raise InputError(f"ranks must be from 1 to {self.identities}, got {ranks.min()} to {ranks.max()}")
        object.__setattr__(self, "ranks", ranks)

    def matches(self, rank: int) -> int:
        """Probes whose right identity is among the first `rank`."""
        return int((self.ranks <= check_integer("rank", rank, at_least=1, at_most=self.identities)).sum())

    def share(self, rank: int, *, confidence: float = 0.95) -> Interval:
        """The share of :meth:`matches`, with its interval (Clopper and Pearson) over probes.

        Raises
        ------
        InputError
            If there are fewer identities, or `confidence` is not in (0, 1).
        """
        return share_interval(self.matches(rank), len(self.ranks), confidence=confidence)

    @property
    def curve(self) -> npt.NDArray[np.float64]:
        """The share of matches up to every rank (CMC), float64 (identities,): never falling, 1 at the end."""
        counts = np.bincount(self.ranks, minlength=self.identities + 1)[1:]
        curve: npt.NDArray[np.float64] = np.cumsum(counts) / len(self.ranks)
        return curve


@entrance
def rank_curve(distances: npt.ArrayLike, probes: npt.ArrayLike, gallery: npt.ArrayLike) -> RankCurve:
    """Rank identities for every probe by the nearest sequence that the gallery holds of each.

    Parameters
    ----------
    distances
        Of probes and sequences of the gallery, (probes, sequences); infinite where there is no alignment.
    probes, gallery
        Identities of both, integers; every one of the probes must be in the gallery.

    Returns
    -------
    RankCurve
        Of equally near identities, the one whose nearest sequence stands first in the gallery is before the other: at
        rank 1 the answer is that of the nearest neighbour.

    Raises
    ------
    InputError
        If shapes do not fit, a distance is NaN, an identity is not in the gallery, or a probe has no alignment at all.

    Examples
    --------
    >>> found = rank_curve([[1.0, 2.0, 0.5], [3.0, 1.0, 2.0]], [0, 0], [0, 1, 1])
    >>> found.ranks.tolist(), found.curve.tolist(), found.matches(1)
    ([2, 2], [0.0, 1.0], 0)
    """
    matrix = as_array("distances", distances).astype(np.float64)
    own = check_array("probes", probes, dimensions=1, kind="integer")
    theirs = check_array("gallery", gallery, dimensions=1, kind="integer")
    if matrix.shape != (len(own), len(theirs)):
        raise InputError(f"distances must have shape ({len(own)}, {len(theirs)}), got {matrix.shape}")
    if np.isnan(matrix).any() or (matrix == -np.inf).any():
        raise InputError("distances must be numbers, or infinity where there is no alignment, got NaN or -infinity")
    lost = ~np.isfinite(matrix).any(axis=1)
    if lost.any():
        raise InputError(
            f"distances must hold a finite one for every probe, got none for {int(lost.sum())} of them, the first is "
            f"probe {int(np.argmax(lost))}"
        )
    names = np.unique(theirs)
    missing = np.setdiff1d(own, names)
    if len(missing):
        raise InputError(f"probes must be of identities that the gallery holds, got {missing[:5].tolist()}")
    order = np.argsort(matrix, axis=1, kind="stable")
    places = np.empty_like(order)  # of each sequence in the order of its probe
    np.put_along_axis(places, order, np.arange(matrix.shape[1])[np.newaxis], axis=1)
    first = np.stack([places[:, theirs == name].min(axis=1) for name in names], axis=1)
    right = first[np.arange(len(own)), np.searchsorted(names, own)]
    return RankCurve(ranks=1 + (first < right[:, np.newaxis]).sum(axis=1), identities=len(names))
