"""Torch's optimisers over parameters by name, some of which callbacks train in their own way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from xbarsim.foundation.validation import InputError
from xbarsim.training.callbacks import ParameterGroup, Proposal, UpdateRule
from xbarsim.training.settings import Training

__all__ = ["ParameterOptimiser"]


class ParameterOptimiser:
    """The optimiser of one training.

    Parameters that move by a rule of their own are not seen by torch's optimiser. It sees a *stand-in* of each, which
    has its gradient, and is zero before every step and the proposed step after it: exact, however small the step is
    beside the weight, and with all that the optimiser remembers in the place where it always is.

    Parameters
    ----------
    parameters
        All that is trained, by name.
    groups
        Those that are trained differently from the rest.
    training
        Settings.
    seed
        Of what update rules draw.

    Raises
    ------
    InputError
        If there is nothing to train, or a group holds what is not a trainable parameter, or what another one holds.
    """

    def __init__(
        self, parameters: Mapping[str, nn.Parameter], groups: Sequence[ParameterGroup], training: Training, seed: int
    ) -> None:
        if not parameters:
            raise InputError("model must have parameters to train, got none that require a gradient")
        self._parameters = dict(parameters)
        self._stand_ins: dict[str, nn.Parameter] = {}
        self._rules: dict[str, tuple[UpdateRule, float]] = {}  # with the factor of the learning rate
        self.generator = torch.Generator().manual_seed(seed)
        self._names = {id(parameter): name for name, parameter in parameters.items()}
        own: set[str] = set()
        for group in groups:
            for parameter in group.parameters:
                name = self._names.get(id(parameter))
                if name is None or name in own:
                    raise InputError(
                        "groups must hold trainable parameters of the model, each in one group, got "
                        + (f"one of shape {tuple(parameter.shape)}" if name is None else f"{name!r} twice")
                    )
                own.add(name)
                if group.update is not None:
                    self._rules[name] = group.update, group.rate_factor
                    self._stand_ins[name] = nn.Parameter(torch.zeros_like(parameter, requires_grad=False))
        rest = ParameterGroup(parameters=tuple(item for name, item in parameters.items() if name not in own))
        tables = [self._table(group, decayed, training) for group in (rest, *groups) for decayed in (True, False)]
        tables = [table for table in tables if table["params"]]
        self._optimiser: torch.optim.Optimizer
        if training.optimiser == "sgd":
            self._optimiser = torch.optim.SGD(
                tables, lr=training.learning_rate, momentum=training.momentum, nesterov=training.momentum > 0
            )
        else:
            kind = torch.optim.Adam if training.optimiser == "adam" else torch.optim.AdamW
            self._optimiser = kind(tables, lr=training.learning_rate, betas=(training.momentum, 0.999))

    @property
    def _remembered(self) -> set[str]:
        """What the optimiser keeps of each parameter that ever had a gradient."""
        if isinstance(self._optimiser, torch.optim.SGD):
            return {"momentum_buffer"} if self._optimiser.defaults["momentum"] else set()
        return {"step", "exp_avg", "exp_avg_sq"}

    def _table(self, group: ParameterGroup, decayed: bool, training: Training) -> dict[str, Any]:
        """A group as torch has it: those of its parameters that are decayed, or those that are not."""
        decay = training.weight_decay if decayed else 0.0
        return {
            "params": [self._held(self._names[id(item)]) for item in group.parameters if (item.ndim >= 2) == decayed],
            "weight_decay": decay if group.weight_decay is None else group.weight_decay,
            "rate_factor": group.rate_factor,
        }

    def _held(self, name: str) -> nn.Parameter:
        """What torch's optimiser holds of a parameter."""
        return self._stand_ins.get(name, self._parameters[name])

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for parameter in self._parameters.values():
            parameter.grad = None

    def step(self, rate: float) -> None:
        """Move every parameter that has a gradient, at a learning rate."""
        for table in self._optimiser.param_groups:
            table["lr"] = rate * table["rate_factor"]
        for name, stand_in in self._stand_ins.items():
            stand_in.grad = self._parameters[name].grad
        self._optimiser.step()
        with torch.no_grad():
            for name, stand_in in self._stand_ins.items():
                weight, (rule, factor) = self._parameters[name], self._rules[name]
                if weight.grad is not None:
                    proposal = Proposal(weight.detach(), weight.grad, stand_in.detach(), rate * factor, self.generator)
                    weight.copy_(rule(proposal))
                stand_in.zero_()

    def forget(self, weights: Sequence[tuple[nn.Parameter, torch.Tensor]]) -> None:
        """Set what is remembered of single weights to zero: parameters, each with a bool mask of its shape.

        Parameters that are not trained are passed over.
        """
        for parameter, mask in weights:
            name = self._names.get(id(parameter))
            kept = {} if name is None else self._optimiser.state.get(self._held(name), {})
            for key, value in kept.items():
                if key != "step" and isinstance(value, torch.Tensor):
                    value.masked_fill_(mask, 0.0)

    def tensors(self) -> dict[str, torch.Tensor]:
        """What is remembered, as ``optimiser/PARAMETER/KEY``; with rules, also the state of their generator."""
        kept = {
            f"optimiser/{name}/{key}": value
            for name in self._parameters
            for key, value in self._optimiser.state.get(self._held(name), {}).items()
            if isinstance(value, torch.Tensor)
        }
        return {**kept, "random/rules": self.generator.get_state()} if self._rules else kept

    def restore(self, tensors: Mapping[str, torch.Tensor]) -> None:
        """Take back what :meth:`tensors` gave; other names are left alone.

        Raises
        ------
        KeyError, ValueError
            If it is what no training with these parameters gives: of another name or shape, or in part.
        """
        seen: dict[str, set[str]] = {}
        for full_name, value in tensors.items():
            prefix, _, rest = full_name.partition("/")
            if prefix != "optimiser":
                continue
            owner, _, key = rest.rpartition("/")
            if owner not in self._parameters:
                raise KeyError(f"it remembers {owner!r}, which is not trained")
            held = self._held(owner)
            if key not in self._remembered or value.shape not in (held.shape, torch.Size()):
                raise ValueError(f"it remembers {key!r} of {owner!r}, of shape {tuple(value.shape)}")
            seen.setdefault(owner, set()).add(key)
            if value.shape == held.shape:  # in the parameter's memory order and on its device
                value = torch.empty_like(held, requires_grad=False).copy_(value)
            self._optimiser.state[held][key] = value
        for owner, keys in seen.items():
            if keys != self._remembered:
                raise ValueError(f"it lacks {min(self._remembered - keys)!r} of {owner!r}")
        if self._remembered and not seen:
            raise ValueError("it lacks what the optimiser remembers")
        if self._rules:
            self.generator.set_state(tensors["random/rules"])
