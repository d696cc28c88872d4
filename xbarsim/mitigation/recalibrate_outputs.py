"""The outputs of each layer are brought back to the mean and the spread that they should have."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import check_real
from xbarsim.mitigation.base import Mitigation, Needs, OutputAdjustment, OutputStatistics

__all__ = ["RecalibrateOutputs"]


@dataclass(frozen=True, kw_only=True)
class RecalibrateOutputs(Mitigation):
    """Give every output of a layer the mean and the variance on the die that it has on an ideal one.

    Some unlabelled images are run through the die, layer by layer, each fed by layers that are adjusted already, and
    through an ideal die. Each output then becomes ``(output - mean on the die) * sqrt(ideal variance / variance on the
    die) + ideal mean``: a gain and an offset, which the layer's scale and bias absorb. On a die without errors nothing
    changes, bit for bit. Where a batch norm follows, this is to move its statistics by as much as the die has moved
    them, relative to an ideal die; to estimate them anew costs accuracy on a sound die, because they were trained on
    augmented images.

    That statistics of batch norm are updated on a chip is known (V. Joshi et al., Nature Communications 11, 2473
    (2020), doi:10.1038/s41467-020-16108-9, and US patent 11,714,727); relative to an ideal die it is this project's.

    Attributes
    ----------
    largest_gain
        The gain is held between one over this and this: an output that hardly moves any more cannot be brought back.

    Raises
    ------
    InputError
        If `largest_gain` is below 1.
    """

    needs: ClassVar[Needs] = "images"
    stage: ClassVar[int | None] = None

    largest_gain: float = 10.0

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "largest_gain", check_real("largest_gain", self.largest_gain, at_least=1.0))

    def adjust(self, ideal: OutputStatistics, die: OutputStatistics) -> OutputAdjustment | None:
        """Gain and offset of each output, as :class:`RecalibrateOutputs` describes."""
        moving = (ideal.variance > 0) & (die.variance > 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            gain = np.where(moving, np.sqrt(ideal.variance / die.variance), 1.0)
        gain = np.clip(gain, 1.0 / self.largest_gain, self.largest_gain)
        return OutputAdjustment(gain=gain, offset=ideal.mean - gain * die.mean)
