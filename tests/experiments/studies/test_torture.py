"""What happens to processes, here in short: the script does it at length (``make torture``)."""

from __future__ import annotations

import dataclasses
import signal
from pathlib import Path
from typing import Any

import pytest

from xbarsim.experiments.studies import torture as script
from xbarsim.sweep.schema import seal
from xbarsim.sweep.store import Store

pytestmark = pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")


@pytest.fixture(scope="module")
def arena(tmp_path_factory: pytest.TempPathFactory) -> script.Arena:
    """A sweep, and its table without disturbance."""
    return script.Arena.make(tmp_path_factory.mktemp("torture"), dies=12, images=40, seed=1, report=print)


def test_nothing_is_lost_or_changed_by_kills(arena: script.Arena) -> None:
    """One of a coordinator, two of workers, and a stop."""
    for outcome in (
        script.kill_coordinators(arena, signal.SIGKILL, kills=1),
        script.disturb_workers(arena, kills=2, stops=1),
    ):
        assert outcome.good, outcome
        assert outcome.done >= 1


def test_a_full_disk_and_a_clock_that_jumps(arena: script.Arena) -> None:
    for outcome in (script.full_disk(arena), script.jumping_clock(arena)):
        assert outcome.good, outcome


def test_stores_that_are_spoilt_give_no_other_error(arena: script.Arena) -> None:
    outcome = script.bad_files(arena, count=60)
    assert outcome.good, outcome


def test_what_is_wrong_is_seen(arena: script.Arena, tmp_path: Path) -> None:
    """The comparison finds a lost die, and one with another answer."""
    store = tmp_path / "s.sqlite"
    with Store(store) as kept:
        kept.merge([arena.folder / "undisturbed.sqlite"])
        kept._connection.execute("DELETE FROM blocks WHERE die = 11 AND task = (SELECT min(task) FROM blocks)")
        kept._connection.execute("UPDATE blocks SET correct = correct - 1 WHERE die = 3")
        seal(kept._connection)  # with checksums of its own: a change without is refused
    outcome = arena.compare("spoilt", store, seen=set(), done=1)
    assert not outcome.good
    assert (outcome.lost, outcome.different) == (1, 6)
    fine = script.Outcome(name="fine", done=1, dies=1)
    assert fine.good
    for wrong in ("lost", "twice", "different", "orphans", "odd"):
        changes: dict[str, Any] = {wrong: 1}
        assert not dataclasses.replace(fine, **changes).good
