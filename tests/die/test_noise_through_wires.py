"""Read noise of whole dies with wires: what converters are given, against the exact circuit of every array and read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from scipy import stats

import xbarsim as xb
from xbarsim.circuit import Wires, effective_conductance, reference_covariance
from xbarsim.design import AdcErrors
from xbarsim.devices import (
    Cell,
    FlickerNoise,
    LineFaults,
    NoiseModel,
    NoiseVariance,
    Polynomial,
    ReadNoise,
    ShotNoise,
    StuckFaults,
    SummedNoise,
    ThermalNoise,
)
from xbarsim.die import DieLayer, seen, seen_variance
from xbarsim.engine import reference_multiply
from xbarsim.mapping import Mapping, TwoColumn
from xbarsim.mitigation import Diagnosis, PermuteColumns, PermuteRows

Array = npt.NDArray[Any]

ALARM = 1e-4  # false-alarm rate of a test of chance
WEIGHTS = np.random.default_rng(1).integers(-15, 15, (30, 6), endpoint=True).astype(np.float64)
LAWS = SummedNoise(
    mechanisms=(
        ThermalNoise(bandwidth=2e10),
        ShotNoise(bandwidth=5e10),
        FlickerNoise(coefficient=1e-3, low_frequency=1.0, high_frequency=1e7),
    )
)
WIRES = {
    "1T1R": Wires(word_line_resistance=20.0, bit_line_resistance=30.0, driver_resistance=200.0, access_resistance=2e3),
    "0T1R": Wires(word_line_resistance=20.0, bit_line_resistance=30.0, sense_resistance=100.0, access="0T1R"),
}
BROKEN = LineFaults(open_word_line=0.1, open_bit_line=0.1)


def crossbar(law: NoiseModel = LAWS, *, methods: bool = False, **changes: Any) -> xb.Crossbar:
    periphery = {
        name: changes.pop(name) for name in ("active_rows", "adc_bits", "adc_range", "adc_errors") if name in changes
    }
    design = xb.Design(
        cell=Cell(g_min=1e-6, g_max=2.5e-5, levels=16, read_voltage=0.2, read_noise=law),
        mapping=Mapping(encoding=TwoColumn(), rows=16, columns=12, weight_bits=5, cell_bits=4, pack="none"),
        periphery=xb.Periphery(input_bits=4, dac_bits=2, **periphery),
        faults=StuckFaults(on=0.03, off=0.1),
        **changes,
    )
    repair: dict[str, Any] = {}
    if methods:
        repair = {"mitigations": (PermuteRows(spare=2), PermuteColumns(spare=2)), "diagnosis": Diagnosis()}
    return xb.Crossbar(WEIGHTS, design, seed=4, precision="double", **repair)


def exact_variances(layer: DieLayer, tile: int, rows: Array, codes: Array) -> Array:
    """Of each column of a tile in one read of these rows, (columns,), by the whole circuit of its array."""
    design, lines, placed = layer.design, layer.silicon.lines, layer.arrangement
    held = layer.array_cells()
    array = tile if placed is None else int(placed.arrays[tile])
    word_lines = rows if placed is None else placed.rows[tile, rows]
    bits = design.mapping.cell_bits
    conductance = design.cell.conductance(held, bits).clip(0.0)
    own = design.cell.read_variance(held, bits, layer.drive.max_plane)
    terms = {name: getattr(own, name).copy() for name in ("constant", "linear", "quadratic")}
    if lines is not None:
        for each in (conductance, *terms.values()):
            lines.open(each)
    driven, x = np.zeros(conductance.shape[1], bool), np.zeros(conductance.shape[1])
    driven[word_lines], x[word_lines] = True, codes
    if lines is not None:  # without cells; must only not float
        driven |= lines.open_word_lines[array]
    assert design.wires is not None
    variance = NoiseVariance(**{name: term[array] for name, term in terms.items()})
    found = np.diag(reference_covariance(conductance[array], variance, x, design.wires, rows=driven))
    return found if placed is None else found[placed.columns[tile]]


@pytest.mark.parametrize("access", WIRES)
@pytest.mark.parametrize(
    "changes",
    [{}, {"active_rows": 5}, {"line_faults": BROKEN}, {"line_faults": BROKEN, "active_rows": 5}, {"methods": True}],
    ids=str,
)
def test_each_read_has_the_variance_of_its_array(
    access: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every row of a read driven with its largest code, and taken for that: to 1 % of the deviation, wires more."""
    monkeypatch.setattr(seen, "_FILLING", 1.0)
    layer = crossbar(wires=WIRES[access], **changes).layer
    noise = layer.noise()
    ideal = replace(layer, design=layer.design.replace(wires=None)).noise()
    assert noise is not None
    assert ideal is not None
    exact: list[Array] = []
    found: list[Array] = []
    without: list[Array] = []
    for tile in range(layer.matrix.tiles):
        for _, rows in layer.drive.row_groups(layer.matrix.tile_rows[tile] >= 0):
            codes = np.full(len(rows), float(layer.drive.max_plane))
            exact.append(exact_variances(layer, tile, rows, codes))
            for each, to in ((noise, found), (ideal, without)):
                assert each.linear is not None
                assert each.constant is not None
                to.append(
                    codes**2 @ each.spread[tile, rows].astype(np.float64) ** 2
                    + codes @ each.linear[tile, rows]
                    + each.constant[tile, rows].sum(axis=0)
                )
    wanted, got, before = (np.sqrt(np.concatenate(each)) for each in (exact, found, without))
    heard = wanted > 0.02 * wanted.max()
    np.testing.assert_array_equal(got[~heard] > 0.05 * wanted.max(), False)
    np.testing.assert_allclose(got[heard] / wanted[heard], 1.0, rtol=0, atol=0.01)
    assert np.abs(before[heard] / wanted[heard] - 1.0).max() > 0.05


@pytest.mark.parametrize("access", WIRES)
def test_the_plan_of_a_wired_die_equals_the_reference_with_the_same_normals(access: str) -> None:
    one = crossbar(wires=WIRES[access], adc_bits=6, adc_range="full", active_rows=8, adc_errors=AdcErrors(gain=0.1))
    layer = one.layer
    cells, errors = layer.seen()
    noise = layer.noise(errors=errors)
    kept = layer.case().noise
    assert noise is not None
    assert kept is not None
    for name in ("spread", "linear", "constant"):
        np.testing.assert_array_equal(getattr(noise, name), getattr(kept, name))
    codes = np.random.default_rng(2).integers(-7, 7, (5, 30), endpoint=True).astype(np.int32)
    drive, reading = layer.drive, layer.reading
    reads = reading.reads * drive.row_group_count(layer.matrix.mapping.rows)
    expected = reference_multiply(
        codes,
        reading,
        cells,
        drive,
        layer.converter,
        noise_spread=noise.spread,
        noise_linear=noise.linear,
        noise_constant=noise.constant,
        normals=noise.normals(9, (5, drive.passes, drive.planes, layer.matrix.tiles, reads)),
        errors=errors,
    )
    got = layer.plan("double").multiply(codes[np.newaxis], first_image=9)[0]
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-9 * np.abs(expected).max())


def test_the_spread_of_outputs_is_that_of_drawn_conductances() -> None:
    """A plan's draws against the exact circuit of arrays whose every cell is drawn anew for each read."""
    law = ReadNoise(spread=Polynomial(coefficients=(0.0, 0.05), scale=1.0), valid_from=0.0, valid_to=1e-3)
    wires = replace(WIRES["1T1R"], access_resistance=0.0, bit_line_resistance=100.0)
    layer = crossbar(law, wires=wires).layer
    bits, trials = layer.design.mapping.cell_bits, 1000
    rng = np.random.default_rng(3)
    codes = rng.integers(0, 7, 30, endpoint=True).astype(np.int32)
    by_plan = layer.plan().multiply(np.broadcast_to(codes, (25, trials // 25, 30)).copy()).reshape(trials, -1)
    quiet = replace(layer, design=layer.design.replace(cell=layer.design.cell.without_errors()))
    mean = quiet.plan("double").multiply(codes[np.newaxis, np.newaxis])[0, 0]
    by_cell, ideal = np.zeros((2, trials, len(mean)))
    conductance = layer.design.cell.conductance(layer.array_cells(), bits)
    for tile in range(layer.matrix.tiles):
        rows = layer.matrix.tile_rows[tile] >= 0
        selected = np.flatnonzero(rows)
        for plane in range(layer.drive.planes):
            x = layer.drive.plane(codes, plane)[layer.matrix.tile_rows[tile, selected]]
            drawn = conductance[tile] * (1.0 + 0.05 * rng.standard_normal((trials, *conductance.shape[1:])))
            for through, total in ((effective_conductance(drawn, wires, rows=rows), by_cell), (drawn, ideal)):
                sums = np.einsum("i,nij->nj", x, through[:, selected]) / layer.design.cell.level_step(bits)
                differences = layer.reading.differences(sums)
                for read in np.flatnonzero(layer.reading.used[tile]):
                    output = layer.reading.outputs[tile, read]
                    total[:, output] += 4.0**plane * layer.reading.counts[read] * differences[:, read]
    bound = stats.norm.isf(ALARM / 2) * by_cell.std(axis=0) / np.sqrt(trials)
    assert (np.abs(by_cell.mean(axis=0) - mean) < bound).all()
    low, high = stats.f.ppf([ALARM / 2, 1 - ALARM / 2], trials - 1, trials - 1)
    ratio = by_plan.var(axis=0, ddof=1) / by_cell.var(axis=0, ddof=1)
    assert ((0.95 * low < ratio) & (ratio < 1.05 * high)).all()  # 5 % of the variance for the estimate
    assert (ideal.var(axis=0, ddof=1) / by_cell.var(axis=0, ddof=1)).min() > high  # wires forgotten


def test_without_wires_noise_is_that_of_the_cells_but_for_open_lines() -> None:
    layer = crossbar(line_faults=BROKEN).layer
    held, lines = layer.array_cells(), layer.silicon.lines
    assert lines is not None
    own = layer.design.cell.read_variance(held, 4, 3)
    found = seen_variance(held, own, layer.matrix, layer.design, layer.drive, lines)
    for name in ("constant", "linear", "quadratic"):
        expected = getattr(own, name).copy()
        lines.open(expected)
        np.testing.assert_array_equal(getattr(found, name), expected)
        assert getattr(own, name)[lines.open_word_lines].all()  # what was given is as it was
