"""From sums of codes to activations: take off, scale, and write 16 images back to their places."""

from __future__ import annotations

from typing import Any

import numpy as np

from xbarsim.engine.kernels.compiling import kernel
from xbarsim.engine.kernels.turning import transpose_8
from xbarsim.engine.kernels.vectors import LANES

__all__ = ["write_outputs"]


@kernel()
def write_outputs(added: Any, count: int, first: int, positions: Any, finish: Any, result: Any) -> None:
    """Finish the sums `added` (slots, positions, 16) of `count` positions from `first` on, and write them.

    `positions` and `finish` as in :mod:`xbarsim.engine.kernels.arguments`; `result` flat, float32 or float64.
    """
    lanes, places = positions.lanes, positions.places
    lane_stride, output_stride = positions.lane_stride, positions.output_stride
    scale = finish.scale
    rows = np.empty(16 * LANES, np.float32)
    turned = np.empty(16 * LANES, np.float32)
    neighbours = count == 16 and places[first + 15] - places[first] == 15 and result.itemsize == 4
    finished = np.empty((scale.shape[0], count, LANES))
    # A linear layer's outputs are neighbours instead of its positions: these are turned over eight at a time.
    row_wise = output_stride == 1 and result.itemsize == 4
    for o in range(scale.shape[0]):
        step, constant, factor, bias = finish.step, finish.constant[o], scale[o], finish.bias[o]
        shared, sums = finish.shared_ends[o], finish.sum_ends[o]
        if shared == finish.shared_ends[o + 1] and sums == finish.sum_ends[o + 1]:
            for p in range(count):  # nothing but its own slot: a loop of vector instructions
                for i in range(LANES):
                    finished[o, p, i] = (step * np.float64(added[o, p, i]) + constant) * factor + bias
        else:
            for p in range(count):
                for i in range(LANES):
                    codes = np.float64(added[o, p, i])
                    for s in range(shared, finish.shared_ends[o + 1]):
                        codes += added[finish.shared_slots[s], p, i]
                    inputs = 0.0
                    for s in range(sums, finish.sum_ends[o + 1]):
                        inputs += added[finish.sum_slots[s], p, i]
                    value = step * codes - finish.shift * inputs + constant
                    finished[o, p, i] = value * factor + bias
        if neighbours:
            for p in range(16):
                for i in range(LANES):
                    rows[p * LANES + i] = np.float32(finished[o, p, i])
            for p in range(0, 16, 8):
                transpose_8(rows, p * LANES, LANES, turned, p, 16)
                transpose_8(rows, p * LANES + 8, LANES, turned, 8 * 16 + p, 16)
            for i in range(lanes[first]):
                place = places[first] + i * lane_stride + o * output_stride
                for p in range(16):
                    result[place + p] = turned[i * 16 + p]
        elif not row_wise:
            for p in range(count):
                for i in range(lanes[first + p]):
                    result[places[first + p] + i * lane_stride + o * output_stride] = finished[o, p, i]
        elif o % 8 == 7 or o == scale.shape[0] - 1:
            start = o - o % 8
            for p in range(count):
                for e in range(start, o + 1):
                    for i in range(LANES):
                        rows[(e - start) * LANES + i] = np.float32(finished[e, p, i])
                transpose_8(rows, 0, LANES, turned, 0, 8)
                transpose_8(rows, 8, LANES, turned, 64, 8)
                for i in range(lanes[first + p]):
                    place = places[first + p] + i * lane_stride + start
                    for e in range(o + 1 - start):
                        result[place + e] = turned[i * 8 + e]
