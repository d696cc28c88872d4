"""What the reproduction of a paper promises."""

from __future__ import annotations

import contextlib
import csv
import inspect
import re
import tempfile
from pathlib import Path
from types import ModuleType
from typing import Any

from xbarsim.foundation.entrances import entrance
from xbarsim.foundation.validation import check_instance
from xbarsim.testing.promises import call, promise

__all__ = ["check_paper"]

_IDENTIFIER = re.compile(r"\b10\.\d{4,9}/\w|\barXiv:\d{4}\.\d{4,5}")


@entrance
def check_paper(module: ModuleType, **quick: Any) -> None:
    """Check that a module reproduces a paper as those in ``xbarsim.experiments.papers`` do.

    Its docstring must cite the paper, with a digital object identifier or a number of arXiv. It must have a function
    ``main`` that runs without arguments and takes the folder to write to as `output`; and writes a table (``.csv``)
    there, the same in every run, makes the folder where there is none, and leaves alone the folder that it writes to
    by default, and the working folder.

    Parameters
    ----------
    module
        The module.
    **quick
        Arguments of ``main`` that make it short: few images, few dies. They also say where it may keep other files,
        such as a store.

    Raises
    ------
    AssertionError
        Naming the first promise that is broken.
    """
    check_instance("module", module, ModuleType)
    name = module.__name__
    promise(
        _IDENTIFIER.search(module.__doc__ or ""),
        f"the docstring of {name} must cite the paper, with a digital object identifier or a number of arXiv",
        "there is none",
    )
    main = getattr(module, "main", None)
    promise(inspect.isfunction(main), f"{name} must have a function main", f"it is {main!r}")
    assert main is not None
    parameters = inspect.signature(main).parameters
    promise("output" in parameters, "main must take the folder to write to as output", f"it takes {list(parameters)}")
    needed = [one.name for one in parameters.values() if one.default is inspect.Parameter.empty]
    promise(not needed, "main must run without arguments", f"it needs {', '.join(needed)}")
    default = Path(parameters["output"].default)
    before = _files(default) if default.is_absolute() else {}
    tables = []
    with tempfile.TemporaryDirectory() as place, contextlib.chdir(place):
        for run in ("first", "second"):
            output = Path(place) / "made" / run
            call("main", lambda output=output: main(output=output, **quick))
            left = sorted(path.name for path in Path(place).iterdir() if path.name != "made")
            promise(not left, "main must write into output, and nothing into the working folder", f"it left {left}")
            tables.append({path.name: path.read_bytes() for path in output.glob("*.csv")} if output.is_dir() else {})
            promise(tables[-1], "main must write a table (.csv) into output", f"it left {list(_files(output))}")
            for path in output.glob("*.csv"):
                with path.open(newline="") as file:
                    rows = sum(1 for _ in csv.DictReader(file))
                promise(rows, "a table must have rows", f"{path.name} has none")
    promise(tables[0] == tables[1], "main must write the same table in every run", f"{list(tables[0])} differ")
    if default.is_absolute():
        after = _files(default)
        changed = sorted(str(path) for path in set(before) | set(after) if before.get(path) != after.get(path))
        promise(not changed, "main must leave alone the folder that it writes to by default", f"it changed {changed}")


def _files(folder: Path) -> dict[Path, tuple[int, int]]:
    """The files in a folder, with what changes where one is written."""
    return {
        path.relative_to(folder): (path.stat().st_mtime_ns, path.stat().st_size)
        for path in folder.rglob("*")
        if path.is_file()
    }
