"""Training with weights that only ever take a few values: no other weights are kept.

A weight moves from state to state. What the optimiser proposes is a real number; its whole steps are taken, and what is
left over becomes the probability of one step more. (L. Deng, P. Jiao, J. Pei, Z. Wu, G. Li, GXNOR-Net: Training deep
neural networks with ternary weights and activations without full-precision memory under a unified discretization
framework, Neural Networks 100, 2018, doi:10.1016/j.neunet.2018.01.010.)
"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import KINDS, mappable_layers
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real, check_tensor
from xbarsim.training import Callback, ParameterGroup, Proposal

__all__ = ["DiscreteStates", "DiscreteTransitions"]

_MOST = 8  # exponent: 257 states


@dataclass(frozen=True, kw_only=True)
class DiscreteStates:
    """The 2**N + 1 values that weights may take, evenly from -H to H, and how they move between them.

    Parameters
    ----------
    exponent
        N, 0 to 8. 0 is binary, with the two values -H and H; 1 is ternary.
    limit
        H, the largest value, > 0.
    steepness
        m in the probability tanh(m nu) of one step more, where nu is what is left over of the proposal after whole
        steps, in steps and without its sign; > 0. (The paper's own code has 3.)

    Raises
    ------
    InputError
        If a value is out of its bound.

    Examples
    --------
    >>> DiscreteStates(exponent=2).values
    (-1.0, -0.5, 0.0, 0.5, 1.0)
    """

    exponent: int = 1
    limit: float = 1.0
    steepness: float = 3.0

    def __post_init__(self) -> None:
        check_integer("exponent", self.exponent, at_least=0, at_most=_MOST)
        object.__setattr__(self, "limit", check_real("limit", self.limit, above=0.0))
        object.__setattr__(self, "steepness", check_real("steepness", self.steepness, above=0.0))

    @property
    def steps(self) -> int:
        """Steps from the lowest value to the highest, 2**N."""
        return int(2**self.exponent)

    @property
    def step(self) -> float:
        """Difference of neighbouring values, 2 H / 2**N."""
        return 2 * self.limit / self.steps

    @property
    def values(self) -> tuple[float, ...]:
        """All values, ascending."""
        return tuple((number - self.steps / 2) * self.step for number in range(self.steps + 1))

    def _codes(self, weights: Tensor) -> Tensor:
        """Numbers of the nearest values, from 0, as floating-point numbers."""
        return (weights / self.step + self.steps / 2).round().clamp(0, self.steps)

    def _values(self, codes: Tensor) -> Tensor:
        return (codes - self.steps / 2) * self.step

    @entrance
    def nearest(self, weights: Tensor) -> Tensor:
        """The values nearest to given weights, same shape and type.

        Raises
        ------
        InputError
            If `weights` are no floating-point numbers.
        """
        return self._values(self._codes(_check_weights(weights)))

    @entrance
    def spread(self, weights: Tensor) -> Tensor:
        """Weights to begin with: the order of the given ones, with every value as often as the others.

        Weights that stand on the values already stay as they are.

        Parameters
        ----------
        weights
            Floating point, any shape: random, or of a network that was trained otherwise.
        """
        if torch.equal(self._values(self._codes(_check_weights(weights))), weights):
            return weights.clone()
        ranks = torch.empty(weights.numel(), dtype=torch.int64, device=weights.device)
        order = weights.flatten().argsort(stable=True)
        ranks[order] = torch.arange(weights.numel(), device=weights.device)
        codes = ranks * (self.steps + 1) // weights.numel()
        return self._values(codes.reshape(weights.shape).to(weights.dtype))

    @entrance
    def move(self, proposal: Proposal) -> Tensor:
        """The weights after a step: an :data:`~xbarsim.training.UpdateRule`.

        The proposed step is cut where it would leave [-H, H]. Of what is left, the whole steps are taken, and one more
        in its direction with the probability tanh(m nu), nu being the fraction. No weight leaves the values.

        Parameters
        ----------
        proposal
            From the trainer; its weights must stand on the values.
        """
        codes = self._codes(proposal.weight)
        wanted = torch.minimum(torch.maximum(proposal.step / self.step, -codes), self.steps - codes)
        whole = wanted.trunc()
        chance = torch.tanh(self.steepness * (wanted - whole).abs())
        # float64: numbers of 24 bits would move weights of the smallest chances too often
        drawn = torch.rand(codes.shape, generator=proposal.generator, dtype=torch.float64).to(codes.device)
        return self._values(codes + whole + torch.where(drawn < chance, wanted.sign(), 0.0))


def _check_weights(weights: Tensor) -> Tensor:
    check_tensor("weights", weights)
    if not weights.is_floating_point():
        raise InputError(f"weights must be floating-point numbers, got {weights.dtype}")
    return weights


class DiscreteTransitions(Callback):
    """Trains weights that stand on discrete values all the time, by transitions between them.

    At the start they are brought there by :meth:`DiscreteStates.spread`. The optimiser's moments (of momentum or Adam)
    stay real numbers; it is the weights that are never stored in any other form.

    Parameters
    ----------
    states
        The values.
    layers
        Names of the layers, or patterns of them as the shell has them.
    rate_factor
        Their learning rate over that of the other parameters, > 0.

    Raises
    ------
    InputError
        If a value is out of its bound; at :meth:`start`, if a pattern matches no layer.
    """

    @entrance
    def __init__(self, states: DiscreteStates, *, layers: Sequence[str] = ("*",), rate_factor: float = 1.0) -> None:
        check_instance("states", states, DiscreteStates)
        self.states = states
        self.rate_factor = check_real("rate_factor", rate_factor, above=0.0)
        if isinstance(layers, str) or not layers:
            raise InputError(f"layers must be a sequence of names of layers, got {layers!r}")
        for number, name in enumerate(layers):
            check_instance(f"layers[{number}]", name, str)
        self.layers = tuple(layers)
        self._weights: tuple[nn.Parameter, ...] = ()

    def settings(self) -> str:
        """Values, layers and rate as text."""
        return (
            f"DiscreteTransitions\n{tomlio.dumps(self.states)}\nlayers = {self.layers}, rate_factor = "
            f"{self.rate_factor!r}"
        )

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers and bring their weights to the values."""
        modules = mappable_layers(model)
        for number, pattern in enumerate(self.layers):
            if not any(fnmatch.fnmatchcase(name, pattern) for name in modules):
                raise InputError(
                    f"layers[{number}] must match a {KINDS} of {type(model).__name__} "
                    f"({', '.join(modules) or 'it has none'}), got {pattern!r}"
                )
        chosen = [name for name in modules if any(fnmatch.fnmatchcase(name, pattern) for pattern in self.layers)]
        self._weights = tuple(modules[name].free for name in chosen)
        with torch.no_grad():
            for weight in self._weights:
                weight.copy_(self.states.spread(weight))

    def groups(self) -> Sequence[ParameterGroup]:
        """The weights, with their rule."""
        return (ParameterGroup(parameters=self._weights, rate_factor=self.rate_factor, update=self.states.move),)
