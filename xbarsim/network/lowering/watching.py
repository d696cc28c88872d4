"""Seeing the products of a model as it runs: a torch function mode, and the table of the products that were seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xbarsim.network.lowered import Product
from xbarsim.network.lowering.products import READERS, Call
from xbarsim.network.skeleton import Layer, Watch

__all__ = ["Discovery", "Parameters", "ProductTable", "Substitution"]

_SAME = 1e-4  # relative distance within which a computed weight is the same: sums depend on order and precision


@dataclass(frozen=True)
class _View:
    """Which elements of which parameter a tensor is."""

    parameter: str
    offset: int
    shape: tuple[int, ...]
    stride: tuple[int, ...]


class Parameters:
    """Parameters and buffers of a model by where their numbers lie, so that views of them are known.

    Parameters
    ----------
    model
        The model.
    """

    def __init__(self, model: nn.Module) -> None:
        self._by_place: dict[int, tuple[str, Tensor]] = {}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.numel():
                self._by_place.setdefault(tensor.untyped_storage().data_ptr(), (name, tensor))

    def view(self, tensor: Tensor) -> _View | None:
        """What of a parameter this is; ``None`` where its numbers were computed."""
        named = self._by_place.get(tensor.untyped_storage().data_ptr())
        if named is None or tensor.dtype != named[1].dtype:
            return None
        return _View(named[0], int(tensor.storage_offset()), tuple(tensor.shape), tensor.stride())

    def sizes(self) -> dict[str, int]:
        """How many numbers each parameter and buffer holds."""
        return {name: tensor.numel() for name, tensor in self._by_place.values()}


@dataclass(frozen=True, eq=False)
class _Constant:
    """A tensor that does not depend on the input: a view of a parameter, or what was computed."""

    view: _View | None
    values: Tensor

    @classmethod
    def of(cls, tensor: Tensor, parameters: Parameters) -> _Constant:
        view = parameters.view(tensor)
        values = tensor.detach()
        return cls(view, values if view is not None else values.clone())

    def is_same(self, tensor: Tensor, parameters: Parameters) -> bool:
        if self.view is not None:
            return self.view == parameters.view(tensor)
        if self.values.shape != tensor.shape or parameters.view(tensor) is not None:
            return False
        distance = float((tensor.detach().double() - self.values.double()).norm())
        return distance <= _SAME * float(self.values.double().norm())

    def array(self) -> npt.NDArray[np.float32]:
        array: npt.NDArray[np.float32] = self.values.cpu().float().numpy()
        return array


@dataclass(frozen=True, eq=False)
class _Entry:
    """One product of the table."""

    name: str
    weight: _Constant
    bias: _Constant | None

    def is_of(self, call: Call, parameters: Parameters) -> bool:
        if (self.bias is None) != (call.bias is None) or not self.weight.is_same(call.weight, parameters):
            return False
        return self.bias is None or (call.bias is not None and self.bias.is_same(call.bias, parameters))


class ProductTable:
    """The products of a model that were seen, each by its weights, bias and geometry.

    A call is one of them where its weights are: the same elements of the same parameter, or, where a model computes its
    weights, numbers that are the same to the rounding of their sums. So a product is on the tiles that hold its matrix,
    whichever module calls it, and no other is.

    Attributes
    ----------
    products
        By name, in the order in which they were seen.
    """

    def __init__(self) -> None:
        self.products: dict[str, Product] = {}
        self._entries: dict[tuple[Any, ...], list[_Entry]] = {}

    @staticmethod
    def _key(call: Call) -> tuple[Any, ...]:
        return (call.geometry, tuple(call.weight.shape))

    def name_of(self, call: Call, parameters: Parameters) -> str | None:
        """The product that a call is, or ``None``."""
        for entry in self._entries.get(self._key(call), ()):
            if entry.is_of(call, parameters):
                return entry.name
        return None

    def enter(self, call: Call, parameters: Parameters, name: str, output_names: tuple[str, ...]) -> str:
        """A new product; its name gets a number where another has it.

        Returns
        -------
        str
            The name.
        """
        number, unique = 1, name
        while unique in self.products:
            number += 1
            unique = f"{name}.{number}" if name else str(number)
        weight = _Constant.of(call.weight, parameters)
        bias = None if call.bias is None else _Constant.of(call.bias, parameters)
        probe = call.product(weight.array(), np.zeros(1, np.float32))
        outputs = probe.weights.shape[1]
        added = np.zeros(outputs, np.float32) if bias is None else bias.array().reshape(-1).copy()
        made = call.product(weight.array(), added)
        if output_names:
            made = Product(**{**vars(made), "output_names": output_names})
        self.products[unique] = made
        self._entries.setdefault(self._key(call), []).append(_Entry(unique, weight, bias))
        return unique


def _tensors(values: Any) -> Iterator[Tensor]:
    """All tensors in arguments, also in lists of them."""
    if isinstance(values, Tensor):
        yield values
    elif isinstance(values, tuple | list):
        for value in values:
            yield from _tensors(value)
    elif isinstance(values, dict):
        for value in values.values():
            yield from _tensors(value)


class _Watching(TorchFunctionMode):
    """A mode that leaves alone what is not a product."""

    def __torch_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...] = (), keywords: dict[str, Any] | None = None
    ) -> Any:
        keywords = keywords or {}
        if function in READERS:
            return self.product(function, arguments, keywords)
        return self.other(function, arguments, keywords)

    def product(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        raise NotImplementedError

    def other(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        return function(*arguments, **keywords)


_VARIES = "_xbarsim_varies"  # marks tensors that depend on the input
_SOURCES = "_xbarsim_sources"  # names the parameters that a constant was computed from


class Discovery(_Watching):
    """Runs of a model in which its products are found: those of inputs that vary with weights that do not.

    Parameters
    ----------
    model
        The model, as it will run.
    table
        Gets every product that is new.

    Attributes
    ----------
    used : dict
        By product, the parameters that went into it.
    digital : dict
        By parameter, the functions of varying inputs that it went into and that are no products.
    operations : dict
        Operations that are no products of the table, by kind, as counted by :func:`count_operations`.
    """

    def __init__(self, model: nn.Module, table: ProductTable, count: Callable[..., None] | None = None) -> None:
        super().__init__()
        self._parameters = Parameters(model)
        self._model, self._table, self._count = model, table, count
        self._running: list[str] = []
        self.used: dict[str, set[str]] = {}
        self.digital: dict[str, list[str]] = {}
        self.reached: set[str] = set()

    @contextmanager
    def names(self) -> Iterator[None]:
        """Know which module is running, for the names of products whose weights are computed."""
        handles = []
        for name, module in self._model.named_modules():

            def enter(module: nn.Module, arguments: Any, name: str = name) -> None:
                self._running.append(name)

            def leave(module: nn.Module, arguments: Any, output: Any) -> None:
                self._running.pop()

            # entered before a hook of the model's own computes weights, left after all
            handles.append(module.register_forward_pre_hook(enter, prepend=True))
            handles.append(module.register_forward_hook(leave, always_call=True))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()
            self._running.clear()

    def mark(self, tensor: Tensor) -> None:
        """Say that a tensor depends on the input."""
        setattr(tensor, _VARIES, True)

    def _varies(self, values: Any) -> bool:
        return any(getattr(tensor, _VARIES, False) for tensor in _tensors(values))

    def _sources(self, values: Any) -> set[str]:
        names: set[str] = set()
        for tensor in _tensors(values):
            names |= getattr(tensor, _SOURCES, set())
            if tensor.layout == torch.strided and not tensor.is_nested:
                view = self._parameters.view(tensor)
                if view is not None:
                    names.add(view.parameter)
        return names

    def other(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Run what is no product, and see on what its results depend."""
        result = function(*arguments, **keywords)
        given = (arguments, keywords)
        varies, sources = self._varies(given), self._sources(given)
        if varies:
            name = getattr(function, "__name__", str(function))
            if name != "__get__":  # an attribute such as a shape
                for source in sources:
                    users = self.digital.setdefault(source, [])
                    if name not in users:
                        users.append(name)
                if self._count is not None:
                    self._count(function, arguments, keywords, result, self._owner())
            changed = arguments[0] if name.endswith("_") or name == "__setitem__" else None
            for tensor in _tensors((result, changed)):
                self.mark(tensor)
        elif sources:
            for tensor in _tensors(result):
                if not getattr(tensor, _VARIES, False):
                    setattr(tensor, _SOURCES, sources | getattr(tensor, _SOURCES, set()))
        self.reached |= sources
        return result

    def _owner(self) -> str:
        return self._running[-1] if self._running else ""

    def product(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Enter a product that is new, and run it."""
        for call in READERS[function].read(function, arguments, keywords):
            if call.inputs.numel() == 0 or not self._varies(call.inputs) or self._varies((call.weight, call.bias)):
                continue
            name = self._table.name_of(call, self._parameters)
            if name is None:
                name = self._table.enter(call, self._parameters, *self._name(call))
            self.used.setdefault(name, set()).update(self._sources((call.weight, call.bias)))
            result = function(*arguments, **keywords)
            self.mark(result)
            return result
        return self.other(function, arguments, keywords)

    def _name(self, call: Call) -> tuple[str, tuple[str, ...]]:
        """What a new product is called, and its blocks of outputs."""
        view = self._parameters.view(call.weight)
        if view is None:
            return self._owner(), ()
        owner, _, attribute = view.parameter.rpartition(".")
        module = self._model.get_submodule(owner)
        return (owner if attribute == "weight" else view.parameter), tuple(getattr(module, "output_names", ()))


class Substitution(_Watching):
    """Runs of a model in which layers compute its products.

    Parameters
    ----------
    parameters
        Of the model that runs.
    table
        Its products.
    layers
        Who multiplies, by name; ``None`` for the model itself.
    watch
        Told of every product.
    """

    def __init__(
        self, parameters: Parameters, table: ProductTable, layers: Mapping[str, Layer] | None, watch: Watch | None
    ) -> None:
        super().__init__()
        self._parameters, self._table, self._layers, self._watch = parameters, table, layers or {}, watch

    def product(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Give the product to its layer, if it has one."""
        for call in READERS[function].read(function, arguments, keywords):
            name = None if call.inputs.numel() == 0 else self._table.name_of(call, self._parameters)
            if name is None:
                continue
            layer = self._layers.get(name)
            if layer is None and self._watch is None:
                break
            inputs = call.inputs.detach().numpy()
            if layer is None:
                result = function(*arguments, **keywords)
                answer = call.begin(result)
            else:
                answer = torch.from_numpy(layer(np.asarray(inputs, dtype=np.float32)))
                result = call.finish(answer.to(call.inputs.dtype))
            if self._watch is not None:
                self._watch(name, inputs, answer.detach().numpy())
            return result
        return function(*arguments, **keywords)
