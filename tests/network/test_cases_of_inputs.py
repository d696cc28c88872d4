"""Inputs, outputs, branches and memory of models as users have them: they work, or there is one clear error."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset, IterableDataset, TensorDataset

import xbarsim as xb
from tests.network.test_cases import (
    DESIGN,
    TOLERANCE,
    Calls,
    Standardised,
    answer_of,
    check,
    distance,
    indices,
    noise,
    quietly_mapped,
    seeded,
)
from xbarsim.devices import Cell, StuckFaults, ThermalNoise
from xbarsim.foundation.validation import InputError
from xbarsim.network import NotMappedWarning
from xbarsim.network.lowering.skeleton import UnseenProductWarning

pytestmark = pytest.mark.usefixtures("one_thread")


class FusedConvolution(nn.Conv2d):
    """Quantisation-aware: the batch norm's scale goes into the weights, which are rounded, and is taken out again."""

    def __init__(self) -> None:
        super().__init__(2, 4, 3, padding=1, bias=False)
        self.bn: Any = nn.BatchNorm2d(4)
        nn.init.uniform_(self.bn.running_var, 0.5, 2.0)  # type: ignore[arg-type]
        nn.init.normal_(self.bn.running_mean)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        scale = self.bn.weight / torch.sqrt(self.bn.running_var + self.bn.eps)
        fused = self.weight * scale.reshape(-1, 1, 1, 1)
        step = fused.abs().amax((1, 2, 3), keepdim=True) / 7
        y = self._conv_forward(x, torch.fake_quantize_per_tensor_affine(fused / step, 1.0, 0, -8, 7) * step, None)
        result: Tensor = self.bn(y / scale.reshape(1, -1, 1, 1))
        return result


class UsedTwice(nn.Module):
    """A convolution before a batch norm whose weights are also used without it."""

    def __init__(self) -> None:
        super().__init__()
        self.c, self.norm = nn.Conv2d(2, 4, 3, bias=False), nn.BatchNorm2d(4)
        nn.init.constant_(self.norm.weight, 3.0)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.c(x)) + F.conv2d(x, self.c.weight)
        return result


class ReadsNorm(UsedTwice):
    """Reads the norm that would be folded away."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.norm(self.c(x)) + self.norm.eps
        return result


MAPS: dict[str, tuple[Callable[[], nn.Module], str, str]] = {
    "weight-standardised": (lambda: nn.Sequential(Standardised(2, 4, 3)), "0", ""),
    "quantisation-aware with a batch norm": (lambda: nn.Sequential(FusedConvolution()), "0", "0.bn"),
    "a norm whose layer is used otherwise too": (UsedTwice, "c", "norm"),
    "a norm that is read": (ReadsNorm, "c", "norm"),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(2, 4, 3, groups=2, dilation=2, padding=2)), "0", ""),
    "all of it": (
        lambda: nn.Sequential(nn.Conv2d(2, 6, (3, 2), (2, 1), (1, 2), (2, 3), 2, padding_mode="reflect")),
        "0",
        "",
    ),
    "transposed": (
        lambda: nn.Sequential(nn.ConvTranspose2d(2, 4, 3, 2, 1, output_padding=1, groups=2, dilation=2)),
        "0",
        "",
    ),
}


@pytest.mark.parametrize("name", MAPS)
def test_maps(name: str) -> None:
    make, mapped, digital = MAPS[name]
    model = seeded(make)
    network = check(model, noise(6, 2, 9, 8), mapped, digital)
    larger = noise(2, 2, 12, 11, seed=3).clamp(-2, 2)
    assert distance(answer_of(network.digital, larger), answer_of(model, larger)) < TOLERANCE


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: nn.Sequential(nn.Conv1d(2, 4, 3, 2, 2, 2, 2)), (6, 2, 15)),
        (lambda: nn.Sequential(nn.Conv3d(2, 4, 2, (1, 2, 1), 1, 2, 2)), (4, 2, 4, 5, 6)),
        (lambda: nn.Sequential(nn.ConvTranspose1d(2, 4, 3, 2, 1, 1, 2, dilation=2)), (6, 2, 9)),
    ],
)
def test_sequences_and_volumes(make: Callable[[], nn.Module], shape: tuple[int, ...]) -> None:
    check(seeded(make), noise(*shape), "0")


class Video(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.f(x.reshape(-1, 12)).reshape(len(x), -1, 8).mean(1)
        return result


class TimeFirst(Video):
    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.f(x.transpose(0, 1)).mean(0)
        return result


@pytest.mark.parametrize("kind", [Video, TimeFirst])
def test_vectors_of_a_sample_are_counted_from_the_call_and_any_length_runs(kind: type[nn.Module]) -> None:
    model = seeded(kind)
    energies = []
    for samples in (4, 32):
        network = check(model, noise(32, 5, 12)[:samples], "f")
        assert network.layers["f"].vectors_per_image == 5
        energies.append(network.cost().workload().energy)
    assert energies[0] == pytest.approx(energies[1], rel=0.1)
    longer = noise(3, 9, 12, seed=2).clamp(-2, 2)
    assert distance(answer_of(network.digital, longer), answer_of(model, longer)) < TOLERANCE


class Tied(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.f = nn.Embedding(7, 12), nn.Linear(12, 12)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(self.f(self.embedding(x)), self.embedding.weight)


class Several(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.f, self.g = nn.Embedding(7, 12), nn.Linear(12, 8), nn.Linear(5, 8)

    def forward(self, tokens: Tensor, other: Tensor, mask: Tensor | None = None) -> Tensor:
        hidden = self.f(self.embedding(tokens))
        if mask is not None:
            hidden = hidden * mask[..., None]
        result: Tensor = hidden.mean(1) + self.g(other)
        return result


def test_indices_and_tied_embeddings() -> None:
    check(seeded(Tied), indices(24, 5), "f embedding")


def test_several_inputs_by_place_and_by_name() -> None:
    model = seeded(Several)
    tokens, other = indices(24, 6), noise(24, 5)
    check(model, (tokens, other), "f g", "embedding")
    check(model, {"tokens": tokens, "other": other, "mask": tokens > 2}, "f g", "embedding")
    with pytest.raises(InputError, match="as many samples in every input"):
        xb.map_model(model, DESIGN, calibration=(tokens, other[:5]))
    with pytest.raises(InputError, match="calibration must fit the model"):
        xb.map_model(model, DESIGN, calibration=tokens)


@dataclass
class Output:
    logits: Tensor
    hidden: Tensor | None = None


class Named(NamedTuple):
    loss: Tensor
    logits: Tensor


OUTPUTS: dict[str, Callable[[Any, Tensor], Any]] = {
    "logits": lambda m, x: m.f(x),
    "tuple": lambda m, x: (m.f(x), m.g(x)),
    "dictionary": lambda m, x: {"hidden": m.g(x), "logits": m.f(x)},
    "named tuple": lambda m, x: Named(m.g(x), m.f(x)),
    "dataclass": lambda m, x: Output(m.f(x), m.g(x)),
    "maps of one place": lambda m, x: m.f(x)[:, :, None, None],
}


@pytest.mark.parametrize("name", OUTPUTS)
def test_answers_in_any_structure_are_scored(name: str) -> None:
    inputs = noise(40, 12)
    plain = seeded(lambda: Calls(OUTPUTS["logits"]))
    labels = answer_of(plain, inputs).argmax(1)
    labels[:10] = (labels[:10] + 1) % 8
    chip = quietly_mapped(seeded(lambda: Calls(OUTPUTS[name])), inputs).fabricate(seed=0)
    assert 0.7 <= xb.evaluate(chip, inputs, labels).accuracy <= 0.8


def test_one_logit_says_yes_or_no() -> None:
    inputs = noise(64, 12)
    model = seeded(lambda: nn.Sequential(nn.Linear(12, 1)))
    labels = (answer_of(model, inputs)[:, 0] > 0).long()
    chip = quietly_mapped(model, inputs).fabricate(seed=0)
    assert xb.evaluate(chip, inputs, labels).accuracy > 0.95
    assert xb.evaluate(seeded(lambda: nn.Sequential(nn.Linear(12, 1), nn.Flatten(0))), inputs, labels).accuracy == 1


def test_a_bare_layer_costs_something() -> None:
    network = check(seeded(lambda: nn.Linear(12, 8)), noise(24, 12), "")
    assert "12 x 8" in str(network)
    assert network.cost().power > 0


class Branching(nn.Module):
    """The layer `g` runs only on vectors whose sum is large."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(12, 8), nn.Linear(12, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.f(x)
        large = x.sum(1) > 5
        result[large] = result[large] + self.g(x[large])
        return result


class Choosing(Branching):
    """The layer `g` runs only if a sample of the batch has a large sum."""

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.f(x)
        return result + self.g(x) if bool((x.sum(1) > 5).any()) else result


@pytest.mark.parametrize("kind", [Branching, Choosing])
def test_branches_that_depend_on_the_data(kind: type[nn.Module]) -> None:
    model = seeded(kind)
    every = noise(200, 12)
    small, large = every[every.sum(1) <= 5], every[every.sum(1) > 5]
    late = torch.cat([small[:128], large])
    check(model, late, "f g")  # reached by late samples alone
    network = check(model, small[:64], "f", "g")  # never, or with no rows
    assert "not used" in network.not_mapped[0].reason
    chip = network.fabricate(seed=0)
    with pytest.warns(UnseenProductWarning, match=r"stay digital and are used now: g\.weight"):
        answer = chip(large.clamp(-2, 2))
    assert distance(answer, answer_of(model, large.clamp(-2, 2))) < TOLERANCE
    with warnings.catch_warnings():
        warnings.simplefilter("error", UnseenProductWarning)
        chip(large.clamp(-2, 2))  # said once


class Remembering(nn.Module):
    """A mean over all calls: what it gives depends on those before."""

    mean: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(12, 8)
        self.register_buffer("mean", torch.zeros(8))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        y = self.f(x)
        self.mean += y.mean(0)
        self.calls += 1
        self.last = y
        result: Tensor = y + self.mean + self.calls
        return result


def test_a_memory_is_that_of_one_die() -> None:
    model = seeded(Remembering)
    inputs = noise(24, 12)
    network = quietly_mapped(model, inputs)
    assert model.calls == 0
    first, second = network.fabricate(seed=0), network.fabricate(seed=1)
    answers = [first(inputs), first(inputs)]
    assert torch.equal(second(inputs), answers[0])
    assert torch.equal(network.digital(inputs), answers[0])
    assert torch.equal(network.digital(inputs), answers[1])
    assert not torch.equal(answers[0], answers[1])
    assert distance(answers[0], answer_of(model, inputs)) < TOLERANCE
    assert distance(answers[1], answer_of(model, inputs)) < TOLERANCE


class Dropping(nn.Module):
    """Drops at random, also in evaluation mode."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.g = nn.Linear(12, 8), nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.g(F.dropout(self.f(x), 0.5))
        return result


def test_random_numbers_in_a_model_are_named() -> None:
    inputs = noise(24, 12)
    network = quietly_mapped(seeded(Dropping), inputs)
    assert list(network.layers) == ["f", "g"]
    assert any("random numbers" in note for note in network.notes)


class Holding(nn.Module):
    """Holds what cannot be copied."""

    def __init__(self) -> None:
        super().__init__()
        self.f, self.lock = nn.Linear(12, 8), threading.Lock()

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.f(x)
        return result


class ComplexLinear(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.complex(noise(12, 8), noise(12, 8, seed=1)))

    def forward(self, x: Tensor) -> Tensor:
        return (x.to(torch.complex64) @ self.weight).abs()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (Holding, "model must be one that can be copied, got Holding: cannot pickle"),
        (lambda: nn.Sequential(nn.LazyLinear(8)), "must have values in all its parameters, got none in '0.weight'"),
        (lambda: torch.jit.script(nn.Sequential(nn.Linear(12, 8))), "got a script"),
        (lambda: nn.Sequential(ComplexLinear()), "must multiply its inputs with weights"),
        (lambda: nn.Sequential(nn.Linear(11, 8)), "calibration must fit the model"),
    ],
)
def test_models_that_are_refused(make: Callable[[], nn.Module], message: str) -> None:
    with pytest.raises(InputError, match=message):
        xb.map_model(make(), DESIGN, calibration=noise(24, 12))


def test_complex_weights_beside_others_stay_digital() -> None:
    check(seeded(lambda: nn.Sequential(ComplexLinear(), nn.Linear(8, 4))), noise(24, 12), "1", "0")


def test_models_in_training_mode_stay_in_it_and_are_scored_as_in_use() -> None:
    model: Any = nn.Sequential(nn.Linear(12, 8), nn.BatchNorm1d(8), nn.Dropout(0.9), nn.Linear(8, 4))
    inputs = noise(64, 12)
    labels = answer_of(model.eval(), inputs).argmax(1)
    model.train()
    state = {name: value.clone() for name, value in model.state_dict().items()}
    assert xb.evaluate(model, inputs, labels).accuracy == 1
    model.eval()[2].train()
    assert xb.evaluate(model, inputs, labels).accuracy == 1
    assert model[2].training
    model.train()
    chip = quietly_mapped(model, inputs).fabricate(seed=0)
    before = chip(inputs)
    assert torch.equal(chip.train()(inputs), before)
    assert xb.evaluate(chip, inputs, labels).accuracy > 0.9
    assert model.training
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())


def test_clipped_inputs_are_said() -> None:
    model = nn.Sequential(nn.Linear(1, 1, bias=False)).eval()
    nn.init.ones_(model[0].weight)  # type: ignore[arg-type]
    chip = quietly_mapped(model, torch.linspace(0, 1, 9)[:, None]).fabricate(seed=0)
    beyond = torch.tensor([[-0.5], [2.0]])
    with pytest.warns(xb.network.ClippingWarning, match="100.0%"):
        assert chip(beyond).ravel().tolist() == [0, 1]
    with pytest.warns(xb.network.ClippingWarning):
        (error,) = chip.report(beyond).layers
    assert error.clipped_inputs == 1
    assert error.quantisation is not None
    assert error.quantisation == pytest.approx(np.sqrt((0.5**2 + 1) / (0.5**2 + 4)))


def test_read_noise_is_drawn_anew_and_evaluation_repeats() -> None:
    cell = Cell(g_min=1e-6, g_max=1e-4, levels=16, read_voltage=0.2, read_noise=ThermalNoise(bandwidth=1e9))
    inputs = noise(64, 12)
    network = xb.map_model(nn.Sequential(nn.Linear(12, 2)), DESIGN.replace(cell=cell), calibration=inputs)
    chip = network.fabricate(seed=0)
    assert len({float(chip(inputs[:1])[0, 0]) for _ in range(50)}) == 50
    assert len(chip(inputs[:1].repeat(50, 1))[:, 0].unique()) == 50
    labels = torch.zeros(64, dtype=torch.long)
    assert xb.evaluate(chip, inputs, labels).predictions == xb.evaluate(chip, inputs, labels).predictions


def test_a_die_is_not_lost_in_a_state() -> None:
    network = xb.map_model(
        nn.Sequential(nn.Linear(12, 8)), DESIGN.replace(faults=StuckFaults(on=0.1, off=0.1)), calibration=noise(24, 12)
    )
    with pytest.raises(InputError, match="state_dict holds no die"):
        network.fabricate(1).state_dict()
    with pytest.raises(InputError, match="device must be one that torch can compute in float64 on here"):
        network.fabricate(1).to("meta")


class Items(IterableDataset[Any]):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __iter__(self) -> Any:
        return iter(zip(self.inputs, self.labels, strict=True))


class Dictionaries(Dataset[Any]):
    def __init__(self, inputs: Tensor, labels: Tensor) -> None:
        self.inputs, self.labels = inputs, labels

    def __len__(self) -> int:
        return len(self.inputs)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input": self.inputs[index], "label": self.labels[index]}


SOURCES: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "data set": TensorDataset,
    "loader": lambda x, y: DataLoader(TensorDataset(x, y), batch_size=7),
    "iterable data set": Items,
    "list of pairs": lambda x, y: list(zip(x, y, strict=True)),
    "loader of dictionaries": lambda x, y: DataLoader(Dictionaries(x, y), batch_size=7),
}


@pytest.mark.parametrize("name", SOURCES)
def test_any_source_of_samples_calibrates_and_is_scored(name: str) -> None:
    inputs, model = noise(30, 12), seeded(lambda: nn.Sequential(nn.Linear(12, 8)))
    labels = answer_of(model, inputs).argmax(1)
    labels[::3] = 0
    source = SOURCES[name](inputs, labels)
    plain = quietly_mapped(model, inputs)
    network = quietly_mapped(model, source)
    assert torch.equal(network.digital(inputs), plain.digital(inputs))
    chip = network.fabricate(seed=0)
    assert xb.evaluate(chip, source).predictions == xb.evaluate(chip, inputs, labels).predictions
    assert xb.evaluate(chip, source).accuracy == xb.evaluate(chip, inputs, labels).accuracy


def test_measures_are_those_of_scikit_learn_and_torch() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    inputs, model = noise(60, 12), seeded(lambda: nn.Sequential(nn.Linear(12, 8)))
    labels = indices(60, below=8)
    logits = answer_of(model, inputs)
    truth, best = labels.numpy(), logits.argmax(1).numpy()

    def score(metric: Any) -> Any:
        return xb.evaluate(model, inputs, labels, metric=metric).score

    assert score("accuracy") == pytest.approx(metrics.accuracy_score(truth, best))
    assert score("error") == pytest.approx(metrics.zero_one_loss(truth, best))
    assert score("f1") == pytest.approx(metrics.f1_score(truth, best, average="macro"))
    assert score("top-5") == pytest.approx(metrics.top_k_accuracy_score(truth, logits.numpy(), k=5))
    assert score("perplexity") == pytest.approx(float(F.cross_entropy(logits, labels).exp()), rel=1e-5)
    assert score(lambda given, labels: float(given[:, 0].sum())) == pytest.approx(float(logits[:, 0].sum()), rel=1e-5)
    with pytest.raises(InputError, match="more than 5 classes, got 4"):
        xb.evaluate(nn.Linear(12, 4).eval(), inputs, labels % 4, metric="top-5")


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


@pytest.mark.parametrize("last", [True, False])
def test_answers_for_each_position(last: bool) -> None:
    model = seeded(lambda: nn.Sequential(nn.Embedding(7, 12), nn.Linear(12, 7)))
    tokens = indices(20, 5)
    logits = answer_of(model, tokens)
    run = model if last else nn.Sequential(model, Turned()).eval()
    score = xb.evaluate(run, tokens, tokens, metric="perplexity").score
    assert score == pytest.approx(float(F.cross_entropy(logits.flatten(0, 1), tokens.flatten()).exp()), rel=1e-5)
    with pytest.raises(InputError, match="classes can be told from its positions"):
        xb.evaluate(run, indices(20, 7), indices(20, 7))


def test_answers_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(InputError, match="logits that are numbers, got NaN"):
        xb.evaluate(Calls(lambda m, x: m.f(x) * float("nan")).eval(), noise(4, 12), indices(4))


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16, torch.float64])
def test_a_model_in_its_own_precision_is_scored(precision: torch.dtype) -> None:
    model = seeded(lambda: nn.Sequential(nn.Linear(12, 8)))
    inputs = noise(30, 12)
    labels = answer_of(model, inputs).argmax(1)
    assert xb.evaluate(model.to(precision), inputs, labels).accuracy > 0.9


def test_the_warning_names_what_stays_digital() -> None:
    with pytest.warns(NotMappedWarning, match=r"embedding \(Embedding: no product with a matrix \(embedding\)\)"):
        xb.map_model(seeded(Several), DESIGN, calibration=(indices(24, 6), noise(24, 5)))
