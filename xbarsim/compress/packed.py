"""A pruned network that computes without its zeros, in float32 on the CPU: what block-column-row pruning saves there.

The weights of a layer are cut into groups of outputs, each of which fetches only the inputs that it has weights for
and multiplies them in one dense product (as compilers for pruned networks do: W. Niu et al., GRIM, 2021,
doi:10.48550/arXiv.2108.11033). Where every group keeps an eighth of the inputs, an eighth of the products is left.
Convolutions fetch nothing: their sums run over lists of offsets into feature maps with 16 images side by side, as those
of dies do (:class:`xbarsim.engine.PlainProgram`), and maps stay so from layer to layer.
"""

from __future__ import annotations

import copy
import math
import threading
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from xbarsim.compress.layers import gemm_view
from xbarsim.engine import BlockedMaps, PlainProgram, Window
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import InputError, check_instance
from xbarsim.mapping import PACKINGS
from xbarsim.network.lowering import BlockedTensor, fold_batch_norm, unblocked

__all__ = ["PackedLayer", "PackedNetwork", "pack_network"]

_GROUPS = (16, 32, 64, 128)  # outputs that may share their inputs
_FETCH = 8  # products that take as long as fetching an input does
_COLUMNS = 2048  # vectors multiplied at a time: what is fetched should stay in the cache
_FEW = 512  # vectors so few that all groups are multiplied in one batch


_local = threading.local()


def _workspace(name: str, shape: tuple[int, ...]) -> Tensor:
    """Scratch memory of the calling thread, kept between calls: fresh memory costs a page fault every 4 KiB."""
    buffers: dict[str, Tensor] = _local.__dict__.setdefault("buffers", {})
    size = math.prod(shape)
    if name not in buffers or buffers[name].numel() < size:
        buffers[name] = torch.empty(size)
    return buffers[name][:size].view(shape)


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
        cuts = [blocks(nonzero.T, self.inputs, group) for group in (*_GROUPS, self.outputs)]
        best = min(cuts, key=_work)
        self.computed = sum(len(rows) * len(outputs) for rows, outputs in best)
        self.saves = _work(best) < self.outputs * self.inputs
        if not self.saves:  # as one dense product
            best = [(np.arange(self.inputs, dtype=np.int32), np.arange(self.outputs, dtype=np.int32))]
            self.computed = self.outputs * self.inputs
        self.bias = torch.zeros(self.outputs) if bias is None else bias.detach().clone()
        self.parts: list[tuple[Tensor, Tensor, Tensor, slice | None]] = []
        for rows, outputs in best:
            fetched, given = torch.from_numpy(rows).long(), torch.from_numpy(outputs).long()
            neighbours = int(given[-1]) - int(given[0]) + 1 == len(given)
            place = slice(int(given[0]), int(given[-1]) + 1) if neighbours else None
            weights = torch.cat([self.bias[given][:, None], matrix[given][:, fetched]], dim=1)  # biases: inputs of 1
            self.parts.append((fetched, given, weights, place))
        self.most = 1 + max((len(fetched) for fetched, _, _, _ in self.parts), default=0)
        self.whole = sum(len(given) for _, given, _, _ in self.parts) == self.outputs
        self._stack()

    def _stack(self) -> None:
        """All groups as one batch, filled up with zeros to the largest."""
        most_rows = max((len(fetched) for fetched, _, _, _ in self.parts), default=0)
        most = max((len(given) for _, given, _, _ in self.parts), default=0)
        self.stacked = torch.zeros(len(self.parts), most, most_rows)
        self.fetched = torch.zeros(len(self.parts), most_rows, dtype=torch.int64)
        self.places = torch.full((self.outputs,), -1, dtype=torch.int64)
        for number, (fetched, given, weights, _) in enumerate(self.parts):
            self.stacked[number, : len(given), : len(fetched)] = weights[:, 1:]
            self.fetched[number, : len(fetched)] = fetched
            self.places[given] = number * most + torch.arange(len(given))
        self.in_order = torch.equal(self.places, torch.arange(self.outputs))

    def _fill(self, inputs: Tensor, result: Tensor) -> None:
        """Fill results (outputs, vectors) of a few inputs (inputs, vectors)."""
        held = _workspace("held", (self.most, result.shape[1]))
        held[0] = 1.0
        if not self.whole:
            result.copy_(self.bias[:, None].expand_as(result))
        for fetched, given, weights, place in self.parts:
            chosen = held[: 1 + len(fetched)]
            torch.index_select(inputs, 0, fetched, out=chosen[1:])
            if place is None:
                result.index_copy_(0, given, weights @ chosen)
            else:
                torch.mm(weights, chosen, out=result[place])

    def forward(self, inputs: Tensor) -> Tensor:
        """Results (outputs, vectors) of inputs (inputs, vectors)."""
        vectors = inputs.shape[1]
        if vectors >= _FEW or not self.parts:
            result = inputs.new_empty(self.outputs, vectors)
            for first in range(0, vectors, _COLUMNS):
                part = slice(first, first + _COLUMNS)
                self._fill(inputs[:, part], result[:, part])
            return result
        if len(self.parts) == 1 and len(self.parts[0][0]) == self.inputs:
            sums = self.stacked[0] @ inputs
        else:
            held = inputs.index_select(0, self.fetched.reshape(-1)).reshape(*self.fetched.shape, vectors)
            sums = torch.bmm(self.stacked, held).reshape(-1, vectors)
        if self.in_order:
            return torch.add(sums[: self.outputs], self.bias[:, None])
        sums = torch.where((self.places >= 0)[:, None], sums.index_select(0, self.places.clamp(min=0)), 0.0)
        return sums.add_(self.bias[:, None])


def _work(cut: list[tuple[Any, Any]]) -> int:
    return sum(len(rows) * (len(outputs) + _FETCH) for rows, outputs in cut)


class PackedLinear(nn.Module):
    """In the place of a ``Linear``."""

    def __init__(self, layer: nn.Linear) -> None:
        super().__init__()
        self.matrix = PackedMatrix(layer.weight.detach(), layer.bias)

    def forward(self, inputs: Tensor) -> Tensor:
        """As a ``Linear``."""
        vectors = inputs.reshape(-1, inputs.shape[-1])
        result: Tensor = self.matrix(vectors.T.contiguous())
        return result.T.reshape(*inputs.shape[:-1], self.matrix.outputs)


class PackedConv2d(nn.Module):
    """In the place of a ``Conv2d``; maps stay in blocks of 16 images to the next one."""

    def __init__(self, layer: nn.Conv2d) -> None:
        super().__init__()
        self.matrix = PackedMatrix(gemm_view(layer.weight.detach()), layer.bias)
        groups = [
            (fetched.numpy(), given.numpy(), weights[:, 1:].T.numpy())
            for fetched, given, weights, _ in self.matrix.parts
        ]
        self.program = PlainProgram(groups, self.matrix.inputs, self.matrix.outputs, self.matrix.bias.numpy())
        assert not isinstance(layer.padding, str)
        (top, left), kernel = layer.padding, layer.kernel_size
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
        return BlockedTensor(self.program.convolve(maps, self.window))


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
            If it is given a packed sequence, a single one, or a state.
        """
        if not isinstance(sequences, Tensor) or sequences.ndim != 3 or state is not None:
            raise InputError("a packed recurrent layer must be given sequences of three dimensions and no state")
        ahead = (
            sequences.permute(1, 2, 0) if self.batch_first else sequences.permute(0, 2, 1)
        )  # (steps, features, samples)
        lasts: list[tuple[Tensor, ...]] = []
        for number in range(0, len(self.matrices), 2 * self.directions):
            outputs = []
            for direction in range(self.directions):
                ih, hh = self.matrices[number + 2 * direction], self.matrices[number + 2 * direction + 1]
                shown, last = self._run(ih, hh, ahead, backwards=direction == 1)
                outputs.append(shown)
                lasts.append(last)
            ahead = torch.cat(outputs, dim=1)
        result = ahead.permute(2, 0, 1) if self.batch_first else ahead.permute(0, 2, 1)
        ends = [torch.stack([last[which].T for last in lasts]) for which in range(1 + self.is_lstm)]
        return result.contiguous(), tuple(ends) if self.is_lstm else ends[0]

    def _run(
        self, ih: nn.Module, hh: nn.Module, ahead: Tensor, *, backwards: bool
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        steps, features, samples = ahead.shape
        given = ih(ahead.permute(1, 0, 2).reshape(features, steps * samples)).reshape(-1, steps, samples)
        hidden = ahead.new_zeros(self.hidden, samples)
        cell = hidden
        outputs = ahead.new_empty(steps, self.hidden, samples)
        for step in reversed(range(steps)) if backwards else range(steps):
            sums = hh(hidden)
            if self.is_lstm:
                i, f, g, o = (sums + given[:, step]).chunk(4)
                cell = torch.sigmoid(f) * cell + torch.sigmoid(i) * torch.tanh(g)
                hidden = torch.sigmoid(o) * torch.tanh(cell)
            else:
                both = torch.sigmoid(given[: 2 * self.hidden, step] + sums[: 2 * self.hidden])
                reset, update = both.chunk(2)
                new = torch.tanh(given[2 * self.hidden :, step] + reset * sums[2 * self.hidden :])
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
    """

    def __init__(self, network: nn.Module, layers: tuple[PackedLayer, ...], dense: dict[str, str]) -> None:
        super().__init__()
        self.network, self.layers, self.dense = network, layers, dense

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        """As the network, without gradients."""
        return unblocked(self.network(*inputs))

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
            kept=int(torch.count_nonzero(matrix.stacked)),
            computed=matrix.computed,
        )
        for title, matrix in matrices.items()
    ]


@entrance
def pack_network(model: nn.Module, *, samples: Tensor | None = None) -> PackedNetwork:
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

    Raises
    ------
    InputError
        If a weight is not float32, or not on the CPU.
    """
    check_instance("model", model, nn.Module)
    check_instance("samples", samples, (Tensor, type(None)))
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
    return PackedNetwork(network, tuple(layers), dense)
