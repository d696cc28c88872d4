"""A torch model between its products: it runs as it is, and its products go to whoever multiplies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.engine import plain_products
from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.blocked_tensor import unblocked
from xbarsim.network.lowering.prepare import cast_floats, moved, sharing_copy
from xbarsim.network.lowering.tensor_layers import settle
from xbarsim.network.lowering.watching import Parameters, ProductTable, Substitution
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["TorchSkeleton", "UnseenProductWarning", "as_tensors", "model_tensors"]


class UnseenProductWarning(UserWarning):
    """A product runs that the calibration samples did not reach: digitally, in floating point; the message names it."""


def as_tensors(
    samples: Samples,
    *,
    precision: torch.dtype = torch.float32,
    device: torch.device | None = None,
    dies: int = 1,
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Samples as torch takes them, copied; floating ones in a precision; all of them again for each of several dies."""

    def tensor(array: Any) -> Tensor:
        made = torch.from_numpy(array.copy()).to(device=device)  # a model may write into its inputs
        made = made.to(precision) if made.is_floating_point() else made
        return made if dies == 1 else made.repeat(dies, *[1] * (made.ndim - 1))

    return tuple(map(tensor, samples.arguments)), {key: tensor(array) for key, array in samples.keywords.items()}


def model_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Parameters, buffers, and tensors that are plain attributes of a module, each once, by name."""
    tensors = dict([*model.named_parameters(), *model.named_buffers()])
    for name, module in model.named_modules():
        for attribute, value in vars(module).items():
            if isinstance(value, Tensor):
                tensors[f"{name}.{attribute}" if name else attribute] = value
    return tensors


class TorchSkeleton(Skeleton):
    """A torch model and the table of its products.

    Parameters
    ----------
    model
        In evaluation mode, float32, on the CPU.
    table
        Its products.
    double
        Whether the model is in float64.
    device
        Where it runs, if not on the CPU.
    dies
        How many dies it runs for at once: each sample stands in the batch once for each of them, the samples of a die
        one after another.
    """

    gives_tensors: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        table: ProductTable,
        *,
        double: bool = False,
        device: torch.device | None = None,
        dies: int = 1,
    ) -> None:
        self.model = model
        self._table, self._double, self._device, self._dies = table, double, device, dies
        self._running = sharing_copy(model)  # what it remembers between its calls is not the model's
        self._parameters = Parameters(self._running)
        self._unseen: set[str] = set()

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_parameters": self._parameters.layout()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # In a copy the numbers lie elsewhere: products would not be found, and be computed in floating point.
        self.__dict__.update(state)
        self._parameters = Parameters(self._running)
        if self._parameters.layout() != state["_parameters"]:
            raise InputError(
                "model must have parameters that lie in a copy, or in another process, as they lie here, got "
                f"{type(self.model).__name__}, some of whose parameters are parts of others or are not contiguous"
            )

    def run(self, samples: Samples, layers: Mapping[str, Layer] | None = None, *, watch: Watch | None = None) -> Any:
        """Run the model, as :meth:`Skeleton.run`; gives tensors."""
        arguments, keywords = as_tensors(
            samples,
            precision=torch.float64 if self._double else torch.float32,
            device=self._device,
            dies=self._dies,
        )
        unseen: set[str] = set()
        with (
            torch.no_grad(),
            nullcontext() if self._device is None else self._device,  # where the model makes tensors
            plain_products(),
            Substitution(self._parameters, self._table, layers, watch, unseen.add),
        ):
            result = unblocked(self._running(*arguments, **keywords))
        settle(layers or {})
        if layers and unseen - self._unseen:
            self._unseen |= unseen
            warnings.warn(
                "these weights were not reached by the calibration samples, stay digital and are used now: "
                f"{', '.join(sorted(unseen))}",
                UnseenProductWarning,
                stacklevel=2,
            )
        return result

    def doubled(self) -> TorchSkeleton:
        """The model in float64, as :meth:`Skeleton.doubled`."""
        return TorchSkeleton(cast_floats(copy.deepcopy(self.model), torch.float64), self._table, double=True)

    def stored(self) -> tuple[str, dict[str, npt.NDArray[Any]]]:
        """Parameters, buffers and other tensors of the model, as :meth:`Skeleton.stored`.

        Raises
        ------
        InputError
            If one is of a type that no file holds.
        """
        arrays = {}
        for name, tensor in model_tensors(self.model).items():
            if tensor.layout != torch.strided or tensor.is_complex() or tensor.is_quantized:
                raise InputError(f"model must have dense real tensors to be saved, got {tensor.dtype} in {name!r}")
            arrays[name] = tensor.detach().numpy()
        return "torch", arrays

    def own(self) -> TorchSkeleton:
        """A model with a memory of its own, as it was before any run, as :meth:`Skeleton.own`."""
        return TorchSkeleton(self.model, self._table, double=self._double, device=self._device, dies=self._dies)

    def on(self, device: torch.device, *, dies: int = 1) -> TorchSkeleton:
        """The same with all its numbers on a device, for one die or several at once; with a memory of its own."""
        return TorchSkeleton(moved(self.model, device), self._table, double=self._double, device=device, dies=dies)
