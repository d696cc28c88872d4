"""What is remembered of stored networks, and that a finished sweep loads and maps nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from tests.sweep.subjects import DESIGN
from xbarsim import models
from xbarsim.foundation.validation import InputError
from xbarsim.models import MODELS
from xbarsim.sweep import Dies, InProcess, Task, collect, collecting, identity, task
from xbarsim.sweep.identity import remembered

KNOWN = {name: f"{name} of it" for name in ("name", "data_set", "network", "images", "labels", "calibration")}


IS_OF_THE_PROJECT = identity._is_of_the_project


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(identity, "_is_of_the_project", lambda network: True)
    return tmp_path / "cache" / "xbarsim" / "identities.json"


class Loading:
    """Counts how often it is asked."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> dict[str, str]:
        self.count += 1
        return KNOWN


def test_an_identity_is_found_out_once_for_each_network_and_number_of_images() -> None:
    load = Loading()
    for _ in range(3):
        assert remembered("net", None, 10, 20, load) == KNOWN
    assert load.count == 1
    others: tuple[tuple[str, str | None, int | None, int], ...] = (
        ("other", None, 10, 20),
        ("net", "set", 10, 20),
        ("net", None, None, 20),
        ("net", None, 10, 21),
    )
    for name, data_set, images, calibration in others:
        remembered(name, data_set, images, calibration, load)
    assert load.count == 5


def test_an_identity_is_found_out_again_when_a_file_has_changed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "_PACKAGE", tmp_path / "package")
    monkeypatch.setenv("XBARSIM_DATA", str(tmp_path / "data"))
    code, data = tmp_path / "package" / "models" / "net.py", tmp_path / "data" / "set" / "images.npz"
    for path in (code, data):
        path.parent.mkdir(parents=True)
        path.write_text("as it was")
    load = Loading()

    def ask() -> int:
        identity._fingerprint.cache_clear()
        remembered("net", None, 10, 20, load)
        return load.count

    try:
        assert [ask(), ask()] == [1, 1]
        for path, count in ((code, 2), (data, 3)):
            path.write_text("another")
            assert [ask(), ask()] == [count, count]
        (data.parent / "more.npz").touch()
        assert ask() == 4
    finally:
        identity._fingerprint.cache_clear()


@pytest.mark.parametrize(
    "content", ["", "{", "[1]", json.dumps({"a": 1}), "\x00", json.dumps({"a": {**KNOWN, "name": 3}}), "[" * 10**5]
)
def test_a_file_of_identities_that_is_broken_counts_as_none(cache: Path, content: str) -> None:
    cache.parent.mkdir(parents=True)
    cache.write_text(content)
    load = Loading()
    for _ in range(2):
        assert remembered("net", None, 10, 20, load) == KNOWN
    assert load.count == 1


def test_a_folder_that_takes_no_file_costs_time_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    load = Loading()
    for count in (1, 2):
        assert remembered("net", None, 10, 20, load) == KNOWN
        assert load.count == count


def test_code_and_files_of_a_user_are_never_remembered(cache: Path) -> None:
    load = Loading()
    for count, name in enumerate(("nets:made", "nets.py:made", "net.onnx", "net.onnx"), 1):
        remembered(name, None, 10, 20, load)
        assert load.count == count
    assert not cache.exists()


def test_a_network_that_a_user_has_named_is_never_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(identity, "_is_of_the_project", IS_OF_THE_PROJECT)
    own = replace(MODELS["digits"], load=lambda: nn.Identity())
    monkeypatch.setattr(models, "MODELS", {"mine": own, "digits": MODELS["digits"]})
    load = Loading()
    for count, name in enumerate(("mine", "mine", "digits", "absent", "absent"), 1):
        remembered(name, None, 10, 20, load)
        assert load.count == count
    remembered("digits", None, 10, 20, load)
    assert load.count == 5


def test_a_finished_sweep_loads_no_network_and_starts_no_worker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made() -> Task:
        return Task(network="digits", design=DESIGN, images=20, calibration=16)

    store = tmp_path / "dies.sqlite"
    first = collect([made()], stop=Dies(count=2), store=store, executor=InProcess())

    def refuse(*_: Any, **__: Any) -> Any:
        raise AssertionError("nothing is to be loaded, mapped or started")

    for module, name in ((task, "load_subject"), (collecting, "LocalProcesses"), (collecting, "make_bench")):
        monkeypatch.setattr(module, name, refuse)
    again = collect([made()], stop=Dies(count=2), store=store, workers=1)
    assert again == first
    with pytest.raises(AssertionError, match="nothing is to be loaded"):
        collect([made()], stop=Dies(count=3), store=store, workers=1)
    with pytest.raises(InputError, match="workers must be an integer >= 1, got 0"):
        collect([made()], stop=Dies(count=2), store=store, workers=0)
