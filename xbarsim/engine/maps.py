"""Feature maps with 16 images side by side, as kernels take and give them."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels, memory

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
    """

    values: Maps
    images: int
    rectified: bool = False

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
        """``(images, channels, height, width)``."""
        _, channels, height, width, _ = self.values.shape
        return self.images, channels, height, width

    def plain(self) -> Maps:
        """The maps as an array of :attr:`shape`."""
        maps = memory.array(self.shape)
        kernels.unblock_maps(self.values, self.rectified, maps)
        return maps

    def relu(self) -> BlockedMaps:
        """The same with zeros in the place of negative numbers."""
        return replace(self, rectified=True)

    def plus(self, other: BlockedMaps) -> BlockedMaps:
        """The sum of both, number by number."""
        values = memory.array(self.values.shape)
        flat = (each.reshape(-1) for each in (self.values, other.values))
        kernels.add_maps(*flat, self.rectified, other.rectified, values.reshape(-1))
        return BlockedMaps(values, self.images)

    def largest(self, kernel: tuple[int, int], stride: tuple[int, int]) -> BlockedMaps:
        """The largest number of each window; windows lie within the maps."""
        _, _, height, width = self.shape
        size = ((height - kernel[0]) // stride[0] + 1, (width - kernel[1]) // stride[1] + 1)
        values = memory.array((*self.values.shape[:2], *size, kernels.LANES))
        kernels.largest_of_maps(self.values, kernel, stride, values)
        return replace(self, values=values)  # the largest of rectified numbers is that of the numbers, rectified

    def cut(self, channels: slice, rows: slice, columns: slice) -> BlockedMaps:
        """A copy of these channels, rows and columns, of which there are some; steps are positive."""
        chosen = self.values[:, channels, rows, columns]
        values = memory.array(chosen.shape)
        values[...] = chosen
        return replace(self, values=values)

    def padded(self, channels: tuple[int, int], rows: tuple[int, int], columns: tuple[int, int]) -> BlockedMaps:
        """With so many channels, rows and columns of zeros before and behind."""
        _, *size, _ = self.values.shape
        around = (channels, rows, columns)
        values = memory.array(
            (len(self.values), *(before + each + behind for (before, behind), each in zip(around, size, strict=True)),
             kernels.LANES)
        )  # fmt: skip
        values[...] = 0.0
        inside = tuple(slice(before, before + each) for (before, _), each in zip(around, size, strict=True))
        values[(slice(None), *inside)] = self.values
        return replace(self, values=values)

    def count_outside(self, below: np.float32, above: np.float32) -> int:
        """How many numbers are less than `below`, or `above` or more."""
        below = np.float32(-np.inf) if self.rectified and below <= 0.0 else below
        whole = self.images // kernels.LANES
        counted = int(kernels.count_outside(self.values[:whole].reshape(-1), below, above))
        if whole < len(self.values):
            lanes = self.values[-1, ..., : self.images - whole * kernels.LANES]
            counted += int(kernels.count_outside(np.ascontiguousarray(lanes).reshape(-1), below, above))
        return counted
