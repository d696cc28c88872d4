"""Sweeps that are killed, shared out and merged give the table of one that was left alone.

``python -m xbarsim.experiments.studies.kill_and_resume [--kills 50] [--dies 600]``

Runs ``xbarsim sweep`` in processes of its own, kills them with SIGKILL at random moments (while they start, while they
measure, while they write), and compares what is in the store at the end with an uninterrupted sweep: nothing that was
written may be lost, nothing may be there twice, every answer must be the same, and no worker may outlive its parent.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import FileFormatError
from xbarsim.sweep.store import Store

__all__ = ["Outcome", "check_dask", "check_kills", "check_shards", "check_workers", "sweep_text"]

_PATIENCE = 120.0  # seconds for a worker to end, or for a sweep to give its first dies


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one experiment.

    Attributes
    ----------
    name
        What was done.
    kills
        How many processes were killed; and of these, how many while dies were being measured.
    kills_running
        As said.
    dies
        Dies in the final table.
    lost
        Dies that were in the store after some kill and not at the end, or missing from the table.
    twice
        Dies that stand in the table twice.
    different
        Dies whose answer differs from that of the uninterrupted sweep.
    orphans
        Workers that outlived their parent.
    """

    name: str
    kills: int
    kills_running: int
    dies: int
    lost: int
    twice: int
    different: int
    orphans: int

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.dies > 0 and not (self.lost or self.twice or self.different or self.orphans)


def sweep_text(*, dies: int, images: int = 40) -> str:
    """A sweep of the digits network: two mappings at two fault rates."""
    return f"""
network = "digits"
images = {images}
calibration = 64
seed = 3
rates = [0.005, 0.02]
[stop]
type = "Dies"
count = {dies}
[design]
cell = "islped2019"
faults = {{ type = "StuckFaults", on = 0.5, off = 0.5 }}
periphery.adc_range = "lossless"
[vary.mapping.TwoColumn]
design.mapping.encoding.type = "TwoColumn"
[vary.mapping.Differential]
design.mapping.encoding.type = "Differential"
"""


def _start(file: Path, store: Path, *options: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "xbarsim", "sweep", str(file), "--store", str(store), *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


def _finish(file: Path, store: Path, *options: str) -> None:
    if code := _start(file, store, *options).wait():
        raise RuntimeError(f"a sweep that nobody disturbed ended with code {code}")


_Key = tuple[str, int]
_Table = dict[_Key, tuple[Any, ...]]


def _written(store: Path) -> set[_Key]:
    """Which dies are on the disk."""
    if not store.exists():
        return set()
    try:
        with Store(store, read_only=True) as kept:
            return {(block.task, block.die) for task in kept.results().tasks for block in task.collected}
    except FileFormatError as error:
        if "is not a store" in str(error):  # made, and killed before it had its tables
            return set()
        raise


def _table(store: Path) -> tuple[_Table, int]:
    """Answer of each die in the final table, and how many rows it has."""
    with Store(store, read_only=True) as kept:
        dies = [measured for task in kept.results().tasks for measured in task.dies]
    return {(measured.task, measured.die): measured.answer for measured in dies}, len(dies)


def _compare(
    name: str, store: Path, expected: _Table, *, seen: set[_Key], kills: int = 0, running: int = 0, orphans: int = 0
) -> Outcome:
    table, rows = _table(store)
    return Outcome(
        name=name,
        kills=kills,
        kills_running=running,
        dies=len(table),
        lost=len((seen | set(expected)) - set(table)),
        twice=rows - len(table),
        different=sum(expected.get(key) != answer for key, answer in table.items()),
        orphans=orphans,
    )


def _children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def _gone(pids: list[int]) -> int:
    """Wait for processes to end; how many do not."""
    deadline = time.monotonic() + _PATIENCE
    while (left := [pid for pid in pids if _alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(left)


def check_kills(
    folder: Path,
    expected: _Table,
    file: Path,
    *,
    kills: int,
    seed: int,
    workers: int = 2,
    report: Callable[[str], None] = print,
) -> Outcome:
    """Kill a sweep again and again, then let it end.

    Parameters
    ----------
    folder
        Where the store is made.
    expected
        The table of an uninterrupted sweep.
    file
        The sweep.
    kills
        How many times. One in five falls while the sweep starts, the others up to 2.5 s after it has written new dies.
    seed
        Of the moments.
    workers
        Processes of each sweep.
    report
        Called with a line for each kill.
    """
    rng = np.random.default_rng(seed)
    store = folder / "killed.sqlite"
    seen: set[_Key] = set()
    running = orphans = 0
    for number in range(kills):
        process = _start(file, store, "--workers", str(workers))
        deadline = time.monotonic() + (float(rng.uniform(0.0, 5.0)) if number % 5 == 4 else _PATIENCE)
        while time.monotonic() < deadline and process.poll() is None:
            if number % 5 != 4 and len(_written(store)) > len(seen):
                time.sleep(float(rng.uniform(0.0, 2.5)))
                break
            time.sleep(0.05)
        children = _children(process.pid)
        alive = process.poll() is None
        process.send_signal(signal.SIGKILL)
        process.wait()
        orphans += _gone(children)
        now = _written(store)
        if not seen <= now:
            report(f"kill {number + 1}: {len(seen - now)} dies that had been written are gone")
        running += alive and len(now) > len(seen)
        report(f"kill {number + 1}: {len(now)} dies written, {len(children)} children ended")
        seen |= now
    _finish(file, store, "--workers", str(workers))
    return _compare(
        f"{kills} kills, {workers} workers", store, expected, seen=seen, kills=kills, running=running, orphans=orphans
    )


def check_workers(folder: Path, expected: _Table, file: Path, *, workers: int) -> Outcome:
    """An undisturbed sweep with another number of workers."""
    store = folder / f"workers{workers}.sqlite"
    _finish(file, store, "--workers", str(workers))
    return _compare(f"{workers} workers", store, expected, seen=set())


def check_shards(folder: Path, expected: _Table, file: Path) -> Outcome:
    """Two parts that overlap (thirds 1 and 2, and the whole killed underway), merged and gone on with."""
    stores = [folder / f"part{number}.sqlite" for number in (1, 2, 3)]
    _finish(file, stores[0], "--shard", "1/2", "--workers", "1")
    _finish(file, stores[1], "--shard", "2/3", "--workers", "1")
    process = _start(file, stores[2], "--workers", "1")
    deadline = time.monotonic() + _PATIENCE
    while not _written(stores[2]) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    children = _children(process.pid)
    process.kill()
    process.wait()
    orphans = _gone(children)
    seen = set().union(*map(_written, stores))
    merged = folder / "merged.sqlite"
    for order in (stores, stores[::-1]):  # merging again, and in another order, changes nothing
        code = subprocess.run(
            [sys.executable, "-m", "xbarsim", "merge", str(merged), *map(str, order)],
            stdout=subprocess.DEVNULL,
            check=False,
        ).returncode
        if code or _written(merged) != seen:
            raise RuntimeError(f"merging did not give the union of the parts (code {code})")
    _finish(file, merged, "--workers", "1")
    return _compare("overlapping shards, merged", merged, expected, seen=seen, kills=1, running=1, orphans=orphans)


def check_dask(folder: Path, expected: _Table, file: Path) -> Outcome:
    """A Dask cluster of two worker processes, one of which is killed while it measures."""
    from distributed import Client, LocalCluster

    store = folder / "dask.sqlite"
    with (
        LocalCluster(  # type: ignore[no-untyped-call]
            n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None, local_directory=str(folder)
        ) as cluster,
        Client(cluster) as client,  # type: ignore[no-untyped-call]
    ):
        victim = next(iter(client.run(os.getpid).values()))
        process = _start(file, store, "--dask", cluster.scheduler_address)
        deadline = time.monotonic() + _PATIENCE
        while not _written(store) and process.poll() is None and time.monotonic() < deadline:
            time.sleep(0.05)
        running = process.poll() is None
        os.kill(victim, signal.SIGKILL)
        if code := process.wait():
            raise RuntimeError(f"the sweep on Dask ended with code {code}")
    return _compare("Dask, one of two workers killed", store, expected, seen=set(), kills=1, running=int(running))


def main(
    kills: Annotated[int, typer.Option(help="How often the sweep is killed.")] = 50,
    dies: Annotated[int, typer.Option(help="Dies of each of its four tasks.")] = 600,
    images: Annotated[int, typer.Option(help="Images of each die: how long one takes.")] = 300,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
) -> None:
    """Kill, share out and merge sweeps, and print what is lost, twice or different: all must be 0."""
    with tempfile.TemporaryDirectory(prefix="xbarsim-kills-") as name:
        folder = Path(name)
        file = folder / "sweep.toml"
        file.write_text(sweep_text(dies=dies, images=images))
        start = time.perf_counter()
        _finish(file, folder / "undisturbed.sqlite", "--workers", "2")
        expected, rows = _table(folder / "undisturbed.sqlite")
        typer.echo(f"undisturbed: {rows} dies in {time.perf_counter() - start:.0f} s")
        outcomes = [
            check_kills(folder, expected, file, kills=kills, seed=seed, report=typer.echo),
            check_workers(folder, expected, file, workers=1),
            check_shards(folder, expected, file),
            check_dask(folder, expected, file),
        ]
    header = ("experiment", "kills", "while measuring", "dies", "lost", "twice", "different", "orphans")
    typer.echo(
        format_table(
            header,
            [(o.name, o.kills, o.kills_running, o.dies, o.lost, o.twice, o.different, o.orphans) for o in outcomes],
        )
    )
    if not all(outcome.good for outcome in outcomes):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
