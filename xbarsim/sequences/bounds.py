"""What a distance by dynamic time warping is at least, without an alignment."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_memory
from xbarsim.sequences.kernels import envelope_bounds
from xbarsim.sequences.ragged import Sequences, check_alike
from xbarsim.sequences.warping import Warping, check_weights

__all__ = ["lower_bounds"]


@entrance
def lower_bounds(
    probes: Sequences,
    gallery: Sequences,
    rules: Warping = Warping(),  # noqa: B008  a frozen value
    *,
    weights: npt.ArrayLike | None = None,
) -> npt.NDArray[np.float64]:
    """Keogh's lower bound of all distances (LB_Keogh), for sequences of several channels and of different lengths.

    Every frame of a probe is aligned with some frame of the other sequence inside the window, and weighs one at least:
    so it adds no less than its squared distance to the box around all frames there. Distances per step are divided by
    the longest alignment, n + m - 1 cells, or by n + m for weighted steps.

    Parameters
    ----------
    probes, gallery, rules, weights
        As :func:`xbarsim.sequences.pair_distances`.

    Returns
    -------
    numpy.ndarray
        float64 (probes, sequences of the gallery), each <= the distance; infinite where the window lets a frame of the
        probe meet none.

    References
    ----------
    E. Keogh and C. A. Ratanamahatana, Exact indexing of dynamic time warping, Knowledge and Information Systems 7, 358
    (2005), https://doi.org/10.1007/s10115-004-0154-9; the box of several channels: T. M. Rath and R. Manmatha,
    Lower-bounding of dynamic time warping distances for multivariate time series, University of Massachusetts, 2003.
    """
    check_alike("gallery", gallery, probes.channels)
    scale = np.ones(probes.channels) if weights is None else np.sqrt(check_weights(weights, probes.channels))
    frames = probes.values * scale
    columns = np.ascontiguousarray((gallery.values * scale).T)
    check_memory("probes", f"{len(probes)} against {len(gallery)} sequences", 8 * len(probes) * len(gallery))
    bounds = np.empty((len(probes), len(gallery)))
    _, radius, slope, per_step = rules.arguments
    for number in range(len(probes)):
        own = frames[probes.offsets[number] : probes.offsets[number + 1]]
        envelope_bounds(own, columns, gallery.offsets, radius, slope, bounds[number])
        if per_step:
            bounds[number] /= len(own) + gallery.lengths - (1 if rules.steps == "symmetric1" else 0)
    return bounds
