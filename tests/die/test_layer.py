"""One layer of a die: what it may be made of, and lines that lie elsewhere."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import xbarsim as xb
from tests.sweep.subjects import tiny
from xbarsim.devices import Cell, StuckFaults
from xbarsim.die import DieLayer, WeightCorrection
from xbarsim.foundation.validation import InputError
from xbarsim.mapping import Arrangement, Differential


def layer(**periphery: Any) -> DieLayer:
    """The first of two layers of a network with 16 inputs and 12 outputs."""
    subject = tiny()
    design = xb.Design(
        cell=Cell(g_min=1e-6, g_max=1e-5, levels=16),
        mapping=xb.Mapping(encoding=Differential(), rows=8, columns=16, weight_bits=8, cell_bits=4),
        periphery=xb.Periphery(adc_range="lossless", **periphery),
        faults=StuckFaults(on=0.05, off=0.05),
    )
    chip = xb.map_model(subject.model, design, calibration=subject.calibration).fabricate(seed=1)
    return next(iter(chip.layers.values()))


def test_lines_may_lie_elsewhere_in_arrays_of_their_own_shape() -> None:
    plain = layer()
    shape = plain.matrix.levels.shape
    assert shape[0] > 1
    own = Arrangement.identity(shape)
    np.testing.assert_array_equal(replace(plain, arrangement=own).cells(), plain.cells())
    turned = replace(own, rows=own.rows[:, ::-1].copy())
    moved = replace(plain, arrangement=turned)
    assert (moved.cells() != plain.cells()).any()  # other weights meet the same faults
    for wrong in (
        Arrangement.identity((shape[0], shape[1] - 1, shape[2]), spare_rows=1),
        Arrangement.identity((shape[0] - 1, *shape[1:])),
        Arrangement.identity(shape, spare_columns=2),
    ):
        with pytest.raises(InputError, match="arrangement must be of tiles"):
            replace(plain, arrangement=wrong)


def test_pairs_that_are_subtracted_before_the_converter_stay_together() -> None:
    plain = layer(subtraction="analog")
    own = Arrangement.identity(plain.matrix.levels.shape)
    columns = own.columns.copy()
    columns[:, [0, 1]] = columns[:, [1, 0]]
    replace(plain, arrangement=replace(own, columns=columns))  # within a pair
    columns[:, [1, 2]] = columns[:, [2, 1]]
    with pytest.raises(InputError, match="keep pairs of columns that are subtracted together"):
        replace(plain, arrangement=replace(own, columns=columns))


@pytest.mark.parametrize(("copies", "outputs"), [(1, 12), (2, 6), (3, 4), (4, 3), (12, 1)])
def test_copies_share_the_outputs_evenly_and_each_counts_what_is_said(copies: int, outputs: int) -> None:
    plain = layer()
    held = replace(plain, copies=copies, copy_weights=np.full((copies, outputs), 1.0 / copies))
    assert held.completes == (copies > 1)
    for shape in ((copies, outputs + 1), (copies + 1, outputs), (outputs, copies), (copies,)):
        if shape == (copies, outputs):
            continue
        with pytest.raises(InputError, match=rf"copy_weights must have shape \({copies}, {outputs}\) for 12 outputs"):
            replace(plain, copies=copies, copy_weights=np.ones(shape))


def test_copies_that_do_not_share_the_outputs_evenly_are_refused() -> None:
    with pytest.raises(InputError, match="for 12 outputs"):
        replace(layer(), copies=5)


def test_corrections_are_of_weights_that_there_are() -> None:
    plain = layer()

    def correction(row: int, output: int) -> WeightCorrection:
        return WeightCorrection(
            inputs=np.array([0, row], np.int32), outputs=np.array([0, output], np.int32), values=np.ones(2)
        )

    assert replace(plain, correction=correction(15, 11)).completes
    for row, output, words in ((16, 0, r"correction.inputs must be in \[0, 15\], got 0 to 16"),
                               (0, 12, r"correction.outputs must be in \[0, 11\], got 0 to 12"),
                               (-1, 0, r"correction.inputs must be in \[0, 15\], got -1 to 0")):  # fmt: skip
        with pytest.raises(InputError, match=words):
            replace(plain, correction=correction(row, output))


def test_sums_are_corrected_and_copies_are_averaged_or_weighed() -> None:
    plain = layer()
    rng = np.random.default_rng(1)
    codes, sums = rng.integers(0, 200, (7, 16)), rng.integers(-9999, 9999, (7, 12)).astype(np.float64)
    np.testing.assert_array_equal(plain.complete(sums, codes), sums)
    lacking = np.zeros((16, 12))
    places = np.array([0, 3, 3], np.int32), np.array([2, 2, 11], np.int32)
    lacking[places] = 1.5, -2.0, 7.25
    correction = WeightCorrection(inputs=places[0], outputs=places[1], values=lacking[places])
    np.testing.assert_array_equal(replace(plain, correction=correction).complete(sums, codes), sums + codes @ lacking)
    np.testing.assert_array_equal(
        replace(plain, correction=correction, copies=3).complete(sums, codes),
        (sums + codes @ lacking).reshape(7, 3, 4).sum(axis=1) / 3,
    )
    shares = rng.random((3, 4))
    found = replace(plain, copies=3, copy_weights=shares).complete(sums, codes)
    np.testing.assert_allclose(found, (sums.reshape(7, 3, 4) * shares).sum(axis=1), rtol=1e-12)
