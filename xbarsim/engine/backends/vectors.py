"""Programs that read vector by vector: noisy layers, and bits that are counted."""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BLOCKED_BYTES
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.inputs import quantise_codes, unfold
from xbarsim.engine.layout import Columns, Layout
from xbarsim.engine.window import Scaling, Window

__all__ = ["CountingProgram", "NoisyProgram", "NoisySumProgram"]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]


def _in_order(left: FloatArray, right: FloatArray) -> FloatArray:
    """A matrix product that sums in the order of the rows, on any number of threads."""
    result = np.zeros((len(left), right.shape[1]))
    kernels.add_product(left, right, result)
    return result


class _VectorProgram(metaclass=ABCMeta):
    """A program that unfolds feature maps into vectors.

    Parameters
    ----------
    layout
        The layer.
    """

    kernel: ClassVar[str]

    def __init__(self, layout: Layout) -> None:
        self._layout = layout

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        layout = self._layout
        codes, finite = quantise_codes(maps, scaling.inverse_scale, scaling.low, scaling.high)
        at_once = max(1, BLOCKED_BYTES // (4 * layout.inputs * result.shape[2]))
        if layout.noise is not None:
            at_once = 1  # each image has draws of its own
        for start in range(0, len(maps), at_once):
            vectors = unfold(codes[start : start + at_once], window)
            normals = None
            if layout.noise is not None:
                normals = layout.noise.normals(first_image + start, (vectors.shape[1], *layout.draws))
            product = self._multiply(vectors.reshape(-1, layout.inputs), normals)
            scaled = (product * scaling.scale + scaling.bias).reshape(len(vectors), -1, layout.outputs)
            result[start : start + at_once] = scaled.transpose(0, 2, 1)
        return finite

    @abstractmethod
    def _multiply(self, codes: npt.NDArray[np.int32], normals: FloatArray | None) -> FloatArray:
        """Input codes (vectors, inputs) to products (vectors, outputs)."""


class NoisySumProgram(_VectorProgram):
    """Codes that are driven whole, and for each output the exact distribution of its noise."""

    kernel: ClassVar[str] = "numpy"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._quiet = SumProgram(layout)
        self._variances = [(power, variances) for power, (variances,) in layout.variances]

    def _multiply(self, codes: npt.NDArray[np.int32], normals: FloatArray | None) -> FloatArray:
        drive, outputs = self._layout.drive, self._layout.outputs
        quiet = np.empty((len(codes), outputs, 1))
        maps = codes.reshape(len(codes), 1, 1, -1).astype(np.float32)
        self._quiet.run(maps, Window(kernel=(1, codes.shape[1])), Scaling.none(drive, outputs), quiet, 0)
        total = np.zeros((len(codes), outputs))
        for power, variances in self._variances:
            driven_by = np.zeros(codes.shape)  # the codes to that power, weighted by plane
            for _, driven in drive.driven(codes):
                for plane in range(drive.planes):
                    x = drive.plane(driven, plane).astype(np.float64)
                    driven_by += 4.0 ** (plane * drive.dac_bits) * x**power
            total += _in_order(driven_by, variances)
        return np.asarray(quiet[:, :, 0] + np.sqrt(total) * normals)


class _ReadProgram(_VectorProgram):
    """Every plane read on its own, group by group."""

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        converter = layout.converter
        groups = []
        for index, group in enumerate(layout.columns):
            own = group.outputs >= 0
            bits = np.empty((0, 0)) if layout.bits is None else layout.bits[index]
            converters = kernels.Converters(
                quantises=converter.step is not None,
                single=layout.single,
                offset_levels=converter.offset_levels,
                inverse_step=1.0 / converter.unit,
                low=float(converter.low),
                high=float(converter.high),
                bits=bits,
            )
            parts = []
            for chosen in (np.flatnonzero(own), np.flatnonzero(~own)):
                here = converters._replace(bits=np.ascontiguousarray(bits[chosen])) if bits.size else converters
                parts.append((chosen, group.counts[chosen], here))
            groups.append((index, group, parts))
        self._groups = groups

    @abstractmethod
    def _sums(self, index: int, x: Array, plane: int) -> FloatArray:
        """What the columns of a group add up to for one plane of codes (vectors, driven)."""

    def _noise(self, index: int, x: Array, normals: FloatArray | None, pass_index: int, plane: int) -> FloatArray:
        """What is added to these sums: one row for each vector, one for all, or none."""
        return np.empty((0, 0))

    def _multiply(self, codes: npt.NDArray[np.int32], normals: FloatArray | None) -> FloatArray:
        layout = self._layout
        drive = layout.drive
        added = np.zeros((len(codes), layout.outputs))
        inputs = np.zeros_like(added)
        for pass_index, (sign, driven) in enumerate(drive.driven(codes)):
            for index, group, parts in self._groups:
                given = group.inputs(driven)
                if layout.shift:
                    inputs[:, group.served] += sign * given.sum(axis=1, dtype=np.float64)[:, np.newaxis]
                for plane in range(drive.planes):
                    x = drive.plane(given, plane)
                    sums = self._sums(index, x, plane)
                    noise = self._noise(index, x, normals, pass_index, plane)
                    input_sums = x.sum(axis=1).astype(np.float64)
                    unit = sign * 2.0 ** (plane * drive.dac_bits)
                    self._convert(group, parts, sums, noise, input_sums, unit, added)
        result = layout.converter.unit * added - layout.shift * inputs
        return result if layout.constant is None else result + layout.constant

    @staticmethod
    def _convert(
        group: Columns,
        parts: list[tuple[Array, FloatArray, kernels.Converters]],
        sums: FloatArray,
        noise: FloatArray,
        input_sums: FloatArray,
        unit: float,
        added: FloatArray,
    ) -> None:
        for chosen, counts, converters in parts:
            if not len(chosen):
                continue
            every = len(chosen) == sums.shape[1]
            here = sums if every else np.ascontiguousarray(sums[:, chosen])
            drawn = noise if every or not noise.size else np.ascontiguousarray(noise[:, chosen])
            if group.outputs[chosen[0]] >= 0:
                targets = group.outputs[chosen]
                kernels.convert_reads(here, drawn, input_sums, unit * counts, targets, converters, added)
                continue
            shared = np.zeros((len(sums), len(chosen)))
            targets = np.arange(len(chosen))
            kernels.convert_reads(here, drawn, input_sums, unit * counts, targets, converters, shared)
            for column, number in enumerate(chosen):
                added[:, group.held[int(group.tiles[number])]] += shared[:, column : column + 1]


class NoisyProgram(_ReadProgram):
    """Noisy reads: a product for each plane and group, to which noise is added before it is converted."""

    kernel: ClassVar[str] = "numpy"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._matrices = [np.ascontiguousarray(group.values, dtype=np.float64) for group in layout.columns]

    def _sums(self, index: int, x: Array, plane: int) -> FloatArray:
        matrix = self._matrices[index]
        return np.asarray(x.astype(matrix.dtype) @ matrix)

    def _noise(self, index: int, x: Array, normals: FloatArray | None, pass_index: int, plane: int) -> FloatArray:
        layout = self._layout
        group = layout.columns[index]
        noise: FloatArray | None = None
        if normals is not None:
            total = np.zeros((len(x), len(group.counts)))
            for power, groups in layout.variances:
                total += _in_order(x.astype(np.float64) ** power, groups[index])
            noise = normals[:, pass_index, plane, group.tiles, group.reads] * np.sqrt(total)
        if layout.offsets is not None:
            offset = layout.offsets[index][np.newaxis]
            noise = offset if noise is None else noise + offset
        return np.empty((0, 0)) if noise is None else np.ascontiguousarray(noise)


class CountingProgram(_ReadProgram):
    """Whole values within the levels of a cell: bits are ANDed and counted."""

    kernel: ClassVar[str] = "popcount"

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self._packed = []
        for group in layout.columns:
            parts = [np.maximum(group.values, 0), np.maximum(-group.values, 0)]
            bits = max(1, int(max(part.max(initial=0) for part in parts)).bit_length())
            packed = np.empty((2, group.values.shape[1], bits, -(-len(group.rows) // 64)), np.uint64)
            for part, target in zip(parts, packed, strict=True):
                kernels.pack_planes(part.T.astype(np.int64), bits, target)
            self._packed.append(np.ascontiguousarray(packed.transpose(0, 2, 3, 1)))

    def _sums(self, index: int, x: Array, plane: int) -> FloatArray:
        cells = self._packed[index]
        planes = np.empty((len(x), self._layout.drive.dac_bits, cells.shape[2]), np.uint64)
        kernels.pack_planes(np.ascontiguousarray(x), self._layout.drive.dac_bits, planes)
        sums = np.empty((len(x), cells.shape[3]))
        kernels.count_bits(planes, cells, sums)
        return sums
