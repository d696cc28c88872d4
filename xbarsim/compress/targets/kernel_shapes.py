"""Positions of the kernel that groups of filters and channels share."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.compress.targets.base import Resource, Target
from xbarsim.compress.targets.selection import check_matrix, choose, energies_of, kept_count
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_integer

__all__ = ["KernelShapes", "kernel_groups", "kernel_shape_mask"]

_LARGEST = 2**31  # positions, filters or channels: no layer has more


def kernel_groups(
    shape: tuple[int, int], *, kernel: int, group_filters: int, group_channels: int, device: torch.device | None = None
) -> tuple[Tensor, Tensor]:
    """Which group each weight belongs to, and how large the groups are.

    Parameters
    ----------
    shape
        (filters, positions) of the matrix, whose positions are those of the kernel, channel after channel.
    kernel
        Positions of the kernel: 9 for 3 x 3.
    group_filters, group_channels
        As in :class:`KernelShapes`.
    device
        Where the tensors are.

    Returns
    -------
    torch.Tensor, torch.Tensor
        Numbers of groups, int64 (filters, positions), and weights of each group, int64 (groups,). Groups are counted
        along the positions of the kernel, then the channels, then the filters.
    """
    filters = torch.arange(shape[0], device=device) // group_filters
    positions = torch.arange(shape[1], device=device)
    channels = positions // kernel // group_channels
    number = (filters[:, None] * (int(channels[-1]) + 1) + channels) * kernel + positions % kernel
    _, groups, sizes = torch.unique(number, return_inverse=True, return_counts=True)  # those that hold no weight go
    return groups, sizes


@entrance
def kernel_shape_mask(
    matrix: Tensor,
    keep: float,
    *,
    kernel: int,
    group_filters: int,
    group_channels: int,
    among: Tensor | None = None,
) -> Tensor:
    """Keep positions of the kernel, the same ones for all filters and channels of a group.

    Parameters
    ----------
    matrix, among
        As in :func:`~xbarsim.compress.unstructured_mask`.
    keep
        Share of the *positions of all groups* that stays, in (0, 1]: some groups may keep more of theirs than others.
        One of a smaller group at an edge counts as one although it holds fewer weights.
    kernel, group_filters, group_channels
        As in :class:`KernelShapes`.

    Returns
    -------
    torch.Tensor
        Bool of the same shape; the nearest of its structure.

    Raises
    ------
    InputError
        As :func:`~xbarsim.compress.unstructured_mask`, or if a size is below 1.
    """
    check_matrix(matrix, among)
    for name, value in (("kernel", kernel), ("group_filters", group_filters), ("group_channels", group_channels)):
        check_integer(name, value, at_least=1, at_most=_LARGEST)
    groups, sizes = kernel_groups(
        (matrix.shape[0], matrix.shape[1]), kernel=kernel, group_filters=group_filters, group_channels=group_channels,
        device=matrix.device,
    )  # fmt: skip
    flat = groups.flatten()
    energies = torch.zeros(len(sizes), dtype=torch.float64, device=matrix.device)
    energies.index_add_(0, flat, energies_of(matrix, among).flatten())
    available = None
    if among is not None:
        available = torch.zeros_like(energies).index_add_(0, flat, among.flatten().to(torch.float64)) > 0
    mask = choose(energies, keep, available)[groups]
    return mask if among is None else mask & among


@dataclass(frozen=True, kw_only=True)
class KernelShapes(Target):
    """Positions of the kernel that all filters and channels of a group share: its shape.

    The structure of heterogeneous convolution (learnable kernels, Neural Networks 2021,
    doi:10.48550/arXiv.2301.05440). With as many filters a group as a tile has outputs, each position that goes frees
    `group_channels` rows of the tile, and which ones costs `kernel` bits a group: the cheapest index of all structures.

    Parameters
    ----------
    kernel
        Positions of the kernel, 9 for 3 x 3: that many columns of the matrix belong to one channel.
    group_filters
        Filters that share a shape; ``Mapping.outputs_per_tile`` suits a crossbar.
    group_channels
        Channels that share it. Groups at the edges are smaller.
    keep
        Share of the positions of all groups that stays.
    """

    kernel: int
    group_filters: int
    group_channels: int
    keep: float

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("kernel", "group_filters", "group_channels"):
            check_integer(name, getattr(self, name), at_least=1, at_most=_LARGEST)

    @entrance
    def mask(self, matrix: Tensor, *, among: Tensor | None = None) -> Tensor:
        """The positions of the largest norm: :func:`kernel_shape_mask`."""
        return kernel_shape_mask(matrix, **dict(self._fields()), among=among)

    @entrance
    def groups(self, shape: tuple[int, int], device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """Which group each weight of a matrix belongs to, and how large they are: :func:`kernel_groups`."""
        return kernel_groups(
            shape, kernel=self.kernel, group_filters=self.group_filters, group_channels=self.group_channels,
            device=device,
        )  # fmt: skip

    @entrance
    def kept_weights(self, shape: tuple[int, int]) -> tuple[int, int]:
        """All weights of that share of the positions, if the smallest stay, and if the largest do."""
        sizes = sorted(self.groups(shape)[1].tolist())
        count = kept_count(self.keep, len(sizes))
        return sum(sizes[:count]), sum(sizes[-count:])

    @entrance
    def index_bits(self, shape: tuple[int, int]) -> int:
        """One for each position of the kernel of each group."""
        return len(self.groups(shape)[1])

    @entrance
    def frees(self, kind: int) -> tuple[Resource, ...]:
        """Cells, and drivers of their rows."""
        return ("cells", "drivers")

    @entrance
    def norms(self, matrix: Tensor) -> tuple[Tensor, ...]:
        """Norms of the positions of each group."""
        groups, sizes = self.groups((matrix.shape[0], matrix.shape[1]), matrix.device)
        width = int(sizes.max())
        order = groups.flatten().argsort(stable=True)  # weights of one group side by side, filled up with zeros
        place = torch.arange(len(order), device=matrix.device) - (sizes.cumsum(0) - sizes).repeat_interleave(sizes)
        padded = torch.zeros(len(sizes), width, dtype=matrix.dtype, device=matrix.device)
        row = torch.arange(len(sizes), device=matrix.device).repeat_interleave(sizes)
        padded = padded.index_put((row, place), matrix.flatten()[order])
        return (torch.linalg.vector_norm(padded, dim=1),)
