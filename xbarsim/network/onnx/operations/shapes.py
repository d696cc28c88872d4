"""Operations that move, pick and repeat numbers, and those that know shapes."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np

from xbarsim.network.onnx.operations.call import Array, Call, Operation, check_size

__all__ = ["SHAPES"]


def _axis(call: Call, axis: int, dimensions: int) -> int:
    if not -dimensions <= axis < max(dimensions, 1):
        raise call.refuse(f"axis must lie in -{dimensions} to {dimensions - 1}", axis)
    return axis + dimensions if axis < 0 else axis


def _reshape(call: Call) -> Array:
    x, wanted = call[0], [int(size) for size in call[1].reshape(-1)]
    if not call.attribute("allowzero", 0):
        wanted = [x.shape[index] if size == 0 else size for index, size in enumerate(wanted)]
    return x.reshape(wanted)


def _flatten(call: Call) -> Array:
    x, axis = call[0], call.attribute("axis", 1)
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(int(np.prod(x.shape[:axis], dtype=np.int64)), -1)


def _transpose(call: Call) -> Array:
    return np.transpose(call[0], call.attribute("perm"))


def _squeeze(call: Call) -> Array:
    axes = call.axes(1, since=13)
    return np.squeeze(call[0], None if axes is None else axes)


def _unsqueeze(call: Call) -> Array:
    return np.expand_dims(call[0], call.axes(1, since=13) or ())


def _expand(call: Call) -> Array:
    shape = np.broadcast_shapes(call[0].shape, tuple(int(size) for size in call[1]))
    check_size(call.node, shape, call[0].itemsize)
    return np.broadcast_to(call[0], shape)


def _tile(call: Call) -> Array:
    repeats = tuple(int(size) for size in call[1])
    check_size(call.node, tuple(a * b for a, b in zip(call[0].shape, repeats, strict=True)), call[0].itemsize)
    return np.tile(call[0], repeats)


def _pad(call: Call) -> Array:
    x, mode = call[0], call.attribute("mode", "constant")
    pads, axes = call.integers(1) or (), call.integers(3)
    axes = tuple(range(x.ndim)) if axes is None else tuple(_axis(call, axis, x.ndim) for axis in axes)
    if len(pads) != 2 * len(axes):
        raise call.refuse(f"pads must be {2 * len(axes)} numbers", pads)
    widths = [(0, 0)] * x.ndim
    cut = [slice(None)] * x.ndim
    for place, axis in enumerate(axes):
        before, after = pads[place], pads[place + len(axes)]
        widths[axis] = max(before, 0), max(after, 0)
        cut[axis] = slice(max(-before, 0), x.shape[axis] - max(-after, 0))
    x = x[tuple(cut)]
    check_size(call.node, tuple(size + sum(width) for size, width in zip(x.shape, widths, strict=True)), x.itemsize)
    if mode == "constant":
        value = call.optional(2)
        number = x.dtype.type(0 if value is None else value.reshape(())[()])
        return np.pad(x, widths, constant_values=number)
    modes = {"reflect": "reflect", "edge": "edge", "wrap": "wrap"}
    if mode not in modes:
        raise call.refuse("mode must be 'constant', 'reflect', 'edge' or 'wrap'", mode)
    return np.asarray(np.pad(x, widths, mode=modes[mode]))  # type: ignore[call-overload]


def _shape(call: Call) -> Array:
    return np.array(call[0].shape[slice(call.attribute("start", 0), call.attribute("end"))], dtype=np.int64)


def _constant_of_shape(call: Call) -> Array:
    shape = tuple(int(size) for size in call[0])
    value = call.attribute("value")
    fill = np.zeros(1, np.float32) if value is None else value
    check_size(call.node, shape, fill.itemsize)
    return np.full(shape, fill.reshape(-1)[0], dtype=call.floating(fill.dtype))


def _range(call: Call) -> Array:
    start, limit, delta = (call[index].reshape(())[()] for index in range(3))
    if delta == 0:
        raise call.refuse("delta must not be 0", delta)
    count = max(int(np.ceil((float(limit) - float(start)) / float(delta))), 0)
    check_size(call.node, (count,), call[0].itemsize)
    return (np.arange(count) * delta + start).astype(call[0].dtype)


def _concat(call: Call) -> Array:
    return np.concatenate([call[index] for index in range(len(call.inputs))], axis=call.attribute("axis"))


def _split(call: Call) -> tuple[Array, ...]:
    x = call[0]
    axis = _axis(call, call.attribute("axis", 0), x.ndim)
    sizes = call.integers(1) if call.opset >= 13 else call.attribute("split")
    if sizes is None:
        parts = call.attribute("num_outputs", len(call.node.outputs))
        each = -(-x.shape[axis] // parts)
        if call.opset < 18 and each * parts != x.shape[axis]:
            raise call.refuse(f"dimension {axis} must be cut into {parts} equal parts", x.shape[axis])
        edges = [min(each * part, x.shape[axis]) for part in range(parts + 1)]
    else:
        if sum(sizes) != x.shape[axis]:
            raise call.refuse(f"split must add up to {x.shape[axis]}", sizes)
        edges = [0, *np.cumsum(sizes).tolist()]
    before = (slice(None),) * axis
    return tuple(x[(*before, slice(a, b))] for a, b in pairwise(edges))


def _slice(call: Call) -> Array:
    x = call[0]
    starts, ends = call.integers(1) or (), call.integers(2) or ()
    axes = call.integers(3)
    axes = tuple(range(len(starts))) if axes is None else axes
    steps = call.integers(4) or (1,) * len(starts)
    picked = [slice(None)] * x.ndim
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        axis = _axis(call, axis, x.ndim)
        size = x.shape[axis]
        if step == 0:
            raise call.refuse("steps must not be 0", steps)
        start, end = (value + size if value < 0 else value for value in (start, end))
        if step > 0:
            picked[axis] = slice(min(max(start, 0), size), min(max(end, 0), size), step)
        else:
            start, end = min(max(start, 0), size - 1), min(max(end, -1), size - 1)
            picked[axis] = slice(start, None if end < 0 else end, step)
    return x[tuple(picked)]


def _within(call: Call, indices: Array, size: int) -> Array:
    if indices.size and (int(indices.min()) < -size or int(indices.max()) >= size):
        wrong = int(indices.min()) if int(indices.min()) < -size else int(indices.max())
        raise call.refuse(f"indices must lie in -{size} to {size - 1}", wrong)
    return np.where(indices < 0, indices + size, indices)


def _gather(call: Call) -> Array:
    x = call[0]
    axis = _axis(call, call.attribute("axis", 0), x.ndim)
    return np.asarray(np.take(x, _within(call, call[1], x.shape[axis]), axis=axis))


def _gather_elements(call: Call) -> Array:
    x = call[0]
    axis = _axis(call, call.attribute("axis", 0), x.ndim)
    indices = _within(call, call[1], x.shape[axis])
    grid = list(np.ogrid[tuple(slice(size) for size in indices.shape)])
    grid[axis] = indices
    return np.asarray(x[tuple(grid)])


def _gather_nd(call: Call) -> Array:
    x, indices, batch = call[0], call[1], call.attribute("batch_dims", 0)
    last = indices.shape[-1]
    picked = [_within(call, indices[..., place], x.shape[batch + place]) for place in range(last)]
    shape = indices.shape[:-1]
    grid: list[Array] = []
    for axis in range(batch):
        ones = [1] * len(shape)
        ones[axis] = x.shape[axis]
        grid.append(np.broadcast_to(np.arange(x.shape[axis]).reshape(ones), shape))
    return np.asarray(x[(*grid, *picked)])


def _triangle(call: Call) -> Array:
    diagonal = call.optional(1)
    k = 0 if diagonal is None else int(diagonal.reshape(())[()])
    return np.triu(call[0], k) if call.attribute("upper", 1) else np.tril(call[0], k)


def _one_hot(call: Call) -> Array:
    indices, depth, values = call[0], int(call[1].reshape(-1)[0]), call[2]
    axis = call.attribute("axis", -1)
    axis = axis + indices.ndim + 1 if axis < 0 else axis
    check_size(call.node, (*indices.shape, depth), values.itemsize)
    indices = indices.astype(np.int64)
    indices = np.where((indices < 0) & (indices >= -depth), indices + depth, indices)
    ones = [1] * (indices.ndim + 1)
    ones[axis] = depth
    hot = np.expand_dims(indices, axis) == np.arange(depth).reshape(ones)
    return np.asarray(np.where(hot, values[1], values[0]))


def _cumulative(call: Call) -> Array:
    axis = int(call[1].reshape(-1)[0])
    x = np.flip(call[0], axis) if call.attribute("reverse", 0) else call[0]
    total = np.cumsum(x, axis=axis, dtype=x.dtype)
    if call.attribute("exclusive", 0):
        total = np.roll(total, 1, axis=axis)
        first: list[Any] = [slice(None)] * x.ndim
        first[axis] = 0
        total[tuple(first)] = 0
    return np.flip(total, axis) if call.attribute("reverse", 0) else total


def _depth_to_space(call: Call) -> Array:
    x, size = call[0], call.attribute("blocksize")
    images, channels, height, width = x.shape
    if call.attribute("mode", "DCR") == "DCR":
        parts = x.reshape(images, size, size, channels // size**2, height, width).transpose(0, 3, 4, 1, 5, 2)
    else:
        parts = x.reshape(images, channels // size**2, size, size, height, width).transpose(0, 1, 4, 2, 5, 3)
    return parts.reshape(images, channels // size**2, height * size, width * size)


def _space_to_depth(call: Call) -> Array:
    x, size = call[0], call.attribute("blocksize")
    images, channels, height, width = x.shape
    parts = x.reshape(images, channels, height // size, size, width // size, size).transpose(0, 3, 5, 1, 2, 4)
    return parts.reshape(images, channels * size**2, height // size, width // size)


def _nearest(call: Call, place: Array) -> Array:
    mode = call.attribute("nearest_mode", "round_prefer_floor")
    if mode == "floor":
        return np.floor(place)
    if mode == "ceil":
        return np.ceil(place)
    if mode == "round_prefer_ceil":
        return np.floor(place + 0.5)
    if mode == "round_prefer_floor":
        return np.ceil(place - 0.5)
    raise call.refuse("nearest_mode must be floor, ceil, round_prefer_floor or round_prefer_ceil", mode)


def _places(call: Call, size: int, new: int, scale: float) -> Array:
    """Where in an axis of `size` numbers each of the `new` ones lies."""
    place = np.arange(new, dtype=np.float64)
    mode = call.attribute("coordinate_transformation_mode", "half_pixel")
    if mode == "asymmetric":
        return place / scale
    if mode == "half_pixel" or (mode == "pytorch_half_pixel" and new > 1):
        return (place + 0.5) / scale - 0.5
    if mode == "pytorch_half_pixel":
        return np.zeros(new)
    if mode == "align_corners":
        return place * ((size - 1) / (new - 1)) if new > 1 else np.zeros(new)
    raise call.refuse("coordinates must be asymmetric, half_pixel, pytorch_half_pixel or align_corners", mode)


def _resize(call: Call) -> Array:
    x = call[0]
    if call.attribute("mode", "nearest") != "nearest":
        raise call.refuse("mode must be 'nearest'", call.attribute("mode"))
    if call.attribute("keep_aspect_ratio_policy", "stretch") != "stretch":
        raise call.refuse("keep_aspect_ratio_policy must be 'stretch'", call.attribute("keep_aspect_ratio_policy"))
    axes = [_axis(call, axis, x.ndim) for axis in call.attribute("axes", range(x.ndim))]
    sizes, given = call.integers(3), call.optional(2)
    if sizes:
        scales = [new / x.shape[axis] for new, axis in zip(sizes, axes, strict=True)]
    elif given is not None and given.size:
        scales = [float(value) for value in given]
        sizes = tuple(int(np.floor(x.shape[axis] * scale)) for axis, scale in zip(axes, scales, strict=True))
    else:
        raise call.refuse("scales or sizes must be given", None)
    new_shape = list(x.shape)
    for axis, new in zip(axes, sizes, strict=True):
        new_shape[axis] = new
    check_size(call.node, tuple(new_shape), x.itemsize)
    for axis, new, scale in zip(axes, sizes, scales, strict=True):
        if new != x.shape[axis] or scale != 1:
            index = _nearest(call, _places(call, x.shape[axis], new, scale)).astype(np.int64)
            x = np.take(x, np.clip(index, 0, x.shape[axis] - 1), axis=axis)
    return x


def _top(call: Call) -> tuple[Array, Array]:
    x, count = call[0], int(call[1].reshape(-1)[0])
    axis = _axis(call, call.attribute("axis", -1), x.ndim)
    if not 0 <= count <= x.shape[axis]:
        raise call.refuse(f"k must be at most {x.shape[axis]}", count)
    if call.attribute("largest", 1):  # among equals the first comes first
        order = np.flip(x.shape[axis] - 1 - np.argsort(np.flip(x, axis), axis=axis, kind="stable"), axis)
    else:
        order = np.argsort(x, axis=axis, kind="stable")
    order = np.take(order, np.arange(count), axis=axis)
    return np.take_along_axis(x, order, axis=axis), order.astype(np.int64)


SHAPES: dict[str, Operation] = {
    "Concat": Operation(_concat),
    "ConstantOfShape": Operation(_constant_of_shape),
    "CumSum": Operation(_cumulative, "elementwise"),
    "DepthToSpace": Operation(_depth_to_space),
    "Expand": Operation(_expand),
    "Flatten": Operation(_flatten),
    "Gather": Operation(_gather),
    "GatherElements": Operation(_gather_elements),
    "GatherND": Operation(_gather_nd),
    "OneHot": Operation(_one_hot),
    "Pad": Operation(_pad),
    "Range": Operation(_range),
    "Reshape": Operation(_reshape),
    "Resize": Operation(_resize),
    "Shape": Operation(_shape),
    "Size": Operation(lambda call: np.array(call[0].size, dtype=np.int64)),
    "Slice": Operation(_slice),
    "SpaceToDepth": Operation(_space_to_depth),
    "Split": Operation(_split),
    "Squeeze": Operation(_squeeze),
    "Tile": Operation(_tile),
    "TopK": Operation(_top, "comparison"),
    "Transpose": Operation(_transpose),
    "Trilu": Operation(_triangle),
    "Unsqueeze": Operation(_unsqueeze),
}
