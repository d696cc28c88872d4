"""What a packing decides: which rows and outputs of a matrix share a tile."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.foundation.validation import InputError

__all__ = ["PACKINGS", "IndexArray", "Packing", "chunks", "packing"]

IndexArray = npt.NDArray[np.int32]

#: The packings by name; a class with this base is entered when it is defined.
PACKINGS: dict[str, Packing] = {}


class Packing(metaclass=ABCMeta):
    """A way of cutting a matrix into blocks that fit a tile each, so that pruned weights take no cells.

    A new packing is one class with this base, a `name` and :meth:`blocks`; ``Mapping(pack=name)`` then finds it.
    :func:`xbarsim.testing.check_packing` tells whether it keeps its promises.

    Attributes
    ----------
    name : str
        What ``Mapping.pack`` calls it.
    """

    name: ClassVar[str]

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        known = PACKINGS.get(cls.name)
        if known is not None and (type(known).__module__, type(known).__qualname__) != (
            cls.__module__,
            cls.__qualname__,
        ):
            raise InputError(f"name must be one that no other packing has, got {cls.name!r}")
        PACKINGS[cls.name] = cls()

    @abstractmethod
    def blocks(
        self, nonzero: npt.NDArray[np.bool_], rows_per_tile: int, outputs_per_tile: int
    ) -> list[tuple[IndexArray, IndexArray]]:
        """Cut a matrix into blocks, one for each tile.

        Parameters
        ----------
        nonzero
            Where the matrix has weights, shape ``(inputs, outputs)``.
        rows_per_tile, outputs_per_tile
            What fits a tile.

        Returns
        -------
        list of tuple
            The logical rows and outputs of every tile, at most as many as fit, int32. Every weight stands in exactly
            one of them; outputs that none of them holds are 0.
        """


def chunks(indices: IndexArray, size: int) -> list[IndexArray]:
    """Cut `indices` into pieces of `size`, the last one shorter."""
    return [indices[start : start + size] for start in range(0, len(indices), size)]


def packing(name: str) -> Packing:
    """The packing of that name.

    Raises
    ------
    InputError
        If there is none.
    """
    if name not in PACKINGS:
        raise InputError(f"pack must be one of {', '.join(map(repr, PACKINGS))}, got {name!r}")
    return PACKINGS[name]
