"""Neurons with time that send spikes (LIF) or analog values (LIAF), in convolutional, dense and recurrent layers.

A neuron with membrane V integrates its current, may fire, and leaks:

    ``U_t = V_(t-1) + I_t``, ``F_t = 1[U_t > threshold]``, ``V_t = leak * U_t * (1 - F_t)``, ``V_(-1) = 0``.

A LIF neuron sends the spike F_t. A LIAF neuron spikes only to reset itself, and sends ``f(U_t)``, or ``f(U_t -
threshold)`` if it is related to its threshold. Currents come from a product with trained weights, which on crossbars is
one layer, used at every time step: spikes drive it with one bit and no converter, analog values with some bits.

Inputs are of shape (samples, time, ...). Every call starts from empty membranes, and nothing is carried to the next.
Where currents do not depend on the state, those of all steps are computed at once; the products are the same.

In training the gradient of a spike is a surrogate, and the spike that resets a membrane has none. In evaluation a
neuron takes an addition, a comparison and a multiplication (the leak) a step, beside f; a reset moves data. Its
membrane is read and written once a step, and so is what a recurrent layer has sent, a spike as a value like any other.

Z. Wu et al., LIAF-Net: Leaky Integrate and Analog Fire Network for Lightweight and Efficient Spatiotemporal Information
Processing, IEEE Trans. Neural Networks and Learning Systems 33, 6249 (2022), doi:10.1109/TNNLS.2021.3073016 (arXiv
2011.06176).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from typing import Any, Literal, NamedTuple, get_args

import torch
from torch import Tensor, fx, nn

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_choice, check_instance, check_integer, check_real
from xbarsim.network.states import keep_state

__all__ = ["EventNet", "Fire", "LiafLayer", "Neuron", "RecurrentLiaf", "SequenceNet", "Surrogate"]

Fire = Literal["lif", "selu", "relu", "relu1", "sigmoid"]
"""What a neuron sends: spikes, or a function of its membrane; ``"relu1"`` is a rectifier that ends at 1."""

Surrogate = Literal["rectangle", "gaussian"]
"""The slope that stands for that of a spike in training."""

_LIMITS: dict[str, float | None] = {"lif": 1.0, "selu": None, "relu": None, "relu1": 1.0, "sigmoid": 1.0}


class _Spike(torch.autograd.Function):
    """1 where the first argument is above 0; its gradient is that of the surrogate."""

    @staticmethod
    def forward(context: Any, above: Tensor, surrogate: str, width: float) -> Tensor:
        context.save_for_backward(above)
        context.surrogate, context.width = surrogate, width
        return (above > 0).to(above.dtype)

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (above,), width = context.saved_tensors, context.width
        if context.surrogate == "rectangle":
            slope = (above.abs() < width) / (2 * width)
        else:
            slope = torch.exp(-0.5 * (above / width) ** 2) / (width * math.sqrt(2 * math.pi))
        return gradient * slope, None, None


def _relu1(values: Tensor) -> Tensor:
    return torch.clamp(values, 0.0, 1.0)


_FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "selu": torch.selu,
    "relu": torch.relu,
    "relu1": _relu1,
    "sigmoid": torch.sigmoid,
}


class _Settings(NamedTuple):
    """What a neuron is, as plain values; see :class:`Neuron`."""

    fire: str
    threshold: float
    leak: float
    threshold_related: bool
    surrogate: str
    width: float


class Neuron(nn.Module):
    """A population of neurons, each with a membrane of its own.

    Input: currents, shape (samples, time, ...); output: what is sent, same shape.

    Parameters
    ----------
    fire
        ``"lif"`` for spikes, 0 or 1; else the function of the membrane that is sent.
    threshold
        Above which a membrane spikes, and resets.
    leak
        What is left of a membrane at the next step, 0 to 1.
    threshold_related
        Send ``f(U - threshold)`` in the place of ``f(U)``; spikes always are.
    surrogate
        Slope of a spike in training: ``"rectangle"``, 1 / (2 `width`) within `width` of the threshold; ``"gaussian"``,
        the normal density with standard deviation `width`.
    width
        Of the surrogate; ``None`` for 0.5 and 1.

    Attributes
    ----------
    limit : float or None
        1 where what is sent lies in 0 to 1; ``None`` where it is not bounded.
    bits : int or None
        1 where what is sent is 0 or 1, which one bit drives; ``None`` elsewhere.

    Raises
    ------
    InputError
        If an argument is out of bounds.

    Examples
    --------
    A constant current of 0.4 crosses the threshold of 0.5 at the second step, after which the membrane is empty:

    >>> import torch
    >>> Neuron("lif", leak=0.5)(torch.full((1, 5, 1), 0.4))[0, :, 0].tolist()
    [0.0, 1.0, 0.0, 1.0, 0.0]
    >>> Neuron("relu", leak=0.5)(torch.full((1, 3, 1), 0.4))[0, :, 0].tolist()
    [0.4000000059604645, 0.6000000238418579, 0.4000000059604645]
    """

    def __init__(
        self,
        fire: Fire = "selu",
        *,
        threshold: float = 0.5,
        leak: float = 0.5,
        threshold_related: bool = False,
        surrogate: Surrogate = "rectangle",
        width: float | None = None,
    ) -> None:
        super().__init__()
        self.fire: str = check_choice("fire", fire, get_args(Fire))
        self.threshold = check_real("threshold", threshold)
        self.leak = check_real("leak", leak, at_least=0.0, at_most=1.0)
        check_instance("threshold_related", threshold_related, bool)
        self.threshold_related = threshold_related
        self.surrogate: str = check_choice("surrogate", surrogate, get_args(Surrogate))
        default = 0.5 if surrogate == "rectangle" else 1.0
        self.width = check_real("width", default if width is None else width, above=0.0)
        self.limit = _LIMITS[fire]
        self.bits = 1 if fire == "lif" else None

    def forward(self, currents: Tensor) -> Tensor:
        """What is sent at all steps, for currents (samples, time, ...)."""
        return _through_time(currents, self._settings)

    def step(self, current: Tensor, membrane: Tensor) -> tuple[Tensor, Tensor]:
        """What is sent at one step, and the membrane that is left.

        Parameters
        ----------
        current, membrane
            Of this step, and what the step before left; same shape.
        """
        return _step(current, membrane, self._settings)

    @property
    def _settings(self) -> _Settings:
        return _Settings(self.fire, self.threshold, self.leak, self.threshold_related, self.surrogate, self.width)

    def extra_repr(self) -> str:
        """What tells it from others."""
        related = ", threshold_related" if self.threshold_related else ""
        return f"{self.fire}, threshold={self.threshold}, leak={self.leak}{related}"


def _step(current: Tensor, membrane: Tensor, neuron: _Settings) -> tuple[Tensor, Tensor]:
    """As :meth:`Neuron.step`."""
    potential = membrane + current
    fired = potential > neuron.threshold
    left = keep_state((neuron.leak * potential).masked_fill(fired, 0.0))
    if neuron.fire != "lif":
        above = potential - neuron.threshold if neuron.threshold_related else potential
        return _FUNCTIONS[neuron.fire](above), left
    if potential.requires_grad:
        spikes: Tensor = _Spike.apply(potential - neuron.threshold, neuron.surrogate, neuron.width)  # type: ignore[no-untyped-call]
        return spikes, left
    return fired.to(potential.dtype), left


def _through_time(currents: Tensor, neuron: _Settings) -> Tensor:
    """All steps of a population, from empty membranes."""
    if currents.ndim < 3:
        raise InputError(f"currents must be of shape (samples, time, ...), got {tuple(currents.shape)}")
    membrane = torch.zeros_like(currents[:, 0])
    sent = []
    for current in currents.unbind(1):
        output, membrane = _step(current, membrane, neuron)
        sent.append(output)
    return torch.stack(sent, dim=1)


fx.wrap("_through_time")  # the loop over time is one node of a model's graph: batch norms before it can be folded


def _folded(inputs: Tensor) -> Tensor:
    """Samples and steps in one dimension."""
    if inputs.ndim < 3:
        raise InputError(f"inputs must be of shape (samples, time, ...), got {tuple(inputs.shape)}")
    return inputs.flatten(0, 1)


fx.wrap("_folded")  # what is checked is no part of a model's graph


def _in_steps(values: Tensor, like: Tensor) -> Tensor:
    """Values of samples times steps, as (samples, time, ...) of another tensor."""
    apart: Tensor = values.unflatten(0, like.shape[:2])  # type: ignore[no-untyped-call]
    return apart


def _at_all_steps(module: nn.Module, inputs: Tensor) -> Tensor:
    """A module without state at all steps: time is folded into the samples."""
    return _in_steps(module(_folded(inputs)), inputs)


def _driven(product: nn.Module, bits: int | None, limit: float | None) -> nn.Module:
    """A product whose inputs have so many bits on crossbars, and so large a magnitude; ``None`` where nothing says."""
    if bits is not None:
        bits = check_integer("input_bits", bits, at_least=1, at_most=16)
    if limit is not None:
        limit = check_real("input_limit", limit, above=0.0)
    product.__dict__["input_bits"], product.__dict__["input_limit"] = bits, limit
    return product


class LiafLayer(nn.Module):
    """A dense or convolutional layer of neurons: a product, a batch norm, neurons, and a pool by maxima.

    Input (samples, time, features) or (samples, time, channels, height, width); output likewise. The currents of all
    steps are one batch of the product. A pool by maxima leaves spikes what they are.

    Parameters
    ----------
    product
        :class:`torch.nn.Linear` or :class:`torch.nn.Conv2d`.
    neuron
        What its outputs drive.
    norm
        Whether currents are normalised, over samples and steps; on crossbars the norm is part of the weights.
    pool
        Width of the windows behind the neurons of which the maximum is sent on; ``None`` for no pool.
    input_bits
        Bits that inputs take on crossbars, if fewer than the design drives: 1 for spikes and events.
    input_limit
        Largest input, if it is known.

    Raises
    ------
    InputError
        If an argument is out of bounds, or a pool is asked for behind a linear layer.
    """

    def __init__(
        self,
        product: nn.Linear | nn.Conv2d,
        neuron: Neuron,
        *,
        norm: bool = False,
        pool: int | None = None,
        input_bits: int | None = None,
        input_limit: float | None = None,
    ) -> None:
        super().__init__()
        check_instance("product", product, (nn.Linear, nn.Conv2d))
        check_instance("norm", norm, bool)
        check_instance("neuron", neuron, Neuron)
        self.neuron = neuron
        self.product = _driven(product, input_bits, input_limit)
        flat = isinstance(product, nn.Linear)
        outputs = product.out_features if isinstance(product, nn.Linear) else product.out_channels
        self.norm = nn.Identity() if not norm else nn.BatchNorm1d(outputs) if flat else nn.BatchNorm2d(outputs)
        if pool is not None:
            pool = check_integer("pool", pool, at_least=1)
            if flat:
                raise InputError(f"pool must be None behind a linear layer, got {pool}")
        self.pool = nn.Identity() if pool is None else nn.MaxPool2d(pool)

    def forward(self, inputs: Tensor) -> Tensor:
        """What is sent at all steps."""
        currents: Tensor = self.norm(self.product(_folded(inputs)))
        sent: Tensor = self.neuron(_in_steps(currents, inputs))
        return _at_all_steps(self.pool, sent)


def _recurrent_through_time(currents: Tensor, weight: Tensor, neuron: _Settings) -> Tensor:
    """All steps of a population that is also driven by what it sent a step before."""
    membrane = sent = torch.zeros_like(currents[:, 0])
    outputs = []
    for current in currents.unbind(1):
        sent, membrane = _step(current + nn.functional.linear(sent, weight), membrane, neuron)
        sent = keep_state(sent)
        outputs.append(sent)
    return torch.stack(outputs, dim=1)


fx.wrap("_recurrent_through_time")


class RecurrentLiaf(nn.Module):
    """A layer of neurons that are also driven by what they sent a step before (RLIAF): two products, no gates.

    Input (samples, time, features); output (samples, time, units). Nothing was sent before the first step. The product
    of the inputs is computed for all steps at once, that of what was sent step by step.

    Parameters
    ----------
    inputs, units
        Features of a step, and neurons.
    neuron
        What the neurons are.
    norm
        Whether the currents of the inputs are normalised, over samples and steps; on crossbars the norm is part of the
        weights.
    bias
        Whether the product of the inputs has a bias, where there is no norm.
    input_bits, input_limit
        Of the inputs, as for :class:`LiafLayer`; those of what was sent follow from the neuron.

    Raises
    ------
    InputError
        If an argument is out of bounds.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        neuron: Neuron,
        *,
        norm: bool = False,
        bias: bool = True,
        input_bits: int | None = None,
        input_limit: float | None = None,
    ) -> None:
        super().__init__()
        units, inputs = check_integer("units", units, at_least=1), check_integer("inputs", inputs, at_least=1)
        check_instance("neuron", neuron, Neuron)
        check_instance("norm", norm, bool)
        check_instance("bias", bias, bool)
        self.neuron = neuron
        self.product = _driven(nn.Linear(inputs, units, bias=bias and not norm), input_bits, input_limit)
        self.norm = nn.BatchNorm1d(units) if norm else nn.Identity()
        self.recurrent = nn.Linear(units, units, bias=False)
        _driven(self.recurrent, neuron.bits, neuron.limit)

    def forward(self, inputs: Tensor) -> Tensor:
        """What is sent at all steps."""
        currents: Tensor = self.norm(self.product(_folded(inputs)))
        return _recurrent_through_time(_in_steps(currents, inputs), self.recurrent.weight, self.neuron._settings)


class EventNet(nn.Module):
    """Convolutions of neurons and a linear layer, whose outputs are averaged over time, for frames of events.

    Each 3 x 3 convolution is followed by a batch norm, neurons and a pool by 2. Input (samples, time, channels, size,
    size), 0 or 1: an event or none, which one bit drives; output (samples, classes) logits.

    Parameters
    ----------
    fire
        What the neurons send.
    size
        Height and width of a frame.
    channels
        Of a frame and of each layer.
    classes
        Outputs.
    **neuron
        Further arguments of :class:`Neuron`.

    Raises
    ------
    InputError
        If an argument is out of bounds, or frames are too small for the pools.
    """

    @entrance
    def __init__(
        self, fire: Fire, *, size: int = 34, channels: tuple[int, ...] = (2, 16, 32), classes: int = 10, **neuron: Any
    ) -> None:
        super().__init__()
        check_integer("classes", classes, at_least=1)
        if len(channels) < 2:
            raise InputError(f"channels must be those of a frame and of a layer or more, got {channels}")
        for number in channels:
            check_integer("channels", number, at_least=1)
        check_integer("size", size, at_least=2 ** (len(channels) - 1))
        layers: list[nn.Module] = []
        bits: int | None = 1
        limit: float | None = 1.0
        for before, after in itertools.pairwise(channels):
            population = Neuron(fire, **neuron)
            convolution = nn.Conv2d(before, after, 3, padding=1, bias=False)
            layers.append(LiafLayer(convolution, population, norm=True, pool=2, input_bits=bits, input_limit=limit))
            bits, limit, size = population.bits, population.limit, size // 2
        self.layers = nn.Sequential(*layers)
        self.classifier = _driven(nn.Linear(channels[-1] * size * size, classes), bits, limit)

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (samples, classes) of frames (samples, time, channels, size, size)."""
        return _at_all_steps(self.classifier, self.layers(frames).flatten(2)).mean(dim=1)


class SequenceNet(nn.Module):
    """One layer of recurrent neurons and a linear layer; its outputs are averaged over time, or are those of the end.

    Input (samples, time, features), output (samples, classes) logits.

    Parameters
    ----------
    fire
        What the neurons send.
    inputs, units, classes
        Features of a step, neurons, outputs.
    norm, bias
        As for :class:`RecurrentLiaf`.
    last
        Whether the linear layer sees the last step only.
    **neuron
        Further arguments of :class:`Neuron`.

    Raises
    ------
    InputError
        If an argument is out of bounds.
    """

    @entrance
    def __init__(
        self,
        fire: Fire,
        *,
        inputs: int,
        units: int,
        classes: int = 10,
        norm: bool = False,
        bias: bool = True,
        last: bool = False,
        **neuron: Any,
    ) -> None:
        super().__init__()
        check_integer("classes", classes, at_least=1)
        population = Neuron(fire, **neuron)
        self.recurrent = RecurrentLiaf(inputs, units, population, norm=norm, bias=bias)
        self.classifier = _driven(nn.Linear(units, classes), population.bits, population.limit)
        self.last = last

    def forward(self, frames: Tensor) -> Tensor:
        """Logits (samples, classes) of frames (samples, time, features)."""
        sent = self.recurrent(frames)
        if self.last:
            logits: Tensor = self.classifier(sent[:, -1])
            return logits
        return _at_all_steps(self.classifier, sent).mean(dim=1)
