"""The study of changed code: what it copies, what it tries, and that it tells what tests see from what they do not."""

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


def test_a_change_that_no_test_sees_survives_and_any_other_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("cosmic_ray", reason="changes are made by cosmic-ray, an extra of its own")
    root = tmp_path / "root"
    (root / "xbarsim" / "kitchen").mkdir(parents=True)
    (root / "xbarsim" / "kitchen" / "sums.py").write_text("SEEN = 3\nUNSEEN = 5\n")
    (root / "test_sums.py").write_text(
        "from pathlib import Path\n\n\ndef test_seen():\n    names = {}\n"
        "    exec(Path('xbarsim/kitchen/sums.py').read_text(), names)\n    assert names['SEEN'] == 3\n"
    )
    subprocess.run(["git", "init", "-q"], cwd=root, check=True)
    monkeypatch.setitem(script.ROOMS, "kitchen", ("test_sums.py",))
    before = Path.cwd()
    found = script.try_mutants(root, "kitchen", sample=100, seed=1, report=lambda text: None)
    assert Path.cwd() == before
    assert (root / "xbarsim" / "kitchen" / "sums.py").read_text() == "SEEN = 3\nUNSEEN = 5\n"
    assert {mutant.file for mutant in found} == {"xbarsim/kitchen/sums.py"}
    for mutant in found:
        assert mutant.outcome == ("survived" if "-UNSEEN" in mutant.difference else "killed")
    assert {mutant.outcome for mutant in found} == {"survived", "killed"}
