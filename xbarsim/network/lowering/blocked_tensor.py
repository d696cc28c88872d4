"""Activations of a torch model whose numbers stay in blocks of 16 images from layer to layer.

A model is any code. So a tensor of this kind is a tensor to it in every respect: what it does with one either has a
counterpart on blocks that gives the same numbers, or the tensor is taken apart into a plain one, once, and is that
from then on.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from torch.utils._pytree import tree_map_only

from xbarsim.engine import BlockedMaps

__all__ = ["LEAST_IMAGES", "BlockedTensor", "unblocked"]

LEAST_IMAGES = 8
"""For fewer images in a batch, blocks of 16 are more work than turning them over."""


class BlockedTensor(Tensor):
    """A float32 tensor on the CPU, shape ``(images, channels, height, width)``.

    Parameters
    ----------
    maps
        Its numbers.
    """

    _maps: BlockedMaps | None
    _plain: Tensor | None
    _whole: tuple[BlockedTensor, Any] | None  # what this one is a view of, and which part of it
    _views: list[weakref.ref[BlockedTensor]]

    @staticmethod
    def __new__(cls, maps: BlockedMaps) -> BlockedTensor:
        """A tensor without memory of its own."""
        made: BlockedTensor = Tensor._make_wrapper_subclass(cls, maps.shape, dtype=torch.float32)
        made._maps, made._plain = maps, None
        made._whole, made._views = None, []
        return made

    def __init__(self, maps: BlockedMaps) -> None:
        """Nothing is left to do."""

    @property
    def maps(self) -> BlockedMaps | None:
        """Its numbers in blocks; ``None`` once it is a plain tensor."""
        return self._maps

    @property
    def alone(self) -> bool:
        """Whether it is no view of another, and no other one of it."""
        return self._whole is None and all(view() is None for view in self._views)

    def become(self, maps: BlockedMaps) -> None:
        """Other numbers of the same shape, in place; only where it is :attr:`alone`."""
        self._maps = maps

    def part(self, index: Any, maps: BlockedMaps) -> BlockedTensor:
        """A view of this one, whose numbers are given too."""
        view = BlockedTensor(maps)
        view._whole = self, index
        self._views.append(weakref.ref(view))
        return view

    def plain(self) -> Tensor:
        """The plain tensor that it is from now on: another may be a view of it, or write into it.

        What this is a view of, and what is a view of this, becomes plain with it.
        """
        if self._plain is None and self._whole is not None:
            self._whole[0].plain()
        if self._plain is None:
            assert self._maps is not None
            self._turn(torch.from_numpy(self._maps.plain()))
        assert self._plain is not None
        return self._plain

    def _turn(self, plain: Tensor) -> None:
        """Be that plain tensor, and all views with it."""
        self._plain, self._maps = plain, None
        for view in (reference() for reference in self._views):
            if view is not None:
                assert view._whole is not None
                view._turn(plain[view._whole[1]])

    @classmethod
    def __torch_function__(
        cls, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        if function in _OF_SHAPE:
            with torch._C.DisableTorchFunctionSubclass():
                return function(*arguments, **keywords)
        if function in _IN_BLOCKS and not set(keywords) - _KNOWN:
            answer = _IN_BLOCKS[function](*arguments, **keywords)
            if answer is not NotImplemented:
                return answer
        return function(*unblocked(arguments), **unblocked(keywords))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's own stub leaves the function out
        cls, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        """What torch calls by itself."""
        return function(*unblocked(arguments), **unblocked(keywords or {}))


def unblocked(values: Any) -> Any:
    """Arguments or results with plain tensors in the place of those in blocks."""
    return tree_map_only(BlockedTensor, lambda tensor: tensor.plain(), values)


def _maps_of(value: Any) -> BlockedMaps | None:
    """Numbers in blocks, if they are still there."""
    return value.maps if isinstance(value, BlockedTensor) else None


def _relu(input: Any, inplace: bool = False) -> Any:
    maps = _maps_of(input)
    if maps is None:
        return NotImplemented
    if inplace:
        if not input.alone:
            return NotImplemented
        input.become(maps.relu())
        return input
    return BlockedTensor(maps.relu())


def _relu_in_place(input: Any) -> Any:
    return _relu(input, inplace=True)


def _both(left: Any, right: Any) -> tuple[BlockedMaps, BlockedMaps] | None:
    """Both as blocks of one shape; ``None`` unless the first is, and the other is or can be made such."""
    if not isinstance(left, Tensor) or not isinstance(right, Tensor):
        return None
    if left.shape != right.shape or {left.dtype, right.dtype} != {torch.float32}:
        return None
    found = []
    for each in (left, right):
        maps = _maps_of(each)
        if maps is None:
            plain = unblocked(each)
            if type(plain) is not Tensor or plain.layout != torch.strided or plain.device.type != "cpu":
                return None
            maps = BlockedMaps.of(plain.detach().resolve_neg().numpy())
        found.append(maps)
    return found[0], found[1]


def _add(input: Any, other: Any) -> Any:
    if _maps_of(input) is None and _maps_of(other) is None:
        return NotImplemented
    both = _both(input, other)
    return NotImplemented if both is None else BlockedTensor(both[0].plus(both[1]))


def _add_in_place(input: Any, other: Any) -> Any:
    both = None if _maps_of(input) is None or not input.alone else _both(input, other)
    if both is None:
        return NotImplemented
    input.become(both[0].plus(both[1]))
    return input


def _pair(value: Any) -> tuple[int, int]:
    first, second = value if isinstance(value, tuple | list) else (value, value)
    return int(first), int(second)


def _max_pool(
    input: Any,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> Any:
    maps = _maps_of(input)
    if maps is None or ceil_mode or return_indices or _pair(padding) != (0, 0) or _pair(dilation) != (1, 1):
        return NotImplemented
    kernel, step = _pair(kernel_size), _pair(stride or kernel_size)
    if min(*kernel, *step) < 1 or any(size > each for size, each in zip(kernel, maps.shape[2:], strict=True)):
        return NotImplemented
    return BlockedTensor(maps.largest(kernel, step))


def _item(input: Any, index: Any) -> Any:
    """Slices of channels, rows and columns, of all images."""
    maps = _maps_of(input)
    if maps is None or not isinstance(index, tuple) or len(index) > 4:
        return NotImplemented
    if not all(isinstance(each, slice) and all(_is_int_or_none(end) for end in _ends(each)) for each in index):
        return NotImplemented
    images, *rest = [*index] + [slice(None)] * (4 - len(index))
    sizes = [len(range(*each.indices(size))) for each, size in zip(rest, maps.shape[1:], strict=True)]
    if images != slice(None) or any((each.step or 1) < 1 for each in rest) or 0 in sizes:
        return NotImplemented
    return input.part(index, maps.cut(*rest))


def _ends(part: slice) -> tuple[Any, Any, Any]:
    return part.start, part.stop, part.step


def _is_int_or_none(value: Any) -> bool:
    return value is None or type(value) is int


def _pad(input: Any, pad: Any, mode: str = "constant", value: Any = None) -> Any:
    maps = _maps_of(input)
    if maps is None or mode != "constant" or value not in (None, 0):
        return NotImplemented
    if not isinstance(pad, tuple | list) or len(pad) not in (2, 4, 6):
        return NotImplemented
    if not all(type(each) is int and each >= 0 for each in pad):
        return NotImplemented
    pairs = [(pad[place], pad[place + 1]) for place in range(0, len(pad), 2)]
    columns, rows, channels = pairs + [(0, 0)] * (3 - len(pairs))
    return BlockedTensor(maps.padded(channels, rows, columns))


_PROPERTIES = (
    "device",
    "dtype",
    "grad_fn",
    "is_cuda",
    "is_nested",
    "is_sparse",
    "layout",
    "ndim",
    "requires_grad",
    "shape",
)

# What a tensor is, and not what its numbers are.
_OF_SHAPE: frozenset[Any] = frozenset(
    [
        Tensor.__len__,
        Tensor.dim,
        Tensor.is_complex,
        Tensor.is_floating_point,
        Tensor.numel,
        Tensor.size,
        *(getattr(Tensor, name).__get__ for name in _PROPERTIES),
    ]
)

# Keywords that what is done in blocks knows; with others a tensor is taken apart.
_KNOWN = frozenset(
    [
        "ceil_mode",
        "dilation",
        "inplace",
        "input",
        "kernel_size",
        "mode",
        "other",
        "pad",
        "padding",
        "return_indices",
        "stride",
        "value",
    ]
)

_IN_BLOCKS: dict[Any, Callable[..., Any]] = {
    functional.relu: _relu,
    functional.relu_: _relu_in_place,
    torch.relu: _relu,
    torch.relu_: _relu_in_place,
    Tensor.relu: _relu,
    Tensor.relu_: _relu_in_place,
    torch.add: _add,
    Tensor.add: _add,
    Tensor.__add__: _add,
    Tensor.__radd__: _add,
    Tensor.add_: _add_in_place,
    Tensor.__iadd__: _add_in_place,
    functional.max_pool2d: _max_pool,
    torch.max_pool2d: _max_pool,
    Tensor.__getitem__: _item,
    functional.pad: _pad,
}
