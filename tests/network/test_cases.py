"""Models as users of other simulators write them: what a model does is what is mapped, and what is not is named."""

from __future__ import annotations

import types
import warnings
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils import parametrizations, parametrize, prune

import xbarsim as xb
from xbarsim.devices import Cell
from xbarsim.network import MappedNetwork, NotMappedWarning

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("error::xbarsim.network.lowering.skeleton.UnseenProductWarning"),
    pytest.mark.filterwarnings("ignore:.*deprecated"),
]

BITS = 12  # rounding of inputs and weights is then well below what any of the mistakes here would cost
TOLERANCE = 0.01

DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1e-4, levels=16, read_voltage=0.2),
    mapping=xb.Mapping(rows=64, columns=64, weight_bits=BITS, cell_bits=4),
    periphery=xb.Periphery(input_bits=BITS),
)


def noise(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def indices(*shape: int, below: int = 7) -> Tensor:
    return torch.randint(below, shape, generator=torch.Generator().manual_seed(0))


def seeded(make: Callable[[], nn.Module]) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(1)
        return make().eval()


def quietly_mapped(model: nn.Module, calibration: Any) -> MappedNetwork:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotMappedWarning)
        return xb.map_model(model, DESIGN, calibration=calibration)


def answer_of(model: Any, inputs: Any) -> Any:
    """The first tensor of what a model gives."""
    with torch.no_grad():
        if isinstance(inputs, dict):
            given = model(**inputs)
        else:
            given = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    if isinstance(given, dict):
        given = next(iter(given.values()))
    elif hasattr(given, "logits"):
        given = given.logits
    return given[0] if isinstance(given, tuple) else given


def distance(answer: Tensor, wanted: Tensor) -> float:
    assert answer.shape == wanted.shape
    return float((answer - wanted).norm() / wanted.norm())


def check(model: nn.Module, inputs: Any, mapped: str, digital: str = "") -> MappedNetwork:
    """Mapped and digital parts are those named, the numbers are the model's, and an ideal chip gives the same bits."""
    wanted = answer_of(model, inputs).float()
    state = {name: value.clone() for name, value in model.named_parameters()}
    network = quietly_mapped(model, inputs)
    after = dict(model.named_parameters())
    assert state.keys() == after.keys()
    assert all(torch.equal(state[name], after[name]) for name in state)
    assert " ".join(network.layers) == mapped
    assert " ".join(item.name for item in network.not_mapped) == digital
    ideal = answer_of(network.digital, inputs)
    assert distance(ideal, wanted) < TOLERANCE
    assert torch.equal(answer_of(network.fabricate(seed=0), inputs), ideal)
    return network


class Sign(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight.sign(), self.bias)


class Standardised(nn.Conv2d):
    def forward(self, x: Tensor) -> Tensor:
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        result: Tensor = self._conv_forward(x, weight / (weight.std((1, 2, 3), keepdim=True) + 1e-5), self.bias)
        return result


class Lora(nn.Linear):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs)
        self.down = nn.Parameter(noise(2, inputs, seed=2))
        self.up = nn.Parameter(noise(outputs, 2, seed=3))

    def forward(self, x: Tensor) -> Tensor:
        whole: Tensor = super().forward(x)
        return whole + (x @ self.down.T) @ self.up.T


class StraightThrough(torch.autograd.Function):
    @staticmethod
    def forward(context: Any, x: Tensor) -> Tensor:
        return x.sign()

    @staticmethod
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class Binary(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        binary: Any = StraightThrough
        return F.linear(binary.apply(x), binary.apply(self.weight), self.bias)


class Overwriting(nn.Linear):
    """Puts binary numbers into its parameter at each call, as some binary networks do."""

    def forward(self, x: Tensor) -> Tensor:
        self.weight.data = self.weight.data.sign()
        return F.linear(x, self.weight, self.bias)


def scaling_weights() -> nn.Module:
    """A pre-hook of one's own computes the weights."""
    layer = nn.Linear(12, 8)
    original = layer.weight
    del layer._parameters["weight"]
    layer.register_parameter("weight_original", nn.Parameter(original))

    def compute(module: Any, arguments: Any) -> None:
        module.weight = module.weight_original * 0.5

    layer.register_forward_pre_hook(compute)
    compute(layer, ())
    return nn.Sequential(layer)


def with_hook(kind: str) -> nn.Module:
    layer = nn.Linear(12, 8)
    if kind == "pre":
        layer.register_forward_pre_hook(lambda module, arguments: (3 * arguments[0],))
    elif kind == "after":
        layer.register_forward_hook(lambda module, arguments, output: output.relu() - 1)
    elif kind == "pre with keywords":
        layer.register_forward_pre_hook(lambda m, a, k: ((), {"input": 3 * a[0]}), with_kwargs=True)
    else:
        layer.register_forward_hook(lambda m, a, k, output: 2 * output, with_kwargs=True)
    return nn.Sequential(layer)


def patched(kind: str) -> nn.Module:
    layer = nn.Linear(12, 8)
    if kind == "closure":
        before = layer.forward
        layer.forward = lambda x: before(2 * x) - 1  # type: ignore[method-assign, assignment]
    elif kind == "closure over the layer":
        layer.forward = lambda x: F.linear(x, layer.weight.abs())  # type: ignore[method-assign, assignment]
    else:
        layer.forward = types.MethodType(lambda self, x: F.linear(x, 2 * self.weight), layer)  # type: ignore[method-assign]
    return nn.Sequential(layer)


def pruned(*, run: bool) -> nn.Module:
    model = nn.Sequential(nn.Linear(12, 8))
    prune.l1_unstructured(model[0], "weight", 0.5)  # type: ignore[no-untyped-call]
    if run:
        model(noise(4, 12))
    mask: Any = model[0].weight_mask
    mask.zero_()
    mask[:, :3] = 1  # as load_state_dict does
    return model


class Symmetric(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.triu() + x.triu(1).transpose(-1, -2)


def symmetric() -> nn.Module:
    layer = nn.Linear(12, 12)
    parametrize.register_parametrization(layer, "weight", Symmetric())
    return nn.Sequential(layer)


class Functional(nn.Module):
    """Weights used otherwise than by calling the module that holds them."""

    def __init__(self, call: Callable[[Any, Tensor], Tensor], *shape: int) -> None:
        super().__init__()
        self.f = nn.Linear(12, 8)
        self.c = nn.Conv2d(1, 4, 3)
        self.projection = nn.Parameter(noise(*(shape or (12, 8)), seed=4))
        self.call = call

    def forward(self, x: Tensor) -> Tensor:
        return self.call(self, x)


SCRIPTED = torch.jit.script(nn.Sequential(nn.Linear(8, 8), nn.ReLU()))


@torch.jit.script
def swish(x: Tensor) -> Tensor:
    return x * torch.sigmoid(x)


class Scripted(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(12, 8), nn.Linear(8, 6)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.g(swish(self.f(x)))
        return result


class Reads(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        assert x.shape[-1] == self.f.in_features
        result: Tensor = self.f(input=x.to(self.f.weight.dtype).to(self.f.bias.device))
        return result


class Plain(nn.Module):
    """Weights that are no parameters."""

    def __init__(self, *, buffer: bool) -> None:
        super().__init__()
        self.weight: Tensor
        if buffer:
            self.register_buffer("weight", noise(8, 12, seed=5))
        else:
            self.weight = noise(8, 12, seed=5)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Calls(nn.Module):
    """Anything with two layers, called in a way of one's own."""

    def __init__(self, call: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(12, 8), nn.Linear(12, 8)
        self.call = call

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def compiled(module: nn.Module) -> nn.Module:
    made: Any = torch.compile(module, backend="eager")
    assert isinstance(made, nn.Module)
    return made


def flat() -> nn.Module:
    """All parameters in one vector, as `vector_to_parameters` leaves them."""
    model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 8))
    vector = nn.utils.parameters_to_vector(model.parameters()).detach().clone()
    nn.utils.vector_to_parameters(vector, model.parameters())
    return model


def tied() -> nn.Module:
    model: Any = nn.Sequential(OrderedDict(a=nn.Linear(12, 12), b=nn.Linear(12, 12)))
    model.b.weight = model.a.weight
    made: nn.Module = model
    return made


VECTORS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "sign-binarised": (lambda: nn.Sequential(Sign(12, 8)), "0", ""),
    "low-rank adapters": (lambda: nn.Sequential(Lora(12, 8)), "0 0.down 0.up", ""),
    "straight-through binary": (lambda: nn.Sequential(Binary(12, 8)), "0", ""),
    "parameters that are overwritten": (lambda: nn.Sequential(Overwriting(12, 8)), "0", ""),
    "a pre-hook that computes weights": (scaling_weights, "0", ""),
    "a pre-hook": (lambda: with_hook("pre"), "0", ""),
    "a hook": (lambda: with_hook("after"), "0", ""),
    "a pre-hook with keywords": (lambda: with_hook("pre with keywords"), "0", ""),
    "a hook with keywords": (lambda: with_hook("after with keywords"), "0", ""),
    "a closure for a forward": (lambda: patched("closure"), "0", ""),
    "a closure over the layer": (lambda: patched("closure over the layer"), "0", "0"),
    "a method for a forward": (lambda: patched("method"), "0", "0"),
    "spectral norm": (lambda: nn.Sequential(nn.utils.spectral_norm(nn.Linear(12, 8))), "0", ""),
    "spectral norm, new": (lambda: nn.Sequential(parametrizations.spectral_norm(nn.Linear(12, 8))), "0", ""),
    "weight norm": (lambda: nn.Sequential(nn.utils.weight_norm(nn.Linear(12, 8))), "0", ""),
    "weight norm, new": (lambda: nn.Sequential(parametrizations.weight_norm(nn.Linear(12, 8))), "0", ""),
    "pruned": (lambda: pruned(run=False), "0", ""),
    "pruned and run": (lambda: pruned(run=True), "0", ""),
    "a parametrisation of one's own": (symmetric, "0", ""),
    "linear with a layer's weight": (lambda: Functional(lambda m, x: F.linear(x, m.f.weight)), "f", "(model) f c"),
    "x @ projection": (lambda: Functional(lambda m, x: x @ m.projection), "projection", "f c"),
    "projection @ x": (lambda: Functional(lambda m, x: (m.projection @ x.T).T, 8, 12), "projection", "f c"),
    "matmul": (lambda: Functional(lambda m, x: torch.matmul(x, other=m.projection)), "projection", "f c"),
    "linalg.matmul": (lambda: Functional(lambda m, x: torch.linalg.matmul(x, m.projection)), "projection", "f c"),
    "a vector of weights": (lambda: Functional(lambda m, x: x @ m.projection, 12), "projection", "f c"),
    "addmm": (lambda: Functional(lambda m, x: torch.addmm(m.f.bias, x, m.projection)), "projection", "f c"),
    "addmm, scaled": (
        lambda: Functional(lambda m, x: m.f(x) + torch.addmm(m.f.bias, x, m.projection, beta=2)),
        "f",
        "(model) c",
    ),
    "a product into a given tensor": (
        lambda: Functional(lambda m, x: m.f(x) + torch.mm(x, m.projection, out=torch.empty(len(x), 8))),
        "f",
        "(model) c",
    ),
    "einsum": (lambda: Functional(lambda m, x: torch.einsum("bi,io->bo", x, m.projection)), "projection", "f c"),
    "einsum, heads": (
        lambda: Functional(lambda m, x: torch.einsum("hdi, bi -> bhd", m.projection, x), 2, 3, 12),
        "projection",
        "f c",
    ),
    "einsum with dots": (
        lambda: Functional(lambda m, x: m.f(x) + torch.einsum("...i,io->...o", x, m.projection)),
        "f",
        "(model) c",
    ),
    "tensordot": (
        lambda: Functional(lambda m, x: m.f(x) + torch.tensordot(x, m.projection, 1)),
        "f",
        "(model) c",
    ),
    "inner": (lambda: Functional(lambda m, x: torch.inner(x, m.projection), 8, 12), "projection", "f c"),
    "bmm": (
        lambda: Functional(lambda m, x: m.f(x) + torch.bmm(x[:, None], m.projection.expand(len(x), -1, -1))[:, 0]),
        "f",
        "(model) c",
    ),
    "baddbmm": (
        lambda: Functional(
            lambda m, x: torch.baddbmm(m.f(x)[:, None], x[:, None], m.projection.expand(len(x), -1, -1))[:, 0]
        ),
        "f",
        "(model) c",
    ),
    "conv2d with a layer's weight": (
        lambda: Functional(lambda m, x: F.conv2d(x.reshape(-1, 1, 3, 4), m.c.weight, stride=1)),
        "c",
        "(model) f c",
    ),
    "keyword calls and reads": (Reads, "f", ""),
    "a plain tensor": (lambda: Plain(buffer=False), "(model)", ""),
    "a buffer": (lambda: Plain(buffer=True), "(model)", ""),
    "weights cast in forward": (
        lambda: Functional(lambda m, x: F.linear(x.float(), m.f.weight.float(), m.f.bias.float())),
        "f",
        "(model) c",
    ),
    "weights in bfloat16": (
        lambda: Functional(lambda m, x: m.f(x) + F.linear(x.bfloat16(), m.projection.T.bfloat16()).float()),
        "f (model)",
        "c",
    ),
    "weights sliced in forward": (
        lambda: Functional(lambda m, x: x[:, :6] @ m.projection[:6, 2:] + x[:, 6:] @ m.projection[6:, 2:]),
        "projection projection.2",
        "f c",
    ),
    "sparse weights": (
        lambda: Functional(lambda m, x: m.f(x) + (m.projection.T.to_sparse() @ x.T).T),
        "f",
        "(model) c",
    ),
    "a scripted activation": (Scripted, "f g", ""),
    "a scripted submodule": (lambda: nn.Sequential(nn.Linear(12, 8), SCRIPTED), "0", "1.0"),
    "parameters in one vector": (flat, "0 2 4", ""),
    "DataParallel": (lambda: nn.DataParallel(nn.Sequential(nn.Linear(12, 8))), "0", ""),
    "DataParallel inside": (lambda: nn.Sequential(nn.DataParallel(nn.Linear(12, 8))), "0", ""),
    "compiled": (lambda: compiled(nn.Sequential(nn.Linear(12, 8))), "0", ""),
    "compiled inside": (lambda: nn.Sequential(compiled(nn.Linear(12, 8))), "0", ""),
    "half": (lambda: nn.Sequential(nn.Linear(12, 8)).half(), "0", ""),
    "bfloat16": (lambda: nn.Sequential(nn.Linear(12, 8)).bfloat16(), "0", ""),
    "double": (lambda: nn.Sequential(nn.Linear(12, 8)).double(), "0", ""),
    "inputs that are written into": (
        lambda: nn.Sequential(nn.ReLU(inplace=True), nn.Linear(12, 8), nn.ReLU(inplace=True)),
        "1",
        "",
    ),
    "activations through NumPy": (
        lambda: Calls(lambda m, x: m.g(torch.from_numpy(torch.cat([m.f(x), x[:, :4]], 1).numpy() ** 2))),
        "f g",
        "",
    ),
    "views that are written into": (
        lambda: Calls(lambda m, x: m.g(written(m.f(x)))),
        "f g",
        "",
    ),
    "a parameter for an input": (
        lambda: Calls(lambda m, x: m.f(x) + m.g(2 * m.f.weight).mean(0)),
        "f",
        "g",
    ),
    "a vectorised call": (
        lambda: Calls(lambda m, x: m.g(x) + torch.vmap(lambda row: m.f(row))(x)),
        "g",
        "f",
    ),
    "parameters of another call": (
        lambda: Calls(
            lambda m, x: torch.func.functional_call(m.f, {k: 2 * v for k, v in m.f.named_parameters()}, (x,))
        ),
        "f",
        "g",
    ),
    "weights that depend on the input": (
        lambda: Calls(lambda m, x: F.linear(m.f(x), m.g(x[:8]))),
        "f g",
        "",
    ),
    "weights that depend on the input, unseen": (
        lambda: Calls(lambda m, x: F.linear(m.f(x), torch.from_numpy(m.g(x[:8]).numpy().copy()))),
        "f g",
        "",
    ),
    "experts": (
        lambda: Calls(lambda m, x: torch.zeros(len(x), 8).index_add(0, torch.arange(2), m.f(x[:2])) + m.g(x)),
        "f g",
        "",
    ),
    "tied weights with another bias": (tied, "a b", ""),
    "packed weights": (
        lambda: torch.ao.quantization.quantize_dynamic(  # type: ignore[no-untyped-call]
            nn.Sequential(nn.Linear(12, 8), nn.Linear(8, 8)), {"0": torch.ao.quantization.default_dynamic_qconfig}
        ),
        "1",
        "0",
    ),
    "a dead layer": (
        lambda: Calls(lambda m, x: m.f(x) + m.g(torch.zeros_like(x))),
        "f",
        "g",
    ),
}


def written(x: Tensor) -> Tensor:
    whole = torch.zeros(len(x), 12)
    part = whole[:, 2:10]
    part.copy_(x)
    return whole


@pytest.mark.parametrize("name", VECTORS)
def test_what_a_model_does_is_what_is_mapped(name: str) -> None:
    make, mapped, digital = VECTORS[name]
    model = seeded(make)
    inputs = noise(24, 12)
    first = next((p for p in model.parameters()), inputs)
    if first.dtype != torch.float32:
        exact = seeded(make).float()
        network = check(exact, inputs, mapped, digital)
        again = quietly_mapped(model, inputs.to(first.dtype))
        assert distance(answer_of(again.digital, inputs), answer_of(network.digital, inputs)) < TOLERANCE
        return
    check(model, inputs, mapped.replace("(model)", ""), digital)
