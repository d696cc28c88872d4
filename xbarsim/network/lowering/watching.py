"""Seeing the products of a model as it runs: a torch function mode, and the table of the products that were seen."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, TypeGuard

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from xbarsim.network.layers import CrossbarLayer
from xbarsim.network.lowered import Product
from xbarsim.network.lowering.blocked_tensor import LEAST_IMAGES, BlockedTensor
from xbarsim.network.lowering.products import READERS, Call, is_vectorised
from xbarsim.network.lowering.products.base import same
from xbarsim.network.lowering.tensor_layers import TensorLayer
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
        self._by_place: dict[int, list[tuple[str, Tensor]]] = {}
        self._by_identity: dict[int, tuple[str, Tensor]] = {}
        for name, tensor in [*model.named_parameters(), *model.named_buffers()]:
            if tensor.numel() and _has_place(tensor):
                self._by_place.setdefault(tensor.untyped_storage().data_ptr(), []).append((name, tensor))
                self._by_identity[id(tensor)] = (name, tensor)

    def view(self, tensor: Tensor) -> _View | None:
        """What of a parameter this is; ``None`` where its numbers were computed."""
        known = self._by_identity.get(id(tensor))
        if known is not None and known[1] is tensor:  # also where a model has put other numbers into it
            return self._view(known[0], tensor, 0)
        if not _has_place(tensor):
            return None
        offset = int(tensor.storage_offset())
        for name, parameter in self._by_place.get(tensor.untyped_storage().data_ptr(), ()):
            first = int(parameter.storage_offset())  # several parameters may lie in one storage
            moved = parameter.untyped_storage().data_ptr() != tensor.untyped_storage().data_ptr()
            if not moved and tensor.dtype == parameter.dtype and first <= offset < first + _extent(parameter):
                return self._view(name, tensor, offset - first)
        return None

    def layout(self) -> dict[str, _View]:
        """Where the numbers of each parameter and buffer lie: what must be the same in a copy of the model."""
        views = {name: self.view(tensor) for name, tensor in self._by_identity.values()}
        return {name: view for name, view in views.items() if view is not None}

    @staticmethod
    def _view(name: str, tensor: Tensor, offset: int) -> _View:
        return _View(name, offset, tuple(tensor.shape), tensor.stride())


def _has_place(tensor: Tensor) -> bool:
    """Whether its numbers lie in a storage: not those of sparse, nested and vectorised tensors."""
    return tensor.layout == torch.strided and not tensor.is_nested and not is_vectorised(tensor)


def _extent(tensor: Tensor) -> int:
    """Elements of the storage from its first to its last."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    return 1 + sum((size - 1) * stride for size, stride in steps)


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

    def is_same(self, tensor: Tensor, parameters: Parameters, *, cast: bool = False) -> bool:
        """Whether a tensor is this one; with `cast`, also where it is a parameter in another precision."""
        view = parameters.view(tensor)
        if self.view is not None and (view is not None or not cast):
            return self.view == view
        if self.values.shape != tensor.shape or view is not None:
            return False
        distance = float((tensor.detach().to(self.values.device).double() - self.values.double()).norm())
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

    def is_of(self, call: Call, parameters: Parameters, *, cast: bool) -> bool:
        if (self.bias is None) != (call.bias is None) or not self.weight.is_same(call.weight, parameters, cast=cast):
            return False
        return self.bias is None or (call.bias is not None and self.bias.is_same(call.bias, parameters, cast=cast))


class ProductTable:
    """The products of a model that were seen, each by its weights, bias and geometry.

    A call is one of them where its weights are: the same elements of the same parameter, or, where a model computes its
    weights, numbers that are the same to the rounding of their sums. So a product is on the tiles that hold its matrix,
    whichever module calls it, and no other is.

    Attributes
    ----------
    products
        By name, in the order in which they were seen.
    beforehand : set
        Parameters that were multiplied with what is the same for every sample.
    """

    def __init__(self) -> None:
        self.products: dict[str, Product] = {}
        self.beforehand: set[str] = set()
        self._entries: dict[tuple[Any, ...], list[_Entry]] = {}

    @staticmethod
    def _key(call: Call) -> tuple[Any, ...]:
        return (call.geometry, tuple(call.weight.shape))

    def name_of(self, call: Call, parameters: Parameters) -> str | None:
        """The product that a call is, or ``None``."""
        entries = self._entries.get(self._key(call), ())
        for cast in (False, True):  # a parameter itself goes before one of the same numbers
            for entry in entries:
                if entry.is_of(call, parameters, cast=cast):
                    return entry.name
        return None

    def remove(self, name: str) -> None:
        """Take a product out again."""
        del self.products[name]
        self._entries = {
            key: [entry for entry in entries if entry.name != name] for key, entries in self._entries.items()
        }

    def enter(self, call: Call, parameters: Parameters, name: str, module: nn.Module | None) -> str:
        """A new product; its name gets a number where another has it.

        What the module that holds its weights says of it (``output_names``, ``input_limit``, ``input_bits``) goes with
        it.

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
        added = np.zeros(1, np.float32) if bias is None else bias.array()
        made = replace(
            call.product(weight.array(), added),
            output_names=tuple(getattr(module, "output_names", ())),
            input_limit=getattr(module, "input_limit", None),
            input_bits=getattr(module, "input_bits", None),
        )
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
_SOURCES = "_xbarsim_sources"  # marks constants, and names the parameters that they were computed from

_RANDOM = frozenset(
    [
        "alpha_dropout",
        "bernoulli",
        "bernoulli_",
        "cauchy_",
        "dropout",
        "exponential_",
        "feature_alpha_dropout",
        "feature_dropout",
        "geometric_",
        "log_normal_",
        "multinomial",
        "normal",
        "normal_",
        "poisson",
        "rand",
        "rand_like",
        "randint",
        "randint_like",
        "randn",
        "randn_like",
        "random_",
        "randperm",
        "rrelu",
        "uniform_",
    ]
)
"""Functions whose results are other ones at each call."""

_FROM_OUTSIDE = frozenset(("from_numpy", "frombuffer", "from_dlpack", "tensor", "as_tensor", "asarray"))
"""Functions that may bring in what was computed from the input where no mode sees it."""


class Discovery(_Watching):
    """Runs of a model in which its products are found: those of inputs that vary with weights that do not.

    A tensor varies if it was computed from an input, as far as this mode sees; it is constant if it is a parameter or
    was computed from constants alone. What comes from where the mode does not see (scripts, autograd functions, NumPy)
    is neither: as an input of a product it is taken to vary; as a weight it is taken to be constant until
    :meth:`confirm` finds that it changes with the samples.

    Parameters
    ----------
    model
        The model, as it will run.
    table
        Gets every product that is new.
    count
        Called with function, arguments, keywords, result and the name of the running module for each function of
        varying inputs that is no product of the table, or ``None``.

    Attributes
    ----------
    used : dict
        By product, the parameters that went into it.
    digital : dict
        By parameter, the functions of varying inputs that it went into and that are no products.
    reached : set
        Parameters that were used at all.
    doubtful : set
        Products whose weights come from where the mode does not see.
    """

    def __init__(self, model: nn.Module, table: ProductTable, count: Callable[..., None] | None = None) -> None:
        super().__init__()
        self._parameters = Parameters(model)
        self.model, self._table, self.count = model, table, count
        self._running: list[str] = []
        self.used: dict[str, set[str]] = {}
        self.digital: dict[str, list[str]] = {}
        self.reached: set[str] = set()
        self.doubtful: set[str] = set()
        self._hit: set[str] = set()
        for module in model.modules():
            for tensor in _tensors(list(vars(module).values())):
                setattr(tensor, _SOURCES, set())

    def confirm(self, run: Callable[[], None] | None) -> None:
        """Take products out whose weights are others for other samples.

        Parameters
        ----------
        run
            Runs the model on other samples than before, or ``None`` where there are none: then nothing is confirmed.
        """
        doubtful, self.doubtful = self.doubtful, set()
        self._hit.clear()
        if run is not None:
            run()
        for name in (doubtful - self._hit) | self.doubtful:
            self._table.remove(name)
            for source in self.used.pop(name, ()):
                self.digital.setdefault(source, []).append("weights that may depend on the sample")
        self.doubtful = doubtful & self._hit

    @contextmanager
    def names(self) -> Iterator[None]:
        """Know which module is running, for the names of products whose weights are computed."""
        handles = []
        for name, module in self.model.named_modules():
            if isinstance(module, torch.jit.ScriptModule):
                continue  # takes no hooks

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

    def _constant(self, values: Any) -> bool:
        """Whether nothing varies or comes from where this mode does not see."""
        return all(
            not getattr(tensor, _VARIES, False)
            and (hasattr(tensor, _SOURCES) or self._parameters.view(tensor) is not None)
            for tensor in _tensors(values)
        )

    def _sources(self, values: Any) -> set[str]:
        names: set[str] = set()
        for tensor in _tensors(values):
            names |= getattr(tensor, _SOURCES, set())
            view = self._parameters.view(tensor)
            if view is not None:
                names.add(view.parameter)
        return names

    def other(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Run what is no product, and see on what its results depend."""
        given = (arguments, keywords)
        varies, constant, sources = self._varies(given), self._constant(given), self._sources(given)
        result = function(*arguments, **keywords)
        name = getattr(function, "__name__", str(function))
        if not constant and name != "__get__":  # an attribute such as a shape
            for source in sources:
                users = self.digital.setdefault(source, [])
                if name not in users:
                    users.append(name)
            if self.count is not None:
                self.count(function, arguments, keywords, result, self._owner())
        if varies or (name in _RANDOM and keywords.get("training", True)):
            changed = [arguments[0]] if arguments and (name.endswith("_") or name == "__setitem__") else []
            changed += [tensor._base for tensor in _tensors(changed) if tensor._base is not None]
            for tensor in _tensors((result, changed, keywords.get("out"))):
                self.mark(tensor)
        elif constant and name not in _FROM_OUTSIDE:
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
            weights = (call.weight, call.bias)
            if call.inputs.numel() == 0 and self._varies(call.given):  # a branch without samples
                result = function(*arguments, **keywords)
                self.mark(result)
                return result
            if self._constant(call.given):
                self._table.beforehand |= self._sources(weights)
                continue
            if call.inputs.numel() == 0 or self._varies(weights):
                continue
            name = self._table.name_of(call, self._parameters)
            if name is None:
                name, blocks = self._name(call)
                if name in self._table.products:  # held by one module, and used by another in another way
                    name = self._owner() or name
                name = self._table.enter(call, self._parameters, name, blocks)
                if not self._constant(weights):
                    self.doubtful.add(name)
            self._hit.add(name)
            self.used.setdefault(name, set()).update(self._sources(weights) or self._holders(call.weight))
            self.reached |= self.used[name]
            result = function(*arguments, **keywords)
            self.mark(result)
            return result
        return self.other(function, arguments, keywords)

    def _holders(self, weight: Tensor) -> set[str]:
        """Parameters that weights of unseen origin are made from, by their shape: those of the module that runs."""
        owner = self._owner()
        module = self.model.get_submodule(owner)
        return {
            f"{owner}.{name}" if owner else name
            for name, parameter in module.named_parameters(recurse=False)
            if parameter.shape == weight.shape
        }

    def _name(self, call: Call) -> tuple[str, nn.Module | None]:
        """What a new product is called, and the module that holds its weights, if one does."""
        view = self._parameters.view(call.weight)
        if view is None:
            return self._owner(), None
        owner, _, attribute = view.parameter.rpartition(".")
        return (owner if attribute == "weight" else view.parameter), self.model.get_submodule(owner)


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
    unseen
        Told of the parameter of every product that is not in the table, or ``None``.
    """

    def __init__(
        self,
        parameters: Parameters,
        table: ProductTable,
        layers: Mapping[str, Layer] | None,
        watch: Watch | None,
        unseen: Callable[[str], None] | None = None,
    ) -> None:
        super().__init__()
        self._parameters, self._table, self._layers, self._watch = parameters, table, layers or {}, watch
        self._unseen = unseen

    def product(self, function: Callable[..., Any], arguments: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
        """Give the product to its layer, if it has one."""
        for call in READERS[function].read(function, arguments, keywords):
            if call.inputs.numel() == 0:
                continue
            name = self._table.name_of(call, self._parameters)
            if name is None:
                self._tell(call)
                continue
            layer = self._layers.get(name)
            if layer is None and self._watch is None:
                break
            if self._watch is None and _runs_in_blocks(layer, call):
                maps = call.inputs.maps if isinstance(call.inputs, BlockedTensor) else None
                return BlockedTensor(layer.run_blocked(_array(call.inputs) if maps is None else maps))
            inputs = None if self._watch is None and isinstance(layer, TensorLayer) else _array(call.inputs)
            if layer is None:
                result = function(*arguments, **keywords)
                answer = call.begin(result)
            else:
                if isinstance(layer, TensorLayer):
                    answer = layer(call.inputs.detach())
                else:
                    answer = torch.from_numpy(layer(np.asarray(inputs, dtype=np.float32)))
                result = call.finish(answer.to(call.inputs.dtype))
            if self._watch is not None:
                assert inputs is not None
                self._watch(name, inputs, _array(answer))
            return result
        return function(*arguments, **keywords)

    def _tell(self, call: Call) -> None:
        view = self._parameters.view(call.weight)
        known = view is None or view.parameter in self._table.beforehand or self._parameters.view(call.given)
        if not known and view is not None and self._unseen is not None:
            self._unseen(view.parameter)


def _runs_in_blocks(layer: Any, call: Call) -> TypeGuard[CrossbarLayer]:
    """Whether a layer can take the inputs of a call as feature maps in blocks, and give such."""
    if not isinstance(layer, CrossbarLayer) or not layer.blocks or call.finish is not same:
        return False
    return call.inputs.dtype == torch.float32 and len(call.inputs) >= LEAST_IMAGES


def _array(tensor: Tensor) -> npt.NDArray[Any]:
    """Its numbers as NumPy knows them: float64 stays, anything narrower becomes float32."""
    kept = tensor.detach()
    array: npt.NDArray[Any] = (kept if kept.dtype == torch.float64 else kept.float()).resolve_neg().cpu().numpy()
    return array
