"""A torch model between its products: it runs as it is, and its products go to whoever multiplies."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from xbarsim.network.lowering.chip import TorchChip
from xbarsim.network.lowering.prepare import cast_floats, sharing_copy
from xbarsim.network.lowering.watching import Parameters, ProductTable, Substitution
from xbarsim.network.samples import Samples
from xbarsim.network.skeleton import Layer, Skeleton, Watch

__all__ = ["TorchSkeleton", "UnseenProductWarning", "as_tensors"]


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
        self._running = sharing_copy(model)  # what it remembers between its calls is not the model's
        self._parameters = Parameters(self._running)
        self._unseen: set[str] = set()

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

    def chip_type(self) -> type[TorchChip]:
        """Dies are torch modules."""
        return TorchChip

    def own(self) -> TorchSkeleton:
        """A model with a memory of its own, as it was before any run, as :meth:`Skeleton.own`."""
        return TorchSkeleton(self.model, self._table, double=self._double)
