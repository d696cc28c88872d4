"""Workers end with their parent, however that ends, and run what is defined in a script without a guard."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from functools import partial
from pathlib import Path

import pytest

from xbarsim.experiments.studies.disturbances import alive
from xbarsim.foundation.processes import Processes, WorkerDied
from xbarsim.foundation.validation import InputError

SCRIPT = """
import time
from xbarsim.foundation.processes import Processes

pool = Processes(2)
for future in [pool.submit(time.sleep, 1) for _ in range(2)]:  # both have started
    future.result()
print(*pool.pids, flush=True)
time.sleep(600)
"""


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="processes are looked up in /proc")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_idle_workers_end_with_their_parent(number: int, tmp_path: Path) -> None:
    script = tmp_path / "parent.py"
    script.write_text(SCRIPT)
    process = subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        workers = [int(pid) for pid in process.stdout.readline().split()]
        assert len(workers) == 2
        assert all(alive(pid) for pid in workers)
        process.send_signal(number)
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while any(alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(alive(pid) for pid in workers)
    finally:
        process.kill()


def test_an_unguarded_script_needs_no_guard(tmp_path: Path) -> None:
    script = tmp_path / "unguarded.py"
    script.write_text(
        "import os\n"
        "from xbarsim.foundation.processes import Processes\n"
        "class Mine:\n"
        "    def __init__(self, value): self.value = value\n"
        "def double(mine): return Mine(2 * mine.value), os.environ['OMP_NUM_THREADS'], os.getpid()\n"
        "pool = Processes(1)\n"
        "result, threads, pid = pool.submit(double, Mine(21)).result()\n"
        "print(type(result) is Mine, result.value, threads, pid != os.getpid())\n"
        "pool.close()\n"
    )
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False, timeout=120)
    assert (answer.stdout, answer.stderr) == ("True 42 1 True\n", "")


def end(pid: int, seconds: float) -> None:
    time.sleep(seconds)
    os.kill(pid or os.getpid(), signal.SIGKILL)


def wait_and_say(seconds: float, number: int) -> tuple[int, int]:
    time.sleep(seconds)
    return number, os.getpid()


def test_a_worker_that_dies_costs_the_job_that_it_ran_and_no_other() -> None:
    """Not the one that waits behind it, nor those of other workers; and the reason is that of this worker."""
    pool = Processes(2)
    try:
        before = set(pool.pids)
        first = pool.submit(end, 0, 0.3)
        other = pool.submit(wait_and_say, 0.6, 1)
        behind = [pool.submit(wait_and_say, 0.0, number) for number in range(2, 12)]
        with pytest.raises(WorkerDied, match="ended by SIGKILL"):
            first.result()
        number, pid = other.result()
        assert (number, pid in before) == (1, True)
        assert [future.result()[0] for future in behind] == list(range(2, 12))
        assert len(pool.pids) == 2
        assert len(set(pool.pids) & before) == 1
        with pytest.raises(WorkerDied, match="ended with exit code 7"):
            pool.submit(os._exit, 7).result()
        assert pool.submit(abs, -3).result() == 3
    finally:
        pool.close()


def test_a_worker_that_dies_with_nothing_to_do_costs_nothing() -> None:
    pool = Processes(2)
    try:
        _, pid = pool.submit(wait_and_say, 0.0, 0).result()
        os.kill(pid, signal.SIGKILL)
        while pid in pool.pids:  # until it is noticed
            time.sleep(0.01)
        assert [pool.submit(abs, -number).result() for number in range(9)] == list(range(9))
    finally:
        pool.close()


def starve(_: int) -> int:
    """Leave this process with no more memory than it has, and ask for more."""
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used, used))
    return len(bytearray(2**30))


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="memory is looked up in /proc")
def test_a_worker_without_memory_is_replaced() -> None:
    pool = Processes(1)
    try:
        (before,) = pool.pids
        hungry, behind = pool.submit(starve, 0), [pool.submit(wait_and_say, 0.0, number) for number in range(3)]
        with pytest.raises(MemoryError):
            hungry.result()
        assert [future.result()[0] for future in behind] == [0, 1, 2]
        assert before not in pool.pids
    finally:
        pool.close()


_kept: list[bytes] = []


def _grow(size: int) -> int:
    _kept.append(b"x" * size)
    time.sleep(1.1)  # loky looks once a second
    return os.getpid()


def test_a_worker_that_has_loaded_much_is_kept(recwarn: pytest.WarningsRecorder) -> None:
    """It holds networks and dies; loky would take the place of one that has grown by 300 MB."""
    pytest.importorskip("psutil")  # without which loky does not look
    with Processes(1) as pool:
        pids = [pool.submit(_grow, size).result() for size in (10, 500_000_000, 10, 10)]
    assert len(set(pids)) == 1
    assert not recwarn.list


def test_a_worker_that_cannot_start_is_not_blamed_on_its_job() -> None:
    pool = Processes(1, partial(os._exit, 3))
    try:
        with pytest.raises(
            BrokenExecutor, match=r"10 worker processes in a row did not start; .* exit code 3"
        ) as caught:
            pool.submit(abs, -3).result()
        assert not isinstance(caught.value, WorkerDied)
    finally:
        pool.close()


def test_what_was_given_is_done_before_the_end_unless_it_is_at_once() -> None:
    with Processes(2) as pool:
        futures = [pool.submit(wait_and_say, 0.01, number) for number in range(20)]
    assert [future.result()[0] for future in futures] == list(range(20))
    with pytest.raises(RuntimeError, match="after shutdown"):
        pool.submit(abs, 1)
    other = Processes(1)
    waiting = [other.submit(time.sleep, 60) for _ in range(5)]
    other.shutdown(cancel_futures=True)
    assert all(future.done() for future in waiting)


def test_the_number_of_workers_is_checked() -> None:
    with pytest.raises(InputError, match="workers must be an integer >= 1, got 0"):
        Processes(0)
