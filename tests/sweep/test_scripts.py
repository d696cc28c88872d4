"""Networks and measures of a script without a guard, or of a notebook, are measured in other processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

SCRIPT = """
from dataclasses import dataclass
import numpy as np, torch
from torch import nn
from xbarsim import Design
from xbarsim.devices import Cell, StuckFaults
from xbarsim.sweep import Accuracy, Measure, Subject, Task, collect

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Linear(16, 12), nn.Linear(12, 5)
    def forward(self, x):
        return self.second(self.first(x).relu())

@dataclass(frozen=True, kw_only=True)
class Stuck(Measure):
    @property
    def columns(self):
        return {"stuck": int}
    def run(self, chip, images, labels):
        return {"stuck": sum(len(faults) for faults in chip.faults.values())}

def layers(chip):
    return len(chip.layers)

torch.manual_seed(1)
model = Net().eval()
images = torch.rand(60, 16)
subject = Subject(
    name="mine", data_set="noise", model=model, images=images[:40].numpy(),
    labels=model(images[:40]).argmax(1).numpy(), calibration=images[40:].numpy(),
)
task = Task(
    network=subject, design=Design(cell=Cell.load("islped2019"), faults=StuckFaults(on=0.05, off=0.05)),
    calibration=20, measures=(Accuracy(), Stuck()), metrics=("__main__:layers",),
)
rows = collect([task], stop=4, workers=2, progress=False).rows()
same = all(row["stuck"] == row["stuck_on"] + row["stuck_off"] > 0 for row in rows)
print(same, rows[0]["__main__:layers"], len(rows))
"""


def _run(*arguments: str, folder: Path) -> tuple[str, str]:
    answer = subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=300
    )
    return answer.stdout, answer.stderr


def test_an_unguarded_script_with_a_network_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text(SCRIPT)
    assert _run("script.py", folder=tmp_path) == ("True 2.0 4\n", "")


def test_cells_of_a_notebook(tmp_path: Path) -> None:
    """A notebook runs its cells as text in ``__main__``, which stands in no file."""
    notebook = f"exec(compile({SCRIPT!r}, '<cell 1>', 'exec'))"
    assert _run("-c", notebook, folder=tmp_path) == ("True 2.0 4\n", "")


def test_a_network_that_cannot_be_sent_gives_one_line(tmp_path: Path) -> None:
    device = """
class Device:
    def __deepcopy__(self, memo):
        return self
    def __reduce__(self):
        raise TypeError("a device stays where it is")

class Net("""
    broken = SCRIPT.replace("class Net(", device, 1).replace(
        "__init__()\n", "__init__()\n        self.it = Device()\n", 1
    )
    (tmp_path / "script.py").write_text(broken)
    out, errors = _run("script.py", folder=tmp_path)
    assert out == ""
    last = errors.strip().splitlines()[-1]
    assert "network must be one that can be sent to worker processes, got" in last
    assert errors.count("Traceback") == 1  # of the script itself, none of a worker


@pytest.mark.parametrize("name", ["loky", "cloudpickle"])
def test_only_messages_between_processes_are_pickled(name: str) -> None:
    """Who sends objects to other processes is known: the pool, and the bench in memory. No file is made of them."""
    users = {
        str(path.relative_to(ROOT))
        for folder in ("xbarsim", "devices", "mapping", "experiments")
        for path in (ROOT / folder).rglob("*.py")
        if (not path.is_symlink() and f"\nimport {name}" in path.read_text()) or f"\nfrom {name}" in path.read_text()
    }
    assert users == {"loky": {"xbarsim/foundation/processes.py"}, "cloudpickle": {"xbarsim/sweep/worker.py"}}[name]
