"""Dynamic time warping of many pairs of sequences, beside an established package."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import numpy as np

from xbarsim.data import load_sequences
from xbarsim.sequences import Sequences, pair_distances

__all__ = ["all_pairs"]

_PACKAGE = "dtaidistance"
_TOLERANCE = 1e-12  # relative


def all_pairs() -> tuple[Callable[[], Any], Callable[[], Any], str, str]:
    """All probes of JapaneseVowels against all sequences of its gallery, on one thread.

    Returns
    -------
    ours, baseline, against, check
        What is timed, what the baseline is, and what was checked. Without the data folder, random sequences of the same
        lengths; without the package, the baseline is one pair after the other by this project's own functions, which
        says nothing of others.
    """
    probes, gallery, what = _sequences()
    count = len(probes)

    def ours() -> Any:
        return pair_distances(probes, gallery)

    found = ours()
    cells = int(probes.lengths.sum() * gallery.lengths.sum())
    what = f"{what}: {count} x {len(gallery)} pairs, {cells / 1e6:.1f} M cells of 12 channels"
    if importlib.util.find_spec(_PACKAGE) is None:
        message = f"{what}; {_PACKAGE} is NOT installed: nothing was compared (pip install 'xbarsim[test]')"
        return ours, ours, "itself: no package", message
    import dtaidistance
    from dtaidistance import dtw_ndim

    both = [np.ascontiguousarray(each) for each in (*probes, *gallery)]
    block = ((0, count), (count, len(both)))

    def theirs() -> Any:
        return dtw_ndim.distance_matrix_fast(both, block=block, parallel=False)

    expected = theirs()[:count, count:] ** 2  # it takes the square root
    worst = float((np.abs(found - expected) / np.maximum(expected, 1e-300)).max())
    if worst > _TOLERANCE:
        raise AssertionError(f"distances differ from {_PACKAGE} by {worst:.1e}")
    version = f"{_PACKAGE} {dtaidistance.__version__}"
    return ours, theirs, version, f"{what}; all within {worst:.1e} of {version}"


def _sequences() -> tuple[Sequences, Sequences, str]:
    try:
        found = load_sequences("JapaneseVowels", standardise=True)
    except FileNotFoundError:
        rng = np.random.default_rng(1)
        probes, gallery = (
            Sequences.of([rng.normal(size=(length, 12)) for length in rng.integers(7, 30, count)])
            for count in (370, 270)
        )
        return probes, gallery, "random sequences (no data folder)"
    return found.probes, found.gallery, "JapaneseVowels"
