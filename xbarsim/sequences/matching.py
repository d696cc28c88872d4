"""Distances of many sequences, and the nearest one of a gallery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_memory
from xbarsim.sequences.bounds import lower_bounds
from xbarsim.sequences.kernels import search, squared_distances, warp_gallery
from xbarsim.sequences.ragged import Sequences, check_alike
from xbarsim.sequences.time_shift import TimeShift
from xbarsim.sequences.warping import Warping, check_weights

__all__ = ["Nearest", "nearest", "pair_distances", "scaled", "warp_all"]

FloatArray = npt.NDArray[np.float64]

Rules = Warping | TimeShift


def scaled(sequences: Sequences, weights: npt.ArrayLike | None) -> FloatArray:
    """All frames as float64 (frames, channels), so that squared distances carry the weights of the channels."""
    values = sequences.values.astype(np.float64)
    return values if weights is None else values * np.sqrt(check_weights(weights, sequences.channels))


def warp_all(
    locals_of_probes: Iterable[FloatArray], probes: int, offsets: npt.NDArray[np.int64], rules: Rules
) -> tuple[FloatArray, npt.NDArray[np.int64]]:
    """Distances of probes and a gallery from those of their frames, and the shifts they are found at.

    Parameters
    ----------
    locals_of_probes
        One matrix a probe: its frames by all frames of the gallery.
    probes
        How many probes there are.
    offsets
        Where the sequences of the gallery begin, and where the last ends.
    rules
        Of the alignments.

    Returns
    -------
    distances, shifts
        float64 and int64 (probes, sequences of the gallery).
    """
    count = len(offsets) - 1
    check_memory("probes", f"{probes} against {count} sequences", 16 * probes * count)
    distances, shifts = np.empty((probes, count)), np.zeros((probes, count), np.int64)
    for number, local in enumerate(locals_of_probes):
        warp_gallery(local, offsets, *rules.arguments, *rules.shifts, distances[number], shifts[number])
    return distances, shifts


@entrance
def pair_distances(
    probes: Sequences,
    gallery: Sequences,
    rules: Warping | TimeShift = Warping(),  # noqa: B008  a frozen value
    *,
    weights: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Distances of all probes and all sequences of a gallery, of squared Euclidean distances of frames.

    Parameters
    ----------
    probes, gallery
        Sequences of the same channels.
    rules
        Of the alignments: :class:`Warping` (DTW) or :class:`TimeShift` (TS-DTW).
    weights
        Of channels, see :func:`xbarsim.sequences.local_distances`.

    Returns
    -------
    numpy.ndarray
        float64 (probes, sequences of the gallery); infinite where the rules allow no alignment.

    Raises
    ------
    InputError
        If channels differ, or an argument is out of its bound.
    """
    check_alike("gallery", gallery, probes.channels)
    frames, columns = scaled(probes, weights), np.ascontiguousarray(scaled(gallery, weights).T)
    check_memory("gallery", f"{columns.shape[1]} frames", 8 * int(probes.lengths.max()) * columns.shape[1])
    local = np.empty((int(probes.lengths.max()), columns.shape[1]))

    def of_probe(number: int) -> FloatArray:
        own = frames[probes.offsets[number] : probes.offsets[number + 1]]
        squared_distances(own, columns, 0, local[: len(own)])
        return local[: len(own)]

    return warp_all(map(of_probe, range(len(probes))), len(probes), gallery.offsets, rules)[0]


@dataclass(frozen=True, kw_only=True, eq=False)
class Nearest:
    """The nearest sequence of a gallery to each probe.

    Attributes
    ----------
    index
        Its number, int64 (probes,); the first of equally near ones.
    distance
        float64 (probes,).
    warped
        How many sequences of the gallery were aligned for it; for the others a bound was enough. int64 (probes,).
    """

    index: npt.NDArray[np.int64]
    distance: npt.NDArray[np.float64]
    warped: npt.NDArray[np.int64]


@entrance
def nearest(
    probes: Sequences,
    gallery: Sequences,
    rules: Warping = Warping(),  # noqa: B008  a frozen value
    *,
    weights: npt.ArrayLike | None = None,
    bounds: bool = True,
) -> Nearest:
    """Find the nearest sequence of a gallery to each probe (1-NN), and align only those that can be it.

    Parameters
    ----------
    probes, gallery, rules, weights
        As :func:`pair_distances`.
    bounds
        Whether sequences are left out of which :func:`lower_bounds` says that they are farther than one that was found.
        The answer is the same without.

    Raises
    ------
    InputError
        If channels differ, an argument is out of its bound, or the rules allow no alignment of a probe with any
        sequence of the gallery.
    """
    check_alike("gallery", gallery, probes.channels)
    frames, columns = scaled(probes, weights), np.ascontiguousarray(scaled(gallery, weights).T)
    longest = int(gallery.lengths.max())
    check_memory("gallery", f"{longest} frames", 8 * int(probes.lengths.max()) * longest)
    index, warped = np.zeros(len(probes), np.int64), np.zeros(len(probes), np.int64)
    distance = np.zeros(len(probes))
    least = lower_bounds(probes, gallery, rules, weights=weights) if bounds else None
    for number in range(len(probes)):
        own = frames[probes.offsets[number] : probes.offsets[number + 1]]
        at_least = np.full(len(gallery), -np.inf) if least is None else least[number]
        order = np.argsort(at_least, kind="stable")
        found = search(own, columns, gallery.offsets, *rules.arguments, at_least, order, longest)
        index[number], distance[number], warped[number] = found
        if found[0] < 0:
            raise InputError(
                f"rules must allow an alignment of probe {number} ({len(own)} frames) with a sequence of the gallery "
                f"({gallery.lengths.min()} to {longest} frames), got {rules}"
            )
    return Nearest(index=index, distance=distance, warped=warped)
