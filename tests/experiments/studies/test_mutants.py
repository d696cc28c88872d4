"""The study of changed code: what it copies, and what it tries; a change itself is tried by the command."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from xbarsim.experiments.studies import mutants as script
from xbarsim.foundation.validation import InputError

ROOT = Path(__file__).resolve().parents[3]


def test_rooms_have_files_and_tests() -> None:
    for room, tests in script.ROOMS.items():
        assert script._files(ROOT, room), room
        assert all((ROOT / each).exists() for each in tests), room


def test_a_copy_holds_links_as_links_and_nothing_that_is_ignored(tmp_path: Path) -> None:
    root = tmp_path / "root"
    (root / "rooms").mkdir(parents=True)
    (root / "rooms" / "a.py").write_text("a = 1\n")
    (root / "link").symlink_to("rooms")
    (root / ".gitignore").write_text("*.log\n")
    (root / "run.log").write_text("x")
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    folder = script._copy(root, tmp_path / "copy")
    assert (folder / "link").is_symlink()
    assert (folder / "link" / "a.py").read_text() == "a = 1\n"
    assert not (folder / "run.log").exists()


def test_other_rooms_are_refused() -> None:
    with pytest.raises(InputError, match="room must be one of"):
        script.try_mutants(ROOT, "kitchen", sample=1, seed=1)
