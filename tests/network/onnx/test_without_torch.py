"""Networks from ONNX files need no torch: where it cannot be imported, everything about them works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.network.onnx.writing import node, write

SCRIPT = """
import sys

sys.modules["torch"] = None  # importing it fails from here on

import numpy as np

import xbarsim as xb
from xbarsim.devices import Cell, Polynomial, ReadNoise, StuckFaults

path, samples = sys.argv[1], np.load(sys.argv[2])
noise = ReadNoise(spread=Polynomial(coefficients=(5e-9, 0.001), scale=1.0), valid_from=1e-7, valid_to=1e-4)
design = xb.Design(
    cell=Cell(g_min=1e-6, g_max=1.2e-5, levels=16, read_voltage=0.2, read_noise=noise),
    mapping=xb.Mapping(rows=32, columns=32, weight_bits=8),
    periphery=xb.Periphery(adc_bits=8, adc_range="calibrated"),
    faults=StuckFaults(off=0.001, on=0.001),
)
network = xb.map_onnx(path, design, calibration=samples)
chip = network.fabricate(seed=7)
logits = chip(samples)
labels = network.floating(samples).argmax(axis=1)
result = xb.evaluate(chip, samples, labels)
repeated = xb.evaluate(chip, samples, labels)
assert result.predictions == repeated.predictions
report = chip.report(samples)
cost = chip.cost("isaac2016")
workload = cost.workload()
print(len(network.layers), logits.shape, result.accuracy > 0.5, cost.power > 0, workload.energy > 0)
print(str(network).splitlines()[0], str(report).splitlines()[0], str(chip.plan()).splitlines()[0], sep="\\n")
assert not [name for name in sys.modules if name.startswith("torch.")]
"""


def test_a_network_is_mapped_and_dies_are_made_measured_and_costed(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    nodes = [
        node("Conv", ["x", "k", "c"], ["h"], pads=(1, 1, 1, 1)),
        node("Relu", ["h"], ["r"]),
        node("MaxPool", ["r"], ["p"], kernel_shape=(2, 2), strides=(2, 2)),
        node("Flatten", ["p"], ["f"]),
        node("Gemm", ["f", "l"], ["y"]),
    ]
    constants = {
        "k": random.normal(size=(6, 3, 3, 3)).astype(np.float32),
        "c": random.normal(size=6).astype(np.float32),
        "l": random.normal(size=(54, 4)).astype(np.float32),
    }
    path = write(tmp_path / "a.onnx", nodes, constants, ["samples", 3, 6, 6])
    np.save(tmp_path / "x.npy", random.normal(size=(20, 3, 6, 6)).astype(np.float32))
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, str(path), str(tmp_path / "x.npy")], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "2 (20, 4) True True True"
