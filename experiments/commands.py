"""Commands of the command line for sweeps: ``sweep``, ``show``, ``merge``, ``export``, ``plot``, ``report``.

Nothing heavy is loaded before a command needs it. What these functions raise becomes one line and an exit code in
``xbarsim.cli``, which finds them in `COMMANDS`.
"""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarsim.foundation.validation import FileFormatError, InputError, check_integer, check_real

if TYPE_CHECKING:
    from rich.table import Table

    from xbarsim.sweep.results import Results, TaskResult
    from xbarsim.sweep.task import Task

__all__ = ["COMMANDS"]

_FAILED, _INTERRUPTED = 5, 130

_Store = Annotated[Path, typer.Argument(help="Store that 'xbarsim sweep' wrote.")]


def _say(text: str) -> None:
    typer.echo(text, err=True)


def _shard(text: str | None) -> tuple[int, int] | None:
    """``"i/n"`` with i from 1, as people and job arrays count, as (i - 1, n)."""
    if text is None:
        return None
    part, _, whole = text.partition("/")
    if not (part.isdecimal() and whole.isdecimal() and 1 <= int(part) <= int(whole)):
        raise InputError(f"shard must be i/n with 1 <= i <= n, got {text!r}")
    return int(part) - 1, int(whole)


@contextlib.contextmanager
def _ends_like_ctrl_c() -> Iterator[None]:
    """A batch system's SIGTERM ends a sweep as cleanly as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep as a TOML file; commented examples are in experiments/sweeps.")],
    store: Annotated[
        Path | None,
        typer.Option(help="Where the dies are kept; begun where it does not exist, else gone on with (FILE.sqlite)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes of this machine (one a core); changes no result.")
    ] = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler whose workers measure instead.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: only the i-th of n parts, for job arrays; 'xbarsim merge' brings them together."),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the tasks and the dies they still need.")
    ] = False,
) -> None:
    """Measure many dies at many points, and keep them in a store.

    Kill it whenever you like: the same command goes on where it was. Exit code 5: some tasks could not be measured, all
    others were.
    """
    if workers is not None:
        check_integer("workers", workers, at_least=1)
        if dask is not None:
            raise InputError(f"workers must not be given with dask, got {workers}")
    part = _shard(shard)
    from xbarsim.sweep.file import Sweep

    asked = Sweep.load(file)
    target = file.with_suffix(".sqlite").name if store is None else store
    if dry_run:
        _dry_run(asked, Path(target), part)
        return
    from xbarsim.sweep.collecting import CollectError, Interrupted, collect
    from xbarsim.sweep.executors import dask_executor
    from xbarsim.sweep.store import Store

    with Store(target) as kept, contextlib.ExitStack() as stack:
        executor = None if dask is None else stack.enter_context(dask_executor(dask))
        stack.enter_context(_ends_like_ctrl_c())
        before = kept.count()
        try:
            results = collect(
                asked.tasks,
                stop=asked.stop,
                store=kept,
                executor=executor,
                workers=workers,
                shard=part,
                report=_report,
                configuration=asked.text,
            )
        except Interrupted:
            _say(f"xbarsim: interrupted; {kept.count()} dies are in {target}, the same command goes on")
            raise typer.Exit(_INTERRUPTED) from None
        except CollectError as error:
            _say(f"xbarsim: {error} in {target}")
            raise typer.Exit(_FAILED) from None
        _print(_summary(results, None))
        if part is not None and not results.complete:
            typer.echo(f"part {shard} is done; 'xbarsim merge' brings the parts together")
        typer.echo(f"{kept.count()} dies in {target}, {kept.count() - before} of them new")


def _report(result: TaskResult) -> None:
    accuracy = f"accuracy {result.mean()} over " if result.counts else ""
    _say(f"{result}: {accuracy}{len(result.dies)} dies")


def _dry_run(asked: Any, store: Path, part: tuple[int, int] | None) -> None:
    from xbarsim.foundation.tables import format_table
    from xbarsim.sweep.collecting import missing
    from xbarsim.sweep.store import Store

    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Store(store, read_only=True)) if store.exists() else None
        found: list[tuple[Task, int, int]] = missing(asked.tasks, asked.stop, store=kept, shard=part)
    fixed = asked.stop.least == asked.stop.most
    rows = [
        (task.id[:12], str(task), have, f"{need}{'' if fixed or need == 0 else ' or more'}")
        for task, have, need in found
    ]
    typer.echo(format_table(("task", "what", "dies there", "dies needed"), rows, left=2))
    total = sum({task.id: need for task, _, need in found}.values())  # lines of one task are measured once
    typer.echo(f"{len(found)} tasks, {total} dies needed{'' if fixed else ' at least'}")


def _print(table: Table) -> None:
    from rich.console import Console

    Console().print(table)


def _summary(results: Results, target: float | None) -> Table:
    """Mean accuracy of each task, and what tells the tasks apart."""
    from rich.table import Table
    from rich.text import Text

    rows = results.summary(target=target)
    tags = list(dict.fromkeys(name for task in results.tasks for name in task.tags))
    shown = [*tags]
    for name in ("network", "encoding", "fault_model", "fault_rate", "mitigation", "age", "seed"):
        values = [str(row[name]) for row in rows]
        if any(values == [str(row[tag]) for row in rows] for tag in tags):
            continue  # a tag says it already
        if name == "fault_rate" or len(set(values)) > 1 or (name == "network" and not tags):
            shown.append(name)
    table = Table(title="Mean accuracy (%) and 95 % interval over dies")
    for name in shown:
        table.add_column(name.replace("_", " "), overflow="fold")
    table.add_column("dies", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("interval", justify="right")
    if target is not None:
        table.add_column(f"yield (%) at {100 * target:g} %", justify="right")
    for row in rows:
        low, high = row["accuracy_low"], row["accuracy_high"]
        cells = [f"{row[name]:g}" if isinstance(row[name], float) else str(row[name]) for name in shown]
        cells += [
            f"{row['dies']}{'' if row['complete'] else ' so far'}",
            "" if row["accuracy_mean"] is None else f"{100 * row['accuracy_mean']:.2f}",
            "" if low is None else f"{100 * low:.2f} to {100 * high:.2f}",
        ]
        if target is not None:
            share = [row[name] for name in ("yield", "yield_low", "yield_high")]
            cells.append("" if None in share else "{:.1f} ({:.1f} to {:.1f})".format(*(100 * end for end in share)))
        table.add_row(*(Text(cell) for cell in cells))
    return table


def show(
    store: _Store,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good: adds the yield.")] = None,
    watch: Annotated[
        float | None, typer.Option(help="Look again every so many seconds, until all tasks are complete.")
    ] = None,
    runs: Annotated[
        bool, typer.Option("--runs", help="Also where the dies came from: host, time, commit, versions.")
    ] = False,
) -> None:
    """Show what a store holds, also while a sweep is writing it."""
    if target is not None:
        check_real("target", target, at_least=0.0, at_most=1.0)
    if watch is not None:
        check_real("watch", watch, above=0.0)
    from rich.console import Console
    from rich.live import Live

    from xbarsim.sweep.store import Store

    with Store(store, read_only=True) as kept:
        found = kept.results()
        if watch is None or found.complete:
            _print(_summary(found, target))
        else:
            with Live(_summary(found, target), console=Console(), auto_refresh=False) as live:
                while not found.complete:
                    time.sleep(watch)
                    found = kept.results()
                    live.update(_summary(found, target), refresh=True)
        waiting = [task for task in found.tasks if not task.complete]
        if waiting:
            typer.echo(f"{len(waiting)} of {len(found.tasks)} tasks need more dies, the first: {waiting[0]}")
        if runs:
            for run in kept.runs():
                commit = run["git_commit"] or "unknown"
                typer.echo(f"{run['started']} on {run['host']}, commit {commit}: {run['dies']} dies; {run['versions']}")


def merge(
    target: Annotated[
        Path, typer.Argument(help="Store that takes over what the others hold; made where it does not exist.")
    ],
    sources: Annotated[list[Path], typer.Argument(help="Stores, such as those of the parts of a job array.")],
) -> None:
    """Bring stores together: the union of their dies, none twice."""
    from xbarsim.sweep.store import Store

    for source in sources:
        if not source.is_file():
            raise FileFormatError(f"cannot read store {source}: there is no such file")
    existed = target.exists()
    try:
        with Store(target) as kept:
            new = kept.merge(sources)
            typer.echo(f"{kept.count()} dies in {target}, {new} of them new")
    except BaseException:
        if not existed:
            target.unlink(missing_ok=True)
        raise


def export(
    store: _Store,
    output: Annotated[Path, typer.Argument(help="CSV file to write, one row a die.")],
    every: Annotated[
        bool, typer.Option("--all", help="Also dies beyond what the stop rule asks for, or behind a gap.")
    ] = False,
) -> None:
    """Write the dies of a store as CSV."""
    from xbarsim.sweep.store import Store

    with Store(store, read_only=True) as kept:
        found = kept.results()
        rows = found.rows(every=every)
        found.to_csv(output, every=every)
    left = sum(len(task.collected) for task in found.tasks) - len(rows)
    typer.echo(f"wrote {output}: {len(rows)} dies" + (f" ({left} more with --all)" if left else ""))


def plot(
    store: _Store,
    output: Annotated[Path, typer.Argument(help="Picture to write: .png, .svg or .pdf.")],
    kind: Annotated[
        str, typer.Option(help="accuracy or yield against the fault rate; dies; layers; cost (power and area).")
    ] = "accuracy",
    group: Annotated[
        str | None, typer.Option(help="Column that names the curves (the last one that tells the tasks apart).")
    ] = None,
    where: Annotated[
        list[str] | None, typer.Option(help="COLUMN=VALUE: only these dies; as often as you like.")
    ] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good, for yield.")] = None,
    baseline: Annotated[float | None, typer.Option(help="Accuracy without faults, for layers.")] = None,
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing, drawn as a line.")] = None,
) -> None:
    """Draw a picture of a store."""
    from xbarsim.report_page import draw, save_figure
    from xbarsim.sweep.store import Store

    chosen = {}
    for text in where or ():
        name, sign, value = text.partition("=")
        if not (name and sign):
            raise InputError(f"where must be COLUMN=VALUE, got {text!r}")
        chosen[name] = value
    with Store(store, read_only=True) as kept:
        found = kept.results()
    figure = draw(
        found,
        kind,  # type: ignore[arg-type]  # checked there
        group=group, where=chosen, target=target, baseline=baseline, chance=chance,
    )  # fmt: skip
    save_figure(figure, output)
    typer.echo(f"wrote {output}")


def report(
    store: _Store,
    output: Annotated[Path | None, typer.Argument(help="Page to write (STORE.html).")] = None,
    target: Annotated[float | None, typer.Option(help="Accuracy from which a die is good: adds the yield.")] = None,
    chance: Annotated[float | None, typer.Option(help="Accuracy of guessing, drawn as a line.")] = None,
    title: Annotated[str | None, typer.Option(help="Heading of the page (the store's name).")] = None,
) -> None:
    """Write all that a store holds as one HTML page, pictures in it, which loads nothing."""
    from xbarsim.report_page import write_report

    target_path = Path(store.with_suffix(".html").name) if output is None else output
    write_report(store, target_path, title=title, target=target, chance=chance)
    typer.echo(f"wrote {target_path}")


#: The commands, in the order in which help lists them.
COMMANDS: Sequence[Callable[..., None]] = (sweep, show, merge, export, plot, report)
