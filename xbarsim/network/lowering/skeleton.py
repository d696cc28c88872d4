"""A torch model between its products: it runs as it is, and its products go to whoever multiplies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.prepare import cast_floats, sharing_copy
from xbarsim.network.lowering.watching import Parameters, ProductTable, Substitution
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["TorchSkeleton", "UnseenProductWarning", "as_tensors", "model_tensors"]


class UnseenProductWarning(UserWarning):
    """A product runs that the calibration samples did not reach: digitally, in floating point; the message names it."""


def as_tensors(
    samples: Samples, *, precision: torch.dtype = torch.float32
) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Samples as torch takes them, copied; floating ones in a precision."""

    def tensor(array: Any) -> Tensor:
        made = torch.from_numpy(array.copy())  # a model may write into its inputs
        return made.to(precision) if made.is_floating_point() else made

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
    """

    gives_tensors: ClassVar[bool] = True

    def __init__(self, model: nn.Module, table: ProductTable, *, double: bool = False) -> None:
        self.model = model
        self._table, self._double = table, double
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
        arguments, keywords = as_tensors(samples, precision=torch.float64 if self._double else torch.float32)
        unseen: set[str] = set()
        with torch.no_grad(), Substitution(self._parameters, self._table, layers, watch, unseen.add):
            result = self._running(*arguments, **keywords)
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
        return TorchSkeleton(self.model, self._table, double=self._double)
