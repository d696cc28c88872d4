"""One time step of a recurrent layer: which products it has, and what the gates make of their sums.

``ih`` multiplies the inputs, ``hh`` the hidden state; both keep the bias that torch gives them. Combined, ``ih_hh``
reads both, stacked: half the conversions, since the sums are made on the columns, but inputs and hidden states then
share one range. A GRU needs the two parts of its new state apart, ``n = tanh(n_x + r * n_h)``, so its combined matrix
has four blocks of outputs, two of them half zeros (as in CrossSim 3.2).
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from typing import Any, ClassVar, NamedTuple

import torch
from torch import nn

from xbarsim.network.lowering.gates import Gates
from xbarsim.network.lowering.replacement import linear

__all__ = ["GruRecurrence", "LstmRecurrence", "Recurrence", "RnnRecurrence", "State", "StepWeights"]

State = tuple[torch.Tensor, ...]  # the hidden state; for an LSTM, also the cell state


class StepWeights(NamedTuple):
    """The weights of one layer in one direction, in torch's shapes: outputs first, gates in torch's order.

    ``hr`` projects the hidden state of an LSTM with ``proj_size``, and is ``None`` elsewhere.
    """

    ih: torch.Tensor
    hh: torch.Tensor
    bias_ih: torch.Tensor | None
    bias_hh: torch.Tensor | None
    hr: torch.Tensor | None = None

    @property
    def bias(self) -> torch.Tensor | None:
        """Sum of both biases, or ``None`` where there are none."""
        return None if self.bias_ih is None or self.bias_hh is None else self.bias_ih + self.bias_hh


class Recurrence(metaclass=ABCMeta):
    """What one layer in one direction does in a time step; its products belong to a module, named here ``layer``.

    Parameters
    ----------
    weights
        Of the layer.
    combined
        One product on the inputs and the hidden state, stacked, in place of two.
    gates
        The nonlinear functions.

    Attributes
    ----------
    output_names : tuple of str
        The equal blocks of outputs of ``ih`` and ``hh``, in torch's order.
    states : int
        How many tensors the state has.
    bounded : bool
        Whether a hidden state is a product or mean of values of -1 to 1.
    hidden_features : int
        Length of a hidden state.
    """

    output_names: ClassVar[tuple[str, ...]]
    combined_names: ClassVar[tuple[str, ...]]
    states: ClassVar[int] = 1
    bounded: bool = True

    def __init__(self, weights: StepWeights, *, combined: bool, gates: Gates) -> None:
        self.combined = combined
        self.gates = gates
        self.hidden_features = int(weights.hh.shape[1])
        self._weights = weights

    def products(self) -> dict[str, nn.Linear]:
        """The products, by the names that they have in the layer: new modules at each call.

        ``hh`` has an attribute ``input_limit``: 1 where no hidden state leaves -1 to 1 if the first one does not, which
        needs no calibration, else ``None``.
        """
        weights = self._weights
        if self.combined:
            found = {"ih_hh": linear(*self._join(weights), self.combined_names)}
        else:
            found = {
                "ih": linear(weights.ih, weights.bias_ih, self.output_names),
                "hh": linear(weights.hh, weights.bias_hh, self.output_names),
            }
            found["hh"].__dict__["input_limit"] = 1.0 if self.bounded and weights.hr is None else None
        if weights.hr is not None:
            found["hr"] = linear(weights.hr, None, ("projection",))
        return found

    def weight(self, layer: nn.Module, name: str) -> torch.Tensor | None:
        """A weight by its name in torch's cells, ``weight_ih``: a product's own where one holds it alone."""
        kind, _, product = name.partition("_")
        held: torch.Tensor | None = (
            getattr(layer.get_submodule(product), kind)
            if product in layer._modules
            else getattr(self._weights, product if kind == "weight" else name)
        )
        return held

    def ahead(self, layer: Any, inputs: torch.Tensor) -> torch.Tensor:
        """What can be computed for all steps before the first; shape ``(..., inputs)`` to ``(..., outputs)``."""
        return inputs if self.combined else layer.ih(inputs)

    def step(self, layer: Any, ahead: torch.Tensor, state: State) -> State:
        """The next state, from what :meth:`ahead` gave for this step and the state before.

        Each of shape ``(samples, features)``.
        """
        if self.combined:
            sums = layer.ih_hh(torch.cat([ahead, state[0]], dim=-1)).chunk(len(self.combined_names), dim=-1)
        else:
            sums = self._sums(ahead, layer.hh(state[0]))
        return self._next(layer, sums, state)

    def _join(self, weights: StepWeights) -> tuple[torch.Tensor, torch.Tensor | None]:
        """Weight and bias of the combined product."""
        return torch.cat([weights.ih, weights.hh], dim=1), weights.bias

    def _sums(self, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        """What the gates take, one tensor a block of the combined product."""
        return (inputs + hidden).chunk(len(self.output_names), dim=-1)

    @abstractmethod
    def _next(self, layer: Any, sums: tuple[torch.Tensor, ...], state: State) -> State:
        """The next state from what the gates take."""


class RnnRecurrence(Recurrence):
    """``h = f(ih x + hh h)``, with ``tanh`` or ``relu``, which needs no table.

    Parameters
    ----------
    weights, combined, gates
        As for :class:`Recurrence`.
    nonlinearity
        ``tanh`` or ``relu``.
    """

    output_names: ClassVar[tuple[str, ...]] = ("hidden",)
    combined_names: ClassVar[tuple[str, ...]] = output_names

    def __init__(self, weights: StepWeights, *, combined: bool, gates: Gates, nonlinearity: str) -> None:
        super().__init__(weights, combined=combined, gates=gates)
        self.bounded = nonlinearity != "relu"

    def _next(self, layer: Any, sums: tuple[torch.Tensor, ...], state: State) -> State:
        return (self.gates.tanh(sums[0]) if self.bounded else torch.relu(sums[0]),)


class LstmRecurrence(Recurrence):
    """``c = f * c + i * g`` and ``h = o * tanh(c)``, projected by a product ``hr`` where the layer has one."""

    output_names: ClassVar[tuple[str, ...]] = ("input", "forget", "cell", "output")
    combined_names: ClassVar[tuple[str, ...]] = output_names
    states: ClassVar[int] = 2

    def _next(self, layer: Any, sums: tuple[torch.Tensor, ...], state: State) -> State:
        entering, kept, candidate, shown = sums
        cell = self.gates.sigmoid(kept) * state[1] + self.gates.sigmoid(entering) * self.gates.tanh(candidate)
        hidden = self.gates.sigmoid(shown) * self.gates.tanh(cell)
        return (hidden if self._weights.hr is None else layer.hr(hidden), cell)


class GruRecurrence(Recurrence):
    """``n = tanh(n_x + r * n_h)`` and ``h = (1 - z) * n + z * h``."""

    output_names: ClassVar[tuple[str, ...]] = ("reset", "update", "new")
    combined_names: ClassVar[tuple[str, ...]] = ("reset", "update", "new_input", "new_hidden")

    def _join(self, weights: StepWeights) -> tuple[torch.Tensor, torch.Tensor | None]:
        gates = 2 * self.hidden_features  # outputs of reset and update
        of_inputs = torch.cat([weights.ih, torch.zeros_like(weights.ih[gates:])])
        of_hidden = torch.cat([weights.hh[:gates], torch.zeros_like(weights.hh[gates:]), weights.hh[gates:]])
        bias = weights.bias
        if weights.bias_ih is not None and weights.bias_hh is not None and bias is not None:
            bias = torch.cat([bias[:gates], weights.bias_ih[gates:], weights.bias_hh[gates:]])
        return torch.cat([of_inputs, of_hidden], dim=1), bias

    def _sums(self, inputs: torch.Tensor, hidden: torch.Tensor) -> tuple[torch.Tensor, ...]:
        reset_x, update_x, new_x = inputs.chunk(3, dim=-1)
        reset_h, update_h, new_h = hidden.chunk(3, dim=-1)
        return reset_x + reset_h, update_x + update_h, new_x, new_h

    def _next(self, layer: Any, sums: tuple[torch.Tensor, ...], state: State) -> State:
        reset, update, new_input, new_hidden = sums
        new = self.gates.tanh(new_input + self.gates.sigmoid(reset) * new_hidden)
        return (new + self.gates.sigmoid(update) * (state[0] - new),)
