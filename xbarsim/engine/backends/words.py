"""Whole codes times whole weights: factors of 16 or 8 bits, two or four rows at a time, 32-bit sums."""

from __future__ import annotations

import dataclasses
import math
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BlockedProgram, driving, finishing
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.layout import Layout, merged
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Scaling, Window

__all__ = ["WordProgram", "word_misfit"]

Array = npt.NDArray[Any]

_HALF = 2**15 - 1  # largest factor
_SUM = 2.0**31  # sums stay below
_MOST_EMPTY = 1.5  # times as many products where all outputs have all rows, so that it still pays


def word_misfit(layout: Layout) -> str | None:
    """Why a layout cannot be computed in factors of 16 bits, in words; ``None`` where it can."""
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


def _fits_quads(layout: Layout, values: Array) -> bool:
    """Whether codes have 8 bits and no signs, and weights 8 bits with theirs."""
    codes = layout.drive.max_input if layout.drive.min_input >= 0 else math.inf
    return codes < 2**8 and bool(values.min(initial=0) >= -(2**7) and values.max(initial=0) < 2**7)


class _Words(BlockedProgram):
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
    slot_bytes = 4

    def __init__(self, layout: Layout, area: int) -> None:
        (group,) = layout.columns
        self.size = 4 if kernels.HAS_QUADS and _fits_quads(layout, group.values) else 2
        self.kernel = "quads" if self.size == 4 else "pairs"  # type: ignore[misc]  # each layer has its own
        bits = 32 // self.size
        channels = layout.inputs // area
        stored = -(-channels // self.size)
        dense = np.zeros((self.size * stored * area, layout.outputs), np.int64)
        dense[group.rows] = group.values
        parts = dense.reshape(stored, self.size, area, layout.outputs) & (2**bits - 1)
        words = sum(parts[:, part] << (bits * part) for part in range(self.size))
        words = np.asarray(words).reshape(stored * area, layout.outputs)
        rows = np.flatnonzero(words.any(axis=1)) if words.any() else np.zeros(1, np.int64)
        super().__init__(layout, [rows], [len(rows)])
        panels = -(-layout.outputs // kernels.WORD_COLUMNS)
        self._width = -(-layout.outputs // panels)  # as few panels as can be, of nearly equal widths
        chosen = words[rows].astype(np.uint32).view(np.int32)
        cut = [chosen[:, first : first + self._width].reshape(-1) for first in range(0, layout.outputs, self._width)]
        self._panels = np.concatenate(cut)

    def _drive(self) -> kernels.Driving:
        return driving(self._layout, planes=False, mask=0)

    def _stored(self, channels: int) -> int:
        return -(-channels // self.size)

    def _block(
        self, maps: Array, quantiser: kernels.Quantiser, frame: kernels.Frame, shape: tuple[int, ...], blocked: Array
    ) -> bool:
        return bool(kernels.block_words(maps, quantiser, frame, shape[1:], self.size, blocked))

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
        kernels.word_products(
            blocked[0], positions, columns.offsets, self._panels, self._width, self.size == 4, finish, result
        )


class WordProgram:
    """Layers of feature maps in words of two or four codes; those without neighbouring channels in float32.

    Parameters
    ----------
    layout
        A layout without a :func:`word_misfit`.
    """

    def __init__(self, layout: Layout) -> None:
        # Whole numbers below 2^24: half the memory holds them as well.
        columns = tuple(dataclasses.replace(group, values=group.values.astype(np.float32)) for group in layout.columns)
        self._layout = dataclasses.replace(layout, columns=columns)
        self._by_area: dict[int, _Words] = {}

    @cached_property
    def kernel(self) -> str:
        """``"quads"`` or ``"pairs"``."""
        quads = kernels.HAS_QUADS and _fits_quads(self._layout, merged(self._layout).columns[0].values)
        return "quads" if quads else "pairs"

    @cached_property
    def _sums(self) -> SumProgram:
        return SumProgram(self._layout)

    def _fitting(self, channels: int, window: Window, scaling: Scaling) -> BlockedProgram:
        area = math.prod(window.kernel)
        # Scales of calls may give codes beyond those that the layer is driven with.
        low, high = self._layout.drive.min_input, self._layout.drive.max_input
        if channels < 2 or scaling.low < low or scaling.high > high:
            return self._sums
        if area not in self._by_area:
            self._by_area[area] = _Words(merged(self._layout), area)
        return self._by_area[area]

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        return self._fitting(maps.shape[1], window, scaling).run(maps, window, scaling, result, first_image)

    def run_blocked(
        self, maps: npt.NDArray[np.float32] | BlockedMaps, window: Window, scaling: Scaling, first_image: int
    ) -> tuple[BlockedMaps, bool]:
        """As :meth:`xbarsim.engine.backends.BlockingProgram.run_blocked`."""
        return self._fitting(maps.shape[1], window, scaling).run_blocked(maps, window, scaling, first_image)
