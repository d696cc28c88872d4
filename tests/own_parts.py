"""Parts of a user's own in a folder, as files that no test imports by itself."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

__all__ = ["DESIGN", "OwnParts", "own", "write_onnx"]

_CODE = '''
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import nn

from own_helper_NUMBER import SIZE
from xbarsim.devices import FaultMap, OnOffFaults
from xbarsim.devices.faults import as_shape
from xbarsim.mapping import PairEncoding
from xbarsim.sweep import Subject


def subject():
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(nn.Linear(16, SIZE), nn.ReLU(), nn.Linear(SIZE, 5)).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
        images = torch.rand((60, 16), generator=generator)
        labels = model(images).argmax(1)
    return Subject(
        name="mine", data_set="noise", model=model, images=images[:40].numpy(), labels=labels[:40].numpy(),
        calibration=images[40:].numpy(),
    )


@dataclass(frozen=True, kw_only=True)
class RaisedNUMBER(PairEncoding):
    """Pairs whose lower cell holds at least `level`, where that leaves room."""

    name: ClassVar[str] = "RaisedNUMBER"
    level: int = 1

    def pair(self, slices, largest):
        lower = np.minimum(self.level, largest - np.abs(slices))
        return lower + np.maximum(slices, 0), lower + np.maximum(-slices, 0)


@dataclass(frozen=True, kw_only=True)
class FirstRowsNUMBER(OnOffFaults):
    """Cells of the first rows break, as many as the rates say."""

    on: float
    off: float

    def __post_init__(self):
        self.check_rates()

    def sample(self, shape, rng):
        shape = as_shape(shape)
        index = np.arange(round(self.total * np.prod(shape)))
        return FaultMap(shape=shape, index=index, kind=self.draw_kinds(index.size, rng))


FAULTS = FirstRowsNUMBER(on=0.02, off=0.02)
'''

DESIGN = """
cell = { g_min = 1e-6, g_max = 1e-5, levels = 16 }
mapping = { rows = 32, columns = 32 }
periphery.adc_range = "lossless"
"""


_numbers = itertools.count()  # a class stays known as long as the process: each test has its own


@dataclass(frozen=True)
class OwnParts:
    """A user's folder and the names in it.

    Attributes
    ----------
    folder
        The working folder; it has ``design.toml``.
    module
        The name of the module in it.
    encoding, faults
        The names of two classes of the module.
    """

    folder: Path
    module: str
    encoding: str
    faults: str


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[OwnParts]:
    """Parts that nobody has imported yet."""
    path, number = list(sys.path), next(_numbers)
    made = OwnParts(tmp_path, f"own_code_{number}", f"Raised{number}", f"FirstRows{number}")
    (tmp_path / f"{made.module}.py").write_text(_CODE.replace("NUMBER", str(number)))
    (tmp_path / f"own_helper_{number}.py").write_text("SIZE = 12\n")
    (tmp_path / "design.toml").write_text(DESIGN)
    monkeypatch.chdir(tmp_path)
    yield made
    sys.path[:] = path


def write_onnx(folder: Path) -> None:
    """``net.onnx``, one linear layer, and ``images.npz``, which it classifies right."""
    pytest.importorskip("onnx", reason="onnx is not installed")
    from tests.network.onnx.writing import node, write

    rng = np.random.default_rng(1)
    weights = rng.normal(size=(16, 5)).astype(np.float32)
    images = rng.uniform(size=(60, 16)).astype(np.float32)
    write(folder / "net.onnx", [node("MatMul", ["x", "w"], ["y"])], {"w": weights}, [None, 16])
    labels = (images @ weights).argmax(axis=1)
    np.savez(folder / "images.npz", images=images[:40], labels=labels[:40], calibration=images[40:])
