"""``xbarsim sweep``: many dies at many points, kept in a store."""

from __future__ import annotations

import contextlib
import shlex
import signal
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from xbarsim.cli.errors import FAILED, INTERRUPTED
from xbarsim.cli.output import new_console
from xbarsim.cli.stores import StoreOfFile, Workers, print_failed, summary_table
from xbarsim.foundation.validation import InputError, check_integer

if TYPE_CHECKING:
    from xbarsim.sweep.results import TaskResult
    from xbarsim.sweep.task import Task

__all__ = ["ends_like_ctrl_c", "sweep"]


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
def ends_like_ctrl_c() -> Iterator[None]:
    """A batch system's SIGTERM, and the SIGHUP of a closed terminal, end a sweep as cleanly as Ctrl-C does."""

    def interrupt(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    # one that is ignored stays so: nohup does that
    numbers = [signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {number: signal.getsignal(number) for number in numbers if signal.getsignal(number) != signal.SIG_IGN}
    for number in before:
        signal.signal(number, interrupt)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def sweep(
    file: Annotated[Path, typer.Argument(help="Sweep as a TOML file; commented examples are in experiments/sweeps.")],
    store: StoreOfFile = None,
    workers: Workers = None,
    dask: Annotated[str | None, typer.Option(help="Address of a Dask scheduler whose workers measure instead.")] = None,
    shard: Annotated[
        str | None,
        typer.Option(help="i/n: only the i-th of n parts, for job arrays; 'xbarsim merge' brings them together."),
    ] = None,
    tries: Annotated[
        int, typer.Option(help="How often a die is tried whose worker process ends, before it has failed.")
    ] = 3,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Try the dies again that the store holds as failed.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list the tasks and the dies they still need.")
    ] = False,
) -> None:
    """Measure many dies at many points, and keep them in a store.

    Kill it whenever you like: the same command goes on where it was. Exit code 5: some tasks or dies could not be
    measured, all others were; the store keeps why.
    """
    check_integer("tries", tries, at_least=1)
    if workers is not None:
        check_integer("workers", workers, at_least=1)
        if dask is not None:
            raise InputError(f"workers must not be given with dask, got {workers}")
    part = _shard(shard)
    from xbarsim.sweep.file import Sweep

    asked = Sweep.load(file)
    target = file.with_suffix(".sqlite").name if store is None else store
    if dry_run:
        _dry_run(asked, Path(target), part, retry_failed)
        return
    from xbarsim.sweep.collecting import CollectError, Interrupted, collect
    from xbarsim.sweep.executors import dask_executor
    from xbarsim.sweep.results import FailedDiesWarning
    from xbarsim.sweep.store import Store

    with Store(target) as kept, contextlib.ExitStack() as stack:
        executor = None if dask is None else stack.enter_context(dask_executor(dask))
        stack.enter_context(ends_like_ctrl_c())
        before = kept.count()
        try:
            stack.enter_context(warnings.catch_warnings())
            warnings.simplefilter("ignore", FailedDiesWarning)  # told in full below
            results = collect(
                asked.tasks,
                stop=asked.stop,
                store=kept,
                executor=executor,
                workers=workers,
                shard=part,
                tries=tries,
                retry_failed=retry_failed,
                report=_report,
                configuration=asked.text,
            )
        except Interrupted:
            _say(f"xbarsim: interrupted; {kept.count()} dies are in {target}, the same command goes on")
            raise typer.Exit(INTERRUPTED) from None
        except CollectError as error:
            _say(f"xbarsim: {error} in {target}")
            print_failed(error.results)
            raise typer.Exit(FAILED) from None
        new_console().print(summary_table(results, None))
        if part is not None and not results.complete:
            typer.echo(f"part {shard} is done; 'xbarsim merge' brings the parts together")
        typer.echo(f"{kept.count()} dies in {target}, {kept.count() - before} of them new")
        if results.complete:
            place = shlex.quote(str(target))
            typer.echo(
                f"next: xbarsim plot {place} picture.png; xbarsim report {place}; xbarsim export {place} dies.csv"
            )
        if results.failed:
            print_failed(results)
            raise typer.Exit(FAILED)


def _report(result: TaskResult) -> None:
    accuracy = f"accuracy {result.mean()} over " if result.dies and result.counts else ""
    failed = f", {len(result.counted_out)} failed" if result.counted_out else ""
    _say(f"{result}: {accuracy}{len(result.dies)} dies{failed}")


def _dry_run(asked: Any, store: Path, part: tuple[int, int] | None, retry_failed: bool) -> None:
    from xbarsim.foundation.tables import format_table
    from xbarsim.sweep.collecting import missing
    from xbarsim.sweep.store import Store

    with contextlib.ExitStack() as stack:
        kept = stack.enter_context(Store(store, read_only=True)) if store.exists() else None
        listed: list[tuple[Task, int, int]] = missing(
            asked.tasks, asked.stop, store=kept, shard=part, retry_failed=retry_failed
        )
        failed = 0 if kept is None else sum(len(kept.failed(key)) for key in {task.id for task, _, _ in listed})
    fixed = asked.stop.least == asked.stop.most
    rows = [
        (task.id[:12], str(task), have, f"{need}{'' if fixed or need == 0 else ' or more'}")
        for task, have, need in listed
    ]
    typer.echo(format_table(("task", "what", "dies there", "dies needed"), rows, left=2))
    total = sum({task.id: need for task, _, need in listed}.values())  # lines of one task are measured once
    typer.echo(f"{len(listed)} tasks, {total} dies needed{'' if fixed else ' at least'}")
    if failed:
        typer.echo(f"{failed} dies failed before{'' if retry_failed else '; --retry-failed tries them again'}")
