"""Compiled loops of the sequences room; nothing is checked here.

A *local* distance is that of two frames. Blocks are given by their first row and column and their size, so that the
distances of one probe's frames and all frames of a gallery stand in one matrix.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import njit

__all__ = ["accumulate", "band", "envelope_bounds", "search", "squared_distances", "warp_gallery"]

SYMMETRIC1, SYMMETRIC2, SYMMETRIC_P1 = 0, 1, 2


@njit(cache=True, nogil=True)
def band(row: int, rows: int, columns: int, radius: int, slope: float) -> Any:
    """The columns of a row that a window lets through, from the first to before the last.

    ``radius`` < 0 and ``slope`` = 0 stand for none.
    """
    first, last = 0, columns
    if radius >= 0:
        first = max(first, row - max(0, rows - columns) - radius)
        last = min(last, row + max(0, columns - rows) + radius + 1)
    if slope > 0.0 and rows > 1:
        place = row / (rows - 1)
        low = max(place / slope, 1.0 - slope * (1.0 - place)) * (columns - 1)
        high = min(place * slope, 1.0 - (1.0 - place) / slope) * (columns - 1)
        first = max(first, int(np.ceil(low - 1e-9)))
        last = min(last, int(np.floor(high + 1e-9)) + 1)
    return first, last


@njit(cache=True, nogil=True)
def accumulate(local: Any, steps: int, radius: int, slope: float) -> Any:
    """The cost of the cheapest path to every cell, and the cells of the shortest of the cheapest paths.

    The recurrences as they are written in the literature; the faster loops of this file are tested against them, and
    they are their own reference in plain Python (``accumulate.py_func``).

    Parameters
    ----------
    local
        float64 (rows, columns).
    steps
        0: each of (1, 0), (0, 1), (1, 1) adds the cell's distance. 1: (1, 1) adds it twice. 2: (1, 0) and (0, 1) only
        behind a (1, 1), which adds twice (slopes of 1/2 to 2).
    radius, slope
        The window, see :func:`band`.

    Returns
    -------
    costs, lengths
        float64 and int64 (rows, columns); infinite and 0 where there is no path.
    """
    rows, columns = local.shape
    costs = np.full((rows, columns), np.inf)
    lengths = np.zeros((rows, columns), np.int64)
    for i in range(rows):
        first, last = band(i, rows, columns, radius, slope)
        before, after = band(max(i - 1, 0), rows, columns, radius, slope)
        for j in range(first, last):
            here = local[i, j]
            if i == 0 and j == 0:
                costs[i, j] = here if steps == SYMMETRIC1 else 2.0 * here
                lengths[i, j] = 1
                continue
            best, length = np.inf, 0
            if steps == SYMMETRIC_P1:
                if i > 0 and j > 0:
                    best, length = costs[i - 1, j - 1] + 2.0 * here, lengths[i - 1, j - 1] + 1
                if i > 0 and j > 1 and j - 1 >= first:
                    cost, cells = costs[i - 1, j - 2] + 2.0 * local[i, j - 1] + here, lengths[i - 1, j - 2] + 2
                    if cost < best or (cost == best and cells < length):
                        best, length = cost, cells
                if i > 1 and j > 0 and before <= j < after:
                    cost, cells = costs[i - 2, j - 1] + 2.0 * local[i - 1, j] + here, lengths[i - 2, j - 1] + 2
                    if cost < best or (cost == best and cells < length):
                        best, length = cost, cells
            else:
                if i > 0 and j > 0:
                    twice = here if steps == SYMMETRIC1 else 2.0 * here
                    best, length = costs[i - 1, j - 1] + twice, lengths[i - 1, j - 1] + 1
                for back_i, back_j in ((1, 0), (0, 1)):
                    if i >= back_i and j >= back_j:
                        cost, cells = costs[i - back_i, j - back_j] + here, lengths[i - back_i, j - back_j] + 1
                        if cost < best or (cost == best and cells < length):
                            best, length = cost, cells
            if best < np.inf:
                costs[i, j], lengths[i, j] = best, length
    return costs, lengths


@njit(cache=True, nogil=True)
def squared_distances(frames: Any, others: Any, left: int, local: Any) -> None:
    """Write squared Euclidean distances of frames (n, channels) and of others (channels, ...) into (n, m).

    The others are m columns, from `left` on.
    """
    rows, channels = frames.shape
    columns = local.shape[1]
    for i in range(rows):
        out = local[i]
        for j in range(columns):
            out[j] = 0.0
        for channel in range(channels):
            value = frames[i, channel]
            against = others[channel, left : left + columns]  # a slice, in which no index has to be looked at: for SIMD
            for j in range(columns):
                apart = value - against[j]
                out[j] += apart * apart


@njit(cache=True, nogil=True)
def _end(local: Any, top: int, left: int, rows: int, columns: int, radius: int, row: Any, above: float) -> float:
    """Cost of the cheapest path through a block by steps of (1, 0), (0, 1), (1, 1).

    One row is kept, in `row`. Infinite as soon as a whole row costs more than `above`, which asks for distances >= 0.
    """
    for i in range(rows):
        first, last = 0, columns
        if radius >= 0:
            first, last = band(i, rows, columns, radius, 0.0)
        diagonal, before = np.inf, np.inf
        if i == 0:
            diagonal = 0.0
            for j in range(columns):
                row[j] = np.inf
        elif first > 0:
            diagonal = row[first - 1]
            row[first - 1] = np.inf
        least = np.inf
        here = local[top + i, left : left + columns]
        for j in range(first, last):
            up = row[j]
            cost = here[j] + min(min(up, diagonal), before)
            row[j] = cost
            diagonal = up
            before = cost
            least = min(least, cost)
        if least > above:
            return np.inf
    return row[columns - 1]


@njit(cache=True, nogil=True)
def _end_with_length(
    local: Any, top: int, left: int, rows: int, columns: int, radius: int, row: Any, lengths: Any
) -> Any:
    """As :func:`_end`, with the cells of the shortest of the cheapest paths; rows are kept in `row` and `lengths`."""
    for i in range(rows):
        first, last = 0, columns
        if radius >= 0:
            first, last = band(i, rows, columns, radius, 0.0)
        diagonal, before = np.inf, np.inf
        diagonal_length, before_length = 0, 0
        if i == 0:
            diagonal = 0.0
            for j in range(columns):
                row[j] = np.inf
                lengths[j] = 0
        elif first > 0:
            diagonal, diagonal_length = row[first - 1], lengths[first - 1]
            row[first - 1] = np.inf
        here = local[top + i, left : left + columns]
        for j in range(first, last):
            up, up_length = row[j], lengths[j]
            best, length = diagonal, diagonal_length
            if up < best or (up == best and up_length < length):
                best, length = up, up_length
            if before < best or (before == best and before_length < length):
                best, length = before, before_length
            cost = here[j] + best
            row[j], lengths[j] = cost, length + 1
            diagonal, diagonal_length = up, up_length
            before, before_length = cost, length + 1
    return row[columns - 1], lengths[columns - 1]


@njit(cache=True, nogil=True)
def _distance(
    local: Any, top: int, left: int, rows: int, columns: int,
    steps: int, radius: int, slope: float, per_step: bool, row: Any, lengths: Any,
) -> float:  # fmt: skip
    """The distance of two sequences by the local distances in a block."""
    if steps == SYMMETRIC1 and slope == 0.0:
        if not per_step:
            return _end(local, top, left, rows, columns, radius, row, np.inf)
        cost, length = _end_with_length(local, top, left, rows, columns, radius, row, lengths)
    else:
        block = local[top : top + rows, left : left + columns].copy()
        costs, cells = accumulate(block, steps, radius, slope)
        cost, length = costs[rows - 1, columns - 1], cells[rows - 1, columns - 1]
    if per_step and cost < np.inf:
        cost /= length if steps == SYMMETRIC1 else rows + columns
    return cost


@njit(cache=True, nogil=True)
def warp_gallery(
    local: Any, offsets: Any, steps: int, radius: int, slope: float, per_step: bool,
    most_shift: int, least_overlap: int, distances: Any, shifts: Any,
) -> None:  # fmt: skip
    """Distances of one probe and of every sequence of a gallery, and the shifts they are found at.

    Parameters
    ----------
    local
        Distances of the probe's frames and all frames of the gallery, float64 (probe frames, gallery frames).
    offsets
        Where the sequences of the gallery begin, and where the last ends.
    steps, radius, slope
        As in :func:`accumulate`.
    per_step
        Whether costs are divided by what their paths are long: cells, or for weighted steps the sum of the weights.
    most_shift, least_overlap
        Shifts from ``-most_shift`` to ``most_shift`` are tried and the least distance is taken, where the part of both
        sequences that overlaps has as many frames as said, or all of the shorter one; ``most_shift`` < 0 for the whole
        sequences.
    distances, shifts
        Written: float64 and int64 (sequences of the gallery,).
    """
    rows, top = local.shape[0], offsets[0]  # 0, but no literal: each would be compiled anew
    longest = 0
    for number in range(len(offsets) - 1):
        longest = max(longest, offsets[number + 1] - offsets[number])
    row = np.empty(longest)
    lengths = np.empty(longest, np.int64)
    for number in range(len(offsets) - 1):
        left = offsets[number]
        columns = offsets[number + 1] - left
        if most_shift < 0:
            distances[number] = _distance(local, top, left, rows, columns, steps, radius, slope, per_step, row, lengths)
            shifts[number] = 0
            continue
        least = min(least_overlap, min(rows, columns))
        best, where = np.inf, 0
        for step in range(2 * most_shift + 1):
            shift = (step + 1) // 2 if step % 2 else -(step // 2)  # 0, 1, -1, 2, -2, ...: of equals the smallest
            skipped_rows, skipped_columns = max(0, shift), max(0, -shift)
            overlap = min(rows - skipped_rows, columns - skipped_columns)
            if overlap < least:
                continue
            found = _distance(
                local, skipped_rows, left + skipped_columns, overlap, overlap,
                steps, radius, slope, per_step, row, lengths,
            )  # fmt: skip
            if found < best:
                best, where = found, shift
        distances[number], shifts[number] = best, where


@njit(cache=True, nogil=True)
def envelope_bounds(frames: Any, gallery: Any, offsets: Any, radius: int, slope: float, bounds: Any) -> None:
    """Write what the warping of a probe and of every sequence of a gallery costs at least (Keogh's bound).

    Every frame of the probe is matched with a frame in its window, and so is at least as far from it as from the box
    around all frames there.

    Parameters
    ----------
    frames
        float64 (probe frames, channels).
    gallery
        float64 (channels, gallery frames).
    offsets, radius, slope
        As in :func:`warp_gallery`.
    bounds
        float64 (sequences of the gallery,).
    """
    rows, channels = frames.shape
    for number in range(len(offsets) - 1):
        left = offsets[number]
        columns = offsets[number + 1] - left
        total = 0.0
        for i in range(rows):
            first, last = band(i, rows, columns, radius, slope)
            if last <= first:
                total = np.inf  # no frame is in the window: there is no path
                break
            for channel in range(channels):
                low, high = np.inf, -np.inf
                for j in range(left + first, left + last):
                    low = min(low, gallery[channel, j])
                    high = max(high, gallery[channel, j])
                value = frames[i, channel]
                if value > high:
                    total += (value - high) * (value - high)
                elif value < low:
                    total += (low - value) * (low - value)
        bounds[number] = total


@njit(cache=True, nogil=True)
def search(
    frames: Any, gallery: Any, offsets: Any, steps: int, radius: int, slope: float, per_step: bool,
    bounds: Any, order: Any, longest: int,
) -> Any:  # fmt: skip
    """The nearest sequence of a gallery, its distance, and how many were warped.

    Parameters
    ----------
    frames, gallery, offsets, steps, radius, slope, per_step
        As above.
    bounds
        What each costs at least, per step where distances are; minus infinity for no bound.
    order
        In which order they are tried.
    longest
        Frames of the longest one.

    Notes
    -----
    Of equal distances the first in the gallery is the nearest, whatever the order.
    """
    rows, zero = frames.shape[0], offsets[0]
    room = np.empty(rows * longest)
    row = np.empty(longest)
    lengths = np.empty(longest, np.int64)
    best, nearest, warped = np.inf, -1, 0
    plain = steps == SYMMETRIC1 and slope == 0.0 and not per_step
    for number in order:
        # a bound is rounded too: one that is beyond by less than that skips nothing
        if bounds[number] * (1.0 - 1e-9) > best:
            continue
        left = offsets[number]
        columns = offsets[number + 1] - left
        block = room[: rows * columns].reshape(rows, columns)
        squared_distances(frames, gallery, left, block)
        warped += 1
        if plain:
            found = _end(block, zero, zero, rows, columns, radius, row, best)
        else:
            found = _distance(block, zero, zero, rows, columns, steps, radius, slope, per_step, row, lengths)
        if found < best or (found == best and found < np.inf and number < nearest):
            best, nearest = found, number
    return nearest, best, warped
