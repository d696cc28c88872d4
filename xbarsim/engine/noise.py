"""Read noise of a layer, drawn by image number."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine.reference import held_variances, hold
from xbarsim.foundation.entrances import check_fields

__all__ = ["Noise"]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Noise:
    """Read noise of one layer of one die.

    Parameters
    ----------
    spread
        Standard deviation of each cell's conductance at one read, in level units, shape ``(tiles, rows, columns)``.
    key
        Key of the counter-based generator that the draws of image n come from; they depend on the key and n alone.
    linear, constant
        Variance that each cell of a driven row adds for each unit of its plane code, and whatever its code, in level
        units squared, of the same shape; ``None`` for none.
    """

    spread: Array
    key: int
    linear: Array | None = None
    constant: Array | None = None

    def __post_init__(self) -> None:
        check_fields(self)

    def coefficients(self) -> list[tuple[int, FloatArray]]:
        """Each cell's variance as a polynomial of its plane code: powers and coefficients, as they are held."""
        lower = [(power, hold(term)) for power, term in ((1, self.linear), (0, self.constant)) if term is not None]
        return [(2, held_variances(self.spread)), *lower]

    def normals(self, image: int, shape: tuple[int, ...]) -> FloatArray:
        """Standard normal draws of one image."""
        bits = np.random.Philox(key=self.key, counter=[0, 0, 0, image])
        return np.random.Generator(bits).standard_normal(shape)
