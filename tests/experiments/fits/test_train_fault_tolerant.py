"""Training for faults, in miniature, and what was written."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from xbarsim.compress import Injection, LostWeights, Rates, mappable_layers
from xbarsim.data import load_digits_split
from xbarsim.experiments.fits import train_fault_tolerant as script
from xbarsim.experiments.fits.train_fault_tolerant import FITS, Fit, design, faulty_accuracy
from xbarsim.experiments.folders import WEIGHTS
from xbarsim.foundation.validation import InputError
from xbarsim.models import load_digits_net, load_images, load_zoo_file, read_card
from xbarsim.training import Training, TrainingSet


def digits() -> TrainingSet:
    split = load_digits_split()
    pixels = np.rint(split.train_images * 255).astype(np.uint8)
    return TrainingSet.split(
        "digits", pixels, split.train_labels, validation=200, mean=(0.0,), standard_deviation=(1.0,)
    )


def miniature() -> Fit:
    return Fit(
        network="digits",
        data_set="digits",
        data=digits,
        start="digits",
        disturbance=lambda steps: Injection(design=design(), rates=Rates(law="ramp", largest=0.1, ramp_steps=steps)),
        training=Training(epochs=6, batch=50, learning_rate=0.003, augmentation="shift", device="cpu"),
    )


def run(folder: Path, fits: dict[str, Fit], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "FITS", fits)
    threads = torch.get_num_threads()
    try:
        script.main(names=None, checkpoints=folder / "checkpoints", output=folder)
    finally:
        torch.set_num_threads(threads)


def test_what_is_written_bears_more_faults_than_the_same_training_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run(tmp_path, {"raw": miniature(), "placebo": replace(miniature(), disturbance=None)}, monkeypatch)
    images, labels = (torch.from_numpy(array) for array in load_images("digits", "test"))
    found = {}
    for name in ("raw", "placebo"):
        model, card = load_zoo_file(tmp_path / f"{name}.safetensors")
        clean = faulty_accuracy(model, images, labels, 0.0)
        assert card["accuracy_float32"] == pytest.approx(clean[0], abs=1e-4)
        assert card["bits"] == 9
        assert clean[0] > 0.97
        found[name] = np.mean(faulty_accuracy(model, images, labels, 0.1))
        assert f"{name}: test accuracy at 0.70% stuck cells, 596 images" in capsys.readouterr().out or name == "placebo"
    assert found["raw"] > found["placebo"] + 0.05
    with pytest.raises(InputError, match="names must be one of 'raw', 'placebo', got 'huge'"):
        script.main(names=["huge"], checkpoints=tmp_path, output=tmp_path)


def test_pruned_weights_are_the_smallest_of_each_layer_and_stay_at_zero(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    training = Training(epochs=2, batch=50, learning_rate=0.003, augmentation="shift", device="cpu")
    pruned = replace(miniature(), disturbance=None, pruned=0.6, clip=1.0, training=training)
    run(tmp_path, {"pruned": pruned}, monkeypatch)
    model, card = load_zoo_file(tmp_path / "pruned.safetensors")
    assert card["pruned"] == 0.6
    assert float(card["accuracy_float32"]) > 0.9
    before = mappable_layers(load_digits_net())
    for name, layer in mappable_layers(model).items():
        sizes, kept = before[name].weight.detach().abs(), layer.weight.detach() != 0
        smallest = torch.topk(sizes.flatten(), round(0.4 * sizes.numel())).values.min()
        assert not kept[sizes < smallest].any()
        assert kept.float().mean() > 0.3  # of those that stay, few are rounded to 0


def test_dies_leave_the_network_as_it_was_and_differ() -> None:
    model = load_digits_net()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images, labels = (torch.from_numpy(array) for array in load_images("digits", "test", count=200))
    first = faulty_accuracy(model, images, labels, 0.1)
    assert len(set(first)) > 1
    assert first == faulty_accuracy(model, images, labels, 0.1)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_every_network_has_its_three_variants_alike_but_for_what_is_injected() -> None:
    networks = {fit.network for fit in FITS.values()}
    assert {f"{network}_{variant}" for network in networks for variant in ("raw", "lost", "placebo")} <= set(FITS)
    for network in networks:
        raw, lost, placebo = (FITS[f"{network}_{variant}"] for variant in ("raw", "lost", "placebo"))
        assert raw.training == lost.training == placebo.training
        assert raw.disturbance is not None
        assert lost.disturbance is not None
        assert placebo.disturbance is None
        assert isinstance(raw.disturbance(300), Injection)
        assert isinstance(lost.disturbance(300), LostWeights)


@pytest.mark.data
def test_stored_networks_are_as_good_as_their_files_state() -> None:
    """On 500 of the 10,000 images: off by more than 0.1, 4.5 standard deviations, with probability below 1e-5."""
    paths = sorted((WEIGHTS / "fault_tolerant").glob("*.safetensors"))
    assert paths
    for path in paths:
        assert path.stem in FITS
        assert path.stat().st_size < 600_000
        card = read_card(path)
        fit = FITS[path.stem]
        try:
            images, labels = (torch.from_numpy(array) for array in load_images(fit.data_set, "test", count=500))
        except FileNotFoundError as error:
            pytest.skip(str(error))
        assert (card["network"], card["data_set"]) == (fit.network, fit.data_set)
        model = load_zoo_file(path)[0]
        assert faulty_accuracy(model, images, labels, 0.0)[0] == pytest.approx(card["accuracy_float32"], abs=0.1)
