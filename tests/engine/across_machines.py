"""What each plan gives, written to a file: run natively and on another kind of processor, see test_across_machines."""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

import xbarsim as xb
from xbarsim.devices import Cell, Polynomial, ProgrammingError, StuckFaults, ThermalNoise
from xbarsim.mapping import Mapping

WHOLE: dict[str, Any] = {"g_min": 1e-6, "g_max": 1.6e-5, "levels": 16, "read_voltage": 0.2}
SPREAD = ProgrammingError(spread=Polynomial(coefficients=(2e-7, 0.02), scale=1.0), valid_from=1e-7, valid_to=1e-4)
NOISE = ThermalNoise(bandwidth=1e9)

#: Name of each case: the plan that it must get, whether its sums are of whole numbers, cell and periphery.
CASES: dict[str, tuple[str, bool, dict[str, Any], dict[str, Any]]] = {
    "exact": ("exact", True, {}, {"adc_range": "lossless"}),
    "ideal": ("exact", True, {}, {}),
    "folded": ("folded", False, {"programming_error": SPREAD}, {}),
    "bitplane": ("bitplane", True, {}, {"adc_bits": 5}),
    "tiled": ("tiled", True, {}, {"adc_bits": 8, "input_bits": 4, "dac_bits": 4}),
    "bitplane-analog": ("bitplane-analog", False, {"programming_error": SPREAD}, {"adc_bits": 5}),
    "noisy folded": ("folded", False, {"read_noise": NOISE}, {}),
    "noisy bitplane-analog": ("bitplane-analog", False, {"read_noise": NOISE}, {"adc_bits": 5}),
}


def answers() -> dict[str, npt.NDArray[np.float64]]:
    """The products of each case: 40 vectors of 300 inputs with a matrix of 20 outputs, in units of codes."""
    rng = np.random.default_rng(0)
    weights = rng.normal(size=(300, 20)).astype(np.float32)
    vectors = np.abs(rng.normal(size=(40, 300))).astype(np.float32)
    found = {}
    for name, (plan, _, cell, periphery) in CASES.items():
        design = xb.Design(
            cell=Cell(**WHOLE, **cell),
            mapping=Mapping(rows=64, columns=64),
            periphery=xb.Periphery(**periphery),
            faults=StuckFaults(on=0.02, off=0.02),
        )
        crossbar = xb.Crossbar(weights, design, seed=7, calibration=vectors)
        chosen = crossbar._plan.name
        assert chosen == plan, f"{name}: {chosen}"
        found[name] = np.asarray(crossbar.multiply(vectors, first_vector=3), np.float64)
    return found


if __name__ == "__main__":
    found: dict[str, Any] = answers()
    np.savez(sys.argv[1], cpu=str(numba.config.CPU_NAME), **found)  # type: ignore[attr-defined]
