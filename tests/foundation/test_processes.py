"""Workers end with their parent, however that ends, and run what is defined in a script without a guard."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import BrokenExecutor
from pathlib import Path

import pytest

from xbarsim.experiments.studies.kill_and_resume import _alive
from xbarsim.foundation.processes import Processes
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
        assert all(_alive(pid) for pid in workers)
        process.send_signal(number)
        process.wait(timeout=60)
        deadline = time.monotonic() + 60
        while any(_alive(pid) for pid in workers) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not any(_alive(pid) for pid in workers)
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


def test_a_pool_starts_again_after_a_worker_died() -> None:
    pool = Processes(1)
    try:
        with pytest.raises(BrokenExecutor):
            pool.submit(os._exit, 9).result()
        pool.restart()
        assert pool.submit(abs, -3).result() == 3
    finally:
        pool.close()


def test_the_number_of_workers_is_checked() -> None:
    with pytest.raises(InputError, match="workers must be an integer >= 1, got 0"):
        Processes(0)
