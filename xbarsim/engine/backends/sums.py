"""Sums by fused multiply-add."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BlockedProgram, driving, ends, finishing, joined
from xbarsim.engine.layout import Layout
from xbarsim.engine.window import Scaling

__all__ = ["SumProgram"]

Array = npt.NDArray[Any]

_FLOAT32_INTEGERS = 2.0**24  # every integer up to here is a float32


class SumProgram(BlockedProgram):
    """Sums by fused multiply-add, in float32 or float64; for :func:`xbarsim.engine.kernels.products`.

    Whole values are summed exactly: in float32 where all sums stay below 2^24, else in float64. Others are summed in
    float32, or in float64 if the layout asks for double precision, which is exact on their grid of 2^-16 level steps.
    """

    kernel: ClassVar[str] = "products"

    def __init__(self, layout: Layout) -> None:
        drive, groups = layout.drive, layout.columns
        rows, values = [group.rows for group in groups], [group.values for group in groups]
        if layout.offsets is not None:  # one more row, driven by 1 in every read
            rows = [np.append(each, layout.inputs) for each in rows]
            values = [np.vstack([each, given]) for each, given in zip(values, layout.offsets, strict=True)]
        self._planes = layout.kind != "whole"
        largest = max((float(np.abs(v).sum(axis=0, dtype=np.float64).max(initial=0.0)) for v in values), default=0.0)
        largest *= drive.max_plane if self._planes else drive.max_input
        self._whole = drive.values is None and all(bool((v == np.rint(v)).all()) for v in values)
        single = largest < _FLOAT32_INTEGERS if self._whole else layout.precision == "single"
        if layout.noise is not None and layout.precision == "double":
            single = False  # variances need not be whole
        self.dtype = self.scratch = np.float32 if single else np.float64
        super().__init__(layout, rows, [len(g.rows) for g in groups], constants=0 if layout.offsets is None else 1)
        self._panels = kernels.Panels(
            values=self.panels(values),
            starts=ends([v.size for v in values])[:-1],
            widths=np.array([self._width(v.shape[1]) for v in values], dtype=np.int64),
            ones=np.ones(max((len(r) for r in rows), default=1), self.dtype),
        )
        converter = layout.converter
        self._converters = kernels.Converters(
            quantises=self._planes and converter.step is not None,
            single=self._planes and layout.single and converter.offset_levels != 0.0,
            offset_levels=converter.offset_levels,
            inverse_step=1.0 / converter.unit,
            low=float(converter.low),
            high=float(converter.high),
            bits=np.ascontiguousarray(np.concatenate(layout.bits)) if layout.bits else np.empty((0, 0)),
        )
        self._pass_counts = np.ones(1)
        if self._planes:
            shifts = [plane * drive.dac_bits for plane in range(drive.planes)]
            self._pass_counts = np.array([sign * 2.0**shift for sign in drive.signs for shift in shifts])
        self._short_converters = self._short(layout)
        self.slot_bytes = 8 if self._short_converters is None else 4

    def _drive(self) -> kernels.Driving:
        drive = self._layout.drive
        alone = drive.planes == 1 and not drive.signed and drive.values is None
        return driving(self._layout, planes=True, mask=0 if alone or not self._planes else drive.max_plane)

    def panels(self, values: Iterable[Array]) -> Array:
        """Matrices, cut into panels of neighbouring columns, one after another."""
        cut = [
            np.ascontiguousarray(each[:, first : first + width], dtype=self.dtype).reshape(-1)
            for each in values
            for width in (self._width(each.shape[1]),)
            for first in range(0, each.shape[1], width)
        ]
        return joined(cut, self.dtype)

    def _width(self, columns: int) -> int:
        """Columns of a panel: as few panels as can be, of nearly equal widths, because narrow ones take longer."""
        panels = -(-columns // kernels.panel_width(self.dtype))
        return -(-columns // max(panels, 1)) or 1

    def _short(self, layout: Layout) -> kernels.ShortConverters | None:
        """Converters in float32, or ``None`` where these cannot be had."""
        converter, drive = layout.converter, layout.drive
        exact = self._converters
        largest = max(-converter.low, converter.high)
        if self.dtype != np.float32 or not exact.quantises or exact.single:
            return None
        if len(exact.bits) or drive.values is not None:
            return None
        short = kernels.ShortConverters.of(
            exact.inverse_step, exact.low, exact.high, exact=self._whole and layout.noise is None
        )
        if short.doubt == 1.0:
            return None
        counts = self._columns.counts
        passes = float(np.abs(self._pass_counts).sum())
        most = np.bincount(self._columns.targets, weights=np.abs(counts), minlength=1).max(initial=0.0) * largest
        inputs = sum(len(group.rows) for group in layout.columns) * drive.max_plane
        if not (counts == np.rint(counts)).all() or max(most, inputs) * passes > _FLOAT32_INTEGERS:
            return None
        return short

    def _noise_of(self, positions: kernels.Positions, first_image: int) -> kernels.ReadNoise | None:
        """The read noise of these blocks of images; none here."""
        return None

    def _launch(
        self,
        blocked: Array,
        positions: kernels.Positions,
        columns: kernels.Columns,
        scaling: Scaling,
        first_image: int,
        result: Array,
    ) -> None:
        step = self._layout.converter.unit if self._planes else 1.0
        finish = finishing(self._layout, self._slots, scaling, step)
        kernels.products(
            blocked,
            self._pass_counts,
            positions,
            columns,
            self._panels,
            self._converters,
            self._short_converters,
            finish,
            self._noise_of(positions, first_image),
            np.empty(0, np.float64 if self._short_converters is None else np.float32),
            result,
        )
