"""A pruned network that computes without its zeros, in float32 on the CPU: what block-column-row pruning saves there.

The weights of a layer are cut into groups of outputs that share the inputs which any of them has weights for (as
compilers for pruned networks do: W. Niu et al., GRIM, 2021, doi:10.48550/arXiv.2108.11033). Where every group keeps an
eighth of the inputs, an eighth of the products is left. Nothing is fetched: sums run over lists of offsets into feature
maps or vectors with 16 images side by side (:class:`xbarsim.engine.PlainProgram`), which stay so from layer to layer.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from xbarsim.compress.layers import gemm_view
from xbarsim.engine import BlockedMaps, PlainProgram, Window
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance, check_integer
from xbarsim.mapping import PACKINGS
from xbarsim.network.lowering import BlockedTensor, fold_batch_norm, unblocked

__all__ = ["PackedLayer", "PackedNetwork", "pack_network"]

_GROUPS = (16, 32, 64, 128)  # outputs that may share their inputs
_SUMS = 8  # outputs that are summed at a time, for which each input is read once
_ROUNDED = 1e-4  # of the largest answer: sums run in another order
_LANES = BlockedMaps.lanes
_ALONE = Window()  # of vectors: a map of one number each


def _blocked(vectors: Tensor) -> Tensor:
    """Vectors (..., vectors, numbers) with 16 side by side, (..., blocks, numbers, 16), the last block filled up."""
    *before, count, numbers = vectors.shape
    blocks = -(-count // _LANES)
    filled = functional.pad(vectors, (0, 0, 0, blocks * _LANES - count))
    return filled.reshape(*before, blocks, _LANES, numbers).transpose(-1, -2).contiguous()


def _apart(blocks: Tensor, count: int) -> Tensor:
    """The reverse: `count` vectors."""
    vectors = blocks.transpose(-1, -2)
    return vectors.reshape(*vectors.shape[:-3], -1, vectors.shape[-1])[..., :count, :]


class PackedMatrix(nn.Module):
    """Products with a pruned matrix, without its zeros.

    Parameters
    ----------
    matrix
        Weights (outputs, inputs), float32.
    bias
        Of each output, or ``None``.
    """

    def __init__(self, matrix: Tensor, bias: Tensor | None) -> None:
        super().__init__()
        self.outputs, self.inputs = int(matrix.shape[0]), int(matrix.shape[1])
        nonzero = (matrix != 0).numpy()
        blocks = PACKINGS["block"].blocks
        cuts: list[list[tuple[Any, Any]]] = [[(np.arange(self.inputs), np.arange(self.outputs))]]
        cuts += [blocks(nonzero.T, self.inputs, group) for group in (*_GROUPS, self.outputs)]
        best = min(cuts, key=_work)
        self.kept = int(nonzero.sum())
        self.computed = sum(len(rows) * len(outputs) for rows, outputs in best)
        weights = matrix.numpy().T
        groups = [(rows, outputs, weights[np.ix_(rows, outputs)]) for rows, outputs in best]
        begun = np.zeros(self.outputs, np.float32) if bias is None else bias.detach().numpy()
        self.program = PlainProgram(groups, self.inputs, self.outputs, begun)

    def forward(self, blocks: Tensor) -> Tensor:
        """Results (..., blocks, outputs, 16) of vectors, 16 side by side (..., blocks, inputs, 16).

        Raises
        ------
        InputError
            If they are not float32, or of another number of inputs.
        """
        if blocks.dtype != torch.float32 or blocks.shape[-2] != self.inputs:
            raise InputError(
                f"inputs must be float32 with {self.inputs} features, got {blocks.dtype} with {blocks.shape[-2]}"
            )
        values = blocks.reshape(-1, self.inputs, 1, 1, _LANES).detach().numpy()
        made = self.program.convolve(BlockedMaps(values, len(values) * _LANES), _ALONE)
        return torch.from_numpy(made.values).reshape(*blocks.shape[:-2], self.outputs, _LANES)


def _work(cut: list[tuple[Any, Any]]) -> int:
    """Time that it takes, as long as one product of 16 images takes: an input is read for every few sums."""
    return sum(len(rows) * (len(outputs) + math.ceil(len(outputs) / _SUMS)) for rows, outputs in cut)


class PackedLinear(nn.Module):
    """In the place of a ``Linear``."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix = PackedMatrix(layer.weight.detach(), layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """As a ``Linear``."""
        vectors = inputs.reshape(-1, inputs.shape[-1])
        result = _apart(self.matrix(_blocked(vectors)), len(vectors))
        return result.reshape(*inputs.shape[:-1], self.matrix.outputs)


class PackedConv2d(nn.Module):
    """In the place of a ``Conv2d``; maps stay in blocks of 16 images to the next one."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.matrix = PackedMatrix(gemm_view(layer.weight.detach()), layer.bias)
        assert not isinstance(layer.padding, str)
        (top, left), kernel = layer.padding, layer.kernel_size
        self.margin = max(top, left)  # of the maps it gives: layers of a network are mostly padded alike
        self.window = Window(
            kernel=(kernel[0], kernel[1]),
            stride=(layer.stride[0], layer.stride[1]),
            dilation=(layer.dilation[0], layer.dilation[1]),
            padding=(left, left, top, top),
        )

    def forward(self, images: Tensor) -> Tensor:
        """As a ``Conv2d``.

        Raises
        ------
        InputError
            If the images are not a float32 batch, have other channels, or are smaller than the kernel.
        """
        if images.ndim != 4 or images.dtype != torch.float32:
            raise InputError(
                "images must be float32 of shape (images, channels, height, width), got "
                f"{images.dtype} of shape {tuple(images.shape)}"
            )
        maps = images.maps if isinstance(images, BlockedTensor) else None
        if maps is None:
            maps = BlockedMaps.of(unblocked(images).detach().numpy())
        return BlockedTensor(self.matrix.program.convolve(maps, self.window, margin=self.margin))


class PackedRecurrent(nn.Module):
    """In the place of a ``GRU`` or ``LSTM``, for whole batches of sequences of one length."""

    def __init__(self, layer: nn.GRU | nn.LSTM) -> None:
        super().__init__()
        self.is_lstm, self.batch_first = isinstance(layer, nn.LSTM), layer.batch_first
        self.hidden, self.directions = layer.hidden_size, 2 if layer.bidirectional else 1
        self.by_name: dict[str, PackedMatrix] = {}
        for place in range(layer.num_layers * self.directions):
            name = f"l{place // self.directions}{'_reverse' if place % self.directions else ''}"
            for kind in ("ih", "hh"):
                weight = getattr(layer, f"weight_{kind}_{name}").detach()
                bias = getattr(layer, f"bias_{kind}_{name}", None)
                self.by_name[f"weight_{kind}_{name}"] = PackedMatrix(weight, bias)
        self.matrices = nn.ModuleList(self.by_name.values())

    def forward(self, sequences: Tensor, state: Any = None) -> tuple[Tensor, Any]:
        """As a ``GRU`` or ``LSTM``, of (steps, samples, features), or samples first.

        Raises
        ------
        InputError
            If it is given a packed sequence, a single one, one without a step, or a state.
        """
        if not isinstance(sequences, Tensor) or sequences.ndim != 3 or state is not None:
            raise InputError("a packed recurrent layer must be given sequences of three dimensions and no state")
        if not sequences.shape[1 if self.batch_first else 0]:
            raise InputError("sequences must have one step or more, got none")
        samples = sequences.shape[0 if self.batch_first else 1]
        ahead = _blocked(sequences.transpose(0, 1) if self.batch_first else sequences)  # (steps, blocks, features, 16)
        lasts: list[tuple[Tensor, ...]] = []
        for number in range(0, len(self.matrices), 2 * self.directions):
            outputs = []
            for direction in range(self.directions):
                ih, hh = self.matrices[number + 2 * direction], self.matrices[number + 2 * direction + 1]
                shown, last = self._run(ih, hh, ahead, backwards=direction == 1)
                outputs.append(shown)
                lasts.append(last)
            ahead = torch.cat(outputs, dim=2) if self.directions > 1 else outputs[0]
        result = _apart(ahead, samples)
        ends = [_apart(torch.stack([last[which] for last in lasts]), samples) for which in range(1 + self.is_lstm)]
        return (result.transpose(0, 1) if self.batch_first else result), tuple(ends) if self.is_lstm else ends[0]

    def _run(
        self, ih: nn.Module, hh: nn.Module, ahead: Tensor, *, backwards: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        steps, blocks = ahead.shape[:2]
        given = ih(ahead)
        hidden = ahead.new_zeros(blocks, self.hidden, _LANES)
        cell = hidden
        outputs = ahead.new_empty(steps, blocks, self.hidden, _LANES)
        both = 2 * self.hidden
        for step in reversed(range(steps)) if backwards else range(steps):
            sums = hh(hidden)
            if self.is_lstm:
                i, f, g, o = sums.add_(given[step]).chunk(4, dim=1)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
            else:
                reset, update = torch.sigmoid(sums[:, :both] + given[step, :, :both]).chunk(2, dim=1)
                new = torch.tanh(given[step, :, both:] + reset * sums[:, both:])
                hidden = new + update * (hidden - new)
            outputs[step] = hidden
        return outputs, (hidden, cell) if self.is_lstm else (hidden,)


# ------------------------------------------------------------------------------------------------ networks


@dataclass(frozen=True, kw_only=True)
class PackedLayer:
    """What is computed of a layer.

    Attributes
    ----------
    name
        The layer.
    weights, kept
        How many weights it has, and how many are not 0.
    computed
        Products with weights for one vector: `kept`, and zeros that stand in a group with others.
    """

    name: str
    weights: int
    kept: int
    computed: int

    def __post_init__(self) -> None:
        check_fields(self)


class PackedNetwork(nn.Module):
    """A network that computes without its zeros; made by :func:`pack_network`, ``str`` gives a table.

    Attributes
    ----------
    network
        The network with its layers replaced.
    layers
        Those that were.
    dense
        Layers with weights that were left as they are, by name, and why.
    images_at_once
        How many images of a batch go through the whole network before the next ones; ``None`` for all.
    """

    def __init__(
        self,
        network: nn.Module,
        layers: tuple[PackedLayer, ...],
        dense: dict[str, str],
        images_at_once: int | None = None,
    ) -> None:
        super().__init__()
        self.network, self.layers, self.dense, self.images_at_once = network, layers, dense, images_at_once

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """As the network, without gradients."""
        if self.images_at_once is None:
            return unblocked(self.network(*inputs))
        if len(inputs) != 1:
            raise InputError(f"images_at_once must be None for a network of several inputs, got {self.images_at_once}")
        (images,) = inputs
        return torch.cat([unblocked(self.network(part)) for part in images.split(self.images_at_once)])

    def __str__(self) -> str:
        rows = [
            (
                each.name,
                f"{each.weights:,}",
                f"{each.kept:,}",
                f"{each.computed:,}",
                f"{each.computed / each.weights:.1%}",
            )
            for each in self.layers
        ]
        lines = [format_table(("layer", "weights", "not 0", "computed", "share"), rows)]
        return "\n".join([*lines, *(f"dense: {name} ({reason})" for name, reason in self.dense.items())])


def _packed(module: nn.Module) -> nn.Module | str | None:
    """What stands in a module's place; why it stays; or ``None`` where nothing has to be said."""
    kind = type(module)
    if kind is nn.Linear:
        assert isinstance(module, nn.Linear)
        return PackedLinear(module)
    if isinstance(module, nn.Conv2d):
        if kind is not nn.Conv2d or module.groups != 1 or module.padding_mode != "zeros" or module.padding == "same":
            return "a convolution of another kind: groups, padding or class"
        if module.padding == "valid":
            return "a convolution of another kind: groups, padding or class"
        return PackedConv2d(module)
    if isinstance(module, nn.RNNBase):
        if kind not in (nn.GRU, nn.LSTM) or module.proj_size:
            return "a recurrent layer of another kind"
        assert isinstance(module, nn.GRU | nn.LSTM)
        return PackedRecurrent(module)
    weight = getattr(module, "weight", None)
    if isinstance(weight, Tensor) and weight.ndim > 1:
        return f"no packed form of {kind.__name__}"
    return None


def _counted(name: str, replacement: nn.Module) -> list[PackedLayer]:
    """What is computed of a module's matrices."""
    if isinstance(replacement, PackedRecurrent):
        before = f"{name}." if name else ""
        matrices = {before + own: matrix for own, matrix in replacement.by_name.items()}
    elif isinstance(replacement, PackedLinear | PackedConv2d):
        matrices = {name or "(model)": replacement.matrix}
    else:
        matrices = {}
    return [
        PackedLayer(
            name=title,
            weights=matrix.outputs * matrix.inputs,
            kept=matrix.kept,
            computed=matrix.computed,
        )
        for title, matrix in matrices.items()
    ]


@entrance
def pack_network(
    model: nn.Module, *, samples: Tensor | None = None, images_at_once: int | None = None
) -> PackedNetwork:
    """A copy of a pruned network that computes without its zeros, in float32 on the CPU.

    ``Linear``, ``Conv2d`` (without groups), ``GRU`` and ``LSTM`` are replaced; everything else stays torch's. Groups of
    16, 32, 64, 128 or all outputs share the inputs that any of them needs, whichever takes the least work for a layer;
    where leaving out zeros saves nothing, the layer is one dense product. Results are those of the network up to the
    rounding of sums in another order.

    Parameters
    ----------
    model
        The network; not changed.
    samples
        Inputs to see the network run: batch norms that follow a layer are then folded into it. ``None`` to leave them.
    images_at_once
        So many images of a batch go through all layers before the next ones: maps of few images stay in the
        processor's caches, where those of a batch would come from memory layer after layer. Only for a network whose
        answer to an image depends on no other image, which `samples` have to show. ``None``: the whole batch.

    Raises
    ------
    InputError
        If a weight is not float32 or not on the CPU, or `images_at_once` is given without two samples, or to a network
        whose answers differ with it.
    """
    check_instance("model", model, nn.Module)
    check_instance("samples", samples, (Tensor, type(None)))
    if images_at_once is not None:
        check_integer("images_at_once", images_at_once, at_least=1)
        if samples is None or len(samples) < 2:
            count = None if samples is None else len(samples)
            raise InputError(f"samples must be two or more with images_at_once, got {count}")
    for name, parameter in model.named_parameters():
        if parameter.dtype != torch.float32 or parameter.device.type != "cpu":
            raise InputError(
                f"model must have float32 weights on the CPU, got {parameter.dtype} on {parameter.device} for {name!r}"
            )
    network = copy.deepcopy(model).eval()
    if samples is not None:
        given = samples

        def run(changed: nn.Module) -> Any:
            with torch.no_grad():
                return changed(given)

        fold_batch_norm(network, run)
    layers: list[PackedLayer] = []
    dense: dict[str, str] = {}
    for name, module in list(network.named_modules()):
        replacement = _packed(module)
        if isinstance(replacement, str):
            dense[name] = replacement
        elif replacement is not None:
            layers += _counted(name, replacement)
            parent, _, own = name.rpartition(".")
            if name:
                setattr(network.get_submodule(parent), own, replacement)
            else:
                network = replacement
    if images_at_once is not None and not _treats_apart(PackedNetwork(network, (), {}), samples):
        raise InputError(
            "images_at_once must be None for a network whose answer to an image depends on others, "
            f"got {images_at_once}"
        )
    return PackedNetwork(network, tuple(layers), dense, images_at_once)


def _treats_apart(network: PackedNetwork, samples: Any) -> bool:
    """Whether it answers to images of a batch as it does to each alone."""
    together = network(samples)
    if not isinstance(together, Tensor):
        return False
    alone = torch.cat([network(samples[number : number + 1]) for number in range(len(samples))])
    if alone.shape != together.shape:
        return False
    return float((alone - together).abs().max()) <= _ROUNDED * float(together.abs().max())
