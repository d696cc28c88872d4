"""The study of networks: what it counts, on a network small enough for a test, and its table and picture."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import nn
from torch.backends import mha, mkldnn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

import xbarsim as xb
from xbarsim.experiments.studies import networks as study
from xbarsim.experiments.studies.networks import (
    CHIPS,
    SUBJECTS,
    ClassifiedAndClipped,
    measure,
    picture,
    table,
    tasks,
)
from xbarsim.foundation.intervals import share_interval
from xbarsim.foundation.validation import InputError
from xbarsim.models import SpokenDigitsNet, StoryTransformer
from xbarsim.models.torchvision import VisionTransformer, vision_transformer
from xbarsim.sweep.subject import Subject

pytestmark = pytest.mark.usefixtures("one_thread")


class Weighing(nn.Module):
    """Two layers, between them a product of two activations, which stays digital, and an embedding, which is named."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(6, 8)
        self.table = nn.Embedding(2, 8)
        self.last = nn.Linear(8, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = torch.relu(self.first(x)) + self.table((x[:, 0] > 0).long())
        scores = hidden.unsqueeze(1) @ hidden.unsqueeze(2)
        logits: torch.Tensor = self.last(hidden * scores.squeeze(1).tanh())
        return logits


@pytest.fixture(scope="module")
def subject() -> Subject:
    rng = np.random.default_rng(7)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(7)
        model = Weighing().eval()
    images = rng.standard_normal((60, 6)).astype(np.float32)
    with torch.no_grad():
        labels = model(torch.from_numpy(images)).argmax(dim=1).numpy()
    labels[:6] = (labels[:6] + 1) % 3  # six in sixty wrong in floating point
    calibration = rng.uniform(-1, 1, (40, 6)).astype(np.float32)  # beyond which a third of the inputs lie
    return Subject(
        name="weighing", data_set="made up", model=model, images=images, labels=labels, calibration=calibration
    )


@pytest.fixture(scope="module")
def rows(subject: Subject, tmp_path_factory: pytest.TempPathFactory) -> list[study.Row]:
    store = tmp_path_factory.mktemp("networks") / "dies.sqlite"
    made = measure(subject, samples=50, dies=3, store=store, workers=1)
    assert measure(subject, samples=50, dies=3, store=store, workers=1) == made
    return made


def test_every_network_has_a_row_for_floating_point_and_for_each_chip(rows: list[study.Row]) -> None:
    assert [row.chip for row in rows] == ["float", *CHIPS]
    assert [row.dies for row in rows] == [0, 1, 1, 3]
    assert {row.samples for row in rows} == {50}
    floating = rows[0]
    assert floating.accuracy == 44 / 50
    interval = share_interval(44, 50)
    assert (floating.low, floating.high) == (interval.low, interval.high)
    for row in rows:
        assert 0 <= row.low <= row.accuracy <= row.high <= 1
    assert [len(row.each_die.split()) for row in rows] == [0, 0, 0, 3]
    assert np.mean([float(die) for die in rows[3].each_die.split()]) == pytest.approx(rows[3].accuracy, abs=1e-4)


def test_the_ideal_chip_is_the_quantised_network(subject: Subject, rows: list[study.Row]) -> None:
    mapped = tasks(subject, 50)["ideal"].map()
    expected = xb.evaluate(mapped.digital, subject.images[:50], subject.labels[:50])
    assert rows[1].accuracy == expected.accuracy


def test_clipped_inputs_are_counted_over_all_dies(subject: Subject, rows: list[study.Row]) -> None:
    for row in rows[1:]:
        assert row.inputs == row.dies * 50 * (6 + 8)
        assert row.clipped_inputs > 0
    # In the first layer, whose inputs are the samples, by counting: codes of 127 and their half steps.
    mapped = tasks(subject, 50)["ideal"].map()
    chip = mapped.fabricate(1)
    values = ClassifiedAndClipped().checked(chip, subject.images[:50], subject.labels[:50])
    assert values["clipped_inputs"] == rows[1].clipped_inputs
    first = mapped.layers["first"].layer
    beyond = np.abs(subject.images[:50]) >= 127.5 * first.input_scale
    assert chip.clipped_inputs["first"].clipped == beyond.sum()
    again = ClassifiedAndClipped().checked(chip, subject.images[:50], subject.labels[:50])  # counts from here on
    assert again["clipped_inputs"] == values["clipped_inputs"]


def test_rows_say_what_is_digital_and_what_is_not_mapped(rows: list[study.Row]) -> None:
    for row in rows:
        assert row.digital_share == pytest.approx(8 / (48 + 8 + 24))
        assert row.not_mapped.startswith("table (Embedding): ")


def test_the_table_shows_them_beside_every_accuracy(rows: list[study.Row]) -> None:
    text = table(rows)
    lines = text.splitlines()[2:6]
    for line, row in zip(lines, rows, strict=True):
        assert f"{100 * row.accuracy:.1f}" in line
        assert "10 %" in line
        if row.inputs:
            assert f"{row.clipped_inputs} of {row.inputs}" in line
    assert "weighing, not mapped: table (Embedding)" in text


def test_the_picture_has_a_point_for_each_row(rows: list[study.Row]) -> None:
    (axes,) = picture(rows).axes
    points = [container.lines[0].get_xdata() for container in axes.containers]  # type: ignore[attr-defined]
    assert [float(point[0]) for point in points] == [100 * row.accuracy for row in rows]
    (label,) = axes.get_yticklabels()
    assert label.get_text().startswith("weighing (50)\ndigital 10 %, clipped ")
    assert label.get_text().endswith("not mapped: 1")


def test_chips_differ_from_the_ideal_one_in_one_thing_each() -> None:
    ideal, adc, stuck = CHIPS.values()
    assert ideal.periphery.adc_bits is None
    assert ideal.faults is None
    assert adc.replace(periphery=ideal.periphery) == ideal
    assert adc.periphery.adc_bits == 8
    assert stuck.replace(faults=None) == ideal
    assert stuck.faults is not None
    assert stuck.faults.total == 0.001


def test_the_command_writes_table_and_picture(
    subject: Subject, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(study, "SUBJECTS", {"weighing": lambda: subject})
    store = tmp_path / "dies.sqlite"
    study.main(networks=None, images=20, dies=2, store=store, output=tmp_path / "figures", workers=1)
    captured = capsys.readouterr()
    assert "weighing (1 of 1)" in captured.err
    with (tmp_path / "figures" / "networks.csv").open() as stream:
        written = list(csv.DictReader(stream))
    assert [row["chip"] for row in written] == ["float", *CHIPS]
    for row in written:
        assert all(row[name] for name in ("clipped_inputs", "digital_share", "not_mapped"))
    assert (tmp_path / "figures" / "networks.png").stat().st_size > 1000
    with pytest.raises(InputError, match="networks must be one of 'weighing', got 'alexnet'"):
        study.main(networks=["alexnet"], output=tmp_path)


# --- what is digital, against torch's own count of multiply-accumulates, and that against closed forms


def multiply_accumulates(model: nn.Module, sample: npt.NDArray[np.float32]) -> int:
    """Of one sample in floating point, as torch counts them, fused operations taken apart."""
    counter = FlopCounterMode(display=False)
    fast = mha.get_fastpath_enabled()
    mha.set_fastpath_enabled(False)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of hardware that is not there
            with mkldnn.flags(enabled=False), sdpa_kernel(SDPBackend.MATH), torch.no_grad(), counter:
                model(torch.from_numpy(sample))
    finally:
        mha.set_fastpath_enabled(fast)
    return int(counter.get_total_flops()) // 2


def test_recurrent_networks_multiply_as_often_as_their_equations_say() -> None:
    frames = np.zeros((1, 64, 24), np.float32)
    for cell, gates in (("lstm", 4), ("gru", 3)):
        network = SpokenDigitsNet(cell).eval()  # type: ignore[arg-type]
        assert multiply_accumulates(network, frames) == 64 * gates * 64 * (24 + 64) + 64 * 10


def test_transformers_multiply_as_often_as_their_equations_say() -> None:
    def encoder(tokens: int, width: int, feed_forward: int) -> int:
        return tokens * (4 * width * width + 2 * width * feed_forward) + 2 * tokens * tokens * width

    story = multiply_accumulates(StoryTransformer().eval(), np.zeros((1, 72), np.float32))
    assert story == 2 * encoder(72, 64, 128) + 64 * 6
    image = multiply_accumulates(vision_transformer().eval(), np.zeros((1, 3, 32, 32), np.float32))
    assert image == 4 * encoder(65, 64, 128) + 64 * 48 * 64 + 64 * 10


@pytest.mark.parametrize("build", [vision_transformer, StoryTransformer, lambda: SpokenDigitsNet("gru"), Weighing])
def test_what_is_digital_is_what_is_not_on_crossbars(build: Callable[[], nn.Module]) -> None:
    network = build().eval()
    shape = {"VisionTransformer": (3, 32, 32), "StoryTransformer": (72,), "SpokenDigitsNet": (64, 24), "Weighing": (6,)}
    images = np.random.default_rng(1).random((4, *shape[type(network).__name__])).astype(np.float32)
    if isinstance(network, StoryTransformer):
        images = np.floor(22 * images)
    mapped = xb.map_model(network, CHIPS["ideal"], calibration=images)
    analog = sum(
        layer.layer.codes.size // layer.layer.groups * layer.vectors_per_image for layer in mapped.layers.values()
    )
    total = multiply_accumulates(network, images[:1])
    assert mapped.cost(data=False).digital_share == pytest.approx(1 - analog / total, abs=1e-12)
    if isinstance(network, VisionTransformer):
        assert total - analog == 4 * 2 * 65 * 65 * 64


@pytest.mark.data
def test_the_networks_of_the_study_are_there_with_their_samples() -> None:
    samples = {"keywords": 900, "spoken_digits_lstm": 300, "spoken_digits_gru": 300, "story_transformer": 1000}
    for name, count in samples.items():
        try:
            found = SUBJECTS[name]()
        except FileNotFoundError as error:
            pytest.skip(str(error))
        assert found.name == name
        assert len(found.labels) == len(found.images) == count
        assert len(found.calibration) >= 100
        assert not found.model.training
