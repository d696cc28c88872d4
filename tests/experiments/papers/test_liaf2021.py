"""The table of the LIAF paper in miniature: trained, judged, on crossbars and on faulty ones; and what ships."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
import torch

from tests.experiments.papers.shipped import shipped
from xbarsim.data import load_babi, load_nmnist
from xbarsim.experiments.fits import train_liaf as fits
from xbarsim.experiments.papers import liaf2021 as script
from xbarsim.models import EventNet, SequenceNet, read_card
from xbarsim.testing import check_paper

pytestmark = pytest.mark.usefixtures("one_thread")

SMALL = 60
NAMES = ("lif", "liaf", "cnn", "rlif", "gru", "rliaf-babi6", "gru-babi6")


def bars(count: int, seed: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Frames of 17 x 17 in which a bar moves down; its place says the class."""
    rng = np.random.default_rng(seed)
    labels = np.arange(count) % 10
    frames = rng.random((count, 2, 2, 17, 17)) < 0.05
    for index, label in enumerate(labels):
        frames[index, :, :, label + 2 : label + 5] |= rng.random((2, 2, 3, 17)) < 0.7
    return 255 * frames.astype(np.uint8).reshape(count, 4, 17, 17), labels


def words(split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    rng = np.random.default_rng(len(split))
    labels = np.arange(SMALL) % 10
    return rng.integers(0, 256, (SMALL, 1, 6, 24)).astype(np.uint8), labels


def questions(stories: fits.Stories, split: str) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """A sentence, or none, and a question whose second word is the answer."""
    rng = np.random.default_rng(stories.task + len(split))
    labels = np.arange(SMALL) % 2
    sentences = np.zeros((SMALL, 1, 3, 7), np.uint8)
    sentences[:, 0, 1, :4] = rng.integers(3, 36, (SMALL, 4)) * rng.integers(0, 2, (SMALL, 1))
    sentences[:, 0, 2, 0], sentences[:, 0, 2, 1] = rng.integers(3, 36, SMALL), 1 + labels
    return sentences, labels


def events(bins: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    levels, labels = bars(SMALL, 1)
    return (levels[:, :2] // 8 if bins == 1 else levels), labels


def small(patch: pytest.MonkeyPatch) -> None:
    """Little data, few and small networks, short trainings in the place of those of the paper."""
    patch.setattr(fits, "_events", events)
    patch.setattr(fits, "_words", words)
    patch.setattr(fits, "_FOLDS", 2)
    patch.setattr(fits, "_SEEDS", 2)
    patch.setattr(fits, "_questions", questions)
    patch.setattr(fits, "_HELD_BACK", 20)
    arms = {name: fits.ARMS[name] for name in NAMES}
    short = replace(arms["lif"].training, epochs=12, batch=10)
    build = partial(EventNet, size=17, channels=(2, 4, 6))
    arms["lif"] = replace(arms["lif"], bins=2, training=short, build=partial(build, "lif"))
    arms["liaf"] = replace(arms["liaf"], bins=2, training=short, build=partial(build, "relu1"))
    arms["cnn"] = replace(arms["cnn"], training=replace(short, epochs=2))
    quick = replace(arms["gru"].training, epochs=1, batch=20, warm_up=0.0)
    arms["rlif"] = replace(arms["rlif"], training=quick, build=partial(SequenceNet, "lif", inputs=24, units=8))
    arms["gru"] = replace(arms["gru"], training=quick, build=partial(fits.Gated, "gru", 8))
    for name in NAMES[-2:]:
        arms[name] = replace(arms[name], training=replace(arms[name].training, epochs=12, batch=10))
    for module in (fits, script):
        patch.setattr(module, "ARMS", arms)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    place = tmp_path_factory.mktemp("liaf")
    with pytest.MonkeyPatch.context() as patch:
        small(patch)
        for name, arm in fits.ARMS.items():
            for run in range(arm.runs):
                fits.train_run(name, run, place)
    yield place
    torch.set_num_threads(threads)


@pytest.fixture
def folder(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of small networks, while the script knows of no others."""
    small(monkeypatch)
    return trained


def test_networks_that_are_written_are_left_alone(folder: Path) -> None:
    assert sorted(path.name for path in folder.glob("*.safetensors")) == sorted(
        f"{name}-{run}.safetensors" for name in NAMES for run in range(2)
    )
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*.safetensors")}
    for name in NAMES:
        fits.train_run(name, 0, folder)
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_each_recording_is_judged_once_by_a_network_that_has_not_seen_it(folder: Path) -> None:
    arm = fits.ARMS["lif"]
    parts = [fits.parts_of(arm, run) for run in range(arm.runs)]
    for (seen, _), (judged, _) in parts:
        assert len(seen) + len(judged) == SMALL
        keys = [{row.tobytes() for row in levels} for levels in (seen, judged)]
        assert not keys[0] & keys[1]
    assert sum(len(labels) for _, (_, labels) in parts) == SMALL


def test_accuracies_are_those_of_the_written_networks(folder: Path) -> None:
    row = script.accuracies("liaf", folder)
    right = 0
    for run in range(2):
        inputs, labels = fits.judges(fits.ARMS["liaf"], run)
        with torch.no_grad():
            right += int((fits.load_run("liaf", run, folder)(inputs).argmax(1).numpy() == labels).sum())
    assert row.accuracy == pytest.approx(100 * right / SMALL, abs=1e-3)
    assert row.low <= row.accuracy <= row.high
    assert (row.task, row.runs, row.samples) == ("N-MNIST", 2, 30)
    assert row.accuracy > 30
    assert script.accuracies("gru", folder).task == "FSDD"
    told = script.accuracies("rliaf-babi6", folder)
    assert (told.task, told.arm, told.runs, told.samples) == ("bAbI task 6", "RLIAF", 2, SMALL)


@pytest.mark.parametrize("name", NAMES[-2:])
def test_networks_of_stories_learn_from_questions_that_are_not_held_back(folder: Path, name: str) -> None:
    """And keep the epoch that is best on those; one of two answers is right by chance."""
    assert script.accuracies(name, folder).accuracy > 90
    card = read_card(folder / f"{name}-0.safetensors")
    assert str(card["training"]).startswith("seed 0, 40 samples, epoch ")
    levels, labels = questions(fits.BABI["babi6"], "train")
    with torch.no_grad():
        answers = fits.load_run(name, 0, folder)(torch.from_numpy(levels[40:, 0])).argmax(dim=1).numpy()
    assert card["held_back_accuracy"] == pytest.approx(float((answers == labels[40:]).mean()), abs=0.051)  # rounded


def test_ideal_chips_of_stories_are_their_quantised_networks(folder: Path) -> None:
    """On numbers of words as they are stored, calibrated by those of training."""
    arm = fits.ARMS["rliaf-babi6"]
    network = script.mapped("rliaf-babi6", 0, 4, folder)
    assert list(network.layers) == ["reader.recurrent.product", "reader.recurrent.recurrent", "reader.classifier"]
    inputs, _ = fits.judges(arm, 0)
    assert inputs.dtype == torch.float32
    ideal = network.digital(inputs)
    assert torch.equal(network.fabricate(seed=1)(inputs), ideal)
    assert len(torch.unique(ideal, dim=0)) > 2


def test_counts_on_crossbars_by_hand(folder: Path) -> None:
    """17 x 17, 8 x 8 and 1 positions a step; spikes take one read a vector, three bits three."""
    spikes, values = script.on_crossbars([("lif", 1), ("liaf", 3)], folder)
    places, tiles = (17 * 17, 8 * 8, 1), (1, 1, 1)
    vectors = [2 * place for place in places]
    assert spikes.reads == sum(v * t for v, t in zip(vectors, tiles, strict=True))
    assert values.reads == vectors[0] + 3 * (vectors[1] + vectors[2])
    columns = [2 * outputs for outputs in (4, 6, 10)]  # two slices of a pair each
    assert spikes.conversions == sum(v * c for v, c in zip(vectors, columns, strict=True))
    assert spikes.membranes == 4 * 17 * 17 + 6 * 8 * 8
    assert spikes.accesses == 2 * 2 * spikes.membranes
    assert spikes.gain == spikes.gain_low == spikes.gain_high == 0
    assert 0 < spikes.activity < 1
    assert spikes.activity == spikes.ones  # of one bit
    assert values.energy > spikes.energy > spikes.digital_energy > 0
    assert "x the energy of LIF" in script.per_joule([spikes, values])


def test_activity_is_the_share_of_inputs_that_are_not_zero(folder: Path) -> None:
    network = script.mapped("lif", 0, 1, folder)
    inputs, _ = fits.judges(fits.ARMS["lif"], 0)
    found = script.activity(network, inputs)
    assert found["layers.0.product"][0] == pytest.approx(float((inputs != 0).float().mean()))
    assert set(found) == set(network.layers)


def test_it_keeps_the_promises_of_a_paper(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(script, "FOLDER", folder)
    monkeypatch.setattr(script, "POINTS", (("lif", 1), ("liaf", 2)))
    monkeypatch.setattr(script, "FAULTY", (("lif", 1), ("liaf", 2)))
    monkeypatch.setattr(script, "RATES", (0.01, 0.3))
    check_paper(sys.modules[script.__name__], dies=2)


def test_gated_networks_are_written_as_they_were_trained(folder: Path) -> None:
    """But for the rounding of their weights."""
    network = fits.load_run("gru", 1, folder)
    torch.manual_seed(1)
    fresh = fits.ARMS["gru"].build()
    inputs, _ = fits.judges(fits.ARMS["gru"], 1)
    theirs: Any = fresh.get_submodule("recurrent")
    parts = dict(network.named_parameters())
    with torch.no_grad():
        before = fresh(inputs)
        for name in ("ih", "hh"):
            for what in ("weight", "bias"):
                own = parts[f"recurrent.l0.{name}.{what}"]
                assert not torch.equal(getattr(theirs, f"{what}_{name}_l0"), own)  # it has learned
                getattr(theirs, f"{what}_{name}_l0").copy_(own)
        fresh.get_submodule("classifier").load_state_dict(network.get_submodule("classifier").state_dict())
        torch.testing.assert_close(network(inputs), fresh(inputs), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(before, fresh(inputs))


# --- what ships


def row_of(found: script.Accuracy) -> script.Accuracy:
    (row,) = (row for row in shipped(script.Accuracy, "liaf2021.csv") if (row.task, row.arm) == (found.task, found.arm))
    return row


@pytest.mark.data
@pytest.mark.parametrize("name", ["lif", "gru", *(name for name, arm in fits.ARMS.items() if arm.stories)])
def test_stored_networks_are_those_of_the_shipped_table(name: str) -> None:
    try:
        load_babi("test") if fits.ARMS[name].stories else load_nmnist()
        found = script.accuracies(name)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    row = row_of(found)
    # another processor rounds otherwise: of 1,100 recordings a few, at a threshold, may change sides
    assert found.accuracy == pytest.approx(row.accuracy, abs=0.5)
    assert (found.parameters, found.runs, found.samples) == (row.parameters, row.runs, row.samples)


@pytest.mark.data
@pytest.mark.parametrize("name", [name for name, arm in fits.ARMS.items() if arm.stories])
def test_stored_networks_of_stories_answer_as_well_as_their_files_state(name: str) -> None:
    """On the questions by which their epoch was chosen, which nothing else is reported of."""
    try:
        (levels, labels), _ = fits.parts_of(fits.ARMS[name], 0)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    inputs, labels = fits.as_inputs(fits.ARMS[name], levels[-1000:], labels[-1000:])
    for run in range(fits.ARMS[name].runs):
        card = read_card(fits.FOLDER / f"{name}-{run}.safetensors")
        with torch.no_grad():
            answers = fits.load_run(name, run)(inputs).argmax(dim=1).numpy()
        # weights were rounded when they were written
        assert card["held_back_accuracy"] == pytest.approx(float((answers == labels).mean()), abs=0.01)


@pytest.mark.data
@pytest.mark.filterwarnings("ignore::xbarsim.network.NotMappedWarning")  # embeddings are digital look-ups
def test_an_ideal_chip_of_a_stored_network_of_stories_is_its_quantised_network() -> None:
    try:
        inputs, _ = fits.judges(fits.ARMS["rliaf-babi1"], 0)
    except FileNotFoundError as error:
        pytest.skip(str(error))
    network = script.mapped("rliaf-babi1", 0, 8)
    assert torch.equal(network.fabricate(seed=1)(inputs[:20]), network.digital(inputs[:20]))


@pytest.mark.data
@pytest.mark.parametrize("stories", fits.BABI.values())
def test_shapes_of_stories_are_those_of_the_data(stories: fits.Stories) -> None:
    try:
        parts = [load_babi(split, task=stories.task) for split in ("train", "test")]
    except FileNotFoundError as error:
        pytest.skip(str(error))
    assert (stories.vocabulary, stories.answers) == (len(parts[0].vocabulary), len(parts[0].answers))
    assert stories.words == max(part.sentences().shape[2] for part in parts)


def test_shipped_networks_are_small_and_as_many_as_the_tables_say() -> None:
    files = sorted(path.name for path in fits.FOLDER.glob("*.safetensors"))
    assert files == sorted(f"{name}-{run}.safetensors" for name, arm in fits.ARMS.items() for run in range(arm.runs))
    assert sum(path.stat().st_size for path in fits.FOLDER.iterdir()) < 2_500_000


def test_recurrent_networks_have_as_many_parameters_as_each_other() -> None:
    for data in {arm.data for arm in fits.ARMS.values()} - {"N-MNIST"}:
        counts = [row.parameters for row in shipped(script.Accuracy, "liaf2021.csv") if row.task == data]
        assert len(counts) == 4
        assert max(counts) / min(counts) < 1.02
