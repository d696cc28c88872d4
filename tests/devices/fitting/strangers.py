"""One set of readings, written as strangers write theirs: a layout, a separator and units each."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from xbarsim.devices import CellFit, DriftEstimate, ErrorEstimate, Law, Readings, fit_cell

FloatArray = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Truth:
    """Reads of cells; conductance is ``(cells, targets, times)``, NaN where a cell was not read, S."""

    conductance: FloatArray
    target: FloatArray
    time: FloatArray

    def flat(self) -> tuple[npt.NDArray[Any], ...]:
        """Cell, place of the target, place of the time, and conductance of each reading."""
        cell, target, time = (axis.reshape(-1) for axis in np.indices(self.conductance.shape))
        return cell, target, time, self.conductance.reshape(-1)

    def readings(self, *, levels: bool = False) -> Readings:
        """As arrays."""
        cell, target, time, conductance = self.flat()
        which = {"level": target.astype(np.int64)} if levels else {"target": self.target[target]}
        return Readings(
            conductance=conductance, time=self.time[time], cell=cell.astype(np.int64), **which,
        )  # fmt: skip


def synthetic(
    rng: np.random.Generator, *, cells: int = 120, targets: Sequence[float] = tuple(np.linspace(10e-6, 80e-6, 8)),
    times: Sequence[float] = (1.0, 10.0, 100.0),
) -> Truth:  # fmt: skip
    """A device with bias 0.3 uS, spread 0.5 uS + 2 %, drift -0.1 uS and 0.4 uS a decade."""
    aim = np.asarray(targets)
    held = aim + 0.3e-6 + rng.normal(size=(cells, aim.size)) * (0.5e-6 + 0.02 * aim)
    steps = rng.normal(-0.1e-6, 0.4e-6, (cells, aim.size, len(times)))
    steps[..., 0] = 0.0
    return Truth(conductance=held[..., None] + steps.cumsum(axis=-1), target=aim, time=np.asarray(times))


def _number(value: float, comma: bool = False) -> str:
    if np.isnan(value):
        return ""
    text = f"{value:.15g}"
    return text.replace(".", ",") if comma else text


def _long(
    truth: Truth, header: str, fields: Callable[[int, float, float, float], Sequence[float | str]], separator: str,
    *, comma: bool = False,
) -> str:  # fmt: skip
    """A reading a row; `fields` makes them of cell, target, time and conductance."""
    lines = [header]
    for cell, target, time, conductance in zip(*truth.flat(), strict=True):
        made = fields(int(cell), float(truth.target[int(target)]), float(truth.time[int(time)]), float(conductance))
        lines.append(separator.join(field if isinstance(field, str) else _number(field, comma) for field in made))
    return "\n".join(lines) + "\n"


def _wide(truth: Truth, header: Sequence[str], rows: Any, separator: str, *, comma: bool = False) -> str:
    made = (separator.join(_number(float(field), comma) for field in row) for row in rows)
    return "\n".join([separator.join(header), *made]) + "\n"


def layouts(truth: Truth) -> dict[str, tuple[bytes, dict[str, Any], bool]]:
    """By what is odd about each file: its bytes, what :func:`fit_cell` must be told, and whether targets are levels."""
    g, aim, time = truth.conductance, truth.target, truth.time
    cells, targets, times = g.shape
    made: dict[str, tuple[str | bytes, dict[str, Any], bool]] = {}
    made["commas, uS"] = (
        _long(truth, "device,target (uS),time (s),conductance (uS)",
              lambda c, a, t, g: (f"C{c}", 1e6 * a, t, 1e6 * g), ","), {}, False,
    )  # fmt: skip
    made["semicolons, decimal commas, a byte order mark, quoted headers"] = (
        "\ufeff" + _long(truth, '"Device";"Target conductance [µS]";"Time [ms]";"Conductance [µS]"',
                         lambda c, a, t, g: (f'"{c}"', 1e6 * a, 1e3 * t, 1e6 * g), ";", comma=True), {}, False,
    )  # fmt: skip
    made["tabs, kOhm, NaN in words"] = (
        _long(truth, "R / kOhm\ttarget / kOhm\tt_us\tcell",
              lambda c, a, t, g: ("NaN" if np.isnan(g) else 1e-3 / g, 1e-3 / a, 1e6 * t, f"{c}"), "\t"), {}, False,
    )  # fmt: skip
    made["currents at a read voltage"] = (
        _long(truth, "I (nA),V (mV),cell,target (nS),time (s)",
              lambda c, a, t, g: (1e9 * g * 0.2, 200.0, f"{c}", 1e9 * a, t), ","), {}, False,
    )  # fmt: skip
    made["currents, the voltage told"] = (
        _long(truth, "current_uA,cell,target (S),time (s)",
              lambda c, a, t, g: (1e6 * g * 0.1, f"{c}", a, t), ","), {"read_voltage": 0.1}, False,
    )  # fmt: skip
    made["UTF-16 of a spreadsheet, omega"] = (
        _long(truth, "Resistance (MΩ)\tTarget resistance (kΩ)\tElapsed (min)\tDUT",
              lambda c, a, t, g: (1e-6 / g, 1e-3 / a, t / 60, f"{c}"), "\t").encode("utf-16"), {}, False,
    )  # fmt: skip
    made["Windows-1252, German names, an instruction for spreadsheets"] = (
        ("sep=;\n" + _long(truth, "Leitwert;Soll;Zeit;Zelle",
                           lambda c, a, t, g: (1e6 * g, 1e6 * a, t, f"Zelle ä{c}"), ";", comma=True)).encode("cp1252"),
        {"rename": {"Leitwert": "conductance (uS)", "Soll": "target (uS)", "Zeit": "time (s)", "Zelle": "cell"}}, False,
    )  # fmt: skip
    made["units not in the file, rows and columns, a remark, comments"] = (
        "# measured on a Tuesday\n" + _long(truth, "row,column,g,target,time (h),operator",
                                            lambda c, a, t, g: (float(c // 10), float(c % 10), 1e3 * g, 1e3 * a,
                                                                t / 3600, "me"), ","), {"unit": "mS"}, False,
    )  # fmt: skip
    flat_cell, flat_time = (axis.reshape(-1) for axis in np.indices((cells, times)))
    made["wide: a column a target"] = (
        _wide(truth, ["device", "time (s)", *(f"{1e6 * a:.15g} uS" for a in aim)],
              ([c, time[t], *(1e6 * g[c, :, t])] for c, t in zip(flat_cell, flat_time, strict=True)), ";"), {}, False,
    )  # fmt: skip
    made["wide: a column a level, decimal commas in quotes"] = (
        "\n".join([",".join(["device", "time (s)", *(f"level {k} (uS)" for k in range(targets))]),
                   *(",".join([str(c), f'"{_number(time[t], True)}"',
                               *(f'"{_number(1e6 * v, True)}"' for v in g[c, :, t])])
                     for c, t in zip(flat_cell, flat_time, strict=True))]) + "\n", {}, True,
    )  # fmt: skip
    flat_target, flat_step = (axis.reshape(-1) for axis in np.indices((targets, times)))
    made["wide: a column a device"] = (
        _wide(truth, ["target (uS)", "time (s)", *(f"device {c} (S)" for c in range(cells))],
              ([1e6 * aim[k], time[t], *g[:, k, t]] for k, t in zip(flat_target, flat_step, strict=True)), "\t"),
        {}, False,
    )  # fmt: skip
    by_cell, by_target = (axis.reshape(-1) for axis in np.indices((cells, targets)))
    made["wide: a column a time"] = (
        _wide(truth, ["cell", "level", *(f"{1e3 * t:.15g} ms (GOhm)" for t in time)],
              ([c, k + 1, *(1e-9 / g[c, k])] for c, k in zip(by_cell, by_target, strict=True)), ","), {}, True,
    )  # fmt: skip
    return {
        name: (text.encode() if isinstance(text, str) else text, told, levels)
        for name, (text, told, levels) in made.items()
    }


def fit_of(folder: Path, content: bytes, told: dict[str, Any]) -> CellFit:
    """The fit of a file."""
    path = folder / "dev.csv"
    path.write_bytes(content)
    return fit_cell(path, **told)


def same_numbers(one: CellFit, other: CellFit, *, within: float = 1e-6) -> None:
    """Two fits say the same, to a share of the range of conductance."""
    assert one.cell.levels == other.cell.levels
    np.testing.assert_allclose([one.cell.g_min, one.cell.g_max], [other.cell.g_min, other.cell.g_max], rtol=2e-6)
    assert (one.dead, one.stuck) == (other.dead, other.stuck)
    np.testing.assert_array_equal(one.count, other.count)
    assert np.isfinite(one.readings.conductance).sum() == np.isfinite(other.readings.conductance).sum()
    for mine, theirs in zip(_laws(one), _laws(other), strict=True):
        if mine is None or theirs is None:
            assert mine is theirs
            continue
        atol = within * one.cell.g_max
        for name in ("conductance", "value", "error"):
            np.testing.assert_allclose(getattr(mine, name), getattr(theirs, name), rtol=1e-6, atol=atol)
        assert mine.order == theirs.order
        fine = np.linspace(one.cell.g_min, one.cell.g_max, 100)
        np.testing.assert_allclose(mine.polynomial(fine), theirs.polynomial(fine), rtol=1e-4, atol=10 * atol)


def _laws(fit: CellFit) -> list[Law | None]:
    error = [fit.error.bias, fit.error.spread] if isinstance(fit.error, ErrorEstimate) else [None, None]
    noise = [fit.noise if isinstance(fit.noise, Law) else None]
    drift = [fit.drift.shift, fit.drift.spread] if isinstance(fit.drift, DriftEstimate) else [None, None]
    return [*error, *noise, *drift]
