"""What a test of a die finds out about its faults: what is known is not always true."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from xbarsim.devices import FaultMap
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance, check_real

__all__ = ["Diagnosis"]


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """A test that finds each stuck cell with one probability, independently, and where it is stuck.

    Attributes
    ----------
    coverage
        That probability. At 1 the map is exact, at 0 nothing is known.

    Raises
    ------
    InputError
        If `coverage` is outside [0, 1].
    """

    coverage: float = 1.0

    def __post_init__(self) -> None:
        object.__setattr__(self, "coverage", check_real("coverage", self.coverage, at_least=0.0, at_most=1.0))

    @entrance
    def known(self, faults: FaultMap, rng: np.random.Generator) -> FaultMap:
        """The faults that are found.

        Parameters
        ----------
        faults
            Those that are there.
        rng
            Source of the misses; in the same state, a test of higher coverage finds all that one of lower does.
        """
        check_instance("faults", faults, FaultMap)
        check_instance("rng", rng, np.random.Generator)
        hit = rng.random(len(faults)) < self.coverage
        return FaultMap(
            shape=faults.shape,
            index=faults.index[hit],
            kind=faults.kind[hit],
            value=faults.value[hit],
            note=faults.note,
        )
