"""``RNN``, ``LSTM`` and ``GRU``: two products a layer and direction, and the gates between them as digital operations.

``ih`` multiplies the inputs of all time steps at once, ``hh`` the hidden state of one step after the other (or one
combined product a step: :mod:`xbarsim.network.lowering.recurrence`). Activations of ``ih`` are
``(samples, steps, features)`` whatever the module's own layout, those of the others ``(samples, features)``.

Packed sequences are padded, in the caller's order of samples, and packed again: what stands behind the end of a
sequence is a vector of zeros, which the products see like any other; digital operations and accesses to states are
counted there, too.
"""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, ClassVar

import torch
from torch import nn
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

from xbarsim.foundation.validation import InputError
from xbarsim.network.lowering.base import Lowering
from xbarsim.network.lowering.gates import Gates
from xbarsim.network.lowering.recurrence import (
    GruRecurrence,
    LstmRecurrence,
    Recurrence,
    RnnRecurrence,
    State,
    StepWeights,
)
from xbarsim.network.lowering.replacement import Replacement, current_weight, own_forward
from xbarsim.network.states import keep_state

__all__ = ["LOWERINGS", "LowerGRU", "LowerLSTM", "LowerRNN", "LowerRecurrent", "RecurrentLayer", "RecurrentLayers"]


class RecurrentLayer(nn.Module):
    """One layer in one direction: its products are its children.

    Parameters
    ----------
    recurrence
        What it does in a step.
    """

    def __init__(self, recurrence: Recurrence) -> None:
        super().__init__()
        self.recurrence = recurrence
        for name, product in recurrence.products().items():
            self.add_module(name, product)

    def forward(
        self, sequences: torch.Tensor, state: State, inside: torch.Tensor | None, backwards: bool
    ) -> tuple[torch.Tensor, State]:
        """Run over all steps. Behind the end of a sample's sequence its state stands still and its outputs are 0.

        Parameters
        ----------
        sequences
            Shape ``(samples, steps, features)``.
        state
            The first one, each tensor of shape ``(samples, features)``.
        inside
            Whether a step is one of the sample's, shape ``(samples, steps)``; ``None`` if all are.
        backwards
            From the last step to the first: samples that end earlier start at their own last step.

        Returns
        -------
        outputs
            Shape ``(samples, steps, features)``.
        state
            The last one.
        """
        ahead = self.recurrence.ahead(self, sequences)
        count = sequences.shape[1]
        outputs: list[torch.Tensor] = []
        for time in reversed(range(count)) if backwards else range(count):
            following = self.recurrence.step(self, ahead[:, time], state)
            shown = following[0]
            if inside is not None:
                here = inside[:, time, None]
                following = tuple(torch.where(here, new, old) for new, old in zip(following, state, strict=True))
                shown = torch.where(here, shown, torch.zeros_like(shown))
            state = tuple(map(keep_state, following))
            outputs.append(shown)
        return torch.stack(outputs[::-1] if backwards else outputs, dim=1), state


class RecurrentLayers(Replacement):
    """In the place of an ``RNN``, ``LSTM`` or ``GRU``: layers ``l0``, ``l0_reverse``, ``l1`` and so on.

    Parameters
    ----------
    module
        The original, whose attributes this one answers with.
    recurrences
        By the name of the layer.
    """

    num_layers: int
    bidirectional: bool
    batch_first: bool
    input_size: int
    hidden_size: int

    def __init__(self, module: nn.RNNBase, recurrences: dict[str, Recurrence]) -> None:
        super().__init__(module, module._flat_weights_names)
        for name, recurrence in recurrences.items():
            self.add_module(name, RecurrentLayer(recurrence))

    def flatten_parameters(self) -> None:
        """Nothing: there are no fused kernels to prepare for."""

    def weight(self, name: str) -> torch.Tensor | None:
        """A weight by torch's name, ``weight_ih_l0_reverse``."""
        kind, _, place = name.partition("_l")
        layer = self._layer(f"l{place}")
        return layer.recurrence.weight(layer, kind)

    @property
    def _flat_weights(self) -> list[torch.Tensor | None]:
        return [self.weight(name) for name in self._weight_names]

    def _layer(self, name: str) -> RecurrentLayer:
        layer = self._modules[name]
        assert isinstance(layer, RecurrentLayer)
        return layer

    def forward(self, input: torch.Tensor | PackedSequence, hx: Any = None) -> tuple[Any, Any]:
        """As torch's: tensors of two or three dimensions, or a packed sequence; a state, or none.

        Raises
        ------
        InputError
            If inputs or states are of other shapes than torch takes.
        """
        if isinstance(input, PackedSequence):
            sequences, lengths = pad_packed_sequence(input, batch_first=True)
            inside = torch.arange(sequences.shape[1]) < lengths[:, None]
            outputs, states = self._layers(sequences, self._first_states(hx, sequences, whole=True), inside)
            return _pack_like(input, outputs, lengths), states if len(states) > 1 else states[0]
        if input.dim() not in (2, 3):
            raise InputError(f"input must have 2 or 3 dimensions, got {input.dim()}")
        whole = input.dim() == 3
        sequences = input[None] if not whole else input if self.batch_first else input.transpose(0, 1)
        if sequences.shape[1] == 0:
            raise InputError("input must have at least one time step, got 0")
        outputs, states = self._layers(sequences, self._first_states(hx, sequences, whole=whole), None)
        if not whole:
            outputs, states = outputs[0], tuple(state[:, 0] for state in states)
        elif not self.batch_first:
            outputs = outputs.transpose(0, 1)
        return outputs.contiguous(), states if len(states) > 1 else states[0]

    def _first_states(self, hx: Any, sequences: torch.Tensor, *, whole: bool) -> State:
        """States of all layers and directions, each of shape ``(layers * directions, samples, features)``."""
        if sequences.shape[-1] != self.input_size:
            raise InputError(f"the last dimension of input must be {self.input_size}, got {sequences.shape[-1]}")
        first = self._layer("l0").recurrence
        rows = self.num_layers * (2 if self.bidirectional else 1)
        widths = (first.hidden_features, self.hidden_size)[: first.states]
        if hx is None:
            return tuple(sequences.new_zeros(rows, sequences.shape[0], width) for width in widths)
        given = tuple(hx) if first.states > 1 else (hx,)
        if len(given) != first.states:
            raise InputError(f"hx must hold {first.states} tensors, got {len(given)}")
        for state, width in zip(given, widths, strict=True):
            expected = (rows, sequences.shape[0], width) if whole else (rows, width)
            if tuple(state.shape) != expected:
                raise InputError(f"hx must be of shape {expected}, got {tuple(state.shape)}")
        return given if whole else tuple(state[:, None] for state in given)

    def _layers(
        self, sequences: torch.Tensor, first: State, inside: torch.Tensor | None
    ) -> tuple[torch.Tensor, tuple[torch.Tensor, ...]]:
        """All layers: ``(samples, steps, features)`` to outputs of the last one, and the last states of each."""
        suffixes = ("", "_reverse") if self.bidirectional else ("",)
        last: list[State] = []
        for layer in range(self.num_layers):
            directions = []
            for suffix in suffixes:
                start = tuple(state[len(last)] for state in first)
                outputs, state = self._layer(f"l{layer}{suffix}")(sequences, start, inside, bool(suffix))
                directions.append(outputs)
                last.append(state)
            sequences = torch.cat(directions, dim=-1)
        return sequences, tuple(torch.stack(states) for states in zip(*last, strict=True))


def _pack_like(packed: PackedSequence, outputs: torch.Tensor, lengths: torch.Tensor) -> PackedSequence:
    """Outputs of shape ``(samples, steps, features)``, packed in the order of a packed sequence."""
    order = packed.sorted_indices
    if order is not None:
        outputs, lengths = outputs.index_select(0, order), lengths[order.cpu()]
    data = pack_padded_sequence(outputs, lengths, batch_first=True).data
    return PackedSequence(data, packed.batch_sizes, packed.sorted_indices, packed.unsorted_indices)


class LowerRecurrent(Lowering):
    """What the lowerings of recurrent modules have in common.

    Parameters
    ----------
    combined
        One product a step, on the inputs and the hidden state stacked, in place of two.
    gate_bits
        Bits of the look-up tables that stand for sigmoid and tanh (:mod:`xbarsim.network.lowering.gates`), 2 to 16;
        ``None`` for the exact functions.

    Raises
    ------
    InputError
        If `gate_bits` is outside of its bounds.
    """

    def __init__(self, *, combined: bool = False, gate_bits: int | None = None) -> None:
        self.combined = combined
        self.gates = Gates(gate_bits)

    def misfit(self, module: nn.Module) -> str | None:
        """As :meth:`Lowering.misfit`: a type derived from this one may compute something else."""
        return own_forward(module, self.handles)

    def lower(self, module: Any) -> nn.Module:
        """As :meth:`Lowering.lower`."""
        recurrences = {}
        for layer in range(module.num_layers):
            for suffix in ("", "_reverse") if module.bidirectional else ("",):
                place = f"l{layer}{suffix}"
                recurrences[place] = self.recurrence(module, self.weights(module, f"_{place}"))
        return RecurrentLayers(module, recurrences)

    @abstractmethod
    def recurrence(self, module: Any, weights: StepWeights) -> Recurrence:
        """One layer in one direction of a module, with its weights."""

    def weights(self, module: nn.Module, suffix: str) -> StepWeights:
        """The weights of a module whose names end so, as the module would use them."""
        ih, hh = (current_weight(module, f"weight_{kind}{suffix}") for kind in ("ih", "hh"))
        assert ih is not None
        assert hh is not None
        bias_ih, bias_hh = (current_weight(module, f"bias_{kind}{suffix}") for kind in ("ih", "hh"))
        return StepWeights(ih, hh, bias_ih, bias_hh, current_weight(module, f"weight_hr{suffix}"))


class LowerRNN(LowerRecurrent):
    """``RNN``, with tanh or a rectifier."""

    handles: ClassVar[type[nn.Module]] = nn.RNN

    def recurrence(self, module: nn.RNN, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        nonlinearity = "relu" if module.mode == "RNN_RELU" else "tanh"
        return RnnRecurrence(weights, combined=self.combined, gates=self.gates, nonlinearity=nonlinearity)


class LowerLSTM(LowerRecurrent):
    """``LSTM``, also with ``proj_size``: the projection is a product ``hr`` of its own."""

    handles: ClassVar[type[nn.Module]] = nn.LSTM

    def recurrence(self, module: nn.LSTM, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        return LstmRecurrence(weights, combined=self.combined, gates=self.gates)


class LowerGRU(LowerRecurrent):
    """``GRU``."""

    handles: ClassVar[type[nn.Module]] = nn.GRU

    def recurrence(self, module: nn.GRU, weights: StepWeights) -> Recurrence:
        """As :meth:`LowerRecurrent.recurrence`."""
        return GruRecurrence(weights, combined=self.combined, gates=self.gates)


LOWERINGS: tuple[Lowering, ...] = (LowerRNN(), LowerLSTM(), LowerGRU())
