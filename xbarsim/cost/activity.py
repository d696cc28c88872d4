"""How much of what it could drive and read a layer drives and reads, as its inputs are."""

from __future__ import annotations

from dataclasses import dataclass, fields

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import check_real

__all__ = ["Activity"]


@dataclass(frozen=True, kw_only=True)
class Activity:
    """Shares of what happens for one input vector, each in [0, 1]: means over the inputs that were looked at.

    Attributes
    ----------
    inputs
        Inputs that are not 0: the *input activity* of a layer.
    drives
        Word lines that are driven with a code other than 0, over all passes and planes.
    reads
        Reads with at least one driven word line, over all arrays, passes, planes and row groups.
    conversions
        The same, each read counted with the conversions that it takes.
    steps
        Steps (a plane of a pass to a group of rows, of all arrays at once) in which at least one array is read.

    Raises
    ------
    InputError
        If a share is not in [0, 1].
    """

    inputs: float
    drives: float
    reads: float
    conversions: float
    steps: float

    def __post_init__(self) -> None:
        check_fields(self)
        for field in fields(self):
            share = check_real(field.name, getattr(self, field.name), at_least=0.0, at_most=1.0)
            object.__setattr__(self, field.name, share)
