"""What a pruning method is: a way to find, in the course of a training, the weights that stay.

A method is one file: a frozen dataclass of its settings, and the callback that works in one training. Three things that
it may do beyond adding a penalty or choosing masks are prepared here and in the trainer:

- replace the update rule of weights: :meth:`MethodCallback.groups` gives a :class:`~xbarsim.training.ParameterGroup`
  with a rule, which decides from gradient and proposed step how a weight moves;
- prune and grow: :meth:`MethodCallback.set_mask` moves a mask in both directions, at any epoch or step;
- train masks: :meth:`MethodCallback.attach` lets a layer compute with another weight made of its own, by a module
  whose parameters are trained too, in a group of their own; at the end it is taken out, and a fixed mask remains.
"""

from __future__ import annotations

from abc import ABCMeta, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from xbarsim.compress.layers import MappableLayer, gemm_view, mappable_layers
from xbarsim.compress.recipe import LayerRule, Recipe, layer_mask
from xbarsim.compress.registry import register
from xbarsim.foundation import tomlio
from xbarsim.foundation.validation import FileFormatError, InputError, check_instance
from xbarsim.training import Callback

__all__ = ["Method", "MethodCallback"]


class Method(metaclass=ABCMeta):
    """A way to find the weights that stay.

    Subclasses are frozen dataclasses of its settings, with a name of their own; ``xbarsim.testing.check_method`` checks
    one.
    """

    known: ClassVar[dict[str, type]] = {}
    """All methods that are defined, by name."""

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        register(Method.known, cls)

    @abstractmethod
    def callback(self, recipe: Recipe) -> MethodCallback:
        """What takes part in one training.

        Parameters
        ----------
        recipe
            What the network should look like.

        Raises
        ------
        InputError
            If the recipe has nothing that this method could do.
        """


class MethodCallback(Callback, metaclass=ABCMeta):
    """A method at work in one training.

    All that it must remember is in :attr:`memory`, which goes into checkpoints as it is: a run that was cut short ends
    with the same bits as one that was not, as long as all that it draws is drawn from what is remembered, or from the
    number of the epoch or step.

    Parameters
    ----------
    method
        The settings.
    recipe
        What the network should look like.
    levels
        Whether a recipe with only levels is enough for this method.

    Attributes
    ----------
    rules
        Rules by the names of their layers, once the training has started.
    memory
        Tensors by name. A name ``"what/LAYER"`` is of a layer, and has the shape of its matrix unless
        :meth:`remembered_shape` says otherwise; ``"mask/LAYER"`` belongs to :meth:`set_mask`. A tensor in there is
        replaced, never changed.

    Raises
    ------
    InputError
        If the recipe has no rule with targets (or levels).
    """

    def __init__(self, method: Method, recipe: Recipe, *, levels: bool = False) -> None:
        check_instance("recipe", recipe, Recipe)
        if not any(rule.targets or (levels and rule.levels is not None) for rule in recipe.rules):
            raise InputError(f"recipe must have a rule with targets{' or levels' if levels else ''}, got {recipe!r}")
        self.method = method
        self.recipe = recipe
        self.rules: dict[str, LayerRule] = {}
        self.memory: dict[str, Tensor] = {}
        self._layers: dict[str, MappableLayer] | None = None
        self._renewed: dict[str, Tensor] = {}
        self._attached: list[MappableLayer] = []

    def settings(self) -> str:
        """Method and recipe as TOML."""
        return f"{type(self.method).__name__}\n{tomlio.dumps(self.method)}\n{self.recipe.to_toml()}"

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the layers.

        Raises
        ------
        InputError
            If the recipe does not suit the model.
        """
        self.rules = self.recipe.layers(model)
        layers = mappable_layers(model)
        self._layers = {name: layers[name] for name in self.rules}
        self.memory = {}
        self._renewed = {}
        self._attached = []

    # --- layers

    def pruned_layers(self) -> dict[str, LayerRule]:
        """The rules with targets, by layer."""
        return {name: rule for name, rule in self.rules.items() if rule.targets}

    def layer(self, name: str) -> MappableLayer:
        """A layer: its module, and which weight of it is meant.

        Raises
        ------
        RuntimeError
            Before the training has started.
        """
        if self._layers is None:
            raise RuntimeError("the training has not begun: no model is known")
        return self._layers[name]

    def weight(self, layer: str) -> nn.Parameter:
        """The weight of a layer that the optimiser moves."""
        return self.layer(layer).free

    def matrix(self, layer: str) -> Tensor:
        """That weight as it is now, (filters, positions), without gradients: to read only, for it may be a copy."""
        return gemm_view(self.weight(layer).detach())

    # --- masks that are held

    def held_masks(self) -> dict[str, Tensor]:
        """The masks that :meth:`set_mask` has set, by layer: bool (filters, positions)."""
        names = {name: f"mask/{name}" for name in self.pruned_layers()}
        return {name: self.memory[key] for name, key in names.items() if key in self.memory}

    def set_mask(self, layer: str, mask: Tensor, *, start: float | Tensor = 0.0) -> None:
        """Hold a mask from now on, until another one is set: weights outside of it are zero after every step.

        A mask may take weights away and give others back. Both kinds begin anew for the optimiser.

        Parameters
        ----------
        layer
            Name of a layer with targets.
        mask
            Which of its weights stay or come back, bool (filters, positions).
        start
            What the weights that come back start at: a number, or a matrix of the mask's shape.
        """
        matrix = self.matrix(layer)
        before = self.memory.get(f"mask/{layer}", torch.ones_like(mask))
        changed = mask ^ before
        if (mask & changed).any():
            value = torch.as_tensor(start, dtype=matrix.dtype, device=matrix.device).expand(matrix.shape)
            matrix = torch.where(mask & changed, value, matrix)
            self.weight(layer).detach().copy_(matrix.reshape(self.weight(layer).shape))
        self.memory[f"mask/{layer}"] = mask
        self._renewed[layer] = changed | self._renewed.get(layer, torch.zeros_like(changed))
        self._hold(layer, mask)

    def _hold(self, layer: str, mask: Tensor) -> None:
        weight = self.weight(layer).detach()
        weight.masked_fill_(~mask.reshape(weight.shape), 0.0)

    def renewed(self) -> Sequence[tuple[nn.Parameter, Tensor]]:
        """What masks took away or gave back."""
        changed, self._renewed = self._renewed, {}
        return [(self.weight(layer), mask.reshape(self.weight(layer).shape)) for layer, mask in changed.items()]

    def after_step(self) -> None:
        """Hold the masks."""
        for layer, mask in self.held_masks().items():
            self._hold(layer, mask)

    def masks(self) -> dict[str, Tensor]:
        """Which weights stay: the masks that are held, or else those of the targets for the weights as they are now.

        Returns
        -------
        dict
            By layer name, for every layer with a target: bool of the weight's shape.

        Raises
        ------
        InputError
            If a weight is not finite.
        RuntimeError
            Before the training has started.
        """
        if self._layers is None:
            raise RuntimeError("the training has not begun: no model is known")
        chosen = self.held_masks() or {
            name: layer_mask(name, rule, self.matrix(name)) for name, rule in self.pruned_layers().items()
        }
        return {name: mask.reshape(self.weight(name).shape).clone() for name, mask in chosen.items()}

    def report(self) -> object:
        """What there is to tell of the training when it is over: ``None`` unless a method has something."""
        return None

    # --- masks that are trained

    def attach(self, layer: str, module: nn.Module) -> None:
        """Let a layer compute with another weight, which `module` makes of its own; called in :meth:`start`.

        The module's parameters are trained and saved with the model. :meth:`groups` may give them their own settings.
        """
        self.layer(layer).attach(module)
        self._attached.append(self.layer(layer))

    def finish(self) -> None:
        """Take out what was attached: each layer keeps the weight that it computed with last.

        A method with trained masks sets them for good, by :meth:`set_mask`, before it calls this.
        """
        for layer in self._attached:
            layer.detach()
        self._attached = []

    # --- memory

    def state(self) -> dict[str, Tensor]:
        """What it remembers."""
        return dict(self.memory)

    def load_state(self, state: Mapping[str, Tensor]) -> None:
        """Take up what it remembered.

        Raises
        ------
        FileFormatError
            If a tensor does not fit a layer.
        """
        memory = {}
        for key, tensor in state.items():
            what, _, layer = key.partition("/")
            device = torch.device("cpu")
            if layer:
                if layer not in self.rules:
                    raise FileFormatError(f"the state of {type(self.method).__name__} is of another model: {key!r}")
                device = self.matrix(layer).device
                if tensor.shape != (wanted := self.remembered_shape(what, layer)):
                    raise FileFormatError(f"{key!r} must have shape {tuple(wanted)}, got {tuple(tensor.shape)}")
            memory[key] = tensor.detach().to(device, copy=True)
        self.memory = memory

    def remembered_shape(self, what: str, layer: str) -> torch.Size:
        """The shape of ``"what/LAYER"`` in the memory."""
        return self.matrix(layer).shape
