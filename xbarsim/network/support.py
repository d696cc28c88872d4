"""What becomes of each of torch's own types of layer: found by mapping an instance of every one."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from xbarsim.design import Design, Periphery
from xbarsim.devices import Cell
from xbarsim.foundation.entrances import check_fields, entrance
from xbarsim.foundation.validation import InputError, check_choice
from xbarsim.mapping import Mapping
from xbarsim.network.lowering import lowering_of
from xbarsim.network.mapped import MappedNetwork, NotMappedWarning
from xbarsim.network.pipeline import map_model

__all__ = ["LayerSupport", "Status", "layer_page", "layer_support", "layer_types", "support_of", "try_layer"]

Status = Literal["mapped", "lowered", "folded", "digital and named", "digital", "refused", "container", "loss", "base"]
"""What becomes of a type of layer; see :class:`LayerSupport`."""

_MEANING: dict[str, str] = {
    "mapped": "its products with weights are on crossbars, as it calls them",
    "lowered": "taken apart first; then its products with weights are on crossbars",
    "folded": "goes into the weights of a layer directly before it; elsewhere it stays digital and is named",
    "digital and named": "holds weights that are on no crossbar; counted, and named with the reason",
    "digital": "holds no weights; counted",
    "refused": "one clear error",
    "container": "holds other modules, which are treated as what they are",
    "loss": "for training; without weights, digital and counted if a model calls it",
    "base": "a base class, which computes nothing",
}

_SAMPLES = 4


@dataclass(frozen=True, kw_only=True)
class LayerSupport:
    """What becomes of one type of layer.

    Attributes
    ----------
    name
        Of the type in ``torch.nn``.
    status
        ``"mapped"``: its products are on crossbars; ``"lowered"``: it is taken apart first; ``"folded"``: it goes into
        a layer before it; ``"digital and named"``: it holds weights and stays digital; ``"digital"``: it holds none;
        ``"refused"``; or a ``"container"``, a ``"loss"`` or a ``"base"`` class.
    products
        How many products the instance that was tried has.
    remark
        What of it stays digital, or why it does or is refused.
    """

    name: str
    status: Status
    products: int = 0
    remark: str = ""

    def __post_init__(self) -> None:
        check_fields(self)


Recipe = tuple[Callable[[], nn.Module], tuple[Tensor, ...]]


def _noise(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(len(shape)))


def _whole(*shape: int, below: int = 5) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(0))


_FLAT, _SEQUENCE = _noise(_SAMPLES, 6), _noise(_SAMPLES, 6, 8)
_MAPS, _VOLUMES = _noise(_SAMPLES, 4, 8, 8), _noise(_SAMPLES, 2, 4, 4, 4)
_OF = {"1d": _noise(_SAMPLES, 4, 8), "2d": _MAPS, "3d": _VOLUMES}
_PLACES = {1: _whole(_SAMPLES, 4, 4, below=2), 2: _whole(_SAMPLES, 4, 4, 4, below=2), 3: _whole(4, 2, 2, 2, 2, below=2)}


_STATE = _noise(_SAMPLES, 4)


class _WithStates(nn.Module):
    """A cell that takes its states as a pair."""

    def __init__(self, cell: nn.Module) -> None:
        super().__init__()
        self.cell = cell

    def forward(self, inputs: Tensor, *states: Tensor) -> Any:
        return self.cell(inputs, states)


_OF_VALUES = (
    "AlphaDropout CELU Dropout Dropout1d ELU FeatureAlphaDropout Flatten GELU GLU Hardshrink Hardsigmoid Hardswish "
    "Hardtanh Identity LeakyReLU LogSigmoid LogSoftmax Mish PReLU RReLU ReLU ReLU6 SELU SiLU Sigmoid Softmax Softmin "
    "Softplus Softshrink Softsign Tanh Tanhshrink"
)


def _behind_a_convolution(kind: str, channels: int) -> nn.Module:
    return nn.Sequential(getattr(nn, "Conv" + kind)(channels, 4, 3), getattr(nn, "BatchNorm" + kind)(4))


def _recipes() -> dict[str, Recipe]:
    recipes: dict[str, Recipe] = {}
    named: Any = nn
    for name in _OF_VALUES.split():
        keywords = {"dim": -1} if name in ("Softmax", "Softmin", "LogSoftmax") else {}
        recipes[name] = (partial(getattr(nn, name), **keywords), (_SEQUENCE,))
    for kind, inputs in _OF.items():
        channels = inputs.shape[1]
        for name, arguments in {
            "AdaptiveAvgPool": (2,),
            "AdaptiveMaxPool": (2,),
            "AvgPool": (2,),
            "MaxPool": (2,),
            "LPPool": (2, 2),
            "CircularPad": (1,),
            "ConstantPad": (1, 0.5),
            "ReflectionPad": (1,),
            "ReplicationPad": (1,),
            "ZeroPad": (1,),
            "Dropout": (),
            "InstanceNorm": (channels, 1e-5, 0.1, True),
            "Conv": (channels, 4, 3),
            "ConvTranspose": (channels, 4, 3),
            "LazyConv": (4, 3),
            "LazyConvTranspose": (4, 3),
            "LazyBatchNorm": (),
            "LazyInstanceNorm": (),
        }.items():
            recipes[name + kind] = (partial(getattr(nn, name + kind), *arguments), (inputs,))
        recipes["BatchNorm" + kind] = (partial(_behind_a_convolution, kind, channels), (inputs,))
    for dimensions, places in _PLACES.items():
        name = f"MaxUnpool{dimensions}d"
        recipes[name] = (partial(getattr(nn, name), 2), (places.float() + 0.5, places))
    recipes |= {
        "Linear": (lambda: nn.Linear(6, 4), (_FLAT,)),
        "LazyLinear": (lambda: nn.LazyLinear(4), (_FLAT,)),
        "Bilinear": (lambda: nn.Bilinear(6, 6, 4), (_FLAT, _FLAT.flip(0))),
        "CosineSimilarity": (lambda: nn.CosineSimilarity(), (_FLAT, _FLAT.flip(0))),
        "PairwiseDistance": (lambda: nn.PairwiseDistance(), (_FLAT, _FLAT.flip(0))),
        "Threshold": (lambda: nn.Threshold(0.1, 0.2), (_FLAT,)),
        "Unflatten": (lambda: nn.Unflatten(1, (2, 3)), (_FLAT,)),
        "LayerNorm": (lambda: nn.LayerNorm(8), (_SEQUENCE,)),
        "RMSNorm": (lambda: nn.RMSNorm(8), (_SEQUENCE,)),
        "GroupNorm": (lambda: nn.GroupNorm(2, 4), (_MAPS,)),
        "SyncBatchNorm": (lambda: nn.SyncBatchNorm(4), (_MAPS,)),
        "LocalResponseNorm": (lambda: nn.LocalResponseNorm(2), (_MAPS,)),
        "CrossMapLRN2d": (lambda: named.CrossMapLRN2d(2), (_MAPS,)),
        "ChannelShuffle": (lambda: nn.ChannelShuffle(2), (_MAPS,)),
        "PixelShuffle": (lambda: nn.PixelShuffle(2), (_MAPS,)),
        "PixelUnshuffle": (lambda: nn.PixelUnshuffle(2), (_MAPS,)),
        "Softmax2d": (lambda: nn.Softmax2d(), (_MAPS,)),
        "Unfold": (lambda: nn.Unfold(3), (_MAPS,)),
        "Fold": (lambda: nn.Fold((4, 4), 2), (_noise(_SAMPLES, 8, 9),)),
        "Upsample": (lambda: nn.Upsample(scale_factor=2), (_MAPS,)),
        "UpsamplingBilinear2d": (lambda: nn.UpsamplingBilinear2d(scale_factor=2), (_MAPS,)),
        "UpsamplingNearest2d": (lambda: nn.UpsamplingNearest2d(scale_factor=2), (_MAPS,)),
        "FractionalMaxPool2d": (lambda: nn.FractionalMaxPool2d(2, output_size=3), (_MAPS,)),
        "FractionalMaxPool3d": (lambda: nn.FractionalMaxPool3d(2, output_size=2), (_VOLUMES,)),
        "Embedding": (lambda: nn.Embedding(5, 6), (_whole(_SAMPLES, 3),)),
        "EmbeddingBag": (lambda: nn.EmbeddingBag(5, 6), (_whole(_SAMPLES, 3),)),
        "RNN": (lambda: nn.RNN(8, 4, batch_first=True), (_SEQUENCE,)),
        "LSTM": (lambda: nn.LSTM(8, 4, batch_first=True), (_SEQUENCE,)),
        "GRU": (lambda: nn.GRU(8, 4, batch_first=True), (_SEQUENCE,)),
        "RNNCell": (lambda: nn.RNNCell(6, 4), (_FLAT, _STATE)),
        "LSTMCell": (lambda: _WithStates(nn.LSTMCell(6, 4)), (_FLAT, _STATE, _STATE.flip(0))),
        "GRUCell": (lambda: nn.GRUCell(6, 4), (_FLAT, _STATE)),
        "MultiheadAttention": (lambda: nn.MultiheadAttention(8, 2, batch_first=True), (_SEQUENCE,) * 3),
        "TransformerEncoderLayer": (lambda: nn.TransformerEncoderLayer(8, 2, 6, batch_first=True), (_SEQUENCE,)),
        "TransformerDecoderLayer": (lambda: nn.TransformerDecoderLayer(8, 2, 6, batch_first=True), (_SEQUENCE,) * 2),
        "TransformerEncoder": (
            lambda: nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 6, batch_first=True), 1),
            (_SEQUENCE,),
        ),
        "TransformerDecoder": (
            lambda: nn.TransformerDecoder(nn.TransformerDecoderLayer(8, 2, 6, batch_first=True), 1),
            (_SEQUENCE,) * 2,
        ),
        "Transformer": (lambda: nn.Transformer(8, 2, 1, 1, 6, batch_first=True), (_SEQUENCE,) * 2),
        "AdaptiveLogSoftmaxWithLoss": (
            lambda: nn.AdaptiveLogSoftmaxWithLoss(6, 5, [2]),
            (_FLAT, torch.arange(_SAMPLES)),
        ),
        "LinearCrossEntropyLoss": (
            lambda: named.LinearCrossEntropyLoss(6, 5),
            (_FLAT, torch.arange(_SAMPLES)),
        ),
    }
    return recipes


_CONTAINERS = ("DataParallel", "ModuleDict", "ModuleList", "ParameterDict", "ParameterList", "Sequential")
_BASES = ("Container", "Module", "RNNBase", "RNNCellBase")


def layer_types() -> dict[str, type[nn.Module]]:
    """All public types of module in the installed ``torch.nn``, by name."""
    kinds = {name: getattr(nn, name) for name in dir(nn) if not name.startswith("_")}
    return {name: kind for name, kind in sorted(kinds.items()) if inspect.isclass(kind) and issubclass(kind, nn.Module)}


class _Host(nn.Module):
    """A layer beside a plain one, so that there is always something to map."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        self.layer, self.plain = layer, nn.Linear(3, 2)

    def forward(self, probe: Tensor, *inputs: Tensor) -> tuple[Tensor, ...]:
        answers = [each for each in tree_leaves(self.layer(*inputs)) if isinstance(each, Tensor)]
        return (self.plain(probe), *answers)


class _HostOfOne(_Host):
    """The same for one input: torch can trace it."""

    def forward(self, probe: Tensor, inputs: Tensor) -> tuple[Tensor, ...]:  # type: ignore[override]
        return self.plain(probe), self.layer(inputs)


def _host(name: str) -> tuple[_Host, tuple[Tensor, ...]]:
    make, inputs = _recipes()[name]
    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what torch says of odd settings
        host = (_HostOfOne if name.startswith("BatchNorm") else _Host)(make()).eval()
        generator = torch.Generator().manual_seed(0)
        for parameter in host.parameters():
            if not nn.parameter.is_lazy(parameter):
                nn.init.uniform_(parameter, -0.5, 0.5, generator=generator)
        for norm in host.modules():  # statistics that tell it from an identity
            variance = getattr(norm, "running_var", None)
            if isinstance(variance, Tensor) and not nn.parameter.is_lazy(variance):
                nn.init.uniform_(variance, 0.5, 2.0, generator=generator)
    return host, (_noise(_SAMPLES, 3), *inputs)


def try_layer(name: str, *, bits: int = 15) -> tuple[nn.Module, tuple[Tensor, ...], MappedNetwork]:
    """Map an instance of a type of layer, with exact reads.

    Parameters
    ----------
    name
        Of the type in ``torch.nn``.
    bits
        Of weights and inputs.

    Returns
    -------
    Module, tuple, MappedNetwork
        The model that the layer stands in, as ``layer``, its inputs, and the mapped network.

    Raises
    ------
    InputError
        If it cannot be mapped, or there is no recipe to make one.
    """
    if name not in _recipes():
        raise InputError(f"name must be a type of layer that can be tried, got {name!r}")
    host, inputs = _host(name)
    design = Design(
        cell=Cell(g_min=1e-6, g_max=1.6e-5, levels=16),
        mapping=Mapping(rows=32, columns=32, weight_bits=bits),
        periphery=Periphery(input_bits=bits),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMappedWarning)
        return host, inputs, map_model(host, design, calibration=inputs)


@entrance
def support_of(name: str) -> LayerSupport:
    """What becomes of one type of module of ``torch.nn``.

    Raises
    ------
    InputError
        If there is none of that name.
    """
    kind = layer_types()[check_choice("name", name, layer_types())]
    if name in _CONTAINERS:
        return LayerSupport(name=name, status="container")
    if name in _BASES:
        return LayerSupport(name=name, status="base")
    if name not in _recipes() and issubclass(kind, nn.modules.loss._Loss):
        return LayerSupport(name=name, status="loss")
    try:
        host, _, network = try_layer(name)
    except InputError as error:
        return LayerSupport(name=name, status="refused", remark=str(error))
    layer = host.get_submodule("layer")
    products = sum(each != "plain" for each in network.layers)
    left = [item for item in network.not_mapped if item.name.startswith("layer")]
    remark = "; ".join(dict.fromkeys(f"{item.kind}: {item.reason}" for item in left))
    lowered = any(lowering_of(module) is not None for module in layer.modules())
    status: Status
    if any("batch norms folded" in note for note in network.notes):
        status = "folded"
    elif products:
        status = "lowered" if lowered else "mapped"
    elif next(layer.parameters(), None) is None:
        status = "digital"
    else:
        status = "digital and named"
    return LayerSupport(name=name, status=status, products=products, remark=remark)


def layer_support() -> tuple[LayerSupport, ...]:
    """What becomes of every public type of module in the installed ``torch.nn``, found by mapping one of each."""
    return tuple(map(support_of, layer_types()))


@entrance
def layer_page(support: Sequence[LayerSupport] | None = None) -> str:
    """The list as a page of the documentation, in Markdown; found anew where it is not given."""
    support = layer_support() if support is None else support
    lines = [
        "# Torch's own layers",
        "",
        "What becomes of each public type of module in `torch.nn` when a model is mapped. Found by mapping one of",
        "each, and written by",
        "",
        "```bash",
        'python -c "from xbarsim.network import layer_page; print(layer_page(), end=str())" > docs/layers.md',
        "```",
        "",
        "A test checks that this page is what the code does, and that every type that is mapped, lowered or folded is,",
        "on an ideal chip, the quantised digital network bit for bit. `xbarsim info layers` prints the list.",
        "",
        *(f"- **{status}**: {meaning}." for status, meaning in _MEANING.items()),
        "",
        "Types of your own need no entry here: products are seen as a model calls them, whatever module they stand in.",
        "",
        "| `torch.nn` | becomes | products | remark |",
        "|---|---|---|---|",
        *(f"| {each.name} | {each.status} | {each.products or ''} | {each.remark} |" for each in support),
    ]
    return "\n".join(line.rstrip() for line in lines) + "\n"
