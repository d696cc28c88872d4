"""Training with the weights that the hardware will have: masks and levels held, cells written inexactly or broken.

Each layer keeps a free weight, which the optimiser moves, and computes with a hard one made of it: pruned weights are
zero, the others stand on the levels of their codes, and on request the weight is read back from faulty cells. Gradients
of the hard weight go to the free one as if they were the same (the straight-through estimator: Y. Bengio, N. Leonard,
A. Courville, arXiv 2013, doi:10.48550/arXiv.1308.3432).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping as MappingType

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from xbarsim.compress.disturbances import Disturbance
from xbarsim.compress.layers import MappableLayer, find_layer, gemm_view
from xbarsim.compress.levels import Levels
from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import InputError, check_instance, check_integer, check_real, check_tensor
from xbarsim.training import Callback

__all__ = ["FrozenStatistics", "Hardening", "clip_weights"]


@entrance
def clip_weights(matrix: Tensor, quantile: float) -> Tensor:
    """Weights of a matrix held within a quantile of their magnitude, filter by filter.

    The full scale of an output, which a stuck cell errs by, is then that quantile and no longer its largest weight.

    Parameters
    ----------
    matrix
        Weights, (filters, positions).
    quantile
        Share of a filter's weights other than 0 that stay as they are, > 0 and <= 1: the limit is the smallest
        magnitude that so many do not exceed. Weights of 0 do not count, so that pruning moves no limit.

    Returns
    -------
    torch.Tensor
        Same shape. Clipping again changes nothing.

    Raises
    ------
    InputError
        If `quantile` is out of bounds, or `matrix` is no matrix.
    """
    quantile = check_real("quantile", quantile, above=0.0, at_most=1.0)
    check_tensor("matrix", matrix)
    if matrix.ndim != 2:
        raise InputError(f"matrix must have 2 dimensions, got shape {tuple(matrix.shape)}")
    magnitude = matrix.abs().sort(dim=1).values
    zeros = (magnitude == 0).sum(dim=1)
    left = magnitude.shape[1] - zeros
    rank = zeros + torch.ceil(quantile * left.double()).long() - 1
    limit = magnitude.gather(1, rank.clamp(min=0, max=magnitude.shape[1] - 1)[:, None])
    return torch.minimum(torch.maximum(matrix, -limit), limit)


def _straight_through(free: Tensor, hard: Tensor) -> Tensor:
    """The values of `hard` with the gradient of `free`."""
    return free + (hard - free).detach()


class _Hard(nn.Module):
    """From the free weight of a layer to the one it computes with."""

    mask: Tensor | None

    def __init__(
        self,
        owner: Hardening,
        layer: str,
        index: int,
        mask: Tensor | None,
        levels: Levels | None,
        clip: float | None,
    ) -> None:
        super().__init__()
        self._owner = [owner]  # in a list: not a part of the model
        self.layer = layer
        self.index = index
        self.levels = levels
        self.clip = clip
        self.register_buffer("mask", mask, persistent=False)
        self._left: tuple[Tensor, Tensor] | None = None
        if mask is not None:
            view = gemm_view(mask)
            self._left = view.any(dim=1).nonzero(), view.any(dim=0).nonzero().squeeze(1)

    def forward(self, weight: Tensor) -> Tensor:
        hard = weight if self.mask is None else torch.where(self.mask, weight, 0.0)
        if self.clip is not None:
            with torch.no_grad():
                clipped = clip_weights(gemm_view(hard), self.clip).reshape(hard.shape)
            hard = _straight_through(hard, clipped)
        if self.levels is not None:
            with torch.no_grad():
                levelled = self._on_levels(gemm_view(hard)).reshape(hard.shape)
            hard = _straight_through(hard, levelled)
        injection = self._owner[0].injection
        if injection is not None and (self.training or self._owner[0].validate_injected):
            step = self._owner[0].step
            with torch.no_grad():
                inexact = injection.read_back(hard, layer=self.layer, index=self.index, step=step)
                moves = injection.moves(hard, layer=self.layer, index=self.index, step=step)
            if moves is not None:
                hard = torch.where(moves, hard, hard.detach())
            hard = _straight_through(hard, inexact)
        return hard

    def _on_levels(self, matrix: Tensor) -> Tensor:
        """The nearest levels; only filters and positions that are left are looked at, often a small share."""
        assert self.levels is not None
        if self.mask is None or self._left is None:
            return self.levels.project(matrix)
        filters, positions = (index.to(matrix.device) for index in self._left)
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
        What the cells suffer, in training mode; ``None`` for nothing.
    validate_injected
        Whether validation meets it too, as a chip in hand has it.
    layers
        Layers that meet the injection and are clipped; ``None`` for all of `masks` and `levels`.
    clip
        Share of each output's weights that stay as they are, those beyond being held at the largest of them (see
        :func:`clip_weights`): a stuck cell then errs by less. ``None`` for no such limit.

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
        injection: Disturbance | None = None,
        validate_injected: bool = False,
        layers: tuple[str, ...] | None = None,
        clip: float | None = None,
    ) -> None:
        self.masks = dict(masks or {})
        self.levels = dict(levels or {})
        self.injection = injection
        check_instance("validate_injected", validate_injected, bool)
        self.validate_injected = validate_injected
        self.clip = None if clip is None else check_real("clip", clip, above=0.0, at_most=1.0)
        self.names = list(dict.fromkeys([*self.masks, *self.levels, *(layers or ())]))
        self.step = 0
        self._hard: list[tuple[MappableLayer, _Hard]] = []

    def start(self, model: nn.Module, epochs: int) -> None:
        """Parametrize the layers."""
        layers = {name: find_layer(model, name) for name in self.names}
        for name, layer in layers.items():
            weight = layer.weight
            mask = self.masks.get(name)
            if mask is not None and mask.shape != weight.shape:
                raise InputError(
                    f"masks of layer {name!r} must have shape {tuple(weight.shape)}, got {tuple(mask.shape)}"
                )
        for name, layer in layers.items():
            mask = self.masks.get(name)
            mask = None if mask is None else mask.to(layer.weight.device, torch.bool)
            hard = _Hard(self, name, layer.number, mask, self.levels.get(name), self.clip)
            hard.train(layer.module.training)
            layer.attach(hard)
            self._hard.append((layer, hard))

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
        clip = "" if self.clip is None else f", clip={self.clip}"
        validated = ", validate_injected=True" if self.validate_injected else ""
        return f"Hardening(masks={held}, levels={self.levels}, injection={text}{validated}{clip})"

    def bake(self) -> None:
        """Leave the layers with the hard weights, without anything injected, and no longer parametrized."""
        self.validate_injected = False
        for layer, hard in self._hard:
            hard.eval()  # nothing injected
            layer.detach()
        self._hard.clear()

    def state(self) -> dict[str, Tensor]:
        """The number of the step."""
        return {"step": torch.tensor(self.step)}

    @staticmethod
    def hold(model: nn.Module, masks: MappingType[str, Tensor]) -> None:
        """Set the pruned weights of a model to 0, once."""
        with torch.no_grad():
            for name, mask in masks.items():
                weight = find_layer(model, name).weight
                weight.mul_(mask.to(weight.device, weight.dtype))

    def load_state(self, state: MappingType[str, Tensor]) -> None:
        """Go on from a step."""
        self.step = int(state["step"])


class FrozenStatistics(Callback):
    """Batch norms that compute with their running statistics while a network is trained, and do not change them.

    The statistics of a batch take a die's errors of mean and spread out again, channel by channel, which a die that
    computes with stored statistics cannot: a network that is to bear faults must meet them as they will be.

    Parameters
    ----------
    epoch
        The first epoch with frozen statistics, counted from 0.
    """

    @entrance
    def __init__(self, *, epoch: int = 0) -> None:
        self.epoch = check_integer("epoch", epoch, at_least=0)
        self._norms: list[nn.Module] = []
        self._frozen = False

    def settings(self) -> str:
        """The first epoch."""
        return f"FrozenStatistics(epoch={self.epoch})"

    def start(self, model: nn.Module, epochs: int) -> None:
        """Find the batch norms."""
        self._norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]

    def begin_epoch(self, epoch: int) -> None:
        """Note whether it is time."""
        self._frozen = epoch >= self.epoch

    def begin_step(self, step: int) -> None:
        """Take the batch norms out of training mode, where the trainer puts them at the start of an epoch."""
        if self._frozen:
            for norm in self._norms:
                norm.eval()
