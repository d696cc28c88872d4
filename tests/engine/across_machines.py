"""What each plan gives, written to a file: run natively and on another kind of processor, see test_across_machines."""

from __future__ import annotations

import sys
from typing import Any

import numba
import numpy as np
import numpy.typing as npt

import xbarsim as xb
from tests.strategies import TiledLayer
from xbarsim.devices import Cell, Polynomial, ProgrammingError, StuckFaults, ThermalNoise
from xbarsim.engine import Scaling, Window, make_plan
from xbarsim.mapping import Mapping, map_matrix

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

#: Layers of feature maps, by the plan that each must get: all on levels.
MAPS: dict[str, dict[str, Any]] = {
    "exact maps": {"adc_range": "lossless"},
    "tiled maps": {"adc_bits": 8, "adc_range": 700.0},
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
    return found | maps()


def maps() -> dict[str, npt.NDArray[np.float64]]:
    """What a convolution on levels gives, 20 images: whole, and with a converter on every row tile."""
    rng = np.random.default_rng(1)
    mapping = Mapping(rows=64, columns=64, weight_bits=8, cell_bits=7)
    mapped = map_matrix(rng.integers(-127, 128, (90, 21)), mapping)
    images = rng.normal(60, 90, (20, 10, 7, 9)).astype(np.float32)
    window = Window(kernel=(3, 3), stride=(1, 2), padding=(1, 0, 1, 1))
    found = {}
    for name, periphery in MAPS.items():
        design = xb.Design(
            cell=Cell(**WHOLE | {"levels": 128}),
            mapping=mapping,
            periphery=xb.Periphery(input_bits=8, dac_bits=8, **periphery),
        )
        layer = TiledLayer.of(mapped, design, signed=False, rows=64)
        plan = make_plan(layer.reading, mapped.levels.astype(np.float32), layer.drive, layer.converter)
        assert plan.name == name.split()[0]
        scaling = Scaling(inverse_scale=1.3, low=0, high=255, scale=np.full(21, 0.01), bias=np.ones(21))
        found[name] = np.asarray(plan.run(images, window, scaling)[0], np.float64)
        if plan.blocks:
            np.testing.assert_array_equal(plan.run_blocked(images, window, scaling)[0].plain(), found[name])
    return found


if __name__ == "__main__":
    found: dict[str, Any] = answers()
    np.savez(sys.argv[1], cpu=str(numba.config.CPU_NAME), **found)  # type: ignore[attr-defined]
