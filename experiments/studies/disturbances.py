"""What torture does to processes, and how it looks at them: parts of :mod:`xbarsim.experiments.studies.torture`."""

from __future__ import annotations

import datetime
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import numpy as np

if TYPE_CHECKING:
    from xbarsim.network import Chip
    from xbarsim.sweep import Subject

__all__ = ["DaskCluster", "alive", "children", "end", "gone", "make_clock_jump", "misbehaves", "small_disk", "tiny"]


def children(pid: int) -> list[int]:
    """Process ids of the children of a process, of every thread of it."""
    found: list[int] = []
    for task in Path(f"/proc/{pid}/task").glob("*/children"):
        try:
            found += [int(child) for child in task.read_text().split()]
        except OSError:
            continue
    return found


def alive(pid: int) -> bool:
    """Whether a process runs, or is stopped: not whether its parent has still to ask how it ended."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in ("Z", "X")


def gone(pids: Iterable[int], patience: float) -> int:
    """Wait for processes to end, at most `patience` seconds; how many do not."""
    deadline = time.monotonic() + patience
    while (left := [pid for pid in pids if alive(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    return len(left)


def end(process: subprocess.Popen[bytes], patience: float) -> int | None:
    """Exit code of a process, or ``None`` where it does not end within `patience` seconds, and is killed."""
    try:
        return process.wait(patience)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
        return None


@contextmanager
def small_disk(folder: Path, room: int) -> Iterator[tuple[Path, str, Callable[[], None] | None]]:
    """A folder with room for so many bytes: a file system of its own where we may mount one, else a limit to a file."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={room}", "tmpfs", str(folder)]
    mounted = bool(shutil.which("mount")) and not subprocess.run(mount, capture_output=True, check=False).returncode
    try:
        if mounted:
            yield folder, f"a tmpfs of {room // 1000} kB", None
        else:
            yield folder, f"no right to mount: RLIMIT_FSIZE of {room // 1000} kB instead", partial(_limit_files, room)
    finally:
        if mounted:
            subprocess.run(["umount", str(folder)], check=True)


def _limit_files(room: int) -> None:
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, room))


def tiny() -> Subject:
    """Two linear layers that agree with labels of their own making: 200 samples, 20 to calibrate with."""
    import torch
    from torch import nn

    from xbarsim.sweep import Subject

    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(16, 12), nn.ReLU(), nn.Linear(12, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        samples = torch.rand((220, 16), generator=generator)
        labels = model(samples).argmax(1)
    return Subject(
        name="tiny",
        data_set="noise",
        model=model,
        images=samples[:200].numpy(),
        labels=labels[:200].numpy(),
        calibration=samples[200:].numpy(),
    )


def misbehaves(chip: Chip) -> float:
    """A metric: dies 1, 3, 5 and 7 of root seed 3 kill their worker or raise, die 9 only the first time."""
    from xbarsim.sweep import die_seed

    die = next((number for number in (1, 3, 5, 7, 9) if chip.seed == die_seed(3, number)), None)
    if die == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    elif die == 3:
        os.kill(os.getpid(), signal.SIGSEGV)
    elif die == 5:
        raise ValueError("this die raises")
    elif die == 7:
        _starve()
    elif die == 9:
        flag = Path(os.environ["XBARSIM_TORTURE_FLAGS"], "starved")
        try:
            flag.touch(exist_ok=False)
        except FileExistsError:
            return 1.0
        _starve()
    return 1.0


def _starve() -> None:
    """Leave this process with the memory that it has, and ask for more."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    np.empty(2**27)


def make_clock_jump(year: int, seed: int) -> None:
    """Let the clock of this process jump by up to ten years around a year, back and forth, each time it is looked at.

    ``time.monotonic`` jumps by up to a minute, forth only: as where a machine was asleep.
    """
    rng = np.random.default_rng(seed)
    monotonic, ahead = time.monotonic, [0.0]
    base = datetime.datetime(year, 1, 1, tzinfo=datetime.UTC).timestamp()

    def jump() -> float:
        return base + float(rng.uniform(-1, 1)) * 10 * 365 * 86400

    def asleep() -> float:
        ahead[0] += float(rng.uniform(0, 60)) * (rng.random() < 0.01)
        return monotonic() + ahead[0]

    class Jumping(datetime.datetime):
        @classmethod
        def now(cls, tz: datetime.tzinfo | None = None) -> Any:
            return cls.fromtimestamp(jump(), tz)

    time.time = jump
    time.monotonic = asleep
    datetime.datetime = Jumping  # type: ignore[misc]


class DaskCluster:
    """A scheduler and two workers with nannies, in processes of their own."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        self.folder = folder
        self.file = folder / "scheduler.json"
        quiet: dict[str, Any] = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL, "cwd": folder}
        common = ["--scheduler-file", str(self.file), "--no-dashboard"]
        self.scheduler = subprocess.Popen(
            [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0", "--host", "127.0.0.1", *common],
            **quiet,
        )
        self.nannies = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "distributed.cli.dask_worker",
                "--nthreads",
                "1",
                "--nworkers",
                "2",
                "--death-timeout",
                "30",
                *common,
            ],
            env={**os.environ, "OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1"},
            **quiet,
        )

    @property
    def address(self) -> str:
        """The scheduler's address, as soon as it has one."""
        import json

        while True:
            try:
                return str(json.loads(self.file.read_text())["address"])
            except (OSError, ValueError):
                if self.scheduler.poll() is not None:
                    raise RuntimeError(f"the scheduler ended with code {self.scheduler.returncode}") from None
                time.sleep(0.05)

    def workers(self) -> list[int]:
        """Process ids of the workers."""
        found = []
        for pid in children(self.nannies.pid):
            command = Path(f"/proc/{pid}/cmdline")
            if command.exists() and b"spawn_main" in command.read_bytes():
                found.append(pid)
        return found

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        below = children(self.nannies.pid)
        for process in (self.nannies, self.scheduler):
            process.terminate()
        for process in (self.nannies, self.scheduler):
            end(process, 20.0)
        for pid in below:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)
