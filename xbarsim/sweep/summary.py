"""The summary of a sweep as people read it: what tells the tasks apart, and mean accuracies with their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["summary_cells"]

_TELLING = ("network", "encoding", "fault_model", "fault_rate", "mitigation", "age", "seed")


def summary_cells(
    rows: Sequence[Mapping[str, Any]], tags: Sequence[str], target: float | None
) -> tuple[list[str], list[list[str]], int]:
    """A table with one row a task.

    Parameters
    ----------
    rows
        As :meth:`xbarsim.sweep.Results.summary` gives them, with the yield where there is a target.
    tags
        Names of the tasks' tags.
    target
        Accuracy from which a die is good.

    Returns
    -------
    tuple
        Names of the columns, the cells as text, and how many columns, from the first, are no numbers.
    """
    shown = [*tags]
    for name in _TELLING:
        values = [str(row[name]) for row in rows]
        if any(values == [str(row[tag]) for row in rows] for tag in tags):
            continue  # a tag says it already
        if name == "fault_rate" or len(set(values)) > 1 or (name == "network" and not tags):
            shown.append(name)
    failed = any(row["failed"] for row in rows)
    header = [*(name.replace("_", " ") for name in shown), "dies", *(["failed"] if failed else [])]
    header += ["accuracy (%)", "95 % interval"]
    if target is not None:
        header.append(f"yield (%) at {100 * target:g} %")
    cells = []
    for row in rows:
        low, high = row["accuracy_low"], row["accuracy_high"]
        line = [f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in shown]
        line += [
            f"{row['dies']}{'' if row['complete'] else ' so far'}",
            *([str(row["failed"])] if failed else []),
            "" if row["accuracy_mean"] is None else f"{100 * row['accuracy_mean']:.2f}",
            "" if low is None else f"{100 * low:.2f} to {100 * high:.2f}",
        ]
        if target is not None:
            share = [row[name] for name in ("yield", "yield_low", "yield_high")]
            line.append("" if None in share else "{:.1f} ({:.1f} to {:.1f})".format(*(100 * end for end in share)))
        cells.append(line)
    return header, cells, len(shown)
