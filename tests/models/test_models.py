from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import fx, nn

from xbarsim.data import data_file
from xbarsim.experiments.fits import train_digits
from xbarsim.foundation.validation import FileFormatError, FileWriteError, InputError
from xbarsim.models import (
    ARCHITECTURES,
    MODELS,
    DigitsNet,
    convnet,
    lenet5,
    load_digits_net,
    load_model,
    load_resnet20,
    load_test_set,
    normalise,
    resnet20,
    untrained_model,
)
from xbarsim.models.digits import WEIGHTS
from xbarsim.models.weights import write_safetensors
from xbarsim.network.lowering import fold_batch_norm


def accuracy(network: nn.Module, name: str, count: int | None = None) -> float:
    images, labels = load_test_set(name, count=count)
    return train_digits.accuracy(network, images, labels)


def parameters(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- the registry


def test_cards_agree_with_the_networks() -> None:
    for name, network in (("digits", DigitsNet()), ("resnet20", resnet20())):
        card = MODELS[name]
        assert card.name == name
        assert card.parameters == parameters(network)
        network.eval()
        with torch.inference_mode():
            assert network(torch.zeros(2, *card.input_shape)).shape == (2, card.classes)
    assert {name for name, card in MODELS.items() if card.weight_bits is None} == {"digits", "resnet20"}


def test_unknown_model_names_the_known_ones() -> None:
    for load in (load_model, load_test_set):
        with pytest.raises(InputError, match=r"model must be one of \d+ names, got 'resnet8'; did you mean 'resnet20'"):
            load("resnet8")


@pytest.mark.parametrize("count", [0, 597, 1.5])
def test_test_set_count_bounds(count: int) -> None:
    with pytest.raises(InputError, match="count must be an integer >= 1 and <= 596"):
        load_test_set("digits", count=count)


@pytest.mark.parametrize("name", ["digits", "resnet20", "lenet5", "convnet"])
def test_networks_can_be_traced(name: str) -> None:
    network, card = untrained_model(name)
    images = torch.randn(3, *card.input_shape)
    traced = fx.symbolic_trace(network)
    with torch.inference_mode():
        torch.testing.assert_close(traced(images), network(images), rtol=0, atol=0)


# --- digits


def test_digits_accuracy() -> None:
    pytest.importorskip("sklearn")
    network, card = load_model("digits")
    assert not network.training
    measured = accuracy(network, "digits")
    assert measured >= 0.985
    assert measured == pytest.approx(card.accuracy, abs=2 / card.test_images)
    assert load_test_set("digits")[0].shape == (card.test_images, *card.input_shape)
    assert load_test_set("digits", count=11)[1].shape == (11,)


def test_loading_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    load_digits_net()
    assert torch.equal(torch.get_rng_state(), before)


def test_loaded_network_can_be_trained_further() -> None:
    network = load_digits_net().train()
    network(torch.rand(4, 1, 8, 8)).sum().backward()
    assert all(parameter.grad is not None for parameter in network.parameters())


@pytest.mark.parametrize("keep", [0, 4, 8, 100, 2_000, -1])
def test_truncated_safetensors(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "cut.safetensors"
    path.write_bytes(WEIGHTS.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"cut\.safetensors"):
        load_digits_net(path)


@pytest.mark.parametrize("position", [0, 9, 3_000, 30_000, -1])
def test_corrupt_safetensors(tmp_path: Path, position: int) -> None:
    path = tmp_path / "bad.safetensors"
    raw = bytearray(WEIGHTS.read_bytes())
    raw[position] ^= 0x15
    path.write_bytes(raw)
    with pytest.raises(FileFormatError, match=r"bad\.safetensors"):
        load_digits_net(path)


def test_any_flipped_byte_of_the_header_is_refused_or_harmless(tmp_path: Path) -> None:
    path = tmp_path / "bad.safetensors"
    right = load_digits_net().state_dict()
    raw = bytearray(WEIGHTS.read_bytes())
    header = 8 + int.from_bytes(raw[:8], "little")
    refused = 0
    for position in range(0, header, 3):
        raw[position] ^= 0x15
        path.write_bytes(raw)
        raw[position] ^= 0x15
        try:
            found = load_digits_net(path).state_dict()
        except FileFormatError:
            refused += 1
        else:  # a word of the metadata
            assert all(torch.equal(found[name], right[name]) for name in right)
    assert refused > header // 3 // 2


def test_absent_file(tmp_path: Path) -> None:
    for load in (load_digits_net, load_resnet20):
        with pytest.raises(FileFormatError, match=r"cannot read network weights from .*absent"):
            load(tmp_path / "absent")


def test_tensors_must_fit(tmp_path: Path) -> None:
    path = tmp_path / "other.safetensors"
    good = DigitsNet().state_dict()
    name = "classifier.1.bias"
    for tensors, message in (
        ({key: value for key, value in good.items() if key != name}, f"DigitsNet: it lacks {name}"),
        ({**good, "classifier.2.bias": torch.zeros(3)}, r"DigitsNet: it has classifier\.2\.bias"),
        ({**good, name: torch.zeros(11)}, r"bias must be torch.float32 of shape \(10,\), got .* \(11,\)"),
        ({**good, name: torch.zeros(10, dtype=torch.float64)}, "must be torch.float32 .* got torch.float64"),
        ({**good, name: torch.full((10,), float("nan"))}, "bias must be finite"),
    ):
        write_safetensors(path, tensors, about={})
        with pytest.raises(FileFormatError, match=message):
            load_digits_net(path)
    write_safetensors(path, good, about={})
    assert load_digits_net(path)(torch.zeros(1, 1, 8, 8)).shape == (1, 10)


def test_safetensors_bytes_depend_on_the_content_only(tmp_path: Path) -> None:
    state = DigitsNet().state_dict()
    about = {letter: letter for letter in "qwertyuiop"}
    written = set()
    for number in range(5):
        path = tmp_path / f"{number}.safetensors"
        write_safetensors(path, state, about=about)
        written.add(path.read_bytes())
    assert len(written) == 1
    with pytest.raises(FileWriteError, match="absent"):
        write_safetensors(tmp_path / "absent" / "x.safetensors", state, about=about)


# --- the training script


def test_training_depends_on_its_seed_only() -> None:
    images = np.random.default_rng(5).random((130, 1, 8, 8), dtype=np.float32)
    labels = np.arange(130) % 10
    before = torch.get_rng_state()
    networks = [train_digits.train(images, labels, seed=seed, epochs=1) for seed in (3, 3, 4)]
    assert torch.equal(torch.get_rng_state(), before)
    first, again, other = (network.state_dict()["features.0.weight"] for network in networks)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_training_script(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("sklearn")
    output = tmp_path / "net.safetensors"
    threads = torch.get_num_threads()
    try:
        train_digits.main(["--epochs", "2", "--output", str(output)])
    finally:
        torch.set_num_threads(threads)
    printed = re.search(r"test accuracy (0\.\d+) on 596 images", capsys.readouterr().out)
    assert printed is not None
    assert accuracy(load_digits_net(output), "digits") == pytest.approx(float(printed[1]), abs=1e-4)
    assert float(printed[1]) > 0.6


# --- LeNet-5 and ConvNet


def multiplications(network: nn.Module, shape: tuple[int, int, int]) -> list[int]:
    """Multiply-accumulates of every layer for one image, from the shapes that pass through it."""
    found: list[int] = []

    def count(layer: nn.Module, arguments: tuple[torch.Tensor], output: torch.Tensor) -> None:
        weight = layer.weight
        assert isinstance(weight, nn.Parameter)
        found.append(output[0].numel() * weight[0].numel())

    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            module.register_forward_hook(count)
    with torch.inference_mode():
        network.eval()(torch.zeros(1, *shape))
    return found


def weights(network: nn.Module) -> dict[str, int]:
    return {name: item.numel() for name, item in network.named_parameters() if item.ndim >= 2}


def test_lenet5_is_that_of_the_pruning_literature() -> None:
    network = lenet5()
    assert list(weights(network).values()) == [500, 25_000, 400_000, 5_000]
    assert parameters(network) == ARCHITECTURES["lenet5"].parameters == 430_500 + 580
    assert multiplications(network, (1, 28, 28)) == [288_000, 1_600_000, 400_000, 5_000]


def test_convnet_has_four_convolutions_and_a_linear_layer() -> None:
    network = convnet()
    layers = [module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear)]
    assert [type(layer) for layer in layers] == [nn.Conv2d] * 4 + [nn.Linear]
    assert [layer.weight[0].numel() for layer in layers] == [27, 288, 576, 1152, 512]
    assert sum(weights(network).values()) == 245_600
    assert parameters(network) == ARCHITECTURES["convnet"].parameters
    assert sum(multiplications(network, (3, 32, 32))) == 12_686_336


def test_convnet_folds_into_layers_alone() -> None:
    network, card = untrained_model("convnet", seed=3)
    generator = torch.Generator().manual_seed(5)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            for tensor in (module.weight, module.bias, module.running_mean, module.running_var):
                assert tensor is not None
                nn.init.uniform_(tensor, 0.5, 1.5, generator=generator)
    images = torch.randn(4, *card.input_shape, generator=generator)
    with torch.inference_mode():
        expected = network.eval()(images)
    names, note = fold_batch_norm(network, lambda model: model(images))
    assert note == ""
    assert len(names) == 4
    assert not any(isinstance(module, nn.BatchNorm2d) for module in network.modules())
    with torch.inference_mode():
        torch.testing.assert_close(network(images), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("build", [lenet5, convnet])
def test_class_bounds_of_lenet5_and_convnet(build: Callable[[int], nn.Module]) -> None:
    assert build(7)(torch.zeros(2, *((1, 28, 28) if build is lenet5 else (3, 32, 32)))).shape == (2, 7)
    for classes in (0, -3, 2.0, True):
        with pytest.raises(InputError, match="num_classes must be an integer >= 1"):
            build(classes)  # type: ignore[arg-type]


# --- ResNet-20


@pytest.mark.parametrize("classes", [0, -3, 2.0, True])
def test_resnet20_class_bounds(classes: int) -> None:
    with pytest.raises(InputError, match="num_classes must be an integer >= 1"):
        resnet20(classes)


def test_resnet20_shortcut_is_option_a() -> None:
    network = resnet20(num_classes=3).eval()
    assert network(torch.zeros(1, 3, 32, 32)).shape == (1, 3)
    block = network.stages[1][0]  # type: ignore[index]
    for name, parameter in block.named_parameters():
        if name.startswith("convolution"):
            nn.init.zeros_(parameter)
    x = torch.rand(2, 16, 8, 8)
    expected = np.zeros((2, 32, 4, 4), np.float32)
    expected[:, 8:24] = x.numpy()[:, :, ::2, ::2]
    with torch.inference_mode():
        np.testing.assert_array_equal(block(x).numpy(), expected)


def their_names() -> dict[str, str]:
    """Names in akamaster's checkpoint by ours, written out from his definition."""
    parts = ["weight", "bias", "running_mean", "running_var"]
    names = {"convolution.weight": "module.conv1.weight"}
    names |= {f"normalisation.{part}": f"module.bn1.{part}" for part in parts}
    for stage in range(3):
        for block in range(3):
            ours, theirs = f"stages.{stage}.{block}", f"module.layer{stage + 1}.{block}"
            for number in (1, 2):
                names[f"{ours}.convolution{number}.weight"] = f"{theirs}.conv{number}.weight"
                names |= {f"{ours}.normalisation{number}.{part}": f"{theirs}.bn{number}.{part}" for part in parts}
    return names | {f"classifier.{part}": f"module.linear.{part}" for part in parts[:2]}


def save_theirs(path: Path, network: nn.Module, **extra: object) -> None:
    state = network.state_dict()
    tensors = {theirs: state[ours] for ours, theirs in their_names().items()}
    torch.save({"state_dict": {**tensors, **extra}, "best_prec1": 91.0}, path)


def test_resnet20_reads_a_checkpoint(tmp_path: Path) -> None:
    network = resnet20()
    for parameter in network.parameters():  # biases and scales differ too
        nn.init.normal_(parameter)
    for name, buffer in network.named_buffers():
        if "running" in name:
            nn.init.uniform_(buffer, 0.5, 1.5)
    path = tmp_path / "net.th"
    save_theirs(path, network)
    before = torch.get_rng_state()
    read = load_resnet20(path)
    assert torch.equal(torch.get_rng_state(), before)
    assert not read.training
    for name, tensor in network.state_dict().items():
        assert torch.equal(read.state_dict()[name], tensor), name
    save_theirs(path, network, **{"module.conv9.weight": torch.zeros(1)})
    with pytest.raises(FileFormatError, match=r"net\.th does not fit ResNet20: it has module\.conv9\.weight"):
        load_resnet20(path)
    save_theirs(path, network, **{"conv1.weight": torch.zeros(16, 3, 3, 3)})
    with pytest.raises(FileFormatError, match="names a tensor twice"):
        load_resnet20(path)


@pytest.mark.parametrize("content", [{"state_dict": {"a": 3}}, {"weights": {}}, [1, 2], torch.zeros(2)])
def test_checkpoint_must_hold_tensors(tmp_path: Path, content: object) -> None:
    path = tmp_path / "net.th"
    torch.save(content, path)
    with pytest.raises(FileFormatError, match="must hold tensors by name under 'state_dict'"):
        load_resnet20(path)


class Trap:
    """What a hostile pickle looks like: unpickling it would call a function of its choice."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, ...]:
        return Path.touch, (self.path,)


def test_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    path, sprung = tmp_path / "net.th", tmp_path / "sprung"
    torch.save({"state_dict": Trap(sprung)}, path)
    with pytest.raises(FileFormatError, match="not a valid torch checkpoint"):
        load_resnet20(path)
    assert not sprung.exists()


@pytest.mark.parametrize("keep", [0, 1, 100, 5_000, 500_000, -1])
@pytest.mark.parametrize("zipped", [True, False])
def test_truncated_checkpoint(tmp_path: Path, keep: int, zipped: bool) -> None:
    path = tmp_path / "net.th"
    torch.save({"state_dict": resnet20().state_dict()}, path, _use_new_zipfile_serialization=zipped)
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(FileFormatError, match=r"net\.th is not a valid torch checkpoint"):
        load_resnet20(path)


def test_checksum_in_the_file_name(tmp_path: Path) -> None:
    plain = tmp_path / "net.th"
    save_theirs(plain, resnet20())
    raw = bytearray(plain.read_bytes())
    named = tmp_path / f"net-{hashlib.sha256(raw).hexdigest()[:8]}.th"
    named.write_bytes(raw)
    load_resnet20(named)
    raw[len(raw) // 2] ^= 1  # a weight
    named.write_bytes(raw)
    with pytest.raises(FileFormatError, match="truncated or corrupt: its sha256 must begin"):
        load_resnet20(named)


def test_normalise() -> None:
    images = np.random.default_rng(1).integers(0, 256, (2, 3, 4, 5)).astype(np.uint8)
    mean, deviation = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    expected = (images.transpose(0, 2, 3, 1) / 255 - mean) / deviation
    found = normalise(images)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected.transpose(0, 3, 1, 2), rtol=0, atol=1e-6)
    for wrong in (images.astype(np.int64), images / 255, images[0], images[:, :1]):
        with pytest.raises(InputError, match=r"images must be uint8 of shape \(images, 3"):
            normalise(wrong)  # type: ignore[arg-type]


@pytest.mark.data
def test_resnet20_on_cifar10() -> None:
    try:
        data_file("nets_cifar10", "resnet20-12fca82f.th")
        data_file("cifar10", "cifar10_test.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    network, card = load_model("resnet20")
    assert parameters(network) == card.parameters
    # 455 of the first 500; 9,173 of all 10,000. Two images of slack for other processors' rounding.
    assert accuracy(network, "resnet20", 500) == pytest.approx(0.91, abs=0.004)
