"""Column currents of random arrays, and their noise, by ngspice, which shares no code with xbarsim.

``python -m tests.reference.ngspice_reference`` writes ``ngspice.npz`` and ``ngspice_noise.npz`` beside this file; see
README.md for versions.
"""

from __future__ import annotations

import datetime
import itertools
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

PATH = Path(__file__).with_name("ngspice.npz")
NOISE_PATH = Path(__file__).with_name("ngspice_noise.npz")
LEVEL = 1e-6  # conductance of one unit of the stored levels, S
TEMPERATURE = 300.0  # of the cells whose noise is asked for, K

#: Laws by name: the current of a cell as an expression of its conductance ``g`` (S) and voltage ``v`` (V).
LAWS = {
    "linear": "",
    "polynomial": "g*v + 0.3*g*v*v + 0.8*g*v*v*v",
    "sinh": "g*0.25*sinh(v/0.25)",
}


def cases() -> dict[str, dict[str, Any]]:
    """Every topology with every law, in turn on small arrays and on 64 x 64; fields of `Wires`, law, seed and shape."""
    found: dict[str, dict[str, Any]] = {}
    topologies = itertools.product(("one", "both"), ("near", "far", "both"), ("1T1R", "0T1R"), ("grounded", "floating"))
    for seed, (drive, sense, access, unselected) in enumerate(topologies):
        wires: dict[str, Any] = {
            "word_line_resistance": 1.5,
            "bit_line_resistance": 2.5,
            "driver_resistance": 50.0,
            "sense_resistance": 120.0,
            "drive": drive,
            "sense": sense,
            "access": access,
            "access_resistance": 900.0 if access == "1T1R" else 0.0,
            "unselected": unselected,
        }
        zeros = [  # ideal lines, ideal circuits around them, both
            {"word_line_resistance": 0.0},
            {"bit_line_resistance": 0.0},
            {"driver_resistance": 0.0, "sense_resistance": 0.0},
            {"word_line_resistance": 0.0, "driver_resistance": 0.0},
            {"bit_line_resistance": 0.0, "sense_resistance": 0.0, "access_resistance": 0.0},
        ]
        name = f"{drive}-{sense}-{access}-{unselected}"
        for law in LAWS:
            found[f"{name}-{law}-small"] = {
                "wires": wires,
                "law": law,
                "seed": seed,
                "shape": (9 + seed, 17 - seed % 7),
            }
            found[f"{name}-{law}-64"] = {"wires": wires, "law": law, "seed": 100 + seed, "shape": (64, 64)}
        found[f"{name}-linear-zero"] = {
            "wires": {**wires, **zeros[seed % len(zeros)]},
            "law": "linear",
            "seed": 200 + seed,
            "shape": (12, 10),
        }
    return found


def draw(seed: int, shape: tuple[int, int]) -> dict[str, npt.NDArray[Any]]:
    """A random array with stuck cells (1 % at 255, 2 % at 1 unit), inputs, and selected lines."""
    rng = np.random.default_rng(seed)
    levels = rng.integers(5, 100, size=shape)
    kind = rng.random(shape)
    levels[kind < 0.03] = 1
    levels[kind < 0.01] = 255
    rows, columns = rng.random(shape[0]) < 0.75, rng.random(shape[1]) < 0.75
    rows[0] = columns[0] = True
    voltages = np.where(rows, np.round(rng.uniform(-0.3, 0.5, size=shape[0]), 3), 0.0)
    return {"levels": levels.astype(np.uint8), "rows": rows, "columns": columns, "voltages": voltages}


def netlist(
    conductance: npt.NDArray[np.float64],
    voltages: npt.NDArray[np.float64],
    wires: dict[str, Any],
    law: str,
    rows: npt.NDArray[np.bool_],
    columns: npt.NDArray[np.bool_],
    *,
    noise: bool = False,
) -> str:
    """The array as a SPICE deck that prints the sensed currents, or the noise of each sensed current.

    With `noise` only the cells make some.
    """
    height, width = conductance.shape
    word_wire, bit_wire = wires["word_line_resistance"], wires["bit_line_resistance"]
    floats = wires["unselected"] == "floating"

    def word(i: int, j: int) -> str:
        return f"w{i}_{j if word_wire else 0}"

    def bit(i: int, j: int) -> str:
        return f"b{i if bit_wire else 0}_{j}"

    lines = ["crossbar"]

    def resistor(name: str, a: str, b: str, ohm: float) -> None:
        # A source of 0 V is an exact wire, which SPICE's resistors cannot be.
        lines.append(f"r{name} {a} {b} {ohm!r}{' noisy=0' if noise else ''}" if ohm else f"v{name} {a} {b} 0")

    for i in range(height):
        if rows[i] or not floats or wires["access"] == "1T1R":
            lines.append(f"vd{i} d{i} 0 {float(voltages[i])!r}")
            ohm = wires["driver_resistance"] + word_wire
            resistor(f"dl{i}", f"d{i}", word(i, 0), ohm)
            if wires["drive"] == "both" and (ohm or word_wire):
                resistor(f"dr{i}", f"d{i}", word(i, width - 1), ohm)
        if word_wire:
            for j in range(width - 1):
                resistor(f"w{i}_{j}", word(i, j), word(i, j + 1), word_wire)
    for j in range(width):
        if columns[j] or not floats:
            lines.append(f"vs{j} s{j} 0 0")
            ohm = wires["sense_resistance"] + bit_wire
            ends = {"near": [0], "far": [height - 1], "both": [0, height - 1]}[wires["sense"]]
            if not ohm:
                ends = ends[:1]
            for end in ends:
                resistor(f"s{j}_{end}", f"s{j}", bit(end, j), ohm)
        if bit_wire:
            for i in range(height - 1):
                resistor(f"b{i}_{j}", bit(i, j), bit(i + 1, j), bit_wire)
    for i, j in np.ndindex(height, width):
        g = float(conductance[i, j])
        if g == 0.0 or (wires["access"] == "1T1R" and not rows[i]):
            continue
        end = bit(i, j)
        if wires["access_resistance"]:
            end = f"x{i}_{j}"
            resistor(f"x{i}_{j}", end, bit(i, j), wires["access_resistance"])
        if law == "linear":
            lines.append(f"rc{i}_{j} {word(i, j)} {end} {1.0 / g!r}")
        else:
            across = f"v({word(i, j)},{end})"
            expression = re.sub(r"\bv\b", across, re.sub(r"\bg\b", repr(g), LAWS[law]))
            lines.append(f"bc{i}_{j} {word(i, j)} {end} i={expression}")
    lines.append(".options reltol=1e-10 abstol=1e-20 vntol=1e-14 itl1=500 gmin=1e-18 noinit")
    if noise:  # the voltage of a source controlled by the sensed current, 1 ohm
        lines += [f"hn{j} n{j} 0 vs{j} 1" for j in range(width) if columns[j]]
        lines += ["vn n 0 ac 1", f".temp {TEMPERATURE - 273.15!r}"]  # an input for what noise is said to be referred to
    lines += [".control", "set numdgt=16", "op"]
    for j in np.flatnonzero(columns).tolist():
        if noise:
            lines += [f"noise v(n{j}) vn lin 1 1 1", "print onoise_spectrum"]
        else:
            lines.append(f"print i(vs{j})")
    lines += ["quit", ".endc", ".end", ""]
    return "\n".join(lines)


def run(
    conductance: npt.NDArray[np.float64],
    voltages: npt.NDArray[np.float64],
    wires: dict[str, Any],
    law: str,
    rows: npt.NDArray[np.bool_],
    columns: npt.NDArray[np.bool_],
) -> npt.NDArray[np.float64]:
    """The sensed currents (columns,), A, by the ngspice on PATH; zero in columns not selected."""
    deck = netlist(conductance, voltages, wires, law, rows, columns)
    done = subprocess.run(["ngspice", "-n"], input=deck, capture_output=True, text=True, timeout=600)
    result = np.zeros(conductance.shape[1])
    found = re.findall(r"i\(vs(\d+)\) = (\S+)", done.stdout)
    if len(found) != int(columns.sum()):
        raise RuntimeError(f"ngspice gave {len(found)} currents: {done.stderr[-2000:]}")
    for column, current in found:
        result[int(column)] = float(current)
    return result


def run_noise(
    conductance: npt.NDArray[np.float64], wires: dict[str, Any], rows: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    """Spectral density of the thermal noise of the cells in each sensed current (columns,), A^2/Hz, by ngspice."""
    height, width = conductance.shape
    deck = netlist(conductance, np.zeros(height), wires, "linear", rows, np.ones(width, np.bool_), noise=True)
    done = subprocess.run(["ngspice", "-n"], input=deck, capture_output=True, text=True, timeout=600)
    found = re.findall(r"onoise_spectrum = (\S+)", done.stdout)
    if len(found) != width:
        raise RuntimeError(f"ngspice gave {len(found)} densities: {done.stderr[-2000:]}")
    return np.array([float(each) for each in found]) ** 2


def noise_cases() -> dict[str, dict[str, Any]]:
    """The small arrays of straight lines, every topology, and those with resistances of zero."""
    return {name: case for name, case in cases().items() if name.endswith(("linear-small", "linear-zero"))}


def _made() -> dict[str, Any]:
    """What made the data, and when."""
    version = subprocess.run(["ngspice", "-v"], capture_output=True, text=True).stdout
    return {"version": re.findall(r"ngspice-\S+", version)[0], "date": datetime.date.today().isoformat()}


def store_currents() -> None:
    """Compute the currents of every case and store them."""
    stored = _made()
    for name, case in cases().items():
        array = draw(case["seed"], case["shape"])
        currents = run(
            array["levels"] * LEVEL, array["voltages"], case["wires"], case["law"], array["rows"], array["columns"]
        )
        for key, value in {**array, "currents": currents}.items():
            stored[f"{name}/{key}"] = value
    np.savez_compressed(PATH, **stored)


def store_noise() -> None:
    """Compute the noise of the cases that have some and store it."""
    stored = _made()
    for name, case in noise_cases().items():
        array = draw(case["seed"], case["shape"])
        stored[f"{name}/levels"], stored[f"{name}/rows"] = array["levels"], array["rows"]
        stored[f"{name}/noise"] = run_noise(array["levels"] * LEVEL, case["wires"], array["rows"])
    np.savez_compressed(NOISE_PATH, **stored)


def main() -> None:
    """Compute everything and store it."""
    if shutil.which("ngspice") is None:
        raise SystemExit("ngspice is not on PATH")
    store_currents()
    store_noise()


if __name__ == "__main__":
    main()
