"""``RNNCell``, ``LSTMCell`` and ``GRUCell``: one step of a recurrent layer, which the model itself repeats."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from torch import nn

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.base import Lowering
from xbarsim.network.lowering.recurrence import (
    GruRecurrence,
    LstmRecurrence,
    Recurrence,
    RnnRecurrence,
    StepWeights,
)
from xbarsim.network.lowering.recurrent import LowerRecurrent
from xbarsim.network.lowering.replacement import Replacement
from xbarsim.network.states import keep_state

__all__ = ["LOWERINGS", "LowerCell", "LowerGRUCell", "LowerLSTMCell", "LowerRNNCell", "RecurrentCell"]


class RecurrentCell(Replacement):
    """In the place of a cell: its products are its children.

    Parameters
    ----------
    module
        The original, whose attributes this one answers with.
    recurrence
        What it does in a step.
    """

    input_size: int

    def __init__(self, module: nn.RNNCellBase, recurrence: Recurrence) -> None:
        super().__init__(module, ("weight_ih", "weight_hh", "bias_ih", "bias_hh"))
        self.recurrence = recurrence
        for name, product in recurrence.products().items():
            self.add_module(name, product)

    def weight(self, name: str) -> torch.Tensor | None:
        """A weight by torch's name."""
        return self.recurrence.weight(self, name)

    def forward(self, input: torch.Tensor, hx: Any = None) -> Any:
        """As torch's: a vector or a batch of vectors; a state, or none.

        Raises
        ------
        InputError
            If inputs or states are of other shapes than torch takes.
        """
        states = self.recurrence.states
        if input.dim() not in (1, 2):
            raise InputError(f"input must have 1 or 2 dimensions, got {input.dim()}")
        if input.shape[-1] != self.input_size:
            raise InputError(f"the last dimension of input must be {self.input_size}, got {input.shape[-1]}")
        expected = (*input.shape[:-1], self.recurrence.hidden_features)
        first = input.new_zeros(expected)
        given = (first,) * states if hx is None else tuple(hx) if states > 1 else (hx,)
        if len(given) != states:
            raise InputError(f"hx must hold {states} tensors, got {len(given)}")
        for state in given:
            if tuple(state.shape) != expected:
                raise InputError(f"hx must be of shape {expected}, got {tuple(state.shape)}")
        whole = input.dim() == 2
        ahead = self.recurrence.ahead(self, input if whole else input[None])
        following = self.recurrence.step(self, ahead, given if whole else tuple(state[None] for state in given))
        following = tuple(map(keep_state, following))
        if not whole:
            following = tuple(state[0] for state in following)
        return following if states > 1 else following[0]


class LowerCell(LowerRecurrent):
    """What the lowerings of cells have in common; parameters as :class:`LowerRecurrent`."""

    def lower(self, module: Any) -> nn.Module:
        """As :meth:`Lowering.lower`."""
        return RecurrentCell(module, self.recurrence(module, self.weights(module, "")))


class LowerRNNCell(LowerCell):
    """``RNNCell``, with tanh or a rectifier."""

    handles: ClassVar[type[nn.Module]] = nn.RNNCell

    def recurrence(self, module: nn.RNNCell, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        return RnnRecurrence(weights, combined=self.combined, gates=self.gates, nonlinearity=module.nonlinearity)


class LowerLSTMCell(LowerCell):
    """``LSTMCell``."""

    handles: ClassVar[type[nn.Module]] = nn.LSTMCell

    def recurrence(self, module: nn.LSTMCell, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        return LstmRecurrence(weights, combined=self.combined, gates=self.gates)


class LowerGRUCell(LowerCell):
    """``GRUCell``."""

    handles: ClassVar[type[nn.Module]] = nn.GRUCell

    def recurrence(self, module: nn.GRUCell, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        return GruRecurrence(weights, combined=self.combined, gates=self.gates)


LOWERINGS: tuple[Lowering, ...] = (LowerRNNCell(), LowerLSTMCell(), LowerGRUCell())
