"""Whole networks: against onnxruntime, and the same chip as through torch."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.devices import Cell, StuckFaults

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
]

Array = np.ndarray[Any, np.dtype[Any]]
DESIGN = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2),
    mapping=xb.Mapping(rows=32, columns=32, weight_bits=8),
    faults=StuckFaults(off=0.01, on=0.005),
)
IDEAL = DESIGN.replace(faults=None)


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 6, 3, padding=1)
        self.body = nn.Conv2d(6, 8, 3, padding=1, stride=2)
        self.short = nn.Conv2d(6, 8, 1, stride=2, bias=False)
        self.last = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.first(x))
        x = torch.relu(self.body(x) + self.short(x))
        return self.last(torch.flatten(nn.functional.adaptive_avg_pool2d(x, 1), 1))  # type: ignore[no-any-return]


def mobile() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(8),
        nn.ReLU6(),
        nn.Conv2d(8, 8, 3, groups=8, padding=1),
        nn.BatchNorm2d(8),
        nn.Hardswish(),
        nn.Conv2d(8, 12, 1),
        nn.SiLU(),
        nn.MaxPool2d(2, ceil_mode=True),
        nn.Flatten(),
        nn.Linear(12 * 9, 4),
        nn.Softmax(-1),
    )


def vgg() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 6, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(6, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32, 16),
        nn.ReLU(),
        nn.Linear(16, 4),
    )


class Recurrent(nn.Module):
    def __init__(self, kind: str) -> None:
        super().__init__()
        if kind == "lstm":
            self.layers: nn.Module = nn.LSTM(5, 7, num_layers=2, batch_first=True)
        else:
            self.layers = nn.GRU(5, 7, bidirectional=True, batch_first=True)
        self.last = nn.Linear(7 if kind == "lstm" else 14, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.layers(x)[0][:, -1])  # type: ignore[no-any-return]


class Encoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(16, 2, 24, batch_first=True, activation="gelu")
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        for parameter in self.encoder.parameters():  # layers begin as copies of one
            nn.init.normal_(parameter, std=0.3)
        self.last = nn.Linear(16, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.encoder(x).mean(1))  # type: ignore[no-any-return]


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key, self.value = (nn.Linear(12, 12) for _ in range(3))
        self.norm = nn.LayerNorm(12)
        self.last = nn.Linear(12, 3)

    def forward(self, x: Tensor) -> Tensor:
        parts = (layer(x).unflatten(-1, (2, 6)).transpose(1, 2) for layer in (self.query, self.key, self.value))
        mixed = nn.functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        return self.last(self.norm(x + mixed)[:, 0])  # type: ignore[no-any-return]


NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "residual": (Residual, (3, 9, 9)),
    "mobile": (mobile, (3, 11, 11)),
    "vgg": (vgg, (3, 8, 8)),
    "lstm": (lambda: Recurrent("lstm"), (6, 5)),
    "gru": (lambda: Recurrent("gru"), (6, 5)),
    "encoder": (Encoder, (5, 16)),
    "attention": (Attention, (5, 12)),
}
# What stands between the products is rounded exactly, so that every library gives the same bits.
EXACT = ("vgg",)


class Exported:
    """A network with samples and its files."""

    def __init__(self, name: str, folder: Path) -> None:
        make, shape = NETWORKS[name]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(3)
            self.model = make().eval()
            for module in self.model.modules():
                if isinstance(module, nn.BatchNorm2d):
                    nn.init.uniform_(module.running_mean, -0.5, 0.5)  # type: ignore[arg-type]
                    nn.init.uniform_(module.running_var, 0.5, 2.0)  # type: ignore[arg-type]
            self.samples = torch.randn(8, *shape)
        self.folder, self.name = folder, name

    def path(self, exporter: str, batch: int | None = None) -> Path:
        path = self.folder / f"{self.name}-{exporter}-{batch}.onnx"
        if path.exists():
            return path
        example = self.samples[: batch or 4]
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if exporter == "dynamo":
                free: Any = None if batch else ({0: torch.export.Dim("samples")},)
                torch.onnx.export(self.model, (example,), path, dynamo=True, dynamic_shapes=free, verbose=False)
            else:
                axes: Any = None if batch else {"x": {0: "samples"}}
                torch.onnx.export(self.model, (example,), path, dynamo=False, input_names=["x"], dynamic_axes=axes)
        return path

    @property
    def array(self) -> Array:
        return self.samples.numpy()


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Exported]:
    folder, made = tmp_path_factory.mktemp("onnx"), {}

    def get(name: str) -> Exported:
        if name not in made:
            made[name] = Exported(name, folder)
        return made[name]

    return get


def run_by_onnxruntime(path: Path, x: Array) -> Array:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {session.get_inputs()[0].name: x})[0])


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_gives_what_onnxruntime_gives(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    path, x = given.path(exporter), given.array
    network = xb.map_onnx(path, IDEAL, calibration=x)
    expected = run_by_onnxruntime(path, x)
    floating = network.floating(x)
    assert floating.dtype == np.float32
    np.testing.assert_allclose(floating, expected, rtol=1e-5, atol=1e-5)
    double = network.skeleton.doubled().run(xb.network.samples.Samples.of(x))
    assert double.dtype == np.float64
    np.testing.assert_allclose(double, expected, rtol=1e-5, atol=1e-5)
    # quantised to 8 bits it is close to that, and an ideal chip is the quantised network bit for bit
    digital = network.digital(x)
    assert np.linalg.norm(digital - expected) < 0.05 * np.linalg.norm(expected)
    np.testing.assert_array_equal(network.fabricate(seed=0)(x), digital)
    np.testing.assert_array_equal(network.digital(x[2:5]), digital[2:5])


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", ["residual", "vgg", "attention", "lstm", "gru", "encoder"])
def test_a_file_gives_the_same_chip_as_torch(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    one = xb.map_model(given.model, DESIGN, calibration=given.samples)
    other = xb.map_onnx(given.path(exporter), DESIGN, calibration=given.array)
    same_chip(one, other)
    answers = one.fabricate(seed=5)(given.samples).numpy(), other.fabricate(seed=5)(given.array)
    if name in EXACT:
        np.testing.assert_array_equal(*answers)
    else:
        np.testing.assert_allclose(*answers, rtol=1e-5, atol=1e-5)


def same_chip(one: xb.MappedNetwork, other: xb.MappedNetwork) -> None:
    """Equal codes, scales and cells of a seed, layer by layer."""
    dies = one.fabricate(seed=5), other.fabricate(seed=5)
    assert len(one.layers) == len(other.layers)
    for (name, a), (other_name, b) in zip(one.layers.items(), other.layers.items(), strict=True):
        np.testing.assert_array_equal(a.layer.codes, b.layer.codes)
        np.testing.assert_array_equal(a.layer.weight_scale, b.layer.weight_scale)
        np.testing.assert_array_equal(a.layer.bias, b.layer.bias)
        assert a.layer.input_scale == b.layer.input_scale
        assert (a.layer.signed, a.layer.window, a.layer.adapter) == (b.layer.signed, b.layer.window, b.layer.adapter)
        assert a.vectors_per_image == b.vectors_per_image
        if b.layer.output_names:  # a file says nothing of what attention calls its outputs
            assert a.layer.output_names == b.layer.output_names
        np.testing.assert_array_equal(dies[0].layers[name].cells(), dies[1].layers[other_name].cells())


@pytest.mark.parametrize("batch", [1, 4])
@pytest.mark.parametrize("name", ["vgg", "lstm"])
def test_a_file_with_a_fixed_batch_size_is_run_whatever_it_is_or_refused(
    name: str, batch: int, exported: Callable[[str], Exported]
) -> None:
    given = exported(name)
    free = xb.map_onnx(given.path("legacy"), IDEAL, calibration=given.array)
    path = given.path("legacy", batch=batch)
    if batch > 1 and name == "lstm":  # the first state has a constant shape
        with pytest.raises(xb.InputError, match=f"batch size is fixed to {batch}"):
            xb.map_onnx(path, IDEAL, calibration=given.array)
        return
    fixed = xb.map_onnx(path, IDEAL, calibration=given.array)
    assert any("fixes the batch size" in note for note in fixed.notes)
    np.testing.assert_array_equal(fixed.digital(given.array), free.digital(given.array))
    assert [each.vectors_per_image for each in fixed.layers.values()] == [
        each.vectors_per_image for each in free.layers.values()
    ]


def test_samples_that_do_not_fit_a_file_are_refused(exported: Callable[[str], Exported]) -> None:
    given = exported("vgg")
    path, x = given.path("legacy"), given.array
    for wrong, message in (
        (x[:, :2], r"input 'x' must have shape \(samples, 3, 8, 8\), got \(8, 2, 8, 8\)"),
        (x[:, :, 0], "must have shape"),
        ((x, x), "must be the inputs x, got 0, 1"),
        ({"y": x}, "must be the inputs x, got y"),
        (np.zeros((4, 3, 8, 8), np.int64) + np.arange(8), "must be float32, got int64"),
        (np.zeros_like(x), "more than one value"),
        (np.where(x > 3, np.nan, x) * np.where(x > 2, np.nan, 1), "finite"),
    ):
        with pytest.raises(xb.InputError, match=message):
            xb.map_onnx(path, IDEAL, calibration=wrong)
    network = xb.map_onnx(path, IDEAL, calibration={"x": x})
    np.testing.assert_array_equal(network.digital(x=x), network.digital(x))
    with pytest.raises(xb.InputError, match="must have shape"):
        network.fabricate(seed=1)(x[:, :, :4])


def totals(network: xb.MappedNetwork) -> dict[str, float]:
    return {
        kind: sum(getattr(use, kind) for use in network.digital_work)
        for kind in ("multiply_accumulates", "elementwise", "nonlinear", "comparisons", "lookups")
    }


@pytest.mark.parametrize("exporter", ["legacy", "dynamo"])
@pytest.mark.parametrize("name", ["vgg", "attention", "residual", "lstm", "gru"])
def test_digital_work_is_counted_as_for_torch(name: str, exporter: str, exported: Callable[[str], Exported]) -> None:
    given = exported(name)
    one = totals(xb.map_model(given.model, DESIGN, calibration=given.samples))
    other = totals(xb.map_onnx(given.path(exporter), DESIGN, calibration=given.array))
    if name == "attention":  # queries and keys are each scaled, instead of their product, by the root of the factor
        assert other.pop("elementwise") >= one.pop("elementwise")
    assert one == other


def test_work_of_attention_and_of_norms_is_in_the_cost(exported: Callable[[str], Exported]) -> None:
    given = exported("attention")
    network = xb.map_onnx(given.path("legacy"), DESIGN, calibration=given.array)
    work = {use.kind: use for use in network.digital_work}
    assert totals(network)["multiply_accumulates"] == 2 * 2 * 5 * 5 * 6  # scores and mixing, two heads of 6, 5 steps
    assert work["Softmax"].nonlinear == 2 * 5 * 5
    assert work["LayerNormalization"].parameters == 24
    assert (work["LayerNormalization"].elementwise, work["LayerNormalization"].nonlinear) == (7 * 60, 5)
    assert "Softmax" in str(network.cost("isaac2016").digital)
