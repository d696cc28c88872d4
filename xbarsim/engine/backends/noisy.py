"""Programs of layers whose reads are noisy."""

from __future__ import annotations

import dataclasses
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels
from xbarsim.engine.backends.blocked import BLOCKED_BYTES
from xbarsim.engine.backends.sums import SumProgram
from xbarsim.engine.inputs import quantise_codes
from xbarsim.engine.layout import Columns, Layout
from xbarsim.engine.noise import Noise, round_keys
from xbarsim.engine.window import Scaling, Window

__all__ = ["NoisyProgram", "NoisySumProgram", "block_keys"]

FloatArray = npt.NDArray[np.float64]
Array = npt.NDArray[Any]

_CHUNK_ROWS = 256  # rows whose variances are summed in one go, as the values of a layout of whole codes


def block_keys(noise: Noise, first_image: int, blocks: int) -> npt.NDArray[np.uint64]:
    """Keys of the draws of blocks of 16 images, as the kernels want them."""
    words = noise.image_keys(first_image, blocks * kernels.LANES)
    rows = [word for pair in round_keys(words[:, :2]) for word in pair]
    keys = np.stack([*rows, words[:, 2], words[:, 3]], axis=1).astype(np.uint64)  # (images, rows)
    return np.ascontiguousarray(keys.reshape(blocks, kernels.LANES, -1)[:, kernels.LANE_ORDER].transpose(0, 2, 1))


def _by_draw(layout: Layout) -> Layout:
    """The same layout with the columns of each group in the order of their draws: four draws are made at a time."""
    orders = [np.lexsort((group.reads, group.tiles)) for group in layout.columns]
    columns = tuple(
        dataclasses.replace(
            group,
            values=group.values[:, order],
            counts=group.counts[order],
            outputs=group.outputs[order],
            tiles=group.tiles[order],
            reads=group.reads[order],
        )
        for group, order in zip(layout.columns, orders, strict=True)
    )

    def sorted_by(arrays: tuple[FloatArray, ...] | None) -> tuple[FloatArray, ...] | None:
        return None if arrays is None else tuple(a[o] for a, o in zip(arrays, orders, strict=True))

    variances = tuple(
        (power, tuple(a[:, order] for a, order in zip(groups, orders, strict=True)))
        for power, groups in layout.variances
    )
    offsets, bits = sorted_by(layout.offsets), sorted_by(layout.bits)
    return dataclasses.replace(layout, columns=columns, offsets=offsets, bits=bits, variances=variances)


class NoisyProgram(SumProgram):
    """Noisy reads: beside each column's sum runs its variance, and a normal draw times its root is converted with it.

    Variances are summed in the precision of the sums.
    """

    def __init__(self, layout: Layout) -> None:
        assert layout.noise is not None
        self._noise = layout.noise
        layout = _by_draw(layout)
        super().__init__(layout)
        by_power = dict(layout.variances)
        constant = by_power.pop(0, tuple(np.zeros_like(group.values) for group in layout.columns))
        if layout.drive.max_plane == 1 and 1 in by_power:  # a bit is its own square
            linear = by_power.pop(1)
            by_power[2] = tuple(a + b for a, b in zip(by_power[2], linear, strict=True))
        tiles, reads = layout.draws[2:]  # behind passes and planes
        draws = [group.tiles * reads + group.reads for group in layout.columns]
        self._read_noise = kernels.ReadNoise(
            squares=self._cut(by_power[2]),
            linear=self._cut(by_power[1]) if 1 in by_power else np.empty(0, self.dtype),
            constants=np.concatenate([np.zeros(0), *(each.sum(axis=0) for each in constant)]),
            draws=np.concatenate([np.zeros(0, np.int64), *draws]),
            stride=tiles * reads,
            keys=np.empty((0, kernels.KEY_ROWS, kernels.LANES), np.uint64),
            vectors=1,
        )

    def _cut(self, variances: tuple[FloatArray, ...]) -> Array:
        """Variances cut as the values; a constant row that offsets of converters come in by has none."""
        if self._layout.offsets is not None:
            variances = tuple(np.vstack([each, np.zeros(each.shape[1])]) for each in variances)
        return self.panels(variances)

    def _noise_of(self, positions: kernels.Positions, first_image: int) -> kernels.ReadNoise:
        """The read noise of so many blocks of images."""
        blocks = len(positions.bases) // positions.output_stride
        keys = block_keys(self._noise, first_image, blocks)
        return self._read_noise._replace(keys=keys, vectors=positions.output_stride)


class NoisySumProgram:
    """Codes that are driven whole, and for each output the exact distribution of its noise.

    Parameters
    ----------
    layout
        The layer.
    """

    kernel: ClassVar[str] = "products"

    def __init__(self, layout: Layout) -> None:
        assert layout.noise is not None
        self._noise = layout.noise
        self._layout = layout
        self._quiet = SumProgram(layout)
        self._constant = np.zeros(layout.outputs)
        self._variances: list[tuple[int, SumProgram]] = []
        for power, (variances,) in layout.variances:
            if power == 0:
                self._constant += self._weights(np.zeros(1, np.int64), 0)[0] * variances.sum(axis=0)
            else:
                self._variances.append((power, SumProgram(self._layout_of(variances))))

    def _layout_of(self, variances: FloatArray) -> Layout:
        """One product with variances (inputs, outputs)."""
        rows = np.arange(len(variances))
        outputs = np.arange(self._layout.outputs)
        columns = tuple(
            Columns(
                rows=rows[first : first + _CHUNK_ROWS],
                values=variances[first : first + _CHUNK_ROWS],
                counts=np.ones(len(outputs)),
                outputs=outputs,
            )
            for first in range(0, len(rows), _CHUNK_ROWS)
        )
        return dataclasses.replace(self._layout, columns=columns, constant=None, shift=0.0, noise=None, variances=())

    def _weights(self, codes: npt.NDArray[np.int64], power: int) -> FloatArray:
        """What codes count in a variance: their plane codes to a power, weighted by plane, over all passes."""
        drive = self._layout.drive
        weights = np.zeros(codes.shape)
        for _, driven in drive.driven(codes):
            for plane in range(drive.planes):
                x = drive.plane(driven, plane).astype(np.float64)
                weights += 4.0 ** (plane * drive.dac_bits) * x**power
        return weights

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        outputs, vectors = result.shape[1:]
        blocks_at_once = max(1, BLOCKED_BYTES // (16 * outputs * vectors * kernels.LANES))
        unscaled = dataclasses.replace(scaling, scale=np.ones(outputs), bias=np.zeros(outputs))
        finite = True
        for first in range(0, len(maps), blocks_at_once * kernels.LANES):
            part = maps[first : first + blocks_at_once * kernels.LANES]
            quiet = np.empty((len(part), outputs, vectors))
            finite &= self._quiet.run(part, window, unscaled, quiet, 0)
            total = self._total(part, window, scaling, quiet.shape)
            keys = block_keys(self._noise, first_image + first, -(-len(part) // kernels.LANES))
            kernels.add_noise(keys, total, scaling.scale, scaling.bias, quiet, result[first : first + len(part)])
        return finite

    def _total(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, shape: tuple[int, ...]
    ) -> FloatArray:
        """Variance of every output: the variances of the cells times what the codes count in them."""
        total = np.zeros(shape) + self._constant[:, np.newaxis]
        left, right, top, bottom = window.padding
        codes, _ = quantise_codes(maps, scaling.inverse_scale, scaling.low, scaling.high)
        codes = np.pad(codes, ((0, 0), (0, 0), (top, bottom), (left, right)))  # a zero may be driven as an offset
        for power, program in self._variances:
            table = self._weights(np.arange(scaling.low, scaling.high + 1), power)
            weights = table.astype(program.dtype)[codes - scaling.low]
            counted = Scaling(
                inverse_scale=1.0,
                low=0,
                high=int(table.max()),
                scale=np.ones(shape[1]),
                bias=np.zeros(shape[1]),
            )
            added = np.empty(shape)
            program.run(weights, dataclasses.replace(window, padding=(0, 0, 0, 0)), counted, added, 0)
            total += added
        return total
