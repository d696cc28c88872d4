"""What takes part in a training: the only way in which the trainer and a method of compression know each other."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import nn

from xbarsim.foundation.entrances import check_fields
from xbarsim.foundation.validation import InputError, check_real

__all__ = ["Callback", "ParameterGroup", "Proposal", "UpdateRule"]


class Proposal(NamedTuple):
    """What an update rule decides by, for one parameter at one step.

    Attributes
    ----------
    weight
        The parameter before the step; not to be changed.
    gradient
        Of the loss and all penalties, of the same shape.
    step
        What the optimiser would add to the weight, of the same shape: momentum, Adam's moments and the learning rate
        are in it, weight decay is not.
    rate
        The learning rate of this step, times the factor of the parameter's group.
    generator
        For whatever is drawn; on the CPU, and part of every checkpoint.
    """

    weight: torch.Tensor
    gradient: torch.Tensor
    step: torch.Tensor
    rate: float
    generator: torch.Generator


UpdateRule = Callable[[Proposal], torch.Tensor]
"""From a proposal to the parameter after the step."""


@dataclass(frozen=True, kw_only=True, eq=False)
class ParameterGroup:
    """Parameters of the model that a callback wants to be trained differently from the rest.

    Parameters
    ----------
    parameters
        Trainable parameters of the model, those that :meth:`Callback.start` has put into it included.
    rate_factor
        Their learning rate over that of the training, > 0.
    weight_decay
        Theirs, >= 0; ``None`` for what the training has for parameters of their number of dimensions.
    update
        The rule by which they move, instead of by the optimiser's step; ``None`` for that step. A rule has no weight
        decay but its own.

    Raises
    ------
    InputError
        If a number is out of its bound, or a rule comes with a weight decay.
    """

    parameters: tuple[nn.Parameter, ...]
    rate_factor: float = 1.0
    weight_decay: float | None = None
    update: UpdateRule | None = None

    def __post_init__(self) -> None:
        check_fields(self)
        check_real("rate_factor", self.rate_factor, above=0.0)
        if self.weight_decay is not None:
            check_real("weight_decay", self.weight_decay, at_least=0.0)
            if self.update is not None and self.weight_decay:
                raise InputError(f"weight_decay must be None or 0 with an update rule, got {self.weight_decay!r}")


class Callback:
    """What takes part in a training; every method does nothing by itself.

    The methods are called in the order in which they stand here. Whatever changes in the course of a training, other
    than the model's own parameters and buffers, belongs in :meth:`state`.
    """

    def settings(self) -> str:
        """What it was made with, as text: a checkpoint that was written with other settings is refused."""
        return type(self).__qualname__

    def start(self, model: nn.Module, epochs: int) -> None:
        """Once, with the model on its device and the optimiser not yet made; also when a training is resumed.

        What it puts into the model here, such as a parametrization with parameters of its own, is trained and saved
        with the model.
        """

    def groups(self) -> Sequence[ParameterGroup]:
        """Once, right after :meth:`start`: which parameters are trained differently from the rest."""
        return ()

    def load_state(self, state: Mapping[str, torch.Tensor]) -> None:
        """When resuming, take back what :meth:`state` gave; the model has its weights again."""

    def begin_epoch(self, epoch: int) -> None:
        """Before the first batch of an epoch, counted from 0."""

    def begin_step(self, step: int) -> None:
        """Before each batch, counted from 0 over all epochs, also when resumed."""

    def penalty(self) -> torch.Tensor | None:
        """What is added to the loss of every batch, a float32 scalar; None for nothing."""
        return None

    def before_step(self) -> None:
        """After the gradients, before the optimiser uses them."""

    def renewed(self) -> Sequence[tuple[nn.Parameter, torch.Tensor]]:
        """Weights that begin anew, since this was asked last: parameters, each with a bool mask of its shape.

        The optimiser forgets what it remembers of them (momentum, moments). Asked before each step and at the end of
        each epoch. Adam's count of steps goes on: it belongs to the whole parameter.
        """
        return ()

    def after_step(self) -> None:
        """After the optimiser changed the weights."""

    def end_epoch(self, epoch: int) -> None:
        """After the last batch of an epoch, before validation."""

    def state(self) -> dict[str, torch.Tensor]:
        """After every epoch, what a checkpoint must hold to go on from here, by flat names."""
        return {}

    def finish(self) -> None:
        """Once, after the last epoch, with the weights that remain: take out of the model what was put in."""
