"""Whether tests see that a line of code has changed: some changes, drawn at random, and which of them nothing noticed.

``make mutants``, or ``python -m xbarsim.experiments.studies.mutants [--room cost] [--sample 20] [--seed 1]``

Copies the repository, and in the copy changes one thing of one file at a time (an operator, a number, a comparison, a
decorator; by cosmic-ray), runs the tests of the room, and puts the file back. What lives is printed as a difference: a
test is missing, or the line decides nothing. Takes the time of the tests of a room for each change; nothing is written
but what is printed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import check_choice

__all__ = ["ROOMS", "Mutant", "main", "try_mutants"]

ROOMS: dict[str, tuple[str, ...]] = {
    "engine": ("tests/engine",),
    "mapping": ("tests/mapping", "tests/network/test_use.py"),
    "die": ("tests/die", "tests/network/test_chip.py"),
    "sweep": ("tests/sweep",),
    "cost": ("tests/cost", "tests/network/test_use.py", "tests/network/test_activity.py"),
    "mitigation": ("tests/mitigation",),
    "circuit": ("tests/circuit",),
}
"""Rooms, and the tests that ought to see what changes in them."""

_LEFT_ALONE = ("ReplaceBinaryOperator_BitOr",)  # of types, nearly all
_TIMES = 4  # of the undisturbed tests: a change that makes them hang is seen, too


@dataclass(frozen=True)
class Mutant:
    """A change, and what became of it.

    Attributes
    ----------
    file
        Where it was made.
    outcome
        ``"killed"``, ``"survived"`` or ``"incompetent"``: the tests could not even begin, or took too long.
    difference
        What was changed.
    """

    file: str
    outcome: str
    difference: str


def _copy(root: Path, folder: Path) -> Path:
    """What git knows of the repository, links as links."""
    names = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
    ).stdout.split("\0")
    for name in filter(None, names):
        source, target = root / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(source, target, follow_symlinks=False)
    return folder


def _files(root: Path, room: str) -> list[Path]:
    folder = root / "xbarsim" / room
    return sorted(path for path in folder.resolve().rglob("*.py") if path.name != "__init__.py")


def try_mutants(root: Path, room: str, *, sample: int, seed: int, report: Any = print) -> list[Mutant]:
    """Change a copy of the repository in so many places, one after the other, and run the tests of the room.

    Parameters
    ----------
    root
        The repository.
    room
        One of :data:`ROOMS`.
    sample
        How many changes, drawn evenly from all there could be.
    seed
        Of the draw.
    report
        Told of every change.

    Raises
    ------
    RuntimeError
        If the tests fail without any change.
    """
    tests = ROOMS[check_choice("room", room, ROOMS)]
    try:
        from cosmic_ray.commands import init
        from cosmic_ray.mutating import mutate_and_test
        from cosmic_ray.work_db import WorkDB, use_db
    except ImportError as error:
        raise ImportError("changes are made by cosmic-ray: pip install 'xbarsim[mutants]'") from error

    command = f"{sys.executable} -m pytest -q -x -p no:cacheprovider --import-mode=importlib {' '.join(tests)}"
    found: list[Mutant] = []
    with tempfile.TemporaryDirectory(prefix="xbarsim-mutants-") as name:
        folder = _copy(root, Path(name) / "copy")
        here, before = Path.cwd(), os.environ.get("PYTHONPATH")
        os.chdir(folder)
        os.environ["PYTHONPATH"] = str(folder)  # the copy, not what is installed
        try:
            start = time.monotonic()
            plain = subprocess.run(command.split(), capture_output=True, text=True, check=False)
            if plain.returncode:
                raise RuntimeError(f"the tests of {room} fail without any change: {plain.stdout[-2000:]}")
            timeout = 60 + _TIMES * (time.monotonic() - start)
            with use_db(str(Path(name) / "changes.sqlite"), WorkDB.Mode.create) as database:
                init(_files(folder, room), database, {})
                items = [
                    item
                    for item in database.work_items
                    if not item.mutations[0].operator_name.rpartition("/")[2].startswith(_LEFT_ALONE)
                ]
            drawn = np.random.default_rng(seed).choice(len(items), min(sample, len(items)), replace=False)
            chosen = [items[index] for index in drawn]
            report(f"{room}: {len(chosen)} of {len(items):,} changes, {time.monotonic() - start:.0f} s for the tests")
            for number, item in enumerate(chosen, start=1):
                result = mutate_and_test(item.mutations, command, timeout)
                file = str(item.mutations[0].module_path.relative_to(folder))
                outcome = str(getattr(result.test_outcome, "value", result.worker_outcome.value))
                found.append(Mutant(file=file, outcome=outcome, difference=result.diff or ""))
                report(f"{room} {number} of {len(chosen)}: {file}: {outcome}")
                if outcome == "survived":
                    report(result.diff)
        finally:
            os.chdir(here)
            if before is None:
                del os.environ["PYTHONPATH"]
            else:
                os.environ["PYTHONPATH"] = before
    return found


def main(
    room: Annotated[list[str] | None, typer.Option(help="Rooms; all if not given.")] = None,
    sample: Annotated[int, typer.Option(help="Changes of each room.", min=1)] = 20,
    seed: Annotated[int, typer.Option(help="Of the draw.")] = 1,
) -> None:
    """Change the code here and there, and print which changes no test notices."""
    root = Path(__file__).resolve().parents[2]
    rows = []
    for each in room or ROOMS:
        found = try_mutants(root, each, sample=sample, seed=seed, report=typer.echo)
        outcomes = [mutant.outcome for mutant in found]
        rows.append((each, len(found), *(outcomes.count(kind) for kind in ("killed", "incompetent", "survived"))))
    typer.echo(format_table(("room", "changes", "killed", "cannot run", "survived"), rows))


if __name__ == "__main__":
    typer.run(main)
