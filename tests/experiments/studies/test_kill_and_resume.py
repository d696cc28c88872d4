"""Kills and clusters: the script that does it at length, here in short."""

from __future__ import annotations

from pathlib import Path

import pytest

from xbarsim.experiments.studies import kill_and_resume as script
from xbarsim.sweep.store import Store


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[tuple[str, int], tuple[object, ...]]]:
    """A sweep file, and its table without disturbance."""
    folder = tmp_path_factory.mktemp("sweep")
    file = folder / "sweep.toml"
    file.write_text(script.sweep_text(dies=40))
    script._finish(file, folder / "undisturbed.sqlite", "--workers", "2")
    table, rows = script._table(folder / "undisturbed.sqlite")
    assert rows == len(table) == 160
    return file, table


def test_kills(sweep: tuple[Path, dict[tuple[str, int], tuple[object, ...]]], tmp_path: Path) -> None:
    outcome = script.check_kills(tmp_path, sweep[1], sweep[0], kills=3, seed=1)
    assert outcome.good, outcome
    assert outcome.kills_running > 0


def test_dask_with_a_killed_worker(
    sweep: tuple[Path, dict[tuple[str, int], tuple[object, ...]]], tmp_path: Path
) -> None:
    pytest.importorskip("distributed")
    outcome = script.check_dask(tmp_path, sweep[1], sweep[0])
    assert outcome.good, outcome
    assert outcome.kills_running == 1


def test_what_is_wrong_is_seen(sweep: tuple[Path, dict[tuple[str, int], tuple[object, ...]]], tmp_path: Path) -> None:
    """The comparison finds a lost die, and one with another answer."""
    file, table = sweep
    store = tmp_path / "s.sqlite"
    with Store(store) as kept:
        kept.merge([file.parent / "undisturbed.sqlite"])
        kept._connection.execute("DELETE FROM blocks WHERE die = 39 AND task = (SELECT min(task) FROM blocks)")
        kept._connection.execute("UPDATE blocks SET correct = correct + 1 WHERE die = 3")
    outcome = script._compare("spoilt", store, table, seen=set())
    assert not outcome.good
    assert (outcome.lost, outcome.different) == (1, 4)
