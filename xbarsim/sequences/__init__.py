"""Matching of sequences by dynamic time warping, with local distances read from crossbars.

A sequence is a row of frames, a frame a few numbers (:class:`Sequences`). :func:`pair_distances` compares sequences by
dynamic time warping (:class:`Warping`) or over shifts of one along the other (:class:`TimeShift`), :func:`nearest`
finds the nearest one and skips what a bound excludes, :func:`rank_curve` says how often the right identity is found. A
:class:`Gallery` holds the frames of known sequences in the columns of crossbars of one die and reads the distances of a
probe's frames; the alignment is digital.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from xbarsim.foundation.lazy import attach

if TYPE_CHECKING:
    from xbarsim.sequences.bounds import lower_bounds
    from xbarsim.sequences.costs import MatchCost
    from xbarsim.sequences.gallery import Gallery
    from xbarsim.sequences.identification import RankCurve, rank_curve
    from xbarsim.sequences.matching import Nearest, nearest, pair_distances
    from xbarsim.sequences.ragged import Sequences
    from xbarsim.sequences.time_shift import TimeShift
    from xbarsim.sequences.warping import Alignment, Warping, dtw, local_distances, warp

_HOMES = {
    "Alignment": "warping",
    "Gallery": "gallery",
    "MatchCost": "costs",
    "Nearest": "matching",
    "RankCurve": "identification",
    "Sequences": "ragged",
    "TimeShift": "time_shift",
    "Warping": "warping",
    "dtw": "warping",
    "local_distances": "warping",
    "lower_bounds": "bounds",
    "nearest": "matching",
    "pair_distances": "matching",
    "rank_curve": "identification",
    "warp": "warping",
}

__all__ = [
    "Alignment",
    "Gallery",
    "MatchCost",
    "Nearest",
    "RankCurve",
    "Sequences",
    "TimeShift",
    "Warping",
    "dtw",
    "local_distances",
    "lower_bounds",
    "nearest",
    "pair_distances",
    "rank_curve",
    "warp",
]

__getattr__, __dir__ = attach(__name__, _HOMES)
