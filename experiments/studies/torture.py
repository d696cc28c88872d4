"""Sweeps that are killed, stopped, starved, shared out, merged and lied to give the table of one that was left alone.

``make torture``, or ``python -m xbarsim.experiments.studies.torture [--kills 200] [--seed 1]``

Runs ``xbarsim sweep`` in processes of its own and does to them, at random moments, what happens to programs: SIGKILL,
SIGTERM, SIGHUP, SIGSTOP and SIGCONT for the coordinator and its workers; dies that kill their worker or eat its memory;
two coordinators on one store; a disk that is full; a clock that jumps; files that are cut or changed; a Dask cluster
whose workers and scheduler are killed. What is in the store at the end is compared with a sweep that nobody disturbed:
nothing that was written may be lost, nothing may be there twice, every answer must be the same, no process may outlive
its parent, and no sweep may end in another way than it says. Exit code 1 where one of these is not so.
"""

from __future__ import annotations

import dataclasses
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from xbarsim.experiments.studies.disturbances import children, end, gone, small_disk
from xbarsim.foundation.tables import format_table
from xbarsim.foundation.validation import FileFormatError
from xbarsim.sweep.file import Sweep
from xbarsim.sweep.store import Store

__all__ = ["Arena", "Outcome", "sweep_text"]

_PATIENCE = 120.0  # seconds for a sweep that should end to end, at least
_TRIES = 1000  # of a die in sweeps whose workers are killed at random: no die shall fail of that
_FAILED, _CANNOT_WRITE, _BAD_INPUT, _INTERRUPTED = 5, 4, 2, 130  # exit codes of the command line
# Python ends by SIGINT, which a shell shows as 130, where the interruption fell into code made from text, as of a
# dataclass that is being defined: also where the exception was caught and the program had ended with another code.
_BY_INTERRUPT = -signal.SIGINT

_GIVES_UP = "worker processes in a row did not start"

_EMPTY_STORE = 60_000  # bytes of a store with its tables and no die, rounded up

Key = tuple[str, int]
Table = dict[Key, tuple[Any, ...]]


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """What came of one experiment.

    Attributes
    ----------
    name
        What was done.
    done
        How often.
    dies
        Dies that were compared.
    lost
        Dies that were in a store at some time and not at the end, or are missing from the table.
    twice
        Dies that stand in the table twice.
    different
        Dies whose answer differs from that of the undisturbed sweep.
    orphans
        Workers that outlived their parent.
    odd
        Sweeps that ended in a way that they must not.
    note
        What else is to be said.
    """

    name: str
    done: int
    dies: int
    lost: int = 0
    twice: int = 0
    different: int = 0
    orphans: int = 0
    odd: int = 0
    note: str = ""

    @property
    def good(self) -> bool:
        """Whether nothing is wrong."""
        return self.dies > 0 and not (self.lost or self.twice or self.different or self.orphans or self.odd)


def sweep_text(*, dies: int, images: int, metrics: tuple[str, ...] = ()) -> str:
    """A sweep of a tiny network: two mappings, and one with read noise, at two fault rates."""
    return f"""
network = "xbarsim.experiments.studies.disturbances:tiny"
images = {images}
calibration = 20
seed = 3
rates = [0.005, 0.02]
metrics = [{", ".join(f'"{name}"' for name in metrics)}]
[stop]
type = "Dies"
count = {dies}
[design]
cell = "islped2019"
faults = {{ type = "StuckFaults", on = 0.5, off = 0.5 }}
mapping.rows = 32
mapping.columns = 32
periphery.adc_range = "lossless"
[vary.mapping.TwoColumn]
design.mapping.encoding.type = "TwoColumn"
[vary.mapping.Differential]
design.mapping.encoding.type = "Differential"
[vary.mapping.Noisy]
[vary.mapping.Noisy.design.cell]
g_min = 1e-6
g_max = 1e-4
levels = 16
read_voltage = 0.2
read_noise = {{ type = "FlickerNoise", coefficient = 1e-3, low_frequency = 1e3, high_frequency = 1e8 }}
"""


# --------------------------------------------------------------------------------------------- stores


def written(store: Path) -> set[Key]:
    """Which dies are on the disk."""
    if not store.exists():
        return set()
    try:
        with Store(store, read_only=True) as kept:
            return {(die.task, die.die) for task in kept.results().tasks for die in task.collected}
    except FileFormatError as error:
        if "is not a store" in str(error):  # made, and killed before it had its tables
            return set()
        raise


def table_of(store: Path) -> tuple[Table, int]:
    """Answer of each die in the final table, and how many rows it has."""
    with Store(store, read_only=True) as kept:
        dies = [measured for task in kept.results().tasks for measured in task.dies]
    return {(measured.task, measured.die): measured.answer for measured in dies}, len(dies)


@dataclass(kw_only=True)
class Arena:
    """A sweep, the table of it that nobody disturbed, and where the others are run.

    Attributes
    ----------
    folder
        For all files.
    file
        The sweep.
    expected
        Its table.
    seconds
        How long it took.
    rng
        Chooses the moments.
    report
        Called with a line now and then.
    """

    folder: Path
    file: Path
    expected: Table
    seconds: float
    rng: np.random.Generator
    report: Callable[[str], None]

    @classmethod
    def make(cls, folder: Path, *, dies: int, images: int, seed: int, report: Callable[[str], None]) -> Arena:
        """Run the sweep undisturbed."""
        file, store = folder / "sweep.toml", folder / "undisturbed.sqlite"
        file.write_text(sweep_text(dies=dies, images=images))
        arena = cls(folder=folder, file=file, expected={}, seconds=0.0, rng=np.random.default_rng(seed), report=report)
        start = time.perf_counter()
        arena.finish(store, "--workers", "2")
        arena.seconds = time.perf_counter() - start
        arena.expected, rows = table_of(store)
        report(f"undisturbed: {rows} dies in {arena.seconds:.0f} s")
        return arena

    @property
    def patience(self) -> float:
        """Seconds for a sweep that should end to end: many times what one takes here, now."""
        return max(_PATIENCE, 10 * self.seconds)

    def start(self, store: Path, *options: str, file: Path | None = None) -> subprocess.Popen[bytes]:
        """Begin a sweep, or go on with it."""
        with (self.folder / "messages.txt").open("w") as messages:
            return subprocess.Popen(
                [sys.executable, "-m", "xbarsim", "sweep", str(file or self.file), "--store", str(store), *options],
                stdout=subprocess.DEVNULL,
                stderr=messages,
            )

    def odd(self, code: int | None, allowed: Sequence[int]) -> int:
        """1 where a sweep ended in another way than it may, with what it said; else 0."""
        if code in allowed:
            return 0
        said = " / ".join(self.said().strip().splitlines()[-3:])
        self.report(f"a sweep ended with code {code}, not {allowed}: {said}")
        return 1

    def said(self) -> str:
        """What the last sweep wrote to standard error."""
        return (self.folder / "messages.txt").read_text(errors="replace")

    def finish(self, store: Path, *options: str) -> None:
        """Let a sweep end by itself."""
        if code := self.start(store, *options).wait():
            raise RuntimeError(f"a sweep that nobody disturbed ended with code {code}")

    def fresh(self, name: str) -> Path:
        """A store that does not exist yet."""
        return next(path for number in range(10**6) if not (path := self.folder / f"{name}{number}.sqlite").exists())

    def compare(self, name: str, store: Path, *, seen: set[Key], done: int, **counts: Any) -> Outcome:
        """Compare what is in a store with what should be."""
        table, rows = table_of(store)
        return Outcome(
            name=name,
            done=done,
            dies=len(table),
            lost=len((seen | set(self.expected)) - set(table)),
            twice=rows - len(table),
            different=sum(self.expected.get(key) != answer for key, answer in table.items()),
            **counts,
        )


def _total(name: str, outcomes: list[Outcome], *, done: int, note: str) -> Outcome:
    """One outcome of several rounds of an experiment."""
    names = ("dies", "lost", "twice", "different", "orphans", "odd")
    sums = {each: sum(getattr(outcome, each) for outcome in outcomes) for each in names}
    return Outcome(name=name, done=done, note=note, **sums)


# -------------------------------------------------------------------------------------- what is done


def kill_coordinators(arena: Arena, number: int, *, kills: int) -> Outcome:
    """Send a signal to coordinators at random moments from their start to their end, and go on; store after store."""
    outcomes: list[Outcome] = []
    name = signal.Signals(number).name
    store, seen, done, orphans, odd = arena.fresh(name), set[Key](), 0, 0, 0

    def check() -> None:
        arena.finish(store, "--workers", "2", "--tries", str(_TRIES))
        outcomes.append(arena.compare(name, store, seen=seen, done=done))

    while done < kills:
        process = arena.start(store, "--workers", "2", "--tries", str(_TRIES))
        with suppress(subprocess.TimeoutExpired):
            process.wait(float(arena.rng.uniform(0.0, arena.seconds)))
        if process.poll() is not None:  # it has ended by itself: the next ones work on another store
            odd += arena.odd(process.returncode, (0,))
            check()
            store, seen = arena.fresh(name), set()
            continue
        below = children(process.pid)
        process.send_signal(number)
        code = end(process, arena.patience)
        # 0: it had ended when the signal came. SIGTERM and SIGHUP end it as Ctrl-C does, or at once before it is ready
        odd += arena.odd(code, (-number, 0) if number == signal.SIGKILL else (-number, _INTERRUPTED, _BY_INTERRUPT, 0))
        orphans += gone(below, arena.patience)
        done += 1
        now = written(store)
        arena.report(f"{name} {done}: {len(now)} dies written, {len(seen - now)} of those before are gone, code {code}")
        seen |= now
    check()
    total = _total(f"{name} to the coordinator", outcomes, done=done, note=f"{len(outcomes)} stores")
    return dataclasses.replace(total, orphans=orphans, odd=odd)


def disturb_workers(arena: Arena, *, kills: int, stops: int) -> Outcome:
    """Kill workers, and stop workers and coordinators for a while, at random moments; store after store."""
    outcomes: list[Outcome] = []
    done = odd = orphans = hits = given_up = 0
    plan = list(arena.rng.permutation(["kill"] * kills + ["stop"] * stops))
    while plan:
        store, seen, gives_up = arena.fresh("workers"), set[Key](), True
        while gives_up:
            process = arena.start(store, "--workers", "2", "--tries", str(_TRIES))
            below: list[int] = []
            while process.poll() is None:
                time.sleep(float(arena.rng.uniform(0.0, 3.0)))
                below = [pid for pid in children(process.pid) if _is_worker(pid)]
                if not plan or not below:
                    continue
                what, victim = plan[-1], int(arena.rng.choice(below))
                with suppress(ProcessLookupError):
                    if what == "kill":
                        number = (signal.SIGKILL, signal.SIGTERM, signal.SIGHUP)[int(arena.rng.integers(3))]
                        os.kill(victim, number)
                    else:
                        victim = process.pid if arena.rng.random() < 0.5 else victim
                        os.kill(victim, signal.SIGSTOP)
                        time.sleep(float(arena.rng.uniform(0.0, 1.0)))
                        os.kill(victim, signal.SIGCONT)
                    plan.pop()
                    done, hits = done + 1, hits + (what == "kill")
            # where many in a row are killed before they could begin, it says so and ends: the same command goes on
            gives_up = process.returncode == _FAILED and _GIVES_UP in arena.said()
            given_up += gives_up
            odd += arena.odd(process.returncode, (_FAILED if gives_up else 0,))
            orphans += gone(below, arena.patience)
            now = written(store)
            arena.report(f"workers: {done} of {kills + stops} done, {len(now)} dies written, {len(seen - now)} gone")
            seen |= now
        outcomes.append(arena.compare("workers", store, seen=seen, done=done))
    note = f"{hits} killed (SIGKILL, SIGTERM, SIGHUP), {done - hits} stopped and gone on with; {len(outcomes)} stores"
    note += f"; {given_up} times too many in a row before they began" if given_up else ""
    total = _total("signals to workers", outcomes, done=done, note=note)
    return dataclasses.replace(total, orphans=orphans, odd=odd)


def _is_worker(pid: int) -> bool:
    """Whether a child is one of loky's workers, not the process that looks after semaphores."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"popen_loky_posix" in command


def two_coordinators(arena: Arena) -> Outcome:
    """Two coordinators on one store, of which one is killed underway."""
    store = arena.fresh("two")
    pair = [arena.start(store, "--workers", "1") for _ in range(2)]
    while not written(store) and pair[0].poll() is None:
        time.sleep(0.05)
    below = children(pair[0].pid)
    pair[0].kill()
    pair[0].wait()
    third = arena.start(store, "--workers", "1")
    codes = [end(process, arena.patience) for process in (pair[1], third)]
    return arena.compare(
        "two coordinators on one store",
        store,
        seen=set(),
        done=3,
        orphans=gone(below, arena.patience),
        odd=sum(code != 0 for code in codes),
    )


def bad_dies(arena: Arena, *, dies: int, images: int) -> Outcome:
    """Dies that kill their worker, raise, or leave it without memory: they alone fail, with their reasons."""
    file, store = arena.folder / "bad.toml", arena.fresh("bad")
    text = sweep_text(dies=dies, images=images, metrics=("xbarsim.experiments.studies.disturbances:misbehaves",))
    # one task: each death costs the start of a process
    file.write_text(text.replace("rates = [0.005, 0.02]", "rates = [0.02]").partition("[vary.mapping.Differential]")[0])
    flags = arena.folder / "flags"
    flags.mkdir()
    environment = {**os.environ, "XBARSIM_TORTURE_FLAGS": str(flags)}
    command = [sys.executable, "-m", "xbarsim", "sweep", str(file), "--store", str(store), "--workers", "2"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    with Store(store, read_only=True) as kept:
        results = kept.results()
    wanted = {
        1: (3, "its worker process ended by SIGKILL"),
        3: (3, "its worker process ended by SIGSEGV"),
        5: (1, "ValueError: this die raises"),
        7: (3, "MemoryError: "),
    }
    wrong = int(done.returncode != _FAILED)
    for task in results.tasks:
        found = {die.die: (die.tries, die.reason) for die in task.failed}
        wrong += set(found) != set(wanted) or not all(
            found[die][0] == tries and reason in found[die][1] for die, (tries, reason) in wanted.items()
        )
        wrong += f"{len(task.failed) * len(results.tasks)} dies failed" not in done.stdout
    # the same dies as in the undisturbed sweep, but for the metric, which is part of the id
    ids = [task.id for task in Sweep.load(arena.file).tasks[1:2]]
    other = dict(zip((task.id for task in results.tasks), ids, strict=True))
    kept_dies = [die for task in results.tasks for die in task.dies]
    different = sum(arena.expected[other[die.task], die.die][2:-1] != die.answer[2:-1] for die in kept_dies)
    return Outcome(
        name="dies that kill their worker, raise or eat memory",
        done=sum(len(task.failed) for task in results.tasks),
        dies=len(kept_dies),
        lost=len(ids) * (dies - len(wanted)) - len(kept_dies),
        different=different,
        odd=wrong,
        note="memory by RLIMIT_AS in the worker; one die of five is saved by another try",
    )


def full_disk(arena: Arena) -> Outcome:
    """A disk without room: the sweep ends and says so, what it had is elsewhere, and is brought back."""
    room = _EMPTY_STORE + ((arena.folder / "undisturbed.sqlite").stat().st_size - _EMPTY_STORE) // 2
    with small_disk(arena.folder / "disk", room) as (disk, how, limit):
        store = disk / "store.sqlite"
        temporary = arena.folder / "elsewhere"
        temporary.mkdir()
        command = [sys.executable, "-m", "xbarsim", "sweep", str(arena.file), "--store", str(store), "--workers", "2"]
        done = subprocess.run(
            command,
            env={**os.environ, "TMPDIR": str(temporary)},
            capture_output=True,
            text=True,
            check=False,
            preexec_fn=limit,
        )
        seen = written(store)
        after = arena.fresh("roomy")
        shutil.copy(store, after)
    rescued = list(temporary.glob("xbarsim-rescued-*.sqlite"))
    odd = int(done.returncode != _CANNOT_WRITE)
    with Store(after) as kept:
        kept.merge(rescued)
    more = written(after)
    arena.finish(after, "--workers", "2")
    note = f"{how}; {len(seen)} dies fitted, {len(more - seen)} rescued elsewhere"
    return arena.compare("a full disk", after, seen=seen | more, done=1, odd=odd, note=note)


def jumping_clock(arena: Arena) -> Outcome:
    """A coordinator whose clock jumps by years, back and forth, while it works; the second one lives earlier."""
    store, odd = arena.fresh("clock"), 0
    fewer = arena.folder / "fewer.toml"
    fewer.write_text(arena.file.read_text().replace("\ncount = ", "\ncount = 2 # "))
    for number, (file, year) in enumerate(((fewer, 2040), (arena.file, 2001))):
        program = (
            f"from xbarsim.experiments.studies.disturbances import make_clock_jump; make_clock_jump({year}, {number}); "
            "from xbarsim.cli import main; main()"
        )
        command = [sys.executable, "-c", program, "sweep", str(file), "--store", str(store), "--workers", "2"]
        odd += subprocess.run(command, capture_output=True, check=False).returncode != 0
    return arena.compare("a clock that jumps", store, seen=set(), done=2, odd=odd, note="time, datetime, monotonic")


def bad_files(arena: Arena, *, count: int) -> Outcome:
    """Stores that are cut, or changed in a byte: refused or read, and never another error.

    Rows have checksums: no answer may ever be another one.
    """
    whole = (arena.folder / "undisturbed.sqlite").read_bytes()
    refused = same = silent = other = 0
    path = arena.fresh("spoilt")
    for number in range(count):
        content = bytearray(whole)
        place = int(arena.rng.integers(len(whole)))
        if number % 2:
            content = content[:place]
        else:
            content[place] ^= 1 << int(arena.rng.integers(8))
        path.write_bytes(content)
        try:
            table, _ = table_of(path)
        except FileFormatError:
            refused += 1
        except Exception as error:
            arena.report(f"a spoilt store gives {type(error).__name__}: {error}")
            other += 1
        else:
            wrong = sum(arena.expected.get(key) != answer for key, answer in table.items())
            silent += wrong > 0
            same += not wrong
    return Outcome(
        name="stores that are cut or changed in a byte",
        done=count,
        dies=len(arena.expected),
        different=silent,
        odd=other,
        note=f"{refused} refused, {same} with no wrong answer",
    )


def shards(arena: Arena) -> Outcome:
    """Two parts that overlap (the halves and the thirds), merged in two orders and gone on with."""
    parts = [arena.fresh("part") for _ in range(1)]
    arena.finish(parts[0], "--shard", "1/2", "--workers", "2")
    parts.append(arena.fresh("part"))
    arena.finish(parts[1], "--shard", "2/3", "--workers", "2")
    seen = set[Key]().union(*map(written, parts))
    merged, odd = arena.fresh("merged"), 0
    for order in (parts, parts[::-1]):  # merging again, and in another order, changes nothing
        command = [sys.executable, "-m", "xbarsim", "merge", str(merged), *map(str, order)]
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
        odd += code != 0 or written(merged) != seen
    arena.finish(merged, "--workers", "1")
    return arena.compare("overlapping shards, merged", merged, seen=seen, done=2, odd=odd)


def determinism(arena: Arena, *, dies: int) -> Outcome:
    """One worker; and in this process other batch sizes and numbers of threads."""
    from xbarsim.foundation.threads import set_threads
    from xbarsim.network.evaluation import evaluate

    store = arena.fresh("one")
    arena.finish(store, "--workers", "1")
    outcome = arena.compare("one worker; batch sizes and threads", store, seen=set(), done=0)
    different = count = 0
    for threads in (1, 2) if (os.cpu_count() or 1) > 1 else (1,):
        set_threads(threads)
        for task in Sweep.load(arena.file).tasks:
            network, subject = task.map(), task.subject
            for die in range(dies):
                chip = task.fabricate(die, network=network)
                for batch in (1, 7, len(subject.images)):
                    correct = evaluate(chip, subject.images, subject.labels, batch_size=batch, progress=False).correct
                    different += correct != arena.expected[task.id, die][2]
                    count += 1
    note = f"batches of 1, 7 and all, 1 and 2 threads: {count} dies"
    return dataclasses.replace(outcome, done=count, different=outcome.different + different, note=note)


def dask_cluster(arena: Arena, *, kills: int) -> Outcome:
    """A Dask cluster whose workers are killed at random moments, and then its scheduler; gone on with on another."""
    from xbarsim.experiments.studies.disturbances import DaskCluster

    store, done, odd, seen = arena.fresh("dask"), 0, 0, set[Key]()
    with DaskCluster(arena.folder / "cluster1") as cluster:
        process = arena.start(store, "--dask", cluster.address, "--tries", str(_TRIES))
        while not written(store) and process.poll() is None:
            time.sleep(0.05)
        for _ in range(kills):
            time.sleep(float(arena.rng.uniform(0.2, 1.5)))
            if process.poll() is None and (workers := cluster.workers()):
                with suppress(ProcessLookupError):
                    os.kill(int(arena.rng.choice(workers)), signal.SIGKILL)
                    done += 1
        seen |= written(store)
        under_way = process.poll() is None
        cluster.scheduler.kill()
        code = end(process, arena.patience)
        odd += arena.odd(code, (_FAILED, 0) if under_way else (0,))
    seen |= written(store)
    with DaskCluster(arena.folder / "cluster2") as cluster:
        code = end(arena.start(store, "--dask", cluster.address), arena.patience)
        odd += arena.odd(code, (0,))
    note = f"{done} kills of workers, then the scheduler's ({'while measuring' if under_way else 'too late'})"
    return arena.compare("Dask", store, seen=seen, done=done + 1, odd=odd, note=note)


def experiments(arena: Arena, *, kills: int, dies: int, images: int) -> Iterator[tuple[str, Callable[[], Outcome]]]:
    """All of them, by name, with `kills` kills in all."""
    kill, term, hup = kills // 8, kills // 16, kills // 16
    dask = kills // 10
    yield "SIGKILL", lambda: kill_coordinators(arena, signal.SIGKILL, kills=kill)
    yield "SIGTERM", lambda: kill_coordinators(arena, signal.SIGTERM, kills=term)
    yield "SIGHUP", lambda: kill_coordinators(arena, signal.SIGHUP, kills=hup)
    yield "workers", lambda: disturb_workers(arena, kills=kills - kill - term - hup - dask, stops=kills // 5)
    yield "two", lambda: two_coordinators(arena)
    yield "dies", lambda: bad_dies(arena, dies=dies, images=images)
    yield "disk", lambda: full_disk(arena)
    yield "clock", lambda: jumping_clock(arena)
    yield "files", lambda: bad_files(arena, count=2 * kills)
    yield "shards", lambda: shards(arena)
    yield "determinism", lambda: determinism(arena, dies=min(dies, 3))
    yield "dask", lambda: dask_cluster(arena, kills=dask)


def main(
    kills: Annotated[int, typer.Option(help="How many processes are killed, in all.")] = 200,
    dies: Annotated[int, typer.Option(help="Dies of each of the six tasks.")] = 40,
    images: Annotated[int, typer.Option(help="Images of each die: how long one takes.")] = 40,
    seed: Annotated[int, typer.Option(help="Of the moments.")] = 1,
    only: Annotated[list[str] | None, typer.Option(help="Only these experiments.")] = None,
) -> None:
    """Kill, stop, starve and share out sweeps, and print what is lost, twice or different: all must be 0."""
    outcomes: list[Outcome] = []
    begun = time.perf_counter()
    with tempfile.TemporaryDirectory(prefix="xbarsim-torture-") as name:
        arena = Arena.make(Path(name), dies=dies, images=images, seed=seed, report=typer.echo)
        for what, run in experiments(arena, kills=kills, dies=dies, images=images):
            if only and what not in only:
                continue
            start = time.perf_counter()
            outcomes.append(run())
            typer.echo(f"{outcomes[-1].name}: {time.perf_counter() - start:.0f} s")
    columns = [field.name for field in dataclasses.fields(Outcome)]
    rows = [[getattr(outcome, column) for column in columns] for outcome in outcomes]
    typer.echo(format_table(["experiment", *columns[1:]], rows))
    minutes = (time.perf_counter() - begun) / 60
    bad = [outcome.name for outcome in outcomes if not outcome.good]
    typer.echo(f"{minutes:.1f} minutes; " + (f"not as it should be: {', '.join(bad)}" if bad else "nothing is wrong"))
    if bad:
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
