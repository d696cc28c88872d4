"""Column currents of random arrays by badcrossbar (https://github.com/joksas/badcrossbar).

It knows one topology: ideal drivers at the left, ideal sense circuits at the far end, wire segments between.
``python tests/reference/badcrossbar_reference.py``, where badcrossbar is installed, writes ``badcrossbar.npz``
beside this file; see README.md for versions.
"""

from __future__ import annotations

import datetime
import importlib.metadata
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PATH = Path(__file__).with_name("badcrossbar.npz")
LEVEL = 1e-6  # conductance of one unit of the stored levels, S

#: Name: shape, word-line and bit-line resistance of a segment (ohm), seed.
CASES: dict[str, tuple[tuple[int, int], float, float, int]] = {
    "one": ((1, 1), 3.0, 2.0, 0),
    "row": ((1, 40), 3.0, 2.0, 1),
    "column": ((40, 1), 3.0, 2.0, 2),
    "wide": ((20, 50), 0.1, 7.0, 3),
    "tall": ((70, 30), 9.0, 0.3, 4),
    "ideal word lines": ((24, 31), 0.0, 4.0, 5),
    "ideal bit lines": ((24, 31), 4.0, 0.0, 6),
    "64": ((64, 64), 1.0, 1.0, 7),
    "100": ((100, 90), 2.5, 1.5, 8),
    "128": ((128, 128), 1.0, 1.0, 9),
    "128 fine": ((128, 128), 0.01, 0.01, 10),
}


def draw(shape: tuple[int, int], seed: int) -> dict[str, npt.NDArray[Any]]:
    """A random array with stuck cells (1 % at 255, 2 % at 1 unit) and three inputs."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(5, 100, size=shape)
    kind = rng.random(shape)
    levels[kind < 0.03] = 1
    levels[kind < 0.01] = 255
    voltages = np.round(rng.uniform(-0.3, 0.5, size=(3, shape[0])), 3)
    return {"levels": levels.astype(np.uint8), "voltages": voltages}


def run(
    conductance: npt.NDArray[np.float64], voltages: npt.NDArray[np.float64], word_line: float, bit_line: float
) -> npt.NDArray[np.float64]:
    """The sensed currents (inputs, columns), A, by the badcrossbar installed here."""
    import badcrossbar  # type: ignore[import-not-found, import-untyped, unused-ignore]

    solution = badcrossbar.compute(
        voltages.T,
        1.0 / conductance,
        r_i_word_line=word_line,
        r_i_bit_line=bit_line,
        node_voltages=False,
        all_currents=False,
    )
    return np.asarray(solution.currents.output, dtype=np.float64).reshape(voltages.shape[0], -1)


def main() -> None:
    """Compute every case and store it."""
    stored: dict[str, Any] = {
        "version": importlib.metadata.version("badcrossbar"),
        "date": datetime.date.today().isoformat(),
    }
    for name, (shape, word_line, bit_line, seed) in CASES.items():
        array = draw(shape, seed)
        currents = run(array["levels"] * LEVEL, array["voltages"], word_line, bit_line)
        for key, value in {**array, "currents": currents}.items():
            stored[f"{name}/{key}"] = value
    np.savez_compressed(PATH, **stored)


if __name__ == "__main__":
    main()
