"""Without torch: what does without it works, and what needs it says so in one line."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

WITHOUT = "import sys; sys.modules['torch'] = None\n"  # importing it fails from here on


def run(code: str, folder: Path | None = None) -> str:
    """What a process prints in which torch cannot be imported; it must end well."""
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT + code], capture_output=True, text=True, check=False, cwd=folder
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_matrices_devices_circuits_and_costs_need_no_torch(tmp_path: Path) -> None:
    answer = run(
        """
import numpy as np
import xbarsim as xb
from xbarsim import circuit, cost, data, design, devices, die, engine, mapping, mitigation, network, plot, sequences
from xbarsim import sweep, testing
weights, vectors = np.random.default_rng(0).normal(size=(20, 6)), np.random.default_rng(1).normal(size=(5, 20))
made = xb.Design(
    cell=xb.Cell.load("milo2021"), mapping=xb.Mapping(rows=32, columns=32), faults=xb.StuckFaults(on=0.01, off=0.01)
)
crossbar = xb.Crossbar(weights, made, seed=7, calibration=vectors)
print((vectors @ crossbar).shape, crossbar.cost().power > 0, len(str(crossbar.plan())) > 0)
crossbar.save("die.safetensors")
assert np.array_equal(xb.Crossbar.load("die.safetensors").multiply(vectors, first_vector=0),
                      crossbar.multiply(vectors, first_vector=0))
print(circuit.solve(np.full((2, 2), 1e-5), np.full(2, 0.1), circuit.Wires()).column_currents.shape)
print(cost.Hardware.load("isaac2016").name, xb.Design.load("isaac2016").mapping.rows)
plot.tile_explorer(crossbar, "page.html")
assert not [name for name in sys.modules if name.startswith("torch.")]
""",
        tmp_path,
    )
    assert answer.splitlines() == ["(5, 6) True True", "(2,)", "isaac2016 128"]


NEEDS = {
    "import xbarsim as xb; xb.load_model('digits')": "xbarsim.models",
    "import xbarsim as xb; xb.compress": "xbarsim.compress",
    "import xbarsim as xb; xb.network.DieBatch": "xbarsim.network.DieBatch",
    "from xbarsim.compress import Admm": "xbarsim.compress",
    "from xbarsim.training import train": "xbarsim.training",
    "from xbarsim.models import MODELS": "xbarsim.models",
    "from xbarsim.engine import TorchBackend": "xbarsim.engine.TorchBackend",
    "import xbarsim as xb; xb.map_model(None, xb.Design.load('isaac2016'), calibration=None)": "map_model",
}


def test_what_needs_torch_says_how_to_install_it() -> None:
    answer = run(f"""
for code in {list(NEEDS)!r}:
    try:
        exec(code)
    except ImportError as error:
        print(error)
""")
    said = "needs torch, which is not installed: pip install 'xbarsim[torch]'; see guide: docs/install.md"
    assert answer.splitlines() == [f"{what} {said}" for what in NEEDS.values()]


def test_the_command_line_does_without_torch_where_it_can(tmp_path: Path) -> None:
    code = "from xbarsim.cli import main; sys.argv = ['xbarsim', {}]; main()"
    index = run(code.format("'info'"), tmp_path)
    assert "milo2021" in index
    assert index.count("needs torch") == 2  # networks and torch's own layers
    for arguments in ("'evaluate', 'digits'", "'info', 'networks'"):
        done = subprocess.run(
            [sys.executable, "-c", WITHOUT + code.format(arguments)], capture_output=True, text=True, check=False,
            cwd=tmp_path,
        )  # fmt: skip
        assert done.returncode == 3
        assert "needs torch, which is not installed: pip install 'xbarsim[torch]'" in done.stderr
        assert len(done.stderr.strip().splitlines()) == 1
