"""The two cards fitted by us are what the measurements give."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from xbarsim.data import data_file, data_folder
from xbarsim.devices import ErrorEstimate, card, fit_cell
from xbarsim.experiments.fits.device_cards import FULL_SCALE, fit, measure, picture, read
from xbarsim.foundation.validation import FileFormatError


@pytest.fixture(params=sorted(FULL_SCALE))
def technology(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    try:
        data_file("rram", f"relax_tech{name}.npz")
    except FileNotFoundError as error:
        pytest.skip(str(error))
    return name


@pytest.mark.data
def test_a_fitted_card_equals_a_fit_done_again(technology: str) -> None:
    again = fit(measure(data_folder(), technology))
    shipped = card(again.name)
    assert (again.source, again.description) == (shipped.source, shipped.description)
    new, old = again.programming_error, shipped.programming_error
    assert new is not None
    assert old is not None
    assert new.fit is not None
    assert old.fit is not None
    assert new.value.bias is not None
    assert old.value.bias is not None
    assert (again.g_min, again.g_max, again.levels) == (shipped.g_min, shipped.g_max, shipped.levels)
    assert (new.fit.cells, new.fit.time_s, new.note) == (old.fit.cells, old.fit.time_s, old.note)
    # Coefficients of high order hang on the last digits of a linear solve: compare what they say.
    fine = np.linspace(old.value.valid_from, old.value.valid_to, 500)
    step = old.value.valid_to * 1e-4
    np.testing.assert_allclose(new.value.spread(fine), old.value.spread(fine), atol=step)
    np.testing.assert_allclose(new.value.bias(fine), old.value.bias(fine), atol=step)


@pytest.mark.data
def test_the_fit_lies_within_the_uncertainty_of_the_measurement(technology: str) -> None:
    measured = measure(data_folder(), technology)
    error = card(f"levy2021_{technology.lower()}").programming_error
    assert error is not None
    assert error.value.bias is not None
    assert isinstance(measured.error, ErrorEstimate)
    for law, polynomial in ((measured.error.spread, error.value.spread), (measured.error.bias, error.value.bias)):
        deviation = np.abs(law.value - polynomial(law.conductance)) / law.error
        assert np.median(deviation) < 1.5
        assert np.mean(deviation < 4) > 0.9
    window = FULL_SCALE[technology] / 32 / np.sqrt(12)
    assert np.all(measured.spread > window / 2)


@pytest.mark.data
def test_the_same_card_comes_out_of_a_table_of_the_same_readings(technology: str, tmp_path: Path) -> None:
    readings = read(data_folder(), technology)
    assert readings.target is not None
    path = tmp_path / "relaxation.csv"
    rows = (
        f"{1 / g:.17g};{'' if np.isnan(target) else f'{1e6 * target:.17g}'};1000"
        for g, target in zip(readings.conductance, readings.target, strict=True)
    )
    path.write_text("\n".join(["R (Ohm);target (uS);t / ms", *rows, ""]), encoding="utf-8")
    table = fit_cell(path, scale=FULL_SCALE[technology])
    arrays = measure(data_folder(), technology)
    assert table.readings.counted == (("readings", len(readings)),)
    assert (table.cell.g_min, table.cell.g_max, table.cell.levels) == (
        arrays.cell.g_min, arrays.cell.g_max, arrays.cell.levels
    )  # fmt: skip
    one, other = table.cell.programming_error, arrays.cell.programming_error
    assert one is not None
    assert other is not None
    assert one.bias is not None
    assert other.bias is not None
    fine = np.linspace(one.valid_from, one.valid_to, 500)
    np.testing.assert_allclose(one.spread(fine), other.spread(fine), atol=1e-4 * one.valid_to)
    np.testing.assert_allclose(one.bias(fine), other.bias(fine), atol=1e-4 * one.valid_to)


@pytest.mark.data
def test_the_picture_shows_both_with_units(technology: str) -> None:
    figure = picture([measure(data_folder(), technology)], [card(f"levy2021_{technology.lower()}")])
    assert len(figure.axes) == 2
    assert all("µS" in axes.get_ylabel() for axes in figure.axes)
    assert "µS" in figure.axes[1].get_xlabel()
    assert "1 s" in figure.axes[0].get_title()


def test_absent_or_wrong_data(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        measure(tmp_path, "B")
    (tmp_path / "rram").mkdir()
    path = tmp_path / "rram" / "relax_techB.npz"
    np.savez(path, g_S=np.zeros(3), gi_S=np.zeros(3))
    with pytest.raises(FileFormatError, match="does not hold the relaxation data"):
        measure(tmp_path, "B")
    np.savez(path, g_S=np.zeros(3), gi_S=np.zeros(3), timept_s=np.ones(3))
    with pytest.raises(FileFormatError, match="at least 100 cells in each range, got 0"):
        measure(tmp_path, "B")
