"""A torch model between its products: it runs as it is, and its products go to whoever multiplies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xbarsim.network.lowering.chip import TorchChip
from xbarsim.network.lowering.prepare import sharing_copy
from xbarsim.network.lowering.watching import Parameters, ProductTable, Substitution
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["TorchSkeleton", "as_tensors"]


def as_tensors(samples: Samples, *, double: bool = False) -> tuple[tuple[Tensor, ...], dict[str, Tensor]]:
    """Samples as torch takes them; floating ones in float64 if asked."""

    def tensor(array: Any) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # arrays that cannot be written: nobody does
            made = torch.from_numpy(array)
        return made.double() if double and made.is_floating_point() else made

    return tuple(map(tensor, samples.arguments)), {key: tensor(array) for key, array in samples.keywords.items()}


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

    def run(self, samples: Samples, layers: Mapping[str, Layer] | None = None, *, watch: Watch | None = None) -> Any:
        """Run the model, as :meth:`Skeleton.run`; gives tensors."""
        arguments, keywords = as_tensors(samples, double=self._double)
        with torch.no_grad(), Substitution(self._parameters, self._table, layers, watch):
            return self.model(*arguments, **keywords)

    def doubled(self) -> TorchSkeleton:
        """The model in float64, as :meth:`Skeleton.doubled`."""
        return TorchSkeleton(copy.deepcopy(self.model).double(), self._table, double=True)

    def chip_type(self) -> type[TorchChip]:
        """Dies are torch modules."""
        return TorchChip

    def own(self) -> TorchSkeleton:
        """A model with a memory of its own, as :meth:`Skeleton.own`."""
        return TorchSkeleton(sharing_copy(self.model), self._table, double=self._double)
