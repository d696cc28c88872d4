"""How large full scale should be where cells get stuck: what stuck cells cost grows with it, what is clipped falls."""

from __future__ import annotations

from collections.abc import Mapping as MappingType
from dataclasses import replace

import numpy as np
import numpy.typing as npt

from xbarsim.devices import FaultKind
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_array
from xbarsim.mapping import Mapping
from xbarsim.mitigation.closest_cells import closest_cells

__all__ = ["best_clip", "fault_power"]

FloatArray = npt.NDArray[np.float64]

_QUANTILES = (1.0, 0.999, 0.998, 0.997, 0.995, 0.99, 0.985, 0.98, 0.97, 0.96, 0.95, 0.93, 0.9)


@entrance
def fault_power(mapping: Mapping, rates: MappingType[FaultKind, float]) -> FloatArray:
    """Expected squared error that stuck cells cause in a weight, for each code: to first order in the rates.

    Every cell of the weight that is stuck moves it by what the cell counts times the levels it is off; two stuck cells
    of one weight are left out. For one pair of cells and w in units of full scale that is

    - two columns: ``p_on (1 + (1 - |w|)^2) + p_off w^2``,
    - differential: the same with `p_on` and `p_off` exchanged.

    Parameters
    ----------
    mapping
        Encoding and bits.
    rates
        Probability of stuck-on and stuck-off cells.

    Returns
    -------
    ndarray
        In squares of codes, by code from -Q to Q, shape ``(2 Q + 1,)``.

    Raises
    ------
    InputError
        If cells are stuck elsewhere than at their ends.
    """
    if rates.get(FaultKind.STUCK_AT, 0.0):
        raise InputError(
            f"rates must be of stuck-on and stuck-off cells, got {rates[FaultKind.STUCK_AT]} stuck between"
        )
    codes = np.arange(-mapping.max_weight, mapping.max_weight + 1)
    levels = mapping.encoding.encode(codes, mapping.weight_bits, mapping.cell_bits).reshape(len(codes), -1)
    held, counts = levels.astype(np.float64), closest_cells(mapping).counts
    on, off = rates.get(FaultKind.STUCK_ON, 0.0), rates.get(FaultKind.STUCK_OFF, 0.0)
    result: FloatArray = (counts**2 * (on * (mapping.max_level - held) ** 2 + off * held**2)).sum(axis=1)
    return result


@entrance
def best_clip(weights: npt.ArrayLike, mapping: Mapping, rates: MappingType[FaultKind, float]) -> float:
    """The quantile of the magnitudes that is the best full scale: least clipping, rounding and stuck cells together.

    Parameters
    ----------
    weights
        Floating, shape ``(inputs, outputs)``.
    mapping
        Encoding, bits, and whether there is a scale for each output.
    rates
        Probability of stuck-on and stuck-off cells; nothing else needs to be known of a die.

    Returns
    -------
    float
        For :attr:`xbarsim.mapping.Mapping.weight_clip`; 1 where clipping does not pay.

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> weights = rng.standard_t(4, (256, 16))
    >>> best_clip(weights, Mapping(), {FaultKind.STUCK_ON: 0.02}), best_clip(weights, Mapping(), {})
    (0.9, 1.0)
    """
    matrix = check_array("weights", weights, dimensions=2, kind="floating").astype(np.float64)
    power = fault_power(mapping, rates)

    def harm(clip: float) -> float:
        made = replace(mapping, weight_clip=clip).quantise(matrix)
        stuck = power[made.codes + mapping.max_weight] * made.scale**2
        return float((stuck + (made.dequantise() - matrix) ** 2).sum())

    return min(_QUANTILES, key=harm)
