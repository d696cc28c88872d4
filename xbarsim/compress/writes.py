"""How often the cells of each weight are programmed while a network is trained on the chip."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from xbarsim.devices import WearOutFaults
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance, check_integer

__all__ = ["Writes"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Writes:
    """How often the cells of each weight are programmed in a training on the chip; ``print`` it for a table.

    Attributes
    ----------
    changes
        By layer, how often each weight was taken away or given back: int (filters, positions). Its cells are programmed
        each time.
    steps
        By layer, the steps of the optimiser in which each weight took part: int of the same shape. Where weights are
        updated in place, its cells are programmed at each; where they are updated in a memory beside the arrays, at
        none.
    of_all
        Steps of the whole training: what each weight of a dense network takes part in.

    Raises
    ------
    InputError
        If a count is negative, or `steps` is of other layers or shapes than `changes`.
    """

    changes: Mapping[str, Tensor]
    steps: Mapping[str, Tensor]
    of_all: int

    def __post_init__(self) -> None:
        check_integer("of_all", self.of_all, at_least=0)
        for name in ("changes", "steps"):
            counts = getattr(self, name)
            check_instance(name, counts, Mapping)
            for layer, count in counts.items():
                check_instance(f"{name}[{layer!r}]", count, Tensor)
                if count.is_floating_point() or count.is_complex() or bool((count < 0).any()):
                    raise InputError(f"{name}[{layer!r}] must be whole numbers >= 0, got {count.dtype}")
        shapes = {layer: count.shape for layer, count in self.changes.items()}
        if not shapes or shapes != {layer: count.shape for layer, count in self.steps.items()}:
            raise InputError("steps must be of the layers and shapes of changes, of one layer at least")

    @entrance
    def counts(self, *, in_place: bool = True) -> dict[str, Tensor]:
        """How often each weight's cells are programmed, by layer: int64 (filters, positions).

        Parameters
        ----------
        in_place
            Whether weights are updated in the arrays at every step; if not, they are programmed when masks change
            alone.
        """
        check_instance("in_place", in_place, bool)
        return {
            layer: count.to(torch.int64) + (self.steps[layer].to(torch.int64) if in_place else 0)
            for layer, count in self.changes.items()
        }

    @entrance
    def worn_out(self, cells: WearOutFaults, *, in_place: bool = True) -> float:
        """The expected share of cells that the training has broken, all layers together.

        Parameters
        ----------
        cells
            What cells endure; its own `writes` play no part.
        in_place
            As in :meth:`counts`. For a dense network it is ``replace(cells, writes=of_all).total``.
        """
        check_instance("cells", cells, WearOutFaults)
        counts = torch.cat([count.flatten().cpu() for count in self.counts(in_place=in_place).values()])
        exponent = (counts.to(torch.float64) / cells.endurance) ** cells.weibull_shape
        return float((-torch.expm1(-exponent)).mean())

    def __str__(self) -> str:
        rows = []
        for layer, changes in self.changes.items():
            steps = self.steps[layer]
            shown = (f"{float(count.double().mean()):.2f}" for count in (changes, steps))
            mean_changes, mean_steps = shown
            rows.append((layer, changes.numel(), mean_changes, int(changes.max()), mean_steps, int(steps.max())))
        heads = ("layer", "weights", "changes, mean", "most", "steps, mean", "most")
        return f"{format_table(heads, rows)}\n{self.of_all} steps in all"
