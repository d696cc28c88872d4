"""Feature maps with 16 images side by side, as kernels take and give them."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels, memory
from xbarsim.foundation.validation import InputError

__all__ = ["BlockedMaps"]

Maps = npt.NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class BlockedMaps:
    """Feature maps of a batch in blocks of 16 images, whose numbers stand side by side.

    Between two layers maps need not be turned over into images and back, which would take as long as a small layer
    computes. What is done with them here gives the same numbers as torch does, bit for bit.

    Attributes
    ----------
    values
        float32, shape ``(blocks, channels, height, width, 16)``; it is never written to again. Lanes of the last block
        beyond the images hold anything.
    images
        How many there are.
    rectified
        Whether negative numbers stand for zeros: whoever reads the values puts zeros there.
    margin
        Rows and columns of zeros in `values`, on each side of a map: the padding of a convolution stands there already.
    lanes
        How many images stand side by side, 16.

    Raises
    ------
    InputError
        If `values` are of another type or have other dimensions: kernels would read their bytes as float32.
    """

    values: Maps
    images: int
    rectified: bool = False
    margin: int = 0
    lanes: ClassVar[int] = kernels.LANES

    def __post_init__(self) -> None:
        if self.values.dtype != np.float32 or self.values.ndim != 5 or self.values.shape[4] != kernels.LANES:
            raise InputError(
                "values must be float32 of shape (blocks, channels, height, width, 16), got "
                f"{self.values.dtype} of shape {self.values.shape}"
            )

    @classmethod
    def of(cls, maps: Maps) -> BlockedMaps:
        """Feature maps ``(images, channels, height, width)``."""
        images, channels, height, width = maps.shape
        blocks = -(-images // kernels.LANES)
        values = memory.array((blocks, channels, height, width, kernels.LANES))
        kernels.block_maps(np.ascontiguousarray(maps), values)
        return cls(values, images)

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """``(images, channels, height, width)``, without margins."""
        _, channels, height, width, _ = self.values.shape
        return self.images, channels, height - 2 * self.margin, width - 2 * self.margin

    def bare(self) -> BlockedMaps:
        """The same without a margin."""
        everything = slice(None)
        return self.cut(everything, everything, everything) if self.margin else self

    def framed(self, margin: int) -> BlockedMaps:
        """The same with a margin at least as large."""
        if self.margin >= margin:
            return self
        wider = self.padded((0, 0), (margin, margin), (margin, margin))
        return replace(wider, margin=margin)

    def plain(self) -> Maps:
        """The maps as an array of :attr:`shape`."""
        maps = memory.array(self.shape)
        kernels.unblock_maps(self.bare().values, self.rectified, maps)
        return maps

    def relu(self) -> BlockedMaps:
        """The same with zeros in the place of negative numbers."""
        return replace(self, rectified=True)

    def plus(self, other: BlockedMaps) -> BlockedMaps:
        """The sum of both, number by number."""
        margin = max(self.margin, other.margin)
        left, right = self.framed(margin), other.framed(margin)
        values = memory.array(left.values.shape)
        flat = (each.values.reshape(-1) for each in (left, right))
        kernels.add_maps(*flat, left.rectified, right.rectified, values.reshape(-1))
        return BlockedMaps(values, self.images, margin=margin)

    def largest(self, kernel: tuple[int, int], stride: tuple[int, int]) -> BlockedMaps:
        """The largest number of each window; windows lie within the maps."""
        _, _, height, width = self.shape
        size = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1)
        values = memory.array((*self.values.shape[:2], *size, kernels.LANES))
        kernels.largest_of_maps(self.values, self.margin, kernel, stride, values)
        # the largest of rectified numbers is that of the numbers, rectified
        return replace(self, values=values, margin=0)

    def cut(self, channels: slice, rows: slice, columns: slice) -> BlockedMaps:
        """A copy of these channels, rows and columns, of which there are some; steps are positive."""
        _, *size, _ = self.values.shape
        margins = (0, self.margin, self.margin)
        chosen = [
            range(each - 2 * margin)[part]
            for each, margin, part in zip(size, margins, (channels, rows, columns), strict=True)
        ]
        count = (len(chosen[0]), len(chosen[1]), len(chosen[2]))
        values = memory.array((len(self.values), *count, kernels.LANES))
        begin = [part.start + margin for part, margin in zip(chosen, margins, strict=True)]
        step = [part.step for part in chosen]
        kernels.copy_maps(self.values, tuple(begin), tuple(step), count, 0, kernels.Frame(0, 0), values)
        return replace(self, values=values, margin=0)

    def padded(self, channels: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> BlockedMaps:
        """With so many channels, rows and columns of zeros before and behind."""
        _, *size, _ = self.values.shape
        count = (size[0], size[1] - 2 * self.margin, size[2] - 2 * self.margin)
        (before, behind), (above, below), (left, right) = channels, rows, columns
        values = memory.array(
            (len(self.values), before + count[0] + behind, above + count[1] + below, left + count[2] + right,
             kernels.LANES)
        )  # fmt: skip
        begin = (0, self.margin, self.margin)
        kernels.copy_maps(self.values, begin, (1, 1, 1), count, before, kernels.Frame(above, left), values)
        return replace(self, values=values, margin=0)

    def count_outside(self, below: np.float32, above: np.float32) -> int:
        """How many numbers are less than `below`, or `above` or more."""
        below = np.float32(-np.inf) if self.rectified and below <= 0.0 else below
        values = self.bare().values
        whole = self.images // kernels.LANES
        counted = int(kernels.count_outside(values[:whole].reshape(-1), below, above))
        if whole < len(values):
            lanes = values[-1, ..., : self.images - whole * kernels.LANES]
            counted += int(kernels.count_outside(np.ascontiguousarray(lanes).reshape(-1), below, above))
        return counted
