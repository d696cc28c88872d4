"""Every kind of layer: the ideal chip is the digital network bit for bit, and that is close to the float model."""

from __future__ import annotations

import copy
import warnings
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import xbarsim as xb
from xbarsim.devices import Cell
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Differential, Encoding, Mapping, Offset, TwoColumn
from xbarsim.network import MappedNetwork, NotMappedWarning, map_model
from xbarsim.network.layers import DigitalLayer
from xbarsim.network.lowering import TorchSkeleton

pytestmark = pytest.mark.usefixtures("one_thread")

CELL = Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2)


def design(
    encoding: Encoding | None = None, weight_bits: int = 8, rows: int = 32, columns: int = 32, **periphery: Any
) -> xb.Design:
    mapping = Mapping(encoding=encoding or TwoColumn(), rows=rows, columns=columns, weight_bits=weight_bits)
    return xb.Design(cell=CELL, mapping=mapping, periphery=xb.Periphery(**periphery))


def noise_images(*shape: int, signed: bool = True, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(shape, generator=generator)
    return images if signed else images.abs()


def seeded(make: Callable[[], nn.Module], seed: int = 1) -> nn.Module:
    """A model whose parameters are the same every time, with batch norms that do something."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = make()
        for module in model.modules():
            if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d) and module.running_var is not None:
                assert module.running_mean is not None
                module.running_mean.uniform_(-0.5, 0.5)
                module.running_var.uniform_(0.5, 2.0)
                if module.affine:
                    nn.init.uniform_(module.weight, 0.5, 1.5)
                    nn.init.uniform_(module.bias, -0.5, 0.5)
    return model.eval()


def model_of(network: MappedNetwork) -> nn.Module:
    """The copy of the model that runs."""
    assert isinstance(network.skeleton, TorchSkeleton)
    return network.skeleton.model


def relative_error(answer: Tensor, expected: Tensor) -> float:
    return float((answer - expected).norm() / expected.norm())


def check(model: nn.Module, images: Tensor, *, close: float = 0.03, names: list[str] | None = None) -> MappedNetwork:
    """Ideal and lossless chips equal the digital network bit for bit; the digital network is close to the model."""
    before = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        expected = model(images)
    for encoding, periphery in (
        (TwoColumn(), {}),
        (Differential(), {"adc_range": "lossless", "signed_inputs": "offset", "dac_bits": 2}),
        (Offset(), {"adc_range": "lossless"}),
    ):
        network = map_model(model, design(encoding, **periphery), calibration=images)
        with torch.no_grad():
            digital = network.digital(images)
        assert torch.equal(network.fabricate(seed=1)(images), digital)
        assert digital.shape == expected.shape
        assert digital.dtype == torch.float32
        assert relative_error(digital, expected) < close
    # 15-bit weights and inputs leave next to nothing of that error
    fine = design(weight_bits=15, input_bits=15)
    with torch.no_grad():
        assert relative_error(map_model(model, fine, calibration=images).digital(images), expected) < 1e-3
    if names is not None:
        assert list(network.layers) == names
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    return network


# --- every kind of layer

LAYERS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(20, 7), (9, 20)),
    "linear without bias": (lambda: nn.Linear(20, 7, bias=False), (9, 20)),
    "linear on sequences": (lambda: nn.Linear(20, 7), (5, 6, 20)),
    "linear on maps": (lambda: nn.Linear(6, 3), (5, 2, 3, 6)),
    "linear on several tiles": (lambda: nn.Linear(100, 40), (5, 100)),
    "conv1d": (lambda: nn.Conv1d(3, 5, 4), (4, 3, 11)),
    "conv1d strided, padded, dilated": (
        lambda: nn.Conv1d(4, 6, 3, stride=2, padding=3, dilation=2, groups=2),
        (4, 4, 13),
    ),
    "conv1d same": (lambda: nn.Conv1d(2, 3, 4, padding="same", dilation=3), (4, 2, 12)),
    "conv1d circular": (lambda: nn.Conv1d(2, 3, 5, padding=2, padding_mode="circular"), (4, 2, 9)),
    "conv1d depthwise": (lambda: nn.Conv1d(4, 8, 3, groups=4), (4, 4, 9)),
    "conv2d": (lambda: nn.Conv2d(3, 5, 3), (4, 3, 8, 9)),
    "conv2d 1 x 1": (lambda: nn.Conv2d(5, 4, 1, bias=False), (4, 5, 3, 3)),
    "conv2d oblong": (
        lambda: nn.Conv2d(2, 5, (3, 2), stride=(2, 3), padding=(1, 2), dilation=(2, 1)),
        (4, 2, 11, 10),
    ),
    "conv2d same, even kernel": (lambda: nn.Conv2d(2, 3, (4, 2), padding="same"), (4, 2, 7, 6)),
    "conv2d same, dilated": (lambda: nn.Conv2d(2, 3, (2, 3), padding="same", dilation=(3, 2)), (4, 2, 7, 8)),
    "conv2d valid": (lambda: nn.Conv2d(2, 3, 3, padding="valid"), (4, 2, 5, 5)),
    "conv2d reflect": (lambda: nn.Conv2d(2, 3, 3, padding=(1, 2), padding_mode="reflect"), (4, 2, 5, 6)),
    "conv2d replicate": (lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="replicate"), (4, 2, 5, 6)),
    "conv2d circular": (lambda: nn.Conv2d(2, 3, 3, padding=(2, 1), padding_mode="circular"), (4, 2, 5, 6)),
    "conv2d reflect, same": (
        lambda: nn.Conv2d(2, 3, (4, 3), padding="same", padding_mode="reflect"),
        (4, 2, 6, 6),
    ),
    "conv2d groups": (lambda: nn.Conv2d(6, 9, 3, groups=3, padding=1, stride=2), (4, 6, 6, 7)),
    "conv2d depthwise": (lambda: nn.Conv2d(4, 4, 3, groups=4, padding=1), (4, 4, 6, 6)),
    "conv2d depthwise, multiplied": (lambda: nn.Conv2d(3, 6, 3, groups=3, bias=False), (4, 3, 6, 6)),
    "conv2d on several tiles": (lambda: nn.Conv2d(12, 20, 3, padding=1), (2, 12, 5, 5)),
    "conv2d, more images than a block": (lambda: nn.Conv2d(2, 3, 2), (35, 2, 4, 4)),
}


@pytest.mark.parametrize("signed", [True, False], ids=["signed", "unsigned"])
@pytest.mark.parametrize("name", LAYERS)
def test_every_layer(name: str, signed: bool) -> None:
    make, shape = LAYERS[name]
    images = noise_images(*shape, signed=signed)
    network = check(seeded(make), images, names=[""])
    (mapped,) = network.layers.values()
    assert mapped.layer.signed == signed
    assert not network.not_mapped


def test_lossy_chips_differ_from_the_digital_network() -> None:
    """The comparison above can fail: fewer converter bits change the answer."""
    model, images = seeded(lambda: nn.Conv2d(3, 5, 3)), noise_images(4, 3, 8, 8)
    network = map_model(model, design(adc_bits=3), calibration=images)
    with torch.no_grad():
        digital = network.digital(images)
    lossy = network.fabricate(seed=1)(images)
    assert not torch.equal(lossy, digital)
    assert relative_error(lossy, digital) < 1.0


def test_weights_of_zero() -> None:
    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        nn.init.zeros_(model[0].weight)  # type: ignore[arg-type]
        nn.init.ones_(model[0].bias)  # type: ignore[arg-type]
        return model

    network = check(seeded(make), noise_images(8, 6))
    assert network.layers["0"].matrix.tiles == 0
    chip = network.fabricate(seed=0)
    assert chip.plan()["0"] == "exact"
    network.cost()


def test_one_scale_for_the_tensor() -> None:
    model, images = seeded(lambda: nn.Linear(20, 7)), noise_images(9, 20)
    chosen = design().replace(mapping=Mapping(rows=32, columns=32, weight_scale="tensor"))
    network = map_model(model, chosen, calibration=images)
    assert len(set(network.layers[""].layer.weight_scale.tolist())) == 1
    with torch.no_grad():
        assert torch.equal(network.fabricate(seed=1)(images), network.digital(images))
        assert relative_error(network.digital(images), model(images)) < 0.03


def test_the_digital_network_computes_what_it_says() -> None:
    """By hand: codes of inputs and weights, their integer product, scaled back."""
    model, images = seeded(lambda: nn.Linear(6, 3)), noise_images(5, 6)
    layer = map_model(model, design(), calibration=images).layers[""].layer
    scale = float(images.abs().max()) / 127
    assert layer.input_scale == pytest.approx(scale, rel=1e-12)
    codes = np.floor(images.numpy().astype(np.float64) * (1 / scale) + 0.5).astype(int)
    weight = model.weight.detach().numpy().astype(np.float64)  # type: ignore[operator]
    weight_scale = np.abs(weight).max(axis=1) / 127
    product = codes @ np.rint(weight / weight_scale[:, None]).astype(int).T
    expected = product * (scale * weight_scale) + model.bias.detach().numpy()  # type: ignore[operator]
    with torch.no_grad():
        digital = map_model(model, design(), calibration=images).digital(images)
    np.testing.assert_allclose(digital.numpy(), expected, rtol=1e-6)


@pytest.mark.parametrize("tokens", [1, 15, 16, 40])
def test_digital_linear_layers_of_any_number_of_vectors_are_sums_of_whole_numbers(tokens: int) -> None:
    vectors = noise_images(3, tokens, 7)
    network = map_model(seeded(lambda: nn.Linear(7, 5)), design(), calibration=vectors)
    layer = network.layers[""].layer
    codes = layer.quantise(layer.as_maps(vectors.numpy()))[:, 0]
    expected = (codes @ layer.codes * layer.scaling.scale + layer.scaling.bias).astype(np.float32)
    np.testing.assert_array_equal(DigitalLayer(layer)(vectors.numpy()), expected)


@given(data=st.data())
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_digital_convolutions_of_any_geometry_are_sums_of_whole_numbers(data: st.DataObject) -> None:
    """By windows and by the places of the kernel, in float32 and where only float64 holds the sums."""
    number = st.integers(1, 3)
    kernel, stride, dilation = (data.draw(st.tuples(number, number)) for _ in range(3))
    padding = data.draw(st.tuples(st.integers(0, 2), st.integers(0, 2)))
    groups, bits = data.draw(st.integers(1, 3)), data.draw(st.sampled_from([8, 16]))
    size = [d * (k - 1) + 1 + data.draw(st.integers(0, 5)) for k, d in zip(kernel, dilation, strict=True)]
    make = partial(nn.Conv2d, 2 * groups, 3 * groups, kernel, stride, padding, dilation, groups)
    images = noise_images(2, 2 * groups, *size)
    network = map_model(seeded(make), design(input_bits=bits), calibration=images)
    layer = network.layers[""].layer
    codes = torch.from_numpy(layer.quantise(images.numpy())).double()
    weight = torch.from_numpy(np.concatenate(list(layer.group_codes()), axis=1).T.copy()).reshape(-1, 2, *kernel)
    sums = torch.nn.functional.conv2d(codes, weight, None, stride, padding, dilation, groups)
    scaling = layer.scaling
    expected = (sums.numpy() * scaling.scale[:, None, None] + scaling.bias[:, None, None]).astype(np.float32)
    np.testing.assert_array_equal(DigitalLayer(layer)(images.numpy()), expected)


# --- batch norm


class TwoUses(nn.Module):
    """A layer whose output also goes past the batch norm, and one batch norm for two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second, self.third = nn.Linear(6, 6), nn.Linear(6, 6), nn.Linear(6, 6)
        self.norm, self.shared = nn.BatchNorm1d(6), nn.BatchNorm1d(6)

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        y = self.norm(y) + y
        answer: Tensor = self.shared(self.second(y)) + self.shared(self.third(y))
        return answer


class Branching(nn.Module):
    """Control flow that cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.norm = nn.Linear(6, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.layer(x))
        return y if y.sum() > 0 else -y


FOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "conv2d": (lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5)), (6, 3, 6, 6)),
    "conv2d without bias": (
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3, bias=False), nn.BatchNorm2d(5), nn.ReLU()),
        (6, 3, 6, 6),
    ),
    "depthwise": (lambda: nn.Sequential(nn.Conv2d(4, 4, 3, groups=4), nn.BatchNorm2d(4)), (6, 4, 6, 6)),
    "conv1d": (lambda: nn.Sequential(nn.Conv1d(3, 5, 3), nn.BatchNorm1d(5)), (6, 3, 9)),
    "linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)), (6, 6)),
    "linear without bias": (lambda: nn.Sequential(nn.Linear(6, 5, bias=False), nn.BatchNorm1d(5)), (6, 6)),
    "plain conv2d": (
        lambda: nn.Sequential(nn.Conv2d(3, 5, 3), nn.BatchNorm2d(5, affine=False)),
        (6, 3, 6, 6),
    ),
    "plain linear": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, affine=False)), (6, 6)),
}


@pytest.mark.parametrize("name", FOLDED)
def test_batch_norms_are_folded(name: str) -> None:
    make, shape = FOLDED[name]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network = check(seeded(make), noise_images(*shape), names=["0"])
    assert not any(isinstance(m, nn.BatchNorm1d | nn.BatchNorm2d) for m in model_of(network).modules())
    assert any("1 batch norms folded" in note for note in network.notes)
    assert "folded" in str(network)


UNFOLDED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], set[str]]] = {
    "used twice, and shared": (TwoUses, (8, 6), {"norm", "shared"}),
    "untraceable": (Branching, (8, 6), {"norm"}),
    "not behind a layer": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.BatchNorm1d(5)),
        (8, 6),
        {"2"},
    ),
    # BatchNorm1d counts the second dimension as channels: here the sequence, and not the layer's outputs
    "linear on sequences": (lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(7)), (8, 7, 6), {"1"}),
    "linear on as long sequences": (
        lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5)),
        (8, 5, 6),
        {"1"},
    ),
}


@pytest.mark.parametrize("name", UNFOLDED)
def test_batch_norms_that_cannot_be_folded_stay(name: str) -> None:
    make, shape, norms = UNFOLDED[name]
    with pytest.warns(NotMappedWarning) as caught:
        network = check(seeded(make), noise_images(*shape))
    assert {item.name for item in network.not_mapped} == norms
    assert all(item.kind == "BatchNorm1d" for item in network.not_mapped)
    for norm in norms:
        assert f"{norm} (BatchNorm1d" in str(caught[0].message)
    if name == "untraceable":
        assert any("cannot be traced" in note for note in network.notes)


def test_batch_norm_without_statistics_stays() -> None:
    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5, track_running_stats=False))  # noqa: E731
    with pytest.warns(NotMappedWarning, match="BatchNorm1d"):
        network = check(seeded(make), noise_images(8, 6))
    assert [item.name for item in network.not_mapped] == ["1"]


def test_a_model_in_training_mode_is_mapped_as_in_evaluation() -> None:
    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Dropout(0.9), nn.Linear(5, 3))  # noqa: E731
    images = noise_images(9, 6)
    expected = map_model(seeded(make), design(), calibration=images).digital(images)
    model = seeded(make).train()
    network = map_model(model, design(), calibration=images)
    assert torch.equal(network.digital(images), expected)
    assert model.training
    assert int(model[1].num_batches_tracked) == 0  # type: ignore[index]


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_a_model_of_another_precision(dtype: torch.dtype) -> None:
    make = lambda: nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.Linear(5, 3)).to(dtype)  # noqa: E731
    images, model = noise_images(9, 6), seeded(make)
    network = map_model(model, design(), calibration=images)
    assert not network.not_mapped
    with torch.no_grad():
        digital = network.digital(images)
        assert torch.equal(network.fabricate(seed=1)(images), digital)
        assert relative_error(digital, copy.deepcopy(model).float()(images)) < 0.03
    assert next(model.parameters()).dtype == dtype


# --- what cannot be mapped


class Odd(nn.Module):
    """Weights of many kinds: some are mapped, and the others named."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(4, 6)
        self.attention = nn.MultiheadAttention(6, 2, batch_first=True)
        self.recurrent = nn.LSTM(6, 6, batch_first=True)
        self.norm = nn.LayerNorm(6)
        self.up = nn.ConvTranspose2d(1, 1, 3)
        self.own = nn.Parameter(torch.ones(6))
        self.unused = nn.Linear(3, 2)
        self.layer = nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        y = x + self.table((x[..., 0] > 0).long())
        y = self.attention(y, y, y, need_weights=False)[0]
        y = self.norm(self.recurrent(y)[0]) * self.own
        y = self.up(y[:, None])[:, 0, 1:-1, 1:-1]
        answer: Tensor = self.layer(y)
        return answer


def test_what_cannot_be_mapped_is_named() -> None:
    model, images = seeded(Odd), noise_images(6, 5, 6)
    with pytest.warns(NotMappedWarning) as caught:
        network = check(
            model,
            images,
            names=["attention.in_proj", "attention.out_proj", "recurrent.l0.ih", "recurrent.l0.hh", "up", "layer"],
            close=0.1,
        )
    kinds = {item.name: (item.kind, item.parameters) for item in network.not_mapped}
    assert kinds == {
        "table": ("Embedding", 24),
        "norm": ("LayerNorm", 12),
        "(model)": ("Odd", 6),
        "unused": ("Linear", 8),
    }
    reasons = {item.name: item.reason for item in network.not_mapped}
    assert "forward pass" in reasons["unused"]
    for name, (kind, parameters) in kinds.items():
        assert f"{name} ({kind}" in str(caught[0].message)
        assert f"stays digital: {name} ({kind}, {parameters} weights): {reasons[name]}" in str(network)


def test_the_warning_points_at_the_caller() -> None:
    with pytest.warns(NotMappedWarning) as caught:
        map_model(
            seeded(lambda: nn.Sequential(nn.LayerNorm(6), nn.Linear(6, 2))), design(), calibration=noise_images(4, 6)
        )
    assert [warning.filename for warning in caught] == [__file__]


@pytest.mark.parametrize("batch_first", [True, False])
def test_a_transformer_layer(batch_first: bool) -> None:
    """Torch's fused path would read the layers' weights behind their backs."""
    model = seeded(lambda: nn.TransformerEncoderLayer(8, 2, 16, batch_first=batch_first))
    images = noise_images(6, 5, 8)
    with pytest.warns(NotMappedWarning) as caught:
        network = map_model(model, design(), calibration=images)
    named = {item.name for item in network.not_mapped}
    assert named == {"norm1", "norm2"}
    assert "norm1" in str(caught[0].message)
    assert list(network.layers) == ["self_attn.in_proj", "self_attn.out_proj", "linear1", "linear2"]
    with torch.no_grad():
        digital = network.digital(images)
        assert torch.equal(network.fabricate(seed=1)(images), digital)
        assert relative_error(digital, model(images)) < 0.05


# --- shared modules


class Shared(nn.Module):
    """One layer used twice, and under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.one = nn.Linear(6, 6)
        self.again = self.one
        self.last = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        answer: Tensor = self.last(self.again(torch.relu(self.one(x))))
        return answer


def test_shared_modules_are_placed_once() -> None:
    network = check(seeded(Shared), noise_images(9, 6), names=["one", "last"])
    chip = network.fabricate(seed=3)
    assert list(chip.running) == ["one", "last"]
    assert network.layers["one"].layer.signed  # the range holds both uses, of which one is signed


def test_shared_groups_of_layers() -> None:
    def make() -> nn.Module:
        block = nn.Sequential(nn.Linear(6, 6), nn.ReLU())
        return nn.Sequential(block, block, nn.Linear(6, 2))

    check(seeded(make), noise_images(9, 6), names=["0.0", "2"])


# --- input that is refused


def refused(model: nn.Module, images: Any, message: str, chosen: xb.Design | None = None) -> None:
    with pytest.raises(InputError, match=message):
        map_model(model, chosen or design(), calibration=images)


class Reaches(nn.Module):
    """A layer that no image reaches."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(6, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x) if len(x) > 1000 else x[:, :2]


def test_models_with_nothing_to_map() -> None:
    images = noise_images(4, 6)
    refused(nn.ReLU(), images, r"model must multiply its inputs with weights \(.*\) to be mapped, got ReLU without one")
    refused(nn.Sequential(nn.LayerNorm(6)), images, "model must multiply .* got Sequential without one")
    refused(Reaches(), images, "model must multiply .* got Reaches without one that the calibration reaches")
    refused(lambda x: x, images, "model must be of type Module")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="design must be of type Design"):
        map_model(nn.Linear(6, 2), CELL, calibration=images)  # type: ignore[arg-type]


def with_value(images: Tensor, value: float) -> Tensor:
    images = images.clone().double()
    images.view(-1)[3] = value
    return images


def test_calibration_images_that_are_refused() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 3, 3), nn.Flatten(), nn.Linear(48, 2)))
    good = noise_images(4, 2, 6, 6)
    refused(
        model, torch.zeros(1, 2, 6, 6), "calibration must hold images with more than one value, got 1 constant at 0.0"
    )
    refused(model, np.full((3, 2, 6, 6), 0.5), "got 3 constant at 0.5")
    for value in (np.nan, np.inf, -np.inf, 1e300):  # the last is infinite in float32
        refused(model, with_value(good, value), "calibration must be finite")
    refused(model, good[:, :, :5], r"calibration must fit the model, got samples of shape \(2, 5, 6\): ")
    refused(model, good[:, :1], r"calibration must fit the model, got samples of shape \(1, 6, 6\): ")
    refused(model, good[0, 0, 0], "calibration must be a non-empty batch, images first, got shape")
    refused(model, good[:0], "calibration must be a non-empty batch")
    refused(model, (good * 10).to(torch.uint8), "calibration must be floating numbers, .* got uint8")
    refused(model, (good * 10).to(torch.int64), r"calibration must fit the model, got samples of shape \(2, 6, 6\): ")
    refused(model, np.array([["a", "b"]]), "calibration must be floating numbers")
    refused(model, None, "calibration must be")


def test_images_of_any_floating_kind() -> None:
    model, images = seeded(lambda: nn.Linear(6, 2)), noise_images(5, 6)
    network = map_model(model, design(), calibration=images.double().numpy()[::-1])  # a view with a negative stride
    chip = network.fabricate(seed=1)
    assert torch.equal(chip(images.numpy()[::-1].copy()), chip(images).flip(0))
    assert torch.equal(chip(images.double()), chip(images))


def test_a_layer_without_any_input_stays_digital_and_the_others_are_mapped() -> None:
    def make() -> nn.Module:
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 2))
        nn.init.constant_(model[0].bias, -1e3)  # type: ignore[arg-type]
        return model

    with pytest.warns(NotMappedWarning, match=r"2 \(linear: its inputs are all 0 on the calibration samples\)"):
        network = map_model(seeded(make), design(), calibration=noise_images(4, 6))
    assert list(network.layers) == ["0"]
    silent = seeded(lambda: nn.Sequential(nn.Hardshrink(100.0), nn.Linear(6, 2)))
    refused(silent, noise_images(4, 6), "calibration must drive a layer that can be mapped, got inputs that are all 0")


def test_weights_that_are_refused() -> None:
    for part in ("weight", "bias"):
        model = seeded(lambda: nn.Sequential(nn.ReLU(), nn.Linear(6, 2)))
        with torch.no_grad():
            model.get_parameter(f"1.{part}").view(-1)[1] = torch.nan
        refused(model, noise_images(4, 6), r"layer '1'.*must be finite")
    one_bit = design(input_bits=1)
    refused(
        nn.Linear(6, 2), noise_images(4, 6), "input_bits must be >= 2 for layer '', whose inputs are signed", one_bit
    )


def test_images_that_a_chip_refuses() -> None:
    network = map_model(seeded(lambda: nn.Linear(6, 2)), design(), calibration=noise_images(4, 6))
    chip = network.fabricate(seed=1)
    for images, message in (
        (torch.zeros(3, 5), r"inputs of layer '' must be a batch with 6 features, got shape \(3, 5\)"),
        (torch.zeros(6), "images must be a non-empty batch"),
        (torch.zeros(0, 6), "images must be a non-empty batch"),
        (torch.zeros(3, 6, dtype=torch.uint8), "images must be floating numbers"),
        (torch.full((3, 6), torch.nan), "images must be finite"),
    ):
        with pytest.raises(InputError, match=message):
            chip(images)


# --- calibration


def test_inputs_beyond_the_calibration_are_clipped() -> None:
    model, images = seeded(lambda: nn.Linear(6, 2)), noise_images(5, 6, signed=False)
    network = map_model(model, design(), calibration=images)
    largest = torch.full((1, 6), float(images.max()))
    with torch.no_grad():
        assert torch.equal(network.digital(largest * 7), network.digital(largest))
        assert torch.equal(network.digital(-largest), network.digital(largest * 0))
    chip = network.fabricate(seed=1)
    assert torch.equal(chip(largest * 7), chip(largest))


def test_calibrated_converters_never_clip_what_they_were_calibrated_on() -> None:
    model, images = seeded(lambda: nn.Conv2d(3, 5, 3, padding=1)), noise_images(8, 3, 7, 7)
    for subtraction in ("analog", "digital"):
        generous = design(adc_bits=16, subtraction=subtraction)
        network = map_model(model, generous, calibration=images)
        mapped = network.layers[""]
        assert mapped.converter.step == 1.0
        with torch.no_grad():
            assert torch.equal(network.fabricate(seed=0)(images), network.digital(images))
        tight = design(adc_bits=4, subtraction=subtraction)
        converter = map_model(model, tight, calibration=images).layers[""].converter
        full = map_model(model, design(adc_bits=4, adc_range="full", subtraction=subtraction), calibration=images)
        assert converter.step is not None
        assert 1.0 < converter.step < (full.layers[""].converter.step or 0.0)


def test_the_whole_calibration_set_sets_input_ranges() -> None:
    model, images = seeded(lambda: nn.Linear(6, 2)), noise_images(300, 6)
    images[299, 3] = 50.0  # in the last batch
    network = map_model(model, design(), calibration=images)
    assert network.layers[""].layer.input_scale == pytest.approx(50.0 / 127)


# --- plans


def test_the_plan_of_a_network_is_that_of_a_die_without_faults() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)))
    images = noise_images(5, 2, 6, 6)
    wanted: dict[str, dict[str, Any]] = {
        "exact": {"adc_range": "lossless"},
        "tiled": {"adc_bits": 4, "dac_bits": 8},
        "bitplane": {"adc_bits": 4, "dac_bits": 2},
    }
    for plan, periphery in wanted.items():
        network = map_model(model, design(**periphery), calibration=images)
        table = network.plan()
        assert [row[:2] for row in table.rows] == [("0", plan), ("3", plan)]
        assert network.fabricate(seed=2).plan() == table
        assert table["3"] == plan
        assert all(reason for _, _, reason in table.rows)
        assert plan in str(table)


def test_the_table_of_a_network() -> None:
    model = seeded(lambda: nn.Sequential(nn.Conv2d(2, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(64, 3)))
    network = map_model(model, design(adc_bits=6), calibration=noise_images(5, 2, 6, 6))
    lines = str(network).splitlines()
    assert "signed 8" in next(line for line in lines if "18 x 4" in line)
    assert "unsigned 8" in next(line for line in lines if "64 x 3" in line)
    assert network.tiles == sum(mapped.matrix.tiles for mapped in network.layers.values()) == 3
