"""Networks of the NeuRRAM chip, rebuilt: their published accuracy, their padding, files that hold something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from xbarsim.data import load_cifar10, load_mnist
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models import NEURRAM_NETWORKS, NeuRRAMMnistNet, NeuRRAMResNet20, load_neurram_network
from xbarsim.models import neurram as module


def or_skip(load: Any, *arguments: Any, **keywords: Any) -> Any:
    try:
        return load(*arguments, **keywords)
    except FileNotFoundError as error:
        pytest.skip(str(error))


@pytest.mark.data
def test_resnet_has_its_accuracy() -> None:
    """Of all 10,000 images 88.13 %; of the first 500, 87 to 92 % are."""
    pixels, labels = or_skip(load_cifar10, "test", count=500)
    network = or_skip(load_neurram_network, "resnet20_0.05")
    assert sum(item.numel() for item in network.parameters()) == 273_066
    with torch.inference_mode():
        answers = network(torch.from_numpy(pixels.astype(np.float32) / 255)).argmax(dim=1).numpy()
    assert 0.86 < (answers == labels).mean() < 0.93


@pytest.mark.data
def test_the_mnist_network_has_its_accuracy() -> None:
    """Of all 10,000 images 99.18 %."""
    pixels, labels = (each[:1000] for each in or_skip(load_mnist, "test"))
    network = or_skip(load_neurram_network, "mnist_0.15")
    with torch.inference_mode():
        answers = network(torch.from_numpy(pixels[:, None].reshape(-1, 1, 28, 28).astype(np.float32) / 255)).argmax(1)
    assert (answers.numpy() == labels).mean() > 0.98


def test_activations_are_steps_with_halves_up() -> None:
    steps = module._Steps(7, 3.5)
    given = torch.tensor([-1.0, 0.0, 0.2, 0.25, 0.7, 3.4, 3.5, 9.0])
    assert torch.allclose(steps(given), torch.tensor([0.0, 0.0, 0.0, 0.5, 0.5, 3.5, 3.5, 3.5]))


def test_a_stride_of_two_pads_below_and_to_the_right_only() -> None:
    image = torch.arange(16.0).reshape(1, 1, 4, 4)
    kernel = torch.zeros(1, 1, 3, 3)
    kernel[..., 0, 0] = 1  # what stands in the corner of each window
    found = torch.nn.functional.conv2d(module._same(image, 2), kernel, stride=2)
    assert found.flatten().tolist() == [0.0, 2.0, 8.0, 10.0]
    assert torch.nn.functional.conv2d(module._same(image, 1), kernel).shape == image.shape


@pytest.mark.parametrize("network", [NeuRRAMResNet20, NeuRRAMMnistNet])
def test_no_image_depends_on_its_batch(network: Any) -> None:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        model = network().eval()
    images = torch.rand(3, *((3, 32, 32) if network is NeuRRAMResNet20 else (1, 28, 28)))
    with torch.inference_mode():
        together, alone = model(images), torch.cat([model(each[None]) for each in images])
    assert together.shape == (3, 10)
    torch.testing.assert_close(together, alone)


def test_other_names_and_other_files_are_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="name must be one of"):
        load_neurram_network("resnet20_0.2")
    path = tmp_path / "weights.npz"
    monkeypatch.setattr(module, "data_file", lambda *parts: path)
    np.savez(path, **{"stem.conv.kernel": np.zeros((3, 3))})  # type: ignore[arg-type]
    with pytest.raises(FileFormatError, match=r"stem.conv.kernel must have shape \(16, 3, 3, 3\), got \(3, 3\)"):
        load_neurram_network("resnet20_0.05")
    path.write_bytes(b"PK\x03\x04 nothing")
    with pytest.raises(FileFormatError, match="is not an archive, or is corrupt"):
        load_neurram_network(next(iter(NEURRAM_NETWORKS)))
    np.savez(path, **{"stem.conv.kernel": np.array([{}], dtype=object)}, allow_pickle=True)
    with pytest.raises(FileFormatError, match="is not a valid npz file"):
        load_neurram_network("resnet20_0.05")
