"""Progress without a terminal: a line now and then, and nothing for what is quick."""

from __future__ import annotations

import pytest

from xbarsim.foundation import progress
from xbarsim.foundation.progress import progress_bar


class Clock:
    """A clock that a test moves."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(progress, "time", made)
    return made


def test_lines_are_written_now_and_then(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("dies") as bar:
        whole = bar.add_task("all tasks", total=200)
        one = bar.add_task("one of them", total=None)
        for _ in range(100):
            clock.now += 1.0
            bar.advance(whole)
            bar.update(one, completed=3)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines() == [
        "all tasks: 30 of 200 dies, 30 s, about 170 s left",
        "all tasks: 60 of 200 dies, 60 s, about 140 s left",
        "all tasks: 90 of 200 dies, 90 s, about 110 s left",
    ]


def test_what_is_quick_or_not_to_be_shown_writes_nothing(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    for shown, seconds in ((None, 29.0), (False, 1000.0)):
        with progress_bar("images", shown) as bar:
            task = bar.add_task("evaluation", total=10)
            clock.now += seconds
            bar.advance(task, 10)
        assert bar.hidden is (shown is False)
    captured = capsys.readouterr()
    assert captured.out + captured.err == ""


def test_a_line_needs_no_total(clock: Clock, capsys: pytest.CaptureFixture[str]) -> None:
    with progress_bar("dies") as bar:
        task = bar.add_task("all tasks", total=None)
        clock.now += 31.0
        bar.advance(task, 5)
    assert capsys.readouterr().err == "all tasks: 5 dies, 31 s\n"
