"""Training with the weights that the hardware will have: masks and levels held, cells written inexactly or broken.

Each layer keeps a free weight, which the optimiser moves, and computes with a hard one made of it: pruned weights are
zero, the others stand on the levels of their codes, and on request the weight is read back from faulty cells. Gradients
of the hard weight go to the free one as if they were the same (the straight-through estimator: Y. Bengio, N. Leonard,
A. Courville, arXiv 2013, doi:10.48550/arXiv.1308.3432).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as MappingType
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize

from xbarsim.compress.layers import gemm_view
from xbarsim.compress.levels import Levels
from xbarsim.design import Design
from xbarsim.devices import FaultMap
from xbarsim.die import program
from xbarsim.foundation import tomlio
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.mapping import map_matrix, quantise
from xbarsim.training import Callback

__all__ = ["Hardening", "Injection"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Injection:
    """Programming errors and stuck cells that the weights meet at every training step, as on a die of a design.

    The cells are those that :func:`xbarsim.map_model` would take for the weights of the moment, encoded, tiled and
    packed; what they hold is read back as weights. Wires, converters and read noise take no part.

    Attributes
    ----------
    design
        Gives cell, mapping and fault model.
    dies
        How many different dies the training meets in turn; ``None`` for one that is never met again, each time.
    every
        Steps between dies.
    seed
        Root of all dies.
    faults
        Known fault maps by layer name, used on every die instead of the design's fault model: those of a chip in hand,
        ``{name: layer.faults for name, layer in chip.layers.items()}``. A batch norm with a negative scale swaps the
        cells of a pair when it is folded, so such a network is folded before it is trained for a chip in hand.

    Raises
    ------
    InputError
        If a number is out of its bound.
    """

    design: Design
    dies: int | None = None
    every: int = 1
    seed: int = 0
    faults: MappingType[str, FaultMap] | None = None

    def __post_init__(self) -> None:
        check_instance("design", self.design, Design)
        if self.dies is not None:
            check_integer("dies", self.dies, at_least=1)
        check_integer("every", self.every, at_least=1)
        check_integer("seed", self.seed, at_least=0)

    def text(self) -> str:
        """What a checkpoint remembers of it."""
        known = None if self.faults is None else sorted((name, faults.hash) for name, faults in self.faults.items())
        return f"{tomlio.to_table(self.design)} dies={self.dies} every={self.every} seed={self.seed} faults={known}"

    @entrance
    def die(self, step: int) -> int:
        """Number of the die that a step meets."""
        count = step // self.every
        return count if self.dies is None else count % self.dies

    @entrance
    def read_back(self, weights: Tensor, *, layer: str, index: int, step: int) -> Tensor:
        """The weights that a die's cells stand for.

        Parameters
        ----------
        weights
            A layer's weight, any shape whose first dimension counts outputs; not changed.
        layer, index
            Name and number of the layer.
        step
            The training step.

        Returns
        -------
        torch.Tensor
            Of the same shape, type and device. The difference from `weights` holds programming errors and stuck cells,
            and not the quantisation to the design's levels.

        Raises
        ------
        InputError
            If a known fault map has another shape than the layer's tiles.
        """
        mapping, cell = self.design.mapping, self.design.cell
        matrix = gemm_view(weights.detach()).T.to("cpu", torch.float64).numpy()
        quantised = quantise(matrix, bits=mapping.weight_bits, per=mapping.weight_scale)
        placed = map_matrix(quantised.codes, mapping)
        rng = np.random.default_rng(np.random.SeedSequence(self.seed, spawn_key=(self.die(step), index)))
        known = None if self.faults is None else self.faults.get(layer)
        if known is not None and known.shape != placed.levels.shape:
            raise InputError(f"faults of layer {layer!r} must have shape {placed.levels.shape}, got {known.shape}")
        faults = self.design.faults if known is None else known
        cells = program(placed.levels, cell, mapping.cell_bits, rng, faults=faults)
        error = (placed.decode(cells) - quantised.codes) * quantised.scale
        return weights.detach() + torch.from_numpy(error.T.reshape(tuple(weights.shape))).to(weights)


class _Hard(nn.Module):
    """From the free weight of a layer to the one it computes with."""

    mask: Tensor | None

    def __init__(self, owner: Hardening, layer: str, index: int, mask: Tensor | None, levels: Levels | None) -> None:
        super().__init__()
        self._owner = [owner]  # in a list: not a part of the model
        self.layer = layer
        self.index = index
        self.levels = levels
        self.register_buffer("mask", mask, persistent=False)
        self._left: tuple[Tensor, Tensor] | None = None
        if mask is not None:
            view = gemm_view(mask)
            self._left = view.any(dim=1).nonzero(), view.any(dim=0).nonzero().squeeze(1)

    def forward(self, weight: Tensor) -> Tensor:
        hard = weight if self.mask is None else torch.where(self.mask, weight, 0.0)
        if self.levels is not None:
            with torch.no_grad():
                levelled = self._on_levels(gemm_view(hard)).reshape(hard.shape)
            hard = hard + (levelled - hard).detach()
        injection = self._owner[0].injection
        if injection is not None and self.training:
            with torch.no_grad():
                inexact = injection.read_back(hard, layer=self.layer, index=self.index, step=self._owner[0].step)
            hard = hard + (inexact - hard).detach()
        return hard

    def _on_levels(self, matrix: Tensor) -> Tensor:
        """The nearest levels; only filters and positions that are left are looked at, often a small share."""
        assert self.levels is not None
        if self.mask is None or self._left is None:
            return self.levels.project(matrix)
        filters, positions = self._left
        hard = torch.zeros_like(matrix)
        if len(filters):
            part = filters, positions
            hard[part] = self.levels.project(matrix[part], gemm_view(self.mask)[part])
        return hard


class Hardening(Callback):
    """Holds masks and levels while a network is trained, and injects what its cells will suffer.

    Between :meth:`start` and :meth:`bake` the layers' weights are parametrized (``torch.nn.utils.parametrize``).

    Parameters
    ----------
    masks
        Which weights stay, by layer name: bool, of the weight's shape.
    levels
        Levels by layer name.
    injection
        What the cells suffer, in training mode only; ``None`` for nothing.
    layers
        Layers that meet the injection; ``None`` for all of `masks` and `levels`.

    Raises
    ------
    InputError
        At :meth:`start`, if a name is no layer of the model or a mask has another shape than its weight.
    """

    @entrance
    def __init__(
        self,
        *,
        masks: MappingType[str, Tensor] | None = None,
        levels: MappingType[str, Levels] | None = None,
        injection: Injection | None = None,
        layers: tuple[str, ...] | None = None,
    ) -> None:
        self.masks = dict(masks or {})
        self.levels = dict(levels or {})
        self.injection = injection
        self.names = list(dict.fromkeys([*self.masks, *self.levels, *(layers or ())]))
        self.step = 0
        self._hard: list[nn.Module] = []

    def start(self, model: nn.Module, epochs: int) -> None:
        """Parametrize the layers."""
        modules = dict(model.named_modules())
        order = {name: number for number, name in enumerate(modules)}
        for name in self.names:
            if name not in modules or not isinstance(getattr(modules[name], "weight", None), Tensor):
                raise InputError(f"layers must be names of layers with a weight, got {name!r}")
            weight = modules[name].weight
            mask = self.masks.get(name)
            if mask is not None:
                if mask.shape != weight.shape:
                    raise InputError(
                        f"masks of layer {name!r} must have shape {tuple(weight.shape)}, got {tuple(mask.shape)}"
                    )
                mask = mask.to(weight.device, torch.bool)
        for name in self.names:
            module = modules[name]
            mask = self.masks.get(name)
            mask = None if mask is None else mask.to(module.weight.device, torch.bool)
            hard = _Hard(self, name, order[name], mask, self.levels.get(name))
            hard.train(module.training)
            parametrize.register_parametrization(module, "weight", hard)
            self._hard.append(module)

    def after_step(self) -> None:
        """Count steps: they number the dies."""
        self.step += 1

    def settings(self) -> str:
        """Masks (their hashes), levels and what is injected, as text."""
        held = {
            name: hashlib.sha256(np.packbits(mask.cpu().numpy()).tobytes()).hexdigest()
            for name, mask in self.masks.items()
        }
        injection = self.injection
        text = None if injection is None else injection.text()
        return f"Hardening(masks={held}, levels={self.levels}, injection={text})"

    def bake(self) -> None:
        """Leave the layers with the hard weights, without anything injected, and no longer parametrized."""
        for module in self._hard:
            for hard in module.parametrizations.weight:  # type: ignore[union-attr]
                hard.eval()  # nothing injected
            parametrize.remove_parametrizations(module, "weight", leave_parametrized=True)
        self._hard.clear()

    def state(self) -> dict[str, Tensor]:
        """The number of the step."""
        return {"step": torch.tensor(self.step)}

    @staticmethod
    def hold(model: nn.Module, masks: MappingType[str, Tensor]) -> None:
        """Set the pruned weights of a model to 0, once."""
        with torch.no_grad():
            for name, mask in masks.items():
                weight = model.get_submodule(name).weight
                assert isinstance(weight, Tensor)
                weight.mul_(mask.to(weight.device, weight.dtype))

    def load_state(self, state: MappingType[str, Tensor]) -> None:
        """Go on from a step."""
        self.step = int(state["step"])
