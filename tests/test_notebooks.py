"""The notebooks run from top to bottom, draw their pictures, and are kept without outputs."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).resolve().parents[1] / "notebooks"
NAMES = (
    "1_a_weight_becomes_conductances",
    "2_compare_mappings_under_faults",
    "3_a_sweep_from_script_to_figure",
    "4_your_own_device_encoding_and_fault_model",
    "5_repair_a_die",
    "6_spikes_on_a_crossbar",
)
PICTURES = {1: 3, 2: 4, 3: 1, 4: 2, 5: 4, 6: 3}


def cells(name: str) -> list[dict[str, Any]]:
    return list(json.loads((FOLDER / f"{name}.ipynb").read_text())["cells"])


def test_the_notebooks_are_those_that_are_run() -> None:
    assert sorted(path.stem for path in FOLDER.glob("*.ipynb")) == list(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_is_kept_without_outputs(name: str) -> None:
    for cell in cells(name):
        assert cell["cell_type"] in ("markdown", "code")
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_says_what_is_seen(name: str) -> None:
    kinds = [cell["cell_type"] for cell in cells(name)]
    assert kinds[0] == kinds[-1] == "markdown" or name.startswith("4")
    assert not any(one == other == "code" for one, other in itertools.pairwise(kinds))


@pytest.mark.parametrize("name", NAMES)
def test_a_notebook_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed")
    nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed")
    pytest.importorskip("ipykernel", reason="ipykernel is not installed")
    pytest.importorskip("pandas", reason="pandas is not installed")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    notebook = nbformat.read(FOLDER / f"{name}.ipynb", as_version=4)
    resources = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", ())]
    pictures = sum("image/png" in output.get("data", {}) for output in outputs)
    assert pictures == PICTURES[int(name[0])]
    complaints = [output.text for output in outputs if output.output_type == "stream" and output.name == "stderr"]
    honest = ("ClippingWarning", "FewDiesWarning")  # a lesson has few dies and few samples, and may say so
    assert not [text for text in complaints if not any(kind in text for kind in honest)]
