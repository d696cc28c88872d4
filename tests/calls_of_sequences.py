"""Good calls of the sequences room; see :mod:`tests.calls`."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from xbarsim import sequences as s

if TYPE_CHECKING:
    from tests.calls import World

EXCLUDED = {
    **dict.fromkeys(["Alignment", "MatchCost", "Nearest", "SequenceSet"], "a record that only the library makes"),
    "load_sequences": "needs the data folder; its tests try bad names and files",
}


def add_sequences(add: Callable[..., None], w: World) -> None:
    """Add the calls of the room."""
    some = s.Sequences.of([[[1.0, -2.0], [0.5, 1.0]], [[3.0, 0.0]]])
    weights = np.array([1.0, 0.5])
    add("sequences", s.Sequences, values=np.ones((3, 2)), offsets=np.array([0, 1, 3]))
    add("sequences", s.Sequences.of, "Sequences.of", sequences=[np.ones((2, 1))])
    add("sequences", some.select, "Sequences.select", numbers=np.array([1, 0]))
    add("sequences", some.standardised, "Sequences.standardised", by=some)
    add("sequences", some.with_context, "Sequences.with_context", frames=1)
    add("sequences", s.Warping, steps="symmetric2", radius=1, slope=2.0, per_step=True)
    add("sequences", s.TimeShift, most=1, overlap=1, warping=s.Warping())
    add("sequences", s.warp, distances=np.ones((2, 3)), rules=s.Warping())
    add("sequences", s.local_distances, one=np.ones((2, 2)), other=np.ones((3, 2)), weights=weights)
    add("sequences", s.dtw, one=np.ones((2, 2)), other=np.ones((3, 2)), rules=s.Warping(), weights=weights)
    matched: dict[str, Any] = {"probes": some, "gallery": some, "rules": s.Warping(), "weights": weights}
    add("sequences", s.pair_distances, **matched)
    add("sequences", s.lower_bounds, **matched)
    add("sequences", s.nearest, **matched, bounds=True)
    add("sequences", s.rank_curve, distances=np.ones((1, 2)), probes=np.array([0]), gallery=np.array([0, 1]))
    ranks = s.RankCurve(ranks=np.array([1]), identities=2)
    add("sequences", s.RankCurve, ranks=np.array([1]), identities=2)
    add("sequences", ranks.matches, "RankCurve.matches", rank=1)
    add("sequences", ranks.share, "RankCurve.share", rank=1, confidence=0.9)
    add("sequences", s.Gallery, sequences=some, design=w.design, seed=1, calibration=some, weights=weights, context=1,
        largest=2.0, norms="cells", faults=None, seconds=0.0)  # fmt: skip
    gallery = s.Gallery(some, w.design, seed=1)
    add("sequences", gallery.distances, "Gallery.distances", probes=some, rules=s.Warping(), first_vector=0)
    add("sequences", gallery.cost, "Gallery.cost", probes=some, rules=s.Warping(), hardware="isaac2016")
