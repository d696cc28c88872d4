"""A torch model between its products: it runs as it is, and its products go to whoever multiplies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import numpy.typing as npt
import torch
from torch import Tensor, nn

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.prepare import sharing_copy
from xbarsim.network.lowering.watching import Parameters, ProductTable, Substitution
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["TorchSkeleton", "as_tensors", "model_tensors"]


def as_tensors(samples: Samples, *, double: bool = False) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Samples as torch takes them; floating ones in float64 if asked."""

    def tensor(array: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays that cannot be written: nobody does
            made = torch.from_numpy(array)
        return made.double() if double and made.is_floating_point() else made

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

    def __init__(self, model: nn.Module, table: ProductTable, *, double: bool = False) -> None:
        self.model = model
        self._table, self._double = table, double
        self._parameters = Parameters(model)

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_parameters": self._parameters.layout()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        # In a copy the numbers lie elsewhere: products would not be found, and be computed in floating point.
        self.__dict__.update(state)
        self._parameters = Parameters(self.model)
        if self._parameters.layout() != state["_parameters"]:
            raise InputError(
                "model must have parameters that lie in a copy, or in another process, as they lie here, got "
                f"{type(self.model).__name__}, some of whose parameters are parts of others or are not contiguous"
            )

    def run(self, samples: Samples, layers: Mapping[str, Layer] | None = None, *, watch: Watch | None = None) -> Any:
        """Run the model, as :meth:`Skeleton.run`; gives tensors."""
        arguments, keywords = as_tensors(samples, double=self._double)
        with torch.no_grad(), Substitution(self._parameters, self._table, layers, watch):
            return self.model(*arguments, **keywords)

    def doubled(self) -> TorchSkeleton:
        """The model in float64, as :meth:`Skeleton.doubled`."""
        return TorchSkeleton(copy.deepcopy(self.model).double(), self._table, double=True)

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
        """A model with a memory of its own, as :meth:`Skeleton.own`."""
        return TorchSkeleton(sharing_copy(self.model), self._table, double=self._double)
