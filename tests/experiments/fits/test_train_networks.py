"""Training the networks of the study, in miniature: what is cleared, rounded, written and read back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn

from xbarsim.experiments.fits import train_networks as script
from xbarsim.experiments.fits.train_networks import FITS, Fit, accuracy, clear_unseen_taps, round_weights
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import quantise
from xbarsim.models import load_coded, load_images, read_card
from xbarsim.models.torchvision import resnet18
from xbarsim.training import Training, TrainingSet


@pytest.mark.parametrize(
    ("convolution", "size", "seen"),
    [
        (nn.Conv2d(2, 3, 3, padding=1), 1, ["000", "010", "000"]),
        (nn.Conv2d(2, 3, 3, padding=1, stride=2), 2, ["000", "011", "011"]),
        (nn.Conv2d(2, 3, 3, padding=1), 2, ["111", "111", "111"]),
        (nn.Conv2d(2, 2, 5, padding=2, groups=2), 2, ["00000", "01110", "01110", "01110", "00000"]),
        (nn.Conv2d(2, 3, 3), 3, ["111", "111", "111"]),
    ],
)
def test_taps_that_meet_padding_alone_are_cleared(convolution: nn.Conv2d, size: int, seen: list[str]) -> None:
    images = torch.randn(2, 2, size, size)
    before = convolution(images).detach()
    taps = np.array([[letter == "1" for letter in row] for row in seen])
    nonzero = int(np.count_nonzero(convolution.weight.detach().numpy()))
    cleared = clear_unseen_taps(convolution, images)
    np.testing.assert_array_equal((convolution.weight != 0).numpy().all(axis=(0, 1)), taps)
    assert cleared == nonzero - int(np.count_nonzero(convolution.weight.detach().numpy()))
    torch.testing.assert_close(convolution(images).detach(), before)


def test_cleared_taps_change_no_answer_of_a_deep_network() -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(2)
        network = resnet18(10).eval()
    images = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(3))
    with torch.inference_mode():
        before = network(images)
        # Of the last stage's four 3 x 3 kernels, three see one pixel, and the first, with stride 2, four.
        assert clear_unseen_taps(network, images) == 512 * (256 * 5 + 3 * 512 * 8)
        torch.testing.assert_close(network(images), before, rtol=1e-4, atol=1e-5)


def test_rounded_weights_stand_on_levels() -> None:
    layers: tuple[nn.Conv1d | nn.Linear, ...] = (nn.Conv1d(2, 3, 2), nn.Linear(6, 2))
    weights = [layer.weight.detach().clone() for layer in layers]
    round_weights(nn.ModuleList(layers), bits=4)
    for layer, weight in zip(layers, weights, strict=True):
        matrix = quantise(weight.flatten(1).numpy().T, bits=4, per="output")
        found = layer.weight.detach().flatten(1).numpy()
        np.testing.assert_allclose(found, matrix.dequantise().T, rtol=1e-6)
        assert np.abs(found - weight.flatten(1).numpy()).max() > 0


def test_accuracy_is_the_share_of_right_answers_in_any_number_of_batches() -> None:
    labels = np.arange(601) % 3
    inputs = np.eye(3, dtype=np.float32)[labels]
    labels[:100] = (labels[:100] + 1) % 3
    assert accuracy(nn.Identity(), inputs, labels) == 501 / 601


def brightness(seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    labels = np.arange(120) % 2
    pixels = np.random.default_rng(seed).integers(0, 100, (120, 1, 4, 4)) + 100 * labels[:, None, None, None]
    return pixels.astype(np.uint8), labels


def miniature() -> Fit:
    def data() -> TrainingSet:
        return TrainingSet.split("brightness", *brightness(1), validation=20, mean=(0.4,), standard_deviation=(0.2,))

    def test() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
        pixels, labels = brightness(2)
        return ((pixels / 255 - 0.4) / 0.2).astype(np.float32), labels

    return Fit(
        build=lambda: nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)),
        data=data,
        test=test,
        training=Training(epochs=3, batch=10, optimiser="adamw", learning_rate=0.01, device="cpu", select="best"),
        title="brightness",
    )


def test_what_is_written_has_the_accuracy_that_its_card_states(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(script, "FITS", {"tiny": miniature()})
    before, threads = torch.get_rng_state(), torch.get_num_threads()
    try:
        for folder in ("a", "b"):
            script.main(names=None, checkpoints=tmp_path / folder, output=tmp_path / folder / "weights")
    finally:
        torch.set_num_threads(threads)
    assert torch.equal(torch.get_rng_state(), before)
    first, again = (tmp_path / folder / "weights" / "tiny.safetensors" for folder in ("a", "b"))
    assert first.read_bytes() == again.read_bytes()
    card = read_card(first)
    assert card["network"] == "tiny"
    assert card["bits"] == 8
    network = miniature().build()
    load_coded(first, network)
    measured = accuracy(network, *miniature().test())
    assert card["accuracy_float32"] == measured > 0.9
    assert f"test accuracy {measured:.4f} on 120" in capsys.readouterr().out
    early = tmp_path / "early" / "tiny.safetensors"
    script.main(names=["tiny"], checkpoints=tmp_path / "a", output=early.parent, early=True)
    assert early.read_bytes() == first.read_bytes()  # stopped behind its last epoch
    with pytest.raises(InputError, match="names must be one of 'tiny', got 'huge'"):
        script.main(names=["huge"], checkpoints=tmp_path, output=tmp_path)


def test_sequences_go_through_the_trainer_of_images_unchanged() -> None:
    seen = []

    class Network(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            seen.append(x)
            return x

    tokens = torch.arange(22).reshape(2, 1, 1, 11)
    FITS["story_transformer"].wrap(Network())(tokens.float().div(255))
    assert torch.equal(seen[0], tokens.reshape(2, 11))
    frames = torch.rand(3, 1, 64, 24)
    FITS["spoken_digits_gru"].wrap(Network())(frames)
    assert torch.equal(seen[1], frames[:, 0])


@pytest.mark.data
def test_features_are_trained_on_in_steps_of_a_256th() -> None:
    from xbarsim.data import data_file, spoken_digit_features, validation_split

    try:
        data_file("fsdd", "fsdd_audio.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    data = FITS["spoken_digits_lstm"].data()
    features, labels, _ = spoken_digit_features("train")
    chosen, held = validation_split(labels, 300, seed=0)
    np.testing.assert_allclose(data.normalise(data.images)[:, 0].numpy(), features[chosen], atol=0.5 / 255 + 1e-6)
    assert np.array_equal(data.validation_labels.numpy(), labels[held])


def test_every_fit_chooses_its_epoch_by_images_held_back() -> None:
    for fit in FITS.values():
        assert fit.training.select == "best"
        assert fit.training.device == "cpu"


# --- what it wrote


@pytest.mark.data
def test_stored_networks_are_as_good_as_their_files_state() -> None:
    """On 500 of the 10,000 images: off by more than 0.1, 4.5 standard deviations, with probability below 1e-5."""
    images, labels = or_skip()
    paths = sorted(WEIGHTS.glob("*.safetensors"))
    assert {path.stem for path in paths} == {name for name, fit in FITS.items() if fit.folder == WEIGHTS}
    assert sum(path.stat().st_size for path in paths) < 18e6
    for path in paths:
        network = FITS[path.stem].build()
        load_coded(path, network)
        card = read_card(path)
        assert card["network"] == path.stem
        assert accuracy(network, images, labels) == pytest.approx(card["accuracy_float32"], abs=0.1)


def or_skip() -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int64]]:
    try:
        return load_images("cifar10", "test", count=500)
    except FileNotFoundError as error:
        pytest.skip(str(error))
