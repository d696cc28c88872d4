"""For each group of filters and channels one kernel shape of a given few."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.kernel_shapes import KernelShapes
from xbarsim.compress.targets.selection import check_matrix, energies_of, kept_count
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer

__all__ = ["SHAPES_3X3", "RigidShapes", "choose_shapes"]

_LARGEST = 2**31  # filters or channels: no layer has more
_MOST_STATES = 2**28  # groups times positions that are looked at: a byte each

SHAPES_3X3 = (
    "000010000",  # the middle
    *("000111000", "010010010", "100010001", "001010100"),  # lines through it
    *("110110000", "011011000", "000110110", "000011011"),  # squares of 2 x 2
    "010111010",  # the plus
    *("111111000", "000111111", "110110110", "011011011"),  # two rows, two columns
    "111111111",
)
"""Fifteen shapes of a 3 x 3 kernel, row by row: ours, for the publication's are not known."""


def choose_shapes(scores: npt.NDArray[np.float64], sizes: npt.NDArray[np.int64], most: int) -> npt.NDArray[np.int64]:
    """One shape for each group, so that the scores are the largest in sum, of no more positions than may stay.

    Exact, by dynamic programming over groups and positions; of equal sums the one with the fewest positions.

    Parameters
    ----------
    scores
        What each shape is worth to each group, (groups, shapes).
    sizes
        Positions of each shape, >= 1.
    most
        Positions that may stay, of all groups together; at least those of the smallest shape in each.

    Returns
    -------
    numpy.ndarray
        The number of each group's shape, int64 (groups,).

    Raises
    ------
    InputError
        If there are too many groups.
    """
    groups, states = len(scores), most + 1
    if groups * states > _MOST_STATES:
        raise InputError(
            f"group_filters and group_channels must leave at most {_MOST_STATES} groups x positions that stay, "
            f"got {groups} x {most}"
        )
    best = np.full(states, -np.inf)  # of all groups so far, with exactly so many positions
    best[0] = 0.0
    chosen = np.zeros((groups, states), dtype=np.uint8)
    # of shapes of one size only the best can be chosen; of equal ones the first
    by_size = [np.flatnonzero(sizes == size) for size in np.unique(sizes[sizes < states])]
    for group, row in enumerate(scores):
        following = np.full(states, -np.inf)
        for shapes in by_size:
            shape = shapes[row[shapes].argmax()]
            size = int(sizes[shape])
            sums = best[: states - size] + row[shape]
            better = sums > following[size:]
            following[size:][better] = sums[better]
            chosen[group, size:][better] = shape
        best = following
    found = np.zeros(groups, dtype=np.int64)
    state = int(best.argmax())
    for group in reversed(range(groups)):
        found[group] = chosen[group, state]
        state -= int(sizes[found[group]])
    return found


@dataclass(frozen=True, kw_only=True)
class RigidShapes(Target):
    """For each group of filters and channels one kernel shape of a given few.

    The rigid variant of learnable heterogeneous convolution (Neural Networks 2021, doi:10.48550/arXiv.2301.05440): to
    say which shape a group has takes the bits of its number, 4 for fifteen of them, where free positions
    (:class:`KernelShapes`) take 9.

    Parameters
    ----------
    group_filters
        Filters that share a shape; ``Mapping.outputs_per_tile`` suits a crossbar.
    group_channels
        Channels that share it. Groups at the edges are smaller.
    keep
        The largest share of the positions of all groups that stays; with the shapes there are, it may be less. Each
        group has a shape, so that it may be more where the smallest ones are.
    shapes
        The shapes, each a text of as many ``0`` and ``1`` as the kernel has positions, row by row; at most 255, one
        of them the whole kernel. Those of :data:`SHAPES_3X3` unless given.

    Raises
    ------
    InputError
        If a value is out of its bound, or a shape is none.
    """

    group_filters: int
    group_channels: int
    keep: float
    shapes: tuple[str, ...] = SHAPES_3X3

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("group_filters", "group_channels"):
            check_integer(name, getattr(self, name), at_least=1, at_most=_LARGEST)
        check_instance("shapes", self.shapes, tuple)
        for number, shape in enumerate(self.shapes):
            check_instance(f"shapes[{number}]", shape, str)
            if not shape or set(shape) - {"0", "1"} or "1" not in shape or len(shape) != len(self.shapes[0]):
                raise InputError(
                    f"shapes[{number}] must be a text of 0 and 1 with a 1, as long as the others, got {shape!r}"
                )
            if self.shapes.index(shape) != number:
                raise InputError(f"shapes[{number}] must be another than those before it, got {shape!r}")
        if not 1 <= len(self.shapes) <= 255:
            raise InputError(f"shapes must be 1 to 255 shapes, got {len(self.shapes)}")
        if not any("0" not in shape for shape in self.shapes):
            raise InputError(f"shapes must have one of the whole kernel, got {self.shapes!r}")

    @property
    def kernel(self) -> int:
        """Positions of the kernel."""
        return len(self.shapes[0])

    @entrance
    def table(self, device: torch.device | None = None) -> Tensor:
        """The shapes, bool (shapes, positions of the kernel)."""
        return torch.tensor([[position == "1" for position in shape] for shape in self.shapes], device=device)

    def _free(self) -> KernelShapes:
        return KernelShapes(
            kernel=self.kernel, group_filters=self.group_filters, group_channels=self.group_channels, keep=self.keep
        )

    @entrance
    def places(self, shape: tuple[int, int], device: torch.device | None = None) -> tuple[Tensor, int]:
        """Where each weight of a matrix (filters, positions) stands.

        Returns
        -------
        torch.Tensor, int
            Its group times the positions of the kernel, plus its position, int64 (filters, positions); and how many
            groups there are, counted along the channels, then the filters.
        """
        filters = torch.arange(shape[0], device=device) // self.group_filters
        positions = torch.arange(shape[1], device=device)
        channels = positions // self.kernel // self.group_channels
        across = int(channels[-1]) + 1
        place = (filters[:, None] * across + channels) * self.kernel + positions % self.kernel
        return place, (int(filters[-1]) + 1) * across

    @entrance
    def most(self, groups: int) -> int:
        """How many positions of so many groups may stay."""
        smallest = min(shape.count("1") for shape in self.shapes)
        return max(kept_count(self.keep, groups * self.kernel), groups * smallest)

    @entrance
    def spread(self, chosen: Tensor, shape: tuple[int, int]) -> Tensor:
        """The mask of a matrix (filters, positions) whose groups have the shapes of these numbers, int64 (groups,)."""
        place, _ = self.places(shape, chosen.device)
        return self.table(chosen.device)[chosen].flatten()[place]

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The shapes that hold the largest squared norm together."""
        check_matrix(matrix, among)
        size = (matrix.shape[0], matrix.shape[1])
        place, groups = self.places(size, matrix.device)
        if self.most(groups) >= groups * self.kernel:
            mask = torch.ones_like(matrix, dtype=torch.bool)
        else:
            energies = torch.zeros(groups * self.kernel, dtype=torch.float64, device=matrix.device)
            energies.index_add_(0, place.flatten(), energies_of(matrix, among).flatten())
            table = self.table(matrix.device).to(torch.float64)
            scores = energies.reshape(groups, self.kernel) @ table.T
            chosen = choose_shapes(scores.cpu().numpy(), table.sum(dim=1).long().cpu().numpy(), self.most(groups))
            mask = self.spread(torch.from_numpy(chosen).to(matrix.device), size)
        return mask if among is None else mask & among

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Those of the shape with the fewest in every group, and of as many of the largest positions as may stay."""
        place, groups = self.places(shape)
        sizes = torch.bincount(place.flatten(), minlength=groups * self.kernel).reshape(groups, self.kernel)
        most = self.most(groups)
        if most >= groups * self.kernel:
            return shape[0] * shape[1], shape[0] * shape[1]
        fewest = (sizes @ self.table().long().T).min(dim=1).values.sum()
        return int(fewest), int(sizes.flatten().sort(descending=True).values[:most].sum())

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells, and drivers of their rows."""
        return self._free().frees(kind)

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """The number of each group's shape."""
        return self.places(shape)[1] * math.ceil(math.log2(len(self.shapes)))

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the positions of each group."""
        return self._free().norms(matrix)
