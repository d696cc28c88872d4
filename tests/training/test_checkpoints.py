"""Checkpoints: a killed run ends like one that was not, and what belongs to another training is refused."""

from __future__ import annotations

import math
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.training.squares import QUICK, Killed, Wandering, data, network, same
from xbarsim.foundation.validation import FileFormatError, InputError
from xbarsim.models.weights import read_weights, write_safetensors
from xbarsim.training import Callback, Training, TrainingSet, train


@pytest.mark.parametrize("middle", [False, True])
@pytest.mark.parametrize(
    "changes",
    [
        {"augmentation": "crop-flip", "channels_last": True},
        {"optimiser": "adamw", "learning_rate": 0.01, "augmentation": "affine", "precision": "bfloat16"},
        {"momentum": 0.0, "schedule": "step", "milestones": (2,), "augmentation": "shift"},
        {"optimiser": "adam", "learning_rate": 0.01, "select": "best", "warm_up": 1.5},
    ],
    ids=str,
)
def test_a_killed_run_ends_like_one_that_was_not(tmp_path: Path, changes: dict[str, Any], middle: bool) -> None:
    training = Training(**{"epochs": 5, "batch": 16, "learning_rate": 0.05, "device": "cpu", "seed": 3, **changes})
    whole = network()
    torch.manual_seed(11)
    history = train(whole, data(), training, callbacks=[Wandering()])
    path = tmp_path / "run.safetensors"
    for stop in (0, 1, 1, 3):
        torch.manual_seed(stop)
        with pytest.raises(Killed):
            train(network(), data(), training, callbacks=[Wandering(stop, middle)], checkpoint=path)
        assert path.exists() == (stop > 0)
    resumed = network()
    assert train(resumed, data(), training, callbacks=[Wandering()], checkpoint=path) == history
    assert same(resumed, whole)
    assert not resumed.training
    # what has ended is only read again
    content, again = path.read_bytes(), network()
    assert train(again, data(), training, callbacks=[Wandering(0)], checkpoint=path) == history
    assert same(again, whole)
    assert path.read_bytes() == content
    assert [item.name for item in tmp_path.iterdir()] == ["run.safetensors"]


def test_a_process_that_dies_leaves_a_checkpoint_to_go_on_from(tmp_path: Path) -> None:
    code = """
        import os, signal, sys, torch
        sys.path.insert(0, sys.argv[1])
        from tests.training.squares import QUICK, Callback, data, network
        from xbarsim.training import train
        class Die(Callback):
            def settings(self):
                return "Callback"
            def begin_epoch(self, epoch):
                self.epoch = epoch
            def before_step(self):
                if self.epoch == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
        torch.set_num_threads(int(sys.argv[3]))
        train(network(), data(), QUICK, callbacks=[Die()], checkpoint=sys.argv[2])
    """
    path = tmp_path / "run.safetensors"
    root = Path(__file__).resolve().parents[2]
    threads = str(torch.get_num_threads())
    answer = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(root), str(path), threads],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "OMP_NUM_THREADS": threads},
    )
    assert answer.returncode == -signal.SIGKILL, answer.stderr
    resumed, whole = network(), network()
    history = train(resumed, data(), QUICK, callbacks=[Callback()], checkpoint=path)
    assert train(whole, data(), QUICK, callbacks=[Callback()]) == history
    assert same(resumed, whole)


def other_data() -> TrainingSet:
    return data(seed=2)


@pytest.mark.parametrize(
    ("model", "part", "changes", "callbacks", "message"),
    [
        (network, data, {"learning_rate": 0.06}, [], r"another training: .*learning_rate = 0.05.* instead of .*0.06"),
        (network, data, {"epochs": 5}, [], "another training: epochs = 4 instead of epochs = 5"),
        (network, data, {"seed": 4}, [], "another training: seed = 3 instead of seed = 4"),
        (lambda: network(seed=1), data, {}, [], "another model: Sequential with initial weights of sha256"),
        (lambda: nn.Sequential(nn.Flatten(), nn.Linear(64, 4)), data, {}, [], "another model"),
        (network, other_data, {}, [], "another data: squares, 96 images and 32 for validation"),
        (network, data, {}, [Wandering()], "another callbacks: nothing instead of Wandering"),
    ],
    ids=["rate", "epochs", "seed", "weights", "network", "data", "callbacks"],
)
def test_a_checkpoint_of_something_else_is_refused(
    tmp_path: Path,
    model: Callable[[], nn.Module],
    part: Callable[[], TrainingSet],
    changes: dict[str, Any],
    callbacks: list[Callback],
    message: str,
) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), data(), QUICK, checkpoint=path)
    content = path.read_bytes()
    given_model = model()
    before = {name: item.clone() for name, item in given_model.state_dict().items()}
    settings_ = {name: getattr(QUICK, name) for name in Training.__dataclass_fields__}
    with pytest.raises(InputError, match=f"checkpoint must belong to this training, but .*{message}"):
        train(given_model, part(), Training(**{**settings_, **changes}), callbacks=callbacks, checkpoint=path)
    assert path.read_bytes() == content
    assert all(torch.equal(item, before[name]) for name, item in given_model.state_dict().items())


def test_corrupt_checkpoints_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), data(), QUICK, checkpoint=path)
    content = path.read_bytes()
    for keep in (0, 7, 100, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:keep])
        with pytest.raises(FileFormatError, match=r"run\.safetensors is not a valid safetensors file"):
            train(network(), data(), QUICK, checkpoint=path)
    header = 8 + int.from_bytes(content[:8], "little")
    for position in (header + 1, (header + len(content)) // 2, len(content) - 1):
        raw = bytearray(content)
        raw[position] ^= 0x10
        path.write_bytes(raw)
        with pytest.raises(FileFormatError, match=r"run\.safetensors is corrupt"):
            train(network(), data(), QUICK, checkpoint=path)
    write_safetensors(path, network().state_dict(), about={"network": "Sequential"})
    with pytest.raises(FileFormatError, match="is not a checkpoint of a training"):
        train(network(), data(), QUICK, checkpoint=path)
    path.unlink()
    path.mkdir()
    with pytest.raises(FileFormatError, match="cannot read"):
        train(network(), data(), QUICK, checkpoint=path)


def test_folder_of_a_checkpoint_must_exist(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"checkpoint must be in a folder that exists, got .*absent"):
        train(network(), data(), QUICK, checkpoint=tmp_path / "absent" / "run.safetensors")


def test_divergence_is_an_error_and_keeps_the_last_checkpoint(tmp_path: Path) -> None:
    class Explode(Callback):
        def __init__(self, when: int) -> None:
            self.when = when

        def begin_epoch(self, epoch: int) -> None:
            self.factor = math.inf if epoch == self.when else 0.0

        def penalty(self) -> torch.Tensor:
            return torch.tensor(self.factor)

    path = tmp_path / "run.safetensors"
    model = network()
    with pytest.raises(FloatingPointError, match=r"not finite in epoch 3 of 4: learning_rate 0\.05"):
        train(model, data(), QUICK, callbacks=[Explode(2)], checkpoint=path)
    assert not model.training
    history = train(network(), data(), QUICK, callbacks=[Explode(99)], checkpoint=path)
    assert all(map(math.isfinite, history.loss))
    with pytest.raises(FloatingPointError, match="epoch 1 of 3"):
        train(network(), data(), Training(epochs=3, batch=16, learning_rate=1e30, device="cpu"))


def test_something_must_be_trainable() -> None:
    for model in (nn.Flatten(), network().requires_grad_(False)):
        with pytest.raises(InputError, match="model must have parameters to train"):
            train(model, data(), QUICK)
    for arguments in ((None, data(), QUICK), (network(), None, QUICK), (network(), data(), None)):
        with pytest.raises(InputError, match=r"(model|data|training) must be of type"):
            train(*arguments)


def test_a_checkpoint_of_the_first_version_is_taken_up() -> None:
    """Written before its training was finished, by code that is gone; see tests/reference."""
    import safetensors.torch

    from tests.reference.checkpoint_reference import STEM, pieces
    from xbarsim import compress, training

    network, part, settings_, method = pieces(compress, training)

    class Stop(Callback):
        def settings(self) -> str:
            return "Stop"

        def begin_epoch(self, epoch: int) -> None:
            assert epoch >= 2  # the first two epochs are those of the file

    model = network()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(shutil.copy(f"{STEM}.safetensors", folder))
        history = train(model, part, settings_, callbacks=(method(), Stop()), checkpoint=path)
    assert len(history.loss) == 4
    ended = safetensors.torch.load_file(f"{STEM}_end.safetensors")
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(tensor, ended[name], rtol=1e-4, atol=1e-5)  # other machines round otherwise
        assert torch.equal(tensor == 0, ended[name] == 0)


def _without(name: str) -> Callable[[dict[str, torch.Tensor]], None]:
    def remove(tensors: dict[str, torch.Tensor]) -> None:
        del tensors[name]

    return remove


def _put(name: str, make: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[dict[str, torch.Tensor]], None]:
    return lambda tensors: tensors.update({name: make(tensors[name])})


@pytest.mark.parametrize(
    "lie",
    [
        _without("model/0.weight"),
        _put("model/0.weight", lambda tensor: tensor[:3]),
        _put("model/0.weight", lambda tensor: tensor.double()),
        _put("random/order", lambda tensor: tensor[:10]),
        _put("random/order", lambda _: torch.Generator().manual_seed(5).get_state()),
        _put("random/cpu", lambda _: torch.Generator().manual_seed(5).get_state()),
        _put("history", lambda tensor: torch.cat([tensor] * 9)),
        _put("history", lambda tensor: tensor[:0]),
        _put("history", lambda tensor: tensor * math.nan),
        _put("history", lambda tensor: tensor + 1),
        _put("history", lambda tensor: tensor[:, :4]),
        _put("selected", lambda tensor: tensor + 1),
        _put("selected", lambda tensor: tensor - 1),
        _put("optimiser/0.weight/momentum_buffer", lambda tensor: tensor[:3]),
        lambda tensors: [tensors.pop(name) for name in list(tensors) if name.startswith("optimiser/")].clear(),
        lambda tensors: tensors.update({"optimiser/other/momentum_buffer": torch.zeros(3)}),
        lambda tensors: tensors.update({"best/0.weight": torch.zeros(3)}),
        lambda tensors: tensors.update({"model/other": torch.zeros(3)}),
    ],
)
def test_a_checkpoint_that_lies_is_refused(tmp_path: Path, lie: Callable[[dict[str, torch.Tensor]], None]) -> None:
    path = tmp_path / "run.safetensors"

    class Stop(Exception):
        pass

    class Half(Callback):
        def begin_epoch(self, epoch: int) -> None:
            if epoch == 2:
                raise Stop

    with pytest.raises(Stop):
        train(network(), data(), QUICK, callbacks=[Half()], checkpoint=path)
    tensors, about = read_weights(path)
    lie(tensors)
    write_safetensors(path, tensors, about=about)
    with pytest.raises(FileFormatError, match=r"run\.safetensors"):
        train(network(), data(), QUICK, callbacks=[Half()], checkpoint=path)


@pytest.mark.parametrize("threads", [1, 2])
def test_a_run_that_goes_on_with_its_threads_ends_with_the_same_bits(tmp_path: Path, threads: int) -> None:
    before, path = torch.get_num_threads(), tmp_path / "run.safetensors"
    torch.set_num_threads(threads)
    try:
        whole, resumed = network(), network()
        history = train(whole, data(), QUICK, callbacks=[Wandering()])
        with pytest.raises(Killed):
            train(network(), data(), QUICK, callbacks=[Wandering(1)], checkpoint=path)
        assert train(resumed, data(), QUICK, callbacks=[Wandering()], checkpoint=path) == history
        assert same(resumed, whole)
    finally:
        torch.set_num_threads(before)


def test_a_training_goes_on_with_as_many_threads_as_it_began_with(tmp_path: Path) -> None:
    path = tmp_path / "run.safetensors"
    train(network(), data(), QUICK, checkpoint=path)
    ended = train(network(), data(), QUICK, checkpoint=path)
    tensors, about = read_weights(path)
    assert about["threads"] == str(torch.get_num_threads())
    write_safetensors(path, tensors, about={**about, "threads": "77"})
    assert train(network(), data(), QUICK, checkpoint=path) == ended  # nothing is left to do
    tensors["history"], tensors["selected"] = tensors["history"][:2], torch.tensor(1)
    write_safetensors(path, tensors, about={**about, "threads": "77"})
    with pytest.raises(InputError, match=r"threads must be 77, with which .*run\.safetensors was begun"):
        train(network(), data(), QUICK, checkpoint=path)
    del about["threads"]  # a file of before
    write_safetensors(path, tensors, about=about)
    assert len(train(network(), data(), QUICK, checkpoint=path).loss) == 4
