"""Programs for kernels that work on 16 images side by side: what all of them need, and how a batch is cut up."""

from __future__ import annotations

import dataclasses
import threading
from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt

from xbarsim.engine import kernels, memory
from xbarsim.engine.layout import Layout
from xbarsim.engine.maps import BlockedMaps
from xbarsim.engine.window import Scaling, Window

__all__ = ["BLOCKED_BYTES", "BlockedProgram", "driving", "ends", "finishing", "joined"]

Array = npt.NDArray[Any]
Maps = npt.NDArray[np.float32] | BlockedMaps

BLOCKED_BYTES = 64 * 2**20  # unfolded inputs held at a time; bounds memory, changes no result
_CACHED_BYTES = 3 * 2**20  # blocked inputs held at a time: read where they were written, in a cache
_STRIP_BYTES = 128 * 2**10  # sums that a thread works on at a time: they should stay in its cache

_local = threading.local()


def _workspace(size: int, dtype: Any) -> Array:
    """A scratch array of the calling thread, kept between calls: fresh memory costs a page fault every 4 KiB."""
    buffers: dict[str, Array] = _local.__dict__.setdefault("buffers", {})
    bytes_needed = size * np.dtype(dtype).itemsize
    if "bytes" not in buffers or len(buffers["bytes"]) < bytes_needed + 64:
        buffers["bytes"] = np.empty(bytes_needed + 64, np.uint8)
    start = -buffers["bytes"].ctypes.data % 64  # 16 float32 must not straddle two cache lines
    return buffers["bytes"][start : start + bytes_needed].view(dtype)


def joined(arrays: list[Array], dtype: Any) -> Array:
    """Arrays one after another."""
    return np.concatenate([np.zeros(0, dtype), *arrays]).astype(dtype, copy=False)


def ends(sizes: list[int]) -> npt.NDArray[np.int64]:
    """Where parts of these sizes begin, and where the last one ends."""
    return np.cumsum([0, *sizes]).astype(np.int64)


def driving(layout: Layout, *, planes: bool, mask: int) -> kernels.Driving:
    """How each pass (and plane) is driven; whole codes where `mask` is 0."""
    drive = layout.drive
    passes = [1, 2] if drive.passes == 2 else [3 if drive.input_offset else 0]
    shifts = [plane * drive.dac_bits for plane in range(drive.planes)] if planes else [0]
    if mask == 0:
        passes, shifts = [0], [0]
    return kernels.Driving(
        how=np.array([how for how in passes for _ in shifts], dtype=np.int64),
        shift=np.array(shifts * len(passes), dtype=np.int64),
        mask=mask,
        offset=2 ** (drive.input_bits - 1),
        carried=np.array(drive.values or (), np.float64),
    )


class _Slots:
    """Where codes are added up: the outputs first, then columns and sums of inputs that several outputs share."""

    def __init__(self, layout: Layout) -> None:
        shared: list[list[int]] = [[] for _ in range(layout.outputs)]
        sums: list[list[int]] = [[] for _ in range(layout.outputs)]
        self.count = layout.outputs
        self.targets, self.sum_targets = [], []
        for group in layout.columns:
            targets = group.outputs.copy()
            for column in np.flatnonzero(targets < 0):
                targets[column] = self._another(group.held[int(group.tiles[column])], shared)
            self.targets.append(targets)
            self.sum_targets.append(self._another(group.served, sums) if layout.shift else -1)
        self.shared_ends, self.shared_slots = self._listed(shared)
        self.sum_ends, self.sum_slots = self._listed(sums)

    def _another(self, outputs: npt.NDArray[np.int64], lists: list[list[int]]) -> int:
        """A new slot that these outputs take part in."""
        for output in outputs:
            lists[int(output)].append(self.count)
        self.count += 1
        return self.count - 1

    @staticmethod
    def _listed(lists: list[list[int]]) -> tuple[Array, Array]:
        return ends([len(slots) for slots in lists]), np.array([s for slots in lists for s in slots], dtype=np.int64)


def finishing(layout: Layout, slots: _Slots, scaling: Scaling, step: float) -> kernels.Finish:
    """How sums of slots become outputs."""
    return kernels.Finish(
        shared_ends=slots.shared_ends,
        shared_slots=slots.shared_slots,
        sum_ends=slots.sum_ends,
        sum_slots=slots.sum_slots,
        shift=float(layout.shift),
        step=step,
        constant=np.zeros(layout.outputs) if layout.constant is None else layout.constant.astype(np.float64),
        scale=scaling.scale,
        bias=scaling.bias,
    )


class BlockedProgram(metaclass=ABCMeta):
    """A layer laid out for a kernel that works on blocks of 16 images.

    Parameters
    ----------
    layout
        The layer.
    rows
        The rows of each group, which may be filled up beyond those of the layout: an input number beyond the inputs is
        a constant of 1.
    driven
        How many rows of each group are inputs that count in the sum of the group's inputs.
    constants
        Channels of ones behind those of the feature maps.
    """

    dtype: Any = np.float32  # of the blocked inputs
    scratch: Any = np.float32  # in which they are quantised
    slot_bytes: int = 8
    kernel: ClassVar[str]

    def __init__(self, layout: Layout, rows: list[Array], driven: list[int], *, constants: int = 0) -> None:
        # what its columns hold is in the panels of the kernels; beside them it would be three quarters of a die
        self._layout = dataclasses.replace(layout, columns=(), variances=())
        self._slots = _Slots(layout)
        self._rows = joined(rows, np.int64)
        self._constants = constants
        self._columns = kernels.Columns(
            rows=ends([len(each) for each in rows]),
            offsets=np.zeros(0, np.int64),
            driven=np.array(driven, dtype=np.int64),
            ends=ends([group.values.shape[1] for group in layout.columns]),
            counts=joined([group.counts for group in layout.columns], np.float64),
            targets=joined(self._slots.targets, np.int64),
            sum_targets=np.array(self._slots.sum_targets, dtype=np.int64),
            slots=self._slots.count,
        )
        self._driving = self._drive()

    @abstractmethod
    def _drive(self) -> kernels.Driving:
        """How codes are cut into what is driven."""

    def _stored(self, channels: int) -> int:
        """Channels of the blocked inputs; a constant row is a channel of ones."""
        return channels + self._constants

    def _block(
        self, maps: Array, quantiser: kernels.Quantiser, frame: kernels.Frame, shape: tuple[int, ...], blocked: Array
    ) -> bool:
        """Quantise maps and put 16 images side by side; whether all values were finite."""
        if self._driving.mask == 0:
            return bool(kernels.block_codes(maps, quantiser, frame, shape[1:], blocked))
        scratch = np.empty(0, self.scratch)
        return bool(kernels.block_inputs(maps, quantiser, frame, self._driving, shape, scratch, blocked))

    @abstractmethod
    def _launch(
        self,
        blocked: Array,
        positions: kernels.Positions,
        columns: kernels.Columns,
        scaling: Scaling,
        first_image: int,
        result: Array,
    ) -> None:
        """Run the kernel on blocked inputs, whose first image has that number."""

    def run(
        self, maps: npt.NDArray[np.float32], window: Window, scaling: Scaling, result: Array, first_image: int
    ) -> bool:
        """As :meth:`xbarsim.engine.backends.Program.run`."""
        return self._run(maps, window, scaling, result.reshape(-1), first_image, blocked=False)

    def run_blocked(
        self, maps: npt.NDArray[np.float32] | BlockedMaps, window: Window, scaling: Scaling, first_image: int
    ) -> tuple[BlockedMaps, bool]:
        """As :meth:`xbarsim.engine.backends.BlockingProgram.run_blocked`."""
        maps = maps.bare() if isinstance(maps, BlockedMaps) else maps
        images, _, height, width = maps.shape
        blocks = -(-images // kernels.LANES)
        size = window.output_size(height, width)
        result = memory.array((blocks, self._layout.outputs, *size, kernels.LANES))
        finite = self._run(maps, window, scaling, result.reshape(-1), first_image, blocked=True)
        return BlockedMaps(result, images), finite

    def _run(
        self, maps: Maps, window: Window, scaling: Scaling, result: Array, first_image: int, *, blocked: bool
    ) -> bool:
        """Run the layer, a few blocks of images at a time; `result` flat, with 16 images side by side if `blocked`."""
        images, channels, height, width = maps.shape
        left, right, top, bottom = window.padding
        padded_height, padded_width = height + top + bottom, width + left + right
        out_height, out_width = window.output_size(height, width)
        passes = len(self._driving.how)
        stored = self._stored(channels)
        numbers = stored * padded_height * padded_width * kernels.LANES  # of one block of images
        most = max(1, _CACHED_BYTES // (numbers * passes * np.dtype(self.dtype).itemsize))
        all_blocks = -(-images // kernels.LANES)
        blocks_at_once = -(-all_blocks // -(-all_blocks // most)) if images else 1  # parts of nearly equal sizes
        channel, rest = np.divmod(self._rows, window.kernel[0] * window.kernel[1])
        y, x = np.divmod(rest, window.kernel[1])
        offsets = (channel * padded_height + y * window.dilation[0]) * padded_width + x * window.dilation[1]
        columns = self._columns._replace(offsets=offsets * kernels.LANES)
        i, j = np.divmod(np.arange(out_height * out_width), out_width)
        starts = (i * window.stride[0] * padded_width + j * window.stride[1]) * kernels.LANES
        count = len(starts)
        outputs = self._layout.outputs
        strip = int(np.clip(_STRIP_BYTES // (self._slots.count * kernels.LANES * self.slot_bytes), 2, 64))
        strip = strip // 16 * 16 or strip // 2 * 2
        rectified = isinstance(maps, BlockedMaps) and maps.rectified  # no code is less than that of zero then
        quantiser = kernels.Quantiser.of(scaling.inverse_scale, 0 if rectified else scaling.low, scaling.high)
        finite = True
        for first in range(0, images, blocks_at_once * kernels.LANES):
            part = _part(maps, first, first + blocks_at_once * kernels.LANES)
            here = min(images - first, blocks_at_once * kernels.LANES)
            blocks = -(-here // kernels.LANES)
            shape = (passes, blocks, stored, padded_height, padded_width, kernels.LANES)
            space = _workspace(int(np.prod(shape)), self.dtype)
            finite &= self._block(part, quantiser, kernels.Frame(top, left), shape, space)
            block = np.repeat(np.arange(blocks), count)
            block_size = outputs * count * (1 if blocked else kernels.LANES)
            positions = kernels.Positions(
                bases=block * numbers + np.tile(starts, blocks),
                lanes=np.minimum(here - block * kernels.LANES, kernels.LANES),
                places=(first // kernels.LANES + block) * block_size + np.tile(np.arange(count), blocks),
                lane_stride=0 if blocked else outputs * count,
                output_stride=count,
                strip=strip,
            )
            self._launch(space.reshape(passes, -1), positions, columns, scaling, first_image + first, result)
        return finite


def _part(maps: Maps, start: int, stop: int) -> Array:
    """Images from `start` to `stop`, both the first of a block, as kernels take them."""
    if isinstance(maps, BlockedMaps):
        return maps.values[start // kernels.LANES : stop // kernels.LANES]
    return np.ascontiguousarray(maps[start:stop])
