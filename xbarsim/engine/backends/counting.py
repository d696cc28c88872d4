"""Sums of bits that are counted, vector by vector."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BLOCKED_BYTES
from xbarsim.engine.inputs import quantise_codes, unfold
from xbarsim.engine.layout import Columns, Layout
from xbarsim.engine.window import Scaling, Window

__all__ = ["CountingProgram"]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


class CountingProgram:
    """Whole values within the levels of a cell: every plane is read on its own, bits are ANDed and counted.

    Parameters
    ----------
    layout
        The layer; without noise, offsets or converters of wrong weight.
    """

    kernel: ClassVar[str] = "popcount"

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        converter = layout.converter
        self._converters = kernels.Converters(
            quantises=converter.step is not None,
            single=layout.single,
            offset_levels=converter.offset_levels,
            inverse_step=1.0 / converter.unit,
            low=float(converter.low),
            high=float(converter.high),
            bits=np.empty((0, 0)),
        )
        self._packed = []
        for group in layout.columns:
            parts = [np.maximum(group.values, 0), np.maximum(-group.values, 0)]
            bits = max(1, int(max(part.max(initial=0) for part in parts)).bit_length())
            packed = np.empty((2, group.values.shape[1], bits, -(-len(group.rows) // 64)), np.uint64)
            for part, target in zip(parts, packed, strict=True):
                kernels.pack_planes(part.T.astype(np.int64), bits, target)
            self._packed.append(np.ascontiguousarray(packed.transpose(0, 2, 3, 1)))

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        layout = self._layout
        codes, finite = quantise_codes(maps, scaling.inverse_scale, scaling.low, scaling.high)
        at_once = max(1, BLOCKED_BYTES // (4 * layout.inputs * result.shape[2]))
        for start in range(0, len(maps), at_once):
            vectors = unfold(codes[start : start + at_once], window)
            product = self._multiply(vectors.reshape(-1, layout.inputs))
            scaled = (product * scaling.scale + scaling.bias).reshape(len(vectors), -1, layout.outputs)
            result[start : start + at_once] = scaled.transpose(0, 2, 1)
        return finite

    def _multiply(self, codes: npt.NDArray[np.int32]) -> FloatArray:
        """Input codes (vectors, inputs) to products (vectors, outputs)."""
        layout = self._layout
        drive = layout.drive
        added = np.zeros((len(codes), layout.outputs))
        inputs = np.zeros_like(added)
        for sign, driven in drive.driven(codes):
            for group, cells in zip(layout.columns, self._packed, strict=True):
                given = group.inputs(driven)
                if layout.shift:
                    inputs[:, group.served] += sign * given.sum(axis=1, dtype=np.float64)[:, np.newaxis]
                for plane in range(drive.planes):
                    x = drive.plane(given, plane)
                    sums = self._sums(cells, x)
                    unit = sign * 2.0 ** (plane * drive.dac_bits)
                    self._convert(group, sums, x.sum(axis=1).astype(np.float64), unit, added)
        result = layout.converter.unit * added - layout.shift * inputs
        return result if layout.constant is None else result + layout.constant

    def _sums(self, cells: Array, x: Array) -> FloatArray:
        """What the columns of a group add up to for one plane of codes (vectors, driven)."""
        planes = np.empty((len(x), self._layout.drive.dac_bits, cells.shape[2]), np.uint64)
        kernels.pack_planes(np.ascontiguousarray(x), self._layout.drive.dac_bits, planes)
        sums = np.empty((len(x), cells.shape[3]))
        kernels.count_bits(planes, cells, sums)
        return sums

    def _convert(
        self, group: Columns, sums: FloatArray, input_sums: FloatArray, unit: float, added: FloatArray
    ) -> None:
        """Add the codes of a group's sums to the outputs that they count for."""
        own = group.outputs >= 0
        for chosen in (np.flatnonzero(own), np.flatnonzero(~own)):
            if not len(chosen):
                continue
            here = sums if len(chosen) == sums.shape[1] else np.ascontiguousarray(sums[:, chosen])
            counts = unit * group.counts[chosen]
            if own[chosen[0]]:
                kernels.convert_reads(here, input_sums, counts, group.outputs[chosen], self._converters, added)
                continue
            shared = np.zeros((len(sums), len(chosen)))
            kernels.convert_reads(here, input_sums, counts, np.arange(len(chosen)), self._converters, shared)
            for column, number in enumerate(chosen):
                added[:, group.held[int(group.tiles[number])]] += shared[:, column : column + 1]
