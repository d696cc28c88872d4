"""Whole codes times whole weights: 16-bit factors two rows at a time, 32-bit sums."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BlockedProgram, driving, finishing
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.layout import Layout, merged
from xbarsim.engine.window import Scaling, Window

__all__ = ["PairProgram", "pair_misfit"]

Array = npt.NDArray[Any]

_HALF = 2**15 - 1  # largest factor
_SUM = 2.0**31  # sums stay below
_MOST_EMPTY = 1.5  # times as many products where all outputs have all rows, so that it still pays


def pair_misfit(layout: Layout) -> str | None:
    """Why a layout cannot be computed in pairs of 16-bit factors, in words; ``None`` where it can."""
    if layout.kind != "whole":
        return "inputs are cut into planes"
    if layout.noise is not None:
        return "reads are noisy"
    if not kernels.has_feature("avx2"):
        return "the processor has no AVX2"
    groups = merged(layout).columns
    if len(groups) != 1:
        return "values are not whole, or do not stand for themselves"
    if layout.inputs * layout.outputs > _MOST_EMPTY * sum(group.values.size for group in layout.columns):
        return "outputs have rows of their own"
    (group,) = groups
    whole = bool((group.values == np.rint(group.values)).all() and (group.counts == 1.0).all())
    if not whole or not np.array_equal(group.outputs, np.arange(layout.outputs)):
        return "values are not whole, or do not stand for themselves"
    largest = layout.drive.max_input
    if largest > _HALF or float(np.abs(group.values).max(initial=0.0)) > _HALF:
        return "factors have more than 16 bits"
    if float(np.abs(group.values).sum(axis=0).max(initial=0.0)) * largest >= _SUM:
        return "sums have more than 32 bits"
    return None


class _Pairs(BlockedProgram):
    """The layer for windows of one size: which channels are neighbours depends on it.

    Parameters
    ----------
    layout
        Of one group, whose rows are all inputs.
    area
        Rows of a channel.
    """

    dtype = np.int32
    scratch = np.int32
    slot_bytes: ClassVar[int] = 4
    kernel: ClassVar[str] = "pairs"

    def __init__(self, layout: Layout, area: int) -> None:
        (group,) = layout.columns
        channels = layout.inputs // area
        pairs = -(-channels // 2)
        dense = np.zeros((2 * pairs * area, layout.outputs), np.int64)
        dense[group.rows] = group.values
        halves = dense.reshape(pairs, 2, area, layout.outputs)
        words = ((halves[:, 1] << 16) | (halves[:, 0] & 0xFFFF)).reshape(pairs * area, layout.outputs)
        rows = np.flatnonzero(words.any(axis=1)) if words.any() else np.zeros(1, np.int64)
        super().__init__(layout, [rows], [len(rows)])
        width = kernels.PAIR_COLUMNS
        chosen = words[rows].astype(np.uint32).view(np.int32)
        cut = [chosen[:, first : first + width].reshape(-1) for first in range(0, layout.outputs, width)]
        self._panels = np.concatenate(cut)

    def _drive(self) -> kernels.Driving:
        return driving(self._layout, planes=False, mask=0)

    def _stored(self, channels: int) -> int:
        return -(-channels // 2)

    def _block(
        self, maps: Array, quantiser: kernels.Quantiser, frame: kernels.Frame, shape: tuple[int, ...], blocked: Array
    ) -> bool:
        return bool(kernels.block_pairs(maps, quantiser, frame, shape[1:], blocked))

    def _launch(
        self,
        blocked: Array,
        positions: kernels.Positions,
        columns: kernels.Columns,
        scaling: Scaling,
        first_image: int,
        result: Array,
    ) -> None:
        finish = finishing(self._layout, self._slots, scaling, 1.0)
        kernels.pair_products(blocked[0], positions, columns.offsets, self._panels, finish, result)


class PairProgram:
    """Layers of feature maps by sums of pairs; those without neighbouring channels, such as linear layers, in float32.

    Parameters
    ----------
    layout
        A layout without a :func:`pair_misfit`.
    """

    kernel: ClassVar[str] = "pairs"

    def __init__(self, layout: Layout) -> None:
        self._layout = merged(layout)
        self._own = layout
        self._by_area: dict[int, _Pairs] = {}

    @cached_property
    def _sums(self) -> SumProgram:
        return SumProgram(self._own)

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        area = math.prod(window.kernel)
        if maps.shape[1] < 2 or max(scaling.high, -scaling.low) > _HALF:
            return self._sums.run(maps, window, scaling, result, first_image)
        if area not in self._by_area:
            self._by_area[area] = _Pairs(self._layout, area)
        return self._by_area[area].run(maps, window, scaling, result, first_image)
