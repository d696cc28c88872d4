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
        largest = max((float(np.abs(v).sum(axis=0).max(initial=0.0)) for v in values), default=0.0)
        largest *= drive.max_plane if self._planes else drive.max_input
        whole = drive.values is None and all(bool((v == np.rint(v)).all()) for v in values)
        single = largest < _FLOAT32_INTEGERS if whole else layout.precision == "single"
        if layout.noise is not None and layout.precision == "double":
            single = False  # variances need not be whole
        self.dtype = self.scratch = np.float32 if single else np.float64
        super().__init__(layout, rows, [len(g.rows) for g in groups], constants=0 if layout.offsets is None else 1)
        self._panels = kernels.Panels(
            values=self.panels(values),
            starts=ends([v.size for v in values])[:-1],
            ones=np.ones(max((len(r) for r in rows), default=1), self.dtype),
        )
        converter = layout.converter
        self._converters = kernels.Converters(
            quantises=self._planes and converter.step is not None,
            single=self._planes and layout.single,
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

    def _drive(self) -> kernels.Driving:
        drive = self._layout.drive
        alone = drive.planes == 1 and not drive.signed and drive.values is None
        return driving(self._layout, planes=True, mask=0 if alone or not self._planes else drive.max_plane)

    def panels(self, values: Iterable[Array]) -> Array:
        """Matrices, cut into panels of neighbouring columns, one after another."""
        width = kernels.panel_width(self.dtype)
        cut = [
            np.ascontiguousarray(each[:, first : first + width], dtype=self.dtype).reshape(-1)
            for each in values
            for first in range(0, each.shape[1], width)
        ]
        return joined(cut, self.dtype)

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
            finish,
            self._noise_of(positions, first_image),
            result,
        )
